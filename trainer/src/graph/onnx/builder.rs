//! Puts an ONNX file together: opset 17, IR version 8, symbolic batch, raw little-endian data.

use edgegen_runtime::model::Metadata;
use half::f16;
use prost::Message;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, attribute_proto::AttributeType, tensor_proto::DataType,
};

use crate::graph::port::{Side, declare, fixed};
use crate::graph::{Activation, Foreign, Graph, Op, Padding, Shape, Shuffle, Window};

/// Operator set that files declare.
pub(crate) const OPSET: i64 = 17;
/// ONNX IR version that files declare.
pub(crate) const IR_VERSION: i64 = 8;

/// Nodes and constants of a file that is being written.
#[derive(Default)]
pub(crate) struct Builder {
    nodes: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
    /// Whether weights are stored in 16 bits, each before a Cast.
    half: bool,
    /// Whether the file is of pictures of any size.
    any_size: bool,
}

impl Builder {
    /// Of a file of `graph`.
    pub(crate) fn new(graph: &Graph, half: bool) -> Self {
        Self { half, any_size: graph.any_size, ..Self::default() }
    }

    /// Adds a node; returns the name of its result.
    pub(crate) fn node(
        &mut self,
        kind: &str,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
        output: &str,
    ) -> String {
        self.nodes.push(NodeProto {
            name: format!("node.{output}"),
            op_type: kind.into(),
            input: inputs.iter().map(ToString::to_string).collect(),
            output: vec![output.into()],
            attribute: attributes,
            ..NodeProto::default()
        });
        output.to_string()
    }

    /// Adds an activation.
    pub(crate) fn activation(&mut self, activation: Activation, input: &str, output: &str) -> String {
        let (kind, attributes) = match activation {
            Activation::Relu => ("Relu", vec![]),
            Activation::LeakyRelu(slope) => ("LeakyRelu", vec![float("alpha", slope)]),
            Activation::Tanh => ("Tanh", vec![]),
            Activation::Sigmoid => ("Sigmoid", vec![]),
            Activation::Softplus => ("Softplus", vec![]),
            Activation::HardSigmoid => ("HardSigmoid", vec![float("alpha", 1.0 / 6.0), float("beta", 0.5)]),
            Activation::HardSwish => ("HardSwish", vec![]),
            Activation::Relu6 => {
                let ends = [("low", 0.0), ("high", 6.0)];
                let [low, high] =
                    ends.map(|(name, value)| self.floats(&format!("{output}.{name}"), &[], &[value]));
                return self.node("Clip", &[input, &low, &high], vec![], output);
            }
            Activation::Silu => {
                let gate = self.node("Sigmoid", &[input], vec![], &format!("{output}.gate"));
                return self.node("Mul", &[input, &gate], vec![], output);
            }
        };
        self.node(kind, &[input], attributes, output)
    }

    /// Adds a change of shape; batches keep their size.
    pub(crate) fn reshape(&mut self, name: &str, shape: Shape, input: &str, output: &str) -> String {
        if let Shape::Vector(_) = shape {
            return self.node("Flatten", &[input], vec![int("axis", 1)], output);
        }
        let mut dims = vec![0]; // 0 keeps the batch axis
        dims.extend(shape.dims().iter().map(|size| *size as i64));
        let shape = self.int64s(&format!("{name}.shape"), &dims);
        self.node("Reshape", &[input, &shape], vec![], output)
    }

    /// Adds DepthToSpace, and the Slice that cuts the border off if there is one. `before` is what enters.
    pub(crate) fn shuffle(&mut self, shuffle: &Shuffle, before: Shape, input: &str, output: &str) -> String {
        let (_, height, width) = before.image();
        let (block, first) = (shuffle.block, shuffle.first);
        let whole = first == 0 && shuffle.size == (height * block, width * block);
        let attributes = || vec![int("blocksize", block as i64), string("mode", "CRD")];
        let mut full = input.to_string();
        if block > 1 {
            if whole {
                return self.node("DepthToSpace", &[input], attributes(), output);
            }
            full = self.node("DepthToSpace", &[input], attributes(), &format!("{output}.full"));
        }
        let place = |y: usize, x: usize| [y as i64, x as i64];
        let starts = self.int64s(&format!("{output}.starts"), &place(first, first));
        let mut end = place(first + shuffle.size.0, first + shuffle.size.1);
        if self.any_size {
            // counted from where it ends
            let whole = place(height * block, width * block);
            let from_end = |(end, whole): (&i64, i64)| if *end == whole { i64::MAX } else { end - whole };
            end = [from_end((&end[0], whole[0])), from_end((&end[1], whole[1]))];
        }
        let ends = self.int64s(&format!("{output}.ends"), &end);
        let axes = self.int64s(&format!("{output}.axes"), &[2, 3]);
        self.node("Slice", &[&full, &starts, &ends, &axes], vec![], output)
    }

    /// Adds a node of another maker with the constants that it reads; its values are renamed to `inputs`.
    pub(crate) fn foreign(&mut self, foreign: &Foreign, inputs: &[&str], output: &str) -> String {
        let mut node = foreign.node.clone();
        let mut inputs = inputs.iter();
        for name in &mut node.input {
            let constant = foreign.constants.iter().find(|tensor| tensor.name == *name);
            match constant {
                Some(tensor) => {
                    let own = TensorProto { name: format!("{output}.{name}"), ..tensor.clone() };
                    *name = own.name.clone();
                    self.initializers.push(own);
                }
                None if name.is_empty() => {}
                None => *name = inputs.next().map_or_else(String::new, ToString::to_string),
            }
        }
        node.output = vec![output.into()];
        self.nodes.push(node);
        output.to_string()
    }

