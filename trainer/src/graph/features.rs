//! Any convolutional network in ONNX as features that gradients flow through: MobileNetV2, EfficientNet-Lite, ResNet,
//! VGG, SqueezeNet and the like, as PyTorch's and TensorFlow's exporters write them.

use std::collections::{BTreeMap, HashSet};

use edgegen_runtime::model::{ImageShape, Metadata};
use prost::Message;
use tract_onnx::pb::{
    ModelProto, ValueInfoProto, tensor_shape_proto::dimension::Value as Length, type_proto::Value as Kind,
};

use super::import::{Reader, decode};
use super::{Graph, Interpolation, Op, Shape, ValueId, parameters_of};
use crate::{Error, Result};

/// The key in `metadata_props` that says how such a network's input is scaled: `unit`, `signed` or `mean=…,scale=…`.
pub const INPUT_KEY: &str = "edgegen.input";
/// Cosine from which filters are the same: float16 leaves 1 − 10⁻⁶.
const ALIKE: f32 = 0.999;
/// Side of the pictures for which a file is read to be compared.
const SMALL: usize = 64;

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

/// What a file says of its input's scaling, under [`INPUT_KEY`].
pub fn input_scaling(bytes: &[u8]) -> Option<String> {
    let proto = ModelProto::decode(bytes).ok()?;
    proto.metadata_props.into_iter().find(|entry| entry.key == INPUT_KEY).map(|entry| entry.value)
}

/// What two networks' files have to do with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// They hold the same network, or one is a part of the other: their first convolutions have the same filters, up to a
    /// factor each, which a folded batch norm changes.
    Same,
    /// They don't.
    Other,
    /// One of them holds integers, whose filters are not compared.
    Hidden,
}

/// How the networks in two files are related.
pub fn relation(first: &[u8], second: &[u8]) -> Relation {
    match (first_filters(first), first_filters(second)) {
        (Some(first), Some(second)) if first.len() == second.len() && !first.is_empty() => {
            let alike = |(a, b): (&Vec<f32>, &Vec<f32>)| {
                let cosine: f32 = a.iter().zip(b).map(|(a, b)| a * b).sum();
                a.len() == b.len() && cosine.abs() > ALIKE
            };
            if first.iter().zip(&second).all(alike) { Relation::Same } else { Relation::Other }
        }
        (Some(_), Some(_)) => Relation::Other,
        _ if holds_integers(first) || holds_integers(second) => Relation::Hidden,
        _ => Relation::Other,
    }
}

/// Whether a file computes in integers.
fn holds_integers(bytes: &[u8]) -> bool {
    let graph = ModelProto::decode(bytes).ok().and_then(|proto| proto.graph).unwrap_or_default();
    let kinds = ["Quantize", "QLinear", "Integer"];
    graph.node.iter().any(|node| kinds.iter().any(|kind| node.op_type.contains(kind)))
}

/// The filters of a network's first convolution, each of length 1.
fn first_filters(bytes: &[u8]) -> Option<Vec<Vec<f32>>> {
    let found = read(bytes, "network", (SMALL, SMALL)).ok()?;
    let node = found.graph.nodes.iter().find(|node| matches!(node.op, Op::Conv { .. }))?;
    let filters = node.weight().chunks(node.weight().len() / node.op.outputs().max(1));
    let unit = |filter: &[f32]| {
        let length = filter.iter().map(|value| value * value).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
        filter.iter().map(|value| value / length).collect()
    };
    Some(filters.map(unit).collect())
}

/// How pictures (C, H, W) in [−1, 1] become a network's input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Front {
    /// The pictures.
    pub picture: ImageShape,
    /// Height and width that they are brought to, bilinearly.
    pub size: (usize, usize),
    /// Each channel's factor.
    pub factor: [f32; 3],
    /// Added to each channel then.
    pub summand: [f32; 3],
}

