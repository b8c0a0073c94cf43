//! The orders in which threads can meet in flights and purges, tried by thousands.
//!
//! The product's own files are compiled here a second time, with a scheduler's locks and atomics in the place of
//! the standard library's (`crate::sync`): at each of them another thread may go on instead. Each test takes orders
//! at random, and orders in which few switches, each at any moment, decide (PCT). They are the same each time.
//!
//! Tokio's channels are tokio's own, and no step at all: they block no thread. Every thread sees all that
//! others wrote before: which cores may see what later is not tried.
//!
//! ```text
//! cargo test --test schedules                             thousands of orders
//! ENDCAP_SCHEDULES=100000 cargo test --test schedules     so many of each kind for each test
//! ```
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]
#![allow(dead_code, unreachable_pub, reason = "the product's files hold more than is tried here")]

mod coherence;
#[path = "../../src/fill/flights.rs"]
mod flights;
mod judging;
mod meeting;
mod policy;
#[path = "../../src/purges.rs"]
mod purges;
mod sync;

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner, thread};

/// Orders of each kind that a test takes.
const SCHEDULES: usize = 1000;
/// Moments at which the order of an order of the second kind is decided.
const SWITCHES: usize = 3;
const SEED: u64 = 1;

/// Takes a test through many orders of its threads.
fn in_any_order(test: fn()) {
    let count = std::env::var("ENDCAP_SCHEDULES").map_or(SCHEDULES, |count| count.parse().unwrap());
    Runner::new(RandomScheduler::new_from_seed(SEED, count), Config::new()).run(test);
    Runner::new(PctScheduler::new_from_seed(SEED, SWITCHES, count), Config::new()).run(test);
}

/// Runs threads side by side, and waits for them all.
fn side_by_side<const N: usize>(threads: [Box<dyn FnOnce() + Send>; N]) {
    threads.map(thread::spawn).into_iter().for_each(|thread| thread.join().unwrap());
}
