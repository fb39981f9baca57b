//! The panel in a window of its own (SDL), with keys for its buttons.

use anyhow::{Result, bail};
use edgegen_firmware::Button;
use edgegen_firmware_sim::generator::Source;
use edgegen_firmware_sim::live::{Control, Host, News};
use edgegen_firmware_sim::panel::Panel;
use embedded_graphics::pixelcolor::Rgb888;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::Rectangle;
use embedded_graphics_simulator::sdl2::Keycode;
use embedded_graphics_simulator::{OutputSettings, SimulatorDisplay, SimulatorEvent, Window};

/// Keys, for whoever starts it.
pub(crate) const KEYS: &str =
    "n next, w walk, h hold, g gallery, b back, arrows turn the knobs, q or Escape ends it";

/// A window.
pub(crate) struct Windowed {
    panel: Panel,
    /// Quarters that what is drawn is turned.
    quarters: u8,
    window: Window,
    shown: bool,
    asked: Vec<Control>,
    closed: bool,
}

impl Windowed {
    /// For this panel.
    ///
    /// # Errors
    /// If there is no screen.
    pub(crate) fn new(panel: Panel, quarters: u8) -> Result<Self> {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        if !["DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"].into_iter().any(set) {
            bail!("there is no screen for --window here (DISPLAY is not set); --web 8080 needs none");
        }
        let window = Window::new(&format!("edgegen-sim: {}", panel.name), &OutputSettings::default());
        Ok(Self { panel, quarters, window, shown: false, asked: Vec::new(), closed: false })
    }
}

/// What a key asks for.
fn control(key: Keycode) -> Option<Control> {
    let turn = |knob, clicks| Button::Turn { knob, clicks };
    Some(Control::Press(match key {
        Keycode::N => Button::Next,
        Keycode::W => Button::Walk,
        Keycode::H => Button::Hold,
        Keycode::G => Button::Select,
        Keycode::B => Button::Back,
        Keycode::Left => turn(0, -1),
        Keycode::Right => turn(0, 1),
        Keycode::Up => turn(1, 1),
        Keycode::Down => turn(1, -1),
        _ => return None,
    }))
}

impl Host for Windowed {
    fn goes_on(&mut self) -> bool {
        // a window has events once it has shown something
        if self.shown {
            for event in self.window.events() {
                match event {
                    SimulatorEvent::Quit
                    | SimulatorEvent::KeyDown { keycode: Keycode::Q | Keycode::Escape, .. } => {
                        self.closed = true
                    }
                    SimulatorEvent::KeyDown { keycode, .. } => self.asked.extend(control(keycode)),
                    _ => {}
                }
            }
        }
        !self.closed
    }

    fn next_control(&mut self) -> Option<Control> {
        (!self.asked.is_empty()).then(|| self.asked.remove(0))
    }

    fn replacement(&mut self, _: &Source) -> Option<Source> {
        None
    }

    fn shown(&mut self, news: &News<'_>) {
        let Some(picture) = &news.picture else { return };
        let module = self.panel.look().dress(&picture.turned(4 - self.quarters % 4));
        let mut display = SimulatorDisplay::<Rgb888>::new(module.size());
        let colors =
            module.rgb().as_chunks::<3>().0.iter().map(|[red, green, blue]| Rgb888::new(*red, *green, *blue));
        let Ok(()) = display.fill_contiguous(&Rectangle::new(Point::zero(), module.size()), colors);
        self.window.update(&display);
        self.shown = true;
    }

    fn refused(&mut self, reason: &str) {
        eprintln!("{reason}");
    }

    fn failed(&mut self, error: &anyhow::Error) {
        eprintln!("{error:#}; trying again");
    }
}
