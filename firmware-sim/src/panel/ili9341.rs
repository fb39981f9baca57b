//! A 2.4" or 2.8" TFT module with an Ilitek ILI9341: red and blue exchanged, columns from right to left.

use super::dcs::{Controller, Driver, Module, RAMWR};

/// Chapter 8 of the ILI9341 data sheet, as [`super::st7789::CONTROLLER`].
pub const CONTROLLER: Controller = Controller {
    ram: (240, 320),
    write: RAMWR,
    electrical: &[
        0xB0, 0xB1, 0xB2, 0xB3, 0xB4, 0xB5, 0xB6, 0xB7, 0xB8, 0xB9, 0xBA, 0xBB, 0xBC, 0xBE, 0xBF, 0xC0, 0xC1,
        0xC5, 0xC7, 0xCB, 0xCF, 0xE0, 0xE1, 0xE2, 0xE3, 0xE8, 0xEA, 0xED, 0xF2, 0xF6, 0xF7,
    ],
    not_imitated: &[0x12, 0x26, 0x2D, 0x2E, 0x30, 0x3E, 0x44, 0x45, 0x51, 0x53, 0x55, 0x5E],
};

/// All of the RAM.
pub const MODULE: Module = Module {
    name: "ili9341",
    about: "ILI9341, 240x320, 65536 colours",
    controller: &CONTROLLER,
    driver: Driver::Ili9341,
    size: (240, 320),
    offset: (0, 0),
    inverts: false,
    bgr: true,
    mirrored: true,
    round: false,
    hertz: 40_000_000,
};
