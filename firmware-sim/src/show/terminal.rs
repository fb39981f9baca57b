//! The panel in a terminal: as a picture where the terminal draws pictures (the kitty protocol, or sixels), else in 24-bit half blocks,
//! braille dots for a monochrome panel, or letters where there is no colour.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use edgegen_firmware::dither::{Dither, Ditherer};
use edgegen_runtime::generate::Frame;
use edgegen_runtime::model::PixelFormat;
use edgegen_runtime::pictures::encode_png;

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
    /// Pictures by kitty's graphics protocol.
    Kitty,
    /// Pictures as sixels (DEC's VT340 manual, chapter 14).
    Sixel,
}

impl Ability {
    /// Pictures or colours on a terminal, unless `NO_COLOR` is set or `TERM` is `dumb`. A terminal that draws pictures says so by its name,
    /// in `TERM` or `TERM_PROGRAM`.
    pub fn of(is_terminal: bool, no_color: Option<&str>, term: Option<&str>, program: Option<&str>) -> Self {
        let (term, program) = (term.unwrap_or(""), program.unwrap_or(""));
        let colorless = no_color.is_some_and(|value| !value.is_empty()) || term == "dumb";
        let named = |names: &[&str]| names.iter().any(|name| term.contains(name) || program == *name);
        match () {
            () if !is_terminal || colorless => Self::Plain,
            // they pass on what they do not know in pieces
            () if term.starts_with("screen") || term.starts_with("tmux") => Self::Color,
            () if named(&["kitty", "ghostty", "WezTerm"]) => Self::Kitty,
            () if named(&["sixel", "foot", "mlterm", "vt340", "contour"]) => Self::Sixel,
            () => Self::Color,
        }
    }
}

/// Dark to light.
const RAMP: &[u8] = b" .:-=+*#%@";

