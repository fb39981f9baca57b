//! What a run reports: one JSON object per epoch in `metrics.jsonl`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use edgegen_runtime::files::write_atomically;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Figures by name.
pub type Figures = BTreeMap<String, f64>;

/// Figures out of names and values.
pub fn figures<const N: usize>(values: [(&str, f64); N]) -> Figures {
    values.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
}

/// Figures of several steps on their way to a mean.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sums {
    /// (sum, steps that told it) by name.
    sums: BTreeMap<String, (f64, u64)>,
}

impl Sums {
    /// Adds a step's.
    pub fn add(&mut self, figures: &Figures) {
        for (name, value) in figures {
            let (sum, steps) = self.sums.entry(name.clone()).or_default();
            (*sum, *steps) = (*sum + value, *steps + 1);
        }
    }

    /// The means, each over the steps that told it.
    pub fn means(&self) -> Figures {
        self.sums.iter().map(|(name, (sum, steps))| (name.clone(), sum / *steps as f64)).collect()
    }
}

/// One epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// From 1.
    pub epoch: u64,
    /// Steps done so far.
    pub step: u64,
    /// Training time so far, seconds.
    pub seconds: f64,
    /// Learning rate at the end of the epoch.
    pub learning_rate: f64,
    /// Means over the epoch's steps, while they were made.
    pub train: Figures,
    /// What was measured at the end of the epoch.
    pub validation: Figures,
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
