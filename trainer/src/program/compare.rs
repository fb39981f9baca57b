//! `edgegen-train compare`

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, bail};
use edgegen_runtime::arguments::Foreign;
use edgegen_runtime::files::{check_writable, write_atomically};
use edgegen_runtime::model::{MANIFEST, Manifest, Precision};
use edgegen_trainer::data::Size;
use edgegen_trainer::evaluate::samples::{SampleOptions, Samples};
use edgegen_trainer::train::teacher::has_taught;

use super::data::Loading;
use super::judge::{self, Judge};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// What to judge: a .npy array (uint8; N, H, W, 1 or 3), a folder of images, an .onnx generator or a model
    /// folder.
    #[arg(long, value_name = "PATH")]
    samples: PathBuf,
    /// A folder of images or of IDX files to compare with; without it: the set inside the program.
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// The network whose features are compared: (N, 1 or 3, H, W) → (N, D), float32.
    #[arg(long, value_name = "F.onnx")]
    features: PathBuf,
    #[command(flatten)]
    judge: Judge,
    /// How many samples, evenly spread over an array or folder [default: all; 10000 of a generator].
    #[arg(long, value_name = "N")]
    count: Option<usize>,
    /// Decides a generator's latents, and subsets and resamples.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    foreign: Foreign,
    /// Class that a conditional generator draws, by its name or number [default: each in turn].
    #[arg(long = "class", value_name = "NAME|NUMBER")]
    class: Option<String>,
    /// Precision, of those in a model folder.
    #[arg(long, value_name = "P")]
    precision: Option<Precision>,
    // the size and colour of --data's images are the samples' unless given
    #[command(flatten)]
    loading: Loading,
    /// The class that each sample was drawn for: a .npy array (N), int64 or uint8 [default: those that a
    /// conditional generator was asked for].
    #[arg(long, value_name = "L.npy", requires = "classifier")]
    requested: Option<PathBuf>,
    /// Write everything as a JSON object.
    #[arg(long, value_name = "F.json")]
    json: Option<PathBuf>,
}

/// Prints a table; writes what was asked for.
pub(super) fn run(arguments: Arguments) -> Result<()> {
    if let Some(path) = &arguments.json {
        check_writable(path)?;
    }
    let options = arguments.judge.options(arguments.features, arguments.seed)?;
    let mut how = SampleOptions {
        count: arguments.count.map(|count| count.min(1)).or(Some(1)),
        seed: arguments.seed,
        open: arguments.foreign.options()?,
        precision: arguments.precision,
        class: arguments.class,
        labels: Vec::new(),
    };
    if arguments.samples.join(MANIFEST).is_file() {
        let manifest = Manifest::read(&arguments.samples)?;
        arguments.judge.allowed(has_taught(&manifest, &options.features.path)?)?;
    }
    // what they are decides how pictures are loaded, and the pictures' classes which samples are drawn
    let first = Samples::read(&arguments.samples, &how)?;
    let mut load = arguments.loading.options(Size::of(first.shape), options.cache.clone());
    load.gray |= first.shape.channels == 1;
    if let Err(problem) = load.size.check() {
        bail!("--size {}{problem}", if arguments.loading.size.is_none() { "(the samples') " } else { "" });
    }
    let dataset = super::data::load(arguments.data.as_deref(), &load)?;
    for line in super::data::remarks(&dataset) {
        eprintln!("{line}");
    }
    how.count = arguments.count;
    how.labels = first.proportions(&dataset, options.split);
    let mut samples = Samples::read(&arguments.samples, &how)?;
    if let Some(path) = &arguments.requested {
        samples.read_requested(path)?;
    }
    let report = judge::measure(&samples, &dataset, &options)?;
    judge::show(&report, &samples, &dataset, &options);
    if let Some(path) = &arguments.json {
        let text = format!("{:#}\n", serde_json::to_value(&report)?);
        write_atomically(path, |out| out.write_all(text.as_bytes()))?;
    }
    Ok(())
}
