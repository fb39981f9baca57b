//! Whatever bytes a broken driver sends, a virtual panel neither panics nor hangs, and still has a picture.

use std::cell::RefCell;
use std::rc::Rc;

use edgegen_firmware_sim::panel::dcs::{DcsBus, DcsPin, Input};
use edgegen_firmware_sim::panel::ssd1306::{ADDRESS, HEIGHT, Ssd1306Bus};
use edgegen_firmware_sim::panel::{Clock, DcsPanel, Panel, Ssd1306Panel, list};
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

#[test]
fn every_tft_survives_noise() {
    let modules = list::ALL.into_iter().filter_map(|panel| match panel {
        Panel::Dcs(module) => Some(module),
        Panel::Ssd1306 | Panel::Ssd1306Low => None,
    });
    for (module, round) in modules.flat_map(|module| (0..ROUNDS / 4).map(move |round| (module, round))) {
        let mut stream = Stream::new(round, Purpose::EVALUATION, 0);
        let clock = Clock::default();
        let panel = Rc::new(RefCell::new(DcsPanel::new(module, clock.clone(), 40_000_000)));
        let pin = |input| DcsPin { panel: Rc::clone(&panel), input };
        let (mut select, mut data) = (pin(Input::ChipSelect), pin(Input::DataCommand));
        let mut bus = DcsBus(Rc::clone(&panel));
        select.set_low().unwrap();
        for _ in 0..300 {
            data.set_low().unwrap();
            // Half of the commands are real ones, so that the noise gets somewhere.
            let real = [0x11, 0x29, 0x21, 0x2A, 0x2B, 0x2C, 0x33, 0x36, 0x37, 0x3A, 0x3C, 0x39];
            let command =
                if stream.below(2) == 0 { stream.word() as u8 } else { real[stream.below(12) as usize] };
            bus.write(&[command]).unwrap();
            data.set_high().unwrap();
            bus.write(&noise(&mut stream, 12)).unwrap();
            clock.advance(u64::from(stream.below(10_000_000)));
        }
        let panel = panel.borrow();
        assert_eq!(panel.picture().width(), usize::from(module.size.0));
        assert!(!panel.complaints().is_empty());
    }
}

#[test]
fn an_ssd1306_survives_noise() {
    for round in 0..ROUNDS {
        let mut stream = Stream::new(round, Purpose::EVALUATION, 1);
        let panel = Rc::new(RefCell::new(Ssd1306Panel::new(HEIGHT, Clock::default(), 400_000)));
        let mut bus = Ssd1306Bus(Rc::clone(&panel));
        for _ in 0..300 {
            let control = [0x00, 0x40, 0x80, 0xC0][stream.below(4) as usize];
            bus.write(ADDRESS, &[&[control], &noise(&mut stream, 40)[..]].concat()).unwrap();
        }
        let panel = panel.borrow();
        assert_eq!(panel.picture().height(), 64);
        assert!(!panel.complaints().is_empty());
    }
}
