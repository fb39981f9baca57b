//! How good a generator is.
//!
//! Here: a VAE on pictures that it has not learned from, by the evidence lower bound and the importance-weighted
//! estimate that papers compare by ([`bound`] says of what), and by how well it denoises ([`denoising`]). Below: any
//! samples against pictures, on the features of any network ([`report::evaluate_samples`]).

pub mod bound;
pub mod cache;
pub mod denoising;
pub mod distance;
pub mod features;
pub mod modes;
pub mod neighbours;
pub mod network;
pub mod odd;
mod pairs;
pub mod quality;
pub mod report;
pub mod restoring;
pub mod samples;
pub mod yardstick;

use crate::random::{Purpose, Stream};
use edgegen_runtime::model::{self, ImageShape, Metadata};
use rayon::prelude::*;
use std::ops::Range;

use crate::compute::{Backend, Lanes};
use crate::data::{self, Pictures};
use crate::objective::classifier::Classifier;
use crate::objective::vae::{Binarize, Example, Likelihood, ObjectiveConfig, Vae};
use crate::{Error, Result};

use bound::{Bound, Weighted};
use denoising::{Closeness, Denoising};

/// Pictures, or posterior samples, per batch of an evaluation, where pictures are small.
const LARGEST_BATCH: usize = 250;
/// Values of a batch's pictures where they are not: layers inside a network are a few times as large.
const VALUES_PER_BATCH: usize = 1 << 22;
/// Most samples per picture: those of Burda et al. 2015.
pub const MOST_SAMPLES: usize = 5_000;
/// Seed of everything that is drawn for held-out pictures, so that runs can be compared.
const SEED: u64 = 0;

/// Sums from which a [`Bound`] comes.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    reconstruction: f64,
    kl: f64,
    pictures: u64,
}

impl Sums {
    /// Adds a batch of `pictures` with these mean terms.
    fn add(&mut self, reconstruction: f64, kl: f64, pictures: usize) {
        self.reconstruction += reconstruction * pictures as f64;
        self.kl += kl * pictures as f64;
        self.pictures += pictures as u64;
    }

    /// The means.
    fn bound(&self) -> Bound {
        let count = self.pictures.max(1) as f64;
        let (reconstruction, kl) = (self.reconstruction / count, self.kl / count);
        Bound { elbo: reconstruction - kl, reconstruction, kl }
    }
}

/// `most` of the numbers 0..count, evenly spread and in order; all if there are no more, or `most` is 0. A set sorted
/// by class keeps every class in about its share.
pub fn spread(count: usize, most: usize) -> impl ExactSizeIterator<Item = usize> + Clone {
    let taken = if most == 0 { count } else { most.min(count) };
    (0..taken).map(move |index| (index as u128 * count as u128 / taken as u128) as usize)
}

/// `most` of the numbers 0..count in their order, drawn at random but always the same ones; all if there are no more. Unlike
/// [`spread`], it takes every class of a list in which classes come in turn, and has no period in common with a set's order:
/// every sixth picture of MNIST's training part are other digits than the rest (a Fréchet distance of 15 to the test part
/// where others have 4).
pub fn scattered(count: usize, most: usize) -> Vec<usize> {
    if count <= most {
        return (0..count).collect();
    }
    let order = Stream::new(SEED, Purpose::Order, count as u64).permutation(count as u32);
    let mut chosen: Vec<usize> = order[..most].iter().map(|index| *index as usize).collect();
    chosen.sort_unstable();
    chosen
}

/// The same of pictures with these labels, but that each class has at least `fewest`, or all that it has; they take the places
/// of pictures of the classes that have most.
pub fn scattered_over(labels: &[u16], most: usize, fewest: usize) -> Vec<usize> {
    let mut chosen = scattered(labels.len(), most);
    if chosen.len() == labels.len() {
        return chosen;
    }
    let kinds = labels.iter().copied().max().map_or(0, usize::from) + 1;
    let mut of_class: Vec<Vec<usize>> = vec![Vec::new(); kinds];
    chosen.iter().for_each(|picture| of_class[usize::from(labels[*picture])].push(*picture));
    let fewest = fewest.min(most / kinds);
    for class in 0..kinds {
        let others = (0..labels.len()).filter(|picture| {
            usize::from(labels[*picture]) == class && chosen.binary_search(picture).is_err()
        });
        let lacking = fewest.saturating_sub(of_class[class].len());
        for picture in others.take(lacking).collect::<Vec<_>>() {
            let Some(largest) = (0..kinds).max_by_key(|class| of_class[*class].len()) else { break };
            of_class[largest].pop();
            of_class[class].push(picture);
        }
    }
    chosen = of_class.concat();
    chosen.sort_unstable();
    chosen
}

