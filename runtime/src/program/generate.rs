//! `edgegen generate`: pictures from random latents, or from given ones.

use super::choice::{Choice, ClassChoice};
use super::output::{Layout, Output};
use anyhow::{Context, Result, bail};
use clap::Args;
use edgegen_runtime::generate::Latents;
use edgegen_runtime::model::Part;
use edgegen_runtime::model::limits::check_count;
use edgegen_runtime::pictures::read_npy;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub(super) struct Generate {
    #[command(flatten)]
    choice: Choice,
    #[command(flatten)]
    class: ClassChoice,
    /// Where to: .png (a grid), .gif, .apng or .y4m (one after the other), a folder (numbered .png), or .npy (the network's float32 values in its own shape, NCHW as a rule)
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Which random latents: picture i depends on the seed and i alone
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How many pictures
    #[arg(long, default_value_t = 1)]
    count: usize,
    /// Scale of the latents: below 1 the pictures become more alike
    #[arg(long, value_name = "T", default_value_t = 1.0)]
    truncation: f32,
    /// Take the latents from a .npy file instead: float32, (N, L)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seed", "count", "truncation"])]
    latent: Option<PathBuf>,
    /// Pictures in a row of the grid [default: nearly square]
    #[arg(long)]
    columns: Option<usize>,
    /// Pictures per second of the animation
    #[arg(long, default_value_t = 5.0)]
    fps: f32,
    /// Network, of those in a model folder [default: decoder or generator]
    #[arg(long, value_name = "decoder|generator")]
    part: Option<Part>,
}

impl Generate {
    pub(super) fn run(self) -> Result<()> {
        let output = Output::to(&self.out)?;
        if !self.truncation.is_finite() {
            bail!("--truncation {} is not a number to scale by", self.truncation);
        }
        check_count(self.count, 1).context("--count")?;
        let mut generator = self.choice.open_generator(self.part)?;
        let dim = generator.latent_dim();
        let latents = match &self.latent {
            Some(path) => read_latents(path, dim)?,
            None => {
                check_count(self.count, dim.max(generator.image_shape().values())).context("--count")?;
                Latents::from_seed(self.seed, 0, self.count, dim, self.truncation)
            }
        };
        let layout = Layout { columns: self.columns, frames_per_second: self.fps };
        let classes = self.class.of(&generator, latents.count(), true)?;
        output.draw(&mut generator, (&latents, &classes), &layout)
    }
}

/// Latents of `dim` values: (L), (N, L) or (N, L, 1, 1).
fn read_latents(path: &Path, dim: usize) -> Result<Latents> {
    let (shape, values) = read_npy(path)?;
    match shape[..] {
        [size] | [_, size] | [_, size, 1, 1] if size == dim => {
            Latents::from_values(values, dim).with_context(|| path.display().to_string())
        }
        _ => bail!("{}: the model takes latents (N, {dim}), this array is {shape:?}", path.display()),
    }
}
