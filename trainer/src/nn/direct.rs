//! Convolution without im2col: pictures side by side in the lanes of one vector.
//!
//! Sixteen pictures (AVX-512) or eight (AVX2 with FMA) form a group, laid out (channels, rows,
//! columns, lanes) with a border of zeros. Then every output vector is a sum over taps of one weight
//! times one input vector at a fixed offset, whatever kernel, stride and padding are: nothing is
//! gathered, and no lane is lost at an edge. A transposed convolution is the same sum for each of its
//! stride² phases, over the taps that reach the phase; the weight gradient sums products of vectors.
//!
//! Every output is computed by one thread in a fixed order: results do not depend on threads.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use rayon::prelude::*;

use super::convolution::Geometry;

/// A matrix of weights (rows, taps) with the place of each tap's vector in the input, cut into blocks
/// of rows as the kernel takes them.
struct Sum {
    rows: usize,
    /// Where tap k's vector lies, in elements, before the output position's own offset is added.
    taps: Vec<usize>,
    /// (blocks, taps, block rows), zeros behind the last row.
    packed: Vec<f32>,
}

/// Where one output position reads and writes, in elements.
#[derive(Clone, Copy, Default)]
struct Place {
    input: usize,
    output: usize,
}

impl Sum {
    fn new(rows: usize, taps: Vec<usize>, block: usize, weight: impl Fn(usize, usize) -> f32) -> Self {
        let mut packed = Vec::with_capacity(rows.div_ceil(block) * taps.len() * block);
        for first in (0..rows).step_by(block) {
            for tap in 0..taps.len() {
                packed.extend(
                    (first..first + block).map(|row| if row < rows { weight(row, tap) } else { 0.0 }),
                );
            }
        }
        Self { rows, taps, packed }
    }
}

/// A picture group's layout: (channels, height, width, lanes) with a border.
#[derive(Clone, Copy)]
struct Layout {
    channels: usize,
    height: usize,
    width: usize,
    lanes: usize,
}

impl Layout {
    fn at(&self, channel: usize, y: usize, x: usize) -> usize {
        ((channel * self.height + y) * self.width + x) * self.lanes
    }

    fn len(&self) -> usize {
        self.channels * self.height * self.width * self.lanes
    }
}

/// Copies up to `lanes` pictures (N, C, H, W) into a group whose border is `margin` wide at the top and
/// left. The border of `to` must be zeros and stays so.
fn spread(
    pictures: &[f32],
    (channels, height, width): (usize, usize, usize),
    to: &mut [f32],
    layout: Layout,
    margin: usize,
) {
    let per_picture = channels * height * width;
    if pictures.len() < per_picture * layout.lanes {
        to.fill(0.0); // lanes without a picture
    }
    for channel in 0..channels {
        for y in 0..height {
            let row = &mut to[layout.at(channel, y + margin, margin)..][..width * layout.lanes];
            for (lane, picture) in pictures.chunks(per_picture).enumerate() {
                let source = &picture[(channel * height + y) * width..][..width];
                for (vector, value) in row.chunks_exact_mut(layout.lanes).zip(source) {
                    vector[lane] = *value;
                }
            }
        }
    }
}

/// Copies a group without a border, (values, lanes), back to pictures (N, values).
fn collect(group: &[f32], lanes: usize, pictures: &mut [f32]) {
    let per_picture = group.len() / lanes;
    for (lane, picture) in pictures.chunks_mut(per_picture).enumerate() {
        for (value, vector) in picture.iter_mut().zip(group.chunks_exact(lanes)) {
            *value = vector[lane];
        }
    }
}

