//! A Linux framebuffer (`/dev/fb0`) as a `DrawTarget`: a screen on HDMI, or a panel that a kernel driver runs (fbtft,
//! panel-mipi-dbi).
//!
//! Size, depth and bytes of a row are read below `/sys/class/graphics`, and pixels are written to the device as to a
//! file, so no ioctl and no mapped memory is needed, and a test can use a file. The kernel's documentation of the
//! framebuffer device, `Documentation/fb/framebuffer.rst`, describes both.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use edgegen_firmware::PanelColor;
use edgegen_runtime::measure::Root;
use embedded_graphics::pixelcolor::{BinaryColor, Rgb565, Rgb888};
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::Rectangle;

use super::device::{Device, DeviceError, Mounting};

/// Longest side: 4096 pixels, what [`edgegen_firmware`]'s painter is given memory for.
pub const LONGEST_SIDE: u32 = 4096;

/// Why there is no framebuffer.
#[derive(Debug)]
pub enum FramebufferError {
    /// The device cannot be opened or written.
    Device {
        /// The device.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The kernel tells nothing, or nothing sensible, about the device.
    Unknown {
        /// The file that should tell it.
        path: PathBuf,
        /// What is missing.
        what: &'static str,
    },
    /// Pixels that are neither of one bit, nor RGB565, nor of 24 or 32 bits.
    Depth {
        /// The device.
        path: PathBuf,
        /// Bits a pixel.
        bits: u32,
    },
}

impl fmt::Display for FramebufferError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device { path, error } if error.kind() == io::ErrorKind::NotFound => write!(
                out,
                "there is no framebuffer {}: connect a screen or set up a panel's overlay, and restart; edgegen doctor \
                 tells more",
                path.display()
            ),
            Self::Device { path, error } if error.kind() == io::ErrorKind::PermissionDenied => {
                write!(out, "{}: {error}: the user has to be in the group video", path.display())
            }
            Self::Device { path, error } => write!(out, "{}: {error}", path.display()),
            Self::Unknown { path, what } => write!(out, "{} does not tell {what}", path.display()),
            Self::Depth { path, bits } => write!(
                out,
                "{} has {bits} bits a pixel: 1, 16 (RGB565), 24 (RGB888) and 32 (XRGB8888) are known here; \
                 dtoverlay=vc4-kms-v3d in config.txt gives one of them",
                path.display()
            ),
        }
    }
}

impl std::error::Error for FramebufferError {}

/// A colour as a framebuffer stores it: little-endian.
pub trait FramebufferColor: PanelColor {
    /// Whether pixels of so many bits can hold it.
    fn fits(bits: u32) -> bool;
    /// The same with red and blue, or light and dark, exchanged.
    fn exchanged(self, bgr: bool, inverted: bool) -> Self;
    /// Writes pixel `x` of a row, of so many bits.
    fn store(self, row: &mut [u8], x: usize, bits: u32);
}

impl FramebufferColor for BinaryColor {
    fn fits(bits: u32) -> bool {
        bits == 1
    }

    fn exchanged(self, _: bool, inverted: bool) -> Self {
        if inverted { self.invert() } else { self }
    }

    /// The leftmost of eight pixels is the lowest bit, as the kernel's ssd1307fb has them.
    fn store(self, row: &mut [u8], x: usize, _: u32) {
        let bit = 1 << (x % 8);
        if self.is_on() {
            row[x / 8] |= bit;
        } else {
            row[x / 8] &= !bit;
        }
    }
}

impl FramebufferColor for Rgb565 {
    fn fits(bits: u32) -> bool {
        bits == 16
    }

    fn exchanged(self, bgr: bool, inverted: bool) -> Self {
        let color = if bgr { Self::new(self.b(), self.g(), self.r()) } else { self };
        if inverted { Self::new(31 - color.r(), 63 - color.g(), 31 - color.b()) } else { color }
    }

    fn store(self, row: &mut [u8], x: usize, _: u32) {
        row[x * 2..][..2].copy_from_slice(&self.into_storage().to_le_bytes());
    }
}

impl FramebufferColor for Rgb888 {
    fn fits(bits: u32) -> bool {
        matches!(bits, 24 | 32)
    }

    fn exchanged(self, bgr: bool, inverted: bool) -> Self {
        let color = if bgr { Self::new(self.b(), self.g(), self.r()) } else { self };
        if inverted { Self::new(255 - color.r(), 255 - color.g(), 255 - color.b()) } else { color }
    }

