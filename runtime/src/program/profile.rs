//! `edgegen profile`: where a network's time goes, step by step.

use super::choice::Choice;
use super::subject::Subject;
use super::{print, printable};
use anyhow::{Result, bail};
use clap::Args;
use edgegen_runtime::arguments::machine;
use edgegen_runtime::files::write_atomically;
use edgegen_runtime::measure::{Arithmetic, peak_gmacs, read_gbytes};
use edgegen_runtime::model::{Part, StepFact};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[derive(Args)]
pub(super) struct Profile {
    #[command(flatten)]
    choice: Choice,
    /// Network, of those in a model folder [default: decoder or generator]
    #[arg(long, value_name = "encoder|decoder|generator")]
    part: Option<Part>,
    /// Runs to time, after a warm-up
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    runs: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Write the last run as a Chrome trace, for chrome://tracing or ui.perfetto.dev
    #[arg(long, value_name = "F.json")]
    trace: Option<PathBuf>,
    /// Draw the median times as bars
    #[arg(long, value_name = "F.svg")]
    svg: Option<PathBuf>,
}

const WARM_UP: u32 = 10;

/// What the core can do at most.
struct Roof {
    int8_gmacs: f64,
    float32_gmacs: f64,
    /// 0 on a CPU that does not compute in it.
    float16_gmacs: f64,
    /// Of a buffer as large as all that the network touches.
    read_gbytes: f64,
}

/// One step with its times.
struct Line<'a> {
    step: &'a StepFact,
    min_us: f64,
    median_us: f64,
    share: f64,
    gmacs: f64,
    /// The least time that multiplications, or else reading, take on this core, of the median.
    of_roof: f64,
    bound: &'static str,
}

impl Profile {
    pub(super) fn run(self) -> Result<()> {
        let model = self.choice.open(self.part)?;
        let name = self.choice.model.display().to_string();
        let facts = model.facts().clone();
        if let Some(reason) = &facts.tract {
            bail!("{name}: tract runs this network ({reason}): only what kernels run is profiled");
        }
        let mut subject = Subject::new(model, 1)?;
        let cpu = machine(1)?.cpu();
        let roof = Roof {
            int8_gmacs: peak_gmacs(cpu, Arithmetic::Int8),
            float32_gmacs: peak_gmacs(cpu, Arithmetic::Float32),
            float16_gmacs: peak_gmacs(cpu, Arithmetic::Float16),
            read_gbytes: read_gbytes(facts.steps.iter().map(|step| step.bytes as usize).sum()),
        };
        let mut times = vec![Vec::with_capacity(self.runs as usize); facts.steps.len()];
        let mut last = vec![Duration::ZERO; facts.steps.len()];
        for run in 0..WARM_UP + self.runs {
            let start = Instant::now();
            subject.run_timed(|index| last[index] = start.elapsed())?;
            if run >= WARM_UP {
                let mut before = Duration::ZERO;
                for (times, end) in times.iter_mut().zip(&last) {
                    times.push(end.saturating_sub(before));
                    before = *end;
                }
            }
        }
        let lines = lines(&facts.steps, times, &roof);
        if let Some(path) = &self.trace {
            let text = trace(&facts.steps, &last).to_string();
            write_atomically(path, |file| file.write_all(text.as_bytes()))?;
        }
        if let Some(path) = &self.svg {
            let text = bars(&name, &lines);
            write_atomically(path, |file| file.write_all(text.as_bytes()))?;
        }
        match self.json {
            true => print(&format!("{}\n", to_json(&name, cpu.isa().name(), &roof, &lines))),
            false => print(&to_text(&name, cpu.isa().name(), &roof, &lines)),
        }
    }
}

fn lines<'a>(steps: &'a [StepFact], times: Vec<Vec<Duration>>, roof: &Roof) -> Vec<Line<'a>> {
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    let sorted: Vec<Vec<Duration>> = times
        .into_iter()
        .map(|mut times| {
            times.sort_unstable();
            times
        })
        .collect();
    let median = |times: &[Duration]| times.get(times.len() / 2).copied().map_or(0.0, us);
    let total: f64 = sorted.iter().map(|times| median(times)).sum();
    let line = |(step, times): (&'a StepFact, &Vec<Duration>)| {
        let median_us = median(times);
        let peak = match step.arithmetic {
            Arithmetic::Int8 => roof.int8_gmacs,
            Arithmetic::Float32 => roof.float32_gmacs,
            Arithmetic::Float16 => roof.float16_gmacs,
        };
        // 10⁹ a second is 10³ a microsecond
        let (multiply, read) = (step.macs as f64 / peak / 1e3, step.bytes as f64 / roof.read_gbytes / 1e3);
        Line {
            step,
            min_us: times.first().copied().map_or(0.0, us),
            median_us,
            share: median_us / total.max(f64::MIN_POSITIVE),
            gmacs: step.macs as f64 / median_us.max(1e-3) / 1e3,
            of_roof: (multiply.max(read) / median_us.max(1e-3)).min(1.0),
            bound: if multiply >= read { "multiplying" } else { "reading" },
        }
    };
    steps.iter().zip(&sorted).map(line).collect()
}

fn shape(dims: &[usize]) -> String {
    dims.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}

