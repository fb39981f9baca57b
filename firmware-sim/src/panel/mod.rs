//! Panels behind real drivers, virtual or wired to a board, and a Linux [`framebuffer`].
//!
//! A panel is a description: a controller, a glass, a driver, in a file of its own; [`list`] has them all. [`Device`] draws on it, over
//! any bus; what only a virtual one can tell is [`Observed`].
//!
//! A virtual panel is the far end of a bus: it gets the bytes that a driver sends through
//! `embedded-hal` traits, decodes them as its controller's data sheet says, and keeps what the
//! controller would keep. Its picture is what a viewer would see: nothing at all before the panel
//! has been woken and switched on.
//!
//! Time is virtual. Bytes take as long as the bus's clock says, delays as long as they ask for,
//! and nothing else takes any, so that figures are the same on every machine.
//!
//! What a driver does that a panel would not like is counted as a [`Complaint`]; a well-behaved
//! driver causes none.

pub mod bus;
pub mod canvas;
pub mod dcs;
pub mod device;
#[cfg(feature = "panel")]
pub mod drm;
pub mod fault;
pub mod framebuffer;
pub mod gc9a01;
pub mod hub75;
pub mod ili9341;
pub mod list;
pub mod open;
pub mod rig;
pub mod sh1106;
pub mod spi;
pub mod ssd1306;
pub mod ssd1351;
pub mod ssd1680;
pub mod st7735;
pub mod st7789;

pub use bus::{BusLoad, Clock, VirtualDelay};
pub use dcs::DcsPanel;
pub use device::{Device, DeviceError, Mounting, Observed};
pub use fault::Faults;
pub use framebuffer::{Framebuffer, FramebufferError};
pub use list::Panel;
pub use rig::{Rig, Visit};
pub use ssd1306::Ssd1306Panel;

use std::collections::BTreeMap;
use std::fmt;

/// Something on the bus that a real panel would ignore, refuse or show wrongly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Complaint {
    /// Not in the controller's command table.
    UnknownCommand(u8),
    /// A real command that this virtual panel does not imitate.
    NotImitated(u8),
    /// A command that came before the controller was ready for it; it is ignored.
    TooEarly(u8),
    /// Another command came before all of this one's parameters.
    MissingParameters(u8),
    /// A parameter that the data sheet does not allow; the command is ignored.
    BadParameter(u8),
    /// A command that the controller's lock keeps from being carried out.
    Locked(u8),
    /// A data byte that no command asked for.
    StrayData,
    /// Bytes while the chip was not selected or held in reset.
    NotListening,
    /// The driver reads, and the panel's data output is not imitated: it gets zeros.
    Read,
    /// Addressed to another device on the bus.
    OtherAddress(u8),
}

impl fmt::Display for Complaint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownCommand(command) => write!(out, "unknown command {command:#04x}"),
            Self::NotImitated(command) => write!(out, "command {command:#04x} is not imitated"),
            Self::TooEarly(command) => write!(out, "command {command:#04x} came before the panel was ready"),
            Self::MissingParameters(command) => write!(out, "command {command:#04x} lacks parameters"),
            Self::BadParameter(command) => write!(out, "command {command:#04x} has a parameter out of range"),
            Self::Locked(command) => write!(out, "command {command:#04x} came while it was locked"),
            Self::StrayData => write!(out, "data bytes that no command asked for"),
            Self::NotListening => write!(out, "bytes while the panel was not selected or in reset"),
            Self::Read => write!(out, "reads, which are not imitated"),
            Self::OtherAddress(address) => write!(out, "messages to I2C address {address:#04x}"),
        }
    }
}

/// Complaints with how often each was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Complaints(BTreeMap<Complaint, u64>);

impl Complaints {
    /// Counts one more.
    pub fn add(&mut self, complaint: Complaint) {
        *self.0.entry(complaint).or_default() += 1;
    }

    /// How often this one was made.
    pub fn count(&self, complaint: Complaint) -> u64 {
        self.0.get(&complaint).copied().unwrap_or(0)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One line each: what, and how often.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(complaint, count)| format!("{complaint} ({count}×)"))
    }
}
