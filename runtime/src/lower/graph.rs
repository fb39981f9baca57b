//! What a network does, without ONNX's spelling: operators on values of one picture, which passes can fuse.

use std::collections::BTreeSet;

use edgegen_kernels::elements::{Binary, Function, Scale};
use edgegen_kernels::norms::{Among, Over};
use edgegen_kernels::windows::{Pooling, Weights};
use edgegen_kernels::{Axis, Kind};

use super::engine::Prepared;

/// The number of a value in [`Graph::values`].
pub(super) type Id = usize;

/// A value's shape, without the batch axis. A picture of one pixel is a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Vector(usize),
    /// Rows, columns. Its plane has a channel for each row, and its columns are pixels of one row.
    Matrix(usize, usize),
    /// Channels, height, width.
    Image(usize, usize, usize),
    /// Anything else: values are moved, and run through functions, but no more. Its plane is a vector's.
    Tensor(Dims),
}

/// Most axes of a value, without the batch.
const MOST_AXES: usize = 6;

/// Four to six axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dims {
    sizes: [usize; MOST_AXES],
    rank: usize,
}

impl Shape {
    pub(super) fn of(dims: &[usize]) -> Option<Self> {
        match *dims {
            [values] => Some(Self::Vector(values)),
            [rows, columns] => Some(Self::Matrix(rows, columns)),
            [channels, height, width] => Some(Self::Image(channels, height, width)),
            [_, _, _, _, ..] if dims.len() <= MOST_AXES => {
                let mut sizes = [1; MOST_AXES];
                sizes[..dims.len()].copy_from_slice(dims);
                Some(Self::Tensor(Dims { sizes, rank: dims.len() }))
            }
            _ => None,
        }
    }

    pub(super) fn dims(self) -> Vec<usize> {
        match self {
            Self::Vector(values) => vec![values],
            Self::Matrix(rows, columns) => vec![rows, columns],
            Self::Image(channels, height, width) => vec![channels, height, width],
            Self::Tensor(Dims { sizes, rank }) => sizes[..rank].to_vec(),
        }
    }

    pub(super) fn values(self) -> usize {
        self.dims().iter().product()
    }

    pub(super) fn channels(self) -> usize {
        self.dims()[0]
    }

    /// As a picture.
    pub(super) fn image(self) -> (usize, usize, usize) {
        match self {
            Self::Vector(values) => (values, 1, 1),
            Self::Matrix(rows, columns) => (rows, 1, columns),
            Self::Image(channels, height, width) => (channels, height, width),
            Self::Tensor(Dims { sizes, .. }) => (sizes.iter().product(), 1, 1),
        }
    }

    /// Whether its first axis is that of a plane's channels, and the others those of its pixels.
    pub(super) fn is_plane(self) -> bool {
        !matches!(self, Self::Tensor(_))
    }

    /// Whether it is one pixel.
    pub(super) fn is_flat(self) -> bool {
        let (_, height, width) = self.image();
        height * width == 1
    }
}

/// What a value is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    Float,
    /// uint8; int8 is kept with 128 added.
    Level,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Value {
    pub(super) shape: Shape,
    pub(super) number: Number,
}

/// Weights of a layer in float32, and as they were quantised, if they were.
#[derive(Clone, Debug)]
pub(super) struct Linear {
    pub(super) kind: Kind,
    /// Laid out as [`Kind`] says.
    pub(super) weights: Vec<f32>,
    /// s8, symmetric, with a scale for each output or one for all.
    pub(super) levels: Option<(Vec<i8>, Vec<f32>)>,
    /// One an output.
    pub(super) bias: Vec<f32>,
    /// What values below zero are multiplied by: one an output, or one for all.
    pub(super) slopes: Vec<f32>,
    /// What values are brought between then.
    pub(super) clip: Option<(f32, f32)>,
    /// What is done to each value at last.
    pub(super) after: Function,
}

