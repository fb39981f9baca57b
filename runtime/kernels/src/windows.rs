//! What is made of a window of each channel: pooling, and enlargement or reduction by any factor.

use alloc::vec;
use alloc::vec::Vec;

use crate::cpu::Cpu;
use crate::elements::{flipped, level};
use crate::geometry::Axis;
use crate::isa::Isa;
use crate::plane::Plane;
use crate::quantized::Mismatch;
use crate::wide::wide;

/// What is made of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The largest value.
    Max,
    /// The mean of those inside the picture.
    Mean,
    /// The mean of a whole window, whose values outside of the picture are 0. Rows and columns of padding behind the picture
    /// count, what a window reaches beyond them does not.
    PaddedMean {
        /// Rows behind.
        bottom: usize,
        /// Columns behind.
        right: usize,
    },
}

/// A value of a plane that is pooled: float32, or levels as they lie in memory.
pub trait Pooled: Copy + PartialOrd {
    /// Below all others.
    const LEAST: Self;
}

impl Pooled for f32 {
    const LEAST: Self = Self::NEG_INFINITY;
}

impl Pooled for u8 {
    const LEAST: Self = 0;
}

/// Levels that lie as `level − 128`, in order.
impl Pooled for i8 {
    const LEAST: Self = Self::MIN;
}

/// Where a window lies in a picture, along one axis.
fn reach(axis: Axis, at: usize, size: usize) -> impl Iterator<Item = usize> + Clone {
    let first = (at * axis.stride) as isize - axis.padding as isize;
    (0..axis.kernel)
        .map(move |tap| first + (tap * axis.dilation) as isize)
        .filter_map(|at| usize::try_from(at).ok())
        .filter(move |at| *at < size)
}

/// The largest value of each window, channel by channel; windows that see nothing make the least value.
///
/// # Panics
/// If a buffer is too small.
pub fn largest<T: Pooled>(
    cpu: Cpu,
    (y, x): (Axis, Axis),
    (from, source): (&Plane, &[T]),
    (to, target): (&Plane, &mut [T]),
) {
    let channels = from.channels.min(to.channels);
    wide!(
        cpu,
        [T: Pooled],
        (y: Axis, x: Axis, from: &Plane, source: &[T], to: &Plane, target: &mut [T], channels: usize),
        {
            for row in 0..to.height {
                for col in 0..to.width {
                    let at = to.at(row as isize, col as isize).unsigned_abs();
                    let target = &mut target[at..][..channels];
                    target.fill(T::LEAST);
                    for sy in reach(y, row, from.height) {
                        for sx in reach(x, col, from.width) {
                            let at = from.at(sy as isize, sx as isize).unsigned_abs();
                            for (most, value) in target.iter_mut().zip(&source[at..][..channels]) {
                                *most = if *value > *most { *value } else { *most };
                            }
                        }
                    }
                }
            }
        }
    );
}

/// [`largest`] of levels.
///
/// # Panics
/// If a buffer is too small.
pub fn largest_levels(
    cpu: Cpu,
    axes: (Axis, Axis),
    (from, source): (&Plane, &[u8]),
    (to, target): (&Plane, &mut [u8]),
) {
    if cpu.isa().flip() == 0 {
        return largest(cpu, axes, (from, source), (to, target));
    }
    // SAFETY: u8 and i8 have the same size, and every value of either is one of the other
    let source = unsafe { core::slice::from_raw_parts(source.as_ptr().cast::<i8>(), source.len()) };
    // SAFETY: as above, and it is borrowed alone
    let target = unsafe { core::slice::from_raw_parts_mut(target.as_mut_ptr().cast::<i8>(), target.len()) };
    largest(cpu, axes, (from, source), (to, target));
}

/// Channels whose sums are made at once.
const BLOCK: usize = 16;

