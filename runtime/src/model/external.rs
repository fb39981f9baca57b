//! Weights that lie in other files beside the model's, as PyTorch's exporter writes them
//! (<https://github.com/onnx/onnx/blob/main/docs/ExternalData.md>).

use super::limits;
use crate::onnx::{EXTERNAL, ModelProto, TensorProto};
use crate::{Error, Result};
use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

/// Where the numbers of a tensor lie.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    from: u64,
    to: u64,
}

/// Reads the weights of a model that lie in files of its folder, and returns how many bytes they take.
///
/// # Errors
/// If a file is not there, lies outside of the folder, is too short, or its weights overlap; or if they are more than
/// [`limits::MAX_MODEL_BYTES`].
pub(super) fn read(proto: &mut ModelProto, model: &Path) -> Result<u64> {
    let folder = model.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut files: HashMap<String, (File, u64, Vec<Place>)> = HashMap::new();
    let mut total = 0u64;
    let tensors = proto.graph.iter_mut().flat_map(|graph| {
        let attributes = graph.node.iter_mut().flat_map(|node| &mut node.attribute);
        graph.initializer.iter_mut().chain(attributes.filter_map(|attribute| attribute.t.as_mut()))
    });
    for tensor in tensors.filter(|tensor| tensor.data_location == EXTERNAL) {
        let refused = |problem: String| {
            Error::malformed(model.display(), format!("weight {:?}: {problem}", tensor.name))
        };
        let location = entry(tensor, "location").unwrap_or_default().to_string();
        let number = |key: &str| {
            let text = entry(tensor, key).filter(|text| !text.is_empty());
            text.map(|text| text.parse::<u64>().map_err(|_| refused(format!("its {key} is {text:?}"))))
                .transpose()
        };
        let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
        if !files.contains_key(&location) {
            let path = inside(folder, &location).map_err(refused)?;
            let file = File::open(&path).map_err(|e| Error::io("read", &path, e))?;
            let size = file.metadata().map_err(|e| Error::io("read", &path, e))?.len();
            files.insert(location.clone(), (file, size, Vec::new()));
        }
        let Some((file, size, places)) = files.get_mut(&location) else { continue };
        let end = length.map_or(Some(*size), |length| offset.checked_add(length));
        let Some(to) = end.filter(|to| offset <= *to && *to <= *size) else {
            return Err(refused(format!("it lies behind the end of {location}, which has {size} bytes")));
        };
        let place = Place { from: offset, to };
        total += to - offset;
        if total > limits::MAX_MODEL_BYTES {
            return Err(Error::unsupported(
                model.display(),
                "the model is too large with its weights' files",
            ));
        }
        let mut bytes = vec![0; usize::try_from(to - offset).unwrap_or(usize::MAX)];
        let read = file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(&mut bytes));
        read.map_err(|e| Error::io("read", &folder.join(&location), e))?;
        places.push(place);
        tensor.raw_data = bytes.into();
        tensor.data_location = 0;
        tensor.external_data.clear();
    }
    for (location, (_, _, mut places)) in files {
        places.sort_unstable();
        places.dedup(); // weights that are shared
        if places.windows(2).any(|pair| pair[1].from < pair[0].to) {
            return Err(Error::malformed(model.display(), format!("its weights overlap in {location}")));
        }
    }
    Ok(total)
}

fn entry<'a>(tensor: &'a TensorProto, key: &str) -> Option<&'a str> {
    tensor.external_data.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
}

/// A file of a folder, or what a link there points to, if that lies in the folder or among the blobs of a hub's cache,
/// `models--…/snapshots/…/model.onnx` → `models--…/blobs/…`.
fn inside(folder: &Path, location: &str) -> std::result::Result<PathBuf, String> {
    let plain = Path::new(location)
        .components()
        .all(|component| matches!(component, Component::Normal(_) | Component::CurDir));
    if location.is_empty() || !plain {
        return Err(format!("its file {location:?} is none of the model's folder"));
    }
    let path = folder.join(location);
    let whole = |path: &Path| {
        path.canonicalize().map_err(|e| match e.kind() {
            ErrorKind::NotFound => {
                format!("its file {} is not there: it belongs beside the model's", path.display())
            }
            _ => format!("{}: {e}", path.display()),
        })
    };
    let (folder, target) = (whole(folder)?, whole(&path)?);
    let snapshots =
        folder.ancestors().find(|folder| folder.file_name().is_some_and(|name| name == "snapshots"));
    let blobs = snapshots.and_then(Path::parent).map(|cache| cache.join("blobs"));
    if target.starts_with(&folder) || blobs.is_some_and(|blobs| target.starts_with(blobs)) {
        return Ok(target);
    }
    Err(format!("its file {location} is a link out of the model's folder"))
}
