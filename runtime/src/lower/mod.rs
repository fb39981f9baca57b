//! ONNX graph → a program of fused kernels.
//!
//! 1. `reader` with `ops`: ONNX's nodes become operators on values of one picture; `fold` computes constants on the way.
//! 2. `fuse`: batch norm, activations, DepthToSpace, enlargements, and what stands between a DequantizeLinear and a
//!    QuantizeLinear go into the layers.
//! 3. `plan`: planes get borders and places in an arena, weights are packed for the CPU.
//! 4. `program`: runs.
//!
//! A node that has no kernel here is named, with the reason. `partition`: another `engine` may run such nodes between the
//! kernels, those that `foreign` lists.

mod arena;
#[cfg_attr(not(feature = "tract"), allow(dead_code, reason = "no engine fills them"))]
pub(crate) mod engine;
mod fold;
mod foreign;
mod fuse;
mod graph;
mod ops;
mod partition;
mod plan;
mod program;
mod reader;
#[cfg(test)]
mod tests;
mod whole;
mod window;

use crate::limits::{self, Budget};
use crate::onnx::attributes::Type;
use crate::onnx::{GraphProto, OperatorSetIdProto, TensorProto};
use edgegen_kernels::Cpu;
use engine::Engine;
use graph::Graph;

pub(crate) use program::Program;
pub(crate) use reader::Source;
pub(crate) use whole::for_engine;

/// Why something is not done, on one line.
pub(crate) type Reason = String;

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

/// What another engine may run.
#[derive(Clone, Copy)]
pub(crate) struct Others<'a> {
    pub(crate) engine: &'a dyn Engine,
    pub(crate) opsets: &'a [OperatorSetIdProto],
    /// The network is given one picture at a time, whatever it may do to a batch.
    pub(crate) one_picture: bool,
    /// Threads that share its work.
    pub(crate) threads: usize,
}

/// Lowers a graph, in an order in which it can run. With `others`, another engine runs what has no kernel, between layers
/// that have; with `halves` layers of float32 are computed in float16 where the CPU can.
pub(crate) fn lower(
    source: &Source<'_>,
    cpu: Cpu,
    others: Option<Others<'_>>,
    halves: bool,
) -> Result<Lowered, Refusal> {
    let onnx: &GraphProto = source.onnx;
    let mut graph = match (reader::read(source, None), others) {
        (Err(refusal), Some(_)) => {
            // what the whole network is refused for is said of the first node
            let graph = reader::read(source, others).ok();
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
    let (program, runs, steps) = plan::plan(&graph, cpu, halves && cpu.halves(), &mut Budget::new())?;
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
    let macs = steps.iter().fold(0u64, |sum, step| sum.saturating_add(step.macs));
    if macs > limits::MAX_MACS {
        let reason =
            format!("it multiplies {macs} times a picture, more than the {} that are run", limits::MAX_MACS);
        return Err(Refusal { node: onnx.node.len(), reason });
    }
    Ok(Lowered { program, outputs, macs, runners, steps })
}

/// The constants that the nodes of a graph make, where they are computed when it is opened, by the nodes' places.
///
/// # Errors
/// As [`lower`] of nodes that no engine runs.
pub(crate) fn computed(
    source: &Source<'_>,
    others: Option<Others<'_>>,
) -> Result<Vec<(usize, TensorProto)>, Refusal> {
    let found = reader::computed(source, None);
    let found = found.or_else(|refusal| match others {
        Some(_) => reader::computed(source, others),
        None => Err(refusal),
    });
    Ok(found?)
}

/// What is multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// u8 × s8, summed in 32 bits.
    Int8,
    /// float32.
    Float32,
    /// float16, sums too.
    Float16,
}

fn check_scales(scales: &[f32]) -> Result<(), Reason> {
    match scales.iter().find(|scale| !(scale.is_normal() && **scale > 0.0)) {
        None if !scales.is_empty() => Ok(()),
        Some(scale) => Err(format!("a scale is {scale}: it has to be a normal number above 0")),
        None => Err("it has no scale".into()),
    }
}
