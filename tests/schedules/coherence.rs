//! Flights and purges together: requests, as `Fill::once` and a flight have them, beside changes and their purges.

use std::sync::Arc;

use bytes::Bytes;
use shuttle::future::block_on;
use shuttle::sync::Mutex;
use shuttle::sync::atomic::{AtomicU64, Ordering};

use crate::flights::{Flights, Joined};
use crate::judging::{NOW, entry, line, purges, seq};
use crate::policy::entry::Entry;
use crate::policy::key::Key;
use crate::policy::purge::{Mode, Purged};
use crate::policy::tags::TagHash;
use crate::purges::Purges;
use crate::{in_any_order, side_by_side};

struct Node {
    flights: Arc<Flights<Arc<Entry>>>,
    purges: Arc<Purges>,
    l1: Mutex<Option<Arc<Entry>>>,
    /// What the origin says.
    revision: AtomicU64,
    /// The newest revision whose purge was acknowledged.
    acknowledged: AtomicU64,
}

impl Node {
    fn change(&self, revision: u64) {
        self.revision.store(revision, Ordering::SeqCst);
        self.purges.apply(seq(revision), line("a", Mode::Hard), NOW);
        self.acknowledged.store(revision, Ordering::SeqCst);
    }

    fn get(&self) -> Arc<Entry> {
        let held = self.l1.lock().unwrap().clone();
        if let Some(entry) = held.filter(|entry| self.purges.check(entry) == Purged::No) {
            return entry;
        }
        loop {
            let joined = self.purges.applied();
            match self.flights.join(Key::from_text(&[0; 16]).unwrap().hash()) {
                Joined::Leader(leader) => {
                    let as_of = self.purges.applied();
                    let revision = self.revision.load(Ordering::SeqCst);
                    let seen = self.purges.judge(&[TagHash::of("a")], as_of);
                    let entry = entry(TagHash::of("a"), Bytes::copy_from_slice(&revision.to_be_bytes()), as_of, seen);
                    *self.l1.lock().unwrap() = Some(Arc::clone(&entry));
                    leader.land(Arc::clone(&entry));
                    return entry;
                }
                Joined::Follower(follower) => {
                    let landed = block_on(self.flights.follow(follower)).unwrap();
                    if self.purges.judge_between(&landed, joined) == Purged::No {
                        return landed;
                    }
                }
            }
        }
    }
}

#[test]
fn no_answer_is_older_than_a_purge_that_was_acknowledged_before_it_was_asked_for() {
    in_any_order(|| {
        let node = Arc::new(Node {
            flights: Flights::new(),
            purges: purges(),
            l1: Mutex::default(),
            revision: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
        });
        let reads = || {
            let node = Arc::clone(&node);
            move || {
                for _ in 0..2 {
                    let known = node.acknowledged.load(Ordering::SeqCst);
                    let entry = node.get();
                    let shown = u64::from_be_bytes(entry.body[..].try_into().unwrap());
                    assert!(shown >= known, "shows r{shown} although r{known} was acknowledged before");
                }
            }
        };
        let (one, other) = (reads(), reads());
        let shop = Arc::clone(&node);
        side_by_side([Box::new(one), Box::new(other), Box::new(move || (1..3).for_each(|n| shop.change(n)))]);
    });
}
