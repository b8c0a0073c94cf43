//! What was purged, by tag, and what that says of an entry.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::marks::{Applied, Marks};
use super::{Marked, Mode, PurgeSeq, Purged};
use crate::policy::tags::TagHash;
use crate::policy::time::Timestamp;

/// A purge as the ring keeps it.
#[derive(Debug)]
struct Recent {
    seq: PurgeSeq,
    at: Timestamp,
    line: Marked,
}

impl Recent {
    fn bytes(&self) -> usize {
        size_of_val(&*self.line.marks) + self.line.deleted.iter().map(|tag| tag.len() + 32).sum::<usize>()
    }
}

/// What was purged, by tag, and the newest purges in order.
///
/// Bounded: beyond `marks_max` tags (or after `lifetime_max`) the older generation is forgotten and
/// `floor` rises to its newest purge, so that what can no longer be judged counts as purged. A purge of more
/// tags than a generation holds is not remembered by tag at all: `floor` rises to it.
#[derive(Debug)]
pub struct PurgeIndex {
    soft_grace: Duration,
    generation_max: usize,
    lifetime_max: Duration,
    applied: PurgeSeq,
    floor: PurgeSeq,
    /// As `floor`, for what was deleted: below it even a failing origin is no reason to serve.
    delete_floor: PurgeSeq,
    epoch: u64,
    young: Marks,
    young_since: Option<Timestamp>,
    young_deleted: PurgeSeq,
    old: Marks,
    old_newest: PurgeSeq,
    old_deleted: PurgeSeq,
    /// The newest purges, in order: all after `ring_after`.
    ring: VecDeque<Recent>,
    ring_after: PurgeSeq,
    ring_bytes: usize,
    /// The newest line that the ring held and holds no more.
    left_ring: PurgeSeq,
}

/// Purges that the ring holds: a hot entry is looked at far more often than once in so many.
const RING_MAX: usize = 1024;
/// A purge in the ring is tested in a quarter of the time that a tag takes to be looked up.
const PURGES_PER_TAG: usize = 4;
/// Bytes that the ring's tags take over all its purges.
const RING_BYTES_MAX: usize = 4 << 20;

