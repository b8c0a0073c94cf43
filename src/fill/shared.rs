//! The shared tier, as flights use it.

use std::sync::Arc;

use bytes::Bytes;

use super::Fill;
use super::wanted::Job;
use crate::policy::entry::Entry;
use crate::policy::exchange;
use crate::policy::freshness::Verdict;
use crate::policy::key::Key;
use crate::policy::purge::Purged;
use crate::store::wire::{self, Stored};
use crate::tasks::Tasks;

impl Fill {
    /// The shared tier's entry, where it will do.
    ///
    /// # Errors
    /// There is no such tier, it must not be asked, or it did not answer: a miss with a reason.
    pub(super) async fn ask_shared(&self, job: &mut Job) -> Result<Option<Arc<Entry>>, &'static str> {
        let shared = self.shared.as_ref().ok_or("l2_none")?;
        let outcome = if self.purges.can_judge_others() {
            shared.get(job.key.place()).await.map_err(|error| error.reason())
        } else {
            // A node that has just started knows of no purge, and would find everything fresh; others do
            // not know what this one was told and has in its journal.
            Err("l2_unready")
        };
        let (read, outcome) = match outcome {
            Ok(None) => (Err("l2_absent"), Ok(None)),
            Ok(Some(bytes)) => match self.read_shared(job, bytes).await {
                Ok(entry) => (Ok(()), Ok(self.take_shared(job, entry))),
                Err(why) => (Err(why), Ok(None)),
            },
            Err(why) => (Err(why), Err(why)),
        };
        self.metrics.l2_read(read.err());
        outcome
    }

    /// Reads what the shared tier holds. Where the answers are found to vary, the job turns to the variant that
    /// its request selects.
    pub(super) async fn read_shared(&self, job: &mut Job, bytes: Bytes) -> Result<Arc<Entry>, &'static str> {
        let names = match self.decode_shared(job, bytes).await? {
            Stored::Entry(entry) => return Ok(Arc::from(entry)),
            Stored::Varies(names) => names,
        };
        // Another node may forward other fields: what is not sent from here can select nothing.
        if !names.iter().all(|name| exchange::is_forwarded(&job.rule, name)) {
            return Err("l2_varies");
        }
        job.key = job.primary.variant(&job.rule, &names, &job.forwarded);
        let shared = self.shared.as_ref().ok_or("l2_none")?;
        let bytes = shared.get(job.key.place()).await.map_err(|error| error.reason())?.ok_or("l2_absent")?;
        match self.decode_shared(job, bytes).await? {
            Stored::Entry(entry) => Ok(Arc::from(entry)),
            Stored::Varies(_) => Err("l2_varies"),
        }
    }

    async fn decode_shared(&self, job: &Job, bytes: Bytes) -> Result<Stored, &'static str> {
        self.metrics.fills.l2_read_bytes.inc_by(bytes.len() as u64);
        // Unpacked it may be far larger than what came.
        let Some(_share) = self.budget.take(self.codec.unpacked(&bytes)) else { return Err("l2_in_flight") };
        let (codec, rule, key) = (self.codec.clone(), Arc::clone(&job.rule), job.key.clone());
        let (purges, length, now) = (Arc::clone(&self.purges), bytes.len(), self.clock.now());
        let read = move || {
            codec.decode(rule.tag_fingerprint(), key.text(), &bytes, &purges, now).map_err(wire::WireError::reason)
        };
        let stored = Tasks::compute(length, read).await?;
        // Asked again: a purge that came meanwhile, and is in the journal alone, is unknown to whoever filled it.
        if self.purges.can_judge_others() { Ok(stored) } else { Err("l2_unready") }
    }

    /// Takes an entry of the shared tier if it will do; else it may still save a body, or serve when the
    /// origin fails.
    pub(super) fn take_shared(&self, job: &mut Job, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        // A request that waits is served one that is due or stale, and refreshes it behind; a refresh goes on to the origin.
        let is_better = match self.judge(&entry, self.clock.now()) {
            Verdict::Fresh => entry.began >= job.not_before,
            Verdict::Due | Verdict::Stale(_) => job.previous.is_none(),
            Verdict::Expired(_) => false,
        };
        if is_better {
            self.keep(job, &entry);
            return Some(entry);
        }
        job.know(entry);
        None
    }

    /// Puts an entry where the other nodes find it.
    pub(super) async fn share(&self, job: &Job, entry: &Arc<Entry>) {
        let Some(shared) = &self.shared else { return };
        if matches!(self.purges.check(entry), Purged::Hard | Purged::Deleted) {
            return;
        }
        // Not for longer than the log reaches back: a node that starts later could not judge it.
        let ttl = wire::time_to_live(entry, self.clock.now()).min(self.settings.shared_max);
        if ttl.is_zero() {
            return;
        }
        let (codec, written) = (self.codec.clone(), Arc::clone(entry));
        let fingerprint = job.rule.tag_fingerprint();
        let value = Tasks::compute(entry.body.len(), move || codec.encode(fingerprint, &written)).await;
        let key = Key::from_text(&entry.key).expect("an entry's key is one of ours");
        let mut bytes = value.len();
        let mut outcome = shared.put(key.place(), value, ttl).await;
        if key.text() != job.primary.text() && outcome.is_ok() {
            let names = self.codec.encode_names(fingerprint, job.primary.text(), &Key::selecting(&entry.key));
            bytes += names.len();
            outcome = shared.put(job.primary.hash(), names, ttl).await;
        }
        if outcome.is_ok() {
            self.metrics.fills.l2_written_bytes.inc_by(bytes as u64);
        }
        self.metrics.l2_write(outcome.as_ref().err().map(crate::store::StoreError::reason));
    }

    /// Forgets a key in both tiers.
    pub(super) fn remove(&self, key: &Key) {
        self.l1.remove(key);
        let Some(shared) = self.shared.clone() else { return };
        let (hash, place) = (key.hash(), key.place());
        self.tasks.spawn(async move {
            if let Err(error) = shared.remove(place).await {
                tracing::debug!(%error, key = %hash, "could not forget a key in the shared store");
            }
        });
    }
}
