//! The program as users run it: models, seeds, files, and everything that can be wrong with them.

mod common;
#[path = "../../runtime/tests/common/mod.rs"]
mod models;

use std::fs;
use std::path::Path;

use common::{five, read_png, sim, sim_ok};
use edgegen_firmware_sim::show::Look;
use image::AnimationDecoder;
use image::codecs::gif::GifDecoder;
use tract_onnx::pb::tensor_proto::DataType;

/// A folder with a small VAE in `vae`, and small generators of other programs: one that says all (`foreign.onnx`), one
/// whose range is not known, one with two outputs, one with classes that have no names.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("vae")).unwrap();
    models::write_folder(&folder.path().join("vae"));
    for (name, model) in [
        ("foreign.onnx", models::foreign_generator(-1, "Tanh")),
        ("raw.onnx", models::foreign_generator(-1, "Identity")),
        ("two.onnx", models::foreign_generator(-1, "Tanh").output("b", &[-1, 8, 4, 4])),
        ("conditional.onnx", models::conditional(4)),
    ] {
        fs::write(folder.path().join(name), model.bytes()).unwrap();
    }
    five().save(folder.path().join("five.png")).unwrap();
    folder
}

fn bytes(folder: &Path, arguments: &[&str], out: &str) -> Vec<u8> {
    sim_ok(folder, &[arguments, &["--out", out]].concat());
    fs::read(folder.join(out)).unwrap()
}

fn gif_frames(bytes: &[u8]) -> Vec<Vec<u8>> {
    let frames = GifDecoder::new(std::io::Cursor::new(bytes)).unwrap().into_frames();
    frames.map(|frame| frame.unwrap().into_buffer().into_raw()).collect()
}

#[test]
fn the_same_seed_gives_the_same_bytes_with_and_without_threads() {
    let folder = folder();
    for panel in ["st7789", "ssd1306"] {
        for view in [&[][..], &["--frames", "3"], &["--walk-to", "9", "--frames", "4", "--caption"]] {
            for out in ["out.png", "out.gif"] {
                let arguments = [&["--model", "vae", "--panel", panel, "--seed", "4"], view].concat();
                let first = bytes(folder.path(), &arguments, out);
                assert!(first == bytes(folder.path(), &arguments, out), "{arguments:?} {out}");
                let one_loop = [&arguments[..], &["--single-thread"]].concat();
                assert!(first == bytes(folder.path(), &one_loop, out), "{arguments:?} {out}, one loop");
            }
        }
    }
    let seed = |seed| bytes(folder.path(), &["--model", "vae", "--frames", "1", "--seed", seed], "out.png");
    assert!(seed("4") != seed("5"));
}

#[test]
fn a_gallery_holds_one_seeds_pictures_and_a_walk_ends_where_it_should() {
    let folder = folder();
    let run = |arguments: &[&str]| {
        bytes(folder.path(), &[&["--model", "vae", "--panel", "ssd1306"], arguments].concat(), "out.gif")
    };
    assert_eq!(gif_frames(&run(&["--seed", "3"])).len(), 8, "four by two tiles");
    let walk = gif_frames(&run(&["--seed", "3", "--walk-to", "7", "--frames", "5"]));
    assert_eq!(walk.len(), 5);
    let single = |seed| gif_frames(&run(&["--seed", seed, "--frames", "1"])).remove(0);
    assert!(walk[0] == single("3") && walk[4] == single("7") && walk[2] != walk[0]);
    let successive = gif_frames(&run(&["--seed", "3", "--frames", "3"]));
    assert!(successive[0] == single("3") && successive[2] == single("5"));
}

#[test]
fn scripts_press_buttons() {
    let folder = folder();
    let shown = |script| {
        let arguments = ["--model", "vae", "--seed", "3", "--out", "out.png", "--script", script];
        sim_ok(folder.path(), &arguments);
        Look::TFT.undress(&read_png(&folder.path().join("out.png")))
    };
    assert!(shown("next,next") == shown("next,walk:5,hold,next"));
    assert!(shown("walk:5,hold") == shown("walk:2,hold,walk:3"));
    assert!(shown("select") != shown("next"));
    let glass = Look::TFT.glass;
    assert!(shown("next,back").rgb().chunks(3).all(|color| color == glass));
}

