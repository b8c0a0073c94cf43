//! How long a client may take over the body of its request.

use std::time::Duration;

use tokio::time::Instant;

/// Bytes a second that a request's body must bring, counted from the end of `body_timeout`: one byte now and then would
/// otherwise hold a connection to the origin for ever. A phone on a bad line brings some times as much.
const BODY_RATE_MIN: u64 = 1024;

/// A client's time for one body. What the origin takes to read it is not counted: time runs only while bytes are asked
/// for and none are there.
#[derive(Debug)]
pub(super) struct Pace {
    timeout: Duration,
    received: u64,
    /// Waited for the client, without the wait that goes on.
    waited: Duration,
    waiting_since: Option<Instant>,
}

impl Pace {
    /// Nothing has been asked for yet. `timeout` is the longest silence, and what all waits together may last before
    /// the bytes are counted.
    pub(super) const fn new(timeout: Duration) -> Self {
        Self { timeout, received: 0, waited: Duration::ZERO, waiting_since: None }
    }

    /// Bytes have come.
    pub(super) fn received(&mut self, bytes: usize, now: impl FnOnce() -> Instant) {
        self.received = self.received.saturating_add(bytes as u64);
        if let Some(since) = self.waiting_since.take() {
            self.waited += now().saturating_duration_since(since);
        }
    }

    /// Nothing is there: until when it is waited for. `None` where a wait goes on, whose end is known.
    pub(super) fn wait(&mut self, now: impl FnOnce() -> Instant) -> Option<Instant> {
        if self.waiting_since.is_some() {
            return None;
        }
        let now = now();
        self.waiting_since = Some(now);
        let earned = Duration::from_millis(self.received.saturating_mul(1000) / BODY_RATE_MIN);
        let left = self.timeout.saturating_add(earned).saturating_sub(self.waited);
        Some(now + left.min(self.timeout))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    /// Bytes that come one after another, each after a wait: how long the next is waited for.
    fn left_after(pieces: impl IntoIterator<Item = (u64, usize)>) -> u64 {
        let mut pace = Pace::new(TIMEOUT);
        let mut now = Instant::now();
        for (waited, bytes) in pieces {
            let end = pace.wait(|| now).unwrap();
            now += Duration::from_secs(waited);
            assert!(now <= end, "in time");
            assert_eq!(pace.wait(|| now), None, "the same wait");
            pace.received(bytes, || now);
        }
        pace.wait(|| now).unwrap().duration_since(now).as_secs()
    }

    #[test]
    fn silence_and_dripping_have_the_same_end_and_a_slow_line_goes_on() {
        assert_eq!(left_after([]), 30);
        // A byte each 10 s.
        assert_eq!(left_after([(10, 1), (10, 1)]), 10);
        assert_eq!(left_after([(10, 1), (10, 1), (10, 1)]), 0);
        // An hour at the least rate, and one at half of it.
        assert_eq!(left_after((0..360).map(|_| (10, 10 * 1024))), 30);
        assert_eq!(left_after((0..5).map(|_| (10, 5 * 1024))), 5);
        // What came fast is credit, but no silence is longer than the timeout.
        assert_eq!(left_after([(0, 1 << 20), (29, 1)]), 30);
    }

    #[test]
    fn what_the_origin_takes_to_read_is_not_the_clients_time() {
        let mut pace = Pace::new(TIMEOUT);
        let start = Instant::now();
        pace.received(1, || unreachable!("nothing was waited for"));
        let later = start + Duration::from_secs(3600);
        assert_eq!(pace.wait(|| later), Some(later + TIMEOUT));
    }
}
