//! `edgegen-train data PATH`, and the flags of every command that loads pictures.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use edgegen_trainer::data::{
    self, Dataset, Dimensions, Fit, GroupBy, HeldOut, LoadOptions, Mirror, Pictures, Size,
};
use edgegen_trainer::evaluate::cache;
use edgegen_trainer::train::config::DataConfig;
use edgegen_trainer::train::pictures::write_grid;
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;

/// Pictures of a contact sheet.
const SHEET: usize = 100;

/// How files become a data set.
#[derive(clap::Args)]
pub(super) struct Loading {
    /// Size that a folder's images are brought to, in pixels: a side, 64, or WIDTHxHEIGHT, 128x64.
    #[arg(long, value_name = "SIZE")]
    pub(super) size: Option<Size>,
    /// Make a folder's images grey.
    #[arg(long)]
    pub(super) gray: bool,
    /// How images of other proportions come to the size's: crop the centre, pad with white, or stretch.
    #[arg(long, value_name = "crop|pad|stretch")]
    fit: Option<Fit>,
    /// Hold out variants of one drawing together: prefix:_ (the same name before its last _), folder (the same
    /// folder) or regex:(…) (the same text of the first group, searched in the path below the data folder).
    #[arg(long, value_name = "RULE")]
    group_by: Option<GroupBy>,
    /// Share of the training pictures to hold out as validation pictures [default: none for a GAN; otherwise 0.05 of
    /// a folder's, at least 8 of 40, and a twelfth of an IDX set's].
    #[arg(long, value_name = "SHARE|auto")]
    held_out: Option<HeldOut>,
}

/// Where decoded pictures are kept.
#[derive(clap::Args)]
pub(super) struct Caching {
    /// Where decoded pictures are kept for the next time [default: edgegen in the user's cache folder].
    #[arg(long, value_name = "FOLDER")]
    cache: Option<PathBuf>,
    /// Keep no decoded pictures.
    #[arg(long, conflicts_with = "cache")]
    no_cache: bool,
}

impl Caching {
    /// The folder, if there is one.
    pub(super) fn folder(&self) -> Option<PathBuf> {
        if self.no_cache { None } else { self.cache.clone().or_else(cache::default_folder) }
    }
}

impl Loading {
    /// Whether size or colour were given.
    pub(super) fn has_look(&self) -> bool {
        self.size.is_some() || self.gray
    }

    /// Settings of a configuration, as far as they were given.
    pub(super) fn apply(&self, config: &mut DataConfig) {
        fn replace<T: Clone>(target: &mut T, value: &Option<T>) {
            if let Some(value) = value {
                target.clone_from(value);
            }
        }
        replace(&mut config.size, &self.size);
        config.gray |= self.gray;
        replace(&mut config.fit, &self.fit);
        replace(&mut config.group_by, &self.group_by);
        replace(&mut config.held_out, &self.held_out);
    }

    /// For pictures of this size, unless another was given.
    pub(super) fn options(&self, size: Size, cache: Option<PathBuf>) -> LoadOptions {
        LoadOptions {
            gray: self.gray,
            fit: self.fit.unwrap_or_default(),
            group_by: self.group_by.clone().unwrap_or_default(),
            held_out: self.held_out.unwrap_or_default(),
            cache,
            ..LoadOptions::new(self.size.unwrap_or(size))
        }
    }
}

/// Loads a data set with a bar while files are decoded.
pub(super) fn load(path: Option<&Path>, options: &LoadOptions) -> Result<Dataset> {
    watched(|progress| data::load(path, options, progress))
}

