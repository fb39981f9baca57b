//! Training a GAN, and watching over it.

use crate::random::{Purpose, Stream};
use edgegen_runtime::generate::Latents;
use edgegen_runtime::model::{ImageShape, Range};

use super::{Learner, Moment, Shown, Step, Stepped, Stop, Verdict, coded};
use crate::compute::{Backend, Lanes, Network};
use crate::data::{self, Dataset, Pictures};
use crate::evaluate::features::NetworkChoice;
use crate::graph::Parameter;
use crate::graph::family::{self, Sees};
use crate::graph::teacher::DESCRIPTOR;
use crate::objective::feature_loss::FeatureLoss;
use crate::objective::gan::codes::{Codes, principal};
use crate::objective::gan::loss::Loss;
use crate::objective::gan::matching::{self, Rule};
use crate::objective::gan::{Example, Gan, GanConfig, Known, Pace};
use crate::train::checkpoint::{self, Checkpoint, Moments, Position};
use crate::train::config::Config;
use crate::train::folder::RunFolder;
use crate::train::init::{Taken, Weights, latent_batches, refit_norms};
use crate::train::metrics::Figures;
use crate::train::pictures::{self, Curve, Drawer, Panel, SAMPLES, Source};
use crate::train::quality::{self, Quality, thinned};
use crate::train::teacher;
use crate::{Error, Result};

/// Latents that batch norm's statistics are estimated from where a generator is used.
const STATISTICS: usize = 4096;
/// The same while a run goes on.
const STATISTICS_WHILE_TRAINING: usize = 512;
/// Latents of one batch of these.
const STATISTICS_BATCH: usize = 128;
/// Seed of the latents of these.
const STATISTICS_SEED: u64 = 0;
/// Real pictures that are described at once.
const DESCRIBED_BATCH: usize = 1024;
/// Share of the data's diversity below which samples are nearly alike.
const COLLAPSED: f64 = 0.3;
/// Accuracy of D on real and drawn pictures, both, above which G has little to learn from.
const OVERWHELMED: f64 = 0.99;
/// The run's own discriminator becomes the judge after one in so many of its steps.
const FROZEN_AT: u64 = 10;
/// Distances are measured after one in so many of its steps.
const MEASURED_FROM: u64 = 20;
/// Norm of G's gradient, over a report's steps, below which it does not move.
const STILL: f64 = 1e-6;

pub(super) struct GanLearner<B: Backend> {
    backend: B,
    config: Config,
    gan: Gan<B>,
    /// How much the training pictures differ, see [`diversity`].
    data_diversity: f64,
    objective: GanConfig,
    judge: Judge<B>,
    matches: Option<Matches>,
    round: Option<Round>,
}

/// What ranks the reports.
enum Judge<B: Backend> {
    /// It has not been looked for yet.
    Unknown,
    /// The run's own discriminator will, once it has learned something.
    Awaited,
    /// It does.
    Ready(Box<Quality<B>>),
}

