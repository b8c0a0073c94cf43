//! How far a target is, who is at it, and when it is told again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::answer::RETRY_AFTER_MAX;
use super::{Provider, Verdict};
use crate::policy::purge::PurgeSeq;
use crate::policy::time::Timestamp;

/// How far a target is: what all nodes know of it, kept where the log is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// It has acknowledged all up to this position; empty before the first.
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
    /// Who is at it.
    #[serde(default)]
    pub held: Option<Held>,
    /// The last stretches that it has acknowledged a purge of, for people.
    #[serde(default)]
    pub told: Vec<Told>,
    /// Stretches of the log that it would not take in any form.
    #[serde(default)]
    pub given_up: u32,
    /// The end of the last of them.
    #[serde(default)]
    pub given_up_at: Option<String>,
}

/// A node tells the target just now. That spares the others the work; what counts is that the progress is written only
/// where it is still what the writer has read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The node.
    pub by: String,
    /// It has gone if it has not said more by this time, in milliseconds since 1970.
    pub until: u64,
}

/// Lines of which it has acknowledged a purge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// After this position,
    pub from: String,
    /// up to this one,
    pub to: String,
    /// at this time, in milliseconds since 1970.
    pub at: u64,
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

/// A stretch of the log that a target is told in one go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Its end.
    pub to: PurgeSeq,
    /// It is told for the second time: the first of [`Progress::again`].
    pub is_second: bool,
    /// It purges nothing.
    pub is_empty: bool,
}

/// How long a node that died keeps the others from its target. Longer than a request may take.
pub const HELD_MAX: Duration = Duration::from_secs(15);
/// What the clocks of nodes may differ by.
const CLOCKS_DIFFER: Duration = Duration::from_secs(3600);
/// Second purges that are remembered one by one; beyond it the newest are done together.
pub(super) const AGAIN_MAX: usize = 16;
/// Stretches that are remembered as told: no fewer than there are purges shown.
pub(super) const TOLD_MAX: usize = 16;
/// Bytes of an error that are remembered.
const ERROR_BYTES_MAX: usize = 512;
/// The first pause after a failure, doubled up to the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_LONGEST: Duration = Duration::from_secs(60);
/// The pause where a person must act.
const PAUSE_REFUSED: Duration = Duration::from_secs(300);

impl Progress {
    /// Reads what was written of a target. `None` for what no node has written: anybody may write to Redis, and what
    /// stands there must not keep a target waiting for ever.
    pub fn read(note: &[u8], now: Timestamp) -> Option<Self> {
        let progress: Self = serde_json::from_slice(note).ok()?;
        let latest = (now + RETRY_AFTER_MAX + CLOCKS_DIFFER).as_millis();
        let is_position = |text: &str| PurgeSeq::parse(text).is_some_and(|seq| seq.logged_at().as_millis() <= latest);
        let times = progress.again.iter().map(|again| again.due).chain(progress.held.iter().map(|held| held.until));
        let times = times.chain(progress.permits.iter().map(|(_, at)| *at));
        let times = times.chain(progress.told.iter().map(|told| told.at));
        let is_ours = (progress.cursor.is_empty() || is_position(&progress.cursor))
            && progress.again.iter().all(|again| is_position(&again.from) && is_position(&again.to))
            && progress.told.iter().all(|told| is_position(&told.from) && is_position(&told.to))
            && times.chain([progress.not_before]).all(|time| time <= latest);
        is_ours.then_some(progress)
    }

    /// The position up to which it has acknowledged all.
    pub fn position(&self) -> PurgeSeq {
        PurgeSeq::parse(&self.cursor).unwrap_or(PurgeSeq::ZERO)
    }

    /// When it acknowledged the purge at a position; `None` where it has not, or that is no longer remembered.
    pub fn told_at(&self, seq: PurgeSeq) -> Option<Timestamp> {
        let is_in = |told: &&Told| {
            let ends = (PurgeSeq::parse(&told.from), PurgeSeq::parse(&told.to));
            matches!(ends, (Some(from), Some(to)) if from < seq && seq <= to)
        };
        self.told.iter().find(is_in).map(|told| Timestamp::from_millis(told.at))
    }

