//! GANs, classes and classifiers: train → resume → evaluate → export → generate → show, with the programs alone.

use std::path::Path;

use edgegen_tests::{checkpoint_values, command, oracle, python, refused, succeeds};
use serde_json::Value;

/// A small conditional GAN with everything that a step can do, on the set inside the program.
const GAN: &str = "train dcgan-28 --conditional --batch 32 --latent 16 --seed 3 --set network.base=8 \
    --set objective.discriminator_base=8 --set training.schedule=linear --set objective.discriminator_steps=2 \
    --set objective.label_smoothing=0.1 --set objective.r1=0.5 --set objective.r1_every=4 \
    --set objective.augment=[\"translation\",\"cutout\"]";

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn mean_level(path: &Path) -> Vec<u8> {
    image::open(path).unwrap().to_luma8().into_raw()
}

#[test]
fn a_conditional_gan_goes_the_whole_way() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    succeeds(folder, "edgegen-train", &format!("{GAN} --steps 80 --out run"));
    for file in [
        "samples/step-0000010.png",
        "samples/step-0000080.png",
        "curves.png",
        "metrics.jsonl",
        "checkpoints/last.safetensors",
    ] {
        assert!(folder.join("run").join(file).is_file(), "{file} is missing");
    }
    let metrics = std::fs::read_to_string(folder.join("run/metrics.jsonl")).unwrap();
    let last = json(metrics.lines().last().unwrap());
    for key in
        ["d_loss", "g_loss", "d_accuracy_real", "d_accuracy_drawn", "d_gradient", "g_gradient", "d_slope"]
    {
        assert!(last["train"][key].is_f64(), "{key} is missing from {last}");
    }
    assert!(last["validation"]["diversity"].as_f64().unwrap() > 0.0);
    // clothes are no digits: the run's own discriminator is the judge
    assert!(last["validation"]["frechet"].as_f64().unwrap() > 0.0, "{last}");
    assert!(last["features"].as_str().unwrap().contains("own discriminator after step"), "{last}");
    for file in ["checkpoints/best.safetensors", "checkpoints/judge.safetensors", "pictures.safetensors"] {
        assert!(folder.join("run").join(file).is_file(), "{file} is missing");
    }
    succeeds(folder, "edgegen-train", "sample run --checkpoint 80 --out snapshot.png");
    let absent = "sample run --checkpoint 81 --out snapshot.png";
    refused(&mut command(folder, "edgegen-train", absent), &["81", "snapshots of the steps"]);
    succeeds(folder, "edgegen-train", "sample run --count 20 --out samples.png");

    // a classifier that edgegen-train itself trains judges the samples
    succeeds(folder, "edgegen-train", "train classifier --steps 60 --set network.base=8 --out judge-run");
    let accuracy = json(&succeeds(folder, "edgegen-train", "eval judge-run --json"));
    assert!(accuracy["accuracy"].as_f64().unwrap() > 0.5, "{accuracy}");
    succeeds(folder, "edgegen-train", "export judge-run --out judge --precision fp32");
    let judge = "judge/classifier.fp32.onnx";
    let eval = format!(
        "eval run --features {judge} --classifier {judge} --count 200 --resamples 2 --neighbours near.png --no-cache --json"
    );
    let found = json(&succeeds(folder, "edgegen-train", &eval));
    assert!(found["report"]["frechet"].as_f64().unwrap() > 0.0, "{found}");
    assert!(found["report"]["modes"]["as_requested"].is_f64(), "{found}");
    assert!(folder.join("near.png").is_file());

    succeeds(folder, "edgegen-train", "export run --out model --precision fp32");
    let card = std::fs::read_to_string(folder.join("model/README.md")).unwrap();
    for text in ["discriminator", "Fréchet distance on judge features", "--conditional"] {
        assert!(card.contains(text), "{text:?} is missing from the card:\n{card}");
    }
    let info = json(&succeeds(folder, "edgegen", "info model --json"));
    assert_eq!(info["part"], "generator");
    assert_eq!((info["range"].as_str(), info["latent_dim"].as_u64()), (Some("signed"), Some(16)));
    assert_eq!(info["inputs"][1]["dtype"], "int64");
    let classes: Vec<String> =
        serde_json::from_str(info["metadata"]["edgegen.classes"].as_str().unwrap()).unwrap();
    assert_eq!(classes.len(), 10);

    // a class by name and by number; each in turn without one
    let name = &classes[7];
    succeeds(folder, "edgegen", "generate model --seed 5 --count 20 --columns 10 --out turn.png");
    succeeds(folder, "edgegen", "generate model --seed 5 --count 8 --class 7 --out number.png");
    let mut named = command(folder, "edgegen", "generate model --seed 5 --count 8 --out named.png --class");
    assert!(named.arg(name).status().unwrap().success());
    assert_eq!(mean_level(&folder.join("number.png")), mean_level(&folder.join("named.png")));
    succeeds(folder, "edgegen", "generate model --seed 5 --count 8 --class 2 --out other.png");
    assert_ne!(mean_level(&folder.join("number.png")), mean_level(&folder.join("other.png")));
    succeeds(folder, "edgegen", "walk model --seed 1 --to 2 --class 3 --frames 4 --out walk.gif");
    succeeds(folder, "edgegen", "bench model --runs 3 --json");
    succeeds(folder, "edgegen-sim", "--model model --seed 2 --class 4 --out panel.png");
    succeeds(folder, "edgegen-sim", "--model model --seed 2 --out gallery.png");
    succeeds(
        folder,
        "edgegen-train",
        &format!(
            "compare --samples model --count 60 --features {judge} --classifier {judge} --class 7 --resamples 0"
        ),
    );

    refused(
        &mut command(folder, "edgegen", "generate model --class 10 --out x.png"),
        &["no class 10", "ankle-boot"],
    );
    refused(&mut command(folder, "edgegen", "generate judge --out x.png"), &["judge", "classifier"]);
    refused(&mut command(folder, "edgegen-sim", "--model model --class cat --out x.png"), &["no class cat"]);
    refused(&mut command(folder, "edgegen-train", "eval run"), &["--features"]);
    refused(&mut command(folder, "edgegen-train", "sample judge-run"), &["classifier"]);
}

