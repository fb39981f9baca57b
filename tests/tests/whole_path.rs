//! Train → export → generate → reconstruct → show, with the programs alone.

use edgegen_tests::{files_below, oracle, python, succeeds};

#[test]
fn a_newcomer_trains_exports_and_shows_a_model_without_any_data() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    succeeds(
        folder,
        "edgegen-train",
        "train vae-conv --out run --steps 120 --batch 32 --latent 8 --set network.base=16",
    );
    let files: Vec<String> =
        files_below(&folder.join("run")).iter().map(|path| path.display().to_string()).collect();
    for expected in [
        "checkpoints/best.safetensors",
        "checkpoints/last.safetensors",
        "config.toml",
        "curves.png",
        "metrics.jsonl",
        "pictures.safetensors",
        "reconstructions/step-0000010.png",
        "samples/step-0000120.png",
    ] {
        assert!(files.iter().any(|file| file == expected), "{expected} is missing from {files:?}");
    }
    let metrics = std::fs::read_to_string(folder.join("run/metrics.jsonl")).unwrap();
    let elbo: Vec<f64> = metrics
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["validation"]["elbo"].as_f64().unwrap()
        })
        .collect();
    assert!(elbo.last() > elbo.first(), "the validation ELBO does not rise: {elbo:?}");

    let evaluation = succeeds(folder, "edgegen-train", "eval run --samples 20 --limit 50 --json");
    let evaluation: serde_json::Value = serde_json::from_str(&evaluation).unwrap();
    let (bound, weighted) =
        (evaluation["elbo"].as_f64().unwrap(), evaluation["log_likelihood"].as_f64().unwrap());
    assert!(weighted > bound, "20 importance samples must give more than the bound: {evaluation}");

    succeeds(folder, "edgegen-train", "export run --out model");
    assert_eq!(
        files_below(&folder.join("model")).iter().map(|path| path.display().to_string()).collect::<Vec<_>>(),
        [
            "README.md",
            "decoder.fp16.onnx",
            "decoder.fp32.onnx",
            "decoder.int8.json",
            "decoder.int8.onnx",
            "decoder.int8.png",
            "encoder.fp16.onnx",
            "encoder.fp32.onnx",
            "encoder.int8.json",
            "encoder.int8.onnx",
            "encoder.int8.png",
            "model.json",
            "samples.png",
            "walk.png",
        ]
    );
    succeeds(folder, "edgegen", "generate model --precision int8 --seed 7 --count 9 --out integers.png");
    succeeds(folder, "edgegen", "generate model --precision fp16 --seed 7 --count 9 --out halves.png");
    succeeds(folder, "edgegen", "generate model --seed 7 --count 9 --out pictures.png");
    succeeds(folder, "edgegen", "reconstruct model pictures.png --out rebuilt.png");
    succeeds(folder, "edgegen", "walk model --seed 1 --to 2 --frames 8 --out walk.gif");
    succeeds(folder, "edgegen-sim", "--model model --panel st7789 --seed 7 --out panel.png");
    succeeds(folder, "edgegen-sim", "--model model --panel ssd1306 --seed 7 --out mono.png");
    for picture in
        ["pictures.png", "integers.png", "halves.png", "rebuilt.png", "walk.gif", "panel.png", "mono.png"]
    {
        let decoded = image::open(folder.join(picture)).unwrap_or_else(|e| panic!("{picture}: {e}"));
        let values = decoded.to_luma8();
        let brightest = values.iter().max().unwrap();
        assert!(brightest > &60, "{picture} is black");
    }
}

#[test]
fn the_same_seed_gives_the_same_files() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for name in ["a", "b"] {
        succeeds(folder, "edgegen-train", &format!("train vae-mlp --out run-{name} --steps 20 --seed 5"));
        succeeds(
            folder,
            "edgegen-train",
            &format!("export run-{name} --out model-{name} --name same --precision int8"),
        );
        succeeds(folder, "edgegen", &format!("generate model-{name} --seed 3 --count 4 --out {name}.png"));
        succeeds(folder, "edgegen-sim", &format!("--model model-{name} --seed 3 --out panel-{name}.png"));
    }
    let same =
        |a: &str, b: &str| std::fs::read(folder.join(a)).unwrap() == std::fs::read(folder.join(b)).unwrap();
    assert!(same("a.png", "b.png"));
    assert!(same("model-a/decoder.fp32.onnx", "model-b/decoder.fp32.onnx"));
    assert!(same("model-a/decoder.int8.onnx", "model-b/decoder.int8.onnx"));
    assert!(same("model-a/encoder.int8.onnx", "model-b/encoder.int8.onnx"));
    assert!(same("panel-a.png", "panel-b.png"));
    assert!(folder.join("run-a/latent-grid.png").is_file());
    succeeds(folder, "edgegen", "generate model-a --seed 4 --count 4 --out c.png");
    assert!(!same("a.png", "c.png"), "another seed must give other pictures");
}