#[test]
fn foreign_models_and_large_pictures_are_shown() {
    let folder = folder();
    let report = sim_ok(folder.path(), &["--model", "foreign.onnx", "--out", "out.png"]);
    assert!(report.contains("foreign.onnx: fp32 generator, latents of 6, pictures of 3x8x8"), "{report}");
    let large = image::GrayImage::from_fn(500, 300, |x, y| image::Luma([(x ^ y) as u8]));
    large.save(folder.path().join("large.png")).unwrap();
    for panel in ["st7789", "ssd1306"] {
        sim_ok(folder.path(), &["--frame", "large.png", "--panel", panel, "--out", "out.png"]);
    }
}

#[test]
fn flags_say_what_a_foreign_file_does_not() {
    let folder = folder();
    let picture = |arguments: &[&str]| bytes(folder.path(), arguments, "out.png");
    let signed = picture(&["--model", "raw.onnx", "--range", "signed"]);
    assert!(signed != picture(&["--model", "raw.onnx", "--range", "unit"]));
    picture(&["--model", "two.onnx", "--output", "picture"]);
    picture(&["--model", "foreign.onnx", "--input", "z", "--shape", "N,6,1,1", "--range", "auto"]);
    picture(&["--model", "conditional.onnx", "--class", "3"]);
}

#[test]
fn the_report_tells_what_happened() {
    let folder = folder();
    let report = sim_ok(folder.path(), &["--model", "vae", "--frames", "2", "--out", "out.png"]);
    let starts = ["model   vae: fp32 decoder", "panel   ST7789", "time    ", "bus     ", "file    out.png"];
    let lines: Vec<&str> = report.lines().collect();
    assert_eq!(lines.len(), starts.len(), "no complaints, no picture: {report}");
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{line:?} does not start with {start:?}");
    }
    // The second picture of 240×240 goes out without clearing: window commands, then two bytes a pixel.
    assert!(report.contains(&format!("for the last picture ({} bytes)", 240 * 240 * 2 + 11)), "{report}");
    let slow = ["--model", "vae", "--frames", "2", "--out", "out.png", "--bus-hz", "1000000"];
    assert!(sim_ok(folder.path(), &slow).contains("bus     921.69 ms"), "eight bits a byte at 1 MHz");
}

