//! An ONNX file → a graph.
//!
//! Files of edgegen and of PyTorch's exporters consist of operators that are known here. Any other operator, and a
//! known one with attributes that are not (a dilated convolution), becomes a [`Foreign`] node.

use std::collections::{HashMap, HashSet};

use edgegen_runtime::model::{Facts, Metadata};
use half::f16;
use prost::Message;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, tensor_proto::DataType,
};

use super::prepare::Transposed;
use super::{
    Activation, Foreign, Graph, Interpolation, Node, Op, Over, Padding, Shape, Shuffle, ValueId, Window,
    parameters_of,
};
use crate::{Error, Result};

/// First operator set that has all operators of the files that are written.
const FIRST_OPSET: i64 = 13;

/// What a file takes and gives.
pub struct Ports {
    /// The float32 input.
    pub input: (String, Shape),
    /// The int64 input that tells classes, if there is one.
    pub class_input: Option<String>,
    /// Float32.
    pub outputs: Vec<String>,
    /// What the file says about itself.
    pub metadata: Metadata,
    /// Whether it takes pictures of any size.
    pub any_size: bool,
}

impl Ports {
    /// Those of a file that the runtime has opened.
    ///
    /// # Errors
    /// [`Error::Export`] if it has no input.
    pub fn of(facts: &Facts) -> Result<Self> {
        let input = facts.inputs.first().ok_or_else(|| Error::Export("it has no input".into()))?;
        let shape = match (facts.part.draws(), input.shape.split(',').count()) {
            (true, 2) => Shape::Vector(facts.latent_dim),
            (true, _) => Shape::Image(facts.latent_dim, 1, 1),
            (false, _) => Shape::of_image(facts.source.unwrap_or(facts.image)),
        };
        Ok(Self {
            input: (input.name.clone(), shape),
            class_input: facts.class_input.clone(),
            outputs: facts.outputs.iter().map(|output| output.name.clone()).collect(),
            metadata: facts.metadata.clone(),
            any_size: facts.any_size,
        })
    }
}

/// Reads a file that the runtime has checked.
///
/// # Errors
/// [`Error::Export`] that names what is not understood: values that are neither (N, L) nor (N, C, H, W), operators
/// with several outputs, quantised files.
pub fn graph(bytes: &[u8], file: &str, ports: &Ports) -> Result<Graph> {
    let refused = |problem: String| Error::Export(format!("{file}: {problem}"));
    let (opset, onnx) = decode(bytes).map_err(|problem| refused(problem.into()))?;
    let (name, shape) = &ports.input;
    let mut graph = Graph::new(&onnx.name, (name, *shape), ports.metadata.clone());
    graph.opset = opset;
    if let Some(class) = &ports.class_input {
        graph.class_input.clone_from(class);
    }
    let outputs: Vec<&str> = ports.outputs.iter().map(String::as_str).collect();
    let needed = needed(&onnx.node, &outputs);
    let mut reader = Reader::new(graph, name, &onnx.node, &ports.outputs, onnx.initializer);
    for (index, node) in onnx.node.iter().enumerate().filter(|(index, _)| needed.contains(index)) {
        reader.node(index, node).map_err(|e| refused(e.to_string()))?;
    }
    for name in outputs {
        let value = reader.known.get(name).ok_or_else(|| refused(format!("nothing computes {name:?}")))?;
        reader.graph.outputs.push(*value);
        reader.graph.values[*value].name = name.into();
    }
    let mut graph = reader.graph;
    if graph.nodes.is_empty() {
        return Err(refused("it computes nothing".into()));
    }
    graph.unique_names();
    graph.any_size = ports.any_size;
    if let (true, None, Some(reach)) = (graph.any_size, graph.metadata.border, graph.reach()) {
        (graph.metadata.border, graph.metadata.multiple) = (Some(reach.border), Some(reach.multiple));
    }
    Ok(graph)
}

/// The version of ONNX's own operator set in a file, 0 if it tells none, and its graph; or why there is none.
pub(super) fn decode(bytes: &[u8]) -> std::result::Result<(i64, GraphProto), &'static str> {
    let proto = ModelProto::decode(bytes).map_err(|_| "this is not an ONNX model")?;
    let own = |domain: &str| domain.is_empty() || domain == "ai.onnx";
    let opset =
        proto.opset_import.iter().find(|import| own(&import.domain)).map_or(0, |import| import.version);
    Ok((opset, proto.graph.ok_or("it holds no graph")?))
}

/// The nodes that the outputs depend on.
fn needed(nodes: &[NodeProto], outputs: &[&str]) -> HashSet<usize> {
    let mut names: HashSet<&str> = outputs.iter().copied().collect();
    let mut needed = HashSet::new();
    for (index, node) in nodes.iter().enumerate().rev() {
        if node.output.iter().any(|name| names.contains(name.as_str())) {
            needed.insert(index);
            names.extend(node.input.iter().map(String::as_str));
        }
    }
    needed
}

