//! What is made of many values at once: products of two matrices, softmax, norms of one picture.

use edgegen_kernels::elements::Function;
use edgegen_kernels::norms::{Among, Over};

use crate::lower::Reason;
use crate::lower::graph::{Number, Op, Shape};
use crate::lower::reader::{Made, Reader};
use crate::onnx::NodeProto;
use crate::onnx::attributes::Attributes;
use crate::onnx::tensor::axis_of;

/// Of two matrices, of which one may be a constant.
pub(super) fn product<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    let operand = |reader: &mut Reader<'a>, index: usize| {
        if reader.value(node, index).is_ok() {
            return reader.float_value(node, index);
        }
        let dims = reader.given(node, index)?.dims.clone();
        let [rows, columns] = dims[..] else {
            return Err(format!("a product of a matrix and a constant of shape {dims:?} has no kernel here"));
        };
        let (values, shape) = (reader.floats(node, index)?, Shape::Matrix(rows, columns));
        Ok((reader.push(Op::Constant(values), vec![], shape, Number::Float), shape))
    };
    let ((left, left_shape), (right, right_shape)) = (operand(reader, 0)?, operand(reader, 1)?);
    let (Shape::Matrix(rows, inner), Shape::Matrix(other, columns)) = (left_shape, right_shape) else {
        return Err("a product of other values than two matrices has no kernel here".into());
    };
    if inner != other {
        return Err(format!("a product of matrices of {rows} x {inner} and {other} x {columns}"));
    }
    let made = Shape::Matrix(rows, columns);
    Ok((
        reader.push(
            Op::Product { left_turned: false, right_turned: false },
            vec![left, right],
            made,
            Number::Float,
        ),
        made,
    ))
}

/// Before opset 13 over all axes from its own on, which are one if it is the last.
pub(super) fn softmax<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    let (from, shape) = reader.plane_value(node, 0)?;
    let rank = shape.dims().len() + 1;
    let default = if reader.opset < 13 { 1 } else { -1 };
    let axis = axis_of(Attributes(node).int("axis", default), rank).filter(|axis| *axis > 0);
    let axis = axis.ok_or("a Softmax over the batch, or an axis that there is not, has no kernel here")?;
    if reader.opset < 13 && axis != rank - 1 {
        return Err("a Softmax over several axes has no kernel here".into());
    }
    let among = match (shape, axis) {
        (_, 1) => Among::Channels,
        (Shape::Image(..), 2) => Among::Rows,
        _ => Among::Columns,
    };
    Ok((reader.push(Op::Softmax(among), vec![from], shape, Number::Float), shape))
}

impl<'a> Reader<'a> {
    fn norm(
        &mut self,
        (from, shape): Made,
        over: Over,
        epsilon: f32,
        scale: Vec<f32>,
        shift: Vec<f32>,
    ) -> Made {
        (
            self.push(
                Op::Norm { over, epsilon, scale, shift, after: Function::Identity },
                vec![from],
                shape,
                Number::Float,
            ),
            shape,
        )
    }
}

fn epsilon(node: &NodeProto) -> Result<f32, Reason> {
    let epsilon = Attributes(node).float("epsilon", 1e-5);
    (epsilon.is_finite() && epsilon >= 0.0).then_some(epsilon).ok_or_else(|| format!("epsilon is {epsilon}"))
}

pub(super) fn instance_norm<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    let value = reader.plane_value(node, 0)?;
    let (scale, shift) = (reader.floats(node, 1)?, reader.floats(node, 2)?);
    if matches!(value.1, Shape::Vector(_)) || scale.len() != value.1.channels() || shift.len() != scale.len()
    {
        return Err(format!("an instance norm of another size than {} channels", value.1.channels()));
    }
    Ok(reader.norm(value, Over::Channels(1), epsilon(node)?, scale, shift))
}

/// GroupNormalization: scale and bias of each group before opset 21, then of each channel.
pub(super) fn group_norm<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    let value = reader.plane_value(node, 0)?;
    let channels = value.1.channels();
    let groups = usize::try_from(Attributes(node).int("num_groups", 0)).unwrap_or(0);
    if groups == 0 || !channels.is_multiple_of(groups) || matches!(value.1, Shape::Vector(_)) {
        return Err(format!("{groups} groups, which do not divide {channels} channels"));
    }
    let (scale, shift) = (reader.floats(node, 1)?, reader.floats(node, 2)?);
    let expected = if reader.opset < 21 { groups } else { channels };
    if scale.len() != expected || shift.len() != expected {
        return Err(format!(
            "a norm with {} factors and {} summands, not {expected}",
            scale.len(),
            shift.len()
        ));
    }
    let spread = |values: Vec<f32>| -> Vec<f32> {
        values.into_iter().flat_map(|value| std::iter::repeat_n(value, channels / expected)).collect()
    };
    let over = Over::Channels(channels / groups);
    Ok(reader.norm(value, over, epsilon(node)?, spread(scale), spread(shift)))
}

/// Of the last axis.
pub(super) fn layer_norm<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    let value = reader.plane_value(node, 0)?;
    let dims = value.1.dims();
    let axis = axis_of(Attributes(node).int("axis", -1), dims.len() + 1);
    if axis != Some(dims.len()) {
        return Err("a LayerNormalization over other axes than the last has no kernel here".into());
    }
    let count = dims[dims.len() - 1];
    let scale = reader.floats(node, 1)?;
    let shift = match reader.named(node, 2) {
        Some(_) => reader.floats(node, 2)?,
        None => vec![0.0; count],
    };
    if scale.len() != count || shift.len() != count {
        return Err(format!("a norm with {} factors and {} summands, not {count}", scale.len(), shift.len()));
    }
    let over = if dims.len() == 1 { Over::Pixel } else { Over::Row };
    Ok(reader.norm(value, over, epsilon(node)?, scale, shift))
}
