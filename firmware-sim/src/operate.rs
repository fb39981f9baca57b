//! A virtual panel that stays: in a browser, or for hours of its own time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use edgegen_firmware_sim::generator::Source;
use edgegen_firmware_sim::live::{
    self, Control, Ended, Host, Mirrored, News, Open, Player, Settings, Show, SystemTime, Time,
};
use edgegen_firmware_sim::names::{DitherName, ScalingName};
use edgegen_firmware_sim::panel::dcs::is_in_circle;
use edgegen_firmware_sim::panel::list::Kind;
use edgegen_firmware_sim::panel::{Device, DeviceError, Mounting, Observed, Rig, Visit};
use edgegen_firmware_sim::script::LEG;
use edgegen_firmware_sim::web::{self, Hub, Operated, Reopen};
use edgegen_runtime::model::{ModelFolder, Precision};

use crate::arguments::Arguments;
use crate::program::{open_source, print};

/// Pictures a second of a walk.
const STEPS_A_SECOND: u32 = 12;
/// How long a picture or a gallery stays.
const PAUSE: Duration = Duration::from_secs(10);

/// Runs until it is stopped, or for as long as was asked for.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let panel = arguments.panel;
    let hertz = arguments.bus_hz.unwrap_or(panel.hertz);
    if matches!(panel.kind, Kind::Matrix) && (arguments.faults.is_some() || arguments.renew.is_some()) {
        bail!("{}: a matrix of LEDs has no bus for --faults to strike, and nothing for --renew", panel.name);
    }
    let rig = Rig::new(panel, hertz, arguments.faults.clone().unwrap_or_default());
    let (source, about) = open_source(arguments, panel.size(arguments.rotate))?;
    let settings = Settings {
        show: match arguments.show {
            _ if arguments.frame.is_some() => Show::Still,
            show => show.unwrap_or(Show::Gallery),
        },
        seed: arguments.seed,
        step: Duration::from_secs(1) / STEPS_A_SECOND,
        steps: LEG,
        pause: PAUSE,
        scaling: Some(arguments.scaling.map_or(panel.scaling(), ScalingName::scaling)),
        dither: Some(arguments.dither.map_or(panel.dither(), DitherName::dither)),
        caption: arguments.caption,
        round: panel.is_round(),
        renew: arguments.renew.map(|seconds| Duration::from_secs(seconds.into())),
    };
    let opened = (&rig, arguments.mounting());
    if let Some(hours) = arguments.hours {
        let mut soak = Soak::new(&rig, (arguments.mounting(), panel.is_round()), hours);
        let compared = Compared { rig: &rig, mounting: arguments.mounting() };
        live::play(source, &compared, &settings, rig.clock(), &mut soak)?;
        print(&soak.report(&about, &panel.about(hertz)));
        return Ok(());
    }
    #[cfg(feature = "window")]
    if arguments.window {
        let mut window = crate::window::Windowed::new(panel, arguments.rotate)?;
        print(&format!("model   {about}\npanel   {}\nkeys    {}\n", panel.about(hertz), crate::window::KEYS));
        return live::play(source, &opened, &settings, &SystemTime::start(), &mut window);
    }
    let hub = Arc::new(Hub::default());
    if let Some(address) = &arguments.web {
        let served = web::serve(address, arguments.web_token.as_deref(), &hub)?;
        let token = arguments.web_token.as_ref().map_or(String::new(), |token| format!("?token={token}"));
        print(&format!("model   {about}\npanel   {}\npage    {}{token}\n", panel.about(hertz), served.url));
    }
    let mut operated = Operated::new(hub, (panel.about(hertz), about), reopen(arguments));
    operated.round = panel.is_round();
    operated.quarters = arguments.rotate;
    (operated.precisions, operated.precision) = precisions(arguments)?;
    live::play(source, &opened, &settings, &SystemTime::start(), &mut Viewed { operated })
}

/// Precisions of the model folder, and the one that is open.
fn precisions(arguments: &Arguments) -> Result<(Vec<String>, String)> {
    let Some(path) = arguments.model.as_ref().filter(|path| path.is_dir()) else {
        return Ok((Vec::new(), String::new()));
    };
    let manifest = ModelFolder::open(path)?.manifest;
    let open = arguments.precision.unwrap_or(manifest.default_precision);
    Ok((manifest.precisions.iter().map(Precision::to_string).collect(), open.to_string()))
}

fn reopen(arguments: &Arguments) -> Option<Reopen> {
    arguments.model.as_ref().filter(|path| path.is_dir())?;
    let arguments = arguments.clone();
    Some(Box::new(move |precision| {
        let precision = precision.parse::<Precision>().map_err(|error| anyhow!("{error}"))?;
        let other = Arguments { precision: Some(precision), ..arguments.clone() };
        Ok(open_source(&other, other.panel.size(other.rotate))?.0)
    }))
}

/// In a browser.
struct Viewed {
    operated: Operated,
}

impl Host for Viewed {
    fn goes_on(&mut self) -> bool {
        true
    }

    fn next_control(&mut self) -> Option<Control> {
        self.operated.next_control()
    }

