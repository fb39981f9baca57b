//! Differentiable augmentation (S. Zhao et al., 2020): real and drawn pictures alike are changed at random before
//! D sees them, and G's gradient flows back through the change. So D cannot learn a small set by heart, and G is
//! not taught the changes.
//!
//! Every change is affine in the picture, x → A·x + b, so the way back is A's transpose.

use edgegen_runtime::model::ImageShape;
use edgegen_runtime::random::Stream;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

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

/// What happens to one picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Change {
    Color {
        brightness: f32,
        saturation: f32,
        contrast: f32,
    },
    /// Rows and columns that a pixel moves down and right.
    Shift([isize; 2]),
    /// First and last row and column (exclusive) that become 0.
    Cut([usize; 4]),
}

/// The changes of a batch of pictures.
#[derive(Clone, Debug)]
pub struct Draws {
    shape: ImageShape,
    /// Of each picture, in order.
    changes: Vec<Vec<Change>>,
}

impl Draws {
    /// Draws changes for `count` pictures of `shape` from `stream`.
    pub fn new(kinds: &[Augmentation], shape: ImageShape, count: usize, stream: &mut Stream) -> Self {
        let changes = (0..count).map(|_| kinds.iter().map(|kind| draw(*kind, shape, stream)).collect());
        Self { shape, changes: changes.collect() }
    }

    /// Of each picture, in order.
    pub(crate) fn changes(&self) -> &[Vec<Change>] {
        &self.changes
    }

    /// Changes pictures (N, C, H, W).
    pub fn apply(&self, pictures: &mut [f32]) {
        let rows = pictures.par_chunks_mut(self.shape.values()).zip(&self.changes);
        rows.for_each(|(picture, changes)| {
            changes.iter().for_each(|change| change.apply(self.shape, picture));
        });
    }

    /// The gradient of the changed pictures becomes that of the pictures, both (N, C, H, W).
    pub fn backward(&self, gradient: &mut [f32]) {
        let rows = gradient.par_chunks_mut(self.shape.values()).zip(&self.changes);
        rows.for_each(|(gradient, changes)| {
            changes.iter().rev().for_each(|change| change.transpose(self.shape, gradient));
        });
    }
}

