//! `edgegen reconstruct`: pictures through encoder and decoder.

use super::choice::{Choice, ClassChoice};
use super::output::Output;
use anyhow::{Result, bail};
use clap::Args;
use edgegen_runtime::generate::{Latents, from_pixels};
use edgegen_runtime::model::limits::check_count;
use edgegen_runtime::pictures::{grid, read_picture, write_png};
use std::path::PathBuf;

#[derive(Args)]
pub(super) struct Reconstruct {
    #[command(flatten)]
    choice: Choice,
    #[command(flatten)]
    class: ClassChoice,
    /// Pictures (PNG, JPEG, GIF); the middle is cut out and brought to the model's size
    #[arg(required = true, value_name = "PICTURE")]
    pictures: Vec<PathBuf>,
    /// Where to: .png (the pictures, below them their reconstructions) or .npy (the decoder's
    /// float32 values, NCHW)
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl Reconstruct {
    pub(super) fn run(self) -> Result<()> {
        let output = Output::to(&self.out)?;
        if output.is_moving() {
            bail!("{}: reconstructions are written as .png or .npy", self.out.display());
        }
        let (encoder, decoder) = self.choice.open_both()?;
        let (facts, drawn) = (encoder.facts(), decoder.facts());
        let (image, range) = (facts.image, encoder.range()?);
        if (image, facts.latent_dim) != (drawn.image, drawn.latent_dim) {
            bail!(
                "{}: its encoder ({image}, latent {}) and its decoder ({}, latent {}) do not go together",
                self.choice.model.display(),
                facts.latent_dim,
                drawn.image,
                drawn.latent_dim
            );
        }
        check_count(self.pictures.len(), image.values())?;
        let mut frames = Vec::new();
        let mut values = vec![0.0; self.pictures.len() * image.values()];
        for (path, values) in self.pictures.iter().zip(values.chunks_exact_mut(image.values())) {
            let frame = read_picture(path, image)?;
            from_pixels(range, image, &frame.pixels, values);
            frames.push(frame);
        }
        let (mut encoder, mut decoder) = (encoder.into_encoder(1)?, decoder.into_generator(1)?);
        if decoder.is_conditional() && !self.class.is_given() {
            bail!("{}: its decoder is told the class: give --class", self.choice.model.display());
        }
        let latents = Latents::from_values(encoder.run(&values)?.mean, encoder.latent_dim())?;
        let classes = self.class.of(&decoder, latents.count(), false)?;
        if output.is_npy() {
            output.write_values(&mut decoder, (&latents, &classes))?;
        } else {
            frames.extend(decoder.frames(&latents, &classes)?);
            write_png(&grid(&frames, Some(self.pictures.len()))?, output.path())?;
        }
        output.report()
    }
}
