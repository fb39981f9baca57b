//! Graphs that are nearly sound: operators with attributes and constants that may or may not fit.

use arbitrary::Arbitrary;
use prost::Message;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, type_proto,
};

/// A chain of operators on a latent that is reshaped to a picture; some operators also read an earlier value.
#[derive(Arbitrary, Debug)]
pub struct Graph {
    channels: u8,
    height: u8,
    width: u8,
    opset: u8,
    nodes: Vec<Node>,
}

#[derive(Arbitrary, Debug)]
struct Node {
    operator: Operator,
    /// How many values back it reads.
    back: u8,
    /// Small numbers for kernels, strides, axes and the like.
    numbers: [i8; 8],
    /// One of them may be anything.
    wild: Option<(u8, i64)>,
    value: f32,
    text: u8,
    flag: bool,
}

#[derive(Arbitrary, Debug, Clone, Copy)]
enum Operator {
    Conv,
    ConvTranspose,
    Gemm,
    Relu,
    LeakyRelu,
    Tanh,
    Sigmoid,
    Softplus,
    Celu,
    Clip,
    Add,
    AddConstant,
    MulConstant,
    BatchNormalization,
    Reshape,
    Flatten,
    Transpose,
    Slice,
    Concat,
    DepthToSpace,
    Resize,
    Softmax,
    LogSoftmax,
    MaxPool,
    AveragePool,
    ReduceMean,
    Pad,
    QuantizeLinear,
    DequantizeLinear,
    Squeeze,
    Unsqueeze,
    Shape,
    Identity,
    Mul,
    Elu,
    PRelu,
    InstanceNormalization,
    LayerNormalization,
    MatMul,
    GlobalAveragePool,
    Split,
    Tile,
    Mirror,
}

struct Maker {
    graph: GraphProto,
    values: Vec<String>,
    count: usize,
}

fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { name: name.into(), ints: values.to_vec(), r#type: 7, ..Default::default() }
}

fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.into(), i: value, r#type: 2, ..Default::default() }
}

fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { name: name.into(), f: value, r#type: 1, ..Default::default() }
}

fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto { name: name.into(), s: value.as_bytes().to_vec(), r#type: 3, ..Default::default() }
}

impl Maker {
    fn constant(&mut self, dims: &[i64], kind: DataType, bytes: Vec<u8>) -> String {
        self.count += 1;
        let name = format!("c{}", self.count);
        self.graph.initializer.push(TensorProto {
            name: name.clone(),
            dims: dims.to_vec(),
            data_type: kind as i32,
            raw_data: bytes,
            ..Default::default()
        });
        name
    }

    fn floats(&mut self, dims: &[i64], scale: f32) -> String {
        let count = dims.iter().map(|size| (*size).clamp(0, 64)).product::<i64>().min(4096);
        let values = (0..count).flat_map(|index| (((index * 7 % 11) as f32 - 5.0) * scale).to_le_bytes());
        self.constant(dims, DataType::Float, values.collect())
    }

    fn integers(&mut self, values: &[i64]) -> String {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(&[values.len() as i64], DataType::Int64, bytes)
    }

    fn node(&mut self, operator: &str, inputs: &[&str], attribute: Vec<AttributeProto>) {
        self.count += 1;
        let output = format!("v{}", self.count);
        self.graph.node.push(NodeProto {
            op_type: operator.into(),
            input: inputs.iter().map(ToString::to_string).collect(),
            output: vec![output.clone()],
            attribute,
            ..Default::default()
        });
        self.values.push(output);
    }
}

fn port(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = dims
        .iter()
        .map(|size| Dimension { value: Some(dimension::Value::DimValue(*size)), ..Default::default() });
    let shape = Some(TensorShapeProto { dim: dim.collect() });
    let tensor = type_proto::Tensor { elem_type: DataType::Float as i32, shape };
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() }),
        ..Default::default()
    }
}

impl Graph {
    /// The file.
    pub fn bytes(&self) -> Vec<u8> {
        let [channels, height, width] =
            [self.channels, self.height, self.width].map(|size| i64::from(size % 8) + 1);
        let mut maker = Maker { graph: GraphProto::default(), values: Vec::new(), count: 0 };
        maker.graph.input.push(port("z", &[1, channels * height * width]));
        let shape = maker.integers(&[1, channels, height, width]);
        maker.node("Reshape", &["z", &shape], vec![]);
        for node in self.nodes.iter().take(12) {
            node.push(&mut maker, channels);
        }
        let last = maker.values.last().cloned().unwrap_or_default();
        maker.graph.output.push(ValueInfoProto { name: last, ..Default::default() });
        let model = ModelProto {
            ir_version: 8,
            opset_import: vec![OperatorSetIdProto {
                domain: String::new(),
                version: i64::from(self.opset % 11) + 11,
            }],
            graph: Some(maker.graph),
            ..Default::default()
        };
        model.encode_to_vec()
    }
}