impl<B: Backend> GanLearner<B> {
    pub(super) fn new(backend: &B, config: Config, objective: GanConfig, dataset: &Dataset) -> Result<Self> {
        let classes = config.classes(dataset)?.len();
        let (network, seed) = (&config.network, config.training.seed);
        let mut gan = Gan::new(backend, network, &objective, config.adam, dataset.shape, classes, seed)?;
        if objective.discriminator_sees == Sees::Features {
            gan.see_features(
                teacher::features(&objective.features, objective.features_side, dataset.shape)?,
                classes,
                seed,
            )?;
        }
        if objective.matches() {
            gan.match_by(&teacher::of(&objective.features, objective.features_side, dataset.shape)?)?;
        }
        if let (Some(_), 1..) = (gan.feature_loss(), network.codes) {
            let values = vec![0.0; 2 * dataset.train.count() * network.latent]; // see `begin`
            let chosen = coded(network, dataset);
            let own = if classes > 0 { dataset.train.classes(chosen.iter().copied()) } else { None };
            let mapping = family::mapping(network, classes)?.initialise(seed, 0);
            let mapped = chosen.into_iter().map(|picture| 2 * picture).collect();
            gan.learn_codes(Codes::new(backend, &mapping, values, mapped, own.unwrap_or_default())?)?;
        }
        let chosen = like_samples(&dataset.train, classes);
        let pictures = data::batch(Range::Signed, dataset.shape, &dataset.train, chosen.into_iter());
        let data_diversity = diversity(&pictures, dataset.shape.values(), classes.max(1));
        if !objective.judge.is_empty() {
            quality::open(&objective.judge)?; // refused before anything is written
            let judge: NetworkChoice = objective.judge.parse()?;
            if let Some(problem) = teacher::taught_by(&config.objective, &judge.path)? {
                return Err(Error::Config(format!("{problem}; give another network with --judge")));
            }
        }
        let backend = backend.clone();
        Ok(Self {
            backend,
            config,
            gan,
            data_diversity,
            objective,
            judge: Judge::Unknown,
            matches: None,
            round: None,
        })
    }

    /// What ranks this report: found when a report first asks for it.
    fn quality(&mut self, moment: &Moment<'_>) -> Result<Option<&Quality<B>>> {
        let (dataset, path) = (moment.dataset, moment.folder.judge());
        if let Judge::Unknown = self.judge {
            let network = self.gan.discriminator.clone();
            let found = match Quality::given(&self.config.objective, &self.objective.judge, dataset)? {
                Some(given) => Some(given),
                None => Quality::read(&path, network, moment.step, dataset)?,
            };
            self.judge = found.map_or(Judge::Awaited, |quality| Judge::Ready(Box::new(quality)));
        }
        // without an adversary the discriminator has learned nothing: the last weights are used
        if let Judge::Awaited = self.judge
            && self.objective.loss != Loss::Matching
            && moment.step * FROZEN_AT >= moment.total
        {
            let own = Quality::own(self.gan.normalised_discriminator()?, moment.step, dataset)?;
            if let Some(own) = own {
                own.store(&path)?;
                self.judge = Judge::Ready(Box::new(own));
            }
        }
        Ok(match &self.judge {
            Judge::Ready(quality) => Some(quality),
            _ => None,
        })
    }

    /// Stores the moving average at every twelfth of the run.
    fn take_snapshot(&self, moment: &Moment<'_>) -> Result<()> {
        let twelfth = |step: u64| u128::from(step) * 12 / u128::from(moment.total.max(1));
        let taken = moment.folder.snapshots();
        let before = taken.iter().copied().filter(|step| *step < moment.step).max().unwrap_or(0);
        if moment.step != moment.total && twelfth(before) == twelfth(moment.step) {
            return Ok(());
        }
        moment.folder.make_snapshots()?;
        let position = Position { step: moment.step, ..Position::default() };
        let bytes = checkpoint::encode(&self.gan.average.parameters()?, &Moments::new(), &position)?;
        checkpoint::save(&moment.folder.snapshot(moment.step), &bytes)?;
        let taken = moment.folder.snapshots();
        let kept = thinned(taken.clone());
        for step in taken.into_iter().filter(|step| !kept.contains(step)) {
            let path = moment.folder.snapshot(step);
            std::fs::remove_file(&path).map_err(|e| Error::io("remove", &path, e))?;
        }
        Ok(())
    }

    /// The moving average with statistics of its own.
    fn average(&self) -> Result<Network<B>> {
        let mut average = self.gan.average.clone();
        if self.gan.codes().is_none() {
            estimate_statistics(&mut average, STATISTICS_WHILE_TRAINING)?;
        }
        Ok(average)
    }

