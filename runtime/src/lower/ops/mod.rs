//! The operators that kernels run: which attributes and inputs each understands, and what it becomes. Whatever an
//! operator does not understand is refused, and named.

mod linear;
mod matrices;
mod moves;
mod pointwise;
mod quantized;
mod windows;

use crate::onnx::NodeProto;
use crate::onnx::attributes::Type::{Float, Int, Ints, Text};
use crate::onnx::attributes::{Attributes, BATCH_NORM, CONV, CONV_TRANSPOSE, Known, POOL, RESIZE};

use super::Reason;
use super::reader::{Made, Reader};

/// An operator.
struct Operator {
    domain: &'static str,
    name: &'static str,
    attributes: Known,
    /// Most inputs.
    inputs: usize,
    read: Read,
}

/// What makes of a node operators of a graph.
type Read = for<'r, 'a> fn(&'r mut Reader<'a>, &'a NodeProto) -> Result<Made, Reason>;

/// One of ONNX's own.
const fn onnx(name: &'static str, inputs: usize, attributes: Known, read: Read) -> Operator {
    Operator { domain: "", name, attributes, inputs, read }
}

/// One of onnxruntime's.
const fn contributed(name: &'static str, inputs: usize, attributes: Known, read: Read) -> Operator {
    Operator { domain: "com.microsoft", name, attributes, inputs, read }
}

const ANY: usize = usize::MAX;

const REDUCE: Known = &[("axes", Ints), ("keepdims", Int), ("noop_with_empty_axes", Int)];

/// Every operator that has a kernel.
static OPERATORS: &[Operator] = &[
    onnx("Abs", 1, &[], pointwise::function),
    onnx("Add", 2, &[], pointwise::arithmetic),
    onnx("AveragePool", 1, POOL, windows::pool),
    onnx("BatchNormalization", 5, BATCH_NORM, pointwise::batch_norm),
    onnx("Cast", 1, &[("to", Int), ("saturate", Int), ("round_mode", Text)], pointwise::cast),
    onnx("Ceil", 1, &[], pointwise::function),
    onnx("Celu", 1, &[("alpha", Float)], pointwise::function),
    onnx("Clip", 3, &[], pointwise::clip),
    onnx("Concat", ANY, &[("axis", Int)], moves::concat),
    onnx("Conv", 3, CONV, linear::conv),
    onnx("ConvTranspose", 3, CONV_TRANSPOSE, linear::transposed),
    onnx("Cos", 1, &[], pointwise::function),
    onnx("DepthToSpace", 1, &[("blocksize", Int), ("mode", Text)], moves::depth_to_space),
    onnx(
        "DequantizeLinear",
        3,
        &[("axis", Int), ("block_size", Int), ("output_dtype", Int)],
        quantized::dequantize,
    ),
    onnx("Div", 2, &[], pointwise::arithmetic),
    onnx("Dropout", 3, &[("ratio", Float), ("seed", Int)], pointwise::dropout),
    onnx("Elu", 1, &[("alpha", Float)], pointwise::function),
    onnx("Erf", 1, &[], pointwise::function),
    onnx("Exp", 1, &[], pointwise::function),
    onnx("Expand", 2, &[], moves::repeat),
    onnx("Flatten", 1, &[("axis", Int)], moves::reshape),
    onnx("Floor", 1, &[], pointwise::function),
    onnx("Gather", 2, &[("axis", Int)], moves::class_row),
    onnx("Gelu", 1, &[("approximate", Text)], pointwise::function),
    onnx("Gemm", 3, &[("alpha", Float), ("beta", Float), ("transA", Int), ("transB", Int)], linear::dense),
    onnx("GlobalAveragePool", 1, &[], windows::global),
    onnx("GlobalMaxPool", 1, &[], windows::global),
    onnx(
        "GroupNormalization",
        3,
        &[("epsilon", Float), ("num_groups", Int), ("stash_type", Int)],
        matrices::group_norm,
    ),
    onnx("HardSigmoid", 1, &[("alpha", Float), ("beta", Float)], pointwise::function),
    onnx("HardSwish", 1, &[], pointwise::function),
    onnx("Identity", 1, &[], |reader, node| reader.value(node, 0)),
    onnx("InstanceNormalization", 3, &[("epsilon", Float)], matrices::instance_norm),
    onnx(
        "LayerNormalization",
        3,
        &[("axis", Int), ("epsilon", Float), ("stash_type", Int)],
        matrices::layer_norm,
    ),
    onnx("LeakyRelu", 1, &[("alpha", Float)], pointwise::function),
    onnx("Log", 1, &[], pointwise::function),
    onnx("MatMul", 2, &[], linear::dense),
    onnx("Max", ANY, &[], pointwise::arithmetic),
    onnx("MaxPool", 1, POOL, windows::pool),
    onnx("Min", ANY, &[], pointwise::arithmetic),
    onnx("Mish", 1, &[], pointwise::function),
    onnx("Mul", 2, &[], pointwise::arithmetic),
    onnx("Neg", 1, &[], pointwise::function),
    onnx("PRelu", 2, &[], pointwise::prelu),
    onnx("Pad", 4, &[("mode", Text)], windows::pad),
    onnx("Pow", 2, &[], pointwise::arithmetic),
    onnx("QLinearConv", 9, CONV, quantized::conv),
    onnx("QLinearMatMul", 8, &[], quantized::matmul),
    onnx(
        "QuantizeLinear",
        3,
        &[("axis", Int), ("block_size", Int), ("output_dtype", Int), ("precision", Int), ("saturate", Int)],
        quantized::quantize,
    ),
    onnx("Reciprocal", 1, &[], pointwise::function),
    onnx("ReduceMax", 2, REDUCE, windows::reduce),
    onnx("ReduceMean", 2, REDUCE, windows::reduce),
    onnx("Relu", 1, &[], pointwise::function),
    onnx("Reshape", 2, &[("allowzero", Int)], moves::reshape),
    onnx("Resize", 4, RESIZE, windows::resize),
    onnx("Round", 1, &[], pointwise::function),
    onnx("Selu", 1, &[("alpha", Float), ("gamma", Float)], pointwise::function),
    onnx("Sigmoid", 1, &[], pointwise::function),
    onnx("Sign", 1, &[], pointwise::function),
    onnx("Sin", 1, &[], pointwise::function),
    onnx("Slice", 5, &[], moves::slice),
    onnx("Softmax", 1, &[("axis", Int)], matrices::softmax),
    onnx("Softplus", 1, &[], pointwise::function),
    onnx("Softsign", 1, &[], pointwise::function),
    onnx("SpaceToDepth", 1, &[("blocksize", Int)], moves::space_to_depth),
    onnx("Sqrt", 1, &[], pointwise::function),
    onnx("Squeeze", 2, &[("axes", Ints)], moves::reshape),
    onnx("Sub", 2, &[], pointwise::arithmetic),
    onnx("Sum", ANY, &[], pointwise::arithmetic),
    onnx("Swish", 1, &[("alpha", Float)], pointwise::function),
    onnx("Tanh", 1, &[], pointwise::function),
    onnx("Tile", 2, &[], moves::repeat),
    onnx("ThresholdedRelu", 1, &[("alpha", Float)], pointwise::function),
    onnx("Transpose", 1, &[("perm", Ints)], moves::transpose),
    onnx("Unsqueeze", 2, &[("axes", Ints)], moves::reshape),
    contributed("Gelu", 1, &[], pointwise::function),
    contributed("QGemm", 9, &[("alpha", Float), ("transA", Int), ("transB", Int)], quantized::gemm),
    contributed("QLinearAdd", 8, &[], quantized::add),
    contributed("QLinearAveragePool", 5, LEVEL_POOL, windows::pool_levels),
    contributed("QLinearConcat", ANY, &[("axis", Int)], quantized::concat),
    contributed("QLinearGlobalAveragePool", 5, &[("channels_last", Int)], windows::global_levels),
    contributed("QLinearLeakyRelu", 5, &[("alpha", Float)], quantized::leaky_relu),
    contributed("QLinearMul", 8, &[], quantized::mul),
    contributed("QLinearSigmoid", 5, &[], quantized::sigmoid),
    contributed("QuickGelu", 1, &[("alpha", Float)], pointwise::function),
];

/// Those of onnxruntime's pool of levels.
const LEVEL_POOL: Known = &[
    ("auto_pad", Text),
    ("ceil_mode", Int),
    ("channels_last", Int),
    ("count_include_pad", Int),
    ("dilations", Ints),
    ("kernel_shape", Ints),
    ("pads", Ints),
    ("strides", Ints),
];

/// Reads a Split, which makes several values: one for each of its outputs.
///
/// # Errors
/// What of it has no kernel.
pub(super) fn split<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Vec<Made>, Reason> {
    moves::split(reader, node)
}

/// Reads a node.
///
/// # Errors
/// What of it has no kernel.
pub(super) fn read<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    let domain = if node.is_onnx() { "" } else { &node.domain };
    let own = |operator: &&Operator| operator.name == node.op_type && operator.domain == domain;
    let Some(operator) = OPERATORS.iter().find(own) else {
        return Err(format!("operator {} has no kernel here", node.operator()));
    };
    Attributes(node).check(operator.attributes)?;
    if node.input.iter().rposition(|name| !name.is_empty()).is_some_and(|last| last >= operator.inputs) {
        return Err(format!("it has more inputs than the {} that are known here", operator.inputs));
    }
    (operator.read)(reader, node)
}
