//! The variational autoencoder (D. P. Kingma, M. Welling, 2014; D. J. Rezende et al., 2014): an
//! encoder gives q(z|x) = N(mean, diag exp(log_variance)), a decoder p(x|z), and training maximises
//! E_q[log p(x|z)] − β·KL(q(z|x)‖N(0, 1)), both terms in nats per picture.

use documented::DocumentedFields;
use edgegen_runtime::model::ImageShape;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::compute::{Backend, Density, Gradients, Lanes, Network};
use crate::data::Pictures;
use crate::graph::family::{self, NetworkConfig};
use crate::graph::{Parameter, Shape, ValueId};

/// Bound of |log_variance|: deviations from e⁻¹⁰ to e¹⁰. Beyond it a run has diverged anyway, and
/// e^log_variance would overflow.
const LOG_VARIANCE_BOUND: f32 = 20.0;

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
pub struct Vae<B: Backend = Lanes> {
    /// Image (N, C, H, W) in [0, 1] → (N, 2·latent): mean, log-variance.
    pub encoder: Network<B>,
    /// Latent (N, latent) → image (N, C, H, W) in [0, 1]; it may be conditioned on the class.
    pub decoder: Network<B>,
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
    /// Classes (N), if the decoder is conditioned on them.
    pub classes: Option<&'a [u32]>,
}

impl<B: Backend> Vae<B> {
    /// First values from `seed`; `classes` 0: the decoder is not conditioned.
    ///
    /// # Errors
    /// If the pictures do not fit the architecture; the device's.
    pub fn new(
        backend: &B,
        config: &NetworkConfig,
        image: ImageShape,
        classes: usize,
        seed: u64,
    ) -> Result<Self> {
        let (encoder, decoder) = family::vae(config, image, classes)?;
        let encoder = encoder.initialise(seed, 0);
        let first = encoder.parameters().count() as u64;
        let decoder = decoder.initialise(seed, first);
        let (encoder, decoder) = (Network::new(backend, &encoder)?, Network::new(backend, &decoder)?);
        Ok(Self { encoder, decoder, latent: config.latent })
    }

    /// All named tensors: the encoder's, then the decoder's.
    ///
    /// # Errors
    /// The device's.
    pub fn parameters(&self) -> Result<Vec<Parameter>> {
        let mut all = self.encoder.parameters()?;
        all.extend(self.decoder.parameters()?);
        Ok(all)
    }

    /// Takes up the values of such a list.
    ///
    /// # Errors
    /// The device's.
    pub fn set_parameters(&mut self, all: &[Parameter]) -> Result<()> {
        let (encoder, decoder) = all.split_at(self.encoder.graph.parameters().count().min(all.len()));
        self.encoder.set(encoder)?;
        self.decoder.set(decoder)
    }

    /// The classes of the pictures `indices`, if the decoder is conditioned on them.
    pub fn classes_of(
        &self,
        pictures: &Pictures,
        indices: impl IntoIterator<Item = usize>,
    ) -> Option<Vec<u32>> {
        (self.decoder.classes() > 0).then(|| pictures.classes(indices))?
    }

    /// q(z|x) of images (N, C, H, W).
    ///
    /// # Errors
    /// The device's.
    pub fn encode(&self, images: &[f32]) -> Result<Posterior> {
        Ok(Posterior::of(&self.encoder.infer(images, None)?, self.latent))
    }

    /// Both terms, by running statistics.
    ///
    /// # Errors
    /// The device's.
    pub fn terms(&self, example: &Example<'_>, objective: &ObjectiveConfig) -> Result<Terms> {
        let posterior = self.encode(example.seen)?;
        let latent = posterior.sample(example.noise);
        let reconstruction = self.log_likelihood(&latent, example.classes, example.clean, objective)?;
        Ok(Terms { reconstruction, divergence: posterior.divergence() })
    }

    /// What the decoder says of a picture's values, and the value of its graph that says it.
    fn density(&self, objective: &ObjectiveConfig) -> (Density, ValueId) {
        match objective.likelihood {
            Likelihood::Bernoulli => (Density::Bernoulli, self.decoder.graph.logits()),
            Likelihood::Gaussian => (Density::Gaussian(objective.sigma), self.decoder.graph.output()),
        }
    }

    /// log p(x|z) per picture, nats: latents (N, latent), pictures (N, C, H, W) → (N).
    ///
    /// # Errors
    /// The device's.
    pub fn log_likelihood(
        &self,
        latent: &[f32],
        classes: Option<&[u32]>,
        pictures: &[f32],
        objective: &ObjectiveConfig,
    ) -> Result<Vec<f32>> {
        let backend = self.decoder.backend();
        let (density, value) = self.density(objective);
        let z = backend.tensor(latent, Shape::Vector(self.latent))?;
        let output = self.decoder.infer_tensor(z, classes, value)?;
        backend.log_density(density, &output, &backend.tensor(pictures, backend.shape(&output))?)
    }

    /// Both terms of a training batch, and the gradients of
    /// mean(−reconstruction) + β·Σ max(mean KL of a latent value, free bits): added to `gradients`, the
    /// encoder's and the decoder's.
    ///
    /// # Errors
    /// The device's.
    pub fn learn(
        &mut self,
        example: &Example<'_>,
        objective: &ObjectiveConfig,
        beta: f64,
        gradients: &mut [Gradients<B>; 2],
    ) -> Result<Terms> {
        let backend = self.encoder.backend().clone();
        let none = Vec::new();
        let latent = self.latent;
        let count = example.noise.len() / latent;
        let scale = -1.0 / count as f32;
        let seen = backend.tensor(example.seen, self.encoder.input_shape())?;
        let posterior_value = self.encoder.graph.output();
        let (both, encoded) = self.encoder.train(seen, None, posterior_value, &none)?;
        let both = backend.rows(&both)?;
        let posterior = Posterior::of(&both, latent);
        let z = backend.tensor(&posterior.sample(example.noise), Shape::Vector(latent))?;

        let (density, value) = self.density(objective);
        let (output, decoded) = self.decoder.train(z, example.classes, value, &none)?;
        let clean = backend.tensor(example.clean, backend.shape(&output))?;
        let reconstruction = backend.log_density(density, &output, &clean)?;
        let of_output = backend.log_density_gradient(density, &output, &clean, scale)?;
        drop((output, clean));
        let seeds = vec![(value, of_output)];
        let of_z = self.decoder.backward(&decoded, seeds, Some(&mut gradients[1]), true, &none)?;
        drop(decoded);
        let of_z = of_z.map(|gradient| backend.rows(&gradient)).transpose()?.unwrap_or_default();

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
        let of_both = backend.tensor(&of_both, Shape::Vector(2 * latent))?;
        let seeds = vec![(posterior_value, of_both)];
        self.encoder.backward(&encoded, seeds, Some(&mut gradients[0]), false, &none)?;
        Ok(Terms { reconstruction, divergence })
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
