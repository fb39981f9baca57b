//! Pictures for tests of data sets, shared by the tests of several packages.

use image::{Rgb, RgbImage};

/// Picture number `index` of a set in which no two are alike, as in a set of photos: soft waves of a few colours.
pub(crate) fn photo(index: u32, width: u32, height: u32) -> RgbImage {
    let s = 7.0 * index as f32;
    RgbImage::from_fn(width, height, |x, y| {
        let (x, y) = (x as f32 / width as f32 * 12.0, y as f32 / height as f32 * 12.0);
        let wave = |fx: f32, fy: f32, phase: f32| (fx * x + fy * y + phase).sin();
        let level = |phase: f32| {
            128.0
                + 50.0 * wave(0.5, 0.3, s + phase)
                + 40.0 * wave(1.1, -0.6, 2.3 * s)
                + 30.0 * wave(-0.4, 0.9, 3.1 * s)
        };
        Rgb([level(0.0) as u8, level(1.0) as u8, level(2.0) as u8])
    })
}
