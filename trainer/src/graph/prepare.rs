//! Exact rewrites: batch norm folded away, transposed convolutions and upsampling as convolutions of the small
//! picture.
//!
//! A batch norm outside training is one factor and one summand a channel, which go into the linear operator before it.
//!
//! A transposed convolution of stride s puts, at output pixel s·m + r, the sum over d of w[s·d + r] · x[m − d]: for
//! each r, its phase, an ordinary convolution of x. So all s² phases are output channels of one convolution with
//! kernels of ⌈k/s⌉, whose pixels are then shuffled into place, and the border that the padding takes away is cut
//! off. Kernels of 4 with stride 2 become kernels of 2 with as many weights. Upsampling by nearest neighbours
//! before a convolution is such a transposed convolution, see [`crate::nn::upsample`]: 16 products instead of 36.

use super::{BatchNorm, Graph, Linear, Node, Op, Shuffle, ValueId};
use crate::network::{Activation, Layer, Shape};
use crate::nn::upsample;
use crate::{Error, Result};

/// Which operator enlarges a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// ConvTranspose: the fastest in float32 through tract.
    Transposed,
    /// Conv, DepthToSpace, Slice: the one that exists in integers.
    Convolution,
}

/// A transposed convolution's sizes, as ONNX has them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transposed {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) padding: usize,
    /// Added to the output's size, at its end.
    pub(crate) output_padding: usize,
}

impl Graph {
    /// Folds batch norms and rewrites transposed convolutions and upsampling.
    ///
    /// # Errors
    /// [`Error::Export`] if a rewrite does not fit: a bug.
    pub fn prepare(mut self, form: Form) -> Result<Self> {
        self.fold_batch_norms();
        self.rewrite(form)
    }

    /// Folds every batch norm that follows a linear operator, a reshape or a class's row in between or not. Others
    /// stay.
    pub fn fold_batch_norms(&mut self) {
        let mut index = 0;
        while index < self.nodes.len() {
            if let Op::BatchNorm(norm) = &self.nodes[index].op {
                let norm = norm.clone();
                if self.fold(index, &norm).is_some() {
                    let node = self.nodes.remove(index);
                    self.redirect(node.output, node.inputs[0]);
                    continue;
                }
            }
            index += 1;
        }
    }

    /// Moves every ReLU before the shuffles and reshapes that it follows: the same numbers, and next to the linear
    /// operator, where other tools look for it.
    pub fn rectified_first(mut self) -> Self {
        for index in 0..self.nodes.len() {
            let mut at = index;
            while matches!(self.nodes[at].op, Op::Activation(Activation::Relu)) && at > 0 {
                let input = self.nodes[at].inputs[0];
                let before = at - 1;
                let follows = self.nodes[before].output == input && self.nodes[before].op.moves();
                if !follows || self.only_reader(input) != Some(at) {
                    break;
                }
                // x → move → a → ReLU → b becomes x → ReLU → c → move → b
                let (from, to) = (self.nodes[before].inputs[0], self.nodes[at].output);
                let between = self.value(format!("{}.first", self.values[to].name), self.values[from].shape);
                self.nodes.swap(before, at);
                (self.nodes[before].inputs[0], self.nodes[before].output) = (from, between);
                (self.nodes[at].inputs[0], self.nodes[at].output) = (between, to);
                at = before;
            }
        }
        self
    }

    /// Lets everything that reads `old` read `new`; an output's name moves along.
    fn redirect(&mut self, old: ValueId, new: ValueId) {
        for value in self.nodes.iter_mut().flat_map(|node| &mut node.inputs).chain(&mut self.outputs) {
            if *value == old {
                *value = new;
            }
        }
        if self.outputs.contains(&new) {
            let name = std::mem::take(&mut self.values[old].name);
            self.values[new].name = name;
        }
    }

