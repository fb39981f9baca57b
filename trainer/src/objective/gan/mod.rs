//! The generative adversarial network (I. Goodfellow et al., 2014): a generator G turns latents into
//! pictures, a discriminator D tells them from real ones, and each step moves both.
//!
//! D gives one logit a picture. With classes, G adds a row of a table to its first dense layer, and D is a
//! projection discriminator (T. Miyato, M. Koyama, 2018). The generator that is used in the end is a moving average of G.

pub mod augment;
pub mod loss;
pub mod penalty;
pub mod spectral;

use documented::DocumentedFields;
use edgegen_runtime::model::ImageShape;
use edgegen_runtime::random::Stream;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::compute::adam::{Adam, AdamConfig};
use crate::compute::network::Instead;
use crate::compute::{Backend, Gradients, Lanes, Network, Pass};
use crate::graph::family::{self, DiscriminatorForm, NetworkConfig, Normalisation};
use crate::graph::{Graph, Op, Parameter};

use augment::{Augmentation, Draws};
use loss::{Loss, Wanted};
use penalty::{Penalised, STEP, penalise};
use spectral::Spectral;

/// What D and G play.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, DocumentedFields)]
#[serde(deny_unknown_fields)]
pub struct GanConfig {
    /// What both minimise.
    pub loss: Loss,
    /// Share of doubt in real pictures: D's target is 1 − this. Not for the hinge.
    pub label_smoothing: f64,
    /// Channels of D's first layer; each halving of the side doubles them.
    pub discriminator_base: usize,
    /// How D keeps its layers in bounds.
    pub discriminator_norm: Normalisation,
    /// D's learning rate, as a multiple of G's (M. Heusel et al., 2017).
    pub discriminator_rate: f64,
    /// G moves at every so many steps of D.
    pub discriminator_steps: u64,
    /// Steps of D alone before G moves: a new discriminator would pull a trained generator away.
    #[serde(default)]
    pub generator_delay: u64,
    /// D's first convolutions that keep their weights, when it is fine-tuned (S. Mo et al., 2020, "Freeze the
    /// discriminator").
    #[serde(default)]
    pub discriminator_frozen: usize,
    /// γ of R1, γ/2 · ‖∇D‖² on real pictures before augmentation (L. Mescheder et al., 2018); 0: none. See
    /// [`penalty`].
    pub r1: f64,
    /// R1 is computed at every so many steps, and weighs as much more (T. Karras et al., 2020).
    pub r1_every: u64,
    /// What happens to pictures before D sees them.
    pub augment: Vec<Augmentation>,
    /// Decay of G's moving average at each of its steps (sooner in the first steps).
    pub average: f64,
    /// The ONNX network on whose features samples are measured while the run goes on, and its input's scaling after a
    /// space, for example `features.onnx mean=127,scale=128`; empty: the shipped classifier for digits, otherwise the
    /// run's own discriminator.
    #[serde(default)]
    pub features: String,
}

impl GanConfig {
    /// The form of D.
    pub fn discriminator(&self) -> DiscriminatorForm {
        DiscriminatorForm { base: self.discriminator_base, norm: self.discriminator_norm }
    }

    /// Whether G moves in step `step`, from 0.
    pub(crate) fn moves_generator(&self, step: u64) -> bool {
        step >= self.generator_delay && (step + 1).is_multiple_of(self.discriminator_steps)
    }

    /// Decay of the moving average after G's step number `steps`, from 1.
    pub(crate) fn decay(&self, steps: u64) -> f64 {
        self.average.min(steps as f64 / (steps as f64 + 9.0))
    }
}

/// A generator and a discriminator with values, and their optimisers.
pub struct Gan<B: Backend = Lanes> {
    /// Latent (N, L) → image (N, C, H, W) in [−1, 1].
    pub generator: Network<B>,
    /// Image (N, C, H, W) → logit (N, 1).
    pub discriminator: Network<B>,
    /// The moving average of G.
    pub average: Network<B>,
    generator_adam: Adam<B>,
    discriminator_adam: Adam<B>,
    generator_gradients: Gradients<B>,
    discriminator_gradients: Gradients<B>,
    spectral: Option<Spectral<B>>,
    /// D's first parameters that keep their values.
    frozen: usize,
    config: GanConfig,
}

