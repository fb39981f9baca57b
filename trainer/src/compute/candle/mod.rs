//! candle's tensors: rows (N, features) or (N, C, H, W) in float32. For CUDA; the tests run it on candle's CPU device
//! beside [`super::Lanes`].
//!
//! Nothing here uses candle's automatic differentiation. A convolution is padding, strided views and one matrix product
//! over the whole batch, and so are its transpose and its weight gradient. The figures are the CPU's up to float
//! rounding, but not the bits: matrix products add in their own order.

mod convolution;

use std::path::Path;

use candle_core::{D, DType, Device, Tensor};

use super::axis::Axis;
use super::{AdamStep, Backend, Change, Density, Divided, EPSILON, MOMENTUM};
use crate::graph::geometry::{Geometry, Role};
use crate::graph::{Activation, Over, Shape, Window, upsample};
use crate::{Error, Result};

/// Added to norms, so that a weight of zeros is no division by zero.
const TINY: f64 = 1e-12;

/// A device of candle's.
#[derive(Clone, Debug)]
pub struct Candle {
    device: Device,
}

/// Means and variances, shaped so that they broadcast over what they are of.
#[derive(Clone, Debug)]
pub struct Moments {
    mean: Tensor,
    variance: Tensor,
    inverse: Tensor,
    over: Over,
    count: f64,
    constant: bool,
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        // candle may append a backtrace: the first line says what it is
        let text = error.to_string();
        let what = text.lines().next().unwrap_or_default();
        Self::Training(format!("the device failed: {what}; a smaller --batch takes less of its memory"))
    }
}

impl Candle {
    /// The tensors of `device`.
    pub fn new(device: Device) -> Self {
        Self { device }
    }

    /// The first CUDA device.
    ///
    /// # Errors
    /// [`Error::Config`] if CUDA is not built into this program, or there is no such device.
    pub fn cuda() -> Result<Self> {
        if !cfg!(feature = "cuda") {
            return Err(Error::Config(
                "CUDA is not built into this program: build it with --features cuda, or use --device cpu"
                    .into(),
            ));
        }
        // without a driver, not even the question whether there is a device can be asked
        let drivers = ["/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/nvhost-ctrl", "/dev/dxg"];
        if cfg!(target_os = "linux") && !drivers.iter().any(|driver| Path::new(driver).exists()) {
            let problem = "there is no NVIDIA driver on this machine; install one, or use --device cpu";
            return Err(Error::Config(problem.into()));
        }
        let device = Device::new_cuda(0).map_err(|e| {
            Error::Config(format!("there is no CUDA device to train on ({e}); use --device cpu"))
        })?;
        Ok(Self { device })
    }

    fn filled(&self, rows: Vec<f32>, dims: &[usize]) -> Result<Tensor> {
        Ok(Tensor::from_vec(rows, dims, &self.device)?)
    }

    /// A number for each picture, (N, 1, 1, 1).
    fn each(&self, numbers: Vec<f32>) -> Result<Tensor> {
        let count = numbers.len();
        self.filled(numbers, &[count, 1, 1, 1])
    }
}

/// Axes of N rows of a shape.
fn dims(count: usize, shape: Shape) -> Vec<usize> {
    [vec![count], shape.dims()].concat()
}

/// (channels) as it broadcasts over x.
fn by_channel(x: &Tensor, values: &Tensor) -> Result<Tensor> {
    let mut dims = vec![1; x.rank()];
    dims[1] = values.elem_count();
    Ok(values.reshape(dims)?)
}

/// (N, C, pixels).
fn flat(x: &Tensor) -> Result<Tensor> {
    let (count, channels) = (x.dim(0)?, x.dim(1)?);
    Ok(x.reshape((count, channels, ()))?)
}

/// 1 where `condition` holds, otherwise 0.
fn indicator(condition: Tensor) -> Result<Tensor> {
    Ok(condition.to_dtype(DType::F32)?)
}

fn sigmoid(x: &Tensor) -> Result<Tensor> {
    // the quotient with e^−x overflows
    Ok((((x * 0.5)?.tanh()? * 0.5)? + 0.5)?)
}

/// ln(1 + e^x).
fn softplus(x: &Tensor) -> Result<Tensor> {
    Ok((x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?)?)
}

