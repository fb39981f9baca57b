//! A picture at another size, in integers: nearest where every source pixel becomes a block,
//! bilinear where it grows smoothly, area averages where it shrinks or its blocks have edges between two pixels.
//!
//! [`Sampler`] reads single pixels; [`Resampler`] makes rows of a picture that grows, with the same results, and keeps what neighbouring
//! rows share.

use crate::generator::PictureShape;

/// How a pixel of the resized picture is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// The source pixel under it.
    #[default]
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

/// The one or two source pixels that a pixel of a picture that grows is made of, along one axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tap {
    first: u16,
    second: u16,
    /// The second one's weight, in [`Axis::units`].
    weight: u32,
}

/// One axis of a picture that grows.
#[derive(Clone, Copy, Debug, Default)]
struct Axis {
    target: u32,
    source: u32,
    filter: Filter,
}

impl Axis {
    /// What the weights of a tap add up to.
    fn units(self) -> u32 {
        match self.filter {
            Filter::Nearest => 1,
            Filter::Bilinear => 256,
            Filter::Area => self.source,
        }
    }

    fn tap(self, at: u32) -> Tap {
        match self.filter {
            Filter::Nearest => {
                let first = (at * self.source / self.target) as u16;
                Tap { first, second: first, weight: 0 }
            }
            Filter::Bilinear => {
                let (first, second, weight) = neighbours(at, self.target, self.source);
                Tap { first: first as u16, second: second as u16, weight }
            }
            Filter::Area => {
                let start = at * self.source;
                let first = start / self.target;
                let own = ((first + 1) * self.target).min(start + self.source) - start;
                let second = (first + 1).min(self.source - 1);
                Tap { first: first as u16, second: second as u16, weight: self.source - own }
            }
        }
    }
}

/// Rounded division by one number, without dividing.
#[derive(Clone, Copy, Debug, Default)]
struct Divider {
    by: u64,
    /// 2^56 / (2 · `by`), rounded up; 0 where that is not exact.
    reciprocal: u64,
}

impl Divider {
    /// Of values up to 255 · `by`.
    fn new(by: u64) -> Self {
        // off by less than 1 of 2^56: exact while 511 · by · 2 · by stays below it
        let exact = by < 1 << 22;
        Self { by, reciprocal: if exact { (1 << 56) / (2 * by) + 1 } else { 0 } }
    }

    /// The number of bits to shift by instead, where that is the same and fits 32 bits.
    fn bits(self) -> Option<u32> {
        (self.by.is_power_of_two() && self.by < 1 << 23).then(|| self.by.trailing_zeros())
    }

    /// `value / by` to the nearest, halves up.
    #[inline(always)]
    fn divide(self, value: u64) -> u8 {
        let twice = 2 * value + self.by;
        if self.reciprocal > 0 {
            ((twice * self.reciprocal) >> 56) as u8
        } else {
            (twice / (2 * self.by)) as u8
        }
    }
}

/// Makes rows of up to `WIDTH` pixels.
#[derive(Clone, Debug)]
pub struct Resampler<const WIDTH: usize> {
    columns: [Tap; WIDTH],
    down: Axis,
    /// Of a source row, and of a mix of two.
    dividers: [Divider; 2],
    /// Two source rows at the new width, in units of the columns, and which they are.
    wide: [[[u32; 3]; WIDTH]; 2],
    held: [Option<u16>; 2],
    /// The last row, and what it was made of.
    row: [[u8; 3]; WIDTH],
    made: Option<Tap>,
}

impl<const WIDTH: usize> Resampler<WIDTH> {
    /// With nothing to read yet.
    pub const fn new() -> Self {
        let tap = Tap { first: 0, second: 0, weight: 0 };
        let axis = Axis { target: 0, source: 0, filter: Filter::Nearest };
        Self {
            columns: [tap; WIDTH],
            down: axis,
            dividers: [Divider { by: 1, reciprocal: 0 }; 2],
            wide: [[[0; 3]; WIDTH]; 2],
            held: [None; 2],
            row: [[0; 3]; WIDTH],
            made: None,
        }
    }

    /// Ready for the rows of a picture.
    pub fn begin(&mut self, sampler: &Sampler<'_>) {
        let (width, height) = (u32::from(sampler.shape.width()), u32::from(sampler.shape.height()));
        let filter = sampler.filter;
        self.made = None;
        self.held = [None; 2];
        self.down = Axis { target: sampler.height, source: height, filter };
        let along = Axis { target: sampler.width, source: width, filter };
        for (column, at) in self.columns.iter_mut().zip(0..sampler.width) {
            *column = along.tap(at);
        }
        let units = u64::from(along.units());
        self.dividers = [Divider::new(units), Divider::new(units * u64::from(self.down.units()))];
    }

    /// Row `y` at the new size, as [`Sampler::at`] has its pixels; the picture is that of [`Self::begin`].
    pub fn row(&mut self, sampler: &Sampler<'_>, y: u32) -> &[[u8; 3]] {
        let width = (sampler.width as usize).min(WIDTH);
        let shrinks = sampler.width < u32::from(sampler.shape.width())
            || sampler.height < u32::from(sampler.shape.height());
        if shrinks {
            for (x, pixel) in self.row[..width].iter_mut().enumerate() {
                *pixel = sampler.at(x as u32, y);
            }
            return &self.row[..width];
        }
        let tap = self.down.tap(y.min(self.down.target - 1));
        let single = tap.weight == 0;
        let known = self
            .made
            .is_some_and(|made| made == tap || single && made.weight == 0 && made.first == tap.first);
        if !known {
            match (sampler.shape.channels(), single) {
                (1, true) => self.single::<1>(sampler, tap.first, width),
                (_, true) => self.single::<3>(sampler, tap.first, width),
                (1, false) => self.mixed::<1>(sampler, tap, width),
                (_, false) => self.mixed::<3>(sampler, tap, width),
            }
            self.made = Some(tap);
        }
        &self.row[..width]
    }

