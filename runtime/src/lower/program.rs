//! What runs: steps over planes in one arena, planned when the model is opened. Nothing is allocated per run.

use std::ops::Range;
use std::sync::Arc;

use edgegen_kernels::elements::{self, Function};
use edgegen_kernels::{FloatLayer, Isa, Plane, Pool, QuantizedLayer};

use super::Reason;
use super::engine::{Running, Slot};
use super::graph::Encoding;
use crate::kinds::Range as PictureRange;

/// A plane in the arena of its type.
#[derive(Clone, Debug)]
pub(super) struct Buffer {
    pub(super) plane: Plane,
    /// With what kernels may read behind it.
    pub(super) memory: Range<usize>,
    /// What its border holds: the zero point; unused for floats.
    pub(super) zero: u8,
}

/// What is done to planes.
#[derive(Clone)]
pub(super) enum Step {
    /// The input, CHW, into a plane of levels.
    EnterLevels {
        encoding: Encoding,
        to: Buffer,
    },
    /// The input, CHW, into a plane.
    EnterFloats {
        to: Buffer,
    },
    /// The row of the class, as it lies in the plane.
    ClassFloats {
        classes: usize,
        table: Vec<f32>,
        to: Buffer,
    },
    ClassLevels {
        classes: usize,
        table: Vec<u8>,
        to: Buffer,
    },
    Quantized {
        layer: Arc<QuantizedLayer>,
        from: Buffer,
        to: Buffer,
    },
    Float {
        layer: Arc<FloatLayer>,
        from: Buffer,
        to: Buffer,
    },
    Translate {
        table: Box<[u8; 256]>,
        from: Buffer,
        to: Buffer,
    },
    LookUp {
        table: Box<[f32; 256]>,
        from: Buffer,
        to: Buffer,
    },
    Quantize {
        encoding: Encoding,
        from: Buffer,
        to: Buffer,
    },
    Function {
        function: Function,
        from: Buffer,
        to: Buffer,
    },
    /// One of each for every value, HWC.
    Affine {
        scale: Vec<f32>,
        shift: Vec<f32>,
        from: Buffer,
        to: Buffer,
    },
    Add {
        left: Buffer,
        right: Buffer,
        function: Function,
        to: Buffer,
    },
    /// Of a vector's values, which lie in their plane as they are.
    Softmax {
        from: Buffer,
        to: Buffer,
    },
    /// Another engine's, of values in CHW order; several outputs go one behind the other.
    Other {
        running: Box<dyn Running>,
        from: Vec<Buffer>,
        to: Buffer,
    },
    /// Pairs of places, from and to, in elements of the planes.
    MoveLevels {
        pairs: Vec<(u32, u32)>,
        from: Buffer,
        to: Buffer,
    },
    MoveFloats {
        pairs: Vec<(u32, u32)>,
        from: Buffer,
        to: Buffer,
    },
}

/// How an output leaves.
#[derive(Clone)]
pub(super) enum Exit {
    Levels { from: Buffer, table: Box<[f32; 256]> },
    Floats { from: Buffer, function: Function },
}

/// Work below this many multiply-accumulates is not worth sharing.
const WORTH_SHARING: u64 = 200_000;

/// A network that is ready to draw one picture after the other. Copies share weights, not threads.
pub(crate) struct Program {
    pub(super) isa: Isa,
    pub(super) steps: Vec<Step>,
    pub(super) exits: Vec<Exit>,
    pub(super) levels: Vec<u8>,
    pub(super) floats: Vec<f32>,
    pub(super) level_scratch: Vec<u8>,
    pub(super) float_scratch: Vec<f32>,
    /// Threads that share large layers.
    pub(super) pool: Option<Pool>,
}

impl Clone for Program {
    fn clone(&self) -> Self {
        Self {
            isa: self.isa,
            steps: self.steps.clone(),
            exits: self.exits.clone(),
            levels: self.levels.clone(),
            floats: self.floats.clone(),
            level_scratch: self.level_scratch.clone(),
            float_scratch: self.float_scratch.clone(),
            pool: None,
        }
    }
}

/// One range of an arena to read and another to write.
fn split<'a, T>(arena: &'a mut [T], from: &Buffer, to: &Buffer) -> (&'a [T], &'a mut [T]) {
    let (from, to) = (from.memory.clone(), to.memory.clone());
    if from.end <= to.start {
        let (low, high) = arena.split_at_mut(to.start);
        (&low[from], &mut high[..to.end - to.start])
    } else {
        let (low, high) = arena.split_at_mut(from.start);
        (&high[..from.end - from.start], &mut low[to])
    }
}

