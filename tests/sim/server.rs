//! The store's server: what Redis does, as far as the product asks it, and what can become of it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use endcap::policy::key::KeyHash;
use endcap::policy::purge::{Purge, PurgeSeq};
use endcap::store::{Lease, LeaseToken, LogLine};

/// See the module. Times are milliseconds of the run.
#[derive(Debug, Default)]
pub(crate) struct Server {
    pub(crate) is_up: bool,
    /// It takes no line of the log, as without the replicas that it needs.
    pub(crate) refuses: bool,
    /// Counts the times that its connections broke.
    pub(crate) generation: u64,
    /// Its own clock.
    pub(crate) epoch: u64,
    values: BTreeMap<KeyHash, Vec<Written>>,
    /// Who holds a lease, `None` for one in vain, and until when.
    leases: BTreeMap<KeyHash, (Option<LeaseToken>, u64)>,
    pub(crate) notes: BTreeMap<String, Bytes>,
    log: BTreeMap<PurgeSeq, Line>,
    newest: Id,
    /// How far the log has ever come, and when it was noted.
    marks: Vec<(u64, PurgeSeq)>,
    /// Counts the times that the whole log went.
    pub(crate) drops: u64,
    /// Lines that were cut off in good order: not lost, a reader is told.
    cut: BTreeSet<PurgeSeq>,
}

/// Lines in a node of a stream, by default.
const LINES_A_NODE: usize = 100;

/// A position as Redis has it.
type Id = (u64, u64);

/// One write of a value: a fail-over may bring back the one before it.
#[derive(Debug)]
struct Written {
    at: u64,
    until: u64,
    value: Bytes,
}

#[derive(Debug)]
struct Line {
    at: u64,
    purge: Option<Purge>,
}

impl Server {
    pub(crate) fn new(epoch: u64) -> Self {
        Self { is_up: true, epoch, ..Self::default() }
    }

    pub(crate) fn value(&self, key: KeyHash, now: u64) -> Option<Bytes> {
        let newest = self.values.get(&key)?.last()?;
        (now < newest.until).then(|| newest.value.clone())
    }

    pub(crate) fn put(&mut self, key: KeyHash, value: Bytes, until: u64, now: u64) {
        let written = self.values.entry(key).or_default();
        written.push(Written { at: now, until, value });
        if written.len() > 3 {
            written.remove(0);
        }
    }

    pub(crate) fn remove(&mut self, key: KeyHash) {
        self.values.remove(&key);
    }

    /// SET NX PX.
    pub(crate) fn lease(&mut self, key: KeyHash, token: LeaseToken, until: u64, now: u64) -> bool {
        let is_free = self.lease_of(key, token, now) == Lease::Free;
        if is_free {
            self.leases.insert(key, (Some(token), until));
        }
        is_free
    }

    pub(crate) fn lease_of(&self, key: KeyHash, token: LeaseToken, now: u64) -> Lease {
        match self.leases.get(&key).filter(|(_, until)| now < *until) {
            None => Lease::Free,
            Some((Some(holder), _)) if *holder == token => Lease::Ours,
            Some((Some(_), _)) => Lease::Held,
            Some((None, _)) => Lease::Vain,
        }
    }

    /// Compares the holder, then ends the lease or marks it as vain until a time.
    pub(crate) fn release(&mut self, key: KeyHash, token: LeaseToken, vain: Option<u64>, now: u64) {
        if self.leases.get(&key).is_some_and(|(holder, until)| *holder == Some(token) && now < *until) {
            match vain {
                None => drop(self.leases.remove(&key)),
                Some(until) => drop(self.leases.insert(key, (None, until))),
            }
        }
    }

    /// Leases that somebody holds.
    pub(crate) fn leases_held(&self, now: u64) -> usize {
        self.leases.values().filter(|(holder, until)| holder.is_some() && now < *until).count()
    }

    /// XADD with `*`: the clock's milliseconds, but never less than the newest id.
    pub(crate) fn append(&mut self, purge: Option<Purge>, now: u64) -> PurgeSeq {
        let ms = self.epoch + now;
        let id = if ms > self.newest.0 { (ms, 0) } else { (self.newest.0, self.newest.1 + 1) };
        self.add(id, purge, now)
    }

