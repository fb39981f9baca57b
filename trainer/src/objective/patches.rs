//! A discriminator of patches (P. Isola et al., 2017, "pix2pix"): it sees what a network from pictures to pictures is given
//! beside what the network makes of it, or beside the true picture, and says of each patch which of the two it is.

use edgegen_runtime::model::ImageShape;

use crate::Result;
use crate::compute::adam::{Adam, AdamConfig};
use crate::compute::{Backend, Gradients, Lanes, Network};
use crate::graph::{Parameter, Shape, transform};
use crate::objective::gan::loss::{Loss, Wanted};

/// Parameters of a discriminator have streams of their own for their first values.
const FIRST_STREAM: u64 = 1 << 32;

/// The discriminator with its optimiser.
pub struct Critic<B: Backend = Lanes> {
    network: Network<B>,
    adam: Adam<B>,
    gradients: Gradients<B>,
    /// One of the two pictures that it sees.
    shape: ImageShape,
}

/// What a step of it tells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// Mean cross-entropy of true and generated pictures, added.
    pub loss: f64,
    /// Share of patches of true pictures that it takes for true.
    pub real_accuracy: f64,
    /// Share of patches of generated pictures that it takes for generated.
    pub generated_accuracy: f64,
    /// Norm of its gradient.
    pub norm: f64,
}

impl<B: Backend> Critic<B> {
    /// First values from `seed`, for pictures of `shape`; `base` channels in its first layer.
    ///
    /// # Errors
    /// [`crate::Error::Config`] if pictures are too small; the device's.
    pub fn new(backend: &B, base: usize, shape: ImageShape, adam: AdamConfig, seed: u64) -> Result<Self> {
        let graph = transform::patches(base, shape)?.initialise(seed, FIRST_STREAM);
        let network = Network::new(backend, &graph)?;
        let (adam, gradients) =
            (Adam::new(backend, &[&network.graph], adam)?, Gradients::of(backend, &network.graph)?);
        Ok(Self { network, adam, gradients, shape })
    }

    /// `given` and `pictures`, (N, C, H, W) in [0, 1] each → (N, 2·C, H, W) in [−1, 1].
    fn beside(&self, given: &[f32], pictures: &[f32]) -> Vec<f32> {
        let each = self.shape.values();
        let pairs = given.chunks(each).zip(pictures.chunks(each));
        pairs
            .flat_map(|(given, picture)| given.iter().chain(picture))
            .map(|value| 2.0 * value - 1.0)
            .collect()
    }

    /// The logits of a batch, by its own statistics, and their gradient's way back.
    fn judge(
        &mut self,
        given: &[f32],
        pictures: &[f32],
        wanted: Wanted,
        learns: bool,
    ) -> Result<(f64, Vec<f32>, Vec<f32>)> {
        let backend = self.network.backend().clone();
        let output = self.network.graph.output();
        let x = backend.tensor(&self.beside(given, pictures), self.network.input_shape())?;
        let (logits, pass) = self.network.train(x, None, output, &[])?;
        let logits = backend.rows(&logits)?;
        let (loss, slopes) = Loss::NonSaturating.of(&logits, wanted);
        let seeds = vec![(output, backend.tensor(&slopes, self.network.output_shape())?)];
        let gradients = learns.then_some(&mut self.gradients);
        let back = self.network.backward(&pass, seeds, gradients, !learns, &[])?;
        let back = back.map(|gradient| backend.rows(&gradient)).transpose()?.unwrap_or_default();
        Ok((loss, logits, back))
    }

    /// A step: `real` and `made` (N, C, H, W) in [0, 1] are the true and the generated pictures for `given`.
    ///
    /// # Errors
    /// The device's.
    pub fn learn(&mut self, given: &[f32], real: &[f32], made: &[f32], rate: f64) -> Result<Found> {
        self.gradients.clear()?;
        let (of_real, real, _) = self.judge(given, real, Wanted::Real(0.0), true)?;
        let (of_made, made, _) = self.judge(given, made, Wanted::Drawn, true)?;
        let norm = Gradients::clip(&mut [&mut self.gradients], 0.0)?;
        self.adam.update(&mut [(&mut self.network.graph, &self.gradients)], rate)?;
        let share = |logits: &[f32], real: bool| {
            logits.iter().filter(|logit| (**logit > 0.0) == real).count() as f64 / logits.len().max(1) as f64
        };
        let (real_accuracy, generated_accuracy) = (share(&real, true), share(&made, false));
        Ok(Found { loss: of_real + of_made, real_accuracy, generated_accuracy, norm })
    }

