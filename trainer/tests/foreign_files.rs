//! Files as other exporters write them: read into a graph, prepared for integers, and compared with tract.

use edgegen_runtime::generate::Latents;
use edgegen_runtime::model::{Model, OpenOptions, Range};
use edgegen_trainer::compute::{Lanes, Network};
use edgegen_trainer::graph::Op;
use edgegen_trainer::graph::import::{self, Ports};
use edgegen_trainer::graph::prepare::Form;
use prost::Message;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, attribute_proto::AttributeType, tensor_proto::DataType, tensor_shape_proto,
    type_proto,
};

/// Largest difference: rounding of sums in another order.
const TOLERANCE: f32 = 1e-4;
const LATENT: usize = 6;
const BATCH: usize = 3;

/// Names and values: one is an INT, several are INTS.
type Attributes<'a> = &'a [(&'a str, &'a [i64])];

#[derive(Default)]
struct File {
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
    seed: u64,
}

impl File {
    fn node(&mut self, kind: &str, inputs: &[&str], output: &str, attributes: Attributes<'_>) {
        let attribute = |(name, values): &(&str, &[i64])| match values {
            [value] => AttributeProto {
                name: (*name).into(),
                r#type: AttributeType::Int as i32,
                i: *value,
                ..AttributeProto::default()
            },
            values => AttributeProto {
                name: (*name).into(),
                r#type: AttributeType::Ints as i32,
                ints: values.to_vec(),
                ..AttributeProto::default()
            },
        };
        self.nodes.push(NodeProto {
            op_type: kind.into(),
            input: inputs.iter().map(ToString::to_string).collect(),
            output: vec![output.into()],
            attribute: attributes.iter().map(attribute).collect(),
            ..NodeProto::default()
        });
    }

    /// Normal numbers, a different set each time.
    fn weight(&mut self, name: &str, dims: &[i64]) {
        self.seed += 1;
        let count = dims.iter().product::<i64>() as usize;
        let values = Latents::from_seed(self.seed, 0, 1, count, 0.3);
        let raw = values.values().iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(name, dims, DataType::Float, raw);
    }

    fn integers(&mut self, name: &str, values: &[i64]) {
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(name, &[values.len() as i64], DataType::Int64, raw);
    }

    fn constant(&mut self, name: &str, dims: &[i64], kind: DataType, raw_data: Vec<u8>) {
        self.constants.push(TensorProto {
            name: name.into(),
            dims: dims.to_vec(),
            data_type: kind as i32,
            raw_data,
            ..TensorProto::default()
        });
    }

    /// z (N, `row`…) → y.
    fn bytes(self, row: &[i64], opset: i64) -> Vec<u8> {
        use tensor_shape_proto::{Dimension, dimension::Value};
        let port = |name: &str, row: &[i64]| {
            let size = |value| Dimension { value: Some(value), ..Dimension::default() };
            let mut dim = vec![size(Value::DimParam("N".into()))];
            dim.extend(row.iter().map(|length| size(Value::DimValue(*length))));
            let shape = (!row.is_empty()).then_some(TensorShapeProto { dim });
            let tensor = type_proto::Tensor { elem_type: DataType::Float as i32, shape };
            let value = Some(type_proto::Value::TensorType(tensor));
            ValueInfoProto {
                name: name.into(),
                r#type: Some(TypeProto { value, ..TypeProto::default() }),
                ..ValueInfoProto::default()
            }
        };
        let graph = GraphProto {
            name: "foreign".into(),
            node: self.nodes,
            initializer: self.constants,
            input: vec![port("z", row)],
            output: vec![port("y", &[])],
            ..GraphProto::default()
        };
        ModelProto {
            ir_version: 8,
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: opset }],
            graph: Some(graph),
            ..ModelProto::default()
        }
        .encode_to_vec()
    }
}

/// Compares what the graph read from a file computes with tract's run of the file, as read and prepared.
fn check(name: &str, bytes: &[u8], foreign: &[&str]) {
    let options = OpenOptions { range: Some(Range::Signed), ..OpenOptions::default() };
    let model = Model::from_bytes(bytes, name, &options).unwrap_or_else(|e| panic!("{name}: {e}"));
    let graph = import::graph(bytes, name, &Ports::of(model.facts()).unwrap()).unwrap();
    let found: Vec<&str> = graph
        .nodes
        .iter()
        .filter(|node| matches!(node.op, Op::Foreign(_)))
        .map(|node| node.op.kind())
        .collect();
    assert_eq!(found, foreign, "{name}");
    let latents = Latents::from_seed(1, 0, BATCH, LATENT, 1.0);
    let mut generator = model.into_generator(BATCH).unwrap();
    let expected = generator.run(latents.values(), &[]).unwrap().to_vec();
    for (form, graph) in [("as read", graph.clone()), ("prepared", graph.prepare(Form::Convolution).unwrap())]
    {
        let found = Network::new(&Lanes, &graph).unwrap().infer(latents.values(), None).unwrap();
        assert_eq!(found.len(), expected.len(), "{name}, {form}");
        let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < TOLERANCE, "{name}, {form}: {worst:e}");
    }
}

/// A file whose first layer makes (4, 5, 5) as `x`.
fn picture() -> File {
    let mut file = File::default();
    file.weight("first", &[LATENT as i64, 100]);
    file.weight("first.bias", &[100]);
    file.node("Gemm", &["z", "first", "first.bias"], "dense", &[]);
    file.integers("shape", &[-1, 4, 5, 5]);
    file.node("Reshape", &["dense", "shape"], "x", &[]);
    file
}

