//! A network in float32 → the same network in integers of 8 bits.
//!
//! The way of a network: the form of convolutions ([`crate::graph::prepare`]) → which tensors and layers become
//! integers (`plan`) → ranges of its tensors on calibration inputs ([`calibrate`]) → channels brought to like ranges
//! (`equalize`) → weights rounded layer by layer, each on the inputs that the rounded layers before it make
//! (`layer`) → if that is not enough, trained on as it is rounded (`tune`) → an ONNX file ([`write`]) and a report
//! ([`report`]).
//!
//! Activations are uint8 with a zero point, weights int8 with a scale for each output channel and no zero point,
//! biases int32. Inputs and outputs of the file stay float32; weights of layers that stay in float32 are stored in
//! float16.

pub mod calibrate;
mod equalize;
mod layer;
mod plan;
pub mod report;
mod simulate;
mod tune;
pub mod write;

use half::f16;
use nalgebra::DMatrix;
use serde::{Deserialize, Serialize};

use calibrate::Histogram;
pub use calibrate::{Calibrator, Encoding};
use layer::{IntegerLayer, Matrix, Places};
use plan::Plan;
use simulate::{Simulation, Values};

pub use simulate::Inputs;

use crate::compute::candle::Candle;
use crate::compute::network::run;
use crate::compute::{Hooks, Lanes};
use crate::evaluate::quality::Measure;
use crate::graph::prepare::Form;
use crate::graph::{Graph, Node, Op, Shape, ValueId};
use crate::{Error, Result};

/// Places of a layer that reconstruction looks at, for each column of its weights; and at least, at most.
const PLACES_PER_COLUMN: usize = 8;
const FEWEST_PLACES: usize = 2048;
const MOST_PLACES: usize = 8192;
/// Most columns of a layer that is reconstructed: it takes squares of them in memory, and cubes in time.
const MOST_COLUMNS: usize = 4096;
/// Inputs that choices are compared on.
const TRIAL_ROWS: usize = 128;
/// Exponents of equalisation that are tried.
const ALPHAS: [f32; 3] = [0.3, 0.5, 0.7];

/// How a file holds integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// QLinearConv: integers from the first layer to the last, in any runtime.
    Qlinear,
    /// QuantizeLinear and DequantizeLinear around float operators, which a runtime fuses if it can.
    Qdq,
}

/// How weights are rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rounding {
    /// To the nearest level.
    Nearest,
    /// Such that each layer's sums are kept.
    Reconstruct,
}

/// Everything that can be chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// How ranges are chosen.
    pub calibrator: Calibrator,
    /// One scale for all weights of a layer instead of one for each output channel.
    pub per_tensor: bool,
    /// Try cross-layer equalisation, and keep it if it pays.
    pub equalize: bool,
    /// Give each output channel the mean that it has in float32.
    pub correct_bias: bool,
    /// How weights are rounded.
    pub rounding: Rounding,
    /// Layers that stay in float32, by name.
    pub keep_float: Vec<String>,
    /// Refuse networks with operators that have no form in integers, instead of keeping those in float32.
    pub refuse_unknown: bool,
    /// Steps of fine-tuning on the rounded network.
    pub tune: usize,
    /// How the file holds integers.
    pub format: Format,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            calibrator: Calibrator::Mse,
            per_tensor: false,
            equalize: true,
            correct_bias: true,
            rounding: Rounding::Reconstruct,
            keep_float: Vec::new(),
            refuse_unknown: true,
            tune: 0,
            format: Format::Qlinear,
        }
    }
}

/// A network in integers.
pub struct Quantized {
    /// Weights in float32, in the form and with the channels' ranges that were rounded.
    exact: Graph,
    /// The same graph with weights as they come back from integers.
    graph: Graph,
    plan: Plan,
    /// For each tensor.
    encodings: Vec<Option<Encoding>>,
    histograms: Vec<Option<Histogram>>,
    /// For each node.
    layers: Vec<Option<IntegerLayer>>,
    settings: Settings,
    /// The exponent of the equalisation that paid.
    equalized: Option<f32>,
    /// Whether what stays in float32 is stored in float16.
    half: bool,
}

impl Quantized {
    /// Operators without a form in integers, which stay in float32.
    pub fn foreign(&self) -> &[String] {
        &self.plan.foreign
    }

