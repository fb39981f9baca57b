//! Nodes without a kernel in a network that has kernels: they are gathered in parts that another engine runs, between the
//! kernels' steps. A part holds all that does not wait for another part, so there are as few as can be. What comes out
//! of one goes back to the kernels at the next layer.

use std::collections::{BTreeMap, HashSet};

use crate::limits;
use crate::onnx::{
    DataType, Dimension, GraphProto, ModelProto, NodeProto, Size, TensorShapeProto, TensorType, TypeProto,
    ValueInfoProto,
};

use super::Reason;
use super::engine::{Entry, Prepared};
use super::foreign::{self, Around};
use super::graph::{Id, Move, Node, Number, Op, Other, Shape};
use super::reader::{Known, Reader};

/// A part that another engine runs, for one picture.
#[derive(Default)]
pub(super) struct Part {
    /// Places of its nodes in the ONNX graph, in order.
    pub(super) nodes: Vec<usize>,
    /// Names of the values that it reads, and the values.
    pub(super) inputs: Vec<(String, Id)>,
    /// Names of the values that kernels read of it, and the values.
    pub(super) exports: Vec<(String, Id, Shape)>,
}

/// What is worth leaving the other engine for.
fn is_layer(node: &NodeProto) -> bool {
    matches!(
        node.op_type.as_str(),
        "Conv"
            | "ConvTranspose"
            | "Gemm"
            | "MatMul"
            | "QuantizeLinear"
            | "QLinearConv"
            | "QLinearMatMul"
            | "QGemm"
    )
}

impl<'a> Reader<'a> {
    /// Brings what a layer reads back from the other engine, where the kernels can take it.
    pub(super) fn come_back(&mut self, node: &'a NodeProto) {
        for name in node.input.iter().filter(|_| is_layer(node)) {
            if let Some(Known::Other(part)) = self.known.get(name.as_str()) {
                // what cannot come back stays there, and the layer with it
                let _ = self.export(name, *part);
            }
        }
    }

