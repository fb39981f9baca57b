//! Operators that tract may run: those whose results were compared with ONNX's own evaluator (`tests/operators`), with the
//! attributes that were. Some are given to it in another form, because it gets theirs wrong.

use std::collections::HashMap;

use crate::onnx::attributes::Type::{Float, Floats, Int, Ints, Tensor, Text};
use crate::onnx::attributes::{Attributes, BATCH_NORM, CONV, CONV_TRANSPOSE, Known, RESIZE};
use crate::onnx::tensor::{Constant, Numbers, axis_of, is_floats, number};
use crate::onnx::{AttributeProto, DataType, NodeProto, TensorProto};

use super::Reason;
use super::fold::distinct;
use super::window::{Window, check_numbers};

/// Whether an operator does to each picture of a batch what it does to one alone.
#[derive(Clone, Copy)]
enum Apart {
    Yes,
    /// Where its axes are not that of the batch.
    ByAxes,
    /// It may, or not: it is run for one picture at a time alone.
    No,
}

/// What tract may run.
struct Foreign {
    name: &'static str,
    attributes: Known,
    apart: Apart,
}

const fn plain(name: &'static str) -> Foreign {
    Foreign { name, attributes: &[], apart: Apart::Yes }
}

const fn known(name: &'static str, attributes: Known) -> Foreign {
    Foreign { name, attributes, apart: Apart::Yes }
}

const fn by_axes(name: &'static str, attributes: Known) -> Foreign {
    Foreign { name, attributes, apart: Apart::ByAxes }
}

const fn single(name: &'static str, attributes: Known) -> Foreign {
    Foreign { name, attributes, apart: Apart::No }
}

const REDUCES: Known = &[("axes", Ints), ("keepdims", Int), ("noop_with_empty_axes", Int)];

