//! The shipped models on ARM: `tests/emulator.sh` runs this with an aarch64 `edgegen` and an emulator.

use edgegen_runtime::pictures::read_npy;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Greatest difference of a float32 picture between CPUs, of a range of 1 or 2: they sum in other orders.
const TOLERANCE: f32 = 1e-4;

/// Least signal-to-noise ratio, in dB, of pictures of float16 files on a core that computes in float16.
const HALVES: f64 = 40.0;

/// SHA-256 of 8 pictures of seed 7 as `.npy`: the same on every CPU, today and tomorrow.
const GOLDEN: [(&str, &str); 3] = [
    ("emoji64-gan", "02e16582c839777cde32854556d6f88cc720b6022fae36af095c3912e959d0f6"),
    ("mnist-gan", "b6fa2a6905777ed1164d4c94ecca121eddf3e30872b87c59d74a4e2f1090ab7a"),
    ("mnist-vae", "3b6c9d0d6368a9f44eeea753b5f62528f07aa429ea4ec0a0db3d82ab3f1a0d59"),
];

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models")
}

/// What a program draws: the file's bytes.
fn draw(program: &[&str], core: &str, model: &str, precision: &str, to: &Path) -> Vec<u8> {
    let mut command = Command::new(program[0]);
    command.args(&program[1..]).arg("generate").arg(models().join(model));
    command.args(["--precision", precision, "--seed", "7", "--count", "8", "--out"]).arg(to);
    let output = command.env("QEMU_CPU", core).output().expect("the program starts");
    assert!(output.status.success(), "{model} {precision} on {core}: {output:?}");
    std::fs::read(to).unwrap()
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn int8_models_draw_the_same_bytes_on_every_core_and_float32_within_tolerance() {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let Some(host) = variable("EDGEGEN_HOST_PROGRAM") else {
        eprintln!("SKIPPED: EDGEGEN_HOST_PROGRAM names no edgegen; tests/emulator.sh sets it");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("pictures.npy");
    let arm = variable("EDGEGEN_ARM_PROGRAM").zip(variable("EDGEGEN_ARM_RUNNER"));
    if arm.is_none() {
        eprintln!("SKIPPED on ARM: EDGEGEN_ARM_PROGRAM and EDGEGEN_ARM_RUNNER are not set");
    }
    for (model, golden) in GOLDEN {
        let here = draw(&[&host], "", model, "int8", &to);
        assert_eq!(hash(&here), golden, "{model}: int8 pictures are not those of other days");
        draw(&[&host], "", model, "fp32", &to);
        let (_, exact) = read_npy(&to).unwrap();
        draw(&[&host], "", model, "fp16", &to);
        let (_, widened) = read_npy(&to).unwrap();
        let Some((program, runner)) = &arm else { continue };
        for core in ["cortex-a53", "cortex-a72", "cortex-a76"] {
            let there = draw(&[runner, program], core, model, "int8", &to);
            assert_eq!(hash(&there), golden, "{model} on {core}");
            draw(&[runner, program], core, model, "fp32", &to);
            let (_, values) = read_npy(&to).unwrap();
            let worst = values.iter().zip(&exact).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(values.len() == exact.len() && worst < TOLERANCE, "{model} on {core}: {worst}");
            draw(&[runner, program], core, model, "fp16", &to);
            let (_, halves) = read_npy(&to).unwrap();
            let power =
                |values: &mut dyn Iterator<Item = f32>| -> f64 { values.map(|v| f64::from(v * v)).sum() };
            let noise = power(&mut halves.iter().zip(&widened).map(|(a, b)| a - b)).max(1e-12);
            let ratio = 10.0 * (power(&mut widened.iter().copied()) / noise).log10();
            // Cortex-A76 computes in float16, the others in float32
            let least = if core == "cortex-a76" { HALVES } else { 100.0 };
            assert!(ratio > least, "{model} in float16 on {core}: {ratio:.1} dB");
            let apart = halves != widened;
            assert_eq!(apart, core == "cortex-a76", "{model} in float16 on {core}: who computes in what?");
            println!(
                "{model} on {core}: int8 the same bytes, float32 within {worst:e}, float16 {ratio:.1} dB"
            );
        }
    }
}
