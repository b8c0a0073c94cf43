//! The purge log: one stream, on whichever server has its slot.
//!
//! It is read on a connection of its own, because a read that waits blocks a connection. The state of the log
//! is looked at on that same connection, and whatever ends it is an error to the reader, once: whoever reads on
//! from another server must first look whether that one has all that was read before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, Value};
use tokio::sync::{Mutex, watch};

use super::error::{answered, odd, redirected};
use super::eviction::{self, Eviction};
use super::links::{Links, Purpose, send};
use super::topology::{Address, slot};
use super::{RedisSettings, Topology, millis, within};
use crate::policy::purge::{Purge, PurgeSeq};
use crate::store::{Denial, Edges, LogLine, LogState, StoreError, Written, line};
use crate::tasks::Tasks;

/// What the log outlives its last line by, at the least.
const MARGIN: Duration = Duration::from_secs(24 * 3600);
/// Commands that [`Log::keep`] adds.
const KEEP_COMMANDS: usize = 3;
/// How often a new reader is sent on to another server.
const REDIRECTS_MAX: usize = 4;

/// Notes beside the log how far it has come; what is noted never falls back. It is a stream of one line, because Redis
/// keeps the ids of a stream in order.
const MARK: &str = "local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if newest then redis.pcall('XADD', KEYS[2], 'MAXLEN', 1, newest[1], 'n', '') end";

/// See the module.
pub(super) struct Log {
    links: Arc<Links>,
    key: String,
    /// Where the mark stands, in the same slot.
    mark: String,
    slot: u16,
    connect_timeout: Duration,
    append_deadline: Duration,
    wait_replicas: u32,
    wait_timeout: Duration,
    /// Taken out while it is used: one that failed or was dropped half-way is not used again.
    reader: Mutex<Option<Reader>>,
    /// The server's time in the newest id seen: the log is cut by the server's clock, not by ours.
    newest_ms: AtomicU64,
    eviction: watch::Sender<Eviction>,
    /// In a cluster replicas send readers on.
    asks_role: bool,
    /// It was refused on this connection.
    is_role_refused: AtomicBool,
    /// It was said that what follows a line is refused.
    is_kept_in_vain: AtomicBool,
}

struct Reader {
    connection: MultiplexedConnection,
    /// Who had the slot when it was made.
    owner: Address,
    /// The slot was on its way to the server that is read from.
    is_asking: bool,
}

impl Log {
    pub(super) fn new(settings: &RedisSettings, links: Arc<Links>) -> Self {
        let key = format!("{}:purges", settings.namespace);
        Self {
            links,
            slot: slot(&key),
            mark: format!("{}:mark:{{{key}}}", settings.namespace),
            key,
            connect_timeout: settings.connect_timeout,
            append_deadline: settings.append_deadline,
            wait_replicas: settings.wait_replicas,
            wait_timeout: settings.wait_timeout,
            reader: Mutex::default(),
            newest_ms: AtomicU64::new(0),
            eviction: watch::Sender::default(),
            asks_role: !matches!(settings.topology, Topology::Cluster(_)),
            is_role_refused: AtomicBool::new(false),
            is_kept_in_vain: AtomicBool::new(false),
        }
    }

    /// Whether the log's server could evict it, as of the last connection to it.
    pub(super) fn eviction(&self) -> watch::Receiver<Eviction> {
        self.eviction.subscribe()
    }

