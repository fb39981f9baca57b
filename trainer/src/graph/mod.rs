//! A network as a graph of operators that own their values: what a trained module becomes on its way to a file, and
//! what an ONNX file is read into.
//!
//! Values are named and have one shape each, without the batch axis; nodes stand in an order in which they can run.
//! [`prepare`] brings every linear operator into the form that a device runs fastest: a dense layer or a
//! convolution, behind which pixels may be shuffled.

mod from_module;
pub mod import;
pub(crate) mod port;
pub mod prepare;
mod run;

use edgegen_runtime::model::Metadata;
use tract_onnx::pb::{NodeProto, TensorProto};

use crate::network::{Activation, Layer, Shape};
use crate::{Error, Result};

pub use from_module::Heads;

/// The number of a value in [`Graph::values`].
pub type ValueId = usize;

/// What flows from one node to others.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Unique in its graph.
    pub name: String,
    /// Without the batch axis.
    pub shape: Shape,
}

/// A network.
#[derive(Clone, Debug)]
pub struct Graph {
    /// Its name.
    pub name: String,
    /// Everything that flows.
    pub values: Vec<Value>,
    /// In an order in which they can run.
    pub nodes: Vec<Node>,
    /// The float32 input: (N, L), (N, L, 1, 1) or (N, C, H, W).
    pub input: ValueId,
    /// Name of the int64 input (N) that tells each row's class, if any node needs it.
    pub class_input: String,
    /// Float32.
    pub outputs: Vec<ValueId>,
    /// What the file says about itself.
    pub metadata: Metadata,
    /// The ONNX operator set whose meaning [`Op::Foreign`] nodes have.
    pub opset: i64,
}

/// An operator and what it connects.
#[derive(Clone, Debug)]
pub struct Node {
    /// Unique in its graph, and what reports and `--keep-float` call it.
    pub name: String,
    /// What it does.
    pub op: Op,
    /// What it reads; one, but for [`Op::Foreign`].
    pub inputs: Vec<ValueId>,
    /// What it makes.
    pub output: ValueId,
}

/// What a node does.
#[derive(Clone, Debug)]
pub enum Op {
    /// Dense, Conv, ConvTranspose or UpsampleConv.
    Linear(Linear),
    /// y = scale · (x − mean) / √(variance + epsilon) + shift, each (channels).
    BatchNorm(BatchNorm),
    /// Applied to each value.
    Activation(Activation),
    /// The same values in the output's shape.
    Reshape,
    /// Channels → pixels, then a border is cut off.
    Shuffle(Shuffle),
    /// Adds the row of the picture's class: (classes, features).
    ClassRow {
        /// Rows.
        classes: usize,
        /// Row-major.
        table: Vec<f32>,
    },
    /// An operator that edgegen does not know by itself. It stays as it is, in float32.
    Foreign(Box<Foreign>),
}

/// A linear operator with its values.
#[derive(Clone, Debug)]
pub struct Linear {
    /// Which one, with its sizes.
    pub layer: Layer,
    /// In the layer's own layout, see [`Layer`].
    pub weight: Vec<f32>,
    /// (outputs)
    pub bias: Vec<f32>,
}

