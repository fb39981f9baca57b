//! Dense layers and convolutions of float32, with constant weights.

use edgegen_kernels::{Axis, Kind, Times};

use super::matrices;
use crate::lower::Reason;
use crate::lower::graph::{Id, Linear, Number, Op, Shape};
use crate::lower::reader::{Made, Reader};
use crate::lower::window::Window;
use crate::onnx::NodeProto;
use crate::onnx::attributes::Attributes;
use crate::onnx::tensor::Numbers;

/// Weights in s8 around 0, and their scales: one an output, or one for all.
pub(super) type Levels = (Vec<i8>, Vec<f32>);

/// A layer's weights: sizes, values in float32, and levels, if they were quantised so that kernels can use them.
type Weights = (Vec<usize>, Vec<f32>, Option<Levels>);

impl<'a> Reader<'a> {
    /// Weights in float32, and in integers if they are s8 around 0 with a scale for each index of `axis`.
    fn weights(&self, node: &'a NodeProto, index: usize, axis: usize) -> Result<Weights, Reason> {
        let constant = self.given(node, index)?;
        let floats = self.floats(node, index)?;
        let levels = match &constant.numbers {
            Numbers::Quantized { levels, scales, zeros, axis: found }
                if scales.len() == 1 || *found == axis =>
            {
                let same = zeros.iter().all(|zero| zero == &zeros[0]);
                let level = |level: &i64| i8::try_from(level - zeros[0]).ok();
                levels
                    .iter()
                    .map(level)
                    .collect::<Option<Vec<i8>>>()
                    .filter(|_| same)
                    .map(|l| (l, scales.clone()))
            }
            _ => None,
        };
        Ok((constant.dims.clone(), floats, levels))
    }

    /// The bias at an input, or zeros.
    fn bias(&self, node: &'a NodeProto, index: usize, outputs: usize) -> Result<Vec<f32>, Reason> {
        if self.named(node, index).is_none() {
            return Ok(vec![0.0; outputs]);
        }
        let dims = &self.given(node, index)?.dims;
        let bias = self.floats(node, index)?;
        match bias.len() {
            1 => Ok(vec![bias[0]; outputs]),
            // (outputs) or (1, outputs)
            found if found == outputs && dims.last() == Some(&outputs) => Ok(bias),
            _ => Err(format!("a bias of shape {dims:?} for {outputs} outputs")),
        }
    }

    fn linear(&mut self, linear: Linear, from: Id, shape: Shape) -> Id {
        self.push(Op::Linear(Box::new(linear)), vec![from], shape, Number::Float)
    }
}

/// Gemm and MatMul: vectors times a constant matrix, or matrices.
pub(super) fn dense<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    let attributes = Attributes(node);
    let matrix = |index: usize| matches!(reader.value(node, index), Ok((_, Shape::Matrix(..))));
    if node.op_type == "MatMul" && (matrix(0) || matrix(1)) {
        return matrices::product(reader, node);
    }
    let (from, shape) = reader.float_value(node, 0)?;
    let turned = node.op_type == "Gemm" && attributes.int("transB", 0) == 1;
    let (dims, floats, levels) = reader.weights(node, 1, if turned { 0 } else { 1 })?;
    let plain = attributes.float("alpha", 1.0) == 1.0 && attributes.int("transA", 0) == 0;
    let ([rows, columns], Shape::Vector(features), true) = (&dims[..], shape, plain) else {
        return Err("a matrix product of another form than vectors times a constant matrix".into());
    };
    let (inputs, outputs) = if turned { (*columns, *rows) } else { (*rows, *columns) };
    if inputs != features || outputs == 0 {
        return Err(format!("weights of {rows} × {columns} for a vector of {features} values"));
    }
    let weights = if turned { floats } else { turn(&floats, inputs, outputs) };
    let levels = match turned {
        true => levels,
        false => levels.map(|(levels, scales)| (turn(&levels, inputs, outputs), scales)),
    };
    let beta = attributes.float("beta", 1.0);
    let bias = reader.bias(node, 2, outputs)?.into_iter().map(|bias| bias * beta).collect();
    let linear = Linear::plain(Kind::Dense, weights, levels, bias);
    let shape = Shape::Vector(outputs);
    Ok((reader.linear(linear, from, shape), shape))
}

/// (rows, columns) → (columns, rows).
pub(super) fn turn<T: Copy>(values: &[T], rows: usize, columns: usize) -> Vec<T> {
    (0..rows * columns).map(|index| values[index % rows * columns + index / rows]).collect()
}

/// How many parts the channels of a picture, and of what is made, are cut into.
fn groups(node: &NodeProto, channels: usize, outputs: usize) -> Result<usize, Reason> {
    let groups = Attributes(node).int("group", 1);
    usize::try_from(groups)
        .ok()
        .filter(|groups| *groups > 0 && channels.is_multiple_of(*groups) && outputs.is_multiple_of(*groups))
        .ok_or_else(|| {
            format!("{groups} groups, which do not divide {channels} channels in and {outputs} out")
        })
}

