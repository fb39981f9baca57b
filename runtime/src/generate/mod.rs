//! Latents in, pictures out; and the way back.

use crate::Result;
use crate::model::{ImageShape, PixelFormat, Range};

/// Latents: (count, dim), row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Latents {
    values: Vec<f32>,
    dim: usize,
}

#[allow(missing_docs, unused_variables)]
impl Latents {
    pub fn from_seed(seed: u64, first_index: u64, count: usize, dim: usize, truncation: f32) -> Self {
        todo!()
    }
    pub fn from_values(values: Vec<f32>, dim: usize) -> Result<Self> {
        todo!()
    }
    pub fn walk(seed_a: u64, seed_b: u64, frames: usize, dim: usize) -> Self {
        todo!()
    }
    pub fn values(&self) -> &[f32] {
        &self.values
    }
    pub fn count(&self) -> usize {
        self.values.len() / self.dim
    }
    pub fn dim(&self) -> usize {
        self.dim
    }
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.dim..][..self.dim]
    }
}

/// One picture, NHWC u8 (rows of pixels, channels innermost).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Pixels from left to right.
    pub width: usize,
    /// Pixels from top to bottom.
    pub height: usize,
    /// Meaning of the channels.
    pub format: PixelFormat,
    /// height × width × channels values.
    pub pixels: Vec<u8>,
}

/// A decoder or generator, ready to run.
pub struct Generator(());

#[allow(missing_docs, unused_variables)]
impl Generator {
    pub fn latent_dim(&self) -> usize {
        todo!()
    }
    pub fn image_shape(&self) -> ImageShape {
        todo!()
    }
    pub fn range(&self) -> Range {
        todo!()
    }
    pub fn batch(&self) -> usize {
        todo!()
    }
    pub fn run(&mut self, latents: &[f32]) -> Result<&[f32]> {
        todo!()
    }
    pub fn frames(&mut self, latents: &Latents) -> Result<Vec<Frame>> {
        todo!()
    }
    pub fn frame_into(&mut self, latent: &[f32], pixels: &mut [u8]) -> Result<()> {
        todo!()
    }
}

/// An encoder, ready to run.
pub struct Encoder(());

/// The posterior of some pictures: normal, independent per value.
#[derive(Clone, Debug, PartialEq)]
pub struct Posterior {
    /// (n, latent_dim), row-major.
    pub mean: Vec<f32>,
    /// (n, latent_dim), row-major: the natural logarithm of the variance.
    pub log_variance: Vec<f32>,
}

#[allow(missing_docs, unused_variables)]
impl Encoder {
    pub fn latent_dim(&self) -> usize {
        todo!()
    }
    pub fn image_shape(&self) -> ImageShape {
        todo!()
    }
    pub fn range(&self) -> Range {
        todo!()
    }
    pub fn batch(&self) -> usize {
        todo!()
    }
    pub fn run(&mut self, images: &[f32]) -> Result<Posterior> {
        todo!()
    }
}

/// Network values to pixels.
#[allow(unused_variables)]
pub fn to_pixels(range: Range, shape: ImageShape, chw: &[f32], hwc: &mut [u8]) {
    todo!()
}

/// Pixels to network values.
#[allow(unused_variables)]
pub fn from_pixels(range: Range, shape: ImageShape, hwc: &[u8], chw: &mut [f32]) {
    todo!()
}
