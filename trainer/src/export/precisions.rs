//! A file in float32 → the same network in float16 and in integers of 8 bits, each compared with it through the
//! runtime.

use edgegen_runtime::generate::{Latents, Raster};
use edgegen_runtime::model::{
    ImageShape, Metadata, Model, OpenOptions, Part, Precision, Range, keys, limits, sha256_hex,
};
use prost::Message;
use rayon::prelude::*;
use serde_json::{Map, Value, json};
use std::path::Path;
use tract_onnx::pb::ModelProto;

use super::PRODUCER;
use crate::compute::candle::Candle;
use crate::data::{self, Dataset};
use crate::evaluate::network::{FeatureNetwork, OutputChoice};
use crate::evaluate::quality::{Measure, Ratios, psnr, sqnr, ssim};
use crate::evaluate::{Seen, spread};
use crate::graph::import::{self, Ports};
use crate::graph::prepare::Form;
use crate::graph::{Graph, Shape, onnx};
use crate::quantize::report::Report;
use crate::quantize::{self, Inputs, Settings};
use crate::{Error, Result};

/// Seed of the latents that networks are calibrated on.
const CALIBRATION_SEED: u64 = 1_000_003;
/// Seed of the latents that files are compared on.
const HELD_OUT_SEED: u64 = 0;
/// Least ratio of a file in float32 in another form, dB.
const SAME: f64 = 80.0;
/// Inputs that one task runs.
const PIECE: usize = 64;

/// What to make of a file in float32.
#[derive(Clone, Debug)]
pub struct Request {
    /// In which precisions, besides float32.
    pub precisions: Vec<Precision>,
    /// How to quantise.
    pub settings: Settings,
    /// Inputs to calibrate on.
    pub calibration: usize,
    /// Inputs to compare on.
    pub held_out: usize,
    /// Least mean PSNR of pictures, least SQNR of other outputs, in dB; below it the export is refused. 0: none.
    pub least: f64,
    /// Keep layers in float32, the most sensitive first, until [`Self::least`] is reached.
    pub keep_automatically: bool,
    /// Where to fine-tune; `None`: on the CPU.
    pub device: Option<Candle>,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            precisions: Vec::new(),
            settings: Settings::default(),
            calibration: 1024,
            held_out: 1000,
            least: 30.0,
            keep_automatically: false,
            device: None,
        }
    }
}

/// A file in another precision.
pub struct Made {
    /// Its precision.
    pub precision: Precision,
    /// The ONNX file.
    pub bytes: Vec<u8>,
    /// How far it is from the file in float32.
    pub quality: Quality,
    /// Of a file in integers, layer by layer.
    pub report: Option<Report>,
}

/// How far a file is from that in float32, on inputs that it was not calibrated on.
#[derive(Clone, Debug, PartialEq)]
pub enum Quality {
    /// Of what draws pictures.
    Pictures {
        /// Peak signal-to-noise ratio, dB.
        psnr: Ratios,
        /// Structural similarity.
        ssim: Ratios,
        /// Pictures.
        count: usize,
    },
    /// Of anything else, each output's signal-to-quantisation-noise ratio, dB.
    Numbers {
        /// (output, dB)
        sqnr: Vec<(String, f64)>,
        /// Inputs.
        count: usize,
    },
}

impl Quality {
    /// The figure that [`Request::least`] bounds.
    pub fn score(&self) -> f64 {
        match self {
            Self::Pictures { psnr, .. } => psnr.mean,
            Self::Numbers { sqnr, .. } => sqnr.iter().map(|(_, ratio)| *ratio).fold(f64::INFINITY, f64::min),
        }
    }

    /// As metrics of a model folder.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Pictures { psnr, ssim, count } => json!({
                "psnr_mean": psnr.mean, "psnr_worst": psnr.worst,
                "ssim_mean": ssim.mean, "ssim_worst": ssim.worst, "pictures": count,
            }),
            Self::Numbers { sqnr, count } => {
                let mut object: Map<String, Value> =
                    sqnr.iter().map(|(name, ratio)| (format!("{name}_sqnr"), json!(ratio))).collect();
                object.insert("inputs".into(), json!(count));
                Value::Object(object)
            }
        }
    }
}

impl std::fmt::Display for Quality {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pictures { psnr, ssim, count } => write!(
                f,
                "PSNR {:.1} dB (worst of {count}: {:.1}), SSIM {:.4} (worst: {:.4})",
                psnr.mean, psnr.worst, ssim.mean, ssim.worst
            ),
            Self::Numbers { sqnr, count } => {
                let each: Vec<String> =
                    sqnr.iter().map(|(name, ratio)| format!("{name} {ratio:.1} dB")).collect();
                write!(f, "SQNR {} ({count} inputs)", each.join(", "))
            }
        }
    }
}

