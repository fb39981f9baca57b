//! Files as exporters write them → one form: functions inlined, nodes in an order in which they can run, no constants among
//! the inputs, and operators of old versions as version 11 of ONNX's operators has them
//! (<https://github.com/onnx/onnx/blob/main/docs/Changelog.md>).

use std::collections::{HashMap, HashSet};

use super::attributes::Attributes;
use super::tensor::Constant;
use super::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
};
use crate::limits::{Budget, MAX_NODES};
use prost::Message;

/// Versions of ONNX's operators whose files are read.
pub(crate) const OPSETS: std::ops::RangeInclusive<i64> = 6..=25;
/// The version that older files are brought to.
const OLDEST: i64 = 11;
/// Functions that call each other, one inside of the other.
const MOST_CALLS: usize = 32;

/// The version of ONNX's own operators.
pub(crate) fn opset_of(imports: &[OperatorSetIdProto]) -> Option<i64> {
    imports.iter().rfind(|import| import.is_onnx()).map(|import| import.version)
}

impl ModelProto {
    /// Brings a file into the form that the rest of this crate reads.
    ///
    /// # Errors
    /// What cannot be brought into it, on one line.
    pub(crate) fn normalise(&mut self) -> Result<(), String> {
        let opset = self.opset().unwrap_or(OLDEST);
        self.inline(opset)?;
        let Some(graph) = &mut self.graph else { return Ok(()) };
        let constants: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
        // old files list all weights, and what nobody gives has its constant's value
        graph.input.retain(|input| !constants.contains(input.name.as_str()));
        if !is_sorted(graph) {
            sort(graph)?;
        }
        // onnxruntime's quantiser wrote these before ONNX had them for all types: they mean the same
        let adopted = |node: &&mut NodeProto| {
            node.domain == "com.microsoft"
                && matches!(node.op_type.as_str(), "QuantizeLinear" | "DequantizeLinear")
        };
        graph.node.iter_mut().filter(adopted).for_each(|node| node.domain.clear());
        if opset < OLDEST {
            upgrade(graph, opset)?;
            for import in self.opset_import.iter_mut().filter(|import| import.is_onnx()) {
                import.version = OLDEST;
            }
        }
        Ok(())
    }

    /// The version of ONNX's own operators.
    pub(crate) fn opset(&self) -> Option<i64> {
        opset_of(&self.opset_import)
    }

    /// Puts the nodes of functions where they are called.
    fn inline(&mut self, opset: i64) -> Result<(), String> {
        if self.functions.is_empty() {
            return Ok(());
        }
        let functions = std::mem::take(&mut self.functions);
        let Some(graph) = &mut self.graph else { return Ok(()) };
        let mut inlining =
            Inlining { functions: HashMap::new(), opset, nodes: Vec::new(), calls: 0, budget: Budget::new() };
        for function in &functions {
            inlining.functions.insert((&function.domain, &function.name, &function.overload), function);
        }
        for node in std::mem::take(&mut graph.node) {
            inlining.take(node, 0)?;
        }
        graph.node = inlining.nodes;
        Ok(())
    }
}

/// Nodes with the functions that they call.
struct Inlining<'a> {
    /// By domain, name and overload.
    functions: HashMap<(&'a str, &'a str, &'a str), &'a FunctionProto>,
    opset: i64,
    nodes: Vec<NodeProto>,
    calls: usize,
    budget: Budget,
}

