//! What a network *is*: one typed list of layers, from which come both the trained module
//! ([`module`]) and the ONNX nodes ([`crate::export`]). No network is written twice.

pub mod form;
pub mod module;

use std::fmt;

use edgegen_runtime::model::ImageShape;

pub use crate::nn::activation::Activation;
use crate::nn::geometry::{Geometry, Role};
use crate::nn::upsample;

/// Spread of a class's first features: about as much as the latent's part of them, so that pictures differ by class
/// from the first step on. With a tenth of it, a GAN's classes had hardly parted after one epoch of MNIST.
const CLASS_DEVIATION: f64 = 1.0;

/// Shape of what flows between layers, without the batch axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// (features)
    Vector(usize),
    /// (channels, height, width)
    Image(usize, usize, usize),
}

impl Shape {
    /// That of pictures.
    pub fn of_image(image: ImageShape) -> Self {
        Self::Image(image.channels, image.height, image.width)
    }

    /// Number of values.
    pub fn values(self) -> usize {
        match self {
            Self::Vector(features) => features,
            Self::Image(channels, height, width) => channels * height * width,
        }
    }

    /// (channels, height, width); a vector's features are channels of one pixel.
    pub fn image(self) -> (usize, usize, usize) {
        match self {
            Self::Vector(features) => (features, 1, 1),
            Self::Image(channels, height, width) => (channels, height, width),
        }
    }

    /// Channels, or features.
    pub fn channels(self) -> usize {
        self.image().0
    }

    /// Axes after the batch axis.
    pub fn dims(self) -> Vec<usize> {
        match self {
            Self::Vector(features) => vec![features],
            Self::Image(channels, height, width) => vec![channels, height, width],
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vector(features) => write!(f, "{features}"),
            Self::Image(channels, height, width) => write!(f, "{channels}x{height}x{width}"),
        }
    }
}

/// One layer. Weights are PyTorch's and ONNX's layouts, said at each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Layer {
    /// y = W·x + b; weight (outputs, inputs).
    Dense {
        /// Features in.
        inputs: usize,
        /// Features out.
        outputs: usize,
    },
    /// Convolution with zero padding; weight (outputs, inputs, kernel, kernel).
    Conv {
        /// Channels in.
        inputs: usize,
        /// Channels out.
        outputs: usize,
        /// Side of the kernel.
        kernel: usize,
        /// Step on the input.
        stride: usize,
        /// Zeros around the input.
        padding: usize,
    },
    /// Transposed convolution; weight (inputs, outputs, kernel, kernel); side (side − 1)·stride + kernel − 2·padding.
    ConvTranspose {
        /// Channels in.
        inputs: usize,
        /// Channels out.
        outputs: usize,
        /// Side of the kernel.
        kernel: usize,
        /// Step on the output.
        stride: usize,
        /// Cut off around the output.
        padding: usize,
    },
    /// Nearest-neighbour upsampling by 2, then a convolution that keeps the size (odd kernel);
    /// weight (outputs, inputs, kernel, kernel).
    UpsampleConv {
        /// Channels in.
        inputs: usize,
        /// Channels out.
        outputs: usize,
        /// Side of the kernel, odd.
        kernel: usize,
    },
    /// Batch normalisation; scale, shift, mean and variance (channels).
    BatchNorm {
        /// Channels in and out.
        channels: usize,
    },
    /// Applied to each value.
    Activation(Activation),
    /// The same values in another shape.
    Reshape(Shape),
    /// Adds the row of a table (classes, features) that belongs to the picture's class: what a dense
    /// layer makes of a one-hot class beside its other inputs.
    ClassEmbedding {
        /// Rows.
        classes: usize,
        /// Features in and out.
        features: usize,
    },
    /// Of 1 + classes values, the first plus that of the picture's class: a projection discriminator's
    /// head (T. Miyato, M. Koyama, 2018), with the class vectors as rows of the layer before.
    ClassProjection {
        /// Classes.
        classes: usize,
    },
}

/// How a parameter starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Normal with this standard deviation.
    Normal(f64),
    /// Uniform in ± this bound.
    Uniform(f64),
    /// The same value everywhere.
    Constant(f64),
}

/// A tensor that a layer owns.
#[derive(Clone, Debug)]
pub struct ParameterSpec {
    /// `weight`, `bias`, `scale`, `shift`, `mean`, `variance`.
    pub name: &'static str,
    /// All axes.
    pub shape: Vec<usize>,
    /// First values.
    pub init: Init,
    /// False for running statistics.
    pub trained: bool,
}

