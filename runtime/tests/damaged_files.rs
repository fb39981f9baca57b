//! Damaged ONNX files: cut off anywhere, any byte changed. Opening and running them may fail, with
//! one line that names the file; it must not panic, hang or take all memory.

mod common;

use edgegen_runtime::model::{Model, OpenOptions};
use edgegen_runtime::random::{Purpose, Stream};

/// Changed files per model and kind of change.
const CASES: u64 = 400;

/// Opens, and if that works also runs. Returns true if it did.
fn survives(bytes: &[u8]) -> bool {
    let check = |line: String| {
        assert!(line.contains("damaged.onnx") && !line.contains('\n') && line.len() < 1000, "{line}");
        false
    };
    let model = match Model::from_bytes(bytes, "damaged.onnx", &OpenOptions::default()) {
        Ok(model) => model,
        Err(error) => return check(error.to_string()),
    };
    let (values, latent_dim) = (model.facts().image.values(), model.facts().latent_dim);
    if model.facts().part.draws() {
        match model.into_generator(1).and_then(|mut g| g.run(&vec![0.5; latent_dim]).map(<[f32]>::len)) {
            Ok(length) => length == values,
            Err(error) => check(error.to_string()),
        }
    } else {
        match model.into_encoder(1).and_then(|mut e| e.run(&vec![0.5; values])) {
            Ok(posterior) => posterior.mean.len() == latent_dim,
            Err(error) => check(error.to_string()),
        }
    }
}

fn models() -> [Vec<u8>; 3] {
    [common::decoder().bytes(), common::encoder().bytes(), common::foreign_generator(-1, "Tanh").bytes()]
}

#[test]
fn whole_files_work() {
    models().iter().for_each(|bytes| assert!(survives(bytes)));
}

#[test]
fn files_cut_off_anywhere_are_refused_or_run() {
    for (index, bytes) in models().iter().enumerate() {
        let mut stream = Stream::new(1, Purpose::Evaluation, index as u64);
        let random = (0..CASES).map(|_| stream.below(bytes.len() as u32) as usize);
        for length in (0..64.min(bytes.len())).chain(random) {
            survives(&bytes[..length]);
        }
    }
}

#[test]
fn files_with_changed_bytes_are_refused_or_run() {
    let mut worked = 0;
    for (index, bytes) in models().iter().enumerate() {
        for case in 0..CASES {
            let mut stream = Stream::new(2 + index as u64, Purpose::Evaluation, case);
            let mut damaged = bytes.clone();
            for _ in 0..=stream.below(3) {
                let at = stream.below(bytes.len() as u32) as usize;
                damaged[at] = stream.word() as u8;
            }
            worked += usize::from(survives(&damaged));
        }
    }
    // Most bytes are weights: files with other weights still work.
    assert!(worked > 0);
}

/// Names, sizes and attributes are a small part of a file: here they are all of it.
#[test]
fn files_with_changed_structure_are_refused_or_run() {
    for (index, bytes) in models().iter().enumerate() {
        // Where runs of printable text are, there are names; a few bytes before them, lengths.
        let text = |at: usize| bytes[at].is_ascii_lowercase() && bytes.get(at + 1).is_some_and(u8::is_ascii);
        let places: Vec<usize> = (8..bytes.len()).filter(|at| text(*at)).collect();
        for case in 0..4 * CASES {
            let mut stream = Stream::new(20 + index as u64, Purpose::Evaluation, case);
            let mut damaged = bytes.clone();
            for _ in 0..=stream.below(2) {
                let place = places[stream.below(places.len() as u32) as usize];
                let at = (place + stream.below(16) as usize).saturating_sub(8).min(bytes.len() - 1);
                damaged[at] = if stream.below(2) == 0 {
                    damaged[at] ^ (1 << stream.below(8))
                } else {
                    stream.word() as u8
                };
            }
            survives(&damaged);
        }
    }
}
