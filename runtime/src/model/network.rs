//! Networks, whoever runs them: which engine takes a graph, and what is ready to run.

use super::facts::check_batch;
use super::graph::Selection;
use super::options::EngineChoice;
use super::{Machine, shape_of};
use crate::error::one_line;
use crate::limits;
use crate::lower::engine::{Engine, Entry, Prepared, Running, Slot};
use crate::lower::{self, Done, Others, Program, Reason, Refusal, Source};
use crate::onnx::{GraphProto, ModelProto, NodeProto, TensorProto};

/// The engine that runs what has no kernel, if there is one in this build.
pub(super) fn other_engine() -> Option<&'static dyn Engine> {
    #[cfg(feature = "tract")]
    return Some(&super::tract::Tract);
    #[cfg(not(feature = "tract"))]
    None
}

/// A graph as it was selected, and what it is to be run on.
pub(super) struct Wanted<'a> {
    /// The float32 input, the shape of its rows, and the input that tells each picture's class.
    pub(super) input: &'a str,
    pub(super) row: &'a [usize],
    pub(super) class: Option<&'a str>,
    /// Batches that another engine is bound to: the first that the graph follows.
    pub(super) batches: &'a [usize],
    /// Whether it is given one picture at a time, whatever it may do to a batch.
    pub(super) one_picture: bool,
    /// Whether another engine may run parts between the kernels.
    pub(super) mixed: bool,
    /// Whether layers are computed in float16 where the CPU can.
    pub(super) halves: bool,
    pub(super) engine: EngineChoice,
    pub(super) machine: Machine,
}

/// A network that something can run.
pub(super) struct Ready {
    pub(super) runner: Runner,
    /// The shape of each output, batch and all, if it is float32.
    pub(super) shapes: Vec<Option<Vec<usize>>>,
    pub(super) batch: usize,
    /// Multiply-accumulates of `batch` rows.
    pub(super) macs: Option<u64>,
    /// Who runs each node, or why the kernels do not.
    pub(super) runners: Result<Vec<String>, String>,
    pub(super) steps: Vec<Done>,
}

/// What runs a network.
pub(super) enum Runner {
    /// The kernels, picture by picture.
    Kernels(Box<Program>),
    /// Another engine.
    Other(Box<Whole>),
}

/// A whole network for another engine.
pub(super) struct Whole {
    network: ModelProto,
    prepared: Box<dyn Prepared>,
    entries: Vec<Entry>,
    threads: usize,
}

