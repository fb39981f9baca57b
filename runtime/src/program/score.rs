//! `edgegen score`: how odd pictures, sounds and rows of numbers are.

use super::choice::Choice;
use super::print;
use super::transform::{paths_of, paths_with};
use anyhow::{Context, Result, bail};
use clap::Args;
use edgegen_runtime::files::check_writable;
use edgegen_runtime::generate::{Frame, Likelihood, Scorer, auroc, from_pixels, threshold, to_pixels};
use edgegen_runtime::model::limits::{MAX_MODEL_BYTES, check_count, read_bounded};
use edgegen_runtime::model::{ImageShape, ModelFolder, Part, PixelFormat, Range};
use edgegen_runtime::pictures::{grid, read_npy, read_picture, write_png};
use edgegen_runtime::sound::{Format, read_wav};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Endings of sounds in a folder.
const SOUNDS: [&str; 2] = ["wav", "wave"];
/// Exit code where a score is above the threshold.
const ODD: u8 = 3;

#[derive(Args)]
pub(super) struct ScoreCommand {
    #[command(flatten)]
    choice: Choice,
    /// Pictures, sounds (.wav), folders of them, or rows of numbers: .csv (a row a line) or .npy (N, values)
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
    /// Of sounds: a line for each window, with its time in seconds, instead of one for each sound
    #[arg(long)]
    each: bool,
    /// Of sounds: columns of the spectrogram from a window to the next [default: half of a window]
    #[arg(long, value_name = "COLUMNS")]
    stride: Option<usize>,
    /// Odd items: say at the end how well the others are told from them, as the area under the ROC curve (AUROC)
    #[arg(long, value_name = "ITEM|FOLDER")]
    against: Vec<PathBuf>,
    /// Draw each picture, what the network makes of it, and where it is odd, into this PNG
    #[arg(long, value_name = "F.png")]
    heat: Option<PathBuf>,
}

/// Scores so far.
struct Told {
    window: usize,
    threshold: Option<f64>,
    /// Those of the window.
    last: VecDeque<f64>,
    sum: f64,
    scores: Vec<f64>,
    /// Whether one was above the threshold.
    odd: bool,
}