    pub(super) async fn append(&self, purges: &[Purge], keep: Duration) -> Result<Vec<PurgeSeq>, StoreError> {
        let oldest = self.newest_ms.load(Ordering::Relaxed).saturating_sub(millis(keep));
        let mut commands = redis::pipe();
        for purge in purges {
            commands.cmd("XADD").arg(&self.key).arg("MINID").arg("~").arg(oldest).arg("*");
            commands.arg(line::FIELD).arg(line::encode(purge));
        }
        self.keep(&mut commands, keep);
        if self.wait_replicas > 0 {
            commands.cmd("WAIT").arg(self.wait_replicas).arg(millis(self.wait_timeout).max(1));
        }
        let mut answers = self.write(&commands).await?.into_iter();
        let mut seqs = Vec::with_capacity(purges.len());
        for _ in purges {
            let appended = text(answers.next().unwrap_or(Ok(Value::Nil))?)?;
            let seq = PurgeSeq::parse(&appended).ok_or_else(|| beyond(&appended))?;
            self.saw(seq);
            seqs.push(seq);
        }
        // What follows the lines says nothing of whether they are in it.
        let refused = answers.by_ref().take(KEEP_COMMANDS).filter_map(Result::err).last();
        if let Some(error) = &refused
            && !self.is_kept_in_vain.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(%error, key = self.mark, "Redis does not take how long the purge log is kept, or how far it has come");
        } else if refused.is_none() {
            self.is_kept_in_vain.store(false, Ordering::Relaxed);
        }
        if let Some(replicas) = answers.next() {
            let count = replicas?;
            let Value::Int(count) = count else { return Err(odd(&count)) };
            if count < i64::from(self.wait_replicas) {
                let text = format!("{count} of {} after {:?}", self.wait_replicas, self.wait_timeout);
                // One of them may have taken its place.
                self.links.look_again();
                return Err(StoreError::Unreplicated(seqs, text));
            }
        }
        Ok(seqs)
    }

    pub(super) async fn restore(&self, seq: PurgeSeq, purge: &Purge, keep: Duration) -> Result<bool, StoreError> {
        let line = line::encode(purge);
        let mut commands = redis::pipe();
        commands.cmd("XADD").arg(&self.key).arg(id(seq)).arg(line::FIELD).arg(&line);
        self.keep(&mut commands, keep);
        match self.write(&commands).await?.into_iter().next().unwrap_or(Ok(Value::Nil)) {
            Ok(_) => Ok(true),
            // The log stands there or later already: another node may have been faster.
            Err(StoreError::Server(text)) if text.contains("equal or smaller") => {
                let mut commands = redis::pipe();
                commands.cmd("XRANGE").arg(&self.key).arg(id(seq)).arg(id(seq));
                let found = self.write(&commands).await?.pop().unwrap_or(Ok(Value::Nil))?;
                Ok(entries(found)?.first().is_some_and(|found| found.text == line.as_bytes()))
            }
            Err(error) => Err(error),
        }
    }

    pub(super) async fn read(&self, after: PurgeSeq, most: usize, wait: Duration) -> Result<Vec<Written>, StoreError> {
        let mut commands = redis::pipe();
        commands.cmd("XREAD").arg("COUNT").arg(most);
        if !wait.is_zero() {
            commands.arg("BLOCK").arg(millis(wait).max(1));
        }
        commands.arg("STREAMS").arg(&self.key).arg(id(after));
        // Asked last: a log that is lost while the first question waits, and begun anew, is found out.
        commands.cmd("XRANGE").arg(&self.key).arg(id(after)).arg(id(after));
        if self.asks_role && !self.is_role_refused.load(Ordering::Relaxed) {
            commands.cmd("ROLE");
        }
        let mut answers = self.ask(&commands, wait).await?.into_iter();
        let mut answer = || answers.next().unwrap_or(Ok(Value::Nil));
        let (found, last, role) = (answer()?, answer()?, answer());
        if let Err(error) = self.is_read_from_master(role) {
            // The same address may lead to the master the next time.
            self.reader.lock().await.take();
            return Err(error);
        }
        if after != PurgeSeq::ZERO && entries(last)?.is_empty() {
            return Err(StoreError::Gone);
        }
        let lines = lines(found)?;
        if let Some(newest) = lines.last() {
            self.saw(newest.seq);
        }
        Ok(lines)
    }

    /// A master that was made a replica knows what its own master tells it, and does not say when that falls silent.
    fn is_read_from_master(&self, role: Result<Value, StoreError>) -> Result<(), StoreError> {
        let Ok(role) = role else {
            // A user without the right, or a server without the command.
            if !self.is_role_refused.swap(true, Ordering::Relaxed) {
                tracing::warn!(key = self.key, "Redis does not say whether it is the master: let our user call ROLE");
            }
            return Ok(());
        };
        let Value::Array(role) = role else { return Ok(()) };
        match role.into_iter().next().and_then(|word| redis::from_redis_value::<String>(word).ok()).as_deref() {
            Some("slave" | "replica") => {
                let text = "the server that the purge log is read from is a replica now";
                Err(StoreError::Refused(Denial::ReadOnly, text.into()))
            }
            // What servers with roles of their own say.
            _ => Ok(()),
        }
    }

    pub(super) async fn look(&self, from: PurgeSeq, most: usize) -> Result<Vec<LogLine>, StoreError> {
        let mut commands = redis::pipe();
        commands.cmd("XRANGE").arg(&self.key).arg(id(from)).arg("+").arg("COUNT").arg(most);
        let called = self.links.call(Purpose::History, self.slot, &commands);
        let found = within(self.append_deadline, called).await?.pop().unwrap_or(Ok(Value::Nil))?;
        let lines = entries(found)?;
        let bytes = lines.iter().map(Written::bytes).sum();
        Ok(Tasks::compute(bytes, move || lines.iter().map(Written::read).collect()).await)
    }

    pub(super) async fn state(&self, applied: PurgeSeq) -> Result<LogState, StoreError> {
        let applied = applied.shared();
        let mut commands = redis::pipe();
        // In this order: where the slot is on its way to another server, the log tells where it is. What is appended
        // between two questions was not lost, and whatever is cut off is `Trimmed`.
        commands.cmd("XREVRANGE").arg(&self.key).arg(id(applied)).arg("-").arg("COUNT").arg(1);
        for key in [&self.mark, &self.key] {
            commands.cmd("XREVRANGE").arg(key).arg("+").arg("-").arg("COUNT").arg(1);
        }
        commands.cmd("XRANGE").arg(&self.key).arg("-").arg("+").arg("COUNT").arg(1);
        let mut answers = self.ask(&commands, Duration::ZERO).await?.into_iter();
        let mut edge = || Ok(entries(answers.next().unwrap_or(Ok(Value::Nil))?)?.first().map(|line| line.seq));
        let held = edge()?;
        // What cannot be read there is no mark: somebody else's hand, or a slot on its way to another server.
        let mark = edge().unwrap_or_else(|error: StoreError| {
            tracing::warn!(%error, key = self.mark, "how far the purge log has come cannot be read");
            None
        });
        let (newest, oldest) = (edge()?, edge()?);
        if let Some(newest) = newest {
            self.saw(newest);
        }
        Ok(LogState::of(applied, Edges { oldest, held, newest, mark }))
    }

    /// What follows each line: the log's life, the mark, and its life, so that it does not go before the log.
    fn keep(&self, commands: &mut Pipeline, keep: Duration) {
        commands.cmd("PEXPIRE").arg(&self.key).arg(millis(keep + MARGIN));
        commands.cmd("EVAL").arg(MARK).arg(2).arg(&self.key).arg(&self.mark);
        commands.cmd("PEXPIRE").arg(&self.mark).arg(millis(keep + MARGIN * 2));
    }

    /// Sends what changes the log, or asks about what was just changed.
    async fn write(&self, commands: &Pipeline) -> Result<Vec<Result<Value, StoreError>>, StoreError> {
        let called = within(self.append_deadline, self.links.call(Purpose::Append, self.slot, commands)).await;
        if called == Err(StoreError::Timeout) {
            // A master that is silent for so long may have been replaced.
            self.links.look_again();
        }
        called
    }

    /// Sends what reads the log, on the connection that is kept for it.
    async fn ask(&self, commands: &Pipeline, wait: Duration) -> Result<Answers, StoreError> {
        let mut kept = self.reader.lock().await;
        let patience = wait + self.connect_timeout + self.append_deadline;
        let asked = tokio::time::timeout(patience, self.ask_with(kept.take(), commands)).await;
        match asked.unwrap_or(Err(StoreError::Timeout)) {
            Ok((reader, answers)) => {
                *kept = Some(reader);
                Ok(answers)
            }
            Err(error) => {
                self.links.look_again();
                Err(error)
            }
        }
    }

    async fn ask_with(&self, reader: Option<Reader>, commands: &Pipeline) -> Result<(Reader, Answers), StoreError> {
        let mut owner = self.links.owner(self.slot).await?;
        let moved = || Err(StoreError::Refused(Denial::Moved, "the purge log is read from another server now".into()));
        if let Some(mut reader) = reader {
            if reader.owner != owner {
                return moved();
            }
            let answers = send(&mut reader.connection, commands, reader.is_asking).await?;
            return Ok((reader, first_is_answered(answers)?));
        }
        let (mut at, mut is_asking) = (owner.clone(), false);
        for _ in 0..REDIRECTS_MAX {
            let connection = self.links.connect(&at, None).await?;
            let mut reader = Reader { connection, owner: owner.clone(), is_asking };
            let answers = send(&mut reader.connection, commands, is_asking).await?;
            let Some(redirect) = answers.first().and_then(|answer| redirected(answer, &at)) else {
                let answers = first_is_answered(answers)?;
                eviction::look(&mut reader.connection, self.append_deadline, &self.eviction).await;
                self.is_role_refused.store(false, Ordering::Relaxed);
                return Ok((reader, answers));
            };
            if !redirect.asking {
                owner = redirect.to.clone();
                self.links.look_again();
            }
            (at, is_asking) = (redirect.to, redirect.asking);
        }
        moved()
    }

    fn saw(&self, seq: PurgeSeq) {
        self.newest_ms.fetch_max(seq.logged_at().as_millis(), Ordering::Relaxed);
    }
}

