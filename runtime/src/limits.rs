//! Sizes beyond which a file or a request is refused, so that nothing a user hands in can take
//! unbounded memory or time.

use crate::{Error, Result};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Largest model file: far beyond what a small board can run.
pub const MAX_MODEL_BYTES: u64 = 1 << 29;
/// Largest `model.json`.
pub const MAX_MANIFEST_BYTES: u64 = 1 << 20;
/// Largest latent.
pub const MAX_LATENT_DIM: usize = 65_536;
/// Largest height or width of a picture.
pub const MAX_IMAGE_SIDE: usize = 8_192;
/// Largest batch that a network is bound to.
pub const MAX_BATCH: usize = 4_096;
/// Most values of all pictures, or of all latents, of one call: 512 MiB as f32.
pub const MAX_RUN_VALUES: usize = 1 << 27;
/// Most values of one tensor inside a network: 1 GiB as f32.
pub const MAX_TENSOR_VALUES: usize = 1 << 28;
/// Most nodes of a network.
pub const MAX_NODES: usize = 1 << 16;
/// Most messages (nodes, attributes, constants, names) of an ONNX file: about 200 MiB in memory.
pub(crate) const MAX_MESSAGES: usize = 1 << 20;
/// Most bytes of an ONNX file that are packed numbers, which take up to eight times as much memory.
pub(crate) const MAX_PACKED_BYTES: usize = 1 << 26;
/// Most memory for what opening a network makes beside its weights as they are stored: spread weights, planes, scratch.
pub(crate) const MAX_MADE_BYTES: u64 = 1 << 30;
/// Most multiply-accumulates of one picture: an hour of a small board.
pub(crate) const MAX_MACS: u64 = 1 << 42;
/// Most nodes of a network, or of a part, that tract runs: it needs time that grows with their square.
pub(crate) const MAX_FOREIGN_NODES: usize = 10_000;
/// Most nodes that are looked at to find shapes of values that another engine makes.
pub(crate) const MAX_NODES_ASKED: usize = 1 << 18;

/// Memory that opening a network may still take. It is charged before memory is taken.
#[derive(Debug)]
pub(crate) struct Budget {
    left: u64,
}

impl Budget {
    pub(crate) fn new() -> Self {
        Self { left: MAX_MADE_BYTES }
    }

    /// Charges so many bytes.
    ///
    /// # Errors
    /// If they are more than are left.
    pub(crate) fn take(&mut self, bytes: u64) -> std::result::Result<(), String> {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(format!(
                "the network needs more than the {} MiB that it may take beside its weights",
                MAX_MADE_BYTES >> 20
            )),
        }
    }

    /// Charges a product of sizes.
    ///
    /// # Errors
    /// As [`Self::take`]; a product that no number holds is more than there is.
    pub(crate) fn take_product(&mut self, sizes: &[usize]) -> std::result::Result<(), String> {
        let bytes = sizes.iter().fold(1u64, |product, size| product.saturating_mul(*size as u64));
        self.take(bytes)
    }
}

/// Checks a number of pictures (or latents) of `values_each` against [`MAX_RUN_VALUES`].
///
/// # Errors
/// [`Error::Invalid`] if `count` is 0 or too large; it tells the largest count.
pub fn check_count(count: usize, values_each: usize) -> Result<()> {
    if count == 0 {
        return Err(Error::invalid("a count of 0 asks for nothing: give 1 or more"));
    }
    let largest = MAX_RUN_VALUES / values_each.max(1);
    if count > largest {
        return Err(Error::invalid(format_args!(
            "a count of {count} is too large: at most {largest} of {values_each} values each fit into one call"
        )));
    }
    Ok(())
}

/// Reads a file of at most `most` bytes.
///
/// # Errors
/// If it is not a regular file, cannot be read, or is larger.
pub fn read_bounded(path: &Path, most: u64) -> Result<Vec<u8>> {
    let cannot_read = |e| Error::io("read", path, e);
    let file = File::open(path).map_err(cannot_read)?;
    let metadata = file.metadata().map_err(cannot_read)?;
    if !metadata.is_file() {
        return Err(Error::malformed(path.display(), "this is not a regular file"));
    }
    let too_large = || {
        Error::unsupported(
            path.display(),
            format_args!("larger than the {} MiB that are accepted", most >> 20),
        )
    };
    if metadata.len() > most {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    // The file may have grown since.
    let read = file.take(most + 1).read_to_end(&mut bytes).map_err(cannot_read)?;
    if read as u64 > most {
        return Err(too_large());
    }
    Ok(bytes)
}

/// How many values a node would make that fills a tensor of this shape, if they are more than there may be: tract computes
/// constant ones before it can be asked how large they are.
pub(crate) fn overfilled(operator: &str, shape: impl Iterator<Item = i64>) -> Option<u64> {
    if !matches!(operator, "ConstantOfShape" | "Expand" | "Tile") {
        return None;
    }
    let volume = shape.fold(1u64, |product, size| product.saturating_mul(size.unsigned_abs()));
    (volume > MAX_TENSOR_VALUES as u64).then_some(volume)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_bounded_on_both_sides() {
        assert!(check_count(0, 10).is_err());
        assert!(check_count(1, 784).is_ok());
        assert!(check_count(MAX_RUN_VALUES / 784, 784).is_ok());
        assert!(check_count(MAX_RUN_VALUES / 784 + 1, 784).is_err());
        assert!(check_count(usize::MAX, usize::MAX).is_err());
    }

    #[test]
    fn files_are_read_up_to_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, [7; 16]).unwrap();
        assert_eq!(read_bounded(&path, 16).unwrap(), [7; 16]);
        assert!(read_bounded(&path, 15).unwrap_err().to_string().contains("larger than"));
        assert!(read_bounded(folder.path(), 16).is_err());
    }
}
