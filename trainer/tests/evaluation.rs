//! Samples against pictures, on the features of small networks that are built here.

#[path = "../../runtime/tests/common/mod.rs"]
mod common;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::Builder;
use edgegen_runtime::generate::Latents;
use edgegen_runtime::model::{ImageShape, ModelFolder, OpenOptions, Part};
use edgegen_trainer::data::{self, Dataset, LoadOptions, Pictures, Size};
use edgegen_trainer::evaluate::features::{Extractor, NetworkChoice, Purpose as NetworkPurpose, Scaling};
use edgegen_trainer::evaluate::report::{Options, Report, Split, evaluate_samples};
use edgegen_trainer::evaluate::samples::{SampleOptions, Samples};
use edgegen_trainer::graph::features::INPUT_KEY;
use edgegen_trainer::random::{Purpose, Stream};
use edgegen_trainer::{Error, Result};
use tempfile::TempDir;
use tract_onnx::pb::StringStringEntryProto;
use tract_onnx::pb::tensor_proto::DataType;

const SHAPE: ImageShape = ImageShape { channels: 1, height: 2, width: 3 };
/// Levels as they are.
const LEVELS: Scaling = Scaling::Affine { mean: [0.0; 3], scale: [1.0; 3] };
/// Roots of eigenvalues near 0, for covariances of about 1,000 levels².
const ROUNDING: f64 = 1e-3;

/// (N, 1, 2, 3) → `features` (N, 6), the pixels; `probabilities` (N, 2), darker or brighter than level 100.
fn network() -> Builder {
    Builder::new()
        .input("image", &[-1, 1, 2, 3], DataType::Float)
        .node("Flatten", &["image"], &["features"], vec![])
        .weight("sums", &[6, 2], &[[-1.0, 1.0]; 6].concat())
        .node("MatMul", &["features", "sums"], &["totals"], vec![])
        .weight("middle", &[2], &[600.0, -600.0])
        .node("Add", &["totals", "middle"], &["probabilities"], vec![])
        .output("features", &[-1, 6])
        .output("probabilities", &[-1, 2])
}

fn with_scaling(mut model: Builder, text: &str) -> Builder {
    model.proto.metadata_props.push(StringStringEntryProto { key: INPUT_KEY.into(), value: text.into() });
    model
}

fn choice(folder: &Path, model: &Builder, scaling: Option<Scaling>) -> NetworkChoice {
    let path = folder.join("pixels_features.onnx");
    fs::write(&path, model.bytes()).unwrap();
    NetworkChoice { path, output: None, scaling }
}

/// `count` pictures of levels 30 to 170.
fn pictures(count: usize, index: u64) -> Vec<u8> {
    let mut stream = Stream::new(9, Purpose::Evaluation, index);
    (0..count * SHAPE.values()).map(|_| 30 + stream.below(140) as u8).collect()
}

fn part(pixels: Vec<u8>) -> Pictures {
    Pictures::from_rows(SHAPE.values(), pixels, Vec::new())
}

fn dataset() -> Dataset {
    let parts = [pictures(400, 0), pictures(5, 1), pictures(300, 2)].map(part);
    Dataset::new("noise", SHAPE, Vec::new(), parts)
}

fn samples(pixels: Vec<u8>) -> Samples {
    Samples::new("samples", SHAPE, pixels).unwrap()
}

fn evaluate(samples: &Samples, options: &Options) -> Result<Report> {
    evaluate_samples(samples, &dataset(), options, &|_, _, _| {})
}

fn setup() -> (TempDir, Options) {
    let folder = tempfile::tempdir().unwrap();
    let choice = choice(folder.path(), &network(), Some(LEVELS));
    (folder, Options::new(choice))
}

