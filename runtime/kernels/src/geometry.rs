//! Which inputs each output of a layer reads: convolutions, transposed ones, those of an enlarged picture and dense
//! layers all become phases of one shape, so that one kernel serves them all.
//!
//! A phase is a grid of output pixels that read their inputs at the same distances (taps). A convolution has one. A
//! transposed convolution of stride s has s · s, each a small convolution of the input: nothing is inserted between
//! pixels and no product is one with zero.

use alloc::vec;
use alloc::vec::Vec;

use crate::plane::{Border, Plane};
use crate::quantized::Mismatch;

/// Largest number of an [`Axis`]: products of two, and of such with a plane's sides, do not wrap.
const MOST: usize = 1 << 14;

/// One axis of a window that slides over a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) padding: usize,
    pub(crate) dilation: usize,
}

impl Axis {
    /// An axis of `kernel` taps, `dilation` inputs apart. `stride`: inputs from one output to the next; of a transposed
    /// convolution, outputs from one input to the next. `padding`: inputs before the first that the first output reads; of a
    /// transposed convolution, outputs that are cut off.
    ///
    /// # Errors
    /// If one is larger than 16,384, or one but the padding is 0.
    pub fn new(kernel: usize, stride: usize, padding: usize, dilation: usize) -> Result<Self, Mismatch> {
        let sizes = [kernel, stride, dilation].into_iter().all(|size| (1..=MOST).contains(&size));
        if sizes && padding <= MOST {
            Ok(Self { kernel, stride, padding, dilation })
        } else {
            Err(Mismatch("a kernel, stride, padding or dilation of 0, or above 16384"))
        }
    }

    /// Taps.
    pub fn kernel(&self) -> usize {
        self.kernel
    }

    /// Inputs from one output to the next; of a transposed convolution, outputs from one input to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Inputs before the first that the first output reads; of a transposed convolution, outputs that are cut off.
    pub fn padding(&self) -> usize {
        self.padding
    }

    /// Inputs from one tap to the next.
    pub fn dilation(&self) -> usize {
        self.dilation
    }
}

/// A whole factor, 1 to 255.
// not NonZeroU8: LLVM 22 takes divisions by one out of a match on `Kind`, where another variant's bytes are 0
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times(u8);

impl Times {
    /// As it is.
    pub const ONE: Self = Self(1);

    /// So many times; `None` for 0 and above 255.
    pub fn new(times: usize) -> Option<Self> {
        u8::try_from(times).ok().filter(|times| *times > 0).map(Self)
    }

    /// How many.
    pub fn get(self) -> usize {
        self.0.max(1).into()
    }
}

/// What a layer does to positions, and which channels it connects: all to all, or those of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Weights (out, in / groups, kh, kw). The input is enlarged `enlarged` times first, nearest neighbour.
    /// Then channels become pixels (ONNX's DepthToSpace, mode CRD, of `block`), of which `cropped` rows and columns at
    /// the top and left are cut off.
    Conv {
        /// Top to bottom.
        y: Axis,
        /// Left to right.
        x: Axis,
        /// [`Times::ONE`]: as it is.
        enlarged: Times,
        /// [`Times::ONE`]: channels stay channels.
        block: Times,
        /// Rows and columns.
        cropped: u16,
        /// Parts of equal size that channels are cut into, in and out; as many as channels: depthwise.
        groups: usize,
    },
    /// Weights (in, out / groups, kh, kw).
    Transposed {
        /// Top to bottom.
        y: Axis,
        /// Left to right.
        x: Axis,
        /// As in a convolution.
        groups: usize,
    },
    /// Weights (out, in), where in and out count pictures in CHW order.
    Dense,
}

/// What one output of a phase reads, relative to where the phase's first output reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tap {
    /// Elements of the input plane.
    pub(crate) offset: usize,
    /// For each part, indices of weights, without those of channels. They are summed.
    pub(crate) weights: Vec<Vec<usize>>,
}

/// One output of a pixel of a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lane {
    /// Its number among the weights' outputs.
    pub(crate) output: usize,
    /// Which of a tap's weights are its own.
    pub(crate) part: usize,
}

/// A grid of outputs that read at the same distances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Phase {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// Where the first output reads, in elements of the input plane, and the steps to the next row and column.
    pub(crate) x: usize,
    pub(crate) x_row: usize,
    pub(crate) x_col: usize,
    /// Where the first output lies, in elements of the output plane, and the steps.
    pub(crate) y: usize,
    pub(crate) y_row: usize,
    pub(crate) y_col: usize,
    pub(crate) taps: Vec<Tap>,
    pub(crate) lanes: Vec<Lane>,
}