impl Layer {
    /// Shape of the output for an input of `shape`, or what does not fit.
    ///
    /// # Errors
    /// A sentence that names both shapes.
    pub fn output(&self, shape: Shape) -> Result<Shape, String> {
        let misfit = || Err(format!("{self:?} cannot follow a shape of {shape}"));
        match (*self, shape) {
            (Self::Dense { inputs, outputs }, Shape::Vector(features)) if inputs == features => {
                Ok(Shape::Vector(outputs))
            }
            (Self::Conv { inputs, outputs, .. }, Shape::Image(channels, ..)) if inputs == channels => {
                match self.geometry(shape) {
                    Some((Geometry { coarse: (_, height, width), .. }, _)) => {
                        Ok(Shape::Image(outputs, height, width))
                    }
                    None => misfit(),
                }
            }
            (Self::ConvTranspose { inputs, outputs, .. }, Shape::Image(channels, ..))
                if inputs == channels =>
            {
                match self.geometry(shape) {
                    Some((Geometry { fine: (_, height, width), .. }, _)) => {
                        Ok(Shape::Image(outputs, height, width))
                    }
                    None => misfit(),
                }
            }
            (Self::UpsampleConv { inputs, outputs, kernel }, Shape::Image(channels, height, width))
                if inputs == channels && kernel % 2 == 1 =>
            {
                Ok(Shape::Image(outputs, 2 * height, 2 * width))
            }
            (Self::BatchNorm { channels }, Shape::Image(c, ..) | Shape::Vector(c)) if channels == c => {
                Ok(shape)
            }
            (Self::Activation(_), _) => Ok(shape),
            (Self::ClassEmbedding { features, .. }, Shape::Vector(f)) if features == f => Ok(shape),
            (Self::ClassProjection { classes }, Shape::Vector(f)) if f == 1 + classes => Ok(Shape::Vector(1)),
            (Self::Reshape(target), _) if target.values() == shape.values() => Ok(target),
            _ => misfit(),
        }
    }

    /// The linear operation that this layer is on an input of `shape`; `None` for other layers.
    ///
    /// [`Self::UpsampleConv`] is a transposed convolution with other weights, see [`upsample`].
    pub fn geometry(&self, shape: Shape) -> Option<(Geometry, Role)> {
        if let Self::Dense { inputs, outputs } = *self {
            return Some((Geometry::dense(inputs, outputs), Role::Coarse));
        }
        let Shape::Image(_, height, width) = shape else { return None };
        match *self {
            Self::Conv { inputs, outputs, kernel, stride, padding } => {
                let side = |side: usize| Some((side + 2 * padding).checked_sub(kernel)? / stride + 1);
                let (fine, coarse) = ((inputs, height, width), (outputs, side(height)?, side(width)?));
                Some((Geometry { kernel, stride, padding, fine, coarse }, Role::Coarse))
            }
            Self::ConvTranspose { inputs, outputs, kernel, stride, padding } => {
                let side = |side: usize| ((side.checked_sub(1)?) * stride + kernel).checked_sub(2 * padding);
                let (fine, coarse) = ((outputs, side(height)?, side(width)?), (inputs, height, width));
                Some((Geometry { kernel, stride, padding, fine, coarse }, Role::Fine))
            }
            Self::UpsampleConv { inputs, outputs, kernel } => {
                Some((upsample::geometry((inputs, height, width), outputs, kernel), Role::Fine))
            }
            _ => None,
        }
    }

    /// The tensors that this layer owns. `next` decides the spread of the first weights: He et al.
    /// 2015 before a (leaky) ReLU, Glorot and Bengio 2010 otherwise.
    ///
    /// A linear layer's bias is left out by [`Network::parameters`] before a batch norm, which takes it away.
    pub fn parameters(&self, next: Option<Activation>) -> Vec<ParameterSpec> {
        let rectified = matches!(next, Some(Activation::Relu | Activation::LeakyRelu(_)));
        let weight = |shape: Vec<usize>, fan_in: f64, fan_out: f64| {
            let init = if rectified {
                Init::Normal((2.0 / fan_in).sqrt())
            } else {
                Init::Uniform((6.0 / (fan_in + fan_out)).sqrt())
            };
            ParameterSpec { name: "weight", shape, init, trained: true }
        };
        let vector = |name, length, value, trained| ParameterSpec {
            name,
            shape: vec![length],
            init: Init::Constant(value),
            trained,
        };
        match *self {
            Self::Dense { inputs, outputs } => vec![
                weight(vec![outputs, inputs], inputs as f64, outputs as f64),
                vector("bias", outputs, 0.0, true),
            ],
            Self::Conv { inputs, outputs, kernel, .. } | Self::UpsampleConv { inputs, outputs, kernel } => {
                let taps = (kernel * kernel) as f64;
                vec![
                    weight(
                        vec![outputs, inputs, kernel, kernel],
                        inputs as f64 * taps,
                        outputs as f64 * taps,
                    ),
                    vector("bias", outputs, 0.0, true),
                ]
            }
            Self::ConvTranspose { inputs, outputs, kernel, stride, .. } => {
                // each output pixel is reached by (kernel / stride)² taps of every input channel
                let taps = (kernel * kernel) as f64;
                let reaching = taps / (stride * stride) as f64;
                vec![
                    weight(
                        vec![inputs, outputs, kernel, kernel],
                        inputs as f64 * reaching,
                        outputs as f64 * taps,
                    ),
                    vector("bias", outputs, 0.0, true),
                ]
            }
            Self::BatchNorm { channels } => vec![
                vector("scale", channels, 1.0, true),
                vector("shift", channels, 0.0, true),
                vector("mean", channels, 0.0, false),
                vector("variance", channels, 1.0, false),
            ],
            Self::ClassEmbedding { classes, features } => vec![ParameterSpec {
                name: "table",
                shape: vec![classes, features],
                init: Init::Normal(CLASS_DEVIATION),
                trained: true,
            }],
            Self::Activation(_) | Self::Reshape(_) | Self::ClassProjection { .. } => Vec::new(),
        }
    }

