//! Weights that a file stores in fewer bits: widened once, when it is opened.
//!
//! tract computes constants while it optimises, but none larger than 4 MiB: a larger weight behind a Cast or a
//! DequantizeLinear would be widened again in every run. Here the nodes go, whatever the size, and float32 weights
//! take their place.

use super::limits;
use crate::lower::{Attributes, Constant};
use crate::onnx::{DataType, GraphProto, NodeProto, TensorProto};
use crate::{Error, Result};
use std::collections::{HashMap, HashSet};

/// Replaces every Cast to float32 and every DequantizeLinear of constants by what it makes.
pub(super) fn widen(graph: &mut GraphProto, file: &str) -> Result<()> {
    let mut constants: HashMap<&str, &TensorProto> =
        graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    // an input may replace its default
    graph.input.iter().for_each(|input| {
        constants.remove(input.name.as_str());
    });
    let mut made = Vec::new();
    let mut gone = HashSet::new();
    for node in &graph.node {
        let values = match node.op_type.as_str() {
            "Cast" => cast(node, &constants),
            "DequantizeLinear" => dequantized(node, &constants),
            _ => None,
        };
        let (Some(values), [output]) = (values, node.output.as_slice()) else { continue };
        if values.len() > limits::MAX_TENSOR_VALUES {
            return Err(Error::unsupported(
                file,
                format!("weight {output:?} holds {} values, too many", values.len()),
            ));
        }
        let dims = node
            .input
            .first()
            .and_then(|name| constants.get(name.as_str()))
            .map(|tensor| tensor.dims.clone());
        made.push(TensorProto {
            name: output.clone(),
            dims: dims.unwrap_or_default(),
            data_type: DataType::Float as i32,
            raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            ..TensorProto::default()
        });
        gone.insert(output.clone());
    }
    if made.is_empty() {
        return Ok(());
    }
    graph.node.retain(|node| !node.output.first().is_some_and(|output| gone.contains(output)));
    let outputs = graph.output.iter().map(|output| output.name.as_str());
    let read: HashSet<&str> =
        graph.node.iter().flat_map(|node| &node.input).map(String::as_str).chain(outputs).collect();
    let nested =
        graph.node.iter().any(|node| node.attribute.iter().any(|a| a.g.is_some() || !a.graphs.is_empty()));
    let kept = |name: &str| nested || read.contains(name);
    let keep: Vec<bool> = graph.initializer.iter().map(|tensor| kept(&tensor.name)).collect();
    let mut keep = keep.into_iter();
    graph.initializer.retain(|_| keep.next().unwrap_or(true));
    graph.initializer.append(&mut made);
    Ok(())
}

/// What a Cast to float32 makes of a constant.
fn cast(node: &NodeProto, constants: &HashMap<&str, &TensorProto>) -> Option<Vec<f32>> {
    let tensor = constants.get(node.input.first()?.as_str())?;
    let to = Attributes(node).int("to", 0);
    if to != DataType::Float as i64 || tensor.data_type != DataType::Float16 as i32 {
        return None; // other casts are small, and tract's
    }
    Constant::of(tensor)?.floats()
}

/// (x − zero point) · scale, in float32 as ONNX has it.
fn dequantized(node: &NodeProto, constants: &HashMap<&str, &TensorProto>) -> Option<Vec<f32>> {
    let constant = |name: &String| Constant::of(constants.get(name.as_str())?);
    let (levels, scale) = (constant(node.input.first()?)?, constant(node.input.get(1)?)?);
    let zero = match node.input.get(2).filter(|name| !name.is_empty()) {
        Some(name) => Some(constant(name)?),
        None => None,
    };
    let axis = Attributes(node).int("axis", 1);
    Constant::dequantized(&levels, &scale, zero.as_ref(), axis).ok()?.floats()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::{AttributeProto, ValueInfoProto};

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
        widen(&mut graph, "test").unwrap();
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
    fn what_is_no_constant_or_lies_about_its_shape_stays() {
        let graph = widened(
            vec![
                tensor("short", &[3], DataType::Float16, vec![0; 4]),
                tensor("levels", &[2], DataType::Int8, vec![1, 2]),
                tensor("scales", &[3], DataType::Float, raw(&[1.0; 3])),
            ],
            vec![
                node("Cast", &["short"], "a", Some(("to", 1))),
                node("Cast", &["x"], "b", Some(("to", 1))),
                node("DequantizeLinear", &["levels", "scales"], "c", Some(("axis", 0))),
            ],
        );
        assert_eq!(graph.node.len(), 4);
    }
}
