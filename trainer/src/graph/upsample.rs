//! Nearest-neighbour upsampling by 2 and an odd convolution as one transposed convolution of stride 2.
//!
//! Output pixel y = 2m + r reads, with tap t (from −p to p), input pixel m + ⌊(r + t) / 2⌋. Each
//! pixel's taps that read the same input pixel add up, so the k taps become k + 1 of a transposed
//! convolution with padding p, of which a pixel sees every second one: 16 instead of 36 products for k = 3.

use super::geometry::Geometry;

/// The transposed convolution that upsampling `input` (C, H, W) and a convolution to `outputs`
/// channels with a kernel of side `kernel` are.
pub(crate) fn geometry(input: (usize, usize, usize), outputs: usize, kernel: usize) -> Geometry {
    let (_, height, width) = input;
    Geometry {
        kernel: kernel + 1,
        stride: 2,
        padding: (kernel / 2, kernel / 2),
        groups: 1,
        fine: (outputs, 2 * height, 2 * width),
        coarse: input,
    }
}

/// For each tap of the convolution, the two taps of the transposed one that it is part of.
fn parts(kernel: usize) -> impl Iterator<Item = [usize; 2]> {
    let padding = (kernel / 2) as isize;
    (0..kernel as isize).map(move |tap| {
        [0, 1].map(|phase| (phase + padding - 2 * (phase + tap - padding).div_euclid(2)) as usize)
    })
}

/// (outputs, inputs, k, k) → (inputs, outputs, k + 1, k + 1).
pub(crate) fn expand(weights: &[f32], (outputs, inputs, kernel): (usize, usize, usize)) -> Vec<f32> {
    let wide = kernel + 1;
    let mut expanded = vec![0f32; outputs * inputs * wide * wide];
    for output in 0..outputs {
        for input in 0..inputs {
            let from = &weights[(output * inputs + input) * kernel * kernel..][..kernel * kernel];
            let to = &mut expanded[(input * outputs + output) * wide * wide..][..wide * wide];
            each(kernel, |tap, place| to[place] += from[tap]);
        }
    }
    expanded
}

/// The gradient of [`expand`]: (inputs, outputs, k + 1, k + 1) → (outputs, inputs, k, k).
pub(crate) fn collect(gradient: &[f32], (outputs, inputs, kernel): (usize, usize, usize)) -> Vec<f32> {
    let wide = kernel + 1;
    let mut collected = vec![0f32; outputs * inputs * kernel * kernel];
    for output in 0..outputs {
        for input in 0..inputs {
            let to = &mut collected[(output * inputs + input) * kernel * kernel..][..kernel * kernel];
            let from = &gradient[(input * outputs + output) * wide * wide..][..wide * wide];
            each(kernel, |tap, place| to[tap] += from[place]);
        }
    }
    collected
}

/// Calls `visit(tap, place)` for every tap of the convolution and every place that it adds to.
fn each(kernel: usize, mut visit: impl FnMut(usize, usize)) {
    for (a, rows) in parts(kernel).enumerate() {
        for (b, columns) in parts(kernel).enumerate() {
            for row in rows {
                for column in columns {
                    visit(a * kernel + b, row * (kernel + 1) + column);
                }
            }
        }
    }
}

/// [`expand`] of one kernel as a matrix, (k·k, (k + 1)·(k + 1)) row-major.
pub(crate) fn matrix(kernel: usize) -> Vec<f32> {
    let (taps, places) = (kernel * kernel, (kernel + 1) * (kernel + 1));
    let mut matrix = vec![0f32; taps * places];
    each(kernel, |tap, place| matrix[tap * places + place] += 1.0);
    matrix
}
