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
use crate::graph::teacher::Teacher;
use crate::graph::{Parameter, Shape, ValueId};
use crate::objective::feature_loss::FeatureLoss;
use crate::objective::transport::{Transport, share};

/// Bound of |log_variance|: deviations from e⁻¹⁰ to e¹⁰. Beyond it a run has diverged anyway, and
/// e^log_variance would overflow.
const LOG_VARIANCE_BOUND: f32 = 20.0;
/// A deviation that is learned at first, its least, and how much of it stays at each step.
const FIRST_SIGMA: f32 = 0.3;
const LEAST_SIGMA: f64 = 1e-3;
const KEPT_SIGMA: f64 = 0.99;

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
    /// Deviation of a Gaussian likelihood, in units of the range [0, 1]; 0: the one that fits best, which is learned (O.
    /// Rybkin et al., 2021).
    pub sigma: f64,
    /// Treatment of grey values.
    pub binarize: Binarize,
    /// Weight of the KL term.
    pub beta: f64,
    /// Steps over which β grows from 0.
    pub beta_warmup: u64,
    /// Posterior samples of a picture whose importance-weighted bound is maximised (Y. Burda et al., 2015, "IWAE"); 1: the
    /// evidence lower bound.
    #[serde(default = "one")]
    pub iwae: usize,
    /// KL below which a latent value costs nothing more, nats (D. P. Kingma et al., 2016).
    pub free_bits: f64,
    /// Deviation of the noise on the encoder's input; 0: none. The target stays clean.
    pub denoise: f64,
    /// Weight, in nats, of the feature loss between reconstructions and their pictures, beside a Gaussian likelihood; 0:
    /// none. With it the objective is not a bound on the likelihood.
    #[serde(default)]
    pub unlike: f64,
    /// The ONNX network on whose features, and its input's scaling after a space; empty: the shipped
    /// efficientnet-lite0-features; "none": colours and their slopes.
    #[serde(default)]
    pub features: String,
    /// With `network.codes`: the mean of the largest weight where a latent is mapped to a mean of codes.
    #[serde(default = "share")]
    pub code_share: f64,
}

fn one() -> usize {
    1
}

/// An encoder and a decoder with values.
pub struct Vae<B: Backend = Lanes> {
    /// Image (N, C, H, W) in [0, 1] → (N, 2·latent): mean, log-variance.
    pub encoder: Network<B>,
    /// Latent (N, latent) → image (N, C, H, W) in [0, 1]; it may be conditioned on the class.
    pub decoder: Network<B>,
    /// Values of a latent.
    pub latent: usize,
    /// The prior's way to where the encoder's means lie, and the decoder after it, if there are codes.
    fitted: Option<(Transport<B>, Network<B>)>,
    /// The learned deviation of a Gaussian likelihood.
    sigma: Option<f64>,
    feature_loss: Option<FeatureLoss<B>>,
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
    /// The importance-weighted bound, (N), where it is what is maximised.
    pub weighted: Option<Vec<f32>>,
    /// How unlike reconstructions are to their pictures by features, on average, where that counts.
    pub unlike: Option<f64>,
}

