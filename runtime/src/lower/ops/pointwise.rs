//! What is done to single values, to channels, and to the values of a vector.

use edgegen_kernels::elements::Function;

use crate::lower::graph::{Number, Op, Shape};
use crate::lower::reader::{Made, Reader};
use crate::lower::{Reason, foreign};
use crate::onnx::NodeProto;
use crate::onnx::attributes::Attributes;
use crate::onnx::tensor::{Constant, is_floats};

impl<'a> Reader<'a> {
    fn function(&mut self, node: &'a NodeProto, function: Function) -> Result<Made, Reason> {
        let (from, shape) = self.float_value(node, 0)?;
        Ok((self.push(Op::Function(function), vec![from], shape, Number::Float), shape))
    }

    /// value · scale + shift, finite.
    fn affine(&mut self, (from, shape): Made, scale: Vec<f32>, shift: Vec<f32>) -> Result<Made, Reason> {
        if let Some(value) = scale.iter().chain(&shift).find(|value| !value.is_finite()) {
            return Err(format!("a factor or summand is {value}"));
        }
        Ok((self.push(Op::Affine { scale, shift }, vec![from], shape, Number::Float), shape))
    }
}

pub(super) fn relu<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    reader.function(node, Function::Slope(0.0))
}

pub(super) fn tanh<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    reader.function(node, Function::Tanh)
}

pub(super) fn sigmoid<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    reader.function(node, Function::Sigmoid)
}

pub(super) fn leaky_relu<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    let function = slope(node)?;
    reader.function(node, function)
}

/// A leaky ReLU, whose kernel takes the larger of x and slope · x.
pub(super) fn slope(node: &NodeProto) -> Result<Function, Reason> {
    let alpha = Attributes(node).float("alpha", 0.01);
    if (0.0..=1.0).contains(&alpha) {
        Ok(Function::Slope(alpha))
    } else {
        Err(format!("a leaky ReLU with a slope of {alpha} has no kernel here"))
    }
}

pub(super) fn clip<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    let bound = |index: usize, default: f32| match reader.named(node, index) {
        None => Ok(default),
        Some(_) => reader
            .given(node, index)
            .ok()
            .and_then(Constant::float)
            .filter(|bound| !bound.is_nan())
            .ok_or("a bound that is no float32 constant"),
    };
    let function = Function::Clip(bound(1, f32::MIN)?, bound(2, f32::MAX)?);
    reader.function(node, function)
}

/// To a type of floats: values are float32 whatever the file computes in.
pub(super) fn cast<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    if !is_floats(Attributes(node).int("to", 0)) {
        return Err("a cast of values to integers".into());
    }
    reader.float_value(node, 0)
}

/// Nothing is dropped where nothing is trained.
pub(super) fn dropout<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    foreign::drops_nothing(node, &reader.constants)?;
    reader.value(node, 0)
}

/// Before opset 13 over all axes from its own on, of which a vector has one.
pub(super) fn softmax<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    let (from, shape) = reader.float_value(node, 0)?;
    if !matches!((shape, Attributes(node).int("axis", -1)), (Shape::Vector(_), -1 | 1)) {
        return Err("operator Softmax has no kernel here for what is no vector".into());
    }
    Ok((reader.push(Op::Softmax, vec![from], shape, Number::Float), shape))
}

pub(super) fn batch_norm<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    let value = reader.float_value(node, 0)?;
    foreign::trains_nothing(node)?;
    let [gamma, beta, mean, variance] = [1, 2, 3, 4].map(|index| reader.floats(node, index));
    let (gamma, beta, mean, variance) = (gamma?, beta?, mean?, variance?);
    let channels = value.1.channels();
    if [&gamma, &beta, &mean, &variance].iter().any(|values| values.len() != channels) {
        return Err(format!("a batch norm of another size than {channels} channels"));
    }
    let epsilon = Attributes(node).float("epsilon", 1e-5);
    let scale: Vec<f32> = gamma
        .iter()
        .zip(&variance)
        .map(|(gamma, variance)| {
            (f64::from(*gamma) / (f64::from(*variance) + f64::from(epsilon)).sqrt()) as f32
        })
        .collect();
    let shift = (0..channels).map(|c| beta[c] - mean[c] * scale[c]).collect();
    reader.affine(value, scale, shift)
}

/// A value and a constant of each channel, or the sum of two values of the same shape.
pub(super) fn arithmetic<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    let kind = node.op_type.as_str();
    let (left, right) = (reader.value(node, 0), reader.value(node, 1));
    let (value, at) = match (left, right) {
        (Ok(left), Ok(right)) => {
            reader.expect(left.0, Number::Float)?;
            reader.expect(right.0, Number::Float)?;
            if kind != "Add" || left.1 != right.1 {
                return Err(format!(
                    "{kind} of two values has no kernel here but for sums of the same shape"
                ));
            }
            return Ok((reader.push(Op::Add, vec![left.0, right.0], left.1, Number::Float), left.1));
        }
        (Ok(value), Err(_)) => (value, 1),
        (Err(_), Ok(value)) => (value, 0),
        (Err(reason), Err(_)) => return Err(reason),
    };
    reader.expect(value.0, Number::Float)?;
    let dims = reader.given(node, at)?.dims.clone();
    let values = reader.floats(node, at)?;
    let shape = value.1;
    let channels = shape.channels();
    // (C), (1, C), (C, 1, 1), (1, C, 1, 1), or one value; of no more axes than the value has, which would get them
    let rank = shape.dims().len() + 1;
    let trailing = shape.dims().len() - 1;
    let by_channel = values.len() == channels
        && dims.len() > trailing
        && dims[dims.len() - trailing..].iter().all(|size| *size == 1)
        && dims[dims.len() - trailing - 1] == channels;
    let operand: Vec<f32> = match values[..] {
        [one] if dims.len() <= rank => vec![one; channels],
        _ if by_channel && dims.len() <= rank => values,
        _ => {
            return Err(format!(
                "{kind} with a constant of another shape than its channels has no kernel here"
            ));
        }
    };
    let ones = vec![1.0; channels];
    let zeros = vec![0.0; channels];
    let negated = |values: &[f32]| values.iter().map(|value| -value).collect::<Vec<_>>();
    let (scale, shift) = match (kind, at) {
        ("Add", _) => (ones, operand),
        ("Sub", 1) => (ones, negated(&operand)),
        ("Sub", _) => (negated(&ones), operand),
        ("Mul", _) => (operand, zeros),
        ("Div", 1) => (operand.iter().map(|value| 1.0 / value).collect(), zeros),
        _ => return Err("a constant divided by values has no kernel here".into()),
    };
    reader.affine(value, scale, shift)
}
