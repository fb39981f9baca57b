//! `edgegen-train export RUN --out DIR`

use std::path::PathBuf;

use anyhow::Result;
use edgegen_trainer::export::{TOLERANCE, export};
use edgegen_trainer::train::run::{self, RunFolder};

use super::{CheckpointName, DeviceName};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A run folder.
    run: PathBuf,
    /// The model folder to write.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The model's name; without it: the folder's.
    #[arg(long)]
    name: Option<String>,
    /// Replace --out if it exists.
    #[arg(long)]
    force: bool,
    /// Where the run's pictures lie now, if they were moved.
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t = CheckpointName::Best)]
    checkpoint: CheckpointName,
    #[arg(long, value_enum, default_value_t = DeviceName::Cpu)]
    device: DeviceName,
}

/// Writes and checks a model folder.
pub(super) fn run(arguments: Arguments) -> Result<()> {
    let device = arguments.device.open()?;
    let folder = RunFolder::existing(&arguments.run)?;
    let trained = run::open(&folder, arguments.checkpoint.into(), arguments.data.as_deref(), &device)?;
    let name = arguments.name.or_else(|| Some(arguments.out.file_name()?.to_string_lossy().into_owned()));
    let evaluation = super::eval::stored(&folder, &trained)?;
    let report = export(
        &trained,
        name.as_deref().unwrap_or("model"),
        evaluation.as_ref(),
        &arguments.out,
        arguments.force,
        &device,
    )?;
    for (part, difference) in report.differences {
        say!("{part}: candle and runtime differ by at most {difference:.2e} (accepted: {TOLERANCE:.0e})");
    }
    for file in report.manifest.files {
        say!("{} {} bytes", arguments.out.join(file.file).display(), file.bytes);
    }
    say!("next: edgegen generate {} --seed 7 --count 16 --out pictures.png", arguments.out.display());
    Ok(())
}
