//! Purges: from an order to the log, from the log to the index, and back to who ordered.

pub mod follow;
pub mod journal;
mod radius;
pub mod recent;
pub mod replay;
pub mod webhook;

use std::slice;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::policy::breaker::Breaker;
use crate::policy::position::Positions;
use crate::policy::purge::{Marked, Purge, PurgeSeq};
use crate::policy::tags::TAG_BYTES_MAX;
use crate::policy::time::Timestamp;
use crate::purges::Purges;
use crate::store::hot::Hot;
use crate::store::{SharedStore, StoreError};
use crate::tasks::Tasks;
use recent::Recent;
use replay::Replay;

/// Where an acknowledged purge is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durable {
    /// In the Redis log: every node applies it.
    Log,
    /// On this node's disk, until the log can be reached again.
    Journal,
    /// In this process, which is the only node.
    Memory,
}

impl Durable {
    /// The status of the acknowledgement: what the other nodes cannot know yet is only accepted.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Log | Self::Memory => StatusCode::OK,
            Self::Journal => StatusCode::ACCEPTED,
        }
    }

    /// The word for the answer.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Journal => "journal",
            Self::Memory => "memory",
        }
    }
}

/// A purge that is safe and applied here.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Acknowledged {
    /// Where it stands in the log; in a journal, behind what stands there.
    pub seq: PurgeSeq,
    /// Where it is safe.
    pub durable: Durable,
    /// The share of the recent answers that it would have emptied, where it became soft for that.
    pub softened: Option<f64>,
}

/// Why a purge is not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PurgeError {
    /// The order itself is wrong.
    #[error("{0}")]
    Invalid(String),
    /// It has more tags than one purge may have.
    #[error("{tags} tags in one purge, at most {most} are taken")]
    TooMany {
        /// The tags of the order.
        tags: usize,
        /// `purge.tags_max`.
        most: usize,
    },
    /// It was applied here, but is not in the log, and there is no journal: the sender must send it again.
    #[error("applied on this node alone, the log did not take it: {0}")]
    Log(StoreError),
    /// It was applied here, but neither log nor journal took it: the sender must send it again.
    #[error("applied on this node alone, neither the log ({0}) nor the journal took it: {1}")]
    Journal(StoreError, String),
    /// It is in the log, but this node has not applied it in time: the sender must send it again.
    #[error("in the log at {0}, but not yet applied on this node")]
    NotApplied(PurgeSeq),
}

/// How long a log that has just failed is not tried again, where there is a journal instead.
const SPARED: Duration = Duration::from_secs(1);

/// Takes orders to purge.
#[derive(Debug)]
pub struct Invalidator {
    /// The log.
    pub log: Arc<dyn SharedStore>,
    /// Where the log is kept.
    pub durable: Durable,
    /// Where purges are safe while the log cannot be reached.
    pub journal: Option<Replay>,
    /// The index that this node's follower writes.
    pub purges: Arc<Purges>,
    /// The last of them, as that follower writes it too.
    pub recent: Arc<Recent>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// How far back the log reaches.
    pub keep: Duration,
    /// How long the log may take for a line, and this node to apply it.
    pub ack_timeout: Duration,
    /// Most tags in one purge.
    pub tags_max: usize,
    /// The share of recent answers beyond which a purge becomes soft; `None` for never.
    pub blast_radius: Option<f64>,
    /// So few entries are refilled at once: a purge that empties no more stays as it is.
    pub few: usize,
    /// What those were.
    pub hot: Arc<Hot>,
    /// Where orders are carried out to their end.
    pub tasks: Tasks,
    /// Open after a failure of the log.
    pub breaker: Mutex<Breaker>,
    /// Signs where a purge stands.
    pub positions: Positions,
}

/// The breaker of a log that has not failed yet.
pub fn breaker() -> Mutex<Breaker> {
    Mutex::new(Breaker::new(1, SPARED))
}

