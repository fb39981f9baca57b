//! Spectral normalisation (T. Miyato et al., 2018): every weight of D, as a matrix (outputs, the rest), is divided
//! by its largest singular value, which one step of power iteration a pass follows.

use edgegen_runtime::random::{Purpose, Stream};

use crate::network::Layer;
use crate::network::module::{Gradients, Module, Parameter};

/// Added to norms, so that a weight of zeros is no division by zero.
const TINY: f64 = 1e-12;

/// The estimates of all weights' first singular vectors.
#[derive(Clone)]
pub struct Spectral {
    /// Where each weight is in the module's parameters.
    places: Vec<usize>,
    /// The left vector of each, (outputs): part of a run's state.
    left: Vec<Parameter>,
}

/// Weights that were divided, and what brings them back.
pub struct Divided {
    /// As they are trained.
    raw: Vec<Vec<f32>>,
    sigma: Vec<f64>,
    right: Vec<Vec<f32>>,
}

impl Spectral {
    /// Vectors for the convolutions and dense layers of `module`, drawn from `seed`.
    pub fn new(module: &Module, seed: u64) -> Self {
        let names: Vec<&str> = module.parameters().iter().map(|p| p.name.as_str()).collect();
        let (mut places, mut left) = (Vec::new(), Vec::new());
        for (index, layer) in module.network().layers.iter().enumerate() {
            if !matches!(layer, Layer::Conv { .. } | Layer::Dense { .. }) {
                continue;
            }
            let weight = &module.layer_parameters(index)[0];
            let Some(place) = names.iter().position(|name| *name == weight.name) else { continue };
            let mut value = vec![0f32; weight.shape[0]];
            Stream::new(seed, Purpose::Spectral, place as u64).fill_normal(&mut value);
            normalise(&mut value);
            places.push(place);
            left.push(Parameter {
                name: format!("{}.left", weight.name),
                shape: vec![value.len()],
                value,
                trained: false,
            });
        }
        Self { places, left }
    }

    /// The vectors, named after their weights.
    pub fn state(&self) -> &[Parameter] {
        &self.left
    }

    /// The same, to be restored.
    pub fn state_mut(&mut self) -> &mut [Parameter] {
        &mut self.left
    }

    /// Where each weight is in the module's parameters.
    pub(crate) fn places(&self) -> &[usize] {
        &self.places
    }

    /// Takes a step of power iteration and divides the weights. [`Divided::restore`] brings them back.
    pub fn divide(&mut self, module: &mut Module) -> Divided {
        let mut divided = Divided { raw: Vec::new(), sigma: Vec::new(), right: Vec::new() };
        for (place, left) in self.places.iter().zip(&mut self.left) {
            let weight = &mut module.parameters_mut()[*place].value;
            let columns = weight.len() / left.value.len();
            let mut right = vec![0f32; columns];
            for (row, u) in weight.chunks(columns).zip(&left.value) {
                right.iter_mut().zip(row).for_each(|(sum, w)| *sum += u * w);
            }
            normalise(&mut right);
            let dot = |row: &[f32]| -> f64 { row.iter().zip(&right).map(|(w, v)| f64::from(w * v)).sum() };
            let product: Vec<f64> = weight.chunks(columns).map(dot).collect();
            left.value.iter_mut().zip(&product).for_each(|(u, value)| *u = *value as f32);
            normalise(&mut left.value);
            let sigma: f64 = left.value.iter().zip(&product).map(|(u, p)| f64::from(*u) * p).sum();
            divided.raw.push(weight.clone());
            let factor = (1.0 / sigma.max(TINY)) as f32;
            weight.iter_mut().for_each(|w| *w *= factor);
            divided.sigma.push(sigma.max(TINY));
            divided.right.push(right);
        }
        divided
    }

    /// Gradients for the divided weights become those for the weights themselves, with the singular vectors
    /// held fast (Miyato et al., equation 12).
    pub fn backward(&self, module: &Module, divided: &Divided, gradients: &mut Gradients) {
        for (index, (place, left)) in self.places.iter().zip(&self.left).enumerate() {
            let (sigma, right) = (divided.sigma[index], &divided.right[index]);
            let weight = &module.parameters()[*place].value; // still divided
            let gradient = gradients.of_parameter(*place);
            let along: f64 = gradient.iter().zip(weight).map(|(g, w)| f64::from(g * w)).sum();
            let factor = (1.0 / sigma) as f32;
            for (row, u) in gradient.chunks_mut(right.len()).zip(&left.value) {
                let u = along as f32 * u;
                row.iter_mut().zip(right).for_each(|(g, v)| *g = (*g - u * v) * factor);
            }
        }
    }

