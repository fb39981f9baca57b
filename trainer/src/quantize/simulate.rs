//! The quantised network in float32: every weight and every number between layers is one that integers hold.
//!
//! Sums are those of float32, so a level may come out one off the integer result where a sum lies half-way between
//! two: good enough to choose and to correct by. What a file is worth is measured with the file itself.

use super::calibrate::Encoding;
use super::plan::Plan;
use crate::Result;
use crate::compute::network::run;
use crate::compute::{Backend, Hooks, Lanes};
use crate::graph::{Graph, Shape, ValueId};

/// Rows of one run.
const BATCH: usize = 64;

/// Inputs of a network: (count, input…) row-major, and what classes they are of.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// Of one row.
    pub shape: Shape,
    /// Row-major.
    pub rows: Vec<f32>,
    /// (count), if the network is conditioned on classes.
    pub classes: Option<Vec<u32>>,
    /// Rows.
    pub count: usize,
}

impl Inputs {
    /// The first `count` of them, or all.
    pub(crate) fn first(&self, count: usize) -> Self {
        let count = count.min(self.count);
        let width = self.rows.len() / self.count.max(1);
        let classes = self.classes.as_ref().map(|classes| classes[..count].to_vec());
        Self { shape: self.shape, rows: self.rows[..count * width].to_vec(), classes, count }
    }

    /// In pieces that one run takes.
    pub(super) fn batches(&self) -> impl Iterator<Item = (&[f32], Option<&[u32]>)> {
        let width = self.rows.len() / self.count.max(1);
        let classes = self.classes.as_deref();
        self.rows.chunks(BATCH * width.max(1)).enumerate().map(move |(index, rows)| {
            let first = index * BATCH;
            let count = rows.len() / width;
            (rows, classes.map(|classes| &classes[first..first + count]))
        })
    }
}

/// Which numbers are rounded, in a graph whose weights are rounded already as far as they are to be.
pub(super) struct Simulation<'a> {
    pub(super) graph: &'a Graph,
    pub(super) plan: &'a Plan,
    /// For each tensor, how it is held; `None`: in float32.
    pub(super) encodings: &'a [Option<Encoding>],
}

/// A value of a batch on the CPU.
pub(super) type Values = <Lanes as Backend>::Tensor;

impl Simulation<'_> {
    /// How value `id` is held, if it is rounded.
    pub(super) fn encoding(&self, id: ValueId) -> Option<Encoding> {
        let tensor = self.plan.tensor[id];
        self.encodings[tensor].filter(|_| self.plan.tensors[tensor].holds(id))
    }

    /// Rounds value `id` as it is held, on any back end.
    pub(super) fn round<B: Backend>(&self, backend: &B, id: ValueId, x: B::Tensor) -> Result<B::Tensor> {
        match self.encoding(id) {
            Some(Encoding { scale, zero_point }) => backend.round(x, scale, zero_point),
            None => Ok(x),
        }
    }

    /// Runs on all inputs; `visit` sees every value of every batch, as the next layer sees it. Returns each output's
    /// rows.
    pub(super) fn run(&self, inputs: &Inputs, visit: impl FnMut(ValueId, &Values)) -> Result<Vec<Vec<f32>>> {
        let mut rows = vec![Vec::new(); self.graph.outputs.len()];
        let mut rounding = Rounding { simulation: self, visit };
        for (batch, classes) in inputs.batches() {
            let (outputs, _) = run(self.graph, batch, classes, false, &mut rounding)?;
            rows.iter_mut().zip(outputs).for_each(|(rows, output)| rows.extend(output.to_rows()));
        }
        Ok(rows)
    }
}

/// Rounds values as they are made.
struct Rounding<'a, F> {
    simulation: &'a Simulation<'a>,
    visit: F,
}

impl<F: FnMut(ValueId, &Values)> Hooks<Lanes> for Rounding<'_, F> {
    fn made(&mut self, id: ValueId, x: Values) -> Result<Values> {
        let x = self.simulation.round(&Lanes, id, x)?;
        (self.visit)(id, &x);
        Ok(x)
    }
}
