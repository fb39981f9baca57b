//! Latents: where they come from, and the way between two of them.

use crate::model::limits::{MAX_LATENT_DIM, check_count};
use crate::random::{Purpose, Stream};
use crate::{Error, Result};

/// Below this sine of the angle between two latents their directions count as parallel: the
/// weights of the spherical interpolation divide by it.
const PARALLEL: f64 = 1e-6;

/// Some latents of one size: (count, dim), row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Latents {
    values: Vec<f32>,
    count: usize,
    dim: usize,
}

/// Inverse of the standard normal's distribution function, by bisection on `erfc`.
fn normal_quantile(probability: f64) -> f64 {
    let cdf = |x: f64| 0.5 * libm::erfc(-x / std::f64::consts::SQRT_2);
    let (mut low, mut high) = (-9.0f64, 9.0f64);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if cdf(middle) < probability { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

impl Latents {
    /// Draws latents `first_index .. first_index + count` of a seed from the standard normal prior
    /// and scales them by `truncation` (1: the prior itself; less: closer to its middle).
    ///
    /// Latent `i` depends on `seed` and `i` alone: not on `count`, and not on those before it. The
    /// caller bounds `count` ([`limits::check_count`](crate::model::limits::check_count)).
    pub fn from_seed(seed: u64, first_index: u64, count: usize, dim: usize, truncation: f32) -> Self {
        let mut values = vec![0.0; count * dim];
        for (index, row) in (first_index..).zip(values.chunks_exact_mut(dim.max(1))) {
            Self::fill(seed, index, truncation, row);
        }
        Self { values, count, dim }
    }

    /// Draws latent `index` of a seed into `row`, as [`Self::from_seed`] does.
    pub fn fill(seed: u64, index: u64, truncation: f32, row: &mut [f32]) {
        Stream::new(seed, Purpose::LATENT, index).fill_normal(row);
        row.iter_mut().for_each(|value| *value *= truncation);
    }

    /// Step `step` of `steps` from one latent to another, both included, into `row`: a step of [`Self::walk`]. All are of one size.
    pub fn fill_step(from: &[f32], to: &[f32], (step, steps): (usize, usize), row: &mut [f32]) {
        match step {
            0 => row.copy_from_slice(from),
            last if last + 1 >= steps => row.copy_from_slice(to),
            _ => {
                let mixed = between(from, to, step as f64 / (steps - 1) as f64);
                row.iter_mut().zip(mixed).for_each(|(value, mixed)| *value = mixed);
            }
        }
    }

    /// Takes latents from elsewhere, row after row.
    ///
    /// # Errors
    /// If there is none, if their number is no multiple of `dim`, or if one is not finite.
    pub fn from_values(values: Vec<f32>, dim: usize) -> Result<Self> {
        if dim == 0 || dim > MAX_LATENT_DIM || values.is_empty() || !values.len().is_multiple_of(dim) {
            return Err(Error::invalid(format_args!(
                "{} values are no latents of {dim} values each",
                values.len()
            )));
        }
        check_count(values.len() / dim, dim)?;
        check_finite(&values, dim)?;
        Ok(Self { count: values.len() / dim, values, dim })
    }

    /// A walk in `frames` even steps from latent 0 of `seed_a` to latent 0 of `seed_b`, both
    /// included.
    ///
    /// Spherical linear interpolation (K. Shoemake, "Animating rotation with quaternion curves",
    /// 1985) of the direction, linear of the norm: nearly all latents of a normal prior lie close
    /// to a sphere, and a straight line would lead through its inside, where a generator has never
    /// been. Directions that are parallel or opposite are interpolated linearly. Computed in f64
    /// with `libm`, so that all platforms take the same steps. The caller bounds `frames`.
    pub fn walk(seed_a: u64, seed_b: u64, frames: usize, dim: usize) -> Self {
        let from = Self::from_seed(seed_a, 0, 1, dim, 1.0).values;
        let to = Self::from_seed(seed_b, 0, 1, dim, 1.0).values;
        let mut values = vec![0.0; frames * dim];
        for (frame, row) in values.chunks_exact_mut(dim.max(1)).enumerate() {
            Self::fill_step(&from, &to, (frame, frames), row);
        }
        Self { values, count: frames, dim }
    }

    /// A way that closes: `frames` even steps around the circle cos θ · a + sin θ · b through latent 0 of two seeds, which lie a
    /// quarter apart. Each step is a sample of the normal prior, since the two are. Computed in f64 with `libm`. The caller
    /// bounds `frames`.
    pub fn circle(seed_a: u64, seed_b: u64, frames: usize, dim: usize) -> Self {
        let a = Self::from_seed(seed_a, 0, 1, dim, 1.0).values;
        let b = Self::from_seed(seed_b, 0, 1, dim, 1.0).values;
        let mut values = Vec::with_capacity(frames * dim);
        for frame in 0..frames {
            let angle = std::f64::consts::TAU * frame as f64 / frames as f64;
            let (sine, cosine) = (libm::sin(angle), libm::cos(angle));
            values.extend(
                a.iter().zip(&b).map(|(a, b)| (cosine * f64::from(*a) + sine * f64::from(*b)) as f32),
            );
        }
        Self { values, count: frames, dim }
    }

    /// A way through latent 0 of several seeds, each at its time in seconds, which grow: a latent every `1 / rate` seconds, by
    /// [`Self::walk`]'s steps between two. The caller bounds the time.
    pub fn along(keys: &[(u64, f64)], rate: f64, dim: usize) -> Self {
        let latents: Vec<Vec<f32>> =
            keys.iter().map(|(seed, _)| Self::from_seed(*seed, 0, 1, dim, 1.0).values).collect();
        let (first, last) = (keys.first().map_or(0.0, |key| key.1), keys.last().map_or(0.0, |key| key.1));
        let count = ((last - first) * rate).round() as usize + 1;
        let mut values = Vec::with_capacity(count * dim);
        for frame in 0..count {
            let time = first + frame as f64 / rate;
            let next = keys.iter().position(|key| key.1 > time + 1e-9).unwrap_or(keys.len());
            match (next.checked_sub(1), keys.get(next)) {
                (Some(before), Some(key)) => {
                    let place = (time - keys[before].1) / (key.1 - keys[before].1);
                    match place {
                        place if place < 1e-9 => values.extend_from_slice(&latents[before]),
                        place => values.extend(between(&latents[before], &latents[next], place)),
                    }
                }
                (Some(before), None) => values.extend_from_slice(&latents[before]),
                (None, _) => values.extend_from_slice(&latents[0]),
            }
        }
        Self { values, count, dim }
    }

    /// A map of a latent of two values: `side` × `side` latents, row after row from the top, at the normal quantiles of an
    /// even grid of the unit square (D. P. Kingma and M. Welling, 2014, appendix A): the first value grows to the right,
    /// the second upwards. The caller bounds `side`.
    pub fn map(side: usize) -> Self {
        let quantiles: Vec<f32> =
            (0..side).map(|place| normal_quantile((place as f64 + 0.5) / side as f64) as f32).collect();
        let row = |y: &f32| quantiles.iter().flat_map(|x| [*x, *y]).collect::<Vec<f32>>();
        Self { values: quantiles.iter().rev().flat_map(row).collect(), count: side * side, dim: 2 }
    }

    /// All values, row after row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Number of latents.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Values of one latent.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Latent number `index`.
    ///
    /// # Panics
    /// If `index` is not below [`Self::count`].
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.dim..][..self.dim]
    }
}

