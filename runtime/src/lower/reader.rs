//! ONNX nodes → [`Graph`]: what a reader knows, and what operators ask it. The operators are in [`ops`](super::ops).

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};

use crate::limits::{self, Budget};
use crate::onnx::attributes::Attributes;
use crate::onnx::normal::opset_of;
use crate::onnx::tensor::{Constant, Numbers, number};
use crate::onnx::{DataType, GraphProto, NodeProto, OperatorSetIdProto, TensorProto};

use super::fold::fold;
use super::graph::{Encoding, Graph, Id, Node, Number, Op, Shape};
use super::ops;
use super::partition::Part;
use super::{Others, Reason, check_scales};

/// What an ONNX name stands for.
pub(super) enum Known {
    /// A value of pictures, with the shape that ONNX gives it: a picture of one pixel is (C, 1, 1) there.
    Value(Id, Shape),
    /// The class of each picture.
    Class,
    /// Made by the part of that number, which another engine runs.
    Other(usize),
}

/// A value of pictures.
pub(super) type Made = (Id, Shape);

pub(super) struct Reader<'a> {
    pub(super) graph: Graph,
    pub(super) constants: HashMap<String, Constant>,
    pub(super) known: HashMap<&'a str, Known>,
    /// The ONNX node that is read.
    pub(super) source: usize,
    pub(super) onnx: &'a GraphProto,
    /// The version of ONNX's operators.
    pub(super) opset: i64,
    pub(super) others: Option<Others<'a>>,
    /// What another engine runs, and what is said of each of its nodes.
    pub(super) parts: Vec<Part>,
    /// How many parts each value comes after.
    pub(super) depths: Vec<usize>,
    /// Shapes of values in parts that were asked for: each costs a look at the whole part.
    pub(super) shapes: RefCell<HashMap<String, Result<Vec<usize>, Reason>>>,
    /// How many axes values in parts have, where that is known without it.
    pub(super) ranks: HashMap<&'a str, usize>,
    /// Nodes that were looked at for shapes.
    pub(super) asked: Cell<usize>,
    pub(super) reasons: HashMap<usize, Reason>,
    pub(super) budget: Budget,
    /// Levels that are int8 in the file.
    signed: HashSet<Id>,
    /// Names that a node or the outside reads.
    read: HashSet<&'a str>,
}

/// What is read of a file.
pub(crate) struct Source<'a> {
    pub(crate) onnx: &'a GraphProto,
    pub(crate) opsets: &'a [OperatorSetIdProto],
    /// The float32 input, the shape of its rows, and the input that tells each picture's class.
    pub(crate) input: &'a str,
    pub(crate) row: &'a [usize],
    pub(crate) class_input: Option<&'a str>,
}

/// The initializers of a graph that no input replaces. Those that cannot be read are left out.
pub(super) fn initializers(graph: &GraphProto) -> HashMap<String, Constant> {
    let inputs: HashSet<&str> = graph.input.iter().map(|input| input.name.as_str()).collect();
    let own = |tensor: &&TensorProto| !inputs.contains(tensor.name.as_str());
    let read = |tensor: &TensorProto| Some((tensor.name.clone(), Constant::of(tensor)?));
    graph.initializer.iter().filter(own).filter_map(read).collect()
}

/// Reads a graph. Without `others` a node that has no kernel is an error.
pub(super) fn read<'a>(source: &Source<'a>, others: Option<Others<'a>>) -> Result<Graph, (usize, Reason)> {
    read_through(source, others).map(|reader| reader.graph)
}

/// The constants that nodes make, by the nodes' places: as tensors of a file, named as what the node makes.
pub(super) fn computed<'a>(
    source: &Source<'a>,
    others: Option<Others<'a>>,
) -> Result<Vec<(usize, TensorProto)>, (usize, Reason)> {
    let reader = read_through(source, others)?;
    let of = |node: usize| {
        let mut made = source.onnx.node[node].output.iter();
        made.find_map(|name| Some((node, reader.constants.get(name)?.tensor(name))))
    };
    Ok(reader.graph.constants.iter().filter_map(|node| of(*node)).collect())
}

