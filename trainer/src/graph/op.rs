//! The operators of a graph: shapes, parameters and sizes. Weights have PyTorch's and ONNX's layouts, said at each.

use crate::random::{Purpose, Stream};

use super::foreign::Foreign;
use super::geometry::{Geometry, Role};
use super::upsample;
use super::{Activation, Shape};

/// Spread of a class's first features: about as much as the latent's part of them, so that pictures differ by class
/// from the first step on. With a tenth of it, a GAN's classes had hardly parted after one epoch of MNIST.
const CLASS_DEVIATION: f64 = 1.0;

/// Zeros around a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// As many on all four sides.
    Zeros(usize),
    /// As many as make the output ⌈side / stride⌉ long, the odd one below and right: ONNX's SAME_UPPER, TensorFlow's
    /// SAME.
    Same,
    /// As many on all four sides, and a last window that hangs over the end: pooling with ONNX's `ceil_mode`.
    Ceil(usize),
}

impl Padding {
    /// (zeros before, length of the output) for a window along one axis; `None` if the window does not fit.
    pub fn along(self, side: usize, kernel: usize, stride: usize) -> Option<(usize, usize)> {
        match self {
            Self::Zeros(padding) => {
                let whole = side.checked_add(padding.checked_mul(2)?)?;
                Some((padding, whole.checked_sub(kernel)? / stride + 1))
            }
            Self::Ceil(padding) => {
                let whole = side.checked_add(padding.checked_mul(2)?)?;
                let output = whole.checked_sub(kernel)?.div_ceil(stride) + 1;
                // no window begins after the picture
                let begins_outside = (output - 1) * stride >= side + padding;
                Some((padding, output - usize::from(begins_outside)))
            }
            Self::Same => {
                let output = side.div_ceil(stride);
                let total = ((output.checked_sub(1)?) * stride + kernel).saturating_sub(side);
                Some((total / 2, output))
            }
        }
    }
}

/// A square window that slides over a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its side.
    pub kernel: usize,
    /// Its step.
    pub stride: usize,
    /// Zeros around the picture; a maximum leaves them out.
    pub padding: Padding,
}

impl Window {
    /// ((zeros above, height of the output), (zeros left, its width)).
    pub fn place(&self, height: usize, width: usize) -> Option<((usize, usize), (usize, usize))> {
        if self.kernel == 0 || self.stride == 0 {
            return None;
        }
        let along = |side| self.padding.along(side, self.kernel, self.stride);
        Some((along(height)?, along(width)?))
    }
}

/// The values that a normalisation takes mean and variance of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Those of one channel in all pictures of a batch (S. Ioffe, C. Szegedy, 2015); later those of its running
    /// statistics.
    Batch,
    /// Those of so many groups of channels in one picture (Y. Wu, K. He, 2018): as many groups as channels are instance
    /// normalisation (D. Ulyanov et al., 2016).
    Groups(usize),
}

/// How a picture is brought to another size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interpolation {
    /// The pixel at ⌊y · height / new height⌋, as PyTorch's `nearest`.
    Nearest,
    /// Between the four nearest pixels' centres, edges repeated, as PyTorch's `bilinear` without aligned corners.
    Bilinear,
}

/// ONNX's DepthToSpace in mode CRD, (C·b², H, W) → (C, b·H, b·W): channel c·b² + i·b + j holds the pixels of
/// channel c at rows i and columns j modulo b. Then rows and columns are cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shuffle {
    /// b
    pub block: usize,
    /// Cut off at the top and at the left.
    pub first: usize,
    /// Size of what is left, (height, width).
    pub size: (usize, usize),
}

impl Shuffle {
    fn output(&self, shape: Shape) -> Option<Shape> {
        let (block, (height, width)) = (self.block, self.size);
        match shape {
            Shape::Image(channels, h, w)
                if channels.is_multiple_of(block * block)
                    && self.first + height <= h * block
                    && self.first + width <= w * block =>
            {
                Some(Shape::Image(channels / (block * block), height, width))
            }
            _ => None,
        }
    }

    /// For every place after the shuffle, (C, height, width) row-major, the place before it.
    pub fn places(&self, before: Shape) -> Vec<u32> {
        let (channels, h, w) = before.image();
        let (block, (height, width)) = (self.block, self.size);
        let mut places = Vec::with_capacity(channels / (block * block) * height * width);
        for channel in 0..channels / (block * block) {
            for y in (self.first..).take(height) {
                for x in (self.first..).take(width) {
                    let from = channel * block * block + y % block * block + x % block;
                    places.push(((from * h + y / block) * w + x / block) as u32);
                }
            }
        }
        places
    }
}