    fn store(self, row: &mut [u8], x: usize, bits: u32) {
        // blue, green, red, and nothing where there is room for it
        let bytes = (bits / 8) as usize;
        row[x * bytes..][..bytes].copy_from_slice(&self.into_storage().to_le_bytes()[..bytes]);
    }
}

/// What the kernel tells of a framebuffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The device's file.
    pub path: PathBuf,
    /// Pixels that are seen.
    pub size: Size,
    /// Bits of a pixel.
    pub bits: u32,
    /// Bytes of a row.
    pub stride: usize,
}

impl Description {
    /// Reads what there is to know about `device`, for example `/dev/fb0`.
    ///
    /// # Errors
    /// If the device does not exist, or the kernel does not tell its size, depth and stride, or a side is 0 or above
    /// [`LONGEST_SIDE`].
    pub fn read(root: &Root, device: &str) -> Result<Self, FramebufferError> {
        let path = root.path(device);
        if let Err(error) = std::fs::metadata(&path) {
            return Err(FramebufferError::Device { path, error });
        }
        let name = Path::new(device).file_name().unwrap_or_default().to_string_lossy();
        let folder = root.path(&format!("/sys/class/graphics/{name}"));
        let text = |file: &str| std::fs::read_to_string(folder.join(file)).ok();
        let number = |file: &str| text(file)?.trim().parse::<u32>().ok();
        let unknown = |file: &str, what| FramebufferError::Unknown { path: folder.join(file), what };
        // the mode is what is seen; the virtual size may hold several pictures
        let size = text("mode").and_then(|mode| size_of_mode(&mode));
        let size = size.or_else(|| text("virtual_size").and_then(|size| pair(size.trim(), ',')));
        let size = size.filter(|size| {
            let fits = |side| (1..=LONGEST_SIDE).contains(&side);
            fits(size.width) && fits(size.height)
        });
        let size = size.ok_or_else(|| unknown("virtual_size", "a size"))?;
        let bits = number("bits_per_pixel").ok_or_else(|| unknown("bits_per_pixel", "a number of bits"))?;
        let stride = number("stride").ok_or_else(|| unknown("stride", "the bytes of a row"))? as usize;
        if stride < (size.width as usize * bits as usize).div_ceil(8) {
            return Err(unknown("stride", "bytes enough for a row"));
        }
        Ok(Self { path, size, bits, stride })
    }
}

/// `U:1920x1080p-60` → 1920 × 1080.
fn size_of_mode(mode: &str) -> Option<Size> {
    let (_, sides) = mode.trim().split_once(':')?;
    let end = sides.rfind(['p', 'i']).unwrap_or(sides.len());
    pair(&sides[..end], 'x')
}

fn pair(text: &str, between: char) -> Option<Size> {
    let (width, height) = text.split_once(between)?;
    Some(Size::new(width.parse().ok()?, height.parse().ok()?))
}

/// An open framebuffer. What is drawn is kept until [`Self::write`].
#[derive(Debug)]
pub struct Framebuffer<C> {
    device: File,
    description: Description,
    mounting: Mounting,
    /// Every row that is seen, as it is stored.
    memory: Vec<u8>,
    /// Rows that differ from what the device shows.
    drawn: Range<usize>,
    color: PhantomData<C>,
}

impl<C: FramebufferColor> Framebuffer<C> {
    /// Opens a framebuffer for writing.
    ///
    /// # Errors
    /// [`FramebufferError::Depth`] if its pixels are not `C`'s, [`FramebufferError::Device`] if it may not be written.
    pub fn open(description: Description, mounting: Mounting) -> Result<Self, FramebufferError> {
        if !C::fits(description.bits) {
            return Err(FramebufferError::Depth { path: description.path, bits: description.bits });
        }
        let device = OpenOptions::new().write(true).open(&description.path);
        let device =
            device.map_err(|error| FramebufferError::Device { path: description.path.clone(), error })?;
        let memory = vec![0; description.stride * description.size.height as usize];
        Ok(Self { device, description, mounting, memory, drawn: 0..0, color: PhantomData })
    }

    /// Writes the rows that were drawn on to the device.
    ///
    /// # Errors
    /// If the device cannot be written.
    pub fn write(&mut self) -> Result<(), FramebufferError> {
        let stride = self.description.stride;
        let bytes = self.drawn.start * stride..self.drawn.end * stride;
        let written = self.device.write_all_at(&self.memory[bytes.clone()], bytes.start as u64);
        written.map_err(|error| FramebufferError::Device { path: self.description.path.clone(), error })?;
        self.drawn = 0..0;
        Ok(())
    }

