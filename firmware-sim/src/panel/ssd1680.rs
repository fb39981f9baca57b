//! A 2.9" e-paper of 128×296 pixels with a Solomon Systech SSD1680 behind 4-wire SPI: its driver, and a virtual one.
//!
//! Commands as in the SSD1680 data sheet, chapters 7 and 8; waveforms are those that Waveshare's example code for its 2.9" V2 module
//! loads. Neither has been compared with a real module yet. The published driver crate has no greys and panics where its busy pin stays
//! high.
//!
//! A controller of e-paper moves pigment: a waveform says for how many frames each kind of pixel gets the voltage that blackens or
//! whitens. The virtual glass follows the waveform that is loaded: pigment moves at an even pace, 200 ms from white to black, and stops
//! at both ends. So greys, ghosts, flashes and how long a refresh takes come out of the waveform; that real pigment is slower at the ends
//! is left out, as are temperature and the third voltage.

use embedded_graphics::pixelcolor::raw::RawU1;
use embedded_graphics::pixelcolor::{Gray2, PixelColor};
use embedded_graphics::prelude::*;
use embedded_hal::delay::DelayNs;
use embedded_hal::digital::{InputPin, OutputPin};
use embedded_hal::spi::SpiDevice;

use edgegen_firmware::PanelColor;

use super::Complaint;
use super::bus::Clock;
use super::canvas::Canvas;
use super::device::{Device, DeviceError, Mounting, Wires};
use super::spi::{Side, SpiPanel, noise};
use crate::picture::Picture;

/// Columns of the glass.
pub const WIDTH: usize = 128;
/// Rows of the glass.
pub const HEIGHT: usize = 296;
/// Bytes of a row.
const ROW: usize = WIDTH / 8;
/// Of so many refreshes, one moves all pigment, as the others leave a shadow.
const FULL_EVERY: u32 = 20;
/// A panel that is busy for longer does not answer, milliseconds.
const LONGEST_WAIT: u32 = 10_000;

/// Command codes of chapter 7.
mod code {
    pub(super) const DRIVER_OUTPUT: u8 = 0x01;
    pub(super) const GATE_VOLTAGE: u8 = 0x03;
    pub(super) const SOURCE_VOLTAGE: u8 = 0x04;
    pub(super) const SLEEP: u8 = 0x10;
    pub(super) const ENTRY_MODE: u8 = 0x11;
    pub(super) const RESET: u8 = 0x12;
    pub(super) const ACTIVATE: u8 = 0x20;
    pub(super) const UPDATE_1: u8 = 0x21;
    pub(super) const UPDATE_2: u8 = 0x22;
    pub(super) const BLACK_WHITE: u8 = 0x24;
    pub(super) const RED: u8 = 0x26;
    pub(super) const VCOM: u8 = 0x2C;
    pub(super) const WAVEFORM: u8 = 0x32;
    pub(super) const BORDER: u8 = 0x3C;
    pub(super) const WAVEFORM_END: u8 = 0x3F;
    pub(super) const COLUMNS: u8 = 0x44;
    pub(super) const ROWS: u8 = 0x45;
    pub(super) const COLUMN: u8 = 0x4E;
    pub(super) const ROW: u8 = 0x4F;
    pub(super) const NOP: u8 = 0x7F;
}

/// Waveforms, in the layout of command 0x32.
mod waveform {
    /// Voltages of five kinds of pixel in twelve groups, their times, frame rates, and gates that stay on.
    pub(super) const BYTES: usize = 5 * GROUPS + 7 * GROUPS + GROUPS / 2 + 3;
    pub(super) const GROUPS: usize = 12;

    /// A group of four phases: for each kind of pixel the voltages of the phases, two bits each; frames of phases A and B, how often
    /// more, frames of C and D, how often more, how often more all of it; frames a second, of 25.
    pub(super) struct Group(pub(super) [u8; 4], pub(super) [u8; 7], pub(super) u8);

