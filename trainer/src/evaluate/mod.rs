//! How good a generator is.
//!
//! Here: a VAE on pictures that it has not learned from, by the evidence lower bound and the importance-weighted
//! estimate of log p(x) that papers compare by. Below: any samples against pictures, on the features of any
//! network ([`report::evaluate_samples`]).

pub mod cache;
pub mod distance;
pub mod features;
pub mod modes;
pub mod neighbours;
mod pairs;
pub mod report;
pub mod samples;

use std::ops::Range;
use std::sync::Arc;

use edgegen_runtime::model::{self, ImageShape};
use edgegen_runtime::random::{Purpose, Stream};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::classifier::Classifier;
use crate::data::{self, Pictures};
use crate::vae::{Binarize, Example, ObjectiveConfig, Vae};
use crate::{Error, Result};

/// Pictures, or posterior samples, per batch of an evaluation, where pictures are small.
const LARGEST_BATCH: usize = 250;
/// Values of a batch's pictures where they are not: layers inside a network are a few times as large.
const VALUES_PER_BATCH: usize = 1 << 22;
/// Most samples per picture: those of Burda et al. 2015.
pub const MOST_SAMPLES: usize = 5_000;
/// Seed of everything that is drawn for held-out pictures, so that runs can be compared.
const SEED: u64 = 0;

/// Mean terms over pictures, nats per picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bound {
    /// reconstruction − kl (β = 1, no free bits): a lower bound of log p(x).
    pub elbo: f64,
    /// E_q[log p(x|z)].
    pub reconstruction: f64,
    /// KL(q(z|x)‖p(z)).
    pub kl: f64,
}

/// Sums from which a [`Bound`] comes.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    reconstruction: f64,
    kl: f64,
    pictures: u64,
}

impl Sums {
    /// Adds a batch of `pictures` with these mean terms.
    fn add(&mut self, reconstruction: f64, kl: f64, pictures: usize) {
        self.reconstruction += reconstruction * pictures as f64;
        self.kl += kl * pictures as f64;
        self.pictures += pictures as u64;
    }

    /// The means.
    fn bound(&self) -> Bound {
        let count = self.pictures.max(1) as f64;
        let (reconstruction, kl) = (self.reconstruction / count, self.kl / count);
        Bound { elbo: reconstruction - kl, reconstruction, kl }
    }
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

/// A VAE before pictures that it has not learned from.
pub struct HeldOut<'a> {
    vae: &'a Vae,
    objective: &'a ObjectiveConfig,
    shape: ImageShape,
    pictures: &'a Pictures,
    count: usize,
}

impl<'a> HeldOut<'a> {
    /// The first `limit` of `pictures`; 0: all.
    pub fn new(
        vae: &'a Vae,
        objective: &'a ObjectiveConfig,
        shape: ImageShape,
        pictures: &'a Pictures,
        limit: usize,
    ) -> Self {
        let count = if limit == 0 { pictures.count() } else { limit.min(pictures.count()) };
        Self { vae, objective, shape, pictures, count }
    }

    /// How many pictures.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Pictures `range` as (target, what the encoder sees), each (N, C, H, W): binarised and noised as
    /// the objective says, always the same.
    pub fn batch(&self, range: Range<usize>) -> (Vec<f32>, Vec<f32>) {
        let first = range.start;
        let mut clean = data::batch(model::Range::Unit, self.shape, self.pictures, range);
        if self.objective.binarize == Binarize::Stochastic {
            data::binarize_held_out(&mut clean, self.shape.values(), SEED, first);
        }
        let mut seen = clean.clone();
        if self.objective.denoise > 0.0 {
            for (index, picture) in seen.chunks_mut(self.shape.values()).enumerate() {
                let mut stream = Stream::new(SEED, Purpose::DenoiseHeldOut, (first + index) as u64);
                data::add_noise(picture, self.objective.denoise as f32, &mut stream);
            }
        }
        (clean, seen)
    }

    /// The classes of pictures `range`, (N), if the decoder is told them.
    pub fn classes(&self, range: Range<usize>) -> Option<Arc<[u32]>> {
        self.vae.classes_of(self.pictures, range)
    }

    fn batch_size(&self) -> usize {
        (VALUES_PER_BATCH / self.shape.values().max(1)).clamp(1, LARGEST_BATCH)
    }

    fn ranges(&self) -> impl Iterator<Item = Range<usize>> {
        let (size, count) = (self.batch_size(), self.count);
        (0..count).step_by(size).map(move |start| start..(start + size).min(count))
    }

    /// The bound's two terms, nats per picture, one posterior sample each.
    pub fn bound(&self) -> Bound {
        let latent = self.vae.latent;
        let mut sums = Sums::default();
        for range in self.ranges() {
            let (start, length) = (range.start, range.len());
            let mut noise = vec![0f32; length * latent];
            for (index, noise) in noise.chunks_mut(latent).enumerate() {
                Stream::new(SEED, Purpose::Evaluation, (start + index) as u64).fill_normal(noise);
            }
            let classes = self.classes(range.clone());
            let (clean, seen) = self.batch(range);
            let example = Example { seen: &seen, clean: &clean, noise: &noise, classes };
            let (reconstruction, kl) = self.vae.terms(&example, self.objective).means();
            sums.add(reconstruction, kl, length);
        }
        crate::nn::buffers::release();
        sums.bound()
    }

