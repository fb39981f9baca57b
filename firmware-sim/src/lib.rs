//! The device's program on a virtual panel: what a small display would show, without the display.
//!
//! # Layers
//!
//! | module | what it does |
//! |---|---|
//! | [`generator`] | pictures for the firmware: a model in `edgegen_runtime`, or a stored picture |
//! | [`names`] | what users call settings |
//! | [`script`] | the buttons that a user presses, written down |
//! | [`run`](mod@run) | the firmware's two tasks, on two threads or in one loop, in front of a virtual panel, until a script is over |
//! | [`live`] | the same for as long as somebody wants, on any panel, through faults and with a user |
//! | [`panel`] | virtual panels behind the drivers of real ones |
//! | [`web`] | the panel in a browser, with its buttons |
//! | [`show`] | the panel's picture as PNG, GIF, in a terminal, or beside those of others |
//!
//! The firmware itself is `edgegen_firmware`; it runs here as it would on a board.
//!
//! # Guarantees
//!
//! - Everything between the model's pixels and the panel is integer arithmetic, and the panel's time
//!   is virtual: the same frame gives the same picture and the same bus figures on every machine.
//! - Two threads and one loop show the same pictures.
//! - A file is written in full or not at all.
//!
//! # What is left out
//!
//! No light leaks, no viewing angle, no gamma of the glass, no tearing: a picture is what the
//! controller's RAM says. What a panel does not imitate, it counts as a [`panel::Complaint`].
//!
//! # Example
//!
//! ```
//! use edgegen_firmware::{DisplaySettings, GeneratorSettings, PictureShape};
//! use edgegen_firmware_sim::generator::StoredPicture;
//! use edgegen_firmware_sim::panel::{Mounting, Observed, Panel, Visit};
//! use edgegen_firmware_sim::picture::Picture;
//! use edgegen_firmware_sim::run::{Plan, run};
//!
//! struct Next;
//! impl Visit for Next {
//!     type Output = Picture;
//!     fn visit<D: Observed>(self, device: &mut D) -> Picture {
//!         let shape = PictureShape::new(1, 2, 2).unwrap();
//!         let checker = StoredPicture::new(shape, vec![255, 0, 0, 255]).unwrap();
//!         let plan = Plan {
//!             script: "next".parse().unwrap(),
//!             generator: GeneratorSettings::default(),
//!             display: DisplaySettings::default(),
//!             show_rate: false,
//!             threads: true,
//!         };
//!         let mut last = None;
//!         run(checker, device, &plan, |_, picture| last = Some(picture)).unwrap();
//!         last.unwrap()
//!     }
//! }
//!
//! let shown = Panel::named("ssd1306")?.open(400_000, Mounting::default(), Next)?;
//! // Two by two pixels become 64 by 64, in the middle of 128.
//! assert_ne!(shown.at(40, 8), [0; 3]);
//! assert_eq!(shown.at(80, 8), [0; 3]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod builtin;
pub mod generator;
pub mod live;
pub mod names;
pub mod panel;
pub mod picture;
pub mod run;
pub mod script;
pub mod show;
pub mod web;
