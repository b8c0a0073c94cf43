//! Trouble that lasts: counted each time, logged when it begins and when it is over, and shown while it lasts.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};

use prometheus::IntCounter;

/// Whether somebody who reads the log beside the follower can do so.
#[derive(Debug)]
pub struct Outage {
    reader: String,
    failures: IntCounter,
    error: Mutex<Option<String>>,
}

impl Outage {
    /// No trouble yet, of this reader.
    pub fn new(reader: impl Into<String>, failures: IntCounter) -> Self {
        Self { reader: reader.into(), failures, error: Mutex::default() }
    }

    /// It has failed.
    pub fn failed(&self, error: &dyn Display) {
        self.failures.inc();
        let error = error.to_string();
        if self.swap(Some(error.clone())).is_none() {
            tracing::warn!(reader = self.reader, error, "cannot read the purge log's history, trying again");
        }
    }

    /// It has succeeded.
    pub fn ended(&self) {
        if self.swap(None).is_some() {
            tracing::info!(reader = self.reader, "reads the purge log's history again");
        }
    }

    /// The last failure, while the outage lasts.
    pub fn error(&self) -> Option<String> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn swap(&self, error: Option<String>) -> Option<String> {
        std::mem::replace(&mut *self.error.lock().unwrap_or_else(PoisonError::into_inner), error)
    }
}
