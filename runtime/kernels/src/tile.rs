//! The one loop that all layers of all families run: a tile of output pixels × channels is held in registers while
//! the taps' inputs are broadcast against packed weights.
//!
//! A family is an [`Arithmetic`]: what a register of accumulators is, how a group of inputs is multiplied into it, and
//! how it is rounded and stored.

/// How one family multiplies and stores one type of number.
///
/// Its functions are inlined into functions that enable the family's instructions; none may be called elsewhere.
pub(crate) trait Arithmetic {
    /// An input value in memory.
    type In: Copy;
    /// A packed weight.
    type Weight: Copy;
    /// An output value in memory.
    type Out: Copy;
    /// What is done to sums before they are stored.
    type Finish: Copy;
    /// A register of [`Self::LANES`] sums, each of another output channel.
    type Sums: Copy;
    /// One group of inputs of a pixel.
    type Inputs: Copy;
    /// Weights of [`Self::LANES`] outputs for one step.
    type Weights: Copy;

    /// Sums of a register.
    const LANES: usize;
    /// Consecutive inputs that one step multiplies into each sum.
    const DEPTH: usize;
    /// Steps of a group: `DEPTH · STEPS` consecutive inputs are loaded at once.
    const STEPS: usize;

    /// Zeros.
    ///
    /// # Safety
    /// The CPU has the family's instructions, as for all functions here.
    unsafe fn zero() -> Self::Sums;
    /// Loads a group.
    ///
    /// # Safety
    /// `DEPTH · STEPS` values can be read.
    unsafe fn inputs(from: *const Self::In) -> Self::Inputs;
    /// Loads the weights of a step.
    ///
    /// # Safety
    /// `DEPTH · LANES` weights can be read.
    unsafe fn weights(from: *const Self::Weight) -> Self::Weights;
    /// Multiplies step `step` of a group into the sums.
    ///
    /// # Safety
    /// See [`Self::zero`].
    unsafe fn add(sums: Self::Sums, inputs: Self::Inputs, weights: Self::Weights, step: usize) -> Self::Sums;
    /// What a group's inputs become for its next step.
    ///
    /// # Safety
    /// They are those of the step before.
    #[inline(always)]
    unsafe fn next(inputs: Self::Inputs) -> Self::Inputs {
        inputs
    }
    /// The same inputs. Where products are made before they are added, the compiler may not see that they are the same.
    ///
    /// # Safety
    /// `from` is where they were loaded from.
    #[inline(always)]
    unsafe fn again(inputs: Self::Inputs, _from: *const Self::In) -> Self::Inputs {
        inputs
    }
    /// Stores the first `lanes` sums of a pixel. `finish` stands at the first of these lanes.
    ///
    /// # Safety
    /// `lanes` values can be written to `to`; `finish` covers the registers in whole.
    unsafe fn store<const N: usize>(
        sums: [Self::Sums; N],
        finish: &Self::Finish,
        to: *mut Self::Out,
        lanes: usize,
    );
}

/// What a kernel works on: some pixels of a phase × a block of channels.
pub(crate) struct Work<In, Weight, Out, Finish> {
    /// Where the phase's first pixel reads.
    pub(crate) x: *const In,
    /// Where the block's first channel of the phase's first pixel lies.
    pub(crate) y: *mut Out,
    pub(crate) x_row: usize,
    pub(crate) x_col: usize,
    pub(crate) y_row: usize,
    pub(crate) y_col: usize,
    pub(crate) cols: usize,
    /// Pixels of the phase, counted row by row, from and to (exclusive).
    pub(crate) first: usize,
    pub(crate) last: usize,
    /// Of each group, in elements of the input.
    pub(crate) offsets: *const u32,
    pub(crate) groups: usize,
    /// (groups, steps, registers, lanes, depth)
    pub(crate) weights: *const Weight,
    pub(crate) finish: Finish,
    /// Channels of the block.
    pub(crate) lanes: usize,
}

