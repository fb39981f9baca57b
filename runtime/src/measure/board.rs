//! What a board is and how it fares: model, cores, clocks, temperature, throttling. Everything is read below a root folder, so
//! that tests can show captured trees; what a system does not tell is `None`, never guessed.

use serde::Serialize;
use std::path::{Path, PathBuf};

/// Where a system's files are read.
#[derive(Clone, Debug)]
pub struct Root(PathBuf);

impl Default for Root {
    fn default() -> Self {
        Self("/".into())
    }
}

impl Root {
    /// The tree below a folder.
    pub fn at(path: &Path) -> Self {
        Self(path.to_path_buf())
    }

    /// Whether this is the running system, whose programs may be asked as well.
    pub fn is_live(&self) -> bool {
        self.0 == Path::new("/")
    }

    /// The place of an absolute path below this root.
    pub fn path(&self, absolute: &str) -> PathBuf {
        self.0.join(absolute.trim_start_matches('/'))
    }

    /// A file's text without what surrounds it; device-tree strings end with a zero.
    pub(super) fn text(&self, absolute: &str) -> Option<String> {
        let bytes = std::fs::read(self.path(absolute)).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
        (!text.is_empty()).then(|| text.to_string())
    }

    fn number(&self, absolute: &str) -> Option<u64> {
        self.text(absolute)?.parse().ok()
    }
}

/// A core.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Core {
    /// Its number.
    pub number: usize,
    /// Its design: `Cortex-A76`, or what the system calls it.
    pub design: Option<String>,
    /// The highest clock that it may have, kHz.
    pub max_khz: Option<u64>,
    /// What decides its clock.
    pub governor: Option<String>,
}

/// What does not change while a program runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Board {
    /// `Raspberry Pi 5 Model B Rev 1.0`.
    pub model: Option<String>,
    /// Raspberry Pi's revision code, hexadecimal.
    pub revision: Option<String>,
    /// The kernel's version.
    pub system: Option<String>,
    /// Its cores.
    pub cores: Vec<Core>,
    /// All memory, KiB.
    pub memory_kib: Option<u64>,
    /// Cores that this process may run on, as the kernel lists them.
    pub allowed: Option<String>,
}

/// What changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct State {
    /// The clock of each core, kHz.
    pub khz: Vec<Option<u64>>,
    /// Of the processor, °C.
    pub celsius: Option<f64>,
    /// Raspberry Pi's throttling flags.
    pub throttled: Option<Throttled>,
    /// Memory that programs could still take, KiB.
    pub available_kib: Option<u64>,
    /// What the processor's package has used since some time, µJ.
    pub energy_uj: Option<u64>,
}

/// Raspberry Pi's flags of `vcgencmd get_throttled`: bits 0 to 3 say what is, 16 to 19 what has been since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttled(pub u32);

impl Throttled {
    const NAMES: [(u32, &'static str); 8] = [
        (0, "under-voltage"),
        (1, "clock capped"),
        (2, "throttled"),
        (3, "soft temperature limit"),
        (16, "under-voltage since start"),
        (17, "clock capped since start"),
        (18, "throttled since start"),
        (19, "soft temperature limit since start"),
    ];

    /// What is set.
    pub fn names(self) -> Vec<&'static str> {
        Self::NAMES.iter().filter(|(bit, _)| self.0 >> bit & 1 == 1).map(|(_, name)| *name).collect()
    }

    /// Whether the voltage is, or has been, too low.
    pub fn under_voltage(self) -> bool {
        self.0 & 0x1_0001 != 0
    }

    /// Whether the clock is held down now.
    pub fn now(self) -> bool {
        self.0 & 0xf != 0
    }

    fn parse(text: &str) -> Option<Self> {
        let digits = text.trim().trim_start_matches("throttled=").trim_start_matches("0x");
        u32::from_str_radix(digits, 16).ok().map(Self)
    }
}

impl Serialize for Throttled {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{:#x}", self.0))
    }
}

/// A field of `/proc/cpuinfo`, one for each core that has it.
fn fields<'a>(cpuinfo: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    cpuinfo.lines().filter_map(move |line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

/// A field of `/proc/meminfo`, KiB.
fn memory(meminfo: &str, name: &str) -> Option<u64> {
    fields(meminfo, name).next()?.trim_end_matches("kB").trim().parse().ok()
}

/// Arm's designs by implementer and part, of the MIDR register.
fn arm_design(implementer: &str, part: &str) -> Option<&'static str> {
    let number = |text: &str| u32::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    match (number(implementer)?, number(part)?) {
        (0x41, 0xd03) => Some("Cortex-A53"),
        (0x41, 0xd04) => Some("Cortex-A35"),
        (0x41, 0xd05) => Some("Cortex-A55"),
        (0x41, 0xd07) => Some("Cortex-A57"),
        (0x41, 0xd08) => Some("Cortex-A72"),
        (0x41, 0xd0b) => Some("Cortex-A76"),
        (0x41, 0xc07) => Some("Cortex-A7"),
        (0x41, 0xb76) => Some("ARM1176"),
        _ => None,
    }
}