const FOREIGN: &[Foreign] = &[
    plain("Abs"),
    plain("Acos"),
    plain("Acosh"),
    plain("Add"),
    plain("And"),
    single("ArgMax", &[("axis", Int), ("keepdims", Int), ("select_last_index", Int)]),
    single("ArgMin", &[("axis", Int), ("keepdims", Int), ("select_last_index", Int)]),
    plain("Asin"),
    plain("Asinh"),
    plain("Atan"),
    plain("Atanh"),
    known(
        "AveragePool",
        &[
            ("auto_pad", Text),
            ("ceil_mode", Int),
            ("count_include_pad", Int),
            ("dilations", Ints),
            ("kernel_shape", Ints),
            ("pads", Ints),
            ("strides", Ints),
        ],
    ),
    known("BatchNormalization", BATCH_NORM),
    known("Cast", &[("to", Int), ("saturate", Int)]),
    single("CastLike", &[("saturate", Int)]),
    plain("Ceil"),
    known("Celu", &[("alpha", Float)]),
    plain("Clip"),
    by_axes("Concat", &[("axis", Int)]),
    single(
        "Constant",
        &[
            ("value", Tensor),
            ("value_float", Float),
            ("value_floats", Floats),
            ("value_int", Int),
            ("value_ints", Ints),
        ],
    ),
    single("ConstantOfShape", &[("value", Tensor)]),
    known("Conv", CONV),
    single("ConvInteger", CONV),
    known("ConvTranspose", CONV_TRANSPOSE),
    plain("Cos"),
    plain("Cosh"),
    single("CumSum", &[("exclusive", Int), ("reverse", Int)]),
    known("DepthToSpace", &[("blocksize", Int), ("mode", Text)]),
    known("DequantizeLinear", &[("axis", Int), ("block_size", Int), ("output_dtype", Int)]),
    plain("Div"),
    known("Dropout", &[("ratio", Float), ("seed", Int)]),
    single("DynamicQuantizeLinear", &[]),
    single("Einsum", &[("equation", Text)]),
    known("Elu", &[("alpha", Float)]),
    plain("Equal"),
    plain("Erf"),
    plain("Exp"),
    single("Expand", &[]),
    single("EyeLike", &[("dtype", Int), ("k", Int)]),
    by_axes("Flatten", &[("axis", Int)]),
    plain("Floor"),
    single(
        "GRU",
        &[("direction", Text), ("hidden_size", Int), ("layout", Int), ("linear_before_reset", Int)],
    ),
    single("Gather", &[("axis", Int)]),
    single("GatherElements", &[("axis", Int)]),
    single("GatherND", &[("batch_dims", Int)]),
    known("Gelu", &[("approximate", Text)]),
    by_axes("Gemm", &[("alpha", Float), ("beta", Float), ("transA", Int), ("transB", Int)]),
    plain("GlobalAveragePool"),
    known("GlobalLpPool", &[("p", Int)]),
    plain("GlobalMaxPool"),
    plain("Greater"),
    plain("GreaterOrEqual"),
    single("GridSample", &[("align_corners", Int), ("mode", Text), ("padding_mode", Text)]),
    known("GroupNormalization", &[("epsilon", Float), ("num_groups", Int), ("stash_type", Int)]),
    known("HardSigmoid", &[("alpha", Float), ("beta", Float)]),
    plain("HardSwish"),
    single("Hardmax", &[("axis", Int)]),
    plain("Identity"),
    known("InstanceNormalization", &[("epsilon", Float)]),
    plain("IsNaN"),
    known("IsInf", &[("detect_negative", Int), ("detect_positive", Int)]),
    known("LRN", &[("alpha", Float), ("beta", Float), ("bias", Float), ("size", Int)]),
    single("LSTM", &[("direction", Text), ("hidden_size", Int), ("layout", Int)]),
    by_axes("LayerNormalization", &[("axis", Int), ("epsilon", Float), ("stash_type", Int)]),
    known("LeakyRelu", &[("alpha", Float)]),
    plain("Less"),
    plain("LessOrEqual"),
    plain("Log"),
    by_axes("LogSoftmax", &[("axis", Int)]),
    by_axes("LpNormalization", &[("axis", Int), ("p", Int)]),
    by_axes("MatMul", &[]),
    single("MatMulInteger", &[]),
    plain("Max"),
    known(
        "LpPool",
        &[
            ("auto_pad", Text),
            ("ceil_mode", Int),
            ("dilations", Ints),
            ("kernel_shape", Ints),
            ("p", Int),
            ("pads", Ints),
            ("strides", Ints),
        ],
    ),
    known(
        "MaxPool",
        &[
            ("auto_pad", Text),
            ("ceil_mode", Int),
            ("dilations", Ints),
            ("kernel_shape", Ints),
            ("pads", Ints),
            ("storage_order", Int),
            ("strides", Ints),
        ],
    ),
    plain("Mean"),
    single("MeanVarianceNormalization", &[("axes", Ints)]),
    plain("Min"),
    plain("Mish"),
    single("Mod", &[("fmod", Int)]),
    plain("Mul"),
    plain("Neg"),
    plain("Not"),
    single("OneHot", &[("axis", Int)]),
    plain("Or"),
    plain("PRelu"),
    by_axes("Pad", &[("mode", Text)]),
    plain("Pow"),
    single("QLinearConv", CONV),
    single("QLinearMatMul", &[]),
    known("QuantizeLinear", &[("axis", Int), ("block_size", Int), ("output_dtype", Int), ("saturate", Int)]),
    by_axes("RMSNormalization", &[("axis", Int), ("epsilon", Float), ("stash_type", Int)]),
    single(
        "RNN",
        &[("activations", super::Type::Strings), ("direction", Text), ("hidden_size", Int), ("layout", Int)],
    ),
    single("Range", &[]),
    plain("Reciprocal"),
    by_axes("ReduceL1", REDUCES),
    by_axes("ReduceL2", REDUCES),
    by_axes("ReduceLogSum", REDUCES),
    by_axes("ReduceLogSumExp", REDUCES),
    by_axes("ReduceMax", REDUCES),
    by_axes("ReduceMean", REDUCES),
    by_axes("ReduceMin", REDUCES),
    by_axes("ReduceProd", REDUCES),
    by_axes("ReduceSum", REDUCES),
    by_axes("ReduceSumSquare", REDUCES),
    plain("Relu"),
    // one picture's values stay together
    known("Reshape", &[("allowzero", Int)]),
    known("Resize", RESIZE),
    plain("Round"),
    single("ScatterElements", &[("axis", Int), ("reduction", Text)]),
    single("ScatterND", &[("reduction", Text)]),
    known("Selu", &[("alpha", Float), ("gamma", Float)]),
    single("Shape", &[("end", Int), ("start", Int)]),
    known("Shrink", &[("bias", Float), ("lambd", Float)]),
    plain("Sigmoid"),
    plain("Sign"),
    plain("Sin"),
    plain("Sinh"),
    single("Size", &[]),
    by_axes("Slice", &[]),
    by_axes("Softmax", &[("axis", Int)]),
    plain("Softplus"),
    plain("Softsign"),
    known("SpaceToDepth", &[("blocksize", Int)]),
    by_axes("Split", &[("axis", Int), ("num_outputs", Int), ("split", Ints)]),
    plain("Sqrt"),
    by_axes("Squeeze", &[("axes", Ints)]),
    plain("Sub"),
    plain("Sum"),
    plain("Tan"),
    plain("Tanh"),
    known("ThresholdedRelu", &[("alpha", Float)]),
    single("Tile", &[]),
    single("TopK", &[("axis", Int), ("largest", Int), ("sorted", Int)]),
    by_axes("Transpose", &[("perm", Ints)]),
    single("Trilu", &[("upper", Int)]),
    by_axes("Unsqueeze", &[("axes", Ints)]),
    plain("Where"),
    plain("Xor"),
];

