//! Layers of generated sizes, and networks that people have as feature networks, against PyTorch: on both back ends.

use std::path::{Path, PathBuf};
use std::process::Command;

use candle_core::Device;
use edgegen_trainer::compute::candle::Candle;
use edgegen_trainer::compute::{Backend, Gradients, Lanes, Network, Statistics};
use edgegen_trainer::graph::chain::Builder;
use edgegen_trainer::graph::features;
use edgegen_trainer::graph::{Activation, Graph, Interpolation, Op, Over, Padding, Shape, Shuffle, Window};
use safetensors::SafeTensors;
use serde_json::Value;

/// f32 sums of a few thousand products against f64, relative to the largest value.
const TOLERANCE: f32 = 1e-4;
/// The same through the dozens of layers of a whole network, in f32 on both sides.
const THROUGH_NETWORKS: f32 = 1e-3;
/// Relative L2 norm of the difference of gradients of a picture.
const ACROSS_KINKS: f64 = 1e-2;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs a script with these arguments; `None`, with a line that says so, where PyTorch is missing.
fn python(script: &str, arguments: &[&Path]) -> Option<()> {
    let interpreter = root().join(".venv/bin/python");
    let has = |modules: &str| Command::new(&interpreter).args(["-c", modules]).output();
    if !has("import torch, torchvision, safetensors, onnx").is_ok_and(|found| found.status.success()) {
        println!("SKIPPED: no PyTorch in .venv; bash tests/python/setup.sh torch installs it");
        return None;
    }
    let output = Command::new(&interpreter)
        .arg(root().join("tests/python").join(script))
        .args(arguments)
        .output()
        .expect("the interpreter runs");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    Some(())
}

struct Tensors<'a>(SafeTensors<'a>);

impl Tensors<'_> {
    fn get(&self, name: &str) -> Option<Vec<f32>> {
        let view = self.0.tensor(name).ok()?;
        Some(view.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }
}

fn close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(1e-2f32, |most, value| most.max(value.abs()));
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
    assert!(worst <= tolerance * largest, "{what}: {worst:e} of {largest:e}");
}

fn shape(dims: &Value) -> Shape {
    let dims: Vec<usize> =
        dims.as_array().unwrap().iter().map(|size| size.as_u64().unwrap() as usize).collect();
    match dims[..] {
        [features] => Shape::Vector(features),
        [channels, height, width] => Shape::Image(channels, height, width),
        _ => panic!("{dims:?}"),
    }
}

fn layer(case: &Value, shape: Shape) -> Graph<()> {
    let op = &case["op"];
    let number = |name: &str| op[name].as_u64().unwrap_or_else(|| panic!("{op}: {name}")) as usize;
    let text = |name: &str| op[name].as_str().unwrap().to_string();
    let window = || {
        let padding = Padding::Zeros(number("padding"));
        Window { kernel: number("kernel"), stride: number("stride"), padding }
    };
    let (inputs, outputs) = (|| number("inputs"), || number("outputs"));
    let op = match text("op").as_str() {
        "conv" => {
            Op::Conv { inputs: inputs(), outputs: outputs(), window: window(), groups: number("groups") }
        }
        "transposed" => {
            let Window { kernel, stride, .. } = window();
            let padding = number("padding");
            Op::ConvTranspose { inputs: inputs(), outputs: outputs(), kernel, stride, padding }
        }
        "upsample" => Op::UpsampleConv { inputs: inputs(), outputs: outputs(), kernel: number("kernel") },
        "dense" => Op::Dense { inputs: inputs(), outputs: outputs() },
        "norm" => {
            let over = match number("groups") {
                0 => Over::Batch,
                groups => Over::Groups(groups),
            };
            Op::Norm { channels: number("channels"), over, epsilon: 1e-5 }
        }
        "activation" => Op::Activation(match text("name").as_str() {
            "relu" => Activation::Relu,
            "leaky-relu" => Activation::LeakyRelu(0.2),
            "relu6" => Activation::Relu6,
            "tanh" => Activation::Tanh,
            "sigmoid" => Activation::Sigmoid,
            "silu" => Activation::Silu,
            "softplus" => Activation::Softplus,
            "hard-sigmoid" => Activation::HardSigmoid,
            "hard-swish" => Activation::HardSwish,
            other => panic!("{other}"),
        }),
        "pool" => match text("kind").as_str() {
            "max" => Op::MaxPool(window()),
            kind => Op::AveragePool { window: window(), counts_padding: kind == "average-counted" },
        },
        "resize" => Op::Resize {
            height: number("height"),
            width: number("width"),
            by: match text("by").as_str() {
                "nearest" => Interpolation::Nearest,
                _ => Interpolation::Bilinear,
            },
        },
        "shuffle" => {
            let (block, (_, height, width)) = (number("block"), shape.image());
            Op::Shuffle(Shuffle { block, first: 0, size: (height * block, width * block) })
        }
        "unshuffle" => Op::Unshuffle { block: number("block") },
        "global-average" => Op::GlobalAverage,
        "glu" => {
            let mut builder = Builder::new("test", shape);
            let output = builder.glu(builder.input()).unwrap();
            return builder.finish(&[output]);
        }
        other => panic!("{other}"),
    };
    Graph::chain("test", shape, vec![op]).unwrap()
}

