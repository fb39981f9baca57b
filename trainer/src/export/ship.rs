//! A model folder → a smaller one, with some of its precisions: what is passed on.

use std::fs;
use std::path::Path;

use edgegen_runtime::files::write_atomically;
use edgegen_runtime::model::{Manifest, Part, Precision, file_name};
use serde_json::{Map, Value, json};

use super::{card, pictures, precisions_of, staged};
use crate::{Error, Result};

/// A network in a precision: a file of the folder, or one that its card tells of though it is not there.
pub(super) struct Row<'a> {
    pub(super) part: Part,
    pub(super) precision: Precision,
    pub(super) bytes: u64,
    /// What is known of it.
    pub(super) found: Option<&'a Map<String, Value>>,
    /// Whether the folder has the file.
    pub(super) shipped: bool,
}

impl Row<'_> {
    pub(super) fn number(&self, key: &str) -> Option<f64> {
        self.found?.get(key)?.as_f64()
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.found?.get(key)?.as_str()
    }

    pub(super) fn file(&self) -> String {
        file_name(self.part, self.precision)
    }
}

/// Every network in every precision that a folder tells of.
pub(super) fn rows(manifest: &Manifest) -> Vec<Row<'_>> {
    let mut all = Vec::new();
    for part in &manifest.parts {
        for precision in [Precision::Fp32, Precision::Fp16, Precision::Int8] {
            let found = manifest.metrics.get(&key(*part, precision)).and_then(Value::as_object);
            let file = manifest.find(*part, precision);
            let told = found.and_then(|found| found.get("bytes")?.as_u64());
            if let Some(bytes) = file.map(|file| file.bytes).or(told) {
                all.push(Row { part: *part, precision, bytes, found, shipped: file.is_some() });
            }
        }
    }
    all
}

/// The metrics' name of what is known of a file.
pub(super) fn key(part: Part, precision: Precision) -> String {
    format!("{part}_{precision}")
}

/// Writes the model folder `out` with the files of `model` in these precisions alone, without what only training needs;
/// the card still tells what is known of the others, and its pictures are those of the most exact file left.
///
/// # Errors
/// [`Error::Export`] if a network is in none of the precisions, or `out` exists and `replace` is not set.
pub fn ship(model: &Path, (out, replace): (&Path, bool), precisions: &[Precision]) -> Result<Manifest> {
    staged(out, replace, |to| {
        let mut manifest = Manifest::read(model)?;
        let copy = |name: &str| {
            fs::copy(model.join(name), to.join(name)).map_err(|e| Error::io("copy", &model.join(name), e))
        };
        let (kept, left): (Vec<_>, Vec<_>) =
            manifest.files.drain(..).partition(|file| precisions.contains(&file.precision));
        for file in left {
            let entry = manifest.metrics.entry(key(file.part, file.precision)).or_insert_with(|| json!({}));
            entry["bytes"] = json!(file.bytes);
        }
        for file in &kept {
            copy(&file.file)?;
            let report = format!("{}.{}.json", file.part, file.precision);
            if model.join(&report).is_file() {
                copy(&report)?;
            }
        }
        manifest.files = kept;
        manifest.precisions = precisions_of(&manifest.files);
        let lost = manifest.parts.iter().find(|part| manifest.files.iter().all(|file| file.part != **part));
        if let Some(part) = lost {
            let (path, asked) = (model.display(), precisions.iter().map(ToString::to_string));
            let asked = asked.collect::<Vec<_>>().join(", ");
            return Err(Error::Export(format!("{path}: its {part} is not there in {asked}")));
        }
        manifest.default_precision = pictures::drawn_by(&manifest);
        manifest.write(to)?;
        pictures::draw(&manifest, to)?;
        if model.join(pictures::RESTORED).is_file() {
            copy(pictures::RESTORED)?;
        }
        let text = fs::read(model.join("README.md")).map_err(|e| Error::io("read", model, e))?;
        write_atomically(&to.join("README.md"), |out| std::io::Write::write_all(out, &text))?;
        card::rewrite_precisions(&to.join("README.md"), &manifest)?;
        Ok(manifest)
    })
}
