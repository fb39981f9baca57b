//! Files of every other kind that a user hands in: the first byte says as what they are read.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use edgegen_runtime::model::{ImageShape, MANIFEST, Manifest};
use edgegen_runtime::pictures::{read_npy_values, read_picture};
use edgegen_trainer::train::checkpoint;
use edgegen_trainer::train::config::Config;

/// In memory, where there is such a folder.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let base =
        if PathBuf::from("/dev/shm").is_dir() { PathBuf::from("/dev/shm") } else { std::env::temp_dir() };
    let folder = base.join(format!("edgegen-fuzz-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder for files");
    folder
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let [kind, bytes @ ..] = bytes else { return };
    let name = ["a.npy", "a.png", MANIFEST, "a.safetensors", "config.toml"][usize::from(*kind) % 5];
    let path = FOLDER.join(name);
    fs::write(&path, bytes).expect("a file can be written");
    match usize::from(*kind) % 5 {
        0 => drop(read_npy_values(&path)),
        1 => drop(read_picture(&path, ImageShape { channels: 3, height: 8, width: 8 })),
        2 => drop(Manifest::read(&FOLDER)),
        3 => drop(checkpoint::read(&path)),
        _ => drop(Config::read(&path)),
    }
});
