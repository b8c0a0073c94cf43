//! Purges: from an order to the log, from the log to the index, and back to who ordered.

pub mod follow;
pub mod webhook;

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::policy::purge::{Purge, PurgeSeq};
use crate::purges::Purges;
use crate::store::{SharedStore, StoreError};

/// Longest tag that is taken, in bytes: the longest request target fits behind `path:`.
const TAG_BYTES_MAX: usize = 8 * 1024 + 64;

/// Where an acknowledged purge is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durable {
    /// In the Redis log: every node applies it.
    Log,
    /// In this process, which is the only node.
    Memory,
}

impl Durable {
    /// The word for the answer.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Memory => "memory",
        }
    }
}

/// A purge that is in the log and applied here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// Where it stands in the log.
    pub seq: PurgeSeq,
    /// Where it is safe.
    pub durable: Durable,
}

/// Why a purge is not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PurgeError {
    /// The order itself is wrong.
    #[error("{0}")]
    Invalid(String),
    /// It was applied here, but is not in the log: the sender must send it again.
    #[error("applied on this node alone, the log did not take it: {0}")]
    Log(StoreError),
    /// It is in the log, but this node has not applied it in time: the sender must send it again.
    #[error("in the log at {0}, but not yet applied on this node")]
    NotApplied(PurgeSeq),
}

/// Takes orders to purge.
#[derive(Debug)]
pub struct Invalidator {
    /// The log.
    pub log: Arc<dyn SharedStore>,
    /// Where the log is kept.
    pub durable: Durable,
    /// The index that this node's follower writes.
    pub purges: Arc<Purges>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// How far back the log reaches.
    pub keep: Duration,
    /// How long an acknowledgement may take.
    pub ack_timeout: Duration,
    /// Most tags in one purge.
    pub tags_max: usize,
}

impl Invalidator {
    /// Orders a purge, and returns when it is in the log and applied here.
    ///
    /// # Errors
    /// See [`PurgeError`]. When the log cannot be reached the purge is applied here all the same: that
    /// forgets too much at worst.
    pub async fn purge(&self, purge: &Purge) -> Result<Acknowledged, PurgeError> {
        let outcome = self.order(purge).await;
        self.metrics.purge_ordered(match &outcome {
            Ok(_) => "acknowledged",
            Err(PurgeError::Invalid(_)) => "invalid",
            Err(PurgeError::Log(_)) => "log",
            Err(PurgeError::NotApplied(_)) => "not_applied",
        });
        outcome
    }

    async fn order(&self, purge: &Purge) -> Result<Acknowledged, PurgeError> {
        if purge.tags.is_empty() {
            return Err(PurgeError::Invalid("no tags to purge".into()));
        }
        if purge.tags.len() > self.tags_max {
            let text = format!("{} tags in one purge, at most {} are taken", purge.tags.len(), self.tags_max);
            return Err(PurgeError::Invalid(text));
        }
        if purge.tags.iter().any(|(tag, _)| tag.is_empty() || tag.len() > TAG_BYTES_MAX) {
            return Err(PurgeError::Invalid(format!("a tag is empty or longer than {TAG_BYTES_MAX} bytes")));
        }
        let acknowledged = async {
            let before = self.purges.applied().shared();
            let seq = self.log.append(purge, self.keep).await.map_err(PurgeError::Log)?;
            if seq <= before {
                // The log has lost its end and its clock is behind: nobody who was further would ever
                // read this line, and waiting for it would succeed at once.
                return Err(PurgeError::Log(StoreError::Server("the log fell back behind what was applied".into())));
            }
            match tokio::time::timeout(self.ack_timeout, self.purges.wait_for(seq)).await {
                Ok(()) => Ok(Acknowledged { seq, durable: self.durable }),
                Err(_) => Err(PurgeError::NotApplied(seq)),
            }
        };
        let outcome = match tokio::time::timeout(self.ack_timeout, acknowledged).await {
            Ok(outcome) => outcome,
            Err(_) => Err(PurgeError::Log(StoreError::Timeout)),
        };
        if outcome.is_err() {
            self.purges.apply_here(purge.marks(), self.clock.now());
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::policy::purge::{Mode, PurgeIndex};
    use crate::policy::tags::TagHash;
    use crate::policy::time::Timestamp;
    use crate::store::memory::MemoryStore;

    /// A fail-over to a replica that lacks the end of the log, and whose clock is behind.
    #[tokio::test]
    async fn a_line_behind_what_was_applied_is_not_acknowledged() {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(Timestamp::from_millis(1000)));
        let purges = Arc::new(Purges::new(PurgeIndex::new(Duration::ZERO, 100, Duration::from_secs(100))));
        purges.apply(PurgeSeq::new(5000, 0).unwrap(), Box::default(), clock.now());
        let invalidator = Invalidator {
            log: Arc::new(MemoryStore::new(Arc::clone(&clock))),
            durable: Durable::Log,
            purges: Arc::clone(&purges),
            clock,
            metrics: Metrics::new(&[]),
            keep: Duration::from_secs(100),
            ack_timeout: Duration::from_secs(1),
            tags_max: 10,
        };
        let began = purges.applied();
        let purge = Purge { tags: vec![("a".into(), Mode::Hard)], ..Purge::default() };
        assert!(matches!(invalidator.purge(&purge).await, Err(PurgeError::Log(_))));
        let found = purges.judge(&[TagHash::of("a")], began).purged();
        assert_eq!(found, crate::policy::purge::Purged::Hard, "applied here all the same");
    }
}
