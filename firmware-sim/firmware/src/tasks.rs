//! The two tasks. Each has a `poll` that does at most one picture's work and never blocks, so one
//! loop can call both, or each can have a core.

use embedded_graphics::prelude::*;
use embedded_graphics::primitives::Rectangle;

use crate::caption;
use crate::dither::Dither;
use crate::generator::{Generator, PictureShape, Request};
use crate::layout::{self, Areas, Grid, Scaling};
use crate::link::{DisplayEnd, Frame, GeneratorEnd, LinkError};
use crate::paint::{PaintError, Painter, PanelColor};
use crate::states::{Button, Counts, Leg, State, View};

/// What the generator task starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GeneratorSettings {
    /// The first seed.
    pub seed: u64,
    /// Pictures in a gallery, see [`DisplaySettings::grid`]; 0 counts as 1.
    pub tiles: u32,
    /// Pictures on a walk from seed to seed, both included; below 2 counts as 2.
    pub steps: u32,
}

impl Default for GeneratorSettings {
    /// Seed 0, a gallery of 16, 24 pictures from seed to seed.
    fn default() -> Self {
        Self { seed: 0, tiles: 16, steps: 24 }
    }
}

/// What a poll of the generator task came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A picture was made and sent.
    Sent,
    /// A picture is due, but the display has not given back a buffer yet.
    NoBuffer,
    /// Nothing is due until a button is pressed.
    AtRest,
}

/// Makes the pictures that the buttons ask for.
pub struct GeneratorTask<'link, 'buffer, G> {
    generator: G,
    end: GeneratorEnd<'link, 'buffer>,
    state: State,
    counts: Counts,
}

impl<'link, 'buffer, G: Generator> GeneratorTask<'link, 'buffer, G> {
    /// An error when a buffer of the link is smaller than a picture of the generator.
    pub fn new(
        generator: G,
        end: GeneratorEnd<'link, 'buffer>,
        settings: GeneratorSettings,
    ) -> Result<Self, LinkError> {
        end.check_fits(generator.shape())?;
        let counts = Counts { tiles: settings.tiles.max(1), steps: settings.steps.max(2) };
        Ok(Self { generator, end, state: State::Idle { seed: settings.seed }, counts })
    }

    /// What makes the pictures.
    pub fn generator(&self) -> &G {
        &self.generator
    }

    /// The same, to be changed; what was made stays as it is.
    pub fn generator_mut(&mut self) -> &mut G {
        &mut self.generator
    }

    /// Makes what is shown anew, of this seed.
    pub fn show(&mut self, seed: u64) {
        self.state = self.state.again(seed);
    }

    /// Changes how many pictures a gallery has; 0 counts as 1.
    pub fn set_tiles(&mut self, tiles: u32) {
        self.counts.tiles = tiles.max(1);
    }

    /// Lets another generator make the pictures from the next one on. Of another shape than the one before, it may need larger
    /// buffers than there are.
    ///
    /// # Errors
    /// The generator itself, if a buffer is smaller than its pictures.
    pub fn replace(&mut self, generator: G) -> Result<(), G> {
        match self.end.check_fits(generator.shape()) {
            Ok(()) => {
                self.generator = generator;
                Ok(())
            }
            Err(_) => Err(generator),
        }
    }

    /// What the task is doing.
    pub fn state(&self) -> State {
        self.state
    }

    /// Presses a button, from the same core or thread as [`GeneratorTask::poll`]. From another
    /// one, use [`DisplayEnd::press`].
    pub fn press(&mut self, button: Button) {
        self.state = match button {
            Button::Turn { knob, clicks } if !self.generator.turn(knob, clicks) => match knob {
                0 => self.state.again(self.state.seed().wrapping_add_signed(clicks.into())),
                _ => self.state,
            },
            _ => self.state.press(button),
        };
    }

    /// Starts a walk to a seed of the caller's choice; after it, the walk goes on to that seed's successor.
    pub fn walk(&mut self, from: u64, to: u64) {
        self.state = State::Walk(Leg { from, to, step: 0 });
    }

    /// Takes waiting presses, then makes the picture that is due, if there is one and a buffer for
    /// it. After an error the same picture is due again.
    pub fn poll(&mut self) -> Result<Progress, G::Error> {
        while let Some(button) = self.end.next_press() {
            self.press(button);
        }
        let Some(work) = self.state.work(self.counts) else { return Ok(Progress::AtRest) };
        let Some(buffer) = self.end.take_buffer() else { return Ok(Progress::NoBuffer) };
        let shape = self.generator.shape();
        if work.view != View::Blank
            && let Err(error) = self.generator.generate(work.request, &mut buffer[..shape.bytes()])
        {
            self.end.put_back(buffer);
            return Err(error);
        }
        if !self.end.send(Frame { buffer, shape, work }) {
            return Ok(Progress::NoBuffer);
        }
        self.state = self.state.advance(self.counts);
        Ok(Progress::Sent)
    }
}

