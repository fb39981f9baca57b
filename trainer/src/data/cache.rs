//! Decoded pictures, kept from one start to the next.
//!
//! Two files per (folder, size, grey or colour, fit) in the user's cache folder. `pictures-KEY-NAME.rows` holds one
//! record per picture: its (height, width, channels) bytes and its signature (see [`super::copies`]); it is mapped
//! into memory, and NAME is a hash of what it holds. `pictures-KEY.index` names the rows file and says of every
//! file of the folder its path, length, time, SHA-256, and either where its record is or why it was skipped.
//!
//! A file whose path, length and time are those of the index is not read again, unless it was changed so shortly
//! before it was read that a later change could have left the same time (as in git's index). A file that was moved or
//! touched is read, and decoded only if its SHA-256 is new. Both files appear by renaming and are never written in
//! place, so that two processes at once do no harm: the index of one may name a rows file that the other has
//! removed, and then pictures are decoded again. So they are where the index's own SHA-256, a length, or the CRC-32 of
//! a record is wrong. Without a usable cache folder the rows are an unnamed temporary file.
//!
//! Memory: [`super::decode`]'s budget for pictures that are being decoded, [`CHUNK_BYTES`] of records on their way
//! to the file, some 400 bytes a file for paths and the index. Mapped pages belong to the system, which takes them
//! back when memory is short.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use edgegen_runtime::files::write_atomically;
use edgegen_runtime::model::limits::{MAX_MODEL_BYTES, read_bounded};
use edgegen_runtime::model::sha256_hex;
use edgegen_runtime::sound::Format;
use memmap2::Mmap;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::copies;
use super::decode::{Budget, Decoded, Target};
use super::files::{FoundFile, nanoseconds};
use super::pictures::{Mapped, Pictures};
use super::{Progress, map};
use crate::{Error, Result};

/// First bytes of an index; the last is the version of its form and of what records hold.
const MAGIC: [u8; 8] = *b"edgepix\x01";
/// Records that are decoded before they are written: 64 MiB.
const CHUNK_BYTES: usize = 64 << 20;
/// Most files of such a chunk.
const CHUNK_FILES: usize = 4096;
/// A file that was changed less than this before it was read is read again: 2 s, the coarsest clock of a file
/// system in use (FAT's).
const RACY: i64 = 2_000_000_000;

#[derive(Default, Serialize, Deserialize)]
struct Index {
    /// Name of the rows file in the cache folder; empty if there are no rows.
    rows_file: String,
    /// Records in it.
    rows: u32,
    /// In the order of the files.
    entries: Vec<Entry>,
}

/// What is known of a file.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Entry {
    /// Below the folder, as the system encodes it.
    path: Vec<u8>,
    length: u64,
    modified: Option<i64>,
    /// When it was read, nanoseconds since 1970.
    read: i64,
    sha256: [u8; 32],
    outcome: Outcome,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
enum Outcome {
    Picture(Row),
    /// Why it is not used.
    Refused(String),
}

/// Where a picture is, and what is known of it.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Row {
    row: u32,
    /// CRC-32 of the record.
    crc: u32,
    /// SHA-256 of the picture's bytes.
    sha256: [u8; 32],
    width: u32,
    height: u32,
    more: bool,
    /// Number of the entry that this is a near copy of; its own, if of none.
    original: u32,
}

/// A file of the folder.
pub(super) enum Item {
    /// A picture.
    Picture(Known),
    /// Why it is not used.
    Skipped(String),
}

/// What is known of a picture, besides its values.
pub(super) struct Known {
    /// Its number among all decoded pictures.
    pub(super) row: usize,
    /// SHA-256 of its file.
    pub(super) sha256: [u8; 32],
    /// (width, height) in the file, upright.
    pub(super) dimensions: (u32, u32),
    /// Whether its file holds further frames or pages.
    pub(super) more: bool,
    /// Number of the file that this is a near copy of, directly or through others; its own, if of none.
    pub(super) original: usize,
}

/// All pictures of a folder.
pub(super) struct Cached {
    /// By their rows.
    pub(super) pictures: Pictures,
    /// Of each file.
    pub(super) items: Vec<Item>,
    /// How many files had to be decoded.
    pub(super) decoded: usize,
    /// What was wrong with the cache, if anything was.
    pub(super) remark: Option<String>,
}

