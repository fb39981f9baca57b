//! From pictures to pictures: a network that restores what a [`Degradation`] took away.

use documented::DocumentedFields;
use edgegen_runtime::model::ImageShape;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::compute::{Backend, Gradients, Lanes, Network};
use crate::data::Pictures;
use crate::data::degrade::{Degradation, Shrink, Strength, piece};
use crate::graph::family::NetworkConfig;
use crate::graph::transform;
use crate::random::{Purpose, Stream};
use crate::{Error, Result};

/// Most times as high and as wide that pictures become.
const MOST_SCALE: usize = 8;
/// Largest side of a piece that is learned from.
const MOST_PATCH: usize = 512;

/// How a network's picture and the clean one are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Difference {
    /// The mean of absolute differences.
    L1,
    /// The mean of squared differences: the highest signal-to-noise ratio.
    L2,
}

/// What is learned besides the network's form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, DocumentedFields)]
#[serde(deny_unknown_fields)]
pub struct TransformConfig {
    /// How many times as high and as wide pictures become.
    pub scale: usize,
    /// Side of the pieces of clean pictures that are learned from, in pixels.
    pub patch: usize,
    /// How they are compared: "l1" or "l2".
    pub difference: Difference,
    /// Deviation of a Gaussian blur in pixels, from and to; 0: none.
    pub blur: [f64; 2],
    /// How pictures become smaller where the network enlarges: "bicubic" or "area".
    pub shrink: Shrink,
    /// Deviation of normal noise in levels of 255, from and to; 0: none.
    pub noise: [f64; 2],
    /// Quality of JPEG compression, from and to, 1 to 100; 0: none.
    pub jpeg: [u8; 2],
}

impl TransformConfig {
    /// What is done to clean pictures.
    pub fn degradation(&self) -> Degradation {
        let Self { blur, shrink, noise, jpeg, .. } = *self;
        Degradation { blur, shrink, noise, jpeg }
    }

    /// Refuses what cannot be learned.
    ///
    /// # Errors
    /// [`Error::Config`] naming the setting.
    pub fn check(&self) -> Result<()> {
        if !(1..=MOST_SCALE).contains(&self.scale) {
            return Err(Error::Config(format!(
                "objective.scale is {}; it takes 1 to {MOST_SCALE}",
                self.scale
            )));
        }
        if !(8..=MOST_PATCH).contains(&self.patch) || !self.patch.is_multiple_of(self.scale) {
            return Err(Error::Config(format!(
                "objective.patch is {}; it takes 8 to {MOST_PATCH}, a multiple of objective.scale ({})",
                self.patch, self.scale
            )));
        }
        self.degradation().check()
    }

    /// A piece of clean pictures that is learned from, of `channels`.
    pub fn clean(&self, channels: usize) -> ImageShape {
        ImageShape { channels, height: self.patch, width: self.patch }
    }

    /// What the network is given of one.
    pub fn seen(&self, channels: usize) -> ImageShape {
        let side = self.patch / self.scale;
        ImageShape { channels, height: side, width: side }
    }

    /// The largest part of pictures of `shape` whose sides are multiples of what the network needs: from the middle of each.
    ///
    /// # Errors
    /// [`Error::Config`] if nothing is left.
    pub fn whole(&self, shape: ImageShape, network: &NetworkConfig) -> Result<ImageShape> {
        let multiple = transform::network(network, self.seen(shape.channels), self.scale)?
            .reach()
            .map_or(self.patch, |reach| reach.multiple * self.scale);
        let cut = |side: usize| side / multiple * multiple;
        let whole = ImageShape { height: cut(shape.height), width: cut(shape.width), ..shape };
        if whole.values() == 0 {
            return Err(Error::Config(format!(
                "pictures of {shape} are too small: the network takes multiples of {multiple}"
            )));
        }
        Ok(whole)
    }
}

/// What a network is given, and what it should make of it.
#[derive(Default)]
pub struct Examples {
    /// (N, C, H, W) in [0, 1], or a little outside.
    pub seen: Vec<f32>,
    /// (N, C, scale·H, scale·W) in [0, 1].
    pub clean: Vec<f32>,
}

impl Examples {
    fn joined(parts: Vec<(Vec<f32>, Vec<f32>)>) -> Self {
        let mut all = Self::default();
        for (seen, clean) in parts {
            all.seen.extend(seen);
            all.clean.extend(clean);
        }
        all
    }

