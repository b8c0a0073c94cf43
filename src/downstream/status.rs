//! What operations see of the targets.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::place::progress_of;
use crate::clock::Clock;
use crate::outage::Outage;
use crate::policy::downstream::Progress;
use crate::policy::purge::PurgeSeq;
use crate::policy::time::Timestamp;
use crate::purges::Purges;
use crate::store::{SharedStore, StoreError};

/// The progress of all targets, whichever node works on them.
#[derive(Debug)]
pub struct Status {
    /// Their names, and whether this node can read what it must to tell them.
    pub targets: BTreeMap<String, Arc<Outage>>,
    /// Where the progress is.
    pub store: Arc<dyn SharedStore>,
    /// What this node has applied.
    pub purges: Arc<Purges>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
}

/// What was read of them.
#[derive(Debug)]
pub struct View<'s> {
    status: &'s Status,
    progress: BTreeMap<&'s str, Result<Option<Progress>, StoreError>>,
}

impl Status {
    /// Reads how far each is.
    pub async fn read(&self) -> View<'_> {
        let mut progress = BTreeMap::new();
        for name in self.targets.keys() {
            progress.insert(name.as_str(), progress_of(&*self.store, name, self.clock.wall()).await);
        }
        View { status: self, progress }
    }
}

impl View<'_> {
    /// One object a target.
    pub fn to_json(&self) -> Value {
        let show = |(name, progress): (&&str, &Result<Option<Progress>, StoreError>)| {
            let mut shown = match progress {
                Ok(None) => json!({ "behind": true }),
                Ok(Some(progress)) => self.show(progress),
                Err(error) => json!({ "error": error.to_string() }),
            };
            shown["log_error"] = json!(self.status.targets[*name].error());
            ((*name).to_owned(), shown)
        };
        Value::Object(self.progress.iter().map(show).collect())
    }

    /// When each target acknowledged the purge at a position, in milliseconds since 1970; none has where the log does
    /// not hold it.
    pub fn told(&self, seq: PurgeSeq) -> Value {
        let is_logged = seq == seq.shared();
        let told = |progress: &Progress| progress.told_at(seq).filter(|_| is_logged).map(Timestamp::as_millis);
        let show = |(name, progress): (&&str, &Result<Option<Progress>, StoreError>)| {
            let at = progress.as_ref().ok().and_then(Option::as_ref).and_then(told);
            ((*name).to_owned(), json!(at))
        };
        Value::Object(self.progress.iter().map(show).collect())
    }

    fn show(&self, progress: &Progress) -> Value {
        let now = self.status.clock.wall().as_millis();
        let seconds = |millis: u64| std::time::Duration::from_millis(millis).as_secs_f64();
        json!({
            "acknowledged": progress.cursor,
            "behind": progress.position() < self.status.purges.applied().shared(),
            "given_up": progress.given_up,
            "given_up_at": progress.given_up_at,
            "second_purges": progress.again.len(),
            "failures": progress.failures,
            "error": progress.error,
            "next_try_seconds": seconds(progress.not_before.saturating_sub(now)),
            "last_purge_seconds_ago": (progress.purged_at > 0).then(|| seconds(now.saturating_sub(progress.purged_at))),
        })
    }
}
