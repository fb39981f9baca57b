//! Layers in integers: u8 × s8 → i32, plus bias, times a float32 scale, rounded half to even, plus the zero point,
//! saturated.

use alloc::vec::Vec;

use crate::cpu::Cpu;
use crate::geometry::Kind;
use crate::isa::Isa;
use crate::pack::{Depthwise, Family, Layer};
use crate::plane::Plane;
use crate::scalar;

/// What a sum goes through before it is stored.
#[derive(Clone, Copy)]
pub(crate) struct Requantize {
    /// One a lane, from the block's first on.
    pub(crate) bias: *const i32,
    pub(crate) scale: *const f32,
    pub(crate) zero: i32,
    pub(crate) low: u8,
    pub(crate) high: u8,
    /// Values below zero are multiplied by this, 0 to 1.
    pub(crate) slope: f32,
}

pub(crate) type QuantizedFamily = Family<u8, i8, u8, Requantize>;

pub(crate) type QuantizedDepthwise = Depthwise<u8, i8, u8, Requantize>;

/// Sums beyond this in levels are cut off before they are rounded, so that no conversion overflows.
pub(crate) const MOST_LEVELS: f32 = 1_073_741_824.0;

/// A layer as its file tells it.
#[derive(Clone, Copy, Debug)]
pub struct QuantizedSpec<'a> {
    /// What it does to positions.
    pub kind: Kind,
    /// Its input, with at least the border that [`Kind::border`] asks for, which holds `x_zero`.
    pub input: Plane,
    /// Its output.
    pub output: Plane,
    /// Laid out as [`Kind`] says; symmetric.
    pub weights: &'a [i8],
    /// One an output, in steps of x_scale · w_scale; or none.
    pub bias: &'a [i32],
    /// x_scale · w_scale / y_scale: one an output, or one for all.
    pub scales: &'a [f32],
    /// The input's level of 0.
    pub x_zero: u8,
    /// The output's level of 0.
    pub y_zero: u8,
    /// The lowest level that is stored: `y_zero` is a ReLU.
    pub low: u8,
    /// The highest.
    pub high: u8,
    /// What values below zero are multiplied by before they are rounded, 0 to 1: 1 leaves them.
    pub slope: f32,
}

/// A spec whose parts do not belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch(pub(crate) &'static str);

impl core::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.0)
    }
}

impl core::error::Error for Mismatch {}

/// How many outputs a layer has, if its parts belong together: planes, numbers of weights and biases.
pub(crate) fn check(
    kind: Kind,
    input: &Plane,
    output: &Plane,
    (weights, bias): (usize, usize),
) -> Result<usize, Mismatch> {
    let groups = kind.groups();
    if !input.channels.is_multiple_of(groups) || !output.channels.is_multiple_of(groups) {
        return Err(Mismatch("the groups do not divide the channels"));
    }
    let inputs = input.channels / groups;
    let (outputs, each) = match kind {
        Kind::Conv { y, x, block, .. } => {
            let outputs = output.channels.checked_mul(block.get() * block.get());
            (outputs, inputs.checked_mul(y.kernel * x.kernel))
        }
        Kind::Transposed { y, x, .. } => (Some(output.channels), inputs.checked_mul(y.kernel * x.kernel)),
        Kind::Dense => (Some(output.values()), Some(input.values())),
    };
    let (Some(outputs), Some(each)) = (outputs, each) else {
        return Err(Mismatch("more weights than there can be"));
    };
    let needed = kind.border(input, output);
    if needed.max(input.border) != input.border {
        return Err(Mismatch("the input has too small a border"));
    }
    if outputs.checked_mul(each) != Some(weights) {
        return Err(Mismatch(
            "the weights have another number than the planes' channels and the kernel need",
        ));
    }
    if bias != 0 && bias != outputs {
        return Err(Mismatch("the bias has another number than the outputs"));
    }
    Ok(outputs)
}

/// A layer in integers that is ready to run.
pub struct QuantizedLayer {
    layer: Layer<u8, i8, u8, Requantize>,
    macs: u64,
    /// One a packed lane; what zero points add is in the bias.
    bias: Vec<i32>,
    scales: Vec<f32>,
    zero: i32,
    low: u8,
    high: u8,
    slope: f32,
}

