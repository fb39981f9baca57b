//! `edgegen score`: how odd pictures and rows of numbers are.

use super::choice::Choice;
use super::print;
use super::transform::paths_of;
use anyhow::{Context, Result, bail};
use clap::Args;
use edgegen_runtime::files::check_writable;
use edgegen_runtime::generate::{Frame, Likelihood, Score, Scorer, from_pixels, threshold, to_pixels};
use edgegen_runtime::model::limits::{MAX_MODEL_BYTES, check_count, read_bounded};
use edgegen_runtime::model::{ModelFolder, Part, PixelFormat};
use edgegen_runtime::pictures::{grid, read_npy, read_picture, write_png};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Exit code where a score is above the threshold.
const ODD: u8 = 3;

#[derive(Args)]
pub(super) struct ScoreCommand {
    #[command(flatten)]
    choice: Choice,
    /// Pictures, folders of them, or rows of numbers: .csv (a row a line) or .npy (N, values)
    #[arg(required = true, value_name = "ITEM|FOLDER")]
    items: Vec<PathBuf>,
    /// The score above which an item is odd [default: what the model folder says]
    #[arg(long, value_name = "SCORE")]
    threshold: Option<f64>,
    /// Score the mean of the last N items, for a stream in which single items are noisy
    #[arg(long, value_name = "N", default_value_t = 1)]
    window: usize,
    /// Say at the end which score this share of the items does not exceed: a threshold, if they are all usual
    #[arg(long, value_name = "SHARE")]
    quantile: Option<f64>,
    /// Draw each picture, what the network makes of it, and where it is odd, into this PNG
    #[arg(long, value_name = "F.png")]
    heat: Option<PathBuf>,
}

impl ScoreCommand {
    pub(super) fn run(self) -> Result<ExitCode> {
        if self.window == 0 {
            bail!("--window 0: give a number of items from 1 on");
        }
        if self.quantile.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
            bail!("--quantile takes a share from 0 to 1");
        }
        if let Some(path) = &self.heat {
            check_writable(path)?;
        }
        let (mut scorer, stored) = self.open()?;
        let threshold_of = self.threshold.or(stored);
        let (mut scores, mut last, mut sum) = (Vec::new(), VecDeque::new(), 0.0);
        let (mut odd, mut shown) = (false, Vec::new());
        let mut tell = |item: String, found: &Score| -> Result<()> {
            last.push_back(found.value);
            sum += found.value;
            if last.len() > self.window {
                sum -= last.pop_front().unwrap_or(0.0);
            }
            // a sum that grows and shrinks keeps roundings: of one item it is that item's score
            let score = if self.window == 1 { found.value } else { sum / last.len() as f64 };
            scores.push(score);
            let mut line = json!({ "item": item, "score": score });
            if let Some(threshold) = threshold_of {
                line["threshold"] = json!(threshold);
                line["odd"] = json!(score > threshold);
                odd |= score > threshold;
            }
            print(&format!("{line}\n"))
        };
        match scorer.image() {
            Some(image) => {
                let range = scorer.range()?;
                let mut values = vec![0.0; image.values()];
                for path in paths_of(&self.items)? {
                    let frame = read_picture(&path, image)?;
                    from_pixels(range, image, &frame.pixels, &mut values);
                    let found = scorer.score(&values).with_context(|| path.display().to_string())?;
                    tell(path.display().to_string(), &found)?;
                    if self.heat.is_some() {
                        let mut rebuilt = Frame::black(image.width, image.height, frame.format);
                        to_pixels(range, image, &found.rebuilt, &mut rebuilt.pixels);
                        let heat = heat(&frame, &found.parts);
                        shown.extend([coloured(&frame), coloured(&rebuilt), heat]);
                        check_count(shown.len(), 3 * image.height * image.width)?;
                    }
                }
            }
            None if self.heat.is_some() => bail!("--heat is for pictures; the model scores rows of numbers"),
            None => {
                for path in &self.items {
                    for (index, row) in rows(path, scorer.values())?.chunks_exact(scorer.values()).enumerate()
                    {
                        let item = format!("{}:{}", path.display(), index + 1);
                        let found = scorer.score(row).with_context(|| item.clone())?;
                        tell(item, &found)?;
                    }
                }
            }
        }
        if let Some(path) = &self.heat {
            write_png(&grid(&shown, Some(3))?, path)?;
        }
        if let Some(quantile) = self.quantile {
            let found = threshold(&scores, quantile);
            print(&format!("{}\n", json!({ "quantile": quantile, "score": found, "items": scores.len() })))?;
        }
        Ok(if odd { ExitCode::from(ODD) } else { ExitCode::SUCCESS })
    }

    /// The scorer, and the threshold that a model folder holds.
    fn open(&self) -> Result<(Scorer, Option<f64>)> {
        let folder = self.choice.model.is_dir().then(|| ModelFolder::open(&self.choice.model)).transpose()?;
        let Some(folder) = folder else { return Ok((Scorer::of_one(self.choice.open(None)?)?, None)) };
        let named = || self.choice.model.display().to_string();
        let both = [Part::Encoder, Part::Decoder];
        if !both.iter().all(|part| folder.manifest.parts.contains(part)) {
            return Ok((Scorer::of_one(self.choice.open(None)?)?, None));
        }
        let (encoder, decoder) = self.choice.open_both()?;
        let key = format!("score_{}", decoder.facts().precision);
        let said = folder.manifest.metrics.get(&key);
        let number = |name: &str| said.and_then(|said| said.get(name)).and_then(Value::as_f64);
        let likelihood = number("sigma").map_or(Likelihood::Bernoulli, Likelihood::Gaussian);
        let scorer = Scorer::of_vae(encoder, decoder, likelihood).with_context(named)?;
        Ok((scorer, number("threshold")))
    }
}

