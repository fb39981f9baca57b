//! How odd something is, by how badly a network that learned what is usual rebuilds it.

use super::{Encoder, Generator, Latents, Transformer};
use crate::model::{ImageShape, Model, Part};
use crate::{Error, Result};

/// Smallest probability whose logarithm is taken.
const LEAST: f32 = 1e-6;

/// p(x|z) of a VAE's decoder.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Likelihood {
    /// Each value the probability of 1; grey values count as shares.
    Bernoulli,
    /// Normal around each value, with this deviation in units of the range [0, 1].
    Gaussian(f64),
}

impl Likelihood {
    /// −log p of a value beside its reconstruction, nats, without what it is of a perfect one: of grey values that are shares
    /// their entropy, which would make pictures of many grey values odd whatever the network does (AUROC of a digit against
    /// the others 0.87 instead of 0.95).
    fn nats(self, value: f32, rebuilt: f32) -> f64 {
        match self {
            Self::Bernoulli => {
                let probability = rebuilt.clamp(LEAST, 1.0 - LEAST);
                let entropy = |share: f32| if share > 0.0 { share * share.ln() } else { 0.0 };
                let best = entropy(value) + entropy(1.0 - value);
                f64::from(best - value * probability.ln() - (1.0 - value) * (1.0 - probability).ln())
            }
            Self::Gaussian(deviation) => {
                let apart = f64::from(value) - f64::from(rebuilt);
                apart * apart / (2.0 * deviation * deviation)
            }
        }
    }

    /// The negative evidence lower bound of a picture at its posterior's mean, nats: Σ −log p(x|z) + KL, from that of a perfect
    /// reconstruction on. `values` and
    /// `rebuilt` are as many, in [0, 1]; `mean` and `log_variance` too.
    pub fn score(self, values: &[f32], rebuilt: &[f32], mean: &[f32], log_variance: &[f32]) -> f64 {
        let reconstruction: f64 = values.iter().zip(rebuilt).map(|(x, r)| self.nats(*x, *r)).sum();
        let divergence = mean.iter().zip(log_variance).map(|(mean, log_variance)| {
            let (mean, log_variance) = (f64::from(*mean), f64::from(*log_variance));
            0.5 * (mean * mean + log_variance.exp() - log_variance - 1.0)
        });
        reconstruction + divergence.sum::<f64>()
    }
}

/// The score of an item, and where it comes from.
#[derive(Clone, Debug)]
pub struct Score {
    /// The larger, the odder: nats of a VAE's bound, else the mean squared difference.
    pub value: f64,
    /// What the network makes of it, as many values as it has.
    pub rebuilt: Vec<f32>,
    /// What each value adds to the score.
    pub parts: Vec<f64>,
}

/// Scores items: pictures, or rows of numbers.
pub struct Scorer {
    network: Rebuilds,
}

enum Rebuilds {
    /// Through the posterior's mean.
    Vae { encoder: Box<Encoder>, decoder: Box<Generator>, likelihood: Likelihood },
    /// A picture → the same picture.
    Picture(Box<Transformer>),
    /// Numbers → the same numbers.
    Row(Box<Generator>),
}

impl Scorer {
    /// By a VAE's two networks.
    ///
    /// # Errors
    /// If they do not go together, or the decoder is told a class.
    pub fn of_vae(encoder: Model, decoder: Model, likelihood: Likelihood) -> Result<Self> {
        let (facts, drawn) = (encoder.facts(), decoder.facts());
        if (facts.image, facts.latent_dim) != (drawn.image, drawn.latent_dim) {
            return Err(Error::invalid(format_args!(
                "the encoder ({}, latent {}) and the decoder ({}, latent {}) do not go together",
                facts.image, facts.latent_dim, drawn.image, drawn.latent_dim
            )));
        }
        if drawn.class_input.is_some() {
            let problem = "its decoder is told a class, which an item to be scored does not have";
            return Err(Error::unsupported(decoder.name(), problem));
        }
        let (encoder, decoder) = (Box::new(encoder.into_encoder(1)?), Box::new(decoder.into_generator(1)?));
        Ok(Self { network: Rebuilds::Vae { encoder, decoder, likelihood } })
    }

    /// By one network that rebuilds what it is given: a picture of a fixed size, or a row of numbers.
    ///
    /// # Errors
    /// If it makes something else.
    pub fn of_one(model: Model) -> Result<Self> {
        let facts = model.facts();
        let made = facts.raster.as_ref().map_or(0, super::Raster::values);
        let refused = |problem: String| Err(Error::unsupported(model.name(), problem));
        let network = match (facts.part, facts.source) {
            (Part::Transform, Some(source)) if made == source.values() => {
                Rebuilds::Picture(Box::new(model.into_transformer(1)?))
            }
            (part, None) if part.draws() && made == facts.latent_dim && facts.class_input.is_none() => {
                Rebuilds::Row(Box::new(model.into_generator(1)?))
            }
            (part, _) => {
                return refused(format!(
                    "this {part} does not rebuild what it is given: score takes a folder with encoder and decoder, or a network whose output is as large as its input"
                ));
            }
        };
        Ok(Self { network })
    }

    /// Size of the pictures that it scores; `None`: it scores rows.
    pub fn image(&self) -> Option<ImageShape> {
        match &self.network {
            Rebuilds::Vae { encoder, .. } => Some(encoder.image_shape()),
            Rebuilds::Picture(network) => Some(network.source_shape()),
            Rebuilds::Row(_) => None,
        }
    }

