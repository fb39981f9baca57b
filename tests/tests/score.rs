//! How odd pictures, sounds and rows are: learned from one class, told from the others on the device.

use std::fs;
use std::path::Path;

use edgegen_runtime::pictures::write_npy;
use edgegen_runtime::sound::{Sound, write_wav};
use edgegen_tests::{command, refused, root, succeeds};
use serde_json::Value;

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Exit code and lines of a call that scores.
fn score(folder: &Path, arguments: &str) -> (Option<i32>, Vec<Value>) {
    let output = command(folder, "edgegen", &format!("score {arguments}")).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.is_empty(), "{arguments}: {errors}");
    (output.status.code(), lines(&String::from_utf8_lossy(&output.stdout)))
}

#[test]
fn a_model_of_one_class_tells_the_others_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // bright discs are usual, crosses are odd
    for (class, count) in [("disc", 60), ("cross", 20)] {
        for index in 0..count {
            let middle = 10 + index % 8;
            let picture = image::GrayImage::from_fn(28, 28, |x, y| {
                let (dx, dy) = (x.abs_diff(middle), y.abs_diff(28 - middle));
                let inside = match class {
                    "disc" => dx * dx + dy * dy < 30 + index % 7,
                    _ => dx < 2 || dy < 2,
                };
                image::Luma([if inside { 230 } else { 15 + (x + index) as u8 % 9 }])
            });
            for part in ["train", "test"] {
                let place = folder.join("data").join(part).join(class);
                fs::create_dir_all(&place).unwrap();
                // no picture of one part is in the other
                if (part == "test") == (index % 3 == 0) {
                    picture.save(place.join(format!("{index}.png"))).unwrap();
                }
            }
        }
    }
    let train = |arguments: &str| succeeds(folder, "edgegen-train", arguments);
    train("train anomaly --data data --only disc --steps 150 --batch 16 --set network.base=8 --out run");
    let told = train("eval run --samples 1");
    let auroc: f64 = told.split("AUROC ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(auroc > 0.95, "{told}");
    train("export run --out model --least-quality 10");
    for precision in ["fp32", "int8"] {
        let call = |class: &str, more: &str| {
            score(folder, &format!("model data/test/{class} --precision {precision} {more}"))
        };
        let ((usual, discs), (odd, crosses)) = (call("disc", "--threshold 1e9"), call("cross", ""));
        assert_eq!((usual, odd, discs.len(), crosses.len()), (Some(0), Some(3), 20, 7), "{precision}");
        let mean = |lines: &[Value]| {
            lines.iter().map(|line| line["score"].as_f64().unwrap()).sum::<f64>() / lines.len() as f64
        };
        assert!(mean(&crosses) > 1.5 * mean(&discs), "{precision}: {discs:?} {crosses:?}");
        let stored = crosses[0]["threshold"].as_f64().unwrap();
        assert!(crosses.iter().all(|line| line["odd"] == (line["score"].as_f64().unwrap() > stored)));
        // a mean of several, and a threshold of one's own
        let (_, smooth) = call("cross", "--window 3 --quantile 1");
        assert_eq!(smooth.len(), 8);
        let scores: Vec<f64> = crosses.iter().map(|line| line["score"].as_f64().unwrap()).collect();
        let third = smooth[2]["score"].as_f64().unwrap();
        assert!((third - scores[..3].iter().sum::<f64>() / 3.0).abs() < 1e-6 * third);
        let most = smooth[..7].iter().map(|line| line["score"].as_f64().unwrap()).fold(0.0, f64::max);
        assert_eq!(smooth[7]["score"].as_f64(), Some(most));
    }
    score(folder, "model data/test/cross --heat heat.png");
    let heat = image::open(folder.join("heat.png")).unwrap();
    assert_eq!((heat.width(), heat.height()), (3 * 28 + 4, 7 * 28 + 12));
    for (call, expected) in [
        ("score model missing.png", vec!["missing.png"]),
        ("score model data/test/disc --window 0", vec!["--window 0"]),
        ("score model data/test/disc --quantile 2", vec!["0 to 1"]),
        ("score model/encoder.fp32.onnx data/test/disc", vec!["encoder and decoder"]),
    ] {
        refused(&mut command(folder, "edgegen", call), &expected);
    }
    for (call, expected) in [
        ("train anomaly --data data --only ring --out x", vec!["--only ring", "disc"]),
        ("train anomaly --data data/test/disc --only ring --out x", vec!["--only ring", "none"]),
    ] {
        refused(&mut command(folder, "edgegen-train", call), &expected);
    }
}

