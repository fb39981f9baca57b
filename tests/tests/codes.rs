//! Generators of codes, priors that are fitted to a VAE's codes, and what they learn by, with the programs alone.

use std::fs;
use std::path::Path;

use edgegen_tests::{checkpoint_values, command, refused, root, succeeds};
use serde_json::Value;

#[path = "../../trainer/tests/photos/mod.rs"]
mod photos;
use photos::photo;

fn classes(folder: &Path) {
    for (number, class) in ["a", "b"].into_iter().enumerate() {
        fs::create_dir_all(folder.join(class)).unwrap();
        for index in 0..12 {
            photo(100 * number as u32 + index, 40, 40)
                .save(folder.join(format!("{class}/{index}.png")))
                .unwrap();
        }
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// Train, cut, resume, export in every precision, draw a class.
#[test]
fn a_generator_of_codes_goes_the_whole_way() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    classes(&folder.join("data"));
    let train = "train gan-64-slim --data data --conditional --size 32 --batch 8 --set network.base=8 \
        --set training.schedule=constant";
    succeeds(folder, "edgegen-train", &format!("{train} --steps 12 --out whole"));
    succeeds(folder, "edgegen-train", &format!("{train} --steps 7 --out cut"));
    succeeds(folder, "edgegen-train", "train --resume --steps 12 --out cut");
    let last = |run: &str| checkpoint_values(&folder.join(run).join("checkpoints/last.safetensors"));
    assert_eq!(last("whole"), last("cut"), "a run that was cut ends as one that was not");
    let config = fs::read_to_string(folder.join("whole/config.toml")).unwrap();
    assert!(config.contains("codes = 24"), "as many codes as pictures: {config}");

    succeeds(folder, "edgegen-train", "export whole --out model --least-quality 0");
    let manifest = json(&fs::read_to_string(folder.join("model/model.json")).unwrap());
    assert_eq!(manifest["precisions"], serde_json::json!(["fp32", "fp16", "int8"]));
    let card = fs::read_to_string(folder.join("model/README.md")).unwrap();
    assert!(
        card.contains("codes of 24 training pictures") && card.contains("real pictures matched"),
        "{card}"
    );
    for precision in ["fp32", "int8"] {
        let call = format!("generate model --precision {precision} --seed 5 --count 8 --class b --out b.png");
        succeeds(folder, "edgegen", &call);
    }
    // what is passed on: fewer files, a card that tells of all, measured
    succeeds(folder, "edgegen-train", "zoo measure . --only model");
    succeeds(folder, "edgegen-train", "zoo ship model --out shipped/model --precision int8");
    let card = fs::read_to_string(folder.join("shipped/model/README.md")).unwrap();
    assert!(card.contains("`generator.fp32.onnx` (not here)") && card.contains("µs a picture"), "{card}");
    assert!(!folder.join("shipped/model/generator.fp32.onnx").exists());
    assert!(!folder.join("shipped/model/weights.safetensors").exists());
    succeeds(folder, "edgegen", "generate shipped/model --seed 5 --count 2 --out shipped.png");
    succeeds(folder, "edgegen-train", "zoo verify shipped");
    succeeds(folder, "edgegen-train", "zoo results shipped --out shipped/results.md");
    let page = fs::read_to_string(folder.join("shipped/results.md")).unwrap();
    assert!(page.contains("| model | fp16 |"), "{page}");
    refused(
        &mut command(folder, "edgegen-train", "zoo ship shipped/model --out other --precision fp32"),
        &["its generator is not there in fp32"],
    );
    // codes belong to their pictures
    fs::remove_file(folder.join("data/a/3.png")).unwrap();
    let changed = "train --resume --steps 14 --out cut --data-changed";
    refused(&mut command(folder, "edgegen-train", changed), &["a code for each", "--init-from"]);
    photo(3, 40, 40).save(folder.join("data/a/3.png")).unwrap();
    // another game beside the codes: a discriminator from a half of the run on
    let game = "--set objective.loss=relativistic --set objective.adversarial_from=0.5 --set objective.r1=1 \
        --set objective.r2=1 --set objective.discriminator_norm=none --set objective.discriminator_base=4 \
        --set objective.r1_every=2";
    succeeds(folder, "edgegen-train", &format!("{train} --steps 8 {game} --out game"));
    let metrics = fs::read_to_string(folder.join("game/metrics.jsonl")).unwrap();
    assert!(json(metrics.lines().last().unwrap())["train"]["d_loss"].is_number(), "{metrics}");
    // and matching without codes
    let matched = "--set network.codes=0 --set objective.matching_pool=40 --set objective.matching_every=3";
    succeeds(folder, "edgegen-train", &format!("{train} --steps 8 {matched} --out matched"));
    succeeds(folder, "edgegen-train", &format!("{train} --steps 5 {matched} --out matched-cut"));
    succeeds(folder, "edgegen-train", "train --resume --steps 8 --out matched-cut");
    assert_eq!(last("matched"), last("matched-cut"));
    // without a network
    succeeds(
        folder,
        "edgegen-train",
        &format!("{train} --steps 2 --set objective.features=none --out plain"),
    );
}

#[test]
fn a_judge_is_not_the_teacher() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let network = root().join("models/mnist-classifier/classifier.fp32.onnx").canonicalize().unwrap();
    let network = network.display();
    let train = "train gan-28 --batch 8 --set network.base=4 --set network.codes=30";
    let taught = format!("{train} --features {network} --steps 2 --out run");
    succeeds(folder, "edgegen-train", &taught);
    let judged = format!("eval run --features {network} --count 40 --resamples 0 --no-cache");
    refused(&mut command(folder, "edgegen-train", &judged), &["learned by", "--judge-is-teacher"]);
    let found = json(&succeeds(folder, "edgegen-train", &format!("{judged} --judge-is-teacher --json")));
    assert_eq!(found["judge_is_teacher"], true);
    succeeds(folder, "edgegen-train", "export run --out model --precision fp32");
    let card = fs::read_to_string(folder.join("model/README.md")).unwrap();
    assert!(card.contains("these figures flatter it"), "{card}");
    // in integers its filters cannot be seen, and a model folder still tells what it learned by
    let integers = root().join("models/mnist-classifier/classifier.int8.onnx").canonicalize().unwrap();
    for call in [
        format!("eval run --features {} --count 40", integers.display()),
        format!("export run --out other --features {network} --drawn 40"),
        format!("compare --samples model --count 40 --features {network}"),
    ] {
        refused(&mut command(folder, "edgegen-train", &call), &["learned by", "--judge-is-teacher"]);
    }
    for (call, expected) in [
        (format!("{train} --features {network} --judge {network} --steps 2 --out x"), "learned by"),
        (format!("train dcgan-28 --features {network} --steps 2 --out x"), "--judge"),
        (format!("train vae-mlp --judge {network} --steps 2 --out x"), "--judge is for GANs"),
        (format!("{train} --set objective.matching=0 --steps 2 --out x"), "objective.matching"),
        (format!("{train} --set objective.matching_every=0 --steps 2 --out x"), "objective.matching_every"),
        ("train dcgan-28 --set network.codes=9 --steps 2 --out x".into(), "network.codes"),
        ("train vae-mlp --iwae 0 --steps 2 --out x".into(), "objective.iwae"),
        ("train vae-mlp --iwae 5 --beta 2 --steps 2 --out x".into(), "objective.iwae"),
        (
            "train vae-mlp --iwae 5 --set objective.likelihood=gaussian --set objective.sigma=0 --steps 2 --out x".into(),
            "objective.sigma",
        ),
        (format!("train vae-mlp --features {network} --steps 2 --out x"), "objective.unlike"),
        ("train gan-28 --iwae 5 --steps 2 --out x".into(), "--iwae is for VAEs"),
        ("train vae-mlp --set objective.unlike=5 --steps 2 --out x".into(), "gaussian"),
        ("train gan-28 --features nowhere.onnx --steps 2 --out x".into(), "nowhere.onnx"),
        (
            "train gan-28 --set objective.features=none --set objective.loss=hinge --set objective.discriminator_sees=features --steps 2 --out x".into(),
            "any ImageNet CNN",
        ),
    ] {
        refused(&mut command(folder, "edgegen-train", &call), &[expected]);
        assert!(!folder.join("x").exists(), "{call}");
    }
}

