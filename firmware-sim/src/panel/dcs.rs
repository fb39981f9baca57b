//! Virtual TFT modules whose controller speaks the MIPI display command set (DCS) behind 4-wire SPI.
//!
//! Controllers of this kind share their commands (Sitronix's ST7789V data sheet, chapters 9.1 and 9.2, is followed; those of the
//! others agree with it in what is imitated) and differ in their RAM and in what they call their voltages: a [`Controller`]. Modules
//! differ in their glass: a [`Module`]. None has been compared with a real one yet. RAM has 18 bits a pixel.
//!
//! Imitated: reset, sleep, display on and off, windows, 12, 16 and 18 bits per pixel, all eight
//! orientations, BGR order, inversion, idle mode (8 colours), vertical scrolling, and the 5 ms
//! after a reset and after waking during which no command is taken. Not imitated: partial mode,
//! gamma, brightness, reading.

use super::Complaint;
use super::bus::Clock;
use super::spi::{Side, SpiPanel, noise};
use crate::picture::Picture;

/// A controller, as far as it differs from others.
#[derive(Debug)]
pub struct Controller {
    /// Columns and rows of its RAM.
    pub ram: (u16, u16),
    /// The command that pixels follow.
    pub write: u8,
    /// Commands that set voltages, frame rate, porches and gamma curves: they do not move pixels.
    pub electrical: &'static [u8],
    /// Real commands whose effect is not imitated.
    pub not_imitated: &'static [u8],
}

/// RAMWR, the command that pixels follow in the MIPI command set.
pub const RAMWR: u8 = code::RAMWR;

/// The driver in `mipidsi` that goes with a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// Sitronix ST7789.
    St7789,
    /// Sitronix ST7735S.
    St7735,
    /// Ilitek ILI9341.
    Ili9341,
    /// GalaxyCore GC9A01.
    Gc9a01,
    /// Solomon Systech SSD1351, which has commands of its own: [`super::ssd1351`].
    Ssd1351,
}

/// A glass with its controller.
#[derive(Debug)]
pub struct Module {
    /// What it is called.
    pub name: &'static str,
    /// What it is, for a list.
    pub about: &'static str,
    /// Behind it.
    pub controller: &'static Controller,
    /// Its driver.
    pub driver: Driver,
    /// Columns and rows of the glass.
    pub size: (u16, u16),
    /// Column and row of the RAM that the glass's first pixel shows.
    pub offset: (u16, u16),
    /// Whether the glass inverts, as IPS does: a driver has to send INVON for true colours.
    pub inverts: bool,
    /// Whether red and blue are exchanged on the glass.
    pub bgr: bool,
    /// Whether the RAM's columns run from right to left on the glass.
    pub mirrored: bool,
    /// Whether there is glass in the circle alone that touches the edges.
    pub round: bool,
    /// Clock of the bus, hertz, if nothing else is said.
    pub hertz: u32,
}

/// No command is taken for 5 ms after a reset or SLPOUT.
const READY_AFTER_NS: u64 = 5_000_000;

/// Command codes of chapter 9.1.
mod code {
    pub(super) const NOP: u8 = 0x00;
    pub(super) const SWRESET: u8 = 0x01;
    pub(super) const SLPIN: u8 = 0x10;
    pub(super) const SLPOUT: u8 = 0x11;
    pub(super) const NORON: u8 = 0x13;
    pub(super) const INVOFF: u8 = 0x20;
    pub(super) const INVON: u8 = 0x21;
    pub(super) const DISPOFF: u8 = 0x28;
    pub(super) const DISPON: u8 = 0x29;
    pub(super) const CASET: u8 = 0x2A;
    pub(super) const RASET: u8 = 0x2B;
    pub(super) const RAMWR: u8 = 0x2C;
    pub(super) const VSCRDEF: u8 = 0x33;
    pub(super) const TEOFF: u8 = 0x34;
    pub(super) const TEON: u8 = 0x35;
    pub(super) const MADCTL: u8 = 0x36;
    pub(super) const VSCSAD: u8 = 0x37;
    pub(super) const IDMOFF: u8 = 0x38;
    pub(super) const IDMON: u8 = 0x39;
    pub(super) const COLMOD: u8 = 0x3A;
    pub(super) const RAMWRC: u8 = 0x3C;
}

