//! The shared store as a model: what the Redis store does, in memory. Tests and the simulation use it,
//! and a node without Redis keeps its purge log in it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::{Edges, Lease, LeaseToken, LogLine, LogState, NOTE_BYTES_MAX, SharedStore, StoreError, Written};
use crate::clock::Clock;
use crate::policy::key::KeyHash;
use crate::policy::purge::{Purge, PurgeSeq};
use crate::policy::time::Timestamp;

/// See the module.
#[derive(Debug)]
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    newest: watch::Sender<PurgeSeq>,
}

#[derive(Debug, Default)]
struct State {
    values: HashMap<KeyHash, (Bytes, Timestamp)>,
    /// Who holds a lease, `None` for a vain one, and until when.
    leases: HashMap<KeyHash, (Option<LeaseToken>, Timestamp)>,
    notes: HashMap<String, (Bytes, Timestamp)>,
    log: BTreeMap<PurgeSeq, Purge>,
    newest: PurgeSeq,
}

impl MemoryStore {
    /// An empty store.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Mutex::default(), newest: watch::Sender::default() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append_now(&self, purge: &Purge, keep: Duration) -> PurgeSeq {
        let now = self.clock.now().as_millis();
        let mut state = self.state();
        // As Redis does: the clock's milliseconds, but never less than the newest id.
        let (newest_ms, newest_n) = (state.newest.logged_at().as_millis(), state.newest.n());
        let (ms, n) = if now > newest_ms { (now, 0) } else { (newest_ms, newest_n + 1) };
        let seq = PurgeSeq::new(ms, n).expect("a process does not append 2^40 purges in a millisecond");
        state.newest = seq;
        state.log.insert(seq, purge.clone());
        let keep = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
        // As well: by the line before this one, so that however long all was silent, who has read that one reads on.
        if let Some(oldest) = PurgeSeq::new(newest_ms.saturating_sub(keep), 0) {
            state.log = state.log.split_off(&oldest);
        }
        drop(state);
        self.newest.send_replace(seq);
        seq
    }

    fn lines(&self, after: PurgeSeq, most: usize) -> Vec<LogLine> {
        let state = self.state();
        let newer = state.log.range((std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded));
        newer.take(most).map(|(seq, purge)| LogLine { seq: *seq, purge: Some(purge.clone()) }).collect()
    }
}

