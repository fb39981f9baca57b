//! Files other than models, read from a folder in memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use edgegen_runtime::model::{ImageShape, MANIFEST, Manifest};
use edgegen_runtime::pictures::{read_npy_values, read_picture};
use edgegen_trainer::data::{self, LoadOptions, Size};
use edgegen_trainer::train::checkpoint;
use edgegen_trainer::train::config::Config;

/// In memory, where there is such a folder.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
    base.join(format!("edgegen-fuzz-{}", std::process::id()))
});

/// Reads `bytes` as the kind of file that their first byte says, and drops what comes of it.
pub fn read(bytes: &[u8]) {
    let [kind, bytes @ ..] = bytes else { return };
    let file = |name: &str, bytes: &[u8]| {
        let path = FOLDER.join(name);
        fs::create_dir_all(path.parent().expect("it lies in a folder")).expect("a folder for files");
        fs::write(&path, bytes).expect("a file can be written");
        path
    };
    match kind % 7 {
        0 => drop(read_npy_values(&file("a.npy", bytes))),
        1 => drop(read_picture(&file("a.png", bytes), ImageShape { channels: 3, height: 8, width: 8 })),
        2 => drop(Manifest::read(file(MANIFEST, bytes).parent().expect("it lies in a folder"))),
        3 => drop(checkpoint::read(&file("a.safetensors", bytes))),
        4 => drop(Config::read(&file("config.toml", bytes))),
        5 => {
            // the second byte is how many of the last ones are labels
            let [labels, bytes @ ..] = bytes else { return };
            let (pictures, labels) = bytes.split_at(bytes.len().saturating_sub(usize::from(*labels)));
            file("idx/train-labels-idx1-ubyte", labels);
            load(&file("idx/train-images-idx3-ubyte", pictures));
        }
        // any image format: the reader detects it from the first bytes
        _ => load(file("pictures/a.jpg", bytes).parent().expect("it lies in a folder")),
    }
}

/// Loads a data set, and forms a batch if there is one.
fn load(path: &Path) {
    if let Ok(set) = data::load(Some(path), &LoadOptions::new(Size::square(8)), &|_, _| {}) {
        let range = edgegen_runtime::model::Range::Unit;
        let indices: Vec<usize> = (0..set.train.count().min(4)).collect();
        let values = data::training_batch(range, &set, &indices, 0, 0);
        assert!(values.iter().all(|value| (0.0..=1.0).contains(value)));
    }
}
