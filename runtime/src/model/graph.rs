//! The ONNX graph before tract sees it: is it sound, what goes in and what comes out.
//!
//! tract trusts the order and the names of a graph's nodes and may panic where they are wrong, so
//! everything it relies on is checked here first. Then the graph is cut down to the nodes that the
//! chosen outputs need: what is left has one float32 input and, if it is told classes, an int64 one behind it.

use super::network::check_size;
use super::{InputShape, Metadata, OpenOptions};
use crate::error::one_line;
use crate::kinds::{Precision, Range};
use crate::onnx::normal::OPSETS;
use crate::onnx::tensor::{Constant, fills_its_shape, is_floats};
use crate::onnx::{
    AttributeProto, DataType, Dimension, EXTERNAL, GraphProto, ModelProto, NodeProto, Size, TensorProto,
    TensorShapeProto, TensorType, TypeProto, ValueInfoProto,
};
use crate::{Error, Result};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Most classes that a file tells apart by a 1 among zeros.
const MOST_CLASSES: usize = 4096;

/// One input or output of a graph, as it is declared.
#[derive(Clone, Debug)]
pub(super) struct Port {
    pub(super) name: String,
    /// `None` where the file leaves the shape out.
    pub(super) dims: Option<Vec<Dim>>,
    pub(super) dtype: i32,
}

/// One size in a declared shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Dim {
    Fixed(i64),
    Symbol(String),
}

impl Dim {
    fn of(size: Option<usize>) -> Self {
        match size.and_then(|size| i64::try_from(size).ok()) {
            Some(size) => Self::Fixed(size),
            None => Self::Symbol("N".into()),
        }
    }

    /// The size, if it is fixed and not negative.
    pub(super) fn size(&self) -> Option<usize> {
        match self {
            Self::Fixed(size) => usize::try_from(*size).ok(),
            Self::Symbol(_) => None,
        }
    }
}

impl Port {
    pub(super) fn of(value: &ValueInfoProto) -> Self {
        let tensor = value.r#type.as_ref().and_then(|declared| declared.tensor_type.as_ref());
        let dims = tensor.and_then(|tensor| tensor.shape.as_ref()).map(|shape| {
            let dims = shape.dim.iter().map(|dim| match &dim.0 {
                Some(Size::Value(size)) => Dim::Fixed(*size),
                Some(Size::Symbol(symbol)) if !symbol.is_empty() => Dim::Symbol(one_line(symbol)),
                _ => Dim::Symbol("?".into()),
            });
            dims.collect()
        });
        Self { name: value.name.clone(), dims, dtype: tensor.map_or(0, |tensor| tensor.elem_type) }
    }

    /// The declared shape as text, for example `N,1,28,28`.
    pub(super) fn shape_text(&self) -> String {
        let Some(dims) = &self.dims else { return "?".into() };
        let texts = dims.iter().map(|dim| match dim {
            Dim::Fixed(size) => size.to_string(),
            Dim::Symbol(symbol) => symbol.clone(),
        });
        texts.collect::<Vec<_>>().join(",")
    }

    /// Takes a shape from the user where the file leaves sizes open.
    fn settle(&mut self, shape: &InputShape, file: &str) -> Result<()> {
        let said = std::iter::once(shape.batch).chain(shape.row.iter().copied().map(Some));
        let mut said: Vec<Dim> = said.map(Dim::of).collect();
        let known = self.dims.as_deref().unwrap_or(&said);
        let agree =
            |(known, said): (&Dim, &Dim)| known == said || known.size().is_none() || said.size().is_none();
        if known.len() != said.len() || !known.iter().zip(&said).all(agree) {
            let problem = format!("input {:?} has shape ({}), not ({shape})", self.name, self.shape_text());
            return Err(Error::unsupported(file, problem));
        }
        for (said, known) in said.iter_mut().zip(self.dims.iter().flatten()) {
            if said.size().is_none() {
                *said = known.clone();
            }
        }
        self.dims = Some(said);
        Ok(())
    }