    /// The exponent of the cross-layer equalisation, if one paid.
    pub fn equalized(&self) -> Option<f32> {
        self.equalized
    }

    /// The graph that files of the integer network are compared with: the same in float32.
    pub fn exact(&self) -> &Graph {
        &self.exact
    }

    fn simulation(&self) -> Simulation<'_> {
        Simulation { graph: &self.graph, plan: &self.plan, encodings: &self.encodings }
    }

    /// What a simulation of the integer network puts out.
    ///
    /// # Errors
    /// [`Error::Export`] if an operator of another maker cannot be run.
    pub fn simulate(&self, inputs: &Inputs) -> Result<Vec<Vec<f32>>> {
        self.simulation().run(inputs, |_, _| ())
    }
}

/// Quantises a network; fine-tuning runs on `device` (`None`: the CPU); `tell` hears what is being done.
///
/// # Errors
/// [`Error::Export`] for weights that are not finite, operators that are refused, or calibration inputs that do not
/// fit; [`Error::Config`] for settings that name what is not there.
pub fn quantize(
    graph: &Graph,
    calibration: &Inputs,
    measure: Measure,
    settings: &Settings,
    device: Option<&Candle>,
    tell: &dyn Fn(&str),
) -> Result<Quantized> {
    graph.check_finite()?;
    check_inputs(graph, calibration)?;
    if let Calibrator::Percentile(kept) = settings.calibrator
        && !(kept > 50.0 && kept <= 100.0)
    {
        return Err(Error::Config(format!("a percentile of {kept}: give more than 50, at most 100")));
    }
    let mut exact = graph.clone().prepare(Form::Convolution)?;
    // a batch norm of another maker may have a variance that cannot be folded
    exact.check_finite()?;
    let plan = Plan::new(&exact, settings)?;
    let without_gradient = exact.nodes.iter().find(|node| matches!(node.op, Op::Foreign(_)));
    if let (Some(node), true) = (without_gradient, settings.tune > 0) {
        let label = node.label();
        return Err(Error::Export(format!("{label} has no gradient here; leave --qat out for this network")));
    }
    let trial = calibration.first(TRIAL_ROWS);
    let mut equalized = None;
    if settings.equalize {
        tell("equalise");
        (exact, equalized) = equalised(exact, &plan, &trial, measure, settings)?;
    }
    tell("calibrate");
    let histograms = histograms(&exact, &plan, calibration)?;
    let encodings = encodings(&exact, &plan, &histograms, settings.calibrator);
    let mut graph = exact.clone();
    let half = halve(&mut graph, &plan);
    let mut quantized = Quantized {
        graph,
        layers: vec![None; exact.nodes.len()],
        exact,
        plan,
        encodings,
        histograms,
        settings: settings.clone(),
        equalized,
        half,
    };
    quantized.round_layers(calibration, tell)?;
    if settings.tune > 0 {
        match device {
            None => quantized.tune(&Lanes, calibration, (&trial, measure), tell)?,
            Some(device) => quantized.tune(device, calibration, (&trial, measure), tell)?,
        }
    }
    Ok(quantized)
}

/// Rounds the weights of what stays in float32 to float16, in which the file stores them; returns false, and leaves them
/// as they are, if one is too large for it.
fn halve(graph: &mut Graph, plan: &Plan) -> bool {
    let half = |weight: f32| f16::from_f32(weight).to_f32();
    let nodes = graph.nodes.iter_mut().zip(&plan.quantized);
    let mut kept: Vec<&mut Node> =
        nodes.filter(|(node, quantized)| node.op.is_linear() && !**quantized).map(|(node, _)| node).collect();
    let fits = kept.iter().all(|node| node.weight().iter().all(|weight| half(*weight).is_finite()));
    if fits {
        let weights = kept.iter_mut().flat_map(|node| node.weight_mut());
        weights.for_each(|weight| *weight = half(*weight));
    }
    fits
}

