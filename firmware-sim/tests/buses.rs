//! Drivers on buses that are not virtual panels: every transaction is one that was expected, and its bytes, decoded by the virtual panel of
//! the same controller, are the picture that was drawn.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use edgegen_firmware::PanelColor;
use edgegen_firmware_sim::panel::device::Wires;
use edgegen_firmware_sim::panel::list::Kind;
use edgegen_firmware_sim::panel::open::{self, With};
use edgegen_firmware_sim::panel::spi::{BusyPin, Input, PanelPin, SpiPanel, SpiWire};
use edgegen_firmware_sim::panel::ssd1306::{ADDRESS, Glass, Ssd1306Bus};
use edgegen_firmware_sim::panel::ssd1351::Ssd1351Panel;
use edgegen_firmware_sim::panel::ssd1680::Ssd1680Panel;
use edgegen_firmware_sim::panel::{
    Clock, DcsPanel, Device, Mounting, Observed, Panel, Ssd1306Panel, VirtualDelay, Visit,
};
use edgegen_firmware_sim::picture::Picture;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::{Circle, PrimitiveStyle};
use embedded_hal::digital::{self, InputPin, OutputPin};
use embedded_hal::i2c::{self, I2c};
use embedded_hal::spi::{self, Operation, SpiBus, SpiDevice};
use embedded_hal_mock::eh1::i2c::{Mock as I2cMock, Transaction as I2cTransaction};
use embedded_hal_mock::eh1::spi::{Mock as SpiMock, Transaction as SpiTransaction};

/// What is drawn on each.
struct Draw;

fn draw<D: Device>(device: &mut D) {
    fn colors<T: DrawTarget<Color: PanelColor>>(_: &T) -> [T::Color; 2] {
        [T::Color::PAPER, T::Color::INK]
    }
    let [paper, ink] = colors(device.target());
    device.target().clear(paper).unwrap();
    let circle = Circle::new(Point::new(11, 7), 20).into_styled(PrimitiveStyle::with_fill(ink));
    circle.draw(device.target()).unwrap();
    device.flush().unwrap();
}

impl With for Draw {
    type Output = ();

    fn with<D: Device>(self, mut device: D) {
        draw(&mut device);
    }
}

impl Visit for Draw {
    type Output = Picture;

    fn visit<D: Observed>(self, device: &mut D) -> Picture {
        draw(device);
        device.picture()
    }
}

/// What happened on the wires of a panel on SPI, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Happened {
    Data(bool),
    Reset(bool),
    Written(Vec<u8>),
}

type Log = Rc<RefCell<Vec<Happened>>>;

/// Writes down what a driver sends.
struct Recorder(Log);

impl spi::ErrorType for Recorder {
    type Error = Infallible;
}

impl SpiDevice for Recorder {
    fn transaction(&mut self, operations: &mut [Operation<'_, u8>]) -> Result<(), Infallible> {
        for operation in operations {
            if let Operation::Write(bytes) = operation {
                self.0.borrow_mut().push(Happened::Written(bytes.to_vec()));
            }
        }
        Ok(())
    }
}

/// The same of a pin.
struct Pin(Log, fn(bool) -> Happened);

impl digital::ErrorType for Pin {
    type Error = Infallible;
}

impl OutputPin for Pin {
    fn set_low(&mut self) -> Result<(), Infallible> {
        self.0.borrow_mut().push((self.1)(false));
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Infallible> {
        self.0.borrow_mut().push((self.1)(true));
        Ok(())
    }
}

/// A panel that is never busy.
struct Idle;

impl digital::ErrorType for Idle {
    type Error = Infallible;
}

impl InputPin for Idle {
    fn is_high(&mut self) -> Result<bool, Infallible> {
        Ok(false)
    }

