//! Differentiable augmentation (S. Zhao et al., 2020): real and generated pictures alike are changed at random before
//! D sees them, and G's gradient flows back through the change. So D cannot learn a small set by heart, and G is
//! not taught the changes.
//!
//! Every change is affine in the picture, x → A·x + b, so the way back is A's transpose.

use crate::random::Stream;
use edgegen_runtime::model::ImageShape;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::compute::{Backend, Change};

/// Largest shift, as a part of the side.
const SHIFT: f32 = 0.125;
/// Side of what is cut out, as a part of the picture's.
const CUTOUT: f32 = 0.5;

/// A family of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Augmentation {
    /// Brightness ± ½ (of a range of 2), saturation × 0…2, contrast × ½…1½.
    Color,
    /// A shift by at most ⅛ of the sides; what comes in is 0, the middle grey.
    Translation,
    /// A square of half the side becomes 0, the middle grey.
    Cutout,
}

/// The changes of a batch of pictures.
#[derive(Clone, Debug)]
pub struct Draws {
    /// One kind after the other, each with a change for each picture.
    changes: Vec<Vec<Change>>,
}

impl Draws {
    /// Draws changes for `count` pictures of `shape` from `stream`.
    pub fn new(kinds: &[Augmentation], shape: ImageShape, count: usize, stream: &mut Stream) -> Self {
        let mut changes = vec![Vec::with_capacity(count); kinds.len()];
        for _ in 0..count {
            for (kind, changes) in kinds.iter().zip(&mut changes) {
                changes.push(draw(*kind, shape, stream));
            }
        }
        Self { changes }
    }

    /// Changes pictures (N, C, H, W).
    ///
    /// # Errors
    /// The device's.
    pub fn apply<B: Backend>(&self, backend: &B, pictures: B::Tensor) -> Result<B::Tensor> {
        self.changes.iter().try_fold(pictures, |pictures, changes| backend.change(pictures, changes))
    }

    /// The gradient of the changed pictures becomes that of the pictures, both (N, C, H, W).
    ///
    /// # Errors
    /// The device's.
    pub fn backward<B: Backend>(&self, backend: &B, gradient: B::Tensor) -> Result<B::Tensor> {
        self.changes.iter().rev().try_fold(gradient, |gradient, changes| {
            let back: Vec<Change> = changes.iter().map(|change| change.transposed()).collect();
            backend.change(gradient, &back)
        })
    }
}

fn draw(kind: Augmentation, shape: ImageShape, stream: &mut Stream) -> Change {
    let ImageShape { height, width, .. } = shape;
    match kind {
        Augmentation::Color => {
            let mut uniform = || stream.uniform();
            let (brightness, saturation, contrast) = (uniform() - 0.5, 2.0 * uniform(), 0.5 + uniform());
            // brightness, then saturation about each pixel's mean, then contrast about the picture's
            Change::Color {
                own: contrast * saturation,
                pixel: contrast * (1.0 - saturation),
                picture: 1.0 - contrast,
                summand: brightness,
            }
        }
        Augmentation::Translation => Change::Shift([height, width].map(|side| {
            let most = (side as f32 * SHIFT).round() as u32;
            stream.below(2 * most + 1) as isize - most as isize
        })),
        Augmentation::Cutout => {
            let mut bounds = [0; 4];
            for (bounds, side) in bounds.chunks_mut(2).zip([height, width]) {
                let cut = (side as f32 * CUTOUT).round() as usize;
                // its middle lies anywhere in the picture, its rest may hang over
                let middle = stream.below(side as u32) as usize;
                bounds[0] = middle.saturating_sub(cut / 2);
                bounds[1] = (middle + cut.div_ceil(2)).min(side);
            }
            Change::Cut(bounds)
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::random::Purpose;

    use super::*;
    use crate::compute::Lanes;
    use crate::graph::Shape;

    const ALL: [Augmentation; 3] = [Augmentation::Color, Augmentation::Translation, Augmentation::Cutout];

    fn noise(count: usize, index: u64) -> Vec<f32> {
        let mut values = vec![0f32; count];
        Stream::new(3, Purpose::Evaluation, index).fill_normal(&mut values);
        values
    }

    fn rows(
        shape: ImageShape,
        values: &[f32],
        change: impl Fn(<Lanes as Backend>::Tensor) -> <Lanes as Backend>::Tensor,
    ) -> Vec<f32> {
        change(Lanes.tensor(values, Shape::of_image(shape)).unwrap()).to_rows()
    }

    #[test]
    fn the_way_back_is_the_transpose() {
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        for (channels, height, width) in [(3, 16, 16), (1, 12, 9)] {
            let shape = ImageShape { channels, height, width };
            let count = 6;
            let draws = Draws::new(&ALL, shape, count, &mut Stream::new(1, Purpose::Evaluation, 0));
            let (x, y) = (noise(count * shape.values(), 1), noise(count * shape.values(), 2));
            let changed = |values: &[f32]| rows(shape, values, |x| draws.apply(&Lanes, x).unwrap());
            let of_nothing = changed(&vec![0f32; x.len()]);
            let linear: Vec<f32> = changed(&x).iter().zip(&of_nothing).map(|(a, b)| a - b).collect();
            let back = rows(shape, &y, |y| draws.backward(&Lanes, y).unwrap());
            let (there, here) = (dot(&linear, &y), dot(&x, &back));
            assert!((there - here).abs() < 1e-3 * there.abs().max(1.0), "{shape}: {there} {here}");
        }
    }

    /// Brightness, saturation and contrast one after the other.
    #[test]
    fn colours_change_as_the_paper_has_it() {
        let shape = ImageShape { channels: 3, height: 2, width: 2 };
        let (brightness, saturation, contrast) = (0.2f32, 0.3f32, 1.4f32);
        let x = noise(12, 1);
        let mut expected: Vec<f32> = x.iter().map(|x| x + brightness).collect();
        for pixel in 0..4 {
            let mean = (0..3).map(|channel| expected[channel * 4 + pixel]).sum::<f32>() / 3.0;
            (0..3).for_each(|channel| {
                let value = &mut expected[channel * 4 + pixel];
                *value = (*value - mean) * saturation + mean;
            });
        }
        let mean = expected.iter().sum::<f32>() / 12.0;
        expected.iter_mut().for_each(|value| *value = (*value - mean) * contrast + mean);
        let change = Change::Color {
            own: contrast * saturation,
            pixel: contrast * (1.0 - saturation),
            picture: 1.0 - contrast,
            summand: brightness,
        };
        let found = rows(shape, &x, |x| Lanes.change(x, &[change]).unwrap());
        assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?} {expected:?}");
    }

    #[test]
    fn pictures_are_shifted_and_cut_within_bounds() {
        let shape = ImageShape { channels: 1, height: 8, width: 8 };
        let mut stream = Stream::new(2, Purpose::Evaluation, 0);
        let sum =
            |change| rows(shape, &[1f32; 64], |x| Lanes.change(x, &[change]).unwrap()).iter().sum::<f32>();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..200 {
            let Change::Shift(by) = draw(Augmentation::Translation, shape, &mut stream) else {
                unreachable!()
            };
            assert!(by.iter().all(|by| by.abs() <= 1));
            seen.insert(by);
            let kept = (8 - by[0].unsigned_abs()) * (8 - by[1].unsigned_abs());
            assert_eq!(sum(Change::Shift(by)), kept as f32);
            let cut = sum(draw(Augmentation::Cutout, shape, &mut stream));
            assert!((48.0..64.0).contains(&cut));
        }
        assert_eq!(seen.len(), 9, "every shift comes up");
    }
}
