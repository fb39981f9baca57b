//! The two tasks' link: full frames one way, empty ones back, button presses alongside.
//!
//! All three are single-producer, single-consumer queues without locks. A frame owns the right to
//! write its buffer, so handing over a few words hands over the pixels.

use core::fmt;

use heapless::spsc::{Consumer, Producer, Queue};

use crate::generator::{PictureShape, Request};
use crate::states::{Button, View, Work};

/// Presses that may wait for the generator task; queues hold one less than their slots.
const BUTTON_SLOTS: usize = 8;

/// A picture on its way to the panel.
#[derive(Debug)]
pub struct Frame<'buffer> {
    pub(crate) buffer: &'buffer mut [u8],
    pub(crate) shape: PictureShape,
    pub(crate) work: Work,
}

impl Frame<'_> {
    /// NHWC u8; empty for [`View::Blank`].
    pub fn pixels(&self) -> &[u8] {
        match self.work.view {
            View::Blank => &[],
            View::Whole | View::Tile { .. } => &self.buffer[..self.shape.bytes()],
        }
    }

    /// Size of the picture.
    pub fn shape(&self) -> PictureShape {
        self.shape
    }

    /// What the picture was made for.
    pub fn request(&self) -> Request {
        self.work.request
    }

    /// Where it goes.
    pub fn view(&self) -> View {
        self.work.view
    }
}

/// Why a link cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkError {
    /// There is no frame buffer at all.
    NoBuffer,
    /// More buffers than the queues can hold.
    TooManyBuffers {
        /// How many they hold.
        room: usize,
    },
    /// A buffer is smaller than a picture.
    BufferTooSmall {
        /// Bytes of a picture.
        needed: usize,
        /// Bytes of the smallest buffer.
        bytes: usize,
    },
}

impl fmt::Display for LinkError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBuffer => write!(out, "the link has no frame buffer; give it at least one"),
            Self::TooManyBuffers { room } => {
                write!(out, "the link has room for {room} frame buffers, no more")
            }
            Self::BufferTooSmall { needed, bytes } => {
                write!(out, "a picture needs {needed} bytes, but a frame buffer has {bytes}")
            }
        }
    }
}

impl core::error::Error for LinkError {}

/// The queues' memory. It holds up to `SLOTS - 1` frames; `SLOTS` must be at least 2.
pub struct Link<'buffer, const SLOTS: usize> {
    full: Queue<Frame<'buffer>, SLOTS>,
    empty: Queue<&'buffer mut [u8], SLOTS>,
    buttons: Queue<Button, BUTTON_SLOTS>,
}

impl<'buffer, const SLOTS: usize> Link<'buffer, SLOTS> {
    /// An empty link.
    pub const fn new() -> Self {
        Self { full: Queue::new(), empty: Queue::new(), buttons: Queue::new() }
    }

    /// Puts the frame buffers in and hands out the two ends. With two buffers the generator works
    /// on one picture while the display shows the other; a third evens out their pace.
    pub fn split<'link>(
        &'link mut self,
        buffers: impl IntoIterator<Item = &'buffer mut [u8]>,
    ) -> Result<(GeneratorEnd<'link, 'buffer>, DisplayEnd<'link, 'buffer>), LinkError> {
        let (full_in, full_out) = self.full.split();
        let (mut empty_in, empty_out) = self.empty.split();
        let (buttons_in, buttons_out) = self.buttons.split();
        let mut smallest_buffer = usize::MAX;
        for buffer in buffers {
            smallest_buffer = smallest_buffer.min(buffer.len());
            empty_in.enqueue(buffer).map_err(|_| LinkError::TooManyBuffers { room: SLOTS - 1 })?;
        }
        if smallest_buffer == usize::MAX {
            return Err(LinkError::NoBuffer);
        }
        Ok((
            GeneratorEnd {
                full: full_in,
                empty: empty_out,
                spare: None,
                buttons: buttons_out,
                smallest_buffer,
            },
            DisplayEnd { full: full_out, empty: empty_in, buttons: buttons_in },
        ))
    }
}

impl<const SLOTS: usize> Default for Link<'_, SLOTS> {
    fn default() -> Self {
        Self::new()
    }
}

