//! Random numbers that are the same on every platform.
//!
//! A [`Stream`] is ChaCha with 8 rounds (D. J. Bernstein, "ChaCha, a variant of Salsa20", 2008)
//! in counter mode. Its 256-bit key is `seed` (u64, little endian), then the [`Purpose`]'s tag
//! (u64, little endian), then zeros; its 64-bit nonce is `index`. So draw number `index` of a
//! purpose depends on `(seed, index)` alone: never on how many draws came before it, on the batch
//! size or on the number of threads, and nothing needs to be stored to go on later.
//!
//! Normal variates are Box–Muller pairs (G. E. P. Box, M. E. Muller, 1958) of two 32-bit words,
//! computed in f64 with `libm`, whose results do not depend on the platform's C library.

use chacha20::ChaCha8Rng;
use chacha20::rand_core::{Rng, SeedableRng};

/// What numbers are for, as a tag. Two purposes never share numbers, whatever their seeds and indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purpose(u64);

impl Purpose {
    /// Latents from the prior: the pictures that a user asks for by seed.
    pub const LATENT: Self = Self(0);
    /// Everything drawn to evaluate or to try a network; the index is the picture.
    pub const EVALUATION: Self = Self(6);
    /// First phases of a sound that is made of a spectrogram.
    pub const SOUND: Self = Self(19);

    /// A purpose of whoever uses this library, by a tag that nothing else has. edgegen-train has those up to 18.
    pub const fn new(tag: u64) -> Self {
        Self(tag)
    }
}

/// A stream of random numbers that is fully determined by seed, purpose and index.
#[derive(Debug)]
pub struct Stream {
    words: ChaCha8Rng,
    spare: Option<f32>,
}

impl Stream {
    /// The stream of one draw.
    pub fn new(seed: u64, purpose: impl Into<Purpose>, index: u64) -> Self {
        let Purpose(tag) = purpose.into();
        let mut key = [0u8; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&tag.to_le_bytes());
        let mut words = ChaCha8Rng::from_seed(key);
        words.set_stream(index);
        Self { words, spare: None }
    }

    /// The next 32 random bits.
    pub fn word(&mut self) -> u32 {
        self.words.next_u32()
    }

    /// Uniform in [0, 1), a multiple of 2⁻²⁴: exact in f32.
    pub fn uniform(&mut self) -> f32 {
        (self.word() >> 8) as f32 / 16_777_216.0
    }

    /// Uniform in 0..bound without bias (D. Lemire, "Fast random integer generation in an
    /// interval", 2019). `bound` must not be 0.
    pub fn below(&mut self, bound: u32) -> u32 {
        debug_assert!(bound > 0);
        let mut product = u64::from(self.word()) * u64::from(bound);
        if (product as u32) < bound {
            let threshold = bound.wrapping_neg() % bound;
            while (product as u32) < threshold {
                product = u64::from(self.word()) * u64::from(bound);
            }
        }
        (product >> 32) as u32
    }

    /// Standard normal: mean 0, variance 1, |value| at most 6.67.
    pub fn normal(&mut self) -> f32 {
        if let Some(value) = self.spare.take() {
            return value;
        }
        const TWO_TO_32: f64 = 4_294_967_296.0;
        let radius_uniform = (f64::from(self.word()) + 1.0) / TWO_TO_32; // (0, 1]
        let angle_uniform = f64::from(self.word()) / TWO_TO_32; // [0, 1)
        let radius = libm::sqrt(-2.0 * libm::log(radius_uniform));
        let angle = core::f64::consts::TAU * angle_uniform;
        self.spare = Some((radius * libm::sin(angle)) as f32);
        (radius * libm::cos(angle)) as f32
    }

    /// Fills `values` with standard normal variates.
    pub fn fill_normal(&mut self, values: &mut [f32]) {
        values.iter_mut().for_each(|value| *value = self.normal());
    }

    /// A random order of `0..count` (Fisher–Yates).
    pub fn permutation(&mut self, count: u32) -> Vec<u32> {
        let mut order: Vec<u32> = (0..count).collect();
        for last in (1..count).rev() {
            order.swap(last as usize, self.below(last + 1) as usize);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_variates_have_the_moments_of_the_standard_normal() {
        let mut stream = Stream::new(1, Purpose::LATENT, 0);
        let count = 200_000;
        let values: Vec<f64> = (0..count).map(|_| f64::from(stream.normal())).collect();
        let mean = values.iter().sum::<f64>() / f64::from(count);
        let moment =
            |power: i32| values.iter().map(|v| (v - mean).powi(power)).sum::<f64>() / f64::from(count);
        assert!(mean.abs() < 0.01, "mean {mean}");
        assert!((moment(2) - 1.0).abs() < 0.02, "variance {}", moment(2));
        assert!(moment(3).abs() < 0.03, "skewness {}", moment(3));
        assert!((moment(4) - 3.0).abs() < 0.1, "kurtosis {}", moment(4));
    }

    #[test]
    fn a_draw_depends_on_its_seed_purpose_and_index_alone() {
        let draw = |seed, purpose: Purpose, index| Stream::new(seed, purpose, index).word();
        let base = draw(7, Purpose::LATENT, 3);
        assert_eq!(base, draw(7, Purpose::LATENT, 3));
        assert_ne!(base, draw(8, Purpose::LATENT, 3));
        assert_ne!(base, draw(7, Purpose::new(2), 3));
        assert_ne!(base, draw(7, Purpose::LATENT, 4));
    }

    #[test]
    fn a_permutation_holds_every_number_once() {
        let mut order = Stream::new(5, Purpose::new(2), 0).permutation(1000);
        assert_ne!(order, (0..1000).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..1000).collect::<Vec<_>>());
    }
}
