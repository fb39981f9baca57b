//! Whose time it is.

use std::thread;
use std::time::{Duration, Instant};

use crate::panel::Clock;

/// A clock that can be waited for.
pub trait Time {
    /// Since some start.
    fn now(&self) -> Duration;

    /// Lets time pass.
    fn sleep(&self, time: Duration);
}

/// The machine's.
#[derive(Clone, Copy, Debug)]
pub struct SystemTime(Instant);

impl SystemTime {
    /// From now on.
    pub fn start() -> Self {
        Self(Instant::now())
    }
}

impl Time for SystemTime {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, time: Duration) {
        thread::sleep(time);
    }
}

/// A rig's, which takes no longer than what is done.
impl Time for Clock {
    fn now(&self) -> Duration {
        Duration::from_nanos(Clock::now(self))
    }

    fn sleep(&self, time: Duration) {
        self.advance(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }
}