pub(super) struct Reader<'a> {
    pub(super) graph: Graph,
    outputs: &'a [String],
    nodes: &'a [NodeProto],
    /// Values by their names in the file.
    pub(super) known: HashMap<String, ValueId>,
    constants: HashMap<String, TensorProto>,
    /// Rows of classes: tables (classes, features) by the name of what Gather makes.
    rows: HashMap<String, (usize, Vec<f32>)>,
    /// What a Resize to twice the size makes, which the next convolution takes in: its input's name.
    enlarged: HashMap<String, String>,
    /// Whether operators are rewritten so that they have a gradient, though no device has them so; what has none is
    /// refused.
    pub(super) for_gradients: bool,
    /// Names of values that the file holds as (N, H, W, C).
    pub(super) channels_last: HashSet<String>,
}

/// A tensor of numbers: its axes, and its values in row-major order.
type Numbers = (Vec<usize>, Vec<f32>);

impl<'a> Reader<'a> {
    pub(super) fn new(
        graph: Graph,
        input: &str,
        nodes: &'a [NodeProto],
        outputs: &'a [String],
        constants: Vec<TensorProto>,
    ) -> Self {
        Self {
            known: HashMap::from([(input.to_string(), graph.input)]),
            graph,
            outputs,
            constants: constants.into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect(),
            rows: HashMap::new(),
            enlarged: HashMap::new(),
            nodes,
            for_gradients: false,
            channels_last: HashSet::new(),
        }
    }

    pub(super) fn node(&mut self, index: usize, node: &NodeProto) -> Result<()> {
        if !matches!(node.domain.as_str(), "" | "ai.onnx") {
            return Err(Error::Export(format!(
                "node {:?} ({}) is of {}, not ONNX's own; give the file before it was optimised for one runtime",
                node.name, node.op_type, node.domain
            )));
        }
        if self.constant(node)? {
            return Ok(());
        }
        let name = match node.name.as_str() {
            "" => format!("{}{index}", node.op_type.to_lowercase()),
            name => {
                // edgegen's own: node.LAYER.OPERATOR
                let operator = format!(".{}", node.op_type.to_lowercase());
                let own = name.strip_prefix("node.").map(|own| own.strip_suffix(&operator).unwrap_or(own));
                own.unwrap_or(name).to_string()
            }
        };
        let output = match node.output.as_slice() {
            [output] => output.as_str(),
            [output, rest @ ..] if rest.iter().all(|name| !self.is_read(name)) => output,
            _ => {
                return Err(Error::Export(format!(
                    "node {name:?} ({}) has several outputs; operators with one are supported",
                    node.op_type
                )));
            }
        };
        if self.alias(node, output) || self.class_row(node, output) || self.enlarges(node, output) {
            return Ok(());
        }
        match self.op(node)? {
            Some(Read::Ops(ops, inputs)) => {
                let (mut inputs, count) = (inputs, ops.len());
                for (index, (op, values)) in ops.into_iter().enumerate() {
                    let part = if index == 0 { name.clone() } else { format!("{name}.{index}") };
                    let value =
                        if index + 1 == count { output.to_string() } else { format!("{output}.{index}") };
                    let parameters = parameters_of(&part, &op, values);
                    inputs = vec![self.graph.push(&part, op, &inputs, parameters, value)?];
                }
                self.known.insert(output.into(), inputs[0]);
            }
            Some(Read::Transposed(sizes, weight, bias, input)) => {
                let height = |side: usize| {
                    (side - 1) * sizes.stride + sizes.kernel + sizes.output_padding - 2 * sizes.padding
                };
                let (_, h, w) = self.graph.values[input].shape.image();
                let shape = Shape::Image(sizes.outputs, height(h), height(w));
                let made = self.graph.value(output, shape);
                // only the place of the new nodes is taken from this one
                let place = Node {
                    name,
                    op: Op::Reshape(shape),
                    inputs: vec![input],
                    output: made,
                    parameters: vec![],
                };
                self.graph.push_transposed(&place, sizes, &weight, &bias)?;
                self.known.insert(output.into(), made);
            }
            None => self.foreign(&name, node, output)?,
        }
        Ok(())
    }

    fn is_read(&self, name: &str) -> bool {
        self.nodes.iter().any(|node| node.input.iter().any(|input| input == name))
    }

    fn read_once(&self, name: &str) -> bool {
        self.nodes.iter().flat_map(|node| &node.input).filter(|input| *input == name).count() == 1
    }

    /// Whether the value is read once, under this name alone, and is no output.
    fn only_read_as(&self, name: &str, value: ValueId) -> bool {
        let names: Vec<&String> =
            self.known.iter().filter(|(_, known)| **known == value).map(|(name, _)| name).collect();
        names.len() == 1 && self.read_once(name) && !self.outputs.iter().any(|output| output == name)
    }

    /// Whether the node only makes a constant.
    fn constant(&mut self, node: &NodeProto) -> Result<bool> {
        let Some(output) = node.output.first() else { return Ok(false) };
        let made = match node.op_type.as_str() {
            "Constant" => node.attribute.iter().find_map(|attribute| attribute.t.clone()),
            "Identity" => node.input.first().and_then(|name| self.constants.get(name)).cloned(),
            // weights stored in 16 bits
            "Cast" if int(node, "to", 0) == DataType::Float as i64 => {
                let stored = node.input.first().and_then(|name| self.constants.get(name));
                stored.and_then(numbers).map(|(dims, values)| TensorProto {
                    dims: dims.iter().map(|size| *size as i64).collect(),
                    data_type: DataType::Float as i32,
                    raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
                    ..TensorProto::default()
                })
            }
            "QuantizeLinear" | "DequantizeLinear" | "QLinearConv" | "QLinearMatMul" | "ConvInteger" => {
                return Err(Error::Export(
                    "it is quantised already; give the float32 file that it was made from".into(),
                ));
            }
            _ => None,
        };
        let Some(mut tensor) = made else { return Ok(false) };
        tensor.name.clone_from(output);
        self.constants.insert(output.clone(), tensor);
        Ok(true)
    }

