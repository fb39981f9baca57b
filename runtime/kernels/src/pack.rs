//! Weights in the order in which a family's tiles read them, and layers that are ready to run.

use alloc::borrow::Cow;
use alloc::vec;
use alloc::vec::Vec;

use crate::geometry::{Lane, Merged, Phase, Plan};
use crate::half::{half_from_float, half_to_float};
use crate::tile::{Kernels, Tile, Work};

/// What a family can multiply without overflow inside of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "each architecture has its own")]
pub(crate) enum Limit {
    /// Anything.
    None,
    /// u8 × s8 whose neighbouring products are added in 16 bits (x86's `vpmaddubsw`): the weights of a pair may sum to
    /// −128 … 128 at most, for 255 · 128 < 2¹⁵.
    Pairs,
    /// s8 × s8 whose products are added in pairs in 16 bits (ARM's `smull`, `smlal2`): no weight may be −128.
    Magnitude,
}

/// The kernels of one family and type, and how they want their weights.
pub(crate) struct Family<In: 'static, Weight: 'static, Out: 'static, Finish: 'static> {
    pub(crate) lanes: usize,
    pub(crate) depth: usize,
    pub(crate) steps: usize,
    /// Whether a group may reach beyond a run of inputs, over whatever is there, with weights of zero.
    pub(crate) padded: bool,
    pub(crate) limit: Limit,
    /// Where a register's weight of a lane and an input of its step lies.
    pub(crate) place: fn(lane: usize, input: usize) -> usize,
    pub(crate) kernels: &'static Kernels<In, Weight, Out, Finish>,
}

/// The kernels of one family and type for layers in which each channel is a group.
pub(crate) struct Depthwise<In: 'static, Weight: 'static, Out: 'static, Finish: 'static> {
    /// Channels of a register.
    pub(crate) lanes: usize,
    /// Taps that are multiplied at once: 1, 2 or 4.
    pub(crate) taps: usize,
    pub(crate) limit: Limit,
    /// Where a register's weight of a lane and a tap lies.
    pub(crate) place: fn(lane: usize, tap: usize) -> usize,
    pub(crate) tiles: &'static [Tile<In, Weight, Out, Finish>],
}

/// A weight that can be packed.
pub(crate) trait Weight: Copy + PartialEq + 'static {
    const ZERO: Self;
    /// Whether weights of the same input can be summed into one.
    const SUMS: bool;
    fn sum(self, other: Self) -> Self;
    /// Adds it to a sum of integers.
    fn count(self, total: i32) -> i32 {
        total
    }
    /// The weights of a whole step, side by side from the first on: one of floats.
    fn step(weights: &[Self]) -> [Self; 4] {
        [weights[0], Self::ZERO, Self::ZERO, Self::ZERO]
    }
    /// Puts a whole step's weights side by side.
    fn put(step: [Self; 4], to: &mut [Self]) {
        to[0] = step[0];
    }
    /// Whether a step's weights for one output obey the limit.
    fn obeys(_step: &[Self; 4], _limit: Limit) -> bool {
        true
    }
    /// Splits a step's weights for one output into some that obey the limit and the rest.
    fn split(_step: &mut [Self; 4], _rest: &mut [Self; 4], _limit: Limit) {}
}

impl Weight for f32 {
    const ZERO: Self = 0.0;
    const SUMS: bool = true;

    fn sum(self, other: Self) -> Self {
        self + other
    }
}

/// A weight in float16, by its bits.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(transparent)]
pub(crate) struct Half(u16);

impl Half {
    /// The nearest.
    pub(crate) fn of(value: f32) -> Self {
        Self(half_from_float(value))
    }
}

impl Weight for Half {
    const ZERO: Self = Self(0);
    const SUMS: bool = true;

    fn sum(self, other: Self) -> Self {
        let value = |weight: Self| half_to_float(weight.0);
        Self::of(value(self) + value(other))
    }
}

impl Weight for i8 {
    const ZERO: Self = 0;
    const SUMS: bool = false;

    fn sum(self, other: Self) -> Self {
        self.wrapping_add(other)
    }

    fn count(self, total: i32) -> i32 {
        total.wrapping_add(i32::from(self))
    }

