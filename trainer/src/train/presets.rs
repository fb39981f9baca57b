//! The configurations that have a name.

use std::path::PathBuf;

use super::config::{Config, DataConfig, Schedule, TrainingConfig};
use crate::network::Activation;
use crate::network::form::{Architecture, NetworkConfig};
use crate::nn::adam::AdamConfig;
use crate::vae::{Binarize, Likelihood, ObjectiveConfig};
use crate::{Error, Result};

/// A named configuration.
pub struct Preset {
    /// One line for a list.
    pub about: &'static str,
    /// All defaults; `config.preset` is the name.
    pub config: Config,
}

/// Every preset.
pub fn all() -> Vec<Preset> {
    let data = DataConfig { path: PathBuf::new(), side: 28, gray: true };
    let network = NetworkConfig {
        architecture: Architecture::Mlp,
        latent: 2,
        hidden: vec![128, 128],
        base: 32,
        activation: Activation::Relu,
    };
    let objective = ObjectiveConfig {
        likelihood: Likelihood::Bernoulli,
        sigma: 0.1,
        binarize: Binarize::No,
        beta: 1.0,
        beta_warmup: 0,
        free_bits: 0.0,
        denoise: 0.0,
    };
    let training = TrainingConfig {
        epochs: 50,
        steps: 0,
        batch: 100,
        seed: 0,
        learning_rate: 1e-3,
        final_rate: 1e-5,
        schedule: Schedule::Cosine,
        clip: 0.0,
        validate: 0,
        pictures_every: 1,
    };
    let mlp =
        Config { preset: "vae-mlp".into(), data, network, objective, training, adam: AdamConfig::default() };

    let mut burda = mlp.clone();
    burda.preset = "vae-mlp-50".into();
    burda.network.latent = 50;
    burda.network.hidden = vec![200, 200];
    burda.network.activation = Activation::Tanh;
    burda.objective.binarize = Binarize::Stochastic;
    burda.training.epochs = 3280;
    burda.training.batch = 20;
    burda.training.schedule = Schedule::Staged;
    burda.training.pictures_every = 20;
    burda.adam.epsilon = 1e-4;

    let mut conv = mlp.clone();
    conv.preset = "vae-conv".into();
    conv.data.side = 64;
    conv.data.gray = false;
    conv.network.architecture = Architecture::Conv;
    conv.network.latent = 32;
    conv.network.hidden = vec![256];
    conv.training.epochs = 100;

    vec![
        Preset {
            about: "28x28 grey, dense 128-128, latent 2: the textbook VAE, with its latent grid",
            config: mlp,
        },
        Preset {
            about: "28x28 grey, 784-200-200, latent 50, tanh: the network and protocol of Burda et al. 2015",
            config: burda,
        },
        Preset {
            about: "strided convolutions, any square size (28x28x1, 64x64x3, …): the one for a device",
            config: conv,
        },
    ]
}

/// The names, as a list for a message.
pub fn names() -> String {
    all().into_iter().map(|preset| preset.config.preset).collect::<Vec<_>>().join(", ")
}

/// The preset called `name`.
///
/// # Errors
/// [`Error::Config`] listing the names.
pub fn find(name: &str) -> Result<Preset> {
    all()
        .into_iter()
        .find(|preset| preset.config.preset == name)
        .ok_or_else(|| Error::Config(format!("there is no preset {name:?}; there are {}", names())))
}
