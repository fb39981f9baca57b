//! Training a VAE.

use crate::random::{Purpose, Stream};
use edgegen_runtime::generate::Frame;
use edgegen_runtime::model::Range;

use super::{Learner, Moment, Shown, Step, Stepped, Stop, Verdict, coded};
use crate::Result;
use crate::compute::adam::Adam;
use crate::compute::{Backend, Gradients};
use crate::data::{self, Dataset};
use crate::evaluate::bound::{Bound, BoundKind};
use crate::evaluate::denoising::Denoising;
use crate::evaluate::{HeldOut, Seen};
use crate::graph::Parameter;
use crate::objective::vae::{Binarize, Example, ObjectiveConfig, Vae};
use crate::train::checkpoint::{Checkpoint, Moments};
use crate::train::config::Config;
use crate::train::folder::RunFolder;
use crate::train::init::{Taken, Weights};
use crate::train::metrics::{Figures, figures};
use crate::train::pictures::{self, Drawer, Panel, SAMPLES};
use crate::train::teacher;

/// Pictures in a row of reconstructions: as many originals above them.
const RECONSTRUCTIONS: usize = 8;
/// Pictures that are encoded at once for the prior.
const MEANS: usize = 512;
/// Side of the latent grid.
const LATENT_GRID: usize = 20;

pub(super) struct VaeLearner<B: Backend> {
    config: Config,
    objective: ObjectiveConfig,
    vae: Vae<B>,
    adam: Adam<B>,
    gradients: [Gradients<B>; 2],
}

impl<B: Backend> VaeLearner<B> {
    pub(super) fn new(
        backend: &B,
        config: Config,
        objective: ObjectiveConfig,
        dataset: &Dataset,
    ) -> Result<Self> {
        let classes = config.classes(dataset)?.len();
        let mut vae = Vae::new(backend, &config.network, dataset.shape, classes, config.training.seed)?;
        vae.prepare(&objective);
        if objective.unlike > 0.0 {
            vae.compare_by(&teacher::of(&objective.features, 0, dataset.shape)?)?;
        }
        if config.network.codes > 0 {
            let own = vae.classes_of(&dataset.train, coded(&config.network, dataset));
            vae.fit_prior(&config.network, own.unwrap_or_default())?;
        }
        let (encoder, decoder) = (&vae.encoder.graph, &vae.decoder.graph);
        let adam = Adam::new(backend, &[encoder, decoder], config.adam)?;
        let gradients = [Gradients::of(backend, encoder)?, Gradients::of(backend, decoder)?];
        Ok(Self { config, objective, vae, adam, gradients })
    }

    fn beta(&self, step: u64) -> f64 {
        let grown = (step + 1) as f64 / self.objective.beta_warmup.max(1) as f64;
        self.objective.beta * grown.min(1.0)
    }

    /// (target, what the encoder sees if that is something else), each (N, C, H, W).
    fn batch(&self, at: &Step<'_>, dataset: &Dataset) -> (Vec<f32>, Option<Vec<f32>>) {
        let seed = self.config.training.seed;
        let mut clean = data::training_batch(Range::Unit, dataset, at.indices, seed, at.step);
        if self.objective.binarize == Binarize::Stochastic {
            data::binarize(&mut clean, &mut Stream::new(seed, Purpose::Binarize, at.step));
        }
        let deviation = self.objective.denoise as f32;
        let seen = (deviation > 0.0).then(|| {
            let mut seen = clean.clone();
            data::add_noise(&mut seen, deviation, &mut Stream::new(seed, Purpose::Denoise, at.step));
            seen
        });
        (clean, seen)
    }

    /// Before validation pictures, or else those that are learned from.
    fn held_out<'a>(&'a self, dataset: &'a Dataset, limit: usize) -> HeldOut<'a, B> {
        let pictures = if dataset.validation.count() > 0 { &dataset.validation } else { &dataset.train };
        HeldOut::new(&self.vae, &self.objective, dataset.shape, pictures, limit)
    }

