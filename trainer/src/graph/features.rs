//! Any convolutional network in ONNX as features that gradients flow through: MobileNetV2, EfficientNet-Lite, ResNet,
//! VGG, SqueezeNet and the like, as PyTorch's and TensorFlow's exporters write them.

use std::collections::{BTreeMap, HashSet};

use edgegen_runtime::model::Metadata;
use tract_onnx::pb::{
    ValueInfoProto, tensor_shape_proto::dimension::Value as Length, type_proto::Value as Kind,
};

use super::import::{Reader, decode};
use super::{Graph, Op, Shape, ValueId};
use crate::{Error, Result};

/// A network of whose inner values pictures have features.
#[derive(Clone, Debug)]
pub struct FeatureGraph {
    /// The network as far as gradients flow through it; batch norms are folded where they can be. Its outputs are
    /// [`Self::taps`], then what the file puts out.
    pub graph: Graph,
    /// By stride, how many pixels of the picture one pixel of it stands for, the last value: (C, H / stride, W / stride).
    pub taps: BTreeMap<usize, ValueId>,
    /// What the file puts out, as far as gradients flow.
    pub outputs: Vec<ValueId>,
    /// The first operator that has no gradient, in a sentence.
    refused: Option<String>,
    file: String,
}

impl FeatureGraph {
    /// The taps at these strides.
    ///
    /// # Errors
    /// [`Error::Config`] that names the file, the stride, and the operator in the way if there is one.
    pub fn at(&self, strides: &[usize]) -> Result<Vec<ValueId>> {
        let find = |stride: &usize| {
            self.taps.get(stride).copied().ok_or_else(|| {
                let known: Vec<String> = self.taps.keys().map(usize::to_string).collect();
                let why = self.refused.as_ref().map_or_else(String::new, |refused| format!(": {refused}"));
                Error::Config(format!(
                    "{} has no features at stride {stride}, only at {}{why}",
                    self.file,
                    known.join(", ")
                ))
            })
        };
        strides.iter().map(find).collect()
    }
}

/// Shape of the input, and whether the file holds it as (N, H, W, C). `size` (height, width) stands for what the file
/// says, because a network without dense layers takes any.
fn input(port: &ValueInfoProto, size: (usize, usize)) -> Option<(Shape, bool)> {
    let Some(Kind::TensorType(tensor)) = port.r#type.as_ref()?.value.as_ref() else { return None };
    let known = |length: Option<&Length>| match length {
        Some(Length::DimValue(length)) => Some(*length),
        _ => None,
    };
    let dims: Vec<Option<i64>> =
        tensor.shape.as_ref()?.dim.iter().map(|dim| known(dim.value.as_ref())).collect();
    let [_, first, _, last] = dims.as_slice() else { return None };
    let picture = |channels: &Option<i64>| channels.filter(|channels| matches!(channels, 1 | 3));
    let (channels, channels_last) = match (picture(first), picture(last)) {
        (Some(channels), _) => (channels, false),
        (None, Some(channels)) => (channels, true),
        (None, None) => return None,
    };
    Some((Shape::Image(channels as usize, size.0, size.1), channels_last))
}