fn draw(kind: Augmentation, shape: ImageShape, stream: &mut Stream) -> Change {
    let ImageShape { height, width, .. } = shape;
    match kind {
        Augmentation::Color => {
            let mut uniform = || stream.uniform();
            Change::Color {
                brightness: uniform() - 0.5,
                saturation: 2.0 * uniform(),
                contrast: 0.5 + uniform(),
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

fn mean(values: &[f32]) -> f32 {
    (values.iter().map(|value| f64::from(*value)).sum::<f64>() / values.len().max(1) as f64) as f32
}

/// values ← factor · values + (1 − factor) · mean: its own transpose.
fn spread_about_mean(values: &mut [f32], factor: f32) {
    let rest = (1.0 - factor) * mean(values);
    values.iter_mut().for_each(|value| *value = factor * *value + rest);
}

/// The same about the mean of each pixel's channels.
fn saturate(shape: ImageShape, values: &mut [f32], factor: f32) {
    let plane = shape.height * shape.width;
    for pixel in 0..plane {
        let channels = (pixel..values.len()).step_by(plane);
        let rest =
            (1.0 - factor) * channels.clone().map(|at| values[at]).sum::<f32>() / shape.channels as f32;
        channels.for_each(|at| values[at] = factor * values[at] + rest);
    }
}

/// Moves every plane by (down, right); what comes in is 0.
fn shift(shape: ImageShape, values: &mut [f32], [down, right]: [isize; 2]) {
    let ImageShape { height, width, .. } = shape;
    for plane in values.chunks_mut(height * width) {
        let before = plane.to_vec();
        plane.fill(0.0);
        let (first, last) = (right.max(0) as usize, (width as isize + right.min(0)) as usize);
        for row in 0..height {
            let from = row as isize - down;
            if (0..height as isize).contains(&from) && first < last {
                let from = from as usize * width + (first as isize - right) as usize;
                plane[row * width + first..row * width + last]
                    .copy_from_slice(&before[from..][..last - first]);
            }
        }
    }
}

pub(crate) fn cut(shape: ImageShape, values: &mut [f32], [top, bottom, left, right]: [usize; 4]) {
    for plane in values.chunks_mut(shape.height * shape.width) {
        plane.chunks_mut(shape.width).take(bottom).skip(top).for_each(|row| row[left..right].fill(0.0));
    }
}

impl Change {
    fn apply(self, shape: ImageShape, picture: &mut [f32]) {
        match self {
            Self::Color { brightness, saturation, contrast } => {
                picture.iter_mut().for_each(|value| *value += brightness);
                saturate(shape, picture, saturation);
                spread_about_mean(picture, contrast);
            }
            Self::Shift(by) => shift(shape, picture, by),
            Self::Cut(bounds) => cut(shape, picture, bounds),
        }
    }

    fn transpose(self, shape: ImageShape, gradient: &mut [f32]) {
        match self {
            Self::Color { saturation, contrast, .. } => {
                spread_about_mean(gradient, contrast);
                saturate(shape, gradient, saturation);
            }
            Self::Shift([down, right]) => shift(shape, gradient, [-down, -right]),
            Self::Cut(bounds) => cut(shape, gradient, bounds),
        }
    }
}

#[cfg(test)]
mod tests {
    use edgegen_runtime::random::Purpose;

    use super::*;

    const ALL: [Augmentation; 3] = [Augmentation::Color, Augmentation::Translation, Augmentation::Cutout];

    fn noise(count: usize, index: u64) -> Vec<f32> {
        let mut values = vec![0f32; count];
        Stream::new(3, Purpose::Evaluation, index).fill_normal(&mut values);
        values
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
            let mut changed = x.clone();
            draws.apply(&mut changed);
            let mut of_nothing = vec![0f32; x.len()];
            draws.apply(&mut of_nothing);
            let linear: Vec<f32> = changed.iter().zip(&of_nothing).map(|(a, b)| a - b).collect();
            let mut back = y.clone();
            draws.backward(&mut back);
            let (there, here) = (dot(&linear, &y), dot(&x, &back));
            assert!((there - here).abs() < 1e-3 * there.abs().max(1.0), "{shape}: {there} {here}");
        }
    }

    #[test]
    fn pictures_are_shifted_and_cut_within_bounds() {
        let shape = ImageShape { channels: 1, height: 8, width: 8 };
        let mut stream = Stream::new(2, Purpose::Evaluation, 0);
        let mut seen = std::collections::HashSet::new();
        for _ in 0..200 {
            let Change::Shift(by) = draw(Augmentation::Translation, shape, &mut stream) else {
                unreachable!()
            };
            assert!(by.iter().all(|by| by.abs() <= 1));
            seen.insert(by);
            let mut picture = vec![1f32; 64];
            Change::Shift(by).apply(shape, &mut picture);
            let kept = (8 - by[0].unsigned_abs()) * (8 - by[1].unsigned_abs());
            assert_eq!(picture.iter().sum::<f32>(), kept as f32);
            let mut picture = vec![1f32; 64];
            draw(Augmentation::Cutout, shape, &mut stream).apply(shape, &mut picture);
            assert!((48.0..64.0).contains(&picture.iter().sum::<f32>()));
        }
        assert_eq!(seen.len(), 9, "every shift comes up");
    }

    #[test]
    fn grey_pictures_have_no_saturation_to_lose() {
        let shape = ImageShape { channels: 1, height: 4, width: 4 };
        let before = noise(16, 1);
        let mut after = before.clone();
        saturate(shape, &mut after, 0.3);
        assert!(before.iter().zip(&after).all(|(a, b)| (a - b).abs() < 1e-6));
    }
}
