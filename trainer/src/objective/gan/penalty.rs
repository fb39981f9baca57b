//! R1 (L. Mescheder et al., 2018): γ/2 · mean ‖v‖² with v = ∇ₓ Σ D(x) on real pictures, by ordinary gradients alone.
//!
//! Its gradient for D's parameters is γ times the mean over pictures of d/dε ∇D(x + ε·v) at ε = 0: here a central
//! difference of two backward passes, at x ± h·v. In both, every leaky ReLU keeps the side of its kink on which it is
//! at x ([`Network::train_along`]): a second derivative knows nothing of kinks, while a difference counts each kink that
//! the step crosses, times 1/h. One h serves the whole batch, because a batch norm ties its pictures together, and no
//! picture moves by more than [`STEP`].
//!
//! x are the pictures before augmentation, and D sees them after it, as in T. Karras et al., 2020 ("Training
//! generative adversarial networks with limited data"): neither v nor the step depends on how far an augmentation
//! stretches a picture.

use super::augment::Draws;
use crate::Result;
use crate::compute::network::Instead;
use crate::compute::{Backend, Gradients, Network};

/// Longest step of a picture to each side: its L2 length over all values in [−1, 1]. Shorter ones lose digits of f32,
/// longer ones bend with batch norm: docs/decisions.md has the measurements.
pub const STEP: f64 = 0.1;

/// What R1 looks at.
pub struct Penalised<'a, B: Backend> {
    /// Real pictures before augmentation, (N, C, H, W) in [−1, 1].
    pub pictures: B::Tensor,
    /// Their classes (N), where D takes them.
    pub classes: Option<&'a [u32]>,
    /// The augmentation through which D sees them.
    pub draws: Option<&'a Draws>,
}

/// How far a step may go so that the picture with the steepest D moves by `step`: h for squared lengths of D's slopes,
/// (N). `None` if D is flat there, or a slope is not finite.
fn reach(squares: &[f64], step: f64) -> Option<f64> {
    // f64::max drops NaN
    let longest = squares
        .iter()
        .fold(0.0, |longest: f64, square| if square.is_nan() { f64::INFINITY } else { longest.max(*square) });
    let reach = step / longest.sqrt();
    (reach.is_finite() && reach > 0.0).then_some(reach)
}

/// Adds the gradients of `weight`/2 · mean ‖v‖² for D's parameters to `gradients`, and returns mean ‖v‖². `step` is
/// the longest step of a picture: [`STEP`] outside of tests. `instead` are weights that stand for D's own.
///
/// # Errors
/// The device's.
pub fn penalise<B: Backend>(
    discriminator: &mut Network<B>,
    penalised: &Penalised<'_, B>,
    weight: f64,
    step: f64,
    gradients: &mut Gradients<B>,
    instead: &[Instead<B>],
) -> Result<f64> {
    let backend = discriminator.backend().clone();
    let (output, count) = (discriminator.graph.output(), backend.count(&penalised.pictures));
    let seen = |pictures: B::Tensor| match penalised.draws {
        Some(draws) => draws.apply(&backend, pictures),
        None => Ok(pictures),
    };
    let shape = discriminator.output_shape();
    let of_logits = |value: f64| backend.tensor(&vec![value as f32; count], shape);
    let (_, base) =
        discriminator.train(seen(penalised.pictures.clone())?, penalised.classes, output, instead)?;
    let found = discriminator.backward(&base, vec![(output, of_logits(1.0)?)], None, true, instead)?;
    let Some(mut slopes) = found else { return Ok(0.0) };
    if let Some(draws) = penalised.draws {
        slopes = draws.backward(&backend, slopes)?;
    }
    let squares = backend.squares(&slopes)?;
    if let Some(reach) = reach(&squares, step) {
        for side in [1.0, -1.0] {
            let moved = backend.add(penalised.pictures.clone(), (side * reach) as f32, &slopes)?;
            let (_, pass) = discriminator.train_along(seen(moved)?, &base, output, instead)?;
            let gradient = of_logits(side * weight / (2.0 * reach * count as f64))?;
            discriminator.backward(&pass, vec![(output, gradient)], Some(&mut *gradients), false, instead)?;
        }
    }
    Ok(squares.iter().sum::<f64>() / count as f64)
}

