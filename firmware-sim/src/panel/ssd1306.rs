//! Virtual OLEDs of one colour behind I2C: 0.96" of 128×64 pixels and 0.91" of 128×32 with a Solomon Systech SSD1306, and 1.3" of 128×64
//! with a Sino Wealth SH1106.
//!
//! Follows the SSD1306 data sheet (I2C: chapter 8.1.5, RAM: 8.7, commands: 9 and 10) and, where that of the SH1106 differs, its
//! chapters on RAM and commands: 132 columns of RAM, page addressing alone, a DC-DC converter with a command of its own. None has been
//! compared with a real module yet. The module is mounted as most are: segment remap and reversed
//! COM scan show the picture upright.
//!
//! Imitated: control bytes, the three addressing modes with their windows, segment remap (which
//! counts when data are written), COM direction, start line, multiplex ratio, contrast, inversion,
//! all-on, display on and off, and the charge pump or converter, without which the pixels stay dark. Not
//! imitated: scrolling, display offset, reading.

use std::cell::RefCell;
use std::rc::Rc;

use embedded_hal::i2c::{self, ErrorKind, I2c, NoAcknowledgeSource, Operation};

use super::bus::{BusLoad, Clock, Meter};
use super::spi::noise;
use super::{Complaint, Complaints};
use crate::picture::Picture;

/// Columns of every glass.
pub const WIDTH: usize = 128;
/// Rows of the RAM, and of the larger glasses.
const HEIGHT: usize = 64;
/// Columns of the largest RAM.
const MOST_COLUMNS: usize = 132;

/// A glass with its controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Glass {
    /// 128×64 with an SSD1306.
    High,
    /// 128×32 with an SSD1306.
    Low,
    /// 128×64 with an SH1106.
    Sh1106,
}

impl Glass {
    /// Its rows.
    pub fn height(self) -> usize {
        if self == Self::Low { HEIGHT / 2 } else { HEIGHT }
    }

    /// Columns of the RAM.
    fn columns(self) -> usize {
        if self == Self::Sh1106 { MOST_COLUMNS } else { WIDTH }
    }

    /// The RAM's column that the glass's first column shows.
    fn offset(self) -> usize {
        (self.columns() - WIDTH) / 2
    }
}

const PAGES: usize = HEIGHT / 8;

/// The module's address (SA0 low).
pub const ADDRESS: u8 = 0x3C;

/// A byte and its acknowledgement.
const CYCLES_PER_BYTE: u64 = 9;
/// Start and stop conditions, about one cycle each.
const CYCLES_START_STOP: u64 = 2;

