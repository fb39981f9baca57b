//! A graph with its values on a back end.

use std::sync::Arc;

use super::pass::{self, Forward, Gradients, Hooks, Pass, Placed, Statistics};
use super::{Backend, Divided, Lanes, MOMENTUM};
use crate::Result;
use crate::graph::{Graph, Parameter, Shape, ValueId};

/// Rows (N, input…) with their classes (N), where a network takes them.
pub type ClassedRows = (Vec<f32>, Option<Arc<[u32]>>);

/// A network that can be run and trained.
#[derive(Clone, Debug)]
pub struct Network<B: Backend = Lanes> {
    /// What it is, and its values.
    pub graph: Graph<B::Weight>,
    backend: B,
}

/// A weight that stands for a graph's own in a pass, with the number of that parameter.
pub type Instead<B> = (usize, Divided<<B as Backend>::Weight>);

impl<B: Backend> Network<B> {
    /// Copies a graph with its values to a back end.
    ///
    /// # Errors
    /// The device's.
    pub fn new(backend: &B, graph: &Graph) -> Result<Self> {
        let graph = graph.map(|parameter| backend.weight(&parameter.value, &parameter.shape))?;
        Ok(Self { graph, backend: backend.clone() })
    }

    /// Copies graph and values back.
    ///
    /// # Errors
    /// The device's.
    pub fn host(&self) -> Result<Graph> {
        self.graph.map(|parameter| self.backend.values(&parameter.value))
    }

    /// Every parameter with its values, as they are stored.
    ///
    /// # Errors
    /// The device's.
    pub fn parameters(&self) -> Result<Vec<Parameter>> {
        let copy = |parameter: &Parameter<B::Weight>| {
            parameter.map(|parameter| self.backend.values(&parameter.value))
        };
        self.graph.parameters().map(copy).collect()
    }

    /// Takes the values of parameters in the same order.
    ///
    /// # Errors
    /// The device's.
    pub fn set<'a>(&mut self, parameters: impl IntoIterator<Item = &'a Parameter>) -> Result<()> {
        for (own, other) in self.graph.parameters_mut().zip(parameters) {
            own.value = self.backend.weight(&other.value, &other.shape)?;
        }
        Ok(())
    }

    fn placed<'a>(&'a self, instead: &'a [Instead<B>]) -> Placed<'a, B> {
        Placed { backend: &self.backend, graph: &self.graph, instead }
    }

    /// Where it is computed.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// Shape of what enters.
    pub fn input_shape(&self) -> Shape {
        self.graph.input_shape()
    }

    /// Shape of the first output.
    pub fn output_shape(&self) -> Shape {
        self.graph.output_shape()
    }

    /// How many classes it is conditioned on; 0: none.
    pub fn classes(&self) -> usize {
        self.graph.classes()
    }

    /// The same network as another part of a model.
    pub fn renamed(&self, part: &str) -> Self {
        let mut copy = self.clone();
        copy.graph.rename(part);
        copy
    }

    /// Moves every value towards `other`'s, the same network's: value ← decay · value + (1 − decay) · other.
    ///
    /// # Errors
    /// The device's.
    pub fn follow(&mut self, other: &Self, decay: f64) -> Result<()> {
        let pairs = self.graph.parameters_mut().zip(other.graph.parameters());
        for (own, other) in pairs {
            self.backend.approach(&mut own.value, &other.value, decay)?;
        }
        Ok(())
    }

    /// The first output by running statistics: rows (N, input…) → rows (N, output…); `classes` (N) where the
    /// network takes them.
    ///
    /// # Errors
    /// The device's, or that an operator of another maker cannot be run.
    pub fn infer(&self, rows: &[f32], classes: Option<&[u32]>) -> Result<Vec<f32>> {
        self.infer_value(rows, classes, self.graph.output())
    }

    /// As [`Self::infer`], but any value of the graph.
    ///
    /// # Errors
    /// As [`Self::infer`].
    pub fn infer_value(&self, rows: &[f32], classes: Option<&[u32]>, value: ValueId) -> Result<Vec<f32>> {
        let x = self.backend.tensor(rows, self.input_shape())?;
        self.backend.rows(&self.infer_tensor(x, classes, value)?)
    }

    /// As [`Self::infer_value`], on tensors.
    ///
    /// # Errors
    /// As [`Self::infer`].
    pub fn infer_tensor(&self, x: B::Tensor, classes: Option<&[u32]>, value: ValueId) -> Result<B::Tensor> {
        let how = Forward { statistics: Statistics::Running, keep: false, along: None };
        let (mut outputs, _) = pass::forward(&self.placed(&[]), x, classes, &[value], &how, &mut ())?;
        Ok(outputs.swap_remove(0))
    }

    /// Computes the values `wanted`, by batch norms' own or running statistics, and keeps what [`Self::backward`] needs.
    ///
    /// # Errors
    /// As [`Self::infer`].
    pub fn record(
        &self,
        x: B::Tensor,
        classes: Option<&[u32]>,
        wanted: &[ValueId],
        statistics: Statistics,
        instead: &[Instead<B>],
    ) -> Result<(Vec<B::Tensor>, Pass<B>)> {
        let how = Forward { statistics, keep: true, along: None };
        pass::forward(&self.placed(instead), x, classes, wanted, &how, &mut ())
    }

    /// Computes the value `wanted` by the batch's own statistics, which the running ones follow.
    ///
    /// # Errors
    /// As [`Self::infer`].
    pub fn train(
        &mut self,
        x: B::Tensor,
        classes: Option<&[u32]>,
        wanted: ValueId,
        instead: &[Instead<B>],
    ) -> Result<(B::Tensor, Pass<B>)> {
        self.train_by(x, classes, wanted, instead, None)
    }

    /// As [`Self::train`] with every rectifier on the side of its kink on which it was in the pass `base` of as many
    /// pictures: the function that `base` is differentiated as, continued to other pictures without its kinks.
    ///
    /// # Errors
    /// As [`Self::infer`].
    pub fn train_along(
        &mut self,
        x: B::Tensor,
        base: &Pass<B>,
        wanted: ValueId,
        instead: &[Instead<B>],
    ) -> Result<(B::Tensor, Pass<B>)> {
        self.train_by(x, base.classes(), wanted, instead, Some(base))
    }

    fn train_by(
        &mut self,
        x: B::Tensor,
        classes: Option<&[u32]>,
        wanted: ValueId,
        instead: &[Instead<B>],
        along: Option<&Pass<B>>,
    ) -> Result<(B::Tensor, Pass<B>)> {
        let how = Forward { statistics: Statistics::Batch, keep: true, along };
        let (mut outputs, pass) = pass::forward(&self.placed(instead), x, classes, &[wanted], &how, &mut ())?;
        for (node, moments) in pass.moments() {
            if let [_, _, mean, variance] = self.graph.nodes[node].parameters.as_mut_slice() {
                self.backend.follow_moments(moments, &mut mean.value, &mut variance.value)?;
            }
        }
        Ok((outputs.swap_remove(0), pass))
    }

    /// From the gradient of a recorded pass's values to those of the trained parameters, which are added to
    /// `gradients` (if given; otherwise none are computed), and to that of the input (if `input` is set).
    ///
    /// # Errors
    /// The device's; that an operator has no gradient, with its name.
    pub fn backward(
        &self,
        pass: &Pass<B>,
        seeds: Vec<(ValueId, B::Tensor)>,
        gradients: Option<&mut Gradients<B>>,
        input: bool,
        instead: &[Instead<B>],
    ) -> Result<Option<B::Tensor>> {
        pass::backward(&self.placed(instead), pass, seeds, gradients, input, &mut ())
    }

    /// Sets every batch norm's running statistics to the means over `batches`, each normalised by its own.
    ///
    /// # Errors
    /// As [`Self::infer`].
    pub fn estimate_statistics(&mut self, batches: &[ClassedRows]) -> Result<()> {
        let mut sums: Vec<Vec<f64>> = Vec::new();
        for (rows, classes) in batches {
            for parameter in self.graph.parameters_mut().filter(|parameter| !parameter.trained) {
                parameter.value = self.backend.zeros(&parameter.value)?;
            }
            let x = self.backend.tensor(rows, self.input_shape())?;
            let wanted = self.graph.output();
            self.train(x, classes.as_deref(), wanted, &[])?;
            // one step from zero leaves the batch's share of what was found
            let running = self.graph.parameters().filter(|parameter| !parameter.trained);
            for (index, parameter) in running.enumerate() {
                let found = self.backend.values(&parameter.value)?;
                if sums.len() <= index {
                    sums.push(vec![0.0; found.len()]);
                }
                let sums = sums[index].iter_mut().zip(&found);
                sums.for_each(|(sum, value)| *sum += f64::from(value / MOMENTUM));
            }
        }
        let count = batches.len().max(1) as f64;
        let running = self.graph.parameters_mut().filter(|parameter| !parameter.trained);
        for (parameter, sums) in running.zip(&sums) {
            let means: Vec<f32> = sums.iter().map(|sum| (sum / count) as f32).collect();
            parameter.value = self.backend.weight(&means, &parameter.shape)?;
        }
        Ok(())
    }
}

