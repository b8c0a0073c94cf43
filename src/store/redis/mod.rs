//! L2 and the purge log in Redis (or a server that speaks its protocol): one server, one behind sentinels, or a
//! cluster.
//!
//! Entries are plain strings with a TTL at `NS:e:{HASH}`, leases at `NS:l:{HASH}`, the log is the stream
//! `NS:purges`, notes are strings with a TTL at `NS:{NAME}`. Every call has a deadline of ours; a breaker spares requests the wait.
//!
//! `topology` says who has a key, `links` reaches them, `entries` and `log` say what is asked there.

mod connect;
mod entries;
mod error;
mod eviction;
mod kept;
mod links;
mod log;
mod topology;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis::RedisError;
use tokio::sync::watch;

use self::connect::Connector;
pub use self::connect::{Credentials, Tls};
use self::entries::Entries;
pub use self::eviction::Eviction;
use self::links::Links;
use self::log::Log;
pub use self::topology::{Address, Topology};
use super::{Lease, LeaseToken, LogLine, LogState, SharedStore, StoreError, Written};
use crate::clock::Clock;
use crate::jitter::Jitter;
use crate::policy::key::KeyHash;
use crate::policy::purge::{Purge, PurgeSeq};
use crate::tasks::Tasks;

/// How to reach Redis, and how long to wait for it.
#[derive(Clone)]
pub struct RedisSettings {
    /// Where it is.
    pub topology: Topology,
    /// How TLS is spoken with all of its servers; `None` for not at all.
    pub tls: Option<Tls>,
    /// Who we are to the servers that have the data.
    pub credentials: Credentials,
    /// Who we are to the sentinels.
    pub sentinel_credentials: Credentials,
    /// The number of the database; a cluster has only 0.
    pub database: i64,
    /// Before every key.
    pub namespace: String,
    /// Connections to each server that share the commands for entries.
    pub connections: usize,
    /// Bytes of an entry as it is stored, at the most; of more only so much is read that it can be told.
    pub value_max: usize,
    /// Time to connect.
    pub connect_timeout: Duration,
    /// An entry must come within this time.
    pub deadline: Duration,
    /// What is asked about a lease must be answered within this time.
    pub lease_deadline: Duration,
    /// A line must be in the log within this time.
    pub append_deadline: Duration,
    /// Replicas that must have a line before it counts as appended.
    pub wait_replicas: u32,
    /// How long they may take.
    pub wait_timeout: Duration,
    /// Failures in a row that open the breaker.
    pub breaker_failures: u32,
    /// How long it stays open.
    pub breaker_open: Duration,
}

impl std::fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Neither passwords nor keys.
        f.debug_struct("RedisSettings").field("topology", &self.topology).finish_non_exhaustive()
    }
}

/// See the module.
pub struct RedisStore {
    entries: Entries,
    log: Log,
}

impl std::fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisStore").finish_non_exhaustive()
    }
}

impl RedisStore {
    /// Prepares the connections; none is made yet, so Redis may come later.
    ///
    /// # Errors
    /// A certificate or its key cannot be read.
    pub fn new(
        settings: &RedisSettings,
        clock: Arc<dyn Clock>,
        jitter: Jitter,
        tasks: Tasks,
    ) -> Result<Self, RedisError> {
        if settings.tls.is_some() {
            // Another part of the process may have chosen one; any will do.
            drop(rustls::crypto::ring::default_provider().install_default());
        }
        let connector = |credentials, database| {
            Connector::new(settings.tls.clone(), credentials, database, settings.connect_timeout)
        };
        let to_redis = connector(&settings.credentials, settings.database);
        to_redis.client(&Address::Tcp("localhost".to_owned(), 1))?;
        let to_sentinel = connector(&settings.sentinel_credentials, 0);
        let topology = settings.topology.clone();
        let patience = settings.append_deadline;
        let links = Arc::new(Links::new(topology, to_redis, to_sentinel, patience, tasks, Arc::new(jitter)));
        Ok(Self { entries: Entries::new(settings, Arc::clone(&links), clock), log: Log::new(settings, links) })
    }

    /// Whether Redis could evict the purge log, as of the last connection to it.
    pub fn eviction(&self) -> watch::Receiver<Eviction> {
        self.log.eviction()
    }
}

/// How often a deadline is given again at the most.
const LAGS_MAX: u32 = 10;