    pub(super) const fn table<const N: usize>(groups: [Group; N]) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        let mut group = 0;
        while group < N {
            let Group(voltages, times, rate) = &groups[group];
            let mut at = 0;
            while at < 4 {
                bytes[at * GROUPS + group] = voltages[at];
                at += 1;
            }
            at = 0;
            while at < 7 {
                bytes[5 * GROUPS + 7 * group + at] = times[at];
                at += 1;
            }
            bytes[12 * GROUPS + group / 2] |= if group % 2 == 0 { *rate << 4 } else { *rate };
            group += 1;
        }
        bytes
    }

    /// Black and white, through both ends: no shadow stays. 1.94 s.
    pub(super) const FULL: [u8; BYTES] = table([
        Group([0x80, 0x10, 0x80, 0x10], [20, 8, 0, 0, 0, 0, 1], 4),
        Group([0x66, 0x66, 0x66, 0x66], [10, 10, 0, 10, 10, 0, 1], 4),
        Group([0x40, 0x20, 0x40, 0x20], [20, 8, 0, 1, 0, 0, 1], 4),
    ]);
    /// Only what differs: from white to black and back. 0.62 s.
    pub(super) const PARTIAL: [u8; BYTES] = table([
        Group([0x00, 0x80, 0x40, 0x00], [10, 0, 0, 0, 0, 0, 2], 2),
        Group([0x40, 0x80, 0x40, 0x80], [1, 0, 0, 0, 0, 0, 0], 2),
    ]);
    /// White, and from there a little, more, or all the way to black. 2.28 s.
    pub(super) const GREYS: [u8; BYTES] = table([
        Group([0x00, 0x20, 0x28, 0x2A], [0, 2, 0, 5, 20, 0, 0], 2),
        Group([0x60, 0x60, 0x60, 0x60], [30, 30, 0, 0, 0, 0, 1], 4),
        Group([0x00, 0x10, 0x14, 0x15], [0, 2, 0, 5, 20, 0, 0], 2),
    ]);
}

/// What a pixel of an e-paper can be.
pub trait PaperColor: PanelColor {
    /// Whether there are greys, which a partial refresh cannot make.
    const GREYS: bool;
    /// Its bits in the RAMs of commands 0x24 and 0x26.
    fn bits(self) -> (bool, bool);
}

/// Black or white.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlackWhite {
    /// Ink.
    Black,
    /// Paper.
    White,
}

impl PixelColor for BlackWhite {
    type Raw = RawU1;
}

impl PanelColor for BlackWhite {
    const CHANNELS: usize = 1;
    const HIGHEST: [u8; 3] = [1; 3];
    const PAPER: Self = Self::White;
    const INK: Self = Self::Black;

    fn from_levels([level, ..]: [u8; 3]) -> Self {
        if level == 0 { Self::Black } else { Self::White }
    }

    fn rgb(self) -> [u8; 3] {
        [if self == Self::White { 255 } else { 0 }; 3]
    }
}

impl PaperColor for BlackWhite {
    const GREYS: bool = false;

    fn bits(self) -> (bool, bool) {
        (self == Self::White, self == Self::White)
    }
}

impl PaperColor for Gray2 {
    const GREYS: bool = true;

    fn bits(self) -> (bool, bool) {
        let ink = 3 - self.luma();
        (ink & 1 == 1, ink & 2 == 2)
    }
}

/// The driver on any bus.
pub struct Epaper<C, S, P, B, D> {
    wires: Wires<S, P>,
    busy: B,
    delay: D,
    canvas: Canvas<C>,
    inverted: bool,
    /// The rows that the glass shows, as command 0x24 has them; none before the first refresh.
    shown: Vec<u8>,
    refreshes: u32,
}

fn failed(reason: impl std::fmt::Debug) -> DeviceError {
    DeviceError::new("SSD1680", format!("{reason:?}"))
}

