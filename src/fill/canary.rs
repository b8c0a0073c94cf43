//! Finds answers that had become stale without a purge: see [`crate::policy::canary`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::wanted::Job;
use super::{Fill, Source};
use crate::interim::Interim;
use crate::policy::canary::{self, Look, Missed};
use crate::policy::entry::Entry;
use crate::policy::key::Key;
use crate::policy::purge::Purged;
use crate::policy::route::{Policy, Rule};
use crate::policy::time::Timestamp;
use crate::store::hot::Asked;
use crate::store::l1::Slot;
use crate::tasks::Tasks;

/// Answers that are looked at again after purges at once, at the most: each for a minute. What is filled beyond them is not,
/// and `endcap_canary_skipped_total` counts it.
const LOOKS_MAX: usize = 32;
/// Findings that wait for their event at once, at the most; those beyond are counted there too. Apart from the looks, which
/// would otherwise leave no place for what they find.
const FINDINGS_MAX: usize = 32;
/// A line of the log for all findings of a minute: an answer that is never the same twice would fill it.
const LINE_EVERY: Duration = Duration::from_secs(60);

/// What bounds the canary.
#[derive(Debug)]
pub(super) struct Canary {
    looks: Arc<Semaphore>,
    findings: Arc<Semaphore>,
    said: AtomicU64,
}

impl Canary {
    pub(super) fn new() -> Self {
        Self {
            looks: Arc::new(Semaphore::new(LOOKS_MAX)),
            findings: Arc::new(Semaphore::new(FINDINGS_MAX)),
            said: AtomicU64::new(0),
        }
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
        let Some(place) = self.free_place(&self.canary.findings) else { return };
        let [.., last] = canary::looks(self.settings.canary);
        let is_after = self.purges.echo(previous, last).is_some();
        let (old, new) = (previous.body.clone(), entry.body.clone());
        let differing = move || canary::differing_ids(&old, &new);
        let ids = Tasks::compute(previous.body.len() + entry.body.len(), differing).await;
        let Some(ids) = ids.or_else(|| (previous.status != entry.status).then(Vec::new)) else { return };
        // Without the bodies, which may be large.
        let (tags, as_of) = (previous.tags.clone(), previous.as_of);
        let path = job.key.view().map(|view| view.path.to_owned()).unwrap_or_default();
        let (fill, rule) = (Arc::clone(self), Arc::clone(&job.rule));
        self.tasks.spawn(async move {
            let _place = place;
            if !fill.pause(fill.settings.canary).await || fill.purges.judge(&tags, as_of).purged() != Purged::No {
                return;
            }
            // Its event may have come to a log that this node cannot read just now.
            if !fill.purges.is_clear(fill.clock.now()) {
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
        let Some(place) = self.free_place(&self.canary.looks) else { return };
        let (fill, entry) = (Arc::clone(self), Arc::clone(entry));
        let job = Job { key, interim: Interim::nowhere(), ..job.clone() };
        self.tasks.spawn(async move {
            let _place = place;
            let mut waited = Duration::ZERO;
            for at in canary::looks(fill.settings.canary) {
                let Some(refresh) = fill.may_refresh_after(at.saturating_sub(waited)).await else { return };
                waited = at;
                let Some(Slot::Entry(held)) = fill.l1.get(&entry.key) else { return };
                // What was purged again will be looked at again.
                if fill.purges.check(&held) != Purged::No {
                    return;
                }
                fill.look(Job { previous: Some(held), ..job.clone() }, Look::AfterPurge, refresh);
            }
        });
    }

    /// Has one of the answers that are asked for most asked for again each `canary`, until the process stops: what emits
    /// no event at all is found, and not only when a time to live is over. What is asked for twice as often is looked at
    /// twice as often, and what somebody has just leafed through hardly ever.
    pub async fn sample_hot(self: Arc<Self>) {
        while let Some(refresh) = self.may_refresh_after(self.settings.canary).await {
            let asked = self.hot.most_asked(self.clock.now());
            // What another node filled is for that node to look at: see `compare`.
            let is_sound = |asked: &Asked| asked.entry.is_own && self.purges.check(&asked.entry) == Purged::No;
            let asked = asked.into_iter().filter(|asked| self.is_watched(&asked.rule) && is_sound(asked));
            let jobs = asked.filter_map(|asked| Some((asked.samples, Job::again(&asked.rule, asked.entry)?)));
            let jobs: Vec<_> = jobs.collect();
            let all = jobs.iter().map(|(samples, _)| samples).sum();
            if all == 0 {
                continue;
            }
            let mut chosen = self.jitter.one_of(all);
            let is_chosen =
                |(samples, _): &(usize, Job)| chosen.checked_sub(*samples).map(|left| chosen = left).is_none();
            if let Some((_, job)) = jobs.into_iter().find(is_chosen) {
                self.look(job, Look::AtRandom, refresh);
            }
        }
    }

    /// Asks the origin, and not the other tier, what it says now.
    fn look(self: &Arc<Self>, job: Job, look: Look, refresh: OwnedSemaphorePermit) {
        if self.refresh(Job { not_before: self.clock.now(), ..job }, Some(refresh)) {
            self.metrics.canary_looked(look);
        }
    }

    /// A place that is free; the lack of one is counted.
    fn free_place(&self, places: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
        let place = Arc::clone(places).try_acquire_owned();
        place.inspect_err(|_| self.metrics.fills.canary_skipped.inc()).ok()
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
