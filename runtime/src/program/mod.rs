//! The command line: what each command takes, and which file here does it.

mod bench;
mod choice;
mod compare;
mod doctor;
mod generate;
mod info;
mod map;
mod output;
mod profile;
mod reconstruct;
mod say;
mod score;
mod subject;
mod transform;
mod walk;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

/// Draw pictures with a VAE or GAN on this device's CPU.
///
/// MODEL is an .onnx file or a model folder. The same model, seed and number always give the same
/// picture.
#[derive(Parser)]
#[command(name = "edgegen", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Tell what a model is
    Info(info::Info),
    /// Draw pictures from random latents
    Generate(generate::Generate),
    /// Encode pictures and decode them again
    Reconstruct(reconstruct::Reconstruct),
    /// Turn pictures into pictures: clean, enlarge, translate
    Transform(transform::Transform),
    /// Make sound with a model of spectrograms
    Say(say::Say),
    /// Tell how odd pictures or rows of numbers are; exit code 3 if one is odder than the threshold
    Score(score::ScoreCommand),
    /// Walk from one latent to another
    Walk(walk::Walk),
    /// Show what each place of a latent of two values draws
    Map(map::Map),
    /// Measure the speed of a decoder or generator
    Bench(bench::Bench),
    /// Tell where a network's time goes, step by step
    Profile(profile::Profile),
    /// Put two models or precisions side by side: speed, size, pictures
    Compare(compare::Compare),
    /// Tell whether this board is ready, and what to do if not
    Doctor(doctor::Doctor),
    /// Write man pages and shell completions
    #[cfg(feature = "manual")]
    #[command(hide = true)]
    Manual {
        /// Where to
        folder: std::path::PathBuf,
    },
}

/// Runs the command that was asked for; `start` is when the program began.
pub(crate) fn run(start: Instant) -> Result<ExitCode> {
    let done = match Arguments::parse().command {
        Command::Say(command) => command.run(),
        Command::Score(command) => return command.run(),
        Command::Info(command) => command.run(),
        Command::Generate(command) => command.run(),
        Command::Reconstruct(command) => command.run(),
        Command::Transform(command) => command.run(),
        Command::Walk(command) => command.run(),
        Command::Map(command) => command.run(),
        Command::Bench(command) => command.run(start),
        Command::Profile(command) => command.run(),
        Command::Compare(command) => command.run(),
        Command::Doctor(command) => command.run(),
        #[cfg(feature = "manual")]
        Command::Manual { folder } => {
            let program = <Arguments as clap::CommandFactory>::command();
            edgegen_runtime::manual::write(program, &folder).with_context(|| folder.display().to_string())
        }
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// Prints to standard output. That its reader has left, as `head` does, is no error.
fn print(text: &str) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("cannot print"),
        _ => Ok(()),
    }
}

/// Names out of a file must not move the cursor or start a line of their own.
fn printable(text: &str) -> String {
    text.chars().filter(|c| *c == '\n' || !c.is_control()).collect()
}