    fn is_low(&mut self) -> Result<bool, Infallible> {
        Ok(true)
    }
}

fn wires(log: &Log) -> Wires<Recorder, Pin> {
    let (data, reset) = (Pin(Rc::clone(log), Happened::Data), Pin(Rc::clone(log), Happened::Reset));
    Wires { spi: Recorder(Rc::clone(log)), data, reset }
}

/// Opens a panel on SPI and draws.
fn on_spi<S: SpiDevice, P: OutputPin>(panel: Panel, wires: Wires<S, P>) {
    let mut delay = VirtualDelay::default();
    match panel.kind {
        Kind::Tft(module) => open::tft(module, Mounting::default(), wires, &mut delay, Draw).unwrap(),
        Kind::Paper { greys } => open::paper(greys, Mounting::default(), wires, (Idle, delay), Draw).unwrap(),
        _ => unreachable!(),
    }
}

/// What the panel shows that gets what was recorded, a second after each message.
fn replayed<P: SpiPanel>(panel: P, clock: &Clock, log: &[Happened]) -> P {
    let panel = Rc::new(RefCell::new(panel));
    let pin = |input| PanelPin { panel: Rc::clone(&panel), input };
    let (mut select, mut data, mut reset) =
        (pin(Input::ChipSelect), pin(Input::DataCommand), pin(Input::Reset));
    let mut bus = SpiWire(Rc::clone(&panel));
    select.set_low().unwrap();
    for happened in log {
        match happened {
            Happened::Data(high) => data.set_state((*high).into()).unwrap(),
            Happened::Reset(high) => reset.set_state((*high).into()).unwrap(),
            Happened::Written(bytes) => bus.write(bytes).unwrap(),
        }
        clock.advance(20_000_000);
        while BusyPin(Rc::clone(&panel)).is_high().unwrap() {
            clock.advance(10_000_000);
        }
    }
    drop((select, data, reset, bus));
    Rc::into_inner(panel).unwrap().into_inner()
}

#[test]
fn transactions_on_spi_are_as_expected_and_decode_into_the_frame() {
    for name in
        ["st7789", "st7789-135x240", "st7735", "ili9341", "gc9a01", "ssd1351", "epd2in9", "epd2in9-grey"]
    {
        let panel = Panel::named(name).unwrap();
        let log = Log::default();
        on_spi(panel, wires(&log));
        let log = log.borrow();
        let written: usize =
            log.iter().map(|step| if let Happened::Written(bytes) = step { bytes.len() } else { 0 }).sum();
        assert!(written > 9_000, "{name}: {written} bytes");

        let clock = Clock::default();
        let (picture, complaints) = match panel.kind {
            Kind::Tft(module) if name != "ssd1351" => {
                let shown = replayed(DcsPanel::new(module, clock.clone(), panel.hertz), &clock, &log);
                (shown.picture(), shown.complaints().clone())
            }
            Kind::Tft(_) => {
                let shown = replayed(Ssd1351Panel::new(clock.clone(), panel.hertz), &clock, &log);
                (shown.picture(), shown.complaints().clone())
            }
            _ => {
                let shown = replayed(Ssd1680Panel::new(clock.clone(), panel.hertz), &clock, &log);
                (shown.picture(), shown.complaints().clone())
            }
        };
        assert!(complaints.is_empty(), "{name}: {complaints:?}");
        let expected = panel.open(panel.hertz, Mounting::default(), Draw).unwrap();
        assert!(picture == expected, "{name}");
        let lit = picture.rgb().chunks(3).filter(|color| *color == picture.at(20, 16)).count();
        assert!((300..330).contains(&lit) || name == "gc9a01", "{name}: a circle of {lit} pixels");

        // once more, each transaction checked as it comes
        let mut expected = Vec::new();
        for step in log.iter() {
            if let Happened::Written(bytes) = step {
                expected.extend([
                    SpiTransaction::transaction_start(),
                    SpiTransaction::write_vec(bytes.clone()),
                    SpiTransaction::transaction_end(),
                ]);
            }
        }
        let mut mock = SpiMock::new(&expected);
        let ignored = Log::default();
        let (data, reset) = (Pin(Rc::clone(&ignored), Happened::Data), Pin(ignored, Happened::Reset));
        on_spi(panel, Wires { spi: mock.clone(), data, reset });
        mock.done();
    }
}

/// Writes down what a driver sends.
struct I2cRecorder(Rc<RefCell<Vec<Vec<u8>>>>);

impl i2c::ErrorType for I2cRecorder {
    type Error = Infallible;
}

impl I2c for I2cRecorder {
    fn transaction(&mut self, address: u8, operations: &mut [i2c::Operation<'_>]) -> Result<(), Infallible> {
        assert_eq!(address, ADDRESS);
        let bytes = operations.iter().flat_map(|operation| match operation {
            i2c::Operation::Write(bytes) => bytes.to_vec(),
            i2c::Operation::Read(_) => panic!("an OLED is not read"),
        });
        self.0.borrow_mut().push(bytes.collect());
        Ok(())
    }
}

#[test]
fn messages_on_i2c_are_as_expected_and_decode_into_the_frame() {
    for (name, glass) in [("ssd1306", Glass::High), ("ssd1306-128x32", Glass::Low), ("sh1106", Glass::Sh1106)]
    {
        let log = Rc::new(RefCell::new(Vec::new()));
        open::oled(glass, Mounting::default(), I2cRecorder(Rc::clone(&log)), Draw).unwrap();
        let log = log.borrow();
        let shown = Rc::new(RefCell::new(Ssd1306Panel::new(glass, Clock::default(), 400_000)));
        let mut bus = Ssd1306Bus(Rc::clone(&shown));
        log.iter().for_each(|message| bus.write(ADDRESS, message).unwrap());
        let panel = Panel::named(name).unwrap();
        let expected = panel.open(panel.hertz, Mounting::default(), Draw).unwrap();
        assert!(shown.borrow().picture() == expected, "{name}");
        assert!(shown.borrow().complaints().is_empty(), "{name}");

        let expected: Vec<_> =
            log.iter().map(|message| I2cTransaction::write(ADDRESS, message.clone())).collect();
        let mut mock = I2cMock::new(&expected);
        open::oled(glass, Mounting::default(), mock.clone(), Draw).unwrap();
        mock.done();
    }
}

/// A bus on which nobody answers.
struct Nobody;

impl i2c::ErrorType for Nobody {
    type Error = i2c::ErrorKind;
}

impl I2c for Nobody {
    fn transaction(&mut self, _: u8, _: &mut [i2c::Operation<'_>]) -> Result<(), i2c::ErrorKind> {
        Err(i2c::ErrorKind::NoAcknowledge(i2c::NoAcknowledgeSource::Address))
    }
}

/// A pin that says busy for ever.
struct Stuck;

impl digital::ErrorType for Stuck {
    type Error = Infallible;
}

impl InputPin for Stuck {
    fn is_high(&mut self) -> Result<bool, Infallible> {
        Ok(true)
    }

    fn is_low(&mut self) -> Result<bool, Infallible> {
        Ok(false)
    }
}

#[test]
fn what_does_not_answer_is_an_error_in_words() {
    for glass in [Glass::High, Glass::Low, Glass::Sh1106] {
        let error = open::oled(glass, Mounting::default(), Nobody, Draw).unwrap_err();
        assert!(error.to_string().contains("driver failed"), "{error}");
    }
    let log = Log::default();
    let stuck = open::paper(true, Mounting::default(), wires(&log), (Stuck, VirtualDelay::default()), Draw);
    assert!(stuck.unwrap_err().to_string().contains("BUSY"));
}
