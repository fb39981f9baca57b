//! Pictures of files, and how odd a network finds them: a number below each, and a bar, green up to the
//! threshold and red above, where the model folder has one.

use std::convert::Infallible;
use std::fmt::Write;

use edgegen_firmware::{Generator, PictureShape, Request};
use edgegen_runtime::generate::{Frame, Scorer, from_pixels};
use edgegen_runtime::model::{ImageShape, PixelFormat, Range};
use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::ascii::FONT_6X10;
use embedded_graphics::pixelcolor::Rgb888;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::Rectangle;
use embedded_graphics::text::{Baseline, Text};

use super::files::{brought_to, fitted};
use super::{Files, SourceError, bounded};

/// The least width of a picture with its meter, so that a score has room.
const NARROWEST: usize = 96;
/// Height of the meter.
const METER: usize = 24;
/// Height of its bar.
const BAR: u32 = 10;

const DARK: Rgb888 = Rgb888::new(40, 40, 44);
const USUAL: Rgb888 = Rgb888::new(60, 190, 90);
const ODD: Rgb888 = Rgb888::new(230, 70, 50);

/// A network that scores pictures.
///
/// A seed and a number together count through the files; a walk stays with one.
pub struct Meter {
    scorer: Scorer,
    range: Range,
    image: ImageShape,
    threshold: Option<f64>,
    files: Files,
    shape: PictureShape,
    made: Frame,
    number: Option<u64>,
    values: Vec<f32>,
}

impl Meter {
    /// Scores the pictures of `files`.
    ///
    /// # Errors
    /// If it scores no pictures, or they are too large.
    pub(super) fn new(scorer: Scorer, threshold: Option<f64>, files: Files) -> Result<Self, SourceError> {
        let no_pictures = || SourceError::Unfit("this model scores rows of numbers, no pictures".into());
        let image = scorer.image().ok_or_else(no_pictures)?;
        let range = scorer.range()?;
        let factor = NARROWEST.div_ceil(image.width);
        let (width, height) = (image.width * factor, image.height * factor + METER);
        let shape = bounded(3, width, height)?;
        let made = Frame::black(width, height, PixelFormat::Rgb8);
        let values = vec![0.0; image.values()];
        Ok(Self { scorer, range, image, threshold, files, shape, made, number: None, values })
    }

    fn make(&mut self, number: u64) -> Result<(), SourceError> {
        let (frame, new) = self.files.picture(number)?;
        if !new && self.number == Some(number) {
            return Ok(());
        }
        let given = brought_to(frame, self.image)?;
        from_pixels(self.range, self.image, &given.pixels, &mut self.values);
        let score = self.scorer.score(&self.values)?.value;
        let (width, height) = (self.made.width, self.made.height);
        let shown = fitted(frame, (width, height - METER))?;
        let shown = brought_to(&shown, ImageShape { channels: 3, height: height - METER, width })?;
        self.made.pixels.fill(0);
        self.made.pixels[..shown.pixels.len()].copy_from_slice(&shown.pixels);
        let mut page = Page(&mut self.made);
        let odd = self.threshold.is_some_and(|threshold| score > threshold);
        let top = (height - METER + 2) as i32;
        // without a threshold there is nothing to measure by
        if let Some(threshold) = self.threshold {
            let bar = |length: u32| Rectangle::new(Point::new(0, top), Size::new(length, BAR));
            let full = (2.0 * threshold).max(f64::MIN_POSITIVE);
            let length = (score.max(0.0) / full).min(1.0) * width as f64;
            let Ok(()) = page.fill_solid(&bar(width as u32), DARK);
            let Ok(()) = page.fill_solid(&bar(length as u32), if odd { ODD } else { USUAL });
            let mark = Rectangle::new(Point::new(width as i32 / 2, top), Size::new(1, BAR));
            let Ok(()) = page.fill_solid(&mark, Rgb888::WHITE);
        }
        let mut text = String::new();
        // a string takes everything
        let _ = write!(text, "{score:.2}{}", if odd { " odd" } else { "" });
        let style = MonoTextStyle::new(&FONT_6X10, Rgb888::WHITE);
        let at = Point::new(0, top + BAR as i32 + 1);
        let Ok(_) = Text::with_baseline(&text, at, style, Baseline::Top).draw(&mut page);
        self.number = Some(number);
        Ok(())
    }
}

impl Generator for Meter {
    type Error = SourceError;

    fn latent_dim(&self) -> usize {
        0
    }

    fn shape(&self) -> PictureShape {
        self.shape
    }

    fn generate(&mut self, request: Request, pixels: &mut [u8]) -> Result<(), SourceError> {
        self.make(match request {
            Request::Still { seed, index } => seed.wrapping_add(index),
            Request::Between { index, from, .. } => from.wrapping_add(index),
        })?;
        pixels.copy_from_slice(&self.made.pixels);
        Ok(())
    }
}

/// A frame that can be drawn on.
struct Page<'a>(&'a mut Frame);

impl OriginDimensions for Page<'_> {
    fn size(&self) -> Size {
        Size::new(self.0.width as u32, self.0.height as u32)
    }
}

impl DrawTarget for Page<'_> {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        let inside = self.bounding_box();
        for Pixel(at, color) in pixels.into_iter().filter(|pixel| inside.contains(pixel.0)) {
            let first = (at.y as usize * self.0.width + at.x as usize) * 3;
            self.0.pixels[first..first + 3].copy_from_slice(&[color.r(), color.g(), color.b()]);
        }
        Ok(())
    }
}
