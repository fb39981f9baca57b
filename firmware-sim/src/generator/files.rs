//! Pictures from files: one that another program writes again and again, as a camera's, or those of a folder.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use edgegen_firmware::PictureShape;
use edgegen_firmware::sample::{Filter, Sampler};
use edgegen_runtime::generate::Frame;
use edgegen_runtime::model::{ImageShape, PixelFormat};

use super::SourceError;

/// Longest side of a picture that is read.
#[cfg(not(feature = "read-pictures"))]
const LONGEST_SIDE: usize = 4096;
/// How often a picture is shown as it was while its file cannot be read.
const MOST_UNREAD: u32 = 3;
/// Endings of the files that are read.
#[cfg(feature = "read-pictures")]
const ENDINGS: &[&str] = &["png", "jpg", "jpeg", "gif"];
#[cfg(not(feature = "read-pictures"))]
const ENDINGS: &[&str] = &["png"];

/// The pictures of a file or a folder. They are read when they are asked for, and again when they have changed.
#[derive(Debug)]
pub struct Files {
    path: PathBuf,
    /// The picture that was read last, as it was then.
    last: Option<(PathBuf, Option<SystemTime>, Frame)>,
    /// How often it could not be read since.
    unread: u32,
}

impl Files {
    /// Those of `path`.
    ///
    /// # Errors
    /// If there is no such file or folder, or the folder holds no pictures.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let files = Self { path: path.to_owned(), last: None, unread: 0 };
        files.number(0)?;
        Ok(files)
    }

    /// Picture `number` in the order of their names, from the first again after the last.
    fn number(&self, number: u64) -> Result<PathBuf, SourceError> {
        let unread = |error: std::io::Error| SourceError::Unfit(format!("{}: {error}", self.path.display()));
        if !self.path.metadata().map_err(unread)?.is_dir() {
            return Ok(self.path.clone());
        }
        let paths = self.path.read_dir().map_err(unread)?.flatten().map(|entry| entry.path());
        let is_picture = |path: &PathBuf| {
            let ending = path.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase);
            ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str())) && path.is_file()
        };
        let mut paths: Vec<PathBuf> = paths.filter(is_picture).collect();
        if paths.is_empty() {
            let problem = format!("this folder holds no pictures ({})", ENDINGS.join(", "));
            return Err(SourceError::Unfit(format!("{}: {problem}", self.path.display())));
        }
        paths.sort();
        let index = (number % paths.len() as u64) as usize;
        Ok(paths.swap_remove(index))
    }

    /// Picture `number`, and whether it is another than the last time.
    ///
    /// A file that cannot be read is shown as it was, a few times, if it was read before: the program that writes it may not be done.
    ///
    /// # Errors
    /// If the picture cannot be read.
    pub fn picture(&mut self, number: u64) -> Result<(&Frame, bool), SourceError> {
        let path = self.number(number)?;
        let written = path.metadata().and_then(|metadata| metadata.modified()).ok();
        let known = self.last.as_ref().is_some_and(|(last, time, _)| *last == path && *time == written);
        let mut new = false;
        if !known {
            match (read(&path), &self.last) {
                (Ok(frame), _) => {
                    self.last = Some((path, written, frame));
                    self.unread = 0;
                    new = true;
                }
                (Err(_), Some((last, ..))) if *last == path && self.unread < MOST_UNREAD => self.unread += 1,
                (Err(error), _) => return Err(error.into()),
            }
        }
        match &self.last {
            Some((_, _, frame)) => Ok((frame, new)),
            None => Err(SourceError::Unfit(format!("{}: there is no picture", self.path.display()))),
        }
    }
}

#[cfg(feature = "read-pictures")]
fn read(path: &Path) -> edgegen_runtime::Result<Frame> {
    edgegen_runtime::pictures::read_whole_picture(path)
}

#[cfg(not(feature = "read-pictures"))]
fn read(path: &Path) -> edgegen_runtime::Result<Frame> {
    edgegen_runtime::pictures::read_png(path, LONGEST_SIDE)
}

