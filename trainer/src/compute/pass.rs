//! The forward and the backward pass over a graph.

use super::Backend;
use super::axis::Axis;
use super::network::Instead;
use crate::graph::geometry::{Geometry, Role};
use crate::graph::{Graph, Node, Op, Over, Parameter, Shape, Shuffle, ValueId};
use crate::{Error, Result};

/// Which statistics a batch norm works with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistics {
    /// The batch's own.
    Batch,
    /// The running ones.
    Running,
}

/// What a backward pass needs of a forward pass.
pub struct Pass<B: Backend> {
    saved: Vec<Saved<B>>,
    classes: Option<Vec<u32>>,
    count: usize,
}

enum Saved<B: Backend> {
    /// The node did not run.
    Skipped,
    /// Nothing but that it ran.
    Ran,
    /// What entered, or what left.
    One(B::Tensor),
    /// What entered, both; or what entered and what left.
    Two(B::Tensor, B::Tensor),
    /// What entered a norm.
    Norm(B::Tensor, B::Moments),
}

impl<B: Backend> Pass<B> {
    /// Rows of the batch.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Their classes.
    pub(super) fn classes(&self) -> Option<&[u32]> {
        self.classes.as_deref()
    }

    /// The moments of each batch norm that ran by those of its batch, by node.
    pub(super) fn moments(&self) -> impl Iterator<Item = (usize, &B::Moments)> {
        self.saved.iter().enumerate().filter_map(|(index, saved)| match saved {
            Saved::Norm(_, moments) => Some((index, moments)),
            _ => None,
        })
    }
}

/// The gradients of a graph's trained parameters, zero at first; the others have none.
#[derive(Clone, Debug)]
pub struct Gradients<B: Backend> {
    backend: B,
    values: Vec<Option<B::Weight>>,
}

impl<B: Backend> Gradients<B> {
    /// Zeros.
    ///
    /// # Errors
    /// The device's.
    pub fn of(backend: &B, graph: &Graph<B::Weight>) -> Result<Self> {
        let zeros = |parameter: &Parameter<B::Weight>| {
            parameter.trained.then(|| backend.zeros(&parameter.value)).transpose()
        };
        let values = graph.parameters().map(zeros).collect::<Result<_>>()?;
        Ok(Self { backend: backend.clone(), values })
    }

    /// Sets all to zero.
    ///
    /// # Errors
    /// The device's.
    pub fn clear(&mut self) -> Result<()> {
        self.scale(0.0)
    }

    /// Those of the trained parameters.
    pub fn trained(&self) -> impl Iterator<Item = &B::Weight> {
        self.values.iter().flatten()
    }

    /// Those of the trained parameters, as numbers.
    ///
    /// # Errors
    /// The device's.
    pub fn to_host(&self) -> Result<Vec<Vec<f32>>> {
        self.trained().map(|gradient| self.backend.values(gradient)).collect()
    }

    /// That of parameter number `index` of the graph; `None` if it is not trained.
    pub fn of_parameter(&mut self, index: usize) -> Option<&mut B::Weight> {
        self.values[index].as_mut()
    }

    /// Multiplies all by `factor`.
    ///
    /// # Errors
    /// The device's.
    pub fn scale(&mut self, factor: f32) -> Result<()> {
        let Self { backend, values } = self;
        values.iter_mut().flatten().try_for_each(|values| backend.multiply(values, factor))
    }

    /// Sets those of the first `count` parameters to zero.
    ///
    /// # Errors
    /// The device's.
    pub fn freeze(&mut self, count: usize) -> Result<()> {
        let Self { backend, values } = self;
        values.iter_mut().take(count).flatten().try_for_each(|values| backend.multiply(values, 0.0))
    }

    /// Scales all of `gradients` down so that their common norm is at most `bound` (0: none), and returns the
    /// norm that they had.
    ///
    /// # Errors
    /// The device's.
    pub fn clip(gradients: &mut [&mut Self], bound: f64) -> Result<f64> {
        let Some(first) = gradients.first() else { return Ok(0.0) };
        let all: Vec<&B::Weight> = gradients.iter().flat_map(|gradients| gradients.trained()).collect();
        let norm = first.backend.sum_of_squares(&all)?.sqrt();
        if bound > 0.0 && norm > bound && norm.is_finite() {
            for gradients in gradients {
                gradients.scale((bound / norm) as f32)?;
            }
        }
        Ok(norm)
    }
}

