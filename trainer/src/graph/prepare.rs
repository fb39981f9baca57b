//! Exact rewrites: batch norm folded away, transposed convolutions and upsampling as convolutions of the small
//! picture.
//!
//! A batch norm outside training is one factor and one summand a channel, which go into the linear operator before it.
//!
//! A transposed convolution of stride s puts, at output pixel s·m + r, the sum over d of w[s·d + r] · x[m − d]: for
//! each r, its phase, an ordinary convolution of x. So all s² phases are output channels of one convolution with
//! kernels of ⌈k/s⌉, whose pixels are then shuffled into place, and the border that the padding takes away is cut
//! off. Kernels of 4 with stride 2 become kernels of 2 with as many weights. Upsampling by nearest neighbours
//! before a convolution is such a transposed convolution, see [`super::upsample`]: 16 products instead of 36.

use super::{Activation, Graph, Node, Op, Over, Shape, Shuffle, ValueId, parameters_of, upsample};
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
            if let Op::Norm { over: Over::Batch, epsilon, .. } = self.nodes[index].op
                && self.fold(index, epsilon).is_some()
            {
                let node = self.nodes.remove(index);
                self.redirect(node.output, node.inputs[0]);
                continue;
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

    fn fold(&mut self, at: usize, epsilon: f64) -> Option<()> {
        let alone = |graph: &Self, value| graph.only_reader(value).and_then(|_| graph.maker(value));
        let norm: Vec<Vec<f32>> =
            self.nodes[at].parameters.iter().map(|parameter| parameter.value.clone()).collect();
        let [scale, shift, mean, variance] = norm.as_slice() else { return None };
        let pixels = self.values[self.nodes[at].inputs[0]].shape.values() / scale.len();
        let mut embedding = None;
        let mut from = alone(self, self.nodes[at].inputs[0])?;
        loop {
            match &self.nodes[from].op {
                op if op.is_linear() => break,
                Op::ClassRow { .. } if embedding.is_none() => embedding = Some(from),
                Op::Reshape(_) => {}
                _ => return None,
            }
            from = alone(self, self.nodes[from].inputs[0])?;
        }
        let linear = &mut self.nodes[from];
        // a dense layer's outputs are (channel, y, x) flattened; a convolution's are the channels
        let dense = matches!(linear.op, Op::Dense { .. });
        let per_channel = if dense { pixels } else { 1 };
        if linear.bias().len() != scale.len() * per_channel || embedding.is_some() && !dense {
            return None;
        }
        let factor: Vec<f64> = scale
            .iter()
            .zip(variance)
            .map(|(scale, variance)| f64::from(*scale) / (f64::from(*variance) + epsilon).sqrt())
            .collect();
        let channel_of = |output: usize| output / per_channel;
        let features = linear.bias().len();
        for (output, bias) in linear.bias_mut().iter_mut().enumerate() {
            let channel = channel_of(output);
            let centred = f64::from(*bias) - f64::from(mean[channel]);
            *bias = (f64::from(shift[channel]) + factor[channel] * centred) as f32;
        }
        for index in 0..linear.weight().len() {
            let channel = channel_of(linear.output_of(index));
            let weight = &mut linear.weight_mut()[index];
            *weight = (f64::from(*weight) * factor[channel]) as f32;
        }
        if let Some(row) = embedding {
            for (index, value) in self.nodes[row].weight_mut().iter_mut().enumerate() {
                *value = (f64::from(*value) * factor[channel_of(index % features)]) as f32;
            }
        }
        Some(())
    }

    /// Every transposed convolution and upsampling in one form.
    fn rewrite(self, form: Form) -> Result<Self> {
        let mut graph = Self { nodes: Vec::new(), ..self.clone() };
        for mut node in self.nodes {
            node.upsampling_as_transposed();
            match node.op {
                Op::ConvTranspose { inputs, outputs, kernel, stride, padding }
                    if form == Form::Convolution =>
                {
                    let sizes = Transposed { inputs, outputs, kernel, stride, padding, output_padding: 0 };
                    graph.push_transposed(&node, sizes, node.weight(), node.bias())?;
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
        let add = |graph: &mut Self, suffix: &str, op: Op, input, values| -> Result<ValueId> {
            let name = format!("{name}{suffix}");
            let parameters = parameters_of(&name, &op, values);
            graph.push(&name, op, &[input], parameters, format!("{name}.out"))
        };
        if (height, width) == (1, 1) && t.padding == 0 && t.output_padding == 0 {
            // every input pixel reaches every output pixel once: a dense layer
            let flat = match self.values[input].shape {
                Shape::Vector(_) => input,
                Shape::Image(..) => add(self, ".flat", Op::Reshape(Shape::Vector(t.inputs)), input, vec![])?,
            };
            let area = t.kernel * t.kernel;
            let (rows, columns) = (t.outputs * area, t.inputs);
            let mut dense = vec![0f32; rows * columns];
            for (column, weights) in weight.chunks(rows).enumerate() {
                weights.iter().enumerate().for_each(|(row, weight)| dense[row * columns + column] = *weight);
            }
            let bias = bias.iter().flat_map(|bias| std::iter::repeat_n(*bias, area)).collect();
            let layer = Op::Dense { inputs: columns, outputs: rows };
            let features = add(self, "", layer, flat, vec![dense, bias])?;
            self.nodes.push(Node {
                name: format!("{name}.picture"),
                op: Op::Reshape(self.values[output].shape),
                inputs: vec![features],
                output,
                parameters: vec![],
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
        let linear = Op::conv(t.inputs, t.outputs * block * block, taps, 1, padding);
        let before = self.values[input].shape;
        // one phase: an ordinary convolution with its kernel turned round
        if block == 1 && first == 0 && linear.output(&[before]) == Ok(self.values[output].shape) {
            let parameters = parameters_of(name, &linear, vec![conv, bias]);
            self.nodes.push(Node { name: name.clone(), op: linear, inputs: vec![input], output, parameters });
            return Ok(());
        }
        let phases = add(self, "", linear, input, vec![conv, bias])?;
        let shuffle = Op::Shuffle(Shuffle { block, first, size: (out_height, out_width) });
        shuffle.output(&[self.values[phases].shape]).map_err(|_| misfit())?;
        self.nodes.push(Node {
            name: format!("{name}.shuffle"),
            op: shuffle,
            inputs: vec![phases],
            output,
            parameters: vec![],
        });
        Ok(())
    }
}

impl Node {
    /// Upsampling by nearest neighbours and a convolution → one transposed convolution.
    fn upsampling_as_transposed(&mut self) {
        if let Op::UpsampleConv { inputs, outputs, kernel } = self.op {
            let weight = upsample::expand(self.weight(), (outputs, inputs, kernel));
            let (kernel, padding) = (kernel + 1, kernel / 2);
            self.op = Op::ConvTranspose { inputs, outputs, kernel, stride: 2, padding };
            self.parameters = parameters_of(&self.name, &self.op, vec![weight, self.bias().to_vec()]);
        }
    }
}
