//! The one place where tasks are started, so that a drain can wait for all of them.

use std::future::Future;

use tokio::runtime::RuntimeFlavor;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Starts tasks, tells them to stop and waits for them.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// No tasks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task.
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tokio::spawn(self.tracker.track_future(task))
    }

    /// Does work that takes no I/O but time. Above `HEAVY_BYTES` it goes to a thread of its own: a list of
    /// 10 MB takes milliseconds to read, and hits must not wait for it.
    pub async fn compute<T, F>(bytes: usize, work: F) -> T
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        /// A quarter of a millisecond of JSON.
        const HEAVY_BYTES: usize = 128 * 1024;
        if bytes <= HEAVY_BYTES { work() } else { Self::block(work).await }
    }

    /// Does work that waits for a disk, or takes long, on a thread of its own; in a runtime of one thread
    /// (tests, the simulation) in place, so that things happen in one order.
    pub async fn block<T, F>(work: F) -> T
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        if tokio::runtime::Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
            return work();
        }
        Self::outcome(tokio::task::spawn_blocking(work)).await
    }

    /// What a task comes to. Its panic goes on in whoever waits for it.
    pub async fn outcome<T>(task: JoinHandle<T>) -> T {
        match task.await {
            Ok(done) => done,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // A task is cancelled only when the runtime goes, and then so are we.
                Err(_) => std::future::pending().await,
            },
        }
    }

    /// Tasks that are told to stop together with these, or before them. Who stops these does not wait for those.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { tracker: TaskTracker::new(), stop: self.stop.child_token() }
    }

    /// Is cancelled when the process begins to stop.
    pub fn stopping(&self) -> &CancellationToken {
        &self.stop
    }

    /// Tells all tasks to stop, and waits until they have.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}
