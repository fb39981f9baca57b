//! The figures of a VAE's two terms on held-out pictures, and what they are to be called.

use serde::{Deserialize, Serialize};

use crate::objective::vae::{Binarize, Likelihood, ObjectiveConfig};

/// Mean terms over pictures, nats per picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bound {
    /// reconstruction − kl (β = 1, no free bits): a lower bound of what [`BoundKind`] says.
    pub elbo: f64,
    /// E_q[log p(x|z)].
    pub reconstruction: f64,
    /// KL(q(z|x)‖p(z)).
    pub kl: f64,
}

/// The importance-weighted bound of Burda et al. 2015.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weighted {
    /// Mean over pictures, nats.
    pub mean: f64,
    /// Standard error of that mean, nats.
    pub standard_error: f64,
    /// Pictures.
    pub pictures: usize,
    /// Posterior samples per picture.
    pub samples: usize,
}

/// What a VAE's bounds are bounds of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BoundKind {
    /// log p(x) of binarised pictures x under a Bernoulli likelihood.
    LogLikelihood,
    /// The log-density of values in [0, 1] under a Gaussian likelihood, on pictures of 8 bits with uniform noise of
    /// one level (L. Theis et al., 2016). Less values · ln 256 it is a lower bound of the 8-bit pictures' log p(x).
    LogDensity,
    /// No log-likelihood: the cross-entropy of grey values x under Bernoulli means p, −Σ x ln p + (1 − x) ln (1 − p).
    /// The exponential of its negative does not sum to 1 over pictures.
    CrossEntropy,
}

impl BoundKind {
    /// That of an objective.
    pub fn of(objective: &ObjectiveConfig) -> Self {
        match (objective.likelihood, objective.binarize) {
            (Likelihood::Gaussian, _) => Self::LogDensity,
            (Likelihood::Bernoulli, Binarize::Stochastic) => Self::LogLikelihood,
            (Likelihood::Bernoulli, Binarize::No) => Self::CrossEntropy,
        }
    }

    /// As it is written in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::LogLikelihood => "log-likelihood",
            Self::LogDensity => "log-density",
            Self::CrossEntropy => "cross-entropy",
        }
    }

    /// What [`Bound::elbo`] is called above its curve.
    pub fn title(self) -> &'static str {
        match self {
            Self::LogLikelihood => "ELBO (nats per picture)",
            Self::LogDensity => "ELBO of the log-density (nats per picture)",
            Self::CrossEntropy => "-(cross-entropy + KL) (nats per picture)",
        }
    }

    /// The figures as (name, text), means per picture of `values` values; `conditional` if the decoder takes the
    /// picture's class.
    pub fn rows(
        self,
        bound: &Bound,
        weighted: Option<&Weighted>,
        values: usize,
        conditional: bool,
    ) -> Vec<(&'static str, String)> {
        let given = if conditional { "; given the class: up to ln K more than p(x) allows" } else { "" };
        let terms = format!("(reconstruction {:.3}, KL {:.3}{given})", bound.reconstruction, bound.kl);
        let mut rows = match self {
            Self::LogLikelihood => vec![("ELBO", format!("{:.3} nats {terms}", bound.elbo))],
            Self::LogDensity => vec![(
                "ELBO",
                format!(
                    "{:.3} nats {terms}, of the log-density of values in [0, 1], dequantised uniformly",
                    bound.elbo
                ),
            )],
            Self::CrossEntropy => vec![
                (
                    "cross-entropy",
                    format!("{:.3} nats (of grey values: no log-likelihood)", -bound.reconstruction),
                ),
                ("KL", format!("{:.3} nats", bound.kl)),
            ],
        };
        let Some(&Weighted { mean, standard_error, pictures, samples }) = weighted else { return rows };
        let how = format!("importance-weighted, {samples} samples, {pictures} pictures");
        rows.push(match self {
            Self::LogLikelihood => (
                "log-likelihood",
                format!("{mean:.3} nats ± {standard_error:.3} ({how}, binarised once with a fixed seed)"),
            ),
            Self::LogDensity => (
                "log-density",
                format!(
                    "{mean:.3} nats ± {standard_error:.3} ({how}, dequantised uniformly), {:.3} bits per value",
                    bits_per_value(mean, values)
                ),
            ),
            Self::CrossEntropy => (
                "marginal cross-entropy",
                format!("{:.3} nats ± {standard_error:.3} ({how}: no log-likelihood)", -mean),
            ),
        });
        rows
    }
}

/// Bits per value of 8-bit pictures, from their dequantised log-density in [0, 1]: each level is 1/256 wide.
fn bits_per_value(log_density: f64, values: usize) -> f64 {
    8.0 - log_density / (values.max(1) as f64 * std::f64::consts::LN_2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objective(likelihood: Likelihood, binarize: Binarize) -> ObjectiveConfig {
        ObjectiveConfig {
            likelihood,
            sigma: 0.1,
            binarize,
            beta: 1.0,
            beta_warmup: 0,
            free_bits: 0.0,
            iwae: 1,
            denoise: 0.0,
            unlike: 0.0,
            features: String::new(),
            code_share: 0.8,
        }
    }

    #[test]
    fn only_a_likelihood_is_called_one() {
        let bound = Bound { elbo: -90.0, reconstruction: -63.0, kl: 27.0 };
        let weighted = Weighted { mean: -85.5, standard_error: 0.2, pictures: 100, samples: 50 };
        for (likelihood, binarize, word, named) in [
            (Likelihood::Bernoulli, Binarize::Stochastic, "log-likelihood", ["ELBO", "log-likelihood"]),
            (
                Likelihood::Bernoulli,
                Binarize::No,
                "cross-entropy",
                ["cross-entropy", "marginal cross-entropy"],
            ),
            (Likelihood::Gaussian, Binarize::No, "log-density", ["ELBO", "log-density"]),
        ] {
            let kind = BoundKind::of(&objective(likelihood, binarize));
            assert_eq!(serde_json::to_value(kind).unwrap(), word);
            assert_eq!(kind.word(), word);
            let rows = kind.rows(&bound, Some(&weighted), 784, false);
            assert_eq!((rows[0].0, rows[rows.len() - 1].0), (named[0], named[1]), "{rows:?}");
            let text: String = rows.iter().map(|(name, text)| format!("{name} {text}\n")).collect();
            let claims = text.replace("no log-likelihood", "").contains("log-likelihood");
            assert_eq!(claims, kind == BoundKind::LogLikelihood, "{text}");
            assert_eq!(text.contains("dequantised"), kind == BoundKind::LogDensity, "{text}");
            let bare = kind.rows(&bound, None, 784, true);
            assert_eq!(bare.len() + 1, rows.len());
        }
    }

    #[test]
    fn a_uniform_density_takes_eight_bits_a_value() {
        assert_eq!(bits_per_value(0.0, 784), 8.0);
        assert!((bits_per_value(784.0 * 256f64.ln(), 784)).abs() < 1e-12);
    }
}
