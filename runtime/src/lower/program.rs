//! What runs: steps over planes in one arena, planned when the model is opened. Nothing is allocated per run.

use std::ops::Range;
use std::sync::Arc;

use edgegen_kernels::elements::{self, Binary, Function};
use edgegen_kernels::norms::{Norm, Softmax};
use edgegen_kernels::windows::{self, Pooling, Resize};
use edgegen_kernels::{Axis, Cpu, FloatLayer, Plane, Pool, Product, QuantizedLayer};

use super::Reason;
use super::arena::Arena;
use super::engine::{Running, Slot};
use super::graph::{BinaryLevels, Encoding};
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
        /// Of each value, behind it.
        function: Function,
        from: Buffer,
        to: Buffer,
    },
    Translate {
        table: Box<[u8; 256]>,
        from: Buffer,
        to: Buffer,
    },
    Dequantize {
        encoding: Encoding,
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
    Slopes {
        slopes: Vec<f32>,
        from: Buffer,
        to: Buffer,
    },
    TranslateChannels {
        tables: Vec<[u8; 256]>,
        from: Buffer,
        to: Buffer,
    },
    Binary {
        binary: Binary,
        left: Buffer,
        right: Buffer,
        function: Function,
        to: Buffer,
    },
    BinaryLevels {
        binary: BinaryLevels,
        left: Buffer,
        right: Buffer,
        to: Buffer,
    },
    Softmax {
        softmax: Softmax,
        from: Buffer,
        to: Buffer,
    },
    Norm {
        norm: Box<Norm>,
        /// Of each value, behind it.
        function: Function,
        from: Buffer,
        to: Buffer,
    },
    PoolFloats {
        pooling: Pooling,
        axes: (Axis, Axis),
        from: Buffer,
        to: Buffer,
    },
    /// The largest level.
    PoolLevels {
        axes: (Axis, Axis),
        from: Buffer,
        to: Buffer,
    },
    MeanLevels {
        scale: f32,
        zeros: (u8, u8),
        from: Buffer,
        to: Buffer,
    },
    Resize {
        resize: Box<Resize>,
        from: Buffer,
        to: Buffer,
    },
    Product {
        product: Box<Product>,
        left: Buffer,
        right: Buffer,
        to: Buffer,
    },
    /// As it lies in the plane.
    Constant {
        values: Vec<f32>,
        to: Buffer,
    },
    /// What lies in a plane beside what is moved there.
    FillLevels {
        level: u8,
        to: Buffer,
    },
    FillFloats {
        value: f32,
        to: Buffer,
    },
    /// Another engine's, of values in CHW order; several outputs go one behind the other.
    Other {
        running: Box<dyn Running>,
        from: Vec<Buffer>,
        to: Buffer,
    },
    MoveLevels {
        moves: Moves,
        from: Buffer,
        to: Buffer,
    },
    MoveFloats {
        moves: Moves,
        from: Buffer,
        to: Buffer,
    },
}

/// Values that go elsewhere, in elements of the planes.
#[derive(Clone, Debug)]
pub(super) enum Moves {
    /// Pairs of places, from and to.
    Single(Vec<(u32, u32)>),
    /// Places, from and to, of so many values each.
    Runs { length: usize, places: Vec<(u32, u32)> },
}

impl Moves {
    /// Of pairs of places, from and to, in any order.
    pub(super) fn of(mut pairs: Vec<(u32, u32)>) -> Self {
        pairs.sort_unstable_by_key(|(_, to)| *to);
        let follows = |one: (u32, u32), other: (u32, u32)| one.0 + 1 == other.0 && one.1 + 1 == other.1;
        // the greatest length that all runs are a multiple of
        let (mut common, mut length) = (0, 1);
        for pair in pairs.windows(2) {
            if follows(pair[0], pair[1]) {
                length += 1;
            } else {
                common = gcd(length, common);
                length = 1;
            }
        }
        match gcd(length, common) {
            1 => Self::Single(pairs),
            length => Self::Runs { length, places: pairs.into_iter().step_by(length).collect() },
        }
    }

