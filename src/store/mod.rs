//! Where entries and the purge log are kept: L1 in this process, L2 shared by all nodes.

#[cfg(test)]
pub(crate) mod faulty;
pub mod hot;
pub mod l1;
pub mod line;
pub mod memory;
mod portion;
pub mod redis;
pub mod wire;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::policy::key::KeyHash;
use crate::policy::purge::{Purge, PurgeSeq};

pub use portion::Portion;

/// What all nodes share: entries and the purge log. One of the three seams; the Redis store and the
/// memory store pass the same contract (`tests/it/contract.rs`).
pub trait SharedStore: Send + Sync + fmt::Debug {
    /// The stored bytes of a key; no bytes are none.
    fn get(&self, key: KeyHash) -> BoxFuture<'_, Result<Option<Bytes>, StoreError>>;

    /// Stores bytes for a time; they may be gone sooner.
    fn put(&self, key: KeyHash, value: Bytes, ttl: Duration) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Forgets the bytes of a key.
    fn remove(&self, key: KeyHash) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Takes the lease of a key for a time: the right to ask the origin for all nodes. False when
    /// somebody holds it, or it was marked as vain.
    fn lease(&self, key: KeyHash, token: LeaseToken, ttl: Duration) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// The stored bytes of a key, for one who waits for its lease: as [`SharedStore::get`], and it may take as long
    /// as the lease's own calls.
    fn landed(&self, key: KeyHash) -> BoxFuture<'_, Result<Option<Bytes>, StoreError>> {
        self.get(key)
    }

    /// How the lease of a key stands, as the holder of a token sees it.
    fn leased(&self, key: KeyHash, token: LeaseToken) -> BoxFuture<'_, Result<Lease, StoreError>>;

    /// Gives back a lease that this token still holds. With `vain` nobody waits for the key that long:
    /// what the origin says of it is not for all.
    fn release(&self, key: KeyHash, token: LeaseToken, vain: Option<Duration>)
    -> BoxFuture<'_, Result<(), StoreError>>;

    /// A small value that all nodes share by its name; no bytes are none. Of one that is longer than
    /// [`NOTE_BYTES_MAX`], which somebody else has written, one byte more is read than that.
    fn note<'s>(&'s self, name: &'s str) -> BoxFuture<'s, Result<Option<Bytes>, StoreError>>;

    /// Writes it for a time, where what [`SharedStore::note`] reads is still what it was; false when somebody was
    /// faster.
    fn swap_note<'s>(
        &'s self,
        name: &'s str,
        before: Option<Bytes>,
        after: Bytes,
        ttl: Duration,
    ) -> BoxFuture<'s, Result<bool, StoreError>>;

    /// Appends lines to the log, one behind the other, and says where each stands. The log then reaches back at
    /// least `keep`. [`StoreError::Unreplicated`] says that they are in the log, and may be lost with its server.
    fn append<'s>(&'s self, purges: &'s [Purge], keep: Duration) -> BoxFuture<'s, Result<Vec<PurgeSeq>, StoreError>>;

    /// The lines after `after`, oldest first, at most `most`. With none there it waits up to `wait`.
    /// [`StoreError::Gone`] says that the log does not hold `after` itself: what came behind it may be gone as well,
    /// even where other lines stand there by now.
    fn read_log(&self, after: PurgeSeq, most: usize, wait: Duration)
    -> BoxFuture<'_, Result<Vec<Written>, StoreError>>;

    /// The lines from `from` on, that one included, oldest first, at most `most`: history, beside whoever follows. Who
    /// reads on asks by a [`Portion`], so that no read is larger than it says.
    fn look_log(&self, from: PurgeSeq, most: usize) -> BoxFuture<'_, Result<Vec<LogLine>, StoreError>>;

    /// Whether a reader who has applied `applied` can go on from there.
    fn log_state(&self, applied: PurgeSeq) -> BoxFuture<'_, Result<LogState, StoreError>>;

    /// Appends a line at just this position. False when the log holds another line there or a later one;
    /// then it can only be appended behind that.
    fn restore<'s>(
        &'s self,
        seq: PurgeSeq,
        purge: &'s Purge,
        keep: Duration,
    ) -> BoxFuture<'s, Result<bool, StoreError>>;
}

/// Bytes of a note, at the most.
pub const NOTE_BYTES_MAX: usize = 16 * 1024;

/// Tells the holder of a lease from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseToken(pub u128);

/// How the lease of a key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// Nobody asks the origin.
    Free,
    /// The asker does.
    Ours,
    /// Somebody else does.
    Held,
    /// Somebody did, and what the origin said is not for all.
    Vain,
    /// What stands there no node of ours has written: nobody is waited for.
    Foreign,
}

/// One line of the log as it stands there: whoever reads many of them reads on while others make sense of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its position.
    pub seq: PurgeSeq,
    /// What [`line::encode`] wrote, or somebody else.
    pub text: Vec<u8>,
}

impl Written {
    /// Makes sense of it.
    pub fn read(&self) -> LogLine {
        LogLine { seq: self.seq, purge: line::decode(&self.text).map(Purge::from) }
    }

    /// Bytes that it takes in memory, about; also what it costs to read and apply.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.text.len()
    }
}

/// One line of the log as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Its position.
    pub seq: PurgeSeq,
    /// What it says; `None` where it cannot be read (garbage, or a newer version's).
    pub purge: Option<Purge>,
}