    /// Fits the prior to the means of training pictures.
    fn fit_prior(&mut self, dataset: &Dataset) -> Result<()> {
        let objective = &self.objective;
        let indices = coded(&self.config.network, dataset);
        let mut codes = Vec::with_capacity(indices.len() * self.vae.latent);
        for indices in indices.chunks(MEANS) {
            let mut pictures =
                data::batch(Range::Unit, dataset.shape, &dataset.train, indices.iter().copied());
            for (picture, index) in pictures.chunks_mut(dataset.shape.values()).zip(indices) {
                Seen::of(objective).apply(picture, *index);
            }
            codes.extend(self.vae.encode(&pictures)?.mean);
        }
        let share = objective.code_share;
        self.vae.map_codes(&codes, share)
    }

    /// What draws from the prior.
    fn drawer<'a>(&'a self, dataset: &Dataset) -> Drawer<'a, B> {
        Drawer { network: self.vae.drawing(), shape: dataset.shape, range: Range::Unit }
    }

    /// Rows of validation pictures, each above its reconstruction from the posterior mean.
    fn reconstructions(&self, dataset: &Dataset) -> Result<Vec<Frame>> {
        const ROWS: usize = 4;
        let shape = dataset.shape;
        let held_out = self.held_out(dataset, ROWS * RECONSTRUCTIONS);
        let count = held_out.count();
        let seen = held_out.batch(0..count).seen;
        let mean = self.vae.encode(&seen)?.mean;
        let decoder = Drawer { network: &self.vae.decoder, ..self.drawer(dataset) };
        let rebuilt = decoder.values(&mean, held_out.classes(0..count).as_deref())?;
        let rebuilt = pictures::frames(&rebuilt, shape, Range::Unit);
        let originals = pictures::frames(&seen, shape, Range::Unit);
        let rows = originals.chunks(RECONSTRUCTIONS).zip(rebuilt.chunks(RECONSTRUCTIONS));
        // a last row that is not full would tear pairs apart
        let full = rows.filter(|(row, _)| row.len() == RECONSTRUCTIONS || count < RECONSTRUCTIONS);
        Ok(full.flat_map(|(original, rebuilt)| original.iter().chain(rebuilt)).cloned().collect())
    }
}

/// Steps before which a small KL term is no cause for concern.
const SETTLED: u64 = 500;
/// KL term below which the decoder learns nothing from the latent, nats.
const COLLAPSED: f64 = 0.5;

/// A warning if the posterior has become the prior (S. R. Bowman et al., 2016, "Generating sentences from a continuous
/// space", section 3.1).
fn collapsed(bound: &Bound, step: u64) -> Option<String> {
    (step >= SETTLED && bound.kl < COLLAPSED).then(|| {
        format!(
            "posterior collapse: the KL term is {:.2} nats, so every latent gives about the same picture; begin again with a lower --beta, or with --set objective.free_bits=0.1 or --set objective.beta_warmup=2000",
            bound.kl
        )
    })
}

fn terms(bound: Bound) -> Figures {
    figures([("elbo", bound.elbo), ("reconstruction", bound.reconstruction), ("kl", bound.kl)])
}

impl<B: Backend> Learner for VaeLearner<B> {
    fn step(&mut self, at: &Step<'_>, dataset: &Dataset) -> Stepped {
        let (clean, seen) = self.batch(at, dataset);
        let samples = self.objective.iwae.max(1);
        let mut noise = vec![0f32; at.indices.len() * samples * self.vae.latent];
        Stream::new(self.config.training.seed, Purpose::Posterior, at.step).fill_normal(&mut noise);
        let beta = self.beta(at.step);
        let classes = self.vae.classes_of(&dataset.train, at.indices.iter().copied());
        let example = Example {
            seen: seen.as_deref().unwrap_or(&clean),
            clean: &clean,
            noise: &noise,
            classes: classes.as_deref(),
        };
        self.gradients.iter_mut().try_for_each(Gradients::clear)?;
        let terms = match samples {
            1 => self.vae.learn(&example, &self.objective, beta, &mut self.gradients)?,
            _ => self.vae.learn_weighted(&example, &self.objective, &mut self.gradients)?,
        };
        let [of_encoder, of_decoder] = &mut self.gradients;
        let norm = Gradients::clip(&mut [of_encoder, of_decoder], self.config.training.clip)?;
        let (reconstruction, kl) = terms.means();
        if !(reconstruction - beta * kl).is_finite() {
            return Err(Stop::Diverged(format!("the loss is {}", beta * kl - reconstruction)));
        }
        if !norm.is_finite() {
            return Err(Stop::Diverged("the gradients' norm is not finite".into()));
        }
        let [of_encoder, of_decoder] = &self.gradients;
        let (encoder, decoder) = (&mut self.vae.encoder.graph, &mut self.vae.decoder.graph);
        self.adam.update(&mut [(encoder, of_encoder), (decoder, of_decoder)], at.rate)?;
        let elbo = reconstruction - kl;
        let mut found =
            figures([("elbo", elbo), ("reconstruction", reconstruction), ("kl", kl), ("beta", beta)]);
        found.extend(terms.unlike.map(|unlike| ("unlike".to_string(), unlike)));
        if let Some(weighted) = terms.weighted {
            let sum: f64 = weighted.iter().map(|bound| f64::from(*bound)).sum();
            found.insert("weighted_bound".into(), sum / weighted.len().max(1) as f64);
        }
        Ok(found)
    }