/// min(max(x / 6 + ½, 0), 1).
fn hard_sigmoid(x: &Tensor) -> Result<Tensor> {
    Ok(((x * (1.0 / 6.0))? + 0.5)?.clamp(0f32, 1f32)?)
}

/// x, or slope · x below zero.
fn leaky_relu(x: &Tensor, slope: f32) -> Result<Tensor> {
    Ok((x + (x.neg()?.relu()? * f64::from(1.0 - slope))?)?)
}

/// The length of each pixel, (N, 1, …).
fn lengths(x: &Tensor) -> Result<Tensor> {
    Ok((x.sqr()?.sum_keepdim(1)? + EPSILON)?.sqrt()?)
}

/// Σ over a channel's values, (channels).
fn channel_sums(x: &Tensor) -> Result<Tensor> {
    Ok(flat(x)?.sum(2)?.sum(0)?)
}

impl Moments {
    /// (x − mean) / √(variance + ε), in [`grouped`], and 1 / √(variance + ε) as it broadcasts over that.
    fn standardise(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let (mean, inverse) = if self.constant {
            (by_channel(x, &self.mean)?, by_channel(x, &self.inverse)?)
        } else {
            (self.mean.clone(), self.inverse.clone())
        };
        let own = grouped(x, self.over)?.broadcast_sub(&mean)?.broadcast_mul(&inverse)?;
        Ok((own, inverse))
    }

    /// Sums over what each mean is of, broadcast like the mean.
    fn sums(&self, x: &Tensor) -> Result<Tensor> {
        sums(x, self.over)
    }
}

/// Sums over the values that a normalisation takes together, broadcast like x (in [`grouped`]).
fn sums(x: &Tensor, over: Over) -> Result<Tensor> {
    Ok(match over {
        Over::Batch => by_channel(x, &channel_sums(x)?)?,
        Over::Groups(_) => x.sum_keepdim(D::Minus1)?,
    })
}

/// x as a normalisation looks at it: itself, or (N, groups, values).
fn grouped(x: &Tensor, over: Over) -> Result<Tensor> {
    Ok(match over {
        Over::Batch => x.clone(),
        Over::Groups(groups) => x.reshape((x.dim(0)?, groups, ()))?,
    })
}

impl Backend for Candle {
    type Tensor = Tensor;
    type Weight = Tensor;
    type Moments = Moments;

    fn tensor(&self, rows: &[f32], shape: Shape) -> Result<Tensor> {
        let count = rows.len() / shape.values();
        Ok(Tensor::from_slice(rows, dims(count, shape), &self.device)?)
    }

    fn rows(&self, x: &Tensor) -> Result<Vec<f32>> {
        Ok(x.flatten_all()?.to_vec1()?)
    }

    fn count(&self, x: &Tensor) -> usize {
        x.dims()[0]
    }

    fn shape(&self, x: &Tensor) -> Shape {
        match *x.dims() {
            [_, channels, height, width] => Shape::Image(channels, height, width),
            ref dims => Shape::Vector(dims[1..].iter().product()),
        }
    }

    fn weight(&self, values: &[f32], dims: &[usize]) -> Result<Tensor> {
        Ok(Tensor::from_slice(values, dims, &self.device)?)
    }

    fn values(&self, weight: &Tensor) -> Result<Vec<f32>> {
        self.rows(weight)
    }

    fn zeros(&self, like: &Tensor) -> Result<Tensor> {
        Ok(like.zeros_like()?)
    }

    fn correlate(
        &self,
        geometry: &Geometry,
        role: Role,
        x: &Tensor,
        (weight, bias): (&Tensor, Option<&Tensor>),
        shape: Shape,
    ) -> Result<Tensor> {
        let y = convolution::correlate(geometry, role, x, weight)?;
        let y = y.reshape(dims(x.dim(0)?, shape))?;
        Ok(match bias {
            Some(bias) => y.broadcast_add(&by_channel(&y, bias)?)?,
            None => y,
        })
    }

    fn weight_gradient(
        &self,
        geometry: &Geometry,
        fine: &Tensor,
        coarse: &Tensor,
        into: &mut Tensor,
    ) -> Result<()> {
        let found = convolution::weight_gradient(geometry, fine, coarse)?;
        *into = (&*into + found.reshape(into.shape())?)?;
        Ok(())
    }

