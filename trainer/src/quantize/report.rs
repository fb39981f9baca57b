//! What quantisation costs, layer by layer.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use edgegen_runtime::files::write_atomically;
use serde::{Deserialize, Serialize};

use super::simulate::{Inputs, Simulation};
use super::{Encoding, Quantized, Settings};
use crate::evaluate::quality::{self, Measure, sqnr};
use crate::graph::Graph;
use crate::plot::{Group, write_bars};
use crate::{Error, Result};

/// Inputs that sensitivities are found on.
const INPUTS: usize = 128;

/// Bars of the picture end here.
const MOST_DECIBELS: f64 = 80.0;

/// One layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerReport {
    /// Its name in the file.
    pub name: String,
    /// Dense or Conv.
    pub kind: String,
    /// Shape that it makes, channels × height × width.
    pub shape: String,
    /// Multiplications for one picture.
    pub macs: u64,
    /// Whether it stays in float32.
    pub float: bool,
    /// (smallest, largest) number that it puts out on the calibration set, behind its ReLU if it has one.
    pub range: (f32, f32),
    /// How its numbers are held.
    pub encoding: Option<Encoding>,
    /// Part of them that is clipped.
    pub clipped: f64,
    /// Signal-to-quantisation-noise ratio of its weights, dB.
    pub weight_sqnr: f64,
    /// That of what it puts out, behind its activation, all layers before it quantised too, dB.
    pub sqnr: f64,
    /// Quality of the network's output if this layer alone is quantised: mean PSNR, or SQNR of the worst output, dB.
    pub sensitivity: f64,
    /// Output channels that are zero on the whole calibration set.
    pub dead: usize,
}

/// All layers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What was asked for.
    pub settings: Settings,
    /// Exponent of the cross-layer equalisation, if one paid.
    pub equalized: Option<f32>,
    /// Operators that stay in float32 because they have no form in integers.
    pub foreign: Vec<String>,
    /// First to last.
    pub layers: Vec<LayerReport>,
    /// What sensitivities are: `PSNR` or `SQNR`.
    pub measure: String,
    /// How far the file is from float32 on held-out inputs, if it was measured.
    pub quality: Option<serde_json::Value>,
}

impl Report {
    /// The layer whose quantisation alone costs most.
    pub fn blamed(&self) -> Option<&LayerReport> {
        let quantized = self.layers.iter().filter(|layer| !layer.float);
        quantized.min_by(|a, b| a.sensitivity.total_cmp(&b.sensitivity))
    }

    /// Writes `PATH.json` and the picture `PATH.png`.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&self, path: &Path) -> Result<()> {
        let named = |extension: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(extension);
            PathBuf::from(name)
        };
        let text =
            serde_json::to_string_pretty(self).map_err(|e| Error::Export(format!("the report: {e}")))?;
        write_atomically(&named(".json"), |out| writeln!(out, "{text}"))?;
        let title = format!("Signal to quantisation noise by layer; {} of the network; dB", self.measure);
        write_bars(&self.groups(), &title, MOST_DECIBELS, &named(".png"))
    }

    fn groups(&self) -> Vec<Group> {
        let group = |layer: &LayerReport| {
            let figures = vec![
                ("its weights", layer.weight_sqnr),
                ("what it puts out", layer.sqnr),
                ("network, it alone rounded", layer.sensitivity),
            ];
            (layer.name.clone(), figures)
        };
        self.layers.iter().filter(|layer| !layer.float).map(group).collect()
    }

    /// A table for people.
    pub fn table(&self) -> String {
        let mut text = String::new();
        // writing to a String cannot fail
        let _ = writeln!(
            text,
            "{:<12} {:<6} {:>11} {:>9} {:>19} {:>19} {:>9} {:>8} {:>8} {:>8} {:>5}",
            "layer",
            "kind",
            "output",
            "kMAC",
            "range",
            "held",
            "clipped",
            "weights",
            "output",
            "alone",
            "dead"
        );
        for layer in &self.layers {
            let held = match (layer.float, layer.encoding) {
                (false, Some(encoding)) => {
                    let (low, high) = encoding.range();
                    format!("{:.3} … {high:.3}", low + 0.0)
                }
                _ => "float32".into(),
            };
            let _ = writeln!(
                text,
                "{:<12} {:<6} {:>11} {:>9.1} {:>19} {:>19} {:>7.3} % {:>5.1} dB {:>5.1} dB {:>5.1} dB {:>5}",
                layer.name,
                layer.kind,
                layer.shape,
                layer.macs as f64 / 1e3,
                format!("{:.3} … {:.3}", layer.range.0 + 0.0, layer.range.1),
                held,
                100.0 * layer.clipped,
                layer.weight_sqnr,
                layer.sqnr,
                layer.sensitivity,
                layer.dead,
            );
        }
        text
    }
}

