//! Families of networks: from a few settings and the pictures' shape to the layer lists.

use edgegen_runtime::model::ImageShape;
use serde::{Deserialize, Serialize};

use super::{Activation, Layer, Network, Shape};
use crate::{Error, Result};

/// Convolutions halve the side while it is above this.
const SMALLEST_SIDE: usize = 7;
/// Most trained values of one network: 512 MiB, and Adam takes twice that beside.
const MOST_PARAMETERS: u64 = 1 << 27;

/// The family of networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Architecture {
    /// Dense layers alone.
    Mlp,
    /// Strided convolutions, mirrored by transposed ones.
    Conv,
}

/// The network's form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// The family.
    pub architecture: Architecture,
    /// Values of a latent.
    pub latent: usize,
    /// Widths of an MLP's hidden layers, from the picture to the latent; conv: at most one dense
    /// layer between the last convolution and the latent.
    pub hidden: Vec<usize>,
    /// Channels of the first convolution; each halving of the side doubles them.
    pub base: usize,
    /// Behind every hidden layer.
    pub activation: Activation,
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
    let build = |input, layers| {
        let network = Network::new(input, layers).map_err(Error::Config)?;
        let (parameters, _) = network.size().map_err(Error::Config)?;
        if parameters > MOST_PARAMETERS {
            return Err(Error::Config(format!(
                "a network of {parameters} parameters for pictures of {image} is more than the {MOST_PARAMETERS} \
                 that are trained here; choose smaller network.hidden, network.base or network.latent"
            )));
        }
        Ok(network)
    };
    Ok((build(picture, encoder)?, build(Shape::Vector(config.latent), decoder)?))
}

/// Dense layers from `widths[0]` features to twice the latent.
fn to_latent(widths: &[usize], config: &NetworkConfig) -> Vec<Layer> {
    let mut layers = Vec::new();
    for pair in widths.windows(2) {
        layers.extend([
            Layer::Dense { inputs: pair[0], outputs: pair[1] },
            Layer::Activation(config.activation),
        ]);
    }
    layers.push(Layer::Dense { inputs: widths[widths.len() - 1], outputs: 2 * config.latent });
    layers
}

/// Dense layers from the latent to `widths[0]` features, each with its activation.
fn from_latent(widths: &[usize], config: &NetworkConfig) -> Vec<Layer> {
    let mut layers = Vec::new();
    let mut inputs = config.latent;
    for &outputs in widths.iter().rev() {
        layers.extend([Layer::Dense { inputs, outputs }, Layer::Activation(config.activation)]);
        inputs = outputs;
    }
    layers
}

fn mlp(config: &NetworkConfig, image: ImageShape) -> (Vec<Layer>, Vec<Layer>) {
    let picture = Shape::Image(image.channels, image.height, image.width);
    let mut widths = vec![image.values()];
    widths.extend(&config.hidden);

    let mut encoder = vec![Layer::Reshape(Shape::Vector(image.values()))];
    encoder.extend(to_latent(&widths, config));
    let mut decoder = from_latent(&widths, config);
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
    encoder.extend(to_latent(&dense, config));

    let mut decoder = from_latent(&dense, config);
    decoder.push(Layer::Reshape(smallest));
    for pair in channels.windows(2).rev() {
        decoder.extend([
            Layer::ConvTranspose { inputs: pair[1], outputs: pair[0], kernel, stride, padding },
            hidden,
        ]);
    }
    decoder.pop();
    decoder.push(Layer::Activation(Activation::Sigmoid));
    Ok((encoder, decoder))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(architecture: Architecture) -> NetworkConfig {
        NetworkConfig { architecture, latent: 5, hidden: vec![64], base: 16, activation: Activation::Relu }
    }

    #[test]
    fn every_family_maps_pictures_to_latents_and_back() {
        for architecture in [Architecture::Mlp, Architecture::Conv] {
            for (channels, side) in [(1, 28), (3, 32), (3, 64), (3, 96)] {
                let image = ImageShape { channels, height: side, width: side };
                let (encoder, decoder) = vae(&form(architecture), image).unwrap();
                let picture = Shape::Image(channels, side, side);
                assert_eq!(encoder.shapes().unwrap().last(), Some(&Shape::Vector(10)));
                assert_eq!(decoder.shapes().unwrap().last(), Some(&picture));
                assert_eq!(decoder.layers.last(), Some(&Layer::Activation(Activation::Sigmoid)));
            }
        }
    }

    #[test]
    fn a_side_that_cannot_be_halved_is_refused_by_name() {
        let image = ImageShape { channels: 3, height: 99, width: 99 };
        assert!(vae(&form(Architecture::Conv), image).unwrap_err().to_string().contains("3x99x99"));
    }

    #[test]
    fn a_network_that_no_memory_holds_is_refused_before_it_is_made() {
        let image = ImageShape { channels: 1, height: 28, width: 28 };
        let wide = NetworkConfig { hidden: vec![65_536, 65_536], ..form(Architecture::Mlp) };
        assert!(vae(&wide, image).unwrap_err().to_string().contains("network.hidden"));
    }
}
