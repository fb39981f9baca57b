//! A decoder or generator that is ready to run.

use super::latents::check_finite;
use super::{Frame, Latents, Raster};
use crate::model::limits::{MAX_IMAGE_SIDE, check_count};
use crate::model::{Facts, ImageShape, Model, Network, Part, PixelFormat, Range, Spelling};
use crate::{Error, Result};

/// The number of a class among `names`, by its name or number.
///
/// # Errors
/// [`Error::Invalid`] that lists the names.
pub fn class_named(names: &[String], class: &str) -> Result<u32> {
    let number = names.iter().position(|name| name == class).or_else(|| class.parse().ok());
    let known = number.filter(|number| *number < names.len()).and_then(|number| u32::try_from(number).ok());
    known.ok_or_else(|| match names {
        [] => Error::invalid(format_args!("there is no class {class}: there are none")),
        _ => Error::invalid(format_args!(
            "there is no class {class}: the classes are {} (or their numbers, from 0)",
            names.join(", ")
        )),
    })
}

impl Model {
    /// Makes the decoder or generator ready to run `batch` latents at once, or as many as the file
    /// fixes.
    ///
    /// # Errors
    /// If the model does not draw, if `batch` is 0 or too large, or if the graph cannot be lowered.
    pub fn into_generator(self, batch: usize) -> Result<Generator> {
        if !self.facts().part.draws() {
            let problem = match self.facts().part {
                Part::Transform => "it turns pictures into pictures: use edgegen transform",
                _ => "this is an encoder: it turns pictures into latents",
            };
            return Err(Error::unsupported(self.name(), problem));
        }
        let spelling = self.spelling();
        let (name, facts, network, batch) = self.into_network(batch)?;
        Ok(Generator::new(name, &facts, network, batch, spelling))
    }
}

/// Turns latents into pictures. Made by [`Model::into_generator`](crate::model::Model::into_generator).
///
/// It is bound to a batch size; any number of latents is run in chunks of it, the last one padded.
/// State and buffers are kept from run to run.
pub struct Generator {
    name: String,
    network: Network,
    latent_dim: usize,
    image: ImageShape,
    raster: Raster,
    format: PixelFormat,
    range: Option<Range>,
    batch: usize,
    spelling: Spelling,
    /// Names of the classes, as far as the file tells them.
    classes: Vec<String>,
    /// The input that tells each picture's class, if there is one.
    class_input: Option<String>,
    /// Result of [`Self::run`], or of one chunk of [`Self::frames`].
    values: Vec<f32>,
    /// From the levels that the network's last layer makes to pixels, if kernels run it and it makes levels.
    pixels: Option<Box<[u8; 256]>>,
}

impl Generator {
    fn new(name: String, facts: &Facts, network: Network, batch: usize, spelling: Spelling) -> Self {
        let raster = facts.raster.clone().unwrap_or_else(|| Raster::of(&[]));
        let pixels = match &network {
            Network::Kernels(program) if raster.is_plain() => {
                facts.range.and_then(|range| program.pixel_table(range))
            }
            Network::Kernels(_) | Network::Other(_) => None,
        };
        Self {
            name,
            pixels,
            network,
            latent_dim: facts.latent_dim,
            image: facts.image,
            raster,
            format: facts.pixel_format,
            range: facts.range,
            batch,
            spelling,
            classes: facts.metadata.classes.clone(),
            class_input: facts.class_input.clone(),
            values: Vec::new(),
        }
    }

    /// Values of one latent.
    pub fn latent_dim(&self) -> usize {
        self.latent_dim
    }

    /// Size of a picture.
    pub fn image_shape(&self) -> ImageShape {
        self.image
    }

    /// Range of [`Self::run`]'s values.
    ///
    /// # Errors
    /// If neither the file nor the options that it was opened with tell it: then there are values, and no pictures.
    pub fn range(&self) -> Result<Range> {
        self.range.ok_or_else(|| self.spelling.no_range(&self.name))
    }

    /// Whether it is to be told the class of each picture.
    pub fn is_conditional(&self) -> bool {
        self.class_input.is_some()
    }

