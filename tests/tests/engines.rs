//! Kernels and tract check each other: both run the shipped models, alone, in every precision that is shipped.

use std::fs;

use edgegen_runtime::generate::Latents;
use edgegen_runtime::model::{EngineChoice, ModelFolder, OpenOptions, Part, Precision};
use edgegen_tests::{command, refused, root, succeeds};

/// float32 sums in another order, over a whole network; float16 files are widened by both but on a CPU that computes in it.
const FLOATS: f32 = 1e-3;
/// The same levels, at the end in float32: levels are at least 0.004 apart.
const INTEGERS: f32 = 1e-6;
const COUNT: usize = 3;

#[test]
fn both_engines_draw_the_shipped_models_alike() {
    let mut compared = 0;
    for entry in fs::read_dir(root().join("models")).unwrap() {
        let folder = ModelFolder::open(&entry.unwrap().path());
        let Ok(folder) = folder else { continue };
        for file in &folder.manifest.files {
            let (part, precision) = (file.part, file.precision);
            if !matches!(part, Part::Generator | Part::Decoder | Part::Encoder) {
                continue;
            }
            let values = |engine: EngineChoice| {
                let options = OpenOptions { engine, ..OpenOptions::default() };
                let model = folder.open_part(part, Some(precision), &options).unwrap();
                assert_eq!(model.facts().tract.is_some(), engine == EngineChoice::Tract, "{}", file.file);
                if part.draws() {
                    let mut network = model.into_generator(1).unwrap();
                    let latents = Latents::from_seed(7, 0, COUNT, network.latent_dim(), 1.0);
                    let class = if network.is_conditional() { vec![1; COUNT] } else { vec![] };
                    network.run(latents.values(), &class).unwrap().to_vec()
                } else {
                    let mut network = model.into_encoder(1).unwrap();
                    let pixels = network.image_shape().values() * COUNT;
                    let picture: Vec<f32> = (0..pixels).map(|index| (index % 256) as f32 / 255.0).collect();
                    network.run(&picture).unwrap().mean
                }
            };
            let (kernels, tract) = (values(EngineChoice::Kernels), values(EngineChoice::Tract));
            let worst = kernels.iter().zip(&tract).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
            let allowed = if precision == Precision::Int8 { INTEGERS } else { FLOATS };
            println!("{} {part} {precision}: {worst} apart", folder.path.display());
            assert!(worst <= allowed, "{} {}: {worst} apart", folder.path.display(), file.file);
            compared += 1;
        }
    }
    assert!(compared > 5, "{compared}");
}

#[test]
fn an_engine_can_be_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let model = root().join("models/mnist-vae2").canonicalize().unwrap();
    let model = model.display();
    let info = |engine: &str| -> serde_json::Value {
        let told = succeeds(folder, "edgegen", &format!("info {model} --engine {engine} --json"));
        serde_json::from_str(&told).unwrap()
    };
    assert!(info("kernels")["tract"].is_null() && info("auto")["tract"].is_null());
    assert_eq!(info("tract")["tract"], "it was asked for");
    for call in [
        format!("generate {model} --engine tract --seed 7 --count 4 --out a.png"),
        format!("bench {model} --engine tract --runs 3 --json"),
        format!("compare {model} {model} --engine kernels,tract --count 4 --json"),
    ] {
        succeeds(folder, "edgegen", &call);
    }
    refused(
        &mut command(folder, "edgegen", &format!("profile {model} --engine tract")),
        &["tract runs this network"],
    );
    let three = format!("compare {model} {model} --engine kernels,tract,auto");
    refused(&mut command(folder, "edgegen", &three), &["one for each"]);
    // what kernels do not know
    let mixed = root().join("tests/zoo/mixed32.old.onnx").canonicalize().unwrap();
    let call = format!("info {} --engine kernels", mixed.display());
    refused(&mut command(folder, "edgegen", &call), &["has no kernel here"]);
}