impl<C: PaperColor, S: SpiDevice, P: OutputPin, B: InputPin, D: DelayNs> Epaper<C, S, P, B, D> {
    /// Resets and initialises the panel; `busy` is high while it refreshes.
    ///
    /// # Errors
    /// The bus's or a pin's, or that the panel does not answer.
    pub fn open(mounting: Mounting, wires: Wires<S, P>, busy: B, delay: D) -> Result<Self, DeviceError> {
        let canvas = Canvas::new(Size::new(WIDTH as u32, HEIGHT as u32), mounting);
        let inverted = mounting.inverted;
        let mut panel = Self { wires, busy, delay, canvas, inverted, shown: Vec::new(), refreshes: 0 };
        panel.wires.reset.set_low().map_err(failed)?;
        panel.delay.delay_ms(2);
        panel.wires.reset.set_high().map_err(failed)?;
        panel.delay.delay_ms(10);
        panel.wait()?;
        panel.send(code::RESET, &[])?;
        panel.wait()?;
        let [low, high] = (HEIGHT as u16 - 1).to_le_bytes();
        panel.send(code::DRIVER_OUTPUT, &[low, high, 0])?;
        // columns, then rows, both upwards
        panel.send(code::ENTRY_MODE, &[0x03])?;
        panel.send(code::BORDER, &[0x05])?;
        // both RAMs as they are, sources 8 to 167
        panel.send(code::UPDATE_1, &[0x00, 0x80])?;
        Ok(panel)
    }

    fn send(&mut self, command: u8, parameters: &[u8]) -> Result<(), DeviceError> {
        self.wires.data.set_low().map_err(failed)?;
        self.wires.spi.write(&[command]).map_err(failed)?;
        if !parameters.is_empty() {
            self.wires.data.set_high().map_err(failed)?;
            self.wires.spi.write(parameters).map_err(failed)?;
        }
        Ok(())
    }

    fn wait(&mut self) -> Result<(), DeviceError> {
        for _ in 0..LONGEST_WAIT / 5 {
            if self.busy.is_low().map_err(failed)? {
                return Ok(());
            }
            self.delay.delay_ms(5);
        }
        Err(DeviceError::new(
            "SSD1680",
            "it stays busy: is BUSY wired, and to the line of the configuration?",
        ))
    }

    /// The rows of one RAM.
    fn rows(&self, red: bool) -> Vec<u8> {
        let bit = |color: &C| {
            let bits = color.bits();
            (if red { bits.1 } else { bits.0 }) != self.inverted
        };
        let pixels = self.canvas.pixels().chunks_exact(8);
        pixels.map(|eight| eight.iter().fold(0, |byte, color| byte << 1 | u8::from(bit(color)))).collect()
    }

    /// Writes rows `from..to` of one RAM.
    fn write(&mut self, command: u8, rows: &[u8], (from, to): (usize, usize)) -> Result<(), DeviceError> {
        let [low, high] = (from as u16).to_le_bytes();
        let [end_low, end_high] = (to as u16 - 1).to_le_bytes();
        self.send(code::COLUMNS, &[0, ROW as u8 - 1])?;
        self.send(code::ROWS, &[low, high, end_low, end_high])?;
        self.send(code::COLUMN, &[0])?;
        self.send(code::ROW, &[low, high])?;
        self.send(command, &rows[from * ROW..to * ROW])
    }

    /// Lets the pigment move.
    fn refresh(&mut self, waveform: &[u8], vcom: u8, mode: u8) -> Result<(), DeviceError> {
        self.send(code::WAVEFORM, waveform)?;
        self.send(code::WAVEFORM_END, &[0x22])?;
        self.send(code::GATE_VOLTAGE, &[0x17])?;
        self.send(code::SOURCE_VOLTAGE, &[0x41, 0xAE, 0x32])?;
        self.send(code::VCOM, &[vcom])?;
        self.send(code::UPDATE_2, &[mode])?;
        self.send(code::ACTIVATE, &[])?;
        self.wait()
    }
}

impl<C: PaperColor, S: SpiDevice, P: OutputPin, B: InputPin, D: DelayNs> Device for Epaper<C, S, P, B, D> {
    type Target = Canvas<C>;

    fn target(&mut self) -> &mut Canvas<C> {
        &mut self.canvas
    }

