//! Picture → picture: trained, exported in every precision, run on pictures of any size.

use std::fs;
use std::path::Path;

use edgegen_runtime::pictures::{read_npy, write_npy};
use edgegen_tests::{command, oracle, python, refused, succeeds};
use serde_json::Value;

#[path = "../../trainer/tests/photos/mod.rs"]
mod photos;
use photos::photo;

const QUICK: &str = "--size 48 --steps 40 --batch 8 --set network.base=4 --set objective.patch=24";

fn pictures(folder: &Path) {
    fs::create_dir_all(folder.join("data")).unwrap();
    for index in 0..12 {
        photo(index, 60, 52).save(folder.join(format!("data/IMG_{index}.png"))).unwrap();
    }
}

fn info(folder: &Path, model: &str) -> Value {
    serde_json::from_str(&succeeds(folder, "edgegen", &format!("info {model} --json"))).unwrap()
}

#[test]
fn a_restorer_takes_pictures_of_any_size_by_tiles_without_a_seam() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    pictures(folder);
    let train = |arguments: &str| succeeds(folder, "edgegen-train", arguments);
    for (name, preset, more) in [
        ("restored", "restore", "--set network.hidden=[1,1]"),
        ("large", "enlarge-x2", ""),
        ("colour", "restore", "--set data.gray=false --set network.hidden=[1] --set objective.jpeg=[30,60]"),
    ] {
        train(&format!("train {preset} --data data --out run-{name} {QUICK} {more}"));
        assert!(folder.join(format!("run-{name}/restored/step-0000040.png")).is_file());
        assert!(train(&format!("eval run-{name}")).contains("PSNR"));
        train(&format!("export run-{name} --out {name} --precision fp32,fp16,int8 --least-quality 20"));
        assert!(folder.join(name).join("restored.png").is_file());
        let card = fs::read_to_string(folder.join(name).join("README.md")).unwrap();
        assert!(card.contains("restored pictures: PSNR") && card.contains("edgegen transform"), "{card}");
    }
    // grey and in colours, larger than a tile in both directions, and a little odd
    photo(50, 150, 101).save(folder.join("photo.png")).unwrap();
    image::open(folder.join("photo.png")).unwrap().to_luma8().save(folder.join("grey.png")).unwrap();
    for (model, scale) in [("restored", 1), ("large", 2), ("colour", 1)] {
        for precision in ["fp32", "fp16", "int8"] {
            for picture in ["photo", "grey"] {
                let made = |tile: usize| {
                    let name = format!("{model}-{precision}-{picture}-{tile}.png");
                    let call = format!(
                        "transform {model} {picture}.png --precision {precision} --tile {tile} --out {name}"
                    );
                    succeeds(folder, "edgegen", &call);
                    fs::read(folder.join(name)).unwrap()
                };
                let whole = made(512);
                assert_eq!(whole, made(1), "{model} {precision} {picture}");
                assert_eq!(whole, made(80), "{model} {precision} {picture}");
                let picture = image::load_from_memory(&whole).unwrap();
                assert_eq!((picture.width(), picture.height()), (150 * scale, 101 * scale));
            }
        }
        let facts = info(folder, model);
        assert_eq!((facts["any_size"].as_bool(), facts["scale"].as_u64()), (Some(true), Some(scale.into())));
        let channels = if model == "colour" { 3 } else { 1 };
        let quality =
            succeeds(folder, "edgegen", &format!("bench {model} --runs 3 --shape N,{channels},32,48"));
        assert!(quality.contains("fp32"), "{quality}");
    }
    // a grey network leaves colours as they are, and a grey picture grey
    let colours = |name: &str| image::open(folder.join(name)).unwrap().color().has_color();
    assert!(colours("restored-int8-photo-512.png") && !colours("restored-int8-grey-512.png"));

    // by the literature's protocol: noise of 25 levels is 20.2 dB, and a network that adds nothing leaves it
    let told = succeeds(folder, "edgegen-train", "yardstick restored data --noise 25,50 --json");
    let lines: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 6);
    for line in &lines {
        let given = line["found"]["given"]["psnr"]["mean"].as_f64().unwrap();
        let noise = line["noise"].as_f64().unwrap();
        assert!((given - 20.0 * (255.0 / noise).log10()).abs() < 0.1, "{line}");
        assert!(line["found"]["made"]["psnr"]["mean"].as_f64().unwrap() > given, "{line}");
    }
    let told = succeeds(folder, "edgegen-train", "yardstick large data --precision fp32");
    assert!(told.contains("x2") && told.contains("bicubic"), "{told}");

    // folders, animations, values
    let run = |arguments: &str| succeeds(folder, "edgegen", arguments);
    run("transform restored data --out made");
    assert_eq!(fs::read_dir(folder.join("made")).unwrap().count(), 12);
    run("transform large data --out made.gif");
    run("transform restored photo.png photo.png --out grid.png");
    run("transform large grey.png --out values.npy");
    assert_eq!(read_npy(&folder.join("values.npy")).unwrap().0, [1, 1, 202, 300]);
    for (call, expected) in [
        ("transform restored photo.png photo.png --out twice", vec!["photo.png", "both"]),
        ("transform restored photo.png grey.png --out values.npy", vec![]),
        ("transform restored missing.png --out x.png", vec!["missing.png"]),
        ("transform restored run-restored/checkpoints --out x.png", vec!["holds no pictures"]),
        ("transform restored data --out data", vec!["would replace"]),
        ("transform restored photo.png --tile 0 --out x.png", vec!["--tile 0"]),
        ("transform restored data/IMG_1.png photo.png --out x.png", vec!["--out FOLDER"]),
        ("transform restored data/IMG_1.png photo.png --out x.npy", vec!["photo.png", "one size"]),
        ("generate restored --out x.png", vec!["edgegen transform"]),
        ("transform restored/README.md photo.png --out x.png", vec!["README.md"]),
    ] {
        if expected.is_empty() {
            run(call);
        } else {
            refused(&mut command(folder, "edgegen", call), &expected);
        }
        assert!(!folder.join("x.png").exists() && !folder.join("x.npy").exists(), "{call}");
    }
    for (call, expected) in [
        ("train restore --data data --out x --size 32", vec!["objective.patch is 64", "--size"]),
        ("train restore --data data --out x --size 48 --set objective.patch=30", vec!["multiples of 4"]),
        ("train restore --data data --out x --set objective.noise=[9,1]", vec!["objective.noise"]),
        ("train restore --data data --out x --conditional --size 64", vec!["--conditional"]),
        ("train restore --data data --out x --denoise 0.1", vec!["for VAEs"]),
        ("sample run-restored", vec!["draws"]),
        ("yardstick restored missing --noise 25", vec!["missing"]),
        ("yardstick restored data --noise 999", vec!["noise"]),
        ("yardstick restored data --shrink much", vec!["bicubic or area"]),
        ("yardstick restored/transform.fp32.onnx data --precision int8", vec!["--precision"]),
    ] {
        refused(&mut command(folder, "edgegen-train", call), &expected);
        assert!(!folder.join("x").exists(), "{call}");
    }
}

