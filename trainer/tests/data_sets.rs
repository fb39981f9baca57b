//! Loaders on the sets that their users have, and on what goes wrong with them.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use edgegen_trainer::data::{LoadOptions, Pictures, load};
use flate2::Compression;
use flate2::write::GzEncoder;
use image::{ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};

const OPTIONS: LoadOptions = LoadOptions { side: 16, gray: false };

/// The folder of the big sets, or a line that says why there is nothing to test.
fn big_sets() -> Option<PathBuf> {
    let folder = std::env::var_os("EDGEGEN_DATA").map(PathBuf::from);
    if folder.is_none() {
        // not eprintln, which the test harness swallows
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: EDGEGEN_DATA names no folder with mnist, fashion-mnist and emoji64"
        );
    }
    folder
}

fn mean_and_deviation(bytes: &[&[u8]]) -> (f64, f64) {
    let values = || bytes.iter().flat_map(|part| part.iter()).map(|value| f64::from(*value) / 255.0);
    let count = values().count() as f64;
    let mean = values().sum::<f64>() / count;
    (mean, (values().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt())
}

#[test]
fn the_mnist_family_has_its_published_statistics() {
    let Some(folder) = big_sets() else { return };
    for (name, mean, deviation) in [("mnist", 0.1307, 0.3081), ("fashion-mnist", 0.2860, 0.3530)] {
        let dataset = load(Some(&folder.join(name)), OPTIONS).unwrap();
        let counts = (dataset.train.count(), dataset.validation.count(), dataset.test.count());
        assert_eq!(counts, (55_000, 5_000, 10_000));
        let found = mean_and_deviation(&[&dataset.train.pixels, &dataset.validation.pixels]);
        assert!((found.0 - mean).abs() < 5e-5 && (found.1 - deviation).abs() < 5e-5, "{name}: {found:?}");
        assert_eq!(dataset.classes.len(), 10);
    }
}

#[test]
fn the_emoji_folder_has_its_splits_and_classes() {
    let Some(folder) = big_sets() else { return };
    let dataset = load(Some(&folder.join("emoji64")), LoadOptions { side: 64, gray: false }).unwrap();
    assert_eq!(dataset.test.count(), 424);
    // its description counts one picture more than some copies hold
    assert!((4_430..=4_431).contains(&(dataset.train.count() + dataset.validation.count())));
    assert!(dataset.classes.iter().any(|class| class == "food-and-drink"), "{:?}", dataset.classes);
    assert!(dataset.skipped.is_empty());
    // validation is chosen across the classes, and no drawing of one emoji straddles the split
    let classes: std::collections::BTreeSet<_> = dataset.validation.labels.iter().collect();
    assert!(classes.len() >= 7, "validation holds only the classes {classes:?}");
    assert!((200..300).contains(&dataset.validation.count()), "{}", dataset.validation.count());
}

#[test]
fn variants_of_one_picture_stay_in_one_part() {
    let folder = tempfile::tempdir().unwrap();
    for index in 0..60u8 {
        for variant in ["a", "b", "c"] {
            picture(&folder.path().join(format!("{index}_{variant}.png")), 9, 9, [index; 3]);
        }
    }
    let dataset = load(Some(folder.path()), OPTIONS).unwrap();
    let shades = |part: &Pictures| {
        (0..part.count()).map(|index| part.picture(index)[0]).collect::<std::collections::BTreeSet<u8>>()
    };
    let parts = [&dataset.train, &dataset.validation, &dataset.test].map(shades);
    assert_eq!(parts.iter().map(|part| part.len()).sum::<usize>(), 60, "{parts:?}");
    assert!(parts.iter().all(|part| part.len() >= 3), "{parts:?}");
}

#[test]
fn a_class_called_train_is_a_class() {
    let folder = tempfile::tempdir().unwrap();
    for class in ["train", "bus", "car"] {
        fs::create_dir(folder.path().join(class)).unwrap();
        for index in 0..20 {
            picture(&folder.path().join(class).join(format!("{index}.png")), 9, 9, [index; 3]);
        }
    }
    assert_eq!(load(Some(folder.path()), OPTIONS).unwrap().classes, ["bus", "car", "train"]);
}

#[test]
fn the_embedded_set_needs_no_files() {
    let dataset = load(None, OPTIONS).unwrap();
    assert_eq!((dataset.train.count(), dataset.validation.count(), dataset.test.count()), (1467, 133, 400));
    assert_eq!(dataset.classes[9], "ankle-boot");
    let found = mean_and_deviation(&[&dataset.train.pixels, &dataset.validation.pixels]);
    // 1,600 of 60,000 pictures: close to the whole set's 0.2860
    assert!((found.0 - 0.286).abs() < 0.01, "{found:?}");
}

fn idx(axes: &[u32], values: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, axes.len() as u8];
    axes.iter().for_each(|axis| bytes.extend(axis.to_be_bytes()));
    bytes.extend(values);
    bytes
}

