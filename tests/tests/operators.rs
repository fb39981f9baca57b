//! Networks of an operator or two (`tests/operators/make.py`): each gives what ONNX's evaluator and onnxruntime say, or is
//! refused. docs/operators.md is made of them: `EDGEGEN_WRITE_DOCS=1 cargo test --release --workspace --test operators`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Read;

use edgegen_runtime::model::{EngineChoice, Model, OpenOptions, Range};
use edgegen_tests::root;
use flate2::read::GzDecoder;
use safetensors::SafeTensors;

/// Sums of float32 in another order.
const TOLERANCE: f32 = 1e-4;

/// Cases that are refused, which kernels or tract could run: no more than this share.
const MOST_REFUSED: f64 = 0.1;

/// A network with an input, and what is expected.
struct Case<'a> {
    name: &'a str,
    model: &'a [u8],
    latent: Vec<f32>,
    result: Vec<f32>,
}

/// What became of a case.
enum Outcome {
    /// Equal, by these runners: the kernels, tract, or both.
    Equal(&'static str),
    Refused(String),
    /// What is wrong.
    Wrong(String),
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn unpacked() -> Vec<u8> {
    let file = std::fs::File::open(root().join("tests/operators/cases.safetensors.gz")).unwrap();
    let mut bytes = Vec::new();
    GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    bytes
}

fn cases<'a>(file: &'a SafeTensors<'a>) -> Vec<Case<'a>> {
    let names: BTreeSet<&str> =
        file.names().into_iter().filter_map(|name| name.rsplit_once(':')).map(|(name, _)| name).collect();
    let data = |name: &str, part: &str| file.tensor(&format!("{name}:{part}")).unwrap().data();
    names
        .into_iter()
        .map(|name| Case {
            name,
            model: data(name, "model"),
            latent: floats(data(name, "latent")),
            result: floats(data(name, "result")),
        })
        .collect()
}

/// Runs a case.
fn run(case: &Case<'_>, engine: EngineChoice) -> Outcome {
    let options = OpenOptions { range: Some(Range::Signed), engine, ..OpenOptions::default() };
    let model = match Model::from_bytes(case.model, case.name, &options) {
        Ok(model) => model,
        Err(error) => return Outcome::Refused(error.to_string()),
    };
    let facts = model.facts();
    let tract = facts.tract.is_some() || facts.nodes.iter().any(|node| node.runner.starts_with("tract"));
    let kernels = facts.tract.is_none();
    let mut generator = match model.into_generator(1) {
        Ok(generator) => generator,
        Err(error) => return Outcome::Refused(error.to_string()),
    };
    // twice: nothing may stay from one picture to the next
    for turn in ["first", "second"] {
        let found = match generator.run(&case.latent, &[]) {
            Ok(found) => found.to_vec(),
            Err(error) => return Outcome::Refused(error.to_string()),
        };
        let largest = case.result.iter().fold(1f32, |most, value| most.max(value.abs()));
        let apart = found.iter().zip(&case.result).map(|(a, b)| (a - b).abs());
        let worst =
            apart.fold(0f32, |most, apart| if apart.is_nan() { f32::INFINITY } else { most.max(apart) });
        if found.len() != case.result.len() || worst > TOLERANCE * largest {
            return Outcome::Wrong(format!(
                "{} ({engine:?}, {turn} run): {worst} apart of at most {largest}",
                case.name
            ));
        }
    }
    Outcome::Equal(match (kernels, tract) {
        (true, false) => "kernels",
        (true, true) => "both",
        _ => "tract",
    })
}

#[test]
fn operators_give_what_onnx_says_or_are_refused() {
    let bytes = unpacked();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let cases = cases(&file);
    assert!(cases.len() > 2000, "{}", cases.len());
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    let (mut refused, mut wrong) = (0, Vec::new());
    for case in &cases {
        let (operator, opset) = told(case);
        let row = rows.entry(operator).or_default();
        row.cases += 1;
        row.opsets.insert(opset);
        match run(case, EngineChoice::Auto) {
            Outcome::Equal(runner) => {
                row.equal += 1;
                row.runners.insert(runner);
                // what the kernels run, tract may run too: each checks the other
                if let ("kernels", Outcome::Wrong(what)) = (runner, run(case, EngineChoice::Tract)) {
                    wrong.push(what);
                }
            }
            Outcome::Wrong(what) => wrong.push(what),
            Outcome::Refused(line) => {
                assert!(!line.contains('\n') && line.contains(case.name), "{line}");
                refused += 1;
                row.reasons.insert(reason(&line));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    let text = document(&rows, cases.len());
    let path = root().join("docs/operators.md");
    if std::env::var_os("EDGEGEN_WRITE_DOCS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let share = f64::from(refused) / cases.len() as f64;
    assert!(share < MOST_REFUSED, "{refused} of {} are refused", cases.len());
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == text,
        "docs/operators.md is not what the tests find: see the first lines of this file"
    );
}

/// What is known of an operator.
#[derive(Default)]
struct Row {
    cases: usize,
    equal: usize,
    opsets: BTreeSet<i64>,
    runners: BTreeSet<&'static str>,
    reasons: BTreeSet<String>,
}

/// The operator that a case is about, and its opset: its name begins with them.
fn told(case: &Case<'_>) -> (String, i64) {
    let mut parts = case.name.split('/');
    let operator = parts.next().unwrap_or_default().to_string();
    (operator, parts.next().and_then(|opset| opset.parse().ok()).unwrap_or(0))
}

/// Why a case was refused, without the names of files and nodes.
fn reason(line: &str) -> String {
    let line = line.split_once(": ").map_or(line, |(_, line)| line);
    let line = match line.split_once("): ") {
        Some((node, reason)) if node.starts_with("node ") => reason,
        _ => line,
    };
    line.split(" (node").next().unwrap_or(line).to_string()
}

fn document(rows: &BTreeMap<String, Row>, count: usize) -> String {
    let mut text = String::from(
        "# Operators\n\nWhich of ONNX's operators run, who runs them, and what was compared: made by `tests/tests/operators.rs` from\n\
         `tests/operators/cases.safetensors.gz`, whose expected values are those of ONNX's reference evaluator and onnxruntime\n\
         (`tests/operators/make.py`). *kernels*: edgegen's own; *tract*: with the feature `tract`, on by default. A case that is not equal\n\
         is refused with a line that names the node; none gives other values.\n\n",
    );
    let equal: usize = rows.values().map(|row| row.equal).sum();
    let _ = writeln!(text, "{count} cases, {equal} equal, {} refused.\n", count - equal);
    text += "| operator | opsets | run by | equal | of | refused because |\n|---|---|---|---:|---:|---|\n";
    for (operator, row) in rows {
        let (first, last) = (row.opsets.first().unwrap_or(&0), row.opsets.last().unwrap_or(&0));
        let opsets = if first == last { first.to_string() } else { format!("{first} to {last}") };
        let runners: Vec<&str> =
            ["kernels", "both", "tract"].into_iter().filter(|runner| row.runners.contains(runner)).collect();
        let reasons: Vec<&str> = row.reasons.iter().map(String::as_str).collect();
        let _ = writeln!(
            text,
            "| {operator} | {opsets} | {} | {} | {} | {} |",
            runners.join(", ").replace("both", "kernels with tract"),
            row.equal,
            row.cases,
            reasons.join("; ").replace('|', "\\|")
        );
    }
    text
}
