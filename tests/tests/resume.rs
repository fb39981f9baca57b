//! A run that is cut, at any moment and by any means, ends in the weights of one that was not.

use std::path::Path;
use std::time::{Duration, Instant};

use edgegen_tests::{checkpoint_position, checkpoint_values, command, refused, succeeds};

const RUN: &str = "train vae-conv --batch 32 --seed 9 --set network.base=8 --set objective.binarize=stochastic --set training.checkpoint_seconds=0.02";

/// Starts a training run, kills it `after` it has stored a state that is not the one before, and returns the step of
/// that state.
#[cfg(unix)]
fn killed(folder: &Path, arguments: &str, after: Duration) -> u64 {
    use std::os::unix::process::ExitStatusExt;
    const SIGKILL: i32 = 9;
    let checkpoint = folder.join("cut/checkpoints/last.safetensors");
    let stored = || std::fs::metadata(&checkpoint).ok().and_then(|metadata| metadata.modified().ok());
    let before = stored();
    let mut child =
        command(folder, "edgegen-train", arguments).stderr(std::process::Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while stored() == before {
        assert!(begun.elapsed() < Duration::from_secs(120), "no checkpoint appears");
        assert!(child.try_wait().unwrap().is_none(), "{arguments} ended before it could be killed");
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(after);
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(SIGKILL), "{arguments} was killed in the middle");
    checkpoint_position(&checkpoint)["step"].as_u64().unwrap()
}

#[cfg(unix)]
#[test]
fn a_run_killed_without_warning_resumes_to_the_same_weights() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    succeeds(folder, "edgegen-train", &format!("{RUN} --epochs 6 --out whole"));
    let total =
        checkpoint_position(&folder.join("whole/checkpoints/last.safetensors"))["step"].as_u64().unwrap();
    // in the middle of an epoch, twice
    let pause = Duration::from_millis(40);
    let first = killed(folder, &format!("{RUN} --epochs 6 --out cut"), pause);
    let second = killed(folder, "train --resume --out cut", pause);
    assert!(0 < first && first < second && second < total, "{first} {second} {total}");
    succeeds(folder, "edgegen-train", "train --resume --out cut");

    for file in ["last", "best"] {
        let values =
            |run: &str| checkpoint_values(&folder.join(format!("{run}/checkpoints/{file}.safetensors")));
        assert!(values("whole") == values("cut"), "{file}: the resumed run ends in other weights");
    }
    let steps = |run: &str| {
        let text = std::fs::read_to_string(folder.join(run).join("metrics.jsonl")).unwrap();
        text.lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .map(|epoch| {
                (epoch["step"].as_u64().unwrap(), epoch["train"].to_string(), epoch["validation"].to_string())
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(steps("whole"), steps("cut"));
}

#[cfg(unix)]
#[test]
fn a_run_stopped_inside_an_epoch_resumes_to_the_same_weights() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    succeeds(folder, "edgegen-train", &format!("{RUN} --steps 600 --out whole"));
    let mut child = command(folder, "edgegen-train", &format!("{RUN} --steps 600 --out cut"))
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    while !folder.join("cut/config.toml").is_file() {
        std::thread::sleep(Duration::from_millis(5));
    }
    // the settings are written once the folder is the process's own
    refused(&mut command(folder, "edgegen-train", "train --resume --out cut"), &["cut", "another process"]);
    std::thread::sleep(Duration::from_millis(200));
    let interrupted =
        std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(130), "SIGINT stores the state and ends the run as a shell expects");
    succeeds(folder, "edgegen-train", "train --resume --out cut");
    let values = |run: &str| checkpoint_values(&folder.join(run).join("checkpoints/last.safetensors"));
    assert!(values("whole") == values("cut"));
}

#[test]
fn a_run_is_not_resumed_on_other_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::create_dir(folder.join("data")).unwrap();
    let picture = |index: u8| {
        let gray = image::GrayImage::from_pixel(8, 8, image::Luma([index]));
        gray.save(folder.join(format!("data/{index}.png"))).unwrap();
    };
    (0..40).for_each(picture);
    succeeds(folder, "edgegen-train", "train vae-mlp --data data --size 8 --batch 8 --epochs 1 --out run");
    // the same pictures elsewhere are the same pictures
    std::fs::rename(folder.join("data"), folder.join("moved")).unwrap();
    succeeds(folder, "edgegen-train", "train --resume --out run --data moved --epochs 2");
    succeeds(folder, "edgegen-train", "sample run --data moved");
    std::fs::rename(folder.join("moved"), folder.join("data")).unwrap();
    picture(40);
    let mut other = command(folder, "edgegen-train", "train --resume --out run --data data --epochs 3");
    refused(&mut other, &["other pictures", "training pictures", "--data-changed"]);
    refused(&mut command(folder, "edgegen-train", "eval run --data data"), &["other pictures"]);
    succeeds(folder, "edgegen-train", "train --resume --out run --data data --epochs 3 --data-changed");
}