/// The two axes of a window.
fn axes(window: &Window) -> Result<(Axis, Axis), Reason> {
    let axis = |at: usize| {
        let (kernel, stride) = (window.kernel[at], window.strides[at]);
        Axis::new(kernel, stride, window.before[at], window.dilations[at]).map_err(|e| e.to_string())
    };
    Ok((axis(0)?, axis(1)?))
}

/// A convolution of weights (out, in, kh, kw), and what it makes.
pub(super) fn conv_kind(node: &NodeProto, shape: Shape, dims: &[usize]) -> Result<(Kind, Shape), Reason> {
    let (Shape::Image(channels, height, width), [outputs, inputs, kernel @ ..]) = (shape, dims) else {
        return Err("weights or a picture of another rank than four".into());
    };
    let groups = groups(node, channels, *outputs)?;
    if *inputs != channels / groups || *outputs == 0 {
        return Err(format!("weights for {inputs} channels of each group, a picture of {channels}"));
    }
    let window = Window::of_conv(node, kernel, &[height, width])?;
    let (y, x) = axes(&window)?;
    let (rows, cols) = (window.made[0], window.made[1]);
    // a single output may read the padding alone
    let pixels = (height * width, kernel.iter().product(), rows * cols, window.before.iter().sum());
    let kind = match (pixels, groups) {
        ((1, 1, 1, 0), 1) => Kind::Dense,
        _ => Kind::Conv { y, x, enlarged: Times::ONE, block: Times::ONE, cropped: 0, groups },
    };
    Ok((kind, Shape::Image(*outputs, rows, cols)))
}

pub(super) fn conv<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    let (from, shape) = reader.float_value(node, 0)?;
    let (dims, weights, levels) = reader.weights(node, 1, 0)?;
    let (kind, shape) = conv_kind(node, shape, &dims)?;
    let bias = reader.bias(node, 2, dims[0])?;
    let linear = Linear::plain(kind, weights, levels, bias);
    Ok((reader.linear(linear, from, shape), shape))
}

/// ConvTranspose.
pub(super) fn transposed<'a>(reader: &mut Reader<'a>, node: &'a NodeProto) -> Result<Made, Reason> {
    let (from, shape) = reader.float_value(node, 0)?;
    let (dims, weights, levels) = reader.weights(node, 1, 1)?;
    let (Shape::Image(channels, height, width), &[inputs, each, kh, kw]) = (shape, &dims[..]) else {
        return Err("weights or a picture of another rank than four".into());
    };
    let outputs = Attributes(node).int("group", 1).checked_mul(each as i64);
    let outputs = outputs.and_then(|outputs| usize::try_from(outputs).ok()).unwrap_or(0);
    let groups = groups(node, channels, outputs)?;
    if inputs != channels || outputs == 0 {
        return Err(format!("weights for {inputs} channels, a picture of {channels}"));
    }
    // scales of weights are told for each output of a group: those of several groups are not all the same
    let levels = levels.filter(|(_, scales)| groups == 1 || scales.len() == 1);
    let window = Window::of_transposed(node, &[kh, kw], &[height, width])?;
    let (y, x) = axes(&window)?;
    let (rows, cols) = (window.made[0], window.made[1]);
    let made = Shape::Image(outputs, rows, cols);
    let bias = reader.bias(node, 2, outputs)?;
    let linear = if height * width == 1 && groups == 1 && y.dilation() * x.dilation() == 1 {
        // every output pixel reads the only input pixel: a dense layer
        reader.budget.take_product(&[outputs, rows, cols, channels, size_of::<f32>()])?;
        let index = |input: usize, output: usize, row: usize, col: usize| {
            let (ky, kx) = (row + y.padding(), col + x.padding());
            (ky < kh && kx < kw).then(|| ((input * outputs + output) * kh + ky) * kw + kx)
        };
        let mut places = Vec::with_capacity(made.values() * channels);
        for output in 0..outputs {
            for row in 0..rows {
                for col in 0..cols {
                    places.extend((0..channels).map(|input| index(input, output, row, col)));
                }
            }
        }
        let each =
            |values: &[f32]| values.iter().flat_map(|v| std::iter::repeat_n(*v, rows * cols)).collect();
        let weights = places.iter().map(|at| at.map_or(0.0, |at| weights[at])).collect();
        let levels = levels.map(|(levels, scales)| {
            let levels = places.iter().map(|at| at.map_or(0, |at| levels[at])).collect();
            (levels, if scales.len() == 1 { scales } else { each(&scales) })
        });
        Linear::plain(Kind::Dense, weights, levels, each(&bias))
    } else {
        Linear::plain(Kind::Transposed { y, x, groups }, weights, levels, bias)
    };
    Ok((reader.linear(linear, from, made), made))
}