/// What one step looks at: rows of pictures in [−1, 1] and of latents, with classes where the networks take
/// them (the latents are of the pictures' classes).
pub struct Example<'a> {
    /// (N, C, H, W).
    pub real: &'a [f32],
    /// (N, L).
    pub latents: &'a [f32],
    /// (N).
    pub classes: Option<&'a [u32]>,
}

/// How far a step moves.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The step's number, from 0.
    pub step: u64,
    /// G's learning rate.
    pub rate: f64,
    /// Bound of each network's gradient norm; 0: none.
    pub clip: f64,
}

/// What a step tells of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Mean loss of D over real and generated pictures, added.
    pub discriminator_loss: f64,
    /// Mean loss of G, at its turn.
    pub generator_loss: Option<f64>,
    /// Share of real pictures that D takes for real.
    pub real_accuracy: f64,
    /// Share of generated pictures that D takes for generated.
    pub drawn_accuracy: f64,
    /// Norm of D's gradient.
    pub discriminator_norm: f64,
    /// Norm of G's gradient, at its turn.
    pub generator_norm: Option<f64>,
    /// Mean of ‖∇D‖² on real pictures, where R1 was computed.
    pub slope: Option<f64>,
}

impl Figures {
    /// Notes what share of a batch's logits is right.
    pub(crate) fn note_accuracy(&mut self, wanted: Wanted, logits: &[f32]) {
        let share = |right: fn(&f32) -> bool| {
            logits.iter().filter(|logit| right(logit)).count() as f64 / logits.len().max(1) as f64
        };
        match wanted {
            Wanted::Real(_) => self.real_accuracy = share(|logit| *logit > 0.0),
            _ => self.drawn_accuracy = share(|logit| *logit < 0.0),
        }
    }

    /// Whether all are numbers.
    pub fn finite(&self) -> bool {
        let present = [self.generator_loss, self.generator_norm, self.slope].into_iter().flatten();
        (self.discriminator_loss + self.discriminator_norm + present.sum::<f64>()).is_finite()
    }
}

/// What D says of a batch.
struct Judged<B: Backend> {
    /// The loss.
    value: f64,
    /// (N).
    logits: Vec<f32>,
    /// Of the loss for the logits.
    gradient: B::Tensor,
    pass: Pass<B>,
}

impl<B: Backend> Gan<B> {
    /// First values from `seed`; `classes` 0: none.
    ///
    /// # Errors
    /// [`crate::Error::Config`] if the pictures do not fit the architecture; the device's.
    pub fn new(
        backend: &B,
        network: &NetworkConfig,
        config: &GanConfig,
        adam: AdamConfig,
        image: ImageShape,
        classes: usize,
        seed: u64,
    ) -> Result<Self> {
        let (generator, discriminator) = family::gan(network, config.discriminator(), image, classes)?;
        let generator = generator.initialise(seed, 0);
        let first = generator.parameters().count() as u64;
        Self::of(backend, &generator, &discriminator.initialise(seed, first), config, adam, seed)
    }

    /// Two networks with new optimisers.
    fn of(
        backend: &B,
        generator: &Graph,
        discriminator: &Graph,
        config: &GanConfig,
        adam: AdamConfig,
        seed: u64,
    ) -> Result<Self> {
        let generator = Network::new(backend, generator)?;
        let discriminator = Network::new(backend, discriminator)?;
        let spectral = (config.discriminator_norm == Normalisation::Spectral)
            .then(|| Spectral::new(&discriminator, seed))
            .transpose()?;
        Ok(Self {
            generator_adam: Adam::new(backend, &[&generator.graph], adam)?,
            discriminator_adam: Adam::new(backend, &[&discriminator.graph], adam)?,
            generator_gradients: Gradients::of(backend, &generator.graph)?,
            discriminator_gradients: Gradients::of(backend, &discriminator.graph)?,
            average: generator.renamed("average"),
            frozen: frozen_parameters(&discriminator.graph, config.discriminator_frozen),
            config: config.clone(),
            spectral,
            generator,
            discriminator,
        })
    }

