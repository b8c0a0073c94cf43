//! Threads that meet in a flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use shuttle::future::block_on;
use shuttle::thread;

use crate::flights::{Flights, Joined};
use crate::policy::key::{Key, KeyHash};
use crate::{in_any_order, side_by_side};

/// Flights that land the number in which they began. What only the test counts is no place to switch.
struct Airport {
    flights: Arc<Flights<u64>>,
    begun: AtomicU64,
    leading: AtomicUsize,
    /// The first leader gives up.
    gives_up: AtomicBool,
}

impl Airport {
    fn new(gives_up: bool) -> Arc<Self> {
        Arc::new(Self {
            flights: Flights::new(),
            begun: AtomicU64::new(0),
            leading: AtomicUsize::new(0),
            gives_up: gives_up.into(),
        })
    }

    /// Asks as a request does: leads, or follows until somebody's flight lands.
    fn ask(&self) -> u64 {
        let mut lost = 0;
        loop {
            match self.flights.join(key()) {
                Joined::Leader(leader) => {
                    let (own, number) = (leader.follower(), self.begun.fetch_add(1, Ordering::Relaxed) + 1);
                    assert_eq!(self.leading.fetch_add(1, Ordering::Relaxed), 0, "somebody leads already");
                    thread::yield_now();
                    self.leading.fetch_sub(1, Ordering::Relaxed);
                    if self.gives_up.swap(false, Ordering::Relaxed) {
                        continue;
                    }
                    leader.land(number);
                    assert_eq!(block_on(own.landed()), Some(number));
                    return number;
                }
                Joined::Follower(follower) => match block_on(self.flights.follow(follower)) {
                    Some(number) => return number,
                    None => {
                        lost += 1;
                        assert_eq!(lost, 1, "followed a leader that had given up");
                    }
                },
            }
        }
    }

    /// Three who ask twice.
    fn open(self: Arc<Self>) {
        side_by_side([(); 3].map(|()| {
            let airport = Arc::clone(&self);
            let asks = move || {
                let seen = airport.ask();
                assert!(airport.ask() > seen, "followed a flight whose landing it had seen");
            };
            Box::new(asks) as Box<dyn FnOnce() + Send>
        }));
        assert_eq!((self.flights.count(), self.flights.followers()), (0, 0));
        assert!(self.begun.load(Ordering::Relaxed) >= 2);
    }
}

/// The shortest text of a key: its four first parts are empty.
fn key() -> KeyHash {
    Key::from_text(&[0; 16]).unwrap().hash()
}

#[test]
fn followers_get_what_one_leader_lands_and_who_comes_after_starts_anew() {
    in_any_order(|| Airport::new(false).open());
}

#[test]
fn a_leader_that_is_dropped_frees_its_followers() {
    in_any_order(|| Airport::new(true).open());
}

#[test]
fn a_flight_is_followed_from_when_somebody_has_joined_it() {
    in_any_order(|| {
        let flights = Flights::<u64>::new();
        let Joined::Leader(leader) = flights.join(key()) else { panic!("nobody leads") };
        assert!(!flights.is_followed(key()));
        let joins = || {
            let flights = Arc::clone(&flights);
            move || {
                let Joined::Follower(_) = flights.join(key()) else { panic!("somebody leads") };
                assert!(flights.is_followed(key()));
            }
        };
        side_by_side([Box::new(joins()), Box::new(joins())]);
        leader.land(7);
        assert!(!flights.is_under_way(key()) && !flights.is_followed(key()));
    });
}
