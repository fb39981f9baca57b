//! A graph → an ONNX file in floating point.
//!
//! Every value keeps ONNX's own layouts, which are also [`Op`]'s: nothing is
//! transposed on the way. In a file of 16 bits the weights of linear layers are stored as FLOAT16 before a Cast: it
//! is computed in float32, takes float32 and gives float32. Biases, statistics and tables of classes are few numbers, and
//! stay FLOAT: those before a softmax are a hundred times the differences that matter.

pub(crate) mod builder;

use edgegen_runtime::model::Precision;

use tract_onnx::pb::AttributeProto;

use super::{Graph, Interpolation, Node, Op, Over, Padding, Shape, Window};
use crate::{Error, Result};
use builder::{Builder, float, int, ints, string, window, window_of};

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
    let mut builder = Builder::new(graph, half);
    for node in &graph.nodes {
        write(&mut builder, graph, node);
    }
    let mut metadata = graph.metadata.clone();
    metadata.precision = Some(precision);
    Ok(builder.finish(graph, &metadata))
}

fn check_half(graph: &Graph) -> Result<()> {
    let large = |(index, node): (usize, &Node)| {
        let stored = if node.op.is_linear() { node.weight() } else { &[] };
        stored.iter().find(|weight| weight.abs() > LARGEST_HALF).map(|weight| (index, *weight))
    };
    let Some((node, value)) = graph.nodes.iter().enumerate().find_map(large) else { return Ok(()) };
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
    let shape = graph.values[node.inputs[0]].shape;
    match &node.op {
        op if op.is_linear() => write_linear(builder, node, shape, input, output),
        Op::Norm { channels, over, epsilon } => {
            let names = ["scale", "shift", "mean", "variance"];
            let held: Vec<String> = names
                .iter()
                .zip(&node.parameters)
                .map(|(name, own_values)| builder.floats(&own(name), &own_values.shape, &own_values.value))
                .collect();
            let epsilon = float("epsilon", *epsilon as f32);
            match over {
                Over::Batch => {
                    let inputs: Vec<&str> =
                        std::iter::once(input).chain(held.iter().map(String::as_str)).collect();
                    builder.node("BatchNormalization", &inputs, vec![epsilon], output);
                }
                Over::Groups(groups) if groups == channels && matches!(shape, Shape::Image(..)) => {
                    let inputs = [input, &held[0], &held[1]];
                    builder.node("InstanceNormalization", &inputs, vec![epsilon], output);
                }
                Over::Groups(groups) => {
                    // each group is one channel of as many pixels; then each channel has its own factor
                    let flat = builder.int64s(&own("groups"), &[0, *groups as i64, -1]);
                    let grouped = builder.node("Reshape", &[input, &flat], vec![], &own("grouped"));
                    let ones = builder.floats(&own("ones"), &[*groups], &vec![1.0; *groups]);
                    let zeros = builder.floats(&own("zeros"), &[*groups], &vec![0.0; *groups]);
                    let inputs = [grouped.as_str(), &ones, &zeros];
                    let normal =
                        builder.node("InstanceNormalization", &inputs, vec![epsilon], &own("normal"));
                    let dims: Vec<i64> =
                        std::iter::once(0).chain(shape.dims().into_iter().map(|size| size as i64)).collect();
                    let back = builder.int64s(&own("shape"), &dims);
                    let back = builder.node("Reshape", &[&normal, &back], vec![], &own("back"));
                    let axes = match shape {
                        Shape::Vector(_) => vec![*channels],
                        Shape::Image(..) => vec![*channels, 1, 1],
                    };
                    let [scale, shift] = [0, 1].map(|slot| {
                        let value = &node.parameters[slot].value;
                        builder.floats(&format!("{}.{}.all", node.name, names[slot]), &axes, value)
                    });
                    let scaled = builder.node("Mul", &[&back, &scale], vec![], &own("scaled"));
                    builder.node("Add", &[&scaled, &shift], vec![], output);
                }
            }
        }
        Op::Activation(activation) => {
            builder.activation(*activation, input, output);
        }
        Op::Reshape(_) => {
            builder.reshape(&node.name, graph.values[node.output].shape, input, output);
        }
        Op::Shuffle(shuffle) => {
            builder.shuffle(shuffle, shape, input, output);
        }
        Op::Unshuffle { block } => {
            // (C, H/b, b, W/b, b) → (C, b, b, H/b, W/b): the inverse of DepthToSpace in mode CRD
            let (channels, height, width) = shape.image();
            let (block, rows, columns) = (*block as i64, (height / block) as i64, (width / block) as i64);
            let split = builder.int64s(&own("split"), &[0, channels as i64, rows, block, columns, block]);
            let apart = builder.node("Reshape", &[input, &split], vec![], &own("apart"));
            let order = vec![ints("perm", vec![0, 1, 3, 5, 2, 4])];
            let turned = builder.node("Transpose", &[&apart], order, &own("turned"));
            builder.reshape(&node.name, graph.values[node.output].shape, &turned, output);
        }
        Op::ClassRow { classes, features } => {
            let table = builder.floats(&own("table"), &[*classes, *features], node.weight());
            let gathered = [table.as_str(), &graph.class_input];
            let row = builder.node("Gather", &gathered, vec![int("axis", 0)], &own("row"));
            builder.node("Add", &[input, &row], vec![], output);
        }
        Op::Add => {
            builder.node("Add", inputs, vec![], output);
        }
        Op::Mul => {
            builder.node("Mul", inputs, vec![], output);
        }
        Op::Scale => {
            let channels = shape.channels() as i64;
            let mut scale = inputs[1].to_string();
            if graph.values[node.inputs[1]].shape.dims().len() != shape.dims().len() {
                let dims = builder.int64s(&own("dims"), &[0, channels, 1, 1]);
                scale = builder.node("Reshape", &[&scale, &dims], vec![], &own("factors"));
            }
            builder.node("Mul", &[input, &scale], vec![], output);
        }
        Op::Concat => {
            builder.node("Concat", inputs, vec![int("axis", 1)], output);
        }
        Op::Slice { first, count } => {
            let starts = builder.int64s(&own("starts"), &[*first as i64]);
            let ends = builder.int64s(&own("ends"), &[(first + count) as i64]);
            let axes = builder.int64s(&own("axes"), &[1]);
            builder.node("Slice", &[input, &starts, &ends, &axes], vec![], output);
        }
        Op::AveragePool { window: own_window, counts_padding } => {
            let mut attributes = window(own_window, shape);
            attributes.push(int("count_include_pad", i64::from(*counts_padding)));
            builder.node("AveragePool", &[input], attributes, output);
        }
        Op::MaxPool(own_window) => {
            builder.node("MaxPool", &[input], window(own_window, shape), output);
        }
        Op::GlobalAverage => {
            builder.node("GlobalAveragePool", &[input], vec![], output);
        }
        Op::Resize { height, width, by } => {
            let (_, rows, columns) = shape.image();
            // the quotient in float32 whose product, rounded down, is the size
            let scale = |from: usize, to: usize| {
                let mut scale = to as f32 / from as f32;
                while ((from as f32 * scale) as usize) < to {
                    scale = scale.next_up();
                }
                scale
            };
            let scales = [1.0, 1.0, scale(rows, *height), scale(columns, *width)];
            let scales = builder.floats(&own("scales"), &[4], &scales);
            let attributes = match by {
                Interpolation::Nearest => nearest(),
                Interpolation::Bilinear => {
                    vec![string("mode", "linear"), string("coordinate_transformation_mode", "half_pixel")]
                }
            };
            builder.node("Resize", &[input, "", &scales], attributes, output);
        }
        Op::Blur => {
            let channels = shape.channels();
            let kernel: Vec<f32> =
                [1.0, 2.0, 1.0, 2.0, 4.0, 2.0, 1.0, 2.0, 1.0].map(|w: f32| w / 16.0).into();
            let weight = builder.floats(&own("weight"), &[channels, 1, 3, 3], &kernel.repeat(channels));
            let blur = Op::Conv {
                inputs: channels,
                outputs: channels,
                window: Window { kernel: 3, stride: 1, padding: Padding::Zeros(1) },
                groups: channels,
            };
            builder.node("Conv", &[input, &weight], window_of(&blur, shape), output);
        }
        Op::Foreign(foreign) => {
            builder.foreign(foreign, inputs, output);
        }
        Op::Softmax => {
            builder.node("Softmax", &[input], vec![int("axis", 1)], output);
        }
        Op::ClassProjection { .. } | Op::BatchDeviation | Op::UnitLength => {
            unreachable!("operators for training alone are refused before")
        }
        Op::Dense { .. } | Op::Conv { .. } | Op::ConvTranspose { .. } | Op::UpsampleConv { .. } => {
            unreachable!("handled above")
        }
    }
}

