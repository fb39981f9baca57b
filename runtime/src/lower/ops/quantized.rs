//! Levels: QuantizeLinear, DequantizeLinear, and layers from levels to levels. The type of levels (int8, uint8) is that
//! of their zero point, or what the operator says without one; a zero point that is left out is 0 of that type.

use edgegen_kernels::Kind;
use edgegen_kernels::elements::{Binary, Function};

use super::linear::{Levels, conv_kind, turn};
use super::moves::{axis_of_parts, joined};
use super::pointwise::slope;
use crate::lower::fold::makes_floats;
use crate::lower::graph::{Encoding, Id, Number, Op, Quantized, Shape, requantised};
use crate::lower::reader::{Made, Reader};
use crate::lower::{Reason, check_scales, foreign};
use crate::onnx::attributes::Attributes;
use crate::onnx::tensor::{Numbers, number};
use crate::onnx::{DataType, NodeProto};

/// Levels that are added up in 32 bits.
const MOST_PIXELS: usize = 1 << 22;

impl<'a> Reader<'a> {
    /// Levels at an input with scale and zero point behind, as float32.
    fn dequantized(&mut self, node: &'a NodeProto, index: usize) -> Result<Made, Reason> {
        let (from, shape) = self.value(node, index)?;
        self.expect(from, Number::Level)?;
        let encoding = self.encoding(node, index + 1, self.level_type(from))?;
        let made = self.push(Op::LookUp(encoding, Function::Identity), vec![from], shape, Number::Float);
        Ok((made, shape))
    }

    /// Weights of an integer operator at `index`, with scale and zero point behind: s8 around 0, and scales.
    fn integer_weights(
        &self,
        node: &'a NodeProto,
        index: usize,
        outputs_of: impl Fn(&[usize]) -> Option<usize>,
    ) -> Result<(Vec<usize>, Levels), Reason> {
        let constant = self.given(node, index)?;
        let Numbers::Levels(levels) = &constant.numbers else {
            return Err("its weights are neither int8 nor uint8".into());
        };
        let scales = self.floats(node, index + 1)?;
        check_scales(&scales)?;
        let zeros: Vec<i16> = match self.zero_point(node, index + 2)? {
            None => vec![0],
            Some(zero) if zero.kind != constant.kind => {
                return Err("its weights and their zero point are of different types".into());
            }
            Some(zero) => {
                self.zeros(zero).ok_or("the zero point of its weights is neither int8 nor uint8")?
            }
        };
        let outputs = outputs_of(&constant.dims).ok_or("weights of another rank than it needs")?;
        if (scales.len() != 1 && scales.len() != outputs)
            || zeros.is_empty()
            || zeros.iter().any(|z| *z != zeros[0])
        {
            return Err("its weights' scales or zero points do not fit them".into());
        }
        let signed = constant.is_signed();
        let levels = match (signed, zeros[0]) {
            (true, 0) => Some(levels.iter().map(|level| *level as i8).collect()),
            (_, zero) => {
                let levels = levels.iter().map(|level| i8::try_from(number(*level, signed) - zero).ok());
                levels.collect::<Option<Vec<_>>>()
            }
        };
        let levels = levels.ok_or("weights whose zero point is far from their middle have no kernel here")?;
        Ok((constant.dims.clone(), (levels, scales)))
    }

    fn integer_bias(&self, node: &'a NodeProto, index: usize, outputs: usize) -> Result<Vec<i32>, Reason> {
        if self.named(node, index).is_none() {
            return Ok(vec![0; outputs]);
        }
        let bias = self.given(node, index)?.integers().ok_or("its bias is not int32")?;
        let bias: Option<Vec<i32>> = bias.iter().map(|value| i32::try_from(*value).ok()).collect();
        bias.filter(|bias| bias.len() == outputs)
            .ok_or_else(|| "a bias of another size than its outputs".into())
    }

