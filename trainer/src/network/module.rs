//! A layer list with values: the forward pass, and a backward pass of its own over the same list.

use std::sync::Arc;

use edgegen_runtime::random::{Purpose, Stream};
use rayon::prelude::*;

use super::{Init, Layer, Network, Shape};
use crate::nn::batch::Batch;
use crate::nn::batch_norm::{self, Statistics};
use crate::nn::buffers::Buffer;
use crate::nn::correlate;
use crate::nn::upsample;

/// Values of parameters that one task takes.
const PIECE: usize = 1 << 15;

/// A named tensor of a module.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// `PART.LAYER.NAME`, for example `decoder.3.weight`.
    pub name: String,
    /// All axes.
    pub shape: Vec<usize>,
    /// Row-major.
    pub value: Vec<f32>,
    /// False for running statistics.
    pub trained: bool,
}

/// A network with values.
#[derive(Clone, Debug)]
pub struct Module {
    network: Network,
    parameters: Vec<Parameter>,
    /// For each layer, where its parameters start.
    starts: Vec<usize>,
    shapes: Vec<Shape>,
}

/// What a backward pass needs of a forward pass.
pub struct Record {
    /// For each layer that ran, what entered it or left it, as its gradient needs.
    steps: Vec<Step>,
    classes: Option<Arc<[u32]>>,
}

enum Step {
    /// Input of a linear layer.
    Linear(Arc<Batch>),
    /// Input and statistics of a batch norm.
    Norm(Arc<Batch>, Statistics),
    /// Results of an activation.
    Activation(Arc<Batch>),
    /// The shape was this.
    Reshape(Shape),
    Class,
}

/// Rows (N, input…) with their classes (N), where a network takes them.
pub type ClassedRows = (Vec<f32>, Option<Arc<[u32]>>);

/// The gradients of a module's parameters, in their order; zero at first.
#[derive(Clone, Debug)]
pub struct Gradients {
    values: Vec<Vec<f32>>,
    trained: Vec<bool>,
}

impl Gradients {
    /// Zeros.
    pub fn of(module: &Module) -> Self {
        let values = module.parameters.iter().map(|p| vec![0.0; if p.trained { p.value.len() } else { 0 }]);
        Self { values: values.collect(), trained: module.parameters.iter().map(|p| p.trained).collect() }
    }

    /// Sets all to zero.
    pub fn clear(&mut self) {
        self.values.iter_mut().for_each(|values| values.fill(0.0));
    }

    /// Those of the trained parameters.
    pub fn trained(&self) -> impl Iterator<Item = &[f32]> {
        self.values
            .iter()
            .zip(&self.trained)
            .filter(|(_, trained)| **trained)
            .map(|(values, _)| values.as_slice())
    }

    /// Those of parameter number `index` of the module; empty if it is not trained.
    pub fn of_parameter(&mut self, index: usize) -> &mut [f32] {
        &mut self.values[index]
    }

    /// Σ of all squares, in a fixed order.
    pub fn squares(&self) -> f64 {
        let square = |value: &f32| f64::from(*value) * f64::from(*value);
        let pieces: Vec<&[f32]> = self.values.iter().flat_map(|values| values.chunks(PIECE)).collect();
        let sums: Vec<f64> = pieces.par_iter().map(|piece| piece.iter().map(square).sum()).collect();
        sums.iter().sum()
    }

    /// Multiplies all by `factor`.
    pub fn scale(&mut self, factor: f32) {
        self.values.iter_mut().flatten().for_each(|value| *value *= factor);
    }

    /// Scales all of `gradients` down so that their common norm is at most `bound` (0: none), and returns the
    /// norm that they had.
    pub fn clip(gradients: &mut [&mut Self], bound: f64) -> f64 {
        let norm = gradients.iter().map(|gradients| gradients.squares()).sum::<f64>().sqrt();
        if bound > 0.0 && norm > bound && norm.is_finite() {
            gradients.iter_mut().for_each(|gradients| gradients.scale((bound / norm) as f32));
        }
        norm
    }

    fn add(&mut self, parameter: usize, values: &[f32]) {
        self.values[parameter].iter_mut().zip(values).for_each(|(sum, value)| *sum += *value);
    }
}

