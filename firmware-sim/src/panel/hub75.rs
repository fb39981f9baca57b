//! A matrix of 64×64 RGB LEDs with a HUB75 connector, as a framebuffer: its driver keeps what is drawn, and each refresh sends it as bit
//! planes, for as long as each bit weighs. The virtual matrix decodes them and adds up how long every LED has been on.
//!
//! A HUB75 matrix shows two rows at a time (1:32 multiplex), each LED on or off: brightness is time. LEDs are linear in light, sRGB values
//! are not, so values are squared (a gamma of 2) into ten bits first. Who drives the pins needs a DMA engine or a core of its own, which a
//! Linux program on a Raspberry Pi has not: `edgegen-panel` does not drive one.

use std::cell::RefCell;
use std::rc::Rc;

use embedded_graphics::pixelcolor::Rgb888;
use embedded_graphics::prelude::*;

use super::bus::{BusLoad, Clock, Meter};
use super::canvas::Canvas;
use super::device::{Device, DeviceError, Mounting};
use super::{Complaint, Complaints};
use crate::picture::Picture;

/// Columns and rows.
pub const SIDE: usize = 64;
/// Rows that are shown together: one of the upper, one of the lower half.
const PAIRS: usize = SIDE / 2;
/// Bits of a level.
const PLANES: u32 = 10;
/// The highest level.
const HIGHEST: u32 = (1 << PLANES) - 1;

/// The colours of one column of both rows, a bit each, as the connector names them.
pub mod line {
    /// Upper row.
    pub const R1: u8 = 0x01;
    /// Upper row.
    pub const G1: u8 = 0x02;
    /// Upper row.
    pub const B1: u8 = 0x04;
    /// Lower row.
    pub const R2: u8 = 0x08;
    /// Lower row.
    pub const G2: u8 = 0x10;
    /// Lower row.
    pub const B2: u8 = 0x20;
}

/// Who sends a framebuffer's bit planes.
pub trait Connector {
    /// Shifts a row of each half in, a byte of [`line`]s a column from the left.
    fn shift(&mut self, columns: &[u8; SIDE]);

    /// Latches it, addresses row `pair` of each half, and lets it light for `clocks`.
    fn light(&mut self, pair: usize, clocks: u32);
}

/// A value of a picture as a level of light.
fn level(value: u8) -> u32 {
    let value = u32::from(value);
    (value * value * HIGHEST + 65_025 / 2) / 65_025
}

/// The value that looks like this level.
fn value(level: u32) -> u8 {
    let square = level.min(HIGHEST) * 65_025 / HIGHEST;
    let root = square.isqrt();
    (root + u32::from(square - root * root > root)) as u8
}

/// The framebuffer.
#[derive(Debug)]
pub struct Hub75<C> {
    connector: C,
    canvas: Canvas<Rgb888>,
    mounting: Mounting,
}

impl<C: Connector> Hub75<C> {
    /// A black one.
    pub fn open(mounting: Mounting, connector: C) -> Self {
        let canvas = Canvas::new(Size::new(SIDE as u32, SIDE as u32), mounting);
        Self { connector, canvas, mounting }
    }

    fn levels(&self, x: usize, y: usize) -> [u32; 3] {
        let color = self.canvas.pixels()[y * SIDE + x];
        let mut values = [color.r(), color.g(), color.b()];
        if self.mounting.bgr {
            values.reverse();
        }
        values.map(|value| level(if self.mounting.inverted { 255 - value } else { value }))
    }
}

impl<C: Connector> Device for Hub75<C> {
    type Target = Canvas<Rgb888>;

    fn target(&mut self) -> &mut Canvas<Rgb888> {
        &mut self.canvas
    }

    /// One refresh; a matrix needs a hundred a second.
    fn flush(&mut self) -> Result<(), DeviceError> {
        for pair in 0..PAIRS {
            for plane in 0..PLANES {
                let columns = std::array::from_fn(|x| {
                    let bits = |levels: [u32; 3]| {
                        levels.iter().rev().fold(0, |bits, level| bits << 1 | (level >> plane & 1) as u8)
                    };
                    bits(self.levels(x, pair)) | bits(self.levels(x, pair + PAIRS)) << 3
                });
                self.connector.shift(&columns);
                self.connector.light(pair, 1 << plane);
            }
        }
        Ok(())
    }
}

/// The matrix.
#[derive(Debug)]
pub struct Hub75Panel {
    meter: Meter,
    complaints: Complaints,
    shifted: Option<[u8; SIDE]>,
    /// How long each LED was on in this refresh, and in the one before.
    lit: Vec<[u32; 3]>,
    seen: Vec<[u32; 3]>,
}

impl Hub75Panel {
    /// A dark one, with a clock of `hertz`.
    pub fn new(clock: Clock, hertz: u32) -> Self {
        let dark = vec![[0; 3]; SIDE * SIDE];
        let meter = Meter::new(clock, hertz);
        Self { meter, complaints: Complaints::default(), shifted: None, lit: dark.clone(), seen: dark }
    }

    /// What a viewer sees: the last whole refresh.
    pub fn picture(&self) -> Picture {
        Picture::from_fn(SIDE, SIDE, |x, y| self.seen[y * SIDE + x].map(value))
    }

    /// What went over the connector so far; a byte is one clock of six lines.
    pub fn load(&self) -> BusLoad {
        self.meter.load()
    }

    /// What the matrix did not like so far.
    pub fn complaints(&self) -> &Complaints {
        &self.complaints
    }

    /// A matrix remembers nothing.
    pub fn lose_power(&mut self) {
        self.shifted = None;
        self.lit.fill([0; 3]);
        self.seen.fill([0; 3]);
    }
}

/// The cable to a virtual matrix.
#[derive(Debug)]
pub struct Cable(pub Rc<RefCell<Hub75Panel>>);

impl Connector for Cable {
    fn shift(&mut self, columns: &[u8; SIDE]) {
        let mut panel = self.0.borrow_mut();
        panel.meter.add(SIDE, SIDE as u64);
        panel.shifted = Some(*columns);
    }

    fn light(&mut self, pair: usize, clocks: u32) {
        let panel = &mut *self.0.borrow_mut();
        panel.meter.add(0, u64::from(clocks));
        let Some(columns) = panel.shifted else {
            panel.complaints.add(Complaint::StrayData);
            return;
        };
        for (x, bits) in columns.into_iter().enumerate() {
            for (row, bits) in [(pair, bits), (pair + PAIRS, bits >> 3)] {
                for (channel, time) in panel.lit[row * SIDE + x].iter_mut().enumerate() {
                    *time += u32::from(bits >> channel & 1) * clocks;
                }
            }
        }
        // the eye adds up a refresh
        if pair == PAIRS - 1 && clocks == 1 << (PLANES - 1) {
            std::mem::swap(&mut panel.lit, &mut panel.seen);
            panel.lit.fill([0; 3]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_as_they_were_sent() {
        let differences = (0..=255u8).map(|sent| value(level(sent)).abs_diff(sent));
        assert_eq!(value(level(255)), 255);
        assert_eq!(value(level(0)), 0);
        assert!(differences.max().unwrap() <= 5);
    }
}
