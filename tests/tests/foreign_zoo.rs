//! Files of other makers (`tests/zoo/make.py`, `make_keras.py`): nodes run in kernels, and onnxruntime agrees.

use std::path::{Path, PathBuf};

use edgegen_runtime::model::{Model, NodeFact, OpenOptions, Range};
use edgegen_runtime::pictures::write_npy;
use edgegen_runtime::random::{Purpose, Stream};
use edgegen_tests::{oracle, python};
use serde_json::Value;

const COUNT: usize = 4;

fn zoo() -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("zoo");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|e| e == "onnx")).collect();
    files.sort();
    assert_eq!(files.len(), 103);
    files
}

/// Network, exporter, and form: `dcgan28`, `old`, `qdq-s8`; floats have none.
fn parts(path: &Path) -> (String, String, Option<String>) {
    let name = path.file_stem().unwrap().to_str().unwrap();
    let mut parts = name.split('.').map(str::to_string);
    (parts.next().unwrap(), parts.next().unwrap(), parts.next())
}

/// Sizes and values.
type Array = (Vec<usize>, Vec<f32>);

/// Input rows, and what the kernels make of them.
fn run(path: &Path) -> (Array, Vec<Array>) {
    let options = OpenOptions { range: Some(Range::Signed), ..OpenOptions::default() };
    let model = Model::open(path, &options).unwrap();
    let facts = model.facts().clone();
    assert_eq!(facts.tract, None, "{}", path.display());
    let tract = facts.nodes.iter().filter(|node| node.runner.starts_with("tract"));
    let tract: Vec<&NodeFact> = tract.collect();
    assert!(tract.is_empty(), "{}: {tract:?}", path.display());
    let row = |row: &[usize]| [&[COUNT], row].concat();
    let mut stream = Stream::new(3, Purpose::EVALUATION, 0);
    let mut noise = |count: usize| -> Vec<f32> { (0..count).map(|_| stream.normal()).collect() };
    if facts.part.draws() {
        let input = noise(COUNT * facts.latent_dim);
        let mut generator = model.into_generator(COUNT).unwrap();
        let made = row(generator.raster().row());
        let values = generator.run(&input, &[]).unwrap().to_vec();
        let four = facts.inputs[0].shape.matches(',').count() == 3;
        let shape = if four { vec![COUNT, facts.latent_dim, 1, 1] } else { vec![COUNT, facts.latent_dim] };
        return ((shape, input), vec![(made, values)]);
    }
    if let Some(source) = facts.source {
        let image = row(&[source.channels, source.height, source.width]);
        let input = noise(image.iter().product());
        let mut network = model.into_transformer(COUNT).unwrap();
        let made = row(network.raster().row());
        return ((image, input.clone()), vec![(made, network.run(&input).unwrap().to_vec())]);
    }
    let image = row(&[facts.image.channels, facts.image.height, facts.image.width]);
    let input = noise(image.iter().product());
    let posterior = model.into_encoder(COUNT).unwrap().run(&input).unwrap();
    let latent = vec![COUNT, facts.latent_dim];
    ((image, input), vec![(latent.clone(), posterior.mean), (latent, posterior.log_variance)])
}

/// Floats agree to rounding, and integers exactly, but where float32 values are rounded to levels again: those half-way
/// between two may fall to either side. `mixed32` enlarges linearly: one in 16 of its means of levels is half-way.
fn least(name: &str, form: &Option<String>) -> f64 {
    match (form.as_deref(), name) {
        (None, _) => 100.0,
        // onnxruntime rounds sums to float16
        (Some("f16" | "f16-io"), _) => 45.0,
        (Some(_), "mixed32") => 35.0,
        _ => 50.0,
    }
}

#[test]
fn kernels_run_the_nodes_and_onnxruntime_agrees() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    for path in zoo() {
        let (name, _, form) = parts(&path);
        let ((shape, input), outputs) = run(&path);
        let array = |name: &str| folder.path().join(format!("{name}.npy"));
        write_npy(&array("input"), &shape, &input).unwrap();
        let mut arguments = vec![path.clone(), array("input")];
        if name == "mixed32" {
            arguments.insert(0, "--as-written".into());
        }
        for (index, (shape, values)) in outputs.iter().enumerate() {
            write_npy(&array(&index.to_string()), shape, values).unwrap();
            arguments.push(array(&index.to_string()));
        }
        let arguments: Vec<&Path> = arguments.iter().map(PathBuf::as_path).collect();
        let report = oracle(&python, "check_parity.py", &arguments);
        let report: Value = serde_json::from_str(&report).unwrap();
        eprintln!("{:40} {} {}", path.file_stem().unwrap().display(), report["differences"], report["sqnr"]);
        for ratio in report["sqnr"].as_array().unwrap() {
            assert!(ratio.as_f64().unwrap() > least(&name, &form), "{name} {form:?}: {report}");
        }
    }
}
