//! What the firmware takes beside the generator: a picture of each built-in kind made, and painted on a panel that takes no time itself.
//!
//! `cargo bench -p edgegen-firmware-sim --bench share` prints both times and their ratio, from runs in turn; the median of each counts. With
//! `count MODEL make|fill|pixels|smooth N` it does one of them N times, for a program that counts instructions.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use edgegen_firmware::layout::{self, Scaling};
use edgegen_firmware::sample::Filter;
use edgegen_firmware::{Dither, Generator, Painter, PanelColor, Request};
use edgegen_firmware_sim::generator::{Opening, Source};
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

/// How a picture is painted.
type How = (Scaling, Dither);

const HOWS: [How; 3] = [
    (Scaling::Fill, Dither::Bayer),
    (Scaling::Pixels, Dither::Bayer),
    (Scaling::Smooth, Dither::FloydSteinberg),
];

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e3
}

fn open(model: &str, room: Size) -> Option<Source> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models").join(model);
    // where it was built is not always where it runs
    let path = if path.is_dir() { path } else { PathBuf::from(model) };
    let opening = Opening {
        model: &path,
        part: None,
        precision: None,
        options: Default::default(),
        class: None,
        pictures: None,
        explore: false,
        room,
    };
    opening.open().ok().map(|(source, _)| source)
}

/// A picture of a model, and a panel that it is painted on.
struct Bench<C> {
    source: Source,
    pixels: Vec<u8>,
    painter: Painter<320>,
    sink: Sink<C>,
    place: (Rectangle, Filter),
}

impl<C: PanelColor + IntoStorage<Storage: Into<u32>>> Bench<C> {
    fn new(model: &str, size: Size, (scaling, dither): How) -> Option<Self> {
        let source = open(model, size)?;
        let shape = source.shape();
        let sink = Sink::<C>(size, 0, std::marker::PhantomData);
        let place = layout::fit(sink.bounding_box(), shape, scaling);
        Some(Self { pixels: vec![0; shape.bytes()], source, painter: Painter::new(dither), sink, place })
    }

    fn make(&mut self, seed: u64) -> bool {
        self.source.generate(Request::Still { seed, index: 0 }, &mut self.pixels).is_ok()
    }

    fn paint(&mut self) -> bool {
        let shape = self.source.shape();
        self.painter.paint(&mut self.sink, &self.pixels, shape, self.place).is_ok()
    }
}

fn compare<C: PanelColor + IntoStorage<Storage: Into<u32>>>(model: &str, size: Size, what: &str, how: How) {
    let Some(mut bench) = Bench::<C>::new(model, size, how) else { return };
    let (mut making, mut painting) = (Vec::new(), Vec::new());
    for seed in 0..400 {
        let start = Instant::now();
        let made = bench.make(seed);
        making.push(start.elapsed());
        let start = Instant::now();
        let painted = bench.paint();
        painting.push(start.elapsed());
        assert!(made && painted, "{model} draws");
    }
    let (making, painting) = (median(making), median(painting));
    println!(
        "{model:16} {what:22} made in {making:7.3} ms, painted in {painting:6.3} ms: {:5.1} % ({})",
        100.0 * painting / making,
        bench.sink.1 % 10
    );
}

fn main() {
    let square = Size::new(240, 240);
    let names = ["fill", "pixels", "smooth"];
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, count, model, what, times] = &arguments[..]
        && count == "count"
    {
        let how = names.iter().position(|name| name == what).unwrap_or(0);
        let mut bench = Bench::<Rgb565>::new(model, square, HOWS[how]).expect("a model that draws");
        for seed in 0..times.parse().expect("a number") {
            assert!(if what == "make" { bench.make(seed) } else { bench.paint() });
        }
        return;
    }
    for model in ["smileys64-gan", "emoji64-gan", "emoji64-vae", "mnist-gan", "fashion-vae"] {
        for (name, how) in names.into_iter().zip(HOWS) {
            compare::<Rgb565>(model, square, &format!("240x240 {name}"), how);
        }
        compare::<BinaryColor>(
            model,
            Size::new(128, 64),
            "128x64 pixels",
            (Scaling::Pixels, Dither::Atkinson),
        );
    }
}
