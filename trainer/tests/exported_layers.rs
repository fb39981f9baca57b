//! Every kind of layer, written as ONNX and run by the runtime, against the trainer: batch norm folded.

use edgegen_runtime::generate::Latents;
use edgegen_runtime::model::{Metadata, Model, OpenOptions, Precision, Range};
use edgegen_trainer::compute::{Backend, Lanes, Network};
use edgegen_trainer::export::{TOLERANCE, onnx};
use edgegen_trainer::graph::import::{self, Ports};
use edgegen_trainer::graph::prepare::Form;
use edgegen_trainer::graph::{Activation, Graph, Heads, Op, Shape};

const LATENT: usize = 6;
const BATCH: usize = 5;

/// A generator that ends in `layers`, entered by (4, 5, 5).
fn generator(layers: &[Op], out_channels: usize, hidden: bool) -> Graph {
    let mut all = vec![Op::Dense { inputs: LATENT, outputs: 100 }];
    if hidden {
        all.push(Op::Activation(Activation::LeakyRelu(0.2)));
    }
    all.push(Op::Reshape(Shape::Image(4, 5, 5)));
    all.extend_from_slice(layers);
    let graph = Graph::chain("generator", Shape::Vector(LATENT), all).unwrap();
    assert_eq!(graph.output_shape().channels(), out_channels);
    graph.initialise(3, 0)
}

fn check(name: &str, graph: Graph, range: Range) {
    let mut network = Network::new(&Lanes, &graph).unwrap();
    let shape = graph.output_shape();
    // a few training passes give the running statistics other values than 0 and 1
    let latents = Latents::from_seed(1, 0, 40, LATENT, 1.0);
    for _ in 0..3 {
        let batch = Lanes.tensor(latents.values(), Shape::Vector(LATENT)).unwrap();
        network.train(batch, None, graph.output(), &Vec::new()).unwrap();
    }
    let expected = network.infer(&latents.values()[..BATCH * LATENT], None).unwrap();

    let heads = Heads { outputs: vec![("image", shape)], tap: None };
    let graph = network.graph.exported("generator", "latent", &heads, Metadata::default()).unwrap();
    let prepared = |form| graph.clone().prepare(form).unwrap();
    for (form, graph) in [
        ("as trained", graph.clone()),
        ("transposed", prepared(Form::Transposed)),
        ("convolution", prepared(Form::Convolution)),
    ] {
        let bytes = onnx::model(&graph, Precision::Fp32).unwrap();
        let options = OpenOptions { range: Some(range), ..OpenOptions::default() };
        let model = Model::from_bytes(&bytes, name, &options).unwrap();
        let read = import::graph(&bytes, name, &Ports::of(model.facts()).unwrap()).unwrap();
        assert!(!read.nodes.iter().any(|node| matches!(node.op, Op::Foreign(_))), "{name} {form}");
        let again =
            Network::new(&Lanes, &read).unwrap().infer(&latents.values()[..BATCH * LATENT], None).unwrap();
        let worst = again.iter().zip(&expected).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
        assert!(worst < TOLERANCE, "{name} {form}, read back: {worst:e}");
        let mut generator = model.into_generator(BATCH).unwrap();
        let found = generator.run(&latents.values()[..BATCH * LATENT], &[]).unwrap();
        assert_eq!(found.len(), expected.len(), "{name}");
        let worst = found.iter().zip(&expected).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
        assert!(worst < TOLERANCE, "{name} {form}: {worst:e}");
    }
}

#[test]
fn every_layer_means_the_same_in_onnx() {
    let last = |inputs| Op::conv(inputs, 3, 3, 1, 1);
    let relu = || Op::Activation(Activation::Relu);
    let norm = |channels| Op::batch_norm(channels);
    let tanh = || Op::Activation(Activation::Tanh);
    let sigmoid = || Op::Activation(Activation::Sigmoid);
    let transpose =
        |kernel, stride, padding| Op::ConvTranspose { inputs: 4, outputs: 7, kernel, stride, padding };
    let cases: [(&str, Vec<Op>, Range); 12] = [
        ("conv", vec![last(4), tanh()], Range::Signed),
        ("strided conv", vec![Op::conv(4, 3, 4, 2, 1), sigmoid()], Range::Unit),
        ("transposed k4 s2 p1", vec![transpose(4, 2, 1), relu(), last(7), tanh()], Range::Signed),
        ("transposed k5 s3 p2", vec![transpose(5, 3, 2), relu(), last(7), tanh()], Range::Signed),
        ("transposed k6 s2 p2", vec![transpose(6, 2, 2), relu(), last(7), tanh()], Range::Signed),
        ("transposed k3 s1 p1", vec![transpose(3, 1, 1), relu(), last(7), tanh()], Range::Signed),
        ("transposed k4 s1 p0", vec![transpose(4, 1, 0), relu(), last(7), tanh()], Range::Signed),
        ("batch norm that stays", vec![relu(), norm(4), relu(), last(4), tanh()], Range::Signed),
        ("upsample", vec![Op::UpsampleConv { inputs: 4, outputs: 3, kernel: 5 }, sigmoid()], Range::Unit),
        ("batch norm after dense and reshape", vec![norm(4), relu(), last(4), sigmoid()], Range::Unit),
        (
            "batch norm after transposed",
            vec![transpose(4, 2, 1), norm(7), relu(), last(7), tanh()],
            Range::Signed,
        ),
        ("batch norm after conv", vec![last(4), norm(3), tanh()], Range::Signed),
    ];
    for (name, layers, range) in cases {
        // an activation would stand between the two
        let hidden = name != "batch norm after dense and reshape";
        check(name, generator(&layers, 3, hidden), range);
    }
}