    fn bias_gradient(&self, gradient: &Tensor, into: &mut Tensor) -> Result<()> {
        *into = (&*into + channel_sums(gradient)?)?;
        Ok(())
    }

    fn expand(&self, weight: &Tensor, (outputs, inputs, kernel): (usize, usize, usize)) -> Result<Tensor> {
        let (taps, wide) = (kernel * kernel, kernel + 1);
        let expansion = self.filled(upsample::matrix(kernel), &[taps, wide * wide])?;
        let wider = weight.reshape((outputs * inputs, taps))?.matmul(&expansion)?;
        Ok(wider.reshape((outputs, inputs, wide, wide))?.transpose(0, 1)?.contiguous()?)
    }

    fn collect(
        &self,
        gradient: &Tensor,
        (outputs, inputs, kernel): (usize, usize, usize),
        into: &mut Tensor,
    ) -> Result<()> {
        let (taps, wide) = (kernel * kernel, kernel + 1);
        let expansion = self.filled(upsample::matrix(kernel), &[taps, wide * wide])?;
        let wider = gradient.reshape((inputs, outputs, wide * wide))?.transpose(0, 1)?.contiguous()?;
        let found = wider.reshape((outputs * inputs, wide * wide))?.matmul(&expansion.t()?)?;
        *into = (&*into + found.reshape(into.shape())?)?;
        Ok(())
    }

    fn activate(&self, activation: Activation, x: Tensor) -> Result<Tensor> {
        match activation {
            Activation::Relu => Ok(x.relu()?),
            Activation::LeakyRelu(slope) => leaky_relu(&x, slope),
            Activation::Relu6 => Ok(x.clamp(0f32, 6f32)?),
            Activation::Tanh => Ok(x.tanh()?),
            Activation::Sigmoid => sigmoid(&x),
            Activation::Silu => Ok((&x * sigmoid(&x)?)?),
            Activation::Softplus => softplus(&x),
            Activation::HardSigmoid => hard_sigmoid(&x),
            Activation::HardSwish => Ok((&x * hard_sigmoid(&x)?)?),
        }
    }

    fn slope(&self, activation: Activation, at: &Tensor, gradient: Tensor) -> Result<Tensor> {
        let stepped = |slope: f32| -> Result<Tensor> {
            let above = indicator(at.gt(0f32)?)?;
            Ok(((above * f64::from(1.0 - slope))? + f64::from(slope))?)
        };
        let slope = match activation {
            Activation::Relu => stepped(0.0)?,
            Activation::LeakyRelu(slope) => stepped(slope)?,
            Activation::Relu6 => (indicator(at.gt(0f32)?)? * indicator(at.lt(6f32)?)?)?,
            Activation::Tanh => (1.0 - at.sqr()?)?,
            Activation::Sigmoid => (at - at.sqr()?)?,
            Activation::Silu => {
                let s = sigmoid(at)?;
                (&s * (((1.0 - &s)? * at)? + 1.0)?)?
            }
            Activation::Softplus => (1.0 - at.neg()?.exp()?)?,
            Activation::HardSigmoid => {
                ((indicator(at.gt(0f32)?)? * indicator(at.lt(1f32)?)?)? * (1.0 / 6.0))?
            }
            Activation::HardSwish => {
                let inside = (indicator(at.ge(-3f32)?)? * indicator(at.le(3f32)?)?)?;
                ((inside * ((at * (1.0 / 3.0))? + 0.5)?)? + indicator(at.gt(3f32)?)?)?
            }
        };
        Ok((gradient * slope)?)
    }

    fn add(&self, x: Tensor, factor: f32, y: &Tensor) -> Result<Tensor> {
        Ok(if factor == 1.0 { (x + y)? } else { (x + (y * f64::from(factor))?)? })
    }

    fn mul(&self, x: Tensor, y: &Tensor) -> Result<Tensor> {
        Ok((x * y)?)
    }

    fn scale(&self, x: Tensor, by: &Tensor) -> Result<Tensor> {
        let (count, channels) = (x.dim(0)?, x.dim(1)?);
        let mut dims = vec![1; x.rank()];
        (dims[0], dims[1]) = (count, channels);
        Ok(x.broadcast_mul(&by.reshape(dims)?)?)
    }

