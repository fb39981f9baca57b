//! How far generated pictures are from the training pictures while a GAN trains, so that its best weights are kept.
//!
//! The features are, in this order:
//! 1. those of the network that `objective.judge` names;
//! 2. of digits, those of the shipped classifier (`models/mnist-classifier`), unless the run learns by it: pictures are digits
//!    if it recognises their labels;
//! 3. otherwise those of the run's own discriminator, frozen early in the run: its last feature map, averaged over the
//!    picture and projected to 128 values at random. Such distances rank the reports of one run, and compare with nothing else.

use std::path::Path;

use crate::random::{Purpose, Stream};
use edgegen_runtime::model::{ImageShape, Range};

use super::checkpoint;
use super::config::Objective;
use super::metrics::{Figures, figures};
use super::pictures::Drawer;
use super::teacher;
use crate::Result;
use crate::compute::{Backend, Network};
use crate::data::{self, Dataset, Pictures};
use crate::evaluate::distance::{Moments, Root, kernel_distance};
use crate::evaluate::features::{self, Extractor, Features, NetworkChoice};
use crate::evaluate::{scattered, spread};
use crate::graph::{Op, ValueId};

/// Most pictures of each side.
const PICTURES: usize = 1000;
/// Fewest pictures whose features have a distance worth printing.
const FEWEST: usize = 10;
/// Subsets of the kernel distance, and pictures of each side in one.
const SUBSETS: usize = 10;
const SUBSET: usize = 250;
/// Values that a discriminator's features are projected to.
const PROJECTED: usize = 128;
/// Pictures that one pass through the discriminator takes.
const BATCH: usize = 128;
/// The shipped classifier of digits, float16.
const DIGITS: &[u8] = include_bytes!("../../../models/mnist-classifier/classifier.fp16.onnx");
/// Pictures that it is tried on, and the share that it must recognise for them to be digits.
const TRIED: usize = 200;
const RECOGNISED: f64 = 0.9;

/// What features come from.
enum Origin<B: Backend> {
    /// An ONNX network.
    Given(Box<Extractor>),
    /// A discriminator, and what enters its head.
    Own { network: Box<Network<B>>, value: ValueId, step: u64 },
}

/// The features of the training pictures, ready to be compared with those of generated ones.
pub(super) struct Quality<B: Backend> {
    origin: Origin<B>,
    name: String,
    reference: Features,
    root: Root,
}

impl<B: Backend> Quality<B> {
    /// On the network that the configuration names, or the shipped classifier of digits; `None` if there is neither.
    ///
    /// # Errors
    /// If the named network cannot be used.
    pub(super) fn given(objective: &Objective, features: &str, dataset: &Dataset) -> Result<Option<Self>> {
        if dataset.train.count() < FEWEST {
            return Ok(None);
        }
        let (extractor, name) = if features.is_empty() {
            if teacher::is_teacher(objective, DIGITS)?.is_some() || !are_digits(dataset)? {
                return Ok(None);
            }
            (digits(features::Purpose::Features)?, "mnist-classifier".to_string())
        } else {
            let extractor = open(features)?;
            let name = extractor.name();
            (extractor, name)
        };
        Self::of(Origin::Given(Box::new(extractor)), name, dataset).map(Some)
    }

    /// On the features of a discriminator as it is after step `step`; `None` if there are too few pictures.
    ///
    /// # Errors
    /// If its features have no covariance.
    pub(super) fn own(network: Network<B>, step: u64, dataset: &Dataset) -> Result<Option<Self>> {
        if dataset.train.count() < FEWEST {
            return Ok(None);
        }
        let nodes = &network.graph.nodes;
        let linear = |index: &usize| matches!(nodes[*index].op, Op::Dense { .. } | Op::Conv { .. });
        let Some(head) = (1..nodes.len()).rfind(linear) else { return Ok(None) };
        let value = nodes[head].inputs[0];
        let name = format!("the run's own discriminator after step {step}");
        Self::of(Origin::Own { network: Box::new(network), value, step }, name, dataset).map(Some)
    }

    /// Reads the discriminator that [`Self::store`] wrote, unless it was frozen after step `step`.
    ///
    /// # Errors
    /// If the file is damaged, or another network's.
    pub(super) fn read(
        path: &Path,
        mut network: Network<B>,
        step: u64,
        dataset: &Dataset,
    ) -> Result<Option<Self>> {
        if !path.is_file() {
            return Ok(None);
        }
        let mut stored = checkpoint::read(path)?;
        if stored.position.step > step {
            return Ok(None); // it comes again
        }
        let weights = stored.weights(network.graph.parameters())?;
        network.set(&weights)?;
        Self::own(network, stored.position.step, dataset)
    }

    /// Writes the discriminator, if it is the run's own.
    ///
    /// # Errors
    /// The file system's.
    pub(super) fn store(&self, path: &Path) -> Result<()> {
        let Origin::Own { network, step, .. } = &self.origin else { return Ok(()) };
        let position = checkpoint::Position { step: *step, ..Default::default() };
        checkpoint::save(path, &checkpoint::encode(&network.parameters()?, &Vec::new(), &position)?)
    }

