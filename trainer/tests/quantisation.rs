//! Networks in integers: what comes out of their files, and what is refused.

use edgegen_runtime::generate::Latents;
use edgegen_runtime::model::{Metadata, Model, OpenOptions, Precision, Range};
use edgegen_trainer::compute::network::run;
use edgegen_trainer::compute::{Backend, Lanes, Network};
use edgegen_trainer::evaluate::quality::{Measure, sqnr};
use edgegen_trainer::export::precisions::{Quality, Request, Source};
use edgegen_trainer::graph::chain::Builder;
use edgegen_trainer::graph::onnx;
use edgegen_trainer::graph::prepare::Form;
use edgegen_trainer::graph::{Activation, Graph, Heads, Op, Shape};
use edgegen_trainer::quantize::{Calibrator, Format, Inputs, Quantized, Rounding, Settings, quantize};
use prost::Message;
use tract_onnx::pb::tensor_proto::DataLocation;
use tract_onnx::pb::{ModelProto, NodeProto, StringStringEntryProto};

const LATENT: usize = 8;
const IMAGE: Shape = Shape::Image(3, 20, 20);
const MEASURE: Measure = Measure::Pictures { values: 1200, peak: 2.0 };

/// Latents → pictures of 3×20×20, with `hidden` behind every layer but the last.
fn generator(classes: usize, hidden: Activation) -> Graph {
    let hidden = || Op::Activation(hidden);
    let mut layers = vec![Op::Dense { inputs: LATENT, outputs: 200 }];
    if classes > 0 {
        layers.push(Op::ClassRow { classes, features: 200 });
    }
    layers.extend([
        Op::Reshape(Shape::Image(8, 5, 5)),
        Op::batch_norm(8),
        hidden(),
        Op::ConvTranspose { inputs: 8, outputs: 12, kernel: 4, stride: 2, padding: 1 },
        hidden(),
        Op::UpsampleConv { inputs: 12, outputs: 3, kernel: 3 },
        Op::Activation(Activation::Tanh),
    ]);
    graph(layers, Shape::Vector(LATENT), &[("image", IMAGE)], classes)
}

/// Pictures of 3×20×20 → two vectors, as an encoder.
fn encoder() -> Graph {
    let relu = || Op::Activation(Activation::Relu);
    let layers = vec![
        Op::conv(3, 8, 4, 2, 1),
        relu(),
        Op::conv(8, 8, 3, 1, 1),
        relu(),
        Op::Reshape(Shape::Vector(800)),
        Op::Dense { inputs: 800, outputs: 12 },
    ];
    graph(layers, IMAGE, &[("mean", Shape::Vector(6)), ("log_variance", Shape::Vector(6))], 0)
}

fn graph(layers: Vec<Op>, input: Shape, outputs: &[(&str, Shape)], classes: usize) -> Graph {
    let graph = Graph::chain("part", input, layers).unwrap().initialise(3, 0);
    let mut network = Network::new(&Lanes, &graph).unwrap();
    // running statistics of what flows
    let rows = Latents::from_seed(1, 0, 64, input.values(), 1.0);
    let told: Option<Vec<u32>> = (classes > 0).then(|| (0..64u32).map(|row| row % classes as u32).collect());
    for _ in 0..40 {
        let batch = Lanes.tensor(rows.values(), input).unwrap();
        network.train(batch, told.as_deref(), graph.output(), &[]).unwrap();
    }
    let heads = Heads { outputs: outputs.to_vec(), tap: None };
    let name = if matches!(input, Shape::Vector(_)) { "latent" } else { "image" };
    let metadata =
        Metadata { classes: (0..classes).map(|class| class.to_string()).collect(), ..Metadata::default() };
    network.graph.exported("network", name, &heads, metadata).unwrap()
}

fn inputs(graph: &Graph, seed: u64, count: usize) -> Inputs {
    let shape = graph.values[graph.input].shape;
    let mut rows = Latents::from_seed(seed, 0, count, shape.values(), 1.0).values().to_vec();
    if matches!(shape, Shape::Image(..)) {
        rows.iter_mut().for_each(|value| *value = (0.5 + 0.25 * *value).clamp(0.0, 1.0));
    }
    let classes = graph.classes() as u32;
    let classes = (classes > 0).then(|| (0..count as u32).map(|row| row % classes).collect());
    Inputs { shape, rows, classes, count }
}

fn quantized(graph: &Graph, settings: &Settings) -> Quantized {
    let measure = if graph.outputs.len() == 1 { MEASURE } else { Measure::Numbers };
    quantize(graph, &inputs(graph, 5, 256), measure, settings, None, &|_| ()).unwrap()
}

