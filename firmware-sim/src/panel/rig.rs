//! A virtual panel on a bench: it stays while drivers come and go, and faults can be put on its bus.

use std::cell::RefCell;
use std::rc::Rc;

use embedded_hal_bus::spi::ExclusiveDevice;

use super::Complaints;
use super::bus::{BusLoad, Clock, VirtualDelay};
use super::dcs::{DcsPanel, Driver, Module};
use super::device::{Device, DeviceError, Mounting, Observed, Wires};
use super::fault::{Faults, Faulty, Injector, Struck};
use super::hub75::{Cable, Hub75, Hub75Panel};
use super::list::{Kind, Panel};
use super::open::{self, With};
use super::spi::{BusyPin, Input, PanelPin, SpiPanel, SpiWire};
use super::ssd1306::{Glass, Ssd1306Bus, Ssd1306Panel};
use super::ssd1351::Ssd1351Panel;
use super::ssd1680::Ssd1680Panel;
use crate::picture::Picture;

/// What is done with a virtual panel, whose driver's type is known once it is open.
pub trait Visit {
    /// What comes of it.
    type Output;

    /// Does it.
    fn visit<D: Observed>(self, device: &mut D) -> Self::Output;
}

/// What every virtual panel tells.
trait Watched {
    fn picture(&self) -> Picture;
    fn load(&self) -> BusLoad;
    fn complaints(&self) -> &Complaints;
    fn lose_power(&mut self);
}

macro_rules! watched {
    ($($panel:ty),*) => {$(
        impl Watched for $panel {
            fn picture(&self) -> Picture {
                <$panel>::picture(self)
            }

            fn load(&self) -> BusLoad {
                self.load()
            }

            fn complaints(&self) -> &Complaints {
                self.complaints()
            }

            fn lose_power(&mut self) {
                self.lose_power();
            }
        }
    )*};
}

/// Panels behind 4-wire SPI have most of it from their side of the bus.
macro_rules! watched_on_spi {
    ($($panel:ty),*) => {$(
        impl Watched for $panel {
            fn picture(&self) -> Picture {
                <$panel>::picture(self)
            }

            fn load(&self) -> BusLoad {
                SpiPanel::load(self)
            }

            fn complaints(&self) -> &Complaints {
                SpiPanel::complaints(self)
            }

            fn lose_power(&mut self) {
                SpiPanel::lose_power(self);
            }
        }
    )*};
}

watched_on_spi!(DcsPanel, Ssd1351Panel, Ssd1680Panel);
watched!(Ssd1306Panel, Hub75Panel);