/// Ends a file: `from` (channels, …) → 3 channels → tanh.
fn finish(mut file: File, from: &str, channels: i64) -> Vec<u8> {
    file.weight("last", &[3, channels, 3, 3]);
    let window: &[(&str, &[i64])] = &[("kernel_shape", &[3, 3]), ("pads", &[1, 1, 1, 1])];
    file.node("Conv", &[from, "last"], "last.out", window);
    file.node("Tanh", &["last.out"], "y", &[]);
    file.bytes(&[LATENT as i64], 13)
}

#[test]
fn transposed_convolutions_of_every_kind_are_read() {
    let cases: [(&str, i64, Attributes<'_>, &[&str]); 6] = [
        (
            "k3 s2 p1 and output padding",
            3,
            &[("strides", &[2, 2]), ("pads", &[1; 4]), ("output_padding", &[1, 1])],
            &[],
        ),
        (
            "k5 s2 p2 and output padding",
            5,
            &[("strides", &[2, 2]), ("pads", &[2; 4]), ("output_padding", &[1, 1])],
            &[],
        ),
        ("k2 s2", 2, &[("strides", &[2, 2])], &[]),
        ("k4 s4", 4, &[("strides", &[4, 4])], &[]),
        ("k3 dilated", 3, &[("dilations", &[2, 2])], &["ConvTranspose"]),
        ("k3 with uneven pads", 3, &[("strides", &[2, 2]), ("pads", &[1, 1, 0, 0])], &["ConvTranspose"]),
    ];
    for (name, kernel, attributes, foreign) in cases {
        let mut file = picture();
        file.weight("w", &[4, 5, kernel, kernel]);
        file.weight("b", &[5]);
        file.node("ConvTranspose", &["x", "w", "b"], "up", attributes);
        check(name, &finish(file, "up", 5), foreign);
    }
}

#[test]
fn a_dcgan_as_pytorch_writes_it_is_read() {
    let mut file = File::default();
    file.weight("w0", &[LATENT as i64, 8, 4, 4]);
    file.node("ConvTranspose", &["z", "w0"], "c0", &[("strides", &[1, 1])]);
    for (name, values) in [("scale", 8), ("shift", 8), ("mean", 8)] {
        file.weight(name, &[values]);
    }
    let ones = [1.5f32; 8].iter().flat_map(|value| value.to_le_bytes()).collect();
    file.constant("variance", &[8], DataType::Float, ones);
    file.node("BatchNormalization", &["c0", "scale", "shift", "mean", "variance"], "n0", &[]);
    file.node("Relu", &["n0"], "r0", &[]);
    file.weight("w1", &[8, 3, 4, 4]);
    file.node("ConvTranspose", &["r0", "w1"], "c1", &[("strides", &[2, 2]), ("pads", &[1; 4])]);
    file.node("Tanh", &["c1"], "y", &[]);
    check("dcgan", &file.bytes(&[LATENT as i64, 1, 1], 13), &[]);
}

#[test]
fn dense_layers_are_read_in_every_spelling() {
    // MatMul and Add, the bias first; Unsqueeze to one pixel
    let mut file = File::default();
    file.weight("w", &[LATENT as i64, 12]);
    file.weight("b", &[12]);
    file.node("MatMul", &["z", "w"], "product", &[]);
    file.node("Add", &["b", "product"], "sum", &[]);
    file.integers("axes", &[2, 3]);
    file.node("Unsqueeze", &["sum", "axes"], "pixel", &[]);
    file.weight("up", &[12, 4, 5, 5]);
    file.node("ConvTranspose", &["pixel", "up"], "x", &[]);
    check("matmul", &finish(file, "x", 4), &[]);

    // a product that another node reads does not take the bias in
    let mut file = File::default();
    file.weight("w", &[LATENT as i64, 100]);
    file.weight("b", &[100]);
    file.node("MatMul", &["z", "w"], "product", &[]);
    file.node("Identity", &["product"], "same", &[]);
    file.node("Add", &["same", "b"], "sum", &[]);
    file.node("Mul", &["sum", "product"], "both", &[]);
    file.integers("shape", &[0, 4, 5, 5]);
    file.node("Reshape", &["both", "shape"], "x", &[]);
    check("shared product", &finish(file, "x", 4), &["Add"]);
}

#[test]
fn what_is_not_known_stays_what_it_was() {
    // dilated, and pixels in the other order
    let mut file = picture();
    file.weight("depth", &[4, 1, 3, 3]);
    file.node("Conv", &["x", "depth"], "grouped", &[("group", &[4]), ("pads", &[1; 4])]);
    file.weight("wide", &[4, 4, 3, 3]);
    file.node("Conv", &["grouped", "wide"], "dilated", &[("dilations", &[2, 2]), ("pads", &[2; 4])]);
    file.node("Add", &["dilated", "x"], "sum", &[]);
    file.node("DepthToSpace", &["sum"], "large", &[("blocksize", &[2])]);
    check("residual", &finish(file, "large", 1), &["Conv", "DepthToSpace"]);

    let options = OpenOptions { range: Some(Range::Signed), ..OpenOptions::default() };
    let mut file = picture();
    file.node("Elu", &["x"], "soft", &[]);
    file.weight("last", &[3, 4, 1, 1]);
    file.node("Conv", &["soft", "last"], "out", &[]);
    file.node("Tanh", &["out"], "y", &[]);
    let bytes = file.bytes(&[LATENT as i64], 11);
    let model = Model::from_bytes(&bytes, "old.onnx", &options).unwrap();
    let error =
        import::graph(&bytes, "old.onnx", &Ports::of(model.facts()).unwrap()).unwrap_err().to_string();
    assert!(error.contains("old.onnx") && error.contains("Elu") && error.contains("opset 11"), "{error}");
}
