//! [`Geometry`]'s operations on batches in lanes: no im2col, no padding, no copy.
//!
//! With a picture in each lane, every output vector is a sum of one weight times one input vector,
//! whatever kernel, stride and padding are: nothing is gathered, and no lane is lost at an edge.
//! Positions at an edge, which fewer taps reach, form classes of their own, so that zeros around a
//! picture exist nowhere. A transposed convolution is the same sum over the taps that reach each of
//! its stride² phases. The weight gradient sums products of vectors over pixels and pictures.
//!
//! Every output is computed by one thread in a fixed order: results do not depend on threads.
#![allow(unsafe_code)]

use rayon::prelude::*;

use super::batch::LANES;
use super::kernels::{Columns, Kernels, Tap, Target};
use crate::graph::geometry::{Geometry, Role};

/// Tasks that a call is cut into, at least, so that a few threads have equal work.
const TASKS: usize = 16;
/// Bytes of input that a tile gathers at once: they stay in the second-level cache for one block of rows after the
/// other, and are so many that reading and writing the sums in between does not count.
const NEAR: usize = 64 << 10;
/// Coarse pixels whose values stay in the cache while weight gradients are summed over them.
const BLOCK: usize = 64;
/// Rows of the weight gradient that one task computes, about.
const TASK_ROWS: usize = 48;
/// Fine channels of the weight gradient that one task computes, about.
const TASK_CHANNELS: usize = 16;

/// What is added to each output channel.
pub(crate) type Bias<'a> = Option<&'a [f32]>;

/// Output positions that the same taps reach.
pub(super) struct Class {
    /// Of the first input channel, `weight` the number among its k·k.
    pub(super) taps: Vec<Tap>,
    /// (input, output) of each position in one group, in values.
    pub(super) places: Vec<(isize, usize)>,
}

/// Positions along one axis, (position, where the first tap reads), that the same taps reach.
struct Kind {
    taps: Vec<usize>,
    positions: Vec<(usize, isize)>,
}

/// Along one axis: which taps reach an output position, and where the first tap reads.
fn reach(g: &Geometry, role: Role, (padding, input): (usize, usize), position: usize) -> (Vec<usize>, isize) {
    let (kernel, stride, padding) = (g.kernel as isize, g.stride as isize, padding as isize);
    let position = position as isize;
    let inside = |place: isize| (0..input as isize).contains(&place);
    match role {
        Role::Coarse => {
            let base = position * stride - padding;
            ((0..kernel).filter(|tap| inside(base + tap)).map(|tap| tap as usize).collect(), base)
        }
        Role::Fine => {
            let (first, base) = ((position + padding) % stride, (position + padding) / stride);
            let taps = (first..kernel).step_by(g.stride);
            (taps.filter(|tap| inside(base - tap / stride)).map(|tap| tap as usize).collect(), base)
        }
    }
}

/// All output positions of one picture, by the taps that reach them.
pub(super) fn classes(g: &Geometry, role: Role) -> Vec<Class> {
    let ((_, in_height, in_width), (_, height, width)) = (g.input(role), g.output(role));
    let by_taps = |side: usize, input: usize, padding: usize| {
        let mut kinds: Vec<Kind> = Vec::new();
        for position in 0..side {
            let (taps, base) = reach(g, role, (padding, input), position);
            match kinds.iter_mut().find(|kind| kind.taps == taps) {
                Some(kind) => kind.positions.push((position, base)),
                None => kinds.push(Kind { taps, positions: vec![(position, base)] }),
            }
        }
        kinds
    };
    let (rows, columns) = (by_taps(height, in_height, g.padding.0), by_taps(width, in_width, g.padding.1));
    let offset = |tap: usize| match role {
        Role::Coarse => tap as isize,
        Role::Fine => -((tap / g.stride) as isize),
    };
    let lanes = LANES as isize;
    let mut classes = Vec::new();
    for Kind { taps: a_taps, positions: ys } in &rows {
        for Kind { taps: b_taps, positions: xs } in &columns {
            let mut taps = Vec::new();
            for a in a_taps {
                for b in b_taps {
                    taps.push(Tap {
                        input: (offset(*a) * in_width as isize + offset(*b)) * lanes,
                        weight: a * g.kernel + b,
                    });
                }
            }
            let mut places = Vec::new();
            for (y, input_y) in ys {
                for (x, input_x) in xs {
                    let input = (input_y * in_width as isize + input_x) * lanes;
                    places.push((input, (y * width + x) * LANES));
                }
            }
            classes.push(Class { taps, places });
        }
    }
    classes
}

/// How the weights of a block of output channels lie: (phases, input channels, taps of the phase, block). The taps of a
/// class are all of one phase, so its weights follow each other from channel to channel.
struct Order {
    /// For each tap, where it begins for the first channel, and the step from channel to channel, in blocks.
    taps: Vec<(usize, usize)>,
}

