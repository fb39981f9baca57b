//! A layer list on tensors: forward passes whose gradients are candle's, with convolutions as matrix products.
//!
//! candle's own gradients of convolutions are slow loops. Here a convolution is padding, strided views, one matrix
//! product over the whole batch, and a transposed one the same backwards: all gradients are matrix products too.

use candle_core::{D, Device, Result, Tensor, Var};

use crate::network::module::Module;
use crate::network::{Activation, Layer, Network, Shape};
use crate::nn::batch_norm::{EPSILON, MOMENTUM};

/// What becomes of the kinks of (leaky) ReLUs, see [`Module::record_along`].
pub(super) enum Kinks<'a> {
    /// The slope follows the value.
    Free,
    /// The same, and each value's slope is added here, layer by layer.
    Noted(&'a mut Vec<Tensor>),
    /// The slopes are these.
    Held(std::slice::Iter<'a, Tensor>),
}

/// A module whose values lie on a device.
pub(super) struct DeviceModule {
    network: Network,
    /// In the module's order.
    values: Vec<Var>,
    trained: Vec<bool>,
    /// For each layer, where its values start.
    starts: Vec<usize>,
}

impl DeviceModule {
    /// Copies a module.
    pub(super) fn of(module: &Module, device: &Device) -> Result<Self> {
        let to_device = |parameter: &crate::network::module::Parameter| {
            Var::from_slice(&parameter.value, parameter.shape.as_slice(), device)
        };
        let values = module.parameters().iter().map(to_device).collect::<Result<_>>()?;
        let mut starts = Vec::new();
        let mut start = 0;
        for index in 0..module.network().layers.len() {
            starts.push(start);
            start += module.layer_parameters(index).len();
        }
        let trained = module.parameters().iter().map(|parameter| parameter.trained).collect();
        Ok(Self { network: module.network().clone(), values, trained, starts })
    }

    /// Copies the values back.
    pub(super) fn store(&self, module: &mut Module) -> Result<()> {
        for (value, parameter) in self.values.iter().zip(module.parameters_mut()) {
            parameter.value = value.flatten_all()?.to_vec1()?;
        }
        Ok(())
    }

    /// What is trained, in order.
    pub(super) fn trained(&self) -> impl Iterator<Item = &Var> {
        self.values.iter().zip(&self.trained).filter(|(_, trained)| **trained).map(|(value, _)| value)
    }

    /// Weight of each convolution and dense layer, as a place in the module's order.
    pub(super) fn value(&self, place: usize) -> &Var {
        &self.values[place]
    }

    /// Moves every value towards `other`'s: value ← decay · value + (1 − decay) · other.
    pub(super) fn follow(&self, other: &Self, decay: f64) -> Result<()> {
        for (own, other) in self.values.iter().zip(&other.values) {
            own.set(&((own.as_tensor() * decay)? + (other.as_tensor() * (1.0 - decay))?)?.detach())?;
        }
        Ok(())
    }

    /// Layers without a last activation.
    pub(super) fn without_last_activation(&self) -> usize {
        let count = self.network.layers.len();
        count - usize::from(matches!(self.network.layers.last(), Some(Layer::Activation(_))))
    }

    /// The first `count` layers on (N, input…) by the batch's own statistics, which the running ones follow; `None`:
    /// all. A value of `instead` stands for the module's own at the same place.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        classes: Option<&Tensor>,
        count: Option<usize>,
        instead: &[(usize, Tensor)],
    ) -> Result<Tensor> {
        self.forward_along(x, classes, count, instead, &mut Kinks::Free)
    }

    /// As [`Self::forward`], with `kinks`.
    pub(super) fn forward_along(
        &self,
        x: &Tensor,
        classes: Option<&Tensor>,
        count: Option<usize>,
        instead: &[(usize, Tensor)],
        kinks: &mut Kinks<'_>,
    ) -> Result<Tensor> {
        let mut x = x.clone();
        for (index, layer) in self.network.layers.iter().take(count.unwrap_or(usize::MAX)).enumerate() {
            let start = self.starts[index];
            let end = self.starts.get(index + 1).copied().unwrap_or(self.values.len());
            let own = |slot: usize| {
                let place = start + slot;
                let other = instead.iter().find(|(at, _)| *at == place).map(|(_, value)| value);
                (place < end).then(|| other.unwrap_or(self.values[place].as_tensor()))
            };
            let weight = || own(0).ok_or_else(|| candle_core::Error::Msg(format!("{layer:?} has no weight")));
            x = match *layer {
                Layer::Dense { .. } => add_bias(x.matmul(&weight()?.t()?)?, own(1))?,
                Layer::Conv { stride, padding, .. } => {
                    add_bias(convolve(&x, weight()?, stride, padding)?, own(1))?
                }
                Layer::ConvTranspose { stride, padding, .. } => {
                    add_bias(convolve_transposed(&x, weight()?, stride, padding)?, own(1))?
                }
                Layer::UpsampleConv { kernel, .. } => {
                    let (_, _, height, width) = x.dims4()?;
                    let larger = x.upsample_nearest2d(2 * height, 2 * width)?;
                    add_bias(convolve(&larger, weight()?, 1, kernel / 2)?, own(1))?
                }
                Layer::BatchNorm { .. } => self.normalise(&x, start)?,
                Layer::Activation(Activation::Relu) => leaky_relu(&x, 0.0, kinks)?,
                Layer::Activation(Activation::LeakyRelu(slope)) => leaky_relu(&x, slope, kinks)?,
                Layer::Activation(Activation::Tanh) => x.tanh()?,
                // the quotient with e^−x has no gradient where that overflows
                Layer::Activation(Activation::Sigmoid) => (((x * 0.5)?.tanh()? * 0.5)? + 0.5)?,
                Layer::Reshape(shape) => x.reshape(rows_of(x.dim(0)?, shape))?,
                Layer::ClassEmbedding { .. } => (x + weight()?.index_select(told(classes)?, 0)?)?,
                Layer::ClassProjection { .. } => {
                    let own_class = (told(classes)? + 1.0)?.unsqueeze(1)?;
                    (x.narrow(1, 0, 1)? + x.gather(&own_class, 1)?)?
                }
            };
        }
        Ok(x)
    }

    fn normalise(&self, x: &Tensor, start: usize) -> Result<Tensor> {
        let (count, channels) = (x.elem_count() / x.dim(1)?, x.dim(1)?);
        let by_channel = x.transpose(0, 1)?.flatten_from(1)?.contiguous()?;
        let mean = by_channel.mean_keepdim(1)?;
        let centred = by_channel.broadcast_sub(&mean)?;
        let variance = centred.sqr()?.mean_keepdim(1)?;
        let deviation = (&variance + EPSILON)?.sqrt()?;
        let [scale, shift] = [0, 1].map(|slot| self.values[start + slot].reshape((channels, 1)));
        let out = centred.broadcast_div(&deviation)?.broadcast_mul(&scale?)?.broadcast_add(&shift?)?;
        let unbiased = count as f64 / (count as f64 - 1.0).max(1.0);
        let momentum = f64::from(MOMENTUM);
        for (slot, found) in [(2, mean), (3, (variance * unbiased)?)] {
            let running = &self.values[start + slot];
            let moved = (found.detach().flatten_all()? * momentum)?;
            running.set(&((running.as_tensor() * (1.0 - momentum))? + moved)?.detach())?;
        }
        let mut dims = x.dims().to_vec();
        dims.swap(0, 1);
        out.reshape(dims)?.transpose(0, 1)?.contiguous()
    }
}

