//! The variational autoencoder (D. P. Kingma, M. Welling, 2014; D. J. Rezende et al., 2014): an
//! encoder gives q(z|x) = N(mean, diag exp(log_variance)), a decoder p(x|z), and training maximises
//! E_q[log p(x|z)] − β·KL(q(z|x)‖N(0, 1)), both terms in nats per picture.

use std::sync::Arc;

use documented::DocumentedFields;
use edgegen_runtime::model::ImageShape;
use serde::{Deserialize, Serialize};

use crate::data::Pictures;
use crate::network::Shape;
use crate::network::form::{self, NetworkConfig};
use crate::network::module::{Gradients, Module, Parameter};
use crate::nn::batch::Batch;
use crate::nn::likelihood;
use crate::{Error, Result};

/// Bound of |log_variance|: deviations from e⁻¹⁰ to e¹⁰. Beyond it a run has diverged anyway, and
/// e^log_variance would overflow.
pub(crate) const LOG_VARIANCE_BOUND: f32 = 20.0;

/// p(x|z).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Likelihood {
    /// The decoder gives each value's probability of being 1.
    Bernoulli,
    /// The decoder gives each value's mean; the deviation is `objective.sigma`.
    Gaussian,
}

/// What becomes of grey values before they are modelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Binarize {
    /// They stay.
    No,
    /// Drawn as 0 or 1 afresh at each visit; held-out pictures once, with a fixed seed.
    Stochastic,
}

/// E_q[log p(x|z)] − β·KL(q(z|x)‖p(z)) and its variations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, DocumentedFields)]
#[serde(deny_unknown_fields)]
pub struct ObjectiveConfig {
    /// p(x|z).
    pub likelihood: Likelihood,
    /// Deviation of a Gaussian likelihood, in units of the range [0, 1].
    pub sigma: f64,
    /// Treatment of grey values.
    pub binarize: Binarize,
    /// Weight of the KL term.
    pub beta: f64,
    /// Steps over which β grows from 0.
    pub beta_warmup: u64,
    /// KL below which a latent value costs nothing more, nats (D. P. Kingma et al., 2016).
    pub free_bits: f64,
    /// Deviation of the noise on the encoder's input; 0: none. The target stays clean.
    pub denoise: f64,
}

/// An encoder and a decoder with values.
pub struct Vae {
    /// Image (N, C, H, W) in [0, 1] → (N, 2·latent): mean, log-variance.
    pub encoder: Module,
    /// Latent (N, latent) → image (N, C, H, W) in [0, 1]; it may be told the class.
    pub decoder: Module,
    /// Values of a latent.
    pub latent: usize,
}

/// q(z|x), both rows (N, latent).
pub struct Posterior {
    /// Mean of each latent value.
    pub mean: Vec<f32>,
    /// Logarithm of each latent value's variance.
    pub log_variance: Vec<f32>,
}

/// The two terms of a batch, in nats.
pub struct Terms {
    /// log p(x|z) of one posterior sample, (N).
    pub reconstruction: Vec<f32>,
    /// KL(q(z|x)‖p(z)) of each latent value, (N, latent).
    pub divergence: Vec<f32>,
}

/// What a training step looks at: rows (N, values) of pictures, and of normal noise (N, latent).
pub struct Example<'a> {
    /// What the encoder sees.
    pub seen: &'a [f32],
    /// What the decoder is to give.
    pub clean: &'a [f32],
    /// From the standard normal.
    pub noise: &'a [f32],
    /// Classes (N), if the decoder is told them.
    pub classes: Option<Arc<[u32]>>,
}

impl Vae {
    /// First values from `seed`; `classes` 0: the decoder is told none.
    ///
    /// # Errors
    /// If the pictures do not fit the architecture.
    pub fn new(config: &NetworkConfig, image: ImageShape, classes: usize, seed: u64) -> Result<Self> {
        let (encoder, decoder) = form::vae(config, image, classes)?;
        let encoder = Module::new(encoder, "encoder", seed, 0).map_err(Error::Config)?;
        let first = encoder.parameters().len() as u64;
        let decoder = Module::new(decoder, "decoder", seed, first).map_err(Error::Config)?;
        Ok(Self { encoder, decoder, latent: config.latent })
    }

    /// All named tensors: the encoder's, then the decoder's.
    pub fn parameters(&self) -> impl Iterator<Item = &Parameter> {
        self.encoder.parameters().iter().chain(self.decoder.parameters())
    }

    /// The same, to be restored.
    pub fn parameters_mut(&mut self) -> impl Iterator<Item = &mut Parameter> {
        self.encoder.parameters_mut().iter_mut().chain(self.decoder.parameters_mut())
    }

    /// The classes of the pictures `indices`, if the decoder is told them.
    pub fn classes_of(
        &self,
        pictures: &Pictures,
        indices: impl IntoIterator<Item = usize>,
    ) -> Option<Arc<[u32]>> {
        let told = (self.decoder.network().classes() > 0).then(|| pictures.classes(indices))?;
        told.map(Arc::from)
    }

    /// q(z|x) of images (N, C, H, W).
    pub fn encode(&self, images: &[f32]) -> Posterior {
        Posterior::of(&self.encoder.infer(images, None), self.latent)
    }

    /// Both terms, by running statistics.
    pub fn terms(&self, example: &Example<'_>, objective: &ObjectiveConfig) -> Terms {
        let posterior = self.encode(example.seen);
        let latent = posterior.sample(example.noise);
        let classes = example.classes.as_deref();
        let reconstruction = self.log_likelihood(&latent, classes, example.clean, objective);
        Terms { reconstruction, divergence: posterior.divergence() }
    }