impl PurgeIndex {
    /// Nothing purged yet. `lifetime_max` is the longest time for which any entry is of use.
    pub fn new(soft_grace: Duration, marks_max: usize, lifetime_max: Duration) -> Self {
        Self {
            soft_grace,
            generation_max: Marks::full(marks_max / 2),
            lifetime_max,
            applied: PurgeSeq::ZERO,
            floor: PurgeSeq::ZERO,
            delete_floor: PurgeSeq::ZERO,
            epoch: 0,
            young: Marks::new(),
            young_since: None,
            young_deleted: PurgeSeq::ZERO,
            old: Marks::new(),
            old_newest: PurgeSeq::ZERO,
            old_deleted: PurgeSeq::ZERO,
            ring: VecDeque::new(),
            ring_after: PurgeSeq::ZERO,
            left_ring: PurgeSeq::ZERO,
            ring_bytes: 0,
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

    /// Whether the line at a position was applied, and not merely passed over because the log had lost it. Of lines that
    /// are not remembered one by one any more, because of newer ones, it says so; of those below a raised floor it does not.
    pub fn has_applied(&self, seq: PurgeSeq) -> bool {
        seq <= self.left_ring || self.ring.binary_search_by_key(&seq, |recent| recent.seq).is_ok()
    }

    /// Counts the changes: while it stands still, no finding can have changed.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Tags remembered one by one, one that was purged in several modes for each of these.
    pub fn marks(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Applies a line of the log. Lines come in order; one that was applied already changes nothing.
    pub fn apply(&mut self, seq: PurgeSeq, line: Marked, at: Timestamp) {
        if self.begin(seq, &line.marks, at) {
            self.mark(seq, &line.marks, at);
        }
        self.finish(seq, line, at);
    }

    /// Whether a line has more tags than a generation holds: all that is older than it counts as purged.
    pub fn is_too_long(&self, marks: &[(TagHash, Mode)]) -> bool {
        room(marks) > self.generation_max
    }

    /// Makes room for a line, the first of three steps. Whether its tags are to be marked: it was not applied
    /// already, and has no more of them than a generation holds.
    pub fn begin(&mut self, seq: PurgeSeq, marks: &[(TagHash, Mode)], at: Timestamp) -> bool {
        let most = room(marks);
        if seq <= self.applied || self.is_too_long(marks) {
            return false;
        }
        let since = *self.young_since.get_or_insert(at);
        if self.young.len() + most > self.generation_max || at.since(since) > self.lifetime_max {
            self.turn_generation(at);
        }
        true
    }

    /// Marks tags of a line that has begun, some or all: until it is finished they concern only what is older than
    /// the newest line that is.
    pub fn mark(&mut self, seq: PurgeSeq, marks: &[(TagHash, Mode)], at: Timestamp) {
        for (tag, mode) in marks {
            self.young.add(*tag, *mode, Applied { seq, at }, self.soft_grace, &self.old);
        }
    }

    /// Applies a line whose tags have been marked.
    pub fn finish(&mut self, seq: PurgeSeq, line: Marked, at: Timestamp) {
        if seq <= self.applied {
            return;
        }
        self.applied = seq;
        self.epoch += 1;
        let deletes = line.marks.iter().any(|(_, mode)| *mode == Mode::Delete);
        if self.is_too_long(&line.marks) {
            self.floor = seq;
            self.delete_floor = if deletes { seq } else { self.delete_floor };
        } else if deletes {
            self.young_deleted = seq;
        }
        let recent = Recent { seq, at, line };
        self.ring_bytes += recent.bytes();
        self.ring.push_back(recent);
        while self.ring.len() > RING_MAX || self.ring_bytes > RING_BYTES_MAX {
            match self.ring.pop_front() {
                Some(oldest) => {
                    self.ring_bytes -= oldest.bytes();
                    self.ring_after = oldest.seq;
                    self.left_ring = oldest.seq;
                }
                None => break,
            }
        }
    }

    /// Forgets the older generation: what it alone could judge counts as purged from here on.
    fn turn_generation(&mut self, at: Timestamp) {
        self.floor = self.floor.max(self.old_newest);
        self.delete_floor = self.delete_floor.max(self.old_deleted);
        self.old = std::mem::replace(&mut self.young, Marks::new());
        self.old_newest = self.applied;
        self.old_deleted = self.young_deleted;
        self.young_since = Some(at);
    }

    /// Says that nothing before `seq` can be judged any more: the log was cut or lost there.
    pub fn raise_floor(&mut self, seq: PurgeSeq) {
        if seq > self.floor {
            self.floor = seq;
            self.delete_floor = seq;
            self.applied = self.applied.max(seq);
            self.epoch += 1;
            // The ring no longer tells all that changed since an epoch.
            self.ring.clear();
            self.ring_after = self.applied;
            self.ring_bytes = 0;
        }
    }

    /// The tags of the newest deletions, each once, as far as they are remembered.
    pub fn recent_deletions(&self) -> BTreeSet<String> {
        self.ring.iter().flat_map(|recent| &recent.line.deleted).cloned().collect()
    }

    /// The end of the echo of the newest purge that concerns these tags, for an answer whose fill began
    /// at `began`, within `echo` of it: the purge may have been faster than what it tells of.
    pub fn echo(&self, tags: &[TagHash], began: Timestamp, echo: Duration) -> Option<Timestamp> {
        let marks = tags.iter().filter_map(|tag| self.mark_of(*tag));
        marks.map(|mark| mark.at + echo).max().filter(|end| began < *end)
    }

    /// What the floors alone say: what the index still knows may be worse.
    fn below_floor(&self, as_of: PurgeSeq) -> Purged {
        if as_of < self.delete_floor {
            Purged::Deleted
        } else if as_of < self.floor {
            Purged::Hard
        } else {
            Purged::No
        }
    }

    /// Judges an entry from nothing: when it is stored, and when it comes from a shared tier.
    pub fn judge(&self, tags: &[TagHash], as_of: PurgeSeq) -> Purged {
        if as_of >= self.applied {
            return Purged::No;
        }
        tags.iter()
            .flat_map(|tag| [&self.young, &self.old].map(|marks| marks.judge(*tag, as_of, self.soft_grace)))
            .fold(self.below_floor(as_of), Purged::or_worse)
    }

    /// Judges an entry that was found well at `epoch`: only the purges since then are tested, where that is
    /// less work than looking its tags up.
    pub fn judge_since(&self, tags: &[TagHash], as_of: PurgeSeq, epoch: u64) -> Purged {
        let missed = usize::try_from(self.epoch - epoch.min(self.epoch)).unwrap_or(usize::MAX);
        if missed > self.ring.len().min(tags.len() * PURGES_PER_TAG) {
            return self.judge(tags, as_of);
        }
        self.ring
            .iter()
            .rev()
            .take(missed)
            .filter(|recent| recent.seq > as_of)
            .filter_map(|recent| Some((recent.at, strongest_common(&recent.line.marks, tags)?)))
            .map(|(at, mode)| self.purged(mode, at))
            .fold(self.below_floor(as_of), Purged::or_worse)
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
            .filter_map(|recent| Some((recent.at, strongest_common(&recent.line.marks, tags)?)))
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
        self.mark_of(tag).map(|mark| mark.seq)
    }

    fn mark_of(&self, tag: TagHash) -> Option<Applied> {
        self.young.newest(tag).or_else(|| self.old.newest(tag))
    }
}

/// Marks that a line may come to: a soft one whose grace is over becomes a hard one beside the new.
fn room(marks: &[(TagHash, Mode)]) -> usize {
    marks.len() + marks.iter().filter(|(_, mode)| *mode == Mode::Soft).count()
}

/// Whether a purge with these marks concerns an entry with these tags; both are sorted.
pub fn concerns(marks: &[(TagHash, Mode)], tags: &[TagHash]) -> bool {
    strongest_common(marks, tags).is_some()
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
    use crate::policy::purge::Purge;

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

    fn line(names: &[&str], mode: Mode) -> Marked {
        let tags = names.iter().map(|name| ((*name).to_owned(), mode)).collect();
        Purge { tags, ..Purge::default() }.into()
    }

    fn index() -> PurgeIndex {
        PurgeIndex::new(GRACE, 1000, Duration::from_secs(3600))
    }

    #[test]
    fn only_a_purge_after_the_fill_began_counts() {
        let mut index = index();
        index.apply(seq(5), line(&["prod_1"], Mode::Hard), at(0));
        assert_eq!(index.judge(&tags(&["prod_1", "x"]), seq(4)), Purged::Hard);
        assert_eq!(index.judge(&tags(&["prod_1"]), seq(5)), Purged::No);
        assert_eq!(index.judge(&tags(&["prod_2"]), seq(4)), Purged::No);
        assert_eq!(index.newest(TagHash::of("prod_1")), Some(seq(5)));
    }

    #[test]
    fn a_line_applied_twice_or_late_changes_nothing() {
        let mut index = index();
        index.apply(seq(5), line(&["a"], Mode::Hard), at(0));
        index.apply(seq(5), line(&["b"], Mode::Hard), at(0));
        index.apply(seq(4), line(&["b"], Mode::Hard), at(0));
        assert_eq!((index.epoch(), index.applied()), (1, seq(5)));
        assert_eq!(index.judge(&tags(&["b"]), seq(1)), Purged::No);
    }

    #[test]
    fn a_soft_purge_becomes_hard_after_its_grace_however_many_follow() {
        let mut index = index();
        index.apply(seq(1), line(&["list:a"], Mode::Soft), at(1000));
        index.apply(seq(2), line(&["list:a"], Mode::Soft), at(2000));
        let until = at(3000);
        assert_eq!(index.judge(&tags(&["list:a"]), seq(0)), Purged::Soft { until });
        assert_eq!(index.judge(&tags(&["list:a"]), seq(1)), Purged::Soft { until }, "never too late");
        index.apply(seq(3), line(&["list:a"], Mode::Soft), at(3500));
        assert_eq!(index.judge(&tags(&["list:a"]), seq(1)), Purged::Hard);
        assert_eq!(index.judge(&tags(&["list:a"]), seq(2)), Purged::Soft { until: at(5500) });
        assert_eq!(index.judge(&tags(&["list:a"]), seq(3)), Purged::No);
    }

    #[test]
    fn the_strongest_mode_wins() {
        let mut index = index();
        index.apply(seq(1), line(&["a"], Mode::Soft), at(0));
        index.apply(seq(2), line(&["b"], Mode::Hard), at(0));
        assert_eq!(index.judge(&tags(&["a", "b"]), seq(0)), Purged::Hard);
        index.apply(seq(3), line(&["b"], Mode::Delete), at(0));
        assert_eq!(index.judge(&tags(&["a", "b"]), seq(0)), Purged::Deleted);
        let both = Purge { tags: vec![("a".into(), Mode::Soft), ("a".into(), Mode::Delete)], ..Purge::default() };
        let marks = Marked::from(both).marks;
        assert!(marks.contains(&(TagHash::of("a"), Mode::Delete)) && marks.len() == 2);
    }

    #[test]
    fn what_can_no_longer_be_judged_counts_as_purged() {
        let mut index = PurgeIndex::new(GRACE, 8, Duration::from_secs(3600));
        for n in 1..=20 {
            index.apply(seq(n), line(&[&format!("t{n}")], Mode::Hard), at(0));
        }
        assert!(index.marks() <= 8, "{}", index.marks());
        assert!(index.floor() > seq(0));
        assert_eq!(index.judge(&tags(&["t1"]), seq(0)), Purged::Hard);
        assert_eq!(index.judge(&tags(&["never"]), seq(0)), Purged::Hard);
        assert_eq!(index.judge(&tags(&["never"]), index.floor()), Purged::No);
        let floor = seq(99);
        index.raise_floor(floor);
        assert_eq!(index.judge_since(&tags(&["never"]), seq(20), 20), Purged::Deleted, "it may have been");
        assert_eq!(index.judge(&tags(&["never"]), floor), Purged::No);
    }

    #[test]
    fn a_line_whose_tags_are_marked_in_parts_concerns_what_is_older_alone() {
        let mut index = index();
        index.apply(seq(1), line(&["x"], Mode::Hard), at(0));
        let long = line(&["a", "b", "c"], Mode::Hard);
        let (first, rest) = long.marks.split_at(2);
        assert!(index.begin(seq(3), &long.marks, at(0)));
        index.mark(seq(3), first, at(0));
        let tags = tags(&["a", "b", "c", "*"]);
        assert_eq!(index.judge(&tags, seq(1)), Purged::No, "as new as the newest line");
        // A purge that has no place in the log yet comes between.
        index.apply(seq(1).next_local(), line(&["a", "b", "c"], Mode::Soft), at(0));
        index.mark(seq(3), rest, at(0));
        index.finish(seq(3), long, at(0));
        assert_eq!((index.applied(), index.epoch()), (seq(3), 3));
        for tag in &tags {
            assert_eq!(index.judge(&[*tag], seq(2)), Purged::Hard);
        }
        assert!(!index.begin(seq(3), &[], at(0)), "it was applied");
    }

    #[test]
    fn a_purge_of_more_tags_than_are_remembered_purges_everything() {
        let names: Vec<_> = (0..9).map(|n| format!("t{n}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let mut index = PurgeIndex::new(GRACE, 16, Duration::from_secs(3600));
        index.apply(seq(1), line(&["t0"], Mode::Hard), at(0));
        let epoch = index.epoch();
        index.apply(seq(2), line(&names, Mode::Hard), at(0));
        for tags in [tags(&names), tags(&["never"])] {
            assert_eq!(index.judge(&tags, seq(1)), Purged::Hard);
            assert_eq!(index.judge_since(&tags, seq(1), epoch), Purged::Hard);
            assert_eq!(index.judge(&tags, seq(2)), Purged::No);
        }
        assert_eq!((index.floor(), index.marks()), (seq(2), 2));
        index.apply(seq(3), line(&names, Mode::Delete), at(0));
        assert_eq!(index.judge(&tags(&["t8"]), seq(2)), Purged::Deleted);
    }

    #[test]
    fn a_grace_goes_on_when_what_is_old_is_forgotten() {
        let mut index = PurgeIndex::new(GRACE, 16, Duration::from_secs(1));
        index.apply(seq(1), line(&["a"], Mode::Soft), at(0));
        index.apply(seq(2), line(&["a"], Mode::Soft), at(1500));
        assert_eq!(index.judge(&tags(&["a"]), seq(1)), Purged::Soft { until: at(2000) });
        index.apply(seq(3), line(&["a"], Mode::Soft), at(2500));
        assert_eq!(index.judge(&tags(&["a"]), seq(1)), Purged::Hard);
        assert_eq!(index.judge(&tags(&["a"]), seq(2)), Purged::Soft { until: at(4500) });
    }

    #[test]
    fn a_deletion_outlives_what_is_remembered_of_it() {
        let mut index = PurgeIndex::new(GRACE, 8, Duration::from_secs(3600));
        index.apply(seq(1), line(&["gone"], Mode::Delete), at(0));
        for n in 2..=20 {
            index.apply(seq(n), line(&[&format!("t{n}")], Mode::Hard), at(0));
        }
        assert_eq!(index.judge(&tags(&["gone"]), seq(0)), Purged::Deleted);
        assert_eq!(index.judge(&tags(&["gone"]), seq(1)), Purged::Hard, "it was filled after it had been deleted");
    }

    #[test]
    fn what_lies_below_the_floor_can_still_be_deleted() {
        let mut index = PurgeIndex::new(GRACE, 8, Duration::from_secs(3600));
        for n in 1..=20 {
            index.apply(seq(n), line(&[&format!("t{n}")], Mode::Hard), at(0));
        }
        let (tags, epoch) = (tags(&["gone"]), index.epoch());
        assert_eq!(index.judge(&tags, seq(0)), Purged::Hard, "below the floor");
        index.apply(seq(21), line(&["gone"], Mode::Delete), at(0));
        assert_eq!(index.judge(&tags, seq(0)), Purged::Deleted);
        assert_eq!(index.judge_since(&tags, seq(0), epoch), Purged::Deleted);
    }

    #[test]
    fn a_raised_floor_vouches_for_no_line_that_was_passed_over() {
        let mut index = index();
        index.apply(seq(1), line(&["a"], Mode::Hard), at(0));
        index.raise_floor(seq(9));
        assert!(!index.has_applied(seq(5)));
        for n in 10..=10 + RING_MAX as u64 {
            index.apply(seq(n), line(&["x"], Mode::Hard), at(0));
        }
        assert!([10, 11, 10 + RING_MAX as u64].into_iter().all(|n| index.has_applied(seq(n))));
        assert!(!index.has_applied(seq(11 + RING_MAX as u64)));
    }

    #[test]
    fn what_was_deleted_of_late_is_remembered_by_name() {
        let mut index = index();
        index.apply(seq(1), line(&["a", "b"], Mode::Delete), at(0));
        index.apply(seq(2), line(&["c"], Mode::Hard), at(0));
        index.apply(seq(2).next_local(), line(&["b"], Mode::Delete), at(0));
        assert_eq!(index.recent_deletions().into_iter().collect::<Vec<_>>(), ["a", "b"]);
        for n in 4..4 + RING_MAX as u64 {
            index.apply(seq(n), line(&["x"], Mode::Hard), at(0));
        }
        assert!(index.recent_deletions().is_empty() && index.ring.len() == RING_MAX);
    }

    #[test]
    fn an_answer_that_follows_a_purge_closely_is_asked_for_once_more() {
        let mut index = index();
        index.apply(seq(1), line(&["a"], Mode::Hard), at(1000));
        index.apply(seq(2), line(&["a"], Mode::Soft), at(1500));
        let echo = |tag, began| index.echo(&tags(&[tag]), at(began), Duration::from_secs(2));
        assert_eq!((echo("a", 1500), echo("a", 3499)), (Some(at(3500)), Some(at(3500))));
        assert_eq!((echo("a", 3500), echo("b", 1500)), (None, None));
    }

    #[test]
    fn a_purge_of_an_id_reaches_entries_that_carry_the_kind_alone() {
        let mut index = index();
        index.apply(seq(1), line(&["prod_1"], Mode::Hard), at(0));
        assert_eq!(index.judge(&tags(&["prod_*"]), seq(0)), Purged::Hard);
        assert_eq!(index.judge(&tags(&["variant_*"]), seq(0)), Purged::No);
        assert_eq!(index.judge(&tags(&["*"]), seq(0)), Purged::Hard, "an entry of too many kinds");
    }

    #[test]
    fn a_follower_takes_only_what_no_purge_before_it_came_has_hit() {
        let mut index = index();
        index.apply(seq(1), line(&["x"], Mode::Hard), at(0));
        index.apply(seq(2), line(&["a"], Mode::Hard), at(0));
        index.apply(seq(3), line(&["a"], Mode::Hard), at(0));
        index.apply(seq(4), line(&["a"], Mode::Soft), at(50));
        let judge = |as_of, joined| index.judge_between(&tags(&["a"]), seq(as_of), seq(joined));
        assert_eq!(judge(1, 1), Purged::No, "joined before the purge: it may see the old answer");
        assert_eq!(judge(1, 2), Purged::Hard, "joined after the purge");
        assert_eq!((judge(1, 3), judge(0, 2), judge(1, 4)), (Purged::Hard, Purged::Hard, Purged::Hard));
        assert_eq!(judge(0, 1), Purged::No, "the purge of x does not concern it");
        assert_eq!((judge(3, 3), judge(3, 2)), (Purged::No, Purged::No));
        assert_eq!(judge(3, 4), Purged::Soft { until: at(50) + GRACE });
        index.raise_floor(seq(9));
        assert_eq!(index.judge_between(&tags(&["a"]), seq(3), seq(3)), Purged::No);
        assert_eq!(index.judge_between(&tags(&["a"]), seq(3), seq(9)), Purged::Deleted);
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
                index.apply(seq(n as u64 + 1), line(&[&name(*tag)], Mode::ALL[usize::from(*mode)]), at(now));
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
                index.apply(seq(n), line(&[&tag], Mode::Hard), at(n));
            }
            let purged = index.judge(&tags(&["victim"]), seq(as_of)) == Purged::Hard;
            prop_assert!(purged || as_of >= victim);
            if seq(as_of) >= index.floor() && as_of >= victim {
                prop_assert!(!purged);
            }
        }
    }
}
