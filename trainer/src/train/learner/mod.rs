//! What a run trains: the part of the loop that differs between a VAE, a GAN, a classifier and a network from pictures to pictures.

mod classifier;
mod gan;
mod transform;
mod vae;

use std::path::PathBuf;

use super::checkpoint::{Checkpoint, Moments};
use super::config::{Config, Objective};
use super::folder::RunFolder;
use super::init::{Taken, Weights};
use super::metrics::Figures;
use super::pictures::Panel;
use crate::compute::candle::Candle;
use crate::compute::{Backend, Lanes};
use crate::data::Dataset;
use crate::evaluate::{scattered, scattered_over};
use crate::graph::Parameter;
use crate::graph::family::NetworkConfig;
use crate::{Error, Result};

pub(super) use gan::restore_average;

/// What a step is told.
pub(super) struct Step<'a> {
    /// Its number, from 0.
    pub(super) step: u64,
    /// The part of the run that is done, 0 to 1.
    pub(super) progress: f64,
    /// Learning rate.
    pub(super) rate: f64,
    /// The training pictures that it looks at.
    pub(super) indices: &'a [usize],
}

/// Why a run cannot make a step.
pub(super) enum Stop {
    /// It has diverged: what is no number.
    Diverged(String),
    /// The device fails.
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// A step's figures, or why there is none.
pub(super) type Stepped = std::result::Result<Figures, Stop>;

/// When a report is made, and what it may look at.
pub(super) struct Moment<'a> {
    /// Steps done.
    pub(super) step: u64,
    /// Steps of the whole run.
    pub(super) total: u64,
    /// The run.
    pub(super) folder: &'a RunFolder,
    /// All pictures.
    pub(super) dataset: &'a Dataset,
}

/// What a report finds.
#[derive(Default)]
pub(super) struct Verdict {
    /// Figures of validation pictures or of generated ones.
    pub(super) figures: Figures,
    /// The larger, the better are the weights; `None` if nothing tells.
    pub(super) score: Option<f64>,
    /// The features that distances were measured on.
    pub(super) features: Option<String>,
    /// What the run's owner should look at.
    pub(super) warnings: Vec<String>,
}

/// A picture that a report made: its title, and its file.
pub(super) type Shown = (&'static str, PathBuf);

/// Networks with their optimisers, and how a step moves them. A step depends on the configuration, the
/// pictures and its number alone.
pub(super) trait Learner {
    /// Makes one step.
    ///
    /// # Errors
    /// Why it cannot.
    fn step(&mut self, at: &Step<'_>, dataset: &Dataset) -> Stepped;

    /// Finds out what a run begins with that no checkpoint gives it, before the first step.
    ///
    /// # Errors
    /// The device's.
    fn begin(&mut self, _dataset: &Dataset) -> Result<()> {
        Ok(())
    }

    /// Takes over first weights, before the first step.
    ///
    /// # Errors
    /// If the classes do not fit the pictures.
    fn init_from(&mut self, weights: &Weights, dataset: &Dataset) -> Result<Taken>;

    /// Measures what the networks have come to; `train` are the means of the steps since the last report.
    ///
    /// # Errors
    /// If what it measures by fails.
    fn judge(&mut self, moment: &Moment<'_>, train: &Figures) -> Result<Verdict>;

    /// Every tensor of the state, as it is stored.
    ///
    /// # Errors
    /// The device's.
    fn parameters(&self) -> Result<Vec<Parameter>>;

    /// The state of the optimisers.
    ///
    /// # Errors
    /// The device's.
    fn moments(&self) -> Result<Moments>;

    /// Takes up a state in which `steps` are done.
    ///
    /// # Errors
    /// If the checkpoint is another network's.
    fn restore(&mut self, checkpoint: &mut Checkpoint, steps: u64, dataset: &Dataset) -> Result<()>;

    /// Writes the pictures of a report, and returns their files.
    fn draw(&self, folder: &RunFolder, step: u64, dataset: &Dataset) -> Result<Vec<Shown>>;

    /// The curves of a run.
    fn panels(&self) -> Vec<Panel>;

    /// Values of the largest layer's output for one picture.
    fn largest_layer(&self) -> usize;
}

/// The learner of a configuration, on a device; `None`: on the CPU.
pub(super) fn of(config: &Config, dataset: &Dataset, device: Option<&Candle>) -> Result<Box<dyn Learner>> {
    match device {
        None => on(&Lanes, config, dataset),
        Some(device) => on(device, config, dataset),
    }
}

/// Fewest pictures of a class that have a code, where not all have one.
const FEWEST_OF_A_CLASS: usize = 50;

/// The training pictures whose codes the prior is brought to.
fn coded(network: &NetworkConfig, dataset: &Dataset) -> Vec<usize> {
    let labels = dataset.train.labels();
    match labels.len() {
        0 => scattered(dataset.train.count(), network.codes), // pictures without classes
        _ => scattered_over(labels, network.codes, FEWEST_OF_A_CLASS),
    }
}

fn on<B: Backend>(backend: &B, config: &Config, dataset: &Dataset) -> Result<Box<dyn Learner>> {
    let config = config.clone();
    Ok(match config.objective.clone() {
        Objective::Vae(objective) => Box::new(vae::VaeLearner::new(backend, config, objective, dataset)?),
        Objective::Gan(objective) => Box::new(gan::GanLearner::new(backend, config, objective, dataset)?),
        Objective::Classifier(objective) => {
            Box::new(classifier::ClassifierLearner::new(backend, config, objective, dataset)?)
        }
        Objective::Transform(objective) => {
            Box::new(transform::TransformLearner::new(backend, config, objective, dataset)?)
        }
    })
}