#[test]
fn a_gan_that_is_cut_resumes_to_the_same_weights() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for norm in ["batch", "spectral"] {
        // spectral normalisation has a state of its own; it and R1 exclude each other
        let run =
            format!("{GAN} --set objective.discriminator_norm={norm} --set training.checkpoint_seconds=0.02");
        let run = if norm == "spectral" { run.replace("objective.r1=0.5", "objective.r1=0") } else { run };
        succeeds(folder, "edgegen-train", &format!("{run} --steps 130 --out whole-{norm}"));
        let mut child = command(folder, "edgegen-train", &format!("{run} --steps 130 --out cut-{norm}"))
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        while !folder.join(format!("cut-{norm}/checkpoints/last.safetensors")).is_file() {
            assert!(child.try_wait().unwrap().is_none_or(|status| status.success()), "the run failed");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        succeeds(folder, "edgegen-train", &format!("train --resume --out cut-{norm}"));
        for file in ["last", "best"] {
            let values = |run: &str| {
                checkpoint_values(&folder.join(format!("{run}-{norm}/checkpoints/{file}.safetensors")))
            };
            assert!(values("whole") == values("cut"), "{norm}: the resumed run has other {file} weights");
        }
    }
}

#[test]
fn a_gan_that_goes_wrong_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let wild = format!("{GAN} --steps 40 --learning-rate 1e30 --out wild");
    refused(&mut command(folder, "edgegen-train", &wild), &["diverged", "wild"]);
    // G that never moves draws nearly the same picture for every latent: too small a first layer, no classes
    let still = "train dcgan-28 --batch 32 --steps 65 --latent 2 --set network.base=8 --learning-rate 1e-30 \
        --set objective.discriminator_base=8 --out still";
    let output = command(folder, "edgegen-train", still).output().unwrap();
    assert!(output.status.success());
    let untouched = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(untouched.contains("diversity"), "{untouched}");
    for (arguments, expected) in [
        ("train dcgan-28 --beta 2 --out x", &["--beta"][..]),
        ("train dcgan-28 --batch 1 --out x", &["training.batch"]),
        ("train dcgan-28 --set objective.average=1 --out x", &["objective.average"]),
        ("train dcgan-28 --set objective.loss=wgan --out x", &["wgan", "hinge"]),
        ("train dcgan-28 --set network.architecture=mlp --out x", &["mlp", "dcgan"]),
        ("train vae-conv --set network.architecture=dcgan --out x", &["dcgan", "conv"]),
        ("train dcgan-28 --set objective.r1=1 --set objective.discriminator_norm=spectral --out x", &["r1"]),
        ("train classifier --conditional --out x", &["--conditional"]),
        ("train dcgan-28 --set objective.sigma=1 --out x", &["sigma"]),
    ] {
        refused(&mut command(folder, "edgegen-train", arguments), expected);
        assert!(!folder.join("x").exists(), "{arguments} left something");
    }
    // one class is none
    std::fs::create_dir_all(folder.join("data/only")).unwrap();
    for index in 0..30u8 {
        let picture = image::GrayImage::from_pixel(28, 28, image::Luma([index]));
        picture.save(folder.join(format!("data/only/{index}.png"))).unwrap();
    }
    for preset in ["dcgan-28 --conditional", "vae-conv --conditional --size 28", "classifier"] {
        let line = format!("train {preset} --data data --out x");
        refused(&mut command(folder, "edgegen-train", &line), &["two classes"]);
    }
}