/// Batch norm by stored statistics, each (channels).
#[derive(Clone, Debug)]
pub struct BatchNorm {
    /// γ
    pub scale: Vec<f32>,
    /// β
    pub shift: Vec<f32>,
    /// Of the training data.
    pub mean: Vec<f32>,
    /// Of the training data.
    pub variance: Vec<f32>,
    /// Added to the variance.
    pub epsilon: f64,
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

/// An ONNX node as it was read.
#[derive(Clone, Debug)]
pub struct Foreign {
    /// Its inputs that are values of the graph stand in the order of [`Node::inputs`].
    pub node: NodeProto,
    /// The constants that it reads.
    pub constants: Vec<TensorProto>,
}

impl Op {
    /// The field's name of the operator.
    pub fn kind(&self) -> &str {
        match self {
            Self::Linear(linear) => match linear.layer {
                Layer::Dense { .. } => "Dense",
                Layer::Conv { .. } => "Conv",
                Layer::ConvTranspose { .. } => "ConvTranspose",
                _ => "UpsampleConv",
            },
            Self::BatchNorm(_) => "BatchNorm",
            Self::Activation(Activation::Relu) => "Relu",
            Self::Activation(Activation::LeakyRelu(_)) => "LeakyRelu",
            Self::Activation(Activation::Tanh) => "Tanh",
            Self::Activation(Activation::Sigmoid) => "Sigmoid",
            Self::Reshape => "Reshape",
            Self::Shuffle(_) => "DepthToSpace",
            Self::ClassRow { .. } => "ClassRow",
            Self::Foreign(foreign) => &foreign.node.op_type,
        }
    }

    /// Whether it only moves values: what holds for the values before holds for those behind.
    pub fn moves(&self) -> bool {
        matches!(self, Self::Reshape | Self::Shuffle(_))
    }

    /// Shape of the output for an input of `shape`; `None` if that is not decided by it.
    fn output(&self, shape: Shape) -> std::result::Result<Option<Shape>, String> {
        Ok(match self {
            Self::Linear(linear) => Some(linear.layer.output(shape)?),
            Self::BatchNorm(norm) => Some(Layer::BatchNorm { channels: norm.scale.len() }.output(shape)?),
            Self::Activation(_) => Some(shape),
            Self::ClassRow { classes, table } => Some(
                Layer::ClassEmbedding { classes: *classes, features: table.len() / classes }.output(shape)?,
            ),
            Self::Shuffle(shuffle) => Some(shuffle.output(shape)?),
            Self::Reshape | Self::Foreign(_) => None,
        })
    }
}

impl Linear {
    /// Output channels, or features.
    pub fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// Input channels, or features.
    pub fn inputs(&self) -> usize {
        match self.layer {
            Layer::Dense { inputs, .. }
            | Layer::Conv { inputs, .. }
            | Layer::ConvTranspose { inputs, .. }
            | Layer::UpsampleConv { inputs, .. } => inputs,
            _ => 0,
        }
    }

    /// The output channel of weight number `index`.
    pub fn output_of(&self, index: usize) -> usize {
        match self.layer {
            Layer::ConvTranspose { outputs, kernel, .. } => index / (kernel * kernel) % outputs,
            _ => index / (self.weight.len() / self.outputs().max(1)).max(1),
        }
    }
}

impl Shuffle {
    fn output(&self, shape: Shape) -> std::result::Result<Shape, String> {
        let (block, (height, width)) = (self.block, self.size);
        match shape {
            Shape::Image(channels, h, w)
                if channels.is_multiple_of(block * block)
                    && self.first + height <= h * block
                    && self.first + width <= w * block =>
            {
                Ok(Shape::Image(channels / (block * block), height, width))
            }
            _ => Err(format!("{self:?} cannot follow a shape of {shape}")),
        }
    }
}

impl Graph {
    /// A graph without nodes.
    pub(crate) fn new(name: &str, input: (&str, Shape), metadata: Metadata) -> Self {
        Self {
            name: name.into(),
            values: vec![Value { name: input.0.into(), shape: input.1 }],
            nodes: Vec::new(),
            input: 0,
            class_input: "class".into(),
            outputs: Vec::new(),
            metadata,
            opset: 0,
        }
    }

    /// Adds a value.
    pub(crate) fn value(&mut self, name: impl Into<String>, shape: Shape) -> ValueId {
        self.values.push(Value { name: name.into(), shape });
        self.values.len() - 1
    }