/// The weights of the transposed convolution that a layer is, if it upsamples.
fn expanded(layer: &Layer, weight: &[f32]) -> Option<Vec<f32>> {
    let Layer::UpsampleConv { inputs, outputs, kernel } = *layer else { return None };
    Some(upsample::expand(weight, (outputs, inputs, kernel)))
}

/// The batch itself, copied if it is needed elsewhere.
fn owned(x: Arc<Batch>) -> Batch {
    Arc::try_unwrap(x).unwrap_or_else(|shared| (*shared).clone())
}

/// Runs a linear layer with (weight, bias) on a batch that fits; `shape` is what it makes.
pub(crate) fn linear(
    layer: &Layer,
    x: &Batch,
    (weight, bias): (&[f32], Option<&[f32]>),
    shape: Shape,
) -> Batch {
    let mut y = x.like(shape);
    let (geometry, role) = layer.geometry(x.shape).expect("a linear layer on a shape that fits");
    let expanded = expanded(layer, weight);
    let operands = (&*x.values, expanded.as_deref().unwrap_or(weight), bias);
    correlate::apply(&geometry, role, operands, &mut y.values);
    y
}

impl Module {
    /// First values from `seed`; parameter number p of the whole model draws stream `first + p`.
    ///
    /// # Errors
    /// A sentence, if the layers do not fit each other.
    pub fn new(network: Network, part: &str, seed: u64, first: u64) -> Result<Self, String> {
        let shapes = network.shapes()?;
        let (mut parameters, mut starts) = (Vec::new(), Vec::new());
        for index in 0..network.layers.len() {
            starts.push(parameters.len());
            for spec in network.parameters(index) {
                let mut stream = Stream::new(seed, Purpose::Weights, first + parameters.len() as u64);
                let count = spec.shape.iter().product();
                let value: Vec<f32> = (0..count)
                    .map(|_| match spec.init {
                        Init::Normal(deviation) => stream.normal() * deviation as f32,
                        Init::Uniform(bound) => (stream.uniform() * 2.0 - 1.0) * bound as f32,
                        Init::Constant(value) => value as f32,
                    })
                    .collect();
                let name = format!("{part}.{index}.{}", spec.name);
                parameters.push(Parameter { name, shape: spec.shape, value, trained: spec.trained });
            }
        }
        Ok(Self { network, parameters, starts, shapes })
    }

    /// The same network and values, as another part of a model.
    pub fn renamed(&self, part: &str) -> Self {
        let mut copy = self.clone();
        for parameter in &mut copy.parameters {
            let rest = parameter.name.split_once('.').map_or("", |(_, rest)| rest);
            parameter.name = format!("{part}.{rest}");
        }
        copy
    }

    /// Moves every value towards `other`'s, the same network's: value ← decay · value + (1 − decay) · other.
    pub fn follow(&mut self, other: &Self, decay: f64) {
        let (decay, rest) = (decay as f32, (1.0 - decay) as f32);
        for (own, other) in self.parameters.iter_mut().zip(&other.parameters) {
            own.value.par_chunks_mut(PIECE).zip(other.value.par_chunks(PIECE)).for_each(|(own, other)| {
                own.iter_mut().zip(other).for_each(|(own, other)| *own = decay * *own + rest * *other);
            });
        }
    }

    /// Sets every batch norm's running statistics to the means over `batches`, each normalised by its own:
    /// rows (N, input…) with classes (N) where the network takes them.
    pub fn estimate_statistics(&mut self, batches: &[ClassedRows]) {
        let running = |parameter: &&mut Parameter| !parameter.trained;
        let mut sums: Vec<Vec<f64>> = Vec::new();
        for (rows, classes) in batches {
            self.parameters.iter_mut().filter(running).for_each(|parameter| parameter.value.fill(0.0));
            let x = Batch::from_rows(rows, self.network.input);
            self.record(x, classes.clone());
            // one step from zero leaves the batch's share of what was found
            let found = self.parameters.iter().filter(|parameter| !parameter.trained);
            for (index, parameter) in found.enumerate() {
                if sums.len() <= index {
                    sums.push(vec![0.0; parameter.value.len()]);
                }
                let sums = sums[index].iter_mut().zip(&parameter.value);
                sums.for_each(|(sum, value)| *sum += f64::from(value / batch_norm::MOMENTUM));
            }
        }
        let count = batches.len().max(1) as f64;
        for (parameter, sums) in self.parameters.iter_mut().filter(running).zip(&sums) {
            parameter.value = sums.iter().map(|sum| (sum / count) as f32).collect();
        }
    }

