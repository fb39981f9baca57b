//! The picture files below a folder: which names are looked at, and what was passed over.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rayon::prelude::*;

use crate::{Error, Result};

/// Endings of the files that are opened as pictures; their content decides the format.
const EXTENSIONS: [&str; 12] =
    ["png", "apng", "jpg", "jpeg", "jpe", "jfif", "webp", "gif", "bmp", "dib", "tif", "tiff"];
/// Endings of the files that are opened as sounds.
const SOUNDS: [&str; 2] = ["wav", "wave"];
/// Endings of pictures that are not read, and are refused by name.
const REFUSED: [&str; 5] = ["heic", "heif", "hif", "avif", "avifs"];
/// What users are told that folders may hold.
pub(crate) const FORMATS: &str = "PNG, JPEG, WebP, GIF, BMP or TIFF";
/// Deepest nesting of sub-folders that is searched.
const DEEPEST: usize = 8;

/// A file that may be a picture.
#[derive(Clone, Debug)]
pub(crate) struct FoundFile {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Bytes.
    pub(super) length: u64,
    /// Time of the last change, nanoseconds since 1970; `None` where the file system does not tell.
    pub(super) modified: Option<i64>,
    /// The picture that this one is a pair with, in its own file.
    pub(super) partner: Option<PathBuf>,
    /// Of a sound: the window of it that is a picture, from 0.
    pub(super) window: usize,
}

/// What lies below a folder.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// In the order of their paths.
    pub(crate) files: Vec<FoundFile>,
    /// Folders that were not entered, with the reason.
    pub(super) skipped: Vec<(PathBuf, String)>,
    /// Files with endings of no picture: how many of each ending.
    pub(super) others: BTreeMap<String, usize>,
}

impl Found {
    /// `3 of .txt, 1 without an ending`; `None` if there are none.
    pub(super) fn other_files(&self) -> Option<String> {
        let listed = |(extension, count): (&String, &usize)| match extension.as_str() {
            "" => format!("{count} without an ending"),
            _ => format!("{count} of .{extension}"),
        };
        (!self.others.is_empty()).then(|| self.others.iter().map(listed).collect::<Vec<_>>().join(", "))
    }
}

/// Searches `root` and the folders below it for pictures. Hidden files are passed over.
///
/// # Errors
/// The file system's.
pub(crate) fn below(root: &Path) -> Result<Found> {
    let endings: Vec<&str> = EXTENSIONS.iter().chain(&REFUSED).copied().collect();
    with_endings(root, &endings)
}

/// The same for sounds.
///
/// # Errors
/// The file system's.
pub(super) fn sounds_below(root: &Path) -> Result<Found> {
    with_endings(root, &SOUNDS)
}

fn with_endings(root: &Path, endings: &[&str]) -> Result<Found> {
    let (mut found, mut paths) = (Found::default(), Vec::new());
    walk(root, 0, endings, &mut paths, &mut found)?;
    paths.sort();
    found.files = paths.into_par_iter().filter_map(describe).collect();
    Ok(found)
}

fn walk(
    folder: &Path,
    depth: usize,
    endings: &[&str],
    paths: &mut Vec<PathBuf>,
    found: &mut Found,
) -> Result<()> {
    if depth > DEEPEST {
        found.skipped.push((folder.to_path_buf(), format!("lies more than {DEEPEST} folders deep")));
        return Ok(());
    }
    for entry in fs::read_dir(folder).map_err(|e| Error::io("read", folder, e))? {
        let entry = entry.map_err(|e| Error::io("read", folder, e))?;
        let name = entry.file_name();
        if name.to_string_lossy().starts_with('.') {
            continue;
        }
        let path = entry.path();
        let kind = entry.file_type().map_err(|e| Error::io("read", &path, e))?;
        if kind.is_symlink() && path.is_dir() {
            // followed, a link to a folder above would show every picture again, in another part
            found.skipped.push((path, "is a link to a folder".into()));
        } else if kind.is_dir() {
            walk(&path, depth + 1, endings, paths, found)?;
        } else {
            let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
            let extension = extension.unwrap_or_default();
            if endings.contains(&extension.as_str()) {
                paths.push(path);
            } else {
                *found.others.entry(extension).or_default() += 1;
            }
        }
    }
    Ok(())
}

/// A file with its length and time; `None` for what is no file, such as a link to nowhere.
fn describe(path: PathBuf) -> Option<FoundFile> {
    let metadata = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
    let modified = metadata.modified().ok().and_then(nanoseconds);
    Some(FoundFile { length: metadata.len(), modified, partner: None, window: 0, path })
}

/// Nanoseconds since 1970.
pub(super) fn nanoseconds(time: SystemTime) -> Option<i64> {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).ok(),
        Err(before) => i64::try_from(before.duration().as_nanos()).ok().map(|nanoseconds| -nanoseconds),
    }
}
