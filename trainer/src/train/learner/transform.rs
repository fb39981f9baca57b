//! Training a network from pictures to pictures.

use edgegen_runtime::model::{ImageShape, Range};

use super::{Learner, Moment, Shown, Step, Stepped, Stop, Verdict};
use crate::compute::adam::Adam;
use crate::compute::{Backend, Gradients};
use crate::data::Dataset;
use crate::evaluate::restoring;
use crate::evaluate::spread;
use crate::graph::Parameter;
use crate::objective::transform::{Examples, Restorer, TransformConfig};
use crate::train::checkpoint::{Checkpoint, Moments};
use crate::train::config::Config;
use crate::train::folder::RunFolder;
use crate::train::init::{Taken, Weights};
use crate::train::metrics::{Figures, figures};
use crate::train::pictures::{Panel, write_grid};
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
        let shape = dataset.shape;
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
        Ok(Self { config, objective, restorer, adam, gradients, whole })
    }
}

impl<B: Backend> Learner for TransformLearner<B> {
    fn step(&mut self, at: &Step<'_>, dataset: &Dataset) -> Stepped {
        let seed = self.config.training.seed;
        let (pictures, shape) = (&dataset.train, dataset.shape);
        let examples = Examples::pieces(&self.objective, pictures, shape, at.indices, (seed, at.step))?;
        self.gradients.clear()?;
        let squares = self.restorer.learn(&examples, self.objective.difference, &mut self.gradients)?;
        let norm = Gradients::clip(&mut [&mut self.gradients], self.config.training.clip)?;
        if !(squares + norm).is_finite() {
            return Err(Stop::Diverged(format!("the error is {squares}, the gradient's norm {norm}")));
        }
        self.adam.update(&mut [(&mut self.restorer.network.graph, &self.gradients)], at.rate)?;
        Ok(figures([("psnr", -10.0 * squares.max(1e-20).log10())]))
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
            (&dataset.validation, dataset.shape, self.whole),
            self.config.training.validate,
        )?;
        let figures = figures([
            ("psnr", found.restored.psnr.mean),
            ("ssim", found.restored.ssim.mean),
            ("given_psnr", found.given.psnr.mean),
        ]);
        Ok(Verdict { figures, score: Some(found.restored.psnr.mean), ..Verdict::default() })
    }

    fn parameters(&self) -> Result<Vec<Parameter>> {
        self.restorer.network.parameters()
    }

    fn moments(&self) -> Result<Moments> {
        self.adam.moments(&[&self.restorer.network])
    }

    fn restore(&mut self, checkpoint: &mut Checkpoint, steps: u64, _: &Dataset) -> Result<()> {
        let network = &mut self.restorer.network;
        let stored = checkpoint.weights(network.graph.parameters())?;
        network.set(&stored)?;
        self.adam.restore(steps, checkpoint.moments(network.graph.parameters())?)
    }

    fn draw(&self, folder: &RunFolder, step: u64, dataset: &Dataset) -> Result<Vec<Shown>> {
        let pictures = if dataset.validation.count() > 0 { &dataset.validation } else { &dataset.train };
        let cut = ImageShape {
            height: self.whole.height.min(LONGEST_SHOWN / self.objective.patch.max(1) * self.objective.patch),
            width: self.whole.width.min(LONGEST_SHOWN / self.objective.patch.max(1) * self.objective.patch),
            ..self.whole
        };
        let part = self.objective.whole(cut, &self.config.network).unwrap_or(self.whole);
        let indices: Vec<usize> = spread(pictures.count(), SHOWN).collect();
        let strength = self.objective.degradation().middle();
        let examples =
            Examples::held_out(&self.objective, strength, pictures, (dataset.shape, part), &indices)?;
        let frames = restoring::beside(&self.restorer, self.objective.scale, &examples, part, Range::Unit)?;
        let shown = folder.picture("restored", step)?;
        write_grid(&frames, Some(3), &shown)?;
        Ok(vec![("restored", shown)])
    }

    fn panels(&self) -> Vec<Panel> {
        vec![Panel::of_both("PSNR (dB)", "psnr")]
    }

    fn largest_layer(&self) -> usize {
        self.restorer.network.graph.largest_value()
    }
}