    /// Adds a node behind all others, and the value that it makes.
    ///
    /// # Errors
    /// [`Error::Export`] that names the node if `op` cannot follow `input`, or does not make `shape` of it.
    pub(crate) fn push(
        &mut self,
        name: &str,
        op: Op,
        input: ValueId,
        (value, shape): (impl Into<String>, Option<Shape>),
    ) -> Result<ValueId> {
        let before = self.values[input].shape;
        let misfit = |problem: String| Error::Export(format!("node {name:?}: {problem}"));
        let made = op.output(before).map_err(misfit)?;
        let Some(shape) =
            made.or(shape).filter(|shape| !matches!(op, Op::Reshape) || shape.values() == before.values())
        else {
            return Err(misfit(format!("{} cannot follow a shape of {before}", op.kind())));
        };
        let output = self.value(value, shape);
        self.nodes.push(Node { name: name.into(), op, inputs: vec![input], output });
        Ok(output)
    }

    /// How many classes the network is told of; 0: none.
    pub fn classes(&self) -> usize {
        let told = self.nodes.iter().find_map(|node| match &node.op {
            Op::ClassRow { classes, .. } => Some(*classes),
            _ => None,
        });
        told.unwrap_or(0)
    }

    /// The nodes that read a value.
    pub fn readers(&self, value: ValueId) -> impl Iterator<Item = usize> {
        (0..self.nodes.len()).filter(move |index| self.nodes[*index].inputs.contains(&value))
    }

    /// The one node that reads a value which is no output; `None` if there is another use of it.
    pub fn only_reader(&self, value: ValueId) -> Option<usize> {
        let mut readers = self.readers(value);
        let first = readers.next();
        first.filter(|_| readers.next().is_none() && !self.outputs.contains(&value))
    }

    /// The node that makes a value; `None` for the input.
    pub fn maker(&self, value: ValueId) -> Option<usize> {
        self.nodes.iter().position(|node| node.output == value)
    }

    /// The name of a node for people: the name, and what it is.
    pub fn label(&self, node: usize) -> String {
        let node = &self.nodes[node];
        format!("{} ({})", node.name, node.op.kind())
    }

    /// Multiplications for one picture, those with the border's zeros counted too.
    pub fn macs(&self) -> u64 {
        let macs = |node: &Node| match &node.op {
            Op::Linear(linear) => linear.layer.macs(self.values[node.inputs[0]].shape),
            _ => 0,
        };
        self.nodes.iter().map(macs).sum()
    }

    /// Weights, biases, tables and whatever else a file has to hold.
    pub fn parameters(&self) -> u64 {
        let own = |node: &Node| match &node.op {
            Op::Linear(linear) => linear.weight.len() + linear.bias.len(),
            Op::BatchNorm(norm) => 4 * norm.scale.len(),
            Op::ClassRow { table, .. } => table.len(),
            _ => 0,
        };
        self.nodes.iter().map(|node| own(node) as u64).sum()
    }

    /// Refuses weights that are not finite.
    ///
    /// # Errors
    /// [`Error::Export`] that names the first.
    pub fn check_finite(&self) -> Result<()> {
        let Some((node, value)) = self.find_weight(|value| !value.is_finite()) else { return Ok(()) };
        Err(Error::Export(format!(
            "a weight of {} is {value}: such a network cannot be exported; train it again with a lower --learning-rate",
            self.label(node)
        )))
    }

    /// The first weight for which `is` holds, with the node that holds it.
    pub(crate) fn find_weight(&self, is: impl Fn(f32) -> bool) -> Option<(usize, f32)> {
        self.nodes.iter().enumerate().find_map(|(index, node)| {
            let held: Vec<&[f32]> = match &node.op {
                Op::Linear(linear) => vec![&linear.weight, &linear.bias],
                Op::BatchNorm(norm) => vec![&norm.scale, &norm.shift, &norm.mean, &norm.variance],
                Op::ClassRow { table, .. } => vec![table],
                _ => Vec::new(),
            };
            held.into_iter().flatten().find(|value| is(**value)).map(|value| (index, *value))
        })
    }
}