/// A cut network can be learned by, knows its scaling, and is known again.
#[test]
fn a_network_is_cut_to_feature_maps() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("NOTICE.txt"), "made for this test").unwrap();
    let network = root().join("models/mnist-classifier/classifier.fp32.onnx").canonicalize().unwrap();
    let call = format!("features {} --feature-input signed --notice NOTICE.txt --out cut", network.display());
    // its pictures have one channel and one size, which a dense layer fixes: only its maps are kept
    succeeds(folder, "edgegen-train", &call);
    refused(&mut command(folder, "edgegen-train", &call), &["exists", "--force"]);
    let card = fs::read_to_string(folder.join("cut/README.md")).unwrap();
    assert!(card.contains("made for this test") && card.contains("stride2"), "{card}");
    let train = "train gan-28 --batch 8 --set network.base=4 --set network.codes=30 --steps 2";
    succeeds(folder, "edgegen-train", &format!("{train} --features cut/features.fp16.onnx --out run"));
    let judged = format!("eval run --features {} --count 40 --resamples 0 --no-cache", network.display());
    refused(&mut command(folder, "edgegen-train", &judged), &["learned by"]);
    refused(&mut command(folder, "edgegen", "generate cut --seed 1 --out x.png"), &["feature maps"]);
}

/// A VAE's prior that is brought to its codes is a network of its own, which draws; encoder and decoder stay.
#[test]
fn a_fitted_prior_draws_and_the_decoder_rebuilds() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let train = "train vae-conv --size 28 --gray --batch 16 --set network.base=8 --latent 8 --set network.codes=60 \
        --set objective.likelihood=gaussian --set objective.sigma=0 --set training.schedule=constant";
    succeeds(folder, "edgegen-train", &format!("{train} --set objective.unlike=20 --steps 12 --out run"));
    succeeds(folder, "edgegen-train", &format!("{train} --set objective.unlike=20 --steps 7 --out cut"));
    succeeds(folder, "edgegen-train", "train --resume --steps 12 --out cut");
    let last = |run: &str| checkpoint_values(&folder.join(run).join("checkpoints/last.safetensors"));
    assert_eq!(last("run"), last("cut"));
    let found = json(&succeeds(folder, "edgegen-train", "eval run --samples 4 --limit 20 --json"));
    assert!(found["rebuilding"]["ssim"]["mean"].as_f64().unwrap() > 0.0, "{found}");
    succeeds(folder, "edgegen-train", "export run --out model --least-quality 0");
    for part in ["encoder", "decoder", "generator"] {
        assert!(folder.join(format!("model/{part}.int8.onnx")).is_file(), "{part}");
    }
    succeeds(folder, "edgegen", "generate model --seed 7 --count 4 --out fitted.png");
    succeeds(folder, "edgegen", "generate model/decoder.fp32.onnx --seed 7 --count 4 --out plain.png");
    assert_ne!(fs::read(folder.join("fitted.png")).unwrap(), fs::read(folder.join("plain.png")).unwrap());
    // each class has codes of its own
    succeeds(folder, "edgegen-train", &format!("{train} --conditional --steps 4 --out classes"));
    succeeds(folder, "edgegen-train", "train --resume --steps 6 --out classes");
    succeeds(folder, "edgegen-train", "export classes --out of-classes --precision fp32");
    succeeds(folder, "edgegen", "generate of-classes --seed 7 --count 4 --class 3 --out of-class.png");
    // a latent of maps
    let spatial =
        train.replace("--latent 8", "--set network.latent_side=7 --set network.hidden=[] --latent 98");
    succeeds(folder, "edgegen-train", &format!("{spatial} --steps 4 --out spatial"));
    succeeds(folder, "edgegen-train", "export spatial --out of-places --least-quality 0");
    succeeds(folder, "edgegen", "generate of-places --seed 7 --count 4 --out of-places.png");
    // an importance-weighted bound, with its own figure
    succeeds(folder, "edgegen-train", "train vae-mlp-50 --iwae 3 --steps 10 --out weighted");
    let metrics = fs::read_to_string(folder.join("weighted/metrics.jsonl")).unwrap();
    let report = json(metrics.lines().last().unwrap());
    for part in ["train", "validation"] {
        assert!(report[part]["weighted_bound"].as_f64().unwrap() < 0.0, "{report}");
    }
}
