//! ln p(target) of each picture, in nats.

use std::f64::consts::TAU;

use rayon::prelude::*;

use super::batch::{Batch, LANES};
use super::{PIECE, elements};
use crate::compute::Density;

/// Bernoulli: Σ over values of x·l − ln(1 + e^l) of logits l and values x in [0, 1]; values between 0 and 1 give the
/// usual cross-entropy, and only for 0 and 1 is it a log-probability. Gaussian: Σ over values of ln N(x; mean, sigma²).
pub(super) fn log_density(density: Density, output: &Batch, target: &Batch) -> Vec<f32> {
    /// Values that are summed in f32.
    const TOGETHER: usize = 256 * LANES;
    let values = output.shape.values();
    let sums = |sum: fn(&[f32], &[f32]) -> [f32; LANES]| -> Vec<f64> {
        let groups = output.values.par_chunks(values * LANES).zip(target.values.par_chunks(values * LANES));
        let of_group = |(output, target): (&[f32], &[f32])| {
            let mut sums = [0f64; LANES];
            for (output, target) in output.chunks(TOGETHER).zip(target.chunks(TOGETHER)) {
                let part = sum(output, target);
                sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += f64::from(part));
            }
            sums
        };
        let mut all: Vec<f64> = groups.flat_map_iter(of_group).collect();
        all.truncate(output.count);
        all
    };
    match density {
        Density::Bernoulli => sums(elements::bernoulli).into_iter().map(|sum| sum as f32).collect(),
        Density::Gaussian(sigma) => {
            let constant = -0.5 * values as f64 * (TAU * sigma * sigma).ln();
            let of_picture = |squares: f64| (constant - 0.5 * squares / (sigma * sigma)) as f32;
            sums(elements::square_distances).into_iter().map(of_picture).collect()
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
