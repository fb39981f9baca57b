//! The loop of layers in which each channel is a group: pixels × channels are held in registers, and each tap's inputs, as
//! many channels as a register holds, are multiplied by weights of their own.

use crate::tile::Work;

/// How one family multiplies channels with their own weights.
///
/// Its functions are inlined into functions that enable the family's instructions; none may be called elsewhere.
pub(crate) trait Channelwise {
    /// An input value in memory.
    type In: Copy;
    /// A packed weight.
    type Weight: Copy;
    /// An output value in memory.
    type Out: Copy;
    /// What is done to sums before they are stored.
    type Finish: Copy;
    /// Sums of [`Self::LANES`] channels.
    type Sums: Copy;
    /// Weights of [`Self::TAPS`] taps of [`Self::LANES`] channels.
    type Weights: Copy;

    /// Channels that are multiplied at once.
    const LANES: usize;
    /// Taps that are multiplied at once: 1, 2 or 4.
    const TAPS: usize;

    /// Zeros.
    ///
    /// # Safety
    /// The CPU has the family's instructions, as for all functions here.
    unsafe fn zero() -> Self::Sums;
    /// Loads weights.
    ///
    /// # Safety
    /// `LANES · TAPS` weights can be read.
    unsafe fn weights(from: *const Self::Weight) -> Self::Weights;
    /// Multiplies `TAPS` taps into the sums.
    ///
    /// # Safety
    /// There are `TAPS` offsets, and behind `from` and each of them `LANES` values can be read.
    unsafe fn add(
        sums: Self::Sums,
        from: *const Self::In,
        offsets: *const u32,
        weights: Self::Weights,
    ) -> Self::Sums;
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

/// The work of a [`Channelwise`]; its groups are of `TAPS` taps, each with an offset of its own.
pub(crate) type WorkOf<C> = Work<
    <C as Channelwise>::In,
    <C as Channelwise>::Weight,
    <C as Channelwise>::Out,
    <C as Channelwise>::Finish,
>;

/// Runs tiles of `PIXELS` pixels × `REGISTERS` registers. Where fewer pixels than a tile's are left, the last tile overlaps
/// the one before.
///
/// # Safety
/// The CPU has the family's instructions; pointers and steps stay inside their buffers, with the lanes of a register to spare
/// behind the input; there are at least `PIXELS` pixels.
#[inline(always)]
pub(crate) unsafe fn run<C: Channelwise, const PIXELS: usize, const REGISTERS: usize>(work: &WorkOf<C>) {
    debug_assert!(work.last - work.first >= PIXELS);
    let mut pixel = work.first;
    while pixel < work.last {
        let start = if pixel + PIXELS > work.last { work.last - PIXELS } else { pixel };
        // SAFETY: the caller vouches for the steps; weights are packed for exactly these groups and registers
        unsafe {
            let (x, y) = work.places::<PIXELS>(start);
            let mut sums = [[C::zero(); REGISTERS]; PIXELS];
            for group in 0..work.groups {
                let offsets = work.offsets.add(group * C::TAPS);
                let weights: [C::Weights; REGISTERS] = core::array::from_fn(|register| {
                    C::weights(work.weights.add((group * REGISTERS + register) * C::LANES * C::TAPS))
                });
                for p in 0..PIXELS {
                    for r in 0..REGISTERS {
                        sums[p][r] = C::add(sums[p][r], x[p].add(r * C::LANES), offsets, weights[r]);
                    }
                }
            }
            for p in 0..PIXELS {
                C::store(sums[p], &work.finish, y[p], work.lanes);
            }
        }
        pixel += PIXELS;
    }
}

/// Compiles a [`Channelwise`]: `channelwise!(NAME: Channelwise, "features", [(pixels, registers), …])`.
macro_rules! channelwise {
    ($name:ident: $channelwise:ty, $($features:literal,)? [$(($pixels:literal, $registers:literal)),* $(,)?]) => {
        pub(crate) static $name: &[$crate::tile::Tile<
            <$channelwise as $crate::depthwise::Channelwise>::In,
            <$channelwise as $crate::depthwise::Channelwise>::Weight,
            <$channelwise as $crate::depthwise::Channelwise>::Out,
            <$channelwise as $crate::depthwise::Channelwise>::Finish,
        >] = {
            $(#[target_feature(enable = $features)])?
            unsafe fn run<const PIXELS: usize, const REGISTERS: usize>(
                work: &$crate::depthwise::WorkOf<$channelwise>,
            ) {
                // SAFETY: the caller vouches for the CPU and the work
                unsafe { $crate::depthwise::run::<$channelwise, PIXELS, REGISTERS>(work) }
            }
            &[$($crate::tile::Tile { pixels: $pixels, registers: $registers, run: run::<$pixels, $registers> }),*]
        };
    };
}
pub(crate) use channelwise;
