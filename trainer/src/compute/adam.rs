//! Adam with moments that can be stored and restored, so that a resumed run is the same run.

use documented::DocumentedFields;
use serde::{Deserialize, Serialize};

use super::pass::Gradients;
use super::{AdamStep, Backend, Lanes, Network};
use crate::Result;
use crate::graph::{Graph, Parameter};

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
    /// The update number `step`, from 1, with learning rate `rate`.
    pub fn step(self, step: u64, rate: f64) -> AdamStep {
        let Self { beta1, beta2, epsilon } = self;
        AdamStep {
            decays: (beta1 as f32, beta2 as f32),
            rate: (rate / (1.0 - beta1.powf(step as f64))) as f32,
            second_scale: (1.0 / (1.0 - beta2.powf(step as f64))) as f32,
            epsilon: epsilon as f32,
        }
    }
}

/// The optimiser of the trained parameters of some networks.
pub struct Adam<B: Backend = Lanes> {
    backend: B,
    config: AdamConfig,
    step: u64,
    /// (first, second) moment of each trained parameter, in the networks' order.
    moments: Vec<(B::Weight, B::Weight)>,
}

impl<B: Backend> Adam<B> {
    /// Zero moments for the trained parameters of `graphs`.
    ///
    /// # Errors
    /// The device's.
    pub fn new(backend: &B, graphs: &[&Graph<B::Weight>], config: AdamConfig) -> Result<Self> {
        let trained =
            graphs.iter().flat_map(|graph| graph.parameters()).filter(|parameter| parameter.trained);
        let zeros = |parameter: &Parameter<B::Weight>| {
            Ok((backend.zeros(&parameter.value)?, backend.zeros(&parameter.value)?))
        };
        let moments = trained.map(zeros).collect::<Result<_>>()?;
        Ok(Self { backend: backend.clone(), config, step: 0, moments })
    }

    /// Its settings.
    pub fn config(&self) -> AdamConfig {
        self.config
    }

    /// Updates so far.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// (first, second) moment of each trained parameter of `networks`, those of [`Self::new`], named after it.
    ///
    /// # Errors
    /// The device's.
    pub fn moments(&self, networks: &[&Network<B>]) -> Result<Vec<(Parameter, Parameter)>> {
        let trained = networks.iter().flat_map(|network| network.graph.parameters());
        let trained = trained.filter(|parameter| parameter.trained);
        let mut all = Vec::with_capacity(self.moments.len());
        for (parameter, (first, second)) in trained.zip(&self.moments) {
            let values = |moment| parameter.map(|_| self.backend.values(moment));
            all.push((values(first)?, values(second)?));
        }
        Ok(all)
    }

    /// Takes up a stored state, which has the parameters' count and shapes.
    ///
    /// # Errors
    /// The device's.
    pub fn restore(&mut self, step: u64, moments: Vec<(Parameter, Parameter)>) -> Result<()> {
        let device = |moment: &Parameter| self.backend.weight(&moment.value, &moment.shape);
        let moments = moments.iter().map(|(first, second)| Ok((device(first)?, device(second)?)));
        (self.step, self.moments) = (step, moments.collect::<Result<_>>()?);
        Ok(())
    }

    /// Moves every trained parameter against its gradient, with learning rate `rate`. Graphs come in
    /// the order of [`Self::new`], each with its gradients.
    ///
    /// # Errors
    /// The device's.
    pub fn update(&mut self, graphs: &mut [(&mut Graph<B::Weight>, &Gradients<B>)], rate: f64) -> Result<()> {
        self.update_each(graphs, |_| rate)
    }

    /// As [`Self::update`], with a learning rate for each trained parameter, by its number.
    ///
    /// # Errors
    /// The device's.
    pub fn update_each(
        &mut self,
        graphs: &mut [(&mut Graph<B::Weight>, &Gradients<B>)],
        rate: impl Fn(usize) -> f64,
    ) -> Result<()> {
        self.step += 1;
        let Self { backend, config, step, moments } = self;
        let mut moments = moments.iter_mut().enumerate();
        for (graph, gradients) in graphs {
            let trained = graph.parameters_mut().filter(|parameter| parameter.trained);
            for (parameter, gradient) in trained.zip(gradients.trained()) {
                let Some((number, (first, second))) = moments.next() else { return Ok(()) };
                let step = config.step(*step, rate(number));
                backend.adam(&mut parameter.value, gradient, (first, second), step)?;
            }
        }
        Ok(())
    }
}
