//! Fills: fetch, judge, admit, store. One flight a key in this node.

mod canary;
pub mod encode;
pub mod flights;
mod land;
mod lease;
mod reading;
mod refill;
mod shared;
mod unstored;
mod wanted;

use std::borrow::Cow;
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::{HeaderMap, Response, StatusCode};
use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::body::Body;
use crate::clock::Clock;
use crate::interim::Interim;
use crate::jitter::Jitter;
use crate::metrics::Metrics;
use crate::origin::Origin;
use crate::policy::encoding::Compression;
use crate::policy::entry::Entry;
use crate::policy::freshness::{self, Trust, Verdict};
use crate::policy::key::Key;
use crate::policy::purge::{PurgeSeq, Purged};
use crate::policy::route::Rule;
use crate::policy::storable::Unshareable;
use crate::policy::time::Timestamp;
use crate::purges::Purges;
use crate::store::SharedStore;
use crate::store::hot::Hot;
use crate::store::l1::{L1, Slot};
use crate::store::wire::Codec;
use crate::tasks::Tasks;
use canary::Canary;
use encode::Encoder;
use flights::{Flights, Joined, Leader};
use reading::Budget;
use wanted::Job;
pub use wanted::Wanted;

/// How often a request joins a flight whose result a purge overtook, before it goes alone.
const ATTEMPTS: usize = 3;
/// Answers that wait at once for being asked for once more after a purge, at the most: none of them keeps a body.
const ECHOES_MAX: usize = 4096;

/// The times and sizes of fills.
#[derive(Clone, Debug)]
pub struct FillSettings {
    /// Largest body that is stored.
    pub object_max: usize,
    /// Bytes of bodies that all fills together may hold before they are stored; at least `object_max`.
    pub in_flight: usize,
    /// How long an unshareable answer lets requests go by side by side.
    pub pass_marker_ttl: Duration,
    /// How long a failure is shared.
    pub error_ttl: Duration,
    /// Share by which a rule's TTL varies.
    pub jitter: f64,
    /// Longest time in the shared tier, whatever the lifetime: the purge log reaches back further.
    pub shared_max: Duration,
    /// How long a soft purge lets an entry be served stale.
    pub soft_grace: Duration,
    /// How soon after a purge a fill is asked for once more; zero for never.
    pub echo: Duration,
    /// How long an event may be under way before a changed answer counts as changed without one, and how often one of
    /// the most asked answers is looked at for that; zero for never.
    pub canary: Duration,
    /// Of what a purge hit the most asked is refilled at once, so many at the most.
    pub hot_refill: usize,
    /// Refreshes behind answers that are under way at once, at the most: clients who wait have the rest of the origin.
    pub refreshes_max: usize,
    /// How long a lease lasts at the most.
    pub lease_ttl: Duration,
    /// How long a flight waits for another node's.
    pub lease_wait: Duration,
    /// Which bodies are sent encoded, and how.
    pub compression: Compression,
    /// Tells this node's leases and pauses from those of others.
    pub seed: u64,
}

/// Why there is no answer to a fill, shared by all who waited for it.
#[derive(Debug)]
pub struct Failure {
    /// What the client is told.
    pub status: StatusCode,
    /// The word for logs, labels and headers.
    pub reason: &'static str,
    /// The origin's own status, where it gave one: then that is what the client is told too.
    pub origin_status: Option<StatusCode>,
    /// The origin's own answer, where it gave one (5xx).
    pub answer: Option<Arc<Entry>>,
    /// Why nobody but who asked may have that answer. That the origin failed is everybody's.
    pub own: Option<Unshareable>,
}

impl Failure {
    /// What those may know who did not ask.
    pub fn for_others(self: &Arc<Self>) -> Arc<Self> {
        if self.own.is_none() {
            return Arc::clone(self);
        }
        let Self { status, reason, origin_status, .. } = **self;
        Arc::new(Self { status, reason, origin_status, answer: None, own: None })
    }

    /// Memory that it holds, in bytes.
    pub fn weight(&self) -> usize {
        self.answer.as_deref().map_or(0, Entry::weight)
    }
}

/// Where an entry came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// It stood in L1 by the time the flight began.
    L1,
    /// Another node had filled it.
    L2,
    /// The origin, with this status to the fill itself (304 for a renewal).
    Origin(StatusCode),
}