impl Board {
    /// Reads what there is.
    pub fn read(root: &Root) -> Self {
        let cpuinfo = root.text("/proc/cpuinfo").unwrap_or_default();
        let implementers: Vec<&str> = fields(&cpuinfo, "CPU implementer").collect();
        let parts: Vec<&str> = fields(&cpuinfo, "CPU part").collect();
        let names: Vec<&str> = fields(&cpuinfo, "model name").collect();
        let cores = fields(&cpuinfo, "processor").enumerate().map(|(index, number)| {
            let number = number.parse().unwrap_or(index);
            let design = implementers.get(index).zip(parts.get(index));
            let design = design.map(|(implementer, part)| {
                arm_design(implementer, part)
                    .map_or_else(|| format!("implementer {implementer}, part {part}"), ToString::to_string)
            });
            let clock = format!("/sys/devices/system/cpu/cpu{number}/cpufreq");
            Core {
                number,
                design: design.or_else(|| names.get(index).map(ToString::to_string)),
                max_khz: root.number(&format!("{clock}/cpuinfo_max_freq")),
                governor: root.text(&format!("{clock}/scaling_governor")),
            }
        });
        let status = root.text("/proc/self/status").unwrap_or_default();
        Self {
            model: root
                .text("/proc/device-tree/model")
                .or_else(|| root.text("/sys/firmware/devicetree/base/model"))
                .or_else(|| fields(&cpuinfo, "Model").next().map(ToString::to_string)),
            revision: fields(&cpuinfo, "Revision").next().map(ToString::to_string),
            system: root.text("/proc/sys/kernel/osrelease"),
            cores: cores.collect(),
            memory_kib: memory(&root.text("/proc/meminfo").unwrap_or_default(), "MemTotal"),
            allowed: fields(&status, "Cpus_allowed_list").next().map(ToString::to_string),
        }
    }
}

impl State {
    /// Reads what there is.
    pub fn read(root: &Root, board: &Board) -> Self {
        let khz = |core: &Core| {
            let clock = format!("/sys/devices/system/cpu/cpu{}/cpufreq", core.number);
            root.number(&format!("{clock}/scaling_cur_freq"))
                .or_else(|| root.number(&format!("{clock}/cpuinfo_cur_freq")))
        };
        let milli = root.number("/sys/class/thermal/thermal_zone0/temp");
        Self {
            khz: board.cores.iter().map(khz).collect(),
            celsius: milli.map(|milli| milli as f64 / 1000.0),
            throttled: root
                .text("/sys/devices/platform/soc/soc:firmware/get_throttled")
                .and_then(|text| Throttled::parse(&text))
                .or_else(|| asked(root)),
            available_kib: memory(&root.text("/proc/meminfo").unwrap_or_default(), "MemAvailable"),
            energy_uj: root.number("/sys/class/powercap/intel-rapl:0/energy_uj"),
        }
    }
}

/// What `vcgencmd` says, on a running Raspberry Pi.
fn asked(root: &Root) -> Option<Throttled> {
    let answer =
        root.is_live().then(|| std::process::Command::new("vcgencmd").arg("get_throttled").output())?;
    Throttled::parse(std::str::from_utf8(&answer.ok()?.stdout).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let root = Root::at(folder.path());
        (folder, root)
    }

    /// Made up after the kernel's and the boards' documentation, not captured on them.
    #[test]
    fn boards_are_read_from_their_files() {
        for (model, revision, part, design, memory, clock) in [
            ("Raspberry Pi Zero 2 W Rev 1.0", "902120", "0xd03", "Cortex-A53", 437_520, 1_000_000),
            ("Raspberry Pi 3 Model B Plus Rev 1.3", "a020d3", "0xd03", "Cortex-A53", 948_304, 1_400_000),
            ("Raspberry Pi 4 Model B Rev 1.4", "c03114", "0xd08", "Cortex-A72", 3_884_332, 1_800_000),
            ("Raspberry Pi 5 Model B Rev 1.0", "c04170", "0xd0b", "Cortex-A76", 4_140_208, 2_400_000),
        ] {
            let core = |core| format!("processor\t: {core}\nCPU implementer\t: 0x41\nCPU part\t: {part}\n\n");
            let cpuinfo: String = (0..4)
                .map(core)
                .chain([format!("Revision\t: {revision}\nSerial\t\t: 0\nModel\t\t: {model}\n")])
                .collect();
            let (_folder, root) = tree(&[
                ("proc/cpuinfo", &cpuinfo),
                ("proc/device-tree/model", &format!("{model}\0")),
                ("proc/meminfo", &format!("MemTotal:        {memory} kB\nMemAvailable:    311234 kB\n")),
                ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "ondemand\n"),
                ("sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", &format!("{clock}\n")),
                ("sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "600000\n"),
                ("sys/class/thermal/thermal_zone0/temp", "48850\n"),
                ("sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n"),
            ]);
            let board = Board::read(&root);
            assert_eq!(board.model.as_deref(), Some(model));
            assert_eq!((board.revision.as_deref(), board.memory_kib), (Some(revision), Some(memory)));
            assert_eq!(board.cores.len(), 4);
            assert!(board.cores.iter().all(|core| core.design.as_deref() == Some(design)));
            assert_eq!(board.cores[0].governor.as_deref(), Some("ondemand"));
            assert_eq!((board.cores[0].max_khz, board.cores[1].max_khz), (Some(clock), None));
            let state = State::read(&root, &board);
            assert_eq!((state.khz[0], state.khz[1]), (Some(600_000), None));
            assert_eq!(state.celsius, Some(48.85));
            let throttled = state.throttled.unwrap();
            assert!(throttled.under_voltage() && throttled.now());
            let names = ["under-voltage", "throttled", "under-voltage since start", "throttled since start"];
            assert_eq!(throttled.names(), names);
            assert_eq!(state.energy_uj, None);
        }
    }

    #[test]
    fn what_is_missing_is_none() {
        let (_folder, root) = tree(&[]);
        let board = Board::read(&root);
        assert_eq!(board, Board::default());
        assert_eq!(State::read(&root, &board), State::default());
    }

    #[test]
    fn flags_are_read_in_both_spellings() {
        assert_eq!(Throttled::parse("throttled=0x50000\n"), Some(Throttled(0x50000)));
        assert_eq!(Throttled::parse("0"), Some(Throttled(0)));
        assert_eq!(Throttled::parse("what?"), None);
    }
}