    fn fold(&mut self, at: usize, norm: &BatchNorm) -> Option<()> {
        let alone = |graph: &Self, value| graph.only_reader(value).and_then(|_| graph.maker(value));
        let pixels = self.values[self.nodes[at].inputs[0]].shape.values() / norm.scale.len();
        let mut embedding = None;
        let mut from = alone(self, self.nodes[at].inputs[0])?;
        loop {
            match &self.nodes[from].op {
                Op::Linear(_) => break,
                Op::ClassRow { .. } if embedding.is_none() => embedding = Some(from),
                Op::Reshape => {}
                _ => return None,
            }
            from = alone(self, self.nodes[from].inputs[0])?;
        }
        let Op::Linear(linear) = &mut self.nodes[from].op else { return None };
        // a dense layer's outputs are (channel, y, x) flattened; a convolution's are the channels
        let dense = matches!(linear.layer, Layer::Dense { .. });
        let per_channel = if dense { pixels } else { 1 };
        if linear.bias.len() != norm.scale.len() * per_channel || embedding.is_some() && !dense {
            return None;
        }
        let factor: Vec<f64> = norm
            .scale
            .iter()
            .zip(&norm.variance)
            .map(|(scale, variance)| f64::from(*scale) / (f64::from(*variance) + norm.epsilon).sqrt())
            .collect();
        let channel_of = |output: usize| output / per_channel;
        let features = linear.bias.len();
        for (output, bias) in linear.bias.iter_mut().enumerate() {
            let channel = channel_of(output);
            let centred = f64::from(*bias) - f64::from(norm.mean[channel]);
            *bias = (f64::from(norm.shift[channel]) + factor[channel] * centred) as f32;
        }
        for index in 0..linear.weight.len() {
            let channel = channel_of(linear.output_of(index));
            linear.weight[index] = (f64::from(linear.weight[index]) * factor[channel]) as f32;
        }
        if let Some(Op::ClassRow { table, .. }) = embedding.map(|index| &mut self.nodes[index].op) {
            for (index, value) in table.iter_mut().enumerate() {
                *value = (f64::from(*value) * factor[channel_of(index % features)]) as f32;
            }
        }
        Some(())
    }

    /// Every transposed convolution and upsampling in one form.
    fn rewrite(self, form: Form) -> Result<Self> {
        let mut graph = Self { nodes: Vec::new(), ..self.clone() };
        for mut node in self.nodes {
            if let Op::Linear(linear) = &mut node.op {
                linear.upsampling_as_transposed();
            }
            match &node.op {
                Op::Linear(Linear {
                    layer: Layer::ConvTranspose { inputs, outputs, kernel, stride, padding },
                    weight,
                    bias,
                }) if form == Form::Convolution => {
                    let (inputs, outputs, kernel) = (*inputs, *outputs, *kernel);
                    let (stride, padding) = (*stride, *padding);
                    let sizes = Transposed { inputs, outputs, kernel, stride, padding, output_padding: 0 };
                    graph.push_transposed(&node, sizes, weight, bias)?;
                }
                _ => graph.nodes.push(node),
            }
        }
        Ok(graph)
    }