    /// All named tensors: G's, its average's, D's, and the state of its normalisation.
    ///
    /// # Errors
    /// The device's.
    pub fn parameters(&self) -> Result<Vec<Parameter>> {
        let mut all = self.generator.parameters()?;
        all.extend(self.average.parameters()?);
        all.extend(self.discriminator.parameters()?);
        if let Some(spectral) = &self.spectral {
            all.extend(spectral.state()?);
        }
        Ok(all)
    }

    /// Takes up the values of such a list.
    ///
    /// # Errors
    /// The device's.
    pub fn set_parameters(&mut self, all: &[Parameter]) -> Result<()> {
        let mut rest = all;
        for network in [&mut self.generator, &mut self.average, &mut self.discriminator] {
            let (own, others) = rest.split_at(network.graph.parameters().count().min(rest.len()));
            network.set(own)?;
            rest = others;
        }
        self.spectral.as_mut().map_or(Ok(()), |spectral| spectral.restore(rest))
    }

    /// D with the weights that it works with: those that spectral normalisation divides are divided.
    ///
    /// # Errors
    /// The device's.
    pub fn normalised_discriminator(&self) -> Result<Network<B>> {
        let mut network = self.discriminator.clone();
        if let Some(mut spectral) = self.spectral.clone() {
            let divided = spectral.divide(&network)?;
            let mut parameters: Vec<_> = network.graph.parameters_mut().collect();
            divided.into_iter().for_each(|(place, divided)| parameters[place].value = divided.weight);
        }
        Ok(network)
    }

    /// The optimisers, each with its network.
    pub fn optimisers(&self) -> [(&Adam<B>, &Network<B>); 2] {
        [(&self.generator_adam, &self.generator), (&self.discriminator_adam, &self.discriminator)]
    }

    /// The same, to be restored.
    pub fn optimisers_mut(&mut self) -> [(&mut Adam<B>, &Network<B>); 2] {
        [(&mut self.generator_adam, &self.generator), (&mut self.discriminator_adam, &self.discriminator)]
    }

    /// Steps of (G, D) when `steps` are done.
    pub fn steps_of_each(&self, steps: u64) -> [u64; 2] {
        let GanConfig { discriminator_steps, generator_delay, .. } = self.config;
        [(steps / discriminator_steps).saturating_sub(generator_delay / discriminator_steps), steps]
    }

    fn backend(&self) -> B {
        self.generator.backend().clone()
    }

    /// One step of D (on real pictures, then on generated ones, as two batches: a batch norm must not see both),
    /// then, at its turn, one of G on the same latents. D's own gradients are not computed in G's step.
    /// `chance` decides the augmentation.
    ///
    /// # Errors
    /// The device's.
    pub fn learn(&mut self, example: &Example<'_>, pace: Pace, chance: &mut Stream) -> Result<Figures> {
        let mut figures = Figures::default();
        let (backend, classes) = (self.backend(), example.classes);
        let latents = backend.tensor(example.latents, self.generator.input_shape())?;
        let output = self.generator.graph.output();
        let (drawn, drawing) = self.generator.train(latents, classes, output, &[])?;

        let divided = self.divide()?;
        self.discriminator_gradients.clear()?;
        self.look_at_real(example, pace.step, chance, &divided, &mut figures)?;
        let (seen, _) = self.augmented(drawn.clone(), chance)?;
        self.judge(seen, classes, Wanted::Drawn, &divided, &mut figures)?;
        if let Some(spectral) = &self.spectral {
            spectral.backward(&divided, &mut self.discriminator_gradients)?;
        }
        self.discriminator_gradients.freeze(self.frozen)?;
        figures.discriminator_norm = Gradients::clip(&mut [&mut self.discriminator_gradients], pace.clip)?;
        self.discriminator_adam.update(
            &mut [(&mut self.discriminator.graph, &self.discriminator_gradients)],
            pace.rate * self.config.discriminator_rate,
        )?;
        if self.config.moves_generator(pace.step) {
            self.move_generator(drawn, &drawing, classes, pace, chance, &mut figures)?;
        }
        Ok(figures)
    }

    fn divide(&mut self) -> Result<Vec<Instead<B>>> {
        match &mut self.spectral {
            Some(spectral) => spectral.divide(&self.discriminator),
            None => Ok(Vec::new()),
        }
    }