#[test]
fn a_run_stands_alone_without_its_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::create_dir(folder.join("data")).unwrap();
    for index in 0..40u8 {
        let gray = image::GrayImage::from_fn(8, 8, |x, _| image::Luma([index.wrapping_mul(x as u8 * 6)]));
        gray.save(folder.join(format!("data/{index}.png"))).unwrap();
    }
    succeeds(folder, "edgegen-train", "train vae-mlp --data data --size 8 --batch 8 --steps 30 --out run");
    succeeds(folder, "edgegen-train", "export run --out with --name model --least-quality 0");
    std::fs::remove_dir_all(folder.join("data")).unwrap();
    succeeds(folder, "edgegen-train", "sample run --count 4 --out samples.png");
    succeeds(folder, "edgegen-train", "export run --out without --name model --least-quality 0");
    for file in ["encoder.int8.onnx", "decoder.int8.onnx", "encoder.fp32.onnx"] {
        let bytes = |model: &str| std::fs::read(folder.join(model).join(file)).unwrap();
        assert!(bytes("with") == bytes("without"), "{file} depends on the folder");
    }
    succeeds(folder, "edgegen-train", "eval run --samples 5");
    refused(
        &mut command(folder, "edgegen-train", "train --resume --out run --steps 40"),
        &["data", "does not exist"],
    );
}

#[test]
fn a_run_ends_when_validation_no_longer_improves() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // a learning rate that hardly moves anything: the first report stays the best, or nearly so
    let call = "train vae-mlp --steps 5000 --batch 8 --learning-rate 1e-12 --set training.schedule=constant \
        --set training.patience=0.1 --out run";
    let output = command(folder, "edgegen-train", call).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && text.contains("stopped early"), "{text}");
    let last = std::fs::read_to_string(folder.join("run/metrics.jsonl")).unwrap();
    let last: serde_json::Value = serde_json::from_str(last.lines().last().unwrap()).unwrap();
    assert!(last["step"].as_u64().unwrap() < 5_000, "{last}");
    assert_eq!(last["pictures"].as_u64().unwrap(), 8 * last["step"].as_u64().unwrap());
}

#[test]
fn a_length_in_pictures_or_in_hours_becomes_steps() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let steps = |run: &str| {
        let text = std::fs::read_to_string(folder.join(run).join("metrics.jsonl")).unwrap();
        let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        last["step"].as_u64().unwrap()
    };
    succeeds(folder, "edgegen-train", "train vae-mlp --pictures 1k --batch 30 --out pictures");
    assert_eq!(steps("pictures"), 34);
    let begun = Instant::now();
    succeeds(folder, "edgegen-train", "train vae-mlp --hours 0.0008 --out hours");
    assert!(begun.elapsed() < Duration::from_secs(60), "2.9 seconds of training take {:?}", begun.elapsed());
    assert!(steps("hours") > 1);
    let text = std::fs::read_to_string(folder.join("hours/config.toml")).unwrap();
    assert!(
        text.contains("hours = 0.0008") && text.contains(&format!("steps = {}", steps("hours"))),
        "{text}"
    );
    for (flags, expected) in [
        ("--pictures 0", "--pictures is 0"),
        ("--hours 0", "--hours is 0"),
        ("--hours nan", "--hours is NaN"),
        ("--pictures 1.5", "500k"),
        ("--denoise 25", "--denoise 0.098"),
    ] {
        let mut call = command(folder, "edgegen-train", &format!("train vae-mlp --out x {flags}"));
        refused(&mut call, &[expected]);
        assert!(!folder.join("x").exists());
    }
}

#[test]
fn a_resume_with_other_settings_says_which() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    succeeds(folder, "edgegen-train", "train vae-mlp --steps 5 --out run");
    let mut other =
        command(folder, "edgegen-train", "train --resume --out run --latent 3 --set training.batch=7");
    refused(&mut other, &["network.latent was 2, now 3", "training.batch was 100, now 7"]);
    let mut preset = command(folder, "edgegen-train", "train vae-conv --resume --out run");
    refused(&mut preset, &["vae-mlp", "vae-conv"]);
    let mut again = command(folder, "edgegen-train", "train vae-mlp --steps 5 --out run");
    refused(&mut again, &["holds a run already", "--resume"]);
    succeeds(folder, "edgegen-train", "train --resume --out run --steps 8");
}
