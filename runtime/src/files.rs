//! Files that are either there in full or not there at all.
//!
//! A file is written under a temporary name in its own folder, flushed to the medium, and only
//! then renamed: a reader, or a power cut, never meets half of it.

use crate::{Error, Result};
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Writes the file `path` through `write`, all or nothing: the previous file stays until the new
/// one is complete, and nothing is left behind on failure.
///
/// # Errors
/// [`Error::Io`] with `path` if its folder is missing or not writable, if `write` fails, or if the
/// medium is full.
pub fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<()> {
    let (temporary, file) = Temporary::beside(path)?;
    let mut writer = BufWriter::new(file);
    let written = write(&mut writer).and_then(|()| writer.flush()).and_then(|()| writer.get_ref().sync_all());
    written.map_err(|e| Error::io("write", path, e))?;
    drop(writer);
    temporary.rename_to(path)
}

/// Checks that [`write_atomically`] will be able to write `path`, before the work that leads to
/// its content is begun.
///
/// # Errors
/// [`Error::Io`] with `path`.
pub fn check_writable(path: &Path) -> Result<()> {
    Temporary::beside(path).map(|_removed_again| ())
}

/// A temporary file beside its goal; removed when dropped, unless it was renamed.
struct Temporary {
    path: PathBuf,
    kept: bool,
}

impl Temporary {
    fn beside(goal: &Path) -> Result<(Self, File)> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let refuse = |kind, text: &str| Err(Error::io("write", goal, io::Error::new(kind, text)));
        let Some(name) = goal.file_name() else {
            return refuse(io::ErrorKind::InvalidInput, "this is not a file name");
        };
        if goal.is_dir() {
            return refuse(io::ErrorKind::IsADirectory, "there is a folder of this name");
        }
        let folder = match goal.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        if !folder.is_dir() {
            return refuse(io::ErrorKind::NotFound, "its folder does not exist");
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut temporary_name = std::ffi::OsString::from(".");
        temporary_name.push(name);
        temporary_name.push(format!(".{}-{number}.part", std::process::id()));
        let path = folder.join(temporary_name);
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let file = file.map_err(|e| Error::io("write", goal, e))?;
        Ok((Self { path, kept: false }, file))
    }

    fn rename_to(mut self, goal: &Path) -> Result<()> {
        std::fs::rename(&self.path, goal).map_err(|e| Error::io("write", goal, e))?;
        self.kept = true;
        // The name itself reaches the medium with its folder; not every file system offers that.
        if let Some(Ok(folder)) = self.path.parent().map(File::open) {
            let _ = folder.sync_all();
        }
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.kept {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_failed_write_leaves_the_previous_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        write_atomically(&path, |w| w.write_all(b"first")).unwrap();
        let error = write_atomically(&path, |w| {
            w.write_all(b"second")?;
            Err(io::Error::other("the medium is full"))
        });
        let line = error.unwrap_err().to_string();
        assert!(line.contains("a.txt") && line.contains("the medium is full"), "{line}");
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        assert_eq!(names(folder.path()), ["a.txt"]);
    }

    #[test]
    fn paths_that_cannot_be_written_are_named() {
        let folder = tempfile::tempdir().unwrap();
        for bad in [folder.path().join("missing/a.txt"), folder.path().to_path_buf(), PathBuf::from("/")] {
            let line = check_writable(&bad).unwrap_err().to_string();
            assert!(line.contains(&*bad.display().to_string()), "{line}");
        }
        check_writable(&folder.path().join("b.txt")).unwrap();
        assert!(names(folder.path()).is_empty());
    }
}
