//! The follower: reads the log in order and applies it to this node's index.

use std::collections::BTreeSet;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::recent::Recent;
use crate::clock::Clock;
use crate::feed::Feed;
use crate::jitter::Jitter;
use crate::metrics::Metrics;
use crate::policy::purge::{Marked, Mode, Purge, PurgeIndex, PurgeSeq};
use crate::policy::time::Timestamp;
use crate::purges::Purges;
use crate::store::{LogState, Portion, SharedStore, StoreError, Written, line};
use crate::tasks::Tasks;

/// Lines of the first batch, and what a batch holds, at the most.
const BATCH_FIRST: usize = 128;
const BATCH: Portion = Portion { lines: 1024, bytes: 2 << 20 };
/// How long one read waits for a line, at the most: also how often an idle node looks whether the log
/// still holds its position.
const WAIT: Duration = Duration::from_secs(1);
/// The first pause after a failure, doubled up to the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_LONGEST: Duration = Duration::from_secs(2);

/// Reads in quick succession that make a burst, and how soon after one another they come.
const BURST: u32 = 16;
const QUICK: Duration = Duration::from_millis(5);

/// Takes the lines of a burst together. Each read costs a round trip whatever it brings, at a thousand lines a
/// second more than all hits; so after a number of quick reads one is awaited for a moment, until the burst is over.
#[derive(Debug, Default)]
struct Pace {
    quick: u32,
    last: Timestamp,
}

impl Pace {
    /// How long to wait before the next read, after one that brought so many lines.
    fn after(&mut self, lines: usize, now: Timestamp) -> Duration {
        let is_quick = now.since(self.last) < QUICK || (self.quick >= BURST && lines > 1);
        self.last = now;
        self.quick = if is_quick { self.quick.saturating_add(1) } else { 0 };
        if self.quick >= BURST { QUICK } else { Duration::ZERO }
    }
}

/// What a follower carries from one connection to the next.
#[derive(Debug)]
struct Carried {
    /// The pause after the next failure.
    pause: Duration,
    /// What must be told to the others before anything else is read.
    owed: Option<Purge>,
    /// Lines to ask for.
    most: usize,
    /// It was so when it was last looked at.
    is_blind: bool,
}

/// Lines of the log that were read together.
struct Batch {
    lines: Vec<Written>,
    /// When they were asked for.
    asked: Timestamp,
    /// Lines that were asked for: with fewer the log was read to its end.
    most: usize,
}

impl Batch {
    fn is_end(&self) -> bool {
        self.lines.len() < self.most
    }
}

/// What is known of a follower.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Following {
    /// It has read the log to its end at least once.
    pub caught_up: bool,
    /// The last read succeeded.
    pub connected: bool,
    /// When it last had an answer.
    pub heard: Option<Timestamp>,
}

/// Follows the log until the process stops.
#[derive(Debug)]
pub struct Follower {
    /// The log.
    pub log: Arc<dyn SharedStore>,
    /// What it writes.
    pub purges: Arc<Purges>,
    /// The last purges, for people.
    pub recent: Arc<Recent>,
    /// Whom it tells of what it has applied; that never makes it wait.
    pub feed: Arc<Feed>,
    /// How far back the log reaches.
    pub keep: Duration,
    /// How often the node must be confirmed as current: a read waits for a part of it.
    pub max_blind: Duration,
    /// Keeps the nodes from coming back all at once.
    pub jitter: Jitter,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// What others may know of it.
    pub state: watch::Sender<Following>,
}

