//! A 1.5" colour OLED of 128×128 pixels with a Solomon Systech SSD1351 behind 4-wire SPI: its driver, as a model of `mipidsi`, and a virtual one.
//!
//! Follows the SSD1351 data sheet (commands: chapters 9 and 10); it has not been compared with a real module yet. The module is
//! mounted as most are: reversed COM scan and C-B-A colour order show the picture upright in its colours.
//!
//! Imitated: command lock, windows, remap, both address increments, 65,536 colours, start line, inversion, all on and all off, sleep.
//! Not imitated: 256 and 262,144 colours, display offset, scrolling, reading.

use embedded_graphics::pixelcolor::Rgb565;
use embedded_hal::delay::DelayNs;
use mipidsi::dcs::{DcsCommand, InterfaceExt, SetAddressMode};
use mipidsi::interface::Interface;
use mipidsi::models::{Model, ModelInitError};
use mipidsi::options::{ColorInversion, ModelOptions, Rotation};

use super::Complaint;
use super::bus::Clock;
use super::dcs::{Controller, Driver, Module};
use super::spi::{Side, SpiPanel, noise};
use crate::picture::Picture;

/// Columns and rows of glass and RAM.
pub const SIDE: u16 = 128;

/// The glass.
pub const MODULE: Module = Module {
    name: "ssd1351",
    about: "SSD1351, 128x128, 65536 colours",
    controller: &Controller { ram: (SIDE, SIDE), write: code::WRITE, electrical: &[], not_imitated: &[] },
    driver: Driver::Ssd1351,
    size: (SIDE, SIDE),
    offset: (0, 0),
    inverts: false,
    bgr: false,
    mirrored: false,
    round: false,
    hertz: 10_000_000,
};

/// Command codes of chapter 9.
mod code {
    pub(super) const COLUMNS: u8 = 0x15;
    pub(super) const WRITE: u8 = 0x5C;
    pub(super) const ROWS: u8 = 0x75;
    pub(super) const REMAP: u8 = 0xA0;
    pub(super) const START_LINE: u8 = 0xA1;
    pub(super) const OFFSET: u8 = 0xA2;
    pub(super) const ALL_OFF: u8 = 0xA4;
    pub(super) const ALL_ON: u8 = 0xA5;
    pub(super) const NORMAL: u8 = 0xA6;
    pub(super) const INVERSE: u8 = 0xA7;
    pub(super) const FUNCTION: u8 = 0xAB;
    pub(super) const NOP: u8 = 0xAD;
    pub(super) const SLEEP: u8 = 0xAE;
    pub(super) const WAKE: u8 = 0xAF;
    pub(super) const PHASES: u8 = 0xB1;
    pub(super) const ENHANCE: u8 = 0xB2;
    pub(super) const CLOCK: u8 = 0xB3;
    pub(super) const SEGMENT_LOW: u8 = 0xB4;
    pub(super) const GPIO: u8 = 0xB5;
    pub(super) const PRECHARGE_2: u8 = 0xB6;
    pub(super) const GAMMA: u8 = 0xB8;
    pub(super) const LINEAR: u8 = 0xB9;
    pub(super) const PRECHARGE: u8 = 0xBB;
    pub(super) const VCOMH: u8 = 0xBE;
    pub(super) const CONTRAST: u8 = 0xC1;
    pub(super) const BRIGHTNESS: u8 = 0xC7;
    pub(super) const MULTIPLEX: u8 = 0xCA;
    pub(super) const LOCK: u8 = 0xFD;
}

/// Bits of REMAP.
mod remap {
    pub(super) const DOWN_FIRST: u8 = 0x01;
    pub(super) const COLUMNS: u8 = 0x02;
    pub(super) const C_B_A: u8 = 0x04;
    pub(super) const COM_REVERSED: u8 = 0x10;
    pub(super) const COM_SPLIT: u8 = 0x20;
    pub(super) const COLOURS_65K: u8 = 0x40;
    pub(super) const COLOURS: u8 = 0xC0;
}

/// The driver: what differs from the panels that `mipidsi` knows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ssd1351;

