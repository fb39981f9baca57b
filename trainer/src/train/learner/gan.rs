//! Training a GAN, and watching over it.

use edgegen_runtime::generate::Latents;
use edgegen_runtime::model::Range;
use edgegen_runtime::random::{Purpose, Stream};

use super::{Learner, Moment, Shown, Step, Stepped, Stop, Verdict};
use crate::compute::{Backend, Lanes, Network};
use crate::data::{self, Dataset, Pictures};
use crate::graph::Parameter;
use crate::objective::gan::{Example, Gan, GanConfig, Pace};
use crate::train::checkpoint::{self, Checkpoint, Moments, Position};
use crate::train::config::Config;
use crate::train::folder::RunFolder;
use crate::train::init::{Taken, Weights, latent_batches, refit_norms};
use crate::train::metrics::{Figures, figures};
use crate::train::pictures::{self, Curve, Drawer, Panel, SAMPLES, Source};
use crate::train::quality::{self, Quality, thinned};
use crate::{Error, Result};

/// Latents that batch norm's statistics are estimated from where a generator is used.
const STATISTICS: usize = 4096;
/// The same while a run goes on.
const STATISTICS_WHILE_TRAINING: usize = 512;
/// Latents of one batch of these.
const STATISTICS_BATCH: usize = 128;
/// Seed of the latents of these.
const STATISTICS_SEED: u64 = 0;
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
        let gan = Gan::new(backend, network, &objective, config.adam, dataset.shape, classes, seed)?;
        let chosen = like_samples(&dataset.train, classes);
        let pictures = data::batch(Range::Signed, dataset.shape, &dataset.train, chosen.into_iter());
        let data_diversity = diversity(&pictures, dataset.shape.values(), classes.max(1));
        if !objective.features.is_empty() {
            quality::open(&objective.features)?; // refused before anything is written
        }
        let backend = backend.clone();
        Ok(Self { backend, config, gan, data_diversity, objective, judge: Judge::Unknown })
    }

    /// What ranks this report: found when a report first asks for it.
    fn quality(&mut self, moment: &Moment<'_>) -> Result<Option<&Quality<B>>> {
        let (dataset, path) = (moment.dataset, moment.folder.judge());
        if let Judge::Unknown = self.judge {
            let network = self.gan.discriminator.clone();
            let found = match Quality::given(&self.objective.features, dataset)? {
                Some(given) => Some(given),
                None => Quality::read(&path, network, moment.step, dataset)?,
            };
            self.judge = found.map_or(Judge::Awaited, |quality| Judge::Ready(Box::new(quality)));
        }
        if let Judge::Awaited = self.judge
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
        estimate_statistics(&mut average, STATISTICS_WHILE_TRAINING)?;
        Ok(average)
    }

    fn classes(&self, dataset: &Dataset, indices: &[usize]) -> Option<Vec<u32>> {
        self.config.network.conditional.then(|| dataset.train.classes(indices.iter().copied()))?
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
fn warnings(diversity: Option<f64>, epoch: &Figures) -> Vec<String> {
    let figure = |name: &str| epoch.get(name).copied();
    let mut warnings = Vec::new();
    if let Some(diversity) = diversity.filter(|share| *share < COLLAPSED) {
        warnings.push(format!(
            "samples differ by {:.0} % of what the pictures differ by: G may have collapsed; see samples/, and try --set objective.discriminator_norm=spectral or a lower --learning-rate",
            100.0 * diversity
        ));
    }
    if let (Some(real), Some(drawn)) = (figure("d_accuracy_real"), figure("d_accuracy_drawn"))
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
pub(in crate::train) fn restore_average(gan: Gan, checkpoint: &mut Checkpoint) -> Result<Network> {
    let mut average = gan.average;
    let stored = checkpoint.weights(average.graph.parameters())?;
    average.set(&stored)?;
    estimate_statistics(&mut average, STATISTICS)?;
    average.backend().release();
    Ok(average)
}

impl<B: Backend> Learner for GanLearner<B> {
    fn step(&mut self, at: &Step<'_>, dataset: &Dataset) -> Stepped {
        let seed = self.config.training.seed;
        let real = data::training_batch(Range::Signed, dataset, at.indices, seed, at.step);
        let mut latents = vec![0f32; at.indices.len() * self.config.network.latent];
        Stream::new(seed, Purpose::Generator, at.step).fill_normal(&mut latents);
        let classes = self.classes(dataset, at.indices);
        let example = Example { real: &real, latents: &latents, classes: classes.as_deref() };
        let pace = Pace { step: at.step, rate: at.rate, clip: self.config.training.clip };
        let mut chance = Stream::new(seed, Purpose::Augment, at.step);
        let found = self.gan.learn(&example, pace, &mut chance)?;
        if !found.finite() {
            return Err(Stop::Diverged(format!("a loss or a gradient is not finite ({found:?})")));
        }
        let mut all = figures([
            ("d_loss", found.discriminator_loss),
            ("d_accuracy_real", found.real_accuracy),
            ("d_accuracy_drawn", found.drawn_accuracy),
            ("d_gradient", found.discriminator_norm),
        ]);
        let told = [
            ("g_loss", found.generator_loss),
            ("g_gradient", found.generator_norm),
            ("d_slope", found.slope),
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
        self.gan.average = self.gan.generator.renamed("average");
        let mut graph = self.gan.discriminator.host()?;
        weights.give("discriminator", &mut graph, &classes, &mut taken);
        self.gan.discriminator.set(graph.parameters())?;
        Ok(taken)
    }

    fn judge(&mut self, moment: &Moment<'_>, train: &Figures) -> Result<Verdict> {
        let dataset = moment.dataset;
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
        let mut verdict = Verdict { warnings: warnings(share, train), ..Verdict::default() };
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
        self.gan.parameters()
    }

    fn moments(&self) -> Result<Moments> {
        let mut all = Moments::new();
        for (adam, network) in self.gan.optimisers() {
            all.extend(adam.moments(&[network])?);
        }
        Ok(all)
    }

    fn restore(&mut self, checkpoint: &mut Checkpoint, steps: u64) -> Result<()> {
        let stored = checkpoint.weights(&self.gan.parameters()?)?;
        self.gan.set_parameters(&stored)?;
        let each = self.gan.steps_of_each(steps);
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

    #[test]
    fn a_run_that_goes_wrong_is_warned_of() {
        let epoch = |real, drawn, gradient| {
            figures([("d_accuracy_real", real), ("d_accuracy_drawn", drawn), ("g_gradient", gradient)])
        };
        assert!(warnings(Some(0.9), &epoch(0.8, 0.999, 0.3)).is_empty());
        assert!(warnings(None, &Figures::new()).is_empty());
        for (found, expected) in [
            (warnings(Some(0.1), &epoch(0.8, 0.8, 0.3)), "10 %"),
            (warnings(Some(0.9), &epoch(0.995, 0.999, 0.3)), "99.7 %"),
            (warnings(Some(0.9), &epoch(0.8, 0.8, 1e-9)), "faded"),
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
