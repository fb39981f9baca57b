//! Operators that edgegen does not know by itself: computed one at a time by tract.

use prost::Message;
use tract_onnx::pb::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto,
    tensor_proto::DataType,
};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::InferenceFact;

use super::Shape;
use super::port::{declare, fixed};
use crate::{Error, Result};

/// An ONNX node as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Foreign {
    /// Its inputs that are values of the graph stand in the order of [`super::Node::inputs`].
    pub node: NodeProto,
    /// The constants that it reads.
    pub constants: Vec<TensorProto>,
    /// The operator set that it is meant in.
    pub opset: i64,
}

impl Foreign {
    /// Runs the node on `count` rows of each input; returns its rows and their shape. `expected` is the shape that they
    /// have to have, if it is known.
    ///
    /// # Errors
    /// [`Error::Export`] that names the node.
    pub(crate) fn run(
        &self,
        name: &str,
        inputs: &[(Vec<f32>, Shape)],
        count: usize,
        expected: Option<Shape>,
    ) -> Result<(Vec<f32>, Shape)> {
        let refused =
            |problem: String| Error::Export(format!("node {name:?} ({}): {problem}", self.node.op_type));
        let (values, dims) = self.through_tract(inputs, count).map_err(|e| refused(format!("{e:#}")))?;
        let shape = match dims.as_slice() {
            [n, features] if *n == count => Shape::Vector(*features),
            [n, channels, height, width] if *n == count => Shape::Image(*channels, *height, *width),
            other => {
                return Err(refused(format!(
                    "it makes a tensor of shape {other:?} from {count} rows; (N, L) and (N, C, H, W) are known"
                )));
            }
        };
        if let Some(expected) = expected.filter(|expected| *expected != shape) {
            return Err(refused(format!("it makes {shape} where {expected} is expected")));
        }
        Ok((values, shape))
    }

    fn through_tract(
        &self,
        inputs: &[(Vec<f32>, Shape)],
        count: usize,
    ) -> TractResult<(Vec<f32>, Vec<usize>)> {
        let mut ports = Vec::new();
        let mut node: NodeProto = self.node.clone();
        let constant = |name: &str| self.constants.iter().any(|tensor| tensor.name == name);
        let mut tensors = Vec::new();
        let mut values = inputs.iter();
        for (index, name) in node.input.iter_mut().enumerate() {
            if name.is_empty() || constant(name) {
                continue;
            }
            let (rows, shape) =
                values.next().ok_or_else(|| TractError::msg("a node has more inputs than values"))?;
            *name = format!("input{index}");
            let dims: Vec<usize> = std::iter::once(count).chain(shape.dims()).collect();
            ports.push(declare(name, DataType::Float, &fixed(&shape.dims())));
            tensors.push(Tensor::from_shape(&dims, rows)?);
        }
        node.output = vec!["output".into()];
        let proto = ModelProto {
            ir_version: 8,
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: self.opset }],
            graph: Some(GraphProto {
                name: "one".into(),
                node: vec![node],
                initializer: self.constants.clone(),
                input: ports,
                output: vec![ValueInfoProto { name: "output".into(), ..ValueInfoProto::default() }],
                ..GraphProto::default()
            }),
            ..ModelProto::default()
        };
        // the way of a file, so that the node means what it means there
        let proto = ModelProto::decode(proto.encode_to_vec().as_slice())?;
        let mut model = tract_onnx::onnx().model_for_proto_model(&proto)?;
        for (index, tensor) in tensors.iter().enumerate() {
            model.set_input_fact(index, InferenceFact::dt_shape(f32::datum_type(), tensor.shape()))?;
        }
        let plan = model.into_typed()?.into_runnable()?;
        let outputs = plan.run(tensors.into_iter().map(TValue::from).collect())?;
        let output = outputs.first().ok_or_else(|| TractError::msg("it gives no output"))?;
        let shape = output.shape().to_vec();
        if output.datum_type() != f32::datum_type() {
            let kind = output.datum_type();
            return Err(TractError::msg(format!(
                "it makes {kind:?}, not float32; simplify the file first, for example with onnxsim"
            )));
        }
        Ok((output.try_as_plain_ram()?.as_slice::<f32>()?.to_vec(), shape))
    }
}