    fn step(weights: &[Self]) -> [Self; 4] {
        [weights[0], weights[1], weights[2], weights[3]]
    }

    fn put(step: [Self; 4], to: &mut [Self]) {
        to[..4].copy_from_slice(&step);
    }

    fn obeys(step: &[Self; 4], limit: Limit) -> bool {
        let fits = |a: Self, b: Self| (-128..=128).contains(&(i16::from(a) + i16::from(b)));
        match limit {
            Limit::None => true,
            Limit::Magnitude => !step.contains(&i8::MIN),
            Limit::Pairs => fits(step[0], step[1]) && fits(step[2], step[3]),
        }
    }

    fn split(step: &mut [Self; 4], rest: &mut [Self; 4], limit: Limit) {
        match limit {
            Limit::None => {}
            Limit::Magnitude => {
                for (weight, rest) in step.iter_mut().zip(rest).filter(|(weight, _)| **weight == i8::MIN) {
                    (*weight, *rest) = (-127, -1);
                }
            }
            Limit::Pairs => {
                for (pair, rest) in step.as_chunks_mut::<2>().0.iter_mut().zip(rest.as_chunks_mut::<2>().0) {
                    let sum = i16::from(pair[0]) + i16::from(pair[1]);
                    let over = sum - sum.clamp(-128, 128);
                    // both have the sign of their sum, so that the second can take all of it
                    let kept = i16::from(pair[1]) - over;
                    rest[1] = over.clamp(-128, 127) as i8;
                    pair[1] = kept as i8;
                }
            }
        }
    }
}

/// What a group multiplies: where it reads, and the tap and channel of each of its inputs.
struct Group {
    offset: usize,
    /// Of several weights of a tap that cannot be summed, which one.
    copy: usize,
    inputs: Vec<(usize, usize)>,
}

/// Cuts the taps of a phase into groups of up to `length` consecutive inputs.
fn groups(phase: &Phase, channels: usize, length: usize, sums: bool) -> Vec<Group> {
    let all = phase.taps.iter().flat_map(|tap| &tap.weights);
    let most = all.map(|weights| if sums { weights.len().min(1) } else { weights.len() }).max().unwrap_or(0);
    let mut groups: Vec<Group> = Vec::new();
    for copy in 0..most {
        // the next input that would go on with the last group's run
        let mut next = None;
        for (number, tap) in phase.taps.iter().enumerate() {
            if tap.weights.iter().all(|weights| weights.len() <= copy) {
                continue;
            }
            for channel in 0..channels {
                let offset = tap.offset + channel;
                match groups.last_mut() {
                    Some(group) if next == Some(offset) && group.inputs.len() < length => {
                        group.inputs.push((number, channel));
                    }
                    _ => groups.push(Group { offset, copy, inputs: vec![(number, channel)] }),
                }
                next = Some(offset + 1);
            }
        }
    }
    groups
}

/// No weight.
const NONE: usize = usize::MAX;

/// Groups that are packed at once: as many as it takes to read a cache line of int8 weights.
const GROUPS_AT_ONCE: usize = 16;

/// Which weights of an output a group takes.
struct Reading {
    /// Where the group reads its inputs.
    offset: usize,
    /// For each part and input the index of the weight, without the output's.
    indices: Vec<usize>,
    /// For each part and step, whether its weights lie side by side.
    whole: Vec<bool>,
    /// Weights that are added to others: part, input, index.
    summed: Vec<(usize, usize, usize)>,
}

impl Reading {
    fn of<W: Weight>(
        group: &Group,
        phase: &Phase,
        channels: usize,
        (parts, depth, length): (usize, usize, usize),
    ) -> Self {
        let mut indices = vec![NONE; parts * length];
        let mut summed = Vec::new();
        for (place, (tap, channel)) in group.inputs.iter().enumerate() {
            for (part, of_part) in phase.taps[*tap].weights.iter().enumerate() {
                let Some(weight) = of_part.get(group.copy) else { continue };
                indices[part * length + place] = weight * channels + channel;
                if W::SUMS {
                    let more = of_part[group.copy + 1..].iter();
                    summed.extend(more.map(|weight| (part, place, weight * channels + channel)));
                }
            }
        }
        let follow = |step: &[usize]| step.windows(2).all(|pair| pair[0].wrapping_add(1) == pair[1]);
        let whole = indices.chunks_exact(depth).map(|step| step[0] != NONE && follow(step)).collect();
        Self { offset: group.offset, indices, whole, summed }
    }
}

