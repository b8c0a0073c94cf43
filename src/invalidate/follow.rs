//! The follower: reads the log in order and applies it to this node's index.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::policy::purge::{Mode, PurgeSeq};
use crate::policy::time::Timestamp;
use crate::purges::Purges;
use crate::store::{LogLine, LogState, SharedStore, StoreError};

/// Lines that are read at a time.
const BATCH: usize = 1000;
/// How long one read waits for a line: also how soon a silent connection is noticed.
const WAIT: Duration = Duration::from_secs(1);
/// The first pause after a failure, doubled up to the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_LONGEST: Duration = Duration::from_secs(2);

/// What is known of a follower.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Following {
    /// It has read the log to its end at least once.
    pub caught_up: bool,
    /// The last read succeeded.
    pub connected: bool,
    /// When it last had an answer.
    pub heard: Option<Timestamp>,
}

/// Follows the log until the process stops.
#[derive(Debug)]
pub struct Follower {
    /// The log.
    pub log: Arc<dyn SharedStore>,
    /// What it writes.
    pub purges: Arc<Purges>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// What others may know of it.
    pub state: watch::Sender<Following>,
}

impl Follower {
    /// Follows, and after each failure begins again where it was.
    pub async fn run(self, stop: CancellationToken) {
        let mut pause = PAUSE_FIRST;
        loop {
            let failed = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                error = self.follow(&mut pause) => error,
            };
            // Copied first: a borrow that lives on in the same statement is a lock that `send_replace` waits for.
            let before = *self.state.borrow();
            self.state.send_replace(Following { connected: false, ..before });
            self.metrics.log_connected.set(0);
            if before.connected {
                tracing::warn!(error = %failed, "lost the purge log, trying again");
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(PAUSE_LONGEST);
        }
    }

    /// Reads until something fails.
    async fn follow(&self, pause: &mut Duration) -> StoreError {
        if let Err(error) = self.resume().await {
            return error;
        }
        loop {
            let caught_up = self.state.borrow().caught_up;
            // The first reads do not wait: an empty answer is the end of the log.
            let wait = if caught_up { WAIT } else { Duration::ZERO };
            let lines = match self.log.read_log(self.purges.applied().shared(), BATCH, wait).await {
                Ok(lines) => lines,
                Err(error) => return error,
            };
            let now = self.clock.now();
            for line in &lines {
                // Replayed lines are old: their grace, counted from the log's own time, is long over.
                let at = if caught_up { now } else { now.min(logged_at(line.seq)) };
                self.apply(line, at);
            }
            let at_end = caught_up || lines.len() < BATCH;
            if at_end {
                self.purges.caught_up();
            }
            let before = self.state.send_replace(Following { caught_up: at_end, connected: true, heard: Some(now) });
            *pause = PAUSE_FIRST;
            if !before.connected {
                self.metrics.log_connected.set(1);
                tracing::info!(purge_seq = %self.purges.applied(), "following the purge log");
            }
            if at_end && !before.caught_up {
                self.metrics.ready.set(1);
            }
        }
    }

    /// Finds out whether the log still holds what comes after our position.
    async fn resume(&self) -> Result<(), StoreError> {
        let applied = self.purges.applied();
        match self.log.log_state(applied).await? {
            LogState::Continues => {}
            // The start: what the shared tier holds from before the first line cannot be judged.
            LogState::Trimmed(first) if applied == PurgeSeq::ZERO => self.purges.raise_floor(first),
            LogState::Trimmed(first) => {
                tracing::warn!(%applied, %first, "the purge log was cut past our position: older entries are refilled");
                self.purges.raise_floor(first);
            }
            LogState::Lost => {
                tracing::warn!(%applied, "the purge log has lost its end: later lines are kept after our position");
                self.log.advance_log(applied).await?;
            }
        }
        Ok(())
    }

    fn apply(&self, line: &LogLine, at: Timestamp) {
        let Some(purge) = &line.purge else {
            // Somebody else's, or a newer version's. Its place is taken, so that we do not read it again.
            self.metrics.log_garbage.inc();
            tracing::warn!(purge_seq = %line.seq, "skipped a line of the purge log that cannot be read");
            self.purges.apply(line.seq, Box::default(), at);
            return;
        };
        self.purges.apply(line.seq, purge.marks(), at);
        for mode in Mode::ALL {
            let count = purge.tags.iter().filter(|(_, with)| *with == mode).count();
            if count > 0 {
                self.metrics.purged(mode, count);
            }
        }
        tracing::debug!(purge_seq = %line.seq, source = purge.source, tags = purge.tags.len(), "purge applied");
    }
}

/// The log's own time of a line.
fn logged_at(seq: PurgeSeq) -> Timestamp {
    Timestamp::from_millis(u64::try_from(seq.to_bits() >> 64).expect("64 bits are left"))
}
