//! A clock: an application of one's own. The hour's seed draws the face, embedded-graphics the hands, on any panel of the list.
//!
//! `cargo run --release -p edgegen-firmware-sim --example clock -- gc9a01 10:08` writes clock.png. On a board, `panel::open` hands the same
//! function a panel on SPI or I2C.

use anyhow::{Context, Result};
use edgegen_firmware::{Dither, Generator, Painter, PanelColor, Request, layout};
use edgegen_firmware_sim::panel::{Device, Mounting, Observed, Panel, Visit};
use edgegen_firmware_sim::{builtin, generator::ModelGenerator, show};
use edgegen_runtime::model::{Model, OpenOptions};
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::{Line, PrimitiveStyle};

/// Draws the time on any panel.
fn draw<D: Device>(panel: &mut D, faces: &mut ModelGenerator, hours: u32, minutes: u32) -> Result<()> {
    fn colors<T: DrawTarget<Color: PanelColor>>(_: &T) -> (T::Color, T::Color) {
        (T::Color::PAPER, T::Color::INK)
    }
    let mut face = vec![0; faces.shape().bytes()];
    faces.generate(Request::Still { seed: hours.into(), index: 0 }, &mut face)?;
    let (area, (paper, ink)) = (panel.target().bounding_box(), colors(panel.target()));
    let place = layout::fit(area, faces.shape(), layout::Scaling::Smooth);
    let failed = |error| anyhow::anyhow!("the panel failed: {error:?}");
    panel.target().clear(paper).map_err(failed)?;
    let painted = Painter::<320>::new(Dither::Bayer).paint(panel.target(), &face, faces.shape(), place);
    painted.map_err(|error| anyhow::anyhow!("{error}"))?;
    let (middle, radius) = (area.center(), area.size.width.min(area.size.height) as f32 / 2.0);
    let hands = [(hours % 12 * 60 + minutes, 720.0, 0.55), (minutes, 60.0, 0.85)];
    for (at, of, length) in hands {
        let angle = std::f32::consts::TAU * at as f32 / of;
        let tip = Point::new((angle.sin() * length * radius) as i32, (-angle.cos() * length * radius) as i32);
        for (color, width) in [(paper, 9), (ink, 5)] {
            let hand = Line::new(middle, middle + tip).into_styled(PrimitiveStyle::with_stroke(color, width));
            hand.draw(panel.target()).map_err(failed)?;
        }
    }
    Ok(panel.flush()?)
}

struct At(ModelGenerator, u32, u32, Panel);

impl Visit for At {
    type Output = Result<()>;

    fn visit<D: Observed>(mut self, panel: &mut D) -> Result<()> {
        draw(panel, &mut self.0, self.1, self.2)?;
        Ok(show::write("clock.png".as_ref(), &[panel.picture()], &self.3.look(), 1.0)?)
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let panel = Panel::named(&arguments.next().unwrap_or("gc9a01".into())).map_err(anyhow::Error::msg)?;
    let time = arguments.next().unwrap_or("10:08".into());
    let (hours, minutes) = time.split_once(':').context("give the time as 10:08")?;
    let (hours, minutes): (u32, u32) = (hours.parse()?, minutes.parse()?);
    anyhow::ensure!(hours < 24 && minutes < 60, "there is no such time: {time}");
    let model = Model::from_bytes(builtin::MODEL, builtin::NAME, &OpenOptions::default())?;
    let faces = ModelGenerator::new(model.into_generator(1)?, None)?;
    panel.open(panel.hertz, Mounting::default(), At(faces, hours, minutes, panel))?
}