impl Node {
    fn push(&self, maker: &mut Maker, channels: i64) {
        let mut n: [i64; 8] = self.numbers.map(|number| i64::from(number % 6));
        if let Some((place, value)) = self.wild {
            n[usize::from(place) % 8] = value;
        }
        let at = maker.values.len() - 1;
        let x = maker.values[at].clone();
        let earlier = maker.values[at.saturating_sub(usize::from(self.back) % 4)].clone();
        let [a, b, c, d, e, f, g, h] = n;
        let auto = ["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"][usize::from(self.text) % 4];
        match self.operator {
            Operator::Conv | Operator::ConvTranspose => {
                let transposed = matches!(self.operator, Operator::ConvTranspose);
                let dims = if transposed { [channels, a, b, c] } else { [a, channels, b, c] };
                let weights = maker.floats(&dims, 0.1);
                let mut attributes = vec![ints("strides", &[d, e])];
                match self.flag {
                    true => attributes.push(text("auto_pad", auto)),
                    false => attributes.push(ints("pads", &[f, g, f, h])),
                }
                if transposed && self.back > 200 {
                    attributes.push(ints("output_padding", &[g, h]));
                }
                let operator = if transposed { "ConvTranspose" } else { "Conv" };
                maker.node(operator, &[&x, &weights], attributes);
            }
            Operator::Gemm => {
                let weights = maker.floats(&[a, b], 0.1);
                maker.node("Gemm", &[&x, &weights], vec![int("transB", c), float("alpha", self.value)]);
            }
            Operator::Relu => maker.node("Relu", &[&x], vec![]),
            Operator::LeakyRelu => maker.node("LeakyRelu", &[&x], vec![float("alpha", self.value)]),
            Operator::Tanh => maker.node("Tanh", &[&x], vec![]),
            Operator::Sigmoid => maker.node("Sigmoid", &[&x], vec![]),
            Operator::Softplus => maker.node("Softplus", &[&x], vec![]),
            Operator::Celu => maker.node("Celu", &[&x], vec![float("alpha", self.value)]),
            Operator::Clip => {
                let low = maker.constant(&[], DataType::Float, self.value.to_le_bytes().to_vec());
                maker.node("Clip", &[&x, &low], vec![]);
            }
            Operator::Add => maker.node("Add", &[&x, &earlier], vec![]),
            Operator::AddConstant | Operator::MulConstant => {
                let dims = if self.flag { vec![channels, 1, 1] } else { vec![a.clamp(0, 5)] };
                let constant = maker.floats(&dims, self.value);
                let operator = if matches!(self.operator, Operator::AddConstant) { "Add" } else { "Mul" };
                maker.node(operator, &[&x, &constant], vec![]);
            }
            Operator::BatchNormalization => {
                let parts = [0.3, 0.1, 0.2, 1.0].map(|scale| maker.floats(&[channels], scale));
                let inputs = [&x, &parts[0], &parts[1], &parts[2], &parts[3]].map(String::as_str);
                maker.node("BatchNormalization", &inputs, vec![float("epsilon", self.value)]);
            }
            Operator::Reshape => {
                let shape = maker.integers(&[1, a, b, c][..2 + usize::from(self.flag) * 2]);
                maker.node("Reshape", &[&x, &shape], vec![int("allowzero", i64::from(self.back > 128))]);
            }
            Operator::Flatten => maker.node("Flatten", &[&x], vec![int("axis", a)]),
            Operator::Transpose => maker.node("Transpose", &[&x], vec![ints("perm", &[0, a, b, c])]),
            Operator::Slice => {
                let [starts, ends, axes, steps] =
                    [[a, b], [c, d], [e, f], [g, h]].map(|v| maker.integers(&v));
                maker.node("Slice", &[&x, &starts, &ends, &axes, &steps], vec![]);
            }
            Operator::Concat => maker.node("Concat", &[&x, &earlier], vec![int("axis", a)]),
            Operator::DepthToSpace => {
                let mode = if self.flag { "CRD" } else { "DCR" };
                maker.node("DepthToSpace", &[&x], vec![int("blocksize", a), text("mode", mode)]);
            }
            Operator::Resize => {
                let factors: Vec<u8> = [1.0, 1.0, a as f32, self.value]
                    .iter()
                    .flat_map(|value: &f32| value.to_le_bytes())
                    .collect();
                let factors = maker.constant(&[4], DataType::Float, factors);
                let mode = ["nearest", "linear", "cubic"][usize::from(self.text) % 3];
                let coordinates = ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]
                    [usize::from(self.back) % 4];
                let attributes =
                    vec![text("mode", mode), text("coordinate_transformation_mode", coordinates)];
                maker.node("Resize", &[&x, "", &factors], attributes);
            }
            Operator::Softmax => maker.node("Softmax", &[&x], vec![int("axis", a)]),
            Operator::LogSoftmax => maker.node("LogSoftmax", &[&x], vec![int("axis", a)]),
            Operator::MaxPool | Operator::AveragePool => {
                let operator =
                    if matches!(self.operator, Operator::MaxPool) { "MaxPool" } else { "AveragePool" };
                let attributes = vec![
                    ints("kernel_shape", &[a, b]),
                    ints("strides", &[c, d]),
                    ints("pads", &[e, f, g, h]),
                    int("ceil_mode", i64::from(self.flag)),
                ];
                maker.node(operator, &[&x], attributes);
            }
            Operator::ReduceMean => {
                maker.node("ReduceMean", &[&x], vec![ints("axes", &[a, b]), int("keepdims", c)]);
            }
            Operator::Pad => {
                let pads = maker.integers(&[0, a, b, c, 0, d, e, f]);
                maker.node("Pad", &[&x, &pads], vec![]);
            }
            Operator::QuantizeLinear | Operator::DequantizeLinear => {
                let scale = maker.constant(&[], DataType::Float, self.value.to_le_bytes().to_vec());
                let kind = if self.flag { DataType::Int8 } else { DataType::Uint8 };
                let zero = maker.constant(&[], kind, vec![self.text]);
                let inputs: &[&str] = if self.back > 200 { &[&x, &scale] } else { &[&x, &scale, &zero] };
                let quantizes = matches!(self.operator, Operator::QuantizeLinear);
                maker.node(if quantizes { "QuantizeLinear" } else { "DequantizeLinear" }, inputs, vec![]);
            }
            Operator::Squeeze | Operator::Unsqueeze => {
                let axes = maker.integers(&[a]);
                let squeezes = matches!(self.operator, Operator::Squeeze);
                maker.node(if squeezes { "Squeeze" } else { "Unsqueeze" }, &[&x, &axes], vec![]);
            }
            Operator::Shape => maker.node("Shape", &[&x], vec![]),
            Operator::Identity => maker.node("Identity", &[&x], vec![]),
            Operator::Mul => maker.node("Mul", &[&x, &earlier], vec![]),
            Operator::Elu => maker.node("Elu", &[&x], vec![float("alpha", self.value)]),
            Operator::PRelu => {
                let dims: &[i64] = if self.flag { &[channels, 1, 1] } else { &[a] };
                let slopes = maker.floats(dims, 0.1);
                maker.node("PRelu", &[&x, &slopes], vec![]);
            }
            Operator::InstanceNormalization | Operator::LayerNormalization => {
                let size = if self.flag { channels } else { a };
                let (scale, shift) = (maker.floats(&[size], 0.2), maker.floats(&[size], 0.1));
                let operator = match self.operator {
                    Operator::InstanceNormalization => "InstanceNormalization",
                    _ => "LayerNormalization",
                };
                maker.node(operator, &[&x, &scale, &shift], vec![]);
            }
            Operator::MatMul => {
                if self.flag {
                    let weights = maker.floats(&[a, b], 0.1);
                    maker.node("MatMul", &[&x, &weights], vec![]);
                } else {
                    maker.node("MatMul", &[&x, &earlier], vec![]);
                }
            }
            Operator::GlobalAveragePool => maker.node("GlobalAveragePool", &[&x], vec![]),
            Operator::Split => {
                maker.node("Split", &[&x], vec![int("axis", a)]);
                // a second output
                let other = format!("w{}", maker.count);
                if let Some(node) = maker.graph.node.last_mut() {
                    node.output.push(other.clone());
                }
                maker.values.insert(maker.values.len() - 1, other);
            }
            Operator::Tile => {
                let repeats = maker.integers(&[1, a, b, c]);
                maker.node("Tile", &[&x, &repeats], vec![]);
            }
            Operator::Mirror => {
                let pads = maker.integers(&[0, a, b, c, 0, d, e, f]);
                let mode = if self.flag { "reflect" } else { "edge" };
                maker.node("Pad", &[&x, &pads], vec![text("mode", mode)]);
            }
        }
    }
}

/// Both engines draw the same, where both draw: float32 sums in another order, through at most a dozen operators.
///
/// # Panics
/// If they differ.
pub fn agree(bytes: &[u8]) {
    use edgegen_runtime::model::EngineChoice;
    let auto = crate::drawn(bytes, EngineChoice::Auto);
    let Some(kernels) = crate::drawn(bytes, EngineChoice::Kernels) else { return };
    assert!(auto.is_some(), "what the kernels draw is refused");
    let Some(tract) = crate::drawn(bytes, EngineChoice::Tract) else { return };
    let largest =
        kernels.iter().chain(&tract).filter(|v| v.is_finite()).fold(1f32, |most, v| most.max(v.abs()));
    // of huge values that cancel, roundings are left
    if largest > 1e6 {
        return;
    }
    let levels = bytes.windows(8).any(|window| window == b"Quantize");
    for (a, b) in kernels.iter().zip(&tract) {
        let apart = (a - b).abs() / largest;
        // a value half-way between two levels may fall to either side
        assert!(levels || !apart.is_finite() || apart < 1e-3, "{a} and {b} of at most {largest}");
    }
}