/// The generator task's end.
pub struct GeneratorEnd<'link, 'buffer> {
    full: Producer<'link, Frame<'buffer>>,
    empty: Consumer<'link, &'buffer mut [u8]>,
    /// A buffer that was taken but not sent, because making its picture failed.
    spare: Option<&'buffer mut [u8]>,
    buttons: Consumer<'link, Button>,
    smallest_buffer: usize,
}

impl<'buffer> GeneratorEnd<'_, 'buffer> {
    pub(crate) fn check_fits(&self, shape: PictureShape) -> Result<(), LinkError> {
        let (needed, bytes) = (shape.bytes(), self.smallest_buffer);
        if bytes < needed { Err(LinkError::BufferTooSmall { needed, bytes }) } else { Ok(()) }
    }

    pub(crate) fn take_buffer(&mut self) -> Option<&'buffer mut [u8]> {
        self.spare.take().or_else(|| self.empty.dequeue())
    }

    pub(crate) fn put_back(&mut self, buffer: &'buffer mut [u8]) {
        self.spare = Some(buffer);
    }

    /// There are never more frames than buffers, and the queue has room for all of them; should it
    /// be full all the same, the buffer is kept and the frame is not sent.
    pub(crate) fn send(&mut self, frame: Frame<'buffer>) -> bool {
        match self.full.enqueue(frame) {
            Ok(()) => true,
            Err(frame) => {
                self.spare = Some(frame.buffer);
                false
            }
        }
    }

    pub(crate) fn next_press(&mut self) -> Option<Button> {
        self.buttons.dequeue()
    }
}

/// The display task's end.
pub struct DisplayEnd<'link, 'buffer> {
    full: Consumer<'link, Frame<'buffer>>,
    empty: Producer<'link, &'buffer mut [u8]>,
    buttons: Producer<'link, Button>,
}

impl<'buffer> DisplayEnd<'_, 'buffer> {
    /// The next picture to show, if one is waiting. Give it back with [`DisplayEnd::recycle`].
    pub fn receive(&mut self) -> Option<Frame<'buffer>> {
        self.full.dequeue()
    }

    /// Returns a shown frame's buffer. The queue has a slot for every buffer there is.
    pub fn recycle(&mut self, frame: Frame<'buffer>) {
        let _always_fits = self.empty.enqueue(frame.buffer);
    }

    /// Passes a press on to the generator task; gives it back when seven are waiting already.
    pub fn press(&mut self, button: Button) -> Result<(), Button> {
        self.buttons.enqueue(button)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_needs_buffers_and_says_how_many() {
        let mut link = Link::<3>::new();
        assert_eq!(link.split(core::iter::empty()).err(), Some(LinkError::NoBuffer));
        let mut buffers = [[0u8; 4]; 3];
        let mut link = Link::<3>::new();
        let too_many = link.split(buffers.iter_mut().map(|buffer| &mut buffer[..])).err();
        assert_eq!(too_many, Some(LinkError::TooManyBuffers { room: 2 }));
        let mut buffers = [[0u8; 4]; 2];
        let mut link = Link::<3>::new();
        let (end, _) = link.split(buffers.iter_mut().map(|buffer| &mut buffer[..])).unwrap();
        let shape = |side| PictureShape::new(1, side, side).unwrap();
        assert_eq!(end.check_fits(shape(2)), Ok(()));
        assert_eq!(end.check_fits(shape(3)), Err(LinkError::BufferTooSmall { needed: 9, bytes: 4 }));
    }

    #[test]
    fn presses_wait_in_order_and_an_eighth_comes_back() {
        let mut buffer = [0u8; 4];
        let mut link = Link::<2>::new();
        let (mut generator, mut display) = link.split([&mut buffer[..]]).unwrap();
        for _ in 0..6 {
            assert_eq!(display.press(Button::Next), Ok(()));
        }
        assert_eq!(display.press(Button::Hold), Ok(()));
        assert_eq!(display.press(Button::Back), Err(Button::Back));
        for _ in 0..6 {
            assert_eq!(generator.next_press(), Some(Button::Next));
        }
        assert_eq!(generator.next_press(), Some(Button::Hold));
        assert_eq!(generator.next_press(), None);
    }
}
