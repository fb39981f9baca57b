//! What a run keeps of its pictures, in `RUN/pictures.safetensors`: their facts, and enough of them to calibrate and to
//! preview, so that the run can be sampled from, exported and shown without their folder.
//!
//! Tensors: `train` and `held_out`, u8 (N, height, width, channels), evenly spread; `train.labels` and
//! `held_out.labels`, u16 (N), where there are classes. The header's metadata key `edgegen` holds [`Facts`] as JSON.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use edgegen_runtime::files::write_atomically;
use edgegen_runtime::model::ImageShape;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::data::{Dataset, Pictures};
use crate::evaluate::spread;
use crate::{Error, Result};

/// Pictures of a part that are kept.
pub const KEPT: usize = 256;
/// Metadata key of [`Facts`].
const KEY: &str = "edgegen";
/// Largest file that is read: 512 pictures of 512×512×3.
const LARGEST_FILE: u64 = 512 << 20;

/// What is known of a data set without its pictures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The data set's name.
    pub name: String,
    /// (channels, height, width).
    pub shape: [usize; 3],
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Pictures to train on, to validate by, to test with.
    pub counts: [usize; 3],
    /// Training pictures of each class.
    pub of_classes: Vec<usize>,
    /// [`Dataset::sha256`].
    pub sha256: String,
}

/// A few pictures of a data set, with its facts.
pub struct Kept {
    /// The facts of the whole set.
    pub facts: Facts,
    train: Pictures,
    held_out: Pictures,
}

impl Kept {
    /// What is to be kept of `dataset`.
    pub fn of(dataset: &Dataset) -> Self {
        let mut of_classes = vec![0; dataset.classes.len()];
        dataset.train.labels().iter().for_each(|label| of_classes[usize::from(*label)] += 1);
        let ImageShape { channels, height, width } = dataset.shape;
        let facts = Facts {
            name: dataset.name.clone(),
            shape: [channels, height, width],
            classes: dataset.classes.clone(),
            counts: [&dataset.train, &dataset.validation, &dataset.test].map(Pictures::count),
            of_classes,
            sha256: dataset.sha256(),
        };
        let held_out = if dataset.test.count() > 0 { &dataset.test } else { &dataset.validation };
        let few = |pictures: &Pictures| pictures.chosen(spread(pictures.count(), KEPT));
        Self { facts, train: few(&dataset.train), held_out: few(held_out) }
    }

    /// Writes the file.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&self, path: &Path) -> Result<()> {
        let refused = |e: String| Error::run(path, e);
        let [channels, height, width] = self.facts.shape;
        let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
        for (name, pictures) in [("train", &self.train), ("held_out", &self.held_out)] {
            let count = pictures.count();
            let pixels = pictures.to_pixels();
            tensors.push((name.into(), Dtype::U8, vec![count, height, width, channels], pixels));
            if !pictures.labels().is_empty() {
                let labels = pictures.labels().iter().flat_map(|label| label.to_le_bytes()).collect();
                tensors.push((format!("{name}.labels"), Dtype::U16, vec![count], labels));
            }
        }
        let views = tensors
            .iter()
            .map(|(name, dtype, shape, bytes)| {
                Ok((name.as_str(), TensorView::new(*dtype, shape.clone(), bytes)?))
            })
            .collect::<std::result::Result<Vec<_>, safetensors::SafeTensorError>>()
            .map_err(|e| refused(e.to_string()))?;
        let facts = serde_json::to_string(&self.facts).map_err(|e| refused(e.to_string()))?;
        let metadata = HashMap::from([(KEY.to_string(), facts)]);
        let bytes = safetensors::serialize(views, Some(metadata)).map_err(|e| refused(e.to_string()))?;
        Ok(write_atomically(path, |out| out.write_all(&bytes))?)
    }

    /// Reads the file.
    ///
    /// # Errors
    /// [`Error::Run`] naming the file, if it is damaged or was not made by [`Self::write`].
    pub fn read(path: &Path) -> Result<Self> {
        let length = fs::metadata(path).map_err(|e| Error::io("read", path, e))?.len();
        if length > LARGEST_FILE {
            return Err(Error::run(path, format!("has {length} bytes; at most {LARGEST_FILE} are read")));
        }
        let bytes = fs::read(path).map_err(|e| Error::io("read", path, e))?;
        let damaged =
            |problem: String| Error::run(path, format!("does not hold a run's pictures: {problem}"));
        let file = SafeTensors::deserialize(&bytes).map_err(|e| damaged(e.to_string()))?;
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(e.to_string()))?;
        let json = header.metadata().as_ref().and_then(|metadata| metadata.get(KEY));
        let json = json.ok_or_else(|| damaged(format!("its header has no key {KEY:?}")))?;
        let facts: Facts = serde_json::from_str(json).map_err(|e| damaged(e.to_string()))?;
        let [channels, height, width] = facts.shape;
        let part = |name: &str| -> Result<Pictures> {
            let pixels = file.tensor(name).map_err(|e| damaged(e.to_string()))?;
            let fits = pixels.dtype() == Dtype::U8
                && matches!(pixels.shape(), [_, h, w, c] if [*h, *w, *c] == [height, width, channels])
                && matches!(channels, 1 | 3)
                && height * width > 0;
            if !fits {
                return Err(damaged(format!("{name} is {:?} {:?}", pixels.dtype(), pixels.shape())));
            }
            let labels = match file.tensor(&format!("{name}.labels")) {
                Ok(labels) if labels.dtype() == Dtype::U16 && labels.shape() == &pixels.shape()[..1] => {
                    labels.data().as_chunks().0.iter().map(|bytes| u16::from_le_bytes(*bytes)).collect()
                }
                Ok(_) => return Err(damaged(format!("{name}.labels do not fit"))),
                Err(_) => Vec::new(),
            };
            if labels.iter().any(|label| usize::from(*label) >= facts.classes.len()) {
                return Err(damaged(format!("{name}.labels name a class that there is not")));
            }
            Ok(Pictures::from_rows(channels * height * width, pixels.data().to_vec(), labels))
        };
        let (train, held_out) = (part("train")?, part("held_out")?);
        Ok(Self { facts, train, held_out })
    }

    /// Refuses `found`, what would be kept of the pictures as they are now, if they are not those that a run at `root`
    /// began with.
    ///
    /// # Errors
    /// [`Error::Run`] that says what changed.
    pub fn check(&self, found: &Self, root: &Path) -> Result<()> {
        let (then, now) = (&self.facts, &found.facts);
        if then.sha256 == now.sha256 {
            return Ok(());
        }
        Err(Error::run(
            root,
            format!(
                "belongs to a run on other pictures: {}; --data-changed goes on with those that are there now",
                changes(then, now).join(", ")
            ),
        ))
    }

    /// The kept pictures as a data set: the held-out ones are its validation pictures.
    pub fn dataset(self) -> Dataset {
        let [channels, height, width] = self.facts.shape;
        let shape = ImageShape { channels, height, width };
        let parts = [self.train, self.held_out, Pictures::none(shape.values())];
        Dataset::new(self.facts.name, shape, self.facts.classes, parts)
    }
}

