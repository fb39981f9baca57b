//! `edgegen map`: what each place of a latent of two values draws.

use super::choice::{Choice, ClassChoice};
use super::output::{Layout, Output};
use anyhow::{Context, Result, bail};
use clap::Args;
use edgegen_runtime::generate::Latents;
use edgegen_runtime::model::Part;
use edgegen_runtime::model::limits::check_count;
use std::path::PathBuf;

/// Values of the latents that have a map.
const DIMENSIONS: usize = 2;

#[derive(Args)]
pub(super) struct Map {
    #[command(flatten)]
    choice: Choice,
    #[command(flatten)]
    class: ClassChoice,
    /// Where to: .png (the map), .gif, .apng, .y4m, a folder (numbered .png) or .npy (the network's float32 values, NCHW), row after row
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Pictures in a row, and rows
    #[arg(long, default_value_t = 20)]
    side: usize,
    /// Network, of those in a model folder [default: decoder or generator]
    #[arg(long, value_name = "decoder|generator")]
    part: Option<Part>,
}

impl Map {
    pub(super) fn run(self) -> Result<()> {
        let output = Output::to(&self.out)?;
        check_count(self.side.saturating_mul(self.side), DIMENSIONS).context("--side")?;
        let mut generator = self.choice.open_generator(self.part)?;
        let dim = generator.latent_dim();
        if dim != DIMENSIONS {
            bail!(
                "its latents have {dim} values, a map shows latents of {DIMENSIONS}; walk shows the way between two"
            );
        }
        let latents = Latents::map(self.side);
        check_count(latents.count(), generator.image_shape().values()).context("--side")?;
        let layout = Layout { columns: Some(self.side), frames_per_second: 15.0 };
        let classes = self.class.of(&generator, latents.count(), false)?;
        output.draw(&mut generator, (&latents, &classes), &layout)
    }
}