/// What a flight lands: shared by the leader and its followers.
#[derive(Clone, Debug)]
pub enum Landed {
    /// An answer that may be shared; `stored` says whether the next request finds it.
    Entry {
        /// The answer.
        entry: Arc<Entry>,
        /// Where it came from.
        source: Source,
        /// Whether it was stored.
        stored: bool,
        /// Why those who waited may not have it, although the next may be asked about it: each asks for itself.
        own: Option<Unshareable>,
    },
    /// The answer belongs to the one who asked: each waiter asks for itself.
    Unshareable(Unshareable),
    /// There is no answer.
    Failed {
        /// Why not.
        failure: Arc<Failure>,
        /// What is known from before, for stale-if-error; the shared tier may have had it alone.
        previous: Option<Arc<Entry>>,
    },
}

/// What a request gets from a fill.
#[derive(Debug)]
pub enum Filled {
    /// A flight's result; `collapsed` when another request led it.
    Landed {
        /// The result.
        landed: Landed,
        /// Whether another request led the flight.
        collapsed: bool,
    },
    /// The leader's own answer, which nobody else may have.
    Own(Response<Body>, Unshareable),
    /// Purges overtook every flight it joined: it goes alone.
    Overtaken,
}

/// Fills entries.
#[derive(Debug)]
pub struct Fill {
    pub(crate) origin: Arc<dyn Origin>,
    pub(crate) l1: L1,
    pub(crate) shared: Option<Arc<dyn SharedStore>>,
    pub(crate) codec: Codec,
    pub(crate) purges: Arc<Purges>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) settings: FillSettings,
    flights: Arc<Flights<Landed>>,
    refreshes: Arc<Semaphore>,
    echoes: Arc<Semaphore>,
    hot: Arc<Hot>,
    encoder: Encoder,
    budget: Budget,
    canary: Canary,
    jitter: Jitter,
    tasks: Tasks,
}

impl Fill {
    /// Puts the parts together.
    #[expect(clippy::too_many_arguments, reason = "each part once, at the one place where a node is built")]
    pub fn new(
        origin: Arc<dyn Origin>,
        l1: L1,
        shared: Option<Arc<dyn SharedStore>>,
        codec: Codec,
        purges: Arc<Purges>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        tasks: Tasks,
        settings: FillSettings,
    ) -> Arc<Self> {
        let jitter = Jitter::new(settings.seed);
        let encoder = Encoder::start(settings.compression.clone(), l1.clone(), Arc::clone(&metrics), &tasks);
        Arc::new(Self {
            origin,
            hot: Hot::new(l1.clone()),
            refreshes: Arc::new(Semaphore::new(settings.refreshes_max)),
            echoes: Arc::new(Semaphore::new(ECHOES_MAX)),
            l1,
            shared,
            codec,
            purges,
            clock,
            metrics,
            budget: Budget::new(settings.in_flight),
            settings,
            flights: Flights::new(),
            encoder,
            canary: Canary::new(),
            jitter,
            tasks,
        })
    }

    /// What L1 knows of the key with this text.
    pub fn look_up(&self, key: &[u8]) -> Option<Slot> {
        self.l1.get(key)
    }

