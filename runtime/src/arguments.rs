//! Command-line arguments that all programs share that open a model.

use crate::model::{InputShape, OpenOptions, RangeChoice};
use clap::Args;

const FOREIGN: &str = "For ONNX files of other programs";

/// What the user knows about an ONNX file of another program, and the file does not say.
#[derive(Args, Clone, Debug, Default)]
pub struct Foreign {
    /// Values of black and white: 0 and 1, -1 and 1, or as the file's last node tells [default: auto]
    #[arg(long, help_heading = FOREIGN, value_name = "unit|signed|auto")]
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
}

impl Foreign {
    /// Whether anything was said.
    pub fn is_given(&self) -> bool {
        self.range.is_some() || self.input.is_some() || self.output.is_some() || self.shape.is_some()
    }

    /// How the file is opened.
    pub fn options(&self) -> OpenOptions {
        OpenOptions {
            range: self.range.and_then(RangeChoice::range),
            input: self.input.clone(),
            output: self.output.clone(),
            shape: self.shape.clone(),
            ..OpenOptions::default()
        }
    }
}
