//! The two tasks together: who waits for whom, what is shown, and that threads change nothing.

use edgegen_firmware::states::Held;
use edgegen_firmware::{
    Button, DisplaySettings, DisplayTask, Dither, Generator, GeneratorSettings, GeneratorTask, Link,
    LinkError, PaintError, PictureShape, Progress, Request, Scaling, State, View,
};
use embedded_graphics::mock_display::MockDisplay;
use embedded_graphics::pixelcolor::BinaryColor;
use embedded_graphics::prelude::*;

const SIDE: u16 = 4;
const BYTES: usize = (SIDE * SIDE) as usize;
const SETTINGS: GeneratorSettings = GeneratorSettings { seed: 5, tiles: 4, steps: 3 };

/// A picture whose gray tells its request; fails on one seed.
struct Labels {
    fails_on: Option<u64>,
}

impl Generator for Labels {
    type Error = &'static str;

    fn latent_dim(&self) -> usize {
        1
    }

    fn shape(&self) -> PictureShape {
        PictureShape::new(1, SIDE, SIDE).unwrap()
    }

    fn generate(&mut self, request: Request, pixels: &mut [u8]) -> Result<(), Self::Error> {
        let label = match request {
            Request::Still { seed, .. } if Some(seed) == self.fails_on => return Err("out of ideas"),
            Request::Still { seed, index } => seed * 16 + index * 40,
            Request::Between { from, to, step, steps, .. } => {
                from * 16 * u64::from(steps - 1 - step) + to * 16 * u64::from(step)
            }
        };
        pixels.iter_mut().enumerate().for_each(|(i, pixel)| *pixel = (label + 7 * i as u64) as u8);
        Ok(())
    }
}

const LABELS: Labels = Labels { fails_on: None };

fn panel() -> MockDisplay<BinaryColor> {
    let mut panel = MockDisplay::new();
    panel.set_allow_overdraw(true);
    panel
}

fn boxes(count: usize) -> Vec<[u8; BYTES]> {
    vec![[0; BYTES]; count]
}

#[test]
fn the_generator_waits_when_the_display_is_slow() {
    let mut memory = boxes(2);
    let mut link = Link::<4>::new();
    let (generator_end, display_end) = link.split(memory.iter_mut().map(|b| &mut b[..])).unwrap();
    let mut generator = GeneratorTask::new(LABELS, generator_end, SETTINGS).unwrap();
    let mut display = DisplayTask::<64>::new(display_end, Dither::Bayer.into());
    let mut panel = panel();

    assert_eq!(generator.poll(), Ok(Progress::AtRest));
    generator.press(Button::Walk);
    assert_eq!(generator.poll(), Ok(Progress::Sent));
    assert_eq!(generator.poll(), Ok(Progress::Sent));
    assert_eq!(generator.poll(), Ok(Progress::NoBuffer));
    assert_eq!(generator.poll(), Ok(Progress::NoBuffer), "waiting loses no step");
    let step = |shown: Option<edgegen_firmware::Shown>| match shown.map(|shown| shown.request) {
        Some(Request::Between { from, step, .. }) => Some((from, step)),
        _ => None,
    };
    assert_eq!(step(display.poll(&mut panel).unwrap()), Some((5, 0)));
    assert_eq!(generator.poll(), Ok(Progress::Sent));
    assert_eq!(generator.poll(), Ok(Progress::NoBuffer));
    assert_eq!(step(display.poll(&mut panel).unwrap()), Some((5, 1)));
    assert_eq!(step(display.poll(&mut panel).unwrap()), Some((5, 2)));
    assert_eq!(display.poll(&mut panel), Ok(None));
    assert_eq!(generator.poll(), Ok(Progress::Sent), "the next leg goes on behind the shared picture");
    assert_eq!(step(display.poll(&mut panel).unwrap()), Some((6, 1)));
}

#[test]
fn presses_from_the_other_side_arrive() {
    let mut memory = boxes(1);
    let mut link = Link::<2>::new();
    let (generator_end, display_end) = link.split(memory.iter_mut().map(|b| &mut b[..])).unwrap();
    let mut generator = GeneratorTask::new(LABELS, generator_end, SETTINGS).unwrap();
    let mut display = DisplayTask::<64>::new(display_end, Dither::Bayer.into());
    display.press(Button::Next).unwrap();
    display.press(Button::Next).unwrap();
    assert_eq!(generator.poll(), Ok(Progress::Sent));
    assert_eq!(generator.state(), State::Hold(Held::Picture { seed: 6 }));
}

