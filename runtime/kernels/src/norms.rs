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
    /// Of channels: sums in 64 bits, means, and what a row sums to, then factors.
    sums: Vec<f64>,
    means: Vec<f32>,
    of_row: Vec<f32>,
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
        let (sums, means, of_row) = (vec![0.0; channels], vec![0.0; channels], vec![0.0; channels]);
        Ok(Self { over, epsilon, scale, shift, sums, means, of_row })
    }

    /// Runs it between planes of the same picture.
    ///
    /// # Panics
    /// If a buffer is too small.
    pub fn run(&mut self, cpu: Cpu, (from, source): (&Plane, &[f32]), (to, target): (&Plane, &mut [f32])) {
        let norm = self;
        wide!(
            cpu,
            (norm: &mut Norm, from: &Plane, source: &[f32], to: &Plane, target: &mut [f32]),
            {
                match norm.over {
                    Over::Channels(channels) => norm.channels(channels, (from, source), (to, target)),
                    Over::Pixel => norm.pixels((from, source), (to, target)),
                    Over::Row => norm.rows((from, source), (to, target)),
                }
            }
        );
    }

    /// Rows are summed in float32, and their sums in float64.
    #[inline(always)]
    fn channels(
        &mut self,
        of_group: usize,
        (from, source): (&Plane, &[f32]),
        (to, target): (&Plane, &mut [f32]),
    ) {
        let Self { epsilon, scale, shift, sums, means, of_row, .. } = self;
        let channels = from.channels;
        let count = (from.height * from.width * of_group) as f64;
        let row_of = |row: usize| &source[from.at(row as isize, 0).unsigned_abs()..][..from.width * channels];
        sums.fill(0.0);
        for row in 0..from.height {
            of_row.fill(0.0);
            for pixel in row_of(row).chunks_exact(channels) {
                for (sum, value) in of_row.iter_mut().zip(pixel) {
                    *sum += value;
                }
            }
            for (sum, of_row) in sums.iter_mut().zip(of_row.iter()) {
                *sum += f64::from(*of_row);
            }
        }
        for group in sums.chunks_exact_mut(of_group) {
            group.fill(group.iter().sum::<f64>() / count);
        }
        for (mean, sum) in means.iter_mut().zip(sums.iter_mut()) {
            *mean = *sum as f32;
            *sum = 0.0;
        }
        for row in 0..from.height {
            of_row.fill(0.0);
            for pixel in row_of(row).chunks_exact(channels) {
                for ((sum, value), mean) in of_row.iter_mut().zip(pixel).zip(means.iter()) {
                    let distance = value - mean;
                    *sum += distance * distance;
                }
            }
            for (sum, of_row) in sums.iter_mut().zip(of_row.iter()) {
                *sum += f64::from(*of_row);
            }
        }
        for group in sums.chunks_exact_mut(of_group) {
            group.fill(group.iter().sum::<f64>() / count);
        }
        let factors = of_row;
        for ((factor, scale), variance) in factors.iter_mut().zip(scale.iter()).zip(sums.iter()) {
            *factor = scale * inverse_root(*variance, *epsilon);
        }
        for row in 0..from.height {
            let at = to.at(row as isize, 0).unsigned_abs();
            let made = target[at..][..to.width * channels].chunks_exact_mut(channels);
            for (made, pixel) in made.zip(row_of(row).chunks_exact(channels)) {
                let moments = means.iter().zip(factors.iter()).zip(shift.iter());
                for ((made, value), ((mean, factor), shift)) in made.iter_mut().zip(pixel).zip(moments) {
                    // a mean that is large beside the deviation would leave rounding alone of a shift that it is taken from
                    *made = (value - mean) * factor + shift;
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
#[derive(Clone, Debug)]
pub struct Softmax {
    among: Among,
    /// The largest of values that belong together, side by side, then what their powers are multiplied by; and their sums.
    largest: Vec<f32>,
    sums: Vec<f64>,
}

impl Softmax {
    /// Of a plane.
    pub fn new(among: Among, plane: &Plane) -> Self {
        let side_by_side = match among {
            Among::Channels => 0,
            Among::Columns => plane.channels,
            Among::Rows => plane.channels * plane.width,
        };
        Self { among, largest: vec![0.0; side_by_side], sums: vec![0.0; side_by_side] }
    }

    /// Runs it between planes of the same picture.
    ///
    /// # Panics
    /// If planes are not of the size it was made for, or a buffer is too small.
    pub fn run(&mut self, cpu: Cpu, (from, source): (&Plane, &[f32]), (to, target): (&Plane, &mut [f32])) {
        let softmax = self;
        wide!(
            cpu,
            (softmax: &mut Softmax, from: &Plane, source: &[f32], to: &Plane, target: &mut [f32]),
            { softmax.here((from, source), (to, target)) }
        );
    }

    #[inline(always)]
    fn here(&mut self, (from, source): (&Plane, &[f32]), (to, target): (&Plane, &mut [f32])) {
        let channels = from.channels;
        match self.among {
            Among::Channels => {
                for row in 0..from.height {
                    for col in 0..from.width {
                        let at = from.at(row as isize, col as isize).unsigned_abs();
                        let made = to.at(row as isize, col as isize).unsigned_abs();
                        softmax_of(&source[at..][..channels], &mut target[made..][..channels]);
                    }
                }
            }
            Among::Columns => {
                for row in 0..from.height {
                    let at = from.at(row as isize, 0).unsigned_abs();
                    let made = to.at(row as isize, 0).unsigned_abs();
                    self.side_by_side(&source[at..], &mut target[made..], from.width, (channels, channels));
                }
            }
            Among::Rows => {
                let (at, made) = (from.at(0, 0).unsigned_abs(), to.at(0, 0).unsigned_abs());
                let steps = (from.row(), to.row());
                self.side_by_side(&source[at..], &mut target[made..], from.height, steps);
            }
        }
    }

    /// Lines of values, of which those at the same place of each belong together.
    #[inline(always)]
    fn side_by_side(&mut self, source: &[f32], target: &mut [f32], lines: usize, steps: (usize, usize)) {
        let Self { largest, sums, .. } = self;
        let length = largest.len();
        largest.fill(f32::NEG_INFINITY);
        sums.fill(0.0);
        for line in 0..lines {
            for (most, value) in largest.iter_mut().zip(&source[line * steps.0..][..length]) {
                *most = if *value > *most { *value } else { *most };
            }
        }
        for line in 0..lines {
            let values = &source[line * steps.0..][..length];
            let made = &mut target[line * steps.1..][..length];
            for ((made, value), most) in made.iter_mut().zip(values).zip(largest.iter()) {
                *made = exp(value - most);
            }
            for (sum, made) in sums.iter_mut().zip(made.iter()) {
                *sum += f64::from(*made);
            }
        }
        for (part, sum) in largest.iter_mut().zip(sums.iter()) {
            *part = (1.0 / sum) as f32;
        }
        for line in 0..lines {
            for (made, part) in target[line * steps.1..][..length].iter_mut().zip(largest.iter()) {
                *made *= part;
            }
        }
    }
}

#[inline(always)]
fn softmax_of(source: &[f32], target: &mut [f32]) {
    let largest = source.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for (target, value) in target.iter_mut().zip(source) {
        *target = exp(value - largest);
    }
    let sum: f64 = target.iter().copied().map(f64::from).sum();
    let part = (1.0 / sum) as f32;
    target.iter_mut().for_each(|value| *value *= part);
}
