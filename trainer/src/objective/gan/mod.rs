//! The generative adversarial network (I. Goodfellow et al., 2014): a generator G turns latents into
//! pictures, a discriminator D tells them from real ones, and each step moves both.
//!
//! D gives one logit a picture. With classes, G adds a row of a table to its first dense layer, and D is a
//! projection discriminator (T. Miyato, M. Koyama, 2018). The generator that is used in the end is a moving average of G.

pub mod augment;
pub mod codes;
pub mod loss;
pub mod matching;
pub mod penalty;
pub mod spectral;

use crate::random::Stream;
use documented::DocumentedFields;
use edgegen_runtime::model::ImageShape;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::compute::adam::{Adam, AdamConfig};
use crate::compute::network::Instead;
use crate::compute::{Backend, ClassedRows, Gradients, Lanes, Network, Pass};
use crate::graph::family::{self, DiscriminatorForm, NetworkConfig, Normalisation, Sees};
use crate::graph::features::FeatureGraph;
use crate::graph::projected;
use crate::graph::teacher::Teacher;
use crate::graph::{Graph, Op, Parameter};
use crate::objective::feature_loss::FeatureLoss;
use crate::objective::transport;

use augment::{Augmentation, Draws};
use codes::Codes;
use loss::Loss;
use penalty::{Penalised, STEP, penalise};
use spectral::Spectral;

/// The first stream of first weights of a discriminator's heads.
const HEADS: u64 = 1 << 32;

/// Codes that batch norms' statistics are estimated from, and those of one batch.
const STATISTICS: usize = 1024;
const STATISTICS_BATCH: usize = 128;

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
    /// Whether D sees "pictures", or the "features" of a frozen network.
    #[serde(default)]
    pub discriminator_sees: Sees,
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
    /// γ of R2, the same on generated pictures (K. Roth et al., 2017; Y. Huang et al., 2024), computed with R1.
    #[serde(default)]
    pub r2: f64,
    /// What happens to pictures before D sees them.
    pub augment: Vec<Augmentation>,
    /// Decay of G's moving average at each of its steps (sooner in the first steps).
    pub average: f64,
    /// Weight of matching in what G minimises, beside the discriminator's: how unlike each real picture is to its nearest
    /// sample; 0: none. With the loss "matching" it is all that G minimises.
    #[serde(default)]
    pub matching: f64,
    /// Latents that real pictures are matched with.
    #[serde(default)]
    pub matching_pool: usize,
    /// Steps after which a new pool is drawn.
    #[serde(default)]
    pub matching_every: u64,
    /// With `network.codes`: the codes' learning rate, as a multiple of G's.
    #[serde(default)]
    pub code_rate: f64,
    /// With `network.codes`: the mean of the largest weight where a latent is mapped to a mean of codes. A smaller one
    /// mixes neighbouring codes more, and so draws more that no training picture shows.
    #[serde(default = "transport::share")]
    pub code_share: f64,
    /// Deviation of the noise that is added to matched latents, or to codes.
    #[serde(default)]
    pub matching_jitter: f64,
    /// Samples that are nearer to a real picture than this share of the pool's median are not matched (C. Vashist et al.,
    /// 2024); 0: all are.
    #[serde(default)]
    pub matching_rejection: f64,
    /// Whether a sample is matched with one real picture at most.
    #[serde(default)]
    pub matching_distinct: bool,
    /// With matching: share of the run after which the discriminator begins to learn.
    #[serde(default)]
    pub adversarial_from: f64,
    /// The ONNX network on whose features pictures are alike, and its input's scaling after a space, for example
    /// `features.onnx mean=127,scale=128`; empty: the shipped efficientnet-lite0-features; "none": colours and their slopes.
    #[serde(default)]
    pub features: String,
    /// Length that the shorter side of pictures is brought to for it; 0: theirs, or a multiple of it of at least 56.
    #[serde(default)]
    pub features_side: usize,
    /// The same of the network on whose features samples are measured while the run goes on; empty: the shipped classifier
    /// for digits, otherwise the run's own discriminator.
    #[serde(default)]
    pub judge: String,
}

