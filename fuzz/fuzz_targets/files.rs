//! Files of every other kind that a user hands in: the first byte says as what they are read.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| edgegen_fuzz::files::read(bytes));