    fn is_slow(&self) -> bool {
        true
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        let (rows, all) = (self.rows(false), (0, HEIGHT));
        if C::GREYS {
            let other = self.rows(true);
            self.write(code::BLACK_WHITE, &rows, all)?;
            self.write(code::RED, &other, all)?;
            return self.refresh(&waveform::GREYS, 0x28, 0xC7);
        }
        let differs = |(row, shown): (&[u8], &[u8])| row != shown;
        let pairs = || rows.chunks_exact(ROW).zip(self.shown.chunks_exact(ROW));
        let first = pairs().position(differs);
        if self.shown.is_empty() || self.refreshes + 1 >= FULL_EVERY {
            self.write(code::BLACK_WHITE, &rows, all)?;
            self.write(code::RED, &rows, all)?;
            self.refresh(&waveform::FULL, 0x36, 0xC7)?;
            self.refreshes = 0;
        } else if let Some(first) = first {
            let last = pairs().rposition(differs).unwrap_or(first);
            let shown = std::mem::take(&mut self.shown);
            // rows beside these have the same in both RAMs, which leaves them alone
            let written = self
                .write(code::RED, &shown, all)
                .and_then(|()| self.write(code::BLACK_WHITE, &rows, (first, last + 1)));
            written?;
            self.refresh(&waveform::PARTIAL, 0x36, 0xCF)?;
            self.refreshes += 1;
        }
        self.shown = rows;
        Ok(())
    }
}

/// Where pigment stops: white. 0 is black, and it moves by one a millisecond.
const WHITE: i32 = 200;
/// How long the controller is busy after a reset.
const RESET_NS: u64 = 10_000_000;

/// The controller, its glass and its bus.
#[derive(Debug)]
pub struct Ssd1680Panel {
    side: Side,
    /// Of command 0x24 and of 0x26, eight columns a byte, the leftmost in the highest bit.
    rams: [Vec<u8>; 2],
    waveform: Vec<u8>,
    columns: (u8, u8),
    rows: (u16, u16),
    /// Byte of the row, and row, of the next byte.
    pointer: (u8, u16),
    sequence: u8,
    /// The command whose bytes come.
    current: Option<u8>,
    pending: Vec<u8>,
    busy_until: u64,
    asleep: bool,
    pigment: Vec<i32>,
}

impl Ssd1680Panel {
    /// A module that has just got its power, with whatever was on the glass.
    pub fn new(clock: Clock, hertz: u32) -> Self {
        let mut panel = Self {
            side: Side::new(clock, hertz),
            rams: [Vec::new(), Vec::new()],
            waveform: vec![0; waveform::BYTES],
            columns: (0, ROW as u8 - 1),
            rows: (0, HEIGHT as u16 - 1),
            pointer: (0, 0),
            sequence: 0,
            current: None,
            pending: Vec::with_capacity(waveform::BYTES),
            busy_until: 0,
            asleep: false,
            pigment: noise().take(WIDTH * HEIGHT).map(|noise| (noise >> 16) as i32 % (WHITE + 1)).collect(),
        };
        panel.lose_power();
        panel
    }

    /// What a viewer sees.
    pub fn picture(&self) -> Picture {
        Picture::from_fn(WIDTH, HEIGHT, |x, y| [(self.pigment[y * WIDTH + x] * 255 / WHITE) as u8; 3])
    }

    /// Milliseconds of the waveform, and what each of its kinds of pixel goes through: (milliseconds, towards white).
    fn phases(&self) -> (u64, [Vec<(i32, i32)>; 4]) {
        let (groups, table) = (waveform::GROUPS, &self.waveform);
        let mut kinds = [const { Vec::new() }; 4];
        let mut milliseconds = 0;
        for group in 0..groups {
            let times = &table[5 * groups + 7 * group..][..7];
            let rate = table[12 * groups + group / 2] >> (4 * (1 - group % 2)) & 0x0F;
            let frame = if rate == 0 { 0 } else { 40 / i32::from(rate) };
            for _ in 0..=times[6] {
                for (phases, repeats) in [([0, 1], times[2]), ([2, 3], times[5])] {
                    for (phase, _) in (0..=repeats).flat_map(|_| phases.map(|phase| (phase, ()))) {
                        let frames = times[[0, 1, 3, 4][phase]];
                        let time = i32::from(frames) * frame;
                        milliseconds += time as u64;
                        for (kind, passed) in kinds.iter_mut().enumerate() {
                            let voltage = table[kind * groups + group] >> (6 - 2 * phase) & 3;
                            match voltage {
                                1 => passed.push((time, -1)),
                                2 => passed.push((time, 1)),
                                _ => {}
                            }
                        }
                    }
                }
            }
        }
        (milliseconds, kinds)
    }

