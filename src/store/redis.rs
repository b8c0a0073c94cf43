//! L2 and the purge log in Redis (or a server that speaks its protocol).
//!
//! Entries are plain strings with a TTL at `NS:e:{HASH}`, leases at `NS:l:{HASH}`, the log is the stream
//! `NS:purges`. The braces are Redis' own: they put an entry and its lease into one slot of a cluster.
//! Every call has a deadline of ours around the client's own, because a client that is reconnecting
//! waits longer than its response time-out says; a breaker spares requests that wait.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis::aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection};
use redis::{AsyncConnectionConfig, Client, Cmd, ConnectionAddr, FromRedisValue, IntoConnectionInfo, RedisError};

use super::{Lease, LeaseToken, LogLine, LogState, SharedStore, StoreError, line};
use crate::clock::Clock;
use crate::policy::breaker::Breaker;
use crate::policy::key::KeyHash;
use crate::policy::purge::{Purge, PurgeSeq};

/// How to reach Redis, and how long to wait for it.
#[derive(Clone)]
pub struct RedisSettings {
    /// Where it listens.
    pub address: ConnectionAddr,
    /// The number of the database.
    pub database: i64,
    /// The user, where there is one.
    pub username: Option<String>,
    /// The password, where there is one.
    pub password: Option<String>,
    /// Before every key.
    pub namespace: String,
    /// Connections that share the commands.
    pub connections: usize,
    /// Time to connect.
    pub connect_timeout: Duration,
    /// An entry must come within this time.
    pub deadline: Duration,
    /// A line must be in the log within this time.
    pub append_deadline: Duration,
    /// Failures in a row that open the breaker.
    pub breaker_failures: u32,
    /// How long it stays open.
    pub breaker_open: Duration,
}

impl std::fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the password.
        f.debug_struct("RedisSettings").field("address", &self.address).finish_non_exhaustive()
    }
}

/// See the module.
pub struct RedisStore {
    settings: RedisSettings,
    client: Client,
    managers: Vec<ConnectionManager>,
    next: AtomicUsize,
    /// The reader of the log blocks on its own connection, never on a shared one.
    reader: tokio::sync::Mutex<Option<MultiplexedConnection>>,
    breaker: Mutex<Breaker>,
    /// The server's time in the newest id seen: the log is cut by the server's clock, not by ours.
    newest_ms: std::sync::atomic::AtomicU64,
    clock: Arc<dyn Clock>,
    log_key: String,
}

impl std::fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisStore").field("namespace", &self.settings.namespace).finish_non_exhaustive()
    }
}

/// What a lease says that is not worth waiting for. No holder is called so.
const VAIN: &str = "-";
/// Ends a lease if its holder (ARGV 1) still has it: it is gone, or says ARGV 2 for ARGV 3 milliseconds.
const RELEASE: &str = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end \
    if ARGV[2] then redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) else redis.call('DEL', KEYS[1]) end return 1";
/// What the log outlives its last line by, at the least.
const LOG_MARGIN: Duration = Duration::from_secs(24 * 3600);

impl RedisStore {
    /// Prepares the connections; none is made yet, so Redis may come later.
    ///
    /// # Errors
    /// The address is of a kind that was not built in.
    pub fn new(settings: RedisSettings, clock: Arc<dyn Clock>) -> Result<Self, RedisError> {
        let mut info = settings.address.clone().into_connection_info()?;
        let mut redis = info.redis_settings().clone().set_db(settings.database);
        if let Some(username) = &settings.username {
            redis = redis.set_username(username);
        }
        if let Some(password) = &settings.password {
            redis = redis.set_password(password);
        }
        info = info.set_redis_settings(redis);
        if matches!(info.addr(), ConnectionAddr::Tcp(..)) {
            // A peer that vanished without a word is given up after two seconds, not after TCP's minutes.
            let tcp = redis::io::tcp::TcpSettings::default().set_nodelay(true);
            #[cfg(target_os = "linux")]
            let tcp = tcp.set_user_timeout(Duration::from_secs(2));
            info = info.set_tcp_settings(tcp);
        }
        let client = Client::open(info)?;
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(1)
            .set_max_delay(Duration::from_secs(1))
            .set_connection_timeout(Some(settings.connect_timeout))
            .set_response_timeout(Some(settings.append_deadline));
        let managers = (0..settings.connections.max(1))
            .map(|_| client.get_connection_manager_lazy(config.clone()))
            .collect::<Result<_, _>>()?;
        let breaker = Mutex::new(Breaker::new(settings.breaker_failures, settings.breaker_open));
        let log_key = format!("{}:purges", settings.namespace);
        Ok(Self {
            settings,
            client,
            managers,
            next: AtomicUsize::new(0),
            reader: tokio::sync::Mutex::new(None),
            breaker,
            newest_ms: std::sync::atomic::AtomicU64::new(0),
            clock,
            log_key,
        })
    }

