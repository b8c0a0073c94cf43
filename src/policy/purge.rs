//! Purges: orders to forget, in the order of one log.
//!
//! A purge is one line in a log and costs the same for one entry and for a million: no index from tags
//! to entries exists. Each entry carries its tags and the position of the log when its fill *began*
//! (`as_of`); it catches up with the log when it is next looked at.
//!
//! Invariant: an entry is valid when `as_of ≥ floor` and none of its tags was purged after `as_of`.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::time::Duration;

use super::tags::{TagHash, coarse_tag};
use super::time::Timestamp;

/// A position in the purge log: the id of a Redis stream entry, `ms-n`, and behind it the count of
/// purges that this process applied while it could not reach the log. Never a clock of ours.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PurgeSeq(u128);

impl PurgeSeq {
    /// Before every purge.
    pub const ZERO: Self = Self(0);

    /// The id `ms-n`; `None` when `n` is larger than any that a healthy log holds (2^40).
    pub const fn new(ms: u64, n: u64) -> Option<Self> {
        if n >> 40 != 0 {
            return None;
        }
        Some(Self(((ms as u128) << 64) | ((n as u128) << 24)))
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
        Self(self.0 + 1)
    }

    /// The position without what only this process knows: what another node may be told.
    #[must_use]
    pub const fn shared(self) -> Self {
        Self(self.0 >> 24 << 24)
    }

    /// The 128 bits, for the wire.
    pub const fn to_bits(self) -> u128 {
        self.0
    }

    /// From the wire.
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }
}

impl fmt::Display for PurgeSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0 >> 64, (self.0 >> 24) & ((1 << 40) - 1))?;
        match self.0 & ((1 << 24) - 1) {
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

/// How strongly a purge forgets. The later variant is the stronger one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// May be served stale while it is refreshed, for the grace; then as `Hard`.
    Soft,
    /// Must be refilled before it is served again; the body is kept for stale-if-error.
    Hard,
    /// Gone, not even served when the origin fails.
    Delete,
}

impl Mode {
    /// All modes, for the metrics.
    pub const ALL: [Self; 3] = [Self::Soft, Self::Hard, Self::Delete];

    /// The word for logs, labels and requests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Soft => "soft",
            Self::Hard => "hard",
            Self::Delete => "delete",
        }
    }

    /// The mode of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == word)
    }
}

/// One line of the log: what to forget and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Purge {
    /// The tags and their modes.
    pub tags: Vec<(String, Mode)>,
    /// Who ordered it: the webhook source, `purge` for an operator, `unsafe_method`.
    pub source: String,
    /// The sender's id for it, empty for none.
    pub event_id: String,
}

impl Purge {
    /// The hashed form in which the index keeps it: each tag once with its strongest mode, sorted, and
    /// for each tag the coarse one of its kind, which entries with too many tags carry instead.
    pub fn marks(&self) -> Box<[(TagHash, Mode)]> {
        let mut marks = Vec::with_capacity(self.tags.len() + 4);
        let mut coarse: Vec<(String, Mode)> = Vec::new();
        for (tag, mode) in &self.tags {
            marks.push((TagHash::of(tag), *mode));
            if let Some(kind) = coarse_tag(tag)
                && !coarse.iter().any(|(seen, with)| *seen == kind && with == mode)
            {
                coarse.push((kind, *mode));
            }
        }
        marks.extend(coarse.iter().map(|(tag, mode)| (TagHash::of(tag), *mode)));
        marks.sort_unstable_by(|a, b| (a.0, b.1).cmp(&(b.0, a.1)));
        marks.dedup_by_key(|(tag, _)| *tag);
        marks.into_boxed_slice()
    }
}

/// What the index says of an entry. The later variant is the worse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purged {
    /// Nothing after its fill began.
    No,
    /// Softly: it may be served stale before this time.
    Soft {
        /// The end of the grace.
        until: Timestamp,
    },
    /// It must be refilled.
    Hard,
    /// It must not be served at all.
    Deleted,
}

impl Purged {
    /// The worse of two findings; of two soft ones the earlier end.
    #[must_use]
    pub fn or_worse(self, other: Self) -> Self {
        match (self, other) {
            (Self::Deleted, _) | (_, Self::Deleted) => Self::Deleted,
            (Self::Hard, _) | (_, Self::Hard) => Self::Hard,
            (Self::Soft { until: a }, Self::Soft { until: b }) => Self::Soft { until: a.min(b) },
            (soft @ Self::Soft { .. }, Self::No) | (Self::No, soft @ Self::Soft { .. }) => soft,
            (Self::No, Self::No) => Self::No,
        }
    }
}

