//! How fast, how large, on what: measurements of a device.

mod board;
mod peak;
mod timing;

pub use crate::lower::Arithmetic;
pub use board::{Board, Core, Root, State, Throttled};
pub use edgegen_kernels::{Cpu, Isa};
pub use peak::{peak_gmacs, read_gbytes};
pub use timing::{Timings, time_runs};

/// The most memory that this process has held so far, in KiB (`VmHWM` of `/proc/self/status`);
/// `None` where the system does not tell.
pub fn peak_rss_kib() -> Option<u64> {
    peak_of(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn peak_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_found_among_the_lines() {
        assert_eq!(peak_of("Name:\tedgegen\nVmHWM:\t   20480 kB\nVmRSS:\t 1 kB\n"), Some(20480));
        assert_eq!(peak_of("Name:\tedgegen\n"), None);
        assert_eq!(peak_of("VmHWM: many kB"), None);
    }
}
