//! Weights in int8: scales, rounding to the nearest or by reconstruction.
//!
//! A layer is here a matrix (outputs, columns), whose columns are (input, kernel row, kernel column) and, of a layer
//! that is conditioned on classes, one for each class after them.

use nalgebra::DMatrix;
use rayon::prelude::*;

use crate::{Error, Result};

/// Largest level of a weight. −128 is left out: a sum of two products with it overflows 16 bits on ARM.
const LARGEST: f32 = 127.0;
/// Biases are kept this far from the end of int32, so that no sum reaches it.
const LARGEST_BIAS: f64 = (1 << 30) as f64;
/// Part of the mean squared input that is added to all of them in reconstruction: keeps what calibration has not
/// seen where it was.
const DAMPING: f64 = 0.01;

/// A layer in integers.
#[derive(Clone, Debug)]
pub(super) struct IntegerLayer {
    /// (outputs, columns)
    pub(super) weight: Vec<i8>,
    /// (outputs), or one for all.
    pub(super) scales: Vec<f32>,
    /// (outputs), in steps of input scale × weight scale.
    pub(super) bias: Vec<i32>,
}

/// The same in float32.
#[derive(Clone, Debug)]
pub(super) struct Matrix {
    pub(super) outputs: usize,
    /// (outputs, columns)
    pub(super) weight: Vec<f32>,
    /// (outputs)
    pub(super) bias: Vec<f32>,
}

impl Matrix {
    pub(super) fn columns(&self) -> usize {
        self.weight.len() / self.outputs
    }

    fn rows(&self) -> std::slice::Chunks<'_, f32> {
        self.weight.chunks(self.columns())
    }

    /// Each output's scale, or one for all: the largest weight is level 127. A row of zeros takes the scale that
    /// its bias can be held with.
    pub(super) fn scales(&self, input_scale: f32, per_tensor: bool) -> Vec<f32> {
        let largest = |row: &[f32]| row.iter().fold(0f32, |largest, weight| largest.max(weight.abs()));
        let held = |bias: &f32| (f64::from(bias.abs()) / f64::from(input_scale) / LARGEST_BIAS) as f32;
        let scale =
            |row: &[f32], bias: &f32| (largest(row) / LARGEST).max(held(bias)).max(f32::MIN_POSITIVE * 256.0);
        let each: Vec<f32> = self.rows().zip(&self.bias).map(|(row, bias)| scale(row, bias)).collect();
        match per_tensor {
            true => vec![each.iter().copied().fold(0.0, f32::max)],
            false => each,
        }
    }

    /// Rounds every weight to the nearest level.
    pub(super) fn nearest(&self, scales: &[f32]) -> Vec<i8> {
        let scale = |row: usize| scales[row.min(scales.len() - 1)];
        let rows = self.rows().enumerate();
        rows.flat_map(|(row, weights)| weights.iter().map(move |weight| level(*weight, scale(row)))).collect()
    }
}

/// The nearest level.
fn level(weight: f32, scale: f32) -> i8 {
    (weight / scale).round_ties_even().clamp(-LARGEST, LARGEST) as i8
}

/// Biases in steps of `input_scale` × each output's scale.
pub(super) fn integer_bias(bias: &[f32], input_scale: f32, scales: &[f32]) -> Vec<i32> {
    let step = |row: usize| f64::from(input_scale) * f64::from(scales[row.min(scales.len() - 1)]);
    let steps = bias.iter().enumerate().map(|(row, bias)| f64::from(*bias) / step(row));
    steps.map(|steps| steps.round_ties_even().clamp(-LARGEST_BIAS, LARGEST_BIAS) as i32).collect()
}

/// What enters a layer at some places: columns of (layer columns, places).
pub(super) struct Places {
    /// In float32.
    pub(super) exact: DMatrix<f32>,
    /// As the quantised layers before make it.
    pub(super) found: DMatrix<f32>,
}

