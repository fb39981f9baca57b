//! Building a graph: node after node, and chains of operators.

use edgegen_runtime::model::Metadata;

use super::op::Init;
use super::{Activation, Graph, Op, Over, Parameter, Shape, ValueId};
use crate::{Error, Result};

/// A graph's structure under construction. Node number i is called `layer`i, its parameters `PART.i.NAME`.
pub struct Builder {
    graph: Graph<()>,
}

impl Builder {
    /// An empty graph of the part `part` of a model, for inputs of `shape`.
    pub fn new(part: &str, shape: Shape) -> Self {
        Self { graph: Graph::new(part, ("input", shape), Metadata::default()) }
    }

    /// The input.
    pub fn input(&self) -> ValueId {
        self.graph.input
    }

    /// Shape of a value.
    pub fn shape(&self, value: ValueId) -> Shape {
        self.graph.values[value].shape
    }

    /// Adds an operator on these values; returns what it makes.
    ///
    /// # Errors
    /// [`Error::Config`] that names the node, the operator and the shapes that do not fit.
    pub fn add(&mut self, op: Op, inputs: &[ValueId]) -> Result<ValueId> {
        let index = self.graph.nodes.len();
        let (name, part) = (format!("layer{index}"), &self.graph.name);
        let parameters = op.parameters(None).into_iter().map(|spec| Parameter {
            name: format!("{part}.{index}.{}", spec.name),
            shape: spec.shape,
            value: (),
            trained: spec.trained,
        });
        let (parameters, value) = (parameters.collect(), format!("{name}.{}", op.kind().to_lowercase()));
        let refused = |problem: Error| match problem {
            Error::Export(problem) => Error::Config(problem),
            other => other,
        };
        self.graph.push(&name, op, inputs, parameters, value).map_err(refused)
    }

    /// Adds operators one after the other.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn chain(&mut self, from: ValueId, ops: impl IntoIterator<Item = Op>) -> Result<ValueId> {
        ops.into_iter().try_fold(from, |value, op| self.add(op, &[value]))
    }

    /// The gated linear unit (Y. Dauphin et al., 2017): the first half of the channels times the sigmoid of the second.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn glu(&mut self, value: ValueId) -> Result<ValueId> {
        let count = self.shape(value).channels() / 2;
        let own = self.add(Op::Slice { first: 0, count }, &[value])?;
        let gate =
            self.chain(value, [Op::Slice { first: count, count }, Op::Activation(Activation::Sigmoid)])?;
        self.add(Op::Mul, &[own, gate])
    }

    /// Operators whose result is added to what entered them.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn residual(&mut self, value: ValueId, ops: impl IntoIterator<Item = Op>) -> Result<ValueId> {
        let branch = self.chain(value, ops)?;
        self.add(Op::Add, &[value, branch])
    }

    /// The graph that puts out `outputs`. A linear operator before a batch norm, which would take it away, has no bias.
    pub fn finish(self, outputs: &[ValueId]) -> Graph<()> {
        let mut graph = self.graph;
        graph.outputs = outputs.to_vec();
        for index in 0..graph.nodes.len() {
            if graph.nodes[index].op.is_linear() && graph.enters_batch_norm(index) {
                graph.nodes[index].parameters.truncate(1);
            }
        }
        graph
    }
}

impl Graph<()> {
    /// A chain of operators as the part `part` of a model.
    ///
    /// # Errors
    /// [`Error::Config`] that names the first node that does not follow its predecessor.
    pub fn chain(part: &str, input: Shape, ops: Vec<Op>) -> Result<Self> {
        let mut builder = Builder::new(part, input);
        let output = builder.chain(builder.input(), ops)?;
        Ok(builder.finish(&[output]))
    }

    fn enters_batch_norm(&self, index: usize) -> bool {
        let mut reader = self.only_reader(self.nodes[index].output);
        while let Some(at) = reader {
            match &self.nodes[at].op {
                Op::Reshape(_) | Op::ClassRow { .. } => reader = self.only_reader(self.nodes[at].output),
                op => return matches!(op, Op::Norm { over: Over::Batch, .. }),
            }
        }
        false
    }

    /// First values from `seed`; parameter number p draws stream `first + p`.
    pub fn initialise(&self, seed: u64, first: u64) -> Graph {
        let mut inits = Vec::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let specs = node.op.parameters(self.activation_reached_from(index));
            inits.extend(specs.into_iter().take(node.parameters.len()).map(|spec| spec.init));
        }
        let mut numbered = inits.into_iter().enumerate();
        let values = self.map(|parameter| {
            let (number, init) = numbered.next().unwrap_or((0, Init::Constant(0.0)));
            Ok(init.draw(seed, first + number as u64, parameter.count()))
        });
        values.expect("drawing values does not fail")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_that_do_not_fit_are_named_with_both_shapes() {
        let mut builder = Builder::new("generator", Shape::Image(3, 8, 8));
        let input = builder.input();
        let half = builder.add(Op::conv(3, 3, 4, 2, 1), &[input]).unwrap();
        let error = builder.add(Op::Add, &[input, half]).unwrap_err().to_string();
        assert!(error.contains("\"layer1\": Add does not take shapes of 3x8x8 and 3x4x4"), "{error}");
        let error = builder.add(Op::conv(5, 3, 4, 2, 1), &[half]).unwrap_err().to_string();
        assert!(error.contains("cannot follow a shape of 3x4x4"), "{error}");
    }

    #[test]
    fn a_bias_before_a_batch_norm_is_left_out() {
        let ops = vec![Op::conv(3, 4, 3, 1, 1), Op::batch_norm(4), Op::conv(4, 4, 3, 1, 1)];
        let graph = Graph::chain("part", Shape::Image(3, 8, 8), ops).unwrap();
        let names: Vec<&str> = graph.parameters().map(|parameter| parameter.name.as_str()).collect();
        assert_eq!(names[..2], ["part.0.weight", "part.1.scale"]);
        assert_eq!(names[5..], ["part.2.weight", "part.2.bias"]);
    }
}
