//! Pairs of pictures: a network learns to translate one into the other, with and without a discriminator.

use std::fs;
use std::path::Path;

use edgegen_tests::{command, refused, succeeds};
use image::{DynamicImage, GenericImage, RgbImage};
use serde_json::Value;

#[path = "../../trainer/tests/photos/mod.rs"]
mod photos;
use photos::photo;

const QUICK: &str = "--size 32 --steps 60 --batch 8 --set network.base=8 --set network.hidden=[1,1] --set objective.patch=32 --set objective.discriminator_base=4";

/// What should come out: red and blue exchanged.
fn exchanged(picture: &RgbImage) -> RgbImage {
    let mut other = picture.clone();
    other.pixels_mut().for_each(|pixel| pixel.0.swap(0, 2));
    other
}

fn pairs(folder: &Path) {
    for part in ["from", "to", "beside"] {
        fs::create_dir_all(folder.join(part)).unwrap();
    }
    for index in 0..24 {
        let given = photo(index, 48, 48);
        let wanted = exchanged(&given);
        given.save(folder.join(format!("from/{index}.png"))).unwrap();
        wanted.save(folder.join(format!("to/{index}.bmp"))).unwrap();
        let mut beside = RgbImage::new(96, 48);
        beside.copy_from(&wanted, 0, 0).unwrap();
        beside.copy_from(&given, 48, 0).unwrap();
        beside.save(folder.join(format!("beside/{index}.png"))).unwrap();
    }
}

#[test]
fn a_network_learns_from_pairs_and_is_measured_on_them() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    pairs(folder);
    let train = |arguments: &str| succeeds(folder, "edgegen-train", arguments);
    train(&format!(
        "train translate --data from --to to --mirror yes --out run {QUICK} --set training.learning_rate=2e-3"
    ));
    // the same pairs side by side, the other way round in the files
    train(&format!(
        "train translate --data beside --side-by-side right --mirror yes --out run-beside {QUICK} --set training.learning_rate=2e-3"
    ));
    let metrics = |run: &str| {
        let text = fs::read_to_string(folder.join(run).join("metrics.jsonl")).unwrap();
        serde_json::from_str::<Value>(text.lines().last().unwrap()).unwrap()
    };
    let last = metrics("run");
    for last in [&last, &metrics("run-beside")] {
        let psnr = last["validation"]["psnr"].as_f64().unwrap();
        assert!(psnr > last["validation"]["given_psnr"].as_f64().unwrap() + 3.0, "{last}");
    }
    assert!(last["train"]["d_loss"].as_f64().unwrap().is_finite(), "{last}");

    train("export run --out model --precision fp32,int8 --least-quality 15");
    let card = fs::read_to_string(folder.join("model/README.md")).unwrap();
    assert!(card.contains("--data from --to to") && card.contains("discriminator of patches"), "{card}");
    let told = train("yardstick model from --to to --json");
    for line in told.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let [made, given] = [0, 1].map(|which| line["found"]["apart"][which].as_f64().unwrap());
        assert!(made < given / 1.3, "{line}");
    }
    succeeds(folder, "edgegen", "transform model from --out made");
    assert_eq!(fs::read_dir(folder.join("made")).unwrap().count(), 24);
    // without the folders
    fs::rename(folder.join("to"), folder.join("elsewhere")).unwrap();
    train("export run --out again --precision fp32");
    assert_eq!(
        fs::read(folder.join("model/transform.fp32.onnx")).unwrap(),
        fs::read(folder.join("again/transform.fp32.onnx")).unwrap()
    );
}

#[test]
fn a_stopped_run_with_a_discriminator_goes_on_to_the_same_weights() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    pairs(folder);
    let train = |arguments: &str| succeeds(folder, "edgegen-train", arguments);
    // what a discriminator learns from the tenth step on
    let call = format!(
        "train enlarge-x2 --data from --adversarial 0.01 --set objective.adversarial_from=0.5 {QUICK} --set network.hidden=[1] --set training.schedule=constant"
    );
    train(&format!("{call} --out whole --steps 20").replace("--steps 60", ""));
    train(
        &format!("{call} --out parts --steps 20 --set training.checkpoint_seconds=0")
            .replace("--steps 60", ""),
    );
    let text = fs::read_to_string(folder.join("whole/metrics.jsonl")).unwrap();
    let has = |line: &str| serde_json::from_str::<Value>(line).unwrap()["train"].get("d_loss").is_some();
    assert!(!has(text.lines().next().unwrap()) && has(text.lines().last().unwrap()), "{text}");
    let weights = |run: &str| fs::read(folder.join(run).join("checkpoints/last.safetensors")).unwrap();
    let called = |run: &str, steps: u64| train(&format!("train --resume --out {run} --steps {steps}"));
    called("whole", 30);
    called("parts", 25);
    called("parts", 30);
    let values = |run: &str| {
        let bytes = weights(run);
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut all: Vec<_> =
            file.iter().map(|(name, view)| (name.to_string(), view.data().to_vec())).collect();
        all.sort();
        all
    };
    for ((name, whole), (_, parts)) in values("whole").into_iter().zip(values("parts")) {
        assert!(whole == parts, "{name}");
    }
}

#[test]
fn pairs_that_are_none_are_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    pairs(folder);
    let copy = |name: &str| {
        fs::create_dir_all(folder.join(name)).unwrap();
        for entry in fs::read_dir(folder.join("to")).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, folder.join(name).join(path.file_name().unwrap())).unwrap();
        }
    };
    copy("few");
    fs::remove_file(folder.join("few/7.bmp")).unwrap();
    copy("many");
    photo(99, 48, 48).save(folder.join("many/more.png")).unwrap();
    copy("twice");
    photo(99, 48, 48).save(folder.join("twice/3.png")).unwrap();
    for (more, expected) in [
        ("--data from --to few", vec!["few", "no partner", "7.png", "same name"]),
        ("--data from --to many", vec!["from", "no partner", "more.png"]),
        ("--data from --to twice", vec!["same name as"]),
        ("--data from --to missing", vec!["missing", "--to"]),
        ("--data from", vec!["--to FOLDER", "--side-by-side"]),
        ("--to to", vec!["--data"]),
        ("--data from --to to --side-by-side left", vec!["--side-by-side"]),
        ("--data from --side-by-side up", vec!["left or right"]),
        ("--data from --to to --set objective.noise=[0,9]", vec!["needs no pairs"]),
        ("--data from --to to --adversarial=-1", vec!["objective.adversarial"]),
        ("--data from --to to --batch 1", vec!["training.batch"]),
        (
            "--data from --to to --set training.batch=4 --set objective.adversarial_from=1",
            vec!["objective.adversarial_from"],
        ),
    ] {
        let call = format!("train translate {more} --out x {}", QUICK.replace("--batch 8", ""));
        refused(&mut command(folder, "edgegen-train", &call), &expected);
        assert!(!folder.join("x").exists(), "{call}");
    }
    let gan = "train gan-64 --data from --to to --out x --steps 1";
    refused(&mut command(folder, "edgegen-train", gan), &["translate"]);
    refused(
        &mut command(folder, "edgegen-train", &gan.replace("--to to", "--adversarial 1")),
        &["--adversarial"],
    );
    // one pair of other proportions is passed over, and named
    DynamicImage::from(photo(3, 48, 30)).save(folder.join("to/3.bmp")).unwrap();
    let call =
        format!("train translate --data from --to to --out run {}", QUICK.replace("--steps 60", "--steps 2"));
    let output = command(folder, "edgegen-train", &call).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && told.contains("3.png") && told.contains("48x30"), "{told}");
}
