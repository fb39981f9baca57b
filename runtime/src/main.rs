//! The `edgegen` program.
fn main() {}
