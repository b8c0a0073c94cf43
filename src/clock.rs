//! Time, as an argument: one of the three seams behind which the simulation stands.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use crate::policy::time::Timestamp;

/// Tells the time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The time now. Never goes backwards in one process.
    fn now(&self) -> Timestamp;

    /// The time at a moment of a little while ago, for who has read the system's clock already.
    fn at(&self, _moment: Instant) -> Timestamp {
        self.now()
    }
}

/// The system's clock, read once and then carried on by the monotonic one: an operator who sets the
/// clock, or a leap, neither ages nor rejuvenates an entry.
#[derive(Debug)]
pub struct SystemClock {
    wall: Timestamp,
    began: Instant,
}

impl SystemClock {
    /// Reads the clock.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn new() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            wall: Timestamp::from_millis(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)),
            began: Instant::now(),
        }
    }
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

    fn at(&self, moment: Instant) -> Timestamp {
        self.wall + moment.saturating_duration_since(self.began)
    }
}

/// A clock that is set by hand, for tests.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// Starts at a time.
    pub fn at(now: Timestamp) -> Self {
        Self(AtomicU64::new(now.as_millis()))
    }

    /// Moves on.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}
