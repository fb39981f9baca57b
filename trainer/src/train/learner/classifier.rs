//! Training a classifier.

use crate::random::{Purpose, Stream};
use edgegen_runtime::model::Range;

use super::{Learner, Moment, Shown, Step, Stepped, Stop, Verdict};
use crate::compute::adam::Adam;
use crate::compute::{Backend, Gradients};
use crate::data::{self, Dataset};
use crate::evaluate::verdicts;
use crate::graph::Parameter;
use crate::objective::classifier::{Classifier, ClassifierConfig, shift_at_random};
use crate::train::checkpoint::{Checkpoint, Moments};
use crate::train::config::Config;
use crate::train::folder::RunFolder;
use crate::train::init::{Taken, Weights};
use crate::train::metrics::{Figures, figures};
use crate::train::pictures::Panel;
use crate::{Error, Result};

pub(super) struct ClassifierLearner<B: Backend> {
    config: Config,
    objective: ClassifierConfig,
    classifier: Classifier<B>,
    adam: Adam<B>,
    gradients: Gradients<B>,
}

impl<B: Backend> ClassifierLearner<B> {
    pub(super) fn new(
        backend: &B,
        config: Config,
        objective: ClassifierConfig,
        dataset: &Dataset,
    ) -> Result<Self> {
        if config.network.conditional {
            return Err(Error::Config(
                "--conditional is for generators: a classifier is not conditioned on the class".into(),
            ));
        }
        let classes = dataset.classes.len();
        let seed = config.training.seed;
        let classifier = Classifier::new(backend, &config.network, dataset.shape, classes, seed)?;
        let adam = Adam::new(backend, &[&classifier.network.graph], config.adam)?;
        let gradients = Gradients::of(backend, &classifier.network.graph)?;
        Ok(Self { config, objective, classifier, adam, gradients })
    }
}

impl<B: Backend> Learner for ClassifierLearner<B> {
    fn step(&mut self, at: &Step<'_>, dataset: &Dataset) -> Stepped {
        let seed = self.config.training.seed;
        let mut pictures = data::training_batch(Range::Unit, dataset, at.indices, seed, at.step);
        let labels: Vec<u16> = at.indices.iter().map(|index| dataset.train.labels()[*index]).collect();
        let mut chance = Stream::new(seed, Purpose::Augment, at.step);
        shift_at_random(&mut pictures, dataset.shape, self.objective.shift, &mut chance);
        self.gradients.clear()?;
        let (loss, accuracy) = self.classifier.learn(&pictures, &labels, &mut self.gradients)?;
        let norm = Gradients::clip(&mut [&mut self.gradients], self.config.training.clip)?;
        if !(loss + norm).is_finite() {
            return Err(Stop::Diverged(format!("the loss is {loss}, the gradient's norm {norm}")));
        }
        self.adam.update(&mut [(&mut self.classifier.network.graph, &self.gradients)], at.rate)?;
        Ok(figures([("cross_entropy", loss), ("accuracy", accuracy)]))
    }

    fn init_from(&mut self, weights: &Weights, _dataset: &Dataset) -> Result<Taken> {
        let mut taken = Taken::default();
        let mut graph = self.classifier.network.host()?;
        weights.give("classifier", &mut graph, &[], &mut taken);
        self.classifier.network.set(graph.parameters())?;
        Ok(taken)
    }

    fn judge(&mut self, moment: &Moment<'_>, _train: &Figures) -> Result<Verdict> {
        let (limit, dataset) = (self.config.training.validate, moment.dataset);
        if dataset.validation.count() == 0 {
            return Ok(Verdict::default()); // the last weights are used
        }
        let (loss, accuracy) = verdicts(&self.classifier, dataset.shape, &dataset.validation, limit)?;
        let figures = figures([("cross_entropy", loss), ("accuracy", accuracy)]);
        Ok(Verdict { figures, score: Some(-loss), ..Verdict::default() })
    }

    fn parameters(&self) -> Result<Vec<Parameter>> {
        self.classifier.network.parameters()
    }

    fn moments(&self) -> Result<Moments> {
        self.adam.moments(&[&self.classifier.network])
    }

    fn restore(&mut self, checkpoint: &mut Checkpoint, steps: u64, _: &Dataset) -> Result<()> {
        let network = &mut self.classifier.network;
        let stored = checkpoint.weights(network.graph.parameters())?;
        network.set(&stored)?;
        self.adam.restore(steps, checkpoint.moments(network.graph.parameters())?)
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
        self.classifier.network.graph.largest_value()
    }
}