fn check_inputs(graph: &Graph, inputs: &Inputs) -> Result<()> {
    let shape = graph.values[graph.input].shape;
    if inputs.count == 0 || inputs.rows.is_empty() {
        return Err(Error::Export("the calibration set is empty; give at least one input".into()));
    }
    if inputs.rows.len() != inputs.count * shape.values() {
        return Err(Error::Export(format!(
            "the calibration set holds {} values for {} inputs; the network takes {shape} each",
            inputs.rows.len(),
            inputs.count
        )));
    }
    if let Some(value) = inputs.rows.iter().find(|value| !value.is_finite()) {
        return Err(Error::Export(format!("the calibration set holds {value}")));
    }
    let classes = graph.classes() as u32;
    let told = inputs.classes.as_ref();
    let fits = |told: &Vec<u32>| told.len() == inputs.count && told.iter().all(|class| *class < classes);
    if classes > 0 && !told.is_some_and(fits) {
        return Err(Error::Export(format!(
            "the calibration set must give one of {classes} classes for each input"
        )));
    }
    Ok(())
}

/// The graph with the equalisation that is best on `trial`, rounded to the nearest; or without, if none pays.
fn equalised(
    graph: Graph,
    plan: &Plan,
    trial: &Inputs,
    measure: Measure,
    settings: &Settings,
) -> Result<(Graph, Option<f32>)> {
    let pairs = equalize::pairs(&graph, plan);
    if pairs.is_empty() {
        return Ok((graph, None));
    }
    let mut ranges: Vec<Vec<f32>> = pairs.iter().map(|pair| vec![0f32; pair.channels()]).collect();
    let nothing = vec![None; plan.tensors.len()];
    let float = Simulation { graph: &graph, plan, encodings: &nothing };
    let expected = float.run(trial, |id, batch| {
        for (pair, ranges) in pairs.iter().zip(&mut ranges).filter(|(pair, _)| pair.value() == id) {
            let per_channel = batch.shape.values() / pair.channels();
            for row in batch.to_rows().chunks(batch.shape.values()) {
                for (range, values) in ranges.iter_mut().zip(row.chunks(per_channel)) {
                    *range = values.iter().fold(*range, |range, value| range.max(value.abs()));
                }
            }
        }
    })?;
    let score = |candidate: &Graph| -> Result<f64> {
        let histograms = histograms(candidate, plan, trial)?;
        let encodings = encodings(candidate, plan, &histograms, settings.calibrator);
        let mut rounded = candidate.clone();
        for index in plan.layers() {
            let matrix = matrix(candidate, plan, &encodings, index);
            let input = input_scale(candidate, plan, &encodings, index);
            let scales = matrix.scales(input, settings.per_tensor);
            let weight = matrix.nearest(&scales);
            let bias = layer::integer_bias(&matrix.bias, input, &scales);
            put(&mut rounded, plan, &encodings, index, &IntegerLayer { weight, scales, bias });
        }
        let simulation = Simulation { graph: &rounded, plan, encodings: &encodings };
        Ok(measure.score(&expected, &simulation.run(trial, |_, _| ())?))
    };
    let mut best = (score(&graph)?, None, None);
    for alpha in ALPHAS {
        let mut candidate = graph.clone();
        for (pair, ranges) in pairs.iter().zip(&ranges) {
            // scaling the pairs before leaves these ranges as they are
            pair.apply(&mut candidate, ranges, alpha);
        }
        let score = score(&candidate)?;
        if score > best.0 {
            best = (score, Some(candidate), Some(alpha));
        }
    }
    Ok((best.1.unwrap_or(graph), best.2))
}

