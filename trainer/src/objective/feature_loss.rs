//! How unlike two pictures are by what a frozen network sees, a feature loss (J. Johnson et al., 2016), and by their colours.

use crate::Result;
use crate::compute::{Backend, Network, Statistics};
use crate::graph::teacher::{DESCRIPTOR, Teacher};

/// Pictures of one pass through the teacher.
const BATCH: usize = 128;
/// Weight of the mean length of the colours' differences beside the features' squared distance.
const COLOUR: f32 = 0.5;

/// A teacher on a back end.
pub struct FeatureLoss<B: Backend> {
    network: Network<B>,
    taps: Vec<usize>,
    descriptor: usize,
}

impl<B: Backend> FeatureLoss<B> {
    /// Puts a teacher on a back end.
    ///
    /// # Errors
    /// The device's.
    pub fn new(backend: &B, teacher: &Teacher) -> Result<Self> {
        let network = Network::new(backend, &teacher.graph)?;
        Ok(Self { network, taps: teacher.taps.clone(), descriptor: teacher.descriptor })
    }

    /// Descriptors (N, [`DESCRIPTOR`]) of pictures (N, C, H, W).
    ///
    /// # Errors
    /// The device's.
    pub fn describe(&self, pictures: &[f32]) -> Result<Vec<f32>> {
        let size = self.network.input_shape().values();
        let mut all = Vec::with_capacity(pictures.len() / size * DESCRIPTOR);
        for batch in pictures.chunks(BATCH * size) {
            all.extend(self.network.infer_value(batch, None, self.descriptor)?);
        }
        Ok(all)
    }

    /// Descriptors of what `generator` draws of rows of latents and their classes.
    ///
    /// # Errors
    /// The device's.
    pub fn describe_drawn(
        &self,
        generator: &Network<B>,
        latents: &[f32],
        classes: Option<&[u32]>,
    ) -> Result<Vec<f32>> {
        let (backend, latent) = (generator.backend(), generator.input_shape().values());
        let mut all = Vec::with_capacity(latents.len() / latent * DESCRIPTOR);
        for (index, rows) in latents.chunks(BATCH * latent).enumerate() {
            let own = classes.map(|classes| &classes[index * BATCH..][..rows.len() / latent]);
            let x = backend.tensor(rows, generator.input_shape())?;
            let drawn = generator.infer_tensor(x, own, generator.graph.output())?;
            all.extend(backend.rows(&self.network.infer_tensor(drawn, None, self.descriptor)?)?);
        }
        Ok(all)
    }

    /// How unlike drawn pictures are to real ones, pair by pair, on average; with the gradient for the drawn ones.
    ///
    /// # Errors
    /// The device's.
    pub fn loss(&self, drawn: &B::Tensor, real: B::Tensor) -> Result<(f64, B::Tensor)> {
        let backend = self.network.backend();
        let count = backend.count(drawn);
        let record = |x: B::Tensor| self.network.record(x, None, &self.taps, Statistics::Running, &[]);
        let (targets, _) = record(real.clone())?;
        let (found, pass) = record(drawn.clone())?;
        let (mut loss, mut seeds) = (0.0, Vec::new());
        for ((tap, found), target) in self.taps.iter().zip(found).zip(targets) {
            let difference = backend.add(found, -1.0, &target)?;
            let share = 1.0 / (backend.shape(&difference).pixels() * count) as f64;
            loss += backend.squares(&difference)?.iter().sum::<f64>() * share;
            seeds.push((*tap, scaled(backend, &difference, 2.0 * share as f32)?));
        }
        let zero = || scaled(backend, drawn, 0.0);
        let gradient = match self.network.backward(&pass, seeds, None, true, &[])? {
            Some(gradient) => gradient,
            None => zero()?,
        };
        let difference = backend.add(drawn.clone(), -1.0, &real)?;
        let direction = backend.unit(&difference)?;
        let share = COLOUR / (backend.shape(drawn).pixels() * count) as f32;
        let along = backend.rows(&backend.mul(difference, &direction)?)?;
        loss += along.iter().map(|value| f64::from(*value)).sum::<f64>() * f64::from(share);
        Ok((loss, backend.add(gradient, share, &direction)?))
    }
}

/// factor · x.
fn scaled<B: Backend>(backend: &B, x: &B::Tensor, factor: f32) -> Result<B::Tensor> {
    // from 0: the sum of x and (factor − 1) · x would lose the digits of a small factor
    let nothing = backend.add(x.clone(), -1.0, x)?;
    backend.add(nothing, factor, x)
}