    /// Whether the breaker spares requests now.
    pub fn is_open(&self) -> bool {
        self.breaker().is_open(self.clock.now())
    }

    fn breaker(&self) -> std::sync::MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry_key(&self, key: KeyHash) -> String {
        format!("{}:e:{{{key}}}", self.settings.namespace)
    }

    fn lease_key(&self, key: KeyHash) -> String {
        format!("{}:l:{{{key}}}", self.settings.namespace)
    }

    fn manager(&self) -> ConnectionManager {
        let at = self.next.fetch_add(1, Ordering::Relaxed) % self.managers.len();
        self.managers[at].clone()
    }

    /// A read of an entry: bounded, and spared while the breaker is open.
    async fn spared<T: FromRedisValue>(&self, command: Cmd) -> Result<T, StoreError> {
        if !self.breaker().admits(self.clock.now()) {
            return Err(StoreError::Open);
        }
        let outcome = self.ask(command, self.settings.deadline).await;
        match &outcome {
            // A server that refuses is alive: only silence and broken connections count.
            Ok(_) | Err(StoreError::Server(_)) => {
                if self.breaker().succeeded() {
                    tracing::info!(tier = "l2", "shared store answers again");
                }
            }
            Err(error) => {
                if self.breaker().failed(self.clock.now()) {
                    tracing::warn!(tier = "l2", %error, "shared store fails, going on without it");
                }
            }
        }
        outcome
    }

    async fn ask<T: FromRedisValue>(&self, command: Cmd, deadline: Duration) -> Result<T, StoreError> {
        let mut manager = self.manager();
        within(deadline, command.query_async(&mut manager)).await
    }

    fn saw(&self, seq: PurgeSeq) {
        self.newest_ms.fetch_max(seq.logged_at().as_millis(), Ordering::Relaxed);
    }
}

async fn within<T>(deadline: Duration, answer: impl Future<Output = redis::RedisResult<T>>) -> Result<T, StoreError> {
    match tokio::time::timeout(deadline, answer).await {
        Err(_) => Err(StoreError::Timeout),
        Ok(answer) => answer.map_err(|error| store_error(&error)),
    }
}

fn store_error(error: &RedisError) -> StoreError {
    if error.is_timeout() {
        StoreError::Timeout
    } else if error.is_io_error() || error.is_connection_dropped() || error.is_connection_refusal() {
        StoreError::Connection(error.to_string())
    } else {
        StoreError::Server(error.to_string())
    }
}