impl Phase {
    /// The same for the channels of each group alone; `inputs` of them are a group's.
    fn by_group(&self, groups: usize, inputs: usize) -> impl Iterator<Item = Self> + '_ {
        let channels = self.lanes.len() / groups;
        self.lanes.chunks_exact(channels.max(1)).enumerate().map(move |(group, lanes)| Self {
            x: self.x + group * inputs,
            y: self.y + group * channels,
            lanes: lanes.to_vec(),
            ..self.clone()
        })
    }
}

/// Pixels that one part of a merged phase makes: where they lie in the grid and in the output plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Of the grid, from and to (exclusive).
    pub(crate) rows: (usize, usize),
    pub(crate) cols: (usize, usize),
    /// Where the pixel of the first row and column lies.
    pub(crate) y: usize,
}

/// All phases of a layer in one: each position of its grid makes a pixel of every part. Few channels fill a register
/// only so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Merged {
    /// Its outputs do not lie in the output plane: they are lanes of a row of their own.
    pub(crate) phase: Phase,
    pub(crate) parts: Vec<Part>,
    /// From one row, and one column, of the grid to the next in the output plane.
    pub(crate) y_row: usize,
    pub(crate) y_col: usize,
    /// Lanes of a part.
    pub(crate) channels: usize,
}

/// All phases of a layer, and how its weights lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) phases: Vec<Phase>,
    /// The same work in one phase: of several that look alike, or of neighbouring pixels of few channels.
    pub(crate) merged: Vec<Merged>,
    /// Outputs and input channels of a group.
    pub(crate) outputs: usize,
    pub(crate) inputs: usize,
    /// Weights from one group, one output of a group, and one input channel to the next.
    pub(crate) w_group: usize,
    pub(crate) w_out: usize,
    pub(crate) w_in: usize,
    /// Whether each channel has a group of its own.
    pub(crate) depthwise: bool,
}

/// One axis of a phase.
struct Line {
    /// Output coordinate of the first, and how many.
    first: usize,
    count: usize,
    /// Input coordinate and index of each tap, for the first output.
    taps: Vec<(isize, usize)>,
    /// Of `block`.
    part: usize,
}

/// One axis of a layer: phases, and the steps of outputs and of inputs.
struct Lines {
    lines: Vec<Line>,
    y_step: usize,
    x_step: usize,
}

