//! From arguments to a picture: check what can be checked, open, run, show, report.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use edgegen_firmware::{Button, DisplaySettings, Dither, Generator, GeneratorSettings};
use edgegen_firmware_sim::builtin;
use edgegen_firmware_sim::generator::{ModelGenerator, Opening, Source, StoredPicture};
use edgegen_firmware_sim::names::{DitherName, ScalingName};
use edgegen_firmware_sim::panel::{Mounting, Observed, Panel, Visit, list};
use edgegen_firmware_sim::picture::Picture;
use edgegen_firmware_sim::run::{self, Plan, Report};
use edgegen_firmware_sim::script::{Entry, LEG, Script, Start};
use edgegen_firmware_sim::show::terminal::{self, Ability};
use edgegen_firmware_sim::show::{self, Format, Look};
use edgegen_runtime::files::check_writable;
use edgegen_runtime::model::{Model, OpenOptions};
use edgegen_runtime::pictures::read_png;
use embedded_graphics::prelude::*;

use crate::arguments::Arguments;
use crate::operate;

/// Where the picture goes when nothing is said.
const DEFAULT_FILE: &str = "edgegen-sim.png";
/// Pictures a second of a GIF and of an animation in the terminal.
const PLAYBACK_RATE: u8 = 12;
/// Letters in a line where the terminal does not say.
const DEFAULT_COLUMNS: usize = 80;
/// Longest side of a picture to compare with.
const LONGEST_CHECKED: usize = 4096;

/// Does what the arguments ask for.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if arguments.foreign.is_given() && arguments.model.is_none() {
        bail!(
            "--range, --input, --output and --shape are for the file of another program: give it with --model"
        );
    }
    if let Some(path) = &arguments.sheet {
        return sheet(arguments, path);
    }
    if arguments.web.is_some() || arguments.hours.is_some() || arguments.in_window() {
        return operate::run(arguments);
    }
    if arguments.faults.is_some() || arguments.renew.is_some() || arguments.show.is_some() {
        bail!("--show, --faults and --renew are for a panel that stays: give --web or --hours");
    }
    let nothing_said = arguments.out.is_none() && !arguments.terminal && arguments.check.is_none();
    let out = arguments.out.clone().or_else(|| nothing_said.then(|| PathBuf::from(DEFAULT_FILE)));
    if let Some(path) = &out {
        show::format_of(path)?;
        check_writable(path)?;
    }
    let view = View { out, terminal: nothing_said || arguments.terminal };
    let panel = arguments.panel;
    let (source, about) = open_source(arguments, panel.size(arguments.rotate))?;
    let hertz = arguments.bus_hz.unwrap_or(panel.hertz);
    let play = Play { source, about: &about, panel, hertz, arguments, view: &view };
    panel.open(hertz, arguments.mounting(), play)?
}

/// What makes pictures, and what to call it.
pub(crate) fn open_source(arguments: &Arguments, room: Size) -> Result<(Source, String)> {
    if let Some(path) = &arguments.frame {
        let source = Source::Stored(StoredPicture::read(path)?);
        return Ok((source, format!("the picture {}", path.display())));
    }
    let Some(model) = &arguments.model else { return builtin(arguments) };
    let opening = Opening {
        model,
        part: arguments.part,
        precision: arguments.precision,
        options: arguments.foreign.options()?,
        class: arguments.class.as_deref(),
        pictures: arguments.pictures.as_deref(),
        explore: arguments.explore,
        room,
    };
    Ok(opening.open()?)
}

/// Draws the last picture on every panel.
fn sheet(arguments: &Arguments, path: &Path) -> Result<()> {
    if !matches!(show::format_of(path), Ok(Format::Png)) {
        bail!("{}: --sheet takes a name that ends in .png", path.display());
    }
    check_writable(path)?;
    let mut shown = Vec::new();
    for panel in list::ALL {
        let (source, _) = open_source(arguments, panel.size(0))?;
        let last = panel.open(panel.hertz, Mounting::default(), Last { source, panel, arguments })??;
        shown.push((panel.name, panel.look().dress(&last)));
    }
    show::write_sheet(path, &shown)?;
    print(&format!("file    {}, {} panels\n", path.display(), shown.len()));
    Ok(())
}

/// Where pictures go.
struct View {
    out: Option<PathBuf>,
    terminal: bool,
}

/// The model that needs no file.
fn builtin(arguments: &Arguments) -> Result<(Source, String)> {
    let name = format!("{} (built in)", builtin::NAME);
    let model = Model::from_bytes(builtin::MODEL, &name, &OpenOptions::default())?;
    let facts = model.facts();
    let about = format!(
        "{name}: {} {}, latents of {}, pictures of {}",
        facts.precision, facts.part, facts.latent_dim, facts.image
    );
    let mut source = ModelGenerator::new(model.into_generator(1)?, None)?;
    if arguments.explore {
        source.explore();
    }
    Ok((Source::Model(Box::new(source)), about))
}

