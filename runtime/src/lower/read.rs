//! ONNX nodes → [`Graph`].

use std::cell::RefCell;
use std::collections::HashMap;

use crate::onnx::{GraphProto, NodeProto};
use edgegen_kernels::elements::Function;
use edgegen_kernels::{Axis, Kind};

use super::Others;
use super::constants::{Attributes, Constant, Numbers, initializers, number};
use super::graph::{
    Encoding, Graph, Id, Linear, Move, Node, Number, Op, Other, Quantized, Shape, requantised,
};
use super::others::{Part, Source, keeps_pictures_apart};
use crate::model::limits;
use crate::model::stock::Typed;

/// Why a node is not read.
pub(super) type Reason = String;

/// What an ONNX name stands for.
enum Known {
    /// A value of pictures, with the shape that ONNX gives it: a picture of one pixel is (C, 1, 1) there.
    Value(Id, Shape),
    /// The class of each picture.
    Class,
    /// Made by the part of that number, which tract runs.
    Other(usize),
}

struct Reader<'a> {
    graph: Graph,
    constants: HashMap<String, Constant>,
    known: HashMap<&'a str, Known>,
    /// The ONNX node that is read.
    source: usize,
    onnx: &'a GraphProto,
    others: Option<Others<'a>>,
    /// What tract runs, and what is said of each of its nodes.
    parts: Vec<Part>,
    /// Shapes of values in parts that were asked for: each costs a look at the whole part.
    shapes: RefCell<HashMap<String, Result<Vec<usize>, Reason>>>,
    reasons: HashMap<usize, Reason>,
}

