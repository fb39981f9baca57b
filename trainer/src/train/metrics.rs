//! What a run reports: one JSON object per epoch in `metrics.jsonl`.

use std::fs;
use std::path::Path;

use edgegen_runtime::files::write_atomically;
use serde::{Deserialize, Serialize};

use crate::evaluate::Bound;
use crate::{Error, Result};

/// One epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// From 1.
    pub epoch: u64,
    /// Steps done so far.
    pub step: u64,
    /// Training time so far, seconds.
    pub seconds: f64,
    /// Weight of the KL term at the end of the epoch.
    pub beta: f64,
    /// Learning rate at the end of the epoch.
    pub learning_rate: f64,
    /// Over the epoch's training pictures, while they were learned.
    pub train: Bound,
    /// Over the validation pictures, at the end of the epoch.
    pub validation: Bound,
}

/// Reads every epoch of `path`; none if the file does not exist.
///
/// # Errors
/// [`Error::Run`] naming file and line.
pub fn read(path: &Path) -> Result<Vec<Epoch>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
    let parse = |(number, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|e| Error::run(path, format!("line {}: {e}", number + 1)))
    };
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(parse).collect()
}

/// Writes all epochs to `path`.
///
/// # Errors
/// The file system's.
pub fn write(path: &Path, epochs: &[Epoch]) -> Result<()> {
    write_atomically(path, |out| {
        epochs.iter().try_for_each(|epoch| {
            serde_json::to_writer(&mut *out, epoch)?;
            std::io::Write::write_all(out, b"\n")
        })
    })?;
    Ok(())
}