/// What is played on a panel of this size.
fn plan(source: &Source, size: Size, panel: Panel, arguments: &Arguments) -> Result<Plan> {
    let steps = match (arguments.walk_to, arguments.frames) {
        (Some(_), Some(1)) => bail!("a walk takes at least 2 pictures: give --frames 2 or more"),
        (Some(_), frames) => frames.unwrap_or(LEG),
        _ => LEG,
    };
    let display = DisplaySettings {
        dither: arguments.dither.map_or(panel.dither(), DitherName::dither),
        scaling: arguments.scaling.map_or(panel.scaling(), ScalingName::scaling),
        caption: arguments.caption || arguments.fps,
        round: panel.is_round(),
    };
    let tiles = display.grid(size, source.shape()).tiles();
    Ok(Plan {
        script: script(arguments),
        generator: GeneratorSettings { seed: arguments.seed, tiles, steps },
        display,
        show_rate: arguments.fps,
        threads: !arguments.single_thread,
    })
}

/// The last picture that a panel shows.
struct Last<'a> {
    source: Source,
    panel: Panel,
    arguments: &'a Arguments,
}

impl Visit for Last<'_> {
    type Output = Result<Picture>;

    fn visit<D: Observed>(self, device: &mut D) -> Result<Picture> {
        let plan = plan(&self.source, device.target().bounding_box().size, self.panel, self.arguments)?;
        let mut last = None;
        run::run(self.source, device, &plan, |_, picture| last = Some(picture))?;
        last.context("the script shows no picture")
    }
}

/// A script on a panel, shown, written and told of.
struct Play<'a> {
    source: Source,
    about: &'a str,
    panel: Panel,
    hertz: u32,
    arguments: &'a Arguments,
    view: &'a View,
}

impl Visit for Play<'_> {
    type Output = Result<()>;

    fn visit<D: Observed>(self, device: &mut D) -> Result<()> {
        let Self { source, about, panel, hertz, arguments, view } = self;
        let plan = plan(&source, device.target().bounding_box().size, panel, arguments)?;
        let keep_all = matches!(view.out.as_deref().map(show::format_of), Some(Ok(Format::Gif)));
        let mut screen = Screen::new(view.terminal, panel);
        let mut pictures: Vec<Picture> = Vec::new();
        let report = run::run(source, device, &plan, |_, picture| {
            // the panel is turned so that a viewer sees pictures upright
            let picture = picture.turned(4 - arguments.rotate % 4);
            screen.animate(&picture);
            if !keep_all {
                pictures.clear();
            }
            pictures.push(picture);
        })?;
        let last = pictures.last().context("the script shows no picture")?;
        screen.finish(last);
        if let Some(path) = &arguments.check {
            check(&panel.look().dress(last), path)?;
            print(&format!("check   {}: the same\n", path.display()));
        }
        if let Some(path) = &view.out {
            show::write(path, &pictures, &panel.look(), f32::from(PLAYBACK_RATE))?;
        }
        let lines = summary(about, &panel.about(hertz), &plan, &report, view.out.as_deref(), arguments);
        let complaints = device.complaints();
        let complaints = complaints.lines().map(|line| format!("panel   {line}\n"));
        print(&(lines + &complaints.collect::<String>()));
        Ok(())
    }
}

/// Compares what is shown with a PNG file.
fn check(shown: &Picture, path: &Path) -> Result<()> {
    let longest = shown.width().max(shown.height());
    let expected = read_png(path, longest.max(LONGEST_CHECKED))?;
    let sizes = (shown.width(), shown.height()) == (expected.width, expected.height);
    if !sizes {
        bail!(
            "{}: it is {}x{}, and what is shown {}x{}: is it of this panel?",
            path.display(),
            expected.width,
            expected.height,
            shown.width(),
            shown.height()
        );
    }
    let channels = expected.format.channels();
    let pixels = expected.pixels.chunks_exact(channels).map(|pixel| match pixel {
        [red, green, blue] => [*red, *green, *blue],
        _ => [pixel[0]; 3],
    });
    let differing = pixels.zip(shown.rgb().chunks_exact(3)).filter(|(a, b)| a != b).count();
    if differing > 0 {
        bail!("{}: {differing} of {} pixels differ", path.display(), shown.width() * shown.height());
    }
    Ok(())
}