fn exact(graph: &Graph, held_out: &Inputs) -> Vec<Vec<f32>> {
    let (outputs, _) = run(graph, &held_out.rows, held_out.classes.as_deref(), false, &mut ()).unwrap();
    outputs.iter().map(|output| output.to_rows()).collect()
}

/// What a file puts out through the runtime.
fn through_runtime(bytes: &[u8], held_out: &Inputs) -> Vec<Vec<f32>> {
    let options = OpenOptions { range: Some(Range::Signed), ..OpenOptions::default() };
    let model = Model::from_bytes(bytes, "test", &options).unwrap();
    assert_eq!(model.facts().precision, Precision::Int8);
    if model.facts().part.draws() {
        let mut generator = model.into_generator(4).unwrap();
        return vec![
            generator.run(&held_out.rows, held_out.classes.as_deref().unwrap_or_default()).unwrap().to_vec(),
        ];
    }
    let posterior = model.into_encoder(4).unwrap().run(&held_out.rows).unwrap();
    vec![posterior.mean, posterior.log_variance]
}

fn settings() -> Settings {
    Settings::default()
}

#[test]
fn files_in_integers_compute_nearly_what_float32_computes() {
    let leaky = Activation::LeakyRelu(0.2);
    for (name, graph) in [
        ("relu", generator(0, Activation::Relu)),
        ("leaky relu", generator(0, leaky)),
        ("tanh inside", generator(0, Activation::Tanh)),
        ("classes", generator(5, Activation::Relu)),
        ("classes and leaky relu", generator(5, leaky)),
        ("encoder", encoder()),
    ] {
        let held_out = inputs(&graph, 6, 40);
        let exact = exact(&graph, &held_out);
        for per_tensor in [false, true] {
            let quantized = quantized(&graph, &Settings { per_tensor, ..settings() });
            let simulated = quantized.simulate(&held_out).unwrap();
            let integers = through_runtime(&quantized.to_onnx(Format::Qlinear), &held_out);
            let float = through_runtime(&quantized.to_onnx(Format::Qdq), &held_out);
            for (output, exact) in exact.iter().enumerate() {
                let ratio = sqnr(exact, &integers[output]);
                assert!(ratio > 28.0, "{name}, per tensor {per_tensor}, output {output}: {ratio:.1} dB");
                // what differs are sums half-way between two levels
                for (what, other) in [("simulation", &simulated[output]), ("QDQ", &float[output])] {
                    let near = sqnr(&integers[output], other);
                    assert!(
                        near > ratio + 10.0,
                        "{name}, per tensor {per_tensor}, {what}: {near:.1} dB, {ratio:.1} dB"
                    );
                }
            }
        }
    }
}

#[test]
fn equalisation_leaves_the_network_as_it_was() {
    for graph in [generator(5, Activation::Relu), encoder()] {
        let held_out = inputs(&graph, 6, 20);
        let quantized = quantized(&graph, &Settings { per_tensor: true, ..settings() });
        assert!(quantized.equalized().is_some(), "no equalisation paid, so that nothing is tested");
        for (a, b) in exact(&graph, &held_out).iter().zip(exact(quantized.exact(), &held_out)) {
            assert!(sqnr(a, &b) > 100.0, "{}", sqnr(a, &b));
        }
    }
}

/// A value that a quantised layer and a sum in float32 read is rounded for both: simulation and file agree.
#[test]
fn a_residual_network_is_what_its_simulation_says() {
    let relu = || Op::Activation(Activation::Relu);
    let mut builder = Builder::new("part", Shape::Vector(LATENT));
    let first = [Op::Dense { inputs: LATENT, outputs: 200 }, Op::Reshape(Shape::Image(8, 5, 5)), relu()];
    let mut x = builder.chain(builder.input(), first).unwrap();
    for _ in 0..3 {
        x = builder.residual(x, [Op::conv(8, 8, 3, 1, 1), relu(), Op::conv(8, 8, 3, 1, 1)]).unwrap();
    }
    let last = [
        Op::ConvTranspose { inputs: 8, outputs: 8, kernel: 4, stride: 4, padding: 0 },
        relu(),
        Op::conv(8, 3, 3, 1, 1),
        Op::Activation(Activation::Tanh),
    ];
    let output = builder.chain(x, last).unwrap();
    let graph = builder.finish(&[output]).initialise(3, 0);
    let heads = Heads { outputs: vec![("image", IMAGE)], tap: None };
    let graph = graph.exported("network", "latent", &heads, Metadata::default()).unwrap();
    let held_out = inputs(&graph, 6, 60);
    // ranges that clip, so that rounding a value and leaving it are far apart
    let settings = Settings { calibrator: Calibrator::Percentile(97.0), ..settings() };
    let quantized = quantized(&graph, &settings);
    let simulated = &quantized.simulate(&held_out).unwrap()[0];
    for format in [Format::Qlinear, Format::Qdq] {
        let found = &through_runtime(&quantized.to_onnx(format), &held_out)[0];
        let ratio = sqnr(simulated, found);
        assert!(ratio > 45.0, "{format:?}: {ratio:.1} dB from its simulation");
    }
    let tuned = Settings { tune: 30, ..Settings::default() };
    self::quantized(&graph, &tuned); // gradients pass through sums
}

