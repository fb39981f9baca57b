//! Whatever bytes a broken driver sends, a virtual panel neither panics nor hangs, and still has a picture.

use std::cell::RefCell;
use std::rc::Rc;

use edgegen_firmware_sim::panel::list::{self, Kind};
use edgegen_firmware_sim::panel::spi::{Input, PanelPin, SpiPanel, SpiWire};
use edgegen_firmware_sim::panel::ssd1306::{ADDRESS, Glass, Ssd1306Bus};
use edgegen_firmware_sim::panel::ssd1351::Ssd1351Panel;
use edgegen_firmware_sim::panel::ssd1680::Ssd1680Panel;
use edgegen_firmware_sim::panel::{Clock, DcsPanel, Ssd1306Panel};
use edgegen_runtime::random::{Purpose, Stream};
use embedded_hal::digital::OutputPin;
use embedded_hal::i2c::I2c;
use embedded_hal::spi::SpiBus;

const ROUNDS: u64 = 200;

/// Mostly small numbers: they are parameters that a controller takes.
fn noise(stream: &mut Stream, most: u32) -> Vec<u8> {
    let length = stream.below(most);
    let byte =
        |stream: &mut Stream| if stream.below(3) == 0 { stream.word() as u8 } else { stream.below(4) as u8 };
    (0..length).map(|_| byte(stream)).collect()
}

/// Sends commands, half of which are `real` ones so that the noise gets somewhere.
fn on_spi<P: SpiPanel>(panel: P, clock: &Clock, round: u64, real: &[u8]) -> P {
    let mut stream = Stream::new(round, Purpose::EVALUATION, 0);
    let panel = Rc::new(RefCell::new(panel));
    let pin = |input| PanelPin { panel: Rc::clone(&panel), input };
    let (mut select, mut data) = (pin(Input::ChipSelect), pin(Input::DataCommand));
    let mut bus = SpiWire(Rc::clone(&panel));
    select.set_low().unwrap();
    for _ in 0..300 {
        data.set_low().unwrap();
        let any = stream.below(2) == 0;
        let command = if any { stream.word() as u8 } else { real[stream.below(real.len() as u32) as usize] };
        bus.write(&[command]).unwrap();
        data.set_high().unwrap();
        bus.write(&noise(&mut stream, 12)).unwrap();
        clock.advance(u64::from(stream.below(10_000_000)));
    }
    drop((select, data, bus));
    let panel = Rc::into_inner(panel).unwrap().into_inner();
    assert!(!panel.complaints().is_empty());
    panel
}

#[test]
fn every_tft_survives_noise() {
    let real = [0x11, 0x29, 0x21, 0x2A, 0x2B, 0x2C, 0x33, 0x36, 0x37, 0x3A, 0x3C, 0x39];
    for panel in list::ALL {
        let Kind::Tft(module) = panel.kind else { continue };
        for round in 0..ROUNDS / 4 {
            let clock = Clock::default();
            let panel = on_spi(DcsPanel::new(module, clock.clone(), 40_000_000), &clock, round, &real);
            assert_eq!(panel.picture().width(), usize::from(module.size.0));
        }
    }
}

#[test]
fn an_ssd1351_survives_noise() {
    let real = [0x15, 0x75, 0x5C, 0xA0, 0xA1, 0xA4, 0xA5, 0xA6, 0xA7, 0xAE, 0xAF, 0xFD];
    for round in 0..ROUNDS {
        let clock = Clock::default();
        let panel = on_spi(Ssd1351Panel::new(clock.clone(), 10_000_000), &clock, round, &real);
        assert_eq!(panel.picture().width(), 128);
    }
}

#[test]
fn an_ssd1680_survives_noise() {
    let real = [0x10, 0x12, 0x20, 0x22, 0x24, 0x26, 0x32, 0x44, 0x45, 0x4E, 0x4F];
    for round in 0..ROUNDS {
        let clock = Clock::default();
        let panel = on_spi(Ssd1680Panel::new(clock.clone(), 10_000_000), &clock, round, &real);
        assert_eq!(panel.picture().height(), 296);
    }
}

#[test]
fn oleds_of_one_colour_survive_noise() {
    for (glass, round) in [Glass::High, Glass::Low, Glass::Sh1106]
        .into_iter()
        .flat_map(|glass| (0..ROUNDS).map(move |round| (glass, round)))
    {
        let mut stream = Stream::new(round, Purpose::EVALUATION, 1);
        let panel = Rc::new(RefCell::new(Ssd1306Panel::new(glass, Clock::default(), 400_000)));
        let mut bus = Ssd1306Bus(Rc::clone(&panel));
        for _ in 0..300 {
            let control = [0x00, 0x40, 0x80, 0xC0][stream.below(4) as usize];
            bus.write(ADDRESS, &[&[control], &noise(&mut stream, 40)[..]].concat()).unwrap();
        }
        let panel = panel.borrow();
        assert_eq!(panel.picture().height(), glass.height());
        assert!(!panel.complaints().is_empty());
    }
}
