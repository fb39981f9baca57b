//! A graph's forward pass by candle's own operations in f64, whose gradients are candle's: for what discriminators of
//! the presets consist of.

use candle_core::{DType, Device, Error, Result, Tensor, Var};
use edgegen_trainer::graph::op::{Padding, Window};
use edgegen_trainer::graph::{Activation, Graph, Op, Over};

/// f32 values as an f64 tensor.
pub(crate) fn tensor(values: &[f32], dims: &[usize]) -> Result<Tensor> {
    Tensor::from_slice(values, dims, &Device::Cpu)?.to_dtype(DType::F64)
}

/// A chain on (N, input…), batch norm by the batch's own statistics.
pub(crate) fn by_candle(graph: &Graph, parameters: &[Var], x: &Tensor) -> Result<Tensor> {
    let mut parameters = parameters.iter();
    let mut x = x.clone();
    let count = x.dim(0)?;
    for node in &graph.nodes {
        let own: Vec<&Var> = parameters.by_ref().take(node.parameters.len()).collect();
        let bias = |y: Tensor| -> Result<Tensor> {
            let Some(bias) = own.get(1) else { return Ok(y) };
            let mut dims = vec![1; y.rank()];
            dims[1] = bias.elem_count();
            y.broadcast_add(&bias.reshape(dims)?)
        };
        x = match node.op {
            Op::Dense { .. } => bias(x.matmul(&own[0].t()?)?)?,
            Op::Conv {
                window: Window { stride, padding: Padding::Zeros(padding), .. }, groups: 1, ..
            } => bias(x.conv2d(own[0].as_tensor(), padding, stride, 1, 1)?)?,
            Op::Norm { channels, over: Over::Batch, epsilon } => {
                let by_channel = x.transpose(0, 1)?.flatten_from(1)?.contiguous()?;
                let mean = by_channel.mean_keepdim(1)?;
                let centred = by_channel.broadcast_sub(&mean)?;
                let deviation = (centred.sqr()?.mean_keepdim(1)? + epsilon)?.sqrt()?;
                let scaled =
                    centred.broadcast_div(&deviation)?.broadcast_mul(&own[0].reshape((channels, 1))?)?;
                let shifted = scaled.broadcast_add(&own[1].reshape((channels, 1))?)?;
                let mut dims = x.dims().to_vec();
                dims.swap(0, 1);
                shifted.reshape(dims)?.transpose(0, 1)?.contiguous()?
            }
            Op::Activation(Activation::LeakyRelu(slope)) => {
                (x.relu()? - (x.neg()?.relu()? * f64::from(slope))?)?
            }
            Op::Reshape(shape) => x.reshape([vec![count], shape.dims()].concat())?,
            ref other => return Err(Error::Msg(format!("{other:?} is no discriminator's"))),
        };
    }
    Ok(x)
}