#[test]
fn each_remedy_beats_going_without() {
    // one channel of each layer is much larger than the others, as trained networks have them
    let mut graph = generator(0, Activation::Relu).prepare(Form::Convolution).unwrap();
    for node in &mut graph.nodes {
        if node.op.outputs() > 12 {
            let outputs = node.op.outputs();
            let (columns, group) = (node.weight().len() / outputs, outputs / 8);
            node.weight_mut()[..group * columns].iter_mut().for_each(|weight| *weight *= 12.0);
        }
    }
    let held_out = inputs(&graph, 6, 128);
    let expected = exact(&graph, &held_out);
    let score = |settings: &Settings| {
        MEASURE.score(&expected, &quantized(&graph, settings).simulate(&held_out).unwrap())
    };
    let plain = Settings {
        rounding: Rounding::Nearest,
        equalize: false,
        correct_bias: false,
        per_tensor: true,
        ..settings()
    };
    let base = score(&plain);
    let better = |what: &str, by: f64, settings: Settings| {
        let found = score(&settings);
        assert!(found > base + by, "{what}: {found:.2} dB against {base:.2} dB");
    };
    better("a scale a channel", 1.0, Settings { per_tensor: false, ..plain.clone() });
    better("equalisation", 1.0, Settings { equalize: true, ..plain.clone() });
    better("reconstruction", 0.3, Settings { rounding: Rounding::Reconstruct, ..plain.clone() });
    better("everything", 2.0, settings());
    // a random network has little to learn from 256 latents for others: on some CPUs, whose sums round differently,
    // nothing. On its own it has to gain, and on others to lose nothing.
    let tuned = quantized(&graph, &Settings { tune: 600, ..plain.clone() });
    let own = inputs(&graph, 5, 128);
    let own_expected = exact(&graph, &own);
    let on_own = |network: &Quantized| MEASURE.score(&own_expected, &network.simulate(&own).unwrap());
    let (before, after) = (on_own(&quantized(&graph, &plain)), on_own(&tuned));
    assert!(
        after > before + 0.2,
        "fine-tuning, on what it learns from: {after:.2} dB against {before:.2} dB"
    );
    let others = MEASURE.score(&expected, &tuned.simulate(&held_out).unwrap());
    assert!(others > base - 0.2, "fine-tuning, on others: {others:.2} dB against {base:.2} dB");
}

#[test]
fn dead_channels_and_constant_outputs_are_held() {
    let mut graph = generator(0, Activation::Relu).prepare(Form::Convolution).unwrap();
    let first = &mut graph.nodes[0];
    // channel 0 never fires, channel 1 always gives the same
    let area = 25;
    first.weight_mut()[..2 * area * LATENT].fill(0.0);
    first.bias_mut()[..area].fill(-3.0);
    first.bias_mut()[area..2 * area].fill(0.7);
    let held_out = inputs(&graph, 6, 30);
    let quantized = quantized(&graph, &settings());
    let found = through_runtime(&quantized.to_onnx(Format::Qlinear), &held_out);
    let ratio = sqnr(&exact(&graph, &held_out)[0], &found[0]);
    assert!(ratio > 30.0, "{ratio:.1} dB");
    assert_eq!(quantized.report(&held_out, MEASURE).unwrap().layers[0].dead, 1);

    // a network that draws one picture
    for node in &mut graph.nodes {
        node.weight_mut().fill(0.0);
    }
    let constant = self::quantized(&graph, &settings());
    let found = through_runtime(&constant.to_onnx(Format::Qlinear), &held_out);
    let worst =
        found[0].iter().zip(&exact(&graph, &held_out)[0]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 0.02, "{worst}");
}

