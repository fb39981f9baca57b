//! The one place where a file is mapped into memory.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;

use memmap2::Mmap;

/// Maps a file of ours. It was opened for reading, and nothing writes into it in place: files of the cache appear
/// by renaming and disappear by removal, and an unnamed temporary file is written in full before it is mapped.
pub(super) fn read_only(file: &File) -> io::Result<Mmap> {
    // SAFETY: a mapping is sound as long as nobody changes the file's bytes; see above for who could.
    unsafe { Mmap::map(file) }
}