/// Commands with parameters (chapter 9), by name.
mod code {
    pub(super) const ADDRESSING_MODE: u8 = 0x20;
    pub(super) const COLUMN_WINDOW: u8 = 0x21;
    pub(super) const PAGE_WINDOW: u8 = 0x22;
    pub(super) const STOP_SCROLL: u8 = 0x2E;
    pub(super) const CONTRAST: u8 = 0x81;
    pub(super) const CHARGE_PUMP: u8 = 0x8D;
    /// The SH1106's.
    pub(super) const CONVERTER: u8 = 0xAD;
    pub(super) const MULTIPLEX: u8 = 0xA8;
    pub(super) const OFFSET: u8 = 0xD3;
    pub(super) const CLOCK: u8 = 0xD5;
    pub(super) const PRECHARGE: u8 = 0xD9;
    pub(super) const COM_PINS: u8 = 0xDA;
    pub(super) const VCOMH: u8 = 0xDB;
    pub(super) const NOP: u8 = 0xE3;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Addressing {
    Horizontal,
    Vertical,
    Page,
}

/// The controller, its glass and its bus.
#[derive(Debug)]
pub struct Ssd1306Panel {
    glass: Glass,
    meter: Meter,
    complaints: Complaints,
    /// Eight rows each, the lowest bit on top: (page, segment).
    ram: [[u8; MOST_COLUMNS]; PAGES],
    pending: Vec<u8>,
    addressing: Addressing,
    columns: (u8, u8),
    pages: (u8, u8),
    /// Column and page of the next byte.
    pointer: (u8, u8),
    segment_remap: bool,
    com_reversed: bool,
    start_line: u8,
    /// Rows that are driven.
    multiplex: u8,
    contrast: u8,
    charge_pump: bool,
    all_on: bool,
    inverted: bool,
    on: bool,
}

impl Ssd1306Panel {
    /// A module that has just got its power: off, with noise in its RAM.
    pub fn new(glass: Glass, clock: Clock, hertz: u32) -> Self {
        let mut noise = noise();
        let mut byte = || noise.next().map_or(0, |noise| (noise >> 24) as u8);
        let ram = [[0u8; MOST_COLUMNS]; PAGES].map(|page| page.map(|_| byte()));
        Self {
            glass,
            meter: Meter::new(clock, hertz),
            complaints: Complaints::default(),
            ram,
            pending: Vec::with_capacity(8),
            addressing: Addressing::Page,
            columns: (0, WIDTH as u8 - 1),
            pages: (0, PAGES as u8 - 1),
            pointer: (0, 0),
            segment_remap: false,
            com_reversed: false,
            start_line: 0,
            multiplex: HEIGHT as u8,
            contrast: 0x7F,
            charge_pump: false,
            all_on: false,
            inverted: false,
            on: false,
        }
    }

    /// All as after the power has come back.
    pub fn lose_power(&mut self) {
        let fresh = Self::new(self.glass, Clock::default(), 1);
        let (meter, complaints) = (self.meter.clone(), std::mem::take(&mut self.complaints));
        *self = Self { meter, complaints, ..fresh };
    }

    /// What went over the bus so far.
    pub fn load(&self) -> BusLoad {
        self.meter.load()
    }

    /// What the panel did not like so far.
    pub fn complaints(&self) -> &Complaints {
        &self.complaints
    }

    /// What a viewer sees: black, or a gray that tells the contrast.
    pub fn picture(&self) -> Picture {
        // The eye barely notices the lower half of the contrast scale; 0 is dim, not dark.
        let gray = 200 + (u16::from(self.contrast) * 55 / 255) as u8;
        Picture::from_fn(
            WIDTH,
            self.glass.height(),
            |x, y| if self.is_lit(x, y) { [gray; 3] } else { [0; 3] },
        )
    }

    /// Whether the pixel at (x, y) of the glass gives light.
    pub fn is_lit(&self, x: usize, y: usize) -> bool {
        if !self.on || !self.charge_pump {
            return false;
        }
        // The glass is mounted half a turn round: the last segment is at the left, the last COM on top.
        let (segment, com) = (self.glass.offset() + WIDTH - 1 - x, self.glass.height() - 1 - y);
        let driven = usize::from(self.multiplex);
        if com >= driven {
            return false;
        }
        if self.all_on {
            return true;
        }
        let row = if self.com_reversed { driven - 1 - com } else { com };
        let row = (row + usize::from(self.start_line)) % HEIGHT;
        let bit = self.ram[row / 8][segment] >> (row % 8) & 1 == 1;
        bit != self.inverted
    }

    /// One message to the module: control bytes, each followed by commands or data (chapter 8.1.5.2).
    fn message(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let [control, after @ ..] = rest {
            if control & 0x3F != 0 {
                self.complaints.add(Complaint::StrayData);
                return;
            }
            let only_one = control & 0x80 != 0;
            let (these, next) = after.split_at(if only_one { after.len().min(1) } else { after.len() });
            for &byte in these {
                if control & 0x40 != 0 { self.data(byte) } else { self.command_byte(byte) }
            }
            rest = next;
        }
    }

    fn command_byte(&mut self, byte: u8) {
        self.pending.push(byte);
        let command = self.pending[0];
        if self.pending.len() <= parameters(command, self.glass) {
            return;
        }
        let parameters: Vec<u8> = self.pending.drain(..).skip(1).collect();
        if let Some(complaint) = self.execute(command, &parameters) {
            self.complaints.add(complaint);
        }
    }

