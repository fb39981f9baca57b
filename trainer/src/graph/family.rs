//! Families of networks: from a few settings and the pictures' shape to the graphs.

use documented::DocumentedFields;
use edgegen_runtime::model::ImageShape;
use serde::{Deserialize, Serialize};

use super::{Activation, Graph, Op, Shape};
use crate::{Error, Result};

/// Convolutions halve both sides while the shorter one is above this.
const SMALLEST_SIDE: usize = 7;
/// Most trained values of one network: 512 MiB, and Adam takes twice that beside.
const MOST_PARAMETERS: u64 = 1 << 27;

/// The family of networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Architecture {
    /// Dense layers alone.
    Mlp,
    /// Strided convolutions, mirrored by transposed ones in a VAE.
    Conv,
    /// A GAN of strided and transposed convolutions with kernels of 4 (A. Radford et al., 2016).
    Dcgan,
    /// The same, but the generator doubles the side by its nearest neighbours before convolutions with kernels of
    /// 3: each output pixel sees 2×2 pixels of the input, as with a transposed kernel of 4, and all in the same
    /// way, so that no checkerboard shows.
    Upsample,
    /// From pictures to pictures of the same size, to which it adds something, see [`super::transform`].
    Restore,
    /// From pictures to other pictures of the same size, see [`super::transform`].
    Unet,
    /// From pictures to larger ones, see [`super::transform`].
    Enlarge,
}

/// How a discriminator keeps its layers in bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalisation {
    /// Batch norm, as in the DCGAN paper.
    Batch,
    /// Spectral normalisation of the weights (T. Miyato et al., 2018).
    Spectral,
    /// Nothing.
    None,
}

/// What a discriminator sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sees {
    /// Pictures.
    #[default]
    Pictures,
    /// The features of a frozen network, see [`super::projected`].
    Features,
}

/// The form of a GAN's discriminator, as far as it does not follow from the generator's.
#[derive(Clone, Copy, Debug)]
pub struct DiscriminatorForm {
    /// Channels of its first layer; each halving of the side doubles them.
    pub base: usize,
    /// How it keeps its layers in bounds.
    pub norm: Normalisation,
}

/// The network's form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, DocumentedFields)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// The family.
    pub architecture: Architecture,
    /// Values of a latent; of a classifier, features before its last layer.
    pub latent: usize,
    /// Of restore, unet and enlarge: residual blocks at each size. Widths of an MLP's hidden layers, from the picture to the latent; conv: at most one dense
    /// layer between the last convolution and the latent; of a GAN's generator, dense layers between its first map and the
    /// latent, which let neighbouring latents draw pictures of different kinds.
    pub hidden: Vec<usize>,
    /// Channels of the first convolution, in a generator of the last but one layer; each halving of the side
    /// doubles them.
    pub base: usize,
    /// How many training pictures have a code, a latent of their own; 0: none. A GAN learns its codes, a VAE's are the encoder's
    /// means. The generator first maps a latent to the codes near it.
    #[serde(default)]
    pub codes: usize,
    /// Of a GAN's generator, and of both networks of a convolutional VAE: convolutions at the smallest size, where weights are
    /// cheap to compute with.
    #[serde(default)]
    pub coarse: usize,
    /// Of the same: whether there is a hidden layer of the picture's size, of `base` channels, for details.
    #[serde(default)]
    pub fine: bool,
    /// Of a convolutional VAE without classes: the shorter side of the maps that its latent is laid out in, to which pictures are
    /// halved, and of whose places `latent` is a multiple; 0: one vector for the whole picture. Where each value belongs to a
    /// place, details are rebuilt with few weights.
    #[serde(default)]
    pub latent_side: usize,
    /// After every hidden layer.
    pub activation: Activation,
    /// Whether the generator (of a VAE: the decoder) is conditioned on each picture's class.
    pub conditional: bool,
}