/// What each tensor that is needed in uint8 holds on `inputs`, in float32.
fn histograms(graph: &Graph, plan: &Plan, inputs: &Inputs) -> Result<Vec<Option<Histogram>>> {
    let nothing = vec![None; plan.tensors.len()];
    let float = Simulation { graph, plan, encodings: &nothing };
    let mut watched = vec![None; graph.values.len()];
    for (index, tensor) in plan.tensors.iter().enumerate().filter(|(_, tensor)| tensor.encoded) {
        watched[tensor.settled()] = Some(index);
        // what else leaves the tensor: one crop of several, or a value before it is moved
        for value in tensor.values.iter().filter(|value| tensor.holds(**value)) {
            let leaves = |reader: usize| plan.tensor[graph.nodes[reader].output] != index;
            if graph.readers(*value).any(leaves) || graph.outputs.contains(value) {
                watched[*value] = Some(index);
            }
        }
    }
    let mut ends = vec![(f32::INFINITY, f32::NEG_INFINITY); plan.tensors.len()];
    float.run(inputs, |id, batch| {
        if let Some(tensor) = watched[id] {
            let (low, high) = &mut ends[tensor];
            for value in batch.to_rows() {
                // `min` and `max` would hide what is no number
                let shown = if value.is_nan() { f32::INFINITY } else { value };
                (*low, *high) = (low.min(value), high.max(shown));
            }
        }
    })?;
    let mut found: Vec<Option<Histogram>> = plan
        .tensors
        .iter()
        .zip(&ends)
        .map(|(tensor, (low, high))| tensor.encoded.then(|| Histogram::new(*low, *high)))
        .collect();
    float.run(inputs, |id, batch| {
        if let Some(histogram) = watched[id].and_then(|tensor| found[tensor].as_mut()) {
            histogram.add(&batch.to_rows());
        }
    })?;
    for (tensor, histogram) in plan.tensors.iter().zip(&found) {
        let infinite =
            histogram.as_ref().is_some_and(|found| !(found.low.is_finite() && found.high.is_finite()));
        if infinite {
            let name = &graph.values[tensor.settled()].name;
            return Err(Error::Export(format!("{name} is not finite on the calibration set")));
        }
    }
    Ok(found)
}

fn encodings(
    graph: &Graph,
    plan: &Plan,
    histograms: &[Option<Histogram>],
    calibrator: Calibrator,
) -> Vec<Option<Encoding>> {
    let picture = matches!(graph.values[graph.input].shape, Shape::Image(1 | 3, ..));
    let choose = |(index, histogram): (usize, &Option<Histogram>)| {
        let histogram = histogram.as_ref()?;
        let tensor = &plan.tensors[index];
        if index == plan.tensor[graph.input] && picture && histogram.low >= 0.0 && histogram.high <= 1.0 {
            // pictures are levels of 1/255 already: nothing is lost
            return Some(Encoding::of_range(0.0, 1.0));
        }
        Some(histogram.encoding(calibrator, tensor.enters))
    };
    histograms.iter().enumerate().map(choose).collect()
}

/// A layer's weights with the class's columns, as they are in `graph`.
fn matrix(graph: &Graph, plan: &Plan, encodings: &[Option<Encoding>], index: usize) -> Matrix {
    let linear = &graph.nodes[index];
    let outputs = linear.op.outputs();
    let bias = linear.bias().to_vec();
    let Some(row) = plan.row_of(graph, index).map(|row| &graph.nodes[row]) else {
        return Matrix { outputs, weight: linear.weight().to_vec(), bias };
    };
    let (classes, table) = (row.op.classes(), row.weight());
    let unit = class_unit(graph, plan, encodings, index);
    let columns = linear.weight().len() / outputs;
    let mut weight = Vec::with_capacity(linear.weight().len() + table.len());
    for (output, row) in linear.weight().chunks(columns).enumerate() {
        weight.extend_from_slice(row);
        weight.extend((0..classes).map(|class| table[class * outputs + output] / unit));
    }
    Matrix { outputs, weight, bias }
}

/// Distance of two levels of what layer `index` reads.
fn input_scale(graph: &Graph, plan: &Plan, encodings: &[Option<Encoding>], index: usize) -> f32 {
    encodings[plan.read_by(graph, index)].map_or(1.0, |encoding| encoding.scale)
}

/// What the level "this class" stands for in the tensor that layer `index` reads.
fn class_unit(graph: &Graph, plan: &Plan, encodings: &[Option<Encoding>], index: usize) -> f32 {
    let encoding = encodings[plan.read_by(graph, index)];
    encoding.map_or(1.0, |encoding| {
        encoding.scale * (f32::from(class_level(encoding)) - f32::from(encoding.zero_point))
    })
}

/// The level that says "this class" to the layer that reads it, as far as can be from the zero point, which says "not
/// this".
fn class_level(encoding: Encoding) -> u8 {
    if encoding.zero_point > 127 { 0 } else { 255 }
}