    /// Adds a transposed convolution in its form of a convolution. `weight` is (inputs, outputs, k, k).
    pub(crate) fn push_transposed(
        &mut self,
        node: &Node,
        t: Transposed,
        weight: &[f32],
        bias: &[f32],
    ) -> Result<()> {
        let misfit = || Error::Export(format!("node {:?}: {t:?} makes no picture", node.name));
        let (input, name) = (node.inputs[0], &node.name);
        let Shape::Image(_, height, width) = self.values[input].shape else { return Err(misfit()) };
        let side = |side: usize| {
            let full = (side.checked_sub(1)? * t.stride + t.kernel).checked_sub(2 * t.padding)?;
            Some(full + t.output_padding)
        };
        let (out_height, out_width) = (side(height).ok_or_else(misfit)?, side(width).ok_or_else(misfit)?);
        let output = node.output;
        let add = |graph: &mut Self, suffix: &str, op: Op, input, shape| -> Result<ValueId> {
            let name = format!("{name}{suffix}");
            graph.push(&name, op, input, (format!("{name}.out"), shape))
        };
        if (height, width) == (1, 1) && t.padding == 0 && t.output_padding == 0 {
            // every input pixel reaches every output pixel once: a dense layer
            let flat = match self.values[input].shape {
                Shape::Vector(_) => input,
                Shape::Image(..) => add(self, ".flat", Op::Reshape, input, Some(Shape::Vector(t.inputs)))?,
            };
            let area = t.kernel * t.kernel;
            let (rows, columns) = (t.outputs * area, t.inputs);
            let mut dense = vec![0f32; rows * columns];
            for (column, weights) in weight.chunks(rows).enumerate() {
                weights.iter().enumerate().for_each(|(row, weight)| dense[row * columns + column] = *weight);
            }
            let bias = bias.iter().flat_map(|bias| std::iter::repeat_n(*bias, area)).collect();
            let layer = Layer::Dense { inputs: columns, outputs: rows };
            let features = add(self, "", Op::Linear(Linear { layer, weight: dense, bias }), flat, None)?;
            self.nodes.push(Node {
                name: format!("{name}.picture"),
                op: Op::Reshape,
                inputs: vec![features],
                output,
            });
            return Ok(());
        }
        let block = t.stride;
        let taps = t.kernel.div_ceil(block);
        // whole blocks of the border are not computed at all
        let skipped = (t.padding / block).min(taps - 1);
        let (padding, first) = (taps - 1 - skipped, t.padding - skipped * block);
        let mut conv = vec![0f32; t.outputs * block * block * t.inputs * taps * taps];
        for (index, value) in weight.iter().enumerate() {
            let (input, rest) =
                (index / (t.outputs * t.kernel * t.kernel), index % (t.outputs * t.kernel * t.kernel));
            let (output, a, b) = (rest / (t.kernel * t.kernel), rest / t.kernel % t.kernel, rest % t.kernel);
            let row = output * block * block + a % block * block + b % block;
            let (a, b) = (taps - 1 - a / block, taps - 1 - b / block);
            conv[((row * t.inputs + input) * taps + a) * taps + b] = *value;
        }
        let bias = bias.iter().flat_map(|bias| std::iter::repeat_n(*bias, block * block)).collect();
        let layer = Layer::Conv {
            inputs: t.inputs,
            outputs: t.outputs * block * block,
            kernel: taps,
            stride: 1,
            padding,
        };
        let linear = Op::Linear(Linear { layer, weight: conv, bias });
        if block == 1 {
            // one phase: an ordinary convolution with its kernel turned round
            if first == 0 && linear.output(self.values[input].shape) == Ok(Some(self.values[output].shape)) {
                self.nodes.push(Node { name: name.clone(), op: linear, inputs: vec![input], output });
                return Ok(());
            }
        }
        let phases = add(self, "", linear, input, None)?;
        let shuffle = Shuffle { block, first, size: (out_height, out_width) };
        shuffle.output(self.values[phases].shape).map_err(|_| misfit())?;
        self.nodes.push(Node {
            name: format!("{name}.shuffle"),
            op: Op::Shuffle(shuffle),
            inputs: vec![phases],
            output,
        });
        Ok(())
    }
}

impl Linear {
    /// Upsampling by nearest neighbours and a convolution → one transposed convolution.
    fn upsampling_as_transposed(&mut self) {
        if let Layer::UpsampleConv { inputs, outputs, kernel } = self.layer {
            self.weight = upsample::expand(&self.weight, (outputs, inputs, kernel));
            let (kernel, padding) = (kernel + 1, kernel / 2);
            self.layer = Layer::ConvTranspose { inputs, outputs, kernel, stride: 2, padding };
        }
    }
}