/// Encoder (image → mean and log-variance, 2·latent values) and decoder (latent → image in [0, 1]), which is conditioned on
/// the class if there are `classes`. The encoder is not: it sees the picture.
///
/// # Errors
/// [`Error::Config`] if pictures of this shape do not fit the architecture.
pub fn vae(config: &NetworkConfig, image: ImageShape, classes: usize) -> Result<(Graph<()>, Graph<()>)> {
    if config.latent_side > 0 && (config.architecture != Architecture::Conv || classes > 0) {
        return Err(Error::Config(
            "network.latent_side is for the conv architecture without classes: leave it or --conditional out"
                .into(),
        ));
    }
    let (encoder, mut decoder) = match config.architecture {
        Architecture::Mlp => mlp(config, image),
        Architecture::Conv => conv(config, image)?,
        other => return Err(misfit(other, "a VAE", "mlp or conv")),
    };
    embed(&mut decoder, classes);
    Ok((
        build("encoder", picture(image), encoder, image)?,
        build("decoder", Shape::Vector(config.latent), decoder, image)?,
    ))
}

/// Generator (latent → image in [−1, 1]) and discriminator (image → one logit) of A. Radford et al., 2016
/// (DCGAN): kernels of 4 with stride 2, `base` channels beside the pictures, twice as many with each halving of
/// the side. With `classes`, both are conditioned on the picture's class.
///
/// # Errors
/// [`Error::Config`] if pictures of this shape cannot be halved down to a shorter side of 4 to 7.
pub fn gan(
    config: &NetworkConfig,
    form: DiscriminatorForm,
    image: ImageShape,
    classes: usize,
) -> Result<(Graph<()>, Graph<()>)> {
    Ok((generator(config, image, classes)?, discriminator(form, image, classes)?))
}

/// The generator of [`gan`].
///
/// # Errors
/// As [`gan`].
pub fn generator(config: &NetworkConfig, image: ImageShape, classes: usize) -> Result<Graph<()>> {
    let (kernel, stride, padding) = (4, 2, 1);
    let Halved { count, height, width } = Halved::of_gan(image)?;
    let hidden = || Op::Activation(config.activation);
    let fine = usize::from(config.fine);
    let drawn = channels(image, config.base, count + fine);
    let widest = drawn[count + fine];
    let smallest = Shape::Image(widest, height, width);
    let mut layers = mapped(config);
    let mut inputs = config.latent;
    for &outputs in config.hidden.iter().rev() {
        layers.extend([Op::Dense { inputs, outputs }, hidden()]);
        inputs = outputs;
    }
    layers.extend([Op::Dense { inputs, outputs: smallest.values() }, Op::Reshape(smallest)]);
    embed(&mut layers, classes);
    for _ in 0..config.coarse {
        layers.extend([Op::batch_norm(widest), hidden(), Op::conv(widest, widest, 3, 1, 1)]);
    }
    for pair in drawn[fine..].windows(2).rev() {
        let (outputs, inputs) = (pair[0], pair[1]);
        layers.extend([Op::batch_norm(inputs), hidden()]);
        layers.push(match config.architecture {
            Architecture::Dcgan => Op::ConvTranspose { inputs, outputs, kernel, stride, padding },
            Architecture::Upsample => Op::UpsampleConv { inputs, outputs, kernel: 3 },
            other => return Err(misfit(other, "a GAN", "dcgan or upsample")),
        });
    }
    if config.fine {
        layers.extend([Op::batch_norm(config.base), hidden(), Op::conv(config.base, drawn[0], 3, 1, 1)]);
    }
    layers.push(Op::Activation(Activation::Tanh));
    build("generator", Shape::Vector(config.latent), layers, image)
}

/// Latent (L) → the mean of codes near it, (L): what a [`generator`] with codes begins with.
///
/// # Errors
/// None that a valid configuration gives.
pub fn mapping(config: &NetworkConfig, classes: usize) -> Result<Graph<()>> {
    let mut layers = mapped(config);
    embed(&mut layers, classes);
    Graph::chain("mapping", Shape::Vector(config.latent), layers)
}

