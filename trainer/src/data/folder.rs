//! A folder of images of any size: PNG, JPEG, WebP. Each is centre-cropped to a square and resized;
//! transparency is shown on white. Sub-folders are classes.
//!
//! `train/` and `test/` (and `validation/` or `val/`) directly below the folder, if present, are the
//! parts; otherwise each picture's part follows from a hash of its path below the folder, so that it
//! stays in its part when others come or go.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use edgegen_runtime::model::ImageShape;
use image::{DynamicImage, ImageReader, Limits, RgbImage, imageops};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::{Dataset, LoadOptions, Pictures};
use crate::{Error, Result};

const EXTENSIONS: [&str; 4] = ["png", "jpg", "jpeg", "webp"];
/// Largest side of an image that is decoded; above that it is skipped with a word.
const LARGEST_SIDE: u32 = 16_384;
/// Largest memory for decoding one image, bytes.
const DECODING_MEMORY: u64 = 512 << 20;
/// Deepest nesting of sub-folders that is searched.
const DEEPEST: usize = 8;
/// Most images of a folder: 2 million 64×64 RGB pictures are 24 GB.
const MOST_IMAGES: usize = 2_000_000;

#[derive(Clone, Copy, PartialEq)]
enum Split {
    Train,
    Validation,
    Test,
}

struct Found {
    path: PathBuf,
    split: Split,
    class: Option<String>,
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
        return Err(Error::data(root, format!("{seen}; --data takes PNG, JPEG or WebP images, or IDX files")));
    }
    let names: BTreeSet<&String> = found.iter().filter_map(|image| image.class.as_ref()).collect();
    let classes: Vec<String> = names.into_iter().cloned().collect();
    let channels = if options.gray { 1 } else { 3 };
    let shape = ImageShape { channels, height: options.side, width: options.side };
    let decoded: Vec<_> = found.par_iter().map(|image| decode(&image.path, options)).collect();

    let mut parts = [(); 3].map(|()| Pictures::with(shape.values()));
    for (image, pixels) in found.iter().zip(decoded) {
        match pixels {
            Ok(pixels) => {
                let label = image.class.as_ref().and_then(|name| classes.binary_search(name).ok());
                parts[image.split as usize].push(&pixels, label.map(|label| label as u16));
            }
            Err(problem) => skipped.push((image.path.clone(), problem)),
        }
    }
    let [mut train, mut validation, mut test] = parts;
    if train.count() == 0 && validation.count() == 0 && test.count() == 0 {
        let (path, problem) = &skipped[0];
        return Err(Error::data(root, format!("no image could be read; the first, {}: {problem}", path.display())));
    }
    if train.labels.len() < train.count() {
        // images beside class folders have no class: then nobody has
        for part in [&mut train, &mut validation, &mut test] {
            part.labels.clear();
        }
    }
    if train.count() < 2 {
        return Err(Error::data(root, format!("{} training pictures are too few", train.count())));
    }
    for part in [&mut validation, &mut test] {
        if part.count() == 0 {
            let spare = (train.count() / 20).max(1);
            let (rest, moved) = train.split_off(|index| index < spare);
            (train, *part) = (rest, moved);
        }
    }
    let name = root
        .canonicalize()
        .ok()
        .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .unwrap_or_else(|| "images".into());
    Ok(Dataset { name, shape, classes, train, validation, test, skipped })
}

fn find(root: &Path, skipped: &mut Vec<(PathBuf, String)>) -> Result<Vec<Found>> {
    let mut paths = Vec::new();
    walk(root, 0, &mut paths, skipped)?;
    paths.sort();
    if paths.len() > MOST_IMAGES {
        return Err(Error::data(root, format!("holds {} images; at most {MOST_IMAGES} are taken", paths.len())));
    }
    let below = |path: &Path| -> Vec<String> {
        let relative = path.strip_prefix(root).unwrap_or(path);
        relative.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect()
    };
    let has_parts = paths.iter().any(|path| matches!(below(path).as_slice(), [first, _, ..] if first == "train"));
    Ok(paths
        .into_iter()
        .filter_map(|path| {
            let mut parts = below(&path);
            let split = if has_parts {
                let split = match parts[0].as_str() {
                    "train" => Split::Train,
                    "validation" | "val" => Split::Validation,
                    "test" => Split::Test,
                    _ => {
                        skipped.push((path, "lies outside train/, validation/ and test/".into()));
                        return None;
                    }
                };
                parts.remove(0);
                split
            } else {
                split_by_hash(&parts.join("/"))
            };
            let class = (parts.len() > 1).then(|| parts.swap_remove(0));
            Some(Found { path, split, class })
        })
        .collect())
}

/// 5 % validation, 5 % test.
fn split_by_hash(name: &str) -> Split {
    match Sha256::digest(name.as_bytes())[0] % 20 {
        0 => Split::Validation,
        1 => Split::Test,
        _ => Split::Train,
    }
}

fn walk(folder: &Path, depth: usize, paths: &mut Vec<PathBuf>, skipped: &mut Vec<(PathBuf, String)>) -> Result<()> {
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
        if path.is_dir() {
            walk(&path, depth + 1, paths, skipped)?;
            continue;
        }
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
        if extension.is_some_and(|extension| EXTENSIONS.contains(&extension.as_str())) {
            paths.push(path);
        } else {
            skipped.push((path, "is no PNG, JPEG or WebP file".into()));
        }
    }
    Ok(())
}

/// One image as (side, side, channels) bytes.
fn decode(path: &Path, options: LoadOptions) -> std::result::Result<Vec<u8>, String> {
    let mut limits = Limits::default();
    limits.max_image_width = Some(LARGEST_SIDE);
    limits.max_image_height = Some(LARGEST_SIDE);
    limits.max_alloc = Some(DECODING_MEMORY);
    let mut reader = ImageReader::open(path).and_then(ImageReader::with_guessed_format).map_err(|e| e.to_string())?;
    reader.limits(limits);
    let image = reader.decode().map_err(|e| e.to_string())?;
    Ok(fit(image, options))
}

/// Centre crop to a square, resize with antialiasing, white behind transparency.
fn fit(image: DynamicImage, options: LoadOptions) -> Vec<u8> {
    let side = image.width().min(image.height());
    let square = image.crop_imm((image.width() - side) / 2, (image.height() - side) / 2, side, side);
    let opaque = if square.color().has_alpha() { on_white(&square) } else { square.into_rgb8() };
    let target = options.side as u32;
    let resized =
        if side == target { opaque } else { imageops::resize(&opaque, target, target, imageops::FilterType::CatmullRom) };
    if options.gray { imageops::grayscale(&resized).into_raw() } else { resized.into_raw() }
}

fn on_white(image: &DynamicImage) -> RgbImage {
    let rgba = image.to_rgba8();
    let mut out = RgbImage::new(rgba.width(), rgba.height());
    for (target, source) in out.pixels_mut().zip(rgba.pixels()) {
        let [red, green, blue, alpha] = source.0.map(u32::from);
        target.0 = [red, green, blue].map(|value| ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8);
    }
    out
}
