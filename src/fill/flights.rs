//! One flight a key: who asks first leads, the others follow.
//!
//! The order that makes it safe:
//! 1. A request notes the newest purge applied, then joins.
//! 2. The leader's flight notes the newest purge applied (`as_of`), then asks the origin.
//! 3. When the answer lands, the flight leaves the map *before* its result is published: who comes
//!    later starts a new one and cannot get an answer that began before it came.
//! 4. A follower takes the result only if no purge between 2 and 1 concerns it; else it joins again.
//!
//! A leader that fails or is dropped frees its followers: they join again. Followers are woken in the order
//! in which they came. `tests/schedules` tries this in all orders.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::Shared;
use tokio::sync::oneshot;

use crate::policy::key::KeyHash;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Mutex, PoisonError};

/// Flights under way. `T` is what a flight lands.
#[derive(Debug)]
pub struct Flights<T: Clone> {
    under_way: Mutex<HashMap<KeyHash, Flight<T>>>,
    followers: AtomicUsize,
}

/// A flight, and how many have joined it after its leader.
#[derive(Debug)]
struct Flight<T: Clone> {
    follower: Follower<T>,
    joined: usize,
}

/// What joining a flight made of the request.
#[derive(Debug)]
pub enum Joined<T: Clone> {
    /// It is the first: it must land the flight, or drop the guard.
    Leader(Leader<T>),
    /// It waits for the leader.
    Follower(Follower<T>),
}

/// The duty to land a flight.
#[derive(Debug)]
pub struct Leader<T: Clone> {
    flights: Arc<Flights<T>>,
    key: KeyHash,
    /// `None` once it has landed.
    result: Option<oneshot::Sender<T>>,
    follower: Follower<T>,
}

/// The right to a flight's result.
#[derive(Clone, Debug)]
pub struct Follower<T: Clone> {
    result: Shared<oneshot::Receiver<T>>,
}

impl<T: Clone> Flights<T> {
    /// None under way.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { under_way: Mutex::default(), followers: AtomicUsize::new(0) })
    }

    /// Joins the flight of a key, or begins it.
    pub fn join(self: &Arc<Self>, key: KeyHash) -> Joined<T> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        match under_way.entry(key) {
            Entry::Occupied(mut flight) => {
                let flight = flight.get_mut();
                flight.joined += 1;
                Joined::Follower(flight.follower.clone())
            }
            Entry::Vacant(place) => {
                let (result, landed) = oneshot::channel();
                let follower = Follower { result: landed.shared() };
                place.insert(Flight { follower: follower.clone(), joined: 0 });
                Joined::Leader(Leader { flights: Arc::clone(self), key, result: Some(result), follower })
            }
        }
    }

    /// Whether the flight of a key is under way.
    pub fn is_under_way(&self, key: KeyHash) -> bool {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&key)
    }

    /// Whether anybody has joined the flight of a key after its leader.
    pub fn is_followed(&self, key: KeyHash) -> bool {
        let under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.get(&key).is_some_and(|flight| flight.joined > 0)
    }

    /// Flights under way.
    pub fn count(&self) -> usize {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Requests that wait for another's flight now.
    pub fn followers(&self) -> usize {
        self.followers.load(Ordering::Relaxed)
    }

    /// Waits for a flight as one of its followers; `None` when its leader gave up.
    pub async fn follow(&self, follower: Follower<T>) -> Option<T> {
        /// Counts the wait, also when the waiter is dropped in it.
        struct Waiting<'f>(&'f AtomicUsize);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.followers.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.followers);
        follower.landed().await
    }
}

impl<T: Clone> Leader<T> {
    /// The leader's own right to the result.
    pub fn follower(&self) -> Follower<T> {
        self.follower.clone()
    }

    /// Publishes the result.
    pub fn land(mut self, result: T) {
        self.leave();
        if let Some(sender) = self.result.take() {
            // That nobody waits is no failure.
            drop(sender.send(result));
        }
    }

    fn leave(&self) {
        self.flights.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl<T: Clone> Drop for Leader<T> {
    fn drop(&mut self) {
        if self.result.is_some() {
            // The sender is dropped after this, unsent.
            self.leave();
        }
    }
}

impl<T: Clone> Follower<T> {
    /// Waits for the result; `None` when the leader gave up.
    pub async fn landed(self) -> Option<T> {
        self.result.await.ok()
    }
}
