//! Normalisation by mean and variance: of a channel over a batch (S. Ioffe, C. Szegedy, 2015), or of a group of channels
//! in each picture (Y. Wu, K. He, 2018).

use rayon::prelude::*;

use super::batch::{Batch, LANES, groups, mask};
use super::elements;
use crate::compute::MOMENTUM;
use crate::graph::Over;

/// What values are normalised by: value → (value − mean) · inverse deviation.
#[derive(Clone, Debug)]
pub struct Moments {
    /// Of each channel; or, in vectors, of each group of channels of each picture: (groups of pictures, groups of
    /// channels) × lanes.
    means: Vec<f32>,
    variances: Vec<f32>,
    inverse: Vec<f32>,
    /// `None`: over the batch. Otherwise groups of channels in a picture.
    groups: Option<usize>,
    /// Values that each mean is of.
    count: f64,
    /// Whether they are constants, not of the values that are normalised.
    constant: bool,
}

fn inverse(variance: f32, epsilon: f64) -> f32 {
    (1.0 / (f64::from(variance) + epsilon).sqrt()) as f32
}

/// Those of a batch.
pub(super) fn moments(x: &Batch, over: Over, epsilon: f64) -> Moments {
    match over {
        Over::Batch => of_batch(x, epsilon),
        Over::Groups(groups) => of_groups(x, groups, epsilon),
    }
}

fn of_batch(x: &Batch, epsilon: f64) -> Moments {
    let channels = x.shape.channels();
    let count = (x.count * x.shape.values() / channels) as f64;
    let both: Vec<(f32, f32)> = (0..channels)
        .into_par_iter()
        .map(|channel| {
            let mean = over_channel(x, channel, |values, _| elements::sums(values)) / count;
            let squares = over_channel(x, channel, |values, _| elements::square_sums(values, mean as f32));
            (mean as f32, (squares / count) as f32)
        })
        .collect();
    let (means, variances): (Vec<f32>, Vec<f32>) = both.into_iter().unzip();
    let inverse = variances.iter().map(|variance| inverse(*variance, epsilon)).collect();
    Moments { means, variances, inverse, groups: None, count, constant: false }
}

fn of_groups(x: &Batch, groups: usize, epsilon: f64) -> Moments {
    let values = x.shape.values() / groups;
    let both: Vec<([f32; LANES], [f32; LANES])> = x
        .values
        .par_chunks(values * LANES)
        .map(|values_of_group| {
            let scale = 1.0 / values as f32;
            let mean = elements::sums(values_of_group).map(|sum| sum * scale);
            let variance = elements::lane_square_sums(values_of_group, &mean).map(|sum| sum * scale);
            (mean, variance)
        })
        .collect();
    let means = both.iter().flat_map(|(mean, _)| *mean).collect();
    let variances: Vec<f32> = both.iter().flat_map(|(_, variance)| *variance).collect();
    let inverse = variances.iter().map(|variance| inverse(*variance, epsilon)).collect();
    Moments { means, variances, inverse, groups: Some(groups), count: values as f64, constant: false }
}

impl Moments {
    /// Running statistics of each channel.
    pub(super) fn running(mean: &[f32], variance: &[f32], epsilon: f64) -> Self {
        Self {
            means: mean.to_vec(),
            variances: variance.to_vec(),
            inverse: variance.iter().map(|variance| inverse(*variance, epsilon)).collect(),
            groups: None,
            count: 0.0,
            constant: true,
        }
    }

    /// Moves running statistics towards these; the running variance is unbiased.
    pub(super) fn follow(&self, mean: &mut [f32], variance: &mut [f32]) {
        let unbiased = (self.count / (self.count - 1.0).max(1.0)) as f32;
        for (running, batch) in mean.iter_mut().zip(&self.means) {
            *running = (1.0 - MOMENTUM) * *running + MOMENTUM * batch;
        }
        for (running, batch) in variance.iter_mut().zip(&self.variances) {
            *running = (1.0 - MOMENTUM) * *running + MOMENTUM * unbiased * batch;
        }
    }

    /// (mean, inverse deviation) of channel `channel` of picture group `group`, for each lane.
    fn lanes(&self, group: usize, channel: usize, channels: usize) -> ([f32; LANES], [f32; LANES]) {
        match self.groups {
            None => ([self.means[channel]; LANES], [self.inverse[channel]; LANES]),
            Some(groups) => {
                let at = (group * groups + channel / (channels / groups)) * LANES;
                let lanes = |values: &[f32]| std::array::from_fn(|lane| values[at + lane]);
                (lanes(&self.means), lanes(&self.inverse))
            }
        }
    }
}

/// scale · (x − mean) / √(variance + ε) + shift.
pub(super) fn normalise(x: &Batch, moments: &Moments, scale: &[f32], shift: &[f32]) -> Batch {
    let mut out = x.like(x.shape);
    let channels = x.shape.channels();
    let plane = x.shape.pixels() * LANES;
    let planes = out.values.par_chunks_mut(plane).zip(x.values.par_chunks(plane));
    planes.enumerate().for_each(|(index, (out, x))| {
        let (group, channel) = (index / channels, index % channels);
        if moments.groups.is_none() {
            let factor = scale[channel] * moments.inverse[channel];
            elements::affine(x, factor, shift[channel] - factor * moments.means[channel], out);
        } else {
            let (mean, inverse) = moments.lanes(group, channel, channels);
            let factor = inverse.map(|inverse| scale[channel] * inverse);
            let summand = std::array::from_fn(|lane| shift[channel] - factor[lane] * mean[lane]);
            elements::lane_affine(x, &factor, &summand, out);
        }
    });
    out
}

