//! The far end of 4-wire SPI: clock, data, chip select, D/C, and the pins for reset and busy.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use embedded_hal::digital::{self, InputPin, OutputPin};
use embedded_hal::spi::{self, SpiBus};

use super::bus::{BusLoad, Clock, Meter};
use super::{Complaint, Complaints};

/// Which of the panel's inputs a pin drives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// CSX: low selects.
    ChipSelect,
    /// D/CX: low for commands.
    DataCommand,
    /// RESX: low resets.
    Reset,
}

/// What every controller behind 4-wire SPI has: its pins, the bus's meter, and what it did not like.
#[derive(Debug)]
pub struct Side {
    pub(crate) meter: Meter,
    pub(crate) complaints: Complaints,
    pub(crate) selected: bool,
    pub(crate) data: bool,
    pub(crate) in_reset: bool,
}

impl Side {
    pub(crate) fn new(clock: Clock, hertz: u32) -> Self {
        Self {
            meter: Meter::new(clock, hertz),
            complaints: Complaints::default(),
            selected: false,
            data: false,
            in_reset: false,
        }
    }
}

/// A controller behind 4-wire SPI.
pub trait SpiPanel {
    /// Its side of the bus.
    fn side(&self) -> &Side;

    /// The same, to be changed.
    fn side_mut(&mut self) -> &mut Side;

    /// A byte that came while D/C was low.
    fn command(&mut self, command: u8);

    /// A byte that came while D/C was high.
    fn parameter(&mut self, byte: u8);

    /// Registers as after the reset pin.
    fn reset(&mut self);

    /// All as after the power has come back: registers reset, noise in the RAM.
    fn lose_power(&mut self);

    /// The level of the busy pin; panels that are never busy have none.
    fn is_busy(&self) -> bool {
        false
    }

    /// Bytes on the data line, with the pins as they stand.
    fn receive(&mut self, bytes: &[u8]) {
        let side = self.side_mut();
        side.meter.add(bytes.len(), 8 * bytes.len() as u64);
        if !side.selected || side.in_reset {
            if !bytes.is_empty() {
                side.complaints.add(Complaint::NotListening);
            }
            return;
        }
        let data = side.data;
        for &byte in bytes {
            if data { self.parameter(byte) } else { self.command(byte) }
        }
    }

    /// A pin changes.
    fn set(&mut self, input: Input, high: bool) {
        let side = self.side_mut();
        match input {
            Input::ChipSelect => side.selected = !high,
            Input::DataCommand => side.data = high,
            Input::Reset => {
                if side.in_reset == high {
                    side.in_reset = !high;
                    self.reset();
                }
            }
        }
    }

    /// What went over the bus so far.
    fn load(&self) -> BusLoad {
        self.side().meter.load()
    }

    /// What the panel did not like so far.
    fn complaints(&self) -> &Complaints {
        &self.side().complaints
    }
}

/// Clock and data.
#[derive(Debug)]
pub struct SpiWire<P>(pub Rc<RefCell<P>>);

impl<P> spi::ErrorType for SpiWire<P> {
    type Error = Infallible;
}

impl<P: SpiPanel> SpiBus for SpiWire<P> {
    fn read(&mut self, words: &mut [u8]) -> Result<(), Infallible> {
        words.fill(0);
        self.0.borrow_mut().side_mut().complaints.add(Complaint::Read);
        Ok(())
    }

    fn write(&mut self, words: &[u8]) -> Result<(), Infallible> {
        self.0.borrow_mut().receive(words);
        Ok(())
    }

    fn transfer(&mut self, read: &mut [u8], write: &[u8]) -> Result<(), Infallible> {
        self.write(write)?;
        self.read(read)
    }

    fn transfer_in_place(&mut self, words: &mut [u8]) -> Result<(), Infallible> {
        self.write(words)?;
        self.read(words)
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// A pin that the panel listens to.
#[derive(Debug)]
pub struct PanelPin<P> {
    /// The panel that it is wired to.
    pub panel: Rc<RefCell<P>>,
    /// The input that it is wired to.
    pub input: Input,
}

impl<P> digital::ErrorType for PanelPin<P> {
    type Error = Infallible;
}

impl<P: SpiPanel> OutputPin for PanelPin<P> {
    fn set_low(&mut self) -> Result<(), Infallible> {
        self.panel.borrow_mut().set(self.input, false);
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Infallible> {
        self.panel.borrow_mut().set(self.input, true);
        Ok(())
    }
}

/// The pin by which the panel says that it is busy.
#[derive(Debug)]
pub struct BusyPin<P>(pub Rc<RefCell<P>>);

impl<P> digital::ErrorType for BusyPin<P> {
    type Error = Infallible;
}

impl<P: SpiPanel> InputPin for BusyPin<P> {
    fn is_high(&mut self) -> Result<bool, Infallible> {
        Ok(self.0.borrow().is_busy())
    }

    fn is_low(&mut self) -> Result<bool, Infallible> {
        Ok(!self.0.borrow().is_busy())
    }
}

/// Numbers without a pattern, the same each time: what is in a RAM that has just got its power.
pub(crate) fn noise() -> impl Iterator<Item = u32> {
    std::iter::successors(Some(1u32), |last| Some(last.wrapping_mul(1_664_525).wrapping_add(1_013_904_223)))
        .skip(1)
}
