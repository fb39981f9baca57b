//! An encoder that is ready to run.

use crate::model::limits::check_count;
use crate::model::{Facts, ImageShape, Model, Network, Part, Range, Spelling};
use crate::{Error, Result};

impl Model {
    /// Makes the encoder ready to run `batch` pictures at once, or as many as the file fixes.
    ///
    /// # Errors
    /// If the model is not an encoder, if `batch` is 0 or too large, or if the graph cannot be
    /// lowered.
    pub fn into_encoder(self, batch: usize) -> Result<Encoder> {
        if self.facts().part != Part::Encoder {
            let what = if self.facts().part.draws() { "latents" } else { "pictures" };
            let problem = format!("this is a {}: it turns {what} into pictures", self.facts().part);
            return Err(Error::unsupported(self.name(), problem));
        }
        let spelling = self.spelling();
        let (name, facts, network, batch) = self.into_network(batch)?;
        Ok(Encoder::new(name, &facts, network, batch, spelling))
    }
}

/// Turns pictures into posteriors. Made by [`Model::into_encoder`](crate::model::Model::into_encoder).
pub struct Encoder {
    name: String,
    network: Network,
    latent_dim: usize,
    image: ImageShape,
    range: Option<Range>,
    batch: usize,
    spelling: Spelling,
}

/// The posterior of some pictures: normal and independent per value.
#[derive(Clone, Debug, PartialEq)]
pub struct Posterior {
    /// (n, L), row-major. It is also the latent that `reconstruct` uses.
    pub mean: Vec<f32>,
    /// (n, L), row-major: natural logarithm of the variance.
    pub log_variance: Vec<f32>,
}

impl Encoder {
    fn new(name: String, facts: &Facts, network: Network, batch: usize, spelling: Spelling) -> Self {
        let Facts { latent_dim, image, range, .. } = *facts;
        Self { name, network, latent_dim, image, range, batch, spelling }
    }

    /// Values of one latent.
    pub fn latent_dim(&self) -> usize {
        self.latent_dim
    }

    /// Size of a picture.
    pub fn image_shape(&self) -> ImageShape {
        self.image
    }

    /// Range that pictures are expected in.
    ///
    /// # Errors
    /// If neither the file nor the options that it was opened with tell it.
    pub fn range(&self) -> Result<Range> {
        self.range.ok_or_else(|| self.spelling.no_range(&self.name))
    }

    /// Pictures of one run of the network.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Encodes `images`, (n, C, H, W) in the range that it was trained on with any n from 1.
    ///
    /// # Errors
    /// If the length is not a multiple of a picture's, or exceeds the
    /// [limit of one call](crate::model::limits::MAX_RUN_VALUES).
    pub fn run(&mut self, images: &[f32]) -> Result<Posterior> {
        let size = self.image.values();
        if images.is_empty() || !images.len().is_multiple_of(size) {
            return Err(Error::invalid(format_args!(
                "{}: {} values are no pictures of {}",
                self.name,
                images.len(),
                self.image
            )));
        }
        let count = images.len() / size;
        check_count(count, size.max(self.latent_dim))?;
        let mut mean = vec![0.0; count * self.latent_dim];
        let mut log_variance = mean.clone();
        let rows = self.batch * self.latent_dim;
        let outputs = mean.chunks_mut(rows).zip(log_variance.chunks_mut(rows));
        for (input, (mean, log_variance)) in images.chunks(self.batch * size).zip(outputs) {
            let run = self.network.run(input, size, &[], &mut [mean, log_variance]);
            run.map_err(|reason| Error::run(&self.name, reason))?;
        }
        Ok(Posterior { mean, log_variance })
    }

    /// Encodes one picture and calls `after` behind each of the model's [steps](Facts::steps), by its number; never if
    /// tract runs the network.
    ///
    /// # Errors
    /// If `image` is no picture's values.
    pub fn run_timed(&mut self, image: &[f32], after: impl FnMut(usize)) -> Result<()> {
        if image.len() != self.image.values() {
            let problem = format!("{}: {} values are no picture of {}", self.name, image.len(), self.image);
            return Err(Error::invalid(problem));
        }
        let (mut mean, mut log_variance) = (vec![0.0; self.latent_dim], vec![0.0; self.latent_dim]);
        let run = self.network.timed(image, 0, &mut [&mut mean, &mut log_variance], after);
        run.map_err(|reason| Error::run(&self.name, reason))
    }
}