/// x, or slope · x below zero; at 0 the gradient is that below, as ours and PyTorch's, while candle's own `relu` has
/// that above: what augmentation cuts out, and backgrounds, are exactly 0.
fn leaky_relu(x: &Tensor, slope: f32, kinks: &mut Kinks<'_>) -> Result<Tensor> {
    match kinks {
        Kinks::Free => {}
        Kinks::Noted(slopes) => {
            let above = x.detach().gt(0.0)?.to_dtype(x.dtype())?;
            slopes.push(((above * f64::from(1.0 - slope))? + f64::from(slope))?);
        }
        Kinks::Held(slopes) => {
            let missing = || candle_core::Error::Msg("there are more kinks than were noted".into());
            return x * slopes.next().ok_or_else(missing)?;
        }
    }
    x + (x.neg()?.relu()? * f64::from(1.0 - slope))?
}

fn told(classes: Option<&Tensor>) -> Result<&Tensor> {
    classes.ok_or_else(|| candle_core::Error::Msg("the network is to be told classes".into()))
}

/// Axes of N rows of a shape.
pub(super) fn rows_of(count: usize, shape: Shape) -> Vec<usize> {
    [vec![count], shape.dims()].concat()
}

fn add_bias(y: Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let Some(bias) = bias else { return Ok(y) };
    let mut dims = vec![1; y.rank()];
    dims[1] = bias.elem_count();
    y.broadcast_add(&bias.reshape(dims)?)
}