    /// How well `made` passes for true, as a loss, and its gradient for `made`.
    ///
    /// # Errors
    /// The device's.
    pub fn fooled(&mut self, given: &[f32], made: &[f32]) -> Result<(f64, Vec<f32>)> {
        let (loss, _, back) = self.judge(given, made, Wanted::Fooled, false)?;
        let each = self.shape.values();
        // the second picture of each pair, whose values were doubled on their way in
        let made = back.chunks(2 * each).flat_map(|pair| &pair[each..]).map(|slope| 2.0 * slope);
        Ok((loss, made.collect()))
    }

    /// Every tensor of its state, and how many steps it has made.
    ///
    /// # Errors
    /// The device's.
    pub fn parameters(&self) -> Result<Vec<Parameter>> {
        let mut all = self.network.parameters()?;
        all.push(Parameter {
            name: "discriminator.steps".into(),
            shape: vec![1],
            value: vec![self.adam.steps() as f32],
            trained: false,
        });
        Ok(all)
    }

    /// The state of its optimiser.
    ///
    /// # Errors
    /// The device's.
    pub fn moments(&self) -> Result<Vec<(Parameter, Parameter)>> {
        self.adam.moments(&[&self.network])
    }

    /// Its network.
    pub fn network(&self) -> &Network<B> {
        &self.network
    }

    /// Takes up a stored state: what [`Self::parameters`] and [`Self::moments`] gave.
    ///
    /// # Errors
    /// The device's.
    pub fn restore(&mut self, stored: &[Parameter], moments: Vec<(Parameter, Parameter)>) -> Result<()> {
        let Some((steps, own)) = stored.split_last() else { return Ok(()) };
        self.network.set(own)?;
        self.adam.restore(steps.value[0] as u64, moments)
    }

    /// Shape of the map of logits.
    pub fn logits(&self) -> Shape {
        self.network.output_shape()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: ImageShape = ImageShape { channels: 1, height: 24, width: 24 };

    fn pictures(count: usize, shift: usize) -> Vec<f32> {
        (0..count * SHAPE.values()).map(|at| ((at * 37 + shift * 11) % 97) as f32 / 97.0).collect()
    }

    /// The gradient for generated pictures is that of the loss, by finite differences along itself.
    #[test]
    fn the_gradient_is_that_of_the_loss() {
        let mut critic = Critic::new(&Lanes, 4, SHAPE, AdamConfig::default(), 1).unwrap();
        assert_eq!(critic.logits(), Shape::Image(1, 4, 4));
        let (given, made) = (pictures(3, 0), pictures(3, 5));
        let (loss, gradient) = critic.fooled(&given, &made).unwrap();
        let square: f32 = gradient.iter().map(|slope| slope * slope).sum();
        let step = 1e-3 / square.sqrt();
        let moved: Vec<f32> = made.iter().zip(&gradient).map(|(value, slope)| value + step * slope).collect();
        let (after, _) = critic.fooled(&given, &moved).unwrap();
        let expected = f64::from(step * square);
        assert!(((after - loss) / expected - 1.0).abs() < 0.05, "{} {expected}", after - loss);
    }

    #[test]
    fn it_learns_to_tell_true_pictures_from_generated_ones() {
        let adam = AdamConfig { beta1: 0.5, ..AdamConfig::default() };
        let mut critic = Critic::new(&Lanes, 8, SHAPE, adam, 1).unwrap();
        let (given, real) = (pictures(4, 0), pictures(4, 3));
        let made = vec![0.5; real.len()];
        let first = critic.learn(&given, &real, &made, 1e-3).unwrap();
        let last = (0..20).map(|_| critic.learn(&given, &real, &made, 1e-3).unwrap()).last().unwrap();
        assert!(last.loss < first.loss / 2.0, "{first:?} {last:?}");
        assert!(last.real_accuracy > 0.9 && last.generated_accuracy > 0.9 && last.norm.is_finite());
    }
}