/// Finds what runs the graph of a model.
///
/// # Errors
/// What no engine runs, on one line that names the node.
pub(super) fn ready(mut proto: ModelProto, wanted: &Wanted<'_>) -> Result<(Ready, ModelProto), Reason> {
    let other = other_engine();
    let onnx = proto.graph.as_ref().ok_or("it holds no graph")?;
    let source = Source {
        onnx,
        opsets: &proto.opset_import,
        input: wanted.input,
        row: wanted.row,
        class_input: wanted.class,
    };
    let refusal = match wanted.engine {
        EngineChoice::Tract => None,
        choice => {
            let mixed = wanted.mixed && choice == EngineChoice::Auto;
            let others = other.filter(|_| mixed).map(|engine| Others {
                engine,
                opsets: &proto.opset_import,
                one_picture: wanted.one_picture,
                threads: wanted.machine.threads(),
            });
            match lower::lower(&source, wanted.machine.cpu(), others, wanted.halves) {
                Ok(lowered) => {
                    let batch = wanted.batches.first().copied().unwrap_or(1);
                    let ready = Ready {
                        shapes: lowered.outputs.iter().map(|row| Some(shape_of(batch, row))).collect(),
                        macs: lowered.macs.checked_mul(batch as u64),
                        runners: Ok(lowered.runners),
                        steps: lowered.steps,
                        runner: Runner::Kernels(Box::new(lowered.program)),
                        batch,
                    };
                    return Ok((ready, proto));
                }
                Err(refusal) => Some(named(onnx, &refusal)),
            }
        }
    };
    let engine = match (other, &refusal, wanted.engine) {
        (Some(engine), ..) if wanted.engine != EngineChoice::Kernels => engine,
        (_, Some(refusal), EngineChoice::Kernels) => return Err(refusal.clone()),
        (_, Some(refusal), _) => return Err(without_tract(refusal)),
        (_, None, _) => return Err(without_tract("tract was asked for")),
    };
    let named = |graph: &GraphProto, (node, reason): (usize, Reason)| named(graph, &Refusal { node, reason });
    if onnx_nodes(&proto) > limits::MAX_FOREIGN_NODES {
        let problem = format!(
            "{} nodes without kernels for all: at most {} are run",
            onnx_nodes(&proto),
            limits::MAX_FOREIGN_NODES
        );
        return Err(refusal.map_or_else(|| problem.clone(), |refusal| both(&refusal, &problem)));
    }
    let original = proto.clone();
    let entries = |batch: usize| {
        let mut entries = vec![Entry { shape: shape_of(batch, wanted.row), integers: false }];
        if wanted.class.is_some() {
            entries.push(Entry { shape: vec![batch], integers: true });
        }
        entries
    };
    if let Some(graph) = &mut proto.graph {
        let first = entries(wanted.batches.first().copied().unwrap_or(1));
        let shape = |part: &ModelProto, name: &str| match name == wanted.input {
            true => Some(first[0].shape.clone()),
            false => engine.prepare(part, &first, 1).ok()?.output_shape(0),
        };
        let brought = lower::for_engine(graph, &proto.opset_import, shape);
        if let Err((node, reason)) = brought {
            let graph = original.graph.clone().unwrap_or_default();
            let foreign = graph.node.get(node).is_some_and(|node| !node.is_onnx());
            let own = named(&graph, (node, reason));
            // of an operator that is not ONNX's the kernels know more
            return Err(refusal.filter(|_| foreign).unwrap_or(own));
        }
    }
    let mut problem = String::new();
    for &batch in wanted.batches {
        let whole = Whole::prepare(&proto, entries(batch), engine, wanted.machine.threads());
        let whole = whole.and_then(|whole| check_batch(&*whole.prepared, batch).map(|()| whole));
        match whole {
            Ok(whole) => {
                let outputs = original.graph.as_ref().map_or(0, |graph| graph.output.len());
                let ready = Ready {
                    shapes: (0..outputs).map(|index| whole.prepared.output_shape(index)).collect(),
                    batch,
                    macs: whole.prepared.macs(),
                    runners: Err(refusal.unwrap_or_else(|| "it was asked for".into())),
                    steps: Vec::new(),
                    runner: Runner::Other(Box::new(whole)),
                };
                return Ok((ready, original));
            }
            Err(reason) => problem = reason,
        }
    }
    Err(match &refusal {
        Some(refusal) => both(refusal, &problem),
        None => problem,
    })
}

/// The constants that nodes of a network make, by their places.
///
/// # Errors
/// What no engine runs, on one line that names the node.
pub(super) fn computed(
    proto: &ModelProto,
    selection: &Selection,
    row: &[usize],
) -> Result<Vec<(usize, TensorProto)>, Reason> {
    let onnx = proto.graph.as_ref().ok_or("it holds no graph")?;
    let opsets = &proto.opset_import;
    let class_input = selection.class_input.as_deref();
    let source = Source { onnx, opsets, input: &selection.input.name, row, class_input };
    let others = other_engine().map(|engine| Others { engine, opsets, one_picture: true, threads: 1 });
    lower::computed(&source, others).map_err(|refusal| named(onnx, &refusal))
}

/// Why neither engine runs a network; of the same node each says its own.
fn both(kernels: &str, other: &str) -> String {
    let node = kernels.split_once("): ").map_or("", |(node, _)| node);
    match other.strip_prefix(node).and_then(|rest| rest.strip_prefix("): ")) {
        Some(rest) if node.starts_with("node ") => one_line(format_args!("{kernels}; and {rest}")),
        _ => one_line(format_args!("{other} ({kernels})")),
    }
}