/// How alike a latent is to each code, as shares, and the codes' mean by these.
fn mapped(config: &NetworkConfig) -> Vec<Op> {
    let NetworkConfig { latent, codes, .. } = *config;
    if codes == 0 {
        return Vec::new();
    }
    let (compare, mean) =
        (Op::Dense { inputs: latent, outputs: codes }, Op::Dense { inputs: codes, outputs: latent });
    vec![compare, Op::Softmax, mean]
}

/// The discriminator of [`gan`].
///
/// # Errors
/// As [`gan`].
pub fn discriminator(form: DiscriminatorForm, image: ImageShape, classes: usize) -> Result<Graph<()>> {
    let (kernel, stride, padding) = (4, 2, 1);
    let Halved { count, height, width } = Halved::of_gan(image)?;
    let seen = channels(image, form.base, count);
    let mut layers = Vec::new();
    for (index, pair) in seen.windows(2).enumerate() {
        layers.push(Op::conv(pair[0], pair[1], kernel, stride, padding));
        if index > 0 && form.norm == Normalisation::Batch {
            layers.push(Op::batch_norm(pair[1]));
        }
        layers.push(Op::Activation(Activation::LeakyRelu(0.2)));
    }
    let outputs = 1 + classes;
    if height == width {
        layers.push(Op::conv(seen[count], outputs, height, 1, 0));
        layers.push(Op::Reshape(Shape::Vector(outputs)));
    } else {
        // the same map, as a dense layer: kernels are squares
        let inputs = seen[count] * height * width;
        layers.extend([Op::Reshape(Shape::Vector(inputs)), Op::Dense { inputs, outputs }]);
    }
    if classes > 0 {
        layers.push(Op::ClassProjection { classes });
    }
    build("discriminator", picture(image), layers, image)
}

/// Image → features (the activations of a dense layer of `latent` values) → one logit a class: strided
/// convolutions with batch norm.
///
/// # Errors
/// [`Error::Config`] if there are fewer than two classes, or the side cannot be halved.
pub fn classifier(config: &NetworkConfig, image: ImageShape, classes: usize) -> Result<Graph<()>> {
    if config.architecture != Architecture::Conv {
        return Err(misfit(config.architecture, "a classifier", "conv"));
    }
    if classes < 2 {
        return Err(Error::Config(format!(
            "a classifier needs pictures of two classes or more; these have {classes}: put them into one sub-folder a class"
        )));
    }
    let Halved { count, height, width } = Halved::of_conv(image)?;
    let hidden = || Op::Activation(config.activation);
    let channels = channels(image, config.base, count);
    let mut layers = Vec::new();
    for pair in channels.windows(2) {
        let (inputs, outputs) = (pair[0], pair[1]);
        layers.push(Op::conv(inputs, outputs, 4, 2, 1));
        layers.extend([Op::batch_norm(outputs), hidden()]);
    }
    let inputs = channels[count] * height * width;
    layers.push(Op::Reshape(Shape::Vector(inputs)));
    layers.extend([Op::Dense { inputs, outputs: config.latent }, hidden()]);
    layers.push(Op::Dense { inputs: config.latent, outputs: classes });
    build("classifier", picture(image), layers, image)
}

fn misfit(architecture: Architecture, what: &str, fits: &str) -> Error {
    let name = format!("{architecture:?}").to_lowercase();
    Error::Config(format!("network.architecture is {name}; {what} takes {fits}"))
}

fn picture(image: ImageShape) -> Shape {
    Shape::Image(image.channels, image.height, image.width)
}

/// A chain that is not too large for `image`s, the part `part` of a model.
fn build(part: &str, input: Shape, ops: Vec<Op>, image: ImageShape) -> Result<Graph<()>> {
    let graph = Graph::chain(part, input, ops)?;
    let parameters = graph.trained_count() as u64;
    if parameters > MOST_PARAMETERS {
        return Err(Error::Config(format!(
            "a network of {parameters} parameters for pictures of {image} is more than the {MOST_PARAMETERS} \
             that are trained here; choose smaller network.hidden, network.base or network.latent"
        )));
    }
    Ok(graph)
}

