//! ONNX graph → a program of fused kernels.
//!
//! 1. `read`: ONNX's nodes become operators on values of one picture; `constants` and shapes are computed on the way.
//! 2. `fuse`: batch norm, activations, DepthToSpace, enlargements, and what stands between a DequantizeLinear and a
//!    QuantizeLinear go into the layers.
//! 3. `plan`: planes get borders and places in an arena, weights are packed for the CPU.
//! 4. `program`: runs.
//!
//! A node that has no kernel here is named, with the reason. `others`: tract may run such nodes between the kernels.

mod constants;
mod fuse;
mod graph;
mod others;
mod plan;
mod program;
mod read;
#[cfg(test)]
mod tests;

use crate::measure::Arithmetic;
use crate::onnx::{GraphProto, OperatorSetIdProto};
use edgegen_kernels::Cpu;
use graph::Graph;

pub(crate) use constants::{Attributes, Constant};
pub(crate) use others::network_in_floats;
pub(crate) use program::Program;

/// A network that kernels run as a whole.
pub(crate) struct Lowered {
    pub(crate) program: Program,
    /// Shape of each output for one picture.
    pub(crate) outputs: Vec<Vec<usize>>,
    /// Useful multiply-accumulates of one picture.
    pub(crate) macs: u64,
    /// Who runs each ONNX node.
    pub(crate) runners: Vec<String>,
    /// What is done, in order: steps, then outputs.
    pub(crate) steps: Vec<Done>,
}

/// A step of a program.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    /// The ONNX nodes that it does, by their places in the graph; none: the input goes into a plane.
    pub(crate) nodes: Vec<usize>,
    pub(crate) what: String,
    /// Shapes of what it reads and writes, (C, H, W) or (values).
    pub(crate) input: Vec<usize>,
    pub(crate) output: Vec<usize>,
    /// Useful multiply-accumulates, and of what.
    pub(crate) macs: u64,
    pub(crate) arithmetic: Arithmetic,
    /// Bytes of weights and values that it reads and writes at least.
    pub(crate) bytes: u64,
}

/// Why a graph is not lowered: the node, by its place in the graph, and what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) node: usize,
    pub(crate) reason: String,
}

impl From<(usize, String)> for Refusal {
    fn from((node, reason): (usize, String)) -> Self {
        Self { node, reason }
    }
}

/// Whether tract may run what has no kernel.
#[derive(Clone, Copy)]
pub(crate) struct Others<'a> {
    pub(crate) opsets: &'a [OperatorSetIdProto],
    /// The network is given one picture at a time, whatever it may do to a batch.
    pub(crate) one_picture: bool,
}

/// Lowers a graph, in an order in which it can run, whose float32 input `input` has rows of shape `row`. With `others`,
/// tract runs what has no kernel, between layers that have; with `halves` layers of float32 are computed in float16 where
/// the CPU can.
pub(crate) fn lower(
    onnx: &GraphProto,
    input: &str,
    row: &[usize],
    class_input: Option<&str>,
    cpu: Cpu,
    others: Option<Others<'_>>,
    halves: bool,
) -> Result<Lowered, Refusal> {
    let mut graph = match (read::read(onnx, input, row, class_input, None), others) {
        (Err(refusal), Some(_)) => {
            // what the whole network is refused for is said of the first node
            let graph = read::read(onnx, input, row, class_input, others).ok();
            let with_layers = |graph: &Graph| graph.nodes.iter().any(|node| node.op.kind().is_some());
            graph.filter(with_layers).ok_or(refusal)?
        }
        (read, _) => read?,
    };
    let outputs = graph.outputs.iter().map(|output| graph.values[*output].shape.dims()).collect();
    for output in &graph.outputs {
        if graph.values[*output].number == graph::Number::Level {
            return Err(Refusal { node: onnx.node.len(), reason: "an output is not float32".into() });
        }
    }
    fuse::fuse(&mut graph);
    let (program, runs, steps) = plan::plan(&graph, cpu, halves && cpu.halves())?;
    let mut runners = vec!["in the layer that reads it".to_string(); onnx.node.len()];
    for constant in graph.constants {
        runners[constant] = "constant: computed when the file is opened".into();
    }
    for run in runs {
        for source in run.sources {
            runners[source] = run.what.clone();
        }
    }
    // of what was fused: what is cut off behind a DepthToSpace is not useful
    let macs = steps.iter().map(|step| step.macs).sum();
    Ok(Lowered { program, outputs, macs, runners, steps })
}
