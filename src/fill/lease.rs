//! Who asks the origin for all nodes: a lease in the shared store, and what the others do meanwhile.

use std::sync::Arc;
use std::time::Duration;

use super::wanted::Job;
use super::{Fill, Landed};
use crate::policy::entry::Entry;
use crate::policy::key::KeyHash;
use crate::store::{Lease, LeaseToken, SharedStore, StoreError};

/// The first pause of one who waits for another node; it grows by half up to the longest.
const POLL_FIRST: Duration = Duration::from_millis(4);
const POLL_LONGEST: Duration = Duration::from_millis(50);

/// How a flight comes to its answer.
#[derive(Debug)]
pub(super) enum Turn {
    /// It asks the origin for all nodes, and must give the lease back.
    Leads(LeaseToken),
    /// It asks the origin for itself: there is nobody to share with, it is in vain, or it took too long.
    Alone,
    /// Another node was faster.
    Served(Arc<Entry>),
}

impl Fill {
    /// Takes the lease of a key, or waits for the node that has it.
    pub(super) async fn take_turn(&self, job: &mut Job) -> Turn {
        let Some(shared) = &self.shared else { return Turn::Alone };
        let (leased, token) = (job.key.hash(), LeaseToken(self.jitter.unique()));
        let waited = tokio::time::timeout(self.settings.lease_wait, self.wait_turn(&**shared, job, token)).await;
        let (turn, word) = match waited {
            Ok(turn) => turn,
            // A holder that died, or is slow, is not waited for any longer.
            Err(_) => {
                self.give_back(leased, token, None).await;
                (Turn::Alone, "timeout")
            }
        };
        self.metrics.leased(word);
        turn
    }

    async fn wait_turn(&self, shared: &dyn SharedStore, job: &mut Job, token: LeaseToken) -> (Turn, &'static str) {
        let key = job.key.hash();
        let mut pause = POLL_FIRST;
        loop {
            let lease = match shared.lease(key, token, self.settings.lease_ttl).await {
                // Between our look and the lease somebody may have had it and landed. Who knows an entry that
                // will not do has seen the shared tier's a moment ago.
                Ok(true) if job.previous.is_some() && pause == POLL_FIRST => return (Turn::Leads(token), "leads"),
                Ok(true) => Ok(Lease::Ours),
                // What came of a question without an answer, the lease itself says.
                Ok(false) | Err(StoreError::Timeout | StoreError::Connection(_)) => {
                    self.until_it_ends(shared, key, token, &mut pause).await
                }
                Err(error) => Err(error),
            };
            let lease = match lease {
                Ok(Lease::Foreign) => return (Turn::Alone, "foreign"),
                Ok(lease) => lease,
                // It may have been taken all the same, and then must be given back.
                Err(_) => return (Turn::Leads(token), "error"),
            };
            if let Some(entry) = self.ask_again(shared, job).await {
                if lease == Lease::Ours {
                    self.give_back(key, token, None).await;
                }
                return (Turn::Served(entry), "served");
            }
            match lease {
                Lease::Ours => return (Turn::Leads(token), "leads"),
                // Its holder landed nothing that we may take: our turn.
                Lease::Free => {}
                Lease::Held | Lease::Vain | Lease::Foreign => return (Turn::Alone, "vain"),
            }
        }
    }

    /// Looks at a lease again and again until its holder is done; not longer where what he lands cannot be judged.
    /// An answer that is late and a connection that breaks are waited out: the breaker says when that is in vain.
    async fn until_it_ends(
        &self,
        shared: &dyn SharedStore,
        key: KeyHash,
        token: LeaseToken,
        pause: &mut Duration,
    ) -> Result<Lease, StoreError> {
        loop {
            tokio::time::sleep(self.jitter.of(*pause)).await;
            *pause = (*pause * 3 / 2).min(POLL_LONGEST);
            match shared.leased(key, token).await {
                Ok(Lease::Held) if self.purges.can_judge_others() => {}
                Err(StoreError::Timeout | StoreError::Connection(_)) => {}
                found => return found,
            }
        }
    }

    /// The shared tier's entry, if it will do by now.
    async fn ask_again(&self, shared: &dyn SharedStore, job: &mut Job) -> Option<Arc<Entry>> {
        let bytes = shared.landed(job.key.place()).await.ok()??;
        let entry = self.read_shared(job, bytes).await.ok()?;
        self.take_shared(job, entry)
    }

    /// Ends a flight's lease. What it landed is in the shared store by now, or will never be.
    pub(super) async fn end_lease(&self, key: KeyHash, token: LeaseToken, landed: &Landed) {
        let vain = match landed {
            Landed::Entry { stored: true, .. } => None,
            // Where a purge overtook it, the next one asks again.
            Landed::Entry { entry, .. } if self.is_purged(entry) => None,
            Landed::Entry { stored: false, .. } | Landed::Unshareable(_) => Some(self.settings.pass_marker_ttl),
            Landed::Failed { .. } => Some(self.settings.error_ttl),
        };
        self.give_back(key, token, vain).await;
    }

    async fn give_back(&self, key: KeyHash, token: LeaseToken, vain: Option<Duration>) {
        let Some(shared) = &self.shared else { return };
        if let Err(error) = shared.release(key, token, vain).await {
            // It ends by its own time.
            tracing::debug!(%error, %key, "could not give a lease back");
        }
    }
}