impl Ssd1351 {
    fn remap(mode: SetAddressMode) -> u8 {
        let mut dcs = [0];
        mode.fill_params_buf(&mut dcs);
        let [dcs] = dcs;
        let set = |bit: u8, to: u8| if dcs & bit != 0 { to } else { 0 };
        // rows, columns, exchange, blue first
        let upright = remap::COLOURS_65K | remap::COM_SPLIT | remap::COM_REVERSED | remap::C_B_A;
        upright
            ^ set(0x80, remap::COM_REVERSED)
            ^ set(0x40, remap::COLUMNS)
            ^ set(0x20, remap::DOWN_FIRST)
            ^ set(0x08, remap::C_B_A)
    }
}

impl Model for Ssd1351 {
    type ColorFormat = Rgb565;
    const FRAMEBUFFER_SIZE: (u16, u16) = (SIDE, SIDE);

    fn init<D: DelayNs, I: Interface>(
        &mut self,
        bus: &mut I,
        delay: &mut D,
        options: &ModelOptions,
    ) -> Result<SetAddressMode, ModelInitError<I::Error>> {
        let mode = SetAddressMode::from(options);
        let inversion = match options.invert_colors {
            ColorInversion::Normal => code::NORMAL,
            ColorInversion::Inverted => code::INVERSE,
        };
        // the start-up of chapter 11's application example, with the voltages of the module's makers
        let steps: [(u8, &[u8]); 20] = [
            (code::LOCK, &[0x12]),
            (code::LOCK, &[0xB1]),
            (code::SLEEP, &[]),
            (code::CLOCK, &[0xF1]),
            (code::MULTIPLEX, &[SIDE as u8 - 1]),
            (code::OFFSET, &[0]),
            (code::START_LINE, &[0]),
            (code::GPIO, &[0]),
            (code::FUNCTION, &[0x01]),
            (code::PHASES, &[0x32]),
            (code::SEGMENT_LOW, &[0xA0, 0xB5, 0x55]),
            (code::PRECHARGE, &[0x17]),
            (code::PRECHARGE_2, &[0x01]),
            (code::VCOMH, &[0x05]),
            (code::CONTRAST, &[0xC8, 0x80, 0xC8]),
            (code::BRIGHTNESS, &[0x0F]),
            (code::LINEAR, &[]),
            (code::REMAP, &[Self::remap(mode)]),
            (inversion, &[]),
            (code::WAKE, &[]),
        ];
        for (command, parameters) in steps {
            bus.write_raw(command, parameters)?;
        }
        // pixels may be written, and light up, once the supply is up
        delay.delay_ms(100);
        Ok(mode)
    }

    fn update_address_window<I: Interface>(
        bus: &mut I,
        rotation: Rotation,
        sx: u16,
        sy: u16,
        ex: u16,
        ey: u16,
    ) -> Result<(), I::Error> {
        // both windows are the RAM's own, whichever way the address runs
        let (columns, rows) = match rotation {
            Rotation::Deg0 | Rotation::Deg180 => ((sx, ex), (sy, ey)),
            Rotation::Deg90 | Rotation::Deg270 => ((sy, ey), (sx, ex)),
        };
        bus.write_raw(code::COLUMNS, &[columns.0 as u8, columns.1 as u8])?;
        bus.write_raw(code::ROWS, &[rows.0 as u8, rows.1 as u8])
    }

    fn write_memory_start<I: Interface>(bus: &mut I) -> Result<(), I::Error> {
        bus.write_raw(code::WRITE, &[])
    }

    fn update_options<I: Interface>(&self, bus: &mut I, options: &ModelOptions) -> Result<(), I::Error> {
        bus.write_raw(code::REMAP, &[Self::remap(SetAddressMode::from(options))])
    }

    fn sleep<I: Interface, D: DelayNs>(bus: &mut I, _delay: &mut D) -> Result<(), I::Error> {
        bus.write_raw(code::SLEEP, &[])
    }

    fn wake<I: Interface, D: DelayNs>(bus: &mut I, delay: &mut D) -> Result<(), I::Error> {
        bus.write_raw(code::WAKE, &[])?;
        delay.delay_ms(100);
        Ok(())
    }
}