    /// Nodes that change nothing.
    fn alias(&mut self, node: &NodeProto, output: &str) -> bool {
        let turned = node.op_type == "Transpose"
            && ints(node, "perm") == [0, 3, 1, 2]
            && node.input.first().is_some_and(|name| self.channels_last.contains(name));
        let nothing = matches!(node.op_type.as_str(), "Identity" | "Dropout") || turned;
        let input = node.input.first().and_then(|name| self.known.get(name)).copied();
        let Some(input) = input.filter(|_| nothing) else { return false };
        self.known.insert(output.into(), input);
        if !turned && self.channels_last.contains(&node.input[0]) {
            self.channels_last.insert(output.into());
        }
        true
    }

    /// The row of the class, which the next Add takes in.
    fn class_row(&mut self, node: &NodeProto, output: &str) -> bool {
        let [table, class] = node.input.as_slice() else { return false };
        if node.op_type != "Gather" || *class != self.graph.class_input || int(node, "axis", 0) != 0 {
            return false;
        }
        let Some((dims, values)) = self.numbers(table) else { return false };
        let table = dims.len() == 2 && !values.is_empty();
        if table {
            self.rows.insert(output.into(), (dims[0], values));
        }
        table
    }

    /// A Resize to twice the size by nearest neighbours, before a convolution that keeps the size.
    fn enlarges(&mut self, node: &NodeProto, output: &str) -> bool {
        let text = |name| string(node, name);
        let doubles = || {
            let scales = self.numbers(node.input.get(2)?)?.1;
            (scales == [1.0, 1.0, 2.0, 2.0]).then_some(())
        };
        let nearest = text("mode").is_none_or(|mode| mode == "nearest")
            && text("coordinate_transformation_mode").is_some_and(|mode| mode == "asymmetric")
            && text("nearest_mode").is_some_and(|mode| mode == "floor");
        let reader = self.nodes.iter().find(|node| node.input.first().is_some_and(|input| input == output));
        let kept = || {
            let reader = reader.filter(|node| node.op_type == "Conv")?;
            let Window { kernel, stride, padding } = self.window(reader, Shape::Image(1, 8, 8))?;
            let same = padding == Padding::Same || padding == Padding::Zeros(kernel / 2);
            (kernel % 2 == 1 && stride == 1 && same && int(reader, "group", 1) == 1).then_some(())
        };
        let fits = node.op_type == "Resize" && nearest && doubles().is_some() && kept().is_some();
        if fits && self.read_once(output) {
            self.enlarged.insert(output.into(), node.input[0].clone());
            return true;
        }
        false
    }

    /// The operator, if it is known with all its attributes.
    fn op(&mut self, node: &NodeProto) -> Result<Option<Read>> {
        let Some(first) = node.input.first() else { return Ok(None) };
        let last = node.input.iter().any(|name| self.channels_last.contains(name));
        if last && !matches!(node.op_type.as_str(), "Add" | "Sub" | "Mul" | "Div") {
            return Ok(None); // it would mix up the axes
        }
        let enlarged = self.enlarged.get(first).cloned();
        let source = enlarged.as_ref().unwrap_or(first);
        let Some(&input) = self.known.get(source) else {
            // an Add may have its value second
            return Ok(match node.op_type.as_str() {
                "Add" | "Mul" => self.arithmetic(node),
                _ => None,
            });
        };
        let shape = self.graph.values[input].shape;
        let one = |op: Option<Op>| op.map(|op| Read::Ops(vec![(op, vec![])], vec![input]));
        let with = |read: Option<(Op, Vec<Vec<f32>>)>| read.map(|own| Read::Ops(vec![own], vec![input]));
        Ok(match node.op_type.as_str() {
            "Relu" => one(Some(Op::Activation(Activation::Relu))),
            "LeakyRelu" => one(Some(Op::Activation(Activation::LeakyRelu(float(node, "alpha", 0.01))))),
            "Clip" => one(self.clip(node)),
            "Tanh" => one(Some(Op::Activation(Activation::Tanh))),
            "Sigmoid" => one(Some(Op::Activation(Activation::Sigmoid))),
            // an older Softmax runs over all axes from its own on: of a vector these are the same
            "Softmax" => {
                let along = matches!(int(node, "axis", -1), -1 | 1) && matches!(shape, Shape::Vector(_));
                one(along.then_some(Op::Softmax))
            }
            "Softplus" => one(Some(Op::Activation(Activation::Softplus))),
            "HardSwish" => one(Some(Op::Activation(Activation::HardSwish))),
            "HardSigmoid" if (float(node, "alpha", 0.2) - 1.0 / 6.0).abs() < 1e-4 => {
                one((float(node, "beta", 0.5) == 0.5).then_some(Op::Activation(Activation::HardSigmoid)))
            }
            "Flatten" if int(node, "axis", 1) == 1 => one(Some(Op::Reshape(Shape::Vector(shape.values())))),
            "Reshape" | "Squeeze" | "Unsqueeze" => one(self.reshaped(node, shape).map(Op::Reshape)),
            "Gemm" | "MatMul" => with(self.dense(node, shape)),
            "Conv" => with(self.conv(node, enlarged.is_some(), shape)),
            "ConvTranspose" => self.transposed(node, input),
            "BatchNormalization" => with(self.batch_norm(node, shape)),
            "InstanceNormalization" => with(self.instance_norm(node, shape)),
            "DepthToSpace" => one(self.depth_to_space(node, shape).map(Op::Shuffle)),
            "Slice" => one(self.slice(node, shape)),
            "Concat" => self.concat(node, shape),
            "MaxPool" => one(self.pool(node, shape).map(Op::MaxPool)),
            "AveragePool" => one(self.pool(node, shape).map(|window| {
                let counts_padding = int(node, "count_include_pad", 0) == 1;
                Op::AveragePool { window, counts_padding }
            })),
            "GlobalAveragePool" => one(Some(Op::GlobalAverage)),
            "ReduceMean" => self.mean(node, shape, input),
            "Resize" => one(self.resize(node, shape)),
            "Add" | "Sub" | "Mul" | "Div" => self.arithmetic(node),
            _ => None,
        })
    }