fn to_json(name: &str, isa: &str, roof: &Roof, lines: &[Line<'_>]) -> Value {
    let round = |value: f64| (value * 1e3).round() / 1e3;
    let steps = lines.iter().map(|line| {
        json!({
            "name": line.step.name, "operator": line.step.operator, "kernel": line.step.kernel,
            "input": line.step.input, "output": line.step.output,
            "macs": line.step.macs, "bytes": line.step.bytes,
            "min_us": round(line.min_us), "median_us": round(line.median_us), "share": round(line.share),
            "gmacs": round(line.gmacs), "of_roof": round(line.of_roof), "bound_by": line.bound,
        })
    });
    json!({
        "model": name, "isa": isa, "threads": 1,
        "peak_int8_gmacs": round(roof.int8_gmacs), "peak_float32_gmacs": round(roof.float32_gmacs),
        "peak_float16_gmacs": (roof.float16_gmacs > 0.0).then(|| round(roof.float16_gmacs)),
        "read_gbytes": round(roof.read_gbytes),
        "steps": steps.collect::<Vec<_>>(),
        "median_us": round(lines.iter().map(|line| line.median_us).sum()),
    })
}

fn to_text(name: &str, isa: &str, roof: &Roof, lines: &[Line<'_>]) -> String {
    let halves = match roof.float16_gmacs {
        0.0 => String::new(),
        gmacs => format!(", {gmacs:.1} float16"),
    };
    let mut text = format!(
        "{name}\nthis core, {isa}: {:.1} int8, {:.1} float32{halves} GMAC/s in registers, {:.1} GB/s read\n",
        roof.int8_gmacs, roof.float32_gmacs, roof.read_gbytes
    );
    let width = lines.iter().map(|line| line.step.name.len()).max().unwrap_or(0).max(4);
    let _ = writeln!(
        text,
        "{:<width$}  {:>9} {:>9} {:>6} {:>11} {:>8} {:>7} {:>13}  {:>10} -> {:<10}  kernel",
        "node", "median us", "min us", "share", "MACs", "GMAC/s", "of roof", "(bound by)", "in", "out"
    );
    for line in lines {
        let _ = writeln!(
            text,
            "{:<width$}  {:>9.2} {:>9.2} {:>5.1}% {:>11} {:>8.1} {:>6.0}% {:>13}  {:>10} -> {:<10}  {}",
            line.step.name,
            line.median_us,
            line.min_us,
            line.share * 100.0,
            line.step.macs,
            line.gmacs,
            line.of_roof * 100.0,
            line.bound,
            shape(&line.step.input),
            shape(&line.step.output),
            line.step.kernel
        );
    }
    let total: f64 = lines.iter().map(|line| line.median_us).sum();
    let _ = writeln!(text, "{:<width$}  {total:>9.2}", "all");
    printable(&text)
}

/// The trace event format's complete events, µs.
fn trace(steps: &[StepFact], ends: &[Duration]) -> Value {
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    let mut begin = Duration::ZERO;
    let events = steps.iter().zip(ends).map(|(step, end)| {
        let start = std::mem::replace(&mut begin, *end);
        json!({
            "name": step.name, "cat": step.operator, "ph": "X", "pid": 1, "tid": 1,
            "ts": us(start), "dur": us(end.saturating_sub(start)),
            "args": {"kernel": step.kernel, "macs": step.macs, "bytes": step.bytes},
        })
    });
    json!({"traceEvents": events.collect::<Vec<_>>(), "displayTimeUnit": "ns"})
}

/// A bar for each step, as long as its median time; its dark part is what the roofline asks for.
fn bars(title: &str, lines: &[Line<'_>]) -> String {
    const ROW: usize = 24;
    const LABELS: f64 = 260.0;
    const WIDEST: f64 = 480.0;
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let most = lines.iter().map(|line| line.median_us).fold(f64::MIN_POSITIVE, f64::max);
    let height = (lines.len() + 2) * ROW;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"900\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"8\" y=\"17\" font-weight=\"bold\">{}</text>\n",
        escape(title)
    );
    for (index, line) in lines.iter().enumerate() {
        let y = (index + 1) * ROW;
        let length = line.median_us / most * WIDEST;
        let _ = writeln!(
            svg,
            "<text x=\"{:.0}\" y=\"{}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{LABELS}\" y=\"{}\" width=\"{length:.1}\" height=\"16\" fill=\"#9ecae1\"/>\
             <rect x=\"{LABELS}\" y=\"{}\" width=\"{:.1}\" height=\"16\" fill=\"#3182bd\"/>\
             <text x=\"{:.1}\" y=\"{}\">{:.1} \u{b5}s, {:.0} %</text>",
            LABELS - 8.0,
            y + 17,
            escape(&line.step.name),
            y + 4,
            y + 4,
            length * line.of_roof,
            LABELS + length + 6.0,
            y + 17,
            line.median_us,
            line.share * 100.0
        );
    }
    let _ = write!(
        svg,
        "<text x=\"{LABELS}\" y=\"{}\" fill=\"#555\">dark: what this core needs at least, by multiplications or bytes</text>\n</svg>\n",
        (lines.len() + 1) * ROW + 17
    );
    svg
}