    /// The batch, if it is fixed, and the shape of the rows behind it; `None` where sizes of rows are open, or 0.
    pub(super) fn rows(&self) -> Option<(Option<usize>, Vec<usize>)> {
        let (batch, row) = self.dims.as_deref()?.split_first()?;
        let fits = match batch.size() {
            Some(batch) => (1..=crate::limits::MAX_BATCH).contains(&batch),
            None => matches!(batch, Dim::Symbol(_)),
        };
        let row: Vec<usize> =
            row.iter().map(|size| size.size().filter(|size| *size > 0)).collect::<Option<_>>()?;
        fits.then(|| (batch.size(), row))
    }

    /// Whether it is of bytes.
    pub(super) fn is_uint8(&self) -> bool {
        self.dtype == DataType::Uint8 as i32
    }

    pub(super) fn dtype_text(&self) -> String {
        dtype_text(self.dtype)
    }

    /// Whether it is of a type of floats, in which float32 values are given or read.
    pub(super) fn is_floats(&self) -> bool {
        is_floats(self.dtype.into())
    }
}

/// An ONNX element type in the words of this project: `float32`, `int64`.
fn dtype_text(code: i32) -> String {
    match DataType::try_from(code) {
        Ok(known) => known.name(),
        Err(_) => format!("element type {code}"),
    }
}

/// A graph cut down to what its outputs need.
pub(super) struct Selection {
    pub(super) input: Port,
    /// The input that tells each row's class, as the file declares it.
    pub(super) class: Option<Port>,
    /// The graph's input that stands for it, int64 (N).
    pub(super) class_input: Option<String>,
    pub(super) outputs: Vec<Port>,
}

/// Checks the operator set, and returns it.
pub(super) fn check_versions(proto: &ModelProto, file: &str) -> Result<u64> {
    if proto.graph.is_none() || proto.opset_import.is_empty() {
        return Err(Error::malformed(file, "this is not an ONNX model: it holds no graph or no opset"));
    }
    let opset = proto.opset();
    let opset = opset.ok_or_else(|| Error::malformed(file, "it does not say which ONNX opset it uses"))?;
    if !OPSETS.contains(&opset) {
        let (first, last) = (OPSETS.start(), OPSETS.end());
        let problem = format!("opset {opset} is not supported: export it with opset {first} to {last}");
        return Err(Error::unsupported(file, problem));
    }
    Ok(opset.unsigned_abs())
}

/// Checks the graph, picks its outputs and input, and removes what they do not need.
pub(super) fn select(
    proto: &mut ModelProto,
    options: &OpenOptions,
    metadata: &Metadata,
    file: &str,
) -> Result<Selection> {
    let graph = proto.graph.as_mut().ok_or_else(|| Error::malformed(file, "it holds no graph"))?;
    check_size(graph).map_err(|problem| Error::unsupported(file, problem))?;
    check_names(graph, file)?;
    let outputs = choose_outputs(graph, options, metadata, file)?;
    keep_what_is_needed(graph, &outputs);
    check_tensors(graph, file)?;
    let (input, class) = choose_inputs(graph, options, metadata, file)?;
    let class_input = class.as_ref().map(|class| tell_class(graph, class));
    let place = |name: &str| match &class_input {
        _ if name == input.name => 0,
        Some(class) if name == class => 1,
        _ => 2,
    };
    graph.input.sort_by_key(|port| place(&port.name));
    for output in outputs.iter().filter(|port| port.is_uint8()) {
        read_pixels(graph, &output.name);
    }
    // what is float16 or float64 in the file is given and read in float32
    for port in graph.input.iter_mut().chain(&mut graph.output) {
        let declared = port.r#type.as_mut().and_then(|declared| declared.tensor_type.as_mut());
        if let Some(declared) = declared.filter(|declared| is_floats(declared.elem_type.into())) {
            declared.elem_type = DataType::Float as i32;
        }
    }
    Ok(Selection { input, class, class_input, outputs })
}