    /// Adds D's gradients of the loss on real pictures, and of R1 at its turn.
    fn look_at_real(
        &mut self,
        example: &Example<'_>,
        step: u64,
        chance: &mut Stream,
        divided: &[Instead<B>],
        figures: &mut Figures,
    ) -> Result<()> {
        let backend = self.backend();
        let real = backend.tensor(example.real, self.discriminator.input_shape())?;
        let draws = self.draws(backend.count(&real), chance);
        let seen = match &draws {
            Some(draws) => draws.apply(&backend, real.clone())?,
            None => real.clone(),
        };
        let wanted = Wanted::Real(self.config.label_smoothing);
        self.judge(seen, example.classes, wanted, divided, figures)?;
        if self.config.r1 > 0.0 && step.is_multiple_of(self.config.r1_every) {
            let weight = self.config.r1 * self.config.r1_every as f64;
            let penalised = Penalised { pictures: real, classes: example.classes, draws: draws.as_ref() };
            let gradients = &mut self.discriminator_gradients;
            let squares = penalise(&mut self.discriminator, &penalised, weight, STEP, gradients, divided)?;
            figures.slope = Some(squares);
        }
        Ok(())
    }

    /// D's logits on a batch, and the loss on them.
    fn loss(
        &mut self,
        pictures: B::Tensor,
        classes: Option<&[u32]>,
        wanted: Wanted,
        divided: &[Instead<B>],
    ) -> Result<Judged<B>> {
        let backend = self.backend();
        let output = self.discriminator.graph.output();
        let (logits, pass) = self.discriminator.train(pictures, classes, output, divided)?;
        let logits = backend.rows(&logits)?;
        let (value, gradient) = self.config.loss.of(&logits, wanted);
        let gradient = backend.tensor(&gradient, self.discriminator.output_shape())?;
        Ok(Judged { value, logits, gradient, pass })
    }

    /// Adds D's gradients of the loss on a batch.
    fn judge(
        &mut self,
        pictures: B::Tensor,
        classes: Option<&[u32]>,
        wanted: Wanted,
        divided: &[Instead<B>],
        figures: &mut Figures,
    ) -> Result<()> {
        let Judged { value, logits, gradient, pass } = self.loss(pictures, classes, wanted, divided)?;
        figures.discriminator_loss += value;
        figures.note_accuracy(wanted, &logits);
        let seeds = vec![(self.discriminator.graph.output(), gradient)];
        let gradients = Some(&mut self.discriminator_gradients);
        self.discriminator.backward(&pass, seeds, gradients, false, divided)?;
        Ok(())
    }

    fn draws(&self, count: usize, chance: &mut Stream) -> Option<Draws> {
        let (channels, height, width) = self.discriminator.input_shape().image();
        let shape = ImageShape { channels, height, width };
        let some = !self.config.augment.is_empty();
        some.then(|| Draws::new(&self.config.augment, shape, count, chance))
    }

    /// Generated pictures as D sees them, and what was done to them.
    fn augmented(&self, drawn: B::Tensor, chance: &mut Stream) -> Result<(B::Tensor, Option<Draws>)> {
        let backend = self.backend();
        let draws = self.draws(backend.count(&drawn), chance);
        let seen = match &draws {
            Some(draws) => draws.apply(&backend, drawn)?,
            None => drawn,
        };
        Ok((seen, draws))
    }

    fn move_generator(
        &mut self,
        drawn: B::Tensor,
        drawing: &Pass<B>,
        classes: Option<&[u32]>,
        pace: Pace,
        chance: &mut Stream,
        figures: &mut Figures,
    ) -> Result<()> {
        let (seen, draws) = self.augmented(drawn, chance)?;
        let divided = self.divide()?;
        let Judged { value, gradient, pass, .. } = self.loss(seen, classes, Wanted::Fooled, &divided)?;
        figures.generator_loss = Some(value);
        let seeds = vec![(self.discriminator.graph.output(), gradient)];
        let of_seen = self.discriminator.backward(&pass, seeds, None, true, &divided)?;
        drop(pass);
        let Some(mut of_drawn) = of_seen else { return Ok(()) };
        if let Some(draws) = draws {
            of_drawn = draws.backward(&self.backend(), of_drawn)?;
        }
        self.generator_gradients.clear()?;
        let seeds = vec![(self.generator.graph.output(), of_drawn)];
        let gradients = &mut self.generator_gradients;
        self.generator.backward(drawing, seeds, Some(gradients), false, &[])?;
        figures.generator_norm = Some(Gradients::clip(&mut [&mut self.generator_gradients], pace.clip)?);
        let moved = &mut [(&mut self.generator.graph, &self.generator_gradients)];
        self.generator_adam.update(moved, pace.rate)?;
        let decay = self.config.decay(self.generator_adam.steps());
        self.average.follow(&self.generator, decay)
    }
}

