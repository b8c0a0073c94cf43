//! What takes time to make and is then shared. It is made once for all who wait for it, in a task of its own
//! because whoever asked first may have the least patience, and not again before a pause: a jittered one that
//! grows with the failures, so that nodes do not come back in step.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::jitter::Jitter;
use crate::store::StoreError;
use crate::tasks::Tasks;

/// The pause after the first failure, doubled up to the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_LONGEST: Duration = Duration::from_secs(1);
/// The pause after a success: what breaks as soon as it is made is not made in a loop.
const REST: Duration = Duration::from_millis(250);

/// See the module.
pub(super) struct Kept<T> {
    state: watch::Sender<State<T>>,
    tasks: Tasks,
    jitter: Arc<Jitter>,
}

struct State<T> {
    value: Option<T>,
    /// How many values there were: who gives one up says which.
    count: u64,
    is_making: bool,
    failures: u32,
    /// Why there is none, while there is none.
    trouble: StoreError,
    rests_until: Instant,
}

impl<T: Clone + Send + Sync + 'static> Kept<T> {
    pub(super) fn new(tasks: Tasks, jitter: Arc<Jitter>) -> Self {
        let state = State {
            value: None,
            count: 0,
            is_making: false,
            failures: 0,
            trouble: StoreError::Connection("none was made yet".into()),
            rests_until: Instant::now(),
        };
        Self { state: watch::Sender::new(state), tasks, jitter }
    }

    /// What is kept, and its number. Without one it waits until one is made; in the pause after a failure it
    /// fails at once, for the same reason.
    pub(super) async fn get<F>(self: &Arc<Self>, make: impl Fn() -> F) -> Result<(T, u64), StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let mut state = self.state.subscribe();
        loop {
            {
                let state = state.borrow_and_update();
                if let Some(value) = &state.value {
                    return Ok((value.clone(), state.count));
                }
                if state.is_resting() {
                    return Err(state.trouble.clone());
                }
            }
            self.renew(&make);
            // The sender is ours: it outlives the wait.
            drop(state.changed().await);
        }
    }

    /// Makes one anew, unless it is being made or was a moment ago. Meanwhile the old one, if any, is kept.
    pub(super) fn renew<F>(self: &Arc<Self>, make: impl FnOnce() -> F)
    where
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let begins = self.state.send_if_modified(|state| {
            let begins = !state.is_making && !state.is_resting();
            state.is_making |= begins;
            begins
        });
        if begins {
            let (kept, making) = (Arc::clone(self), make());
            self.tasks.spawn(async move { kept.made(making.await) });
        }
    }

    /// Gives up the one with this number, if it is still kept.
    pub(super) fn give_up(&self, count: u64, trouble: &StoreError) {
        self.state.send_if_modified(|state| {
            let given_up = state.count == count && state.value.take().is_some();
            if given_up {
                state.trouble = trouble.clone();
            }
            given_up
        });
    }

    fn made(&self, made: Result<T, StoreError>) {
        self.state.send_modify(|state| {
            state.is_making = false;
            let pause = match made {
                Ok(value) => {
                    state.value = Some(value);
                    state.count += 1;
                    state.failures = 0;
                    REST
                }
                Err(trouble) => {
                    state.trouble = trouble;
                    state.failures = state.failures.saturating_add(1);
                    PAUSE_FIRST.saturating_mul(1 << (state.failures - 1).min(16)).min(PAUSE_LONGEST)
                }
            };
            state.rests_until = Instant::now() + self.jitter.of(pause);
        });
    }
}

impl<T> State<T> {
    fn is_resting(&self) -> bool {
        !self.is_making && Instant::now() < self.rests_until
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn kept() -> Arc<Kept<u64>> {
        Arc::new(Kept::new(Tasks::new(), Arc::new(Jitter::new(1))))
    }

    fn trouble() -> StoreError {
        StoreError::Connection("refused".into())
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_made_once_for_all_who_wait_also_when_the_first_goes_away() {
        let (kept, made) = (kept(), Arc::new(AtomicU64::new(0)));
        let make = || {
            let made = Arc::clone(&made);
            async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Ok(made.fetch_add(1, Ordering::Relaxed))
            }
        };
        let impatient = tokio::time::timeout(Duration::from_millis(10), kept.get(make)).await;
        assert!(impatient.is_err());
        let (one, two) = tokio::join!(kept.get(make), kept.get(make));
        assert_eq!((one, two), (Ok((0, 1)), Ok((0, 1))));
        assert_eq!(made.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_failure_it_fails_at_once_until_the_pause_is_over_and_pauses_grow() {
        let (kept, tries) = (kept(), AtomicU64::new(0));
        let make = || {
            tries.fetch_add(1, Ordering::Relaxed);
            async { Err(trouble()) }
        };
        let mut pauses = Vec::new();
        for _ in 0..8 {
            assert_eq!(kept.get(make).await, Err(trouble()));
            let (began, before) = (Instant::now(), tries.load(Ordering::Relaxed));
            while tries.load(Ordering::Relaxed) == before {
                assert_eq!(kept.get(make).await, Err(trouble()));
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            pauses.push(began.elapsed());
        }
        assert!(pauses[0] >= PAUSE_FIRST / 2 && pauses[0] <= PAUSE_FIRST * 11 / 10, "{pauses:?}");
        assert!(pauses[7] >= PAUSE_LONGEST / 2 && pauses[7] <= PAUSE_LONGEST * 11 / 10, "{pauses:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_given_up_is_made_anew_after_a_rest_and_a_newer_one_is_not_given_up() {
        let kept = kept();
        assert_eq!(kept.get(|| async { Ok(7) }).await, Ok((7, 1)));
        kept.give_up(1, &trouble());
        assert_eq!(kept.get(|| async { Ok(8) }).await, Err(trouble()), "it was made a moment ago");
        tokio::time::sleep(REST).await;
        assert_eq!(kept.get(|| async { Ok(8) }).await, Ok((8, 2)));
        kept.give_up(1, &trouble());
        assert_eq!(kept.get(|| async { Ok(9) }).await, Ok((8, 2)));
    }

    #[tokio::test(start_paused = true)]
    async fn while_it_is_renewed_the_old_one_serves_also_when_that_fails() {
        let kept = kept();
        kept.get(|| async { Ok(7) }).await.unwrap();
        tokio::time::sleep(REST).await;
        kept.renew(|| async { Err(trouble()) });
        tokio::time::sleep(PAUSE_FIRST).await;
        assert_eq!(kept.get(|| async { Ok(8) }).await, Ok((7, 1)));
        kept.renew(|| async { Ok(9) });
        tokio::time::sleep(REST).await;
        assert_eq!(kept.get(|| async { Ok(8) }).await, Ok((9, 2)));
    }
}