/// What happens to values on their way, as if it were part of the graph.
pub trait Hooks<B: Backend> {
    /// Value `id`, as it is made; what is returned goes on.
    ///
    /// # Errors
    /// Whatever ends the pass.
    fn made(&mut self, _id: ValueId, x: B::Tensor) -> Result<B::Tensor> {
        Ok(x)
    }

    /// Takes the gradient of what [`Self::made`] returned for value `id`, and returns that of what entered it.
    ///
    /// # Errors
    /// Whatever ends the pass.
    fn back(&mut self, _id: ValueId, gradient: B::Tensor) -> Result<B::Tensor> {
        Ok(gradient)
    }
}

impl<B: Backend> Hooks<B> for () {}

/// A graph on a back end.
pub(super) struct Placed<'a, B: Backend> {
    pub(super) backend: &'a B,
    pub(super) graph: &'a Graph<B::Weight>,
    /// Weights that stand for those of the graph, by the number of the parameter.
    pub(super) instead: &'a [Instead<B>],
}

/// How a forward pass runs.
pub(super) struct Forward<'a, B: Backend> {
    /// What batch norms work with.
    pub(super) statistics: Statistics,
    /// Whether a backward pass follows.
    pub(super) keep: bool,
    /// A pass of as many pictures, on whose side of its kinks every rectifier stays.
    pub(super) along: Option<&'a Pass<B>>,
}

/// Runs the nodes that `wanted` depend on; returns those values.
pub(super) fn forward<B: Backend>(
    Placed { backend, graph, instead }: &Placed<'_, B>,
    x: B::Tensor,
    classes: Option<&[u32]>,
    wanted: &[ValueId],
    how: &Forward<'_, B>,
    hooks: &mut impl Hooks<B>,
) -> Result<(Vec<B::Tensor>, Pass<B>)> {
    let needed = graph.needed(wanted);
    let count = backend.count(&x);
    let mut uses = vec![0usize; graph.values.len()];
    let nodes = || graph.nodes.iter().enumerate().filter(|(index, _)| needed[*index]);
    for value in nodes().flat_map(|(_, node)| &node.inputs).chain(wanted) {
        uses[*value] += 1;
    }
    let mut live = Live { tensors: vec![None; graph.values.len()], uses };
    live.tensors[graph.input] = Some(hooks.made(graph.input, x)?);
    let mut saved = Vec::with_capacity(graph.nodes.len());
    let mut start = 0;
    for (index, node) in graph.nodes.iter().enumerate() {
        let first = start;
        start += node.parameters.len();
        if !needed[index] {
            saved.push(Saved::Skipped);
            continue;
        }
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for value in &node.inputs {
            inputs.push(live.get(*value).ok_or_else(|| {
                Error::Export(format!("node {:?} reads a value before it is made", node.name))
            })?);
        }
        let held = how.along.map(|along| &along.saved[index]);
        let weights = Weights { node, first, instead };
        let (output, kept) =
            run(*backend, &weights, inputs, graph.values[node.output].shape, (classes, count), how, held)?;
        saved.push(kept);
        live.tensors[node.output] = Some(hooks.made(node.output, output)?);
    }
    let mut outputs = Vec::with_capacity(wanted.len());
    for value in wanted {
        outputs.push(live.get(*value).ok_or_else(|| Error::Export("an output is not made".into()))?);
    }
    Ok((outputs, Pass { saved, classes: classes.map(<[u32]>::to_vec), count }))
}

/// The values that are still used, with how often.
struct Live<T> {
    tensors: Vec<Option<T>>,
    uses: Vec<usize>,
}

impl<T: Clone> Live<T> {
    /// A value for one of its uses: taken at the last, so that its memory can be used again; `None` before it is made.
    fn get(&mut self, value: ValueId) -> Option<T> {
        self.uses[value] -= 1;
        if self.uses[value] == 0 { self.tensors[value].take() } else { self.tensors[value].clone() }
    }
}

/// A node's parameters, some of them replaced.
struct Weights<'a, B: Backend> {
    node: &'a Node<B::Weight>,
    /// The number of its first in the graph.
    first: usize,
    instead: &'a [Instead<B>],
}

impl<'a, B: Backend> Weights<'a, B> {
    fn get(&self, slot: usize) -> Option<&'a B::Weight> {
        let own = self.node.parameters.get(slot)?;
        let other = self.instead.iter().find(|(place, _)| *place == self.first + slot);
        Some(other.map_or(&own.value, |(_, divided)| &divided.weight))
    }

    fn need(&self, slot: usize) -> Result<&'a B::Weight> {
        self.get(slot).ok_or_else(|| Error::Export(format!("{} lacks a parameter", self.node.label())))
    }
}