/// Reads a network for pictures of `size` (height, width). Batch norms work with their running statistics.
///
/// # Errors
/// [`Error::Config`] that names the file and why it cannot be used: damage, an input that is no picture, or a first
/// operator that has no gradient here.
pub fn read(bytes: &[u8], file: &str, size: (usize, usize)) -> Result<FeatureGraph> {
    let refused = |problem: String| Error::Config(format!("{file}: {problem}"));
    let (opset, onnx) = decode(bytes).map_err(|problem| refused(problem.into()))?;
    let constants: HashSet<&str> = onnx.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let port = onnx.input.iter().find(|port| !constants.contains(port.name.as_str()));
    let port = port.ok_or_else(|| refused("it has no input".into()))?;
    let (shape, channels_last) = input(port, size).ok_or_else(|| {
        refused(format!("its input {:?} is no batch of pictures with 1 or 3 channels", port.name))
    })?;
    let mut graph = Graph::new(&onnx.name, (&port.name, shape), Metadata::default());
    graph.opset = opset;
    let outputs: Vec<String> = onnx.output.iter().map(|output| output.name.clone()).collect();
    let mut reader = Reader::new(graph, &port.name, &onnx.node, &outputs, onnx.initializer.clone());
    reader.for_gradients = true;
    if channels_last {
        reader.channels_last.insert(port.name.clone());
    }
    // what an operator without a gradient makes, and everything made of that
    let (mut lost, mut first_lost) = (HashSet::new(), None);
    let mut uncertain = HashSet::new();
    for (index, node) in onnx.node.iter().enumerate() {
        let read = match node.input.iter().any(|name| lost.contains(name)) {
            true => Ok(false),
            false => reader.node(index, node).map(|()| true),
        };
        if let Err(problem) = &read {
            first_lost.get_or_insert_with(|| problem.to_string());
            // what follows at this size is not known, so neither is the last value
            let known = node.input.iter().find_map(|name| reader.known.get(name));
            uncertain.extend(known.and_then(|value| stride(&reader.graph, *value)));
        }
        if read.is_ok_and(|read| read) {
            continue;
        }
        lost.extend(node.output.iter().filter(|name| !name.is_empty()).cloned());
    }
    let known = reader.known;
    let mut graph = reader.graph;
    let mut strides = strides(&graph);
    strides.retain(|stride, _| !uncertain.contains(stride));
    if strides.is_empty() {
        return Err(refused(first_lost.unwrap_or_else(|| "it makes no smaller pictures".into())));
    }
    let last: Vec<ValueId> = outputs.iter().filter_map(|name| known.get(name)).copied().collect();
    graph.outputs = strides.values().copied().chain(last).collect();
    graph.prune();
    graph.fold_batch_norms();
    let taps: BTreeMap<usize, ValueId> = strides.keys().copied().zip(graph.outputs.iter().copied()).collect();
    let outputs = graph.outputs[strides.len()..].to_vec();
    for (stride, value) in &taps {
        graph.values[*value].name = format!("stride{stride}");
    }
    Ok(FeatureGraph { graph, taps, outputs, refused: first_lost, file: file.into() })
}

/// How many pixels of the picture one pixel of a value stands for along a side, to the nearest power of two; `None` for
/// what is no picture.
fn stride(graph: &Graph, value: ValueId) -> Option<usize> {
    let (_, height, width) = graph.input_shape().image();
    let Shape::Image(_, rows, columns) = graph.values[value].shape else { return None };
    let ratio = ((height * width) as f64 / (rows * columns) as f64).sqrt();
    Some(1usize << ratio.log2().round().max(0.0) as u32)
}

/// By stride, the last value.
fn strides(graph: &Graph) -> BTreeMap<usize, ValueId> {
    let mut found = BTreeMap::new();
    for node in &graph.nodes {
        let Some(stride) = stride(graph, node.output) else { continue };
        if stride > 1
            && !matches!(node.op, Op::GlobalAverage | Op::Reshape(_))
            && !graph.is_squeezed(node.output)
        {
            found.insert(stride, node.output);
        }
    }
    found
}

impl Graph {
    /// Whether a value is made of an average over the whole picture.
    fn is_squeezed(&self, value: ValueId) -> bool {
        let Shape::Image(_, 1, 1) = self.values[value].shape else { return false };
        let mut at = value;
        while let Some(maker) = self.maker(at) {
            let node = &self.nodes[maker];
            if node.op == Op::GlobalAverage {
                return true;
            }
            at = node.inputs[0];
            if self.values[at].shape.pixels() > 1 {
                return false;
            }
        }
        false
    }

    /// Removes the nodes that no output depends on.
    fn prune(&mut self) {
        let mut needed = self.needed(&self.outputs).into_iter();
        self.nodes.retain(|_| needed.next().unwrap_or(false));
    }
}
