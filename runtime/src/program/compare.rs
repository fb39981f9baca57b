//! `edgegen compare`: two models or precisions side by side: speed, size, and how far their pictures are apart.

use super::choice::Choice;
use super::{print, printable};
use anyhow::{Result, bail};
use clap::Args;
use edgegen_runtime::arguments::Foreign;
use edgegen_runtime::files::check_writable;
use edgegen_runtime::generate::{Frame, Generator, Latents};
use edgegen_runtime::measure::time_runs;
use edgegen_runtime::model::{EngineChoice, Facts, Precision};
use edgegen_runtime::pictures::{grid, write_png};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Args)]
pub(super) struct Compare {
    /// An .onnx file or a model folder; of a folder a precision can be named: models/mnist-gan:int8
    a: String,
    /// The other one
    b: String,
    /// Random latents that both draw
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    count: u32,
    /// Seed of the latents
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Runs to time, in turns of ten
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    runs: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Write the pictures that are furthest apart: a row of A's above a row of B's
    #[arg(long, value_name = "F.png")]
    out: Option<PathBuf>,
    /// What runs both, or A and B: for example kernels,tract
    #[arg(long, value_name = "auto|kernels|tract[,…]", value_delimiter = ',')]
    engine: Vec<EngineChoice>,
    /// What A and B do not say; model folders say all.
    #[command(flatten)]
    foreign: Foreign,
}

/// Runs of one before the other's turn.
const TURN: usize = 10;
/// Pictures of a row.
const SHOWN: usize = 8;

struct Side {
    name: String,
    facts: Facts,
    generator: Generator,
}

impl Side {
    fn open(name: &str, engine: EngineChoice, foreign: &Foreign) -> Result<Self> {
        let (path, precision) = match name.rsplit_once(':') {
            Some((path, precision)) if !Path::new(name).exists() => {
                (path, Some(precision.parse::<Precision>()))
            }
            _ => (name, None),
        };
        let precision = precision.transpose().map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
        let path = PathBuf::from(path);
        if precision.is_some() && !path.is_dir() {
            bail!("{name}: only a model folder has precisions to name");
        }
        // a folder's own range is the right one, whatever the other side needs
        let foreign = if path.is_dir() { Foreign::default() } else { foreign.clone() };
        let model = Choice::of(path, precision, engine, foreign).open(None)?;
        model.range()?;
        let facts = model.facts().clone();
        Ok(Self { name: name.to_string(), facts, generator: model.into_generator(1)? })
    }
}

impl Compare {
    pub(super) fn run(self) -> Result<()> {
        if let Some(path) = &self.out {
            check_writable(path)?;
        }
        let (first, second) = match self.engine[..] {
            [] => (EngineChoice::Auto, EngineChoice::Auto),
            [both] => (both, both),
            [first, second] => (first, second),
            _ => bail!("--engine takes one engine for both models, or one for each"),
        };
        let (mut a, mut b) =
            (Side::open(&self.a, first, &self.foreign)?, Side::open(&self.b, second, &self.foreign)?);
        let (dim, image) = (a.facts.latent_dim, a.facts.image);
        if dim != b.facts.latent_dim || image != b.facts.image {
            bail!(
                "{} draws {image} from {dim} values, {} {} from {}: only what draws the same is compared",
                a.name,
                b.name,
                b.facts.image,
                b.facts.latent_dim
            );
        }
        if a.generator.is_conditional() != b.generator.is_conditional() {
            bail!("only one of {} and {} is conditioned on a class", a.name, b.name);
        }
        let latents = Latents::from_seed(self.seed, 0, self.count as usize, dim, 1.0);
        let class = |generator: &Generator, index: usize| {
            generator.is_conditional().then(|| generator.class_in_turn(index as u64).unwrap_or(0))
        };
        let times = self.times([&mut a, &mut b], &latents)?;

        let mut frames: Vec<(f64, Frame, Frame)> = Vec::with_capacity(self.count as usize);
        for (index, latent) in latents.values().chunks_exact(dim).enumerate() {
            let draw = |side: &mut Side| -> Result<Frame> {
                let mut frame = Frame::black(image.width, image.height, side.facts.pixel_format);
                let class = class(&side.generator, index);
                side.generator.frame_into(latent, class, &mut frame.pixels)?;
                Ok(frame)
            };
            let (left, right) = (draw(&mut a)?, draw(&mut b)?);
            frames.push((psnr(&left, &right), left, right));
        }
        frames.sort_by(|one, other| one.0.total_cmp(&other.0));
        let mean = frames.iter().map(|(psnr, ..)| psnr.min(MOST_DB)).sum::<f64>() / frames.len() as f64;
        let worst = frames.first().map_or(MOST_DB, |(psnr, ..)| psnr.min(MOST_DB));
        if let Some(path) = &self.out {
            let shown = frames.iter().take(SHOWN);
            let rows: Vec<Frame> = shown
                .clone()
                .map(|(_, left, _)| left.clone())
                .chain(shown.map(|(.., right)| right.clone()))
                .collect();
            write_png(&grid(&rows, Some(SHOWN.min(frames.len())))?, path)?;
        }
        let side = |side: &Side, us: f64| {
            json!({
                "model": side.name, "precision": side.facts.precision, "file_bytes": side.facts.file_bytes,
                "parameters": side.facts.parameters, "macs": side.facts.macs, "p50_us": us,
                "run_by": side.facts.tract.as_ref().map_or_else(|| side.facts.isa.clone(), |_| "tract".into()),
            })
        };
        let report = json!({
            "a": side(&a, times[0]), "b": side(&b, times[1]),
            "a_to_b": {
                "p50": times[0] / times[1], "file_bytes": a.facts.file_bytes as f64 / b.facts.file_bytes as f64,
            },
            "pictures": self.count, "psnr_db_mean": mean, "psnr_db_worst": worst,
        });
        print(&if self.json { format!("{report}\n") } else { text(&report) })
    }

