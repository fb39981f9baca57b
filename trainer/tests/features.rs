//! Networks in ONNX as features that gradients flow through.

use std::path::Path;

use edgegen_runtime::model::{Metadata, Precision};
use edgegen_trainer::compute::{Backend, Lanes, Network, Statistics};
use edgegen_trainer::evaluate::network::{FeatureNetwork, OutputChoice};
use edgegen_trainer::graph::chain::Builder;
use edgegen_trainer::graph::onnx;
use edgegen_trainer::graph::{Activation, Graph, Heads, Op, Shape, features};
use edgegen_trainer::random::{Purpose, Stream};
use prost::Message;
use reference::values;
use tract_onnx::pb::{AttributeProto, ModelProto, NodeProto};

mod reference;

/// Largest difference of a feature from the runtime's, of values up to about 2.
const FEATURES: f32 = 1e-4;

fn noise(count: usize, index: u64) -> Vec<f32> {
    let mut stream = Stream::new(5, Purpose::Evaluation, index);
    (0..count).map(|_| stream.uniform()).collect()
}

/// A small network with everything that such networks have: strides, residuals, depthwise convolutions.
fn network() -> (Graph, Vec<u8>) {
    let relu6 = || Op::Activation(Activation::Relu6);
    let mut builder = Builder::new("network", Shape::Image(3, 32, 32));
    let input = builder.input();
    let x = builder.chain(input, [Op::conv(3, 6, 3, 2, 1), Op::batch_norm(6), relu6()]).unwrap();
    let x = builder.chain(x, [Op::depthwise(6, 3, 2), Op::batch_norm(6), relu6()]).unwrap();
    let x = builder.residual(x, [Op::conv(6, 6, 1, 1, 0), Op::batch_norm(6), relu6()]).unwrap();
    let x = builder.chain(x, [Op::depthwise(6, 5, 2), Op::conv(6, 8, 1, 1, 0), relu6()]).unwrap();
    let x = builder.chain(x, [Op::GlobalAverage, Op::Reshape(Shape::Vector(8))]).unwrap();
    let mut graph = builder.finish(&[x]).initialise(4, 0);
    for (index, parameter) in graph.parameters_mut().enumerate() {
        if parameter.shape.len() == 1 {
            parameter.value = noise(parameter.value.len(), 100 + index as u64);
        }
    }
    let heads = Heads { outputs: vec![("features", Shape::Vector(8))], tap: None };
    let exported = graph.exported("network", "image", &heads, Metadata::default()).unwrap();
    let bytes = onnx::model(&exported, Precision::Fp32).unwrap();
    (graph, bytes)
}

#[test]
fn taps_are_found_by_stride_and_values_are_the_networks_own() {
    let (graph, bytes) = network();
    let found = features::read(&bytes, "network.onnx", (32, 32)).unwrap();
    assert_eq!(found.taps.keys().copied().collect::<Vec<_>>(), [2, 4, 8]);
    let names: Vec<&str> = found.taps.values().map(|tap| found.graph.values[*tap].name.as_str()).collect();
    assert_eq!(names, ["stride2", "stride4", "stride8"]);
    let no_norms = found.graph.nodes.iter().all(|node| !matches!(node.op, Op::Norm { .. }));
    assert!(no_norms, "batch norms are folded");
    let pictures = noise(2 * 3072, 1);
    let own = Network::new(&Lanes, &graph).unwrap().infer(&pictures, None).unwrap();
    let read = Network::new(&Lanes, &found.graph).unwrap();
    let features = read.infer_value(&pictures, None, found.outputs[0]).unwrap();
    let worst = own.iter().zip(&features).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
    assert!(worst < 1e-5, "{worst}");
    // pictures of another size
    let small = features::read(&bytes, "network.onnx", (19, 40)).unwrap();
    let tap = small.at(&[4]).unwrap()[0];
    assert_eq!(small.graph.values[tap].shape, Shape::Image(6, 5, 10));
}