#[test]
fn a_set_is_at_no_distance_from_itself() {
    let (folder, mut options) = setup();
    options.neighbours = Some(folder.path().join("neighbours.png"));
    let report = evaluate(&samples(dataset().train.to_pixels()), &options).unwrap();
    assert!(report.frechet < ROUNDING, "{}", report.frechet);
    let found = report.manifolds.unwrap();
    assert_eq!((found.precision, found.recall, found.coverage, found.rows), (1.0, 1.0, 1.0, 400));
    // copies show: each sample's nearest training picture is itself
    let neighbours = report.neighbours.as_ref().unwrap();
    assert!(neighbours.median < 1e-4 && neighbours.median_within_training > 1.0, "{neighbours:?}");
    for row in &neighbours.rows {
        for near in [&row.by_features, &row.by_pixels] {
            assert_eq!((near.len(), near[0].picture), (5, row.sample));
            assert!(near[0].distance < 1e-4 && near.is_sorted_by(|a, b| a.distance <= b.distance));
        }
    }
    let picture = image::open(folder.path().join("neighbours.png")).unwrap();
    assert_eq!((picture.width(), picture.height()), (12 * (3 + 2) - 2, 16 * (2 + 2) - 2));
    let lines = report.lines();
    assert!(
        lines[0]
            .starts_with("Fréchet distance on pixels features (400 samples against 400 pictures of train)"),
        "{lines:?}"
    );
    assert!(!lines.iter().any(|line| line.contains("FID")));
}

#[test]
fn a_shift_is_the_distance_between_the_means() {
    let (_folder, options) = setup();
    let shifted = dataset().train.to_pixels().iter().map(|level| level + 10).collect();
    let report = evaluate(&samples(shifted), &options).unwrap();
    // six values, each 10 levels away, and the same covariance
    assert!((report.frechet - 600.0).abs() < ROUNDING, "{}", report.frechet);
    let spread = report.frechet_bootstrap.unwrap();
    assert!(spread.deviation > 10.0 && spread.deviation < 200.0, "{spread:?}");
    // against pictures of the same distribution, that were not copied
    let fresh = evaluate(&samples(pictures(300, 7)), &Options { split: Split::Test, ..options }).unwrap();
    assert!(fresh.frechet < 0.2 * report.frechet, "{}", fresh.frechet);
    assert!(fresh.frechet_between_halves.unwrap() > 0.0);
    assert!(fresh.kernel.mean.abs() < report.kernel.mean);
    assert_eq!((fresh.reference.count, fresh.split), (300, Split::Test));
}

