//! Virtual time and how much of it a bus takes.

use std::cell::Cell;
use std::rc::Rc;

use embedded_hal::delay::DelayNs;

/// A clock that several parts of one simulation share; in nanoseconds from the start.
#[derive(Clone, Debug, Default)]
pub struct Clock(Rc<Cell<u64>>);

impl Clock {
    /// Nanoseconds since the start.
    pub fn now(&self) -> u64 {
        self.0.get()
    }

    /// Lets time pass.
    pub fn advance(&self, nanoseconds: u64) {
        self.0.set(self.0.get().saturating_add(nanoseconds));
    }
}

/// A delay that takes virtual time only.
#[derive(Clone, Debug, Default)]
pub struct VirtualDelay(pub Clock);

impl DelayNs for VirtualDelay {
    fn delay_ns(&mut self, nanoseconds: u32) {
        self.0.advance(u64::from(nanoseconds));
    }
}

/// What went over a bus, and how long that took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BusLoad {
    /// Bytes that the driver sent, without an I2C bus's addresses.
    pub bytes: u64,
    /// Clock cycles that they took.
    pub cycles: u64,
    /// Nanoseconds that they took.
    pub nanoseconds: u64,
    /// Nanoseconds that the panel took to show them, where it can show nothing else meanwhile.
    pub refresh: u64,
}

impl BusLoad {
    /// What was added since `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            bytes: self.bytes - earlier.bytes,
            cycles: self.cycles - earlier.cycles,
            nanoseconds: self.nanoseconds - earlier.nanoseconds,
            refresh: self.refresh - earlier.refresh,
        }
    }
}

/// Counts the load of one bus and moves the clock on by it.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    clock: Clock,
    hertz: u64,
    load: BusLoad,
}

impl Meter {
    pub(crate) fn new(clock: Clock, hertz: u32) -> Self {
        Self { clock, hertz: u64::from(hertz.max(1)), load: BusLoad::default() }
    }

    pub(crate) fn load(&self) -> BusLoad {
        self.load
    }

    pub(crate) fn now(&self) -> u64 {
        self.clock.now()
    }

    /// `bytes` took `cycles`. Time is taken from the total, so that rounding does not add up.
    pub(crate) fn add(&mut self, bytes: usize, cycles: u64) {
        self.load.bytes += bytes as u64;
        self.load.cycles += cycles;
        let nanoseconds = u128::from(self.load.cycles) * 1_000_000_000 / u128::from(self.hertz);
        let nanoseconds = u64::try_from(nanoseconds).unwrap_or(u64::MAX);
        self.clock.advance(nanoseconds - self.load.nanoseconds);
        self.load.nanoseconds = nanoseconds;
    }

    /// The panel is busy for so long; the clock goes on when its driver waits.
    pub(crate) fn refresh(&mut self, nanoseconds: u64) {
        self.load.refresh += nanoseconds;
    }
}