#[test]
fn a_denoiser_is_trained_and_run_like_any_model() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    succeeds(
        folder,
        "edgegen-train",
        "train vae-conv --out run --steps 30 --batch 32 --denoise 0.3 --set network.base=8",
    );
    succeeds(folder, "edgegen-train", "export run --out model --precision fp32");
    assert!(std::fs::read_to_string(folder.join("model/README.md")).unwrap().contains("denoiser"));
    succeeds(folder, "edgegen", "generate model --seed 1 --out one.png");
    succeeds(folder, "edgegen", "reconstruct model one.png --out clean.png");
}

#[test]
fn exported_files_pass_the_checker_and_onnxruntime_agrees() {
    use edgegen_runtime::generate::Latents;
    use edgegen_runtime::model::{Model, OpenOptions};
    use edgegen_runtime::pictures::write_npy;
    /// f32 sums of a few hundred products in another order.
    const TOLERANCE: f64 = 1e-4;
    const COUNT: usize = 5;

    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (preset, extra) in
        [("vae-conv", "--set network.base=8"), ("vae-mlp-50", "--batch 20"), ("vae-mlp", "")]
    {
        succeeds(folder, "edgegen-train", &format!("train {preset} --out run-{preset} --steps 25 {extra}"));
        succeeds(
            folder,
            "edgegen-train",
            &format!("export run-{preset} --out model-{preset} --precision fp32"),
        );
        let model = folder.join(format!("model-{preset}"));
        let open = |file: &str| Model::open(&model.join(file), &OpenOptions::default()).unwrap();
        let path = |name: &str| folder.join(format!("{preset}-{name}.npy"));

        let decoder = open("decoder.fp32.onnx");
        let latent = decoder.facts().latent_dim;
        let latents = Latents::from_seed(2, 0, COUNT, latent, 1.0);
        write_npy(&path("latent"), &[COUNT, latent], latents.values()).unwrap();
        let images = decoder.into_generator(COUNT).unwrap().run(latents.values(), &[]).unwrap().to_vec();
        write_npy(&path("image"), &[COUNT, 1, 28, 28], &images).unwrap();
        let posterior = open("encoder.fp32.onnx").into_encoder(COUNT).unwrap().run(&images).unwrap();
        write_npy(&path("mean"), &[COUNT, latent], &posterior.mean).unwrap();
        write_npy(&path("log_variance"), &[COUNT, latent], &posterior.log_variance).unwrap();

        let reports = [
            oracle(
                &python,
                "check_parity.py",
                &[&model.join("decoder.fp32.onnx"), &path("latent"), &path("image")],
            ),
            oracle(
                &python,
                "check_parity.py",
                &[&model.join("encoder.fp32.onnx"), &path("image"), &path("mean"), &path("log_variance")],
            ),
        ];
        for report in reports {
            let report: serde_json::Value = serde_json::from_str(&report).unwrap();
            for difference in report["differences"].as_array().unwrap() {
                assert!(difference.as_f64().unwrap() < TOLERANCE, "{preset}: {report}");
            }
            assert_eq!((report["opset"].as_i64(), report["ir_version"].as_i64()), (Some(17), Some(8)));
            assert_eq!(report["raw"], true);
            assert_eq!(report["producer"], "edgegen-train");
            assert!(report["batch"].as_array().unwrap().iter().all(|name| name == "N"), "{report}");
            let metadata = report["metadata"].as_object().unwrap();
            for key in [
                "kind",
                "part",
                "latent_dim",
                "prior",
                "range",
                "pixel_format",
                "precision",
                "dataset",
                "seed",
                "parent_sha256",
            ] {
                assert!(
                    metadata.contains_key(&format!("edgegen.{key}")),
                    "{key} is missing from {metadata:?}"
                );
            }
        }
    }
}