    /// A layer of levels at input 0; scale and zero point of what it makes are at `y`.
    fn quantized(
        &mut self,
        node: &'a NodeProto,
        (kind, (weights, scales)): (Kind, Levels),
        bias: Vec<i32>,
        (shape, y): (Shape, usize),
    ) -> Result<Id, Reason> {
        let (from, _) = self.value(node, 0)?;
        self.expect(from, Number::Level)?;
        let x = self.encoding(node, 1, self.level_type(from))?;
        let (y, made) = self.typed_encoding(node, y)?;
        let scales = requantised(x, &scales, y).ok_or("its scales multiply to more than float32 holds")?;
        let (x_zero, y_zero) = (x.zero, y.zero);
        let layer = Quantized { kind, weights, bias, scales, x_zero, y_zero, low: 0, high: 255, slope: 1.0 };
        Ok(self.push_levels(Op::Quantized(Box::new(layer)), vec![from], shape, made))
    }

    /// float32 to levels of an encoding.
    fn requantise(&mut self, value: Made, (encoding, kind): (Encoding, DataType)) -> Made {
        (self.push_levels(Op::Quantize(encoding), vec![value.0], value.1, kind), value.1)
    }

    /// A pool of levels, with scale and zero point of what it makes at input 3, as one of their values.
    pub(super) fn pooled_levels(
        &mut self,
        node: &'a NodeProto,
        pool: impl Fn(&mut Self, Made) -> Result<Made, Reason>,
    ) -> Result<Made, Reason> {
        let kind = self.level_type(self.value(node, 0)?.0);
        let value = self.dequantized(node, 0)?;
        let made = pool(self, value)?;
        let encoding = self.encoding(node, 3, kind)?;
        Ok(self.requantise(made, (encoding, kind)))
    }

    /// The mean of each channel of levels, whose scale and zero point are behind, as are those of what it makes.
    pub(super) fn mean_of_levels(&mut self, node: &'a NodeProto) -> Result<Made, Reason> {
        let (from, shape) = self.value(node, 0)?;
        self.expect(from, Number::Level)?;
        let Shape::Image(channels, height, width) = shape else {
            return Err("a pool of something that is no picture".into());
        };
        let kind = self.level_type(from);
        let (own, made) = (self.encoding(node, 1, kind)?, self.encoding(node, 3, kind)?);
        if !(own.scale / (made.scale * (height * width) as f32)).is_finite() || height * width > MOST_PIXELS {
            return Err("a mean of too many levels".into());
        }
        let shape = Shape::Image(channels, 1, 1);
        Ok((self.push_levels(Op::MeanLevels(own, made), vec![from], shape, kind), shape))
    }

    /// What a function makes of levels; scale and zero point of what it makes are at input 3.
    fn function_of_levels(&mut self, node: &'a NodeProto, function: Function) -> Result<Made, Reason> {
        let kind = self.level_type(self.value(node, 0)?.0);
        let (value, shape) = self.dequantized(node, 0)?;
        let value = self.push(Op::Function(function), vec![value], shape, Number::Float);
        let encoding = self.encoding(node, 3, kind)?;
        Ok(self.requantise((value, shape), (encoding, kind)))
    }
}

fn no_blocks(node: &NodeProto) -> Result<(), Reason> {
    match Attributes(node).int("block_size", 0) {
        0 => Ok(()),
        _ => Err("levels in blocks have no kernel here but for weights".into()),
    }
}

pub(super) fn quantize<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    no_blocks(node)?;
    if !matches!(Attributes(node).int("precision", 0), 0 | 1) {
        return Err("a division in another precision than float32".into());
    }
    let value = reader.float_value(node, 0)?;
    let kind = foreign::level_type(node, reader.zero_point(node, 2)?)?;
    if !matches!(kind, DataType::Int8 | DataType::Uint8) {
        return Err(format!("levels of {} have no kernel here", kind.name()));
    }
    let encoding = reader.encoding(node, 1, kind)?;
    Ok(reader.requantise(value, (encoding, kind)))
}