/// A file in float32, read for being made into others.
pub struct Source {
    name: String,
    bytes: Vec<u8>,
    /// SHA-256 of the user's file, which may be written otherwise than `bytes`.
    digest: String,
    part: Part,
    /// Of the pictures that it makes, or else takes.
    image: ImageShape,
    /// Of the pictures that it takes, or else draws.
    taken: ImageShape,
    range: Range,
    /// How the file itself is opened.
    options: OpenOptions,
    graph: Graph,
}

impl Source {
    /// Reads a file of any exporter, with the files that hold its weights, and opens it as [`Self::open`] does.
    ///
    /// # Errors
    /// As [`Model::read_plain`] and [`Self::open`].
    pub fn read(path: &Path, options: &OpenOptions) -> Result<Self> {
        let source = Self::open(Model::read_plain(path, options)?, &path.display().to_string(), options)?;
        let own = limits::read_bounded(path, limits::MAX_MODEL_BYTES)?;
        Ok(Self { digest: sha256_hex(&own), ..source })
    }

    /// Opens a file that draws pictures, encodes them or classifies them.
    ///
    /// # Errors
    /// If the runtime does not accept it, or its graph is not understood.
    pub fn open(bytes: Vec<u8>, name: &str, options: &OpenOptions) -> Result<Self> {
        let proto = ModelProto::decode(bytes.as_slice()).unwrap_or_default();
        let says = proto.metadata_props.iter().find(|entry| entry.key == keys::PART);
        let part = says.and_then(|entry| entry.value.parse().ok());
        if part == Some(Part::Classifier) {
            return Self::classifier(bytes, name, proto);
        }
        drop(proto);
        let model = Model::from_bytes(&bytes, name, options)?;
        let (facts, range) = (model.facts().clone(), model.range()?);
        drop(model);
        let graph = import::graph(&bytes, name, &Ports::of(&facts)?)?;
        // colours with alpha have more values than the picture that is seen
        let values = facts.raster.as_ref().map_or(facts.image.values(), Raster::values);
        let apart = ImageShape { channels: 1, height: 1, width: values };
        let image = if values == facts.image.values() { facts.image } else { apart };
        let (part, taken) = (facts.part, facts.source.unwrap_or(image));
        let (name, options, digest) = (name.into(), options.clone(), sha256_hex(&bytes));
        Ok(Self { name, bytes, digest, part, image, taken, range, options, graph })
    }

    /// Opens edgegen's classifier, which is no model to the runtime.
    fn classifier(bytes: Vec<u8>, name: &str, proto: ModelProto) -> Result<Self> {
        let network = FeatureNetwork::from_bytes(&bytes, name, OutputChoice::Prefer(&[]))?;
        let (image, metadata) = (network.image_shape(), network.metadata().clone());
        let graph = proto.graph.unwrap_or_default();
        let range = metadata.range.unwrap_or(Range::Unit);
        let ports = Ports {
            input: (
                graph.input.first().map(|input| input.name.clone()).unwrap_or_default(),
                Shape::of_image(image),
            ),
            class_input: None,
            outputs: graph.output.iter().map(|output| output.name.clone()).collect(),
            metadata,
            any_size: false,
        };
        let graph = import::graph(&bytes, name, &ports)?;
        let options = OpenOptions::default();
        let (name, part, taken, digest) = (name.into(), Part::Classifier, image, sha256_hex(&bytes));
        Ok(Self { name, bytes, digest, part, image, taken, range, options, graph })
    }

    /// Bytes of the file in float32, with its weights.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Which network it is.
    pub fn part(&self) -> Part {
        self.part
    }

    /// Size of the pictures that it takes, or else draws.
    pub fn taken(&self) -> ImageShape {
        self.taken
    }

    /// Latents to calibrate and to compare on, with classes in turn; `None` for what takes pictures.
    pub fn latents(&self, request: &Request) -> Option<[Inputs; 2]> {
        if !self.part.draws() {
            return None;
        }
        let classes = self.graph.classes() as u32;
        let shape = self.graph.values[self.graph.input].shape;
        let draw = |seed, count: usize| Inputs {
            shape,
            rows: Latents::from_seed(seed, 0, count, shape.values(), 1.0).values().to_vec(),
            classes: (classes > 0).then(|| (0..count as u32).map(|index| index % classes).collect()),
            count,
        };
        Some([draw(CALIBRATION_SEED, request.calibration), draw(HELD_OUT_SEED, request.held_out)])
    }