    /// Carries out a command; what is wrong with it, if something is.
    fn execute(&mut self, command: u8, parameters: &[u8]) -> Option<Complaint> {
        let sh1106 = self.glass == Glass::Sh1106;
        match (command, parameters) {
            (0x00..=0x0F, _) => self.pointer.0 = (self.pointer.0 & 0xF0) | command,
            (0x10..=0x1F, _) => {
                self.pointer.0 =
                    (self.pointer.0 & 0x0F) | ((command & if sh1106 { 0x0F } else { 0x07 }) << 4);
            }
            (code::CONVERTER, [setting]) if sh1106 => match setting {
                0x8A | 0x8B => self.charge_pump = setting & 1 == 1,
                _ => return Some(Complaint::BadParameter(command)),
            },
            // the pump's voltage
            (0x30..=0x33, _) if sh1106 => {}
            (0xE0 | 0xEE, _) if sh1106 => return Some(Complaint::NotImitated(command)),
            (
                code::ADDRESSING_MODE
                | code::COLUMN_WINDOW
                | code::PAGE_WINDOW
                | code::CHARGE_PUMP
                | 0x26..=0x2A
                | code::STOP_SCROLL
                | 0x2F
                | 0xA3,
                _,
            ) if sh1106 => return Some(Complaint::UnknownCommand(command)),
            (code::ADDRESSING_MODE, [mode]) => {
                self.addressing = match mode & 0x03 {
                    0 => Addressing::Horizontal,
                    1 => Addressing::Vertical,
                    2 => Addressing::Page,
                    _ => return Some(Complaint::BadParameter(command)),
                }
            }
            (code::COLUMN_WINDOW | code::PAGE_WINDOW, &[start, end]) => {
                let along_columns = command == code::COLUMN_WINDOW;
                let size = if along_columns { WIDTH } else { PAGES };
                if start > end || usize::from(end) >= size {
                    return Some(Complaint::BadParameter(command));
                }
                if along_columns {
                    self.columns = (start, end);
                    self.pointer.0 = start;
                } else {
                    self.pages = (start, end);
                    self.pointer.1 = start;
                }
            }
            (0x40..=0x7F, _) => self.start_line = command & 0x3F,
            (code::CONTRAST, [contrast]) => self.contrast = *contrast,
            (code::CHARGE_PUMP, [setting]) => self.charge_pump = setting & 0x04 != 0,
            (0xA0 | 0xA1, _) => self.segment_remap = command & 1 == 1,
            (0xA4 | 0xA5, _) => self.all_on = command & 1 == 1,
            (0xA6 | 0xA7, _) => self.inverted = command & 1 == 1,
            (code::MULTIPLEX, [ratio]) => match ratio & 0x3F {
                ratio @ 15..=63 => self.multiplex = ratio + 1,
                _ => return Some(Complaint::BadParameter(command)),
            },
            (0xAE | 0xAF, _) => self.on = command & 1 == 1,
            (0xB0..=0xB7, _) => self.pointer.1 = command & 0x07,
            (0xC0..=0xCF, _) => self.com_reversed = command & 0x08 != 0,
            (code::OFFSET, [0]) => {}
            // alternating pins on the larger glass, in sequence on the smaller one
            (code::COM_PINS, [0x12]) if self.glass != Glass::Low => {}
            (code::COM_PINS, [0x02]) if self.glass == Glass::Low => {}
            (code::OFFSET | code::COM_PINS, _) => return Some(Complaint::NotImitated(command)),
            // Timing and voltages: they do not move pixels. Nothing scrolls, so stopping is done already.
            (code::CLOCK | code::PRECHARGE | code::VCOMH | code::NOP | code::STOP_SCROLL, _) => {}
            (0x26..=0x2A | 0x2F | 0xA3, _) => return Some(Complaint::NotImitated(command)),
            _ => return Some(Complaint::UnknownCommand(command)),
        }
        None
    }

