//! Nodes without a kernel in a network that has kernels: they are gathered in parts that tract runs, between the
//! kernels' steps. A part holds all that does not wait for another part, so there are as few as can be. What comes out
//! of one goes back to the kernels at the next layer.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::model::stock::{Typed, typed};
use crate::onnx::{
    DataType, Dimension, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, Size, TensorProto,
    TensorShapeProto, TensorType, TypeProto, ValueInfoProto,
};

use super::constants::{Attributes, Constant, Numbers, initializers, number};
use super::graph::{Id, Shape};

/// Why a node cannot be given to tract.
type Reason = String;

/// A part that tract runs, for one picture.
#[derive(Default)]
pub(super) struct Part {
    /// Places of its nodes in the ONNX graph, in order.
    pub(super) nodes: Vec<usize>,
    /// Names of the values that it reads, and the values.
    pub(super) inputs: Vec<(String, Id)>,
    /// Names of the values that kernels read of it, and the values.
    pub(super) exports: Vec<(String, Id, Shape)>,
}

/// What parts are made of.
pub(super) struct Source<'a> {
    pub(super) onnx: &'a GraphProto,
    pub(super) opsets: &'a [OperatorSetIdProto],
    pub(super) constants: &'a HashMap<String, Constant>,
}

impl Source<'_> {
    /// The part with all types and shapes; `shape` tells those of its inputs, `outputs` which of its values are wanted.
    pub(super) fn typed(
        &self,
        part: &Part,
        shape: impl Fn(Id) -> Shape,
        outputs: &[&str],
    ) -> Result<Typed, Reason> {
        let (mut node, mut made) = (Vec::new(), Vec::new());
        for index in &part.nodes {
            let original = &self.onnx.node[*index];
            match levels_in_floats(original, self.constants) {
                Some((nodes, tensors)) => {
                    node.extend(nodes);
                    made.extend(tensors);
                }
                None => node.push(original.clone()),
            }
        }
        let read: HashSet<&str> = node.iter().flat_map(|node| &node.input).map(String::as_str).collect();
        let constants: BTreeMap<_, _> =
            read.iter().filter_map(|name| self.constants.get_key_value(*name)).collect();
        // what is not known here as a constant may be known to tract
        let others = self.onnx.initializer.iter().filter(|tensor| {
            read.contains(tensor.name.as_str()) && !self.constants.contains_key(&tensor.name)
        });
        let initializer = constants.into_iter().map(|(name, constant)| tensor(name, constant));
        let initializer = initializer.chain(others.cloned()).chain(made).collect();
        let shapes: Vec<Vec<usize>> = part.inputs.iter().map(|(_, id)| with_batch(shape(*id))).collect();
        let input = part.inputs.iter().zip(&shapes).map(|((name, _), shape)| port(name, shape)).collect();
        let output =
            outputs.iter().map(|name| ValueInfoProto { name: (*name).into(), r#type: None }).collect();
        let graph = GraphProto { node, initializer, input, output, ..GraphProto::default() };
        let proto = ModelProto {
            ir_version: 8,
            opset_import: self.opsets.to_vec(),
            graph: Some(graph),
            ..ModelProto::default()
        };
        typed(&proto, &shapes)
    }
}

/// QuantizeLinear and DequantizeLinear by one scale as arithmetic of float32 values that are whole numbers. tract
/// 0.23.9 brings what stands between them together, and softmax and products of two values come out wrong.
fn levels_in_floats(
    node: &NodeProto,
    constants: &HashMap<String, Constant>,
) -> Option<(Vec<NodeProto>, Vec<TensorProto>)> {
    let quantizes = match node.op_type.as_str() {
        "QuantizeLinear" => true,
        "DequantizeLinear" => false,
        _ => return None,
    };
    let constant = |index: usize| constants.get(node.input.get(index)?);
    let scale = constant(1)?.float()?;
    let (zero, signed) = match (node.input.get(2).map(String::as_str), constant(2)) {
        (None | Some(""), _) => (0, false),
        (_, Some(Constant { numbers: Numbers::Levels(bits, signed), .. })) if bits.len() == 1 => {
            (number(bits[0], *signed), *signed)
        }
        _ => return None,
    };
    let (input, output) = (node.input.first()?, node.output.first()?);
    let (low, high) = if signed { (-128.0, 127.0) } else { (0.0, 255.0) };
    let named = |what: &str| format!("{output}/{what}");
    let single = |what: &str, value: f32| {
        let constant = Constant { dims: vec![], numbers: Numbers::Floats(vec![value]) };
        tensor(&named(what), &constant)
    };
    let step = |kind: &str, inputs: &[&str], output: &str| NodeProto {
        op_type: kind.into(),
        name: output.into(),
        input: inputs.iter().map(|input| (*input).to_string()).collect(),
        output: vec![output.into()],
        ..NodeProto::default()
    };
    let mut tensors = vec![single("scale", scale), single("zero", zero.into())];
    let (scale, zero) = (named("scale"), named("zero"));
    let nodes = if quantizes {
        tensors.extend([single("low", low), single("high", high)]);
        let [steps, rounded, level] = ["steps", "rounded", "level"].map(named);
        vec![
            step("Div", &[input, &scale], &steps),
            step("Round", &[&steps], &rounded),
            step("Add", &[&rounded, &zero], &level),
            step("Clip", &[&level, &named("low"), &named("high")], output),
        ]
    } else {
        let steps = named("steps");
        vec![step("Sub", &[input, &zero], &steps), step("Mul", &[&steps, &scale], output)]
    };
    Some((nodes, tensors))
}

/// [`levels_in_floats`] for a whole network that tract runs, unless it computes in integers in between.
pub(crate) fn network_in_floats(graph: &mut GraphProto) {
    let integers = |node: &NodeProto| {
        let kind = node.op_type.as_str();
        kind.starts_with("QLinear") || kind.ends_with("Integer") || kind == "DynamicQuantizeLinear"
    };
    if graph.node.iter().any(integers) {
        return;
    }
    let constants = initializers(graph);
    let mut nodes = Vec::with_capacity(graph.node.len());
    for node in std::mem::take(&mut graph.node) {
        match levels_in_floats(&node, &constants) {
            Some((made, tensors)) => {
                nodes.extend(made);
                graph.initializer.extend(tensors);
            }
            None => nodes.push(node),
        }
    }
    graph.node = nodes;
}

fn with_batch(shape: Shape) -> Vec<usize> {
    std::iter::once(1).chain(shape.dims()).collect()
}

fn port(name: &str, shape: &[usize]) -> ValueInfoProto {
    let dim = shape.iter().map(|size| Dimension(Some(Size::Value(*size as i64)))).collect();
    let tensor = TensorType { elem_type: DataType::Float as i32, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type: Some(tensor) }) }
}

