//! ln p(target) of each picture, in nats.

use std::f64::consts::TAU;

use rayon::prelude::*;

use super::batch::Batch;
use super::{PIECE, elements};
use crate::compute::Density;

/// Bernoulli: Σ over values of x·l − ln(1 + e^l) of logits l and values x in [0, 1]; values between 0 and 1 give the
/// usual cross-entropy, and only for 0 and 1 is it a log-probability. Gaussian: Σ over values of ln N(x; mean, sigma²).
pub(super) fn log_density(density: Density, output: &Batch, target: &Batch) -> Vec<f32> {
    let values = output.shape.values();
    let (output, target) = (output.to_rows(), target.to_rows());
    let rows = output.par_chunks(values).zip(target.par_chunks(values));
    match density {
        Density::Bernoulli => rows.map(|(l, x)| elements::bernoulli(l, x)).collect(),
        Density::Gaussian(sigma) => {
            let constant = -0.5 * values as f64 * (TAU * sigma * sigma).ln();
            let of_picture = |(mean, pixels): (&[f32], &[f32])| {
                let squares: f64 = mean.iter().zip(pixels).map(|(m, x)| f64::from(m - x).powi(2)).sum();
                (constant - 0.5 * squares / (sigma * sigma)) as f32
            };
            rows.map(of_picture).collect()
        }
    }
}

/// scale · the gradient of [`log_density`] for the output.
pub(super) fn gradient(density: Density, output: &Batch, target: &Batch, scale: f32) -> Batch {
    let mut gradient = output.like(output.shape);
    gradient
        .values
        .par_chunks_mut(PIECE)
        .zip(output.values.par_chunks(PIECE).zip(target.values.par_chunks(PIECE)))
        .for_each(|(out, (output, target))| match density {
            Density::Bernoulli => elements::bernoulli_gradient(output, target, scale, out),
            Density::Gaussian(sigma) => {
                let factor = (f64::from(scale) / (sigma * sigma)) as f32;
                let pairs = output.iter().zip(target);
                out.iter_mut().zip(pairs).for_each(|(out, (mean, pixel))| *out = factor * (pixel - mean));
            }
        });
    gradient.clear_unused();
    gradient
}