impl Program {
    /// Shares large layers among threads from now on.
    pub(crate) fn share(&mut self, threads: usize) -> std::io::Result<()> {
        if threads > 1 {
            self.pool = Some(Pool::new(threads)?);
            self.level_scratch.resize(self.level_scratch.len() * threads, 0);
            self.float_scratch.resize(self.float_scratch.len() * threads, 0.0);
        }
        Ok(())
    }

    /// Draws or encodes one picture: `input` in CHW order, `class` if the network is told one. Each of `outputs`
    /// receives the output of that number, CHW.
    ///
    /// # Errors
    /// If another engine runs a part of it and fails.
    pub(crate) fn run(
        &mut self,
        input: &[f32],
        class: u32,
        outputs: &mut [&mut [f32]],
    ) -> Result<(), Reason> {
        self.timed(input, class, outputs, |_| ())
    }

    /// [`Self::run`], with a call behind each step and each output, by their number.
    pub(crate) fn timed(
        &mut self,
        input: &[f32],
        class: u32,
        outputs: &mut [&mut [f32]],
        mut after: impl FnMut(usize),
    ) -> Result<(), Reason> {
        self.steps(input, class, &mut after)?;
        for (index, (exit, output)) in self.exits.iter().zip(outputs).enumerate() {
            match exit {
                Exit::Levels { from, table } => {
                    elements::look_up(
                        self.isa,
                        &from.plane,
                        &self.levels[from.memory.clone()],
                        table,
                        output,
                    );
                }
                Exit::Floats { from, function } => {
                    elements::leave(&from.plane, &self.floats[from.memory.clone()], output);
                    function.apply(output);
                }
            }
            after(self.steps.len() + index);
        }
        Ok(())
    }

    /// How many classes there are, if the network has a row for each.
    pub(crate) fn classes(&self) -> Option<usize> {
        let known = self.steps.iter().filter_map(|step| match step {
            Step::ClassFloats { classes, .. } | Step::ClassLevels { classes, .. } => Some(*classes),
            _ => None,
        });
        known.min()
    }

    /// Whether there is a row for a class.
    pub(crate) fn check_class(&self, class: u32) -> Result<(), String> {
        match self.classes() {
            Some(known) if class as usize >= known => {
                Err(format!("there is no class {class}: there are {known}"))
            }
            _ => Ok(()),
        }
    }

    /// The table from the levels of the first output to pixels, if it leaves as levels.
    pub(crate) fn pixel_table(&self, range: PictureRange) -> Option<Box<[u8; 256]>> {
        match self.exits.first()? {
            Exit::Levels { table, .. } => Some(Box::new(table.map(|value| range.pixel(value)))),
            Exit::Floats { .. } => None,
        }
    }

    /// Draws one picture as pixels, HWC, through a table of [`Self::pixel_table`].
    pub(crate) fn pixels(
        &mut self,
        input: &[f32],
        class: u32,
        table: &[u8; 256],
        hwc: &mut [u8],
    ) -> Result<(), Reason> {
        self.steps(input, class, &mut |_| ())?;
        if let Some(Exit::Levels { from, .. }) = self.exits.first() {
            elements::look_up_bytes(self.isa, &from.plane, &self.levels[from.memory.clone()], table, hwc);
        }
        Ok(())
    }