    /// What is known of the latents that should draw a step's pictures.
    fn known(&mut self, at: &Step<'_>, dataset: &Dataset) -> Result<Option<Found>> {
        let GanConfig { matching_every, matching_jitter, .. } = self.objective;
        if !self.objective.matches() {
            return Ok(None);
        }
        let seed = self.config.training.seed;
        let mut jitter = Stream::new(seed, Purpose::Jitter, at.step);
        if self.gan.codes().is_some() {
            if at.step.is_multiple_of(matching_every) && self.objective.is_adversarial(at.progress) {
                self.gan.map_codes()?;
            }
            let mirrored = data::mirrored(dataset, at.indices.len(), seed, at.step);
            let numbers: Vec<usize> = at
                .indices
                .iter()
                .zip(mirrored)
                .map(|(index, mirrored)| 2 * index + usize::from(mirrored))
                .collect();
            let mut noise = vec![0f32; numbers.len() * self.config.network.latent];
            jitter.fill_normal(&mut noise);
            noise.iter_mut().for_each(|value| *value *= matching_jitter as f32);
            return Ok(Some(Found::Codes { numbers, noise }));
        }
        let number = at.step / matching_every;
        let round = match self.round.take().filter(|round| round.number == number) {
            Some(round) => round,
            None => Round::draw(&self.config, &self.objective, dataset, number),
        };
        let matches = match self.matches.take().filter(|matches| matches.round == number) {
            Some(matches) => matches,
            None => round.matches(&self.gan, &self.objective, dataset)?,
        };
        let real = round.pictures(dataset, at.indices);
        let mut latents = Vec::with_capacity(at.indices.len() * round.latent);
        for index in at.indices {
            latents.extend_from_slice(
                &round.latents[matches.samples[*index] as usize * round.latent..][..round.latent],
            );
        }
        let kept = (1.0 - matching_jitter * matching_jitter).sqrt() as f32;
        latents.iter_mut().for_each(|z| *z = kept * *z + matching_jitter as f32 * jitter.normal());
        (self.matches, self.round) = (Some(matches), Some(round));
        Ok(Some(Found::Samples { real, latents }))
    }

    fn classes(&self, dataset: &Dataset, indices: &[usize]) -> Option<Vec<u32>> {
        self.config.network.conditional.then(|| dataset.train.classes(indices.iter().copied()))?
    }
}

/// What a step knows of latents, see [`Known`].
enum Found {
    Samples { real: Vec<f32>, latents: Vec<f32> },
    Codes { numbers: Vec<usize>, noise: Vec<f32> },
}

/// First codes of all training pictures and of their mirror images, which follow each.
fn first_codes<B: Backend>(
    feature_loss: &FeatureLoss<B>,
    dataset: &Dataset,
    size: usize,
) -> Result<Vec<f32>> {
    let count = dataset.train.count();
    let all: Vec<usize> = (0..count).collect();
    let mut sides = [Vec::new(), Vec::new()];
    for (mirrored, side) in sides.iter_mut().enumerate() {
        if mirrored == 1 && !dataset.mirroring.on {
            break;
        }
        for indices in all.chunks(DESCRIBED_BATCH) {
            let pictures = data::mirrored_batch(Range::Signed, dataset, indices, |_| mirrored == 1);
            side.extend(feature_loss.describe(&pictures)?);
        }
    }
    let descriptors: Vec<f32> = sides.concat();
    let codes = principal(&descriptors, DESCRIPTOR, size);
    let (own, others) = codes.split_at(count * size);
    // where nothing is mirrored, every second code is of no picture
    let mut interleaved = Vec::with_capacity(2 * codes.len());
    for (index, own) in own.chunks(size).enumerate() {
        interleaved.extend_from_slice(own);
        interleaved.extend_from_slice(others.get(index * size..(index + 1) * size).unwrap_or(own));
    }
    Ok(interleaved)
}

/// The samples that real pictures, or their codes, were matched with.
struct Matches {
    /// At which time.
    round: u64,
    /// For each a row of the round's latents.
    samples: Vec<u32>,
}

