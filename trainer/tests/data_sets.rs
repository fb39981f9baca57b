//! Loaders on the sets that their users have, and on what goes wrong with them.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use edgegen_trainer::data::{Copies, Dataset, Fit, HeldOut, LoadOptions, Pictures, Size};
use edgegen_trainer::{Result, data};
use flate2::Compression;
use flate2::write::GzEncoder;
use image::{ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};

mod photos;
use photos::photo;

/// Colour pictures of 16×16, no cache.
fn options() -> LoadOptions {
    LoadOptions::new(Size::square(16))
}

fn load_with(path: Option<&Path>, options: &LoadOptions) -> Result<Dataset> {
    data::load(path, options, &|_, _| {})
}

fn load(path: &Path) -> Result<Dataset> {
    load_with(Some(path), &options())
}

fn parts(dataset: &Dataset) -> [&Pictures; 3] {
    [&dataset.train, &dataset.validation, &dataset.test]
}

fn counts(dataset: &Dataset) -> [usize; 3] {
    parts(dataset).map(Pictures::count)
}

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

fn mean_and_deviation(parts: &[&Pictures]) -> (f64, f64) {
    let values =
        || parts.iter().flat_map(|part| part.iter()).flatten().map(|value| f64::from(*value) / 255.0);
    let count = values().count() as f64;
    let mean = values().sum::<f64>() / count;
    (mean, (values().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt())
}

#[test]
fn the_mnist_family_has_its_published_statistics() {
    let Some(folder) = big_sets() else { return };
    for (name, mean, deviation) in [("mnist", 0.1307, 0.3081), ("fashion-mnist", 0.2860, 0.3530)] {
        let dataset = load(&folder.join(name)).unwrap();
        assert_eq!(counts(&dataset), [55_000, 5_000, 10_000]);
        let found = mean_and_deviation(&[&dataset.train, &dataset.validation]);
        assert!((found.0 - mean).abs() < 5e-5 && (found.1 - deviation).abs() < 5e-5, "{name}: {found:?}");
        assert_eq!(dataset.classes.len(), 10);
    }
}

#[test]
fn the_emoji_folder_has_its_splits_and_classes() {
    let Some(folder) = big_sets() else { return };
    let emoji = LoadOptions { group_by: "prefix:_".parse().unwrap(), ..LoadOptions::new(Size::square(64)) };
    let dataset = load_with(Some(&folder.join("emoji64")), &emoji).unwrap();
    assert_eq!(dataset.test.count(), 424);
    // its description counts one picture more than some copies hold
    assert!((4_430..=4_431).contains(&(dataset.train.count() + dataset.validation.count())));
    assert!(dataset.classes.iter().any(|class| class == "food-and-drink"), "{:?}", dataset.classes);
    assert!(dataset.skipped.is_empty());
    // validation is chosen of every class
    let classes: BTreeSet<_> = dataset.validation.labels().iter().collect();
    assert_eq!(classes.len(), dataset.classes.len());
    assert!((150..300).contains(&dataset.validation.count()), "{}", dataset.validation.count());
    // keycaps and two signs were drawn twice; one drawing serves for a man and for a person at times
    assert_eq!(dataset.facts.copies.exact, 0);
    assert!((13..=20).contains(&dataset.facts.copies.near), "{:?}", dataset.facts.copies);
}

#[test]
fn variants_of_one_picture_stay_in_one_part_where_the_rule_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for index in 0..60u8 {
        for variant in ["a", "b", "c"] {
            picture(&folder.path().join(format!("{index}_{variant}.png")), 9, 9, [index; 3]);
        }
    }
    let rule = |rule: &str| LoadOptions {
        group_by: rule.parse().unwrap(),
        held_out: HeldOut::Share(0.2),
        ..options()
    };
    for rule in [rule("prefix:_"), rule(r"regex:^(\d+)_")] {
        let dataset = load_with(Some(folder.path()), &rule).unwrap();
        let shades = |part: &Pictures| part.iter().map(|picture| picture[0]).collect::<BTreeSet<u8>>();
        let [train, validation, test] = parts(&dataset).map(shades);
        assert_eq!(train.len() + validation.len(), 60, "{train:?} {validation:?}");
        assert!(validation.len() >= 3 && test.is_empty(), "{validation:?}");
    }
}

