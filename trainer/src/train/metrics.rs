//! What a run reports: one JSON object per epoch in `metrics.jsonl`.

use std::fs;
use std::path::Path;

use edgegen_runtime::files::write_atomically;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Mean terms over pictures, nats per picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bound {
    /// reconstruction − kl (β = 1, no free bits): a lower bound of log p(x).
    pub elbo: f64,
    /// E_q[log p(x|z)].
    pub reconstruction: f64,
    /// KL(q(z|x)‖p(z)).
    pub kl: f64,
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
    /// Weight of the KL term at the end of the epoch.
    pub beta: f64,
    /// Learning rate at the end of the epoch.
    pub learning_rate: f64,
    /// Over the epoch's training pictures, while they were learned.
    pub train: Bound,
    /// Over the validation pictures, at the end of the epoch.
    pub validation: Bound,
}

/// Sums from which a [`Bound`] comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sums {
    reconstruction: f64,
    kl: f64,
    pictures: u64,
}

impl Sums {
    /// Adds a batch of `pictures` with these mean terms.
    pub fn add(&mut self, reconstruction: f64, kl: f64, pictures: usize) {
        self.reconstruction += reconstruction * pictures as f64;
        self.kl += kl * pictures as f64;
        self.pictures += pictures as u64;
    }

    /// The means.
    pub fn bound(&self) -> Bound {
        let count = self.pictures.max(1) as f64;
        let (reconstruction, kl) = (self.reconstruction / count, self.kl / count);
        Bound { elbo: reconstruction - kl, reconstruction, kl }
    }
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