#[cfg(test)]
mod tests {
    use crate::random::{Purpose, Stream};
    use edgegen_runtime::model::ImageShape;

    use super::*;
    use crate::compute::Lanes;
    use crate::graph::{Activation, Graph, Op, Shape};
    use crate::objective::gan::augment::Augmentation;

    #[test]
    fn no_picture_moves_further_than_the_step() {
        let reach_of = |squares: &[f64]| reach(squares, 0.1);
        assert!((reach_of(&[25.0, 0.25]).unwrap() - 0.02).abs() < 1e-9);
        assert_eq!(reach_of(&[0.0; 4]), None);
        assert_eq!(reach_of(&[f64::NAN, 1.0]), None);
        assert_eq!(reach_of(&[f64::INFINITY, 0.0]), None);
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
        let tanh = || Op::Activation(Activation::Tanh);
        let layers = vec![
            Op::conv(1, 4, 3, 1, 1),
            tanh(),
            Op::conv(4, 6, 4, 2, 1),
            Op::batch_norm(6),
            tanh(),
            Op::conv(6, 3, 3, 1, 0),
            Op::Reshape(Shape::Vector(3)),
            Op::ClassProjection { classes: 2 },
        ];
        let graph = Graph::chain("discriminator", shape, layers).unwrap().initialise(2, 0);
        let discriminator = Network::new(&Lanes, &graph).unwrap();
        let classes = [0, 1, 1];
        let mut real = vec![0f32; COUNT * image.values()];
        Stream::new(9, Purpose::Evaluation, 1).fill_normal(&mut real);
        let all = [Augmentation::Color, Augmentation::Translation, Augmentation::Cutout];
        let draws = Draws::new(&all, image, COUNT, &mut Stream::new(9, Purpose::Augment, 0));
        for draws in [None, Some(&draws)] {
            let penalty = |network: &Network, gradients: &mut Gradients<Lanes>| {
                let pictures = Lanes.tensor(&real, shape).unwrap();
                let penalised = Penalised { pictures, classes: Some(&classes), draws };
                penalise(&mut network.clone(), &penalised, WEIGHT, STEP, gradients, &[]).unwrap()
            };
            let mut gradients = Gradients::of(&Lanes, &discriminator.graph).unwrap();
            let found = penalty(&discriminator, &mut gradients);

            let sum = |x: &[f32]| -> f64 {
                let mut seen = Lanes.tensor(x, shape).unwrap();
                if let Some(draws) = draws {
                    seen = draws.apply(&Lanes, seen).unwrap();
                }
                let output = discriminator.graph.output();
                let (logits, _) = discriminator.clone().train(seen, Some(&classes), output, &[]).unwrap();
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
            let lengths: Vec<(bool, usize)> =
                discriminator.graph.parameters().map(|own| (own.trained, own.count())).collect();
            for (parameter, (trained, length)) in lengths.into_iter().enumerate() {
                if !trained {
                    continue;
                }
                for at in (0..length).step_by(1 + length / 4) {
                    const MOVE: f32 = 1e-2;
                    let moved = |by: f32| {
                        let mut network = discriminator.clone();
                        network.graph.parameters_mut().nth(parameter).unwrap().value[at] += by;
                        penalty(&network, &mut Gradients::of(&Lanes, &network.graph).unwrap())
                    };
                    let expected = 0.5 * WEIGHT * (moved(MOVE) - moved(-MOVE)) / f64::from(2.0 * MOVE);
                    let found = f64::from(gradients.of_parameter(parameter).unwrap()[at]);
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