    /// Stores eight pixels and moves on as the addressing mode (command 0x20) says.
    fn data(&mut self, byte: u8) {
        if let Some(&command) = self.pending.first() {
            self.complaints.add(Complaint::MissingParameters(command));
            self.pending.clear();
        }
        let (column, page) = self.pointer;
        let column_address = usize::from(column);
        let last = self.glass.columns() - 1;
        if column_address > last {
            self.complaints.add(Complaint::StrayData);
            return;
        }
        let segment = if self.segment_remap { last - column_address } else { column_address };
        self.ram[usize::from(page)][segment] = byte;
        let (columns, pages) = (self.columns, self.pages);
        let next = |at: u8, (start, end): (u8, u8)| if at == end { (start, true) } else { (at + 1, false) };
        self.pointer = match self.addressing {
            Addressing::Page => (if column_address == last { 0 } else { column + 1 }, page),
            Addressing::Horizontal => {
                let (column, wrapped) = next(column.min(columns.1), columns);
                (column, if wrapped { next(page.min(pages.1), pages).0 } else { page })
            }
            Addressing::Vertical => {
                let (page, wrapped) = next(page.min(pages.1), pages);
                (if wrapped { next(column.min(columns.1), columns).0 } else { column }, page)
            }
        };
    }
}

/// How many bytes follow a command.
fn parameters(command: u8, glass: Glass) -> usize {
    match command {
        code::CONVERTER if glass == Glass::Sh1106 => 1,
        // commands that the SH1106 lacks have no parameters
        code::ADDRESSING_MODE
        | code::COLUMN_WINDOW
        | code::PAGE_WINDOW
        | code::CHARGE_PUMP
        | 0x26..=0x2A
        | 0xA3
            if glass == Glass::Sh1106 =>
        {
            0
        }
        code::COLUMN_WINDOW | code::PAGE_WINDOW | 0xA3 => 2,
        0x26 | 0x27 => 6,
        0x29 | 0x2A => 5,
        code::ADDRESSING_MODE
        | code::CONTRAST
        | code::CHARGE_PUMP
        | code::MULTIPLEX
        | code::OFFSET
        | code::CLOCK
        | code::PRECHARGE
        | code::COM_PINS
        | code::VCOMH => 1,
        _ => 0,
    }
}

/// The bus that the module is on, alone.
#[derive(Clone, Debug)]
pub struct Ssd1306Bus(pub Rc<RefCell<Ssd1306Panel>>);

impl i2c::ErrorType for Ssd1306Bus {
    type Error = ErrorKind;
}

impl I2c for Ssd1306Bus {
    fn transaction(&mut self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), ErrorKind> {
        let mut panel = self.0.borrow_mut();
        if address != ADDRESS {
            panel.meter.add(0, CYCLES_START_STOP + CYCLES_PER_BYTE);
            panel.complaints.add(Complaint::OtherAddress(address));
            return Err(ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address));
        }
        for operation in operations {
            let length = match operation {
                Operation::Write(bytes) => {
                    panel.message(bytes);
                    bytes.len()
                }
                Operation::Read(bytes) => {
                    bytes.fill(0);
                    panel.complaints.add(Complaint::Read);
                    bytes.len()
                }
            };
            panel.meter.add(length, CYCLES_START_STOP + CYCLES_PER_BYTE * (1 + length as u64));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module after these messages, on its side of the bus.
    fn panel(messages: &[&[u8]]) -> Ssd1306Panel {
        let mut panel = Ssd1306Panel::new(Glass::High, Clock::default(), 400_000);
        panel.ram = [[0; MOST_COLUMNS]; PAGES];
        messages.iter().for_each(|message| panel.message(message));
        panel
    }

    /// The same, lit and upright before the messages.
    fn upright(messages: &[&[u8]]) -> Ssd1306Panel {
        let start: [&[u8]; 1] = [&[0x00, 0x8D, 0x14, 0xA1, 0xC8, 0xAF]];
        panel(&[&start, messages].concat())
    }

    fn lit(panel: &Ssd1306Panel) -> Vec<(usize, usize)> {
        let all = (0..HEIGHT).flat_map(|y| (0..WIDTH).map(move |x| (x, y)));
        all.filter(|(x, y)| panel.is_lit(*x, *y)).collect()
    }

    #[test]
    fn a_module_is_dark_until_it_is_on_and_has_its_charge_pump() {
        let data: &[u8] = &[0x40, 0xFF];
        assert!(lit(&panel(&[data])).is_empty());
        assert!(lit(&panel(&[data, &[0x00, 0xAF]])).is_empty(), "no charge pump");
        assert!(lit(&panel(&[data, &[0x00, 0x8D, 0x14]])).is_empty(), "off");
        assert_eq!(lit(&panel(&[data, &[0x00, 0x8D, 0x14, 0xAF]])).len(), 8);
        let noisy = Ssd1306Panel::new(Glass::High, Clock::default(), 1);
        assert!(noisy.ram.iter().flatten().any(|byte| *byte != 0) && lit(&noisy).is_empty());
    }

    #[test]
    fn page_addressing_stays_on_its_page() {
        // Page 2, column 0x7F: the column wraps, the page does not.
        let panel = upright(&[&[0x00, 0xB2, 0x0F, 0x17], &[0x40, 0x01, 0x80]]);
        assert_eq!(lit(&panel), [(127, 16), (0, 23)]);
        assert!(panel.complaints.is_empty());
    }

    #[test]
    fn windows_wrap_along_columns_or_pages() {
        let window: &[u8] = &[0x00, 0x21, 10, 11, 0x22, 3, 4];
        let data: &[u8] = &[0x40, 0x01, 0x02, 0x04, 0x08, 0x10];
        let horizontal = upright(&[&[0x00, 0x20, 0x00], window, data]);
        assert_eq!(lit(&horizontal), [(11, 25), (10, 28), (10, 34), (11, 35)]);
        let vertical = upright(&[&[0x00, 0x20, 0x01], window, data]);
        assert_eq!(lit(&vertical), [(11, 26), (10, 28), (10, 33), (11, 35)]);
    }

    #[test]
    fn control_bytes_mix_commands_and_data() {
        // One command byte each, then data to the end of the message.
        let panel = upright(&[&[0x80, 0xB1, 0x80, 0x05, 0x80, 0x10, 0x40, 0x01, 0x03]]);
        assert_eq!(lit(&panel), [(5, 8), (6, 8), (6, 9)]);
        // A single data byte between commands.
        let panel = upright(&[&[0xC0, 0x01, 0x80, 0xB1, 0xC0, 0x01]]);
        assert_eq!(lit(&panel), [(0, 0), (1, 8)]);
        // A command in two messages.
        let panel = upright(&[&[0x00, 0x81], &[0x00, 0x00]]);
        assert_eq!(panel.contrast, 0);
    }

    #[test]
    fn orientations() {
        let table: [(&[u8], (usize, usize)); 4] = [
            (&[0x00, 0xA1, 0xC8], (0, 0)),
            (&[0x00, 0xA0, 0xC8], (127, 0)),
            (&[0x00, 0xA1, 0xC0], (0, 63)),
            (&[0x00, 0xA0, 0xC0], (127, 63)),
        ];
        for (commands, corner) in table {
            assert_eq!(lit(&upright(&[commands, &[0x40, 0x01]])), [corner], "{commands:x?}");
        }
        let late = upright(&[&[0x00, 0xA1], &[0x40, 0x01], &[0x00, 0xA0]]);
        assert_eq!(lit(&late), [(0, 0)], "segment remap counts when data are written");
        let late = upright(&[&[0x40, 0x01], &[0x00, 0xC0]]);
        assert_eq!(lit(&late), [(0, 63)], "COM direction counts when they are shown");
    }

    #[test]
    fn inversion_start_line_multiplex_contrast_and_all_on() {
        let one: &[u8] = &[0x40, 0x01];
        assert_eq!(lit(&upright(&[one, &[0x00, 0xA7]])).len(), 8191);
        assert_eq!(lit(&upright(&[one, &[0x00, 0xA5]])).len(), 8192);
        assert_eq!(lit(&upright(&[one, &[0x00, 0x40 | 60]])), [(0, 4)]);
        assert_eq!(lit(&upright(&[&[0x00, 0xA5, 0xA8, 31]])).len(), 128 * 32);
        let gray = |contrast| upright(&[one, &[0x00, 0x81, contrast]]).picture().at(0, 0)[0];
        assert!(gray(0) > 0 && gray(0) < gray(0x7F) && gray(0xFF) == 255);
    }

    #[test]
    fn complaints_name_what_was_wrong() {
        let table: [(&[&[u8]], Complaint); 8] = [
            (&[&[0x00, 0xF0]], Complaint::UnknownCommand(0xF0)),
            (&[&[0x00, 0x2F]], Complaint::NotImitated(0x2F)),
            (&[&[0x00, 0xD3, 8]], Complaint::NotImitated(0xD3)),
            (&[&[0x00, 0x20, 0x03]], Complaint::BadParameter(0x20)),
            (&[&[0x00, 0x21, 9, 3]], Complaint::BadParameter(0x21)),
            (&[&[0x00, 0x22, 0, 8]], Complaint::BadParameter(0x22)),
            (&[&[0x00, 0x81], &[0x40, 0]], Complaint::MissingParameters(0x81)),
            (&[&[0x01, 0xAE]], Complaint::StrayData),
        ];
        for (messages, complaint) in table {
            let complaints = upright(messages).complaints;
            assert_eq!(complaints.lines().count(), 1, "{complaints:?}");
            assert_eq!(complaints.count(complaint), 1, "{complaint} in {complaints:?}");
        }
    }

    #[test]
    fn a_message_takes_nine_cycles_a_byte_and_two_more() {
        let panel = Rc::new(RefCell::new(panel(&[])));
        let mut bus = Ssd1306Bus(Rc::clone(&panel));
        bus.write(ADDRESS, &[0x40; 17]).unwrap();
        let load = BusLoad { bytes: 17, cycles: 2 + 9 * 18, nanoseconds: 410_000, refresh: 0 };
        assert_eq!(panel.borrow().load(), load);
        let error = bus.write(0x3D, &[0x00]).unwrap_err();
        assert_eq!(error, ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address));
        assert_eq!(panel.borrow().complaints.count(Complaint::OtherAddress(0x3D)), 1);
    }

