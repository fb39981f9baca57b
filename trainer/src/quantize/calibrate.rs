//! Which range of a tensor's numbers uint8 holds.
//!
//! All calibrators see a histogram of the tensor over the calibration set, computed in float32:
//! - minmax: everything;
//! - percentile: all but the outermost numbers;
//! - entropy: the range whose 256 levels keep most of the distribution, by the Kullback-Leibler divergence
//!   (S. Migacz, "8-bit inference with TensorRT", 2017);
//! - mse: the range with the smallest mean error to the power of 2.4, that of what is outside counted; where the
//!   tensor enters a tanh or sigmoid alone, the error behind it.

use serde::{Deserialize, Serialize};

use crate::graph::Activation;

/// Bins of a histogram.
const BINS: usize = 4096;
/// Levels of uint8.
const LEVELS: f64 = 255.0;
/// Power of an error in the cost of a range: a little more than a square, so that what is clipped counts more. Of
/// 1,000 pictures of mnist-gan the mean PSNR was 46.8, 46.4, 46.1 dB and the worst 35.1, 36.8, 38.2 with powers of 2,
/// 2.4 and 3 (LAPQ, Y. Nahshan et al., 2020, uses a power between 2 and 4 too).
const EXPONENT: f64 = 2.4;

/// How the range is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Calibrator {
    /// From the smallest to the largest number.
    MinMax,
    /// All but this part of the numbers, in per cent that are kept.
    Percentile(f64),
    /// Smallest Kullback-Leibler divergence.
    Entropy,
    /// Smallest mean error to a power a little above two.
    Mse,
}

/// How real numbers are held in uint8: real = scale · (level − zero point).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Encoding {
    /// Distance of two levels.
    pub scale: f32,
    /// The level that holds 0.
    pub zero_point: u8,
}

impl Encoding {
    /// That of numbers from `low` to `high`; zero is always among them.
    pub fn of_range(low: f64, high: f64) -> Self {
        let (low, high) = (low.min(0.0), high.max(0.0));
        let scale = ((high - low) / LEVELS).max(f64::from(f32::MIN_POSITIVE)) as f32;
        if high <= low {
            // a tensor of zeros
            return Self { scale: 1.0, zero_point: 0 };
        }
        let zero_point = (-low / f64::from(scale)).round_ties_even().clamp(0.0, LEVELS) as u8;
        Self { scale, zero_point }
    }

    /// (smallest, largest) number that it holds.
    pub fn range(self) -> (f32, f32) {
        let zero = f32::from(self.zero_point);
        (-zero * self.scale, (255.0 - zero) * self.scale)
    }

    /// The number that comes back: round half to even, saturated.
    pub fn round(self, value: f32) -> f32 {
        let zero = f32::from(self.zero_point);
        (value / self.scale).max(-zero).min(255.0 - zero).round_ties_even() * self.scale
    }
}

/// The numbers of a tensor, counted.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    pub(super) low: f32,
    pub(super) high: f32,
    counts: Vec<u64>,
    /// Zeros, which every encoding holds exactly, stand beside.
    zeros: u64,
}

impl Histogram {
    /// Of numbers from `low` to `high`.
    pub(super) fn new(low: f32, high: f32) -> Self {
        Self { low, high, counts: vec![0; BINS], zeros: 0 }
    }

    pub(super) fn add(&mut self, values: &[f32]) {
        let factor = BINS as f32 / (self.high - self.low).max(f32::MIN_POSITIVE);
        for value in values {
            if *value == 0.0 {
                self.zeros += 1;
            } else {
                let bin = ((value - self.low) * factor) as usize;
                self.counts[bin.min(BINS - 1)] += 1;
            }
        }
    }

    /// (middle, count) of the bins that hold numbers.
    fn bins(&self) -> impl Iterator<Item = (f64, f64)> {
        let width = f64::from(self.high - self.low) / BINS as f64;
        let middle = move |bin: usize| f64::from(self.low) + (bin as f64 + 0.5) * width;
        let held = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        held.map(move |(bin, count)| (middle(bin), *count as f64))
    }

    /// The part of the numbers that `encoding` clips, by more than half a level.
    pub(super) fn clipped(&self, encoding: Encoding) -> f64 {
        let (low, high) = encoding.range();
        let slack = 0.5 * encoding.scale;
        let outside = |value: f64| value < f64::from(low - slack) || value > f64::from(high + slack);
        let total = self.zeros as f64 + self.bins().map(|(_, count)| count).sum::<f64>();
        let clipped: f64 = self.bins().filter(|(value, _)| outside(*value)).map(|(_, count)| count).sum();
        clipped / total.max(1.0)
    }

