//! Finds answers that had become stale without a purge: see [`crate::policy::canary`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::wanted::Job;
use super::{Fill, Source};
use crate::interim::Interim;
use crate::policy::canary::{self, Missed};
use crate::policy::entry::Entry;
use crate::policy::key::Key;
use crate::policy::purge::Purged;
use crate::policy::route::{Policy, Rule};
use crate::policy::time::Timestamp;
use crate::store::l1::Slot;
use crate::tasks::Tasks;

/// Findings and looks that wait at once, at the most: a look costs two reads of the origin.
const WAITING_MAX: usize = 32;
/// A line of the log for all findings of a minute: an answer that is never the same twice would fill it.
const LINE_EVERY: Duration = Duration::from_secs(60);
/// The last look at what was filled after a purge comes after so many times the first one's wait.
const LAST_LOOK: u32 = 6;

/// What bounds the canary.
#[derive(Debug)]
pub(super) struct Canary {
    places: Arc<Semaphore>,
    said: AtomicU64,
}

impl Canary {
    pub(super) fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(WAITING_MAX)), said: AtomicU64::new(0) }
    }

    fn may_say(&self, now: Timestamp) -> bool {
        let last = self.said.load(Ordering::Relaxed);
        let is_due = last == 0 || now.since(Timestamp::from_millis(last)) >= LINE_EVERY;
        is_due && self.said.compare_exchange(last, now.as_millis(), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

impl Fill {
    /// Compares what the origin has just said with what it took the place of. An event that is on its way still has
    /// time to come.
    pub(super) async fn compare(self: &Arc<Self>, job: &Job, entry: &Arc<Entry>, source: Source) {
        let Some(previous) = job.previous.as_ref().filter(|_| matches!(source, Source::Origin(_))) else { return };
        if previous.key != entry.key {
            return;
        }
        if self.purges.check(previous) != Purged::No {
            self.metrics.refilled_after_purge(canary::differ(previous, entry));
            return;
        }
        // What another node filled is no word of the origin's to this one.
        if !self.is_watched(&job.rule) || !previous.is_own || !canary::differ(previous, entry) {
            return;
        }
        let Ok(place) = Arc::clone(&self.canary.places).try_acquire_owned() else { return };
        let is_after = self.purges.echo(previous, self.settings.canary * LAST_LOOK).is_some();
        let (old, new) = (previous.body.clone(), entry.body.clone());
        let ids = Tasks::compute(old.len() + new.len(), move || canary::differing_ids(&old, &new)).await;
        // Without the bodies, which may be large.
        let (tags, as_of) = (previous.tags.clone(), previous.as_of);
        let path = job.key.view().map(|view| view.path.to_owned()).unwrap_or_default();
        let (fill, rule) = (Arc::clone(self), Arc::clone(&job.rule));
        self.tasks.spawn(async move {
            let _place = place;
            if !fill.pause(fill.settings.canary).await || fill.purges.judge(&tags, as_of).purged() != Purged::No {
                return;
            }
            let missed = if is_after { Missed::AfterPurge } else { Missed::NoEvent };
            fill.metrics.stale_found(&rule, missed);
            if fill.canary.may_say(fill.clock.now()) {
                tracing::warn!(
                    route = %rule.name,
                    path,
                    ids = ids.join(" "),
                    missed = missed.as_str(),
                    "the backend's answer changed, and no purge said so"
                );
            }
        });
    }

    /// Has some of what was filled soon after a purge asked for again: nobody else may come before its time is over.
    pub(super) fn look_again(self: &Arc<Self>, job: &Job, entry: &Arc<Entry>) {
        let is_look = job.not_before != Timestamp::default();
        if is_look || !self.is_watched(&job.rule) || self.purges.echo(entry, self.settings.canary).is_none() {
            return;
        }
        let Some(key) = Key::from_text(&entry.key) else { return };
        let Ok(place) = Arc::clone(&self.canary.places).try_acquire_owned() else { return };
        let (fill, entry) = (Arc::clone(self), Arc::clone(entry));
        let job = Job { key, interim: Interim::nowhere(), ..job.clone() };
        self.tasks.spawn(async move {
            let _place = place;
            let first = fill.settings.canary;
            for wait in [first, first * (LAST_LOOK - 1)] {
                if !fill.pause(wait).await {
                    return;
                }
                let Some(Slot::Entry(held)) = fill.l1.get(&entry.key) else { return };
                // What was purged again will be looked at again.
                if fill.purges.check(&held) != Purged::No {
                    return;
                }
                let job = Job { previous: Some(held), not_before: fill.clock.now(), ..job.clone() };
                fill.refresh(job, None);
            }
        });
    }

    /// Where the origin itself says how long an answer is good, it may change without a word.
    fn is_watched(&self, rule: &Rule) -> bool {
        !self.settings.canary.is_zero() && rule.policy == Policy::Override
    }

    /// Waits, unless the process stops: then it is false.
    async fn pause(&self, wait: Duration) -> bool {
        tokio::select! {
            biased;
            () = self.tasks.stopping().cancelled() => false,
            () = tokio::time::sleep(wait) => true,
        }
    }
}