/// A frame in colours.
fn coloured(frame: &Frame) -> Frame {
    if frame.format == PixelFormat::Rgb8 {
        return frame.clone();
    }
    let pixels = frame.pixels.iter().flat_map(|level| [*level; 3]).collect();
    Frame { format: PixelFormat::Rgb8, pixels, ..*frame }
}

/// A picture in dark grey, red where it adds most to its score; `parts` are what its values, (C, H, W), add.
fn heat(frame: &Frame, parts: &[f64]) -> Frame {
    let (plane, channels) = (frame.width * frame.height, frame.format.channels());
    let of_pixel = |pixel: usize| (0..channels).map(|channel| parts[channel * plane + pixel]).sum::<f64>();
    let sums: Vec<f64> = (0..plane).map(of_pixel).collect();
    let most = sums.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let mut heat = Frame::black(frame.width, frame.height, PixelFormat::Rgb8);
    let pixels = heat.pixels.chunks_exact_mut(3).zip(frame.pixels.chunks_exact(channels)).zip(&sums);
    for ((pixel, own), sum) in pixels {
        let grey = own.iter().map(|level| u32::from(*level)).sum::<u32>() / channels as u32 / 3;
        let red = (255.0 * sum.max(0.0) / most) as u32;
        pixel.copy_from_slice(&[grey.max(red) as u8, grey as u8, grey as u8]);
    }
    heat
}

/// Rows of `width` numbers, one after the other.
fn rows(path: &Path, width: usize) -> Result<Vec<f32>> {
    let named = || path.display().to_string();
    let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
    match extension.as_ref().and_then(|extension| extension.to_str()) {
        Some("npy") => {
            let (shape, values) = read_npy(path)?;
            if shape.len() != 2 || shape[1] != width {
                bail!("{}: its shape is {shape:?}; the network takes (N, {width})", path.display());
            }
            Ok(values)
        }
        Some("csv") => {
            let bytes = read_bounded(path, MAX_MODEL_BYTES)?;
            let text =
                String::from_utf8(bytes).ok().with_context(|| format!("{}: this is no text", named()))?;
            let mut values = Vec::new();
            let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
            for (place, (number, line)) in lines.enumerate() {
                let cells: Vec<Option<f32>> = line.split(',').map(|cell| cell.trim().parse().ok()).collect();
                // the first line may name the columns
                if place == 0 && cells.iter().all(Option::is_none) {
                    continue;
                }
                if cells.len() != width {
                    bail!(
                        "{}, line {}: {} numbers; the network takes {width}",
                        named(),
                        number + 1,
                        cells.len()
                    );
                }
                for (column, cell) in cells.into_iter().enumerate() {
                    let value = cell.filter(|value| value.is_finite());
                    values.push(value.with_context(|| {
                        format!("{}, line {}: column {} is no number", named(), number + 1, column + 1)
                    })?);
                }
            }
            if values.is_empty() {
                bail!("{}: this file holds no rows", path.display());
            }
            Ok(values)
        }
        _ => bail!("{}: the model scores rows of {width} numbers: give .csv or .npy", path.display()),
    }
}
