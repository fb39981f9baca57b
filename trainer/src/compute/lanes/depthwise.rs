//! Convolutions whose groups have one input channel each: every output channel reads one plane. As [`super::correlate`],
//! each position sums over the taps that reach it, and zeros around a picture exist nowhere.
#![allow(unsafe_code)]

use rayon::prelude::*;

use super::batch::LANES;
use super::correlate::{Bias, Class, classes};
use super::kernels::{Kernels, MOST_TAPS};
use crate::graph::geometry::{Geometry, Role};

/// Whether a convolution is one of these.
pub(super) fn fits(g: &Geometry) -> bool {
    g.groups > 1 && g.groups == g.fine.0
}

fn plane((_, height, width): (usize, usize, usize)) -> usize {
    height * width * LANES
}

/// Positions in a row that the same taps reach.
struct Run {
    /// Where the first reads, and the step to the next.
    from: (isize, isize),
    /// Where it writes, and the step.
    to: (usize, isize),
    count: usize,
}

fn runs(class: &Class) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (from, to) in &class.places {
        if let Some(run) = runs.last_mut() {
            let steps = (from - run.from.0, *to as isize - run.to.0 as isize);
            if run.count == 1 && steps.1 < 64 * LANES as isize {
                (run.from.1, run.to.1) = steps;
            }
            let next = run.count as isize;
            if steps == (run.from.1 * next, run.to.1 * next) {
                run.count += 1;
                continue;
            }
        }
        runs.push(Run { from: (*from, 0), to: (*to, 0), count: 1 });
    }
    runs
}

/// As [`super::correlate::apply`].
///
/// # Panics
/// If lengths do not fit the geometry: a bug of the caller.
pub(super) fn apply(
    g: &Geometry,
    role: Role,
    (input, weights, bias): (&[f32], &[f32], Bias<'_>),
    output: &mut [f32],
) {
    let (from, to) = (plane(g.input(role)), plane(g.output(role)));
    let (inputs, outputs) = (g.input(role).0, g.output(role).0);
    let multiplier = g.coarse.0 / g.fine.0;
    let classes: Vec<(Class, Vec<Run>)> = classes(g, role)
        .into_iter()
        .map(|class| (runs(&class), class))
        .map(|(runs, class)| (class, runs))
        .collect();
    let kernels = Kernels::detect();
    assert!(input.len() / (from * inputs) == output.len() / (to * outputs), "batch of {g:?}");
    output.par_chunks_mut(to).enumerate().for_each(|(index, output)| {
        let (group, channel) = (index / outputs, index % outputs);
        let bias = bias.map_or(0.0, |bias| bias[channel]);
        // (input channel, coarse channel) that make this plane
        let pairs = match role {
            Role::Coarse => channel / multiplier..channel / multiplier + 1,
            Role::Fine => channel * multiplier..(channel + 1) * multiplier,
        };
        let mut taps = Vec::with_capacity(g.area());
        for (number, source) in pairs.enumerate() {
            let coarse = if role == Role::Coarse { channel } else { source };
            let input = &input[(group * inputs + source) * from..][..from];
            let weights = &weights[coarse * g.area()..][..g.area()];
            let bias = (number == 0).then_some(bias);
            for (class, runs) in &classes {
                taps.clear();
                taps.extend(class.taps.iter().map(|tap| (tap.input, weights[tap.weight])));
                for run in runs {
                    // SAFETY: every tap reads inside the plane that its places belong to, see `correlate::reach`, and
                    // this task alone writes this plane
                    unsafe {
                        let from = (input.as_ptr().wrapping_offset(run.from.0), run.from.1);
                        let to = (output.as_mut_ptr().wrapping_add(run.to.0), run.to.1);
                        kernels.run(&taps, from, to, run.count, bias);
                    }
                }
            }
        }
    });
}

/// As [`super::correlate::weight_gradient`], added to what is there.
///
/// # Panics
/// If lengths do not fit the geometry: a bug of the caller.
pub(super) fn weight_gradient(g: &Geometry, fine: &[f32], coarse: &[f32], gradient: &mut [f32]) {
    let (fine_plane, coarse_plane) = (plane(g.fine), plane(g.coarse));
    let ((_, fine_height, fine_width), (_, height, width)) = (g.fine, g.coarse);
    let multiplier = g.coarse.0 / g.fine.0;
    let groups = coarse.len() / (coarse_plane * g.coarse.0);
    assert_eq!(fine.len(), groups * fine_plane * g.fine.0, "batch of {g:?}");
    // along one axis: the coarse positions whose window has the tap inside
    let reached = |tap: usize, padding: usize, side: usize, fine_side: usize| {
        let first = padding.saturating_sub(tap).div_ceil(g.stride);
        first..(fine_side + padding).saturating_sub(tap).div_ceil(g.stride).min(side).max(first)
    };
    // (first tap, taps, columns): taps together where they lie inside together, alone at the edges
    let mut parts = Vec::new();
    for first in (0..g.kernel).step_by(MOST_TAPS) {
        let taps = first..(first + MOST_TAPS).min(g.kernel);
        let all = taps
            .clone()
            .map(|tap| reached(tap, g.padding.1, width, fine_width))
            .fold(0..width, |all, own| all.start.max(own.start)..all.end.min(own.end));
        let all = all.start..all.end.max(all.start);
        for tap in taps.clone() {
            let own = reached(tap, g.padding.1, width, fine_width);
            let (left, right) =
                if all.is_empty() { (own.clone(), 0..0) } else { (own.start..all.start, all.end..own.end) };
            parts.extend([(tap, 1, left), (tap, 1, right)]);
        }
        parts.push((first, taps.len(), all));
    }
    parts.retain(|(_, _, columns)| !columns.is_empty());
    let kernels = Kernels::detect();
    gradient.par_chunks_mut(g.area()).enumerate().for_each(|(channel, gradient)| {
        for a in 0..g.kernel {
            let rows = reached(a, g.padding.0, height, fine_height);
            let mut sums = vec![[0f32; LANES]; g.kernel];
            for group in 0..groups {
                let coarse = &coarse[(group * g.coarse.0 + channel) * coarse_plane..][..coarse_plane];
                let fine = &fine[(group * g.fine.0 + channel / multiplier) * fine_plane..][..fine_plane];
                for row in rows.clone() {
                    let fine_row = row * g.stride + a - g.padding.0;
                    for (tap, taps, columns) in &parts {
                        let left = (row * width + columns.start) * LANES;
                        let column = columns.start * g.stride + tap - g.padding.1;
                        let right = (fine_row * fine_width + column) * LANES;
                        // SAFETY: `reached` keeps rows and columns of all taps inside both planes
                        unsafe {
                            let operands = (
                                coarse.as_ptr().add(left),
                                fine.as_ptr().add(right),
                                (g.stride * LANES) as isize,
                            );
                            kernels.dots(operands, columns.len(), &mut sums[*tap..tap + taps]);
                        }
                    }
                }
            }
            let row = &mut gradient[a * g.kernel..(a + 1) * g.kernel];
            row.iter_mut().zip(&sums).for_each(|(gradient, sums)| *gradient += sums.iter().sum::<f32>());
        }
    });
}
