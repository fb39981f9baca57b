//! Layers in float32.

use alloc::vec;
use alloc::vec::Vec;

use crate::cpu::Cpu;
use crate::geometry::Kind;
use crate::isa::Isa;
use crate::pack::{Depthwise, Family, Half, Layer};
use crate::plane::Plane;
use crate::quantized::{Mismatch, check};
use crate::scalar;

/// What a sum goes through before it is stored.
#[derive(Clone, Copy)]
pub(crate) struct Activate {
    /// One a lane, from the block's first on.
    pub(crate) bias: *const f32,
    /// What values below zero are multiplied by, one a lane.
    pub(crate) slope: *const f32,
    /// What values are brought between.
    pub(crate) clip: Option<(f32, f32)>,
}

pub(crate) type FloatFamily = Family<f32, f32, f32, Activate>;

pub(crate) type FloatDepthwise = Depthwise<f32, f32, f32, Activate>;

pub(crate) type HalfFamily = Family<f32, Half, f32, Activate>;

/// A layer as its file tells it.
#[derive(Clone, Copy, Debug)]
pub struct FloatSpec<'a> {
    /// What it does to positions.
    pub kind: Kind,
    /// Its input, with at least the border that [`Kind::border`] asks for, which holds zeros.
    pub input: Plane,
    /// Its output.
    pub output: Plane,
    /// Laid out as [`Kind`] says.
    pub weights: &'a [f32],
    /// One an output, or none.
    pub bias: &'a [f32],
    /// What values below zero are multiplied by, one an output or one for all: 1 leaves them, 0 is a ReLU.
    pub slopes: &'a [f32],
    /// What values are brought between then; NaN becomes the lower.
    pub clip: Option<(f32, f32)>,
    /// Whether to round weights, inputs and each sum to float16, if the CPU computes in that ([`Cpu::halves`]); planes
    /// stay in float32.
    pub halves: bool,
}

/// The largest number of float16.
const HALVES_MOST: f32 = 65504.0;

enum Packed {
    Floats(Layer<f32, f32, f32, Activate>),
    Halves(Layer<f32, Half, f32, Activate>),
}

/// What is the same for both.
macro_rules! either {
    ($packed:expr, $layer:ident => $done:expr) => {
        match $packed {
            Packed::Floats($layer) => $done,
            Packed::Halves($layer) => $done,
        }
    };
}

/// A layer in float32 that is ready to run.
pub struct FloatLayer {
    layer: Packed,
    macs: u64,
    /// One a packed lane.
    bias: Vec<f32>,
    slopes: Vec<f32>,
    clip: Option<(f32, f32)>,
}

impl FloatLayer {
    /// Packs a layer for a family. Weights that read the same input, behind a nearest-neighbour enlargement, are summed.
    ///
    /// # Errors
    /// If the spec's parts do not belong together, or a slope is not a number.
    pub fn new(cpu: Cpu, spec: &FloatSpec<'_>) -> Result<Self, Mismatch> {
        let outputs = check(spec.kind, &spec.input, &spec.output, (spec.weights.len(), spec.bias.len()))?;
        if spec.slopes.len() != outputs && spec.slopes.len() != 1 {
            return Err(Mismatch("the slopes have another number than the outputs"));
        }
        if !spec.slopes.iter().all(|slope| slope.is_finite()) {
            return Err(Mismatch("a slope is not usable"));
        }
        if spec.clip.is_some_and(|(low, high)| low.is_nan() || high.is_nan()) {
            return Err(Mismatch("a bound is not a number"));
        }
        let plan = spec.kind.plan(&spec.input, &spec.output);
        let lens = (spec.input.len(), spec.output.len());
        let isa = cpu.isa();
        // what float16 does not hold stays in float32, and so does what waits for memory anyway
        let fits = |weight: &f32| weight.abs() <= HALVES_MOST;
        let halves = spec.halves && !plan.depthwise && spec.weights.iter().all(fits);
        let layer = match half_families(cpu).filter(|_| halves) {
            Some(families) => {
                let weights: Vec<Half> = spec.weights.iter().map(|weight| Half::of(*weight)).collect();
                Packed::Halves(Layer::pack_groups(plan, &weights, lens, families))
            }
            None => Packed::Floats(Layer::pack(plan, spec.weights, lens, families(isa), depthwise(isa))),
        };
        let bias = either!(&layer, layer => layer.lanes())
            .iter()
            .map(|(output, _)| output.and_then(|output| spec.bias.get(output)).copied().unwrap_or(0.0));
        let bias = bias.collect();
        let slope = |output: Option<usize>| match spec.slopes {
            [one] => *one,
            slopes => output.map_or(1.0, |output| slopes[output]),
        };
        let slopes =
            either!(&layer, layer => layer.lanes()).iter().map(|(output, _)| slope(*output)).collect();
        let macs = spec.kind.macs(&spec.input, &spec.output);
        Ok(Self { layer, macs, bias, slopes, clip: spec.clip })
    }