/// One node's forward pass.
fn run<B: Backend>(
    backend: &B,
    weights: &Weights<'_, B>,
    mut inputs: Vec<B::Tensor>,
    shape: Shape,
    (classes, count): (Option<&[u32]>, usize),
    how: &Forward<'_, B>,
    held: Option<&Saved<B>>,
) -> Result<(B::Tensor, Saved<B>)> {
    let op = &weights.node.op;
    if let Op::Concat = op {
        return Ok((backend.concat(&inputs, shape)?, Saved::Ran));
    }
    if let Op::Foreign(foreign) = op {
        let rows = |x: &B::Tensor| Ok((backend.rows(x)?, backend.shape(x)));
        let inputs = inputs.iter().map(rows).collect::<Result<Vec<_>>>()?;
        let (rows, shape) = foreign.run(&weights.node.name, &inputs, count, Some(shape))?;
        return Ok((backend.tensor(&rows, shape)?, Saved::Ran));
    }
    let mut inputs = inputs.drain(..);
    let mut next = || {
        let missing = || Error::Export(format!("{} lacks an input", weights.node.label()));
        inputs.next().ok_or_else(missing)
    };
    let x = next()?;
    let told = || classes.ok_or_else(|| Error::Export(format!("{} lacks classes", weights.node.label())));
    let keep = |one: B::Tensor| if how.keep { Saved::One(one) } else { Saved::Ran };
    Ok(match op {
        Op::Dense { .. } | Op::Conv { .. } | Op::ConvTranspose { .. } | Op::UpsampleConv { .. } => {
            let (geometry, role) = geometry(op, backend.shape(&x))?;
            let y = match *op {
                Op::UpsampleConv { inputs, outputs, kernel } => {
                    let expanded = backend.expand(weights.need(0)?, (outputs, inputs, kernel))?;
                    backend.correlate(&geometry, role, &x, (&expanded, weights.get(1)), shape)?
                }
                _ => backend.correlate(&geometry, role, &x, (weights.need(0)?, weights.get(1)), shape)?,
            };
            (y, keep(x))
        }
        Op::Norm { over, epsilon, .. } => {
            let (scale, shift) = (weights.need(0)?, weights.need(1)?);
            let moments = match (over, how.statistics) {
                (Over::Batch, Statistics::Running) => {
                    backend.running(weights.need(2)?, weights.need(3)?, *epsilon)?
                }
                (over, _) => backend.moments(&x, *over, *epsilon)?,
            };
            let y = backend.normalise(&x, &moments, scale, shift)?;
            (y, if how.keep { Saved::Norm(x, moments) } else { Saved::Ran })
        }
        Op::Activation(activation) => {
            if let Some(Saved::One(results)) = held
                && activation.has_kink()
            {
                // the slopes that a gradient is multiplied by are those that values are
                return Ok((backend.slope(*activation, results, x)?, Saved::One(results.clone())));
            }
            if activation.slope_of_result() {
                let y = backend.activate(*activation, x)?;
                (y.clone(), keep(y))
            } else {
                (backend.activate(*activation, x.clone())?, keep(x))
            }
        }
        Op::Reshape(_) => (backend.reshape(x, shape)?, Saved::Ran),
        Op::ClassRow { classes, features } => {
            let own = one_hot(backend, told()?, *classes, false)?;
            let (geometry, role) = row(*classes, *features);
            let row = backend.correlate(&geometry, role, &own, (weights.need(0)?, None), shape)?;
            (backend.add(x, 1.0, &row)?, Saved::Ran)
        }
        Op::ClassProjection { classes } => {
            let own = one_hot(backend, told()?, *classes, true)?;
            let line = Shape::Image(1, 1, 1 + classes);
            let (x, own) = (backend.reshape(x, line)?, backend.reshape(own, line)?);
            (backend.dots(&x, &own, shape)?, Saved::Ran)
        }
        Op::Add => (backend.add(x, 1.0, &next()?)?, Saved::Ran),
        Op::Mul | Op::Scale => {
            let y = next()?;
            let (kept, x) = if how.keep { (Saved::Two(x.clone(), y.clone()), x) } else { (Saved::Ran, x) };
            let product = if *op == Op::Mul { backend.mul(x, &y)? } else { backend.scale(x, &y)? };
            (product, kept)
        }
        Op::Slice { first, count } => (backend.slice(&x, *first, *count)?, Saved::Ran),
        Op::AveragePool { .. } | Op::GlobalAverage | Op::Resize { .. } | Op::Blur => {
            let (rows, columns) = axes(op, backend.shape(&x))?;
            (backend.reshape(backend.resample(&x, &rows, &columns)?, shape)?, Saved::Ran)
        }
        Op::MaxPool(window) => {
            let y = backend.max_pool(&x, window, shape)?;
            let kept = if how.keep { Saved::Two(x, y.clone()) } else { Saved::Ran };
            (y, kept)
        }
        Op::Shuffle(_) | Op::Unshuffle { .. } => {
            let moved = match places(op, backend.shape(&x), shape) {
                Places::Gather(places) => backend.gather(&x, &places, shape)?,
                Places::Scatter(places) => backend.scatter(&x, &places, shape)?,
            };
            (moved, Saved::Ran)
        }
        Op::BatchDeviation => (backend.deviation(&x)?, keep(x)),
        Op::UnitLength => (backend.unit(&x)?, keep(x)),
        Op::Softmax => {
            let y = backend.softmax(x)?;
            (y.clone(), keep(y))
        }
        Op::Concat | Op::Foreign(_) => unreachable!("handled above"),
    })
}

