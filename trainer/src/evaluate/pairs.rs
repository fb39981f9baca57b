//! Products and distances between rows of features, in f64, tile by tile and on all cores.

use nalgebra::{DMatrix, DMatrixView};
use rayon::prelude::*;

use super::features::Features;

/// Distances that one thread holds at once.
const HELD: usize = 1 << 22;
/// Rows of the other side of one matrix product.
const TILE: usize = 1024;

/// Row-major `values`, (rows, columns), as the transposed matrix, (columns, rows): the same memory.
///
/// Only such views with contiguous columns are multiplied here: with a row stride, nalgebra 0.35 takes a view's
/// span for its length (`axcpy`, in products with a side of at most 5) and leaves its memory (nalgebra#1616).
pub(super) fn transposed(values: &[f64], rows: usize, columns: usize) -> DMatrixView<'_, f64> {
    DMatrixView::from_slice(values, columns, rows)
}

/// Some values in f64.
pub(super) fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

fn square_norms(features: &Features) -> Vec<f64> {
    let rows = features.values.par_chunks(features.dimension);
    rows.map(|row| row.iter().map(|value| f64::from(*value).powi(2)).sum()).collect()
}

/// What `look` makes of every row i of `left`: it is given i and the squared Euclidean distances of that row
/// to all rows of `right`.
///
/// # Panics
/// If the rows differ in length: a bug of the caller.
pub(super) fn map_distances<T: Send>(
    left: &Features,
    right: &Features,
    look: impl Fn(usize, &[f64]) -> T + Sync,
) -> Vec<T> {
    assert_eq!(left.dimension, right.dimension, "rows of two lengths have no distance");
    let (dimension, count) = (left.dimension, right.count());
    if count == 0 {
        return (0..left.count()).map(|index| look(index, &[])).collect();
    }
    let (left_norms, right_norms) = (square_norms(left), square_norms(right));
    let rows = (HELD / count).clamp(1, 256);
    let blocks = left.values.par_chunks(rows * dimension).enumerate();
    let blocks = blocks.map(|(block, values)| {
        let first = block * rows;
        let number = values.len() / dimension;
        let values = transposed(&wide(values), number, dimension).transpose();
        let mut distances = vec![0f64; number * count];
        for (tile, others) in right.values.chunks(TILE * dimension).enumerate() {
            let others = wide(others);
            let width = others.len() / dimension;
            let mut products = DMatrix::zeros(number, width);
            products.gemm(1.0, &values, &transposed(&others, width, dimension), 0.0);
            for (place, products) in products.as_slice().chunks(number).enumerate() {
                let other = tile * TILE + place;
                for (row, product) in products.iter().enumerate() {
                    let square = left_norms[first + row] + right_norms[other] - 2.0 * product;
                    distances[row * count + other] = square.max(0.0);
                }
            }
        }
        let rows = distances.chunks(count).enumerate();
        rows.map(|(row, distances)| look(first + row, distances)).collect::<Vec<T>>()
    });
    blocks.collect::<Vec<_>>().into_iter().flatten().collect()
}

/// Indices and values of the `count` smallest of `values`, smallest first, `except` left out.
pub(super) fn smallest(values: &[f64], count: usize, except: Option<usize>) -> Vec<(usize, f64)> {
    let mut found: Vec<(usize, f64)> = Vec::with_capacity(count + 1);
    for (index, value) in values.iter().enumerate() {
        if Some(index) == except || (found.len() == count && found.last().is_none_or(|last| *value >= last.1))
        {
            continue;
        }
        let place = found.partition_point(|(_, other)| *other <= *value);
        found.insert(place, (index, *value));
        found.truncate(count);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Stream};

    #[test]
    fn tiles_give_the_distances_of_the_definition() {
        let rows = |index, count| {
            let mut values = vec![0.0; count * 3];
            Stream::new(1, Purpose::Evaluation, index).fill_normal(&mut values);
            Features { values, dimension: 3 }
        };
        let (left, right) = (rows(0, 300), rows(1, TILE + 7));
        let found = map_distances(&left, &right, |index, distances| {
            assert_eq!(distances.len(), right.count());
            for (other, distance) in distances.iter().enumerate() {
                let pairs = left.row(index).iter().zip(right.row(other));
                let expected: f64 = pairs.map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
                assert!((distance - expected).abs() < 1e-12, "{index} {other}");
            }
            index
        });
        assert_eq!(found, (0..300).collect::<Vec<_>>());
    }

    #[test]
    fn the_smallest_come_in_order() {
        let values = [5.0, 1.0, 4.0, 1.0, 3.0];
        assert_eq!(smallest(&values, 3, None), [(1, 1.0), (3, 1.0), (4, 3.0)]);
        assert_eq!(smallest(&values, 2, Some(1)), [(3, 1.0), (4, 3.0)]);
        assert_eq!(smallest(&values, 9, None).len(), 5);
        assert!(smallest(&values, 0, None).is_empty());
    }
}
