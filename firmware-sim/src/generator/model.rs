//! A decoder's or generator's pictures.

use edgegen_firmware::{Generator, PictureShape, Request};
use edgegen_runtime::generate::{self, Latents};

use super::{SourceError, bounded};

/// What a click of a knob adds to a value of the latent.
const CLICK: f32 = 0.25;
/// As far as a knob turns a value of the latent, either way: a normal one is rarely beyond.
const FARTHEST: f32 = 4.0;
/// What a click adds to the truncation, and how far it goes.
const TRUNCATION_CLICK: f32 = 0.1;
const TRUNCATIONS: (f32, f32) = (0.1, 2.0);

/// A decoder or generator of `edgegen_runtime` as the firmware sees it. It allocates nothing once it has made a picture.
pub struct ModelGenerator {
    network: generate::Generator,
    shape: PictureShape,
    /// The class of every picture, if one was chosen.
    class: Option<u32>,
    truncation: f32,
    /// The latent that stands for every seed's first one, if the user has set one.
    own: Option<Vec<f32>>,
    /// Whether knobs turn it.
    explores: bool,
    /// The latent of a picture.
    row: Vec<f32>,
    /// The walk that was asked for last: (latent's number, from, to), and its ends.
    ends: Option<(u64, u64, u64)>,
    from: Vec<f32>,
    to: Vec<f32>,
}

impl ModelGenerator {
    /// Pictures of `class`; without one, where the network is told one, a gallery shows each in turn and single
    /// pictures and walks the first.
    ///
    /// An error when its pictures are too large, or their range is not known.
    pub fn new(network: generate::Generator, class: Option<u32>) -> Result<Self, SourceError> {
        network.range()?;
        let image = network.image_shape();
        let shape = bounded(image.channels, image.width, image.height)?;
        let zeros = || vec![0.0; network.latent_dim()];
        let (row, from, to) = (zeros(), zeros(), zeros());
        Ok(Self {
            network,
            shape,
            class,
            truncation: 1.0,
            own: None,
            explores: false,
            row,
            ends: None,
            from,
            to,
        })
    }

    /// From now on knobs turn the latent's first two values, from the middle of the prior.
    pub fn explore(&mut self) {
        self.explores = true;
        self.own = Some(vec![0.0; self.network.latent_dim()]);
    }

    /// Class, truncation and latent of another, as of the same model in another precision.
    pub fn take_settings(&mut self, other: &Self) {
        self.class = other.class;
        self.explores = other.explores;
        self.set_truncation(other.truncation);
        self.own = other.own.clone().filter(|own| own.len() == self.row.len());
    }

    /// The network.
    pub fn network(&self) -> &generate::Generator {
        &self.network
    }

    /// The class of every picture, if one was chosen.
    pub fn class(&self) -> Option<u32> {
        self.class
    }

    /// Chooses a class by its name or number; none leaves the choice to the pictures' numbers.
    ///
    /// # Errors
    /// If there is no such class.
    pub fn set_class(&mut self, class: Option<&str>) -> Result<(), SourceError> {
        self.class = class.map(|class| self.network.class_named(class)).transpose()?;
        Ok(())
    }

    /// By what latents of the prior are multiplied.
    pub fn truncation(&self) -> f32 {
        self.truncation
    }

    /// The same; values out of bounds become the nearest within.
    pub fn set_truncation(&mut self, truncation: f32) {
        if truncation.is_finite() {
            self.truncation = truncation.clamp(TRUNCATIONS.0, TRUNCATIONS.1);
            self.ends = None;
        }
    }

    /// The latent that stands for every seed's first one, if one was set.
    pub fn own_latent(&self) -> Option<&[f32]> {
        self.own.as_deref()
    }

    /// Sets value `index` of that latent, which starts as the first of `seed`.
    pub fn set_latent(&mut self, seed: u64, index: usize, value: f32) {
        let (dim, truncation) = (self.network.latent_dim(), self.truncation);
        let own =
            self.own.get_or_insert_with(|| Latents::from_seed(seed, 0, 1, dim, truncation).row(0).to_vec());
        if let Some(place) = own.get_mut(index).filter(|_| value.is_finite()) {
            *place = value.clamp(-FARTHEST, FARTHEST);
        }
    }

    /// Seeds count again.
    pub fn forget_latent(&mut self) {
        self.own = None;
        self.explores = false;
    }

    /// The latent of a picture; the user's own one if it is the first of a seed.
    fn latent(&mut self, request: Request) -> u64 {
        let index = match request {
            Request::Still { index, .. } | Request::Between { index, .. } => index,
        };
        if let (Some(own), 0) = (&self.own, index) {
            self.row.copy_from_slice(own);
            return index;
        }
        match request {
            Request::Still { seed, index } => Latents::fill(seed, index, self.truncation, &mut self.row),
            Request::Between { index, from, to, step, steps } => {
                if self.ends != Some((index, from, to)) {
                    Latents::fill(from, index, self.truncation, &mut self.from);
                    Latents::fill(to, index, self.truncation, &mut self.to);
                    self.ends = Some((index, from, to));
                }
                let step = (step.min(steps - 1) as usize, steps as usize);
                Latents::fill_step(&self.from, &self.to, step, &mut self.row);
            }
        }
        index
    }
}

impl Generator for ModelGenerator {
    type Error = SourceError;

    fn latent_dim(&self) -> usize {
        self.network.latent_dim()
    }

    fn shape(&self) -> PictureShape {
        self.shape
    }

    fn generate(&mut self, request: Request, pixels: &mut [u8]) -> Result<(), SourceError> {
        let index = self.latent(request);
        // as `edgegen generate`: picture `index` of a seed has the same class there
        let class = self.class.or_else(|| self.network.class_in_turn(index));
        Ok(self.network.frame_into(&self.row, class, pixels)?)
    }

    /// Values of the latent where they are explored; else the first knob goes through the classes, if there are some, and the second
    /// sets the truncation.
    fn turn(&mut self, knob: u8, clicks: i8) -> bool {
        let classes = self.network.classes().len() as i64;
        match (&mut self.own, knob) {
            (Some(own), _) if self.explores => {
                if let Some(value) = own.get_mut(usize::from(knob)) {
                    *value = (*value + CLICK * f32::from(clicks)).clamp(-FARTHEST, FARTHEST);
                }
                true
            }
            (_, 0) if classes > 0 && self.network.is_conditional() => {
                let class = self.class.map_or(0, i64::from) + i64::from(clicks);
                self.class = Some(class.rem_euclid(classes) as u32);
                true
            }
            (_, 1) => {
                self.set_truncation(self.truncation + TRUNCATION_CLICK * f32::from(clicks));
                true
            }
            _ => false,
        }
    }
}
