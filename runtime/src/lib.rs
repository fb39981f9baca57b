//! Runs edgegen's ONNX models on a device's CPU: latents in, pictures out.
//!
//! The library knows nothing of training and nothing of displays. It is pure Rust. Networks whose every node has one of
//! [`edgegen_kernels`]'s kernels run on those, others on [tract](https://github.com/sonos/tract)
//! (feature `tract`, on by default; without it they are an error): [`Facts::tract`](model::Facts::tract) says which, and why.
//!
//! # Layers
//! From the bottom up; each uses only those above it in this list.
//! - [`random`]: random numbers that are the same on every platform.
//! - [`files`]: files that are there in full or not at all.
//! - [`limits`]: what a file or a caller may ask for.
//! - `onnx`: the messages of a file, its constants, its nodes' attributes.
//! - `lower`: an ONNX graph becomes a program of fused kernels over planes in one arena.
//! - [`model`]: open a file or a model folder, check it, tell what it is, make it ready to run; tract.
//! - [`generate`]: latents, decoders and generators, encoders, frames.
//! - `pictures` (feature `pictures`): PNG grids, GIF animations, `.npy` arrays.
//! - [`measure`]: times, memory, instruction sets.
//! - `arguments` (feature `arguments`): the command-line arguments that programs share that open a model.
//! - `manual` (feature `manual`): man pages and completions of the programs.
//!
//! The program `edgegen` (feature `program`) is a thin layer of commands on top.
//!
//! # Guarantees
//! - Latent `i` of a seed is the same number for number on every platform, whatever the count,
//!   the batch size or the threads.
//! - A network that kernels run gives the same bits for the same latent on every CPU, whatever the batch size: in integers and
//!   in float32. Only float16 files differ, by float16's rounding, on a CPU that computes in it
//!   ([`Cpu::halves`](edgegen_kernels::Cpu::halves)); and what tract runs, by float32's.
//! - What a file or a caller asks for is checked against [`limits`] before memory is taken
//!   for it. A damaged file is an error of one line, never a panic.
//! - What is not supported is an error that names it. There is no silent fallback.
//! - The library has no side effects on its process: no panic hook, no setting of threads, no look at the environment.
//!
//! # Not implemented
//! Inputs and outputs other than floats (and one int64 input that tells classes), several inputs, weights in other files of a
//! model that is opened from memory, sparse weights, GPUs.
//!
//! # Example
//! ```no_run
//! use edgegen_runtime::generate::Latents;
//! use edgegen_runtime::model::{Model, OpenOptions};
//!
//! # fn main() -> edgegen_runtime::Result<()> {
//! let model = Model::open("decoder.fp32.onnx".as_ref(), &OpenOptions::default())?;
//! println!("pictures of {}", model.facts().image);
//! let mut decoder = model.into_generator(1)?;
//! let latents = Latents::from_seed(7, 0, 16, decoder.latent_dim(), 1.0);
//! for frame in decoder.frames(&latents, &[])? {
//!     println!("{} x {}, first pixel {}", frame.width, frame.height, frame.pixels[0]);
//! }
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "arguments")]
pub mod arguments;
pub mod files;
pub mod generate;
#[cfg(feature = "manual")]
pub mod manual;
pub mod measure;
pub mod model;
#[cfg(feature = "pictures")]
pub mod pictures;
pub mod random;
#[cfg(feature = "sound")]
pub mod sound;

mod error;
mod kinds;
pub mod limits;
mod lower;
mod onnx;
mod raster;

pub use error::{Error, Result};

/// Whether this thread is inside of tract, which answers some damaged files with a panic. It becomes an error; a program may
/// ask here in its panic hook, so that its message, which would only puzzle a user, is not printed.
pub fn panic_becomes_error() -> bool {
    #[cfg(feature = "tract")]
    return model::tract::is_guarded();
    #[cfg(not(feature = "tract"))]
    false
}
