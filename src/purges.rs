//! The purge index as the node shares it: `invalidate` writes it, `fill` and `serve` read it, and
//! they meet nowhere else.

use std::time::Duration;

use crate::policy::entry::{Entry, Seen};
use crate::policy::freshness::{Sight, Trust};
use crate::policy::purge::{Marked, PurgeIndex, PurgeSeq, Purged};
use crate::policy::tags::TagHash;
use crate::policy::time::Timestamp;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard, Notify, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// What other nodes' journals may take to come into a log that can be reached again: a replay is tried each
/// second, on a connection that is made anew.
const JOURNALS_COME: Duration = Duration::from_secs(3);
/// Tags that are marked while the index is locked, some tens of microseconds: hits wait for no more of a long line.
const SLICE: usize = 512;

/// A [`PurgeIndex`] behind a lock that is held for compares only, never over I/O.
#[derive(Debug)]
pub struct Purges {
    /// The index' epoch, read alone at a hit that nothing has happened to.
    epoch: AtomicU64,
    index: RwLock<PurgeIndex>,
    /// Who applies a line, from its first tag to its last. No reader takes it.
    writer: Mutex<()>,
    /// Wakes those who wait for a position, in the order in which they came.
    applied: Notify,
    is_caught_up: AtomicBool,
    /// Purges that are safe in the journal but not yet in the log.
    journaled: AtomicU64,
    /// `None` where the log cannot be cut off from its only reader.
    max_blind: Option<Duration>,
    /// From when on the node is blind, in milliseconds.
    blind_from: AtomicU64,
    /// Until when it stays so although it reads the log again, in milliseconds.
    blind_until: AtomicU64,
    /// A read has failed since the log was last read to its end.
    is_cut_off: AtomicBool,
}

impl Purges {
    /// Shares an index that is trusted for `max_blind` after the log was last read to its end.
    pub fn new(index: PurgeIndex, max_blind: Option<Duration>) -> Self {
        Self {
            epoch: AtomicU64::new(index.epoch()),
            index: RwLock::new(index),
            writer: Mutex::default(),
            applied: Notify::new(),
            is_caught_up: AtomicBool::new(false),
            journaled: AtomicU64::new(0),
            max_blind,
            blind_from: AtomicU64::new(0),
            blind_until: AtomicU64::new(0),
            is_cut_off: AtomicBool::new(false),
        }
    }

    /// The log could not be read.
    pub fn cut_off(&self) {
        self.is_cut_off.store(true, Ordering::Release);
    }

    /// The log has been read to its end, by a read that was sent at `asked`: from here on the index can
    /// judge what others have stored.
    ///
    /// A node that was cut off for so long that it went blind stays blind a little longer: others were cut off
    /// too, and what they acknowledged meanwhile is in their journals and not yet in the log.
    pub fn confirmed(&self, asked: Timestamp) {
        if let Some(max_blind) = self.max_blind {
            if self.is_cut_off.swap(false, Ordering::AcqRel) && self.is_blind(asked) {
                self.blind_until.fetch_max((asked + JOURNALS_COME).as_millis(), Ordering::AcqRel);
            }
            self.blind_from.fetch_max((asked + max_blind).as_millis(), Ordering::AcqRel);
        }
        self.is_caught_up.store(true, Ordering::Release);
    }

    /// Whether the log has been read to its end since the start.
    pub fn is_caught_up(&self) -> bool {
        self.is_caught_up.load(Ordering::Acquire)
    }

    /// Whether the node has not been able to confirm for too long that it knows of all purges, or has been so
    /// a moment ago.
    pub fn is_blind(&self, now: Timestamp) -> bool {
        self.sight().is_some_and(|sight| sight.is_blind(now))
    }

    /// Whether what another node fills now will be trusted here: the log has been heard of late.
    pub fn is_clear(&self, now: Timestamp) -> bool {
        self.sight().is_none_or(|sight| sight.is_clear(now))
    }