impl Invalidator {
    /// Orders a purge, and returns when it is safe and applied here.
    ///
    /// # Errors
    /// See [`PurgeError`]. A valid purge is applied here in any case: that forgets too much at worst.
    pub async fn purge(self: &Arc<Self>, purge: Purge) -> Result<Acknowledged, PurgeError> {
        // In a task of its own: a sender that leaves half-way must not leave a half-done purge.
        let invalidator = Arc::clone(self);
        let ordered = self.tasks.spawn(async move {
            invalidator.check(&purge)?;
            invalidator.order(purge).await
        });
        let outcome = Tasks::outcome(ordered).await;
        self.metrics.purge_ordered(match &outcome {
            Ok(Acknowledged { durable: Durable::Journal, .. }) => "journaled",
            Ok(_) => "acknowledged",
            Err(PurgeError::Invalid(_) | PurgeError::TooMany { .. }) => "invalid",
            Err(PurgeError::Log(_)) => "not_logged",
            Err(PurgeError::Journal(..)) => "not_journaled",
            Err(PurgeError::NotApplied(_)) => "not_applied",
        });
        outcome
    }

    /// What a client may carry so that no node answers it from before this purge. A purge in a journal has none: no
    /// other node can tell whether it is past it.
    pub fn position(&self, acknowledged: &Acknowledged) -> Option<String> {
        let is_logged = acknowledged.durable != Durable::Journal;
        is_logged.then(|| self.positions.issue(acknowledged.seq))?
    }

    fn check(&self, purge: &Purge) -> Result<(), PurgeError> {
        if purge.tags.is_empty() && purge.notices.is_empty() {
            return Err(PurgeError::Invalid("no tags to purge".into()));
        }
        if purge.tags.len() > self.tags_max {
            return Err(PurgeError::TooMany { tags: purge.tags.len(), most: self.tags_max });
        }
        if purge.tags.iter().any(|(tag, _)| tag.is_empty() || tag.len() > TAG_BYTES_MAX) {
            return Err(PurgeError::Invalid(format!("a tag is empty or longer than {TAG_BYTES_MAX} bytes")));
        }
        Ok(())
    }

    async fn order(&self, purge: Purge) -> Result<Acknowledged, PurgeError> {
        let taken = self.clock.now();
        let error = match self.append(&purge).await {
            Ok(seq) => match tokio::time::timeout(self.ack_timeout, self.purges.wait_for(seq)).await {
                Ok(()) if self.purges.with(|index| index.has_applied(seq)) => {
                    self.recent.taken(seq, taken);
                    return Ok(Acknowledged { seq, durable: self.durable, softened: None });
                }
                // Evicted or deleted before it was read: the follower is past it, and nobody has applied it.
                Ok(()) => PurgeError::Log(StoreError::Server("the log has lost the line".into())),
                Err(_) => PurgeError::NotApplied(seq),
            },
            Err(error) => PurgeError::Log(error),
        };
        let line = {
            // Clients are told when the line is in the log, where it has its place.
            let purge = Purge { notices: Vec::new(), ..purge.clone() };
            Tasks::compute(purge.bytes(), || Marked::from(purge)).await
        };
        let Some(journal) = &self.journal else {
            self.apply_here(&purge, line, taken);
            return Err(error);
        };
        // First the journal: from then on nothing is taken from the shared tier, whose entries cannot know.
        let journaled = journal.append(&purge).await;
        let seq = self.apply_here(&purge, line, taken);
        match (journaled, error) {
            (Ok(()), _) => Ok(Acknowledged { seq, durable: Durable::Journal, softened: None }),
            (Err(full), PurgeError::Log(error)) => Err(PurgeError::Journal(error, full.to_string())),
            (Err(_), error) => Err(error),
        }
    }

    /// Applies what the log does not hold (yet).
    fn apply_here(&self, purge: &Purge, line: Marked, taken: Timestamp) -> PurgeSeq {
        let seq = self.purges.apply_here(line, self.clock.now());
        if !purge.tags.is_empty() {
            let (source, event_id) = (&purge.source, &purge.event_id);
            self.recent.applied_here(seq, source, event_id, purge.tags.len(), taken, self.clock.now());
        }
        seq
    }