/// The answers to commands, in their order.
type Answers = Vec<Result<Value, StoreError>>;

/// Each answer by itself; an error at the first, or none at all, is one of the connection.
fn first_is_answered(answers: Vec<Value>) -> Result<Answers, StoreError> {
    let mut answers = answers.into_iter().map(answered).peekable();
    match answers.next_if(Result::is_err) {
        Some(Err(error)) => Err(error),
        _ => Ok(answers.collect()),
    }
}

fn id(seq: PurgeSeq) -> String {
    seq.shared().to_string()
}

fn text(answer: Value) -> Result<String, StoreError> {
    redis::from_redis_value(answer).map_err(|error| StoreError::Server(error.to_string()))
}

/// An id that no healthy log holds is somebody else's hand in our stream, and all later ids stand behind it:
/// nothing can be ordered by such a log.
fn beyond(id: &str) -> StoreError {
    let shown = id.get(..id.floor_char_boundary(60)).unwrap_or("");
    StoreError::Server(format!("the purge log holds the id {shown:?}, which Redis has not made; delete the stream"))
}

/// The lines in an answer to XREAD: nil, or one stream's entries (a list of pairs, or a map in RESP3).
fn lines(answer: Value) -> Result<Vec<Written>, StoreError> {
    match answer {
        Value::Nil => Ok(Vec::new()),
        Value::Array(mut streams) => match streams.pop() {
            None => Ok(Vec::new()),
            Some(Value::Array(mut stream)) => stream.pop().map_or_else(|| Ok(Vec::new()), entries),
            Some(other) => Err(odd(&other)),
        },
        Value::Map(mut streams) => streams.pop().map_or_else(|| Ok(Vec::new()), |(_, found)| entries(found)),
        other => Err(odd(&other)),
    }
}

/// `[[id, [field, value, …]], …]`. What is no line of ours keeps its place with nothing in it.
fn entries(found: Value) -> Result<Vec<Written>, StoreError> {
    let Value::Array(mut found) = found else { return Err(odd(&found)) };
    let line = |entry: &mut Value| {
        let Value::Array(parts) = entry else { return Err(odd(entry)) };
        let [Value::BulkString(id), fields] = parts.as_mut_slice() else { return Err(odd(entry)) };
        let id = String::from_utf8_lossy(id);
        let seq = PurgeSeq::parse(&id).ok_or_else(|| beyond(&id))?;
        Ok(Written { seq, text: text_in(fields).unwrap_or_default() })
    };
    found.iter_mut().map(line).collect()
}

fn text_in(fields: &mut Value) -> Option<Vec<u8>> {
    let Value::Array(fields) = fields else { return None };
    fields.chunks_exact_mut(2).find_map(|pair| match pair {
        [Value::BulkString(name), Value::BulkString(line)] if name == line::FIELD.as_bytes() => {
            Some(std::mem::take(line))
        }
        _ => None,
    })
}
