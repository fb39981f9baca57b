//! What is made of many values at once: norms of one picture, softmax, products of two matrices. Sums are of float64 in one
//! order, so that all CPUs agree to the bit.

use alloc::vec;
use alloc::vec::Vec;

use crate::cpu::Cpu;
use crate::function::exp;
use crate::plane::Plane;
use crate::quantized::Mismatch;
use crate::wide::wide;

/// Values that share a mean and a variance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// All pixels of so many channels, one behind the other: 1 is an instance norm.
    Channels(usize),
    /// The channels of each pixel.
    Pixel,
    /// The pixels of each row.
    Row,
}

/// (value − mean) / √(variance + ε) · scale + shift.
#[derive(Clone, Debug)]
pub struct Norm {
    over: Over,
    epsilon: f32,
    scale: Vec<f32>,
    shift: Vec<f32>,
    /// Sums of channels, and factors and summands of them.
    sums: Vec<f64>,
    factors: Vec<f32>,
    summands: Vec<f32>,
}

impl Norm {
    /// Of a plane. Of channels and pixels, `scale` and `shift` belong to channels; of rows, to columns.
    ///
    /// # Errors
    /// If they have another number, or groups do not divide the channels.
    pub fn new(
        over: Over,
        epsilon: f32,
        (scale, shift): (Vec<f32>, Vec<f32>),
        plane: &Plane,
    ) -> Result<Self, Mismatch> {
        let count = if over == Over::Row { plane.width } else { plane.channels };
        if scale.len() != count || shift.len() != count {
            return Err(Mismatch("a norm's factors have another number than what they belong to"));
        }
        if let Over::Channels(channels) = over
            && (channels == 0 || !plane.channels.is_multiple_of(channels))
        {
            return Err(Mismatch("a norm's groups do not divide the channels"));
        }
        let channels = plane.channels;
        let (sums, factors, summands) = (vec![0.0; channels], vec![0.0; channels], vec![0.0; channels]);
        Ok(Self { over, epsilon, scale, shift, sums, factors, summands })
    }

    /// Runs it between planes of the same picture.
    ///
    /// # Panics
    /// If a buffer is too small.
    pub fn run(&mut self, cpu: Cpu, (from, source): (&Plane, &[f32]), (to, target): (&Plane, &mut [f32])) {
        match self.over {
            Over::Channels(channels) => {
                wide(cpu, || self.channels(channels, (from, source), (to, target)));
            }
            Over::Pixel => wide(cpu, || self.pixels((from, source), (to, target))),
            Over::Row => wide(cpu, || self.rows((from, source), (to, target))),
        }
    }

    #[inline(always)]
    fn channels(
        &mut self,
        of_group: usize,
        (from, source): (&Plane, &[f32]),
        (to, target): (&Plane, &mut [f32]),
    ) {
        let Self { epsilon, scale, shift, sums, factors, summands, .. } = self;
        let channels = from.channels;
        let count = (from.height * from.width * of_group) as f64;
        let pixels = |row: usize| {
            source[from.at(row as isize, 0).unsigned_abs()..][..from.width * channels].chunks_exact(channels)
        };
        let together = |sums: &mut [f64]| {
            for group in sums.chunks_exact_mut(of_group) {
                let mean = group.iter().sum::<f64>() / count;
                group.fill(mean);
            }
        };
        sums.fill(0.0);
        for pixel in (0..from.height).flat_map(pixels) {
            sums.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        together(sums);
        // means, for the pass over their distances
        factors.iter_mut().zip(sums.iter()).for_each(|(mean, sum)| *mean = *sum as f32);
        sums.fill(0.0);
        for pixel in (0..from.height).flat_map(pixels) {
            for ((sum, value), mean) in sums.iter_mut().zip(pixel).zip(factors.iter()) {
                let distance = f64::from(value - mean);
                *sum += distance * distance;
            }
        }
        together(sums);
        for channel in 0..channels {
            let mean = factors[channel];
            factors[channel] = scale[channel] * inverse_root(sums[channel], *epsilon);
            summands[channel] = shift[channel] - mean * factors[channel];
        }
        for row in 0..from.height {
            let at = to.at(row as isize, 0).unsigned_abs();
            let made = target[at..][..to.width * channels].chunks_exact_mut(channels);
            for (made, pixel) in made.zip(pixels(row)) {
                for (((made, value), factor), summand) in
                    made.iter_mut().zip(pixel).zip(factors.iter()).zip(summands.iter())
                {
                    *made = value * factor + summand;
                }
            }
        }
    }

    #[inline(always)]
    fn pixels(&self, (from, source): (&Plane, &[f32]), (to, target): (&Plane, &mut [f32])) {
        let channels = from.channels;
        for row in 0..from.height {
            for col in 0..from.width {
                let values = &source[from.at(row as isize, col as isize).unsigned_abs()..][..channels];
                let made = &mut target[to.at(row as isize, col as isize).unsigned_abs()..][..channels];
                let (mean, factor) = moments(values.iter().copied(), self.epsilon);
                for (channel, (made, value)) in made.iter_mut().zip(values).enumerate() {
                    *made = (value - mean) * factor * self.scale[channel] + self.shift[channel];
                }
            }
        }
    }

    #[inline(always)]
    fn rows(&self, (from, source): (&Plane, &[f32]), (to, target): (&Plane, &mut [f32])) {
        for row in 0..from.height {
            let (first, made) =
                (from.at(row as isize, 0).unsigned_abs(), to.at(row as isize, 0).unsigned_abs());
            for channel in 0..from.channels {
                let values = |col: usize| source[first + col * from.channels + channel];
                let (mean, factor) = moments((0..from.width).map(values), self.epsilon);
                for col in 0..from.width {
                    target[made + col * to.channels + channel] =
                        (values(col) - mean) * factor * self.scale[col] + self.shift[col];
                }
            }
        }
    }
}

fn inverse_root(variance: f64, epsilon: f32) -> f32 {
    (1.0 / libm::sqrt(variance + f64::from(epsilon))) as f32
}

/// Mean, and 1 / √(variance + ε).
#[inline(always)]
fn moments(values: impl Iterator<Item = f32> + Clone, epsilon: f32) -> (f32, f32) {
    let count = values.clone().count() as f64;
    let mean = (values.clone().map(f64::from).sum::<f64>() / count) as f32;
    let distances = values.map(|value| f64::from(value - mean));
    let variance = distances.map(|distance| distance * distance).sum::<f64>() / count;
    (mean, inverse_root(variance, epsilon))
}

/// Values of a softmax.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Among {
    /// The channels of each pixel; those of a vector.
    Channels,
    /// The pixels of each row.
    Columns,
    /// The pixels of each column.
    Rows,
}