/// The kernels for one width of vectors: `$rows` × `$places` and `$left` × `$right` accumulators.
macro_rules! family {
    ($name:ident, $feature:literal, $lanes:literal, $vector:ty, $zero:ident, $load:ident, $store:ident, $set:ident, $fma:ident,
     $rows:literal, $places:literal, $left:literal, $right:literal) => {
        mod $name {
            use super::*;

            pub(super) const LANES: usize = $lanes;
            pub(super) const ROWS: usize = $rows;

            /// One block of rows at up to `$places` places.
            ///
            /// # Safety
            /// The CPU has the features; every tap + input + LANES lies inside `input`, every output +
            /// row · stride + LANES inside `output`.
            #[target_feature(enable = $feature)]
            unsafe fn tile(
                taps: &[usize],
                packed: &[f32],
                input: &[f32],
                (places, used): ([Place; $places], usize),
                (output, rows, row_stride): (*mut f32, usize, usize),
            ) {
                let mut sums = [[$zero(); $places]; $rows];
                let base = input.as_ptr();
                for (tap, weights) in taps.iter().zip(packed.chunks_exact($rows)) {
                    let mut vectors = [$zero(); $places];
                    for (vector, place) in vectors.iter_mut().zip(places) {
                        // SAFETY: inside `input` by this function's contract
                        *vector = unsafe { $load(base.add(tap + place.input)) };
                    }
                    for row in 0..$rows {
                        let weight = $set(weights[row]);
                        for place in 0..$places {
                            sums[row][place] = $fma(weight, vectors[place], sums[row][place]);
                        }
                    }
                }
                for row in 0..rows {
                    for place in 0..used {
                        // SAFETY: inside `output` by this function's contract
                        unsafe {
                            $store(output.add(places[place].output + row * row_stride), sums[row][place])
                        };
                    }
                }
            }

            /// output[row · row_stride + place.output] = Σ_tap weight[row, tap] · input[tap + place.input].
            pub(super) fn sum(
                sum: &Sum,
                input: &[f32],
                places: &[Place],
                output: &mut [f32],
                row_stride: usize,
            ) {
                let furthest = |of: fn(&Place) -> usize| places.iter().map(of).max().unwrap_or(0);
                let last_tap = sum.taps.iter().max().copied().unwrap_or(0);
                assert!(last_tap + furthest(|place| place.input) + LANES <= input.len());
                assert!((sum.rows - 1) * row_stride + furthest(|place| place.output) + LANES <= output.len());
                for chunk in places.chunks($places) {
                    let mut tile_places = [chunk[0]; $places];
                    tile_places[..chunk.len()].copy_from_slice(chunk);
                    for (block, packed) in sum.packed.chunks_exact(sum.taps.len() * $rows).enumerate() {
                        let rows = $rows.min(sum.rows - block * $rows);
                        // SAFETY: `Vectors::detect` found the features; the asserts above bound every access,
                        // and rows of a block follow those before it.
                        unsafe {
                            let output = output.as_mut_ptr().add(block * $rows * row_stride);
                            tile(
                                &sum.taps,
                                packed,
                                input,
                                (tile_places, chunk.len()),
                                (output, rows, row_stride),
                            );
                        }
                    }
                }
            }

            /// Sums over all groups and places of the products of `$left` × `$right` vectors.
            ///
            /// # Safety
            /// The CPU has the features; `left_at` + group · `left_len` + (places + 1) · LANES lies inside `left`,
            /// `right_at` + group · `right_len` + place + LANES inside `right`.
            #[target_feature(enable = $feature)]
            unsafe fn products(
                groups: usize,
                (left, left_len, left_at): (&[f32], usize, [usize; $left]),
                (right, right_len, right_at): (&[f32], usize, [usize; $right]),
                places: &[usize],
            ) -> [[f32; $right]; $left] {
                let mut sums = [[$zero(); $right]; $left];
                for group in 0..groups {
                    for (index, place) in places.iter().enumerate() {
                        let mut vectors = [$zero(); $left];
                        for (vector, at) in vectors.iter_mut().zip(left_at) {
                            let at = group * left_len + at + index * LANES;
                            // SAFETY: inside `left` by this function's contract
                            *vector = unsafe { $load(left.as_ptr().add(at)) };
                        }
                        for column in 0..$right {
                            let at = group * right_len + right_at[column] + place;
                            // SAFETY: inside `right` by this function's contract
                            let other = unsafe { $load(right.as_ptr().add(at)) };
                            for row in 0..$left {
                                sums[row][column] = $fma(vectors[row], other, sums[row][column]);
                            }
                        }
                    }
                }
                sums.map(|row| {
                    row.map(|sum| {
                        let mut lanes = [0f32; LANES];
                        // SAFETY: `lanes` holds one vector
                        unsafe { $store(lanes.as_mut_ptr(), sum) };
                        lanes.iter().sum()
                    })
                })
            }

            /// out[row, tap] = Σ_group Σ_place Σ_lane left[group, row, place] · right[group, tap + place]: `left` is
            /// (groups, rows, places, lanes), `out` (rows, taps).
            pub(super) fn gradient(
                out: &mut [f32],
                left: &[f32],
                right: &[f32],
                groups: usize,
                taps: &[usize],
                places: &[usize],
            ) {
                let furthest = |values: &[usize]| values.iter().max().copied().unwrap_or(0);
                let rows = out.len() / taps.len();
                let (left_len, right_len) = (left.len() / groups, right.len() / groups);
                let row_len = places.len() * LANES;
                assert_eq!(left.len(), groups * rows * row_len);
                assert!(furthest(taps) + furthest(places) + LANES <= right_len);
                out.par_chunks_mut($left * taps.len()).enumerate().for_each(|(block, out)| {
                    // rows and taps behind the last are computed again and thrown away
                    let left_at = std::array::from_fn(|row| (block * $left + row).min(rows - 1) * row_len);
                    for first_tap in (0..taps.len()).step_by($right) {
                        let right_at = std::array::from_fn(|tap| taps[(first_tap + tap).min(taps.len() - 1)]);
                        // SAFETY: `Vectors::detect` found the features; the asserts above bound every access.
                        let sums = unsafe {
                            products(groups, (left, left_len, left_at), (right, right_len, right_at), places)
                        };
                        for (out, sums) in out.chunks_mut(taps.len()).zip(sums) {
                            for (out, sum) in out[first_tap..].iter_mut().zip(sums) {
                                *out = sum;
                            }
                        }
                    }
                });
            }
        }
    };
}