    /// Appends to the log.
    async fn append(&self, purge: &Purge) -> Result<PurgeSeq, StoreError> {
        if self.journal.is_some() && !self.breaker().admits(self.clock.now()) {
            return Err(StoreError::Open);
        }
        let appended = append(&*self.log, &self.purges, slice::from_ref(purge), self.keep);
        let outcome = tokio::time::timeout(self.ack_timeout, appended).await.unwrap_or(Err(StoreError::Timeout));
        match &outcome {
            Ok(_) => drop(self.breaker().succeeded()),
            Err(_) => drop(self.breaker().failed(self.clock.now())),
        }
        outcome?.pop().ok_or_else(|| StoreError::Server("the log says nothing of the line".into()))
    }

    fn breaker(&self) -> std::sync::MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Appends lines to the log, where all who follow it will read them, and says where each stands.
async fn append(
    log: &dyn SharedStore,
    purges: &Purges,
    lines: &[Purge],
    keep: Duration,
) -> Result<Vec<PurgeSeq>, StoreError> {
    let before = purges.applied().shared();
    let seqs = log.append(lines, keep).await?;
    if seqs.iter().any(|seq| *seq <= before) {
        // The log has lost its end and its clock is behind: nobody who was further would ever
        // read these lines, and waiting for them would succeed at once.
        return Err(StoreError::Server("the log fell back behind what was applied".into()));
    }
    Ok(seqs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::policy::purge::{Mode, PurgeIndex};
    use crate::policy::tags::TagHash;
    use crate::store::l1::L1;
    use crate::store::memory::MemoryStore;

    fn invalidator() -> Arc<Invalidator> {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(Timestamp::from_millis(1000)));
        Arc::new(Invalidator {
            log: Arc::new(MemoryStore::new(Arc::clone(&clock))),
            durable: Durable::Log,
            journal: None,
            purges: Arc::new(Purges::new(PurgeIndex::new(Duration::ZERO, 100, Duration::from_secs(100)), None)),
            clock,
            recent: Arc::default(),
            metrics: Metrics::new(&[]),
            keep: Duration::from_secs(100),
            ack_timeout: Duration::from_secs(1),
            tags_max: 10,
            blast_radius: None,
            few: 0,
            hot: Hot::new(L1::new(0)),
            tasks: Tasks::new(),
            breaker: breaker(),
            positions: Positions::default(),
        })
    }

    fn purge() -> Purge {
        Purge { tags: vec![("a".into(), Mode::Hard)], ..Purge::default() }
    }

    /// The node follows to this line.
    fn read(invalidator: &Invalidator, ms: u64) -> PurgeSeq {
        let seq = PurgeSeq::new(ms, 0).unwrap();
        invalidator.purges.apply(seq, Marked::default(), invalidator.clock.now());
        seq
    }

    /// A fail-over to a replica that lacks the end of the log, and whose clock is behind: the line takes the place of one
    /// that was applied and is lost.
    #[tokio::test]
    async fn a_line_behind_what_was_applied_is_not_acknowledged() {
        let invalidator = invalidator();
        assert_eq!(read(&invalidator, 1000).logged_at(), invalidator.clock.now());
        let began = read(&invalidator, 5000);
        assert!(matches!(invalidator.purge(purge()).await, Err(PurgeError::Log(_))));
        let found = invalidator.purges.judge(&[TagHash::of("a")], began).purged();
        assert_eq!(found, crate::policy::purge::Purged::Hard, "applied here all the same");
    }

    /// The log was evicted after the line came in and before it was read; the next line begins a new one.
    #[tokio::test]
    async fn a_line_that_was_passed_over_unread_is_not_acknowledged() {
        let invalidator = invalidator();
        let began = read(&invalidator, 900);
        let passed_over = async {
            let appended = invalidator.log.read_log(PurgeSeq::ZERO, 1, Duration::from_secs(1)).await.unwrap();
            assert_eq!(appended[0].seq, PurgeSeq::new(1000, 0).unwrap());
            read(&invalidator, 1001)
        };
        let (outcome, _) = tokio::join!(biased; invalidator.purge(purge()), passed_over);
        assert!(matches!(outcome, Err(PurgeError::Log(_))), "{outcome:?}");
        let found = invalidator.purges.judge(&[TagHash::of("a")], began).purged();
        assert_eq!(found, crate::policy::purge::Purged::Hard, "applied here all the same");
    }
}
