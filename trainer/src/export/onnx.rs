//! Folded layers → an ONNX model: opset 17, IR version 8, symbolic batch, raw little-endian data.
//!
//! Every value keeps ONNX's own layouts, which are also [`crate::network::Layer`]'s: nothing is
//! transposed on the way.

use edgegen_runtime::model::Metadata;
use prost::Message;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, attribute_proto::AttributeType,
    tensor_proto::DataType, tensor_shape_proto, type_proto,
};

use super::fold::FoldedLayer;
use crate::network::{Activation, Layer, Shape};
use crate::{Error, Result};

/// Operator set that files declare.
pub const OPSET: i64 = 17;
/// ONNX IR version that files declare.
pub const IR_VERSION: i64 = 8;
/// Name of the input that tells each picture's class, int64 (N).
const CLASS: &str = "class";
/// Name of the symbolic batch size.
const BATCH: &str = "N";

/// An output of a graph: its name, and how many of the last layer's values it takes.
pub struct Output<'a> {
    /// The tensor's name.
    pub name: &'a str,
    /// Shape of one element of the batch.
    pub shape: Shape,
}

/// What a graph is called and what it takes and gives.
pub struct Signature<'a> {
    /// The graph's name.
    pub name: &'a str,
    /// Name and shape of the input.
    pub input: (&'a str, Shape),
    /// One output; or several, which split the rows of a last dense layer between them in order.
    pub outputs: Vec<Output<'a>>,
    /// A layer inside, by its place in the list, whose result is an output too: the first.
    pub tap: Option<(usize, Output<'a>)>,
}

/// Serialises a model.
///
/// # Errors
/// [`Error::Export`] if the outputs do not fit the last layer.
pub fn model(layers: &[FoldedLayer], signature: &Signature<'_>, metadata: &Metadata) -> Result<Vec<u8>> {
    let mut graph = Graph::default();
    let mut value = signature.input.0.to_string();
    let (last, before) =
        layers.split_last().ok_or_else(|| Error::Export("the network has no layers".into()))?;
    for (index, layer) in before.iter().enumerate() {
        let name = signature.tap.as_ref().filter(|(place, _)| *place == index).map(|(_, output)| output.name);
        value = graph.layer(index, layer, &value, name);
    }
    match signature.outputs.as_slice() {
        [single] => {
            graph.layer(before.len(), last, &value, Some(single.name));
        }
        several => graph.heads(last, &value, several)?,
    }
    let mut inputs = vec![float_value(signature.input.0, signature.input.1)];
    if layers.iter().any(|layer| matches!(layer, FoldedLayer::ClassEmbedding { .. })) {
        inputs.push(class_value());
    }
    let outputs = signature.tap.iter().map(|(_, output)| output).chain(&signature.outputs);
    let metadata_props =
        metadata.to_props().into_iter().map(|(key, value)| StringStringEntryProto { key, value }).collect();
    let proto = ModelProto {
        ir_version: IR_VERSION,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        producer_name: metadata.producer_name.clone().unwrap_or_default(),
        producer_version: metadata.producer_version.clone().unwrap_or_default(),
        metadata_props,
        graph: Some(GraphProto {
            name: signature.name.into(),
            node: graph.nodes,
            initializer: graph.initializers,
            input: inputs,
            output: outputs.map(|output| float_value(output.name, output.shape)).collect(),
            ..GraphProto::default()
        }),
        ..ModelProto::default()
    };
    Ok(proto.encode_to_vec())
}

#[derive(Default)]
struct Graph {
    nodes: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
}

impl Graph {
    /// Adds layer `index`; returns the name of its result, which is `name` if given.
    fn layer(&mut self, index: usize, layer: &FoldedLayer, input: &str, name: Option<&str>) -> String {
        match layer {
            FoldedLayer::Linear { layer, weight, bias } => {
                self.linear(index, layer, weight, bias, input, name)
            }
            FoldedLayer::Activation(activation) => {
                let (kind, attributes) = match activation {
                    Activation::Relu => ("Relu", vec![]),
                    Activation::LeakyRelu(slope) => ("LeakyRelu", vec![float("alpha", *slope)]),
                    Activation::Tanh => ("Tanh", vec![]),
                    Activation::Sigmoid => ("Sigmoid", vec![]),
                };
                self.node(index, kind, &[input], attributes, name)
            }
            FoldedLayer::ClassEmbedding { classes, table } => {
                let table = self.floats("class.table", &[*classes, table.len() / classes], table);
                let row =
                    self.node(index, "Gather", &[&table, CLASS], vec![int("axis", 0)], Some("class.row"));
                self.node(index, "Add", &[input, &row], vec![], name)
            }
            FoldedLayer::Reshape(Shape::Vector(_)) => {
                self.node(index, "Flatten", &[input], vec![int("axis", 1)], name)
            }
            FoldedLayer::Reshape(shape @ Shape::Image(..)) => {
                let mut dims = vec![0]; // 0 keeps the batch axis
                dims.extend(shape.dims().iter().map(|size| *size as i64));
                let shape = self.int64s(&format!("layer{index}.shape"), &dims);
                self.node(index, "Reshape", &[input, &shape], vec![], name)
            }
        }
    }

    fn linear(
        &mut self,
        index: usize,
        layer: &Layer,
        weight: &[f32],
        bias: &[f32],
        input: &str,
        name: Option<&str>,
    ) -> String {
        let dims: Vec<usize> = layer.parameters(None)[0].shape.clone();
        let weight = self.floats(&format!("layer{index}.weight"), &dims, weight);
        let bias = self.floats(&format!("layer{index}.bias"), &[bias.len()], bias);
        match *layer {
            Layer::Dense { .. } => self.gemm(index, input, &weight, &bias, name),
            Layer::Conv { kernel, stride, padding, .. } => {
                self.node(index, "Conv", &[input, &weight, &bias], window(kernel, stride, padding), name)
            }
            Layer::ConvTranspose { kernel, stride, padding, .. } => self.node(
                index,
                "ConvTranspose",
                &[input, &weight, &bias],
                window(kernel, stride, padding),
                name,
            ),
            Layer::UpsampleConv { kernel, .. } => {
                let scales = self.floats(&format!("layer{index}.scales"), &[4], &[1.0, 1.0, 2.0, 2.0]);
                let attributes = vec![
                    string("mode", "nearest"),
                    string("coordinate_transformation_mode", "asymmetric"),
                    string("nearest_mode", "floor"),
                ];
                let larger = format!("layer{index}.upsampled");
                self.node(index, "Resize", &[input, "", &scales], attributes, Some(&larger));
                self.node(index, "Conv", &[&larger, &weight, &bias], window(kernel, 1, kernel / 2), name)
            }
            _ => {
                unreachable!("not a linear layer")
            }
        }
    }

    fn gemm(&mut self, index: usize, input: &str, weight: &str, bias: &str, name: Option<&str>) -> String {
        self.node(index, "Gemm", &[input, weight, bias], vec![int("transB", 1)], name)
    }

    /// Splits the rows of a last dense layer between several outputs, each its own Gemm: so each can
    /// have its own scale when it is quantised.
    fn heads(&mut self, last: &FoldedLayer, input: &str, outputs: &[Output<'_>]) -> Result<()> {
        let misfit = || Error::Export("several outputs need a last dense layer of as many values".into());
        let FoldedLayer::Linear { layer: Layer::Dense { inputs, outputs: rows }, weight, bias } = last else {
            return Err(misfit());
        };
        if outputs.iter().map(|output| output.shape.values()).sum::<usize>() != *rows {
            return Err(misfit());
        }
        let mut start = 0;
        for (index, output) in outputs.iter().enumerate() {
            let count = output.shape.values();
            let own = &weight[start * inputs..(start + count) * inputs];
            let own = self.floats(&format!("{}.weight", output.name), &[count, *inputs], own);
            let own_bias =
                self.floats(&format!("{}.bias", output.name), &[count], &bias[start..start + count]);
            self.gemm(index, input, &own, &own_bias, Some(output.name));
            start += count;
        }
        Ok(())
    }

    fn node(
        &mut self,
        index: usize,
        kind: &str,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
        name: Option<&str>,
    ) -> String {
        let output = name.map_or_else(|| format!("layer{index}.{}", kind.to_lowercase()), str::to_string);
        self.nodes.push(NodeProto {
            name: format!("node.{output}"),
            op_type: kind.into(),
            input: inputs.iter().map(ToString::to_string).collect(),
            output: vec![output.clone()],
            attribute: attributes,
            ..NodeProto::default()
        });
        output
    }

    fn floats(&mut self, name: &str, dims: &[usize], values: &[f32]) -> String {
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(name, dims, DataType::Float, raw)
    }

    fn int64s(&mut self, name: &str, values: &[i64]) -> String {
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(name, &[values.len()], DataType::Int64, raw)
    }

    fn initializer(&mut self, name: &str, dims: &[usize], kind: DataType, raw_data: Vec<u8>) -> String {
        self.initializers.push(TensorProto {
            name: name.into(),
            dims: dims.iter().map(|size| *size as i64).collect(),
            data_type: kind as i32,
            raw_data,
            ..TensorProto::default()
        });
        name.to_string()
    }
}

fn float_value(name: &str, shape: Shape) -> ValueInfoProto {
    value(name, DataType::Float, &shape.dims())
}

/// The input that tells each picture's class: int64 (N).
fn class_value() -> ValueInfoProto {
    value(CLASS, DataType::Int64, &[])
}

/// A graph's input or output: (N, `dims`…).
fn value(name: &str, element: DataType, dims: &[usize]) -> ValueInfoProto {
    use tensor_shape_proto::{Dimension, dimension::Value};
    let size = |value| Dimension { value: Some(value), ..Dimension::default() };
    let mut dim = vec![size(Value::DimParam(BATCH.into()))];
    dim.extend(dims.iter().map(|length| size(Value::DimValue(*length as i64))));
    let tensor = type_proto::Tensor { elem_type: element as i32, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}

fn window(kernel: usize, stride: usize, padding: usize) -> Vec<AttributeProto> {
    let pair = |value: usize| [value as i64; 2].to_vec();
    vec![
        ints("kernel_shape", pair(kernel)),
        ints("strides", pair(stride)),
        ints("pads", [padding as i64; 4].to_vec()),
    ]
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: kind as i32, ..AttributeProto::default() }
}

fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { f: value, ..attribute(name, AttributeType::Float) }
}

fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: value, ..attribute(name, AttributeType::Int) }
}

fn ints(name: &str, values: Vec<i64>) -> AttributeProto {
    AttributeProto { ints: values, ..attribute(name, AttributeType::Ints) }
}

fn string(name: &str, value: &str) -> AttributeProto {
    AttributeProto { s: value.as_bytes().to_vec(), ..attribute(name, AttributeType::String) }
}