/// The (smallest, largest) sum that the layer's output holds: beyond it sums differ in nothing.
pub(super) type Held = (f32, f32);

impl Places {
    fn count(&self) -> usize {
        self.exact.ncols()
    }

    /// Those at which any of the layer's outputs is inside what is held; all, if there are none.
    fn inside(self, matrix: &Matrix, (low, high): Held) -> Self {
        let sums = DMatrix::from_row_slice(matrix.outputs, matrix.columns(), &matrix.weight) * &self.exact;
        let inside = |(row, sum): (usize, &f32)| (low..=high).contains(&(sum + matrix.bias[row]));
        let kept: Vec<usize> =
            (0..self.count()).filter(|place| sums.column(*place).iter().enumerate().any(inside)).collect();
        if kept.is_empty() {
            return self;
        }
        Self { exact: self.exact.select_columns(&kept), found: self.found.select_columns(&kept) }
    }

    /// The first and the last of them.
    fn split(self, at: usize) -> [Self; 2] {
        let part =
            |values: &DMatrix<f32>, first: usize, count: usize| values.columns(first, count).into_owned();
        let rest = self.count() - at;
        [(0, at), (at, rest)].map(|(first, count)| Self {
            exact: part(&self.exact, first, count),
            found: part(&self.found, first, count),
        })
    }
}

/// A layer's weights in levels, and its bias.
pub(super) type Levels = (Vec<i8>, Vec<f32>);

/// Rounds weights such that the layer's sums, on inputs as the quantised layers before make them, are as near as
/// possible to those in float32; moves the bias such that their means are the same. What this is worth is found on a
/// fifth of the places that it has not seen; the nearest levels are returned where they are better there.
pub(super) fn reconstruct(matrix: &Matrix, scales: &[f32], places: Places, held: Held) -> Result<Levels> {
    let places = places.inside(matrix, held);
    let seen = places.count() - places.count() / 5;
    let [fit, check] = places.split(seen);
    let nearest = matrix.nearest(scales);
    let moved = matrix.centred(&nearest, scales, &fit);
    let rounded = rounded(matrix, scales, fit)?;
    if check.count() == 0 {
        return Ok(rounded);
    }
    let nearest = (nearest, moved);
    let error = |levels: &Levels| matrix.error(levels, scales, &check, held);
    Ok(if error(&rounded) <= error(&nearest) { rounded } else { nearest })
}

impl Matrix {
    /// Levels as real numbers: (outputs, columns).
    fn held(&self, levels: &[i8], scales: &[f32]) -> DMatrix<f32> {
        let columns = self.columns();
        DMatrix::from_fn(self.outputs, columns, |row, column| {
            f32::from(levels[row * columns + column]) * scales[row.min(scales.len() - 1)]
        })
    }

    /// The bias that gives the sums of `levels` the means that they have in float32.
    fn centred(&self, levels: &[i8], scales: &[f32], places: &Places) -> Vec<f32> {
        let mean = |values: &DMatrix<f32>| values.column_mean();
        let exact = DMatrix::from_row_slice(self.outputs, self.columns(), &self.weight) * mean(&places.exact);
        let found = self.held(levels, scales) * mean(&places.found);
        self.bias
            .iter()
            .zip(exact.iter().zip(found.iter()))
            .map(|(bias, (exact, found))| bias + exact - found)
            .collect()
    }

    /// Σ of squared errors over places and outputs, of what is held of them.
    fn error(&self, (levels, bias): &Levels, scales: &[f32], places: &Places, (low, high): Held) -> f64 {
        let exact = DMatrix::from_row_slice(self.outputs, self.columns(), &self.weight) * &places.exact;
        let found = self.held(levels, scales) * &places.found;
        let counted = |sum: f32| sum.max(low).min(high);
        let mut sum = 0f64;
        for (exact, found) in exact.column_iter().zip(found.column_iter()) {
            for (row, (exact, found)) in exact.iter().zip(found.iter()).enumerate() {
                sum += f64::from(counted(exact + self.bias[row]) - counted(found + bias[row])).powi(2);
            }
        }
        sum
    }
}

