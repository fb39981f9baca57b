//! The variational autoencoder (D. P. Kingma, M. Welling, 2014; D. J. Rezende et al., 2014): an
//! encoder gives q(z|x) = N(mean, diag exp(log_variance)), a decoder p(x|z), and training maximises
//! E_q[log p(x|z)] − β·KL(q(z|x)‖N(0, 1)), both terms in nats per picture.

use candle_core::{Device, Result, Tensor, Var};
use edgegen_runtime::model::ImageShape;
use serde::{Deserialize, Serialize};

use crate::network::Shape;
use crate::network::form::{self, NetworkConfig};
use crate::network::module::{Mode, Module, Parameter};
use crate::nn::likelihood;

/// Bound of |log_variance|: deviations from e⁻¹⁰ to e¹⁰. Beyond it a run has diverged anyway, and
/// e^log_variance would overflow.
const LOG_VARIANCE_BOUND: f64 = 20.0;

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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// Latent (N, latent) → image (N, C, H, W) in [0, 1].
    pub decoder: Module,
    /// Values of a latent.
    pub latent: usize,
}

/// q(z|x), both (N, latent).
pub struct Posterior {
    /// Mean of each latent value.
    pub mean: Tensor,
    /// Logarithm of each latent value's variance.
    pub log_variance: Tensor,
}

/// The two terms of a batch, (N) each, in nats.
pub struct Terms {
    /// log p(x|z) of one posterior sample.
    pub reconstruction: Tensor,
    /// KL(q(z|x)‖p(z)), (N, latent).
    pub divergence: Tensor,
}

impl Vae {
    /// First values from `seed`.
    ///
    /// # Errors
    /// If the pictures do not fit the architecture, or candle's.
    pub fn new(config: &NetworkConfig, image: ImageShape, seed: u64, device: &Device) -> crate::Result<Self> {
        let (encoder, decoder) = form::vae(config, image)?;
        let encoder = Module::new(encoder, "encoder", seed, 0, device)?;
        let first = encoder.parameters().len() as u64;
        let decoder = Module::new(decoder, "decoder", seed, first, device)?;
        Ok(Self { encoder, decoder, latent: config.latent })
    }

    /// All named tensors: the encoder's, then the decoder's.
    pub fn parameters(&self) -> impl Iterator<Item = &Parameter> {
        self.encoder.parameters().iter().chain(self.decoder.parameters())
    }

    /// The tensors that are trained, in that order.
    pub fn trained(&self) -> Vec<Var> {
        self.parameters().filter(|p| p.trained).map(|p| p.value.clone()).collect()
    }

    /// Values of the largest layer's output for one picture.
    pub fn largest_layer(&self) -> usize {
        let networks = [self.encoder.network(), self.decoder.network()];
        let shapes = networks.into_iter().flat_map(|network| network.shapes().unwrap_or_default());
        shapes.map(Shape::values).max().unwrap_or(0)
    }

    /// q(z|x) of images (N, C, H, W).
    ///
    /// # Errors
    /// Candle's.
    pub fn encode(&self, images: &Tensor, mode: Mode) -> Result<Posterior> {
        let both = self.encoder.forward(images, mode)?;
        let mean = both.narrow(1, 0, self.latent)?;
        let log_variance = both.narrow(1, self.latent, self.latent)?;
        Ok(Posterior { mean, log_variance: log_variance.clamp(-LOG_VARIANCE_BOUND, LOG_VARIANCE_BOUND)? })
    }

    /// Both terms for targets `clean`, seen by the encoder as `seen`, with `noise` (N, latent) from
    /// the standard normal.
    ///
    /// # Errors
    /// Candle's.
    pub fn terms(
        &self,
        seen: &Tensor,
        clean: &Tensor,
        noise: &Tensor,
        objective: &ObjectiveConfig,
        mode: Mode,
    ) -> Result<Terms> {
        let posterior = self.encode(seen, mode)?;
        let latent = posterior.sample(noise)?;
        let reconstruction = self.log_likelihood(&latent, clean, objective, mode)?;
        Ok(Terms { reconstruction, divergence: posterior.divergence()? })
    }

    /// log p(x|z) per picture, nats: latents (N, latent), pictures (N, C, H, W) → (N).
    ///
    /// # Errors
    /// Candle's.
    pub fn log_likelihood(
        &self,
        latent: &Tensor,
        pictures: &Tensor,
        objective: &ObjectiveConfig,
        mode: Mode,
    ) -> Result<Tensor> {
        match objective.likelihood {
            Likelihood::Bernoulli => likelihood::bernoulli(&self.decoder.logits(latent, mode)?, pictures),
            Likelihood::Gaussian => {
                likelihood::gaussian(&self.decoder.forward(latent, mode)?, pictures, objective.sigma)
            }
        }
    }
}

impl Posterior {
    /// mean + deviation · noise.
    ///
    /// # Errors
    /// If the noise's shape differs.
    pub fn sample(&self, noise: &Tensor) -> Result<Tensor> {
        &self.mean + ((&self.log_variance * 0.5)?.exp()? * noise)?
    }

    /// KL to the standard normal per latent value: ½·(mean² + e^log_variance − 1 − log_variance).
    ///
    /// # Errors
    /// Candle's.
    pub fn divergence(&self) -> Result<Tensor> {
        let sum = ((self.mean.sqr()? + self.log_variance.exp()?)? - &self.log_variance)?;
        sum.affine(0.5, -0.5)
    }
}

impl Terms {
    /// What is minimised: the batch's mean of −reconstruction + β·KL, where a latent value whose
    /// mean KL is below `free_bits` counts as `free_bits`.
    ///
    /// # Errors
    /// Candle's.
    pub fn loss(&self, beta: f64, free_bits: f64) -> Result<Tensor> {
        let per_value = self.divergence.mean(0)?;
        let kl = if free_bits > 0.0 { per_value.maximum(free_bits)? } else { per_value };
        (kl.sum_all()? * beta)? - self.reconstruction.mean_all()?
    }
}
