//! Cross-layer equalisation: channels of a tensor that share one scale are brought to ranges that suit it.
//!
//! Between two linear layers with nothing but a (leaky) ReLU, a channel can be divided by any positive number before
//! and multiplied by it behind: the network stays the same. A channel with a small range would use few levels of its
//! tensor; a column of small weights few levels of its row. The number is chosen between the two, r_x^α / r_w^(1−α)
//! (M. Nagel et al., "Data-free quantization through weight equalization and bias correction", 2019, with the range
//! of the activations instead of the weights that make them, since those have a scale a channel; G. Xiao et al.,
//! "SmoothQuant", 2023).

use super::plan::Plan;
use crate::graph::{Activation, Graph, Op, Shape, ValueId};

/// Factors stay within this and its inverse.
const LARGEST_FACTOR: f32 = 64.0;

/// Two layers with channels that can be scaled between them.
pub(super) struct Pair {
    maker: usize,
    row: Option<usize>,
    reader: usize,
    /// For each output of `maker`, its group.
    made: Vec<usize>,
    /// For each input of `reader`, its group.
    read: Vec<usize>,
    groups: usize,
    /// The value that `reader` reads.
    value: ValueId,
}

/// All pairs of a graph whose layers both are quantised.
pub(super) fn pairs(graph: &Graph, plan: &Plan) -> Vec<Pair> {
    plan.layers().filter_map(|maker| pair(graph, plan, maker)).collect()
}

fn pair(graph: &Graph, plan: &Plan, maker: usize) -> Option<Pair> {
    let outputs = graph.nodes[maker].op.outputs();
    let mut groups = Groups { parent: (0..outputs).collect() };
    // for each channel of the current value, an output of `maker`
    let mut current: Vec<usize> = (0..outputs).collect();
    let (mut value, mut row) = (graph.nodes[maker].output, None);
    loop {
        let reader = graph.only_reader(value)?;
        let node = &graph.nodes[reader];
        let before = graph.values[value].shape;
        match &node.op {
            Op::Activation(Activation::Relu | Activation::LeakyRelu(_)) => {}
            Op::ClassRow { .. } if row.is_none() => row = Some(reader),
            Op::Reshape(_) => match (before, graph.values[node.output].shape) {
                (Shape::Vector(_), Shape::Image(_, height, width)) => {
                    current = groups.merge(&current, height * width);
                }
                (Shape::Image(_, height, width), Shape::Vector(_)) => {
                    current = current.iter().flat_map(|channel| vec![*channel; height * width]).collect();
                }
                (before, after) if before == after => {}
                _ => return None,
            },
            Op::Shuffle(shuffle) => current = groups.merge(&current, shuffle.block * shuffle.block),
            next if plan.quantized[reader] && next.inputs() == current.len() => {
                let number = groups.numbers();
                return Some(Pair {
                    maker,
                    row,
                    reader,
                    read: current.iter().map(|channel| number[*channel]).collect(),
                    groups: number.iter().max()? + 1,
                    made: number,
                    value,
                });
            }
            _ => return None,
        }
        value = node.output;
    }
}

/// Outputs that have to be scaled alike.
struct Groups {
    parent: Vec<usize>,
}

impl Groups {
    fn root(&self, mut output: usize) -> usize {
        while self.parent[output] != output {
            output = self.parent[output];
        }
        output
    }

    /// Every `count` channels become one.
    fn merge(&mut self, channels: &[usize], count: usize) -> Vec<usize> {
        let mut merged = Vec::with_capacity(channels.len() / count);
        for together in channels.chunks(count) {
            let root = self.root(together[0]);
            for channel in together {
                let other = self.root(*channel);
                self.parent[other] = root;
            }
            merged.push(root);
        }
        merged
    }

    /// Consecutive numbers of the groups, for each output.
    fn numbers(&self) -> Vec<usize> {
        let mut seen = std::collections::HashMap::new();
        (0..self.parent.len())
            .map(|output| {
                let next = seen.len();
                *seen.entry(self.root(output)).or_insert(next)
            })
            .collect()
    }
}

impl Pair {
    /// The value between the layers, whose ranges decide.
    pub(super) fn value(&self) -> ValueId {
        self.value
    }

    /// Channels of that value.
    pub(super) fn channels(&self) -> usize {
        self.read.len()
    }

    /// Scales between the layers; `ranges` is the largest magnitude of each channel of the value between.
    pub(super) fn apply(&self, graph: &mut Graph, ranges: &[f32], alpha: f32) {
        let mut activations = vec![0f32; self.groups];
        self.read
            .iter()
            .zip(ranges)
            .for_each(|(group, range)| activations[*group] = activations[*group].max(*range));
        let next = &mut graph.nodes[self.reader];
        let (inputs, outputs) = (next.op.inputs(), next.op.outputs());
        let area = next.weight().len() / outputs / inputs;
        let columns = inputs * area;
        let group_of = |index: usize| self.read[index % columns / area];
        let mut weights = vec![0f32; self.groups];
        for row in next.weight().chunks(columns) {
            let largest = row.iter().fold(f32::MIN_POSITIVE, |largest, weight| largest.max(weight.abs()));
            for (index, weight) in row.iter().enumerate() {
                let part = weight.abs() / largest;
                weights[group_of(index)] = weights[group_of(index)].max(part);
            }
        }
        let raw: Vec<Option<f32>> = activations
            .iter()
            .zip(&weights)
            .map(|(x, w)| (*x > 0.0 && *w > 0.0).then(|| x.powf(alpha) / w.powf(1.0 - alpha)))
            .collect();
        // dead channels stay; the others keep their geometric mean
        let logs: Vec<f32> = raw.iter().flatten().map(|factor| factor.ln()).collect();
        let mean = logs.iter().sum::<f32>() / logs.len().max(1) as f32;
        let factors: Vec<f32> = raw
            .iter()
            .map(|factor| {
                let factor = factor.map_or(1.0, |factor| (factor.ln() - mean).exp());
                factor.clamp(LARGEST_FACTOR.recip(), LARGEST_FACTOR)
            })
            .collect();
        for (index, weight) in next.weight_mut().iter_mut().enumerate() {
            *weight *= factors[group_of(index)];
        }
        let factor_of = |output: usize| factors[self.made[output]];
        let maker = &mut graph.nodes[self.maker];
        for index in 0..maker.weight().len() {
            let factor = factor_of(maker.output_of(index));
            maker.weight_mut()[index] /= factor;
        }
        maker.bias_mut().iter_mut().enumerate().for_each(|(output, bias)| *bias /= factor_of(output));
        if let Some(row) = self.row {
            let features = self.made.len();
            let table = graph.nodes[row].weight_mut();
            table.iter_mut().enumerate().for_each(|(index, value)| *value /= factor_of(index % features));
        }
    }
}