fn jpeg(picture: &RgbImage, quality: u8, path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    picture
        .write_with_encoder(image::codecs::jpeg::JpegEncoder::new_with_quality(&mut file, quality))
        .unwrap();
}

#[test]
fn names_do_not_decide_the_split() {
    // the three folders that the first version could not take, or took wrong
    let folder = tempfile::tempdir().unwrap();
    for index in 0..400u32 {
        jpeg(&photo(index, 24, 20), 90, &folder.path().join(format!("IMG_{index:04}.JPG")));
    }
    let dataset = load(folder.path()).unwrap();
    let [train, validation, test] = counts(&dataset);
    assert_eq!((train + validation, test), (400, 0));
    assert!((8..=40).contains(&validation), "{validation}");
    assert_eq!(dataset.facts.copies, Copies::default());

    let folder = tempfile::tempdir().unwrap();
    for (class, name) in ["cat", "dog", "bird", "fish", "frog"].into_iter().enumerate() {
        fs::create_dir(folder.path().join(name)).unwrap();
        for index in 0..20u32 {
            let path = folder.path().join(name).join(format!("{name}_{index}.jpg"));
            jpeg(&photo(100 * class as u32 + index, 24, 20), 90, &path);
        }
    }
    let dataset = load(folder.path()).unwrap();
    for part in [&dataset.train, &dataset.validation] {
        assert_eq!(part.labels().iter().collect::<BTreeSet<_>>().len(), 5, "{:?}", part.labels());
    }
    assert!(dataset.validation.count() >= 8);
    // a GAN learns from all of them
    let all = load_with(Some(folder.path()), &LoadOptions { held_out: HeldOut::Share(0.0), ..options() });
    let all = all.unwrap();
    assert_eq!(counts(&all), [100, 0, 0]);
    assert_eq!(all.report_part().1, "training");
    assert_eq!(
        (dataset.report_part().1, dataset.report_part().0.count()),
        ("validation", dataset.validation.count())
    );
}

#[test]
fn the_split_does_not_depend_on_size_names_or_other_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let path = |index: u32| folder.path().join(format!("{index}.png"));
    (0..300).for_each(|index| photo(index, 24, 20).save(path(index)).unwrap());
    // a picture is known by its upper left corner at the first size
    let held_out = |size: usize| -> Vec<Vec<u8>> {
        let own = load_with(Some(folder.path()), &LoadOptions::new(Size::square(size))).unwrap();
        own.validation.iter().map(|picture| picture[..6].to_vec()).collect()
    };
    let mut first = held_out(16);
    assert!((9..=30).contains(&first.len()), "no floor may be active: {}", first.len());
    assert_eq!(held_out(32).len(), first.len());
    // other names, and a fresh picture more
    (0..300).for_each(|index| {
        fs::rename(path(index), folder.path().join(format!("x{}.png", 999 - index))).unwrap()
    });
    photo(777, 24, 20).save(folder.path().join("more.png")).unwrap();
    let mut second = held_out(16);
    let corner = load(folder.path()).unwrap().train.iter().count();
    assert_eq!(corner + second.len(), 301);
    first.sort();
    second.sort();
    let kept = first.iter().filter(|corner| second.contains(corner)).count();
    assert_eq!(kept, first.len(), "a picture moved to the training part");
    assert!(second.len() <= first.len() + 1);
}

