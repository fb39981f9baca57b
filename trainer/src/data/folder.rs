//! A folder of images of any size, each brought to one size. Sub-folders are classes.
//!
//! Folders `train`, `val` (`valid`, `validation`) and `test` at the top are the parts, and what lies beside them is
//! named and skipped. Where there is no `val`, validation pictures are chosen by content (see [`super::split`]);
//! there is no test part unless a folder says so.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use edgegen_runtime::sound::{Format, sound_length};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::cache::{self, Cached, Item, Known};
use super::copies::Sets;
use super::decode::Target;
use super::files::{self, FORMATS, Found, FoundFile};
use super::split::{Candidate, held_out};
use super::{
    Copies, Dataset, Dimensions, Facts, GroupBy, LoadOptions, Pairs, Progress, SideBySide, name_of, pairs,
};
use crate::{Error, Result};

/// Share of a folder's pictures that is held out for what is chosen by validation pictures.
const HELD_OUT: f64 = 0.05;
/// Where at most this share of the pictures lies in no class's folder, they are skipped; otherwise there are no
/// classes.
const STRAY: f64 = 0.05;
/// Classes that a remark names.
const NAMED: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Train,
    Validation,
    Test,
}

impl Part {
    /// The part that a folder's name stands for.
    fn named(folder: &str) -> Option<Self> {
        match folder.to_lowercase().as_str() {
            "train" | "training" => Some(Self::Train),
            "val" | "valid" | "validation" => Some(Self::Validation),
            "test" | "testing" => Some(Self::Test),
            _ => None,
        }
    }
}

/// A file with what its path says.
struct Placed {
    file: FoundFile,
    part: Part,
    class: Option<String>,
    group: Option<String>,
}

/// A picture with all that is known of it.
struct Kept {
    placed: Placed,
    known: Known,
    label: Option<u16>,
}

/// Loads every image below `root`.
pub(super) fn load(root: &Path, options: &LoadOptions, progress: &Progress<'_>) -> Result<Dataset> {
    let below = if options.sound.is_some() { files::sounds_below } else { files::below };
    let Found { mut files, mut skipped, others } = below(root)?;
    let found = Found { files: Vec::new(), skipped: Vec::new(), others };
    let mut remarks: Vec<String> =
        found.other_files().map(|files| format!("passed over other files: {files}")).into_iter().collect();
    if files.is_empty() {
        let (what, takes) = match options.sound {
            None => ("image", format!("{FORMATS} images, or IDX files")),
            Some(_) => ("sound", "WAV files here; pictures are for other presets (data.rate = 0)".into()),
        };
        let seen = match found.other_files() {
            Some(files) => format!("holds no {what}, only other files ({files})"),
            None => "is empty".into(),
        };
        return Err(Error::data(root, format!("{seen}; --data takes {takes}")));
    }
    if let Some(Pairs::With(to)) = &options.pairs {
        pairs::match_names(root, &mut files, to)?;
    }
    if let (Some(format), 1..) = (options.sound, options.stride) {
        files = windows(files, format, options);
    }
    let placed = place(root, files, (&options.group_by, options.stride > 0), &mut skipped, &mut remarks);
    let mut shape = options.size.shape(options.gray);
    // the cache knows a picture a file of one folder
    let cache = options.cache.as_deref().filter(|_| options.pairs.is_none() && options.stride == 0);
    if options.pairs.is_some() {
        shape.width *= 2;
    }
    let files: Vec<FoundFile> = placed.iter().map(|placed| placed.file.clone()).collect();
    let beside = match options.pairs {
        Some(Pairs::Beside(side)) => side,
        _ => SideBySide::No,
    };
    let target = Target { shape, fit: options.fit, sound: options.sound, stride: options.stride, beside };
    let Cached { pictures, items, decoded, remark } = cache::open(root, &files, target, cache, progress)?;
    remarks.extend(remark);

    let mut kept: Vec<Kept> = Vec::with_capacity(placed.len());
    // number of the file → number among the pictures that are kept
    let mut numbers = HashMap::new();
    for (number, (placed, item)) in placed.into_iter().zip(items).enumerate() {
        match item {
            Item::Picture(known) => {
                numbers.insert(number, kept.len() as u32);
                kept.push(Kept { placed, known, label: None });
            }
            Item::Skipped(problem) => skipped.push((placed.file.path, problem)),
        }
    }
    if let (true, Some((path, problem))) = (kept.is_empty(), skipped.first()) {
        let count = skipped.len();
        let problem =
            format!("none of {count} images could be used; the first, {}: {problem}", path.display());
        return Err(Error::data(root, problem));
    }
    let mut together = Sets::new(kept.len());
    for (index, kept) in kept.iter().enumerate() {
        if let Some(original) = numbers.get(&kept.known.original) {
            together.join(index as u32, *original);
        }
    }
    let copies = count_copies(&kept, &mut together, &mut remarks);
    let dimensions = dimensions(&kept);
    let more = kept.iter().filter(|kept| kept.known.more).count();
    if more > 0 {
        remarks
            .push(format!("{more} of the files are animations or have several pages: their first is used"));
    }
    let mut groups: HashMap<&str, u32> = HashMap::new();
    for (index, kept) in kept.iter().enumerate() {
        if let Some(group) = &kept.placed.group {
            let first = *groups.entry(group).or_insert(index as u32);
            together.join(index as u32, first);
        }
    }
    let classes = label(root, &mut kept, &mut skipped)?;
    let parts = split(&mut kept, &mut together, options, &classes, &mut remarks);

    let part = |part: Part| {
        let of_part = || (0..kept.len()).filter(|index| parts[*index] == Some(part));
        let chosen = pictures.chosen(of_part().map(|index| kept[index].known.row).collect::<Vec<_>>());
        chosen.with_labels(of_part().filter_map(|index| kept[index].label).collect())
    };
    let facts = Facts { dimensions, copies, decoded };
    let [train, validation, test] = [Part::Train, Part::Validation, Part::Test].map(part);
    let dataset = Dataset::new(name_of(root), shape, classes, [train, validation, test]);
    Ok(Dataset { skipped, remarks, facts, ..dataset })
}