    /// Training pictures to calibrate on and test pictures to compare on, for what takes pictures, evenly spread so that
    /// every class is among them; binarised and with noise as the encoder's file says.
    ///
    /// # Errors
    /// [`Error::Export`] if there is no data set, or it has pictures of another shape.
    pub fn pictures(&self, dataset: Option<&Dataset>, request: &Request) -> Result<[Inputs; 2]> {
        let Some(dataset) = dataset else {
            return Err(Error::Export(format!(
                "{}: what takes pictures is calibrated on pictures, of {}; give them with --data",
                self.name, self.taken
            )));
        };
        if dataset.shape != self.taken {
            return Err(Error::Export(format!(
                "{}: it takes pictures of {}; those of {} are {}",
                self.name, self.taken, dataset.name, dataset.shape
            )));
        }
        let seen = Seen::of_file(&self.graph.metadata);
        let (held_out, _) = dataset.report_part();
        let sets = [(&dataset.train, request.calibration), (held_out, request.held_out)];
        Ok(sets.map(|(pictures, count)| {
            let indices = spread(pictures.count(), count);
            let count = indices.len();
            let mut rows = data::batch(self.range, dataset.shape, pictures, indices.clone());
            // the encoders that say so take pictures in [0, 1]
            let each = rows.chunks_mut(dataset.shape.values()).zip(indices);
            each.for_each(|(picture, index)| seen.apply(picture, index));
            Inputs { shape: Shape::of_image(dataset.shape), rows, classes: None, count }
        }))
    }

    /// The file in float32 in the form that is quantised, compared on `inputs`.
    ///
    /// # Errors
    /// As [`onnx::model`]; [`Error::Export`] if it computes something else.
    pub fn prepared(&self, inputs: &Inputs) -> Result<Vec<u8>> {
        let graph = Graph { metadata: self.metadata(), ..self.graph.clone() };
        let bytes = onnx::model(&graph.prepare(Form::Convolution)?.rectified_first(), Precision::Fp32)?;
        let few = inputs.first(PIECE);
        let ratio = self.measure().score(&self.outputs(&self.bytes, &few)?, &self.outputs(&bytes, &few)?);
        if ratio < SAME {
            return Err(Error::Export(format!(
                "{}: in its other form it is {ratio:.1} dB from what it was: its graph was misread",
                self.name
            )));
        }
        Ok(bytes)
    }

    fn measure(&self) -> Measure {
        Measure::of(self.part, self.image, self.range)
    }

    /// Makes the files that are asked for; `tell` hears what is being done.
    ///
    /// # Errors
    /// [`Error::Export`] if a file is further from this one than the request accepts, with the layer that is to
    /// blame; and everything that [`quantize::quantize`] refuses.
    pub fn make(&self, request: &Request, inputs: &[Inputs; 2], tell: &dyn Fn(&str)) -> Result<Vec<Made>> {
        let [calibration, held_out] = inputs;
        if held_out.count == 0 {
            return Err(Error::Export("there is nothing to compare files on".into()));
        }
        let exact = self.outputs(&self.bytes, held_out)?;
        let mut made = Vec::new();
        for precision in &request.precisions {
            made.push(match precision {
                Precision::Fp32 => continue,
                Precision::Fp16 => {
                    tell("float16");
                    let graph = Graph { metadata: self.metadata(), ..self.graph.clone() };
                    let bytes = onnx::model(&graph.prepare(Form::Transposed)?, Precision::Fp16)?;
                    let quality = self.quality(&exact, &self.outputs(&bytes, held_out)?, held_out.count);
                    let refused = |_: &Option<Report>| "float16 does not hold its weights".to_string();
                    self.check(request, &quality, &None, refused)?;
                    Made { precision: Precision::Fp16, bytes, quality, report: None }
                }
                Precision::Int8 => self.integers(request, calibration, held_out, &exact, tell)?,
            });
        }
        Ok(made)
    }

    fn integers(
        &self,
        request: &Request,
        calibration: &Inputs,
        held_out: &Inputs,
        exact: &[Vec<f32>],
        tell: &dyn Fn(&str),
    ) -> Result<Made> {
        let measure = self.measure();
        let mut settings = request.settings.clone();
        loop {
            let graph = Graph { metadata: self.metadata(), ..self.graph.clone() };
            let quantized =
                quantize::quantize(&graph, calibration, measure, &settings, request.device.as_ref(), tell)?;
            let bytes = quantized.to_onnx(settings.format);
            tell("compare");
            let found = self.outputs(&bytes, held_out)?;
            let quality = self.quality(exact, &found, held_out.count);
            let report = Report { quality: Some(quality.to_json()), ..quantized.report(held_out, measure)? };
            let blamed = report.blamed().map(|layer| layer.name.clone());
            if let (true, true, Some(layer)) =
                (request.keep_automatically, quality.score() < request.least, blamed.clone())
                && report.layers.iter().filter(|layer| !layer.float).count() > 1
            {
                tell(&format!("{layer} stays in float32"));
                settings.keep_float.push(layer);
                continue;
            }
            let report = Some(report);
            self.check(request, &quality, &report, |report| {
                let blamed = report.as_ref().and_then(Report::blamed);
                blamed.map_or_else(String::new, |layer| {
                    format!(
                        "{} alone brings it down to {:.1} dB: --keep-float {} keeps it in float32, --qat 500 trains the rounded network on",
                        layer.name, layer.sensitivity, layer.name
                    )
                })
            })?;
            return Ok(Made { precision: Precision::Int8, bytes, quality, report });
        }
    }

