//! A user's own pictures: `auto` from a folder to a model, and fine-tuning from a shipped model.

use std::fs;
use std::path::Path;

use edgegen_tests::{command, files_below, refused, succeeds};
use serde_json::Value;

/// Discs of random colour, size and place, as a phone would name them.
fn photos(folder: &Path, count: usize, side: u32) {
    fs::create_dir_all(folder).unwrap();
    let mut state = 3u32;
    let mut next = |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % below
    };
    for index in 0..count {
        let (x, y, radius) = (next(side), next(side), 4 + next(side / 3));
        let color = [0; 3].map(|_: u8| next(256) as u8);
        let picture = image::RgbImage::from_fn(side, side, |px, py| {
            let inside = px.abs_diff(x).pow(2) + py.abs_diff(y).pow(2) < radius.pow(2);
            image::Rgb(if inside { color } else { [255; 3] })
        });
        picture.save(folder.join(format!("IMG_{index:04}.JPG"))).unwrap();
    }
}

fn metrics(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn auto_goes_from_a_folder_to_a_model_on_a_panel() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    photos(&folder.join("many"), 210, 72);
    photos(&folder.join("few"), 14, 40);
    for (data, preset, size, settings) in [
        ("many", "gan-64", "64x64", "--set network.base=4"),
        ("few", "vae-conv", "32x32", "--set network.base=4"),
    ] {
        let auto = format!("auto --data {data} --out model-{data} {settings} --steps 30");
        let plan = succeeds(folder, "edgegen-train", &format!("{auto} --plan"));
        for text in [preset, size, "RGB", "mirror"] {
            assert!(plan.contains(text), "{text} is missing from {plan}");
        }
        assert!(!folder.join(format!("model-{data}-run")).exists(), "--plan does nothing");
        let told = succeeds(folder, "edgegen-train", &auto);
        assert!(told.contains(&format!("edgegen-sim --model model-{data} --seed 7")), "{told}");
        succeeds(folder, "edgegen-sim", &format!("--model model-{data} --seed 7 --out panel-{data}.png"));
        let run = folder.join(format!("model-{data}-run"));
        let progress = image::open(run.join("progress.png")).unwrap();
        let side = size[..2].parse::<u32>().unwrap();
        assert_eq!(progress.width(), 8 * (side + 2) - 2, "a row of eight a report");
        let config = fs::read_to_string(run.join("config.toml")).unwrap();
        assert!(config.contains(&format!("preset = \"{preset}\"")) && config.contains("# "), "{config}");
        let files = files_below(&folder.join(format!("model-{data}")));
        for precision in ["fp32", "fp16", "int8"] {
            let written = files.iter().any(|file| file.display().to_string().contains(precision));
            assert!(written, "{precision} is missing from {files:?}");
        }
        refused(&mut command(folder, "edgegen-train", &auto), &["exists", "--force"]);
        // a run that is there goes on, and a finished one is only exported
        succeeds(folder, "edgegen-train", &format!("{auto} --force"));
        assert_eq!(metrics(&run).last().unwrap()["step"], 30);
    }
}

#[test]
fn own_generators_are_fine_tuned() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    photos(&folder.join("data"), 24, 64);
    let told = |arguments: &str| {
        let output = command(folder, "edgegen-train", arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments}: {text}");
        text
    };
    // a run, the model folder that is made of it, and its ONNX file alone, in which norms are folded
    let train = "train gan-64-slim --data data --batch 8";
    told(&format!("{train} --steps 4 --out own"));
    for (run, model) in [("own", "model"), ("own", "bare")] {
        succeeds(folder, "edgegen-train", &format!("export {run} --out {model} --precision fp32"));
    }
    fs::remove_file(folder.join("bare/weights.safetensors")).unwrap();
    for (from, name) in [("own", "from-run"), ("model", "from-model"), ("bare", "from-onnx")] {
        let text = told(&format!("{train} --steps 2 --init-from {from} --out {name}"));
        assert!(text.contains("first weights") && !text.contains("not taken over"), "{text}");
        // other pictures get other codes, so samples are others; they are pictures all the same
        succeeds(folder, "edgegen-train", &format!("sample {name} --seed 3 --count 16 --out {name}.png"));
    }

    // with a discriminator
    let small = "--set network.base=8 --set objective.discriminator_base=8";
    let game = format!("train dcgan-64 --data data --batch 8 {small}");
    told(&format!("{game} --steps 4 --out game"));
    for model in ["game-model", "game-bare"] {
        succeeds(folder, "edgegen-train", &format!("export game --out {model} --precision fp32"));
    }
    fs::remove_file(folder.join("game-bare/weights.safetensors")).unwrap();
    let text = told(&format!("{game} --steps 2 --init-from game-bare --out delayed"));
    // all of the generator, with its folded norms, and nothing of a discriminator that is not in the folder
    assert!(text.contains("not taken over: the discriminator"), "{text}");
    assert!(!text.contains("not taken over: generator"), "{text}");
    let config = fs::read_to_string(folder.join("delayed/config.toml")).unwrap();
    assert!(config.contains("generator_delay = 200"), "a new discriminator learns alone first: {config}");
    // before the first step of the generator it draws what the model draws, nearly
    succeeds(folder, "edgegen-train", "sample delayed --seed 3 --count 16 --out tuned.png");
    succeeds(folder, "edgegen", "generate game-bare --seed 3 --count 16 --out before.png");
    let pixels = |file: &str| image::open(folder.join(file)).unwrap().to_rgb8().into_raw();
    let (tuned, before) = (pixels("tuned.png"), pixels("before.png"));
    let differences = tuned.iter().zip(&before).map(|(a, b)| f64::from(a.abs_diff(*b)));
    let mean = differences.sum::<f64>() / tuned.len() as f64;
    assert!(mean < 12.0, "{mean} levels apart");
    for (from, name) in [("game", "game-from-run"), ("game-model", "game-from-model")] {
        let freeze = "--set objective.discriminator_frozen=2";
        let text = told(&format!("{game} --steps 2 --init-from {from} {freeze} --out {name}"));
        assert!(!text.contains("not taken over"), "{text}");
    }
    // other classes, and pictures of another size
    photos(&folder.join("classes/a"), 12, 32);
    photos(&folder.join("classes/b"), 12, 32);
    let other =
        "train gan-64-slim --data classes --conditional --size 32 --batch 8 --steps 2 --init-from own";
    let text = told(&format!("{other} --out other"));
    assert!(text.contains("not taken over: generator.0.weight"), "{text}");
    for (arguments, expected) in [
        (format!("{train} --steps 2 --init-from nowhere --out x"), "nowhere"),
        (format!("{train} --steps 2 --init-from data --out x"), "neither a model folder nor a run"),
        (format!("{train} --steps 2 --set objective.discriminator_frozen=1 --out x"), "--init-from"),
    ] {
        refused(&mut command(folder, "edgegen-train", &arguments), &[expected]);
        assert!(!folder.join("x").exists());
    }
}