/// (N, C, H, W) and (O, C, k, k) → (N, O, OH, OW).
pub(super) fn convolve(x: &Tensor, weight: &Tensor, stride: usize, padding: usize) -> Result<Tensor> {
    let (count, channels, height, width) = x.dims4()?;
    let (outputs, _, kernel, _) = weight.dims4()?;
    let side = |side: usize| (side + 2 * padding - kernel) / stride + 1;
    let (out_height, out_width) = (side(height), side(width));
    // steps that the taps reach, each of `stride` pixels
    let reach = |out: usize| out + (kernel - 1) / stride;
    let (rows, columns) = (reach(out_height), reach(out_width));
    let fit = |x: &Tensor, axis: usize, have: usize, want: usize| -> Result<Tensor> {
        let x = x.pad_with_zeros(axis, padding, want.saturating_sub(have + padding))?;
        if x.dim(axis)? > want { x.narrow(axis, 0, want) } else { Ok(x) }
    };
    let x = fit(x, 2, height, rows * stride)?;
    let x = fit(&x, 3, width, columns * stride)?.contiguous()?;
    let x = x.reshape((count, channels, rows, stride, columns, stride))?;
    let mut taps = Vec::with_capacity(kernel * kernel);
    for a in 0..kernel {
        let row = x.narrow(3, a % stride, 1)?.narrow(2, a / stride, out_height)?;
        for b in 0..kernel {
            let tap = row.narrow(5, b % stride, 1)?.narrow(4, b / stride, out_width)?;
            taps.push(tap.reshape((count, channels, out_height * out_width))?.transpose(0, 1)?);
        }
    }
    // (k·k·C, N·OH·OW)
    let gathered = Tensor::cat(&taps, 0)?.reshape((kernel * kernel * channels, ()))?;
    let weight = weight.permute((0, 2, 3, 1))?.reshape((outputs, ()))?;
    let product = weight.matmul(&gathered)?;
    product.reshape((outputs, count, out_height, out_width))?.transpose(0, 1)?.contiguous()
}

/// (N, I, h, w) and (I, O, k, k) → (N, O, H, W) with sides (side − 1) · stride + k − 2 · padding.
pub(super) fn convolve_transposed(
    x: &Tensor,
    weight: &Tensor,
    stride: usize,
    padding: usize,
) -> Result<Tensor> {
    let (count, inputs, height, width) = x.dims4()?;
    let (_, outputs, kernel, _) = weight.dims4()?;
    let columns = x.transpose(0, 1)?.reshape((inputs, count * height * width))?;
    let weight = weight.permute((2, 3, 1, 0))?.reshape((kernel * kernel * outputs, inputs))?;
    // (k·k, O, N, h, w)
    let spread = weight.matmul(&columns)?.reshape((kernel * kernel, outputs, count, height * width))?;
    let reach = (kernel - 1) / stride;
    let (rows, cols) = (height + reach, width + reach);
    let mut phases = Vec::with_capacity(stride * stride);
    for phase_a in 0..stride {
        for phase_b in 0..stride {
            let mut sum: Option<Tensor> = None;
            for a in (phase_a..kernel).step_by(stride) {
                for b in (phase_b..kernel).step_by(stride) {
                    let tap = spread.get(a * kernel + b)?.reshape((outputs, count, height, width))?;
                    let tap = tap.pad_with_zeros(2, a / stride, reach - a / stride)?;
                    let tap = tap.pad_with_zeros(3, b / stride, reach - b / stride)?;
                    sum = Some(match sum {
                        Some(sum) => (sum + tap)?,
                        None => tap,
                    });
                }
            }
            let empty = || Tensor::zeros((outputs, count, rows, cols), x.dtype(), x.device());
            phases.push(sum.map_or_else(empty, Ok)?);
        }
    }
    // (O, N, rows, cols, stride, stride) → (N, O, rows · stride, cols · stride)
    let all = Tensor::stack(&phases, D::Minus1)?.reshape((outputs, count, rows, cols, stride, stride))?;
    let all = all.permute((1, 0, 2, 4, 3, 5))?.reshape((count, outputs, rows * stride, cols * stride))?;
    let side = |side: usize| (side - 1) * stride + kernel - 2 * padding;
    all.narrow(2, padding, side(height))?.narrow(3, padding, side(width))?.contiguous()
}