    /// A source row alone.
    fn single<const CHANNELS: usize>(&mut self, sampler: &Sampler<'_>, source: u16, width: usize) {
        let row = source_row::<CHANNELS>(sampler, source);
        let (divider, units) = (self.dividers[0], self.dividers[0].by as u32);
        for (pixel, tap) in self.row[..width].iter_mut().zip(&self.columns) {
            let first = row[usize::from(tap.first)];
            let second = row[usize::from(tap.second)];
            let color = if tap.weight == 0 {
                first
            } else {
                each(|channel| {
                    let (a, b) = (u32::from(first[channel]), u32::from(second[channel]));
                    divider.divide(u64::from(a * (units - tap.weight) + b * tap.weight))
                })
            };
            *pixel = spread(color);
        }
    }

    /// Two source rows.
    fn mixed<const CHANNELS: usize>(&mut self, sampler: &Sampler<'_>, tap: Tap, width: usize) {
        // the second of one row is often the first of the next
        if self.held[1] == Some(tap.first) {
            self.wide.swap(0, 1);
            self.held.swap(0, 1);
        }
        for (slot, source) in [tap.first, tap.second].into_iter().enumerate() {
            if self.held[slot] == Some(source) {
                continue;
            }
            self.held[slot] = Some(source);
            let row = source_row::<CHANNELS>(sampler, source);
            let units = self.dividers[0].by as u32;
            for (wide, tap) in self.wide[slot][..width].iter_mut().zip(&self.columns) {
                let (first, second) = (row[usize::from(tap.first)], row[usize::from(tap.second)]);
                for channel in 0..CHANNELS {
                    let (a, b) = (u32::from(first[channel]), u32::from(second[channel]));
                    wide[channel] = a * (units - tap.weight) + b * tap.weight;
                }
            }
        }
        let [upper, lower] = &self.wide;
        let rows = upper[..width].iter().zip(&lower[..width]);
        let (divider, units) = (self.dividers[1], u64::from(self.down.units()));
        if let Some(bits) = divider.bits() {
            // as pictures have powers of two for their sides more often than not
            let (units, weight) = (units as u32, tap.weight);
            for (pixel, (a, b)) in self.row[..width].iter_mut().zip(rows) {
                let color: [u8; CHANNELS] = each(|channel| {
                    let sum = a[channel] * (units - weight) + b[channel] * weight;
                    ((sum + (1 << bits >> 1)) >> bits) as u8
                });
                *pixel = spread(color);
            }
            return;
        }
        let weight = u64::from(tap.weight);
        for (pixel, (a, b)) in self.row[..width].iter_mut().zip(rows) {
            let color: [u8; CHANNELS] = each(|channel| {
                divider.divide(u64::from(a[channel]) * (units - weight) + u64::from(b[channel]) * weight)
            });
            *pixel = spread(color);
        }
    }
}

impl<const WIDTH: usize> Default for Resampler<WIDTH> {
    fn default() -> Self {
        Self::new()
    }
}

/// The pixels of a source row.
fn source_row<'a, const CHANNELS: usize>(sampler: &Sampler<'a>, row: u16) -> &'a [[u8; CHANNELS]] {
    let width = usize::from(sampler.shape.width());
    let bytes = &sampler.pixels[usize::from(row) * width * CHANNELS..][..width * CHANNELS];
    bytes.as_chunks().0
}

/// As `core::array::from_fn`, which compilers do not always make a loop of.
#[inline(always)]
fn each<const N: usize>(value: impl Fn(usize) -> u8) -> [u8; N] {
    let mut values = [0; N];
    for (at, place) in values.iter_mut().enumerate() {
        *place = value(at);
    }
    values
}

/// Gray in all channels.
#[inline(always)]
fn spread<const CHANNELS: usize>(color: [u8; CHANNELS]) -> [u8; 3] {
    each(|channel| color[channel.min(CHANNELS - 1)])
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
    fn rows_are_what_single_pixels_are() {
        let mut noise = 7u32;
        let mut pixels = [0u8; 64 * 48 * 3];
        pixels.iter_mut().for_each(|pixel| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *pixel = (noise >> 24) as u8;
        });
        let mut resampler = Resampler::<100>::new();
        let sizes = [
            ((1, 1), (7, 5)),
            ((28, 28), (100, 97)),
            ((64, 48), (64, 48)),
            ((64, 48), (100, 75)),
            ((3, 40), (9, 40)),
            ((64, 48), (50, 90)),
        ];
        for ((width, height), to) in sizes {
            for channels in [1, 3] {
                let shape = PictureShape::new(channels, width, height).unwrap();
                for filter in [Filter::Nearest, Filter::Bilinear, Filter::Area] {
                    let sampler = Sampler::new(&pixels, shape, to, filter).unwrap();
                    resampler.begin(&sampler);
                    for y in 0..to.1 {
                        for (x, pixel) in resampler.row(&sampler, y).iter().enumerate() {
                            let expected = sampler.at(x as u32, y);
                            assert_eq!(*pixel, expected, "{filter:?} {shape:?} to {to:?}, {x} {y}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn dividers_round_as_division_does() {
        for by in [1u64, 2, 28, 255, 4096, 65_536, 4_194_303, 4_194_304, 16_000_000] {
            let divider = Divider::new(by);
            for value in (0..=255 * by).step_by((by / 7 + 1) as usize).chain([0, by / 2, by, 255 * by]) {
                assert_eq!(u64::from(divider.divide(value)), (2 * value + by) / (2 * by), "{value} / {by}");
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