    /// A part, ready but for its optimisation, out of which these values come.
    fn prepared(&self, part: &Part, outputs: &[&str]) -> Result<Box<dyn Prepared>, Reason> {
        let Some(others) = self.others else { return Err("there is no other engine".into()) };
        let (mut node, mut made) = (Vec::new(), Vec::new());
        for index in &part.nodes {
            let original = &self.onnx.node[*index];
            match self.form(original)? {
                Some((nodes, tensors)) => {
                    node.extend(nodes);
                    made.extend(tensors);
                }
                None => node.push(original.clone()),
            }
        }
        let read: HashSet<&str> = node.iter().flat_map(|node| &node.input).map(String::as_str).collect();
        let constants: BTreeMap<_, _> =
            read.iter().filter_map(|name| self.constants.get_key_value(*name)).collect();
        // what is not known here as a constant may be known to the other engine
        let others_too = self.onnx.initializer.iter().filter(|tensor| {
            read.contains(tensor.name.as_str()) && !self.constants.contains_key(&tensor.name)
        });
        let initializer = constants.into_iter().map(|(name, constant)| constant.tensor(name));
        let initializer = initializer.chain(others_too.cloned()).chain(made).collect();
        let entries: Vec<Entry> = part
            .inputs
            .iter()
            .map(|(_, id)| Entry { shape: with_batch(self.graph.values[*id].shape), integers: false })
            .collect();
        let input =
            part.inputs.iter().zip(&entries).map(|((name, _), entry)| port(name, &entry.shape)).collect();
        let output =
            outputs.iter().map(|name| ValueInfoProto { name: (*name).into(), r#type: None }).collect();
        let graph = GraphProto { node, initializer, input, output, ..GraphProto::default() };
        let network = ModelProto {
            ir_version: 8,
            opset_import: others.opsets.to_vec(),
            graph: Some(graph),
            ..ModelProto::default()
        };
        others.engine.prepare(&network, &entries, others.threads)
    }

    /// The form in which a node is given to the other engine, if that is another than its own.
    fn form(&self, node: &NodeProto) -> Result<Option<foreign::Form>, Reason> {
        let shape = |name: &str| match self.known.get(name)? {
            Known::Value(_, shape) => Some(with_batch(*shape)),
            Known::Other(part) => {
                let row = self.shape_in(*part, name).ok()?;
                Some(std::iter::once(1).chain(row).collect())
            }
            Known::Class => None,
        };
        let around = Around { opset: self.opset, constants: &self.constants, shape: &shape };
        foreign::form(node, &around)
    }

    /// The shape of a value in a part, without the batch axis.
    pub(super) fn shape_in(&self, part: usize, name: &str) -> Result<Vec<usize>, Reason> {
        if let Some(known) = self.shapes.borrow().get(name) {
            return known.clone();
        }
        let row = self.ask_for_shape(part, name);
        self.shapes.borrow_mut().insert(name.to_string(), row.clone());
        row
    }

    fn ask_for_shape(&self, part: usize, name: &str) -> Result<Vec<usize>, Reason> {
        let asked = self.asked.get() + self.parts[part].nodes.len();
        self.asked.set(asked);
        if asked > limits::MAX_NODES_ASKED {
            return Err("too many nodes without a kernel, whose shapes take too long to find".into());
        }
        let prepared = self.prepared(&self.parts[part], &[name])?;
        match prepared.output_shape(0).as_deref() {
            Some([1, row @ ..]) => Ok(row.to_vec()),
            Some(shape) => Err(format!("{name:?} has shape {shape:?} for one picture")),
            None => Err(format!("{name:?} is not float32")),
        }
    }

    /// Makes a value of a part one of the kernels'.
    pub(super) fn export(&mut self, name: &'a str, part: usize) -> Result<(), Reason> {
        let row = self.shape_in(part, name)?;
        let shape = Shape::of(&row).ok_or_else(|| format!("{name:?} is no picture and no vector"))?;
        if !shape.is_sound() {
            return Err(format!("{name:?} would hold {row:?} values"));
        }
        let id = self.new_value(shape, Number::Float, part + 1);
        self.parts[part].exports.push((name.to_string(), id, shape));
        self.known.insert(name, Known::Value(id, shape));
        Ok(())
    }

    /// Gives a node to the other engine: into the first part that has all that it reads.
    pub(super) fn leave(&mut self, node: &'a NodeProto, reason: Reason) -> Result<(), Reason> {
        let Some(others) = self.others else { return Err(reason) };
        foreign::check(node, &self.constants)?;
        if node.attribute.iter().any(|attribute| attribute.g.is_some() || !attribute.graphs.is_empty()) {
            return Err(reason);
        }
        let names = || node.input.iter().filter(|name| !name.is_empty());
        // without a look at a part, and with one if there is no other way
        let known_rank = |name: &str| match self.known.get(name) {
            Some(Known::Value(_, shape)) => Some(shape.dims().len() + 1),
            Some(Known::Other(_)) => self.ranks.get(name).copied(),
            Some(Known::Class) => Some(1),
            None => self.constants.get(name).map(|constant| constant.dims.len()),
        };
        let asked_rank = |name: &str| match self.known.get(name) {
            Some(Known::Other(part)) => Some(self.shape_in(*part, name).ok()?.len() + 1),
            _ => None,
        };
        let rank_of = |name: &str| known_rank(name).or_else(|| asked_rank(name));
        foreign::check_rank(node, rank_of)?;
        let rank = || rank_of(names().next()?);
        let made_rank = foreign::rank_of_output(node, &self.constants, known_rank);
        let (mut index, mut follows, mut read) = (0, false, Vec::new());
        for name in names() {
            match self.known.get(name.as_str()) {
                Some(Known::Value(id, _)) if self.graph.values[*id].number == Number::Float => {
                    index = index.max(self.depths[*id]);
                    read.push((name.clone(), *id));
                }
                Some(Known::Other(part)) => (index, follows) = (index.max(*part), true),
                None => {}
                _ => return Err(reason),
            }
        }
        let of_pictures = follows || !read.is_empty();
        if of_pictures && !others.one_picture && !foreign::keeps_pictures_apart(node, rank, &self.constants) {
            return Err(reason);
        }
        // what cannot be given to it in a form that it gets right stays out of every part
        self.form(node)?;
        // what an earlier part has made
        for name in names() {
            if let Some(Known::Other(part)) = self.known.get(name.as_str())
                && *part < index
            {
                self.export(name, *part)?;
                if let Some(Known::Value(id, _)) = self.known.get(name.as_str()) {
                    read.push((name.clone(), *id));
                }
            }
        }
        if self.parts.len() <= index {
            self.parts.resize_with(index + 1, Part::default);
        }
        let part = &mut self.parts[index];
        if part.nodes.len() >= limits::MAX_FOREIGN_NODES {
            return Err(format!("{} nodes in a row without a kernel: too many", part.nodes.len()));
        }
        part.nodes.push(self.source);
        for (name, id) in read {
            if !part.inputs.iter().any(|(known, _)| *known == name) {
                part.inputs.push((name, id));
            }
        }
        self.reasons.insert(self.source, if follows { "as what it reads".into() } else { reason });
        for output in node.output.iter().filter(|name| !name.is_empty()) {
            self.known.insert(output, Known::Other(index));
        }
        if let (Some(output), Some(rank)) = (node.output.first(), made_rank) {
            self.ranks.insert(output, rank);
        }
        Ok(())
    }

    /// Puts the parts between the kernels' operators.
    pub(super) fn close_parts(&mut self) -> Result<(), Reason> {
        for part in std::mem::take(&mut self.parts) {
            let names: Vec<&str> = part.exports.iter().map(|(name, ..)| name.as_str()).collect();
            if names.is_empty() {
                continue; // nobody reads it
            }
            let prepared = self.prepared(&part, &names)?;
            let reason = |node: &usize| (*node, self.reasons.get(node).cloned().unwrap_or_default());
            let engine = self.others.map_or("", |others| others.engine.name());
            let other = Other { prepared, engine, reasons: part.nodes.iter().map(reason).collect() };
            let total = part.exports.iter().map(|(_, _, shape)| shape.values()).sum();
            if total > limits::MAX_TENSOR_VALUES {
                return Err(format!("what comes out of {engine}'s part holds {total} values, too many"));
            }
            let output = match part.exports[..] {
                [(_, id, _)] => id,
                _ => self.new_value(Shape::Vector(total), Number::Float, 0),
            };
            let inputs = part.inputs.iter().map(|(_, id)| *id).collect();
            self.graph.nodes.push(Node {
                op: Op::Other(Box::new(other)),
                inputs,
                output,
                sources: part.nodes,
            });
            let mut first = 0;
            for (_, id, shape) in part.exports.iter().filter(|(_, id, _)| *id != output) {
                let places = (first..first + shape.values()).map(|place| place as u32).collect();
                first += shape.values();
                let op = Op::Move(Move::Gather(places));
                self.graph.nodes.push(Node { op, inputs: vec![output], output: *id, sources: vec![] });
            }
        }
        self.graph.sort();
        Ok(())
    }
}

fn with_batch(shape: Shape) -> Vec<usize> {
    std::iter::once(1).chain(shape.dims()).collect()
}

fn port(name: &str, shape: &[usize]) -> ValueInfoProto {
    let dim = shape.iter().map(|size| Dimension(Some(Size::Value(*size as i64)))).collect();
    let tensor = TensorType { elem_type: DataType::Float as i32, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type: Some(tensor) }) }
}
