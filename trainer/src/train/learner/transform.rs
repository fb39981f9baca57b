//! Training a network from pictures to pictures.

use edgegen_runtime::model::{ImageShape, Range};

use super::{Learner, Moment, Shown, Step, Stepped, Stop, Verdict};
use crate::compute::adam::Adam;
use crate::compute::{Backend, Gradients};
use crate::data::Dataset;
use crate::evaluate::restoring;
use crate::evaluate::spread;
use crate::graph::Parameter;
use crate::objective::patches::Critic;
use crate::objective::transform::{Adversary, Examples, Learned, Material, Restorer, TransformConfig};
use crate::train::checkpoint::{Checkpoint, Moments};
use crate::train::config::Config;
use crate::train::folder::RunFolder;
use crate::train::init::{Taken, Weights};
use crate::train::metrics::{Figures, figures};
use crate::train::pictures::{Curve, Panel, Source, write_grid};
use crate::{Error, Result};

/// Pictures that a report shows, each before, after and clean.
const SHOWN: usize = 4;
/// Longest side of these.
const LONGEST_SHOWN: usize = 192;

pub(super) struct TransformLearner<B: Backend> {
    config: Config,
    objective: TransformConfig,
    restorer: Restorer<B>,
    adam: Adam<B>,
    gradients: Gradients<B>,
    critic: Option<Critic<B>>,
    /// Whether pictures come in pairs.
    paired: bool,
    /// The part of held-out pictures that is looked at.
    whole: ImageShape,
}

impl<B: Backend> TransformLearner<B> {
    pub(super) fn new(
        backend: &B,
        config: Config,
        objective: TransformConfig,
        dataset: &Dataset,
    ) -> Result<Self> {
        if config.network.conditional {
            return Err(Error::Config(
                "--conditional is for generators: a network from pictures to pictures is told no class"
                    .into(),
            ));
        }
        let paired = config.data.pairs().is_some();
        let shape = Material::new(&dataset.train, dataset, paired).one();
        if shape.height.min(shape.width) < objective.patch {
            return Err(Error::Config(format!(
                "objective.patch is {}, larger than the pictures, {shape}: choose a larger --size, or a smaller patch",
                objective.patch
            )));
        }
        let whole = objective.whole(shape, &config.network)?;
        let seed = config.training.seed;
        let restorer = Restorer::new(backend, &config.network, &objective, shape.channels, seed)?;
        let adam = Adam::new(backend, &[&restorer.network.graph], config.adam)?;
        let gradients = Gradients::of(backend, &restorer.network.graph)?;
        let critic = (objective.adversarial > 0.0).then(|| {
            let seen = objective.clean(shape.channels);
            Critic::new(backend, objective.discriminator_base, seen, config.adam, seed)
        });
        let critic = critic.transpose()?;
        Ok(Self { config, objective, restorer, adam, gradients, critic, paired, whole })
    }
}

impl<B: Backend> Learner for TransformLearner<B> {
    fn step(&mut self, at: &Step<'_>, dataset: &Dataset) -> Stepped {
        let seed = self.config.training.seed;
        let material = Material::new(&dataset.train, dataset, self.paired);
        let examples = Examples::pieces(&self.objective, &material, at.indices, (seed, at.step))?;
        self.gradients.clear()?;
        let critic = self.critic.as_mut().filter(|_| self.objective.is_adversarial(at.progress));
        let adversary =
            critic.map(|critic| Adversary { critic, weight: self.objective.adversarial, rate: at.rate });
        let Learned { squares, played } =
            self.restorer.learn(&examples, self.objective.difference, adversary, &mut self.gradients)?;
        let norm = Gradients::clip(&mut [&mut self.gradients], self.config.training.clip)?;
        if !(squares + norm).is_finite() {
            return Err(Stop::Diverged(format!("the error is {squares}, the gradient's norm {norm}")));
        }
        self.adam.update(&mut [(&mut self.restorer.network.graph, &self.gradients)], at.rate)?;
        let mut found = figures([("psnr", -10.0 * squares.max(1e-20).log10())]);
        if let Some((of_critic, fooled)) = played {
            if !(of_critic.loss + of_critic.norm + fooled).is_finite() {
                return Err(Stop::Diverged(format!("the discriminator's loss is {}", of_critic.loss)));
            }
            found.extend(figures([
                ("d_loss", of_critic.loss),
                ("d_real", of_critic.real_accuracy),
                ("d_generated", of_critic.generated_accuracy),
                ("g_loss", fooled),
            ]));
        }
        Ok(found)
    }