impl Front {
    /// Adds the operators to a graph whose input is the picture; returns the network's input of `channels` channels.
    fn add(&self, graph: &mut Graph, channels: usize) -> Result<ValueId> {
        let own = self.picture.channels;
        let op = Op::conv(own, channels, 1, 1, 0);
        // grey is repeated; of colour, a grey network sees the luminance (ITU-R BT.601)
        let part = |output: usize, input: usize| match (own, channels) {
            (3, 1) => [0.299, 0.587, 0.114][input],
            (1, _) => 1.0,
            _ => f32::from(u8::from(output == input)),
        };
        let mut weight = Vec::new();
        for output in 0..channels {
            weight.extend((0..own).map(|input| self.factor[output] * part(output, input)));
        }
        let mut parameters = parameters_of("scaling", &op, vec![weight, self.summand[..channels].to_vec()]);
        parameters.iter_mut().for_each(|parameter| parameter.trained = false);
        let input = graph.input;
        let value = graph.push("scaling", op, &[input], parameters, "scaled")?;
        let (height, width) = self.size;
        if (height, width) == (self.picture.height, self.picture.width) {
            return Ok(value);
        }
        let op = Op::Resize { height, width, by: Interpolation::Bilinear };
        graph.push("resizing", op, &[value], Vec::new(), "resized")
    }
}

/// Reads a network for pictures of `size` (height, width), scaled as it takes them. Batch norms work with their running
/// statistics.
///
/// # Errors
/// [`Error::Config`] that names the file and why it cannot be used: damage, an input that is no picture, or a first
/// operator that has no gradient here.
pub fn read(bytes: &[u8], file: &str, size: (usize, usize)) -> Result<FeatureGraph> {
    read_with(bytes, file, size, None)
}

/// Reads a network for pictures that come to it through `front`; strides are those of its own input.
///
/// # Errors
/// As [`read`].
pub fn read_for(bytes: &[u8], file: &str, front: &Front) -> Result<FeatureGraph> {
    read_with(bytes, file, front.size, Some(front))
}

fn read_with(bytes: &[u8], file: &str, size: (usize, usize), front: Option<&Front>) -> Result<FeatureGraph> {
    let refused = |problem: String| Error::Config(format!("{file}: {problem}"));
    let (opset, onnx) = decode(bytes).map_err(|problem| refused(problem.into()))?;
    let constants: HashSet<&str> = onnx.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let port = onnx.input.iter().find(|port| !constants.contains(port.name.as_str()));
    let port = port.ok_or_else(|| refused("it has no input".into()))?;
    let (shape, channels_last) = input(port, size).ok_or_else(|| {
        refused(format!("its input {:?} is no batch of pictures with 1 or 3 channels", port.name))
    })?;
    let (name, picture) = match front {
        None => (port.name.as_str(), shape),
        Some(front) => ("picture", Shape::of_image(front.picture)),
    };
    let mut graph = Graph::new(&onnx.name, (name, picture), Metadata::default());
    graph.opset = opset;
    let entry = match front {
        None => graph.input,
        Some(front) => front.add(&mut graph, shape.channels())?,
    };
    let outputs: Vec<String> = onnx.output.iter().map(|output| output.name.clone()).collect();
    let mut reader = Reader::new(graph, &port.name, &onnx.node, &outputs, onnx.initializer.clone());
    reader.for_gradients = true;
    reader.known.insert(port.name.clone(), entry);
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
            uncertain.extend(known.and_then(|value| stride(&reader.graph, size, *value)));
        }
        if read.is_ok_and(|read| read) {
            continue;
        }
        lost.extend(node.output.iter().filter(|name| !name.is_empty()).cloned());
    }
    let known = reader.known;
    let mut graph = reader.graph;
    let mut strides = strides(&graph, size, entry);
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

/// How many pixels of pictures of this size one pixel of a value stands for along a side, to the nearest power of two;
/// `None` for what is no picture.
fn stride(graph: &Graph, (height, width): (usize, usize), value: ValueId) -> Option<usize> {
    let Shape::Image(_, rows, columns) = graph.values[value].shape else { return None };
    let ratio = ((height * width) as f64 / (rows * columns) as f64).sqrt();
    Some(1usize << ratio.log2().round().max(0.0) as u32)
}

/// By stride, the last value after `entry`.
fn strides(graph: &Graph, size: (usize, usize), entry: ValueId) -> BTreeMap<usize, ValueId> {
    let mut found = BTreeMap::new();
    for node in &graph.nodes {
        let Some(stride) = stride(graph, size, node.output) else { continue };
        if stride > 1
            && node.output > entry
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
    pub(crate) fn prune(&mut self) {
        let mut needed = self.needed(&self.outputs).into_iter();
        self.nodes.retain(|_| needed.next().unwrap_or(false));
    }
}
