//! The panel in a browser: what it shows, live, and its buttons, knobs and settings.
//!
//! A [`Hub`] stands between the loop in front of the panel and any number of viewers. The loop leaves pictures and takes what viewers ask
//! for; it never waits for one. A viewer gets the newest picture when it is ready for it, as a PNG of what differs from the last that it
//! got, over server-sent events.
//!
//! Only this machine is served, unless the user names another address and a token, without which nothing is answered.

mod server;
mod status;

pub use server::{Address, Served, check, serve};
pub use status::{Operated, Reopen};

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

use edgegen_firmware::Button;
use serde::Deserialize;

use crate::live::Control;
use crate::picture::Picture;

/// Requests that wait for the loop; more are turned away.
const MOST_REQUESTS: usize = 64;

/// What a viewer asks for, as JSON: `{"press": "next"}`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Asked {
    /// A button.
    Press(ButtonName),
    /// A knob's number and clicks.
    Turn(u8, i8),
    /// A class, or each in turn.
    Class(Option<String>),
    /// What latents are multiplied by.
    Truncation(f32),
    /// A value of the latent, by its number.
    Latent(usize, f32),
    /// Seeds count again.
    Seeds(bool),
    /// A seed.
    Seed(u64),
    /// A precision of the model folder.
    Precision(String),
}

/// A button's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ButtonName {
    /// [`Button::Next`].
    Next,
    /// [`Button::Walk`].
    Walk,
    /// [`Button::Hold`].
    Hold,
    /// [`Button::Select`].
    Select,
    /// [`Button::Back`].
    Back,
}

impl ButtonName {
    /// What it stands for.
    pub fn button(self) -> Button {
        match self {
            Self::Next => Button::Next,
            Self::Walk => Button::Walk,
            Self::Hold => Button::Hold,
            Self::Select => Button::Select,
            Self::Back => Button::Back,
        }
    }
}

/// What the loop is asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// What the player does itself.
    Control(Control),
    /// The model in another precision.
    Precision(String),
}

impl From<Asked> for Request {
    fn from(asked: Asked) -> Self {
        Self::Control(match asked {
            Asked::Press(name) => Control::Press(name.button()),
            Asked::Turn(knob, clicks) => Control::Press(Button::Turn { knob, clicks }),
            Asked::Class(class) => Control::Class(class),
            Asked::Truncation(truncation) => Control::Truncation(truncation),
            Asked::Latent(index, value) => Control::Latent(index, value),
            Asked::Seeds(_) => Control::Seeds,
            Asked::Seed(seed) => Control::Seed(seed),
            Asked::Precision(precision) => return Self::Precision(precision),
        })
    }
}

/// What viewers see.
#[derive(Clone, Debug, Default)]
struct View {
    /// Pictures so far.
    pictures: u64,
    picture: Option<Picture>,
    /// Milliseconds to make the last picture, and to paint and send it.
    making: f64,
    showing: f64,
    /// JSON, and how often it has changed.
    status: String,
    statuses: u64,
    /// What went wrong last, and how often something did.
    message: String,
    messages: u64,
}

/// Between the loop and its viewers.
#[derive(Debug, Default)]
pub struct Hub {
    view: Mutex<View>,
    changed: Condvar,
    requests: Mutex<VecDeque<Request>>,
}

/// A thread that panicked has left nothing half done in these.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Hub {
    /// Leaves a picture and what is to be told of it.
    pub fn show(&self, picture: Option<Picture>, status: String, making: Duration, showing: Duration) {
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        let mut view = lock(&self.view);
        view.pictures += 1;
        if picture.is_some() {
            view.picture = picture;
        }
        (view.making, view.showing) = (milliseconds(making), milliseconds(showing));
        if view.status != status {
            view.status = status;
            view.statuses += 1;
        }
        self.changed.notify_all();
    }

    /// Leaves a message.
    pub fn say(&self, message: &str) {
        let mut view = lock(&self.view);
        message.clone_into(&mut view.message);
        view.messages += 1;
        self.changed.notify_all();
    }

    /// What was asked for first.
    pub fn next(&self) -> Option<Request> {
        lock(&self.requests).pop_front()
    }

    /// Asks the loop; false if it has too much to do already.
    pub fn ask(&self, request: Request) -> bool {
        let mut requests = lock(&self.requests);
        // a slider that is drawn along leaves its last place alone
        let same = |last: &Request| match (last, &request) {
            (Request::Control(Control::Latent(a, _)), Request::Control(Control::Latent(b, _))) => a == b,
            (Request::Control(Control::Truncation(_)), Request::Control(Control::Truncation(_))) => true,
            _ => false,
        };
        if requests.back().is_some_and(same) {
            requests.pop_back();
        }
        let room = requests.len() < MOST_REQUESTS;
        if room {
            requests.push_back(request);
        }
        room
    }

    /// The view, once it differs from what a viewer has seen, or after `patience`.
    fn wait(&self, seen: (u64, u64, u64), patience: Duration) -> View {
        let known = |view: &mut View| (view.pictures, view.statuses, view.messages) == seen;
        let waited = self.changed.wait_timeout_while(lock(&self.view), patience, known);
        waited.unwrap_or_else(std::sync::PoisonError::into_inner).0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_viewers_ask_for_is_read() {
        let table = [
            (r#"{"press":"next"}"#, Some(Asked::Press(ButtonName::Next))),
            (r#"{"turn":[1,-2]}"#, Some(Asked::Turn(1, -2))),
            (r#"{"class":null}"#, Some(Asked::Class(None))),
            (r#"{"class":"7"}"#, Some(Asked::Class(Some("7".into())))),
            (r#"{"latent":[3,-1.5]}"#, Some(Asked::Latent(3, -1.5))),
            (r#"{"press":"jump"}"#, None),
            (r#"{"latent":[-1,0]}"#, None),
            (r#"{"press":"next","seed":1}"#, None),
            ("next", None),
        ];
        for (text, expected) in table {
            assert_eq!(serde_json::from_str(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn a_slider_waits_once_and_others_not_for_ever() {
        let hub = Hub::default();
        let latent = |index, value| Request::Control(Control::Latent(index, value));
        assert!(hub.ask(latent(0, 1.0)) && hub.ask(latent(0, 2.0)) && hub.ask(latent(1, 3.0)));
        assert_eq!([hub.next(), hub.next(), hub.next()], [Some(latent(0, 2.0)), Some(latent(1, 3.0)), None]);
        let press = || hub.ask(Request::Control(Control::Press(Button::Next)));
        assert_eq!((0..100).filter(|_| press()).count(), MOST_REQUESTS);
    }

    #[test]
    fn a_viewer_waits_for_what_it_has_not_seen() {
        let hub = Hub::default();
        hub.show(Some(Picture::filled(2, 2, [1; 3])), "{}".into(), Duration::from_millis(3), Duration::ZERO);
        let view = hub.wait((0, 0, 0), Duration::from_secs(9));
        assert_eq!((view.pictures, view.statuses, view.making), (1, 1, 3.0));
        let start = std::time::Instant::now();
        hub.wait((1, 1, 0), Duration::from_millis(30));
        assert!(start.elapsed() >= Duration::from_millis(30));
        hub.say("no such class");
        assert_eq!(hub.wait((1, 1, 0), Duration::from_secs(9)).message, "no such class");
    }
}
