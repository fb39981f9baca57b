//! Pictures of any size through a network from pictures to pictures, whole or by tiles.

use super::{Frame, Transformer, from_pixels};
use crate::limits::{MAX_RUN_VALUES, check_count};
use crate::model::{Facts, ImageShape, Model, PixelFormat, Range};
use crate::{Error, Result};
use std::ops::Range as Span;

/// Longest side of a tile that is run at once, if no other is asked for.
pub const USUAL_TILE: usize = 512;

/// Opens a network for pictures of a height and a width; of `None`: of the usual ones.
pub type Opener<'a> = dyn Fn(Option<(usize, usize)>) -> Result<Model> + 'a;

/// Turns pictures of any size into pictures.
///
/// A network says how far around a pixel it looks ([`Metadata::border`](crate::model::Metadata::border)): as many pixels of
/// its neighbours a tile is given on each side, and of what the network makes of it as many are left out. So every pixel is
/// the one that it would be if the picture was run as a whole: in integers the same level, in float32 the same bits. A
/// network that does not say it is given whole pictures; one of a fixed size takes that size alone.
pub struct Tiler<'a> {
    open: Box<Opener<'a>>,
    /// What the network is, for pictures of the usual size.
    facts: Facts,
    range: Range,
    /// The network for tiles of the size that was used last.
    ready: Option<Transformer>,
    /// Longest side of a tile.
    tile: usize,
}

/// A piece of a picture along one axis, in pixels.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cut {
    /// The first pixel that the network is given.
    first: usize,
    /// The pixels of which it is kept what they become.
    kept: Span<usize>,
}

/// Cuts `length` pixels into pieces of `tile`, which need `border` pixels of their neighbours and begin at multiples of
/// `multiple`. `length` is such a multiple, and so is `tile`, which is longer than two borders and two multiples.
fn cuts(length: usize, tile: usize, border: usize, multiple: usize) -> Vec<Cut> {
    let mut cuts = vec![Cut { first: 0, kept: 0..length }];
    if length <= tile {
        return cuts;
    }
    cuts[0].kept.end = tile - border;
    while let Some(end) = cuts.last().map(|cut| cut.kept.end).filter(|end| *end < length) {
        let first = ((end - border) / multiple * multiple).min(length - tile);
        let last = first + tile == length;
        cuts.push(Cut { first, kept: end..if last { length } else { first + tile - border } });
    }
    cuts
}

impl<'a> Tiler<'a> {
    /// What `open` opens. Tiles have sides up to `tile`.
    ///
    /// # Errors
    /// Those of `open`; or if it is no network from pictures to pictures, or the range of its pictures is not known.
    pub fn new(open: Box<Opener<'a>>, tile: usize) -> Result<Self> {
        let model = open(None)?;
        let (facts, range) = (model.facts().clone(), model.range()?);
        let ready = Some(model.into_transformer(1)?);
        Ok(Self { open, facts, range, ready, tile })
    }

    /// What the network is; its size is one of many if it is [of any size](Facts::any_size).
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Range of the pictures, in and out.
    pub fn range(&self) -> Range {
        self.range
    }

    /// Size of what the network makes of a picture of a height and a width.
    ///
    /// # Errors
    /// If it does not take such pictures, or they are too large.
    pub fn made(&self, height: usize, width: usize) -> Result<ImageShape> {
        let Facts { any_size, scale, image, .. } = self.facts;
        let source = self.source();
        let ImageShape { channels, .. } = image;
        if !any_size {
            if (height, width) != (source.height, source.width) {
                return Err(Error::invalid(format_args!(
                    "a picture of {width}x{height}: the network takes pictures of {}x{} alone",
                    source.width, source.height
                )));
            }
            return Ok(image);
        }
        let Some(scale) = scale else {
            let problem = "the network makes pictures of a size that is no multiple of theirs: this is not supported for pictures of any size";
            return Err(Error::invalid(problem));
        };
        let values = height.saturating_mul(width).saturating_mul(scale * scale * channels);
        if height == 0 || width == 0 || values > MAX_RUN_VALUES {
            return Err(Error::invalid(format_args!(
                "a picture of {width}x{height} is too large, {scale} times as large as it becomes"
            )));
        }
        Ok(ImageShape { channels, height: height * scale, width: width * scale })
    }

