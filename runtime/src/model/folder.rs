//! A model folder: `model.json` and one ONNX file for each part and precision.

use super::metadata::is_sha256;
use super::{Model, OpenOptions, limits};
use crate::files::write_atomically;
use crate::kinds::{Kind, Part, Precision};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Name of the manifest in a model folder.
pub const MANIFEST: &str = "model.json";

/// The content of `model.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Name of the model.
    pub name: String,
    /// How it was trained.
    pub kind: Kind,
    /// Program and version that wrote the folder.
    pub producer: String,
    /// The networks in the folder.
    pub parts: Vec<Part>,
    /// The precisions in the folder.
    pub precisions: Vec<Precision>,
    /// The precision to take if nobody asks for one.
    pub default_precision: Precision,
    /// The ONNX files.
    pub files: Vec<ManifestFile>,
    /// Measures of the model, by name.
    #[serde(default)]
    pub metrics: serde_json::Map<String, serde_json::Value>,
    /// The command line that made it.
    #[serde(default)]
    pub command: String,
}

/// One ONNX file of a model folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestFile {
    /// Its name in the folder.
    pub file: String,
    /// Which network it holds.
    pub part: Part,
    /// Numbers that the weights are stored in.
    pub precision: Precision,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its content, 64 lower-case hexadecimal digits.
    pub sha256: String,
}

/// The name of a part's file in a model folder: `decoder.fp32.onnx`.
pub fn file_name(part: Part, precision: Precision) -> String {
    format!("{part}.{precision}.onnx")
}

impl Manifest {
    /// The part that a use which does not name one means: what draws, or turns pictures into pictures.
    pub fn main_part(&self) -> Option<Part> {
        self.drawing_part().or_else(|| self.parts.iter().copied().find(|part| *part == Part::Transform))
    }

    /// The part that draws from the prior: a generator, or else a decoder.
    pub fn drawing_part(&self) -> Option<Part> {
        [Part::Generator, Part::Decoder].into_iter().find(|part| self.parts.contains(part))
    }

    /// Reads `model.json` of a folder.
    ///
    /// # Errors
    /// If the file is missing, too large, not JSON of the right form, or contradicts itself.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST);
        if folder.is_dir() && !path.exists() {
            let hint = match folder.join("checkpoints").is_dir() {
                true => {
                    "this is a run, not a model; edgegen-train export RUN --out MODEL makes a model of it"
                }
                false => "this is no model folder: it has no model.json",
            };
            return Err(Error::malformed(folder.display(), hint));
        }
        let bytes = limits::read_bounded(&path, limits::MAX_MANIFEST_BYTES)?;
        let manifest: Self =
            serde_json::from_slice(&bytes).map_err(|e| Error::malformed(path.display(), e))?;
        manifest.check().map_err(|problem| Error::malformed(path.display(), problem))?;
        Ok(manifest)
    }

    /// Writes `model.json` into a folder, atomically and always with the same bytes.
    ///
    /// # Errors
    /// If the manifest contradicts itself or the file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(MANIFEST);
        self.check().map_err(|problem| Error::malformed(path.display(), problem))?;
        let mut text = serde_json::to_string_pretty(self).map_err(|e| Error::malformed(path.display(), e))?;
        text.push('\n');
        write_atomically(&path, |writer| writer.write_all(text.as_bytes()))
    }

    /// The entry of a part in a precision.
    pub fn find(&self, part: Part, precision: Precision) -> Option<&ManifestFile> {
        self.files.iter().find(|file| file.part == part && file.precision == precision)
    }

    fn check(&self) -> std::result::Result<(), String> {
        for (index, file) in self.files.iter().enumerate() {
            let name = &file.file;
            // The name is joined to the folder's path: it must not lead out of it.
            let plain = Path::new(name).file_name().is_some_and(|last| last == name.as_str());
            if !plain || name.contains('\\') {
                return Err(format!("{name:?} is not a plain file name"));
            }
            if !is_sha256(&file.sha256) {
                return Err(format!("sha256 of {name} should be 64 lower-case hexadecimal digits"));
            }
            if self.files[..index].iter().any(|f| f.part == file.part && f.precision == file.precision) {
                return Err(format!("{} {} is listed twice", file.precision, file.part));
            }
            if !self.parts.contains(&file.part) || !self.precisions.contains(&file.precision) {
                return Err(format!("{name} is missing in parts or precisions"));
            }
        }
        if !self.precisions.contains(&self.default_precision) {
            return Err(format!("default_precision {} is not among precisions", self.default_precision));
        }
        Ok(())
    }
}

/// A model folder on disk.
#[derive(Clone, Debug)]
pub struct ModelFolder {
    /// Where it is.
    pub path: PathBuf,
    /// Its `model.json`.
    pub manifest: Manifest,
}

impl ModelFolder {
    /// Reads a folder's manifest; the ONNX files are not touched yet.
    ///
    /// # Errors
    /// See [`Manifest::read`].
    pub fn open(folder: &Path) -> Result<Self> {
        if !folder.is_dir() {
            return Err(Error::malformed(folder.display(), "this is not a model folder"));
        }
        Ok(Self { path: folder.to_path_buf(), manifest: Manifest::read(folder)? })
    }

    /// The path of a part's file; that the file is there and unchanged is checked by
    /// [`Self::open_part`].
    ///
    /// # Errors
    /// If the manifest does not list the part in that precision.
    pub fn path_of(&self, part: Part, precision: Precision) -> Result<PathBuf> {
        self.entry(part, precision).map(|entry| self.path.join(&entry.file))
    }

