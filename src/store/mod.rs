//! Where entries and the purge log are kept: L1 in this process, L2 shared by all nodes.

pub mod l1;
pub mod memory;
pub mod redis;
pub mod wire;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::policy::key::KeyHash;
use crate::policy::purge::{Purge, PurgeSeq};

/// What all nodes share: entries and the purge log. One of the three seams; the Redis store and the
/// memory store pass the same contract (`tests/it/contract.rs`).
pub trait SharedStore: Send + Sync + fmt::Debug {
    /// The stored bytes of a key.
    fn get(&self, key: KeyHash) -> BoxFuture<'_, Result<Option<Bytes>, StoreError>>;

    /// Stores bytes for a time; they may be gone sooner.
    fn put(&self, key: KeyHash, value: Bytes, ttl: Duration) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Appends a line to the log and says where it stands. The log then reaches back at least `keep`.
    fn append<'s>(&'s self, purge: &'s Purge, keep: Duration) -> BoxFuture<'s, Result<PurgeSeq, StoreError>>;

    /// The lines after `after`, oldest first, at most `most`. With none there it waits up to `wait`.
    fn read_log(&self, after: PurgeSeq, most: usize, wait: Duration)
    -> BoxFuture<'_, Result<Vec<LogLine>, StoreError>>;

    /// Whether a reader who has applied `applied` can go on from there.
    fn log_state(&self, applied: PurgeSeq) -> BoxFuture<'_, Result<LogState, StoreError>>;

    /// Makes sure that every later line stands after `seq`, where the log has lost its end.
    fn advance_log(&self, seq: PurgeSeq) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// One line of the log as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Its position.
    pub seq: PurgeSeq,
    /// What it says; `None` where it cannot be read (garbage, or a newer version's).
    pub purge: Option<Purge>,
}

/// How the log stands to a reader's position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogState {
    /// Nothing after the position is missing.
    Continues,
    /// Lines after the position may have been cut off; the log begins here.
    Trimmed(PurgeSeq),
    /// The log ends before the position: its tail, or all of it, was lost.
    Lost,
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
    /// The server answered with an error.
    #[error("the server said: {0}")]
    Server(String),
}

impl StoreError {
    /// The word for logs, labels and headers.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Timeout => "l2_timeout",
            Self::Open => "l2_open",
            Self::Connection(_) => "l2_connection",
            Self::Server(_) => "l2_error",
        }
    }
}
