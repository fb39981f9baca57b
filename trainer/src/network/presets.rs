//! The networks that have a name.

use std::path::PathBuf;

use edgegen_runtime::model::ImageShape;

use super::{Activation, Layer, Network, Shape};
use crate::nn::adam::AdamConfig;
use crate::train::config::{
    Architecture, Binarize, Config, DataConfig, Likelihood, NetworkConfig, ObjectiveConfig, Schedule, TrainingConfig,
};
use crate::{Error, Result};

/// Convolutions halve the side while it is above this.
const SMALLEST_SIDE: usize = 7;

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
    let mlp = Config {
        preset: "vae-mlp".into(),
        data,
        network,
        objective,
        training,
        adam: AdamConfig::default(),
    };

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
    conv.network.hidden = Vec::new();
    conv.training.epochs = 100;

    vec![
        Preset { about: "dense 128-128, latent 2: the textbook VAE, with its latent grid", config: mlp },
        Preset { about: "784-200-200, latent 50, tanh: the network and protocol of Burda et al. 2015", config: burda },
        Preset { about: "strided convolutions, any square size (28x28x1, 64x64x3, …): the one for a device", config: conv },
    ]
}

/// The preset called `name`.
///
/// # Errors
/// [`Error::Config`] listing the names.
pub fn find(name: &str) -> Result<Preset> {
    let mut presets = all();
    match presets.iter().position(|preset| preset.config.preset == name) {
        Some(index) => Ok(presets.swap_remove(index)),
        None => {
            let names: Vec<_> = presets.iter().map(|preset| preset.config.preset.as_str()).collect();
            Err(Error::Config(format!("there is no preset {name:?}; there are {}", names.join(", "))))
        }
    }
}

/// Encoder (image → mean and log-variance, 2·latent values) and decoder (latent → image in [0, 1]).
///
/// # Errors
/// [`Error::Config`] if pictures of this shape do not fit the architecture.
pub fn vae(config: &NetworkConfig, image: ImageShape) -> Result<(Network, Network)> {
    let (encoder, decoder) = match config.architecture {
        Architecture::Mlp => mlp(config, image),
        Architecture::Conv => conv(config, image)?,
    };
    let picture = Shape::Image(image.channels, image.height, image.width);
    let build = |input, layers| Network::new(input, layers).map_err(Error::Config);
    Ok((build(picture, encoder)?, build(Shape::Vector(config.latent), decoder)?))
}

fn mlp(config: &NetworkConfig, image: ImageShape) -> (Vec<Layer>, Vec<Layer>) {
    let picture = Shape::Image(image.channels, image.height, image.width);
    let mut widths = vec![image.values()];
    widths.extend(&config.hidden);
    let hidden = Layer::Activation(config.activation);

    let mut encoder = vec![Layer::Reshape(Shape::Vector(image.values()))];
    for pair in widths.windows(2) {
        encoder.extend([Layer::Dense { inputs: pair[0], outputs: pair[1] }, hidden]);
    }
    encoder.push(Layer::Dense { inputs: widths[widths.len() - 1], outputs: 2 * config.latent });

    widths.push(config.latent);
    let mut decoder = Vec::new();
    for pair in widths.windows(2).rev() {
        decoder.extend([Layer::Dense { inputs: pair[1], outputs: pair[0] }, hidden]);
    }
    decoder.pop();
    decoder.extend([Layer::Reshape(picture), Layer::Activation(Activation::Sigmoid)]);
    (encoder, decoder)
}

fn conv(config: &NetworkConfig, image: ImageShape) -> Result<(Vec<Layer>, Vec<Layer>)> {
    let (kernel, stride, padding) = (4, 2, 1);
    let hidden = Layer::Activation(config.activation);
    let mut side = image.height;
    let mut channels = vec![image.channels];
    while side > SMALLEST_SIDE && side.is_multiple_of(2) {
        channels.push(config.base << (channels.len() - 1));
        side /= 2;
    }
    if image.height != image.width || channels.len() == 1 || side > 2 * SMALLEST_SIDE {
        return Err(Error::Config(format!(
            "the conv architecture takes square pictures whose side can be halved down to {} or less (28, 32, 48, 64, 96, …), not {image}; choose another --size",
            2 * SMALLEST_SIDE
        )));
    }
    if config.hidden.len() > 1 {
        return Err(Error::Config("network.hidden takes at most one width in the conv architecture".into()));
    }
    let smallest = Shape::Image(channels[channels.len() - 1], side, side);
    let mut dense = vec![smallest.values()];
    dense.extend(&config.hidden);

    let mut encoder = Vec::new();
    for pair in channels.windows(2) {
        encoder.extend([Layer::Conv { inputs: pair[0], outputs: pair[1], kernel, stride, padding }, hidden]);
    }
    encoder.push(Layer::Reshape(Shape::Vector(smallest.values())));
    for pair in dense.windows(2) {
        encoder.extend([Layer::Dense { inputs: pair[0], outputs: pair[1] }, hidden]);
    }
    encoder.push(Layer::Dense { inputs: dense[dense.len() - 1], outputs: 2 * config.latent });

    dense.push(config.latent);
    let mut decoder = Vec::new();
    for pair in dense.windows(2).rev() {
        decoder.extend([Layer::Dense { inputs: pair[1], outputs: pair[0] }, hidden]);
    }
    decoder.push(Layer::Reshape(smallest));
    for pair in channels.windows(2).rev() {
        decoder.extend([Layer::ConvTranspose { inputs: pair[1], outputs: pair[0], kernel, stride, padding }, hidden]);
    }
    decoder.pop();
    decoder.push(Layer::Activation(Activation::Sigmoid));
    Ok((encoder, decoder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_maps_pictures_to_latents_and_back() {
        for preset in all() {
            for (channels, side) in [(1, 28), (3, 32), (3, 64), (3, 96)] {
                let image = ImageShape { channels, height: side, width: side };
                let (encoder, decoder) = vae(&preset.config.network, image).unwrap();
                let picture = Shape::Image(channels, side, side);
                let latent = preset.config.network.latent;
                assert_eq!(encoder.shapes().unwrap().last(), Some(&Shape::Vector(2 * latent)));
                assert_eq!(decoder.shapes().unwrap().last(), Some(&picture));
                assert_eq!(decoder.layers.last(), Some(&Layer::Activation(Activation::Sigmoid)));
            }
        }
    }

    #[test]
    fn a_side_that_cannot_be_halved_is_refused_by_name() {
        let image = ImageShape { channels: 3, height: 99, width: 99 };
        let conv = find("vae-conv").unwrap().config.network;
        assert!(vae(&conv, image).unwrap_err().to_string().contains("3x99x99"));
    }
}