/// The classes that `count` samples are drawn of, so that they are in the proportions of `labels`, (M): those of labels
/// evenly spread; none without labels.
pub fn in_proportion(labels: &[u16], count: usize) -> Vec<u16> {
    match labels.len() {
        0 => Vec::new(),
        known => {
            (0..count).map(|index| labels[(index as u128 * known as u128 / count as u128) as usize]).collect()
        }
    }
}

/// What an encoder was trained to see instead of pictures in [0, 1]. Whatever is drawn for a held-out picture depends
/// on the picture's index alone, so it is the same in every batch, subset and run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    /// Each value is drawn as 0 or 1.
    pub binarized: bool,
    /// Deviation of normal noise, after which values are clamped to [0, 1]; 0: none.
    pub noise: f64,
}

impl Seen {
    /// What an objective says.
    pub fn of(objective: &ObjectiveConfig) -> Self {
        Self { binarized: objective.binarize == Binarize::Stochastic, noise: objective.denoise }
    }

    /// What an encoder's file says.
    pub fn of_file(metadata: &Metadata) -> Self {
        Self { binarized: metadata.binarized, noise: metadata.noise.unwrap_or(0.0) }
    }

    /// Binarises held-out picture `index`, values in [0, 1], if the encoder was trained on such.
    fn binarize(self, picture: &mut [f32], index: usize) {
        if self.binarized {
            data::binarize(picture, &mut Stream::new(SEED, Purpose::BinarizeHeldOut, index as u64));
        }
    }

    /// Adds the noise of held-out picture `index`.
    fn add_noise(self, picture: &mut [f32], index: usize) {
        if self.noise > 0.0 {
            let mut stream = Stream::new(SEED, Purpose::DenoiseHeldOut, index as u64);
            data::add_noise(picture, self.noise as f32, &mut stream);
        }
    }

    /// Turns held-out picture `index`, values in [0, 1], into what the encoder sees.
    pub fn apply(self, picture: &mut [f32], index: usize) {
        self.binarize(picture, index);
        self.add_noise(picture, index);
    }
}

/// A batch of held-out pictures, each (N, C, H, W) in [0, 1].
pub struct HeldOutBatch {
    /// The pictures, binarised where the objective says so.
    pub clean: Vec<f32>,
    /// What the encoder sees.
    pub seen: Vec<f32>,
}

/// A VAE before pictures that it has not learned from.
pub struct HeldOut<'a, B: Backend = Lanes> {
    vae: &'a Vae<B>,
    objective: &'a ObjectiveConfig,
    shape: ImageShape,
    pictures: &'a Pictures,
    /// Which of the pictures.
    indices: Vec<usize>,
}

impl<'a, B: Backend> HeldOut<'a, B> {
    /// `limit` of `pictures`, evenly spread; 0: all.
    pub fn new(
        vae: &'a Vae<B>,
        objective: &'a ObjectiveConfig,
        shape: ImageShape,
        pictures: &'a Pictures,
        limit: usize,
    ) -> Self {
        let indices = spread(pictures.count(), limit).collect();
        Self { vae, objective, shape, pictures, indices }
    }

    /// How many pictures.
    pub fn count(&self) -> usize {
        self.indices.len()
    }

    /// The places `range` among the chosen pictures, always the same whatever the range.
    pub fn batch(&self, range: Range<usize>) -> HeldOutBatch {
        let indices = &self.indices[range];
        let mut clean = data::batch(model::Range::Unit, self.shape, self.pictures, indices.iter().copied());
        let of_picture = self.shape.values();
        let seen = Seen::of(self.objective);
        for (picture, index) in clean.chunks_mut(of_picture).zip(indices) {
            seen.binarize(picture, *index);
        }
        let mut noisy = clean.clone();
        for (picture, index) in noisy.chunks_mut(of_picture).zip(indices) {
            seen.add_noise(picture, *index);
        }
        HeldOutBatch { clean, seen: noisy }
    }