    /// The description this was made from.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// All named tensors, in layer order.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The same, to be changed; lengths must stay.
    pub fn parameters_mut(&mut self) -> &mut [Parameter] {
        &mut self.parameters
    }

    /// Values of the trained tensors.
    pub fn trained_mut(&mut self) -> impl Iterator<Item = &mut Vec<f32>> {
        self.parameters.iter_mut().filter(|parameter| parameter.trained).map(|parameter| &mut parameter.value)
    }

    /// The tensors of layer `index`, in the order of [`Network::parameters`].
    pub fn layer_parameters(&self, index: usize) -> &[Parameter] {
        let end = self.starts.get(index + 1).copied().unwrap_or(self.parameters.len());
        &self.parameters[self.starts[index]..end]
    }

    /// The same, to be changed; lengths must stay.
    pub fn layer_parameters_mut(&mut self, index: usize) -> &mut [Parameter] {
        let end = self.starts.get(index + 1).copied().unwrap_or(self.parameters.len());
        &mut self.parameters[self.starts[index]..end]
    }

    fn value(&self, layer: usize, slot: usize) -> Option<&[f32]> {
        self.layer_parameters(layer).get(slot).map(|parameter| parameter.value.as_slice())
    }

    /// Layers without a last activation: what enters the final sigmoid or tanh.
    fn without_last_activation(&self) -> usize {
        let count = self.network.layers.len();
        count - usize::from(matches!(self.network.layers.last(), Some(Layer::Activation(_))))
    }

    /// Runs all layers by running statistics: rows (N, input…) → rows (N, output…); `classes` (N) where the
    /// network takes them.
    pub fn infer(&self, rows: &[f32], classes: Option<&[u32]>) -> Vec<f32> {
        self.infer_layers(rows, classes, self.network.layers.len())
    }

    /// As [`Self::infer`], but for a last activation.
    pub fn infer_logits(&self, rows: &[f32], classes: Option<&[u32]>) -> Vec<f32> {
        self.infer_layers(rows, classes, self.without_last_activation())
    }

    /// As [`Self::infer`], but for all layers behind the first `count`.
    pub fn infer_layers(&self, rows: &[f32], classes: Option<&[u32]>, count: usize) -> Vec<f32> {
        let mut x = Arc::new(Batch::from_rows(rows, self.network.input));
        for index in 0..count {
            let statistics = matches!(self.network.layers[index], Layer::BatchNorm { .. }).then(|| {
                let running = |slot| self.value(index, slot).unwrap_or_default().to_vec();
                Statistics { mean: running(2), variance: running(3) }
            });
            x = self.layer(index, x, statistics.as_ref(), classes);
        }
        x.to_rows()
    }

    /// Runs all layers by the batch's own statistics, moves the running ones, and keeps what
    /// [`Self::backward`] needs.
    pub fn record(&mut self, x: Batch, classes: Option<Arc<[u32]>>) -> (Arc<Batch>, Record) {
        self.record_layers(x, classes, self.network.layers.len(), None)
    }

    /// As [`Self::record`], but for a last activation.
    pub fn record_logits(&mut self, x: Batch, classes: Option<Arc<[u32]>>) -> (Arc<Batch>, Record) {
        self.record_layers(x, classes, self.without_last_activation(), None)
    }

    /// As [`Self::record`] with every (leaky) ReLU on the side of its kink on which it was in the pass `base` of as many
    /// pictures: the function that `base` is differentiated as, continued to other pictures without its kinks.
    pub fn record_along(&mut self, x: Batch, base: &Record) -> (Arc<Batch>, Record) {
        self.record_layers(x, base.classes.clone(), base.steps.len(), Some(base))
    }