    fn dots(&self, x: &Tensor, y: &Tensor, shape: Shape) -> Result<Tensor> {
        Ok(flat(&(x * y)?)?.sum(2)?.reshape(dims(x.dim(0)?, shape))?)
    }

    fn moments(&self, x: &Tensor, over: Over, epsilon: f64) -> Result<Moments> {
        let x = grouped(x, over)?;
        let sum = sums(&x, over)?;
        let count = x.elem_count() as f64 / sum.elem_count() as f64;
        let mean = (sum * (1.0 / count))?;
        let variance = (sums(&x.broadcast_sub(&mean)?.sqr()?, over)? * (1.0 / count))?;
        let inverse = (&variance + epsilon)?.sqrt()?.recip()?;
        Ok(Moments { mean, variance, inverse, over, count, constant: false })
    }

    fn running(&self, mean: &Tensor, variance: &Tensor, epsilon: f64) -> Result<Moments> {
        Ok(Moments {
            mean: mean.clone(),
            variance: variance.clone(),
            inverse: (variance + epsilon)?.sqrt()?.recip()?,
            over: Over::Batch,
            count: 1.0,
            constant: true,
        })
    }

    fn follow_moments(&self, moments: &Moments, mean: &mut Tensor, variance: &mut Tensor) -> Result<()> {
        let unbiased = moments.count / (moments.count - 1.0).max(1.0);
        let momentum = f64::from(MOMENTUM);
        for (running, found, factor) in
            [(mean, &moments.mean, momentum), (variance, &moments.variance, momentum * unbiased)]
        {
            *running = ((&*running * (1.0 - momentum))? + (found.flatten_all()? * factor)?)?;
        }
        Ok(())
    }

    fn normalise(&self, x: &Tensor, moments: &Moments, scale: &Tensor, shift: &Tensor) -> Result<Tensor> {
        let (own, _) = moments.standardise(x)?;
        Ok(own
            .reshape(x.shape())?
            .broadcast_mul(&by_channel(x, scale)?)?
            .broadcast_add(&by_channel(x, shift)?)?)
    }

    fn normalise_backward(
        &self,
        x: &Tensor,
        moments: &Moments,
        scale: &Tensor,
        gradient: Tensor,
        into: Option<(&mut Tensor, &mut Tensor)>,
    ) -> Result<Tensor> {
        let (own, inverse) = moments.standardise(x)?;
        if let Some((of_scale, of_shift)) = into {
            *of_scale = (&*of_scale + channel_sums(&(&gradient * own.reshape(x.shape())?)?)?)?;
            *of_shift = (&*of_shift + channel_sums(&gradient)?)?;
        }
        let of_own = gradient.broadcast_mul(&by_channel(x, scale)?)?;
        let of_own = grouped(&of_own, moments.over)?;
        if moments.constant {
            return Ok(of_own.broadcast_mul(&inverse)?.reshape(x.shape())?);
        }
        let part = 1.0 / moments.count;
        let whole = (moments.sums(&of_own)? * part)?;
        let along = (moments.sums(&(&of_own * &own)?)? * part)?;
        let centred = of_own.broadcast_sub(&whole)?.broadcast_sub(&own.broadcast_mul(&along)?)?;
        Ok(centred.broadcast_mul(&inverse)?.reshape(x.shape())?)
    }

    fn reshape(&self, x: Tensor, shape: Shape) -> Result<Tensor> {
        Ok(x.reshape(dims(x.dim(0)?, shape))?)
    }

    fn concat(&self, parts: &[Tensor], _shape: Shape) -> Result<Tensor> {
        Ok(Tensor::cat(parts, 1)?)
    }

    fn slice(&self, x: &Tensor, first: usize, count: usize) -> Result<Tensor> {
        Ok(x.narrow(1, first, count)?.contiguous()?)
    }

    fn place(&self, x: &Tensor, first: usize, shape: Shape) -> Result<Tensor> {
        let rest = shape.channels() - first - x.dim(1)?;
        Ok(x.pad_with_zeros(1, first, rest)?.contiguous()?)
    }

    fn gather(&self, x: &Tensor, places: &[u32], shape: Shape) -> Result<Tensor> {
        let places = Tensor::from_slice(places, places.len(), &self.device)?;
        let moved = x.flatten_from(1)?.contiguous()?.index_select(&places, 1)?;
        Ok(moved.reshape(dims(x.dim(0)?, shape))?)
    }

