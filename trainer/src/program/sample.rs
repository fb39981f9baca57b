//! `edgegen-train sample RUN`

use std::path::PathBuf;

use anyhow::{Context, Result};
use edgegen_runtime::generate::class_named;
use edgegen_trainer::train::pictures;

use edgegen_trainer::train::trained::Need;

use super::RunArguments;

/// Most pictures of one grid.
const MOST: usize = 4096;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    run: RunArguments,
    /// How many pictures.
    #[arg(long, value_name = "K", default_value_t = 64)]
    count: usize,
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Class of the pictures, by its name or number, where the network is told one [default: each in turn].
    #[arg(long = "class", value_name = "NAME|NUMBER")]
    class: Option<String>,
    /// The picture to write.
    #[arg(long, value_name = "F.png", default_value = "samples.png")]
    out: PathBuf,
}

/// Writes a grid of pictures drawn from the prior.
pub(super) fn run(arguments: Arguments) -> Result<()> {
    anyhow::ensure!(
        (1..=MOST).contains(&arguments.count),
        "--count is {}; it takes 1 to {MOST}",
        arguments.count
    );
    super::check_png(&arguments.out)?;
    let run = arguments.run.open(&arguments.run.folder()?, Need::Kept)?;
    let drawer = run.drawer().context("a classifier draws nothing")?;
    let class = arguments.class.map(|class| class_named(&run.classes, &class)).transpose()?;
    let frames = drawer.of_class(arguments.seed, arguments.count, class)?;
    pictures::write_grid(&frames, None, &arguments.out)?;
    say!("{}", arguments.out.display());
    Ok(())
}
