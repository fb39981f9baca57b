//! [`Vae::learn`] on tensors.

use candle_core::{Device, Result, Tensor};

use super::adam::DeviceAdam;
use super::layers::{DeviceModule, rows_of};
use super::softplus;
use crate::nn::adam::Adam;
use crate::vae::{Example, LOG_VARIANCE_BOUND, Likelihood, ObjectiveConfig, Terms, Vae};

/// A VAE and its optimiser on a device.
pub(crate) struct DeviceVae {
    device: Device,
    encoder: DeviceModule,
    decoder: DeviceModule,
    adam: DeviceAdam,
}

impl DeviceVae {
    /// Copies the whole state.
    pub(crate) fn of(vae: &Vae, adam: &Adam, device: &Device) -> Result<Self> {
        let (encoder, decoder) =
            (DeviceModule::of(&vae.encoder, device)?, DeviceModule::of(&vae.decoder, device)?);
        let adam = DeviceAdam::of(adam, &[&encoder, &decoder], device)?;
        Ok(Self { device: device.clone(), encoder, decoder, adam })
    }

    /// Copies the whole state back.
    pub(crate) fn store(&self, vae: &mut Vae, adam: &mut Adam) -> Result<()> {
        self.encoder.store(&mut vae.encoder)?;
        self.decoder.store(&mut vae.decoder)?;
        self.adam.store(adam)
    }

    /// One step; both terms of the batch, and the gradients' norm.
    pub(crate) fn learn(
        &mut self,
        vae: &Vae,
        example: &Example<'_>,
        objective: &ObjectiveConfig,
        beta: f64,
        (rate, clip): (f64, f64),
    ) -> Result<(Terms, f64)> {
        let latent = vae.latent;
        let count = example.noise.len() / latent;
        let picture = rows_of(count, vae.encoder.network().input);
        let rows = |values: &[f32]| Tensor::from_slice(values, picture.as_slice(), &self.device);
        let (seen, clean) = (rows(example.seen)?, rows(example.clean)?.flatten_from(1)?);
        let noise = Tensor::from_slice(example.noise, (count, latent), &self.device)?;
        let classes = example.classes.as_deref();
        let classes = classes.map(|classes| Tensor::from_slice(classes, count, &self.device)).transpose()?;

        let both = self.encoder.forward(&seen, None, None, &[])?;
        let mean = both.narrow(1, 0, latent)?;
        let bound = f64::from(LOG_VARIANCE_BOUND);
        let log_variance = both.narrow(1, latent, latent)?.clamp(-bound, bound)?;
        let z = (&mean + (&log_variance * 0.5)?.exp()?.mul(&noise)?)?;
        let reconstruction = match objective.likelihood {
            Likelihood::Bernoulli => {
                let layers = Some(self.decoder.without_last_activation());
                let logits = self.decoder.forward(&z, classes.as_ref(), layers, &[])?.flatten_from(1)?;
                (clean.mul(&logits)? - softplus(&logits)?)?.sum(1)?
            }
            Likelihood::Gaussian => {
                let sigma = objective.sigma;
                let drawn = self.decoder.forward(&z, classes.as_ref(), None, &[])?.flatten_from(1)?;
                let constant = -0.5 * drawn.dim(1)? as f64 * (std::f64::consts::TAU * sigma * sigma).ln();
                (((clean - drawn)?.sqr()?.sum(1)? * (-0.5 / (sigma * sigma)))? + constant)?
            }
        };
        let divergence = ((((mean.sqr()? + log_variance.exp()?)? - 1.0)? - &log_variance)? * 0.5)?;
        // below the free bits a latent value costs nothing more
        let free: Vec<f32> = divergence
            .detach()
            .mean(0)?
            .to_vec1::<f32>()?
            .into_iter()
            .map(|kl| if f64::from(kl) > objective.free_bits { 1.0 } else { 0.0 })
            .collect();
        let counted = divergence.broadcast_mul(&Tensor::from_vec(free, (1, latent), &self.device)?)?;
        let loss = ((counted.sum_all()? * beta)? - reconstruction.sum_all()?)?;
        let gradients = (loss * (1.0 / count as f64))?.backward()?;
        let norm = self.adam.update(&[&self.encoder, &self.decoder], &gradients, rate, clip)?;
        let terms = Terms {
            reconstruction: reconstruction.to_vec1()?,
            divergence: divergence.flatten_all()?.to_vec1()?,
        };
        Ok((terms, norm))
    }
}