/// The mean of each channel, into a plane of one pixel: four sums of every fourth pixel, as onnxruntime has them, in float32.
///
/// # Panics
/// If a buffer is too small.
fn mean_of_all(cpu: Cpu, (from, source): (&Plane, &[f32]), (to, target): (&Plane, &mut [f32])) {
    let count = (from.height * from.width) as f32;
    // as many pixels as fill all four sums; the rest is added behind
    let whole = from.height * from.width / 4 * 4;
    wide!(cpu, (from: &Plane, source: &[f32], to: &Plane, target: &mut [f32], count: f32, whole: usize), {
        let mut first = 0;
        while first < from.channels {
            let block = BLOCK.min(from.channels - first);
            let mut sums = [[0.0f32; BLOCK]; 4];
            let mut rest = [[0.0f32; BLOCK]; 3];
            for row in 0..from.height {
                for col in 0..from.width {
                    let pixel = row * from.width + col;
                    let at = from.at(row as isize, col as isize).unsigned_abs() + first;
                    let values = &source[at..][..block];
                    if pixel < whole {
                        sums[pixel % 4].iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
                    } else {
                        rest[pixel - whole][..block].copy_from_slice(values);
                    }
                }
            }
            let at = to.at(0, 0).unsigned_abs() + first;
            for (channel, to) in target[at..][..block].iter_mut().enumerate() {
                let [a, b, c, d] = [0, 1, 2, 3].map(|part: usize| sums[part][channel]);
                let sum = (a + c) + (b + d);
                *to = rest.iter().fold(sum, |sum, values| sum + values[channel]) / count;
            }
            first += block;
        }
    });
}

/// The mean of each window, channel by channel. `pooling` says what counts. Rows of a window are added up one after the other,
/// from left to right, in float32.
///
/// # Panics
/// If a buffer is too small.
pub fn mean(
    cpu: Cpu,
    pooling: Pooling,
    (y, x): (Axis, Axis),
    (from, source): (&Plane, &[f32]),
    (to, target): (&Plane, &mut [f32]),
) {
    let all = (y.kernel, x.kernel, y.padding, x.padding) == (from.height, from.width, 0, 0);
    if all && pooling == Pooling::Mean && to.is_pixel() {
        return mean_of_all(cpu, (from, source), (to, target));
    }
    let channels = from.channels.min(to.channels);
    wide!(
        cpu,
        (pooling: Pooling, y: Axis, x: Axis, from: &Plane, source: &[f32], to: &Plane, target: &mut [f32], channels: usize),
        {
        for row in 0..to.height {
            for col in 0..to.width {
                let at = to.at(row as isize, col as isize).unsigned_abs();
                let target = &mut target[at..][..channels];
                target.fill(0.0);
                let (rows, cols) = (reach(y, row, from.height), reach(x, col, from.width));
                let count = match pooling {
                    Pooling::PaddedMean { bottom, right } => {
                        padded(y, row, from.height + bottom) * padded(x, col, from.width + right)
                    }
                    _ => rows.clone().count() * cols.clone().count(),
                };
                for sy in rows {
                    for sx in cols.clone() {
                        let at = from.at(sy as isize, sx as isize).unsigned_abs();
                        for (sum, value) in target.iter_mut().zip(&source[at..][..channels]) {
                            *sum += value;
                        }
                    }
                }
                let count = count.max(1) as f32;
                target.iter_mut().for_each(|sum| *sum /= count);
            }
        }
    });
}

/// The mean of each channel's levels, as levels: the sum of all, exactly, times `scale` (that of the levels, over that of what
/// is made and the number of pixels), rounded half to even.
///
/// # Panics
/// If a buffer is too small.
pub fn mean_levels(
    cpu: Cpu,
    (scale, zero, made_zero): (f32, u8, u8),
    (from, source): (&Plane, &[u8]),
    (to, target): (&Plane, &mut [u8]),
) {
    let isa = cpu.isa();
    let pixels = (from.height * from.width) as i32;
    wide!(cpu, (isa: Isa, scale: f32, zero: u8, made_zero: u8, from: &Plane, source: &[u8], to: &Plane, target: &mut [u8], pixels: i32), {
        let mut first = 0;
        while first < from.channels {
            let block = BLOCK.min(from.channels - first);
            let mut sums = [0i32; BLOCK];
            for row in 0..from.height {
                for col in 0..from.width {
                    let at = from.at(row as isize, col as isize).unsigned_abs() + first;
                    for (sum, at) in sums.iter_mut().zip(&source[at..][..block]) {
                        *sum = sum.wrapping_add(i32::from(flipped(isa, *at)));
                    }
                }
            }
            let at = to.at(0, 0).unsigned_abs() + first;
            for (to, sum) in target[at..][..block].iter_mut().zip(sums) {
                let sum = sum.wrapping_sub(pixels.wrapping_mul(zero.into()));
                *to = flipped(isa, level(sum as f32 * scale, 1.0, made_zero));
            }
            first += block;
        }
    });
}

