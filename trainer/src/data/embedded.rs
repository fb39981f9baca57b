//! The small set inside the program: Fashion-MNIST pictures (MIT licence, see `data/NOTICE`), made
//! by `examples/make_embedded_set.rs`.

use std::path::Path;

use super::{Dataset, HeldOut, Pictures, idx, labelled};
use crate::Result;

macro_rules! embedded {
    ($name:literal) => {
        ($name, include_bytes!(concat!("../../data/", $name)).as_slice())
    };
}

/// Class names of Fashion-MNIST, in the labels' order.
const CLASSES: [&str; 10] =
    ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot"];

fn part(
    images: (&str, &[u8]),
    labels: (&str, &[u8]),
) -> Result<(edgegen_runtime::model::ImageShape, Pictures)> {
    let (images_path, labels_path) = (Path::new(images.0), Path::new(labels.0));
    let images = idx::parse(images.1, images_path, 3)?;
    let labels = idx::parse(labels.1, labels_path, 1)?;
    labelled::pictures(images_path, images, labels_path, labels)
}

/// Unpacks the embedded set.
pub(super) fn load(held_out: HeldOut) -> Result<Dataset> {
    let (shape, train) =
        part(embedded!("train-images-idx3-ubyte.gz"), embedded!("train-labels-idx1-ubyte.gz"))?;
    let (_, test) = part(embedded!("t10k-images-idx3-ubyte.gz"), embedded!("t10k-labels-idx1-ubyte.gz"))?;
    let names = (0..).zip(CLASSES.map(str::to_string)).collect();
    Ok(labelled::assemble("fashion-mnist-embedded".into(), shape, train, test, &names, held_out))
}
