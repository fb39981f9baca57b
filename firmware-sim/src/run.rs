//! The firmware in front of a panel: a script is played on the generator task, and every picture
//! goes through the display task, the driver and the bus.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use edgegen_firmware::{
    DisplaySettings, DisplayTask, Generator, GeneratorSettings, GeneratorTask, Link, LinkError, Progress,
    Shown, View,
};

use crate::panel::{BusLoad, DeviceError, Observed};
use crate::picture::Picture;
use crate::script::{Player, Script};

/// Frame buffers: one being filled, one being shown, one in between.
const BUFFERS: usize = 3;
/// Queues hold one less than their slots.
const SLOTS: usize = BUFFERS + 1;
/// Columns of the widest panel.
const WIDEST_PANEL: usize = 320;
/// How long a thread sleeps that has nothing to do.
const NAP: Duration = Duration::from_micros(50);

/// What is to be run, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What the user does.
    pub script: Script,
    /// What the generator task starts with.
    pub generator: GeneratorSettings,
    /// How pictures look.
    pub display: DisplaySettings,
    /// Whether captions tell how many pictures a second there could be.
    pub show_rate: bool,
    /// Whether the generator has a thread of its own, or one loop does it all.
    pub threads: bool,
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Pictures shown.
    pub pictures: u32,
    /// Time that making all of them took, on this machine.
    pub generating: Duration,
    /// What went over the bus for all of them.
    pub bus: BusLoad,
    /// What went over the bus for the last one.
    pub last: BusLoad,
}

/// Why a run stopped early.
#[derive(Debug)]
pub enum RunError<E> {
    /// The pictures do not fit the frame buffers.
    Link(LinkError),
    /// The generator failed.
    Generator(E),
    /// The panel's driver failed, or the panel is too wide.
    Display(String),
}

impl<E: fmt::Display> fmt::Display for RunError<E> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(error) => write!(out, "{error}"),
            Self::Generator(error) => write!(out, "{error}"),
            Self::Display(error) => write!(out, "{error}"),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for RunError<E> {}

impl<E> From<DeviceError> for RunError<E> {
    fn from(error: DeviceError) -> Self {
        Self::Display(error.to_string())
    }
}

/// What the two tasks tell each other besides frames.
#[derive(Default)]
struct Signals {
    /// The script is over, or the generator failed.
    made_all: AtomicBool,
    /// The display failed.
    stop: AtomicBool,
    /// Time for the last picture.
    last_nanoseconds: AtomicU64,
    /// Time for all pictures.
    all_nanoseconds: AtomicU64,
}

/// Plays the plan's script and hands each picture of the panel to `on_picture`.
pub fn run<G, D>(
    generator: G,
    device: &mut D,
    plan: &Plan,
    mut on_picture: impl FnMut(Shown, Picture),
) -> Result<Report, RunError<G::Error>>
where
    G: Generator<Error: Send> + Send,
    D: Observed,
{
    let bytes = generator.shape().bytes();
    let mut memory = vec![0u8; BUFFERS * bytes];
    let mut link = Link::<SLOTS>::new();
    let (generator_end, display_end) = link.split(memory.chunks_exact_mut(bytes)).map_err(RunError::Link)?;
    let mut task = GeneratorTask::new(generator, generator_end, plan.generator).map_err(RunError::Link)?;
    let mut display = DisplayTask::<WIDEST_PANEL>::new(display_end, plan.display);
    let mut player = Player::new(&plan.script, plan.generator.steps);
    let signals = Signals::default();
    let mut report = Report::default();
    let start = device.load();

    // Makes at most one picture; false when there is nothing more to make.
    let mut make = || -> Result<bool, RunError<G::Error>> {
        let begin = Instant::now();
        let progress = player.poll(&mut task).map_err(RunError::Generator)?;
        match progress {
            None => return Ok(false),
            Some(Progress::Sent) => {
                let nanoseconds = u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX);
                signals.last_nanoseconds.store(nanoseconds, Ordering::Relaxed);
                signals.all_nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
            }
            Some(Progress::NoBuffer | Progress::AtRest) => thread::sleep(NAP),
        }
        Ok(true)
    };
    // Shows at most one picture; false when none was waiting.
    let mut show = || -> Result<bool, RunError<G::Error>> {
        let before = device.load();
        let target = device.target();
        let Some(shown) = display.poll(target).map_err(|error| RunError::Display(error.to_string()))? else {
            return Ok(false);
        };
        let slow = device.is_slow();
        if !slow || is_whole(shown, plan.generator.tiles) {
            device.flush()?;
        }
        report.pictures += 1;
        report.last = device.load().since(before);
        if plan.show_rate {
            let slowest =
                signals.last_nanoseconds.load(Ordering::Relaxed).max(report.last.nanoseconds).max(1);
            display.set_frames_per_second(u32::try_from(1_000_000_000 / slowest).ok());
        }
        on_picture(shown, device.picture());
        Ok(true)
    };

    if plan.threads {
        let make_all = || -> Result<(), RunError<G::Error>> {
            // Raised however this thread ends, so that the display never waits in vain.
            let _done = RaiseOnDrop(&signals.made_all);
            let mut more = true;
            while more && !signals.stop.load(Ordering::Acquire) {
                more = make()?;
            }
            Ok(())
        };
        let mut show_all = || -> Result<(), RunError<G::Error>> {
            loop {
                // Read before looking, so that the last picture is not missed.
                let made_all = signals.made_all.load(Ordering::Acquire);
                if !show()? {
                    if made_all {
                        return Ok(());
                    }
                    thread::sleep(NAP);
                }
            }
        };
        thread::scope(|scope| {
            let maker = scope.spawn(make_all);
            let stop = RaiseOnDrop(&signals.stop);
            let shown = show_all();
            drop(stop);
            let made = maker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            made.and(shown)
        })?;
    } else {
        while make()? {
            while show()? {}
        }
        while show()? {}
    }
    report.bus = device.load().since(start);
    report.generating = Duration::from_nanos(signals.all_nanoseconds.into_inner());
    Ok(report)
}

/// Whether what was shown is no part of a gallery that goes on.
fn is_whole(shown: Shown, tiles: u32) -> bool {
    !matches!(shown.view, View::Tile { tile } if tile + 1 < tiles.max(1))
}

/// Raises a signal when its owner is done, be it by a panic.
struct RaiseOnDrop<'a>(&'a AtomicBool);

impl Drop for RaiseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}
