//! Moving pictures: ways that close, ways through keys, and the files that they go to.

use std::fs;
use std::path::Path;

use edgegen_runtime::pictures::read_npy;
use edgegen_tests::{command, refused, root, succeeds};

fn run(folder: &Path, arguments: &str) -> String {
    succeeds(folder, "edgegen", arguments)
}

#[test]
fn ways_close_and_lead_through_keys() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let model = root().join("models/mnist-gan");
    let model = model.display();
    let frame = |values: &[f32], index: usize| values[index * 784..][..784].to_vec();
    let apart = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f32>() / 784.0;

    run(folder, &format!("walk {model} --class 3 --seed 1 --to 2 --frames 48 --closed --out round.npy"));
    let (shape, values) = read_npy(&folder.join("round.npy")).unwrap();
    assert_eq!(shape, [48, 1, 28, 28]);
    // the step from the last to the first is like the others
    let steps: Vec<f32> =
        (0..48).map(|index| apart(&frame(&values, index), &frame(&values, (index + 1) % 48))).collect();
    let most = steps[..47].iter().copied().fold(0.0, f32::max);
    assert!(steps[47] <= most, "{steps:?}");
    // the first is what the seed draws
    run(folder, &format!("generate {model} --class 3 --seed 1 --out one.npy"));
    assert_eq!(frame(&values, 0), read_npy(&folder.join("one.npy")).unwrap().1);

    fs::write(folder.join("keys.txt"), "# seed, seconds, class\n1 0 3\n2 0.5\n\n7 1.0 8 # an eight\n")
        .unwrap();
    run(folder, &format!("walk {model} --keys keys.txt --fps 10 --out way.npy"));
    let (shape, way) = read_npy(&folder.join("way.npy")).unwrap();
    assert_eq!(shape, [11, 1, 28, 28]);
    for (index, seed, class) in [(0, 1, 3), (5, 2, 3), (10, 7, 8)] {
        run(folder, &format!("generate {model} --class {class} --seed {seed} --out one.npy"));
        assert_eq!(frame(&way, index), read_npy(&folder.join("one.npy")).unwrap().1, "{index}");
    }
    for name in ["way.gif", "way.apng", "way.y4m", "way"] {
        run(folder, &format!("walk {model} --keys keys.txt --fps 10 --out {name}"));
    }
    assert_eq!(fs::read_dir(folder.join("way")).unwrap().count(), 11);
    assert!(folder.join("way/00011.png").is_file());
    assert!(fs::read(folder.join("way.y4m")).unwrap().starts_with(b"YUV4MPEG2 W28 H28 F10:1 "));

    fs::write(folder.join("one.txt"), "1 0 3\n").unwrap();
    fs::write(folder.join("back.txt"), "1 1 3\n2 1\n").unwrap();
    fs::write(folder.join("words.txt"), "one 1\n").unwrap();
    fs::write(folder.join("class.txt"), "1 0 owl\n2 1\n").unwrap();
    fs::write(folder.join("long.txt"), "1 0\n2 1e15\n").unwrap();
    for (arguments, expected) in [
        ("--out x.gif", vec!["--to"]),
        ("--to 2 --keys keys.txt --out x.gif", vec!["cannot be used with"]),
        ("--keys missing.txt --out x.gif", vec!["missing.txt"]),
        ("--keys one.txt --out x.gif", vec!["one.txt", "a way needs two"]),
        ("--keys back.txt --out x.gif", vec!["back.txt, line 2", "not after"]),
        ("--keys words.txt --out x.gif", vec!["words.txt, line 1", "SEED TIME"]),
        ("--keys class.txt --out x.gif", vec!["class.txt, line 1", "owl"]),
        ("--keys long.txt --out x.gif", vec!["long.txt"]),
        ("--keys keys.txt --fps 0 --out x.gif", vec!["--fps"]),
        ("--to 2 --out x.mp4", vec!["x.mp4", ".y4m"]),
    ] {
        let output = command(folder, "edgegen", &format!("walk {model} {arguments}")).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{arguments}");
        assert!(expected.iter().all(|text| errors.contains(text)), "{arguments}: {errors}");
        assert!(!folder.join("x.gif").exists());
    }
    refused(&mut command(folder, "edgegen", "generate missing --out x"), &["missing"]);
}
