//! `edgegen-train compare`

use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, bail};
use clap::ValueEnum;
use edgegen_runtime::files::{check_writable, write_atomically};
use edgegen_runtime::model::{Precision, Range};
use edgegen_trainer::data::{self, LoadOptions};
use edgegen_trainer::evaluate::cache;
use edgegen_trainer::evaluate::features::{NetworkChoice, Scaling};
use edgegen_trainer::evaluate::report::{Options, RESAMPLES, Split, evaluate_samples};
use edgegen_trainer::evaluate::samples::{SampleOptions, Samples};
use indicatif::{ProgressBar, ProgressStyle};

/// Sides that a folder's images can be resized to.
const SIDES: std::ops::RangeInclusive<usize> = 8..=512;
/// Most resamples.
const MOST_RESAMPLES: usize = 1000;

#[derive(Clone, Copy, ValueEnum)]
enum SplitName {
    Train,
    Validation,
    Test,
}

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
    /// Its input: unit (level / 255), signed (level / 127.5 - 1) or mean=M,scale=S, in levels, one number or
    /// R/G/B [default: what its metadata says, else unit].
    #[arg(long, value_name = "SCALING")]
    feature_input: Option<String>,
    /// Its output [default: features, else the first].
    #[arg(long, value_name = "NAME")]
    feature_output: Option<String>,
    /// Which of the data set's pictures to compare with.
    #[arg(long, value_enum, default_value_t = SplitName::Train)]
    split: SplitName,
    /// How many samples [default: all; 10000 of a generator].
    #[arg(long, value_name = "N")]
    count: Option<usize>,
    /// How many pictures to compare with, evenly spread; 0: all.
    #[arg(long, value_name = "M", default_value_t = 0)]
    pictures: usize,
    /// Decides a generator's latents, and subsets and resamples.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Range of a generator's pictures, if its file doesn't tell.
    #[arg(long, value_name = "unit|signed")]
    range: Option<Range>,
    /// Precision, of those in a model folder.
    #[arg(long, value_name = "P")]
    precision: Option<Precision>,
    /// Side that the images of --data are resized to, pixels [default: the samples'].
    #[arg(long, value_name = "PIXELS")]
    size: Option<usize>,
    /// Make the images of --data grey [default: if the samples are].
    #[arg(long)]
    gray: bool,
    /// A classifier, (N, 1 or 3, H, W) → (N, K), to count the classes that the samples fall into.
    #[arg(long, value_name = "C.onnx")]
    classifier: Option<PathBuf>,
    /// Its input, as --feature-input.
    #[arg(long, value_name = "SCALING", requires = "classifier")]
    classifier_input: Option<String>,
    /// Its output [default: probabilities or logits, else the first].
    #[arg(long, value_name = "NAME", requires = "classifier")]
    classifier_output: Option<String>,
    /// The class that each sample was drawn for: a .npy array (N), int64 or uint8.
    #[arg(long, value_name = "L.npy", requires = "classifier")]
    requested: Option<PathBuf>,
    /// Draw some samples beside the training pictures that they are nearest to.
    #[arg(long, value_name = "F.png")]
    neighbours: Option<PathBuf>,
    /// Resamples for the spread of the Fréchet distance; 0: none.
    #[arg(long, value_name = "N", default_value_t = RESAMPLES)]
    resamples: usize,
    /// Where features of pictures are kept for the next time [default: edgegen in the user's cache folder].
    #[arg(long, value_name = "FOLDER")]
    cache: Option<PathBuf>,
    /// Keep no features.
    #[arg(long, conflicts_with = "cache")]
    no_cache: bool,
    /// Write everything as a JSON object.
    #[arg(long, value_name = "F.json")]
    json: Option<PathBuf>,
}

/// Prints a table; writes what was asked for.
pub(super) fn run(arguments: Arguments) -> Result<()> {
    if arguments.resamples > MOST_RESAMPLES {
        bail!("--resamples is {}; it takes 0 to {MOST_RESAMPLES}", arguments.resamples);
    }
    if let Some(path) = &arguments.neighbours {
        super::check_png(path)?;
    }
    if let Some(path) = &arguments.json {
        check_writable(path)?;
    }
    let network = |path: PathBuf, output: Option<String>, input: Option<String>| -> Result<NetworkChoice> {
        let scaling = input.as_deref().map(str::parse::<Scaling>).transpose()?;
        Ok(NetworkChoice { path, output, scaling })
    };
    let features = network(arguments.features, arguments.feature_output, arguments.feature_input)?;
    let (output, input) = (arguments.classifier_output, arguments.classifier_input);
    let classifier = arguments.classifier.map(|path| network(path, output, input)).transpose()?;

    let mut samples = Samples::read(
        &arguments.samples,
        &SampleOptions {
            count: arguments.count,
            seed: arguments.seed,
            range: arguments.range,
            precision: arguments.precision,
        },
    )?;
    if let Some(path) = &arguments.requested {
        samples.read_requested(path)?;
    }
    let side = arguments.size.unwrap_or(samples.shape.height);
    if !SIDES.contains(&side) {
        bail!(
            "--size is {side}{}; it takes {} to {}",
            if arguments.size.is_none() { " (the samples' height)" } else { "" },
            SIDES.start(),
            SIDES.end()
        );
    }
    let options = LoadOptions { side, gray: arguments.gray || samples.shape.channels == 1 };
    let dataset = data::load(arguments.data.as_deref(), options)?;
    for line in super::data::remarks(&dataset) {
        eprintln!("{line}");
    }
    let options = Options {
        classifier,
        split: match arguments.split {
            SplitName::Train => Split::Train,
            SplitName::Validation => Split::Validation,
            SplitName::Test => Split::Test,
        },
        pictures: arguments.pictures,
        resamples: arguments.resamples,
        seed: arguments.seed,
        cache: if arguments.no_cache { None } else { arguments.cache.or_else(cache::default_folder) },
        neighbours: arguments.neighbours,
        ..Options::new(features)
    };
    let bar = Progress::new();
    let report =
        evaluate_samples(&samples, &dataset, &options, &|what, done, total| bar.add(what, done, total))?;
    bar.bar.finish_and_clear();
    say!("{}: {} samples of {}", report.samples.name, report.samples.count, samples.shape);
    say!(
        "{}: {} pictures of {}, {}",
        dataset.name,
        report.reference.count,
        report.split.word(),
        dataset.shape
    );
    for line in report.lines() {
        say!("{line}");
    }
    if let Some(path) = &arguments.json {
        let text = format!("{:#}\n", serde_json::to_value(&report)?);
        write_atomically(path, |out| out.write_all(text.as_bytes()))?;
    }
    Ok(())
}

/// One bar for one thing after another.
struct Progress {
    bar: ProgressBar,
    what: Mutex<&'static str>,
}

impl Progress {
    fn new() -> Self {
        let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}, {eta} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        Self { bar: ProgressBar::new(0).with_style(style), what: Mutex::new("") }
    }

    fn add(&self, what: &'static str, done: usize, total: usize) {
        let mut last = self.what.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != what {
            *last = what;
            self.bar.set_message(what);
            self.bar.set_length(total as u64);
            self.bar.set_position(0);
            self.bar.reset_eta();
        }
        self.bar.inc(done as u64);
    }
}
