//! The model that draws, and its replacement while the program runs.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, ensure};
use edgegen_firmware::Generator;
use edgegen_firmware_sim::generator::{Opening, Source};
use edgegen_runtime::model::{ModelFolder, Precision};
use embedded_graphics::geometry::Size;

use crate::config::Config;

/// How often it is looked whether the model's files are still the same.
const LOOK: Duration = Duration::from_secs(2);

/// Opens the configured model for a panel of this size; returns it with a line about it.
pub(crate) fn open(config: &Config, room: Size, precision: Option<Precision>) -> Result<(Source, String)> {
    let opening = Opening {
        model: &config.model,
        part: None,
        precision,
        options: config.open.clone(),
        class: config.class.as_deref(),
        pictures: config.pictures.as_deref(),
        explore: config.explore,
        room,
    };
    Ok(opening.open()?)
}

/// Precisions of the model folder, and the one that is open.
pub(crate) fn precisions(config: &Config) -> Result<(Vec<String>, String)> {
    if !config.model.is_dir() {
        return Ok((Vec::new(), String::new()));
    }
    let manifest = ModelFolder::open(&config.model)?.manifest;
    let open = config.precision.unwrap_or(manifest.default_precision);
    Ok((manifest.precisions.iter().map(Precision::to_string).collect(), open.to_string()))
}

/// What tells that files have changed: lengths and times of the file, or of those in the folder.
type Seen = Vec<(std::ffi::OsString, u64, Option<SystemTime>)>;

fn look(path: &Path) -> Option<Seen> {
    let of = |path: &Path| {
        let metadata = path.metadata().ok()?;
        Some((path.file_name()?.to_os_string(), metadata.len(), metadata.modified().ok()))
    };
    if !path.is_dir() {
        return Some(vec![of(path)?]);
    }
    let mut seen: Seen = path.read_dir().ok()?.flatten().filter_map(|entry| of(&entry.path())).collect();
    seen.sort();
    Some(seen)
}

/// Notices that the model's files are others now.
pub(crate) struct Watch {
    /// Those that are open.
    opened: Option<Seen>,
    /// Those of the last look.
    last: Option<Seen>,
    looked: Instant,
}

impl Watch {
    /// Of the files as they are.
    pub(crate) fn new(config: &Config) -> Self {
        let seen = look(&config.model);
        Self { opened: seen.clone(), last: seen, looked: Instant::now() }
    }

    /// The new model, once its files have stayed the same from one look to the next. One that cannot be opened, or draws pictures of
    /// another size than `old`, is refused with a line, and the old one stays.
    pub(crate) fn replacement(&mut self, config: &Config, room: Size, old: &Source) -> Option<Source> {
        if self.looked.elapsed() < LOOK {
            return None;
        }
        self.looked = Instant::now();
        let seen = look(&config.model);
        let settled = seen == self.last;
        self.last.clone_from(&seen);
        // while it is being replaced it may be gone for a moment
        if seen.is_none() || !settled || seen == self.opened {
            return None;
        }
        self.opened = seen;
        let opened = open(config, room, config.precision).and_then(|(new, about)| {
            let (was, is) = (old.shape(), new.shape());
            ensure!(was == is, "{about}: pictures of another size than before; restart to show them");
            Ok((new, about))
        });
        match opened {
            Ok((new, about)) => {
                println!("model {about}, replaced");
                Some(new)
            }
            Err(error) => {
                eprintln!("the new model is refused and the old one goes on: {error:#}");
                None
            }
        }
    }
}