    /// A float32 constant; in a file of 16 bits it is stored in 16 bits, and a Cast widens it.
    pub(crate) fn weights(&mut self, name: &str, dims: &[usize], values: &[f32]) -> String {
        if !self.half {
            return self.floats(name, dims, values);
        }
        let raw = values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect();
        let stored = self.initializer(&format!("{name}.half"), dims, DataType::Float16, raw);
        self.node("Cast", &[&stored], vec![int("to", DataType::Float as i64)], name)
    }

    /// A float32 constant.
    pub(crate) fn floats(&mut self, name: &str, dims: &[usize], values: &[f32]) -> String {
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(name, dims, DataType::Float, raw)
    }

    /// An int64 constant.
    pub(crate) fn int64s(&mut self, name: &str, values: &[i64]) -> String {
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(name, &[values.len()], DataType::Int64, raw)
    }

    /// An int32 constant.
    pub(crate) fn int32s(&mut self, name: &str, dims: &[usize], values: &[i32]) -> String {
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(name, dims, DataType::Int32, raw)
    }

    /// A uint8 constant.
    pub(crate) fn bytes(&mut self, name: &str, dims: &[usize], values: &[u8]) -> String {
        self.initializer(name, dims, DataType::Uint8, values.to_vec())
    }

    /// An int8 constant.
    pub(crate) fn int8s(&mut self, name: &str, dims: &[usize], values: &[i8]) -> String {
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(name, dims, DataType::Int8, raw)
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

    /// Serialises the file of `graph`, whose input and outputs these nodes connect.
    pub(crate) fn finish(self, graph: &Graph, metadata: &Metadata) -> Vec<u8> {
        let value_of = |id: &usize| {
            let value = &graph.values[*id];
            let mut dims = fixed(&value.shape.dims());
            if let (true, [_, height, width]) = (graph.any_size, &mut dims[..]) {
                let names = if *id == graph.input { ["H", "W"] } else { ["height", "width"] };
                [*height, *width] = names.map(Side::Open);
            }
            declare(&value.name, DataType::Float, &dims)
        };
        let mut input = vec![value_of(&graph.input)];
        if graph.classes() > 0 {
            input.push(declare(&graph.class_input, DataType::Int64, &[]));
        }
        let metadata_props = metadata
            .to_props()
            .into_iter()
            .map(|(key, value)| StringStringEntryProto { key, value })
            .collect();
        let proto = ModelProto {
            ir_version: IR_VERSION,
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: opset(graph) }],
            producer_name: metadata.producer_name.clone().unwrap_or_default(),
            producer_version: metadata.producer_version.clone().unwrap_or_default(),
            metadata_props,
            graph: Some(GraphProto {
                name: graph.name.clone(),
                node: self.nodes,
                initializer: self.initializers,
                input,
                output: graph.outputs.iter().map(value_of).collect(),
                ..GraphProto::default()
            }),
            ..ModelProto::default()
        };
        proto.encode_to_vec()
    }
}

/// The operator set that a file declares: nodes of another maker keep the meaning that they had.
fn opset(graph: &Graph) -> i64 {
    let foreign = graph.nodes.iter().any(|node| matches!(node.op, Op::Foreign(_)));
    if foreign { graph.opset } else { OPSET }
}

/// The attributes of a window on a picture of `shape`.
pub(crate) fn window(window: &Window, shape: Shape) -> Vec<AttributeProto> {
    let Window { kernel, stride, padding } = *window;
    let (_, height, width) = shape.image();
    let pair = |value: usize| [value as i64; 2].to_vec();
    // zeros (before, after) along an axis
    let around = |side: usize| match padding {
        Padding::Zeros(padding) | Padding::Ceil(padding) => (padding, padding),
        Padding::Same => {
            let (before, made) = padding.along(side, kernel, stride).unwrap_or((0, 1));
            (before, ((made - 1) * stride + kernel).saturating_sub(side + before))
        }
    };
    let ((top, bottom), (left, right)) = (around(height), around(width));
    let pads = [top, left, bottom, right].map(|zeros| zeros as i64).to_vec();
    let mut attributes =
        vec![ints("kernel_shape", pair(kernel)), ints("strides", pair(stride)), ints("pads", pads)];
    if let Padding::Ceil(_) = padding {
        attributes.push(int("ceil_mode", 1));
    }
    attributes
}

/// The window of a convolution on a picture of `shape`; that of a dense layer as a convolution of one pixel.
pub(crate) fn window_of(op: &Op, shape: Shape) -> Vec<AttributeProto> {
    let zeros = |kernel, stride, padding| Window { kernel, stride, padding: Padding::Zeros(padding) };
    match *op {
        Op::Conv { window: own, groups, .. } => {
            let mut attributes = window(&own, shape);
            if groups > 1 {
                attributes.push(int("group", groups as i64));
            }
            attributes
        }
        Op::ConvTranspose { kernel, stride, padding, .. } => window(&zeros(kernel, stride, padding), shape),
        Op::UpsampleConv { kernel, .. } => window(&zeros(kernel, 1, kernel / 2), shape),
        _ => window(&zeros(1, 1, 0), shape),
    }
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: kind as i32, ..AttributeProto::default() }
}

pub(crate) fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { f: value, ..attribute(name, AttributeType::Float) }
}

pub(crate) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: value, ..attribute(name, AttributeType::Int) }
}

pub(crate) fn ints(name: &str, values: Vec<i64>) -> AttributeProto {
    AttributeProto { ints: values, ..attribute(name, AttributeType::Ints) }
}

pub(crate) fn string(name: &str, value: &str) -> AttributeProto {
    AttributeProto { s: value.as_bytes().to_vec(), ..attribute(name, AttributeType::String) }
}