fn check<B: Backend>(backend: &B, what: &str, graph: &Graph, index: usize, tensors: &Tensors<'_>) {
    let get = |name: &str| tensors.get(&format!("{index}/{name}"));
    let mut network = Network::new(backend, graph).unwrap();
    let x = backend.tensor(&get("x").unwrap(), graph.input_shape()).unwrap();
    let output = graph.output();
    let (y, pass) = network.train(x, None, output, &[]).unwrap();
    close(what, &backend.rows(&y).unwrap(), &get("y").unwrap(), TOLERANCE);
    let seeds = vec![(output, backend.tensor(&get("seed").unwrap(), graph.output_shape()).unwrap())];
    let mut gradients = Gradients::of(backend, &network.graph).unwrap();
    let gx = network.backward(&pass, seeds, Some(&mut gradients), true, &[]).unwrap().unwrap();
    close(&format!("{what}, input"), &backend.rows(&gx).unwrap(), &get("gx").unwrap(), TOLERANCE);
    for (number, found) in gradients.to_host().unwrap().iter().enumerate() {
        let expected = get(&format!("gp{number}")).unwrap();
        close(&format!("{what}, parameter {number}"), found, &expected, TOLERANCE);
    }
}

#[test]
fn layers_of_generated_sizes_agree_with_pytorch() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cases.safetensors");
    if python("gradients.py", &[&file]).is_none() {
        return;
    }
    let bytes = std::fs::read(&file).unwrap();
    let tensors = Tensors(SafeTensors::deserialize(&bytes).unwrap());
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = header.metadata().clone().unwrap();
    let cases: Vec<Value> = serde_json::from_str(&metadata["cases"]).unwrap();
    assert!(cases.len() >= 100);
    for (index, case) in cases.iter().enumerate() {
        let shape = shape(&case["shape"]);
        let mut graph = layer(case, shape).initialise(1, 0);
        let given = case["parameters"].as_u64().unwrap() as usize;
        for (number, parameter) in graph.parameters_mut().take(given).enumerate() {
            parameter.value = tensors.get(&format!("{index}/p{number}")).unwrap();
        }
        let what = format!("case {index}, {} on {shape}", case["op"]);
        check(&Lanes, &format!("{what}, lanes"), &graph, index, &tensors);
        check(&Candle::new(Device::Cpu), &format!("{what}, candle"), &graph, index, &tensors);
    }
    println!("{} layers, PyTorch {}", cases.len(), metadata["torch"]);
}

fn check_network<B: Backend>(backend: &B, name: &str, folder: &Path) {
    let file = std::fs::read(folder.join(format!("{name}.onnx"))).unwrap();
    let bytes = std::fs::read(folder.join(format!("{name}.safetensors"))).unwrap();
    let tensors = Tensors(SafeTensors::deserialize(&bytes).unwrap());
    let found = features::read(&file, name, (64, 64)).unwrap();
    let strides: Vec<usize> =
        found.taps.keys().copied().filter(|s| tensors.get(&format!("tap{s}")).is_some()).collect();
    assert!(strides.ends_with(&[8, 16, 32]) || strides.ends_with(&[8, 16]), "{name}: {strides:?}");
    let taps = found.at(&strides).unwrap();
    let network = Network::new(backend, &found.graph).unwrap();
    let x = backend.tensor(&tensors.get("x").unwrap(), found.graph.input_shape()).unwrap();
    let (values, pass) = network.record(x, None, &taps, Statistics::Running, &[]).unwrap();
    let mut seeds = Vec::new();
    for ((stride, tap), value) in strides.iter().zip(&taps).zip(&values) {
        let expected = tensors.get(&format!("tap{stride}")).unwrap();
        let what = format!("{name}, stride {stride}");
        close(&what, &backend.rows(value).unwrap(), &expected, THROUGH_NETWORKS);
        let seed = tensors.get(&format!("seed{stride}")).unwrap();
        seeds.push((*tap, backend.tensor(&seed, backend.shape(value)).unwrap()));
    }
    let gx = network.backward(&pass, seeds, None, true, &[]).unwrap().unwrap();
    // where a rectifier or a maximum lies within rounding of its kink, the two sides may take different slopes, and the
    // pixels that it sees differ
    let (found_gx, expected) = (backend.rows(&gx).unwrap(), tensors.get("gx").unwrap());
    let squares = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>();
    let apart = squares(&mut found_gx.iter().zip(&expected).map(|(a, b)| a - b));
    let error = (apart / squares(&mut expected.iter().copied())).sqrt();
    assert!(error < ACROSS_KINKS, "{name}: the gradient for the picture differs by {error:e}");
    println!("{name}: strides {strides:?}, {} nodes, gradient {error:.1e}", found.graph.nodes.len());
}

#[test]
fn feature_networks_agree_with_pytorch() {
    let folder = tempfile::tempdir().unwrap();
    let eval =
        std::env::var("EDGEGEN_EVAL").map(|eval| Path::new(&eval).join("efficientnet_lite0_features.onnx"));
    let eval = eval.ok().filter(|eval| eval.is_file());
    let mut arguments = vec![folder.path()];
    if let Some(eval) = &eval {
        arguments.extend([Path::new("--eval"), eval]);
    }
    if python("feature_networks.py", &arguments).is_none() {
        return;
    }
    let names = ["mobilenet_v2", "mobilenet_v3_small", "resnet18", "vgg11", "squeezenet", "converted"];
    for name in names.into_iter().chain(eval.map(|_| "eval")) {
        check_network(&Lanes, name, folder.path());
        if name != "vgg11" {
            check_network(&Candle::new(Device::Cpu), name, folder.path());
        }
    }
}