/// The buttons that the arguments amount to.
fn script(arguments: &Arguments) -> Script {
    if let Some(script) = &arguments.script {
        return script.clone();
    }
    let press = |button| Entry { start: Start::Press(button), pictures: None };
    if let Some(to) = arguments.walk_to {
        let start = Start::Walk { from: arguments.seed, to };
        return Script(vec![Entry { start, pictures: None }]);
    }
    match arguments.frames {
        Some(count) => Script(vec![press(Button::Next); count as usize]),
        None if arguments.frame.is_some() || arguments.pictures.is_some() => {
            Script(vec![press(Button::Next)])
        }
        None => Script(vec![press(Button::Select)]),
    }
}

fn summary(
    about: &str,
    panel: &str,
    plan: &Plan,
    report: &Report,
    out: Option<&Path>,
    arguments: &Arguments,
) -> String {
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    let count = report.pictures.max(1);
    let generating = milliseconds(report.generating / count);
    let last_bus = milliseconds(Duration::from_nanos(report.last.nanoseconds));
    let most = 1_000_000_000 / (report.last.nanoseconds + report.last.refresh).max(1);
    let most = match most {
        0 => "less than one such picture".into(),
        1 => "at most one such picture".into(),
        most => format!("at most {most} such pictures"),
    };
    let what = if report.pictures == 1 {
        "the picture and clearing the panel before it"
    } else {
        "the last picture"
    };
    let refresh = match report.last.refresh {
        0 => String::new(),
        time => format!(" and {:.0} ms to refresh", milliseconds(Duration::from_nanos(time))),
    };
    let plural = if report.pictures == 1 { "" } else { "s" };
    let dither = match plan.display.dither {
        Dither::None => "no dithering",
        Dither::Bayer => "Bayer dithering",
        Dither::FloydSteinberg => "Floyd-Steinberg dithering",
        Dither::Atkinson => "Atkinson dithering",
    };
    let mut lines = format!(
        "model   {about}\n\
         panel   {panel}, {dither}\n\
         time    {generating:.2} ms to make a picture on this machine (mean of {})\n\
         bus     {last_bus:.2} ms for {what} ({} bytes){refresh}: {most} a second\n",
        report.pictures, report.last.bytes
    );
    if let Some(path) = out {
        lines += &format!("file    {}, after {} picture{plural}\n", path.display(), report.pictures);
    }
    if arguments.out.is_none() && arguments.frame.is_none() {
        lines += "next    try --seed 7, --panel ssd1306, --walk-to 7 --out walk.gif, or --help\n";
    }
    lines
}

/// The terminal, if it is wanted.
struct Screen {
    ability: Ability,
    columns: usize,
    monochrome: bool,
    light: [u8; 3],
    wanted: bool,
    animated: bool,
    /// Lines of the picture that is there and can be drawn over.
    lines: usize,
}

impl Screen {
    fn new(wanted: bool, panel: Panel) -> Self {
        let variable = |name| std::env::var(name).ok();
        let (no_color, term, program) = (variable("NO_COLOR"), variable("TERM"), variable("TERM_PROGRAM"));
        let is_terminal = std::io::stdout().is_terminal();
        let ability = Ability::of(is_terminal, no_color.as_deref(), term.as_deref(), program.as_deref());
        let own = || terminal_size::terminal_size().map(|(width, _)| width.0.into());
        let columns = variable("COLUMNS").and_then(|columns| columns.parse().ok()).or_else(own);
        let columns = columns.unwrap_or(DEFAULT_COLUMNS);
        let Look { light, .. } = panel.look();
        let animated = wanted && ability != Ability::Plain;
        Self { ability, columns, monochrome: panel.is_monochrome(), light, wanted, animated, lines: 0 }
    }

    fn text(&self, picture: &Picture) -> String {
        terminal::draw(picture, self.columns, self.ability, self.monochrome, self.light)
    }

    /// Draws over the picture before, and gives the eye time. The firmware waits meanwhile, as it
    /// would for a slow panel.
    fn animate(&mut self, picture: &Picture) {
        if self.animated {
            let text = self.text(picture);
            print(&(self.up() + &text));
            self.lines = match self.ability {
                // the terminal knows how high a picture is: back to where it was before
                Ability::Kitty | Ability::Sixel => 0,
                _ => text.lines().count(),
            };
            std::thread::sleep(Duration::from_secs(1) / u32::from(PLAYBACK_RATE) / 2);
        }
    }

    fn finish(&mut self, picture: &Picture) {
        if self.wanted && !self.animated {
            print(&self.text(picture));
        }
    }

    fn up(&self) -> String {
        match (self.ability, self.lines) {
            (Ability::Kitty | Ability::Sixel, _) => "\x1b[H\x1b[2J".into(),
            (_, 0) => String::new(),
            (_, lines) => format!("\x1b[{lines}A"),
        }
    }
}

/// Prints; a reader that has gone away (as `head` does) is no error.
pub(crate) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _gone = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
