//! Threads that share one layer after the other: they wait awake for a moment, since the next layer comes in microseconds,
//! and sleep when it does not.

use core::cell::UnsafeCell;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::vec::Vec;

/// Looks at the counter before a worker sleeps: some tens of microseconds.
const PATIENCE: usize = 20_000;

type Job = dyn Fn(usize) + Sync;

struct Shared {
    /// Counts jobs: a worker has work when it has changed.
    epoch: AtomicUsize,
    /// Written by the owner while no worker is at work.
    job: UnsafeCell<Option<*const Job>>,
    /// Workers that are not done.
    left: AtomicUsize,
    stop: AtomicBool,
    failed: AtomicBool,
}

// SAFETY: `job` is written by the owner alone, before `epoch` is raised and after `left` has fallen to 0; workers read it
// in between. The job itself is Sync.
unsafe impl Sync for Shared {}
// SAFETY: as above
unsafe impl Send for Shared {}

/// Some threads, of which the caller's is one.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

impl Pool {
    /// Starts `threads` − 1 workers.
    ///
    /// # Errors
    /// If the system starts no thread.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            epoch: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            left: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        });
        let mut pool = Self { shared, workers: Vec::new() };
        for index in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let builder = thread::Builder::new().name(std::format!("kernels-{index}"));
            pool.workers.push(builder.spawn(move || work(&shared, index))?);
        }
        Ok(pool)
    }

    /// How many parts a job is shared in.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `job` with every number below [`Self::threads`], each on a thread of its own, and returns when all are done.
    ///
    /// # Panics
    /// If one of them does.
    pub fn run(&mut self, job: &(dyn Fn(usize) + Sync)) {
        // SAFETY: only the lifetime changes, and workers are done with the job before this function returns
        let erased: *const Job =
            unsafe { core::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const Job>(job) };
        // SAFETY: no worker is at work: `run` takes the pool for itself and waits for all
        unsafe { *self.shared.job.get() = Some(erased) };
        self.shared.left.store(self.workers.len(), Ordering::Relaxed);
        self.shared.epoch.fetch_add(1, Ordering::Release);
        self.workers.iter().for_each(|worker| worker.thread().unpark());
        let own = catch_unwind(AssertUnwindSafe(|| job(0)));
        let mut looks = 0usize;
        while self.shared.left.load(Ordering::Acquire) > 0 {
            looks += 1;
            // more threads than cores: let them run
            if looks.is_multiple_of(1000) { thread::yield_now() } else { spin_loop() }
        }
        if let Err(panic) = own {
            std::panic::resume_unwind(panic);
        }
        assert!(!self.shared.failed.swap(false, Ordering::Relaxed), "a thread of the pool has failed");
    }
}

fn work(shared: &Shared, index: usize) {
    let mut seen = 0;
    loop {
        let mut looks = 0;
        while shared.epoch.load(Ordering::Acquire) == seen {
            if shared.stop.load(Ordering::Relaxed) {
                return;
            }
            looks += 1;
            if looks < PATIENCE { spin_loop() } else { thread::park() }
        }
        seen = seen.wrapping_add(1);
        // SAFETY: the owner has written the job before it raised the counter, and waits until this worker is done
        let job = unsafe { (*shared.job.get()).map(|job| &*job) };
        if let Some(job) = job
            && catch_unwind(AssertUnwindSafe(|| job(index))).is_err()
        {
            shared.failed.store(true, Ordering::Relaxed);
        }
        shared.left.fetch_sub(1, Ordering::Release);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // a worker does not panic: its jobs' panics are caught
            drop(worker.join());
        }
    }
}

impl core::fmt::Debug for Pool {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish()
    }
}

/// A pointer that several threads write through, each to its own part.
pub(crate) struct Shares<T>(pub(crate) *mut [T]);

// SAFETY: whoever makes one vouches that threads write to different parts
unsafe impl<T: Send> Sync for Shares<T> {}

impl<T> Shares<T> {
    /// All of it.
    pub(crate) fn whole(&self) -> *mut [T] {
        self.0
    }

    /// Part `part` of pieces of `length`.
    ///
    /// # Safety
    /// Every part is asked for once at a time, and lies inside.
    #[allow(clippy::mut_from_ref, reason = "parts do not overlap")]
    pub(crate) unsafe fn part(&self, part: usize, length: usize) -> &mut [T] {
        // SAFETY: the caller vouches for it
        unsafe { core::slice::from_raw_parts_mut(self.0.cast::<T>().add(part * length), length) }
    }
}