    /// Useful multiply-accumulates of a run.
    pub fn macs(&self) -> u64 {
        self.macs
    }

    /// Values that may be read behind the input plane; what they hold does not matter, as long as they are numbers.
    pub fn slack(&self) -> usize {
        either!(&self.layer, layer => layer.slack())
    }

    /// Values that one part needs beside the planes.
    pub fn scratch(&self) -> usize {
        either!(&self.layer, layer => layer.scratch())
    }

    /// Whether it computes in float16.
    pub fn halves(&self) -> bool {
        matches!(self.layer, Packed::Halves(_))
    }

    /// Whether all phases run as one, and pixels and registers of its first tile.
    pub fn tile(&self) -> (bool, Option<(usize, usize)>) {
        either!(&self.layer, layer => (layer.is_merged(), layer.tiles().next()))
    }

    /// Runs it. `x` is the input plane and [`Self::slack`] values behind it, `y` the output plane,
    /// of which only outputs are written, not the border. `scratch` has [`Self::scratch`] values.
    ///
    /// # Panics
    /// If a buffer is too small.
    pub fn run(&self, x: &[f32], y: &mut [f32], scratch: &mut [f32]) {
        either!(&self.layer, layer => layer.run(x, y, scratch, self.finish()));
    }

    /// [`Self::run`], shared by threads; `scratch` has [`Self::scratch`] values for each.
    ///
    /// # Panics
    /// If a buffer is too small.
    #[cfg(feature = "std")]
    pub fn run_on(&self, pool: &mut crate::Pool, x: &[f32], y: &mut [f32], scratch: &mut [f32]) {
        either!(&self.layer, layer => layer.run_on(pool, x, y, scratch, self.finish()));
    }

    /// What belongs to packed lanes from a number on.
    fn finish(&self) -> impl Fn(usize) -> Activate + Sync {
        |lane| Activate {
            bias: self.bias[lane..].as_ptr(),
            slope: self.slopes[lane..].as_ptr(),
            clip: self.clip,
        }
    }
}

/// The product of two matrices, (rows, inner) · (inner, columns), that are both values: each lies in a plane whose channels are
/// its rows and whose pixels, in one row, are its columns; or, turned, the other way round.
#[derive(Clone)]
pub struct Product {
    layer: Layer<f32, f32, f32, Activate>,
    left: Plane,
    turned: bool,
    macs: u64,
    bias: Vec<f32>,
    slopes: Vec<f32>,
}

