//! Features and moments of a reference set, kept from one evaluation to the next.
//!
//! One safetensors file per (pictures, network, preprocessing): `features` (N, D) as f32, `mean` (D) and
//! `covariance` (D, D) as f64, with their SHA-256 in the header. A file that is damaged, or cannot be written,
//! is a remark and never a failure: what it holds can be computed again.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use edgegen_runtime::files::write_atomically;
use edgegen_runtime::model::{ImageShape, sha256_hex};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};

use super::distance::Moments;
use super::features::{Extractor, Features, Rows};
use crate::Result;
use crate::data::hex;

/// Metadata keys.
const KEY: &str = "edgegen.key";
const SUM: &str = "edgegen.sha256";
/// Largest file that is read: 8 GiB.
const LARGEST_FILE: u64 = 8 << 30;

/// Features of a reference set and their moments.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    /// (N, D).
    pub features: Features,
    /// Their mean and covariance.
    pub moments: Moments,
}

/// What became of the cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheNote {
    /// Whether the reference came out of the cache.
    pub hit: bool,
    /// What was wrong with it, in a line.
    pub problem: Option<String>,
}

/// SHA-256 of pictures, (height, width, channels) each, and their shape, hex.
pub fn pictures_sha256(shape: ImageShape, pictures: &dyn Rows) -> String {
    let mut hash = Sha256::new();
    for side in [shape.height, shape.width, shape.channels] {
        hash.update((side as u64).to_le_bytes());
    }
    (0..pictures.count()).for_each(|index| hash.update(pictures.picture(index)));
    hex(hash)
}

/// The folder that caches lie in unless the user says otherwise: `edgegen` in `$XDG_CACHE_HOME`, or else in
/// `~/.cache` (XDG Base Directory Specification 0.8); `None` where neither is known.
pub fn default_folder() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map(|caches| caches.join("edgegen"))
}

/// The reference of `pictures`, (height, width, channels) each, whose SHA-256 is `sha256`: out of the folder
/// `cache`, or else computed and stored there.
///
/// # Errors
/// Those of the extractor and of [`Moments::of`]; none of the cache's.
pub fn reference(
    extractor: &Extractor,
    shape: ImageShape,
    pictures: &dyn Rows,
    sha256: &str,
    cache: Option<&Path>,
    done: &(dyn Fn(usize) + Sync),
) -> Result<(Reference, CacheNote)> {
    let key = format!("pictures {sha256} {}", extractor.identity());
    let path = cache
        .map(|folder| folder.join(format!("features-{}.safetensors", &sha256_hex(key.as_bytes())[..32])));
    let mut note = CacheNote::default();
    if let Some(path) = path.as_deref().filter(|path| path.exists()) {
        match read(path, &key, pictures.count(), extractor.network().dimension()) {
            Ok(reference) => return Ok((reference, CacheNote { hit: true, problem: None })),
            Err(problem) => {
                note.problem = Some(format!("{}: {problem}; it is computed again", path.display()));
            }
        }
    }
    let features = extractor.features(shape, pictures, done)?;
    let moments = Moments::of(&features)?;
    let reference = Reference { features, moments };
    if let Some(path) = path
        && let Err(problem) = write(&path, &key, &reference)
    {
        note.problem = Some(format!("{problem}; the features of the pictures are not kept"));
    }
    Ok((reference, note))
}

fn sum(tensors: [&[u8]; 3]) -> String {
    let mut hash = Sha256::new();
    tensors.iter().for_each(|bytes| hash.update(bytes));
    hex(hash)
}

fn write(path: &Path, key: &str, reference: &Reference) -> std::result::Result<(), String> {
    let Reference { features, moments } = reference;
    let text = |e: &dyn std::fmt::Display| e.to_string();
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
    }
    let wide = |values: &[f64]| -> Vec<u8> { values.iter().flat_map(|value| value.to_le_bytes()).collect() };
    let rows: Vec<u8> = features.values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let (mean, covariance) = (wide(&moments.mean), wide(&moments.covariance));
    let dimension = features.dimension;
    let header = HashMap::from([
        (KEY.to_string(), key.to_string()),
        (SUM.to_string(), sum([&rows, &mean, &covariance])),
    ]);
    let view =
        |dtype, shape: &[usize], bytes| TensorView::new(dtype, shape.to_vec(), bytes).map_err(|e| text(&e));
    let tensors = [
        ("features", view(Dtype::F32, &[features.count(), dimension], &rows)?),
        ("mean", view(Dtype::F64, &[dimension], &mean)?),
        ("covariance", view(Dtype::F64, &[dimension, dimension], &covariance)?),
    ];
    let bytes = safetensors::serialize(tensors, Some(header)).map_err(|e| text(&e))?;
    write_atomically(path, |out| out.write_all(&bytes)).map_err(|e| text(&e))
}

fn read(path: &Path, key: &str, count: usize, dimension: usize) -> std::result::Result<Reference, String> {
    let unreadable = |e: std::io::Error| format!("cannot be read ({e})");
    if std::fs::metadata(path).map_err(unreadable)?.len() > LARGEST_FILE {
        return Err("is larger than any cache of ours".into());
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let damaged = || "is damaged".to_string();
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|_| damaged())?;
    let header = header.metadata().clone().unwrap_or_default();
    if header.get(KEY).map(String::as_str) != Some(key) {
        return Err("belongs to other pictures or another network".into());
    }
    let file = SafeTensors::deserialize(&bytes).map_err(|_| damaged())?;
    let tensor = |name: &str, dtype: Dtype, shape: &[usize]| {
        let view = file.tensor(name).ok().filter(|view| view.dtype() == dtype && view.shape() == shape);
        view.map(|view| view.data()).ok_or_else(damaged)
    };
    let rows = tensor("features", Dtype::F32, &[count, dimension])?;
    let mean = tensor("mean", Dtype::F64, &[dimension])?;
    let covariance = tensor("covariance", Dtype::F64, &[dimension, dimension])?;
    if header.get(SUM) != Some(&sum([rows, mean, covariance])) {
        return Err(damaged());
    }
    let wide = |bytes: &[u8]| bytes.as_chunks().0.iter().map(|value| f64::from_le_bytes(*value)).collect();
    let values = rows.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value)).collect();
    Ok(Reference {
        features: Features { values, dimension },
        moments: Moments { count, mean: wide(mean), covariance: wide(covariance) },
    })
}