impl Follower {
    /// Follows, and after each failure begins again where it was.
    pub async fn run(self, stop: CancellationToken) {
        let mut carried = Carried { pause: PAUSE_FIRST, owed: None, most: BATCH_FIRST, is_blind: false };
        loop {
            let failed = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                error = self.follow(&mut carried) => error,
            };
            // Copied first: a borrow that lives on in the same statement is a lock that `send_replace` waits for.
            let before = *self.state.borrow();
            self.purges.cut_off();
            self.state.send_replace(Following { connected: false, ..before });
            self.metrics.purges.log_connected.set(0);
            if before.connected {
                tracing::warn!(error = %failed, "lost the purge log, trying again");
            }
            if failed == StoreError::Timeout {
                // The lines may be so long that as many of them do not come in time.
                carried.most = (carried.most / 2).max(1);
            }
            self.note_blindness(&mut carried);
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.jitter.of(carried.pause)) => {}
            }
            carried.pause = (carried.pause * 2).min(PAUSE_LONGEST);
        }
    }

    /// Says when the node has gone blind, and when it sees again.
    fn note_blindness(&self, carried: &mut Carried) {
        let is_blind = self.purges.is_blind(self.clock.now());
        match (std::mem::replace(&mut carried.is_blind, is_blind), is_blind) {
            (false, true) => {
                self.metrics.purges.went_blind.inc();
                tracing::warn!("blind: nothing older than max_blind is served as fresh until the log is back");
            }
            (true, false) => tracing::info!("sees again: what is kept is trusted as far as the purge log goes"),
            (false, false) | (true, true) => {}
        }
    }

    /// Reads until something fails.
    async fn follow(&self, carried: &mut Carried) -> StoreError {
        if let Err(error) = self.resume(&mut carried.owed).await {
            return error;
        }
        let mut pace = Pace::default();
        let mut ahead = None;
        loop {
            let caught_up = self.state.borrow().caught_up;
            // The first reads do not wait: an empty answer is the end of the log.
            let wait = if caught_up { WAIT.min(self.max_blind / 4) } else { Duration::ZERO };
            let batch = match ahead.take() {
                Some(batch) => batch,
                None => match self.read(self.purges.applied().shared(), carried.most, wait).await {
                    Ok(batch) => batch,
                    Err(error) => return error,
                },
            };
            carried.most = BATCH.after(batch.lines.iter().map(Written::bytes), batch.most);
            let (now, asked, is_end) = (self.clock.now(), batch.asked, batch.is_end());
            let is_idle = batch.lines.is_empty() && caught_up;
            let wait = if is_end && !is_idle { pace.after(batch.lines.len(), now) } else { Duration::ZERO };
            match batch.lines.last().map(|line| line.seq).filter(|_| !is_end) {
                None => self.apply_all(batch.lines, caught_up, now).await,
                Some(last) => {
                    // Behind a full batch there is more. The question is on its way before the answer to the last
                    // one is applied.
                    let (next, ()) = tokio::join!(
                        biased;
                        self.read(last, carried.most, Duration::ZERO),
                        self.apply_all(batch.lines, caught_up, now)
                    );
                    match next {
                        Ok(next) => ahead = Some(next),
                        Err(error) => return error,
                    }
                }
            }
            if is_idle && let Err(error) = self.keep_alive().await {
                return error;
            }
            if caught_up {
                // An answer that was on its way for too long, too.
                self.note_blindness(carried);
            }
            if is_end {
                self.purges.confirmed(asked);
                self.note_blindness(carried);
            }
            let caught_up = caught_up || is_end;
            let before = self.state.send_replace(Following { caught_up, connected: true, heard: Some(now) });
            carried.pause = PAUSE_FIRST;
            if !before.connected {
                self.metrics.purges.log_connected.set(1);
                tracing::info!(purge_seq = %self.purges.applied(), "following the purge log");
            }
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
        }
    }

    /// Finds out whether the log still holds what comes after our position, and mends it where not.
    async fn resume(&self, owed: &mut Option<Purge>) -> Result<(), StoreError> {
        let applied = self.purges.applied();
        // A purge that was applied here alone says nothing of the log.
        let is_new = applied.shared() == PurgeSeq::ZERO;
        match self.log.log_state(applied).await? {
            LogState::Continues if is_new => {
                // An empty log may be one that was lost. With a line of its own a beginning can be told
                // from it, and what the shared tier holds from before cannot be judged.
                self.purges.raise_floor(self.append(&note("start")).await?);
            }
            LogState::Continues => {}
            // The start: what the shared tier holds from before the first line cannot be judged.
            LogState::Trimmed(first) if is_new => self.purges.raise_floor(first),
            LogState::Trimmed(first) => {
                tracing::warn!(%applied, %first, "the purge log was cut past our position: older entries are refilled");
                self.metrics.purges.log_lost.inc();
                self.purges.raise_floor(first);
                self.feed.lost();
            }
            LogState::Lost(held) => {
                let is_known = owed.is_some();
                *owed = Some(lost(owed.take(), self.purges.with(PurgeIndex::recent_deletions)));
                // While the log takes no line of it, what has been refilled since is no older than before.
                if !is_known {
                    tracing::warn!(%applied, %held, "the purge log has lost lines: all nodes refill what is older");
                    self.metrics.purges.log_lost.inc();
                    if is_new {
                        // It had come this far, and nobody is there who has read it: entries may say so all the same.
                        self.purges.raise_floor(held);
                    }
                    // Others may have appended lines before our position that we shall never read.
                    self.purges.forget();
                    self.feed.lost();
                }
            }
        }
        self.tell(owed).await?;
        self.feed.resumed(self.purges.applied());
        Ok(())
    }

    /// A log without lines would end, and the next line might cut off the one we stand on.
    async fn keep_alive(&self) -> Result<(), StoreError> {
        let age = self.clock.wall().since(self.purges.applied().logged_at());
        if age > self.keep / 2 + self.jitter.of(self.keep / 4) {
            self.append(&note("alive")).await?;
        }
        Ok(())
    }

    /// Puts one line for all that was lost behind everything that anybody has read: whoever was behind
    /// refills what it can no longer be told of.
    async fn tell(&self, owed: &mut Option<Purge>) -> Result<(), StoreError> {
        let Some(purge) = owed else { return Ok(()) };
        let after = self.purges.applied().behind_the_lost();
        // The log may stand before our position, where we should not read what comes next.
        let seq = if self.log.restore(after, purge, self.keep).await? { after } else { self.append(purge).await? };
        *owed = None;
        self.purges.raise_floor(seq);
        Ok(())
    }

    async fn append(&self, line: &Purge) -> Result<PurgeSeq, StoreError> {
        let seqs = match self.log.append(slice::from_ref(line), self.keep).await {
            // It is there for who can read. If its server is lost, so is our position, and that is found out.
            Ok(seqs) | Err(StoreError::Unreplicated(seqs, _)) => seqs,
            Err(error) => return Err(error),
        };
        seqs.last().copied().ok_or_else(|| StoreError::Server("the log says nothing of the line".into()))
    }

    async fn read(&self, after: PurgeSeq, most: usize, wait: Duration) -> Result<Batch, StoreError> {
        let asked = self.clock.now();
        let lines = self.log.read_log(after, most, wait).await?;
        Ok(Batch { lines, asked, most })
    }

    async fn apply_all(&self, lines: Vec<Written>, caught_up: bool, now: Timestamp) {
        let bytes = lines.iter().map(Written::bytes).sum();
        let to = Applier {
            purges: Arc::clone(&self.purges),
            recent: Arc::clone(&self.recent),
            feed: Arc::clone(&self.feed),
            clock: Arc::clone(&self.clock),
            metrics: Arc::clone(&self.metrics),
        };
        Tasks::compute(bytes, move || to.apply_all(&lines, caught_up, now)).await;
    }
}

