//! How close a denoiser's pictures come to the clean ones, beside what it was given.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use edgegen_runtime::model::{ImageShape, Range};

use super::quality::{Ratios, psnr, ssim};

/// Pictures in [0, 1] against the clean ones.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Closeness {
    /// Peak signal-to-noise ratio, dB, with a peak of 1.
    pub psnr: Ratios,
    /// Structural similarity.
    pub ssim: Ratios,
}

impl std::fmt::Display for Closeness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PSNR {:.2} dB, SSIM {:.4}", self.psnr.mean, self.ssim.mean)
    }
}

/// The figures of one picture after another, on their way to a [`Closeness`].
#[derive(Default)]
pub(crate) struct Figures {
    psnr: Vec<f64>,
    ssim: Vec<f64>,
}

impl Figures {
    /// Adds those of `found` to `clean`, both (N, C, H, W) in [0, 1].
    pub(super) fn add(&mut self, clean: &[f32], found: &[f32], shape: ImageShape) {
        let pairs: Vec<_> = clean.chunks(shape.values()).zip(found.chunks(shape.values())).collect();
        let similar = pairs.par_iter().map(|(clean, found)| ssim(clean, found, shape, Range::Unit));
        self.ssim.extend(similar.collect::<Vec<_>>());
        self.psnr.extend(psnr(clean, found, shape.values(), 1.0));
    }

    /// Mean and worst.
    pub(super) fn closeness(&self) -> Closeness {
        Closeness { psnr: Ratios::of(&self.psnr), ssim: Ratios::of(&self.ssim) }
    }
}

/// A denoiser's pictures (the decoder's mean at the posterior's mean) and its noisy input.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Denoising {
    /// Deviation of the noise, in units of the range [0, 1].
    pub sigma: f64,
    /// Pictures.
    pub pictures: usize,
    /// What comes out.
    pub denoised: Closeness,
    /// What goes in.
    pub noisy: Closeness,
}

impl std::fmt::Display for Denoising {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { sigma, pictures, denoised, noisy } = self;
        write!(
            f,
            "PSNR {:.2} dB, SSIM {:.4} against the clean picture (noisy input: {:.2} dB, {:.4}; noise of deviation {sigma}, {pictures} pictures)",
            denoised.psnr.mean, denoised.ssim.mean, noisy.psnr.mean, noisy.ssim.mean
        )
    }
}