    /// min(max(x, 0), 6).
    fn clip(&self, node: &NodeProto) -> Option<Op> {
        let end = |index: usize, name: &str| match node.input.get(index).filter(|name| !name.is_empty()) {
            Some(name) => self.numbers(name)?.1.first().copied(),
            None => find(node, name).map(|attribute| attribute.f),
        };
        let ends = (end(1, "min")?, end(2, "max")?);
        (ends == (0.0, 6.0)).then_some(Op::Activation(Activation::Relu6))
    }

    /// Two values; a value plus the row of its class, or plus a dense layer's bias; a value and a constant a channel.
    fn arithmetic(&mut self, node: &NodeProto) -> Option<Read> {
        let [a, b] = node.input.as_slice() else { return None };
        if let (Some(&left), Some(&right)) = (self.known.get(a), self.known.get(b)) {
            let (of_left, of_right) = (self.graph.values[left].shape, self.graph.values[right].shape);
            // pictures alone: (N, C) and (N, C, 1, 1) would give (N, C, N, C)
            let pictures = matches!((of_left, of_right), (Shape::Image(..), Shape::Image(..)));
            let one_each = |shape: Shape, of: Shape| pictures && shape == Shape::Image(of.channels(), 1, 1);
            let (op, inputs) = match node.op_type.as_str() {
                _ if [a, b].iter().any(|name| self.channels_last.contains(*name)) => return None,
                "Add" if of_left == of_right => (Op::Add, vec![left, right]),
                "Mul" if of_left == of_right => (Op::Mul, vec![left, right]),
                "Mul" if one_each(of_right, of_left) => (Op::Scale, vec![left, right]),
                "Mul" if one_each(of_left, of_right) => (Op::Scale, vec![right, left]),
                _ => return None,
            };
            return Some(Read::Ops(vec![(op, vec![])], inputs));
        }
        let (value, other) = if self.known.contains_key(a) { (a, b) } else { (b, a) };
        let input = *self.known.get(value)?;
        let shape = self.graph.values[input].shape;
        if let (Some((classes, table)), "Add") = (self.rows.get(other), node.op_type.as_str()) {
            let row = Op::ClassRow { classes: *classes, features: table.len() / classes };
            return Some(Read::Ops(vec![(row, vec![table.clone()])], vec![input]));
        }
        let (dims, constant) = self.numbers(other)?;
        if node.op_type == "Add"
            && let Some(maker) = self.graph.maker(input).filter(|_| self.only_read_as(value, input))
            && matches!(self.graph.nodes[maker].op, Op::Dense { .. })
            && self.graph.nodes[maker].bias().len() == constant.len()
        {
            let bias = self.graph.nodes[maker].bias_mut();
            bias.iter_mut().zip(constant).for_each(|(sum, bias)| *sum += bias);
            return Some(Read::Ops(vec![(Op::Reshape(shape), vec![])], vec![input]));
        }
        if !self.for_gradients {
            return None;
        }
        let own = self.by_channel(node, shape, (dims, constant), value == a)?;
        if self.channels_last.contains(value) {
            self.channels_last.extend(node.output.iter().cloned());
        }
        Some(Read::Ops(vec![own], vec![input]))
    }