    /// How far an entry may be trusted, as to purges that may have been missed.
    pub fn trust(&self, entry: &Entry, now: Timestamp) -> Trust {
        self.sight().map_or(Trust::Full, |sight| sight.trust(entry, now))
    }

    fn sight(&self) -> Option<Sight> {
        let at = |millis: &AtomicU64| Timestamp::from_millis(millis.load(Ordering::Acquire));
        let max_blind = self.max_blind?;
        Some(Sight {
            max_blind,
            blind_from: at(&self.blind_from),
            blind_until: at(&self.blind_until),
            is_cut_off: self.is_cut_off.load(Ordering::Acquire),
        })
    }

    /// Says how many purges stand in the journal alone.
    pub fn set_journaled(&self, count: u64) {
        self.journaled.store(count, Ordering::Release);
    }

    /// Purges that stand in the journal alone.
    pub fn journaled(&self) -> u64 {
        self.journaled.load(Ordering::Acquire)
    }

    /// Whether the index can judge what other nodes have stored: it knows the log to its end, and the
    /// log knows all that this node was told.
    pub fn can_judge_others(&self) -> bool {
        self.is_caught_up() && self.journaled() == 0
    }

    /// The newest purge applied: what a fill that begins now is `as_of`.
    pub fn applied(&self) -> PurgeSeq {
        self.read().applied()
    }

    /// Applies a line of the log.
    pub fn apply(&self, seq: PurgeSeq, line: Marked, now: Timestamp) {
        let _alone = self.alone();
        self.apply_alone(seq, line, now);
    }

    /// Applies a purge that the log does not hold (yet): it has a position in this process alone.
    pub fn apply_here(&self, line: Marked, now: Timestamp) -> PurgeSeq {
        let _alone = self.alone();
        let seq = self.applied().next_local();
        self.apply_alone(seq, line, now);
        seq
    }

    /// Lets readers in between the parts of a long line: what is marked already concerns only entries that the
    /// whole line will concern.
    fn apply_alone(&self, seq: PurgeSeq, line: Marked, now: Timestamp) {
        let mut index = self.write();
        if index.begin(seq, &line.marks, now) {
            for (at, slice) in line.marks.chunks(SLICE).enumerate() {
                if at > 0 {
                    drop(index);
                    // The lock favours writers: who waits for it is let in first.
                    std::thread::yield_now();
                    index = self.write();
                }
                index.mark(seq, slice, now);
            }
        }
        index.finish(seq, line, now);
        self.publish(&index);
    }

    /// Forgets what lies before `seq`: all older entries must be refilled.
    pub fn raise_floor(&self, seq: PurgeSeq) {
        let _alone = self.alone();
        let mut index = self.write();
        index.raise_floor(seq);
        self.publish(&index);
    }

    /// Forgets everything: all that was stored up to now must be refilled.
    pub fn forget(&self) {
        let _alone = self.alone();
        let mut index = self.write();
        let seq = index.applied().next_local();
        index.raise_floor(seq);
        self.publish(&index);
    }

    /// Waits until this node has applied `seq`.
    pub async fn wait_for(&self, seq: PurgeSeq) {
        loop {
            // Begins to listen before it looks: what is applied in between is not missed.
            let applied = self.applied.notified();
            if self.applied() >= seq {
                return;
            }
            applied.await;
        }
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

    /// See [`PurgeIndex::echo`].
    pub fn echo(&self, entry: &Entry, echo: Duration) -> Option<Timestamp> {
        self.read().echo(&entry.tags, entry.began, echo)
    }

    /// Judges an entry that another node filled, and says as of when it can be judged from here on: what
    /// this node has not applied yet may concern it, whatever the other node knew.
    pub fn judge_foreign(&self, tags: &[TagHash], as_of: PurgeSeq) -> (PurgeSeq, Seen) {
        let index = self.read();
        let as_of = as_of.min(index.applied());
        (as_of, Seen::new(index.epoch(), index.judge(tags, as_of)))
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
        self.applied.notify_waiters();
    }

    fn alone(&self) -> MutexGuard<'_, ()> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
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