/// Some channels of a phase, packed for one tile.
#[derive(Clone)]
struct Block<In: 'static, W: 'static, Out: 'static, Finish: 'static> {
    tile: &'static Tile<In, W, Out, Finish>,
    /// Its first lane in the phase, where it reads from the phase's first input on, and how many lanes it has.
    first: usize,
    x: usize,
    lanes: usize,
    /// Where its offsets, weights and per-lane values start.
    offsets: usize,
    groups: usize,
    weights: usize,
    finish: usize,
}

/// A phase that is ready to run.
#[derive(Clone)]
struct Packed<In: 'static, W: 'static, Out: 'static, Finish: 'static> {
    rows: usize,
    cols: usize,
    x: usize,
    x_row: usize,
    x_col: usize,
    y: usize,
    y_row: usize,
    y_col: usize,
    blocks: Vec<Block<In, W, Out, Finish>>,
}

impl<In, W, Out, Finish> Packed<In, W, Out, Finish> {
    fn of(phase: &Phase) -> Self {
        let Phase { rows, cols, x, x_row, x_col, y, y_row, y_col, .. } = *phase;
        Self { rows, cols, x, x_row, x_col, y, y_row, y_col, blocks: Vec::new() }
    }
}

/// Weights as (output, tap, channel of the group).
fn channels_innermost<'a, W: Weight>(weights: &'a [W], plan: &Plan) -> Cow<'a, [W]> {
    let Plan { outputs, inputs, w_group, w_out, w_in, .. } = *plan;
    if w_in == 1 {
        return Cow::Borrowed(weights); // one tap: they lie so
    }
    let taps = w_out.min(w_in);
    let mut ordered = Vec::with_capacity(weights.len());
    for output in 0..weights.len() / (taps * inputs) {
        for tap in 0..taps {
            let first = &weights[output / outputs * w_group + output % outputs * w_out + tap..];
            ordered.extend(first.iter().step_by(w_in).take(inputs));
        }
    }
    Cow::Owned(ordered)
}

/// How the pixels of a merged phase go from a row of the grid into the output plane.
#[derive(Clone)]
struct Scatter {
    merged: Merged,
}

/// A layer that is ready to run.
#[derive(Clone)]
pub(crate) struct Layer<In: 'static, W: 'static, Out: 'static, Finish: 'static> {
    phases: Vec<Packed<In, W, Out, Finish>>,
    /// Of the only phase, if it is a merged one.
    scatter: Option<Scatter>,
    offsets: Vec<u32>,
    weights: Vec<W>,
    /// For each packed lane, registers filled up: the number of the output, if it is one, and the sum of its weights.
    lanes: Vec<(Option<usize>, i32)>,
    /// Outputs that the weights have.
    outputs: usize,
    /// Elements of the planes, and values that a group may read behind the input.
    x_len: usize,
    y_len: usize,
    slack: usize,
}

/// How much one group costs a tile, in halves of a multiplication of a register.
fn cost(pixels: usize, registers: usize) -> usize {
    2 * pixels * registers + pixels + registers + 2
}

/// The tile with the least work for each register.
fn best_tile<In, W, Out, Finish>(
    tiles: &'static [Tile<In, W, Out, Finish>],
    pixels: usize,
    registers: usize,
) -> &'static Tile<In, W, Out, Finish> {
    let fits = |tile: &&Tile<In, W, Out, Finish>| tile.registers <= registers && tile.pixels <= pixels;
    let spent = |tile: &&Tile<In, W, Out, Finish>| {
        pixels.div_ceil(tile.pixels) * cost(tile.pixels, tile.registers) * 1000 / tile.registers
    };
    let tile = tiles.iter().filter(fits).min_by_key(spent);
    tile.expect("every family has a tile of one pixel and one register")
}

