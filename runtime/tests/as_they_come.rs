//! Files as other people's exporters write them: weights in other files, pictures in other orders, other types.

mod common;

use common::{Builder, conditional, foreign_generator, int, ints};
use edgegen_runtime::generate::Latents;
use edgegen_runtime::model::{Model, OpenOptions, Range};
use std::fs;
use std::path::Path;
use tract_onnx::pb::StringStringEntryProto;
use tract_onnx::pb::tensor_proto::DataType;

fn options() -> OpenOptions {
    OpenOptions { range: Some(Range::Signed), ..OpenOptions::default() }
}

fn drawn(model: Model) -> Vec<f32> {
    let mut generator = model.into_generator(1).unwrap();
    let latents = Latents::from_seed(3, 0, 2, generator.latent_dim(), 1.0);
    generator.run(latents.values(), &[]).unwrap().to_vec()
}

/// Moves all weights of a generator to the file `location`, one behind the other.
fn external(location: &str) -> (Builder, Vec<u8>) {
    let mut model = foreign_generator(-1, "Tanh");
    let mut all = Vec::new();
    for tensor in &mut model.graph().initializer {
        let bytes = std::mem::take(&mut tensor.raw_data);
        let entry = |key: &str, value: String| StringStringEntryProto { key: key.into(), value };
        tensor.external_data = vec![
            entry("location", location.into()),
            entry("offset", all.len().to_string()),
            entry("length", bytes.len().to_string()),
        ];
        tensor.data_location = Some(1);
        all.extend(&bytes[..]);
    }
    (model, all)
}

/// Writes a model and its weights, and opens it.
fn opened(folder: &Path, model: &Builder, weights: &[(&str, &[u8])]) -> Result<Model, String> {
    fs::create_dir_all(folder).unwrap();
    for (name, bytes) in weights {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let path = folder.join("m.onnx");
    fs::write(&path, model.bytes()).unwrap();
    Model::open(&path, &options()).map_err(|error| error.to_string())
}

#[test]
fn weights_may_lie_in_files_beside_the_model() {
    let whole = Model::from_bytes(&foreign_generator(-1, "Tanh").bytes(), "one", &options()).unwrap();
    let expected = drawn(whole);
    let folder = tempfile::tempdir().unwrap();
    for location in ["m.onnx.data", "weights/a.bin", "./b.bin"] {
        let (model, weights) = external(location);
        let model = opened(folder.path(), &model, &[(location, &weights)]).unwrap();
        assert!(model.facts().file_bytes > weights.len() as u64);
        assert_eq!(drawn(model), expected, "{location}");
    }
    // two names for the same numbers
    let (mut model, weights) = external("m.onnx.data");
    let places: Vec<_> =
        model.graph().initializer.iter().map(|tensor| tensor.external_data.clone()).collect();
    let again = tract_onnx::pb::TensorProto {
        name: "again".into(),
        external_data: places[0].clone(),
        ..model.graph().initializer[0].clone()
    };
    model.graph().initializer.push(again);
    assert!(opened(folder.path(), &model, &[("m.onnx.data", &weights)]).is_ok());
    // from memory nothing is known of a folder
    let line = Model::from_bytes(&model.bytes(), "memory", &options()).map(drop).unwrap_err().to_string();
    assert!(line.contains("another file") && line.contains("memory"), "{line}");
}

#[test]
fn files_that_are_not_what_they_should_be_are_named() {
    let refused = |model: &Builder, weights: &[(&str, &[u8])], expected: &str| {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("outside.bin"), vec![0; 1 << 16]).unwrap();
        let line = opened(&folder.path().join("model"), model, weights).map(drop).unwrap_err();
        assert!(line.contains(expected) && !line.contains('\n'), "{line}");
    };
    let (model, weights) = external("w.bin");
    refused(&model, &[], "w.bin is not there");
    refused(&model, &[("w.bin", &weights[..weights.len() - 1])], "behind the end of w.bin");
    refused(&external("../outside.bin").0, &[], "none of the model's folder");
    refused(&external("/etc/hostname").0, &[], "none of the model's folder");
    refused(&external("").0, &[], "none of the model's folder");
    let with = |key: &str, value: &str| {
        let (mut model, _) = external("w.bin");
        let entries = &mut model.graph().initializer[1].external_data;
        entries.iter_mut().filter(|entry| entry.key == key).for_each(|entry| entry.value = value.into());
        model
    };
    refused(&with("offset", "4"), &[("w.bin", &weights)], "overlap in w.bin");
    refused(&with("offset", "-4"), &[("w.bin", &weights)], "its offset is \"-4\"");
    refused(&with("offset", &u64::MAX.to_string()), &[("w.bin", &weights)], "behind the end");
    refused(&with("length", "4"), &[("w.bin", &weights)], "as many numbers as its shape says");
}

