//! The arithmetic of small image generators: convolutions, transposed convolutions and dense layers over NHWC
//! planes with a border, in u8 × s8 → i32 → u8 and in f32, and in f16 where the
//! CPU does. No std, no dependencies but `libm` and `alloc`.
//!
//! # How it works
//! 1. `geometry`: a layer becomes phases, grids of outputs that read their inputs at the same distances. Transposed
//!    convolutions, DepthToSpace behind a convolution, and convolutions of an enlarged picture need no pass of their own.
//! 2. `pack`: taps become groups of consecutive inputs, and weights lie in the order in which a family reads them.
//!    Nothing is copied per run: kernels read the padded plane where it is.
//! 3. `tile` (and `depthwise`, where each channel has weights of its own): one loop holds pixels × channels in registers. A family of instructions ([`Isa`]) says how groups are
//!    multiplied and how sums are rounded and stored; everything else is shared.
//!
//! What is done to values on their own (`elements`, `function`), to windows of a channel (`windows`) and to many at once
//! (`norms`) are plain loops, compiled for the widest vectors of each CPU (`wide`).
//!
//! # Guarantees
//! - Integers agree bit for bit between all families: sums are exact modulo 2³² and rounded half to even after one
//!   multiplication in f32. A family whose instructions saturate splits weights so that none can ([`QuantizedLayer`]).
//! - Floats agree bit for bit as well: all families add the same products in the same order, and round each sum once, as a
//!   fused multiplication and addition.
//! - float16 sums are rounded to float16 after each product: [`FloatSpec::halves`] says when.
//! - Planes, axes and factors are made by checked constructors: no size that safe code can write makes an offset wrap.
//! - Nothing is allocated after a layer is made.
//! - A layer runs instructions of the family that it was made for alone, and is made with a [`Cpu`], which proves that they
//!   are there: by asking (feature `std`) or on its maker's word.
//!
//! # Not implemented
//! Activations in s8 (shift the zero point by 128), weights with zero points, bf16,
//! i8mm (no Raspberry Pi has it).

#![no_std]
#![warn(missing_docs)]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod cpu;
mod depthwise;
pub mod elements;
mod float;
mod function;
mod geometry;
mod half;
mod isa;
pub mod norms;
mod pack;
mod peak;
mod plane;
#[cfg(feature = "std")]
mod pool;
mod quantized;
mod scalar;
mod tile;
mod wide;
pub mod windows;

#[cfg(target_arch = "aarch64")]
mod arm;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use self::half::{half_from_float, half_to_float};
pub use cpu::Cpu;
pub use float::{FloatLayer, FloatSpec, Product};
pub use geometry::{Axis, Kind, Times};
pub use isa::{Isa, UnknownIsa};
pub use peak::{multiply_floats, multiply_halves, multiply_integers};
pub use plane::{Border, Plane};
#[cfg(feature = "std")]
pub use pool::Pool;
pub use quantized::{Mismatch, QuantizedLayer, QuantizedSpec};