/// Where lines go that were read.
struct Applier {
    purges: Arc<Purges>,
    recent: Arc<Recent>,
    feed: Arc<Feed>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

impl Applier {
    fn apply_all(&self, lines: &[Written], caught_up: bool, now: Timestamp) {
        // Replayed lines are old, and so is what a blind node reads. How old, only a clock of the log's could tell.
        let is_late = !caught_up || self.purges.is_blind(now);
        let lines: Vec<_> = lines.iter().map(|line| (line.seq, line::decode(&line.text))).collect();
        // Before anybody can see that they are applied.
        let purges = || lines.iter().filter_map(|(seq, line)| Some((*seq, line.as_ref()?)));
        for mode in Mode::ALL {
            let count = purges().map(|(_, purge)| purge.tags_of(mode).len()).sum();
            if count > 0 {
                self.metrics.purged(mode, count);
            }
        }
        self.recent.read(purges().filter(|(_, purge)| purge.tags().next().is_some()), self.clock.now());
        for (seq, line) in &lines {
            let seq = *seq;
            let at = if is_late { now.min(seq.logged_at()) } else { now };
            let Some(line) = line else {
                // Somebody else's, or a newer version's. Its place is taken, so that we do not read it again.
                self.metrics.purges.log_garbage.inc();
                tracing::warn!(purge_seq = %seq, "skipped a line of the purge log that cannot be read");
                self.purges.apply(seq, Marked::default(), at);
                continue;
            };
            let tags = line.tags().count();
            tracing::debug!(purge_seq = %seq, source = &*line.source, tags, "purge applied");
            let in_time = |mode: Mode| if is_late { mode.without_grace() } else { mode };
            let marked = Marked::of(line.tags().map(|(tag, mode)| (tag, in_time(mode))));
            if self.purges.with(|index| index.is_too_long(&marked.marks)) {
                tracing::warn!(purge_seq = %seq, tags, "a purge is longer than purge.marks_max has room for: all that is older is refilled");
            }
            self.purges.apply(seq, marked, at);
            self.feed.applied(seq, &line.notices);
        }
        if let Some((seq, _)) = lines.last() {
            self.recent.applied_up_to(*seq, self.clock.now());
            self.feed.applied_up_to(*seq);
            let age = self.clock.wall().since(seq.logged_at());
            self.metrics.purges.log_lag.set(age.as_secs_f64());
        }
    }
}

/// The line for all that was lost: everything, and by name what was deleted of late. What is `owed` of an earlier one
/// could not be told, and this node has forgotten it since.
fn lost(owed: Option<Purge>, mut deleted: BTreeSet<String>) -> Purge {
    let owed = owed.map_or_else(Vec::new, |purge| purge.tags).into_iter();
    deleted.extend(owed.filter_map(|(tag, mode)| (mode == Mode::Delete).then_some(tag)));
    let tags = deleted.into_iter().map(|tag| (tag, Mode::Delete)).chain([("all".to_owned(), Mode::Hard)]).collect();
    Purge { tags, ..note("lost") }
}

/// A line that purges nothing.
fn note(source: &str) -> Purge {
    Purge { source: source.to_owned(), ..Purge::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::policy::purge::Purged;
    use crate::policy::tags::TagHash;
    use crate::store::faulty::{Fault, FaultyStore};

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);
    const MAX_BLIND: Duration = Duration::from_secs(5);
    const GRACE: Duration = Duration::from_secs(2);

    fn follower() -> (Follower, Arc<FaultyStore>, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::at(NOW));
        let log = Arc::new(FaultyStore::new(Arc::<ManualClock>::clone(&clock)));
        let metrics = Metrics::new(&[]);
        let index = PurgeIndex::new(GRACE, 100, Duration::from_secs(100));
        let follower = Follower {
            recent: Arc::default(),
            log: Arc::<FaultyStore>::clone(&log),
            purges: Arc::new(Purges::new(index, Some(MAX_BLIND))),
            feed: Feed::new(1, Arc::<FaultyStore>::clone(&log), Arc::clone(&metrics)),
            keep: Duration::from_secs(3600),
            max_blind: MAX_BLIND,
            jitter: Jitter::new(1),
            clock: Arc::<ManualClock>::clone(&clock),
            metrics,
            state: watch::Sender::default(),
        };
        (follower, log, clock)
    }

