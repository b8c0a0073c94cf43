//! Threads that purge, and threads that judge by what was purged.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use shuttle::future::block_on;
use shuttle::thread;

use crate::policy::entry::{Entry, Lifetime, Seen};
use crate::policy::fields::Fields;
use crate::policy::forms::Forms;
use crate::policy::purge::{Marked, Mode, Purge, PurgeIndex, PurgeSeq, Purged};
use crate::policy::tags::TagHash;
use crate::policy::time::Timestamp;
use crate::purges::Purges;
use crate::{in_any_order, side_by_side};

/// All happens at this time.
pub(crate) const NOW: Timestamp = Timestamp::from_millis(1000);

pub(crate) fn purges() -> Arc<Purges> {
    let hour = Duration::from_secs(3600);
    Arc::new(Purges::new(PurgeIndex::new(Duration::from_secs(2), 10_000, hour), None))
}

pub(crate) fn seq(n: u64) -> PurgeSeq {
    PurgeSeq::new(n, 0).unwrap()
}

pub(crate) fn line(tag: &str, mode: Mode) -> Marked {
    Purge { tags: vec![(tag.to_owned(), mode)], ..Purge::default() }.into()
}

pub(crate) fn entry(tag: TagHash, body: Bytes, as_of: PurgeSeq, seen: Seen) -> Arc<Entry> {
    let lifetime = Lifetime { born: NOW, fresh_until: NOW, swr_until: NOW, sie_until: NOW };
    Arc::new(Entry {
        key: Arc::from([]),
        status: StatusCode::OK,
        fields: Fields::default(),
        body,
        tags: Box::new([tag]),
        lifetime,
        as_of,
        began: NOW,
        is_own: true,
        seen,
        has_own_etag: false,
        is_encodable: false,
        forms: Forms::default(),
    })
}

/// An entry from before all purges.
fn early(tag: TagHash) -> Arc<Entry> {
    entry(tag, Bytes::new(), PurgeSeq::ZERO, Seen::default())
}

/// One who applies a line, and two who wait for it and look at an entry that carries its last tag.
fn waiting(line: Marked) {
    let (purges, entry) = (purges(), early(line.marks.last().unwrap().0));
    let waits = || {
        let (purges, entry) = (Arc::clone(&purges), Arc::clone(&entry));
        move || {
            block_on(purges.wait_for(seq(1)));
            assert_eq!(purges.check(&entry), Purged::Hard);
            assert_eq!(purges.judge(&entry.tags, PurgeSeq::ZERO).purged(), Purged::Hard, "by its marks");
        }
    };
    let (one, other) = (waits(), waits());
    let follower = Arc::clone(&purges);
    side_by_side([Box::new(one), Box::new(other), Box::new(move || follower.apply(seq(1), line, NOW))]);
}

#[test]
fn who_has_waited_for_a_purge_finds_it() {
    in_any_order(|| waiting(line("a", Mode::Hard)));
}

/// So many tags that readers are let in between.
#[test]
fn who_has_waited_for_a_long_purge_finds_all_of_it() {
    static LONG: LazyLock<Marked> = LazyLock::new(|| {
        let tags = (0..600).map(|n| (n.to_string(), Mode::Hard)).collect();
        Purge { tags, ..Purge::default() }.into()
    });
    in_any_order(|| waiting(LONG.clone()));
}

#[test]
fn a_finding_covers_all_that_was_applied_before_the_look() {
    in_any_order(|| {
        let (purges, entry) = (purges(), early(TagHash::of("a")));
        let looks = || {
            let (purges, entry) = (Arc::clone(&purges), Arc::clone(&entry));
            move || {
                for _ in 0..3 {
                    let applied = purges.applied();
                    let found = purges.check(&entry);
                    assert!(applied < seq(1) || found != Purged::No, "a soft purge was overlooked");
                    assert!(applied < seq(2) || found == Purged::Hard, "a hard purge was overlooked");
                }
            }
        };
        let (one, other) = (looks(), looks());
        let follower = Arc::clone(&purges);
        let follows = move || {
            follower.apply(seq(1), line("a", Mode::Soft), NOW);
            follower.apply(seq(2), line("a", Mode::Hard), NOW);
            follower.apply(seq(3), line("a", Mode::Soft), NOW);
        };
        side_by_side([Box::new(one), Box::new(other), Box::new(follows)]);
    });
}

#[test]
fn a_purge_that_is_applied_here_is_passed_over_by_none_of_the_log() {
    in_any_order(|| {
        let purges = purges();
        let orders = |tag: &'static str| {
            let purges = Arc::clone(&purges);
            move || {
                let entry = early(TagHash::of(tag));
                purges.apply_here(line(tag, Mode::Hard), NOW);
                assert_eq!(purges.check(&entry), Purged::Hard);
            }
        };
        let (one, other) = (orders("a"), orders("b"));
        let follower = Arc::clone(&purges);
        let follows = move || (1..3).for_each(|n| follower.apply(seq(n), line("c", Mode::Hard), NOW));
        side_by_side([Box::new(one), Box::new(other), Box::new(follows)]);
        assert_eq!(purges.with(PurgeIndex::epoch), 4);
    });
}

#[test]
fn a_purge_that_comes_while_an_entry_is_judged_is_found_at_the_next_look() {
    in_any_order(|| {
        let purges = purges();
        let (stored, foreign) = (Arc::clone(&purges), Arc::clone(&purges));
        let tags = [TagHash::of("a")];
        let stored = thread::spawn(move || {
            let seen = stored.judge(&tags, PurgeSeq::ZERO);
            entry(tags[0], Bytes::new(), PurgeSeq::ZERO, seen)
        });
        // The other node has applied more than this one.
        let foreign = thread::spawn(move || {
            let (as_of, seen) = foreign.judge_foreign(&tags, seq(9));
            (entry(tags[0], Bytes::new(), as_of, seen), as_of)
        });
        purges.apply(seq(1), line("a", Mode::Hard), NOW);
        assert_eq!(purges.check(&stored.join().unwrap()), Purged::Hard);
        let (foreign, as_of) = foreign.join().unwrap();
        let expected = if as_of < seq(1) { Purged::Hard } else { Purged::No };
        assert_eq!(purges.check(&foreign), expected, "as of {as_of}");
    });
}
