//! What model folders cost and are worth: each file's latency and memory, in its card and on a page with plots.

use std::path::{Path, PathBuf};
use std::process::Command;

use edgegen_runtime::files::write_atomically;
use edgegen_runtime::model::{Manifest, Part, Precision};
use serde_json::{Value, json};

use super::add_metrics;
use super::ship::rows;
use super::zoo::judged_by_teacher;
use crate::plot::{Point, write_points};
use crate::{Error, Result};

/// Measures each file of a model folder that the runtime runs, by `edgegen bench` in a process of its own, one thread;
/// writes the figures into manifest and card. `edgegen` is that program.
///
/// # Errors
/// If the program cannot be started or refuses a file, or the file system's.
pub fn measure(folder: &Path, edgegen: &Path) -> Result<()> {
    let manifest = Manifest::read(folder)?;
    // `edgegen bench` runs decoders, generators and encoders
    let files = manifest.files.iter().filter(|file| file.part.draws() || file.part == Part::Encoder);
    for file in files {
        let (part, precision) = (file.part, file.precision);
        let mut bench = Command::new(edgegen);
        bench.arg("bench").arg(folder).args(["--json", "--part", &part.to_string()]);
        bench.args(["--precision", &precision.to_string()]);
        let output = bench.output().map_err(|e| Error::io("start", edgegen, e))?;
        let refused = |problem: String| Error::run(&folder.join(&file.file), problem);
        if !output.status.success() {
            return Err(refused(String::from_utf8_lossy(&output.stderr).trim().into()));
        }
        let found: Value = serde_json::from_slice(&output.stdout).map_err(|e| refused(e.to_string()))?;
        let design = found.pointer("/board/model").filter(|model| !model.is_null());
        let design = design.or_else(|| found.pointer("/board/cores/0/design"));
        let told = json!({
            "latency_us": found["p50_us"],
            "peak_rss_kib": found["peak_rss_kib"],
            "measured_on": format!("{}, {}", design.and_then(Value::as_str).unwrap_or("an unknown CPU"), found["isa"].as_str().unwrap_or_default()),
        });
        add_metrics(folder, part, precision, told)?;
    }
    Ok(())
}

/// One file of a model: its size, its latency and its quality.
struct Cost {
    model: String,
    precision: Precision,
    bytes: u64,
    /// Median of a picture, µs, on one thread.
    latency: f64,
    /// The most memory that the whole process held, KiB.
    memory: Option<u64>,
    /// Against float32, dB; none of float32 itself.
    quality: Option<f64>,
    /// The features, and the Fréchet distance on them.
    distance: Option<(String, f64)>,
    /// Where it was measured.
    machine: String,
}

fn costs(folders: &[PathBuf]) -> Result<Vec<Cost>> {
    let mut all = Vec::new();
    for path in folders {
        let manifest = Manifest::read(path)?;
        let Some(part) = manifest.drawing_part() else { continue };
        for row in rows(&manifest).into_iter().filter(|row| row.part == part) {
            let Some(latency) = row.number("latency_us") else {
                if !row.shipped {
                    continue; // it was not measured while it was here
                }
                let lacking = "its card does not say how long it takes: edgegen-train zoo measure does that";
                return Err(Error::run(&path.join(row.file()), lacking));
            };
            all.push(Cost {
                model: manifest.name.clone(),
                precision: row.precision,
                bytes: row.bytes,
                latency,
                memory: row.number("peak_rss_kib").map(|kib| kib as u64),
                quality: row.number("psnr_mean"),
                distance: row.text("frechet_features").map(String::from).zip(row.number("frechet")),
                machine: row.text("measured_on").unwrap_or_default().into(),
            });
        }
    }
    Ok(all)
}

/// What `edgegen-train compare --json` found of others' samples.
pub struct Beside {
    /// What drew them.
    pub name: String,
    /// The report.
    pub report: PathBuf,
}

/// A line for what drew samples, by the figures at these places; `note` follows the features' name.
fn judged(name: &str, figures: &Value, places: [&str; 6], note: &str) -> String {
    let [features, samples, distance, precision, recall, coverage] =
        places.map(|place| figures.pointer(place));
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or("–").to_string();
    let number = |value: Option<&Value>, digits: usize| {
        value.and_then(Value::as_f64).map_or("–".into(), |value| format!("{value:.digits$}"))
    };
    format!(
        "| {name} | {}{note} | {} | {} | {}, {} | {} |\n",
        text(features),
        number(samples, 0),
        number(distance, 1),
        number(precision, 2),
        number(recall, 2),
        number(coverage, 2),
    )
}