/// Taps up to the end of the padding behind.
fn padded(axis: Axis, at: usize, end: usize) -> usize {
    let first = (at * axis.stride) as isize - axis.padding as isize;
    (0..axis.kernel).filter(|tap| first + ((tap * axis.dilation) as isize) < end as isize).count()
}

/// The inputs of each output along one axis, and how much each counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// Of each output: places, `taps` of them.
    places: Vec<u32>,
    weights: Vec<f32>,
    taps: usize,
}

impl Weights {
    /// `taps` places and weights of each output, one after the other.
    ///
    /// # Errors
    /// If there are not as many of both, or no whole number of outputs.
    pub fn new(places: Vec<u32>, weights: Vec<f32>, taps: usize) -> Result<Self, Mismatch> {
        if taps == 0 || places.len() != weights.len() || !places.len().is_multiple_of(taps) {
            return Err(Mismatch("an axis with another number of weights than of places"));
        }
        Ok(Self { places, weights, taps })
    }

    /// Outputs.
    pub fn outputs(&self) -> usize {
        self.places.len() / self.taps
    }

    fn of(&self, output: usize) -> impl Iterator<Item = (usize, f32)> + '_ {
        let range = output * self.taps..(output + 1) * self.taps;
        self.places[range.clone()]
            .iter()
            .map(|place| *place as usize)
            .zip(self.weights[range].iter().copied())
    }
}

/// A picture in another size: each output is a weighted sum of some inputs along both axes.
#[derive(Clone, Debug)]
pub struct Resize {
    y: Weights,
    x: Weights,
    /// A row of the source, combined of several.
    row: Vec<f32>,
}

impl Resize {
    /// Between two planes.
    ///
    /// # Errors
    /// If an axis has another number of outputs than the target, a place outside of the source, or the channels differ.
    pub fn new(y: Weights, x: Weights, from: &Plane, to: &Plane) -> Result<Self, Mismatch> {
        let fits = |axis: &Weights, size: usize, made: usize| {
            axis.outputs() == made && axis.places.iter().all(|place| (*place as usize) < size)
        };
        if !fits(&y, from.height, to.height)
            || !fits(&x, from.width, to.width)
            || from.channels != to.channels
        {
            return Err(Mismatch("an axis of a resize that does not fit its pictures"));
        }
        let row = vec![0.0; from.width * from.channels];
        Ok(Self { y, x, row })
    }

    /// Rows first, then columns, in float32.
    ///
    /// # Panics
    /// If planes are not those it was made for, or a buffer is too small.
    pub fn run(&mut self, cpu: Cpu, (from, source): (&Plane, &[f32]), (to, target): (&Plane, &mut [f32])) {
        let Self { y, x, row: combined } = self;
        let channels = from.channels;
        let (y, x, combined): (&Weights, &Weights, &mut [f32]) = (y, x, combined);
        wide!(cpu, (y: &Weights, x: &Weights, combined: &mut [f32], channels: usize, from: &Plane, source: &[f32], to: &Plane, target: &mut [f32]), {
            for row in 0..to.height {
                for (tap, (place, weight)) in y.of(row).enumerate() {
                    let source = &source[from.at(place as isize, 0).unsigned_abs()..][..combined.len()];
                    for (sum, value) in combined.iter_mut().zip(source) {
                        *sum = if tap == 0 { weight * value } else { *sum + weight * value };
                    }
                }
                let at = to.at(row as isize, 0).unsigned_abs();
                let pixels = target[at..][..to.width * channels].chunks_exact_mut(channels);
                for (col, pixel) in pixels.enumerate() {
                    for (tap, (place, weight)) in x.of(col).enumerate() {
                        for (sum, value) in pixel.iter_mut().zip(&combined[place * channels..][..channels]) {
                            *sum = if tap == 0 { weight * value } else { *sum + weight * value };
                        }
                    }
                }
            }
        });
    }
}