impl Linear {
    /// A layer of which nothing but the sums is known.
    pub(super) fn plain(
        kind: Kind,
        weights: Vec<f32>,
        levels: Option<(Vec<i8>, Vec<f32>)>,
        bias: Vec<f32>,
    ) -> Self {
        Self { kind, weights, levels, bias, slopes: vec![1.0], clip: None, after: Function::Identity }
    }

    /// Whether nothing is done to its sums.
    pub(super) fn is_plain(&self) -> bool {
        self.slopes == [1.0] && self.clip.is_none() && self.after == Function::Identity
    }

    /// The output that weight `index` belongs to.
    pub(super) fn output_of(&self, index: usize) -> usize {
        let outputs = self.bias.len();
        match self.kind {
            Kind::Transposed { y, x, groups } => {
                let (taps, each) = (y.kernel() * x.kernel(), outputs / groups);
                // (in, out / groups, kh, kw)
                let of_group = self.weights.len() / groups;
                index / of_group * each + index / taps % each
            }
            _ => index / (self.weights.len() / outputs),
        }
    }
}

/// A layer from levels to levels.
#[derive(Clone, Debug)]
pub(super) struct Quantized {
    pub(super) kind: Kind,
    pub(super) weights: Vec<i8>,
    pub(super) bias: Vec<i32>,
    /// x_scale · w_scale / y_scale, one an output or one for all.
    pub(super) scales: Vec<f32>,
    pub(super) x_zero: u8,
    pub(super) y_zero: u8,
    pub(super) low: u8,
    pub(super) high: u8,
    pub(super) slope: f32,
}

/// Scale and level of 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Encoding {
    pub(super) scale: f32,
    pub(super) zero: u8,
}

impl From<Encoding> for Scale {
    fn from(Encoding { scale, zero }: Encoding) -> Self {
        Self { scale, zero }
    }
}

/// Values are put elsewhere: output i, in CHW order, is input `from[i]`.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Move {
    /// The same order in another shape.
    Reshape,
    /// Nearest neighbour, so many times as large.
    Enlarge(usize),
    /// DepthToSpace in mode CRD.
    Shuffle(usize),
    /// Rows and columns from here on.
    Crop(usize, usize),
    /// So many rows above and columns to the left, and as many behind as the shape has, of this value, or this level.
    Pad { top: usize, left: usize, value: f32, level: u8 },
    /// A matrix's rows become its columns.
    Turn,
    /// Anything else.
    Gather(Vec<u32>),
}

#[derive(Clone, Debug)]
pub(super) enum Op {
    Linear(Box<Linear>),
    Quantized(Box<Quantized>),
    Function(Function),
    /// value · scale + shift, one for each channel of the input, or of each of its values.
    Affine {
        scale: Vec<f32>,
        shift: Vec<f32>,
    },
    /// value · its channel's slope, below zero.
    Slopes(Vec<f32>),
    /// Two values, of which one may be the same for all rows, columns or channels; then a function.
    Binary(Binary, Function),
    Softmax(Among),
    Norm {
        over: Over,
        epsilon: f32,
        scale: Vec<f32>,
        shift: Vec<f32>,
        /// What is done to each value at last.
        after: Function,
    },
    /// Floats, or levels if it is the largest.
    Pool {
        pooling: Pooling,
        y: Axis,
        x: Axis,
    },
    Resize {
        y: Weights,
        x: Weights,
    },
    /// Of two matrices, of which each may be read with its rows and columns exchanged.
    Product {
        left_turned: bool,
        right_turned: bool,
    },
    /// The same for every picture.
    Constant(Vec<f32>),
    Quantize(Encoding),
    /// DequantizeLinear, then a function.
    LookUp(Encoding, Function),
    Table(Box<[u8; 256]>),
    /// One for each channel.
    Tables(Vec<[u8; 256]>),
    /// The mean of each channel.
    MeanLevels(Encoding, Encoding),
    /// Levels from two values' levels.
    BinaryLevels(BinaryLevels),
    Move(Move),
    /// The row of the picture's class; floats or levels.
    ClassFloats {
        classes: usize,
        table: Vec<f32>,
    },
    ClassLevels {
        classes: usize,
        table: Vec<u8>,
    },
    /// One behind the other along an axis of (C, H, W).
    Concat(usize),
    Other(Box<Other>),
}