/// e^x of some values, divided by their sum: powers in float32, sums in float64.
///
/// # Panics
/// If a buffer is too small.
pub fn softmax(cpu: Cpu, among: Among, (from, source): (&Plane, &[f32]), (to, target): (&Plane, &mut [f32])) {
    let channels = from.channels;
    // how many values, and how far apart in either plane
    let (count, step, made_step) = match among {
        Among::Channels => (channels, 1, 1),
        Among::Columns => (from.width, channels, channels),
        Among::Rows => (from.height, from.row(), to.row()),
    };
    let (rows, cols) = match among {
        Among::Channels => (from.height, from.width),
        Among::Columns => (from.height, 1),
        Among::Rows => (1, from.width),
    };
    wide(cpu, || {
        for row in 0..rows {
            for col in 0..cols {
                let at = from.at(row as isize, col as isize).unsigned_abs();
                let made = to.at(row as isize, col as isize).unsigned_abs();
                if among == Among::Channels {
                    softmax_of(&source[at..][..channels], &mut target[made..][..channels]);
                } else {
                    side_by_side(&source[at..], &mut target[made..], channels, (count, step, made_step));
                }
            }
        }
    });
}

#[inline(always)]
fn softmax_of(source: &[f32], target: &mut [f32]) {
    let largest = source.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    target.iter_mut().zip(source).for_each(|(target, value)| *target = exp(value - largest));
    let sum: f64 = target.iter().copied().map(f64::from).sum();
    let part = (1.0 / sum) as f32;
    target.iter_mut().for_each(|value| *value *= part);
}

/// Channels whose sums fit registers.
const BLOCK: usize = 16;

/// A whole block of channels: loops of a known length.
#[inline(always)]
fn whole_block(source: &[f32], target: &mut [f32], (count, step, made_step): (usize, usize, usize)) {
    let read =
        |at: usize| -> [f32; BLOCK] { core::array::from_fn(|channel| source[at * step..][..BLOCK][channel]) };
    let mut largest = [f32::NEG_INFINITY; BLOCK];
    for at in 0..count {
        let values = read(at);
        largest = core::array::from_fn(|c| if values[c] > largest[c] { values[c] } else { largest[c] });
    }
    let mut sums = [0.0f64; BLOCK];
    for at in 0..count {
        let values = read(at);
        let powers: [f32; BLOCK] = core::array::from_fn(|channel| exp(values[channel] - largest[channel]));
        target[at * made_step..][..BLOCK].copy_from_slice(&powers);
        sums = core::array::from_fn(|channel| sums[channel] + f64::from(powers[channel]));
    }
    let parts = sums.map(|sum| (1.0 / sum) as f32);
    for at in 0..count {
        for (made, part) in target[at * made_step..][..BLOCK].iter_mut().zip(&parts) {
            *made *= part;
        }
    }
}

/// Channels at once, in blocks.
#[inline(always)]
fn side_by_side(
    source: &[f32],
    target: &mut [f32],
    channels: usize,
    (count, step, made_step): (usize, usize, usize),
) {
    let mut first = 0;
    while first < channels {
        let block = BLOCK.min(channels - first);
        if block == BLOCK {
            whole_block(&source[first..], &mut target[first..], (count, step, made_step));
            first += BLOCK;
            continue;
        }
        let mut largest = [f32::NEG_INFINITY; BLOCK];
        let mut sums = [0.0f64; BLOCK];
        for at in 0..count {
            let values = &source[first + at * step..][..block];
            for (most, value) in largest.iter_mut().zip(values) {
                *most = if *value > *most { *value } else { *most };
            }
        }
        for at in 0..count {
            let values = &source[first + at * step..][..block];
            let made = &mut target[first + at * made_step..][..block];
            for (((made, value), most), sum) in made.iter_mut().zip(values).zip(&largest).zip(&mut sums) {
                *made = exp(value - most);
                *sum += f64::from(*made);
            }
        }
        let parts = sums.map(|sum| (1.0 / sum) as f32);
        for at in 0..count {
            let made = &mut target[first + at * made_step..][..block];
            made.iter_mut().zip(&parts).for_each(|(made, part)| *made *= part);
        }
        first += block;
    }
}
