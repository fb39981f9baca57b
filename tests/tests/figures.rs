//! Figures that say what they are: a VAE's bounds, a denoiser's closeness to clean pictures, and precisions that are
//! calibrated on what an encoder sees.

use std::fs;
use std::path::Path;

use edgegen_tests::{succeeds, write_idx};
use serde_json::Value;

/// A small VAE on `data`, as the run `run`.
const VAE: &str = "train vae-mlp --data data --latent 8 --batch 40 --learning-rate 3e-3";

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// An IDX set of soft blobs on black, 28×28, sorted by its two classes.
fn blobs(folder: &Path) {
    const SIDE: usize = 28;
    let mut state = 7u32;
    let mut uniform = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(state >> 8) / f64::from(1 << 24)
    };
    fs::create_dir_all(folder).unwrap();
    for (part, count) in [("train", 272), ("t10k", 120)] {
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        for index in 0..count {
            let class = 2 * index / count;
            labels.push(class as u8);
            let middle = [9.0, 19.0][class];
            let (x, y, size) =
                (middle + 6.0 * (uniform() - 0.5), 8.0 + 12.0 * uniform(), 12.0 + 30.0 * uniform());
            for place in 0..SIDE * SIDE {
                let (dx, dy) = ((place % SIDE) as f64 - x, (place / SIDE) as f64 - y);
                pixels.push((255.0 * (-(dx * dx + dy * dy) / size).exp()) as u8);
            }
        }
        write_idx(&folder.join(format!("{part}-images-idx3-ubyte")), &[count, SIDE, SIDE], &pixels);
        write_idx(&folder.join(format!("{part}-labels-idx1-ubyte")), &[count], &labels);
    }
}

#[test]
fn only_binarised_pictures_have_a_log_likelihood() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    blobs(&folder.join("data"));
    for (name, settings, what, expected) in [
        ("grey", "", "cross-entropy", &["cross-entropy", "no log-likelihood", "KL"][..]),
        ("binary", "--set objective.binarize=stochastic", "log-likelihood", &["ELBO", "log-likelihood  "]),
        (
            "gaussian",
            "--set objective.likelihood=gaussian",
            "log-density",
            &["dequantised", "bits per value"],
        ),
    ] {
        succeeds(folder, "edgegen-train", &format!("{VAE} {settings} --steps 150 --out {name}"));
        let told = succeeds(folder, "edgegen-train", &format!("eval {name} --samples 5"));
        let found = json(&succeeds(folder, "edgegen-train", &format!("eval {name} --samples 5 --json")));
        assert_eq!(found["what"], what, "{found}");
        succeeds(folder, "edgegen-train", &format!("export {name} --out model-{name} --precision fp32"));
        let card = fs::read_to_string(folder.join(format!("model-{name}/README.md"))).unwrap();
        let metrics = json(&fs::read_to_string(folder.join(format!("model-{name}/model.json"))).unwrap());
        assert_eq!(metrics["metrics"]["test_what"], what, "{metrics}");
        for text in [&told, &card.replace(": ", "  ")] {
            expected.iter().for_each(|expected| assert!(text.contains(expected), "{expected} in {text}"));
            let claims = text.replace("no log-likelihood", "").contains("log-likelihood");
            assert_eq!(claims, what == "log-likelihood", "{text}");
            assert_eq!(text.contains("ELBO"), what != "cross-entropy", "{text}");
        }
    }
    // bits per value of 8-bit pictures: fewer than the 8 of uniform noise, more than none
    let told = succeeds(folder, "edgegen-train", "eval gaussian --samples 5");
    let bits = told.split(" bits per value").next().unwrap().rsplit(' ').next().unwrap();
    assert!((0.0..8.0).contains(&bits.parse::<f64>().unwrap()), "{told}");
}

