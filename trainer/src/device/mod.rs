//! The steps of a VAE and a GAN on candle's tensors: for CUDA. A run's state is copied there at its start and
//! back whenever it is stored, judged or drawn from; everything else stays as it is on the CPU.
//!
//! The figures are the CPU's up to float rounding (the tests run these steps on candle's CPU device beside our own),
//! but not the bits: matrix products add in their own order.

mod adam;
mod augment;
mod gan;
mod layers;
mod vae;

use candle_core::{Device, Result, Tensor};

pub(crate) use gan::DeviceGan;
pub(crate) use vae::DeviceVae;

/// The first CUDA device.
///
/// # Errors
/// [`crate::Error::Config`] if CUDA is not built into this program, or there is no such device.
pub fn cuda() -> crate::Result<Device> {
    if !cfg!(feature = "cuda") {
        return Err(crate::Error::Config(
            "CUDA is not built into this program: build it with --features cuda, or use --device cpu".into(),
        ));
    }
    Device::new_cuda(0).map_err(|e| {
        crate::Error::Config(format!("there is no CUDA device to train on ({e}); use --device cpu"))
    })
}

/// ln(1 + e^x).
fn softplus(x: &Tensor) -> Result<Tensor> {
    x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?
}

/// What went wrong on a device, as the run's error.
pub(crate) fn failed(error: &candle_core::Error) -> crate::Error {
    // candle may append a backtrace: the first line says what it is
    let text = error.to_string();
    let what = text.lines().next().unwrap_or_default();
    crate::Error::Training(format!(
        "the device failed: {what}; the last checkpoint is kept, and a smaller --batch takes less of its memory"
    ))
}