    fn init_from(&mut self, weights: &Weights, _dataset: &Dataset) -> Result<Taken> {
        let mut taken = Taken::default();
        let mut graph = self.restorer.network.host()?;
        weights.give("transform", &mut graph, &[], &mut taken);
        self.restorer.network.set(graph.parameters())?;
        Ok(taken)
    }

    fn judge(&mut self, moment: &Moment<'_>, _train: &Figures) -> Result<Verdict> {
        let dataset = moment.dataset;
        if dataset.validation.count() == 0 {
            return Ok(Verdict::default()); // the last weights are used
        }
        let found = restoring::measure(
            &self.restorer,
            &self.objective,
            &Material::new(&dataset.validation, dataset, self.paired),
            self.whole,
            self.config.training.validate,
        )?;
        let figures = figures([
            ("psnr", found.restored.psnr.mean),
            ("ssim", found.restored.ssim.mean),
            ("given_psnr", found.given.psnr.mean),
        ]);
        // sharper pictures have a lower ratio: with a discriminator the last weights are used
        let score = self.critic.is_none().then_some(found.restored.psnr.mean);
        Ok(Verdict { figures, score, ..Verdict::default() })
    }

    fn parameters(&self) -> Result<Vec<Parameter>> {
        let mut all = self.restorer.network.parameters()?;
        if let Some(critic) = &self.critic {
            all.extend(critic.parameters()?);
        }
        Ok(all)
    }

    fn moments(&self) -> Result<Moments> {
        let mut all = self.adam.moments(&[&self.restorer.network])?;
        if let Some(critic) = &self.critic {
            all.extend(critic.moments()?);
        }
        Ok(all)
    }

    fn restore(&mut self, checkpoint: &mut Checkpoint, steps: u64, _: &Dataset) -> Result<()> {
        let network = &mut self.restorer.network;
        let stored = checkpoint.weights(network.graph.parameters())?;
        network.set(&stored)?;
        self.adam.restore(steps, checkpoint.moments(network.graph.parameters())?)?;
        if let Some(critic) = &mut self.critic {
            let stored = checkpoint.weights(&critic.parameters()?)?;
            let moments = checkpoint.moments(critic.network().graph.parameters())?;
            critic.restore(&stored, moments)?;
        }
        Ok(())
    }

    fn draw(&self, folder: &RunFolder, step: u64, dataset: &Dataset) -> Result<Vec<Shown>> {
        let pictures = if dataset.validation.count() > 0 { &dataset.validation } else { &dataset.train };
        let cut = ImageShape {
            height: self.whole.height.min(LONGEST_SHOWN / self.objective.patch.max(1) * self.objective.patch),
            width: self.whole.width.min(LONGEST_SHOWN / self.objective.patch.max(1) * self.objective.patch),
            ..self.whole
        };
        let part = self.objective.whole(cut, &self.config.network).unwrap_or(self.whole);
        let material = Material::new(pictures, dataset, self.paired);
        let indices: Vec<usize> = spread(pictures.count(), SHOWN).collect();
        let strength = self.objective.degradation().middle();
        let examples = Examples::held_out(&self.objective, strength, &material, part, &indices)?;
        let frames = restoring::beside(&self.restorer, self.objective.scale, &examples, part, Range::Unit)?;
        let shown = folder.picture("restored", step)?;
        write_grid(&frames, Some(3), &shown)?;
        Ok(vec![("restored", shown)])
    }

    fn panels(&self) -> Vec<Panel> {
        let mut panels = vec![Panel::of_both("PSNR (dB)", "psnr")];
        if self.critic.is_some() {
            let curve = |label, key| Curve { label, source: Source::Train, key };
            let curves = vec![curve("discriminator", "d_loss"), curve("network", "g_loss")];
            panels.push(Panel { title: "losses of the discriminator".into(), curves });
        }
        panels
    }

    fn largest_layer(&self) -> usize {
        self.restorer.network.graph.largest_value()
    }
}
