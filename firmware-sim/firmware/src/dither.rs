//! From 8-bit values to the few levels that a panel can show: 2 on a monochrome panel, 32 or 64
//! per channel in RGB565.
//!
//! Ordered dithering compares with Bayer's 8×8 matrix (B. E. Bayer, 1973); it is steady from frame
//! to frame. Error diffusion passes on what a pixel could not show, with the weights of R. W. Floyd
//! and L. Steinberg (1976) or of B. Atkinson (who passes on 6/8: more contrast, clean blacks and
//! whites), left to right and right to left in turn. All in integers.

/// How values between two levels are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dither {
    /// The nearest level.
    None,
    /// Bayer's 8×8 matrix.
    #[default]
    Bayer,
    /// Floyd and Steinberg's error diffusion.
    FloydSteinberg,
    /// Atkinson's error diffusion.
    Atkinson,
}

/// Highest value of an input channel.
const WHITE: i32 = 255;

/// Errors are stored in sixteenths (Floyd–Steinberg's unit; Atkinson's eighth is two of them).
const ERROR_BITS: u32 = 4;

/// (dx, dy, sixteenths) in reading direction.
const FLOYD_STEINBERG: [(isize, usize, i32); 4] = [(1, 0, 7), (-1, 1, 3), (0, 1, 5), (1, 1, 1)];
const ATKINSON: [(isize, usize, i32); 6] =
    [(1, 0, 2), (2, 0, 2), (-1, 1, 2), (0, 1, 2), (1, 1, 2), (0, 2, 2)];

/// Rows that errors reach: this one and the next two.
const ERROR_ROWS: usize = 3;

/// Dithers one picture, row by row, of up to `WIDTH` columns and up to three channels.
#[derive(Clone, Debug)]
pub struct Ditherer<const WIDTH: usize> {
    dither: Dither,
    errors: [[[i16; 3]; WIDTH]; ERROR_ROWS],
    row: usize,
    /// Values of each channel's levels, and of how many levels they are.
    values: [[u8; 256]; 3],
    values_of: [u8; 3],
}

impl<const WIDTH: usize> Ditherer<WIDTH> {
    /// Ready for the first row of a picture.
    pub const fn new(dither: Dither) -> Self {
        let values = [[0; 256]; 3];
        Self { dither, errors: [[[0; 3]; WIDTH]; ERROR_ROWS], row: 0, values, values_of: [0; 3] }
    }

    /// Ready for the first row of another picture.
    pub fn restart(&mut self) {
        self.errors = [[[0; 3]; WIDTH]; ERROR_ROWS];
        self.row = 0;
    }

    /// Turns the next row's values (0..=255) into levels (0..=`highest`) in place. Only the first
    /// `channels` of each pixel count. (`x`, `y`) is the row's first pixel on the panel, which
    /// Bayer's matrix is tied to. Columns past `WIDTH` are left alone.
    pub fn row(&mut self, pixels: &mut [[u8; 3]], channels: usize, highest: [u8; 3], (x, y): (u32, u32)) {
        let width = pixels.len().min(WIDTH);
        let pixels = &mut pixels[..width];
        match self.dither {
            Dither::None => add_and_divide(pixels, channels, highest, [WHITE as u16 / 2; 8]),
            Dither::Bayer => {
                let added = core::array::from_fn(|column| {
                    let threshold = 2 * bayer(x.wrapping_add(column as u32), y) + 1; // of 128
                    (threshold * WHITE / 128) as u16
                });
                add_and_divide(pixels, channels, highest, added);
            }
            Dither::FloydSteinberg => self.diffuse(pixels, channels, highest, &FLOYD_STEINBERG),
            Dither::Atkinson => self.diffuse(pixels, channels, highest, &ATKINSON),
        }
        self.row += 1;
    }

