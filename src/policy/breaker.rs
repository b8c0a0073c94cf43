//! A circuit breaker as a state and two questions; the caller brings the time.

use std::time::Duration;

use super::time::Timestamp;

/// Opens after failures in a row, and lets one probe through when its time is over.
#[derive(Debug)]
pub struct Breaker {
    failures_max: u32,
    open_for: Duration,
    failures: u32,
    open_until: Option<Timestamp>,
}

impl Breaker {
    /// Closed. `failures_max` in a row open it for `open_for`.
    pub fn new(failures_max: u32, open_for: Duration) -> Self {
        Self { failures_max: failures_max.max(1), open_for, failures: 0, open_until: None }
    }

    /// Whether a call may be made now. When the open time is over, the first to ask is the probe; the
    /// others wait for its outcome, at most another open time.
    pub fn admits(&mut self, now: Timestamp) -> bool {
        match self.open_until {
            None => true,
            Some(until) if now < until => false,
            Some(_) => {
                self.open_until = Some(now + self.open_for);
                true
            }
        }
    }

    /// A call succeeded. Returns whether that closed the breaker.
    pub fn succeeded(&mut self) -> bool {
        self.failures = 0;
        self.open_until.take().is_some()
    }

    /// A call failed. Returns whether that opened the breaker.
    pub fn failed(&mut self, now: Timestamp) -> bool {
        self.failures = self.failures.saturating_add(1);
        if self.failures < self.failures_max {
            return false;
        }
        self.open_until.replace(now + self.open_for).is_none()
    }

    /// Whether calls are spared now.
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.open_until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_failures_in_a_row_and_probes_once_per_open_time() {
        let at = Timestamp::from_millis;
        let mut breaker = Breaker::new(2, Duration::from_secs(1));
        assert!(breaker.admits(at(0)) && !breaker.failed(at(0)));
        breaker.succeeded();
        assert!(!breaker.failed(at(0)) && breaker.failed(at(0)), "two in a row");
        assert!(!breaker.admits(at(999)) && breaker.is_open(at(999)));
        assert!(breaker.admits(at(1000)), "the probe");
        assert!(!breaker.admits(at(1001)), "no second one beside it");
        assert!(!breaker.failed(at(1500)), "it was open already");
        assert!(!breaker.admits(at(2400)) && breaker.admits(at(2500)));
        assert!(breaker.succeeded() && breaker.admits(at(2501)));
    }
}
