//! Models through the library: what is read out of them, what comes out of them, what is refused.

mod common;

use common::{Builder, LATENT, decoder, encoder, foreign_generator, int};
use edgegen_runtime::generate::Latents;
use edgegen_runtime::model::{
    ImageShape, Kind, Metadata, Model, ModelFolder, OpenOptions, Part, PixelFormat, Precision, Range,
    Spelling,
};
use edgegen_runtime::{Error, Result};
use tract_onnx::pb::tensor_proto::DataType;

/// Bound on the difference of one picture computed alone and in a batch. Both are float32 sums of
/// at most a few hundred products in another order, through a sigmoid of slope 1/4 at most.
const BATCH_TOLERANCE: f32 = 1e-5;

fn open(model: &Builder) -> Result<Model> {
    Model::from_bytes(&model.bytes(), "test.onnx", &OpenOptions::default())
}

fn open_with(model: &Builder, options: OpenOptions) -> Result<Model> {
    Model::from_bytes(&model.bytes(), "test.onnx", &options)
}

#[track_caller]
fn refused<T>(result: Result<T>, expected: &str) {
    let Err(error) = result else { panic!("accepted, though {expected:?} was expected") };
    let line = error.to_string();
    assert!(line.contains(expected) && line.contains("test.onnx") && !line.contains('\n'), "{line}");
}

#[test]
fn facts_come_from_metadata_and_graph() {
    let model = open(&decoder()).unwrap();
    let facts = model.facts();
    assert_eq!((facts.part, facts.latent_dim), (Part::Decoder, LATENT));
    assert_eq!(facts.image, ImageShape { channels: 1, height: 28, width: 28 });
    assert_eq!(
        (facts.range, facts.pixel_format, facts.precision),
        (Some(Range::Unit), PixelFormat::Gray8, Precision::Fp32)
    );
    assert_eq!(facts.metadata.kind, Some(Kind::Vae));
    assert_eq!((facts.opset, facts.ir_version), (17, 8));
    let dense = 196 * 8 + 196;
    assert_eq!(facts.parameters, dense + (4 * 6 * 16 + 6) + (6 * 9 + 1)); // not the scales of Resize
    let macs = 196 * 8 + 49 * 4 * 6 * 16 + 784 * 6 * 9;
    assert_eq!(facts.macs, Some(macs));
    assert_eq!(facts.operators["ConvTranspose"], 1);
    assert_eq!(facts.operators.values().sum::<usize>(), 8);
    assert_eq!((facts.inputs[0].name.as_str(), facts.inputs[0].shape.as_str()), ("latent", "N,8"));
    assert_eq!((facts.outputs[0].shape.as_str(), facts.outputs[0].dtype.as_str()), ("N,1,28,28", "float32"));
}

#[test]
fn a_foreign_generator_is_known_by_its_shapes() {
    let model = open(&foreign_generator(-1, "Tanh")).unwrap();
    let facts = model.facts();
    assert_eq!((facts.part, facts.latent_dim, facts.range), (Part::Generator, 6, Some(Range::Signed)));
    assert_eq!(facts.image.to_string(), "3x8x8");
    assert_eq!((facts.precision, facts.metadata.kind), (Precision::Fp32, None));
    assert_eq!(facts.macs, Some(6 * 8 * 16 + 16 * 8 * 3 * 16));
    assert_eq!(open(&foreign_generator(-1, "Sigmoid")).unwrap().facts().range, Some(Range::Unit));

    let options = OpenOptions { range: Some(Range::Unit), ..Default::default() };
    let known = open_with(&foreign_generator(-1, "Identity"), options).unwrap();
    assert_eq!(known.facts().range, Some(Range::Unit));
}