/// A small, sound IDX folder: 24 training and 12 test pictures of 8×8.
fn idx_folder(folder: &Path) {
    for (part, count) in [("train", 24u32), ("t10k", 12)] {
        let pixels: Vec<u8> = (0..count * 64).map(|value| value as u8).collect();
        let labels: Vec<u8> = (0..count).map(|value| (value % 3) as u8).collect();
        fs::write(folder.join(format!("{part}-images-idx3-ubyte")), idx(&[count, 8, 8], &pixels)).unwrap();
        fs::write(folder.join(format!("{part}-labels-idx1-ubyte")), idx(&[count], &labels)).unwrap();
    }
}

#[test]
fn plain_and_gzip_idx_files_hold_the_same() {
    let folder = tempfile::tempdir().unwrap();
    idx_folder(folder.path());
    let plain = load(Some(folder.path()), OPTIONS).unwrap();
    for file in fs::read_dir(folder.path()).unwrap() {
        let path = file.unwrap().path();
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&fs::read(&path).unwrap()).unwrap();
        fs::write(format!("{}.gz", path.display()), packed.finish().unwrap()).unwrap();
        fs::remove_file(path).unwrap();
    }
    let packed = load(Some(folder.path()), OPTIONS).unwrap();
    assert_eq!(plain.train.pixels, packed.train.pixels);
    assert_eq!(plain.test.labels, packed.test.labels);
    assert_eq!(plain.train.count() + plain.validation.count(), 24);
}

#[test]
fn damaged_idx_files_are_refused_by_name() {
    type Damage = fn(Vec<u8>) -> Vec<u8>;
    let cases: [(&str, &str, Damage, &str); 8] = [
        ("truncated values", "train-images-idx3-ubyte", |b| b[..100].to_vec(), "holds 84"),
        ("truncated header", "train-images-idx3-ubyte", |b| b[..9].to_vec(), "ends inside"),
        ("empty", "train-labels-idx1-ubyte", |_| Vec::new(), "shorter than"),
        (
            "wrong magic",
            "t10k-images-idx3-ubyte",
            |mut b| {
                b[3] = 7;
                b
            },
            "00000807",
        ),
        (
            "absurd count",
            "train-images-idx3-ubyte",
            |mut b| {
                b[4] = 255;
                b
            },
            "more than",
        ),
        ("count mismatch", "train-labels-idx1-ubyte", |_| idx(&[23], &[0; 23]), "23 labels"),
        (
            "trailing bytes",
            "train-labels-idx1-ubyte",
            |mut b| {
                b.push(0);
                b
            },
            "holds more",
        ),
        ("broken gzip", "t10k-labels-idx1-ubyte", |_| vec![0x1f, 0x8b, 8, 0, 1, 2, 3], "gzip"),
    ];
    for (name, file, damage, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        idx_folder(folder.path());
        let path = folder.path().join(file);
        fs::write(&path, damage(fs::read(&path).unwrap())).unwrap();
        let error = load(Some(folder.path()), OPTIONS)
            .err()
            .unwrap_or_else(|| panic!("{name} was accepted"))
            .to_string();
        assert!(error.contains(file) && error.contains(expected), "{name}: {error}");
        assert_eq!(error.lines().count(), 1, "{name}: {error}");
    }
}

#[test]
fn a_missing_file_of_four_is_named() {
    let folder = tempfile::tempdir().unwrap();
    idx_folder(folder.path());
    fs::remove_file(folder.path().join("t10k-labels-idx1-ubyte")).unwrap();
    let error = load(Some(folder.path()), OPTIONS).err().unwrap().to_string();
    assert!(error.contains("t10k-labels-idx1-ubyte"), "{error}");
}

fn picture(path: &Path, width: u32, height: u32, color: [u8; 3]) {
    RgbImage::from_pixel(width, height, Rgb(color)).save(path).unwrap();
}

#[test]
fn a_folder_of_images_is_cropped_resized_and_sorted_into_classes() {
    let folder = tempfile::tempdir().unwrap();
    for (class, color) in [("cat", [255, 0, 0]), ("dog", [0, 0, 255])] {
        fs::create_dir(folder.path().join(class)).unwrap();
        for index in 0..20 {
            let kind = ["png", "jpg", "webp"][index % 3];
            picture(&folder.path().join(class).join(format!("{index}.{kind}")), 20 + index as u32, 33, color);
        }
    }
    fs::write(folder.path().join("notes.txt"), "not a picture").unwrap();
    fs::write(folder.path().join("cat/broken.png"), [0x89, b'P', b'N', b'G', 13, 10, 26, 10, 0, 0]).unwrap();
    let dataset = load(Some(folder.path()), OPTIONS).unwrap();
    assert_eq!(dataset.classes, ["cat", "dog"]);
    assert_eq!(dataset.shape.values(), 16 * 16 * 3);
    let all = [&dataset.train, &dataset.validation, &dataset.test];
    assert_eq!(all.iter().map(|part| part.count()).sum::<usize>(), 40);
    assert!(all.iter().all(|part| part.count() > 0 && part.labels.len() == part.count()));
    for part in all {
        for index in 0..part.count() {
            let dominant = if part.labels[index] == 0 { 0 } else { 2 };
            // JPEG is lossy
            assert!(part.picture(index)[dominant] > 240, "class and colour disagree");
        }
    }
    assert_eq!(dataset.skipped.len(), 2, "{:?}", dataset.skipped);
}

