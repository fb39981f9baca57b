//! A whole network that another engine runs: constants are computed, every node is checked, and what the engine gets wrong
//! is given to it in another form.
//!
//! tract computes constants while it optimises, but none larger than 4 MiB: a larger weight behind a Cast or a
//! DequantizeLinear would be widened again in every run. Here float32 weights take their place, whatever their size.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};

use crate::onnx::attributes::Attributes;
use crate::onnx::normal::opset_of;
use crate::onnx::tensor::is_floats;
use crate::onnx::{DataType, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, ValueInfoProto};

use super::Reason;
use super::fold::fold;
use super::foreign::{Around, check, check_rank, form, levels_in_floats, rank_of_output};
use super::reader::initializers;

/// Whether a tensor of a file can hold constants of this type as they are kept here.
fn can_be_stored(kind: DataType) -> bool {
    use DataType::*;
    matches!(kind, Float | Int64 | Int32 | Int16 | Uint16 | Int8 | Uint8 | Bool)
}

/// Whether a node computes in integers.
fn computes_in_integers(node: &NodeProto) -> bool {
    let kind = node.op_type.as_str();
    kind.starts_with("QLinear") || kind.ends_with("Integer") || kind == "DynamicQuantizeLinear"
}

/// Most shapes that are asked for: each costs a look at the network so far.
const MOST_ASKED: usize = 100;