    fn check(
        &self,
        request: &Request,
        quality: &Quality,
        report: &Option<Report>,
        remedy: impl Fn(&Option<Report>) -> String,
    ) -> Result<()> {
        if request.least == 0.0 || quality.score() >= request.least {
            return Ok(());
        }
        Err(Error::Export(format!(
            "{}: {quality}, below the {:.1} dB of --least-quality; {}",
            self.name,
            request.least,
            remedy(report)
        )))
    }

    /// What the files made of this one say about themselves.
    fn metadata(&self) -> Metadata {
        Metadata {
            parent_sha256: Some(self.digest.clone()),
            producer_name: Some(PRODUCER.0.into()),
            producer_version: Some(PRODUCER.1.into()),
            ..self.graph.metadata.clone()
        }
    }

    fn quality(&self, exact: &[Vec<f32>], found: &[Vec<f32>], count: usize) -> Quality {
        match self.measure() {
            Measure::Pictures { values, peak } => {
                let pictures: Vec<_> = exact[0].chunks(values).zip(found[0].chunks(values)).collect();
                let alike: Vec<f64> = pictures
                    .par_iter()
                    .map(|(exact, found)| ssim(exact, found, self.image, self.range))
                    .collect();
                Quality::Pictures {
                    psnr: Ratios::of(&psnr(&exact[0], &found[0], values, peak)),
                    ssim: Ratios::of(&alike),
                    count,
                }
            }
            Measure::Numbers => {
                let names = self.graph.outputs.iter().map(|output| self.graph.values[*output].name.clone());
                let ratios = exact.iter().zip(found).map(|(exact, found)| sqnr(exact, found));
                Quality::Numbers { sqnr: names.zip(ratios).collect(), count }
            }
        }
    }

    /// What a file made of this one puts out through the runtime: each output's rows.
    pub(super) fn outputs(&self, bytes: &[u8], inputs: &Inputs) -> Result<Vec<Vec<f32>>> {
        let width = inputs.rows.len() / inputs.count;
        let pieces: Vec<(usize, &[f32])> = inputs.rows.chunks(PIECE * width).enumerate().collect();
        // files that are made have no ports but those that were chosen
        let chosen = if bytes == self.bytes { self.options.clone() } else { OpenOptions::default() };
        let size = Some((self.taken.height, self.taken.width));
        let options = OpenOptions { range: Some(self.range), size, ..chosen };
        let run = |(index, rows): &(usize, &[f32])| -> Result<Vec<Vec<f32>>> {
            let count = rows.len() / width;
            let classes = inputs.classes.as_ref().map(|classes| &classes[index * PIECE..][..count]);
            let open = || Model::from_bytes(bytes, &self.name, &options);
            Ok(match self.part {
                Part::Encoder => {
                    let posterior = open()?.into_encoder(count.min(16))?.run(rows)?;
                    // in the order of the graph's outputs
                    let first = &self.graph.values[self.graph.outputs[0]].name;
                    let (mean, log_variance) = (posterior.mean, posterior.log_variance);
                    if first == "mean" { vec![mean, log_variance] } else { vec![log_variance, mean] }
                }
                Part::Classifier => {
                    let output = |value: &usize| -> Result<Vec<f32>> {
                        let named = OutputChoice::Named(&self.graph.values[*value].name);
                        let network = FeatureNetwork::from_bytes(bytes, &self.name, named)?;
                        let mut found = vec![0f32; count * network.dimension()];
                        network.runner()?.run(rows, &mut found)?;
                        Ok(found)
                    };
                    self.graph.outputs.iter().map(output).collect::<Result<_>>()?
                }
                Part::Transform => vec![open()?.into_transformer(1)?.run(rows)?.to_vec()],
                Part::Decoder | Part::Generator | Part::Features => {
                    let mut generator = open()?.into_generator(1)?;
                    vec![generator.run(rows, classes.unwrap_or_default())?.to_vec()]
                }
            })
        };
        let parts: Vec<Vec<Vec<f32>>> = pieces.par_iter().map(run).collect::<Result<_>>()?;
        let mut all = vec![Vec::new(); self.graph.outputs.len()];
        for part in parts {
            all.iter_mut().zip(part).for_each(|(all, rows)| all.extend(rows));
        }
        Ok(all)
    }
}
