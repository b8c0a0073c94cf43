//! What operations see of the targets.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{note_of, position};
use crate::clock::Clock;
use crate::policy::downstream::Progress;
use crate::purges::Purges;
use crate::store::SharedStore;

/// The progress of all targets, whichever node works on them.
#[derive(Debug)]
pub struct Status {
    /// Their names.
    pub names: Vec<String>,
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
        for name in &self.names {
            let shown = match self.store.note(&note_of(name)).await {
                Ok(note) => {
                    let progress = note.and_then(|note| serde_json::from_slice::<Progress>(&note).ok());
                    progress.map_or(json!({ "behind": true }), |progress| self.show(&progress))
                }
                Err(error) => json!({ "error": error.to_string() }),
            };
            targets.insert(name.clone(), shown);
        }
        Value::Object(targets)
    }

    fn show(&self, progress: &Progress) -> Value {
        let now = self.clock.now().as_millis();
        let seconds = |millis: u64| std::time::Duration::from_millis(millis).as_secs_f64();
        json!({
            "acknowledged": progress.cursor,
            "behind": position(&progress.cursor) < self.purges.applied().shared(),
            "second_purges": progress.again.len(),
            "failures": progress.failures,
            "error": progress.error,
            "next_try_seconds": seconds(progress.not_before.saturating_sub(now)),
            "last_purge_seconds_ago": (progress.purged_at > 0).then(|| seconds(now.saturating_sub(progress.purged_at))),
        })
    }
}
