//! The book: what was changed and acknowledged, and what each answer must therefore show.
//!
//! Times are those of the checker alone, from just before a request leaves to just after its answer is read:
//! whatever a node did, it did in between. An answer is judged by the purges that were acknowledged before
//! its request left.

use std::collections::BTreeMap;
use std::time::Duration;

use endcap::policy::purge::Mode;

/// Time since the run began.
pub(crate) type Moment = Duration;

/// How old an answer may be. Each bound counts from the acknowledgement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// What a soft purge hit may be served stale for.
    pub(crate) soft_grace: Duration,
    /// On nodes other than the acknowledging one, for a purge that is in the log: `max_blind`, and what two
    /// clocks of milliseconds differ by. A node that has not read the line by then knows that it is blind.
    pub(crate) logged: Duration,
    /// The same for a purge that is in a journal: `max_blind`, and the time in which the journal comes into a log
    /// that can be reached again.
    pub(crate) journaled: Duration,
    /// How long after the origin's last failure a node may still serve stale because of it: what it shares a
    /// failure for, and the longest fill.
    pub(crate) failure: Duration,
}

/// An acknowledged purge of one thing's version.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ack {
    pub(crate) version: u64,
    pub(crate) mode: Mode,
    pub(crate) node: usize,
    pub(crate) at: Moment,
    /// In a journal alone, or perhaps.
    pub(crate) journaled: bool,
}

/// An answer, as far as it is judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) node: usize,
    /// Just before the request left.
    pub(crate) began: Moment,
    /// The node says that it is stale because the origin failed.
    pub(crate) on_error: bool,
}

/// Why an answer may be older than what was acknowledged somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Excuse {
    /// Another node acknowledged it, and this one is within the bound.
    Elsewhere,
    /// A soft purge, within its grace.
    Grace,
    /// The origin fails.
    OriginFails,
}

/// What must not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Violation {
    /// The acknowledging node answered content from before the commit.
    AfterAcknowledgement,
    /// A node answered it after the grace of a soft purge.
    AfterGrace,
    /// Another node answered it after the bound.
    AfterBound,
    /// What was deleted was served because the origin failed.
    DeletedOnError,
    /// Served because the origin failed, which it did not.
    NoFailure,
    /// After quiet a node still answers content from before an acknowledged purge.
    Lost,
    /// An answer shows what was never committed.
    Invented,
}

impl Excuse {
    pub(crate) const ALL: [Self; 3] = [Self::Elsewhere, Self::Grace, Self::OriginFails];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Elsewhere => "acknowledged by another node, within the bound",
            Self::Grace => "softly purged, within the grace",
            Self::OriginFails => "purged, and the origin fails",
        }
    }
}

impl Violation {
    pub(crate) const ALL: [Self; 7] = [
        Self::AfterAcknowledgement,
        Self::AfterGrace,
        Self::AfterBound,
        Self::DeletedOnError,
        Self::NoFailure,
        Self::Lost,
        Self::Invented,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::AfterAcknowledgement => "stale on the acknowledging node",
            Self::AfterGrace => "stale past the grace of a soft purge",
            Self::AfterBound => "stale on another node past the bound",
            Self::DeletedOnError => "deleted, and served because the origin failed",
            Self::NoFailure => "served because of a failure of the origin that did not happen",
            Self::Lost => "lost: stale after quiet",
            Self::Invented => "newer than what was committed",
        }
    }
}

/// What is found of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// As new as all that was acknowledged.
    Current,
    Excused(Excuse),
    /// With the purge that was overlooked.
    Wrong(Violation, u64),
}

/// Things, each a row of the shop or the list of them, by their names.
#[derive(Debug)]
pub(crate) struct Book {
    bounds: Bounds,
    /// By version.
    acks: BTreeMap<String, BTreeMap<u64, Vec<Ack>>>,
    /// From when until when the origin failed.
    failures: Vec<(Moment, Option<Moment>)>,
}

impl Book {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { bounds, acks: BTreeMap::new(), failures: Vec::new() }
    }

    pub(crate) fn acknowledged(&mut self, thing: &str, ack: Ack) {
        self.acks.entry(thing.to_owned()).or_default().entry(ack.version).or_default().push(ack);
    }

    pub(crate) fn origin_fails(&mut self, at: Moment) {
        self.failures.push((at, None));
    }

    pub(crate) fn origin_mends(&mut self, at: Moment) {
        if let Some((_, until)) = self.failures.last_mut() {
            *until = Some(at);
        }
    }

    /// The newest version that was acknowledged.
    pub(crate) fn newest(&self, thing: &str) -> u64 {
        self.acks.get(thing).and_then(|acks| acks.keys().next_back()).copied().unwrap_or_default()
    }

    /// Judges an answer that shows `version` of a thing.
    pub(crate) fn judge(&self, thing: &str, version: u64, reading: Reading) -> Finding {
        let Some(acks) = self.acks.get(thing) else { return Finding::Current };
        let overlooked = acks.range(version + 1..).flat_map(|(_, acks)| acks).filter(|ack| ack.at <= reading.began);
        if reading.on_error {
            return self.judge_on_error(overlooked, reading);
        }
        let mut found = Finding::Current;
        for ack in overlooked {
            let here = ack.node == reading.node;
            let grace = if ack.mode == Mode::Soft { self.bounds.soft_grace } else { Duration::ZERO };
            let bound = match (here, ack.journaled) {
                (true, _) => Duration::ZERO,
                (false, false) => self.bounds.logged,
                (false, true) => self.bounds.journaled,
            };
            if reading.began >= ack.at + bound + grace {
                let violation = match (here, ack.mode) {
                    (_, Mode::Soft) => Violation::AfterGrace,
                    (true, _) => Violation::AfterAcknowledgement,
                    (false, _) => Violation::AfterBound,
                };
                return Finding::Wrong(violation, ack.version);
            }
            found = Finding::Excused(if here { Excuse::Grace } else { Excuse::Elsewhere });
        }
        found
    }

    fn judge_on_error<'a>(&self, overlooked: impl Iterator<Item = &'a Ack>, reading: Reading) -> Finding {
        let mut found = Finding::Current;
        for ack in overlooked {
            let bound = match (ack.node == reading.node, ack.journaled) {
                (true, _) => Duration::ZERO,
                (false, false) => self.bounds.logged,
                (false, true) => self.bounds.journaled,
            };
            if ack.mode == Mode::Delete && reading.began >= ack.at + bound {
                return Finding::Wrong(Violation::DeletedOnError, ack.version);
            }
            found = Finding::Excused(Excuse::OriginFails);
        }
        let fails = self.failures.iter().any(|(from, until)| {
            *from <= reading.began + self.bounds.failure
                && until.is_none_or(|until| until + self.bounds.failure >= reading.began)
        });
        if fails { found } else { Finding::Wrong(Violation::NoFailure, 0) }
    }
}

