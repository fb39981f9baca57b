//! What a layer does to each value, forward and backward, in place.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::lanes;

/// Values that one task takes.
const PIECE: usize = 1 << 15;

/// What a layer does to each value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// max(x, 0).
    Relu,
    /// x, or slope · x below zero.
    LeakyRelu(f32),
    /// Hyperbolic tangent, range (−1, 1).
    Tanh,
    /// 1 / (1 + e^−x), range (0, 1).
    Sigmoid,
}

impl Activation {
    /// Whether its slope jumps, at 0: on either side it is linear.
    pub fn has_kink(self) -> bool {
        matches!(self, Self::Relu | Self::LeakyRelu(_))
    }

    /// values ← f(values). What is no number stays so, and shows that a run has diverged.
    pub fn apply(self, values: &mut [f32]) {
        values.par_chunks_mut(PIECE).for_each(|values| match self {
            Self::Relu => lanes::leaky_relu(values, 0.0),
            Self::LeakyRelu(slope) => lanes::leaky_relu(values, slope),
            Self::Tanh => lanes::tanh(values),
            Self::Sigmoid => lanes::sigmoid(values),
        });
    }

    /// gradient ← gradient · f′, from the function's results alone.
    pub fn backward(self, results: &[f32], gradient: &mut [f32]) {
        gradient.par_chunks_mut(PIECE).zip(results.par_chunks(PIECE)).for_each(|(gradient, results)| {
            match self {
                Self::Relu => lanes::leaky_relu_backward(gradient, results, 0.0),
                Self::LeakyRelu(slope) => lanes::leaky_relu_backward(gradient, results, slope),
                Self::Tanh => lanes::tanh_backward(gradient, results),
                Self::Sigmoid => lanes::sigmoid_backward(gradient, results),
            }
        });
    }
}