/// Calls `load` with a bar while files are decoded.
pub(super) fn watched(
    load: impl FnOnce(&data::Progress<'_>) -> edgegen_trainer::Result<Dataset>,
) -> Result<Dataset> {
    let style = ProgressStyle::with_template("reading pictures {wide_bar} {pos}/{len}, {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(0).with_style(style);
    let loaded = load(&|_, total| {
        bar.set_length(total as u64);
        bar.inc(1);
    });
    bar.finish_and_clear();
    Ok(loaded?)
}

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A folder of images or of IDX files, or a file of an IDX set; without it: the set inside the program.
    path: Option<PathBuf>,
    #[command(flatten)]
    loading: Loading,
    /// Mirror training pictures at random [default: auto, where it does no harm].
    #[arg(long, value_name = "yes|no|auto")]
    mirror: Option<Mirror>,
    #[command(flatten)]
    caching: Caching,
    /// The contact sheet of training pictures to write.
    #[arg(long, value_name = "F.png", default_value = "contact-sheet.png")]
    sheet: PathBuf,
}

/// Prints counts, sizes, classes, the split and statistics; draws a contact sheet.
pub(super) fn run(arguments: Arguments) -> Result<()> {
    let mut options = arguments.loading.options(Size::square(64), arguments.caching.folder());
    options.size.check().map_err(|problem| anyhow::anyhow!("--size {problem}"))?;
    options.mirror = arguments.mirror.unwrap_or_default();
    super::check_png(&arguments.sheet)?;
    let begun = Instant::now();
    let dataset = load(arguments.path.as_deref(), &options)?;
    let seconds = begun.elapsed().as_secs_f64();
    say!("{}: pictures of {} (channels x height x width)", dataset.name, dataset.shape);
    if let Some(Dimensions { smallest, median, largest }) = dataset.facts.dimensions {
        let size = |(width, height): (u32, u32)| format!("{width}x{height}");
        say!(
            "  in files of {} to {} pixels, median {}; brought to size by {}",
            size(smallest),
            size(largest),
            size(median),
            options.fit
        );
    }
    for (name, part) in parts(&dataset) {
        if part.count() == 0 {
            say!("  {name:<10}    none");
            continue;
        }
        let (mean, deviation) = statistics(part);
        say!("  {name:<10} {:>7} pictures, mean {mean:.4}, deviation {deviation:.4}", part.count());
    }
    if dataset.validation.count() > 0 {
        say!("  a GAN learns from validation pictures too, unless --held-out gives a share");
    }
    if dataset.classes.is_empty() {
        say!("  no classes");
    } else {
        say!("  {} classes (training, validation, test pictures):", dataset.classes.len());
        let counts = parts(&dataset).map(|(_, part)| {
            let mut counts = vec![0usize; dataset.classes.len()];
            part.labels().iter().for_each(|label| counts[usize::from(*label)] += 1);
            counts
        });
        for (label, class) in dataset.classes.iter().enumerate() {
            let [train, validation, test] = [0, 1, 2].map(|part| counts[part][label]);
            say!("    {class:<24} {train:>7} {validation:>6} {test:>6}");
        }
    }
    let mirroring = &dataset.mirroring;
    say!("  mirrored in training: {}, {}", if mirroring.on { "yes" } else { "no" }, mirroring.why);
    for line in remarks(&dataset) {
        say!("  {line}");
    }
    let decoded = dataset.facts.decoded;
    let source = match dataset.facts.dimensions {
        Some(_) if decoded == 0 => ", all decoded before".into(),
        Some(_) => format!(", {decoded} files decoded"),
        None => String::new(),
    };
    say!("  loaded in {seconds:.2} s{source}");
    let count = dataset.train.count();
    let shown = SHEET.min(count);
    // evenly spread, so that every class comes into view
    let frames: Vec<_> =
        (0..shown).map(|i| dataset.frame(dataset.train.picture(i * count / shown))).collect();
    write_grid(&frames, None, &arguments.sheet)?;
    say!("  contact sheet: {}", arguments.sheet.display());
    Ok(())
}

fn parts(dataset: &Dataset) -> [(&'static str, &Pictures); 3] {
    [("training", &dataset.train), ("validation", &dataset.validation), ("test", &dataset.test)]
}

/// Mean and standard deviation of all values, in [0, 1].
fn statistics(pictures: &Pictures) -> (f64, f64) {
    let counted = |index: usize, mut counts: Vec<u64>| {
        pictures.picture(index).iter().for_each(|value| counts[usize::from(*value)] += 1);
        counts
    };
    let counts = (0..pictures.count())
        .into_par_iter()
        .fold(|| vec![0u64; 256], |counts, index| counted(index, counts))
        .reduce(|| vec![0u64; 256], |a, b| a.iter().zip(b).map(|(a, b)| a + b).collect());
    let total = counts.iter().sum::<u64>().max(1) as f64;
    let weighted = |f: &dyn Fn(f64) -> f64| {
        counts.iter().enumerate().map(|(value, count)| f(value as f64 / 255.0) * *count as f64).sum::<f64>()
            / total
    };
    let mean = weighted(&|value| value);
    (mean, weighted(&|value| (value - mean).powi(2)).sqrt())
}

/// Lines about what was not used, or not as one might think: skipped files by reason, each with the first of them.
pub(super) fn remarks(dataset: &Dataset) -> Vec<String> {
    let mut by_reason: BTreeMap<&str, Vec<&Path>> = BTreeMap::new();
    for (path, reason) in &dataset.skipped {
        by_reason.entry(reason).or_default().push(path);
    }
    let line = |(reason, paths): (&str, Vec<&Path>)| match paths[..] {
        [only] => format!("skipped {}: {reason}", only.display()),
        _ => format!("skipped {} files, the first {}: {reason}", paths.len(), paths[0].display()),
    };
    by_reason.into_iter().map(line).chain(dataset.remarks.iter().cloned()).collect()
}
