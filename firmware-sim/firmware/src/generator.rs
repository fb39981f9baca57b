//! The one thing that the firmware asks of a network: a picture for a request.
//!
//! Latents are the generator's business, because how a seed becomes a latent belongs to the
//! runtime; the firmware only counts seeds and steps.

/// Which picture is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// The picture of latent number `index` of `seed`.
    Still {
        /// Seed of the latents.
        seed: u64,
        /// Number of the latent.
        index: u64,
    },
    /// A picture on the way from a seed's latent to another's of the same number.
    Between {
        /// Number of the latent.
        index: u64,
        /// Seed at step 0.
        from: u64,
        /// Seed at step `steps - 1`.
        to: u64,
        /// Where on the way, in 0..`steps`.
        step: u32,
        /// Pictures on the way, both ends included; at least 2.
        steps: u32,
    },
}

/// Size of a picture: 1 channel (gray) or 3 (RGB), at least one pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureShape {
    channels: u8,
    width: u16,
    height: u16,
}

impl PictureShape {
    /// `None` unless `channels` is 1 or 3 and neither side is 0.
    pub const fn new(channels: u8, width: u16, height: u16) -> Option<Self> {
        if (channels == 1 || channels == 3) && width > 0 && height > 0 {
            Some(Self { channels, width, height })
        } else {
            None
        }
    }

    /// 1 (gray) or 3 (RGB).
    pub const fn channels(self) -> u8 {
        self.channels
    }

    /// Pixels in a row.
    pub const fn width(self) -> u16 {
        self.width
    }

    /// Rows.
    pub const fn height(self) -> u16 {
        self.height
    }

    /// Bytes of one picture, NHWC u8.
    pub const fn bytes(self) -> usize {
        self.channels as usize * self.width as usize * self.height as usize
    }
}

/// Makes pictures: a network behind a runtime, or a stored picture in a test.
pub trait Generator {
    /// Why a picture could not be made.
    type Error;

    /// Length of a latent; 0 where there is none.
    fn latent_dim(&self) -> usize;

    /// Size of every picture.
    fn shape(&self) -> PictureShape;

    /// Fills `pixels` with the picture asked for: NHWC, u8, exactly [`PictureShape::bytes`] long.
    /// Equal requests must give equal pixels, unless a knob was turned between them.
    fn generate(&mut self, request: Request, pixels: &mut [u8]) -> Result<(), Self::Error>;

    /// A knob is turned clockwise by so many clicks, or the other way. False if that means nothing to it; else equal requests may give
    /// other pixels from now on.
    fn turn(&mut self, knob: u8, clicks: i8) -> bool {
        let _ = (knob, clicks);
        false
    }
}