family!(
    wide,
    "avx512f",
    16,
    __m512,
    _mm512_setzero_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_set1_ps,
    _mm512_fmadd_ps,
    6,
    4,
    4,
    6
);
family!(
    narrow,
    "avx2,fma",
    8,
    __m256,
    _mm256_setzero_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_set1_ps,
    _mm256_fmadd_ps,
    6,
    2,
    3,
    4
);

/// The vectors that this CPU has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vectors {
    /// 16 lanes.
    Avx512,
    /// 8 lanes.
    Avx2,
}

impl Vectors {
    /// The widest there are; `None`: other code must serve.
    pub(super) fn detect() -> Option<Self> {
        if is_x86_feature_detected!("avx512f") {
            Some(Self::Avx512)
        } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            Some(Self::Avx2)
        } else {
            None
        }
    }

    pub(super) fn lanes(self) -> usize {
        match self {
            Self::Avx512 => wide::LANES,
            Self::Avx2 => narrow::LANES,
        }
    }

    fn rows(self) -> usize {
        match self {
            Self::Avx512 => wide::ROWS,
            Self::Avx2 => narrow::ROWS,
        }
    }

    fn sum(self, sum: &Sum, input: &[f32], places: &[Place], output: &mut [f32], row_stride: usize) {
        match self {
            Self::Avx512 => wide::sum(sum, input, places, output, row_stride),
            Self::Avx2 => narrow::sum(sum, input, places, output, row_stride),
        }
    }

    fn gradient(
        self,
        out: &mut [f32],
        left: &[f32],
        right: &[f32],
        groups: usize,
        taps: &[usize],
        places: &[usize],
    ) {
        match self {
            Self::Avx512 => wide::gradient(out, left, right, groups, taps, places),
            Self::Avx2 => narrow::gradient(out, left, right, groups, taps, places),
        }
    }

    /// (fine, weights) → coarse, each NCHW.
    pub(super) fn coarse(self, g: &Geometry, fine: &[f32], weights: &[f32]) -> Vec<f32> {
        let lanes = self.lanes();
        let layout = self.fine_layout(g);
        let sum =
            Sum::new(g.coarse.0, fine_taps(g, layout), self.rows(), |row, tap| weights[row * g.taps() + tap]);
        let places: Vec<Place> = fine_places(g, layout)
            .into_iter()
            .enumerate()
            .map(|(index, input)| Place { input, output: index * lanes })
            .collect();
        self.sums(&[(sum, places)], (fine, g.fine), layout, g.padding, g.coarse)
    }

    /// (coarse, weights) → fine, each NCHW.
    pub(super) fn fine(self, g: &Geometry, coarse: &[f32], weights: &[f32]) -> Vec<f32> {
        let (_, height, width) = g.fine;
        let lanes = self.lanes();
        // pixel y of the fine side is reached by tap a of coarse row (y + padding − a) / stride
        let margin = g.kernel.div_ceil(g.stride) - 1;
        let side = |fine: usize, coarse: usize| margin + ((fine + g.padding - 1) / g.stride + 1).max(coarse);
        let layout = Layout {
            channels: g.coarse.0,
            height: side(height, g.coarse.1),
            width: side(width, g.coarse.2),
            lanes,
        };
        let phases: Vec<(Sum, Vec<Place>)> = (0..g.stride * g.stride)
            .map(|phase| self.phase(g, layout, margin, (phase / g.stride, phase % g.stride), weights))
            .collect();
        self.sums(&phases, (coarse, g.coarse), layout, margin, g.fine)
    }

    /// Spreads groups of pictures, computes every sum at its places, and collects pictures of shape `to`.
    fn sums(
        self,
        sums: &[(Sum, Vec<Place>)],
        (pictures, from): (&[f32], (usize, usize, usize)),
        layout: Layout,
        margin: usize,
        to: (usize, usize, usize),
    ) -> Vec<f32> {
        let lanes = self.lanes();
        let (from_len, to_len) = (from.0 * from.1 * from.2, to.0 * to.1 * to.2);
        let stride = to.1 * to.2 * lanes;
        let mut out = vec![0f32; pictures.len() / from_len * to_len];
        let groups = out.par_chunks_mut(lanes * to_len).zip(pictures.par_chunks(lanes * from_len));
        groups.for_each_init(
            || (vec![0f32; layout.len()], vec![0f32; to.0 * stride]),
            |(input, output), (out, pictures)| {
                spread(pictures, from, input, layout, margin);
                for (sum, places) in sums {
                    if sum.taps.is_empty() {
                        // a stride longer than the kernel leaves pixels that nothing reaches
                        for place in places {
                            (0..to.0)
                                .for_each(|row| output[row * stride + place.output..][..lanes].fill(0.0));
                        }
                    } else if !places.is_empty() {
                        self.sum(sum, input, places, output, stride);
                    }
                }
                collect(output, lanes, out);
            },
        );
        out
    }

    fn phase(
        self,
        g: &Geometry,
        layout: Layout,
        margin: usize,
        (row, column): (usize, usize),
        weights: &[f32],
    ) -> (Sum, Vec<Place>) {
        let (channels, height, width) = g.fine;
        let lanes = self.lanes();
        let steps = |first: usize| (first..g.kernel).step_by(g.stride);
        let mut taps = Vec::new();
        let mut numbers = Vec::new();
        for coarse in 0..g.coarse.0 {
            for a in steps(row) {
                for b in steps(column) {
                    taps.push(layout.at(coarse, margin - a / g.stride, margin - b / g.stride));
                    numbers.push((coarse, a, b));
                }
            }
        }
        let sum = Sum::new(channels, taps, self.rows(), |channel, tap| {
            let (coarse, a, b) = numbers[tap];
            weights[((coarse * channels + channel) * g.kernel + a) * g.kernel + b]
        });
        let pixels = |first: usize, side: usize| {
            (0..side).filter(move |pixel| (pixel + g.padding) % g.stride == first)
        };
        let places = pixels(row, height)
            .flat_map(|y| pixels(column, width).map(move |x| (y, x)))
            .map(|(y, x)| Place {
                input: layout.at(0, (y + g.padding) / g.stride, (x + g.padding) / g.stride),
                output: (y * width + x) * lanes,
            })
            .collect();
        (sum, places)
    }

    /// (fine, coarse) → weights (coarse channels, fine channels, kernel, kernel).
    pub(super) fn weights(self, g: &Geometry, fine: &[f32], coarse: &[f32]) -> Vec<f32> {
        let (channels, height, width) = g.coarse;
        let lanes = self.lanes();
        let layout = self.fine_layout(g);
        let taps = fine_taps(g, layout);
        let places = fine_places(g, layout);
        let flat = Layout { channels, height, width, lanes };
        let groups = (fine.len() / g.fine_len()).div_ceil(lanes);
        let all = |layout: Layout, pictures: &[f32], shape: (usize, usize, usize), margin| {
            let mut spread_out = vec![0f32; groups * layout.len()];
            let per_group = lanes * shape.0 * shape.1 * shape.2;
            let parts = spread_out.par_chunks_mut(layout.len()).zip(pictures.par_chunks(per_group));
            parts.for_each(|(to, pictures)| spread(pictures, shape, to, layout, margin));
            spread_out
        };
        let left = all(flat, coarse, g.coarse, 0);
        let right = all(layout, fine, g.fine, g.padding);
        let mut out = vec![0f32; g.weights_len()];
        self.gradient(&mut out, &left, &right, groups, &taps, &places);
        out
    }

    /// The fine side with its padding, and as much at the end as the last tap reaches.
    fn fine_layout(self, g: &Geometry) -> Layout {
        let side = |fine: usize, coarse: usize| (g.padding + fine).max((coarse - 1) * g.stride + g.kernel);
        Layout {
            channels: g.fine.0,
            height: side(g.fine.1, g.coarse.1),
            width: side(g.fine.2, g.coarse.2),
            lanes: self.lanes(),
        }
    }
}

