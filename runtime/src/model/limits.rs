//! Sizes beyond which a file or a request is refused, so that nothing a user hands in can take
//! unbounded memory or time.

use crate::{Error, Result};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Largest model file: far beyond what a small board can run.
pub const MAX_MODEL_BYTES: u64 = 1 << 30;
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
