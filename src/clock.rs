//! Time, as an argument: one of the three seams behind which the simulation stands.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use crate::policy::time::Timestamp;

/// Tells the time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The time now. Never goes backwards in one process.
    fn now(&self) -> Timestamp;

    /// The time as the machine's clock is set now, to compare with what others say by theirs. It may go backwards.
    fn wall(&self) -> Timestamp {
        self.now()
    }

    /// The time at a moment of a little while ago, for who has read the system's clock already.
    fn at(&self, _moment: Instant) -> Timestamp {
        self.now()
    }
}

/// The system's clock, read once and then carried on by the monotonic one: an operator who sets the
/// clock, or a leap, neither ages nor rejuvenates an entry. The monotonic one stands still while the machine sleeps.
#[derive(Debug)]
pub struct SystemClock {
    wall: Timestamp,
    began: Instant,
}

impl SystemClock {
    /// Reads the clock.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn new() -> Self {
        Self { wall: wall(), began: Instant::now() }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the clock")]
fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(millis(since))
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        self.wall + self.began.elapsed()
    }

    fn wall(&self) -> Timestamp {
        wall()
    }

    fn at(&self, moment: Instant) -> Timestamp {
        self.wall + moment.saturating_duration_since(self.began)
    }
}

/// A clock that is set by hand, for tests.
#[derive(Debug, Default)]
pub struct ManualClock {
    now: AtomicU64,
    /// What the clock on the wall is ahead.
    slept: AtomicU64,
}

impl ManualClock {
    /// Starts at a time.
    pub fn at(now: Timestamp) -> Self {
        Self { now: AtomicU64::new(now.as_millis()), slept: AtomicU64::new(0) }
    }

    /// Moves on.
    pub fn advance(&self, by: Duration) {
        self.now.fetch_add(millis(by), Ordering::SeqCst);
    }

    /// The machine sleeps: the clock on its wall alone moves on.
    pub fn sleep(&self, by: Duration) {
        self.slept.fetch_add(millis(by), Ordering::SeqCst);
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now.load(Ordering::SeqCst))
    }

    fn wall(&self) -> Timestamp {
        self.now() + Duration::from_millis(self.slept.load(Ordering::SeqCst))
    }
}
