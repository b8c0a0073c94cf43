//! The journal as the node uses it: purges go in while the log cannot be reached, and into the log, in
//! their order, when it can.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::append;
use super::journal::{Journal, JournalError};
use crate::metrics::Metrics;
use crate::policy::purge::{Purge, PurgeSeq};
use crate::purges::Purges;
use crate::store::{SharedStore, StoreError};
use crate::tasks::Tasks;

/// The first pause after a failure, doubled up to the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_LONGEST: Duration = Duration::from_secs(1);

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
        let (purges, purge) = (Arc::clone(&self.purges), purge.clone());
        let appended = move |journal: &mut Journal| {
            journal.append(&purge)?;
            purges.set_journaled(journal.waiting() as u64);
            Ok(())
        };
        self.blocking(appended).await?;
        self.more.notify_one();
        Ok(())
    }

    /// Brings what the journal holds into the log whenever it can, until the process stops. The journal
    /// counts as empty when this node's follower has passed the last of it.
    pub async fn run(self, log: Arc<dyn SharedStore>, keep: Duration, stop: CancellationToken) {
        let work = async {
            let mut pause = PAUSE_FIRST;
            loop {
                match self.replay(&*log, keep).await {
                    Ok(None) => self.more.notified().await,
                    Ok(Some(last)) => {
                        self.purges.wait_for(last).await;
                        let purges = Arc::clone(&self.purges);
                        self.blocking(move |journal| purges.set_journaled(journal.waiting() as u64)).await;
                        pause = PAUSE_FIRST;
                    }
                    Err(error) => {
                        tracing::debug!(%error, "the journal waits for the purge log");
                        tokio::time::sleep(pause).await;
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

    /// Appends all to the log; where the last one stands, or `None` if there was none.
    async fn replay(&self, log: &dyn SharedStore, keep: Duration) -> Result<Option<PurgeSeq>, StoreError> {
        let (mut last, mut count) = (None, 0_u64);
        while let Some(purge) = self.blocking(|journal| journal.next().cloned()).await {
            last = Some(append(log, &self.purges, &purge, keep).await?);
            count += 1;
            if let Err(error) = self.blocking(Journal::replayed).await {
                tracing::error!(%error, "the journal cannot be emptied, its purges will be replayed again");
            }
        }
        if last.is_some() {
            self.metrics.journal_replayed.inc_by(count);
            tracing::info!(purges = count, "the journal is in the purge log");
        }
        Ok(last)
    }

    /// Works on the journal, on a thread that may wait for the disk.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&mut Journal) -> T + Send + 'static) -> T {
        let journal = Arc::clone(&self.journal);
        Tasks::block(move || work(&mut journal.lock().unwrap_or_else(PoisonError::into_inner))).await
    }
}
