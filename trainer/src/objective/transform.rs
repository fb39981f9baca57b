//! From pictures to pictures: a network that restores what a [`Degradation`] took away, or translates one picture of a pair into
//! the other (P. Isola et al., 2017, "pix2pix").

use documented::DocumentedFields;
use edgegen_runtime::model::ImageShape;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::compute::{Backend, Gradients, Lanes, Network};
use crate::data::degrade::{Degradation, Place, Shrink, Strength, Turn, enlarged, piece};
use crate::data::{Dataset, Pictures, pairs};
use crate::graph::family::{Architecture, NetworkConfig};
use crate::graph::{Shape, transform};
use crate::objective::patches::{Critic, Found};
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
    /// Weight of what a discriminator of patches says, beside the difference; 0: there is none. It makes pictures sharper and
    /// less like the clean ones; pix2pix has 0.01.
    #[serde(default)]
    pub adversarial: f64,
    /// Share of the run after which it begins to learn.
    #[serde(default)]
    pub adversarial_from: f64,
    /// Channels of the discriminator's first layer.
    #[serde(default = "discriminator_base")]
    pub discriminator_base: usize,
}

/// Those of a discriminator as large as a network for a device.
pub(crate) fn discriminator_base() -> usize {
    32
}

impl TransformConfig {
    /// What is done to clean pictures.
    pub fn degradation(&self) -> Degradation {
        let Self { blur, shrink, noise, jpeg, .. } = *self;
        Degradation { blur, shrink, noise, jpeg }
    }

    /// Whether a discriminator learns at this part of the run, 0 to 1.
    pub fn is_adversarial(&self, progress: f64) -> bool {
        self.adversarial > 0.0 && progress >= self.adversarial_from
    }

    /// Refuses what cannot be learned; `paired`: pictures come in pairs.
    ///
    /// # Errors
    /// [`Error::Config`] naming the setting.
    pub fn check(&self, paired: bool) -> Result<()> {
        let Self { blur, noise, jpeg, adversarial, adversarial_from, discriminator_base, .. } = self;
        let untouched = self.scale == 1 && blur[1] == 0.0 && noise[1] == 0.0 && jpeg[1] == 0;
        if paired && !untouched {
            return Err(Error::Config(
                "the network learns to undo what objective.scale, blur, noise and jpeg do to pictures, and needs no pairs: leave --to and --side-by-side out, or train translate"
                    .into(),
            ));
        }
        if !paired && untouched {
            return Err(Error::Config(
                "there is nothing to learn: give pairs, with the pictures that should come out in --to FOLDER under the same names, or with --side-by-side left|right where each picture shows both"
                    .into(),
            ));
        }
        if !(0.0..=1000.0).contains(adversarial) || !(0.0..1.0).contains(adversarial_from) {
            return Err(Error::Config(format!(
                "objective.adversarial is {adversarial} (0 to 1000), objective.adversarial_from {adversarial_from} (0 up to, but not, 1)"
            )));
        }
        if !(1..=1024).contains(discriminator_base) {
            return Err(Error::Config(format!(
                "objective.discriminator_base is {discriminator_base}; it takes 1 to 1024"
            )));
        }
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

/// Pictures that examples are made of.
#[derive(Clone, Copy)]
pub struct Material<'a> {
    /// Clean ones, or pairs.
    pub pictures: &'a Pictures,
    /// Shape of each; of a pair that of both, side by side.
    pub shape: ImageShape,
    /// Whether they are pairs.
    pub paired: bool,
    /// Whether pairs are mirrored at random.
    pub mirrored: bool,
}

impl<'a> Material<'a> {
    /// A part of a data set.
    pub fn new(pictures: &'a Pictures, dataset: &Dataset, paired: bool) -> Self {
        Self { pictures, shape: dataset.shape, paired, mirrored: dataset.mirroring.on }
    }

    /// Shape of what should come out.
    pub fn one(&self) -> ImageShape {
        if self.paired { pairs::half(self.shape) } else { self.shape }
    }

