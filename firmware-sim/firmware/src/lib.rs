//! What runs on the device: button presses in, pictures on a panel out, without `std` and without
//! an allocator.
//!
//! # Layers
//!
//! | module | what it does | knows |
//! |---|---|---|
//! | [`generator`] | the [`Generator`] trait: a [`Request`] in, NHWC pixels out | nothing |
//! | [`states`] | which picture is due: a pure state machine over [`Button`]s | `generator` |
//! | [`buttons`] | pin levels to presses: debouncing, short and long | `states` |
//! | [`link`](mod@link) | two lock-free queues that pass frame buffers round | `states` |
//! | [`tasks`] | the generator task and the display task | all of them |
//! | [`layout`] | where a picture, a gallery and a caption go on a panel | `generator` |
//! | [`sample`] | a picture at another size | `generator` |
//! | [`dither`] | 8-bit values to the few levels that a panel can show | nothing |
//! | [`paint`] | one picture onto a `DrawTarget` | `sample`, `dither` |
//!
//! # Guarantees
//!
//! - Frame buffers are handed round, never copied: one goes to the generator empty, to the display
//!   full, and back. When the display is slow, the generator finds no buffer and waits.
//! - [`GeneratorTask::poll`] and [`DisplayTask::poll`] never block. One loop may call both (a
//!   microcontroller with one core), or each may have its own core or thread; the pictures are the same.
//! - From pixels to panel all arithmetic is in integers, so every platform shows the same picture.
//!
//! # What is left out
//!
//! Pixels are dithered as they are (sRGB values), not in linear light. There is no partial
//! refresh: a new picture redraws its whole area.
//!
//! # Example
//!
//! ```
//! use edgegen_firmware::{
//!     Button, DisplayTask, Dither, Generator, GeneratorTask, Link, PictureShape, Progress, Request, View,
//! };
//! use embedded_graphics::{mock_display::MockDisplay, pixelcolor::Rgb565};
//!
//! struct White;
//! impl Generator for White {
//!     type Error = core::convert::Infallible;
//!     fn latent_dim(&self) -> usize { 1 }
//!     fn shape(&self) -> PictureShape { PictureShape::new(1, 4, 4).unwrap() }
//!     fn generate(&mut self, _: Request, pixels: &mut [u8]) -> Result<(), Self::Error> {
//!         pixels.fill(255);
//!         Ok(())
//!     }
//! }
//!
//! let mut buffers = [[0; 16]; 2];
//! let mut link = Link::<4>::new();
//! let (generator_end, display_end) = link.split(buffers.iter_mut().map(|b| &mut b[..])).unwrap();
//! let mut generator = GeneratorTask::new(White, generator_end, Default::default()).unwrap();
//! let mut display = DisplayTask::<64>::new(display_end, Dither::Bayer.into());
//!
//! let mut panel = MockDisplay::<Rgb565>::new();
//! panel.set_allow_overdraw(true);
//! generator.press(Button::Next);
//! assert_eq!(generator.poll(), Ok(Progress::Sent));
//! let shown = display.poll(&mut panel).unwrap().unwrap();
//! assert_eq!(shown.view, View::Whole);
//! assert_eq!(generator.poll(), Ok(Progress::AtRest));
//! ```
#![no_std]

pub mod buttons;
pub mod caption;
pub mod dither;
pub mod generator;
pub mod layout;
pub mod link;
pub mod paint;
pub mod sample;
pub mod states;
pub mod tasks;

pub use buttons::{Debounce, Encoder, Press};
pub use dither::Dither;
pub use generator::{Generator, PictureShape, Request};
pub use layout::{Grid, Scaling};
pub use link::{DisplayEnd, Frame, GeneratorEnd, Link, LinkError};
pub use paint::{PaintError, Painter, PanelColor};
pub use states::{Button, State, View, Work};
pub use tasks::{DisplaySettings, DisplayTask, GeneratorSettings, GeneratorTask, Progress, Shown};