    fn steps(&mut self, input: &[f32], class: u32, after: &mut impl FnMut(usize)) -> Result<(), Reason> {
        let Self { isa, steps, levels, floats, level_scratch, float_scratch, pool, .. } = self;
        let isa = *isa;
        let border =
            |memory: &mut [u8], to: &Buffer| to.plane.fill_border(memory, elements::flipped(isa, to.zero));
        for (index, step) in steps.iter_mut().enumerate() {
            match step {
                Step::EnterLevels { encoding, to } => {
                    let memory = &mut levels[to.memory.clone()];
                    elements::quantize(isa, input, encoding.scale, encoding.zero, &to.plane, memory);
                    border(memory, to);
                }
                Step::EnterFloats { to } => {
                    let memory = &mut floats[to.memory.clone()];
                    elements::enter(input, &to.plane, memory);
                    to.plane.fill_border(memory, 0.0);
                }
                Step::ClassFloats { classes, table, to } => {
                    let size = table.len() / *classes;
                    let row = &table[(class as usize).min(*classes - 1) * size..][..size];
                    floats[to.memory.clone()][..size].copy_from_slice(row);
                }
                Step::ClassLevels { classes, table, to } => {
                    let size = table.len() / *classes;
                    let row = &table[(class as usize).min(*classes - 1) * size..][..size];
                    levels[to.memory.clone()][..size].copy_from_slice(row);
                }
                Step::Quantized { layer, from, to } => {
                    let (x, y) = split(levels, from, to);
                    match pool.as_mut().filter(|_| layer.macs() >= WORTH_SHARING) {
                        Some(pool) => layer.run_on(pool, x, y, level_scratch),
                        None => layer.run(x, y, level_scratch),
                    }
                    border(y, to);
                }
                Step::Float { layer, from, to } => {
                    let (x, y) = split(floats, from, to);
                    match pool.as_mut().filter(|_| layer.macs() >= WORTH_SHARING) {
                        Some(pool) => layer.run_on(pool, x, y, float_scratch),
                        None => layer.run(x, y, float_scratch),
                    }
                    to.plane.fill_border(y, 0.0);
                }
                Step::Translate { table, from, to } => {
                    let (x, y) = split(levels, from, to);
                    elements::translate(isa, (&from.plane, x), table, (&to.plane, y));
                    border(y, to);
                }
                Step::LookUp { table, from, to } => {
                    let (x, y) = (&levels[from.memory.clone()], &mut floats[to.memory.clone()]);
                    elements::look_up_plane(isa, (&from.plane, x), table, (&to.plane, y));
                    to.plane.fill_border(y, 0.0);
                }
                Step::Quantize { encoding, from, to } => {
                    let (x, y) = (&floats[from.memory.clone()], &mut levels[to.memory.clone()]);
                    let source = (&from.plane, x);
                    elements::quantize_plane(isa, source, encoding.scale, encoding.zero, (&to.plane, y));
                    border(y, to);
                }
                Step::Function { function, from, to } => {
                    let (x, y) = split(floats, from, to);
                    elements::map(*function, (&from.plane, x), (&to.plane, y));
                    to.plane.fill_border(y, 0.0);
                }
                Step::Affine { scale, shift, from, to } => {
                    let (x, y) = split(floats, from, to);
                    elements::affine((&from.plane, x), scale, shift, (&to.plane, y));
                    to.plane.fill_border(y, 0.0);
                }
                Step::Add { left, right, function, to } => {
                    let (x, y) = split(floats, left, to);
                    elements::map(Function::Identity, (&left.plane, x), (&to.plane, y));
                    let (x, y) = split(floats, right, to);
                    elements::add((&right.plane, x), *function, (&to.plane, y));
                    to.plane.fill_border(y, 0.0);
                }
                Step::Softmax { from, to } => {
                    let (x, y) = split(floats, from, to);
                    let values = to.plane.values();
                    elements::softmax(&x[..values], &mut y[..values]);
                }
                Step::Other { running, from, to } => {
                    let floats = std::cell::RefCell::new(&mut *floats);
                    let mut first = 0;
                    running.run(
                        &mut |index, slot| {
                            let (Some(from), Slot::Floats(values)) = (from.get(index), slot) else { return };
                            elements::leave(&from.plane, &floats.borrow()[from.memory.clone()], values);
                        },
                        &mut |values, count| {
                            let memory = &mut floats.borrow_mut()[to.memory.clone()];
                            if count > 1 {
                                // a vector lies in its plane as it is
                                memory[first..first + values.len()].copy_from_slice(values);
                                first += values.len();
                            } else {
                                elements::enter(values, &to.plane, memory);
                                to.plane.fill_border(memory, 0.0);
                            }
                        },
                    )?;
                }
                Step::MoveLevels { pairs, from, to } => {
                    let (x, y) = split(levels, from, to);
                    pairs.iter().for_each(|(from, to)| y[*to as usize] = x[*from as usize]);
                    border(y, to);
                }
                Step::MoveFloats { pairs, from, to } => {
                    let (x, y) = split(floats, from, to);
                    pairs.iter().for_each(|(from, to)| y[*to as usize] = x[*from as usize]);
                    to.plane.fill_border(y, 0.0);
                }
            }
            after(index);
        }
        Ok(())
    }
}