/// A file for each window of each sound. What cannot be read stays one file, and is named when it is decoded.
fn windows(files: Vec<FoundFile>, format: Format, options: &LoadOptions) -> Vec<FoundFile> {
    let count = |file: &FoundFile| {
        let length = sound_length(&file.path, format.rate).ok()?;
        Some(format.windows(length, options.size.width, options.stride).count())
    };
    let of_file = |file: FoundFile| {
        let count = count(&file).unwrap_or(1);
        (0..count).map(move |window| FoundFile { window, ..file.clone() }).collect::<Vec<_>>()
    };
    files.into_par_iter().flat_map_iter(of_file).collect()
}

/// Parts, classes and groups, by the paths; what lies beside them is skipped.
fn place(
    root: &Path,
    files: Vec<FoundFile>,
    (group_by, windows): (&GroupBy, bool),
    skipped: &mut Vec<(PathBuf, String)>,
    remarks: &mut Vec<String>,
) -> Vec<Placed> {
    let below = |path: &Path| -> Vec<String> {
        let relative = path.strip_prefix(root).unwrap_or(path);
        relative.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect()
    };
    let tops: BTreeSet<String> = files
        .iter()
        .filter_map(|file| match &below(&file.path)[..] {
            [top, _, ..] => Some(top.clone()),
            _ => None,
        })
        .collect();
    let named: Vec<Part> = tops.iter().filter_map(|top| Part::named(top)).collect();
    let has = |part| named.contains(&part);
    // `train` beside `bus` and `car` is a class
    let has_parts = has(Part::Train) && (tops.len() == 1 || has(Part::Validation) || has(Part::Test));

    let mut placed = Vec::with_capacity(files.len());
    for file in files {
        let mut parts = below(&file.path);
        let mut part = Part::Train;
        if has_parts {
            match parts[..].split_first() {
                Some((top, [_, ..])) if Part::named(top).is_some() => {
                    part = Part::named(top).unwrap_or(Part::Train);
                    parts.remove(0);
                }
                _ => {
                    skipped.push((file.path, "lies beside the folders train, val and test".into()));
                    continue;
                }
            }
        }
        // windows of a sound are held out together
        let path = parts.join("/");
        let group = group_by.group(&path).or_else(|| windows.then(|| path.clone()));
        let class = (parts.len() > 1).then(|| parts.swap_remove(0));
        placed.push(Placed { file, part, class, group });
    }
    keep_classes(placed, skipped, remarks)
}

/// Decides whether there are classes, and skips what has none if there are.
fn keep_classes(
    placed: Vec<Placed>,
    skipped: &mut Vec<(PathBuf, String)>,
    remarks: &mut Vec<String>,
) -> Vec<Placed> {
    let train = || placed.iter().filter(|placed| placed.part == Part::Train);
    let names: HashSet<&String> = train().filter_map(|placed| placed.class.as_ref()).collect();
    let (count, outside) = (train().count(), train().filter(|placed| placed.class.is_none()).count());
    let few = names.len() > 1 && outside as f64 <= STRAY * count as f64;
    if !names.is_empty() && (outside == 0 || few) {
        let mut kept = Vec::with_capacity(placed.len());
        for placed in placed {
            match placed.class {
                Some(_) => kept.push(placed),
                None => skipped.push((placed.file.path, "lies in no class's folder".into())),
            }
        }
        return kept;
    }
    if !names.is_empty() {
        remarks.push(format!(
            "no classes are told apart: {outside} of {count} pictures lie outside of sub-folders"
        ));
    }
    placed.into_iter().map(|placed| Placed { class: None, ..placed }).collect()
}