/// What a reset brings back.
#[derive(Clone, Debug)]
struct Registers {
    locked: bool,
    /// Whether the voltages may be set.
    settable: bool,
    remap: u8,
    columns: (u8, u8),
    rows: (u8, u8),
    start_line: u8,
    /// One of the four modes.
    mode: u8,
    awake: bool,
}

impl Registers {
    fn new() -> Self {
        let all = (0, SIDE as u8 - 1);
        Self {
            locked: false,
            settable: false,
            remap: remap::COLOURS_65K,
            columns: all,
            rows: all,
            start_line: 0,
            mode: code::NORMAL,
            awake: false,
        }
    }
}

/// The controller, its glass and its bus.
#[derive(Debug)]
pub struct Ssd1351Panel {
    side: Side,
    registers: Registers,
    /// Red, green and blue as they were sent: 5, 6 and 5 bits, (row, column).
    ram: Vec<u16>,
    /// The command whose parameters come, and how many are to come.
    expects: Option<(u8, usize)>,
    pending: Vec<u8>,
    /// Column and row of the next pixel.
    pointer: (u8, u8),
    writing: bool,
}

impl Ssd1351Panel {
    /// A module that has just got its power: asleep, with noise in its RAM.
    pub fn new(clock: Clock, hertz: u32) -> Self {
        Self {
            side: Side::new(clock, hertz),
            registers: Registers::new(),
            ram: noisy(),
            expects: None,
            pending: Vec::with_capacity(8),
            pointer: (0, 0),
            writing: false,
        }
    }

    /// What a viewer sees.
    pub fn picture(&self) -> Picture {
        let (registers, side) = (&self.registers, usize::from(SIDE));
        if !registers.awake || registers.mode == code::ALL_OFF || self.side.in_reset {
            return Picture::filled(side, side, [0; 3]);
        }
        if registers.mode == code::ALL_ON {
            return Picture::filled(side, side, [255; 3]);
        }
        Picture::from_fn(side, side, |x, y| {
            let row = if registers.remap & remap::COM_REVERSED != 0 { y } else { side - 1 - y };
            let row = (row + usize::from(registers.start_line)) % side;
            let color = self.ram[row * side + x];
            let mut color = [color >> 11, color >> 5 & 0x3F, color & 0x1F];
            if registers.remap & remap::C_B_A == 0 {
                color.reverse();
            }
            let [red, green, blue] = color;
            // five bits become six as the controller makes them
            let six = [red << 1 | red >> 4, green, blue << 1 | blue >> 4].map(|level| level as u8);
            let six = if registers.mode == code::INVERSE { six.map(|level| 63 - level) } else { six };
            six.map(|level| level << 2 | level >> 4)
        })
    }

    /// Carries out a command with its parameters; what is wrong with it, if something is.
    fn execute(&mut self, command: u8) -> Option<Complaint> {
        let registers = &mut self.registers;
        match (command, &self.pending[..]) {
            (code::COLUMNS | code::ROWS, &[start, end]) => {
                if start > end || end >= SIDE as u8 {
                    return Some(Complaint::BadParameter(command));
                }
                if command == code::COLUMNS {
                    registers.columns = (start, end);
                    self.pointer.0 = start;
                } else {
                    registers.rows = (start, end);
                    self.pointer.1 = start;
                }
            }
            (code::REMAP, &[bits]) => {
                if bits & remap::COLOURS != remap::COLOURS_65K {
                    return Some(Complaint::NotImitated(command));
                }
                registers.remap = bits;
            }
            (code::START_LINE, &[line]) => {
                if line >= SIDE as u8 {
                    return Some(Complaint::BadParameter(command));
                }
                registers.start_line = line;
            }
            (code::OFFSET, &[0]) | (code::MULTIPLEX, &[127]) => {}
            (code::OFFSET | code::MULTIPLEX, _) => return Some(Complaint::NotImitated(command)),
            (code::LOCK, &[key]) => match key {
                0x12 => registers.locked = false,
                0x16 => registers.locked = true,
                0xB0 => registers.settable = false,
                0xB1 => registers.settable = true,
                _ => return Some(Complaint::BadParameter(command)),
            },
            (code::ALL_OFF..=code::INVERSE, _) => registers.mode = command,
            (code::SLEEP | code::WAKE, _) => registers.awake = command == code::WAKE,
            (code::WRITE, _) => {
                self.pointer = (registers.columns.0, registers.rows.0);
                self.writing = true;
            }
            // voltages, times and the pins: they do not move pixels
            _ => {}
        }
        None
    }

