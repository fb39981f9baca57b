//! What users get wrong: one clear line, an exit code, nothing half-written. (`edgegen`'s own table is
//! in runtime/tests, `edgegen-sim`'s in firmware-sim/tests.)

use std::fs;
use std::path::Path;
use std::process::Command;

use edgegen_tests::{command, files_below, program, refused, skipped, succeeds};

fn trained(folder: &Path) {
    succeeds(folder, "edgegen-train", "train vae-mlp --steps 10 --out run");
}

#[test]
fn calls_that_make_no_sense_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("file"), "x").unwrap();
    fs::create_dir(folder.join("empty")).unwrap();
    fs::write(folder.join("bad.toml"), "[network]\nlatnet = 4\n").unwrap();
    fs::write(folder.join("worse.toml"), "[network\n").unwrap();
    let cases: [(&str, &[&str]); 30] = [
        ("train --out run", &["which preset", "vae-conv"]),
        ("train vae-giant --out run", &["vae-giant", "vae-conv"]),
        ("train vae-mlp --out run --epochs 0", &["--epochs"]),
        ("train vae-mlp --out run --steps 0", &["--steps"]),
        ("train vae-mlp --out run --batch 0", &["batch is 0"]),
        ("train vae-mlp --out run --batch 99999999", &["batch is 99999999"]),
        ("train vae-mlp --out run --latent 0", &["latent is 0"]),
        ("train vae-mlp --out run --latent 999999999", &["latent is 999999999"]),
        ("train vae-mlp --out run --learning-rate NaN", &["learning_rate is NaN"]),
        ("train vae-mlp --out run --beta -1", &["beta"]),
        ("train vae-mlp --out run --seed 18446744073709551615", &["seed"]),
        ("train vae-mlp --out run --epochs 18446744073709551615", &["epochs"]),
        ("train vae-mlp --out run --set adam.beta2=1.0", &["adam.beta2"]),
        ("train vae-mlp --out run --set network.activation={leaky-relu=-1.0}", &["slope"]),
        ("train vae-mlp --out run --set network.hidden=[65536,65536]", &["parameters"]),
        ("train vae-conv --out run --set network.base=1024 --set network.hidden=[65536]", &["parameters"]),
        ("train vae-mlp --out run --data=", &["--data"]),
        ("train vae-mlp --out run --config nowhere.toml", &["nowhere.toml"]),
        ("train vae-mlp --out run --config bad.toml", &["bad.toml", "latnet"]),
        ("train vae-mlp --out run --config worse.toml", &["worse.toml"]),
        ("train vae-mlp --out run --set network.latent", &["KEY=VALUE"]),
        ("train vae-mlp --out run --set network.latnet=3", &["latnet"]),
        ("train vae-mlp --out run --set objective.binarize=maybe", &["maybe", "stochastic"]),
        ("train vae-mlp --out run --data nowhere", &["nowhere", "does not exist"]),
        ("train vae-mlp --out run --data empty", &["empty"]),
        ("train vae-mlp --out run --data file", &["file"]),
        ("train --resume --out nowhere", &["nowhere", "no run folder"]),
        ("eval nowhere", &["nowhere", "no run folder"]),
        ("sample empty", &["empty", "no run folder"]),
        ("export empty --out model", &["empty", "no run folder"]),
    ];
    for (arguments, expected) in cases {
        // a value like -1 would be taken for a flag by itself
        let arguments = arguments.replace("--beta -1", "--beta=-1");
        refused(&mut command(folder, "edgegen-train", &arguments), expected);
        assert!(
            !folder.join("run").exists() && !folder.join("model").exists(),
            "{arguments} left something behind"
        );
    }
}

