//! Reports for TensorBoard: `events.out.tfevents.SECONDS.edgegen` in the run folder.
//!
//! The file is a sequence of records (TFRecord: length as u64, its CRC, the message, its CRC; little-endian, CRC-32C masked
//! as TensorFlow's `lib/hash/crc32c.h` does), each an `Event` of TensorFlow's `core/util/event.proto`. Each process that
//! trains a run begins a file of its own, whose first event tells TensorBoard to forget what lies after its step.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use prost::{Message, Oneof};

use super::learner::Shown;
use super::metrics::Report;
use crate::{Error, Result};

/// `Event`, the fields that are written.
#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(oneof = "What", tags = "3, 5, 7")]
    what: Option<What>,
}

#[derive(Clone, PartialEq, Oneof)]
enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
    #[prost(message, tag = "7")]
    SessionLog(SessionLog),
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(oneof = "Shape", tags = "2, 4")]
    shape: Option<Shape>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Shape {
    #[prost(float, tag = "2")]
    SimpleValue(f32),
    #[prost(message, tag = "4")]
    Image(Image),
}

#[derive(Clone, PartialEq, Message)]
struct Image {
    #[prost(int32, tag = "1")]
    height: i32,
    #[prost(int32, tag = "2")]
    width: i32,
    #[prost(int32, tag = "3")]
    colorspace: i32,
    #[prost(bytes = "vec", tag = "4")]
    encoded_image_string: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// `SessionLog.START`: events of later steps in earlier files no longer count.
const START: i32 = 1;
/// `Image.colorspace` of RGB.
const RGB: i32 = 3;

/// An event file under way.
pub(super) struct EventFile {
    file: File,
    path: PathBuf,
}

impl EventFile {
    /// Begins a file in the folder `root` for a run that has done `step` steps.
    pub(super) fn create(root: &Path, step: u64) -> Result<Self> {
        let seconds = now() as u64;
        // two processes within a second must not share a file
        let create = |number: u32| {
            let path = root.join(format!("events.out.tfevents.{}.edgegen", seconds + u64::from(number)));
            let opened = OpenOptions::new().write(true).create_new(true).open(&path);
            (path, opened)
        };
        let (path, opened) = (0..60)
            .map(create)
            .find(|(_, opened)| {
                opened.as_ref().err().is_none_or(|e| e.kind() != std::io::ErrorKind::AlreadyExists)
            })
            .unwrap_or_else(|| create(60));
        let file = opened.map_err(|e| Error::io("write", &path, e))?;
        let mut events = Self { file, path };
        events.write(0, What::FileVersion("brain.Event:2".into()))?;
        events.write(step, What::SessionLog(SessionLog { status: START }))?;
        Ok(events)
    }

    /// Adds a report's figures, and the PNG files that it wrote.
    pub(super) fn add(&mut self, report: &Report, pictures: &[Shown]) -> Result<()> {
        let figures = |prefix: &'static str, figures: &super::metrics::Figures| {
            let value = move |(name, value): (&String, &f64)| Value {
                tag: format!("{prefix}/{name}"),
                shape: Some(Shape::SimpleValue(*value as f32)),
            };
            figures.iter().map(value).collect::<Vec<_>>()
        };
        let mut value = figures("train", &report.train);
        value.extend(figures("validation", &report.validation));
        let rate = Some(Shape::SimpleValue(report.learning_rate as f32));
        value.push(Value { tag: "learning_rate".into(), shape: rate });
        for (title, path) in pictures {
            let encoded = std::fs::read(path).map_err(|e| Error::io("read", path, e))?;
            let (width, height) = image::image_dimensions(path).unwrap_or_default();
            let image = Image {
                height: height as i32,
                width: width as i32,
                colorspace: RGB,
                encoded_image_string: encoded,
            };
            value.push(Value { tag: (*title).into(), shape: Some(Shape::Image(image)) });
        }
        self.write(report.step, What::Summary(Summary { value }))
    }

    fn write(&mut self, step: u64, what: What) -> Result<()> {
        let event = Event { wall_time: now(), step: step as i64, what: Some(what) };
        let record = record(&event.encode_to_vec());
        self.file.write_all(&record).map_err(|e| Error::io("write", &self.path, e))
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// A message as a TFRecord.
fn record(message: &[u8]) -> Vec<u8> {
    let masked =
        |bytes: &[u8]| crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes();
    let length = (message.len() as u64).to_le_bytes();
    [&length[..], &masked(&length), message, &masked(message)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Printed by TensorFlow's own writer, as Python's `tensorboard` 2.21 ships it:
    /// `RecordWriter(f).write(Event(wall_time=1.5, step=7, summary=Summary(value=[Summary.Value(tag="train/elbo",
    /// simple_value=-3.25)])).SerializeToString())`, in hexadecimal.
    const WRITTEN: &str =
        "200000000000000029eda95009000000000000f83f10072a130a110a0a747261696e2f656c626f15000050c026701d3b";

    #[test]
    fn records_are_tensorflows() {
        let value = Value { tag: "train/elbo".into(), shape: Some(Shape::SimpleValue(-3.25)) };
        let what = Some(What::Summary(Summary { value: vec![value] }));
        let event = Event { wall_time: 1.5, step: 7, what };
        let written: String =
            record(&event.encode_to_vec()).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(written, WRITTEN);
    }
}
