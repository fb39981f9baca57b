//! The generative adversarial network (I. Goodfellow et al., 2014): a generator G turns latents into
//! pictures, a discriminator D tells them from real ones, and each step moves both.
//!
//! D gives one logit a picture. With classes, G adds a row of a table to its first dense layer, and D is a
//! projection discriminator (T. Miyato, M. Koyama, 2018).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::network::Shape;
use crate::network::module::{Gradients, Module, Record};
use crate::nn::adam::Adam;
use crate::nn::batch::Batch;

/// What D and G minimise, of D's logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// Cross-entropy; G maximises the log-probability that its pictures are real (Goodfellow et al., 2014,
    /// section 3, the non-saturating form).
    NonSaturating,
    /// Hinge of D, G minimises −D (J. H. Lim, J. C. Ye, 2017).
    Hinge,
}

/// What logits are wanted to say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wanted {
    /// D of a real picture, with this share of doubt (one-sided label smoothing).
    Real(f64),
    /// D of a drawn picture.
    Drawn,
    /// D of a drawn picture, for G.
    Fooled,
}

impl Loss {
    /// (mean loss, gradient of each logit).
    pub fn of(self, logits: &[f32], wanted: Wanted) -> (f64, Vec<f32>) {
        let count = logits.len().max(1) as f64;
        let term = |logit: f32| self.term(f64::from(logit), wanted);
        let loss = logits.iter().map(|logit| term(*logit).0).sum::<f64>() / count;
        (loss, logits.iter().map(|logit| (term(*logit).1 / count) as f32).collect())
    }

    /// (loss, derivative) of one logit.
    fn term(self, logit: f64, wanted: Wanted) -> (f64, f64) {
        let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
        let sigmoid = 1.0 / (1.0 + (-logit).exp());
        // a hinge's max would hide that a logit is no number
        let hinge = |x: f64| if x < 0.0 { 0.0 } else { x };
        match (self, wanted) {
            (Self::NonSaturating, Wanted::Real(doubt)) => {
                ((1.0 - doubt) * softplus(-logit) + doubt * softplus(logit), sigmoid - (1.0 - doubt))
            }
            (Self::NonSaturating, Wanted::Drawn) => (softplus(logit), sigmoid),
            (Self::NonSaturating, Wanted::Fooled) => (softplus(-logit), sigmoid - 1.0),
            (Self::Hinge, Wanted::Real(_)) => (hinge(1.0 - logit), if logit < 1.0 { -1.0 } else { 0.0 }),
            (Self::Hinge, Wanted::Drawn) => (hinge(1.0 + logit), if logit > -1.0 { 1.0 } else { 0.0 }),
            (Self::Hinge, Wanted::Fooled) => (-logit, -1.0),
        }
    }
}

/// A generator and a discriminator with values, and their optimisers.
pub struct Gan {
    /// Latent (N, L) → image (N, C, H, W) in [−1, 1].
    pub generator: Module,
    /// Image (N, C, H, W) → logit (N, 1).
    pub discriminator: Module,
    /// The optimiser of G.
    pub generator_adam: Adam,
    /// The optimiser of D.
    pub discriminator_adam: Adam,
    generator_gradients: Gradients,
    discriminator_gradients: Gradients,
}

/// What one step looks at: rows of pictures in [−1, 1] and of latents, with classes where the networks take
/// them (the latents are of the pictures' classes).
pub struct Example<'a> {
    /// (N, C, H, W).
    pub real: &'a [f32],
    /// (N, L).
    pub latents: &'a [f32],
    /// (N).
    pub classes: Option<Arc<[u32]>>,
}

/// What a step tells of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Mean loss of D over real and drawn pictures, added.
    pub discriminator_loss: f64,
    /// Mean loss of G.
    pub generator_loss: f64,
    /// Share of real pictures that D takes for real.
    pub real_accuracy: f64,
    /// Share of drawn pictures that D takes for drawn.
    pub drawn_accuracy: f64,
    /// Norm of D's gradient.
    pub discriminator_norm: f64,
    /// Norm of G's gradient.
    pub generator_norm: f64,
}

impl Figures {
    /// Whether all are numbers.
    pub fn finite(&self) -> bool {
        let norms = self.discriminator_norm + self.generator_norm;
        (self.discriminator_loss + self.generator_loss + norms).is_finite()
    }
}

impl Gan {
    /// Two networks with their optimisers.
    pub fn new(
        generator: Module,
        discriminator: Module,
        generator_adam: Adam,
        discriminator_adam: Adam,
    ) -> Self {
        let (generator_gradients, discriminator_gradients) =
            (Gradients::of(&generator), Gradients::of(&discriminator));
        Self {
            generator,
            discriminator,
            generator_adam,
            discriminator_adam,
            generator_gradients,
            discriminator_gradients,
        }
    }

