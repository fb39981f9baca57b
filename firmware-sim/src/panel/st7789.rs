//! IPS modules with a Sitronix ST7789.

use super::dcs::{Controller, Driver, Module, RAMWR};

/// Chapters 9.1 and 9.2 of the ST7789V data sheet. Not imitated: PTLON, RAMRD, PTLAR, RAMRDC, TESCAN, brightness, GAMSET.
pub const CONTROLLER: Controller = Controller {
    ram: (240, 320),
    write: RAMWR,
    electrical: &[
        0xB0, 0xB1, 0xB2, 0xB3, 0xB5, 0xB7, 0xBA, 0xBB, 0xBC, 0xBD, 0xC0, 0xC2, 0xC3, 0xC4, 0xC5, 0xC6, 0xC7,
        0xC8, 0xC9, 0xCA, 0xCC, 0xD0, 0xD2, 0xE0, 0xE1, 0xE4, 0xE8,
    ],
    not_imitated: &[0x12, 0x2E, 0x30, 0x3E, 0x44, 0x45, 0x51, 0x52, 0x53, 0x54, 0x55, 0x5E, 0x26],
};

/// 1.3" or 1.54", the first 240 rows of the RAM.
pub const SQUARE: Module = Module {
    name: "st7789",
    about: "ST7789, 240x240, 65536 colours",
    controller: &CONTROLLER,
    driver: Driver::St7789,
    size: (240, 240),
    offset: (0, 0),
    inverts: true,
    bgr: false,
    mirrored: false,
    round: false,
    hertz: 40_000_000,
};

/// 2", all of the RAM.
pub const FULL: Module =
    Module { name: "st7789-240x320", about: "ST7789, 240x320, 65536 colours", size: (240, 320), ..SQUARE };

/// 1.14".
pub const NARROW: Module = Module {
    name: "st7789-135x240",
    about: "ST7789, 135x240, 65536 colours",
    size: (135, 240),
    offset: (52, 40),
    ..SQUARE
};

/// 1.9".
pub const LONG: Module = Module {
    name: "st7789-170x320",
    about: "ST7789, 170x320, 65536 colours",
    size: (170, 320),
    offset: (35, 0),
    ..SQUARE
};