/// What a training step looks at: rows (N, values) of pictures, and of normal noise (N, latent), or (N, K, latent) for an
/// importance-weighted bound.
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
        Ok(Self { encoder, decoder, latent: config.latent, fitted: None, sigma: None, feature_loss: None })
    }

    /// Takes up what an objective needs besides: a deviation that is learned.
    pub fn prepare(&mut self, objective: &ObjectiveConfig) {
        let learned = objective.likelihood == Likelihood::Gaussian && objective.sigma == 0.0;
        self.sigma = learned.then_some(f64::from(FIRST_SIGMA));
    }

    /// Compares reconstructions with their pictures by what `teacher` sees.
    ///
    /// # Errors
    /// The device's.
    pub fn compare_by(&mut self, teacher: &Teacher) -> Result<()> {
        self.feature_loss = Some(FeatureLoss::new(self.decoder.backend(), teacher)?);
        Ok(())
    }

    /// The deviation of a Gaussian likelihood.
    pub fn sigma(&self, objective: &ObjectiveConfig) -> f64 {
        self.sigma.unwrap_or(objective.sigma)
    }

    /// Adds a mapping from the prior to codes; [`Self::map_codes`] fits it. `own` are the classes of the codes where the
    /// decoder is conditioned on classes; empty where the mapping is only taken up.
    ///
    /// # Errors
    /// The device's.
    pub fn fit_prior(&mut self, config: &NetworkConfig, own: Vec<u32>) -> Result<()> {
        let backend = self.decoder.backend().clone();
        let mapping = family::mapping(config, self.decoder.classes())?.initialise(0, 0);
        let transport = Transport::new(&backend, &mapping, config.codes, own)?;
        let drawn = Network::new(&backend, &mapping.then(&self.decoder.host()?)?)?;
        self.fitted = Some((transport, drawn));
        Ok(())
    }

    /// Fits it to codes (N, L).
    ///
    /// # Errors
    /// The device's.
    pub fn map_codes(&mut self, codes: &[f32], share: f64) -> Result<()> {
        if let Some((transport, _)) = &mut self.fitted {
            transport.fit(codes, share)?;
        }
        self.join();
        Ok(())
    }

    /// What draws from the prior: the decoder, after the mapping to codes if there is one.
    pub fn drawing(&self) -> &Network<B> {
        self.fitted.as_ref().map_or(&self.decoder, |(_, drawn)| drawn)
    }

    /// Whether the prior is brought to codes.
    pub fn has_codes(&self) -> bool {
        self.fitted.is_some()
    }

    /// Copies the weights of mapping and decoder to the network that samples the prior.
    fn join(&mut self) {
        if let Some((transport, drawn)) = &mut self.fitted {
            let parts = transport.mapping.graph.parameters().chain(self.decoder.graph.parameters());
            let own = drawn.graph.parameters_mut().zip(parts);
            own.for_each(|(own, part)| own.value = part.value.clone());
        }
    }

    /// All named tensors: the encoder's, then the decoder's, then those of the mapping to codes.
    ///
    /// # Errors
    /// The device's.
    pub fn parameters(&self) -> Result<Vec<Parameter>> {
        let mut all = self.trained()?;
        if let Some((transport, _)) = &self.fitted {
            all.extend(transport.state()?);
        }
        if let Some(sigma) = self.sigma {
            let value = vec![sigma as f32];
            all.push(Parameter { name: "vae.sigma".into(), shape: vec![1], value, trained: false });
        }
        Ok(all)
    }

    /// The encoder's and the decoder's alone, which the optimiser moves.
    ///
    /// # Errors
    /// The device's.
    pub fn trained(&self) -> Result<Vec<Parameter>> {
        let mut all = self.encoder.parameters()?;
        all.extend(self.decoder.parameters()?);
        Ok(all)
    }

    /// Takes up the values of such a list.
    ///
    /// # Errors
    /// The device's.
    pub fn set_parameters(&mut self, all: &[Parameter]) -> Result<()> {
        let (encoder, rest) = all.split_at(self.encoder.graph.parameters().count().min(all.len()));
        let (decoder, rest) = rest.split_at(self.decoder.graph.parameters().count().min(rest.len()));
        self.encoder.set(encoder)?;
        self.decoder.set(decoder)?;
        let rest = match &mut self.fitted {
            Some((transport, _)) => transport.restore(rest)?,
            None => rest,
        };
        if let (Some(sigma), Some(stored)) = (&mut self.sigma, rest.first()) {
            *sigma = f64::from(stored.value[0]);
        }
        self.join();
        Ok(())
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
        Ok(Terms { reconstruction, divergence: posterior.divergence(), weighted: None, unlike: None })
    }

    /// What the decoder says of a picture's values, and the value of its graph that says it.
    fn density(&self, objective: &ObjectiveConfig) -> (Density, ValueId) {
        match objective.likelihood {
            Likelihood::Bernoulli => (Density::Bernoulli, self.decoder.graph.logits()),
            Likelihood::Gaussian => (Density::Gaussian(self.sigma(objective)), self.decoder.graph.output()),
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

        let (mut density, value) = self.density(objective);
        let (output, decoded) = self.decoder.train(z, example.classes, value, &none)?;
        let clean = backend.tensor(example.clean, backend.shape(&output))?;
        if let Some(sigma) = &mut self.sigma {
            // the likelihood of a batch is largest with its root mean square error
            let difference = backend.add(output.clone(), -1.0, &clean)?;
            let squares = backend.squares(&difference)?.iter().sum::<f64>() / example.clean.len() as f64;
            let best = squares.sqrt().max(LEAST_SIGMA);
            // as it is stored, so that a run that is cut ends as one that is not
            *sigma = f64::from((KEPT_SIGMA * *sigma + (1.0 - KEPT_SIGMA) * best) as f32);
            density = Density::Gaussian(best);
        }
        let reconstruction = backend.log_density(density, &output, &clean)?;
        let mut of_output = backend.log_density_gradient(density, &output, &clean, scale)?;
        let mut unlike = None;
        if let Some(feature_loss) = &self.feature_loss {
            // the teacher sees [−1, 1]: 2 x − 1
            let ones = backend.tensor(&vec![1.0; example.clean.len()], backend.shape(&output))?;
            let signed = |x: &B::Tensor| backend.add(backend.add(x.clone(), 1.0, x)?, -1.0, &ones);
            let (found, gradient) = feature_loss.loss(&signed(&output)?, signed(&clean)?)?;
            of_output = backend.add(of_output, (2.0 * objective.unlike) as f32, &gradient)?;
            unlike = Some(found);
        }
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
        Ok(Terms { reconstruction, divergence, weighted: None, unlike })
    }

    /// As [`Self::learn`], with the gradients of −mean log(mean over K of p(x, z)/q(z|x)), K posterior samples z of each
    /// picture (Y. Burda et al., 2015, equation 14).
    ///
    /// # Errors
    /// The device's.
    pub fn learn_weighted(
        &mut self,
        example: &Example<'_>,
        objective: &ObjectiveConfig,
        gradients: &mut [Gradients<B>; 2],
    ) -> Result<Terms> {
        let backend = self.encoder.backend().clone();
        let (latent, samples) = (self.latent, objective.iwae);
        let count = example.noise.len() / latent / samples;
        let seen = backend.tensor(example.seen, self.encoder.input_shape())?;
        let posterior_value = self.encoder.graph.output();
        let (both, encoded) = self.encoder.train(seen, None, posterior_value, &[])?;
        let both = backend.rows(&both)?;
        let posterior = Posterior::of(&both, latent);
        let repeated = |rows: &[f32], size: usize| -> Vec<f32> {
            rows.chunks(size).flat_map(|row| std::iter::repeat_n(row, samples).flatten().copied()).collect()
        };
        let each = Posterior {
            mean: repeated(&posterior.mean, latent),
            log_variance: repeated(&posterior.log_variance, latent),
        };
        let z = each.sample(example.noise);
        let classes: Option<Vec<u32>> = example
            .classes
            .map(|classes| classes.iter().flat_map(|class| std::iter::repeat_n(*class, samples)).collect());

        let (density, value) = self.density(objective);
        let latents = backend.tensor(&z, Shape::Vector(latent))?;
        let (output, decoded) = self.decoder.train(latents, classes.as_deref(), value, &[])?;
        let shape = backend.shape(&output);
        let clean = backend.tensor(&repeated(example.clean, shape.values()), shape)?;
        let reconstruction = backend.log_density(density, &output, &clean)?;
        // log p(x, z) − log q(z|x): the constants cancel
        let log_weights: Vec<f64> = (0..count * samples)
            .map(|row| {
                let at = row * latent..(row + 1) * latent;
                let of_latent =
                    z[at.clone()].iter().zip(&example.noise[at.clone()]).zip(&each.log_variance[at]);
                let ratio = of_latent.map(|((z, noise), log_variance)| {
                    0.5 * (f64::from(noise * noise) - f64::from(z * z) + f64::from(*log_variance))
                });
                f64::from(reconstruction[row]) + ratio.sum::<f64>()
            })
            .collect();
        let (mut shares, mut bounds) = (Vec::with_capacity(count * samples), Vec::with_capacity(count));
        for own in log_weights.chunks(samples) {
            let largest = own.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = own.iter().map(|value| (value - largest).exp()).sum();
            shares.extend(own.iter().map(|value| ((value - largest).exp() / sum) as f32));
            bounds.push((largest + (sum / samples as f64).ln()) as f32);
        }
        let of_output = backend.log_density_gradient(density, &output, &clean, -1.0 / count as f32)?;
        drop((output, clean));
        let channels = shape.channels();
        let by = repeated_values(&shares, channels);
        let of_output = backend.scale(of_output, &backend.tensor(&by, Shape::Vector(channels))?)?;
        let seeds = vec![(value, of_output)];
        let of_z = self.decoder.backward(&decoded, seeds, Some(&mut gradients[1]), true, &[])?;
        drop(decoded);
        let of_z = of_z.map(|gradient| backend.rows(&gradient)).transpose()?.unwrap_or_default();

        let mut of_both = vec![0f32; both.len()];
        for (row, share) in shares.iter().enumerate() {
            let picture = row / samples * 2 * latent;
            let share = share / count as f32;
            for value in 0..latent {
                let at = row * latent + value;
                let of_sample = of_z[at] + share * z[at];
                of_both[picture + value] += of_sample;
                // clamped: nothing flows where it was
                if both[picture + latent + value].abs() <= LOG_VARIANCE_BOUND {
                    let deviation = (0.5 * each.log_variance[at]).exp();
                    of_both[picture + latent + value] +=
                        0.5 * (of_sample * example.noise[at] * deviation - share);
                }
            }
        }
        let of_both = backend.tensor(&of_both, Shape::Vector(2 * latent))?;
        let seeds = vec![(posterior_value, of_both)];
        self.encoder.backward(&encoded, seeds, Some(&mut gradients[0]), false, &[])?;
        let mean = |own: &[f32]| own.iter().sum::<f32>() / samples as f32;
        Ok(Terms {
            reconstruction: reconstruction.chunks(samples).map(mean).collect(),
            divergence: posterior.divergence(),
            weighted: Some(bounds),
            unlike: None,
        })
    }
}