#[test]
fn figures_do_not_depend_on_the_number_of_threads() {
    let (_folder, options) = setup();
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let report = pool.install(|| evaluate(&samples(pictures(333, 7)), &options)).unwrap();
        Report { seconds: 0.0, ..report }
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn a_damaged_cache_is_computed_again() {
    let (folder, mut options) = setup();
    let cache = folder.path().join("caches/edgegen");
    options.cache = Some(cache.clone());
    let samples = samples(pictures(100, 7));
    let plain = |report: Report| Report { seconds: 0.0, remarks: Vec::new(), ..report };
    let first = evaluate(&samples, &options).unwrap();
    assert!(first.remarks.is_empty(), "{:?}", first.remarks);
    let files = || fs::read_dir(&cache).unwrap().map(|file| file.unwrap().path()).collect::<Vec<PathBuf>>();
    assert_eq!(files().len(), 1);
    let again = evaluate(&samples, &options).unwrap();
    assert!(again.remarks.is_empty());
    assert_eq!(plain(again), plain(first.clone()));
    let path = files().remove(0);
    let good = fs::read(&path).unwrap();
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    for bad in [flipped(good.len() - 1), flipped(20), good[..good.len() / 2].to_vec(), Vec::new()] {
        fs::write(&path, bad).unwrap();
        let report = evaluate(&samples, &options).unwrap();
        assert!(report.remarks[0].contains("computed again"), "{:?}", report.remarks);
        assert_eq!(plain(report), plain(first.clone()));
        assert!(evaluate(&samples, &options).unwrap().remarks.is_empty(), "it was not repaired");
    }
    // another scaling is another file; a cache that cannot be written is a remark
    options.features.scaling = Some(Scaling::Unit);
    evaluate(&samples, &options).unwrap();
    assert_eq!(files().len(), 2);
    let file = folder.path().join("a file");
    fs::write(&file, "").unwrap();
    options.cache = Some(file.join("below"));
    let report = evaluate(&samples, &options).unwrap();
    assert!(report.remarks[0].contains("not kept"), "{:?}", report.remarks);
}

#[test]
fn the_scaling_is_told_by_metadata_or_option_and_else_named() {
    let folder = tempfile::tempdir().unwrap();
    let open = |model: &Builder, scaling| {
        Extractor::open(&choice(folder.path(), model, scaling), NetworkPurpose::Features)
    };
    let word = |extractor: Extractor| (extractor.scaling(), extractor.scaling_source().word());
    assert_eq!(word(open(&network(), None).unwrap()), (Scaling::Unit, "assumed"));
    assert_eq!(word(open(&network(), Some(LEVELS)).unwrap()), (LEVELS, "given"));
    let signed = || with_scaling(network(), "signed");
    assert_eq!(word(open(&signed(), None).unwrap()), (Scaling::Signed, "metadata"));
    let refusal = |result: Result<Extractor>| result.err().map(|e| e.to_string()).unwrap_or_default();
    let line = refusal(open(&signed(), Some(LEVELS)));
    assert!(line.contains("signed") && line.contains("mean=0,scale=1") && line.contains("onnx"), "{line}");
    let line = refusal(open(&with_scaling(network(), "bgr"), None));
    assert!(line.contains(INPUT_KEY) && line.contains("bgr"), "{line}");

    // a remark names the assumption
    let options = Options::new(choice(folder.path(), &network(), None));
    let report = evaluate(&samples(pictures(50, 7)), &options).unwrap();
    assert!(report.remarks[0].contains("unit (level / 255) is assumed"), "{:?}", report.remarks);
    // and what comes out is what the scaling says
    for (scaling, expected) in [
        (Scaling::Unit, [0.0, 0.2, 1.0]),
        (Scaling::Signed, [-1.0, -0.6, 1.0]),
        ("mean=51,scale=2".parse().unwrap(), [-25.5, 0.0, 102.0]),
    ] {
        let extractor = open(&network(), Some(scaling)).unwrap();
        let found = extractor.features(SHAPE, &part(vec![0, 51, 255, 0, 51, 255]), &|_| {}).unwrap();
        for (found, expected) in found.values.iter().zip(expected.iter().cycle()) {
            assert!((found - expected).abs() < 1e-6, "{scaling}: {found} {expected}");
        }
    }
}

#[test]
fn a_classifier_counts_modes() {
    let (_folder, mut options) = setup();
    options.classifier = Some(options.features.clone());
    let mut bright = samples([vec![40; 30 * 6], vec![160; 70 * 6]].concat());
    bright.requested = [vec![0; 50], vec![1; 50]].concat();
    let modes = evaluate(&bright, &options).unwrap().modes.unwrap();
    assert_eq!((modes.histogram.as_slice(), modes.hit, modes.fewest), ([30, 70].as_slice(), 2, 5));
    assert_eq!(modes.as_requested, Some(0.8));
    bright.requested = vec![2; 100];
    assert!(matches!(evaluate(&bright, &options), Err(Error::Config(_))));
}

#[test]
fn samples_of_other_sizes_and_channels_are_resized() {
    let (_folder, options) = setup();
    let shape = ImageShape { channels: 3, height: 4, width: 6 };
    // every pixel as a block of 2 × 2, three times the level
    let grey = pictures(60, 7);
    let large: Vec<u8> = grey
        .chunks(6)
        .flat_map(|picture| (0..72).map(move |i| picture[i / 36 * 3 + (i / 3 % 6) / 2]))
        .collect();
    let small = evaluate(&samples(grey), &options).unwrap();
    let large = evaluate(&Samples::new("large", shape, large).unwrap(), &options).unwrap();
    assert!(large.remarks.iter().any(|line| line.contains("3x4x6")), "{:?}", large.remarks);
    // the triangle filter blurs a little across blocks
    assert!((small.features.dimension, small.samples.count) == (6, 60) && large.frechet > 0.0);
    assert!(evaluate(&samples(pictures(1, 7)), &options).is_err(), "one sample has no covariance");
}

#[test]
fn generators_draw_what_the_runtime_draws() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/mnist-vae2");
    let options = SampleOptions { count: Some(70), seed: 5, ..SampleOptions::default() };
    let found = Samples::read(&path, &options).unwrap();
    let model = ModelFolder::open(&path).unwrap().open_part(Part::Decoder, None, &OpenOptions::default());
    let mut generator = model.unwrap().into_generator(1).unwrap();
    let frames = generator.frames(&Latents::from_seed(5, 0, 70, generator.latent_dim(), 1.0), &[]).unwrap();
    assert_eq!(found.count(), 70);
    for (index, frame) in frames.iter().enumerate() {
        assert_eq!(found.picture(index), frame.pixels);
    }
}

