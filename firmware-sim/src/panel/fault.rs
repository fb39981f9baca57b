//! Faults on a bus: bytes that get lost, messages that are refused, a device that stalls, or vanishes and returns.
//!
//! An [`Injector`] sits between a driver and a virtual panel, as the fault injector of smoltcp's examples sits before a network
//! device. Which messages are hit is counted from a seed, so a run can be had again.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::rc::Rc;
use std::str::FromStr;

use embedded_hal::i2c::{self, I2c, NoAcknowledgeSource};
use embedded_hal::spi::{self, SpiDevice};

use super::bus::Clock;

/// Chances are of so many.
const OF: u64 = 10_000;
/// How long a stalled message takes longer.
const STALL_NS: u64 = 100_000_000;

/// Which faults there are, and how often.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Of 10,000 bytes, so many are lost.
    pub drop: u64,
    /// Of 10,000 messages, so many are refused.
    pub nack: u64,
    /// Of 10,000 messages, so many take 100 ms longer.
    pub stall: u64,
    /// The device is not there from one time to another, in nanoseconds, and has lost its power when it returns.
    pub gone: Vec<Range<u64>>,
}

/// What is wrong with a list of faults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadFault(String);

impl fmt::Display for BadFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{:?} is no fault: there are drop:N, nack:N and stall:N, of 10000, and gone:FROM-TO, in milliseconds",
            self.0
        )
    }
}

impl std::error::Error for BadFault {}

impl FromStr for Faults {
    type Err = BadFault;

    /// Reads `drop:5,nack:20,stall:1,gone:2000-5000`.
    fn from_str(text: &str) -> Result<Self, BadFault> {
        let mut faults = Self::default();
        for word in text.split(',').map(str::trim) {
            let bad = || BadFault(word.to_owned());
            let (name, value) = word.split_once(':').ok_or_else(bad)?;
            let chance = || value.parse().ok().filter(|chance| *chance <= OF).ok_or_else(bad);
            match name {
                "drop" => faults.drop = chance()?,
                "nack" => faults.nack = chance()?,
                "stall" => faults.stall = chance()?,
                "gone" => {
                    let (from, to) = value.split_once('-').ok_or_else(bad)?;
                    let nanoseconds = |text: &str| {
                        let milliseconds: Option<u64> = text.parse().ok();
                        milliseconds.and_then(|time| time.checked_mul(1_000_000)).ok_or_else(bad)
                    };
                    let gone = nanoseconds(from)?..nanoseconds(to)?;
                    if gone.is_empty() {
                        return Err(bad());
                    }
                    faults.gone.push(gone);
                }
                _ => return Err(bad()),
            }
        }
        Ok(faults)
    }
}

/// How often each fault has struck.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Struck {
    /// Bytes lost.
    pub dropped: u64,
    /// Messages refused.
    pub refused: u64,
    /// Messages that took longer.
    pub stalled: u64,
    /// Messages to a device that was not there.
    pub unheard: u64,
    /// Times that the device has returned.
    pub returned: u64,
}

impl fmt::Display for Struck {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dropped, refused, stalled, unheard, returned } = self;
        write!(
            out,
            "{dropped} bytes lost, {refused} messages refused, {stalled} stalled, {unheard} to nobody, power lost {returned} times"
        )
    }
}

/// Strikes.
pub struct Injector {
    faults: Faults,
    clock: Clock,
    state: u64,
    /// How far each absence has come.
    absences: Vec<Absence>,
    lose_power: Box<dyn FnMut()>,
    struck: Struck,
}

impl fmt::Debug for Injector {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Injector")
            .field("faults", &self.faults)
            .field("struck", &self.struck)
            .finish_non_exhaustive()
    }
}

/// One time that a device is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Absence {
    ToCome,
    Now,
    Over,
}

/// What becomes of a message.
enum Fate {
    Arrives,
    Refused,
    Unheard,
}