    /// Random pieces of the pictures `indices` of step `step`, each degraded anew.
    ///
    /// # Errors
    /// As [`Degradation::apply`].
    pub fn pieces(
        config: &TransformConfig,
        pictures: &Pictures,
        shape: ImageShape,
        indices: &[usize],
        (seed, step): (u64, u64),
    ) -> Result<Self> {
        let degradation = config.degradation();
        let clean = config.clean(shape.channels);
        let parts = indices.par_iter().enumerate().map(|(place, index)| {
            let mut stream = Stream::new(seed, Purpose::Degrade, step << 16 | place as u64);
            let own = piece(pictures.picture(*index), shape, config.patch, &mut stream);
            let strength = degradation.draw(&mut stream);
            Ok((degradation.apply(&own, clean, config.scale, strength, &mut stream)?, own))
        });
        Ok(Self::joined(parts.collect::<Result<_>>()?))
    }

    /// The middle `part` of the pictures `indices`, degraded as held-out ones are: always in the same way.
    ///
    /// # Errors
    /// As [`Degradation::apply`].
    pub fn held_out(
        config: &TransformConfig,
        strength: Strength,
        pictures: &Pictures,
        (shape, part): (ImageShape, ImageShape),
        indices: &[usize],
    ) -> Result<Self> {
        let degradation = config.degradation();
        let parts = indices.par_iter().map(|index| {
            let clean = middle(pictures.picture(*index), shape, part);
            let mut stream = Stream::new(0, Purpose::DegradeHeldOut, *index as u64);
            Ok((degradation.apply(&clean, part, config.scale, strength, &mut stream)?, clean))
        });
        Ok(Self::joined(parts.collect::<Result<_>>()?))
    }
}

/// The middle of a picture (height, width, channels): (C, H, W) of `part` in [0, 1].
fn middle(pixels: &[u8], shape: ImageShape, part: ImageShape) -> Vec<f32> {
    let (top, left) = ((shape.height - part.height) / 2, (shape.width - part.width) / 2);
    let mut values = Vec::with_capacity(part.values());
    for channel in 0..shape.channels {
        for y in top..top + part.height {
            for x in left..left + part.width {
                let level = pixels[(y * shape.width + x) * shape.channels + channel];
                values.push(f32::from(level) / 255.0);
            }
        }
    }
    values
}

/// A network from pictures to pictures, with values.
pub struct Restorer<B: Backend = Lanes> {
    /// Picture (N, C, H, W) → picture (N, C, scale·H, scale·W), of the pieces' size.
    pub network: Network<B>,
    config: NetworkConfig,
    scale: usize,
}

impl<B: Backend> Restorer<B> {
    /// First values from `seed`.
    ///
    /// # Errors
    /// [`Error::Config`] if the form does not fit; the device's.
    pub fn new(
        backend: &B,
        config: &NetworkConfig,
        objective: &TransformConfig,
        channels: usize,
        seed: u64,
    ) -> Result<Self> {
        let seen = objective.seen(channels);
        let mut graph = transform::network(config, seen, objective.scale)?.initialise(seed, 0);
        // it begins as what it adds to: nothing is added
        if let Some(last) = graph.nodes.iter_mut().rev().find(|node| node.op.is_linear()) {
            last.weight_mut().fill(0.0);
        }
        let network = Network::new(backend, &graph)?;
        Ok(Self { network, config: config.clone(), scale: objective.scale })
    }

    /// The mean squared error of a training batch; adds the gradients of what `difference` says.
    ///
    /// # Errors
    /// The device's.
    pub fn learn(
        &mut self,
        examples: &Examples,
        difference: Difference,
        gradients: &mut Gradients<B>,
    ) -> Result<f64> {
        let backend = self.network.backend().clone();
        let output = self.network.graph.output();
        let x = backend.tensor(&examples.seen, self.network.input_shape())?;
        let (made, pass) = self.network.train(x, None, output, &[])?;
        let mut gradient = backend.rows(&made)?;
        let count = gradient.len() as f64;
        let mut squares = 0.0;
        for (value, clean) in gradient.iter_mut().zip(&examples.clean) {
            let apart = *value - clean;
            squares += f64::from(apart) * f64::from(apart);
            *value = match difference {
                Difference::L1 => apart.signum() * (1.0 / count) as f32,
                Difference::L2 => apart * (2.0 / count) as f32,
            };
        }
        let seeds = vec![(output, backend.tensor(&gradient, self.network.output_shape())?)];
        self.network.backward(&pass, seeds, Some(gradients), false, &[])?;
        Ok(squares / count)
    }

    /// The same network for pictures of another size.
    ///
    /// # Errors
    /// [`Error::Config`] if the size does not fit; the device's.
    pub fn sized(&self, seen: ImageShape) -> Result<Network<B>> {
        let graph = transform::network(&self.config, seen, self.scale)?.initialise(0, 0);
        let mut network = Network::new(self.network.backend(), &graph)?;
        network.set(&self.network.parameters()?)?;
        Ok(network)
    }
}