/// Has an output of pixels, uint8 by a Cast at the end, be read as float32: the Cast cuts off what is behind the point.
fn read_pixels(graph: &mut GraphProto, output: &str) {
    let casts =
        |node: &&mut NodeProto| node.op_type == "Cast" && node.output.iter().any(|name| name == output);
    let Some(cast) = graph.node.iter_mut().find(casts) else { return };
    (cast.op_type, cast.attribute) = ("Floor".into(), Vec::new());
    for port in graph.output.iter_mut().filter(|port| port.name == output) {
        let declared = port.r#type.as_mut().and_then(|declared| declared.tensor_type.as_mut());
        if let Some(declared) = declared {
            declared.elem_type = DataType::Float as i32;
        }
    }
}

/// Has a graph be told classes as int64 (N) whatever it declares, and returns the name of that input.
fn tell_class(graph: &mut GraphProto, class: &Port) -> String {
    let integers = class.dtype == DataType::Int64 as i32;
    let columns = class.dims.as_deref().and_then(|dims| dims.get(1)).and_then(Dim::size);
    if integers && columns.is_none() {
        return class.name.clone();
    }
    let name = format!("{}/number", class.name);
    let made = |what: &str| format!("{}/{what}", class.name);
    let node = |kind: &str, inputs: &[&str], output: &str, attribute: Option<(&str, i64)>| NodeProto {
        op_type: kind.into(),
        name: output.into(),
        input: inputs.iter().map(ToString::to_string).collect(),
        output: vec![output.into()],
        attribute: attribute
            .map(|(name, i)| AttributeProto { name: name.into(), i, r#type: 2, ..AttributeProto::default() })
            .into_iter()
            .collect(),
        ..NodeProto::default()
    };
    let mut first = Vec::new();
    if is_floats(class.dtype.into()) {
        // one row of the table for each class: all 0 but its own 1
        let classes = columns.unwrap_or(1);
        let row = |index: usize| (0..classes).map(move |column| if column == index { 1.0 } else { 0.0 });
        let table = Constant::floats_of(vec![classes, classes], (0..classes).flat_map(row).collect());
        graph.initializer.push(table.tensor(&made("table")));
        first.push(node("Gather", &[&made("table"), &name], &class.name, Some(("axis", 0))));
    } else {
        let code = i64::from(class.dtype);
        match columns {
            None => first.push(node("Cast", &[&name], &class.name, Some(("to", code)))),
            Some(_) => {
                let column = Constant::integers_of(vec![2], vec![-1, 1]);
                graph.initializer.push(column.tensor(&made("column")));
                first.push(node("Reshape", &[&name, &made("column")], &made("rows"), None));
                first.push(node("Cast", &[&made("rows")], &class.name, Some(("to", code))));
            }
        }
    }
    graph.node.splice(0..0, first);
    for port in graph.input.iter_mut().filter(|port| port.name == class.name) {
        let shape = TensorShapeProto { dim: vec![Dimension(Some(Size::Symbol("N".into())))] };
        let tensor_type = Some(TensorType { elem_type: DataType::Int64 as i32, shape: Some(shape) });
        *port = ValueInfoProto { name: name.clone(), r#type: Some(TypeProto { tensor_type }) };
    }
    name
}

/// Every name is defined once, and before it is used.
fn check_names(graph: &GraphProto, file: &str) -> Result<()> {
    let mut known = HashSet::new();
    let initializers = graph.initializer.iter().map(|tensor| tensor.name.as_str());
    let inputs = graph.input.iter().map(|input| input.name.as_str());
    if let Some(name) = initializers.chain(inputs).find(|name| !known.insert(*name)) {
        return Err(Error::malformed(file, format!("{name:?} is defined twice")));
    }
    if !graph.sparse_initializer.is_empty() {
        return Err(Error::unsupported(file, "sparse weights are not supported: export them dense"));
    }
    for node in &graph.node {
        // Names inside of a node's own sub-graphs are tract's to check.
        for name in node.input.iter().filter(|name| !name.is_empty()) {
            if !known.contains(name.as_str()) {
                let problem = format!("node {} uses {name:?} before anything defines it", node.label());
                return Err(Error::malformed(file, problem));
            }
        }
        for name in node.output.iter().filter(|name| !name.is_empty()) {
            if !known.insert(name) {
                return Err(Error::malformed(file, format!("{name:?} is defined twice")));
            }
        }
    }
    for output in &graph.output {
        if !known.contains(output.name.as_str()) {
            let problem = format!("nothing computes its output {:?}", output.name);
            return Err(Error::malformed(file, problem));
        }
    }
    Ok(())
}

fn choose_outputs(
    graph: &GraphProto,
    options: &OpenOptions,
    metadata: &Metadata,
    file: &str,
) -> Result<Vec<Port>> {
    let ports: Vec<Port> = graph.output.iter().map(Port::of).collect();
    let find = |name: &str| ports.iter().find(|port| port.name == name).cloned();
    if let Some(name) = &options.output {
        let port = find(name).ok_or_else(|| {
            Error::unsupported(file, format!("no output is called {name:?}; it has {}", list(&ports)))
        })?;
        return Ok(vec![port]);
    }
    // An encoder's two outputs belong together, and come in no particular order.
    let is_encoder = metadata.part.is_none_or(|part| !part.draws());
    if let (true, Some(mean), Some(log_variance)) = (is_encoder, find("mean"), find("log_variance")) {
        return Ok(vec![mean, log_variance]);
    }
    match ports.len() {
        0 => Err(Error::malformed(file, "it has no output")),
        1 => Ok(ports),
        _ => {
            let choice = options.spelling.with("output");
            let problem = format!("it has several outputs: choose one{choice} from {}", list(&ports));
            Err(Error::unsupported(file, problem))
        }
    }
}

/// Removes nodes, inputs and initializers that no chosen output depends on.
fn keep_what_is_needed(graph: &mut GraphProto, outputs: &[Port]) {
    let mut needed: HashSet<String> = outputs.iter().map(|port| port.name.clone()).collect();
    let mut keep = vec![false; graph.node.len()];
    for (index, node) in graph.node.iter().enumerate().rev() {
        if node.output.iter().any(|name| needed.contains(name)) {
            keep[index] = true;
            needed.extend(node.names_used().into_iter().map(str::to_string));
        }
    }
    let mut keep = keep.into_iter();
    graph.node.retain(|_| keep.next().unwrap_or(true));
    graph.initializer.retain(|tensor| needed.contains(&tensor.name));
    graph.input.retain(|input| needed.contains(&input.name));
    graph.value_info.clear(); // shapes follow from the bound input
    let order: HashMap<&str, usize> =
        outputs.iter().enumerate().map(|(index, port)| (port.name.as_str(), index)).collect();
    graph.output.retain(|output| order.contains_key(output.name.as_str()));
    graph.output.sort_by_key(|output| order.get(output.name.as_str()).copied());
}

/// Every weight lies in the file, in a type that is known.
fn check_tensors(graph: &GraphProto, file: &str) -> Result<()> {
    for node in &graph.node {
        for tensor in node.attribute.iter().flat_map(|attribute| attribute.t.iter().chain(&attribute.tensors))
        {
            check_tensor(tensor, file)?;
        }
    }
    graph.initializer.iter().try_for_each(|tensor| check_tensor(tensor, file))
}

fn check_tensor(tensor: &TensorProto, file: &str) -> Result<()> {
    if tensor.data_location == EXTERNAL {
        let problem =
            format!("weight {:?} is stored in another file: save the model as one file", tensor.name);
        return Err(Error::unsupported(file, problem));
    }
    if !fills_its_shape(tensor) {
        let problem = format!("weight {:?} does not hold as many numbers as its shape says", tensor.name);
        return Err(Error::malformed(file, problem));
    }
    use DataType::*;
    match DataType::try_from(tensor.data_type) {
        Ok(
            Float | Double | Float16 | Bfloat16 | Int4 | Int8 | Int16 | Int32 | Int64 | Uint4 | Uint8
            | Uint16 | Uint32 | Uint64 | Bool,
        ) => Ok(()),
        Ok(String) if tensor.raw_data.is_empty() => Ok(()),
        _ => {
            let dtype = dtype_text(tensor.data_type);
            Err(Error::unsupported(file, format!("weight {:?} is {dtype}: not supported", tensor.name)))
        }
    }
}

/// The float32 input, and the one that tells classes.
fn choose_inputs(
    graph: &GraphProto,
    options: &OpenOptions,
    metadata: &Metadata,
    file: &str,
) -> Result<(Port, Option<Port>)> {
    let defaults: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let inputs = graph.input.iter().filter(|input| !defaults.contains(input.name.as_str()));
    let mut ports: Vec<Port> = inputs.map(Port::of).collect();
    // any other int64 (N), a time step for example, is none to guess the value of
    let by_name = |name: &str| {
        let name = name.to_lowercase();
        ["class", "label", "onehot", "one_hot"].iter().any(|word| name.contains(word)) || name == "y"
    };
    let integers = [DataType::Int64 as i32, DataType::Int32 as i32];
    let tells_class = |port: &Port| {
        let fits = match port.dims.as_deref() {
            Some([_]) => integers.contains(&port.dtype),
            Some([_, one]) if integers.contains(&port.dtype) => one.size() == Some(1),
            // a 1 among zeros
            Some([_, classes]) => {
                port.is_floats() && classes.size().is_some_and(|size| (2..=MOST_CLASSES).contains(&size))
            }
            _ => false,
        };
        fits && (!metadata.classes.is_empty() && !port.is_floats() || by_name(&port.name))
    };
    let class =
        ports.iter().position(tells_class).filter(|_| ports.len() > 1).map(|place| ports.remove(place));
    let chosen = match &options.input {
        Some(name) => ports.iter().find(|port| port.name == *name).ok_or_else(|| {
            let problem =
                format!("no input that its output needs is called {name:?}; there is {}", list(&ports));
            Error::unsupported(file, problem)
        })?,
        None => ports.first().ok_or_else(|| Error::malformed(file, "its output depends on no input"))?,
    };
    if ports.len() > 1 {
        let problem = format!(
            "its output needs several inputs, {}: only one, and one int64 (N) called class, are supported; choose another output{}",
            list(&ports),
            options.spelling.with("output")
        );
        return Err(Error::unsupported(file, problem));
    }
    if !chosen.is_floats() {
        let problem =
            format!("input {:?} is {}: only floats are supported", chosen.name, chosen.dtype_text());
        return Err(Error::unsupported(file, problem));
    }
    let mut chosen = chosen.clone();
    if let Some(shape) = &options.shape {
        chosen.settle(shape, file)?;
    }
    if let Some([_, size @ Dim::Symbol(_)]) = chosen.dims.as_deref_mut()
        && let Some(read) = metadata.latent_dim.or_else(|| rows_of_weights(graph, &chosen.name))
    {
        *size = Dim::Fixed(read as i64);
    }
    Ok((chosen, class))
}

/// How many values of a row of an input the matrix has place for that multiplies it.
fn rows_of_weights(graph: &GraphProto, input: &str) -> Option<usize> {
    let reads = |node: &&NodeProto| node.input.first().is_some_and(|name| name == input);
    let node =
        graph.node.iter().find(reads).filter(|node| matches!(node.op_type.as_str(), "Gemm" | "MatMul"))?;
    let weights = graph.initializer.iter().find(|tensor| Some(&tensor.name) == node.input.get(1))?;
    let turned = node.attribute.iter().any(|attribute| attribute.name == "transB" && attribute.i != 0);
    match weights.dims[..] {
        [rows, columns] => usize::try_from(if turned { columns } else { rows }).ok().filter(|size| *size > 0),
        _ => None,
    }
}

/// `"mean" (N,32), "log_variance" (N,32)`.
fn list(ports: &[Port]) -> String {
    let texts = ports.iter().map(|port| format!("{:?} ({})", port.name, port.shape_text()));
    let text = texts.collect::<Vec<_>>().join(", ");
    if text.is_empty() { "none".into() } else { text }
}

/// The range that the last node enforces: sigmoid → unit, tanh → signed. Nodes that only move or
/// store values are passed through.
pub(super) fn range_of_last_node(graph: &GraphProto, output: &str) -> Option<Range> {
    let mut name = output;
    for node in graph.node.iter().rev() {
        if !node.output.iter().any(|output| output == name) {
            continue;
        }
        match node.op_type.as_str() {
            "Sigmoid" => return Some(Range::Unit),
            "Tanh" => return Some(Range::Signed),
            "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Transpose" | "Identity" | "Cast" | "Slice"
            | "DepthToSpace" | "QuantizeLinear" | "DequantizeLinear" => name = node.input.first()?,
            _ => return None,
        }
    }
    None
}

/// What is in a file as it is stored.
pub(super) struct Stored {
    /// What the weights are stored in, for files that do not say.
    pub(super) precision: Precision,
    /// Elements of all weights.
    pub(super) parameters: u64,
    /// How often each operator occurs.
    pub(super) operators: BTreeMap<String, usize>,
}

impl Stored {
    pub(super) fn of(graph: &GraphProto) -> Self {
        Self {
            precision: stored_precision(graph),
            parameters: count_parameters(graph),
            operators: count_operators(graph),
        }
    }
}

fn stored_precision(graph: &GraphProto) -> Precision {
    let holds = |dtype: DataType| graph.initializer.iter().any(|tensor| tensor.data_type == dtype as i32);
    let quantised =
        |node: &NodeProto| node.op_type.contains("QLinear") || node.op_type.contains("QuantizeLinear");
    if graph.node.iter().any(quantised) {
        Precision::Int8
    } else if holds(DataType::Float16) {
        Precision::Fp16
    } else {
        Precision::Fp32
    }
}

/// Elements of all weights: initializers and constants that are not single numbers, shapes or
/// indices (int64), or the factors of a Resize.
fn count_parameters(graph: &GraphProto) -> u64 {
    let resizes = graph.node.iter().filter(|node| node.op_type == "Resize");
    let factors: HashSet<&String> = resizes.flat_map(|node| node.input.iter().skip(1)).collect();
    let initializers = graph.initializer.iter().filter(|tensor| !factors.contains(&tensor.name));
    let constants = graph.node.iter().filter(|node| node.op_type == "Constant");
    let constants = constants.filter(|node| !node.output.iter().any(|name| factors.contains(name)));
    let constants =
        constants.flat_map(|node| node.attribute.iter().filter_map(|attribute| attribute.t.as_ref()));
    let weights = initializers.chain(constants);
    let weights =
        weights.filter(|tensor| tensor.data_type != DataType::Int64 as i32 && !tensor.dims.is_empty());
    weights.filter_map(elements).fold(0, u64::saturating_add)
}

/// Elements that a tensor's shape stands for; `None` if there is no such number.
fn elements(tensor: &TensorProto) -> Option<u64> {
    tensor.dims.iter().try_fold(1u64, |product, dim| product.checked_mul(u64::try_from(*dim).ok()?))
}

fn count_operators(graph: &GraphProto) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for node in &graph.node {
        *counts.entry(node.op_type.clone()).or_insert(0) += 1;
    }
    counts
}
