//! Small ONNX models, built by hand, and a folder to put them in.
#![allow(dead_code)] // every test program uses another part of it

use edgegen_runtime::model::{
    Kind, Manifest, ManifestFile, Metadata, Part, PixelFormat, Precision, Range, file_name, sha256_hex,
};
use edgegen_runtime::random::{Purpose, Stream};
use prost::Message;
use std::path::Path;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, attribute_proto::AttributeType, type_proto,
};

/// The latent's size of the small VAE.
pub(crate) const LATENT: usize = 8;

/// A model under construction.
pub(crate) struct Builder {
    pub(crate) proto: ModelProto,
}

impl Builder {
    pub(crate) fn new() -> Self {
        let proto = ModelProto {
            ir_version: 8,
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
            graph: Some(GraphProto { name: "test".into(), ..Default::default() }),
            ..Default::default()
        };
        Self { proto }
    }

    pub(crate) fn graph(&mut self) -> &mut GraphProto {
        self.proto.graph.as_mut().unwrap()
    }

    /// Size -1 stands for the symbol N.
    pub(crate) fn input(mut self, name: &str, shape: &[i64], dtype: DataType) -> Self {
        self.graph().input.push(value(name, shape, dtype));
        self
    }

    pub(crate) fn output(mut self, name: &str, shape: &[i64]) -> Self {
        self.graph().output.push(value(name, shape, DataType::Float));
        self
    }

    pub(crate) fn node(
        mut self,
        op: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: Vec<AttributeProto>,
    ) -> Self {
        self.graph().node.push(NodeProto {
            name: format!("{op}_{}", outputs[0]),
            op_type: op.into(),
            input: inputs.iter().map(|name| name.to_string()).collect(),
            output: outputs.iter().map(|name| name.to_string()).collect(),
            attribute: attributes,
            ..Default::default()
        });
        self
    }

    /// A weight with the given values.
    pub(crate) fn weight(mut self, name: &str, dims: &[i64], values: &[f32]) -> Self {
        self.graph().initializer.push(TensorProto {
            name: name.into(),
            dims: dims.to_vec(),
            data_type: DataType::Float as i32,
            raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            ..Default::default()
        });
        self
    }

    /// A weight of normal values that depend on its name.
    pub(crate) fn random(self, name: &str, dims: &[i64], scale: f32) -> Self {
        let index = name.bytes().fold(0, |hash: u64, byte| hash.wrapping_mul(131).wrapping_add(byte.into()));
        let mut values = vec![0.0; dims.iter().product::<i64>() as usize];
        Stream::new(1, Purpose::new(1), index).fill_normal(&mut values);
        values.iter_mut().for_each(|value| *value *= scale);
        self.weight(name, dims, &values)
    }

    pub(crate) fn shape(mut self, name: &str, sizes: &[i64]) -> Self {
        self.graph().initializer.push(TensorProto {
            name: name.into(),
            dims: vec![sizes.len() as i64],
            data_type: DataType::Int64 as i32,
            raw_data: sizes.iter().flat_map(|v| v.to_le_bytes()).collect(),
            ..Default::default()
        });
        self
    }

    pub(crate) fn metadata(mut self, metadata: &Metadata) -> Self {
        let props = metadata.to_props().into_iter();
        self.proto.metadata_props = props.map(|(key, value)| StringStringEntryProto { key, value }).collect();
        self
    }

    pub(crate) fn opset(mut self, version: i64) -> Self {
        self.proto.opset_import[0].version = version;
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.proto.encode_to_vec()
    }
}

fn value(name: &str, shape: &[i64], dtype: DataType) -> ValueInfoProto {
    let dim = |size: &i64| {
        let value = match size {
            -1 => dimension::Value::DimParam("N".into()),
            size => dimension::Value::DimValue(*size),
        };
        Dimension { value: Some(value), ..Default::default() }
    };
    let shape = Some(TensorShapeProto { dim: shape.iter().map(dim).collect() });
    let tensor = type_proto::Tensor { elem_type: dtype as i32, shape };
    let r#type = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: name.into(), r#type: Some(r#type), ..Default::default() }
}

pub(crate) fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), i, r#type: AttributeType::Int as i32, ..Default::default() }
}

pub(crate) fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        ints: ints.to_vec(),
        r#type: AttributeType::Ints as i32,
        ..Default::default()
    }
}

pub(crate) fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { name: name.into(), f, r#type: AttributeType::Float as i32, ..Default::default() }
}

pub(crate) fn text(name: &str, s: &str) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        s: s.into(),
        r#type: AttributeType::String as i32,
        ..Default::default()
    }
}

fn conv(kernel: i64, stride: i64, pad: i64) -> Vec<AttributeProto> {
    vec![ints("kernel_shape", &[kernel; 2]), ints("strides", &[stride; 2]), ints("pads", &[pad; 4])]
}

fn vae_metadata(part: Part) -> Metadata {
    Metadata {
        kind: Some(Kind::Vae),
        part: Some(part),
        latent_dim: Some(LATENT),
        prior: Some("normal".into()),
        range: Some(Range::Unit),
        pixel_format: Some(PixelFormat::Gray8),
        precision: Some(Precision::Fp32),
        dataset: Some("none".into()),
        seed: Some(1),
        ..Default::default()
    }
}