/// The middle of a picture with the proportions of `width` × `height`, at that size; one that has it stays as it is. It grows between
/// pixels, and shrinks by averages.
pub(super) fn fitted(frame: &Frame, (width, height): (usize, usize)) -> Result<Frame, SourceError> {
    let too_large = || SourceError::TooLarge { sizes: [frame.format.channels(), frame.width, frame.height] };
    if (frame.width, frame.height) == (width, height) {
        return Ok(frame.clone());
    }
    let wide = frame.width * height > frame.height * width;
    let (own_width, own_height) = if wide {
        ((frame.height * width / height).max(1), frame.height)
    } else {
        (frame.width, (frame.width * height / width).max(1))
    };
    let (left, top) = ((frame.width - own_width) / 2, (frame.height - own_height) / 2);
    let channels = frame.format.channels();
    let mut cut = Vec::with_capacity(own_width * own_height * channels);
    for y in top..top + own_height {
        cut.extend_from_slice(&frame.pixels[(y * frame.width + left) * channels..][..own_width * channels]);
    }
    let side = |side: usize| u16::try_from(side).ok();
    let shape = side(own_width).zip(side(own_height));
    let shape = shape.and_then(|(width, height)| PictureShape::new(channels as u8, width, height));
    let filter = if own_width < width { Filter::Bilinear } else { Filter::Area };
    let shape = shape.ok_or_else(too_large)?;
    let sampler = Sampler::new(&cut, shape, (width as u32, height as u32), filter).ok_or_else(too_large)?;
    let mut pixels = Vec::with_capacity(width * height * channels);
    for y in 0..height as u32 {
        for x in 0..width as u32 {
            pixels.extend_from_slice(&sampler.at(x, y)[..channels]);
        }
    }
    Ok(Frame { width, height, format: frame.format, pixels })
}

/// A picture as a network takes it: of its size and channels.
pub(super) fn brought_to(frame: &Frame, shape: ImageShape) -> Result<Frame, SourceError> {
    let fitted = fitted(frame, (shape.width, shape.height))?;
    let pixels = match (fitted.format, shape.channels) {
        (PixelFormat::Rgb8, 1) => fitted.pixels.chunks_exact(3).map(luminance).collect(),
        (PixelFormat::Gray8, 3) => fitted.pixels.iter().flat_map(|level| [*level; 3]).collect(),
        _ => return Ok(fitted),
    };
    let format = PixelFormat::from_channels(shape.channels).unwrap_or(PixelFormat::Rgb8);
    Ok(Frame { format, pixels, ..fitted })
}

/// ITU-R BT.601's luma, rounded.
pub(super) fn luminance(pixel: &[u8]) -> u8 {
    let [red, green, blue] = [pixel[0], pixel[1], pixel[2]].map(u32::from);
    ((299 * red + 587 * green + 114 * blue + 500) / 1000) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use edgegen_runtime::pictures::write_png;

    fn frame(width: usize, height: usize, level: u8) -> Frame {
        let pixels = vec![level; width * height];
        Frame { width, height, format: PixelFormat::Gray8, pixels }
    }

    #[test]
    fn a_folder_is_shown_in_order_and_a_file_when_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        assert!(Files::open(&path("none")).unwrap_err().to_string().contains("none"));
        assert!(Files::open(folder.path()).unwrap_err().to_string().contains("no pictures"));
        write_png(&frame(2, 2, 7), &path("b.png")).unwrap();
        write_png(&frame(2, 2, 9), &path("a.PNG")).unwrap();
        std::fs::write(path("c.txt"), "").unwrap();
        let mut files = Files::open(folder.path()).unwrap();
        let shown = |files: &mut Files, number| {
            files.picture(number).map(|(frame, new)| (frame.pixels[0], new)).unwrap()
        };
        assert_eq!(
            [0, 1, 2, 2].map(|number| shown(&mut files, number)),
            [(9, true), (7, true), (9, true), (9, false)]
        );
        // half-written: as it was
        let mut one = Files::open(&path("b.png")).unwrap();
        assert_eq!(shown(&mut one, 5), (7, true));
        std::fs::write(path("b.png"), b"\x89PNG").unwrap();
        let later = SystemTime::now() + std::time::Duration::from_secs(5);
        std::fs::File::options().append(true).open(path("b.png")).unwrap().set_modified(later).unwrap();
        assert_eq!([6, 7, 8].map(|number| shown(&mut one, number)), [(7, false); 3]);
        assert!(one.picture(9).unwrap_err().to_string().contains("b.png"), "it stays broken");
        assert!(Files::open(&path("b.png")).unwrap().picture(0).is_err());
        write_png(&frame(2, 2, 8), &path("b.png")).unwrap();
        assert_eq!(shown(&mut one, 9), (8, true));
    }

    #[test]
    fn the_middle_is_brought_to_the_size() {
        let mut wide = frame(8, 2, 0);
        for y in 0..2 {
            wide.pixels[y * 8 + 3..][..2].fill(100);
        }
        assert_eq!(fitted(&wide, (2, 2)).unwrap().pixels, [100; 4]);
        assert_eq!(fitted(&wide, (1, 1)).unwrap().pixels, [100]);
        assert_eq!(fitted(&wide, (8, 2)).unwrap(), wide);
        assert_eq!(fitted(&frame(3, 9, 5), (6, 6)).unwrap().pixels, [5; 36]);
        let colour = Frame { width: 1, height: 1, format: PixelFormat::Rgb8, pixels: vec![255, 0, 0] };
        let shape = |channels| ImageShape { channels, height: 1, width: 1 };
        assert_eq!(brought_to(&colour, shape(1)).unwrap().pixels, [76]);
        assert_eq!(brought_to(&frame(1, 1, 8), shape(3)).unwrap().pixels, [8; 3]);
    }
}