    fn store(&mut self, color: u16) {
        let Registers { remap: bits, columns, rows, .. } = self.registers;
        let (column, row) = self.pointer;
        let x = if bits & remap::COLUMNS != 0 { SIDE as u8 - 1 - column } else { column };
        self.ram[usize::from(row) * usize::from(SIDE) + usize::from(x)] = color;
        let next = |at: u8, (start, end): (u8, u8)| if at >= end { (start, true) } else { (at + 1, false) };
        self.pointer = if bits & remap::DOWN_FIRST != 0 {
            let (row, wrapped) = next(row, rows);
            (if wrapped { next(column, columns).0 } else { column }, row)
        } else {
            let (column, wrapped) = next(column, columns);
            (column, if wrapped { next(row, rows).0 } else { row })
        };
    }
}

/// How many bytes follow a command; `None` if there is none of this code.
fn parameters(command: u8) -> Option<usize> {
    Some(match command {
        code::COLUMNS | code::ROWS => 2,
        code::ENHANCE | code::SEGMENT_LOW | code::CONTRAST => 3,
        code::GAMMA => 63,
        code::REMAP
        | code::START_LINE
        | code::OFFSET
        | code::FUNCTION
        | code::PHASES
        | code::CLOCK
        | code::GPIO
        | code::PRECHARGE_2
        | code::PRECHARGE
        | code::VCOMH
        | code::BRIGHTNESS
        | code::MULTIPLEX
        | code::LOCK => 1,
        code::WRITE
        | code::ALL_OFF
        | code::ALL_ON
        | code::NORMAL
        | code::INVERSE
        | code::NOP
        | code::SLEEP
        | code::WAKE
        | code::LINEAR => 0,
        _ => return None,
    })
}

fn noisy() -> Vec<u16> {
    noise().take(usize::from(SIDE) * usize::from(SIDE)).map(|noise| (noise >> 16) as u16).collect()
}

impl SpiPanel for Ssd1351Panel {
    fn side(&self) -> &Side {
        &self.side
    }

    fn side_mut(&mut self) -> &mut Side {
        &mut self.side
    }

    fn command(&mut self, command: u8) {
        if let Some((earlier, _)) = self.expects.take() {
            self.side.complaints.add(Complaint::MissingParameters(earlier));
        }
        self.writing = false;
        self.pending.clear();
        let registers = &self.registers;
        let voltage = matches!(
            command,
            code::OFFSET | code::PHASES | code::CLOCK | code::PRECHARGE | code::VCOMH | code::CONTRAST
        );
        let complaint = match (command, parameters(command)) {
            // scrolling, reading
            (0x5D | 0x96 | 0x9E | 0x9F, _) => Complaint::NotImitated(command),
            (_, None) => Complaint::UnknownCommand(command),
            (code::LOCK, Some(count)) => {
                self.expects = Some((command, count));
                return;
            }
            _ if registers.locked || voltage && !registers.settable => Complaint::Locked(command),
            (_, Some(0)) => match self.execute(command) {
                Some(complaint) => complaint,
                None => return,
            },
            (_, Some(count)) => {
                self.expects = Some((command, count));
                return;
            }
        };
        self.side.complaints.add(complaint);
    }

    fn parameter(&mut self, byte: u8) {
        self.pending.push(byte);
        if self.writing {
            if let &[high, low] = &self.pending[..] {
                self.store(u16::from_be_bytes([high, low]));
                self.pending.clear();
            }
            return;
        }
        let Some((command, count)) = self.expects else {
            self.side.complaints.add(Complaint::StrayData);
            self.pending.clear();
            return;
        };
        if self.pending.len() == count {
            self.expects = None;
            if let Some(complaint) = self.execute(command) {
                self.side.complaints.add(complaint);
            }
            self.pending.clear();
        }
    }

    fn reset(&mut self) {
        self.registers = Registers::new();
        self.expects = None;
        self.writing = false;
        self.pending.clear();
    }

