//! What discriminator and generator minimise, of the discriminator's logits.

use serde::{Deserialize, Serialize};

/// What D and G minimise, of D's logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// Cross-entropy; G maximises the log-probability that its pictures are real (Goodfellow et al., 2014,
    /// section 3, the non-saturating form).
    NonSaturating,
    /// Cross-entropy; G minimises the log-probability that its pictures are generated (Goodfellow et al., 2014,
    /// equation 1): its gradient fades where D is sure.
    Minimax,
    /// Hinge of D, G minimises −D (J. H. Lim, J. C. Ye, 2017).
    Hinge,
}

/// What logits are wanted to say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wanted {
    /// D of a real picture, with this share of doubt (one-sided label smoothing, T. Salimans et al., 2016).
    Real(f64),
    /// D of a generated picture.
    Drawn,
    /// D of a generated picture, for G.
    Fooled,
}

impl Loss {
    /// (mean loss, gradient of each logit).
    pub fn of(self, logits: &[f32], wanted: Wanted) -> (f64, Vec<f32>) {
        let count = logits.len().max(1) as f64;
        let term = |logit: f32| self.term(f64::from(logit), wanted);
        let loss = logits.iter().map(|logit| term(*logit).0).sum::<f64>() / count;
        (loss, logits.iter().map(|logit| (term(*logit).1 / count) as f32).collect())
    }

    /// (loss, derivative) of one logit.
    fn term(self, logit: f64, wanted: Wanted) -> (f64, f64) {
        let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
        let sigmoid = 1.0 / (1.0 + (-logit).exp());
        // a hinge's max would hide that a logit is no number
        let hinge = |x: f64| if x < 0.0 { 0.0 } else { x };
        match (self, wanted) {
            (Self::Hinge, Wanted::Real(_)) => (hinge(1.0 - logit), if logit < 1.0 { -1.0 } else { 0.0 }),
            (Self::Hinge, Wanted::Drawn) => (hinge(1.0 + logit), if logit > -1.0 { 1.0 } else { 0.0 }),
            (Self::Hinge, Wanted::Fooled) => (-logit, -1.0),
            (_, Wanted::Real(doubt)) => {
                ((1.0 - doubt) * softplus(-logit) + doubt * softplus(logit), sigmoid - (1.0 - doubt))
            }
            (_, Wanted::Drawn) => (softplus(logit), sigmoid),
            (Self::Minimax, Wanted::Fooled) => (-softplus(logit), -sigmoid),
            (_, Wanted::Fooled) => (softplus(-logit), sigmoid - 1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_and_their_gradients_agree() {
        const STEP: f32 = 1e-2;
        for loss in [Loss::NonSaturating, Loss::Minimax, Loss::Hinge] {
            for wanted in [Wanted::Real(0.0), Wanted::Real(0.1), Wanted::Drawn, Wanted::Fooled] {
                for logit in [-3.0f32, -0.4, 0.3, 2.5] {
                    let value = |logit| loss.of(&[logit], wanted).0;
                    let slope = (value(logit + STEP) - value(logit - STEP)) / f64::from(2.0 * STEP);
                    let found = f64::from(loss.of(&[logit], wanted).1[0]);
                    assert!((found - slope).abs() < 1e-4, "{loss:?} {wanted:?} {logit}: {found} {slope}");
                }
            }
            assert!(loss.of(&[f32::NAN], Wanted::Drawn).0.is_nan(), "{loss:?}");
        }
    }
}