/// Waits for an answer until the deadline. One that passes while this process had no time to look, because
/// thousands of requests came at once, says nothing of Redis: its answer may long be here. It is given again.
async fn within<T>(deadline: Duration, answer: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    tokio::pin!(answer);
    for _ in 0..LAGS_MAX {
        let due = tokio::time::Instant::now() + deadline;
        if let Ok(answer) = tokio::time::timeout_at(due, &mut answer).await {
            return answer;
        }
        // An answer goes through two queues of this process, and the end of the deadline through one.
        if due.elapsed() < deadline / 4 {
            break;
        }
    }
    Err(StoreError::Timeout)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl SharedStore for RedisStore {
    fn get(&self, key: KeyHash) -> BoxFuture<'_, Result<Option<Bytes>, StoreError>> {
        self.entries.get(key).boxed()
    }

    fn put(&self, key: KeyHash, value: Bytes, ttl: Duration) -> BoxFuture<'_, Result<(), StoreError>> {
        async move { self.entries.put(key, &value, ttl).await }.boxed()
    }

    fn remove(&self, key: KeyHash) -> BoxFuture<'_, Result<(), StoreError>> {
        self.entries.remove(key).boxed()
    }

    fn lease(&self, key: KeyHash, token: LeaseToken, ttl: Duration) -> BoxFuture<'_, Result<bool, StoreError>> {
        self.entries.lease(key, token, ttl).boxed()
    }

    fn landed(&self, key: KeyHash) -> BoxFuture<'_, Result<Option<Bytes>, StoreError>> {
        self.entries.landed(key).boxed()
    }

    fn leased(&self, key: KeyHash, token: LeaseToken) -> BoxFuture<'_, Result<Lease, StoreError>> {
        self.entries.leased(key, token).boxed()
    }

    fn release(
        &self,
        key: KeyHash,
        token: LeaseToken,
        vain: Option<Duration>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.entries.release(key, token, vain).boxed()
    }

    fn note<'s>(&'s self, name: &'s str) -> BoxFuture<'s, Result<Option<Bytes>, StoreError>> {
        self.entries.note(name).boxed()
    }

    fn swap_note<'s>(
        &'s self,
        name: &'s str,
        before: Option<Bytes>,
        after: Bytes,
        ttl: Duration,
    ) -> BoxFuture<'s, Result<bool, StoreError>> {
        async move { self.entries.swap_note(name, before.as_deref(), &after, ttl).await }.boxed()
    }

    fn append<'s>(&'s self, purges: &'s [Purge], keep: Duration) -> BoxFuture<'s, Result<Vec<PurgeSeq>, StoreError>> {
        self.log.append(purges, keep).boxed()
    }

    fn read_log(
        &self,
        after: PurgeSeq,
        most: usize,
        wait: Duration,
    ) -> BoxFuture<'_, Result<Vec<Written>, StoreError>> {
        self.log.read(after, most, wait).boxed()
    }

    fn look_log(&self, from: PurgeSeq, most: usize) -> BoxFuture<'_, Result<Vec<LogLine>, StoreError>> {
        self.log.look(from, most).boxed()
    }

    fn log_state(&self, applied: PurgeSeq) -> BoxFuture<'_, Result<LogState, StoreError>> {
        self.log.state(applied).boxed()
    }

    fn restore<'s>(
        &'s self,
        seq: PurgeSeq,
        purge: &'s Purge,
        keep: Duration,
    ) -> BoxFuture<'s, Result<bool, StoreError>> {
        self.log.restore(seq, purge, keep).boxed()
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    const DEADLINE: Duration = Duration::from_millis(20);

    async fn asked() -> (oneshot::Sender<u8>, tokio::task::JoinHandle<Result<u8, StoreError>>) {
        let (answer, waits) = oneshot::channel();
        let answered = async { waits.await.map_err(|_| StoreError::Timeout) };
        #[expect(clippy::disallowed_methods, reason = "it ends with the test")]
        let asked = tokio::spawn(within(DEADLINE, answered));
        tokio::task::yield_now().await;
        (answer, asked)
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_silent_for_the_deadline_is_late() {
        let (_answer, asked) = asked().await;
        tokio::time::advance(DEADLINE + Duration::from_millis(1)).await;
        assert!(matches!(asked.await.unwrap(), Err(StoreError::Timeout)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_had_no_time_to_look_gives_the_deadline_again() {
        let (answer, asked) = asked().await;
        for _ in 1..LAGS_MAX {
            tokio::time::advance(DEADLINE * 2).await;
            tokio::task::yield_now().await;
        }
        assert!(!asked.is_finished());
        answer.send(7).unwrap();
        assert!(matches!(asked.await.unwrap(), Ok(7)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_is_not_given_again_for_ever() {
        let (_answer, asked) = asked().await;
        for _ in 0..LAGS_MAX {
            tokio::time::advance(DEADLINE * 2).await;
            tokio::task::yield_now().await;
        }
        assert!(matches!(asked.await.unwrap(), Err(StoreError::Timeout)));
    }
}
