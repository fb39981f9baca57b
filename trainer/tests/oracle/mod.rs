//! A module's forward pass by candle's own operations in f64, whose gradients are candle's.

use candle_core::{DType, Device, Result, Tensor, Var};
use edgegen_trainer::network::module::Module;
use edgegen_trainer::network::{Activation, Layer};
use edgegen_trainer::nn::batch_norm::EPSILON;

/// f32 values as an f64 tensor.
pub(crate) fn tensor(values: &[f32], dims: &[usize]) -> Result<Tensor> {
    Tensor::from_slice(values, dims, &Device::Cpu)?.to_dtype(DType::F64)
}

/// The network on (N, input…), batch norm by the batch's own statistics.
pub(crate) fn by_candle(module: &Module, parameters: &[Var], x: &Tensor, classes: &[u32]) -> Result<Tensor> {
    let mut parameters = parameters.iter();
    let mut x = x.clone();
    let network = module.network();
    let count = x.dim(0)?;
    for (index, layer) in network.layers.iter().enumerate() {
        let own: Vec<&Var> = parameters.by_ref().take(network.parameters(index).len()).collect();
        let bias = |y: Tensor| -> Result<Tensor> {
            let Some(bias) = own.get(1) else { return Ok(y) };
            let mut dims = vec![1; y.rank()];
            dims[1] = bias.elem_count();
            y.broadcast_add(&bias.reshape(dims)?)
        };
        x = match *layer {
            Layer::Dense { .. } => bias(x.matmul(&own[0].t()?)?)?,
            Layer::Conv { stride, padding, .. } => {
                bias(x.conv2d(own[0].as_tensor(), padding, stride, 1, 1)?)?
            }
            Layer::ConvTranspose { stride, padding, .. } => {
                bias(x.conv_transpose2d(own[0].as_tensor(), padding, 0, stride, 1)?)?
            }
            Layer::UpsampleConv { kernel, .. } => {
                let (_, _, height, width) = x.dims4()?;
                let larger = x.upsample_nearest2d(2 * height, 2 * width)?;
                bias(larger.conv2d(own[0].as_tensor(), kernel / 2, 1, 1, 1)?)?
            }
            Layer::BatchNorm { channels } => {
                let by_channel = x.transpose(0, 1)?.flatten_from(1)?.contiguous()?;
                let mean = by_channel.mean_keepdim(1)?;
                let centred = by_channel.broadcast_sub(&mean)?;
                let deviation = (centred.sqr()?.mean_keepdim(1)? + EPSILON)?.sqrt()?;
                let scaled =
                    centred.broadcast_div(&deviation)?.broadcast_mul(&own[0].reshape((channels, 1))?)?;
                let shifted = scaled.broadcast_add(&own[1].reshape((channels, 1))?)?;
                let mut dims = x.dims().to_vec();
                dims.swap(0, 1);
                shifted.reshape(dims)?.transpose(0, 1)?.contiguous()?
            }
            Layer::Activation(Activation::Relu) => x.relu()?,
            Layer::Activation(Activation::LeakyRelu(slope)) => {
                (x.relu()? - (x.neg()?.relu()? * f64::from(slope))?)?
            }
            Layer::Activation(Activation::Tanh) => x.tanh()?,
            Layer::Activation(Activation::Sigmoid) => (x.neg()?.exp()? + 1.0)?.recip()?,
            Layer::Reshape(shape) => x.reshape([vec![count], shape.dims()].concat())?,
            Layer::ClassEmbedding { .. } => {
                let index = Tensor::new(classes, &Device::Cpu)?;
                (x + own[0].index_select(&index, 0)?)?
            }
            Layer::ClassProjection { .. } => {
                let index: Vec<u32> = classes.iter().map(|class| class + 1).collect();
                let index = Tensor::from_vec(index, (count, 1), &Device::Cpu)?;
                (x.narrow(1, 0, 1)? + x.gather(&index, 1)?)?
            }
        };
    }
    Ok(x)
}