    /// What the decoder's likelihood is taken of: `clean` at the places `range`; under a Gaussian likelihood
    /// dequantised, (255 x + u) / 256 with u uniform in [0, 1), so that its density bounds a probability.
    fn target(&self, mut clean: Vec<f32>, range: Range<usize>) -> Vec<f32> {
        if self.objective.likelihood == Likelihood::Gaussian {
            let pictures = clean.chunks_mut(self.shape.values()).zip(&self.indices[range]);
            pictures.for_each(|(picture, index)| {
                let mut stream = Stream::new(SEED, Purpose::DequantizeHeldOut, *index as u64);
                picture.iter_mut().for_each(|value| *value = (255.0 * *value + stream.uniform()) / 256.0);
            });
        }
        clean
    }

    /// The classes of the pictures at the places `range`, (N), if the decoder takes them.
    pub fn classes(&self, range: Range<usize>) -> Option<Vec<u32>> {
        self.vae.classes_of(self.pictures, self.indices[range].iter().copied())
    }

    fn batch_size(&self) -> usize {
        (VALUES_PER_BATCH / self.shape.values().max(1)).clamp(1, LARGEST_BATCH)
    }

    fn ranges(&self) -> impl Iterator<Item = Range<usize>> {
        let (size, count) = (self.batch_size(), self.count());
        (0..count).step_by(size).map(move |start| start..(start + size).min(count))
    }

    /// The bound's two terms, nats per picture, one posterior sample each.
    ///
    /// # Errors
    /// The device's.
    pub fn bound(&self) -> Result<Bound> {
        let latent = self.vae.latent;
        let mut sums = Sums::default();
        for range in self.ranges() {
            let length = range.len();
            let mut noise = vec![0f32; length * latent];
            for (noise, index) in noise.chunks_mut(latent).zip(&self.indices[range.clone()]) {
                Stream::new(SEED, Purpose::Evaluation, *index as u64).fill_normal(noise);
            }
            let classes = self.classes(range.clone());
            let HeldOutBatch { clean, seen } = self.batch(range.clone());
            let target = self.target(clean, range);
            let example = Example { seen: &seen, clean: &target, noise: &noise, classes: classes.as_deref() };
            let (reconstruction, kl) = self.vae.terms(&example, self.objective)?.means();
            sums.add(reconstruction, kl, length);
        }
        self.vae.encoder.backend().release();
        Ok(sums.bound())
    }

    /// The importance-weighted bound of Burda et al. 2015 with K = `samples`:
    /// log 1/K Σ_k p(x, z_k) / q(z_k|x), z_k ~ q(z|x), which grows towards log p(x) with K.
    ///
    /// `tick` is told of every picture that is done.
    ///
    /// # Errors
    /// [`Error::Config`] if `samples` is out of range.
    pub fn importance_weighted(&self, samples: usize, tick: impl Fn() + Sync) -> Result<Weighted> {
        check_samples(samples)?;
        let mut estimates = Vec::with_capacity(self.count());
        for range in self.ranges() {
            let start = range.start;
            let HeldOutBatch { clean, seen } = self.batch(range.clone());
            let clean = self.target(clean, range.clone());
            let posterior = self.vae.encode(&seen)?;
            let (latent, values) = (self.vae.latent, self.shape.values());
            let batch: Result<Vec<f64>> = range
                .into_par_iter()
                .map(|place| {
                    let row = place - start;
                    let mut noise = Stream::new(SEED, Purpose::Evaluation, self.indices[place] as u64);
                    let estimate = self.log_likelihood(
                        &clean[row * values..][..values],
                        &posterior.mean[row * latent..][..latent],
                        &posterior.log_variance[row * latent..][..latent],
                        self.classes(place..place + 1).map(|class| class[0]),
                        &mut noise,
                        samples,
                    )?;
                    tick();
                    Ok(estimate)
                })
                .collect();
            estimates.extend(batch?);
        }
        let number = estimates.len().max(1) as f64;
        let mean = estimates.iter().sum::<f64>() / number;
        let squares: f64 = estimates.iter().map(|estimate| (estimate - mean).powi(2)).sum();
        let standard_error = (squares / (number - 1.0).max(1.0) / number).sqrt();
        self.vae.encoder.backend().release();
        Ok(Weighted { mean, standard_error, pictures: estimates.len(), samples })
    }