impl GanConfig {
    /// The game of I. Goodfellow et al., 2014, with the networks of A. Radford et al., 2016.
    pub fn textbook() -> Self {
        Self {
            loss: Loss::NonSaturating,
            label_smoothing: 0.0,
            discriminator_base: 64,
            discriminator_sees: Sees::Pictures,
            discriminator_norm: Normalisation::Batch,
            discriminator_rate: 1.0,
            discriminator_steps: 1,
            generator_delay: 0,
            discriminator_frozen: 0,
            r1: 0.0,
            r1_every: 16,
            r2: 0.0,
            augment: Vec::new(),
            average: 0.999,
            matching: 0.0,
            matching_pool: 8000,
            matching_every: 100,
            matching_jitter: 0.1,
            matching_rejection: 0.0,
            matching_distinct: true,
            code_rate: 20.0,
            code_share: transport::share(),
            adversarial_from: 0.0,
            features: String::new(),
            features_side: 0,
            judge: String::new(),
        }
    }

    /// The form of D.
    pub fn discriminator(&self) -> DiscriminatorForm {
        DiscriminatorForm { base: self.discriminator_base, norm: self.discriminator_norm }
    }

    /// Whether G moves by what D says in step `step` of D, from 0.
    fn moves_generator(&self, step: u64) -> bool {
        step >= self.generator_delay && (step + 1).is_multiple_of(self.discriminator_steps)
    }

    /// Whether real pictures are matched with samples.
    pub fn matches(&self) -> bool {
        self.matching > 0.0
    }

    /// Whether the features of a frozen network are learned from.
    pub fn sees_features(&self) -> bool {
        self.matches() || self.discriminator_sees == Sees::Features
    }

    /// Whether there is a discriminator that learns at this part of the run, 0 to 1.
    pub fn is_adversarial(&self, progress: f64) -> bool {
        self.loss != Loss::Matching && (!self.matches() || progress >= self.adversarial_from)
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
    /// The moving average of G; with codes, after that of their mapping.
    pub average: Network<B>,
    generator_adam: Adam<B>,
    discriminator_adam: Adam<B>,
    generator_gradients: Gradients<B>,
    discriminator_gradients: Gradients<B>,
    spectral: Option<Spectral<B>>,
    feature_loss: Option<FeatureLoss<B>>,
    codes: Option<Codes<B>>,
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
    /// What is known of the latents that should draw real pictures.
    pub known: Known<'a>,
}

/// What is known of the latents that should draw real pictures.
pub enum Known<'a> {
    /// Nothing.
    Nothing,
    /// Pictures (M, C, H, W), their samples' latents (M, L), and their classes (M).
    Samples(&'a [f32], &'a [f32], Option<&'a [u32]>),
    /// The example's real pictures have codes: their numbers (N), and what is added to them, (N, L).
    Codes(&'a [usize], &'a [f32]),
}

/// How far a step moves.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The part of the run that is done, 0 to 1.
    pub progress: f64,
    /// G's learning rate.
    pub rate: f64,
    /// Bound of each network's gradient norm; 0: none.
    pub clip: f64,
}

/// What a step tells of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// What D has found, if it learned.
    pub discriminator: Option<OfDiscriminator>,
    /// Mean loss of G by D, at its turn.
    pub generator_loss: Option<f64>,
    /// How unlike real pictures are to their samples, where they are matched.
    pub unlike: Option<f64>,
    /// Norm of G's gradient, at its turn.
    pub generator_norm: Option<f64>,
}

/// What a step of D tells of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OfDiscriminator {
    /// Mean loss over real and generated pictures, added.
    pub loss: f64,
    /// Share of logits of real pictures that take them for real.
    pub real_accuracy: f64,
    /// Share of logits of generated pictures that take them for generated.
    pub drawn_accuracy: f64,
    /// Norm of its gradient.
    pub norm: f64,
    /// Mean of ‖∇D‖² on real pictures, where R1 was computed.
    pub slope: Option<f64>,
}