/// One axis of a merged phase.
struct Union {
    /// Input coordinate of the grid's first position, and positions.
    first: isize,
    count: usize,
    /// Inputs that a position reads.
    width: usize,
    /// For each line, at which position it starts.
    shifts: Vec<usize>,
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl Lines {
    /// Makes lines of `outputs` outputs: `reads` tells what an output reads, and its part of the block.
    fn new(
        outputs: usize,
        y_step: usize,
        x_step: usize,
        reads: impl Fn(usize) -> (Vec<(isize, usize)>, usize),
    ) -> Self {
        let line = |first: usize| {
            let (taps, part) = reads(first);
            Line { first, count: (outputs - first).div_ceil(y_step), taps, part }
        };
        Self { lines: (0..y_step.min(outputs)).map(line).collect(), y_step, x_step }
    }

    fn conv(axis: Axis, outputs: usize, enlarged: usize, block: usize, cropped: usize) -> Self {
        // every y_step outputs the input moves on by a whole number of pixels
        let period = enlarged / gcd(axis.stride, enlarged);
        let y_step = period * block;
        let reads = |output: usize| {
            let (position, part) = ((output + cropped) / block, (output + cropped) % block);
            let at = |tap: usize| {
                let enlarged_at =
                    (position * axis.stride + tap * axis.dilation) as isize - axis.padding as isize;
                (enlarged_at.div_euclid(enlarged as isize), tap)
            };
            ((0..axis.kernel).map(at).collect(), part)
        };
        Self::new(outputs, y_step, axis.stride * period / enlarged, reads)
    }

    fn transposed(axis: Axis, outputs: usize) -> Self {
        let reads = |output: usize| {
            let at = |tap: usize| {
                let scattered = (output + axis.padding) as isize - (tap * axis.dilation) as isize;
                let stride = axis.stride as isize;
                (scattered.rem_euclid(stride) == 0).then(|| (scattered.div_euclid(stride), tap))
            };
            ((0..axis.kernel).filter_map(at).collect(), 0)
        };
        Self::new(outputs, axis.stride, 1, reads)
    }

    /// All lines in one grid, if each reads something.
    fn union(&self) -> Option<Union> {
        let starts = self.lines.iter().map(|line| line.taps.iter().map(|(at, _)| *at).min());
        let starts = starts.collect::<Option<Vec<isize>>>()?;
        let first = *starts.iter().min()?;
        let shifts: Vec<usize> =
            starts.iter().map(|start| (start - first).unsigned_abs() / self.x_step).collect();
        let counts = self.lines.iter().zip(&shifts).map(|(line, shift)| line.count + shift);
        let widths = self.lines.iter().zip(&shifts).flat_map(|(line, shift)| {
            let start = first + (shift * self.x_step) as isize;
            line.taps.iter().map(move |(at, _)| (at - start).unsigned_abs() + 1)
        });
        Some(Union { first, count: counts.max()?, width: widths.max()?, shifts })
    }

    /// Rows or columns before and behind `inputs` inputs that are read.
    fn border(&self, inputs: usize) -> (usize, usize) {
        let (mut before, mut behind) = (0, 0);
        for line in &self.lines {
            let moved = ((line.count - 1) * self.x_step) as isize;
            for (at, _) in &line.taps {
                before = before.max(-at);
                behind = behind.max(at + moved - (inputs as isize - 1));
            }
        }
        if self.lines.len() > 1 {
            behind = behind.max(self.reach(inputs));
        }
        (before.unsigned_abs(), behind.unsigned_abs())
    }

    /// Rows or columns behind `inputs` inputs that all lines in one grid read.
    fn reach(&self, inputs: usize) -> isize {
        let Some(union) = self.union() else { return 0 };
        let last = union.first + ((union.count - 1) * self.x_step + union.width - 1) as isize;
        (last - (inputs as isize - 1)).max(0)
    }

    /// Of the only line, so many that take its outputs in turns.
    fn in_turns(&self, times: usize) -> Option<Self> {
        let [line] = &self.lines[..] else { return None };
        let turn = |turn: usize| Line {
            first: line.first + turn * self.y_step,
            count: (line.count - turn).div_ceil(times),
            taps: line.taps.iter().map(|(at, tap)| (at + (turn * self.x_step) as isize, *tap)).collect(),
            part: line.part,
        };
        (line.count >= times && times > 1).then(|| Self {
            lines: (0..times).map(turn).collect(),
            y_step: self.y_step * times,
            x_step: self.x_step * times,
        })
    }
}

/// Lanes of a register, of one family or another.
const REGISTERS: [usize; 3] = [16, 8, 4];

/// Columns that neighbouring pixels of few channels share, so many that they fill a register.
fn neighbours(x: &Lines, channels: usize) -> impl Iterator<Item = Lines> + '_ {
    let mut seen = 0;
    REGISTERS.into_iter().filter_map(move |lanes| {
        let times = lanes / channels;
        let new = times != core::mem::replace(&mut seen, times);
        x.in_turns(times).filter(|_| new)
    })
}

impl Kind {
    fn lines(&self, output: &Plane) -> Option<(Lines, Lines)> {
        match *self {
            Self::Conv { y, x, enlarged, block, cropped, .. } => {
                let (enlarged, block, cropped) = (enlarged.get(), block.get(), cropped.into());
                Some((
                    Lines::conv(y, output.height, enlarged, block, cropped),
                    Lines::conv(x, output.width, enlarged, block, cropped),
                ))
            }
            Self::Transposed { y, x, .. } => {
                Some((Lines::transposed(y, output.height), Lines::transposed(x, output.width)))
            }
            Self::Dense => None,
        }
    }

    /// Whether neighbouring pixels may be made together: they read much of the same.
    fn has_neighbours(&self) -> bool {
        matches!(self, Self::Conv { x, block: Times::ONE, groups: 1, .. } if x.kernel > x.stride)
    }

    /// The border that the layer reads around its input.
    pub fn border(&self, input: &Plane, output: &Plane) -> Border {
        let Some((y, x)) = self.lines(output) else { return Border::default() };
        let ((top, bottom), (left, mut right)) = (y.border(input.height), x.border(input.width));
        if self.has_neighbours() {
            let reach = neighbours(&x, output.channels).map(|x| x.reach(input.width)).max();
            right = right.max(reach.unwrap_or(0).unsigned_abs());
        }
        Border { top, left, bottom, right }
    }

