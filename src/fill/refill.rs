//! After a purge, what is asked for most is refilled before somebody asks: a CDN that is told then finds it here.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use http::HeaderMap;
use tokio::sync::watch;

use super::Fill;
use super::flights::Joined;
use super::wanted::Job;
use crate::interim::Interim;
use crate::policy::freshness;
use crate::policy::freshness::{StaleReason, Verdict};
use crate::policy::key::Key;
use crate::policy::purge::{PurgeSeq, Purged};
use crate::policy::time::Timestamp;
use crate::store::hot::Asked;

/// Samples of the last minute that make an entry worth a refill nobody has asked for: about two hits a second.
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
            let asked = asked.into_iter().filter(|asked| self.needs_refill(asked, now)).take(self.settings.hot_refill);
            stream::iter(asked).for_each_concurrent(AT_ONCE, |asked| self.refill(asked)).await;
            done.send_replace(applied);
            tokio::time::sleep(pause).await;
        }
    }

    fn needs_refill(&self, asked: &Asked, now: Timestamp) -> bool {
        let Asked { rule, entry, samples } = asked;
        let is_purged = matches!(self.purges.check(entry), Purged::Soft { .. } | Purged::Hard);
        // What the origin is sent beside the key only a client knows.
        let is_of_key = rule.forward.is_empty() && Key::selecting(&entry.key).is_empty();
        // Once a while and not for each purge of a burst: a hard one is refilled by the next who asks.
        let verdict = Verdict::Stale(StaleReason::SoftPurge);
        let is_due = now >= freshness::refresh_not_before(entry, verdict, self.settings.soft_grace);
        *samples >= SAMPLES_MIN && is_purged && is_of_key && is_due
    }

    async fn refill(self: &Arc<Self>, asked: Asked) {
        let Some(key) = Key::from_text(&asked.entry.key) else { return };
        // Refreshes share a part of the origin's connections; nobody closes it.
        let Ok(place) = Arc::clone(&self.refreshes).acquire_owned().await else { return };
        let job = Job {
            rule: asked.rule,
            primary: key.clone(),
            key,
            forwarded: Arc::new(HeaderMap::new()),
            previous: Some(asked.entry),
            not_before: Timestamp::default(),
            interim: Interim::nowhere(),
        };
        let landed = match self.flights.join(job.key.hash()) {
            Joined::Leader(leader) => {
                self.metrics.fills.hot_refills.inc();
                let waits = leader.follower();
                self.launch(job, leader, None, Some(place));
                waits
            }
            Joined::Follower(follower) => follower,
        };
        landed.landed().await;
    }
}
