//! The loop in front of a panel allocates nothing, once it has shown every kind of picture.
#![allow(unsafe_code)] // a global allocator

use std::alloc::{GlobalAlloc, Layout, System};
use std::convert::Infallible;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use edgegen_firmware_sim::generator::Opening;
use edgegen_firmware_sim::live::{self, Ended, Host, News, Open, Player, Settings, Show, Time};
use edgegen_firmware_sim::panel::{Clock, Device, DeviceError};
use embedded_graphics::pixelcolor::Rgb565;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::Rectangle;

/// Counts.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is the system allocator's
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A panel that takes pixels and keeps none.
struct Sink(u64);

impl OriginDimensions for Sink {
    fn size(&self) -> Size {
        Size::new(240, 240)
    }
}

impl DrawTarget for Sink {
    type Color = Rgb565;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb565>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        self.0 += pixels.into_iter().map(|Pixel(_, color)| u64::from(color.into_storage())).sum::<u64>();
        Ok(())
    }

    fn fill_contiguous<I: IntoIterator<Item = Rgb565>>(
        &mut self,
        area: &Rectangle,
        colors: I,
    ) -> Result<(), Infallible> {
        let pixels = (area.size.width * area.size.height) as usize;
        self.0 += colors.into_iter().take(pixels).map(|color| u64::from(color.into_storage())).sum::<u64>();
        Ok(())
    }
}

impl Device for Sink {
    type Target = Self;

    fn target(&mut self) -> &mut Self {
        self
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }
}

struct Bench;

impl<H: Host> Open<H> for Bench {
    fn open(&self, player: &mut Player<'_, '_, H>) -> anyhow::Result<Ended> {
        player.draw_on(Sink(0))
    }
}

/// Counts what is allocated from one picture to another.
struct Counter {
    pictures: u64,
    from: u64,
    until: u64,
    before: u64,
    allocated: u64,
}

impl Host for Counter {
    fn goes_on(&mut self) -> bool {
        self.pictures < self.until
    }

    fn shown(&mut self, _: &News<'_>) {
        self.pictures += 1;
        let now = ALLOCATIONS.load(Ordering::Relaxed);
        if self.pictures == self.from {
            self.before = now;
        }
        self.allocated = now - self.before;
    }

    fn failed(&mut self, error: &anyhow::Error) {
        panic!("{error:#}");
    }
}

#[test]
fn the_loop_allocates_nothing() {
    for (model, show) in [
        ("smileys64-gan", Show::Pictures),
        ("smileys64-gan", Show::Walk),
        ("smileys64-gan", Show::Gallery),
        ("smileys64-gan", Show::Drift),
        ("mnist-gan", Show::Drift),
        ("mnist-vae2", Show::Walk),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models").join(model);
        let opening = Opening {
            model: &path,
            part: None,
            precision: None,
            options: Default::default(),
            class: None,
            pictures: None,
            explore: false,
            room: Size::new(240, 240),
        };
        let source = opening.open().unwrap().0;
        let settings = Settings {
            show,
            seed: 0,
            step: Duration::from_millis(100),
            steps: 10,
            pause: Duration::from_secs(10),
            scaling: None,
            dither: None,
            caption: true,
            round: false,
            renew: None,
        };
        let clock = Clock::default();
        let mut counter = Counter { pictures: 0, from: 40, until: 300, before: 0, allocated: 0 };
        live::play(source, &Bench, &settings, &clock, &mut counter).unwrap();
        assert!(Time::now(&clock) > Duration::from_millis(100));
        assert_eq!(counter.allocated, 0, "{model}, {show:?}: allocations for 260 pictures");
    }
}