/// MADCTL bits.
const MY: u8 = 0x80;
const MX: u8 = 0x40;
const MV: u8 = 0x20;
const BGR: u8 = 0x08;

/// What a reset brings back.
#[derive(Clone, Debug)]
struct Registers {
    awake: bool,
    on: bool,
    inverted: bool,
    idle: bool,
    madctl: u8,
    colmod: u8,
    columns: (u16, u16),
    rows: (u16, u16),
    /// Rows of the fixed top, the scrolled and the fixed bottom area.
    scroll_areas: (u16, u16, u16),
    scroll_start: u16,
}

impl Registers {
    fn new(ram: (u16, u16)) -> Self {
        Self {
            awake: false,
            on: false,
            inverted: false,
            idle: false,
            madctl: 0,
            colmod: 0x66,
            columns: (0, ram.0 - 1),
            rows: (0, ram.1 - 1),
            scroll_areas: (0, ram.1, 0),
            scroll_start: 0,
        }
    }
}

/// What the data bytes that come now are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expects {
    Nothing,
    /// Parameters of a command, until there are so many.
    Parameters(u8, usize),
    Pixels,
    /// Parameters of an electrical setting, however many.
    Anything,
}

/// The controller, its glass and its bus.
#[derive(Debug)]
pub struct DcsPanel {
    module: &'static Module,
    side: Side,
    registers: Registers,
    /// 6 bits per channel, (row, column) of the RAM.
    ram: Vec<[u8; 3]>,
    expects: Expects,
    pending: Vec<u8>,
    /// Column and row of the next pixel, as CASET and RASET count.
    pointer: (u16, u16),
    ready_at: u64,
}

impl DcsPanel {
    /// A panel that has just got its power: asleep, with noise in its RAM.
    pub fn new(module: &'static Module, clock: Clock, hertz: u32) -> Self {
        Self {
            module,
            side: Side::new(clock, hertz),
            registers: Registers::new(module.controller.ram),
            ram: noisy(module.controller.ram),
            expects: Expects::Nothing,
            pending: Vec::with_capacity(8),
            pointer: (0, 0),
            ready_at: 0,
        }
    }

    /// What a viewer sees.
    pub fn picture(&self) -> Picture {
        let (registers, module) = (&self.registers, self.module);
        let (width, height) = (usize::from(module.size.0), usize::from(module.size.1));
        if !registers.awake || !registers.on || self.side.in_reset {
            return Picture::filled(width, height, [0; 3]);
        }
        Picture::from_fn(width, height, |x, y| {
            if module.round && !is_in_circle(x, y, width.min(height)) {
                return [0; 3];
            }
            let row = usize::from(self.scrolled(y as u16 + module.offset.1));
            let column = usize::from(module.offset.0) + if module.mirrored { width - 1 - x } else { x };
            let mut color = self.ram[row * usize::from(module.controller.ram.0) + column];
            if module.bgr {
                color.reverse();
            }
            if registers.idle {
                color = color.map(|channel| if channel >= 32 { 63 } else { 0 });
            }
            // a glass that inverts and INVON together give true colours
            if registers.inverted != module.inverts {
                color = color.map(|channel| 63 - channel);
            }
            color.map(|channel| (channel << 2) | (channel >> 4))
        })
    }

    /// The RAM row that is shown where `y` would be without scrolling.
    fn scrolled(&self, y: u16) -> u16 {
        let (top, scrolled, _) = self.registers.scroll_areas;
        if y < top || y >= top + scrolled {
            return y;
        }
        let start = u32::from(self.registers.scroll_start.saturating_sub(top));
        top + ((u32::from(y - top) + start) % u32::from(scrolled)) as u16
    }

