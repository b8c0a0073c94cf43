//! What all parts of one run share: a seed's dice, one time, one trace, and the first rule broken.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use endcap::tasks::Tasks;
use tokio::time::Instant;

/// SplitMix64: small, and the same on every machine.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Looks at a clock that stands still before a run counts as one that goes round in circles: the busiest
/// millisecond of a sound run has a few thousand.
const LOOKS_MOST: u64 = 1_000_000;
/// The longest that a run may take by its own clock: a sound one ends within the hour.
const DAY: u64 = 24 * 3600 * 1000;

/// See the module.
pub(crate) struct World {
    began: Instant,
    /// The millisecond of the newest look at the clock, and the looks in it.
    looked: (AtomicU64, AtomicU64),
    state: Mutex<State>,
    tasks: Tasks,
}

struct State {
    dice: Dice,
    trace: Vec<String>,
    broken: Option<String>,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}

impl World {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        let state = State { dice: Dice(seed), trace: Vec::new(), broken: None };
        Arc::new(Self {
            began: Instant::now(),
            looked: Default::default(),
            state: Mutex::new(state),
            tasks: Tasks::new(),
        })
    }

    /// Milliseconds since the run began. Who asks for ever without time going on, or for a day, is stopped here.
    pub(crate) fn now(&self) -> u64 {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap();
        if self.looked.0.swap(now, Ordering::Relaxed) != now {
            self.looked.1.store(0, Ordering::Relaxed);
        }
        let looks = self.looked.1.fetch_add(1, Ordering::Relaxed);
        assert!(looks < LOOKS_MOST, "something goes round in circles at {now} ms");
        assert!(now < DAY, "something never ends");
        now
    }

    /// A number below `end`.
    pub(crate) fn below(&self, end: u64) -> u64 {
        self.state().dice.roll() % end.max(1)
    }

    /// A place in something of this length.
    pub(crate) fn index(&self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap()
    }

    pub(crate) fn pick<T: Copy>(&self, from: &[T]) -> T {
        from[self.index(from.len())]
    }

    /// True in so many of a thousand.
    pub(crate) fn chance(&self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// Waits for up to so many milliseconds; others run meanwhile in any case.
    pub(crate) async fn pause(&self, most: u64) {
        match self.below(most + 1) {
            0 => tokio::task::yield_now().await,
            millis => tokio::time::sleep(Duration::from_millis(millis)).await,
        }
    }

    /// Writes a line of the trace.
    pub(crate) fn note(&self, line: impl fmt::Display) {
        let line = format!("{:>7} {line}", self.now());
        tracing::debug!("{line}");
        self.state().trace.push(line);
    }

    /// A rule is broken: the run has failed.
    pub(crate) fn broken(&self, what: impl fmt::Display) {
        self.note(format_args!("BROKEN {what}"));
        self.state().broken.get_or_insert_with(|| what.to_string());
    }

    pub(crate) fn first_broken(&self) -> Option<String> {
        self.state().broken.clone()
    }

    pub(crate) fn trace(&self) -> Vec<String> {
        self.state().trace.clone()
    }

    /// Starts a task of the world outside the nodes.
    pub(crate) fn spawn<F>(&self, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks.spawn(task)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}
