//! Another engine, which runs what has no kernel here. This crate has one, tract (`model/tract.rs`); this module knows none.

use std::fmt::Debug;

use crate::onnx::ModelProto;

use super::Reason;

/// What goes into a network, batch and all.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) shape: Vec<usize>,
    /// int64 instead of float32.
    pub(crate) integers: bool,
}

/// Makes networks ready.
pub(crate) trait Engine: Sync {
    /// What it is called where it is said who runs a node.
    fn name(&self) -> &'static str;

    /// Gives every tensor a type and a shape; `threads` may share the work.
    ///
    /// # Errors
    /// Why it cannot run the network, on one line.
    fn prepare(
        &self,
        network: &ModelProto,
        entries: &[Entry],
        threads: usize,
    ) -> Result<Box<dyn Prepared>, Reason>;
}

/// A network whose every tensor has a type and a shape.
pub(crate) trait Prepared: Debug + Send + Sync {
    /// The shape of output `index`, if it is float32.
    fn output_shape(&self, index: usize) -> Option<Vec<usize>>;

    /// Multiply-accumulates of one run: convolutions and matrix products, the useful ones alone. A transposed convolution
    /// counts input positions × input channels × output channels × kernel.
    fn macs(&self) -> Option<u64>;

    /// Optimises it for this CPU.
    ///
    /// # Errors
    /// Why it cannot be, on one line.
    fn start(&self) -> Result<Box<dyn Running>, Reason>;

    /// Another one of the same.
    fn copy(&self) -> Box<dyn Prepared>;
}

impl Clone for Box<dyn Prepared> {
    fn clone(&self) -> Self {
        (**self).copy()
    }
}

/// An input that is to be filled.
pub(crate) enum Slot<'a> {
    Floats(&'a mut [f32]),
    Integers(&'a mut [i64]),
}

/// A network that is ready to run. Threads may share it; who runs it has it alone.
pub(crate) trait Running: Send + Sync {
    /// Runs it, always from the same state: `fill` is given each input to be written, by its number, `take` each output, and how
    /// many there are.
    ///
    /// # Errors
    /// Why it failed, on one line.
    fn run(
        &mut self,
        fill: &mut dyn FnMut(usize, Slot<'_>),
        take: &mut dyn FnMut(&[f32], usize),
    ) -> Result<(), Reason>;

    /// Another one of the same, with inputs and a state of its own.
    fn copy(&self) -> Box<dyn Running>;
}

impl Clone for Box<dyn Running> {
    fn clone(&self) -> Self {
        (**self).copy()
    }
}
