//! What the caption says: which picture this is and how fast they come.

use core::fmt::Write;

use embedded_graphics::mono_font::{MonoTextStyleBuilder, ascii::FONT_6X10};
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::Rectangle;
use embedded_graphics::text::{Baseline, Text};
use heapless::{String, Vec};

use crate::generator::Request;

/// Height of a line in pixels (the font is 6 by 10).
pub const LINE_HEIGHT: u32 = 10;

/// Width of a caption that stands beside the picture: ten letters.
pub const COLUMN_WIDTH: u32 = 60;

/// Longest entry: "18446744073709551615" and a word.
const ENTRY_LETTERS: usize = 28;

type Entry = String<ENTRY_LETTERS>;

/// The entries: seed or way, step, frames per second.
fn entries(request: Request, frames_per_second: Option<u32>) -> Vec<Entry, 3> {
    let mut entries = Vec::new();
    let mut add = |text: core::fmt::Arguments<'_>| {
        let mut entry = Entry::new();
        // What does not fit is cut off: a caption must not stop the device.
        let _cut = entry.write_fmt(text);
        let _never_full = entries.push(entry);
    };
    match request {
        Request::Still { seed, .. } => add(format_args!("seed {seed}")),
        Request::Between { from, to, step, steps, .. } => {
            add(format_args!("walk {from}>{to}"));
            add(format_args!("{}/{steps}", u64::from(step) + 1));
        }
    }
    if let Some(frames_per_second) = frames_per_second {
        add(format_args!("{frames_per_second} fps"));
    }
    entries
}

/// Draws the caption into `area`: one line where it is wide and low, else an entry per line.
pub(crate) fn draw<D: DrawTarget>(
    target: &mut D,
    area: Rectangle,
    (ink, paper): (D::Color, D::Color),
    request: Request,
    frames_per_second: Option<u32>,
) -> Result<(), D::Error> {
    target.fill_solid(&area, paper)?;
    let style = MonoTextStyleBuilder::new().font(&FONT_6X10).text_color(ink).build();
    let mut clipped = target.clipped(&area);
    let one_line = area.size.height < 2 * LINE_HEIGHT;
    let mut at = area.top_left;
    for entry in entries(request, frames_per_second) {
        let end = Text::with_baseline(&entry, at, style, Baseline::Top).draw(&mut clipped)?;
        at = if one_line { end + Point::new(12, 0) } else { at + Size::new(0, LINE_HEIGHT + 2) };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_say_which_picture() {
        let text = |request, fps| entries(request, fps).iter().map(|entry| entry.len()).sum::<usize>();
        let all = entries(Request::Between { index: 0, from: 3, to: 4, step: 0, steps: 24 }, Some(35));
        assert_eq!(
            all.iter().map(|entry| entry.as_str()).collect::<Vec<_, 3>>(),
            ["walk 3>4", "1/24", "35 fps"]
        );
        assert_eq!(entries(Request::Still { seed: 7, index: 2 }, None)[0], "seed 7");
        assert!(text(Request::Still { seed: u64::MAX, index: 0 }, Some(u32::MAX)) > 25);
        let longest =
            Request::Between { index: 0, from: u64::MAX, to: u64::MAX, step: u32::MAX, steps: u32::MAX };
        assert!(entries(longest, None)[0].len() <= ENTRY_LETTERS);
    }
}