impl SharedStore for MemoryStore {
    fn get(&self, key: KeyHash) -> BoxFuture<'_, Result<Option<Bytes>, StoreError>> {
        let now = self.clock.now();
        let held = |(value, until): &&(Bytes, Timestamp)| now < *until && !value.is_empty();
        let found = self.state().values.get(&key).filter(held).map(|(value, _)| value.clone());
        std::future::ready(Ok(found)).boxed()
    }

    fn put(&self, key: KeyHash, value: Bytes, ttl: Duration) -> BoxFuture<'_, Result<(), StoreError>> {
        let until = self.clock.now() + ttl;
        self.state().values.insert(key, (value, until));
        std::future::ready(Ok(())).boxed()
    }

    fn remove(&self, key: KeyHash) -> BoxFuture<'_, Result<(), StoreError>> {
        self.state().values.remove(&key);
        std::future::ready(Ok(())).boxed()
    }

    fn lease(&self, key: KeyHash, token: LeaseToken, ttl: Duration) -> BoxFuture<'_, Result<bool, StoreError>> {
        let now = self.clock.now();
        let mut state = self.state();
        let is_free = state.leases.get(&key).is_none_or(|(_, until)| now >= *until);
        if is_free {
            state.leases.insert(key, (Some(token), now + ttl));
        }
        std::future::ready(Ok(is_free)).boxed()
    }

    fn leased(&self, key: KeyHash, token: LeaseToken) -> BoxFuture<'_, Result<Lease, StoreError>> {
        let now = self.clock.now();
        let state = self.state();
        let lease = match state.leases.get(&key).filter(|(_, until)| now < *until) {
            None => Lease::Free,
            Some((Some(holder), _)) if *holder == token => Lease::Ours,
            Some((Some(_), _)) => Lease::Held,
            Some((None, _)) => Lease::Vain,
        };
        std::future::ready(Ok(lease)).boxed()
    }

    fn release(
        &self,
        key: KeyHash,
        token: LeaseToken,
        vain: Option<Duration>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let now = self.clock.now();
        let mut state = self.state();
        if state.leases.get(&key).is_some_and(|(holder, until)| *holder == Some(token) && now < *until) {
            match vain {
                None => drop(state.leases.remove(&key)),
                Some(vain) => drop(state.leases.insert(key, (None, now + vain))),
            }
        }
        std::future::ready(Ok(())).boxed()
    }

    fn note<'s>(&'s self, name: &'s str) -> BoxFuture<'s, Result<Option<Bytes>, StoreError>> {
        let now = self.clock.now();
        let found = self.state().notes.get(name).filter(|(_, until)| now < *until).and_then(|(value, _)| read(value));
        std::future::ready(Ok(found)).boxed()
    }

    fn swap_note<'s>(
        &'s self,
        name: &'s str,
        before: Option<Bytes>,
        after: Bytes,
        ttl: Duration,
    ) -> BoxFuture<'s, Result<bool, StoreError>> {
        let now = self.clock.now();
        let mut state = self.state();
        let found = state.notes.get(name).filter(|(_, until)| now < *until).and_then(|(value, _)| read(value));
        let is_same = found == before;
        if is_same {
            state.notes.insert(name.to_owned(), (after, now + ttl));
        }
        std::future::ready(Ok(is_same)).boxed()
    }

    fn append<'s>(&'s self, purges: &'s [Purge], keep: Duration) -> BoxFuture<'s, Result<Vec<PurgeSeq>, StoreError>> {
        let seqs = purges.iter().map(|purge| self.append_now(purge, keep)).collect();
        std::future::ready(Ok(seqs)).boxed()
    }

    fn read_log(
        &self,
        after: PurgeSeq,
        most: usize,
        wait: Duration,
    ) -> BoxFuture<'_, Result<Vec<Written>, StoreError>> {
        async move {
            let mut newest = self.newest.subscribe();
            let arrived = newest.wait_for(|newest| *newest > after);
            // Running out of time is an answer as well: nothing new.
            drop(tokio::time::timeout(wait, arrived).await);
            if after != PurgeSeq::ZERO && !self.state().log.contains_key(&after) {
                return Err(StoreError::Gone);
            }
            Ok(self.lines(after, most).into_iter().map(Written::from).collect())
        }
        .boxed()
    }

    fn look_log(&self, from: PurgeSeq, most: usize) -> BoxFuture<'_, Result<Vec<LogLine>, StoreError>> {
        std::future::ready(Ok(self.lines(from.before(), most))).boxed()
    }

    fn log_state(&self, applied: PurgeSeq) -> BoxFuture<'_, Result<LogState, StoreError>> {
        let state = self.state();
        let applied = applied.shared();
        let held = state.log.range(..=applied).next_back().map(|(seq, _)| *seq);
        let (oldest, newest) = (state.log.keys().next().copied(), state.log.keys().next_back().copied());
        // Nothing is lost here but with the process.
        let found = LogState::of(applied, Edges { oldest, held, newest, mark: None });
        std::future::ready(Ok(found)).boxed()
    }

    fn restore<'s>(
        &'s self,
        seq: PurgeSeq,
        purge: &'s Purge,
        _keep: Duration,
    ) -> BoxFuture<'s, Result<bool, StoreError>> {
        let mut state = self.state();
        let is_next = seq > state.newest;
        if is_next {
            state.newest = seq;
            state.log.insert(seq, purge.clone());
        }
        let is_there = state.log.get(&seq) == Some(purge);
        drop(state);
        if is_next {
            self.newest.send_replace(seq);
        }
        std::future::ready(Ok(is_there)).boxed()
    }
}

/// What is read of a note.
fn read(note: &Bytes) -> Option<Bytes> {
    (!note.is_empty()).then(|| note.slice(..note.len().min(NOTE_BYTES_MAX + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::policy::purge::Mode;

    #[tokio::test]
    async fn a_reader_who_begins_after_a_cut_is_told() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_000_000)));
        let store = MemoryStore::new(Arc::<ManualClock>::clone(&clock));
        let purge = Purge { tags: vec![("a".into(), Mode::Hard)], ..Purge::default() };
        assert_eq!(store.log_state(PurgeSeq::ZERO).await, Ok(LogState::Continues), "nothing was ever purged");
        let keep = Duration::from_secs(10);
        let cut = store.append_now(&purge, keep);
        clock.advance(Duration::from_secs(11));
        let first = store.append_now(&purge, keep);
        assert_eq!(store.log_state(cut).await, Ok(LogState::Continues), "who has read it reads on");
        store.append_now(&purge, keep);
        assert_eq!(store.log_state(PurgeSeq::ZERO).await, Ok(LogState::Trimmed(first)));
        assert_eq!(store.log_state(cut).await, Ok(LogState::Trimmed(first)));
        assert_eq!(store.log_state(first).await, Ok(LogState::Continues));
    }
}