    /// A constant for each channel, or one for all, as a depthwise convolution of single pixels.
    fn by_channel(
        &self,
        node: &NodeProto,
        shape: Shape,
        (dims, constant): Numbers,
        value_first: bool,
    ) -> Option<(Op, Vec<Vec<f32>>)> {
        let Shape::Image(channels, ..) = shape else { return None };
        let last = node.input.iter().any(|name| self.channels_last.contains(name));
        let flat = match dims.as_slice() {
            [] | [1] => true,
            [_] | [1, 1, _] | [1, 1, 1, _] => last,
            [_, 1, 1] | [1, _, 1, 1] => !last,
            _ => false,
        };
        let constant = match constant.len() {
            1 => vec![constant[0]; channels],
            count if count == channels && flat => constant,
            _ => return None,
        };
        let (ones, zeros) = (vec![1.0; channels], vec![0.0; channels]);
        let (weight, bias) = match (node.op_type.as_str(), value_first) {
            ("Add", _) => (ones, constant),
            ("Mul", _) => (constant, zeros),
            ("Sub", true) => (ones, constant.iter().map(|value| -value).collect()),
            ("Div", true) => (constant.iter().map(|value| 1.0 / value).collect(), zeros),
            _ => return None,
        };
        let window = Window { kernel: 1, stride: 1, padding: Padding::Zeros(0) };
        Some((Op::Conv { inputs: channels, outputs: channels, window, groups: channels }, vec![weight, bias]))
    }

    fn concat(&self, node: &NodeProto, shape: Shape) -> Option<Read> {
        let axis = int(node, "axis", 0);
        let inputs =
            node.input.iter().map(|name| self.known.get(name).copied()).collect::<Option<Vec<_>>>()?;
        let rank = shape.dims().len() as i64 + 1;
        let shapes: Vec<Shape> = inputs.iter().map(|input| self.graph.values[*input].shape).collect();
        let fits = (axis == 1 || axis + rank == 1) && inputs.len() > 1 && Op::Concat.output(&shapes).is_ok();
        fits.then(|| Read::Ops(vec![(Op::Concat, vec![])], inputs))
    }

    /// A pooling window.
    fn pool(&self, node: &NodeProto, shape: Shape) -> Option<Window> {
        let [kernel, width] = ints(node, "kernel_shape") else { return None };
        let plain = kernel == width && int(node, "storage_order", 0) == 0;
        let window = sliding(node, usize::try_from(*kernel).ok()?, shape).filter(|_| plain)?;
        match (int(node, "ceil_mode", 0), window.padding) {
            (0, _) => Some(window),
            (1, Padding::Zeros(padding)) if node.op_type == "MaxPool" => {
                Some(Window { padding: Padding::Ceil(padding), ..window })
            }
            _ => None,
        }
    }

    /// The mean over the pixels.
    fn mean(&self, node: &NodeProto, shape: Shape, input: ValueId) -> Option<Read> {
        let listed = node.input.get(1).and_then(|name| self.integers(name));
        let axes = listed.unwrap_or_else(|| ints(node, "axes").to_vec());
        if !matches!(shape, Shape::Image(..)) || !matches!(axes[..], [2, 3] | [-2, -1]) {
            return None;
        }
        let mut ops = vec![(Op::GlobalAverage, vec![])];
        if int(node, "keepdims", 1) == 0 {
            ops.push((Op::Reshape(Shape::Vector(shape.channels())), vec![]));
        }
        Some(Read::Ops(ops, vec![input]))
    }

    fn resize(&self, node: &NodeProto, shape: Shape) -> Option<Op> {
        let Shape::Image(_, rows, columns) = shape else { return None };
        let stretches = string(node, "keep_aspect_ratio_policy").is_none_or(|policy| policy == "stretch");
        if int(node, "antialias", 0) != 0 || find(node, "axes").is_some() || !stretches {
            return None;
        }
        let coordinates = string(node, "coordinate_transformation_mode").unwrap_or("half_pixel");
        let by = match string(node, "mode").unwrap_or("nearest") {
            "nearest" if coordinates == "asymmetric" && string(node, "nearest_mode") == Some("floor") => {
                Interpolation::Nearest
            }
            "linear" if matches!(coordinates, "half_pixel" | "pytorch_half_pixel") => Interpolation::Bilinear,
            _ => return None,
        };
        let sizes = match node.input.get(3).and_then(|name| self.integers(name)) {
            Some(sizes) => {
                sizes.iter().map(|size| usize::try_from(*size).ok()).collect::<Option<Vec<_>>>()?
            }
            None => {
                let scales = self.numbers(node.input.get(2)?)?.1;
                let [batch, channels, down, across] = scales[..] else { return None };
                if (batch, channels) != (1.0, 1.0) {
                    return None;
                }
                // other scales place pixels by themselves, not by the sizes
                let side = |side: usize, scale: f32| {
                    let made = side as f32 * scale;
                    ((made - made.round()).abs() < 1e-3).then_some(made.round() as usize)
                };
                vec![1, shape.channels(), side(rows, down)?, side(columns, across)?]
            }
        };
        let [_, channels, height, width] = sizes[..] else { return None };
        let op = Op::Resize { height, width, by };
        let one = coordinates == "pytorch_half_pixel" && (height == 1 || width == 1);
        (channels == shape.channels() && !one && op.resizes_as_onnx(shape)).then_some(op)
    }

    fn instance_norm(&self, node: &NodeProto, shape: Shape) -> Option<(Op, Vec<Vec<f32>>)> {
        let channels = shape.channels();
        let values = |index: usize| {
            let (_, values) = self.numbers(node.input.get(index)?)?;
            (values.len() == channels).then_some(values)
        };
        let epsilon = f64::from(float(node, "epsilon", 1e-5));
        let op = Op::Norm { channels, over: Over::Groups(channels), epsilon };
        matches!(shape, Shape::Image(..)).then_some((op, vec![values(1)?, values(2)?]))
    }

