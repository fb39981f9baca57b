//! A run's network as it is used: evaluated, sampled from, exported.

use std::path::Path;

use edgegen_runtime::model::{Kind, Range};

use super::checkpoint::{self, Position};
use super::config::{Config, Objective};
use super::folder::RunFolder;
use super::learner::restore_average;
use super::pictures::Drawer;
use super::run::load_data;
use crate::classifier::Classifier;
use crate::data::Dataset;
use crate::gan::Gan;
use crate::network::module::Module;
use crate::vae::{ObjectiveConfig, Vae};
use crate::{Error, Result};

/// Which stored weights to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those of the best validation objective; a GAN has none, and its last are used.
    Best,
    /// Those of the last checkpoint.
    Last,
}

/// What was trained.
pub enum Trained {
    /// Encoder and decoder, with what they were trained for.
    Vae(Vae, ObjectiveConfig),
    /// The moving average of a GAN's generator, its batch norm's statistics estimated anew.
    Generator(Module),
    /// A classifier.
    Classifier(Classifier),
}

/// A trained network with what it was trained on.
pub struct TrainedRun {
    /// Every setting.
    pub config: Config,
    /// The pictures.
    pub dataset: Dataset,
    /// The network.
    pub trained: Trained,
    /// Names of the classes that it is told of, or tells apart; empty if there are none.
    pub classes: Vec<String>,
    /// Which of the run's weights these are.
    pub which: Which,
    /// Where the weights are from.
    pub position: Position,
    /// SHA-256 of the weights, see [`checkpoint::Checkpoint`].
    pub checkpoint_sha256: String,
}

impl TrainedRun {
    /// The kind of model.
    pub fn kind(&self) -> Kind {
        match self.trained {
            Trained::Vae(..) => Kind::Vae,
            Trained::Generator(_) => Kind::Gan,
            Trained::Classifier(_) => Kind::Classifier,
        }
    }

    /// Training pictures that were learned from, counted at each visit.
    pub fn pictures_seen(&self) -> u64 {
        let batch = self.config.training.batch.min(self.dataset.train.count());
        self.position.step * batch as u64
    }

    /// The part that draws, if there is one.
    pub fn drawer(&self) -> Option<Drawer<'_>> {
        let (module, range) = match &self.trained {
            Trained::Vae(vae, _) => (&vae.decoder, Range::Unit),
            Trained::Generator(module) => (module, Range::Signed),
            Trained::Classifier(_) => return None,
        };
        Some(Drawer { module, shape: self.dataset.shape, range })
    }
}

/// Loads a run's network and data set; `data` is where the pictures lie now, if they were moved.
///
/// # Errors
/// [`Error::Run`] naming the file that is missing or damaged.
pub fn open(folder: &RunFolder, which: Which, data: Option<&Path>) -> Result<TrainedRun> {
    let mut config = Config::read(&folder.config())?;
    if let Some(path) = data {
        config.data.path = path.to_path_buf();
    }
    config.validate()?;
    let dataset = load_data(&config)?;
    let which = if matches!(config.objective, Objective::Gan(_)) { Which::Last } else { which };
    let path = match which {
        Which::Best => folder.best(),
        Which::Last => folder.last(),
    };
    if !path.is_file() {
        return Err(Error::run(&path, "does not exist yet: the run has not finished an epoch"));
    }
    let mut stored = checkpoint::read(&path)?;
    stored.check_data(&dataset.name, &dataset.sha256())?;
    let (network, seed) = (&config.network, config.training.seed);
    let mut classes = config.classes(&dataset)?;
    let trained = match &config.objective {
        Objective::Vae(objective) => {
            let mut vae = Vae::new(network, dataset.shape, classes.len(), seed)?;
            stored.restore_weights(vae.parameters_mut())?;
            Trained::Vae(vae, objective.clone())
        }
        Objective::Gan(objective) => {
            let gan = Gan::new(network, objective, config.adam, dataset.shape, classes.len(), seed)?;
            Trained::Generator(restore_average(gan, &mut stored)?)
        }
        Objective::Classifier(_) => {
            classes.clone_from(&dataset.classes);
            let mut classifier = Classifier::new(network, dataset.shape, classes.len(), seed)?;
            stored.restore_weights(classifier.module.parameters_mut())?;
            Trained::Classifier(classifier)
        }
    };
    let (position, checkpoint_sha256) = (stored.position, stored.sha256);
    Ok(TrainedRun { config, dataset, trained, classes, which, position, checkpoint_sha256 })
}