/// What a node does.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// y = W·x + b; weight (outputs, inputs), bias (outputs).
    Dense {
        /// Features in.
        inputs: usize,
        /// Features out.
        outputs: usize,
    },
    /// Convolution; weight (outputs, inputs / groups, kernel, kernel), bias (outputs). With as many groups as inputs it
    /// is depthwise.
    Conv {
        /// Channels in.
        inputs: usize,
        /// Channels out.
        outputs: usize,
        /// The kernel's side, step and zeros around the input.
        window: Window,
        /// Groups of channels without weights in common.
        groups: usize,
    },
    /// Transposed convolution; weight (inputs, outputs, kernel, kernel), bias (outputs); side
    /// (side − 1)·stride + kernel − 2·padding.
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
    /// weight (outputs, inputs, kernel, kernel), bias (outputs).
    UpsampleConv {
        /// Channels in.
        inputs: usize,
        /// Channels out.
        outputs: usize,
        /// Side of the kernel, odd.
        kernel: usize,
    },
    /// scale · (x − mean) / √(variance + epsilon) + shift; scale and shift (channels), and over batches the running
    /// mean and variance (channels).
    Norm {
        /// Channels in and out.
        channels: usize,
        /// What mean and variance are of.
        over: Over,
        /// Added to the variance.
        epsilon: f64,
    },
    /// Applied to each value.
    Activation(Activation),
    /// The same values in another shape.
    Reshape(Shape),
    /// Adds the row of a table (classes, features) that belongs to the picture's class: what a dense
    /// layer makes of a one-hot class beside its other inputs.
    ClassRow {
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
    /// The sum of two values of one shape.
    Add,
    /// The product of two values of one shape, value by value.
    Mul,
    /// The channels of the first value (C, H, W) times the second value: (C) or (C, 1, 1).
    Scale,
    /// Channels of two values or more, one after the other.
    Concat,
    /// Some channels.
    Slice {
        /// The first of them.
        first: usize,
        /// How many.
        count: usize,
    },
    /// The mean of each window.
    AveragePool {
        /// The windows.
        window: Window,
        /// Whether zeros around the picture count.
        counts_padding: bool,
    },
    /// The largest value of each window.
    MaxPool(Window),
    /// The mean of each channel: (C, H, W) → (C, 1, 1).
    GlobalAverage,
    /// Another size.
    Resize {
        /// Of the output.
        height: usize,
        /// Of the output.
        width: usize,
        /// How.
        by: Interpolation,
    },
    /// Each channel convolved with [1, 2, 1] / 4 along both axes, zeros around it (R. Zhang, 2019; T. Karras et al.,
    /// 2019).
    Blur,
    /// Channels → pixels.
    Shuffle(Shuffle),
    /// Pixels → channels, the inverse of a [`Shuffle`] without a cut.
    Unshuffle {
        /// Side of the squares of pixels that become channels.
        block: usize,
    },
    /// One more channel: the standard deviation over the pictures of a batch, averaged over all values (T. Karras et
    /// al., 2018, section 3).
    BatchDeviation,
    /// Each pixel's channels divided by their length, √(Σ of squares + 1e-8) (R. Zhang et al., 2018, "LPIPS"); a vector
    /// is one pixel.
    UnitLength,
    /// e^x of each of a vector's values, divided by their sum.
    Softmax,
    /// An ONNX operator that edgegen does not know by itself. It stays as it is, in float32, and has no gradient.
    Foreign(Box<Foreign>),
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

impl Init {
    /// `count` first values, from stream `stream` of `seed`.
    pub fn draw(self, seed: u64, stream: u64, count: usize) -> Vec<f32> {
        let mut stream = Stream::new(seed, Purpose::Weights, stream);
        let value = |_| match self {
            Self::Normal(deviation) => stream.normal() * deviation as f32,
            Self::Uniform(bound) => (stream.uniform() * 2.0 - 1.0) * bound as f32,
            Self::Constant(value) => value as f32,
        };
        (0..count).map(value).collect()
    }
}

/// A tensor that an operator has.
#[derive(Clone, Debug)]
pub struct ParameterSpec {
    /// `weight`, `bias`, `scale`, `shift`, `mean`, `variance`, `table`.
    pub name: &'static str,
    /// All axes.
    pub shape: Vec<usize>,
    /// First values.
    pub init: Init,
    /// False for running statistics.
    pub trained: bool,
}

impl Op {
    /// A convolution with as many zeros on all sides, and one group.
    pub fn conv(inputs: usize, outputs: usize, kernel: usize, stride: usize, padding: usize) -> Self {
        let window = Window { kernel, stride, padding: Padding::Zeros(padding) };
        Self::Conv { inputs, outputs, window, groups: 1 }
    }

    /// A depthwise convolution that keeps the size, divided by the stride.
    pub fn depthwise(channels: usize, kernel: usize, stride: usize) -> Self {
        let window = Window { kernel, stride, padding: Padding::Same };
        Self::Conv { inputs: channels, outputs: channels, window, groups: channels }
    }

    /// Batch normalisation with the usual epsilon.
    pub fn batch_norm(channels: usize) -> Self {
        Self::Norm { channels, over: Over::Batch, epsilon: super::EPSILON }
    }

    /// The field's name of the operator.
    pub fn kind(&self) -> &str {
        match self {
            Self::Dense { .. } => "Dense",
            Self::Conv { groups: 1, .. } => "Conv",
            Self::Conv { inputs, groups, .. } if inputs == groups => "DepthwiseConv",
            Self::Conv { .. } => "GroupedConv",
            Self::ConvTranspose { .. } => "ConvTranspose",
            Self::UpsampleConv { .. } => "UpsampleConv",
            Self::Norm { over: Over::Batch, .. } => "BatchNorm",
            Self::Norm { channels, over: Over::Groups(groups), .. } if channels == groups => "InstanceNorm",
            Self::Norm { .. } => "GroupNorm",
            Self::Activation(activation) => activation.name(),
            Self::Reshape(_) => "Reshape",
            Self::ClassRow { .. } => "ClassRow",
            Self::ClassProjection { .. } => "ClassProjection",
            Self::Add => "Add",
            Self::Mul => "Mul",
            Self::Scale => "Scale",
            Self::Concat => "Concat",
            Self::Slice { .. } => "Slice",
            Self::AveragePool { .. } => "AveragePool",
            Self::MaxPool(_) => "MaxPool",
            Self::GlobalAverage => "GlobalAverage",
            Self::Resize { .. } => "Resize",
            Self::Blur => "Blur",
            Self::Shuffle(_) => "DepthToSpace",
            Self::Unshuffle { .. } => "SpaceToDepth",
            Self::BatchDeviation => "BatchDeviation",
            Self::UnitLength => "UnitLength",
            Self::Softmax => "Softmax",
            Self::Foreign(foreign) => &foreign.node.op_type,
        }
    }

    /// Whether it has a weight and a bias: a dense layer or a convolution.
    pub fn is_linear(&self) -> bool {
        self.ends().is_some()
    }

    /// Whether it only moves values: what holds for the values before holds for those after.
    pub fn moves(&self) -> bool {
        matches!(self, Self::Reshape(_) | Self::Shuffle(_))
    }

    /// (input, output) channels, or features, of a linear operator.
    fn ends(&self) -> Option<(usize, usize)> {
        match *self {
            Self::Dense { inputs, outputs }
            | Self::Conv { inputs, outputs, .. }
            | Self::ConvTranspose { inputs, outputs, .. }
            | Self::UpsampleConv { inputs, outputs, .. } => Some((inputs, outputs)),
            _ => None,
        }
    }

    /// Input channels, or features, of a linear operator; 0 of another.
    pub fn inputs(&self) -> usize {
        self.ends().map_or(0, |(inputs, _)| inputs)
    }

    /// Output channels, or features, of a linear operator; 0 of another.
    pub fn outputs(&self) -> usize {
        self.ends().map_or(0, |(_, outputs)| outputs)
    }

    /// Classes that it is conditioned on; 0: none.
    pub fn classes(&self) -> usize {
        match *self {
            Self::ClassRow { classes, .. } | Self::ClassProjection { classes } => classes,
            _ => 0,
        }
    }

    /// Whether ONNX's Resize, which computes places from quotients in float32, reads the pixels that this operator reads
    /// on an input of `shape`: of the nearest pixel only for whole factors.
    pub(crate) fn resizes_as_onnx(&self, shape: Shape) -> bool {
        let Self::Resize { height, width, by: Interpolation::Nearest } = *self else { return true };
        let (_, rows, columns) = shape.image();
        let whole = |from: usize, to: usize| {
            to.is_multiple_of(from) || from.is_multiple_of(to) && (from / to).is_power_of_two()
        };
        whole(rows, height) && whole(columns, width)
    }

    /// Shape of the output for inputs of `shapes`.
    ///
    /// # Errors
    /// A sentence that names the operator and the shapes.
    pub fn output(&self, shapes: &[Shape]) -> Result<Shape, String> {
        let found = match shapes {
            [] => None,
            [shape] => self.output_of_one(*shape),
            [first, rest @ ..] => match self {
                Self::Add | Self::Mul if rest == [*first] => Some(*first),
                Self::Scale => {
                    let scales =
                        rest.len() == 1 && rest[0].pixels() == 1 && rest[0].channels() == first.channels();
                    scales.then_some(*first)
                }
                Self::Concat => {
                    let alike = rest.iter().all(|shape| shape.with_channels(1) == first.with_channels(1));
                    let channels = shapes.iter().map(|shape| shape.channels()).sum();
                    alike.then(|| first.with_channels(channels))
                }
                _ => None,
            },
        };
        found.ok_or_else(|| {
            let shapes: Vec<String> = shapes.iter().map(Shape::to_string).collect();
            match shapes.as_slice() {
                [shape] => format!("{self:?} cannot follow a shape of {shape}"),
                _ => format!("{} does not take shapes of {}", self.kind(), shapes.join(" and ")),
            }
        })
    }

    fn output_of_one(&self, shape: Shape) -> Option<Shape> {
        let (channels, height, width) = shape.image();
        let image = matches!(shape, Shape::Image(..));
        let pooled = |window: &Window| {
            let ((_, height), (_, width)) = window.place(height, width).filter(|_| image)?;
            Some(Shape::Image(channels, height, width))
        };
        match *self {
            Self::Dense { inputs, outputs } => {
                (shape == Shape::Vector(inputs) && outputs > 0).then_some(Shape::Vector(outputs))
            }
            Self::Conv { inputs, outputs, groups, .. } => {
                let fits = image
                    && inputs == channels
                    && outputs > 0
                    && groups > 0
                    && inputs.is_multiple_of(groups)
                    && outputs.is_multiple_of(groups);
                let (geometry, _) = fits.then(|| self.geometry(shape)).flatten()?;
                Some(Shape::Image(outputs, geometry.coarse.1, geometry.coarse.2))
            }
            Self::ConvTranspose { inputs, outputs, .. } => {
                let fits = image && inputs == channels && outputs > 0;
                let (geometry, _) = fits.then(|| self.geometry(shape)).flatten()?;
                Some(Shape::Image(outputs, geometry.fine.1, geometry.fine.2))
            }
            Self::UpsampleConv { inputs, outputs, kernel } => (image
                && inputs == channels
                && kernel % 2 == 1)
                .then_some(Shape::Image(outputs, 2 * height, 2 * width)),
            Self::Norm { channels: own, over: Over::Batch, .. } => (own == channels).then_some(shape),
            Self::Norm { channels: own, over: Over::Groups(groups), .. } => {
                (own == channels && groups > 0 && own.is_multiple_of(groups)).then_some(shape)
            }
            Self::Activation(_) | Self::UnitLength => Some(shape),
            Self::Softmax => (!image).then_some(shape),
            Self::ClassRow { features, .. } => (shape == Shape::Vector(features)).then_some(shape),
            Self::ClassProjection { classes } => {
                (shape == Shape::Vector(1 + classes)).then_some(Shape::Vector(1))
            }
            Self::Reshape(target) => (target.values() == shape.values()).then_some(target),
            Self::Slice { first, count } => {
                (count > 0 && first + count <= channels).then(|| shape.with_channels(count))
            }
            Self::AveragePool { ref window, .. } | Self::MaxPool(ref window) => pooled(window),
            Self::GlobalAverage => image.then_some(Shape::Image(channels, 1, 1)),
            Self::Resize { height, width, .. } => {
                (image && height * width > 0).then_some(Shape::Image(channels, height, width))
            }
            Self::Blur => image.then_some(shape),
            Self::Shuffle(ref shuffle) => shuffle.output(shape),
            Self::Unshuffle { block } => {
                let fits = image && block > 0 && height.is_multiple_of(block) && width.is_multiple_of(block);
                fits.then(|| Shape::Image(channels * block * block, height / block, width / block))
            }
            Self::BatchDeviation => image.then(|| shape.with_channels(channels + 1)),
            Self::Add | Self::Mul | Self::Scale | Self::Concat | Self::Foreign(_) => None,
        }
    }

    /// The linear operation that this operator is on an input of `shape`; `None` for other operators.
    ///
    /// [`Self::UpsampleConv`] is a transposed convolution with other weights, see [`upsample`].
    pub fn geometry(&self, shape: Shape) -> Option<(Geometry, Role)> {
        if let Self::Dense { inputs, outputs } = *self {
            return Some((Geometry::dense(inputs, outputs), Role::Coarse));
        }
        let Shape::Image(_, height, width) = shape else { return None };
        match *self {
            Self::Conv { inputs, outputs, window, groups } => {
                let ((top, out_height), (left, out_width)) = window.place(height, width)?;
                let (fine, coarse) = ((inputs, height, width), (outputs, out_height, out_width));
                let (kernel, stride) = (window.kernel, window.stride);
                Some((Geometry { kernel, stride, padding: (top, left), groups, fine, coarse }, Role::Coarse))
            }
            Self::ConvTranspose { inputs, outputs, kernel, stride, padding } if kernel * stride > 0 => {
                let side = |side: usize| ((side.checked_sub(1)?) * stride + kernel).checked_sub(2 * padding);
                let (fine, coarse) = ((outputs, side(height)?, side(width)?), (inputs, height, width));
                let padding = (padding, padding);
                Some((Geometry { kernel, stride, padding, groups: 1, fine, coarse }, Role::Fine))
            }
            Self::UpsampleConv { inputs, outputs, kernel } => {
                Some((upsample::geometry((inputs, height, width), outputs, kernel), Role::Fine))
            }
            _ => None,
        }
    }

    /// The tensors that this operator has. `next` decides the spread of the first weights: He et al.
    /// 2015 before a rectifier, Glorot and Bengio 2010 otherwise.
    ///
    /// A linear operator's bias is left out by [`super::chain`] before a batch norm, which takes it away.
    pub fn parameters(&self, next: Option<Activation>) -> Vec<ParameterSpec> {
        let rectified = next.is_some_and(Activation::rectifies);
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
            Self::Conv { inputs, outputs, window: Window { kernel, .. }, groups } => {
                let taps = (kernel * kernel) as f64 / groups as f64;
                let shape = vec![outputs, inputs / groups, kernel, kernel];
                vec![
                    weight(shape, inputs as f64 * taps, outputs as f64 * taps),
                    vector("bias", outputs, 0.0, true),
                ]
            }
            Self::UpsampleConv { inputs, outputs, kernel } => {
                let taps = (kernel * kernel) as f64;
                let shape = vec![outputs, inputs, kernel, kernel];
                vec![
                    weight(shape, inputs as f64 * taps, outputs as f64 * taps),
                    vector("bias", outputs, 0.0, true),
                ]
            }
            Self::ConvTranspose { inputs, outputs, kernel, stride, .. } => {
                // each output pixel is reached by (kernel / stride)² taps of every input channel
                let taps = (kernel * kernel) as f64;
                let reaching = taps / (stride * stride) as f64;
                let shape = vec![inputs, outputs, kernel, kernel];
                vec![
                    weight(shape, inputs as f64 * reaching, outputs as f64 * taps),
                    vector("bias", outputs, 0.0, true),
                ]
            }
            Self::Norm { channels, over, .. } => {
                let mut own =
                    vec![vector("scale", channels, 1.0, true), vector("shift", channels, 0.0, true)];
                if over == Over::Batch {
                    own.push(vector("mean", channels, 0.0, false));
                    own.push(vector("variance", channels, 1.0, false));
                }
                own
            }
            Self::ClassRow { classes, features } => vec![ParameterSpec {
                name: "table",
                shape: vec![classes, features],
                init: Init::Normal(CLASS_DEVIATION),
                trained: true,
            }],
            _ => Vec::new(),
        }
    }
}