    fn run<T: Copy>(&self, x: &[T], y: &mut [T]) {
        match self {
            Self::Single(pairs) => {
                pairs.iter().for_each(|(from, to)| y[*to as usize] = x[*from as usize]);
            }
            Self::Runs { length, places } => {
                for (from, to) in places {
                    let source = &x[*from as usize..][..*length];
                    y[*to as usize..][..*length].copy_from_slice(source);
                }
            }
        }
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
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
    pub(super) cpu: Cpu,
    pub(super) steps: Vec<Step>,
    pub(super) exits: Vec<Exit>,
    pub(super) levels: Arena<u8>,
    pub(super) floats: Arena<f32>,
    pub(super) level_scratch: Vec<u8>,
    pub(super) float_scratch: Vec<f32>,
    /// Threads that share large layers.
    pub(super) pool: Option<Pool>,
}

impl Clone for Program {
    fn clone(&self) -> Self {
        Self {
            cpu: self.cpu,
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

/// Two ranges of an arena to read, which may be the same, and another to write.
fn both<'a, T>(arena: &'a mut [T], from: [&Buffer; 2], to: &Buffer) -> ([&'a [T]; 2], &'a mut [T]) {
    let (low, rest) = arena.split_at_mut(to.memory.start);
    let (target, high) = rest.split_at_mut(to.memory.end - to.memory.start);
    let (low, high): (&[T], &[T]) = (low, high);
    let source = |buffer: &Buffer| match buffer.memory.start < to.memory.start {
        true => &low[buffer.memory.clone()],
        false => &high[buffer.memory.start - to.memory.end..buffer.memory.end - to.memory.end],
    };
    (from.map(source), target)
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
                        self.cpu,
                        &from.plane,
                        &self.levels[from.memory.clone()],
                        table,
                        output,
                    );
                }
                Exit::Floats { from, function } => {
                    elements::leave(&from.plane, &self.floats[from.memory.clone()], output);
                    elements::apply(self.cpu, *function, output);
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
            elements::look_up_bytes(self.cpu, &from.plane, &self.levels[from.memory.clone()], table, hwc);
        }
        Ok(())
    }

