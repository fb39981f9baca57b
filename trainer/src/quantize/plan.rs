//! What of a graph becomes integers.
//!
//! A linear operator that is quantised reads one tensor of uint8 and makes another. Values that are the same numbers
//! in other places (behind a reshape or a shuffle) share an encoding: they form a *tensor* here. A ReLU behind a
//! linear operator vanishes into it: its tensor begins at zero, and saturation does the rest. So does the row of a
//! class, which becomes further columns of the weights.

use super::Settings;
use crate::graph::{Activation, Graph, Op, ValueId};
use crate::{Error, Result};

/// Numbers that share an encoding.
#[derive(Clone, Debug)]
pub(super) struct TensorPlan {
    /// The values, first to last.
    pub(super) values: Vec<ValueId>,
    /// Whether uint8 is needed of it anywhere.
    pub(super) encoded: bool,
    /// The first value that holds what uint8 holds: behind every ReLU and class's row that vanished.
    pub(super) first: ValueId,
    /// What its numbers enter and nothing else does: decides which error of them counts.
    pub(super) enters: Option<Activation>,
}

impl TensorPlan {
    /// The value whose numbers all reach what is behind the tensor: no border is still to be cut off.
    pub(super) fn settled(&self) -> ValueId {
        self.values[self.values.len() - 1]
    }

    /// Whether value `id`, one of its own, holds what the encoding holds.
    pub(super) fn holds(&self, id: ValueId) -> bool {
        let place = |wanted| self.values.iter().position(|value| *value == wanted);
        place(id) >= place(self.first)
    }
}

/// Which nodes are quantised, and the tensors between them.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// For each node: a linear operator that is computed in integers.
    pub(super) quantized: Vec<bool>,
    /// For each node: it vanishes into the linear operator before it.
    pub(super) absorbed: Vec<bool>,
    /// For each value its tensor.
    pub(super) tensor: Vec<usize>,
    pub(super) tensors: Vec<TensorPlan>,
    /// Operators that stay in float32 because they have no form in integers: labels.
    pub(super) foreign: Vec<String>,
}

impl Plan {
    /// Decides for a graph in the form of convolutions.
    pub(super) fn new(graph: &Graph, settings: &Settings) -> Result<Self> {
        let mut kept = kept(graph, settings)?;
        beside_softmax(graph, &mut kept);
        let mut quantized = vec![false; graph.nodes.len()];
        let mut foreign = Vec::new();
        for (index, node) in graph.nodes.iter().enumerate() {
            match &node.op {
                Op::Dense { .. } | Op::Conv { groups: 1, .. } => quantized[index] = !kept[index],
                // no device has kernels for them in integers
                Op::Conv { .. } if !kept[index] => foreign.push(graph.label(index)),
                Op::Foreign(_) | Op::Norm { .. } => foreign.push(graph.label(index)),
                _ => {}
            }
        }
        if let (Some(first), true) = (foreign.first(), settings.refuse_unknown) {
            return Err(Error::Export(format!(
                "{first} is no operator that is quantised; --unknown float keeps it in float32"
            )));
        }
        if !quantized.contains(&true) {
            return Err(Error::Export(
                "nothing of this network can be quantised: it has no dense layer and no convolution that is not kept in float".into(),
            ));
        }
        let mut plan = Self {
            absorbed: vec![false; graph.nodes.len()],
            tensor: (0..graph.values.len()).collect(),
            tensors: Vec::new(),
            quantized,
            foreign,
        };
        // for each tensor, by its first value: what vanished into it last, and whether that was a ReLU
        let mut vanished: Vec<Option<(ValueId, bool)>> = vec![None; graph.values.len()];
        for (index, node) in graph.nodes.iter().enumerate() {
            let input = node.inputs[0];
            // the linear operator that makes the input, moved or with a class's row added, for this node alone
            let linear = plan.linear_alone_before(graph, input);
            let absorbs = match node.op {
                Op::Activation(Activation::Relu) => {
                    linear.is_some() && !vanished[plan.tensor[input]].is_some_and(|(_, relu)| relu)
                }
                Op::ClassRow { .. } => graph.maker(input).is_some_and(|maker| {
                    let dense = matches!(graph.nodes[maker].op, Op::Dense { .. });
                    dense && linear == Some(maker)
                }),
                _ => false,
            };
            if absorbs || node.op.moves() {
                plan.absorbed[index] = absorbs;
                plan.tensor[node.output] = plan.tensor[input];
                if absorbs {
                    vanished[plan.tensor[input]] = Some((node.output, matches!(node.op, Op::Activation(_))));
                }
            }
        }
        plan.collect(graph, &vanished);
        Ok(plan)
    }

