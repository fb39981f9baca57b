//! A run's network as it is used: evaluated, sampled from, exported.

use std::path::{Path, PathBuf};

use edgegen_runtime::model::{Kind, Range};

use super::checkpoint::{self, Position};
use super::config::{Config, Objective};
use super::folder::RunFolder;
use super::kept::{Facts, Kept};
use super::learner::restore_average;
use super::pictures::Drawer;
use super::run::load_data;
use crate::compute::{Lanes, Network};
use crate::data::{Dataset, Pictures};
use crate::evaluate::cache;
use crate::objective::classifier::Classifier;
use crate::objective::transform::{Material, Restorer, TransformConfig};
use crate::objective::vae::{ObjectiveConfig, Vae};
use crate::{Error, Result};

/// Which stored weights to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those of the best report; where no report was ranked, those of the last checkpoint.
    Best,
    /// Those of the last checkpoint.
    Last,
    /// Those of a GAN's snapshot after this step.
    Step(u64),
}

/// What was trained.
pub enum Trained {
    /// Encoder and decoder, with what they were trained for.
    Vae(Box<Vae>, ObjectiveConfig),
    /// The moving average of a GAN's generator, its batch norm's statistics estimated anew.
    Generator(Box<Network>),
    /// A classifier.
    Classifier(Box<Classifier>),
    /// A network from pictures to pictures.
    Transform(Box<Restorer>, TransformConfig),
}

/// Which pictures a use of a trained network asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// All: the folder must be there, unchanged.
    All,
    /// All, or those that the run kept where the folder is gone or has changed.
    IfThere,
    /// Those that the run kept.
    Kept,
}

/// A trained network with what it was trained on.
pub struct TrainedRun {
    /// Every setting.
    pub config: Config,
    /// The pictures: all of them, or those that were kept.
    pub dataset: Dataset,
    /// Why `dataset` holds only the kept pictures, if that was not asked for.
    pub incomplete: Option<String>,
    /// The pictures that the run kept, to calibrate on and to compare with: always the same.
    pub kept: Dataset,
    /// What is known of all pictures.
    pub facts: Facts,
    /// The network.
    pub trained: Trained,
    /// Names of the classes that it is conditioned on, or tells apart; empty if there are none.
    pub classes: Vec<String>,
    /// Which of the run's weights these are.
    pub which: Which,
    /// Where the weights are from.
    pub position: Position,
    /// Their file.
    pub weights: PathBuf,
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
            Trained::Transform(..) => Kind::Transform,
        }
    }

    /// Training pictures that were learned from, counted at each visit.
    pub fn pictures_seen(&self) -> u64 {
        self.position.pictures
    }

    /// A part of its pictures as a network from pictures to pictures takes them.
    pub fn material<'a>(&self, pictures: &'a Pictures) -> Material<'a> {
        Material::new(pictures, &self.dataset, self.config.data.pairs().is_some())
    }

    /// The part that draws, if there is one.
    pub fn drawer(&self) -> Option<Drawer<'_>> {
        let (network, range) = match &self.trained {
            Trained::Vae(vae, _) => (vae.drawing(), Range::Unit),
            Trained::Generator(network) => (&**network, Range::Signed),
            Trained::Classifier(_) | Trained::Transform(..) => return None,
        };
        Some(Drawer { network, shape: self.dataset.shape, range })
    }
}

/// The pictures that `need` asks for, and why there are only the kept ones.
fn pictures(folder: &RunFolder, config: &Config, need: Need) -> Result<(Dataset, Option<String>)> {
    let kept = || Kept::read(&folder.pictures());
    match need {
        Need::Kept => Ok((kept()?.dataset(), None)),
        Need::All => {
            let dataset = load_data(config, cache::default_folder().as_deref(), &|_, _| {})?;
            let found = Kept::of(&dataset);
            kept()?.check(&found, folder.root())?;
            Ok((dataset, None))
        }
        Need::IfThere => match pictures(folder, config, Need::All) {
            Ok(all) => Ok(all),
            Err(why) => Ok((kept()?.dataset(), Some(why.to_string()))),
        },
    }
}

/// Loads a run's network, and the pictures that `need` asks for; `data` is where they lie now, if they were moved.
///
/// # Errors
/// [`Error::Run`] naming the file that is missing or damaged.
pub fn open(folder: &RunFolder, which: Which, data: Option<&Path>, need: Need) -> Result<TrainedRun> {
    let mut config = Config::read(&folder.config())?;
    if let Some(path) = data {
        config.data.path = path.to_path_buf();
    }
    config.validate()?;
    let (dataset, incomplete) = pictures(folder, &config, need)?;
    let kept = Kept::read(&folder.pictures())?;
    let facts = kept.facts.clone();
    // a run without validation pictures, or a GAN that was stopped before its first distance
    let which = if which == Which::Best && !folder.best().is_file() { Which::Last } else { which };
    let path = match which {
        Which::Best => folder.best(),
        Which::Last => folder.last(),
        Which::Step(step) => folder.snapshot(step),
    };
    if !path.is_file() {
        let problem = match which {
            Which::Step(_) => {
                format!("does not exist: the run has snapshots of the steps {:?}", folder.snapshots())
            }
            _ => "does not exist yet: the run has stored nothing so far".into(),
        };
        return Err(Error::run(&path, problem));
    }
    let mut stored = checkpoint::read(&path)?;
    let (network, seed) = (&config.network, config.training.seed);
    let mut classes = if config.network.conditional { facts.classes.clone() } else { Vec::new() };
    let trained = match &config.objective {
        Objective::Vae(objective) => {
            let mut vae = Vae::new(&Lanes, network, dataset.shape, classes.len(), seed)?;
            vae.prepare(objective);
            if network.codes > 0 {
                vae.fit_prior(network, Vec::new())?;
            }
            let weights = stored.weights(&vae.parameters()?)?;
            vae.set_parameters(&weights)?;
            Trained::Vae(Box::new(vae), objective.clone())
        }
        Objective::Gan(_) => {
            let average = restore_average(&config, dataset.shape, classes.len(), &mut stored)?;
            Trained::Generator(Box::new(average))
        }
        Objective::Classifier(_) => {
            classes.clone_from(&dataset.classes);
            let mut classifier = Classifier::new(&Lanes, network, dataset.shape, classes.len(), seed)?;
            let weights = stored.weights(classifier.network.graph.parameters())?;
            classifier.network.set(&weights)?;
            Trained::Classifier(Box::new(classifier))
        }
        Objective::Transform(objective) => {
            let channels = dataset.shape.channels;
            let mut restorer = Restorer::new(&Lanes, network, objective, channels, seed)?;
            let weights = stored.weights(restorer.network.graph.parameters())?;
            restorer.network.set(&weights)?;
            Trained::Transform(Box::new(restorer), objective.clone())
        }
    };
    let (position, checkpoint_sha256) = (stored.position, stored.sha256);
    let kept = kept.dataset();
    Ok(TrainedRun {
        config,
        dataset,
        incomplete,
        kept,
        facts,
        trained,
        classes,
        which,
        position,
        weights: path,
        checkpoint_sha256,
    })
}