/// Writes the page `out` on what the models in `folders` cost and are worth, with `others` beside them, and its pictures
/// next to it.
///
/// # Errors
/// If a model has not been measured, a report cannot be read, or the file system's.
pub fn results(folders: &[PathBuf], others: &[Beside], out: &Path) -> Result<()> {
    let all = costs(folders)?;
    let stem = out.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let beside = |what: &str| out.with_file_name(format!("{stem}-{what}.png"));
    let points = |x: &dyn Fn(&Cost) -> Option<f64>, y: &dyn Fn(&Cost) -> Option<f64>| -> Vec<Point> {
        let named = |cost: &Cost| format!("{} {}", cost.model, cost.precision);
        all.iter().filter_map(|cost| Some((named(cost), x(cost)?, y(cost)?))).collect()
    };
    let megabytes = |cost: &Cost| Some(cost.bytes as f64 / 1e6);
    let distance = |cost: &Cost| cost.distance.as_ref().map(|(_, distance)| *distance);
    write_points(&points(&megabytes, &distance), ["megabytes", "Fréchet distance"], &beside("bytes"))?;
    let times = |cost: &Cost| Some(cost.latency / 1e3);
    write_points(
        &points(&times, &|cost| cost.quality),
        ["milliseconds a picture", "PSNR against fp32, dB"],
        &beside("latency"),
    )?;
    let mut machines: Vec<&str> = all.iter().map(|cost| cost.machine.as_str()).collect();
    machines.sort_unstable();
    machines.dedup();
    let mut text = format!(
        "# What the shipped models cost, and what they are worth\n\n\
         Made by `edgegen-train zoo results --out {}` from the models' cards. Latency: median of a picture on one thread, without its conversion to \
         levels; memory: the most that the whole process held; both by `edgegen bench` ({}). Fréchet distances compare on the same features only.\n\n\
         ![Bytes and Fréchet distance]({stem}-bytes.png)\n\n![Latency and quality]({stem}-latency.png)\n\n\
         | model | precision | bytes | µs a picture | memory | PSNR against fp32 | Fréchet distance |\n|---|---|---:|---:|---:|---:|---|\n",
        out.display(),
        machines.join("; "),
    );
    let dash = || "–".to_string();
    for cost in &all {
        text.push_str(&format!(
            "| {} | {} | {} | {:.0} | {} | {} | {} |\n",
            cost.model,
            cost.precision,
            cost.bytes,
            cost.latency,
            cost.memory.map_or_else(dash, |kib| format!("{:.1} MB", kib as f64 * 1024.0 / 1e6)),
            cost.quality.map_or_else(dash, |quality| format!("{quality:.1} dB")),
            cost.distance
                .as_ref()
                .map_or_else(dash, |(features, distance)| format!("{distance:.1} on {features}")),
        ));
    }
    text.push_str(
        "\n## Samples\n\nBy features that took no part in training, as many samples as pictures; distances of equal numbers on the same features compare.\n\n\
         | model | features | samples | Fréchet distance | precision, recall | coverage |\n|---|---|---:|---:|---|---:|\n",
    );
    for path in folders {
        let manifest = Manifest::read(path)?;
        if let Some(figures) = manifest.metrics.get("samples_compared") {
            let places = ["/features", "/samples", "/frechet", "/precision", "/recall", "/coverage"];
            text.push_str(&judged(&manifest.name, figures, places, judged_by_teacher(&manifest)));
        }
    }
    for other in others {
        let bytes = std::fs::read(&other.report).map_err(|e| Error::io("read", &other.report, e))?;
        let figures: Value = serde_json::from_slice(&bytes).map_err(|e| Error::run(&other.report, e))?;
        let [manifolds, distance] = ["/manifolds/precision", "/frechet"].map(|place| figures.pointer(place));
        if manifolds.is_none() || distance.is_none() {
            return Err(Error::run(&other.report, "is no report of edgegen-train compare --json"));
        }
        let places = [
            "/features/name",
            "/samples/count",
            "/frechet",
            "/manifolds/precision",
            "/manifolds/recall",
            "/manifolds/coverage",
        ];
        text.push_str(&judged(&other.name, &figures, places, ""));
    }
    Ok(write_atomically(out, |file| std::io::Write::write_all(file, text.as_bytes()))?)
}