    /// Multiplications that one picture needs, counted densely (no taps saved at the border).
    pub fn macs(&self, shape: Shape) -> u64 {
        self.geometry(shape).map_or(0, |(geometry, _)| geometry.macs())
    }
}

/// A sequence of layers with the shape that enters it.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// Shape of one input.
    pub input: Shape,
    /// First to last.
    pub layers: Vec<Layer>,
}

impl Network {
    /// Checks that every layer fits its predecessor.
    ///
    /// # Errors
    /// A sentence that names the first layer that does not fit.
    pub fn new(input: Shape, layers: Vec<Layer>) -> Result<Self, String> {
        let network = Self { input, layers };
        network.shapes()?;
        Ok(network)
    }

    /// Shapes entering each layer, and the output's shape at the end.
    ///
    /// # Errors
    /// A sentence that names the first layer that does not fit.
    pub fn shapes(&self) -> Result<Vec<Shape>, String> {
        let mut shapes = vec![self.input];
        for (index, layer) in self.layers.iter().enumerate() {
            let shape = layer.output(shapes[index]).map_err(|misfit| format!("layer {index}: {misfit}"))?;
            shapes.push(shape);
        }
        Ok(shapes)
    }

    /// The tensors that layer `index` owns.
    pub fn parameters(&self, index: usize) -> Vec<ParameterSpec> {
        let mut own = self.layers[index].parameters(self.activation_reached_from(index));
        let behind = self.layers[index + 1..]
            .iter()
            .find(|layer| !matches!(layer, Layer::Reshape(_) | Layer::ClassEmbedding { .. }));
        if matches!(behind, Some(Layer::BatchNorm { .. })) {
            own.retain(|parameter| parameter.name != "bias");
        }
        own
    }

    /// How many classes the network is told of; 0: none.
    pub fn classes(&self) -> usize {
        let of_layer = |layer: &Layer| match *layer {
            Layer::ClassEmbedding { classes, .. } | Layer::ClassProjection { classes } => Some(classes),
            _ => None,
        };
        self.layers.iter().find_map(of_layer).unwrap_or(0)
    }

    /// The activation that layer `index`'s values enter, behind a batch norm or a reshape too: it
    /// decides the spread of first weights.
    pub fn activation_reached_from(&self, index: usize) -> Option<Activation> {
        let mut behind = self.layers[index + 1..].iter();
        let next = behind.find(|layer| {
            !matches!(layer, Layer::BatchNorm { .. } | Layer::Reshape(_) | Layer::ClassEmbedding { .. })
        });
        match next {
            Some(Layer::Activation(activation)) => Some(*activation),
            _ => None,
        }
    }

    /// The activation right behind layer `index`, if there is one.
    pub fn activation_after(&self, index: usize) -> Option<Activation> {
        match self.layers.get(index + 1) {
            Some(Layer::Activation(activation)) => Some(*activation),
            _ => None,
        }
    }

    /// Trained values and multiplications per picture.
    ///
    /// # Errors
    /// As [`Network::shapes`].
    pub fn size(&self) -> Result<(u64, u64), String> {
        let shapes = self.shapes()?;
        let mut size = (0, 0);
        for (index, (layer, shape)) in self.layers.iter().zip(shapes).enumerate() {
            let own = self
                .parameters(index)
                .iter()
                .filter(|p| p.trained)
                .map(|p| p.shape.iter().product::<usize>() as u64)
                .sum::<u64>();
            size = (size.0 + own, size.1 + layer.macs(shape));
        }
        Ok(size)
    }
}