/// Brings a graph into the form in which another engine runs it as a whole. `shape` tells the shape of a value of a network, by
/// its name, batch and all, if it is float32; of an input without a network.
///
/// # Errors
/// The node, by its place, that it cannot run, and why.
pub(crate) fn for_engine(
    graph: &mut GraphProto,
    opsets: &[OperatorSetIdProto],
    shape: impl Fn(&ModelProto, &str) -> Option<Vec<usize>>,
) -> Result<(), (usize, Reason)> {
    let asked = Cell::new(0);
    let mut constants = initializers(graph);
    for tensor in &mut graph.initializer {
        let other = tensor.data_type != DataType::Float as i32 && is_floats(tensor.data_type.into());
        if let (true, Some(constant)) = (other, constants.get(&tensor.name)) {
            *tensor = constant.tensor(&tensor.name);
        }
    }
    // integers have to stay integers where something computes in them
    let integers = graph.node.iter().any(computes_in_integers);
    let mut nodes = Vec::with_capacity(graph.node.len());
    let inputs = graph.input.iter().filter_map(|input| {
        let shape = shape(&ModelProto::default(), &input.name)?;
        Some((input.name.clone(), shape.len()))
    });
    let mut ranks: HashMap<String, usize> = inputs.collect();
    for (index, node) in std::mem::take(&mut graph.node).into_iter().enumerate() {
        let named = |reason| (index, reason);
        let folded = fold(&node, |name| constants.get(name)).map_err(named)?;
        if let (Some(constant), [output]) = (folded, node.output.as_slice()) {
            let stored = can_be_stored(constant.kind);
            if stored {
                graph.initializer.push(constant.tensor(output));
            }
            constants.insert(output.clone(), constant);
            if stored {
                continue;
            }
        }
        check(&node, &constants).map_err(named)?;
        let levels = matches!(node.op_type.as_str(), "QuantizeLinear" | "DequantizeLinear");
        let so_far = |name: &str| {
            asked.set(asked.get() + 1);
            if asked.get() > MOST_ASKED {
                return None;
            }
            let part = GraphProto {
                node: nodes.clone(),
                initializer: graph.initializer.clone(),
                input: graph.input.clone(),
                output: vec![ValueInfoProto { name: name.into(), r#type: None }],
                ..GraphProto::default()
            };
            let opset_import = opsets.to_vec();
            let part = ModelProto { ir_version: 8, graph: Some(part), opset_import, ..ModelProto::default() };
            shape(&part, name)
        };
        // without a look at the network, and with one if there is no other way
        let known_rank = |name: &str| {
            let constant = constants.get(name).map(|constant| constant.dims.len());
            constant.or_else(|| ranks.get(name).copied())
        };
        check_rank(&node, |name| known_rank(name).or_else(|| Some(so_far(name)?.len()))).map_err(named)?;
        let made_rank = rank_of_output(&node, &constants, known_rank).zip(node.output.first().cloned());
        let around = Around { opset: opset_of(opsets).unwrap_or(0), constants: &constants, shape: &so_far };
        let stands_for_it = if levels && integers {
            if Attributes(&node).int("output_dtype", 0) != 0 {
                return Err((index, "output_dtype is not supported here: give a zero point".into()));
            }
            let quantizes = node.op_type == "QuantizeLinear";
            if quantizes { levels_in_floats(&node, &around, true) } else { Ok(None) }
        } else {
            form(&node, &around)
        };
        match stands_for_it.map_err(named)? {
            Some((made, tensors)) => {
                nodes.extend(made);
                graph.initializer.extend(tensors);
            }
            None => nodes.push(node),
        }
        ranks.extend(made_rank.map(|(rank, output)| (output, rank)));
    }
    graph.node = nodes;
    let nested =
        graph.node.iter().any(|node| node.attribute.iter().any(|a| a.g.is_some() || !a.graphs.is_empty()));
    if nested {
        return Ok(());
    }
    let outputs = graph.output.iter().map(|output| output.name.as_str());
    let read: HashSet<&str> =
        graph.node.iter().flat_map(|node| &node.input).map(String::as_str).chain(outputs).collect();
    let kept: Vec<bool> =
        graph.initializer.iter().map(|tensor| read.contains(tensor.name.as_str())).collect();
    let mut kept = kept.into_iter();
    graph.initializer.retain(|_| kept.next().unwrap_or(true));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::tensor::Constant;
    use crate::onnx::{AttributeProto, TensorProto};

    fn tensor(name: &str, dims: &[i64], kind: DataType, raw_data: Vec<u8>) -> TensorProto {
        TensorProto {
            name: name.into(),
            dims: dims.to_vec(),
            data_type: kind as i32,
            raw_data: raw_data.into(),
            ..TensorProto::default()
        }
    }

    fn node(kind: &str, inputs: &[&str], output: &str, attribute: Option<(&str, i64)>) -> NodeProto {
        NodeProto {
            op_type: kind.into(),
            input: inputs.iter().map(ToString::to_string).collect(),
            output: vec![output.into()],
            attribute: attribute
                .map(|(name, i)| AttributeProto { name: name.into(), i, ..AttributeProto::default() })
                .into_iter()
                .collect(),
            ..NodeProto::default()
        }
    }

    fn raw(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    /// A graph whose one output reads everything that `nodes` make.
    fn widened(initializer: Vec<TensorProto>, mut nodes: Vec<NodeProto>) -> GraphProto {
        let made: Vec<String> = nodes.iter().flat_map(|node| node.output.clone()).collect();
        let made: Vec<&str> = made.iter().map(String::as_str).collect();
        nodes.push(node("Sum", &made, "y", None));
        let output = vec![ValueInfoProto { name: "y".into(), ..ValueInfoProto::default() }];
        let mut graph = GraphProto { node: nodes, initializer, output, ..GraphProto::default() };
        for_engine(&mut graph, &[], |_, _| None).unwrap();
        graph
    }

    #[test]
    fn halves_and_levels_become_float32_weights_of_any_size() {
        let large = 1 << 21; // twice what tract folds
        let half = vec![edgegen_kernels::half_from_float(0.5).to_le_bytes(); large].concat();
        let graph = widened(
            vec![
                tensor("half", &[large as i64], DataType::Float16, half),
                tensor("levels", &[2, 2, 2], DataType::Int8, vec![1, 2, 3, 4, 253, 6, 7, 8]),
                tensor("scales", &[2], DataType::Float, raw(&[0.5, 2.0])),
                tensor(
                    "bias",
                    &[2],
                    DataType::Int32,
                    [7i32, -9].iter().flat_map(|v| v.to_le_bytes()).collect(),
                ),
                tensor("unsigned", &[2], DataType::Uint8, vec![0, 255]),
                tensor("one", &[], DataType::Float, raw(&[0.25])),
                tensor("zero", &[], DataType::Uint8, vec![128]),
            ],
            vec![
                node("Cast", &["half"], "a", Some(("to", 1))),
                node("DequantizeLinear", &["levels", "scales"], "b", Some(("axis", 1))),
                node("DequantizeLinear", &["bias", "scales"], "c", Some(("axis", 0))),
                node("DequantizeLinear", &["unsigned", "one", "zero"], "d", None),
            ],
        );
        assert_eq!(graph.node.len(), 1);
        let values = |name: &str| {
            let tensor = graph.initializer.iter().find(|tensor| tensor.name == name).unwrap();
            Constant::of(tensor).unwrap().floats().unwrap()
        };
        assert!(values("a").len() == large && values("a").iter().all(|value| *value == 0.5));
        assert_eq!(values("b"), [0.5, 1.0, 6.0, 8.0, -1.5, 3.0, 14.0, 16.0]);
        assert_eq!(values("c"), [3.5, -18.0]);
        assert_eq!(values("d"), [-32.0, 31.75]);
        assert_eq!(graph.initializer.len(), 4, "what was widened is not kept beside");
    }

    #[test]
    fn what_is_no_constant_stays_and_what_does_not_fit_is_named() {
        let graph = widened(
            vec![tensor("short", &[3], DataType::Float16, vec![0; 4])],
            vec![node("Cast", &["short"], "a", Some(("to", 1))), node("Cast", &["x"], "b", Some(("to", 1)))],
        );
        assert_eq!(graph.node.len(), 3);
        let mut graph = GraphProto {
            node: vec![node("DequantizeLinear", &["levels", "scales"], "c", Some(("axis", 0)))],
            initializer: vec![
                tensor("levels", &[2], DataType::Int8, vec![1, 2]),
                tensor("scales", &[3], DataType::Float, raw(&[1.0; 3])),
            ],
            ..GraphProto::default()
        };
        let (node, reason) = for_engine(&mut graph, &[], |_, _| None).unwrap_err();
        assert!(node == 0 && reason.contains("do not fit"), "{reason}");
    }
}