fn onnx_nodes(network: &ModelProto) -> usize {
    network.graph.as_ref().map_or(0, |graph| graph.node.len())
}

impl Whole {
    fn prepare(
        network: &ModelProto,
        entries: Vec<Entry>,
        engine: &dyn Engine,
        threads: usize,
    ) -> Result<Self, Reason> {
        match engine.prepare(network, &entries, threads) {
            Ok(prepared) => Ok(Self { network: network.clone(), prepared, entries, threads }),
            Err(reason) => {
                let fails = |part: &ModelProto| engine.prepare(part, &entries, threads).is_err();
                let node = first_failing(network, fails);
                Err(node.map_or_else(|| reason.clone(), |node| format!("node {node}: {reason}")))
            }
        }
    }

    /// Optimises it.
    fn start(&self) -> Result<Box<dyn Running>, Reason> {
        self.prepared.start().map_err(|reason| {
            let fails = |part: &ModelProto| {
                let engine = other_engine().ok_or(());
                let started =
                    engine.and_then(|engine| engine.prepare(part, &self.entries, 1).map_err(|_| ()));
                started.and_then(|part| part.start().map_err(|_| ())).is_err()
            };
            let node = first_failing(&self.network, fails);
            node.map_or_else(|| reason.clone(), |node| format!("node {node}: {reason}"))
        })
    }

    /// The same for another batch.
    fn rebound(self, batch: usize) -> Result<Self, Reason> {
        let Self { network, mut entries, threads, .. } = self;
        entries.iter_mut().for_each(|entry| entry.shape[0] = batch);
        let engine = other_engine().ok_or("this build has no tract")?;
        let whole = Self::prepare(&network, entries, engine, threads)?;
        check_batch(&*whole.prepared, batch)?;
        Ok(whole)
    }
}