    /// An answer may have been on its way for long, and what came meanwhile is not in it.
    #[tokio::test(start_paused = true)]
    async fn the_node_is_current_as_of_the_question_and_not_of_the_answer() {
        let (follower, _, clock) = follower();
        let (purges, mut state, tasks) = (Arc::clone(&follower.purges), follower.state.subscribe(), Tasks::new());
        tasks.spawn(follower.run(tasks.stopping().clone()));
        state.wait_for(|state| state.caught_up).await.unwrap();
        // The next question is under way: it waits for a line.
        let slow = Duration::from_secs(3);
        clock.advance(slow);
        state.wait_for(|state| state.heard == Some(NOW + slow)).await.unwrap();
        assert!(!purges.is_blind(Timestamp::from_millis((NOW + MAX_BLIND).as_millis() - 1)));
        assert!(purges.is_blind(NOW + MAX_BLIND));
        tasks.stop().await;
    }

    /// A process that was stopped for a while, or a log that could not be reached: the acknowledgement is as old as the line.
    #[tokio::test]
    async fn a_node_that_reads_late_grants_no_grace() {
        for (late, caught_up, found) in [
            (MAX_BLIND - GRACE, true, Purged::Soft { until: NOW + MAX_BLIND }),
            (MAX_BLIND, true, Purged::Hard),
            (Duration::ZERO, false, Purged::Hard),
        ] {
            let (follower, log, clock) = follower();
            follower.purges.confirmed(clock.now());
            let line = Purge { tags: vec![("a".to_owned(), Mode::Soft)], ..Purge::default() };
            follower.append(&line).await.unwrap();
            clock.advance(late);
            let lines = log.read_log(PurgeSeq::ZERO, 9, Duration::ZERO).await.unwrap();
            follower.apply_all(lines, caught_up, clock.now()).await;
            assert_eq!(finds(&follower, PurgeSeq::ZERO), found);
        }
    }

