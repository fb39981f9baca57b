//! Bias and activation in one pass over memory, forward and backward.

use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::lanes;
use super::storage::{contiguous, storage_of};

/// What a layer does to each value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// max(x, 0).
    Relu,
    /// x, or slope · x below zero.
    LeakyRelu(f32),
    /// Hyperbolic tangent, range (−1, 1).
    Tanh,
    /// 1 / (1 + e^−x), range (0, 1).
    Sigmoid,
}

impl Activation {
    /// Applies the function by candle's own operations (any device, differentiable).
    ///
    /// # Errors
    /// Candle's.
    pub fn apply(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Relu => x.relu(),
            Self::LeakyRelu(slope) => x.relu()? - (x.neg()?.relu()? * f64::from(slope))?,
            Self::Tanh => x.tanh(),
            Self::Sigmoid => (x.neg()?.exp()? + 1.0)?.recip(),
        }
    }

    fn apply_to(self, values: &mut [f32]) {
        match self {
            // not max(v, 0), which would turn NaN into 0 and hide that a run has diverged
            Self::Relu => values.iter_mut().for_each(|v| *v = if *v < 0.0 { 0.0 } else { *v }),
            Self::LeakyRelu(slope) => {
                values.iter_mut().for_each(|v| *v = if *v < 0.0 { slope * *v } else { *v })
            }
            Self::Tanh => lanes::tanh(values),
            Self::Sigmoid => lanes::sigmoid(values),
        }
    }

    /// `gradient` · f′, from the function's results alone.
    fn backward(self, results: &[f32], gradient: &mut [f32]) {
        let pairs = gradient.iter_mut().zip(results);
        match self {
            Self::Relu => pairs.for_each(|(g, y)| *g = if *y > 0.0 { *g } else { 0.0 }),
            Self::LeakyRelu(slope) => pairs.for_each(|(g, y)| *g = if *y > 0.0 { *g } else { slope * *g }),
            Self::Tanh => pairs.for_each(|(g, y)| *g *= 1.0 - *y * *y),
            Self::Sigmoid => pairs.for_each(|(g, y)| *g *= *y * (1.0 - *y)),
        }
    }
}

/// activation(x + bias) with x (N, C, …) and bias (C).
///
/// # Errors
/// If the channel counts differ.
pub fn bias_activation(x: &Tensor, bias: &Tensor, activation: Option<Activation>) -> Result<Tensor> {
    if x.device().is_cpu() && x.dtype() == DType::F32 {
        return x.contiguous()?.apply_op2(bias, BiasActivation { activation });
    }
    let mut shape = vec![1; x.rank()];
    shape[1] = bias.elem_count();
    let sum = x.broadcast_add(&bias.reshape(shape)?)?;
    activation.map_or(Ok(sum.clone()), |activation| activation.apply(&sum))
}

struct BiasActivation {
    activation: Option<Activation>,
}

fn channels_and_pixels(shape: &Shape) -> (usize, usize) {
    (shape.dims()[1], shape.dims()[2..].iter().product())
}

impl CustomOp2 for BiasActivation {
    fn name(&self) -> &'static str {
        "bias and activation"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        bias: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let mut values = contiguous::<f32>(x, xl)?.to_vec();
        let bias = contiguous::<f32>(bias, bl)?;
        let (channels, pixels) = channels_and_pixels(xl.shape());
        if bias.len() != channels {
            candle_core::bail!("{} biases for {channels} channels", bias.len());
        }
        values.par_chunks_mut(channels * pixels).for_each(|picture| {
            if pixels == 1 {
                picture.iter_mut().zip(bias).for_each(|(value, bias)| *value += bias);
            } else {
                for (channel, bias) in picture.chunks_mut(pixels).zip(bias) {
                    channel.iter_mut().for_each(|value| *value += bias);
                }
            }
            if let Some(activation) = self.activation {
                activation.apply_to(picture);
            }
        });
        Ok((storage_of(values), xl.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        bias: &Tensor,
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let through = match self.activation {
            Some(activation) => gradient.contiguous()?.apply_op2_no_bwd(result, &Backward { activation })?,
            None => gradient.contiguous()?,
        };
        let of_bias = bias.track_op().then(|| through.apply_op1_no_bwd(&ChannelSum)).transpose()?;
        Ok((x.track_op().then_some(through), of_bias))
    }
}

struct Backward {
    activation: Activation,
}

impl CustomOp2 for Backward {
    fn name(&self) -> &'static str {
        "activation gradient"
    }

    fn cpu_fwd(
        &self,
        gradient: &CpuStorage,
        gl: &Layout,
        result: &CpuStorage,
        rl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        const PIECE: usize = 1 << 14;
        let mut values = contiguous::<f32>(gradient, gl)?.to_vec();
        let results = contiguous::<f32>(result, rl)?;
        values
            .par_chunks_mut(PIECE)
            .zip(results.par_chunks(PIECE))
            .for_each(|(g, y)| self.activation.backward(y, g));
        Ok((storage_of(values), gl.shape().clone()))
    }
}

/// (N, C, …) → (C): the gradient of a bias.
struct ChannelSum;

impl candle_core::CustomOp1 for ChannelSum {
    fn name(&self) -> &'static str {
        "sum per channel"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let values = contiguous::<f32>(storage, layout)?;
        let (channels, pixels) = channels_and_pixels(layout.shape());
        let mut sums = vec![0f32; channels];
        for picture in values.chunks(channels * pixels) {
            for (sum, channel) in sums.iter_mut().zip(picture.chunks(pixels)) {
                *sum += sum_of(channel);
            }
        }
        Ok((storage_of(sums), channels.into()))
    }
}

/// A sum in a fixed order that vectorises.
fn sum_of(values: &[f32]) -> f32 {
    let (wide, rest) = values.as_chunks::<16>();
    let mut sums = [0f32; 16];
    for values in wide {
        sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
    }
    sums.iter().sum::<f32>() + rest.iter().sum::<f32>()
}
