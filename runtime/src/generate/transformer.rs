//! A network from pictures to pictures that is ready to run.

use super::{Frame, Raster, from_pixels};
use crate::model::limits::check_count;
use crate::model::{Facts, ImageShape, Model, Network, Part, PixelFormat, Range, Spelling};
use crate::{Error, Result};

impl Model {
    /// Makes a network from pictures to pictures ready to run `batch` of them at once, or as many as the file fixes.
    ///
    /// # Errors
    /// If the model is none, if `batch` is 0 or too large, or if the graph cannot be lowered.
    pub fn into_transformer(self, batch: usize) -> Result<Transformer> {
        let source = self.facts().source.filter(|_| self.facts().part == Part::Transform);
        let Some(source) = source else {
            let problem = format!("this is a {}: it does not turn pictures into pictures", self.facts().part);
            return Err(Error::unsupported(self.name(), problem));
        };
        let spelling = self.spelling();
        let (name, facts, network, batch) = self.into_network(batch)?;
        let Facts { image, raster, range, pixel_format, .. } = facts;
        let raster = raster.unwrap_or_else(|| Raster::of(&[]));
        let values = Vec::new();
        Ok(Transformer {
            name,
            network,
            source,
            image,
            raster,
            range,
            format: pixel_format,
            batch,
            spelling,
            values,
        })
    }
}

/// Turns pictures into pictures. Made by [`Model::into_transformer`](crate::model::Model::into_transformer).
pub struct Transformer {
    name: String,
    network: Network,
    source: ImageShape,
    image: ImageShape,
    raster: Raster,
    range: Option<Range>,
    format: PixelFormat,
    batch: usize,
    spelling: Spelling,
    /// Result of [`Self::run`].
    values: Vec<f32>,
}

impl Transformer {
    /// Size of a picture that it reads.
    pub fn source_shape(&self) -> ImageShape {
        self.source
    }

    /// Size of a picture that it makes.
    pub fn image_shape(&self) -> ImageShape {
        self.image
    }

    /// How a picture's values lie in what [`Self::run`] returns.
    pub fn raster(&self) -> &Raster {
        &self.raster
    }

    /// Range of pictures, in and out.
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

    /// Runs `images`, (n, C, H, W) of [`Self::source_shape`] with any n from 1, and returns the network's output, (n, …) with
    /// the shape of [`Raster::row`] behind n: usually (n, C, H, W).
    ///
    /// # Errors
    /// If the length is not a multiple of a picture's, or exceeds the
    /// [limit of one call](crate::model::limits::MAX_RUN_VALUES).
    pub fn run(&mut self, images: &[f32]) -> Result<&[f32]> {
        let (size, made) = (self.source.values(), self.raster.values());
        if images.is_empty() || !images.len().is_multiple_of(size) {
            return Err(self.no_pictures(images.len()));
        }
        let count = images.len() / size;
        check_count(count, size.max(made))?;
        self.values.resize(count * made, 0.0);
        let outputs = self.values.chunks_mut(self.batch * made);
        for (input, output) in images.chunks(self.batch * size).zip(outputs) {
            let run = self.network.run(input, size, &[], &mut [output]);
            run.map_err(|reason| Error::run(&self.name, reason))?;
        }
        Ok(&self.values)
    }

    /// What the last [`Self::run`] returned.
    pub(super) fn made(&self) -> &[f32] {
        &self.values
    }

    /// Runs one picture and calls `after` behind each of the model's [steps](Facts::steps), by its number; never if tract runs
    /// the network.
    ///
    /// # Errors
    /// If `image` is no picture's values.
    pub fn run_timed(&mut self, image: &[f32], after: impl FnMut(usize)) -> Result<()> {
        if image.len() != self.source.values() {
            return Err(self.no_pictures(image.len()));
        }
        self.values.resize(self.batch * self.raster.values(), 0.0);
        let outputs = &mut [&mut self.values[..self.raster.values()]];
        let run = self.network.timed(image, 0, outputs, after);
        run.map_err(|reason| Error::run(&self.name, reason))
    }

    /// What it makes of a picture of [`Self::source_shape`].
    ///
    /// # Errors
    /// As [`Self::run`] and [`Self::range`], and if what it makes, or is given, is no such picture.
    pub fn frame(&mut self, frame: &Frame) -> Result<Frame> {
        let range = self.range()?;
        if self.raster.image().is_none() {
            let problem = format!("its output is {:?} per picture: that is no picture", self.raster.row());
            return Err(Error::unsupported(&self.name, problem));
        }
        if frame.shape() != self.source {
            let problem = format!("{}: it reads {}, not {}", self.name, self.source, frame.shape());
            return Err(Error::invalid(problem));
        }
        let mut values = vec![0.0; self.source.values()];
        from_pixels(range, self.source, &frame.pixels, &mut values);
        let mut made = Frame::black(self.image.width, self.image.height, self.format);
        self.run(&values)?;
        self.raster.pixels(range, &self.values, &mut made.pixels);
        Ok(made)
    }

    fn no_pictures(&self, values: usize) -> Error {
        Error::invalid(format_args!("{}: {values} values are no pictures of {}", self.name, self.source))
    }
}
