//! The option `--engine`.

use edgegen_tests::{command, refused, root, succeeds};

/// A file with another function in the place of its Erf.
fn without_a_kernel(bytes: &[u8]) -> Vec<u8> {
    let at = bytes.windows(5).position(|window| window == b"\x22\x03Erf").unwrap();
    [&bytes[..at], b"\x22\x03Tan", &bytes[at + 5..]].concat()
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
    let bytes = without_a_kernel(&std::fs::read(root().join("tests/zoo/mixed32.old.onnx")).unwrap());
    std::fs::write(folder.join("tan.onnx"), bytes).unwrap();
    refused(
        &mut command(folder, "edgegen", "info tan.onnx --engine kernels"),
        &["operator Tan has no kernel"],
    );
    assert!(succeeds(folder, "edgegen", "info tan.onnx").contains("tract: operator Tan has no kernel here"));
}
