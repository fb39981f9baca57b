//! Model files: open, check, describe.

mod facts;
mod folder;
mod kinds;
pub mod limits;
mod metadata;

pub use facts::{Facts, TensorFact};
pub use folder::{MANIFEST, Manifest, ManifestFile, ModelFolder, file_name, sha256_hex};
pub use kinds::{ImageShape, Kind, Part, PixelFormat, Precision, Range};
pub use metadata::{Metadata, keys};

use crate::Result;
use crate::generate::{Encoder, Generator};
use std::path::Path;

/// What the user knows about a file and the file does not say.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// Range of the network's pictures; `None`: metadata, or else the last node.
    pub range: Option<Range>,
    /// Name of the input to feed, where several would do.
    pub input: Option<String>,
    /// Name of the output to read, where there are several.
    pub output: Option<String>,
}

/// A checked ONNX model, not yet bound to a batch size.
pub struct Model {
    facts: Facts,
}

impl Model {
    /// Opens an ONNX file.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Self> {
        let bytes = limits::read_bounded(path, limits::MAX_MODEL_BYTES)?;
        Self::from_bytes(&bytes, &path.display().to_string(), options)
    }

    /// Opens an ONNX file that is in memory; `name` stands for it in errors.
    pub fn from_bytes(_bytes: &[u8], _name: &str, _options: &OpenOptions) -> Result<Self> {
        todo!()
    }

    /// What the file is.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Makes the decoder or generator ready to run.
    pub fn into_generator(self, _batch: usize) -> Result<Generator> {
        todo!()
    }

    /// Makes the encoder ready to run.
    pub fn into_encoder(self, _batch: usize) -> Result<Encoder> {
        todo!()
    }
}