/// Adds the class, if there are any, to the first dense layer's outputs.
fn embed(layers: &mut Vec<Op>, classes: usize) {
    let first = layers.iter().enumerate().find_map(|(index, layer)| match layer {
        Op::Dense { outputs, .. } => Some((index, *outputs)),
        _ => None,
    });
    if let (Some((index, features)), true) = (first, classes > 0) {
        layers.insert(index + 1, Op::ClassRow { classes, features });
    }
}

/// A picture whose sides were halved, at least once.
#[derive(Debug, PartialEq)]
struct Halved {
    /// How often.
    count: usize,
    height: usize,
    width: usize,
}

impl Halved {
    /// Both sides halved together while the shorter one is above [`SMALLEST_SIDE`] and neither is odd; `None` if it
    /// stays above `largest`.
    fn of(image: ImageShape, largest: usize) -> Option<Self> {
        let ImageShape { mut height, mut width, .. } = image;
        let mut count = 0;
        while height.min(width) > SMALLEST_SIDE && height.is_multiple_of(2) && width.is_multiple_of(2) {
            (count, height, width) = (count + 1, height / 2, width / 2);
        }
        (count > 0 && height.min(width) <= largest).then_some(Self { count, height, width })
    }

    /// Halved until the shorter side is `side`.
    fn to(image: ImageShape, side: usize) -> Result<Self> {
        let count = (1..16).find(|count| image.height.min(image.width) == side << count);
        let halved = |of: usize, count: usize| of.is_multiple_of(1 << count).then_some(of >> count);
        let found = count.and_then(|count| {
            Some(Self { count, height: halved(image.height, count)?, width: halved(image.width, count)? })
        });
        found.ok_or_else(|| {
            Error::Config(format!(
                "network.latent_side is {side}, which halving both sides of {image} together does not come to"
            ))
        })
    }

    /// As GANs take it.
    fn of_gan(image: ImageShape) -> Result<Self> {
        Self::of(image, SMALLEST_SIDE).ok_or_else(|| unhalved("a GAN", image, SMALLEST_SIDE))
    }

    /// As VAEs and classifiers of convolutions take it.
    fn of_conv(image: ImageShape) -> Result<Self> {
        let largest = 2 * SMALLEST_SIDE;
        Self::of(image, largest).ok_or_else(|| unhalved("the conv architecture", image, largest))
    }
}

fn unhalved(what: &str, image: ImageShape, largest: usize) -> Error {
    Error::Config(format!(
        "{what} takes pictures whose sides can be halved together until the shorter one is {largest} or less (28, 32, 48, 64, 128x64, …), not {image}; choose another --size"
    ))
}

/// The picture's channels, then `base` and its doublings.
fn channels(image: ImageShape, base: usize, halvings: usize) -> Vec<usize> {
    std::iter::once(image.channels).chain((0..halvings).map(|level| base << level)).collect()
}

/// Dense layers from `widths[0]` features to twice the latent.
fn to_latent(widths: &[usize], config: &NetworkConfig) -> Vec<Op> {
    let mut layers = Vec::new();
    for pair in widths.windows(2) {
        layers.extend([Op::Dense { inputs: pair[0], outputs: pair[1] }, Op::Activation(config.activation)]);
    }
    layers.push(Op::Dense { inputs: widths[widths.len() - 1], outputs: 2 * config.latent });
    layers
}

/// Dense layers from the latent to `widths[0]` features, each with its activation.
fn from_latent(widths: &[usize], config: &NetworkConfig) -> Vec<Op> {
    let mut layers = Vec::new();
    let mut inputs = config.latent;
    for &outputs in widths.iter().rev() {
        layers.extend([Op::Dense { inputs, outputs }, Op::Activation(config.activation)]);
        inputs = outputs;
    }
    layers
}

fn mlp(config: &NetworkConfig, image: ImageShape) -> (Vec<Op>, Vec<Op>) {
    let picture = Shape::Image(image.channels, image.height, image.width);
    let mut widths = vec![image.values()];
    widths.extend(&config.hidden);

    let mut encoder = vec![Op::Reshape(Shape::Vector(image.values()))];
    encoder.extend(to_latent(&widths, config));
    let mut decoder = from_latent(&widths, config);
    decoder.pop();
    decoder.extend([Op::Reshape(picture), Op::Activation(Activation::Sigmoid)]);
    (encoder, decoder)
}

