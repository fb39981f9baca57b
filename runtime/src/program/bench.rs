//! `edgegen bench`: how fast a network runs here, and under which circumstances.

use super::choice::Choice;
use super::subject::Subject;
use super::{print, printable};
use anyhow::{Result, bail};
use clap::Args;
use edgegen_runtime::arguments::machine;
use edgegen_runtime::measure::{Arithmetic, Board, Root, State, peak_gmacs, peak_rss_kib, time_runs};
use edgegen_runtime::model::{Part, Precision};
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[derive(Args)]
pub(super) struct Bench {
    #[command(flatten)]
    choice: Choice,
    /// Threads to run on
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Pictures per run
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// Runs to time, after a warm-up
    #[arg(long, default_value_t = 200)]
    runs: usize,
    /// Stop after this time even if not all runs are done
    #[arg(long, default_value_t = 30.0)]
    seconds: f64,
    /// Wait so long before the runs, so that the board is cool, seconds
    #[arg(long, default_value_t = 0.0)]
    cool_down: f64,
    /// Network, of those in a model folder [default: decoder or generator]
    #[arg(long, value_name = "encoder|decoder|generator")]
    part: Option<Part>,
    /// Print one JSON object
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print a line of names and one of values, separated by commas
    #[arg(long)]
    csv: bool,
    /// Read the board's files below this folder
    #[arg(long, value_name = "FOLDER", default_value = "/", hide = true)]
    root: PathBuf,
}

/// Most runs and seconds that can be asked for.
const MOST: usize = 1_000_000;

impl Bench {
    pub(super) fn run(self, start: Instant) -> Result<()> {
        if !(1..=MOST).contains(&self.runs) {
            bail!("--runs {}: give 1 to {MOST}", self.runs);
        }
        if !(self.seconds > 0.0 && self.seconds <= MOST as f64) {
            bail!("--seconds {}: give a time above 0 up to {MOST}", self.seconds);
        }
        if !(0.0..=3600.0).contains(&self.cool_down) {
            bail!("--cool-down {}: give 0 to 3600 seconds", self.cool_down);
        }
        let model = self.choice.open_on(self.part, self.threads)?;
        let facts = model.facts().clone();
        let mut subject = Subject::new(model, self.batch)?;
        let load = start.elapsed();

        let before = Instant::now();
        subject.first()?;
        let first_time = before.elapsed();

        std::thread::sleep(Duration::from_secs_f64(self.cool_down));
        let root = Root::at(&self.root);
        let board = Board::read(&root);
        let state_before = State::read(&root, &board);
        let limit = Duration::from_secs_f64(self.seconds);
        let measured = Instant::now();
        let timings = time_runs(self.runs, limit, || subject.run())?;
        let measured = measured.elapsed();
        let state_after = State::read(&root, &board);
        let Some(timings) = timings else { bail!("no run was timed") };

        let cpu = machine(1)?.cpu();
        let arithmetic = match facts.precision {
            Precision::Int8 => Arithmetic::Int8,
            Precision::Fp16 if cpu.halves() && facts.tract.is_none() => Arithmetic::Float16,
            Precision::Fp32 | Precision::Fp16 => Arithmetic::Float32,
        };
        let peak = peak_gmacs(cpu, arithmetic);
        let gmacs = facts.macs.map(|macs| (macs * subject.batch() as u64) as f64 / timings.p50_us / 1e3);
        let tenths = |value: f64| (value * 10.0).round() / 10.0;
        let ms = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
        let us = |time: f64| (time * 100.0).round() / 100.0;
        let energy = state_before.energy_uj.zip(state_after.energy_uj);
        let energy = energy.and_then(|(before, after)| after.checked_sub(before));
        let board_of = json!({
            "model": board.model,
            "revision": board.revision,
            "system": board.system,
            "cores": board.cores,
            "allowed_cores": board.allowed,
            "memory_kib": board.memory_kib,
            "before": state_before,
            "after": state_after,
        });
        let report = json!({
            "model": self.choice.model.display().to_string(),
            "part": facts.part,
            "precision": facts.precision,
            "image": facts.image.to_string(),
            "macs": facts.macs,
            "engine": concat!("edgegen ", env!("CARGO_PKG_VERSION")),
            "arch": std::env::consts::ARCH,
            "isa": cpu.isa().to_string(),
            "threads": self.threads,
            "batch": subject.batch(),
            "runs": timings.runs,
            "load_ms": ms(load),
            "first_ms": ms(first_time),
            "min_us": us(timings.min_us),
            "p50_us": us(timings.p50_us),
            "p90_us": us(timings.p90_us),
            "p99_us": us(timings.p99_us),
            "mean_us": us(timings.mean_us),
            "frames_per_second": tenths(subject.batch() as f64 / timings.p50_us * 1e6),
            "gmacs": gmacs.map(tenths),
            "peak_gmacs_per_core": tenths(peak),
            "percent_of_peak": gmacs.map(|gmacs| tenths(gmacs / peak / self.threads as f64 * 100.0)),
            "watts": energy.map(|uj| tenths(uj as f64 / 1e6 / measured.as_secs_f64())),
            "peak_rss_kib": peak_rss_kib(),
            "board": board_of,
        });
        match (self.json, self.csv) {
            (true, _) => print(&format!("{report}\n")),
            (_, true) => print(&csv(&report)),
            _ => print(&text(&report, &board, [&state_before, &state_after])),
        }
    }
}

