//! The operators that kernels run: which attributes and inputs each understands, and what it becomes. Whatever an
//! operator does not understand is refused, and named.

mod linear;
mod moves;
mod pointwise;
mod quantized;

use crate::onnx::NodeProto;
use crate::onnx::attributes::Type::{Float, Int, Ints, Text};
use crate::onnx::attributes::{Attributes, BATCH_NORM, CONV, CONV_TRANSPOSE, Known, RESIZE};

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

/// Every operator that has a kernel.
static OPERATORS: &[Operator] = &[
    onnx("Add", 2, &[], pointwise::arithmetic),
    onnx("BatchNormalization", 5, BATCH_NORM, pointwise::batch_norm),
    onnx("Cast", 1, &[("to", Int), ("saturate", Int), ("round_mode", Text)], pointwise::cast),
    onnx("Clip", 3, &[], pointwise::clip),
    onnx("Concat", ANY, &[("axis", Int)], moves::concat),
    onnx("Conv", 3, CONV, linear::conv),
    onnx("ConvTranspose", 3, CONV_TRANSPOSE, linear::transposed),
    onnx("DepthToSpace", 1, &[("blocksize", Int), ("mode", Text)], moves::depth_to_space),
    onnx(
        "DequantizeLinear",
        3,
        &[("axis", Int), ("block_size", Int), ("output_dtype", Int)],
        quantized::dequantize,
    ),
    onnx("Div", 2, &[], pointwise::arithmetic),
    onnx("Dropout", 3, &[("ratio", Float), ("seed", Int)], pointwise::dropout),
    onnx("Flatten", 1, &[("axis", Int)], moves::reshape),
    onnx("Gather", 2, &[("axis", Int)], moves::class_row),
    onnx("Gemm", 3, &[("alpha", Float), ("beta", Float), ("transA", Int), ("transB", Int)], linear::dense),
    onnx("Identity", 1, &[], |reader, node| reader.value(node, 0)),
    onnx("LeakyRelu", 1, &[("alpha", Float)], pointwise::leaky_relu),
    onnx("MatMul", 2, &[], linear::dense),
    onnx("Mul", 2, &[], pointwise::arithmetic),
    onnx("QLinearConv", 9, CONV, quantized::conv),
    onnx("QLinearMatMul", 8, &[], quantized::matmul),
    onnx(
        "QuantizeLinear",
        3,
        &[("axis", Int), ("block_size", Int), ("output_dtype", Int), ("precision", Int), ("saturate", Int)],
        quantized::quantize,
    ),
    onnx("Relu", 1, &[], pointwise::relu),
    onnx("Reshape", 2, &[("allowzero", Int)], moves::reshape),
    onnx("Resize", 4, RESIZE, moves::resize),
    onnx("Sigmoid", 1, &[], pointwise::sigmoid),
    onnx("Slice", 5, &[], moves::slice),
    onnx("Softmax", 1, &[("axis", Int)], pointwise::softmax),
    onnx("Squeeze", 2, &[("axes", Ints)], moves::reshape),
    onnx("Sub", 2, &[], pointwise::arithmetic),
    onnx("Tanh", 1, &[], pointwise::tanh),
    onnx("Transpose", 1, &[("perm", Ints)], moves::transpose),
    onnx("Unsqueeze", 2, &[("axes", Ints)], moves::reshape),
    contributed("QGemm", 9, &[("alpha", Float), ("transA", Int), ("transB", Int)], quantized::gemm),
    contributed("QLinearAdd", 8, &[], quantized::add),
    contributed("QLinearConcat", ANY, &[("axis", Int)], quantized::concat),
    contributed("QLinearLeakyRelu", 5, &[("alpha", Float)], quantized::leaky_relu),
    contributed("QLinearSigmoid", 5, &[], quantized::sigmoid),
];

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
