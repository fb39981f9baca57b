//! How good a VAE is on pictures that it has not learned from: the evidence lower bound, and the
//! importance-weighted estimate of log p(x) that papers compare by.

use std::ops::Range;

use candle_core::{Device, Tensor};
use edgegen_runtime::model::ImageShape;
use edgegen_runtime::random::{Purpose, Stream};
use rayon::prelude::*;

use crate::data::{self, Dataset, Pictures};
use crate::network::module::Mode;
use crate::train::config::{Binarize, Config};
use crate::train::metrics::{Bound, Sums};
use crate::train::vae::Vae;
use crate::{Error, Result};

/// Pictures per batch of an evaluation.
const BATCH: usize = 250;
/// Posterior samples per batch of the importance-weighted estimate.
const SAMPLES_PER_BATCH: usize = 250;
/// Most samples per picture: those of Burda et al. 2015.
pub const MOST_SAMPLES: usize = 5_000;
/// Seed of everything that is drawn for held-out pictures, so that runs can be compared.
const SEED: u64 = 0;

/// Held-out pictures `range` as (target, what the encoder sees), each (N, C, H, W): binarised and
/// noised as the objective says, always the same.
///
/// # Errors
/// Candle's.
pub fn held_out(
    config: &Config,
    shape: ImageShape,
    pictures: &Pictures,
    range: Range<usize>,
    device: &Device,
) -> Result<(Tensor, Tensor)> {
    let dims = (range.len(), shape.channels, shape.height, shape.width);
    let first = range.start;
    let mut clean = data::batch(shape, pictures, range);
    if config.objective.binarize == Binarize::Stochastic {
        data::binarize_held_out(&mut clean, shape.values(), SEED, first);
    }
    let mut seen = clean.clone();
    if config.objective.denoise > 0.0 {
        for (index, picture) in seen.chunks_mut(shape.values()).enumerate() {
            let mut stream = Stream::new(SEED, Purpose::Denoise, (first + index) as u64);
            data::add_noise(picture, config.objective.denoise as f32, &mut stream);
        }
    }
    Ok((Tensor::from_vec(clean, dims, device)?, Tensor::from_vec(seen, dims, device)?))
}

fn limited(pictures: &Pictures, limit: usize) -> usize {
    if limit == 0 { pictures.count() } else { limit.min(pictures.count()) }
}

/// The bound's two terms over the first `limit` pictures (0: all), nats per picture, one posterior
/// sample each.
///
/// # Errors
/// Candle's.
pub fn bound(
    vae: &Vae,
    config: &Config,
    dataset: &Dataset,
    pictures: &Pictures,
    limit: usize,
    device: &Device,
) -> Result<Bound> {
    let mut sums = Sums::default();
    let count = limited(pictures, limit);
    for start in (0..count).step_by(BATCH) {
        let range = start..(start + BATCH).min(count);
        let length = range.len();
        let mut noise = vec![0f32; length * vae.latent];
        for (index, noise) in noise.chunks_mut(vae.latent).enumerate() {
            Stream::new(SEED, Purpose::Evaluation, (start + index) as u64).fill_normal(noise);
        }
        let noise = Tensor::from_vec(noise, (length, vae.latent), device)?;
        let (clean, seen) = held_out(config, dataset.shape, pictures, range, device)?;
        let terms = vae.terms(&seen, &clean, &noise, &config.objective, Mode::Infer)?;
        let mean = |tensor: &Tensor| Ok::<_, Error>(f64::from(tensor.mean_all()?.to_scalar::<f32>()?));
        sums.add(mean(&terms.reconstruction)?, mean(&terms.divergence.sum(1)?)?, length);
    }
    Ok(sums.bound())
}

/// log p(x), estimated.
#[derive(Clone, Copy, Debug)]
pub struct LogLikelihood {
    /// Mean over pictures, nats.
    pub mean: f64,
    /// Standard error of that mean, nats.
    pub standard_error: f64,
    /// Pictures.
    pub pictures: usize,
    /// Posterior samples per picture.
    pub samples: usize,
}