fn geometry(op: &Op, shape: Shape) -> Result<(Geometry, Role)> {
    op.geometry(shape).ok_or_else(|| Error::Export(format!("{op:?} cannot follow a shape of {shape}")))
}

/// A class's row as a dense layer of one-hot classes: its weight (classes, features) as it is.
fn row(classes: usize, features: usize) -> (Geometry, Role) {
    (Geometry::dense(features, classes), Role::Fine)
}

/// (N, classes), or with a first column of ones (N, 1 + classes).
fn one_hot<B: Backend>(backend: &B, own: &[u32], classes: usize, first: bool) -> Result<B::Tensor> {
    let offset = usize::from(first);
    let mut rows = vec![0f32; own.len() * (offset + classes)];
    for (row, class) in rows.chunks_mut(offset + classes).zip(own) {
        row[..offset].fill(1.0);
        row[offset + *class as usize] = 1.0;
    }
    backend.tensor(&rows, Shape::Vector(offset + classes))
}

/// The linear maps along rows and columns that an operator is on an input of `shape`.
fn axes(op: &Op, shape: Shape) -> Result<(Axis, Axis)> {
    let (_, height, width) = shape.image();
    let both = |axis: &dyn Fn(usize) -> Axis| (axis(height), axis(width));
    Ok(match op {
        Op::AveragePool { window, counts_padding } => {
            let sizes = (window.kernel, window.stride, window.padding);
            both(&|side| Axis::average(side, sizes, *counts_padding))
        }
        Op::GlobalAverage => both(&Axis::mean),
        Op::Resize { height: rows, width: columns, by } => {
            (Axis::resize(height, *rows, *by), Axis::resize(width, *columns, *by))
        }
        Op::Blur => both(&Axis::blur),
        other => return Err(Error::Export(format!("{} maps no axes", other.kind()))),
    })
}

/// How pixels move.
enum Places {
    Gather(Vec<u32>),
    Scatter(Vec<u32>),
}

/// How a shuffle moves the pixels of `before`, of which `after` is made.
fn places(op: &Op, before: Shape, after: Shape) -> Places {
    match op {
        Op::Shuffle(shuffle) => Places::Gather(shuffle.places(before)),
        Op::Unshuffle { block } => {
            let (_, height, width) = before.image();
            let inverse = Shuffle { block: *block, first: 0, size: (height, width) };
            Places::Scatter(inverse.places(after))
        }
        _ => Places::Gather(Vec::new()),
    }
}

