//! Fine-tuning of the rounded network: its weights go on learning, with the rounding in place, to put out what the
//! network in float32 puts out.
//!
//! Rounding has no slope; gradients pass through it as if it were not there (Y. Bengio et al., "Estimating or
//! propagating gradients through stochastic neurons", 2013), but for what saturates, which has none. Encodings and
//! scales stay as calibrated. The teacher is the float32 network, so no pictures are needed beyond the calibration
//! inputs.

use crate::random::{Purpose, Stream};

use super::layer::{IntegerLayer, integer_bias};
use super::simulate::{Inputs, Simulation};
use super::{Quantized, input_scale, matrix, put};
use crate::Result;
use crate::compute::adam::AdamConfig;
use crate::compute::network::{backward_on, run_on};
use crate::compute::{Backend, Gradients, Hooks, Lanes, Network};
use crate::evaluate::quality::Measure;
use crate::graph::{Graph, ValueId};

/// Inputs of a step.
const BATCH: usize = 64;
/// Learning rate, as a part of each layer's mean scale: about that many levels a step. With 0.001, 0.003 and 0.01,
/// 500 steps brought mnist-vae's decoder with one scale a layer from 42.0 dB to 42.3, 43.0 and 43.0; with 0.01 a network
/// that was good already lost by it.
const RATE: f64 = 0.003;
/// Steps between two looks at how good the network is.
const LOOK: usize = 50;

/// Gradients of a layer's weight and bias.
type LayerGradients = (Vec<f32>, Vec<f32>);

impl Quantized {
    /// Trains on for [`super::Settings::tune`] steps; what was best on `trial` on the way is kept.
    ///
    /// Weights are rounded on the host; forward and backward passes run on `backend`.
    pub(super) fn tune<B: Backend>(
        &mut self,
        backend: &B,
        inputs: &Inputs,
        (trial, measure): (&Inputs, Measure),
        tell: &dyn Fn(&str),
    ) -> Result<()> {
        let unrounded = vec![None; self.encodings.len()];
        let float = Simulation { graph: &self.exact, plan: &self.plan, encodings: &unrounded };
        let expected = float.run(trial, |_, _| ())?;
        let mut best =
            (measure.score(&expected, &self.simulate(trial)?), self.graph.clone(), self.layers.clone());
        let layers: Vec<usize> = self.plan.layers().collect();
        // what learns: starts where rounding ended
        let mut learning = self.graph.clone();
        let zeros = |count: usize| (vec![0f32; count], vec![0f32; count]);
        let mut moments: Vec<[(Vec<f32>, Vec<f32>); 2]> = layers
            .iter()
            .map(|index| &learning.nodes[*index])
            .map(|node| [zeros(node.weight().len()), zeros(node.bias().len())])
            .collect();
        let config = AdamConfig::default();
        let teacher = Network::new(backend, &self.exact)?;
        let steps = self.settings.tune;
        let width = inputs.rows.len() / inputs.count;
        for step in 0..steps {
            let mut stream = Stream::new(0, Purpose::Tune, step as u64);
            let chosen: Vec<usize> = (0..BATCH)
                .map(|_| ((stream.uniform() * inputs.count as f32) as usize).min(inputs.count - 1))
                .collect();
            let rows: Vec<f32> =
                chosen.iter().flat_map(|row| &inputs.rows[row * width..(row + 1) * width]).copied().collect();
            let classes: Option<Vec<u32>> =
                inputs.classes.as_ref().map(|classes| chosen.iter().map(|row| classes[*row]).collect());
            let gradients = self.gradients(&teacher, &rows, classes.as_deref())?;
            let rate = RATE * 0.5 * (1.0 + (std::f64::consts::PI * step as f64 / steps as f64).cos());
            for ((index, moments), (weight, bias)) in layers.iter().zip(&mut moments).zip(gradients) {
                let Some(layer) = &self.layers[*index] else { continue };
                let scale = layer.scales.iter().sum::<f32>() / layer.scales.len() as f32;
                let step = config.step(step as u64 + 1, rate * f64::from(scale));
                let parameters = learning.nodes[*index].parameters.iter_mut();
                for ((parameter, gradient), (first, second)) in
                    parameters.zip([weight, bias]).zip(moments.iter_mut())
                {
                    Lanes.adam(&mut parameter.value, &gradient, (first, second), step)?;
                }
                self.round_again(&learning, *index);
            }
            if (step + 1) % LOOK == 0 || step + 1 == steps {
                let score = measure.score(&expected, &self.simulate(trial)?);
                tell(&format!(
                    "tune, step {} of {steps}: {score:.1} dB, best {:.1} dB",
                    step + 1,
                    best.0.max(score)
                ));
                if score > best.0 {
                    best = (score, self.graph.clone(), self.layers.clone());
                }
            }
        }
        (self.graph, self.layers) = (best.1, best.2);
        Ok(())
    }