    /// log p(x|z) per picture, nats: latents (N, latent), pictures (N, C, H, W) → (N).
    pub fn log_likelihood(
        &self,
        latent: &[f32],
        classes: Option<&[u32]>,
        pictures: &[f32],
        objective: &ObjectiveConfig,
    ) -> Vec<f32> {
        let values = pictures.len() / (latent.len() / self.latent);
        match objective.likelihood {
            Likelihood::Bernoulli => {
                likelihood::bernoulli(&self.decoder.infer_logits(latent, classes), pictures, values)
            }
            Likelihood::Gaussian => {
                likelihood::gaussian(&self.decoder.infer(latent, classes), pictures, values, objective.sigma)
            }
        }
    }

    /// Both terms of a training batch, and the gradients of
    /// mean(−reconstruction) + β·Σ max(mean KL of a latent value, free bits): added to `gradients`, the
    /// encoder's and the decoder's.
    pub fn learn(
        &mut self,
        example: &Example<'_>,
        objective: &ObjectiveConfig,
        beta: f64,
        gradients: &mut [Gradients; 2],
    ) -> Terms {
        let latent = self.latent;
        let count = example.noise.len() / latent;
        let values = example.clean.len() / count;
        let scale = -1.0 / count as f32;
        let seen = Batch::from_rows(example.seen, self.encoder.network().input);
        let (both, encoded) = self.encoder.record(seen, None);
        let both = both.to_rows();
        let posterior = Posterior::of(&both, latent);
        let z = Batch::from_rows(&posterior.sample(example.noise), Shape::Vector(latent));

        let (reconstruction, of_output, decoded) = match objective.likelihood {
            Likelihood::Bernoulli => {
                let (logits, record) = self.decoder.record_logits(z, example.classes.clone());
                let logits = logits.to_rows();
                let gradient = likelihood::bernoulli_gradient(&logits, example.clean, scale);
                (likelihood::bernoulli(&logits, example.clean, values), gradient, record)
            }
            Likelihood::Gaussian => {
                let (mean, record) = self.decoder.record(z, example.classes.clone());
                let mean = mean.to_rows();
                let gradient = likelihood::gaussian_gradient(&mean, example.clean, objective.sigma, scale);
                (likelihood::gaussian(&mean, example.clean, values, objective.sigma), gradient, record)
            }
        };
        let output = Batch::from_rows(&of_output, self.decoder_output());
        let of_z = self.decoder.backward(&decoded, output, Some(&mut gradients[1]), true);
        let of_z = of_z.map(|gradient| gradient.to_rows()).unwrap_or_default();

        let divergence = posterior.divergence();
        let mut mean_kl = vec![0f64; latent];
        for row in divergence.chunks(latent) {
            mean_kl.iter_mut().zip(row).for_each(|(sum, kl)| *sum += f64::from(*kl) / count as f64);
        }
        let mut of_both = vec![0f32; both.len()];
        for (row, of_both) in of_both.chunks_mut(2 * latent).enumerate() {
            for value in 0..latent {
                let at = row * latent + value;
                let weight =
                    if mean_kl[value] > objective.free_bits { beta / count as f64 } else { 0.0 } as f32;
                let (mean, log_variance) = (posterior.mean[at], posterior.log_variance[at]);
                of_both[value] = of_z[at] + weight * mean;
                // clamped: nothing flows where it was
                if both[row * 2 * latent + latent + value].abs() <= LOG_VARIANCE_BOUND {
                    let of_sample = of_z[at] * example.noise[at] * 0.5 * (0.5 * log_variance).exp();
                    of_both[latent + value] = of_sample + weight * 0.5 * (log_variance.exp() - 1.0);
                }
            }
        }
        let of_both = Batch::from_rows(&of_both, Shape::Vector(2 * latent));
        self.encoder.backward(&encoded, of_both, Some(&mut gradients[0]), false);
        Terms { reconstruction, divergence }
    }

    fn decoder_output(&self) -> Shape {
        let shapes = self.decoder.network().shapes().unwrap_or_default();
        shapes.last().copied().unwrap_or(Shape::Vector(1))
    }
}

impl Posterior {
    /// From an encoder's results, rows (N, 2·latent).
    fn of(both: &[f32], latent: usize) -> Self {
        let rows = || both.chunks(2 * latent);
        let clamp = |value: &f32| value.clamp(-LOG_VARIANCE_BOUND, LOG_VARIANCE_BOUND);
        Self {
            mean: rows().flat_map(|row| &row[..latent]).copied().collect(),
            log_variance: rows().flat_map(|row| &row[latent..]).map(clamp).collect(),
        }
    }

    /// mean + deviation · noise.
    pub fn sample(&self, noise: &[f32]) -> Vec<f32> {
        let moments = self.mean.iter().zip(&self.log_variance);
        moments
            .zip(noise)
            .map(|((mean, log_variance), noise)| mean + (0.5 * log_variance).exp() * noise)
            .collect()
    }

    /// KL to the standard normal per latent value: ½·(mean² + e^log_variance − 1 − log_variance).
    pub fn divergence(&self) -> Vec<f32> {
        let kl = |(mean, log_variance): (&f32, &f32)| {
            0.5 * (mean * mean + log_variance.exp() - 1.0 - log_variance)
        };
        self.mean.iter().zip(&self.log_variance).map(kl).collect()
    }
}

impl Terms {
    /// Mean over pictures of (reconstruction, KL), nats.
    pub fn means(&self) -> (f64, f64) {
        let count = self.reconstruction.len().max(1) as f64;
        let sum = |values: &[f32]| values.iter().map(|value| f64::from(*value)).sum::<f64>();
        (sum(&self.reconstruction) / count, sum(&self.divergence) / count)
    }
}
