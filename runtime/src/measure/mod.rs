//! How fast, how large, on what: measurements of a device.

mod board;
mod peak;
mod timing;

pub use board::{Board, Core, Root, State, Throttled};
pub use edgegen_kernels::{Cpu, Isa};
pub use peak::{Arithmetic, peak_gmacs, read_gbytes};
pub use timing::{Timings, time_runs};

use crate::model::stock;
use crate::{Error, Result};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Most threads that can be asked for.
const MOST_THREADS: usize = 256;

/// What [`set_threads`] has set.
static THREADS: AtomicUsize = AtomicUsize::new(1);

/// The number of threads that networks run on.
pub(crate) fn threads() -> usize {
    THREADS.load(Ordering::Relaxed)
}

/// Sets the number of threads that generators and encoders made from now on run on. It is 1 until this is called.
///
/// # Errors
/// If `count` is 0 or more than 256.
pub fn set_threads(count: usize) -> Result<()> {
    if !(1..=MOST_THREADS).contains(&count) {
        return Err(Error::invalid(format_args!("{count} threads: give 1 to {MOST_THREADS}")));
    }
    stock::set_threads(count);
    THREADS.store(count, Ordering::Relaxed);
    Ok(())
}

/// The variable that forces a family of kernels.
const FORCED: &str = "EDGEGEN_ISA";

/// The kernels that networks of this process run on: the best that this CPU has, or those that `EDGEGEN_ISA` names.
///
/// # Errors
/// If the variable names a family that this CPU lacks, or none.
pub fn cpu() -> Result<Cpu> {
    let Some(name) = std::env::var_os(FORCED).filter(|name| !name.is_empty()) else {
        return Ok(Cpu::detect());
    };
    let name = name.to_string_lossy();
    let isa: Isa =
        name.parse().map_err(|error| Error::invalid(format_args!("{FORCED} is {name:?}: {error}")))?;
    Cpu::with(isa).ok_or_else(|| {
        let best = Cpu::detect().isa();
        Error::invalid(format_args!("{FORCED} is {isa}, which this CPU lacks: its best is {best}"))
    })
}

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

    #[test]
    fn thread_counts_are_bounded() {
        assert!(set_threads(0).is_err() && set_threads(MOST_THREADS + 1).is_err());
        assert!(set_threads(2).is_ok() && set_threads(1).is_ok());
    }
}
