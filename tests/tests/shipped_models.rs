//! What lies in models/: complete, unaltered, and drawing.

use std::fs;

use edgegen_tests::{command, refused, root, succeeds};
use sha2::{Digest, Sha256};

#[test]
fn every_shipped_model_is_what_its_manifest_says() {
    let mut count = 0;
    for entry in fs::read_dir(root().join("models")).unwrap() {
        let folder = entry.unwrap().path();
        if !folder.is_dir() {
            continue;
        }
        count += 1;
        let manifest: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(folder.join("model.json")).unwrap()).unwrap();
        for file in manifest["files"].as_array().unwrap() {
            let name = file["file"].as_str().unwrap();
            let bytes = fs::read(folder.join(name)).unwrap();
            let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(file["sha256"], hash, "{name}");
        }
        let card = fs::read_to_string(folder.join("README.md")).unwrap();
        assert!(card.contains(manifest["command"].as_str().unwrap()), "the card lacks the command");

        if manifest["kind"] == "classifier" || manifest["kind"] == "features" {
            continue; // it draws nothing; samples are judged by it in other tests
        }
        let out = tempfile::tempdir().unwrap();
        let model = folder.display();
        let draws = match manifest["kind"] == "transform" {
            false => format!("generate {model} --seed 7 --count 4 --out a.png"),
            true => format!(
                "transform {model} {}/samples.png --out a.png",
                root().join("models/mnist-gan").display()
            ),
        };
        succeeds(out.path(), "edgegen", &draws);
        let facts = succeeds(out.path(), "edgegen", &format!("info {model} --json"));
        assert!(serde_json::from_str::<serde_json::Value>(&facts).is_ok(), "{facts}");
        for part in manifest["parts"].as_array().unwrap() {
            let part = match part.as_str().unwrap() {
                "transform" => String::new(),
                part => format!("--part {part}"),
            };
            let call = format!("bench {model} {part} --runs 5 --json");
            let bench: serde_json::Value =
                serde_json::from_str(&succeeds(out.path(), "edgegen", &call)).unwrap();
            for key in [
                "model",
                "precision",
                "isa",
                "threads",
                "batch",
                "runs",
                "load_ms",
                "first_ms",
                "min_us",
                "p50_us",
                "p90_us",
                "p99_us",
                "mean_us",
                "peak_rss_kib",
            ] {
                assert!(
                    bench.get(key).is_some_and(|value| !value.is_null()),
                    "{key} is missing from {bench}"
                );
            }
        }
    }
    assert!(count > 0, "nothing is shipped");
}

#[test]
fn the_zoo_is_what_its_cards_say() {
    let models = root().join("models").canonicalize().unwrap();
    let here = std::env::temp_dir();
    let told = succeeds(&here, "edgegen-train", &format!("zoo verify {}", models.display()));
    assert!(told.contains("samples.png") && !told.contains("is not"), "{told}");
    let table = succeeds(&here, "edgegen-train", &format!("zoo table {}", models.display()));
    assert!(table.contains("[mnist-gan](models/mnist-gan/README.md)"), "{table}");
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.contains(&table), "README.md should hold this table:\n{table}");
    // a file that was changed is found
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("zoo/mnist-vae2");
    fs::create_dir_all(&copy).unwrap();
    for entry in fs::read_dir(models.join("mnist-vae2")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
    }
    let shown = image::open(copy.join("samples.png")).unwrap().rotate180();
    shown.save(copy.join("samples.png")).unwrap();
    let mut bytes = fs::read(copy.join("decoder.int8.onnx")).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(copy.join("decoder.int8.onnx"), bytes).unwrap();
    let mut verify = command(folder.path(), "edgegen-train", "zoo verify zoo");
    refused(&mut verify, &["2 of these are not what the cards say"]);
}