/// In what two data sets differ, for a person.
fn changes(then: &Facts, now: &Facts) -> Vec<String> {
    let mut found = Vec::new();
    if then.shape != now.shape {
        let of = |[channels, height, width]: [usize; 3]| format!("{channels}x{height}x{width}");
        found.push(format!("their size was {}, now {}", of(then.shape), of(now.shape)));
    }
    let gone: Vec<&str> =
        then.classes.iter().filter(|class| !now.classes.contains(class)).map(String::as_str).collect();
    let new: Vec<&str> =
        now.classes.iter().filter(|class| !then.classes.contains(class)).map(String::as_str).collect();
    for (word, classes) in [("gone", gone), ("new", new)] {
        match classes[..] {
            [] => {}
            [class] => found.push(format!("class {class} is {word}")),
            [first, ..] => found.push(format!("{} classes are {word}, {first} among them", classes.len())),
        }
    }
    let parts = ["training", "validation", "test"].into_iter().zip(then.counts.into_iter().zip(now.counts));
    for (part, (then, now)) in parts.filter(|(_, (then, now))| then != now) {
        found.push(format!("there were {then} {part} pictures, now {now}"));
    }
    if found.is_empty() {
        found.push(format!("{} has as many pictures as before, but not the same", now.name));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            name: "pets".into(),
            shape: [3, 8, 8],
            classes: vec!["cat".into(), "dog".into()],
            counts: [40, 8, 0],
            of_classes: vec![20, 20],
            sha256: "a".into(),
        }
    }

    #[test]
    fn what_changed_is_said() {
        let more = Facts { counts: [41, 8, 0], ..facts() };
        assert_eq!(changes(&facts(), &more), ["there were 40 training pictures, now 41"]);
        let other = Facts { classes: vec!["cat".into(), "cow".into()], ..facts() };
        assert_eq!(changes(&facts(), &other), ["class dog is gone", "class cow is new"]);
        let edited = Facts { sha256: "b".into(), ..facts() };
        assert!(changes(&facts(), &edited)[0].contains("not the same"));
    }

    #[test]
    fn kept_pictures_come_back_evenly_spread_and_damage_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pictures.safetensors");
        let rows: Vec<u8> = (0..600u32 * 3).map(|value| (value / 3 % 251) as u8).collect();
        let labels = (0..600).map(|index| u16::from(index >= 300)).collect();
        let pictures = Pictures::from_rows(3, rows, labels);
        let shape = ImageShape { channels: 3, height: 1, width: 1 };
        let parts = [pictures.clone(), pictures.chosen([5, 599]), Pictures::none(3)];
        let dataset = Dataset::new("pets", shape, vec!["cat".into(), "dog".into()], parts);
        Kept::of(&dataset).write(&path).unwrap();
        let read = Kept::read(&path).unwrap();
        assert_eq!((read.facts.counts, read.facts.of_classes.clone()), ([600, 2, 0], vec![300, 300]));
        let kept = read.dataset();
        assert_eq!((kept.train.count(), kept.validation.count()), (KEPT, 2));
        assert_eq!(kept.train.picture(255), pictures.picture(597), "evenly spread");
        assert_eq!(kept.train.labels().iter().filter(|label| **label == 0).count(), KEPT / 2);
        assert_eq!(kept.validation.picture(1), pictures.picture(599));
        let bytes = fs::read(&path).unwrap();
        for damage in [&bytes[..bytes.len() / 2], &b"no file of ours"[..], &[]] {
            fs::write(&path, damage).unwrap();
            let line = Kept::read(&path).err().unwrap().to_string();
            assert!(line.contains("pictures.safetensors") && !line.contains('\n'), "{line}");
        }
    }
}
