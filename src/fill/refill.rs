//! After a purge, what is asked for most is refilled before somebody asks: a CDN that is told then finds it here.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use tokio::sync::watch;

use super::Fill;
use super::flights::Joined;
use super::wanted::Job;
use crate::policy::freshness;
use crate::policy::freshness::{StaleReason, Verdict};
use crate::policy::purge::{PurgeSeq, Purged};
use crate::policy::time::Timestamp;
use crate::store::hot::Asked;

/// Samples of the last minute that make an entry worth a refill nobody has asked for: asked for about twice a second.
const SAMPLES_MIN: usize = 2;
/// Refills at once.
const AT_ONCE: usize = 4;
/// From one look at the samples to the next: purges may come by the thousand each second.
const PAUSE: Duration = Duration::from_millis(100);

impl Fill {
    /// Refills after each purge, until the process stops. `done` is told up to which position that is done.
    pub async fn keep_hot(self: Arc<Self>, done: watch::Sender<PurgeSeq>) {
        let stopping = self.tasks.stopping().clone();
        tokio::select! {
            biased;
            () = stopping.cancelled() => {}
            () = self.refill_on(done) => {}
        }
    }

    async fn refill_on(self: &Arc<Self>, done: watch::Sender<PurgeSeq>) {
        let mut applied = PurgeSeq::ZERO;
        loop {
            self.purges.wait_for(applied.next_local()).await;
            applied = self.purges.applied();
            let now = self.clock.now();
            let asked = self.hot.most_asked(now);
            let pause = if asked.is_empty() { Duration::ZERO } else { PAUSE };
            let asked = asked.into_iter().filter(|asked| self.needs_refill(asked, now));
            let jobs = asked.filter_map(|asked| Job::again(&asked.rule, asked.entry)).take(self.settings.hot_refill);
            // The others' bodies are let go.
            let jobs: Vec<_> = jobs.collect();
            stream::iter(jobs).for_each_concurrent(AT_ONCE, |job| self.refill(job)).await;
            done.send_replace(applied);
            tokio::time::sleep(pause).await;
        }
    }

    fn needs_refill(&self, asked: &Asked, now: Timestamp) -> bool {
        let Asked { entry, samples, .. } = asked;
        // Once a while and not for each purge of a burst: a hard one is refilled by the next who asks.
        let verdict = Verdict::Stale(StaleReason::SoftPurge);
        let is_due = now >= freshness::refresh_not_before(entry, verdict, self.settings.soft_grace);
        let is_purged = || matches!(self.purges.check(entry), Purged::Soft { .. } | Purged::Hard);
        *samples >= SAMPLES_MIN && is_purged() && is_due
    }

    async fn refill(self: &Arc<Self>, job: Job) {
        // Refreshes share a part of the origin's connections; nobody closes it.
        let Ok(place) = Arc::clone(&self.refreshes).acquire_owned().await else { return };
        let landed = match self.flights.join(job.key.hash()) {
            Joined::Leader(leader) => {
                self.metrics.fills.hot_refills.inc();
                let waits = leader.follower();
                self.launch(job, leader, None, Some(place));
                waits
            }
            Joined::Follower(follower) => {
                drop(place);
                follower
            }
        };
        landed.landed().await;
    }
}
