//! The figures of `edgegen-train compare` against numpy, scipy and onnxruntime, from pictures on.

use std::fs;
use std::path::Path;

use edgegen_tests::{oracle, python, root, succeeds, write_idx};

const COUNT: usize = 240;
const SIDE: usize = 28;
/// Features of onnxruntime and tract differ by float32 rounding, about 1e-6 of their size.
const TOLERANCE: f64 = 1e-4;
/// The same may put one picture in or out of a ball.
const BORDERLINE: f64 = 2.0 / COUNT as f64;

/// A soft blob on black per picture; `spread` is how far its middle strays.
fn blobs(count: usize, seed: u32, spread: f64) -> Vec<u8> {
    let mut state = seed;
    let mut uniform = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(state >> 8) / f64::from(1 << 24)
    };
    let mut pixels = Vec::new();
    for _ in 0..count {
        let (x, y, size) =
            (14.0 + spread * (uniform() - 0.5), 14.0 + spread * (uniform() - 0.5), 9.0 + 30.0 * uniform());
        for place in 0..SIDE * SIDE {
            let (dx, dy) = ((place % SIDE) as f64 - x, (place / SIDE) as f64 - y);
            pixels.push((255.0 * (-(dx * dx + dy * dy) / size).exp()) as u8);
        }
    }
    pixels
}

fn npy(path: &Path, pixels: &[u8]) {
    let count = pixels.len() / (SIDE * SIDE);
    let header =
        format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({count}, {SIDE}, {SIDE}), }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(pixels);
    fs::write(path, bytes).unwrap();
}

#[test]
fn figures_are_those_of_numpy_and_scipy() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (samples, test, train) = (blobs(COUNT, 1, 12.0), blobs(COUNT, 2, 8.0), blobs(24, 3, 8.0));
    npy(&folder.join("samples.npy"), &samples);
    npy(&folder.join("pictures.npy"), &test);
    fs::create_dir(folder.join("data")).unwrap();
    for (part, pixels) in [("train", &train), ("t10k", &test)] {
        let count = pixels.len() / (SIDE * SIDE);
        write_idx(&folder.join(format!("data/{part}-images-idx3-ubyte")), &[count, SIDE, SIDE], pixels);
        write_idx(&folder.join(format!("data/{part}-labels-idx1-ubyte")), &[count], &vec![0; count]);
    }
    let network = root().join("models/mnist-classifier/classifier.fp32.onnx");
    let call = format!(
        "compare --samples samples.npy --data data --split test --features {} --feature-output features --no-cache --json report.json",
        network.display()
    );
    succeeds(folder, "edgegen-train", &call);
    let paths = ["samples.npy", "pictures.npy", "report.json"].map(|name| folder.join(name));
    let printed = oracle(&python, "check_distances.py", &[&network, &paths[0], &paths[1], &paths[2]]);
    let found: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let below = |name: &str, most: f64| assert!(found[name].as_f64().unwrap() < most, "{name}: {found}");
    assert!(found["frechet"].as_f64().unwrap() > 0.1, "{found}");
    below("frechet_difference", TOLERANCE);
    below("kernel_difference", TOLERANCE);
    below("kernel_deviation", TOLERANCE);
    ["precision", "recall", "coverage"].iter().for_each(|name| below(name, BORDERLINE));
    below("density", BORDERLINE);
}
