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

    /// One line an epoch.
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

    /// Where a kind of picture of an epoch goes.
    ///
    /// # Errors
    /// If its folder cannot be made.
    pub(super) fn picture(&self, kind: &str, epoch: u64) -> Result<PathBuf> {
        Ok(Self::create(self.root.join(kind))?.join(format!("epoch-{epoch:04}.png")))
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
