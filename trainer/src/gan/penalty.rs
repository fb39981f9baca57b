//! R1 (L. Mescheder et al., 2018): γ/2 · mean ‖v‖² with v = ∇ₓ Σ D(x) on real pictures, by ordinary gradients alone.
//!
//! Its gradient for D's parameters is γ times the mean over pictures of d/dε ∇D(x + ε·v) at ε = 0: here a central
//! difference of two backward passes, at x ± h·v. In both, every leaky ReLU keeps the side of its kink on which it is
//! at x ([`Module::record_along`]): a second derivative knows nothing of kinks, while a difference counts each kink that
//! the step crosses, times 1/h. One h serves the whole batch, because a batch norm ties its pictures together, and no
//! picture moves by more than [`STEP`].
//!
//! x are the pictures before augmentation, and D sees them after it, as in T. Karras et al., 2020 ("Training
//! generative adversarial networks with limited data"): neither v nor the step depends on how far an augmentation
//! stretches a picture.

use std::sync::Arc;

use super::augment::Draws;
use crate::network::Shape;
use crate::network::module::{Gradients, Module};
use crate::nn::batch::Batch;

/// Longest step of a picture to each side: its L2 length over all values in [−1, 1]. Shorter ones lose digits of f32,
/// longer ones bend with batch norm: docs/decisions.md has the measurements.
pub const STEP: f64 = 0.1;

/// What R1 looks at.
pub struct Penalised<'a> {
    /// Real pictures before augmentation, rows (N, C, H, W) in [−1, 1].
    pub pictures: &'a [f32],
    /// Their classes (N), where D takes them.
    pub classes: Option<Arc<[u32]>>,
    /// The augmentation through which D sees them.
    pub draws: Option<&'a Draws>,
}

/// How far a step may go so that the picture with the steepest D moves by `step`: h for slopes (N, `values`) of D.
/// `None` if D is flat there, or a slope is not finite.
pub(crate) fn reach(slopes: &[f32], values: usize, step: f64) -> Option<f64> {
    let squares = |slope: &[f32]| slope.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
    // f64::max drops NaN
    let longest = slopes
        .chunks(values)
        .map(squares)
        .fold(0.0, |longest: f64, square| if square.is_nan() { f64::INFINITY } else { longest.max(square) });
    let reach = step / longest.sqrt();
    (reach.is_finite() && reach > 0.0).then_some(reach)
}

/// Adds the gradients of `weight`/2 · mean ‖v‖² for D's parameters to `gradients`, and returns mean ‖v‖². `step` is
/// the longest step of a picture: [`STEP`] outside of tests.
pub fn penalise(
    discriminator: &mut Module,
    penalised: &Penalised<'_>,
    weight: f64,
    step: f64,
    gradients: &mut Gradients,
) -> f64 {
    let image = discriminator.network().input;
    let values = image.values();
    let count = penalised.pictures.len() / values;
    let seen = |mut pictures: Vec<f32>| {
        penalised.draws.inspect(|draws| draws.apply(&mut pictures));
        Batch::from_rows(&pictures, image)
    };
    let of_logits = |value: f64| Batch::from_rows(&vec![value as f32; count], Shape::Vector(1));
    let (_, base) = discriminator.record(seen(penalised.pictures.to_vec()), penalised.classes.clone());
    let Some(slopes) = discriminator.backward(&base, of_logits(1.0), None, true) else { return 0.0 };
    let mut slopes = slopes.to_rows();
    penalised.draws.inspect(|draws| draws.backward(&mut slopes));
    let squares: f64 = slopes.iter().map(|value| f64::from(*value).powi(2)).sum();
    if let Some(reach) = reach(&slopes, values, step) {
        for side in [1.0, -1.0] {
            let by = (side * reach) as f32;
            let moved = penalised.pictures.iter().zip(&slopes).map(|(x, v)| x + by * v).collect();
            let (_, record) = discriminator.record_along(seen(moved), &base);
            let gradient = of_logits(side * weight / (2.0 * reach * count as f64));
            discriminator.backward(&record, gradient, Some(&mut *gradients), false);
        }
    }
    squares / count as f64
}

#[cfg(test)]
mod tests {
    use edgegen_runtime::model::ImageShape;
    use edgegen_runtime::random::{Purpose, Stream};

    use super::*;
    use crate::gan::augment::Augmentation;
    use crate::network::{Activation, Layer, Network};

