//! The journal as the node uses it: purges go in while the log cannot be reached, and into the log, in
//! their order, when it can.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::append;
use super::journal::{Journal, JournalError};
use crate::jitter::Jitter;
use crate::metrics::Metrics;
use crate::policy::purge::{Purge, PurgeSeq};
use crate::purges::Purges;
use crate::store::{Portion, SharedStore, StoreError};
use crate::tasks::Tasks;

/// The first pause after a failure, doubled up to the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_LONGEST: Duration = Duration::from_secs(1);
/// Purges that are replayed at a time, at the most: of the newest 1,024 (or 4 MiB) the index tells whether it has met
/// each, and others' come in between.
const BATCH: Portion = Portion { lines: 768, bytes: 1 << 20 };

/// The least that is replayed at a time.
const LINE: Portion = Portion { lines: 1, bytes: 1 };

/// How far a replay is.
#[derive(Clone, Copy, Debug)]
struct Progress {
    /// The oldest so many stand in a log that too few replicas have.
    told: usize,
    /// What is replayed at a time: less where that does not come through in time.
    batch: Portion,
    /// Tries in a row that did not come through in time.
    late: u32,
}

impl Progress {
    const FIRST: Self = Self { told: 0, batch: BATCH, late: 0 };

    /// What is tried next. After one that was late a single line finds out whether anything comes through.
    fn next(&self) -> Portion {
        if self.late == 0 { self.batch } else { LINE }
    }

    /// Where a single line comes through at once after more was late, that was too much, and is not tried again soon.
    /// Where that was late as well, the log could not be reached, and all that has gathered meanwhile is awaited.
    fn came_through(&mut self) {
        let Portion { lines, bytes } = self.batch;
        self.batch = match std::mem::take(&mut self.late) {
            0 => Portion {
                lines: (lines + lines / 8 + 1).min(BATCH.lines),
                bytes: (bytes + bytes / 8 + 1).min(BATCH.bytes),
            },
            1 => Portion { lines: (lines / 2).max(1), bytes: (bytes / 2).max(1) },
            _ => self.batch,
        };
    }
}

/// A journal, and how it comes into the log. Clones share it.
#[derive(Clone, Debug)]
pub struct Replay {
    journal: Arc<Mutex<Journal>>,
    purges: Arc<Purges>,
    metrics: Arc<Metrics>,
    more: Arc<Notify>,
}

impl Replay {
    /// Uses a journal. What it holds must come into the log before entries of other nodes can be judged.
    pub fn new(journal: Journal, purges: Arc<Purges>, metrics: Arc<Metrics>) -> Self {
        purges.set_journaled(journal.waiting() as u64);
        Self { journal: Arc::new(Mutex::new(journal)), purges, metrics, more: Arc::default() }
    }

