//! The newest purge of each tag, by mode.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use super::{Mode, PurgeSeq, Purged};
use crate::policy::tags::TagHash;
use crate::policy::time::Timestamp;

/// Tags that were purged in some stretch of the log. Each mode has a table of its own: of most tags one mode is
/// known, and a mark of one mode is half as large as one that has room for all.
#[derive(Debug)]
pub(super) struct Marks {
    delete: HashMap<TagHash, Mark, TagHasher>,
    hard: HashMap<TagHash, Mark, TagHasher>,
    soft: HashMap<TagHash, SoftMark, TagHasher>,
}

/// The newest purge of a tag, and when it came.
#[derive(Clone, Copy, Debug)]
struct Mark {
    seq: PurgeSeq,
    at: Timestamp,
}

/// The newest soft purge of the current grace, when it came, and when the first of that grace came.
#[derive(Clone, Copy, Debug)]
struct SoftMark {
    seq: PurgeSeq,
    at: Timestamp,
    since: Timestamp,
}

impl Marks {
    pub(super) fn new() -> Self {
        let hasher = TagHasher { secret: RandomState::new().build_hasher().finish() };
        Self {
            delete: HashMap::with_hasher(hasher),
            hard: HashMap::with_hasher(hasher),
            soft: HashMap::with_hasher(hasher),
        }
    }

    /// The most marks up to a number that fill tables as far as they may be filled: they grow by doubling, and
    /// one more would have them half empty.
    pub(super) fn full(most: usize) -> usize {
        // A table is at most seven eighths full.
        match most / 7 {
            0 => most.max(1),
            eighths => 7 << eighths.ilog2(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.delete.len() + self.hard.len() + self.soft.len()
    }

    /// Adds a purge of a tag; `older` are the marks of the stretch before this one.
    pub(super) fn add(&mut self, tag: TagHash, mode: Mode, now: Applied, grace: Duration, older: &Self) {
        let Applied { seq, at } = now;
        match mode {
            Mode::Delete => raise(&mut self.delete, tag, Mark { seq, at }),
            Mode::Hard => raise(&mut self.hard, tag, Mark { seq, at }),
            Mode::Soft => {
                let known = self.soft.get(&tag).or_else(|| older.soft.get(&tag)).copied();
                let since = match known {
                    Some(known) if at < known.since + grace => known.since,
                    // A soft purge whose grace is over has become a hard one: every purge has a bound.
                    Some(over) => {
                        raise(&mut self.hard, tag, Mark { seq: over.seq, at: over.at });
                        at
                    }
                    None => at,
                };
                self.soft.insert(tag, SoftMark { seq, at, since });
            }
        }
    }

    /// What these marks say of an entry that carries the tag.
    pub(super) fn judge(&self, tag: TagHash, as_of: PurgeSeq, grace: Duration) -> Purged {
        let after = |marks: &HashMap<_, Mark, _>| marks.get(&tag).is_some_and(|mark| mark.seq > as_of);
        if after(&self.delete) {
            Purged::Deleted
        } else if after(&self.hard) {
            Purged::Hard
        } else if let Some(mark) = self.soft.get(&tag).filter(|mark| mark.seq > as_of) {
            // Of several soft purges in one grace the first sets the end for all: never too late.
            Purged::Soft { until: mark.since + grace }
        } else {
            Purged::No
        }
    }

    /// The newest purge of a tag, and when it came.
    pub(super) fn newest(&self, tag: TagHash) -> Option<Applied> {
        let marks = [&self.delete, &self.hard].into_iter().filter_map(|marks| marks.get(&tag));
        let marks = marks.map(|mark| Applied { seq: mark.seq, at: mark.at });
        let soft = self.soft.get(&tag).map(|mark| Applied { seq: mark.seq, at: mark.at });
        marks.chain(soft).max_by_key(|mark| mark.seq)
    }
}

/// A position of the log, and when it was applied here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Applied {
    pub(super) seq: PurgeSeq,
    pub(super) at: Timestamp,
}

fn raise(marks: &mut HashMap<TagHash, Mark, TagHasher>, tag: TagHash, new: Mark) {
    let mark = marks.entry(tag).or_insert(new);
    if mark.seq < new.seq {
        *mark = new;
    }
}

/// Spreads tags over a table. They are hashes already, but everybody can work them out, and a client chooses some (a
/// path that it posts to): without a secret it could crowd one place of the table.
#[derive(Clone, Copy, Debug)]
struct TagHasher {
    secret: u64,
}

impl BuildHasher for TagHasher {
    type Hasher = Spread;

    fn build_hasher(&self) -> Spread {
        Spread(self.secret)
    }
}

struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    /// A folded multiplication: every bit of the number and of the secret reaches every bit.
    #[expect(clippy::cast_possible_truncation, reason = "the halves of the product")]
    fn write_u64(&mut self, number: u64) {
        /// The golden ratio: odd, its bits without a pattern.
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        let product = u128::from(number ^ self.0) * u128::from(FACTOR);
        self.0 = (product >> 64) as u64 ^ product as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_table_is_full() {
        for (most, full) in [(1, 1), (2, 2), (7, 7), (8, 7), (13, 7), (14, 14), (500, 448), (500_000, 458_752)] {
            assert_eq!(Marks::full(most), full, "{most}");
        }
        let mut marks: HashMap<u64, ()> = HashMap::new();
        marks.reserve(1000);
        assert_eq!(marks.capacity(), Marks::full(marks.capacity()), "the tables are those of the standard library");
    }

    #[test]
    fn tags_that_are_alike_are_spread_by_a_secret() {
        let bucket = |secret, tag: u64| TagHasher { secret }.hash_one(TagHash::from_bits(tag << 32)) & 0xfff;
        let buckets = |secret| (0..4096).map(|tag| bucket(secret, tag)).collect::<Vec<_>>();
        let distinct = buckets(7).into_iter().collect::<std::collections::HashSet<_>>().len();
        assert!(distinct > 2000, "{distinct}");
        assert_ne!(buckets(7), buckets(8));
    }

    #[test]
    fn a_mark_is_four_words() {
        assert_eq!((size_of::<(TagHash, Mark)>(), size_of::<(TagHash, SoftMark)>()), (32, 40));
    }
}