/// The importance-weighted bound of Burda et al. 2015 with K = `samples`:
/// log 1/K Σ_k p(x, z_k) / q(z_k|x), z_k ~ q(z|x), which grows towards log p(x) with K.
///
/// `tick` is told of every picture that is done.
///
/// # Errors
/// [`Error::Config`] if `samples` is out of range, or candle's.
pub fn importance_weighted(
    trained: &crate::train::run::Trained,
    pictures: &Pictures,
    limit: usize,
    samples: usize,
    device: &Device,
    tick: impl Fn() + Sync,
) -> Result<LogLikelihood> {
    if samples == 0 || samples > MOST_SAMPLES {
        return Err(Error::Config(format!("--samples is {samples}; it takes 1 to {MOST_SAMPLES}")));
    }
    let count = limited(pictures, limit);
    let mut estimates = Vec::with_capacity(count);
    for start in (0..count).step_by(BATCH) {
        let range = start..(start + BATCH).min(count);
        let (clean, seen) = held_out(&trained.config, trained.dataset.shape, pictures, range.clone(), device)?;
        let posterior = trained.vae.encode(&seen, Mode::Infer)?;
        let means = posterior.mean.to_vec2::<f32>()?;
        let log_variances = posterior.log_variance.to_vec2::<f32>()?;
        let batch: Vec<f64> = range
            .into_par_iter()
            .map(|index| {
                let row = index - start;
                let picture = clean.narrow(0, row, 1)?;
                let estimate =
                    one_picture(trained, &picture, &means[row], &log_variances[row], index as u64, samples, device)?;
                tick();
                Ok(estimate)
            })
            .collect::<Result<_>>()?;
        estimates.extend(batch);
    }
    let number = estimates.len().max(1) as f64;
    let mean = estimates.iter().sum::<f64>() / number;
    let variance = estimates.iter().map(|estimate| (estimate - mean).powi(2)).sum::<f64>() / (number - 1.0).max(1.0);
    Ok(LogLikelihood { mean, standard_error: (variance / number).sqrt(), pictures: estimates.len(), samples })
}

fn one_picture(
    trained: &crate::train::run::Trained,
    picture: &Tensor,
    mean: &[f32],
    log_variance: &[f32],
    index: u64,
    samples: usize,
    device: &Device,
) -> Result<f64> {
    let vae = &trained.vae;
    let deviations: Vec<f32> = log_variance.iter().map(|value| (0.5 * value).exp()).collect();
    let log_deviations: f64 = log_variance.iter().map(|value| 0.5 * f64::from(*value)).sum();
    let mut stream = Stream::new(SEED, Purpose::Evaluation, index);
    let mut sum = LogSumExp::default();
    for start in (0..samples).step_by(SAMPLES_PER_BATCH) {
        let length = SAMPLES_PER_BATCH.min(samples - start);
        let mut latents = vec![0f32; length * vae.latent];
        let mut log_ratios = Vec::with_capacity(length);
        for latent in latents.chunks_mut(vae.latent) {
            // log p(z) − log q(z|x) with z = mean + deviation · noise: the constants cancel
            let mut log_ratio = log_deviations;
            for ((z, mean), deviation) in latent.iter_mut().zip(mean).zip(&deviations) {
                let noise = stream.normal();
                *z = mean + deviation * noise;
                log_ratio += 0.5 * (f64::from(noise).powi(2) - f64::from(*z).powi(2));
            }
            log_ratios.push(log_ratio);
        }
        let latents = Tensor::from_vec(latents, (length, vae.latent), device)?;
        let mut dims = picture.dims().to_vec();
        dims[0] = length;
        let targets = picture.broadcast_as(dims)?.contiguous()?;
        let likelihoods = vae.log_likelihood(&latents, &targets, &trained.config.objective, Mode::Infer)?;
        for (likelihood, log_ratio) in likelihoods.to_vec1::<f32>()?.into_iter().zip(log_ratios) {
            sum.add(f64::from(likelihood) + log_ratio);
        }
    }
    Ok(sum.value() - (samples as f64).ln())
}

/// log Σ e^x over a stream of x.
struct LogSumExp {
    largest: f64,
    scaled: f64,
}

impl Default for LogSumExp {
    fn default() -> Self {
        Self { largest: f64::NEG_INFINITY, scaled: 0.0 }
    }
}

impl LogSumExp {
    fn add(&mut self, x: f64) {
        if x > self.largest {
            self.scaled = self.scaled * (self.largest - x).exp() + 1.0;
            self.largest = x;
        } else {
            self.scaled += (x - self.largest).exp();
        }
    }

    fn value(&self) -> f64 {
        self.largest + self.scaled.ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_sum_exp_holds_for_values_that_overflow() {
        let mut sum = LogSumExp::default();
        [-1000.0, -1001.0, -999.0].into_iter().for_each(|x| sum.add(x));
        let expected = -999.0 + ((-1f64).exp() + (-2f64).exp() + 1.0).ln();
        assert!((sum.value() - expected).abs() < 1e-12);
    }
}
