//! A user's own folder: few pictures, any names, any proportions, through the programs alone.

use std::fs;
use std::path::Path;

use edgegen_tests::{command, refused, succeeds};

#[path = "../../trainer/tests/photos/mod.rs"]
mod photos;
use photos::photo;

/// `count` pictures in each of `classes`.
fn class_folders(folder: &Path, classes: &[&str], count: u32) {
    for (number, class) in classes.iter().enumerate() {
        fs::create_dir_all(folder.join(class)).unwrap();
        for index in 0..count {
            let picture = photo(1000 * number as u32 + index, 40, 30);
            picture.save(folder.join(class).join(format!("{class}_{index}.png"))).unwrap();
        }
    }
}

#[test]
fn ten_pictures_are_enough_for_everything() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    class_folders(&folder.join("data"), &["cat", "dog"], 5);
    let train = |arguments: &str| succeeds(folder, "edgegen-train", arguments);
    let shown = train("data data");
    assert!(shown.contains("cat") && shown.contains("8 pictures") && shown.contains("2 pictures"), "{shown}");
    train("train classifier --data data --size 32 --steps 3 --set network.base=4 --out judge-run");
    assert!(train("eval judge-run").contains("2 validation pictures"));
    train("export judge-run --out judge --least-quality 0");
    let features = "--features judge/classifier.fp32.onnx --resamples 2 --no-cache";
    for (preset, size) in [("vae-conv", 32), ("gan-64-slim", 32), ("dcgan-32", 32), ("vae-mlp", 16)] {
        train(&format!(
            "train {preset} --data data --size {size} --steps 3 --latent 4 --set network.base=4 --out run-{preset}"
        ));
        train(&format!("sample run-{preset} --count 4"));
        let told = train(&format!("eval run-{preset} --samples 2 --count 20 {features}"));
        let (part, count) = if preset.contains("gan") { ("training", 10) } else { ("validation", 2) };
        assert!(told.contains(&format!("{count} {part} pictures")), "{preset}: {told}");
        train(&format!("export run-{preset} --out model-{preset} --least-quality 0"));
        train(&format!("quantize model-{preset} --out small-{preset} --data data --least-quality 0"));
        train(&format!("compare --samples model-{preset} --count 20 --data data {features}"));
        succeeds(folder, "edgegen", &format!("generate model-{preset} --count 2 --out {preset}.png"));
    }
    // nothing held out at all: the last weights stand for the best
    train("train vae-conv --data data --size 32 --steps 3 --held-out 0 --set network.base=4 --out all");
    assert!(train("eval all --samples 2").contains("10 training pictures"));
    train("export all --out all-model --precision fp32");
    let card = fs::read_to_string(folder.join("all-model/README.md")).unwrap();
    assert!(
        card.contains("Training pictures (none are held out)") && card.contains("--held-out 0"),
        "{card}"
    );
    // nine are not
    fs::remove_file(folder.join("data/cat/cat_0.png")).unwrap();
    let line = "train vae-conv --data data --out x";
    refused(&mut command(folder, "edgegen-train", line), &["9 usable pictures", "at least 10"]);
}

#[test]
fn every_preset_takes_sides_that_differ() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    class_folders(&folder.join("data"), &["cat", "dog"], 8);
    for preset in ["vae-conv", "vae-mlp", "vae-mlp-50", "gan-64-slim", "dcgan-64", "dcgan-28", "classifier"] {
        let (run, model) = (format!("run-{preset}"), format!("model-{preset}"));
        let options = "--size 32x16 --fit pad --steps 3 --batch 8 --latent 4 --set network.base=4";
        succeeds(folder, "edgegen-train", &format!("train {preset} --data data {options} --out {run}"));
        // the exported file is compared with the trained network by the runtime
        let export = format!("export {run} --out {model} --least-quality 0");
        succeeds(folder, "edgegen-train", &export);
        if preset != "classifier" {
            let picture = format!("{preset}.png");
            succeeds(folder, "edgegen", &format!("generate {model} --count 1 --out {picture}"));
            let picture = image::open(folder.join(picture)).unwrap();
            assert_eq!((picture.width(), picture.height()), (32, 16), "{preset}");
        }
    }
    for (size, expected) in [("37x20", "not 3x20x37"), ("0x64", "8 to 512"), ("64by64", "WIDTHxHEIGHT")] {
        let call = format!("train gan-64-slim --data data --steps 1 --size {size} --out x");
        let output = command(folder, "edgegen-train", &call).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && errors.contains(expected), "{size}: {errors}");
    }
}

