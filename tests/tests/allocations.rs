//! What a picture costs in memory: nothing, once a network is open. The counting allocator is the test binary's own.

use allocation_counter::measure;
use edgegen_runtime::generate::Latents;
use edgegen_runtime::model::{Model, OpenOptions, Precision};

fn open(model: &str, part: &str, precision: Precision) -> Model {
    let path = format!("{}/../models/{model}/{part}.{precision}.onnx", env!("CARGO_MANIFEST_DIR"));
    let model = Model::open(path.as_ref(), &OpenOptions::default()).unwrap();
    assert_eq!(model.facts().stock, None);
    model
}

#[test]
fn a_frame_allocates_nothing() {
    for (model, part) in [("mnist-vae", "decoder"), ("mnist-gan", "generator")] {
        for precision in [Precision::Fp32, Precision::Fp16, Precision::Int8] {
            let mut generator = open(model, part, precision).into_generator(1).unwrap();
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
            assert_eq!(counted.count_total, 0, "{model} {precision}: {counted:?}");
        }
    }
}

#[test]
fn an_encoder_allocates_its_posterior_alone() {
    for precision in [Precision::Fp32, Precision::Fp16, Precision::Int8] {
        let mut encoder = open("mnist-vae", "encoder", precision).into_encoder(1).unwrap();
        let image = vec![0.5; encoder.image_shape().values()];
        encoder.run(&image).unwrap();
        let counted = measure(|| drop(encoder.run(&image).unwrap()));
        assert_eq!(counted.count_total, 2, "mean and log-variance: {counted:?}");
    }
}
