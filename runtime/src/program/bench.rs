//! `edgegen bench`: how fast a network runs here.

use super::choice::Choice;
use super::print;
use anyhow::{Result, bail};
use clap::Args;
use edgegen_runtime::generate::{Encoder, Generator, Latents};
use edgegen_runtime::measure::{Arithmetic, cpu, peak_gmacs, peak_rss_kib, set_threads, time_runs};
use edgegen_runtime::model::{Model, Part, Precision};
use edgegen_runtime::random::{Purpose, Stream};
use serde_json::json;
use std::hint::black_box;
use std::time::{Duration, Instant};

#[derive(Args)]
pub(super) struct Bench {
    #[command(flatten)]
    choice: Choice,
    /// Threads to run on
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Pictures per run
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// Runs to time, after a warm-up
    #[arg(long, default_value_t = 200)]
    runs: usize,
    /// Stop after this time even if not all runs are done
    #[arg(long, default_value_t = 30.0)]
    seconds: f64,
    /// Network, of those in a model folder [default: decoder or generator]
    #[arg(long, value_name = "encoder|decoder|generator")]
    part: Option<Part>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A network with something to feed it.
enum Subject {
    Draws { generator: Generator, latents: Latents, classes: Vec<u32> },
    Encodes { encoder: Encoder, images: Vec<f32> },
}

impl Subject {
    fn new(model: Model, batch: usize) -> Result<Self> {
        if model.facts().part == Part::Encoder {
            let encoder = model.into_encoder(batch)?;
            // what is in the pictures does not change the time; the values do stay in the range
            let mut noise = Stream::new(0, Purpose::Evaluation, 0);
            let values = encoder.batch() * encoder.image_shape().values();
            let images = (0..values).map(|_| noise.uniform()).collect();
            return Ok(Self::Encodes { encoder, images });
        }
        let generator = model.into_generator(batch)?;
        let latents = Latents::from_seed(0, 0, generator.batch(), generator.latent_dim(), 1.0);
        // the class does not change the time
        let classes = vec![0; if generator.is_conditional() { latents.count() } else { 0 }];
        Ok(Self::Draws { generator, latents, classes })
    }

    fn batch(&self) -> usize {
        match self {
            Self::Draws { generator, .. } => generator.batch(),
            Self::Encodes { encoder, .. } => encoder.batch(),
        }
    }

    /// One run up to what a user gets: frames, or a posterior.
    fn first(&mut self) -> edgegen_runtime::Result<()> {
        match self {
            Self::Draws { generator, latents, classes } => {
                generator.frames(latents, classes).map(|frames| drop(black_box(frames)))
            }
            Self::Encodes { .. } => self.run(),
        }
    }

    fn run(&mut self) -> edgegen_runtime::Result<()> {
        match self {
            Self::Draws { generator, latents, classes } => {
                generator.run(latents.values(), classes).map(|values| {
                    black_box(values);
                })
            }
            Self::Encodes { encoder, images } => {
                encoder.run(images).map(|posterior| drop(black_box(posterior)))
            }
        }
    }
}

/// Most runs and seconds that can be asked for.
const MOST: usize = 1_000_000;

impl Bench {
    pub(super) fn run(self, start: Instant) -> Result<()> {
        if !(1..=MOST).contains(&self.runs) {
            bail!("--runs {}: give 1 to {MOST}", self.runs);
        }
        if !(self.seconds > 0.0 && self.seconds <= MOST as f64) {
            bail!("--seconds {}: give a time above 0 up to {MOST}", self.seconds);
        }
        set_threads(self.threads)?;
        let model = self.choice.open(self.part)?;
        let facts = model.facts().clone();
        let mut subject = Subject::new(model, self.batch)?;
        let load = start.elapsed();

        let before = Instant::now();
        subject.first()?;
        let first_time = before.elapsed();

        let limit = Duration::from_secs_f64(self.seconds);
        let timings = time_runs(self.runs, limit, || subject.run())?;
        let Some(timings) = timings else { bail!("no run was timed") };

        // integers may be multiplied where the network has them, no matter how its file is called
        let arithmetic = match facts.precision {
            Precision::Int8 => Arithmetic::Int8,
            Precision::Fp32 | Precision::Fp16 => Arithmetic::Float32,
        };
        let cpu = cpu()?;
        let peak = peak_gmacs(cpu, arithmetic);
        let gmacs = facts.macs.map(|macs| (macs * subject.batch() as u64) as f64 / timings.p50_us / 1e3);
        let tenths = |value: f64| (value * 10.0).round() / 10.0;

        let ms = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
        let us = |time: f64| (time * 100.0).round() / 100.0;
        let report = json!({
            "model": self.choice.model.display().to_string(),
            "part": facts.part,
            "precision": facts.precision,
            "image": facts.image.to_string(),
            "macs": facts.macs,
            "engine": concat!("edgegen ", env!("CARGO_PKG_VERSION")),
            "arch": std::env::consts::ARCH,
            "isa": cpu.isa().to_string(),
            "threads": self.threads,
            "batch": subject.batch(),
            "runs": timings.runs,
            "load_ms": ms(load),
            "first_ms": ms(first_time),
            "min_us": us(timings.min_us),
            "p50_us": us(timings.p50_us),
            "p90_us": us(timings.p90_us),
            "p99_us": us(timings.p99_us),
            "mean_us": us(timings.mean_us),
            "gmacs": gmacs.map(tenths),
            "peak_gmacs_per_core": tenths(peak),
            "percent_of_peak": gmacs.map(|gmacs| tenths(gmacs / peak / self.threads as f64 * 100.0)),
            "peak_rss_kib": peak_rss_kib(),
        });
        if self.json {
            return print(&format!("{report}\n"));
        }
        let lines = report.as_object().into_iter().flatten().map(|(key, value)| {
            format!("{key:<14}{}\n", value.as_str().map_or_else(|| value.to_string(), str::to_string))
        });
        print(&lines.collect::<String>())
    }
}