impl Product {
    /// Of planes of these sizes, each with whether it lies turned.
    ///
    /// # Errors
    /// If the sizes do not fit, or a plane has several rows of pixels.
    pub fn new(
        cpu: Cpu,
        (left, left_turned): (Plane, bool),
        (right, right_turned): (Plane, bool),
        made: Plane,
    ) -> Result<Self, Mismatch> {
        let turned = |plane: &Plane, turned| match turned {
            true => (plane.width, plane.channels),
            false => (plane.channels, plane.width),
        };
        let ((rows, inner), (other, columns)) = (turned(&left, left_turned), turned(&right, right_turned));
        let one = crate::geometry::Axis { kernel: 1, stride: 1, padding: 0, dilation: 1 };
        let (enlarged, block) = (crate::geometry::Times::ONE, crate::geometry::Times::ONE);
        let kind = Kind::Conv { y: one, x: one, enlarged, block, cropped: 0, groups: 1 };
        let heights = left.height * right.height * made.height == 1;
        if !heights || inner != other || (made.channels, made.width) != (rows, columns) {
            return Err(Mismatch("matrices whose sizes do not fit"));
        }
        let count = rows.checked_mul(inner).ok_or(Mismatch("matrices that are too large"))?;
        let lens = (right.len(), made.len());
        let isa = cpu.isa();
        // a convolution whose channels are the rows; where the right lies turned, its columns are channels, and each of its
        // pixels is a tap
        let plan = if right_turned {
            Kind::plan_turned(&right, &made)
        } else {
            check(kind, &right, &made, (count, 0))?;
            kind.plan(&right, &made)
        };
        let layer = Layer::pack_groups(plan, &vec![0.0; count], lens, families(isa));
        let lanes = layer.lanes().len();
        let macs = (count as u64).saturating_mul(columns as u64);
        let (bias, slopes) = (vec![0.0; lanes], vec![1.0; lanes]);
        Ok(Self { layer, left, turned: left_turned, macs, bias, slopes })
    }

    /// Multiply-accumulates of a run.
    pub fn macs(&self) -> u64 {
        self.macs
    }

    /// Values that may be read behind the right plane; what they hold does not matter, as long as they are numbers.
    pub fn slack(&self) -> usize {
        self.layer.slack()
    }

    /// Runs it. `right` is its plane and [`Self::slack`] values behind it.
    ///
    /// # Panics
    /// If a buffer is too small.
    pub fn run(&mut self, left: &[f32], right: &[f32], made: &mut [f32]) {
        let first = self.left.at(0, 0).unsigned_abs();
        let Plane { channels, width, .. } = self.left;
        match self.turned {
            true => self.layer.refill(&left[first..], channels, 1, channels),
            false => self.layer.refill(&left[first..], width, channels, 1),
        }
        let finish = |lane: usize| {
            let (bias, slope) = (self.bias[lane..].as_ptr(), self.slopes[lane..].as_ptr());
            Activate { bias, slope, clip: None }
        };
        self.layer.run(right, made, &mut [], finish);
    }
}

/// Those that compute in float16, if this CPU does.
pub(crate) fn half_families(cpu: Cpu) -> Option<&'static [HalfFamily]> {
    #[cfg(target_arch = "aarch64")]
    if cpu.halves() {
        return Some(crate::arm::NEON_HALF);
    }
    let _ = cpu;
    None
}

pub(crate) fn families(isa: Isa) -> &'static [FloatFamily] {
    match isa {
        Isa::Scalar => scalar::FLOAT,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::AvxVnni => crate::x86::AVX2_FLOAT,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => crate::x86::AVX512_FLOAT,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon | Isa::NeonDot => crate::arm::NEON_FLOAT,
        _ => panic!("{isa} kernels are not compiled for this architecture"),
    }
}

pub(crate) fn depthwise(isa: Isa) -> &'static FloatDepthwise {
    match isa {
        Isa::Scalar => &scalar::DEPTHWISE_FLOAT,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::AvxVnni => &crate::x86::AVX2_DEPTHWISE_FLOAT,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => &crate::x86::AVX512_DEPTHWISE_FLOAT,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon | Isa::NeonDot => &crate::arm::NEON_DEPTHWISE_FLOAT,
        _ => panic!("{isa} kernels are not compiled for this architecture"),
    }
}