    fn dense(&self, node: &NodeProto, shape: Shape) -> Option<(Op, Vec<Vec<f32>>)> {
        let (dims, values) = self.numbers(node.input.get(1)?)?;
        let [rows, columns] = dims[..] else { return None };
        let plain = float(node, "alpha", 1.0) == 1.0
            && float(node, "beta", 1.0) == 1.0
            && int(node, "transA", 0) == 0;
        let Shape::Vector(features) = shape else { return None };
        let turned = node.op_type == "Gemm" && int(node, "transB", 0) == 1;
        let (inputs, outputs) = if turned { (columns, rows) } else { (rows, columns) };
        if !plain || inputs != features {
            return None;
        }
        let weight = if turned {
            values
        } else {
            (0..outputs * inputs).map(|index| values[index % inputs * outputs + index / inputs]).collect()
        };
        let bias = self.bias(node, outputs)?;
        Some((Op::Dense { inputs, outputs }, vec![weight, bias]))
    }

    /// The third input, or zeros; `None` if it is no vector of that length.
    fn bias(&self, node: &NodeProto, outputs: usize) -> Option<Vec<f32>> {
        match node.input.get(2).filter(|name| !name.is_empty()) {
            None => Some(vec![0.0; outputs]),
            Some(name) => {
                let (_, values) = self.numbers(name)?;
                (values.len() == outputs).then_some(values)
            }
        }
    }

    /// The window of a convolution without dilation, on an input of `shape`.
    fn window(&self, node: &NodeProto, shape: Shape) -> Option<Window> {
        let (dims, _) = self.numbers(node.input.get(1)?)?;
        let [_, _, kernel, width] = dims[..] else { return None };
        sliding(node, kernel, shape).filter(|_| kernel == width)
    }

    fn conv(&self, node: &NodeProto, enlarged: bool, shape: Shape) -> Option<(Op, Vec<Vec<f32>>)> {
        let window = self.window(node, shape)?;
        let (dims, weight) = self.numbers(node.input.get(1)?)?;
        let groups = usize::try_from(int(node, "group", 1)).ok().filter(|groups| *groups > 0)?;
        let (outputs, inputs) = (dims[0], dims[1] * groups);
        let op = match enlarged {
            true => Op::UpsampleConv { inputs, outputs, kernel: window.kernel },
            false => Op::Conv { inputs, outputs, window, groups },
        };
        op.output(&[shape]).ok()?;
        Some((op, vec![weight, self.bias(node, outputs)?]))
    }

    fn transposed(&self, node: &NodeProto, input: ValueId) -> Option<Read> {
        let window = self.window(node, self.graph.values[input].shape)?;
        let Window { kernel, stride, padding: Padding::Zeros(padding) } = window else { return None };
        let (dims, weight) = self.numbers(node.input.get(1)?)?;
        let (inputs, outputs) = (dims[0], dims[1]);
        if int(node, "group", 1) != 1 {
            return None;
        }
        let added = ints(node, "output_padding");
        let output_padding = usize::try_from(added.first().copied().unwrap_or(0)).ok()?;
        if !ints(node, "output_shape").is_empty() || added.iter().any(|value| *value != output_padding as i64)
        {
            return None;
        }
        let bias = self.bias(node, outputs)?;
        let (_, height, width) = self.graph.values[input].shape.image();
        let enough = |side: usize| (side - 1) * stride + kernel + output_padding > 2 * padding;
        // rows that only the bias reaches
        let covered = kernel + output_padding <= kernel.next_multiple_of(stride) + padding % stride;
        if !enough(height) || !enough(width) || !covered || padding >= kernel {
            return None;
        }
        let sizes = Transposed { inputs, outputs, kernel, stride, padding, output_padding };
        if output_padding == 0 && (height, width) != (1, 1) {
            let op = Op::ConvTranspose { inputs, outputs, kernel, stride, padding };
            return Some(Read::Ops(vec![(op, vec![weight, bias])], vec![input]));
        }
        Some(Read::Transposed(sizes, weight, bias, input))
    }

    fn batch_norm(&self, node: &NodeProto, shape: Shape) -> Option<(Op, Vec<Vec<f32>>)> {
        if int(node, "training_mode", 0) != 0 {
            return None;
        }
        let values = |index: usize| {
            let (_, values) = self.numbers(node.input.get(index)?)?;
            (values.len() == shape.channels()).then_some(values)
        };
        let epsilon = f64::from(float(node, "epsilon", 1e-5));
        let op = Op::Norm { channels: shape.channels(), over: Over::Batch, epsilon };
        Some((op, vec![values(1)?, values(2)?, values(3)?, values(4)?]))
    }

    fn depth_to_space(&self, node: &NodeProto, shape: Shape) -> Option<Shuffle> {
        let block = usize::try_from(int(node, "blocksize", 0)).ok().filter(|block| *block > 0)?;
        let Shape::Image(_, height, width) = shape else { return None };
        let crd = string(node, "mode").is_some_and(|mode| mode == "CRD");
        crd.then_some(Shuffle { block, first: 0, size: (height * block, width * block) })
    }

