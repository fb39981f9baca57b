//! How files in float16 and in integers are made: the arguments that `export` and `quantize` share.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::ValueEnum;
use edgegen_runtime::model::{Manifest, ModelFolder, Precision};
use edgegen_trainer::data::Dataset;
use edgegen_trainer::evaluate::report::Options;
use edgegen_trainer::evaluate::samples::{DRAWN, SampleOptions, Samples};
use edgegen_trainer::export::precisions::Request;
use edgegen_trainer::export::{Other, add_metrics};
use edgegen_trainer::quantize::report::Report;
use edgegen_trainer::quantize::{Calibrator, Format, Rounding, Settings};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::judge::{self, Judge};

use super::DeviceName;

/// Most inputs of a calibration or a comparison, and most steps of fine-tuning.
const MOST_INPUTS: usize = 100_000;
const MOST_STEPS: usize = 1_000_000;

#[derive(Clone, Copy, ValueEnum)]
enum FormatName {
    /// QLinearConv: integers in any runtime.
    Qlinear,
    /// QuantizeLinear and DequantizeLinear around float operators.
    Qdq,
}

#[derive(Clone, Copy, ValueEnum)]
enum RoundingName {
    /// Each weight to the nearest level.
    Nearest,
    /// Such that each layer's sums are kept.
    Reconstruct,
}

#[derive(Clone, Copy, ValueEnum)]
enum Unknown {
    /// Name it and stop.
    Refuse,
    /// Keep it in float32.
    Float,
}

/// How integers are chosen.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// How activations' ranges are chosen: minmax, percentile or percentile=P, entropy, mse.
    #[arg(long, value_name = "HOW", default_value = "mse", value_parser = calibrator)]
    calibrator: Calibrator,
    /// Latents, or pictures for an encoder, that ranges are found on.
    #[arg(long, value_name = "N", default_value_t = Request::default().calibration)]
    calibration: usize,
    /// Latents or pictures that the files are compared on.
    #[arg(long, value_name = "N", default_value_t = Request::default().held_out)]
    held_out: usize,
    /// One scale for all weights of a layer instead of one for each output channel.
    #[arg(long)]
    per_tensor: bool,
    /// How weights are rounded.
    #[arg(long, value_enum, default_value_t = RoundingName::Reconstruct)]
    rounding: RoundingName,
    /// Do not try cross-layer equalisation.
    #[arg(long)]
    no_equalize: bool,
    /// Leave biases as they are.
    #[arg(long)]
    no_bias_correction: bool,
    /// Layers that stay in float32, by their names in the report; auto: as many as --least-quality needs, the most
    /// sensitive first.
    #[arg(long, value_name = "LAYER,…", value_delimiter = ',')]
    keep_float: Vec<String>,
    /// Operators without a form in integers.
    #[arg(long, value_enum, default_value_t = Unknown::Refuse)]
    unknown: Unknown,
    /// Steps of quantisation-aware fine-tuning, towards what the float32 network puts out.
    #[arg(long, value_name = "STEPS", default_value_t = 0)]
    qat: usize,
    /// Where to fine-tune.
    #[arg(long, value_enum, default_value_t = DeviceName::Cpu)]
    device: DeviceName,
    /// How an int8 file holds its integers.
    #[arg(long, value_enum, default_value_t = FormatName::Qlinear)]
    format: FormatName,
    /// Least mean PSNR of pictures, or SQNR of an encoder's outputs, against float32, in dB; 0 accepts anything.
    #[arg(long, value_name = "DB", default_value_t = Request::default().least)]
    least_quality: f64,
}

impl Arguments {
    /// The request for files in `precisions`.
    pub(super) fn request(&self, precisions: Vec<Precision>) -> Result<Request> {
        for (name, count) in [("--calibration", self.calibration), ("--held-out", self.held_out)] {
            if !(1..=MOST_INPUTS).contains(&count) {
                bail!("{name} is {count}; it takes 1 to {MOST_INPUTS}");
            }
        }
        if self.qat > MOST_STEPS {
            bail!("--qat is {}; it takes 0 to {MOST_STEPS}", self.qat);
        }
        if !self.least_quality.is_finite() {
            bail!("--least-quality is {}", self.least_quality);
        }
        let automatic = self.keep_float.iter().any(|name| name == "auto");
        Ok(Request {
            precisions,
            settings: Settings {
                calibrator: self.calibrator,
                per_tensor: self.per_tensor,
                equalize: !self.no_equalize,
                correct_bias: !self.no_bias_correction,
                rounding: match self.rounding {
                    RoundingName::Nearest => Rounding::Nearest,
                    RoundingName::Reconstruct => Rounding::Reconstruct,
                },
                keep_float: self.keep_float.iter().filter(|name| *name != "auto").cloned().collect(),
                refuse_unknown: matches!(self.unknown, Unknown::Refuse),
                tune: self.qat,
                format: match self.format {
                    FormatName::Qlinear => Format::Qlinear,
                    FormatName::Qdq => Format::Qdq,
                },
            },
            calibration: self.calibration,
            held_out: self.held_out,
            least: self.least_quality,
            keep_automatically: automatic,
            device: self.device.open()?,
        })
    }
}

