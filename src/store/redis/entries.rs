//! Entries and leases. A read has little time, and is spared while the breaker is open.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use redis::{Cmd, FromRedisValue};

use super::RedisSettings;
use super::links::{Links, Purpose};
use super::topology::slot;
use super::{millis, within};
use crate::clock::Clock;
use crate::policy::breaker::Breaker;
use crate::policy::key::KeyHash;
use crate::store::{Lease, LeaseToken, NOTE_BYTES_MAX, StoreError};

/// What a lease says that is not worth waiting for. No holder is called so.
const VAIN: &str = "-";
/// Ends a lease if its holder (ARGV 1) still has it: it is gone, or says ARGV 2 for ARGV 3 milliseconds.
const RELEASE: &str = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end \
    if ARGV[2] then redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) else redis.call('DEL', KEYS[1]) end return 1";

/// Writes ARGV 2 for ARGV 3 milliseconds where ARGV 1 stands, empty for nothing, as far as byte ARGV 4.
const SWAP: &str = "if redis.call('GETRANGE', KEYS[1], 0, ARGV[4]) ~= ARGV[1] then return 0 end \
    redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) return 1";

/// See the module.
pub(super) struct Entries {
    links: Arc<Links>,
    namespace: String,
    connections: usize,
    next: AtomicUsize,
    value_max: usize,
    deadline: Duration,
    /// A crowd waits for one lease, and may be why it comes late: it has more time than a look-up.
    lease_deadline: Duration,
    /// Nobody waits for a write, and a large one is slow without Redis being sick: it has more time.
    write_deadline: Duration,
    breaker: Mutex<Breaker>,
    clock: Arc<dyn Clock>,
}

impl Entries {
    pub(super) fn new(settings: &RedisSettings, links: Arc<Links>, clock: Arc<dyn Clock>) -> Self {
        Self {
            links,
            namespace: settings.namespace.clone(),
            connections: settings.connections.max(1),
            next: AtomicUsize::new(0),
            value_max: settings.value_max,
            deadline: settings.deadline,
            lease_deadline: settings.lease_deadline.max(settings.deadline),
            write_deadline: settings.append_deadline,
            breaker: Mutex::new(Breaker::new(settings.breaker_failures, settings.breaker_open)),
            clock,
        }
    }

    pub(super) async fn get(&self, key: KeyHash) -> Result<Option<Bytes>, StoreError> {
        self.get_within(self.deadline, key).await
    }

    /// As [`Entries::get`], with the patience of a lease.
    pub(super) async fn landed(&self, key: KeyHash) -> Result<Option<Bytes>, StoreError> {
        self.get_within(self.lease_deadline, key).await
    }

    async fn get_within(&self, deadline: Duration, key: KeyHash) -> Result<Option<Bytes>, StoreError> {
        // One byte more than what may be there: a foreign value of any size is no more than too large.
        let mut command = redis::cmd("GETRANGE");
        command.arg(self.entry(key)).arg(0).arg(self.value_max);
        let found = self.spared::<Vec<u8>>(key, command, deadline).await?;
        // Nothing that is ours is empty.
        Ok((!found.is_empty()).then(|| Bytes::from(found)))
    }

    pub(super) async fn put(&self, key: KeyHash, value: &[u8], ttl: Duration) -> Result<(), StoreError> {
        let mut command = redis::cmd("SET");
        command.arg(self.entry(key)).arg(value).arg("PX").arg(millis(ttl).max(1));
        // What becomes of it says nothing to the breaker.
        if self.breaker().is_open(self.clock.now()) {
            return Err(StoreError::Open);
        }
        self.ask::<()>(&self.entry(key), command, self.write_deadline).await
    }

    pub(super) async fn remove(&self, key: KeyHash) -> Result<(), StoreError> {
        let mut command = redis::cmd("DEL");
        command.arg(self.entry(key));
        self.spared::<i64>(key, command, self.deadline).await.map(drop)
    }

    pub(super) async fn lease(&self, key: KeyHash, token: LeaseToken, ttl: Duration) -> Result<bool, StoreError> {
        let mut command = redis::cmd("SET");
        command.arg(self.lease_key(key)).arg(holder(token)).arg("NX").arg("PX").arg(millis(ttl).max(1));
        Ok(self.spared::<Option<String>>(key, command, self.lease_deadline).await?.is_some())
    }

