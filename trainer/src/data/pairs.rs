//! Pairs of pictures: what goes into a network, and what should come out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use edgegen_runtime::model::ImageShape;

use super::files::{self, FORMATS, FoundFile};
use crate::{Error, Result};

/// Gives each of `files`, below `root`, the picture of the same name below `to`; endings may differ.
///
/// # Errors
/// [`Error::Data`] if a picture of either folder has no partner, or two have the same one.
pub(super) fn match_names(root: &Path, files: &mut [FoundFile], to: &Path) -> Result<()> {
    if !to.is_dir() {
        return Err(Error::data(to, "is no folder; --to takes one with the pictures that should come out"));
    }
    let mut partners = by_name(to, &files::below(to)?.files)?;
    let own = by_name(root, files)?;
    let lonely: Vec<&PathBuf> =
        own.iter().filter(|(name, _)| !partners.contains_key(*name)).map(|(_, path)| path).collect();
    if let Some(first) = lonely.first() {
        return Err(Error::data(
            to,
            format!(
                "holds no partner for {} of {} pictures, the first {}: both pictures of a pair have the same name",
                lonely.len(),
                files.len(),
                first.display()
            ),
        ));
    }
    for file in files {
        file.partner = partners.remove(&name_below(root, &file.path));
    }
    match partners.first_key_value() {
        None => Ok(()),
        Some((_, first)) => Err(Error::data(
            root,
            format!(
                "holds no partner for {} pictures of {}, the first {}: both pictures of a pair have the same name",
                partners.len(),
                to.display(),
                first.display()
            ),
        )),
    }
}

/// The pictures below `root`, each with that of the same name below `to`, in the order of their names.
///
/// # Errors
/// As [`match_names`], or that there are none.
pub fn listed(root: &Path, to: &Path) -> Result<Vec<(PathBuf, PathBuf)>> {
    let mut files = files::below(root)?.files;
    if files.is_empty() {
        return Err(Error::data(root, format!("holds no {FORMATS} images")));
    }
    match_names(root, &mut files, to)?;
    Ok(files.into_iter().filter_map(|file| Some((file.path, file.partner?))).collect())
}

/// The path below a folder, without the ending.
fn name_below(root: &Path, path: &Path) -> PathBuf {
    path.strip_prefix(root).unwrap_or(path).with_extension("")
}

fn by_name(root: &Path, files: &[FoundFile]) -> Result<BTreeMap<PathBuf, PathBuf>> {
    let mut names = BTreeMap::new();
    for file in files {
        if let Some(other) = names.insert(name_below(root, &file.path), file.path.clone()) {
            let problem = format!("has the same name as {}: a pair needs one of them", other.display());
            return Err(Error::data(&file.path, problem));
        }
    }
    Ok(names)
}

/// One of the two pictures of a pair of `shape`.
pub(crate) fn half(shape: ImageShape) -> ImageShape {
    ImageShape { width: shape.width / 2, ..shape }
}

/// Two pictures (height, width, channels) of the same size side by side.
pub(super) fn joined(left: &[u8], right: &[u8], half: ImageShape) -> Vec<u8> {
    let row = half.width * half.channels;
    let rows = left.chunks(row).zip(right.chunks(row));
    rows.flat_map(|(left, right)| left.iter().chain(right)).copied().collect()
}

/// The two pictures of a pair of `shape`, (height, width, channels) each.
pub(crate) fn parted(pixels: &[u8], shape: ImageShape) -> [Vec<u8>; 2] {
    let row = half(shape).width * shape.channels;
    let rows = || pixels.chunks(2 * row);
    [
        rows().flat_map(|both| &both[..row]).copied().collect(),
        rows().flat_map(|both| &both[row..]).copied().collect(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_parted_as_they_were_joined() {
        let half_shape = ImageShape { channels: 3, height: 2, width: 4 };
        let left: Vec<u8> = (0..24).collect();
        let right: Vec<u8> = (100..124).collect();
        let pair = joined(&left, &right, half_shape);
        let shape = ImageShape { width: 8, ..half_shape };
        assert_eq!(half(shape), half_shape);
        assert_eq!(pair[..12], left[..12]);
        assert_eq!(pair[12..24], right[..12]);
        assert_eq!(parted(&pair, shape), [left, right]);
    }
}