    /// Multiply-accumulates of one picture, the useful ones alone.
    pub fn macs(&self, input: &Plane, output: &Plane) -> u64 {
        let product = |values: [usize; 3]| values.iter().map(|value| *value as u64).product::<u64>();
        match *self {
            Self::Conv { y, x, block, .. } => {
                let block = block.get();
                let positions =
                    product([output.height.div_ceil(block), output.width.div_ceil(block), y.kernel]);
                let inputs = input.channels / self.groups();
                let channels = product([output.channels * block * block, inputs, x.kernel]);
                positions * channels
            }
            Self::Transposed { y, x, .. } => {
                product([input.height, input.width, y.kernel * x.kernel])
                    * product([input.channels / self.groups(), output.channels, 1])
            }
            Self::Dense => product([input.values(), output.values(), 1]),
        }
    }

    /// A product with a matrix that lies turned: each of the input's pixels is a tap, and each of its channels a pixel of the
    /// output.
    pub(crate) fn plan_turned(input: &Plane, output: &Plane) -> Plan {
        let inner = input.width;
        let tap = |at: usize| Tap { offset: at * input.channels, weights: vec![vec![at]] };
        let phase = Phase {
            rows: 1,
            cols: output.width,
            x: input.at(0, 0).unsigned_abs(),
            x_row: 0,
            x_col: 1,
            y: output.at(0, 0).unsigned_abs(),
            y_row: 0,
            y_col: output.channels,
            taps: (0..inner).map(tap).collect(),
            lanes: (0..output.channels).map(|output| Lane { output, part: 0 }).collect(),
        };
        let (outputs, w_group) = (output.channels, output.channels * inner);
        let phases = vec![phase];
        Plan {
            phases,
            merged: Vec::new(),
            outputs,
            inputs: 1,
            w_group,
            w_out: inner,
            w_in: inner,
            depthwise: false,
        }
    }

    /// Parts of equal size that channels are cut into.
    pub fn groups(&self) -> usize {
        match self {
            Self::Conv { groups, .. } | Self::Transposed { groups, .. } => (*groups).max(1),
            Self::Dense => 1,
        }
    }

    /// The phases. The input has the border that [`Self::border`] asks for, and groups divide the channels of both.
    pub(crate) fn plan(&self, input: &Plane, output: &Plane) -> Plan {
        let Some((lines_y, lines_x)) = self.lines(output) else { return dense(input, output) };
        let groups = self.groups();
        let (inputs, channels) = (input.channels / groups, output.channels / groups);
        let (kw, taps, block) = match *self {
            Self::Dense => return dense(input, output),
            Self::Conv { y, x, block, .. } => (x.kernel, y.kernel * x.kernel, block.get()),
            Self::Transposed { y, x, .. } => (x.kernel, y.kernel * x.kernel, 1),
        };
        let outputs = channels * block * block;
        let (w_out, w_in) = match self {
            Self::Transposed { .. } => (taps, outputs * taps),
            _ => (inputs * taps, taps),
        };
        let axes = Axes { y: &lines_y, x: &lines_x, kw, block, input, output };
        let depthwise = inputs == 1 && outputs == 1 && groups > 1;
        let mut merged: Vec<Merged> = axes.merged().filter(|_| groups == 1).into_iter().collect();
        if self.has_neighbours() && lines_y.lines.len() == 1 {
            let all = neighbours(&lines_x, output.channels);
            merged.extend(all.filter_map(|x| Axes { x: &x, ..axes }.merged()));
        }
        let phases = match groups {
            1 => axes.phases(),
            _ if depthwise => axes.phases(),
            _ => axes.phases().iter().flat_map(|phase| phase.by_group(groups, inputs)).collect(),
        };
        Plan { phases, merged, outputs, inputs, w_group: inputs * outputs * taps, w_out, w_in, depthwise }
    }
}

/// Both axes of a layer between its planes.
#[derive(Clone, Copy)]
struct Axes<'a> {
    y: &'a Lines,
    x: &'a Lines,
    /// Taps of a row of the kernel.
    kw: usize,
    block: usize,
    input: &'a Plane,
    output: &'a Plane,
}