impl Told {
    /// Prints the line of an item.
    fn tell(&mut self, mut line: Value, found: f64) -> Result<()> {
        self.last.push_back(found);
        self.sum += found;
        if self.last.len() > self.window {
            self.sum -= self.last.pop_front().unwrap_or(0.0);
        }
        // a sum that grows and shrinks keeps roundings: of one item it is that item's score
        let score = if self.window == 1 { found } else { self.sum / self.last.len() as f64 };
        self.scores.push(score);
        line["score"] = json!(score);
        if let Some(threshold) = self.threshold {
            line["threshold"] = json!(threshold);
            line["odd"] = json!(score > threshold);
            self.odd |= score > threshold;
        }
        print(&format!("{line}\n"))
    }
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
        let (mut scorer, stored, sound) = self.open()?;
        if sound.is_none() && (self.each || self.stride.is_some()) {
            bail!(
                "--each and --stride are for models of sounds; this one scores pictures or rows of numbers"
            );
        }
        if self.stride == Some(0) {
            bail!("--stride 0: give a number of columns from 1 on");
        }
        let mut told = Told {
            window: self.window,
            threshold: self.threshold.or(stored),
            last: VecDeque::new(),
            sum: 0.0,
            scores: Vec::new(),
            odd: false,
        };
        let mut shown = Vec::new();
        self.each_of(&self.items, &mut scorer, sound, &mut told, &mut shown)?;
        let usual = told.scores.len();
        if !self.against.is_empty() {
            (told.last, told.sum) = (VecDeque::new(), 0.0);
            self.each_of(&self.against, &mut scorer, sound, &mut told, &mut shown)?;
        }
        if let Some(path) = &self.heat {
            write_png(&grid(&shown, Some(3))?, path)?;
        }
        if let Some(quantile) = self.quantile {
            let found = threshold(&told.scores[..usual], quantile);
            print(&format!("{}\n", json!({ "quantile": quantile, "score": found, "items": usual })))?;
        }
        if !self.against.is_empty() {
            let (usual, odd) = told.scores.split_at(usual);
            let found = json!({ "auroc": auroc(usual, odd), "usual": usual.len(), "odd": odd.len() });
            print(&format!("{found}\n"))?;
        }
        Ok(if told.odd { ExitCode::from(ODD) } else { ExitCode::SUCCESS })
    }

    /// Scores items, a line each; `shown` takes the pictures of --heat.
    fn each_of(
        &self,
        items: &[PathBuf],
        scorer: &mut Scorer,
        sound: Option<Format>,
        told: &mut Told,
        shown: &mut Vec<Frame>,
    ) -> Result<()> {
        match (scorer.image(), sound) {
            (Some(image), Some(format)) => {
                let stride = self.stride.unwrap_or(image.width.div_ceil(2));
                for path in paths_with(items, &SOUNDS, "sounds")? {
                    let named = || path.display().to_string();
                    let windows = heard(scorer, (format, image, stride), &path).with_context(named)?;
                    if self.each {
                        for (at, score) in windows {
                            let seconds = at as f64 / f64::from(format.rate);
                            told.tell(json!({ "item": named(), "seconds": seconds }), score)?;
                        }
                        continue;
                    }
                    let mean = windows.iter().map(|(_, score)| score).sum::<f64>() / windows.len() as f64;
                    told.tell(json!({ "item": named(), "windows": windows.len() }), mean)?;
                }
            }
            (Some(image), None) => {
                let range = scorer.range()?;
                let mut values = vec![0.0; image.values()];
                for path in paths_of(items)? {
                    let frame = read_picture(&path, image)?;
                    from_pixels(range, image, &frame.pixels, &mut values);
                    let found = scorer.score(&values).with_context(|| path.display().to_string())?;
                    told.tell(json!({ "item": path.display().to_string() }), found.value)?;
                    if self.heat.is_some() {
                        let mut rebuilt = Frame::black(image.width, image.height, frame.format);
                        to_pixels(range, image, &found.rebuilt, &mut rebuilt.pixels);
                        let heat = heat(&frame, &found.parts);
                        shown.extend([coloured(&frame), coloured(&rebuilt), heat]);
                        check_count(shown.len(), 3 * image.height * image.width)?;
                    }
                }
            }
            (None, _) if self.heat.is_some() => {
                bail!("--heat is for pictures; the model scores rows of numbers")
            }
            (None, _) => {
                for path in items {
                    for (index, row) in rows(path, scorer.values())?.chunks_exact(scorer.values()).enumerate()
                    {
                        let item = format!("{}:{}", path.display(), index + 1);
                        let found = scorer.score(row).with_context(|| item.clone())?;
                        told.tell(json!({ "item": item }), found.value)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The scorer, the threshold that a model folder holds, and how its pictures are made of sounds.
    fn open(&self) -> Result<(Scorer, Option<f64>, Option<Format>)> {
        let folder = self.choice.model.is_dir().then(|| ModelFolder::open(&self.choice.model)).transpose()?;
        let of_one = || -> Result<(Scorer, Option<f64>, Option<Format>)> {
            let model = self.choice.open(None)?;
            let sound = Format::of(&model.facts().metadata)?;
            Ok((Scorer::of_one(model)?, None, sound))
        };
        let Some(folder) = folder else { return of_one() };
        let named = || self.choice.model.display().to_string();
        let both = [Part::Encoder, Part::Decoder];
        if !both.iter().all(|part| folder.manifest.parts.contains(part)) {
            return of_one();
        }
        let (encoder, decoder) = self.choice.open_both()?;
        let sound = Format::of(&encoder.facts().metadata)?;
        let key = format!("score_{}", decoder.facts().precision);
        let said = folder.manifest.metrics.get(&key);
        let number = |name: &str| said.and_then(|said| said.get(name)).and_then(Value::as_f64);
        let likelihood = number("sigma").map_or(Likelihood::Bernoulli, Likelihood::Gaussian);
        let scorer = Scorer::of_vae(encoder, decoder, likelihood).with_context(named)?;
        Ok((scorer, number("threshold"), sound))
    }
}

/// The scores of a sound's windows, and where they begin, in samples. Silent ones are left out.
fn heard(
    scorer: &mut Scorer,
    (format, image, stride): (Format, ImageShape, usize),
    path: &Path,
) -> Result<Vec<(usize, f64)>> {
    let samples = read_wav(path)?.at_rate(format.rate)?.samples;
    let range = scorer.range()?;
    let mut windows = Vec::new();
    for first in format.windows(samples.len(), image.width, stride) {
        // as it was learned from, in levels
        let Some(values) = format.heard(&samples[first..], image.height, image.width)? else { continue };
        let values: Vec<f32> = values
            .into_iter()
            .map(|value| {
                let value = f32::from(Range::Unit.pixel(value)) / 255.0;
                if range == Range::Signed { 2.0 * value - 1.0 } else { value }
            })
            .collect();
        windows.push((first, scorer.score(&values)?.value));
    }
    if windows.is_empty() {
        bail!("this sound is silence");
    }
    Ok(windows)
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
