//! Which pictures are copies of each other, by content: the same file twice, or the same picture encoded again, in
//! another format, quality or size.
//!
//! Each picture is averaged down to 16×16 colour pixels, its signature. Two are near copies if no value of their
//! signatures differs by more than [`MOST_DIFFERENCE`] levels, and the root mean square difference is small beside
//! the contrast of either. Photos that were saved again as JPEG of quality 60 at 0.8 of their size stay within
//! 12 levels and 0.10 of the contrast; different photos of the Berkeley set differ by 0.49 of it or more, and the
//! nearest emoji that are no copies by 16 levels (docs/decisions.md).
//!
//! Pairs are found by five coarse values of the signature ([`keys`]), which copies share up to [`KEY_TOLERANCE`]: a
//! picture is compared with those in its own and neighbouring cells of a grid over these values alone, so that
//! 100,000 pictures take seconds.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use image::RgbImage;
use rayon::prelude::*;

/// Side of a signature.
pub(super) const SIDE: usize = 16;
/// Bytes of a signature, (16, 16, 3).
pub(super) const SIGNATURE: usize = SIDE * SIDE * 3;
/// Largest difference of any value of near copies' signatures, levels.
const MOST_DIFFERENCE: u8 = 14;
/// Largest root mean square difference of near copies' signatures, as a part of their contrast (the standard
/// deviation of a signature's values). Pictures without contrast are copies only if they are equal.
const MOST_OF_CONTRAST: f64 = 0.12;
/// Largest difference of any of near copies' [`keys`], levels: few copies of photos reach 1.
const KEY_TOLERANCE: f32 = 2.0;
/// Side of a cell of the grid: two cells along each axis hold every key within the tolerance.
const CELL: f32 = 8.0;
/// Coarse values of a signature.
const KEYS: usize = 5;

/// The signature of a picture of 16×16 pixels.
pub(super) fn signature(small: &RgbImage) -> Vec<u8> {
    debug_assert_eq!((small.width() as usize, small.height() as usize), (SIDE, SIDE));
    small.as_raw().clone()
}

/// Means of red, green and blue, and how much brighter the left and the upper half are than the whole, levels.
fn keys(signature: &[u8]) -> [f32; KEYS] {
    let mut keys = [0f32; KEYS];
    for (place, pixel) in signature.as_chunks::<3>().0.iter().enumerate() {
        let (row, column) = (place / SIDE, place % SIDE);
        let levels = pixel.map(f32::from);
        let mean = (levels[0] + levels[1] + levels[2]) / 3.0;
        keys.iter_mut().zip(levels).for_each(|(key, level)| *key += level);
        keys[3] += if column < SIDE / 2 { mean } else { -mean };
        keys[4] += if row < SIDE / 2 { mean } else { -mean };
    }
    keys.map(|key| key / (SIDE * SIDE) as f32)
}

/// Standard deviation of a signature's values, levels.
fn contrast(signature: &[u8]) -> f64 {
    let count = signature.len().max(1) as f64;
    let mean = signature.iter().map(|level| f64::from(*level)).sum::<f64>() / count;
    (signature.iter().map(|level| (f64::from(*level) - mean).powi(2)).sum::<f64>() / count).sqrt()
}

fn near(a: &[u8], b: &[u8]) -> bool {
    let mut squares = 0u32;
    for (a, b) in a.iter().zip(b) {
        let difference = a.abs_diff(*b);
        if difference > MOST_DIFFERENCE {
            return false;
        }
        squares += u32::from(difference).pow(2);
    }
    let difference = (f64::from(squares) / a.len().max(1) as f64).sqrt();
    difference <= MOST_OF_CONTRAST * contrast(a).min(contrast(b))
}

/// For each of `count` pictures the smallest number of a picture that it is a near copy of, directly or through
/// others; its own where there is none. `signature(i)` is picture i's.
pub(super) fn originals<'a>(count: usize, signature: impl Fn(usize) -> &'a [u8] + Sync) -> Vec<u32> {
    let keys: Vec<[f32; KEYS]> = (0..count).into_par_iter().map(|index| keys(signature(index))).collect();
    let mut sets = Sets::new(count);
    let mut same: HashMap<&[u8], u32> = HashMap::new();
    let mut cells: HashMap<[i16; KEYS], Vec<u32>> = HashMap::new();
    for (index, own) in keys.iter().enumerate() {
        let number = index as u32;
        // a picture that is there a thousand times is compared once
        match same.entry(signature(index)) {
            Entry::Occupied(first) => {
                sets.join(*first.get(), number);
                continue;
            }
            Entry::Vacant(place) => place.insert(number),
        };
        for place in around(own) {
            for other in cells.get(&place).into_iter().flatten() {
                let close =
                    own.iter().zip(&keys[*other as usize]).all(|(a, b)| (a - b).abs() <= KEY_TOLERANCE);
                // the frames of a film are all one set: few are compared
                if close
                    && sets.root(*other) != sets.root(number)
                    && near(signature(*other as usize), signature(index))
                {
                    sets.join(*other, number);
                }
            }
        }
        cells.entry(own.map(cell)).or_default().push(number);
    }
    (0..count as u32).map(|index| sets.root(index)).collect()
}