    /// XADD with an id: false when it is not behind all others.
    pub(crate) fn append_at(&mut self, seq: PurgeSeq, purge: Purge, now: u64) -> bool {
        let id = id_of(seq);
        let is_next = id > self.newest;
        if is_next {
            self.add(id, Some(purge), now);
        }
        is_next
    }

    /// The newest line up to a position.
    pub(crate) fn held(&self, seq: PurgeSeq) -> Option<PurgeSeq> {
        self.log.range(..=seq).next_back().map(|(held, _)| *held)
    }

    /// Whether just this line stands at a position.
    pub(crate) fn holds_at(&self, seq: PurgeSeq, purge: &Purge) -> bool {
        self.log.get(&seq).is_some_and(|line| line.purge.as_ref() == Some(purge))
    }

    fn add(&mut self, id: Id, purge: Option<Purge>, now: u64) -> PurgeSeq {
        self.newest = id;
        let seq = PurgeSeq::new(id.0, id.1).unwrap();
        self.log.insert(seq, Line { at: now, purge });
        if Some(seq) > self.mark() {
            self.marks.push((now, seq));
        }
        seq
    }

    /// XTRIM MINID ~: whole nodes of the stream go, or nothing.
    pub(crate) fn trim(&mut self, oldest_ms: u64) {
        let oldest = PurgeSeq::new(oldest_ms, 0).unwrap();
        if self.log.range(..oldest).count() >= LINES_A_NODE {
            let kept = self.log.split_off(&oldest);
            self.note_cut(kept);
        }
    }

    /// Cuts off all lines but the last that are older than so long.
    pub(crate) fn trim_older(&mut self, now: u64, than: u64) {
        let young = self.log.iter().find(|(_, line)| line.at + than > now).map(|(seq, _)| *seq);
        if let Some(first) = young.or(self.last()) {
            let kept = self.log.split_off(&first);
            self.note_cut(kept);
        }
    }

    fn note_cut(&mut self, kept: BTreeMap<PurgeSeq, Line>) {
        let gone = std::mem::replace(&mut self.log, kept);
        self.cut.extend(gone.into_keys());
    }

    pub(crate) fn lines(&self, after: PurgeSeq, most: usize) -> Vec<LogLine> {
        let newer = self.log.range((std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded));
        newer.take(most).map(|(seq, line)| LogLine { seq: *seq, purge: line.purge.clone() }).collect()
    }

    pub(crate) fn first(&self) -> Option<PurgeSeq> {
        self.log.keys().next().copied()
    }

    pub(crate) fn last(&self) -> Option<PurgeSeq> {
        self.log.keys().next_back().copied()
    }

    /// How far the log has ever come.
    pub(crate) fn mark(&self) -> Option<PurgeSeq> {
        self.marks.last().map(|(_, seq)| *seq)
    }

    /// Whether a line stands there, or stood before the log's beginning.
    pub(crate) fn stands(&self, seq: PurgeSeq) -> bool {
        self.cut.contains(&seq) || self.log.contains_key(&seq)
    }

    /// All connections break.
    pub(crate) fn break_connections(&mut self) {
        self.generation += 1;
    }

    /// A replica takes over that lacks the writes since `since`.
    pub(crate) fn lose_since(&mut self, since: u64) {
        self.log.retain(|_, line| line.at <= since);
        self.newest = self.last().map_or((0, 0), id_of);
        self.marks.retain(|(at, _)| *at <= since);
        self.leases.clear();
        for written in self.values.values_mut() {
            written.retain(|written| written.at <= since);
        }
    }

    pub(crate) fn empty(&mut self) {
        self.drop_log();
        self.marks.clear();
        self.values.clear();
        self.leases.clear();
    }

    pub(crate) fn drop_log(&mut self) {
        self.log.clear();
        self.cut.clear();
        self.newest = (0, 0);
        self.drops += 1;
    }

    /// The log goes, and somebody appends to it before anybody looks.
    pub(crate) fn begin_log_anew(&mut self, now: u64) {
        // Time has gone on since.
        let newest = self.newest;
        self.drop_log();
        self.newest = newest;
        self.append(None, now);
    }

    /// Drops the stored entry at a place in the order of keys.
    pub(crate) fn drop_value(&mut self, at: usize) {
        let key = self.values.keys().nth(at % self.values.len().max(1)).copied();
        key.map(|key| self.values.remove(&key));
    }
}

fn id_of(seq: PurgeSeq) -> Id {
    (seq.logged_at().as_millis(), seq.n())
}