fn read_through<'a>(source: &Source<'a>, others: Option<Others<'a>>) -> Result<Reader<'a>, (usize, Reason)> {
    let onnx = source.onnx;
    let shape =
        Shape::of(source.row).ok_or((0, "its input has a shape that is not known here".to_string()))?;
    let graph =
        Graph { values: Vec::new(), nodes: Vec::new(), input: 0, outputs: Vec::new(), constants: Vec::new() };
    let reads = onnx.node.iter().flat_map(|node| &node.input).map(String::as_str);
    let mut reader = Reader {
        graph,
        constants: initializers(onnx),
        known: HashMap::new(),
        source: 0,
        onnx,
        opset: opset_of(source.opsets).unwrap_or(0),
        others,
        parts: Vec::new(),
        depths: Vec::new(),
        shapes: RefCell::default(),
        asked: Cell::new(0),
        ranks: HashMap::new(),
        reasons: HashMap::new(),
        budget: Budget::new(),
        signed: HashSet::new(),
        read: reads.chain(onnx.output.iter().map(|output| output.name.as_str())).collect(),
    };
    reader.graph.input = reader.new_value(shape, Number::Float, 0);
    let id = reader.graph.input;
    let named = |name: &str| onnx.input.iter().map(|port| port.name.as_str()).find(|own| *own == name);
    named(source.input).map(|name| reader.known.insert(name, Known::Value(id, shape)));
    source.class_input.and_then(named).map(|name| reader.known.insert(name, Known::Class));
    for (index, node) in onnx.node.iter().enumerate() {
        reader.source = index;
        reader.come_back(node);
        let read = reader.node(node).or_else(|reason| reader.leave(node, reason));
        read.map_err(|reason| (index, reason))?;
    }
    for output in &onnx.output {
        if let Some(Known::Other(part)) = reader.known.get(output.name.as_str()) {
            reader.export(&output.name, *part).map_err(|reason| (onnx.node.len(), reason))?;
        }
        match reader.known.get(output.name.as_str()) {
            Some(Known::Value(id, _)) => reader.graph.outputs.push(*id),
            _ => return Err((onnx.node.len(), format!("output {:?} is no value of pictures", output.name))),
        }
    }
    reader.close_parts().map_err(|reason| (onnx.node.len(), reason))?;
    Ok(reader)
}

impl<'a> Reader<'a> {
    fn node(&mut self, node: &'a NodeProto) -> Result<(), Reason> {
        if node.is_onnx() && node.op_type == "Split" && self.value(node, 0).is_ok() {
            for (output, (id, shape)) in node.output.iter().zip(ops::split(self, node)?) {
                self.known.insert(output, Known::Value(id, shape));
            }
            return Ok(());
        }
        let mut outputs = node.output.iter().filter(|name| self.read.contains(name.as_str()));
        let output = match (outputs.next(), outputs.next()) {
            // an output that somebody reads, and it is the first
            (Some(output), None) if node.output.first() == Some(output) => output,
            // or nobody
            (None, _) => node.output.first().ok_or("it has no output")?,
            _ => return Err("of its outputs another than the first is read".into()),
        };
        if let Some(constant) = self.constant(node)? {
            self.constants.insert(output.clone(), constant);
            self.graph.constants.push(self.source);
            return Ok(());
        }
        let told = node.input.first().and_then(|name| self.known.get(name.as_str()));
        let integers = [DataType::Int32 as i64, DataType::Int64 as i64];
        let hands_on = match node.op_type.as_str() {
            "Cast" => integers.contains(&Attributes(node).int("to", 0)),
            kind => kind == "Identity",
        };
        if let (Some(Known::Class), true) = (told, hands_on && node.is_onnx()) {
            self.known.insert(output, Known::Class);
            return Ok(());
        }
        let (id, shape) = ops::read(self, node)?;
        if !shape.is_sound() {
            return Err(format!("it would hold {:?} values", shape.dims()));
        }
        self.known.insert(output, Known::Value(id, shape));
        Ok(())
    }