/// The newest purges of one tag.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    delete: PurgeSeq,
    hard: PurgeSeq,
    /// The newest soft purge of the current grace, and when the first of that grace came.
    soft: PurgeSeq,
    soft_since: Timestamp,
}

impl Mark {
    fn add(&mut self, mode: Mode, seq: PurgeSeq, at: Timestamp, grace: Duration) {
        match mode {
            Mode::Delete => self.delete = seq,
            Mode::Hard => self.hard = seq,
            Mode::Soft => {
                // A soft purge whose grace is over has become a hard one: every purge has a bound.
                if self.soft == PurgeSeq::ZERO || at >= self.soft_since + grace {
                    self.hard = self.hard.max(self.soft);
                    self.soft_since = at;
                }
                self.soft = seq;
            }
        }
    }

    fn judge(&self, as_of: PurgeSeq, grace: Duration) -> Purged {
        if self.delete > as_of {
            Purged::Deleted
        } else if self.hard > as_of {
            Purged::Hard
        } else if self.soft > as_of {
            // Of several soft purges in one grace the first sets the end for all: never too late.
            Purged::Soft { until: self.soft_since + grace }
        } else {
            Purged::No
        }
    }

    fn newest(&self) -> PurgeSeq {
        self.delete.max(self.hard).max(self.soft)
    }
}

/// A purge as the ring keeps it.
#[derive(Debug)]
struct Recent {
    seq: PurgeSeq,
    at: Timestamp,
    marks: Box<[(TagHash, Mode)]>,
}

/// What was purged, by tag, and the newest purges in order.
///
/// Bounded: beyond `marks_max` tags (or after `lifetime_max`) the older generation is forgotten and
/// `floor` rises to its newest purge, so that what can no longer be judged counts as purged.
#[derive(Debug)]
pub struct PurgeIndex {
    soft_grace: Duration,
    marks_max: usize,
    lifetime_max: Duration,
    applied: PurgeSeq,
    floor: PurgeSeq,
    epoch: u64,
    young: HashMap<TagHash, Mark>,
    young_since: Option<Timestamp>,
    old: HashMap<TagHash, Mark>,
    old_newest: PurgeSeq,
    /// The newest purges, in order: all after `ring_after`.
    ring: VecDeque<Recent>,
    ring_after: PurgeSeq,
    ring_tags: usize,
}

/// Purges that the ring holds: a hot entry is looked at far more often than once in so many.
const RING_MAX: usize = 1024;
/// Tags that the ring holds over all its purges.
const RING_TAGS_MAX: usize = 65_536;

impl PurgeIndex {
    /// Nothing purged yet. `lifetime_max` is the longest time for which any entry is of use.
    pub fn new(soft_grace: Duration, marks_max: usize, lifetime_max: Duration) -> Self {
        Self {
            soft_grace,
            marks_max: marks_max.max(2),
            lifetime_max,
            applied: PurgeSeq::ZERO,
            floor: PurgeSeq::ZERO,
            epoch: 0,
            young: HashMap::new(),
            young_since: None,
            old: HashMap::new(),
            old_newest: PurgeSeq::ZERO,
            ring: VecDeque::new(),
            ring_after: PurgeSeq::ZERO,
            ring_tags: 0,
        }
    }

    /// The newest purge applied.
    pub fn applied(&self) -> PurgeSeq {
        self.applied
    }

    /// The oldest position that can be judged.
    pub fn floor(&self) -> PurgeSeq {
        self.floor
    }