#[test]
fn what_cannot_be_quantised_is_refused_by_name() {
    let graph = generator(3, Activation::Relu);
    let calibration = inputs(&graph, 5, 32);
    let refuse = |graph: &Graph, calibration: &Inputs, settings: Settings, expected: &[&str]| {
        let line = match quantize(graph, calibration, MEASURE, &settings, None, &|_| ()) {
            Ok(_) => panic!("accepted; expected {expected:?}"),
            Err(error) => error.to_string(),
        };
        assert!(expected.iter().all(|text| line.contains(text)), "{line}: {expected:?}");
    };
    let mut infinite = graph.clone();
    infinite.nodes[0].weight_mut()[3] = f32::INFINITY;
    refuse(&infinite, &calibration, settings(), &["layer0", "inf"]);
    let empty = Inputs { rows: Vec::new(), classes: None, count: 0, ..calibration.clone() };
    refuse(&graph, &empty, settings(), &["calibration set is empty"]);
    let narrow = Inputs { rows: vec![0.0; 32 * 5], ..calibration.clone() };
    refuse(&graph, &narrow, settings(), &["160 values", "32 inputs", "takes 8"]);
    let wrong = Inputs { classes: Some(vec![3; 32]), ..calibration.clone() };
    refuse(&graph, &wrong, settings(), &["3 classes"]);
    refuse(&graph, &Inputs { classes: None, ..calibration.clone() }, settings(), &["3 classes"]);
    let mut nan = calibration.clone();
    nan.rows[7] = f32::NAN;
    refuse(&graph, &nan, settings(), &["NaN"]);
    refuse(
        &graph,
        &calibration,
        Settings { keep_float: vec!["layer99".into()], ..settings() },
        &["layer99", "layer0"],
    );
    refuse(
        &graph,
        &calibration,
        Settings { calibrator: Calibrator::Percentile(3.0), ..settings() },
        &["percentile of 3"],
    );
    let plain = generator(0, Activation::Relu);
    let every = ["layer0", "layer4", "layer6"].map(String::from).to_vec();
    let kept = Settings { keep_float: every, ..settings() };
    refuse(&plain, &inputs(&plain, 5, 8), kept, &["nothing of this network"]);
}

/// The generator's file with an Elu behind its first layer's activation.
fn foreign_file() -> Vec<u8> {
    let graph = generator(0, Activation::LeakyRelu(0.1)).prepare(Form::Transposed).unwrap();
    let mut proto = ModelProto::decode(onnx::model(&graph, Precision::Fp32).unwrap().as_slice()).unwrap();
    let nodes = &mut proto.graph.as_mut().unwrap().node;
    let place = nodes.iter().position(|node| node.op_type == "LeakyRelu").unwrap();
    let output = nodes[place].output[0].clone();
    nodes[place].output[0] = "before".into();
    let elu = NodeProto {
        name: "soft".into(),
        op_type: "Elu".into(),
        input: vec!["before".into()],
        output: vec![output],
        ..NodeProto::default()
    };
    nodes.insert(place + 1, elu);
    proto.encode_to_vec()
}

#[test]
fn unknown_operators_are_refused_or_kept_in_float_as_asked() {
    let options = OpenOptions { range: Some(Range::Signed), ..OpenOptions::default() };
    let source = Source::open(foreign_file(), "foreign.onnx", &options).unwrap();
    let mut request =
        Request { precisions: vec![Precision::Int8], calibration: 128, held_out: 50, ..Request::default() };
    let latents = source.latents(&request).unwrap();
    let Err(error) = source.make(&request, &latents, &|_| ()) else { panic!("accepted") };
    let line = error.to_string();
    assert!(line.contains("soft (Elu)") && line.contains("--unknown float"), "{line}");
    request.settings.refuse_unknown = false;
    let made = source.make(&request, &latents, &|_| ()).unwrap().remove(0);
    assert_eq!(made.report.unwrap().foreign, ["soft (Elu)"]);
    assert!(made.quality.score() > 35.0, "{}", made.quality);
}