/// The layers between maps (C, H, W) and the latent, to it and from it.
fn bottleneck(config: &NetworkConfig, smallest: (usize, usize, usize)) -> Result<(Vec<Op>, Vec<Op>)> {
    let (widest, height, width) = smallest;
    if config.latent_side == 0 {
        let smallest = Shape::Image(widest, height, width);
        let mut dense = vec![smallest.values()];
        dense.extend(&config.hidden);
        let mut towards = vec![Op::Reshape(Shape::Vector(smallest.values()))];
        towards.extend(to_latent(&dense, config));
        let mut from = from_latent(&dense, config);
        from.push(Op::Reshape(smallest));
        return Ok((towards, from));
    }
    let pixels = height * width;
    let maps = config.latent / pixels;
    if maps == 0 || maps * pixels != config.latent || !config.hidden.is_empty() {
        return Err(Error::Config(format!(
            "with network.latent_side, network.latent is a multiple of {pixels} ({height}x{width} places), not {}, and network.hidden is []",
            config.latent
        )));
    }
    // means in the first half of the maps, so that they are the first half of the values
    let towards = vec![Op::conv(widest, 2 * maps, 1, 1, 0), Op::Reshape(Shape::Vector(2 * config.latent))];
    let from = vec![
        Op::Reshape(Shape::Image(maps, height, width)),
        Op::conv(maps, widest, 1, 1, 0),
        Op::Activation(config.activation),
    ];
    Ok((towards, from))
}

fn conv(config: &NetworkConfig, image: ImageShape) -> Result<(Vec<Op>, Vec<Op>)> {
    let (kernel, stride, padding) = (4, 2, 1);
    let hidden = || Op::Activation(config.activation);
    let Halved { count, height, width } = match config.latent_side {
        0 => Halved::of_conv(image)?,
        side => Halved::to(image, side)?,
    };
    let fine = usize::from(config.fine);
    let channels = channels(image, config.base, count + fine);
    if config.hidden.len() > 1 {
        return Err(Error::Config("network.hidden takes at most one width in the conv architecture".into()));
    }
    let widest = channels[count + fine];
    let same = |inputs, outputs| Op::conv(inputs, outputs, 3, 1, 1);

    let mut encoder = Vec::new();
    if config.fine {
        encoder.extend([same(channels[0], channels[1]), hidden()]);
    }
    for pair in channels[fine..].windows(2) {
        encoder.extend([Op::conv(pair[0], pair[1], kernel, stride, padding), hidden()]);
    }
    for _ in 0..config.coarse {
        encoder.extend([same(widest, widest), hidden()]);
    }
    let (towards, from) = bottleneck(config, (widest, height, width))?;
    encoder.extend(towards);

    let mut decoder = from;
    for _ in 0..config.coarse {
        decoder.extend([same(widest, widest), hidden()]);
    }
    for pair in channels[fine..].windows(2).rev() {
        decoder.extend([
            Op::ConvTranspose { inputs: pair[1], outputs: pair[0], kernel, stride, padding },
            hidden(),
        ]);
    }
    if config.fine {
        decoder.extend([same(channels[1], channels[0]), hidden()]);
    }
    decoder.pop();
    decoder.push(Op::Activation(Activation::Sigmoid));
    Ok((encoder, decoder))
}

