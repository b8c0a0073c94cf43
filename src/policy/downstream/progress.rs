//! How far a target is, and when it is told again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Batch, Provider, Verdict};
use crate::policy::purge::PurgeSeq;
use crate::policy::time::Timestamp;

/// How far a target is: what all nodes know of it, kept where the log is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// It has acknowledged all up to this position.
    pub cursor: String,
    /// Purges that are due once more.
    #[serde(default)]
    pub again: Vec<Again>,
    /// Failures in a row.
    #[serde(default)]
    pub failures: u32,
    /// The last of them.
    #[serde(default)]
    pub error: Option<String>,
    /// It is not asked before this, in milliseconds since 1970.
    #[serde(default)]
    pub not_before: u64,
    /// When it last acknowledged a purge, in milliseconds since 1970.
    #[serde(default)]
    pub purged_at: u64,
    /// Requests that may be made at once, and as of when.
    #[serde(default)]
    pub permits: Option<(f64, u64)>,
}

/// Lines that are purged once more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Again {
    /// After this position,
    pub from: String,
    /// up to this one,
    pub to: String,
    /// at this time, in milliseconds since 1970.
    pub due: u64,
}

/// Second purges that are remembered one by one; beyond it the newest are done together.
pub(super) const AGAIN_MAX: usize = 16;
/// The first pause after a failure, doubled up to the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_LONGEST: Duration = Duration::from_secs(60);
/// The pause where a person must act.
const PAUSE_REFUSED: Duration = Duration::from_secs(300);

impl Progress {
    /// Takes permits for so many requests, or says how long to wait.
    ///
    /// # Errors
    /// The wait.
    pub fn permit(&mut self, provider: &Provider, count: usize, now: Timestamp) -> Result<(), Duration> {
        let (rate, most) = provider.rate();
        let (had, at) = self.permits.unwrap_or((most, now.as_millis()));
        let gained = now.since(Timestamp::from_millis(at)).as_secs_f64() * rate;
        // Redis may hold anything under our name.
        let has = if had.is_finite() { (had + gained).clamp(0.0, most) } else { 0.0 };
        let needed = count as f64;
        if has < needed {
            return Err(Duration::from_secs_f64((needed - has) / rate));
        }
        self.permits = Some((has - needed, now.as_millis()));
        Ok(())
    }

    /// It has acknowledged a batch up to `to`. With `is_second` that was the first of `again`.
    pub fn acknowledged(
        &mut self,
        batch: &Batch,
        to: PurgeSeq,
        second_purge: Duration,
        is_second: bool,
        now: Timestamp,
    ) {
        (self.failures, self.error, self.not_before) = (0, None, 0);
        if !batch.is_empty() {
            self.purged_at = now.as_millis();
        }
        if is_second {
            // What was too much for one batch goes on where that ended.
            match self.again.first_mut().filter(|again| PurgeSeq::parse(&again.to).is_some_and(|end| to < end)) {
                Some(again) => again.from = to.to_string(),
                None => drop(self.again.remove(0)),
            }
            return;
        }
        let from = std::mem::replace(&mut self.cursor, to.to_string());
        if batch.is_empty() || second_purge.is_zero() {
            return;
        }
        let again = Again { from, to: to.to_string(), due: (now + second_purge).as_millis() };
        let is_full = self.again.len() >= AGAIN_MAX;
        match self.again.last_mut().filter(|_| is_full) {
            Some(last) => (last.to, last.due) = (again.to, again.due),
            None => self.again.push(again),
        }
    }

    /// It has failed.
    pub fn failed(&mut self, verdict: &Verdict, now: Timestamp) {
        self.failures = self.failures.saturating_add(1);
        let doubled = PAUSE_FIRST * 2_u32.pow(self.failures.saturating_sub(1).min(10));
        let (error, pause) = match verdict {
            Verdict::Done => return,
            Verdict::Later { why, after } => (why, after.unwrap_or_default().max(doubled.min(PAUSE_LONGEST))),
            Verdict::Refused { remedy } => (remedy, PAUSE_REFUSED),
        };
        self.error = Some(error.clone());
        self.not_before = (now + pause).as_millis();
    }
}
