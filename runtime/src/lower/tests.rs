//! Graphs of a node or two: what is read, what is refused and in which words, and that fusing changes no result.

use crate::onnx::{
    AttributeProto, DataType, GraphProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto,
};
use edgegen_kernels::Cpu;

use super::{Lowered, Others, Refusal, Source, lower};

fn floats(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    let raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor(name, dims, DataType::Float, raw_data)
}

fn tensor(name: &str, dims: &[i64], kind: DataType, raw_data: Vec<u8>) -> TensorProto {
    let (name, dims) = (name.to_string(), dims.to_vec());
    TensorProto { name, dims, data_type: kind as i32, raw_data: raw_data.into(), ..TensorProto::default() }
}

fn level(name: &str, value: u8) -> TensorProto {
    tensor(name, &[], DataType::Uint8, vec![value])
}

fn node(kind: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: kind.into(),
        name: output.into(),
        input: inputs.iter().map(ToString::to_string).collect(),
        output: vec![output.into()],
        ..NodeProto::default()
    }
}

fn with(mut node: NodeProto, name: &str, ints: &[i64]) -> NodeProto {
    let (name, ints) = (name.to_string(), ints.to_vec());
    let i = ints.first().copied().unwrap_or(0);
    let r#type = if matches!(name.as_str(), "axis" | "group" | "blocksize") { 2 } else { 7 };
    node.attribute.push(AttributeProto { name, ints, i, r#type, ..AttributeProto::default() });
    node
}

fn with_float(mut node: NodeProto, name: &str, f: f32) -> NodeProto {
    node.attribute.push(AttributeProto { name: name.into(), f, ..AttributeProto::default() });
    node
}

/// Lowers a graph from `x` to the last node's output.
fn lowered(row: &[usize], initializer: Vec<TensorProto>, node: Vec<NodeProto>) -> Result<Lowered, Refusal> {
    lowered_with(row, initializer, node, None)
}

fn lowered_with(
    row: &[usize],
    initializer: Vec<TensorProto>,
    node: Vec<NodeProto>,
    others: Option<Others<'_>>,
) -> Result<Lowered, Refusal> {
    let port = |name: &str| ValueInfoProto { name: name.into(), ..ValueInfoProto::default() };
    let output = vec![port(&node.last().unwrap().output[0])];
    let graph = GraphProto { node, initializer, input: vec![port("x")], output, ..GraphProto::default() };
    let opsets = [OperatorSetIdProto { domain: String::new(), version: 13 }];
    let source = Source { onnx: &graph, opsets: &opsets, input: "x", row, class_input: None };
    lower(&source, Cpu::SCALAR, others, false)
}

fn run(row: &[usize], initializer: Vec<TensorProto>, node: Vec<NodeProto>, x: &[f32]) -> Vec<f32> {
    let mut lowered = lowered(row, initializer, node).unwrap();
    let mut y = vec![f32::NAN; lowered.outputs[0].iter().product()];
    lowered.program.run(x, 0, &mut [&mut y]).unwrap();
    y
}

fn refusal(row: &[usize], initializer: Vec<TensorProto>, node: Vec<NodeProto>) -> Refusal {
    lowered(row, initializer, node).map(|_| ()).unwrap_err()
}

/// A 3 × 3 convolution of 2 channels to 2.
fn conv() -> (Vec<TensorProto>, NodeProto) {
    let weights: Vec<f32> = (0..36).map(|i| (i * 7 % 11) as f32 / 10.0 - 0.5).collect();
    let tensors = vec![floats("w", &[2, 2, 3, 3], &weights), floats("b", &[2], &[0.1, -0.2])];
    (tensors, with(node("Conv", &["x", "w", "b"], "conv"), "pads", &[1, 1, 1, 1]))
}

#[test]
fn what_has_no_kernel_is_refused_in_words() {
    let picture = [2, 4, 4];
    let (tensors, plain) = conv();
    for (changed, part) in [
        (with(plain.clone(), "group", &[2]), "of each group"),
        (with(plain.clone(), "group", &[3]), "3 groups, which do not divide 2 channels"),
        (with(plain.clone(), "strides", &[0, 1]), "of 0"),
        (with(plain.clone(), "strides", &[-1, 1]), "strides of [-1, 1]"),
        (with(plain.clone(), "kernel_shape", &[5, 5]), "differ"),
        (with(node("Conv", &["x", "w", "b"], "c"), "pads", &[1, -1, 1, 1]), "pads"),
        (node("Conv", &["x", "x"], "c"), "no constant"),
        (node("Conv", &["x", "b"], "c"), "rank"),
        (with(node("Softmax", &["x"], "c"), "axis", &[0]), "over the batch"),
        (node("Atan", &["x"], "c"), "operator Atan has no kernel"),
        (node("Relu", &[], "c"), "missing"),
        (with_float(node("LeakyRelu", &["x"], "c"), "alpha", f32::NAN), "is NaN"),
        (with(node("ConvTranspose", &["x", "w"], "c"), "pads", &[9, 9, 9, 9]), "leaves no picture"),
        (with(node("DepthToSpace", &["x"], "c"), "blocksize", &[2]), "block size"),
        (node("Reshape", &["x", "w"], "c"), "not of integers"),
    ] {
        let refusal = refusal(&picture, tensors.clone(), vec![changed]);
        assert!(refusal.node == 0 && refusal.reason.contains(part), "{part}: {refusal:?}");
    }
    let nan = vec![floats("w", &[2, 2, 3, 3], &[f32::NAN; 36]), floats("b", &[2], &[0.0; 2])];
    assert!(refusal(&picture, nan, vec![plain.clone()]).reason.contains("NaN"));
    // a shape that lies about its numbers is no constant
    let short = vec![floats("w", &[2, 2, 3, 3], &[0.0; 35]), floats("b", &[2], &[0.0; 2])];
    assert!(refusal(&picture, short, vec![plain]).reason.contains("\"w\" is no constant"));
}

#[test]
fn absurd_scales_and_zero_points_are_refused_in_words() {
    let quantise = || node("QuantizeLinear", &["x", "scale", "zero"], "q");
    let back = || node("DequantizeLinear", &["q", "scale", "zero"], "y");
    for scale in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e-40] {
        let tensors = vec![floats("scale", &[], &[scale]), level("zero", 3)];
        let refusal = refusal(&[8], tensors, vec![quantise(), back()]);
        assert!(refusal.reason.contains("a scale is"), "{scale}: {refusal:?}");
    }
    let two = vec![floats("scale", &[2], &[1.0, 2.0]), level("zero", 3)];
    assert!(refusal(&[8], two, vec![quantise(), back()]).reason.contains("one for all"));
    let wide = vec![floats("scale", &[], &[1.0]), tensor("zero", &[], DataType::Int32, vec![0; 4])];
    assert!(refusal(&[8], wide, vec![quantise(), back()]).reason.contains("levels of int32"));
    // 1e38 · 1e38 / 1e-38 is more than float32 holds
    let tensors = vec![
        floats("scale", &[], &[1e38]),
        level("zero", 0),
        tensor("w", &[4, 2, 1, 1], DataType::Int8, vec![1; 8]),
        floats("w_scale", &[], &[1e38]),
        tensor("w_zero", &[], DataType::Int8, vec![0]),
        floats("y_scale", &[], &[1e-37]),
    ];
    let inputs = ["q", "scale", "zero", "w", "w_scale", "w_zero", "y_scale", "zero"];
    let layer = node("QLinearConv", &inputs, "c");
    let refused = refusal(&[2, 3, 3], tensors.clone(), vec![quantise(), layer.clone(), back()]);
    assert!(refused.node == 1 && refused.reason.contains("more than float32 holds"), "{refused:?}");
    // levels where floats are expected, and the other way round
    let mixed = node("QLinearConv", &["x", "scale", "zero", "w", "w_scale", "w_zero", "scale", "zero"], "c");
    assert!(refusal(&[2, 3, 3], tensors.clone(), vec![mixed]).reason.contains("float32, not integers"));
    let mixed = vec![quantise(), node("Relu", &["q"], "y")];
    assert!(refusal(&[2, 3, 3], tensors, mixed).reason.contains("integers, not float32"));
}

#[test]
fn fusing_changes_nothing() {
    let (mut tensors, conv) = conv();
    let x: Vec<f32> = (0..32).map(|i| (i * 5 % 17) as f32 / 8.0 - 1.0).collect();
    tensors.extend([
        floats("gamma", &[2], &[0.5, -2.0]),
        floats("beta", &[2], &[0.3, 0.1]),
        floats("mean", &[2], &[0.2, -0.1]),
        floats("variance", &[2], &[0.25, 4.0]),
        floats("factor", &[2, 1, 1], &[2.0, 0.5]),
    ]);
    let norm = node("BatchNormalization", &["conv", "gamma", "beta", "mean", "variance"], "norm");
    let plain = run(&[2, 4, 4], tensors.clone(), vec![conv.clone()], &x);
    let expected: Vec<f32> = (0..32)
        .map(|i| {
            let c = i / 16;
            let (gamma, beta) = ([0.5, -2.0][c], [0.3, 0.1][c]);
            let value = (plain[i] - [0.2, -0.1][c]) / ([0.25f32, 4.0][c] + 1e-5).sqrt() * gamma + beta;
            let value = if value < 0.0 { value * 0.25 } else { value };
            value * [2.0, 0.5][c]
        })
        .collect();
    let leaky = with_float(node("LeakyRelu", &["norm"], "leaky"), "alpha", 0.25);
    let product = node("Mul", &["leaky", "factor"], "y");
    let nodes = vec![conv, norm, leaky, product];
    let fused = lowered(&[2, 4, 4], tensors.clone(), nodes.clone()).unwrap();
    assert!(
        fused.runners[0] == fused.runners[1] && fused.runners[1] == fused.runners[2],
        "{:?}",
        fused.runners
    );
    for (found, expected) in run(&[2, 4, 4], tensors, nodes, &x).iter().zip(&expected) {
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    }
}

#[test]
fn levels_stay_levels_between_quantised_nodes() {
    // x → levels → reshape → ReLU → other levels, all in one table
    let tensors = vec![
        floats("a", &[], &[0.1]),
        level("a0", 100),
        floats("b", &[], &[0.2]),
        level("b0", 10),
        tensor("shape", &[2], DataType::Int64, [0i64, -1].iter().flat_map(|v| v.to_le_bytes()).collect()),
    ];
    let nodes = vec![
        node("QuantizeLinear", &["x", "a", "a0"], "q"),
        node("DequantizeLinear", &["q", "a", "a0"], "v"),
        node("Reshape", &["v", "shape"], "r"),
        node("Relu", &["r"], "relu"),
        node("QuantizeLinear", &["relu", "b", "b0"], "q2"),
        node("DequantizeLinear", &["q2", "b", "b0"], "y"),
    ];
    let x = [-3.0, -0.04, 0.0, 0.26, 0.31, 14.0, 40.0, 1e9];
    let y = run(&[2, 2, 2], tensors.clone(), nodes.clone(), &x);
    let expected = x.map(|x: f32| {
        let q = ((x / 0.1).round_ties_even() + 100.0).clamp(0.0, 255.0);
        let relu = ((q - 100.0) * 0.1).max(0.0);
        (((relu / 0.2).round_ties_even() + 10.0).clamp(0.0, 255.0) - 10.0) * 0.2
    });
    assert_eq!(y, expected);
    let runners = lowered(&[2, 2, 2], tensors, nodes).unwrap().runners;
    assert!(runners[1].contains("table") || runners[1].contains("way"), "{runners:?}");
}

#[test]
fn planes_that_live_at_different_times_share_memory() {
    let weights = vec![0.01f32; 64 * 64];
    let tensors = vec![floats("w", &[64, 64], &weights)];
    let chain = |length: usize| {
        let mut nodes = Vec::new();
        let mut from = "x".to_string();
        for index in 0..length {
            let to = format!("v{index}");
            nodes.push(node("MatMul", &[&from, "w"], &to));
            from = to;
        }
        lowered(&[64], tensors.clone(), nodes).unwrap().program.floats.len()
    };
    assert_eq!(chain(3), chain(10));
}

/// As [`lowered`], with tract for what has no kernel.
#[cfg(feature = "tract")]
fn lowered_with_tract(
    tensors: Vec<TensorProto>,
    nodes: Vec<NodeProto>,
    one_picture: bool,
) -> Result<Lowered, Refusal> {
    let opsets = [OperatorSetIdProto { domain: String::new(), version: 13 }];
    lowered_with(
        &[2, 4, 4],
        tensors,
        nodes,
        Some(Others { engine: &crate::model::tract::Tract, opsets: &opsets, one_picture, threads: 1 }),
    )
}

#[cfg(feature = "tract")]
#[test]
fn tract_runs_what_has_no_kernel_between_layers() {
    let (tensors, conv) = conv();
    let again = with(node("Conv", &["cosh", "w", "b"], "again"), "pads", &[1, 1, 1, 1]);
    // two values of one part are read by kernels
    let nodes = vec![
        conv.clone(),
        node("Atan", &["conv"], "angle"),
        node("Cosh", &["angle"], "cosh"),
        again,
        node("Sinh", &["angle"], "sinh"),
        node("Add", &["again", "sinh"], "y"),
    ];
    let mut lowered = lowered_with_tract(tensors.clone(), nodes, false).unwrap();
    let tract: Vec<bool> = lowered.runners.iter().map(|runner| runner.starts_with("tract")).collect();
    assert_eq!(tract, [false, true, true, false, true, true], "{:?}", lowered.runners);
    let x: Vec<f32> = (0..32).map(|at| (at % 7) as f32 - 3.0).collect();
    let mut y = [0.0; 32];
    let mut copy = lowered.program.clone();
    lowered.program.run(&x, 0, &mut [&mut y]).unwrap();
    let between = run(&[2, 4, 4], tensors.clone(), vec![conv.clone()], &x);
    let cosh: Vec<f32> = between.iter().map(|value| value.atan().cosh()).collect();
    let after = run(&[2, 4, 4], tensors, vec![conv], &cosh);
    for ((y, after), between) in y.iter().zip(&after).zip(&between) {
        assert!((y - (after + between.atan().sinh())).abs() < 1e-5);
    }
    let mut second = [0.0; 32];
    copy.run(&x, 0, &mut [&mut second]).unwrap();
    assert_eq!(second, y);
}

#[cfg(feature = "tract")]
#[test]
fn tract_runs_nothing_that_mixes_the_pictures_of_a_batch() {
    let (tensors, conv) = conv();
    let part = |changed: NodeProto, one_picture: bool| {
        let last = with(node("Conv", &["c", "w", "b"], "y"), "pads", &[1, 1, 1, 1]);
        lowered_with_tract(tensors.clone(), vec![conv.clone(), changed, last], one_picture)
    };
    for (changed, apart) in [
        (with(node("Softmax", &["conv"], "c"), "axis", &[1]), true),
        (with(node("Softmax", &["conv"], "c"), "axis", &[-3]), true),
        (with(node("Softmax", &["conv"], "c"), "axis", &[0]), false),
        (with(node("Softmax", &["conv"], "c"), "axis", &[-4]), false),
        (node("Atan", &["conv"], "c"), true),
        (with(node("CumSum", &["conv", "axis"], "c"), "axis", &[0]), false),
    ] {
        let refused = part(changed.clone(), false).err();
        assert_eq!(refused.is_none(), apart, "{changed:?}: {refused:?}");
        // and what is said is why the kernels do not
        let said = refused.is_none_or(|refusal| refusal.reason.contains("has no kernel here"));
        assert!(said);
    }
    // nor another domain's operator of a name that it knows, nor what would fill the memory
    let mut foreign = node("Softplus", &["conv"], "c");
    foreign.domain = "mylib".into();
    assert!(part(foreign, true).is_err());
    let huge =
        tensor("huge", &[4], DataType::Int64, [1i64, 2, 1 << 20, 1 << 20].map(i64::to_le_bytes).concat());
    let nodes = vec![
        conv.clone(),
        node("Expand", &["conv", "huge"], "c"),
        with(node("Conv", &["c", "w", "b"], "y"), "pads", &[1, 1, 1, 1]),
    ];
    assert!(lowered_with_tract([tensors.clone(), vec![huge]].concat(), nodes, true).is_err());
    let softmax = with(node("Softmax", &["conv"], "c"), "axis", &[0]);
    assert!(part(softmax, true).is_ok());
}

#[test]
fn tract_gets_levels_as_floats_unless_it_computes_in_integers() {
    let initializer = vec![floats("scale", &[], &[0.5]), level("zero", 3)];
    let quantise = node("QuantizeLinear", &["x", "scale", "zero"], "q");
    let back = node("DequantizeLinear", &["q", "scale", "zero"], "y");
    let kinds =
        |graph: &GraphProto| -> Vec<String> { graph.node.iter().map(|n| n.op_type.clone()).collect() };
    let node = vec![quantise, back];
    let mut graph = GraphProto { node, initializer, ..GraphProto::default() };
    let mut integers = graph.clone();
    integers.node.push(NodeProto { op_type: "MatMulInteger".into(), ..NodeProto::default() });
    super::for_engine(&mut graph, &[], |_, _| None).unwrap();
    assert_eq!(kinds(&graph), ["Div", "Round", "Add", "Clip", "Sub", "Mul"]);
    assert_eq!(graph.node[5].output, ["y"]);
    super::for_engine(&mut integers, &[], |_, _| None).unwrap();
    let becomes = ["Div", "Round", "Add", "Clip", "Cast", "DequantizeLinear", "MatMulInteger"];
    assert_eq!(kinds(&integers), becomes);
    assert_eq!(integers.node[5].input[0], integers.node[4].output[0]);
}

/// tract reads out of bounds where an input has fewer axes than it assumes.
#[test]
fn values_of_too_few_axes_never_reach_tract() {
    let channels = ["scale", "shift", "mean", "variance"].map(|name| floats(name, &[3], &[0.5, 1.0, 2.0]));
    let normed = |before: NodeProto| {
        let batch_norm = node("BatchNormalization", &["a", "scale", "shift", "mean", "variance"], "y");
        let node = vec![before, batch_norm, node("Tanh", &["y"], "z")];
        let input = vec![ValueInfoProto { name: "x".into(), r#type: None }];
        let mut graph = GraphProto { node, input, initializer: channels.to_vec(), ..GraphProto::default() };
        // of values whose shapes are asked for, only the input's is known: one axis
        super::for_engine(&mut graph, &[], |_, name| (name == "x").then(|| vec![1]))
    };
    let (place, reason) = normed(node("Tanh", &["x"], "a")).unwrap_err();
    assert!(place == 1 && reason.contains("1 axes"), "{reason}");
    let (place, reason) = normed(node("ReduceMean", &["x"], "a")).unwrap_err();
    assert!(place == 1 && reason.contains("not known"), "{reason}");
}