/// Each value so many times.
fn repeated_values(values: &[f32], times: usize) -> Vec<f32> {
    values.iter().flat_map(|value| std::iter::repeat_n(*value, times)).collect()
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

#[cfg(test)]
mod tests {
    use crate::random::{Purpose, Stream};

    use super::*;
    use crate::graph::Activation;
    use crate::graph::family::Architecture;

    /// The importance-weighted bound against its definition, and its gradients against differences of it.
    #[test]
    fn the_weighted_bound_is_that_of_burda_et_al_with_its_gradients() {
        const COUNT: usize = 3;
        const SAMPLES: usize = 4;
        const STEP: f32 = 1e-2;
        let image = ImageShape { channels: 2, height: 3, width: 3 };
        let config = NetworkConfig {
            hidden: vec![7],
            activation: Activation::Tanh,
            conditional: true,
            ..NetworkConfig::plain(Architecture::Mlp)
        };
        let objective = ObjectiveConfig {
            likelihood: Likelihood::Bernoulli,
            sigma: 0.1,
            binarize: Binarize::No,
            beta: 1.0,
            beta_warmup: 0,
            iwae: SAMPLES,
            free_bits: 0.0,
            denoise: 0.0,
            unlike: 0.0,
            features: String::new(),
            code_share: 0.8,
        };
        let vae: Vae = Vae::new(&Lanes, &config, image, 2, 5).unwrap();
        let mut stream = Stream::new(1, Purpose::Evaluation, 0);
        let pictures: Vec<f32> = (0..COUNT * image.values()).map(|_| stream.uniform()).collect();
        let mut noise = vec![0f32; COUNT * SAMPLES * 2];
        stream.fill_normal(&mut noise);
        let classes = [0, 1, 1];
        let example = Example { seen: &pictures, clean: &pictures, noise: &noise, classes: Some(&classes) };
        let copy = || {
            let mut copy: Vae = Vae::new(&Lanes, &config, image, 2, 5).unwrap();
            copy.set_parameters(&vae.parameters().unwrap()).unwrap();
            copy
        };
        let learn = |vae: &mut Vae| {
            let mut gradients =
                [&vae.encoder, &vae.decoder].map(|network| Gradients::of(&Lanes, &network.graph).unwrap());
            let terms = vae.learn_weighted(&example, &objective, &mut gradients).unwrap();
            (terms.weighted.unwrap(), gradients)
        };
        let (bounds, gradients) = learn(&mut copy());
        // by the definition, with the constants of the densities
        let posterior = vae.encode(&pictures).unwrap();
        for row in 0..COUNT {
            let of_row = |values: &[f32]| values[row * 2..][..2].to_vec();
            let (mean, log_variance) = (of_row(&posterior.mean), of_row(&posterior.log_variance));
            let mut sum = 0.0;
            for sample in 0..SAMPLES {
                let noise = &noise[(row * SAMPLES + sample) * 2..][..2];
                let z: Vec<f32> =
                    (0..2).map(|at| mean[at] + (0.5 * log_variance[at]).exp() * noise[at]).collect();
                let normal = |x: f32, mean: f32, log_variance: f32| {
                    let square = f64::from(x - mean).powi(2) / f64::from(log_variance).exp();
                    -0.5 * (square + f64::from(log_variance) + std::f64::consts::TAU.ln())
                };
                let own = &pictures[row * image.values()..][..image.values()];
                let class = [classes[row]];
                let likelihood = vae.log_likelihood(&z, Some(&class), own, &objective).unwrap()[0];
                let mut log_weight = f64::from(likelihood);
                for at in 0..2 {
                    log_weight += normal(z[at], 0.0, 0.0) - normal(z[at], mean[at], log_variance[at]);
                }
                sum += log_weight.exp() / SAMPLES as f64;
            }
            assert!((f64::from(bounds[row]) - sum.ln()).abs() < 1e-4, "{row}: {} {}", bounds[row], sum.ln());
        }
        let loss = |vae: &mut Vae| -> f64 {
            let bounds = learn(vae).0;
            -bounds.iter().map(|bound| f64::from(*bound)).sum::<f64>() / COUNT as f64
        };
        for (part, gradients) in gradients.iter().enumerate() {
            for (parameter, gradient) in gradients.to_host().unwrap().into_iter().enumerate() {
                for at in (0..gradient.len()).step_by(1 + gradient.len() / 5) {
                    let moved = |by: f32| {
                        let mut vae = copy();
                        let network = if part == 0 { &mut vae.encoder } else { &mut vae.decoder };
                        network.graph.parameters_mut().nth(parameter).unwrap().value[at] += by;
                        loss(&mut vae)
                    };
                    let slope = (moved(STEP) - moved(-STEP)) / f64::from(2.0 * STEP);
                    let found = f64::from(gradient[at]);
                    let bound = 2e-3 * slope.abs().max(0.5);
                    assert!((found - slope).abs() < bound, "{part} {parameter} {at}: {found} {slope}");
                }
            }
        }
    }
}
