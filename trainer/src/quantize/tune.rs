//! Fine-tuning of the rounded network: its weights go on learning, with the rounding in place, to put out what the
//! network in float32 puts out.
//!
//! Rounding has no slope; gradients pass through it as if it were not there (Y. Bengio et al., "Estimating or
//! propagating gradients through stochastic neurons", 2013), but for what saturates, which has none. Encodings and
//! scales stay as calibrated. The teacher is the float32 network, so no pictures are needed beyond the calibration
//! inputs.

use std::sync::Arc;

use edgegen_runtime::random::{Purpose, Stream};

use super::layer::{IntegerLayer, integer_bias};
use super::quality::Measure;
use super::simulate::{Inputs, Simulation};
use super::{Quantized, input_scale, matrix, put};
use crate::Result;
use crate::graph::{Graph, Op, ValueId};
use crate::nn::adam::{AdamConfig, Moments};
use crate::nn::batch::{Batch, LANES};
use crate::nn::geometry::Role;
use crate::nn::{batch_norm, correlate};

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
    pub(super) fn tune(
        &mut self,
        inputs: &Inputs,
        (trial, measure): (&Inputs, Measure),
        tell: &dyn Fn(&str),
    ) -> Result<()> {
        let nothing = vec![None; self.encodings.len()];
        let float = Simulation { graph: &self.exact, plan: &self.plan, encodings: &nothing };
        let expected = float.run(trial, |_, _| ())?;
        let mut best =
            (measure.score(&expected, &self.simulate(trial)?), self.graph.clone(), self.layers.clone());
        let layers: Vec<usize> = self.plan.layers().collect();
        // what learns: starts where rounding ended
        let mut learning = self.graph.clone();
        let mut moments: Vec<[Moments; 2]> = layers
            .iter()
            .map(|index| match &learning.nodes[*index].op {
                Op::Linear(linear) => [Moments::new(linear.weight.len()), Moments::new(linear.bias.len())],
                _ => unreachable!("a quantised layer is linear"),
            })
            .collect();
        let config = AdamConfig::default();
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
                inputs.classes.as_ref().map(|told| chosen.iter().map(|row| told[*row]).collect());
            let gradients = self.gradients(&rows, classes.as_deref())?;
            let rate = RATE * 0.5 * (1.0 + (std::f64::consts::PI * step as f64 / steps as f64).cos());
            for ((index, moments), (weight, bias)) in layers.iter().zip(&mut moments).zip(gradients) {
                let Some(layer) = &self.layers[*index] else { continue };
                let scale = layer.scales.iter().sum::<f32>() / layer.scales.len() as f32;
                let Op::Linear(linear) = &mut learning.nodes[*index].op else { continue };
                let rate = rate * f64::from(scale);
                moments[0].update(&mut linear.weight, &weight, config, step as u64 + 1, rate);
                moments[1].update(&mut linear.bias, &bias, config, step as u64 + 1, rate);
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

    /// Gradients of the mean squared error to the float32 network, for each quantised layer's (weight, bias).
    fn gradients(&self, rows: &[f32], classes: Option<&[u32]>) -> Result<Vec<LayerGradients>> {
        let teacher = self.exact.run(rows, classes, |_, _| ())?;
        let graph = &self.graph;
        let simulation = self.simulation();
        // every value before and after its rounding
        let mut made: Vec<Option<(Arc<Batch>, Arc<Batch>)>> = vec![None; graph.values.len()];
        graph.run(rows, classes, |id, batch| {
            let before = Arc::new(batch.clone());
            simulation.round(id, batch);
            made[id] = Some((before, Arc::new(batch.clone())));
        })?;
        let value = |id: ValueId| made[id].as_ref().expect("every value is made");
        let mut gradients: Vec<Option<Batch>> = vec![None; graph.values.len()];
        for (output, teacher) in graph.outputs.iter().zip(&teacher) {
            let (_, found) = value(*output);
            let mut gradient = found.as_ref().clone();
            let factor = 2.0 / (found.count * found.shape.values()) as f32;
            gradient
                .values
                .iter_mut()
                .zip(teacher.values.iter())
                .for_each(|(g, exact)| *g = (*g - exact) * factor);
            gradient.clear_unused();
            add(&mut gradients[*output], gradient);
        }
        let mut found: Vec<(usize, LayerGradients)> = Vec::new();
        for (index, node) in graph.nodes.iter().enumerate().rev() {
            let Some(mut gradient) = gradients[node.output].take() else { continue };
            let (before, _) = value(node.output);
            self.mask(node.output, before, &mut gradient);
            let (_, input) = value(node.inputs[0]);
            let before = match &node.op {
                Op::Linear(linear) => {
                    let (geometry, role) = linear.layer.geometry(input.shape).expect("a linear layer");
                    if self.layers[index].is_some() {
                        let (fine, coarse) = match role {
                            Role::Coarse => (input.as_ref(), &gradient),
                            Role::Fine => (&gradient, input.as_ref()),
                        };
                        let mut weight = vec![0f32; linear.weight.len()];
                        correlate::weight_gradient(
                            &geometry,
                            &fine.values,
                            &coarse.values,
                            &mut weight,
                            false,
                        );
                        found.push((index, (weight, batch_norm::channel_sums(&gradient))));
                    }
                    let mut before = input.like(input.shape);
                    let operands = (&*gradient.values, linear.weight.as_slice(), None);
                    correlate::apply(&geometry, role.transposed(), operands, &mut before.values);
                    before
                }
                Op::Activation(activation) => {
                    let (results, _) = value(node.output);
                    activation.backward(&results.values, &mut gradient.values);
                    gradient
                }
                Op::Reshape => Batch { shape: input.shape, ..gradient },
                // the class's row stays as it was rounded
                Op::ClassRow { .. } => gradient,
                Op::Shuffle(shuffle) => {
                    let places = shuffle.places(input.shape);
                    let mut before = input.like(input.shape);
                    before.values.fill(0.0);
                    let (from, to) = (gradient.shape.values() * LANES, input.shape.values() * LANES);
                    for (before, gradient) in before.values.chunks_mut(to).zip(gradient.values.chunks(from)) {
                        for (place, vector) in places.iter().zip(gradient.chunks(LANES)) {
                            before[place * LANES..][..LANES].copy_from_slice(vector);
                        }
                    }
                    before
                }
                Op::BatchNorm(_) | Op::Foreign(_) => {
                    return Err(crate::Error::Export(format!(
                        "{} has no gradient here; leave --qat out for this network",
                        graph.label(index)
                    )));
                }
            };
            add(&mut gradients[node.inputs[0]], before);
        }
        found.reverse();
        Ok(found.into_iter().map(|(_, gradients)| gradients).collect())
    }

    /// Saturated numbers have no gradient.
    fn mask(&self, id: ValueId, before: &Batch, gradient: &mut Batch) {
        let tensor = self.plan.tensor[id];
        if let Some(encoding) = self.encodings[tensor]
            && self.plan.tensors[tensor].holds(id)
        {
            let (low, high) = encoding.range();
            let (low, high) = (low - 0.5 * encoding.scale, high + 0.5 * encoding.scale);
            let values = gradient.values.iter_mut().zip(before.values.iter());
            values
                .filter(|(_, value)| !(low..=high).contains(*value))
                .for_each(|(gradient, _)| *gradient = 0.0);
        }
    }
}

fn add(sum: &mut Option<Batch>, gradient: Batch) {
    match sum {
        None => *sum = Some(gradient),
        Some(sum) => sum.values.iter_mut().zip(gradient.values.iter()).for_each(|(sum, more)| *sum += more),
    }
}
