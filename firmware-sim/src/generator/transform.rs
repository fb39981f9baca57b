//! Pictures of files, and what a network makes of them: denoised, enlarged, translated.

use edgegen_firmware::{Generator, PictureShape, Request};
use edgegen_runtime::generate::{Frame, Transformer, from_pixels};
use edgegen_runtime::model::{Facts, ImageShape, Model, Part, PixelFormat, Range};
use embedded_graphics::geometry::Size;

use super::files::{brought_to, fitted, luminance};
use super::{Files, LONGEST_SIDE, SourceError, bounded};

/// Opens a network for pictures of a height and a width, or of its usual ones.
type Opener<'a> = &'a dyn Fn(Option<(usize, usize)>) -> edgegen_runtime::Result<Model>;

/// A network from pictures to pictures.
///
/// A seed and a number together count through the files. A walk draws a border across the picture: what the network makes of it comes in
/// from the left, and the picture as it is lies to the right.
pub struct Transform {
    network: Transformer,
    range: Range,
    files: Files,
    shape: PictureShape,
    /// The picture as it is and what the network makes of it, both as they are shown, and which it is.
    before: Frame,
    after: Frame,
    number: Option<u64>,
    values: Vec<f32>,
}

impl Transform {
    /// Opens a network; one that takes pictures of any size for such as fill `room` with what it makes. Returns it with a line about it.
    ///
    /// # Errors
    /// If it does not turn pictures into pictures, or they are too large.
    pub(super) fn open(open: Opener<'_>, files: Files, room: Size) -> Result<(Self, String), SourceError> {
        let mut model = open(None)?;
        let Facts { part, any_size, scale, ref metadata, .. } = *model.facts();
        if part != Part::Transform {
            return Err(SourceError::Unfit(format!(
                "this {part} takes no pictures: --pictures (pictures = in a configuration) goes with a model that turns pictures into pictures, or with a folder of encoder and decoder"
            )));
        }
        if any_size {
            let multiple = metadata.multiple.unwrap_or(1);
            let side = |room: u32| {
                let side = (room as usize).min(LONGEST_SIDE.into()) / scale.unwrap_or(1);
                (side / multiple * multiple).max(multiple)
            };
            model = open(Some((side(room.height), side(room.width))))?;
        }
        let (precision, range) = (model.facts().precision, model.range()?);
        let network = model.into_transformer(1)?;
        let (source, made) = (network.source_shape(), network.image_shape());
        // a picture keeps its colours
        let channels = if made.channels == 1 && source.channels == 1 { 3 } else { made.channels };
        let shape = bounded(channels, made.width, made.height)?;
        let blank = || {
            let format = PixelFormat::from_channels(channels).unwrap_or(PixelFormat::Rgb8);
            Frame::black(made.width, made.height, format)
        };
        let (before, after) = (blank(), blank());
        let values = vec![0.0; source.values()];
        let about = format!("{precision} transform, pictures of {source} to {made}");
        Ok((Self { network, range, files, shape, before, after, number: None, values }, about))
    }

    /// Makes what there is to be seen of picture `number`.
    fn make(&mut self, number: u64) -> Result<(), SourceError> {
        let (frame, new) = self.files.picture(number)?;
        if !new && self.number == Some(number) {
            return Ok(());
        }
        let (source, made) = (self.network.source_shape(), self.network.image_shape());
        let shown = ImageShape { channels: self.shape.channels().into(), ..made };
        self.before = brought_to(frame, shown)?;
        let given = brought_to(frame, source)?;
        from_pixels(self.range, source, &given.pixels, &mut self.values);
        let mut pixels = vec![0; made.values()];
        let values = self.network.run(&self.values)?;
        // how they lie in memory is the network's business
        let values = values.to_vec();
        self.network.raster().pixels(self.range, &values, &mut pixels);
        if made.channels == shown.channels {
            self.after.pixels = pixels;
        } else {
            // luminance is the network's, colours are the picture's, brought to the same size
            let colours =
                fitted(&brought_to(frame, ImageShape { channels: 3, ..source })?, (made.width, made.height))?;
            self.after.pixels.clear();
            for (colour, level) in colours.pixels.chunks_exact(3).zip(pixels) {
                let by = i16::from(level) - i16::from(luminance(colour));
                self.after
                    .pixels
                    .extend(colour.iter().map(|value| (i16::from(*value) + by).clamp(0, 255) as u8));
            }
        }
        self.number = Some(number);
        Ok(())
    }
}

impl Generator for Transform {
    type Error = SourceError;

    fn latent_dim(&self) -> usize {
        0
    }

    fn shape(&self) -> PictureShape {
        self.shape
    }

    fn generate(&mut self, request: Request, pixels: &mut [u8]) -> Result<(), SourceError> {
        let (number, done) = match request {
            Request::Still { seed, index } => (seed.wrapping_add(index), (1, 1)),
            Request::Between { index, from, step, steps, .. } => {
                (from.wrapping_add(index), (step, steps.saturating_sub(1).max(1)))
            }
        };
        self.make(number)?;
        let width = usize::from(self.shape.width());
        let border = (width as u64 * u64::from(done.0) / u64::from(done.1)) as usize;
        let bytes = usize::from(self.shape.channels());
        let rows = pixels.chunks_exact_mut(width * bytes);
        let sides =
            self.before.pixels.chunks_exact(width * bytes).zip(self.after.pixels.chunks_exact(width * bytes));
        for (row, (before, after)) in rows.zip(sides) {
            let (made, own) = row.split_at_mut(border.min(width) * bytes);
            made.copy_from_slice(&after[..made.len()]);
            own.copy_from_slice(&before[made.len()..]);
        }
        Ok(())
    }
}