/// From the gradients of some of a pass's values to those of the trained parameters, which are added to `gradients` (if
/// given), and to that of the input (if `input` is set).
pub(super) fn backward<B: Backend>(
    Placed { backend, graph, instead }: &Placed<'_, B>,
    pass: &Pass<B>,
    seeds: Vec<(ValueId, B::Tensor)>,
    mut gradients: Option<&mut Gradients<B>>,
    input: bool,
    hooks: &mut impl Hooks<B>,
) -> Result<Option<B::Tensor>> {
    let backend = *backend;
    // which values a gradient is wanted of
    let mut wanted = vec![false; graph.values.len()];
    wanted[graph.input] = input;
    for node in &graph.nodes {
        let trains = gradients.is_some() && node.parameters.iter().any(|parameter| parameter.trained);
        wanted[node.output] = trains || node.inputs.iter().any(|value| wanted[*value]);
    }
    let mut found: Vec<Option<B::Tensor>> = vec![None; graph.values.len()];
    for (value, gradient) in seeds {
        add(backend, &mut found[value], gradient)?;
    }
    let mut starts = Vec::with_capacity(graph.nodes.len());
    let mut start = 0;
    for node in &graph.nodes {
        starts.push(start);
        start += node.parameters.len();
    }
    for (index, node) in graph.nodes.iter().enumerate().rev() {
        if matches!(pass.saved[index], Saved::Skipped) || !wanted[node.output] {
            continue;
        }
        let Some(gradient) = found[node.output].take() else { continue };
        let gradient = hooks.back(node.output, gradient)?;
        let weights = Weights { node, first: starts[index], instead };
        let shapes: Vec<Shape> = node.inputs.iter().map(|value| graph.values[*value].shape).collect();
        let passes: Vec<bool> = node.inputs.iter().map(|value| wanted[*value]).collect();
        let step =
            Back { backend, weights, saved: &pass.saved[index], classes: pass.classes(), shapes, passes };
        let before = step.run(gradient, gradients.as_deref_mut())?;
        for (value, gradient) in node.inputs.iter().zip(before) {
            if let Some(gradient) = gradient.filter(|_| wanted[*value]) {
                add(backend, &mut found[*value], gradient)?;
            }
        }
    }
    let of_input = found[graph.input].take().filter(|_| input);
    of_input.map(|gradient| hooks.back(graph.input, gradient)).transpose()
}

fn add<B: Backend>(backend: &B, sum: &mut Option<B::Tensor>, gradient: B::Tensor) -> Result<()> {
    *sum = Some(match sum.take() {
        None => gradient,
        Some(sum) => backend.add(sum, 1.0, &gradient)?,
    });
    Ok(())
}

/// One node's backward pass.
struct Back<'a, B: Backend> {
    backend: &'a B,
    weights: Weights<'a, B>,
    saved: &'a Saved<B>,
    classes: Option<&'a [u32]>,
    /// Of the inputs.
    shapes: Vec<Shape>,
    /// Which inputs a gradient is wanted of.
    passes: Vec<bool>,
}