/// The attributes of a Resize by nearest neighbours.
fn nearest() -> Vec<AttributeProto> {
    vec![
        string("mode", "nearest"),
        string("coordinate_transformation_mode", "asymmetric"),
        string("nearest_mode", "floor"),
    ]
}

/// Adds a linear operator in float32 on an input of `shape`.
fn write_linear(builder: &mut Builder, node: &Node, shape: Shape, input: &str, output: &str) {
    let own = |what: &str| format!("{}.{what}", node.name);
    let weight = builder.weights(&own("weight"), &node.parameters[0].shape, node.weight());
    let bias = builder.floats(&own("bias"), &[node.bias().len()], node.bias());
    let window = window_of(&node.op, shape);
    match node.op {
        Op::Dense { .. } => {
            builder.node("Gemm", &[input, &weight, &bias], vec![int("transB", 1)], output);
        }
        Op::ConvTranspose { .. } => {
            builder.node("ConvTranspose", &[input, &weight, &bias], window, output);
        }
        Op::UpsampleConv { .. } => {
            let scales = builder.floats(&own("scales"), &[4], &[1.0, 1.0, 2.0, 2.0]);
            let larger = own("upsampled");
            builder.node("Resize", &[input, "", &scales], nearest(), &larger);
            builder.node("Conv", &[&larger, &weight, &bias], window, output);
        }
        _ => {
            builder.node("Conv", &[input, &weight, &bias], window, output);
        }
    }
}
