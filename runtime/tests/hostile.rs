//! Small files that ask for much: refused, or run, in little memory and time. Each is opened by a process of its own with a limit on
//! its memory, which a large allocation would end.

mod common;

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use common::{Builder, int, ints};
use tract_onnx::pb::tensor_proto::DataType;

/// KiB of address space.
const MEMORY: u32 = 3 << 20;
/// What takes longer does not end.
const TIME: Duration = Duration::from_secs(60);

/// Draws a picture of a file's bytes.
fn generate(name: &str, bytes: &[u8]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(format!("{name}.onnx"));
    std::fs::write(&path, bytes).unwrap();
    let out = folder.path().join("out.npy");
    let call = format!("ulimit -v {MEMORY}; exec \"$0\" generate \"$1\" --range signed --out \"$2\"");
    let start = Instant::now();
    let output = Command::new("sh")
        .args(["-c", &call, env!("CARGO_BIN_EXE_edgegen")])
        .args([&path, &out])
        .output()
        .unwrap();
    assert!(start.elapsed() < TIME, "{name} took {:?}", start.elapsed());
    output
}

fn refused(name: &str, bytes: &[u8], expected: &str) {
    let output = generate(name, bytes);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{name}: {errors}");
    assert!(errors.lines().count() == 1 && errors.contains(expected), "{name}: {errors}");
}

fn drawn(name: &str, bytes: &[u8]) {
    let output = generate(name, bytes);
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A latent of four values as a picture (1, C, H, W).
fn picture(shape: [i64; 3]) -> Builder {
    let latent = shape.iter().product();
    Builder::new()
        .input("z", &[1, latent], DataType::Float)
        .shape("s", &[1, shape[0], shape[1], shape[2]])
        .node("Reshape", &["z", "s"], &["r"], vec![])
}

#[test]
fn windows_that_ask_for_a_terabyte_are_refused() {
    let pads = picture([4, 1, 1]).random("w", &[3, 4, 1, 1], 1.0);
    let conv = pads.node("Conv", &["r", "w"], &["c"], vec![ints("pads", &[8191; 4])]);
    let crop = conv.node("Conv", &["c", "v"], &["x"], vec![ints("strides", &[8000, 8000])]);
    let model = crop.random("v", &[3, 3, 1, 1], 1.0).output("x", &[1, 3, 3, 3]);
    refused("pads", &model.bytes(), "too many");
    // what it makes is small, and so is what is read
    let far = picture([4, 1, 1]).random("w", &[3, 4, 1, 1], 1.0);
    let attributes = vec![ints("pads", &[8191; 4]), ints("strides", &[8000, 8000])];
    let model = far.node("Conv", &["r", "w"], &["x"], attributes).output("x", &[1, 3, 3, 3]);
    drawn("far", &model.bytes());
    let attributes = vec![ints("pads", &[i64::MAX; 4])];
    let model = picture([4, 1, 1]).random("w", &[3, 4, 1, 1], 1.0);
    refused(
        "endless",
        &model.node("Conv", &["r", "w"], &["x"], attributes).output("x", &[1, 3, 3, 3]).bytes(),
        "pads of",
    );
}

#[test]
fn weights_that_grow_are_charged() {
    let spread = |channels: i64| {
        let model = picture([channels, 1, 1]).random("w", &[channels, 3, 1, 1], 1.0);
        let attributes = vec![ints("strides", &[64, 64]), ints("output_padding", &[63, 63])];
        model.node("ConvTranspose", &["r", "w"], &["x"], attributes).output("x", &[1, 3, 64, 64]).bytes()
    };
    drawn("grown", &spread(16));
    // spread they would be 3 GB, so that tract runs it
    drawn("overgrown", &spread(60_000));
}

#[test]
fn many_nodes_take_time_that_grows_with_them() {
    let chain = |operator: &str, count: usize| {
        let mut model = picture([1, 2, 2]);
        let mut from = "r".to_string();
        for index in 0..count {
            let to = format!("v{index}");
            let inputs: &[&str] = if operator == "Reshape" { &[&from, "s"] } else { &[&from] };
            model = model.node(operator, inputs, &[&to], vec![]);
            from = to;
        }
        model.node("Tanh", &[&from], &["x"], vec![]).output("x", &[1, 1, 2, 2]).bytes()
    };
    drawn("relus", &chain("Relu", 20_000));
    drawn("reshapes", &chain("Reshape", 20_000));
    refused("atans", &chain("Atan", 20_000), "at most 10000");
    refused("endless", &chain("Relu", 70_000), "at most 65536");
}

#[test]
fn sizes_whose_product_wraps_are_refused() {
    for target in
        [[1, 1 << 40, 1 << 40, 1 << 40], [1, 1 << 32, 1 << 32, 4], [1, i64::MAX, 2, 2], [1, -2, -2, 1]]
    {
        let model = Builder::new().input("z", &[1, 4], DataType::Float).shape("s", &target);
        let model = model.node("Reshape", &["z", "s"], &["x"], vec![]).output("x", &[1, 1, 2, 2]);
        refused("wrapped", &model.bytes(), "a shape [");
    }
}

#[test]
fn constants_and_copies_without_end_are_refused() {
    let times = picture([1, 2, 2]).shape("t", &[1, 1, 1 << 15, 1 << 15]);
    let model = times.node("Tile", &["r", "t"], &["x"], vec![]).output("x", &[1, 1, 65536, 65536]);
    refused("tiled", &model.bytes(), "too many");
    let model = picture([1, 2, 2]).shape("t", &[1 << 20, 1 << 20]);
    let model =
        model.node("ConstantOfShape", &["t"], &["c"], vec![]).node("ReduceMax", &["c"], &["m"], vec![]);
    refused(
        "filled",
        &model.node("Add", &["r", "m"], &["x"], vec![]).output("x", &[1, 1, 2, 2]).bytes(),
        "too many",
    );
    let model = picture([4, 1, 1]).node("DepthToSpace", &["r"], &["x"], vec![int("blocksize", 1 << 40)]);
    refused("blocks", &model.output("x", &[1, 1, 2, 2]).bytes(), "");
}

#[test]
fn axes_that_are_there_twice_are_refused() {
    let model = picture([1, 2, 2]).node("Elu", &["r"], &["e"], vec![]);
    let model = model.node("Transpose", &["e"], &["x"], vec![ints("perm", &[0, 1, 1, 2])]);
    refused("turned", &model.output("x", &[1, 1, 2, 2]).bytes(), "there twice");
}

/// A message of nothing takes two bytes in a file, and hundreds in memory; a packed number one, and eight.
#[test]
fn messages_that_take_more_memory_than_file_are_counted() {
    let varint = |mut value: usize| {
        let mut bytes = Vec::new();
        while value > 127 {
            bytes.push((value & 127) as u8 | 128);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    };
    let field = |tag: u8, content: Vec<u8>| [vec![tag], varint(content.len()), content].concat();
    let model = |graph: Vec<u8>| {
        let opset = field(0x42, [field(0x0a, vec![]), vec![0x10, 13]].concat());
        [vec![0x08, 8], field(0x3a, graph), opset].concat()
    };
    refused("empty", &model([0x0a, 0].repeat(20_000_000)), "more nodes, attributes and names");
    // dimensions of a weight
    refused("packed", &model(field(0x2a, field(0x0a, vec![1; 100_000_000]))), "damaged");
}