impl Matches {
    /// As it is stored.
    fn parameter(&self) -> Parameter {
        let value: Vec<f32> = self.samples.iter().map(|sample| *sample as f32).collect();
        Parameter { name: "matching.samples".into(), shape: vec![value.len()], value, trained: false }
    }
}

/// What decides a round of matching besides the generator.
struct Round {
    number: u64,
    seed: u64,
    /// (P, L), the pools of the classes one after the other.
    latents: Vec<f32>,
    /// L.
    latent: usize,
    /// (P), if there are classes.
    classes: Option<Vec<u32>>,
    /// For each training picture whether it is mirrored.
    mirrored: Vec<bool>,
}

impl Round {
    fn draw(config: &Config, objective: &GanConfig, dataset: &Dataset, number: u64) -> Self {
        let (seed, latent, count) = (config.training.seed, config.network.latent, dataset.train.count());
        let mut chance = Stream::new(seed, Purpose::Match, number);
        let mirrored = (0..count).map(|_| dataset.mirroring.on && chance.below(2) == 1).collect();
        let classes = config.network.conditional.then(|| {
            let mut of_class = vec![0usize; dataset.classes.len()];
            dataset.train.labels().iter().for_each(|label| of_class[usize::from(*label)] += 1);
            let pool = |of_class: usize| (objective.matching_pool * of_class).div_ceil(count.max(1));
            let classes = of_class.iter().enumerate();
            classes.flat_map(|(class, count)| vec![class as u32; pool(*count)]).collect::<Vec<u32>>()
        });
        let size = classes.as_ref().map_or(objective.matching_pool, Vec::len);
        let mut latents = vec![0f32; size * latent];
        chance.fill_normal(&mut latents);
        Self { number, seed, latents, latent, classes, mirrored }
    }

    /// The training pictures `indices` as they are in this round, (N, C, H, W).
    fn pictures(&self, dataset: &Dataset, indices: &[usize]) -> Vec<f32> {
        data::mirrored_batch(Range::Signed, dataset, indices, |index| self.mirrored[index])
    }

    fn matches<B: Backend>(&self, gan: &Gan<B>, objective: &GanConfig, dataset: &Dataset) -> Result<Matches> {
        let count = dataset.train.count();
        let mut samples = vec![0u32; count];
        let Some(feature_loss) = gan.feature_loss() else {
            return Ok(Matches { round: self.number, samples });
        };
        let rule = Rule { rejection: objective.matching_rejection, distinct: objective.matching_distinct };
        let all: Vec<usize> = (0..count).collect();
        let mut real = Vec::with_capacity(count * DESCRIPTOR);
        for indices in all.chunks(DESCRIBED_BATCH) {
            real.extend(feature_loss.describe(&self.pictures(dataset, indices))?);
        }
        let pool = feature_loss.describe_drawn(&gan.generator, &self.latents, self.classes.as_deref())?;
        let mut chance = Stream::new(self.seed, Purpose::Match, u64::MAX - 1 - self.number);
        let Some(classes) = &self.classes else {
            let samples = matching::assign(DESCRIPTOR, &real, &pool, rule, &mut chance);
            return Ok(Matches { round: self.number, samples });
        };
        for class in 0..dataset.classes.len() as u32 {
            let first = classes.partition_point(|own| *own < class);
            let end = classes.partition_point(|own| *own <= class);
            let own: Vec<usize> =
                (0..count).filter(|picture| u32::from(dataset.train.labels()[*picture]) == class).collect();
            let rows: Vec<f32> =
                own.iter().flat_map(|picture| &real[picture * DESCRIPTOR..][..DESCRIPTOR]).copied().collect();
            let pool = &pool[first * DESCRIPTOR..end * DESCRIPTOR];
            let found = matching::assign(DESCRIPTOR, &rows, pool, rule, &mut chance);
            own.iter().zip(found).for_each(|(picture, sample)| samples[*picture] = first as u32 + sample);
        }
        Ok(Matches { round: self.number, samples })
    }
}

