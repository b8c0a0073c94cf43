//! The feed: what admin clients are told of the purge log, on every node.
//!
//! The follower hands each line on as it applies it, and never waits: the newest events stand in a ring, and each
//! client reads on from where it is. A client that is behind the ring has lost its place; it is let go, and comes
//! back with the id of the last event it had, from where it is told what the log still holds.

mod reader;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, watch};

use crate::metrics::Metrics;
use crate::outage::Outage;
use crate::policy::notice::{EventId, Notice};
use crate::policy::purge::PurgeSeq;
use crate::store::SharedStore;

pub use reader::{Reader, Step};

/// Events in the ring, at the most.
const RING_MAX: usize = 1024;
/// Bytes of events in the ring, at the most; one that is larger stands there alone.
const RING_BYTES_MAX: usize = 1 << 20;
/// Clients that read old lines of the log at once; the others wait for their turn.
const HISTORIES_MAX: usize = 4;

/// An event as clients are sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Where it stands.
    pub id: EventId,
    /// Its JSON.
    pub json: String,
}

/// See the module.
#[derive(Debug)]
pub struct Feed {
    ring: Mutex<Ring>,
    /// The end of what was handed on. Wakes readers.
    newest: watch::Sender<EventId>,
    places: Arc<Semaphore>,
    histories: Semaphore,
    log: Arc<dyn SharedStore>,
    /// Whether the log can be read for who comes back.
    outage: Outage,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Ring {
    /// The ring holds every event after this; `None` until that is known.
    after: Option<EventId>,
    events: VecDeque<Arc<Told>>,
    bytes: usize,
}

/// What the ring has for a reader.
#[derive(Debug)]
enum Since {
    /// These come next; none if it has all.
    Events(Vec<Arc<Told>>),
    /// It is behind the ring.
    Behind,
}

impl Feed {
    /// A feed for so many clients at once, whose history is in the log.
    pub fn new(clients_max: usize, log: Arc<dyn SharedStore>, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            ring: Mutex::default(),
            newest: watch::Sender::default(),
            places: Arc::new(Semaphore::new(clients_max)),
            histories: Semaphore::new(HISTORIES_MAX),
            log,
            outage: Outage::new("feed", metrics.history_failures("feed")),
            metrics,
        })
    }

    /// Why those who come back cannot be told what they missed, while that is so.
    pub fn error(&self) -> Option<String> {
        self.outage.error()
    }

    /// A place for one more client, which has all up to `after`, or wants what is new from now on. `None` when all
    /// places are taken.
    pub fn join(self: &Arc<Self>, after: Option<EventId>) -> Option<Reader> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some(Reader::new(Arc::clone(self), after, place))
    }

    /// The follower reads on from here, and hands on all that comes after.
    pub(crate) fn resumed(&self, at: PurgeSeq) {
        let mut ring = self.ring();
        if ring.after.is_none() {
            let end = EventId::end_of(at);
            ring.after = Some(end);
            self.newest.send_replace(end);
        }
    }

    /// The log was lost or cut before it was read: whoever is connected has missed something.
    pub(crate) fn lost(&self) {
        *self.ring() = Ring::default();
    }

    /// The follower has applied a line; nobody is woken yet.
    pub(crate) fn applied(&self, seq: PurgeSeq, notices: &[Notice]) {
        if notices.is_empty() {
            return;
        }
        let mut ring = self.ring();
        for (n, notice) in notices.iter().enumerate() {
            let id = EventId::new(seq, n);
            ring.push(Told { id, json: notice.to_json(id) });
        }
        self.metrics.outward.feed_events.inc_by(notices.len() as u64);
    }

    /// The follower has applied all lines up to this one: who waits is woken.
    pub(crate) fn applied_up_to(&self, seq: PurgeSeq) {
        self.newest.send_replace(EventId::end_of(seq));
    }

    /// The end of what was handed on.
    fn newest(&self) -> EventId {
        *self.newest.borrow()
    }

    fn since(&self, after: EventId, most: usize) -> Since {
        let ring = self.ring();
        match ring.after {
            Some(oldest) if after < oldest => Since::Behind,
            // What comes next decides whether anything was missed.
            None => Since::Events(Vec::new()),
            Some(_) => {
                let from = ring.events.partition_point(|told| told.id <= after);
                Since::Events(ring.events.range(from..).take(most).cloned().collect())
            }
        }
    }

    fn ring(&self) -> std::sync::MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn push(&mut self, told: Told) {
        self.bytes += told.json.len();
        self.events.push_back(Arc::new(told));
        while self.events.len() > RING_MAX || (self.bytes > RING_BYTES_MAX && self.events.len() > 1) {
            let Some(oldest) = self.events.pop_front() else { return };
            self.bytes -= oldest.json.len();
            self.after = self.after.max(Some(oldest.id));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::{Clock, ManualClock};
    use crate::policy::purge::Purge;
    use crate::store::memory::MemoryStore;

    const KEEP: Duration = Duration::from_secs(60);

    /// A feed that the test hands lines to, as the follower does.
    struct World {
        feed: Arc<Feed>,
        log: Arc<MemoryStore>,
    }

    impl World {
        async fn new(clients_max: usize) -> Self {
            let clock: Arc<dyn Clock> = Arc::new(ManualClock::default());
            let log = Arc::new(MemoryStore::new(clock));
            let feed = Feed::new(clients_max, Arc::clone(&log) as Arc<dyn SharedStore>, Metrics::new(&[]));
            let world = Self { feed, log };
            let start = world.log.append(&[Purge::default()], KEEP).await.unwrap()[0];
            world.feed.resumed(start);
            world
        }

        /// A line with these events.
        async fn line(&self, events: &[&str]) -> PurgeSeq {
            let notices =
                events.iter().map(|event| Notice { event: (*event).to_owned(), ..Notice::default() }).collect();
            let purge = Purge { notices, ..Purge::default() };
            let seq = self.log.append(std::slice::from_ref(&purge), KEEP).await.unwrap()[0];
            self.feed.applied(seq, &purge.notices);
            self.feed.applied_up_to(seq);
            seq
        }
    }

    /// What a reader is told until it has all there is; `-` where it is let go.
    async fn told(reader: &mut Reader) -> Vec<String> {
        let mut names = Vec::new();
        loop {
            match reader.next(Duration::ZERO).await {
                Step::Events(events) => names.extend(events.iter().map(|told| {
                    let value: serde_json::Value = serde_json::from_str(&told.json).unwrap();
                    value["event"].as_str().unwrap().to_owned()
                })),
                Step::Quiet(_) => return names,
                Step::Behind => {
                    names.push("-".to_owned());
                    return names;
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_told_what_comes_after_it_has_joined() {
        let world = World::new(2).await;
        world.line(&["before"]).await;
        let mut reader = world.feed.join(None).unwrap();
        world.line(&["a", "b"]).await;
        world.line(&[]).await;
        world.line(&["c"]).await;
        assert_eq!(told(&mut reader).await, ["a", "b", "c"]);
        assert_eq!(told(&mut reader).await, Vec::<String>::new());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_goes_on_within_a_line_from_the_ring_or_from_the_log() {
        let world = World::new(2).await;
        let seq = world.line(&["a", "b", "c"]).await;
        let resume = || world.feed.join(Some(EventId::new(seq, 0))).unwrap();
        assert_eq!(told(&mut resume()).await, ["b", "c"]);
        for n in 0..RING_MAX {
            world.line(&[&n.to_string()]).await;
        }
        let all: Vec<String> =
            ["b", "c"].map(str::to_owned).into_iter().chain((0..RING_MAX).map(|n| n.to_string())).collect();
        assert_eq!(told(&mut resume()).await, all, "what the ring has lost, the log has");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_too_slow_is_let_go_and_misses_nothing() {
        let world = World::new(1).await;
        let mut reader = world.feed.join(None).unwrap();
        let seq = world.line(&["a"]).await;
        assert_eq!(told(&mut reader).await, ["a"]);
        for n in 0..=RING_MAX {
            world.line(&[&n.to_string()]).await;
        }
        assert_eq!(told(&mut reader).await, ["-"]);
        drop(reader);
        let mut again = world.feed.join(Some(EventId::new(seq, 0))).expect("its place is free again");
        assert_eq!(told(&mut again).await.len(), RING_MAX + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_whose_place_the_log_has_lost_is_told_to_look_again() {
        let world = World::new(2).await;
        let unknown = EventId::parse("0-0.5");
        assert_eq!(told(&mut world.feed.join(unknown).unwrap()).await, ["reset"]);
        let mut reader = world.feed.join(None).unwrap();
        world.feed.lost();
        assert_eq!(told(&mut reader).await, Vec::<String>::new(), "nothing is known yet");
        world.feed.resumed(PurgeSeq::new(9, 9).unwrap());
        assert_eq!(told(&mut reader).await, ["-"]);
    }

    #[tokio::test(start_paused = true)]
    async fn clients_and_bytes_are_bounded() {
        let world = World::new(1).await;
        let first = world.feed.join(None).unwrap();
        assert!(world.feed.join(None).is_none());
        drop(first);
        assert!(world.feed.join(None).is_some());
        for _ in 0..40 {
            world.line(&["x".repeat(100 << 10).as_str()]).await;
        }
        let ring = world.feed.ring();
        assert!(ring.bytes <= RING_BYTES_MAX && ring.events.len() < 11, "{}", ring.bytes);
    }
}
