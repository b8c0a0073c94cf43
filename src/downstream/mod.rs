//! Purges outward: CDNs and storefronts are told what the log purges, durably and by one node at a time.
//!
//! Each target has a place in the log, kept in the shared store ([`Progress`]). Whoever holds it reads the log from there,
//! tells the target, and moves the place on when the target has acknowledged. A node that dies on the way has not moved
//! it, and the next one tells the target again: at least once, and a purge twice is a purge.
//!
//! The place is written before each request, only where it is still what was read last: so a node whose time was over
//! learns that another is at it, and what was asked of a provider is known to all before it is asked. A target that the
//! log can no longer tell what it missed (a new one, a cut log) is told to purge everything.

mod history;
mod place;
mod send;
mod status;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::jitter::Jitter;
use crate::metrics::Metrics;
use crate::outage::Outage;
use crate::policy::downstream::{self, Part, Progress, Stretch, Target, Verdict};
use crate::policy::purge::PurgeSeq;
use crate::policy::time::Timestamp;
use crate::purges::Purges;
use crate::store::{SharedStore, StoreError};
use place::Place;

pub use send::Sender;
pub use status::Status;

/// How long purges are collected before the target is told.
const COALESCE: Duration = Duration::from_millis(100);
/// How often a node that may not work, or must wait, looks again, at the longest.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// How long a storefront is spared a purge that a CDN has not acknowledged.
const CDN_PATIENCE: Duration = Duration::from_secs(5);
/// How long a target is spared a purge while what is asked for most is refilled.
const REFILL_PATIENCE: Duration = Duration::from_millis(500);

/// What one worker does for one target, on each node.
#[derive(Debug)]
pub struct Downstream {
    /// Its name in the configuration.
    pub name: String,
    /// Whom it tells.
    pub target: Target,
    /// CDNs that are told before it.
    pub after: Vec<String>,
    /// The log and the places in it.
    pub store: Arc<dyn SharedStore>,
    /// What this node has applied: nothing is told before that.
    pub purges: Arc<Purges>,
    /// Up to where what is asked for most has been refilled, where that is done.
    pub refilled: Option<watch::Receiver<PurgeSeq>>,
    /// How it is told.
    pub sender: Arc<Sender>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Whether log and places can be read.
    pub outage: Arc<Outage>,
    /// Tells this node from others.
    pub node: String,
    /// Keeps nodes out of step.
    pub jitter: Jitter,
}

/// What a worker remembers from one look to the next.
#[derive(Debug, Default)]
struct Memory {
    for_cdns: Wait,
    for_refill: Wait,
    /// It was said that the place cannot be read.
    said_garbage: bool,
    /// The place from which it was said that the log does not reach back to it.
    said_lost: Option<PurgeSeq>,
}

/// Up to where others are waited for, and since when.
#[derive(Debug, Default)]
struct Wait(Option<(PurgeSeq, Timestamp)>);

impl Wait {
    /// How far a target may be told where others have `reached` a position: no further, until their time is over.
    fn limit(
        &mut self,
        reached: PurgeSeq,
        cursor: PurgeSeq,
        applied: PurgeSeq,
        patience: Duration,
        now: Timestamp,
    ) -> PurgeSeq {
        if reached >= applied {
            self.0 = None;
            return applied;
        }
        let (awaited, since) = *self.0.get_or_insert((applied, now));
        if awaited <= cursor {
            self.0 = Some((applied, now));
        } else if now.since(since) >= patience {
            return reached.max(awaited);
        }
        reached
    }
}

/// What comes next for a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The target has all up to here; something may be due later.
    Rest(PurgeSeq, Option<Duration>),
    /// Something is left to do, now or later.
    Pause(Duration),
}

/// What a target is told in one go.
#[derive(Debug)]
struct Work {
    parts: Vec<Part>,
    stretch: Stretch,
    /// The log does not tell what it missed.
    is_lost: bool,
}

/// What has become of it.
#[derive(Debug)]
enum Told {
    /// The target has acknowledged it.
    All,
    /// It has acknowledged a purge of everything in place of what it would not take.
    Everything,
    /// It has not.
    Not(Verdict),
    /// It does not take even a purge of everything.
    Never(Verdict),
    /// Another node is at it.
    Overtaken,
}

