//! The CPU: sixteen pictures side by side, one in each lane of a vector, see [`batch`].
//!
//! Kernels are ours, because candle's own gradients of convolutions are several times slower, and its tensors cannot
//! keep a batch in lanes. Every result is computed by one thread in a fixed order: it does not depend on threads.

pub mod batch;
pub(crate) mod buffers;
mod correlate;
mod depthwise;
mod elements;
mod kernels;
mod likelihood;
mod norm;
mod pixels;

use std::sync::Arc;

use rayon::prelude::*;

use super::axis::Axis;
use super::{AdamStep, Backend, Change, Density, Divided};
use crate::Result;
use crate::graph::geometry::{Geometry, Role};
use crate::graph::{Activation, Over, Shape, Window, upsample};
use batch::{Batch, LANES};
pub(crate) use elements::exp_of_negatives;

pub use norm::Moments;

/// Values that one task takes.
const PIECE: usize = 1 << 15;
/// Added to norms, so that a weight of zeros is no division by zero.
const TINY: f64 = 1e-12;

/// The CPU's vectors.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lanes;

/// The batch itself, copied if it is needed elsewhere.
fn owned(x: Arc<Batch>) -> Batch {
    Arc::try_unwrap(x).unwrap_or_else(|shared| (*shared).clone())
}

/// Calls `each` on pieces of both.
fn in_pieces(values: &mut [f32], others: &[f32], each: impl Fn(&mut [f32], &[f32]) + Sync + Send) {
    values
        .par_chunks_mut(PIECE)
        .zip(others.par_chunks(PIECE))
        .for_each(|(values, others)| each(values, others));
}

impl Backend for Lanes {
    type Tensor = Arc<Batch>;
    type Weight = Vec<f32>;
    type Moments = Moments;

    fn tensor(&self, rows: &[f32], shape: Shape) -> Result<Arc<Batch>> {
        Ok(Batch::from_rows(rows, shape).into())
    }

    fn rows(&self, x: &Arc<Batch>) -> Result<Vec<f32>> {
        Ok(x.to_rows())
    }

    fn count(&self, x: &Arc<Batch>) -> usize {
        x.count
    }

    fn shape(&self, x: &Arc<Batch>) -> Shape {
        x.shape
    }

    fn weight(&self, values: &[f32], _dims: &[usize]) -> Result<Vec<f32>> {
        Ok(values.to_vec())
    }

    fn values(&self, weight: &Vec<f32>) -> Result<Vec<f32>> {
        Ok(weight.clone())
    }

    fn zeros(&self, like: &Vec<f32>) -> Result<Vec<f32>> {
        Ok(vec![0.0; like.len()])
    }

    fn correlate(
        &self,
        geometry: &Geometry,
        role: Role,
        x: &Arc<Batch>,
        (weight, bias): (&Vec<f32>, Option<&Vec<f32>>),
        shape: Shape,
    ) -> Result<Arc<Batch>> {
        let mut y = x.like(shape);
        let bias = bias.map(Vec::as_slice);
        if geometry.groups == 1 {
            correlate::apply(geometry, role, (&x.values, weight, bias), &mut y.values);
        } else if depthwise::fits(geometry) {
            depthwise::apply(geometry, role, (&x.values, weight, bias), &mut y.values);
        } else {
            let (own, len) = (geometry.of_group(), geometry.of_group().weights_len());
            let (inputs, outputs) = (own.input(role).0, own.output(role).0);
            for group in 0..geometry.groups {
                let part = pixels::slice(x, group * inputs, inputs);
                let mut made = y.like(shape.with_channels(outputs));
                let weight = &weight[group * len..][..len];
                let bias = bias.map(|bias| &bias[group * outputs..][..outputs]);
                correlate::apply(&own, role, (&part.values, weight, bias), &mut made.values);
                pixels::put(&made, group * outputs, &mut y);
            }
        }
        Ok(y.into())
    }

    fn weight_gradient(
        &self,
        geometry: &Geometry,
        fine: &Arc<Batch>,
        coarse: &Arc<Batch>,
        into: &mut Vec<f32>,
    ) -> Result<()> {
        if geometry.groups == 1 {
            correlate::weight_gradient(geometry, &fine.values, &coarse.values, into, true);
        } else if depthwise::fits(geometry) {
            depthwise::weight_gradient(geometry, &fine.values, &coarse.values, into);
        } else {
            let own = geometry.of_group();
            for (group, into) in into.chunks_mut(own.weights_len()).enumerate() {
                let fine = pixels::slice(fine, group * own.fine.0, own.fine.0);
                let coarse = pixels::slice(coarse, group * own.coarse.0, own.coarse.0);
                correlate::weight_gradient(&own, &fine.values, &coarse.values, into, true);
            }
        }
        Ok(())
    }

