//! How well a VAE that learned what is usual tells what is not.

use edgegen_runtime::generate::{Likelihood, auroc};
use edgegen_runtime::model::{ImageShape, Range};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::compute::Backend;
use crate::data::{self, Pictures};
use crate::objective::vae::{self, ObjectiveConfig, Vae};

/// Pictures that are scored at once.
const BATCH: usize = 256;

/// How usual and odd pictures are told apart by their scores.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Apart {
    /// Usual test pictures.
    pub usual: usize,
    /// Odd ones.
    pub odd: usize,
    /// The probability that an odd picture's score is above a usual one's: the area under the ROC curve.
    pub auroc: f64,
}

impl std::fmt::Display for Apart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AUROC {:.4} ({} usual, {} odd test pictures)", self.auroc, self.usual, self.odd)
    }
}

/// The likelihood that scores are taken of.
pub fn likelihood<B: Backend>(vae: &Vae<B>, objective: &ObjectiveConfig) -> Likelihood {
    match objective.likelihood {
        vae::Likelihood::Bernoulli => Likelihood::Bernoulli,
        vae::Likelihood::Gaussian => Likelihood::Gaussian(vae.sigma(objective)),
    }
}

/// Each picture's negative evidence lower bound at its posterior's mean, nats; the decoder is told no class.
///
/// # Errors
/// The device's.
pub fn scores<B: Backend>(
    vae: &Vae<B>,
    objective: &ObjectiveConfig,
    shape: ImageShape,
    pictures: &Pictures,
) -> Result<Vec<f64>> {
    let (likelihood, values, latent) = (likelihood(vae, objective), shape.values(), vae.latent);
    let mut scores = Vec::with_capacity(pictures.count());
    for start in (0..pictures.count()).step_by(BATCH) {
        let images = data::batch(Range::Unit, shape, pictures, start..pictures.count().min(start + BATCH));
        let posterior = vae.encode(&images)?;
        let rebuilt = vae.decoder.infer(&posterior.mean, None)?;
        let latents = posterior.mean.chunks(latent).zip(posterior.log_variance.chunks(latent));
        for ((image, rebuilt), (mean, log_variance)) in
            images.chunks(values).zip(rebuilt.chunks(values)).zip(latents)
        {
            scores.push(likelihood.score(image, rebuilt, mean, log_variance));
        }
    }
    Ok(scores)
}

/// Tells usual and odd pictures apart; `None` if there are none of either.
///
/// # Errors
/// The device's.
pub fn measure<B: Backend>(
    vae: &Vae<B>,
    objective: &ObjectiveConfig,
    shape: ImageShape,
    (usual, odd): (&Pictures, &Pictures),
) -> Result<Option<Apart>> {
    if usual.count() == 0 || odd.count() == 0 {
        return Ok(None);
    }
    let [of_usual, of_odd] = [scores(vae, objective, shape, usual)?, scores(vae, objective, shape, odd)?];
    Ok(Some(Apart { usual: usual.count(), odd: odd.count(), auroc: auroc(&of_usual, &of_odd) }))
}
