//! Graphs: refused, or drawn alike by both engines.
#![no_main]

libfuzzer_sys::fuzz_target!(init: edgegen_fuzz::let_tract_panic(), |graph: edgegen_fuzz::graphs::Graph| {
    edgegen_fuzz::graphs::agree(&graph.bytes());
});