impl Injector {
    /// With these faults; `lose_power` is called when a device goes.
    pub fn new(faults: Faults, clock: Clock, lose_power: impl FnMut() + 'static) -> Rc<RefCell<Self>> {
        let lose_power = Box::new(lose_power);
        let absences = vec![Absence::ToCome; faults.gone.len()];
        Rc::new(RefCell::new(Self {
            faults,
            clock,
            state: 1,
            absences,
            lose_power,
            struck: Struck::default(),
        }))
    }

    /// How often it has struck.
    pub fn struck(&self) -> Struck {
        self.struck
    }

    /// Steele and Vigna's SplitMix64.
    fn hits(&mut self, chance: u64) -> bool {
        if chance == 0 {
            return false;
        }
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % OF < chance
    }

    /// Lets the device lose its power if it was gone since, whether or not somebody has spoken to it meanwhile.
    pub fn catch_up(&mut self) {
        let now = self.clock.now();
        for (absence, range) in self.absences.iter_mut().zip(&self.faults.gone) {
            if *absence == Absence::ToCome && now >= range.start {
                *absence = Absence::Now;
                (self.lose_power)();
            }
            if *absence == Absence::Now && now >= range.end {
                *absence = Absence::Over;
                self.struck.returned += 1;
            }
        }
    }

    /// Before anything is said to the device.
    fn fate(&mut self) -> Fate {
        self.catch_up();
        if self.absences.contains(&Absence::Now) {
            self.struck.unheard += 1;
            return Fate::Unheard;
        }
        if self.hits(self.faults.stall) {
            self.struck.stalled += 1;
            self.clock.advance(STALL_NS);
        }
        if self.hits(self.faults.nack) {
            self.struck.refused += 1;
            return Fate::Refused;
        }
        Fate::Arrives
    }

    /// The bytes that are left of these.
    fn left_of<'a>(&mut self, bytes: &'a [u8], kept: &'a mut Vec<u8>) -> &'a [u8] {
        if self.faults.drop == 0 {
            return bytes;
        }
        kept.clear();
        for &byte in bytes {
            if self.hits(self.faults.drop) {
                self.struck.dropped += 1;
            } else {
                kept.push(byte);
            }
        }
        kept
    }
}

/// A bus with faults.
#[derive(Debug)]
pub struct Faulty<T> {
    inner: T,
    injector: Rc<RefCell<Injector>>,
}

impl<T> Faulty<T> {
    /// This bus, with these faults.
    pub fn new(inner: T, injector: &Rc<RefCell<Injector>>) -> Self {
        Self { inner, injector: Rc::clone(injector) }
    }
}

/// A fault, or an error of the bus behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultError<E> {
    /// The bus's own.
    Bus(E),
    /// The device did not take the message.
    Refused,
    /// Nobody answers.
    Nobody,
}

impl<E: spi::Error> spi::Error for FaultError<E> {
    fn kind(&self) -> spi::ErrorKind {
        match self {
            Self::Bus(error) => error.kind(),
            Self::Refused | Self::Nobody => spi::ErrorKind::Other,
        }
    }
}

impl<E: i2c::Error> i2c::Error for FaultError<E> {
    fn kind(&self) -> i2c::ErrorKind {
        match self {
            Self::Bus(error) => error.kind(),
            Self::Refused => i2c::ErrorKind::NoAcknowledge(NoAcknowledgeSource::Data),
            Self::Nobody => i2c::ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address),
        }
    }
}

impl<T: spi::ErrorType> spi::ErrorType for Faulty<T> {
    type Error = FaultError<T::Error>;
}