    /// Brings the weights back.
    pub fn restore(&self, module: &mut Module, divided: Divided) {
        for (place, raw) in self.places.iter().zip(divided.raw) {
            module.parameters_mut()[*place].value = raw;
        }
    }
}

fn normalise(values: &mut [f32]) {
    let norm = values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt().max(TINY);
    values.iter_mut().for_each(|value| *value = (f64::from(*value) / norm) as f32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Activation, Network, Shape};
    use crate::nn::batch::Batch;

    fn module() -> Module {
        let layers = vec![
            Layer::Conv { inputs: 2, outputs: 5, kernel: 3, stride: 1, padding: 1 },
            Layer::Activation(Activation::Tanh),
            Layer::Reshape(Shape::Vector(5 * 16)),
            Layer::Dense { inputs: 80, outputs: 1 },
        ];
        let network = Network::new(Shape::Image(2, 4, 4), layers).unwrap();
        Module::new(network, "discriminator", 1, 0).unwrap()
    }

    #[test]
    fn the_largest_singular_value_becomes_one() {
        let mut module = module();
        let mut spectral = Spectral::new(&module, 7);
        for _ in 0..100 {
            let divided = spectral.divide(&mut module);
            spectral.restore(&mut module, divided);
        }
        let before = module.parameters()[0].value.clone();
        let divided = spectral.divide(&mut module);
        let weight = nalgebra::DMatrix::from_row_slice(5, 18, &module.parameters()[0].value);
        let largest = weight.singular_values().max();
        assert!((largest - 1.0).abs() < 1e-4, "{largest}");
        spectral.restore(&mut module, divided);
        assert_eq!(module.parameters()[0].value, before);
    }

    /// The gradient of the sum of logits through the division, against differences with the vectors held fast.
    #[test]
    fn gradients_flow_through_the_division() {
        const STEP: f32 = 1e-2;
        let mut module = module();
        let mut spectral = Spectral::new(&module, 7);
        for _ in 0..50 {
            let divided = spectral.divide(&mut module);
            spectral.restore(&mut module, divided);
        }
        let mut x = vec![0f32; 3 * 32];
        Stream::new(4, Purpose::Evaluation, 0).fill_normal(&mut x);
        let value = |module: &Module, spectral: &Spectral, right: &[Vec<f32>]| -> f64 {
            let mut divided = module.clone();
            for (index, place) in spectral.places.iter().enumerate() {
                let weight = &mut divided.parameters_mut()[*place].value;
                let rows = weight.chunks(right[index].len()).zip(&spectral.left[index].value);
                let sigma: f64 = rows
                    .map(|(row, u)| {
                        row.iter().zip(&right[index]).map(|(w, v)| f64::from(u * w * v)).sum::<f64>()
                    })
                    .sum();
                weight.iter_mut().for_each(|w| *w = (f64::from(*w) / sigma) as f32);
            }
            divided.infer(&x, None).iter().map(|logit| f64::from(*logit)).sum()
        };
        let divided = spectral.divide(&mut module);
        let right = divided.right.clone();
        let mut gradients = Gradients::of(&module);
        let (_, record) = module.record(Batch::from_rows(&x, Shape::Image(2, 4, 4)), None);
        let ones = Batch::from_rows(&[1.0; 3], Shape::Vector(1));
        module.backward(&record, ones, Some(&mut gradients), false);
        spectral.backward(&module, &divided, &mut gradients);
        spectral.restore(&mut module, divided);
        for place in spectral.places.clone() {
            for at in (0..module.parameters()[place].value.len()).step_by(7) {
                let mut moved = |by: f32| {
                    module.parameters_mut()[place].value[at] += by;
                    let found = value(&module, &spectral, &right);
                    module.parameters_mut()[place].value[at] -= by;
                    found
                };
                let slope = (moved(STEP) - moved(-STEP)) / f64::from(2.0 * STEP);
                let found = f64::from(gradients.of_parameter(place)[at]);
                assert!((found - slope).abs() < 2e-3 * slope.abs().max(1.0), "{place} {at}: {found} {slope}");
            }
        }
    }
}