    /// What L1 knows of a request's key, or of the variant that it selects.
    pub fn find<'r>(&self, rule: &'r Arc<Rule>, key: &'r Key, client: &'r HeaderMap) -> (Wanted<'r>, Option<Slot>) {
        let mut wanted = Wanted { rule, client, primary: key, key: Cow::Borrowed(key) };
        match self.l1.get(key.text()) {
            Some(Slot::Varies(variants)) => {
                wanted.key = Cow::Owned(key.variant(rule, &variants.names, client));
                let slot = self.l1.get(wanted.key.text());
                (wanted, slot)
            }
            slot => (wanted, slot),
        }
    }

    /// Whether a fill of a key is under way.
    pub fn is_flying(&self, wanted: &Wanted<'_>) -> bool {
        self.flights.is_under_way(wanted.hash())
    }

    /// What may be done with an entry now.
    pub fn judge(&self, entry: &Entry, now: Timestamp) -> Verdict {
        freshness::judge(&entry.lifetime, self.purges.check(entry), self.purges.trust(entry, now), now)
    }

    /// Whether a purge after its fill began concerns an entry.
    pub fn is_purged(&self, entry: &Entry) -> bool {
        self.purges.check(entry) != Purged::No
    }

    /// Whether what is judged here is judged by all purges up to this one.
    pub fn has_applied(&self, seq: PurgeSeq) -> bool {
        self.purges.applied() >= seq
    }

    /// Waits until that is so; whether it came to that in time.
    pub async fn wait_for(&self, seq: PurgeSeq, patience: Duration) -> bool {
        tokio::time::timeout(patience, self.purges.wait_for(seq)).await.is_ok()
    }

    /// Whether a purge after `as_of` concerns an entry.
    pub fn purged_since(&self, entry: &Entry, as_of: PurgeSeq) -> bool {
        self.purges.judge(&entry.tags, as_of).purged() != Purged::No
    }

    /// Whether an entry may serve because the origin failed.
    pub fn usable_on_error(&self, entry: &Entry, now: Timestamp) -> bool {
        let purged = self.purges.check(entry);
        let purged = match self.purges.trust(entry, now) {
            Trust::Full | Trust::Ending => purged,
            Trust::Ended => purged.or_worse(Purged::Hard),
        };
        freshness::usable_on_error(&entry.lifetime, purged, now)
    }

    /// Has bodies encoded.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// The first tier.
    pub fn l1(&self) -> &L1 {
        &self.l1
    }

    /// What is asked for most.
    pub fn hot(&self) -> &Arc<Hot> {
        &self.hot
    }

    /// The purge index that entries are judged by.
    pub fn purges(&self) -> &Purges {
        &self.purges
    }

    /// Flights under way, and requests that wait for another's.
    pub fn flights(&self) -> (usize, usize) {
        (self.flights.count(), self.flights.followers())
    }

    /// Bytes of bodies that fills hold and have not stored yet.
    pub fn bytes_in_flight(&self) -> usize {
        self.budget.taken()
    }

    /// Gets an answer that began after this call, or that no purge before this call concerns: leads
    /// the key's flight, or waits for it. The flight goes on when the caller leaves. Who leads is told
    /// what the origin says before its answer.
    pub async fn once(
        self: &Arc<Self>,
        mut wanted: Wanted<'_>,
        mut previous: Option<Arc<Entry>>,
        interim: &Interim,
    ) -> Filled {
        for _ in 0..ATTEMPTS {
            let joined = self.purges.applied();
            let (landed, collapsed) = match self.flights.join(wanted.hash()) {
                Joined::Leader(leader) => {
                    let waits = leader.follower();
                    let (own, answer) = oneshot::channel();
                    let job = Job { interim: interim.clone(), ..wanted.job(previous.clone()) };
                    self.launch(job, leader, Some(own), None);
                    // The sender is dropped unsent where the answer is for all.
                    if let Ok((answer, why)) = answer.await {
                        return Filled::Own(answer, why);
                    }
                    (waits.landed().await, false)
                }
                Joined::Follower(follower) => (self.flights.follow(follower).await, true),
            };
            match landed {
                // The leader gave up (a bug in its flight, or the process stops): join again.
                None => {}
                // Somebody else's variant: the flight was the first to learn that the answers vary.
                Some(Landed::Entry { ref entry, .. }) if collapsed && !wanted.is_answered_by(entry) => {
                    previous = None;
                }
                Some(Landed::Entry { own: Some(why), .. }) if collapsed => {
                    return Filled::Landed { landed: Landed::Unshareable(why), collapsed };
                }
                Some(Landed::Failed { failure, previous }) if collapsed => {
                    let landed = match failure.own {
                        // By the book an error is an answer like any.
                        Some(why) if wanted.rule.trust.errors => Landed::Unshareable(why),
                        Some(_) | None => Landed::Failed { failure: failure.for_others(), previous },
                    };
                    return Filled::Landed { landed, collapsed };
                }
                Some(landed) if !collapsed || self.good_for(&landed, joined) => {
                    return Filled::Landed { landed, collapsed };
                }
                Some(_) => self.metrics.fills.overtaken.inc(),
            }
        }
        Filled::Overtaken
    }

    /// Refreshes an entry that is being served with this verdict, unless that is under way, or too soon, or too many
    /// others are: then the next who is served has it done.
    pub fn refresh_behind(self: &Arc<Self>, wanted: &Wanted<'_>, entry: &Arc<Entry>, verdict: Verdict) {
        if self.clock.now() < freshness::refresh_not_before(entry, verdict, self.settings.soft_grace) {
            return;
        }
        if self.is_flying(wanted) {
            return;
        }
        match Arc::clone(&self.refreshes).try_acquire_owned() {
            Ok(place) => {
                self.refresh(wanted.job(Some(Arc::clone(entry))), Some(place));
            }
            Err(_) => self.metrics.fills.put_off.inc(),
        }
    }

    /// Begins a flight that nobody waits for, unless one is under way: then it is false.
    fn refresh(self: &Arc<Self>, job: Job, place: Option<OwnedSemaphorePermit>) -> bool {
        let Joined::Leader(leader) = self.flights.join(job.key.hash()) else { return false };
        self.metrics.fills.refreshes.inc();
        self.launch(job, leader, None, place);
        true
    }

    /// Waits, and then for a place among the refreshes, which have a part of the origin's connections; `None` when the
    /// process stops.
    async fn may_refresh_after(&self, wait: Duration) -> Option<OwnedSemaphorePermit> {
        let place = async {
            tokio::time::sleep(wait).await;
            Arc::clone(&self.refreshes).acquire_owned().await.ok()
        };
        tokio::select! {
            biased;
            () = self.tasks.stopping().cancelled() => None,
            place = place => place,
        }
    }

    fn launch(
        self: &Arc<Self>,
        mut job: Job,
        leader: Leader<Landed>,
        own: Option<oneshot::Sender<(Response<Body>, Unshareable)>>,
        place: Option<OwnedSemaphorePermit>,
    ) {
        let fill = Arc::clone(self);
        self.tasks.spawn(async move {
            // Whoever is answered by this flight can see that it is not over yet.
            let under_way = UnderWay::new(&fill.metrics.fills.l2_writes_under_way);
            let (landed, lease) = fill.fly(&mut job, own).await;
            drop(place);
            leader.land(landed.clone());
            // Those who wait have their answer; the other nodes come after.
            if let Landed::Entry { entry, source: Source::Origin(_), stored: true, .. } = &landed {
                fill.share(&job, entry).await;
            }
            if let Some((leased, token)) = lease {
                fill.end_lease(leased, token, &landed).await;
            }
            if let Landed::Entry { entry, source, stored: true, .. } = &landed {
                fill.echo(&job, entry);
                fill.compare(&job, entry, *source).await;
                fill.look_again(&job, entry);
            }
            drop(under_way);
        });
    }

    /// Has an entry asked for once more that was filled soon after a purge of its tags: the event may
    /// have left before its database had committed, or a replica lags.
    fn echo(self: &Arc<Self>, job: &Job, entry: &Arc<Entry>) {
        let Some(end) = self.purges.echo(entry, self.settings.echo) else { return };
        let Some(key) = Key::from_text(&entry.key) else { return };
        let Ok(waits) = Arc::clone(&self.echoes).try_acquire_owned() else {
            self.metrics.fills.echoes_skipped.inc();
            return;
        };
        let job = Job { key, previous: None, not_before: end, interim: Interim::nowhere(), ..job.clone() };
        let (fill, entry) = (Arc::clone(self), Arc::downgrade(entry));
        self.tasks.spawn(async move {
            let _waits = waits;
            let wait = tokio::time::sleep(end.since(fill.clock.now()));
            // What was purged again, or is gone, takes no place among the refreshes.
            if fill.tasks.stopping().run_until_cancelled(wait).await.is_none() || fill.sound(&entry).is_none() {
                return;
            }
            // All that one purge concerned is due at one moment.
            let Some(place) = fill.may_refresh_after(Duration::ZERO).await else { return };
            let Some(previous) = fill.sound(&entry) else { return };
            fill.metrics.fills.echoes.inc();
            fill.refresh(Job { previous: Some(previous), ..job }, Some(place));
        });
    }

    /// An entry, if it is still what its place holds, and no purge concerns it.
    fn sound(&self, entry: &Weak<Entry>) -> Option<Arc<Entry>> {
        let entry = entry.upgrade()?;
        let is_held = matches!(self.l1.get(&entry.key), Some(Slot::Entry(held)) if Arc::ptr_eq(&held, &entry));
        (is_held && self.purges.check(&entry) == Purged::No).then_some(entry)
    }

    /// Whether a follower who joined when `joined` was the newest purge may take the result.
    fn good_for(&self, landed: &Landed, joined: PurgeSeq) -> bool {
        match landed {
            Landed::Entry { entry, .. } => match self.purges.judge_between(entry, joined) {
                Purged::No => true,
                Purged::Soft { until } => self.clock.now() < until,
                Purged::Hard | Purged::Deleted => false,
            },
            Landed::Unshareable(_) | Landed::Failed { .. } => true,
        }
    }
}

/// Counts one thing in a gauge for as long as it lives, also when its task panics.
struct UnderWay(IntGauge);

impl UnderWay {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests;