impl Order {
    fn new(g: &Geometry, role: Role) -> Self {
        let phase = |tap: usize| match role {
            Role::Coarse => 0,
            Role::Fine => (tap / g.kernel % g.stride) * g.stride + tap % g.kernel % g.stride,
        };
        let inputs = g.input(role).0;
        let mut taps = vec![(0, 0); g.area()];
        let mut start = 0;
        for number in 0..g.stride * g.stride {
            let own: Vec<usize> = (0..g.area()).filter(|tap| phase(*tap) == number).collect();
            own.iter().enumerate().for_each(|(index, tap)| taps[*tap] = (start + index, own.len()));
            start += own.len() * inputs;
        }
        Self { taps }
    }

    /// Where a tap's weights for a channel begin, in blocks.
    fn place(&self, tap: usize, channel: usize) -> usize {
        let (start, step) = self.taps[tap];
        start + channel * step
    }
}

/// Weights as the kernels take them: blocks of `block` output channels, each in `order`, zeros behind the last channel.
fn pack(g: &Geometry, role: Role, weights: &[f32], order: &Order, block: usize, packed: &mut [f32]) {
    let (inputs, outputs, area) = (g.input(role).0, g.output(role).0, g.area());
    packed.par_chunks_mut(inputs * area * block).enumerate().for_each(|(index, packed)| {
        let first = index * block;
        let used = block.min(outputs - first);
        if used < block {
            packed.fill(0.0);
        }
        let places: Vec<(usize, usize)> =
            (0..area).map(|tap| (order.place(tap, 0), order.taps[tap].1)).collect();
        for input in 0..inputs {
            let from = match role {
                Role::Coarse => (first * inputs + input, inputs),
                Role::Fine => (input * outputs + first, 1),
            };
            for (tap, (place, step)) in places.iter().enumerate() {
                let to = &mut packed[(place + input * step) * block..][..used];
                for (row, weight) in to.iter_mut().enumerate() {
                    *weight = weights[(from.0 + row * from.1) * area + tap];
                }
            }
        }
    });
}

/// The taps of a class in all input channels, in runs of about `near` that do not cut a channel.
fn every_channel(
    class: &Class,
    (inputs, channel_stride): (usize, usize),
    (order, rows): (&Order, usize),
    near: usize,
) -> Vec<Vec<Tap>> {
    let channels: Vec<usize> = (0..inputs).collect();
    let together = (near / class.taps.len().max(1)).max(1);
    let of_channel = |channel: &usize| {
        let channel = *channel;
        class.taps.iter().map(move |tap| Tap {
            input: tap.input + (channel * channel_stride) as isize,
            weight: order.place(tap.weight, channel) * rows,
        })
    };
    channels.chunks(together).map(|run| run.iter().flat_map(of_channel).collect()).collect()
}