impl<T: SpiDevice> SpiDevice for Faulty<T> {
    fn transaction(&mut self, operations: &mut [spi::Operation<'_, u8>]) -> Result<(), Self::Error> {
        let fate = self.injector.borrow_mut().fate();
        match fate {
            Fate::Arrives => {}
            Fate::Refused => return Err(FaultError::Refused),
            // nothing on SPI says that it was heard
            Fate::Unheard => return Ok(()),
        }
        for operation in operations {
            let mut kept = Vec::new();
            let mut operation = match operation {
                spi::Operation::Read(bytes) => spi::Operation::Read(bytes),
                spi::Operation::Write(bytes) => {
                    spi::Operation::Write(self.injector.borrow_mut().left_of(bytes, &mut kept))
                }
                spi::Operation::Transfer(read, write) => spi::Operation::Transfer(read, write),
                spi::Operation::TransferInPlace(bytes) => spi::Operation::TransferInPlace(bytes),
                spi::Operation::DelayNs(time) => spi::Operation::DelayNs(*time),
            };
            self.inner.transaction(std::slice::from_mut(&mut operation)).map_err(FaultError::Bus)?;
        }
        Ok(())
    }
}

impl<T: i2c::ErrorType> i2c::ErrorType for Faulty<T> {
    type Error = FaultError<T::Error>;
}

impl<T: I2c> I2c for Faulty<T> {
    fn transaction(&mut self, address: u8, operations: &mut [i2c::Operation<'_>]) -> Result<(), Self::Error> {
        let fate = self.injector.borrow_mut().fate();
        match fate {
            Fate::Arrives => {}
            Fate::Refused => return Err(FaultError::Refused),
            Fate::Unheard => return Err(FaultError::Nobody),
        }
        for operation in operations {
            let mut kept = Vec::new();
            let mut operation = match operation {
                i2c::Operation::Read(bytes) => i2c::Operation::Read(bytes),
                i2c::Operation::Write(bytes) => {
                    i2c::Operation::Write(self.injector.borrow_mut().left_of(bytes, &mut kept))
                }
            };
            self.inner.transaction(address, std::slice::from_mut(&mut operation)).map_err(FaultError::Bus)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read() {
        let faults: Faults = "drop:5, nack:20,stall:1,gone:2000-5000,gone:7000-7001".parse().unwrap();
        let gone = vec![2_000_000_000..5_000_000_000, 7_000_000_000..7_001_000_000];
        assert_eq!(faults, Faults { drop: 5, nack: 20, stall: 1, gone });
        for bad in ["", "drop", "drop:", "drop:10001", "gone:5", "gone:5-5", "gone:9-5", "melt:1", "nack:-1"]
        {
            assert!(bad.parse::<Faults>().unwrap_err().to_string().contains("gone:FROM-TO"), "{bad}");
        }
    }

    #[test]
    fn chances_are_kept_and_can_be_had_again() {
        let count = || {
            let injector = Injector::new("nack:500".parse().unwrap(), Clock::default(), || ());
            for _ in 0..10_000 {
                injector.borrow_mut().fate();
            }
            injector.borrow().struck().refused
        };
        assert!((400..600).contains(&count()), "{}", count());
        assert_eq!(count(), count());
    }

    #[test]
    fn a_device_that_returns_has_lost_its_power() {
        let (clock, lost) = (Clock::default(), Rc::new(RefCell::new(0)));
        let counter = Rc::clone(&lost);
        let injector =
            Injector::new("gone:1-2".parse().unwrap(), clock.clone(), move || *counter.borrow_mut() += 1);
        let mut said = Vec::new();
        for _ in 0..4 {
            said.push(matches!(injector.borrow_mut().fate(), Fate::Arrives));
            clock.advance(700_000);
        }
        assert_eq!((said, *lost.borrow()), (vec![true, true, false, true], 1));
        // gone while nobody speaks
        let (clock, lost) = (Clock::default(), Rc::new(RefCell::new(0)));
        let counter = Rc::clone(&lost);
        let injector =
            Injector::new("gone:1-2".parse().unwrap(), clock.clone(), move || *counter.borrow_mut() += 1);
        clock.advance(9_000_000);
        assert!(matches!(injector.borrow_mut().fate(), Fate::Arrives));
        assert_eq!((injector.borrow().struck().returned, *lost.borrow()), (1, 1));
    }
}
