//! The locks, atomics and calls of what threads share: the standard library's and tokio's. `tests/schedules` compiles
//! the same files with a scheduler's in their place, to try the orders in which threads can meet.

pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic};

pub(crate) use tokio::sync::Notify;
