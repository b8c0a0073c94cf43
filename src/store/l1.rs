//! L1: entries in this process, bounded by bytes.

use std::collections::VecDeque;
use std::hash::RandomState;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderName;
use moka::ops::compute::{CompResult, Op};
use moka::sync::Cache;

use crate::fill::Failure;
use crate::policy::entry::Entry;
use crate::policy::key::Key;
use crate::policy::purge::PurgeSeq;
use crate::policy::storable::Unshareable;
use crate::policy::time::Timestamp;

/// Variants of one URL that are kept at once; the oldest makes room.
const VARIANTS_MAX: usize = 64;

/// What L1 knows of a key. Two words, because there is one for each key: what is rare is boxed.
#[derive(Clone, Debug)]
pub enum Slot {
    /// A stored answer.
    Entry(Arc<Entry>),
    /// Its answers vary: each is kept under a key of its own.
    Varies(Arc<Variants>),
    /// The last answer could not be shared: until then requests go by side by side.
    PassMarker {
        /// The end of the marker.
        until: Timestamp,
        /// Why it could not.
        why: Unshareable,
    },
    /// The origin failed: until then the failure is shared, so that it is not asked for each request.
    Failed(Arc<BackOff>),
}

/// A failure of the origin, and what may be served meanwhile.
#[derive(Debug)]
pub struct BackOff {
    /// The end of the back-off.
    pub until: Timestamp,
    /// The newest purge that was applied when the origin was asked: a later one ends the back-off
    /// of what it concerns.
    pub as_of: PurgeSeq,
    /// What went wrong.
    pub failure: Arc<Failure>,
    /// What was stored before, for stale-if-error.
    pub previous: Option<Arc<Entry>>,
    /// How long after the back-off a new attempt counts as its sequel.
    lasts: Duration,
    /// When the first request after the back-off came, in milliseconds; zero for not yet.
    retried: AtomicU64,
}

impl BackOff {
    /// Begins now and `lasts` so long.
    pub fn new(
        now: Timestamp,
        lasts: Duration,
        as_of: PurgeSeq,
        failure: Arc<Failure>,
        previous: Option<Arc<Entry>>,
    ) -> Self {
        Self { until: now + lasts, as_of, failure, previous, lasts, retried: AtomicU64::new(0) }
    }

    /// Whether the origin was tried again as soon as the back-off was over, so that it counts as failing until that
    /// attempt has come to its end. Told by a request after the back-off: the first one is the attempt. A failure of
    /// long ago says nothing of the origin.
    pub fn is_retried_at_once(&self, now: Timestamp) -> bool {
        let first = match self.retried.compare_exchange(0, now.as_millis(), Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => now,
            Err(first) => Timestamp::from_millis(first),
        };
        first <= self.until + self.lasts
    }
}

/// What the answers to one key vary by, and which are kept.
#[derive(Debug)]
pub struct Variants {
    /// The fields that select among them.
    pub names: Box<[HeaderName]>,
    /// The keys of those that are kept, the oldest first. Locked for a few compares.
    kept: Mutex<VecDeque<Arc<[u8]>>>,
}

