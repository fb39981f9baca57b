//! tract: what runs networks that the kernels do not know in whole.
//!
//! ONNX graph → `TypedModel` → something that runs. The batch size is bound before anything is optimised: a symbolic one
//! costs tract 2.7 times as much per run. One state is kept for all runs: `plan.run()` would set up a new one each time.

use super::limits;
use super::network::Reason;
use crate::error::one_line;
use crate::onnx::ModelProto;
use prost::Message;
use std::cell::Cell;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, Once, PoisonError};
use tract_core::internal::*;
use tract_core::ops::cnn::{Conv, Deconv};
use tract_core::ops::einsum::EinSum;
use tract_core::plan::SimplePlan;
use tract_linalg::multithread::{Executor, set_default_executor};
use tract_onnx::pb;
use tract_onnx::tract_hir::infer::{InferenceFact, InferenceModel, InferenceModelExt};

/// Whether there is tract.
pub(crate) const HERE: bool = true;

/// The names of ONNX's operators that tract has.
pub(super) fn operators() -> HashSet<String> {
    tract_onnx::onnx().op_register.0.into_keys().collect()
}

/// Sets the number of threads of networks that are made from now on.
pub(crate) fn set_threads(count: usize) {
    set_default_executor(if count == 1 { Executor::SingleThread } else { Executor::multithread(count) });
}

/// A graph with all types and shapes, for a number of rows.
#[derive(Clone, Debug)]
pub(crate) struct Typed(TypedModel);

/// Gives every tensor of the graph a fixed type and shape. `shape` is that of the first input; a second one tells
/// the class of each row.
pub(super) fn typed_rows(proto: &ModelProto, shape: &[usize]) -> std::result::Result<Typed, Reason> {
    parse(proto, |model| {
        model.set_input_fact(0, InferenceFact::dt_shape(f32::datum_type(), shape))?;
        if model.input_outlets()?.len() > 1 {
            model.set_input_fact(1, InferenceFact::dt_shape(i64::datum_type(), &shape[..1]))?;
        }
        Ok(())
    })
}

/// Gives every tensor of a graph, whose inputs are float32 and of these shapes, a fixed type and shape.
pub(crate) fn typed(proto: &ModelProto, shapes: &[Vec<usize>]) -> std::result::Result<Typed, Reason> {
    parse(proto, |model| {
        for (index, shape) in shapes.iter().enumerate() {
            model.set_input_fact(index, InferenceFact::dt_shape(f32::datum_type(), shape))?;
        }
        Ok(())
    })
}

fn parse(
    proto: &ModelProto,
    bind: impl FnOnce(&mut InferenceModel) -> TractResult<()>,
) -> std::result::Result<Typed, Reason> {
    guarded(|| {
        let proto = pb::ModelProto::decode(proto.encode_to_vec().as_slice())?;
        // Declared shapes of inner values may hold a symbolic batch size: the bound one counts.
        let onnx = tract_onnx::onnx().with_ignore_value_info(true);
        let parsed = onnx.parse(&proto, None)?;
        ensure!(parsed.unresolved_inputs.is_empty(), "nothing defines {:?}", parsed.unresolved_inputs);
        let mut model = parsed.model;
        bind(&mut model)?;
        let model = model.into_typed()?;
        check_sizes(&model)?;
        Ok(Typed(model))
    })
}

/// No tensor may be so large that computing it would exhaust the memory.
fn check_sizes(model: &TypedModel) -> TractResult<()> {
    for node in model.nodes() {
        for output in &node.outputs {
            let shape = output.fact.shape.as_concrete();
            let shape = shape
                .with_context(|| format!("the shape of {} depends on more than the batch", node.name))?;
            let values = shape.iter().try_fold(1usize, |product, dim| product.checked_mul(*dim));
            ensure!(
                values.is_some_and(|values| values <= limits::MAX_TENSOR_VALUES),
                "{} would hold {shape:?} values, too many",
                node.name
            );
        }
    }
    Ok(())
}

impl Typed {
    /// The fixed shape of output `index`, if it is float32.
    pub(crate) fn output_shape(&self, index: usize) -> Option<Vec<usize>> {
        let fact = self.0.output_fact(index).ok()?;
        let shape = fact.shape.as_concrete()?.to_vec();
        (fact.datum_type == f32::datum_type()).then_some(shape)
    }