pub(super) fn dequantize<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    no_blocks(node)?;
    makes_floats(node)?;
    reader.dequantized(node, 0)
}

pub(super) fn conv<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    let (_, shape) = reader.value(node, 0)?;
    let (dims, weights) = reader.integer_weights(node, 3, |dims| dims.first().copied())?;
    let (kind, made) = conv_kind(node, shape, &dims)?;
    let bias = reader.integer_bias(node, 8, dims[0])?;
    Ok((reader.quantized(node, (kind, weights), bias, (made, 6))?, made))
}

pub(super) fn matmul<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    product(reader, node, false, None, 6)
}

pub(super) fn gemm<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    let attributes = Attributes(node);
    if attributes.int("transA", 0) != 0 || attributes.float("alpha", 1.0) != 1.0 {
        return Err("a matrix product of another form than vectors times a constant matrix".into());
    }
    if reader.named(node, 7).is_none() {
        return Err("a QGemm without a scale of its output has no kernel here".into());
    }
    product(reader, node, attributes.int("transB", 0) == 1, Some(6), 7)
}

/// Vectors of levels times a constant matrix, (out, in) if it is `turned`.
fn product<'a>(
    reader: &mut Reader<'a>,
    node: &'a NodeProto,
    turned: bool,
    bias: Option<usize>,
    y: usize,
) -> Result<Made, Reason> {
    let (_, shape) = reader.value(node, 0)?;
    let outputs = |dims: &[usize]| {
        if let [rows, cols] = *dims { Some(if turned { rows } else { cols }) } else { None }
    };
    let (dims, (weights, scales)) = reader.integer_weights(node, 3, outputs)?;
    let outputs = outputs(&dims).unwrap_or(0);
    let inputs = weights.len() / outputs.max(1);
    if shape != Shape::Vector(inputs) {
        return Err("a matrix product of another form than vectors times a constant matrix".into());
    }
    let weights = if turned { weights } else { turn(&weights, inputs, outputs) };
    let bias = match bias {
        Some(index) => reader.integer_bias(node, index, outputs)?,
        None => vec![0; outputs],
    };
    let made = Shape::Vector(outputs);
    Ok((reader.quantized(node, (Kind::Dense, (weights, scales)), bias, (made, y))?, made))
}

pub(super) fn add<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    binary(reader, node, Binary::Add)
}

pub(super) fn mul<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    binary(reader, node, Binary::Mul)
}

/// Two values, each with scale and zero point behind, and those of the result.
fn binary<'a>(reader: &mut Reader<'a>, node: &'a NodeProto, binary: Binary) -> Result<Made, Reason> {
    let kind = reader.level_type(reader.value(node, 0)?.0);
    let (left, right) = (reader.dequantized(node, 0)?, reader.dequantized(node, 3)?);
    let made = reader.binary(binary, left, right)?;
    let encoding = reader.encoding(node, 6, kind)?;
    Ok(reader.requantise(made, (encoding, kind)))
}

pub(super) fn sigmoid<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    reader.function_of_levels(node, Function::Sigmoid)
}

pub(super) fn leaky_relu<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    let function = slope(node)?;
    reader.function_of_levels(node, function)
}

/// Scale and zero point of the result, then values, each with its own behind.
pub(super) fn concat<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    let encoding = reader.typed_encoding(node, 0)?;
    if node.input.len() < 5 || !(node.input.len() - 2).is_multiple_of(3) {
        return Err("it has another number of inputs than three for each part".into());
    }
    let mut parts = Vec::new();
    for first in (2..node.input.len()).step_by(3) {
        let value = reader.dequantized(node, first)?;
        parts.push(reader.requantise(value, encoding));
    }
    let axis = axis_of_parts(node, None, &parts)?;
    joined(reader, parts, axis)
}