    pub(super) async fn leased(&self, key: KeyHash, token: LeaseToken) -> Result<Lease, StoreError> {
        // What somebody else has put there may be long.
        let mut command = redis::cmd("GETRANGE");
        command.arg(self.lease_key(key)).arg(0).arg(HOLDER_BYTES);
        let held = self.spared::<Vec<u8>>(key, command, self.lease_deadline).await?;
        Ok(match held.as_slice() {
            [] => Lease::Free,
            word if word == VAIN.as_bytes() => Lease::Vain,
            ours if ours == holder(token).as_bytes() => Lease::Ours,
            token if token.len() == HOLDER_BYTES && token.iter().all(u8::is_ascii_hexdigit) => Lease::Held,
            _ => Lease::Foreign,
        })
    }

    pub(super) async fn release(
        &self,
        key: KeyHash,
        token: LeaseToken,
        vain: Option<Duration>,
    ) -> Result<(), StoreError> {
        // Asked and done in one step: a lease that ran out may be somebody else's by now.
        let mut command = redis::cmd("EVAL");
        command.arg(RELEASE).arg(1).arg(self.lease_key(key)).arg(holder(token));
        if let Some(vain) = vain {
            command.arg(VAIN).arg(millis(vain).max(1));
        }
        self.spared::<i64>(key, command, self.lease_deadline).await.map(drop)
    }

    pub(super) async fn note(&self, name: &str) -> Result<Option<Bytes>, StoreError> {
        let key = self.note_key(name);
        let mut command = redis::cmd("GETRANGE");
        command.arg(&key).arg(0).arg(NOTE_BYTES_MAX);
        let found = self.ask::<Vec<u8>>(&key, command, self.write_deadline).await?;
        Ok((!found.is_empty()).then(|| Bytes::from(found)))
    }

    pub(super) async fn swap_note(
        &self,
        name: &str,
        before: Option<&[u8]>,
        after: &[u8],
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        let key = self.note_key(name);
        let mut command = redis::cmd("EVAL");
        command.arg(SWAP).arg(1).arg(&key).arg(before.unwrap_or_default()).arg(after).arg(millis(ttl).max(1));
        command.arg(NOTE_BYTES_MAX);
        Ok(self.ask::<i64>(&key, command, self.write_deadline).await? == 1)
    }

    fn note_key(&self, name: &str) -> String {
        format!("{}:{name}", self.namespace)
    }

    // The braces put an entry and its lease into one slot of a cluster, and so on one server; a variant's lease is
    // its own, while its entry's place is one of its URL's.
    fn entry(&self, key: KeyHash) -> String {
        format!("{}:e:{{{key}}}", self.namespace)
    }

    fn lease_key(&self, key: KeyHash) -> String {
        format!("{}:l:{{{key}}}", self.namespace)
    }

    fn breaker(&self) -> std::sync::MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A command that somebody waits for: bounded, and spared while the breaker is open.
    async fn spared<T: FromRedisValue>(&self, key: KeyHash, command: Cmd, deadline: Duration) -> Result<T, StoreError> {
        if !self.breaker().admits(self.clock.now()) {
            return Err(StoreError::Open);
        }
        let outcome = self.ask(&self.entry(key), command, deadline).await;
        match &outcome {
            // A server that refuses is alive: only silence and broken connections count.
            Ok(_)
            | Err(StoreError::Server(_) | StoreError::Refused(..) | StoreError::Unreplicated(..) | StoreError::Gone) => {
                if self.breaker().succeeded() {
                    tracing::info!(tier = "l2", "shared store answers again");
                }
            }
            Err(error @ (StoreError::Timeout | StoreError::Connection(_) | StoreError::Open)) => {
                if self.breaker().failed(self.clock.now()) {
                    tracing::warn!(tier = "l2", %error, "shared store fails, going on without it");
                }
            }
        }
        outcome
    }

    /// Sends a command that is about this key, or about another in its slot.
    async fn ask<T: FromRedisValue>(&self, key: &str, command: Cmd, deadline: Duration) -> Result<T, StoreError> {
        let purpose = Purpose::Entries(self.next.fetch_add(1, Ordering::Relaxed) % self.connections);
        let slot = slot(key);
        let mut pipeline = redis::pipe();
        pipeline.add_command(command);
        let answer = within(deadline, self.links.call(purpose, slot, &pipeline)).await?.pop();
        let answer = answer.unwrap_or(Ok(redis::Value::Nil))?;
        redis::from_redis_value(answer).map_err(|error| StoreError::Server(error.to_string()))
    }
}

/// A token as it stands in a lease.
const HOLDER_BYTES: usize = 32;

fn holder(token: LeaseToken) -> String {
    format!("{:032x}", token.0)
}