/// Shapes computed from shapes, and weights beside the file, as PyTorch's exporters write them.
#[test]
fn files_of_other_exporters_are_read_as_the_runtime_reads_them() {
    let zoo = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/zoo");
    let folder = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(zoo.join("decoder28.old.onnx")).unwrap();
    let mut proto = ModelProto::decode(bytes.as_slice()).unwrap();
    let mut weights = Vec::new();
    for tensor in &mut proto.graph.as_mut().unwrap().initializer {
        let raw = std::mem::take(&mut tensor.raw_data);
        assert!(!raw.is_empty());
        let entry = |key: &str, value: String| StringStringEntryProto { key: key.into(), value };
        tensor.external_data = vec![
            entry("location", "weights.bin".into()),
            entry("offset", weights.len().to_string()),
            entry("length", raw.len().to_string()),
        ];
        tensor.data_location = Some(DataLocation::External as i32);
        weights.extend(raw);
    }
    let path = folder.path().join("decoder.onnx");
    std::fs::write(&path, proto.encode_to_vec()).unwrap();
    let options = OpenOptions { range: Some(Range::Unit), ..OpenOptions::default() };
    let Err(alone) = Source::read(&path, &options) else { panic!("accepted") };
    assert!(alone.to_string().contains("weights.bin"), "{alone}");
    std::fs::write(folder.path().join("weights.bin"), weights).unwrap();
    let source = Source::read(&path, &options).unwrap();
    let request =
        Request { precisions: vec![Precision::Int8], calibration: 128, held_out: 50, ..Request::default() };
    let latents = source.latents(&request).unwrap();
    let made = source.make(&request, &latents, &|_| ()).unwrap().remove(0);
    assert!(made.quality.score() > 30.0, "{}", made.quality);
    let found = ModelProto::decode(made.bytes.as_slice()).unwrap();
    let own = edgegen_runtime::model::sha256_hex(&std::fs::read(&path).unwrap());
    let parent = found.metadata_props.iter().find(|entry| entry.key == "edgegen.parent_sha256").unwrap();
    assert_eq!(parent.value, own);
}

#[test]
fn a_file_below_the_bound_is_refused_with_the_layer_to_blame_or_mended_by_keeping_it() {
    let graph = generator(0, Activation::Relu).prepare(Form::Transposed).unwrap();
    let bytes = onnx::model(&graph, Precision::Fp32).unwrap();
    let options = OpenOptions { range: Some(Range::Signed), ..OpenOptions::default() };
    let source = Source::open(bytes, "generator.onnx", &options).unwrap();
    let mut request =
        Request { precisions: vec![Precision::Int8], calibration: 128, held_out: 50, ..Request::default() };
    let latents = source.latents(&request).unwrap();
    let first = source.make(&request, &latents, &|_| ()).unwrap().remove(0);
    let report = first.report.unwrap();
    let blamed = report.blamed().unwrap().name.clone();
    // half-way between what it has and what it has without the layer to blame
    request.least = first.quality.score() + 0.1;
    let Err(error) = source.make(&request, &latents, &|_| ()) else { panic!("accepted") };
    let line = error.to_string();
    assert!(
        line.contains(&blamed) && line.contains("--keep-float") && line.contains("generator.onnx"),
        "{line}"
    );
    request.keep_automatically = true;
    let mended = source.make(&request, &latents, &|_| ()).unwrap().remove(0);
    assert!(mended.quality.score() >= request.least);
    let kept = mended.report.unwrap();
    assert!(kept.layers.iter().any(|layer| layer.float && layer.name == blamed));
    assert!(kept.layers.iter().any(|layer| !layer.float));
    assert!(mended.bytes.len() > first.bytes.len());
}

#[test]
fn halves_are_half_the_file_and_the_same_pictures() {
    let graph = generator(3, Activation::Relu).prepare(Form::Transposed).unwrap();
    let fp32 = onnx::model(&graph, Precision::Fp32).unwrap();
    let options = OpenOptions { range: Some(Range::Signed), ..OpenOptions::default() };
    let source = Source::open(fp32.clone(), "generator.onnx", &options).unwrap();
    let request = Request { precisions: vec![Precision::Fp16], held_out: 30, ..Request::default() };
    let made = source.make(&request, &source.latents(&request).unwrap(), &|_| ()).unwrap().remove(0);
    let Quality::Pictures { psnr, ssim, .. } = made.quality else { panic!("it draws") };
    assert!(psnr.worst > 60.0 && ssim.worst > 0.999, "{psnr:?} {ssim:?}");
    assert!(made.bytes.len() < fp32.len());
    let model = Model::from_bytes(&made.bytes, "generator.fp16.onnx", &options).unwrap();
    assert_eq!(model.facts().precision, Precision::Fp16);

    let mut large = graph;
    large.nodes[0].weight_mut()[0] = 1e5;
    let line = onnx::model(&large, Precision::Fp16).unwrap_err().to_string();
    assert!(line.contains("layer0") && line.contains("65504"), "{line}");
}