    fn record_layers(
        &mut self,
        x: Batch,
        classes: Option<Arc<[u32]>>,
        count: usize,
        base: Option<&Record>,
    ) -> (Arc<Batch>, Record) {
        let mut x = Arc::new(x);
        let mut steps = Vec::with_capacity(count);
        for index in 0..count {
            let layer = self.network.layers[index];
            if let (Layer::Activation(activation), Some(Step::Activation(results))) =
                (layer, base.map(|base| &base.steps[index]))
                && activation.has_kink()
            {
                // the slopes that a gradient is multiplied by are those that values are
                let mut values = owned(x);
                activation.backward(&results.values, &mut values.values);
                x = values.into();
                steps.push(Step::Activation(results.clone()));
                continue;
            }
            let statistics = matches!(layer, Layer::BatchNorm { .. }).then(|| Statistics::of(&x));
            let input = match layer {
                // works in place: what entered is not kept
                Layer::Activation(_) | Layer::Reshape(_) | Layer::ClassEmbedding { .. } => None,
                _ => Some(x.clone()),
            };
            let shape = x.shape;
            x = self.layer(index, x, statistics.as_ref(), classes.as_deref());
            steps.push(match (layer, input, statistics) {
                (Layer::BatchNorm { .. }, Some(input), Some(statistics)) => {
                    let [mean, variance] = [2, 3].map(|slot| self.starts[index] + slot);
                    let (before, from) = self.parameters.split_at_mut(variance);
                    statistics.follow(&input, &mut before[mean].value, &mut from[0].value);
                    Step::Norm(input, statistics)
                }
                (Layer::Activation(_), ..) => Step::Activation(x.clone()),
                (Layer::Reshape(_), ..) => Step::Reshape(shape),
                (Layer::ClassEmbedding { .. } | Layer::ClassProjection { .. }, ..) => Step::Class,
                (_, Some(input), _) => Step::Linear(input),
                (_, None, _) => unreachable!("a linear layer's input is kept"),
            });
        }
        (x, Record { steps, classes })
    }

    /// One layer's forward pass. A batch norm normalises by `statistics`.
    fn layer(
        &self,
        index: usize,
        x: Arc<Batch>,
        statistics: Option<&Statistics>,
        classes: Option<&[u32]>,
    ) -> Arc<Batch> {
        let out = self.shapes[index + 1];
        match self.network.layers[index] {
            Layer::BatchNorm { .. } => {
                let (scale, shift) = (self.value(index, 0), self.value(index, 1));
                let statistics = statistics.expect("a batch norm is run with statistics");
                batch_norm::normalize(&x, statistics, scale.unwrap_or_default(), shift.unwrap_or_default())
                    .into()
            }
            Layer::Activation(activation) => {
                let mut x = owned(x);
                activation.apply(&mut x.values);
                x.into()
            }
            Layer::Reshape(shape) => Batch { shape, ..owned(x) }.into(),
            Layer::ClassEmbedding { .. } => {
                let (table, classes) =
                    (self.value(index, 0).unwrap_or_default(), classes.unwrap_or_default());
                let mut x = owned(x);
                x.add_rows(table, classes);
                x.into()
            }
            Layer::ClassProjection { .. } => {
                let rows = x.to_rows();
                let rows = rows.chunks(x.shape.values()).zip(classes.unwrap_or_default());
                let sums: Vec<f32> = rows.map(|(row, class)| row[0] + row[1 + *class as usize]).collect();
                Batch::from_rows(&sums, out).into()
            }
            layer => {
                let weight = self.value(index, 0).unwrap_or_default();
                linear(&layer, &x, (weight, self.value(index, 1)), out).into()
            }
        }
    }

    /// The weights of the transposed convolution that layer `index` is, if it upsamples.
    fn expanded(&self, index: usize) -> Option<Vec<f32>> {
        expanded(&self.network.layers[index], self.value(index, 0)?)
    }