/// Nodes that stand for another one, and the constants that they need.
pub(super) type Form = (Vec<NodeProto>, Vec<TensorProto>);

/// What is known where a node stands.
pub(super) struct Around<'a> {
    pub(super) opset: i64,
    pub(super) constants: &'a HashMap<String, Constant>,
    /// The shape of a value, batch and all, where it is known.
    pub(super) shape: &'a dyn Fn(&str) -> Option<Vec<usize>>,
}

impl<'a> Around<'a> {
    fn constant(&self, node: &NodeProto, index: usize) -> Option<&'a Constant> {
        self.constants.get(node.input.get(index).filter(|name| !name.is_empty())?)
    }
}

fn find(node: &NodeProto) -> Option<&'static Foreign> {
    // tract looks at an operator's name alone
    FOREIGN.iter().find(|foreign| node.is_onnx() && foreign.name == node.op_type)
}

/// Whether tract may run a node.
///
/// # Errors
/// Why not.
pub(super) fn check(node: &NodeProto, constants: &HashMap<String, Constant>) -> Result<(), Reason> {
    if node.op_type == "If" && node.is_onnx() {
        let bodies = node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs));
        return bodies.flat_map(|body| &body.node).try_for_each(|node| match least_rank(node) {
            Some(_) => Err(format!("{} in a branch of an If is not supported", node.operator())),
            None => check(node, constants),
        });
    }
    if node.op_type.starts_with("Random") || node.op_type == "Bernoulli" || node.op_type == "Multinomial" {
        return Err(
            "it draws at random: give its noise as the network's input, so that a seed decides".into()
        );
    }
    let Some(foreign) = find(node) else {
        return Err(format!("operator {} is not supported", node.operator()));
    };
    let attributes = Attributes(node);
    attributes.check(foreign.attributes)?;
    match node.op_type.as_str() {
        "BatchNormalization" => trains_nothing(node)?,
        "Dropout" => drops_nothing(node, constants)?,
        "QuantizeLinear" | "DequantizeLinear" if attributes.int("block_size", 0) != 0 => {
            return Err("levels in blocks are supported for weights alone".into());
        }
        "GRU" | "LSTM" | "RNN" if attributes.int("layout", 0) != 0 => {
            return Err("layout 1 is not supported".into());
        }
        "GRU" | "LSTM" | "RNN" if attributes.text("direction", "forward") == "reverse" => {
            return Err("a recurrent layer that runs backwards alone is not supported".into());
        }
        kind if kind.contains("Conv") || kind.ends_with("Pool") => check_numbers(node)?,
        "Reshape" => {
            let target = node.input.get(1).and_then(|name| constants.get(name)).and_then(Constant::integers);
            let known = target.unwrap_or_default().iter().filter(|size| **size != -1);
            let product = known.clone().try_fold(1i64, |product, size| product.checked_mul((*size).max(1)));
            let most = crate::limits::MAX_TENSOR_VALUES as i64;
            if known.clone().any(|size| *size < 0) || product.is_none_or(|product| product > most) {
                return Err(format!("a shape {:?} is not usable", target.unwrap_or_default()));
            }
        }
        "Pad" => {
            let pads = node.input.get(1).and_then(|name| constants.get(name)).and_then(Constant::integers);
            if pads.is_none_or(|pads| pads.iter().any(|pad| *pad < 0)) {
                return Err("pads that are no constants, or below 0, are not supported: use Slice".into());
            }
        }
        // tract never ends with an axis that is there twice
        "Transpose" => {
            let order = attributes.ints("perm");
            distinct(order, order.len())?;
        }
        "LpPool" if attributes.int("ceil_mode", 0) != 0 || attributes.int("p", 2) < 1 => {
            return Err("a pooling by a p below 1, or with ceil_mode, is not supported".into());
        }
        // the values of the largest tensor, from one
        "Resize" => {
            let factors = node.input.get(2).and_then(|name| constants.get(name)).and_then(Constant::floats);
            let factors = factors.unwrap_or_default();
            let product: f64 = factors.iter().map(|factor| f64::from(*factor).max(1.0)).product();
            let usable = factors.iter().all(|factor| factor.is_finite() && *factor > 0.0);
            if !usable {
                return Err(format!("a Resize by factors of {factors:?} is not usable"));
            }
            if product > crate::limits::MAX_RUN_VALUES as f64 {
                return Err(format!("a Resize by factors of {factors:?} makes too many values of one"));
            }
        }
        "MaxPool" if attributes.int("storage_order", 0) != 0 => {
            return Err("storage_order 1 is not supported".into());
        }
        _ => {}
    }
    let shaped = node.input.iter().filter_map(|name| constants.get(name)?.integers());
    for shape in shaped {
        if let Some(volume) = crate::limits::overfilled(&node.op_type, shape.iter().copied()) {
            return Err(format!("it would hold {volume} values, too many"));
        }
    }
    Ok(())
}

