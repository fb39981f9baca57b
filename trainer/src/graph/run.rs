//! The graph computed in float32, with the trainer's own kernels.

use std::sync::Arc;

use prost::Message;
use tract_onnx::pb::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, ValueInfoProto, tensor_proto::DataType,
};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::InferenceFact;

use super::port::declare;
use super::{Foreign, Graph, Linear, Node, Op, Shuffle, ValueId};
use crate::network::{Shape, module};
use crate::nn::batch::{Batch, LANES};
use crate::nn::batch_norm::{self, Statistics};
use crate::{Error, Result};

impl Graph {
    /// Runs all nodes on `rows` (N, input…), with `classes` (N) where the network takes them, and returns the
    /// outputs. `visit` sees every value once, the input first, and may change it.
    ///
    /// # Errors
    /// [`Error::Export`] that names a node of another maker that cannot be run.
    pub fn run(
        &self,
        rows: &[f32],
        classes: Option<&[u32]>,
        mut visit: impl FnMut(ValueId, &mut Batch),
    ) -> Result<Vec<Batch>> {
        let mut live: Vec<Option<Arc<Batch>>> = vec![None; self.values.len()];
        let mut uses = vec![0usize; self.values.len()];
        for value in self.nodes.iter().flat_map(|node| &node.inputs).chain(&self.outputs) {
            uses[*value] += 1;
        }
        let mut input = Batch::from_rows(rows, self.values[self.input].shape);
        visit(self.input, &mut input);
        live[self.input] = Some(Arc::new(input));
        for node in &self.nodes {
            let mut inputs = Vec::with_capacity(node.inputs.len());
            for value in &node.inputs {
                uses[*value] -= 1;
                let last = uses[*value] == 0;
                let held = if last { live[*value].take() } else { live[*value].clone() };
                inputs.push(held.ok_or_else(|| {
                    Error::Export(format!("node {:?} reads a value before it is made", node.name))
                })?);
            }
            let mut output = self.compute(node, inputs, classes)?;
            visit(node.output, &mut output);
            live[node.output] = Some(Arc::new(output));
        }
        let take = |value: &ValueId| {
            let held = live[*value].clone().ok_or_else(|| Error::Export("an output is not made".into()))?;
            Ok(Arc::unwrap_or_clone(held))
        };
        self.outputs.iter().map(take).collect()
    }

    fn compute(&self, node: &Node, mut inputs: Vec<Arc<Batch>>, classes: Option<&[u32]>) -> Result<Batch> {
        let shape = self.values[node.output].shape;
        if let Op::Foreign(foreign) = &node.op {
            return foreign.run(node, &inputs, self.opset, Some(shape)).map(|(batch, _)| batch);
        }
        let x = inputs.remove(0);
        Ok(match &node.op {
            Op::Linear(linear) => linear.run(&x, shape),
            Op::BatchNorm(norm) => {
                // the trainer's own epsilon is added by `normalize`
                let variance =
                    norm.variance.iter().map(|v| (f64::from(*v) + norm.epsilon - batch_norm::EPSILON) as f32);
                let statistics = Statistics { mean: norm.mean.clone(), variance: variance.collect() };
                batch_norm::normalize(&x, &statistics, &norm.scale, &norm.shift)
            }
            Op::Activation(activation) => {
                let mut x = Arc::unwrap_or_clone(x);
                activation.apply(&mut x.values);
                x
            }
            Op::Reshape => Batch { shape, ..Arc::unwrap_or_clone(x) },
            Op::Shuffle(shuffle) => shuffle.run(&x, shape),
            Op::ClassRow { table, .. } => {
                let mut x = Arc::unwrap_or_clone(x);
                x.add_rows(table, classes.unwrap_or_default());
                x
            }
            Op::Foreign(_) => unreachable!("handled above"),
        })
    }
}

impl Linear {
    /// Runs on a batch that fits.
    pub(crate) fn run(&self, x: &Batch, shape: Shape) -> Batch {
        module::linear(&self.layer, x, (&self.weight, Some(&self.bias)), shape)
    }
}

impl Shuffle {
    /// For every place behind the shuffle, (C, height, width) row-major, the place before it.
    pub(crate) fn places(&self, before: Shape) -> Vec<usize> {
        let (channels, h, w) = before.image();
        let (block, (height, width)) = (self.block, self.size);
        let mut places = Vec::with_capacity(channels / (block * block) * height * width);
        for channel in 0..channels / (block * block) {
            for y in (self.first..).take(height) {
                for x in (self.first..).take(width) {
                    let from = channel * block * block + y % block * block + x % block;
                    places.push((from * h + y / block) * w + x / block);
                }
            }
        }
        places
    }

    fn run(&self, x: &Batch, shape: Shape) -> Batch {
        let mut y = x.like(shape);
        let places = self.places(x.shape);
        let (from, to) = (x.shape.values() * LANES, shape.values() * LANES);
        for (y, x) in y.values.chunks_mut(to).zip(x.values.chunks(from)) {
            let (y, x) = (y.as_chunks_mut::<LANES>().0, x.as_chunks::<LANES>().0);
            y.iter_mut().zip(&places).for_each(|(y, place)| *y = x[*place]);
        }
        y
    }
}

impl Foreign {
    /// Runs the node alone, through tract, and tells the shape of its rows. `expected` is the shape that they have
    /// to have, if it is known.
    pub(super) fn run(
        &self,
        node: &Node,
        inputs: &[Arc<Batch>],
        opset: i64,
        expected: Option<Shape>,
    ) -> Result<(Batch, Shape)> {
        let refused = |problem: String| {
            Error::Export(format!("node {:?} ({}): {problem}", node.name, self.node.op_type))
        };
        let (values, shape) = self.through_tract(inputs, opset).map_err(|e| refused(format!("{e:#}")))?;
        let count = inputs.first().map_or(1, |batch| batch.count);
        let shape = match shape.as_slice() {
            [n, features] if *n == count => Shape::Vector(*features),
            [n, channels, height, width] if *n == count => Shape::Image(*channels, *height, *width),
            other => {
                return Err(refused(format!(
                    "it makes a tensor of shape {other:?} from {count} rows; (N, L) and (N, C, H, W) are known"
                )));
            }
        };
        if expected.is_some_and(|expected| expected != shape) {
            return Err(refused(format!("it makes {shape} where {expected:?} is expected")));
        }
        Ok((Batch::from_rows(&values, shape), shape))
    }

    fn through_tract(&self, inputs: &[Arc<Batch>], opset: i64) -> TractResult<(Vec<f32>, Vec<usize>)> {
        let mut ports = Vec::new();
        let mut node: NodeProto = self.node.clone();
        let constant = |name: &str| self.constants.iter().any(|tensor| tensor.name == name);
        let mut tensors = Vec::new();
        let mut values = inputs.iter();
        for (index, name) in node.input.iter_mut().enumerate() {
            if name.is_empty() || constant(name) {
                continue;
            }
            let batch = values.next().ok_or_else(|| TractError::msg("a node has more inputs than values"))?;
            *name = format!("input{index}");
            let dims: Vec<usize> = std::iter::once(batch.count).chain(batch.shape.dims()).collect();
            ports.push(declare(name, DataType::Float, &batch.shape.dims()));
            tensors.push(Tensor::from_shape(&dims, &batch.to_rows())?);
        }
        node.output = vec!["output".into()];
        let proto = ModelProto {
            ir_version: 8,
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: opset }],
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
