//! log p(x|z) per picture, in nats, on rows (N, values).

use std::f64::consts::TAU;

use rayon::prelude::*;

use super::lanes;

/// Σ over pixels of x·l − ln(1 + e^l), per picture: logits and pixels (N, values), pixels in [0, 1] → (N).
///
/// Pixels between 0 and 1 give the usual cross-entropy; only for 0 and 1 is it a log-probability.
pub fn bernoulli(logits: &[f32], pixels: &[f32], values: usize) -> Vec<f32> {
    logits.par_chunks(values).zip(pixels.par_chunks(values)).map(|(l, x)| lanes::bernoulli(l, x)).collect()
}

/// scale · the gradient of [`bernoulli`] for the logits.
pub fn bernoulli_gradient(logits: &[f32], pixels: &[f32], scale: f32) -> Vec<f32> {
    const PIECE: usize = 1 << 14;
    let mut gradient = vec![0f32; logits.len()];
    gradient
        .par_chunks_mut(PIECE)
        .zip(logits.par_chunks(PIECE).zip(pixels.par_chunks(PIECE)))
        .for_each(|(out, (l, x))| lanes::bernoulli_gradient(l, x, scale, out));
    gradient
}

/// Σ over pixels of ln N(x; mean, sigma²), per picture: (N, values) twice → (N).
pub fn gaussian(mean: &[f32], pixels: &[f32], values: usize, sigma: f64) -> Vec<f32> {
    let constant = -0.5 * values as f64 * (TAU * sigma * sigma).ln();
    let of_picture = |(mean, pixels): (&[f32], &[f32])| {
        let squares: f64 = mean.iter().zip(pixels).map(|(m, x)| f64::from(m - x).powi(2)).sum();
        (constant - 0.5 * squares / (sigma * sigma)) as f32
    };
    mean.par_chunks(values).zip(pixels.par_chunks(values)).map(of_picture).collect()
}

/// scale · the gradient of [`gaussian`] for the mean.
pub fn gaussian_gradient(mean: &[f32], pixels: &[f32], sigma: f64, scale: f32) -> Vec<f32> {
    let factor = (f64::from(scale) / (sigma * sigma)) as f32;
    mean.iter().zip(pixels).map(|(mean, pixel)| factor * (pixel - mean)).collect()
}