/// The first node with which a network fails, as it is called in errors.
fn first_failing(network: &ModelProto, fails: impl Fn(&ModelProto) -> bool) -> Option<String> {
    let graph = network.graph.as_ref()?;
    let fails = |count: usize| {
        let mut part = network.clone();
        if let Some(part) = &mut part.graph {
            part.node.truncate(count);
            let last = part.node.last().and_then(|node| node.output.first()).cloned();
            part.output.truncate(1);
            if let (Some(output), Some(last)) = (part.output.first_mut(), last) {
                (output.name, output.r#type) = (last, None);
            }
        }
        fails(&part)
    };
    let (mut sound, mut failing) = (0, graph.node.len());
    while failing - sound > 1 {
        let middle = sound.midpoint(failing);
        if fails(middle) { failing = middle } else { sound = middle }
    }
    graph.node.get(failing.checked_sub(1)?).map(NodeProto::label)
}

/// What the kernels do not know, on one line.
fn named(graph: &GraphProto, refusal: &Refusal) -> String {
    let node = graph.node.get(refusal.node).map(|node| format!("node {}: ", node.label()));
    one_line(format_args!("{}{}", node.unwrap_or_default(), refusal.reason))
}

fn without_tract(reason: &str) -> String {
    format!(
        "{reason}; this program was built without tract, which may run it: build it with --features tract"
    )
}

/// A network that is ready to run.
pub(crate) enum Network {
    /// By the kernels, row by row.
    Kernels(Box<Program>),
    /// By another engine, on a fixed number of rows.
    Other(Box<dyn Running>),
}

impl Network {
    /// Makes it ready for a batch.
    pub(super) fn start(runner: Runner, batch: usize, machine: Machine) -> Result<Self, Reason> {
        match runner {
            Runner::Kernels(mut program) => {
                let threads = machine.threads();
                program.share(threads).map_err(|error| format!("{threads} threads: {error}"))?;
                Ok(Self::Kernels(program))
            }
            Runner::Other(whole) if whole.entries[0].shape[0] == batch => whole.start().map(Self::Other),
            Runner::Other(whole) => whole.rebound(batch)?.start().map(Self::Other),
        }
    }

    /// Another one, for another thread.
    pub(super) fn again(runner: &Runner) -> Result<Self, Reason> {
        match runner {
            Runner::Kernels(program) => Ok(Self::Kernels(program.clone())),
            Runner::Other(whole) => whole.start().map(Self::Other),
        }
    }

    /// Runs once. `input` holds at most the bound number of rows, `row` values each, the rest is taken as 0, and so is
    /// the class of rows behind `classes`, which only a network that is told them looks at; each of `outputs` receives
    /// the first values of the network's output of that number.
    pub(crate) fn run(
        &mut self,
        input: &[f32],
        row: usize,
        classes: &[u32],
        outputs: &mut [&mut [f32]],
    ) -> Result<(), Reason> {
        let program = match self {
            Self::Other(other) => return run_other(&mut **other, input, classes, outputs),
            Self::Kernels(program) => program,
        };
        let rows = (input.len() / row).max(1);
        for (index, input) in input.chunks_exact(row).enumerate() {
            let class = classes.get(index).copied().unwrap_or(0);
            program.check_class(class)?;
            // two outputs at most: mean and log-variance
            match outputs {
                [one] => {
                    let size = one.len() / rows;
                    program.run(input, class, &mut [&mut one[index * size..][..size]])?;
                }
                [one, other] => {
                    let (size, other_size) = (one.len() / rows, other.len() / rows);
                    let one = &mut one[index * size..][..size];
                    program.run(input, class, &mut [one, &mut other[index * other_size..][..other_size]])?;
                }
                _ => return Err("it has more outputs than two".into()),
            }
        }
        Ok(())
    }

    /// Runs one row with a call behind each step, by its number in [`Facts::steps`](super::Facts::steps); there is none
    /// if another engine runs the network.
    pub(crate) fn timed(
        &mut self,
        input: &[f32],
        class: u32,
        outputs: &mut [&mut [f32]],
        after: impl FnMut(usize),
    ) -> Result<(), Reason> {
        match self {
            Self::Other(other) => run_other(&mut **other, input, &[class], outputs),
            Self::Kernels(program) => {
                program.check_class(class)?;
                program.timed(input, class, outputs, after)
            }
        }
    }
}

/// Runs another engine's network: the input is the first that it asks for, the classes the second.
fn run_other(
    other: &mut dyn Running,
    input: &[f32],
    classes: &[u32],
    outputs: &mut [&mut [f32]],
) -> Result<(), Reason> {
    let (mut fed, mut taken, mut index) = (true, true, 0);
    other.run(
        &mut |_, slot| match slot {
            Slot::Floats(target) => fed &= fill(target, input.iter().copied()),
            Slot::Integers(target) => fed &= fill(target, classes.iter().map(|class| i64::from(*class))),
        },
        &mut |values, _| {
            if let Some(output) = outputs.get_mut(index) {
                match values.get(..output.len()) {
                    Some(values) => output.copy_from_slice(values),
                    None => taken = false,
                }
            }
            index += 1;
        },
    )?;
    if fed && taken { Ok(()) } else { Err("its inputs or outputs do not fit the bound batch".into()) }
}

/// Sets the first values of an input, and the others to zero; whether all have a place.
fn fill<T: Copy + Default>(target: &mut [T], values: impl ExactSizeIterator<Item = T>) -> bool {
    let fits = values.len() <= target.len();
    let rest = target.len().min(values.len());
    target[rest..].fill(T::default());
    target.iter_mut().zip(values).for_each(|(place, value)| *place = value);
    fits
}

/// Checks the number of nodes.
pub(super) fn check_size(graph: &GraphProto) -> Result<(), Reason> {
    let nodes = graph.node.len();
    if nodes > limits::MAX_NODES {
        return Err(format!("{nodes} nodes: at most {} are supported", limits::MAX_NODES));
    }
    Ok(())
}