impl<In, W: Weight, Out: Copy, Finish> Layer<In, W, Out, Finish> {
    /// Packs `weights`: for `depthwise` if each channel is a group, else for one of `families`. `lens` are the elements of
    /// the planes, in and out.
    pub(crate) fn pack(
        plan: Plan,
        weights: &[W],
        lens: (usize, usize),
        families: &'static [Family<In, W, Out, Finish>],
        depthwise: &'static Depthwise<In, W, Out, Finish>,
    ) -> Self {
        if plan.depthwise {
            Self::pack_depthwise(&plan.phases, weights, lens, depthwise)
        } else {
            Self::pack_groups(plan, weights, lens, families)
        }
    }

    /// Packs `weights`, (channel, tap), of which each multiplies its own channel.
    fn pack_depthwise(
        phases: &[Phase],
        weights: &[W],
        (x_len, y_len): (usize, usize),
        family: &'static Depthwise<In, W, Out, Finish>,
    ) -> Self {
        let channels = phases.first().map_or(1, |phase| phase.lanes.len());
        let mut layer = Self {
            phases: Vec::new(),
            scatter: None,
            offsets: Vec::new(),
            weights: Vec::new(),
            lanes: Vec::new(),
            outputs: channels,
            x_len,
            y_len,
            slack: family.lanes - 1,
        };
        for phase in phases {
            let pixels = phase.rows * phase.cols;
            let mut packed = Packed::of(phase);
            let mut first = 0;
            while first < channels {
                let tile = best_tile(family.tiles, pixels, (channels - first).div_ceil(family.lanes));
                let lanes = (tile.registers * family.lanes).min(channels - first);
                let (offsets, at, finish) = (layer.offsets.len(), layer.weights.len(), layer.lanes.len());
                let groups = layer.channels(phase, weights, (first, lanes), (tile.registers, family));
                packed.blocks.push(Block {
                    tile,
                    first,
                    x: first,
                    lanes,
                    offsets,
                    groups,
                    weights: at,
                    finish,
                });
                first += lanes;
            }
            layer.phases.push(packed);
        }
        layer
    }

    /// Packs the taps of some channels, as many at once as the family takes, and those of rests behind them: returns
    /// how often that is.
    fn channels(
        &mut self,
        phase: &Phase,
        weights: &[W],
        (first, lanes): (usize, usize),
        (registers, family): (usize, &Depthwise<In, W, Out, Finish>),
    ) -> usize {
        let of_channel = weights.len() / self.outputs;
        // an enlarged picture's taps may share an input
        let entries =
            phase.taps.iter().flat_map(|tap| tap.weights[0].iter().map(|weight| (tap.offset, *weight)));
        let entries: Vec<(usize, usize)> = entries.collect();
        let size = registers * family.lanes * family.taps;
        let mut totals = vec![0i32; registers * family.lanes];
        let mut rests: Vec<(Vec<u32>, Vec<W>)> = Vec::new();
        let mut groups = 0;
        for taps in entries.chunks(family.taps) {
            let mut offsets: Vec<u32> = taps.iter().map(|(offset, _)| *offset as u32).collect();
            offsets.resize(family.taps, offsets[0]);
            let mut packed = vec![W::ZERO; size];
            let mut rest: Option<Vec<W>> = None;
            for lane in 0..lanes {
                let mut step = [W::ZERO; 4];
                for (value, (_, tap)) in step.iter_mut().zip(taps) {
                    *value = weights[(first + lane) * of_channel + tap];
                }
                totals[lane] = step.iter().fold(totals[lane], |total, value| value.count(total));
                let start = lane / family.lanes * family.lanes * family.taps;
                let place = |tap: usize| start + (family.place)(lane % family.lanes, tap);
                if !W::obeys(&step, family.limit) {
                    let mut over = [W::ZERO; 4];
                    W::split(&mut step, &mut over, family.limit);
                    let rest = rest.get_or_insert_with(|| vec![W::ZERO; size]);
                    (0..family.taps).for_each(|tap| rest[place(tap)] = over[tap]);
                }
                (0..family.taps).for_each(|tap| packed[place(tap)] = step[tap]);
            }
            self.offsets.extend(&offsets);
            self.weights.append(&mut packed);
            groups += 1;
            rests.extend(rest.map(|rest| (offsets, rest)));
        }
        for (offsets, mut rest) in rests {
            self.offsets.extend(offsets);
            self.weights.append(&mut rest);
            groups += 1;
        }
        let outputs = (0..registers * family.lanes).map(|lane| (lane < lanes).then_some(first + lane));
        self.lanes.extend(outputs.zip(totals));
        groups
    }