/// The signature of a record.
fn signature(record: &[u8]) -> &[u8] {
    &record[record.len() - copies::SIGNATURE..]
}

fn crc(record: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(record);
    crc.sum()
}

/// An index of the cache with its rows, found sound.
#[derive(Default)]
struct Stored {
    index: Index,
    map: Option<Mmap>,
}

impl Stored {
    /// `None` if there is none, or it is damaged.
    fn read(folder: &Path, key: &str, stride: usize) -> Option<Self> {
        let bytes = fs::read(folder.join(index_name(key))).ok()?;
        let (sum, body) = bytes.strip_prefix(&MAGIC)?.split_at_checked(32)?;
        if Sha256::digest(body)[..] != *sum {
            return None;
        }
        let index: Index = postcard::from_bytes(body).ok()?;
        let map = if index.rows == 0 {
            None
        } else {
            let file = File::open(folder.join(&index.rows_file)).ok()?;
            if file.metadata().ok()?.len() != u64::from(index.rows) * stride as u64 {
                return None;
            }
            Some(map::read_only(&file).ok()?)
        };
        let records: &[u8] = map.as_ref().map_or(&[], |map| map);
        let sound = index.entries.par_iter().all(|entry| match &entry.outcome {
            Outcome::Picture(row) => {
                let start = row.row as usize * stride;
                records.get(start..start + stride).is_some_and(|record| crc(record) == row.crc)
            }
            Outcome::Refused(_) => true,
        });
        sound.then_some(Self { index, map })
    }
}

fn index_name(key: &str) -> String {
    format!("pictures-{key}.index")
}

fn rows_prefix(key: &str) -> String {
    format!("pictures-{key}-")
}

/// Records on their way into a file that does not have its name yet.
struct Rows<'a> {
    /// The cache folder and the key; `None`: an unnamed temporary file.
    place: Option<(&'a Path, &'a str)>,
    file: RowsFile,
    count: u32,
    /// Of all records' hashes, for the name.
    name: Sha256,
}

enum RowsFile {
    Named(BufWriter<NamedTempFile>),
    Unnamed(BufWriter<File>),
}

impl<'a> Rows<'a> {
    /// Begins a file that will take `bytes`.
    fn begin(place: Option<(&'a Path, &'a str)>, bytes: u64) -> Result<Self> {
        let temporary = std::env::temp_dir();
        let folder = place.map_or(temporary.as_path(), |(folder, _)| folder);
        if let Ok(free) = fs4::available_space(folder)
            && free < bytes
        {
            return Err(Error::data(
                folder,
                format!(
                    "the decoded pictures take {}, and {} are free there; give a folder with more room as --cache, or choose a smaller --size",
                    mebibytes(bytes),
                    mebibytes(free)
                ),
            ));
        }
        let file = match place {
            Some((folder, key)) => {
                let prefix = format!(".{}", rows_prefix(key));
                let file = tempfile::Builder::new().prefix(&prefix).suffix(".part").tempfile_in(folder);
                RowsFile::Named(BufWriter::new(file.map_err(|e| Error::io("write", folder, e))?))
            }
            None => {
                let file = tempfile::tempfile().map_err(|e| Error::io("write", folder, e))?;
                RowsFile::Unnamed(BufWriter::new(file))
            }
        };
        Ok(Self { place, file, count: 0, name: Sha256::new() })
    }

    fn failed(&self, e: io::Error) -> Error {
        let temporary = std::env::temp_dir();
        Error::io("write", self.place.map_or(temporary.as_path(), |(folder, _)| folder), e)
    }

    /// Appends a record; returns its number.
    fn push(&mut self, record: &[u8]) -> Result<u32> {
        self.name.update(crc(record).to_le_bytes());
        self.name.update(signature(record));
        let written = match &mut self.file {
            RowsFile::Named(file) => file.write_all(record),
            RowsFile::Unnamed(file) => file.write_all(record),
        };
        written.map_err(|e| self.failed(e))?;
        self.count += 1;
        Ok(self.count - 1)
    }

