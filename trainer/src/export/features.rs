//! A network cut down to the feature maps that recipes learn by, as a model folder.

use std::path::Path;

use edgegen_runtime::files::write_atomically;
use edgegen_runtime::model::{Kind, Manifest, Metadata, Part, Precision, sha256_hex};
use prost::Message;
use serde_json::{Map, json};
use tract_onnx::pb::{ModelProto, StringStringEntryProto};

use super::{PRODUCER, staged, write_file};
use crate::evaluate::features::Scaling;
use crate::graph::features::INPUT_KEY;
use crate::graph::{features, onnx};
use crate::{Error, Result};

/// Coarsest stride that is kept.
const COARSEST: usize = 16;
/// Side of the pictures that the file names; without dense layers it takes any.
const SIDE: usize = 224;

/// What is cut, and what its card says.
pub struct Cut<'a> {
    /// The file's bytes, and its name.
    pub source: (&'a [u8], &'a str),
    /// Its input's scaling.
    pub scaling: Scaling,
    /// Where it comes from, and under which licence.
    pub notice: &'a str,
    /// The command that cuts it.
    pub command: String,
}

/// Writes the feature maps at strides 2 to 16 of a network, batch norms folded, in float16, as the folder `out`; returns
/// the bytes of the file.
///
/// # Errors
/// [`Error::Config`] if it is no network of feature maps; [`Error::Export`] if `out` exists and `replace` is not set.
pub fn cut(cut: &Cut<'_>, name: &str, (out, replace): (&Path, bool)) -> Result<usize> {
    let (bytes, file) = cut.source;
    let found = features::read(bytes, file, (SIDE, SIDE))?;
    let kept: Vec<usize> = found.taps.keys().copied().filter(|stride| *stride <= COARSEST).collect();
    let outputs = found.at(&kept)?;
    let mut graph = found.graph;
    graph.outputs.clone_from(&outputs);
    graph.prune();
    graph.name = name.into();
    graph.metadata =
        Metadata { part: Some(Part::Features), kind: Some(Kind::Features), ..Metadata::default() };
    let mut proto = ModelProto::decode(onnx::model(&graph, Precision::Fp16)?.as_slice())
        .map_err(|e| Error::Export(e.to_string()))?;
    proto
        .metadata_props
        .push(StringStringEntryProto { key: INPUT_KEY.into(), value: cut.scaling.to_string() });
    let written = proto.encode_to_vec();
    let maps: Vec<String> = kept
        .iter()
        .zip(&outputs)
        .map(|(stride, value)| {
            format!(
                "| `{}` | {stride} | {} |",
                graph.values[*value].name,
                graph.values[*value].shape.channels()
            )
        })
        .collect();
    staged(out, replace, |folder| {
        let files = vec![write_file(folder, Part::Features, Precision::Fp16, &written)?];
        let metrics = Map::from_iter([
            ("source".to_string(), json!(file)),
            ("source_sha256".to_string(), json!(sha256_hex(bytes))),
            ("features_parameters".to_string(), json!(graph.parameter_count())),
        ]);
        let manifest = Manifest {
            name: name.into(),
            kind: Kind::Features,
            producer: format!("{} {}", PRODUCER.0, PRODUCER.1),
            parts: vec![Part::Features],
            precisions: vec![Precision::Fp16],
            default_precision: Precision::Fp16,
            files,
            metrics,
            command: cut.command.clone(),
        };
        manifest.write(folder)?;
        let card = format!(
            "# {name}\n\nFeature maps of pictures: what looks alike has like features. Recipes learn by them (`network.codes`, \
             `objective.matching`), and nothing is judged by them: a judge must not be the teacher.\n\n\
             RGB pictures of any size (N, 3, H, W), {} → maps (N, C, H / stride, W / stride):\n\n\
             | output | stride | channels |\n|---|---:|---:|\n{}\n\n\
             {} weights in float16, {} bytes.\n\n## Where it comes from\n\n    {}\n\n\
             from `{file}`, SHA-256 {}: its layers up to stride {COARSEST}, batch norms folded into convolutions; it was not \
             trained further.\n\n{}\n",
            cut.scaling,
            maps.join("\n"),
            graph.parameter_count(),
            written.len(),
            cut.command,
            sha256_hex(bytes),
            cut.notice.trim(),
        );
        write_atomically(&folder.join("README.md"), |out| std::io::Write::write_all(out, card.as_bytes()))?;
        Ok(())
    })?;
    Ok(written.len())
}