impl Downstream {
    /// Works until the process stops; then another node may at once.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.work_on() => {}
        }
        self.give_back().await;
    }

    async fn work_on(&self) {
        // Before that it is not known what is old.
        while !self.purges.is_caught_up() {
            tokio::time::sleep(COALESCE).await;
        }
        let mut memory = Memory::default();
        loop {
            let next = self.round(&mut memory).await;
            match &next {
                Ok(_) => self.outage.ended(),
                Err(error) => self.outage.failed(error),
            }
            let pause = match next {
                Ok(Next::Pause(pause)) => pause,
                Ok(Next::Rest(cursor, patience)) => {
                    let more = self.purges.wait_for(cursor.next_shared());
                    match tokio::time::timeout(patience.unwrap_or(Duration::MAX), more).await {
                        Ok(()) => COALESCE,
                        Err(_) => Duration::ZERO,
                    }
                }
                Err(_) => LOOK_AGAIN,
            };
            tokio::time::sleep(if pause > COALESCE { self.jitter.of(pause) } else { pause }).await;
        }
    }

    /// Looks whether there is something to do, and does it where no other node does.
    async fn round(&self, memory: &mut Memory) -> Result<Next, StoreError> {
        let applied = self.purges.applied().shared();
        let mut place = self.place(memory).await?;
        // What is written of a target all nodes read, each by its own clock.
        let now = self.clock.wall();
        let cursor = place.progress.position();
        let again = place.progress.next_again(now);
        let is_second = again.is_some_and(|(due, ..)| due.is_zero());
        if cursor >= applied && !is_second {
            return Ok(Next::Rest(cursor, again.map(|(due, ..)| due.min(LOOK_AGAIN))));
        }
        let pause = place.progress.pause(&self.node, &self.target.provider, now);
        if !pause.is_zero() {
            return Ok(Next::Pause(pause.min(LOOK_AGAIN)));
        }
        let (from, to) = match again.filter(|_| is_second) {
            Some((_, from, to)) => (from, to),
            None => (cursor, self.limit(memory, cursor, applied).await?),
        };
        if to <= from || !self.hold(&mut place).await? {
            return Ok(Next::Pause(COALESCE));
        }
        let work = self.read(memory, from, to, is_second).await?;
        self.work(&mut place, work).await?;
        Ok(Next::Pause(Duration::ZERO))
    }

    /// How far it may be told: where what is asked for most has been refilled, so that its first miss is a hit here; and
    /// what its CDNs have purged; and what there was time enough for.
    async fn limit(&self, memory: &mut Memory, cursor: PurgeSeq, applied: PurgeSeq) -> Result<PurgeSeq, StoreError> {
        let refilled = self.refilled.as_ref().map_or(applied, |refilled| refilled.borrow().shared());
        let mut purged = applied;
        for cdn in &self.after {
            let cdn = place::progress_of(&*self.store, cdn, self.clock.wall()).await?.unwrap_or_default();
            purged = purged.min(cdn.position());
        }
        let (Memory { for_cdns, for_refill, .. }, now) = (memory, self.clock.now());
        let purged = for_cdns.limit(purged, cursor, applied, CDN_PATIENCE, now);
        let refilled = for_refill.limit(refilled, cursor, applied, REFILL_PATIENCE, now);
        Ok(purged.min(refilled))
    }

    /// Tells the target, and writes what has become of it.
    async fn work(&self, place: &mut Place, work: Work) -> Result<(), StoreError> {
        let Work { parts, stretch, is_lost } = work;
        let told = self.tell(place, parts, &stretch).await?;
        let now = self.clock.wall();
        let was = place.progress.error.clone();
        match &told {
            Told::Overtaken => return Ok(()),
            Told::All | Told::Everything => place.progress.acknowledged(stretch, self.target.second_purge, now),
            Told::Not(verdict) => place.progress.failed(verdict, now),
            Told::Never(verdict) => place.progress.gave_up(stretch, verdict, now),
        }
        self.say(was.as_deref(), &place.progress, &told);
        self.metrics.downstream_failures(&self.name, place.progress.failures);
        place.progress.held = None;
        // Where another node was faster, it is known on the next look.
        if self.write(place).await? {
            match told {
                Told::Everything => self.metrics.downstream_everything(&self.name),
                Told::All if is_lost => self.metrics.downstream_everything(&self.name),
                Told::Never(_) => self.metrics.downstream_given_up(&self.name),
                Told::All | Told::Not(_) | Told::Overtaken => {}
            }
        }
        Ok(())
    }

    /// Makes the requests one after the other, until one is not answered well.
    async fn tell(&self, place: &mut Place, parts: Vec<Part>, stretch: &Stretch) -> Result<Told, StoreError> {
        let mut parts = VecDeque::from(parts);
        let mut told = Told::All;
        while let Some(part) = parts.pop_front() {
            if !self.take_turn(place).await? {
                return Ok(Told::Overtaken);
            }
            let request = downstream::request(&self.target, &self.name, &part, stretch, self.clock.wall());
            let verdict = match self.sender.send(request).await {
                Ok(answer) => {
                    let provider = &self.target.provider;
                    let now = self.clock.wall();
                    downstream::judge(provider, &self.name, answer.status, &answer.headers, &answer.body, now)
                }
                Err(error) => Verdict::Later { why: format!("{error:#}"), after: None },
            };
            self.metrics.downstream_told(&self.name, verdict.as_str());
            match verdict {
                Verdict::Done => {}
                Verdict::Later { .. } | Verdict::Refused { .. } => return Ok(Told::Not(verdict)),
                Verdict::Unfit { .. } => match part.instead() {
                    nothing if nothing.is_empty() => return Ok(Told::Never(verdict)),
                    // That includes the rest.
                    everything if everything.contains(&Part::Everything) => {
                        told = Told::Everything;
                        parts = everything.into();
                    }
                    halves => halves.into_iter().rev().for_each(|half| parts.push_front(half)),
                },
            }
        }
        Ok(told)
    }

    /// Says it where the state changes.
    fn say(&self, was: Option<&str>, progress: &Progress, told: &Told) {
        let target_name = &self.name;
        match told {
            Told::Everything => {
                tracing::warn!(
                    target_name,
                    "a downstream target does not take a purge in any part: it purges everything"
                );
            }
            Told::All if was.is_some() => tracing::info!(target_name, "a downstream target takes purges again"),
            Told::Not(Verdict::Refused { remedy }) if was != Some(remedy) => {
                tracing::error!(target_name, error = remedy, "a downstream target refuses purges");
            }
            Told::Not(Verdict::Later { why, .. }) if was.is_none() => {
                let failures = progress.failures;
                tracing::warn!(
                    target_name,
                    error = why,
                    failures,
                    "a downstream target did not take a purge, trying again"
                );
            }
            Told::Never(Verdict::Unfit { why }) => {
                let purge_seq = &progress.given_up_at;
                tracing::error!(
                    target_name,
                    error = why,
                    purge_seq,
                    "a downstream target does not even purge everything: it keeps what was purged up to here"
                );
            }
            Told::All | Told::Not(_) | Told::Never(_) | Told::Overtaken => {}
        }
    }
}