    fn bias_gradient(&self, gradient: &Arc<Batch>, into: &mut Vec<f32>) -> Result<()> {
        into.iter_mut().zip(norm::channel_sums(gradient)).for_each(|(sum, more)| *sum += more);
        Ok(())
    }

    fn expand(&self, weight: &Vec<f32>, dims: (usize, usize, usize)) -> Result<Vec<f32>> {
        Ok(upsample::expand(weight, dims))
    }

    fn collect(&self, gradient: &Vec<f32>, dims: (usize, usize, usize), into: &mut Vec<f32>) -> Result<()> {
        elements::add(into, 1.0, &upsample::collect(gradient, dims));
        Ok(())
    }

    fn activate(&self, activation: Activation, x: Arc<Batch>) -> Result<Arc<Batch>> {
        let mut x = owned(x);
        x.values.par_chunks_mut(PIECE).for_each(|values| match activation {
            Activation::Relu => elements::leaky_relu(values, 0.0),
            Activation::LeakyRelu(slope) => elements::leaky_relu(values, slope),
            Activation::Relu6 => elements::relu6(values),
            Activation::Tanh => elements::tanh(values),
            Activation::Sigmoid => elements::sigmoid(values),
            Activation::Silu => elements::silu(values),
            Activation::Softplus => elements::softplus(values),
            Activation::HardSigmoid => elements::hard_sigmoid(values),
            Activation::HardSwish => elements::hard_swish(values),
        });
        Ok(x.into())
    }

    fn slope(&self, activation: Activation, at: &Arc<Batch>, gradient: Arc<Batch>) -> Result<Arc<Batch>> {
        let mut gradient = owned(gradient);
        in_pieces(&mut gradient.values, &at.values, |gradient, at| match activation {
            Activation::Relu => elements::leaky_relu_backward(gradient, at, 0.0),
            Activation::LeakyRelu(slope) => elements::leaky_relu_backward(gradient, at, slope),
            Activation::Relu6 => elements::relu6_backward(gradient, at),
            Activation::Tanh => elements::tanh_backward(gradient, at),
            Activation::Sigmoid => elements::sigmoid_backward(gradient, at),
            Activation::Silu => elements::silu_backward(gradient, at),
            Activation::Softplus => elements::softplus_backward(gradient, at),
            Activation::HardSigmoid => elements::hard_sigmoid_backward(gradient, at),
            Activation::HardSwish => elements::hard_swish_backward(gradient, at),
        });
        Ok(gradient.into())
    }

    fn add(&self, x: Arc<Batch>, factor: f32, y: &Arc<Batch>) -> Result<Arc<Batch>> {
        let mut x = owned(x);
        in_pieces(&mut x.values, &y.values, |x, y| elements::add(x, factor, y));
        Ok(x.into())
    }

    fn mul(&self, x: Arc<Batch>, y: &Arc<Batch>) -> Result<Arc<Batch>> {
        let mut x = owned(x);
        in_pieces(&mut x.values, &y.values, elements::multiply_by);
        Ok(x.into())
    }

    fn scale(&self, x: Arc<Batch>, by: &Arc<Batch>) -> Result<Arc<Batch>> {
        let mut x = owned(x);
        let plane = x.shape.pixels() * LANES;
        let factors = by.values.as_chunks::<LANES>().0;
        x.values
            .par_chunks_mut(plane)
            .zip(factors)
            .for_each(|(values, factors)| elements::lane_multiply(values, factors));
        Ok(x.into())
    }

    fn dots(&self, x: &Arc<Batch>, y: &Arc<Batch>, shape: Shape) -> Result<Arc<Batch>> {
        let mut sums = x.like(shape);
        let plane = x.shape.pixels() * LANES;
        let planes = x.values.par_chunks(plane).zip(y.values.par_chunks(plane));
        sums.values.par_chunks_mut(LANES).zip(planes).for_each(|(sums, (x, y))| {
            sums.copy_from_slice(&elements::lane_product_sums(x, y, &[0.0; LANES]));
        });
        Ok(sums.into())
    }

    fn moments(&self, x: &Arc<Batch>, over: Over, epsilon: f64) -> Result<Moments> {
        Ok(norm::moments(x, over, epsilon))
    }

    fn running(&self, mean: &Vec<f32>, variance: &Vec<f32>, epsilon: f64) -> Result<Moments> {
        Ok(Moments::running(mean, variance, epsilon))
    }

    fn follow_moments(&self, moments: &Moments, mean: &mut Vec<f32>, variance: &mut Vec<f32>) -> Result<()> {
        moments.follow(mean, variance);
        Ok(())
    }

    fn normalise(
        &self,
        x: &Arc<Batch>,
        moments: &Moments,
        scale: &Vec<f32>,
        shift: &Vec<f32>,
    ) -> Result<Arc<Batch>> {
        Ok(norm::normalise(x, moments, scale, shift).into())
    }