#[test]
fn half_a_jpeg_is_no_picture() {
    let folder = tempfile::tempdir().unwrap();
    for index in 0..12 {
        picture(&folder.path().join(format!("{index}.jpg")), 64, 64, [index * 20; 3]);
    }
    let path = folder.path().join("5.jpg");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let dataset = load(Some(folder.path()), OPTIONS).unwrap();
    assert_eq!(dataset.skipped.len(), 1, "{:?}", dataset.skipped);
    assert!(dataset.skipped[0].0.ends_with("5.jpg"));
}

#[test]
fn transparency_is_shown_on_white_and_16_bits_become_8() {
    let folder = tempfile::tempdir().unwrap();
    for index in 0..12 {
        let path = folder.path().join(format!("{index}.png"));
        if index % 2 == 0 {
            RgbaImage::from_pixel(16, 16, Rgba([0, 0, 0, 128])).save(path).unwrap();
        } else {
            let deep = image::ImageBuffer::from_pixel(16, 16, Rgb([127u16 * 257; 3]));
            image::DynamicImage::ImageRgb16(deep).save_with_format(path, ImageFormat::Png).unwrap();
        }
    }
    let dataset = load(Some(folder.path()), OPTIONS).unwrap();
    assert!(dataset.classes.is_empty());
    assert!(dataset.train.pixels.iter().all(|value| *value == 127), "{:?}", &dataset.train.pixels[..12]);
}

#[test]
fn a_folder_without_pictures_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let message = |path: &Path| load(Some(path), OPTIONS).err().unwrap().to_string();
    assert!(message(folder.path()).contains("is empty"));
    fs::write(folder.path().join("a.txt"), "x").unwrap();
    assert!(message(folder.path()).contains("none of them an image"));
    picture(&folder.path().join("a.png"), 9, 9, [1, 2, 3]);
    assert!(message(folder.path()).contains("too few"));
    assert!(message(&folder.path().join("a.png")).contains("is a file"));
    assert!(message(&folder.path().join("nowhere")).contains("does not exist"));
}

/// The signature and header chunk of a grey PNG of these sides, and nothing else.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut header = b"IHDR".to_vec();
    header.extend(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    header.extend([8, 0, 0, 0, 0]);
    let mut crc = flate2::Crc::new();
    crc.update(&header);
    let mut file = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
    file.extend(header);
    file.extend(crc.sum().to_be_bytes());
    file
}

/// Files made by pictures/make.py, and a picture of one pixel and one of absurd size.
#[test]
fn pictures_of_every_kind_are_taken_or_named() {
    let folder = tempfile::tempdir().unwrap();
    let kinds = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pictures");
    // each alone among plain pictures, so that it can be told where it went
    let taken = |name: &str, bytes: &[u8]| -> std::result::Result<[u8; 3], String> {
        let root = folder.path().join(name);
        fs::create_dir(&root).unwrap();
        (0..12).for_each(|index| picture(&root.join(format!("{index}.png")), 16, 16, [0, 0, 0]));
        fs::write(root.join(name), bytes).unwrap();
        let dataset = load(Some(&root), OPTIONS).map_err(|e| e.to_string())?;
        if let Some((path, reason)) = dataset.skipped.first() {
            assert!(path.ends_with(name) && !reason.contains('\n'), "{path:?}: {reason}");
            return Err(reason.clone());
        }
        let parts = [&dataset.train, &dataset.validation, &dataset.test];
        let pixels: Vec<[u8; 3]> =
            parts.iter().flat_map(|part| part.pixels.as_chunks::<3>().0).copied().collect();
        Ok(*pixels
            .iter()
            .max_by_key(|pixel| pixel.iter().map(|level| u32::from(*level)).sum::<u32>())
            .unwrap())
    };
    let [red, green, blue] = taken("cmyk.jpg", &fs::read(kinds.join("cmyk.jpg")).unwrap()).unwrap();
    assert!(red > 200 && green < 60 && blue < 60, "{red} {green} {blue}");
    for animated in ["animated.webp", "animated.png"] {
        let first = taken(animated, &fs::read(kinds.join(animated)).unwrap()).unwrap();
        assert_eq!(first, [0, 200, 0], "the first frame of {animated}");
    }
    let gif = fs::read(kinds.join("animated.gif")).unwrap();
    assert!(taken("animated.gif", &gif).is_err_and(|reason| reason.contains("no PNG, JPEG or WebP")));
    let one = folder.path().join("one.png");
    picture(&one, 1, 1, [10, 250, 30]);
    assert_eq!(taken("1.1.png", &fs::read(&one).unwrap()), Ok([10, 250, 30]));
    // refused by its header, before any memory is taken
    assert!(taken("huge.png", &png_header(20_000, 20_000)).is_err_and(|reason| reason.contains("limit")));
    assert!(taken("empty.png", &[]).is_err());
}
