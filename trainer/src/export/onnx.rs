//! A graph → an ONNX file in floating point.
//!
//! Every value keeps ONNX's own layouts, which are also [`crate::network::Layer`]'s: nothing is
//! transposed on the way. In a file of 16 bits every constant is stored as FLOAT16 behind a Cast: it is computed in
//! float32, takes float32 and gives float32.

use edgegen_runtime::model::Precision;

use super::builder::{Builder, float, int, string, window_of};
use crate::graph::{Graph, Linear, Node, Op};
use crate::network::Layer;
use crate::{Error, Result};

/// Largest value of FLOAT16.
const LARGEST_HALF: f32 = 65_504.0;

/// Serialises a graph in float32 or float16.
///
/// # Errors
/// [`Error::Export`] for weights that are not finite, or too large for float16.
pub fn model(graph: &Graph, precision: Precision) -> Result<Vec<u8>> {
    graph.check_finite()?;
    let half = precision == Precision::Fp16;
    if half {
        check_half(graph)?;
    }
    let mut builder = Builder::new(half);
    for node in &graph.nodes {
        write(&mut builder, graph, node);
    }
    let mut metadata = graph.metadata.clone();
    metadata.precision = Some(precision);
    Ok(builder.finish(graph, &metadata))
}

fn check_half(graph: &Graph) -> Result<()> {
    let Some((node, value)) = graph.find_weight(|value| value.abs() > LARGEST_HALF) else { return Ok(()) };
    Err(Error::Export(format!(
        "a weight of {} is {value}: float16 ends at {LARGEST_HALF}; export this network without fp16",
        graph.label(node)
    )))
}

fn write(builder: &mut Builder, graph: &Graph, node: &Node) {
    let inputs: Vec<&str> = node.inputs.iter().map(|value| graph.values[*value].name.as_str()).collect();
    write_op(builder, graph, node, &inputs, &graph.values[node.output].name);
}

/// Adds a node in float32 that reads the tensors `inputs` and makes `output`.
pub(crate) fn write_op(builder: &mut Builder, graph: &Graph, node: &Node, inputs: &[&str], output: &str) {
    let input = inputs[0];
    let own = |what: &str| format!("{}.{what}", node.name);
    match &node.op {
        Op::Linear(linear) => write_linear(builder, node, linear, input, output),
        Op::BatchNorm(norm) => {
            let mut inputs = vec![input.to_string()];
            let values = [
                ("scale", &norm.scale),
                ("shift", &norm.shift),
                ("mean", &norm.mean),
                ("variance", &norm.variance),
            ];
            inputs.extend(values.map(|(name, values)| builder.floats(&own(name), &[values.len()], values)));
            let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
            builder.node("BatchNormalization", &inputs, vec![float("epsilon", norm.epsilon as f32)], output);
        }
        Op::Activation(activation) => {
            builder.activation(*activation, input, output);
        }
        Op::Reshape => {
            builder.reshape(&node.name, graph.values[node.output].shape, input, output);
        }
        Op::Shuffle(shuffle) => {
            builder.shuffle(shuffle, graph.values[node.inputs[0]].shape, input, output);
        }
        Op::ClassRow { classes, table } => {
            let table = builder.floats(&own("table"), &[*classes, table.len() / classes], table);
            let gathered = [table.as_str(), &graph.class_input];
            let row = builder.node("Gather", &gathered, vec![int("axis", 0)], &own("row"));
            builder.node("Add", &[input, &row], vec![], output);
        }
        Op::Foreign(foreign) => {
            builder.foreign(foreign, inputs, output);
        }
    }
}

/// Adds a linear operator in float32.
fn write_linear(builder: &mut Builder, node: &Node, linear: &Linear, input: &str, output: &str) {
    let own = |what: &str| format!("{}.{what}", node.name);
    let dims = &linear.layer.parameters(None)[0].shape;
    let weight = builder.floats(&own("weight"), dims, &linear.weight);
    let bias = builder.floats(&own("bias"), &[linear.bias.len()], &linear.bias);
    match linear.layer {
        Layer::Dense { .. } => {
            builder.node("Gemm", &[input, &weight, &bias], vec![int("transB", 1)], output);
        }
        Layer::ConvTranspose { .. } => {
            builder.node("ConvTranspose", &[input, &weight, &bias], window_of(&linear.layer), output);
        }
        Layer::UpsampleConv { .. } => {
            let scales = builder.floats32(&own("scales"), &[4], &[1.0, 1.0, 2.0, 2.0]);
            let attributes = vec![
                string("mode", "nearest"),
                string("coordinate_transformation_mode", "asymmetric"),
                string("nearest_mode", "floor"),
            ];
            let larger = own("upsampled");
            builder.node("Resize", &[input, "", &scales], attributes, &larger);
            builder.node("Conv", &[&larger, &weight, &bias], window_of(&linear.layer), output);
        }
        _ => {
            builder.node("Conv", &[input, &weight, &bias], window_of(&linear.layer), output);
        }
    }
}
