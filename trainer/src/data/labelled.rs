//! IDX files with the names of MNIST and its family: `[SET-]{train,t10k,test}-{images-idx3,labels-idx1}-ubyte[.gz]`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::random::{Purpose, Stream};
use edgegen_runtime::model::ImageShape;

use super::{Dataset, HeldOut, Pictures, idx, name_of};
use crate::{Error, Result};

/// Share of the training pictures that is set aside for validation: 5,000 of MNIST's 60,000.
const VALIDATION_SHARE: f64 = 1.0 / 12.0;
/// The split does not depend on the run's seed, so that runs can be compared.
const SPLIT_SEED: u64 = 0;
/// Largest side of a picture.
const LARGEST_SIDE: usize = 4096;

/// What a file's name says.
#[derive(Debug, PartialEq, Eq)]
struct Name {
    /// Before the part, with the separator: `emnist-letters-`, or empty.
    set: String,
    test: bool,
    labels: bool,
}

impl Name {
    fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let name = name.strip_suffix(".gz").unwrap_or(name);
        // torchvision unpacks "train-images-idx3-ubyte"; some mirrors write "train-images.idx3-ubyte"
        let ending = |kind: &str| {
            ["-", "."].iter().find_map(|dot| {
                name.strip_suffix(&format!("-{kind}-ubyte").replace("-idx", &format!("{dot}idx")))
            })
        };
        let (stem, labels) = match (ending("images-idx3"), ending("labels-idx1")) {
            (Some(stem), _) => (stem, false),
            (None, stem) => (stem?, true),
        };
        let parts = [("train", false), ("t10k", true), ("test", true)];
        let (set, test) = parts.iter().find_map(|(part, test)| Some((stem.strip_suffix(part)?, *test)))?;
        let apart = set.is_empty() || set.ends_with(['-', '_', '.']);
        apart.then(|| Self { set: set.into(), test, labels })
    }
}

/// The files of one set: [train, test] × [images, labels].
type Files = [[Option<PathBuf>; 2]; 2];

/// The IDX files directly in `folder`, by the sets' names.
fn sets(folder: &Path) -> BTreeMap<String, Files> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    paths.sort(); // unpacked before packed
    let mut sets: BTreeMap<String, Files> = BTreeMap::new();
    for path in paths {
        if let Some(Name { set, test, labels }) = Name::of(&path) {
            sets.entry(set).or_default()[usize::from(test)][usize::from(labels)].get_or_insert(path);
        }
    }
    sets
}

/// Whether `path` is an IDX file by its name, or a folder that holds one.
pub(super) fn is_idx(path: &Path) -> bool {
    if path.is_dir() { !sets(path).is_empty() } else { Name::of(path).is_some() }
}

/// Loads training and test pictures, of a folder with one set, or of the set of the file `path`, and splits
/// validation off the training ones.
pub(super) fn load(path: &Path, held_out: HeldOut) -> Result<Dataset> {
    let (folder, wanted) = match Name::of(path) {
        Some(name) if !path.is_dir() => (path.parent().unwrap_or(Path::new(".")), Some(name.set)),
        _ => (path, None),
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let mut sets = sets(folder);
    if wanted.is_none() && sets.len() > 1 {
        let names: Vec<&str> = sets
            .keys()
            .map(|set| match set.trim_end_matches(['-', '_', '.']) {
                "" => "one without a name",
                name => name,
            })
            .collect();
        let first = sets.values().flatten().flatten().flatten().next();
        return Err(Error::data(
            folder,
            format!(
                "holds several IDX sets ({}); --data takes a folder with one, or a file of one, such as {}",
                names.join(", "),
                first.map(|path| path.display().to_string()).unwrap_or_default()
            ),
        ));
    }
    let set = wanted.or_else(|| sets.keys().next().cloned()).unwrap_or_default();
    let files = sets.remove(&set).unwrap_or_default();
    // EMNIST's matrices are stored column by column (G. Cohen et al., 2017)
    let transposed = set.to_lowercase().contains("emnist");
    let Some((shape, train)) = part(folder, &files, false, transposed)? else {
        return Err(missing(folder, &files, false, false));
    };
    let test = part(folder, &files, true, transposed)?;
    if train.count() < 2 {
        return Err(Error::data(folder, format!("{} training pictures are too few", train.count())));
    }
    let test = match test {
        Some((test_shape, _)) if test_shape != shape => {
            let problem = format!("training pictures are {shape}, test pictures are {test_shape}");
            return Err(Error::data(folder, problem));
        }
        Some((_, test)) => test,
        None => Pictures::none(shape.values()),
    };
    let name = match set.trim_end_matches(['-', '_', '.']) {
        "" => name_of(folder),
        name => name.to_string(),
    };
    let names = class_names(&folder.join(format!("{set}mapping.txt")));
    let mut dataset = assemble(name, shape, train, test, &names, held_out);
    if transposed {
        dataset.remarks.push("EMNIST stores its pictures transposed: they are turned upright".into());
    }
    Ok(dataset)
}

/// What labels are called by EMNIST's list of `LABEL CODE…`, the codes of characters; empty where there is none.
fn class_names(path: &Path) -> BTreeMap<u16, String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let named = |line: &str| {
        let mut words = line.split_whitespace();
        let label = words.next()?.parse().ok()?;
        let character = char::from_u32(words.next()?.parse().ok()?)?;
        (!character.is_control()).then(|| (label, character.to_string()))
    };
    text.lines().filter_map(named).collect()
}