    /// The encoding that `calibrator` chooses; `enters` is what the numbers enter, if that is all they do.
    pub(super) fn encoding(&self, calibrator: Calibrator, enters: Option<Activation>) -> Encoding {
        let (low, high) = (f64::from(self.low).min(0.0), f64::from(self.high).max(0.0));
        match calibrator {
            Calibrator::MinMax => Encoding::of_range(low, high),
            Calibrator::Percentile(kept) => {
                let (low, high) = self.percentile(kept);
                Encoding::of_range(low, high)
            }
            Calibrator::Entropy => best(low, high, |low, high| self.divergence(low, high)),
            Calibrator::Mse => best(low, high, |low, high| self.error(Encoding::of_range(low, high), enters)),
        }
    }

    fn percentile(&self, kept: f64) -> (f64, f64) {
        let total: f64 = self.bins().map(|(_, count)| count).sum();
        let outside = (1.0 - kept / 100.0).max(0.0) * total;
        // what is not negative has one tail
        let (below, above) = if self.low >= 0.0 { (0.0, outside) } else { (outside / 2.0, outside / 2.0) };
        let find = |bins: &mut dyn Iterator<Item = (f64, f64)>, tail: f64| {
            let mut seen = 0.0;
            for (value, count) in bins {
                seen += count;
                if seen > tail {
                    return value;
                }
            }
            0.0
        };
        let all: Vec<(f64, f64)> = self.bins().collect();
        (find(&mut all.iter().copied(), below), find(&mut all.iter().rev().copied(), above))
    }

    /// Σ of errors to the power [`EXPONENT`].
    fn error(&self, encoding: Encoding, enters: Option<Activation>) -> f64 {
        let behind = |value: f64| match enters {
            Some(Activation::Tanh) => value.tanh(),
            Some(Activation::Sigmoid) => 1.0 / (1.0 + (-value).exp()),
            _ => value,
        };
        let scale = f64::from(encoding.scale);
        let (low, high) = encoding.range();
        let inside_a_level = |value: f64| {
            // bins may be as wide as a level: the mean error inside is the best guess
            if value > f64::from(low) && value < f64::from(high) {
                let slope = (behind(value + 0.5 * scale) - behind(value - 0.5 * scale)) / scale;
                return (slope * scale * 0.5).abs().powf(EXPONENT) / (EXPONENT + 1.0);
            }
            let error = behind(f64::from(encoding.round(value as f32))) - behind(value);
            error.abs().powf(EXPONENT)
        };
        self.bins().map(|(value, count)| count * inside_a_level(value)).sum()
    }

    /// KL(P‖Q): P the distribution inside the range, what is outside at its ends; Q what 256 levels keep of it.
    fn divergence(&self, low: f64, high: f64) -> f64 {
        let width = (high - low) / 256.0;
        if width <= 0.0 {
            return f64::INFINITY;
        }
        let level = |value: f64| (((value - low) / width) as usize).min(255);
        // Q is made of what is inside alone, evenly over the bins of a level
        let (mut mass, mut bins) = (vec![0f64; 256], vec![0f64; 256]);
        let mut inside = 0.0;
        for (value, count) in self.bins().filter(|(value, _)| (low..=high).contains(value)) {
            mass[level(value)] += count;
            bins[level(value)] += 1.0;
            inside += count;
        }
        let total: f64 = self.bins().map(|(_, count)| count).sum();
        if inside <= 0.0 {
            return f64::INFINITY;
        }
        let (mut below, mut above) = (0.0, 0.0);
        for (value, count) in self.bins() {
            if value < low {
                below += count;
            } else if value > high {
                above += count;
            }
        }
        let held: Vec<(f64, f64)> = self.bins().filter(|(value, _)| (low..=high).contains(value)).collect();
        let last = held.len().saturating_sub(1);
        let mut sum = 0.0;
        for (index, (value, count)) in held.into_iter().enumerate() {
            let extra = if index == 0 { below } else { 0.0 } + if index == last { above } else { 0.0 };
            let p = (count + extra) / total;
            let q = mass[level(value)] / bins[level(value)] / inside;
            sum += p * (p / q).ln();
        }
        sum
    }
}