/// Parameters of the first `convolutions` of a discriminator, with those of the norms between them.
fn frozen_parameters<W>(discriminator: &Graph<W>, convolutions: usize) -> usize {
    if convolutions == 0 {
        return 0;
    }
    let nodes = &discriminator.nodes;
    let linear =
        nodes.iter().enumerate().filter(|(_, node)| matches!(node.op, Op::Conv { .. } | Op::Dense { .. }));
    // up to the convolution that is trained
    let end = linear.map(|(index, _)| index).nth(convolutions).unwrap_or(nodes.len());
    nodes[..end].iter().map(|node| node.parameters.len()).sum()
}

#[cfg(test)]
mod tests {
    use edgegen_runtime::random::{Purpose, Stream};

    use super::*;
    use crate::graph::{Activation, Shape};

    fn config() -> GanConfig {
        GanConfig {
            loss: Loss::NonSaturating,
            label_smoothing: 0.0,
            discriminator_base: 8,
            discriminator_norm: Normalisation::None,
            discriminator_rate: 1.0,
            discriminator_steps: 1,
            generator_delay: 0,
            discriminator_frozen: 0,
            r1: 0.0,
            r1_every: 1,
            augment: Vec::new(),
            average: 0.99,
            features: String::new(),
        }
    }

    fn noise(count: usize, index: u64) -> Vec<f32> {
        let mut values = vec![0f32; count];
        Stream::new(9, Purpose::Evaluation, index).fill_normal(&mut values);
        values
    }

    /// A generator of one number a class learns where the class's numbers lie.
    #[test]
    fn a_conditional_generator_finds_the_classes() {
        const BATCH: usize = 64;
        let leaky = || Op::Activation(Activation::LeakyRelu(0.2));
        let generator = vec![
            Op::Dense { inputs: 2, outputs: 16 },
            Op::ClassRow { classes: 2, features: 16 },
            leaky(),
            Op::Dense { inputs: 16, outputs: 1 },
        ];
        let discriminator = vec![
            Op::Dense { inputs: 1, outputs: 32 },
            leaky(),
            Op::Dense { inputs: 32, outputs: 32 },
            leaky(),
            Op::Dense { inputs: 32, outputs: 3 },
            Op::ClassProjection { classes: 2 },
        ];
        let graph = |input, ops, name, first| {
            Graph::chain(name, Shape::Vector(input), ops).unwrap().initialise(1, first)
        };
        let (generator, discriminator) =
            (graph(2, generator, "generator", 0), graph(1, discriminator, "discriminator", 100));
        let adam = AdamConfig { beta1: 0.5, ..AdamConfig::default() };
        let mut gan = Gan::of(&Lanes, &generator, &discriminator, &config(), adam, 1).unwrap();
        let classes: Vec<u32> = (0..BATCH as u32).map(|row| row % 2).collect();
        for step in 0..1500 {
            let mut real = noise(BATCH, 2 * step);
            real.iter_mut()
                .zip(classes.iter())
                .for_each(|(x, class)| *x = *x * 0.1 + 2.0 * *class as f32 - 1.0);
            let latents = noise(BATCH * 2, 2 * step + 1);
            let example = Example { real: &real, latents: &latents, classes: Some(&classes) };
            let pace = Pace { step, rate: 2e-3, clip: 0.0 };
            let figures = gan.learn(&example, pace, &mut Stream::new(9, Purpose::Augment, step)).unwrap();
            assert!(figures.finite());
        }
        let drawn = gan.average.infer(&noise(BATCH * 2, 99_999), Some(&classes)).unwrap();
        let near = |(x, class): (&f32, &u32)| (x - (2.0 * *class as f32 - 1.0)).abs() < 0.6;
        let right = drawn.iter().zip(classes.iter()).filter(|pair| near(*pair)).count();
        assert!(right * 10 >= BATCH * 9, "{right} of {BATCH}: {drawn:?}");
    }