/// Gives a graph's layer the values that come back from integers.
fn put(graph: &mut Graph, plan: &Plan, encodings: &[Option<Encoding>], index: usize, layer: &IntegerLayer) {
    let input = input_scale(graph, plan, encodings, index);
    let unit = class_unit(graph, plan, encodings, index);
    let scale = |output: usize| layer.scales[output.min(layer.scales.len() - 1)];
    let row = plan.row_of(graph, index);
    let linear = &mut graph.nodes[index];
    let outputs = linear.op.outputs();
    let (all, own) = (layer.weight.len() / outputs, linear.weight().len() / outputs);
    for (output, levels) in layer.weight.chunks(all).enumerate() {
        let weights = &mut linear.weight_mut()[output * own..][..own];
        weights
            .iter_mut()
            .zip(levels)
            .for_each(|(weight, level)| *weight = f32::from(*level) * scale(output));
        linear.bias_mut()[output] =
            (f64::from(layer.bias[output]) * f64::from(input) * f64::from(scale(output))) as f32;
    }
    if let Some(row) = row.map(|row| &mut graph.nodes[row]) {
        let classes = row.op.classes();
        let table = row.weight_mut();
        for class in 0..classes {
            for output in 0..outputs {
                let level = layer.weight[output * all + own + class];
                table[class * outputs + output] = f32::from(level) * scale(output) * unit;
            }
        }
    }
}

impl Quantized {
    /// Rounds one layer after the other.
    fn round_layers(&mut self, calibration: &Inputs, tell: &dyn Fn(&str)) -> Result<()> {
        for index in self.plan.layers().collect::<Vec<_>>() {
            tell(&format!("round {}", self.exact.nodes[index].name));
            let matrix = matrix(&self.exact, &self.plan, &self.encodings, index);
            let input = input_scale(&self.exact, &self.plan, &self.encodings, index);
            let scales = matrix.scales(input, self.settings.per_tensor);
            let rounding = match self.settings.rounding {
                Rounding::Reconstruct if matrix.columns() > MOST_COLUMNS => {
                    tell(&format!(
                        "{} is rounded to the nearest: it has too many inputs",
                        self.exact.nodes[index].name
                    ));
                    Rounding::Nearest
                }
                rounding => rounding,
            };
            let (weight, bias) = match rounding {
                Rounding::Nearest => (matrix.nearest(&scales), matrix.bias.clone()),
                Rounding::Reconstruct => {
                    let made = self.encodings[self.plan.made_by(&self.exact, index)];
                    let held = made.map_or((f32::MIN, f32::MAX), Encoding::range);
                    let places = Places {
                        exact: self.places(
                            &self.exact,
                            &vec![None; self.encodings.len()],
                            index,
                            calibration,
                        )?,
                        found: self.places(&self.graph, &self.encodings, index, calibration)?,
                    };
                    let (weight, moved) = layer::reconstruct(&matrix, &scales, places, held)?;
                    (weight, if self.settings.correct_bias { moved } else { matrix.bias.clone() })
                }
            };
            let integer_bias = layer::integer_bias(&bias, input, &scales);
            let mut layer = IntegerLayer { weight, scales, bias: integer_bias };
            put(&mut self.graph, &self.plan, &self.encodings, index, &layer);
            if self.settings.correct_bias && rounding == Rounding::Nearest {
                let exact = self.means(&self.exact, false, index, calibration)?;
                let found = self.means(&self.graph, true, index, calibration)?;
                let moved: Vec<f32> = bias
                    .iter()
                    .zip(exact.iter().zip(&found))
                    .map(|(bias, (exact, found))| bias + (exact - found) as f32)
                    .collect();
                layer.bias = layer::integer_bias(&moved, input, &layer.scales);
                put(&mut self.graph, &self.plan, &self.encodings, index, &layer);
            }
            self.layers[index] = Some(layer);
        }
        Ok(())
    }

