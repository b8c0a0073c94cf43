//! Purges outward: CDNs and storefronts are told what the log purges, durably and by one node at a time.
//!
//! Each target has a cursor in the shared store ([`Progress`]). Whoever holds the target's lease reads the log from the
//! cursor, tells the target, and moves the cursor on when the target has acknowledged. A node that dies on the way has
//! not moved it, and the next one tells the target again: at least once, and a purge twice is a purge.
//!
//! The lease only spares work; what counts is the cursor, which is compared and set. A target that the log can no
//! longer tell what it missed (a new one, a cut log) is told to purge everything.

mod send;
mod status;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::jitter::Jitter;
use crate::metrics::Metrics;
use crate::policy::downstream::{self, Again, Batch, Progress, Target, Verdict};
use crate::policy::key::KeyHash;
use crate::policy::purge::PurgeSeq;
use crate::policy::time::Timestamp;
use crate::purges::Purges;
use crate::store::{LeaseToken, LogLine, SharedStore, StoreError};

pub use send::Sender;
pub use status::Status;

/// How long purges are collected before the target is told.
const COALESCE: Duration = Duration::from_millis(100);
/// Lines that are read at a time.
const LINES_MAX: usize = 1000;
/// How long a node that died keeps the others from its target.
const LEASE_TTL: Duration = Duration::from_secs(15);
/// How often a node that may not work, or must wait, looks again, at the longest.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// How long a storefront is spared a purge that a CDN has not acknowledged.
const CDN_PATIENCE: Duration = Duration::from_secs(5);
/// How long progress is remembered without any.
const PROGRESS_TTL: Duration = Duration::from_secs(30 * 24 * 3600);

/// What one worker does for one target, on each node.
#[derive(Debug)]
pub struct Downstream {
    /// Its name in the configuration.
    pub name: String,
    /// Whom it tells.
    pub target: Target,
    /// CDNs that are told before it.
    pub after: Vec<String>,
    /// The log, the lease and the progress.
    pub store: Arc<dyn SharedStore>,
    /// What this node has applied: nothing is told before that.
    pub purges: Arc<Purges>,
    /// How it is told.
    pub sender: Arc<Sender>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Tells this node's lease from others.
    pub token: LeaseToken,
    /// Keeps nodes out of step.
    pub jitter: Jitter,
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
    batch: Batch,
    to: PurgeSeq,
    is_second: bool,
}

/// The name of a target's progress in the shared store.
fn note_of(name: &str) -> String {
    format!("downstream:{name}")
}