    fn normalise_backward(
        &self,
        x: &Arc<Batch>,
        moments: &Moments,
        scale: &Vec<f32>,
        gradient: Arc<Batch>,
        into: Option<(&mut Vec<f32>, &mut Vec<f32>)>,
    ) -> Result<Arc<Batch>> {
        let mut gradient = owned(gradient);
        norm::backward(x, moments, scale, &mut gradient, into);
        Ok(gradient.into())
    }

    fn reshape(&self, x: Arc<Batch>, shape: Shape) -> Result<Arc<Batch>> {
        if x.shape == shape {
            return Ok(x);
        }
        Ok(Batch { shape, ..owned(x) }.into())
    }

    fn concat(&self, parts: &[Arc<Batch>], shape: Shape) -> Result<Arc<Batch>> {
        let mut y = parts[0].like(shape);
        let mut first = 0;
        for part in parts {
            pixels::put(part, first, &mut y);
            first += part.shape.channels();
        }
        Ok(y.into())
    }

    fn slice(&self, x: &Arc<Batch>, first: usize, count: usize) -> Result<Arc<Batch>> {
        Ok(pixels::slice(x, first, count).into())
    }

    fn place(&self, x: &Arc<Batch>, first: usize, shape: Shape) -> Result<Arc<Batch>> {
        let mut y = x.like(shape);
        y.values.fill(0.0);
        pixels::put(x, first, &mut y);
        Ok(y.into())
    }

    fn gather(&self, x: &Arc<Batch>, places: &[u32], shape: Shape) -> Result<Arc<Batch>> {
        Ok(pixels::gather(x, places, shape).into())
    }

    fn scatter(&self, x: &Arc<Batch>, places: &[u32], shape: Shape) -> Result<Arc<Batch>> {
        Ok(pixels::scatter(x, places, shape).into())
    }

    fn resample(&self, x: &Arc<Batch>, rows: &Axis, columns: &Axis) -> Result<Arc<Batch>> {
        Ok(pixels::resample(x, rows, columns).into())
    }

    fn max_pool(&self, x: &Arc<Batch>, window: &Window, shape: Shape) -> Result<Arc<Batch>> {
        Ok(pixels::max_pool(x, window, shape).into())
    }

    fn max_pool_backward(
        &self,
        x: &Arc<Batch>,
        largest: &Arc<Batch>,
        gradient: &Arc<Batch>,
        window: &Window,
    ) -> Result<Arc<Batch>> {
        Ok(pixels::max_pool_backward(x, largest, gradient, window).into())
    }

    fn deviation(&self, x: &Arc<Batch>) -> Result<Arc<Batch>> {
        Ok(pixels::deviation(x).into())
    }

    fn deviation_backward(&self, x: &Arc<Batch>, gradient: &Arc<Batch>) -> Result<Arc<Batch>> {
        Ok(pixels::deviation_backward(x, gradient).into())
    }

    fn unit(&self, x: &Arc<Batch>) -> Result<Arc<Batch>> {
        Ok(pixels::unit(x).into())
    }

    fn unit_backward(&self, x: &Arc<Batch>, gradient: &Arc<Batch>) -> Result<Arc<Batch>> {
        Ok(pixels::unit_backward(x, gradient).into())
    }

    fn softmax(&self, x: Arc<Batch>) -> Result<Arc<Batch>> {
        let mut x = owned(x);
        pixels::softmax(&mut x);
        Ok(x.into())
    }

    fn softmax_backward(&self, y: &Arc<Batch>, gradient: Arc<Batch>) -> Result<Arc<Batch>> {
        let mut gradient = owned(gradient);
        pixels::softmax_backward(y, &mut gradient);
        Ok(gradient.into())
    }

    fn change(&self, x: Arc<Batch>, changes: &[Change]) -> Result<Arc<Batch>> {
        Ok(pixels::change(&x, changes).into())
    }

    fn log_density(&self, density: Density, output: &Arc<Batch>, target: &Arc<Batch>) -> Result<Vec<f32>> {
        Ok(likelihood::log_density(density, output, target))
    }

    fn log_density_gradient(
        &self,
        density: Density,
        output: &Arc<Batch>,
        target: &Arc<Batch>,
        scale: f32,
    ) -> Result<Arc<Batch>> {
        Ok(likelihood::gradient(density, output, target, scale).into())
    }

    fn squares(&self, x: &Arc<Batch>) -> Result<Vec<f64>> {
        let rows = x.to_rows();
        let square = |value: &f32| f64::from(*value).powi(2);
        Ok(rows.par_chunks(x.shape.values()).map(|row| row.iter().map(square).sum()).collect())
    }