    #[inline(always)]
    fn diffuse<const TAPS: usize>(
        &mut self,
        pixels: &mut [[u8; 3]],
        channels: usize,
        highest: [u8; 3],
        weights: &[(isize, usize, i32); TAPS],
    ) {
        let width = pixels.len();
        let backwards = self.row % 2 == 1;
        // values of the levels, so that nothing is divided for each pixel
        if self.row == 0 || self.values_of != highest {
            for (values, top) in self.values.iter_mut().zip(highest) {
                let levels = 0..=i32::from(top);
                values
                    .iter_mut()
                    .zip(levels)
                    .for_each(|(value, level)| *value = value_of(level, top.into()) as u8);
            }
            self.values_of = highest;
        }
        // this row and the next two
        let [first, second, third] = &mut self.errors;
        let rows = match self.row % ERROR_ROWS {
            0 => [first, second, third],
            1 => [second, third, first],
            _ => [third, first, second],
        };
        for step in 0..width {
            let column = if backwards { width - 1 - step } else { step };
            for channel in 0..channels {
                let top = i32::from(highest[channel]);
                let carried = i32::from(rows[0][column][channel]);
                let half = 1 << (ERROR_BITS - 1);
                let wanted = i32::from(pixels[column][channel]) + ((carried + half) >> ERROR_BITS);
                let level = divided_by_white((wanted.clamp(0, WHITE) * top + WHITE / 2) as u32);
                let error = wanted - i32::from(self.values[channel][level as usize & 0xFF]);
                pixels[column][channel] = level as u8;
                for &(dx, dy, weight) in weights {
                    let dx = if backwards { -dx } else { dx };
                    let Some(to) = column.checked_add_signed(dx).filter(|to| *to < width) else { continue };
                    let sum = &mut rows[dy][to][channel];
                    *sum = sum.saturating_add((error * weight) as i16);
                }
            }
        }
        *rows[0] = [[0; 3]; WIDTH];
    }
}

/// (value · highest + `added`) / 255 of each value, with an `added` for each of eight columns. So nearest levels are made, with half of 255,
/// and ordered dithering is. In 16 bits and eight pixels at a time, so that a compiler makes vectors of it.
fn add_and_divide(pixels: &mut [[u8; 3]], channels: usize, highest: [u8; 3], added: [u16; 8]) {
    const BLOCK: usize = 24;
    if channels == 1 {
        for (pixel, column) in pixels.iter_mut().zip(0usize..) {
            let level =
                divided_by_white(u32::from(pixel[0]) * u32::from(highest[0]) + u32::from(added[column % 8]));
            pixel[0] = level as u8;
        }
        return;
    }
    let tops: [u16; BLOCK] = core::array::from_fn(|at| highest[at % 3].into());
    let added: [u16; BLOCK] = core::array::from_fn(|at| added[at / 3]);
    let level = |value: u8, top: u16, added: u16| {
        let product = u16::from(value) * top + added;
        ((product + 1 + (product >> 8)) >> 8) as u8
    };
    let (blocks, rest) = pixels.as_flattened_mut().as_chunks_mut::<BLOCK>();
    for block in blocks {
        for at in 0..BLOCK {
            block[at] = level(block[at], tops[at], added[at]);
        }
    }
    for (at, value) in rest.iter_mut().enumerate() {
        *value = level(*value, tops[at], added[at]);
    }
}

/// A number up to 65,534 divided by 255, downwards.
#[inline(always)]
fn divided_by_white(number: u32) -> u32 {
    (number + 1 + (number >> 8)) >> 8
}

fn value_of(level: i32, top: i32) -> i32 {
    (level * WHITE * 2 + top) / (2 * top)
}