    fn replacement(&mut self, old: &Source) -> Option<Source> {
        self.operated.replacement(old)
    }

    fn shown(&mut self, news: &News<'_>) {
        self.operated.shown(news);
    }

    fn refused(&mut self, reason: &str) {
        self.operated.say(reason);
    }

    fn failed(&mut self, error: &anyhow::Error) {
        self.operated.say(&format!("{error:#}; trying again"));
    }
}

/// For hours of the panel's time.
struct Soak<'a> {
    rig: &'a Rig,
    mounting: Mounting,
    round: bool,
    until: Duration,
    began: Instant,
    pictures: u64,
    /// Those that the panel showed otherwise than they were drawn, and the most pixels that differed.
    wrong: u64,
    most: usize,
    failures: u64,
    /// The longest time without a picture, and when the last one was.
    longest: Duration,
    last: Duration,
    /// Kilobytes of memory after a tenth of the time.
    settled: Option<u64>,
}

impl<'a> Soak<'a> {
    fn new(rig: &'a Rig, (mounting, round): (Mounting, bool), hours: f64) -> Self {
        Self {
            rig,
            mounting,
            round,
            until: Duration::from_secs_f64(3600.0 * hours),
            began: Instant::now(),
            pictures: 0,
            wrong: 0,
            most: 0,
            failures: 0,
            longest: Duration::ZERO,
            last: Duration::ZERO,
            settled: None,
        }
    }

    fn report(&self, about: &str, panel: &str) -> String {
        let memory = match (self.settled, memory()) {
            (Some(settled), Some(now)) => {
                format!("{now} kB, {:+} kB since a tenth of the time", now as i64 - settled as i64)
            }
            _ => "not told by this system".into(),
        };
        let complaints: String =
            self.rig.complaints().lines().map(|line| format!("panel   {line}\n")).collect();
        format!(
            "model   {about}\n\
             panel   {panel}\n\
             time    {:.2} hours of the panel's in {:.1} s: {} pictures, {:.1} s at most between two\n\
             wrong   {} pictures were seen otherwise than they were drawn, by {} pixels at most\n\
             faults  {}\n\
             driver  failed and was opened again {} times\n\
             memory  {memory}\n{complaints}",
            self.until.as_secs_f64() / 3600.0,
            self.began.elapsed().as_secs_f64(),
            self.pictures,
            self.longest.as_secs_f64(),
            self.wrong,
            self.most,
            self.rig.struck(),
            self.failures,
        )
    }
}

impl Host for Soak<'_> {
    fn goes_on(&mut self) -> bool {
        let now = Time::now(self.rig.clock());
        if self.settled.is_none() && now >= self.until / 10 {
            self.settled = memory();
        }
        now < self.until
    }

    fn shown(&mut self, news: &News<'_>) {
        self.pictures += 1;
        if let Some(drawn) = &news.picture {
            let seen = self.rig.picture();
            let seen = if self.mounting.mirrored { seen.mirrored() } else { seen }
                .turned(4 - self.mounting.quarters % 4);
            let glass = |x: usize, y: usize| !self.round || is_in_circle(x, y, seen.width());
            let differs = |at: usize| {
                let (x, y) = (at % seen.width(), at / seen.width());
                let apart =
                    seen.at(x, y).into_iter().zip(drawn.at(x, y)).any(|(a, b)| a.abs_diff(b) > FAINTEST);
                apart && glass(x, y)
            };
            let differing = (0..seen.width() * seen.height()).filter(|at| differs(*at)).count();
            self.wrong += u64::from(differing > 0);
            self.most = self.most.max(differing);
        }
        let now = Time::now(self.rig.clock());
        self.longest = self.longest.max(now - self.last);
        self.last = now;
    }

    fn failed(&mut self, _: &anyhow::Error) {
        self.failures += 1;
    }
}

/// Levels of 255 by which a panel's colour may differ from what was drawn: a white of an OLED is dimmer, and so are greys of paper.
const FAINTEST: u8 = 40;

/// A rig whose panel is compared with what is drawn on it.
struct Compared<'a> {
    rig: &'a Rig,
    mounting: Mounting,
}

impl Open<Soak<'_>> for Compared<'_> {
    fn open(&self, player: &mut Player<'_, '_, Soak<'_>>) -> Result<Ended> {
        self.rig.open(self.mounting, Drawn(player))?
    }
}

struct Drawn<'a, 'link, 'buffer, 'soak>(&'a mut Player<'link, 'buffer, Soak<'soak>>);

impl Visit for Drawn<'_, '_, '_, '_> {
    type Output = Result<Ended>;

    fn visit<D: Observed>(self, device: &mut D) -> Result<Ended> {
        self.0.draw_on(Mirrored::new(Unseen(device)))
    }
}

/// A panel whose own picture is left alone.
struct Unseen<'a, D>(&'a mut D);

impl<D: Observed> Device for Unseen<'_, D> {
    type Target = D::Target;

    fn target(&mut self) -> &mut D::Target {
        self.0.target()
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        self.0.flush()
    }

    fn is_slow(&self) -> bool {
        self.0.is_slow()
    }
}

/// Kilobytes that the program holds, without files.
fn memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}
