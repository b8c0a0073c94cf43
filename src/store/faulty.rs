//! For tests: the memory store with a fault.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};

use super::memory::MemoryStore;
use super::{Lease, LeaseToken, LogLine, LogState, SharedStore, StoreError, Written};
use crate::clock::Clock;
use crate::policy::key::KeyHash;
use crate::policy::purge::{Purge, PurgeSeq};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The next lease is taken, and its answer comes too late.
    LateLease,
    /// No replica has what is appended.
    Unreplicated,
    /// The log takes nothing.
    ReadOnly,
    /// Nothing is answered in time, and the log takes nothing.
    Silent,
    /// More than two lines at once do not come through in time, though they are in the log.
    Slow,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct FaultyStore {
    store: MemoryStore,
    fault: Mutex<Option<Fault>>,
}

impl FaultyStore {
    /// An empty store without a fault.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { store: MemoryStore::new(clock), fault: Mutex::default() }
    }

    pub(crate) fn set(&self, fault: Option<Fault>) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    fn has(&self, fault: Fault) -> bool {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) == Some(fault)
    }

    fn refuses(&self) -> Result<(), StoreError> {
        if self.has(Fault::Silent) {
            return Err(StoreError::Timeout);
        }
        if self.has(Fault::ReadOnly) { Err(StoreError::Server("no".into())) } else { Ok(()) }
    }
}

impl SharedStore for FaultyStore {
    fn get(&self, key: KeyHash) -> BoxFuture<'_, Result<Option<Bytes>, StoreError>> {
        self.store.get(key)
    }

    fn put(&self, key: KeyHash, value: Bytes, ttl: Duration) -> BoxFuture<'_, Result<(), StoreError>> {
        self.store.put(key, value, ttl)
    }

    fn remove(&self, key: KeyHash) -> BoxFuture<'_, Result<(), StoreError>> {
        self.store.remove(key)
    }

    fn lease(&self, key: KeyHash, token: LeaseToken, ttl: Duration) -> BoxFuture<'_, Result<bool, StoreError>> {
        let taken = self.store.lease(key, token, ttl);
        if self.has(Fault::LateLease) {
            self.set(None);
            return taken.map(|_| Err(StoreError::Timeout)).boxed();
        }
        taken
    }

    fn leased(&self, key: KeyHash, token: LeaseToken) -> BoxFuture<'_, Result<Lease, StoreError>> {
        self.store.leased(key, token)
    }

    fn release(
        &self,
        key: KeyHash,
        token: LeaseToken,
        vain: Option<Duration>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.store.release(key, token, vain)
    }

    fn note<'s>(&'s self, name: &'s str) -> BoxFuture<'s, Result<Option<Bytes>, StoreError>> {
        self.store.note(name)
    }

    fn swap_note<'s>(
        &'s self,
        name: &'s str,
        before: Option<Bytes>,
        after: Bytes,
        ttl: Duration,
    ) -> BoxFuture<'s, Result<bool, StoreError>> {
        self.store.swap_note(name, before, after, ttl)
    }

    fn append<'s>(&'s self, purges: &'s [Purge], keep: Duration) -> BoxFuture<'s, Result<Vec<PurgeSeq>, StoreError>> {
        if let Err(error) = self.refuses() {
            return ready(Err(error)).boxed();
        }
        let (lacks, is_late) = (self.has(Fault::Unreplicated), self.has(Fault::Slow) && purges.len() > 2);
        let appended = self.store.append(purges, keep);
        let told = move |seqs| match (lacks, is_late) {
            (true, _) => Err(StoreError::Unreplicated(seqs, "0 of 1".into())),
            (false, true) => Err(StoreError::Timeout),
            (false, false) => Ok(seqs),
        };
        appended.map(move |appended| appended.and_then(told)).boxed()
    }

    fn read_log(
        &self,
        after: PurgeSeq,
        most: usize,
        wait: Duration,
    ) -> BoxFuture<'_, Result<Vec<Written>, StoreError>> {
        self.store.read_log(after, most, wait)
    }

    fn look_log(&self, from: PurgeSeq, most: usize) -> BoxFuture<'_, Result<Vec<LogLine>, StoreError>> {
        self.store.look_log(from, most)
    }

    fn log_state(&self, applied: PurgeSeq) -> BoxFuture<'_, Result<LogState, StoreError>> {
        self.store.log_state(applied)
    }

    fn restore<'s>(
        &'s self,
        seq: PurgeSeq,
        purge: &'s Purge,
        keep: Duration,
    ) -> BoxFuture<'s, Result<bool, StoreError>> {
        match self.refuses() {
            Ok(()) => self.store.restore(seq, purge, keep),
            Err(error) => ready(Err(error)).boxed(),
        }
    }
}