#[test]
fn damaged_runs_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    trained(folder);
    let best = folder.join("run/checkpoints/best.safetensors");
    let sound = fs::read(&best).unwrap();
    let mut wrong_length = sound.clone();
    wrong_length[0] ^= 0xff;
    let mut not_finite = sound.clone();
    let end = not_finite.len();
    not_finite[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    let cases: [(&str, Vec<u8>, &str); 6] = [
        ("truncated", sound[..sound.len() / 2].to_vec(), "no usable checkpoint"),
        ("header only", sound[..9].to_vec(), "no usable checkpoint"),
        ("empty", Vec::new(), "no usable checkpoint"),
        ("damaged header", wrong_length, "no usable checkpoint"),
        ("NaN", not_finite, "NaN"),
        ("another file", b"\x89PNG\r\n\x1a\n0000000000000000".to_vec(), "no usable checkpoint"),
    ];
    for (name, bytes, expected) in cases {
        fs::write(&best, bytes).unwrap();
        let line = refused(
            &mut command(folder, "edgegen-train", "export run --out model --precision fp32"),
            &["best.safetensors", expected],
        );
        assert!(!folder.join("model").exists(), "{name}: {line}");
    }
    fs::write(&best, &sound).unwrap();
    let config = folder.join("run/config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("latent = 2", "latent = 3")).unwrap();
    refused(&mut command(folder, "edgegen-train", "eval run"), &["best.safetensors", "another network"]);
    fs::write(&config, text.replace("latent = 2", "latent = 2\n")).unwrap();
    let last = folder.join("run/checkpoints/last.safetensors");
    let whole = fs::read(&last).unwrap();
    fs::write(&last, &whole[..whole.len() - 1]).unwrap();
    refused(
        &mut command(folder, "edgegen-train", "train --resume --out run --steps 20"),
        &["last.safetensors"],
    );
    fs::remove_file(&last).unwrap();
    refused(
        &mut command(folder, "edgegen-train", "train --resume --out run --steps 20"),
        &["last.safetensors", "missing"],
    );
    fs::write(&last, &whole).unwrap();
    refused(
        &mut command(folder, "edgegen-train", "train --resume --out run --steps 3"),
        &["10 steps already"],
    );
    fs::write(&config, "preset = 3").unwrap();
    refused(&mut command(folder, "edgegen-train", "eval run"), &["config.toml"]);
}

#[test]
fn outputs_that_cannot_be_written_are_refused_before_the_work() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    trained(folder);
    fs::create_dir(folder.join("taken")).unwrap();
    fs::write(folder.join("taken/letter.txt"), "dear").unwrap();
    refused(
        &mut command(folder, "edgegen-train", "train vae-mlp --steps 1 --out taken"),
        &["taken", "not empty"],
    );
    refused(&mut command(folder, "edgegen-train", "sample run --out s.jpg"), &["s.jpg", ".png"]);
    refused(&mut command(folder, "edgegen", "info run"), &["run", "edgegen-train export"]);
    refused(&mut command(folder, "edgegen-train", "export run --out taken"), &["taken", "exists"]);
    // --force replaces models, nothing else
    refused(
        &mut command(folder, "edgegen-train", "export run --out taken --force --precision fp32"),
        &["taken", "no model folder"],
    );
    succeeds(folder, "edgegen-train", "export run --out model --precision fp32");
    succeeds(folder, "edgegen-train", "export run --out model --force --precision fp32");
    refused(&mut command(folder, "edgegen-train", "sample run --out nowhere/s.png"), &["nowhere/s.png"]);
    refused(&mut command(folder, "edgegen-train", "sample run --count 0"), &["--count is 0"]);
    refused(&mut command(folder, "edgegen-train", "sample run --count 4000000000"), &["--count"]);
    refused(&mut command(folder, "edgegen-train", "eval run --samples 0"), &["--samples is 0"]);
    refused(&mut command(folder, "edgegen-train", "eval run --samples 5001"), &["--samples is 5001"]);
    fs::write(folder.join("file"), "x").unwrap();
    refused(&mut command(folder, "edgegen-train", "train vae-mlp --steps 1 --out file/run"), &["file/run"]);
    refused(
        &mut command(folder, "edgegen-train", "train vae-mlp --steps 1 --device cuda --out r"),
        &["CUDA"],
    );
}

