//! Everything that is measured of samples, in one call: [`evaluate_samples`].

use std::path::PathBuf;
use std::time::Instant;

use edgegen_runtime::files::check_writable;
use edgegen_runtime::model::ImageShape;
use serde::{Deserialize, Serialize};

use super::cache::{self, Reference, pictures_sha256};
use super::distance::{
    Bootstrap, DENSITY_NEIGHBOURS, KernelDistance, Manifolds, Moments, PRECISION_NEIGHBOURS, Root, SUBSET,
    SUBSETS, between_halves, bootstrap, kernel_distance, manifolds,
};
use super::features::{Extractor, NetworkChoice, Purpose, RESIZING, ScalingSource};
use super::modes::{Modes, check_requested};
use super::neighbours::Neighbours;
use super::samples::Samples;
use super::scattered;
use crate::data::{Dataset, Pictures};
use crate::{Error, Result};

/// Resamples of the Fréchet distance unless the caller says otherwise.
pub const RESAMPLES: usize = 20;
/// Most rows of each side that precision, recall, density and coverage are computed of.
pub const MANIFOLD_ROWS: usize = 5_000;

/// A part of a data set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// What was learned from.
    #[default]
    Train,
    /// What was chosen by.
    Validation,
    /// What neither has seen.
    Test,
}

impl Split {
    /// The part of `dataset`.
    pub fn of(self, dataset: &Dataset) -> &Pictures {
        match self {
            Self::Train => &dataset.train,
            Self::Validation => &dataset.validation,
            Self::Test => &dataset.test,
        }
    }

    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

/// What to measure, and with what.
#[derive(Clone, Debug)]
pub struct Options {
    /// The network whose features are compared.
    pub features: NetworkChoice,
    /// The classifier that modes are counted by.
    pub classifier: Option<NetworkChoice>,
    /// The pictures to compare with.
    pub split: Split,
    /// How many of them, drawn at random but always the same; 0: all.
    pub pictures: usize,
    /// Resamples of the Fréchet distance; fewer than 2: no spread.
    pub resamples: usize,
    /// Decides subsets and resamples.
    pub seed: u64,
    /// The folder where features of pictures are kept; `None`: they are not.
    pub cache: Option<PathBuf>,
    /// The PNG of nearest training pictures to write.
    pub neighbours: Option<PathBuf>,
}

impl Options {
    /// Everything but classifier, neighbours and cache, against all training pictures.
    pub fn new(features: NetworkChoice) -> Self {
        Self {
            features,
            classifier: None,
            split: Split::Train,
            pictures: 0,
            resamples: RESAMPLES,
            seed: 0,
            cache: None,
            neighbours: None,
        }
    }
}

/// A set of pictures that was compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Set {
    /// Its name.
    pub name: String,
    /// Pictures.
    pub count: usize,
    /// Channels, height, width.
    pub shape: [usize; 3],
    /// SHA-256 of shape and pixels, hex.
    pub sha256: String,
}

/// A network that looked at them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkReport {
    /// What its features are called.
    pub name: String,
    /// SHA-256 of its file, hex.
    pub sha256: String,
    /// The output that was read.
    pub output: String,
    /// Values per picture.
    pub dimension: usize,
    /// Channels, height, width of its input.
    pub input: [usize; 3],
    /// Scaling of its input.
    pub scaling: String,
    /// Who said so: `given`, `metadata` or `assumed`.
    pub scaling_source: String,
    /// How pictures came to its size.
    pub resizing: String,
}

impl NetworkReport {
    fn of(extractor: &Extractor) -> Self {
        let network = extractor.network();
        Self {
            name: extractor.name(),
            sha256: network.sha256().to_string(),
            output: network.output().to_string(),
            dimension: network.dimension(),
            input: sides(network.image_shape()),
            scaling: extractor.scaling().to_string(),
            scaling_source: extractor.scaling_source().word().to_string(),
            resizing: RESIZING.to_string(),
        }
    }
}

/// Everything that was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What was judged.
    pub samples: Set,
    /// What it was compared with.
    pub reference: Set,
    /// Which part of its data set that is.
    pub split: Split,
    /// The network whose features were compared.
    pub features: NetworkReport,
    /// Fréchet distance (squared); see [`super::distance::frechet`].
    pub frechet: f64,
    /// Its spread over resampled samples.
    pub frechet_bootstrap: Option<Bootstrap>,
    /// Fréchet distance between two random halves of the reference, by chance alone; `None` for a handful.
    pub frechet_between_halves: Option<f64>,
    /// Kernel distance; see [`kernel_distance`].
    pub kernel: KernelDistance,
    /// Precision and recall, density and coverage; `None` for a handful of pictures.
    pub manifolds: Option<Manifolds>,
    /// Nearest training pictures.
    pub neighbours: Option<Neighbours>,
    /// The classifier.
    pub classifier: Option<NetworkReport>,
    /// How samples spread over its classes.
    pub modes: Option<Modes>,
    /// What subsets and resamples were drawn by.
    pub seed: u64,
    /// Seconds that it took.
    pub seconds: f64,
    /// What a reader should know.
    pub remarks: Vec<String>,
}