/// Another run of the same, cut and resumed, and the file in onnxruntime with another size than it was calibrated on.
#[test]
fn a_restorer_resumes_and_others_run_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    pictures(folder);
    let train = |arguments: &str| succeeds(folder, "edgegen-train", arguments);
    train(&format!("train enlarge-x3 --data data --out whole {QUICK}"));
    train(&format!("train enlarge-x3 --data data --out cut {}", QUICK.replace("--steps 40", "--steps 17")));
    train("train --resume --out cut --steps 40");
    train("export whole --out model");
    train(&format!("train enlarge-x3 --data data --out again {} --init-from model", QUICK));
    let Some(python) = python() else { return };
    let grey = image::DynamicImage::from(photo(50, 40, 28)).to_luma8();
    grey.save(folder.join("grey.png")).unwrap();
    let values: Vec<f32> = grey.iter().map(|level| f32::from(*level) / 255.0).collect();
    write_npy(&folder.join("given.npy"), &[1, 1, 28, 40], &values).unwrap();
    for precision in ["fp32", "fp16", "int8"] {
        let call = format!("transform model grey.png --precision {precision} --out {precision}.npy");
        succeeds(folder, "edgegen", &call);
        let file = folder.join(format!("model/transform.{precision}.onnx"));
        let (given, ours) = (folder.join("given.npy"), folder.join(format!("{precision}.npy")));
        oracle(&python, "transform.py", &[&file, &given, &ours]);
    }
}