#[cfg(unix)]
#[test]
fn links_lead_into_a_hubs_cache_and_nowhere_else() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let (model, weights) = external("m.onnx.data");
    let cache = folder.path().join("models--a--b");
    let snapshot = cache.join("snapshots/0123");
    fs::create_dir_all(cache.join("blobs")).unwrap();
    fs::create_dir_all(&snapshot).unwrap();
    fs::write(cache.join("blobs/1"), model.bytes()).unwrap();
    fs::write(cache.join("blobs/2"), &weights).unwrap();
    symlink("../../blobs/1", snapshot.join("m.onnx")).unwrap();
    symlink("../../blobs/2", snapshot.join("m.onnx.data")).unwrap();
    assert!(Model::open(&snapshot.join("m.onnx"), &options()).is_ok());
    fs::remove_file(snapshot.join("m.onnx.data")).unwrap();
    fs::write(folder.path().join("elsewhere"), &weights).unwrap();
    symlink("../../../elsewhere", snapshot.join("m.onnx.data")).unwrap();
    let line = Model::open(&snapshot.join("m.onnx"), &options()).map(drop).unwrap_err().to_string();
    assert!(line.contains("link out of the model's folder"), "{line}");
}

/// A latent of 48 values in other shapes: (48), (4, 4, 3), …
fn moved(row: &[i64], order: Option<&[i64]>) -> Builder {
    let mut target = vec![-1];
    target.extend(row);
    let mut model = Builder::new().input("z", &[-1, 48], DataType::Float).shape("row", &target);
    model = model.node("Reshape", &["z", "row"], &["rows"], vec![]);
    let last = match order {
        Some(order) => {
            model = model.node("Transpose", &["rows"], &["turned"], vec![ints("perm", order)]);
            "turned"
        }
        None => "rows",
    };
    model.node("Tanh", &[last], &["image"], vec![]).output("image", &[-1])
}

#[test]
fn pictures_come_in_any_order() {
    let open = |model: &Builder| Model::from_bytes(&model.bytes(), "test.onnx", &options()).unwrap();
    let pixels = |model: &Builder| {
        let mut generator = open(model).into_generator(1).unwrap();
        let latents = Latents::from_seed(1, 0, 1, 48, 1.0);
        let frames = generator.frames(&latents, &[])?;
        Ok::<_, edgegen_runtime::Error>((frames[0].shape().to_string(), frames[0].pixels.clone()))
    };
    let (shape, planes) = pixels(&moved(&[3, 4, 4], None)).unwrap();
    assert_eq!(shape, "3x4x4");
    // the same values with their channels innermost
    let (shape, interleaved) = pixels(&moved(&[3, 4, 4], Some(&[0, 2, 3, 1]))).unwrap();
    assert_eq!((shape.as_str(), &interleaved), ("3x4x4", &planes));
    assert_eq!(pixels(&moved(&[8, 6], None)).unwrap().0, "1x8x6");
    assert_eq!(pixels(&moved(&[8, 6, 1], None)).unwrap().0, "1x8x6");
    assert_eq!(pixels(&moved(&[4, 6, 2], None)).unwrap().0, "3x6x2", "four channels are seen as three");
    // values without a picture
    for row in [&[48][..], &[2, 4, 6]] {
        let model = moved(row, None);
        let line = pixels(&model).unwrap_err().to_string();
        assert!(line.contains("test.onnx") && line.contains(".npy"), "{line}");
        let expected: Vec<usize> = row.iter().map(|size| *size as usize).collect();
        let generator = open(&model).into_generator(1).unwrap();
        assert_eq!(generator.raster().row(), expected);
    }
}

#[test]
fn the_size_of_a_latent_follows_from_the_matrix_that_reads_it() {
    let model = Builder::new()
        .input("z", &[-1, -1], DataType::Float)
        .random("w", &[12, 7], 0.3)
        .node("Gemm", &["z", "w"], &["rows"], vec![common::int("transB", 1)])
        .shape("row", &[-1, 1, 3, 4])
        .node("Reshape", &["rows", "row"], &["image"], vec![])
        .output("image", &[-1, 1, 3, 4]);
    let opened = Model::from_bytes(&model.bytes(), "test.onnx", &options()).unwrap();
    assert_eq!(opened.facts().latent_dim, 7);
}

