//! The places of a listener's connections. At most so many are taken; then the one that has been idle longest makes room.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::state::ConnectionState;

/// All places of a listener.
#[derive(Debug)]
pub(super) struct Seats {
    free: Arc<Semaphore>,
    all: u32,
    /// Locked when a connection comes or goes, and for one look at all of them when there is no place: for no request.
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    by: HashMap<u64, Arc<ConnectionState>>,
}

/// One place, for as long as it lives.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    number: u64,
    state: Arc<ConnectionState>,
    _permit: OwnedSemaphorePermit,
}

impl Seats {
    pub(super) fn new(all: u32) -> Arc<Self> {
        Arc::new(Self { free: Arc::new(Semaphore::new(all as usize)), all, taken: Mutex::default() })
    }

    /// A place for a connection that begins now; `None` where all are taken and none is idle.
    pub(super) async fn take(self: &Arc<Self>) -> Option<Seat> {
        let permit = match Arc::clone(&self.free).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => self.make_room().await?,
        };
        let state = Arc::new(ConnectionState::new());
        let mut taken = self.taken();
        let number = taken.next;
        taken.next += 1;
        taken.by.insert(number, Arc::clone(&state));
        drop(taken);
        Some(Seat { seats: Arc::clone(self), number, state, _permit: permit })
    }

    /// Tells the connection that has been idle longest to end. A request of it may have come meanwhile: then it
    /// declines, and no other is asked.
    async fn make_room(&self) -> Option<OwnedSemaphorePermit> {
        let idlest = {
            let taken = self.taken();
            let idle = taken.by.values().filter_map(|state| Some((state.idle_since()?, state)));
            Arc::clone(idle.min_by_key(|(since, _)| *since)?.1)
        };
        let declined = idlest.displace();
        // One of the two comes, as soon as the connection is next polled: it answers, or leaves its place.
        tokio::select! {
            biased;
            permit = Arc::clone(&self.free).acquire_owned() => permit.ok(),
            Ok(()) = declined => None,
        }
    }

    /// Waits until all places are free.
    pub(super) async fn left(&self) {
        let _all = self.free.acquire_many(self.all).await;
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// What is known of the connection that has it.
    pub(super) fn state(&self) -> &Arc<ConnectionState> {
        &self.state
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.taken().by.remove(&self.number);
    }
}