#[test]
fn copies_are_found_and_stay_on_one_side() {
    let folder = tempfile::tempdir().unwrap();
    for index in 0..200u32 {
        let picture = photo(index, 120, 90);
        let path = |kind: &str| folder.path().join(format!("{kind}{index}"));
        picture.save(path("a").with_extension("png")).unwrap();
        match index % 10 {
            0 => jpeg(&picture, 60, &path("again").with_extension("jpg")),
            1 => {
                let small =
                    image::imageops::resize(&picture, 96, 72, image::imageops::FilterType::CatmullRom);
                small.save(path("small").with_extension("png")).unwrap();
            }
            2 => drop(fs::copy(path("a").with_extension("png"), path("copy").with_extension("png")).unwrap()),
            3 => {
                // the same forms in another colour are another picture
                let other = RgbImage::from_fn(120, 90, |x, y| {
                    let [red, green, blue] = picture.get_pixel(x, y).0;
                    Rgb([green, blue, 255 - red])
                });
                other.save(path("colour").with_extension("png")).unwrap();
            }
            _ => {}
        }
    }
    let dataset = load(folder.path()).unwrap();
    assert_eq!(dataset.facts.copies, Copies { exact: 20, near: 40 });
    assert!(dataset.remarks.iter().any(|line| line.contains("20 exact and 40 near copies")));
    // no validation picture has a copy among the training pictures
    let near = |a: &[u8], b: &[u8]| a.iter().zip(b).all(|(a, b)| a.abs_diff(*b) < 20);
    for held in dataset.validation.iter() {
        assert!(!dataset.train.iter().any(|picture| near(held, picture)));
    }
}

#[test]
fn photos_of_the_berkeley_set_are_no_copies_of_each_other_and_saved_again_they_are() {
    let Some(data) = big_sets() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut count = 0;
    for (number, entry) in fs::read_dir(data.join("restore/train400")).unwrap().enumerate() {
        let path = entry.unwrap().path();
        let picture = image::open(&path).unwrap().into_rgb8();
        fs::copy(&path, folder.path().join(format!("{number}.png"))).unwrap();
        let (width, height) = (picture.width() * 4 / 5, picture.height() * 4 / 5);
        let small = image::imageops::resize(&picture, width, height, image::imageops::FilterType::CatmullRom);
        jpeg(&small, 60, &folder.path().join(format!("{number}.jpg")));
        count += 1;
    }
    let dataset = load(folder.path()).unwrap();
    let Copies { exact, near } = dataset.facts.copies;
    // no two photos are taken for copies, and hardly a copy for another photo
    assert!(exact == 0 && near <= count && near * 100 >= count * 97, "{near} of {count}");
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
    assert_eq!(load(folder.path()).unwrap().classes, ["bus", "car", "train"]);
}

#[test]
fn the_embedded_set_needs_no_files() {
    let dataset = load_with(None, &options()).unwrap();
    assert_eq!(counts(&dataset), [1467, 133, 400]);
    assert_eq!(dataset.classes[9], "ankle-boot");
    let found = mean_and_deviation(&[&dataset.train, &dataset.validation]);
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
    let plain = load(folder.path()).unwrap();
    for file in fs::read_dir(folder.path()).unwrap() {
        let path = file.unwrap().path();
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&fs::read(&path).unwrap()).unwrap();
        fs::write(format!("{}.gz", path.display()), packed.finish().unwrap()).unwrap();
        fs::remove_file(path).unwrap();
    }
    let packed = load(folder.path()).unwrap();
    assert_eq!(plain.train.to_pixels(), packed.train.to_pixels());
    assert_eq!(plain.test.labels(), packed.test.labels());
    assert_eq!(plain.sha256(), packed.sha256());
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
        let error = load(folder.path()).err().unwrap_or_else(|| panic!("{name} was accepted")).to_string();
        assert!(error.contains(file) && error.contains(expected), "{name}: {error}");
        assert_eq!(error.lines().count(), 1, "{name}: {error}");
    }
}