/// Where a key lies in the grid.
fn cell(key: f32) -> i16 {
    (key / CELL).floor() as i16
}

/// The cells that hold every key within the tolerance.
fn around(keys: &[f32; KEYS]) -> Vec<[i16; KEYS]> {
    let mut places = vec![[0i16; KEYS]];
    for (axis, key) in keys.iter().enumerate() {
        let bounds = [key - KEY_TOLERANCE, key + KEY_TOLERANCE].map(cell);
        places = places
            .into_iter()
            .flat_map(|place| {
                (bounds[0]..=bounds[1]).map(move |cell| {
                    let mut place = place;
                    place[axis] = cell;
                    place
                })
            })
            .collect();
    }
    places
}

/// Disjoint sets of numbers, each known by its smallest.
pub(super) struct Sets {
    parents: Vec<u32>,
}

impl Sets {
    /// Each of 0..count by itself.
    pub(super) fn new(count: usize) -> Self {
        Self { parents: (0..count as u32).collect() }
    }

    /// The smallest number of the set of `number`.
    pub(super) fn root(&mut self, number: u32) -> u32 {
        let mut at = number;
        while self.parents[at as usize] != at {
            let parent = self.parents[at as usize];
            self.parents[at as usize] = self.parents[parent as usize];
            at = parent;
        }
        at
    }

    /// Makes one set of two.
    pub(super) fn join(&mut self, a: u32, b: u32) {
        let (a, b) = (self.root(a), self.root(b));
        self.parents[a.max(b) as usize] = a.min(b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A soft random picture.
    fn picture(seed: u32) -> Vec<u8> {
        let at = |x: f32, y: f32, channel: usize| {
            let s = seed as f32 + 10.0 * channel as f32;
            let wave = |fx: f32, fy: f32, phase: f32| (fx * x + fy * y + phase).sin();
            128.0
                + 50.0 * wave(0.3, 0.2, s)
                + 40.0 * wave(0.7, -0.4, 2.3 * s)
                + 30.0 * wave(-0.2, 0.9, 3.1 * s)
        };
        let pixels = (0..SIDE * SIDE).map(|place| ((place % SIDE) as f32, (place / SIDE) as f32));
        pixels.flat_map(|(x, y)| [0, 1, 2].map(|channel| at(x, y, channel) as u8)).collect()
    }

    #[test]
    fn copies_are_found_and_others_are_not() {
        let mut all: Vec<Vec<u8>> = (0..60).map(picture).collect();
        let noisy = |of: &[u8], by: u8| -> Vec<u8> {
            of.iter()
                .enumerate()
                .map(|(i, level)| if i % 2 == 0 { *level + by } else { *level - by })
                .collect()
        };
        all.push(noisy(&all[7], 4));
        all.push(noisy(&all[60], 4)); // a copy of the copy, nearer to it than to the original
        let mut hat = all[9].clone(); // a small change that is seen
        hat[300..306].iter_mut().for_each(|level| *level = level.wrapping_add(90));
        all.push(hat);
        all.push(all[11].iter().map(|level| 255 - level).collect()); // another colour
        let found = originals(all.len(), |index| &all[index]);
        let mut expected: Vec<u32> = (0..all.len() as u32).collect();
        (expected[60], expected[61]) = (7, 7);
        assert_eq!(found, expected);
    }

    #[test]
    fn pictures_without_contrast_are_copies_only_if_they_are_equal() {
        let flat = |level: u8| vec![level; SIGNATURE];
        let all = [flat(100), flat(101), flat(100), flat(103)];
        assert_eq!(originals(all.len(), |index| &all[index]), [0, 1, 0, 3]);
    }

    #[test]
    fn a_cell_beside_the_own_is_searched_where_it_is_within_reach() {
        assert_eq!(around(&[4.0; KEYS]).len(), 1);
        assert_eq!(around(&[0.5, 4.0, 4.0, 4.0, 4.0]).len(), 2);
        assert_eq!(around(&[-0.5; KEYS]).len(), 32);
    }
}