    /// From the gradient of a recorded pass's results to those of the parameters, which are added to
    /// `gradients` (if given), and to that of the input (if `input` is set).
    pub fn backward(
        &self,
        record: &Record,
        gradient: Batch,
        mut gradients: Option<&mut Gradients>,
        input: bool,
    ) -> Option<Batch> {
        let mut gradient = gradient;
        let last_needed = if input { 0 } else { self.first_trained() };
        for (index, step) in record.steps.iter().enumerate().rev() {
            let start = self.starts[index];
            match step {
                Step::Activation(results) => {
                    let Layer::Activation(activation) = self.network.layers[index] else { continue };
                    activation.backward(&results.values, &mut gradient.values);
                }
                Step::Reshape(shape) => gradient.shape = *shape,
                Step::Norm(x, statistics) => {
                    let scale = self.value(index, 0).unwrap_or_default();
                    let (of_scale, of_shift) = batch_norm::backward(x, statistics, scale, &mut gradient);
                    if let Some(gradients) = gradients.as_deref_mut() {
                        gradients.add(start, &of_scale);
                        gradients.add(start + 1, &of_shift);
                    }
                }
                Step::Class => {
                    gradient = self.class_backward(index, record, gradient, gradients.as_deref_mut())
                }
                Step::Linear(x) => {
                    if let Some(gradients) = gradients.as_deref_mut() {
                        self.linear_gradients(index, x, &gradient, gradients);
                    }
                    if index == last_needed && !input {
                        return None;
                    }
                    let (geometry, role) =
                        self.network.layers[index].geometry(x.shape).expect("a linear layer");
                    let mut before = x.like(x.shape);
                    let expanded = self.expanded(index);
                    let weights = expanded.as_deref().or(self.value(index, 0)).unwrap_or_default();
                    let operands = (&*gradient.values, weights, None);
                    correlate::apply(&geometry, role.transposed(), operands, &mut before.values);
                    gradient = before;
                }
            }
        }
        input.then_some(gradient)
    }

    /// The first layer that has something to train.
    fn first_trained(&self) -> usize {
        (0..self.network.layers.len()).find(|index| !self.layer_parameters(*index).is_empty()).unwrap_or(0)
    }

    fn linear_gradients(&self, index: usize, x: &Batch, gradient: &Batch, gradients: &mut Gradients) {
        use crate::nn::geometry::Role;
        let layer = self.network.layers[index];
        let start = self.starts[index];
        let (geometry, role) = layer.geometry(x.shape).expect("a linear layer");
        let (fine, coarse) = match role {
            Role::Coarse => (x, gradient),
            Role::Fine => (gradient, x),
        };
        if let Layer::UpsampleConv { inputs, outputs, kernel } = layer {
            let mut expanded = Buffer::any(geometry.weights_len());
            correlate::weight_gradient(&geometry, &fine.values, &coarse.values, &mut expanded, false);
            gradients.add(start, &upsample::collect(&expanded, (outputs, inputs, kernel)));
        } else {
            correlate::weight_gradient(
                &geometry,
                &fine.values,
                &coarse.values,
                &mut gradients.values[start],
                true,
            );
        }
        if self.value(index, 1).is_some() {
            gradients.add(start + 1, &batch_norm::channel_sums(gradient));
        }
    }

    fn class_backward(
        &self,
        index: usize,
        record: &Record,
        gradient: Batch,
        gradients: Option<&mut Gradients>,
    ) -> Batch {
        let classes = record.classes.as_deref().unwrap_or_default();
        let rows = gradient.to_rows();
        match self.network.layers[index] {
            Layer::ClassEmbedding { features, .. } => {
                if let Some(gradients) = gradients {
                    let table = &mut gradients.values[self.starts[index]];
                    for (row, class) in rows.chunks(features).zip(classes) {
                        let sums = &mut table[*class as usize * features..][..features];
                        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += *value);
                    }
                }
                gradient
            }
            _ => {
                let width = self.shapes[index].values();
                let mut before = vec![0f32; rows.len() * width];
                for ((before, value), class) in before.chunks_mut(width).zip(&rows).zip(classes) {
                    before[0] = *value;
                    before[1 + *class as usize] = *value;
                }
                Batch::from_rows(&before, self.shapes[index])
            }
        }
    }
}
