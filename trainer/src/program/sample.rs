//! `edgegen-train sample RUN`

use std::path::PathBuf;

use anyhow::Result;
use edgegen_trainer::train::pictures;
use edgegen_trainer::train::run::{self, RunFolder};

use super::{CheckpointName, DeviceName};

/// Most pictures of one grid.
const MOST: usize = 4096;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A run folder.
    run: PathBuf,
    /// How many pictures.
    #[arg(long, value_name = "K", default_value_t = 64)]
    count: usize,
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// The picture to write.
    #[arg(long, value_name = "F.png", default_value = "samples.png")]
    out: PathBuf,
    /// Where the run's pictures lie now, if they were moved.
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t = CheckpointName::Best)]
    checkpoint: CheckpointName,
    #[arg(long, value_enum, default_value_t = DeviceName::Cpu)]
    device: DeviceName,
}

/// Writes a grid of pictures drawn from the prior.
pub(super) fn run(arguments: Arguments) -> Result<()> {
    anyhow::ensure!(
        (1..=MOST).contains(&arguments.count),
        "--count is {}; it takes 1 to {MOST}",
        arguments.count
    );
    super::check_png(&arguments.out)?;
    let device = arguments.device.open()?;
    let trained = run::open(
        &RunFolder::existing(&arguments.run)?,
        arguments.checkpoint.into(),
        arguments.data.as_deref(),
        &device,
    )?;
    let frames =
        pictures::samples(&trained.vae, trained.dataset.shape, arguments.seed, arguments.count, &device)?;
    pictures::write_grid(&frames, None, &arguments.out)?;
    say!("{}", arguments.out.display());
    Ok(())
}