    fn lose_power(&mut self) {
        self.ram = noisy();
        self.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A command and its parameters.
    type Step<'a> = (u8, &'a [u8]);

    /// A module that is unlocked, upright, awake and black, after these commands.
    fn panel(steps: &[Step<'_>]) -> Ssd1351Panel {
        let mut panel = Ssd1351Panel::new(Clock::default(), 10_000_000);
        panel.ram.fill(0);
        panel.side.selected = true;
        let start: [Step<'_>; 3] = [(code::LOCK, &[0xB1]), (code::REMAP, &[0x74]), (code::WAKE, &[])];
        for (command, parameters) in start.iter().chain(steps) {
            panel.side.data = false;
            panel.receive(&[*command]);
            panel.side.data = true;
            panel.receive(parameters);
        }
        panel
    }

    fn lit(panel: &Ssd1351Panel) -> Vec<(usize, usize, [u8; 3])> {
        let picture = panel.picture();
        let all = (0..128 * 128).map(|i| (i % 128, i / 128));
        all.map(|(x, y)| (x, y, picture.at(x, y))).filter(|(_, _, color)| *color != [0; 3]).collect()
    }

    const WINDOW: [Step<'static>; 2] = [(code::COLUMNS, &[3, 4]), (code::ROWS, &[5, 6])];
    const RED: [u8; 2] = [0xF8, 0];

    #[test]
    fn a_window_fills_either_way() {
        let pixels = [RED, [0x07, 0xE0]].concat();
        let along = panel(&[WINDOW[0], WINDOW[1], (code::WRITE, &pixels)]);
        assert_eq!(lit(&along), [(3, 5, [255, 0, 0]), (4, 5, [0, 255, 0])]);
        let down = panel(&[(code::REMAP, &[0x75]), WINDOW[0], WINDOW[1], (code::WRITE, &pixels)]);
        assert_eq!(lit(&down), [(3, 5, [255, 0, 0]), (3, 6, [0, 255, 0])]);
        assert!(down.side.complaints.is_empty());
    }

    #[test]
    fn orientation_colour_order_and_modes() {
        let at = |bits: u8| lit(&panel(&[(code::REMAP, &[bits]), (code::WRITE, &RED)]))[0];
        assert_eq!(at(0x74), (0, 0, [255, 0, 0]));
        assert_eq!(at(0x76), (127, 0, [255, 0, 0]));
        assert_eq!(at(0x64), (0, 127, [255, 0, 0]));
        assert_eq!(at(0x70), (0, 0, [0, 0, 255]));
        let with = |command| panel(&[(code::WRITE, &RED), (command, &[])]).picture();
        assert_eq!(with(code::INVERSE).at(0, 0), [0, 255, 255]);
        assert_eq!(with(code::ALL_ON).at(9, 9), [255; 3]);
        assert_eq!(with(code::SLEEP), with(code::ALL_OFF));
        assert_eq!(lit(&panel(&[(code::WRITE, &RED), (code::START_LINE, &[100])]))[0], (0, 28, [255, 0, 0]));
    }

    #[test]
    fn complaints_name_what_was_wrong() {
        let table: [(&[Step<'_>], Complaint); 8] = [
            (&[(0x33, &[])], Complaint::UnknownCommand(0x33)),
            (&[(0x9F, &[])], Complaint::NotImitated(0x9F)),
            (&[(code::REMAP, &[0xB4])], Complaint::NotImitated(code::REMAP)),
            (&[(code::COLUMNS, &[9, 3])], Complaint::BadParameter(code::COLUMNS)),
            (&[(code::ROWS, &[0]), (code::NOP, &[])], Complaint::MissingParameters(code::ROWS)),
            (&[(code::NOP, &[1])], Complaint::StrayData),
            (&[(code::LOCK, &[0x16]), (code::SLEEP, &[])], Complaint::Locked(code::SLEEP)),
            (&[(code::LOCK, &[0xB0]), (code::CLOCK, &[])], Complaint::Locked(code::CLOCK)),
        ];
        for (steps, complaint) in table {
            let complaints = panel(steps).side.complaints;
            assert_eq!(complaints.lines().count(), 1, "{complaints:?}");
            assert_eq!(complaints.count(complaint), 1, "{complaint} in {complaints:?}");
        }
    }
}