    /// How close reconstructions (the decoder's mean at the posterior's mean) come to what the encoder saw; `None` if this
    /// VAE is a denoiser, or there is no picture.
    ///
    /// # Errors
    /// The device's.
    pub fn rebuilding(&self) -> Result<Option<Closeness>> {
        if self.objective.denoise > 0.0 || self.count() == 0 {
            return Ok(None);
        }
        let mut found = denoising::Figures::default();
        for range in self.ranges() {
            let HeldOutBatch { clean, seen } = self.batch(range.clone());
            let mean = self.vae.encode(&seen)?.mean;
            found.add(&clean, &self.vae.decoder.infer(&mean, self.classes(range).as_deref())?, self.shape);
        }
        self.vae.encoder.backend().release();
        Ok(Some(found.closeness()))
    }

    /// How well a denoiser denoises; `None` if this VAE was not trained as one, or there is no picture.
    ///
    /// # Errors
    /// The device's.
    pub fn denoising(&self) -> Result<Option<Denoising>> {
        let sigma = self.objective.denoise;
        if sigma <= 0.0 || self.count() == 0 {
            return Ok(None);
        }
        let (mut noisy, mut denoised) = (denoising::Figures::default(), denoising::Figures::default());
        for range in self.ranges() {
            let HeldOutBatch { clean, seen } = self.batch(range.clone());
            let mean = self.vae.encode(&seen)?.mean;
            let rebuilt = self.vae.decoder.infer(&mean, self.classes(range).as_deref())?;
            denoised.add(&clean, &rebuilt, self.shape);
            noisy.add(&clean, &seen, self.shape);
        }
        self.vae.encoder.backend().release();
        let (denoised, noisy) = (denoised.closeness(), noisy.closeness());
        Ok(Some(Denoising { sigma, pictures: self.count(), denoised, noisy }))
    }

    /// The estimate for one picture (1, C, H, W) with its posterior.
    fn log_likelihood(
        &self,
        picture: &[f32],
        mean: &[f32],
        log_variance: &[f32],
        class: Option<u32>,
        noise: &mut Stream,
        samples: usize,
    ) -> Result<f64> {
        let latent = self.vae.latent;
        let deviations: Vec<f32> = log_variance.iter().map(|value| (0.5 * value).exp()).collect();
        let log_deviations: f64 = log_variance.iter().map(|value| 0.5 * f64::from(*value)).sum();
        let mut sum = LogSumExp::default();
        for start in (0..samples).step_by(self.batch_size()) {
            let length = self.batch_size().min(samples - start);
            let mut latents = vec![0f32; length * latent];
            let mut log_ratios = Vec::with_capacity(length);
            for latent in latents.chunks_mut(latent) {
                // log p(z) − log q(z|x) with z = mean + deviation · noise: the constants cancel
                let mut log_ratio = log_deviations;
                for ((z, mean), deviation) in latent.iter_mut().zip(mean).zip(&deviations) {
                    let noise = noise.normal();
                    *z = mean + deviation * noise;
                    log_ratio += 0.5 * (f64::from(noise).powi(2) - f64::from(*z).powi(2));
                }
                log_ratios.push(log_ratio);
            }
            let targets = picture.repeat(length);
            let classes = class.map(|class| vec![class; length]);
            let likelihoods =
                self.vae.log_likelihood(&latents, classes.as_deref(), &targets, self.objective)?;
            for (likelihood, log_ratio) in likelihoods.into_iter().zip(log_ratios) {
                sum.add(f64::from(likelihood) + log_ratio);
            }
        }
        Ok(sum.value() - (samples as f64).ln())
    }
}