    /// Carries out a command with its parameters; false when one is out of range.
    fn execute(&mut self, command: u8) -> bool {
        let word = |i: usize| u16::from_be_bytes([self.pending[2 * i], self.pending[2 * i + 1]]);
        let registers = &mut self.registers;
        let (ram_columns, ram_rows) = self.module.controller.ram;
        let swapped = registers.madctl & MV != 0;
        match command {
            code::CASET | code::RASET => {
                let window = (word(0), word(1));
                let along_columns = (command == code::CASET) != swapped;
                let end = if along_columns { ram_columns } else { ram_rows };
                if window.0 > window.1 || window.1 >= end {
                    return false;
                }
                *(if command == code::CASET { &mut registers.columns } else { &mut registers.rows }) = window;
            }
            code::VSCRDEF => {
                let areas = (word(0), word(1), word(2));
                let sum = u32::from(areas.0) + u32::from(areas.1) + u32::from(areas.2);
                if sum != u32::from(ram_rows) || areas.1 == 0 {
                    return false;
                }
                registers.scroll_areas = areas;
            }
            code::VSCSAD => {
                let start = word(0);
                if start >= ram_rows {
                    return false;
                }
                registers.scroll_start = start;
            }
            code::MADCTL => registers.madctl = self.pending[0],
            code::COLMOD => {
                if !matches!(self.pending[0] & 0x07, 0x03 | 0x05 | 0x06) {
                    return false;
                }
                registers.colmod = self.pending[0];
            }
            // TEON: the tearing line leaves the picture alone.
            _ => {}
        }
        true
    }

    /// How bytes are packed into pixels, by COLMOD's interface format.
    fn pixel_byte(&mut self, byte: u8) {
        self.pending.push(byte);
        let five_to_six = |five: u8| (five << 1) | (five >> 4);
        let four_to_six = |four: u8| (four << 2) | (four >> 2);
        match (self.registers.colmod & 0x07, &self.pending[..]) {
            (0x05, &[high, low]) => {
                let green = ((high & 0x07) << 3) | (low >> 5);
                self.store([five_to_six(high >> 3), green, five_to_six(low & 0x1F)]);
            }
            (0x06, &[red, green, blue]) => self.store([red >> 2, green >> 2, blue >> 2]),
            (0x03, &[first, middle, last]) => {
                self.store([first >> 4, first & 0x0F, middle >> 4].map(four_to_six));
                self.store([middle & 0x0F, last >> 4, last & 0x0F].map(four_to_six));
            }
            _ => return,
        }
        self.pending.clear();
    }

    /// Stores a pixel and moves on: along the row, then to the next row, then back to the start.
    fn store(&mut self, mut color: [u8; 3]) {
        let Registers { madctl, columns, rows, .. } = self.registers;
        let (ram_columns, ram_rows) = self.module.controller.ram;
        let (column, row) = self.pointer;
        let (mut ram_column, mut ram_row) = if madctl & MV != 0 { (row, column) } else { (column, row) };
        // A window set before MV was changed may lie outside the RAM: such pixels go nowhere.
        if ram_column < ram_columns && ram_row < ram_rows {
            if madctl & MX != 0 {
                ram_column = ram_columns - 1 - ram_column;
            }
            if madctl & MY != 0 {
                ram_row = ram_rows - 1 - ram_row;
            }
            if madctl & BGR != 0 {
                color.reverse();
            }
            self.ram[usize::from(ram_row) * usize::from(ram_columns) + usize::from(ram_column)] = color;
        }
        self.pointer = if column < columns.1 {
            (column + 1, row)
        } else if row < rows.1 {
            (columns.0, row + 1)
        } else {
            (columns.0, rows.0)
        };
    }
}

impl SpiPanel for DcsPanel {
    fn side(&self) -> &Side {
        &self.side
    }

    fn side_mut(&mut self) -> &mut Side {
        &mut self.side
    }