    /// Rounds the learning weights of a layer with the scales that it has.
    fn round_again(&mut self, learning: &Graph, index: usize) {
        let Some(scales) = self.layers[index].as_ref().map(|layer| layer.scales.clone()) else { return };
        let matrix = matrix(learning, &self.plan, &self.encodings, index);
        let input = input_scale(learning, &self.plan, &self.encodings, index);
        let bias = integer_bias(&matrix.bias, input, &scales);
        let layer = IntegerLayer { weight: matrix.nearest(&scales), scales, bias };
        put(&mut self.graph, &self.plan, &self.encodings, index, &layer);
        self.layers[index] = Some(layer);
    }

    /// Gradients of the mean squared error to the float32 network `teacher`, for each quantised layer's (weight, bias).
    fn gradients<B: Backend>(
        &self,
        teacher: &Network<B>,
        rows: &[f32],
        classes: Option<&[u32]>,
    ) -> Result<Vec<LayerGradients>> {
        let backend = teacher.backend();
        let graph = Network::new(backend, &self.graph)?.graph;
        let (expected, _) = run_on(backend, &teacher.graph, rows, classes, false, &mut ())?;
        let mut rounding =
            Rounding { backend, simulation: self.simulation(), before: vec![None; graph.values.len()] };
        let (found, pass) = run_on(backend, &graph, rows, classes, true, &mut rounding)?;
        let mut seeds = Vec::new();
        for ((output, found), expected) in graph.outputs.iter().zip(found).zip(expected) {
            let values = backend.count(&found) * backend.shape(&found).values();
            let apart = backend.add(found, -1.0, &expected)?;
            // the gradient of the mean of squares
            let zeros = backend.add(apart.clone(), -1.0, &apart)?;
            seeds.push((*output, backend.add(zeros, 2.0 / values as f32, &apart)?));
        }
        let mut gradients = Gradients::of(backend, &graph)?;
        backward_on(backend, &graph, &pass, seeds, &mut gradients, &mut rounding)?;
        let mut all = Vec::new();
        let mut start = 0;
        for (index, node) in graph.nodes.iter().enumerate() {
            if self.layers[index].is_some() {
                let mut of = |slot: usize| match gradients.of_parameter(start + slot) {
                    Some(gradient) => backend.values(gradient),
                    None => Ok(Vec::new()),
                };
                all.push((of(0)?, of(1)?));
            }
            start += node.parameters.len();
        }
        Ok(all)
    }
}

/// Values are rounded as they are made; where they saturated, they have no gradient.
struct Rounding<'a, B: Backend> {
    backend: &'a B,
    simulation: Simulation<'a>,
    /// Every value that is rounded, before that.
    before: Vec<Option<B::Tensor>>,
}

impl<B: Backend> Hooks<B> for Rounding<'_, B> {
    fn made(&mut self, id: ValueId, x: B::Tensor) -> Result<B::Tensor> {
        if self.simulation.encoding(id).is_some() {
            self.before[id] = Some(x.clone());
        }
        self.simulation.round(self.backend, id, x)
    }

    fn back(&mut self, id: ValueId, gradient: B::Tensor) -> Result<B::Tensor> {
        let (Some(encoding), Some(before)) = (self.simulation.encoding(id), &self.before[id]) else {
            return Ok(gradient);
        };
        let (low, high) = encoding.range();
        let range = (low - 0.5 * encoding.scale, high + 0.5 * encoding.scale);
        self.backend.inside(before, range, gradient)
    }
}
