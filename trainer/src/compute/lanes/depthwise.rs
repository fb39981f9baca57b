//! Convolutions whose groups have one input channel each: every output channel reads one plane. As [`super::correlate`],
//! each position sums over the taps that reach it, and zeros around a picture exist nowhere.

use rayon::prelude::*;

use super::batch::LANES;
use super::correlate::{Bias, classes};
use super::elements;
use crate::graph::geometry::{Geometry, Role};

/// Whether a convolution is one of these.
pub(super) fn fits(g: &Geometry) -> bool {
    g.groups > 1 && g.groups == g.fine.0
}

fn plane((_, height, width): (usize, usize, usize)) -> usize {
    height * width * LANES
}

/// As [`super::correlate::apply`].
pub(super) fn apply(
    g: &Geometry,
    role: Role,
    (input, weights, bias): (&[f32], &[f32], Bias<'_>),
    output: &mut [f32],
) {
    let (from, to) = (plane(g.input(role)), plane(g.output(role)));
    let (inputs, outputs) = (g.input(role).0, g.output(role).0);
    let multiplier = g.coarse.0 / g.fine.0;
    let classes = classes(g, role);
    output.par_chunks_mut(to).enumerate().for_each(|(index, output)| {
        let (group, channel) = (index / outputs, index % outputs);
        let bias = bias.map_or(0.0, |bias| bias[channel]);
        // (input channel, coarse channel) that make this plane
        let pairs = match role {
            Role::Coarse => channel / multiplier..channel / multiplier + 1,
            Role::Fine => channel * multiplier..(channel + 1) * multiplier,
        };
        for (number, source) in pairs.enumerate() {
            let coarse = if role == Role::Coarse { channel } else { source };
            let input = &input[(group * inputs + source) * from..][..from];
            let weights = &weights[coarse * g.area()..][..g.area()];
            for class in &classes {
                let taps: Vec<(isize, f32)> =
                    class.taps.iter().map(|tap| (tap.input, weights[tap.weight])).collect();
                elements::depthwise(input, &taps, &class.places, (number == 0).then_some(bias), output);
            }
        }
    });
}

/// As [`super::correlate::weight_gradient`], added to what is there.
pub(super) fn weight_gradient(g: &Geometry, fine: &[f32], coarse: &[f32], gradient: &mut [f32]) {
    let (fine_plane, coarse_plane) = (plane(g.fine), plane(g.coarse));
    let ((_, fine_height, fine_width), (_, height, width)) = (g.fine, g.coarse);
    let multiplier = g.coarse.0 / g.fine.0;
    let groups = coarse.len() / (coarse_plane * g.coarse.0);
    // along one axis: the coarse positions that a tap reaches, and the fine position of the first
    let reached = |tap: usize, padding: usize, side: usize, fine_side: usize| {
        let first = padding.saturating_sub(tap).div_ceil(g.stride);
        let end = (fine_side + padding).saturating_sub(tap).div_ceil(g.stride).min(side);
        (first..end.max(first), (first * g.stride + tap).saturating_sub(padding))
    };
    gradient.par_chunks_mut(g.area()).enumerate().for_each(|(channel, gradient)| {
        for a in 0..g.kernel {
            let (rows, first_row) = reached(a, g.padding.0, height, fine_height);
            for b in 0..g.kernel {
                let (columns, first_column) = reached(b, g.padding.1, width, fine_width);
                let mut sums = [[0f32; LANES]; 4];
                for group in 0..groups {
                    let coarse = &coarse[(group * g.coarse.0 + channel) * coarse_plane..][..coarse_plane];
                    let fine = &fine[(group * g.fine.0 + channel / multiplier) * fine_plane..][..fine_plane];
                    for (number, row) in rows.clone().enumerate().filter(|_| !columns.is_empty()) {
                        let left = (row * width + columns.start) * LANES;
                        let right = ((first_row + number * g.stride) * fine_width + first_column) * LANES;
                        elements::strided_products(
                            &coarse[left..left + columns.len() * LANES],
                            &fine[right..],
                            g.stride,
                            &mut sums,
                        );
                    }
                }
                gradient[a * g.kernel + b] += sums.iter().flatten().sum::<f32>();
            }
        }
    });
}
