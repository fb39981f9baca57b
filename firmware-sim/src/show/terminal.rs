//! The panel in a terminal: 24-bit half blocks, braille dots for a monochrome panel, or letters
//! where there is no colour.

use std::fmt::Write;

use edgegen_firmware::PictureShape;
use edgegen_firmware::sample::{Filter, Sampler};

use crate::picture::Picture;

/// What a terminal can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ability {
    /// Unicode and 24-bit colours.
    Color,
    /// Letters only.
    Plain,
}

impl Ability {
    /// Colours on a terminal, unless `NO_COLOR` is set or `TERM` is `dumb`.
    pub fn of(is_terminal: bool, no_color: Option<&str>, term: Option<&str>) -> Self {
        let colorless = no_color.is_some_and(|value| !value.is_empty()) || term == Some("dumb");
        if is_terminal && !colorless { Self::Color } else { Self::Plain }
    }
}

/// Narrowest and widest pictures that are drawn, in letters.
const COLUMNS: std::ops::RangeInclusive<usize> = 16..=120;

/// Dark to light.
const RAMP: &[u8] = b" .:-=+*#%@";

/// The picture in at most `columns` letters per line; every line ends in a line feed.
/// `monochrome` draws lit pixels as dots in colour `light`.
pub fn draw(picture: &Picture, columns: usize, ability: Ability, monochrome: bool, light: [u8; 3]) -> String {
    let columns = columns.clamp(*COLUMNS.start(), *COLUMNS.end());
    match ability {
        Ability::Plain => letters(picture, columns),
        Ability::Color if monochrome && picture.width().div_ceil(2) <= columns => braille(picture, light),
        Ability::Color => half_blocks(picture, columns),
    }
}

/// The picture at another size, averaged; `None` for a picture that has no pixels.
fn resized(picture: &Picture, width: usize, height: usize) -> Option<Picture> {
    let shape = PictureShape::new(3, picture.width().try_into().ok()?, picture.height().try_into().ok()?)?;
    let (width, height) = (width.max(1), height.max(1));
    let sampler = Sampler::new(picture.rgb(), shape, (width as u32, height as u32), Filter::Area)?;
    Some(Picture::from_fn(width, height, |x, y| sampler.at(x as u32, y as u32)))
}

/// Two pixels per letter, one above the other.
fn half_blocks(picture: &Picture, columns: usize) -> String {
    let width = picture.width().min(columns);
    let height = (picture.height() * width / picture.width().max(1)).next_multiple_of(2);
    let Some(small) = resized(picture, width, height) else { return String::new() };
    let mut text = String::new();
    for y in (0..height).step_by(2) {
        let mut colors = None;
        for x in 0..width {
            let pair = (small.at(x, y), small.at(x, y + 1));
            if colors != Some(pair) {
                let ([r, g, b], [red, green, blue]) = pair;
                let _ = write!(text, "\x1b[38;2;{r};{g};{b};48;2;{red};{green};{blue}m");
                colors = Some(pair);
            }
            text.push('▀');
        }
        text.push_str("\x1b[0m\n");
    }
    text
}

/// Two by four pixels per letter, lit or not.
fn braille(picture: &Picture, [r, g, b]: [u8; 3]) -> String {
    /// Bits of the dots, by column and row (Unicode chapter 21.1).
    const DOTS: [[u32; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];
    let mut text = String::new();
    for top in (0..picture.height()).step_by(4) {
        let _ = write!(text, "\x1b[38;2;{r};{g};{b};48;2;0;0;0m");
        for left in (0..picture.width()).step_by(2) {
            let mut letter = 0x2800;
            for (dx, column) in DOTS.iter().enumerate() {
                for (dy, dot) in column.iter().enumerate() {
                    let (x, y) = (left + dx, top + dy);
                    if x < picture.width() && y < picture.height() && picture.at(x, y) != [0; 3] {
                        letter += dot;
                    }
                }
            }
            text.extend(char::from_u32(letter));
        }
        text.push_str("\x1b[0m\n");
    }
    text
}

/// One letter for an area twice as high as wide, as letters are.
fn letters(picture: &Picture, columns: usize) -> String {
    let width = picture.width().min(columns);
    let height = picture.height() * width / picture.width().max(1) / 2;
    let Some(small) = resized(picture, width, height) else { return String::new() };
    let mut text = String::new();
    for y in 0..small.height() {
        let line: String = (0..width)
            .map(|x| {
                let brightest = small.at(x, y).into_iter().max().unwrap_or(0);
                char::from(RAMP[usize::from(brightest) * (RAMP.len() - 1) / 255])
            })
            .collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_need_a_terminal_that_wants_them() {
        let table = [
            ((true, None, Some("xterm")), Ability::Color),
            ((true, Some(""), None), Ability::Color),
            ((false, None, Some("xterm")), Ability::Plain),
            ((true, Some("1"), Some("xterm")), Ability::Plain),
            ((true, None, Some("dumb")), Ability::Plain),
        ];
        for ((is_terminal, no_color, term), expected) in table {
            assert_eq!(
                Ability::of(is_terminal, no_color, term),
                expected,
                "{is_terminal} {no_color:?} {term:?}"
            );
        }
    }

    #[test]
    fn half_blocks_hold_two_pixels() {
        let picture = Picture::from_fn(2, 2, |_, y| [[1, 2, 3], [4, 5, 6]][y]);
        let text = draw(&picture, 80, Ability::Color, false, [0; 3]);
        assert_eq!(text, "\x1b[38;2;1;2;3;48;2;4;5;6m▀▀\x1b[0m\n");
        let large = draw(&Picture::filled(240, 240, [9; 3]), 80, Ability::Color, false, [0; 3]);
        assert_eq!(large.lines().count(), 40);
        assert_eq!(large.lines().next().map(|line| line.matches('▀').count()), Some(80));
    }

    #[test]
    fn braille_dots_stand_for_lit_pixels() {
        let mut picture = Picture::filled(4, 4, [0; 3]);
        picture.set(0, 0, [255; 3]);
        picture.set(3, 3, [200; 3]);
        let text = draw(&picture, 80, Ability::Color, true, [1, 2, 3]);
        assert_eq!(text, "\x1b[38;2;1;2;3;48;2;0;0;0m⠁⢀\x1b[0m\n");
    }

    #[test]
    fn plain_text_has_no_escapes_and_no_trailing_blanks() {
        let picture = Picture::from_fn(40, 40, |x, _| if x < 20 { [255; 3] } else { [0; 3] });
        let text = draw(&picture, 20, Ability::Plain, false, [0; 3]);
        assert_eq!(text, "@@@@@@@@@@\n".repeat(10));
    }
}
