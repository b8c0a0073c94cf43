//! One client's place in the feed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, watch};

use super::{Feed, Since, Told};
use crate::policy::notice::{EventId, Notice};
use crate::store::{LogLine, Portion, StoreError};
use crate::tasks::Tasks;

/// Events that are taken from the ring at a time.
const BATCH: usize = 64;
/// Lines that a client that comes back is first read from the log, and what one read brings, at the most.
const HISTORY_FIRST: usize = 4;
const HISTORY: Portion = Portion { lines: 64, bytes: 256 << 10 };

/// What a client is to be sent next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// These events.
    Events(Vec<Arc<Told>>),
    /// A sign of life; there is nothing new up to here.
    Quiet(EventId),
    /// Nothing more: it was too slow, or the log cannot be read. It may come back with the id it has.
    Behind,
}

/// See the module. A place that is dropped is free again.
#[derive(Debug)]
pub struct Reader {
    feed: Arc<Feed>,
    after: EventId,
    /// It came with an id, and has not caught up with the ring yet.
    is_behind: bool,
    /// Lines of the log to ask for next, behind the one where it stands.
    most: usize,
    changes: watch::Receiver<EventId>,
    _place: OwnedSemaphorePermit,
}

impl Reader {
    pub(super) fn new(feed: Arc<Feed>, after: Option<EventId>, place: OwnedSemaphorePermit) -> Self {
        feed.metrics.outward.feed_clients.inc();
        let changes = feed.newest.subscribe();
        let (is_behind, after) = (after.is_some(), after.unwrap_or_else(|| feed.newest()));
        Self { feed, after, is_behind, most: HISTORY_FIRST, changes, _place: place }
    }

    /// Up to where its client has all.
    pub fn position(&self) -> EventId {
        self.after
    }

    /// Waits for what comes next, at most for `patience`. May be dropped while it waits.
    pub async fn next(&mut self, patience: Duration) -> Step {
        let waited = tokio::time::timeout(patience, async {
            loop {
                // Marked first: what comes after the look wakes us.
                self.changes.borrow_and_update();
                match self.look().await {
                    Step::Events(events) if events.is_empty() => {}
                    step => return step,
                }
                if self.changes.changed().await.is_err() {
                    return Step::Behind;
                }
            }
        });
        match waited.await {
            Ok(step) => step,
            Err(_) => Step::Quiet(self.quiet()),
        }
    }

    /// Up to where there is nothing that it has not had.
    fn quiet(&mut self) -> EventId {
        // Read first: what comes between the two looks is not passed over.
        let newest = self.feed.newest();
        if !self.is_behind && matches!(self.feed.since(self.after, 1), Since::Events(events) if events.is_empty()) {
            self.after = self.after.max(newest);
        }
        self.after
    }

    async fn look(&mut self) -> Step {
        if self.is_behind {
            return match self.catch_up().await {
                Ok(events) => Step::Events(events),
                Err(error) => {
                    self.feed.outage.failed(&error);
                    Step::Behind
                }
            };
        }
        match self.feed.since(self.after, BATCH) {
            Since::Events(events) => {
                self.after = events.last().map_or(self.after, |told| told.id);
                Step::Events(events)
            }
            Since::Behind => {
                self.feed.metrics.outward.feed_dropped.inc();
                Step::Behind
            }
        }
    }

    /// What comes next for a client that came back: from the log, until the ring has it.
    async fn catch_up(&mut self) -> Result<Vec<Arc<Told>>, StoreError> {
        loop {
            let newest = self.feed.newest();
            // Another node may be ahead of this one; or nobody, and the id is made up.
            if self.after <= newest
                && let Since::Events(events) = self.feed.since(self.after, BATCH)
            {
                self.is_behind = self.feed.ring().after.is_none();
                self.after = events.last().map_or(self.after, |told| told.id);
                return Ok(events);
            }
            let lines = {
                let _turn = self.feed.histories.acquire().await;
                // The line where it stands, and so many behind it.
                self.feed.log.look_log(self.after.seq, self.most + 1).await?
            };
            self.feed.outage.ended();
            if lines.first().is_none_or(|line| line.seq != self.after.seq) {
                // The line it stands on is gone, and who knows what after it.
                self.is_behind = false;
                self.after = newest;
                return Ok(vec![Arc::new(Told { id: newest, json: Notice::reset().to_json(newest) })]);
            }
            self.is_behind = lines.len() > self.most;
            self.most = HISTORY.after(lines.iter().map(LogLine::bytes), self.most);
            let end = lines.last().map_or(self.after, |line| EventId::end_of(line.seq));
            let bytes = lines.iter().map(LogLine::bytes).sum();
            let after = self.after;
            let events = Tasks::compute(bytes, move || told(&lines, after)).await;
            if !events.is_empty() || !self.is_behind {
                self.after = self.after.max(end);
                return Ok(events);
            }
            self.after = end;
        }
    }
}

/// The events of these lines after an id.
fn told(lines: &[LogLine], after: EventId) -> Vec<Arc<Told>> {
    let mut events = Vec::new();
    for line in lines {
        let notices = line.purge.iter().flat_map(|purge| &purge.notices).enumerate();
        let news = notices.map(|(n, notice)| (EventId::new(line.seq, n), notice)).filter(|(id, _)| *id > after);
        events.extend(news.map(|(id, notice)| Arc::new(Told { id, json: notice.to_json(id) })));
    }
    events
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.feed.metrics.outward.feed_clients.dec();
    }
}
