//! A folder of images of any size: PNG, JPEG, WebP. Each is centre-cropped to a square and resized;
//! transparency is shown on white, and phone pictures are turned upright. Sub-folders are classes.
//!
//! If every folder directly below is `train`, `test` or `validation` (`val`), these are the parts. A
//! part that is missing is chosen by a hash of the pictures' paths: 5 % for each of validation and test.
//! Pictures of one class whose names differ only behind the last underscore (`1f34e_noto.png`,
//! `1f34e_twitter.png`) stay together, so that near copies don't straddle the split.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use edgegen_runtime::model::ImageShape;
use edgegen_runtime::pictures::read_picture;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::{Dataset, LoadOptions, Pictures, name_of};
use crate::{Error, Result};

const EXTENSIONS: [&str; 4] = ["png", "jpg", "jpeg", "webp"];
/// Deepest nesting of sub-folders that is searched.
const DEEPEST: usize = 8;
/// Most images of a folder.
const MOST_IMAGES: usize = 2_000_000;
/// Most memory for all pictures of a data set, bytes.
const MOST_BYTES: usize = 8 << 30;
/// One picture in so many becomes a validation picture, and one a test picture.
const HELD_OUT: usize = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Split {
    Train,
    Validation,
    Test,
}

struct Found {
    path: PathBuf,
    split: Option<Split>,
    class: Option<String>,
    /// What the split is chosen by.
    group: String,
}

/// Loads every image below `root`.
pub(super) fn load(root: &Path, options: LoadOptions) -> Result<Dataset> {
    let mut skipped = Vec::new();
    let found = find(root, &mut skipped)?;
    if found.is_empty() {
        let seen = if skipped.is_empty() {
            "is empty".to_string()
        } else {
            format!("holds {} files, none of them an image", skipped.len())
        };
        return Err(Error::data(
            root,
            format!("{seen}; --data takes PNG, JPEG or WebP images, or IDX files"),
        ));
    }
    let shape =
        ImageShape { channels: if options.gray { 1 } else { 3 }, height: options.side, width: options.side };
    if found.len().saturating_mul(shape.values()) > MOST_BYTES {
        let problem = format!(
            "{} pictures of {shape} are more than the {MOST_BYTES} bytes that are held in memory; choose a smaller --size",
            found.len()
        );
        return Err(Error::data(root, problem));
    }
    let decoded: Vec<_> = found.par_iter().map(|image| decode(&image.path, shape)).collect();
    let mut pictures = Vec::with_capacity(decoded.len());
    let mut kept = Vec::with_capacity(found.len());
    for (image, pixels) in found.into_iter().zip(decoded) {
        match pixels {
            Ok(pixels) => {
                pictures.push(pixels);
                kept.push(image);
            }
            Err(problem) => skipped.push((image.path, problem)),
        }
    }
    let mut found = kept;
    let classes = classes(root, &found)?;
    let unclassed = found.iter().filter(|image| image.class.is_none()).count();
    let mut remarks = Vec::new();
    if unclassed > 0 && unclassed < found.len() {
        let count = found.len();
        remarks.push(format!(
            "no classes are told apart: {unclassed} of {count} pictures lie outside of sub-folders"
        ));
    }
    split(&mut found);

    let mut parts = [(); 3].map(|()| Pictures::with(shape.values()));
    for (image, pixels) in found.iter().zip(pictures) {
        let label = image.class.as_ref().and_then(|name| classes.binary_search(name).ok());
        let part = image.split.unwrap_or(Split::Train) as usize;
        parts[part].push(&pixels, label.map(|label| label as u16));
    }
    let [train, validation, test] = parts;
    let counts = [train.count(), validation.count(), test.count()];
    if let (true, Some((path, problem))) = (counts == [0; 3], skipped.first()) {
        return Err(Error::data(
            root,
            format!("no image could be read; the first, {}: {problem}", path.display()),
        ));
    }
    if counts.contains(&0) || counts[0] < 2 {
        let [train, validation, test] = counts;
        let problem = format!(
            "{train} training, {validation} validation and {test} test pictures are too few in one of the parts"
        );
        return Err(Error::data(root, problem));
    }
    Ok(Dataset { name: name_of(root), shape, classes, train, validation, test, skipped, remarks })
}