#[test]
fn a_conditional_vae_is_told_the_class_when_it_decodes() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (preset, extra) in [("vae-conv", "--set network.base=8"), ("vae-mlp", "")] {
        let (run, model) = (format!("run-{preset}"), format!("model-{preset}"));
        let train = format!("train {preset} --conditional --steps 40 --latent 4 {extra} --out {run}");
        succeeds(folder, "edgegen-train", &train);
        let found =
            json(&succeeds(folder, "edgegen-train", &format!("eval {run} --samples 5 --limit 20 --json")));
        assert!(found["log_likelihood"].is_f64());
        succeeds(folder, "edgegen-train", &format!("export {run} --out {model} --precision fp32"));
        succeeds(folder, "edgegen", &format!("generate {model} --class 3 --out one.png"));
        succeeds(folder, "edgegen", &format!("reconstruct {model} one.png --class 3 --out again.png"));
        let call = format!("reconstruct {model} one.png --out lost.png");
        refused(&mut command(folder, "edgegen", &call), &["--class"]);
    }
}

#[test]
fn exported_generators_and_classifiers_agree_with_onnxruntime() {
    use edgegen_runtime::generate::Latents;
    use edgegen_runtime::model::{AnyFile, Model, OpenOptions};
    use edgegen_runtime::pictures::write_npy;
    /// f32 sums of a few thousand products in another order, of values around 1.
    const TOLERANCE: f64 = 1e-4;
    const COUNT: usize = 6;

    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let path = |name: &str| folder.join(name);
    succeeds(
        folder,
        "edgegen-train",
        &format!("{GAN} --steps 25 --set network.architecture=upsample --out run"),
    );
    succeeds(folder, "edgegen-train", "export run --out model");
    let latents = Latents::from_seed(2, 0, COUNT, 16, 1.0);
    let classes = [3u32, 0, 9, 9, 1, 5];
    write_npy(&path("latent.npy"), &[COUNT, 16], latents.values()).unwrap();
    let listed = classes.map(|class| class.to_string()).join(",");
    let draw = |file: &Path| {
        let mut generator =
            Model::open(file, &OpenOptions::default()).unwrap().into_generator(COUNT).unwrap();
        let images = generator.run(latents.values(), &classes).unwrap().to_vec();
        write_npy(&path("image.npy"), &[COUNT, 1, 28, 28], &images).unwrap();
        let arguments = [file, &path("latent.npy"), &path("image.npy"), Path::new(&listed)];
        (images, json(&oracle(&python, "check_parity.py", &arguments)))
    };
    let (images, report) = draw(&path("model/generator.fp32.onnx"));
    check(&report, TOLERANCE);
    check(&draw(&path("model/generator.fp16.onnx")).1, TOLERANCE);
    // the class is part of the first layer's integers
    let (integers, report) = draw(&path("model/generator.int8.onnx"));
    assert!(report["sqnr"][0].as_f64().unwrap() > 50.0, "{report}");
    let far = images.iter().zip(&integers).map(|(a, b)| f64::from((a - b).abs())).sum::<f64>();
    assert!(far / (images.len() as f64) < 0.03, "{far}");

    succeeds(folder, "edgegen-train", "train classifier --steps 25 --set network.base=8 --out judge-run");
    succeeds(folder, "edgegen-train", "export judge-run --out judge --precision fp32");
    let file = path("judge/classifier.fp32.onnx");
    let unit: Vec<f32> = images.iter().map(|value| (value + 1.0) / 2.0).collect();
    write_npy(&path("unit.npy"), &[COUNT, 1, 28, 28], &unit).unwrap();
    let mut outputs = Vec::new();
    for (name, width) in [("features", 128), ("logits", 10)] {
        let opened = AnyFile::from_bytes(&std::fs::read(&file).unwrap(), "classifier").unwrap();
        let network = opened.network(name, |_| Ok(1)).unwrap();
        let mut rows = vec![0f32; COUNT * width];
        network.runner().unwrap().run(&unit, &mut rows).unwrap();
        write_npy(&path(&format!("{name}.npy")), &[COUNT, width], &rows).unwrap();
        outputs.push(path(&format!("{name}.npy")));
    }
    let report = oracle(&python, "check_parity.py", &[&file, &path("unit.npy"), &outputs[0], &outputs[1]]);
    check(&json(&report), TOLERANCE);
}

fn check(report: &Value, tolerance: f64) {
    for difference in report["differences"].as_array().unwrap() {
        assert!(difference.as_f64().unwrap() < tolerance, "{report}");
    }
    assert!(report["metadata"]["edgegen.classes"].is_string(), "{report}");
    assert!(report["batch"].as_array().unwrap().iter().all(|name| name == "N"), "{report}");
}
