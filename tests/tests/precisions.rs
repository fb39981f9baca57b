//! float16 and integers, with the programs alone: what files hold, that onnxruntime agrees, and what is refused.

use std::fs;

use edgegen_runtime::generate::Latents;
use edgegen_runtime::model::{Model, OpenOptions};
use edgegen_runtime::pictures::write_npy;
use edgegen_tests::{command, oracle, python, refused, succeeds};
use serde_json::Value;

/// A VAE of few steps as `run`.
const VAE: &str = "train vae-conv --out run --steps 80 --batch 32 --latent 8 --set network.base=16";

#[test]
fn onnxruntime_computes_the_same_integers() {
    const COUNT: usize = 12;
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    succeeds(folder, "edgegen-train", VAE);
    for format in ["qlinear", "qdq"] {
        let call = format!("export run --out {format} --precision fp16,int8 --format {format}");
        let told = succeeds(folder, "edgegen-train", &call);
        assert!(
            told.contains("decoder, int8 against fp32: PSNR") && told.contains("encoder, int8"),
            "{told}"
        );
        // of integers only the last sigmoid is float
        for (precision, least) in [("fp16", 90.0), ("int8", 100.0)] {
            let path = |part: &str| folder.join(format!("{format}/{part}.{precision}.onnx"));
            let array = |name: &str| folder.join(format!("{name}.npy"));
            let open = |part: &str| Model::open(&path(part), &OpenOptions::default()).unwrap();
            let latents = Latents::from_seed(2, 0, COUNT, 8, 1.0);
            write_npy(&array("latent"), &[COUNT, 8], latents.values()).unwrap();
            let mut decoder = open("decoder").into_generator(COUNT).unwrap();
            let images = decoder.run(latents.values(), &[]).unwrap().to_vec();
            write_npy(&array("image"), &[COUNT, 1, 28, 28], &images).unwrap();
            let posterior = open("encoder").into_encoder(COUNT).unwrap().run(&images).unwrap();
            write_npy(&array("mean"), &[COUNT, 8], &posterior.mean).unwrap();
            write_npy(&array("log_variance"), &[COUNT, 8], &posterior.log_variance).unwrap();
            for report in [
                oracle(&python, "check_parity.py", &[&path("decoder"), &array("latent"), &array("image")]),
                oracle(
                    &python,
                    "check_parity.py",
                    &[&path("encoder"), &array("image"), &array("mean"), &array("log_variance")],
                ),
            ] {
                let report: Value = serde_json::from_str(&report).unwrap();
                for ratio in report["sqnr"].as_array().unwrap() {
                    assert!(ratio.as_f64().unwrap() > least, "{format} {precision}: {report}");
                }
                assert_eq!(report["metadata"]["edgegen.precision"], precision);
                assert_eq!(report["raw"], true);
            }
        }
    }
}