/// The data set from its two halves; classes are the labels that occur, called by `names` or by their numbers.
pub(super) fn assemble(
    name: String,
    shape: ImageShape,
    train: Pictures,
    test: Pictures,
    names: &BTreeMap<u16, String>,
    held_out: HeldOut,
) -> Dataset {
    let mut occurring: Vec<u16> = train.labels().iter().chain(test.labels()).copied().collect();
    occurring.sort_unstable();
    occurring.dedup();
    // some sets count from 1: a class without a picture would be no class
    let relabelled = |pictures: Pictures| {
        let place = |label: &u16| occurring.binary_search(label).unwrap_or_default() as u16;
        let labels = pictures.labels().iter().map(place).collect();
        pictures.with_labels(labels)
    };
    let (train, test) = (relabelled(train), relabelled(test));
    let share = held_out.share(VALIDATION_SHARE);
    let count = (train.count() as f64 * share).round().max(if share > 0.0 { 1.0 } else { 0.0 }) as usize;
    let order = Stream::new(SPLIT_SEED, Purpose::Order, 0).permutation(train.count() as u32);
    let mut in_validation = vec![false; train.count()];
    order[..count].iter().for_each(|index| in_validation[*index as usize] = true);
    let those = |held: bool| {
        let of: Vec<usize> = (0..train.count()).filter(|index| in_validation[*index] == held).collect();
        train.chosen(of)
    };
    let called = |label: &u16| names.get(label).cloned().unwrap_or_else(|| label.to_string());
    let classes = occurring.iter().map(called).collect();
    Dataset::new(name, shape, classes, [those(false), those(true), test])
}

/// The name of a file that is not there, as its neighbours are called.
fn missing(folder: &Path, files: &Files, test: bool, labels: bool) -> Error {
    let neighbour = files.iter().flatten().flatten().next();
    let name = neighbour.and_then(|path| path.file_name()).map(|name| name.to_string_lossy().into_owned());
    let mut name = name.unwrap_or_default();
    name = name.strip_suffix(".gz").map(str::to_string).unwrap_or(name);
    for (kind, other) in [("images", "labels"), ("idx3", "idx1")] {
        name = if labels { name.replace(kind, other) } else { name.replace(other, kind) };
    }
    if !test {
        name = name.replace("t10k-", "train-").replace("test-", "train-");
    }
    Error::data(folder, format!("{name} (or {name}.gz) is missing"))
}

/// The training or the test pictures; `None` if both files are missing.
fn part(
    folder: &Path,
    files: &Files,
    test: bool,
    transposed: bool,
) -> Result<Option<(ImageShape, Pictures)>> {
    let (images_path, labels_path) = match &files[usize::from(test)] {
        [None, None] => return Ok(None),
        [Some(images), Some(labels)] => (images, labels),
        // the other half of the pair names what is missing
        [images, labels] => {
            let only = [[images.clone(), labels.clone()], [None, None]];
            return Err(missing(folder, &only, true, labels.is_none()));
        }
    };
    let mut images = idx::read(images_path, 3)?;
    let labels = idx::read(labels_path, 1)?;
    if transposed {
        transpose(&mut images);
    }
    pictures(images_path, images, labels_path, labels).map(Some)
}

/// Exchanges rows and columns of each picture.
fn transpose(images: &mut idx::Idx) {
    let (height, width) = (images.axes[1], images.axes[2]);
    for picture in images.values.chunks_mut((height * width).max(1)) {
        let before = picture.to_vec();
        for (place, value) in picture.iter_mut().enumerate() {
            *value = before[place % height * width + place / height];
        }
    }
    images.axes.swap(1, 2);
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
    Ok((shape, Pictures::from_rows(shape.values(), images.values, labels)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_family_are_known() {
        let name =
            |name: &str| Name::of(Path::new(name)).map(|Name { set, test, labels }| (set, test, labels));
        assert_eq!(name("a/train-images-idx3-ubyte.gz"), Some((String::new(), false, false)));
        assert_eq!(name("t10k-labels.idx1-ubyte"), Some((String::new(), true, true)));
        assert_eq!(
            name("emnist-letters-test-labels-idx1-ubyte.gz"),
            Some(("emnist-letters-".into(), true, true))
        );
        for other in
            ["train-images-idx3-ubyte.txt", "mytrain-images-idx3-ubyte", "train-labels-idx3-ubyte", "a.png"]
        {
            assert_eq!(name(other), None, "{other}");
        }
    }

    #[test]
    fn transposed_pictures_are_turned_upright() {
        let mut images = idx::Idx { axes: vec![2, 2, 3], values: (0..12).collect() };
        transpose(&mut images);
        assert_eq!(images.axes, [2, 3, 2]);
        assert_eq!(images.values, [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]);
    }
}