#[test]
fn a_stored_picture_is_compared_with() {
    let folder = folder();
    let run = |arguments: &[&str]| sim(folder.path(), &[&["--frame", "five.png"], arguments].concat());
    assert!(run(&["--out", "kept.png"]).status.success());
    assert!(run(&["--check", "kept.png"]).status.success());
    assert!(!folder.path().join("edgegen-sim.png").exists(), "to compare writes nothing");
    for (arguments, word) in [
        (&["--check", "kept.png", "--dither", "none", "--caption"][..], "pixels differ"),
        (&["--check", "kept.png", "--panel", "ssd1306"], "of this panel"),
        (&["--check", "five.png"], "of this panel"),
        (&["--check", "nowhere.png"], "nowhere.png"),
    ] {
        let output = run(arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(error.contains(word) && error.lines().count() == 1, "{arguments:?}: {error}");
    }
}

/// Things to run, each by a script.
#[test]
fn scripts_drive_every_kind_of_show() {
    let folder = folder();
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    let model = |name: &str| models.join(name).display().to_string();
    fs::create_dir(folder.path().join("pictures")).unwrap();
    for (name, level) in [("a.png", 60u8), ("b.png", 200)] {
        let path = folder.path().join("pictures").join(name);
        image::RgbImage::from_fn(40, 30, |x, _| image::Rgb([level, x as u8 * 6, 128])).save(path).unwrap();
    }
    let shown = |arguments: &[&str]| {
        sim_ok(folder.path(), &[arguments, &["--out", "out.png"]].concat());
        Look::TFT.undress(&read_png(&folder.path().join("out.png")))
    };
    // knobs: the latent, the class, the seed
    let vae = model("mnist-vae2");
    let explored = |script| shown(&["--model", &vae, "--explore", "--script", script]);
    assert!(explored("next,right:4,up:2") == explored("next,up:2,right:5,left"));
    assert!(explored("next,right:4") != explored("next"));
    let gan = model("mnist-gan");
    let class = |script| shown(&["--model", &gan, "--script", script]);
    assert!(class("next,right:4") == shown(&["--model", &gan, "--class", "4", "--frames", "1"]));
    assert!(class("next,left") == class("next,right:9"));
    let seeds = |script| shown(&["--script", script]);
    assert!(seeds("next,right:3,left") == shown(&["--seed", "2", "--frames", "1"]));
    assert!(seeds("next,up:5") != seeds("next"), "truncation");
    // a gallery that walks holds the first step of each walk, then others
    let tile = |script| {
        let picture = seeds(script);
        (0..60).map(|x| picture.at(x + 90, 40)).collect::<Vec<_>>()
    };
    assert!(tile("select,walk:9") == tile("select") && tile("select,walk:90") != tile("select"));
    // pictures of files: enlarged behind a border that moves, and measured
    let (enlarger, pictures) = (model("enlarge-x2"), folder.path().join("pictures").display().to_string());
    let transform = |script| shown(&["--model", &enlarger, "--pictures", &pictures, "--script", script]);
    let (first, second) = (transform("next"), transform("next,next"));
    assert!(first.at(120, 120)[0].abs_diff(60) < 12 && second.at(120, 120)[0].abs_diff(200) < 12);
    assert!(transform("walk:24") == first && transform("walk:1") != first);
    let meter = model("mnist-vae");
    let measured = |script| shown(&["--model", &meter, "--pictures", &pictures, "--script", script]);
    assert!(measured("next") != measured("next,next"));
}

#[test]
fn without_a_terminal_the_picture_is_plain_letters() {
    let folder = folder();
    let report = sim_ok(folder.path(), &["--frame", "five.png", "--terminal"]);
    assert!(!report.contains('\x1b') && report.contains("@@@"), "{report}");
    assert!(!folder.path().join("edgegen-sim.png").exists(), "--terminal alone writes no file");
}

#[test]
fn without_arguments() {
    let folder = tempfile::tempdir().unwrap();
    let output = sim(folder.path(), &[]);
    let file = folder.path().join("edgegen-sim.png");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let module = read_png(&file);
    assert_eq!((module.width(), module.height()), (520, 520));
    let bright = module.rgb().chunks(3).filter(|pixel| pixel[0] > 128).count();
    assert!(bright > 5_000, "the built-in model's pictures are dark: {bright} bright pixels");
}

#[test]
fn what_is_wrong_is_said_in_one_line() {
    let folder = folder();
    let path = folder.path();
    fs::write(path.join("empty.onnx"), b"").unwrap();
    fs::write(path.join("noise.onnx"), [0xA5; 999]).unwrap();
    fs::copy(path.join("five.png"), path.join("picture.onnx")).unwrap();
    fs::write(path.join("cut.png"), &fs::read(path.join("five.png")).unwrap()[..60]).unwrap();
    fs::create_dir(path.join("bare")).unwrap();
    image::GrayImage::new(513, 2).save(path.join("wide.png")).unwrap();
    let huge = models::Builder::new()
        .input("latent", &[-1, 2], DataType::Float)
        .random("w", &[4, 2], 0.5)
        .random("b", &[4], 0.5)
        .node("Gemm", &["latent", "w", "b"], &["dense"], vec![models::int("transB", 1)])
        .shape("planes", &[-1, 1, 2, 2])
        .node("Reshape", &["dense", "planes"], &["small"], vec![])
        .weight("scales", &[4], &[1.0, 1.0, 300.0, 300.0])
        .node(
            "Resize",
            &["small", "", "scales"],
            &["large"],
            vec![
                models::text("mode", "nearest"),
                models::text("coordinate_transformation_mode", "asymmetric"),
                models::text("nearest_mode", "floor"),
            ],
        )
        .node("Sigmoid", &["large"], &["image"], vec![])
        .output("image", &[-1, 1, 600, 600]);
    fs::write(path.join("huge.onnx"), huge.bytes()).unwrap();
    let before = names(path);

    let model = |file| vec!["--model", file, "--out", "out.png"];
    let frame = |file| vec!["--frame", file, "--out", "out.png"];
    let vae = |rest: &[&'static str]| [&["--model", "vae"], rest].concat();
    // Arguments; exit code; what the message must contain.
    let table = [
        (model("missing.onnx"), 1, "missing.onnx"),
        (model("empty.onnx"), 1, "empty.onnx"),
        (model("noise.onnx"), 1, "noise.onnx"),
        (model("picture.onnx"), 1, "picture.onnx"),
        (model("bare"), 1, "model.json"),
        (model("huge.onnx"), 1, "600x600"),
        (frame("missing.png"), 1, "missing.png"),
        (frame("cut.png"), 1, "cut.png"),
        (frame("empty.onnx"), 1, "empty.onnx"),
        (frame("wide.png"), 1, "wide.png"),
        (frame("vae"), 1, "vae"),
        (vae(&["--precision", "int8", "--out", "out.png"]), 1, "int8"),
        (vae(&["--part", "encoder", "--out", "out.png"]), 1, "encoder"),
        (vae(&["--out", "out.jpg"]), 1, ".png or .gif"),
        (vae(&["--out", "out"]), 1, ".png or .gif"),
        (vae(&["--out", "nowhere/out.png"]), 1, "nowhere/out.png"),
        (vae(&["--walk-to", "3", "--frames", "1", "--out", "out.png"]), 1, "at least 2"),
        (vae(&["--script", "hold", "--out", "out.png"]), 1, "no picture"),
        (model("raw.onnx"), 1, "raw.onnx: the range of its pictures is not known: give --range unit"),
        (model("two.onnx"), 1, "choose one with --output from"),
        (model("conditional.onnx"), 1, "choose one"),
        ([&model("conditional.onnx")[..], &["--class", "99999999999"]].concat(), 1, "from 0 to 3"),
        ([&model("two.onnx")[..], &["--output", "c"]].concat(), 1, "no output is called \"c\""),
        ([&model("foreign.onnx")[..], &["--shape", "N,7,1,1"]].concat(), 1, "N,6,1,1"),
        ([&model("foreign.onnx")[..], &["--range", "dark"]].concat(), 2, "unit, signed or auto"),
        (vec!["--range", "unit", "--out", "out.png"], 1, "--model"),
        (vae(&["--panel", "crt"]), 2, "crt"),
        (vae(&["--panel", "crt"]), 2, "gc9a01"),
        (vae(&["--rotate", "45"]), 2, "90"),
        (vec!["--sheet", "out.gif"], 1, ".png"),
        (vec!["--sheet", "nowhere/out.png"], 1, "nowhere/out.png"),
        (vae(&["--dither", "random"]), 2, "random"),
        (vae(&["--script", "right:0"]), 2, "right"),
        ([&model("foreign.onnx")[..], &["--pictures", "five.png"]].concat(), 1, "takes no pictures"),
        (vae(&["--pictures", "cut.png", "--out", "out.png"]), 1, "cut.png"),
        (vae(&["--pictures", "nowhere", "--out", "out.png"]), 1, "nowhere"),
        (vec!["--pictures", "."], 2, "--model"),
        (vae(&["--web", "nowhere"]), 2, "8080"),
        (vae(&["--hours", "0"]), 2, "hours"),
        (vec!["--panel", "hub75", "--hours", "1", "--faults", "drop:1"], 1, "no bus"),
        (vec!["--sheet", "out.jpg"], 1, ".png"),
        (vae(&["--show", "walk", "--out", "out.png"]), 1, "--web"),
        (vae(&["--faults", "drop:1", "--out", "out.png"]), 1, "--hours"),
        (vae(&["--hours", "1", "--faults", "melt:1"]), 2, "gone:FROM-TO"),
        (vae(&["--frames", "0"]), 2, "0"),
        (vae(&["--frames", "1000000"]), 2, "1000000"),
        (vae(&["--bus-hz", "0"]), 2, "0"),
        (vae(&["--script", "next,jump"]), 2, "jump"),
        (vae(&["--seed", "-1"]), 2, "-1"),
        (vec!["--frame", "five.png", "--model", "vae"], 2, "cannot be used with"),
    ];
    for (arguments, code, expected) in table {
        let output = sim(path, &arguments);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {message}");
        assert!(message.starts_with("error: ") && message.contains(expected), "{arguments:?}: {message}");
        if code == 1 {
            assert_eq!(message.lines().count(), 1, "{arguments:?}: {message}");
        }
        assert!(output.stdout.is_empty(), "{arguments:?}");
        assert_eq!(names(path), before, "{arguments:?} left something behind");
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