    /// Medians of both, µs, taken in turns.
    fn times(&self, sides: [&mut Side; 2], latents: &Latents) -> Result<[f64; 2]> {
        let mut medians = [Vec::new(), Vec::new()];
        let [a, b] = sides;
        for _ in 0..(self.runs as usize).div_ceil(TURN) {
            for (side, medians) in [&mut *a, &mut *b].into_iter().zip(&mut medians) {
                let classes: Vec<u32> = side.generator.is_conditional().then_some(0).into_iter().collect();
                let latent = &latents.values()[..latents.dim()];
                let timings = time_runs(TURN, Duration::from_secs(10), || {
                    side.generator.run(latent, &classes).map(drop)
                })?;
                medians.extend(timings.map(|timings| timings.p50_us));
            }
        }
        Ok(medians.map(|mut medians| {
            medians.sort_by(f64::total_cmp);
            medians.get(medians.len() / 2).copied().unwrap_or(0.0)
        }))
    }
}

/// Equal pictures count as this.
const MOST_DB: f64 = 99.0;

/// Of 8-bit pixels, dB.
fn psnr(a: &Frame, b: &Frame) -> f64 {
    let squares = a.pixels.iter().zip(&b.pixels).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
    let mean = squares.sum::<f64>() / a.pixels.len().max(1) as f64;
    10.0 * (255.0 * 255.0 / mean).log10()
}

fn text(report: &Value) -> String {
    let mut text = format!("{:<12} {:>24} {:>24}\n", "", "A", "B");
    for key in ["model", "precision", "run_by", "file_bytes", "parameters", "macs", "p50_us"] {
        let cell = |side: &str| match &report[side][key] {
            Value::String(text) => text.clone(),
            Value::Number(number) if number.is_f64() => format!("{:.1}", number.as_f64().unwrap_or(0.0)),
            other => other.to_string(),
        };
        text.push_str(&format!("{key:<12} {:>24} {:>24}\n", cell("a"), cell("b")));
    }
    let number = |value: &Value| value.as_f64().unwrap_or(0.0);
    text.push_str(&format!(
        "A takes {:.2} times B's time and {:.2} times its bytes\n",
        number(&report["a_to_b"]["p50"]),
        number(&report["a_to_b"]["file_bytes"])
    ));
    text.push_str(&format!(
        "their pixels, of {} pictures: PSNR {:.1} dB, worst {:.1} dB\n",
        report["pictures"],
        number(&report["psnr_db_mean"]),
        number(&report["psnr_db_worst"])
    ));
    printable(&text)
}
