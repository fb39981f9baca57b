//! `edgegen-sim`: the device's program on a virtual panel.

mod arguments;
mod operate;
mod program;
#[cfg(feature = "window")]
mod window;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match program::run(&arguments::Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
