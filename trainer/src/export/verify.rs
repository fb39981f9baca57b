//! The exported file against the trained network: the same inputs through the runtime and through
//! the trainer.

use edgegen_runtime::generate::Latents;
use edgegen_runtime::model::{Model, Part};

use crate::evaluate::HeldOut;
use crate::train::run::Trained;
use crate::{Error, Result};

/// Largest accepted difference of any output value: two orders above what reordering a few thousand
/// f32 additions of values around 1 gives, and far below one grey level (4·10⁻³).
pub const TOLERANCE: f64 = 1e-4;
/// Inputs that are compared.
const INPUTS: usize = 64;

/// The largest absolute difference over all outputs.
pub(super) fn compare(trained: &Trained, part: Part, model: Model) -> Result<f64> {
    let latent = trained.vae.latent;
    match part {
        Part::Encoder => {
            let (objective, pictures) = (&trained.config.objective, &trained.dataset.test);
            let shape = trained.dataset.shape;
            let held_out = HeldOut::new(&trained.vae, objective, shape, pictures, INPUTS);
            let count = held_out.count();
            let (_, images) = held_out.batch(0..count);
            let both = trained.vae.encoder.infer(&images, None);
            let posterior = model.into_encoder(count)?.run(&images)?;
            let rows = posterior.mean.chunks(latent).zip(posterior.log_variance.chunks(latent));
            let found: Vec<f32> =
                rows.flat_map(|(mean, log_variance)| [mean, log_variance].concat()).collect();
            largest_difference(&both, &found)
        }
        Part::Decoder | Part::Generator => {
            let latents = Latents::from_seed(trained.config.training.seed, 0, INPUTS, latent, 1.0);
            let expected = trained.vae.decoder.infer(latents.values(), None);
            let mut generator = model.into_generator(INPUTS)?;
            largest_difference(&expected, generator.run(latents.values())?)
        }
    }
}

fn largest_difference(expected: &[f32], found: &[f32]) -> Result<f64> {
    if expected.len() != found.len() {
        return Err(Error::Export(format!(
            "the file gives {} values, the network {}",
            found.len(),
            expected.len()
        )));
    }
    // NaN must not pass as "no difference"
    let worse = |worst: f64, (a, b): (&f32, &f32)| {
        let difference = f64::from((a - b).abs());
        if difference.is_nan() || difference > worst { difference } else { worst }
    };
    Ok(expected.iter().zip(found).fold(0.0, worse))
}