    /// Appends a purge; it is on the disk when this returns.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub async fn append(&self, purge: &Purge) -> Result<(), JournalError> {
        let (purges, more, purge) = (Arc::clone(&self.purges), Arc::clone(&self.more), purge.clone());
        self.blocking(move |journal| {
            journal.append(&purge)?;
            purges.set_journaled(journal.waiting() as u64);
            more.notify_one();
            Ok(())
        })
        .await
    }

    /// Brings what the journal holds into the log whenever it can, until the process stops. A purge leaves the
    /// journal when this node's follower has read it from the log: what is lost before that is told again.
    pub async fn run(
        self,
        log: Arc<dyn SharedStore>,
        keep: Duration,
        patience: Duration,
        jitter: Jitter,
        stop: CancellationToken,
    ) {
        let work = async {
            let mut pause = PAUSE_FIRST;
            let mut progress = Progress::FIRST;
            loop {
                match self.replay(&*log, keep, patience, &mut progress).await {
                    Ok(0) => self.more.notified().await,
                    Ok(_) => pause = PAUSE_FIRST,
                    Err(error) => {
                        tracing::debug!(%error, "the journal waits for the purge log");
                        progress.late += u32::from(error == StoreError::Timeout);
                        tokio::time::sleep(jitter.of(pause)).await;
                        pause = (pause * 2).min(PAUSE_LONGEST);
                    }
                }
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = work => {}
        }
    }

    /// Appends the oldest to the log, waits until this node has read them, and says how many there were.
    ///
    /// Where too few replicas have them, the other nodes can read them all the same: each is put in until this node
    /// has read it, which a server that was replaced cannot make it do, and then an empty line a try asks for replicas. When
    /// these are back, all are put in again: it may be another server by then.
    async fn replay(
        &self,
        log: &dyn SharedStore,
        keep: Duration,
        patience: Duration,
        progress: &mut Progress,
    ) -> Result<usize, StoreError> {
        let (skip, batch) = (progress.told, progress.next());
        let mut purges = self.blocking(move |journal| journal.next(skip, batch)).await;
        let untold = purges.len();
        if untold == 0 {
            if skip == 0 {
                return Ok(0);
            }
            purges.push(Purge { source: "replay".into(), ..Purge::default() });
        }
        let before = std::mem::take(&mut progress.told);
        let (seqs, lacks) = match append(log, &self.purges, &purges, keep).await {
            Ok(_) if before > 0 => {
                progress.came_through();
                return Ok(purges.len());
            }
            Ok(seqs) => (seqs, None),
            Err(StoreError::Unreplicated(seqs, text)) => (seqs.clone(), Some(StoreError::Unreplicated(seqs, text))),
            Err(error) => return Err(error),
        };
        let last = seqs.last().copied().unwrap_or(PurgeSeq::ZERO);
        tokio::time::timeout(patience, self.purges.wait_for(last)).await.map_err(|_| StoreError::Timeout)?;
        if !self.purges.with(|index| seqs.iter().all(|seq| index.has_applied(*seq))) {
            // Lost before they were read: the follower is past them, and no other node knows of them.
            return Err(StoreError::Server("the log has lost a line".into()));
        }
        progress.came_through();
        if let Some(error) = lacks {
            progress.told = before + untold;
            return Err(error);
        }
        let (count, shown) = (purges.len(), Arc::clone(&self.purges));
        let emptied = self.blocking(move |journal| {
            let emptied = journal.replayed(count);
            shown.set_journaled(journal.waiting() as u64);
            emptied
        });
        if let Err(error) = emptied.await {
            tracing::error!(%error, "the journal cannot be emptied, its purges will be replayed again");
        }
        self.metrics.purges.journal_replayed.inc_by(count as u64);
        tracing::info!(purges = count, "purges went from the journal into the log");
        Ok(count)
    }

    /// Works on the journal, on a thread that may wait for the disk.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&mut Journal) -> T + Send + 'static) -> T {
        let journal = Arc::clone(&self.journal);
        Tasks::block(move || work(&mut journal.lock().unwrap_or_else(PoisonError::into_inner))).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, ManualClock};
    use crate::policy::purge::{Marked, Mode, PurgeIndex};
    use crate::policy::time::Timestamp;
    use crate::store::faulty::{Fault, FaultyStore};
    use crate::store::memory::MemoryStore;

    /// A journal with so many purges, and the node's index.
    async fn journaled(count: usize) -> (Replay, Arc<Purges>, tempfile::TempDir) {
        let purges = Arc::new(Purges::new(PurgeIndex::new(Duration::ZERO, 100, Duration::from_secs(100)), None));
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal"), 4096).unwrap().0;
        let replay = Replay::new(journal, Arc::clone(&purges), Metrics::new(&[]));
        for _ in 0..count {
            replay.append(&Purge { tags: vec![("a".into(), Mode::Hard)], ..Purge::default() }).await.unwrap();
        }
        (replay, purges, folder)
    }

    const NOW: Timestamp = Timestamp::from_millis(1000);

    /// A replay that runs.
    struct Running {
        log: Arc<FaultyStore>,
        purges: Arc<Purges>,
        tasks: Tasks,
        _folder: tempfile::TempDir,
    }

    /// Replays so many purges into a log with a fault.
    async fn running(count: usize, fault: Fault) -> Running {
        let log = Arc::new(FaultyStore::new(Arc::new(ManualClock::at(NOW))));
        log.set(Some(fault));
        let (replay, purges, folder) = journaled(count).await;
        let (tasks, keep) = (Tasks::new(), Duration::from_secs(100));
        let told = Arc::<FaultyStore>::clone(&log);
        tasks.spawn(replay.run(told, keep, keep, Jitter::new(1), tasks.stopping().clone()));
        Running { log, purges, tasks, _folder: folder }
    }

    /// Found by the black box: a master came back that had been replaced, took what was in the journal, and nobody
    /// read it there.
    #[tokio::test]
    async fn what_a_log_without_replicas_took_is_told_again_until_this_node_has_read_it() {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(Timestamp::from_millis(1000)));
        let lacks = |clock| {
            let log = FaultyStore::new(clock);
            log.set(Some(Fault::Unreplicated));
            log
        };
        let log = lacks(Arc::clone(&clock));
        let (replay, purges, _folder) = journaled(2).await;
        let keep = Duration::from_secs(100);
        let apply = |ms, n| purges.apply(PurgeSeq::new(ms, n).unwrap(), Marked::default(), clock.now());
        apply(900, 0);
        let mut progress = Progress::FIRST;
        let elsewhere = async { apply(1001, 0) };
        let (replayed, ()) = tokio::join!(biased; replay.replay(&log, keep, keep, &mut progress), elsewhere);
        assert!(replayed.is_err());
        assert_eq!(progress.told, 0);
        let log = lacks(Arc::new(ManualClock::at(Timestamp::from_millis(2000))));
        let read = async { (0..2).for_each(|n| apply(2000, n)) };
        let (replayed, ()) = tokio::join!(biased; replay.replay(&log, keep, keep, &mut progress), read);
        assert!(matches!(replayed, Err(StoreError::Unreplicated(..))), "{replayed:?}");
        assert_eq!(progress.told, 2);
        // One asks whether replicas are back.
        let read = async { apply(2000, 2) };
        let (replayed, ()) = tokio::join!(biased; replay.replay(&log, keep, keep, &mut progress), read);
        assert!(matches!(replayed, Err(StoreError::Unreplicated(ref seqs, _)) if seqs.len() == 1), "{replayed:?}");
        assert_eq!((progress.told, purges.journaled()), (2, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_come_through_in_time_is_told_in_smaller_parts() {
        let Running { log, purges, tasks, _folder } = running(7, Fault::Slow).await;
        for _ in 0..100 {
            if purges.journaled() == 0 {
                break;
            }
            let lines = log.read_log(purges.applied(), 99, Duration::from_secs(1)).await.unwrap();
            lines.iter().for_each(|line| purges.apply(line.seq, Marked::default(), NOW));
        }
        assert_eq!(purges.journaled(), 0);
        tasks.stop().await;
    }

    /// Found by the black box: nodes see again when the log has been reached for as long as journals take to come into it.
    /// Though the server that answers has no replica: the one that was replaced is still away.
    #[tokio::test(start_paused = true)]
    async fn what_gathered_while_the_log_could_not_be_reached_comes_into_it_at_once() {
        for then in [None, Some(Fault::Unreplicated)] {
            let Running { log, purges, tasks, _folder } = running(40, Fault::Silent).await;
            tokio::time::sleep(Duration::from_secs(20)).await;
            log.set(then);
            for part in [1, 39] {
                let lines = log.read_log(purges.applied(), 99, Duration::from_secs(9)).await.unwrap();
                assert_eq!(lines.len(), part);
                lines.iter().for_each(|line| purges.apply(line.seq, Marked::default(), NOW));
            }
            tasks.stop().await;
        }
    }

    #[test]
    fn what_was_too_much_is_halved_and_grows_again() {
        let mut progress = Progress::FIRST;
        let lines = |progress: &Progress| progress.next().lines;
        progress.late += 1;
        assert_eq!(lines(&progress), 1);
        progress.came_through();
        assert_eq!(lines(&progress), 384);
        progress.came_through();
        assert_eq!(lines(&progress), 433);
        progress.late += 2;
        progress.came_through();
        assert_eq!(lines(&progress), 433, "it was not the number");
        (0..9).for_each(|_| progress.came_through());
        assert_eq!(lines(&progress), BATCH.lines);
    }

    /// The log is evicted after the line came in and before it was read; the next line begins a new one.
    #[tokio::test]
    async fn a_line_that_was_passed_over_unread_stays_in_the_journal() {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(Timestamp::from_millis(1000)));
        let log = MemoryStore::new(Arc::clone(&clock));
        let (replay, purges, _folder) = journaled(1).await;
        let apply = |ms| purges.apply(PurgeSeq::new(ms, 0).unwrap(), Marked::default(), clock.now());
        apply(900);
        let keep = Duration::from_secs(100);
        let passed_over = async {
            log.read_log(PurgeSeq::ZERO, 1, Duration::from_secs(1)).await.unwrap();
            apply(1001);
        };
        let mut progress = Progress::FIRST;
        let (replayed, ()) = tokio::join!(biased; replay.replay(&log, keep, keep, &mut progress), passed_over);
        assert!(matches!(replayed, Err(StoreError::Server(_))), "{replayed:?}");
        assert_eq!(purges.journaled(), 1, "it is told again");
    }
}