impl Report {
    /// What the Fréchet distance is called: with its features and its numbers of pictures, on which it depends.
    pub fn frechet_name(&self) -> String {
        format!(
            "Fréchet distance on {} features ({} samples against {} pictures of {})",
            self.features.name,
            self.samples.count,
            self.reference.count,
            self.split.word()
        )
    }

    /// The report as lines of a table, remarks last.
    pub fn lines(&self) -> Vec<String> {
        let name = &self.features.name;
        let mut rows = Vec::new();
        let mut add = |name: String, figure: String| rows.push((name, figure));
        let spread = match &self.frechet_bootstrap {
            Some(bootstrap) => {
                format!(" ± {} (bootstrap, {} resamples)", short(bootstrap.deviation), bootstrap.resamples)
            }
            None => String::new(),
        };
        add(self.frechet_name(), format!("{}{spread}", short(self.frechet)));
        if let Some(distance) = self.frechet_between_halves {
            let half = self.reference.count / 2;
            let name =
                format!("the same between random halves of {} ({half} against {half})", self.split.word());
            add(name, short(distance));
        }
        let kernel = &self.kernel;
        add(
            format!("kernel distance on {name} features, × 1000"),
            format!(
                "{} ± {} (deviation of {} subsets of {})",
                short(1e3 * kernel.mean),
                short(1e3 * kernel.deviation),
                kernel.subsets,
                kernel.subset_size
            ),
        );
        if let Some(found) = &self.manifolds {
            let of = |k| format!("(k = {k}, {} of each)", found.rows);
            let two = |a: f64, b: f64, k| format!("{a:.3} and {b:.3} {}", of(k));
            add("precision and recall".into(), two(found.precision, found.recall, PRECISION_NEIGHBOURS));
            add("density and coverage".into(), two(found.density, found.coverage, DENSITY_NEIGHBOURS));
        }
        if let Some(found) = &self.neighbours {
            add(
                format!("distance to the nearest training picture, median of {}", found.searched),
                format!(
                    "{} (training pictures among themselves: {})",
                    short(found.median),
                    short(found.median_within_training)
                ),
            );
        }
        if let (Some(modes), Some(classifier)) = (&self.modes, &self.classifier) {
            let figure =
                format!("{} of {} (with at least {} samples each)", modes.hit, modes.classes, modes.fewest);
            add(format!("classes hit, by {}", classifier.name), figure);
            let largest = (modes.classes as f64).ln();
            add("entropy over classes".into(), format!("{:.3} of at most {largest:.3} nats", modes.entropy));
            if let Some(share) = modes.as_requested {
                add("of the requested class".into(), format!("{:.1} %", 100.0 * share));
            }
        }
        let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        let mut lines: Vec<String> =
            rows.into_iter().map(|(name, figure)| format!("{name:<width$}  {figure}")).collect();
        lines.extend(self.remarks.iter().map(|remark| format!("note: {remark}")));
        lines
    }
}

/// About four significant digits.
fn short(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.1}"),
        middle if middle >= 1.0 => format!("{value:.3}"),
        _ => format!("{value:.4}"),
    }
}

fn sides(shape: ImageShape) -> [usize; 3] {
    [shape.channels, shape.height, shape.width]
}