/// The classes' names, sorted; none if any image lies outside of a class folder.
fn classes(root: &Path, found: &[Found]) -> Result<Vec<String>> {
    let names: Option<BTreeSet<&String>> = found.iter().map(|image| image.class.as_ref()).collect();
    let names = names.unwrap_or_default();
    if names.len() > usize::from(u16::MAX) {
        return Err(Error::data(
            root,
            format!("holds {} sub-folders; at most {} classes are told apart", names.len(), u16::MAX),
        ));
    }
    Ok(names.into_iter().cloned().collect())
}

fn find(root: &Path, skipped: &mut Vec<(PathBuf, String)>) -> Result<Vec<Found>> {
    let mut paths = Vec::new();
    walk(root, 0, &mut paths, skipped)?;
    paths.sort();
    let below = |path: &Path| -> Vec<String> {
        let relative = path.strip_prefix(root).unwrap_or(path);
        relative.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect()
    };
    let part = |parts: &[String]| match parts {
        [first, _, ..] => match first.as_str() {
            "train" => Some(Split::Train),
            "validation" | "val" => Some(Split::Validation),
            "test" => Some(Split::Test),
            _ => None,
        },
        _ => None,
    };
    let has_parts = paths.iter().all(|path| part(&below(path)).is_some());
    let describe = |path: PathBuf| {
        let mut parts = below(&path);
        let split = if has_parts { part(&parts) } else { None };
        if has_parts {
            parts.remove(0);
        }
        let name = parts.join("/");
        let stem = name.rsplit_once('.').map_or(name.as_str(), |(stem, _)| stem);
        let group = match stem.rsplit_once('_') {
            Some((group, variant)) if !variant.contains('/') => group,
            _ => stem,
        };
        Found {
            group: group.to_string(),
            split,
            class: (parts.len() > 1).then(|| parts.swap_remove(0)),
            path,
        }
    };
    Ok(paths.into_iter().map(describe).collect())
}

/// Chooses the parts that the folders do not give: groups in the order of their hashes, validation
/// from one end, test from the other.
fn split(found: &mut [Found]) {
    let given = |split| found.iter().any(|image| image.split == Some(split));
    let (validation, test) = (given(Split::Validation), given(Split::Test));
    let mut groups: BTreeMap<[u8; 32], Vec<usize>> = BTreeMap::new();
    let mut count = 0;
    for (index, image) in found.iter().enumerate() {
        if matches!(image.split, None | Some(Split::Train)) {
            groups.entry(Sha256::digest(image.group.as_bytes()).into()).or_default().push(index);
            count += 1;
        }
    }
    let mut groups: Vec<Vec<usize>> = groups.into_values().collect();
    for (given, split) in [(validation, Split::Validation), (test, Split::Test)] {
        let mut missing = if given { 0 } else { (count / HELD_OUT).max(1) };
        while missing > 0 && groups.len() > 1 {
            let group =
                if split == Split::Validation { groups.remove(0) } else { groups.pop().unwrap_or_default() };
            missing = missing.saturating_sub(group.len());
            group.into_iter().for_each(|index| found[index].split = Some(split));
        }
    }
}

fn walk(
    folder: &Path,
    depth: usize,
    paths: &mut Vec<PathBuf>,
    skipped: &mut Vec<(PathBuf, String)>,
) -> Result<()> {
    if depth > DEEPEST {
        skipped.push((folder.to_path_buf(), format!("lies more than {DEEPEST} folders deep")));
        return Ok(());
    }
    for entry in fs::read_dir(folder).map_err(|e| Error::io("read", folder, e))? {
        let entry = entry.map_err(|e| Error::io("read", folder, e))?;
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        // followed, a link to a folder above would show every picture again, in another part
        let linked = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        if path.is_dir() && linked {
            skipped.push((path, "is a link to a folder".into()));
        } else if path.is_dir() {
            walk(&path, depth + 1, paths, skipped)?;
        } else if path.is_file() && has_image_extension(&path) {
            paths.push(path);
            if paths.len() > MOST_IMAGES {
                return Err(Error::data(folder, format!("more than {MOST_IMAGES} images are not taken")));
            }
        } else {
            skipped.push((path, "is no PNG, JPEG or WebP file".into()));
        }
    }
    Ok(())
}

fn has_image_extension(path: &Path) -> bool {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension.as_str()))
}

/// One image as (side, side, channels) bytes.
fn decode(path: &Path, shape: ImageShape) -> std::result::Result<Vec<u8>, String> {
    read_picture(path, shape).map(|frame| frame.pixels).map_err(|error| {
        let text = error.to_string();
        let reason = text.strip_prefix(&format!("{}: ", path.display())).map(str::to_string);
        reason.unwrap_or(text)
    })
}