/// Bayer's 8×8 matrix, 0..=63: the bits of x ^ y and y interleaved, lowest first.
fn bayer(x: u32, y: u32) -> i32 {
    let mut value = 0;
    for bit in 0..3 {
        value = (value << 2) | ((((x ^ y) >> bit) & 1) << 1) | ((y >> bit) & 1);
    }
    value as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Dither; 4] = [Dither::None, Dither::Bayer, Dither::FloydSteinberg, Dither::Atkinson];

    /// Levels of a flat picture of 64×64, first channel.
    fn flat(dither: Dither, value: u8, top: u8) -> [[u8; 64]; 64] {
        let mut ditherer = Ditherer::<64>::new(dither);
        let mut levels = [[0; 64]; 64];
        for (y, line) in levels.iter_mut().enumerate() {
            let mut row = [[value; 3]; 64];
            ditherer.row(&mut row, 1, [top; 3], (0, y as u32));
            *line = row.map(|pixel| pixel[0]);
        }
        levels
    }

    fn mean(levels: &[[u8; 64]; 64]) -> f64 {
        levels.iter().flatten().map(|level| f64::from(*level)).sum::<f64>() / (64.0 * 64.0)
    }

    #[test]
    fn bayers_matrix_starts_as_published_and_holds_every_value_once() {
        let first_row: [i32; 8] = core::array::from_fn(|x| bayer(x as u32, 0));
        assert_eq!(first_row, [0, 32, 8, 40, 2, 34, 10, 42]);
        let second_row: [i32; 8] = core::array::from_fn(|x| bayer(x as u32, 1));
        assert_eq!(second_row, [48, 16, 56, 24, 50, 18, 58, 26]);
        let mut seen = [false; 64];
        (0..64).for_each(|i| seen[bayer(i % 8, i / 8) as usize] = true);
        assert_eq!(seen, [true; 64]);
    }

    #[test]
    fn black_and_white_and_every_exact_level_stay_themselves() {
        for dither in ALL {
            for top in [1u8, 31, 63] {
                for level in [0, top / 2 * u8::from(top > 1), top] {
                    let value = value_of(i32::from(level), i32::from(top)) as u8;
                    // A level's value is rounded to 8 bits, so diffusion may show a neighbour now and then.
                    let off = (mean(&flat(dither, value, top)) - f64::from(level)).abs();
                    let exact = level == 0 || level == top;
                    assert!(off <= if exact { 0.0 } else { 0.13 }, "{dither:?} {level} of {top}: {off}");
                }
            }
        }
    }

    #[test]
    fn a_flat_gray_keeps_its_mean() {
        // Bayer resolves 1/64 of a level. Floyd–Steinberg loses what falls off the edges, and the
        // value of a level is rounded to 8 bits: half a value is 0.06 of a level of 31.
        for (dither, top, tolerance) in [
            (Dither::Bayer, 1u8, 1.0 / 64.0),
            (Dither::Bayer, 31, 1.0 / 64.0),
            (Dither::FloydSteinberg, 1, 0.02),
            (Dither::FloydSteinberg, 31, 0.02 + 0.5 * 31.0 / 255.0),
        ] {
            for value in [13u8, 64, 100, 128, 200, 240] {
                let wanted = f64::from(value) / 255.0 * f64::from(top);
                let got = mean(&flat(dither, value, top));
                assert!((got - wanted).abs() <= tolerance, "{dither:?} {value} of {top}: {got} for {wanted}");
            }
        }
    }

    #[test]
    fn atkinson_widens_contrast() {
        assert!(mean(&flat(Dither::Atkinson, 40, 1)) < 40.0 / 255.0);
        assert!(mean(&flat(Dither::Atkinson, 215, 1)) > 215.0 / 255.0);
    }

    #[test]
    fn diffusion_by_hand() {
        // One row of 128, 0, 255 to two levels, Floyd–Steinberg:
        // 128 → 1, error −127, 7/16 on: (−889 + 8) >> 4 = −56.
        // 0 − 56 → 0, error −56, on: (−392 + 8) >> 4 = −24.  255 − 24 = 231 → 1.
        let mut row = [[128; 3], [0; 3], [255; 3]];
        let mut ditherer = Ditherer::<3>::new(Dither::FloydSteinberg);
        ditherer.row(&mut row, 1, [1; 3], (0, 0));
        assert_eq!(row.map(|pixel| pixel[0]), [1, 0, 1]);
        // Below: column 0 got −127·5 − 56·3, column 1 −127·1 − 56·5 − 24·3, column 2 −56·1 − 24·5.
        let below = ditherer.errors[1].map(|pixel| pixel[0]);
        assert_eq!(below, [-127 * 5 - 56 * 3, -127 - 56 * 5 - 24 * 3, -56 - 24 * 5]);
        // The second row goes from right to left: 139 − 11 = 128 → 1, error −127, which goes to column 1.
        let mut row = [[0; 3], [139; 3], [139; 3]];
        ditherer.row(&mut row, 1, [1; 3], (0, 1));
        assert_eq!(row.map(|pixel| pixel[0]), [0, 0, 1]);
    }

    #[test]
    fn a_restarted_ditherer_forgets() {
        for dither in ALL {
            let mut used = Ditherer::<16>::new(dither);
            for y in 0..5 {
                used.row(&mut [[77; 3]; 16], 3, [31, 63, 31], (0, y));
            }
            used.restart();
            let mut fresh = Ditherer::<16>::new(dither);
            for y in 0..5 {
                let (mut a, mut b) = ([[99; 3]; 16], [[99; 3]; 16]);
                used.row(&mut a, 3, [31, 63, 31], (0, y));
                fresh.row(&mut b, 3, [31, 63, 31], (0, y));
                assert_eq!(a, b, "{dither:?}");
            }
        }
    }
}
