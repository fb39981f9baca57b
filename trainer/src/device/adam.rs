//! [`crate::nn::adam`] on tensors.

use candle_core::backprop::GradStore;
use candle_core::{Device, Result, Tensor};

use super::layers::DeviceModule;
use crate::nn::adam::{Adam, AdamConfig};

/// Moments of the trained values of some modules.
pub(super) struct DeviceAdam {
    config: AdamConfig,
    step: u64,
    /// (first, second) of each, in the modules' order.
    moments: Vec<(Tensor, Tensor)>,
}

impl DeviceAdam {
    /// Takes up the state of `adam`, which moves `modules`.
    pub(super) fn of(adam: &Adam, modules: &[&DeviceModule], device: &Device) -> Result<Self> {
        let trained = modules.iter().flat_map(|module| module.trained());
        let moment = |values: &[f32], like: &Tensor| Tensor::from_slice(values, like.shape(), device);
        let moments = adam
            .moments()
            .iter()
            .zip(trained)
            .map(|((first, second), like)| Ok((moment(first, like)?, moment(second, like)?)))
            .collect::<Result<_>>()?;
        Ok(Self { config: adam.config(), step: adam.steps(), moments })
    }

    /// Updates so far.
    pub(super) fn steps(&self) -> u64 {
        self.step
    }

    /// Copies the state back.
    pub(super) fn store(&self, adam: &mut Adam) -> Result<()> {
        let values = |tensor: &Tensor| tensor.flatten_all()?.to_vec1();
        let moments = self.moments.iter().map(|(first, second)| Ok((values(first)?, values(second)?)));
        adam.restore(self.step, moments.collect::<Result<_>>()?);
        Ok(())
    }

    /// Moves the trained values of `modules` against their gradients, scaled so that their common norm is at most
    /// `clip` (0: none); returns the norm that they had.
    pub(super) fn update(
        &mut self,
        modules: &[&DeviceModule],
        gradients: &GradStore,
        rate: f64,
        clip: f64,
    ) -> Result<f64> {
        let mut squares = 0.0;
        for value in modules.iter().flat_map(|module| module.trained()) {
            if let Some(gradient) = gradients.get(value) {
                squares += f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
            }
        }
        let norm = squares.sqrt();
        let shrink = if clip > 0.0 && norm > clip && norm.is_finite() { clip / norm } else { 1.0 };
        self.step += 1;
        let AdamConfig { beta1, beta2, epsilon } = self.config;
        let first_scale = rate / (1.0 - beta1.powf(self.step as f64));
        let second_scale = 1.0 / (1.0 - beta2.powf(self.step as f64));
        let values = modules.iter().flat_map(|module| module.trained());
        for (value, (first, second)) in values.zip(&mut self.moments) {
            let gradient = match gradients.get(value) {
                Some(gradient) => (gradient.detach() * shrink)?,
                None => value.zeros_like()?,
            };
            *first = ((&*first * beta1)? + (&gradient * (1.0 - beta1))?)?;
            *second = ((&*second * beta2)? + (gradient.sqr()? * (1.0 - beta2))?)?;
            let root = ((&*second * second_scale)?.sqrt()? + epsilon)?;
            value.set(&(value.as_tensor() - (&*first * first_scale)?.div(&root)?)?.detach())?;
        }
        Ok(norm)
    }
}