    /// One step of D (on real pictures, then on drawn ones, as two batches: a batch norm must not see both),
    /// then one of G on the same latents. D's own gradients are not computed in G's step.
    pub fn learn(&mut self, example: &Example<'_>, loss: Loss, doubt: f64, rates: (f64, f64)) -> Figures {
        let mut figures = Figures::default();
        let image = self.discriminator.network().input;
        let latents = Batch::from_rows(example.latents, self.generator.network().input);
        let (drawn, drawing) = self.generator.record(latents, example.classes.clone());

        self.discriminator_gradients.clear();
        let real = Batch::from_rows(example.real, image);
        for (pictures, wanted) in [(real, Wanted::Real(doubt)), ((*drawn).clone(), Wanted::Drawn)] {
            let (logits, record) = self.discriminator.record(pictures, example.classes.clone());
            let logits = logits.to_rows();
            let (value, gradient) = loss.of(&logits, wanted);
            figures.discriminator_loss += value;
            let share = |right: fn(&f32) -> bool| {
                logits.iter().filter(|logit| right(logit)).count() as f64 / logits.len().max(1) as f64
            };
            match wanted {
                Wanted::Real(_) => figures.real_accuracy = share(|logit| *logit > 0.0),
                _ => figures.drawn_accuracy = share(|logit| *logit < 0.0),
            }
            let gradient = Batch::from_rows(&gradient, Shape::Vector(1));
            self.discriminator.backward(&record, gradient, Some(&mut self.discriminator_gradients), false);
        }
        figures.discriminator_norm = self.discriminator_gradients.squares().sqrt();
        self.discriminator_adam
            .update(&mut [(&mut self.discriminator, &self.discriminator_gradients)], rates.0);

        let (logits, record) = self.discriminator.record((*drawn).clone(), example.classes.clone());
        let (value, gradient) = loss.of(&logits.to_rows(), Wanted::Fooled);
        figures.generator_loss = value;
        let gradient = Batch::from_rows(&gradient, Shape::Vector(1));
        if let Some(of_pictures) = self.discriminator.backward(&record, gradient, None, true) {
            self.move_generator(&drawing, of_pictures, rates.1, &mut figures);
        }
        figures
    }

    fn move_generator(&mut self, drawing: &Record, of_pictures: Batch, rate: f64, figures: &mut Figures) {
        self.generator_gradients.clear();
        self.generator.backward(drawing, of_pictures, Some(&mut self.generator_gradients), false);
        figures.generator_norm = self.generator_gradients.squares().sqrt();
        self.generator_adam.update(&mut [(&mut self.generator, &self.generator_gradients)], rate);
    }
}

#[cfg(test)]
mod tests {
    use edgegen_runtime::random::{Purpose, Stream};

    use super::*;
    use crate::network::{Activation, Layer, Network};
    use crate::nn::adam::AdamConfig;

    #[test]
    fn losses_and_their_gradients_agree() {
        const STEP: f32 = 1e-2;
        for loss in [Loss::NonSaturating, Loss::Hinge] {
            for wanted in [Wanted::Real(0.0), Wanted::Real(0.1), Wanted::Drawn, Wanted::Fooled] {
                for logit in [-3.0f32, -0.4, 0.3, 2.5] {
                    let value = |logit| loss.of(&[logit], wanted).0;
                    let slope = (value(logit + STEP) - value(logit - STEP)) / f64::from(2.0 * STEP);
                    let found = f64::from(loss.of(&[logit], wanted).1[0]);
                    assert!((found - slope).abs() < 1e-4, "{loss:?} {wanted:?} {logit}: {found} {slope}");
                }
            }
        }
        assert!(!loss_of_nan().finite());
    }

    fn loss_of_nan() -> Figures {
        let discriminator_loss = Loss::Hinge.of(&[f32::NAN], Wanted::Drawn).0;
        Figures { discriminator_loss, ..Figures::default() }
    }

    /// A generator of one number a class learns where the class's numbers lie.
    #[test]
    fn a_conditional_generator_finds_the_classes() {
        const BATCH: usize = 64;
        let leaky = Layer::Activation(Activation::LeakyRelu(0.2));
        let generator = vec![
            Layer::Dense { inputs: 2, outputs: 16 },
            Layer::ClassEmbedding { classes: 2, features: 16 },
            leaky,
            Layer::Dense { inputs: 16, outputs: 1 },
        ];
        let discriminator = vec![
            Layer::Dense { inputs: 1, outputs: 32 },
            leaky,
            Layer::Dense { inputs: 32, outputs: 32 },
            leaky,
            Layer::Dense { inputs: 32, outputs: 3 },
            Layer::ClassProjection { classes: 2 },
        ];
        let module = |input, layers, name, first| {
            Module::new(Network::new(Shape::Vector(input), layers).unwrap(), name, 1, first).unwrap()
        };
        let (generator, discriminator) =
            (module(2, generator, "generator", 0), module(1, discriminator, "discriminator", 100));
        let adam = |module: &Module| Adam::new(&[module], AdamConfig { beta1: 0.5, ..AdamConfig::default() });
        let (generator_adam, discriminator_adam) = (adam(&generator), adam(&discriminator));
        let mut gan = Gan::new(generator, discriminator, generator_adam, discriminator_adam);
        let classes: Arc<[u32]> = (0..BATCH as u32).map(|row| row % 2).collect();
        let noise = |count: usize, index: u64| {
            let mut values = vec![0f32; count];
            Stream::new(9, Purpose::Evaluation, index).fill_normal(&mut values);
            values
        };
        for step in 0..1500 {
            let mut real = noise(BATCH, 2 * step);
            real.iter_mut()
                .zip(classes.iter())
                .for_each(|(x, class)| *x = *x * 0.1 + 2.0 * *class as f32 - 1.0);
            let latents = noise(BATCH * 2, 2 * step + 1);
            let example = Example { real: &real, latents: &latents, classes: Some(classes.clone()) };
            let figures = gan.learn(&example, Loss::NonSaturating, 0.0, (2e-3, 2e-3));
            assert!(figures.finite());
        }
        let drawn = gan.generator.infer(&noise(BATCH * 2, 99_999), Some(&classes));
        let near = |(x, class): (&f32, &u32)| (x - (2.0 * *class as f32 - 1.0)).abs() < 0.6;
        let right = drawn.iter().zip(classes.iter()).filter(|pair| near(*pair)).count();
        assert!(right * 10 >= BATCH * 9, "{right} of {BATCH}: {drawn:?}");
    }
}