/// Reads a graph whose input has rows of shape `row`. `class_input` tells each picture's class. Without `others` a node
/// that has no kernel is an error.
pub(super) fn read<'a>(
    onnx: &'a GraphProto,
    input: &str,
    row: &[usize],
    class_input: Option<&str>,
    others: Option<Others<'a>>,
) -> Result<Graph, (usize, Reason)> {
    let shape = Shape::of(row).ok_or((0, "its input has a shape that is not known here".to_string()))?;
    let graph =
        Graph { values: Vec::new(), nodes: Vec::new(), input: 0, outputs: Vec::new(), constants: Vec::new() };
    let mut reader = Reader {
        graph,
        constants: initializers(onnx),
        known: HashMap::new(),
        source: 0,
        onnx,
        others,
        parts: Vec::new(),
        shapes: RefCell::default(),
        reasons: HashMap::new(),
    };
    let id = reader.graph.value(shape, Number::Float);
    reader.graph.input = id;
    let input = onnx.input.iter().map(|port| port.name.as_str()).find(|name| *name == input);
    input.map(|name| reader.known.insert(name, Known::Value(id, shape)));
    let class = onnx.input.iter().map(|port| port.name.as_str()).find(|name| Some(*name) == class_input);
    class.map(|name| reader.known.insert(name, Known::Class));
    for (index, node) in onnx.node.iter().enumerate() {
        reader.source = index;
        reader.come_back(node);
        let read = reader.node(node).or_else(|reason| reader.leave_to_tract(node, reason));
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
    Ok(reader.graph)
}

/// What is worth leaving tract for.
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

/// Weights in s8 around 0, and their scales: one an output, or one for all.
type Levels = (Vec<i8>, Vec<f32>);

/// A layer's weights: sizes, values in float32, and levels, if they were quantised so that kernels can use them.
type Weights = (Vec<usize>, Vec<f32>, Option<Levels>);

/// A window of a convolution: axes, and rows and columns that are added behind.
struct Window {
    y: Axis,
    x: Axis,
    behind: (usize, usize),
}

impl<'a> Reader<'a> {
    fn node(&mut self, node: &'a NodeProto) -> Result<(), Reason> {
        let [output] = node.output.as_slice() else {
            return Err("it has several outputs".into());
        };
        if let Some(constant) = self.constant(node)? {
            self.constants.insert(output.clone(), constant);
            self.graph.constants.push(self.source);
            return Ok(());
        }
        let (id, shape) = match (node.domain.as_str(), node.op_type.as_str()) {
            ("" | "ai.onnx", "Identity" | "Dropout" | "Cast") => {
                let (id, shape) = self.value(node, 0)?;
                if node.op_type == "Cast" && Attributes(node).int("to", 1) != 1 {
                    return Err("a cast of values to another type than float32".into());
                }
                (id, shape)
            }
            ("" | "ai.onnx", "Gemm" | "MatMul") => self.dense(node)?,
            ("" | "ai.onnx", "Conv") => self.conv(node)?,
            ("" | "ai.onnx", "ConvTranspose") => self.transposed(node)?,
            ("" | "ai.onnx", "QLinearConv") => self.quantized_conv(node)?,
            ("" | "ai.onnx", "QLinearMatMul") => self.quantized_dense(node, false)?,
            ("com.microsoft", "QGemm") => self.quantized_dense(node, true)?,
            ("com.microsoft", "QLinearAdd") => self.quantized_add(node)?,
            ("com.microsoft", "QLinearSigmoid") => self.quantized_function(node, Function::Sigmoid)?,
            ("com.microsoft", "QLinearLeakyRelu") => {
                self.quantized_function(node, Function::Slope(Attributes(node).float("alpha", 0.01)))?
            }
            ("com.microsoft", "QLinearConcat") => self.quantized_concat(node)?,
            ("" | "ai.onnx", "Relu") => self.function(node, Function::Slope(0.0))?,
            ("" | "ai.onnx", "LeakyRelu") => {
                let alpha = Attributes(node).float("alpha", 0.01);
                if !(0.0..=1.0).contains(&alpha) {
                    return Err(format!("a leaky ReLU with a slope of {alpha}"));
                }
                self.function(node, Function::Slope(alpha))?
            }
            ("" | "ai.onnx", "Tanh") => self.function(node, Function::Tanh)?,
            ("" | "ai.onnx", "Sigmoid") => self.function(node, Function::Sigmoid)?,
            ("" | "ai.onnx", "Softmax") => self.softmax(node)?,
            ("" | "ai.onnx", "Clip") => {
                let bound = |index: usize, default: f32| match self.named(node, index) {
                    None => Ok(default),
                    Some(name) => self
                        .constants
                        .get(name)
                        .and_then(Constant::float)
                        .ok_or("a bound that is no constant"),
                };
                let function = Function::Clip(bound(1, f32::MIN)?, bound(2, f32::MAX)?);
                self.function(node, function)?
            }
            ("" | "ai.onnx", "BatchNormalization") => self.batch_norm(node)?,
            ("" | "ai.onnx", "Add" | "Sub" | "Mul" | "Div") => self.arithmetic(node)?,
            ("" | "ai.onnx", "QuantizeLinear") => {
                let (from, shape) = self.value(node, 0)?;
                self.expect(from, Number::Float)?;
                let encoding = self.encoding(node, 1)?;
                (self.push(Op::Quantize(encoding), vec![from], shape, Number::Level), shape)
            }
            ("" | "ai.onnx", "DequantizeLinear") => {
                let (from, shape) = self.value(node, 0)?;
                self.expect(from, Number::Level)?;
                let encoding = self.encoding(node, 1)?;
                (self.push(Op::LookUp(encoding, Function::Identity), vec![from], shape, Number::Float), shape)
            }
            ("" | "ai.onnx", "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze") => self.reshape(node)?,
            ("" | "ai.onnx", "Resize") => self.resize(node)?,
            ("" | "ai.onnx", "DepthToSpace") => self.depth_to_space(node)?,
            ("" | "ai.onnx", "Slice") => self.slice(node)?,
            ("" | "ai.onnx", "Transpose") => self.transpose(node)?,
            ("" | "ai.onnx", "Gather") => self.class_row(node)?,
            ("" | "ai.onnx", "Concat") => self.concat(node)?,
            (domain, kind) => {
                let domain = if domain.is_empty() { String::new() } else { format!("{domain}.") };
                return Err(format!("operator {domain}{kind} has no kernel here"));
            }
        };
        if shape.values() > limits::MAX_TENSOR_VALUES {
            return Err(format!("it would hold {} values, too many", shape.values()));
        }
        self.known.insert(output, Known::Value(id, shape));
        Ok(())
    }

    /// Brings what a layer reads back from tract, where the kernels can take it.
    fn come_back(&mut self, node: &'a NodeProto) {
        for name in node.input.iter().filter(|_| is_layer(node)) {
            if let Some(Known::Other(part)) = self.known.get(name.as_str()) {
                // what cannot come back stays there, and the layer with it
                let _ = self.export(name, *part);
            }
        }
    }

    /// A part for tract, out of which these values come.
    fn typed(&self, part: &Part, outputs: &[&str]) -> Result<Typed, Reason> {
        let opsets = self.others.map_or(&[][..], |others| others.opsets);
        let source = Source { onnx: self.onnx, opsets, constants: &self.constants };
        source.typed(part, |id| self.graph.values[id].shape, outputs)
    }

    /// The shape of a value in a part, without the batch axis.
    fn shape_in(&self, part: usize, name: &str) -> Result<Vec<usize>, Reason> {
        if let Some(known) = self.shapes.borrow().get(name) {
            return known.clone();
        }
        let row = self.ask_for_shape(part, name);
        self.shapes.borrow_mut().insert(name.to_string(), row.clone());
        row
    }

    fn ask_for_shape(&self, part: usize, name: &str) -> Result<Vec<usize>, Reason> {
        let typed = self.typed(&self.parts[part], &[name])?;
        match typed.output_shape(0).as_deref() {
            Some([1, row @ ..]) => Ok(row.to_vec()),
            Some(shape) => Err(format!("{name:?} has shape {shape:?} for one picture")),
            None => Err(format!("{name:?} is not float32")),
        }
    }

    /// Makes a value of a part one of the kernels'.
    fn export(&mut self, name: &'a str, part: usize) -> Result<(), Reason> {
        let row = self.shape_in(part, name)?;
        let shape = Shape::of(&row).ok_or_else(|| format!("{name:?} is no picture and no vector"))?;
        if shape.values() == 0 || shape.values() > limits::MAX_TENSOR_VALUES {
            return Err(format!("{name:?} would hold {} values", shape.values()));
        }
        let id = self.graph.value(shape, Number::Float);
        self.parts[part].exports.push((name.to_string(), id, shape));
        self.known.insert(name, Known::Value(id, shape));
        Ok(())
    }

    /// How many parts each value comes after.
    fn depths(&self) -> Vec<usize> {
        let mut depths = vec![0; self.graph.values.len()];
        for (part, (_, id, _)) in self
            .parts
            .iter()
            .enumerate()
            .flat_map(|(index, part)| part.exports.iter().map(move |e| (index, e)))
        {
            depths[*id] = part + 1;
        }
        for node in &self.graph.nodes {
            depths[node.output] = node.inputs.iter().map(|input| depths[*input]).max().unwrap_or(0);
        }
        depths
    }

    /// Gives a node to tract: into the first part that has all that it reads.
    fn leave_to_tract(&mut self, node: &'a NodeProto, reason: Reason) -> Result<(), Reason> {
        let Some(others) = self.others else { return Err(reason) };
        let mut shapes = node.input.iter().filter_map(|name| self.constants.get(name)?.integers());
        let fills_too_much =
            shapes.any(|shape| limits::overfilled(&node.op_type, shape.iter().copied()).is_some());
        // tract looks at an operator's name alone
        if !matches!(node.domain.as_str(), "" | "ai.onnx") || fills_too_much {
            return Err(reason);
        }
        let names = || node.input.iter().filter(|name| !name.is_empty());
        let rank = || {
            let name = names().next()?;
            match self.known.get(name.as_str())? {
                Known::Value(_, shape) => Some(shape.dims().len() + 1),
                Known::Other(part) => Some(self.shape_in(*part, name).ok()?.len() + 1),
                Known::Class => None,
            }
        };
        let depths = self.depths();
        let (mut index, mut follows, mut read) = (0, false, Vec::new());
        for name in names() {
            match self.known.get(name.as_str()) {
                Some(Known::Value(id, _)) if self.graph.values[*id].number == Number::Float => {
                    index = index.max(depths[*id]);
                    read.push((name.clone(), *id));
                }
                Some(Known::Other(part)) => (index, follows) = (index.max(*part), true),
                None => {}
                _ => return Err(reason),
            }
        }
        let of_pictures = follows || !read.is_empty();
        if of_pictures && !others.one_picture && !keeps_pictures_apart(node, rank, &self.constants) {
            return Err(reason);
        }
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
        Ok(())
    }

    /// Puts the parts between the kernels' operators.
    fn close_parts(&mut self) -> Result<(), Reason> {
        for part in std::mem::take(&mut self.parts) {
            let names: Vec<&str> = part.exports.iter().map(|(name, ..)| name.as_str()).collect();
            if names.is_empty() {
                continue; // nobody reads it
            }
            let typed = self.typed(&part, &names)?;
            let reason = |node: &usize| (*node, self.reasons.get(node).cloned().unwrap_or_default());
            let other = Other { typed, reasons: part.nodes.iter().map(reason).collect() };
            let total = part.exports.iter().map(|(_, _, shape)| shape.values()).sum();
            let output = match part.exports[..] {
                [(_, id, _)] => id,
                _ => self.graph.value(Shape::Vector(total), Number::Float),
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

    fn named(&self, node: &'a NodeProto, index: usize) -> Option<&'a str> {
        node.input.get(index).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// A value of pictures.
    fn value(&self, node: &'a NodeProto, index: usize) -> Result<(Id, Shape), Reason> {
        let name = self.named(node, index).ok_or_else(|| format!("input {index} is missing"))?;
        match self.known.get(name) {
            Some(Known::Value(id, shape)) => Ok((*id, *shape)),
            _ => Err(format!("input {name:?} is no value of pictures")),
        }
    }

    fn expect(&self, value: Id, number: Number) -> Result<(), Reason> {
        match (self.graph.values[value].number == number, number) {
            (true, _) => Ok(()),
            (_, Number::Float) => Err("its input is of integers, not float32".into()),
            (_, Number::Level) => Err("its input is float32, not integers".into()),
        }
    }

    fn given(&self, node: &'a NodeProto, index: usize) -> Result<&Constant, Reason> {
        let name = self.named(node, index).ok_or_else(|| format!("input {index} is missing"))?;
        self.constants.get(name).ok_or_else(|| format!("input {name:?} is no constant"))
    }

    fn floats(&self, node: &'a NodeProto, index: usize) -> Result<Vec<f32>, Reason> {
        let constant = self.given(node, index)?;
        constant.floats().ok_or_else(|| format!("input {:?} is not float32", node.input[index]))
    }

    fn push(&mut self, op: Op, inputs: Vec<Id>, shape: Shape, number: Number) -> Id {
        let output = self.graph.value(shape, number);
        self.graph.nodes.push(Node { op, inputs, output, sources: vec![self.source] });
        output
    }

    /// A node that makes a constant out of constants, or out of a value's shape.
    fn constant(&self, node: &'a NodeProto) -> Result<Option<Constant>, Reason> {
        let attributes = Attributes(node);
        let all: Option<Vec<&Constant>> =
            node.input.iter().filter(|name| !name.is_empty()).map(|name| self.constants.get(name)).collect();
        let integers = |values: Vec<i64>| {
            Some(Constant { dims: vec![values.len()], numbers: Numbers::Integers(values) })
        };
        match (node.op_type.as_str(), all.as_deref()) {
            ("Constant", _) => {
                let ints = attributes.ints("value_ints");
                if let Some(tensor) = attributes.find("value").and_then(|attribute| attribute.t.as_ref()) {
                    let constant = Constant::of(tensor);
                    return constant
                        .map(Some)
                        .ok_or_else(|| "a constant of a type that is not known here".into());
                }
                if attributes.find("value_int").is_some() {
                    let numbers = Numbers::Integers(vec![attributes.int("value_int", 0)]);
                    return Ok(Some(Constant { dims: vec![], numbers }));
                }
                if attributes.find("value_float").is_some() {
                    let numbers = Numbers::Floats(vec![attributes.float("value_float", 0.0)]);
                    return Ok(Some(Constant { dims: vec![], numbers }));
                }
                if ints.is_empty() {
                    Err("a constant of a kind that is not known here".into())
                } else {
                    Ok(integers(ints.to_vec()))
                }
            }
            // the batch counts as one picture
            ("Shape", _) => {
                let row = match self.named(node, 0).map(|name| (name, self.known.get(name))) {
                    Some((_, Some(Known::Value(_, shape)))) => shape.dims(),
                    Some((name, Some(Known::Other(part)))) => self.shape_in(*part, name)?,
                    _ => return Ok(None),
                };
                let dims: Vec<i64> = std::iter::once(1).chain(row.iter().map(|size| *size as i64)).collect();
                let at = |name: &str, default: usize| {
                    let at = attributes.int(name, default as i64);
                    let at = if at < 0 { at.saturating_add(dims.len() as i64) } else { at };
                    at.clamp(0, dims.len() as i64) as usize
                };
                let (start, end) = (at("start", 0), at("end", dims.len()));
                Ok(integers(dims.get(start..end).unwrap_or_default().to_vec()))
            }
            ("DequantizeLinear", Some([levels, scale, ..])) => self.dequantized(node, levels, scale),
            ("Identity", Some([constant])) => Ok(Some((*constant).clone())),
            ("Cast", Some([constant])) => match (&constant.numbers, attributes.int("to", 0)) {
                (Numbers::Floats(_), 1) | (Numbers::Integers(_), 6 | 7) => Ok(Some((*constant).clone())),
                _ => Err("a cast that is not known here".into()),
            },
            ("Gather", Some([data, index])) => {
                let (Some(data), Some([index])) = (data.integers(), index.integers()) else {
                    return Ok(None);
                };
                let at = if *index < 0 { index + data.len() as i64 } else { *index };
                let value =
                    usize::try_from(at).ok().and_then(|at| data.get(at)).ok_or("an index out of bounds")?;
                Ok(integers(vec![*value]))
            }
            ("Unsqueeze" | "Squeeze" | "Reshape", Some([constant, ..])) => {
                let values = constant.integers().ok_or("a constant that is no shape")?;
                Ok(integers(values.to_vec()))
            }
            ("Concat", Some(parts)) => {
                let parts = parts.iter().map(|part| part.integers()).collect::<Option<Vec<_>>>();
                Ok(integers(parts.ok_or("a constant that is no shape")?.concat()))
            }
            ("Slice", Some([data, starts, ends, ..])) => {
                let (data, [start], [end]) = (
                    data.integers().ok_or("a constant that is no shape")?,
                    starts.integers().unwrap_or_default(),
                    ends.integers().unwrap_or_default(),
                ) else {
                    return Err("a slice that is not known here".into());
                };
                let size = data.len() as i64;
                let clamp = |at: i64| if at < 0 { (at + size).max(0) } else { at.min(size) } as usize;
                Ok(integers(data.get(clamp(*start)..clamp(*end)).unwrap_or_default().to_vec()))
            }
            ("Mul" | "Add" | "Sub" | "Div" | "Mod", Some([left, right])) => {
                let (Some(left), Some(right)) = (left.integers(), right.integers()) else { return Ok(None) };
                let count = left.len().max(right.len());
                let value = |index: usize| {
                    let (left, right) = (left[index % left.len()], right[index % right.len()]);
                    match node.op_type.as_str() {
                        "Mul" => left.checked_mul(right),
                        "Add" => left.checked_add(right),
                        "Sub" => left.checked_sub(right),
                        "Mod" => left.checked_rem(right),
                        _ => left.checked_div(right),
                    }
                };
                let empty = left.is_empty() || right.is_empty();
                let values = if empty { None } else { (0..count).map(value).collect() };
                Ok(integers(values.ok_or("arithmetic of shapes that has no result")?))
            }
            _ => Ok(None),
        }
    }

    fn dequantized(
        &self,
        node: &'a NodeProto,
        levels: &Constant,
        scale: &Constant,
    ) -> Result<Option<Constant>, Reason> {
        let zero = self.named(node, 2).map(|_| self.given(node, 2)).transpose()?;
        check_scales(&scale.floats().ok_or("its scale is not float32")?)?;
        Ok(Some(Constant::dequantized(levels, scale, zero, Attributes(node).int("axis", 1))?))
    }

    /// Scale and zero point at inputs `index` and `index + 1`, one for all values.
    fn encoding(&self, node: &'a NodeProto, index: usize) -> Result<Encoding, Reason> {
        let scale =
            self.given(node, index)?.float().ok_or("a scale of each channel, where one for all is known")?;
        check_scales(&[scale])?;
        let zero = match self.named(node, index + 1) {
            None => 0,
            Some(_) => self.zero(node, index + 1)?,
        };
        Ok(Encoding { scale, zero })
    }

    /// A zero point, 128 added if it is signed.
    fn zero(&self, node: &'a NodeProto, index: usize) -> Result<u8, Reason> {
        match &self.given(node, index)?.numbers {
            Numbers::Levels(values, signed) if values.len() == 1 => {
                Ok(values[0] ^ if *signed { 0x80 } else { 0 })
            }
            _ => Err("its zero point is no single int8 or uint8".into()),
        }
    }

    /// Weights in float32, and in integers if they are s8 around 0 with a scale for each index of `axis`.
    fn weights(&self, node: &'a NodeProto, index: usize, axis: usize) -> Result<Weights, Reason> {
        let constant = self.given(node, index)?;
        let floats = self.floats(node, index)?;
        if let Some(value) = floats.iter().find(|value| !value.is_finite()) {
            return Err(format!("a weight is {value}"));
        }
        let levels = match &constant.numbers {
            Numbers::Quantized { levels, scales, zeros, axis: found }
                if scales.len() == 1 || *found == axis =>
            {
                let same = zeros.iter().all(|zero| zero == &zeros[0]);
                let level = |level: &i64| i8::try_from(level - zeros[0]).ok();
                levels
                    .iter()
                    .map(level)
                    .collect::<Option<Vec<i8>>>()
                    .filter(|_| same)
                    .map(|l| (l, scales.clone()))
            }
            _ => None,
        };
        Ok((constant.dims.clone(), floats, levels))
    }

    /// The bias at an input, or zeros.
    fn bias(&self, node: &'a NodeProto, index: usize, outputs: usize) -> Result<Vec<f32>, Reason> {
        if self.named(node, index).is_none() {
            return Ok(vec![0.0; outputs]);
        }
        let bias = self.floats(node, index)?;
        match bias.len() == outputs {
            true => Ok(bias),
            false if bias.len() == 1 => Ok(vec![bias[0]; outputs]),
            false => Err(format!("a bias of {} values for {outputs} outputs", bias.len())),
        }
    }

    fn linear(&mut self, linear: Linear, from: Id, shape: Shape) -> Id {
        self.push(Op::Linear(Box::new(linear)), vec![from], shape, Number::Float)
    }

    fn dense(&mut self, node: &'a NodeProto) -> Result<(Id, Shape), Reason> {
        let attributes = Attributes(node);
        let (from, shape) = self.value(node, 0)?;
        self.expect(from, Number::Float)?;
        let turned = node.op_type == "Gemm" && attributes.int("transB", 0) == 1;
        let (dims, floats, levels) = self.weights(node, 1, if turned { 0 } else { 1 })?;
        let plain = attributes.float("alpha", 1.0) == 1.0
            && attributes.float("beta", 1.0) == 1.0
            && attributes.int("transA", 0) == 0;
        let ([rows, columns], Shape::Vector(features), true) = (&dims[..], shape, plain) else {
            return Err("a matrix product of another form than vectors times a constant matrix".into());
        };
        let (inputs, outputs) = if turned { (*columns, *rows) } else { (*rows, *columns) };
        if inputs != features || outputs == 0 {
            return Err(format!("weights of {rows} × {columns} for a vector of {features} values"));
        }
        let weights = if turned { floats } else { transposed(&floats, inputs, outputs) };
        let levels = match turned {
            true => levels,
            false => levels.map(|(levels, scales)| (transposed(&levels, inputs, outputs), scales)),
        };
        let bias = self.bias(node, 2, outputs)?;
        let linear = Linear { kind: Kind::Dense, weights, levels, bias, slope: 1.0 };
        let shape = Shape::Vector(outputs);
        Ok((self.linear(linear, from, shape), shape))
    }

    /// The window of a convolution with a kernel of `size`.
    fn window(node: &'a NodeProto, size: (usize, usize)) -> Result<Window, Reason> {
        let attributes = Attributes(node);
        if attributes.int("group", 1) != 1 {
            return Err(format!("a convolution in {} groups has no kernel here", attributes.int("group", 1)));
        }
        if !matches!(attributes.text("auto_pad", "NOTSET"), "NOTSET" | "") {
            return Err("auto_pad has no kernel here: give pads".into());
        }
        let kernel_shape = attributes.ints("kernel_shape");
        if !kernel_shape.is_empty() && kernel_shape != [size.0 as i64, size.1 as i64] {
            return Err("kernel_shape and the weights differ".into());
        }
        let pair = |name: &str, default: i64| match attributes.ints(name) {
            [] => Ok((default as usize, default as usize)),
            [y, x] => match (usize::try_from(*y), usize::try_from(*x)) {
                (Ok(y), Ok(x)) if y <= limits::MAX_IMAGE_SIDE && x <= limits::MAX_IMAGE_SIDE => Ok((y, x)),
                _ => Err(format!("{name} of {y} and {x}")),
            },
            _ => Err(format!("{name} of another number than two")),
        };
        let (strides, dilations) = (pair("strides", 1)?, pair("dilations", 1)?);
        let pads = attributes.ints("pads");
        let pads: Vec<usize> = pads.iter().filter_map(|pad| usize::try_from(*pad).ok()).collect();
        let [top, left, bottom, right] = match pads[..] {
            [] if attributes.ints("pads").is_empty() => [0; 4],
            [top, left, bottom, right] if pads.iter().all(|pad| *pad <= limits::MAX_IMAGE_SIDE) => {
                [top, left, bottom, right]
            }
            _ => return Err("pads that are not four sizes".into()),
        };
        if strides.0 * strides.1 * dilations.0 * dilations.1 * size.0 * size.1 == 0 {
            return Err("a stride, dilation or kernel of 0".into());
        }
        let axis = |kernel, stride, padding, dilation| Axis { kernel, stride, padding, dilation };
        Ok(Window {
            y: axis(size.0, strides.0, top, dilations.0),
            x: axis(size.1, strides.1, left, dilations.1),
            behind: (bottom, right),
        })
    }

    fn conv(&mut self, node: &'a NodeProto) -> Result<(Id, Shape), Reason> {
        let (from, shape) = self.value(node, 0)?;
        self.expect(from, Number::Float)?;
        let (dims, weights, levels) = self.weights(node, 1, 0)?;
        let (kind, shape) = conv_kind(node, shape, &dims)?;
        let bias = self.bias(node, 2, dims[0])?;
        let linear = Linear { kind, weights, levels, bias, slope: 1.0 };
        Ok((self.linear(linear, from, shape), shape))
    }

    fn transposed(&mut self, node: &'a NodeProto) -> Result<(Id, Shape), Reason> {
        let (from, shape) = self.value(node, 0)?;
        self.expect(from, Number::Float)?;
        let (dims, weights, levels) = self.weights(node, 1, 1)?;
        let (Shape::Image(channels, height, width), [inputs, outputs, kh, kw]) = (shape, &dims[..]) else {
            return Err("weights or a picture of another rank than four".into());
        };
        if inputs != &channels || *outputs == 0 {
            return Err(format!("weights for {inputs} channels, a picture of {channels}"));
        }
        let Window { y, x, behind } = Self::window(node, (*kh, *kw))?;
        let attributes = Attributes(node);
        if y.dilation != 1 || x.dilation != 1 || !attributes.ints("output_shape").is_empty() {
            return Err("a transposed convolution with dilation or output_shape has no kernel here".into());
        }
        let added = match attributes.ints("output_padding") {
            [] => (0, 0),
            [y, x] if (0..64).contains(y) && (0..64).contains(x) => (*y as usize, *x as usize),
            _ => return Err("an output_padding that is not two small sizes".into()),
        };
        let size = |inputs: usize, axis: Axis, added: usize, behind: usize| {
            let whole = (inputs - 1) * axis.stride + axis.kernel + added;
            whole
                .checked_sub(axis.padding + behind)
                .filter(|size| (1..=limits::MAX_IMAGE_SIDE).contains(size))
        };
        let sides = size(height, y, added.0, behind.0).zip(size(width, x, added.1, behind.1));
        let (rows, cols) =
            sides.ok_or("a transposed convolution that leaves no picture, or too large a one")?;
        let made = Shape::Image(*outputs, rows, cols);
        let bias = self.bias(node, 2, *outputs)?;
        let linear = if height * width == 1 {
            // every output pixel reads the only input pixel: a dense layer
            let index = |input: usize, output: usize, row: usize, col: usize| {
                let (ky, kx) = (row + y.padding, col + x.padding);
                (ky < *kh && kx < *kw).then(|| ((input * outputs + output) * kh + ky) * kw + kx)
            };
            let mut places = Vec::with_capacity(made.values() * channels);
            for output in 0..*outputs {
                for row in 0..rows {
                    for col in 0..cols {
                        places.extend((0..channels).map(|input| index(input, output, row, col)));
                    }
                }
            }
            let each =
                |values: &[f32]| values.iter().flat_map(|v| std::iter::repeat_n(*v, rows * cols)).collect();
            Linear {
                kind: Kind::Dense,
                weights: places.iter().map(|at| at.map_or(0.0, |at| weights[at])).collect(),
                levels: levels.map(|(levels, scales)| {
                    let levels = places.iter().map(|at| at.map_or(0, |at| levels[at])).collect();
                    (levels, if scales.len() == 1 { scales } else { each(&scales) })
                }),
                bias: each(&bias),
                slope: 1.0,
            }
        } else {
            Linear { kind: Kind::Transposed { y, x }, weights, levels, bias, slope: 1.0 }
        };
        Ok((self.linear(linear, from, made), made))
    }

    /// Weights of an integer operator at `index`, with scale and zero point behind: s8 around 0, and scales.
    fn integer_weights(
        &self,
        node: &'a NodeProto,
        index: usize,
        outputs_of: impl Fn(&[usize]) -> Option<usize>,
    ) -> Result<(Vec<usize>, Levels), Reason> {
        let constant = self.given(node, index)?;
        let Numbers::Levels(levels, signed) = &constant.numbers else {
            return Err("its weights are neither int8 nor uint8".into());
        };
        let scales = self.floats(node, index + 1)?;
        check_scales(&scales)?;
        let zeros: Vec<i16> =
            match self.named(node, index + 2).map(|_| self.given(node, index + 2)).transpose()? {
                None => vec![0],
                Some(Constant { numbers: Numbers::Levels(zeros, signed), .. }) => {
                    zeros.iter().map(|zero| number(*zero, *signed)).collect()
                }
                Some(_) => return Err("the zero point of its weights is neither int8 nor uint8".into()),
            };
        let outputs = outputs_of(&constant.dims).ok_or("weights of another rank than it needs")?;
        if (scales.len() != 1 && scales.len() != outputs)
            || zeros.is_empty()
            || zeros.iter().any(|z| *z != zeros[0])
        {
            return Err("its weights' scales or zero points do not fit them".into());
        }
        let levels = match (*signed, zeros[0]) {
            (true, 0) => Some(levels.iter().map(|level| *level as i8).collect()),
            (_, zero) => {
                let levels = levels.iter().map(|level| i8::try_from(number(*level, *signed) - zero).ok());
                levels.collect::<Option<Vec<_>>>()
            }
        };
        let levels = levels.ok_or("weights whose zero point is far from their middle have no kernel here")?;
        Ok((constant.dims.clone(), (levels, scales)))
    }

    fn integer_bias(&self, node: &'a NodeProto, index: usize, outputs: usize) -> Result<Vec<i32>, Reason> {
        if self.named(node, index).is_none() {
            return Ok(vec![0; outputs]);
        }
        let bias = self.given(node, index)?.integers().ok_or("its bias is not int32")?;
        let bias: Option<Vec<i32>> = bias.iter().map(|value| i32::try_from(*value).ok()).collect();
        bias.filter(|bias| bias.len() == outputs)
            .ok_or_else(|| "a bias of another size than its outputs".into())
    }

    fn quantized(
        &mut self,
        (kind, (weights, scales)): (Kind, Levels),
        bias: Vec<i32>,
        (from, x): (Id, Encoding),
        (shape, y): (Shape, Encoding),
    ) -> Result<Id, Reason> {
        self.expect(from, Number::Level)?;
        let scales = requantised(x, &scales, y).ok_or("its scales multiply to more than float32 holds")?;
        let (x_zero, y_zero) = (x.zero, y.zero);
        let layer = Quantized { kind, weights, bias, scales, x_zero, y_zero, low: 0, high: 255, slope: 1.0 };
        Ok(self.push(Op::Quantized(Box::new(layer)), vec![from], shape, Number::Level))
    }

    fn quantized_conv(&mut self, node: &'a NodeProto) -> Result<(Id, Shape), Reason> {
        let (from, shape) = self.value(node, 0)?;
        let (x, y) = (self.encoding(node, 1)?, self.encoding(node, 6)?);
        let (dims, weights) = self.integer_weights(node, 3, |dims| dims.first().copied())?;
        let (kind, made) = conv_kind(node, shape, &dims)?;
        let bias = self.integer_bias(node, 8, dims[0])?;
        Ok((self.quantized((kind, weights), bias, (from, x), (made, y))?, made))
    }

    fn quantized_dense(&mut self, node: &'a NodeProto, gemm: bool) -> Result<(Id, Shape), Reason> {
        let attributes = Attributes(node);
        let (from, shape) = self.value(node, 0)?;
        let turned = gemm && attributes.int("transB", 0) == 1;
        let plain = attributes.int("transA", 0) == 0 && attributes.float("alpha", 1.0) == 1.0;
        let y = if gemm { 7 } else { 6 };
        if self.named(node, y).is_none() {
            return Err("a QGemm without a scale of its output has no kernel here".into());
        }
        let (x, y) = (self.encoding(node, 1)?, self.encoding(node, y)?);
        let outputs = |dims: &[usize]| {
            if let [rows, cols] = *dims { Some(if turned { rows } else { cols }) } else { None }
        };
        let (dims, (weights, scales)) = self.integer_weights(node, 3, outputs)?;
        let outputs = outputs(&dims).unwrap_or(0);
        let inputs = weights.len() / outputs.max(1);
        if !plain || shape != Shape::Vector(inputs) {
            return Err("a matrix product of another form than vectors times a constant matrix".into());
        }
        let weights = if turned { weights } else { transposed(&weights, inputs, outputs) };
        let bias = if gemm { self.integer_bias(node, 6, outputs)? } else { vec![0; outputs] };
        let made = Shape::Vector(outputs);
        Ok((self.quantized((Kind::Dense, (weights, scales)), bias, (from, x), (made, y))?, made))
    }

    fn dequantize(&mut self, (from, shape): (Id, Shape), encoding: Encoding) -> Result<Id, Reason> {
        self.expect(from, Number::Level)?;
        Ok(self.push(Op::LookUp(encoding, Function::Identity), vec![from], shape, Number::Float))
    }

    fn quantized_add(&mut self, node: &'a NodeProto) -> Result<(Id, Shape), Reason> {
        let (a, b) = (self.value(node, 0)?, self.value(node, 3)?);
        if a.1 != b.1 {
            return Err("a sum of pictures of different shapes has no kernel here".into());
        }
        let left = self.dequantize(a, self.encoding(node, 1)?)?;
        let right = self.dequantize(b, self.encoding(node, 4)?)?;
        let sum = self.push(Op::Add, vec![left, right], a.1, Number::Float);
        Ok((self.push(Op::Quantize(self.encoding(node, 6)?), vec![sum], a.1, Number::Level), a.1))
    }

    fn quantized_function(&mut self, node: &'a NodeProto, function: Function) -> Result<(Id, Shape), Reason> {
        let x = self.value(node, 0)?;
        let value = self.dequantize(x, self.encoding(node, 1)?)?;
        let value = self.push(Op::Function(function), vec![value], x.1, Number::Float);
        Ok((self.push(Op::Quantize(self.encoding(node, 3)?), vec![value], x.1, Number::Level), x.1))
    }

    fn quantized_concat(&mut self, node: &'a NodeProto) -> Result<(Id, Shape), Reason> {
        let encoding = self.encoding(node, 0)?;
        let mut parts = Vec::new();
        for first in (2..node.input.len()).step_by(3) {
            let part = self.value(node, first)?;
            let value = self.dequantize(part, self.encoding(node, first + 1)?)?;
            parts.push((self.push(Op::Quantize(encoding), vec![value], part.1, Number::Level), part.1));
        }
        self.joined(node, parts)
    }

    fn function(&mut self, node: &'a NodeProto, function: Function) -> Result<(Id, Shape), Reason> {
        let (from, shape) = self.value(node, 0)?;
        self.expect(from, Number::Float)?;
        Ok((self.push(Op::Function(function), vec![from], shape, Number::Float), shape))
    }

    /// Before opset 13 over all axes from its own on, of which a vector has one.
    fn softmax(&mut self, node: &'a NodeProto) -> Result<(Id, Shape), Reason> {
        let (from, shape) = self.value(node, 0)?;
        self.expect(from, Number::Float)?;
        if !matches!((shape, Attributes(node).int("axis", -1)), (Shape::Vector(_), -1 | 1)) {
            return Err("operator Softmax has no kernel here for what is no vector".into());
        }
        Ok((self.push(Op::Softmax, vec![from], shape, Number::Float), shape))
    }

    fn batch_norm(&mut self, node: &'a NodeProto) -> Result<(Id, Shape), Reason> {
        let (from, shape) = self.value(node, 0)?;
        self.expect(from, Number::Float)?;
        let attributes = Attributes(node);
        if attributes.int("training_mode", 0) != 0 {
            return Err("a batch norm in training mode".into());
        }
        let [gamma, beta, mean, variance] = [1, 2, 3, 4].map(|index| self.floats(node, index));
        let (gamma, beta, mean, variance) = (gamma?, beta?, mean?, variance?);
        let channels = shape.channels();
        if [&gamma, &beta, &mean, &variance].iter().any(|values| values.len() != channels) {
            return Err(format!("a batch norm of another size than {channels} channels"));
        }
        let epsilon = attributes.float("epsilon", 1e-5);
        let scale: Vec<f32> = gamma
            .iter()
            .zip(&variance)
            .map(|(gamma, variance)| {
                (f64::from(*gamma) / (f64::from(*variance) + f64::from(epsilon)).sqrt()) as f32
            })
            .collect();
        let shift = (0..channels).map(|c| beta[c] - mean[c] * scale[c]).collect();
        Ok((self.push(Op::Affine { scale, shift }, vec![from], shape, Number::Float), shape))
    }

    /// A value and a constant of each channel, or two values of the same shape.
    fn arithmetic(&mut self, node: &'a NodeProto) -> Result<(Id, Shape), Reason> {
        let kind = node.op_type.as_str();
        let (left, right) = (self.value(node, 0), self.value(node, 1));
        let (value, at) = match (left, right) {
            (Ok(left), Ok(right)) => {
                self.expect(left.0, Number::Float)?;
                self.expect(right.0, Number::Float)?;
                if kind != "Add" || left.1 != right.1 {
                    return Err(format!(
                        "{kind} of two values has no kernel here but for sums of the same shape"
                    ));
                }
                return Ok((self.push(Op::Add, vec![left.0, right.0], left.1, Number::Float), left.1));
            }
            (Ok(value), Err(_)) => (value, 1),
            (Err(_), Ok(value)) => (value, 0),
            (Err(reason), Err(_)) => return Err(reason),
        };
        let (from, shape) = value;
        self.expect(from, Number::Float)?;
        let constant = self.given(node, at)?;
        let values = self.floats(node, at)?;
        let channels = shape.channels();
        // (C), (1, C), (C, 1, 1), (1, C, 1, 1), or one value
        let trailing = shape.dims().len() - 1;
        let dims = &constant.dims;
        let by_channel = values.len() == channels
            && dims.len() > trailing
            && dims[dims.len() - trailing..].iter().all(|size| *size == 1)
            && dims[dims.len() - trailing - 1] == channels;
        let operand: Vec<f32> = match values[..] {
            [one] => vec![one; channels],
            _ if by_channel => values,
            _ => {
                return Err(format!(
                    "{kind} with a constant of another shape than its channels has no kernel here"
                ));
            }
        };
        let ones = vec![1.0; channels];
        let zeros = vec![0.0; channels];
        let negated = |values: &[f32]| values.iter().map(|value| -value).collect::<Vec<_>>();
        let (scale, shift) = match (kind, at) {
            ("Add", _) => (ones, operand),
            ("Sub", 1) => (ones, negated(&operand)),
            ("Sub", _) => (negated(&ones), operand),
            ("Mul", _) => (operand, zeros),
            ("Div", 1) => (operand.iter().map(|value| 1.0 / value).collect(), zeros),
            _ => return Err("a constant divided by values has no kernel here".into()),
        };
        Ok((self.push(Op::Affine { scale, shift }, vec![from], shape, Number::Float), shape))
    }

    fn moved(&mut self, from: Id, moved: Move, shape: Shape) -> Id {
        let number = self.graph.values[from].number;
        self.push(Op::Move(moved), vec![from], shape, number)
    }

    fn reshape(&mut self, node: &'a NodeProto) -> Result<(Id, Shape), Reason> {
        let (from, shape) = self.value(node, 0)?;
        let dims: Vec<i64> = std::iter::once(1).chain(shape.dims().iter().map(|size| *size as i64)).collect();
        let rank = dims.len() as i64;
        let attributes = Attributes(node);
        let axes = || -> Result<Vec<i64>, Reason> {
            match self.named(node, 1) {
                Some(_) => Ok(self.given(node, 1)?.integers().ok_or("axes that are no integers")?.to_vec()),
                None => Ok(attributes.ints("axes").to_vec()),
            }
        };
        let target: Vec<i64> = match node.op_type.as_str() {
            "Flatten" => match attributes.int("axis", 1) {
                1 => vec![1, shape.values() as i64],
                axis => return Err(format!("Flatten at axis {axis} has no kernel here")),
            },
            "Squeeze" => {
                let axes: Vec<i64> = axes()?.iter().map(|axis| axis.rem_euclid(rank)).collect();
                let gone = |(axis, size): &(usize, &i64)| match axes.is_empty() {
                    true => **size == 1 && *axis > 0,
                    false => axes.contains(&(*axis as i64)),
                };
                dims.iter().enumerate().filter(|entry| !gone(entry)).map(|(_, size)| *size).collect()
            }
            "Unsqueeze" => {
                let axes = axes()?;
                let rank = rank + axes.len() as i64;
                let axes: Vec<i64> = axes.iter().map(|axis| axis.rem_euclid(rank)).collect();
                let mut rest = dims.iter();
                (0..rank)
                    .map(|axis| if axes.contains(&axis) { 1 } else { *rest.next().unwrap_or(&1) })
                    .collect()
            }
            _ => {
                let target = self.given(node, 1)?.integers().ok_or("a shape that is not of integers")?;
                let keeps = attributes.int("allowzero", 0) == 0;
                let size = |(axis, size): (usize, &i64)| match size {
                    0 if keeps => dims.get(axis).copied().unwrap_or(0),
                    _ => *size,
                };
                target.iter().enumerate().map(size).collect()
            }
        };
        let values = shape.values() as i64;
        let known: i64 = target.iter().filter(|size| **size != -1).product();
        let open = target.iter().filter(|size| **size == -1).count();
        if open > 1 || known <= 0 || values % known != 0 || target.iter().any(|size| *size < -1) {
            return Err(format!("a shape {target:?} for {values} values"));
        }
        let sizes: Vec<usize> =
            target.iter().map(|size| if *size == -1 { values / known } else { *size } as usize).collect();
        // the first axis stays the batch
        match sizes.split_first() {
            Some((1, rest)) if rest.iter().product::<usize>() == shape.values() => {
                let made = Shape::of(rest)
                    .ok_or_else(|| format!("a shape {target:?} that is no vector and no picture"))?;
                Ok((self.moved(from, Move::Reshape, made), made))
            }
            _ => Err(format!("a shape {target:?} that mixes pictures of a batch")),
        }
    }

    fn resize(&mut self, node: &'a NodeProto) -> Result<(Id, Shape), Reason> {
        let (from, shape) = self.value(node, 0)?;
        let Shape::Image(channels, height, width) = shape else {
            return Err("a Resize of something that is no picture".into());
        };
        let attributes = Attributes(node);
        let by = |ratio: f64| {
            let whole = ratio.round();
            (ratio == whole && (1.0..=64.0).contains(&whole)).then_some(whole as usize)
        };
        let times = match (self.named(node, 2), self.named(node, 3)) {
            (Some(_), None) => match self.floats(node, 2)?[..] {
                [1.0, 1.0, y, x] if y == x => by(f64::from(y)),
                _ => None,
            },
            (_, Some(_)) => match self.given(node, 3)?.integers().unwrap_or_default() {
                [_, c, y, x] if *c == channels as i64 => {
                    let (y, x) = (*y as f64 / height as f64, *x as f64 / width as f64);
                    by(y).filter(|_| y == x)
                }
                _ => None,
            },
            _ => None,
        };
        let times =
            times.ok_or("a Resize by other than the same whole factor of both sides has no kernel here")?;
        let coordinates = attributes.text("coordinate_transformation_mode", "half_pixel");
        let rounding = attributes.text("nearest_mode", "round_prefer_floor");
        let nearest = attributes.text("mode", "nearest") == "nearest";
        let floors = match (coordinates, rounding) {
            ("asymmetric", "floor") => true,
            ("asymmetric", "round_prefer_floor") => times <= 2,
            (
                "half_pixel" | "pytorch_half_pixel" | "half_pixel_symmetric",
                "round_prefer_floor" | "round_prefer_ceil",
            ) => true,
            _ => false,
        };
        if !nearest || !floors {
            return Err(format!(
                "a Resize other than nearest neighbour ({coordinates}, {rounding}) has no kernel here"
            ));
        }
        let made = Shape::Image(channels, height * times, width * times);
        if height.max(width) * times > limits::MAX_IMAGE_SIDE {
            return Err("a Resize to too large a picture".into());
        }
        Ok((self.moved(from, Move::Enlarge(times), made), made))
    }

    fn depth_to_space(&mut self, node: &'a NodeProto) -> Result<(Id, Shape), Reason> {
        let (from, shape) = self.value(node, 0)?;
        let attributes = Attributes(node);
        let Shape::Image(channels, height, width) = shape else {
            return Err("a DepthToSpace of something that is no picture".into());
        };
        let block =
            usize::try_from(attributes.int("blocksize", 0)).ok().filter(|block| (1..=64).contains(block));
        let block = block.filter(|block| channels.is_multiple_of(block * block));
        let block = block.ok_or("a block size that its channels are no multiple of")?;
        let made = Shape::Image(channels / (block * block), height * block, width * block);
        let moved = if attributes.text("mode", "DCR") == "CRD" {
            Move::Shuffle(block)
        } else {
            let (outputs, _, _) = made.image();
            gather(made, |channel, y, x| {
                let of = ((y % block) * block + x % block) * outputs + channel;
                (of * height + y / block) * width + x / block
            })
        };
        Ok((self.moved(from, moved, made), made))
    }

    fn slice(&mut self, node: &'a NodeProto) -> Result<(Id, Shape), Reason> {
        let (from, shape) = self.value(node, 0)?;
        let list = |index: usize| -> Result<Vec<i64>, Reason> {
            Ok(self.given(node, index)?.integers().ok_or("bounds that are no integers")?.to_vec())
        };
        let (starts, ends) = (list(1)?, list(2)?);
        let axes = match self.named(node, 3) {
            Some(_) => list(3)?,
            None => (0..starts.len() as i64).collect(),
        };
        let plain = match self.named(node, 4) {
            Some(_) => list(4)?.iter().all(|step| *step == 1),
            None => true,
        };
        if !plain || ends.len() != starts.len() || axes.len() != starts.len() {
            return Err("a Slice with steps has no kernel here".into());
        }
        let dims = shape.dims();
        let mut cut: Vec<(usize, usize)> = dims.iter().map(|size| (0, *size)).collect();
        for ((axis, start), end) in axes.iter().zip(&starts).zip(&ends) {
            let axis = axis.rem_euclid(dims.len() as i64 + 1) as usize;
            if axis == 0 {
                return Err("a Slice of the batch has no kernel here".into());
            }
            let size = dims[axis - 1] as i64;
            let clamp = |at: i64| if at < 0 { at.saturating_add(size).max(0) } else { at.min(size) } as usize;
            cut[axis - 1] = (clamp(*start), clamp(*end));
        }
        if cut.iter().any(|(from, to)| from >= to) {
            return Err("a Slice that leaves nothing".into());
        }
        let sizes: Vec<usize> = cut.iter().map(|(from, to)| to - from).collect();
        let made = Shape::of(&sizes).ok_or("a Slice of another rank")?;
        let moved = match cut[..] {
            [(0, all), (top, _), (left, _)] if all == dims[0] => Move::Crop(top, left),
            [(first, _), (top, _), (left, _)] => {
                gather(made, |c, y, x| ((c + first) * dims[1] + y + top) * dims[2] + x + left)
            }
            [(first, _)] => gather(made, |c, _, _| c + first),
            _ => return Err("a Slice of another rank".into()),
        };
        Ok((self.moved(from, moved, made), made))
    }

    fn transpose(&mut self, node: &'a NodeProto) -> Result<(Id, Shape), Reason> {
        let (from, shape) = self.value(node, 0)?;
        let (Shape::Image(..), [0, a, b, c]) = (shape, Attributes(node).ints("perm")) else {
            return Err("a Transpose that moves the batch, or of something that is no picture".into());
        };
        let dims = shape.dims();
        let order: Option<Vec<usize>> =
            [a, b, c].iter().map(|axis| usize::try_from(**axis - 1).ok().filter(|axis| *axis < 3)).collect();
        let order = order
            .filter(|order| (0..3).all(|axis| order.contains(&axis)))
            .ok_or("a Transpose of axes that there are not")?;
        let made = Shape::Image(dims[order[0]], dims[order[1]], dims[order[2]]);
        let moved = gather(made, |i, j, k| {
            let mut at = [0; 3];
            [at[order[0]], at[order[1]], at[order[2]]] = [i, j, k];
            (at[0] * dims[1] + at[1]) * dims[2] + at[2]
        });
        Ok((self.moved(from, moved, made), made))
    }

    /// The row of a table that belongs to the picture's class.
    fn class_row(&mut self, node: &'a NodeProto) -> Result<(Id, Shape), Reason> {
        let told = self.named(node, 1).and_then(|name| self.known.get(name));
        if !matches!(told, Some(Known::Class)) || Attributes(node).int("axis", 0) != 0 {
            return Err("a Gather by anything but the class has no kernel here".into());
        }
        let constant = self.given(node, 0)?;
        let [classes, width] = constant.dims[..] else {
            return Err("a table of classes that is no matrix".into());
        };
        let made = Shape::Vector(width);
        if let Numbers::Levels(levels, signed) = &constant.numbers {
            let flip = if *signed { 0x80 } else { 0 };
            let table = levels.iter().map(|level| level ^ flip).collect();
            return Ok((self.push(Op::ClassLevels { classes, table }, vec![], made, Number::Level), made));
        }
        let table = self.floats(node, 0)?;
        Ok((self.push(Op::ClassFloats { classes, table }, vec![], made, Number::Float), made))
    }

    fn concat(&mut self, node: &'a NodeProto) -> Result<(Id, Shape), Reason> {
        let parts =
            (0..node.input.len()).map(|index| self.value(node, index)).collect::<Result<Vec<_>, _>>()?;
        let rank = parts.first().map_or(0, |(_, shape)| shape.dims().len() as i64 + 1);
        if rank == 0 || Attributes(node).int("axis", 1).rem_euclid(rank) != 1 {
            return Err("a Concat of another axis than that of channels has no kernel here".into());
        }
        self.joined(node, parts)
    }

    fn joined(&mut self, _: &'a NodeProto, parts: Vec<(Id, Shape)>) -> Result<(Id, Shape), Reason> {
        let Some((first, shape)) = parts.first().copied() else { return Err("a Concat of nothing".into()) };
        let number = self.graph.values[first].number;
        let same = |(id, other): &(Id, Shape)| {
            self.graph.values[*id].number == number && other.dims()[1..] == shape.dims()[1..]
        };
        if !parts.iter().all(same) {
            return Err("a Concat of values of different sizes or types".into());
        }
        let channels = parts.iter().map(|(_, shape)| shape.channels()).sum();
        let made = match shape {
            Shape::Vector(_) => Shape::Vector(channels),
            Shape::Image(_, height, width) => Shape::Image(channels, height, width),
        };
        Ok((self.push(Op::Concat, parts.iter().map(|(id, _)| *id).collect(), made, number), made))
    }
}

/// A convolution of weights (out, in, kh, kw), and what it makes.
fn conv_kind(node: &NodeProto, shape: Shape, dims: &[usize]) -> Result<(Kind, Shape), Reason> {
    let (Shape::Image(channels, height, width), [outputs, inputs, kh, kw]) = (shape, dims) else {
        return Err("weights or a picture of another rank than four".into());
    };
    let Window { y, x, behind } = Reader::window(node, (*kh, *kw))?;
    if *inputs != channels || *outputs == 0 {
        return Err(format!("weights for {inputs} channels, a picture of {channels}"));
    }
    let size = |inputs: usize, axis: Axis, behind: usize| {
        let reach = (axis.kernel - 1) * axis.dilation + 1;
        (inputs + axis.padding + behind).checked_sub(reach).map(|left| left / axis.stride + 1)
    };
    let sides = size(height, y, behind.0).zip(size(width, x, behind.1));
    let (rows, cols) = sides.ok_or("a kernel that is larger than its picture")?;
    let kind = match (height * width, kh * kw, rows * cols) {
        (1, 1, 1) => Kind::Dense,
        _ => Kind::Conv { y, x, enlarged: 1, block: 1, cropped: 0 },
    };
    Ok((kind, Shape::Image(*outputs, rows, cols)))
}

fn check_scales(scales: &[f32]) -> Result<(), Reason> {
    match scales.iter().find(|scale| !(scale.is_normal() && **scale > 0.0)) {
        None if !scales.is_empty() => Ok(()),
        Some(scale) => Err(format!("a scale is {scale}: it has to be a normal number above 0")),
        None => Err("it has no scale".into()),
    }
}

/// (rows, columns) → (columns, rows).
fn transposed<T: Copy>(values: &[T], rows: usize, columns: usize) -> Vec<T> {
    (0..rows * columns).map(|index| values[index % rows * columns + index / rows]).collect()
}

/// A move to `shape`, by the place in CHW order that each pixel comes from.
fn gather(shape: Shape, from: impl Fn(usize, usize, usize) -> usize) -> Move {
    let (channels, height, width) = shape.image();
    let mut places = Vec::with_capacity(shape.values());
    for channel in 0..channels {
        for y in 0..height {
            places.extend((0..width).map(|x| from(channel, y, x) as u32));
        }
    }
    Move::Gather(places)
}
