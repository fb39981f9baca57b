//! Makes the small set inside the program: the first pictures of Fashion-MNIST, as gzip IDX files.
//!
//! `cargo run --release -p edgegen-trainer --example make_embedded_set -- FASHION_MNIST_FOLDER OUT`

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use flate2::{Compression, GzBuilder, read::GzDecoder};

/// (part, pictures): under 1 MB together.
const PARTS: [(&str, u32); 2] = [("train", 1_600), ("t10k", 400)];

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [source, target] = arguments.as_slice() else {
        anyhow::bail!("usage: make_embedded_set FASHION_MNIST_FOLDER OUT");
    };
    fs::create_dir_all(target)?;
    for (part, count) in PARTS {
        for (file, header, bytes) in [("images-idx3", 16, 28 * 28), ("labels-idx1", 8, 1)] {
            let name = format!("{part}-{file}-ubyte.gz");
            let mut unpacked = Vec::new();
            GzDecoder::new(File::open(Path::new(source).join(&name))?).read_to_end(&mut unpacked)?;
            unpacked.truncate(header + count as usize * bytes);
            unpacked[4..8].copy_from_slice(&count.to_be_bytes());
            let mut packed = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
            packed.write_all(&unpacked)?;
            fs::write(Path::new(target).join(name), packed.finish()?)?;
        }
    }
    Ok(())
}