#[test]
fn a_missing_file_of_four_is_named() {
    let folder = tempfile::tempdir().unwrap();
    idx_folder(folder.path());
    fs::remove_file(folder.path().join("t10k-labels-idx1-ubyte")).unwrap();
    let error = load(folder.path()).err().unwrap().to_string();
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
    let dataset = load(folder.path()).unwrap();
    assert_eq!(dataset.classes, ["cat", "dog"]);
    assert_eq!(dataset.shape.values(), 16 * 16 * 3);
    // all of a class are copies of one picture, and none can be held out
    assert_eq!(counts(&dataset), [40, 0, 0]);
    assert!(dataset.remarks.iter().any(|line| line.contains("no pictures are held out of cat, dog")));
    for part in parts(&dataset) {
        for index in 0..part.count() {
            let dominant = if part.labels()[index] == 0 { 0 } else { 2 };
            // JPEG is lossy
            assert!(part.picture(index)[dominant] > 240, "class and colour disagree");
        }
    }
    assert_eq!(dataset.skipped.len(), 1, "{:?}", dataset.skipped);
    assert!(dataset.remarks.iter().any(|line| line.contains("1 of .txt")), "{:?}", dataset.remarks);
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
    let dataset = load(folder.path()).unwrap();
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
    let dataset = load(folder.path()).unwrap();
    assert!(dataset.classes.is_empty());
    let pixels = dataset.train.to_pixels();
    assert!(pixels.iter().all(|value| *value == 127), "{:?}", &pixels[..12]);
}

#[test]
fn a_folder_without_pictures_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let message = |path: &Path| load(path).err().unwrap().to_string();
    assert!(message(folder.path()).contains("is empty"));
    fs::write(folder.path().join("a.txt"), "x").unwrap();
    assert!(message(folder.path()).contains("holds no image, only other files (1 of .txt)"));
    picture(&folder.path().join("a.png"), 9, 9, [1, 2, 3]);
    assert!(message(folder.path()).contains("1 usable pictures"));
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
        let dataset = load(&root).map_err(|e| e.to_string())?;
        if let Some((path, reason)) = dataset.skipped.first() {
            assert!(path.ends_with(name) && !reason.contains('\n'), "{path:?}: {reason}");
            return Err(reason.clone());
        }
        let pixels: Vec<[u8; 3]> = parts(&dataset)
            .iter()
            .flat_map(|part| part.iter())
            .flat_map(|picture| picture.as_chunks::<3>().0)
            .copied()
            .collect();
        Ok(*pixels
            .iter()
            .max_by_key(|pixel| pixel.iter().map(|level| u32::from(*level)).sum::<u32>())
            .unwrap())
    };
    let [red, green, blue] = taken("cmyk.jpg", &fs::read(kinds.join("cmyk.jpg")).unwrap()).unwrap();
    assert!(red > 200 && green < 60 && blue < 60, "{red} {green} {blue}");
    for animated in ["animated.webp", "animated.png", "animated.gif"] {
        let first = taken(animated, &fs::read(kinds.join(animated)).unwrap()).unwrap();
        assert_eq!(first, [0, 200, 0], "the first frame of {animated}");
    }
    // the content decides, whatever the name says
    let whole = RgbImage::from_pixel(16, 16, Rgb([200, 40, 0]));
    for (name, format) in [
        ("a.bmp", ImageFormat::Bmp),
        ("a.tif", ImageFormat::Tiff),
        ("a.tiff", ImageFormat::Tiff),
        ("a.gif", ImageFormat::Gif),
        ("a.jfif", ImageFormat::Png),
        ("a.jpg", ImageFormat::WebP),
    ] {
        let mut bytes = std::io::Cursor::new(Vec::new());
        image::DynamicImage::from(whole.clone()).write_to(&mut bytes, format).unwrap();
        let found = taken(name, bytes.get_ref()).unwrap();
        assert!(found.iter().zip([200, 40, 0]).all(|(a, b)| a.abs_diff(b) < 9), "{name}: {found:?}");
    }
    let heic = [&[0, 0, 0, 24][..], b"ftypheic", &[0; 12]].concat();
    for name in ["a.heic", "b.HEIF", "c.jpg"] {
        assert!(taken(name, &heic).is_err_and(|reason| reason.contains("convert them to JPEG")), "{name}");
    }
    // a phone's motion photo: a video follows the picture
    let mut photo = fs::read(kinds.join("cmyk.jpg")).unwrap();
    photo.extend([&[0, 0, 0, 24][..], b"ftypmp42", &[7; 20_000]].concat());
    assert!(taken("motion.jpg", &photo).is_ok_and(|[red, _, _]| red > 200));
    let one = folder.path().join("one.png");
    picture(&one, 1, 1, [10, 250, 30]);
    assert_eq!(taken("1.1.png", &fs::read(&one).unwrap()), Ok([10, 250, 30]));
    // refused by its header, before any memory is taken
    assert!(taken("huge.png", &png_header(20_000, 20_000)).is_err_and(|reason| reason.contains("limit")));
    assert!(taken("empty.png", &[]).is_err());
}