/// The picture in at most `columns` letters per line; every line ends in a line feed.
/// `monochrome` draws lit pixels as dots in colour `light`.
pub fn draw(picture: &Picture, columns: usize, ability: Ability, monochrome: bool, light: [u8; 3]) -> String {
    let columns = columns.max(1);
    match ability {
        Ability::Kitty => kitty(picture),
        Ability::Sixel => sixels(picture),
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

/// How often a picture's pixels are doubled where a terminal draws them: those of a screen are small.
fn magnified(picture: &Picture) -> Picture {
    let factor = (480 / picture.width().max(picture.height()).max(1)).max(1);
    Picture::from_fn(picture.width() * factor, picture.height() * factor, |x, y| {
        picture.at(x / factor, y / factor)
    })
}

/// A PNG file by kitty's graphics protocol, in pieces of 4096 letters.
fn kitty(picture: &Picture) -> String {
    let picture = magnified(picture);
    let (width, height) = (picture.width(), picture.height());
    let frame = Frame { width, height, format: PixelFormat::Rgb8, pixels: picture.rgb().to_vec() };
    let Ok(png) = encode_png(&frame) else { return String::new() };
    let letters = STANDARD.encode(png);
    let pieces: Vec<&[u8]> = letters.as_bytes().chunks(4096).collect();
    let mut text = String::new();
    for (number, piece) in pieces.iter().enumerate() {
        let start = if number == 0 { "a=T,f=100,q=2," } else { "" };
        let more = u8::from(number + 1 < pieces.len());
        let _ = write!(text, "\x1b_G{start}m={more};{}\x1b\\", String::from_utf8_lossy(piece));
    }
    text.push('\n');
    text
}

/// Levels of red, green and blue of the sixels' palette: 252 colours, of the 256 that terminals have.
const PALETTE: [u8; 3] = [5, 6, 5];
/// Widest picture that is drawn as sixels.
const WIDEST: usize = 1024;

/// Sixels: for each of six rows and each colour in them, a letter a column whose bits say which pixels have it.
fn sixels(picture: &Picture) -> String {
    let picture = magnified(picture);
    let (width, height) = (picture.width().min(WIDEST), picture.height());
    let mut text = format!("\x1bP0;1;0q\"1;1;{width};{height}");
    let [reds, greens, blues] = PALETTE.map(u32::from);
    let number = |[red, green, blue]: [u8; 3]| {
        (u32::from(red) * (greens + 1) + u32::from(green)) * (blues + 1) + u32::from(blue)
    };
    let mut ditherer = Ditherer::<WIDEST>::new(Dither::Bayer);
    let mut known = [false; 256];
    for top in (0..height).step_by(6) {
        let rows: Vec<Vec<[u8; 3]>> = (top..(top + 6).min(height))
            .map(|y| {
                let mut row: Vec<[u8; 3]> = (0..width).map(|x| picture.at(x, y)).collect();
                ditherer.row(&mut row, 3, PALETTE, (0, y as u32));
                row
            })
            .collect();
        let mut colors: Vec<[u8; 3]> = rows.iter().flatten().copied().collect();
        colors.sort_unstable();
        colors.dedup();
        for color in colors {
            let number = number(color);
            if !std::mem::replace(&mut known[number as usize & 0xFF], true) {
                let percent = |level: u8, of: u32| u32::from(level) * 100 / of;
                let [red, green, blue] =
                    [percent(color[0], reds), percent(color[1], greens), percent(color[2], blues)];
                let _ = write!(text, "#{number};2;{red};{green};{blue}");
            }
            let _ = write!(text, "#{number}");
            let bits = |x: usize| {
                let lit = rows.iter().enumerate().filter(|(_, row)| row[x] == color);
                lit.fold(0u8, |bits, (at, _)| bits | 1 << at)
            };
            let mut x = 0;
            while x < width {
                let letter = bits(x);
                let run = (x..width).take_while(|at| bits(*at) == letter).count();
                let shown = char::from(0x3F + letter);
                match run {
                    1..=3 => text.extend(std::iter::repeat_n(shown, run)),
                    _ => drop(write!(text, "!{run}{shown}")),
                }
                x += run;
            }
            text.push('$');
        }
        text.push('-');
    }
    text.push_str("\x1b\\\n");
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
            ((true, None, Some("xterm"), None), Ability::Color),
            ((true, Some(""), None, None), Ability::Color),
            ((false, None, Some("xterm"), None), Ability::Plain),
            ((false, None, Some("xterm-kitty"), None), Ability::Plain),
            ((true, Some("1"), Some("xterm"), None), Ability::Plain),
            ((true, None, Some("dumb"), None), Ability::Plain),
            ((true, None, Some("xterm-kitty"), None), Ability::Kitty),
            ((true, None, Some("xterm-256color"), Some("WezTerm")), Ability::Kitty),
            ((true, None, Some("foot"), None), Ability::Sixel),
            ((true, None, Some("xterm-sixel"), None), Ability::Sixel),
            ((true, None, Some("screen-256color"), Some("WezTerm")), Ability::Color),
        ];
        for ((is_terminal, no_color, term, program), expected) in table {
            let ability = Ability::of(is_terminal, no_color, term, program);
            assert_eq!(ability, expected, "{is_terminal} {no_color:?} {term:?} {program:?}");
        }
    }

    /// Colours of the pixels, by the rules of the manual.
    fn decoded(text: &str) -> Vec<Vec<[u32; 3]>> {
        let body = text.strip_prefix("\x1bP0;1;0q\"1;1;").unwrap().strip_suffix("\x1b\\\n").unwrap();
        let mut numbers = body.splitn(3, [';', '#']);
        let width: usize = numbers.next().unwrap().parse().unwrap();
        let height: usize = numbers.next().unwrap().parse().unwrap();
        let mut pixels = vec![vec![[999; 3]; width]; height];
        let mut palette = std::collections::HashMap::new();
        let letters: Vec<char> = format!("#{}", numbers.next().unwrap()).chars().collect();
        let (mut at, mut x, mut top, mut color, mut run) = (0, 0, 0, 0, 1);
        let number = |at: &mut usize| {
            let start = *at;
            while letters.get(*at).is_some_and(char::is_ascii_digit) {
                *at += 1;
            }
            letters[start..*at].iter().collect::<String>().parse::<u32>().unwrap()
        };
        while at < letters.len() {
            let letter = letters[at];
            at += 1;
            match letter {
                '#' => {
                    color = number(&mut at);
                    if letters.get(at) == Some(&';') {
                        let mut part = || {
                            at += 1;
                            number(&mut at)
                        };
                        assert_eq!(part(), 2, "red, green and blue");
                        palette.insert(color, [part(), part(), part()]);
                    }
                }
                '!' => run = number(&mut at) as usize,
                '$' => x = 0,
                '-' => (x, top) = (0, top + 6),
                _ => {
                    let bits = letter as u32 - 0x3F;
                    for _ in 0..std::mem::replace(&mut run, 1) {
                        for row in (0..6).filter(|row| bits >> row & 1 == 1) {
                            pixels[top + row][x] = palette[&color];
                        }
                        x += 1;
                    }
                }
            }
        }
        pixels
    }

    #[test]
    fn sixels_say_each_pixels_colour() {
        let picture = Picture::from_fn(240, 160, |x, y| match (x, y) {
            (0, 0) => [255, 0, 0],
            (x, _) if x > 200 => [0, 0, 255],
            (_, y) if y > 100 => [255; 3],
            _ => [0; 3],
        });
        let pixels = decoded(&draw(&picture, 80, Ability::Sixel, false, [0; 3]));
        assert_eq!((pixels[0].len(), pixels.len()), (480, 320), "doubled");
        for (x, y) in [(0, 0), (1, 0), (2, 0), (300, 50), (300, 250), (450, 250), (479, 319)] {
            let expected = picture.at(x / 2, y / 2).map(|level| u32::from(level) * 100 / 255);
            assert_eq!(pixels[y][x], expected, "{x} {y}");
        }
        assert!(pixels.iter().flatten().all(|color| color[0] <= 100), "every pixel has a colour");
    }

    #[test]
    fn kittys_pieces_are_a_png_file() {
        let picture = Picture::from_fn(240, 240, |x, y| [(x * y) as u8, (x * 7) as u8, (y * 13) as u8]);
        let text = draw(&picture, 80, Ability::Kitty, false, [0; 3]);
        let pieces: Vec<&str> =
            text.split("\x1b\\").filter_map(|piece| piece.split_once(';').map(|parts| parts.1)).collect();
        assert!(pieces.len() > 2 && pieces.iter().all(|piece| piece.len() <= 4096));
        assert!(text.starts_with("\x1b_Ga=T,f=100,q=2,m=1;") && text.contains("\x1b_Gm=0;"));
        let png = STANDARD.decode(pieces.concat()).unwrap();
        assert!(png.starts_with(b"\x89PNG"));
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
