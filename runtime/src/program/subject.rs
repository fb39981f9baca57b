//! What bench and profile run: a network, and something to feed it.

use anyhow::Result;
use edgegen_runtime::generate::{Encoder, Generator, Latents, Transformer};
use edgegen_runtime::model::{Model, Part};
use edgegen_runtime::random::{Purpose, Stream};
use std::hint::black_box;

/// A network with something to feed it.
pub(super) enum Subject {
    Draws { generator: Generator, latents: Latents, classes: Vec<u32> },
    Encodes { encoder: Encoder, images: Vec<f32> },
    Transforms { network: Transformer, images: Vec<f32> },
}

impl Subject {
    pub(super) fn new(model: Model, batch: usize) -> Result<Self> {
        // what is in the pictures does not change the time; the values do stay in the range
        let mut noise = Stream::new(0, Purpose::EVALUATION, 0);
        let mut noise = |values: usize| (0..values).map(|_| noise.uniform()).collect();
        if model.facts().part == Part::Encoder {
            let encoder = model.into_encoder(batch)?;
            let images = noise(encoder.batch() * encoder.image_shape().values());
            return Ok(Self::Encodes { encoder, images });
        }
        if model.facts().part == Part::Transform {
            let network = model.into_transformer(batch)?;
            let images = noise(network.batch() * network.source_shape().values());
            return Ok(Self::Transforms { network, images });
        }
        let generator = model.into_generator(batch)?;
        let latents = Latents::from_seed(0, 0, generator.batch(), generator.latent_dim(), 1.0);
        // the class does not change the time
        let classes = vec![0; if generator.is_conditional() { latents.count() } else { 0 }];
        Ok(Self::Draws { generator, latents, classes })
    }

    pub(super) fn batch(&self) -> usize {
        match self {
            Self::Draws { generator, .. } => generator.batch(),
            Self::Encodes { encoder, .. } => encoder.batch(),
            Self::Transforms { network, .. } => network.batch(),
        }
    }

    /// One run up to what a user gets: frames, or values if their range is not known, or a posterior.
    pub(super) fn first(&mut self) -> edgegen_runtime::Result<()> {
        match self {
            Self::Draws { generator, latents, classes } if generator.range().is_ok() => {
                generator.frames(latents, classes).map(|frames| drop(black_box(frames)))
            }
            Self::Draws { .. } | Self::Encodes { .. } | Self::Transforms { .. } => self.run(),
        }
    }

    pub(super) fn run(&mut self) -> edgegen_runtime::Result<()> {
        match self {
            Self::Draws { generator, latents, classes } => {
                generator.run(latents.values(), classes).map(|values| {
                    black_box(values);
                })
            }
            Self::Encodes { encoder, images } => {
                encoder.run(images).map(|posterior| drop(black_box(posterior)))
            }
            Self::Transforms { network, images } => network.run(images).map(|values| {
                black_box(values);
            }),
        }
    }

    /// One run of one picture, with a call behind each of the model's steps.
    pub(super) fn run_timed(&mut self, after: impl FnMut(usize)) -> edgegen_runtime::Result<()> {
        match self {
            Self::Draws { generator, latents, classes } => {
                let latent = &latents.values()[..generator.latent_dim()];
                generator.run_timed(latent, classes.first().copied(), after)
            }
            Self::Encodes { encoder, images } => {
                let size = encoder.image_shape().values();
                encoder.run_timed(&images[..size], after)
            }
            Self::Transforms { network, images } => {
                let size = network.source_shape().values();
                network.run_timed(&images[..size], after)
            }
        }
    }
}
