//! A picture at another size, in integers: nearest where every source pixel becomes a block,
//! bilinear where it grows smoothly, area averages where it shrinks or its blocks have edges between two pixels.

use crate::generator::PictureShape;

/// How a pixel of the resized picture is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// The source pixel under it.
    Nearest,
    /// Between the four nearest source pixels, in steps of 1/256.
    Bilinear,
    /// The exact mean of the source area under it.
    Area,
}

/// A picture that is read at another size.
#[derive(Clone, Copy, Debug)]
pub struct Sampler<'a> {
    pixels: &'a [u8],
    shape: PictureShape,
    width: u32,
    height: u32,
    filter: Filter,
}

impl<'a> Sampler<'a> {
    /// Reads `pixels` (NHWC u8) as if they were `width` by `height`. `None` when `pixels` is too
    /// short for `shape` or the new size is 0 or above 65,535.
    pub fn new(
        pixels: &'a [u8],
        shape: PictureShape,
        (width, height): (u32, u32),
        filter: Filter,
    ) -> Option<Self> {
        let sides = 1..=u32::from(u16::MAX);
        let fits = pixels.len() >= shape.bytes() && sides.contains(&width) && sides.contains(&height);
        fits.then_some(Self { pixels, shape, width, height, filter })
    }

    /// The colour at (x, y), RGB; gray is repeated. Coordinates past the edge read the edge.
    pub fn at(&self, x: u32, y: u32) -> [u8; 3] {
        let (x, y) = (x.min(self.width - 1), y.min(self.height - 1));
        let (source_width, source_height) = (u32::from(self.shape.width()), u32::from(self.shape.height()));
        match self.filter {
            Filter::Nearest => self
                .source((x * source_width / self.width) as usize, (y * source_height / self.height) as usize),
            Filter::Bilinear => {
                let (left, right, along) = neighbours(x, self.width, source_width);
                let (top, bottom, down) = neighbours(y, self.height, source_height);
                let corners = [(left, top), (right, top), (left, bottom), (right, bottom)]
                    .map(|(column, row)| self.source(column, row));
                core::array::from_fn(|channel| {
                    let [a, b, c, d] = corners.map(|corner| u32::from(corner[channel]));
                    let upper = a * (256 - along) + b * along;
                    let lower = c * (256 - along) + d * along;
                    ((upper * (256 - down) + lower * down + (1 << 15)) >> 16) as u8
                })
            }
            Filter::Area => {
                let inside = |at: u32, target: u32, source: u32| {
                    let first = at * source / target;
                    ((at + 1) * source <= (first + 1) * target).then_some(first as usize)
                };
                // most pixels of an enlarged picture lie inside of one
                if let (Some(column), Some(row)) =
                    (inside(x, self.width, source_width), inside(y, self.height, source_height))
                {
                    return self.source(column, row);
                }
                let mut sums = [0u64; 3];
                for (row, height) in covered(y, self.height, source_height) {
                    for (column, width) in covered(x, self.width, source_width) {
                        let weight = u64::from(width) * u64::from(height);
                        let colour = self.source(column, row);
                        sums.iter_mut()
                            .zip(colour)
                            .for_each(|(sum, value)| *sum += weight * u64::from(value));
                    }
                }
                let area = u64::from(source_width) * u64::from(source_height);
                sums.map(|sum| ((2 * sum + area) / (2 * area)) as u8)
            }
        }
    }

    fn source(&self, column: usize, row: usize) -> [u8; 3] {
        let channels = usize::from(self.shape.channels());
        let first = (row * usize::from(self.shape.width()) + column) * channels;
        match self.shape.channels() {
            1 => [self.pixels[first]; 3],
            _ => [self.pixels[first], self.pixels[first + 1], self.pixels[first + 2]],
        }
    }
}

/// The source pixels on both sides of the centre of target pixel `at`, and the second one's weight of 256.
fn neighbours(at: u32, target: u32, source: u32) -> (usize, usize, u32) {
    let centre = (2 * u64::from(at) + 1) * u64::from(source) * 128 / u64::from(target); // in 1/256 pixel
    let position = (centre as u32).saturating_sub(128).min((source - 1) * 256);
    let first = position / 256;
    (first as usize, (first + 1).min(source - 1) as usize, position % 256)
}

/// The source pixels that target pixel `at` covers, each with its share in units of 1/`target`.
fn covered(at: u32, target: u32, source: u32) -> impl Iterator<Item = (usize, u32)> {
    let (start, end) = (at * source, (at + 1) * source);
    (start / target..end.div_ceil(target)).map(move |pixel| {
        let share = ((pixel + 1) * target).min(end) - (pixel * target).max(start);
        (pixel as usize, share)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gray<const N: usize>(pixels: &[u8], from: (u16, u16), to: (u32, u32), filter: Filter) -> [u8; N] {
        let shape = PictureShape::new(1, from.0, from.1).unwrap();
        let sampler = Sampler::new(pixels, shape, to, filter).unwrap();
        core::array::from_fn(|i| sampler.at(i as u32 % to.0, i as u32 / to.0)[0])
    }

    #[test]
    fn nearest_makes_blocks() {
        let doubled = gray::<8>(&[10, 20], (2, 1), (4, 2), Filter::Nearest);
        assert_eq!(doubled, [10, 10, 20, 20, 10, 10, 20, 20]);
    }

    #[test]
    fn bilinear_runs_from_centre_to_centre() {
        // Centres of the four pixels lie at 0.25, 0.75, 1.25, 1.75 of a source pixel.
        assert_eq!(gray::<4>(&[0, 100], (2, 1), (4, 1), Filter::Bilinear), [0, 25, 75, 100]);
        assert_eq!(gray::<4>(&[0, 100], (1, 2), (1, 4), Filter::Bilinear), [0, 25, 75, 100]);
    }

    #[test]
    fn an_enlarged_area_has_sharp_blocks() {
        // 2 → 5: the pixel in the middle lies half in each
        assert_eq!(gray::<5>(&[0, 100], (2, 1), (5, 1), Filter::Area), [0, 0, 50, 100, 100]);
    }

    #[test]
    fn area_is_the_exact_mean() {
        assert_eq!(gray::<1>(&[0, 10, 20, 90], (2, 2), (1, 1), Filter::Area), [30]);
        // 3 → 2: each target pixel covers one and a half source pixels.
        assert_eq!(gray::<2>(&[30, 60, 90], (3, 1), (2, 1), Filter::Area), [40, 80]);
    }

    #[test]
    fn the_same_size_changes_nothing() {
        let pixels: [u8; 12] = core::array::from_fn(|i| (i * 20) as u8);
        let shape = PictureShape::new(3, 2, 2).unwrap();
        for filter in [Filter::Nearest, Filter::Bilinear, Filter::Area] {
            let sampler = Sampler::new(&pixels, shape, (2, 2), filter).unwrap();
            for i in 0..4 {
                assert_eq!(sampler.at(i % 2, i / 2), pixels[i as usize * 3..][..3], "{filter:?} {i}");
            }
        }
    }

    #[test]
    fn sizes_are_checked() {
        let shape = PictureShape::new(3, 2, 2).unwrap();
        assert!(Sampler::new(&[0; 11], shape, (2, 2), Filter::Area).is_none());
        assert!(Sampler::new(&[0; 12], shape, (0, 2), Filter::Area).is_none());
        assert!(Sampler::new(&[0; 12], shape, (2, 70_000), Filter::Area).is_none());
    }
}