/// A `.npy` file, after NEP 1.
fn npy(path: &Path, dtype: &str, shape: &str, values: &[u8]) {
    let header = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(values);
    fs::write(path, bytes).unwrap();
}

fn compare(folder: &Path, arguments: &str) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_edgegen-train"))
        .current_dir(folder)
        .env("XDG_CACHE_HOME", std::env::temp_dir().join("edgegen-tests"))
        .arg("compare")
        .args(arguments.split_whitespace())
        .output()
        .unwrap()
}

#[test]
fn the_program_prints_a_table_and_writes_a_report() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // grey pictures of 28 × 28 against the set inside the program, by their pixels' means over rows
    let network = Builder::new()
        .input("image", &[-1, 1, 28, 28], DataType::Float)
        .node(
            "ReduceMean",
            &["image"],
            &["rows"],
            vec![common::ints("axes", &[1, 3]), common::int("keepdims", 0)],
        )
        .output("rows", &[-1, 28]);
    fs::write(folder.join("rows.onnx"), with_scaling(network, "unit").bytes()).unwrap();
    let values: Vec<u8> = (0..60 * 784).map(|i| (i * 31 % 251) as u8).collect();
    npy(&folder.join("s.npy"), "|u1", "(60, 28, 28)", &values);
    let call =
        "--samples s.npy --features rows.onnx --split test --cache cache --json r.json --neighbours n.png";
    let output = compare(folder, call);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("Fréchet distance on rows features (60 samples against "), "{text}");
    assert!(text.contains("pictures of test") && text.contains("precision and recall"), "{text}");
    let report: Report = serde_json::from_slice(&fs::read(folder.join("r.json")).unwrap()).unwrap();
    assert_eq!((report.features.sha256.len(), report.features.scaling_source.as_str()), (64, "metadata"));
    assert!(report.frechet > 0.0 && folder.join("n.png").is_file() && folder.join("cache").is_dir());
    // the same samples as a folder of pictures: the same pixels, so the same figures
    fs::create_dir(folder.join("pngs")).unwrap();
    for (index, pixels) in values.chunks(784).enumerate() {
        let picture = image::GrayImage::from_raw(28, 28, pixels.to_vec()).unwrap();
        picture.save(folder.join(format!("pngs/{index:03}.png"))).unwrap();
    }
    let output = compare(folder, &call.replace("s.npy", "pngs").replace("r.json", "p.json"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let pngs: Report = serde_json::from_slice(&fs::read(folder.join("p.json")).unwrap()).unwrap();
    assert_eq!((pngs.frechet, pngs.kernel), (report.frechet, report.kernel));
}

#[test]
fn bad_input_is_one_line_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("f.onnx"), network().bytes()).unwrap();
    fs::write(folder.join("text.onnx"), "no network").unwrap();
    fs::write(folder.join("s.txt"), "no samples").unwrap();
    fs::create_dir(folder.join("empty")).unwrap();
    npy(&folder.join("good.npy"), "|u1", "(3, 8, 8, 1)", &[7; 192]);
    npy(&folder.join("float.npy"), "<f4", "(1, 8, 8)", &[0; 256]);
    npy(&folder.join("flat.npy"), "|u1", "(64,)", &[0; 64]);
    npy(&folder.join("small.npy"), "|u1", "(2, 2, 2)", &[0; 8]);
    npy(&folder.join("one.npy"), "|u1", "(1, 8, 8)", &[0; 64]);
    npy(&folder.join("labels.npy"), "|u1", "(2,)", &[0; 2]);
    for (arguments, expected) in [
        ("--samples nothing --features f.onnx", "nothing: does not exist"),
        ("--samples s.txt --features f.onnx", "s.txt: is not known as samples"),
        ("--samples empty --features f.onnx", "empty: holds neither"),
        ("--samples float.npy --features f.onnx", "float.npy: holds float32; pictures are uint8"),
        ("--samples flat.npy --features f.onnx", "flat.npy: has shape [64]"),
        ("--samples f.onnx --features f.onnx", "f.onnx"),
        ("--samples small.npy --features f.onnx", "--size (the samples') is 2;"),
        ("--samples good.npy --features f.onnx --count 4", "holds 3 samples; --count 4"),
        ("--samples good.npy --features f.onnx --count 0", "--count 0"),
        ("--samples one.npy --features f.onnx", "1 samples are too few"),
        ("--samples good.npy --features text.onnx", "text.onnx: this is not an ONNX model"),
        ("--samples good.npy --features missing.onnx", "cannot read missing.onnx"),
        ("--samples good.npy --features f.onnx --feature-output nothing", "\"nothing\""),
        ("--samples good.npy --features f.onnx --feature-input 0.5", "mean=M,scale=S"),
        ("--samples good.npy --features f.onnx --data nowhere", "nowhere"),
        ("--samples good.npy --features f.onnx --neighbours n.jpg", ".png"),
        ("--samples good.npy --features f.onnx --json no/r.json", "no/r.json"),
        ("--samples good.npy --features f.onnx --resamples 9999", "--resamples"),
        (
            "--samples good.npy --features f.onnx --classifier f.onnx --requested labels.npy",
            "2 classes for 3 samples",
        ),
        (
            "--samples good.npy --features f.onnx --classifier f.onnx --requested good.npy",
            "no list of classes",
        ),
    ] {
        let before = fs::read_dir(folder).unwrap().count();
        let with_json = if arguments.contains("--json") { "" } else { " --json r.json" };
        let output = compare(folder, &format!("{arguments}{with_json} --no-cache"));
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && output.status.code().is_some(), "{arguments} was accepted");
        let lines: Vec<&str> = errors.lines().filter(|line| line.starts_with("error:")).collect();
        assert!(lines.len() == 1 && lines[0].contains(expected), "{arguments}: {errors}");
        assert!(!errors.contains("panicked"), "{errors}");
        assert_eq!(fs::read_dir(folder).unwrap().count(), before, "{arguments} left something behind");
    }
}

