//! L1: entries in this process, bounded by bytes.

use std::hash::RandomState;
use std::sync::Arc;

use bytes::Bytes;
use moka::sync::Cache;

use crate::fill::Failure;
use crate::policy::entry::Entry;
use crate::policy::key::Key;
use crate::policy::purge::PurgeSeq;
use crate::policy::storable::Unshareable;
use crate::policy::time::Timestamp;

/// What L1 knows of a key.
#[derive(Clone, Debug)]
pub enum Slot {
    /// A stored answer.
    Entry(Arc<Entry>),
    /// The last answer could not be shared: until then requests go by side by side.
    PassMarker {
        /// The end of the marker.
        until: Timestamp,
        /// Why it could not.
        why: Unshareable,
    },
    /// The origin failed: until then the failure is shared, so that it is not asked for each request.
    Failed {
        /// The end of the back-off.
        until: Timestamp,
        /// The newest purge that was applied when the origin was asked: a later one ends the back-off
        /// of what it concerns.
        as_of: PurgeSeq,
        /// What went wrong.
        failure: Arc<Failure>,
        /// What was stored before, for stale-if-error.
        previous: Option<Arc<Entry>>,
    },
}

impl Slot {
    fn weight(&self) -> u32 {
        let bytes = match self {
            Self::Entry(entry) => entry.weight(),
            Self::PassMarker { .. } => 512,
            Self::Failed { failure, previous, .. } => {
                512 + failure.weight() + previous.as_deref().map_or(0, Entry::weight)
            }
        };
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

/// The in-process tier. An entry is found by a hash with a secret of this process, so that those who choose
/// keys cannot choose buckets, and told from others by its whole key, so that no hash need be beyond
/// collision.
///
/// Freshness is judged at read: nothing here expires by time, and what is old
/// makes room for what is asked for (TinyLFU).
#[derive(Debug)]
pub struct L1 {
    cache: Cache<Bytes, Slot, RandomState>,
}

impl L1 {
    /// A tier of at most `capacity` bytes.
    pub fn new(capacity: u64) -> Self {
        let cache = Cache::builder()
            .max_capacity(capacity)
            .weigher(|_, slot: &Slot| slot.weight())
            .build_with_hasher(RandomState::new());
        Self { cache }
    }

    /// What is known of the key with this text.
    pub fn get(&self, key: &[u8]) -> Option<Slot> {
        self.cache.get(key)
    }

    /// Puts something in place of what was known.
    pub fn put(&self, key: &Key, slot: Slot) {
        let text = match &slot {
            Slot::Entry(entry) => entry.key.clone(),
            Slot::PassMarker { .. } | Slot::Failed { .. } => Bytes::copy_from_slice(key.text()),
        };
        self.cache.insert(text, slot);
    }

    /// Forgets a key.
    pub fn remove(&self, key: &Key) {
        self.cache.invalidate(key.text());
    }

    /// Keys known, as of the last housekeeping.
    pub fn entries(&self) -> u64 {
        self.cache.entry_count()
    }

    /// Bytes held, as of the last housekeeping.
    pub fn bytes(&self) -> u64 {
        self.cache.weighted_size()
    }

    /// Frees what was evicted: in a quiet process nothing else does.
    pub fn tidy(&self) {
        self.cache.run_pending_tasks();
    }
}