/// First the matrix V that keeps the sums best in real numbers, min ‖W·x − V·x̂‖² + λ‖V − W‖²; then its columns are
/// rounded one after the other, and what rounding one does to the sums is made up for by those that are still to
/// come (E. Frantar et al., "GPTQ", 2023), those with the largest inputs first.
fn rounded(matrix: &Matrix, scales: &[f32], places: Places) -> Result<Levels> {
    let (outputs, columns) = (matrix.outputs, matrix.columns());
    let Places { mut exact, mut found } = places;
    let (mean, found_mean) = (centre(&mut exact), centre(&mut found));
    let transposed = found.transpose();
    let squares = &found * &transposed;
    let crossed = &exact * &transposed;
    drop((exact, found, transposed));
    let mean_square = squares.diagonal().iter().map(|value| f64::from(*value)).sum::<f64>() / columns as f64;
    let damping = (DAMPING * mean_square).max(1e-12);

    let mut order: Vec<usize> = (0..columns).collect();
    order.sort_by(|a, b| squares[(*b, *b)].total_cmp(&squares[(*a, *a)]).then(a.cmp(b)));
    let hessian = DMatrix::<f64>::from_fn(columns, columns, |row, column| {
        let value = f64::from(squares[(order[row], order[column])]);
        if row == column { value + damping } else { value }
    });
    let singular = || Error::Export("the inputs of a layer are not finite on the calibration set".into());
    let factor = hessian.cholesky().ok_or_else(singular)?;
    // (columns, outputs): λW + W·x·x̂ᵀ, each row in the order of rounding
    let weight = DMatrix::<f32>::from_row_slice(outputs, columns, &matrix.weight);
    let target = &weight * &crossed;
    let mut best = DMatrix::<f64>::from_fn(columns, outputs, |column, row| {
        let place = (row, order[column]);
        f64::from(target[place]) + damping * f64::from(weight[place])
    });
    factor.solve_mut(&mut best);
    let lower = factor.inverse().cholesky().ok_or_else(singular)?.unpack();

    let rounded: Vec<(Vec<i8>, f32)> = (0..outputs)
        .into_par_iter()
        .map(|row| {
            let scale = scales[row.min(scales.len() - 1)];
            let mut weights: Vec<f64> = best.column(row).iter().copied().collect();
            let mut levels = vec![0i8; columns];
            let mut sum = 0f64;
            for column in 0..columns {
                let level = level(weights[column] as f32, scale);
                let held = f64::from(level) * f64::from(scale);
                let error = (weights[column] - held) / lower[(column, column)];
                let spread = lower.column(column);
                for later in column + 1..columns {
                    weights[later] -= error * spread[later];
                }
                levels[order[column]] = level;
                sum += held * f64::from(found_mean[order[column]]);
            }
            let exact: f64 = matrix.weight[row * columns..][..columns]
                .iter()
                .zip(&mean)
                .map(|(w, x)| f64::from(w * x))
                .sum();
            (levels, (f64::from(matrix.bias[row]) + exact - sum) as f32)
        })
        .collect();
    let bias = rounded.iter().map(|(_, bias)| *bias).collect();
    Ok((rounded.into_iter().flat_map(|(levels, _)| levels).collect(), bias))
}

