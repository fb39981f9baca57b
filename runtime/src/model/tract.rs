//! tract: the engine that runs what has no kernel.
//!
//! ONNX graph → `TypedModel` → something that runs. The batch size is bound before anything is optimised: a symbolic one
//! costs tract 2.7 times as much per run. One state is kept for all runs, `plan.run()` would set up a new one each time; but
//! what one run leaves in the state of a recurrent layer is not there in the next.

use crate::limits;
use crate::lower::Reason;
use crate::lower::engine::{Engine, Entry, Prepared, Running, Slot};
use crate::onnx::ModelProto;
use prost::Message;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use tract_core::internal::*;
use tract_core::ops::cnn::{Conv, Deconv};
use tract_core::ops::einsum::EinSum;
use tract_core::plan::SimplePlan;
use tract_linalg::multithread::Executor;
use tract_onnx::pb;
use tract_onnx::tract_hir::infer::{InferenceFact, InferenceModelExt};

/// The engine.
pub(crate) struct Tract;

impl Engine for Tract {
    fn name(&self) -> &'static str {
        "tract"
    }

    fn prepare(
        &self,
        network: &ModelProto,
        entries: &[Entry],
        threads: usize,
    ) -> std::result::Result<Box<dyn Prepared>, Reason> {
        let model =
            guarded("its inputs do not fit it, or it is one that tract cannot run as it stands", || {
                let proto = pb::ModelProto::decode(network.encode_to_vec().as_slice())?;
                // Declared shapes of inner values may hold a symbolic batch size: the bound one counts.
                let onnx = tract_onnx::onnx().with_ignore_value_info(true);
                let parsed = onnx.parse(&proto, None)?;
                ensure!(
                    parsed.unresolved_inputs.is_empty(),
                    "nothing defines {:?}",
                    parsed.unresolved_inputs
                );
                let mut model = parsed.model;
                for (index, entry) in entries.iter().enumerate() {
                    let kind = if entry.integers { i64::datum_type() } else { f32::datum_type() };
                    model.set_input_fact(index, InferenceFact::dt_shape(kind, &entry.shape))?;
                }
                model.into_typed()
            })?;
        check_sizes(&model)?;
        Ok(Box::new(Typed { model, threads }))
    }
}

/// A graph with all types and shapes.
#[derive(Clone, Debug)]
struct Typed {
    model: TypedModel,
    threads: usize,
}

/// No tensor may be so large that computing it would exhaust the memory.
fn check_sizes(model: &TypedModel) -> std::result::Result<(), Reason> {
    for output in model.nodes().iter().flat_map(|node| &node.outputs) {
        let shape = output.fact.shape.as_concrete();
        let shape = shape.ok_or("its shape depends on more than the batch")?;
        let values = shape.iter().try_fold(1usize, |product, dim| product.checked_mul(*dim));
        if values.is_none_or(|values| values > limits::MAX_TENSOR_VALUES) {
            return Err(format!("it would hold {shape:?} values, too many"));
        }
    }
    Ok(())
}

impl Prepared for Typed {
    fn output_shape(&self, index: usize) -> Option<Vec<usize>> {
        let fact = self.model.output_fact(index).ok()?;
        let shape = fact.shape.as_concrete()?.to_vec();
        (fact.datum_type == f32::datum_type()).then_some(shape)
    }

    fn macs(&self) -> Option<u64> {
        let mut total = 0u64;
        for node in self.model.nodes() {
            let inputs = self.model.node_input_facts(node.id).ok()?;
            let macs = if let Some(deconv) = node.op_as::<Deconv>() {
                let spec = &deconv.pool_spec;
                let kernel: usize = spec.kernel_shape.iter().product();
                let values: usize = inputs.first()?.shape.as_concrete()?.iter().product();
                values.checked_mul(spec.output_channels / deconv.group.max(1))?.checked_mul(kernel)? as u64
            } else if node.op_is::<Conv>() || node.op_is::<EinSum>() {
                let costs = node.op.cost(&inputs).ok()?;
                let macs = costs.iter().filter(|(cost, _)| matches!(cost, Cost::FMA(_)));
                macs.map(|(_, count)| count.to_i64().ok().and_then(|count| u64::try_from(count).ok()))
                    .sum::<Option<u64>>()?
            } else {
                0
            };
            total = total.checked_add(macs)?;
        }
        Some(total)
    }

