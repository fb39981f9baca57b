//! A display of the kernel's direct rendering manager (`/dev/dri/card0`), for boards without a framebuffer device: a dumb buffer, shown
//! on the first display that is connected, in its best mode.
//!
//! It takes over the display, so no desktop may run on it. It has not been tried on a board yet: it is built and its copying tested, with no
//! display at hand.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use drm::Device as _;
use drm::buffer::{Buffer, DrmFourcc};
use drm::control::dumbbuffer::DumbBuffer;
use drm::control::{Device as _, Mode, connector, crtc, framebuffer};
use embedded_graphics::pixelcolor::Rgb888;
use embedded_graphics::prelude::*;

use super::canvas::Canvas;
use super::device::{Device, DeviceError, Mounting};

/// An open card.
#[derive(Debug)]
struct Card(File);

impl AsFd for Card {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl drm::Device for Card {}
impl drm::control::Device for Card {}

fn failed(what: &str, reason: impl fmt::Display) -> DeviceError {
    DeviceError::new("DRM", format!("{what}: {reason}"))
}

/// The display that is connected.
#[derive(Clone, Copy, Debug)]
struct Connected {
    connector: connector::Handle,
    crtc: crtc::Handle,
    mode: Mode,
}

impl Connected {
    fn find(card: &Card) -> Result<Self, DeviceError> {
        let resources =
            card.resource_handles().map_err(|error| failed("its displays cannot be listed", error))?;
        let connectors =
            resources.connectors().iter().filter_map(|handle| card.get_connector(*handle, true).ok());
        let mut connected = connectors.filter(|info| info.state() == connector::State::Connected);
        let info = connected.find(|info| !info.modes().is_empty());
        let info = info.ok_or_else(|| DeviceError::new("DRM", "no display is connected"))?;
        let crtc = info
            .encoders()
            .iter()
            .filter_map(|handle| card.get_encoder(*handle).ok())
            .find_map(|encoder| resources.filter_crtcs(encoder.possible_crtcs()).first().copied());
        let crtc = crtc.ok_or_else(|| DeviceError::new("DRM", "the display has no CRTC"))?;
        // the first is the display's own
        Ok(Self { connector: info.handle(), crtc, mode: info.modes()[0] })
    }
}

fn card(path: &Path) -> Result<Card, DeviceError> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    let named =
        |error| failed(&format!("{}, which users of the group video may open", path.display()), error);
    Ok(Card(file.map_err(named)?))
}

/// Size of the display in its best mode.
///
/// # Errors
/// If there is no such card, or no display is connected.
pub fn size(path: &Path) -> Result<Size, DeviceError> {
    let (width, height) = Connected::find(&card(path)?)?.mode.size();
    Ok(Size::new(width.into(), height.into()))
}

/// The display.
pub struct Drm {
    card: Card,
    buffer: DumbBuffer,
    framebuffer: framebuffer::Handle,
    canvas: Canvas<Rgb888>,
    mounting: Mounting,
}

impl Drm {
    /// Takes the display over.
    ///
    /// # Errors
    /// If there is no such card, no display is connected, or another program has it.
    pub fn open(path: &Path, mounting: Mounting) -> Result<Self, DeviceError> {
        let card = card(path)?;
        // a console has it otherwise; without the right to, it may be free all the same
        let _taken = card.acquire_master_lock();
        let Connected { connector, crtc, mode } = Connected::find(&card)?;
        let (width, height) = mode.size();
        let size = (u32::from(width), u32::from(height));
        let buffer = card
            .create_dumb_buffer(size, DrmFourcc::Xrgb8888, 32)
            .map_err(|error| failed("no memory for a picture", error))?;
        let framebuffer =
            card.add_framebuffer(&buffer, 24, 32).map_err(|error| failed("no framebuffer", error))?;
        card.set_crtc(crtc, Some(framebuffer), (0, 0), &[connector], Some(mode))
            .map_err(|error| failed("the display cannot be taken over: is a desktop running?", error))?;
        let canvas = Canvas::new(Size::new(size.0, size.1), mounting);
        Ok(Self { card, buffer, framebuffer, canvas, mounting })
    }
}

/// Pixels as rows of `pitch` bytes: blue, green, red, and nothing.
fn copy(pixels: &[Rgb888], width: usize, mounting: Mounting, rows: &mut [u8], pitch: usize) {
    for (row, pixels) in rows.chunks_mut(pitch).zip(pixels.chunks_exact(width)) {
        for (bytes, color) in row.chunks_exact_mut(4).zip(pixels) {
            let mut color = [color.b(), color.g(), color.r()];
            if mounting.bgr {
                color.reverse();
            }
            let color = if mounting.inverted { color.map(|value| 255 - value) } else { color };
            bytes[..3].copy_from_slice(&color);
            bytes[3] = 0;
        }
    }
}

impl Device for Drm {
    type Target = Canvas<Rgb888>;

    fn target(&mut self) -> &mut Canvas<Rgb888> {
        &mut self.canvas
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        let pitch = self.buffer.pitch() as usize;
        let mut map =
            self.card.map_dumb_buffer(&mut self.buffer).map_err(|error| failed("no memory", error))?;
        copy(self.canvas.pixels(), self.canvas.width(), self.mounting, map.as_mut(), pitch);
        drop(map);
        // a display that reads its memory all the time knows no such thing
        let _unknown = self.card.dirty_framebuffer(self.framebuffer, &[]);
        Ok(())
    }
}

impl Drop for Drm {
    fn drop(&mut self) {
        // the kernel does both when the file is closed
        let _gone = self.card.destroy_framebuffer(self.framebuffer);
        let _gone = self.card.destroy_dumb_buffer(self.buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_are_copied_row_by_row() {
        let pixels = [Rgb888::new(1, 2, 3), Rgb888::WHITE, Rgb888::RED, Rgb888::BLACK];
        let mut rows = [9; 24];
        copy(&pixels, 2, Mounting::default(), &mut rows, 12);
        let expected = [3, 2, 1, 0, 255, 255, 255, 0, 9, 9, 9, 9, 0, 0, 255, 0, 0, 0, 0, 0, 9, 9, 9, 9];
        // what lies behind a row's pixels is left alone
        assert_eq!(rows, expected);
        let mounting = Mounting { bgr: true, inverted: true, ..Mounting::default() };
        copy(&pixels[..1], 1, mounting, &mut rows, 4);
        assert_eq!(rows[..4], [254, 253, 252, 0]);
    }

    #[test]
    fn no_card_is_an_error_in_words() {
        let error = size(Path::new("/dev/dri/card99")).unwrap_err().to_string();
        assert!(error.contains("card99") && error.contains("group video"), "{error}");
    }
}