/// A dense autoencoder that PyTorch exported.
#[test]
fn rows_of_numbers_are_scored_by_an_autoencoder() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let model = root().join("tests/zoo/anomaly64.old.onnx");
    fs::copy(&model, folder.join("m.onnx")).unwrap();
    let values: Vec<f32> = (0..3 * 64).map(|at| ((at * 7) % 64) as f32 / 64.0).collect();
    let rows: Vec<String> = values
        .chunks(64)
        .map(|row| row.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
        .collect();
    let header = (0..64).map(|column| format!("s{column}")).collect::<Vec<_>>().join(",");
    fs::write(folder.join("rows.csv"), format!("{header}\n{}\n", rows.join("\n"))).unwrap();
    write_npy(&folder.join("rows.npy"), &[3, 64], &values).unwrap();
    let (code, from_csv) = score(folder, "m.onnx rows.csv");
    let (_, from_npy) = score(folder, "m.onnx rows.npy");
    assert_eq!((code, from_csv.len()), (Some(0), 3));
    for (a, b) in from_csv.iter().zip(&from_npy) {
        assert_eq!(a["score"], b["score"]);
    }
    assert_eq!(from_csv[1]["item"], "rows.csv:2");
    let middle = from_csv[0]["score"].as_f64().unwrap() * 0.5;
    assert_eq!(score(folder, &format!("m.onnx rows.csv --threshold {middle}")).0, Some(3));
    fs::write(folder.join("bad.csv"), "1,2,3\n").unwrap();
    fs::write(folder.join("words.csv"), format!("{}\n1,a\n", rows[0])).unwrap();
    fs::write(folder.join("empty.csv"), "").unwrap();
    for (call, expected) in [
        ("score m.onnx bad.csv", vec!["bad.csv, line 1", "3 numbers", "64"]),
        ("score m.onnx words.csv", vec!["words.csv, line 2"]),
        ("score m.onnx empty.csv", vec!["holds no rows"]),
        ("score m.onnx rows.txt", vec!["rows.txt", ".csv"]),
        ("score m.onnx rows.csv --heat x.png", vec!["--heat"]),
    ] {
        refused(&mut command(folder, "edgegen", call), &expected);
    }
    assert!(!folder.join("x.png").exists());
}

/// A machine that hums, and sometimes whistles.
fn hum(seconds: f64, whistles: bool, seed: u32) -> Sound {
    const RATE: u32 = 8000;
    let (mut state, turn) = (seed.wrapping_mul(747_796_405) | 1, std::f64::consts::TAU);
    let samples = (0..(seconds * f64::from(RATE)) as u32).map(|at| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let noise = f64::from(state >> 16) / 32768.0 - 1.0;
        let time = f64::from(at) / f64::from(RATE);
        let tones = (turn * 120.0 * time).sin() + 0.4 * (turn * (360.0 + f64::from(seed % 5)) * time).sin();
        let whistle = if whistles { 0.5 * (turn * 2100.0 * time).sin() } else { 0.0 };
        (0.2 * (tones + 0.3 * noise + whistle)) as f32
    });
    Sound { rate: RATE, samples: samples.collect() }
}

#[test]
fn a_model_of_windows_of_sounds_hears_a_whistle() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (place, count, whistles) in [("data", 16, false), ("usual", 6, false), ("odd", 6, true)] {
        fs::create_dir_all(folder.join(place)).unwrap();
        for index in 0..count {
            let sound = hum(1.5, whistles, index + if place == "data" { 0 } else { 100 });
            write_wav(&sound, &folder.join(place).join(format!("{index}.wav"))).unwrap();
        }
    }
    let train = |arguments: &str| succeeds(folder, "edgegen-train", arguments);
    let heard = "--set data.rate=8000 --set data.window=512 --set data.hop=256";
    let output = command(
        folder,
        "edgegen-train",
        &format!("train sound-anomaly-dense --data data --out run --steps 400 {heard}"),
    )
    .output()
    .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    // 46 columns of a sound are 9 windows of 5; those of a sound are held out together
    assert!(output.status.success() && told.contains("135 training, 9 validation"), "{told}");
    train("export run --out model --least-quality 10");
    for precision in ["fp32", "int8"] {
        let (code, found) = score(folder, &format!("model usual --against odd --precision {precision}"));
        assert_eq!((code, found.len()), (Some(3), 13), "{precision}: {found:?}");
        assert_eq!((&found[0]["item"], &found[0]["windows"]), (&"usual/0.wav".into(), &14.into()));
        assert_eq!(found[12]["auroc"], 1.0, "{precision}: {found:?}");
    }
    // a hum of two seconds that whistles in its last half second
    let mut both = hum(2.0, false, 200);
    let end = both.samples.len() - 4000;
    both.samples[end..].copy_from_slice(&hum(2.0, true, 200).samples[end..]);
    write_wav(&both, &folder.join("both.wav")).unwrap();
    let (_, windows) = score(folder, "model both.wav --each --stride 5");
    let number = |line: &Value, key: &str| line[key].as_f64().unwrap();
    let largest = |from: f64, to: f64| {
        let some = windows.iter().filter(|line| (from..to).contains(&number(line, "seconds")));
        some.map(|line| number(line, "score")).fold(0.0, f64::max)
    };
    assert!(largest(1.5, 2.0) > 1.3 * largest(0.0, 1.3), "{windows:?}");
    write_wav(&Sound { rate: 8000, samples: vec![0.0; 8000] }, &folder.join("silence.wav")).unwrap();
    fs::create_dir(folder.join("empty")).unwrap();
    for (call, expected) in [
        ("score model silence.wav", vec!["silence.wav", "silence"]),
        ("score model missing.wav", vec!["missing.wav"]),
        ("score model empty", vec!["empty", "no sounds"]),
        ("score model usual --stride 0", vec!["--stride 0"]),
    ] {
        refused(&mut command(folder, "edgegen", call), &expected);
    }
    let other = root().join("models/mnist-vae").display().to_string();
    refused(&mut command(folder, "edgegen", &format!("score {other} usual --each")), &["--each", "sounds"]);
}