    fn of(origin: Origin<B>, name: String, dataset: &Dataset) -> Result<Self> {
        let pictures = dataset.train.chosen(scattered(dataset.train.count(), PICTURES));
        let reference = origin.features(dataset.shape, &pictures)?;
        let root = Root::of(&Moments::of(&reference)?);
        Ok(Self { origin, name, reference, root })
    }

    /// What the features are called.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Distances between as many generated pictures, latents from `seed`, and the training pictures.
    ///
    /// # Errors
    /// If the network fails.
    pub(super) fn measure(&self, drawer: &Drawer<'_, B>, seed: u64) -> Result<Figures> {
        // not the previews' latents: one lucky grid must not choose the weights
        let seed = seed.wrapping_add(1);
        let frames = drawer.samples(seed, self.reference.count())?;
        let pixels = frames.into_iter().flat_map(|frame| frame.pixels).collect();
        let pictures = Pictures::from_rows(drawer.shape.values(), pixels, Vec::new());
        let found = self.origin.features(drawer.shape, &pictures)?;
        let frechet = self.root.distance(&Moments::of(&found)?)?;
        let size = SUBSET.min(found.count());
        let kernel = kernel_distance(&found, &self.reference, SUBSETS, size, seed, &|_| ())?;
        Ok(figures([("frechet", frechet), ("kernel_distance", kernel.mean)]))
    }
}

impl<B: Backend> Origin<B> {
    fn features(&self, shape: ImageShape, pictures: &Pictures) -> Result<Features> {
        match self {
            Self::Given(extractor) => extractor.features(shape, pictures, &|_| ()),
            Self::Own { network, value, .. } => {
                let (channels, height, width) = network.graph.values[*value].shape.image();
                let projection = projection(channels);
                let mut rows = Vec::with_capacity(pictures.count() * PROJECTED);
                for first in (0..pictures.count()).step_by(BATCH) {
                    let range = first..(first + BATCH).min(pictures.count());
                    let batch = data::batch(Range::Signed, shape, pictures, range);
                    let maps = network.infer_value(&batch, None, *value)?;
                    let mean = |map: &[f32]| map.iter().sum::<f32>() / map.len() as f32;
                    let means: Vec<f32> = maps.chunks(height * width).map(mean).collect();
                    for means in means.chunks(channels) {
                        let project = |row: &[f32]| row.iter().zip(means).map(|(a, b)| a * b).sum::<f32>();
                        rows.extend(projection.chunks(channels).map(project));
                    }
                }
                network.backend().release();
                Features::new(rows, PROJECTED)
            }
        }
    }
}

/// A random matrix ([`PROJECTED`], `channels`), always the same, that keeps distances on average: as many values as a
/// thousand pictures' covariance can be estimated of, and as an eigenvalue problem is solved of in no time.
fn projection(channels: usize) -> Vec<f32> {
    let mut values = vec![0f32; PROJECTED * channels];
    Stream::new(0, Purpose::Evaluation, u64::MAX).fill_normal(&mut values);
    let scale = (1.0 / PROJECTED as f64).sqrt() as f32;
    values.iter_mut().for_each(|value| *value *= scale);
    values
}

fn digits(purpose: features::Purpose) -> Result<Extractor> {
    Extractor::from_bytes(DIGITS, "mnist-classifier", purpose)
}

/// Whether the shipped classifier recognises the labels of pictures of its size.
fn are_digits(dataset: &Dataset) -> Result<bool> {
    let fits =
        dataset.shape == ImageShape { channels: 1, height: 28, width: 28 } && dataset.classes.len() == 10;
    if !fits || dataset.train.labels().is_empty() {
        return Ok(false);
    }
    let tried = dataset.train.chosen(spread(dataset.train.count(), TRIED));
    let verdicts = digits(features::Purpose::Classes)?.features(dataset.shape, &tried, &|_| ())?;
    let largest =
        |row: &[f32]| row.iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(index, _)| index);
    let right = |(index, label): &(usize, &u16)| largest(verdicts.row(*index)) == Some(usize::from(**label));
    let right = tried.labels().iter().enumerate().filter(right).count();
    Ok(right as f64 >= RECOGNISED * tried.count() as f64)
}

/// Opens the network that a configuration names.
///
/// # Errors
/// If it cannot be used.
pub(super) fn open(features: &str) -> Result<Extractor> {
    Extractor::open(&features.parse::<NetworkChoice>()?, features::Purpose::Features)
}

/// Steps of at most a dozen snapshots, of those in `steps` (in order), that lie furthest apart; the first and the last
/// stay.
pub(super) fn thinned(mut steps: Vec<u64>) -> Vec<u64> {
    /// Most snapshots of a run.
    const MOST: usize = 12;
    while steps.len() > MOST {
        let gap = |index: &usize| steps[index + 1] - steps[index - 1];
        let Some(closest) = (1..steps.len() - 1).min_by_key(gap) else { break };
        steps.remove(closest);
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dozen_snapshots_stay_that_lie_apart() {
        let steps: Vec<u64> = (1..=40).map(|index| index * 100).collect();
        let kept = thinned(steps);
        assert_eq!(kept.len(), 12);
        assert_eq!((kept.first(), kept.last()), (Some(&100), Some(&4000)));
        let gaps: Vec<u64> = kept.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.iter().max() <= Some(&800), "{gaps:?}");
        assert_eq!(thinned(vec![3, 9]), [3, 9]);
    }
}