#[test]
fn a_network_without_a_range_has_values_and_no_pictures() {
    let latents = Latents::from_seed(1, 0, 2, 6, 1.0);
    for (spelling, expected) in [(Spelling::Flags, "--range signed"), (Spelling::Keys, "range = \"signed\"")]
    {
        let options = OpenOptions { spelling, ..Default::default() };
        let model = open_with(&foreign_generator(-1, "Identity"), options).unwrap();
        assert_eq!(model.facts().range, None);
        let mut generator = model.into_generator(1).unwrap();
        assert_eq!(generator.run(latents.values(), &[]).unwrap().len(), 2 * 3 * 8 * 8);
        let mut pixels = [0; 3 * 8 * 8];
        for error in [
            generator.range().unwrap_err(),
            generator.frames(&latents, &[]).unwrap_err(),
            generator.frame_into(latents.row(0), None, &mut pixels).unwrap_err(),
        ] {
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}

#[test]
fn the_user_tells_a_shape_that_the_file_leaves_open() {
    let open_input = |dims: &[i64], shape: Option<&str>| {
        let mut model = foreign_generator(-1, "Tanh");
        let graph = model.proto.graph.as_mut().unwrap();
        graph.input[0] =
            Builder::new().input("z", dims, DataType::Float).proto.graph.unwrap().input.remove(0);
        let shape = shape.map(|shape| shape.parse().unwrap());
        open_with(&model, OpenOptions { shape, ..Default::default() })
    };
    refused(open_input(&[-1, -1, 1, 1], None), "--shape");
    refused(open_input(&[-1, -1, -1, -1], None), "--shape");
    for shape in ["N,6,1,1", "1,6,1,1"] {
        let model = open_input(&[-1, -1, -1, -1], Some(shape)).unwrap();
        assert_eq!((model.facts().latent_dim, model.facts().part), (6, Part::Generator), "{shape}");
        assert!(model.into_generator(1).is_ok());
    }
    refused(open_input(&[-1, 6, 1, 1], Some("N,7,1,1")), "not (N,7,1,1)");
    refused(open_input(&[-1, 6, 1, 1], Some("N,6")), "not (N,6)");
    assert_eq!(open_input(&[2, 6, 1, 1], Some("N,6,1,1")).unwrap().into_generator(1).unwrap().batch(), 2);
}

#[test]
fn a_batch_that_the_file_fixes_is_the_bound_one() {
    let latents = Latents::from_seed(3, 0, 5, 6, 1.0);
    let mut free = open(&foreign_generator(-1, "Tanh")).unwrap().into_generator(5).unwrap();
    let mut fixed = open(&foreign_generator(2, "Tanh")).unwrap().into_generator(5).unwrap();
    assert_eq!((free.batch(), fixed.batch()), (5, 2));
    let expected = free.run(latents.values(), &[]).unwrap().to_vec();
    assert_close(&expected, fixed.run(latents.values(), &[]).unwrap());
    refused(open(&foreign_generator(0, "Tanh")), "batch size");
}

#[track_caller]
fn assert_close(a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len());
    let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= BATCH_TOLERANCE, "differs by {worst}");
}

#[test]
fn a_picture_does_not_depend_on_the_others() {
    let latents = Latents::from_seed(7, 0, 7, LATENT, 1.0);
    let mut alone = open(&decoder()).unwrap().into_generator(1).unwrap();
    let all = alone.run(latents.values(), &[]).unwrap().to_vec();
    for (index, expected) in all.chunks(784).enumerate() {
        // To the bit: the same network on the same latent.
        assert_eq!(alone.run(latents.row(index), &[]).unwrap(), expected);
    }
    for batch in [2, 3, 7, 16] {
        let mut generator = open(&decoder()).unwrap().into_generator(batch).unwrap();
        assert_close(generator.run(latents.values(), &[]).unwrap(), &all);
        // The padding of the last chunk must not be left over from the run before.
        assert_close(generator.run(latents.row(6), &[]).unwrap(), &all[6 * 784..]);
    }
    let frames = alone.frames(&latents, &[]).unwrap();
    let mut pixels = vec![0; 784];
    alone.frame_into(latents.row(4), None, &mut pixels).unwrap();
    assert_eq!(frames[4].pixels, pixels);
    assert!(frames[4].pixels.iter().any(|p| *p != frames[5].pixels[0]), "the pictures differ");
}

