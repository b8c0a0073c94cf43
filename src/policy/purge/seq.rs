//! Positions in the purge log.

use std::fmt;

use crate::policy::time::Timestamp;

/// Bits for the milliseconds of an id, for its count in the millisecond, and for the purges that this
/// process applied behind it: none of the three ever runs out.
const MS_BITS: u32 = 48;
const N_BITS: u32 = 40;
const LOCAL_BITS: u32 = 40;
/// Bits for the lines of one millisecond: more than any server takes in that time.
const LOST_BITS: u32 = 20;

/// A position in the purge log: the id of a Redis stream entry, `ms-n`, and behind it the count of
/// purges that this process applied while it could not reach the log. Never a clock of ours.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PurgeSeq {
    /// The upper and the lower half of 128 bits: two words need no more room than they fill.
    high: u64,
    low: u64,
}

impl PurgeSeq {
    /// Before every purge.
    pub const ZERO: Self = Self::from_bits(0);

    /// The id `ms-n`; `None` when a part is larger than any that a healthy log holds (2^47 ms are
    /// 4,400 years, and no log takes 2^39 lines in a millisecond). As much again is left for what comes behind it.
    pub const fn new(ms: u64, n: u64) -> Option<Self> {
        if ms >> (MS_BITS - 1) != 0 || n >> (N_BITS - 1) != 0 {
            return None;
        }
        Some(Self::from_bits(((ms as u128) << (N_BITS + LOCAL_BITS)) | ((n as u128) << LOCAL_BITS)))
    }

    /// The log's own time of the position, in milliseconds since 1970.
    pub const fn logged_at(self) -> Timestamp {
        Timestamp::from_millis(low(self.to_bits() >> (N_BITS + LOCAL_BITS), MS_BITS))
    }

    /// Its count among the positions of one millisecond.
    pub const fn n(self) -> u64 {
        low(self.to_bits() >> LOCAL_BITS, N_BITS)
    }

    const fn local(self) -> u64 {
        low(self.to_bits(), LOCAL_BITS)
    }

    /// Parses `ms-n`.
    pub fn parse(id: &str) -> Option<Self> {
        let (ms, n) = id.split_once('-')?;
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        Self::new(number(ms)?, number(n)?)
    }

    /// The next position that exists in this process alone.
    #[must_use]
    pub const fn next_local(self) -> Self {
        Self::from_bits(self.to_bits() + 1)
    }

    /// The next position that the log may hold.
    #[must_use]
    pub const fn next_shared(self) -> Self {
        Self::from_bits(self.shared().to_bits() + (1 << LOCAL_BITS))
    }

    /// A position behind this one for a line that takes the place of all that was lost behind it. Every reader who
    /// stands here finds the same one; no line that was lost can have had it.
    #[must_use]
    pub const fn behind_the_lost(self) -> Self {
        Self::from_bits(self.shared().to_bits() + (1 << (LOCAL_BITS + LOST_BITS)))
    }

    /// The last position before this one that the log may hold.
    #[must_use]
    pub const fn before(self) -> Self {
        Self::from_bits(self.shared().to_bits().saturating_sub(1 << LOCAL_BITS))
    }

    /// The position without what only this process knows: what another node may be told.
    #[must_use]
    pub const fn shared(self) -> Self {
        Self::from_bits(self.to_bits() >> LOCAL_BITS << LOCAL_BITS)
    }

    /// The 128 bits, for the wire.
    pub const fn to_bits(self) -> u128 {
        ((self.high as u128) << 64) | self.low as u128
    }

    /// From the wire.
    pub const fn from_bits(bits: u128) -> Self {
        Self { high: low(bits >> 64, 64), low: low(bits, 64) }
    }
}

/// The lowest bits of a number.
#[expect(clippy::cast_possible_truncation, reason = "what is left has no more than 64 bits")]
const fn low(number: u128, bits: u32) -> u64 {
    (number & ((1 << bits) - 1)) as u64
}

impl fmt::Display for PurgeSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.logged_at().as_millis(), self.n())?;
        match self.local() {
            0 => Ok(()),
            local => write!(f, "+{local}"),
        }
    }
}

impl fmt::Debug for PurgeSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_written_and_ordered() {
        let parse = |id| PurgeSeq::parse(id).unwrap();
        assert_eq!(parse("12-3").to_string(), "12-3");
        assert_eq!((parse("12-3").logged_at().as_millis(), parse("12-3").n()), (12, 3));
        assert_eq!(parse("12-3").next_local().to_string(), "12-3+1");
        assert_eq!(parse("12-3").next_local().shared(), parse("12-3"));
        assert_eq!(parse("12-3").next_local().next_shared(), parse("12-4"));
        assert_eq!((parse("12-3").next_local().before(), PurgeSeq::ZERO.before()), (parse("12-2"), PurgeSeq::ZERO));
        assert_eq!(parse("12-3").next_local().behind_the_lost(), parse("12-1048579"));
        let last = parse("140737488355327-549755813887");
        assert!(last < last.next_shared() && last < last.behind_the_lost());
        assert!(parse("12-0").before() < parse("12-0") && parse("12-0").before() > parse("11-999"));
        assert!(parse("12-3") < parse("12-4") && parse("12-9") < parse("13-0"));
        assert!(parse("12-3").next_local() < parse("12-4"));
        let foreign = ["", "1", "1-", "-1", "a-1", "1-2-3", "+1-2", "1-549755813888", "140737488355328-1"];
        for foreign in foreign.iter().chain(&["99999999999999999999-1"]) {
            assert_eq!(PurgeSeq::parse(foreign), None, "{foreign}");
        }
    }
}