fn id(seq: PurgeSeq) -> String {
    seq.shared().to_string()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl SharedStore for RedisStore {
    fn get(&self, key: KeyHash) -> BoxFuture<'_, Result<Option<Bytes>, StoreError>> {
        let mut command = redis::cmd("GET");
        command.arg(self.entry_key(key));
        async move { Ok(self.spared::<Option<Vec<u8>>>(command).await?.map(Bytes::from)) }.boxed()
    }

    fn put(&self, key: KeyHash, value: Bytes, ttl: Duration) -> BoxFuture<'_, Result<(), StoreError>> {
        let mut command = redis::cmd("SET");
        command.arg(self.entry_key(key)).arg(&value[..]).arg("PX").arg(millis(ttl).max(1));
        async move {
            // Nobody waits for a write, and a large one is slow without Redis being sick: it has more
            // time than a read, and says nothing to the breaker.
            if self.is_open() {
                return Err(StoreError::Open);
            }
            self.ask::<()>(command, self.settings.append_deadline).await
        }
        .boxed()
    }

    fn remove(&self, key: KeyHash) -> BoxFuture<'_, Result<(), StoreError>> {
        let mut command = redis::cmd("DEL");
        command.arg(self.entry_key(key));
        async move { self.spared::<i64>(command).await.map(drop) }.boxed()
    }

    fn lease(&self, key: KeyHash, token: LeaseToken, ttl: Duration) -> BoxFuture<'_, Result<bool, StoreError>> {
        let mut command = redis::cmd("SET");
        command.arg(self.lease_key(key)).arg(holder(token)).arg("NX").arg("PX").arg(millis(ttl).max(1));
        async move { Ok(self.spared::<Option<String>>(command).await?.is_some()) }.boxed()
    }

    fn look(&self, key: KeyHash) -> BoxFuture<'_, Result<(Option<Bytes>, Lease), StoreError>> {
        let mut command = redis::cmd("MGET");
        command.arg(self.entry_key(key)).arg(self.lease_key(key));
        async move {
            let (value, lease): (Option<Vec<u8>>, Option<Vec<u8>>) = self.spared(command).await?;
            let lease = match lease {
                None => Lease::Free,
                Some(holder) if holder == VAIN.as_bytes() => Lease::Vain,
                Some(_) => Lease::Held,
            };
            Ok((value.map(Bytes::from), lease))
        }
        .boxed()
    }

    fn release(
        &self,
        key: KeyHash,
        token: LeaseToken,
        vain: Option<Duration>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        // Asked and done in one step: a lease that ran out may be somebody else's by now.
        let mut command = redis::cmd("EVAL");
        command.arg(RELEASE).arg(1).arg(self.lease_key(key)).arg(holder(token));
        if let Some(vain) = vain {
            command.arg(VAIN).arg(millis(vain).max(1));
        }
        async move { self.spared::<i64>(command).await.map(drop) }.boxed()
    }

    fn append<'s>(&'s self, purge: &'s Purge, keep: Duration) -> BoxFuture<'s, Result<PurgeSeq, StoreError>> {
        async move {
            let oldest = self.newest_ms.load(Ordering::Relaxed).saturating_sub(millis(keep));
            let mut pipeline = redis::pipe();
            pipeline.cmd("XADD").arg(&self.log_key).arg("MINID").arg("~").arg(oldest).arg("*");
            pipeline.arg("v").arg(line::VERSION).arg("p").arg(line::encode(purge));
            // What the stream's own life is set to says nothing of whether the line is in it.
            pipeline.cmd("PEXPIRE").arg(&self.log_key).arg(millis(keep + LOG_MARGIN)).ignore();
            let mut manager = self.manager();
            let (appended,): (String,) =
                within(self.settings.append_deadline, pipeline.query_async(&mut manager)).await?;
            let seq = PurgeSeq::parse(&appended).ok_or_else(|| beyond(&appended))?;
            self.saw(seq);
            Ok(seq)
        }
        .boxed()
    }

    fn read_log(
        &self,
        after: PurgeSeq,
        most: usize,
        wait: Duration,
    ) -> BoxFuture<'_, Result<Vec<LogLine>, StoreError>> {
        async move {
            let mut reader = self.reader.lock().await;
            // Taken out while it is used: a reader that failed or was dropped half-way is not used again.
            let mut connection = match reader.take() {
                Some(connection) => connection,
                None => {
                    let config = AsyncConnectionConfig::new()
                        .set_connection_timeout(Some(self.settings.connect_timeout))
                        .set_response_timeout(None);
                    self.client
                        .get_multiplexed_async_connection_with_config(&config)
                        .await
                        .map_err(|error| store_error(&error))?
                }
            };
            let mut command = redis::cmd("XREAD");
            command.arg("COUNT").arg(most);
            if !wait.is_zero() {
                command.arg("BLOCK").arg(millis(wait).max(1));
            }
            command.arg("STREAMS").arg(&self.log_key).arg(id(after));
            let patience = wait + self.settings.connect_timeout + self.settings.append_deadline;
            let answer: redis::Value = match tokio::time::timeout(patience, command.query_async(&mut connection)).await
            {
                Err(_) => return Err(StoreError::Timeout),
                Ok(Err(error)) => return Err(store_error(&error)),
                Ok(Ok(answer)) => answer,
            };
            *reader = Some(connection);
            let lines = lines(answer)?;
            if let Some(newest) = lines.last() {
                self.saw(newest.seq);
            }
            Ok(lines)
        }
        .boxed()
    }

    fn log_state(&self, applied: PurgeSeq) -> BoxFuture<'_, Result<LogState, StoreError>> {
        async move {
            let deadline = self.settings.append_deadline;
            let edge = |command: &str| {
                let mut command = redis::cmd(command);
                command.arg(&self.log_key);
                command
            };
            let mut newest = edge("XREVRANGE");
            newest.arg("+").arg("-").arg("COUNT").arg(1);
            let newest = entries(self.ask(newest, deadline).await?)?;
            let Some(newest) = newest.last() else {
                let is_new = applied.shared() == PurgeSeq::ZERO;
                return Ok(if is_new { LogState::Continues } else { LogState::Lost(PurgeSeq::ZERO) });
            };
            self.saw(newest.seq);
            if newest.seq < applied.shared() {
                return Ok(LogState::Lost(newest.seq));
            }
            let mut oldest = edge("XRANGE");
            oldest.arg("-").arg("+").arg("COUNT").arg(1);
            let oldest = entries(self.ask(oldest, deadline).await?)?;
            Ok(match oldest.first() {
                // Also for a reader that has applied nothing: what stood before the first line, nobody knows.
                Some(first) if first.seq > applied.shared() => LogState::Trimmed(first.seq),
                _ => LogState::Continues,
            })
        }
        .boxed()
    }

    fn restore<'s>(&'s self, seq: PurgeSeq, purge: &'s Purge) -> BoxFuture<'s, Result<bool, StoreError>> {
        async move {
            let deadline = self.settings.append_deadline;
            let mut command = redis::cmd("XADD");
            command.arg(&self.log_key).arg(id(seq)).arg("v").arg(line::VERSION).arg("p").arg(line::encode(purge));
            match self.ask::<String>(command, deadline).await {
                Ok(_) => Ok(true),
                // The log stands there or later already: another node may have been faster.
                Err(StoreError::Server(text)) if text.contains("equal or smaller") => {
                    let mut command = redis::cmd("XRANGE");
                    command.arg(&self.log_key).arg(id(seq)).arg(id(seq));
                    Ok(!entries(self.ask(command, deadline).await?)?.is_empty())
                }
                Err(error) => Err(error),
            }
        }
        .boxed()
    }
}