/// Offset of each tap (channel, a, b), for the first coarse position.
fn fine_taps(g: &Geometry, layout: Layout) -> Vec<usize> {
    let square =
        |channel| (0..g.kernel).flat_map(move |a| (0..g.kernel).map(move |b| layout.at(channel, a, b)));
    (0..g.fine.0).flat_map(square).collect()
}

/// Offset of each coarse position, for the first tap.
fn fine_places(g: &Geometry, layout: Layout) -> Vec<usize> {
    let row = |i: usize| (0..g.coarse.2).map(move |j| layout.at(0, i * g.stride, j * g.stride));
    (0..g.coarse.1).flat_map(row).collect()
}

#[cfg(test)]
mod tests {
    use edgegen_runtime::random::{Purpose, Stream};

    use super::super::convolution::{Correlation, Role};
    use super::*;

    /// f32 sums of a few hundred products in another order, relative to the largest result.
    const TOLERANCE: f32 = 1e-5;

    fn noise(count: usize, index: u64) -> Vec<f32> {
        let mut values = vec![0f32; count];
        Stream::new(3, Purpose::Evaluation, index).fill_normal(&mut values);
        values
    }

    fn check(found: &[f32], expected: &[f32], what: &str) {
        assert_eq!(found.len(), expected.len(), "{what}");
        let largest = expected.iter().fold(0f32, |most, value| most.max(value.abs()));
        let worst = found.iter().zip(expected).fold(0f32, |worst, (a, b)| worst.max((a - b).abs()));
        assert!(worst <= TOLERANCE * largest, "{what}: {worst:e} of {largest:e}");
    }