impl Inlining<'_> {
    fn take(&mut self, node: NodeProto, depth: usize) -> Result<(), String> {
        let key = (node.domain.as_str(), node.op_type.as_str(), node.overload.as_str());
        let Some(function) = self.functions.get(&key).copied() else {
            if self.nodes.len() >= MAX_NODES {
                return Err(format!("more than {MAX_NODES} nodes with its functions: too many"));
            }
            self.nodes.push(node);
            return Ok(());
        };
        let refused = |problem: &str| Err(format!("function {:?}: {problem}", function.name));
        if depth >= MOST_CALLS || self.calls >= MAX_NODES {
            return refused("it calls itself, or too many others");
        }
        if opset_of(&function.opset_import).is_some_and(|own| own != self.opset) {
            return refused("it is of another opset than the model");
        }
        if node.input.len() > function.input.len() || node.output.len() > function.output.len() {
            return refused("it is called with more inputs or outputs than it has");
        }
        self.calls += 1;
        let prefix = format!("{}#{}/", function.name, self.calls);
        let actual = |formal: &[String], actual: &[String]| -> Vec<(String, String)> {
            let given = actual.iter().cloned().chain(std::iter::repeat(String::new()));
            formal.iter().cloned().zip(given).collect()
        };
        let mut names: HashMap<String, String> = actual(&function.input, &node.input).into_iter().collect();
        let inputs = names.clone();
        for (formal, given) in actual(&function.output, &node.output) {
            if let Some(from) = inputs.get(&formal).filter(|_| !given.is_empty()) {
                // an input that is handed on
                let node = NodeProto {
                    op_type: "Identity".into(),
                    input: vec![from.clone()],
                    output: vec![given],
                    ..NodeProto::default()
                };
                self.nodes.push(node);
            } else if !given.is_empty() {
                names.insert(formal, given);
            }
        }
        for inner in &function.node {
            if inner.attribute.iter().any(|attribute| attribute.g.is_some() || !attribute.graphs.is_empty()) {
                return refused("it holds a node with a graph of its own, which is not supported");
            }
            self.budget.take(inner.encoded_len() as u64)?;
            let mut inner = inner.clone();
            let named = |name: &String| match name.as_str() {
                "" => String::new(),
                _ => names.get(name).cloned().unwrap_or_else(|| format!("{prefix}{name}")),
            };
            inner.input = inner.input.iter().map(named).collect();
            inner.output = inner.output.iter().map(named).collect();
            inner.name =
                if inner.name.is_empty() { String::new() } else { format!("{prefix}{}", inner.name) };
            inner.attribute =
                inner.attribute.into_iter().filter_map(|own| given(own, &node, function)).collect();
            self.take(inner, depth + 1)?;
        }
        Ok(())
    }
}

/// An attribute of a function's node: if it stands for one of the function's, what the call gives for it, or its default.
fn given(own: AttributeProto, call: &NodeProto, function: &FunctionProto) -> Option<AttributeProto> {
    if own.ref_attr_name.is_empty() {
        return Some(own);
    }
    let found = Attributes(call).find(&own.ref_attr_name);
    let default = || function.attribute_proto.iter().find(|default| default.name == own.ref_attr_name);
    found.or_else(default).map(|found| AttributeProto { name: own.name, ..found.clone() })
}

/// Whether every node comes behind those that it reads.
fn is_sorted(graph: &GraphProto) -> bool {
    let mut later: HashSet<&str> =
        graph.node.iter().flat_map(|node| &node.output).map(String::as_str).collect();
    later.remove("");
    graph.node.iter().all(|node| {
        let ready = node.names_used().into_iter().all(|name| !later.contains(name));
        for name in &node.output {
            later.remove(name.as_str());
        }
        ready
    })
}