impl<In, Weight, Out, Finish> Work<In, Weight, Out, Finish> {
    /// Where `PIXELS` pixels from number `start` on read, and where they lie.
    ///
    /// # Safety
    /// Steps stay inside their buffers.
    #[inline(always)]
    pub(crate) unsafe fn places<const PIXELS: usize>(
        &self,
        start: usize,
    ) -> ([*const In; PIXELS], [*mut Out; PIXELS]) {
        let (mut row, mut col) = (start / self.cols, start % self.cols);
        let mut x = [self.x; PIXELS];
        let mut y = [self.y; PIXELS];
        for (x, y) in x.iter_mut().zip(&mut y) {
            // SAFETY: the caller vouches for the steps
            unsafe {
                *x = x.add(row * self.x_row + col * self.x_col);
                *y = y.add(row * self.y_row + col * self.y_col);
            }
            col += 1;
            if col == self.cols {
                (row, col) = (row + 1, 0);
            }
        }
        (x, y)
    }
}

/// The work of an [`Arithmetic`].
pub(crate) type WorkOf<A> =
    Work<<A as Arithmetic>::In, <A as Arithmetic>::Weight, <A as Arithmetic>::Out, <A as Arithmetic>::Finish>;

/// Runs tiles of `PIXELS` pixels × `REGISTERS` registers. If there are fewer pixels than a tile's than were asked for
/// at the end, the last tile overlaps the one before.
///
/// # Safety
/// The CPU has the family's instructions; pointers and steps stay inside their buffers, with a group's length to spare
/// behind the input; there are at least `PIXELS` pixels.
#[inline(always)]
pub(crate) unsafe fn run<A: Arithmetic, const PIXELS: usize, const REGISTERS: usize>(work: &WorkOf<A>) {
    debug_assert!(work.last - work.first >= PIXELS);
    let mut pixel = work.first;
    while pixel < work.last {
        let start = if pixel + PIXELS > work.last { work.last - PIXELS } else { pixel };
        // SAFETY: the caller vouches for the steps
        let (x, y) = unsafe { work.places::<PIXELS>(start) };
        // SAFETY: weights are packed for exactly these groups, steps and registers
        unsafe {
            let mut sums = [[A::zero(); REGISTERS]; PIXELS];
            let mut packed = work.weights;
            for group in 0..work.groups {
                let offset = *work.offsets.add(group) as usize;
                let mut inputs: [A::Inputs; PIXELS] = core::array::from_fn(|p| A::inputs(x[p].add(offset)));
                // written out: a loop over steps keeps its branches, as each is another instruction
                packed = step::<A, PIXELS, REGISTERS>(&mut sums, &mut inputs, packed, 0);
                if A::STEPS > 1 {
                    packed = step::<A, PIXELS, REGISTERS>(&mut sums, &mut inputs, packed, 1);
                }
                if A::STEPS > 2 {
                    packed = step::<A, PIXELS, REGISTERS>(&mut sums, &mut inputs, packed, 2);
                    packed = step::<A, PIXELS, REGISTERS>(&mut sums, &mut inputs, packed, 3);
                }
                if A::STEPS > 4 {
                    packed = step::<A, PIXELS, REGISTERS>(&mut sums, &mut inputs, packed, 4);
                    packed = step::<A, PIXELS, REGISTERS>(&mut sums, &mut inputs, packed, 5);
                    packed = step::<A, PIXELS, REGISTERS>(&mut sums, &mut inputs, packed, 6);
                    packed = step::<A, PIXELS, REGISTERS>(&mut sums, &mut inputs, packed, 7);
                }
            }
            for p in 0..PIXELS {
                A::store(sums[p], &work.finish, y[p], work.lanes);
            }
        }
        pixel += PIXELS;
    }
}