impl<B: Backend> Back<'_, B> {
    /// The gradients of the inputs.
    fn run(
        &self,
        gradient: B::Tensor,
        gradients: Option<&mut Gradients<B>>,
    ) -> Result<Vec<Option<B::Tensor>>> {
        let Self { backend, weights, saved, .. } = self;
        let (op, shape) = (&weights.node.op, self.shapes[0]);
        let one = || match saved {
            Saved::One(one) => Ok(one),
            _ => Err(self.not_kept()),
        };
        let two = || match saved {
            Saved::Two(first, second) => Ok((first, second)),
            _ => Err(self.not_kept()),
        };
        let told = || self.classes.ok_or_else(|| self.not_kept());
        let only = |gradient: B::Tensor| Ok(vec![Some(gradient)]);
        match op {
            Op::Dense { .. } | Op::Conv { .. } | Op::ConvTranspose { .. } | Op::UpsampleConv { .. } => {
                self.linear(one()?, gradient, gradients)
            }
            Op::Norm { .. } => {
                let Saved::Norm(x, moments) = saved else { return Err(self.not_kept()) };
                let first = weights.first;
                let into = gradients.and_then(|gradients| {
                    let (before, after) = gradients.values.split_at_mut(first + 1);
                    Some((before[first].as_mut()?, after[0].as_mut()?))
                });
                only(backend.normalise_backward(x, moments, weights.need(0)?, gradient, into)?)
            }
            Op::Activation(activation) => only(backend.slope(*activation, one()?, gradient)?),
            Op::Reshape(_) => only(backend.reshape(gradient, shape)?),
            Op::ClassRow { classes, features } => {
                if let Some(into) = gradients.and_then(|gradients| gradients.of_parameter(weights.first)) {
                    let own = one_hot(*backend, told()?, *classes, false)?;
                    let (geometry, _) = row(*classes, *features);
                    backend.weight_gradient(&geometry, &gradient, &own, into)?;
                }
                only(gradient)
            }
            Op::ClassProjection { classes } => {
                let own = one_hot(*backend, told()?, *classes, true)?;
                let own = backend.reshape(own, Shape::Image(1, 1, 1 + classes))?;
                only(backend.reshape(backend.scale(own, &gradient)?, shape)?)
            }
            Op::Add => Ok(vec![self.passes[0].then(|| gradient.clone()), Some(gradient)]),
            Op::Mul => {
                let (x, y) = two()?;
                let of_x = self.passes[0].then(|| backend.mul(gradient.clone(), y)).transpose()?;
                let of_y = self.passes[1].then(|| backend.mul(gradient, x)).transpose()?;
                Ok(vec![of_x, of_y])
            }
            Op::Scale => {
                let (x, scale) = two()?;
                let of_scale =
                    self.passes[1].then(|| backend.dots(&gradient, x, self.shapes[1])).transpose()?;
                let of_x = self.passes[0].then(|| backend.scale(gradient, scale)).transpose()?;
                Ok(vec![of_x, of_scale])
            }
            Op::Concat => {
                let mut first = 0;
                let parts = self.shapes.iter().zip(&self.passes).map(|(shape, passes)| {
                    let from = first;
                    first += shape.channels();
                    passes.then(|| backend.slice(&gradient, from, shape.channels())).transpose()
                });
                parts.collect()
            }
            Op::Slice { first, .. } => only(backend.place(&gradient, *first, shape)?),
            Op::AveragePool { .. } | Op::GlobalAverage | Op::Resize { .. } | Op::Blur => {
                let (rows, columns) = axes(op, shape)?;
                let made = Shape::Image(shape.channels(), rows.outputs(), columns.outputs());
                let gradient = backend.reshape(gradient, made)?;
                only(backend.resample(&gradient, &rows.transposed(), &columns.transposed())?)
            }
            Op::MaxPool(window) => {
                let (x, largest) = two()?;
                only(backend.max_pool_backward(x, largest, &gradient, window)?)
            }
            Op::Shuffle(_) | Op::Unshuffle { .. } => {
                only(match places(op, shape, backend.shape(&gradient)) {
                    Places::Gather(places) => backend.scatter(&gradient, &places, shape)?,
                    Places::Scatter(places) => backend.gather(&gradient, &places, shape)?,
                })
            }
            Op::BatchDeviation => only(backend.deviation_backward(one()?, &gradient)?),
            Op::UnitLength => only(backend.unit_backward(one()?, &gradient)?),
            Op::Softmax => only(backend.softmax_backward(one()?, gradient)?),
            Op::Foreign(_) => Err(Error::Export(format!("{} has no gradient here", weights.node.label()))),
        }
    }

    fn linear(
        &self,
        x: &B::Tensor,
        gradient: B::Tensor,
        gradients: Option<&mut Gradients<B>>,
    ) -> Result<Vec<Option<B::Tensor>>> {
        let Self { backend, weights, .. } = self;
        let (op, shape) = (&weights.node.op, self.shapes[0]);
        let (geometry, role) = geometry(op, shape)?;
        let upsample = match *op {
            Op::UpsampleConv { inputs, outputs, kernel } => Some((outputs, inputs, kernel)),
            _ => None,
        };
        let expanded = upsample.map(|dims| backend.expand(weights.need(0)?, dims)).transpose()?;
        if let Some(gradients) = gradients {
            let (fine, coarse) = match role {
                Role::Coarse => (x, &gradient),
                Role::Fine => (&gradient, x),
            };
            if let Some(into) = gradients.of_parameter(weights.first) {
                match (upsample, &expanded) {
                    (Some(dims), Some(expanded)) => {
                        let mut wide = backend.zeros(expanded)?;
                        backend.weight_gradient(&geometry, fine, coarse, &mut wide)?;
                        backend.collect(&wide, dims, into)?;
                    }
                    _ => backend.weight_gradient(&geometry, fine, coarse, into)?,
                }
            }
            if weights.get(1).is_some()
                && let Some(into) = gradients.of_parameter(weights.first + 1)
            {
                backend.bias_gradient(&gradient, into)?;
            }
        }
        if !self.passes[0] {
            return Ok(vec![None]);
        }
        let weight = match &expanded {
            Some(expanded) => expanded,
            None => weights.need(0)?,
        };
        let before = backend.correlate(&geometry, role.transposed(), &gradient, (weight, None), shape)?;
        Ok(vec![Some(before)])
    }

    fn not_kept(&self) -> Error {
        Error::Export(format!("the forward pass kept nothing of {}", self.weights.node.label()))
    }
}