#[test]
fn values_are_those_of_the_formula() {
    // sigmoid(latent · weights + bias), a picture of 1 x 1 x 2, by hand.
    let model = Builder::new()
        .input("z", &[-1, 2], DataType::Float)
        .weight("w", &[2, 2], &[1.0, 2.0, -1.0, 0.5]) // (out, in)
        .weight("b", &[2], &[0.25, -0.5])
        .node("Gemm", &["z", "w", "b"], &["dense"], vec![int("transB", 1)])
        .shape("s", &[-1, 1, 1, 2])
        .node("Reshape", &["dense", "s"], &["planes"], vec![])
        .node("Sigmoid", &["planes"], &["x"], vec![])
        .output("x", &[-1, 1, 1, 2]);
    let mut generator = open(&model).unwrap().into_generator(1).unwrap();
    let values = generator.run(&[0.5, -1.0], &[]).unwrap();
    let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
    assert_close(values, &[sigmoid(0.5 - 2.0 + 0.25), sigmoid(-0.5 - 0.5 - 0.5)]);
}

#[test]
fn an_encoder_gives_mean_and_log_variance() {
    let images: Vec<f32> = (0..3 * 784).map(|i| (i % 97) as f32 / 96.0).collect();
    let mut alone = open(&encoder()).unwrap().into_encoder(1).unwrap();
    let mut pairs = open(&encoder()).unwrap().into_encoder(2).unwrap();
    assert_eq!((alone.latent_dim(), alone.image_shape().values(), pairs.batch()), (LATENT, 784, 2));
    let (a, b) = (alone.run(&images).unwrap(), pairs.run(&images).unwrap());
    assert_eq!((a.mean.len(), a.log_variance.len()), (3 * LATENT, 3 * LATENT));
    assert_close(&a.mean, &b.mean);
    assert_close(&a.log_variance, &b.log_variance);
    assert_ne!(a.mean, a.log_variance);
    // Mean and log-variance are told apart by name, not by order.
    let mut swapped = encoder();
    swapped.graph().output.swap(0, 1);
    assert_eq!(open(&swapped).unwrap().into_encoder(1).unwrap().run(&images).unwrap(), a);
    assert!(alone.run(&images[1..]).is_err() && alone.run(&[]).is_err());
}

#[test]
fn parts_are_not_mistaken_for_each_other() {
    assert!(open(&encoder()).unwrap().into_generator(1).is_err());
    assert!(open(&decoder()).unwrap().into_encoder(1).is_err());
    for batch in [0, 1_000_000] {
        assert!(matches!(open(&decoder()).unwrap().into_generator(batch), Err(Error::Invalid(_))));
    }
}

#[test]
fn latents_of_the_wrong_kind_are_refused() {
    let mut generator = open(&decoder()).unwrap().into_generator(1).unwrap();
    assert!(generator.run(&[0.0; LATENT + 1], &[]).is_err() && generator.run(&[], &[]).is_err());
    assert!(generator.run(&[f32::NAN; LATENT], &[]).is_err());
    assert!(generator.frames(&Latents::from_seed(0, 0, 1, LATENT * 2, 1.0), &[]).is_err());
    assert!(generator.frame_into(&[0.0; LATENT], None, &mut [0; 783]).is_err());
    assert!(generator.frame_into(&[0.0; 2 * LATENT], None, &mut [0; 784]).is_err());
    assert!(generator.run(&[0.0; LATENT], &[]).is_ok(), "and it still works");
}

#[test]
fn of_several_outputs_one_is_chosen() {
    let model = foreign_generator(-1, "Tanh").output("c", &[-1, 3, 8, 8]);
    refused(open(&model), "--output");
    let choose = |name: &str| {
        let range = Some(Range::Signed);
        open_with(&model, OpenOptions { output: Some(name.into()), range, ..OpenOptions::default() })
    };
    assert_eq!(choose("picture").unwrap().facts().operators.len(), 3);
    assert_eq!(choose("c").unwrap().facts().operators.len(), 2, "Tanh is not needed");
    refused(choose("d"), "\"picture\" (N,3,8,8), \"c\" (N,3,8,8)");
}

