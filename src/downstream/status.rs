//! What operations see of the targets.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::place::progress_of;
use crate::clock::Clock;
use crate::outage::Outage;
use crate::policy::downstream::Progress;
use crate::purges::Purges;
use crate::store::SharedStore;

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

impl Status {
    /// One object a target.
    pub async fn read(&self) -> Value {
        let mut targets = serde_json::Map::new();
        for (name, outage) in &self.targets {
            let mut shown = match progress_of(&*self.store, name, self.clock.now()).await {
                Ok(None) => json!({ "behind": true }),
                Ok(Some(progress)) => self.show(&progress),
                Err(error) => json!({ "error": error.to_string() }),
            };
            shown["log_error"] = json!(outage.error());
            targets.insert(name.clone(), shown);
        }
        Value::Object(targets)
    }

    fn show(&self, progress: &Progress) -> Value {
        let now = self.clock.now().as_millis();
        let seconds = |millis: u64| std::time::Duration::from_millis(millis).as_secs_f64();
        json!({
            "acknowledged": progress.cursor,
            "behind": progress.position() < self.purges.applied().shared(),
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
