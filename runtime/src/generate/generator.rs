//! A decoder or generator that is ready to run.

use super::latents::check_finite;
use super::{Frame, Latents, to_pixels};
use crate::model::limits::check_count;
use crate::model::{Facts, ImageShape, Network, PixelFormat, Range};
use crate::{Error, Result};

/// Turns latents into pictures. Made by [`Model::into_generator`](crate::model::Model::into_generator).
///
/// It is bound to a batch size; any number of latents is run in chunks of it, the last one padded.
/// State and buffers are kept from run to run.
pub struct Generator {
    name: String,
    network: Network,
    latent_dim: usize,
    image: ImageShape,
    format: PixelFormat,
    range: Range,
    batch: usize,
    /// Result of [`Self::run`], (n, C, H, W), or of one chunk of [`Self::frames`].
    values: Vec<f32>,
}

impl Generator {
    pub(crate) fn new(name: String, facts: &Facts, network: Network, batch: usize) -> Self {
        Self {
            name,
            network,
            latent_dim: facts.latent_dim,
            image: facts.image,
            format: facts.pixel_format,
            range: facts.range,
            batch,
            values: Vec::new(),
        }
    }

    /// Values of one latent.
    pub fn latent_dim(&self) -> usize {
        self.latent_dim
    }

    /// Size of a picture.
    pub fn image_shape(&self) -> ImageShape {
        self.image
    }

    /// Range of [`Self::run`]'s values.
    pub fn range(&self) -> Range {
        self.range
    }

    /// Latents of one run of the network.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Runs `latents`, (n, L) row-major with any n from 1, and returns what the network puts out,
    /// (n, C, H, W).
    ///
    /// # Errors
    /// If the length is not a multiple of L, a value is not finite, or the pictures of all latents
    /// exceed the [limit of one call](crate::model::limits::MAX_RUN_VALUES).
    pub fn run(&mut self, latents: &[f32]) -> Result<&[f32]> {
        let count = self.check(latents)?;
        check_count(count, self.image.values())?;
        self.values.resize(count * self.image.values(), 0.0);
        let inputs = latents.chunks(self.batch * self.latent_dim);
        let outputs = self.values.chunks_mut(self.batch * self.image.values());
        for (input, output) in inputs.zip(outputs) {
            run_network(&mut self.network, &self.name, input, output)?;
        }
        Ok(&self.values)
    }

    /// The pictures of some latents, ready to be seen.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn frames(&mut self, latents: &Latents) -> Result<Vec<Frame>> {
        self.check_dim(latents.dim())?;
        check_count(latents.count(), self.image.values())?;
        let mut frames = Vec::with_capacity(latents.count());
        for chunk in latents.values().chunks(self.batch * self.latent_dim) {
            let (image, format, range) = (self.image, self.format, self.range);
            for values in self.run(chunk)?.chunks_exact(image.values()) {
                let mut frame = Frame::black(image.width, image.height, format);
                to_pixels(range, image, values, &mut frame.pixels);
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    /// Draws the picture of one latent into `pixels`, (H, W, C), without allocating anything that
    /// lasts. Fastest with a batch of 1.
    ///
    /// # Errors
    /// As [`Self::run`], and if `pixels` does not have the size of a picture.
    pub fn frame_into(&mut self, latent: &[f32], pixels: &mut [u8]) -> Result<()> {
        self.check_dim(latent.len())?;
        if pixels.len() != self.image.values() {
            return Err(Error::invalid(format_args!(
                "a frame of {} bytes does not hold a picture of {}",
                pixels.len(),
                self.image
            )));
        }
        let (image, range) = (self.image, self.range);
        to_pixels(range, image, self.run(latent)?, pixels);
        Ok(())
    }

    /// Checks size and values, and returns the number of latents.
    fn check(&self, latents: &[f32]) -> Result<usize> {
        if latents.is_empty() || !latents.len().is_multiple_of(self.latent_dim) {
            return Err(Error::invalid(format_args!(
                "{}: {} values are no latents of {} values each",
                self.name,
                latents.len(),
                self.latent_dim
            )));
        }
        check_finite(latents, self.latent_dim)?;
        Ok(latents.len() / self.latent_dim)
    }

    fn check_dim(&self, dim: usize) -> Result<()> {
        if dim == self.latent_dim {
            return Ok(());
        }
        Err(Error::invalid(format_args!(
            "{} takes latents of {} values: these have {dim}",
            self.name, self.latent_dim
        )))
    }
}

fn run_network(network: &mut Network, name: &str, input: &[f32], output: &mut [f32]) -> Result<()> {
    network.run(input, &mut [output]).map_err(|reason| Error::run(name, reason))
}