const fn seconds(seconds: u64) -> Moment {
    Duration::from_secs(seconds)
}

fn ack(version: u64, mode: Mode, node: usize, at: u64) -> Ack {
    Ack { version, mode, node, at: seconds(at), journaled: false }
}

fn book(acks: &[Ack]) -> Book {
    let mut book =
        Book::new(Bounds { soft_grace: seconds(2), logged: seconds(5), journaled: seconds(8), failure: seconds(1) });
    for ack in acks {
        book.acknowledged("prod_1", *ack);
    }
    book
}

fn reading(node: usize, began: u64) -> Reading {
    Reading { node, began: seconds(began), on_error: false }
}

#[test]
fn the_acknowledging_node_is_current_at_once_and_others_within_their_bound() {
    let book = book(&[ack(2, Mode::Hard, 0, 10)]);
    let judge = |version, node, began| book.judge("prod_1", version, reading(node, began));
    assert_eq!(judge(2, 0, 10), Finding::Current);
    assert_eq!(judge(1, 0, 9), Finding::Current, "not acknowledged yet");
    assert_eq!(judge(1, 0, 10), Finding::Wrong(Violation::AfterAcknowledgement, 2));
    assert_eq!(judge(1, 1, 14), Finding::Excused(Excuse::Elsewhere));
    assert_eq!(judge(1, 1, 15), Finding::Wrong(Violation::AfterBound, 2));
    assert_eq!(book.judge("prod_2", 1, reading(0, 99)), Finding::Current, "another thing");
}

#[test]
fn a_soft_purge_has_its_grace_and_a_journaled_one_its_own_bound() {
    let mut book = book(&[ack(2, Mode::Soft, 0, 10)]);
    let judge = |book: &Book, node, began| book.judge("prod_1", 1, reading(node, began));
    assert_eq!(judge(&book, 0, 11), Finding::Excused(Excuse::Grace));
    assert_eq!(judge(&book, 0, 12), Finding::Wrong(Violation::AfterGrace, 2));
    assert_eq!(judge(&book, 1, 16), Finding::Excused(Excuse::Elsewhere));
    assert_eq!(judge(&book, 1, 17), Finding::Wrong(Violation::AfterGrace, 2));
    book.acknowledged("prod_1", Ack { journaled: true, ..ack(3, Mode::Hard, 0, 20) });
    let judge = |node, began| book.judge("prod_1", 2, reading(node, began));
    assert_eq!(judge(0, 20), Finding::Wrong(Violation::AfterAcknowledgement, 3));
    assert_eq!(judge(1, 27), Finding::Excused(Excuse::Elsewhere));
    assert_eq!(judge(1, 28), Finding::Wrong(Violation::AfterBound, 3));
}

#[test]
fn an_older_acknowledgement_is_not_hidden_by_a_newer_one() {
    let book = book(&[ack(2, Mode::Hard, 0, 10), ack(3, Mode::Hard, 0, 30)]);
    assert_eq!(book.judge("prod_1", 1, reading(0, 20)), Finding::Wrong(Violation::AfterAcknowledgement, 2));
    assert_eq!(book.judge("prod_1", 2, reading(0, 20)), Finding::Current);
    assert_eq!(book.newest("prod_1"), 3);
}

#[test]
fn a_failing_origin_excuses_all_but_what_was_deleted() {
    let mut book = book(&[ack(2, Mode::Hard, 0, 10), ack(3, Mode::Delete, 0, 20)]);
    let judge = |book: &Book, began| book.judge("prod_1", 1, Reading { on_error: true, ..reading(0, began) });
    assert_eq!(judge(&book, 11), Finding::Wrong(Violation::NoFailure, 0));
    book.origin_fails(seconds(10));
    assert_eq!(judge(&book, 11), Finding::Excused(Excuse::OriginFails));
    assert_eq!(judge(&book, 20), Finding::Wrong(Violation::DeletedOnError, 3));
    book.origin_mends(seconds(12));
    assert_eq!(judge(&book, 13), Finding::Excused(Excuse::OriginFails));
    assert_eq!(judge(&book, 14), Finding::Wrong(Violation::NoFailure, 0));
}