/// Checks that a batch norm uses its stored mean and variance.
///
/// # Errors
/// If it is in training mode. Before opset 14 a second output means training mode.
pub(super) fn trains_nothing(node: &NodeProto) -> Result<(), Reason> {
    let attributes = Attributes(node);
    if attributes.int("training_mode", 0) != 0 || node.output.iter().skip(1).any(|name| !name.is_empty()) {
        return Err("a batch norm in training mode: export after model.eval()".into());
    }
    if attributes.int("spatial", 1) != 1 {
        return Err("a batch norm of single pixels is not supported".into());
    }
    Ok(())
}

/// The smallest rank of an operator's input with which tract stays within the bounds of the input's shape; `None`: any.
fn least_rank(node: &NodeProto) -> Option<usize> {
    match node.op_type.as_str() {
        "BatchNormalization" => Some(2),
        "DepthToSpace" | "SpaceToDepth" | "GridSample" => Some(4),
        "InstanceNormalization" | "GroupNormalization" | "LRN" => Some(3),
        kind if kind.contains("Conv") || kind.ends_with("Pool") => Some(3),
        _ => None,
    }
}

/// Checks that a node's input has the rank that tract needs ([`least_rank`]).
///
/// # Errors
/// If the rank is smaller, or unknown.
pub(super) fn check_rank(node: &NodeProto, rank: impl Fn(&str) -> Option<usize>) -> Result<(), Reason> {
    let (Some(least), Some(input)) = (least_rank(node), node.input.first()) else { return Ok(()) };
    match rank(input) {
        Some(rank) if rank >= least => Ok(()),
        Some(rank) => {
            Err(format!("its input has {rank} axes, the batch's included: it takes {least} or more"))
        }
        None => Err("how many axes its input has is not known".into()),
    }
}

/// Operators whose first output has as many axes as their first input.
const KEEP_AXES: &[&str] = &[
    "Abs",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "Ceil",
    "Celu",
    "Clip",
    "Concat",
    "Conv",
    "ConvInteger",
    "ConvTranspose",
    "Cos",
    "DepthToSpace",
    "DequantizeLinear",
    "Dropout",
    "DynamicQuantizeLinear",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "GlobalAveragePool",
    "GlobalLpPool",
    "GlobalMaxPool",
    "GridSample",
    "GroupNormalization",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "InstanceNormalization",
    "LRN",
    "LayerNormalization",
    "LeakyRelu",
    "Log",
    "LogSoftmax",
    "LpNormalization",
    "LpPool",
    "MaxPool",
    "Mish",
    "Neg",
    "Pad",
    "QLinearConv",
    "QuantizeLinear",
    "RMSNormalization",
    "Reciprocal",
    "Relu",
    "Resize",
    "Round",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Slice",
    "Softmax",
    "Softplus",
    "Softsign",
    "SpaceToDepth",
    "Split",
    "Sqrt",
    "Tanh",
    "ThresholdedRelu",
    "Transpose",
];

/// How many axes a node's first output has, where that follows from those of its inputs alone.
pub(super) fn rank_of_output(
    node: &NodeProto,
    constants: &HashMap<String, Constant>,
    rank: impl Fn(&str) -> Option<usize>,
) -> Option<usize> {
    let input = |index: usize| node.input.get(index).filter(|name| !name.is_empty());
    let first = || rank(input(0)?);
    match node.op_type.as_str() {
        "Add" | "Sub" | "Mul" | "Div" | "Pow" | "PRelu" => Some(first()?.max(rank(input(1)?)?)),
        "Reshape" => Some(constants.get(input(1)?)?.integers()?.len()),
        "Flatten" => Some(2),
        kind if KEEP_AXES.contains(&kind) => first(),
        _ => None,
    }
}

