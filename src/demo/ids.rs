//! Ids in Medusa's form and the generator behind all that is made up: the same number gives the same thing.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::clock::Timestamp;

/// Crockford's base 32, in which ULIDs are written: no I, L, O, U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Characters of an id after its prefix.
const LETTERS: usize = 26;

/// An id as the backend writes it: `prod_` and 26 characters, the first ten of which are the time.
///
/// It is kept as numbers and written when an answer is, so that a row costs no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id {
    prefix: &'static str,
    at: Timestamp,
    number: u64,
}

impl Id {
    /// The id of the `number`th thing of a kind, made at a time.
    pub(super) const fn new(prefix: &'static str, at: Timestamp, number: u64) -> Self {
        Self { prefix, at, number }
    }

    /// When the thing was made.
    pub(super) const fn at(self) -> Timestamp {
        self.at
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.prefix.bytes().fold(0_u64, |hash, byte| mix(hash ^ u64::from(byte)));
        let low = mix(kind ^ self.number);
        let chance = u128::from(low) | (u128::from(mix(low)) << 64);
        // As in a ULID: 48 bits of milliseconds, then 80 bits of chance.
        let mut bits = (u128::from(self.at.as_millis()) << 80) | (chance & ((1 << 80) - 1));
        let mut letters = [0_u8; LETTERS];
        for letter in letters.iter_mut().rev() {
            *letter = ALPHABET[(bits & 31) as usize];
            bits >>= 5;
        }
        write!(f, "{}_{}", self.prefix, std::str::from_utf8(&letters).unwrap_or_default())
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The finaliser of splitmix64: every bit of the result depends on every bit of `seed`.
pub(super) const fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A small deterministic generator (splitmix64); a dependency would save ten lines.
#[derive(Debug)]
pub(super) struct Chance(u64);

impl Chance {
    /// Begins at a seed.
    pub(super) const fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    /// A number below `end`; 0 when `end` is 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let end = u64::try_from(end).unwrap_or(u64::MAX).max(1);
        usize::try_from(mix(self.0) % end).unwrap_or(0)
    }

    /// One of some.
    pub(super) fn pick<T: Copy>(&mut self, some: &[T]) -> T {
        some[self.below(some.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_prefix_and_26_letters_of_the_alphabet() {
        for number in 0..1000 {
            let id = Id::new("prod", Timestamp::from_millis(1_795_229_633_000 + number), number).to_string();
            let letters = id.strip_prefix("prod_").unwrap();
            assert_eq!(letters.len(), LETTERS, "{id}");
            assert!(letters.bytes().all(|letter| ALPHABET.contains(&letter)), "{id}");
            assert!(letters.starts_with("01M7Y0"), "the time comes first: {id}");
        }
    }

    #[test]
    fn ids_of_one_moment_differ_by_number_and_by_kind() {
        let at = Timestamp::from_millis(1_795_229_633_000);
        let mut ids: Vec<String> = (0..1000).map(|number| Id::new("prod", at, number).to_string()).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 1000);
        let letters = |prefix| Id::new(prefix, at, 1).to_string().split_once('_').unwrap().1.to_owned();
        assert_ne!(letters("prod"), letters("pcol"));
    }

    #[test]
    fn chance_repeats_itself_and_stays_below() {
        let draw = || {
            let mut chance = Chance::new(7);
            (0..100).map(|_| chance.below(10)).collect::<Vec<_>>()
        };
        assert_eq!(draw(), draw());
        assert!(draw().iter().all(|&number| number < 10));
    }
}