/// `gradient` becomes that of x; adds those of (scale, shift) to `into`.
pub(super) fn backward(
    x: &Batch,
    moments: &Moments,
    scale: &[f32],
    gradient: &mut Batch,
    into: Option<(&mut Vec<f32>, &mut Vec<f32>)>,
) {
    if moments.groups.is_some() {
        return of_groups_backward(x, moments, scale, gradient, into);
    }
    let channels = x.shape.channels();
    let plane = x.shape.pixels() * LANES;
    let sums: Vec<(f32, f32)> = if into.is_none() && moments.constant {
        Vec::new()
    } else {
        let gradient = &*gradient;
        (0..channels)
            .into_par_iter()
            .map(|channel| {
                let mean = moments.means[channel];
                let whole = over_channel(gradient, channel, |values, _| elements::sums(values));
                let along = over_channel(gradient, channel, |values, at| {
                    elements::product_sums(values, &x.values[at..at + plane], mean)
                });
                (whole as f32, along as f32 * moments.inverse[channel])
            })
            .collect()
    };
    let planes = gradient.values.par_chunks_mut(plane).zip(x.values.par_chunks(plane));
    planes.enumerate().for_each(|(index, (gradient, x))| {
        let channel = index % channels;
        let inverse = moments.inverse[channel];
        let a = scale[channel] * inverse;
        if moments.constant {
            elements::multiply(gradient, a);
        } else {
            let (whole, along) = sums[channel];
            let b = -a * inverse * (f64::from(along) / moments.count) as f32;
            let c = -a * (f64::from(whole) / moments.count) as f32 - b * moments.means[channel];
            elements::blend(gradient, x, a, b, c);
        }
    });
    gradient.clear_unused();
    if let Some((of_scale, of_shift)) = into {
        for (channel, (whole, along)) in sums.iter().enumerate() {
            of_scale[channel] += along;
            of_shift[channel] += whole;
        }
    }
}

fn of_groups_backward(
    x: &Batch,
    moments: &Moments,
    scale: &[f32],
    gradient: &mut Batch,
    into: Option<(&mut Vec<f32>, &mut Vec<f32>)>,
) {
    let channels = x.shape.channels();
    let plane = x.shape.pixels() * LANES;
    let together = channels / moments.groups.unwrap_or(1);
    let scale_of = |first: usize, channel: usize| scale[(first + channel) % channels];
    // of each channel of each picture: Σ gradient, Σ gradient · (x − mean) / deviation
    let sums: Vec<([f32; LANES], [f32; LANES])> = gradient
        .values
        .par_chunks(plane)
        .zip(x.values.par_chunks(plane))
        .enumerate()
        .map(|(index, (gradient, x))| {
            let (mean, inverse) = moments.lanes(index / channels, index % channels, channels);
            let along = elements::lane_product_sums(gradient, x, &mean);
            (elements::sums(gradient), std::array::from_fn(|lane| along[lane] * inverse[lane]))
        })
        .collect();
    let count = moments.count as f32;
    let pieces = gradient.values.par_chunks_mut(together * plane).zip(x.values.par_chunks(together * plane));
    pieces.enumerate().for_each(|(index, (gradient, x))| {
        let first = index * together;
        let (mean, inverse) = moments.lanes(first / channels, first % channels, channels);
        let (mut whole, mut along) = ([0f32; LANES], [0f32; LANES]);
        for channel in 0..together {
            let scale = scale_of(first, channel);
            for lane in 0..LANES {
                whole[lane] += scale * sums[first + channel].0[lane];
                along[lane] += scale * sums[first + channel].1[lane];
            }
        }
        let b: [f32; LANES] =
            std::array::from_fn(|lane| -inverse[lane] * inverse[lane] * along[lane] / count);
        let c = std::array::from_fn(|lane| -inverse[lane] * whole[lane] / count - b[lane] * mean[lane]);
        for (channel, (gradient, x)) in gradient.chunks_mut(plane).zip(x.chunks(plane)).enumerate() {
            let a = inverse.map(|inverse| scale_of(first, channel) * inverse);
            elements::lane_blend(gradient, x, &a, &b, &c);
        }
    });
    gradient.clear_unused();
    if let Some((of_scale, of_shift)) = into {
        let pictures = gradient.count;
        for (index, (whole, along)) in sums.iter().enumerate() {
            let used = mask(pictures, index / channels);
            let sum =
                |lanes: &[f32; LANES]| lanes.iter().zip(used).map(|(sum, used)| sum * used).sum::<f32>();
            of_scale[index % channels] += sum(along);
            of_shift[index % channels] += sum(whole);
        }
    }
}

/// Sums over pictures and pixels, (channels).
pub(super) fn channel_sums(gradient: &Batch) -> Vec<f32> {
    let channels = gradient.shape.channels();
    (0..channels)
        .into_par_iter()
        .map(|channel| over_channel(gradient, channel, |values, _| elements::sums(values)) as f32)
        .collect()
}

/// Adds what `sums` makes of a channel's values of each group (and where they start), unused lanes left out.
fn over_channel(x: &Batch, channel: usize, sums: impl Fn(&[f32], usize) -> [f32; LANES]) -> f64 {
    let plane = x.shape.pixels() * LANES;
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