/// Whether a Dropout leaves its input as it is: it is not in training mode, or drops nothing in it.
///
/// # Errors
/// If it may drop something.
pub(super) fn drops_nothing(node: &NodeProto, constants: &HashMap<String, Constant>) -> Result<(), Reason> {
    let constant = |index: usize| node.input.get(index).and_then(|name| constants.get(name));
    let given = |index: usize| node.input.get(index).is_some_and(|name| !name.is_empty());
    let trains = given(2) && constant(2).and_then(Constant::integers) != Some(&[0]);
    let drops = !given(1) || constant(1).and_then(Constant::float) != Some(0.0);
    if trains && drops {
        return Err("a dropout in training mode: export after model.eval()".into());
    }
    Ok(())
}

/// Whether a node does to each picture of a batch what it does to one alone. `rank` tells the rank of its input.
pub(super) fn keeps_pictures_apart(
    node: &NodeProto,
    rank: impl Fn() -> Option<usize>,
    constants: &HashMap<String, Constant>,
) -> bool {
    match find(node).map(|foreign| foreign.apart) {
        Some(Apart::Yes) => return true,
        Some(Apart::ByAxes) => {}
        _ => return false,
    }
    let attributes = Attributes(node);
    // an axis that is not that of the batch
    let inner = |axis: i64| {
        axis > 0 || (axis < 0 && rank().is_some_and(|rank| axis_of(axis, rank).is_some_and(|axis| axis > 0)))
    };
    let constant = |index: usize| node.input.get(index).is_some_and(|name| constants.contains_key(name));
    let list = |name: &str, index: usize| {
        let given = node.input.get(index).and_then(|name| constants.get(name)).and_then(Constant::integers);
        given.unwrap_or_else(|| attributes.ints(name)).to_vec()
    };
    let all_inner = |axes: Vec<i64>| !axes.is_empty() && axes.into_iter().all(inner);
    match node.op_type.as_str() {
        "MatMul" => !constant(0),
        "Gemm" => !constant(0) && attributes.int("transA", 0) == 0,
        "Flatten" => inner(attributes.int("axis", 1)),
        "Softmax" | "LogSoftmax" | "LayerNormalization" | "LpNormalization" | "RMSNormalization" => {
            inner(attributes.int("axis", -1))
        }
        "Concat" | "Split" => inner(attributes.int("axis", 0)),
        "Squeeze" | "Unsqueeze" => all_inner(list("axes", 1)),
        "Slice" => all_inner(list("axes", 3)),
        "Transpose" => attributes.ints("perm").first() == Some(&0),
        "Pad" => {
            let pads = list("pads", 1);
            let rank = pads.len() / 2;
            rank > 0 && node.input.len() < 4 && pads[0] == 0 && pads[rank] == 0
        }
        kind if kind.starts_with("Reduce") => all_inner(list("axes", 1)),
        _ => false,
    }
}

/// Builds nodes that stand for another one.
struct Builder<'a> {
    output: &'a str,
    nodes: Vec<NodeProto>,
    tensors: Vec<TensorProto>,
}

impl Builder<'_> {
    fn constant(&mut self, what: &str, constant: &Constant) -> String {
        let name = format!("{}/{what}", self.output);
        self.tensors.push(constant.tensor(&name));
        name
    }

    fn single(&mut self, what: &str, value: f32) -> String {
        self.constant(what, &Constant::floats_of(vec![], vec![value]))
    }

    /// A node whose output is called after `what`, or the last one if that is empty.
    fn node(&mut self, kind: &str, inputs: &[&str], what: &str, attributes: Vec<AttributeProto>) -> String {
        let output =
            if what.is_empty() { self.output.to_string() } else { format!("{}/{what}", self.output) };
        self.nodes.push(NodeProto {
            op_type: kind.into(),
            name: output.clone(),
            input: inputs.iter().map(|input| (*input).to_string()).collect(),
            output: vec![output.clone()],
            attribute: attributes,
            ..NodeProto::default()
        });
        output
    }

    /// A Reduce that keeps its axes.
    fn reduce(
        &mut self,
        kind: &str,
        input: &str,
        axes: &[i64],
        keep: bool,
        opset: i64,
        what: &str,
    ) -> String {
        let mut attributes = vec![int("keepdims", i64::from(keep))];
        if opset < if kind == "ReduceSum" { 13 } else { 18 } {
            attributes.push(ints("axes", axes));
            return self.node(kind, &[input], what, attributes);
        }
        let axes = Constant::integers_of(vec![axes.len()], axes.to_vec());
        let axes = self.constant(&format!("{what}axes"), &axes);
        self.node(kind, &[input, &axes], what, attributes)
    }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), i, r#type: 2, ..AttributeProto::default() }
}

fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto { name: name.into(), ints: ints.to_vec(), r#type: 7, ..AttributeProto::default() }
}

/// The form in which a node is given to tract, if that is another than its own.
///
/// # Errors
/// If there is none that tract gets right.
pub(super) fn form(node: &NodeProto, around: &Around<'_>) -> Result<Option<Form>, Reason> {
    let (Some(output), input) = (node.output.first(), node.input.first()) else { return Ok(None) };
    let input = input.map_or("", String::as_str);
    let attributes = Attributes(node);
    let mut builder = Builder { output, nodes: Vec::new(), tensors: Vec::new() };
    match node.op_type.as_str() {
        "QuantizeLinear" | "DequantizeLinear" => {
            let Some(form) = levels_in_floats(node, around, false)? else { return Ok(None) };
            return Ok(Some(form));
        }
        // values are float32 whatever the file computes in
        "Cast" if is_floats(attributes.int("to", 0)) => {
            builder.node("Cast", &[input], "", vec![int("to", 1)]);
        }
        "Dropout" => {
            builder.node("Identity", &[input], "", vec![]);
        }
        // tract takes a value for what is padded with, whatever the mode
        "Pad" if attributes.text("mode", "constant") != "constant" && node.input.len() > 2 => {
            let mut node = node.clone();
            if node.input.get(3).is_some_and(|axes| !axes.is_empty()) {
                return Err(
                    "a Pad of some axes, by reflection or edges, with a value: leave the value out".into()
                );
            }
            node.input.truncate(2);
            builder.nodes.push(node);
        }
        // the mean of |x|^p, times the number of its summands, to the power of 1 / p
        "LpPool" => {
            let power = attributes.int("p", 2) as f32;
            let summands: i64 = attributes.ints("kernel_shape").iter().product();
            let [p, root, all] = [("p", power), ("root", 1.0 / power), ("all", summands as f32)]
                .map(|(name, value)| builder.single(name, value));
            let size = builder.node("Abs", &[input], "size", vec![]);
            let powers = builder.node("Pow", &[&size, &p], "powers", vec![]);
            let mut kept: Vec<AttributeProto> = node.attribute.clone();
            kept.retain(|attribute| attribute.name != "p" && attribute.name != "ceil_mode");
            kept.push(int("count_include_pad", 1));
            let mean = builder.node("AveragePool", &[&powers], "mean", kept);
            let sum = builder.node("Mul", &[&mean, &all], "sum", vec![]);
            builder.node("Pow", &[&sum, &root], "", vec![]);
        }
        // max(0, x) + min(0, α · (exp(x / α) − 1))
        "Celu" => {
            let alpha = builder.single("alpha", attributes.float("alpha", 1.0));
            let [zero, one] = [("zero", 0.0), ("one", 1.0)].map(|(name, value)| builder.single(name, value));
            let least = builder.node("Min", &[input, &zero], "least", vec![]);
            let divided = builder.node("Div", &[&least, &alpha], "divided", vec![]);
            let power = builder.node("Exp", &[&divided], "power", vec![]);
            let below = builder.node("Sub", &[&power, &one], "below", vec![]);
            let scaled = builder.node("Mul", &[&below, &alpha], "scaled", vec![]);
            let above = builder.node("Max", &[input, &zero], "above", vec![]);
            builder.node("Add", &[&above, &scaled], "", vec![]);
        }
        // max(0, x) + log(1 + exp(−|x|)), which is never too large
        "Softplus" => {
            let [zero, one] = [("zero", 0.0), ("one", 1.0)].map(|(name, value)| builder.single(name, value));
            let size = builder.node("Abs", &[input], "size", vec![]);
            let negative = builder.node("Neg", &[&size], "negative", vec![]);
            let power = builder.node("Exp", &[&negative], "power", vec![]);
            let more = builder.node("Add", &[&power, &one], "more", vec![]);
            let log = builder.node("Log", &[&more], "log", vec![]);
            let above = builder.node("Max", &[input, &zero], "above", vec![]);
            builder.node("Add", &[&above, &log], "", vec![]);
        }
        "LogSoftmax" => {
            let rank = (around.shape)(input).map(|shape| shape.len());
            // before opset 13 over all axes from its own on
            let default = if around.opset < 13 { 1 } else { -1 };
            let axis = attributes.int("axis", default);
            let last = rank.and_then(|rank| axis_of(axis, rank).map(|axis| axis + 1 == rank));
            if around.opset < 13 && last != Some(true) {
                return Err("a LogSoftmax over several axes is not supported".into());
            }
            let most = builder.reduce("ReduceMax", input, &[axis], true, around.opset, "most");
            let less = builder.node("Sub", &[input, &most], "less", vec![]);
            let power = builder.node("Exp", &[&less], "power", vec![]);
            let sum = builder.reduce("ReduceSum", &power, &[axis], true, around.opset, "sum");
            let log = builder.node("Log", &[&sum], "log", vec![]);
            builder.node("Sub", &[&less, &log], "", vec![]);
        }
        "ReduceLogSumExp" => {
            let given = around.constant(node, 1).and_then(Constant::integers);
            let axes = given.unwrap_or_else(|| attributes.ints("axes")).to_vec();
            let axes = match ((around.shape)(input), axes.is_empty()) {
                (_, false) => axes,
                (Some(shape), true) if attributes.int("noop_with_empty_axes", 0) == 0 => {
                    (0..shape.len() as i64).collect()
                }
                _ => return Err("a ReduceLogSumExp without axes is not supported".into()),
            };
            let keep = attributes.int("keepdims", 1) != 0;
            let most = builder.reduce("ReduceMax", input, &axes, true, around.opset, "most");
            let less = builder.node("Sub", &[input, &most], "less", vec![]);
            let power = builder.node("Exp", &[&less], "power", vec![]);
            let sum = builder.reduce("ReduceSum", &power, &axes, keep, around.opset, "sum");
            let log = builder.node("Log", &[&sum], "log", vec![]);
            let again = builder.reduce("ReduceMax", input, &axes, keep, around.opset, "again");
            builder.node("Add", &[&log, &again], "", vec![]);
        }
        // (Σ |x|ᵖ)^(1/p) of each channel
        "GlobalLpPool" => {
            let Some(shape) = (around.shape)(input) else {
                return Err("a GlobalLpPool of something whose shape is not known".into());
            };
            let axes: Vec<i64> = (2..shape.len() as i64).collect();
            let p = attributes.int("p", 2) as f32;
            let [p, root] = [("p", p), ("root", 1.0 / p)].map(|(name, value)| builder.single(name, value));
            let size = builder.node("Abs", &[input], "size", vec![]);
            let power = builder.node("Pow", &[&size, &p], "power", vec![]);
            let sum = builder.reduce("ReduceSum", &power, &axes, true, around.opset, "sum");
            builder.node("Pow", &[&sum, &root], "", vec![]);
        }
        "Resize" => {
            whole_corners(node, around)?;
            let mut node = node.clone();
            // before version 13 tract counts inputs that are left out
            let left_out = |index: &usize| node.input.get(*index).is_some_and(String::is_empty);
            let places: Vec<usize> = [1, 2].into_iter().filter(left_out).collect();
            if around.opset >= 13 || places.is_empty() {
                return Ok(None);
            }
            for place in places {
                let nothing = Constant::floats_of(vec![0], vec![]);
                node.input[place] = builder.constant(if place == 1 { "roi" } else { "scales" }, &nothing);
            }
            builder.nodes.push(node);
        }
        "Conv" | "ConvTranspose" => {
            let Some(node) = explicit(node, around)? else { return Ok(None) };
            builder.nodes.push(node);
        }
        _ => return Ok(None),
    }
    Ok(Some((builder.nodes, builder.tensors)))
}