    /// Command 0x20.
    fn activate(&mut self) {
        // clock, analogue part, display
        if self.sequence & 0xC4 != 0xC4 {
            self.side.complaints.add(Complaint::NotImitated(code::UPDATE_2));
            return;
        }
        let (milliseconds, kinds) = self.phases();
        for (at, level) in self.pigment.iter_mut().enumerate() {
            let bit = |ram: &[u8]| ram[at / 8] >> (7 - at % 8) & 1;
            let kind = usize::from(bit(&self.rams[1])) * 2 + usize::from(bit(&self.rams[0]));
            for (time, towards) in &kinds[kind] {
                *level = (*level + time * towards).clamp(0, WHITE);
            }
        }
        self.busy_until = self.side.meter.now() + milliseconds * 1_000_000;
        self.side.meter.refresh(milliseconds * 1_000_000);
    }

    /// Carries out a command with its parameters; what is wrong with it, if something is.
    fn execute(&mut self, command: u8) -> Option<Complaint> {
        let bad = Some(Complaint::BadParameter(command));
        match (command, &self.pending[..]) {
            (code::DRIVER_OUTPUT, [low, high, 0])
                if u16::from_le_bytes([*low, *high]) == HEIGHT as u16 - 1 => {}
            (code::ENTRY_MODE, [0x03]) | (code::UPDATE_1, [0x00, 0x80]) => {}
            (code::DRIVER_OUTPUT | code::ENTRY_MODE | code::UPDATE_1, _) => {
                return Some(Complaint::NotImitated(command));
            }
            (code::SLEEP, [mode]) => self.asleep = mode & 3 != 0,
            (code::UPDATE_2, [sequence]) => self.sequence = *sequence,
            (code::WAVEFORM, table) => {
                if table[..5 * waveform::GROUPS].iter().any(|phases| phases & phases << 1 & 0xAA != 0) {
                    // the third voltage
                    return Some(Complaint::NotImitated(command));
                }
                self.waveform = table.to_vec();
            }
            (code::COLUMNS, &[start, end]) => {
                if start > end || usize::from(end) >= ROW {
                    return bad;
                }
                self.columns = (start, end);
            }
            (code::ROWS, &[low, high, end_low, end_high]) => {
                let rows = (u16::from_le_bytes([low, high]), u16::from_le_bytes([end_low, end_high]));
                if rows.0 > rows.1 || usize::from(rows.1) >= HEIGHT {
                    return bad;
                }
                self.rows = rows;
            }
            (code::COLUMN, &[at]) => {
                if usize::from(at) >= ROW {
                    return bad;
                }
                self.pointer.0 = at;
            }
            (code::ROW, &[low, high]) => {
                let at = u16::from_le_bytes([low, high]);
                if usize::from(at) >= HEIGHT {
                    return bad;
                }
                self.pointer.1 = at;
            }
            // voltages and the border: they do not move pixels
            _ => {}
        }
        None
    }

    fn store(&mut self, red: bool, byte: u8) {
        let (column, row) = self.pointer;
        self.rams[usize::from(red)][usize::from(row) * ROW + usize::from(column)] = byte;
        self.pointer = if column < self.columns.1 {
            (column + 1, row)
        } else {
            (self.columns.0, if row < self.rows.1 { row + 1 } else { self.rows.0 })
        };
    }
}

/// How many bytes follow a command; `None` if there is none of this code.
fn parameters(command: u8) -> Option<usize> {
    Some(match command {
        code::RESET | code::ACTIVATE | code::NOP => 0,
        code::GATE_VOLTAGE
        | code::SLEEP
        | code::ENTRY_MODE
        | code::UPDATE_2
        | code::VCOM
        | code::BORDER
        | code::WAVEFORM_END
        | code::COLUMN => 1,
        code::UPDATE_1 | code::COLUMNS | code::ROW => 2,
        code::DRIVER_OUTPUT | code::SOURCE_VOLTAGE => 3,
        code::ROWS => 4,
        code::WAVEFORM => waveform::BYTES,
        // as many as there are
        code::BLACK_WHITE | code::RED => usize::MAX,
        _ => return None,
    })
}