/// Brings nodes into an order in which they can run, otherwise that of the file.
fn sort(graph: &mut GraphProto) -> Result<(), String> {
    let mut makers: HashMap<&str, usize> = HashMap::new();
    for (index, node) in graph.node.iter().enumerate() {
        for name in node.output.iter().filter(|name| !name.is_empty()) {
            makers.entry(name).or_insert(index);
        }
    }
    let needs: Vec<Vec<usize>> = graph
        .node
        .iter()
        .map(|node| node.names_used().iter().filter_map(|name| makers.get(name).copied()).collect())
        .collect();
    // begun, and done
    let (mut begun, mut done) = (vec![false; needs.len()], vec![false; needs.len()]);
    let mut order = Vec::with_capacity(needs.len());
    for first in 0..needs.len() {
        let mut path = vec![(first, 0)];
        while let Some((node, next)) = path.last_mut() {
            if done[*node] {
                path.pop();
                continue;
            }
            begun[*node] = true;
            match needs[*node].get(*next).copied() {
                Some(need) => {
                    *next += 1;
                    if !done[need] && begun[need] {
                        return Err(format!("node {} needs what it makes itself", graph.node[need].label()));
                    }
                    path.push((need, 0));
                }
                None => {
                    done[*node] = true;
                    order.push(*node);
                    path.pop();
                }
            }
        }
    }
    let mut nodes: Vec<Option<NodeProto>> = std::mem::take(&mut graph.node).into_iter().map(Some).collect();
    graph.node = order.into_iter().filter_map(|index| nodes[index].take()).collect();
    Ok(())
}

/// Operators of a version before 11 in the form of 11.
fn upgrade(graph: &mut GraphProto, opset: i64) -> Result<(), String> {
    let mut tensors = Vec::new();
    for node in graph.node.iter_mut().filter(|node| node.is_onnx()) {
        upgrade_node(node, opset, &mut tensors)
            .map_err(|problem| format!("node {}: {problem}", node.label()))?;
    }
    graph.initializer.append(&mut tensors);
    Ok(())
}