/// Tells the first value that is NaN or infinite.
pub(super) fn check_finite(values: &[f32], dim: usize) -> Result<()> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(at) => Err(Error::invalid(format_args!(
            "value {} of latent {} is {}: latents have to be finite",
            at % dim,
            at / dim,
            values[at]
        ))),
    }
}

/// The latent at `position` (0 to 1) on the way.
fn between<'a>(from: &'a [f32], to: &'a [f32], position: f64) -> impl Iterator<Item = f32> + use<'a> {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let (norm_from, norm_to) = (libm::sqrt(dot(from, from)), libm::sqrt(dot(to, to)));
    let cosine = dot(from, to) / (norm_from * norm_to);
    let angle = libm::acos(cosine.clamp(-1.0, 1.0));
    let sine = libm::sin(angle);
    let (weight_from, weight_to) = if sine.is_nan() || sine < PARALLEL {
        (1.0 - position, position)
    } else {
        let norm = (1.0 - position) * norm_from + position * norm_to;
        let direction = |share: f64| libm::sin(share * angle) / sine;
        (norm * direction(1.0 - position) / norm_from, norm * direction(position) / norm_to)
    };
    let mix = move |(a, b): (&f32, &f32)| (weight_from * f64::from(*a) + weight_to * f64::from(*b)) as f32;
    from.iter().zip(to).map(mix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn norm(values: &[f32]) -> f64 {
        values.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt()
    }

    #[test]
    fn a_latent_does_not_depend_on_those_around_it() {
        let all = Latents::from_seed(7, 0, 10, 33, 1.0);
        assert_eq!((all.count(), all.dim(), all.values().len()), (10, 33, 330));
        for index in 0..10 {
            assert_eq!(Latents::from_seed(7, index as u64, 1, 33, 1.0).values(), all.row(index));
        }
        assert_ne!(Latents::from_seed(8, 0, 1, 33, 1.0).values(), all.row(0));
    }

    /// Computed apart from this code: in Python, ChaCha with 8 rounds written after Bernstein's
    /// paper on `struct.pack("<4Q", 7, 0, 0, 0)` as the key and the index as the nonce, Box–Muller
    /// in float64 with Python's `math`, rounded to float32. The values are float32 bit patterns:
    /// the first four and, from the second block of ChaCha, numbers 16 to 19.
    #[test]
    fn latents_of_seed_7_are_the_known_ones() {
        let known: [(u64, [u32; 4], [u32; 4]); 3] = [
            (
                0,
                [0x3e29d80f, 0xbfeedc19, 0xbed0f93b, 0x3db5ae46],
                [0xbf86c429, 0xbf4ffec5, 0x3f875a3a, 0xbea63f03],
            ),
            (
                1,
                [0x3fe13538, 0xbf450bd1, 0xbe33b251, 0x3f5f1f55],
                [0x3f145a66, 0xbeb572fa, 0x3e58f66d, 0x3af9600b],
            ),
            (
                1 << 40,
                [0x3fa499e5, 0xbe40a7f1, 0x3ec44c88, 0xbf66a8de],
                [0xbd4a5dda, 0xbf8b6035, 0x3ee8d990, 0x3f033e3e],
            ),
        ];
        for (index, first, later) in known {
            let latent = Latents::from_seed(7, index, 1, 20, 1.0);
            let bits: Vec<u32> = latent.values().iter().map(|value| value.to_bits()).collect();
            assert_eq!((&bits[..4], &bits[16..]), (&first[..], &later[..]), "latent {index}");
        }
    }

    #[test]
    fn truncation_scales() {
        let whole = Latents::from_seed(1, 0, 2, 8, 1.0);
        let half = Latents::from_seed(1, 0, 2, 8, 0.5);
        for (whole, half) in whole.values().iter().zip(half.values()) {
            assert_eq!(whole * 0.5, *half);
        }
    }

    #[test]
    fn foreign_values_are_checked() {
        assert_eq!(Latents::from_values(vec![1.0; 6], 3).unwrap().count(), 2);
        for (values, dim) in [(vec![], 3), (vec![1.0; 5], 3), (vec![1.0; 5], 0), (vec![1.0; 5], 100_000)] {
            assert!(Latents::from_values(values, dim).is_err());
        }
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let line = Latents::from_values(vec![0.0, 0.0, 0.0, bad], 2).unwrap_err().to_string();
            assert!(line.contains("value 1 of latent 1"), "{line}");
        }
    }

    #[test]
    fn a_walk_starts_and_ends_exactly_and_keeps_to_the_sphere() {
        let walk = Latents::walk(1, 2, 9, 64);
        assert_eq!(walk.count(), 9);
        assert_eq!(walk.row(0), Latents::from_seed(1, 0, 1, 64, 1.0).values());
        assert_eq!(walk.row(8), Latents::from_seed(2, 0, 1, 64, 1.0).values());
        let (first, last) = (norm(walk.row(0)), norm(walk.row(8)));
        for index in 0..9 {
            let expected = first + (last - first) * index as f64 / 8.0;
            // Rounding of 64 values to f32 cannot change a norm by more than 2^-24 of it each.
            assert!((norm(walk.row(index)) - expected).abs() < 1e-5, "frame {index}");
        }
        // Even steps: the angle between neighbours is the same everywhere.
        let cosine = |i: usize| {
            let dot: f64 =
                walk.row(i).iter().zip(walk.row(i + 1)).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            dot / norm(walk.row(i)) / norm(walk.row(i + 1))
        };
        (1..8).for_each(|i| assert!((cosine(i) - cosine(0)).abs() < 1e-5, "step {i}"));
    }

    #[test]
    fn short_and_degenerate_walks_have_no_holes() {
        assert_eq!(Latents::walk(1, 2, 1, 4).values(), Latents::from_seed(1, 0, 1, 4, 1.0).values());
        let still = Latents::walk(3, 3, 5, 16);
        (1..5).for_each(|i| assert_eq!(still.row(i), still.row(0)));
        let between = |from: &[f32], to: &[f32], position| between(from, to, position).collect::<Vec<f32>>();
        assert_eq!(between(&[2.0, 0.0], &[4.0, 0.0], 0.5), [3.0, 0.0]); // parallel
        assert_eq!(between(&[2.0, 0.0], &[-2.0, 0.0], 0.25), [1.0, 0.0]); // opposite
        assert_eq!(between(&[0.0, 0.0], &[0.0, 4.0], 0.5), [0.0, 2.0]); // no direction at all
        let right_angle = between(&[1.0, 0.0], &[0.0, 1.0], 0.5);
        (0..2).for_each(|i| assert!((right_angle[i] - 0.5f32.sqrt()).abs() < 1e-7, "{right_angle:?}"));
    }
}