impl SpiPanel for Ssd1680Panel {
    fn side(&self) -> &Side {
        &self.side
    }

    fn side_mut(&mut self) -> &mut Side {
        &mut self.side
    }

    fn is_busy(&self) -> bool {
        self.side.meter.now() < self.busy_until
    }

    fn command(&mut self, command: u8) {
        let earlier = self.current.take();
        if let Some(earlier) = earlier.filter(|earlier| parameters(*earlier) != Some(usize::MAX)) {
            self.side.complaints.add(Complaint::MissingParameters(earlier));
        }
        self.pending.clear();
        let complaint = match (command, parameters(command)) {
            _ if self.asleep => Complaint::NotListening,
            _ if self.is_busy() => Complaint::TooEarly(command),
            // what is read, and what a panel's maker burns in
            (0x08..=0x0A | 0x0C | 0x18 | 0x1A..=0x1C | 0x27..=0x29 | 0x2A | 0x2B | 0x2D..=0x31, None)
            | (0x14 | 0x15 | 0x33..=0x39 | 0x41 | 0x46 | 0x47, None) => Complaint::NotImitated(command),
            (_, None) => Complaint::UnknownCommand(command),
            (code::RESET, _) => {
                self.reset();
                return;
            }
            (code::ACTIVATE, _) => {
                self.activate();
                return;
            }
            (_, Some(0)) => return,
            (_, Some(_)) => {
                self.current = Some(command);
                return;
            }
        };
        self.side.complaints.add(complaint);
    }

    fn parameter(&mut self, byte: u8) {
        let Some(command) = self.current else {
            self.side.complaints.add(Complaint::StrayData);
            return;
        };
        if matches!(command, code::BLACK_WHITE | code::RED) {
            self.store(command == code::RED, byte);
            return;
        }
        self.pending.push(byte);
        if Some(self.pending.len()) == parameters(command) {
            self.current = None;
            if let Some(complaint) = self.execute(command) {
                self.side.complaints.add(complaint);
            }
            self.pending.clear();
        }
    }

    /// The RAMs and the glass stay as they are.
    fn reset(&mut self) {
        self.columns = (0, ROW as u8 - 1);
        self.rows = (0, HEIGHT as u16 - 1);
        self.pointer = (0, 0);
        self.sequence = 0;
        self.current = None;
        self.pending.clear();
        self.asleep = false;
        self.busy_until = self.side.meter.now() + RESET_NS;
    }

    /// So does the glass without power.
    fn lose_power(&mut self) {
        let mut noise = noise();
        let mut ram = || noise.by_ref().take(ROW * HEIGHT).map(|noise| (noise >> 24) as u8).collect();
        self.rams = [ram(), ram()];
        self.waveform.fill(0);
        self.reset();
        self.busy_until = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A command and its parameters.
    type Step<'a> = (u8, &'a [u8]);