/// How pictures look on the panel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DisplaySettings {
    /// How values between the panel's levels are shown.
    pub dither: Dither,
    /// How pictures grow.
    pub scaling: Scaling,
    /// Whether a caption stands below or beside the picture.
    pub caption: bool,
    /// Whether the glass is a circle: galleries, and pictures with captions, stay inside of it.
    pub round: bool,
}

impl DisplaySettings {
    /// The part of a panel that is drawn on.
    fn area(self, panel: Rectangle, view: View) -> Rectangle {
        if self.round && (self.caption || view != View::Whole) { layout::inside_circle(panel) } else { panel }
    }

    /// How pictures stand in a gallery on a panel of this size.
    pub fn grid(self, panel: Size, shape: PictureShape) -> Grid {
        let panel = Rectangle::new(Point::zero(), panel);
        Grid::for_area(self.area(panel, View::Tile { tile: 0 }).size, shape)
    }
}

impl From<Dither> for DisplaySettings {
    fn from(dither: Dither) -> Self {
        Self { dither, ..Self::default() }
    }
}

/// What the display task has just shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Which picture.
    pub request: Request,
    /// Where.
    pub view: View,
}

/// Shows pictures on a panel of up to `WIDTH` columns.
pub struct DisplayTask<'link, 'buffer, const WIDTH: usize> {
    end: DisplayEnd<'link, 'buffer>,
    painter: Painter<WIDTH>,
    settings: DisplaySettings,
    frames_per_second: Option<u32>,
    on_panel: Option<Arrangement>,
}

/// What must stay the same for the panel not to be cleared before the next picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Arrangement {
    gallery: bool,
    shape: PictureShape,
}

impl<'link, 'buffer, const WIDTH: usize> DisplayTask<'link, 'buffer, WIDTH> {
    /// A task for a panel with unknown contents: it clears the panel before the first picture.
    pub fn new(end: DisplayEnd<'link, 'buffer>, settings: DisplaySettings) -> Self {
        let painter = Painter::new(settings.dither);
        Self { end, painter, settings, frames_per_second: None, on_panel: None }
    }

    /// Changes how pictures look from the next one on.
    pub fn set(&mut self, settings: DisplaySettings) {
        self.painter = Painter::new(settings.dither);
        self.settings = settings;
    }

    /// Passes a press on to the generator task; gives it back when too many are waiting.
    pub fn press(&mut self, button: Button) -> Result<(), Button> {
        self.end.press(button)
    }

    /// The panel's contents are unknown again, as after it was without power: it is cleared before the next picture.
    pub fn restart(&mut self) {
        self.on_panel = None;
    }

    /// What the next captions say about speed. The firmware has no clock of its own.
    pub fn set_frames_per_second(&mut self, frames_per_second: Option<u32>) {
        self.frames_per_second = frames_per_second;
    }

    /// Shows the next picture, if one is waiting. A driver with a buffer of its own needs a flush
    /// after each `Some`. A picture that could not be painted is dropped; its buffer is not lost.
    pub fn poll<D: DrawTarget<Color: PanelColor>>(
        &mut self,
        target: &mut D,
    ) -> Result<Option<Shown>, PaintError<D::Error>> {
        let Some(frame) = self.end.receive() else { return Ok(None) };
        let shown = Shown { request: frame.request(), view: frame.view() };
        let painted = self.show(&frame, target);
        self.end.recycle(frame);
        painted.map(|()| Some(shown))
    }

    fn show<D: DrawTarget<Color: PanelColor>>(
        &mut self,
        frame: &Frame<'_>,
        target: &mut D,
    ) -> Result<(), PaintError<D::Error>> {
        let (shape, scaling) = (frame.shape(), self.settings.scaling);
        let panel = self.settings.area(target.bounding_box(), frame.view());
        let gallery = match frame.view() {
            View::Blank => {
                target.clear(D::Color::PAPER)?;
                self.on_panel = None;
                return Ok(());
            }
            View::Whole => None,
            View::Tile { tile } => Some((Grid::for_area(panel.size, shape), tile)),
        };
        let place_in = |area: Rectangle| match gallery {
            None => layout::fit(area, shape, scaling),
            Some((grid, tile)) => grid.fit(area, tile, shape, scaling),
        };
        let Areas { picture, caption } =
            layout::divide(panel, self.settings.caption, |area| place_in(area).0.size.width);
        let arrangement = Arrangement { gallery: gallery.is_some(), shape };
        let begins = matches!(frame.view(), View::Tile { tile: 0 })
            && matches!(frame.request(), Request::Still { .. });
        if self.on_panel != Some(arrangement) || begins {
            target.clear(D::Color::PAPER)?;
            self.on_panel = Some(arrangement);
        }
        if let Some(area) = caption {
            let colors = (D::Color::INK, D::Color::PAPER);
            caption::draw(target, area, colors, frame.request(), self.frames_per_second)?;
        }
        self.painter.paint(target, frame.pixels(), shape, place_in(picture))
    }
}
