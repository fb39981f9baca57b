//! A 1.8" TFT module with a Sitronix ST7735S, with a green tab: red and blue exchanged, two columns and a row of RAM beside the glass.

use super::dcs::{Controller, Driver, Module, RAMWR};

/// Chapter 10 of the ST7735S data sheet, as [`super::st7789::CONTROLLER`].
pub const CONTROLLER: Controller = Controller {
    ram: (132, 162),
    write: RAMWR,
    electrical: &[
        0xB1, 0xB2, 0xB3, 0xB4, 0xB5, 0xB6, 0xC0, 0xC1, 0xC2, 0xC3, 0xC4, 0xC5, 0xC7, 0xD0, 0xD1, 0xD2, 0xD9,
        0xE0, 0xE1, 0xFC,
    ],
    not_imitated: &[0x12, 0x26, 0x2D, 0x2E, 0x30],
};

/// The glass.
pub const MODULE: Module = Module {
    name: "st7735",
    about: "ST7735, 128x160, 65536 colours",
    controller: &CONTROLLER,
    driver: Driver::St7735,
    size: (128, 160),
    offset: (2, 1),
    inverts: false,
    bgr: true,
    mirrored: false,
    round: false,
    hertz: 15_000_000,
};