fn calibrator(text: &str) -> std::result::Result<Calibrator, String> {
    Ok(match text {
        "minmax" => Calibrator::MinMax,
        "percentile" => Calibrator::Percentile(99.99),
        "entropy" => Calibrator::Entropy,
        "mse" => Calibrator::Mse,
        _ => {
            let kept = text.strip_prefix("percentile=").and_then(|kept| kept.parse().ok());
            Calibrator::Percentile(kept.ok_or("use minmax, percentile, percentile=99.9, entropy or mse")?)
        }
    })
}

/// What the precisions of a folder that draws are judged by, besides their distance from float32.
#[derive(clap::Args)]
pub(super) struct Judged {
    /// Tell the Fréchet distance of each precision's samples too, on the features of this network: (N, 1 or 3, H, W) →
    /// (N, D), float32.
    #[arg(long, value_name = "F.onnx")]
    features: Option<PathBuf>,
    /// How many pictures to draw for that, the same latents in each precision.
    #[arg(long, value_name = "N", default_value_t = DRAWN, requires = "features")]
    drawn: usize,
    #[command(flatten)]
    judge: Judge,
}

impl Judged {
    /// Refuses what cannot be, before anything is written.
    pub(super) fn options(&self) -> Result<Option<Options>> {
        if !(2..=MOST_INPUTS).contains(&self.drawn) {
            bail!("--drawn is {}; it takes 2 to {MOST_INPUTS}", self.drawn);
        }
        self.features.as_ref().map(|features| self.judge.options(features.clone(), 0)).transpose()
    }

    /// Refuses a network that has taught the model that it judges; returns whether it has, and is asked for all the same.
    pub(super) fn is_teacher(
        &self,
        problem: impl Fn(&Path) -> edgegen_trainer::Result<Option<String>>,
    ) -> Result<bool> {
        self.judge.allowed(self.features.as_deref().map(problem).transpose()?.flatten())
    }

    /// Judges every precision in the folder `out`, prints its distance, and writes it into the folder's metrics.
    pub(super) fn judge(
        &self,
        out: &Path,
        dataset: &Dataset,
        options: &Options,
        teacher: bool,
    ) -> Result<()> {
        let folder = ModelFolder::open(out)?;
        let part = folder.drawing_part()?;
        let mut precisions = folder.manifest.precisions.clone();
        precisions.sort();
        let mut reading = SampleOptions { count: Some(1), ..SampleOptions::default() };
        reading.labels = Samples::read(out, &reading)?.proportions(dataset, options.split);
        reading.count = Some(self.drawn);
        let mut fp32 = None;
        for precision in precisions {
            reading.precision = Some(precision);
            let samples = Samples::read(out, &reading)?;
            let report = judge::measure(&samples, dataset, options)?;
            let exact = *fp32.get_or_insert(report.frechet);
            let change = report.frechet / exact - 1.0;
            let spread = report.frechet_bootstrap.as_ref().map_or(0.0, |bootstrap| bootstrap.deviation);
            say!(
                "{precision}: {} {:.2} ± {spread:.2}, {:+.2} % of fp32's",
                report.frechet_name(),
                report.frechet,
                100.0 * change
            );
            let found = json!({
                "frechet": report.frechet, "frechet_deviation": spread, "frechet_change": change,
                "frechet_features": report.features.name, "frechet_samples": self.drawn,
                "judge_is_teacher": teacher,
            });
            add_metrics(out, part, precision, found)?;
        }
        Ok(())
    }
}

/// Prints how far files are from those in float32, layer by layer, and what was written.
pub(super) fn show(others: &[Other], manifest: &Manifest, out: &Path) {
    for Other { part, precision, quality, report } in others {
        say!("{part}, {precision} against fp32: {quality}");
        if let Some(report) = report {
            show_report(report);
        }
    }
    for file in &manifest.files {
        let fp32 = manifest.find(file.part, Precision::Fp32).map_or(file.bytes, |fp32| fp32.bytes);
        let part = 100.0 * file.bytes as f64 / fp32 as f64;
        say!("{} {} bytes, {part:.1} % of fp32", out.join(&file.file).display(), file.bytes);
    }
}

/// Prints a report layer by layer.
pub(super) fn show_report(report: &Report) {
    for line in report.table().lines() {
        say!("  {line}");
    }
    match report.equalized {
        Some(alpha) => say!("  cross-layer equalisation with exponent {alpha} paid"),
        None if report.settings.equalize => say!("  cross-layer equalisation did not pay"),
        None => {}
    }
    for label in &report.foreign {
        say!("  {label} has no form in integers, and stays in float32");
    }
}

/// A line that says what is being done.
pub(super) fn spinner() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {elapsed} {msg}");
    let bar =
        ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    bar
}