    /// A module on its side of the bus after these commands, each of which waits until the last is done.
    fn panel(steps: &[Step<'_>]) -> Ssd1680Panel {
        let clock = Clock::default();
        let mut panel = Ssd1680Panel::new(clock.clone(), 10_000_000);
        panel.side.selected = true;
        for (command, parameters) in steps {
            clock.advance(3_000_000_000);
            panel.side.data = false;
            panel.receive(&[*command]);
            panel.side.data = true;
            panel.receive(parameters);
        }
        panel
    }

    /// Shows the RAMs with all bits of both as given.
    fn shown(waveform: &[u8], black_white: u8, red: u8) -> Ssd1680Panel {
        panel(&[
            (code::BLACK_WHITE, &[black_white; ROW * HEIGHT]),
            (code::RED, &[red; ROW * HEIGHT]),
            (code::WAVEFORM, waveform),
            (code::UPDATE_2, &[0xC7]),
            (code::ACTIVATE, &[]),
        ])
    }

    #[test]
    fn waveforms_take_as_long_and_end_as_their_names_say() {
        let all = |panel: &Ssd1680Panel| {
            let level = panel.pigment[0];
            panel.pigment.iter().all(|other| *other == level).then_some(level * 100 / WHITE)
        };
        // bits of 0x24 and 0x26; milliseconds; percent of white, whatever was there before
        let table: [(&[u8], u8, u8, u64, i32); 6] = [
            (&waveform::FULL, 0, 0, 1940, 0),
            (&waveform::FULL, 0xFF, 0xFF, 1940, 100),
            (&waveform::GREYS, 0, 0, 2280, 100),
            (&waveform::GREYS, 0xFF, 0, 2280, 80),
            (&waveform::GREYS, 0, 0xFF, 2280, 30),
            (&waveform::GREYS, 0xFF, 0xFF, 2280, 0),
        ];
        for (waveform, black_white, red, milliseconds, white) in table {
            let panel = shown(waveform, black_white, red);
            assert_eq!(panel.load().refresh, milliseconds * 1_000_000);
            assert_eq!(all(&panel), Some(white), "{black_white} {red}");
            assert!(panel.is_busy() && panel.side.complaints.is_empty(), "{:?}", panel.side.complaints);
        }
        // a partial refresh moves what differs
        assert_eq!(all(&shown(&waveform::PARTIAL, 0xFF, 0)), Some(100));
        assert_eq!(all(&shown(&waveform::PARTIAL, 0, 0xFF)), Some(0));
        assert_eq!(all(&shown(&waveform::PARTIAL, 0, 0)), None, "what was there stays, a little blacker");
        assert_eq!(shown(&waveform::PARTIAL, 0, 0).load().refresh, 620_000_000);
    }

    #[test]
    fn windows_and_complaints() {
        let panel_of = |steps: &[Step<'_>]| {
            let mut panel = panel(&[(code::NOP, &[])]);
            panel.rams[0].fill(0);
            for (command, parameters) in steps {
                panel.side.data = false;
                panel.receive(&[*command]);
                panel.side.data = true;
                panel.receive(parameters);
            }
            panel
        };
        let window: [Step<'_>; 5] = [
            (code::COLUMNS, &[2, 3]),
            (code::ROWS, &[0x00, 0x01, 0x01, 0x01]),
            (code::COLUMN, &[2]),
            (code::ROW, &[0x00, 0x01]),
            (code::BLACK_WHITE, &[1, 2, 3, 4, 5]),
        ];
        let panel = panel_of(&window);
        let found = (0..ROW * HEIGHT).filter(|at| panel.rams[0][*at] != 0);
        let found: Vec<_> = found.map(|at| (at % ROW, at / ROW, panel.rams[0][at])).collect();
        assert_eq!(found, [(2, 256, 5), (3, 256, 2), (2, 257, 3), (3, 257, 4)]);
        let table: [(&[Step<'_>], Complaint); 8] = [
            (&[(0xF0, &[])], Complaint::UnknownCommand(0xF0)),
            (&[(0x27, &[])], Complaint::NotImitated(0x27)),
            (&[(code::ENTRY_MODE, &[0])], Complaint::NotImitated(code::ENTRY_MODE)),
            (&[(code::ROWS, &[0, 0, 0, 2])], Complaint::BadParameter(code::ROWS)),
            (&[(code::ROW, &[0]), (code::NOP, &[])], Complaint::MissingParameters(code::ROW)),
            (&[(code::NOP, &[0])], Complaint::StrayData),
            (&[(code::RESET, &[]), (code::ENTRY_MODE, &[])], Complaint::TooEarly(code::ENTRY_MODE)),
            (&[(code::SLEEP, &[1]), (code::NOP, &[])], Complaint::NotListening),
        ];
        for (steps, complaint) in table {
            let complaints = panel_of(steps).side.complaints;
            assert_eq!(complaints.lines().count(), 1, "{complaints:?}");
            assert_eq!(complaints.count(complaint), 1, "{complaint} in {complaints:?}");
        }
    }
}
