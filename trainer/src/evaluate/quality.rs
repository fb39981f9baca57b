//! How far numbers are from those in float32, in decibels; and how alike pictures look.

use edgegen_runtime::model::{ImageShape, Part, Range};
use serde::{Deserialize, Serialize};

/// Reported for what is exactly equal.
pub const EQUAL: f64 = 200.0;
/// Side and deviation of the window of [`ssim`], and its two constants for values in [0, 1] (Z. Wang et al., 2004).
const WINDOW: usize = 11;
const DEVIATION: f64 = 1.5;
const CONSTANTS: (f64, f64) = (0.01, 0.03);

/// What the outputs of a network are, which decides how their errors are told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Measure {
    /// Pictures with values from 0 to this, or from minus half of it to half: peak signal-to-noise ratio.
    Pictures {
        /// Values of one picture.
        values: usize,
        /// 1 for [0, 1], 2 for [−1, 1].
        peak: f64,
    },
    /// Anything else: signal-to-quantisation-noise ratio of all numbers of an output together.
    Numbers,
}

impl Measure {
    /// That of a part.
    pub fn of(part: Part, image: ImageShape, range: Range) -> Self {
        match (part.draws() || part == Part::Transform, range) {
            (true, Range::Unit) => Self::Pictures { values: image.values(), peak: 1.0 },
            (true, Range::Signed) => Self::Pictures { values: image.values(), peak: 2.0 },
            (true, Range::Bytes) => Self::Pictures { values: image.values(), peak: 255.0 },
            (false, _) => Self::Numbers,
        }
    }

    /// One figure for all outputs together: mean PSNR, or the SQNR of the worst output.
    pub fn score(self, exact: &[Vec<f32>], found: &[Vec<f32>]) -> f64 {
        match self {
            Self::Pictures { values, peak } => Ratios::of(&psnr(&exact[0], &found[0], values, peak)).mean,
            Self::Numbers => {
                exact.iter().zip(found).map(|(exact, found)| sqnr(exact, found)).fold(f64::INFINITY, f64::min)
            }
        }
    }
}

/// Mean and worst of some figures, decibels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ratios {
    /// Mean over pictures.
    pub mean: f64,
    /// Of the worst picture.
    pub worst: f64,
}

impl Ratios {
    /// Of at least one figure.
    pub fn of(values: &[f64]) -> Self {
        let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
        Self { mean, worst: values.iter().copied().fold(f64::INFINITY, f64::min) }
    }
}

fn decibels(signal: f64, noise: f64) -> f64 {
    if !signal.is_finite() || !noise.is_finite() {
        return f64::NEG_INFINITY; // what is no number is as far as can be
    }
    if noise <= 0.0 { EQUAL } else { (10.0 * (signal / noise).log10()).min(EQUAL) }
}

/// Each picture's peak signal-to-noise ratio in dB: 10·log₁₀(peak² / mean squared error).
pub fn psnr(exact: &[f32], found: &[f32], values: usize, peak: f64) -> Vec<f64> {
    let pictures = exact.chunks(values).zip(found.chunks(values));
    pictures.map(|(exact, found)| decibels(peak * peak * exact.len() as f64, noise(exact, found))).collect()
}

/// Signal-to-quantisation-noise ratio in dB: 10·log₁₀(Σ exact² / Σ (found − exact)²).
pub fn sqnr(exact: &[f32], found: &[f32]) -> f64 {
    decibels(exact.iter().map(|value| f64::from(*value).powi(2)).sum(), noise(exact, found))
}

fn noise(exact: &[f32], found: &[f32]) -> f64 {
    exact.iter().zip(found).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
}

/// Structural similarity of two pictures (C, H, W), mean over channels (Z. Wang et al., "Image quality assessment:
/// from error visibility to structural similarity", 2004): Gaussian windows of 11×11 with deviation 1.5 that lie
/// inside the picture, smaller ones for pictures that are smaller. Values of [−1, 1] are taken in [0, 1]: means enter as
/// products, and those of dark pictures would be negative.
pub fn ssim(exact: &[f32], found: &[f32], shape: ImageShape, range: Range) -> f64 {
    let unit = |value: f32| match range {
        Range::Unit => f64::from(value),
        Range::Signed => 0.5 * (f64::from(value) + 1.0),
        Range::Bytes => f64::from(value) / 255.0,
    };
    let (height, width) = (shape.height, shape.width);
    let (rows, columns) = (gaussian(height), gaussian(width));
    let blur = |picture: &dyn Fn(usize) -> f64| -> Vec<f64> {
        let across: Vec<f64> = (0..height * (width + 1 - columns.len()))
            .map(|place| {
                let (y, x) = (place / (width + 1 - columns.len()), place % (width + 1 - columns.len()));
                columns.iter().enumerate().map(|(k, weight)| weight * picture(y * width + x + k)).sum()
            })
            .collect();
        let width = width + 1 - columns.len();
        let value = |place: usize| -> f64 {
            rows.iter().enumerate().map(|(k, weight)| weight * across[place + k * width]).sum()
        };
        (0..(height + 1 - rows.len()) * width).map(value).collect()
    };
    let (c1, c2) = (CONSTANTS.0.powi(2), CONSTANTS.1.powi(2));
    let mut total = 0.0;
    for (a, b) in exact.chunks(height * width).zip(found.chunks(height * width)) {
        let (at, bt) = (|i: usize| unit(a[i]), |i: usize| unit(b[i]));
        let (mean_a, mean_b) = (blur(&at), blur(&bt));
        let (aa, bb, ab) = (blur(&|i| at(i) * at(i)), blur(&|i| bt(i) * bt(i)), blur(&|i| at(i) * bt(i)));
        let sum: f64 = (0..mean_a.len())
            .map(|i| {
                let (ma, mb) = (mean_a[i], mean_b[i]);
                let (va, vb, cov) = (aa[i] - ma * ma, bb[i] - mb * mb, ab[i] - ma * mb);
                (2.0 * ma * mb + c1) * (2.0 * cov + c2) / ((ma * ma + mb * mb + c1) * (va + vb + c2))
            })
            .sum();
        total += sum / mean_a.len() as f64;
    }
    total / shape.channels as f64
}