/// Takes each row's mean away, and returns it.
fn centre(values: &mut DMatrix<f32>) -> Vec<f32> {
    let count = values.ncols().max(1) as f64;
    let mut means = vec![0f64; values.nrows()];
    for column in values.column_iter() {
        means.iter_mut().zip(column.iter()).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    let means: Vec<f32> = means.iter().map(|sum| (sum / count) as f32).collect();
    for mut column in values.column_iter_mut() {
        column.iter_mut().zip(&means).for_each(|(value, mean)| *value -= mean);
    }
    means
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Stream};

    fn drawn(count: usize, index: u64) -> Vec<f32> {
        let mut values = vec![0f32; count];
        Stream::new(9, Purpose::Generator, index).fill_normal(&mut values);
        values
    }

    /// Mean squared error of the sums over places.
    fn error(
        matrix: &Matrix,
        levels: &[i8],
        scales: &[f32],
        bias: &[f32],
        exact: &[f32],
        found: &[f32],
    ) -> f64 {
        let columns = matrix.columns();
        let mut sum = 0f64;
        for (x, y) in exact.chunks(columns).zip(found.chunks(columns)) {
            for row in 0..matrix.outputs {
                let weights = &matrix.weight[row * columns..][..columns];
                let wanted: f64 = weights.iter().zip(x).map(|(w, x)| f64::from(w * x)).sum::<f64>()
                    + f64::from(matrix.bias[row]);
                let held = levels[row * columns..][..columns]
                    .iter()
                    .map(|l| f64::from(*l) * f64::from(scales[row.min(scales.len() - 1)]));
                let got: f64 =
                    held.zip(y).map(|(w, y)| w * f64::from(*y)).sum::<f64>() + f64::from(bias[row]);
                sum += (wanted - got).powi(2);
            }
        }
        sum
    }

    #[test]
    fn reconstruction_beats_the_nearest_level_on_places_that_it_has_not_seen() {
        let (outputs, columns, count) = (6, 20, 400);
        let matrix = Matrix { outputs, weight: drawn(outputs * columns, 0), bias: drawn(outputs, 1) };
        // inputs that hang together, and a shift that the layers before made
        let mix = drawn(columns * 5, 2);
        let exact: Vec<f32> = (0..2 * count)
            .flat_map(|place| {
                let hidden = drawn(5, 10 + place as u64);
                (0..columns)
                    .map(|column| (0..5).map(|k| mix[column * 5 + k] * hidden[k]).sum::<f32>())
                    .collect::<Vec<_>>()
            })
            .collect();
        let found: Vec<f32> = exact.iter().map(|value| (value * 4.0).round() / 4.0 + 0.05).collect();
        for per_tensor in [false, true] {
            // coarse levels, so that rounding counts
            let scales: Vec<f32> = matrix.scales(0.1, per_tensor).iter().map(|scale| scale * 12.0).collect();
            let seen = count * columns;
            let places = Places {
                exact: DMatrix::from_column_slice(columns, count, &exact[..seen]),
                found: DMatrix::from_column_slice(columns, count, &found[..seen]),
            };
            let (levels, bias) = reconstruct(&matrix, &scales, places, (f32::MIN, f32::MAX)).unwrap();
            let held_out = (&exact[seen..], &found[seen..]);
            let better = error(&matrix, &levels, &scales, &bias, held_out.0, held_out.1);
            let nearest =
                error(&matrix, &matrix.nearest(&scales), &scales, &matrix.bias, held_out.0, held_out.1);
            assert!(better < 0.3 * nearest, "{better} {nearest}");
        }
    }

    #[test]
    fn weights_stay_within_127_and_dead_rows_keep_their_bias() {
        let matrix =
            Matrix { outputs: 3, weight: vec![1.0, -2.0, 0.0, 0.0, 1e-30, 0.0], bias: vec![0.5, 3.0, -7.0] };
        let scales = matrix.scales(0.01, false);
        assert_eq!(matrix.nearest(&scales)[..2], [64, -127]);
        let bias = integer_bias(&matrix.bias, 0.01, &scales);
        for (row, bias) in bias.iter().enumerate() {
            let back = f64::from(*bias) * f64::from(scales[row]) * f64::from(0.01f32);
            assert!((back - f64::from(matrix.bias[row])).abs() < 0.01, "row {row}: {back}");
        }
    }
}