    fn command(&mut self, command: u8) {
        if let Expects::Parameters(earlier, _) = self.expects {
            self.side.complaints.add(Complaint::MissingParameters(earlier));
        }
        self.expects = Expects::Nothing;
        self.pending.clear();
        if command != code::NOP && self.side.meter.now() < self.ready_at {
            self.side.complaints.add(Complaint::TooEarly(command));
            self.expects = Expects::Anything;
            return;
        }
        let registers = &mut self.registers;
        match command {
            code::NOP | code::NORON | code::TEOFF => {}
            code::SWRESET => {
                // Unlike the reset pin, the command leaves these two alone.
                let (madctl, colmod) = (registers.madctl, registers.colmod);
                self.reset();
                (self.registers.madctl, self.registers.colmod) = (madctl, colmod);
            }
            code::SLPIN => registers.awake = false,
            code::SLPOUT => {
                registers.awake = true;
                self.ready_at = self.side.meter.now() + READY_AFTER_NS;
            }
            code::INVOFF => registers.inverted = false,
            code::INVON => registers.inverted = true,
            code::DISPOFF => registers.on = false,
            code::DISPON => registers.on = true,
            code::IDMOFF => registers.idle = false,
            code::IDMON => registers.idle = true,
            code::RAMWR => {
                self.pointer = (registers.columns.0, registers.rows.0);
                self.expects = Expects::Pixels;
            }
            code::RAMWRC => self.expects = Expects::Pixels,
            code::CASET | code::RASET => self.expects = Expects::Parameters(command, 4),
            code::VSCRDEF => self.expects = Expects::Parameters(command, 6),
            code::VSCSAD => self.expects = Expects::Parameters(command, 2),
            code::MADCTL | code::COLMOD | code::TEON => self.expects = Expects::Parameters(command, 1),
            _ if self.module.controller.electrical.contains(&command) => self.expects = Expects::Anything,
            _ => {
                let known = self.module.controller.not_imitated.contains(&command);
                let complaint =
                    if known { Complaint::NotImitated(command) } else { Complaint::UnknownCommand(command) };
                self.side.complaints.add(complaint);
                self.expects = Expects::Anything;
            }
        }
    }

    fn parameter(&mut self, byte: u8) {
        match self.expects {
            Expects::Anything => {}
            Expects::Nothing => self.side.complaints.add(Complaint::StrayData),
            Expects::Parameters(command, count) => {
                self.pending.push(byte);
                if self.pending.len() == count {
                    self.expects = Expects::Nothing;
                    if !self.execute(command) {
                        self.side.complaints.add(Complaint::BadParameter(command));
                    }
                    self.pending.clear();
                }
            }
            Expects::Pixels => self.pixel_byte(byte),
        }
    }

    fn reset(&mut self) {
        self.registers = Registers::new(self.module.controller.ram);
        self.expects = Expects::Nothing;
        self.pending.clear();
        self.ready_at = self.side.meter.now() + READY_AFTER_NS;
    }

    fn lose_power(&mut self) {
        self.ram = noisy(self.module.controller.ram);
        self.reset();
    }
}

/// A RAM that has just got its power.
fn noisy((columns, rows): (u16, u16)) -> Vec<[u8; 3]> {
    let pixels = noise().take(usize::from(columns) * usize::from(rows));
    pixels.map(|noise| [24, 16, 8].map(|shift| (noise >> shift) as u8 & 0x3F)).collect()
}

