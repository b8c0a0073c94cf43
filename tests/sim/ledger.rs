//! What was changed, announced and acknowledged, and so what an answer may no longer show.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use endcap::policy::purge::{Mode, PurgeSeq};

use crate::shop::{Change, Content, Page};
use crate::world::World;

/// Nodes that there can be.
pub(crate) const NODES_MAX: usize = 3;

/// After so many milliseconds a node to which nothing has happened has applied what was acknowledged.
pub(crate) const REACHES_AFTER: u64 = 1_000;
/// After so many milliseconds a node has recovered from what happened to it: a read of the log that is
/// given up, the longest pause, and the questions that it asks anew.
pub(crate) const RECOVERS_AFTER: u64 = 8_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Ledger {
    world: Arc<World>,
    /// Milliseconds for which a node trusts itself when it is cut off.
    max_blind: u64,
    /// Milliseconds for which a lagging replica may show after the last purge of all.
    lagging: u64,
    last_purge: AtomicU64,
    /// Times that the log may have lost something, and lines that told of it.
    losses: AtomicU64,
    lines: AtomicU64,
    events: Mutex<Vec<Event>>,
    /// When each node asked what the log has since answered.
    heard: [AtomicU64; NODES_MAX],
    /// The newest position that a line ever had.
    newest: Mutex<PurgeSeq>,
    /// Each time that the log fell back: whose process had read on beyond, and has not told the others yet.
    falls: Mutex<Vec<[bool; NODES_MAX]>>,
    /// The log fell back, and nobody is left who could tell: positions from before mean nothing.
    is_torn: AtomicBool,
}

/// A change and what became of its purge.
#[derive(Debug)]
struct Event {
    change: Change,
    commit: u64,
    /// Where it stands in the log: as often as it was sent. A node that is past one has applied it.
    seqs: Vec<PurgeSeq>,
    /// Where it stands at all, or what makes it good.
    places: Vec<PurgeSeq>,
    /// When it was first acknowledged.
    acknowledged: Option<u64>,
    /// Since when each node must know of it: it acknowledged it, or has applied it.
    known: [Option<u64>; NODES_MAX],
    /// Since when each process, as it runs, has applied it.
    met: [Option<u64>; NODES_MAX],
    /// When the first process of each node had applied it: from there its grace counts, for those after it too.
    grace_from: [Option<u64>; NODES_MAX],
    /// Since when the log holds it.
    in_log: Option<u64>,
    /// The log has lost it.
    is_lost: bool,
    /// Who still knew of it when the log lost it, and has lived since: these put it back.
    keepers: [bool; NODES_MAX],
    /// The whole log is gone since it held it: no node finds its position there, and each refills what is older.
    is_found_out: bool,
}

impl Event {
    fn meets(&mut self, node: usize, now: u64) {
        self.known[node].get_or_insert(now);
        self.met[node].get_or_insert(now);
        self.grace_from[node].get_or_insert(now);
    }
}

/// A node as the ledger sees it when a request comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) node: usize,
    pub(crate) applied: PurgeSeq,
    /// Since when nothing has happened to it and to its way to the store.
    pub(crate) sound_since: Option<u64>,
    /// The same of all nodes.
    pub(crate) all_sound_since: Option<u64>,
}

/// What an answer must know: a commit, and from when it is past its grace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Duty {
    event: usize,
    change: Change,
    commit: u64,
    since: u64,
    /// From when a soft purge's grace counts.
    grace_from: u64,
    /// It may be that the node has never heard of it: it must only know that it cannot know.
    is_blind: bool,
}

/// An answer as a reader got it.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) page: Page,
    /// When it was asked for.
    pub(crate) asked: u64,
    /// The product's own word for what it did.
    pub(crate) outcome: String,
    /// What it shows; `None` for an error.
    pub(crate) content: Option<Content>,
}

impl Ledger {
    pub(crate) fn new(world: &Arc<World>, max_blind: Duration, lagging: u64) -> Arc<Self> {
        let max_blind = u64::try_from(max_blind.as_millis()).unwrap();
        Arc::new(Self {
            max_blind,
            lagging,
            last_purge: AtomicU64::new(0),
            losses: AtomicU64::new(0),
            lines: AtomicU64::new(0),
            world: Arc::clone(world),
            events: Mutex::default(),
            heard: Default::default(),
            newest: Mutex::default(),
            falls: Mutex::default(),
            is_torn: AtomicBool::new(false),
        })
    }

    /// Enters a change that was committed; its purge bears this id.
    pub(crate) fn committed(&self, change: Change, commit: u64) -> String {
        let mut events = self.events();
        events.push(Event {
            change,
            commit,
            seqs: Vec::new(),
            places: Vec::new(),
            acknowledged: None,
            known: [None; NODES_MAX],
            met: [None; NODES_MAX],
            grace_from: [None; NODES_MAX],
            in_log: None,
            is_lost: false,
            keepers: [false; NODES_MAX],
            is_found_out: false,
        });
        format!("event-{}", events.len() - 1)
    }