    fn scatter(&self, x: &Tensor, places: &[u32], shape: Shape) -> Result<Tensor> {
        // the inverse; what no place leads to reads one more value, a zero
        let mut inverse = vec![places.len() as u32; shape.values()];
        places.iter().enumerate().for_each(|(from, to)| inverse[*to as usize] = from as u32);
        let padded = x.flatten_from(1)?.pad_with_zeros(1, 0, 1)?;
        self.gather(&padded, &inverse, shape)
    }

    fn resample(&self, x: &Tensor, rows: &Axis, columns: &Axis) -> Result<Tensor> {
        let (count, channels, height, width) = x.dims4()?;
        let across = self.filled(columns.dense(), &[columns.outputs(), columns.inputs])?;
        let down = self.filled(rows.dense(), &[rows.outputs(), rows.inputs])?;
        let wide = x.reshape((count * channels * height, width))?.matmul(&across.t()?)?;
        let turned = wide.reshape((count * channels, height, columns.outputs()))?.transpose(1, 2)?;
        let turned = turned.contiguous()?.reshape((count * channels * columns.outputs(), height))?;
        let tall =
            turned.matmul(&down.t()?)?.reshape((count * channels, columns.outputs(), rows.outputs()))?;
        let shape = (count, channels, rows.outputs(), columns.outputs());
        Ok(tall.transpose(1, 2)?.contiguous()?.reshape(shape)?)
    }

    fn max_pool(&self, x: &Tensor, window: &Window, _shape: Shape) -> Result<Tensor> {
        let taps = convolution::windows(x, window, f32::NEG_INFINITY)?;
        let mut most = taps[0].clone();
        for tap in &taps[1..] {
            most = most.maximum(tap)?;
        }
        Ok(most)
    }

    fn max_pool_backward(
        &self,
        x: &Tensor,
        largest: &Tensor,
        gradient: &Tensor,
        window: &Window,
    ) -> Result<Tensor> {
        let mut left = gradient.clone();
        let mut parts = Vec::new();
        for tap in convolution::windows(x, window, f32::NEG_INFINITY)? {
            let is = indicator(tap.eq(largest)?)?;
            parts.push((&left * &is)?);
            left = (&left * (1.0 - is)?)?;
        }
        convolution::windows_backward(&parts, x, window)
    }

    fn deviation(&self, x: &Tensor) -> Result<Tensor> {
        let (count, _, height, width) = x.dims4()?;
        let mean = x.mean_keepdim(0)?;
        let variance = x.broadcast_sub(&mean)?.sqr()?.mean_keepdim(0)?;
        let deviation = (variance + EPSILON)?.sqrt()?.mean_all()?;
        let channel = deviation.reshape((1, 1, 1, 1))?.broadcast_as((count, 1, height, width))?;
        Ok(Tensor::cat(&[x, &channel.contiguous()?], 1)?)
    }

    fn deviation_backward(&self, x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        let (count, channels, height, width) = x.dims4()?;
        let own = gradient.narrow(1, 0, channels)?;
        let whole = gradient.narrow(1, channels, 1)?.sum_all()?.reshape((1, 1, 1, 1))?;
        let centred = x.broadcast_sub(&x.mean_keepdim(0)?)?;
        let deviation = (centred.sqr()?.mean_keepdim(0)? + EPSILON)?.sqrt()?;
        let part = 1.0 / (count * channels * height * width) as f64;
        let slope = (centred.broadcast_div(&deviation)? * part)?;
        Ok((own + slope.broadcast_mul(&whole)?)?)
    }

