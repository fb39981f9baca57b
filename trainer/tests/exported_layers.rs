//! Every kind of layer, written as ONNX and run by the runtime, against the trainer: batch norm folded.

use edgegen_runtime::generate::Latents;
use edgegen_runtime::model::{Metadata, Model, OpenOptions, Precision, Range};
use edgegen_trainer::export::{TOLERANCE, onnx};
use edgegen_trainer::graph::import::{self, Ports};
use edgegen_trainer::graph::prepare::Form;
use edgegen_trainer::graph::{Graph, Heads, Op};
use edgegen_trainer::network::module::Module;
use edgegen_trainer::network::{Activation, Layer, Network, Shape};
use edgegen_trainer::nn::batch::Batch;

const LATENT: usize = 6;
const BATCH: usize = 5;

/// A generator that ends in `layers`, entered by (4, 5, 5).
fn generator(layers: &[Layer], out_channels: usize) -> Network {
    let mut all = vec![
        Layer::Dense { inputs: LATENT, outputs: 100 },
        Layer::Activation(Activation::LeakyRelu(0.2)),
        Layer::Reshape(Shape::Image(4, 5, 5)),
    ];
    all.extend_from_slice(layers);
    let network = Network::new(Shape::Vector(LATENT), all).unwrap();
    assert!(matches!(network.shapes().unwrap().last(), Some(Shape::Image(c, ..)) if *c == out_channels));
    network
}

fn check(name: &str, network: Network, range: Range) {
    let mut module = Module::new(network, "generator", 3, 0).unwrap();
    let shape = *module.network().shapes().unwrap().last().unwrap();
    // a few training passes give the running statistics other values than 0 and 1
    let latents = Latents::from_seed(1, 0, 40, LATENT, 1.0);
    for _ in 0..3 {
        module.record(Batch::from_rows(latents.values(), Shape::Vector(LATENT)), None);
    }
    let expected = module.infer(&latents.values()[..BATCH * LATENT], None);

    let heads = Heads { outputs: vec![("image", shape)], tap: None };
    let graph = Graph::of_module(&module, "generator", "latent", &heads, Metadata::default()).unwrap();
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
            read.run(&latents.values()[..BATCH * LATENT], None, |_, _| ()).unwrap().remove(0).to_rows();
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
    let last = |inputs| Layer::Conv { inputs, outputs: 3, kernel: 3, stride: 1, padding: 1 };
    let relu = Layer::Activation(Activation::Relu);
    let norm = |channels| Layer::BatchNorm { channels };
    let tanh = Layer::Activation(Activation::Tanh);
    let sigmoid = Layer::Activation(Activation::Sigmoid);
    let transpose =
        |kernel, stride, padding| Layer::ConvTranspose { inputs: 4, outputs: 7, kernel, stride, padding };
    let cases: [(&str, Vec<Layer>, Range); 12] = [
        ("conv", vec![last(4), tanh], Range::Signed),
        (
            "strided conv",
            vec![Layer::Conv { inputs: 4, outputs: 3, kernel: 4, stride: 2, padding: 1 }, sigmoid],
            Range::Unit,
        ),
        ("transposed k4 s2 p1", vec![transpose(4, 2, 1), relu, last(7), tanh], Range::Signed),
        ("transposed k5 s3 p2", vec![transpose(5, 3, 2), relu, last(7), tanh], Range::Signed),
        ("transposed k6 s2 p2", vec![transpose(6, 2, 2), relu, last(7), tanh], Range::Signed),
        ("transposed k3 s1 p1", vec![transpose(3, 1, 1), relu, last(7), tanh], Range::Signed),
        ("transposed k4 s1 p0", vec![transpose(4, 1, 0), relu, last(7), tanh], Range::Signed),
        ("batch norm that stays", vec![relu, norm(4), relu, last(4), tanh], Range::Signed),
        ("upsample", vec![Layer::UpsampleConv { inputs: 4, outputs: 3, kernel: 5 }, sigmoid], Range::Unit),
        ("batch norm after dense and reshape", vec![norm(4), relu, last(4), sigmoid], Range::Unit),
        (
            "batch norm after transposed",
            vec![transpose(4, 2, 1), norm(7), relu, last(7), tanh],
            Range::Signed,
        ),
        ("batch norm after conv", vec![last(4), norm(3), tanh], Range::Signed),
    ];
    for (name, layers, range) in cases {
        let mut network = generator(&layers, 3);
        if name == "batch norm after dense and reshape" {
            network.layers.remove(1); // the activation would stand between the two
        }
        check(name, network, range);
    }
}