/// What has a value of its own, without the board's tree.
fn flat(report: &Value) -> Map<String, Value> {
    let entries = report.as_object().into_iter().flatten();
    entries.filter(|(key, _)| *key != "board").map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn csv(report: &Value) -> String {
    let mut entries = flat(report);
    let board = &report["board"];
    entries.insert("board".into(), board["model"].clone());
    entries.insert("governor".into(), board["cores"][0]["governor"].clone());
    for when in ["before", "after"] {
        entries.insert(format!("khz_{when}"), board[when]["khz"][0].clone());
        entries.insert(format!("celsius_{when}"), board[when]["celsius"].clone());
        entries.insert(format!("throttled_{when}"), board[when]["throttled"].clone());
    }
    // RFC 4180
    let cell = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) if text.contains([',', '"', '\n']) => {
            format!("\"{}\"", text.replace('"', "\"\""))
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let names: Vec<&str> = entries.keys().map(String::as_str).collect();
    let values: Vec<String> = entries.values().map(cell).collect();
    format!("{}\n{}\n", names.join(","), values.join(","))
}

const MISSING: &str = "not told by this system";

fn text(report: &Value, board: &Board, states: [&State; 2]) -> String {
    let mut text = String::new();
    let mut line = |key: &str, value: String| text.push_str(&format!("{key:<20}{value}\n"));
    for (key, value) in flat(report) {
        let value = match value {
            Value::Null => MISSING.to_string(),
            Value::String(text) => text,
            other => other.to_string(),
        };
        line(&key, value);
    }
    let told = |value: Option<String>| value.unwrap_or_else(|| MISSING.to_string());
    let both = |value: fn(&State) -> Option<String>| {
        let [before, after] = states.map(value);
        before.zip(after).map_or(MISSING.to_string(), |(before, after)| format!("{before} -> {after}"))
    };
    let first = board.cores.first();
    let design = first.and_then(|core| core.design.clone());
    line("board", told(board.model.clone()));
    line("revision", told(board.revision.clone()));
    line("system", told(board.system.clone()));
    line("cores", format!("{} x {}", board.cores.len(), told(design)));
    line("allowed cores", told(board.allowed.clone()));
    line("governor", told(first.and_then(|core| core.governor.clone())));
    let mhz = |khz: u64| format!("{} MHz", khz / 1000);
    line("highest clock", told(first.and_then(|core| core.max_khz).map(mhz)));
    let clock = |state: &State| state.khz.first().copied().flatten().map(|khz| format!("{} MHz", khz / 1000));
    line("clock", both(clock));
    line("temperature", both(|state| state.celsius.map(|celsius| format!("{celsius:.1} \u{b0}C"))));
    let flags = |state: &State| {
        state.throttled.map(|throttled| match throttled.names() {
            names if names.is_empty() => "no".to_string(),
            names => names.join(", "),
        })
    };
    line("throttling", both(flags));
    let mib = |kib: u64| format!("{} MiB", kib / 1024);
    line("memory", told(board.memory_kib.map(mib)));
    printable(&text)
}