    /// The log has answered what a node asked then.
    pub(crate) fn heard(&self, node: usize, asked: u64) {
        self.heard[node].fetch_max(asked, Ordering::Relaxed);
    }

    /// A line of it stands in the log. Whether it is behind all that ever stood there.
    pub(crate) fn appended(&self, id: &str, seq: PurgeSeq) -> bool {
        self.last_purge.store(self.world.now(), Ordering::Relaxed);
        let mut newest = self.newest.lock().unwrap();
        // In a log that has fallen back, who is past a position may never have read what stands there.
        let is_newest = seq > *newest;
        *newest = seq.max(*newest);
        if let Some(event) = self.events().get_mut(number(id)) {
            (event.is_lost, event.is_found_out) = (false, false);
            event.places.push(seq);
            event.in_log.get_or_insert(self.world.now());
            if is_newest {
                event.seqs.push(seq);
            }
        }
        is_newest
    }

    /// The log may have lost something.
    pub(crate) fn lost(&self) {
        self.losses.fetch_add(1, Ordering::Relaxed);
    }

    /// A node told all others that the log has lost lines: what it knew of them is made good by this line.
    pub(crate) fn told(&self, node: usize, seq: PurgeSeq, is_newest: bool) {
        // Each node may tell of each, and once more where it is not heard; not for ever.
        let (lines, losses) = (self.lines.fetch_add(1, Ordering::Relaxed) + 1, self.losses.load(Ordering::Relaxed));
        if lines > losses * 2 * NODES_MAX as u64 {
            self.world.broken(format_args!("{lines} lines tell of {losses} losses"));
        }
        self.falls.lock().unwrap().retain(|witnesses| !witnesses[node]);
        let now = self.world.now();
        for event in self.events().iter_mut().filter(|event| event.is_lost && event.keepers[node]) {
            event.is_lost = false;
            event.in_log = Some(now);
            event.places.push(seq);
            if is_newest {
                event.seqs.push(seq);
            }
        }
    }

    /// A node said 2xx to it. `is_held` tells whether the log holds a position at this moment.
    pub(crate) fn acknowledged(&self, id: &str, node: usize, is_journaled: bool, is_held: impl Fn(PurgeSeq) -> bool) {
        let now = self.world.now();
        if let Some(event) = self.events().get_mut(number(id)) {
            event.acknowledged.get_or_insert(now);
            event.meets(node, now);
            if !is_journaled && !event.places.iter().any(|seq| is_held(*seq)) {
                // Lost before it was acknowledged; who acknowledged it has read it.
                (event.is_lost, event.in_log, event.keepers[node]) = (true, None, true);
                event.seqs.clear();
            }
        }
    }

    /// Something happened to the log.
    pub(crate) fn look_for_losses(&self, is_held: impl Fn(PurgeSeq) -> bool) {
        for (at, event) in self.events().iter_mut().enumerate() {
            if event.in_log.is_some() && !event.places.iter().any(|seq| is_held(*seq)) {
                (event.is_lost, event.in_log) = (true, None);
                // Who comes past these positions from here on reads other lines.
                event.seqs.clear();
                event.keepers = event.met.map(|met| met.is_some());
                for node in (0..NODES_MAX).filter(|node| event.met[*node].is_none()) {
                    (event.known[node], event.grace_from[node]) = (None, None);
                }
                self.world.note(format_args!("ledger: the log has lost event-{at}"));
            }
        }
    }

    /// The log ends here from now on, and these processes may have read on beyond.
    pub(crate) fn fell_back(&self, last: PurgeSeq, applied: impl Iterator<Item = (usize, PurgeSeq)>) {
        if *self.newest.lock().unwrap() <= last {
            return;
        }
        let mut witnesses = [false; NODES_MAX];
        applied.for_each(|(node, applied)| witnesses[node] = applied > last);
        self.falls.lock().unwrap().push(witnesses);
        self.look_for_witnesses();
    }

    /// The whole log is gone.
    pub(crate) fn dropped(&self) {
        self.events().iter_mut().for_each(|event| event.is_found_out = !event.places.is_empty());
    }

    fn look_for_witnesses(&self) {
        if self.falls.lock().unwrap().iter().any(|witnesses| !witnesses.contains(&true)) {
            self.is_torn.store(true, Ordering::Relaxed);
        }
    }

    /// A node was killed: what it alone knew of what the log has lost is gone.
    pub(crate) fn killed(&self, node: usize) {
        self.falls.lock().unwrap().iter_mut().for_each(|witnesses| witnesses[node] = false);
        self.look_for_witnesses();
        for event in self.events().iter_mut() {
            event.met[node] = None;
            if event.is_lost {
                (event.known[node], event.grace_from[node], event.keepers[node]) = (None, None, false);
            }
        }
    }