#[test]
fn of_several_inputs_only_what_is_needed_counts() {
    let unused = foreign_generator(-1, "Tanh").input("noise", &[-1, 4], DataType::Float);
    assert_eq!(open(&unused).unwrap().facts().inputs.len(), 1);
    let name = |name: &str| OpenOptions { input: Some(name.into()), ..Default::default() };
    assert!(open_with(&unused, name("z")).is_ok());
    refused(open_with(&unused, name("noise")), "\"z\" (N,6,1,1)");
    let both = Builder::new()
        .input("z", &[-1, 3, 8, 8], DataType::Float)
        .input("y", &[-1, 3, 8, 8], DataType::Float)
        .node("Add", &["z", "y"], &["sum"], vec![])
        .node("Tanh", &["sum"], &["x"], vec![])
        .output("x", &[-1, 3, 8, 8]);
    refused(open(&both), "\"z\" (N,3,8,8), \"y\" (N,3,8,8)");
}

/// A generator with one thing changed.
fn changed(change: impl FnOnce(&mut Builder)) -> Result<Model> {
    let mut model = foreign_generator(-1, "Tanh");
    change(&mut model);
    open(&model)
}

#[test]
fn graphs_that_are_not_sound_are_refused() {
    refused(changed(|m| m.proto.graph = None), "not an ONNX model");
    refused(changed(|m| m.proto.opset_import.clear()), "not an ONNX model");
    assert!(changed(|m| m.proto.opset_import[0].version = 7).is_ok());
    refused(changed(|m| m.proto.opset_import[0].version = 26), "opset 26");
    refused(changed(|m| m.proto.opset_import[0].version = 5), "opset 5");
    refused(changed(|m| m.proto.opset_import[0].version = i64::MIN), "opset -9");
    refused(changed(|m| m.proto.opset_import[0].domain = "com.example".into()), "which ONNX opset");
    assert!(changed(|m| m.graph().node.swap(0, 1)).is_ok(), "any order will do");
    refused(changed(|m| m.graph().node[0].input[0] = "c".into()), "itself");
    refused(changed(|m| m.graph().initializer.clear()), "before anything defines it");
    refused(changed(|m| m.graph().node[1].output[0] = "a".into()), "defined twice");
    refused(changed(|m| m.graph().output[0].name = "lost".into()), "\"lost\"");
    refused(changed(|m| m.graph().output.clear()), "no output");
    refused(changed(|m| m.graph().node[1].op_type = "Frobnicate".into()), "Frobnicate");
    refused(changed(|m| m.graph().node[1].op_type = "Line\nbreak".into()), "Line");
    refused(changed(|m| m.graph().initializer[0].dims = vec![i64::MAX, i64::MAX]), "test.onnx");
    refused(changed(|m| m.graph().initializer[0].dims = vec![-6, 8, 4, 4]), "test.onnx");
    refused(changed(|m| m.graph().initializer[0].data_type = DataType::Bfloat16 as i32), "as its shape says");
    refused(changed(|m| m.graph().initializer[0].data_location = Some(1)), "another file");
    refused(changed(|m| m.graph().input[0].r#type = None), "floats");
    refused(Model::from_bytes(b"", "test.onnx", &OpenOptions::default()), "empty");
    refused(Model::from_bytes(b"\x89PNG\r\n\x1a\n\0\0", "test.onnx", &OpenOptions::default()), "not an ONNX");
}

#[test]
fn inputs_and_outputs_of_other_kinds_are_refused() {
    let with_input = |shape: &[i64], dtype| {
        let mut model = foreign_generator(-1, "Tanh");
        model.graph().input.clear();
        open(&model.input("z", shape, dtype))
    };
    for floats in [DataType::Float16, DataType::Double, DataType::Bfloat16] {
        assert!(with_input(&[-1, 6, 1, 1], floats).is_ok(), "all floats are given in float32");
    }
    refused(with_input(&[-1, 6, 1, 1], DataType::Int64), "int64");
    refused(with_input(&[-1, 6, 1], DataType::Float), "(N,6,1)");
    refused(with_input(&[-1, -1, 1, 1], DataType::Float), "size of a latent");
    refused(with_input(&[-1, 7, 1, 1], DataType::Float), "test.onnx");
    refused(with_input(&[-1, 2, 8, 8], DataType::Float), "neither a latent");
    let picture = |channels: i64, side: i64| {
        let model = Builder::new()
            .input("z", &[-1, channels], DataType::Float)
            .shape("s", &[-1, channels, 1, 1])
            .node("Reshape", &["z", "s"], &["r"], vec![])
            .weight("k", &[4], &[1.0, 1.0, side as f32, side as f32])
            .node("Resize", &["r", "", "k"], &["big"], vec![common::text("mode", "nearest")])
            .node("Tanh", &["big"], &["x"], vec![])
            .output("x", &[-1, channels, side, side]);
        open(&model)
    };
    assert!(picture(3, 16).is_ok());
    // values that are no pictures can be had, not seen
    assert!(picture(2, 16).unwrap().facts().raster.as_ref().unwrap().image().is_none());
    assert!(picture(1, 8193).unwrap().facts().raster.as_ref().unwrap().image().is_none());
    refused(picture(1, 1 << 20), "too many");
}

/// Without the check the process would be ended by the failed allocation.
#[test]
fn constants_of_absurd_size_are_refused_before_they_are_computed() {
    for op in ["ConstantOfShape", "Expand"] {
        let inputs: &[&str] = if op == "Expand" { &["one", "huge"] } else { &["huge"] };
        let model = Builder::new()
            .input("z", &[-1, 3, 8, 8], DataType::Float)
            .weight("one", &[1], &[1.0])
            .shape("huge", &[1 << 20, 1 << 20, 1 << 10])
            .node(op, inputs, &["filled"], vec![])
            .node("ReduceMax", &["filled"], &["most"], vec![])
            .node("Add", &["z", "most"], &["sum"], vec![])
            .node("Tanh", &["sum"], &["x"], vec![])
            .output("x", &[-1, 3, 8, 8]);
        refused(open(&model), "too many");
    }
}

#[test]
fn metadata_has_to_agree_with_the_graph() {
    let with = |metadata: Metadata| open(&foreign_generator(-1, "Tanh").metadata(&metadata));
    let metadata = Metadata::default;
    refused(with(Metadata { latent_dim: Some(7), ..metadata() }), "edgegen.latent_dim is 7");
    refused(with(Metadata { pixel_format: Some(PixelFormat::Gray8), ..metadata() }), "edgegen.pixel_format");
    refused(with(Metadata { part: Some(Part::Encoder), ..metadata() }), "neither a latent");
    assert_eq!(
        with(Metadata { range: Some(Range::Unit), ..metadata() }).unwrap().facts().range,
        Some(Range::Unit)
    );
    let mut bad = foreign_generator(-1, "Tanh").metadata(&Metadata { seed: Some(1), ..metadata() });
    bad.proto.metadata_props[0].value = "one".into();
    refused(open(&bad), "edgegen.seed");
}

#[test]
fn a_folder_is_checked_against_its_manifest() {
    let temporary = tempfile::tempdir().unwrap();
    common::write_folder(temporary.path());
    let folder = ModelFolder::open(temporary.path()).unwrap();
    let options = OpenOptions::default();
    assert_eq!(folder.drawing_part().unwrap(), Part::Decoder);
    let path = folder.path_of(Part::Decoder, Precision::Fp32).unwrap();
    assert!(folder.open_part(Part::Decoder, None, &options).is_ok());
    let message = |result: Result<Model>| result.err().unwrap().to_string();

    let line = message(folder.open_part(Part::Decoder, Some(Precision::Int8), &options));
    assert!(line.contains("no int8 decoder") && line.contains("decoder.fp32.onnx"), "{line}");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let line = message(folder.open_part(Part::Decoder, None, &options));
    assert!(line.contains("decoder.fp32.onnx") && line.contains("SHA-256"), "{line}");
    std::fs::remove_file(&path).unwrap();
    let line = message(folder.open_part(Part::Decoder, None, &options));
    assert!(line.contains("decoder.fp32.onnx"), "{line}");
}

#[test]
fn every_opset_in_range_opens() {
    for opset in 7..=25 {
        open(&foreign_generator(-1, "Tanh").opset(opset)).unwrap().into_generator(1).unwrap();
    }
}

/// z · w + table[class], three classes: what a class adds can be read off.
fn conditional(names: &[&str]) -> Builder {
    let classes = names.iter().map(|name| name.to_string()).collect();
    Builder::new()
        .input("class", &[-1], DataType::Int64) // declared first: the order must not matter
        .input("z", &[-1, 4], DataType::Float)
        .weight("w", &[4, 16], &[0.25; 64])
        .weight("table", &[3, 16], &[[0.0; 16], [10.0; 16], [20.0; 16]].concat())
        .shape("s", &[-1, 1, 4, 4])
        .node("MatMul", &["z", "w"], &["h"], vec![])
        .node("Gather", &["table", "class"], &["row"], vec![int("axis", 0)])
        .node("Add", &["h", "row"], &["sum"], vec![])
        .node("Reshape", &["sum", "s"], &["x"], vec![])
        .output("x", &[-1, 1, 4, 4])
        .metadata(&Metadata { classes, range: Some(Range::Unit), ..Metadata::default() })
}

#[test]
fn a_conditional_generator_is_told_each_pictures_class() {
    let model = open(&conditional(&["cat", "dog", "7"])).unwrap();
    assert_eq!(model.facts().class_input.as_deref(), Some("class"));
    assert_eq!(model.facts().inputs.len(), 2);
    let mut generator = model.into_generator(2).unwrap();
    assert!(generator.is_conditional());
    assert_eq!((0..4).filter_map(|i| generator.class_in_turn(i)).collect::<Vec<_>>(), [0, 1, 2, 0]);
    for (name, class) in [("dog", Some(1)), ("2", Some(2)), ("7", Some(2)), ("3", None), ("bird", None)] {
        assert_eq!(generator.class_named(name).ok(), class, "{name}");
    }
    // five pictures in batches of two: classes are cut where latents are
    let latents = vec![1.0; 5 * 4];
    let classes = [2, 0, 1, 1, 2];
    let values = generator.run(&latents, &classes).unwrap().to_vec();
    for (picture, class) in values.chunks(16).zip(classes) {
        assert!(picture.iter().all(|value| *value == 1.0 + 10.0 * class as f32), "{class}: {picture:?}");
    }
    let mut pixels = vec![0; 16];
    generator.frame_into(&[0.0; 4], Some(0), &mut pixels).unwrap();
    assert!(pixels.iter().all(|level| *level == 0));
    refused(generator.run(&latents, &[]), "5 latents come with 0 classes");
    refused(generator.run(&latents, &[0, 1, 2, 3, 0]), "no class 3: it knows 0 to 2");
    refused(generator.frame_into(&[0.0; 4], None, &mut pixels), "class");

    let mut unnamed = open(&conditional(&[])).unwrap().into_generator(1).unwrap();
    assert_eq!((unnamed.class_in_turn(5), unnamed.class_named("2").ok()), (None, Some(2)));
    assert!(unnamed.class_named("cat").unwrap_err().to_string().contains("number"));
    refused(unnamed.run(&[0.0; 4], &[9]), "test.onnx"); // the graph has no such row

    let mut plain = open(&foreign_generator(-1, "Tanh")).unwrap().into_generator(1).unwrap();
    assert_eq!(plain.class_in_turn(0), None);
    assert!(plain.class_named("0").unwrap_err().to_string().contains("not conditioned on a class"));
    refused(plain.run(&[0.0; 6], &[0]), "told no class");
}

#[test]
fn an_integer_input_that_is_no_class_is_not_guessed() {
    let mut model = conditional(&[]);
    for name in &mut model.graph().node[1].input {
        *name = name.replace("class", "step");
    }
    model.graph().input[0].name = "step".into();
    refused(open(&model), "several inputs");
    // declared classes say what it is, whatever its name
    let mut named = conditional(&["cat", "dog", "bird"]);
    named.graph().node[1].input[1] = "step".into();
    named.graph().input[0].name = "step".into();
    assert_eq!(open(&named).unwrap().facts().class_input.as_deref(), Some("step"));
}
