//! Spectral normalisation (T. Miyato et al., 2018): every weight of D, as a matrix (outputs, the rest), is divided
//! by its largest singular value, which one step of power iteration a pass follows.

use crate::random::{Purpose, Stream};

use crate::Result;
use crate::compute::network::Instead;
use crate::compute::{Backend, Gradients, Network};
use crate::graph::{Op, Parameter};

/// The estimates of all weights' first singular vectors.
#[derive(Clone)]
pub struct Spectral<B: Backend> {
    backend: B,
    /// For each weight its number among the network's parameters, and the left vector, (outputs), named after it: part of
    /// a run's state.
    left: Vec<(usize, Parameter<B::Weight>)>,
}

impl<B: Backend> Spectral<B> {
    /// Vectors for the convolutions and dense layers of `network`, drawn from `seed`.
    ///
    /// # Errors
    /// The device's.
    pub fn new(network: &Network<B>, seed: u64) -> Result<Self> {
        let backend = network.backend().clone();
        let mut left = Vec::new();
        let mut place = 0;
        for node in &network.graph.nodes {
            if matches!(node.op, Op::Conv { .. } | Op::Dense { .. }) && node.parameters[0].trained {
                let weight = &node.parameters[0];
                let mut value = vec![0f32; weight.shape[0]];
                Stream::new(seed, Purpose::Spectral, place as u64).fill_normal(&mut value);
                let norm = value.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
                value.iter_mut().for_each(|value| *value = (f64::from(*value) / norm) as f32);
                let shape = vec![value.len()];
                let value = backend.weight(&value, &shape)?;
                left.push((
                    place,
                    Parameter { name: format!("{}.left", weight.name), shape, value, trained: false },
                ));
            }
            place += node.parameters.len();
        }
        Ok(Self { backend, left })
    }

    /// The vectors, named after their weights.
    ///
    /// # Errors
    /// The device's.
    pub fn state(&self) -> Result<Vec<Parameter>> {
        self.left.iter().map(|(_, left)| left.map(|left| self.backend.values(&left.value))).collect()
    }

    /// How many vectors there are.
    pub fn count(&self) -> usize {
        self.left.len()
    }

    /// Takes up stored vectors, in the same order.
    ///
    /// # Errors
    /// The device's.
    pub fn restore(&mut self, stored: &[Parameter]) -> Result<()> {
        for ((_, left), stored) in self.left.iter_mut().zip(stored) {
            left.value = self.backend.weight(&stored.value, &stored.shape)?;
        }
        Ok(())
    }

    /// Takes a step of power iteration, and divides the weights.
    ///
    /// # Errors
    /// The device's.
    pub fn divide(&mut self, network: &Network<B>) -> Result<Vec<Instead<B>>> {
        let parameters: Vec<&Parameter<B::Weight>> = network.graph.parameters().collect();
        let Self { backend, left } = self;
        let divided = left
            .iter_mut()
            .map(|(place, left)| Ok((*place, backend.divide(&parameters[*place].value, &mut left.value)?)));
        divided.collect()
    }

    /// Gradients for the divided weights become those for the weights themselves, with the singular vectors
    /// held fast (Miyato et al., equation 12).
    ///
    /// # Errors
    /// The device's.
    pub fn backward(&self, divided: &[Instead<B>], gradients: &mut Gradients<B>) -> Result<()> {
        for ((place, divided), (_, left)) in divided.iter().zip(&self.left) {
            if let Some(gradient) = gradients.of_parameter(*place) {
                self.backend.divide_backward(divided, &left.value, gradient)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::Lanes;
    use crate::graph::{Activation, Graph, Shape};

    fn network() -> Network {
        let ops = vec![
            Op::conv(2, 5, 3, 1, 1),
            Op::Activation(Activation::Tanh),
            Op::Reshape(Shape::Vector(5 * 16)),
            Op::Dense { inputs: 80, outputs: 1 },
        ];
        let graph = Graph::chain("discriminator", Shape::Image(2, 4, 4), ops).unwrap();
        Network::new(&Lanes, &graph.initialise(1, 0)).unwrap()
    }

    fn settled(network: &Network) -> Spectral<Lanes> {
        let mut spectral = Spectral::new(network, 7).unwrap();
        for _ in 0..100 {
            spectral.divide(network).unwrap();
        }
        spectral
    }

    #[test]
    fn the_largest_singular_value_becomes_one() {
        let network = network();
        let divided = settled(&network).divide(&network).unwrap();
        let weight = nalgebra::DMatrix::from_row_slice(5, 18, &divided[0].1.weight);
        let largest = weight.singular_values().max();
        assert!((largest - 1.0).abs() < 1e-4, "{largest}");
    }

    /// The gradient of the sum of logits through the division, against differences with the vectors held fast.
    #[test]
    fn gradients_flow_through_the_division() {
        const STEP: f32 = 1e-2;
        let mut network = network();
        let mut spectral = settled(&network);
        let divided = spectral.divide(&network).unwrap();
        let mut x = vec![0f32; 3 * 32];
        Stream::new(4, Purpose::Evaluation, 0).fill_normal(&mut x);
        let value = |network: &Network| -> f64 {
            let mut held = network.clone();
            let mut parameters: Vec<_> = held.graph.parameters_mut().collect();
            for ((place, divided), (_, left)) in divided.iter().zip(&spectral.left) {
                let weight = &mut parameters[*place].value;
                let rows = weight.chunks(divided.right.len()).zip(&left.value);
                let along = |row: &[f32], u: &f32| {
                    row.iter().zip(&divided.right).map(|(w, v)| f64::from(u * w * v)).sum::<f64>()
                };
                let sigma: f64 = rows.map(|(row, u)| along(row, u)).sum();
                weight.iter_mut().for_each(|w| *w = (f64::from(*w) / sigma) as f32);
            }
            held.infer(&x, None).unwrap().iter().map(|logit| f64::from(*logit)).sum()
        };
        let mut gradients = Gradients::of(&Lanes, &network.graph).unwrap();
        let output = network.graph.output();
        let batch = Lanes.tensor(&x, Shape::Image(2, 4, 4)).unwrap();
        let (_, pass) = network.train(batch, None, output, &divided).unwrap();
        let ones = Lanes.tensor(&[1.0; 3], Shape::Vector(1)).unwrap();
        network.backward(&pass, vec![(output, ones)], Some(&mut gradients), false, &divided).unwrap();
        spectral.backward(&divided, &mut gradients).unwrap();
        for place in [0, 2] {
            let length = network.graph.parameters().nth(place).unwrap().count();
            for at in (0..length).step_by(7) {
                let mut moved = |by: f32| {
                    network.graph.parameters_mut().nth(place).unwrap().value[at] += by;
                    let found = value(&network);
                    network.graph.parameters_mut().nth(place).unwrap().value[at] -= by;
                    found
                };
                let slope = (moved(STEP) - moved(-STEP)) / f64::from(2.0 * STEP);
                let found = f64::from(gradients.of_parameter(place).unwrap()[at]);
                assert!((found - slope).abs() < 2e-3 * slope.abs().max(1.0), "{place} {at}: {found} {slope}");
            }
        }
    }
}