/// Measures `samples` against a part of `dataset`.
///
/// `progress` is told what is being done, how many more of it are done, and how many there are.
///
/// # Errors
/// [`Error::Config`] or the runtime's: if a network cannot be used or its scaling is contradicted, if there are
/// fewer than two samples or pictures, or if the PNG of neighbours cannot be written. Nothing is written before
/// everything is measured, but for the cache.
pub fn evaluate_samples(
    samples: &Samples,
    dataset: &Dataset,
    options: &Options,
    progress: &(dyn Fn(&'static str, usize, usize) + Sync),
) -> Result<Report> {
    let begun = Instant::now();
    let extractor = Extractor::open(&options.features, Purpose::Features)?;
    let classifier = options.classifier.as_ref().map(|choice| Extractor::open(choice, Purpose::Classes));
    let classifier = classifier.transpose()?;
    if let Some(classifier) = &classifier {
        check_requested(classifier.network().dimension(), samples.count(), &samples.requested)?;
    }
    if let Some(path) = &options.neighbours {
        check_writable(path)?;
    }
    let part = options.split.of(dataset);
    let pictures = chosen(part, options.pictures);
    let count = pictures.count();
    let compared = format!("{} pictures to compare with", options.split.word());
    for (count, what) in [(samples.count(), "samples"), (count, &compared)] {
        if count < 2 {
            return Err(Error::Config(format!("{count} {what} are too few: at least 2 are needed")));
        }
    }
    let mut remarks = remarks(samples, dataset, &extractor, classifier.as_ref());
    let reference_sha256 = pictures_sha256(dataset.shape, &pictures);
    let mut referred = |pictures: &Pictures, sha256: &str, what| {
        let (shape, cache) = (dataset.shape, options.cache.as_deref());
        let total = pictures.count();
        let tick = |done| progress(what, done, total);
        let (reference, note) = cache::reference(&extractor, shape, pictures, sha256, cache, &tick)?;
        remarks.extend(note.problem);
        Ok::<Reference, Error>(reference)
    };
    let reference = referred(&pictures, &reference_sha256, "features of pictures")?;
    let is_training = options.split == Split::Train && count == dataset.train.count();
    let training = match &options.neighbours {
        Some(_) if !is_training => {
            let sha256 = pictures_sha256(dataset.shape, &dataset.train);
            Some(referred(&dataset.train, &sha256, "features of training pictures")?)
        }
        _ => None,
    };
    let total = samples.count();
    let tick = |done| progress("features of samples", done, total);
    let features = extractor.features(samples.shape, samples, &tick)?;
    let moments = Moments::of(&features)?;
    let dimension = features.dimension;
    if total.min(count) <= dimension {
        remarks.push(format!(
            "{} pictures do not fill {dimension} dimensions: the Fréchet distance is too large by an amount that depends on the numbers of pictures; compare only distances of equal numbers",
            total.min(count)
        ));
    }

    let root = Root::of(&reference.moments);
    let frechet = root.distance(&moments)?;
    let tick = |done| progress("resamples", done, options.resamples);
    let frechet_bootstrap = bootstrap(&root, &features, options.resamples, options.seed, &tick)?;
    let halves = (count >= 4).then(|| between_halves(&reference.features, options.seed)).transpose()?;
    let size = SUBSET.min(total).min(count);
    let tick = |done| progress("subsets", done, SUBSETS);
    let kernel = kernel_distance(&features, &reference.features, SUBSETS, size, options.seed, &tick)?;
    let rows = MANIFOLD_ROWS.min(total).min(count);
    let manifolds = if rows > DENSITY_NEIGHBOURS {
        Some(manifolds(&features.scattered(rows), &reference.features.scattered(rows))?)
    } else {
        remarks.push(format!("{rows} pictures are too few for precision and recall"));
        None
    };
    let neighbours = match &options.neighbours {
        Some(_) => {
            let training = training.as_ref().unwrap_or(&reference);
            Some(Neighbours::find(samples, &features, &dataset.train, dataset.shape, &training.features)?)
        }
        None => None,
    };
    let modes = match &classifier {
        Some(classifier) => {
            let tick = |done| progress("classes of samples", done, total);
            let verdicts = classifier.features(samples.shape, samples, &tick)?;
            Some(Modes::count(&verdicts, &classifier.network().metadata().classes, &samples.requested)?)
        }
        None => None,
    };
    if let (Some(found), Some(path)) = (&neighbours, &options.neighbours) {
        found.draw(samples, &dataset.train, dataset.shape, path)?;
    }
    Ok(Report {
        samples: Set {
            name: samples.name.clone(),
            count: total,
            shape: sides(samples.shape),
            sha256: pictures_sha256(samples.shape, samples),
        },
        reference: Set {
            name: dataset.name.clone(),
            count,
            shape: sides(dataset.shape),
            sha256: reference_sha256,
        },
        split: options.split,
        features: NetworkReport::of(&extractor),
        frechet,
        frechet_bootstrap,
        frechet_between_halves: halves,
        kernel,
        manifolds,
        neighbours,
        classifier: classifier.as_ref().map(NetworkReport::of),
        modes,
        seed: options.seed,
        seconds: begun.elapsed().as_secs_f64(),
        remarks,
    })
}

/// `most` pictures of a part, see [`scattered`]; 0: all.
fn chosen(part: &Pictures, most: usize) -> Pictures {
    if most == 0 || most >= part.count() {
        return part.clone();
    }
    part.chosen(scattered(part.count(), most))
}

fn remarks(
    samples: &Samples,
    dataset: &Dataset,
    extractor: &Extractor,
    classifier: Option<&Extractor>,
) -> Vec<String> {
    let mut remarks = Vec::new();
    for (extractor, option) in [(Some(extractor), "--feature-input"), (classifier, "--classifier-input")] {
        let Some(extractor) = extractor else { continue };
        if extractor.scaling_source() == ScalingSource::Assumed {
            remarks.push(format!(
                "{} does not say how its input is scaled: {} (level / 255) is assumed; {option} says otherwise",
                extractor.path().display(),
                extractor.scaling()
            ));
        }
    }
    if samples.shape != dataset.shape {
        remarks.push(format!(
            "samples are {}, pictures of {} {}: each is resized to the network's input on its own",
            samples.shape, dataset.name, dataset.shape
        ));
    }
    remarks
}
