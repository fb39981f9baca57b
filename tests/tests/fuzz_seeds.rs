//! What the fuzz targets start from, again: small inputs that reach much of the code, and all that ever failed.

use std::fs;
use std::path::Path;

#[test]
fn what_was_fuzzed_still_passes() {
    edgegen_fuzz::let_tract_panic();
    let corpus = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds"));
    for target in edgegen_fuzz::TARGETS {
        let mut files: Vec<_> =
            fs::read_dir(corpus.join(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(files.len() > 10, "{target}: {} inputs", files.len());
        for file in files {
            println!("{}", file.display()); // of the one that fails
            edgegen_fuzz::run(target, &fs::read(&file).unwrap());
        }
    }
}