/// The folders of the big sets and of EfficientNet-Lite0, or a line that says why there is nothing to test.
fn big() -> Option<(PathBuf, PathBuf)> {
    let folder = |name| std::env::var_os(name).map(PathBuf::from);
    let found = folder("EDGEGEN_DATA").zip(folder("EDGEGEN_EVAL"));
    if found.is_none() {
        // not eprintln, which the test harness swallows
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: EDGEGEN_DATA and EDGEGEN_EVAL name no folders with emoji64 and efficientnet_lite0_features.onnx"
        );
    }
    found
}

#[test]
fn efficientnet_tells_drawings_from_noise() {
    let Some((data, eval)) = big() else { return };
    let emoji =
        data::load(Some(&data.join("emoji64")), &LoadOptions::new(Size::square(64)), &|_, _| {}).unwrap();
    let features = NetworkChoice {
        path: eval.join("efficientnet_lite0_features.onnx"),
        output: None,
        scaling: Some("mean=127,scale=128".parse().unwrap()),
    };
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        split: Split::Test,
        pictures: 200,
        cache: Some(folder.path().to_path_buf()),
        ..Options::new(features)
    };
    let measure = |pixels: Vec<u8>| {
        let samples = Samples::new("samples", emoji.shape, pixels).unwrap();
        evaluate_samples(&samples, &emoji, &options, &|_, _, _| {}).unwrap()
    };
    let spread = |part: &Pictures| -> Vec<u8> {
        (0..150).flat_map(|i| part.picture(i * part.count() / 150).to_vec()).collect()
    };
    let drawings = measure(spread(&emoji.train));
    assert_eq!((drawings.features.name.as_str(), drawings.features.dimension), ("efficientnet_lite0", 1280));
    let mut stream = Stream::new(1, Purpose::Evaluation, 0);
    let noise: Vec<u8> = (0..60 * emoji.shape.values()).map(|_| stream.word() as u8).collect();
    let noise = measure(noise);
    assert!(noise.frechet > 3.0 * drawings.frechet, "{} {}", noise.frechet, drawings.frechet);
    assert!(
        noise.kernel.mean > 20.0 * drawings.kernel.mean.abs(),
        "{:?} {:?}",
        noise.kernel,
        drawings.kernel
    );
    let (noise, drawings) = (noise.manifolds.unwrap(), drawings.manifolds.unwrap());
    // one drawing far from all others has a wide neighbourhood, in which noise lies: coverage does not see it (M. Naeem et
    // al., 2020)
    assert!(noise.coverage < 0.05 && drawings.coverage > 0.5, "{noise:?} {drawings:?}");
    assert!(drawings.precision > 0.5, "{noise:?} {drawings:?}");
    assert!(drawings.precision > 2.0 * noise.precision, "{noise:?} {drawings:?}");
}
