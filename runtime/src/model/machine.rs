//! What networks run on.

use crate::{Error, Result};
use edgegen_kernels::Cpu;

/// Most threads that can be asked for.
const MOST_THREADS: usize = 256;

/// The kernels and the threads that a network runs on: a value of whoever opens it. The default is the best that this CPU
/// has, on one thread.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    cpu: Cpu,
    threads: usize,
}

impl Machine {
    /// A family of kernels, and how many threads share large layers.
    ///
    /// # Errors
    /// If `threads` is 0 or more than 256.
    pub fn new(cpu: Cpu, threads: usize) -> Result<Self> {
        if !(1..=MOST_THREADS).contains(&threads) {
            return Err(Error::invalid(format_args!("{threads} threads: give 1 to {MOST_THREADS}")));
        }
        Ok(Self { cpu, threads })
    }

    /// The family of kernels.
    pub fn cpu(&self) -> Cpu {
        self.cpu
    }

    /// Threads that share large layers.
    pub fn threads(&self) -> usize {
        self.threads
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self { cpu: Cpu::detect(), threads: 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thread_counts_are_bounded() {
        let of = |threads| Machine::new(Cpu::detect(), threads);
        assert!(of(0).is_err() && of(MOST_THREADS + 1).is_err());
        assert_eq!(of(2).unwrap().threads(), 2);
    }
}