/// A call under a limit of the file size, as on a medium that is full: writes fail with an error
/// (the signal is ignored), not with a kill.
fn with_full_disk(folder: &Path, name: &str, arguments: &str, blocks: u32) -> Command {
    let mut shell = Command::new("sh");
    let line = format!("trap '' XFSZ; ulimit -f {blocks}; exec {} {arguments}", program(name).display());
    shell.current_dir(folder).arg("-c").arg(line);
    shell
}

#[cfg(unix)]
#[test]
fn a_full_disk_leaves_the_last_good_files() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    trained(folder);
    let last = folder.join("run/checkpoints/last.safetensors");
    let before = fs::read(&last).unwrap();
    let files = files_below(folder);
    refused(
        &mut with_full_disk(folder, "edgegen-train", "train --resume --steps 20 --out run", 64),
        &["safetensors"],
    );
    assert!(fs::read(&last).unwrap() == before, "the last good checkpoint is gone");
    refused(
        &mut with_full_disk(folder, "edgegen-train", "export run --out model --precision fp32", 64),
        &[".onnx"],
    );
    assert_eq!(files_below(folder), files, "something half-written was left");

    succeeds(folder, "edgegen-train", "export run --out model --precision fp32");
    let files = files_below(folder);
    let pictures = "generate model --seed 1 --count 400 --out many.png";
    refused(&mut with_full_disk(folder, "edgegen", pictures, 8), &["many.png"]);
    refused(&mut with_full_disk(folder, "edgegen-sim", "--model model --out panel.png", 1), &["panel.png"]);
    assert_eq!(files_below(folder), files, "something half-written was left");
}

/// A file system of 256 KiB at a folder, for as long as this lives.
#[cfg(target_os = "linux")]
struct TinyDisk<'a>(&'a Path);

#[cfg(target_os = "linux")]
impl<'a> TinyDisk<'a> {
    /// `None`, with a word, where mounting is not allowed.
    fn mount(folder: &'a Path) -> Option<Self> {
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "none"]).arg(folder).output();
        if mount.is_ok_and(|output| output.status.success()) {
            return Some(Self(folder));
        }
        skipped("a tmpfs cannot be mounted here; the limit of the file size stands in for a full disk");
        None
    }
}

#[cfg(target_os = "linux")]
impl Drop for TinyDisk<'_> {
    fn drop(&mut self) {
        // what stays mounted shows as a temporary folder that cannot be removed
        let _ = Command::new("umount").arg(self.0).status();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_small_medium_that_fills_up_holds_nothing_half_written() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    trained(folder);
    fs::create_dir(folder.join("disk")).unwrap();
    let place = folder.join("disk");
    let Some(_mounted) = TinyDisk::mount(&place) else { return };
    let disk = &place;
    refused(&mut command(folder, "edgegen-train", "export run --out disk/model"), &["disk", ".onnx"]);
    assert_eq!(files_below(disk), Vec::<std::path::PathBuf>::new());
    refused(
        &mut command(folder, "edgegen-train", "train vae-conv --steps 1 --out disk/run"),
        &["disk", ".safetensors"],
    );
    let left = files_below(disk);
    assert!(left.iter().all(|path| !path.display().to_string().contains("safetensors")), "{left:?}");
}

#[test]
fn a_run_that_diverges_stops_and_keeps_its_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    trained(folder);
    let before = fs::read(folder.join("run/checkpoints/last.safetensors")).unwrap();
    // in the middle of an epoch, and at its end, where the loss before the last update is still sound
    for steps in [400, 1] {
        let diverging = format!("train vae-mlp --steps {steps} --learning-rate 1e30 --out wild-{steps}");
        refused(&mut command(folder, "edgegen-train", &diverging), &["diverged"]);
    }
    let spoiling = "train --resume --out run --steps 60 --learning-rate 1e30";
    refused(&mut command(folder, "edgegen-train", spoiling), &["learning_rate was 0.001"]);
    assert!(fs::read(folder.join("run/checkpoints/last.safetensors")).unwrap() == before);
}