/// Latent (N, 8) → picture (N, 1, 28, 28) with the operators that the trainer writes.
pub(crate) fn decoder() -> Builder {
    Builder::new()
        .input("latent", &[-1, LATENT as i64], DataType::Float)
        .random("dense_w", &[4 * 49, LATENT as i64], 0.6) // (out, in)
        .random("dense_b", &[4 * 49], 0.1)
        .node("Gemm", &["latent", "dense_w", "dense_b"], &["dense"], vec![int("transB", 1)])
        .shape("to_planes", &[-1, 4, 7, 7])
        .node("Reshape", &["dense", "to_planes"], &["planes"], vec![])
        .node("Relu", &["planes"], &["relu"], vec![])
        .random("up_w", &[4, 6, 4, 4], 0.3) // (in, out, kernel, kernel)
        .random("up_b", &[6], 0.1)
        .node("ConvTranspose", &["relu", "up_w", "up_b"], &["up"], conv(4, 2, 1))
        .node("LeakyRelu", &["up"], &["leaky"], vec![float("alpha", 0.2)])
        .weight("scales", &[4], &[1.0, 1.0, 2.0, 2.0])
        .node(
            "Resize",
            &["leaky", "", "scales"],
            &["large"],
            vec![
                text("mode", "nearest"),
                text("coordinate_transformation_mode", "asymmetric"),
                text("nearest_mode", "floor"),
            ],
        )
        .random("last_w", &[1, 6, 3, 3], 0.5) // (out, in, kernel, kernel)
        .random("last_b", &[1], 0.1)
        .node("Conv", &["large", "last_w", "last_b"], &["logits"], conv(3, 1, 1))
        .node("Sigmoid", &["logits"], &["image"], vec![])
        .output("image", &[-1, 1, 28, 28])
        .metadata(&vae_metadata(Part::Decoder))
}

/// Picture (N, 1, 28, 28) → mean and log-variance (N, 8), split from one matrix product.
pub(crate) fn encoder() -> Builder {
    let double = 2 * LATENT as i64;
    Builder::new()
        .input("image", &[-1, 1, 28, 28], DataType::Float)
        .random("down_w", &[4, 1, 4, 4], 0.3)
        .random("down_b", &[4], 0.1)
        .node("Conv", &["image", "down_w", "down_b"], &["down"], conv(4, 2, 1))
        .node("LeakyRelu", &["down"], &["leaky"], vec![float("alpha", 0.2)])
        .node("Flatten", &["leaky"], &["flat"], vec![])
        .random("head_w", &[double, 4 * 196], 0.05)
        .random("head_b", &[double], 0.1)
        .node("Gemm", &["flat", "head_w", "head_b"], &["heads"], vec![int("transB", 1)])
        .shape("halves", &[LATENT as i64, LATENT as i64])
        .node("Split", &["heads", "halves"], &["mean", "log_variance"], vec![int("axis", 1)])
        .output("mean", &[-1, LATENT as i64])
        .output("log_variance", &[-1, LATENT as i64])
        .metadata(&vae_metadata(Part::Encoder))
}

/// A generator as other programs write it: z (batch, 6, 1, 1) → picture (batch, 3, 8, 8), no
/// metadata, one transposed convolution after another.
pub(crate) fn foreign_generator(batch: i64, last: &str) -> Builder {
    Builder::new()
        .input("z", &[batch, 6, 1, 1], DataType::Float)
        .random("a_w", &[6, 8, 4, 4], 0.3)
        .node("ConvTranspose", &["z", "a_w"], &["a"], conv(4, 1, 0))
        .node("Relu", &["a"], &["b"], vec![])
        .random("c_w", &[8, 3, 4, 4], 0.3)
        .node("ConvTranspose", &["b", "c_w"], &["c"], conv(4, 2, 1))
        .node(last, &["c"], &["picture"], vec![])
        .output("picture", &[batch, 3, 8, 8])
}

/// A conditional generator of another program: z (N, 6) and class (N) → picture (N, 1, 4, 4). Its classes have no names.
pub(crate) fn conditional(classes: i64) -> Builder {
    Builder::new()
        .input("z", &[-1, 6], DataType::Float)
        .input("class", &[-1], DataType::Int64)
        .random("table", &[classes, 2], 1.0)
        .node("Gather", &["table", "class"], &["row"], vec![int("axis", 0)])
        .node("Concat", &["z", "row"], &["both"], vec![int("axis", 1)])
        .random("w", &[16, 8], 0.5)
        .random("b", &[16], 0.5)
        .node("Gemm", &["both", "w", "b"], &["flat"], vec![int("transB", 1)])
        .shape("planes", &[-1, 1, 4, 4])
        .node("Reshape", &["flat", "planes"], &["planar"], vec![])
        .node("Tanh", &["planar"], &["picture"], vec![])
        .output("picture", &[-1, 1, 4, 4])
}

/// Writes `encoder.fp32.onnx`, `decoder.fp32.onnx` and `model.json`.
pub(crate) fn write_folder(folder: &Path) {
    let mut files = Vec::new();
    for (part, model) in [(Part::Encoder, encoder()), (Part::Decoder, decoder())] {
        let (bytes, file) = (model.bytes(), file_name(part, Precision::Fp32));
        std::fs::write(folder.join(&file), &bytes).unwrap();
        let sha256 = sha256_hex(&bytes);
        files.push(ManifestFile {
            file,
            part,
            precision: Precision::Fp32,
            bytes: bytes.len() as u64,
            sha256,
        });
    }
    let manifest = Manifest {
        name: "small-vae".into(),
        kind: Kind::Vae,
        producer: "test".into(),
        parts: vec![Part::Encoder, Part::Decoder],
        precisions: vec![Precision::Fp32],
        default_precision: Precision::Fp32,
        files,
        metrics: serde_json::Map::new(),
        command: "none".into(),
    };
    manifest.write(folder).unwrap();
}