    /// Every width that this CPU has, not only the one that `detect` prefers, against matrix products.
    #[test]
    fn every_width_computes_what_matrix_products_do() {
        let avx512 = is_x86_feature_detected!("avx512f").then_some(Vectors::Avx512);
        let avx2 =
            (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Vectors::Avx2);
        for vectors in [avx512, avx2].into_iter().flatten() {
            for (kernel, stride, padding, side) in [
                (4, 2, 1, 8),
                (3, 1, 1, 7),
                (5, 2, 2, 9),
                (1, 1, 0, 4),
                (4, 1, 0, 6),
                (2, 3, 0, 8),
                (3, 2, 1, 1),
            ] {
                let (height, width) = (side, side + 2);
                let coarse = |side: usize| (side + 2 * padding - kernel) / stride + 1;
                let coarse = (7, coarse(height), coarse(width));
                let g = Geometry { kernel, stride, padding, fine: (5, height, width), coarse };
                for batch in [1, 16, 21] {
                    let what = format!("{vectors:?} {g:?} batch {batch}");
                    let (fine, coarse) = (noise(batch * g.fine_len(), 1), noise(batch * g.coarse_len(), 2));
                    let weights = noise(g.weights_len(), 3);
                    let products = |role, left: &[f32], right: &[f32]| {
                        Correlation { geometry: g, role }.by_products::<f32>(left, right)
                    };
                    check(
                        &vectors.coarse(&g, &fine, &weights),
                        &products(Role::Coarse, &fine, &weights),
                        &what,
                    );
                    check(
                        &vectors.fine(&g, &coarse, &weights),
                        &products(Role::Fine, &coarse, &weights),
                        &what,
                    );
                    check(
                        &vectors.weights(&g, &fine, &coarse),
                        &products(Role::Weights, &fine, &coarse),
                        &what,
                    );
                }
            }
        }
    }
}