    /// A node that makes a constant out of constants, or out of a value's shape.
    fn constant(&self, node: &'a NodeProto) -> Result<Option<Constant>, Reason> {
        if node.is_onnx() && node.op_type == "Shape" {
            return self.shape_of(node);
        }
        fold(node, |name| self.constants.get(name))
    }

    /// The batch counts as one picture.
    fn shape_of(&self, node: &'a NodeProto) -> Result<Option<Constant>, Reason> {
        use crate::onnx::attributes::Type::Int;
        let attributes = Attributes(node);
        attributes.check(&[("start", Int), ("end", Int)])?;
        let name = self.named(node, 0).ok_or("input 0 is missing")?;
        let dims: Vec<usize> = match (self.known.get(name), self.constants.get(name)) {
            (Some(Known::Value(_, shape)), _) => std::iter::once(1).chain(shape.dims()).collect(),
            (Some(Known::Other(part)), _) => std::iter::once(1).chain(self.shape_in(*part, name)?).collect(),
            (None, Some(constant)) => constant.dims.clone(),
            _ => return Ok(None),
        };
        let at = |name: &str, default: usize| {
            let at = attributes.int(name, default as i64);
            let at = if at < 0 { at.saturating_add(dims.len() as i64) } else { at };
            at.clamp(0, dims.len() as i64) as usize
        };
        let (start, end) = (at("start", 0), at("end", dims.len()));
        let dims: Vec<i64> = dims.iter().map(|size| *size as i64).collect();
        let chosen = dims.get(start..end).unwrap_or_default().to_vec();
        Ok(Some(Constant::integers_of(vec![chosen.len()], chosen)))
    }