    /// Names of its classes, in order; empty if it knows none, or if its file does not tell them.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The class that picture `index` has if nobody chooses: each in turn; `None` if it is told none, or its file does
    /// not tell which there are.
    pub fn class_in_turn(&self, index: u64) -> Option<u32> {
        let known = self.classes.len() as u64;
        (self.is_conditional() && known > 0).then(|| (index % known) as u32)
    }

    /// The number of a class by its name or number.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the network is told no class, or has no such class.
    pub fn class_named(&self, class: &str) -> Result<u32> {
        let name = &self.name;
        if !self.is_conditional() {
            return Err(Error::invalid(format_args!(
                "class {class}: {name} is not conditioned on a class; leave it out"
            )));
        }
        if !self.classes.is_empty() {
            return class_named(&self.classes, class);
        }
        let last = match &self.network {
            Network::Kernels(program) => program.classes().and_then(|classes| u32::try_from(classes).ok()),
            Network::Other(_) => None,
        };
        let last = last.map_or(u32::MAX, |classes| classes.saturating_sub(1));
        class.parse().ok().filter(|class| *class <= last).ok_or_else(|| {
            Error::invalid(format_args!(
                "there is no class {class}: {name} has numbers for its classes, no names; give one from 0 to {last}"
            ))
        })
    }

    /// Latents of one run of the network.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// How a picture's values lie in what [`Self::run`] returns.
    pub fn raster(&self) -> &Raster {
        &self.raster
    }

    /// Refuses to show what is no picture.
    fn check_picture(&self) -> Result<()> {
        if self.raster.image().is_some() {
            return Ok(());
        }
        let problem = format!(
            "its output is {:?} per picture: a picture is (C, H, W) or (H, W, C) of 1, 3 or 4 channels, or (H, W), with sides up to {MAX_IMAGE_SIDE}; its values can be had as .npy, or {} tells how they lie in a picture",
            self.raster.row(),
            self.spelling.setting("picture", "CxHxW")
        );
        Err(Error::unsupported(&self.name, problem))
    }

    /// Runs `latents`, (n, L) row-major with any n from 1, and returns the network's output, (n, …) with the
    /// shape of [`Raster::row`] behind n: usually (n, C, H, W). `classes` holds each picture's class, (n); it is empty for an
    /// unconditional network.
    ///
    /// # Errors
    /// If the length is not a multiple of L, a value is not finite, the pictures of all latents
    /// exceed the [limit of one call](crate::model::limits::MAX_RUN_VALUES), or `classes` are missing, not
    /// expected, or not known.
    pub fn run(&mut self, latents: &[f32], classes: &[u32]) -> Result<&[f32]> {
        let count = self.check(latents)?;
        self.check_classes(count, classes)?;
        check_count(count, self.raster.values())?;
        self.values.resize(count * self.raster.values(), 0.0);
        let inputs = latents.chunks(self.batch * self.latent_dim);
        let outputs = self.values.chunks_mut(self.batch * self.raster.values());
        let mut classes = classes.chunks(self.batch);
        for (input, output) in inputs.zip(outputs) {
            let classes = classes.next().unwrap_or_default();
            let run = self.network.run(input, self.latent_dim, classes, &mut [output]);
            run.map_err(|reason| Error::run(&self.name, reason))?;
        }
        Ok(&self.values)
    }