#[test]
fn classes_are_told_in_any_form() {
    const CLASSES: i64 = 5;
    let draw = |model: &Builder| {
        let model = Model::from_bytes(&model.bytes(), "test.onnx", &options()).unwrap();
        let kernels = model.facts().tract.is_none();
        assert_eq!(model.facts().class_input.as_deref(), Some("class"));
        let mut generator = model.into_generator(3).unwrap();
        let latents = Latents::from_seed(4, 0, 3, 6, 1.0);
        (generator.run(latents.values(), &[4, 0, 2]).unwrap().to_vec(), kernels)
    };
    let (expected, kernels) = draw(&conditional(CLASSES));
    assert!(kernels);
    // the class's input is another, and `first` makes of it what the Gather reads
    let changed = |shape: &[i64], dtype, first: Option<(&str, Vec<_>)>, reads: &str| {
        let mut model = conditional(CLASSES);
        let mut input = Builder::new().input("class", shape, dtype);
        model.graph().input[1] = input.graph().input.remove(0);
        if let Some((kind, attributes)) = first {
            let mut nodes = Builder::new().node(kind, &["class"], &[reads], attributes);
            let node = nodes.graph().node.remove(0);
            model.graph().node.insert(0, node);
            model.graph().node[1].input[1] = reads.into();
        }
        model
    };
    let (found, kernels) = draw(&changed(&[-1], DataType::Int32, None, ""));
    assert!(kernels && found == expected);
    let squeeze = Some(("Flatten", vec![int("axis", 0)]));
    let column = |dtype| {
        let mut model = changed(&[-1, 1], dtype, squeeze.clone(), "row_of_classes");
        let reshape = &mut model.graph().node[0];
        (reshape.op_type, reshape.attribute) = ("Reshape".into(), vec![]);
        reshape.input.push("flat_shape".into());
        model.shape("flat_shape", &[-1])
    };
    for dtype in [DataType::Int64, DataType::Int32] {
        // tract runs these
        let found = draw(&column(dtype)).0;
        assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?}");
    }
    // a 1 among zeros, and a matrix
    let mut one_hot = changed(&[-1, CLASSES], DataType::Float, None, "");
    let gather = &mut one_hot.graph().node[0];
    (gather.op_type, gather.attribute) = ("MatMul".into(), vec![]);
    gather.input = vec!["class".into(), "table".into()];
    let (found, kernels) = draw(&one_hot);
    assert!(kernels && found == expected);
}

#[test]
fn a_network_may_make_pixels_itself() {
    let mut model = Builder::new()
        .input("z", &[-1, 48], DataType::Float)
        .shape("row", &[-1, 3, 4, 4])
        .node("Reshape", &["z", "row"], &["rows"], vec![])
        .node("Sigmoid", &["rows"], &["unit"], vec![])
        .weight("most", &[], &[255.0])
        .node("Mul", &["unit", "most"], &["levels"], vec![])
        .node("Cast", &["levels"], &["image"], vec![int("to", DataType::Uint8 as i64)]);
    let output = Builder::new().input("image", &[-1, 3, 4, 4], DataType::Uint8).graph().input.remove(0);
    model.graph().output.push(output);
    let opened = Model::from_bytes(&model.bytes(), "test.onnx", &OpenOptions::default()).unwrap();
    assert_eq!(opened.facts().range, Some(Range::Bytes));
    let mut generator = opened.into_generator(1).unwrap();
    let latents = Latents::from_seed(1, 0, 1, 48, 1.0);
    let pixels = generator.frames(&latents, &[]).unwrap().remove(0).pixels;
    let level = |value: &f32| (255.0 / (1.0 + (-value).exp())).floor() as u8;
    let planes: Vec<u8> = latents.values().iter().map(level).collect();
    for (index, pixel) in pixels.iter().enumerate() {
        let expected = planes[index % 3 * 16 + index / 3];
        assert!(pixel.abs_diff(expected) <= 1, "{pixel}, not {expected}");
    }
}

/// As Keras's autoencoders put them out.
#[test]
fn plain_values_are_the_picture_that_the_user_tells() {
    let model = Builder::new()
        .input("z", &[-1, 4], DataType::Float)
        .weight("w", &[4, 6], &[0.0; 24])
        .weight("b", &[6], &[0.0, 0.25, 0.5, 0.75, 1.0, 0.5])
        .node("MatMul", &["z", "w"], &["m"], vec![])
        .node("Add", &["m", "b"], &["x"], vec![])
        .output("x", &[-1, 6])
        .bytes();
    let open = |picture: Option<&str>| {
        let picture = picture.map(|text| text.parse().unwrap());
        let range = Some(Range::Unit);
        Model::from_bytes(&model, "test.onnx", &OpenOptions { picture, range, ..OpenOptions::default() })
    };
    let latents = Latents::from_seed(1, 0, 1, 4, 1.0);
    let mut plain = open(None).unwrap().into_generator(1).unwrap();
    let error = plain.frames(&latents, &[]).unwrap_err().to_string();
    assert!(error.contains("--picture CxHxW"), "{error}");
    let mut told = open(Some("1x2x3")).unwrap().into_generator(1).unwrap();
    let frames = told.frames(&latents, &[]).unwrap();
    assert_eq!(frames[0].shape().to_string(), "1x2x3");
    assert_eq!(frames[0].pixels, [0, 64, 128, 191, 255, 128]);
    assert_eq!(told.raster().row(), [6]);
    let error = open(Some("3x2x3")).err().unwrap().to_string();
    assert!(error.contains("no picture of 3x2x3"), "{error}");
    assert!("28x28".parse::<edgegen_runtime::model::ImageShape>().is_err());
}