    /// When the next second purge is due, and what it purges: after the first position, up to the second.
    pub fn next_again(&self, now: Timestamp) -> Option<(Duration, PurgeSeq, PurgeSeq)> {
        let again = self.again.first()?;
        let due = Timestamp::from_millis(again.due).since(now);
        Some((due, PurgeSeq::parse(&again.from)?, PurgeSeq::parse(&again.to)?))
    }

    /// How long this node must leave it alone: it asked for time, another node is at it, or no request may be made.
    pub fn pause(&self, node: &str, provider: &Provider, now: Timestamp) -> Duration {
        let other = self.held.as_ref().filter(|held| held.by != node).map_or(0, |held| held.until);
        let until = Timestamp::from_millis(other.max(self.not_before));
        until.since(now).max(self.clone().permit(provider, now).err().unwrap_or_default())
    }

    /// Takes the permit for a request, or says how long to wait for it.
    ///
    /// # Errors
    /// The wait.
    pub fn permit(&mut self, provider: &Provider, now: Timestamp) -> Result<(), Duration> {
        let (rate, most) = provider.rate();
        let (had, at) = self.permits.unwrap_or((most, now.as_millis()));
        let gained = now.since(Timestamp::from_millis(at)).as_secs_f64() * rate;
        // Redis may hold anything under our name.
        let has = if had.is_finite() { (had + gained).clamp(0.0, most) } else { 0.0 };
        self.permits = Some((has, now.as_millis()));
        if has < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - has) / rate));
        }
        self.permits = Some((has - 1.0, now.as_millis()));
        Ok(())
    }

    /// This node is at it, for a while more.
    pub fn hold(&mut self, node: &str, now: Timestamp) {
        self.held = Some(Held { by: node.to_owned(), until: (now + HELD_MAX).as_millis() });
    }

    /// It has acknowledged a stretch.
    pub fn acknowledged(&mut self, stretch: Stretch, second_purge: Duration, now: Timestamp) {
        (self.failures, self.error, self.not_before) = (0, None, 0);
        if !stretch.is_empty {
            self.purged_at = now.as_millis();
        }
        let from = self.move_on(stretch);
        if stretch.is_second || stretch.is_empty {
            return;
        }
        if self.told.len() >= TOLD_MAX {
            self.told.remove(0);
        }
        self.told.push(Told { from: from.clone(), to: stretch.to.to_string(), at: now.as_millis() });
        if second_purge.is_zero() {
            return;
        }
        let again = Again { from, to: stretch.to.to_string(), due: (now + second_purge).as_millis() };
        let is_full = self.again.len() >= AGAIN_MAX;
        match self.again.last_mut().filter(|_| is_full) {
            Some(last) => (last.to, last.due) = (again.to, again.due),
            None => self.again.push(again),
        }
    }

    /// It has failed.
    pub fn failed(&mut self, verdict: &Verdict, now: Timestamp) {
        self.failures = self.failures.saturating_add(1);
        let doubled = (PAUSE_FIRST * 2_u32.pow(self.failures.saturating_sub(1).min(10))).min(PAUSE_LONGEST);
        let (error, pause) = match verdict {
            Verdict::Done => return,
            Verdict::Later { why, after } => (why, after.unwrap_or_default().max(doubled)),
            Verdict::Refused { remedy } => (remedy, PAUSE_REFUSED),
            Verdict::Unfit { why } => (why, doubled),
        };
        let (error, _) = error.split_at(error.floor_char_boundary(ERROR_BYTES_MAX));
        self.error = Some(error.to_owned());
        self.not_before = (now + pause).as_millis();
    }

    /// It would not even purge everything: the stretch is passed over, for the next one to have its chance.
    pub fn gave_up(&mut self, stretch: Stretch, verdict: &Verdict, now: Timestamp) {
        self.failed(verdict, now);
        self.move_on(stretch);
        self.given_up = self.given_up.saturating_add(1);
        self.given_up_at = Some(stretch.to.to_string());
    }

    /// Passes a stretch, and says where it began.
    fn move_on(&mut self, stretch: Stretch) -> String {
        let to = stretch.to.to_string();
        if !stretch.is_second {
            let from = self.position().to_string();
            self.cursor = to;
            return from;
        }
        // What was too much for one go goes on where that ended.
        match self.again.first_mut().filter(|again| PurgeSeq::parse(&again.to).is_some_and(|end| stretch.to < end)) {
            Some(again) => std::mem::replace(&mut again.from, to),
            None => self.again.remove(0).from,
        }
    }
}