    /// Packs `weights` for the family, of `families`, that has the least to do. `x_len` and `y_len` are the elements of
    /// the planes.
    pub(crate) fn pack_groups(
        plan: Plan,
        weights: &[W],
        (x_len, y_len): (usize, usize),
        families: &'static [Family<In, W, Out, Finish>],
    ) -> Self {
        let weights = &channels_innermost(weights, &plan);
        let Plan { phases, merged, inputs: channels, w_out, w_in, .. } = plan;
        let lanes = families[0].lanes;
        let work =
            |phase: &Phase| phase.lanes.len().div_ceil(lanes) * phase.rows * phase.cols * phase.taps.len();
        let apart: usize = phases.iter().map(work).sum();
        let merged = merged.into_iter().min_by_key(|merged| work(&merged.phase));
        let merged = merged.filter(|merged| work(&merged.phase) * 5 < apart * 4);
        let phases = merged.as_ref().map_or(phases, |merged| vec![merged.phase.clone()]);

        // the widest groups come first, and save loads; the last family takes any layer
        let mut best: Option<(usize, &'static Family<_, _, _, _>, Vec<_>)> = None;
        for family in families {
            let length = family.depth * family.steps;
            let all: Vec<Vec<Group>> =
                phases.iter().map(|phase| groups(phase, channels, length, W::SUMS)).collect();
            let whole = all.iter().flatten().all(|group| group.inputs.len() == length);
            let total = all.iter().map(Vec::len).sum::<usize>() * length;
            let better = |best: &(usize, _, _)| total.saturating_mul(5) < best.0.saturating_mul(4);
            if (family.padded || whole) && best.as_ref().is_none_or(better) {
                best = Some((total, family, all));
            }
        }
        let (_, family, all) = best.expect("the last family takes any layer");
        let length = family.depth * family.steps;
        // without what limits add
        let most = |(phase, groups): (&Phase, &Vec<Group>)| {
            phase.lanes.len().next_multiple_of(family.lanes) * groups.len() * length
        };
        let most = phases.iter().zip(&all).map(most).sum();
        let mut layer = Self {
            phases: Vec::new(),
            scatter: merged.map(|merged| Scatter { merged }),
            offsets: Vec::new(),
            weights: Vec::with_capacity(most),
            lanes: Vec::new(),
            outputs: weights.len() / (channels * w_out.min(w_in)),
            x_len,
            y_len,
            slack: length - 1,
        };
        for (phase, groups) in phases.iter().zip(&all) {
            let packed = layer.phase(phase, groups, weights, channels, family);
            layer.phases.push(packed);
        }
        layer
    }

    fn phase(
        &mut self,
        phase: &Phase,
        groups: &[Group],
        weights: &[W],
        channels: usize,
        family: &'static Family<In, W, Out, Finish>,
    ) -> Packed<In, W, Out, Finish> {
        // a merged phase runs row by row
        let rows = if self.scatter.is_some() { phase.rows } else { 1 };
        let pixels = phase.rows * phase.cols / rows;
        let parts = phase.taps.first().map_or(1, |tap| tap.weights.len());
        let sizes = (parts, family.depth, family.depth * family.steps);
        let readings: Vec<Reading> =
            groups.iter().map(|group| Reading::of::<W>(group, phase, channels, sizes)).collect();
        let mut blocks = Vec::new();
        let mut first = 0;
        while first < phase.lanes.len() {
            let registers = (phase.lanes.len() - first).div_ceil(family.lanes);
            let tile = best_tile(family.kernels.tiles, pixels, registers);
            let lanes = (tile.registers * family.lanes).min(phase.lanes.len() - first);
            let of_block: Vec<Option<Lane>> = (0..tile.registers * family.lanes)
                .map(|lane| phase.lanes.get(first + lane).copied().filter(|_| lane < lanes))
                .collect();
            let (offsets, packed, finish) = (self.offsets.len(), self.weights.len(), self.lanes.len());
            self.block(&readings, &of_block, weights, family);
            let groups = self.offsets.len() - offsets;
            blocks.push(Block { tile, first, x: 0, lanes, offsets, groups, weights: packed, finish });
            first += lanes;
        }
        Packed { blocks, ..Packed::of(phase) }
    }

    /// Packs the groups of a block, and those of rests behind them.
    fn block(
        &mut self,
        groups: &[Reading],
        lanes: &[Option<Lane>],
        weights: &[W],
        family: &Family<In, W, Out, Finish>,
    ) {
        let w_out = weights.len() / self.outputs;
        let (depth, length) = (family.depth, family.depth * family.steps);
        let mut totals = vec![0i32; lanes.len()];
        let mut rests: Vec<(usize, Vec<W>)> = Vec::new();
        let size = lanes.len() * length;
        // where a lane's weight of an input of a group lies
        let mut places = Vec::with_capacity(size);
        for lane in 0..lanes.len() {
            let (register, of_register) = (lane / family.lanes, lane % family.lanes);
            for input in 0..length {
                let (step, of_step) = (input / depth, input % depth);
                let first = (step * lanes.len() + register * family.lanes) * depth;
                places.push(first + (family.place)(of_register, of_step));
            }
        }
        let together = (family.place)(0, depth - 1) == depth - 1;
        // some groups at once: what lies side by side in a lane's weights is read before the next lane's, far away
        for groups in groups.chunks(GROUPS_AT_ONCE) {
            let first = self.weights.len();
            self.weights.resize(first + groups.len() * size, W::ZERO);
            let packed = &mut self.weights[first..];
            let mut rests_of_groups: [Option<Vec<W>>; GROUPS_AT_ONCE] = [const { None }; GROUPS_AT_ONCE];
            for ((found, total), places) in lanes.iter().zip(&mut totals).zip(places.chunks_exact(length)) {
                let Some(Lane { output, part }) = *found else { continue };
                let weights = &weights[output * w_out..];
                let of_groups = groups.iter().zip(packed.chunks_exact_mut(size)).zip(&mut rests_of_groups);
                for ((group, packed), rest_of_group) in of_groups {
                    let steps = group.indices[part * length..][..length].chunks_exact(depth);
                    let whole = &group.whole[part * family.steps..];
                    for ((indices, places), whole) in steps.zip(places.chunks_exact(depth)).zip(whole) {
                        let mut values = if *whole {
                            W::step(&weights[indices[0]..])
                        } else {
                            let mut values = [W::ZERO; 4];
                            for (value, index) in
                                values.iter_mut().zip(indices).filter(|(_, index)| **index != NONE)
                            {
                                *value = weights[*index];
                            }
                            values
                        };
                        *total = values.iter().fold(*total, |total, value| value.count(total));
                        if !W::obeys(&values, family.limit) {
                            let mut rest = [W::ZERO; 4];
                            W::split(&mut values, &mut rest, family.limit);
                            let rests = rest_of_group.get_or_insert_with(|| vec![W::ZERO; size]);
                            places.iter().zip(rest).for_each(|(place, rest)| rests[*place] = rest);
                        }
                        if together {
                            W::put(values, &mut packed[places[0]..]);
                        } else {
                            places.iter().zip(values).for_each(|(place, value)| packed[*place] = value);
                        }
                    }
                    for (_, input, index) in group.summed.iter().filter(|(of, ..)| *of == part) {
                        packed[places[*input]] = packed[places[*input]].sum(weights[*index]);
                    }
                }
            }
            self.offsets.extend(groups.iter().map(|group| group.offset as u32));
            let rests_of_groups = groups.iter().zip(rests_of_groups);
            rests.extend(rests_of_groups.filter_map(|(group, rest)| Some((group.offset, rest?))));
        }
        for (offset, mut rest) in rests {
            self.offsets.push(offset as u32);
            self.weights.append(&mut rest);
        }
        self.lanes.extend(lanes.iter().map(|lane| lane.map(|lane| lane.output)).zip(totals));
    }

    /// Packs other weights: `step` values apart from one input to the next, and `apart` from one output to the next. Of a layer
    /// of one phase and one group, whose inputs are summed in order.
    pub(crate) fn refill(&mut self, weights: &[W], inputs: usize, step: usize, apart: usize) {
        let Some(phase) = self.phases.first() else { return };
        for (number, block) in phase.blocks.iter().enumerate() {
            let end = phase.blocks.get(number + 1).map_or(self.weights.len(), |next| next.weights);
            let packed = &mut self.weights[block.weights..end];
            let width = packed.len() / inputs;
            for (input, packed) in packed.chunks_exact_mut(width).enumerate() {
                let from = &weights[input * step + block.first * apart..];
                if apart == 1 {
                    packed[..block.lanes].copy_from_slice(&from[..block.lanes]);
                } else {
                    let of_lanes = packed[..block.lanes].iter_mut().zip(from.iter().step_by(apart));
                    of_lanes.for_each(|(packed, weight)| *packed = *weight);
                }
            }
        }
    }

    /// For each packed lane the number of its output, if it is one, and the sum of its weights.
    pub(crate) fn lanes(&self) -> &[(Option<usize>, i32)] {
        &self.lanes
    }

    /// Values that may be read behind the input plane; what they are does not matter.
    pub(crate) fn slack(&self) -> usize {
        self.slack
    }

    /// Values that one part needs beside the planes.
    pub(crate) fn scratch(&self) -> usize {
        self.scatter
            .as_ref()
            .map_or(0, |scatter| scatter.merged.phase.cols * scatter.merged.phase.lanes.len())
    }

    /// Whether several phases run as one.
    pub(crate) fn is_merged(&self) -> bool {
        self.scatter.is_some()
    }

    /// Pixels and registers of each block's tile.
    pub(crate) fn tiles(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.phases.iter().flat_map(|phase| &phase.blocks).map(|b| (b.tile.pixels, b.tile.registers))
    }

    /// Runs the layer. `finish` gives what belongs to packed lanes from a number on; `scratch` has [`Self::scratch`] values.
    pub(crate) fn run(&self, x: &[In], y: &mut [Out], scratch: &mut [Out], finish: impl Fn(usize) -> Finish) {
        // SAFETY: `Cpu`, with which layers are made, vouches for the CPU; nobody else writes to `y`
        unsafe { self.share(x, &raw mut *y, scratch, (0, 1), finish) }
    }

    /// [`Self::run`], shared by threads; `scratch` has [`Self::scratch`] values for each.
    #[cfg(feature = "std")]
    pub(crate) fn run_on(
        &self,
        pool: &mut crate::Pool,
        x: &[In],
        y: &mut [Out],
        scratch: &mut [Out],
        finish: impl Fn(usize) -> Finish + Sync,
    ) where
        In: Sync,
        W: Sync,
        Out: Send,
    {
        let (threads, length) = (pool.threads(), self.scratch());
        assert!(scratch.len() >= threads * length, "scratch of another size");
        let (y, scratch) = (crate::pool::Shares(&raw mut *y), crate::pool::Shares(&raw mut *scratch));
        pool.run(&|part| {
            // SAFETY: as above; each part writes to outputs of its own, and to its own scratch
            unsafe { self.share(x, y.whole(), scratch.part(part, length), (part, threads), &finish) }
        });
    }

    /// Runs share `part` of `parts` of the layer. `finish` gives what belongs to packed lanes from a number on;
    /// `scratch` has [`Self::scratch`] values.
    ///
    /// # Safety
    /// The CPU has the family's instructions. `y` can be written to, and only by other parts at the same time.
    unsafe fn share(
        &self,
        x: &[In],
        y: *mut [Out],
        scratch: &mut [Out],
        (part, parts): (usize, usize),
        finish: impl Fn(usize) -> Finish,
    ) {
        assert!(x.len() >= self.x_len + self.slack && y.len() >= self.y_len, "planes of another size");
        let y = y.cast::<Out>();
        if let (Some(scatter), [phase]) = (&self.scatter, &self.phases[..]) {
            assert!(scratch.len() >= self.scratch(), "scratch of another size");
            for row in phase.rows * part / parts..phase.rows * (part + 1) / parts {
                for block in &phase.blocks {
                    let pixels = (row * phase.cols, (row + 1) * phase.cols);
                    let work = self.work(phase, block, x, scratch.as_mut_ptr(), pixels, &finish);
                    // SAFETY: the plan stays inside the input plane and a row of scratch; the caller vouches for the CPU
                    unsafe { (block.tile.run)(&work) };
                }
                // SAFETY: the plan stays inside the output plane
                unsafe { scatter.row(row, scratch, y) };
            }
            return;
        }
        for phase in &self.phases {
            let pixels = phase.rows * phase.cols;
            for (number, block) in phase.blocks.iter().enumerate() {
                // few pixels: whole blocks are shared; else pixels, in whole tiles, and what is left goes to the last part,
                // so that no part writes where another does
                let tile = block.tile.pixels;
                let tiles = pixels / tile;
                let (first, last) = if tiles < parts {
                    if number % parts != part {
                        continue;
                    }
                    (0, pixels)
                } else {
                    let cut = |part: usize| tiles * part / parts * tile;
                    (cut(part), if part + 1 == parts { pixels } else { cut(part + 1) })
                };
                let work = self.work(phase, block, x, y, (first, last), &finish);
                // SAFETY: the plan stays inside the planes, whose lengths were checked; the caller vouches for the CPU
                unsafe { (block.tile.run)(&work) };
            }
        }
    }

    fn work(
        &self,
        phase: &Packed<In, W, Out, Finish>,
        block: &Block<In, W, Out, Finish>,
        x: &[In],
        y: *mut Out,
        (first, last): (usize, usize),
        finish: &impl Fn(usize) -> Finish,
    ) -> Work<In, W, Out, Finish> {
        Work {
            x: x[phase.x + block.x..].as_ptr(),
            y: y.wrapping_add(phase.y + block.first),
            x_row: phase.x_row,
            x_col: phase.x_col,
            y_row: phase.y_row,
            y_col: phase.y_col,
            cols: phase.cols,
            first,
            last,
            offsets: self.offsets[block.offsets..].as_ptr(),
            groups: block.groups,
            weights: self.weights[block.weights..].as_ptr(),
            finish: finish(block.finish),
            lanes: block.lanes,
        }
    }
}

impl Scatter {
    /// Moves a row of the grid into the output plane.
    ///
    /// # Safety
    /// `y` is the output plane.
    unsafe fn row<Out: Copy>(&self, row: usize, scratch: &[Out], y: *mut Out) {
        let Merged { parts, phase, y_row, y_col, channels } = &self.merged;
        let lanes = phase.lanes.len();
        for (number, part) in parts.iter().enumerate() {
            if !(part.rows.0..part.rows.1).contains(&row) {
                continue;
            }
            let first = y.wrapping_add(part.y + (row - part.rows.0) * y_row);
            let lane = number * channels;
            let pixels = &scratch[part.cols.0 * lanes..part.cols.1 * lanes];
            // SAFETY: the caller vouches for the plane, the plan for the places
            unsafe {
                match channels {
                    1 => spread::<1, Out>(pixels, (lane, lanes), first, *y_col),
                    3 => spread::<3, Out>(pixels, (lane, lanes), first, *y_col),
                    _ => {
                        for channel in 0..*channels {
                            spread::<1, Out>(pixels, (lane + channel, lanes), first.add(channel), *y_col);
                        }
                    }
                }
            }
        }
    }
}

/// Writes `N` values of each pixel, from lane `lane` of `lanes` on, every `step` values from `to` on.
///
/// # Safety
/// All of them can be written.
#[inline(always)]
unsafe fn spread<const N: usize, Out: Copy>(
    pixels: &[Out],
    (lane, lanes): (usize, usize),
    to: *mut Out,
    step: usize,
) {
    for (col, pixel) in pixels.chunks_exact(lanes).enumerate() {
        for (channel, value) in pixel[lane..][..N].iter().enumerate() {
            // SAFETY: the caller vouches for it
            unsafe { *to.add(col * step + channel) = *value };
        }
    }
}