    #[test]
    fn no_picture_moves_further_than_the_step() {
        let reach_of = |slopes: &[f32]| reach(slopes, 2, 0.1);
        assert!((reach_of(&[3.0, 4.0, 0.3, 0.4]).unwrap() - 0.02).abs() < 1e-9);
        assert_eq!(reach_of(&[0.0; 4]), None);
        assert_eq!(reach_of(&[f32::NAN, 0.0, 1.0, 1.0]), None);
        assert_eq!(reach_of(&[f32::INFINITY, 0.0]), None);
    }

    /// R1 against central differences of D, and its gradient against central differences of R1: with a batch norm, whose
    /// statistics tie the pictures together, with classes, and with and without augmentation. `trainer/tests/penalty.rs`
    /// has the networks of their real size.
    #[test]
    fn the_penalty_moves_against_the_slope_of_the_discriminator() {
        const COUNT: usize = 3;
        const WEIGHT: f64 = 2.0;
        let image = ImageShape { channels: 1, height: 6, width: 6 };
        let shape = Shape::of_image(image);
        let tanh = Layer::Activation(Activation::Tanh);
        let layers = vec![
            Layer::Conv { inputs: 1, outputs: 4, kernel: 3, stride: 1, padding: 1 },
            tanh,
            Layer::Conv { inputs: 4, outputs: 6, kernel: 4, stride: 2, padding: 1 },
            Layer::BatchNorm { channels: 6 },
            tanh,
            Layer::Conv { inputs: 6, outputs: 3, kernel: 3, stride: 1, padding: 0 },
            Layer::Reshape(Shape::Vector(3)),
            Layer::ClassProjection { classes: 2 },
        ];
        let discriminator = Module::new(Network::new(shape, layers).unwrap(), "discriminator", 2, 0).unwrap();
        let classes: Arc<[u32]> = Arc::new([0, 1, 1]);
        let mut real = vec![0f32; COUNT * image.values()];
        Stream::new(9, Purpose::Evaluation, 1).fill_normal(&mut real);
        let all = [Augmentation::Color, Augmentation::Translation, Augmentation::Cutout];
        let draws = Draws::new(&all, image, COUNT, &mut Stream::new(9, Purpose::Augment, 0));
        for draws in [None, Some(&draws)] {
            let penalty = |module: &Module, gradients: &mut Gradients| {
                let penalised = Penalised { pictures: &real, classes: Some(classes.clone()), draws };
                penalise(&mut module.clone(), &penalised, WEIGHT, STEP, gradients)
            };
            let mut gradients = Gradients::of(&discriminator);
            let found = penalty(&discriminator, &mut gradients);

            let sum = |x: &[f32]| -> f64 {
                let mut seen = x.to_vec();
                draws.inspect(|draws| draws.apply(&mut seen));
                let (logits, _) =
                    discriminator.clone().record(Batch::from_rows(&seen, shape), Some(classes.clone()));
                logits.to_rows().iter().map(|logit| f64::from(*logit)).sum()
            };
            const MOVE: f32 = 2e-2;
            let mut x = real.clone();
            let mut slope = |at: usize| {
                let mut moved = |by: f32| {
                    x[at] = real[at] + by;
                    sum(&x)
                };
                let slope = (moved(MOVE) - moved(-MOVE)) / f64::from(2.0 * MOVE);
                x[at] = real[at];
                slope
            };
            let squares = (0..real.len()).map(|at| slope(at).powi(2)).sum::<f64>() / COUNT as f64;
            assert!((found - squares).abs() < 1e-2 * squares, "{found} {squares}");

            let mut checked = 0;
            for parameter in 0..discriminator.parameters().len() {
                if !discriminator.parameters()[parameter].trained {
                    continue;
                }
                let length = discriminator.parameters()[parameter].value.len();
                for at in (0..length).step_by(1 + length / 4) {
                    const MOVE: f32 = 1e-2;
                    let moved = |by: f32| {
                        let mut module = discriminator.clone();
                        module.parameters_mut()[parameter].value[at] += by;
                        penalty(&module, &mut Gradients::of(&module))
                    };
                    let expected = 0.5 * WEIGHT * (moved(MOVE) - moved(-MOVE)) / f64::from(2.0 * MOVE);
                    let found = f64::from(gradients.of_parameter(parameter)[at]);
                    assert!(
                        (found - expected).abs() < 2e-3 * squares.max(expected.abs()),
                        "{parameter} {at}: {found} {expected}"
                    );
                    checked += 1;
                }
            }
            assert!(checked > 20);
        }
    }
}