impl LogLine {
    /// Bytes that it takes in memory, about; also what it costs to apply.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.purge.as_ref().map_or(0, Purge::bytes)
    }
}

impl From<LogLine> for Written {
    fn from(line: LogLine) -> Self {
        Self { seq: line.seq, text: line.purge.map_or_else(Vec::new, |purge| line::encode(&purge).into_bytes()) }
    }
}

/// How the log stands to a reader's position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogState {
    /// Nothing after the position is missing.
    Continues,
    /// Lines after the position may have been cut off; the log begins here.
    Trimmed(PurgeSeq),
    /// The line at the position is gone though older ones are there, or all are: what came after this line may
    /// have been lost, even if others have appended since. For a reader that has applied nothing it is the line which
    /// the log had come to and is short of now.
    Lost(PurgeSeq),
}

/// What a log shows of itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Edges {
    /// Its oldest line.
    pub oldest: Option<PurgeSeq>,
    /// Its newest line up to the reader's position.
    pub held: Option<PurgeSeq>,
    /// Its newest line.
    pub newest: Option<PurgeSeq>,
    /// How far it or one before it has ever come, as is noted beside it.
    pub mark: Option<PurgeSeq>,
}

impl LogState {
    /// Judges by the position and what the log shows.
    pub fn of(applied: PurgeSeq, log: Edges) -> Self {
        match log.oldest {
            // Entries may say that they know of lines which only dead nodes have read.
            _ if applied == PurgeSeq::ZERO && log.mark > log.newest => Self::Lost(log.mark.unwrap_or_default()),
            None if applied == PurgeSeq::ZERO => Self::Continues,
            None => Self::Lost(PurgeSeq::ZERO),
            // Also for a reader that has applied nothing: what stood before the first line, nobody knows.
            Some(oldest) if oldest > applied => Self::Trimmed(oldest),
            Some(_) if log.held == Some(applied) => Self::Continues,
            Some(_) => Self::Lost(log.held.unwrap_or(PurgeSeq::ZERO)),
        }
    }
}

/// Why the shared store did not do its work. On the read path this is a miss with a reason; on the
/// purge path it goes to the caller, who will try again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No answer within the deadline.
    #[error("no answer within the deadline")]
    Timeout,
    /// The breaker is open after repeated failures.
    #[error("not asked: it failed repeatedly a moment ago")]
    Open,
    /// No connection, or it broke.
    #[error("connection: {0}")]
    Connection(String),
    /// The server refused, for a reason that has a remedy.
    #[error("{why}: {1}", why = .0.words())]
    Refused(Denial, String),
    /// The lines stand in a log at these positions, and too few replicas have them (`wait_replicas`).
    #[error("too few replicas have the line: {1}")]
    Unreplicated(Vec<PurgeSeq>, String),
    /// The log does not hold the line that was read last.
    #[error("the purge log no longer holds the line that was read last")]
    Gone,
    /// The server answered with another error.
    #[error("the server said: {0}")]
    Server(String),
}

impl StoreError {
    /// All words of [`StoreError::reason`], for the metrics.
    pub const REASONS: [&str; 11] = [
        "l2_timeout",
        "l2_open",
        "l2_connection",
        "l2_error",
        Denial::Full.reason(),
        Denial::ReadOnly.reason(),
        Denial::Loading.reason(),
        Denial::Moved.reason(),
        Denial::Credentials.reason(),
        Denial::Type.reason(),
        Denial::Replicas.reason(),
    ];

    /// The word for logs, labels and headers.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Timeout => "l2_timeout",
            Self::Open => "l2_open",
            Self::Connection(_) => "l2_connection",
            Self::Refused(denial, _) => denial.reason(),
            Self::Unreplicated(..) => Denial::Replicas.reason(),
            Self::Gone | Self::Server(_) => "l2_error",
        }
    }
}

/// Why a server that is alive refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// It has no memory left, and may not evict (`OOM`).
    Full,
    /// It is a replica: another server is the master now (`READONLY`, `MASTERDOWN`, `UNBLOCKED`).
    ReadOnly,
    /// It reads its own file first (`LOADING`).
    Loading,
    /// Another server of the cluster has the key, or none has (`MOVED`, `ASK`, `TRYAGAIN`, `CLUSTERDOWN`).
    Moved,
    /// The user or the password is wrong, or lacks a right (`NOAUTH`, `WRONGPASS`, `NOPERM`).
    Credentials,
    /// Something else stands under our key (`WRONGTYPE`).
    Type,
    /// Too few replicas are there for it to take anything (`NOREPLICAS`).
    Replicas,
}

impl Denial {
    /// The word for logs, labels and headers.
    const fn reason(self) -> &'static str {
        match self {
            Self::Full => "l2_full",
            Self::ReadOnly => "l2_readonly",
            Self::Loading => "l2_loading",
            Self::Moved => "l2_moved",
            Self::Credentials => "l2_credentials",
            Self::Type => "l2_type",
            Self::Replicas => "l2_replicas",
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Full => "Redis is full",
            Self::ReadOnly => "this Redis is not the master",
            Self::Loading => "Redis is loading its data",
            Self::Moved => "another server has this key",
            Self::Credentials => "Redis does not let us in",
            Self::Type => "something else stands under our key",
            Self::Replicas => "Redis has too few replicas",
        }
    }
}
