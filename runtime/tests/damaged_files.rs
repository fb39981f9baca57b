//! Damaged ONNX files: cut off anywhere, any byte changed. Opening and running them may fail, with
//! one line that names the file; it must not panic, hang or take all memory.

mod common;

use edgegen_runtime::model::{Model, OpenOptions};
use edgegen_runtime::random::{Purpose, Stream};
use prost::Message;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::dimension;
use tract_onnx::pb::{GraphProto, TensorProto, type_proto};

/// Changed files per model and kind of change.
const CASES: u64 = 400;

/// Opens, and if that works also runs. Returns true if it did.
fn survives(bytes: &[u8]) -> bool {
    let check = |line: String| {
        assert!(line.contains("damaged.onnx") && !line.contains('\n') && line.len() < 1000, "{line}");
        false
    };
    let model = match Model::from_bytes(bytes, "damaged.onnx", &OpenOptions::default()) {
        Ok(model) => model,
        Err(error) => return check(error.to_string()),
    };
    let (values, latent_dim) = (model.facts().image.values(), model.facts().latent_dim);
    if model.facts().part.draws() {
        match model.into_generator(1).and_then(|mut g| g.run(&vec![0.5; latent_dim], &[]).map(<[f32]>::len)) {
            Ok(length) => length == values,
            Err(error) => check(error.to_string()),
        }
    } else {
        match model.into_encoder(1).and_then(|mut e| e.run(&vec![0.5; values])) {
            Ok(posterior) => posterior.mean.len() == latent_dim,
            Err(error) => check(error.to_string()),
        }
    }
}

fn models() -> [Vec<u8>; 3] {
    [common::decoder().bytes(), common::encoder().bytes(), common::foreign_generator(-1, "Tanh").bytes()]
}

#[test]
fn whole_files_work() {
    models().iter().for_each(|bytes| assert!(survives(bytes)));
}

#[test]
fn files_cut_off_anywhere_are_refused_or_run() {
    for (index, bytes) in models().iter().enumerate() {
        let mut stream = Stream::new(1, Purpose::EVALUATION, index as u64);
        let random = (0..CASES).map(|_| stream.below(bytes.len() as u32) as usize);
        for length in (0..64.min(bytes.len())).chain(random) {
            survives(&bytes[..length]);
        }
    }
}

#[test]
fn files_with_changed_bytes_are_refused_or_run() {
    let mut worked = 0;
    for (index, bytes) in models().iter().enumerate() {
        for case in 0..CASES {
            let mut stream = Stream::new(2 + index as u64, Purpose::EVALUATION, case);
            let mut damaged = bytes.clone();
            for _ in 0..=stream.below(3) {
                let at = stream.below(bytes.len() as u32) as usize;
                damaged[at] = stream.word() as u8;
            }
            worked += usize::from(survives(&damaged));
        }
    }
    // Most bytes are weights: files with other weights still work.
    assert!(worked > 0);
}

/// Numbers that are at the edge of something.
const EDGES: [i64; 10] = [0, 1, -1, 2, 3, 7, 255, 1 << 20, i64::MAX, i64::MIN];

/// Sizes and attributes are a small part of a file: here they are all that is changed, and the file
/// is otherwise in order.
#[test]
fn files_with_other_numbers_are_refused_or_run() {
    for (index, model) in
        [common::decoder(), common::encoder(), common::foreign_generator(-1, "Tanh")].iter().enumerate()
    {
        for case in 0..4 * CASES {
            let mut stream = Stream::new(20 + index as u64, Purpose::EVALUATION, case);
            let mut proto = model.proto.clone();
            for _ in 0..=stream.below(2) {
                change_a_number(proto.graph.as_mut().unwrap(), &mut stream);
            }
            survives(&proto.encode_to_vec());
        }
    }
}

fn pick<'a, T>(items: &'a mut [T], stream: &mut Stream) -> Option<&'a mut T> {
    if items.is_empty() { None } else { Some(&mut items[stream.below(items.len() as u32) as usize]) }
}

fn change_a_number(graph: &mut GraphProto, stream: &mut Stream) {
    let edge = EDGES[stream.below(EDGES.len() as u32) as usize];
    match stream.below(6) {
        0 | 1 => {
            let Some(node) = pick(&mut graph.node, stream) else { return };
            let Some(attribute) = pick(&mut node.attribute, stream) else { return };
            attribute.i = edge;
            attribute.f = edge as f32;
            match stream.below(4) {
                0 => attribute.ints.push(edge),
                1 => drop(attribute.ints.pop()),
                _ => pick(&mut attribute.ints, stream).into_iter().for_each(|value| *value = edge),
            }
        }
        2 => {
            let Some(weight) = pick(&mut graph.initializer, stream) else { return };
            pick(&mut weight.dims, stream).into_iter().for_each(|dim| *dim = edge);
        }
        3 => {
            // The content of shapes (int64) and of Resize's scales (float32).
            let small = |weight: &&mut TensorProto| weight.raw_data.len() <= 32;
            let mut weights: Vec<&mut TensorProto> = graph.initializer.iter_mut().filter(small).collect();
            let Some(weight) = pick(&mut weights, stream) else { return };
            let float = weight.data_type == DataType::Float as i32;
            let bytes =
                if float { (edge as f32).to_le_bytes().to_vec() } else { edge.to_le_bytes().to_vec() };
            let mut numbers: Vec<&mut [u8]> = weight.raw_data.chunks_exact_mut(bytes.len()).collect();
            pick(&mut numbers, stream).into_iter().for_each(|number| number.copy_from_slice(&bytes));
        }
        4 => {
            let Some(node) = pick(&mut graph.node, stream) else { return };
            match stream.below(3) {
                0 => drop(node.input.pop()),
                1 => pick(&mut node.input, stream).into_iter().for_each(String::clear),
                _ => node.input.reverse(),
            }
        }
        _ => {
            let Some(port) = pick(&mut graph.input, stream) else { return };
            let Some(type_proto::Value::TensorType(tensor)) =
                port.r#type.as_mut().and_then(|t| t.value.as_mut())
            else {
                return;
            };
            let dims = tensor.shape.as_mut().map(|shape| &mut shape.dim[..]);
            let dim = pick(dims.unwrap_or_default(), stream);
            dim.into_iter().for_each(|dim| dim.value = Some(dimension::Value::DimValue(edge)));
        }
    }
}
