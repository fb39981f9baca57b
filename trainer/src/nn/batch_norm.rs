//! Batch normalisation (S. Ioffe, C. Szegedy, 2015) over (N, C, …), one mean and variance per channel.

use rayon::prelude::*;

use super::batch::{Batch, LANES, groups, mask};
use super::lanes;

/// Added to the variance, as PyTorch and the DCGAN papers do.
pub const EPSILON: f64 = 1e-5;
/// Share of a new batch in the running statistics.
pub(crate) const MOMENTUM: f32 = 0.1;

/// Mean and variance of each channel, (C) each.
#[derive(Clone, Debug)]
pub struct Statistics {
    /// Means.
    pub mean: Vec<f32>,
    /// Variances over N, biased.
    pub variance: Vec<f32>,
}

impl Statistics {
    /// Of a batch, over pictures and pixels.
    pub fn of(x: &Batch) -> Self {
        let channels = x.shape.channels();
        let count = values_per_channel(x);
        let both: Vec<(f32, f32)> = (0..channels)
            .into_par_iter()
            .map(|channel| {
                let mean = over_channel(x, channel, |values, _| lanes::sums(values)) / count;
                let squares = over_channel(x, channel, |values, _| lanes::square_sums(values, mean as f32));
                (mean as f32, (squares / count) as f32)
            })
            .collect();
        let (mean, variance) = both.into_iter().unzip();
        Self { mean, variance }
    }

    /// Moves running statistics towards these; the running variance is unbiased.
    pub fn follow(&self, x: &Batch, mean: &mut [f32], variance: &mut [f32]) {
        let count = values_per_channel(x);
        let unbiased = (count / (count - 1.0).max(1.0)) as f32;
        for (running, batch) in mean.iter_mut().zip(&self.mean) {
            *running = (1.0 - MOMENTUM) * *running + MOMENTUM * batch;
        }
        for (running, batch) in variance.iter_mut().zip(&self.variance) {
            *running = (1.0 - MOMENTUM) * *running + MOMENTUM * unbiased * batch;
        }
    }

    fn inverse_deviation(&self, channel: usize) -> f32 {
        (1.0 / (f64::from(self.variance[channel]) + EPSILON).sqrt()) as f32
    }
}

/// scale · (x − mean) / √(variance + ε) + shift.
pub fn normalize(x: &Batch, statistics: &Statistics, scale: &[f32], shift: &[f32]) -> Batch {
    let mut out = x.like(x.shape);
    let channels = x.shape.channels();
    let plane = x.shape.values() / channels * LANES;
    let planes = out.values.par_chunks_mut(plane).zip(x.values.par_chunks(plane));
    planes.enumerate().for_each(|(index, (out, x))| {
        let channel = index % channels;
        let factor = scale[channel] * statistics.inverse_deviation(channel);
        lanes::affine(x, factor, shift[channel] - factor * statistics.mean[channel], out);
    });
    out
}

/// The gradients of [`normalize`] by the batch's own statistics: `gradient` becomes that for x; returns
/// those for (scale, shift).
pub fn backward(
    x: &Batch,
    statistics: &Statistics,
    scale: &[f32],
    gradient: &mut Batch,
) -> (Vec<f32>, Vec<f32>) {
    let channels = x.shape.channels();
    let count = values_per_channel(x);
    let plane = x.shape.values() / channels * LANES;
    let sums: Vec<(f32, f32)> = (0..channels)
        .into_par_iter()
        .map(|channel| {
            let mean = statistics.mean[channel];
            let whole = over_channel(gradient, channel, |values, _| lanes::sums(values));
            let along = over_channel(gradient, channel, |values, at| {
                lanes::product_sums(values, &x.values[at..at + plane], mean)
            });
            (whole as f32, along as f32 * statistics.inverse_deviation(channel))
        })
        .collect();
    let planes = gradient.values.par_chunks_mut(plane).zip(x.values.par_chunks(plane));
    planes.enumerate().for_each(|(index, (gradient, x))| {
        let channel = index % channels;
        let (whole, along) = sums[channel];
        let inverse = statistics.inverse_deviation(channel);
        let a = scale[channel] * inverse;
        let b = -a * inverse * (f64::from(along) / count) as f32;
        let c = -a * (f64::from(whole) / count) as f32 - b * statistics.mean[channel];
        lanes::blend(gradient, x, a, b, c);
    });
    gradient.clear_unused();
    sums.into_iter().map(|(shift, scale)| (scale, shift)).unzip()
}

/// The gradient of a bias (C): sums over pictures and pixels.
pub fn channel_sums(gradient: &Batch) -> Vec<f32> {
    let channels = gradient.shape.channels();
    (0..channels)
        .into_par_iter()
        .map(|channel| over_channel(gradient, channel, |values, _| lanes::sums(values)) as f32)
        .collect()
}

fn values_per_channel(x: &Batch) -> f64 {
    (x.count * x.shape.values() / x.shape.channels()) as f64
}

/// Adds what `sums` makes of a channel's values of each group (and where they start), unused lanes left out.
fn over_channel(x: &Batch, channel: usize, sums: impl Fn(&[f32], usize) -> [f32; LANES]) -> f64 {
    let plane = x.shape.values() / x.shape.channels() * LANES;
    (0..groups(x.count))
        .map(|group| {
            let at = (group * x.shape.channels() + channel) * plane;
            let by_lane = sums(&x.values[at..at + plane], at);
            let used = mask(x.count, group);
            by_lane
                .iter()
                .zip(used)
                .filter(|(_, used)| *used > 0.0)
                .map(|(sum, _)| f64::from(*sum))
                .sum::<f64>()
        })
        .sum()
}