#[test]
fn a_failed_picture_costs_no_buffer() {
    let mut memory = boxes(1);
    let mut link = Link::<2>::new();
    let (generator_end, display_end) = link.split(memory.iter_mut().map(|b| &mut b[..])).unwrap();
    let mut generator = GeneratorTask::new(Labels { fails_on: Some(5) }, generator_end, SETTINGS).unwrap();
    let mut display = DisplayTask::<64>::new(display_end, Dither::Bayer.into());
    generator.press(Button::Next);
    for _ in 0..3 {
        assert_eq!(generator.poll(), Err("out of ideas"));
    }
    generator.press(Button::Next);
    assert_eq!(generator.poll(), Ok(Progress::Sent));
    assert!(display.poll(&mut panel()).unwrap().is_some());
}

#[test]
fn a_picture_that_cannot_be_painted_costs_no_buffer() {
    let mut memory = boxes(1);
    let mut link = Link::<2>::new();
    let (generator_end, display_end) = link.split(memory.iter_mut().map(|b| &mut b[..])).unwrap();
    let mut generator = GeneratorTask::new(LABELS, generator_end, SETTINGS).unwrap();
    let mut display = DisplayTask::<8>::new(display_end, Dither::Bayer.into());
    for _ in 0..3 {
        generator.press(Button::Next);
        assert_eq!(generator.poll(), Ok(Progress::Sent));
        assert_eq!(display.poll(&mut panel()), Err(PaintError::TooWide { width: 64, room: 8 }));
    }
}

#[test]
fn buffers_must_hold_a_picture() {
    let mut memory = [0u8; BYTES - 1];
    let mut link = Link::<2>::new();
    let (generator_end, _) = link.split([&mut memory[..]]).unwrap();
    let error = GeneratorTask::new(LABELS, generator_end, SETTINGS).err();
    assert_eq!(error, Some(LinkError::BufferTooSmall { needed: BYTES, bytes: BYTES - 1 }));
}

#[test]
fn back_blanks_the_panel() {
    let mut memory = boxes(1);
    let mut link = Link::<2>::new();
    let (generator_end, display_end) = link.split(memory.iter_mut().map(|b| &mut b[..])).unwrap();
    let mut generator = GeneratorTask::new(LABELS, generator_end, SETTINGS).unwrap();
    let mut display = DisplayTask::<64>::new(display_end, Dither::Bayer.into());
    let mut panel = panel();
    let mut show = |button| {
        generator.press(button);
        while generator.poll().unwrap() == Progress::Sent {
            assert!(display.poll(&mut panel).unwrap().is_some());
        }
        lit(&panel)
    };
    assert!(show(Button::Next) > 0);
    assert_eq!(show(Button::Back), 0);
    assert!(show(Button::Select) > 0);
}

fn lit(panel: &MockDisplay<BinaryColor>) -> usize {
    panel.bounding_box().points().filter(|point| panel.get_pixel(*point) == Some(BinaryColor::On)).count()
}

fn pixels(panel: &MockDisplay<BinaryColor>) -> Vec<bool> {
    panel.bounding_box().points().map(|point| panel.get_pixel(point) == Some(BinaryColor::On)).collect()
}

/// The panel after each picture of a gallery and a walk, made by one loop or by two threads.
fn run(threads: bool) -> Vec<(View, Vec<bool>)> {
    let mut memory = boxes(3);
    let mut link = Link::<4>::new();
    let (generator_end, display_end) = link.split(memory.iter_mut().map(|b| &mut b[..])).unwrap();
    let mut generator = GeneratorTask::new(LABELS, generator_end, SETTINGS).unwrap();
    generator.press(Button::Select);
    let settings = DisplaySettings {
        dither: Dither::FloydSteinberg,
        scaling: Scaling::Smooth,
        caption: true,
        round: false,
    };
    let mut display = DisplayTask::<64>::new(display_end, settings);
    let mut panel = panel();
    let mut shown = Vec::new();
    let wanted = SETTINGS.tiles as usize + 6;
    let mut generate = move |sent: &mut usize| {
        if *sent == wanted {
            return false;
        }
        if generator.poll().unwrap() == Progress::Sent {
            *sent += 1;
        }
        if matches!(generator.state(), State::Hold(_)) {
            generator.press(Button::Walk);
        }
        true
    };
    let mut show = |panel: &mut MockDisplay<BinaryColor>| {
        if let Some(what) = display.poll(panel).unwrap() {
            shown.push((what.view, pixels(panel)));
        }
        shown.len()
    };
    let mut sent = 0;
    if threads {
        std::thread::scope(|scope| {
            scope.spawn(move || while generate(&mut sent) {});
            while show(&mut panel) < wanted {
                std::hint::spin_loop();
            }
        });
    } else {
        while show(&mut panel) < wanted {
            generate(&mut sent);
        }
    }
    shown
}

#[test]
fn one_loop_and_two_threads_show_the_same() {
    let alone = run(false);
    assert_eq!(alone.len(), SETTINGS.tiles as usize + 6);
    assert_eq!(alone, run(true));
}