/// Whether a Resize that keeps corners in place makes sizes that follow from its factors without rounding: else tract takes
/// another distance between pixels than onnxruntime.
fn whole_corners(node: &NodeProto, around: &Around<'_>) -> Result<(), Reason> {
    let corners = Attributes(node).text("coordinate_transformation_mode", "half_pixel") == "align_corners";
    let factors = around.constant(node, 2).and_then(Constant::floats).unwrap_or_default();
    if !corners || factors.iter().all(|factor| factor.fract() == 0.0) {
        return Ok(());
    }
    let shape = node.input.first().and_then(|name| (around.shape)(name));
    let whole = |(size, factor): (&usize, &f32)| (*size as f64 * f64::from(*factor)).fract() < 1e-6;
    match shape {
        Some(shape) if shape.len() == factors.len() && shape.iter().zip(&factors).all(whole) => Ok(()),
        _ => Err("a Resize with align_corners by factors whose sizes are rounded: give sizes".into()),
    }
}

/// A convolution with its padding in numbers.
fn explicit(node: &NodeProto, around: &Around<'_>) -> Result<Option<NodeProto>, Reason> {
    let attributes = Attributes(node);
    let spelled = matches!(attributes.text("auto_pad", "NOTSET"), "NOTSET" | "")
        && attributes.ints("output_shape").is_empty();
    if spelled {
        return Ok(None);
    }
    let shape = node.input.first().and_then(|name| (around.shape)(name));
    let weights = around.constant(node, 1);
    let (Some([_, _, size @ ..]), Some([_, _, kernel @ ..])) =
        (shape.as_deref(), weights.map(|weights| &weights.dims[..]))
    else {
        return Err(
            "padding that follows from sizes (auto_pad, output_shape) which are not known: give pads".into(),
        );
    };
    let transposed = node.op_type == "ConvTranspose";
    let window = match transposed {
        true => Window::of_transposed(node, kernel, size)?,
        false => Window::of_conv(node, kernel, size)?,
    };
    let numbers = |values: &[usize]| values.iter().map(|value| *value as i64).collect::<Vec<_>>();
    let mut made = node.clone();
    made.attribute.retain(|attribute| {
        !matches!(attribute.name.as_str(), "auto_pad" | "pads" | "output_shape" | "output_padding")
    });
    made.attribute.push(ints("pads", &numbers(&[&window.before[..], &window.behind].concat())));
    if transposed {
        made.attribute.push(ints("output_padding", &numbers(&window.added)));
    }
    Ok(Some(made))
}