    /// Sets a pixel that is inside.
    fn set(&mut self, at: Point, color: C) {
        let Mounting { bgr, inverted, .. } = self.mounting;
        let (x, y) = self.mounting.place(self.description.size, at);
        let bits = self.description.bits;
        color.exchanged(bgr, inverted).store(self.row(y), x, bits);
    }

    /// A row, which counts as drawn.
    fn row(&mut self, y: usize) -> &mut [u8] {
        self.drawn = match self.drawn.is_empty() {
            true => y..y + 1,
            false => self.drawn.start.min(y)..self.drawn.end.max(y + 1),
        };
        let stride = self.description.stride;
        &mut self.memory[y * stride..][..stride]
    }
}

impl<C: FramebufferColor> Device for Framebuffer<C> {
    type Target = Self;

    fn target(&mut self) -> &mut Self {
        self
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        self.write().map_err(|error| DeviceError::new("framebuffer", error.to_string()))
    }
}

impl<C> OriginDimensions for Framebuffer<C> {
    fn size(&self) -> Size {
        self.mounting.drawn(self.description.size)
    }
}

impl<C: FramebufferColor> DrawTarget for Framebuffer<C> {
    type Color = C;
    type Error = std::convert::Infallible;

    fn draw_iter<I>(&mut self, pixels: I) -> Result<(), Self::Error>
    where
        I: IntoIterator<Item = Pixel<Self::Color>>,
    {
        let area = self.bounding_box();
        for Pixel(at, color) in pixels.into_iter().filter(|Pixel(at, _)| area.contains(*at)) {
            self.set(at, color);
        }
        Ok(())
    }

    fn fill_contiguous<I>(&mut self, area: &Rectangle, colors: I) -> Result<(), Self::Error>
    where
        I: IntoIterator<Item = Self::Color>,
    {
        let seen = self.bounding_box();
        if seen.intersection(area) != *area || self.mounting != Mounting::default() {
            return self.draw_iter(area.points().zip(colors).map(|(at, color)| Pixel(at, color)));
        }
        let (x, y) = (area.top_left.x as usize, area.top_left.y as usize);
        let bits = self.description.bits;
        let mut colors = colors.into_iter();
        for y in y..y + area.size.height as usize {
            let row = self.row(y);
            (x..x + area.size.width as usize)
                .zip(&mut colors)
                .for_each(|(x, color)| color.store(row, x, bits));
        }
        Ok(())
    }