/// On candle's CPU device, beside our own steps.
#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use edgegen_runtime::model::ImageShape;
    use edgegen_runtime::random::{Purpose, Stream};

    use super::*;
    use crate::gan::augment::Augmentation;
    use crate::gan::loss::Loss;
    use crate::gan::{self, Gan, GanConfig, Pace};
    use crate::network::Activation;
    use crate::network::form::{Architecture, NetworkConfig, Normalisation};
    use crate::network::module::{Gradients, Parameter};
    use crate::nn::adam::{Adam, AdamConfig};
    use crate::vae::{self, Binarize, Likelihood, ObjectiveConfig, Vae};

    const COUNT: usize = 6;
    const STEPS: u64 = 3;
    /// Where both sides add a few thousand f32 products in their own order, three steps after another.
    const TOLERANCE: f32 = 2e-4;
    /// With a large ε a step is about as large as its gradient: with the usual one, Adam makes rounding as large as
    /// anything where a gradient is nearly zero.
    const ADAM: AdamConfig = AdamConfig { beta1: 0.5, beta2: 0.999, epsilon: 1e-1 };
    const IMAGE: ImageShape = ImageShape { channels: 3, height: 16, width: 16 };

    fn network(architecture: Architecture) -> NetworkConfig {
        NetworkConfig {
            architecture,
            latent: 5,
            hidden: Vec::new(),
            base: 4,
            activation: Activation::Relu,
            conditional: true,
        }
    }

    fn noise(count: usize, index: u64) -> Vec<f32> {
        let mut values = vec![0f32; count];
        Stream::new(4, Purpose::Evaluation, index).fill_normal(&mut values);
        values
    }

    fn classes() -> Arc<[u32]> {
        Arc::new([0, 2, 1, 1, 0, 2])
    }

    #[track_caller]
    fn same<'a>(
        what: &str,
        ours: impl Iterator<Item = &'a Parameter>,
        theirs: impl Iterator<Item = &'a Parameter>,
        before: impl Iterator<Item = &'a Parameter>,
    ) {
        for ((ours, theirs), before) in ours.zip(theirs).zip(before) {
            let moved = ours.value.iter().zip(&before.value).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
            assert!(moved > 0.0, "{what}: {} stayed", ours.name);
            let worst = ours.value.iter().zip(&theirs.value).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
            assert!(
                worst <= TOLERANCE * moved.max(0.1),
                "{what}: {} differs by {worst}, moved by {moved}",
                ours.name
            );
        }
    }

    #[test]
    fn a_vae_takes_the_same_steps() {
        for (architecture, likelihood) in
            [(Architecture::Conv, Likelihood::Bernoulli), (Architecture::Mlp, Likelihood::Gaussian)]
        {
            let objective = ObjectiveConfig {
                likelihood,
                sigma: 0.5,
                binarize: Binarize::No,
                beta: 0.7,
                beta_warmup: 0,
                free_bits: 0.05,
                denoise: 0.0,
            };
            let config = NetworkConfig { hidden: vec![12], ..network(architecture) };
            let vae = || Vae::new(&config, IMAGE, 3, 1).unwrap();
            let (mut ours, mut theirs, before) = (vae(), vae(), vae());
            let mut adam = Adam::new(&[&ours.encoder, &ours.decoder], ADAM);
            let mut gradients = [Gradients::of(&ours.encoder), Gradients::of(&ours.decoder)];
            let mut on_device = DeviceVae::of(&theirs, &adam, &Device::Cpu).unwrap();
            for step in 0..STEPS {
                let pictures: Vec<f32> = noise(COUNT * IMAGE.values(), 2 * step)
                    .iter()
                    .map(|x| (0.5 + 0.2 * x).clamp(0.0, 1.0))
                    .collect();
                let noise = noise(COUNT * config.latent, 2 * step + 1);
                let example = vae::Example {
                    seen: &pictures,
                    clean: &pictures,
                    noise: &noise,
                    classes: Some(classes()),
                };
                gradients.iter_mut().for_each(Gradients::clear);
                let found = ours.learn(&example, &objective, 0.7, &mut gradients).means();
                let [of_encoder, of_decoder] = &mut gradients;
                let norm = Gradients::clip(&mut [of_encoder, of_decoder], 5.0);
                adam.update(&mut [(&mut ours.encoder, of_encoder), (&mut ours.decoder, of_decoder)], 0.05);
                let (terms, their_norm) =
                    on_device.learn(&theirs, &example, &objective, 0.7, (0.05, 5.0)).unwrap();
                let means = terms.means();
                let close = |a: f64, b: f64| (a - b).abs() < 1e-4 * a.abs().max(1.0);
                assert!(close(found.0, means.0) && close(found.1, means.1), "{found:?} {means:?}");
                assert!(close(norm, their_norm), "{norm} {their_norm}");
            }
            let mut their_adam = Adam::new(&[&theirs.encoder, &theirs.decoder], ADAM);
            on_device.store(&mut theirs, &mut their_adam).unwrap();
            assert_eq!(their_adam.steps(), STEPS);
            same("VAE", ours.parameters(), theirs.parameters(), before.parameters());
        }
    }

    #[test]
    fn a_gan_takes_the_same_steps() {
        let all = vec![Augmentation::Color, Augmentation::Translation, Augmentation::Cutout];
        let base = GanConfig {
            loss: Loss::NonSaturating,
            label_smoothing: 0.1,
            discriminator_base: 4,
            discriminator_norm: Normalisation::Batch,
            discriminator_rate: 1.5,
            discriminator_steps: 1,
            generator_delay: 0,
            discriminator_frozen: 0,
            r1: 0.0,
            r1_every: 2,
            augment: all.clone(),
            average: 0.9,
            features: String::new(),
        };
        let cases = [
            ("batch norm, augmentation", Architecture::Dcgan, base.clone()),
            (
                "spectral, every second step",
                Architecture::Upsample,
                GanConfig {
                    discriminator_norm: Normalisation::Spectral,
                    discriminator_steps: 2,
                    loss: Loss::Minimax,
                    ..base.clone()
                },
            ),
            (
                "R1 and batch norm",
                Architecture::Dcgan,
                GanConfig { r1: 0.3, augment: Vec::new(), ..base.clone() },
            ),
            (
                "R1 before augmentation",
                Architecture::Dcgan,
                GanConfig { discriminator_norm: Normalisation::None, r1: 0.3, augment: all, ..base.clone() },
            ),
        ];
        for (name, architecture, config) in cases {
            let gan = || Gan::new(&network(architecture), &config, ADAM, IMAGE, 3, 1).unwrap();
            let (mut ours, mut theirs, before) = (gan(), gan(), gan());
            let mut on_device = DeviceGan::of(&theirs, &Device::Cpu).unwrap();
            for step in 0..STEPS {
                let real: Vec<f32> =
                    noise(COUNT * IMAGE.values(), 2 * step).iter().map(|x| x.tanh()).collect();
                let latents = noise(COUNT * 5, 2 * step + 1);
                let example = gan::Example { real: &real, latents: &latents, classes: Some(classes()) };
                let pace = Pace { step, rate: 0.02, clip: 5.0 };
                let chance = || Stream::new(1, Purpose::Augment, step);
                let found = ours.learn(&example, pace, &mut chance());
                let figures = on_device.learn(&example, pace, &mut chance()).unwrap();
                for (a, b) in [
                    (found.discriminator_loss, figures.discriminator_loss),
                    (found.generator_loss.unwrap_or(-1.0), figures.generator_loss.unwrap_or(-1.0)),
                    (found.discriminator_norm, figures.discriminator_norm),
                    (found.generator_norm.unwrap_or(-1.0), figures.generator_norm.unwrap_or(-1.0)),
                    (found.slope.unwrap_or(-1.0), figures.slope.unwrap_or(-1.0)),
                ] {
                    assert!((a - b).abs() < 2e-3 * a.abs().max(0.1), "{name}: {found:?} {figures:?}");
                }
            }
            on_device.store(&mut theirs).unwrap();
            let steps = |gan: &Gan| gan.optimisers().map(|(adam, _)| adam.steps());
            assert_eq!(steps(&ours), steps(&theirs), "{name}");
            same(name, ours.parameters(), theirs.parameters(), before.parameters());
        }
    }
}
