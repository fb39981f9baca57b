//! What a picture costs in memory: nothing, once a network is open. The counting allocator is the test binary's own.

use allocation_counter::measure;
use edgegen_runtime::generate::Latents;
use edgegen_runtime::model::{Model, OpenOptions, Range};

/// A file of `tests/zoo`, or of a shipped model.
fn open(file: &str) -> Model {
    let path = format!("{}/../{file}", env!("CARGO_MANIFEST_DIR"));
    let options = OpenOptions { range: Some(Range::Signed), ..OpenOptions::default() };
    let options = if file.starts_with("models") { OpenOptions::default() } else { options };
    let model = Model::open(path.as_ref(), &options).unwrap();
    assert_eq!(model.facts().tract, None);
    model
}

#[test]
fn a_frame_allocates_nothing() {
    for file in [
        "models/mnist-gan/generator.int8.onnx",
        "models/mnist-vae2/decoder.fp32.onnx",
        "models/mnist-vae2/decoder.int8.onnx",
        "tests/zoo/dcgan28.old.onnx",
        "tests/zoo/dcgan28.old.qoperator.onnx",
    ] {
        let mut generator = open(file).into_generator(1).unwrap();
        let latents = Latents::from_seed(1, 0, 3, generator.latent_dim(), 1.0);
        let mut pixels = vec![0; generator.image_shape().values()];
        let class = generator.is_conditional().then_some(3);
        // the first run may size buffers
        generator.frame_into(latents.row(0), class, &mut pixels).unwrap();
        let counted = measure(|| {
            for index in 0..3 {
                generator.frame_into(latents.row(index), class, &mut pixels).unwrap();
            }
        });
        assert_eq!(counted.count_total, 0, "{file}: {counted:?}");
    }
}

#[test]
fn an_encoder_allocates_its_posterior_alone() {
    for precision in ["fp32", "int8"] {
        let mut encoder =
            open(&format!("models/mnist-vae2/encoder.{precision}.onnx")).into_encoder(1).unwrap();
        let image = vec![0.5; encoder.image_shape().values()];
        encoder.run(&image).unwrap();
        let counted = measure(|| drop(encoder.run(&image).unwrap()));
        assert_eq!(counted.count_total, 2, "mean and log-variance: {counted:?}");
    }
}
