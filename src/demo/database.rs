//! What stands for the database: a pool of connections, and a latency that each read has.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Semaphore;

use super::ids::mix;
use super::reply::ApiError;

/// How many reads run at a time; the others queue, at most one a connection of the shop's listener.
const POOL_SIZE: usize = 8;

/// How many paths are counted one by one; reads of any further path count as [`OTHER`].
const PATHS_MAX: usize = 512;

/// A path longer than this is no page of the shop and is not kept.
const PATH_BYTES_MAX: usize = 128;

const OTHER: &str = "(other)";

/// Counts reads and makes each wait.
#[derive(Debug)]
pub(super) struct Database {
    latency: RangeInclusive<Duration>,
    pool: Semaphore,
    reads: AtomicU64,
    by_path: Mutex<BTreeMap<String, u64>>,
}

/// How often the shop was asked, that is, how often a cache in front of it was not enough.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ShopStats {
    /// Reads in all.
    pub reads: u64,
    /// Reads by path, without the query: the first 512 paths, and `(other)`.
    pub by_path: BTreeMap<String, u64>,
}

impl Database {
    /// A database whose reads take this long.
    pub(super) fn new(latency: RangeInclusive<Duration>) -> Self {
        Self { latency, pool: Semaphore::new(POOL_SIZE), reads: AtomicU64::new(0), by_path: Mutex::default() }
    }

    /// Counts a read, waits for its turn in the pool, reads, and takes its time before it answers.
    ///
    /// In this order: an answer is as of the beginning of its wait, so a change that is made meanwhile is not in it,
    /// as with a query that has its snapshot and is not back yet. That is the race which a cache must win.
    ///
    /// The query runs on a thread for blocking work: a long list takes tens of milliseconds to write, and the proxy
    /// that is shown may run on the same few threads.
    pub(super) async fn read<T, Q>(&self, path: &str, query: Q) -> Result<T, ApiError>
    where
        T: Send + 'static,
        Q: FnOnce() -> Result<T, ApiError> + Send + 'static,
    {
        let sequence = self.reads.fetch_add(1, Ordering::Relaxed);
        self.count(path);
        let latency = latency(&self.latency, sequence);
        let _turn = self.pool.acquire().await.expect("the pool is never closed");
        let answer = run(query).await;
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        answer
    }

    /// A write, neither counted nor slowed; on a thread for blocking work, because it waits for long reads to end.
    pub(super) async fn write<T, Q>(&self, query: Q) -> Result<T, ApiError>
    where
        T: Send + 'static,
        Q: FnOnce() -> Result<T, ApiError> + Send + 'static,
    {
        run(query).await
    }

    /// Reads so far.
    pub(super) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// The counters.
    pub(super) fn stats(&self) -> ShopStats {
        let by_path = self.by_path.lock().unwrap_or_else(PoisonError::into_inner).clone();
        ShopStats { reads: self.reads(), by_path }
    }

    fn count(&self, path: &str) {
        let mut by_path = self.by_path.lock().unwrap_or_else(PoisonError::into_inner);
        let full = by_path.len() >= PATHS_MAX || path.len() > PATH_BYTES_MAX;
        let path = if full && !by_path.contains_key(path) { OTHER } else { path };
        // Looked up first, so that a path that is there costs no copy of its name.
        match by_path.get_mut(path) {
            Some(count) => *count += 1,
            None => {
                by_path.insert(path.to_owned(), 1);
            }
        }
    }
}

/// Runs a query on a thread for blocking work. One that panics is a bug; who asked is told that there is one.
async fn run<T, Q>(query: Q) -> Result<T, ApiError>
where
    T: Send + 'static,
    Q: FnOnce() -> Result<T, ApiError> + Send + 'static,
{
    tokio::task::spawn_blocking(query).await.unwrap_or(Err(ApiError::Internal))
}

/// The latency of the `sequence`th read: evenly spread over the range, and the same in every run.
fn latency(range: &RangeInclusive<Duration>, sequence: u64) -> Duration {
    let (least, most) = (*range.start(), *range.end());
    let span = u64::try_from(most.saturating_sub(least).as_micros()).unwrap_or(u64::MAX);
    least + Duration::from_micros(mix(sequence) % span.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_is_spread_over_the_range_and_repeats_itself() {
        let range = Duration::from_millis(40)..=Duration::from_millis(120);
        let all: Vec<Duration> = (0..1000).map(|sequence| latency(&range, sequence)).collect();
        assert!(all.iter().all(|latency| range.contains(latency)));
        assert!(all.iter().filter(|latency| latency.as_millis() < 60).count() > 200, "a quarter is in each quarter");
        assert_eq!(all[7], latency(&range, 7));
        assert_eq!(latency(&(Duration::ZERO..=Duration::ZERO), 7), Duration::ZERO);
    }

    #[test]
    fn paths_beyond_the_bound_are_counted_together() {
        let database = Database::new(Duration::ZERO..=Duration::ZERO);
        for number in 0..PATHS_MAX + 10 {
            database.count(&format!("/store/products/{number}"));
        }
        database.count("/store/products/0");
        let stats = database.stats();
        assert_eq!(stats.by_path.len(), PATHS_MAX + 1);
        assert_eq!(stats.by_path[OTHER], 10);
        assert_eq!(stats.by_path["/store/products/0"], 2);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_reads_run_at_a_time_than_the_pool_holds() {
        let database = Database::new(Duration::from_millis(100)..=Duration::from_millis(100));
        let began = tokio::time::Instant::now();
        futures_util::future::join_all((0..POOL_SIZE * 3).map(|_| database.read("/", || Ok(())))).await;
        assert_eq!(began.elapsed().as_millis() / 100, 3);
        assert_eq!(database.reads(), POOL_SIZE as u64 * 3);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_as_of_the_beginning_of_its_wait() {
        let database = Database::new(Duration::from_millis(100)..=Duration::from_millis(100));
        let began = tokio::time::Instant::now();
        assert_eq!(database.read("/", || Ok(tokio::time::Instant::now())).await, Ok(began));
        assert!(began.elapsed() >= Duration::from_millis(100));
    }

    #[tokio::test]
    async fn a_query_that_panics_gives_its_turn_back() {
        let database = Database::new(Duration::ZERO..=Duration::ZERO);
        for _ in 0..POOL_SIZE * 2 {
            let answer: Result<(), ApiError> = database.read("/", || panic!("a bug")).await;
            assert_eq!(answer, Err(ApiError::Internal));
        }
    }
}
