//! What samples are judged by: the arguments that `eval` and `compare` share, and how a report is shown.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, bail};
use clap::ValueEnum;
use edgegen_trainer::data::Dataset;
use edgegen_trainer::evaluate::cache;
use edgegen_trainer::evaluate::features::{NetworkChoice, Scaling};
use edgegen_trainer::evaluate::neighbours::NEIGHBOURS;
use edgegen_trainer::evaluate::report::{Options, RESAMPLES, Report, Split, evaluate_samples};
use edgegen_trainer::evaluate::samples::Samples;
use indicatif::{ProgressBar, ProgressStyle};

/// Most resamples.
const MOST_RESAMPLES: usize = 1000;

#[derive(Clone, Copy, ValueEnum)]
enum SplitName {
    Train,
    Validation,
    Test,
}

/// What samples are judged by, besides the network of `--features`.
#[derive(clap::Args)]
pub(super) struct Judge {
    /// The input of --features: unit (level / 255), signed (level / 127.5 - 1) or mean=M,scale=S, in levels, one
    /// number or R/G/B [default: what its metadata says, else unit].
    #[arg(long, value_name = "SCALING", requires = "features")]
    feature_input: Option<String>,
    /// Its output [default: features, else the first].
    #[arg(long, value_name = "NAME", requires = "features")]
    feature_output: Option<String>,
    /// Which of the data set's pictures to compare with.
    #[arg(long, value_enum, default_value_t = SplitName::Train)]
    split: SplitName,
    /// How many pictures to compare with, at random but always the same; 0: all.
    #[arg(long, value_name = "M", default_value_t = 0)]
    pictures: usize,
    /// A classifier, (N, 1 or 3, H, W) → (N, K), to count the classes that the samples fall into.
    #[arg(long, value_name = "C.onnx", requires = "features")]
    classifier: Option<PathBuf>,
    /// Its input, as --feature-input.
    #[arg(long, value_name = "SCALING", requires = "classifier")]
    classifier_input: Option<String>,
    /// Its output [default: probabilities or logits, else the first].
    #[arg(long, value_name = "NAME", requires = "classifier")]
    classifier_output: Option<String>,
    /// Measure by the network that the run learned by all the same.
    #[arg(long, requires = "features")]
    judge_is_teacher: bool,
    /// Draw some samples beside the training pictures that they are nearest to.
    #[arg(long, value_name = "F.png", requires = "features")]
    neighbours: Option<PathBuf>,
    /// Resamples for the spread of the Fréchet distance; 0: none.
    #[arg(long, value_name = "N", default_value_t = RESAMPLES)]
    resamples: usize,
    /// Where features of pictures, and decoded pictures, are kept for the next time [default: edgegen in the user's
    /// cache folder].
    #[arg(long, value_name = "FOLDER")]
    cache: Option<PathBuf>,
    /// Keep neither.
    #[arg(long, conflicts_with = "cache")]
    no_cache: bool,
}

impl Judge {
    /// Refuses a judge that has taught what it judges, which `problem` says, unless it is asked for; returns whether it has.
    pub(super) fn allowed(&self, problem: Option<String>) -> Result<bool> {
        match problem {
            Some(problem) if !self.judge_is_teacher => bail!(
                "{problem}; give another network, or --judge-is-teacher to measure all the same, and the card says so"
            ),
            problem => Ok(problem.is_some()),
        }
    }

    /// What is asked for, with the network `features`; `seed` decides subsets and resamples.
    pub(super) fn options(&self, features: PathBuf, seed: u64) -> Result<Options> {
        if self.resamples > MOST_RESAMPLES {
            bail!("--resamples is {}; it takes 0 to {MOST_RESAMPLES}", self.resamples);
        }
        if let Some(path) = &self.neighbours {
            super::check_png(path)?;
        }
        let network =
            |path: PathBuf, output: &Option<String>, input: &Option<String>| -> Result<NetworkChoice> {
                let scaling = input.as_deref().map(str::parse::<Scaling>).transpose()?;
                Ok(NetworkChoice { path, output: output.clone(), scaling })
            };
        let features = network(features, &self.feature_output, &self.feature_input)?;
        let (output, input) = (&self.classifier_output, &self.classifier_input);
        let classifier = self.classifier.clone().map(|path| network(path, output, input)).transpose()?;
        Ok(Options {
            classifier,
            split: match self.split {
                SplitName::Train => Split::Train,
                SplitName::Validation => Split::Validation,
                SplitName::Test => Split::Test,
            },
            pictures: self.pictures,
            resamples: self.resamples,
            seed,
            cache: if self.no_cache { None } else { self.cache.clone().or_else(cache::default_folder) },
            neighbours: self.neighbours.clone(),
            ..Options::new(features)
        })
    }
}

/// Measures, with a bar while it lasts.
pub(super) fn measure(samples: &Samples, dataset: &Dataset, options: &Options) -> Result<Report> {
    let bar = Progress::new();
    let report =
        evaluate_samples(samples, dataset, options, &|what, done, total| bar.add(what, done, total))?;
    bar.bar.finish_and_clear();
    Ok(report)
}

/// Prints a report as a table.
pub(super) fn show(report: &Report, samples: &Samples, dataset: &Dataset, options: &Options) {
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
    if let Some(path) = &options.neighbours {
        say!(
            "{}: per row a sample, its {NEIGHBOURS} nearest training pictures by features, and by pixels; the lower half shows the samples that are nearest to one",
            path.display()
        );
    }
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
