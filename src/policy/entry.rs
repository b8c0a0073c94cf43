//! A stored answer, and what is known of it.

use std::sync::Arc;

use bytes::Bytes;
use http::{StatusCode, header};

use super::fields::Fields;
use super::forms::Forms;
use super::purge::{PurgeSeq, Purged};
use super::tags::TagHash;
use super::time::Timestamp;
use crate::sync::atomic::{AtomicU64, Ordering};

/// Until when an entry may be used, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// When the answer was made at the origin, as far as is known: `Age` counts from here.
    pub born: Timestamp,
    /// Fresh before this.
    pub fresh_until: Timestamp,
    /// May be served while it is refreshed behind, before this.
    pub swr_until: Timestamp,
    /// May be served when the origin fails, before this.
    pub sie_until: Timestamp,
}

impl Lifetime {
    /// Whether anybody may be served it after `now`, fresh or stale.
    pub fn is_useful(&self, now: Timestamp) -> bool {
        self.ends() > now
    }

    /// Whether a request may be given it without a word of the origin: fresh, or stale while that is asked.
    pub fn needs_no_word(&self, now: Timestamp) -> bool {
        self.fresh_until.max(self.swr_until) > now
    }

    /// The same times, counted anew from when the answer that renews it was made.
    #[must_use]
    pub fn renewed(&self, born: Timestamp) -> Self {
        let after = |time: Timestamp| born + time.since(self.born);
        Self {
            born,
            fresh_until: after(self.fresh_until),
            swr_until: after(self.swr_until),
            sie_until: after(self.sie_until),
        }
    }

    /// When the entry is of no use to anybody any more.
    pub fn ends(&self) -> Timestamp {
        self.fresh_until.max(self.swr_until).max(self.sie_until)
    }
}

/// A stored answer.
#[derive(Debug)]
pub struct Entry {
    /// The text of its key, shared with the tier that finds it by that.
    pub key: Arc<[u8]>,
    /// The status.
    pub status: StatusCode,
    /// The fields as they are sent, framing and connection fields gone.
    pub fields: Fields,
    /// The body, shared by all who are sent it.
    pub body: Bytes,
    /// The hashes of its tags, sorted, each once.
    pub tags: Box<[TagHash]>,
    /// Until when it may be used.
    pub lifetime: Lifetime,
    /// The newest purge that was applied here when its fill *began*.
    pub as_of: PurgeSeq,
    /// When its fill began: refreshes of a list under a burst of purges are paced by it.
    pub began: Timestamp,
    /// Whether this process asked the origin for it. What another node filled began by another clock.
    pub is_own: bool,
    /// Whether its `ETag` is ours: the origin does not know it, and is never asked about it.
    pub has_own_etag: bool,
    /// Whether its body may be sent in our encodings.
    pub is_encodable: bool,
    /// What the purge index last said of it.
    pub seen: Seen,
    /// Its body in our encodings, as far as they were made.
    pub forms: Forms,
}

impl Entry {
    /// Whether the origin can be asked if it still holds.
    pub fn has_validator(&self) -> bool {
        (self.fields.contains(&header::ETAG) && !self.has_own_etag) || self.fields.contains(&header::LAST_MODIFIED)
    }

    /// Memory that the entry holds, bookkeeping included: bytes, as its tier counts them.
    pub fn weight(&self) -> usize {
        /// The entry, what counts its users and its body's, and what the cache keeps of a key (its node, its place in
        /// the order of use, its count of uses), each with the allocator's share (measured: benches/results/purge.txt).
        const BOOKKEEPING: usize = size_of::<Entry>() + 400;
        let (fields, tags) = (self.fields.lines().len(), size_of_val(&*self.tags));
        BOOKKEEPING + self.key.len() + fields + self.body.len() + tags + self.forms.weight(fields)
    }
}

/// What was last found of an entry against the purge index. Shared by all who hold the entry; it only
/// ever gets worse, because an entry never becomes younger.
#[derive(Debug, Default)]
pub struct Seen {
    /// The index' epoch of the last look.
    epoch: AtomicU64,
    /// See [`Purged`]: two bits of kind, the rest a time in milliseconds.
    state: AtomicU64,
}

impl Seen {
    /// An entry that was just looked at.
    pub fn new(epoch: u64, purged: Purged) -> Self {
        Self { epoch: AtomicU64::new(epoch), state: AtomicU64::new(encode(purged)) }
    }

    /// The epoch of the last look.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// What the last look found.
    pub fn purged(&self) -> Purged {
        decode(self.state.load(Ordering::Acquire))
    }

    /// Records a look. Two lookers may race: the worse finding stays, and the epoch never passes a
    /// finding, because the finding is written first.
    pub fn record(&self, epoch: u64, purged: Purged) {
        self.state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |held| Some(encode(decode(held).or_worse(purged))))
            .expect("the closure never declines");
        self.epoch.fetch_max(epoch, Ordering::AcqRel);
    }
}

const fn encode(purged: Purged) -> u64 {
    match purged {
        Purged::No => 0,
        Purged::Soft { until } => 1 | (until.as_millis() << 2),
        Purged::Hard => 2,
        Purged::Deleted => 3,
    }
}

const fn decode(state: u64) -> Purged {
    match state & 3 {
        0 => Purged::No,
        1 => Purged::Soft { until: Timestamp::from_millis(state >> 2) },
        2 => Purged::Hard,
        _ => Purged::Deleted,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;

    /// A small entry of a key with this text.
    pub(crate) fn entry(key: &[u8]) -> Entry {
        let at = Timestamp::default();
        Entry {
            key: key.into(),
            status: StatusCode::OK,
            fields: Fields::from(&HeaderMap::from_iter([(header::ETAG, HeaderValue::from_static("\"a\""))])),
            body: Bytes::from_static(b"{}"),
            tags: Box::default(),
            lifetime: Lifetime { born: at, fresh_until: at, swr_until: at, sie_until: at },
            as_of: PurgeSeq::ZERO,
            began: at,
            is_own: true,
            has_own_etag: false,
            is_encodable: true,
            seen: Seen::default(),
            forms: Forms::default(),
        }
    }

    #[test]
    fn an_own_tag_is_no_validator() {
        let own = Entry { has_own_etag: true, ..entry(b"key") };
        assert!(!own.has_validator() && entry(b"key").has_validator());
    }
}