#[test]
fn a_model_folder_is_given_other_precisions_and_keeps_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    succeeds(
        folder,
        "edgegen-train",
        "train gan-64-slim --out run --steps 30 --set network.base=8 --set network.latent=16 --size 28",
    );
    succeeds(folder, "edgegen-train", "export run --out model --precision fp32");
    let read = |name: &str| fs::read(folder.join(name)).unwrap();
    let card = String::from_utf8(read("model/README.md")).unwrap();
    succeeds(
        folder,
        "edgegen-train",
        "quantize model --out all --precision fp16,int8 --held-out 100 --least-quality 20",
    );
    assert_eq!(read("model/generator.fp32.onnx"), read("all/generator.fp32.onnx"));
    let manifest: Value = serde_json::from_slice(&read("all/model.json")).unwrap();
    assert_eq!(manifest["precisions"], serde_json::json!(["fp32", "fp16", "int8"]));
    assert_eq!(manifest["default_precision"], "fp32");
    assert!(manifest["metrics"]["generator_int8"]["psnr_mean"].as_f64().unwrap() > 20.0, "{manifest}");
    let parent = manifest["files"][0]["sha256"].as_str().unwrap();
    let facts: Value =
        serde_json::from_str(&succeeds(folder, "edgegen", "info all --precision int8 --json")).unwrap();
    assert_eq!(facts["precision"], "int8");
    assert!(facts.to_string().contains(parent), "{facts}");
    let mended = String::from_utf8(read("all/README.md")).unwrap();
    assert_eq!(mended.matches("## Files").count(), 1);
    assert!(mended.contains("generator.int8.onnx") && mended.contains("PSNR"), "{mended}");
    assert!(mended.contains(card.lines().nth(4).unwrap()));
    let report: Value = serde_json::from_slice(&read("all/generator.int8.json")).unwrap();
    // comparing with codes and their mean stay in float32, a dense layer and two convolutions do not
    let layers = report["layers"].as_array().unwrap();
    let floats: Vec<bool> = layers.iter().map(|layer| layer["float"].as_bool().unwrap()).collect();
    assert_eq!(floats, [true, true, false, false, false], "{report}");
    assert!(image::open(folder.join("all/generator.int8.png")).is_ok());
    // in place, and again: what is there and not made anew stays
    fs::write(folder.join("all/NOTICE"), "kept").unwrap();
    succeeds(folder, "edgegen-train", "quantize all --out all --force --precision fp16 --held-out 20");
    assert!(folder.join("all/generator.int8.json").is_file() && read("all/NOTICE") == b"kept");
    succeeds(
        folder,
        "edgegen-train",
        "quantize all --out all --force --held-out 100 --per-tensor --least-quality 20",
    );
    assert_eq!(read("model/generator.fp32.onnx"), read("all/generator.fp32.onnx"));
    // a file this small is nodes and names too
    assert!(read("all/generator.fp16.onnx").len() * 10 < read("model/generator.fp32.onnx").len() * 6);

    // a file alone, in the form that other tools quantise
    let file = "all/generator.fp32.onnx";
    succeeds(
        folder,
        "edgegen-train",
        &format!("quantize {file} --precision fp32 --out form.onnx --inputs arrays --calibration 40"),
    );
    succeeds(folder, "edgegen", "generate form.onnx --seed 1 --out form.png");
    let (shape, _) = edgegen_runtime::pictures::read_npy(&folder.join("arrays/calibration.npy")).unwrap();
    assert_eq!(shape, [40, 16]);

    for (call, expected) in [
        (format!("quantize {file} --out form.onnx"), vec!["form.onnx", "exists"]),
        (format!("quantize {file} --out x.onnx --precision fp16,int8"), vec!["one --precision"]),
        (format!("quantize {file} --out x.onnx --keep-float nose"), vec!["nose", "layer0"]),
        (
            format!("quantize {file} --out x.onnx --least-quality 90"),
            vec!["below the 90.0 dB", "--keep-float"],
        ),
        (format!("quantize {file} --out x.onnx --calibrator most"), vec!["percentile=99.9"]),
        (format!("quantize {file} --out x.onnx --calibration 0"), vec!["--calibration is 0"]),
        ("quantize all/generator.int8.onnx --out x.onnx".into(), vec!["quantised already"]),
        ("quantize model --out all".into(), vec!["all", "exists"]),
        ("quantize run --out x".into(), vec!["this is a run"]),
        ("quantize missing.onnx --out x.onnx".into(), vec!["missing.onnx"]),
    ] {
        refused(&mut command(folder, "edgegen-train", &call), &expected);
        assert!(!folder.join("x.onnx").exists() && !folder.join("x").exists(), "{call}");
    }
}

#[test]
fn an_encoder_is_calibrated_on_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    succeeds(folder, "edgegen-train", VAE);
    succeeds(folder, "edgegen-train", "export run --out model --precision fp32");
    let call = "quantize model --out all";
    refused(&mut command(folder, "edgegen-train", call), &["encoder.fp32.onnx", "--data", "1x28x28"]);
    assert!(!folder.join("all").exists());
    fs::create_dir(folder.join("pictures")).unwrap();
    refused(&mut command(folder, "edgegen-train", &format!("{call} --data pictures")), &["pictures"]);
    for index in 0..12 {
        let picture = format!("generate model --seed {index} --out pictures/{index}.png");
        succeeds(folder, "edgegen", &picture);
    }
    let told = succeeds(folder, "edgegen-train", &format!("{call} --data pictures --held-out 50"));
    assert!(told.contains("log_variance"), "{told}");
    assert!(folder.join("all/encoder.int8.onnx").is_file() && folder.join("all/decoder.int8.onnx").is_file());
}
