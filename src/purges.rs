//! The purge index as the node shares it: `invalidate` writes it, `fill` and `serve` read it, and
//! they meet nowhere else.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::watch;

use crate::policy::entry::{Entry, Seen};
use crate::policy::purge::{Mode, PurgeIndex, PurgeSeq, Purged};
use crate::policy::tags::TagHash;
use crate::policy::time::Timestamp;

/// A [`PurgeIndex`] behind a lock that is held for compares only, never over I/O.
#[derive(Debug)]
pub struct Purges {
    /// The index' epoch, read alone at a hit that nothing has happened to.
    epoch: AtomicU64,
    index: RwLock<PurgeIndex>,
    applied: watch::Sender<PurgeSeq>,
    is_current: AtomicBool,
}

impl Purges {
    /// Shares an index.
    pub fn new(index: PurgeIndex) -> Self {
        let applied = watch::Sender::new(index.applied());
        Self {
            epoch: AtomicU64::new(index.epoch()),
            index: RwLock::new(index),
            applied,
            is_current: AtomicBool::new(false),
        }
    }

    /// The log has been read to its end: from here on the index can judge what others have stored.
    pub fn caught_up(&self) {
        self.is_current.store(true, Ordering::Release);
    }

    /// Whether the log has been read to its end since the start.
    pub fn is_caught_up(&self) -> bool {
        self.is_current.load(Ordering::Acquire)
    }

    /// The newest purge applied: what a fill that begins now is `as_of`.
    pub fn applied(&self) -> PurgeSeq {
        self.read().applied()
    }

    /// Applies a line of the log.
    pub fn apply(&self, seq: PurgeSeq, marks: Box<[(TagHash, Mode)]>, now: Timestamp) {
        let mut index = self.write();
        index.apply(seq, marks, now);
        self.publish(&index);
    }

    /// Applies a purge that the log does not hold (yet): it has a position in this process alone.
    pub fn apply_here(&self, marks: Box<[(TagHash, Mode)]>, now: Timestamp) -> PurgeSeq {
        let mut index = self.write();
        let seq = index.applied().next_local();
        index.apply(seq, marks, now);
        self.publish(&index);
        seq
    }

    /// Forgets what lies before `seq`: all older entries must be refilled.
    pub fn raise_floor(&self, seq: PurgeSeq) {
        let mut index = self.write();
        index.raise_floor(seq);
        self.publish(&index);
    }

    /// Waits until this node has applied `seq`.
    pub async fn wait_for(&self, seq: PurgeSeq) {
        let mut applied = self.applied.subscribe();
        applied.wait_for(|applied| *applied >= seq).await.map(drop).expect("the sender lives as long as self");
    }

    /// What the index says of an entry now. The common case is one load and one compare.
    pub fn check(&self, entry: &Entry) -> Purged {
        let seen = entry.seen.epoch();
        if seen == self.epoch.load(Ordering::Acquire) {
            return entry.seen.purged();
        }
        let index = self.read();
        entry.seen.record(index.epoch(), index.judge_since(&entry.tags, entry.as_of, seen));
        entry.seen.purged()
    }

    /// What the index says of tags and a position, from nothing.
    pub fn judge(&self, tags: &[TagHash], as_of: PurgeSeq) -> Seen {
        let index = self.read();
        Seen::new(index.epoch(), index.judge(tags, as_of))
    }

    /// See [`PurgeIndex::judge_between`].
    pub fn judge_between(&self, entry: &Entry, joined: PurgeSeq) -> Purged {
        if joined <= entry.as_of {
            return Purged::No;
        }
        self.read().judge_between(&entry.tags, entry.as_of, joined)
    }

    /// Reads figures of the index.
    pub fn with<T>(&self, look: impl FnOnce(&PurgeIndex) -> T) -> T {
        look(&self.read())
    }

    /// The epoch and the position are published while the index is locked, so that whoever sees them
    /// finds the purge in the index.
    fn publish(&self, index: &PurgeIndex) {
        self.epoch.store(index.epoch(), Ordering::Release);
        self.applied.send_replace(index.applied());
    }

    fn read(&self) -> RwLockReadGuard<'_, PurgeIndex> {
        // A panic while the lock was held cannot have left a half-applied purge that is worse than a
        // dead cache; the index only ever forgets more.
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, PurgeIndex> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}