#[cfg(test)]
impl NetworkConfig {
    /// A small network without anything that can be left out, for tests.
    pub(crate) fn plain(architecture: Architecture) -> Self {
        Self {
            architecture,
            latent: 2,
            hidden: Vec::new(),
            base: 4,
            codes: 0,
            coarse: 0,
            fine: false,
            latent_side: 0,
            activation: Activation::Relu,
            conditional: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::config::{Config, Objective};
    use crate::train::presets;

    fn form(architecture: Architecture) -> NetworkConfig {
        NetworkConfig { latent: 5, hidden: vec![64], base: 16, ..NetworkConfig::plain(architecture) }
    }

    #[test]
    fn every_family_maps_pictures_to_latents_and_back() {
        for architecture in [Architecture::Mlp, Architecture::Conv] {
            for (channels, side) in [(1, 28), (3, 32), (3, 64), (3, 96)] {
                let image = ImageShape { channels, height: side, width: side };
                let (encoder, decoder) = vae(&form(architecture), image, 0).unwrap();
                let picture = Shape::Image(channels, side, side);
                assert_eq!(encoder.output_shape(), Shape::Vector(10));
                assert_eq!(decoder.output_shape(), picture);
                assert_eq!(decoder.nodes.last().unwrap().op, Op::Activation(Activation::Sigmoid));
            }
        }
    }

    #[test]
    fn a_spatial_latent_belongs_to_places() {
        let image = ImageShape { channels: 3, height: 64, width: 64 };
        let config =
            NetworkConfig { latent_side: 8, latent: 128, hidden: Vec::new(), ..form(Architecture::Conv) };
        let (encoder, decoder) = vae(&config, image, 0).unwrap();
        assert_eq!(encoder.output_shape(), Shape::Vector(256));
        assert_eq!(decoder.output_shape(), picture(image));
        let dense = |graph: &Graph<()>| graph.nodes.iter().any(|node| matches!(node.op, Op::Dense { .. }));
        assert!(!dense(&encoder) && !dense(&decoder));
        for (wrong, told) in [
            (NetworkConfig { latent: 33, ..config.clone() }, "a multiple of 64 (8x8 places), not 33"),
            (NetworkConfig { latent: 0, ..config.clone() }, "a multiple of 64"),
            (NetworkConfig { latent_side: 6, ..config.clone() }, "does not come to"),
            (NetworkConfig { latent_side: 64, ..config.clone() }, "does not come to"),
            (NetworkConfig { hidden: vec![8], ..config.clone() }, "network.hidden is []"),
            (NetworkConfig { architecture: Architecture::Mlp, ..config.clone() }, "conv architecture"),
        ] {
            let refusal = vae(&wrong, image, 0).unwrap_err().to_string();
            assert!(refusal.contains(told), "{refusal}");
        }
        assert!(vae(&config, image, 2).unwrap_err().to_string().contains("without classes"));
    }

    #[test]
    fn a_convolutional_vae_takes_coarse_and_fine_convolutions() {
        let image = ImageShape { channels: 1, height: 28, width: 28 };
        let config = NetworkConfig { coarse: 2, fine: true, ..form(Architecture::Conv) };
        let (encoder, decoder) = vae(&config, image, 0).unwrap();
        // 16 channels of 28×28, 32 of 14×14, 64 of 7×7
        let kernels = |side: usize| side * side;
        let own = [kernels(3) * 16, kernels(4) * 16 * 32, kernels(4) * 32 * 64, 2 * kernels(3) * 64 * 64];
        let dense = 7 * 7 * 64 * 64;
        let biases = 16 + 32 + 64 + 2 * 64 + 64;
        let weights: usize = own.iter().sum::<usize>() + dense + biases;
        assert_eq!(encoder.trained_count(), weights + 64 * 10 + 10);
        assert_eq!(decoder.output_shape(), Shape::Image(1, 28, 28));
    }

    #[test]
    fn the_textbook_dcgan_has_its_sizes() {
        let preset = |name: &str| presets::find(name).unwrap().config;
        let gan_of = |config: &Config, image, classes| {
            let Objective::Gan(objective) = &config.objective else { panic!("{} is no GAN", config.preset) };
            gan(&config.network, objective.discriminator(), image, classes)
        };
        let image = ImageShape { channels: 3, height: 64, width: 64 };
        let (generator, discriminator) = gan_of(&preset("dcgan-64"), image, 0).unwrap();
        // PyTorch's example: 3,576,704 and 2,765,568, whose last convolution has no bias
        let (last, head) = (3, 1);
        let first = 64;
        assert_eq!(generator.trained_count(), 3_576_704 + last);
        assert_eq!(discriminator.trained_count(), 2_765_568 + first + head);
        let mut slim = preset("gan-64-slim");
        (slim.network.latent, slim.network.codes) = (100, 0);
        assert_eq!(gan_of(&slim, image, 0).unwrap().0.macs(), 27_148_288);
        for (name, most) in [("gan-64-slim", 27_500_000), ("gan-64", 70_000_000)] {
            let mut config = preset(name);
            config.network.codes = 464;
            let (generator, _) = gan_of(&config, image, 0).unwrap();
            assert!((most * 9 / 10..most).contains(&generator.macs()), "{name}: {}", generator.macs());
        }
        for (name, side, classes) in [("dcgan-28", 28, 10), ("dcgan-32", 32, 0), ("gan-64-slim", 48, 3)] {
            let image = ImageShape { channels: 1, height: side, width: side };
            let mut config = preset(name);
            config.network.codes = config.network.codes.min(9);
            let (generator, discriminator) = gan_of(&config, image, classes).unwrap();
            assert_eq!(generator.output_shape(), Shape::Image(1, side, side));
            assert_eq!(discriminator.output_shape(), Shape::Vector(1));
            assert_eq!((generator.classes(), discriminator.classes()), (classes, classes));
        }
        let image = ImageShape { channels: 3, height: 50, width: 50 };
        assert!(gan_of(&preset("dcgan-64"), image, 0).unwrap_err().to_string().contains("3x50x50"));
    }

    #[test]
    fn a_classifier_and_a_conditional_decoder_know_their_classes() {
        let image = ImageShape { channels: 1, height: 28, width: 28 };
        let network = classifier(&form(Architecture::Conv), image, 10).unwrap();
        assert_eq!(network.output_shape(), Shape::Vector(10));
        assert!(
            classifier(&form(Architecture::Conv), image, 1).unwrap_err().to_string().contains("two classes")
        );
        let (encoder, decoder) = vae(&form(Architecture::Mlp), image, 7).unwrap();
        assert_eq!((encoder.classes(), decoder.classes()), (0, 7));
    }

    #[test]
    fn both_sides_are_halved_together() {
        let halved = |height, width| {
            let halved = Halved::of(ImageShape { channels: 3, height, width }, SMALLEST_SIDE);
            halved.map(|Halved { count, height, width }| (count, height, width))
        };
        assert_eq!(halved(64, 128), Some((4, 4, 8)));
        assert_eq!(halved(240, 320), None); // 15 by 20
        assert_eq!(halved(96, 32), Some((3, 12, 4)));
        assert_eq!(halved(28, 28), Some((2, 7, 7)));
        assert_eq!(halved(7, 64), None);
        let image = ImageShape { channels: 3, height: 64, width: 128 };
        let discriminator = DiscriminatorForm { base: 8, norm: Normalisation::Batch };
        for (architecture, classes) in [(Architecture::Dcgan, 0), (Architecture::Upsample, 3)] {
            let config = NetworkConfig { hidden: Vec::new(), ..form(architecture) };
            let (generator, discriminator) = gan(&config, discriminator, image, classes).unwrap();
            assert_eq!(generator.output_shape(), Shape::Image(3, 64, 128));
            assert_eq!(discriminator.output_shape(), Shape::Vector(1));
        }
    }

    #[test]
    fn a_side_that_cannot_be_halved_is_refused_by_name() {
        let image = ImageShape { channels: 3, height: 99, width: 99 };
        assert!(vae(&form(Architecture::Conv), image, 0).unwrap_err().to_string().contains("3x99x99"));
    }

    #[test]
    fn a_network_that_no_memory_holds_is_refused_before_it_is_made() {
        let image = ImageShape { channels: 1, height: 28, width: 28 };
        let wide = NetworkConfig { hidden: vec![65_536, 65_536], ..form(Architecture::Mlp) };
        assert!(vae(&wide, image, 0).unwrap_err().to_string().contains("network.hidden"));
    }
}