    fn network(architecture: family::Architecture, base: usize) -> NetworkConfig {
        NetworkConfig {
            architecture,
            latent: 6,
            hidden: Vec::new(),
            base,
            activation: Activation::Relu,
            conditional: false,
        }
    }

    /// Frozen layers keep their values, the others move; G waits.
    #[test]
    fn frozen_layers_stay_and_a_delayed_generator_waits() {
        let image = ImageShape { channels: 1, height: 28, width: 28 };
        let network = network(family::Architecture::Dcgan, 4);
        let config = GanConfig {
            discriminator_frozen: 1,
            generator_delay: 2,
            discriminator_norm: Normalisation::Batch,
            ..config()
        };
        let mut gan = Gan::new(&Lanes, &network, &config, AdamConfig::default(), image, 0, 1).unwrap();
        let (first, generator) = (gan.discriminator.clone(), gan.generator.clone());
        for step in 0..3 {
            let (real, latents) = (noise(4 * 784, 2 * step), noise(4 * 6, 2 * step + 1));
            let example = Example { real: &real, latents: &latents, classes: None };
            let pace = Pace { step, rate: 1e-3, clip: 0.0 };
            gan.learn(&example, pace, &mut Stream::new(1, Purpose::Augment, step)).unwrap();
            let first = |network: &Network| network.parameters().unwrap()[0].value.clone();
            let moved = first(&gan.generator) != first(&generator);
            assert_eq!(moved, step == 2, "G waits for two steps");
            assert_eq!(gan.steps_of_each(step + 1), gan.optimisers().map(|(adam, _)| adam.steps()));
        }
        let pairs = first.graph.parameters().zip(gan.discriminator.graph.parameters());
        let moved: Vec<&str> =
            pairs.filter(|(a, b)| a.value != b.value).map(|(a, _)| a.name.as_str()).collect();
        assert!(!moved.iter().any(|name| name.starts_with("discriminator.0.")), "{moved:?}");
        assert!(moved.contains(&"discriminator.2.weight"), "{moved:?}");
    }

    /// Spectral normalisation, R1, augmentation and classes at once, G at every second step.
    #[test]
    fn a_step_with_everything_stays_finite_and_moves_both() {
        let image = ImageShape { channels: 3, height: 16, width: 16 };
        let network = NetworkConfig { conditional: true, ..network(family::Architecture::Upsample, 8) };
        let config = GanConfig {
            discriminator_norm: Normalisation::Spectral,
            discriminator_steps: 2,
            r1: 1.0,
            r1_every: 2,
            augment: vec![Augmentation::Color, Augmentation::Translation, Augmentation::Cutout],
            ..config()
        };
        let mut gan = Gan::new(&Lanes, &network, &config, AdamConfig::default(), image, 4, 1).unwrap();
        let classes = [0, 1, 2, 3, 0];
        let before = [gan.generator.clone(), gan.discriminator.clone()];
        for step in 0..4 {
            let (real, latents) = (noise(5 * image.values(), 2 * step), noise(5 * 6, 2 * step + 1));
            let example = Example { real: &real, latents: &latents, classes: Some(&classes) };
            let pace = Pace { step, rate: 1e-3, clip: 1.0 };
            let figures = gan.learn(&example, pace, &mut Stream::new(1, Purpose::Augment, step)).unwrap();
            assert!(figures.finite(), "{figures:?}");
            assert_eq!(
                figures.generator_norm.is_some_and(|norm| norm > 0.0),
                step % 2 == 1,
                "G moves at every second step"
            );
            assert_eq!(figures.slope.is_some(), step % 2 == 0);
        }
        assert_eq!(gan.steps_of_each(4), [2, 4]);
        assert_eq!(gan.optimisers().map(|(adam, _)| adam.steps()), [2, 4]);
        for (before, after) in before.iter().zip([&gan.generator, &gan.discriminator]) {
            for (before, after) in before.graph.parameters().zip(after.graph.parameters()) {
                assert!(before.value != after.value, "{} stayed", before.name);
            }
        }
    }
}