    fn start(&self) -> std::result::Result<Box<dyn Running>, Reason> {
        guarded("tract cannot optimise it", || {
            let model = self.model.clone().into_optimized()?;
            let input = |index: usize| {
                let fact = model.input_fact(index)?;
                let shape = fact.shape.as_concrete().context("the batch size is not bound")?;
                Ok(Tensor::zero_dt(fact.datum_type, shape)?.into_arc_tensor())
            };
            let inputs = (0..model.input_outlets()?.len()).map(input).collect::<TractResult<_>>()?;
            let executor = match self.threads {
                0 | 1 => Executor::SingleThread,
                threads => Executor::multithread(threads),
            };
            let options = RunOptions { executor: Some(executor), ..RunOptions::default() };
            let plan = SimplePlan::new_with_options(model, &options)?;
            let state = plan.spawn()?;
            let remembers = state.op_states.iter().any(Option::is_some);
            Ok(Box::new(Ready(Mutex::new(Inner { state, inputs, remembers }))) as Box<dyn Running>)
        })
    }

    fn copy(&self) -> Box<dyn Prepared> {
        Box::new(self.clone())
    }
}

/// A network that tract runs.
struct Ready(Mutex<Inner>);

struct Inner {
    state: TypedSimpleState,
    inputs: Vec<Arc<Tensor>>,
    /// Whether a run leaves something for the next.
    remembers: bool,
}

impl Running for Ready {
    fn run(
        &mut self,
        fill: &mut dyn FnMut(usize, Slot<'_>),
        take: &mut dyn FnMut(&[f32], usize),
    ) -> std::result::Result<(), Reason> {
        let Inner { state, inputs, remembers } = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        guarded("tract failed while it ran", || {
            for (index, input) in inputs.iter_mut().enumerate() {
                let integers = input.datum_type() == i64::datum_type();
                let mut plain = writable(input)?.try_as_plain_ram_mut()?;
                fill(
                    index,
                    match integers {
                        true => Slot::Integers(plain.as_slice_mut::<i64>()?),
                        false => Slot::Floats(plain.as_slice_mut::<f32>()?),
                    },
                );
            }
            if *remembers {
                *state = state.plan().clone().spawn()?;
            }
            let given = inputs.iter().map(|input| TValue::from_const(Arc::clone(input))).collect();
            let results = state.run(given)?;
            for result in &results {
                take(result.try_as_plain_ram()?.as_slice::<f32>()?, results.len());
            }
            Ok(())
        })
    }

    fn copy(&self) -> Box<dyn Running> {
        let Inner { state, inputs, remembers } = &*self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let inputs = inputs.iter().map(|tensor| tensor.as_ref().clone().into_arc_tensor()).collect();
        let inner = Inner { state: state.clone(), inputs, remembers: *remembers };
        Box::new(Self(Mutex::new(inner)))
    }
}

/// An input that can be written.
fn writable(input: &mut Arc<Tensor>) -> TractResult<&mut Tensor> {
    if Arc::get_mut(input).is_none() {
        // Something inside the network still holds the previous input: leave it that one.
        *input = Tensor::zero_dt(input.datum_type(), input.shape())?.into_arc_tensor();
    }
    Arc::get_mut(input).context("a new tensor has one owner")
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is inside of tract, whose panics become errors: see
/// [`quiet_panics`](crate::quiet_panics).
pub(crate) fn is_guarded() -> bool {
    QUIET.get()
}

/// Runs `work` of tract's, which answers some damaged files with a panic: that becomes an error, as its own errors do, in
/// words that tell a user more than tract's.
fn guarded<T>(failing: &str, work: impl FnOnce() -> TractResult<T>) -> std::result::Result<T, Reason> {
    let outer = QUIET.replace(true);
    // A half-changed state is dropped with its owner or only ever run again from its start.
    let result = catch_unwind(AssertUnwindSafe(work));
    QUIET.set(outer);
    match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(_)) | Err(_) => Err(failing.to_string()),
    }
}
