//! The program `edgegen` itself, in a temporary folder.
#![cfg(feature = "program")]

mod common;

use common::LATENT;
use edgegen_runtime::generate::Latents;
use edgegen_runtime::pictures::{read_npy, write_npy};
use std::path::Path;
use std::process::{Command, Output};

/// Bound on the difference of a picture and itself: it goes through the same code twice.
const SAME: f32 = 0.0;

struct Place(tempfile::TempDir);

impl Place {
    /// A folder with `model/` (the small VAE), `decoder.onnx`, `foreign.onnx`, whose range is not known, and
    /// `conditional.onnx`, whose 4 classes have no names.
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(place.path("model")).unwrap();
        common::write_folder(&place.path("model"));
        std::fs::write(place.path("decoder.onnx"), common::decoder().bytes()).unwrap();
        std::fs::write(place.path("foreign.onnx"), common::foreign_generator(-1, "Identity").bytes())
            .unwrap();
        std::fs::write(place.path("conditional.onnx"), common::conditional(4).bytes()).unwrap();
        place
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    /// Runs `edgegen` there with arguments that are separated by blanks.
    fn run(&self, arguments: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_edgegen"));
        command.current_dir(self.0.path()).args(arguments.split_whitespace()).output().unwrap()
    }

    #[track_caller]
    fn succeed(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && errors.is_empty(), "{arguments}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[test]
fn the_same_seed_gives_the_same_file() {
    let place = Place::new();
    for extension in ["png", "gif", "npy"] {
        let draw = |name: &str, seed: u64| {
            place.succeed(&format!("generate model --seed {seed} --count 5 --out {name}.{extension}"));
            place.bytes(&format!("{name}.{extension}"))
        };
        let first = draw("a", 7);
        assert_eq!(first, draw("b", 7), "{extension}");
        assert_ne!(first, draw("c", 8), "{extension}");
    }
    // The folder's decoder and the file are the same network.
    place.succeed("generate decoder.onnx --seed 7 --count 5 --out d.png");
    assert_eq!(place.bytes("d.png"), place.bytes("a.png"));
}

#[test]
fn a_picture_does_not_depend_on_the_count() {
    let place = Place::new();
    place.succeed("generate model --seed 7 --count 6 --out six.npy");
    place.succeed("generate model --seed 7 --count 2 --out two.npy");
    let ((shape, six), (_, two)) =
        (read_npy(&place.path("six.npy")).unwrap(), read_npy(&place.path("two.npy")).unwrap());
    assert_eq!(shape, [6, 1, 28, 28]);
    assert_eq!(six[..2 * 784], two[..]);
}

#[test]
fn given_latents_are_drawn_like_those_of_a_seed() {
    let place = Place::new();
    let latents = Latents::from_seed(7, 0, 3, LATENT, 0.5);
    for shape in [vec![3, LATENT], vec![3, LATENT, 1, 1]] {
        write_npy(&place.path("z.npy"), &shape, latents.values()).unwrap();
        place.succeed("generate model --latent z.npy --out given.png");
        place.succeed("generate model --seed 7 --count 3 --truncation 0.5 --out seed.png");
        assert_eq!(place.bytes("given.png"), place.bytes("seed.png"));
    }
    write_npy(&place.path("z.npy"), &[LATENT], latents.row(0)).unwrap();
    place.succeed("generate model --latent z.npy --out one.npy");
    assert_eq!(read_npy(&place.path("one.npy")).unwrap().0, [1, 1, 28, 28]);
}

#[test]
fn arrays_of_other_layouts_are_latents_too() {
    let place = Place::new();
    let latents = Latents::from_seed(7, 0, 3, LATENT, 1.0);
    write_npy(&place.path("z.npy"), &[3, LATENT], latents.values()).unwrap();
    place.succeed("generate model --latent z.npy --out plain.npy");
    // the same as numpy.save would write it: float64, in Fortran order, format version 2.0
    let text = format!("{{'descr': '<f8', 'fortran_order': True, 'shape': (3, {LATENT}), }}\n");
    let mut bytes = b"\x93NUMPY\x02\x00".to_vec();
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend(text.bytes());
    for column in 0..LATENT {
        bytes.extend((0..3).flat_map(|row| f64::from(latents.row(row)[column]).to_le_bytes()));
    }
    std::fs::write(place.path("double.npy"), bytes).unwrap();
    place.succeed("generate model --latent double.npy --out double-out.npy");
    assert_eq!(place.bytes("double-out.npy"), place.bytes("plain.npy"));
}

#[test]
fn what_needs_no_range_is_not_asked_for_one() {
    let place = Place::new();
    place.succeed("generate foreign.onnx --seed 7 --count 2 --out raw.npy");
    place.succeed("walk foreign.onnx --seed 1 --to 2 --frames 3 --out walk.npy");
    place.succeed("bench foreign.onnx --runs 3");
    place.succeed("profile foreign.onnx --runs 3");
    let text = place.succeed("info foreign.onnx");
    assert!(text.contains("not known: pictures need --range"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&place.succeed("info foreign.onnx --json")).unwrap();
    assert_eq!(json["range"], serde_json::Value::Null);
    // the range decides what pictures look like, and no value
    place.succeed("generate foreign.onnx --range signed --seed 7 --count 2 --out signed.npy");
    assert_eq!(place.bytes("signed.npy"), place.bytes("raw.npy"));
    place.succeed("generate foreign.onnx --range signed --seed 7 --out signed.png");
    place.succeed("generate foreign.onnx --range unit --seed 7 --out unit.png");
    assert_ne!(place.bytes("signed.png"), place.bytes("unit.png"));
    place.succeed("compare foreign.onnx foreign.onnx --range signed --count 2 --runs 10");
}

#[test]
fn a_walk_leads_from_seed_to_seed() {
    let place = Place::new();
    place.succeed("walk model --seed 1 --to 2 --frames 7 --out walk.npy");
    place.succeed("walk model --seed 1 --to 2 --frames 7 --out walk.gif");
    place.succeed("walk model --seed 1 --to 2 --frames 7 --out walk.png --columns 7");
    let (shape, values) = read_npy(&place.path("walk.npy")).unwrap();
    assert_eq!(shape, [7, 1, 28, 28]);
    for (seed, frame) in [(1, 0), (2, 6)] {
        place.succeed(&format!("generate model --seed {seed} --out end.npy"));
        let end = read_npy(&place.path("end.npy")).unwrap().1;
        let difference =
            end.iter().zip(&values[frame * 784..]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(difference <= SAME, "seed {seed}: {difference}");
    }
    let strip = image::open(place.path("walk.png")).unwrap();
    assert_eq!((strip.width(), strip.height()), (7 * 28 + 6 * 2, 28));
}

#[test]
fn pictures_are_reconstructed_below_themselves() {
    let place = Place::new();
    place.succeed("generate model --seed 7 --out a.png");
    place.succeed("generate model --seed 8 --out b.png");
    place.succeed("reconstruct model a.png b.png --out both.png");
    let both = image::open(place.path("both.png")).unwrap().into_luma8();
    assert_eq!(both.dimensions(), (2 * 28 + 2, 2 * 28 + 2));
    let input = image::open(place.path("b.png")).unwrap().into_luma8();
    for (x, y, pixel) in input.enumerate_pixels() {
        assert_eq!(both.get_pixel(30 + x, y), pixel, "the input is in the upper row");
    }
    place.succeed("reconstruct model a.png b.png --out both.npy");
    let (shape, values) = read_npy(&place.path("both.npy")).unwrap();
    assert_eq!(shape, [2, 1, 28, 28]);
    let level = (values[784] * 255.0).round_ties_even() as u8;
    assert_eq!(both.get_pixel(30, 30).0, [level], "the reconstruction is below");
    // Any picture is brought to the model's size.
    image::RgbImage::from_fn(50, 31, |x, y| image::Rgb([x as u8, y as u8, 200]))
        .save(place.path("c.png"))
        .unwrap();
    place.succeed("reconstruct model c.png --out c_out.png");
}

#[test]
fn info_tells_people_and_programs() {
    let place = Place::new();
    let text = place.succeed("info model");
    for expected in
        ["decoder of a vae", "8 values", "1x28x28", "0 to 1", "2,209", "ConvTranspose", "opset 17"]
    {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&place.succeed("info model --part encoder --json")).unwrap();
    assert_eq!((&json["part"], &json["latent_dim"]), (&"encoder".into(), &8.into()));
    assert_eq!(json["image"]["height"], 28);
    assert_eq!(json["metadata"]["edgegen.kind"], "vae");
    let foreign = place.succeed("info foreign.onnx --range signed");
    assert!(foreign.contains("generator of another program") && foreign.contains("-1 to 1"), "{foreign}");
}

#[test]
fn bench_prints_one_object() {
    let place = Place::new();
    let line = place.succeed("bench model --json --runs 20 --batch 2 --seconds 5");
    assert_eq!(line.lines().count(), 1);
    let json: serde_json::Value = serde_json::from_str(&line).unwrap();
    for key in
        ["load_ms", "first_ms", "min_us", "p50_us", "p90_us", "p99_us", "mean_us", "threads", "batch", "runs"]
    {
        assert!(json[key].as_f64().is_some_and(|value| value > 0.0), "{key} in {line}");
    }
    for key in ["model", "precision", "isa"] {
        assert!(json[key].is_string(), "{key} in {line}");
    }
    assert_eq!((&json["batch"], &json["runs"], &json["threads"]), (&2.into(), &20.into(), &1.into()));
    assert!(json["min_us"].as_f64() <= json["p50_us"].as_f64());
    assert!(place.succeed("bench decoder.onnx --runs 5 --threads 2").contains("p50_us"));
}

/// Bad input: it fails with status 1 and one line that names the culprit, and leaves nothing behind.
#[test]
fn bad_input_is_refused_in_one_line() {
    let place = Place::new();
    let decoder = place.bytes("decoder.onnx");
    std::fs::write(place.path("cut.onnx"), &decoder[..decoder.len() / 2]).unwrap();
    std::fs::write(place.path("empty.onnx"), "").unwrap();
    image::GrayImage::new(28, 28).save(place.path("real.png")).unwrap();
    std::fs::copy(place.path("real.png"), place.path("png.onnx")).unwrap();
    std::fs::create_dir(place.path("no_manifest")).unwrap();
    for (folder, file) in [("changed", "decoder.fp32.onnx"), ("missing", "encoder.fp32.onnx")] {
        std::fs::create_dir(place.path(folder)).unwrap();
        common::write_folder(&place.path(folder));
        std::fs::remove_file(place.path(folder).join(file)).unwrap();
    }
    std::fs::write(place.path("changed/decoder.fp32.onnx"), &decoder[..decoder.len() - 1]).unwrap();
    std::fs::create_dir(place.path("bad_json")).unwrap();
    std::fs::write(place.path("bad_json/model.json"), "{ not json").unwrap();
    let write =
        |name: &str, shape: &[usize], values: &[f32]| write_npy(&place.path(name), shape, values).unwrap();
    write("wide.npy", &[2, LATENT + 1], &[0.0; 2 * (LATENT + 1)]);
    write("nan.npy", &[1, LATENT], &[f32::NAN; LATENT]);
    write("none.npy", &[0, LATENT], &[]);
    let before = place.names();

    for (arguments, expected) in [
        ("info absent.onnx", "absent.onnx"),
        ("info cut.onnx", "cut.onnx"),
        ("info empty.onnx", "empty.onnx"),
        ("info png.onnx", "png.onnx"),
        ("info no_manifest", "no_manifest: this is no model folder: it has no model.json"),
        ("info bad_json", "bad_json/model.json"),
        ("info changed", "changed/decoder.fp32.onnx"),
        ("info missing --part encoder", "missing/encoder.fp32.onnx"),
        ("info model --part generator", "generator"),
        ("info model --precision int8", "int8"),
        ("info decoder.onnx --part encoder", "decoder.onnx"),
        ("info decoder.onnx --precision int8", "decoder.onnx"),
        ("info decoder.onnx --output nothing", "nothing"),
        ("generate foreign.onnx --out x.png", "--range signed"),
        ("generate foreign.onnx --out x.gif", "--range signed"),
        ("walk foreign.onnx --seed 1 --to 2 --out x.gif", "--range signed"),
        ("compare foreign.onnx foreign.onnx", "--range signed"),
        ("generate foreign.onnx --shape N,7,1,1 --out x.npy", "N,6,1,1"),
        ("generate decoder.onnx --class 99999999999 --out x.png", "not conditioned on a class"),
        ("generate conditional.onnx --class 99999999999 --out x.png", "from 0 to 3"),
        ("generate conditional.onnx --class 4 --out x.npy", "from 0 to 3"),
        ("generate conditional.onnx --class seven --out x.png", "from 0 to 3"),
        ("generate conditional.onnx --out x.png", "--class"),
        ("generate cut.onnx --out x.png", "cut.onnx"),
        ("generate model --part encoder --out x.png", "encoder"),
        ("generate model --out x.jpg", ".png, .gif, .apng, .y4m or .npy"),
        ("generate model --out nowhere/x.png", "nowhere/x.png"),
        ("generate model --out model/model.json/x.png", "model.json/x.png"),
        ("generate model --out x.png --count 0", "--count"),
        ("generate model --out x.png --count 1000000000000", "--count"),
        ("generate model --out x.npy --count 18446744073709551615", "--count"),
        ("generate model --out x.png --columns 0", "columns"),
        ("generate model --out x.png --truncation NaN", "truncation"),
        ("generate model --out x.gif --fps 0", "pictures per second"),
        ("generate model --out x.png --latent wide.npy", "wide.npy"),
        ("generate model --out x.png --latent nan.npy", "nan.npy"),
        ("generate model --out x.png --latent none.npy", "none.npy"),
        ("generate model --out x.png --latent absent.npy", "absent.npy"),
        ("generate model --out x.png --latent real.png", "real.png"),
        ("walk model --seed 1 --to 2 --frames 0 --out x.gif", "--frames"),
        ("walk model --seed 1 --to 2 --frames 99999999999 --out x.gif", "--frames"),
        ("walk model --seed 1 --to 2 --out x.txt", "x.txt"),
        ("reconstruct decoder.onnx real.png --out x.png", "decoder.onnx"),
        ("reconstruct missing real.png --out x.png", "missing/encoder.fp32.onnx"),
        ("reconstruct model empty.onnx --out x.png", "empty.onnx"),
        ("reconstruct model real.png --out x.gif", "x.gif"),
        ("bench model --batch 0", "batch"),
        ("bench model --threads 0", "threads"),
        ("bench model --runs 0", "--runs"),
        ("bench model --seconds NaN", "--seconds"),
        ("bench model --seconds 0", "--seconds"),
    ] {
        let output = place.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments}: {errors}");
        assert!(errors.starts_with("error: ") && errors.lines().count() == 1, "{arguments}: {errors}");
        assert!(errors.contains(expected) && !errors.contains("panicked"), "{arguments}: {errors}");
        assert!(output.stdout.is_empty(), "{arguments}");
        assert_eq!(place.names(), before, "{arguments}");
    }
}

#[test]
fn wrong_usage_is_told_by_the_command_line() {
    let place = Place::new();
    for arguments in [
        "",
        "draw",
        "generate model",
        "generate model --out x.png --count -1",
        "generate model --out x.png --latent z.npy --seed 1",
        "walk model --out x.gif",
        "info decoder.onnx --range dark",
        "info model --precision fp8",
        "info decoder.onnx --shape 8",
        "generate model --out x.png --seed 99999999999999999999999",
    ] {
        let output = place.run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments}");
        assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"), "{arguments}");
    }
}

#[test]
fn an_existing_file_is_replaced_only_by_a_whole_one() {
    let place = Place::new();
    std::fs::write(place.path("x.png"), "precious").unwrap();
    assert!(!place.run("generate model --out x.png --columns 0").status.success());
    assert_eq!(place.bytes("x.png"), b"precious");
    place.succeed("generate model --out x.png");
    assert!(place.bytes("x.png").starts_with(b"\x89PNG"));
    assert!(place.names().iter().all(|name| Path::new(name).extension().is_none_or(|e| e != "part")));
}

/// A Raspberry Pi 4 with an ST7789 panel and a weak power supply, after the kernel's documentation.
fn board(place: &Place) -> std::path::PathBuf {
    let root = place.path("board");
    let cpuinfo: String = (0..4)
        .map(|core| format!("processor\t: {core}\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n\n"))
        .collect();
    let files = [
        ("proc/cpuinfo", cpuinfo.as_str()),
        ("proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0"),
        ("proc/meminfo", "MemTotal: 3884332 kB\nMemAvailable: 3312044 kB\n"),
        ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "ondemand\n"),
        ("sys/class/thermal/thermal_zone0/temp", "61300\n"),
        ("sys/devices/platform/soc/soc:firmware/get_throttled", "50000\n"),
        ("dev/spidev0.0", ""),
    ];
    for (path, text) in files {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    root
}

#[test]
fn bench_tells_the_board_and_what_it_does_not_tell() {
    let place = Place::new();
    board(&place);
    let text = place.succeed("bench model --runs 3 --root board");
    for line in [
        "Raspberry Pi 4 Model B Rev 1.4",
        "4 x Cortex-A72",
        "under-voltage since start, throttled since start",
        "61.3",
        "not told by this system",
    ] {
        assert!(text.contains(line), "{line:?} is missing in\n{text}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&place.succeed("bench model --runs 3 --json --root board")).unwrap();
    assert_eq!(json["board"]["cores"][3]["design"], "Cortex-A72");
    assert_eq!(json["board"]["after"]["throttled"], "0x50000");
    assert_eq!(
        (&json["board"]["cores"][0]["max_khz"], &json["watts"]),
        (&serde_json::Value::Null, &serde_json::Value::Null)
    );
    let csv = place.succeed("bench model --runs 3 --csv --root board");
    let rows: Vec<usize> = csv.lines().map(|line| line.split(',').count()).collect();
    assert!(rows.len() == 2 && rows[0] == rows[1], "{csv}");
}

#[test]
fn doctor_names_what_is_wrong_and_its_remedy() {
    let place = Place::new();
    let root = board(&place);
    let output = place.run("doctor --root board");
    assert!(!output.status.success(), "too low a voltage is no success");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("bad      power          under-voltage since start") && text.contains("power supply"),
        "{text}"
    );
    assert!(
        text.contains("ok       SPI            /dev/spidev0.0") && text.contains("note     I2C"),
        "{text}"
    );
    std::fs::write(root.join("sys/devices/platform/soc/soc:firmware/get_throttled"), "0\n").unwrap();
    let json: serde_json::Value = serde_json::from_str(&place.succeed("doctor --json --root board")).unwrap();
    assert_eq!(json["ready"], true);
}

#[test]
fn profile_tells_every_step_and_writes_its_pictures() {
    let place = Place::new();
    let text = place.succeed("profile model --runs 3 --json --trace t.json --svg p.svg");
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let steps = json["steps"].as_array().unwrap();
    let macs: u64 = steps.iter().filter_map(|step| step["macs"].as_u64()).sum();
    let info: serde_json::Value = serde_json::from_str(&place.succeed("info model --json")).unwrap();
    assert!(macs > 0 && info["macs"].as_u64() == Some(macs), "{text}");
    let trace: serde_json::Value =
        serde_json::from_slice(&std::fs::read(place.path("t.json")).unwrap()).unwrap();
    assert_eq!(trace["traceEvents"].as_array().unwrap().len(), steps.len());
    assert!(std::fs::read_to_string(place.path("p.svg")).unwrap().starts_with("<svg"));
}

#[test]
fn compare_puts_two_side_by_side() {
    let place = Place::new();
    let text = place.succeed("compare model decoder.onnx --count 4 --runs 10 --json --out apart.png");
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["psnr_db_worst"], 99.0, "the folder holds the same decoder: {text}");
    assert!(place.path("apart.png").exists());
    let output = place.run("compare model:int8 decoder.onnx");
    assert!(!output.status.success(), "the folder holds no int8");
}