    fn source(&self) -> ImageShape {
        self.facts.source.unwrap_or(self.facts.image)
    }

    /// What it makes of a picture with as many channels as it takes.
    ///
    /// # Errors
    /// As [`Self::made`], if the picture has other channels, or if a run fails.
    pub fn frame(&mut self, frame: &Frame) -> Result<Frame> {
        let source = self.source();
        if !self.facts.any_size {
            return self.ready(source.height, source.width)?.frame(frame);
        }
        let shape = self.made(frame.height, frame.width)?;
        if self.facts.raster.as_ref().is_none_or(|raster| raster.image().is_none()) {
            return Err(Error::invalid("what the network makes is no picture"));
        }
        if frame.format.channels() != source.channels {
            return Err(Error::invalid(format_args!(
                "a picture of {} channels: the network takes pictures of {}",
                frame.format.channels(),
                source.channels
            )));
        }
        let channels = shape.channels;
        let format = PixelFormat::from_channels(channels).unwrap_or(PixelFormat::Rgb8);
        let mut made = Frame::black(shape.width, shape.height, format);
        let (mut levels, mut pixels) = (Vec::new(), Vec::new());
        let range = self.range;
        let fill = |rows: &[usize], columns: &[usize], values: &mut [f32]| {
            levels.clear();
            for row in rows {
                for column in columns {
                    let place = (row * frame.width + column) * source.channels;
                    levels.extend_from_slice(&frame.pixels[place..][..source.channels]);
                }
            }
            let tile = ImageShape { height: rows.len(), width: columns.len(), ..source };
            from_pixels(range, tile, &levels, values);
        };
        self.run((frame.height, frame.width), fill, |network, piece, values| {
            let tile = network.image_shape();
            pixels.resize(tile.values(), 0);
            network.raster().pixels(range, values, &mut pixels);
            for row in 0..piece.height {
                let from = ((piece.top + row) * tile.width + piece.left) * channels;
                let to = ((piece.y + row) * shape.width + piece.x) * channels;
                made.pixels[to..][..piece.width * channels]
                    .copy_from_slice(&pixels[from..][..piece.width * channels]);
            }
        })?;
        Ok(made)
    }

    /// What it makes of the values of a picture, (C, height, width): (C', s·height, s·width), as they are.
    ///
    /// # Errors
    /// As [`Self::made`], if `values` are not as many, or the network does not put out channel after channel.
    pub fn values(&mut self, height: usize, width: usize, values: &[f32]) -> Result<Vec<f32>> {
        let (shape, source) = (self.made(height, width)?, self.source());
        if values.len() != source.channels * height * width {
            return Err(Error::invalid(format_args!(
                "{} values are no picture of {}x{height}x{width}",
                values.len(),
                source.channels
            )));
        }
        if !self.facts.any_size {
            return Ok(self.ready(height, width)?.run(values)?.to_vec());
        }
        if !self.facts.raster.as_ref().is_some_and(super::Raster::is_plain) {
            return Err(Error::invalid("the network does not put out channel after channel"));
        }
        check_count(1, shape.values())?;
        let mut made = vec![0.0; shape.values()];
        let fill = |rows: &[usize], columns: &[usize], tile: &mut [f32]| {
            let places = (0..source.channels).flat_map(|channel| {
                rows.iter().flat_map(move |row| {
                    columns.iter().map(move |column| (channel * height + row) * width + column)
                })
            });
            tile.iter_mut().zip(places).for_each(|(to, place)| *to = values[place]);
        };
        self.run((height, width), fill, |network, piece, tile| {
            let size = network.image_shape();
            for channel in 0..shape.channels {
                for row in 0..piece.height {
                    let from = (channel * size.height + piece.top + row) * size.width + piece.left;
                    let to = (channel * shape.height + piece.y + row) * shape.width + piece.x;
                    made[to..][..piece.width].copy_from_slice(&tile[from..][..piece.width]);
                }
            }
        })?;
        Ok(made)
    }