fn tensor(name: &str, constant: &Constant) -> TensorProto {
    let (data_type, raw_data) = match &constant.numbers {
        Numbers::Integers(values) => {
            (DataType::Int64, values.iter().flat_map(|value| value.to_le_bytes()).collect())
        }
        Numbers::Levels(bits, signed) => {
            (if *signed { DataType::Int8 } else { DataType::Uint8 }, bits.clone())
        }
        Numbers::Floats(_) | Numbers::Quantized { .. } => {
            let values = constant.floats().unwrap_or_default();
            (DataType::Float, values.iter().flat_map(|value| value.to_le_bytes()).collect())
        }
    };
    TensorProto {
        name: name.into(),
        dims: constant.dims.iter().map(|size| *size as i64).collect(),
        data_type: data_type as i32,
        raw_data,
        ..TensorProto::default()
    }
}

/// Whether a node, one of ONNX's own operators, does to each picture of a batch what it does to one alone. `rank` tells the rank of its input.
pub(super) fn keeps_pictures_apart(
    node: &NodeProto,
    rank: impl Fn() -> Option<usize>,
    constants: &HashMap<String, Constant>,
) -> bool {
    let attributes = Attributes(node);
    // an axis that is not that of the batch
    let inner = |axis: i64| axis > 0 || (axis < 0 && rank().is_some_and(|rank| -axis < rank as i64));
    let constant = |index: usize| node.input.get(index).is_some_and(|name| constants.contains_key(name));
    let list = |name: &str, index: usize| {
        let given = node.input.get(index).and_then(|name| constants.get(name)).and_then(Constant::integers);
        given.unwrap_or_else(|| attributes.ints(name)).to_vec()
    };
    let all_inner = |axes: Vec<i64>| !axes.is_empty() && axes.into_iter().all(inner);
    match node.op_type.as_str() {
        kind if APART.contains(&kind) => true,
        "BatchNormalization" => attributes.int("training_mode", 0) == 0,
        "MatMul" => !constant(0),
        "Gemm" => !constant(0) && attributes.int("transA", 0) == 0,
        "Flatten" => inner(attributes.int("axis", 1)),
        "Softmax" | "LogSoftmax" | "LayerNormalization" | "LpNormalization" | "RMSNormalization" => {
            inner(attributes.int("axis", -1))
        }
        "Concat" | "Split" => inner(attributes.int("axis", 0)),
        "ReduceMean" | "ReduceSum" | "ReduceMax" | "ReduceMin" | "ReduceL1" | "ReduceL2"
        | "ReduceSumSquare" | "Squeeze" | "Unsqueeze" => all_inner(list("axes", 1)),
        "Slice" => all_inner(list("axes", 3)),
        "Transpose" => attributes.ints("perm").first() == Some(&0),
        "Pad" => {
            let pads = list("pads", 1);
            let rank = pads.len() / 2;
            rank > 0 && node.input.len() < 4 && pads[0] == 0 && pads[rank] == 0
        }
        _ => false,
    }
}

/// Operators of single values, of windows, and of one picture by their definition.
const APART: [&str; 57] = [
    "Abs",
    "Add",
    "AveragePool",
    "Cast",
    "Ceil",
    "Celu",
    "Clip",
    "Conv",
    "ConvTranspose",
    "Cos",
    "DepthToSpace",
    "DequantizeLinear",
    "Div",
    "Dropout",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "Greater",
    "GroupNormalization",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "InstanceNormalization",
    "LRN",
    "LeakyRelu",
    "Less",
    "Log",
    "Max",
    "MaxPool",
    "Min",
    "Mish",
    "Mul",
    "Neg",
    "PRelu",
    "Pow",
    "QuantizeLinear",
    "Reciprocal",
    "Relu",
    // one picture's values stay together; factors are of a picture's axes
    "Reshape",
    "Resize",
    "Round",
    "Selu",
    "Sigmoid",
    "Sign",
    "Sin",
    "Softplus",
    "Softsign",
    "SpaceToDepth",
    "Sqrt",
    "Sub",
    "Tanh",
    "Where",
];
