//! Functions of single values.

use serde::{Deserialize, Serialize};

/// A function that is applied to each value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// max(x, 0).
    Relu,
    /// x, or slope · x below zero.
    LeakyRelu(f32),
    /// min(max(x, 0), 6) (A. Krizhevsky, 2010).
    Relu6,
    /// Hyperbolic tangent, range (−1, 1).
    Tanh,
    /// 1 / (1 + e^−x), range (0, 1).
    Sigmoid,
    /// x · sigmoid(x) (S. Elfwing et al., 2018), also called swish.
    Silu,
    /// ln(1 + e^x).
    Softplus,
    /// min(max(x / 6 + ½, 0), 1) (A. Howard et al., 2019).
    HardSigmoid,
    /// x · min(max(x / 6 + ½, 0), 1) (A. Howard et al., 2019).
    HardSwish,
}

impl Activation {
    /// The field's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Relu => "Relu",
            Self::LeakyRelu(_) => "LeakyRelu",
            Self::Relu6 => "Relu6",
            Self::Tanh => "Tanh",
            Self::Sigmoid => "Sigmoid",
            Self::Silu => "Silu",
            Self::Softplus => "Softplus",
            Self::HardSigmoid => "HardSigmoid",
            Self::HardSwish => "HardSwish",
        }
    }

    /// Whether it multiplies its input by one slope above 0 and by another one below.
    pub fn has_kink(self) -> bool {
        matches!(self, Self::Relu | Self::LeakyRelu(_))
    }

    /// Whether its slope follows from its result; of the others the input has to be kept.
    pub fn slope_of_result(self) -> bool {
        !matches!(self, Self::Silu | Self::HardSwish)
    }

    /// Whether it halves the variance of a symmetric input, as He et al. 2015 assume.
    pub fn rectifies(self) -> bool {
        matches!(self, Self::Relu | Self::LeakyRelu(_) | Self::Relu6 | Self::Silu | Self::HardSwish)
    }
}