impl QuantizedLayer {
    /// Packs a layer for a family.
    ///
    /// # Errors
    /// If the spec's parts do not belong together, or a scale or the slope is not a number.
    pub fn new(cpu: Cpu, spec: &QuantizedSpec<'_>) -> Result<Self, Mismatch> {
        let isa = cpu.isa();
        let outputs = check(spec.kind, &spec.input, &spec.output, (spec.weights.len(), spec.bias.len()))?;
        if !(0.0..=1.0).contains(&spec.slope) {
            return Err(Mismatch("the slope is not usable"));
        }
        if spec.scales.len() != outputs && spec.scales.len() != 1 {
            return Err(Mismatch("the scales have another number than the outputs"));
        }
        if !spec.scales.iter().all(|scale| scale.is_finite() && *scale >= 0.0) {
            return Err(Mismatch("a scale is not usable"));
        }
        let plan = spec.kind.plan(&spec.input, &spec.output);
        let lens = (spec.input.len(), spec.output.len());
        let layer = Layer::pack(plan, spec.weights, lens, families(isa), depthwise(isa));
        let flip = isa.flip();
        // levels are multiplied as they lie in memory: what that adds to a sum is its weights' sum times this
        let shift = i32::from(flip) - i32::from(spec.x_zero);
        let bias = layer.lanes().iter().map(|(output, total)| {
            let bias = output.and_then(|output| spec.bias.get(output)).copied().unwrap_or(0);
            bias.wrapping_add(shift.wrapping_mul(*total))
        });
        let scale = |output: Option<usize>| match spec.scales {
            [one] => *one,
            scales => output.map_or(0.0, |output| scales[output]),
        };
        let scales = layer.lanes().iter().map(|(output, _)| scale(*output));
        let (bias, scales) = (bias.collect(), scales.collect());
        let zero = i32::from(spec.y_zero) - i32::from(flip);
        let (low, high) = (spec.low ^ flip, spec.high ^ flip);
        Ok(Self {
            layer,
            macs: spec.kind.macs(&spec.input, &spec.output),
            bias,
            scales,
            zero,
            low,
            high,
            slope: spec.slope,
        })
    }

    /// Useful multiply-accumulates of a run.
    pub fn macs(&self) -> u64 {
        self.macs
    }

    /// Bytes that may be read behind the input plane; what they hold does not matter.
    pub fn slack(&self) -> usize {
        self.layer.slack()
    }

    /// Bytes that one part needs beside the planes.
    pub fn scratch(&self) -> usize {
        self.layer.scratch()
    }

    /// Whether all phases run as one, and pixels and registers of its first tile.
    pub fn tile(&self) -> (bool, Option<(usize, usize)>) {
        (self.layer.is_merged(), self.layer.tiles().next())
    }

    /// Runs it. `x` is the input plane and [`Self::slack`] bytes behind it, `y` the output plane,
    /// of which only outputs are written, not the border; levels lie as [`Isa`]'s family keeps them
    /// (see [`flipped`](crate::elements::flipped)). `scratch` has [`Self::scratch`] bytes.
    ///
    /// # Panics
    /// If a buffer is too small.
    pub fn run(&self, x: &[u8], y: &mut [u8], scratch: &mut [u8]) {
        self.layer.run(x, y, scratch, self.finish());
    }

    /// [`Self::run`], shared by threads; `scratch` has [`Self::scratch`] values for each.
    ///
    /// # Panics
    /// If a buffer is too small.
    #[cfg(feature = "std")]
    pub fn run_on(&self, pool: &mut crate::Pool, x: &[u8], y: &mut [u8], scratch: &mut [u8]) {
        self.layer.run_on(pool, x, y, scratch, self.finish());
    }

    /// What belongs to packed lanes from a number on.
    fn finish(&self) -> impl Fn(usize) -> Requantize + Sync {
        |lane| Requantize {
            bias: self.bias[lane..].as_ptr(),
            scale: self.scales[lane..].as_ptr(),
            zero: self.zero,
            low: self.low,
            high: self.high,
            slope: self.slope,
        }
    }
}

pub(crate) fn families(isa: Isa) -> &'static [QuantizedFamily] {
    match isa {
        Isa::Scalar => scalar::QUANTIZED,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => crate::x86::AVX2_QUANTIZED,
        #[cfg(target_arch = "x86_64")]
        Isa::AvxVnni => crate::x86::AVXVNNI_QUANTIZED,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => crate::x86::AVX512_QUANTIZED,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => crate::arm::NEON_QUANTIZED,
        #[cfg(target_arch = "aarch64")]
        Isa::NeonDot => crate::arm::NEONDOT_QUANTIZED,
        _ => panic!("{isa} kernels are not compiled for this architecture"),
    }
}

pub(crate) fn depthwise(isa: Isa) -> &'static QuantizedDepthwise {
    match isa {
        Isa::Scalar => &scalar::DEPTHWISE_QUANTIZED,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::AvxVnni => &crate::x86::AVX2_DEPTHWISE_QUANTIZED,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => &crate::x86::AVX512_DEPTHWISE_QUANTIZED,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon | Isa::NeonDot => &crate::arm::NEON_DEPTHWISE_QUANTIZED,
        _ => panic!("{isa} kernels are not compiled for this architecture"),
    }
}
