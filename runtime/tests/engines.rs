//! Kernels and tract check each other: both run whole networks alone, of the shipped models in every precision that is
//! shipped, or of the model folders that EDGEGEN_ENGINES_FOLDERS names, with spaces between (`benches/engines.sh`).
#![cfg(feature = "tract")]

use std::fs;
use std::path::PathBuf;

use edgegen_runtime::generate::Latents;
use edgegen_runtime::model::{EngineChoice, ModelFolder, OpenOptions, Part, Precision};

/// float32 sums in another order, over a whole network; float16 files are widened by both but on a CPU that computes in it.
const FLOATS: f32 = 1e-3;
/// The same levels, at the end in float32: levels are at least 0.004 apart.
const INTEGERS: f32 = 1e-6;
/// But tract's QLinearConv, which multiplies by a fraction of 31 bits, rounds a level in some ten thousands otherwise than
/// onnxruntime and the kernels. It reaches the pixels around: so many may be apart, one in `ROUNDED`, and so far.
const ROUNDED: usize = 200;
const FURTHER: f32 = 0.02;
const COUNT: usize = 3;

#[test]
fn both_engines_draw_the_shipped_models_alike() {
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../models");
    let mut folders: Vec<PathBuf> = match std::env::var("EDGEGEN_ENGINES_FOLDERS") {
        Ok(named) => named.split_whitespace().map(PathBuf::from).collect(),
        Err(_) => fs::read_dir(shipped).unwrap().map(|entry| entry.unwrap().path()).collect(),
    };
    folders.sort();
    let mut compared = 0;
    println!(
        "| model | part | precision | largest difference | values further apart than 1e-6 |\n|---|---|---|---:|---:|"
    );
    for folder in folders {
        let Ok(folder) = ModelFolder::open(&folder) else { continue };
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
            let further = kernels.iter().zip(&tract).filter(|(a, b)| (*a - *b).abs() > INTEGERS).count();
            let allowed = match precision {
                Precision::Int8 if further * ROUNDED < kernels.len() => FURTHER,
                Precision::Int8 => INTEGERS,
                _ => FLOATS,
            };
            println!(
                "| {} | {part} | {precision} | {worst:.1e} | {further} of {} |",
                folder.manifest.name,
                kernels.len()
            );
            assert!(worst <= allowed, "{} {}: {worst} apart", folder.path.display(), file.file);
            compared += 1;
        }
    }
    assert!(compared > 5, "{compared}");
}