    /// Runs one latent, of `class` if the network is told one, and calls `after` behind each of the model's
    /// [steps](Facts::steps), by its number; never if tract runs the network.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_timed(&mut self, latent: &[f32], class: Option<u32>, after: impl FnMut(usize)) -> Result<()> {
        self.check_dim(latent.len())?;
        check_finite(latent, latent.len())?;
        self.check_classes(1, class.as_slice())?;
        self.values.resize(self.batch * self.raster.values(), 0.0);
        let outputs = &mut [&mut self.values[..self.raster.values()]];
        let run = self.network.timed(latent, class.unwrap_or(0), outputs, after);
        run.map_err(|reason| Error::run(&self.name, reason))
    }

    /// The pictures of some latents, ready to be seen; `classes` as in [`Self::run`].
    ///
    /// # Errors
    /// As [`Self::run`] and [`Self::range`].
    pub fn frames(&mut self, latents: &Latents, classes: &[u32]) -> Result<Vec<Frame>> {
        self.check_picture()?;
        self.check_dim(latents.dim())?;
        check_count(latents.count(), self.raster.values())?;
        self.check_classes(latents.count(), classes)?;
        let (image, format, range) = (self.image, self.format, self.range()?);
        let black = || Frame::black(image.width, image.height, format);
        let mut frames: Vec<Frame> = (0..latents.count()).map(|_| black()).collect();
        let rows = latents.values().chunks(self.batch * self.latent_dim);
        for (index, chunk) in rows.enumerate() {
            let frames = frames.iter_mut().skip(index * self.batch).take(self.batch);
            let classes = classes.get(index * self.batch..).unwrap_or_default();
            let classes = &classes[..classes.len().min(self.batch)];
            if self.pixels.is_some() {
                for (row, (latent, frame)) in chunk.chunks_exact(self.latent_dim).zip(frames).enumerate() {
                    self.frame_into(latent, classes.get(row).copied(), &mut frame.pixels)?;
                }
            } else {
                self.run(chunk, classes)?;
                let pictures = self.values.chunks_exact(self.raster.values());
                pictures
                    .zip(frames)
                    .for_each(|(values, frame)| self.raster.pixels(range, values, &mut frame.pixels));
            }
        }
        Ok(frames)
    }

    /// Draws the picture of one latent, of `class` if the network is told one, into `pixels`, (H, W, C), without allocating anything that
    /// lasts. Fastest with a batch of 1.
    ///
    /// # Errors
    /// As [`Self::run`] and [`Self::range`], and if `pixels` does not have the size of a picture.
    pub fn frame_into(&mut self, latent: &[f32], class: Option<u32>, pixels: &mut [u8]) -> Result<()> {
        self.check_picture()?;
        self.check_dim(latent.len())?;
        if pixels.len() != self.image.values() {
            return Err(Error::invalid(format_args!(
                "a frame of {} bytes does not hold a picture of {}",
                pixels.len(),
                self.image
            )));
        }
        if self.pixels.is_some() {
            check_finite(latent, latent.len())?;
            self.check_classes(1, class.as_slice())?;
        }
        if let (Network::Kernels(program), Some(table)) = (&mut self.network, &self.pixels) {
            let class = class.unwrap_or(0);
            program.check_class(class).map_err(|reason| Error::run(&self.name, reason))?;
            let drawn = program.pixels(latent, class, table, pixels);
            return drawn.map_err(|reason| Error::run(&self.name, reason));
        }
        let range = self.range()?;
        self.run(latent, class.as_slice())?;
        self.raster.pixels(range, &self.values, pixels);
        Ok(())
    }

    /// Checks size and values, and returns the number of latents.
    fn check(&self, latents: &[f32]) -> Result<usize> {
        if latents.is_empty() || !latents.len().is_multiple_of(self.latent_dim) {
            return Err(Error::invalid(format_args!(
                "{}: {} values are no latents of {} values each",
                self.name,
                latents.len(),
                self.latent_dim
            )));
        }
        check_finite(latents, self.latent_dim)?;
        Ok(latents.len() / self.latent_dim)
    }

    fn check_classes(&self, count: usize, classes: &[u32]) -> Result<()> {
        let (name, known) = (&self.name, self.classes.len());
        let Some(input) = &self.class_input else {
            return match classes {
                [] => Ok(()),
                _ => Err(Error::invalid(format_args!("{name} is told no class: leave it out"))),
            };
        };
        if classes.len() != count {
            return Err(Error::invalid(format_args!(
                "{name} is told each picture's class ({input:?}): {count} latents come with {} classes; choose one",
                classes.len()
            )));
        }
        match classes.iter().find(|class| known > 0 && **class as usize >= known) {
            Some(class) => {
                Err(Error::invalid(format_args!("{name} has no class {class}: it knows 0 to {}", known - 1)))
            }
            None => Ok(()),
        }
    }

    fn check_dim(&self, dim: usize) -> Result<()> {
        if dim == self.latent_dim {
            return Ok(());
        }
        Err(Error::invalid(format_args!(
            "{} takes latents of {} values: these have {dim}",
            self.name, self.latent_dim
        )))
    }
}