/// DequantizeLinear of two values, a function of both, and QuantizeLinear.
#[derive(Clone, Copy, Debug)]
pub(super) struct BinaryLevels {
    pub(super) binary: Binary,
    pub(super) left: Encoding,
    pub(super) right: Encoding,
    pub(super) to: Encoding,
    pub(super) low: u8,
    pub(super) high: u8,
}

/// A part of the network that another engine runs. Several values that come out of it are one vector.
#[derive(Clone, Debug)]
pub(super) struct Other {
    pub(super) prepared: Box<dyn Prepared>,
    /// The engine's name.
    pub(super) engine: &'static str,
    /// What is said of each of its nodes.
    pub(super) reasons: Vec<(usize, String)>,
}

impl Op {
    /// What a layer does to positions; `None` for what is no layer.
    pub(super) fn kind(&self) -> Option<Kind> {
        match self {
            Self::Linear(linear) => Some(linear.kind),
            Self::Quantized(layer) => Some(layer.kind),
            _ => None,
        }
    }
}

/// x_scale · w_scale / y_scale of each weight scale; `None` if that is more than float32 holds.
pub(super) fn requantised(x: Encoding, weights: &[f32], y: Encoding) -> Option<Vec<f32>> {
    let scales = weights.iter().map(|scale| x.scale * scale / y.scale);
    scales.map(|scale| scale.is_finite().then_some(scale)).collect()
}

/// An operator, what it connects, and which ONNX nodes it stands for.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) op: Op,
    pub(super) inputs: Vec<Id>,
    pub(super) output: Id,
    /// Indices in the ONNX graph; what the last does gives the node its name.
    pub(super) sources: Vec<usize>,
}

/// A network, nodes in an order in which they can run.
#[derive(Clone, Debug)]
pub(super) struct Graph {
    pub(super) values: Vec<Value>,
    pub(super) nodes: Vec<Node>,
    pub(super) input: Id,
    pub(super) outputs: Vec<Id>,
    /// ONNX nodes whose results were computed while the graph was read.
    pub(super) constants: Vec<usize>,
}

impl Graph {
    pub(super) fn value(&mut self, shape: Shape, number: Number) -> Id {
        self.values.push(Value { shape, number });
        self.values.len() - 1
    }

    /// Puts every node behind those that make what it reads, and else leaves them as they are.
    pub(super) fn sort(&mut self) {
        // how many inputs each node waits for, and who waits for each value
        let mut made = vec![true; self.values.len()];
        self.nodes.iter().for_each(|node| made[node.output] = false);
        let mut waiting: Vec<Option<Node>> = std::mem::take(&mut self.nodes).into_iter().map(Some).collect();
        let mut readers = vec![Vec::new(); self.values.len()];
        let mut missing = vec![0usize; waiting.len()];
        let mut ready = BTreeSet::new();
        for (index, node) in waiting.iter().enumerate() {
            for input in node.iter().flat_map(|node| &node.inputs).filter(|input| !made[**input]) {
                readers[*input].push(index);
                missing[index] += 1;
            }
            if missing[index] == 0 {
                ready.insert(index);
            }
        }
        // the first that can be run, always
        while let Some(index) = ready.pop_first() {
            let Some(node) = waiting[index].take() else { continue };
            for reader in std::mem::take(&mut readers[node.output]) {
                missing[reader] -= 1;
                if missing[reader] == 0 {
                    ready.insert(reader);
                }
            }
            self.nodes.push(node);
        }
        debug_assert!(waiting.iter().all(Option::is_none), "a circle");
    }
}