/// The range inside (low, high) with the smallest `cost`: both ends drawn in alike, then each for itself.
fn best(low: f64, high: f64, cost: impl Fn(f64, f64) -> f64) -> Encoding {
    const STEPS: usize = 64;
    // ranges down to 1/STEPS of the whole
    let part = |step: usize| (step + 1) as f64 / STEPS as f64;
    let mut found = (f64::INFINITY, low, high);
    let mut consider = |low: f64, high: f64| {
        let cost = cost(low, high);
        if cost < found.0 {
            found = (cost, low, high);
        }
        (found.1, found.2)
    };
    let mut ends = (low, high);
    for step in 0..STEPS {
        ends = consider(low * part(step), high * part(step));
    }
    for _ in 0..2 {
        for step in 0..STEPS {
            ends = consider(ends.0, high * part(step));
        }
        if low < 0.0 {
            for step in 0..STEPS {
                ends = consider(low * part(step), ends.1);
            }
        }
    }
    Encoding::of_range(ends.0, ends.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(count: usize) -> Vec<f32> {
        use crate::random::{Purpose, Stream};
        let mut values = vec![0f32; count];
        Stream::new(3, Purpose::Generator, 0).fill_normal(&mut values);
        values
    }

    fn histogram(values: &[f32]) -> Histogram {
        let low = values.iter().copied().fold(f32::INFINITY, f32::min);
        let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut histogram = Histogram::new(low, high);
        histogram.add(values);
        histogram
    }

    fn error(values: &[f32], encoding: Encoding) -> f64 {
        values.iter().map(|value| f64::from(encoding.round(*value) - value).powi(2)).sum::<f64>()
            / values.len() as f64
    }

    #[test]
    fn zero_is_always_held_exactly() {
        for (low, high) in [(-1.0, 3.0), (0.2, 5.0), (-4.0, -0.5), (-1e-3, 1e3), (0.0, 1.0)] {
            let encoding = Encoding::of_range(low, high);
            assert_eq!(encoding.round(0.0), 0.0, "{low} {high}");
            let (held_low, held_high) = encoding.range();
            let level = f64::from(encoding.scale) * 0.51;
            assert!(
                f64::from(held_low) <= low.max(0.0) + level && f64::from(held_high) >= high.min(0.0) - level
            );
        }
        assert_eq!(Encoding::of_range(0.0, 1.0), Encoding { scale: 1.0 / 255.0, zero_point: 0 });
        assert_eq!(Encoding::of_range(0.0, 0.0).round(0.0), 0.0);
    }

    #[test]
    fn levels_are_rounded_half_to_even_and_saturate() {
        let encoding = Encoding { scale: 0.5, zero_point: 3 };
        let cases =
            [(0.25, 0.0), (0.75, 1.0), (-0.25, 0.0), (-0.75, -1.0), (-9.0, -1.5), (500.0, 126.0), (1.1, 1.0)];
        for (value, expected) in cases {
            assert_eq!(encoding.round(value), expected, "{value}");
        }
    }

    #[test]
    fn an_outlier_is_given_up_by_all_but_minmax() {
        let mut values = normal(100_000);
        values.push(60.0);
        let histogram = histogram(&values);
        let of = |calibrator| histogram.encoding(calibrator, None);
        let minmax = of(Calibrator::MinMax);
        assert!(minmax.range().1 > 59.0);
        for calibrator in [Calibrator::Percentile(99.99), Calibrator::Entropy] {
            let encoding = of(calibrator);
            assert!(encoding.range().1 < 30.0, "{calibrator:?}: {:?}", encoding.range());
        }
        // its error counts too, so that less of it is given up
        let mse = of(Calibrator::Mse);
        let narrower = mse.range().1 < 0.99 * minmax.range().1;
        assert!(narrower && error(&values, mse) < error(&values, minmax), "{:?}", mse.range());
    }

    #[test]
    fn mse_finds_a_range_that_none_of_a_grid_beats() {
        let values = normal(50_000);
        let found = error(&values, histogram(&values).encoding(Calibrator::Mse, None));
        for end in 20..45 {
            let other = error(&values, Encoding::of_range(-f64::from(end) / 10.0, f64::from(end) / 10.0));
            assert!(found <= other * 1.02, "{found} at {end}: {other}");
        }
    }

    #[test]
    fn before_a_tanh_the_flat_parts_do_not_count() {
        let values: Vec<f32> = normal(50_000).iter().map(|value| value * 8.0).collect();
        let histogram = histogram(&values);
        let plain = histogram.encoding(Calibrator::Mse, None);
        let tanh = histogram.encoding(Calibrator::Mse, Some(Activation::Tanh));
        assert!(tanh.range().1 < 0.4 * plain.range().1, "{:?} {:?}", tanh.range(), plain.range());
        let behind = |encoding: Encoding| {
            values.iter().map(|x| f64::from(encoding.round(*x).tanh() - x.tanh()).powi(2)).sum::<f64>()
        };
        assert!(behind(tanh) < 0.5 * behind(plain));
    }
}