    /// Runs a picture of any size tile by tile. `fill` writes the tile of these rows and columns of the picture, (C, rows, columns); `take`
    /// is given what the network made of it, and which of it counts.
    fn run(
        &mut self,
        (height, width): (usize, usize),
        mut fill: impl FnMut(&[usize], &[usize], &mut [f32]),
        mut take: impl FnMut(&Transformer, &Piece, &[f32]),
    ) -> Result<()> {
        let source = self.source();
        let scale = self.facts.scale.unwrap_or(1);
        let multiple = self.facts.metadata.multiple.unwrap_or(1);
        let border = self.facts.metadata.border;
        let whole = [height, width].map(|side| side.next_multiple_of(multiple));
        let cut = |length: usize| match border {
            Some(border) => {
                let tile = self.tile.max(2 * (border + multiple)).next_multiple_of(multiple);
                (cuts(length, tile, border, multiple), length.min(tile))
            }
            None => (vec![Cut { first: 0, kept: 0..length }], length),
        };
        let [(down, tile_height), (across, tile_width)] = whole.map(cut);
        let network = self.ready(tile_height, tile_width)?;
        let mut values = vec![0.0; source.channels * tile_height * tile_width];
        // behind the picture's end its last pixel is repeated
        let places = |cut: &Cut, tile: usize, length: usize| -> Vec<usize> {
            (cut.first..cut.first + tile).map(|place| place.min(length - 1)).collect()
        };
        for rows in &down {
            for columns in &across {
                let inputs = (places(rows, tile_height, height), places(columns, tile_width, width));
                fill(&inputs.0, &inputs.1, &mut values);
                let kept = |cut: &Cut, length: usize| cut.kept.start..cut.kept.end.min(length);
                let (y, x) = (kept(rows, height), kept(columns, width));
                if y.is_empty() || x.is_empty() {
                    continue;
                }
                network.run(&values)?;
                let piece = Piece {
                    y: y.start * scale,
                    x: x.start * scale,
                    top: (y.start - rows.first) * scale,
                    left: (x.start - columns.first) * scale,
                    height: y.len() * scale,
                    width: x.len() * scale,
                };
                take(network, &piece, network.made());
            }
        }
        Ok(())
    }

    /// The network for pictures of a size.
    fn ready(&mut self, height: usize, width: usize) -> Result<&mut Transformer> {
        let fits = |network: &Transformer| {
            let source = network.source_shape();
            (source.height, source.width) == (height, width)
        };
        let network = match self.ready.take().filter(fits) {
            Some(network) => network,
            None => (self.open)(Some((height, width)))?.into_transformer(1)?,
        };
        Ok(self.ready.insert(network))
    }
}

/// What counts of what a network makes of a tile.
struct Piece {
    /// Where it lies in the whole picture.
    y: usize,
    x: usize,
    /// Where it lies in the tile's.
    top: usize,
    left: usize,
    height: usize,
    width: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pixel_is_kept_once_with_its_neighbours() {
        for (length, tile, border, multiple) in
            [(64, 64, 9, 1), (65, 32, 7, 1), (200, 64, 12, 8), (1000, 48, 5, 4), (104, 96, 20, 8)]
        {
            let cuts = cuts(length, tile, border, multiple);
            let mut next = 0;
            for cut in &cuts {
                assert_eq!(cut.kept.start, next);
                next = cut.kept.end;
                assert!(cut.first.is_multiple_of(multiple) && cut.first + tile.min(length) <= length);
                let before = cut.first == 0 || cut.kept.start >= cut.first + border;
                let after = cut.first + tile >= length || cut.kept.end + border <= cut.first + tile;
                assert!(before && after && !cut.kept.is_empty(), "{cut:?} of {length}");
            }
            assert_eq!(next, length);
        }
    }
}
