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

/// What the numbers are for. Two purposes never share numbers, whatever their seeds and indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// Latents from the prior: the pictures that a user asks for by seed.
    Latent = 0,
    /// First weights of a network; the index is the parameter's number.
    Weights = 1,
    /// The order of the training pictures; the index is the epoch.
    Order = 2,
    /// Noise of the posterior sample z = mean + sigma · noise; the index is the step.
    Posterior = 3,
    /// Binarisation of training pictures; the index is the step.
    Binarize = 4,
    /// Noise added to pictures for a denoiser; the index is the step.
    Denoise = 5,
    /// Everything drawn for evaluation; the index is the picture.
    Evaluation = 6,
    /// Binarisation of a held-out set; the index is the picture.
    BinarizeHeldOut = 7,
    /// Noise added to a held-out set for a denoiser; the index is the picture.
    DenoiseHeldOut = 8,
    /// Latents that a generator is trained on; the index is the step.
    Generator = 9,
    /// Differentiable augmentation; the index is the step.
    Augment = 10,
    /// First singular vectors of spectral normalisation; the index is the parameter's number.
    Spectral = 11,
    /// Inputs of fine-tuning a quantised network; the index is the step.
    Tune = 12,
    /// Which training pictures of a batch are mirrored; the index is the step.
    Mirror = 13,
    /// Uniform noise of one level on a held-out set; the index is the picture.
    DequantizeHeldOut = 14,
    /// Latents that real pictures are matched with, and which pictures are mirrored for it; the index is the round.
    Match = 15,
    /// What is added to matched latents; the index is the step.
    Jitter = 16,
}

/// A stream of random numbers that is fully determined by seed, purpose and index.
#[derive(Debug)]
pub struct Stream {
    words: ChaCha8Rng,
    spare: Option<f32>,
}

impl Stream {
    /// The stream of one draw.
    pub fn new(seed: u64, purpose: Purpose, index: u64) -> Self {
        let mut key = [0u8; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&(purpose as u64).to_le_bytes());
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
        let mut stream = Stream::new(1, Purpose::Latent, 0);
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
        let draw = |seed, purpose, index| Stream::new(seed, purpose, index).word();
        let base = draw(7, Purpose::Latent, 3);
        assert_eq!(base, draw(7, Purpose::Latent, 3));
        assert_ne!(base, draw(8, Purpose::Latent, 3));
        assert_ne!(base, draw(7, Purpose::Order, 3));
        assert_ne!(base, draw(7, Purpose::Latent, 4));
    }

    #[test]
    fn a_permutation_holds_every_number_once() {
        let mut order = Stream::new(5, Purpose::Order, 0).permutation(1000);
        assert_ne!(order, (0..1000).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..1000).collect::<Vec<_>>());
    }
}