    /// Notes what a node has applied by now.
    pub(crate) fn observe(&self, standing: Standing) {
        let now = self.world.now();
        for event in self.events().iter_mut().filter(|event| !event.is_lost) {
            if event.seqs.iter().any(|seq| *seq <= standing.applied) {
                event.meets(standing.node, now);
            }
        }
    }

    /// What an answer of this node to a request that comes now must know.
    pub(crate) fn duties(&self, standing: Standing) -> Vec<Duty> {
        self.observe(standing);
        if self.is_torn.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let now = self.world.now();
        let lagged = if self.lagging == 0 { 0 } else { self.last_purge.load(Ordering::Relaxed) + self.lagging };
        let events = self.events();
        let duties = events.iter().enumerate().filter_map(|(at, event)| {
            let acknowledged = event.acknowledged;
            // Not seen to have applied it, but nothing kept it from it.
            let reached =
                |sound_since: Option<u64>| Some((acknowledged? + REACHES_AFTER).max(sound_since? + RECOVERS_AFTER));
            let known = event.known[standing.node];
            let (since, blind) = if event.is_lost {
                let sound_since = match (event.is_found_out, event.keepers.contains(&true)) {
                    (true, _) => standing.sound_since,
                    // Who kept it must tell the others first.
                    (false, true) => standing.all_sound_since,
                    (false, false) => None,
                };
                (known.or(reached(sound_since)), None)
            } else {
                // What stands in a journal concerns whoever has heard nothing of the log since.
                let heard = self.heard[standing.node].load(Ordering::Relaxed);
                let in_log = event.in_log.or(acknowledged.filter(|acknowledged| heard < *acknowledged));
                let sent = acknowledged.zip(in_log).map(|(acknowledged, in_log)| acknowledged.max(in_log));
                let reached = reached(standing.sound_since).filter(|_| event.in_log.is_some());
                (known.into_iter().chain(reached).min(), sent.map(|sent| sent + self.max_blind))
            };
            let due = |since: Option<u64>| since.map(|since| since.max(lagged)).filter(|since| now >= *since);
            let (since, is_blind) = match (due(since), due(blind)) {
                (Some(since), _) => (since, false),
                (None, Some(blind)) => (blind, true),
                (None, None) => return None,
            };
            let grace_from = if known.is_some() { event.grace_from[standing.node].unwrap_or(now) } else { since };
            Some(Duty { event: at, change: event.change, commit: event.commit, since, grace_from, is_blind })
        });
        duties.collect()
    }

    /// Events that nobody has acknowledged yet.
    pub(crate) fn unacknowledged(&self) -> usize {
        self.events().iter().filter(|event| event.acknowledged.is_none()).count()
    }

    /// Whether the log has lost lines, and everybody who had read so far is gone: what there was nobody can tell.
    pub(crate) fn is_torn(&self) -> bool {
        self.is_torn.load(Ordering::Relaxed)
    }

    /// Whether the log has lost a purge, and so has everybody who knew of it.
    pub(crate) fn has_lost(&self) -> bool {
        self.is_torn()
            || self.events().iter().any(|event| event.is_lost && !event.is_found_out && !event.keepers.contains(&true))
    }

    fn events(&self) -> MutexGuard<'_, Vec<Event>> {
        self.events.lock().unwrap()
    }
}

fn number(id: &str) -> usize {
    id.strip_prefix("event-").and_then(|number| number.parse().ok()).unwrap_or(usize::MAX)
}

/// What is wrong with an answer, where something is. `grace` is that of a soft purge, in milliseconds.
pub(crate) fn judge(answer: &Answer, duties: &[Duty], grace: u64, origin_has_failed: bool) -> Option<String> {
    let content = answer.content.as_ref()?;
    let is_for_error = answer.outcome.starts_with("stale_error");
    if is_for_error && !origin_has_failed {
        return Some("stale because of an error that there was not".into());
    }
    duties.iter().find_map(|duty| {
        if duty.commit <= content.revision || !duty.change.concerns(answer.page) {
            return None;
        }
        let mode = duty.change.forgets(answer.page, &content.shown);
        let is_allowed = match mode {
            Mode::Soft => is_for_error || answer.asked < duty.grace_from.max(duty.since) + grace,
            Mode::Hard => is_for_error,
            Mode::Delete => is_for_error && duty.is_blind,
        };
        let Duty { event, change, commit, since, .. } = duty;
        (!is_allowed).then(|| {
            format!(
                "shows r{} although {change:?} (event-{event}, r{commit}, {mode:?}) was known since {since}",
                content.revision
            )
        })
    })
}