#[test]
fn part_folders_are_honoured_and_strays_named() {
    let folder = tempfile::tempdir().unwrap();
    let add = |path: &str, index: u32| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        photo(index, 20, 20).save(path).unwrap();
    };
    for index in 0..20 {
        add(&format!("Train/{}/{index}.png", ["cat", "dog"][index as usize % 2]), index);
    }
    (20..26).for_each(|index| add(&format!("valid/cat/{index}.png"), index));
    (30..34).for_each(|index| add(&format!("test/dog/{index}.png"), index));
    add("test/dog/again.png", 3); // a copy of a training picture
    add("test/34.png", 34); // of no class
    add("test/bird/35.png", 35); // of a class that is not learned
    add("cover.png", 36);
    add("old/37.png", 37);
    fs::write(folder.path().join("readme.md"), "x").unwrap();
    let dataset = load(folder.path()).unwrap();
    assert_eq!(
        (counts(&dataset), &dataset.classes[..]),
        ([20, 6, 5], &["cat".to_string(), "dog".into()][..])
    );
    let reason = |name: &str| {
        let skipped = dataset.skipped.iter().find(|(path, _)| path.ends_with(name));
        skipped.map(|(_, reason)| reason.as_str()).unwrap_or_else(|| panic!("{name}: {:?}", dataset.skipped))
    };
    assert!(reason("cover.png").contains("beside") && reason("old/37.png").contains("beside"));
    assert!(reason("test/34.png").contains("no class"));
    assert!(reason("test/bird/35.png").contains("bird has no training picture"));
    assert!(
        dataset.remarks.iter().any(|line| line.contains("1 pictures of the val and test folders are copies"))
    );
    assert!(dataset.remarks.iter().any(|line| line.contains("1 of .md")));
    assert_eq!(dataset.report_part().1, "test");
}

#[test]
fn a_stray_picture_beside_class_folders_is_named_and_many_mean_no_classes() {
    let folder = tempfile::tempdir().unwrap();
    for index in 0..40u32 {
        let class = folder.path().join(["cat", "dog"][index as usize % 2]);
        fs::create_dir_all(&class).unwrap();
        photo(index, 20, 20).save(class.join(format!("{index}.png"))).unwrap();
    }
    photo(50, 20, 20).save(folder.path().join("stray.png")).unwrap();
    let dataset = load(folder.path()).unwrap();
    assert_eq!((dataset.classes.len(), dataset.skipped.len()), (2, 1));
    (51..60).for_each(|index| photo(index, 20, 20).save(folder.path().join(format!("{index}.png"))).unwrap());
    let dataset = load(folder.path()).unwrap();
    assert!(dataset.classes.is_empty() && dataset.skipped.is_empty());
    assert!(dataset.remarks.iter().any(|line| line.contains("10 of 50")), "{:?}", dataset.remarks);
}

#[test]
fn other_proportions_are_cropped_padded_or_stretched() {
    let folder = tempfile::tempdir().unwrap();
    for index in 0..12u8 {
        // black, a white bar at the left edge
        let picture = RgbImage::from_fn(60, 30, |x, _| Rgb(if x < 6 { [255; 3] } else { [index, 0, 0] }));
        picture.save(folder.path().join(format!("{index}.png"))).unwrap();
    }
    let first = |fit: Fit, size: &str| {
        let options = LoadOptions { fit, gray: true, ..LoadOptions::new(size.parse().unwrap()) };
        let dataset = load_with(Some(folder.path()), &options).unwrap();
        (dataset.shape.to_string(), dataset.train.picture(0).to_vec())
    };
    let (shape, cropped) = first(Fit::Crop, "16");
    assert_eq!(shape, "1x16x16");
    assert!(cropped.iter().all(|level| *level < 20));
    let (_, padded) = first(Fit::Pad, "16");
    assert!(padded[0] == 255 && padded[8 * 16 + 1] > 100 && padded[8 * 16 + 8] < 20);
    let (shape, stretched) = first(Fit::Stretch, "32x16");
    assert_eq!(shape, "1x16x32");
    assert!(stretched[0] > 200 && stretched[16] < 20);
}