    pub(super) fn named(&self, node: &'a NodeProto, index: usize) -> Option<&'a str> {
        node.input.get(index).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// A value of pictures.
    pub(super) fn value(&self, node: &'a NodeProto, index: usize) -> Result<Made, Reason> {
        let name = self.named(node, index).ok_or_else(|| format!("input {index} is missing"))?;
        match self.known.get(name) {
            Some(Known::Value(id, shape)) => Ok((*id, *shape)),
            _ => Err(format!("input {name:?} is no value of pictures")),
        }
    }

    /// A value of pictures, float32, of no more than three axes.
    pub(super) fn plane_value(&self, node: &'a NodeProto, index: usize) -> Result<Made, Reason> {
        let made = self.float_value(node, index)?;
        let kind = &node.op_type;
        match made.1.is_plane() {
            true => Ok(made),
            false => Err(format!("{kind} of values of {} axes has no kernel here", made.1.dims().len() + 1)),
        }
    }

    /// A value of pictures, float32.
    pub(super) fn float_value(&self, node: &'a NodeProto, index: usize) -> Result<Made, Reason> {
        let made = self.value(node, index)?;
        self.expect(made.0, Number::Float)?;
        Ok(made)
    }

    pub(super) fn expect(&self, value: Id, number: Number) -> Result<(), Reason> {
        match (self.graph.values[value].number == number, number) {
            (true, _) => Ok(()),
            (_, Number::Float) => Err("its input is of integers, not float32".into()),
            (_, Number::Level) => Err("its input is float32, not integers".into()),
        }
    }

    pub(super) fn given(&self, node: &'a NodeProto, index: usize) -> Result<&Constant, Reason> {
        let name = self.named(node, index).ok_or_else(|| format!("input {index} is missing"))?;
        self.constants.get(name).ok_or_else(|| format!("input {name:?} is no constant"))
    }

    /// A constant's values, all finite.
    pub(super) fn floats(&self, node: &'a NodeProto, index: usize) -> Result<Vec<f32>, Reason> {
        let constant = self.given(node, index)?;
        let name = &node.input[index];
        let values = constant.floats().ok_or_else(|| format!("input {name:?} is not float32"))?;
        match values.iter().find(|value| !value.is_finite()) {
            None => Ok(values),
            Some(value) => Err(format!("a value of {name:?} is {value}")),
        }
    }

    pub(super) fn new_value(&mut self, shape: Shape, number: Number, depth: usize) -> Id {
        self.depths.push(depth);
        self.graph.value(shape, number)
    }

    pub(super) fn push(&mut self, op: Op, inputs: Vec<Id>, shape: Shape, number: Number) -> Id {
        let depth = inputs.iter().map(|input| self.depths[*input]).max().unwrap_or(0);
        let output = self.new_value(shape, number, depth);
        self.graph.nodes.push(Node { op, inputs, output, sources: vec![self.source] });
        output
    }

    /// Pushes what makes levels of a type.
    pub(super) fn push_levels(&mut self, op: Op, inputs: Vec<Id>, shape: Shape, kind: DataType) -> Id {
        let id = self.push(op, inputs, shape, Number::Level);
        if kind == DataType::Int8 {
            self.signed.insert(id);
        }
        id
    }

    /// The type of levels in the file.
    pub(super) fn level_type(&self, value: Id) -> DataType {
        if self.signed.contains(&value) { DataType::Int8 } else { DataType::Uint8 }
    }

    /// Scale and zero point at inputs `index` and `index + 1`, one for all values, of levels of a type. A zero point that is
    /// left out is 0 of that type.
    pub(super) fn encoding(
        &self,
        node: &'a NodeProto,
        index: usize,
        kind: DataType,
    ) -> Result<Encoding, Reason> {
        let scale =
            self.given(node, index)?.float().ok_or("a scale of each channel, where one for all is known")?;
        check_scales(&[scale])?;
        let flip = if kind == DataType::Int8 { 0x80 } else { 0 };
        let zero = match self.zero_point(node, index + 1)? {
            None => flip,
            Some(zero) if zero.kind != kind => {
                return Err(format!(
                    "its zero point is {}, and its levels are {}",
                    zero.kind.name(),
                    kind.name()
                ));
            }
            Some(zero) => match &zero.numbers {
                Numbers::Levels(values) if values.len() == 1 => values[0] ^ flip,
                _ => return Err("its zero point is no single int8 or uint8".into()),
            },
        };
        Ok(Encoding { scale, zero })
    }

    /// A zero point that is given, a constant.
    pub(super) fn zero_point(&self, node: &'a NodeProto, index: usize) -> Result<Option<&Constant>, Reason> {
        self.named(node, index).map(|_| self.given(node, index)).transpose()
    }

    /// Scale and zero point of levels whose type the zero point tells, uint8 without one.
    pub(super) fn typed_encoding(
        &self,
        node: &'a NodeProto,
        index: usize,
    ) -> Result<(Encoding, DataType), Reason> {
        let kind = self.zero_point(node, index + 1)?.map_or(DataType::Uint8, |zero| zero.kind);
        Ok((self.encoding(node, index, kind)?, kind))
    }

    /// Integers of a zero point of weights.
    pub(super) fn zeros(&self, constant: &Constant) -> Option<Vec<i16>> {
        let Numbers::Levels(zeros) = &constant.numbers else { return None };
        Some(zeros.iter().map(|zero| number(*zero, constant.is_signed())).collect())
    }
}

impl Shape {
    /// Whether it holds a value, and no more than there may be.
    pub(super) fn is_sound(self) -> bool {
        let values = self.dims().into_iter().try_fold(1usize, usize::checked_mul);
        values.is_some_and(|values| (1..=limits::MAX_TENSOR_VALUES).contains(&values))
    }
}
