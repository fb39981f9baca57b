//! The program's commands, one file each.

/// Prints a line; a reader that has gone away, as `head` does, ends the program quietly.
macro_rules! say {
    ($($argument:tt)*) => {
        if std::io::Write::write_fmt(&mut std::io::stdout(), format_args!("{}\n", format_args!($($argument)*))).is_err() {
            std::process::exit(0);
        }
    };
}

mod auto;
mod bench;
mod compare;
mod data;
mod eval;
mod export;
mod features;
mod judge;
mod precisions;
mod presets;
mod quantize;
mod sample;
mod train;
mod yardstick;
mod zoo;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand, ValueEnum};
use edgegen_trainer::compute::candle::Candle;
use edgegen_trainer::train::folder::RunFolder;
use edgegen_trainer::train::trained::{self, Need, TrainedRun, Which};

/// Trains small image generators (VAEs and GANs) and exports them for a device.
#[derive(Parser)]
#[command(name = "edgegen-train", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a model of a folder of pictures: look at them, plan, train, export.
    Auto(Box<auto::Arguments>),
    /// Train a preset, or go on with a run.
    Train(Box<train::Arguments>),
    /// Report how good a run's network is: on its test pictures, and by its samples.
    Eval(eval::Arguments),
    /// Measure any samples against a data set's pictures, on the features of any network.
    Compare(compare::Arguments),
    /// Measure a model from pictures to pictures on clean pictures, as the literature does.
    Yardstick(yardstick::Arguments),
    /// Draw pictures from a run's network.
    Sample(sample::Arguments),
    /// Write a run's network as a model folder: ONNX files, model.json, card.
    Export(export::Arguments),
    /// Write a model in other precisions: float16, integers of 8 bits.
    Quantize(quantize::Arguments),
    /// Cut a network down to the feature maps that generators learn by.
    Features(features::Arguments),
    /// Show what is in a data set.
    Data(data::Arguments),
    /// Look after a folder of model folders.
    Zoo(zoo::Arguments),
    /// Time a training step on this machine.
    Bench(bench::Arguments),
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
    /// The device to train on; `None`: the CPU.
    fn open(self) -> Result<Option<Candle>> {
        match self {
            Self::Cpu => Ok(None),
            Self::Cuda => Ok(Some(Candle::cuda()?)),
        }
    }
}

/// Which of a run's stored weights to use.
fn checkpoint(text: &str) -> std::result::Result<Which, String> {
    match text {
        "best" => Ok(Which::Best),
        "last" => Ok(Which::Last),
        step => {
            step.parse().map(Which::Step).map_err(|_| "give best, last, or the step of a snapshot".into())
        }
    }
}

/// A run and how to open it: the arguments of every command that uses a trained network.
#[derive(clap::Args)]
struct RunArguments {
    /// A run folder.
    run: PathBuf,
    /// Where the run's pictures lie now, if they were moved.
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Weights to use: best (of the best report), last, or the step of one of a GAN's snapshots.
    #[arg(long, value_name = "best|last|STEP", default_value = "best", value_parser = checkpoint)]
    checkpoint: Which,
}

impl RunArguments {
    fn folder(&self) -> Result<RunFolder> {
        Ok(RunFolder::existing(&self.run)?)
    }

    /// The run with the pictures that `need` asks for; says so if there are fewer.
    fn open(&self, folder: &RunFolder, need: Need) -> Result<TrainedRun> {
        // pictures that were pointed out are meant
        let need = if self.data.is_some() && need == Need::IfThere { Need::All } else { need };
        let run = trained::open(folder, self.checkpoint, self.data.as_deref(), need)?;
        if let Some(why) = &run.incomplete {
            eprintln!("{why}; going on with the {} pictures that the run kept", run.kept.train.count());
        }
        Ok(run)
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
pub(crate) fn run() -> Result<ExitCode> {
    let done = match Arguments::parse().command {
        Command::Auto(arguments) => return auto::run(*arguments),
        Command::Train(arguments) => return train::run(*arguments),
        Command::Eval(arguments) => eval::run(arguments),
        Command::Compare(arguments) => compare::run(arguments),
        Command::Yardstick(arguments) => yardstick::run(arguments),
        Command::Sample(arguments) => sample::run(arguments),
        Command::Export(arguments) => export::run(arguments),
        Command::Quantize(arguments) => quantize::run(arguments),
        Command::Features(arguments) => features::run(arguments),
        Command::Data(arguments) => data::run(arguments),
        Command::Zoo(arguments) => zoo::run(arguments),
        Command::Bench(arguments) => bench::run(arguments),
        Command::Presets => {
            presets::run();
            Ok(())
        }
    };
    done.map(|()| ExitCode::SUCCESS)
}