/// (mean cross-entropy in nats, share that is right) of a classifier on `limit` of `pictures`, evenly spread; 0: all.
///
/// # Errors
/// The device's.
pub fn verdicts<B: Backend>(
    classifier: &Classifier<B>,
    shape: ImageShape,
    pictures: &Pictures,
    limit: usize,
) -> Result<(f64, f64)> {
    let indices: Vec<usize> = spread(pictures.count(), limit).collect();
    let (mut loss, mut right) = (0.0, 0.0);
    for part in indices.chunks(LARGEST_BATCH) {
        let share = part.len() as f64 / indices.len() as f64;
        let labels: Vec<u16> = part.iter().map(|index| pictures.labels()[*index]).collect();
        let part = data::batch(model::Range::Unit, shape, pictures, part.iter().copied());
        let (own_loss, own_right) = classifier.judge(&part, &labels)?;
        (loss, right) = (loss + share * own_loss, right + share * own_right);
    }
    classifier.network.backend().release();
    Ok((loss, right))
}

/// Refuses a number of importance samples that is out of range.
///
/// # Errors
/// [`Error::Config`].
pub fn check_samples(samples: usize) -> Result<()> {
    if samples == 0 || samples > MOST_SAMPLES {
        return Err(Error::Config(format!("--samples is {samples}; it takes 1 to {MOST_SAMPLES}")));
    }
    Ok(())
}

/// log Σ e^x over a stream of x.
struct LogSumExp {
    largest: f64,
    scaled: f64,
}

impl Default for LogSumExp {
    fn default() -> Self {
        Self { largest: f64::NEG_INFINITY, scaled: 0.0 }
    }
}

impl LogSumExp {
    fn add(&mut self, x: f64) {
        if x == f64::NEG_INFINITY {
            return; // adds nothing, and −∞ − −∞ is no number
        }
        if x > self.largest {
            self.scaled = self.scaled * (self.largest - x).exp() + 1.0;
            self.largest = x;
        } else {
            self.scaled += (x - self.largest).exp();
        }
    }