    /// Values of an item.
    pub fn values(&self) -> usize {
        match &self.network {
            Rebuilds::Row(network) => network.latent_dim(),
            _ => self.image().map_or(0, ImageShape::values),
        }
    }

    /// Range of pictures.
    ///
    /// # Errors
    /// If it is not known.
    pub fn range(&self) -> Result<crate::model::Range> {
        match &self.network {
            Rebuilds::Vae { encoder, .. } => encoder.range(),
            Rebuilds::Picture(network) => network.range(),
            Rebuilds::Row(network) => network.range(),
        }
    }

    /// What a score is, for a person.
    pub fn what(&self) -> &'static str {
        match self.network {
            Rebuilds::Vae { .. } => "negative evidence lower bound, nats above a perfect reconstruction",
            Rebuilds::Picture(_) | Rebuilds::Row(_) => "mean squared difference",
        }
    }

    /// Scores one item of [`Self::values`] values: a picture (C, H, W) in the network's range, or a row.
    ///
    /// # Errors
    /// If it has another number of values, or one is not finite.
    pub fn score(&mut self, item: &[f32]) -> Result<Score> {
        if item.len() != self.values() {
            return Err(Error::invalid(format_args!(
                "it has {} values; the network takes {}",
                item.len(),
                self.values()
            )));
        }
        if let Some(value) = item.iter().find(|value| !value.is_finite()) {
            return Err(Error::invalid(format_args!("one of its values is {value}")));
        }
        let squares = |rebuilt: Vec<f32>| {
            let count = item.len().max(1) as f64;
            let part = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).powi(2) / count;
            let parts: Vec<f64> = item.iter().zip(&rebuilt).map(part).collect();
            Score { value: parts.iter().sum(), rebuilt, parts }
        };
        match &mut self.network {
            Rebuilds::Vae { encoder, decoder, likelihood } => {
                let posterior = encoder.run(item)?;
                let latents = Latents::from_values(posterior.mean.clone(), encoder.latent_dim())?;
                let rebuilt = decoder.run(latents.values(), &[])?.to_vec();
                let value = likelihood.score(item, &rebuilt, &posterior.mean, &posterior.log_variance);
                let parts = item.iter().zip(&rebuilt).map(|(x, r)| likelihood.nats(*x, *r)).collect();
                Ok(Score { value, rebuilt, parts })
            }
            Rebuilds::Picture(network) => Ok(squares(network.run(item)?.to_vec())),
            Rebuilds::Row(network) => Ok(squares(network.run(item, &[])?.to_vec())),
        }
    }
}

/// The score above which a share of `1 − quantile` of `scores` lies.
pub fn threshold(scores: &[f64], quantile: f64) -> Option<f64> {
    let mut sorted: Vec<f64> = scores.iter().copied().filter(|score| score.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let place = (quantile.clamp(0.0, 1.0) * sorted.len() as f64).ceil() as usize;
    sorted.get(place.max(1).min(sorted.len()).checked_sub(1)?).copied()
}

/// The area under the ROC curve of scores that should be low and scores that should be high; equal ones count half.
pub fn auroc(usual: &[f64], odd: &[f64]) -> f64 {
    let mut all: Vec<(f64, bool)> =
        usual.iter().map(|score| (*score, false)).chain(odd.iter().map(|score| (*score, true))).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut sum, mut place) = (0.0, 0);
    while place < all.len() {
        let end = place + all[place..].iter().take_while(|(score, _)| *score == all[place].0).count();
        // the mean rank of equal scores, from 1
        let rank = (place + 1 + end) as f64 / 2.0;
        sum += rank * all[place..end].iter().filter(|(_, odd)| *odd).count() as f64;
        place = end;
    }
    let (usual, odd) = (usual.len() as f64, odd.len() as f64);
    (sum - odd * (odd + 1.0) / 2.0) / (usual * odd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_that_of_its_definition() {
        let found = Likelihood::Bernoulli.score(&[1.0, 0.25], &[0.5, 0.25], &[2.0], &[0.0]);
        assert!((found - (2f64.ln() + 2.0)).abs() < 1e-6, "{found}");
        let found = Likelihood::Gaussian(0.5).score(&[1.0, 0.0], &[0.0, 0.0], &[0.0], &[1.0]);
        assert!((found - (2.0 + 0.5 * (1f64.exp() - 2.0))).abs() < 1e-6, "{found}");
        assert!(Likelihood::Bernoulli.score(&[1.0], &[0.0], &[], &[]).is_finite());
    }

    #[test]
    fn a_threshold_leaves_a_share_above_it() {
        let scores: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(threshold(&scores, 0.95), Some(95.0));
        assert_eq!(threshold(&scores, 1.0), Some(100.0));
        assert_eq!(threshold(&scores, 0.0), Some(1.0));
        assert_eq!(threshold(&[], 0.5), None);
    }

    #[test]
    fn the_area_is_the_share_of_pairs_in_order() {
        assert_eq!(auroc(&[1.0, 2.0], &[3.0, 4.0, 5.0]), 1.0);
        assert_eq!(auroc(&[3.0, 4.0], &[1.0]), 0.0);
        assert_eq!(auroc(&[1.0, 1.0], &[1.0]), 0.5);
        // of six pairs four are in order and one is equal
        assert!((auroc(&[1.0, 3.0], &[2.0, 3.0, 4.0]) - 4.5 / 6.0).abs() < 1e-12);
    }
}