/// QuantizeLinear and DequantizeLinear by one scale as arithmetic of float32 values that are whole numbers. tract
/// 0.23.9 brings what stands between them together, and softmax and products of two values come out wrong. With `integers`
/// what is quantised becomes integers at the end: tract multiplies by 1 / scale, which rounds a value in some thousands otherwise.
pub(super) fn levels_in_floats(
    node: &NodeProto,
    around: &Around<'_>,
    integers: bool,
) -> Result<Option<Form>, Reason> {
    let quantizes = node.op_type == "QuantizeLinear";
    let Some(scale) = around.constant(node, 1).and_then(Constant::float) else { return Ok(None) };
    let zero = around.constant(node, 2);
    if zero.is_none() && node.input.get(2).is_some_and(|name| !name.is_empty()) {
        return Ok(None);
    }
    let kind = level_type(node, zero)?;
    let (low, high) = match kind {
        DataType::Int8 => (-128.0, 127.0),
        DataType::Uint8 => (0.0, 255.0),
        DataType::Int16 => (-32768.0, 32767.0),
        DataType::Uint16 => (0.0, 65535.0),
        _ => return Err("levels of another type than 8 or 16 bits are not supported".into()),
    };
    let zero = match zero.map(|zero| &zero.numbers) {
        None => 0.0,
        Some(Numbers::Levels(bits)) if bits.len() == 1 => number(bits[0], kind == DataType::Int8).into(),
        Some(Numbers::Integers(values)) if values.len() == 1 => values[0] as f32,
        _ => return Ok(None),
    };
    let (Some(input), Some(output)) = (node.input.first(), node.output.first()) else { return Ok(None) };
    let mut builder = Builder { output, nodes: Vec::new(), tensors: Vec::new() };
    let (scale, zero) = (builder.single("scale", scale), builder.single("zero", zero));
    if quantizes {
        let (low, high) = (builder.single("low", low), builder.single("high", high));
        let steps = builder.node("Div", &[input, &scale], "steps", vec![]);
        let rounded = builder.node("Round", &[&steps], "rounded", vec![]);
        let level = builder.node("Add", &[&rounded, &zero], "level", vec![]);
        if integers {
            let level = builder.node("Clip", &[&level, &low, &high], "clipped", vec![]);
            builder.node("Cast", &[&level], "", vec![int("to", kind as i64)]);
        } else {
            builder.node("Clip", &[&level, &low, &high], "", vec![]);
        }
    } else {
        let steps = builder.node("Sub", &[input, &zero], "steps", vec![]);
        builder.node("Mul", &[&steps, &scale], "", vec![]);
    }
    Ok(Some((builder.nodes, builder.tensors)))
}

/// The type of the levels that a QuantizeLinear makes: its zero point's, else what it names, else uint8.
pub(super) fn level_type(node: &NodeProto, zero: Option<&Constant>) -> Result<DataType, Reason> {
    let named = if node.op_type == "QuantizeLinear" { Attributes(node).int("output_dtype", 0) } else { 0 };
    let named = match named {
        0 => None,
        code => Some(
            i32::try_from(code)
                .ok()
                .and_then(|code| DataType::try_from(code).ok())
                .ok_or_else(|| format!("output_dtype is {code}, which is no type"))?,
        ),
    };
    match (named, zero) {
        (Some(named), Some(zero)) if named != zero.kind => {
            Err("its output_dtype and its zero point are of different types".into())
        }
        (named, zero) => Ok(zero.map(|zero| zero.kind).or(named).unwrap_or(DataType::Uint8)),
    }
}