    fn steps(&mut self, input: &[f32], class: u32, after: &mut impl FnMut(usize)) -> Result<(), Reason> {
        let Self { cpu, steps, levels, floats, level_scratch, float_scratch, pool, .. } = self;
        let cpu = *cpu;
        let isa = cpu.isa();
        let border =
            |memory: &mut [u8], to: &Buffer| to.plane.fill_border(memory, elements::flipped(isa, to.zero));
        for (index, step) in steps.iter_mut().enumerate() {
            match step {
                Step::EnterLevels { encoding, to } => {
                    let memory = &mut levels[to.memory.clone()];
                    elements::quantize(cpu, input, encoding.scale, encoding.zero, &to.plane, memory);
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
                Step::Float { layer, function, from, to } => {
                    let (x, y) = split(floats, from, to);
                    match pool.as_mut().filter(|_| layer.macs() >= WORTH_SHARING) {
                        Some(pool) => layer.run_on(pool, x, y, float_scratch),
                        None => layer.run(x, y, float_scratch),
                    }
                    if *function != Function::Identity {
                        elements::apply_rows(cpu, *function, (&to.plane, y));
                    }
                    to.plane.fill_border(y, 0.0);
                }
                Step::Translate { table, from, to } => {
                    let (x, y) = split(levels, from, to);
                    elements::translate(cpu, (&from.plane, x), table, (&to.plane, y));
                    border(y, to);
                }
                Step::Dequantize { encoding, from, to } => {
                    let (x, y) = (&levels[from.memory.clone()], &mut floats[to.memory.clone()]);
                    let source = (&from.plane, x);
                    elements::dequantize_plane(cpu, source, encoding.scale, encoding.zero, (&to.plane, y));
                    to.plane.fill_border(y, 0.0);
                }
                Step::LookUp { table, from, to } => {
                    let (x, y) = (&levels[from.memory.clone()], &mut floats[to.memory.clone()]);
                    elements::look_up_plane(cpu, (&from.plane, x), table, (&to.plane, y));
                    to.plane.fill_border(y, 0.0);
                }
                Step::Quantize { encoding, from, to } => {
                    let (x, y) = (&floats[from.memory.clone()], &mut levels[to.memory.clone()]);
                    let source = (&from.plane, x);
                    elements::quantize_plane(cpu, source, encoding.scale, encoding.zero, (&to.plane, y));
                    border(y, to);
                }
                Step::Function { function, from, to } => {
                    let (x, y) = split(floats, from, to);
                    elements::map(cpu, *function, (&from.plane, x), (&to.plane, y));
                    to.plane.fill_border(y, 0.0);
                }
                Step::Affine { scale, shift, from, to } => {
                    let (x, y) = split(floats, from, to);
                    elements::affine(cpu, (&from.plane, x), scale, shift, (&to.plane, y));
                    to.plane.fill_border(y, 0.0);
                }
                Step::Slopes { slopes, from, to } => {
                    let (x, y) = split(floats, from, to);
                    elements::slopes(cpu, slopes, (&from.plane, x), (&to.plane, y));
                    to.plane.fill_border(y, 0.0);
                }
                Step::TranslateChannels { tables, from, to } => {
                    let (x, y) = split(levels, from, to);
                    elements::translate_channels(cpu, (&from.plane, x), tables, (&to.plane, y));
                    border(y, to);
                }
                Step::Binary { binary, left, right, function, to } => {
                    let ([left_values, right_values], y) = both(floats, [left, right], to);
                    let operands = ((&left.plane, left_values), (&right.plane, right_values));
                    elements::binary(cpu, *binary, operands, *function, (&to.plane, y));
                    to.plane.fill_border(y, 0.0);
                }
                Step::BinaryLevels { binary, left, right, to } => {
                    let ([left_levels, right_levels], y) = both(levels, [left, right], to);
                    let BinaryLevels { binary, left: one, right: other, to: made, low, high } = *binary;
                    let operands =
                        ((&left.plane, left_levels, one.into()), (&right.plane, right_levels, other.into()));
                    elements::binary_levels(cpu, binary, operands, (made.into(), low, high), (&to.plane, y));
                    border(y, to);
                }
                Step::Softmax { softmax, from, to } => {
                    let (x, y) = split(floats, from, to);
                    softmax.run(cpu, (&from.plane, x), (&to.plane, y));
                    to.plane.fill_border(y, 0.0);
                }
                Step::Norm { norm, function, from, to } => {
                    let (x, y) = split(floats, from, to);
                    norm.run(cpu, (&from.plane, x), (&to.plane, y));
                    if *function != Function::Identity {
                        elements::apply_rows(cpu, *function, (&to.plane, y));
                    }
                    to.plane.fill_border(y, 0.0);
                }
                Step::PoolFloats { pooling, axes, from, to } => {
                    let (x, y) = split(floats, from, to);
                    match pooling {
                        Pooling::Max => windows::largest(cpu, *axes, (&from.plane, x), (&to.plane, y)),
                        mean => windows::mean(cpu, *mean, *axes, (&from.plane, x), (&to.plane, y)),
                    }
                    to.plane.fill_border(y, 0.0);
                }
                Step::PoolLevels { axes, from, to } => {
                    let (x, y) = split(levels, from, to);
                    windows::largest_levels(cpu, *axes, (&from.plane, x), (&to.plane, y));
                    border(y, to);
                }
                Step::MeanLevels { scale, zeros, from, to } => {
                    let (x, y) = split(levels, from, to);
                    windows::mean_levels(cpu, (*scale, zeros.0, zeros.1), (&from.plane, x), (&to.plane, y));
                    border(y, to);
                }
                Step::Resize { resize, from, to } => {
                    let (x, y) = split(floats, from, to);
                    resize.run(cpu, (&from.plane, x), (&to.plane, y));
                    to.plane.fill_border(y, 0.0);
                }
                Step::Product { product, left, right, to } => {
                    let ([left, right], y) = both(floats, [left, right], to);
                    product.run(left, right, y);
                    to.plane.fill_border(y, 0.0);
                }
                Step::Constant { values, to } => {
                    floats[to.memory.clone()][..values.len()].copy_from_slice(values)
                }
                Step::FillLevels { level, to } => {
                    levels[to.memory.clone()].fill(elements::flipped(isa, *level));
                }
                Step::FillFloats { value, to } => floats[to.memory.clone()].fill(*value),
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
                Step::MoveLevels { moves, from, to } => {
                    let (x, y) = split(levels, from, to);
                    moves.run(x, y);
                    border(y, to);
                }
                Step::MoveFloats { moves, from, to } => {
                    let (x, y) = split(floats, from, to);
                    moves.run(x, y);
                    to.plane.fill_border(y, 0.0);
                }
            }
            after(index);
        }
        Ok(())
    }
}