    /// Counts the changes: while it stands still, no finding can have changed.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Tags remembered one by one.
    pub fn marks(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Applies a line of the log. Lines come in order; one that was applied already changes nothing.
    pub fn apply(&mut self, seq: PurgeSeq, marks: Box<[(TagHash, Mode)]>, at: Timestamp) {
        if seq <= self.applied {
            return;
        }
        let since = *self.young_since.get_or_insert(at);
        if self.young.len() + marks.len() > self.marks_max / 2 || at.since(since) > self.lifetime_max {
            self.floor = self.floor.max(self.old_newest);
            self.old = std::mem::take(&mut self.young);
            self.old_newest = self.applied;
            self.young_since = Some(at);
        }
        self.applied = seq;
        self.epoch += 1;
        for (tag, mode) in &marks {
            let known = self.young.get(tag).or_else(|| self.old.get(tag)).copied().unwrap_or_default();
            let mark = self.young.entry(*tag).or_insert(known);
            mark.add(*mode, seq, at, self.soft_grace);
        }
        self.ring_tags += marks.len();
        self.ring.push_back(Recent { seq, at, marks });
        while self.ring.len() > RING_MAX || self.ring_tags > RING_TAGS_MAX {
            match self.ring.pop_front() {
                Some(oldest) => {
                    self.ring_tags -= oldest.marks.len();
                    self.ring_after = oldest.seq;
                }
                None => break,
            }
        }
    }

    /// Says that nothing before `seq` can be judged any more: the log was cut or lost there.
    pub fn raise_floor(&mut self, seq: PurgeSeq) {
        if seq > self.floor {
            self.floor = seq;
            self.applied = self.applied.max(seq);
            self.epoch += 1;
            // The ring no longer tells all that changed since an epoch.
            self.ring.clear();
            self.ring_after = self.applied;
            self.ring_tags = 0;
        }
    }

    /// Judges an entry from nothing: when it is stored, and when it comes from a shared tier.
    pub fn judge(&self, tags: &[TagHash], as_of: PurgeSeq) -> Purged {
        if as_of < self.floor {
            return Purged::Hard;
        }
        if as_of >= self.applied {
            return Purged::No;
        }
        tags.iter()
            .filter_map(|tag| self.young.get(tag).or_else(|| self.old.get(tag)))
            .map(|mark| mark.judge(as_of, self.soft_grace))
            .fold(Purged::No, Purged::or_worse)
    }

    /// Judges an entry that was found well at `epoch`: only the purges since then are tested.
    pub fn judge_since(&self, tags: &[TagHash], as_of: PurgeSeq, epoch: u64) -> Purged {
        let missed = usize::try_from(self.epoch - epoch.min(self.epoch)).unwrap_or(usize::MAX);
        if missed > self.ring.len() {
            return self.judge(tags, as_of);
        }
        if as_of < self.floor {
            return Purged::Hard;
        }
        self.ring
            .iter()
            .rev()
            .take(missed)
            .filter(|recent| recent.seq > as_of)
            .filter_map(|recent| Some((recent.at, strongest_common(&recent.marks, tags)?)))
            .map(|(at, mode)| self.purged(mode, at))
            .fold(Purged::No, Purged::or_worse)
    }

    /// Judges the answer of a flight for a follower who joined when `joined` was the newest purge: only
    /// what was purged after the flight began (`as_of`) and before the follower came concerns it. Where
    /// the ring no longer tells the two apart, every later purge does.
    pub fn judge_between(&self, tags: &[TagHash], as_of: PurgeSeq, joined: PurgeSeq) -> Purged {
        if joined <= as_of {
            return Purged::No;
        }
        if as_of < self.ring_after {
            return self.judge(tags, as_of);
        }
        self.ring
            .iter()
            .filter(|recent| recent.seq > as_of && recent.seq <= joined)
            .filter_map(|recent| Some((recent.at, strongest_common(&recent.marks, tags)?)))
            .map(|(at, mode)| self.purged(mode, at))
            .fold(Purged::No, Purged::or_worse)
    }

    fn purged(&self, mode: Mode, at: Timestamp) -> Purged {
        match mode {
            Mode::Delete => Purged::Deleted,
            Mode::Hard => Purged::Hard,
            Mode::Soft => Purged::Soft { until: at + self.soft_grace },
        }
    }

    /// The newest purge of a tag, for `explain` and tests.
    pub fn newest(&self, tag: TagHash) -> Option<PurgeSeq> {
        self.young.get(&tag).or_else(|| self.old.get(&tag)).map(Mark::newest)
    }
}

/// The strongest mode among the tags that both sorted lists hold; searches the longer with the shorter.
fn strongest_common(marks: &[(TagHash, Mode)], tags: &[TagHash]) -> Option<Mode> {
    if marks.len() <= tags.len() {
        marks.iter().filter(|(tag, _)| tags.binary_search(tag).is_ok()).map(|(_, mode)| *mode).max()
    } else {
        tags.iter()
            .filter_map(|tag| marks.binary_search_by_key(tag, |(marked, _)| *marked).ok())
            .map(|at| marks[at].1)
            .max()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GRACE: Duration = Duration::from_secs(2);

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn seq(n: u64) -> PurgeSeq {
        PurgeSeq::new(n, 0).unwrap()
    }

    fn tags(names: &[&str]) -> Vec<TagHash> {
        let mut tags: Vec<_> = names.iter().map(|name| TagHash::of(name)).collect();
        tags.sort_unstable();
        tags
    }

    fn marks(names: &[&str], mode: Mode) -> Box<[(TagHash, Mode)]> {
        let tags = names.iter().map(|name| ((*name).to_owned(), mode)).collect();
        Purge { tags, ..Purge::default() }.marks()
    }

    fn index() -> PurgeIndex {
        PurgeIndex::new(GRACE, 1000, Duration::from_secs(3600))
    }

    #[test]
    fn a_position_is_read_written_and_ordered() {
        assert_eq!(PurgeSeq::parse("12-3").unwrap().to_string(), "12-3");
        assert_eq!(PurgeSeq::parse("12-3").unwrap().next_local().to_string(), "12-3+1");
        assert_eq!(PurgeSeq::parse("12-3").unwrap().next_local().shared(), PurgeSeq::parse("12-3").unwrap());
        assert!(PurgeSeq::parse("12-3") < PurgeSeq::parse("12-4") && PurgeSeq::parse("12-9") < PurgeSeq::parse("13-0"));
        assert!(PurgeSeq::parse("12-3").unwrap().next_local() < PurgeSeq::parse("12-4").unwrap());
        for foreign in ["", "1", "1-", "-1", "a-1", "1-2-3", "+1-2", "1-1099511627776", "99999999999999999999-1"] {
            assert_eq!(PurgeSeq::parse(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn only_a_purge_after_the_fill_began_counts() {
        let mut index = index();
        index.apply(seq(5), marks(&["prod_1"], Mode::Hard), at(0));
        assert_eq!(index.judge(&tags(&["prod_1", "x"]), seq(4)), Purged::Hard);
        assert_eq!(index.judge(&tags(&["prod_1"]), seq(5)), Purged::No);
        assert_eq!(index.judge(&tags(&["prod_2"]), seq(4)), Purged::No);
        assert_eq!(index.newest(TagHash::of("prod_1")), Some(seq(5)));
    }

    #[test]
    fn a_line_applied_twice_or_late_changes_nothing() {
        let mut index = index();
        index.apply(seq(5), marks(&["a"], Mode::Hard), at(0));
        index.apply(seq(5), marks(&["b"], Mode::Hard), at(0));
        index.apply(seq(4), marks(&["b"], Mode::Hard), at(0));
        assert_eq!((index.epoch(), index.applied()), (1, seq(5)));
        assert_eq!(index.judge(&tags(&["b"]), seq(1)), Purged::No);
    }

    #[test]
    fn a_soft_purge_becomes_hard_after_its_grace_however_many_follow() {
        let mut index = index();
        index.apply(seq(1), marks(&["list:a"], Mode::Soft), at(1000));
        index.apply(seq(2), marks(&["list:a"], Mode::Soft), at(2000));
        let until = at(3000);
        assert_eq!(index.judge(&tags(&["list:a"]), seq(0)), Purged::Soft { until });
        assert_eq!(index.judge(&tags(&["list:a"]), seq(1)), Purged::Soft { until }, "never too late");
        index.apply(seq(3), marks(&["list:a"], Mode::Soft), at(3500));
        assert_eq!(index.judge(&tags(&["list:a"]), seq(1)), Purged::Hard);
        assert_eq!(index.judge(&tags(&["list:a"]), seq(2)), Purged::Soft { until: at(5500) });
        assert_eq!(index.judge(&tags(&["list:a"]), seq(3)), Purged::No);
    }

    #[test]
    fn the_strongest_mode_wins() {
        let mut index = index();
        index.apply(seq(1), marks(&["a"], Mode::Soft), at(0));
        index.apply(seq(2), marks(&["b"], Mode::Hard), at(0));
        assert_eq!(index.judge(&tags(&["a", "b"]), seq(0)), Purged::Hard);
        index.apply(seq(3), marks(&["b"], Mode::Delete), at(0));
        assert_eq!(index.judge(&tags(&["a", "b"]), seq(0)), Purged::Deleted);
        let both = Purge { tags: vec![("a".into(), Mode::Soft), ("a".into(), Mode::Delete)], ..Purge::default() };
        assert_eq!(*both.marks(), [(TagHash::of("a"), Mode::Delete)]);
    }

    #[test]
    fn what_can_no_longer_be_judged_counts_as_purged() {
        let mut index = PurgeIndex::new(GRACE, 8, Duration::from_secs(3600));
        for n in 1..=20 {
            index.apply(seq(n), marks(&[&format!("t{n}")], Mode::Hard), at(0));
        }
        assert!(index.marks() <= 8, "{}", index.marks());
        assert!(index.floor() > seq(0));
        assert_eq!(index.judge(&tags(&["t1"]), seq(0)), Purged::Hard);
        assert_eq!(index.judge(&tags(&["never"]), seq(0)), Purged::Hard);
        assert_eq!(index.judge(&tags(&["never"]), index.floor()), Purged::No);
        let floor = seq(99);
        index.raise_floor(floor);
        assert_eq!(index.judge_since(&tags(&["never"]), seq(20), 20), Purged::Hard);
        assert_eq!(index.judge(&tags(&["never"]), floor), Purged::No);
    }

    #[test]
    fn a_purge_of_an_id_reaches_entries_that_carry_the_kind_alone() {
        let mut index = index();
        index.apply(seq(1), marks(&["prod_1"], Mode::Hard), at(0));
        assert_eq!(index.judge(&tags(&["prod_*"]), seq(0)), Purged::Hard);
        assert_eq!(index.judge(&tags(&["variant_*"]), seq(0)), Purged::No);
    }

    #[test]
    fn a_follower_takes_only_what_no_purge_before_it_came_has_hit() {
        let mut index = index();
        index.apply(seq(1), marks(&["x"], Mode::Hard), at(0));
        index.apply(seq(2), marks(&["a"], Mode::Hard), at(0));
        index.apply(seq(3), marks(&["a"], Mode::Hard), at(0));
        index.apply(seq(4), marks(&["a"], Mode::Soft), at(50));
        let judge = |as_of, joined| index.judge_between(&tags(&["a"]), seq(as_of), seq(joined));
        assert_eq!(judge(1, 1), Purged::No, "joined before the purge: it may see the old answer");
        assert_eq!(judge(1, 2), Purged::Hard, "joined after the purge");
        assert_eq!((judge(1, 3), judge(0, 2), judge(1, 4)), (Purged::Hard, Purged::Hard, Purged::Hard));
        assert_eq!(judge(0, 1), Purged::No, "the purge of x does not concern it");
        assert_eq!((judge(3, 3), judge(3, 2)), (Purged::No, Purged::No));
        assert_eq!(judge(3, 4), Purged::Soft { until: at(50) + GRACE });
        index.raise_floor(seq(9));
        assert_eq!(index.judge_between(&tags(&["a"]), seq(3), seq(3)), Purged::No);
        assert_eq!(index.judge_between(&tags(&["a"]), seq(3), seq(9)), Purged::Hard);
    }

    proptest! {
        /// The ring is only a shorter way to the same finding.
        #[test]
        fn the_ring_and_the_marks_agree(
            purges in proptest::collection::vec((0_u8..6, 0_u8..3, 0_u64..900), 1..60),
            own in proptest::collection::vec(0_u8..6, 0..4),
            looked in 0_usize..60,
        ) {
            let name = |tag: u8| format!("t{tag}");
            let entry = tags(&own.iter().map(|tag| name(*tag)).collect::<Vec<_>>().iter().map(String::as_str).collect::<Vec<_>>());
            let mut index = index();
            let mut now = 0;
            let looked = looked.min(purges.len() - 1);
            let (mut epoch, mut as_of) = (0, PurgeSeq::ZERO);
            for (n, (tag, mode, wait)) in purges.iter().enumerate() {
                if n == looked {
                    (epoch, as_of) = (index.epoch(), index.applied());
                }
                now += wait;
                index.apply(seq(n as u64 + 1), marks(&[&name(*tag)], Mode::ALL[usize::from(*mode)]), at(now));
            }
            let (by_marks, by_ring) = (index.judge(&entry, as_of), index.judge_since(&entry, as_of, epoch));
            match (by_marks, by_ring) {
                // The marks know the first of a grace only, so they may end sooner, or already have ended.
                (Purged::Soft { until: sooner }, Purged::Soft { until }) => prop_assert!(sooner <= until),
                (Purged::Hard, Purged::Soft { until }) => prop_assert!(until <= at(now) + GRACE),
                (a, b) => prop_assert_eq!(a, b),
            }
        }

        /// A purge after the fill began is never overlooked, whatever was forgotten in between.
        #[test]
        fn no_purge_is_overlooked(count in 1_u64..200, victim in 1_u64..200, as_of in 0_u64..200) {
            let victim = victim.min(count);
            let mut index = PurgeIndex::new(GRACE, 16, Duration::from_secs(3600));
            for n in 1..=count {
                let tag = if n == victim { "victim".to_owned() } else { format!("t{n}") };
                index.apply(seq(n), marks(&[&tag], Mode::Hard), at(n));
            }
            let purged = index.judge(&tags(&["victim"]), seq(as_of)) == Purged::Hard;
            prop_assert!(purged || as_of >= victim);
            if seq(as_of) >= index.floor() && as_of >= victim {
                prop_assert!(!purged);
            }
        }
    }
}
