//! Networks that look at pictures: which files are taken, what comes out of them, what is refused.

#[path = "../../runtime/tests/common/mod.rs"]
mod common;

use common::{Builder, ints};
use edgegen_runtime::model::ImageShape;
use edgegen_trainer::Result;
use edgegen_trainer::evaluate::network::{FeatureNetwork, OutputChoice};
use edgegen_trainer::graph::features::INPUT_KEY;
use tract_onnx::pb::StringStringEntryProto;
use tract_onnx::pb::tensor_proto::DataType;

/// float32 rounding of sums of 48 products of about 1, in another order.
const TOLERANCE: f32 = 1e-5;
const FEATURES: OutputChoice<'static> = OutputChoice::Prefer(&["features"]);

/// (N, 3, 4, 4) → `pooled` (N, 3, 1, 1), the channels' means, and `features` (N, 5), a matrix product.
fn network() -> Builder {
    Builder::new()
        .input("image", &[-1, 3, 4, 4], DataType::Float)
        .node("GlobalAveragePool", &["image"], &["pooled"], vec![])
        .node("Flatten", &["image"], &["flat"], vec![])
        .random("weights", &[48, 5], 1.0) // (in, out)
        .node("MatMul", &["flat", "weights"], &["features"], vec![])
        .output("pooled", &[-1, 3, 1, 1])
        .output("features", &[-1, 5])
}

fn open(model: &Builder, output: OutputChoice<'_>) -> Result<FeatureNetwork> {
    FeatureNetwork::from_bytes(&model.bytes(), "test.onnx", output)
}

#[track_caller]
fn refused(model: &Builder, output: OutputChoice<'_>, expected: &str) {
    let Err(error) = open(model, output) else { panic!("accepted, though {expected:?} was expected") };
    let line = error.to_string();
    assert!(line.contains(expected) && line.contains("test.onnx") && !line.contains('\n'), "{line}");
}

#[test]
fn the_output_is_chosen_by_name() {
    let model = network();
    let found = open(&model, FEATURES).unwrap();
    assert_eq!((found.output(), found.dimension()), ("features", 5));
    assert_eq!(found.image_shape(), ImageShape { channels: 3, height: 4, width: 4 });
    assert!(found.batch() > 1 && found.input_scaling().is_none());
    let first = open(&model, OutputChoice::Prefer(&["probabilities", "logits"])).unwrap();
    assert_eq!((first.output(), first.dimension()), ("pooled", 3));
    let named = open(&model, OutputChoice::Named("pooled")).unwrap();
    assert_eq!(named.output(), "pooled");
    refused(&model, OutputChoice::Named("nothing"), "features");
}

#[test]
fn rows_do_not_depend_on_the_number_of_pictures() {
    let model = network();
    let network = open(&model, FEATURES).unwrap();
    let count = 2 * network.batch() + 3;
    let pictures: Vec<f32> = (0..count * 48).map(|i| ((i * 37 % 101) as f32) / 50.0 - 1.0).collect();
    let mut rows = vec![0.0; count * 5];
    network.runner().unwrap().run(&pictures, &mut rows).unwrap();
    let mut runner = network.runner().unwrap();
    for (picture, row) in pictures.chunks(48).zip(rows.chunks(5)) {
        let mut alone = vec![0.0; 5];
        runner.run(picture, &mut alone).unwrap();
        assert_eq!(alone, row, "a padded batch gives the same bits");
    }
    let pooled = open(&model, OutputChoice::Named("pooled")).unwrap();
    let mut means = vec![0.0; count * 3];
    pooled.runner().unwrap().run(&pictures, &mut means).unwrap();
    for (plane, mean) in pictures.chunks(16).zip(&means) {
        assert!((plane.iter().sum::<f32>() / 16.0 - mean).abs() < TOLERANCE);
    }
    assert!(runner.run(&pictures[1..], &mut rows).is_err());
    assert!(runner.run(&pictures, &mut rows[1..]).is_err());
    assert!(runner.run(&[], &mut []).is_err());
    let line = runner.run(&[f32::INFINITY; 48], &mut [0.0; 5]).unwrap_err().to_string();
    assert!(line.contains("test.onnx") && line.contains("scaled"), "{line}");
}

#[test]
fn files_that_fix_their_batch_are_run_in_it() {
    let fixed = Builder::new()
        .input("image", &[2, 1, 4, 4], DataType::Float)
        .node("Flatten", &["image"], &["features"], vec![])
        .output("features", &[2, 16]);
    assert_eq!(open(&fixed, FEATURES).unwrap().batch(), 2);
    // an exporter's Reshape to one row alone
    let one = Builder::new()
        .input("image", &[-1, 1, 4, 4], DataType::Float)
        .shape("row", &[1, 16])
        .node("Reshape", &["image", "row"], &["features"], vec![])
        .output("features", &[-1, 16]);
    let network = open(&one, FEATURES).unwrap();
    let pictures: Vec<f32> = (0..48).map(|i| i as f32).collect();
    let mut rows = vec![0.0; 48];
    network.runner().unwrap().run(&pictures, &mut rows).unwrap();
    assert_eq!(rows, pictures);
}

#[test]
fn the_scaling_of_the_input_is_handed_on() {
    let mut model = network();
    let entry = StringStringEntryProto { key: INPUT_KEY.into(), value: "mean=127,scale=128".into() };
    model.proto.metadata_props.push(entry);
    assert_eq!(open(&model, FEATURES).unwrap().input_scaling(), Some("mean=127,scale=128"));
}

#[test]
fn what_does_not_look_at_pictures_is_refused() {
    let with_input = |shape: &[i64], dtype| {
        Builder::new()
            .input("image", shape, dtype)
            .node("Flatten", &["image"], &["features"], vec![])
            .output("features", &[-1, 16])
    };
    refused(&with_input(&[-1, 16], DataType::Float), FEATURES, "(N, 1 or 3, height, width)");
    refused(&with_input(&[-1, 4, 4, 1], DataType::Float), FEATURES, "(N, 1 or 3, height, width)");
    refused(&with_input(&[-1, 3, -1, -1], DataType::Float), FEATURES, "are to be fixed");
    refused(&with_input(&[0, 1, 4, 4], DataType::Float), FEATURES, "none is 0");
    refused(&with_input(&[-1, 1, 4, 4], DataType::Int32), FEATURES, "floats");
    let picture = Builder::new()
        .input("image", &[-1, 1, 4, 4], DataType::Float)
        .node("Relu", &["image"], &["features"], vec![])
        .output("features", &[-1, 1, 4, 4]);
    refused(&picture, FEATURES, "(N, D)");
    let whole = Builder::new()
        .input("image", &[-1, 1, 4, 4], DataType::Float)
        .node("ReduceMean", &["image"], &["features"], vec![ints("axes", &[0, 2, 3])])
        .output("features", &[1, 1, 1, 1])
        .opset(13);
    // one row for all pictures of a batch: only a batch of 1 makes sense of it
    assert_eq!(open(&whole, FEATURES).unwrap().batch(), 1);
    for bytes in [vec![], b"no model".to_vec()] {
        assert!(FeatureNetwork::from_bytes(&bytes, "test.onnx", FEATURES).is_err());
    }
}