/// Whether a pixel lies in the circle in a square of this side.
pub fn is_in_circle(x: usize, y: usize, side: usize) -> bool {
    let from_middle = |at: usize| (2 * at + 1).abs_diff(side);
    from_middle(x).pow(2) + from_middle(y).pow(2) <= side * side
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::panel::BusLoad;
    use crate::panel::{gc9a01, ili9341, st7735, st7789};

    const SIDE: usize = 240;

    /// One step of a byte sequence.
    enum Step<'a> {
        Command(u8, &'a [u8]),
        Wait(u64),
    }
    use Step::{Command, Wait};

    fn panel(steps: &[Step<'_>]) -> DcsPanel {
        let clock = Clock::default();
        let mut panel = DcsPanel::new(&st7789::SQUARE, clock.clone(), 40_000_000);
        panel.side.selected = true;
        for step in steps {
            match step {
                Command(command, parameters) => {
                    panel.side.data = false;
                    panel.receive(&[*command]);
                    panel.side.data = true;
                    panel.receive(parameters);
                }
                Wait(milliseconds) => clock.advance(milliseconds * 1_000_000),
            }
        }
        panel
    }

    fn awake(steps: &[Step<'_>]) -> DcsPanel {
        let start = [
            Command(code::SLPOUT, &[]),
            Wait(5),
            Command(code::INVON, &[]),
            Command(code::COLMOD, &[0x55]),
            Command(code::DISPON, &[]),
            // All black.
            Command(code::RAMWR, &[0; 240 * 320 * 2]),
        ];
        let own = steps.iter().map(|step| match step {
            Command(command, parameters) => Command(*command, parameters),
            Wait(milliseconds) => Wait(*milliseconds),
        });
        panel(&start.into_iter().chain(own).collect::<Vec<_>>())
    }

    fn lit(panel: &DcsPanel) -> Vec<(usize, usize, [u8; 3])> {
        let picture = panel.picture();
        let all = (0..SIDE * SIDE).map(|i| (i % SIDE, i / SIDE));
        all.map(|(x, y)| (x, y, picture.at(x, y))).filter(|(_, _, color)| *color != [0; 3]).collect()
    }

    const RED: [u8; 2] = [0xF8, 0x00];
    const WINDOW_3_5: [Step<'static>; 2] =
        [Command(code::CASET, &[0, 3, 0, 4]), Command(code::RASET, &[0, 5, 0, 6])];

    #[test]
    fn a_panel_is_black_until_it_is_awake_and_on() {
        let black = Picture::filled(SIDE, SIDE, [0; 3]);
        assert_eq!(panel(&[]).picture(), black);
        assert_eq!(panel(&[Command(code::DISPON, &[])]).picture(), black, "asleep");
        let out = [Command(code::SLPOUT, &[]), Wait(5)];
        assert_eq!(panel(&out).picture(), black, "off");
        let on = [Command(code::SLPOUT, &[]), Wait(5), Command(code::DISPON, &[])];
        assert_ne!(panel(&on).picture(), black, "the RAM's noise shows");
        let mut reset = on.into_iter().collect::<Vec<_>>();
        reset.push(Command(code::SWRESET, &[]));
        assert_eq!(panel(&reset).picture(), black);
    }

    #[test]
    fn a_window_fills_along_rows_and_starts_again() {
        let [columns, rows] = WINDOW_3_5;
        let five = [RED, [0x07, 0xE0], [0x00, 0x1F], [0xFF, 0xFF], [0x07, 0xE0]].concat();
        let panel = awake(&[columns, rows, Command(code::RAMWR, &five)]);
        let expected =
            [(3, 5, [0, 255, 0]), (4, 5, [0, 255, 0]), (3, 6, [0, 0, 255]), (4, 6, [255, 255, 255])];
        assert_eq!(lit(&panel), expected, "the fifth pixel went over the first");
        assert!(panel.side.complaints.is_empty(), "{:?}", panel.side.complaints);
    }

    #[test]
    fn pixels_may_come_in_pieces_and_be_continued() {
        let [columns, rows] = WINDOW_3_5;
        let pieces =
            [columns, rows, Command(code::RAMWR, &RED), Command(code::NOP, &[]), Command(code::RAMWRC, &RED)];
        assert_eq!(lit(&awake(&pieces)), [(3, 5, [255, 0, 0]), (4, 5, [255, 0, 0])]);
    }

    #[test]
    fn pixel_formats() {
        // COLMOD, bytes, colours. The first two bytes are 10000 011100 00001.
        type Case = (u8, &'static [u8], &'static [[u8; 3]]);
        let table: [Case; 3] = [
            (0x55, &[0b1000_0011, 0b1000_0001], &[[0x86, 0x71, 0x08]]),
            (0x66, &[0xFC, 0x80, 0x04], &[[0xFF, 0x82, 0x04]]),
            (0x53, &[0xF0, 0x8F, 0x00], &[[0xFF, 0x00, 0x8A], [0xFF, 0x00, 0x00]]),
        ];
        for (colmod, bytes, expected) in table {
            let panel = awake(&[Command(code::COLMOD, &[colmod]), Command(code::RAMWR, bytes)]);
            let colors: Vec<_> = lit(&panel).into_iter().map(|(_, _, color)| color).collect();
            assert_eq!(colors, expected, "COLMOD {colmod:#x}");
        }
    }

    #[test]
    fn all_eight_orientations() {
        // Where pixels (0, 0) and (1, 0) land. With MY the glass shows addresses 80 to 319.
        let table = [
            (0, (0, 0), [(0, 0), (1, 0)]),
            (MX, (0, 0), [(239, 0), (238, 0)]),
            (MY, (0, 80), [(0, 239), (1, 239)]),
            (MX | MY, (0, 80), [(239, 239), (238, 239)]),
            (MV, (0, 0), [(0, 0), (0, 1)]),
            (MV | MX, (0, 0), [(239, 0), (239, 1)]),
            (MV | MY, (80, 0), [(0, 239), (0, 238)]),
            (MV | MX | MY, (80, 0), [(239, 239), (239, 238)]),
        ];
        for (madctl, (column, row), [first, second]) in table {
            let panel = awake(&[
                Command(code::MADCTL, &[madctl]),
                Command(code::CASET, &[0, column, 0, column + 1]),
                Command(code::RASET, &[0, row, 0, row]),
                Command(code::RAMWR, &[RED, [0x00, 0x1F]].concat()),
            ]);
            let mut expected = vec![(first.0, first.1, [255, 0, 0]), (second.0, second.1, [0, 0, 255])];
            expected.sort_by_key(|(x, y, _)| (*y, *x));
            assert_eq!(lit(&panel), expected, "MADCTL {madctl:#04x}");
        }
    }

    #[test]
    fn colour_order_inversion_and_idle_mode() {
        let panel = awake(&[Command(code::MADCTL, &[BGR]), Command(code::RAMWR, &RED)]);
        assert_eq!(lit(&panel), [(0, 0, [0, 0, 255])]);
        let panel = awake(&[Command(code::RAMWR, &RED), Command(code::INVOFF, &[])]);
        assert_eq!(panel.picture().at(0, 0), [0, 255, 255]);
        let panel = awake(&[Command(code::RAMWR, &[0x84, 0x00]), Command(code::IDMON, &[])]);
        assert_eq!(panel.picture().at(0, 0), [255, 255, 0]);
    }

    #[test]
    fn scrolling_moves_the_middle() {
        let areas = [0, 10, 0x01, 0x2C, 0, 10]; // 10, 300, 10
        let panel = awake(&[
            Command(code::CASET, &[0, 0, 0, 0]),
            Command(code::RASET, &[0, 20, 0, 20]),
            Command(code::RAMWR, &RED),
            Command(code::VSCRDEF, &areas),
            Command(code::VSCSAD, &[0, 15]),
        ]);
        assert_eq!(lit(&panel), [(0, 15, [255, 0, 0])]);
    }

    #[test]
    fn complaints_name_what_was_wrong() {
        let table: [(&[Step<'_>], Complaint); 8] = [
            (&[Command(0xF7, &[1, 2])], Complaint::UnknownCommand(0xF7)),
            (&[Command(0x12, &[])], Complaint::NotImitated(0x12)),
            (&[Command(code::SWRESET, &[]), Command(code::SLPOUT, &[])], Complaint::TooEarly(code::SLPOUT)),
            (
                &[Command(code::CASET, &[0, 1, 0]), Command(code::NOP, &[])],
                Complaint::MissingParameters(code::CASET),
            ),
            (&[Command(code::CASET, &[0, 9, 0, 3])], Complaint::BadParameter(code::CASET)),
            (&[Command(code::RASET, &[0, 0, 1, 0x40])], Complaint::BadParameter(code::RASET)),
            (&[Command(code::COLMOD, &[0x01])], Complaint::BadParameter(code::COLMOD)),
            (&[Command(code::NORON, &[9])], Complaint::StrayData),
        ];
        for (steps, complaint) in table {
            let complaints = awake(steps).side.complaints;
            assert_eq!(complaints.lines().count(), 1, "{complaints:?}");
            assert_eq!(complaints.count(complaint), 1, "{complaint} in {complaints:?}");
        }
        let mut deaf = DcsPanel::new(&st7789::SQUARE, Clock::default(), 1);
        deaf.receive(&[code::SLPOUT]);
        assert_eq!(deaf.side.complaints.count(Complaint::NotListening), 1);
    }

    #[test]
    fn a_byte_takes_eight_cycles() {
        let panel = panel(&[Command(code::RAMWR, &[0; 240 * 240 * 2])]);
        let load = BusLoad { bytes: 115_201, cycles: 921_608, nanoseconds: 23_040_200, refresh: 0 };
        assert_eq!(panel.load(), load);
    }

    #[test]
    fn each_glass_shows_its_part_of_the_ram() {
        // (module, MADCTL, column and row that its driver writes the first pixel to)
        let table: [(&Module, u8, [u8; 2]); 5] = [
            (&st7789::NARROW, 0, [52, 40]),
            (&st7789::LONG, 0, [35, 0]),
            (&st7735::MODULE, BGR, [2, 1]),
            (&ili9341::MODULE, MX | BGR, [0, 0]),
            (&gc9a01::MODULE, BGR, [0, 0]),
        ];
        for (module, madctl, [column, row]) in table {
            let clock = Clock::default();
            let mut panel = DcsPanel::new(module, clock.clone(), 40_000_000);
            panel.side.selected = true;
            panel.ram.fill([0; 3]);
            let mut send = |command: u8, parameters: &[u8]| {
                panel.side.data = false;
                panel.receive(&[command]);
                panel.side.data = true;
                panel.receive(parameters);
                clock.advance(5_000_000);
            };
            send(code::SLPOUT, &[]);
            send(if module.inverts { code::INVON } else { code::INVOFF }, &[]);
            send(code::COLMOD, &[0x55]);
            send(code::MADCTL, &[madctl]);
            // the corner of a round glass is none
            let shift = if module.round { 120 } else { 0 };
            send(code::CASET, &[0, column + shift, 0, column + shift]);
            send(code::RASET, &[0, row, 0, row]);
            send(code::RAMWR, &RED);
            send(code::DISPON, &[]);
            let picture = panel.picture();
            let size = (picture.width(), picture.height());
            assert_eq!(size, (module.size.0.into(), module.size.1.into()));
            let lit: Vec<usize> = (0..size.0 * size.1).filter(|at| picture.rgb()[3 * at] > 0).collect();
            assert_eq!(lit, [usize::from(shift)], "{}", module.name);
            assert_eq!(picture.at(shift.into(), 0), [255, 0, 0], "{}", module.name);
            assert!(panel.side.complaints.is_empty(), "{}: {:?}", module.name, panel.side.complaints);
        }
    }

    #[test]
    fn a_round_glass_has_no_corners() {
        assert!(!is_in_circle(0, 0, 240) && !is_in_circle(239, 10, 240));
        assert!(is_in_circle(120, 0, 240) && is_in_circle(0, 119, 240) && is_in_circle(239, 120, 240));
    }
}