/// A run keeps 256 pictures, here all: an encoder that was trained on noisy or binarised pictures is calibrated on such by `quantize` as by `export`: the
/// files are the same, bit for bit.
#[test]
fn a_model_folder_is_calibrated_on_what_its_encoder_sees() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    blobs(&folder.join("data"));
    for (name, settings) in [("noisy", "--denoise 0.4"), ("binary", "--set objective.binarize=stochastic")] {
        succeeds(folder, "edgegen-train", &format!("{VAE} {settings} --steps 60 --out {name}"));
        let common = "--precision int8 --calibration 200 --held-out 60 --least-quality 0";
        succeeds(folder, "edgegen-train", &format!("export {name} --out {name}-both {common}"));
        succeeds(folder, "edgegen-train", &format!("export {name} --out {name}-fp32 --precision fp32"));
        let quantize = format!("quantize {name}-fp32 --data data --out {name}-int8 {common}");
        succeeds(folder, "edgegen-train", &quantize);
        let read = |model: &str| fs::read(folder.join(model).join("encoder.int8.onnx")).unwrap();
        assert!(read(&format!("{name}-both")) == read(&format!("{name}-int8")), "{name}: other integers");
        let info = json(&succeeds(folder, "edgegen", &format!("info {name}-int8 --part encoder --json")));
        let key = |key: &str| info["metadata"][key].as_str().map(str::to_string);
        let expected = if name == "noisy" { (Some("0.4"), None) } else { (None, Some("stochastic")) };
        let found = (key("edgegen.denoise"), key("edgegen.binarize"));
        assert_eq!((found.0.as_deref(), found.1.as_deref()), expected, "{info}");
    }
}

#[test]
fn a_denoiser_is_measured_against_the_clean_picture() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    blobs(&folder.join("data"));
    succeeds(folder, "edgegen-train", &format!("{VAE} --denoise 0.4 --beta 0.2 --steps 400 --out run"));
    let found = json(&succeeds(folder, "edgegen-train", "eval run --samples 2 --json"))["denoising"].clone();
    let mean = |side: &str, figure: &str| found[side][figure]["mean"].as_f64().unwrap();
    assert!((8.0..13.0).contains(&mean("noisy", "psnr")), "{found}");
    assert!(mean("denoised", "psnr") > mean("noisy", "psnr") + 5.0, "{found}");
    assert!(mean("denoised", "ssim") > mean("noisy", "ssim") + 0.2, "{found}");
    assert_eq!(found["pictures"], 120);
    let metrics = fs::read_to_string(folder.join("run/metrics.jsonl")).unwrap();
    let last = json(metrics.lines().last().unwrap());
    assert!(
        last["validation"]["psnr"].as_f64().unwrap() > last["validation"]["noisy_psnr"].as_f64().unwrap()
    );
    let told = succeeds(folder, "edgegen-train", "eval run --samples 2 --limit 30");
    assert!(
        told.contains("against the clean picture (noisy input: ") && told.contains("30 pictures"),
        "{told}"
    );
    succeeds(folder, "edgegen-train", "export run --out model --precision fp32");
    let card = fs::read_to_string(folder.join("model/README.md")).unwrap();
    assert!(card.contains("against the clean picture (noisy input: "), "{card}");
}

/// Samples in a folder lie sorted by class: `--count` takes some of each.
#[test]
fn some_of_a_folder_are_some_of_all() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    blobs(&folder.join("data"));
    succeeds(
        folder,
        "edgegen-train",
        "train classifier --data data --steps 60 --set network.base=8 --out run",
    );
    succeeds(folder, "edgegen-train", "export run --out judge --precision fp32");
    for class in 0..2u8 {
        fs::create_dir_all(folder.join(format!("samples/{class}"))).unwrap();
        for index in 0..20 {
            let x = [9.0, 19.0][usize::from(class)] + f64::from(index) / 10.0 - 1.0;
            let picture = image::GrayImage::from_fn(28, 28, |column, row| {
                let (dx, dy) = (f64::from(column) - x, f64::from(row) - 14.0);
                image::Luma([(255.0 * (-(dx * dx + dy * dy) / 25.0).exp()) as u8])
            });
            picture.save(folder.join(format!("samples/{class}/{index:02}.png"))).unwrap();
        }
    }
    let judge = "judge/classifier.fp32.onnx";
    let call = format!(
        "compare --samples samples --count 10 --data data --features {judge} --classifier {judge} --resamples 0 --no-cache --json r.json"
    );
    succeeds(folder, "edgegen-train", &call);
    let report = json(&fs::read_to_string(folder.join("r.json")).unwrap());
    assert_eq!(report["modes"]["histogram"], serde_json::json!([5, 5]), "{report}");
}