impl Slot {
    fn weight(&self) -> u32 {
        let bytes = match self {
            Self::Entry(entry) => entry.weight(),
            Self::Varies(_) => 512 + VARIANTS_MAX * size_of::<Arc<[u8]>>(),
            Self::PassMarker { .. } => 512,
            Self::Failed(back_off) => {
                512 + back_off.failure.weight() + back_off.previous.as_deref().map_or(0, Entry::weight)
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
#[derive(Clone, Debug)]
pub struct L1 {
    cache: Cache<Arc<[u8]>, Slot, RandomState>,
}

impl L1 {
    /// A tier of at most `capacity` bytes; with zero nothing is ever known.
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
            Slot::Entry(entry) => Arc::clone(&entry.key),
            Slot::Varies(_) | Slot::PassMarker { .. } | Slot::Failed(_) => key.text().into(),
        };
        self.insert(text, slot);
    }

    /// Puts one of the answers to `key` under the key of its variant. What is kept under other names than
    /// these is found no more, and makes room in time.
    pub fn put_variant(&self, key: &Key, names: &[HeaderName], variant: &Arc<[u8]>, slot: Slot) {
        let variants = match self.get(key.text()) {
            Some(Slot::Varies(variants)) if *variants.names == *names => variants,
            _ => {
                let variants = Arc::new(Variants { names: names.into(), kept: Mutex::default() });
                self.put(key, Slot::Varies(Arc::clone(&variants)));
                variants
            }
        };
        let oldest = {
            let mut kept = variants.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.retain(|known| known != variant);
            kept.push_back(Arc::clone(variant));
            if kept.len() > VARIANTS_MAX { kept.pop_front() } else { None }
        };
        if let Some(oldest) = oldest {
            self.forget(oldest);
        }
        self.insert(Arc::clone(variant), slot);
    }

    /// Counts an entry's bytes anew, which has got forms; false when it is not held any more.
    pub fn weigh_anew(&self, entry: &Arc<Entry>) -> bool {
        let place = self.cache.entry(Arc::clone(&entry.key));
        let weighed = place.and_compute_with(|held| match held.map(moka::Entry::into_value) {
            Some(Slot::Entry(held)) if Arc::ptr_eq(&held, entry) => Op::Put(Slot::Entry(held)),
            Some(_) | None => Op::Nop,
        });
        matches!(weighed, CompResult::ReplacedWith(_))
    }

    fn forget(&self, text: Arc<[u8]>) {
        self.cache.entry(text).and_compute_with(|_| Op::Remove);
    }

    /// All changes of a key go one after another, so that none comes between the look and the put of another.
    fn insert(&self, text: Arc<[u8]>, slot: Slot) {
        // moka evicts behind: without room an entry would still be found for a moment.
        if self.cache.policy().max_capacity() != Some(0) {
            self.cache.entry(text).and_compute_with(|_| Op::Put(slot));
        }
    }

    /// Forgets a key.
    pub fn remove(&self, key: &Key) {
        self.forget(key.text().into());
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

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::policy::key::Key;
    use crate::policy::route::tests::rule;
    use crate::policy::tags::TagHash;

    fn marker() -> Slot {
        Slot::PassMarker { until: Timestamp::default(), why: Unshareable::Vary }
    }

    #[test]
    fn the_oldest_of_too_many_variants_makes_room() {
        let l1 = L1::new(1 << 20);
        let key = Key::of_request(&rule(), "/a", None, "", &HeaderMap::new()).unwrap();
        let names = [HeaderName::from_static("foo")];
        let variant = |value: usize| {
            let request = HeaderMap::from_iter([(names[0].clone(), value.into())]);
            Arc::<[u8]>::from(key.variant(&rule(), &names, &request).text())
        };
        for value in 0..VARIANTS_MAX {
            l1.put_variant(&key, &names, &variant(value), marker());
        }
        // The first is renewed, so the second is the oldest.
        l1.put_variant(&key, &names, &variant(0), marker());
        l1.put_variant(&key, &names, &variant(VARIANTS_MAX), marker());
        assert!(l1.get(&variant(0)).is_some() && l1.get(&variant(1)).is_none());
        assert!((2..=VARIANTS_MAX).all(|value| l1.get(&variant(value)).is_some()));
    }

    #[test]
    fn what_has_become_heavier_is_counted_anew_while_it_is_held() {
        let l1 = L1::new(1 << 20);
        let key = Key::of_request(&rule(), "/a", None, "", &HeaderMap::new()).unwrap();
        let [first, second] = [(); 2].map(|()| Arc::new(crate::policy::entry::tests::entry(key.text())));
        l1.put(&key, Slot::Entry(Arc::clone(&first)));
        l1.tidy();
        let before = l1.bytes();
        first.forms.keep(crate::policy::encoding::Coding::Br, vec![0; 1000].into());
        assert!(l1.weigh_anew(&first));
        l1.tidy();
        assert!(l1.bytes() >= before + 1000);
        l1.put(&key, Slot::Entry(second));
        assert!(!l1.weigh_anew(&first), "another has its place");
        l1.tidy();
        assert_eq!(l1.bytes(), before);
        l1.remove(&key);
        assert!(!l1.weigh_anew(&first) && l1.get(key.text()).is_none());
    }

    #[test]
    fn an_entry_weighs_what_its_key_fields_tags_and_body_take_each_alone() {
        use crate::policy::entry::tests::entry;
        use crate::policy::fields::Fields;
        const MORE: usize = 1000;
        let plain = entry(b"key").weight();
        assert!(plain > b"key".len() + b"{}".len() + 400, "bookkeeping");
        let value = http::HeaderValue::from_maybe_shared(bytes::Bytes::from(vec![b'x'; MORE])).unwrap();
        let with_field = {
            let mut fields = entry(b"key").fields.to_map();
            fields.insert("x-a", value);
            Entry { fields: Fields::from(&fields), ..entry(b"key") }
        };
        let with_tags = Entry { tags: vec![TagHash::of("prod_1"); MORE].into(), ..entry(b"key") };
        let with_body = Entry { body: vec![b'x'; 2 + MORE].into(), ..entry(b"key") };
        assert_eq!(entry(&[b'k'; 3 + MORE]).weight(), plain + MORE);
        assert_eq!(with_field.weight(), plain + MORE + "x-a: \r\n".len());
        assert_eq!(with_tags.weight(), plain + MORE * size_of::<TagHash>());
        assert_eq!(with_body.weight(), plain + MORE);
    }

    #[test]
    fn it_does_not_outgrow_its_capacity() {
        const CAPACITY: u64 = 1 << 20;
        let l1 = L1::new(CAPACITY);
        for n in 0..1000 {
            let key = Key::of_request(&rule(), &format!("/{n}"), None, "", &HeaderMap::new()).unwrap();
            let mut entry = crate::policy::entry::tests::entry(key.text());
            entry.body = vec![b'x'; 10_000].into();
            l1.put(&key, Slot::Entry(Arc::new(entry)));
        }
        l1.tidy();
        assert!((1..=CAPACITY).contains(&l1.bytes()), "{}", l1.bytes());
        assert!((1..=CAPACITY / 10_000).contains(&l1.entries()), "{}", l1.entries());
    }

    #[test]
    fn without_room_nothing_is_ever_known() {
        let l1 = L1::new(0);
        let key = Key::of_request(&rule(), "/a", None, "", &HeaderMap::new()).unwrap();
        l1.put(&key, marker());
        assert!(l1.get(key.text()).is_none());
    }
}