/// Multiplies one step of a group into all sums of a tile; the weights of the next lie at what it returns.
///
/// # Safety
/// See [`run`].
#[inline(always)]
unsafe fn step<A: Arithmetic, const PIXELS: usize, const REGISTERS: usize>(
    sums: &mut [[A::Sums; REGISTERS]; PIXELS],
    inputs: &mut [A::Inputs; PIXELS],
    packed: *const A::Weight,
    step: usize,
) -> *const A::Weight {
    const { assert!(matches!(A::STEPS, 1 | 2 | 4 | 8)) };
    // SAFETY: the caller vouches for it
    unsafe {
        let weights: [A::Weights; REGISTERS] =
            core::array::from_fn(|r| A::weights(packed.add(r * A::LANES * A::DEPTH)));
        for p in 0..PIXELS {
            if step > 0 {
                inputs[p] = A::next(inputs[p]);
            }
            for r in 0..REGISTERS {
                sums[p][r] = A::add(sums[p][r], inputs[p], weights[r], step);
            }
        }
        packed.add(REGISTERS * A::LANES * A::DEPTH)
    }
}

/// Sums that [`multiply`] keeps at work: enough to hide the latency of two multipliers, few enough for 16 registers.
pub(crate) const SUMS: usize = 12;

/// Multiplies registers `rounds` times into each of [`SUMS`] sums, without memory: what the multipliers can do at most.
///
/// # Safety
/// The CPU has the family's instructions; a group and the weights of a step can be read.
#[inline(always)]
pub(crate) unsafe fn multiply<A: Arithmetic>(x: *const A::In, weights: *const A::Weight, rounds: usize) {
    // SAFETY: the caller vouches for it
    unsafe {
        let mut sums = core::hint::black_box([A::zero(); SUMS]);
        let (mut inputs, weights) = (A::inputs(x), A::weights(weights));
        for _ in 0..rounds {
            for sum in &mut sums {
                inputs = A::again(inputs, x);
                *sum = A::add(*sum, inputs, weights, 0);
            }
        }
        core::hint::black_box(sums);
    }
}

/// One size of tile of one family.
pub(crate) struct Tile<In, Weight, Out, Finish> {
    pub(crate) pixels: usize,
    pub(crate) registers: usize,
    pub(crate) run: unsafe fn(&Work<In, Weight, Out, Finish>),
}

/// All code of an [`Arithmetic`].
pub(crate) struct Kernels<In: 'static, Weight: 'static, Out: 'static, Finish: 'static> {
    pub(crate) tiles: &'static [Tile<In, Weight, Out, Finish>],
    pub(crate) multiply: unsafe fn(*const In, *const Weight, usize),
}

/// The code of an [`Arithmetic`].
pub(crate) type KernelsOf<A> = Kernels<
    <A as Arithmetic>::In,
    <A as Arithmetic>::Weight,
    <A as Arithmetic>::Out,
    <A as Arithmetic>::Finish,
>;

/// Compiles an arithmetic: `kernels!(NAME: Arithmetic, "features", [(pixels, registers), …])`.
macro_rules! kernels {
    ($name:ident: $arithmetic:ty, $($features:literal,)? [$(($pixels:literal, $registers:literal)),* $(,)?]) => {
        pub(crate) static $name: $crate::tile::KernelsOf<$arithmetic> = {
            use $crate::tile::{Arithmetic, Kernels, Tile, WorkOf};
            $(#[target_feature(enable = $features)])?
            unsafe fn run<const PIXELS: usize, const REGISTERS: usize>(work: &WorkOf<$arithmetic>) {
                // SAFETY: the caller vouches for the CPU and the work
                unsafe { $crate::tile::run::<$arithmetic, PIXELS, REGISTERS>(work) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn multiply(
                x: *const <$arithmetic as Arithmetic>::In,
                weights: *const <$arithmetic as Arithmetic>::Weight,
                rounds: usize,
            ) {
                // SAFETY: the caller vouches for the CPU and the values
                unsafe { $crate::tile::multiply::<$arithmetic>(x, weights, rounds) }
            }
            let tiles = &[$(Tile { pixels: $pixels, registers: $registers, run: run::<$pixels, $registers> }),*];
            Kernels { tiles, multiply }
        };
    };
}
pub(crate) use kernels;