    fn init_from(&mut self, weights: &Weights, dataset: &Dataset) -> Result<Taken> {
        let classes = self.config.classes(dataset)?;
        let mut taken = Taken::default();
        for (part, network, classes) in
            [("encoder", &mut self.vae.encoder, &[][..]), ("decoder", &mut self.vae.decoder, &classes)]
        {
            let mut graph = network.host()?;
            weights.give(part, &mut graph, classes, &mut taken);
            network.set(graph.parameters())?;
        }
        Ok(taken)
    }

    fn judge(&mut self, moment: &Moment<'_>, _train: &Figures) -> Result<Verdict> {
        let dataset = moment.dataset;
        if self.vae.has_codes() {
            self.fit_prior(dataset)?;
        }
        if dataset.validation.count() == 0 {
            return Ok(Verdict::default()); // the last weights are used
        }
        let held_out = self.held_out(dataset, self.config.training.validate);
        let bound = held_out.bound()?;
        let mut score = Some(bound.reconstruction - self.objective.beta * bound.kl);
        let mut weighted = None;
        if self.objective.iwae > 1 {
            // the evidence lower bound is not what such a posterior is good at
            weighted = Some(held_out.importance_weighted(self.objective.iwae, || ())?.mean);
            score = weighted;
        }
        let warnings = collapsed(&bound, moment.step).into_iter().collect();
        let mut found = terms(bound);
        found.extend(weighted.map(|bound| ("weighted_bound".to_string(), bound)));
        if let Some(Denoising { denoised, noisy, .. }) = held_out.denoising()? {
            found.extend(figures([
                ("psnr", denoised.psnr.mean),
                ("ssim", denoised.ssim.mean),
                ("noisy_psnr", noisy.psnr.mean),
                ("noisy_ssim", noisy.ssim.mean),
            ]));
        }
        Ok(Verdict { figures: found, score, warnings, features: None })
    }

    fn parameters(&self) -> Result<Vec<Parameter>> {
        self.vae.parameters()
    }

    fn moments(&self) -> Result<Moments> {
        self.adam.moments(&[&self.vae.encoder, &self.vae.decoder])
    }

    fn restore(&mut self, checkpoint: &mut Checkpoint, steps: u64, _: &Dataset) -> Result<()> {
        let stored = checkpoint.weights(&self.vae.parameters()?)?;
        self.vae.set_parameters(&stored)?;
        self.adam.restore(steps, checkpoint.moments(&self.vae.trained()?)?)
    }

    fn draw(&self, folder: &RunFolder, step: u64, dataset: &Dataset) -> Result<Vec<Shown>> {
        let samples = self.drawer(dataset).samples(self.config.training.seed, SAMPLES)?;
        let sampled = folder.picture("samples", step)?;
        pictures::write_grid(&samples, None, &sampled)?;
        let pairs = self.reconstructions(dataset)?;
        let rebuilt = folder.picture("reconstructions", step)?;
        pictures::write_grid(&pairs, Some(RECONSTRUCTIONS), &rebuilt)?;
        if self.vae.latent == 2 && !self.config.network.conditional && !self.vae.has_codes() {
            let grid = pictures::latent_grid(self.drawer(dataset), LATENT_GRID)?;
            pictures::write_grid(&grid, Some(LATENT_GRID), &folder.root().join("latent-grid.png"))?;
        }
        Ok(vec![("samples", sampled), ("reconstructions", rebuilt)])
    }

