//! A run's whole state in one safetensors file: weights, both Adam moments, and where the run is.
//!
//! Random numbers and the order of the pictures follow from (seed, step) alone (see
//! [`crate::random`]), so the step *is* their state. Tensors: `weights/NAME` and, for what
//! is trained, `adam.first/NAME` and `adam.second/NAME`; all f32. The header's metadata key
//! `edgegen` holds [`Position`] as JSON.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use edgegen_runtime::files::write_atomically;
use edgegen_runtime::model::sha256_hex;
use safetensors::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};

use super::metrics::Sums;
use crate::graph::Parameter;
use crate::{Error, Result};

/// Metadata key of [`Position`].
const KEY: &str = "edgegen";
/// Largest checkpoint that is read: 8 GiB.
const LARGEST_FILE: u64 = 8 << 30;

/// Where a run is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Steps done.
    pub step: u64,
    /// Training time, seconds.
    pub seconds: f64,
    /// Training pictures seen, counted at each visit.
    #[serde(default)]
    pub pictures: u64,
    /// Figures of the steps since the last report.
    pub sums: Sums,
    /// Score of the best report so far.
    pub best: Option<f64>,
    /// Its step.
    #[serde(default)]
    pub best_step: u64,
}

/// A tensor on its way into a file.
struct Stored {
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for &Stored {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// The name of the first tensor that holds a NaN or an infinite value.
pub fn not_finite<'a>(parameters: impl IntoIterator<Item = &'a Parameter>) -> Option<&'a str> {
    let mut parameters = parameters.into_iter();
    let found = parameters.find(|parameter| !parameter.value.iter().all(|value| value.is_finite()));
    found.map(|parameter| parameter.name.as_str())
}

fn stored(shape: &[usize], values: &[f32]) -> Result<Stored> {
    if let Some(value) = values.iter().find(|value| !value.is_finite()) {
        return Err(Error::Training(format!(
            "a weight is {value}: the run has diverged, and this state is not stored; begin a new run with a lower --learning-rate"
        )));
    }
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Ok(Stored { shape: shape.to_vec(), bytes })
}

/// The (first, second) moments of trained parameters, named after them.
pub type Moments = Vec<(Parameter, Parameter)>;

/// The bytes of a file with weights and the optimisers' state.
///
/// # Errors
/// [`Error::Training`] if a value is no finite number.
pub fn encode<'a>(
    parameters: impl IntoIterator<Item = &'a Parameter>,
    moments: &Moments,
    position: &Position,
) -> Result<Vec<u8>> {
    let mut tensors = Vec::new();
    for parameter in parameters {
        tensors.push((format!("weights/{}", parameter.name), stored(&parameter.shape, &parameter.value)?));
    }
    for (first, second) in moments {
        tensors.push((format!("adam.first/{}", first.name), stored(&first.shape, &first.value)?));
        tensors.push((format!("adam.second/{}", second.name), stored(&second.shape, &second.value)?));
    }
    let refused = |e: String| Error::Training(format!("the checkpoint cannot be made: {e}"));
    let json = serde_json::to_string(position).map_err(|e| refused(e.to_string()))?;
    let metadata = HashMap::from([(KEY.to_string(), json)]);
    let views = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    safetensors::serialize(views, Some(metadata)).map_err(|e| refused(e.to_string()))
}

/// Writes a checkpoint's bytes; a kill at any moment leaves the last file.
///
/// # Errors
/// The file system's.
pub fn save(path: &Path, bytes: &[u8]) -> Result<()> {
    Ok(write_atomically(path, |out| out.write_all(bytes))?)
}

/// A checkpoint that was read.
pub struct Checkpoint {
    /// Where the run was.
    pub position: Position,
    /// SHA-256 of the names and values of all weights, hex: the same for the same weights, however long they took.
    pub sha256: String,
    /// Shape and values.
    tensors: HashMap<String, (Vec<usize>, Vec<f32>)>,
    path: std::path::PathBuf,
}

