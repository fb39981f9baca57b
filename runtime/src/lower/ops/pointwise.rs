//! What is done to single values, to channels, and to the values of a vector.

use edgegen_kernels::elements::{Binary, Function};

use crate::lower::fold::{spread, spread_places};
use crate::lower::graph::{Number, Op, Shape};
use crate::lower::reader::{Made, Reader};
use crate::lower::{Reason, foreign};
use crate::onnx::NodeProto;
use crate::onnx::attributes::Attributes;
use crate::onnx::tensor::{Constant, is_floats};

impl<'a> Reader<'a> {
    fn function(&mut self, node: &'a NodeProto, index: usize, function: Function) -> Result<Made, Reason> {
        let (from, shape) = self.float_value(node, index)?;
        Ok((self.push(Op::Function(function), vec![from], shape, Number::Float), shape))
    }

    /// value · scale + shift, finite.
    pub(super) fn affine(
        &mut self,
        (from, shape): Made,
        scale: Vec<f32>,
        shift: Vec<f32>,
    ) -> Result<Made, Reason> {
        if let Some(value) = scale.iter().chain(&shift).find(|value| !value.is_finite()) {
            return Err(format!("a factor or summand is {value}"));
        }
        Ok((self.push(Op::Affine { scale, shift }, vec![from], shape, Number::Float), shape))
    }
}

/// A leaky ReLU.
pub(super) fn slope(node: &NodeProto) -> Result<Function, Reason> {
    let alpha = Attributes(node).float("alpha", 0.01);
    alpha.is_finite().then_some(Function::Slope(alpha)).ok_or_else(|| format!("a slope of {alpha}"))
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
    reader.function(node, 0, function)
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

/// What is made of two values.
fn binary_of(kind: &str) -> Option<Binary> {
    Some(match kind {
        "Add" | "Sum" => Binary::Add,
        "Sub" => Binary::Sub,
        "Mul" => Binary::Mul,
        "Div" => Binary::Div,
        "Min" => Binary::Min,
        "Max" => Binary::Max,
        _ => return None,
    })
}

impl<'a> Reader<'a> {
    /// Of two values, of which one may be the same for all rows, columns or channels of the other.
    pub(super) fn binary(&mut self, binary: Binary, left: Made, right: Made) -> Result<Made, Reason> {
        let (one, other) = (left.1.dims(), right.1.dims());
        let dims = if one.len() == other.len() { spread(&one, &other)? } else { Vec::new() };
        let whole = left.1 == right.1;
        let made = Shape::of(&dims).filter(|made| whole || made.is_plane()).ok_or_else(|| {
            format!(
                "a {} of values of {} and {} axes has no kernel here",
                binary.name(),
                one.len(),
                other.len()
            )
        })?;
        let op = Op::Binary(binary, Function::Identity);
        Ok((self.push(op, vec![left.0, right.0], made, Number::Float), made))
    }

    /// A constant at an input, spread over a value's shape: one number for each channel where that is enough, or for each value.
    fn spread_over(&mut self, node: &'a NodeProto, index: usize, shape: Shape) -> Result<Vec<f32>, Reason> {
        let values = self.floats(node, index)?;
        let dims = self.given(node, index)?.dims.clone();
        let full: Vec<usize> = std::iter::once(1).chain(shape.dims()).collect();
        if spread(&dims, &full)? != full {
            return Err(format!("a constant of shape {dims:?}, and a value of shape {full:?}"));
        }
        self.budget.take_product(&[shape.values(), size_of::<f32>() + size_of::<usize>()])?;
        let values: Vec<f32> = spread_places(&dims, &full)?.into_iter().map(|place| values[place]).collect();
        let each = shape.values() / shape.channels();
        let by_channel = values.chunks_exact(each).all(|of| of.iter().all(|value| *value == of[0]));
        Ok(if by_channel { values.into_iter().step_by(each).collect() } else { values })
    }
}

/// Two values, or a value and a constant.
pub(super) fn arithmetic<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    let kind = node.op_type.as_str();
    if node.input.len() != 2 {
        return Err(format!("{kind} of {} values has no kernel here", node.input.len()));
    }
    let (left, right) = (reader.value(node, 0), reader.value(node, 1));
    let (value, at) = match (left, right) {
        (Ok(left), Ok(right)) => {
            reader.expect(left.0, Number::Float)?;
            reader.expect(right.0, Number::Float)?;
            let Some(binary) = binary_of(kind) else {
                return Err(format!("{kind} of two values has no kernel here"));
            };
            return reader.binary(binary, left, right);
        }
        (Ok(value), Err(_)) => (value, 1),
        (Err(_), Ok(value)) => (value, 0),
        (Err(reason), Err(_)) => return Err(reason),
    };
    reader.expect(value.0, Number::Float)?;
    let operand = reader.spread_over(node, at, value.1)?;
    let uniform = operand.iter().all(|value| *value == operand[0]).then_some(operand[0]);
    let ones = vec![1.0; operand.len()];
    let zeros = vec![0.0; operand.len()];
    let negated = |values: &[f32]| values.iter().map(|value| -value).collect::<Vec<_>>();
    let (scale, shift) = match (kind, at, uniform) {
        ("Add" | "Sum", ..) => (ones, operand),
        ("Sub", 1, _) => (ones, negated(&operand)),
        ("Sub", ..) => (negated(&ones), operand),
        ("Mul", ..) => (operand, zeros),
        ("Div", 1, _) => (operand.iter().map(|value| 1.0 / value).collect(), zeros),
        ("Div", ..) => {
            let inverse =
                reader.push(Op::Function(Function::Reciprocal), vec![value.0], value.1, Number::Float);
            return reader.affine((inverse, value.1), operand, zeros);
        }
        ("Min", _, Some(most)) => {
            return reader.function(node, 1 - at, Function::Clip(f32::NEG_INFINITY, most));
        }
        ("Max", _, Some(least)) => {
            return reader.function(node, 1 - at, Function::Clip(least, f32::INFINITY));
        }
        ("Pow", 1, Some(power)) => return reader.function(node, 0, Function::Power(power)),
        _ => return Err(format!("{kind} with such a constant has no kernel here")),
    };
    reader.affine(value, scale, shift)
}