impl Quantized {
    /// Measures every layer on `inputs`, which should not be those of the calibration.
    ///
    /// # Errors
    /// [`crate::Error::Export`] if an operator of another maker cannot be run.
    pub fn report(&self, inputs: &Inputs, measure: Measure) -> Result<Report> {
        let inputs = inputs.first(INPUTS);
        let (plan, graph) = (&self.plan, &self.exact);
        let nothing = vec![None; plan.tensors.len()];
        let linear: Vec<usize> =
            (0..graph.nodes.len()).filter(|index| graph.nodes[*index].op.is_linear()).collect();
        // what each layer's tensor holds in the end; what is made of it, where that alone counts
        let settled = |index: usize| {
            let tensor = &plan.tensors[plan.made_by(graph, index)];
            let behind = tensor.enters.and_then(|_| graph.only_reader(tensor.settled()));
            behind.map_or(tensor.settled(), |reader| graph.nodes[reader].output)
        };
        let mut exact_rows: Vec<Vec<f32>> = vec![Vec::new(); graph.values.len()];
        let mut found_rows = exact_rows.clone();
        let watched: Vec<usize> = linear.iter().map(|index| settled(*index)).collect();
        let float = Simulation { graph, plan, encodings: &nothing };
        let expected = float.run(&inputs, |id, batch| {
            if watched.contains(&id) {
                exact_rows[id].extend(batch.to_rows());
            }
        })?;
        self.simulation().run(&inputs, |id, batch| {
            if watched.contains(&id) {
                found_rows[id].extend(batch.to_rows());
            }
        })?;
        let mut layers = Vec::new();
        for index in linear {
            let (node, held) = (&graph.nodes[index], &self.graph.nodes[index]);
            let tensor = plan.made_by(graph, index);
            let value = settled(index);
            let shape = graph.values[value].shape;
            let per_channel = shape.values() / shape.channels();
            let mut live = vec![false; shape.channels()];
            let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
            for row in exact_rows[value].chunks(shape.values()) {
                for (live, values) in live.iter_mut().zip(row.chunks(per_channel)) {
                    *live |= values.iter().any(|value| *value != 0.0);
                }
                (low, high) =
                    row.iter().fold((low, high), |(low, high), value| (low.min(*value), high.max(*value)));
            }
            let histogram = self.histograms[tensor].as_ref();
            let encoding = self.encodings[tensor];
            let float = !plan.quantized[index];
            layers.push(LayerReport {
                name: node.name.clone(),
                kind: node.op.kind().into(),
                shape: shape.to_string(),
                macs: graph.macs_of(node),
                float,
                range: histogram.map_or((low, high), |histogram| (histogram.low, histogram.high)),
                encoding,
                clipped: histogram
                    .zip(encoding)
                    .map_or(0.0, |(histogram, encoding)| histogram.clipped(encoding)),
                weight_sqnr: sqnr(node.weight(), held.weight()),
                sqnr: sqnr(&exact_rows[value], &found_rows[value]),
                sensitivity: if float {
                    quality::EQUAL
                } else {
                    self.alone(index, &inputs, measure, &expected)?
                },
                dead: live.iter().filter(|live| !**live).count(),
            });
        }
        let measure = match measure {
            Measure::Pictures { .. } => "PSNR",
            Measure::Numbers => "SQNR",
        };
        Ok(Report {
            settings: self.settings.clone(),
            equalized: self.equalized,
            foreign: self.plan.foreign.clone(),
            layers,
            measure: measure.into(),
            quality: None,
        })
    }

    /// Quality with layer `index` alone quantised: its weights, what it puts out, and what enters it if that is the
    /// network's input.
    fn alone(&self, index: usize, inputs: &Inputs, measure: Measure, expected: &[Vec<f32>]) -> Result<f64> {
        let mut graph: Graph = self.exact.clone();
        let row = self.plan.row_of(&graph, index);
        for node in std::iter::once(index).chain(row) {
            graph.nodes[node] = self.graph.nodes[node].clone();
        }
        let mut encodings = vec![None; self.encodings.len()];
        let (read, made) = (self.plan.read_by(&graph, index), self.plan.made_by(&graph, index));
        encodings[made] = self.encodings[made];
        if read == self.plan.tensor[graph.input] {
            encodings[read] = self.encodings[read];
        }
        let simulation = Simulation { graph: &graph, plan: &self.plan, encodings: &encodings };
        Ok(measure.score(expected, &simulation.run(inputs, |_, _| ())?))
    }
}