/// output = weights ∘ input + bias, `input` (groups, C, H, W, lanes) of the role's input side,
/// `output` likewise of its output side, `weights` (coarse channels, fine channels, k, k).
///
/// # Panics
/// If lengths do not fit the geometry: a bug of the caller.
pub(crate) fn apply(
    g: &Geometry,
    role: Role,
    (input, weights, bias): (&[f32], &[f32], Bias<'_>),
    output: &mut [f32],
) {
    let values = |(channels, height, width): (usize, usize, usize)| channels * height * width * LANES;
    let (in_len, out_len) = (values(g.input(role)), values(g.output(role)));
    let (inputs, outputs) = (g.input(role).0, g.output(role).0);
    let groups = input.len() / in_len;
    assert!(input.len() == groups * in_len && output.len() == groups * out_len, "batch of {g:?}");
    assert!(weights.len() == g.weights_len() && bias.is_none_or(|bias| bias.len() == outputs), "{g:?}");

    let kernels = Kernels::detect();
    let tile = kernels.tile(outputs);
    let (rows, columns) = (tile.rows, tile.columns);
    let blocks = outputs.div_ceil(rows);
    let mut packed = super::buffers::Buffer::any(blocks * rows * inputs * g.area());
    let order = Order::new(g, role);
    pack(g, role, weights, &order, rows, &mut packed);
    let mut biases = vec![0f32; blocks * rows];
    if let Some(bias) = bias {
        biases[..outputs].copy_from_slice(bias);
    }

    let classes = classes(g, role);
    // each task: a few positions of one class (over all groups), for some blocks of rows
    let in_stride = in_len / inputs;
    let near = NEAR / (columns * kernels.width() * size_of::<f32>());
    let expanded: Vec<Vec<Vec<Tap>>> =
        classes.iter().map(|class| every_channel(class, (inputs, in_stride), (&order, rows), near)).collect();
    let mut tiles = Vec::new();
    for (class, taps) in classes.iter().zip(&expanded) {
        let vectors: Vec<(isize, usize)> = class
            .places
            .iter()
            .flat_map(|(from, to)| {
                (0..groups).map(move |group| (from + (group * in_len) as isize, to + group * out_len))
            })
            .flat_map(|(from, to)| kernels.parts().map(move |part| (from + part as isize, to + part)))
            .collect();
        for chunk in vectors.chunks(columns) {
            tiles.push((taps, Columns::new(chunk)));
        }
    }
    let splits = TASKS.div_ceil(tiles.len()).clamp(1, blocks);
    let per_split = blocks.div_ceil(splits);
    let out_stride = out_len / outputs;
    let most = near.max(g.area()) * columns * kernels.width();
    let target = Target::new(output);
    (0..tiles.len() * splits).into_par_iter().for_each_init(
        || super::buffers::Buffer::any(most),
        |gathered, task| {
            let (taps, columns) = &tiles[task / splits];
            let first = task % splits * per_split;
            for (chunk, taps) in taps.iter().enumerate() {
                // SAFETY: every tap reads inside the picture that its places belong to, see `reach`
                unsafe { kernels.gather(tile, taps, input.as_ptr(), columns, gathered) };
                for block in first..(first + per_split).min(blocks) {
                    let row = block * rows;
                    let weights = &packed[block * inputs * g.area() * rows..];
                    // SAFETY: every tap has weights in `packed`, every place and row writes inside `output`, and no
                    // other task writes there
                    unsafe {
                        kernels.sum(
                            tile,
                            (taps, weights.as_ptr()),
                            (chunk == 0).then(|| &biases[row..row + rows]),
                            gathered,
                            columns,
                            (target.at(row * out_stride), out_stride, rows.min(outputs - row)),
                        );
                    }
                }
            }
        },
    );
}

/// Coarse pixels along a row that the same columns of the kernel reach.
struct Segment {
    /// For each kernel column b, whether it lies inside.
    inside: Vec<bool>,
    /// (coarse, fine) place of each pixel, fine at kernel column 0 of the right kernel row, in values.
    places: Vec<(usize, isize)>,
}

/// For one block of coarse pixels and one kernel row: the pixels that the row reaches.
fn segments(
    g: &Geometry,
    a: usize,
    groups: std::ops::Range<usize>,
    rows: std::ops::Range<usize>,
) -> Vec<Segment> {
    let ((_, fine_height, fine_width), (_, height, width)) = (g.fine, g.coarse);
    let (coarse_len, fine_len) =
        (g.coarse.0 * height * width * LANES, g.fine.0 * fine_height * fine_width * LANES);
    let mut segments: Vec<Segment> = Vec::new();
    for j in 0..width {
        let base = (j * g.stride) as isize - g.padding.1 as isize;
        let inside: Vec<bool> =
            (0..g.kernel).map(|b| (0..fine_width as isize).contains(&(base + b as isize))).collect();
        let at = segments.iter().position(|known| known.inside == inside).unwrap_or_else(|| {
            segments.push(Segment { inside, places: Vec::new() });
            segments.len() - 1
        });
        for group in groups.clone() {
            for i in rows.clone() {
                let y = (i * g.stride + a) as isize - g.padding.0 as isize;
                if (0..fine_height as isize).contains(&y) {
                    segments[at].places.push((
                        group * coarse_len + (i * width + j) * LANES,
                        (group * fine_len) as isize + (y * fine_width as isize + base) * LANES as isize,
                    ));
                }
            }
        }
    }
    segments.retain(|segment| !segment.places.is_empty() && segment.inside.contains(&true));
    segments
}

/// Up to four weights of one kernel row whose gradients are summed together.
struct Taps {
    a: usize,
    /// (channel, kernel column), and how many of them count.
    columns: [(usize, usize); 4],
    used: usize,
}

/// The weights (fine channels, k, k) of fine channels `channels`, four by four.
fn taps(g: &Geometry, channels: std::ops::Range<usize>) -> Vec<Taps> {
    let mut all = Vec::new();
    // as few channels together as fill fours
    let together = (1..=4).find(|count| (count * g.kernel).is_multiple_of(4)).unwrap_or(4);
    let (first, end) = (channels.start, channels.end);
    // kernel rows a stride apart read the same rows of the fine side, one pixel apart: one after the other
    let kernel_rows = || (0..g.stride).flat_map(|phase| (phase..g.kernel).step_by(g.stride));
    for first in (first..end).step_by(together) {
        let last = (first + together).min(end);
        for a in kernel_rows() {
            let row: Vec<(usize, usize)> =
                (first..last).flat_map(|channel| (0..g.kernel).map(move |b| (channel, b))).collect();
            for chunk in row.chunks(4) {
                let mut columns = [chunk[0]; 4];
                columns[..chunk.len()].copy_from_slice(chunk);
                all.push(Taps { a, columns, used: chunk.len() });
            }
        }
    }
    all
}

/// gradient (coarse channels, fine channels, k, k) = (or, with `accumulate`, +=) Σ over pictures and
/// coarse pixels of coarse · fine. Lanes without a picture have to be zero in one of the two.
///
/// # Panics
/// If lengths do not fit the geometry: a bug of the caller.
pub(crate) fn weight_gradient(
    g: &Geometry,
    fine: &[f32],
    coarse: &[f32],
    gradient: &mut [f32],
    accumulate: bool,
) {
    let values = |(channels, height, width): (usize, usize, usize)| channels * height * width * LANES;
    let groups = fine.len() / values(g.fine);
    assert!(
        fine.len() == groups * values(g.fine) && coarse.len() == groups * values(g.coarse),
        "batch of {g:?}"
    );
    assert_eq!(gradient.len(), g.weights_len(), "gradient of {g:?}");
    let (rows, channels, area) = (g.coarse.0, g.fine.0, g.area());
    let (coarse_stride, fine_stride) = (g.coarse.1 * g.coarse.2 * LANES, g.fine.1 * g.fine.2 * LANES);

    // blocks of coarse pixels: whole groups if they are small, rows of one group otherwise
    let pixels = g.coarse.1 * g.coarse.2;
    let block_groups = (BLOCK / pixels).clamp(1, groups);
    let block_rows = (BLOCK / g.coarse.2).clamp(1, g.coarse.1);
    let mut blocks: Vec<Vec<Vec<Segment>>> = Vec::new();
    for first in (0..groups).step_by(block_groups) {
        for row in (0..g.coarse.1).step_by(block_rows) {
            let (groups, rows) =
                (first..(first + block_groups).min(groups), row..(row + block_rows).min(g.coarse.1));
            blocks.push((0..g.kernel).map(|a| segments(g, a, groups.clone(), rows.clone())).collect());
        }
    }

    let kernels = Kernels::detect();
    let left_rows = kernels.gradient_rows();
    let channel_tasks = channels.div_ceil(TASK_CHANNELS.max(4));
    let row_tasks = rows.div_ceil(TASK_ROWS).max(TASKS.div_ceil(channel_tasks)).min(rows);
    let rows_per_task = rows.div_ceil(row_tasks).next_multiple_of(left_rows);
    let channels_per_task = channels.div_ceil(channel_tasks).next_multiple_of(4);
    let target = Target::new(gradient);
    let tasks: Vec<(usize, usize)> = (0..channels)
        .step_by(channels_per_task)
        .flat_map(|channel| (0..rows).step_by(rows_per_task).map(move |row| (channel, row)))
        .collect();
    tasks.into_par_iter().for_each(|(first_channel, first_row)| {
        let taps = taps(g, first_channel..(first_channel + channels_per_task).min(channels));
        let end_row = (first_row + rows_per_task).min(rows);
        for (index, block) in blocks.iter().enumerate() {
            // rows that do not fill a tile come one by one
            let full = end_row - (end_row - first_row) % left_rows;
            let tiles = (first_row..full).step_by(left_rows).map(|row| (row, left_rows));
            for (row, count) in tiles.chain((full..end_row).map(|row| (row, 1))) {
                for taps in &taps {
                    let columns = taps.columns.map(|(channel, b)| (channel * fine_stride + b * LANES, b));
                    let segments = block[taps.a]
                        .iter()
                        .map(|segment| (columns.map(|(_, b)| segment.inside[b]), segment.places.as_slice()));
                    // SAFETY: places and columns lie inside the two batches wherever `inside` says so, and are
                    // not read elsewhere; with a stride of 0 only the first row is read.
                    let sums = unsafe {
                        let left = coarse.as_ptr().add(row * coarse_stride);
                        let stride = if count == 1 { 0 } else { coarse_stride };
                        kernels.products(
                            (left, stride),
                            (fine.as_ptr(), columns.map(|(offset, _)| offset)),
                            segments,
                        )
                    };
                    for (row_index, sums) in sums.iter().enumerate().take(count) {
                        for ((channel, b), sum) in taps.columns.iter().zip(sums).take(taps.used) {
                            let at = ((row + row_index) * channels + channel) * area + taps.a * g.kernel + b;
                            // SAFETY: inside `gradient`; this task alone writes these rows and channels.
                            unsafe { target.put(at, *sum, accumulate || index > 0) };
                        }
                    }
                }
            }
        }
    });
}