/// The window's weights along an axis of that length.
fn gaussian(length: usize) -> Vec<f64> {
    let size = WINDOW.min(length - (1 - length % 2)).max(1);
    let middle = (size - 1) as f64 / 2.0;
    let weight = |place: usize| (-((place as f64 - middle) / DEVIATION).powi(2) / 2.0).exp();
    let sum: f64 = (0..size).map(weight).sum();
    (0..size).map(|place| weight(place) / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_those_of_their_definitions() {
        let exact = [0.0, 0.5, 1.0, 0.25];
        let found = [0.1, 0.5, 1.0, 0.25];
        let ratios = psnr(&exact, &found, 2, 1.0);
        assert!((ratios[0] - 10.0 * (1.0f64 / 0.005).log10()).abs() < 1e-5 && ratios[1] == EQUAL);
        assert!((psnr(&exact, &found, 4, 2.0)[0] - 10.0 * (4.0f64 / 0.0025).log10()).abs() < 1e-5);
        assert_eq!(psnr(&exact, &[f32::NAN, 0.0, 0.0, 0.0], 4, 1.0), [f64::NEG_INFINITY]);
        assert!((sqnr(&exact, &found) - 10.0 * (1.3125f64 / 0.01).log10()).abs() < 1e-5);
    }

    #[test]
    fn similarity_is_one_for_equal_pictures_and_falls_with_noise_and_structure() {
        let shape = ImageShape { channels: 3, height: 16, width: 20 };
        let picture: Vec<f32> = (0..shape.values()).map(|i| ((i * 37) % 101) as f32 / 100.0).collect();
        assert!((ssim(&picture, &picture, shape, Range::Unit) - 1.0).abs() < 1e-12);
        let noisy: Vec<f32> =
            picture.iter().enumerate().map(|(i, v)| v + ((i % 3) as f32 - 1.0) * 0.05).collect();
        let inverted: Vec<f32> = picture.iter().map(|v| 1.0 - v).collect();
        let (noisy, inverted) =
            (ssim(&picture, &noisy, shape, Range::Unit), ssim(&picture, &inverted, shape, Range::Unit));
        assert!(noisy > 0.9 && noisy < 0.999 && inverted < 0.0, "{noisy} {inverted}");
        let flat = ImageShape { channels: 1, height: 2, width: 2 };
        assert!(ssim(&[0.0, 0.1, 0.2, 0.3], &[0.0, 0.1, 0.2, 0.3], flat, Range::Unit) > 0.999);
    }

    /// The figures are scipy's:
    ///
    ///     g = np.exp(-0.5 * ((np.arange(11) - 5) / 1.5) ** 2); w = np.outer(g, g) / g.sum() ** 2
    ///     blur = lambda p: scipy.signal.convolve2d(p, w, mode="valid")
    ///     def ssim(a, b):
    ///         ma, mb = blur(a), blur(b)
    ///         va, vb, c = blur(a * a) - ma * ma, blur(b * b) - mb * mb, blur(a * b) - ma * mb
    ///         return ((2*ma*mb + 1e-4) * (2*c + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))).mean()
    ///     y, x = np.mgrid[0:16, 0:20]
    ///     a, b = (7*x + 13*y) % 32 / 31, (7*x + 13*y + 3 * (x % 3)) % 32 / 31
    ///     ssim(a, b), ssim(a, 0.75*a + 0.25*b), ssim(np.full((16, 20), 0.51), np.full((16, 20), 0.49))
    #[test]
    fn similarity_is_the_same_in_both_ranges() {
        let shape = ImageShape { channels: 1, height: 16, width: 20 };
        let level = |i: usize, extra: usize| {
            let (x, y) = (i % 20, i / 20);
            ((7 * x + 13 * y + extra * (x % 3)) % 32) as f32 / 31.0
        };
        let a: Vec<f32> = (0..320).map(|i| level(i, 0)).collect();
        let b: Vec<f32> = (0..320).map(|i| level(i, 3)).collect();
        let mixed: Vec<f32> = a.iter().zip(&b).map(|(a, b)| 0.75 * a + 0.25 * b).collect();
        for (a, b, expected) in [
            (&a, &b, 0.5294850793249505),
            (&a, &mixed, 0.9673759687826234),
            // means of 0.02 and −0.02 in [−1, 1]
            (&vec![0.51; 320], &vec![0.49; 320], 0.9992004797120801),
        ] {
            let signed = |values: &[f32]| values.iter().map(|v| 2.0 * v - 1.0).collect::<Vec<f32>>();
            let found = [ssim(a, b, shape, Range::Unit), ssim(&signed(a), &signed(b), shape, Range::Signed)];
            assert!(found.iter().all(|found| (found - expected).abs() < 1e-5), "{found:?} {expected}");
        }
    }
}