impl Axes<'_> {
    fn phases(&self) -> Vec<Phase> {
        let mut phases = Vec::new();
        for row in &self.y.lines {
            for col in &self.x.lines {
                let mut taps: Vec<(isize, Vec<usize>)> = Vec::new();
                for (y, ky) in &row.taps {
                    for (x, kx) in &col.taps {
                        let (at, weight) = (self.input.at(*y, *x), ky * self.kw + kx);
                        match taps.iter_mut().find(|(offset, _)| *offset == at) {
                            Some((_, weights)) => weights.push(weight),
                            None => taps.push((at, vec![weight])),
                        }
                    }
                }
                taps.sort();
                let first = taps.first().map_or(0, |(at, _)| *at);
                let tap = |(at, weights): (isize, Vec<usize>)| Tap {
                    offset: (at - first).unsigned_abs(),
                    weights: vec![weights],
                };
                phases.push(Phase {
                    rows: row.count,
                    cols: col.count,
                    x: first.unsigned_abs(),
                    x_row: self.y.x_step * self.input.row(),
                    x_col: self.x.x_step * self.input.channels,
                    y: self.output.at(row.first as isize, col.first as isize).unsigned_abs(),
                    y_row: self.y.y_step * self.output.row(),
                    y_col: self.x.y_step * self.output.channels,
                    taps: taps.into_iter().map(tap).collect(),
                    lanes: self.lanes(row, col, 0).collect(),
                });
            }
        }
        phases
    }

    fn lanes(&self, row: &Line, col: &Line, part: usize) -> impl Iterator<Item = Lane> + use<> {
        let (block, of_block) = (self.block, row.part * self.block + col.part);
        (0..self.output.channels)
            .map(move |channel| Lane { output: channel * block * block + of_block, part })
    }

    fn merged(&self) -> Option<Merged> {
        let count = self.y.lines.len() * self.x.lines.len();
        if count == 1 {
            return None;
        }
        let (rows, cols) = (self.y.union()?, self.x.union()?);
        let window = (0..rows.width).flat_map(|y| (0..cols.width).map(move |x| (y, x)));
        let first = self.input.at(rows.first, cols.first);
        let mut taps: Vec<Tap> = window
            .map(|(y, x)| {
                let at = self.input.at(rows.first + y as isize, cols.first + x as isize);
                Tap { offset: (at - first).unsigned_abs(), weights: vec![Vec::new(); count] }
            })
            .collect();
        let (mut lanes, mut parts) = (Vec::new(), Vec::new());
        for (row, down) in self.y.lines.iter().zip(&rows.shifts) {
            for (col, right) in self.x.lines.iter().zip(&cols.shifts) {
                let part = parts.len();
                for (y, ky) in &row.taps {
                    for (x, kx) in &col.taps {
                        let y = y - rows.first - (down * self.y.x_step) as isize;
                        let x = x - cols.first - (right * self.x.x_step) as isize;
                        let tap = &mut taps[y.unsigned_abs() * cols.width + x.unsigned_abs()];
                        tap.weights[part].push(ky * self.kw + kx);
                    }
                }
                lanes.extend(self.lanes(row, col, part));
                parts.push(Part {
                    rows: (*down, down + row.count),
                    cols: (*right, right + col.count),
                    y: self.output.at(row.first as isize, col.first as isize).unsigned_abs(),
                });
            }
        }
        taps.retain(|tap| tap.weights.iter().any(|weights| !weights.is_empty()));
        let phase = Phase {
            rows: rows.count,
            cols: cols.count,
            x: first.unsigned_abs(),
            x_row: self.y.x_step * self.input.row(),
            x_col: self.x.x_step * self.input.channels,
            y: 0,
            y_row: 0,
            y_col: lanes.len(),
            taps,
            lanes,
        };
        let (y_row, y_col) = (self.y.y_step * self.output.row(), self.x.y_step * self.output.channels);
        Some(Merged { phase, parts, y_row, y_col, channels: self.output.channels })
    }
}

/// A dense layer: each row of the output is a phase of one position.
fn dense(input: &Plane, output: &Plane) -> Plan {
    let (in_pixels, out_pixels) = (input.height * input.width, output.height * output.width);
    let first = input.at(0, 0);
    let taps: Vec<Tap> = (0..in_pixels)
        .map(|pixel| {
            let at = input.at((pixel / input.width) as isize, (pixel % input.width) as isize);
            Tap { offset: (at - first).unsigned_abs(), weights: vec![vec![pixel]] }
        })
        .collect();
    let phase = |y: usize| {
        let lane = |lane: usize| {
            let (x, channel) = (lane / output.channels, lane % output.channels);
            Lane { output: channel * out_pixels + y * output.width + x, part: 0 }
        };
        Phase {
            rows: 1,
            cols: 1,
            x: first.unsigned_abs(),
            x_row: 0,
            x_col: 0,
            y: output.at(y as isize, 0).unsigned_abs(),
            y_row: 0,
            y_col: 0,
            taps: taps.clone(),
            lanes: (0..output.width * output.channels).map(lane).collect(),
        }
    };
    let phases = (0..output.height).map(phase).collect();
    let (outputs, inputs) = (output.values(), input.channels);
    let (w_group, w_out) = (outputs * input.values(), input.values());
    let merged = Vec::new();
    Plan { phases, merged, outputs, inputs, w_group, w_out, w_in: in_pixels, depthwise: false }
}
