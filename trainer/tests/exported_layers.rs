//! Every kind of layer, written as ONNX and run by the runtime, against the trainer: batch norm folded.

use edgegen_runtime::generate::Latents;
use edgegen_runtime::model::{Metadata, Model, OpenOptions, Precision, Range};
use edgegen_trainer::compute::{Backend, Lanes, Network};
use edgegen_trainer::graph::chain::Builder;
use edgegen_trainer::graph::import::{self, Ports};
use edgegen_trainer::graph::onnx;
use edgegen_trainer::graph::prepare::Form;
use edgegen_trainer::graph::{
    Activation, Graph, Heads, Interpolation, Op, Over, Padding, Shape, Shuffle, Window,
};

/// Largest difference of an output value.
const TOLERANCE: f64 = 1e-4;
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
        network.train(batch, None, graph.output(), &[]).unwrap();
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
        // values of more axes than a picture's are written, but not read
        let axes = ["group norm", "shuffle and back"].contains(&name);
        let read = match import::graph(&bytes, name, &Ports::of(model.facts()).unwrap()) {
            Ok(read) => read,
            Err(error) if axes => {
                assert!(error.to_string().contains("(N, C, H, W) are known"), "{name}: {error}");
                graph.clone()
            }
            Err(error) => panic!("{name}: {error}"),
        };
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

/// Operators that chains do not reach, and branches, each between a dense layer and a last convolution.
#[test]
fn every_operator_means_the_same_in_onnx() {
    type Build = fn(&mut Builder, usize) -> usize;
    let window = |kernel, stride, padding| Window { kernel, stride, padding };
    let one: Vec<(&str, Op)> = vec![
        ("depthwise SAME", Op::depthwise(4, 3, 2)),
        ("depthwise k5", Op::depthwise(4, 5, 1)),
        ("grouped", Op::Conv { inputs: 4, outputs: 4, window: window(3, 1, Padding::Zeros(1)), groups: 2 }),
        ("instance norm", Op::Norm { channels: 4, over: Over::Groups(4), epsilon: 1e-5 }),
        ("group norm", Op::Norm { channels: 4, over: Over::Groups(2), epsilon: 1e-5 }),
        ("relu6", Op::Activation(Activation::Relu6)),
        ("silu", Op::Activation(Activation::Silu)),
        ("softplus", Op::Activation(Activation::Softplus)),
        ("hard sigmoid", Op::Activation(Activation::HardSigmoid)),
        ("hard swish", Op::Activation(Activation::HardSwish)),
        ("average pool", Op::AveragePool { window: window(2, 2, Padding::Zeros(0)), counts_padding: false }),
        (
            "average pool, zeros count",
            Op::AveragePool { window: window(3, 1, Padding::Zeros(1)), counts_padding: true },
        ),
        ("max pool", Op::MaxPool(window(3, 2, Padding::Zeros(1)))),
        ("max pool SAME", Op::MaxPool(window(2, 2, Padding::Same))),
        ("max pool over the end", Op::MaxPool(window(2, 2, Padding::Ceil(0)))),
        ("nearest", Op::Resize { height: 10, width: 10, by: Interpolation::Nearest }),
        ("bilinear", Op::Resize { height: 10, width: 10, by: Interpolation::Bilinear }),
        ("bilinear by another factor", Op::Resize { height: 8, width: 8, by: Interpolation::Bilinear }),
        ("blur", Op::Blur),
        ("global average", Op::GlobalAverage),
    ];
    for (name, op) in one {
        let build = |builder: &mut Builder, x| builder.add(op.clone(), &[x]).unwrap();
        check_built(name, &build);
    }
    let branches: Vec<(&str, Build)> = vec![
        ("softmax", |builder, x| {
            let shape = builder.shape(x);
            let shares = [
                Op::Reshape(Shape::Vector(shape.values())),
                Op::Dense { inputs: shape.values(), outputs: 9 },
                Op::Softmax,
                Op::Dense { inputs: 9, outputs: shape.values() },
                Op::Reshape(shape),
            ];
            builder.chain(x, shares).unwrap()
        }),
        ("residual", |builder, x| builder.residual(x, [Op::conv(4, 4, 3, 1, 1)]).unwrap()),
        ("product", |builder, x| {
            let other = builder.add(Op::conv(4, 4, 1, 1, 0), &[x]).unwrap();
            builder.add(Op::Mul, &[x, other]).unwrap()
        }),
        ("gated linear unit", |builder, x| builder.glu(x).unwrap()),
        ("channel scale", |builder, x| {
            let ops = [Op::GlobalAverage, Op::conv(4, 4, 1, 1, 0), Op::Activation(Activation::Sigmoid)];
            let scale = builder.chain(x, ops).unwrap();
            builder.add(Op::Scale, &[x, scale]).unwrap()
        }),
        ("scale by features", |builder, x| {
            let ops = [Op::GlobalAverage, Op::Reshape(Shape::Vector(4)), Op::Dense { inputs: 4, outputs: 4 }];
            let scale = builder.chain(x, ops).unwrap();
            builder.add(Op::Scale, &[x, scale]).unwrap()
        }),
        ("concatenation", |builder, x| {
            let other = builder.add(Op::conv(4, 2, 3, 1, 1), &[x]).unwrap();
            builder.add(Op::Concat, &[x, other]).unwrap()
        }),
        ("shuffle and back", |builder, x| {
            let shuffle = Op::Shuffle(Shuffle { block: 2, first: 0, size: (10, 10) });
            builder.chain(x, [shuffle, Op::conv(1, 2, 3, 1, 1), Op::Unshuffle { block: 2 }]).unwrap()
        }),
    ];
    for (name, build) in branches {
        check_built(name, &build);
    }
}

fn check_built(name: &str, build: &dyn Fn(&mut Builder, usize) -> usize) {
    let mut builder = Builder::new("generator", Shape::Vector(LATENT));
    let first = [Op::Dense { inputs: LATENT, outputs: 100 }, Op::Reshape(Shape::Image(4, 5, 5))];
    let x = builder.chain(builder.input(), first).unwrap();
    let x = build(&mut builder, x);
    let channels = builder.shape(x).channels();
    let last = [Op::conv(channels, 3, 3, 1, 1), Op::Activation(Activation::Tanh)];
    let output = builder.chain(x, last).unwrap();
    check(name, builder.finish(&[output]).initialise(3, 0), Range::Signed);
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
