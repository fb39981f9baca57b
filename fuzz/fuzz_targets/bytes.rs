//! Bytes as an ONNX file: refused, or drawn twice alike.
#![no_main]

use edgegen_runtime::model::EngineChoice;

libfuzzer_sys::fuzz_target!(init: edgegen_fuzz::let_tract_panic(), |bytes: &[u8]| {
    edgegen_fuzz::drawn(bytes, EngineChoice::Auto);
});
