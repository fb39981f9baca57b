//! Layers: refused, or the same in every family of instructions.
#![no_main]

libfuzzer_sys::fuzz_target!(|problem: edgegen_fuzz::kernels::Problem| problem.check());
