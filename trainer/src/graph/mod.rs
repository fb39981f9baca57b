//! The description of a network: a graph of operators with typed shapes and named parameters. Training, quantising and
//! exporting work on the same one.
//!
//! Values are named and have one shape each, without the batch axis; nodes stand in an order in which they can run. A
//! [`Graph`]`<()>` is the structure alone, as [`family`] and [`chain`] build it; [`Graph::initialise`] gives it first
//! values; [`crate::compute`] holds the values of a graph on a device. [`import`] reads a graph from an ONNX file.
//! [`prepare`] brings every linear operator into the form that a device runs fastest: a dense layer or a convolution,
//! after which pixels may be shuffled.

mod activation;
pub mod chain;
pub mod family;
pub mod features;
mod foreign;
pub mod geometry;
mod heads;
pub mod import;
pub mod onnx;
pub mod op;
pub(crate) mod port;
pub mod prepare;
pub mod projected;
mod shape;
pub mod teacher;
pub mod transform;
pub(crate) mod upsample;

use edgegen_runtime::model::Metadata;
use edgegen_runtime::model::limits::MAX_TENSOR_VALUES;

use crate::{Error, Result};

pub use activation::Activation;
pub use foreign::Foreign;
pub use heads::Heads;
pub use op::{Interpolation, Op, Over, Padding, Shuffle, Window};
pub use shape::Shape;

/// Added to a batch norm's variance, as PyTorch and the DCGAN papers do.
pub const EPSILON: f64 = 1e-5;

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

/// A network. `W` is what holds a parameter's values: nothing, numbers, or a tensor on a device.
#[derive(Clone, Debug)]
pub struct Graph<W = Vec<f32>> {
    /// Its name.
    pub name: String,
    /// Everything that flows.
    pub values: Vec<Value>,
    /// In an order in which they can run.
    pub nodes: Vec<Node<W>>,
    /// The float32 input: (N, L), (N, L, 1, 1) or (N, C, H, W).
    pub input: ValueId,
    /// Name of the int64 input (N) that tells each row's class, if any node needs it.
    pub class_input: String,
    /// Float32.
    pub outputs: Vec<ValueId>,
    /// What the file says about itself.
    pub metadata: Metadata,
    /// Whether it takes pictures of any height and width, of which those of its values are one case.
    pub any_size: bool,
    /// The ONNX operator set whose meaning [`Op::Foreign`] nodes have.
    pub opset: i64,
}

/// An operator, what it connects, and its parameters.
#[derive(Clone, Debug)]
pub struct Node<W = Vec<f32>> {
    /// Unique in its graph, and what reports and `--keep-float` call it.
    pub name: String,
    /// What it does.
    pub op: Op,
    /// What it reads.
    pub inputs: Vec<ValueId>,
    /// What it makes.
    pub output: ValueId,
    /// In the order of [`Op::parameters`]; a linear operator before a batch norm has no bias.
    pub parameters: Vec<Parameter<W>>,
}

/// A named tensor.
#[derive(Clone, Debug)]
pub struct Parameter<W = Vec<f32>> {
    /// `PART.NUMBER.NAME` of a network that is trained, for example `decoder.3.weight`.
    pub name: String,
    /// All axes.
    pub shape: Vec<usize>,
    /// Row-major.
    pub value: W,
    /// False for running statistics.
    pub trained: bool,
}

impl<W> Parameter<W> {
    /// Number of values.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// The same with its values held by something else.
    ///
    /// # Errors
    /// What `hold` returns.
    pub fn map<V>(&self, hold: impl FnOnce(&Self) -> Result<V>) -> Result<Parameter<V>> {
        let value = hold(self)?;
        Ok(Parameter { name: self.name.clone(), shape: self.shape.clone(), value, trained: self.trained })
    }
}

impl<W> Node<W> {
    /// The name for people: the name, and what it is.
    pub fn label(&self) -> String {
        format!("{} ({})", self.name, self.op.kind())
    }
}

impl Node {
    /// A linear operator's weight, in the layout that [`Op`] gives; a class's table.
    pub fn weight(&self) -> &[f32] {
        self.parameters.first().map_or(&[], |parameter| &parameter.value)
    }

    /// The same, to be changed.
    pub fn weight_mut(&mut self) -> &mut [f32] {
        self.parameters.first_mut().map_or(&mut [], |parameter| &mut parameter.value)
    }