/// Unwritten names of EMNIST's files, a class list beside them.
#[test]
fn emnist_files_are_idx_files_and_turned_upright() {
    let folder = tempfile::tempdir().unwrap();
    let write = |set: &str| {
        for (part, count) in [("train", 24u32), ("test", 12)] {
            // the upper right corner of each picture, as it is stored, is white
            let pixels: Vec<u8> =
                (0..count * 64).map(|value| if value % 64 == 7 { 255 } else { 0 }).collect();
            let labels: Vec<u8> = (0..count).map(|value| 1 + (value % 3) as u8).collect();
            let file = |kind: &str| folder.path().join(format!("{set}{part}-{kind}-ubyte"));
            fs::write(file("images-idx3"), idx(&[count, 8, 8], &pixels)).unwrap();
            fs::write(file("labels-idx1"), idx(&[count], &labels)).unwrap();
        }
    };
    write("emnist-letters-");
    fs::write(folder.path().join("emnist-letters-mapping.txt"), "1 65 97\n2 66 98\n3 67 99\n").unwrap();
    let dataset = load(folder.path()).unwrap();
    assert_eq!(
        (dataset.name.as_str(), &dataset.classes[..]),
        ("emnist-letters", &["A", "B", "C"].map(String::from)[..])
    );
    assert_eq!(counts(&dataset), [22, 2, 12]);
    assert_eq!((dataset.train.picture(0)[7], dataset.train.picture(0)[56]), (0, 255));
    assert!(dataset.remarks.iter().any(|line| line.contains("upright")));

    write("emnist-digits-");
    let line = load(folder.path()).err().unwrap().to_string();
    assert!(line.contains("emnist-digits, emnist-letters") && line.contains("a file of one"), "{line}");
    let file = folder.path().join("emnist-digits-train-images-idx3-ubyte");
    let dataset = load(&file).unwrap();
    assert_eq!((dataset.name.as_str(), dataset.classes.len()), ("emnist-digits", 3));
    // test files are not needed, nor is validation
    for kind in ["images-idx3", "labels-idx1"] {
        fs::remove_file(folder.path().join(format!("emnist-digits-test-{kind}-ubyte"))).unwrap();
    }
    let all = load_with(Some(&file), &LoadOptions { held_out: HeldOut::Share(0.0), ..options() }).unwrap();
    assert_eq!(counts(&all), [24, 0, 0]);
}

/// Loads with a cache; returns the pictures' SHA-256 and how many files were decoded.
fn cached(folder: &Path, cache: &Path) -> (String, usize) {
    let options = LoadOptions { cache: Some(cache.to_path_buf()), ..options() };
    let dataset = load_with(Some(folder), &options).unwrap();
    assert!(dataset.remarks.iter().all(|line| !line.contains("kept")), "{:?}", dataset.remarks);
    // whatever the cache did, the pictures are those of the files
    let plain = load(folder).unwrap();
    for (part, plain) in parts(&dataset).into_iter().zip(parts(&plain)) {
        assert_eq!(part.to_pixels(), plain.to_pixels());
    }
    assert_eq!(dataset.sha256(), plain.sha256());
    (dataset.sha256(), dataset.facts.decoded)
}

/// A folder of 30 pictures and one damaged file, and an empty cache folder.
fn cache_setup() -> (tempfile::TempDir, tempfile::TempDir) {
    let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    (0..30).for_each(|index| photo(index, 40, 30).save(folder.path().join(format!("{index}.png"))).unwrap());
    fs::write(folder.path().join("broken.png"), b"\x89PNG\r\n\x1a\n").unwrap();
    (folder, cache)
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == ending)).collect()
}

