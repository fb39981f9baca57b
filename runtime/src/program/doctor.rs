//! `edgegen doctor`: is this board ready? Each line says what was found, and what to do about it.

use super::print;
use anyhow::{Result, bail};
use clap::Args;
use edgegen_runtime::arguments::machine;
use edgegen_runtime::measure::{Board, Root, State};
use serde_json::json;
use std::path::PathBuf;

#[derive(Args)]
pub(super) struct Doctor {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Read the board's files below this folder
    #[arg(long, value_name = "FOLDER", default_value = "/", hide = true)]
    root: PathBuf,
}

/// How a check came out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ok,
    /// It works, but not at its best; or something optional is missing.
    Note,
    Bad,
    /// The system does not tell.
    Unknown,
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Bad => "bad",
            Self::Unknown => "unknown",
        }
    }
}

struct Check {
    name: &'static str,
    verdict: Verdict,
    found: String,
    /// What to do, unless all is well.
    remedy: &'static str,
}

impl Doctor {
    pub(super) fn run(self) -> Result<()> {
        let root = Root::at(&self.root);
        let checks = checks(&root);
        let bad = checks.iter().filter(|check| check.verdict == Verdict::Bad).count();
        if self.json {
            let all = checks.iter().map(|check| {
                let remedy = (check.verdict != Verdict::Ok).then_some(check.remedy);
                json!({"check": check.name, "verdict": check.verdict.name(), "found": check.found, "remedy": remedy})
            });
            print(&format!("{}\n", json!({"checks": all.collect::<Vec<_>>(), "ready": bad == 0})))?;
        } else {
            for check in &checks {
                print(&format!("{:<8} {:<14} {}\n", check.verdict.name(), check.name, check.found))?;
                if check.verdict != Verdict::Ok {
                    print(&format!("{:<8} {:<14} -> {}\n", "", "", check.remedy))?;
                }
            }
        }
        match bad {
            0 => Ok(()),
            1 => bail!("1 thing has to be put right"),
            _ => bail!("{bad} things have to be put right"),
        }
    }
}

fn checks(root: &Root) -> Vec<Check> {
    let board = Board::read(root);
    let state = State::read(root, &board);
    vec![
        model(&board),
        system(),
        kernels(),
        governor(&board),
        power(&state),
        temperature(&state),
        memory(&state),
        device(
            root,
            "SPI",
            &["/dev/spidev0.0", "/dev/spidev0.1"],
            "for an ST7789 panel: dtparam=spi=on in /boot/firmware/config.txt, then restart; be in the group spi",
        ),
        device(
            root,
            "I2C",
            &["/dev/i2c-1"],
            "for an SSD1306 panel: dtparam=i2c_arm=on in /boot/firmware/config.txt, then restart; be in the group i2c",
        ),
        device(
            root,
            "framebuffer",
            &["/dev/fb0", "/dev/fb1"],
            "for edgegen-panel: connect a screen, or a panel's overlay in /boot/firmware/config.txt; be in the group video",
        ),
    ]
}

fn model(board: &Board) -> Check {
    let (verdict, found) = match &board.model {
        Some(model) if model.contains("Raspberry Pi") => (Verdict::Ok, model.clone()),
        Some(model) => (Verdict::Note, model.clone()),
        None => (Verdict::Unknown, "the system does not tell its model".to_string()),
    };
    Check {
        name: "board",
        verdict,
        found,
        remedy: "edgegen runs anyway; its numbers for boards are for Raspberry Pis",
    }
}

fn system() -> Check {
    let arch = std::env::consts::ARCH;
    let verdict = if cfg!(target_pointer_width = "64") { Verdict::Ok } else { Verdict::Bad };
    let remedy =
        "kernels for a 32-bit system are plain Rust, several times slower: install the 64-bit system";
    Check { name: "system", verdict, found: format!("this program is for {arch}"), remedy }
}

fn kernels() -> Check {
    let (verdict, found) = match machine(1).map(|machine| machine.cpu()) {
        Ok(cpu) if cpu.isa().name() == "scalar" => (Verdict::Note, "plain Rust".to_string()),
        Ok(cpu) => (Verdict::Ok, cpu.isa().to_string()),
        Err(error) => (Verdict::Bad, error.to_string()),
    };
    Check {
        name: "kernels",
        verdict,
        found,
        remedy: "a CPU with NEON (aarch64), or AVX2, runs the fast ones; unset EDGEGEN_ISA",
    }
}

fn governor(board: &Board) -> Check {
    let governor = board.cores.first().and_then(|core| core.governor.clone());
    let (verdict, found) = match governor {
        Some(governor) if governor == "performance" => (Verdict::Ok, governor),
        Some(governor) => (Verdict::Note, governor),
        None => (Verdict::Unknown, "the system does not tell".to_string()),
    };
    let remedy = "for even frame times and benches: echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor";
    Check { name: "governor", verdict, found, remedy }
}

fn power(state: &State) -> Check {
    let (verdict, found) = match state.throttled {
        Some(throttled) if throttled.under_voltage() => (Verdict::Bad, throttled.names().join(", ")),
        Some(throttled) if throttled.0 != 0 => (Verdict::Note, throttled.names().join(", ")),
        Some(_) => (Verdict::Ok, "never too low since the start".to_string()),
        None => (Verdict::Unknown, "the system does not tell; is vcgencmd installed?".to_string()),
    };
    Check {
        name: "power",
        verdict,
        found,
        remedy: "use the board's own power supply and a short cable; cool it",
    }
}

/// Raspberry Pis lower their clock from 80 °C on.
const WARM: f64 = 75.0;

fn temperature(state: &State) -> Check {
    let (verdict, found) = match state.celsius {
        Some(celsius) if celsius < WARM => (Verdict::Ok, format!("{celsius:.1} \u{b0}C")),
        Some(celsius) => (Verdict::Note, format!("{celsius:.1} \u{b0}C")),
        None => (Verdict::Unknown, "the system does not tell".to_string()),
    };
    Check {
        name: "temperature",
        verdict,
        found,
        remedy: "the clock falls from 80 \u{b0}C on: a heat sink, or a pause before a bench (--cool-down)",
    }
}

/// What a generator of the zoo takes, with room.
const ENOUGH_KIB: u64 = 32 * 1024;

fn memory(state: &State) -> Check {
    let (verdict, found) = match state.available_kib {
        Some(kib) if kib >= ENOUGH_KIB => (Verdict::Ok, format!("{} MiB to take", kib / 1024)),
        Some(kib) => (Verdict::Bad, format!("{} MiB to take", kib / 1024)),
        None => (Verdict::Unknown, "the system does not tell".to_string()),
    };
    Check { name: "memory", verdict, found, remedy: "a shipped model takes 8 to 20 MiB: stop other programs" }
}

/// A device of which one may be there, and has to be writable.
fn device(root: &Root, name: &'static str, paths: &[&str], remedy: &'static str) -> Check {
    let there = paths.iter().find(|path| root.path(path).exists());
    let (verdict, found) = match there {
        None => (Verdict::Note, format!("no {}", paths[0])),
        Some(path) => match std::fs::OpenOptions::new().read(true).write(true).open(root.path(path)) {
            Ok(_) => (Verdict::Ok, (*path).to_string()),
            Err(error) => (Verdict::Bad, format!("{path}: {error}")),
        },
    };
    Check { name, verdict, found, remedy }
}