    /// A follower who has read a line that the log no longer has, and where that stood.
    async fn loser() -> (Follower, Arc<FaultyStore>, PurgeSeq) {
        let (follower, log, clock) = follower();
        let lost = follower.append(&note("early")).await.unwrap().next_shared();
        follower.purges.apply(lost, Marked::default(), clock.now());
        clock.advance(Duration::from_millis(1));
        (follower, log, lost)
    }

    fn finds(follower: &Follower, as_of: PurgeSeq) -> Purged {
        follower.purges.judge(&[TagHash::of("a")], as_of).purged()
    }

    /// A master that is alone and may not write (`min-replicas-to-write`), or is full.
    #[tokio::test]
    async fn what_a_lost_log_may_have_held_is_forgotten_before_anybody_can_be_told_and_only_once() {
        let (follower, log, lost) = loser().await;
        log.set(Some(Fault::ReadOnly));
        let mut owed = None;
        assert!(follower.resume(&mut owed).await.is_err());
        assert!(owed.is_some());
        assert_eq!(finds(&follower, lost), Purged::Deleted);
        let refilled = follower.purges.applied();
        assert!(follower.resume(&mut owed).await.is_err());
        assert_eq!((finds(&follower, refilled), follower.metrics.purges.log_lost.get()), (Purged::No, 1));
        log.set(None);
        follower.resume(&mut owed).await.unwrap();
        assert_eq!((finds(&follower, refilled), owed), (Purged::Deleted, None), "what others purged meanwhile");
    }

    #[tokio::test]
    async fn who_tells_of_a_loss_tells_it_once_though_no_replica_hears_it() {
        let (follower, log, _) = loser().await;
        // Somebody appended behind our position, where the line for the loss can only follow.
        log.append(&[note("other")], follower.keep).await.unwrap();
        log.set(Some(Fault::Unreplicated));
        let mut owed = None;
        follower.resume(&mut owed).await.unwrap();
        follower.resume(&mut owed).await.unwrap();
        let told = log.look_log(PurgeSeq::ZERO, 99).await.unwrap();
        let losses = told.iter().filter(|line| line.purge.as_ref().is_some_and(|purge| purge.source == "lost"));
        assert_eq!(losses.count(), 1, "{told:?}");
    }

    /// Who had read that one would find it there, and believe that nothing is missing.
    #[tokio::test]
    async fn the_line_for_a_loss_stands_where_no_lost_line_stood() {
        let (follower, log, lost) = loser().await;
        follower.resume(&mut None).await.unwrap();
        let next = lost.next_shared();
        assert!(matches!(log.log_state(next).await.unwrap(), LogState::Lost(_)), "read by another before it was lost");
    }

    #[test]
    fn deletions_that_could_not_be_told_are_told_with_the_next_loss() {
        let deletions = |purge: &Purge| {
            let named = purge.tags.iter().filter(|(_, mode)| *mode == Mode::Delete);
            named.map(|(tag, _)| tag.clone()).collect::<Vec<_>>()
        };
        let first = lost(None, BTreeSet::from(["a".to_owned()]));
        assert_eq!(
            (deletions(&first), first.tags.last()),
            (vec!["a".to_owned()], Some(&("all".to_owned(), Mode::Hard)))
        );
        let second = lost(Some(first), BTreeSet::from(["b".to_owned()]));
        assert_eq!((deletions(&second), second.tags.len()), (vec!["a".to_owned(), "b".to_owned()], 3));
    }

    #[test]
    fn the_lines_of_a_burst_are_taken_together() {
        let at = |ms| Timestamp::from_millis(1000 + ms);
        let mut pace = Pace::default();
        for n in 0..100 {
            assert_eq!(pace.after(1, at(n * 5)), Duration::ZERO, "two hundred a second are no burst");
        }
        for n in 1..u64::from(BURST) {
            assert_eq!(pace.after(1, at(495 + n)), Duration::ZERO, "nor are a few at once");
        }
        for n in 0..10 {
            assert_eq!(pace.after(5, at(511 + n * 6)), QUICK);
        }
        assert_eq!(pace.after(1, at(600)), Duration::ZERO, "it is over");
        assert_eq!(pace.after(1, at(601)), Duration::ZERO);
    }
}
