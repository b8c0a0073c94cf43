//! What stands in the place of `src/sync.rs`: each use is a moment at which another thread may go on.

pub(crate) use std::sync::PoisonError;

pub(crate) use shuttle::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic};
use tokio::sync::futures::Notified;

/// Tokio's, whose uses are single steps.
#[derive(Debug)]
pub(crate) struct Notify {
    calls: tokio::sync::Notify,
    steps: atomic::AtomicUsize,
}

impl Notify {
    pub(crate) fn new() -> Self {
        Self { calls: tokio::sync::Notify::new(), steps: atomic::AtomicUsize::new(0) }
    }

    pub(crate) fn notified(&self) -> Notified<'_> {
        self.step();
        self.calls.notified()
    }

    pub(crate) fn notify_waiters(&self) {
        self.step();
        self.calls.notify_waiters();
    }

    fn step(&self) {
        self.steps.fetch_add(1, atomic::Ordering::Relaxed);
    }
}
