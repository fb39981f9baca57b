//! What the firmware takes beside the generator: a picture of each built-in kind made, and painted on a panel that takes no time itself.
//!
//! `cargo bench -p edgegen-firmware-sim --bench share` prints both times and their ratio, from runs in turn; the median of each counts.

use std::convert::Infallible;
use std::path::Path;
use std::time::{Duration, Instant};

use edgegen_firmware::layout::{self, Scaling};
use edgegen_firmware::{Dither, Generator, Painter, PanelColor, Request};
use edgegen_firmware_sim::generator::Opening;
use embedded_graphics::pixelcolor::{BinaryColor, Rgb565};
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::Rectangle;

/// A panel that takes pixels and keeps none.
struct Sink<C>(Size, u32, std::marker::PhantomData<C>);

impl<C> OriginDimensions for Sink<C> {
    fn size(&self) -> Size {
        self.0
    }
}

impl<C: PanelColor + IntoStorage<Storage: Into<u32>>> DrawTarget for Sink<C> {
    type Color = C;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<C>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        self.1 = pixels
            .into_iter()
            .fold(self.1, |sum, Pixel(_, color)| sum.wrapping_add(color.into_storage().into()));
        Ok(())
    }

    fn fill_contiguous<I: IntoIterator<Item = C>>(
        &mut self,
        area: &Rectangle,
        colors: I,
    ) -> Result<(), Infallible> {
        // one by one, as drivers take them
        let mut colors = colors.into_iter();
        for _ in 0..area.size.width * area.size.height {
            let Some(color) = colors.next() else { break };
            self.1 = self.1.wrapping_add(color.into_storage().into());
        }
        Ok(())
    }
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e3
}

fn compare<C: PanelColor + IntoStorage<Storage: Into<u32>>>(
    model: &str,
    size: Size,
    what: &str,
    (scaling, dither): (Scaling, Dither),
) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models").join(model);
    let opening = Opening {
        model: &path,
        part: None,
        precision: None,
        options: Default::default(),
        class: None,
        pictures: None,
        explore: false,
        room: size,
    };
    let Ok((mut source, _)) = opening.open() else { return };
    let shape = source.shape();
    let mut pixels = vec![0; shape.bytes()];
    let mut painter = Painter::<320>::new(dither);
    let mut sink = Sink::<C>(size, 0, std::marker::PhantomData);
    let place = layout::fit(sink.bounding_box(), shape, scaling);
    let (mut making, mut painting) = (Vec::new(), Vec::new());
    for seed in 0..400 {
        let start = Instant::now();
        if source.generate(Request::Still { seed, index: 0 }, &mut pixels).is_err() {
            return;
        }
        making.push(start.elapsed());
        let start = Instant::now();
        let Ok(()) = painter.paint(&mut sink, &pixels, shape, place) else { return };
        painting.push(start.elapsed());
    }
    let (making, painting) = (median(making), median(painting));
    println!(
        "{model:16} {what:22} made in {making:7.3} ms, painted in {painting:6.3} ms: {:5.1} % ({})",
        100.0 * painting / making,
        sink.1 % 10
    );
}

fn main() {
    let square = Size::new(240, 240);
    let colours = [
        (Scaling::Fill, Dither::Bayer),
        (Scaling::Pixels, Dither::Bayer),
        (Scaling::Smooth, Dither::FloydSteinberg),
    ];
    for model in ["smileys64-gan", "emoji64-gan", "emoji64-vae", "mnist-gan", "fashion-vae"] {
        for (name, how) in ["fill, bayer", "pixels, bayer", "smooth, floyd"].into_iter().zip(colours) {
            compare::<Rgb565>(model, square, &format!("240x240 {name}"), how);
        }
        compare::<BinaryColor>(
            model,
            Size::new(128, 64),
            "128x64 pixels, atkin.",
            (Scaling::Pixels, Dither::Atkinson),
        );
    }
}