    fn sum_of_squares(&self, weights: &[&Vec<f32>]) -> Result<f64> {
        let square = |value: &f32| f64::from(*value) * f64::from(*value);
        let pieces: Vec<&[f32]> = weights.iter().flat_map(|values| values.chunks(PIECE)).collect();
        let sums: Vec<f64> = pieces.par_iter().map(|piece| piece.iter().map(square).sum()).collect();
        Ok(sums.iter().sum())
    }

    fn multiply(&self, weight: &mut Vec<f32>, factor: f32) -> Result<()> {
        if factor == 0.0 {
            weight.fill(0.0); // a NaN too
        } else {
            elements::multiply(weight, factor);
        }
        Ok(())
    }

    fn approach(&self, weight: &mut Vec<f32>, other: &Vec<f32>, decay: f64) -> Result<()> {
        let (decay, rest) = (decay as f32, (1.0 - decay) as f32);
        in_pieces(weight, other, |own, other| elements::approach(own, other, decay, rest));
        Ok(())
    }

    fn adam(
        &self,
        weight: &mut Vec<f32>,
        gradient: &Vec<f32>,
        (first, second): (&mut Vec<f32>, &mut Vec<f32>),
        step: AdamStep,
    ) -> Result<()> {
        let pieces = weight.par_chunks_mut(PIECE).zip(gradient.par_chunks(PIECE));
        let moments = first.par_chunks_mut(PIECE).zip(second.par_chunks_mut(PIECE));
        let scales = (step.rate, step.second_scale, step.epsilon);
        pieces.zip(moments).for_each(|((weight, gradient), (first, second))| {
            elements::adam(weight, gradient, first, second, step.decays, scales);
        });
        Ok(())
    }

    fn divide(&self, weight: &Vec<f32>, left: &mut Vec<f32>) -> Result<Divided<Vec<f32>>> {
        let columns = weight.len() / left.len();
        let mut right = vec![0f32; columns];
        for (row, u) in weight.chunks(columns).zip(left.iter()) {
            elements::add(&mut right, *u, row);
        }
        unit(&mut right);
        let dot = |row: &[f32]| -> f64 { row.iter().zip(&right).map(|(w, v)| f64::from(w * v)).sum() };
        let product: Vec<f64> = weight.par_chunks(columns).map(dot).collect();
        left.iter_mut().zip(&product).for_each(|(u, value)| *u = *value as f32);
        unit(left);
        let sigma: f64 = left.iter().zip(&product).map(|(u, p)| f64::from(*u) * p).sum::<f64>().max(TINY);
        let factor = (1.0 / sigma) as f32;
        let weight = weight.iter().map(|w| w * factor).collect();
        Ok(Divided { weight, sigma: vec![sigma as f32], right })
    }

    fn divide_backward(
        &self,
        divided: &Divided<Vec<f32>>,
        left: &Vec<f32>,
        gradient: &mut Vec<f32>,
    ) -> Result<()> {
        let Divided { weight, sigma, right } = divided;
        let along: f64 = gradient.iter().zip(weight).map(|(g, w)| f64::from(g * w)).sum();
        let factor = 1.0 / sigma[0];
        for (row, u) in gradient.chunks_mut(right.len()).zip(left) {
            let u = along as f32 * u;
            row.iter_mut().zip(right).for_each(|(g, v)| *g = (*g - u * v) * factor);
        }
        Ok(())
    }

    fn round(&self, x: Arc<Batch>, scale: f32, zero_point: u8) -> Result<Arc<Batch>> {
        // adding and subtracting this leaves no fraction, rounded as f32 rounds: half to even
        const WHOLE: f32 = 1.5 * (1 << 23) as f32;
        let mut x = owned(x);
        let zero = f32::from(zero_point);
        let (low, high) = (-zero, 255.0 - zero);
        x.values.par_chunks_mut(PIECE).for_each(|values| {
            for value in values {
                let level = (*value / scale).max(low).min(high);
                *value = ((level + WHOLE) - WHOLE) * scale;
            }
        });
        Ok(x.into())
    }

    fn inside(&self, at: &Arc<Batch>, (low, high): (f32, f32), gradient: Arc<Batch>) -> Result<Arc<Batch>> {
        let mut gradient = owned(gradient);
        in_pieces(&mut gradient.values, &at.values, |gradient, at| {
            let pairs = gradient.iter_mut().zip(at);
            pairs.filter(|(_, value)| !(low..=high).contains(*value)).for_each(|(g, _)| *g = 0.0);
        });
        Ok(gradient.into())
    }

    fn release(&self) {
        buffers::release();
    }
}

/// Divides by the Euclidean norm.
fn unit(values: &mut [f32]) {
    let norm = values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt().max(TINY);
    values.iter_mut().for_each(|value| *value = (f64::from(*value) / norm) as f32);
}
