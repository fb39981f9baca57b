//! The shipped models on ARM: `tests/emulator.sh` runs this with an aarch64 `edgegen` and an emulator.

use edgegen_runtime::pictures::read_npy;
use edgegen_tests::{root, succeeds};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Least signal-to-noise ratio, in dB, of pictures of float16 files on a core that computes in float16.
const HALVES: f64 = 40.0;

/// SHA-256 of 8 pictures of seed 7 as `.npy`, drawn by the shipped int8 files, and of what those from pictures to pictures make
/// of mnist-gan's samples: the same on every CPU, today and tomorrow.
const GOLDEN: [(&str, &str); 7] = [
    ("emoji64-gan", "df04bff3a0c8973931f9572bc39d1aa2f012a958425ef61900f30ed2f27c7517"),
    ("emoji64-vae", "2dedd86b495f8afef4a1f98c65553b76153f047a41713c27db07e5487cc47adc"),
    ("fashion-vae", "3c6e430ee26800930e9efdae5da1a81748b9e93bc89518429df3ab882967e1ee"),
    ("mnist-gan", "3ae59e4459cb92bd48a43ee1d02412c5146144d4f87935dd39a4b2e75553faf8"),
    ("smileys64-gan", "d015b729ae69c00d5dea1be1a457f97f9326ab0ec90ea77ae04f93995cbbe333"),
    ("enlarge-x2", "3a6d7682fc87b5186de8b0178963db655b81bfcda16b3cdb55947755934cd7db"),
    ("mnist-vae", "4e154d016a7291d4fdc5de9eb4d9ac8fca66496bc974a4047f702950a25e2b95"),
];

/// Files in float32 of `tests/zoo`: transposed convolutions with batch norms.
const FLOATS: [&str; 1] = ["dcgan28.old"];

/// Cores of a Pi 3 and Zero 2 W, a Pi 4, a Pi 5.
const CORES: [&str; 3] = ["cortex-a53", "cortex-a72", "cortex-a76"];

/// An `edgegen`, with what runs it.
struct Program(Vec<String>);

impl Program {
    /// What it draws on a core: the file's bytes.
    fn draw(&self, core: &str, model: &Path, precision: &str) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("pictures.npy");
        let mut command = Command::new(&self.0[0]);
        command.args(&self.0[1..]);
        if model.join("transform.int8.onnx").is_file() {
            // by tiles
            command.arg("transform").arg(model).arg(root().join("models/mnist-gan/samples.png"));
            command.args(["--tile", "64", "--precision", precision, "--out"]).arg(&to);
        } else {
            command.arg("generate").arg(model);
            command.args(["--precision", precision, "--seed", "7", "--count", "8", "--out"]).arg(&to);
        }
        let output = command.env("QEMU_CPU", core).output().expect("the program starts");
        assert!(output.status.success(), "{} {precision} on {core}: {output:?}", model.display());
        fs::read(to).unwrap()
    }

    /// The same as numbers.
    fn numbers(&self, core: &str, model: &Path, precision: &str) -> Vec<f32> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pictures.npy");
        fs::write(&path, self.draw(core, model, precision)).unwrap();
        read_npy(&path).unwrap().1
    }
}

/// This machine's program and, if there is an emulator, that of ARM; `None`, said aloud, if there is neither.
fn programs() -> Option<(Program, Option<Program>)> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let Some(host) = variable("EDGEGEN_HOST_PROGRAM") else {
        eprintln!("SKIPPED: EDGEGEN_HOST_PROGRAM names no edgegen; tests/emulator.sh sets it");
        return None;
    };
    let arm = variable("EDGEGEN_ARM_PROGRAM").zip(variable("EDGEGEN_ARM_RUNNER"));
    if arm.is_none() {
        eprintln!("SKIPPED on ARM: EDGEGEN_ARM_PROGRAM and EDGEGEN_ARM_RUNNER are not set");
    }
    Some((Program(vec![host]), arm.map(|(program, runner)| Program(vec![runner, program]))))
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn int8_models_draw_the_same_bytes_on_every_core() {
    let Some((host, arm)) = programs() else { return };
    for (name, golden) in GOLDEN {
        let model = root().join("models").join(name);
        let here = hash(&host.draw("", &model, "int8"));
        assert_eq!(here, golden, "{name}: int8 pictures are not those of other days");
        let Some(arm) = &arm else { continue };
        for core in CORES {
            assert_eq!(hash(&arm.draw(core, &model, "int8")), golden, "{name} on {core}");
            println!("{name} on {core}: int8 the same bytes");
        }
    }
}

#[test]
fn float32_is_the_same_and_float16_within_tolerance_on_every_core() {
    let Some((host, Some(arm))) = programs() else { return };
    let folder = tempfile::tempdir().unwrap();
    for name in FLOATS {
        let float = root().join(format!("tests/zoo/{name}.onnx"));
        let half = folder.path().join("half.onnx");
        let make =
            format!("quantize {} --range signed --precision fp16 --out {}", float.display(), half.display());
        succeeds(&root(), "edgegen-train", &make);
        let (exact, widened) = (host.numbers("", &float, "fp32"), host.numbers("", &half, "fp16"));
        for core in CORES {
            let values = arm.numbers(core, &float, "fp32");
            assert!(values == exact, "{name} on {core}: float32 is not the same bits");
            let halves = arm.numbers(core, &half, "fp16");
            let power =
                |values: &mut dyn Iterator<Item = f32>| -> f64 { values.map(|v| f64::from(v * v)).sum() };
            let noise = power(&mut halves.iter().zip(&widened).map(|(a, b)| a - b)).max(1e-12);
            let ratio = 10.0 * (power(&mut widened.iter().copied()) / noise).log10();
            // Cortex-A76 computes in float16, the others in float32
            let least = if core == "cortex-a76" { HALVES } else { 100.0 };
            assert!(ratio > least, "{name} in float16 on {core}: {ratio:.1} dB");
            let apart = halves != widened;
            assert_eq!(apart, core == "cortex-a76", "{name} in float16 on {core}: who computes in what?");
            println!("{name} on {core}: float32 the same bits, float16 {ratio:.1} dB");
        }
    }
}
