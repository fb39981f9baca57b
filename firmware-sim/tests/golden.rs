//! Panel pictures against stored ones, pixel for pixel. They start from stored frames, so no
//! model's rounding can flip a dithered pixel, and are made by the program that users run.
//!
//! `EDGEGEN_BLESS=1 cargo test -p edgegen-firmware-sim --test golden` writes them anew: look at
//! every picture before you commit it.

mod common;

use std::path::{Path, PathBuf};

use common::{five, read_png, sim_ok, sunset};
use edgegen_firmware_sim::panel::list;
use edgegen_firmware_sim::picture::Picture;
use edgegen_firmware_sim::show::Look;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};

/// Those that every way of dithering is looked at on.
const PANELS: [(&str, Look); 2] = [("st7789", Look::TFT), ("ssd1306", Look::OLED)];
const DITHERS: [&str; 4] = ["none", "bayer", "floyd-steinberg", "atkinson"];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// What the program shows on a panel, without bezel and enlargement.
fn shown(folder: &Path, look: &Look, arguments: &[&str]) -> Picture {
    let out = ["--out", "out.png"];
    sim_ok(folder, &[arguments, &out].concat());
    look.undress(&read_png(&folder.join("out.png")))
}

fn check(picture: &Picture, name: &str) {
    let path = golden(name);
    if std::env::var_os("EDGEGEN_BLESS").is_some() {
        let (width, height) = (picture.width() as u32, picture.height() as u32);
        let file = std::fs::File::create(&path).unwrap();
        PngEncoder::new_with_quality(file, CompressionType::Best, FilterType::Adaptive)
            .write_image(picture.rgb(), width, height, ExtendedColorType::Rgb8)
            .unwrap();
        return;
    }
    let expected = read_png(&path);
    assert_eq!((picture.width(), picture.height()), (expected.width(), expected.height()), "{name}");
    let differing = picture.rgb().chunks(3).zip(expected.rgb().chunks(3)).filter(|(a, b)| a != b).count();
    assert_eq!(differing, 0, "{name}: so many pixels differ");
}

#[test]
fn both_panels_with_every_dither() {
    let folder = tempfile::tempdir().unwrap();
    five().save(folder.path().join("five.png")).unwrap();
    sunset().save(folder.path().join("sunset.png")).unwrap();
    for (panel, look) in PANELS {
        for dither in DITHERS {
            for frame in ["five", "sunset"] {
                let file = format!("{frame}.png");
                let picture = shown(
                    folder.path(),
                    &look,
                    &["--panel", panel, "--dither", dither, "--scaling", "pixels", "--frame", &file],
                );
                check(&picture, &format!("{panel}-{frame}-{dither}.png"));
            }
        }
    }
}

#[test]
fn every_panel_upright_and_on_its_side() {
    let folder = tempfile::tempdir().unwrap();
    sunset().save(folder.path().join("sunset.png")).unwrap();
    for panel in list::ALL.into_iter().filter(|panel| PANELS.iter().all(|(name, _)| *name != panel.name)) {
        for (degrees, more) in [("0", ""), ("90", "-turned")] {
            let arguments = [
                "--panel",
                panel.name,
                "--rotate",
                degrees,
                "--frame",
                "sunset.png",
                "--dither",
                "none",
                "--caption",
            ];
            let picture = shown(folder.path(), &panel.look(), &arguments);
            check(&picture, &format!("{}{more}.png", panel.name));
        }
    }
}

#[test]
fn a_sheet_shows_every_panel() {
    let folder = tempfile::tempdir().unwrap();
    sunset().save(folder.path().join("sunset.png")).unwrap();
    sim_ok(folder.path(), &["--frame", "sunset.png", "--sheet", "sheet.png"]);
    let page = read_png(&folder.path().join("sheet.png"));
    sim_ok(folder.path(), &["--frame", "sunset.png", "--panel", "st7789", "--out", "one.png"]);
    let first = read_png(&folder.path().join("one.png"));
    // the first stands on the line of the highest in its row
    let highest = 320 * 2 + 40;
    for (x, y) in [(50, 60), (200, 300), (300, 400)] {
        assert_eq!(page.at(24 + x, 24 + highest - first.height() + y), first.at(x, y));
    }
    assert!(page.height() > 2 * highest);
}

#[test]
fn captions_and_smooth_scaling() {
    let folder = tempfile::tempdir().unwrap();
    five().save(folder.path().join("five.png")).unwrap();
    for (panel, look) in PANELS {
        let arguments = ["--panel", panel, "--scaling", "smooth", "--caption", "--frame", "five.png"];
        check(&shown(folder.path(), &look, &arguments), &format!("{panel}-five-smooth-caption.png"));
    }
}

#[test]
fn one_loop_shows_the_same_as_two_threads() {
    let folder = tempfile::tempdir().unwrap();
    sunset().save(folder.path().join("sunset.png")).unwrap();
    for (panel, look) in PANELS {
        let arguments = ["--panel", panel, "--frame", "sunset.png", "--script", "next,select,walk:3"];
        let threads = shown(folder.path(), &look, &arguments);
        let one_loop = shown(folder.path(), &look, &[&arguments[..], &["--single-thread"]].concat());
        assert!(threads == one_loop, "{panel}");
    }
}