fn holder(token: LeaseToken) -> String {
    format!("{:032x}", token.0)
}

/// An id that no healthy log holds is somebody else's hand in our stream, and all later ids stand behind it:
/// nothing can be ordered by such a log.
fn beyond(id: &str) -> StoreError {
    let shown = id.get(..id.floor_char_boundary(60)).unwrap_or("");
    StoreError::Server(format!("the purge log holds the id {shown:?}, which Redis has not made; delete the stream"))
}

/// The lines in an answer to XREAD: nil, or one stream's entries (a list of pairs, or a map in RESP3).
fn lines(answer: redis::Value) -> Result<Vec<LogLine>, StoreError> {
    match answer {
        redis::Value::Nil => Ok(Vec::new()),
        redis::Value::Array(mut streams) => match streams.pop() {
            None => Ok(Vec::new()),
            Some(redis::Value::Array(mut stream)) => stream.pop().map_or_else(|| Ok(Vec::new()), entries),
            Some(other) => Err(odd(&other)),
        },
        redis::Value::Map(mut streams) => streams.pop().map_or_else(|| Ok(Vec::new()), |(_, found)| entries(found)),
        other => Err(odd(&other)),
    }
}

/// `[[id, [field, value, …]], …]`. What cannot be read as a line keeps its place with nothing in it.
fn entries(found: redis::Value) -> Result<Vec<LogLine>, StoreError> {
    let redis::Value::Array(found) = found else { return Err(odd(&found)) };
    let mut lines = Vec::with_capacity(found.len());
    for entry in found {
        let (id, fields): (String, Vec<Vec<u8>>) =
            redis::from_redis_value(entry).map_err(|error| StoreError::Server(error.to_string()))?;
        let seq = PurgeSeq::parse(&id).ok_or_else(|| beyond(&id))?;
        lines.push(LogLine { seq, purge: purge(&fields) });
    }
    Ok(lines)
}

fn purge(fields: &[Vec<u8>]) -> Option<Purge> {
    let field = |name: &[u8]| fields.chunks_exact(2).find(|pair| pair[0] == name).map(|pair| pair[1].as_slice());
    (field(b"v")? == line::VERSION.as_bytes()).then_some(())?;
    line::decode(field(b"p")?)
}

fn odd(answer: &redis::Value) -> StoreError {
    let mut text = format!("{answer:?}");
    text.truncate(text.floor_char_boundary(120));
    StoreError::Server(format!("odd answer {text}"))
}