#[test]
fn an_operator_without_a_gradient_is_named() {
    let (_, bytes) = network();
    let mut proto = ModelProto::decode(bytes.as_slice()).unwrap();
    let nodes = &mut proto.graph.as_mut().unwrap().node;
    // after the second convolution
    let place = nodes.iter().position(|node| node.op_type == "Add").unwrap();
    let output = std::mem::replace(&mut nodes[place].output[0], "sum".into());
    nodes.insert(
        place + 1,
        NodeProto {
            name: "odd".into(),
            op_type: "Elu".into(),
            input: vec!["sum".into()],
            output: vec![output],
            ..NodeProto::default()
        },
    );
    let found = features::read(&proto.encode_to_vec(), "odd.onnx", (32, 32)).unwrap();
    assert!(found.at(&[2]).is_ok());
    let line = found.at(&[2, 4]).unwrap_err().to_string();
    for text in ["odd.onnx", "stride 4", "\"odd\" (Elu) has no gradient"] {
        assert!(line.contains(text), "{line}");
    }
    // an operator of one runtime, which only looks like ONNX's
    let (_, bytes) = network();
    let mut proto = ModelProto::decode(bytes.as_slice()).unwrap();
    proto.graph.as_mut().unwrap().node[0].domain = "com.microsoft.nchwc".into();
    let line = features::read(&proto.encode_to_vec(), "nchwc.onnx", (32, 32)).unwrap_err().to_string();
    assert!(line.contains("nchwc.onnx") && line.contains("com.microsoft.nchwc"), "{line}");
    // values that no memory holds
    let (_, bytes) = network();
    let mut proto = ModelProto::decode(bytes.as_slice()).unwrap();
    let graph = proto.graph.as_mut().unwrap();
    let mut last = graph.node[0].output[0].clone();
    for index in 0..40 {
        let axis = AttributeProto { name: "axis".into(), i: 1, r#type: 2, ..AttributeProto::default() };
        let output = format!("twice{index}");
        graph.node.insert(
            1 + index,
            NodeProto {
                name: output.clone(),
                op_type: "Concat".into(),
                input: vec![last.clone(), last],
                output: vec![output.clone()],
                attribute: vec![axis],
                ..NodeProto::default()
            },
        );
        last = output;
    }
    let found = features::read(&proto.encode_to_vec(), "huge.onnx", (32, 32)).unwrap();
    let line = found.at(&[2]).unwrap_err().to_string();
    assert!(line.contains("Concat") && line.contains("more than the"), "{line}");
    for (bytes, text) in [(b"nonsense".to_vec(), "not an ONNX model"), (vec![], "no graph")] {
        let line = features::read(&bytes, "x.onnx", (32, 32)).unwrap_err().to_string();
        assert!(line.starts_with("x.onnx: ") && line.contains(text), "{line}");
    }
}

/// The network of the repository's evaluations, where it is at hand.
fn efficientnet() -> Option<Vec<u8>> {
    let folder = std::env::var("EDGEGEN_EVAL").unwrap_or_default();
    let file = std::fs::read(Path::new(&folder).join("efficientnet_lite0_features.onnx")).ok();
    if file.is_none() {
        println!("SKIPPED: EDGEGEN_EVAL names no folder with efficientnet_lite0_features.onnx");
    }
    file
}

#[test]
fn features_of_efficientnet_are_the_runtimes() {
    let Some(bytes) = efficientnet() else { return };
    let found = features::read(&bytes, "efficientnet", (224, 224)).unwrap();
    assert_eq!(found.taps.keys().copied().collect::<Vec<_>>(), [2, 4, 8, 16, 32]);
    let pictures = noise(2 * 3 * 224 * 224, 1);
    let network = Network::new(&Lanes, &found.graph).unwrap();
    let own = network.infer_value(&pictures, None, found.outputs[0]).unwrap();
    let runtime =
        FeatureNetwork::from_bytes(&bytes, "efficientnet", OutputChoice::Named("features")).unwrap();
    let mut expected = vec![0f32; own.len()];
    runtime.runner().unwrap().run(&pictures, &mut expected).unwrap();
    let worst = own.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
    let largest = expected.iter().fold(0f32, |most, value| most.max(value.abs()));
    println!("features differ by {worst:e} of {largest}");
    assert!(worst < FEATURES && largest > 0.5, "{worst:e}");
}

#[test]
fn gradients_through_efficientnet_are_central_differences() {
    const STEP: f64 = 1e-6;
    let Some(bytes) = efficientnet() else { return };
    let found = features::read(&bytes, "efficientnet", (32, 32)).unwrap();
    let taps = found.at(&[4, 8, 16]).unwrap();
    let network = Network::new(&Lanes, &found.graph).unwrap();
    let picture = noise(3072, 2);
    let x = Lanes.tensor(&picture, Shape::Image(3, 32, 32)).unwrap();
    let (own, pass) = network.record(x, None, &taps, Statistics::Running, &[]).unwrap();
    let seeds: Vec<Vec<f32>> =
        own.iter().enumerate().map(|(index, tap)| noise(tap.shape.values(), 10 + index as u64)).collect();
    let tensors = taps
        .iter()
        .zip(&own)
        .zip(&seeds)
        .map(|((value, tap), seed)| (*value, Lanes.tensor(seed, tap.shape).unwrap()));
    let gradient = network.backward(&pass, tensors.collect(), None, true, &[]).unwrap().unwrap().to_rows();
    let wide = |values: &[f32]| values.iter().map(|value| f64::from(*value)).collect::<Vec<f64>>();
    let parameters: Vec<Vec<f64>> = found.graph.parameters().map(|own| wide(&own.value)).collect();
    let loss = |picture: Vec<f64>| -> f64 {
        let all = values(&found.graph, &parameters, &vec![picture], &[]);
        let sum = |(value, seed): (&usize, &Vec<f32>)| -> f64 {
            all[*value][0].iter().zip(seed).map(|(tap, seed)| tap * f64::from(*seed)).sum()
        };
        taps.iter().zip(&seeds).map(sum).sum()
    };
    let largest = gradient.iter().fold(0f32, |most, value| most.max(value.abs()));
    for at in [0, 500, 1234, 2047, 3071] {
        let moved = |by: f64| {
            let mut picture = wide(&picture);
            picture[at] += by;
            loss(picture)
        };
        let slope = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
        let apart = (f64::from(gradient[at]) - slope).abs();
        assert!(apart < 1e-4 * f64::from(largest), "{at}: {} {slope}", gradient[at]);
    }
}