/// Runs a graph on the CPU by running statistics, with `hooks` on its values; keeps what [`backward_on`] needs where `keep`
/// is set.
///
/// # Errors
/// [`crate::Error::Export`] that names a node of another maker that cannot be run.
pub fn run(
    graph: &Graph,
    rows: &[f32],
    classes: Option<&[u32]>,
    keep: bool,
    hooks: &mut impl Hooks<Lanes>,
) -> Result<(Vec<<Lanes as Backend>::Tensor>, Pass<Lanes>)> {
    run_on(&Lanes, graph, rows, classes, keep, hooks)
}

/// As [`run`], on any back end.
///
/// # Errors
/// As [`run`].
pub fn run_on<B: Backend>(
    backend: &B,
    graph: &Graph<B::Weight>,
    rows: &[f32],
    classes: Option<&[u32]>,
    keep: bool,
    hooks: &mut impl Hooks<B>,
) -> Result<(Vec<B::Tensor>, Pass<B>)> {
    let how = Forward { statistics: Statistics::Running, keep, along: None };
    let x = backend.tensor(rows, graph.input_shape())?;
    pass::forward(&Placed { backend, graph, instead: &[] }, x, classes, &graph.outputs, &how, hooks)
}

/// The gradients of a graph's parameters, with `hooks` on those of its values.
///
/// # Errors
/// [`crate::Error::Export`] that names an operator without a gradient.
pub fn backward_on<B: Backend>(
    backend: &B,
    graph: &Graph<B::Weight>,
    pass: &Pass<B>,
    seeds: Vec<(ValueId, B::Tensor)>,
    gradients: &mut Gradients<B>,
    hooks: &mut impl Hooks<B>,
) -> Result<()> {
    pass::backward(&Placed { backend, graph, instead: &[] }, pass, seeds, Some(gradients), false, hooks)?;
    Ok(())
}