#[test]
fn the_data_command_says_what_became_of_each_file() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    class_folders(&folder.join("data"), &["one", "two", "three", "four", "five"], 20);
    fs::copy(folder.join("data/one/one_3.png"), folder.join("data/one/copy.png")).unwrap();
    fs::write(folder.join("data/one/notes.txt"), "x").unwrap();
    fs::write(folder.join("data/two/phone.heic"), [&[0, 0, 0, 24][..], b"ftypheic", &[0; 12]].concat())
        .unwrap();
    let first = succeeds(folder, "edgegen-train", "data data --size 16 --cache cache");
    for text in [
        "in files of 40x30 to 40x30 pixels",
        "1 exact and ",
        "1 of .txt",
        "phone.heic: HEIC",
        "101 files decoded",
        "mirrored in training: yes",
        "test          none",
    ] {
        assert!(first.contains(text), "{text:?} is missing:\n{first}");
    }
    // every class is on both sides
    for class in ["one", "two", "three", "four", "five"] {
        let line = first.lines().find(|line| line.trim_start().starts_with(&format!("{class} "))).unwrap();
        let counts: Vec<usize> = line.split_whitespace().skip(1).map(|word| word.parse().unwrap()).collect();
        assert!(counts[0] > 0 && counts[1] > 0, "{line}");
    }
    let second = succeeds(folder, "edgegen-train", "data data --size 16 --cache cache");
    assert!(second.contains("all decoded before"), "{second}");
    let grouped = succeeds(folder, "edgegen-train", "data data --size 16 --no-cache --group-by folder");
    assert!(grouped.contains("no pictures are held out of"), "{grouped}");
    for (call, expected) in [
        ("data data --group-by name", "prefix:_"),
        ("data data --held-out 0.9", "0 to 0.5"),
        ("data data --fit squeeze", "crop, pad or stretch"),
        ("data data --mirror maybe", "yes, no or auto"),
    ] {
        let output = command(folder, "edgegen-train", call).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && errors.contains(expected), "{call}: {errors}");
    }
}

#[test]
fn mirroring_and_balance_are_said_and_kept_in_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    class_folders(&folder.join("data"), &["cat", "dog"], 10);
    (0..8).for_each(|index| fs::remove_file(folder.join(format!("data/dog/dog_{index}.png"))).unwrap());
    let summary = |arguments: &str| {
        let output = command(folder, "edgegen-train", arguments).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments}: {errors}");
        errors
    };
    let small = "--data data --size 16 --steps 2 --set network.base=4";
    assert!(
        summary(&format!("train gan-64-slim {small} --out a")).contains("mirrored at random: yes, colour")
    );
    assert!(
        summary(&format!("train gan-64-slim {small} --gray --out b"))
            .contains("mirrored at random: no, grey")
    );
    assert!(
        summary("train dcgan-28 --steps 2 --set network.base=4 --out c").contains("mirrored at random: no")
    );
    summary(&format!(
        "train gan-64-slim {small} --balance --mirror no --group-by prefix:_ --held-out 0.2 --out d"
    ));
    let config = fs::read_to_string(folder.join("d/config.toml")).unwrap();
    for line in
        ["size = 16", "balance = true", "mirror = \"no\"", "group_by = \"prefix:_\"", "held_out = 0.2"]
    {
        assert!(config.contains(line), "{line:?} is missing:\n{config}");
    }
    // a configuration of an earlier version
    let old = config.replace("size = 16", "side = 16");
    let kept: Vec<&str> = old
        .lines()
        .filter(|line| {
            !["balance", "mirror", "group_by", "held_out", "fit"].iter().any(|key| line.starts_with(key))
        })
        .collect();
    fs::write(folder.join("old.toml"), kept.join("\n")).unwrap();
    summary("train gan-64-slim --config old.toml --steps 2 --out e");
    fs::create_dir(folder.join("flat")).unwrap();
    (0..12).for_each(|index| photo(index, 40, 30).save(folder.join(format!("flat/{index}.png"))).unwrap());
    let call = "train gan-64-slim --data flat --size 16 --steps 2 --balance --out x";
    refused(&mut command(folder, "edgegen-train", call), &["--balance needs pictures of two classes"]);
}