fn upgrade_node(node: &mut NodeProto, opset: i64, tensors: &mut Vec<TensorProto>) -> Result<(), String> {
    let output = node.output.first().cloned().unwrap_or_default();
    let mut constant = |what: &str, value: Constant| {
        let name = format!("{output}/{what}");
        tensors.push(value.tensor(&name));
        name
    };
    let attributes = Attributes(node);
    let integers = |values: &[i64]| Constant::integers_of(vec![values.len()], values.to_vec());
    let number = |value: f32| Constant::floats_of(vec![], vec![value]);
    match node.op_type.as_str() {
        "Add" | "Sub" | "Mul" | "Div" | "And" | "Or" | "Xor" | "Equal" | "Greater" | "Less" | "Pow"
            if opset < 7 =>
        {
            // the second input's axes were the last of the first's, unless an axis said otherwise
            if attributes.find("axis").is_some_and(|axis| axis.i != -1) {
                return Err(
                    "it broadcasts from an axis on, as opset 6 had it: export with opset 7 or later".into()
                );
            }
            node.attribute.retain(|attribute| !matches!(attribute.name.as_str(), "axis" | "broadcast"));
        }
        "Gemm" if opset < 7 => node.attribute.retain(|attribute| attribute.name != "broadcast"),
        "PRelu" if opset < 7 => {
            return Err("a PRelu of opset 6 is not supported: export with opset 7 or later".into());
        }
        "BatchNormalization" if opset < 7 => {
            if attributes.int("is_test", 0) == 0 {
                return Err("a batch norm in training mode: export after model.eval()".into());
            }
            node.attribute.retain(|attribute| attribute.name != "is_test");
        }
        "Dropout" if opset < 7 => {
            if attributes.int("is_test", 0) == 0 {
                return Err("a dropout in training mode: export after model.eval()".into());
            }
            node.attribute.retain(|attribute| attribute.name != "is_test");
        }
        "Clip" => {
            let bounds = [("min", 0), ("max", 1)].map(|(name, _)| {
                attributes.find(name).map_or(String::new(), |bound| constant(name, number(bound.f)))
            });
            node.input.truncate(1);
            node.input.extend(bounds);
            node.attribute.retain(|attribute| !matches!(attribute.name.as_str(), "min" | "max"));
        }
        "Pad" => {
            let pads = constant("pads", integers(attributes.ints("pads")));
            let value = constant("value", number(attributes.float("value", 0.0)));
            node.input.truncate(1);
            node.input.extend([pads, value]);
            node.attribute.retain(|attribute| !matches!(attribute.name.as_str(), "pads" | "value"));
        }
        "Slice" if opset < 10 => {
            let (starts, ends) = (attributes.ints("starts").to_vec(), attributes.ints("ends").to_vec());
            let axes = match attributes.find("axes") {
                Some(axes) => axes.ints.clone(),
                None => (0..starts.len() as i64).collect(),
            };
            let inputs = [("starts", starts), ("ends", ends), ("axes", axes)]
                .map(|(name, values)| constant(name, integers(&values)));
            node.input.truncate(1);
            node.input.extend(inputs);
            node.attribute.retain(|attribute| !matches!(attribute.name.as_str(), "starts" | "ends" | "axes"));
        }
        "Upsample" | "Resize" => {
            let factors = match attributes.find("scales") {
                Some(scales) if opset < 9 => {
                    constant("scales", Constant::floats_of(vec![scales.floats.len()], scales.floats.clone()))
                }
                _ => node.input.get(1).cloned().ok_or("its factors are missing")?,
            };
            node.op_type = "Resize".into();
            node.input.truncate(1);
            node.input.extend([String::new(), factors]);
            node.attribute.retain(|attribute| attribute.name != "scales");
            let text = |name: &str, text: &str| AttributeProto {
                name: name.into(),
                s: text.as_bytes().to_vec(),
                r#type: 3,
                ..AttributeProto::default()
            };
            node.attribute.push(text("coordinate_transformation_mode", "asymmetric"));
            node.attribute.push(text("nearest_mode", "floor"));
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::ValueInfoProto;
    use super::*;

    fn node(kind: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
        NodeProto {
            op_type: kind.into(),
            input: inputs.iter().map(ToString::to_string).collect(),
            output: outputs.iter().map(ToString::to_string).collect(),
            ..NodeProto::default()
        }
    }

    fn model(opset: i64, nodes: Vec<NodeProto>) -> ModelProto {
        let input = ["x", "w"].map(|name| ValueInfoProto { name: name.into(), r#type: None }).to_vec();
        let initializer = vec![Constant::floats_of(vec![], vec![1.0]).tensor("w")];
        let graph = GraphProto { node: nodes, input, initializer, ..GraphProto::default() };
        let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: opset }];
        ModelProto { graph: Some(graph), opset_import, ..ModelProto::default() }
    }

    fn kinds(model: &ModelProto) -> Vec<&str> {
        model.graph.as_ref().unwrap().node.iter().map(|node| node.op_type.as_str()).collect()
    }

    #[test]
    fn nodes_are_sorted_and_constants_are_no_inputs() {
        let nodes = vec![
            node("Tanh", &["c"], &["y"]),
            node("Relu", &["a"], &["b"]),
            node("Add", &["b", "w"], &["c"]),
            node("Neg", &["x"], &["a"]),
        ];
        let mut sorted = model(13, nodes.clone());
        sorted.normalise().unwrap();
        assert_eq!(kinds(&sorted), ["Neg", "Relu", "Add", "Tanh"]);
        assert_eq!(sorted.graph.as_ref().unwrap().input.len(), 1);
        let again = sorted.clone();
        sorted.normalise().unwrap();
        assert!(sorted == again);
        let mut circle = model(13, nodes);
        circle.graph.as_mut().unwrap().node[3].input[0] = "y".into();
        assert!(circle.normalise().unwrap_err().contains("itself"));
    }

    #[test]
    fn functions_are_inlined_with_their_attributes() {
        let attribute = |name: &str, f: f32, from: &str| AttributeProto {
            name: name.into(),
            f,
            ref_attr_name: from.into(),
            r#type: 1,
            ..AttributeProto::default()
        };
        let mut leaky = node("LeakyRelu", &["v"], &["t"]);
        leaky.attribute.push(attribute("alpha", 0.0, "slope"));
        let inner = FunctionProto {
            name: "act".into(),
            domain: "own".into(),
            input: vec!["v".into()],
            output: vec!["t".into()],
            attribute_proto: vec![attribute("slope", 0.3, "")],
            node: vec![leaky],
            ..FunctionProto::default()
        };
        let mut call = node("act", &["m"], &["out"]);
        call.domain = "own".into();
        call.attribute.push(attribute("slope", 0.0, "outer"));
        let outer = FunctionProto {
            name: "twice".into(),
            domain: "own".into(),
            input: vec!["in".into()],
            output: vec!["out".into(), "in".into()],
            node: vec![node("Neg", &["in"], &["m"]), call],
            ..FunctionProto::default()
        };
        let calls = |given: Option<f32>| {
            let mut first = node("twice", &["x"], &["a", "same"]);
            first.domain = "own".into();
            first.attribute.extend(given.map(|slope| attribute("outer", slope, "")));
            let mut second = first.clone();
            (second.input, second.output) = (vec!["a".into()], vec!["y".into()]);
            let mut model = model(13, vec![first, second]);
            model.functions = vec![inner.clone(), outer.clone()];
            model
        };
        let mut called = calls(Some(0.1));
        called.normalise().unwrap();
        assert_eq!(kinds(&called), ["Identity", "Neg", "LeakyRelu", "Neg", "LeakyRelu"]);
        let nodes = &called.graph.as_ref().unwrap().node;
        assert_eq!((nodes[0].output[0].as_str(), nodes[2].output[0].as_str()), ("same", "a"));
        assert_eq!(nodes[2].attribute[0].f, 0.1);
        assert_ne!(nodes[1].output, nodes[3].output, "each call has its own values");
        let mut defaulted = calls(None);
        defaulted.normalise().unwrap();
        assert_eq!(defaulted.graph.as_ref().unwrap().node[2].attribute[0].f, 0.3);
        // a function that calls itself
        let mut endless = calls(None);
        endless.functions[0].node[0].op_type = "act".into();
        endless.functions[0].node[0].domain = "own".into();
        assert!(endless.normalise().unwrap_err().contains("itself"));
        // each calls the next one twice, and the last holds nothing
        let mut doubling = model(13, vec![NodeProto { domain: "own".into(), ..node("f0", &["x"], &["y"]) }]);
        doubling.functions = (0..30)
            .map(|index| {
                let call =
                    || NodeProto { domain: "own".into(), ..node(&format!("f{}", index + 1), &[], &[]) };
                FunctionProto {
                    name: format!("f{index}"),
                    domain: "own".into(),
                    input: vec!["x".into()],
                    output: vec!["y".into()],
                    node: if index == 29 { vec![] } else { vec![call(), call()] },
                    ..FunctionProto::default()
                }
            })
            .collect();
        let line = doubling.normalise().unwrap_err();
        assert!(line.contains("too many"), "{line}");
    }

    #[test]
    fn old_operators_become_those_of_version_11() {
        let mut clip = node("Clip", &["x"], &["a"]);
        clip.attribute.push(AttributeProto { name: "min".into(), f: -1.0, ..AttributeProto::default() });
        let mut enlarged = node("Upsample", &["a"], &["y"]);
        enlarged.attribute.push(AttributeProto {
            name: "scales".into(),
            floats: vec![1.0, 1.0, 2.0, 2.0],
            ..AttributeProto::default()
        });
        let mut old = model(7, vec![clip, enlarged]);
        old.normalise().unwrap();
        assert_eq!((kinds(&old), old.opset()), (vec!["Clip", "Resize"], Some(11)));
        let graph = old.graph.as_ref().unwrap();
        assert_eq!(graph.node[0].input, ["x", "a/min", ""]);
        assert_eq!(graph.node[1].input, ["a", "", "y/scales"]);
        assert_eq!(graph.initializer.len(), 3);
        let mut trains = model(6, vec![node("Dropout", &["x"], &["y"])]);
        assert!(trains.normalise().unwrap_err().contains("model.eval()"));
    }
}