/// A leaky ReLU whose slopes are constants, one a channel or one for all.
pub(super) fn prelu<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    let (from, shape) = reader.plane_value(node, 0)?;
    let slopes = reader.spread_over(node, 1, shape)?;
    if slopes.iter().all(|slope| *slope == slopes[0]) {
        return reader.function(node, 0, Function::Slope(slopes[0]));
    }
    if slopes.len() != shape.channels() {
        return Err("a PRelu with slopes of other than channels has no kernel here".into());
    }
    Ok((reader.push(Op::Slopes(slopes), vec![from], shape, Number::Float), shape))
}

/// Functions of one value, by their operator and its attributes.
pub(super) fn function<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    let attributes = Attributes(node);
    let alpha = |default: f32| attributes.float("alpha", default);
    let function = match node.op_type.as_str() {
        "Abs" => Function::Abs,
        "Ceil" => Function::Ceil,
        // x is divided by it
        "Celu" if !alpha(1.0).is_normal() => return Err(format!("a Celu whose alpha is {}", alpha(1.0))),
        "Celu" => Function::Elu(alpha(1.0), alpha(1.0), 1.0),
        "Cos" => Function::Cos,
        "Elu" => Function::Elu(alpha(1.0), 1.0, 1.0),
        "Erf" => Function::Erf,
        "Exp" => Function::Exp,
        "Floor" => Function::Floor,
        "Gelu" => match attributes.text("approximate", "none") {
            "none" => Function::Gelu,
            "tanh" => Function::GeluTanh,
            other => return Err(format!("approximate is {other:?}, which is not known here")),
        },
        "HardSigmoid" => Function::HardSigmoid(alpha(0.2), attributes.float("beta", 0.5)),
        "HardSwish" => Function::HardSwish,
        "LeakyRelu" => Function::Slope(alpha(0.01)),
        "Log" => Function::Log,
        "Mish" => Function::Mish,
        "Neg" => {
            let value = reader.float_value(node, 0)?;
            let channels = value.1.channels();
            return reader.affine(value, vec![-1.0; channels], vec![0.0; channels]);
        }
        "QuickGelu" => Function::Silu(alpha(1.702)),
        "Reciprocal" => Function::Reciprocal,
        "Relu" => Function::Slope(0.0),
        "Round" => Function::Round,
        "Selu" => {
            let (alpha, gamma) = (alpha(1.673_263_2), attributes.float("gamma", 1.050_701));
            Function::Elu(alpha, 1.0, gamma)
        }
        "Sigmoid" => Function::Sigmoid,
        "Sign" => Function::Sign,
        "Sin" => Function::Sin,
        "Softplus" => Function::Softplus,
        "Softsign" => Function::Softsign,
        "Sqrt" => Function::Sqrt,
        "Swish" => Function::Silu(alpha(1.0)),
        "Tanh" => Function::Tanh,
        "ThresholdedRelu" => Function::Threshold(alpha(1.0)),
        other => return Err(format!("operator {other} has no kernel here")),
    };
    let numbers = [alpha(0.0), attributes.float("beta", 0.0), attributes.float("gamma", 0.0)];
    if let Some(number) = numbers.iter().find(|number| !number.is_finite()) {
        return Err(format!("one of its attributes is {number}"));
    }
    reader.function(node, 0, function)
}
