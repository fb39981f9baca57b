//! A build without tract: what the kernels do not know is an error that says so.

use super::network::Reason;
use crate::onnx::ModelProto;
use std::collections::HashSet;
use std::convert::Infallible;

/// Whether there is tract.
pub(crate) const HERE: bool = false;

/// There is none.
pub(super) fn operators() -> HashSet<String> {
    HashSet::new()
}

/// There is nobody to tell.
pub(crate) fn set_threads(_: usize) {}

/// There is none.
#[derive(Clone, Debug)]
pub(crate) struct Typed(Box<Infallible>);

/// An error.
pub(super) fn typed_rows(_: &ModelProto, _: &[usize]) -> Result<Typed, Reason> {
    Err("this build has no tract".into())
}

/// An error.
pub(crate) fn typed(_: &ModelProto, _: &[Vec<usize>]) -> Result<Typed, Reason> {
    Err("this build has no tract".into())
}

impl Typed {
    pub(crate) fn output_shape(&self, _: usize) -> Option<Vec<usize>> {
        match *self.0 {}
    }

    pub(crate) fn macs(&self) -> Option<u64> {
        match *self.0 {}
    }
}

/// There is none.
pub(crate) struct Stock(Infallible);

impl Stock {
    pub(super) fn new(typed: Typed) -> Result<Self, Reason> {
        match *typed.0 {}
    }

    pub(super) fn run(&mut self, _: &[f32], _: &[u32], _: &mut [&mut [f32]]) -> Result<(), Reason> {
        match self.0 {}
    }
}

/// There is none.
#[derive(Clone)]
pub(crate) struct StockPart(Infallible);

impl StockPart {
    pub(crate) fn new(typed: Typed) -> Result<Self, Reason> {
        match *typed.0 {}
    }

    pub(crate) fn run(
        &mut self,
        _: impl FnMut(usize, &mut [f32]),
        _: impl FnMut(&[f32], usize),
    ) -> Result<(), Reason> {
        match self.0 {}
    }
}