    fn fill_solid(&mut self, area: &Rectangle, color: Self::Color) -> Result<(), Self::Error> {
        self.fill_contiguous(area, std::iter::repeat(color))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree with a framebuffer of 4 × 3 pixels in rows of `stride` bytes, full of 0xee.
    fn tree(bits: u32, stride: usize, mode: Option<&str>) -> (tempfile::TempDir, Root) {
        let folder = tempfile::tempdir().unwrap();
        let sys = folder.path().join("sys/class/graphics/fb0");
        std::fs::create_dir_all(&sys).unwrap();
        std::fs::create_dir(folder.path().join("dev")).unwrap();
        // room for two pictures
        std::fs::write(folder.path().join("dev/fb0"), vec![0xee; stride * 6]).unwrap();
        let virtual_size = if mode.is_some() { "4,6\n" } else { "4,3\n" };
        std::fs::write(sys.join("virtual_size"), virtual_size).unwrap();
        std::fs::write(sys.join("bits_per_pixel"), format!("{bits}\n")).unwrap();
        std::fs::write(sys.join("stride"), format!("{stride}\n")).unwrap();
        if let Some(mode) = mode {
            std::fs::write(sys.join("mode"), format!("{mode}\n")).unwrap();
        }
        let root = Root::at(folder.path());
        (folder, root)
    }

    #[test]
    fn the_mode_counts_and_else_the_virtual_size() {
        for mode in [None, Some("U:4x3p-60"), Some("U:4x3i-0")] {
            let (_folder, root) = tree(32, 20, mode);
            let description = Description::read(&root, "/dev/fb0").unwrap();
            assert_eq!((description.size, description.bits, description.stride), (Size::new(4, 3), 32, 20));
        }
        assert_eq!(size_of_mode("nonsense"), None);
    }

    #[test]
    fn pixels_are_stored_as_the_kernel_has_them_and_nothing_else_is_touched() {
        let (folder, root) = tree(32, 20, Some("U:4x3p-0"));
        let mut buffer =
            Framebuffer::<Rgb888>::open(Description::read(&root, "/dev/fb0").unwrap(), Mounting::default())
                .unwrap();
        buffer.fill_solid(&Rectangle::new(Point::new(1, 1), Size::new(2, 1)), Rgb888::new(1, 2, 3)).unwrap();
        Pixel(Point::new(9, 9), Rgb888::WHITE).draw(&mut buffer).unwrap();
        buffer.write().unwrap();
        let bytes = std::fs::read(folder.path().join("dev/fb0")).unwrap();
        assert_eq!(bytes.len(), 120);
        assert_eq!(bytes[20..32], [0, 0, 0, 0, 3, 2, 1, 0, 3, 2, 1, 0]);
        // rows that nobody drew on stay what they were
        assert!(bytes[..20].iter().chain(&bytes[40..]).all(|byte| *byte == 0xee));

        let (folder, root) = tree(16, 8, None);
        let mut buffer =
            Framebuffer::<Rgb565>::open(Description::read(&root, "/dev/fb0").unwrap(), Mounting::default())
                .unwrap();
        // half of it is outside
        let area = Rectangle::new(Point::new(3, 0), Size::new(2, 1));
        buffer.fill_contiguous(&area, [Rgb565::RED, Rgb565::GREEN]).unwrap();
        buffer.write().unwrap();
        let bytes = std::fs::read(folder.path().join("dev/fb0")).unwrap();
        assert_eq!(bytes[..10], [0, 0, 0, 0, 0, 0, 0x00, 0xf8, 0xee, 0xee]);

        let (folder, root) = tree(1, 2, None);
        let mut buffer = Framebuffer::<BinaryColor>::open(
            Description::read(&root, "/dev/fb0").unwrap(),
            Mounting::default(),
        )
        .unwrap();
        buffer.clear(BinaryColor::On).unwrap();
        Pixel(Point::new(1, 2), BinaryColor::Off).draw(&mut buffer).unwrap();
        buffer.write().unwrap();
        let bytes = std::fs::read(folder.path().join("dev/fb0")).unwrap();
        assert_eq!(bytes[..6], [0b1111, 0, 0b1111, 0, 0b1101, 0]);
    }

    #[test]
    fn three_bytes_a_pixel_turned_mirrored_and_exchanged() {
        let shown = |mounting| {
            let (folder, root) = tree(24, 12, None);
            let description = Description::read(&root, "/dev/fb0").unwrap();
            let mut buffer = Framebuffer::<Rgb888>::open(description, mounting).unwrap();
            buffer.clear(Rgb888::BLACK).unwrap();
            let area = Rectangle::new(Point::new(1, 0), Size::new(1, 1));
            buffer.fill_contiguous(&area, [Rgb888::new(1, 2, 3)]).unwrap();
            buffer.write().unwrap();
            let bytes = std::fs::read(folder.path().join("dev/fb0")).unwrap();
            let at = (0..12).find(|pixel| bytes[pixel * 3..][..3] != bytes[33..36]).unwrap();
            (at, [bytes[at * 3], bytes[at * 3 + 1], bytes[at * 3 + 2]])
        };
        let upright = Mounting::default();
        assert_eq!(shown(upright), (1, [3, 2, 1]));
        assert_eq!(shown(Mounting { bgr: true, ..upright }), (1, [1, 2, 3]));
        assert_eq!(shown(Mounting { inverted: true, ..upright }), (1, [252, 253, 254]));
        assert_eq!(shown(Mounting { mirrored: true, ..upright }), (2, [3, 2, 1]));
        assert_eq!(shown(Mounting::turned(1)), (7, [3, 2, 1]), "the second row of four, at the right");
        assert_eq!(shown(Mounting::turned(2)), (10, [3, 2, 1]));
    }

    #[test]
    fn what_is_no_framebuffer_is_an_error_in_words() {
        let (folder, root) = tree(8, 12, None);
        let description = Description::read(&root, "/dev/fb0").unwrap();
        let depth = Framebuffer::<Rgb888>::open(description, Mounting::default()).unwrap_err().to_string();
        assert!(depth.contains("8 bits"), "{depth}");
        let none = Description::read(&root, "/dev/fb1").unwrap_err().to_string();
        assert!(none.contains("no framebuffer"), "{none}");
        std::fs::write(folder.path().join("sys/class/graphics/fb0/stride"), "3").unwrap();
        let narrow = Description::read(&root, "/dev/fb0").unwrap_err().to_string();
        assert!(narrow.contains("stride"), "{narrow}");
        std::fs::write(folder.path().join("sys/class/graphics/fb0/virtual_size"), "0,70000").unwrap();
        let size = Description::read(&root, "/dev/fb0").unwrap_err().to_string();
        assert!(size.contains("virtual_size"), "{size}");
    }
}