    /// Multiply-accumulates of one run: convolutions and matrix products, the useful ones alone. A
    /// transposed convolution counts input positions × input channels × output channels × kernel.
    pub(crate) fn macs(&self) -> Option<u64> {
        let mut total = 0u64;
        for node in self.0.nodes() {
            let inputs = self.0.node_input_facts(node.id).ok()?;
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
}

/// A network that tract runs.
pub(crate) struct Stock {
    state: TypedSimpleState,
    /// Float32; the second of a whole network is the class of each row, int64 (N).
    inputs: Vec<Arc<Tensor>>,
}

impl Stock {
    /// Optimises a typed graph for this CPU and sets up its state.
    pub(super) fn new(Typed(model): Typed) -> std::result::Result<Self, Reason> {
        guarded(|| {
            let model = model.into_optimized()?;
            let input = |index: usize| {
                let fact = model.input_fact(index)?;
                let shape = fact.shape.as_concrete().context("the batch size is not bound")?;
                Ok(Tensor::zero_dt(fact.datum_type, shape)?.into_arc_tensor())
            };
            let inputs = (0..model.input_outlets()?.len()).map(input).collect::<TractResult<_>>()?;
            let state = SimplePlan::new(model)?.spawn()?;
            Ok(Self { state, inputs })
        })
    }

    fn turn(&mut self) -> TractResult<TVec<TValue>> {
        self.state.run(self.inputs.iter().map(|input| TValue::from_const(Arc::clone(input))).collect())
    }

    /// See [`Network::run`](super::Network::run).
    pub(super) fn run(
        &mut self,
        input: &[f32],
        classes: &[u32],
        outputs: &mut [&mut [f32]],
    ) -> std::result::Result<(), Reason> {
        guarded(|| {
            fill(&mut self.inputs[0], input)?;
            if let Some(told) = self.inputs.get_mut(1) {
                let classes: TVec<i64> = classes.iter().map(|class| i64::from(*class)).collect();
                fill(told, &classes)?;
            }
            let results = self.turn()?;
            for (output, result) in outputs.iter_mut().zip(&results) {
                let plain = result.try_as_plain_ram()?;
                let values = plain.as_slice::<f32>()?.get(..output.len());
                output.copy_from_slice(values.context("the network's output is too short")?);
            }
            Ok(())
        })
    }
}

/// A part of a network that kernels run else, for one picture. Threads may share it; who runs it has it alone.
pub(crate) struct StockPart(Mutex<Stock>);

impl Clone for StockPart {
    /// With inputs and a state of its own; weights are shared.
    fn clone(&self) -> Self {
        let Stock { state, inputs } = &*self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let inputs = inputs.iter().map(|tensor| tensor.as_ref().clone().into_arc_tensor()).collect();
        Self(Mutex::new(Stock { state: state.clone(), inputs }))
    }
}

impl StockPart {
    pub(crate) fn new(typed: Typed) -> std::result::Result<Self, Reason> {
        Ok(Self(Mutex::new(Stock::new(typed)?)))
    }

    /// Runs it: `fill` is given each input to be written, by its number, `take` each of `count` outputs.
    pub(crate) fn run(
        &mut self,
        mut fill: impl FnMut(usize, &mut [f32]),
        mut take: impl FnMut(&[f32], usize),
    ) -> std::result::Result<(), Reason> {
        let stock = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        guarded(|| {
            for (index, input) in stock.inputs.iter_mut().enumerate() {
                fill(index, writable(input)?.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?);
            }
            let results = stock.turn()?;
            for result in &results {
                take(result.try_as_plain_ram()?.as_slice::<f32>()?, results.len());
            }
            Ok(())
        })
    }
}

/// Sets the first values of an input, and the others to zero.
fn fill<T: Datum + Copy + Default>(input: &mut Arc<Tensor>, values: &[T]) -> TractResult<()> {
    let mut plain = writable(input)?.try_as_plain_ram_mut()?;
    let target = plain.as_slice_mut::<T>()?;
    ensure!(values.len() <= target.len(), "more input than the bound batch");
    let (given, rest) = target.split_at_mut(values.len());
    given.copy_from_slice(values);
    rest.fill(T::default());
    Ok(())
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

/// Runs `work` of tract's, which answers some damaged files with a panic: that becomes an error,
/// and its message, which would only puzzle a user, is not printed.
fn guarded<T>(work: impl FnOnce() -> TractResult<T>) -> std::result::Result<T, Reason> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                previous(info);
            }
        }));
    });
    let outer = QUIET.replace(true);
    // A half-changed state is dropped with its owner or only ever run again from its start.
    let result = catch_unwind(AssertUnwindSafe(work));
    QUIET.set(outer);
    match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(one_line(format_args!("{error:#}"))),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
            Err(one_line(format_args!("the inference engine gave up on it: {text}")))
        }
    }
}