    /// The file's name, which is empty for an unnamed one, and its mapping.
    fn finish(self) -> Result<(String, Option<Mmap>)> {
        let temporary = std::env::temp_dir();
        let folder = self.place.map_or(temporary.as_path(), |(folder, _)| folder);
        let failed = |e: io::Error| Error::io("write", folder, e);
        let (name, file) = match self.file {
            RowsFile::Named(file) => {
                let file = file.into_inner().map_err(|e| failed(e.into_error()))?;
                file.as_file().sync_all().map_err(failed)?;
                let key = self.place.map_or("", |(_, key)| key);
                let name = format!("{}{}.rows", rows_prefix(key), &super::hex(self.name)[..16]);
                (name.clone(), file.persist(folder.join(name)).map_err(|e| failed(e.error))?)
            }
            RowsFile::Unnamed(file) => {
                (String::new(), file.into_inner().map_err(|e| failed(e.into_error()))?)
            }
        };
        let map = if self.count == 0 { None } else { Some(map::read_only(&file).map_err(failed)?) };
        Ok((name, map))
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// What reading one file gave.
enum Read {
    /// The content of this entry of the stored index.
    Same(usize),
    /// Something new.
    New([u8; 32], std::result::Result<Decoded, String>),
    /// Nothing; that is not remembered.
    Failed(String),
}

/// The pictures of `files` below `root`, out of the cache folder as far as they are there.
///
/// # Errors
/// If there is no room for them.
pub(super) fn open(
    root: &Path,
    files: &[FoundFile],
    target: Target,
    cache: Option<&Path>,
    progress: &Progress<'_>,
) -> Result<Cached> {
    let begun = nanoseconds(SystemTime::now()).unwrap_or_default();
    let stride = target.stride();
    let mut remark = None;
    let cache = cache.filter(|folder| match usable(folder) {
        Ok(()) => true,
        Err(e) => {
            remark = Some(format!("{}: {e}; decoded pictures are not kept", folder.display()));
            false
        }
    });
    let key = key(root, target);
    let place = cache.map(|folder| (folder, key.as_str()));
    let stored = place.and_then(|(folder, key)| Stored::read(folder, key, stride)).unwrap_or_default();
    let Stored { index: old, map: old_map } = &stored;

    let by_path: HashMap<&[u8], usize> =
        old.entries.iter().enumerate().map(|(number, entry)| (entry.path.as_slice(), number)).collect();
    let path_of = |file: &FoundFile| {
        file.path.strip_prefix(root).unwrap_or(&file.path).as_os_str().as_encoded_bytes().to_vec()
    };
    let unchanged = |file: &FoundFile| {
        let number = *by_path.get(path_of(file).as_slice())?;
        let entry = &old.entries[number];
        let modified = file.modified?;
        let same = entry.length == file.length && entry.modified == Some(modified);
        (same && modified.saturating_add(RACY) < entry.read).then_some(number)
    };
    let mut entries: Vec<Option<Entry>> =
        files.iter().map(|file| unchanged(file).map(|number| old.entries[number].clone())).collect();
    let todo: Vec<usize> = (0..files.len()).filter(|number| entries[*number].is_none()).collect();
    let mut failed: HashMap<usize, String> = HashMap::new();

    let by_content: HashMap<[u8; 32], usize> = if todo.is_empty() {
        HashMap::new()
    } else {
        old.entries.iter().enumerate().map(|(number, entry)| (entry.sha256, number)).collect()
    };
    let (budget, done) = (Budget::default(), AtomicUsize::new(0));
    let read = |file: &FoundFile| -> Read {
        let bytes = match read_bounded(&file.path, MAX_MODEL_BYTES) {
            Ok(bytes) => bytes,
            Err(e) => return Read::Failed(e.to_string()),
        };
        let partner = file.partner.as_ref().map(|path| read_bounded(path, MAX_MODEL_BYTES)).transpose();
        let partner = match partner {
            Ok(partner) => partner,
            Err(e) => return Read::Failed(e.to_string()),
        };
        let mut sha256 = Sha256::new_with_prefix(&bytes);
        partner.iter().for_each(|partner| sha256.update(partner));
        if file.window > 0 {
            sha256.update(file.window.to_le_bytes());
        }
        let sha256: [u8; 32] = sha256.finalize().into();
        match by_content.get(&sha256) {
            Some(number) => Read::Same(*number),
            None => Read::New(sha256, target.decode(bytes, (partner, file.window), &budget)),
        }
    };
    let chunk = (CHUNK_BYTES / stride).clamp(1, CHUNK_FILES);
    let (mut rows, mut decoded): (Option<Rows<'_>>, usize) = (None, 0);
    for (number, chunk) in todo.chunks(chunk).enumerate() {
        let found: Vec<Read> = chunk
            .par_iter()
            .map(|file| {
                let read = read(&files[*file]);
                progress(done.fetch_add(1, Ordering::Relaxed) + 1, todo.len());
                read
            })
            .collect();
        for (place_in_chunk, (file, read)) in chunk.iter().zip(found).enumerate() {
            let (sha256, outcome) = match read {
                Read::Failed(problem) => {
                    failed.insert(*file, problem);
                    continue;
                }
                Read::Same(entry) => (old.entries[entry].sha256, old.entries[entry].outcome.clone()),
                Read::New(sha256, Err(problem)) => (sha256, Outcome::Refused(problem)),
                Read::New(sha256, Ok(found)) => {
                    decoded += 1;
                    let rows = match &mut rows {
                        Some(rows) => rows,
                        None => {
                            let left = todo.len() - number * chunk.len() - place_in_chunk;
                            let bytes = (u64::from(old.rows) + left as u64) * stride as u64;
                            let rows = rows.insert(Rows::begin(place, bytes)?);
                            // what is there stays where it is
                            for record in old_map.iter().flat_map(|map| map.chunks_exact(stride)) {
                                rows.push(record)?;
                            }
                            rows
                        }
                    };
                    let row = Row {
                        row: rows.push(&found.record)?,
                        crc: crc(&found.record),
                        sha256: found.sha256,
                        width: found.dimensions.0,
                        height: found.dimensions.1,
                        more: found.more,
                        original: 0,
                    };
                    (sha256, Outcome::Picture(row))
                }
            };
            let file_found = &files[*file];
            entries[*file] = Some(Entry {
                path: path_of(file_found),
                length: file_found.length,
                modified: file_found.modified,
                read: begun,
                sha256,
                outcome,
            });
        }
    }
    let mut index = Index { rows_file: old.rows_file.clone(), rows: old.rows, entries: Vec::new() };
    let mut new_map = None;
    if let Some(rows) = rows {
        index.rows = rows.count;
        (index.rows_file, new_map) = rows.finish()?;
    }
    // a file that cannot be read has no entry: number of the file → number of its entry
    let numbers: Vec<usize> = (0..files.len()).filter(|file| entries[*file].is_some()).collect();
    index.entries = entries.into_iter().flatten().collect();

    let used: std::collections::HashSet<u32> =
        index.entries.iter().filter_map(row_of).map(|row| row.row).collect();
    if used.len() * 2 < index.rows as usize {
        let from: &[u8] = new_map.as_ref().or(old_map.as_ref()).map_or(&[], |map| map);
        let (compacted, count, name) = compact(place, &mut index.entries, from, stride)?;
        (new_map, index.rows, index.rows_file) = (compacted, count, name);
    }
    let records: &[u8] = match (&new_map, index.rows) {
        (_, 0) => &[],
        (Some(map), _) => map,
        (None, _) => old_map.as_ref().map_or(&[], |map| map),
    };
    let same_pictures = index.entries.len() == old.entries.len()
        && index.entries.iter().zip(&old.entries).all(|(new, old)| new.sha256 == old.sha256);
    if same_pictures {
        for (new, old) in index.entries.iter_mut().zip(&old.entries) {
            if let (Outcome::Picture(new), Outcome::Picture(old)) = (&mut new.outcome, &old.outcome) {
                new.original = old.original;
            }
        }
    } else {
        // windows of one sound look alike, and so do those of one machine
        match target.stride {
            0 => find_copies(&mut index.entries, records, stride),
            _ => no_copies(&mut index.entries),
        }
    }
    if let Some((folder, key)) = place
        && index.entries != old.entries
    {
        match write(folder, key, &index) {
            Ok(()) => remove_superseded(folder, key, &index.rows_file),
            Err(e) => remark = Some(format!("{e}; decoded pictures are not kept")),
        }
    }

    let mut sha256 = vec![[0; 32]; index.rows as usize];
    index.entries.iter().filter_map(row_of).for_each(|row| sha256[row.row as usize] = row.sha256);
    let map = if index.rows == 0 { None } else { new_map.or(stored.map) };
    let pictures = Pictures::mapped(target.shape.values(), Mapped { map, stride, sha256 });
    let mut items: Vec<Item> = (0..files.len())
        .map(|file| Item::Skipped(failed.remove(&file).unwrap_or_else(|| "cannot be read".into())))
        .collect();
    for (entry, file) in index.entries.into_iter().zip(&numbers) {
        items[*file] = match entry.outcome {
            Outcome::Refused(problem) => Item::Skipped(problem),
            Outcome::Picture(row) => Item::Picture(Known {
                row: row.row as usize,
                sha256: entry.sha256,
                dimensions: (row.width, row.height),
                more: row.more,
                original: numbers[row.original as usize],
            }),
        };
    }
    Ok(Cached { pictures, items, decoded, remark })
}

/// Makes the cache folder, and tries whether files can be written there.
fn usable(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    tempfile::tempfile_in(folder).map(|_removed_again| ())
}

/// What tells apart folders and ways to decode them.
fn key(root: &Path, target: Target) -> String {
    let root = root.canonicalize().unwrap_or_else(|_| root.to_path_buf());
    let mut way = format!("{} {}", target.shape, target.fit);
    if let Some(Format { rate, window, hop }) = target.sound {
        way += &format!(" {rate} {window} {hop}");
    }
    sha256_hex(&[root.as_os_str().as_encoded_bytes(), b"\0", way.as_bytes()].concat())[..16].to_string()
}

fn row_of(entry: &Entry) -> Option<&Row> {
    match &entry.outcome {
        Outcome::Picture(row) => Some(row),
        Outcome::Refused(_) => None,
    }
}

/// Writes the records of `entries` alone, in their order; returns the new mapping, its rows and its name.
fn compact(
    place: Option<(&Path, &str)>,
    entries: &mut [Entry],
    records: &[u8],
    stride: usize,
) -> Result<(Option<Mmap>, u32, String)> {
    let mut moved: HashMap<u32, u32> = HashMap::new();
    let mut rows = Rows::begin(place, entries.len() as u64 * stride as u64)?;
    for entry in entries {
        let Outcome::Picture(row) = &mut entry.outcome else { continue };
        row.row = match moved.get(&row.row) {
            Some(new) => *new,
            None => {
                let new = rows.push(&records[row.row as usize * stride..][..stride])?;
                moved.insert(row.row, new);
                new
            }
        };
    }
    let count = rows.count;
    let (name, map) = rows.finish()?;
    Ok((map, count, name))
}

/// Lets each picture be the copy of no other.
fn no_copies(entries: &mut [Entry]) {
    for (number, entry) in entries.iter_mut().enumerate() {
        if let Outcome::Picture(row) = &mut entry.outcome {
            row.original = number as u32;
        }
    }
}

/// Sets which entry each picture is a copy of.
fn find_copies(entries: &mut [Entry], records: &[u8], stride: usize) {
    let rows: Vec<(usize, usize)> = entries
        .iter()
        .enumerate()
        .filter_map(|(number, entry)| Some((number, row_of(entry)?.row as usize)))
        .collect();
    let signature_of = |picture: usize| signature(&records[rows[picture].1 * stride..][..stride]);
    let originals = copies::originals(rows.len(), signature_of);
    for ((number, _), original) in rows.iter().zip(originals) {
        if let Outcome::Picture(row) = &mut entries[*number].outcome {
            row.original = rows[original as usize].0 as u32;
        }
    }
}

fn write(folder: &Path, key: &str, index: &Index) -> std::result::Result<(), String> {
    let body = postcard::to_stdvec(index).map_err(|e| format!("the index cannot be written: {e}"))?;
    let written = write_atomically(&folder.join(index_name(key)), |out| {
        out.write_all(&MAGIC)?;
        out.write_all(&Sha256::digest(&body))?;
        out.write_all(&body)
    });
    written.map_err(|e| e.to_string())
}

/// Removes the rows that no index names any more, and what a killed process left behind.
fn remove_superseded(folder: &Path, key: &str, kept: &str) {
    const A_DAY: std::time::Duration = std::time::Duration::from_secs(86_400);
    let (prefix, partial) = (rows_prefix(key), format!(".{}", rows_prefix(key)));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let superseded = name.starts_with(&prefix) && name != kept;
        let left_behind = name.starts_with(&partial)
            && entry.metadata().and_then(|metadata| metadata.modified()).is_ok_and(|modified| {
                SystemTime::now().duration_since(modified).is_ok_and(|age| age > A_DAY)
            });
        if superseded || left_behind {
            // another process may have been faster, or hold it open where that matters
            let _ = fs::remove_file(entry.path());
        }
    }
}