/// Reads `path`.
///
/// # Errors
/// [`Error::Run`] naming the file, if it is damaged or was not made by [`encode`].
pub fn read(path: &Path) -> Result<Checkpoint> {
    let length = fs::metadata(path).map_err(|e| Error::io("read", path, e))?.len();
    if length > LARGEST_FILE {
        return Err(Error::run(
            path,
            format!("has {length} bytes; no checkpoint of ours is larger than {LARGEST_FILE}"),
        ));
    }
    let bytes = fs::read(path).map_err(|e| Error::io("read", path, e))?;
    let damaged = |problem: String| Error::run(path, format!("is no usable checkpoint: {problem}"));
    let file = SafeTensors::deserialize(&bytes).map_err(|e| damaged(e.to_string()))?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(e.to_string()))?;
    let json = header
        .metadata()
        .as_ref()
        .and_then(|metadata| metadata.get(KEY))
        .ok_or_else(|| damaged(format!("its header has no key {KEY:?}")))?;
    let position = serde_json::from_str(json).map_err(|e| damaged(e.to_string()))?;
    let mut tensors = HashMap::new();
    for (name, view) in file.tensors() {
        if view.dtype() != Dtype::F32 {
            return Err(damaged(format!("{name} is {:?}, not F32", view.dtype())));
        }
        let values: Vec<f32> =
            view.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        if let Some(value) = values.iter().find(|value| !value.is_finite()) {
            return Err(damaged(format!("{name} holds {value}")));
        }
        tensors.insert(name, (view.shape().to_vec(), values));
    }
    Ok(Checkpoint { position, sha256: weights_sha256(&file), tensors, path: path.to_path_buf() })
}

fn weights_sha256(file: &SafeTensors<'_>) -> String {
    let mut weights: Vec<_> = file.iter().filter(|(name, _)| name.starts_with("weights/")).collect();
    weights.sort_by_key(|(name, _)| name.to_string());
    let bytes: Vec<u8> =
        weights.into_iter().flat_map(|(name, view)| [name.as_bytes(), view.data()].concat()).collect();
    sha256_hex(&bytes)
}

impl Checkpoint {
    /// The values of `parameter` that are stored as `kind/NAME`.
    fn take<W>(&mut self, kind: &str, parameter: &Parameter<W>) -> Result<Parameter> {
        let (name, shape) = (format!("{kind}/{}", parameter.name), &parameter.shape);
        let (found, values) = self
            .tensors
            .remove(&name)
            .ok_or_else(|| Error::run(&self.path, format!("lacks {name}: it belongs to another network")))?;
        if found != *shape {
            let problem =
                format!("{name} is {found:?}, the network's is {shape:?}: it belongs to another network");
            return Err(Error::run(&self.path, problem));
        }
        parameter.map(|_| Ok(values))
    }

    /// The weights of parameters with these names and shapes.
    ///
    /// # Errors
    /// [`Error::Run`] if they are another network's.
    pub fn weights<'a, W: 'a>(
        &mut self,
        parameters: impl IntoIterator<Item = &'a Parameter<W>>,
    ) -> Result<Vec<Parameter>> {
        parameters.into_iter().map(|parameter| self.take("weights", parameter)).collect()
    }

    /// The state of the optimiser of `parameters`, of those that are trained.
    ///
    /// # Errors
    /// [`Error::Run`] if the checkpoint holds none or another network's.
    pub fn moments<'a, W: 'a>(
        &mut self,
        parameters: impl IntoIterator<Item = &'a Parameter<W>>,
    ) -> Result<Moments> {
        let trained = parameters.into_iter().filter(|parameter| parameter.trained);
        trained
            .map(|parameter| Ok((self.take("adam.first", parameter)?, self.take("adam.second", parameter)?)))
            .collect()
    }
}
