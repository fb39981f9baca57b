//! `edgegen-train`: train, look at, evaluate and export generators on a host.

mod program;

use std::process::ExitCode;

/// Training frees and takes the same large buffers at every step; the system's allocator gives them back
/// to the kernel each time, which cost a third of a step.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match program::run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