    /// A linear operator's bias, (outputs); empty if it has none.
    pub fn bias(&self) -> &[f32] {
        self.parameters.get(1).map_or(&[], |parameter| &parameter.value)
    }

    /// The same, to be changed.
    pub fn bias_mut(&mut self) -> &mut [f32] {
        self.parameters.get_mut(1).map_or(&mut [], |parameter| &mut parameter.value)
    }

    /// The output channel of weight number `index` of a linear operator.
    pub fn output_of(&self, index: usize) -> usize {
        match self.op {
            Op::ConvTranspose { outputs, kernel, .. } => index / (kernel * kernel) % outputs,
            _ => index / (self.weight().len() / self.op.outputs().max(1)).max(1),
        }
    }
}

/// Parameters of `op` for the node called `node`, with these values in the order of [`Op::parameters`].
pub(crate) fn parameters_of(node: &str, op: &Op, values: Vec<Vec<f32>>) -> Vec<Parameter> {
    let specs = op.parameters(None).into_iter().zip(values);
    let parameter = |(spec, value): (op::ParameterSpec, Vec<f32>)| Parameter {
        name: format!("{node}.{}", spec.name),
        shape: spec.shape,
        value,
        trained: spec.trained,
    };
    specs.map(parameter).collect()
}

impl<W> Graph<W> {
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
            any_size: false,
            opset: 0,
        }
    }

    /// Adds a value.
    pub(crate) fn value(&mut self, name: impl Into<String>, shape: Shape) -> ValueId {
        self.values.push(Value { name: name.into(), shape });
        self.values.len() - 1
    }

    /// Adds a node after all others, and the value that it makes.
    ///
    /// # Errors
    /// [`Error::Export`] that names the node and the shapes if `op` does not take them.
    pub(crate) fn push(
        &mut self,
        name: &str,
        op: Op,
        inputs: &[ValueId],
        parameters: Vec<Parameter<W>>,
        value: impl Into<String>,
    ) -> Result<ValueId> {
        let shapes: Vec<Shape> = inputs.iter().map(|input| self.values[*input].shape).collect();
        let shape =
            op.output(&shapes).map_err(|problem| Error::Export(format!("node {name:?}: {problem}")))?;
        let values = shape.dims().into_iter().try_fold(1usize, usize::checked_mul);
        if values.is_none_or(|values| values > MAX_TENSOR_VALUES) {
            return Err(Error::Export(format!(
                "node {name:?} ({}) makes values of {shape}, more than the {MAX_TENSOR_VALUES} that are computed",
                op.kind()
            )));
        }
        let output = self.value(value, shape);
        self.nodes.push(Node { name: name.into(), op, inputs: inputs.to_vec(), output, parameters });
        Ok(output)
    }

    /// Shape of what enters.
    pub fn input_shape(&self) -> Shape {
        self.values[self.input].shape
    }

    /// The first output.
    pub fn output(&self) -> ValueId {
        self.outputs.first().copied().unwrap_or(self.input)
    }

    /// Shape of the first output.
    pub fn output_shape(&self) -> Shape {
        self.values[self.output()].shape
    }

    /// What enters the activation that makes the first output; the output itself if another operator makes it.
    pub fn logits(&self) -> ValueId {
        match self.maker(self.output()).map(|maker| &self.nodes[maker]) {
            Some(Node { op: Op::Activation(_), inputs, .. }) => inputs[0],
            _ => self.output(),
        }
    }

    /// How many classes the network is conditioned on; 0: none.
    pub fn classes(&self) -> usize {
        self.nodes.iter().map(|node| node.op.classes()).find(|classes| *classes > 0).unwrap_or(0)
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

    /// For each node, whether values `wanted` depend on it.
    pub(crate) fn needed(&self, wanted: &[ValueId]) -> Vec<bool> {
        let mut values = vec![false; self.values.len()];
        wanted.iter().for_each(|value| values[*value] = true);
        let mut needed = vec![false; self.nodes.len()];
        for (index, node) in self.nodes.iter().enumerate().rev() {
            if values[node.output] {
                needed[index] = true;
                node.inputs.iter().for_each(|value| values[*value] = true);
            }
        }
        needed
    }

    /// The name of a node for people: the name, and what it is.
    pub fn label(&self, node: usize) -> String {
        self.nodes[node].label()
    }

    /// Multiplications of weights for one picture, those with the border's zeros counted too.
    pub fn macs(&self) -> u64 {
        self.nodes.iter().map(|node| self.macs_of(node)).sum()
    }

    /// Those of one node.
    pub(crate) fn macs_of(&self, node: &Node<W>) -> u64 {
        node.op.geometry(self.values[node.inputs[0]].shape).map_or(0, |(geometry, _)| geometry.macs())
    }

    /// All parameters, node by node.
    pub fn parameters(&self) -> impl Iterator<Item = &Parameter<W>> {
        self.nodes.iter().flat_map(|node| &node.parameters)
    }

    /// The same, to be changed; lengths must stay.
    pub fn parameters_mut(&mut self) -> impl Iterator<Item = &mut Parameter<W>> {
        self.nodes.iter_mut().flat_map(|node| &mut node.parameters)
    }

    /// Values of all parameters that are trained.
    pub fn trained_count(&self) -> usize {
        self.parameters().filter(|parameter| parameter.trained).map(Parameter::count).sum()
    }

    /// Values of all parameters.
    pub fn parameter_count(&self) -> u64 {
        self.parameters().map(|parameter| parameter.count() as u64).sum()
    }

    /// Values of the largest tensor of one picture.
    pub fn largest_value(&self) -> usize {
        self.values.iter().map(|value| value.shape.values()).max().unwrap_or(0)
    }

    /// The activation that the values of node `index` enter, after a norm, a reshape or a class's row too: it
    /// decides the spread of first weights.
    fn activation_reached_from(&self, index: usize) -> Option<Activation> {
        let mut reader = self.only_reader(self.nodes[index].output)?;
        loop {
            match &self.nodes[reader].op {
                Op::Norm { .. } | Op::Reshape(_) | Op::ClassRow { .. } => {
                    reader = self.only_reader(self.nodes[reader].output)?;
                }
                Op::Activation(activation) => return Some(*activation),
                _ => return None,
            }
        }
    }

    /// The same graph with the values of its parameters held by something else.
    ///
    /// # Errors
    /// The first that `hold` returns.
    pub fn map<V>(&self, mut hold: impl FnMut(&Parameter<W>) -> Result<V>) -> Result<Graph<V>> {
        let mut nodes = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let parameters =
                node.parameters.iter().map(|parameter| parameter.map(&mut hold)).collect::<Result<_>>()?;
            nodes.push(Node {
                name: node.name.clone(),
                op: node.op.clone(),
                inputs: node.inputs.clone(),
                output: node.output,
                parameters,
            });
        }
        Ok(Graph {
            name: self.name.clone(),
            values: self.values.clone(),
            nodes,
            input: self.input,
            class_input: self.class_input.clone(),
            outputs: self.outputs.clone(),
            metadata: self.metadata.clone(),
            any_size: self.any_size,
            opset: self.opset,
        })
    }

    /// This network's output through `next`, whose input has its shape.
    ///
    /// # Errors
    /// [`Error::Export`] if it has another.
    pub fn then(&self, next: &Self) -> Result<Self>
    where
        W: Clone,
    {
        if self.output_shape() != next.input_shape() {
            let (from, to) = (self.output_shape(), next.input_shape());
            return Err(Error::Export(format!("what gives {from} is not followed by what takes {to}")));
        }
        let mut graph = self.clone();
        graph.nodes.iter_mut().for_each(|node| node.name = format!("first.{}", node.name));
        graph.values.iter_mut().for_each(|value| value.name = format!("first.{}", value.name));
        let mut place = vec![graph.output(); next.values.len()];
        for (index, value) in next.values.iter().enumerate() {
            if index != next.input {
                place[index] = graph.value(value.name.clone(), value.shape);
            }
        }
        for node in &next.nodes {
            graph.nodes.push(Node {
                name: node.name.clone(),
                op: node.op.clone(),
                inputs: node.inputs.iter().map(|value| place[*value]).collect(),
                output: place[node.output],
                parameters: node.parameters.clone(),
            });
        }
        graph.outputs = next.outputs.iter().map(|value| place[*value]).collect();
        Ok(graph)
    }

    /// Names the parameters after another part of a model.
    pub(crate) fn rename(&mut self, part: &str) {
        self.name = part.into();
        for parameter in self.parameters_mut() {
            let rest = parameter.name.split_once('.').map_or("", |(_, rest)| rest);
            parameter.name = format!("{part}.{rest}");
        }
    }
}

impl Graph {
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
            let mut held = node.parameters.iter().flat_map(|parameter| &parameter.value);
            held.find(|value| is(**value)).map(|value| (index, *value))
        })
    }
}