    /// The importance-weighted bound of Burda et al. 2015 with K = `samples`:
    /// log 1/K Σ_k p(x, z_k) / q(z_k|x), z_k ~ q(z|x), which grows towards log p(x) with K.
    ///
    /// `tick` is told of every picture that is done.
    ///
    /// # Errors
    /// [`Error::Config`] if `samples` is out of range.
    pub fn importance_weighted(&self, samples: usize, tick: impl Fn() + Sync) -> Result<LogLikelihood> {
        check_samples(samples)?;
        let mut estimates = Vec::with_capacity(self.count);
        for range in self.ranges() {
            let start = range.start;
            let (clean, seen) = self.batch(range.clone());
            let posterior = self.vae.encode(&seen);
            let (latent, values) = (self.vae.latent, self.shape.values());
            let batch: Vec<f64> = range
                .into_par_iter()
                .map(|index| {
                    let row = index - start;
                    let mut noise = Stream::new(SEED, Purpose::Evaluation, index as u64);
                    let estimate = self.log_likelihood(
                        &clean[row * values..][..values],
                        &posterior.mean[row * latent..][..latent],
                        &posterior.log_variance[row * latent..][..latent],
                        self.classes(index..index + 1).map(|class| class[0]),
                        &mut noise,
                        samples,
                    );
                    tick();
                    estimate
                })
                .collect();
            estimates.extend(batch);
        }
        let number = estimates.len().max(1) as f64;
        let mean = estimates.iter().sum::<f64>() / number;
        let squares: f64 = estimates.iter().map(|estimate| (estimate - mean).powi(2)).sum();
        let standard_error = (squares / (number - 1.0).max(1.0) / number).sqrt();
        crate::nn::buffers::release();
        Ok(LogLikelihood { mean, standard_error, pictures: estimates.len(), samples })
    }

    /// The estimate for one picture (1, C, H, W) with its posterior.
    fn log_likelihood(
        &self,
        picture: &[f32],
        mean: &[f32],
        log_variance: &[f32],
        class: Option<u32>,
        noise: &mut Stream,
        samples: usize,
    ) -> f64 {
        let latent = self.vae.latent;
        let deviations: Vec<f32> = log_variance.iter().map(|value| (0.5 * value).exp()).collect();
        let log_deviations: f64 = log_variance.iter().map(|value| 0.5 * f64::from(*value)).sum();
        let mut sum = LogSumExp::default();
        for start in (0..samples).step_by(self.batch_size()) {
            let length = self.batch_size().min(samples - start);
            let mut latents = vec![0f32; length * latent];
            let mut log_ratios = Vec::with_capacity(length);
            for latent in latents.chunks_mut(latent) {
                // log p(z) − log q(z|x) with z = mean + deviation · noise: the constants cancel
                let mut log_ratio = log_deviations;
                for ((z, mean), deviation) in latent.iter_mut().zip(mean).zip(&deviations) {
                    let noise = noise.normal();
                    *z = mean + deviation * noise;
                    log_ratio += 0.5 * (f64::from(noise).powi(2) - f64::from(*z).powi(2));
                }
                log_ratios.push(log_ratio);
            }
            let targets = picture.repeat(length);
            let classes = class.map(|class| vec![class; length]);
            let likelihoods = self.vae.log_likelihood(&latents, classes.as_deref(), &targets, self.objective);
            for (likelihood, log_ratio) in likelihoods.into_iter().zip(log_ratios) {
                sum.add(f64::from(likelihood) + log_ratio);
            }
        }
        sum.value() - (samples as f64).ln()
    }
}

/// (mean cross-entropy in nats, share that is right) of a classifier on the first `limit` of `pictures`; 0: all.
pub fn verdicts(classifier: &Classifier, shape: ImageShape, pictures: &Pictures, limit: usize) -> (f64, f64) {
    let count = if limit == 0 { pictures.count() } else { limit.min(pictures.count()) };
    let (mut loss, mut right) = (0.0, 0.0);
    for start in (0..count).step_by(LARGEST_BATCH) {
        let range = start..(start + LARGEST_BATCH).min(count);
        let part = data::batch(model::Range::Unit, shape, pictures, range.clone());
        let share = range.len() as f64 / count as f64;
        let (own_loss, own_right) = classifier.judge(&part, &pictures.labels()[range]);
        (loss, right) = (loss + share * own_loss, right + share * own_right);
    }
    crate::nn::buffers::release();
    (loss, right)
}

/// Refuses a number of importance samples that is out of range.
///
/// # Errors
/// [`Error::Config`].
pub fn check_samples(samples: usize) -> Result<()> {
    if samples == 0 || samples > MOST_SAMPLES {
        return Err(Error::Config(format!("--samples is {samples}; it takes 1 to {MOST_SAMPLES}")));
    }
    Ok(())
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
        if x == f64::NEG_INFINITY {
            return; // adds nothing, and −∞ − −∞ is no number
        }
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
