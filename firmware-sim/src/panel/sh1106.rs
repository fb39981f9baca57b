//! The driver of an SH1106: a picture in memory, sent page by page, as the controller knows no windows.
//!
//! Commands as in the SH1106 data sheet, chapter "Commands". The published driver crate has the traits of embedded-hal 0.2.

use embedded_graphics::pixelcolor::BinaryColor;
use embedded_graphics::prelude::*;
use embedded_hal::i2c::I2c;

use super::canvas::Canvas;
use super::device::{Device, DeviceError, Mounting};
use super::ssd1306::{ADDRESS, WIDTH};

const HEIGHT: usize = 64;
const PAGES: usize = HEIGHT / 8;
/// The RAM's column of the first pixel.
const OFFSET: u8 = 2;

/// Commands follow.
const COMMANDS: u8 = 0x00;
/// Data follow.
const DATA: u8 = 0x40;

/// The driver on any bus.
#[derive(Debug)]
pub struct Sh1106<I> {
    bus: I,
    canvas: Canvas<BinaryColor>,
    /// What the panel has, page by page; `None` before the first.
    sent: [Option<[u8; WIDTH]>; PAGES],
}

fn failed(reason: impl std::fmt::Debug) -> DeviceError {
    DeviceError::new("SH1106", format!("{reason:?}"))
}

impl<I: I2c> Sh1106<I> {
    /// Initialises the panel.
    ///
    /// # Errors
    /// The bus's.
    pub fn open(mounting: Mounting, mut bus: I) -> Result<Self, DeviceError> {
        let start = [
            COMMANDS,
            0xAE, // off
            0xD5,
            0x80, // clock
            0xA8,
            0x3F, // 64 rows
            0xD3,
            0x00, // no offset
            0x40, // first line
            0xAD,
            0x8B, // converter on
            0x33, // its voltage
            0xA1,
            0xC8, // upright
            0xDA,
            0x12, // pins
            0x81,
            0x5F, // contrast, as the SSD1306's driver has it
            0xD9,
            0x22, // precharge
            0xDB,
            0x35, // VCOMH
            0xA4, // what the RAM says
            if mounting.inverted { 0xA7 } else { 0xA6 },
        ];
        bus.write(ADDRESS, &start).map_err(failed)?;
        let canvas = Canvas::new(Size::new(WIDTH as u32, HEIGHT as u32), mounting);
        let mut panel = Self { bus, canvas, sent: [None; PAGES] };
        // on once there is no noise to be seen
        panel.flush()?;
        panel.bus.write(ADDRESS, &[COMMANDS, 0xAF]).map_err(failed)?;
        Ok(panel)
    }

    /// Eight rows as the RAM has them.
    fn page(&self, page: usize) -> [u8; WIDTH] {
        let rows = &self.canvas.pixels()[page * 8 * WIDTH..][..8 * WIDTH];
        std::array::from_fn(|x| (0..8).fold(0, |byte, y| byte | u8::from(rows[y * WIDTH + x].is_on()) << y))
    }
}

impl<I: I2c> Device for Sh1106<I> {
    type Target = Canvas<BinaryColor>;

    fn target(&mut self) -> &mut Canvas<BinaryColor> {
        &mut self.canvas
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        for number in 0..PAGES {
            let page = self.page(number);
            if self.sent[number] == Some(page) {
                continue;
            }
            let start = [COMMANDS, 0xB0 | number as u8, OFFSET & 0x0F, 0x10 | OFFSET >> 4];
            self.bus.write(ADDRESS, &start).map_err(failed)?;
            let mut message = [DATA; 1 + WIDTH];
            message[1..].copy_from_slice(&page);
            self.bus.write(ADDRESS, &message).map_err(failed)?;
            self.sent[number] = Some(page);
        }
        Ok(())
    }
}