    /// A cut of rows and columns, as many at the top as at the left; or of channels.
    fn slice(&self, node: &NodeProto, shape: Shape) -> Option<Op> {
        let list = |index: usize| self.integers(node.input.get(index)?);
        let (starts, ends, axes) = (list(1)?, list(2)?, list(3)?);
        let plain = node.input.len() < 5 || list(4)?.iter().all(|step| *step == 1);
        if let ([1], [start], [end], true) = (&axes[..], &starts[..], &ends[..], plain) {
            let channels = shape.channels() as i64;
            let place = |at: i64| if at < 0 { at + channels } else { at.min(channels) };
            let (first, end) = (usize::try_from(place(*start)).ok()?, usize::try_from(place(*end)).ok()?);
            return (end > first).then_some(Op::Slice { first, count: end - first });
        }
        let Shape::Image(_, height, width) = shape else { return None };
        if !plain || axes != [2, 3] || starts.len() != 2 || starts[0] != starts[1] || ends.len() != 2 {
            return None;
        }
        let end = |end: i64, size: usize| {
            let end = if end < 0 { end + size as i64 } else { end.min(size as i64) };
            usize::try_from(end - starts[0]).ok().filter(|length| *length > 0)
        };
        let first = usize::try_from(starts[0]).ok()?;
        let size = (end(ends[0], height)?, end(ends[1], width)?);
        Some(Op::Shuffle(Shuffle { block: 1, first, size }))
    }

    /// The shape after a Reshape, Squeeze or Unsqueeze that leaves the batch axis alone.
    fn reshaped(&self, node: &NodeProto, shape: Shape) -> Option<Shape> {
        let sizes: Vec<i64> = match node.op_type.as_str() {
            "Reshape" => self.integers(node.input.get(1)?)?,
            kind => {
                let listed = node.input.get(1).and_then(|name| self.integers(name));
                let axes = listed.unwrap_or_else(|| ints(node, "axes").to_vec());
                return match (kind, shape) {
                    ("Squeeze", Shape::Image(channels, 1, 1)) if matches!(axes[..], [2, 3] | [-2, -1]) => {
                        Some(Shape::Vector(channels))
                    }
                    ("Unsqueeze", Shape::Vector(features)) if matches!(axes[..], [2, 3] | [-2, -1]) => {
                        Some(Shape::Image(features, 1, 1))
                    }
                    _ => None,
                };
            }
        };
        let (batch, rest) = sizes.split_first()?;
        let known: i64 = rest.iter().filter(|size| **size > 0).product();
        let values = shape.values() as i64;
        let open = rest.iter().filter(|size| **size < 1).count();
        // -1 for the batch, or one of the other sizes left to be found
        if !matches!(batch, -1..=1) || open > 1 || known == 0 || values % known != 0 {
            return None;
        }
        let sizes: Vec<usize> = rest
            .iter()
            .map(|size| if *size > 0 { *size as usize } else { (values / known) as usize })
            .collect();
        let shape = match sizes[..] {
            [features] => Shape::Vector(features),
            [channels, height, width] => Shape::Image(channels, height, width),
            _ => return None,
        };
        (shape.values() as i64 == values).then_some(shape)
    }

    fn foreign(&mut self, name: &str, node: &NodeProto, output: &str) -> Result<()> {
        if self.for_gradients {
            return Err(Error::Export(format!("node {name:?} ({}) has no gradient here", node.op_type)));
        }
        if self.graph.opset < FIRST_OPSET {
            return Err(Error::Export(format!(
                "node {name:?} ({}) cannot be copied from opset {} into a file of opset {FIRST_OPSET} or later; convert the file first",
                node.op_type, self.graph.opset
            )));
        }
        let (mut inputs, mut constants) = (Vec::new(), Vec::new());
        for input in node.input.iter().filter(|input| !input.is_empty()) {
            if let Some(value) = self.known.get(input) {
                inputs.push(*value);
            } else if let Some(tensor) = self.constants.get(input) {
                constants.push(tensor.clone());
            } else {
                return Err(Error::Export(format!(
                    "node {name:?} ({}) reads {input:?}, which is no float32 value of pictures; simplify the file first, for example with onnxsim",
                    node.op_type
                )));
            }
        }
        if inputs.is_empty() {
            return Err(Error::Export(format!(
                "node {name:?} ({}) reads no value of pictures",
                node.op_type
            )));
        }
        let foreign = Foreign { node: node.clone(), constants, opset: self.graph.opset };
        // one row of zeros tells the shape of what it makes
        let zeros: Vec<(Vec<f32>, Shape)> = inputs
            .iter()
            .map(|value| self.graph.values[*value].shape)
            .map(|shape| (vec![0.0; shape.values()], shape))
            .collect();
        let (_, shape) = foreign.run(name, &zeros, 1, None)?;
        let made = self.graph.value(output, shape);
        let op = Op::Foreign(Box::new(foreign));
        self.graph.nodes.push(Node { name: name.into(), op, inputs, output: made, parameters: vec![] });
        self.known.insert(output.into(), made);
        Ok(())
    }

    fn numbers(&self, name: &str) -> Option<Numbers> {
        numbers(self.constants.get(name)?)
    }

