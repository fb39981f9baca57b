//! Sounds of any rate and width → spectrograms → a model → sound.

use std::f64::consts::TAU;
use std::fs;
use std::path::Path;

use edgegen_runtime::sound::{Format, Sound, read_wav, write_wav};
use edgegen_tests::{command, refused, succeeds};

/// A tone that rises or falls.
fn sweep(rate: u32, falls: bool, index: u32) -> Sound {
    let (low, high) = (300.0 + 15.0 * f64::from(index), 1500.0 + 40.0 * f64::from(index));
    let mut phase = 0.0;
    let count = rate * 6 / 10;
    let samples = (0..count)
        .map(|at| {
            let place = f64::from(at) / f64::from(count);
            let hertz = low + (high - low) * if falls { 1.0 - place } else { place };
            phase += TAU * hertz / f64::from(rate);
            (0.4 * phase.sin()) as f32
        })
        .collect();
    Sound { rate, samples }
}

fn sounds(folder: &Path) {
    for class in ["falls", "rises"] {
        fs::create_dir_all(folder.join("data").join(class)).unwrap();
        for index in 0..12 {
            let rate = [8000, 16000, 44100][index as usize % 3];
            let path = folder.join(format!("data/{class}/{index}.wav"));
            write_wav(&sweep(rate, class == "falls", index), &path).unwrap();
        }
    }
    // what cannot be heard is skipped, and named
    write_wav(&Sound { rate: 8000, samples: vec![0.0; 4000] }, &folder.join("data/falls/silence.wav"))
        .unwrap();
    fs::write(folder.join("data/rises/broken.wav"), b"RIFF and nothing else").unwrap();
    fs::write(folder.join("data/rises/notes.txt"), b"not a sound").unwrap();
}

#[test]
fn a_model_of_sounds_is_trained_and_heard() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    sounds(folder);
    let mut call = command(
        folder,
        "edgegen-train",
        "train sound-gan --data data --conditional --steps 40 --batch 8 --latent 8 --set network.base=4 --size 32 \
         --set data.hop=128 --set objective.features=none --out run",
    );
    let output = call.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("silence.wav") && told.contains("broken.wav"), "{told}");
    let train = |arguments: &str| succeeds(folder, "edgegen-train", arguments);
    train("export run --out model --least-quality 0");
    let run = |arguments: &str| succeeds(folder, "edgegen", arguments);
    for precision in ["fp32", "int8"] {
        run(&format!("say model --precision {precision} --class rises --seed 3 --out {precision}.wav"));
        let sound = read_wav(&folder.join(format!("{precision}.wav"))).unwrap();
        assert_eq!((sound.rate, sound.samples.len()), (8000, 31 * 128 + 1));
        assert!(sound.samples.iter().any(|sample| sample.abs() > 0.6), "{precision}");
    }
    run("say model --class falls --seed 1 --to 2 --count 3 --rounds 5 --out walk.wav");
    let walk = read_wav(&folder.join("walk.wav")).unwrap();
    assert_eq!(walk.samples.len(), 3 * 3969 + 2 * 1200);
    // the same again
    run("say model --class rises --seed 3 --out again.wav");
    assert_eq!(fs::read(folder.join("again.wav")).unwrap(), fs::read(folder.join("fp32.wav")).unwrap());
    // a spectrogram that was drawn is that of the sound, about
    run("generate model --class rises --seed 3 --out drawn.npy");
    let (_, values) = edgegen_runtime::pictures::read_npy(&folder.join("drawn.npy")).unwrap();
    let format = Format { rate: 8000, window: 256, hop: 128 };
    let heard = format.spectrogram(&read_wav(&folder.join("fp32.wav")).unwrap().samples, 32, 32).unwrap();
    let loud: Vec<(f32, f32)> =
        values.iter().map(|value| 0.5 * (value + 1.0)).zip(heard).filter(|(drawn, _)| *drawn > 0.8).collect();
    let apart = loud.iter().map(|(drawn, heard)| (drawn - heard).abs()).sum::<f32>() / loud.len() as f32;
    assert!(apart < 0.15, "{apart} of {} places", loud.len());
    for (call, expected) in [
        ("say model --out x.mp3", vec!["x.mp3", ".wav"]),
        ("say model --class nobody --out x.wav", vec!["nobody", "rises"]),
        ("say model --rounds 99999 --out x.wav", vec!["--rounds"]),
    ] {
        refused(&mut command(folder, "edgegen", call), &expected);
    }
    fs::create_dir(folder.join("empty")).unwrap();
    for (call, expected) in [
        ("train sound-gan --data empty --out x", vec!["empty", "WAV"]),
        ("train sound-gan --out x", vec!["--data"]),
        ("train sound-gan --data data --set data.hop=0 --out x", vec!["data.hop"]),
        ("train gan-64 --data data --out x", vec!["holds no image", ".wav"]),
    ] {
        refused(&mut command(folder, "edgegen-train", call), &expected);
    }
    assert!(!folder.join("x.wav").exists() && !folder.join("x").exists());
}

#[test]
fn models_of_pictures_say_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let model = edgegen_tests::root().join("models/mnist-vae");
    let call = format!("say {} --out x.wav", model.display());
    refused(&mut command(folder.path(), "edgegen", &call), &["edgegen generate"]);
}
