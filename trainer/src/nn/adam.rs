//! Adam with moments that can be stored and restored, so that a resumed run is the same run.

use documented::DocumentedFields;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::lanes;
use crate::network::module::{Gradients, Module};

/// Values that one task moves.
const PIECE: usize = 1 << 15;

/// Settings of D. P. Kingma, J. Ba, "Adam: a method for stochastic optimization", 2015.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, DocumentedFields)]
#[serde(deny_unknown_fields, default)]
pub struct AdamConfig {
    /// Decay of the gradient's average.
    pub beta1: f64,
    /// Decay of the squared gradient's average.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
}

impl Default for AdamConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }
    }
}

impl AdamConfig {
    /// What [`lanes::adam`] takes at `step`, from 1: both decays; and the rate with the first moment's correction, the
    /// second's correction, epsilon.
    fn coefficients(self, step: u64, rate: f64) -> ((f32, f32), (f32, f32, f32)) {
        let Self { beta1, beta2, epsilon } = self;
        let first_scale = 1.0 / (1.0 - beta1.powf(step as f64));
        let second_scale = 1.0 / (1.0 - beta2.powf(step as f64));
        let scales = ((rate * first_scale) as f32, second_scale as f32, epsilon as f32);
        ((beta1 as f32, beta2 as f32), scales)
    }
}

/// The optimiser of the trained parameters of some modules.
pub struct Adam {
    config: AdamConfig,
    step: u64,
    /// (first, second) moment of each trained parameter, in the modules' order.
    moments: Vec<(Vec<f32>, Vec<f32>)>,
}

impl Adam {
    /// Zero moments for the trained parameters of `modules`.
    pub fn new(modules: &[&Module], config: AdamConfig) -> Self {
        let trained =
            modules.iter().flat_map(|module| module.parameters()).filter(|parameter| parameter.trained);
        let moments = trained.map(|p| (vec![0.0; p.value.len()], vec![0.0; p.value.len()])).collect();
        Self { config, step: 0, moments }
    }

    /// Its settings.
    pub fn config(&self) -> AdamConfig {
        self.config
    }

    /// Updates so far.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// (first, second) moment of each trained parameter.
    pub fn moments(&self) -> &[(Vec<f32>, Vec<f32>)] {
        &self.moments
    }

    /// Takes up a stored state, which has the parameters' count and lengths.
    pub fn restore(&mut self, step: u64, moments: Vec<(Vec<f32>, Vec<f32>)>) {
        (self.step, self.moments) = (step, moments);
    }

    /// Moves every trained parameter against its gradient, with learning rate `rate`. Modules come in
    /// the order of [`Self::new`], each with its gradients.
    pub fn update(&mut self, modules: &mut [(&mut Module, &Gradients)], rate: f64) {
        self.step += 1;
        let (decays, scales) = self.config.coefficients(self.step, rate);
        let mut moments = self.moments.iter_mut();
        for (module, gradients) in modules {
            for (parameter, gradient) in module.trained_mut().zip(gradients.trained()) {
                let Some((first, second)) = moments.next() else { return };
                let pieces = parameter.par_chunks_mut(PIECE).zip(gradient.par_chunks(PIECE));
                let moments = first.par_chunks_mut(PIECE).zip(second.par_chunks_mut(PIECE));
                pieces.zip(moments).for_each(|((parameter, gradient), (first, second))| {
                    lanes::adam(parameter, gradient, first, second, decays, scales);
                });
            }
        }
    }
}

/// The moments of values that no module holds.
pub(crate) struct Moments {
    first: Vec<f32>,
    second: Vec<f32>,
}

impl Moments {
    /// Zeros for `count` values.
    pub(crate) fn new(count: usize) -> Self {
        Self { first: vec![0.0; count], second: vec![0.0; count] }
    }

    /// Moves values against their gradient; `step` counts from 1.
    pub(crate) fn update(
        &mut self,
        values: &mut [f32],
        gradient: &[f32],
        config: AdamConfig,
        step: u64,
        rate: f64,
    ) {
        let (decays, scales) = config.coefficients(step, rate);
        lanes::adam(values, gradient, &mut self.first, &mut self.second, decays, scales);
    }
}
