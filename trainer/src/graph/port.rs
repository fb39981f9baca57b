//! How a file declares what it takes and gives.

use tract_onnx::pb::{
    TensorShapeProto, TypeProto, ValueInfoProto, tensor_proto::DataType, tensor_shape_proto, type_proto,
};

/// Name of the symbolic batch size.
const BATCH: &str = "N";

/// A size of a graph's input or output.
#[derive(Clone, Debug)]
pub(crate) enum Side {
    /// So much.
    Fixed(usize),
    /// What this name stands for.
    Open(&'static str),
}

/// Sizes that are known.
pub(crate) fn fixed(dims: &[usize]) -> Vec<Side> {
    dims.iter().copied().map(Side::Fixed).collect()
}

/// A graph's input or output: (N, `dims`…).
pub(crate) fn declare(name: &str, element: DataType, dims: &[Side]) -> ValueInfoProto {
    use tensor_shape_proto::{Dimension, dimension::Value};
    let size = |value| Dimension { value: Some(value), ..Dimension::default() };
    let mut dim = vec![size(Value::DimParam(BATCH.into()))];
    dim.extend(dims.iter().map(|side| match side {
        Side::Fixed(length) => size(Value::DimValue(*length as i64)),
        Side::Open(name) => size(Value::DimParam((*name).into())),
    }));
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