    fn unit(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.broadcast_div(&lengths(x)?)?)
    }

    fn unit_backward(&self, x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        let lengths = lengths(x)?;
        let unit = x.broadcast_div(&lengths)?;
        let along = (&unit * gradient)?.sum_keepdim(1)?;
        Ok((gradient - unit.broadcast_mul(&along)?)?.broadcast_div(&lengths)?)
    }

    fn softmax(&self, x: Tensor) -> Result<Tensor> {
        let powers = x.broadcast_sub(&x.max_keepdim(1)?)?.exp()?;
        Ok(powers.broadcast_div(&powers.sum_keepdim(1)?)?)
    }

    fn softmax_backward(&self, y: &Tensor, gradient: Tensor) -> Result<Tensor> {
        let along = (y * &gradient)?.sum_keepdim(1)?;
        Ok((y * gradient.broadcast_sub(&along)?)?)
    }

    fn change(&self, x: Tensor, changes: &[Change]) -> Result<Tensor> {
        let number = |of: &dyn Fn(&Change) -> f32| self.each(changes.iter().map(of).collect());
        match changes.first() {
            None => Ok(x),
            Some(Change::Color { .. }) => {
                let part = |which: usize| {
                    number(&move |change| match *change {
                        Change::Color { own, pixel, picture, summand } => {
                            [own, pixel, picture, summand][which]
                        }
                        _ => 0.0,
                    })
                };
                let count = x.dim(0)?;
                let whole = x.flatten_from(1)?.mean_keepdim(1)?.reshape((count, 1, 1, 1))?;
                let rest = (whole.broadcast_mul(&part(2)?)? + part(3)?)?;
                let means = x.mean_keepdim(1)?.broadcast_mul(&part(1)?)?.broadcast_add(&rest)?;
                Ok(x.broadcast_mul(&part(0)?)?.broadcast_add(&means)?)
            }
            Some(Change::Shift(_)) => {
                let by = |axis: usize| -> Vec<isize> {
                    let of = |change: &Change| if let Change::Shift(by) = change { by[axis] } else { 0 };
                    changes.iter().map(of).collect()
                };
                let x = self.shifted(&x, 2, &by(0))?;
                self.shifted(&x, 3, &by(1))
            }
            Some(Change::Cut(_)) => {
                let (count, _, height, width) = x.dims4()?;
                let mut mask = vec![1f32; count * height * width];
                for (mask, change) in mask.chunks_mut(height * width).zip(changes) {
                    if let Change::Cut([top, bottom, left, right]) = *change {
                        let rows = mask.chunks_mut(width).take(bottom).skip(top);
                        rows.for_each(|row| row[left..right].fill(0.0));
                    }
                }
                Ok(x.broadcast_mul(&self.filled(mask, &[count, 1, height, width])?)?)
            }
        }
    }

    fn log_density(&self, density: Density, output: &Tensor, target: &Tensor) -> Result<Vec<f32>> {
        let (output, target) = (output.flatten_from(1)?, target.flatten_from(1)?);
        let found = match density {
            Density::Bernoulli => ((&target * &output)? - softplus(&output)?)?.sum(1)?,
            Density::Gaussian(sigma) => {
                let constant = -0.5 * output.dim(1)? as f64 * (std::f64::consts::TAU * sigma * sigma).ln();
                (((target - output)?.sqr()?.sum(1)? * (-0.5 / (sigma * sigma)))? + constant)?
            }
        };
        Ok(found.to_vec1()?)
    }

    fn log_density_gradient(
        &self,
        density: Density,
        output: &Tensor,
        target: &Tensor,
        scale: f32,
    ) -> Result<Tensor> {
        let scale = f64::from(scale);
        Ok(match density {
            Density::Bernoulli => ((target - sigmoid(output)?)? * scale)?,
            Density::Gaussian(sigma) => ((target - output)? * (scale / (sigma * sigma)))?,
        })
    }

    fn squares(&self, x: &Tensor) -> Result<Vec<f64>> {
        let rows: Vec<f32> = x.sqr()?.flatten_from(1)?.sum(1)?.to_vec1()?;
        Ok(rows.into_iter().map(f64::from).collect())
    }

    fn sum_of_squares(&self, weights: &[&Tensor]) -> Result<f64> {
        // one number comes back to the host, however many weights there are
        let each = weights.iter().map(|weight| Ok(weight.sqr()?.sum_all()?)).collect::<Result<Vec<_>>>()?;
        if each.is_empty() {
            return Ok(0.0);
        }
        Ok(f64::from(Tensor::stack(&each, 0)?.sum_all()?.to_scalar::<f32>()?))
    }

    fn multiply(&self, weight: &mut Tensor, factor: f32) -> Result<()> {
        *weight = if factor == 0.0 { weight.zeros_like()? } else { (&*weight * f64::from(factor))? };
        Ok(())
    }

    fn approach(&self, weight: &mut Tensor, other: &Tensor, decay: f64) -> Result<()> {
        *weight = ((&*weight * decay)? + (other * (1.0 - decay))?)?;
        Ok(())
    }

    fn adam(
        &self,
        weight: &mut Tensor,
        gradient: &Tensor,
        (first, second): (&mut Tensor, &mut Tensor),
        step: AdamStep,
    ) -> Result<()> {
        let (beta1, beta2) = (f64::from(step.decays.0), f64::from(step.decays.1));
        *first = ((&*first * beta1)? + (gradient * (1.0 - beta1))?)?;
        *second = ((&*second * beta2)? + (gradient.sqr()? * (1.0 - beta2))?)?;
        let root = ((&*second * f64::from(step.second_scale))?.sqrt()? + f64::from(step.epsilon))?;
        *weight = (&*weight - (&*first * f64::from(step.rate))?.div(&root)?)?;
        Ok(())
    }

    fn divide(&self, weight: &Tensor, left: &mut Tensor) -> Result<Divided<Tensor>> {
        let matrix = weight.flatten_from(1)?;
        let norm = |vector: &Tensor| -> Result<Tensor> {
            Ok((vector.sqr()?.sum_all()?.sqrt()? + TINY)?.reshape(1)?)
        };
        let right = left.unsqueeze(0)?.matmul(&matrix)?.squeeze(0)?;
        let right = right.broadcast_div(&norm(&right)?)?;
        let product = matrix.matmul(&right.unsqueeze(1)?)?.squeeze(1)?;
        let sigma = norm(&product)?;
        *left = product.broadcast_div(&sigma)?;
        let weight = weight.broadcast_div(&sigma.reshape(vec![1; weight.rank()])?)?;
        Ok(Divided { weight, sigma, right })
    }

    fn divide_backward(&self, divided: &Divided<Tensor>, left: &Tensor, gradient: &mut Tensor) -> Result<()> {
        let Divided { weight, sigma, right } = divided;
        let along = (&*gradient * weight)?.sum_all()?.reshape((1, 1))?;
        let outer = left.unsqueeze(1)?.matmul(&right.unsqueeze(0)?)?.broadcast_mul(&along)?;
        let rest = (&*gradient - outer.reshape(gradient.shape())?)?;
        *gradient = rest.broadcast_div(&sigma.reshape(vec![1; gradient.rank()])?)?;
        Ok(())
    }

    fn round(&self, x: Tensor, scale: f32, zero_point: u8) -> Result<Tensor> {
        // adding and subtracting this leaves no fraction, rounded as f32 rounds: half to even
        const WHOLE: f64 = 1.5 * (1u32 << 23) as f64;
        let zero = f32::from(zero_point);
        let level = x.broadcast_div(&Tensor::new(scale, &self.device)?)?.clamp(-zero, 255.0 - zero)?;
        Ok((((level + WHOLE)? - WHOLE)? * f64::from(scale))?)
    }

    fn inside(&self, at: &Tensor, (low, high): (f32, f32), gradient: Tensor) -> Result<Tensor> {
        let inside = (indicator(at.ge(low)?)? * indicator(at.le(high)?)?)?;
        Ok((gradient * inside)?)
    }
}

impl Candle {
    /// Moves each picture along an axis; zeros follow.
    fn shifted(&self, x: &Tensor, axis: usize, by: &[isize]) -> Result<Tensor> {
        let (count, side) = (x.dim(0)?, x.dim(axis)?);
        let mut index = Vec::with_capacity(count * side);
        let mut mask = Vec::with_capacity(count * side);
        for by in by {
            for at in 0..side as isize {
                let from = at - by;
                index.push(from.clamp(0, side as isize - 1) as u32);
                mask.push(if (0..side as isize).contains(&from) { 1f32 } else { 0.0 });
            }
        }
        let place = if axis == 2 { (count, 1, side, 1) } else { (count, 1, 1, side) };
        let index = Tensor::from_vec(index, place, &self.device)?;
        let index = index.broadcast_as(x.shape())?.contiguous()?;
        let mask = Tensor::from_vec(mask, place, &self.device)?;
        Ok(x.contiguous()?.gather(&index, axis)?.broadcast_mul(&mask)?)
    }
}
