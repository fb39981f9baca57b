//! `edgegen`: pictures from an ONNX model on a device's CPU. The commands are in `program/`.

mod program;

use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let start = Instant::now();
    edgegen_runtime::arguments::hide_expected_panics();
    match program::run(start) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
