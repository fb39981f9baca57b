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
    /// Cross-entropy of the difference: D wants each real picture's logit above that of a generated one beside it, G the
    /// other way round (A. Jolicoeur-Martineau, 2019; Y. Huang et al., 2024).
    Relativistic,
    /// No discriminator: each real picture draws its nearest sample to itself, see [`super::matching`].
    Matching,
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

/// A mean loss, with the gradients for the logits of real and of generated pictures.
pub type OfPair = (f64, Vec<f32>, Vec<f32>);

impl Loss {
    /// What D minimises, of its logits for real and as many generated pictures.
    pub fn of_discriminator(self, real: &[f32], drawn: &[f32], doubt: f64) -> OfPair {
        if self == Self::Relativistic {
            return relativistic(real, drawn);
        }
        let (of_real, real) = self.of(real, Wanted::Real(doubt));
        let (of_drawn, drawn) = self.of(drawn, Wanted::Drawn);
        (of_real + of_drawn, real, drawn)
    }

    /// What G minimises, of D's logits for generated and, of a [`Self::Relativistic`] loss, as many real pictures, with
    /// the gradient for the generated ones'.
    pub fn of_generator(self, real: &[f32], drawn: &[f32]) -> (f64, Vec<f32>) {
        if self == Self::Relativistic {
            let (loss, gradient, _) = relativistic(drawn, real);
            return (loss, gradient);
        }
        self.of(drawn, Wanted::Fooled)
    }

    /// Whether what G minimises depends on D's logits for real pictures.
    pub fn compares(self) -> bool {
        self == Self::Relativistic
    }

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

/// Mean of softplus(below − above), and its gradients for `above` and `below`.
fn relativistic(above: &[f32], below: &[f32]) -> OfPair {
    let count = above.len().max(1) as f64;
    let mut found = (0.0, Vec::with_capacity(above.len()), Vec::with_capacity(above.len()));
    for (above, below) in above.iter().zip(below) {
        let (loss, slope) = Loss::NonSaturating.term(f64::from(*above) - f64::from(*below), Wanted::Fooled);
        found.0 += loss / count;
        found.1.push((slope / count) as f32);
        found.2.push((-slope / count) as f32);
    }
    found
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

    /// Both sides of the relativistic loss against differences of their own values.
    #[test]
    fn a_relativistic_loss_has_the_gradients_of_both_sides() {
        const STEP: f32 = 1e-2;
        let loss = Loss::Relativistic;
        let (real, drawn) = ([0.3f32, -1.2, 2.0], [0.5f32, 0.1, -3.0]);
        let (value, of_real, of_drawn) = loss.of_discriminator(&real, &drawn, 0.0);
        let expected: f32 = real.iter().zip(&drawn).map(|(real, drawn)| (drawn - real).exp().ln_1p()).sum();
        assert!((value - f64::from(expected / 3.0)).abs() < 1e-6);
        let (_, for_generator) = loss.of_generator(&real, &drawn);
        for at in 0..3 {
            let moved = |side: usize, by: f32| {
                let mut both = [real, drawn];
                both[side][at] += by;
                both
            };
            let slope = |value: &dyn Fn([[f32; 3]; 2]) -> f64, side: usize| {
                (value(moved(side, STEP)) - value(moved(side, -STEP))) / f64::from(2.0 * STEP)
            };
            let of_d = |[real, drawn]: [[f32; 3]; 2]| loss.of_discriminator(&real, &drawn, 0.0).0;
            let of_g = |[real, drawn]: [[f32; 3]; 2]| loss.of_generator(&real, &drawn).0;
            assert!((f64::from(of_real[at]) - slope(&of_d, 0)).abs() < 1e-4);
            assert!((f64::from(of_drawn[at]) - slope(&of_d, 1)).abs() < 1e-4);
            assert!((f64::from(for_generator[at]) - slope(&of_g, 1)).abs() < 1e-4);
        }
    }
}
