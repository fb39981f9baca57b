//! The paths of a run.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// The paths of a run.
#[derive(Clone, Debug)]
pub struct RunFolder {
    root: PathBuf,
}

impl RunFolder {
    /// The run at `root`, which need not exist.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_path_buf() }
    }

    /// A run that was begun.
    ///
    /// # Errors
    /// [`Error::Run`] if there is none.
    pub fn existing(root: &Path) -> Result<Self> {
        let folder = Self::new(root);
        if folder.config().is_file() {
            return Ok(folder);
        }
        Err(Error::run(
            root,
            "is no run folder: it has no config.toml; edgegen-train train PRESET --out RUN makes one",
        ))
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Every setting.
    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// A few of the pictures, see [`super::kept`].
    pub fn pictures(&self) -> PathBuf {
        self.root.join("pictures.safetensors")
    }

    /// One line a report.
    pub fn metrics(&self) -> PathBuf {
        self.root.join("metrics.jsonl")
    }

    /// The state to go on from.
    pub fn last(&self) -> PathBuf {
        self.root.join("checkpoints/last.safetensors")
    }

    /// The weights to use.
    pub fn best(&self) -> PathBuf {
        self.root.join("checkpoints/best.safetensors")
    }

    /// What `edgegen-train eval` found last.
    pub fn evaluation(&self) -> PathBuf {
        self.root.join("evaluation.json")
    }

    /// Of a GAN: the discriminator whose features rank the reports.
    pub fn judge(&self) -> PathBuf {
        self.root.join("checkpoints/judge.safetensors")
    }

    /// Of a GAN: the averaged generator after step `step`.
    pub fn snapshot(&self, step: u64) -> PathBuf {
        self.snapshots_folder().join(format!("step-{step:07}.safetensors"))
    }

    /// The steps of all snapshots, in order.
    pub fn snapshots(&self) -> Vec<u64> {
        let entries = fs::read_dir(self.snapshots_folder()).into_iter().flatten().flatten();
        let mut steps: Vec<u64> = entries
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                name.strip_prefix("step-")?.strip_suffix(".safetensors")?.parse().ok()
            })
            .collect();
        steps.sort_unstable();
        steps
    }

    fn snapshots_folder(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    /// Where a kind of picture of a step goes.
    ///
    /// # Errors
    /// If its folder cannot be made.
    pub(super) fn picture(&self, kind: &str, step: u64) -> Result<PathBuf> {
        Ok(Self::create(self.root.join(kind))?.join(format!("step-{step:07}.png")))
    }

    /// Makes the folder of snapshots.
    pub(super) fn make_snapshots(&self) -> Result<()> {
        Self::create(self.snapshots_folder()).map(drop)
    }

    /// Makes the folders that every run has.
    pub(super) fn make(&self) -> Result<()> {
        Self::create(self.root.join("checkpoints")).map(drop)
    }

    fn create(path: PathBuf) -> Result<PathBuf> {
        fs::create_dir_all(&path).map_err(|e| Error::io("create", &path, e))?;
        Ok(path)
    }
}