/// Names of the classes, sorted, of which each picture gets its label. Held-out pictures of other classes are
/// skipped.
fn label(root: &Path, kept: &mut [Kept], skipped: &mut Vec<(PathBuf, String)>) -> Result<Vec<String>> {
    let train = kept.iter().filter(|kept| kept.placed.part == Part::Train);
    let names: BTreeSet<String> = train.filter_map(|kept| kept.placed.class.clone()).collect();
    let classes: Vec<String> = names.into_iter().collect();
    if classes.len() > usize::from(u16::MAX) {
        let problem =
            format!("holds {} sub-folders; at most {} classes are told apart", classes.len(), u16::MAX);
        return Err(Error::data(root, problem));
    }
    for kept in kept.iter_mut() {
        if let Some(class) = &kept.placed.class {
            kept.label = classes.binary_search(class).ok().map(|label| label as u16);
            if kept.label.is_none() {
                let problem = format!("class {class} has no training picture");
                skipped.push((kept.placed.file.path.clone(), problem));
            }
        }
    }
    Ok(classes)
}

/// The part of each picture; `None`: it is not used.
fn split(
    kept: &mut [Kept],
    together: &mut Sets,
    options: &LoadOptions,
    classes: &[String],
    remarks: &mut Vec<String>,
) -> Vec<Option<Part>> {
    let used = |kept: &Kept| classes.is_empty() || kept.label.is_some();
    let mut parts: Vec<Option<Part>> =
        kept.iter().map(|kept| used(kept).then_some(kept.placed.part)).collect();
    let share = options.held_out.share(HELD_OUT);
    if parts.contains(&Some(Part::Validation)) || share == 0.0 {
        return parts;
    }
    let train: Vec<usize> = (0..kept.len()).filter(|index| parts[*index] == Some(Part::Train)).collect();
    let candidates: Vec<Candidate> = train
        .iter()
        .map(|index| Candidate {
            sha256: match &kept[*index].placed.group {
                Some(group) => Sha256::digest(group.as_bytes()).into(),
                None => kept[*index].known.sha256,
            },
            class: kept[*index].label.unwrap_or_default(),
            together: together.root(*index as u32),
        })
        .collect();
    let held = held_out(&candidates, share);
    train.iter().zip(held).filter(|(_, held)| *held).for_each(|(index, _)| {
        parts[*index] = Some(Part::Validation);
    });
    let mut whole: BTreeSet<u16> = (0..classes.len() as u16).collect();
    for (index, _) in parts.iter().enumerate().filter(|(_, part)| **part == Some(Part::Validation)) {
        kept[index].label.iter().for_each(|label| {
            whole.remove(label);
        });
    }
    if !whole.is_empty() {
        let names: Vec<&str> =
            whole.iter().take(NAMED).map(|label| classes[usize::from(*label)].as_str()).collect();
        let more =
            if whole.len() > NAMED { format!(" and {} more", whole.len() - NAMED) } else { String::new() };
        remarks.push(format!(
            "no pictures are held out of {}{more}: fewer than 4, or all of them copies or variants of one another",
            names.join(", ")
        ));
    }
    parts
}

/// Counts copies, and says what is to be known of them.
fn count_copies(kept: &[Kept], together: &mut Sets, remarks: &mut Vec<String>) -> Copies {
    let mut copies = Copies::default();
    let mut files: HashSet<[u8; 32]> = HashSet::new();
    let mut parts: BTreeMap<u32, BTreeSet<Part>> = BTreeMap::new();
    for (index, kept) in kept.iter().enumerate() {
        let original = together.root(index as u32);
        parts.entry(original).or_default().insert(kept.placed.part);
        if !files.insert(kept.known.sha256) {
            copies.exact += 1;
        } else if original != index as u32 {
            copies.near += 1;
        }
    }
    if copies.exact + copies.near > 0 {
        remarks.push(format!(
            "{} exact and {} near copies of other pictures; copies are held out together",
            copies.exact, copies.near
        ));
    }
    let mut both =
        |index: usize| parts.get(&together.root(index as u32)).is_some_and(|parts| parts.len() > 1);
    let leaked =
        (0..kept.len()).filter(|index| kept[*index].placed.part != Part::Train && both(*index)).count();
    if leaked > 0 {
        remarks.push(format!(
            "{leaked} pictures of the val and test folders are copies of pictures in another part: figures of them flatter"
        ));
    }
    copies
}

/// Sizes of the pictures in their files.
fn dimensions(kept: &[Kept]) -> Option<Dimensions> {
    let mut all: Vec<(u32, u32)> = kept.iter().map(|kept| kept.known.dimensions).collect();
    all.sort_by_key(|(width, height)| u64::from(*width) * u64::from(*height));
    let at = |index: usize| all.get(index).copied();
    Some(Dimensions { smallest: at(0)?, median: at(all.len() / 2)?, largest: at(all.len() - 1)? })
}