    /// A pair's pictures, or twice the clean one.
    fn pair(&self, index: usize) -> [Vec<u8>; 2] {
        let pixels = self.pictures.picture(index);
        if self.paired { pairs::parted(pixels, self.shape) } else { [pixels.to_vec(), pixels.to_vec()] }
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

    /// Random pieces of the pictures `indices` of step `step`, each degraded anew, or of both pictures of a pair.
    ///
    /// # Errors
    /// As [`Degradation::apply`].
    pub fn pieces(
        config: &TransformConfig,
        material: &Material<'_>,
        indices: &[usize],
        (seed, step): (u64, u64),
    ) -> Result<Self> {
        let degradation = config.degradation();
        let shape = material.one();
        let clean = config.clean(shape.channels);
        let parts = indices.par_iter().enumerate().map(|(place, index)| {
            let mut stream = Stream::new(seed, Purpose::Degrade, step << 16 | place as u64);
            if material.paired {
                let place = Place::draw(shape, config.patch, &mut stream);
                let turn =
                    if material.mirrored && stream.below(2) == 1 { Turn::MIRRORED } else { Turn::NONE };
                let [given, wanted] = material.pair(*index).map(|pixels| piece(&pixels, shape, place, turn));
                return Ok((given, wanted));
            }
            let place = Place::draw(shape, config.patch, &mut stream);
            let turn = Turn::draw(&mut stream);
            let own = piece(material.pictures.picture(*index), shape, place, turn);
            let strength = degradation.draw(&mut stream);
            Ok((degradation.apply(&own, clean, config.scale, strength, &mut stream)?, own))
        });
        Ok(Self::joined(parts.collect::<Result<_>>()?))
    }

    /// The middle `part` of the pictures `indices`, degraded as held-out ones are: always in the same way; or of both pictures of
    /// a pair.
    ///
    /// # Errors
    /// As [`Degradation::apply`].
    pub fn held_out(
        config: &TransformConfig,
        strength: Strength,
        material: &Material<'_>,
        part: ImageShape,
        indices: &[usize],
    ) -> Result<Self> {
        let degradation = config.degradation();
        let parts = indices.par_iter().map(|index| {
            if material.paired {
                let [given, wanted] =
                    material.pair(*index).map(|pixels| middle(&pixels, material.one(), part));
                return Ok((given, wanted));
            }
            let clean = middle(material.pictures.picture(*index), material.shape, part);
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

fn image_of(shape: Shape) -> ImageShape {
    let (channels, height, width) = shape.image();
    ImageShape { channels, height, width }
}

/// What plays against a network, in one step.
pub struct Adversary<'a, B: Backend> {
    /// The discriminator.
    pub critic: &'a mut Critic<B>,
    /// Weight of what it says.
    pub weight: f64,
    /// Its learning rate.
    pub rate: f64,
}

/// What a step tells.
#[derive(Clone, Copy, Debug)]
pub struct Learned {
    /// Mean squared error.
    pub squares: f64,
    /// What the discriminator has found, and the loss of what it does not take for true.
    pub played: Option<(Found, f64)>,
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
        if config.architecture != Architecture::Unet
            && let Some(last) = graph.nodes.iter_mut().rev().find(|node| node.op.is_linear())
        {
            last.weight_mut().fill(0.0);
        }
        let network = Network::new(backend, &graph)?;
        Ok(Self { network, config: config.clone(), scale: objective.scale })
    }

    /// The mean squared error of a training batch; adds the gradients of what `difference` says, and of what the discriminator
    /// says, which makes a step of its own first.
    ///
    /// # Errors
    /// The device's.
    pub fn learn(
        &mut self,
        examples: &Examples,
        difference: Difference,
        adversary: Option<Adversary<'_, B>>,
        gradients: &mut Gradients<B>,
    ) -> Result<Learned> {
        let backend = self.network.backend().clone();
        let output = self.network.graph.output();
        let x = backend.tensor(&examples.seen, self.network.input_shape())?;
        let (made, pass) = self.network.train(x, None, output, &[])?;
        let mut gradient = backend.rows(&made)?;
        let (mut played, mut more) = (None, Vec::new());
        if let Some(Adversary { critic, weight, rate }) = adversary {
            let [from, to] = [self.network.input_shape(), self.network.output_shape()].map(image_of);
            let given = enlarged(&examples.seen, from, to)?;
            let found = critic.learn(&given, &examples.clean, &gradient, rate)?;
            let (loss, slopes) = critic.fooled(&given, &gradient)?;
            more = slopes.into_iter().map(|slope| slope * weight as f32).collect();
            played = Some((found, loss));
        }
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
        gradient.iter_mut().zip(&more).for_each(|(value, slope)| *value += slope);
        let seeds = vec![(output, backend.tensor(&gradient, self.network.output_shape())?)];
        self.network.backward(&pass, seeds, Some(gradients), false, &[])?;
        Ok(Learned { squares: squares / count, played })
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