    fn value(&self) -> f64 {
        self.largest + self.scaled.ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rare_class_is_among_those_that_are_taken() {
        // 3 of 1,000 are of class 1
        let labels: Vec<u16> = (0..1000).map(|index| u16::from(index % 400 == 7)).collect();
        let chosen = scattered_over(&labels, 100, 10);
        assert_eq!(chosen.len(), 100);
        assert!(chosen.is_sorted_by(|a, b| a < b));
        assert_eq!(chosen.iter().filter(|picture| labels[**picture] == 1).count(), 3);
        // where no class lacks any, they are those of `scattered`
        let even: Vec<u16> = (0..1000).map(|index| index % 2).collect();
        assert_eq!(scattered_over(&even, 100, 10), scattered(1000, 100));
        assert_eq!(scattered_over(&even, 2000, 10).len(), 1000);
    }

    #[test]
    fn numbers_are_spread_evenly() {
        assert_eq!(spread(10, 4).collect::<Vec<_>>(), [0, 2, 5, 7]);
        assert_eq!(spread(3, 9).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(spread(3, 0).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(spread(0, 9).count(), 0);
    }

    fn denoiser() -> (Vae, ObjectiveConfig, data::Dataset) {
        let dataset = data::load(None, &data::LoadOptions::new(data::Size::square(28)), &|_, _| {}).unwrap();
        let config = crate::train::presets::find("vae-mlp").unwrap().config;
        let crate::train::config::Objective::Vae(objective) = config.objective else { panic!() };
        let objective = ObjectiveConfig { binarize: Binarize::Stochastic, denoise: 0.5, ..objective };
        (Vae::new(&Lanes, &config.network, dataset.shape, 0, 1).unwrap(), objective, dataset)
    }

    /// A limit takes pictures from everywhere, and what is drawn for a picture does not depend on the limit.
    #[test]
    fn a_limit_is_spread_and_a_picture_keeps_its_noise() {
        let (vae, objective, dataset) = denoiser();
        let (shape, test) = (dataset.shape, &dataset.test);
        let held_out = |limit| HeldOut::new(&vae, &objective, shape, test, limit);
        let (all, few) = (held_out(0), held_out(9));
        assert_eq!((all.count(), few.count()), (test.count(), 9));
        for (place, index) in spread(test.count(), 9).enumerate() {
            let (here, there) = (few.batch(place..place + 1), all.batch(index..index + 1));
            assert!(here.clean == there.clean && here.seen == there.seen, "{place}");
        }
        // one bound of all is the mean of those of its parts only if the draws are the pictures' own
        let (whole, half) = (held_out(0).bound().unwrap(), held_out(test.count() / 2).bound().unwrap());
        assert!((whole.elbo - half.elbo).abs() < 0.05 * whole.elbo.abs(), "{whole:?} {half:?}");
        let weighted = few.importance_weighted(20, || ()).unwrap();
        assert!(weighted.pictures == 9 && weighted.mean > few.bound().unwrap().elbo);
    }

    /// Fails if the encoder is given the clean picture.
    #[test]
    fn a_held_out_denoiser_sees_noise() {
        let (vae, objective, dataset) = denoiser();
        let held_out = HeldOut::new(&vae, &objective, dataset.shape, &dataset.test, 20);
        let HeldOutBatch { clean, seen } = held_out.batch(0..20);
        assert!(
            clean.iter().all(|value| *value == 0.0 || *value == 1.0),
            "the target is binarised, not noisy"
        );
        // half of the noise on 0 and 1 is clamped: σ²/2 is left
        let squares: f64 = clean.iter().zip(&seen).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        let mean = squares / clean.len() as f64;
        assert!((0.08..0.13).contains(&mean), "{mean}");
        let found = held_out.denoising().unwrap().unwrap();
        assert!((found.noisy.psnr.mean - -10.0 * mean.log10()).abs() < 0.1, "{found:?}");
        let plain = ObjectiveConfig { denoise: 0.0, ..objective };
        assert_eq!(HeldOut::new(&vae, &plain, dataset.shape, &dataset.test, 20).denoising().unwrap(), None);
    }

    #[test]
    fn a_gaussian_density_is_taken_of_dequantised_values() {
        let (vae, objective, dataset) = denoiser();
        let objective = ObjectiveConfig {
            likelihood: Likelihood::Gaussian,
            binarize: Binarize::No,
            denoise: 0.0,
            ..objective
        };
        let held_out = HeldOut::new(&vae, &objective, dataset.shape, &dataset.test, 6);
        let HeldOutBatch { clean, seen } = held_out.batch(0..6);
        assert_eq!(clean, seen);
        let target = held_out.target(clean.clone(), 0..6);
        let level = |value: f32| (255.0 * value).round();
        assert!(clean.iter().zip(&target).all(|(x, y)| (256.0 * y).floor() == level(*x)));
        assert!(target.iter().any(|value| (256.0 * value).fract() > 0.5));
    }

    #[test]
    fn a_classifier_is_judged_by_pictures_from_everywhere() {
        let dataset = data::load(None, &data::LoadOptions::new(data::Size::square(28)), &|_, _| {}).unwrap();
        let config = crate::train::presets::find("classifier").unwrap().config;
        let network = crate::graph::family::NetworkConfig { base: 4, ..config.network };
        let classifier = Classifier::new(&Lanes, &network, dataset.shape, 10, 1).unwrap();
        let indices: Vec<usize> = spread(dataset.test.count(), 30).collect();
        let labels: Vec<u16> = indices.iter().map(|index| dataset.test.labels()[*index]).collect();
        let rows = data::batch(model::Range::Unit, dataset.shape, &dataset.test, indices.into_iter());
        let (loss, right) = verdicts(&classifier, dataset.shape, &dataset.test, 30).unwrap();
        let expected = classifier.judge(&rows, &labels).unwrap();
        assert!((loss - expected.0).abs() < 1e-6 && (right - expected.1).abs() < 1e-9, "{loss} {expected:?}");
    }

    #[test]
    fn log_sum_exp_holds_for_values_that_overflow() {
        let mut sum = LogSumExp::default();
        [-1000.0, -1001.0, -999.0].into_iter().for_each(|x| sum.add(x));
        let expected = -999.0 + ((-1f64).exp() + (-2f64).exp() + 1.0).ln();
        assert!((sum.value() - expected).abs() < 1e-12);
    }
}