    fn integers(&self, name: &str) -> Option<Vec<i64>> {
        let tensor = self.constants.get(name)?;
        if tensor.data_type != DataType::Int64 as i32 {
            return None;
        }
        let stored = tensor.raw_data.as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes));
        Some(stored.chain(tensor.int64_data.iter().copied()).collect())
    }
}

/// What a known node becomes.
enum Read {
    /// Operators one after the other, each with its parameters' values, and what the first of them reads.
    Ops(Vec<(Op, Vec<Vec<f32>>)>, Vec<ValueId>),
    /// A transposed convolution that no [`Op`] is: weights (inputs, outputs, k, k), and bias.
    Transposed(Transposed, Vec<f32>, Vec<f32>, ValueId),
}

/// The sliding window of a node without dilation, with a kernel of side `kernel`, on an input of `shape`.
fn sliding(node: &NodeProto, kernel: usize, shape: Shape) -> Option<Window> {
    let Shape::Image(_, height, width) = shape else { return None };
    let same = |name: &str| {
        let values = ints(node, name);
        let first = values.first().copied().unwrap_or(1);
        values.iter().all(|value| *value == first).then_some(usize::try_from(first).ok()?)
    };
    let stride = same("strides").filter(|stride| *stride > 0 && same("dilations") == Some(1))?;
    let pads = ints(node, "pads");
    let padding = match string(node, "auto_pad").unwrap_or("NOTSET") {
        "SAME_UPPER" => Padding::Same,
        "VALID" => Padding::Zeros(0),
        "NOTSET" => match pads {
            [] => Padding::Zeros(0),
            [first, rest @ ..] if rest.iter().all(|pad| pad == first) => {
                Padding::Zeros(usize::try_from(*first).ok()?)
            }
            [top, left, bottom, right] => {
                // as converters from TensorFlow write it out: for sides that the stride divides, whatever they are
                let odd = |before: &i64, after: &i64| {
                    *after == before + 1 && before + after == kernel as i64 - stride as i64
                };
                if odd(top, bottom) && odd(left, right) {
                    return Some(Window { kernel, stride, padding: Padding::Same });
                }
                // for the size at hand
                let fits = |side: usize, before: i64, after: i64| {
                    let (found, made) = Padding::Same.along(side, kernel, stride)?;
                    let total = ((made - 1) * stride + kernel).saturating_sub(side);
                    (found as i64 == before && (total - found) as i64 == after).then_some(())
                };
                fits(height, *top, *bottom).and(fits(width, *left, *right))?;
                Padding::Same
            }
            _ => return None,
        },
        _ => return None,
    };
    Some(Window { kernel, stride, padding })
}

/// A constant of any floating-point type.
fn numbers(tensor: &TensorProto) -> Option<Numbers> {
    let dims = tensor.dims.iter().map(|size| usize::try_from(*size).ok()).collect::<Option<Vec<_>>>()?;
    let raw = &tensor.raw_data;
    let values: Vec<f32> = match DataType::try_from(tensor.data_type).ok()? {
        DataType::Float => {
            let stored = raw.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
            stored.chain(tensor.float_data.iter().copied()).collect()
        }
        DataType::Double => {
            let stored = raw.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes));
            stored.chain(tensor.double_data.iter().copied()).map(|value| value as f32).collect()
        }
        DataType::Float16 => {
            let stored = raw.as_chunks::<2>().0.iter().map(|bytes| f16::from_le_bytes(*bytes));
            let listed = tensor.int32_data.iter().map(|bits| f16::from_bits(*bits as u16));
            stored.chain(listed).map(f32::from).collect()
        }
        _ => return None,
    };
    (values.len() == dims.iter().product::<usize>()).then_some((dims, values))
}

fn find<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

fn int(node: &NodeProto, name: &str, default: i64) -> i64 {
    find(node, name).map_or(default, |attribute| attribute.i)
}

fn float(node: &NodeProto, name: &str, default: f32) -> f32 {
    find(node, name).map_or(default, |attribute| attribute.f)
}

fn ints<'a>(node: &'a NodeProto, name: &str) -> &'a [i64] {
    find(node, name).map_or(&[], |attribute| &attribute.ints)
}

fn string<'a>(node: &'a NodeProto, name: &str) -> Option<&'a str> {
    find(node, name).and_then(|attribute| std::str::from_utf8(&attribute.s).ok())
}

impl Graph {
    /// Gives values and nodes that share a name names of their own.
    fn unique_names(&mut self) {
        let mut seen = HashSet::from([self.class_input.clone()]);
        let outputs = self.outputs.clone();
        let mut order: Vec<ValueId> = outputs;
        order.push(self.input);
        order.extend(0..self.values.len());
        let mut done = HashSet::new();
        for value in order.into_iter().filter(|value| done.insert(*value)) {
            self.values[value].name = unique(&mut seen, &self.values[value].name);
        }
        let mut seen = HashSet::new();
        for node in &mut self.nodes {
            node.name = unique(&mut seen, &node.name);
        }
    }
}

fn unique(seen: &mut HashSet<String>, name: &str) -> String {
    let mut candidate = name.to_string();
    let mut number = 2;
    while !seen.insert(candidate.clone()) {
        candidate = format!("{name}.{number}");
        number += 1;
    }
    candidate
}
