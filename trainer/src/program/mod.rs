//! The program's commands, one file each.

/// Prints a line; a reader that has gone away, as `head` does, ends the program quietly.
macro_rules! say {
    ($($argument:tt)*) => {
        if std::io::Write::write_fmt(&mut std::io::stdout(), format_args!("{}\n", format_args!($($argument)*))).is_err() {
            std::process::exit(0);
        }
    };
}

mod data;
mod eval;
mod export;
mod presets;
mod sample;
mod train;

use anyhow::{Result, bail};
use candle_core::Device;
use clap::{Parser, Subcommand, ValueEnum};
use edgegen_trainer::train::run::Which;

/// Trains small image generators (VAEs) and exports them for a device.
#[derive(Parser)]
#[command(name = "edgegen-train", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a preset, or go on with a run.
    Train(train::Arguments),
    /// Report how well a run's network models its test pictures.
    Eval(eval::Arguments),
    /// Draw pictures from a run's network.
    Sample(sample::Arguments),
    /// Write a run's network as a model folder: ONNX files, model.json, card.
    Export(export::Arguments),
    /// Show what is in a data set.
    Data(data::Arguments),
    /// List the presets.
    Presets,
}

/// Where to compute.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum DeviceName {
    Cpu,
    Cuda,
}

impl DeviceName {
    fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda if !cfg!(feature = "cuda") => {
                bail!(
                    "this program was built without CUDA; build it with --features cuda, or use --device cpu"
                )
            }
            Self::Cuda => Device::new_cuda(0).map_err(|e| anyhow::anyhow!("no CUDA device can be used: {e}")),
        }
    }
}

/// Which of a run's stored weights to use.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum CheckpointName {
    Best,
    Last,
}

impl From<CheckpointName> for Which {
    fn from(name: CheckpointName) -> Self {
        match name {
            CheckpointName::Best => Self::Best,
            CheckpointName::Last => Self::Last,
        }
    }
}

/// Refuses a name for a picture that does not end as what is written.
fn check_png(path: &std::path::Path) -> Result<()> {
    let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
    if extension.is_none_or(|extension| extension != "png") {
        bail!("{}: a picture is written as .png; give a name that ends so", path.display());
    }
    Ok(edgegen_runtime::files::check_writable(path)?)
}

/// Parses the command line and does it.
pub(crate) fn run() -> Result<()> {
    match Arguments::parse().command {
        Command::Train(arguments) => train::run(arguments),
        Command::Eval(arguments) => eval::run(arguments),
        Command::Sample(arguments) => sample::run(arguments),
        Command::Export(arguments) => export::run(arguments),
        Command::Data(arguments) => data::run(arguments),
        Command::Presets => {
            presets::run();
            Ok(())
        }
    }
}