    fn linear_alone_before(&self, graph: &Graph, mut value: ValueId) -> Option<usize> {
        loop {
            graph.only_reader(value)?;
            let maker = graph.maker(value)?;
            match &graph.nodes[maker].op {
                op if op.is_linear() && self.quantized[maker] => return Some(maker),
                op if op.moves() || self.absorbed[maker] && matches!(op, Op::ClassRow { .. }) => {
                    value = graph.nodes[maker].inputs[0];
                }
                _ => return None,
            }
        }
    }

    /// Renumbers tensors, and finds out which are needed in uint8.
    fn collect(&mut self, graph: &Graph, vanished: &[Option<(ValueId, bool)>]) {
        let mut number = vec![None; graph.values.len()];
        // in the order in which values are made
        let order = std::iter::once(graph.input).chain(graph.nodes.iter().map(|node| node.output));
        for value in order {
            let first = self.tensor[value];
            let tensor = *number[first].get_or_insert_with(|| {
                let first = vanished[first].map_or(value, |(last, _)| last);
                self.tensors.push(TensorPlan { values: Vec::new(), encoded: false, first, enters: None });
                self.tensors.len() - 1
            });
            self.tensor[value] = tensor;
            self.tensors[tensor].values.push(value);
        }
        for index in self.layers().collect::<Vec<_>>() {
            for tensor in [self.read_by(graph, index), self.made_by(graph, index)] {
                self.tensors[tensor].encoded = true;
            }
        }
        for tensor in &mut self.tensors {
            // nothing but moves may read it before
            let last = tensor.settled();
            let alone = tensor.values.iter().all(|value| graph.only_reader(*value).is_some());
            let reader = graph.only_reader(last).filter(|_| alone).map(|reader| &graph.nodes[reader].op);
            if let Some(Op::Activation(activation)) = reader {
                tensor.enters = Some(*activation);
            }
        }
    }

    /// The quantised linear operators, first to last.
    pub(super) fn layers(&self) -> impl Iterator<Item = usize> {
        (0..self.quantized.len()).filter(|index| self.quantized[*index])
    }

    /// The tensor that node `index` reads.
    pub(super) fn read_by(&self, graph: &Graph, index: usize) -> usize {
        self.tensor[graph.nodes[index].inputs[0]]
    }

    /// The tensor that node `index` makes.
    pub(super) fn made_by(&self, graph: &Graph, index: usize) -> usize {
        self.tensor[graph.nodes[index].output]
    }

    /// The class's row that vanishes into linear operator `index`.
    pub(super) fn row_of(&self, graph: &Graph, index: usize) -> Option<usize> {
        let reader = graph.only_reader(graph.nodes[index].output)?;
        (self.absorbed[reader] && matches!(graph.nodes[reader].op, Op::ClassRow { .. })).then_some(reader)
    }
}

/// Keeps in float32 what enters a softmax, and what reads its shares: the largest of many products decides, and rounding
/// would change which one that is.
fn beside_softmax(graph: &Graph, kept: &mut [bool]) {
    for softmax in graph.nodes.iter().filter(|node| node.op == Op::Softmax) {
        let mut value = softmax.inputs[0];
        while let Some(maker) = graph.maker(value) {
            kept[maker] = true;
            if !matches!(graph.nodes[maker].op, Op::ClassRow { .. } | Op::Reshape(_)) {
                break;
            }
            value = graph.nodes[maker].inputs[0];
        }
        graph.readers(softmax.output).for_each(|reader| kept[reader] = true);
    }
}

/// Which nodes are kept in float32 by name.
fn kept(graph: &Graph, settings: &Settings) -> Result<Vec<bool>> {
    let mut kept = vec![false; graph.nodes.len()];
    for name in &settings.keep_float {
        let found = graph.nodes.iter().position(|node| node.name == *name && node.op.is_linear());
        let Some(index) = found else {
            let names: Vec<&str> = graph
                .nodes
                .iter()
                .filter(|node| node.op.is_linear())
                .map(|node| node.name.as_str())
                .collect();
            return Err(Error::Config(format!(
                "--keep-float {name}: there is no such layer; there are {}",
                names.join(", ")
            )));
        };
        kept[index] = true;
    }
    Ok(kept)
}