/// Samples that diversity is measured of: several of each class, if there are any.
fn compared(classes: usize) -> usize {
    SAMPLES.next_multiple_of(classes.max(1)).max(2 * classes)
}

/// Training pictures in the order in which samples are drawn: at random, classes in turn.
fn like_samples(pictures: &Pictures, classes: usize) -> Vec<usize> {
    let order = Stream::new(STATISTICS_SEED, Purpose::Order, 0).permutation(pictures.count() as u32);
    let order = || order.iter().map(|index| *index as usize);
    if classes == 0 {
        return order().take(SAMPLES).collect();
    }
    let rounds = compared(classes) / classes;
    let of_class = |class: usize| -> Vec<usize> {
        order().filter(|index| usize::from(pictures.labels()[*index]) == class).take(rounds).collect()
    };
    let by_class: Vec<Vec<usize>> = (0..classes).map(of_class).collect();
    // a class of few pictures ends the list: a round is only used whole
    let rounds = by_class.iter().map(Vec::len).min().unwrap_or(0);
    (0..rounds).flat_map(|round| by_class.iter().map(move |class| class[round])).collect()
}

/// Root of the mean squared difference between pictures that stand `apart` in a list (N, values).
fn diversity(pictures: &[f32], values: usize, apart: usize) -> f64 {
    let rows: Vec<&[f32]> = pictures.chunks(values).collect();
    let pairs = rows.iter().zip(rows.iter().skip(apart));
    let squares = pairs
        .map(|(a, b)| a.iter().zip(*b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>() / values as f64);
    let total: f64 = squares.sum();
    (total / rows.len().saturating_sub(apart).max(1) as f64).sqrt()
}

/// What an epoch with these means, whose samples have this share of the data's diversity, gives cause to say.
///
/// `compares`: whether D compares pictures in pairs, which says nothing of how sure it is.
fn warnings(diversity: Option<f64>, epoch: &Figures, compares: bool) -> Vec<String> {
    let figure = |name: &str| epoch.get(name).copied();
    let mut warnings = Vec::new();
    if let Some(diversity) = diversity.filter(|share| *share < COLLAPSED) {
        warnings.push(format!(
            "samples differ by {:.0} % of what the pictures differ by: G may have collapsed; see samples/, and try --set objective.discriminator_norm=spectral or a lower --learning-rate",
            100.0 * diversity
        ));
    }
    if let (Some(real), Some(drawn)) = (figure("d_accuracy_real"), figure("d_accuracy_drawn"))
        && !compares
        && real.min(drawn) > OVERWHELMED
    {
        warnings.push(format!(
            "D tells {:.1} % of the pictures apart: G has little left to learn from; try --set objective.r1=1 or --set objective.augment='[\"translation\",\"cutout\"]'",
            50.0 * (real + drawn)
        ));
    }
    if let Some(norm) = figure("g_gradient").filter(|norm| *norm < STILL) {
        warnings.push(format!("G's gradient has faded to {norm:.1e}: it hardly moves any more"));
    }
    warnings
}

/// Estimates a generator's batch norm statistics from `count` latents of the prior, classes in turn: those that it
/// met in training belong to other weights than the average's.
fn estimate_statistics<B: Backend>(generator: &mut Network<B>, count: usize) -> Result<()> {
    let batches = latent_batches(&generator.graph, count / STATISTICS_BATCH, STATISTICS_BATCH);
    generator.estimate_statistics(&batches)
}

/// The generator of a checkpoint: the moving average, its statistics estimated anew.
pub(in crate::train) fn restore_average(
    config: &Config,
    image: ImageShape,
    classes: usize,
    checkpoint: &mut Checkpoint,
) -> Result<Network> {
    let generator = family::generator(&config.network, image, classes)?;
    let mut average = Network::new(&Lanes, &generator.initialise(0, 0))?.renamed("average");
    let stored = checkpoint.weights(average.graph.parameters())?;
    average.set(&stored)?;
    if config.network.codes == 0 {
        estimate_statistics(&mut average, STATISTICS)?;
    }
    average.backend().release();
    Ok(average)
}

impl<B: Backend> Learner for GanLearner<B> {
    fn begin(&mut self, dataset: &Dataset) -> Result<()> {
        if let (Some(feature_loss), Some(_)) = (self.gan.feature_loss(), self.gan.codes()) {
            let values = first_codes(feature_loss, dataset, self.config.network.latent)?;
            self.gan.begin_codes(values);
        }
        Ok(())
    }

    fn step(&mut self, at: &Step<'_>, dataset: &Dataset) -> Stepped {
        let seed = self.config.training.seed;
        let real = data::training_batch(Range::Signed, dataset, at.indices, seed, at.step);
        let mut latents = vec![0f32; at.indices.len() * self.config.network.latent];
        Stream::new(seed, Purpose::Generator, at.step).fill_normal(&mut latents);
        let classes = self.classes(dataset, at.indices);
        let known = self.known(at, dataset)?;
        let known = match &known {
            None => Known::Nothing,
            Some(Found::Samples { real, latents }) => Known::Samples(real, latents, classes.as_deref()),
            Some(Found::Codes { numbers, noise }) => Known::Codes(numbers, noise),
        };
        let example = Example { real: &real, latents: &latents, classes: classes.as_deref(), known };
        let pace = Pace { progress: at.progress, rate: at.rate, clip: self.config.training.clip };
        let mut chance = Stream::new(seed, Purpose::Augment, at.step);
        let found = self.gan.learn(&example, pace, &mut chance)?;
        if !found.finite() {
            return Err(Stop::Diverged(format!("a loss or a gradient is not finite ({found:?})")));
        }
        let mut all = Figures::new();
        let told = [
            ("d_loss", found.discriminator.map(|found| found.loss)),
            ("d_accuracy_real", found.discriminator.map(|found| found.real_accuracy)),
            ("d_accuracy_drawn", found.discriminator.map(|found| found.drawn_accuracy)),
            ("d_gradient", found.discriminator.map(|found| found.norm)),
            ("d_slope", found.discriminator.and_then(|found| found.slope)),
            ("g_loss", found.generator_loss),
            ("g_gradient", found.generator_norm),
            ("unlike", found.unlike),
        ];
        all.extend(told.into_iter().filter_map(|(name, value)| Some((name.to_string(), value?))));
        Ok(all)
    }

    fn init_from(&mut self, weights: &Weights, dataset: &Dataset) -> Result<Taken> {
        let classes = self.config.classes(dataset)?;
        let mut taken = Taken::default();
        let mut graph = self.gan.generator.host()?;
        let folded = weights.give("generator", &mut graph, &classes, &mut taken);
        if !folded.is_empty() {
            let batches =
                latent_batches(&graph, STATISTICS_WHILE_TRAINING / STATISTICS_BATCH, STATISTICS_BATCH);
            let mut generator = Network::new(&Lanes, &graph)?;
            refit_norms(&mut generator, folded, &batches)?;
            graph = generator.graph;
            Lanes.release();
        }
        self.gan.generator.set(graph.parameters())?;
        self.gan.restart_average()?;
        if self.objective.loss != Loss::Matching {
            let mut graph = self.gan.discriminator.host()?;
            weights.give("discriminator", &mut graph, &classes, &mut taken);
            self.gan.discriminator.set(graph.parameters())?;
        }
        Ok(taken)
    }

    fn judge(&mut self, moment: &Moment<'_>, train: &Figures) -> Result<Verdict> {
        let dataset = moment.dataset;
        self.gan.map_codes()?;
        self.gan.settle_codes()?;
        self.take_snapshot(moment)?;
        let average = self.average()?;
        let drawer = Drawer { network: &average, shape: dataset.shape, range: Range::Signed };
        let classes = average.classes();
        let count = compared(classes);
        let seed = self.config.training.seed;
        let latents = Latents::from_seed(seed, 0, count, drawer.latent(), 1.0);
        let values = drawer.values(latents.values(), drawer.classes(count).as_deref())?;
        self.backend.release();
        let found = diversity(&values, dataset.shape.values(), classes.max(1));
        // pictures that are all the same, or one a class, tell nothing
        let share = (self.data_diversity > 0.0).then(|| found / self.data_diversity);
        let mut verdict = Verdict {
            warnings: warnings(share, train, self.objective.loss.compares()),
            ..Verdict::default()
        };
        verdict.figures.extend(share.map(|share| ("diversity".to_string(), share)));
        // early reports come often and are never the best
        if moment.step * MEASURED_FROM >= moment.total
            && let Some(quality) = self.quality(moment)?
        {
            let figures = quality.measure(&drawer, seed)?;
            verdict.score = figures.get("frechet").map(|distance| -distance);
            verdict.features = Some(quality.name().to_string());
            verdict.figures.extend(figures);
        }
        Ok(verdict)
    }

    fn parameters(&self) -> Result<Vec<Parameter>> {
        let mut all = Vec::new();
        if let Some(matches) = &self.matches {
            all.push(matches.parameter());
        }
        all.extend(self.gan.parameters()?); // its last one tells the steps
        Ok(all)
    }

    fn moments(&self) -> Result<Moments> {
        let mut all = Moments::new();
        for (adam, network) in self.gan.optimisers() {
            all.extend(adam.moments(&[network])?);
        }
        Ok(all)
    }

    fn restore(&mut self, checkpoint: &mut Checkpoint, steps: u64, dataset: &Dataset) -> Result<()> {
        let stored = checkpoint.weights(&self.gan.parameters()?)?;
        self.gan.set_parameters(&stored)?;
        let each = self.gan.steps_of_each(steps, &stored);
        if self.objective.matches() && self.gan.codes().is_none() && steps > 0 {
            let mut matches = Matches {
                round: (steps - 1) / self.objective.matching_every,
                samples: vec![0; dataset.train.count()],
            };
            let stored = checkpoint.weights(&[matches.parameter()])?;
            matches.samples = stored[0].value.iter().map(|sample| *sample as u32).collect();
            self.matches = Some(matches);
        }
        for ((adam, network), steps) in self.gan.optimisers_mut().into_iter().zip(each) {
            adam.restore(steps, checkpoint.moments(network.graph.parameters())?)?;
        }
        Ok(())
    }

    fn draw(&self, folder: &RunFolder, step: u64, dataset: &Dataset) -> Result<Vec<Shown>> {
        let average = self.average()?;
        let drawer = Drawer { network: &average, shape: dataset.shape, range: Range::Signed };
        // a column a class, where a row can hold all
        let columns = Some(average.classes()).filter(|classes| (2..=16).contains(classes));
        let count = SAMPLES.next_multiple_of(columns.unwrap_or(1));
        let samples = drawer.samples(self.config.training.seed, count)?;
        let path = folder.picture("samples", step)?;
        pictures::write_grid(&samples, columns, &path)?;
        Ok(vec![("samples", path)])
    }

    fn panels(&self) -> Vec<Panel> {
        let of = |title: &str, keys: &[(&'static str, &'static str)]| Panel {
            title: title.into(),
            curves: keys.iter().map(|(label, key)| Curve { label, source: Source::Train, key }).collect(),
        };
        let of_samples = |title, key| Panel {
            title,
            curves: vec![Curve { label: "samples", source: Source::Validation, key }],
        };
        let distance = match &self.judge {
            Judge::Ready(quality) => format!("Fréchet distance on features of {}", quality.name()),
            _ => "Fréchet distance".into(),
        };
        vec![
            of("loss", &[("D", "d_loss"), ("G", "g_loss")]),
            of("share that D tells", &[("real", "d_accuracy_real"), ("drawn", "d_accuracy_drawn")]),
            of_samples("diversity of samples (pictures: 1)".into(), "diversity"),
            of_samples(distance, "frechet"),
        ]
    }

    fn largest_layer(&self) -> usize {
        self.gan.generator.graph.largest_value().max(self.gan.discriminator.graph.largest_value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::metrics::figures;

    #[test]
    fn a_run_that_goes_wrong_is_warned_of() {
        let epoch = |real, drawn, gradient| {
            figures([("d_accuracy_real", real), ("d_accuracy_drawn", drawn), ("g_gradient", gradient)])
        };
        assert!(warnings(Some(0.9), &epoch(0.8, 0.999, 0.3), false).is_empty());
        assert!(warnings(None, &Figures::new(), false).is_empty());
        for (found, expected) in [
            (warnings(Some(0.1), &epoch(0.8, 0.8, 0.3), false), "10 %"),
            (warnings(Some(0.9), &epoch(0.995, 0.999, 0.3), false), "99.7 %"),
            (warnings(Some(0.9), &epoch(0.8, 0.8, 1e-9), false), "faded"),
        ] {
            assert!(found.len() == 1 && found[0].contains(expected), "{found:?}");
        }
    }

    #[test]
    fn pictures_that_are_alike_have_no_diversity() {
        assert_eq!(diversity(&[0.5; 12], 4, 1), 0.0);
        let two = [[1f32; 4], [-1f32; 4]].concat();
        assert!((diversity(&two, 4, 1) - 2.0).abs() < 1e-9);
        assert_eq!(diversity(&two[..4], 4, 1), 0.0);
        // one picture a class, over and over: neighbours differ, pictures of a class do not
        assert_eq!(diversity(&two.repeat(3), 4, 2), 0.0);
    }

    #[test]
    fn training_pictures_are_compared_class_by_class() {
        let labels: Vec<u16> = (0..60).map(|index| index / 20).collect();
        let pictures = Pictures::from_rows(1, vec![0; 60], labels);
        let chosen = like_samples(&pictures, 3);
        assert_eq!(chosen.len(), 60);
        assert!(chosen.iter().enumerate().all(|(place, index)| index / 20 == place % 3));
        assert_eq!(like_samples(&pictures, 0).len(), 60);
    }

    /// The warnings of a learner, on the pictures inside the program, whose average is a generator with tanh's ends as
    /// pixels, by `latents` times its first weights.
    fn warnings_of(conditional: bool, latents: f32) -> Vec<String> {
        let dataset = data::load(None, &data::LoadOptions::new(data::Size::square(28)), &|_, _| {}).unwrap();
        let mut config = crate::train::presets::find("dcgan-28").unwrap().config;
        (config.network.base, config.network.latent, config.network.conditional) = (8, 16, conditional);
        let crate::train::config::Objective::Gan(objective) = config.objective.clone() else { panic!() };
        let mut learner = GanLearner::new(&Lanes, config, objective, &dataset).unwrap();
        let mut parameters: Vec<_> = learner.gan.average.graph.parameters_mut().collect();
        parameters[0].value.iter_mut().for_each(|weight| *weight *= latents);
        let last = parameters.iter_mut().rfind(|parameter| parameter.shape.len() == 4).unwrap();
        last.value.iter_mut().for_each(|weight| *weight *= 1e3);
        let folder = RunFolder::new(std::path::Path::new("nowhere"));
        let moment = Moment { step: 1, total: 1000, folder: &folder, dataset: &dataset };
        learner.judge(&moment, &Figures::new()).unwrap().warnings
    }

    #[test]
    fn a_generator_that_has_collapsed_is_warned_of() {
        for conditional in [false, true] {
            assert_eq!(warnings_of(conditional, 1.0), Vec::<String>::new(), "conditional: {conditional}");
            // one picture for all latents, or one for each class
            let found = warnings_of(conditional, 0.0);
            assert!(
                found.len() == 1 && found[0].contains("collapse"),
                "conditional: {conditional}: {found:?}"
            );
        }
    }
}
