//! The option `--engine`.

use edgegen_tests::{command, refused, root, succeeds};

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
