//! Command-line arguments that all programs share that open a model.

use crate::model::{ImageShape, InputShape, Machine, OpenOptions, RangeChoice};
use crate::{Error, Result};
use clap::Args;
use edgegen_kernels::{Cpu, Isa};

const FOREIGN: &str = "For ONNX files of other programs";

/// What the user knows about an ONNX file of another program, and the file does not say.
#[derive(Args, Clone, Debug, Default)]
pub struct Foreign {
    /// Values of black and white: 0 and 1, -1 and 1, or as the file's last node tells [default: auto]
    #[arg(long, help_heading = FOREIGN, value_name = "unit|signed|bytes|auto")]
    range: Option<RangeChoice>,
    /// The input to feed
    #[arg(long, help_heading = FOREIGN, value_name = "NAME")]
    input: Option<String>,
    /// The output to read
    #[arg(long, help_heading = FOREIGN, value_name = "NAME")]
    output: Option<String>,
    /// Shape of the input, where the file leaves sizes open: for example N,100 or N,100,1,1
    #[arg(long, help_heading = FOREIGN, value_name = "N,SIZE,…")]
    shape: Option<InputShape>,
    /// Size of the picture that an output of plain values is: an output of (N,784) is 1x28x28
    #[arg(long, help_heading = FOREIGN, value_name = "CxHxW")]
    picture: Option<ImageShape>,
}

impl Foreign {
    /// Whether anything was said.
    pub fn is_given(&self) -> bool {
        self.range.is_some()
            || self.input.is_some()
            || self.output.is_some()
            || self.shape.is_some()
            || self.picture.is_some()
    }

    /// How the file is opened, on this machine with one thread.
    ///
    /// # Errors
    /// As [`machine`].
    pub fn options(&self) -> Result<OpenOptions> {
        Ok(OpenOptions {
            range: self.range.and_then(RangeChoice::range),
            input: self.input.clone(),
            output: self.output.clone(),
            shape: self.shape.clone(),
            picture: self.picture,
            machine: machine(1)?,
            ..OpenOptions::default()
        })
    }
}

/// The variable that forces a family of kernels.
const FORCED: &str = "EDGEGEN_ISA";

/// What a program's networks run on: the best kernels that this CPU has, or those that `EDGEGEN_ISA` names, on so many threads.
///
/// # Errors
/// If the variable names a family that this CPU lacks, or none; if there cannot be so many threads.
pub fn machine(threads: usize) -> Result<Machine> {
    Machine::new(cpu()?, threads)
}

fn cpu() -> Result<Cpu> {
    let Some(name) = std::env::var_os(FORCED).filter(|name| !name.is_empty()) else {
        return Ok(Cpu::detect());
    };
    let name = name.to_string_lossy();
    let isa: Isa =
        name.parse().map_err(|error| Error::invalid(format_args!("{FORCED} is {name:?}: {error}")))?;
    Cpu::with(isa).ok_or_else(|| {
        let best = Cpu::detect().isa();
        Error::invalid(format_args!("{FORCED} is {isa}, which this CPU lacks: its best is {best}"))
    })
}

/// Keeps the messages of panics that become errors from being printed, in this process from now on: for programs.
pub fn hide_expected_panics() {
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !crate::panic_becomes_error() {
            previous(info);
        }
    }));
}