    /// The mean of each output channel of layer `index` in `graph`, whose numbers are rounded before it or not.
    fn means(&self, graph: &Graph, rounded: bool, index: usize, inputs: &Inputs) -> Result<Vec<f64>> {
        let output = graph.nodes[index].output;
        let shape = graph.values[output].shape;
        let per_channel = shape.values() / shape.channels();
        let mut sums = vec![0f64; shape.channels()];
        let until = graph.until(index, output);
        let simulation = Simulation { graph: &until, plan: &self.plan, encodings: &self.encodings };
        for (rows, classes) in inputs.batches() {
            let simulation = rounded.then_some(&simulation);
            let (outputs, _) = run(&until, rows, classes, false, &mut Before { simulation, output })?;
            for row in outputs[0].to_rows().chunks(shape.values()) {
                for (sum, values) in sums.iter_mut().zip(row.chunks(per_channel)) {
                    *sum += values.iter().map(|value| f64::from(*value)).sum::<f64>();
                }
            }
        }
        let count = (inputs.count * per_channel) as f64;
        Ok(sums.iter().map(|sum| sum / count).collect())
    }

    /// What enters layer `index` of `graph` at some places, evenly spread: (columns, places).
    fn places(
        &self,
        graph: &Graph,
        encodings: &[Option<Encoding>],
        index: usize,
        inputs: &Inputs,
    ) -> Result<DMatrix<f32>> {
        let node = &graph.nodes[index];
        let input = node.inputs[0];
        let (channels, height, width) = graph.values[input].shape.image();
        let geometry = node.op.geometry(graph.values[input].shape);
        let (kernel, stride, (top, left)) =
            geometry.map_or((1, 1, (0, 0)), |(g, _)| (g.kernel, g.stride, g.padding));
        let classes = self.plan.row_of(graph, index).map_or(0, |row| graph.nodes[row].op.classes());
        let unit = class_unit(graph, &self.plan, &self.encodings, index);
        let columns = node.weight().len() / node.op.outputs() + classes;
        let (_, out_height, out_width) = graph.values[node.output].shape.image();
        let area = out_height * out_width;
        let wanted = (PLACES_PER_COLUMN * columns).clamp(FEWEST_PLACES, MOST_PLACES);
        let mut step = (inputs.count * area / wanted).max(1);
        while step > 1 && !coprime(step, area) {
            step += 1;
        }
        let mut values: Vec<f32> = Vec::new();
        let (mut first, mut next) = (0, 0);
        let until = graph.until(index, input);
        let simulation = Simulation { graph: &until, plan: &self.plan, encodings };
        let told = inputs.classes.as_deref();
        simulation.run(inputs, |id, batch| {
            if id != input {
                return;
            }
            for (row, picture) in batch.to_rows().chunks(batch.shape.values()).enumerate() {
                let row = first + row;
                while next < (row + 1) * area {
                    let (y, x) = (next % area / out_width, next % out_width);
                    for channel in 0..channels {
                        for a in 0..kernel {
                            for b in 0..kernel {
                                let (y, x) = (y * stride + a, x * stride + b);
                                let inside =
                                    (top..height + top).contains(&y) && (left..width + left).contains(&x);
                                values.push(match inside {
                                    true => picture[(channel * height + y - top) * width + x - left],
                                    false => 0.0,
                                });
                            }
                        }
                    }
                    let class = told.map(|told| told[row] as usize);
                    values.extend((0..classes).map(|index| if class == Some(index) { unit } else { 0.0 }));
                    next += step;
                }
            }
            first += batch.count;
        })?;
        let count = values.len() / columns;
        Ok(DMatrix::from_vec(columns, count, values))
    }
}

/// Rounds values, if at all, but for one.
struct Before<'a> {
    simulation: Option<&'a Simulation<'a>>,
    output: ValueId,
}

impl Hooks<Lanes> for Before<'_> {
    fn made(&mut self, id: ValueId, x: Values) -> Result<Values> {
        match self.simulation.filter(|_| id != self.output) {
            Some(simulation) => simulation.round(&Lanes, id, x),
            None => Ok(x),
        }
    }
}

fn coprime(a: usize, b: usize) -> bool {
    let (mut a, mut b) = (a, b);
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a == 1
}

impl Graph {
    /// The nodes before `index`, and itself if it makes `value`, which is the only output.
    fn until(&self, index: usize, value: ValueId) -> Self {
        let end = if self.nodes[index].output == value { index + 1 } else { index };
        Self {
            name: self.name.clone(),
            values: self.values.clone(),
            nodes: self.nodes[..end].to_vec(),
            input: self.input,
            class_input: self.class_input.clone(),
            outputs: vec![value],
            metadata: self.metadata.clone(),
            any_size: self.any_size,
            opset: self.opset,
        }
    }
}