/// A controller with its glass.
#[derive(Clone)]
enum Chip {
    Dcs(&'static Module, Rc<RefCell<DcsPanel>>),
    Oled(Glass, Rc<RefCell<Ssd1306Panel>>),
    Ssd1351(&'static Module, Rc<RefCell<Ssd1351Panel>>),
    Paper { greys: bool, panel: Rc<RefCell<Ssd1680Panel>> },
    Matrix(Rc<RefCell<Hub75Panel>>),
}

impl Chip {
    fn watched(&self) -> Rc<RefCell<dyn Watched>> {
        match self {
            Self::Dcs(_, panel) => Rc::clone(panel) as _,
            Self::Oled(_, panel) => Rc::clone(panel) as _,
            Self::Ssd1351(_, panel) => Rc::clone(panel) as _,
            Self::Paper { panel, .. } => Rc::clone(panel) as _,
            Self::Matrix(panel) => Rc::clone(panel) as _,
        }
    }
}

/// A virtual panel on its bus.
pub struct Rig {
    chip: Chip,
    clock: Clock,
    injector: Rc<RefCell<Injector>>,
}

/// The wires from a driver to a virtual panel.
type VirtualWires<P> = Wires<Faulty<ExclusiveDevice<SpiWire<P>, PanelPin<P>, VirtualDelay>>, PanelPin<P>>;

impl Rig {
    /// A panel that has just got its power, with a bus of `hertz` and these faults; those of a bus do not strike a matrix of LEDs, which
    /// has none.
    pub fn new(panel: Panel, hertz: u32, faults: Faults) -> Self {
        let clock = Clock::default();
        let to = || clock.clone();
        let chip = match panel.kind {
            Kind::Tft(module) if module.driver == Driver::Ssd1351 => {
                Chip::Ssd1351(module, share(Ssd1351Panel::new(to(), hertz)))
            }
            Kind::Tft(module) => Chip::Dcs(module, share(DcsPanel::new(module, to(), hertz))),
            Kind::Oled(glass) => Chip::Oled(glass, share(Ssd1306Panel::new(glass, to(), hertz))),
            Kind::Paper { greys } => Chip::Paper { greys, panel: share(Ssd1680Panel::new(to(), hertz)) },
            Kind::Matrix => Chip::Matrix(share(Hub75Panel::new(to(), hertz))),
        };
        let watched = chip.watched();
        let injector = Injector::new(faults, to(), move || watched.borrow_mut().lose_power());
        Self { chip, clock, injector }
    }

    /// The time on the bench.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// How often faults have struck.
    pub fn struck(&self) -> Struck {
        self.injector.borrow().struck()
    }

    /// What a viewer sees now.
    pub fn picture(&self) -> Picture {
        self.injector.borrow_mut().catch_up();
        self.chip.watched().borrow().picture()
    }

    /// What went over the bus so far.
    pub fn load(&self) -> BusLoad {
        self.chip.watched().borrow().load()
    }

    /// What the panel did not like so far.
    pub fn complaints(&self) -> Complaints {
        self.chip.watched().borrow().complaints().clone()
    }

    /// Initialises the panel with its driver, for `visit`.
    ///
    /// # Errors
    /// The driver's.
    pub fn open<V: Visit>(&self, mounting: Mounting, visit: V) -> Result<V::Output, DeviceError> {
        let with = OnThis { rig: self, visit };
        let mut delay = VirtualDelay(self.clock.clone());
        match &self.chip {
            Chip::Dcs(module, panel) => open::tft(module, mounting, self.wires(panel)?, &mut delay, with),
            Chip::Ssd1351(module, panel) => open::tft(module, mounting, self.wires(panel)?, &mut delay, with),
            Chip::Oled(glass, panel) => {
                open::oled(*glass, mounting, Faulty::new(Ssd1306Bus(Rc::clone(panel)), &self.injector), with)
            }
            Chip::Paper { greys, panel } => {
                let busy = BusyPin(Rc::clone(panel));
                open::paper(*greys, mounting, self.wires(panel)?, (busy, delay), with)
            }
            Chip::Matrix(panel) => Ok(with.with(Hub75::open(mounting, Cable(Rc::clone(panel))))),
        }
    }

    fn wires<P: SpiPanel>(&self, panel: &Rc<RefCell<P>>) -> Result<VirtualWires<P>, DeviceError> {
        let pin = |input| PanelPin { panel: Rc::clone(panel), input };
        let delay = VirtualDelay(self.clock.clone());
        let spi = ExclusiveDevice::new(SpiWire(Rc::clone(panel)), pin(Input::ChipSelect), delay)
            .map_err(|error| DeviceError::new("SPI", format!("{error:?}")))?;
        let spi = Faulty::new(spi, &self.injector);
        Ok(Wires { spi, data: pin(Input::DataCommand), reset: pin(Input::Reset) })
    }
}

fn share<T>(panel: T) -> Rc<RefCell<T>> {
    Rc::new(RefCell::new(panel))
}

/// Hands a driver on, with what only the rig can tell.
struct OnThis<'rig, V> {
    rig: &'rig Rig,
    visit: V,
}

impl<V: Visit> With for OnThis<'_, V> {
    type Output = V::Output;

    fn with<D: Device>(self, device: D) -> V::Output {
        self.visit.visit(&mut OnRig { device, rig: self.rig })
    }
}

/// A driver in front of the panel on a rig.
struct OnRig<'rig, D> {
    device: D,
    rig: &'rig Rig,
}

impl<D: Device> Device for OnRig<'_, D> {
    type Target = D::Target;

    fn target(&mut self) -> &mut D::Target {
        self.device.target()
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        self.device.flush()
    }

    fn is_slow(&self) -> bool {
        self.device.is_slow()
    }
}

impl<D: Device> Observed for OnRig<'_, D> {
    fn picture(&self) -> Picture {
        self.rig.picture()
    }

    fn load(&self) -> BusLoad {
        self.rig.load()
    }

    fn complaints(&self) -> Complaints {
        self.rig.complaints()
    }
}