#[test]
fn a_file_is_decoded_once_whatever_becomes_of_its_name_and_time() {
    let (folder, cache) = cache_setup();
    let (first, decoded) = cached(folder.path(), cache.path());
    assert_eq!((decoded, files(cache.path(), "rows").len(), files(cache.path(), "index").len()), (30, 1, 1));
    assert_eq!(cached(folder.path(), cache.path()), (first, 0));
    let path = |name: &str| folder.path().join(name);
    fs::rename(path("3.png"), path("zebra.png")).unwrap();
    let touched = fs::File::options().append(true).open(path("4.png")).unwrap();
    touched.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(60)).unwrap();
    assert_eq!(cached(folder.path(), cache.path()).1, 0);
    // another picture under an old name, with the same length and time
    let (old, other) = (path("5.png"), path("6.png"));
    let (bytes, time) = (fs::read(&other).unwrap(), fs::metadata(&old).unwrap().modified().unwrap());
    fs::write(&old, bytes).unwrap();
    fs::File::options().append(true).open(&old).unwrap().set_modified(time).unwrap();
    assert_eq!(cached(folder.path(), cache.path()).1, 0, "6.png is known");
    photo(99, 40, 30).save(path("new.png")).unwrap();
    photo(98, 40, 30).save(path("7.png")).unwrap();
    assert_eq!(cached(folder.path(), cache.path()).1, 2);
    assert_eq!(cached(folder.path(), cache.path()).1, 0);
    // most of the pictures gone, their rows go too
    let length = |cache: &Path| fs::metadata(&files(cache, "rows")[0]).unwrap().len();
    let before = length(cache.path());
    (10..30).for_each(|index| fs::remove_file(path(&format!("{index}.png"))).unwrap());
    assert_eq!(cached(folder.path(), cache.path()).1, 0);
    assert!(length(cache.path()) < before / 2);
    assert_eq!(files(cache.path(), "rows").len(), 1);
    assert_eq!(cached(folder.path(), cache.path()).1, 0);
}

#[test]
fn old_times_are_trusted_and_fresh_ones_are_not() {
    let (folder, cache) = cache_setup();
    let hour = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    let set = |path: &Path| fs::File::options().append(true).open(path).unwrap().set_modified(hour).unwrap();
    files(folder.path(), "png").iter().for_each(|path| set(path));
    let reads = || {
        let reads = std::sync::atomic::AtomicUsize::new(0);
        let options = LoadOptions { cache: Some(cache.path().to_path_buf()), ..options() };
        data::load(Some(folder.path()), &options, &|_, total| {
            reads.store(total, std::sync::atomic::Ordering::Relaxed);
        })
        .unwrap();
        reads.into_inner()
    };
    assert_eq!((reads(), reads()), (31, 0), "unchanged files are not read again");
    fs::write(folder.path().join("3.png"), fs::read(folder.path().join("4.png")).unwrap()).unwrap();
    // changed just now: the clock of the file system might not tell a later change
    assert_eq!((reads(), reads()), (1, 1));
    set(&folder.path().join("3.png"));
    assert_eq!((reads(), reads()), (1, 0));
}