fn position(text: &str) -> PurgeSeq {
    PurgeSeq::parse(text).unwrap_or(PurgeSeq::ZERO)
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
        loop {
            let pause = match self.round().await {
                Ok(Next::Pause(pause)) => pause,
                Ok(Next::Rest(cursor, patience)) => {
                    let more = self.purges.wait_for(cursor.next_shared());
                    match tokio::time::timeout(patience.unwrap_or(Duration::MAX), more).await {
                        Ok(()) => COALESCE,
                        Err(_) => Duration::ZERO,
                    }
                }
                Err(error) => {
                    tracing::debug!(target_name = self.name, %error, "cannot reach the progress of a downstream target");
                    LOOK_AGAIN
                }
            };
            tokio::time::sleep(if pause > COALESCE { self.jitter.of(pause) } else { pause }).await;
        }
    }

    /// Looks whether there is something to do, and does it where no other node does.
    async fn round(&self) -> Result<Next, StoreError> {
        let applied = self.purges.applied().shared();
        if let Some((progress, _)) = self.progress().await? {
            let (now, cursor) = (self.clock.now().as_millis(), position(&progress.cursor));
            let due = progress.again.first().map(|again| Duration::from_millis(again.due.saturating_sub(now)));
            if cursor >= applied && due.is_none_or(|due| !due.is_zero()) {
                return Ok(Next::Rest(cursor, due.map(|due| due.min(LOOK_AGAIN))));
            }
            if now < progress.not_before {
                return Ok(Next::Pause(Duration::from_millis(progress.not_before - now).min(LOOK_AGAIN)));
            }
        }
        if !self.store.lease(self.lease(), self.token, LEASE_TTL).await? {
            return Ok(Next::Pause(LOOK_AGAIN));
        }
        let done = self.work(applied).await;
        self.give_back().await;
        done
    }

    /// Tells the target what it lacks. The lease is ours, for a while.
    async fn work(&self, applied: PurgeSeq) -> Result<Next, StoreError> {
        // Looked at again: its last holder may have just done it.
        let found = self.progress().await?;
        let (mut progress, before) =
            found.map_or((Progress::default(), None), |(progress, note)| (progress, Some(note)));
        let now = self.clock.now();
        let Some(work) = self.next_work(&progress, applied, now).await? else {
            return Ok(Next::Pause(COALESCE));
        };
        let requests = if work.batch.is_empty() {
            Vec::new()
        } else {
            downstream::requests(&self.target, &self.name, &work.batch, work.to, now)
        };
        if let Err(wait) = progress.permit(&self.target.provider, requests.len(), now) {
            return Ok(Next::Pause(wait.min(LOOK_AGAIN)));
        }
        let verdict = self.tell(requests).await;
        let now = self.clock.now();
        let was = progress.error.clone();
        if verdict == Verdict::Done {
            progress.acknowledged(&work.batch, work.to, self.target.second_purge, work.is_second, now);
        } else {
            progress.failed(&verdict, now);
        }
        self.say(was.as_deref(), &progress, &verdict);
        self.metrics.downstream_failures(&self.name, progress.failures);
        let note = Bytes::from(serde_json::to_vec(&progress).expect("texts and numbers are JSON"));
        // Where another node was faster, it is known on the next look.
        self.store.swap_note(&note_of(&self.name), before, note, PROGRESS_TTL).await?;
        Ok(Next::Pause(Duration::ZERO))
    }

    /// What the target is to be told next.
    async fn next_work(
        &self,
        progress: &Progress,
        applied: PurgeSeq,
        now: Timestamp,
    ) -> Result<Option<Work>, StoreError> {
        if let Some(Again { from, to, .. }) = progress.again.first().filter(|again| again.due <= now.as_millis()) {
            return self.read(position(from), position(to), true).await.map(Some);
        }
        let cursor = position(&progress.cursor);
        if cursor == PurgeSeq::ZERO {
            // New here, or forgotten with Redis: what it holds is not known.
            self.metrics.downstream_everything(&self.name);
            return Ok(Some(Work { batch: Batch::everything(), to: applied, is_second: false }));
        }
        let to = self.limit(cursor, applied, now).await?;
        if to <= cursor {
            return Ok(None);
        }
        self.read(cursor, to, false).await.map(Some)
    }

    /// How far it may be told: what its CDNs have purged, and what they have had time enough for.
    async fn limit(&self, cursor: PurgeSeq, applied: PurgeSeq, now: Timestamp) -> Result<PurgeSeq, StoreError> {
        let mut limit = applied;
        for cdn in &self.after {
            let note = self.store.note(&note_of(cdn)).await?;
            let cdn = note.and_then(|note| serde_json::from_slice::<Progress>(&note).ok()).unwrap_or_default();
            limit = limit.min(position(&cdn.cursor));
        }
        if limit < applied {
            let lines = self.store.look_log(cursor, LINES_MAX).await?;
            let old = lines.iter().map(|line| line.seq).take_while(|seq| now.since(seq.logged_at()) > CDN_PATIENCE);
            limit = limit.max(old.last().unwrap_or(PurgeSeq::ZERO).min(applied));
        }
        Ok(limit)
    }

    /// What the lines after `from` purge, up to `to`.
    async fn read(&self, from: PurgeSeq, to: PurgeSeq, is_second: bool) -> Result<Work, StoreError> {
        let lines = self.store.look_log(from, LINES_MAX).await?;
        if lines.first().is_none_or(|line| line.seq != from) {
            tracing::warn!(target_name = self.name, %from, "the purge log no longer tells what a downstream target lacks: it purges everything");
            self.metrics.downstream_everything(&self.name);
            return Ok(Work { batch: Batch::everything(), to, is_second });
        }
        let is_cut = lines.len() == LINES_MAX;
        let to = lines.last().map_or(to, |last| if is_cut { to.min(last.seq) } else { to });
        let mut batch = Batch::default();
        for LogLine { purge, .. } in lines.iter().filter(|line| line.seq > from && line.seq <= to) {
            batch.add(purge.as_ref());
        }
        Ok(Work { batch, to, is_second })
    }

    /// Sends requests one after the other, until one is not answered well.
    async fn tell(&self, requests: Vec<http::Request<Bytes>>) -> Verdict {
        for request in requests {
            let provider = &self.target.provider;
            let verdict = match self.sender.send(request).await {
                Ok(answer) => downstream::judge(provider, &self.name, answer.status, &answer.headers, &answer.body),
                Err(error) => Verdict::Later { why: format!("{error:#}"), after: None },
            };
            self.metrics.downstream_told(
                &self.name,
                match &verdict {
                    Verdict::Done => "done",
                    Verdict::Later { .. } => "later",
                    Verdict::Refused { .. } => "refused",
                },
            );
            if verdict != Verdict::Done {
                return verdict;
            }
        }
        Verdict::Done
    }

    /// Says it where the state changes.
    fn say(&self, was: Option<&str>, progress: &Progress, verdict: &Verdict) {
        let (target_name, failures) = (&self.name, progress.failures);
        match verdict {
            Verdict::Done if was.is_some() => tracing::info!(target_name, "a downstream target takes purges again"),
            Verdict::Refused { remedy } if was != Some(remedy) => {
                tracing::error!(target_name, error = remedy, "a downstream target refuses purges");
            }
            Verdict::Later { why, .. } if was.is_none() => {
                tracing::warn!(
                    target_name,
                    error = why,
                    failures,
                    "a downstream target did not take a purge, trying again"
                );
            }
            Verdict::Done | Verdict::Refused { .. } | Verdict::Later { .. } => {}
        }
    }

    /// Its progress, and how that is written. What cannot be read is as good as none.
    async fn progress(&self) -> Result<Option<(Progress, Bytes)>, StoreError> {
        let note = self.store.note(&note_of(&self.name)).await?;
        Ok(note.map(|note| (serde_json::from_slice(&note).unwrap_or_default(), note)))
    }

    fn lease(&self) -> KeyHash {
        KeyHash::of(note_of(&self.name).as_bytes())
    }

    async fn give_back(&self) {
        if let Err(error) = self.store.release(self.lease(), self.token, None).await {
            // It ends by its own time.
            tracing::debug!(target_name = self.name, %error, "could not give a lease back");
        }
    }
}