    #[test]
    fn the_sh1106_has_columns_beside_the_glass_and_a_converter() {
        let mut panel = Ssd1306Panel::new(Glass::Sh1106, Clock::default(), 400_000);
        panel.ram = [[0; MOST_COLUMNS]; PAGES];
        panel.message(&[0x00, 0xAD, 0x8B, 0xA1, 0xC8, 0xAF]);
        // columns 1 and 2: the first is not seen; 131 wraps to 0 on the same page
        panel.message(&[0x00, 0xB1, 0x01, 0x10]);
        panel.message(&[0x40, 0xFF, 0x01]);
        panel.message(&[0x00, 0x03, 0x18]);
        panel.message(&[0x40, 0x00, 0xFF, 0xFF]);
        assert_eq!(lit(&panel), [(0, 8)]);
        assert!(panel.complaints.is_empty(), "{:?}", panel.complaints);
        panel.message(&[0x00, 0x20]);
        panel.message(&[0x00, 0x04, 0x18]);
        panel.message(&[0x40, 0xFF]);
        assert_eq!(panel.complaints.count(Complaint::UnknownCommand(0x20)), 1);
        assert_eq!(panel.complaints.count(Complaint::StrayData), 1, "there is no column 132");
        panel.lose_power();
        assert!(lit(&panel).is_empty());
    }
}
