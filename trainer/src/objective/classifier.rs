//! A classifier: image → features → one logit a class. It draws nothing; samples are judged by it, see
//! [`crate::evaluate`].

use crate::random::Stream;
use documented::DocumentedFields;
use edgegen_runtime::model::ImageShape;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::compute::{Backend, Gradients, Lanes, Network};
use crate::graph::family::{self, NetworkConfig};

/// What is learned besides the network's form.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, DocumentedFields)]
#[serde(deny_unknown_fields)]
pub struct ClassifierConfig {
    /// Training pictures are shifted by at most so many pixels, at random; their border grows.
    pub shift: usize,
}

/// A classifier with values.
pub struct Classifier<B: Backend = Lanes> {
    /// Image (N, C, H, W) in [0, 1] → logits (N, K).
    pub network: Network<B>,
}

impl<B: Backend> Classifier<B> {
    /// First values from `seed`.
    ///
    /// # Errors
    /// [`crate::Error::Config`] if the pictures do not fit, or have no classes; the device's.
    pub fn new(
        backend: &B,
        config: &NetworkConfig,
        image: ImageShape,
        classes: usize,
        seed: u64,
    ) -> Result<Self> {
        let graph = family::classifier(config, image, classes)?.initialise(seed, 0);
        Ok(Self { network: Network::new(backend, &graph)? })
    }

    /// How many classes it tells apart.
    pub fn classes(&self) -> usize {
        self.network.output_shape().values()
    }

    /// (mean cross-entropy in nats, share that is right) of a training batch (N, C, H, W); adds the gradients
    /// of the first.
    ///
    /// # Errors
    /// The device's.
    pub fn learn(
        &mut self,
        pictures: &[f32],
        labels: &[u16],
        gradients: &mut Gradients<B>,
    ) -> Result<(f64, f64)> {
        let backend = self.network.backend().clone();
        let (classes, output) = (self.classes(), self.network.graph.output());
        let x = backend.tensor(pictures, self.network.input_shape())?;
        let (logits, pass) = self.network.train(x, None, output, &[])?;
        let mut gradient = backend.rows(&logits)?;
        let found = judge(&gradient, labels, classes);
        for (row, label) in gradient.chunks_mut(classes).zip(labels) {
            softmax(row);
            row[usize::from(*label)] -= 1.0;
            row.iter_mut().for_each(|value| *value /= labels.len() as f32);
        }
        let seeds = vec![(output, backend.tensor(&gradient, self.network.output_shape())?)];
        self.network.backward(&pass, seeds, Some(gradients), false, &[])?;
        Ok(found)
    }

    /// (mean cross-entropy in nats, share that is right) of pictures (N, C, H, W), by running statistics.
    ///
    /// # Errors
    /// The device's.
    pub fn judge(&self, pictures: &[f32], labels: &[u16]) -> Result<(f64, f64)> {
        Ok(judge(&self.network.infer(pictures, None)?, labels, self.classes()))
    }
}

/// row ← e^row / Σ e^row.
fn softmax(row: &mut [f32]) {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    row.iter_mut().for_each(|value| *value = (*value - largest).exp());
    let sum: f32 = row.iter().sum();
    row.iter_mut().for_each(|value| *value /= sum);
}

fn judge(logits: &[f32], labels: &[u16], classes: usize) -> (f64, f64) {
    let (mut loss, mut right) = (0.0, 0usize);
    for (row, label) in logits.chunks(classes).zip(labels) {
        let own = row[usize::from(*label)];
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = row.iter().map(|value| f64::from(*value - largest).exp()).sum();
        loss += f64::from(largest) + sum.ln() - f64::from(own);
        right += usize::from(own >= largest);
    }
    let count = labels.len().max(1) as f64;
    (loss / count, right as f64 / count)
}

/// Moves each picture (N, C, H, W) by up to `most` pixels; its outermost pixels fill what comes in.
pub fn shift_at_random(pictures: &mut [f32], image: ImageShape, most: usize, stream: &mut Stream) {
    let ImageShape { height, width, .. } = image;
    for picture in pictures.chunks_mut(image.values()) {
        let mut by = || stream.below(2 * most as u32 + 1) as isize - most as isize;
        let (down, right) = (by(), by());
        let inside =
            |at: usize, by: isize, side: usize| (at as isize - by).clamp(0, side as isize - 1) as usize;
        for plane in picture.chunks_mut(height * width) {
            let before = plane.to_vec();
            for (row, values) in plane.chunks_mut(width).enumerate() {
                let from = &before[inside(row, down, height) * width..][..width];
                values.iter_mut().enumerate().for_each(|(x, value)| *value = from[inside(x, right, width)]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::random::Purpose;

    use super::*;
    use crate::compute::adam::{Adam, AdamConfig};
    use crate::graph::family::Architecture;

    #[test]
    fn it_learns_to_tell_bright_corners_apart() {
        const BATCH: usize = 32;
        let image = ImageShape { channels: 1, height: 16, width: 16 };
        let config = NetworkConfig { latent: 8, ..NetworkConfig::plain(Architecture::Conv) };
        let mut classifier = Classifier::new(&Lanes, &config, image, 4, 1).unwrap();
        let mut adam = Adam::new(&Lanes, &[&classifier.network.graph], AdamConfig::default()).unwrap();
        let mut gradients = Gradients::of(&Lanes, &classifier.network.graph).unwrap();
        let batch = |index: u64| {
            let mut stream = Stream::new(3, Purpose::Evaluation, index);
            let mut pictures: Vec<f32> = (0..BATCH * 256).map(|_| 0.3 * stream.uniform()).collect();
            let labels: Vec<u16> = (0..BATCH).map(|_| stream.below(4) as u16).collect();
            for (picture, label) in pictures.chunks_mut(256).zip(&labels) {
                let (row, column) = (usize::from(label / 2) * 8, usize::from(label % 2) * 8);
                (0..64).for_each(|at| picture[(row + at / 8) * 16 + column + at % 8] += 0.4);
            }
            shift_at_random(&mut pictures, image, 2, &mut stream);
            (pictures, labels)
        };
        let (first, labels) = batch(0);
        let (before, _) = classifier.judge(&first, &labels).unwrap();
        for step in 1..80 {
            let (pictures, labels) = batch(step);
            gradients.clear().unwrap();
            classifier.learn(&pictures, &labels, &mut gradients).unwrap();
            adam.update(&mut [(&mut classifier.network.graph, &gradients)], 3e-3).unwrap();
        }
        let (after, right) = classifier.judge(&first, &labels).unwrap();
        assert!(after < 0.2 * before && right > 0.95, "{before} {after} {right}");
    }
}
