//! Training a classifier.

use candle_core::Device;
use edgegen_runtime::model::Range;
use edgegen_runtime::random::{Purpose, Stream};

use super::{Learner, Moment, Shown, Step, Stepped, Stop, Verdict, largest_layer};
use crate::classifier::{Classifier, ClassifierConfig, shift_at_random};
use crate::data::{self, Dataset};
use crate::evaluate::verdicts;
use crate::network::module::{Gradients, Parameter};
use crate::nn::adam::Adam;
use crate::train::checkpoint::{Checkpoint, Optimised, optimised};
use crate::train::config::Config;
use crate::train::folder::RunFolder;
use crate::train::init::{Taken, Weights};
use crate::train::metrics::{Figures, figures};
use crate::train::pictures::Panel;
use crate::{Error, Result};

pub(super) struct ClassifierLearner {
    config: Config,
    objective: ClassifierConfig,
    classifier: Classifier,
    adam: Adam,
    gradients: Gradients,
}

impl ClassifierLearner {
    pub(super) fn new(config: Config, objective: ClassifierConfig, dataset: &Dataset) -> Result<Self> {
        if config.network.conditional {
            return Err(Error::Config(
                "--conditional is for what draws: a classifier is not told the class".into(),
            ));
        }
        let classes = dataset.classes.len();
        let classifier = Classifier::new(&config.network, dataset.shape, classes, config.training.seed)?;
        let adam = Adam::new(&[&classifier.module], config.adam);
        let gradients = Gradients::of(&classifier.module);
        Ok(Self { config, objective, classifier, adam, gradients })
    }
}

impl Learner for ClassifierLearner {
    fn step(&mut self, at: &Step<'_>, dataset: &Dataset) -> Stepped {
        let seed = self.config.training.seed;
        let mut pictures = data::training_batch(Range::Unit, dataset, at.indices, seed, at.step);
        let labels: Vec<u16> = at.indices.iter().map(|index| dataset.train.labels()[*index]).collect();
        let mut chance = Stream::new(seed, Purpose::Augment, at.step);
        shift_at_random(&mut pictures, dataset.shape, self.objective.shift, &mut chance);
        self.gradients.clear();
        let (loss, accuracy) = self.classifier.learn(&pictures, &labels, &mut self.gradients);
        let norm = Gradients::clip(&mut [&mut self.gradients], self.config.training.clip);
        if !(loss + norm).is_finite() {
            return Err(Stop::Diverged(format!("the loss is {loss}, the gradient's norm {norm}")));
        }
        self.adam.update(&mut [(&mut self.classifier.module, &self.gradients)], at.rate);
        Ok(figures([("cross_entropy", loss), ("accuracy", accuracy)]))
    }

    fn move_to(&mut self, _device: &Device) -> Result<()> {
        Err(Error::Config("a classifier is trained on the CPU; use --device cpu".into()))
    }

    fn settle(&mut self) -> Result<()> {
        Ok(()) // it is never on a device
    }

    fn init_from(&mut self, weights: &Weights, _dataset: &Dataset) -> Result<Taken> {
        let mut taken = Taken::default();
        weights.give("classifier", &mut self.classifier.module, &[], &mut taken);
        Ok(taken)
    }

    fn judge(&mut self, moment: &Moment<'_>, _train: &Figures) -> Result<Verdict> {
        let (limit, dataset) = (self.config.training.validate, moment.dataset);
        if dataset.validation.count() == 0 {
            return Ok(Verdict::default()); // the last weights are used
        }
        let (loss, accuracy) = verdicts(&self.classifier, dataset.shape, &dataset.validation, limit);
        let figures = figures([("cross_entropy", loss), ("accuracy", accuracy)]);
        Ok(Verdict { figures, score: Some(-loss), ..Verdict::default() })
    }

    fn parameters(&self) -> Vec<&Parameter> {
        self.classifier.module.parameters().iter().collect()
    }

    fn optimisers(&self) -> Vec<Optimised<'_>> {
        vec![optimised(&self.adam, &[&self.classifier.module])]
    }

    fn restore(&mut self, checkpoint: &mut Checkpoint, steps: u64) -> Result<()> {
        checkpoint.restore_weights(self.classifier.module.parameters_mut())?;
        let moments = checkpoint.moments(self.classifier.module.parameters())?;
        self.adam.restore(steps, moments);
        Ok(())
    }

    fn draw(&self, _folder: &RunFolder, _step: u64, _dataset: &Dataset) -> Result<Vec<Shown>> {
        Ok(Vec::new()) // it generates nothing
    }

    fn panels(&self) -> Vec<Panel> {
        vec![
            Panel::of_both("cross-entropy (nats)", "cross_entropy"),
            Panel::of_both("share that is right", "accuracy"),
        ]
    }

    fn largest_layer(&self) -> usize {
        largest_layer(&[self.classifier.module.network()])
    }
}
