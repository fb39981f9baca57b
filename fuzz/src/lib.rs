//! What the targets share, and what the tests on stable Rust replay.

pub mod files;
pub mod graphs;
pub mod kernels;

use arbitrary::{Arbitrary, Unstructured};
use edgegen_runtime::model::{EngineChoice, Model, OpenOptions, Part, Range};

/// The targets, by name.
pub const TARGETS: [&str; 4] = ["bytes", "graphs", "kernels", "files"];

/// Runs a target of this name on bytes, as libFuzzer does.
///
/// # Panics
/// If there is no such target, or if it finds something.
pub fn run(target: &str, bytes: &[u8]) {
    let rest = Unstructured::new(bytes);
    match target {
        "bytes" => drop(drawn(bytes, EngineChoice::Auto)),
        "files" => files::read(bytes),
        "graphs" => {
            if let Ok(graph) = graphs::Graph::arbitrary_take_rest(rest) {
                graphs::agree(&graph.bytes());
            }
        }
        "kernels" => {
            if let Ok(problem) = kernels::Problem::arbitrary_take_rest(rest) {
                problem.check();
            }
        }
        other => panic!("no target is called {other:?}"),
    }
}

/// libFuzzer ends at every panic: but tract's become errors.
pub fn let_tract_panic() {
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !edgegen_runtime::panic_becomes_error() {
            previous(info);
        }
    }));
}

/// Opens bytes as a model and draws twice. What comes out; `None` if it is refused.
pub fn drawn(bytes: &[u8], engine: EngineChoice) -> Option<Vec<f32>> {
    let options = OpenOptions { range: Some(Range::Signed), engine, ..OpenOptions::default() };
    let model = Model::from_bytes(bytes, "fuzz", &options).ok()?;
    // large networks are slow under a sanitizer and take no other path than small ones
    if model.facts().macs.is_none_or(|macs| macs > 10_000_000) || model.facts().image.values() > 1 << 18 {
        return None;
    }
    if model.facts().part == Part::Transform {
        let mut network = model.into_transformer(1).ok()?;
        let picture = vec![0.5; network.source_shape().values()];
        return network.run(&picture).ok().map(<[f32]>::to_vec);
    }
    if !model.facts().part.draws() {
        let mut encoder = model.into_encoder(1).ok()?;
        let picture = vec![0.5; encoder.image_shape().values()];
        return encoder.run(&picture).ok().map(|posterior| posterior.mean);
    }
    let mut generator = model.into_generator(1).ok()?;
    let latent: Vec<f32> = (0..generator.latent_dim()).map(|index| (index % 7) as f32 / 3.0 - 1.0).collect();
    let classes = if generator.is_conditional() { vec![0] } else { vec![] };
    let first = generator.run(&latent, &classes).ok()?.to_vec();
    let second = generator.run(&latent, &classes).ok()?;
    let same = first.iter().zip(second).all(|(a, b)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan());
    assert!(same, "a second run draws another picture");
    Some(first)
}
