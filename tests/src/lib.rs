//! Helpers of the end-to-end tests: they drive the programs that users run, in temporary folders.
//!
//! The programs are those that `cargo test --workspace` has just built; the tests of one package
//! alone do not build another's programs.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The path of a program of this workspace, built with the same profile as the test.
///
/// # Panics
/// If it was not built.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let folder = test.parent().and_then(Path::parent).expect("tests lie in PROFILE/deps");
    let path = folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(path.is_file(), "{} is not built; run the README's test command", path.display());
    path
}

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A call of `name` in `folder`; its arguments are split at spaces.
pub fn command(folder: &Path, name: &str, arguments: &str) -> Command {
    let mut command = Command::new(program(name));
    command.current_dir(folder).args(arguments.split_whitespace());
    // caches of folders that are gone a moment later do not belong into the user's own cache folder
    command.env("XDG_CACHE_HOME", std::env::temp_dir().join("edgegen-tests"));
    command
}

/// Runs a call that must succeed; returns what it printed.
///
/// # Panics
/// If it fails.
pub fn succeeds(folder: &Path, name: &str, arguments: &str) -> String {
    let output = output(&mut command(folder, name, arguments));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {arguments}: {}\n{errors}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a call that must be refused: exit code not zero, one `error:` line that holds every one of
/// `expected`, no panic. Returns that line.
///
/// # Panics
/// If it is not.
pub fn refused(command: &mut Command, expected: &[&str]) -> String {
    let output = output(command);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{command:?} was accepted");
    assert!(output.status.code().is_some(), "{command:?} died of a signal: {}\n{errors}", output.status);
    assert!(!errors.contains("panicked"), "{command:?} panicked:\n{errors}");
    let lines: Vec<&str> = errors.lines().filter(|line| line.starts_with("error:")).collect();
    assert_eq!(lines.len(), 1, "{command:?} must give one error line:\n{errors}");
    for text in expected {
        assert!(lines[0].contains(text), "{command:?}: expected {text:?} in {:?}", lines[0]);
    }
    lines[0].to_string()
}

fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"))
}

/// Every file below `folder`, relative, sorted.
///
/// # Panics
/// If the folder cannot be read.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).expect("a readable folder") {
            let path = entry.expect("a readable entry").path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path.strip_prefix(folder).expect("below the folder").to_path_buf());
            }
        }
    }
    found.sort();
    found
}

/// A Python with onnx, onnxruntime and numpy, made by `tests/python/setup.sh`; or a line that says
/// that the test is skipped.
pub fn python() -> Option<PathBuf> {
    let path =
        std::env::var_os("EDGEGEN_PYTHON").map_or_else(|| root().join(".venv/bin/python"), PathBuf::from);
    if path.is_file() {
        return Some(path);
    }
    skipped("no Python oracle; bash tests/python/setup.sh makes one");
    None
}

/// Says on the terminal that a test is skipped: the test harness swallows what a passing test prints, but
/// not this.
pub fn skipped(why: &str) {
    use std::io::Write;
    // a terminal that is gone needs no word
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

/// Runs a script of `tests/python` that must succeed; returns what it printed.
///
/// # Panics
/// If it fails.
pub fn oracle(python: &Path, script: &str, arguments: &[&Path]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(script);
    let output = output(Command::new(python).arg(path).args(arguments));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {}\n{errors}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The values of a safetensors file without its header, which holds times.
///
/// # Panics
/// If the file is none.
pub fn checkpoint_values(path: &Path) -> Vec<u8> {
    let bytes = std::fs::read(path).expect("a checkpoint");
    let header = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
    bytes[8 + header..].to_vec()
}

/// Writes an IDX file of u8.
///
/// # Panics
/// If it cannot be written.
pub fn write_idx(path: &Path, axes: &[usize], values: &[u8]) {
    let mut bytes = vec![0, 0, 8, axes.len() as u8];
    axes.iter().for_each(|length| bytes.extend((*length as u32).to_be_bytes()));
    bytes.extend(values);
    std::fs::write(path, bytes).expect("a writable folder");
}

/// The JSON in the header of a safetensors file under the key `edgegen`: where a run is.
///
/// # Panics
/// If the file is none.
pub fn checkpoint_position(path: &Path) -> serde_json::Value {
    let bytes = std::fs::read(path).expect("a checkpoint");
    let header = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).expect("a JSON header");
    let position = header["__metadata__"]["edgegen"].as_str().expect("a position");
    serde_json::from_str(position).expect("a JSON position")
}