impl Figures {
    /// Whether all are numbers.
    pub fn finite(&self) -> bool {
        let of_discriminator =
            self.discriminator.map(|found| found.loss + found.norm + found.slope.unwrap_or(0.0));
        let present = [of_discriminator, self.generator_loss, self.generator_norm, self.unlike];
        present.into_iter().flatten().sum::<f64>().is_finite()
    }
}

/// Share of logits for which `right` holds.
fn share(logits: &[f32], right: impl Fn(f32) -> bool) -> f64 {
    logits.iter().filter(|logit| right(**logit)).count() as f64 / logits.len().max(1) as f64
}

/// What D says of a batch.
struct Judged<B: Backend> {
    /// (N).
    logits: Vec<f32>,
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
        let whole = family::generator(network, image, classes)?;
        let first = whole.parameters().count() as u64;
        let generator = match network.codes {
            0 => whole.initialise(seed, 0),
            _ => {
                // the mapping is conditioned on the class, so G is not
                let rest = NetworkConfig { codes: 0, ..network.clone() };
                family::generator(&rest, image, 0)?.initialise(seed, 0)
            }
        };
        let discriminator = family::discriminator(config.discriminator(), image, classes)?;
        let discriminator = discriminator.initialise(seed, first);
        let mut gan = Self::of(backend, &generator, &discriminator, config, adam, seed)?;
        if network.codes > 0 {
            gan.average = Network::new(backend, &whole.initialise(0, 0))?.renamed("average");
        }
        Ok(gan)
    }

    /// Lets D see pictures by the features of a frozen network.
    ///
    /// # Errors
    /// [`crate::Error::Config`] if it has none at the strides that heads see; the device's.
    pub fn see_features(&mut self, features: FeatureGraph, classes: usize, seed: u64) -> Result<()> {
        let base = self.config.discriminator_base;
        let discriminator = projected::discriminator(features, base, classes, (seed, HEADS))?;
        let generator = self.generator.host()?;
        let adam = self.generator_adam.config();
        let other = Self::of(&self.backend(), &generator, &discriminator, &self.config, adam, seed)?;
        *self = Self { average: self.average.clone(), ..other };
        Ok(())
    }

    /// Gives real pictures codes, which G draws.
    ///
    /// # Errors
    /// The device's.
    pub fn learn_codes(&mut self, codes: Codes<B>) -> Result<()> {
        self.codes = Some(codes);
        self.follow(0.0)
    }

    /// Sets the first codes of real pictures, (N, L), if they have any.
    pub fn begin_codes(&mut self, values: Vec<f32>) {
        if let Some(codes) = &mut self.codes {
            codes.begin(values);
        }
    }

    /// The codes of real pictures.
    pub fn codes(&self) -> Option<&Codes<B>> {
        self.codes.as_ref()
    }

    /// Fits the mapping to the codes as they are now.
    ///
    /// # Errors
    /// The device's.
    pub fn map_codes(&mut self) -> Result<()> {
        let Some(codes) = &mut self.codes else { return Ok(()) };
        codes.fit(self.config.code_share)?;
        let own = self.average.graph.parameters_mut();
        own.zip(codes.transport.mapping.graph.parameters())
            .for_each(|(own, fitted)| own.value = fitted.value.clone());
        Ok(())
    }

    /// Gives the average the batch norms' statistics of its own pictures of codes: means of several codes, as the mapping
    /// makes them, vary less than what the network has learned to draw from.
    ///
    /// # Errors
    /// The device's.
    pub fn settle_codes(&mut self) -> Result<()> {
        let Some(codes) = &self.codes else { return Ok(()) };
        let first = codes.transport.mapping.graph.parameters().count();
        let mut network = self.generator.clone();
        let own = self.average.graph.parameters().skip(first);
        network.graph.parameters_mut().zip(own).for_each(|(copy, own)| copy.value = own.value.clone());
        let size = network.input_shape().values();
        let some = codes.some(STATISTICS);
        let count = some.len() / size;
        // a small last batch would count as much as the others
        let batch = count.div_ceil(count.div_ceil(STATISTICS_BATCH).max(1)).max(1);
        let batches: Vec<ClassedRows> = some.chunks(batch * size).map(|rows| (rows.to_vec(), None)).collect();
        network.estimate_statistics(&batches)?;
        let own = self.average.graph.parameters_mut().skip(first);
        let found = own.zip(network.graph.parameters()).filter(|(own, _)| !own.trained);
        found.for_each(|(own, found)| own.value = found.value.clone());
        Ok(())
    }

    /// Lets the average be G as it is.
    ///
    /// # Errors
    /// The device's.
    pub fn restart_average(&mut self) -> Result<()> {
        self.follow(0.0)
    }

    /// Moves the average towards G.
    fn follow(&mut self, decay: f64) -> Result<()> {
        let Some(codes) = &self.codes else { return self.average.follow(&self.generator, decay) };
        let backend = self.generator.backend().clone();
        let first = codes.transport.mapping.graph.parameters().count();
        let own = self.average.graph.parameters_mut().skip(first);
        for (own, other) in own.zip(self.generator.graph.parameters()) {
            backend.approach(&mut own.value, &other.value, decay)?;
        }
        Ok(())
    }

    /// Compares pictures for matching by what `teacher` sees.
    ///
    /// # Errors
    /// The device's.
    pub fn match_by(&mut self, teacher: &Teacher) -> Result<()> {
        self.feature_loss = Some(FeatureLoss::new(&self.backend(), teacher)?);
        Ok(())
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
            feature_loss: None,
            codes: None,
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
        if let Some(codes) = &self.codes {
            all.extend(codes.state()?);
        }
        if self.feature_loss.is_some() {
            all.push(self.steps());
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
        if let Some(spectral) = &mut self.spectral {
            let (own, others) = rest.split_at(spectral.count().min(rest.len()));
            spectral.restore(own)?;
            rest = others;
        }
        if let (Some(codes), Some((_, own))) = (&mut self.codes, rest.split_last()) {
            codes.restore(own)?;
        }
        Ok(())
    }

    /// Steps of (G, D): with matching they do not follow from those of the run.
    fn steps(&self) -> Parameter {
        let value = vec![self.generator_adam.steps() as f32, self.discriminator_adam.steps() as f32];
        Parameter { name: "gan.steps".into(), shape: vec![2], value, trained: false }
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

    /// Steps of (G, D) when `steps` are done, and these parameters were stored.
    pub fn steps_of_each(&self, steps: u64, stored: &[Parameter]) -> [u64; 2] {
        if let Some(Parameter { name, value, .. }) = stored.last()
            && name == "gan.steps"
        {
            return [value[0] as u64, value[1] as u64];
        }
        let GanConfig { discriminator_steps, generator_delay, .. } = self.config;
        [(steps / discriminator_steps).saturating_sub(generator_delay / discriminator_steps), steps]
    }

    /// What compares pictures for matching.
    pub fn feature_loss(&self) -> Option<&FeatureLoss<B>> {
        self.feature_loss.as_ref()
    }

    fn backend(&self) -> B {
        self.generator.backend().clone()
    }

    /// One step of D, if it learns yet (on real pictures, and on generated ones, as two batches: a batch norm must not see
    /// both), then, at its turn, one of G on the same latents, and on those of matched pictures. D's own gradients are
    /// not computed in G's step. `chance` decides the augmentation.
    ///
    /// # Errors
    /// The device's.
    pub fn learn(&mut self, example: &Example<'_>, pace: Pace, chance: &mut Stream) -> Result<Figures> {
        let mut figures = Figures::default();
        self.generator_gradients.clear()?;
        let mut moves = match &example.known {
            Known::Nothing => false,
            Known::Samples(real, latents, classes) => {
                self.match_real((*real, *latents), *classes, &mut figures)?;
                true
            }
            Known::Codes(numbers, noise) => {
                self.draw_codes(example.real, (*numbers, *noise), pace.rate, &mut figures)?;
                true
            }
        };
        if self.config.is_adversarial(pace.progress) {
            moves |= self.play(example, pace, chance, &mut figures)?;
        }
        if moves {
            figures.generator_norm = Some(Gradients::clip(&mut [&mut self.generator_gradients], pace.clip)?);
            let moved = &mut [(&mut self.generator.graph, &self.generator_gradients)];
            self.generator_adam.update(moved, pace.rate)?;
            let decay = self.config.decay(self.generator_adam.steps());
            self.follow(decay)?;
        }
        Ok(figures)
    }

    /// Adds G's gradients of how unlike real pictures (M, C, H, W) are to what it draws of latents (M, L); the gradient of
    /// those.
    fn match_real(
        &mut self,
        (real, latents): (&[f32], &[f32]),
        classes: Option<&[u32]>,
        figures: &mut Figures,
    ) -> Result<Option<B::Tensor>> {
        let Some(feature_loss) = &self.feature_loss else { return Ok(None) };
        let backend = self.generator.backend().clone();
        let latents = backend.tensor(latents, self.generator.input_shape())?;
        let real = backend.tensor(real, self.generator.output_shape())?;
        let output = self.generator.graph.output();
        let (drawn, drawing) = self.generator.train(latents, classes, output, &[])?;
        let (unlike, gradient) = feature_loss.loss(&drawn, real)?;
        figures.unlike = Some(unlike);
        let gradient = backend.add(gradient.clone(), self.config.matching as f32 - 1.0, &gradient)?;
        let gradients = Some(&mut self.generator_gradients);
        self.generator.backward(&drawing, vec![(output, gradient)], gradients, true, &[])
    }

    /// The same for pictures with codes, which move too.
    fn draw_codes(
        &mut self,
        real: &[f32],
        (numbers, noise): (&[usize], &[f32]),
        rate: f64,
        figures: &mut Figures,
    ) -> Result<()> {
        let Some(codes) = &self.codes else { return Ok(()) };
        let mut rows = codes.rows(numbers);
        rows.iter_mut().zip(noise).for_each(|(value, noise)| *value += noise);
        let found = self.match_real((real, &rows), None, figures)?;
        let gradient = found.map(|gradient| self.backend().rows(&gradient)).transpose()?;
        if let (Some(codes), Some(gradient)) = (&mut self.codes, gradient) {
            codes.update(numbers, &gradient, rate * self.config.code_rate);
        }
        Ok(())
    }

    /// A step of D, and G's gradients by it; whether there are any.
    fn play(
        &mut self,
        example: &Example<'_>,
        pace: Pace,
        chance: &mut Stream,
        figures: &mut Figures,
    ) -> Result<bool> {
        let (backend, classes) = (self.backend(), example.classes);
        let real = backend.tensor(example.real, self.discriminator.input_shape())?;
        let output = self.generator.graph.output();
        let (latents, of_drawn) = match &self.codes {
            None => (backend.tensor(example.latents, self.generator.input_shape())?, classes),
            Some(codes) => {
                let latents = backend.tensor(example.latents, codes.transport.mapping.input_shape())?;
                (
                    codes.transport.mapping.infer_tensor(
                        latents,
                        classes,
                        codes.transport.mapping.graph.output(),
                    )?,
                    None,
                )
            }
        };
        let (drawn, drawing) = self.generator.train(latents, of_drawn, output, &[])?;

        let divided = self.divide()?;
        self.discriminator_gradients.clear()?;
        let mut found = OfDiscriminator::default();
        let (seen, real_draws) = self.augmented(real.clone(), chance)?;
        let of_real = self.look(seen, classes, &divided)?;
        let (seen, drawn_draws) = self.augmented(drawn.clone(), chance)?;
        let of_drawn = self.look(seen, classes, &divided)?;
        let doubt = self.config.label_smoothing;
        let (loss, for_real, for_drawn) =
            self.config.loss.of_discriminator(&of_real.logits, &of_drawn.logits, doubt);
        found.loss = loss;
        found.real_accuracy = share(&of_real.logits, |logit| logit > 0.0);
        found.drawn_accuracy = share(&of_drawn.logits, |logit| logit < 0.0);
        if self.config.loss.compares() {
            let above = of_real.logits.iter().zip(&of_drawn.logits).filter(|(real, drawn)| real > drawn);
            found.real_accuracy = above.count() as f64 / of_real.logits.len().max(1) as f64;
            found.drawn_accuracy = found.real_accuracy;
        }
        let penalised =
            |pictures: &B::Tensor, draws| Penalised { pictures: pictures.clone(), classes, draws };
        let turn = self.discriminator_adam.steps().is_multiple_of(self.config.r1_every);
        self.learn_from(of_real, &for_real, &divided)?;
        if turn && self.config.r1 > 0.0 {
            let squares = self.penalise(&penalised(&real, real_draws.as_ref()), self.config.r1, &divided)?;
            found.slope = Some(squares);
        }
        self.learn_from(of_drawn, &for_drawn, &divided)?;
        if turn && self.config.r2 > 0.0 {
            self.penalise(&penalised(&drawn, drawn_draws.as_ref()), self.config.r2, &divided)?;
        }
        if let Some(spectral) = &self.spectral {
            spectral.backward(&divided, &mut self.discriminator_gradients)?;
        }
        self.discriminator_gradients.freeze(self.frozen)?;
        found.norm = Gradients::clip(&mut [&mut self.discriminator_gradients], pace.clip)?;
        figures.discriminator = Some(found);
        let step = self.discriminator_adam.steps();
        self.discriminator_adam.update(
            &mut [(&mut self.discriminator.graph, &self.discriminator_gradients)],
            pace.rate * self.config.discriminator_rate,
        )?;
        let moves = self.config.moves_generator(step);
        if moves {
            self.ask_generator((drawn, &drawing), real, classes, chance, figures)?;
        }
        Ok(moves)
    }

    fn divide(&mut self) -> Result<Vec<Instead<B>>> {
        match &mut self.spectral {
            Some(spectral) => spectral.divide(&self.discriminator),
            None => Ok(Vec::new()),
        }
    }

    /// D's logits on a batch.
    fn look(
        &mut self,
        pictures: B::Tensor,
        classes: Option<&[u32]>,
        divided: &[Instead<B>],
    ) -> Result<Judged<B>> {
        let output = self.discriminator.graph.output();
        let (logits, pass) = self.discriminator.train(pictures, classes, output, divided)?;
        Ok(Judged { logits: self.discriminator.backend().rows(&logits)?, pass })
    }

    /// Adds D's gradients on a batch.
    fn learn_from(&mut self, judged: Judged<B>, for_logits: &[f32], divided: &[Instead<B>]) -> Result<()> {
        let gradient = self.backend().tensor(for_logits, self.discriminator.output_shape())?;
        let seeds = vec![(self.discriminator.graph.output(), gradient)];
        let gradients = Some(&mut self.discriminator_gradients);
        self.discriminator.backward(&judged.pass, seeds, gradients, false, divided)?;
        Ok(())
    }

    /// Adds D's gradients of a penalty with this γ.
    fn penalise(&mut self, penalised: &Penalised<'_, B>, gamma: f64, divided: &[Instead<B>]) -> Result<f64> {
        let weight = gamma * self.config.r1_every as f64;
        let gradients = &mut self.discriminator_gradients;
        penalise(&mut self.discriminator, penalised, weight, STEP, gradients, divided)
    }

    /// Pictures as D sees them, and what was done to them.
    fn augmented(&self, pictures: B::Tensor, chance: &mut Stream) -> Result<(B::Tensor, Option<Draws>)> {
        if self.config.augment.is_empty() {
            return Ok((pictures, None));
        }
        let backend = self.backend();
        let (channels, height, width) = self.discriminator.input_shape().image();
        let shape = ImageShape { channels, height, width };
        let draws = Draws::new(&self.config.augment, shape, backend.count(&pictures), chance);
        Ok((draws.apply(&backend, pictures)?, Some(draws)))
    }

    /// Adds G's gradients of what D says of its pictures.
    fn ask_generator(
        &mut self,
        (drawn, drawing): (B::Tensor, &Pass<B>),
        real: B::Tensor,
        classes: Option<&[u32]>,
        chance: &mut Stream,
        figures: &mut Figures,
    ) -> Result<()> {
        let (seen, draws) = self.augmented(drawn, chance)?;
        let divided = self.divide()?;
        let Judged { logits, pass } = self.look(seen, classes, &divided)?;
        let mut of_real = Vec::new();
        if self.config.loss.compares() {
            let (seen, _) = self.augmented(real, chance)?;
            of_real = self.look(seen, classes, &divided)?.logits;
        }
        let (loss, for_logits) = self.config.loss.of_generator(&of_real, &logits);
        figures.generator_loss = Some(loss);
        let gradient = self.backend().tensor(&for_logits, self.discriminator.output_shape())?;
        let seeds = vec![(self.discriminator.graph.output(), gradient)];
        let of_seen = self.discriminator.backward(&pass, seeds, None, true, &divided)?;
        drop(pass);
        let Some(mut of_drawn) = of_seen else { return Ok(()) };
        if let Some(draws) = draws {
            of_drawn = draws.backward(&self.backend(), of_drawn)?;
        }
        let seeds = vec![(self.generator.graph.output(), of_drawn)];
        let gradients = Some(&mut self.generator_gradients);
        self.generator.backward(drawing, seeds, gradients, false, &[])?;
        Ok(())
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
    use crate::random::{Purpose, Stream};

    use super::*;
    use crate::graph::{Activation, Shape};

    fn config() -> GanConfig {
        GanConfig {
            discriminator_base: 8,
            discriminator_norm: Normalisation::None,
            r1_every: 1,
            average: 0.99,
            ..GanConfig::textbook()
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
            let example =
                Example { real: &real, latents: &latents, classes: Some(&classes), known: Known::Nothing };
            let pace = Pace { progress: 0.0, rate: 2e-3, clip: 0.0 };
            let figures = gan.learn(&example, pace, &mut Stream::new(9, Purpose::Augment, step)).unwrap();
            assert!(figures.finite());
        }
        let drawn = gan.average.infer(&noise(BATCH * 2, 99_999), Some(&classes)).unwrap();
        let near = |(x, class): (&f32, &u32)| (x - (2.0 * *class as f32 - 1.0)).abs() < 0.6;
        let right = drawn.iter().zip(classes.iter()).filter(|pair| near(*pair)).count();
        assert!(right * 10 >= BATCH * 9, "{right} of {BATCH}: {drawn:?}");
    }

    fn network(architecture: family::Architecture, base: usize) -> NetworkConfig {
        NetworkConfig { latent: 6, base, ..NetworkConfig::plain(architecture) }
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
            let example = Example { real: &real, latents: &latents, classes: None, known: Known::Nothing };
            let pace = Pace { progress: 0.0, rate: 1e-3, clip: 0.0 };
            gan.learn(&example, pace, &mut Stream::new(1, Purpose::Augment, step)).unwrap();
            let first = |network: &Network| network.parameters().unwrap()[0].value.clone();
            let moved = first(&gan.generator) != first(&generator);
            assert_eq!(moved, step == 2, "G waits for two steps");
            assert_eq!(gan.steps_of_each(step + 1, &[]), gan.optimisers().map(|(adam, _)| adam.steps()));
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
            let example =
                Example { real: &real, latents: &latents, classes: Some(&classes), known: Known::Nothing };
            let pace = Pace { progress: 0.0, rate: 1e-3, clip: 1.0 };
            let figures = gan.learn(&example, pace, &mut Stream::new(1, Purpose::Augment, step)).unwrap();
            assert!(figures.finite(), "{figures:?}");
            assert_eq!(
                figures.generator_norm.is_some_and(|norm| norm > 0.0),
                step % 2 == 1,
                "G moves at every second step"
            );
            assert_eq!(figures.discriminator.is_some_and(|found| found.slope.is_some()), step % 2 == 0);
        }
        assert_eq!(gan.steps_of_each(4, &[]), [2, 4]);
        assert_eq!(gan.optimisers().map(|(adam, _)| adam.steps()), [2, 4]);
        for (before, after) in before.iter().zip([&gan.generator, &gan.discriminator]) {
            for (before, after) in before.graph.parameters().zip(after.graph.parameters()) {
                assert!(before.value != after.value, "{} stayed", before.name);
            }
        }
    }
}
