//! `edgegen walk`: the way from one latent to another, as an animation.

use super::choice::{Choice, ClassChoice};
use super::output::{Layout, Output};
use anyhow::{Context, Result};
use clap::Args;
use edgegen_runtime::generate::Latents;
use edgegen_runtime::model::Part;
use edgegen_runtime::model::limits::check_count;
use std::path::PathBuf;

#[derive(Args)]
pub(super) struct Walk {
    #[command(flatten)]
    choice: Choice,
    #[command(flatten)]
    class: ClassChoice,
    /// Where to: .gif (an animation), .png (a grid) or .npy (the network's float32 values, NCHW)
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Seed of the first latent
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Seed of the last latent
    #[arg(long, value_name = "SEED")]
    to: u64,
    /// How many pictures, both ends included
    #[arg(long, default_value_t = 30)]
    frames: usize,
    /// Pictures per second of the animation
    #[arg(long, default_value_t = 15.0)]
    fps: f32,
    /// Pictures in a row of the grid [default: nearly square]
    #[arg(long)]
    columns: Option<usize>,
    /// Network, of those in a model folder [default: decoder or generator]
    #[arg(long, value_name = "decoder|generator")]
    part: Option<Part>,
}

impl Walk {
    pub(super) fn run(self) -> Result<()> {
        let output = Output::to(&self.out)?;
        check_count(self.frames, 1).context("--frames")?;
        let mut generator = self.choice.open_generator(self.part)?;
        let dim = generator.latent_dim();
        check_count(self.frames, dim.max(generator.image_shape().values())).context("--frames")?;
        let latents = Latents::walk(self.seed, self.to, self.frames, dim);
        let layout = Layout { columns: self.columns, frames_per_second: self.fps };
        let classes = self.class.of(&generator, latents.count(), false)?;
        output.draw(&mut generator, (&latents, &classes), &layout)
    }
}
