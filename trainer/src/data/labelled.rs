//! A folder of IDX files with MNIST's names: `{train,t10k}-{images-idx3,labels-idx1}-ubyte[.gz]`.

use std::path::{Path, PathBuf};

use edgegen_runtime::model::ImageShape;
use edgegen_runtime::random::{Purpose, Stream};

use super::{Dataset, Pictures, idx, name_of};
use crate::{Error, Result};

/// Share of the training pictures that is set aside for validation: 5,000 of MNIST's 60,000.
const VALIDATION_SHARE: f64 = 1.0 / 12.0;
/// The split does not depend on the run's seed, so that runs can be compared.
const SPLIT_SEED: u64 = 0;
/// Largest side of a picture.
const LARGEST_SIDE: usize = 4096;

fn find(folder: &Path, stem: &str) -> Option<PathBuf> {
    // torchvision unpacks "train-images-idx3-ubyte"; some mirrors write "train-images.idx3-ubyte"
    [stem.to_string(), format!("{stem}.gz"), stem.replace("-idx", ".idx")]
        .into_iter()
        .map(|name| folder.join(name))
        .find(|path| path.is_file())
}

/// Whether `folder` holds at least one file with such a name.
pub(super) fn is_idx_folder(folder: &Path) -> bool {
    ["train", "t10k"].iter().any(|part| {
        find(folder, &format!("{part}-images-idx3-ubyte")).is_some()
            || find(folder, &format!("{part}-labels-idx1-ubyte")).is_some()
    })
}

/// Loads training and test pictures and splits validation off the training ones.
pub(super) fn load(folder: &Path) -> Result<Dataset> {
    let (shape, train) = part(folder, "train")?;
    let (test_shape, test) = part(folder, "t10k")?;
    if train.count() < 2 {
        return Err(Error::data(folder, format!("{} training pictures are too few", train.count())));
    }
    if test_shape != shape {
        return Err(Error::data(
            folder,
            format!("training pictures are {shape}, test pictures are {test_shape}"),
        ));
    }
    Ok(assemble(name_of(folder), shape, train, test))
}

/// The data set from its two halves; classes are the labels that occur, named by their numbers.
pub(super) fn assemble(name: String, shape: ImageShape, mut train: Pictures, mut test: Pictures) -> Dataset {
    let mut occurring: Vec<u16> = train.labels.iter().chain(&test.labels).copied().collect();
    occurring.sort_unstable();
    occurring.dedup();
    // some sets count from 1: a class without a picture would be no class
    for label in train.labels.iter_mut().chain(&mut test.labels) {
        *label = occurring.binary_search(label).unwrap_or_default() as u16;
    }
    let held_out = (train.count() as f64 * VALIDATION_SHARE).round().max(1.0) as usize;
    let order = Stream::new(SPLIT_SEED, Purpose::Order, 0).permutation(train.count() as u32);
    let mut in_validation = vec![false; train.count()];
    order[..held_out].iter().for_each(|index| in_validation[*index as usize] = true);
    let (train, validation) = train.split_off(|index| in_validation[index]);
    Dataset {
        name,
        shape,
        classes: occurring.iter().map(ToString::to_string).collect(),
        train,
        validation,
        test,
        skipped: Vec::new(),
        remarks: Vec::new(),
    }
}

fn part(folder: &Path, part: &str) -> Result<(ImageShape, Pictures)> {
    let need = |stem: String| {
        find(folder, &stem).ok_or_else(|| Error::data(folder, format!("{stem} (or {stem}.gz) is missing")))
    };
    let images_path = need(format!("{part}-images-idx3-ubyte"))?;
    let labels_path = need(format!("{part}-labels-idx1-ubyte"))?;
    let images = idx::read(&images_path, 3)?;
    let labels = idx::read(&labels_path, 1)?;
    pictures(&images_path, images, &labels_path, labels)
}

/// Pictures out of two IDX files that must belong together.
pub(super) fn pictures(
    images_path: &Path,
    images: idx::Idx,
    labels_path: &Path,
    labels: idx::Idx,
) -> Result<(ImageShape, Pictures)> {
    let (count, height, width) = (images.axes[0], images.axes[1], images.axes[2]);
    if count == 0 || height == 0 || width == 0 || height > LARGEST_SIDE || width > LARGEST_SIDE {
        return Err(Error::data(
            images_path,
            format!("holds {count} pictures of {height}x{width} pixels: nothing to learn from"),
        ));
    }
    if labels.axes[0] != count {
        return Err(Error::data(
            labels_path,
            format!("holds {} labels, but {} holds {count} pictures", labels.axes[0], images_path.display()),
        ));
    }
    let labels = labels.values.into_iter().map(u16::from).collect();
    let shape = ImageShape { channels: 1, height, width };
    Ok((shape, Pictures { pixels: images.values, labels, values: shape.values() }))
}