#[test]
fn damaged_caches_are_made_anew() {
    let (folder, cache) = cache_setup();
    let (expected, _) = cached(folder.path(), cache.path());
    type Damage = fn(&mut Vec<u8>);
    let cases: [(&str, Damage); 8] = [
        ("rows", |bytes| bytes.truncate(bytes.len() / 2)),
        ("rows", |bytes| bytes.clear()),
        ("rows", |bytes| bytes[1000] ^= 1),
        ("rows", |bytes| bytes.push(0)),
        ("index", |bytes| bytes.truncate(bytes.len() / 2)),
        ("index", |bytes| bytes.clear()),
        ("index", |bytes| bytes[60] ^= 1),
        ("index", |bytes| bytes[7] = 99),
    ];
    for (number, (ending, damage)) in cases.into_iter().enumerate() {
        let path = files(cache.path(), ending).remove(0);
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        fs::write(&path, bytes).unwrap();
        assert_eq!(cached(folder.path(), cache.path()), (expected.clone(), 30), "case {number}");
        assert_eq!(cached(folder.path(), cache.path()), (expected.clone(), 0), "case {number}");
    }
    fs::remove_file(files(cache.path(), "rows").remove(0)).unwrap();
    assert_eq!(cached(folder.path(), cache.path()), (expected.clone(), 30));
    // sizes have caches of their own
    let small = LoadOptions { cache: Some(cache.path().to_path_buf()), ..LoadOptions::new(Size::square(8)) };
    assert_eq!(load_with(Some(folder.path()), &small).unwrap().facts.decoded, 30);
    assert_eq!((files(cache.path(), "rows").len(), cached(folder.path(), cache.path()).1), (2, 0));
    // no folder for the cache is a remark, not a failure
    let file = folder.path().join("0.png");
    let dataset = load_with(Some(folder.path()), &LoadOptions { cache: Some(file), ..options() }).unwrap();
    assert_eq!(dataset.sha256(), expected);
    assert!(dataset.remarks.iter().any(|line| line.contains("not kept")), "{:?}", dataset.remarks);
}

#[test]
fn processes_that_load_at_once_do_no_harm() {
    let (folder, cache) = cache_setup();
    std::thread::scope(|scope| {
        let loads: Vec<_> = (0..4)
            .map(|number| {
                let (folder, cache) = (folder.path(), cache.path());
                scope.spawn(move || {
                    // each meets other pictures than the one before
                    photo(200 + number, 40, 30).save(folder.join(format!("new{number}.png"))).unwrap();
                    let options = LoadOptions { cache: Some(cache.to_path_buf()), ..options() };
                    // a picture that another thread is writing may be refused
                    let dataset = load_with(Some(folder), &options).unwrap();
                    let pictures = counts(&dataset).iter().sum::<usize>();
                    assert!((30..=34).contains(&pictures), "{pictures}");
                    dataset.train.to_pixels().len()
                })
            })
            .collect();
        loads.into_iter().for_each(|load| assert!(load.join().unwrap() > 0));
    });
    cached(folder.path(), cache.path());
    assert_eq!(cached(folder.path(), cache.path()).1, 0);
}

#[test]
fn held_out_pictures_are_never_mirrored_and_training_pictures_by_the_step() {
    use edgegen_runtime::model::Range;
    let folder = tempfile::tempdir().unwrap();
    (0..60).for_each(|index| photo(index, 20, 20).save(folder.path().join(format!("{index}.png"))).unwrap());
    let dataset = load(folder.path()).unwrap();
    assert!(dataset.mirroring.on, "{:?}", dataset.mirroring);
    let indices: Vec<usize> = (0..dataset.train.count()).collect();
    let plain = data::batch(Range::Unit, dataset.shape, &dataset.train, indices.iter().copied());
    let step = |step| data::training_batch(Range::Unit, &dataset, &indices, 7, step);
    let mirrored = |batch: &[f32]| -> Vec<bool> {
        let rows = batch.chunks(dataset.shape.values()).zip(plain.chunks(dataset.shape.values()));
        rows.map(|(seen, plain)| {
            let turned: Vec<f32> = plain.chunks(16).flat_map(|row| row.iter().rev()).copied().collect();
            assert!(seen == plain || seen == turned);
            seen != plain
        })
        .collect()
    };
    let first = mirrored(&step(0));
    assert_eq!(first, mirrored(&step(0)));
    assert_ne!(first, mirrored(&step(1)));
    let count = first.iter().filter(|mirrored| **mirrored).count();
    assert!((first.len() / 4..first.len() * 3 / 4).contains(&count), "{count} of {}", first.len());
    let off = LoadOptions { mirror: data::Mirror::No, ..options() };
    let off = load_with(Some(folder.path()), &off).unwrap();
    assert_eq!(data::training_batch(Range::Unit, &off, &indices, 7, 0), plain);
}