    /// Opens a part, in the default precision unless another is asked for, after comparing the
    /// file with its SHA-256 in the manifest.
    ///
    /// # Errors
    /// If the part is not listed, or its file is missing, changed or not acceptable
    /// (see [`Model::from_bytes`]).
    pub fn open_part(
        &self,
        part: Part,
        precision: Option<Precision>,
        options: &OpenOptions,
    ) -> Result<Model> {
        let bytes = self.read_part(part, precision)?;
        let path = self.path_of(part, precision.unwrap_or(self.manifest.default_precision))?;
        let model = Model::from_bytes(&bytes, &path.display().to_string(), options)?;
        if model.facts().metadata.part.is_some_and(|said| said != part) {
            let problem = format!("{MANIFEST} calls it {part}, its own metadata something else");
            return Err(Error::malformed(path.display(), problem));
        }
        Ok(model)
    }

    /// Reads a part's file, in the default precision unless another is asked for, after comparing it with its
    /// SHA-256 in the manifest.
    ///
    /// # Errors
    /// If the part is not listed, or its file is missing, too large or changed.
    pub fn read_part(&self, part: Part, precision: Option<Precision>) -> Result<Vec<u8>> {
        let entry = self.entry(part, precision.unwrap_or(self.manifest.default_precision))?;
        let path = self.path.join(&entry.file);
        let bytes = limits::read_bounded(&path, limits::MAX_MODEL_BYTES)?;
        if sha256_hex(&bytes) != entry.sha256 {
            let problem =
                format!("its SHA-256 is not the one in {MANIFEST}: the file is damaged or was changed");
            return Err(Error::malformed(path.display(), problem));
        }
        Ok(bytes)
    }

    /// The part that turns latents into pictures: decoder or generator.
    ///
    /// # Errors
    /// If the folder has neither.
    pub fn drawing_part(&self) -> Result<Part> {
        self.manifest.drawing_part().ok_or_else(|| {
            let path = self.path.display();
            match self.manifest.kind {
                Kind::Classifier => Error::unsupported(path, "it holds a classifier, which draws nothing"),
                Kind::Features => Error::unsupported(path, "it holds feature maps, which draw nothing"),
                Kind::Transform => Error::unsupported(
                    path,
                    "it turns pictures into pictures: edgegen transform takes it, with pictures",
                ),
                _ => Error::malformed(path, "it holds neither a decoder nor a generator"),
            }
        })
    }

    fn entry(&self, part: Part, precision: Precision) -> Result<&ManifestFile> {
        self.manifest.find(part, precision).ok_or_else(|| {
            let listed: Vec<&str> = self.manifest.files.iter().map(|file| file.file.as_str()).collect();
            let listed = if listed.is_empty() { "nothing".to_string() } else { listed.join(", ") };
            Error::malformed(
                self.path.display(),
                format!("no {precision} {part} here; {MANIFEST} lists {listed}"),
            )
        })
    }
}

/// SHA-256 of `bytes` (FIPS 180-4) in 64 lower-case hexadecimal digits, as manifests hold it.
pub fn sha256_hex(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    use std::fmt::Write;
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Manifest {
        let mut metrics = serde_json::Map::new();
        metrics.insert("z_last".into(), 1.5.into());
        metrics.insert("a_first".into(), 2.into());
        Manifest {
            name: "mnist-vae".into(),
            kind: Kind::Vae,
            producer: "edgegen-train 0.1.0".into(),
            parts: vec![Part::Encoder, Part::Decoder],
            precisions: vec![Precision::Fp32],
            default_precision: Precision::Fp32,
            files: vec![ManifestFile {
                file: file_name(Part::Decoder, Precision::Fp32),
                part: Part::Decoder,
                precision: Precision::Fp32,
                bytes: 3,
                sha256: sha256_hex(b"abc"),
            }],
            metrics,
            command: "edgegen-train train …".into(),
        }
    }

    #[test]
    fn sha256_of_abc_is_the_standards_example() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"; // FIPS 180-4
        assert_eq!(sha256_hex(b"abc"), expected);
    }

    #[test]
    fn a_manifest_is_read_as_written() {
        let folder = tempfile::tempdir().unwrap();
        example().write(folder.path()).unwrap();
        assert_eq!(Manifest::read(folder.path()).unwrap(), example());
        let text = std::fs::read_to_string(folder.path().join(MANIFEST)).unwrap();
        assert!(text.contains("\"kind\": \"vae\"") && text.contains("\"decoder.fp32.onnx\""), "{text}");
        assert!(text.find("z_last") < text.find("a_first"), "metrics keep their order");
    }

    #[test]
    fn manifests_that_contradict_themselves_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let refuse = |change: &dyn Fn(&mut Manifest), expected: &str| {
            let mut manifest = example();
            change(&mut manifest);
            let line = manifest.write(folder.path()).unwrap_err().to_string();
            assert!(line.contains(expected) && line.contains(MANIFEST), "{line}");
        };
        refuse(&|m| m.files[0].file = "../decoder.onnx".into(), "plain file name");
        refuse(&|m| m.files[0].file = "..".into(), "plain file name");
        refuse(&|m| m.files[0].file = "".into(), "plain file name");
        refuse(&|m| m.files[0].sha256 = "abc".into(), "sha256");
        refuse(&|m| m.files.push(m.files[0].clone()), "twice");
        refuse(&|m| m.parts = vec![Part::Encoder], "missing in parts");
        refuse(&|m| m.default_precision = Precision::Int8, "default_precision");
        std::fs::write(folder.path().join(MANIFEST), "{\"name\": 3}").unwrap();
        assert!(Manifest::read(folder.path()).unwrap_err().to_string().contains(MANIFEST));
    }
}
