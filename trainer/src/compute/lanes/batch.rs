//! What flows between layers: the values of a batch.
//!
//! On the CPU sixteen pictures lie side by side, one in each lane of a vector: (groups, C, H, W, 16).
//! Whatever a layer does, it does to whole vectors, and no value is moved to be computed with. Lanes
//! after the last picture hold numbers without meaning; what sums over pictures leaves them out, and
//! gradients are zero there.

use rayon::prelude::*;

use super::buffers::Buffer;
use crate::graph::Shape;

/// Pictures in a group.
pub const LANES: usize = 16;

/// N pictures or vectors of one shape.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Number of pictures, N.
    pub count: usize,
    /// Shape of each.
    pub shape: Shape,
    /// (groups, C, H, W, [`LANES`]).
    pub(crate) values: Buffer,
}

impl Batch {
    /// Takes values (N, shape…), row-major.
    ///
    /// # Panics
    /// If there are no N pictures of this shape: a bug of the caller.
    pub fn from_rows(rows: &[f32], shape: Shape) -> Self {
        let size = shape.values();
        assert!(
            !rows.is_empty() && rows.len().is_multiple_of(size),
            "{} values of shape {shape}",
            rows.len()
        );
        let count = rows.len() / size;
        let mut values = Buffer::any(groups(count) * size * LANES);
        values.par_chunks_mut(size * LANES).zip(rows.par_chunks(size * LANES)).for_each(|(group, rows)| {
            if rows.len() < group.len() {
                group.fill(0.0);
            }
            interleave(rows, size, group);
        });
        Self { count, shape, values }
    }

    /// The values (N, shape…), row-major.
    pub fn to_rows(&self) -> Vec<f32> {
        let size = self.shape.values();
        let mut rows = vec![0f32; self.count * size];
        let groups = self.values.par_chunks(size * LANES);
        rows.par_chunks_mut(size * LANES).zip(groups).for_each(|(rows, group)| {
            for (lane, row) in rows.chunks_mut(size).enumerate() {
                for (value, vector) in row.iter_mut().zip(group.as_chunks::<LANES>().0) {
                    *value = vector[lane];
                }
            }
        });
        rows
    }

    /// A batch of as many pictures whose values are to be written.
    pub(crate) fn like(&self, shape: Shape) -> Self {
        Self { count: self.count, shape, values: Buffer::any(groups(self.count) * shape.values() * LANES) }
    }

    /// Zeroes the lanes that hold no picture.
    pub(crate) fn clear_unused(&mut self) {
        if self.count.is_multiple_of(LANES) {
            return;
        }
        let mask = mask(self.count, groups(self.count) - 1);
        let last = self.values.len() - self.shape.values() * LANES;
        for vector in self.values[last..].as_chunks_mut::<LANES>().0 {
            vector.iter_mut().zip(mask).for_each(|(value, used)| *value *= used);
        }
    }
}

/// Groups that hold `count` pictures.
pub(crate) fn groups(count: usize) -> usize {
    count.div_ceil(LANES)
}

/// (rows, size) → (size, [`LANES`]); lanes without a row stay.
fn interleave(rows: &[f32], size: usize, group: &mut [f32]) {
    const TILE: usize = 64; // values that stay in the cache while each row adds its lane
    for first in (0..size).step_by(TILE) {
        let end = (first + TILE).min(size);
        let tile = group[first * LANES..end * LANES].as_chunks_mut::<LANES>().0;
        for (lane, row) in rows.chunks(size).enumerate() {
            for (vector, value) in tile.iter_mut().zip(&row[first..end]) {
                vector[lane] = *value;
            }
        }
    }
}

/// 1 for lanes of group `group` that hold a picture of a batch of `count`, 0 for the others.
pub(crate) fn mask(count: usize, group: usize) -> [f32; LANES] {
    std::array::from_fn(|lane| if group * LANES + lane < count { 1.0 } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_the_way_through_lanes() {
        for count in [1, 16, 21] {
            let shape = Shape::Image(3, 5, 4);
            let rows: Vec<f32> = (0..count * shape.values()).map(|value| value as f32).collect();
            assert_eq!(Batch::from_rows(&rows, shape).to_rows(), rows, "{count}");
        }
    }
}