    fn panels(&self) -> Vec<Panel> {
        let title = BoundKind::of(&self.objective).title();
        vec![Panel::of_both(title, "elbo"), Panel::of_both("KL (nats per picture)", "kl")]
    }

    fn largest_layer(&self) -> usize {
        self.vae.encoder.graph.largest_value().max(self.vae.decoder.graph.largest_value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::Lanes;
    use crate::train::config::Objective;
    use crate::train::presets;

    const SIGMA: f64 = 0.4;

    fn learner() -> (VaeLearner<Lanes>, Dataset) {
        let dataset = data::load(None, &data::LoadOptions::new(data::Size::square(28)), &|_, _| {}).unwrap();
        let mut config = presets::find("vae-mlp").unwrap().config;
        let Objective::Vae(objective) = &mut config.objective else { panic!() };
        objective.denoise = SIGMA;
        let objective = objective.clone();
        (VaeLearner::new(&Lanes, config, objective, &dataset).unwrap(), dataset)
    }

    /// A step's terms are those of noisy pictures in and clean ones out, and of nothing else.
    #[test]
    fn a_denoiser_sees_noise_and_learns_the_clean_picture() {
        let (mut learner, dataset) = learner();
        let indices: Vec<usize> = (0..40).map(|index| index * 7).collect();
        let at = Step { step: 3, progress: 0.0, rate: 1e-3, indices: &indices };
        let figures = learner.step(&at, &dataset).unwrap_or_else(|_| panic!("it does not diverge"));

        let (fresh, _) = self::learner();
        let seed = fresh.config.training.seed;
        let clean = data::batch(Range::Unit, dataset.shape, &dataset.train, indices.iter().copied());
        let mut noisy = clean.clone();
        data::add_noise(&mut noisy, SIGMA as f32, &mut Stream::new(seed, Purpose::Denoise, at.step));
        let inside: Vec<f64> = clean
            .iter()
            .zip(&noisy)
            .filter(|(_, noisy)| (0.01..0.99).contains(*noisy))
            .map(|(clean, noisy)| f64::from(noisy - clean))
            .collect();
        assert!(inside.len() > 1000 && inside.iter().any(|by| by.abs() > SIGMA), "there is noise");
        let mut noise = vec![0f32; indices.len() * fresh.vae.latent];
        Stream::new(seed, Purpose::Posterior, at.step).fill_normal(&mut noise);
        let terms = |seen: &[f32], target: &[f32]| {
            let example = Example { seen, clean: target, noise: &noise, classes: None };
            let mut vae = self::learner().0.vae;
            let mut gradients =
                [&vae.encoder, &vae.decoder].map(|network| Gradients::of(&Lanes, &network.graph).unwrap());
            let terms = vae.learn(&example, &fresh.objective, 1.0, &mut gradients).unwrap();
            let (reconstruction, kl) = terms.means();
            [reconstruction, kl]
        };
        let found = [figures["reconstruction"], figures["kl"]];
        assert_eq!(found, terms(&noisy, &clean));
        let apart = |other: [f64; 2]| {
            found.iter().zip(other).any(|(found, other)| (found - other).abs() > 1e-3 * found.abs())
        };
        assert!(apart(terms(&clean, &clean)) && apart(terms(&noisy, &noisy)));
    }

    #[test]
    fn a_denoiser_is_judged_beside_its_noisy_input() {
        let (mut learner, dataset) = learner();
        let folder = RunFolder::new(std::path::Path::new("nowhere"));
        let moment = Moment { step: 1, total: 1000, folder: &folder, dataset: &dataset };
        let figures = learner.judge(&moment, &Figures::new()).unwrap().figures;
        // noise of deviation 0.4 clamped to [0, 1]: less than the 8.0 dB that it would cost unclamped
        assert!((8.0..12.0).contains(&figures["noisy_psnr"]), "{figures:?}");
        assert!(figures["noisy_ssim"] < 0.7 && figures["psnr"] > 0.0 && figures["ssim"] < 1.0, "{figures:?}");
    }
}
