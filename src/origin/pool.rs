//! The connections to the origin: how many, who waits for one, which is taken, when each is closed.
//!
//! Invariant: connections in use and idle ones together never exceed `connections_max`. A permit
//! stands for a connection in use; a new one is opened only under a permit and only when no idle
//! one could be taken (or after one was closed for it), and a used one becomes idle before its
//! permit is free.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::exchange::Upload;
use super::wire::{Traffic, Wire, dial};
use super::{OriginError, OriginSettings, Purpose};
use crate::tasks::Tasks;

/// hyper's least; also what a body is read with, so a small limit on heads does not slow bodies.
const READ_BUFFER_MIN: usize = 64 * 1024;

/// How long a connection that was just given back may take to become ready for the next request.
/// It takes microseconds; one that takes longer still writes to an origin that does not read.
const READY_WAIT: Duration = Duration::from_millis(50);

/// A request that cannot be sent twice takes no connection that was idle for longer than this: the
/// origin may be about to close it, and then nobody could tell whether the request was carried out.
const FRESH_ENOUGH: Duration = Duration::from_secs(1);

/// The pool's figures, for metrics. Counters end in `_total`; the others go up and down.
#[derive(Debug, Default)]
pub struct PoolStats {
    open: AtomicU64,
    idle: AtomicU64,
    waiting: AtomicU64,
    connects_total: AtomicU64,
    replays_total: AtomicU64,
}

impl PoolStats {
    /// Sockets that are open: in use, idle, or tunnels.
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Acquire)
    }

    /// Connections that wait for a request. One that the origin has closed meanwhile counts until
    /// it is swept or found.
    pub fn idle(&self) -> u64 {
        self.idle.load(Ordering::Acquire)
    }

    /// Requests that wait for a connection; at most `queue_max`.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Acquire)
    }

    /// Connections made since the start.
    pub fn connects_total(&self) -> u64 {
        self.connects_total.load(Ordering::Acquire)
    }

    /// Requests that went to a fresh connection because the kept one had died under them.
    pub fn replays_total(&self) -> u64 {
        self.replays_total.load(Ordering::Acquire)
    }

    pub(super) fn connected(&self) {
        self.open.fetch_add(1, Ordering::AcqRel);
        self.connects_total.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn disconnected(&self) {
        self.open.fetch_sub(1, Ordering::AcqRel);
    }

    pub(super) fn replayed(&self) {
        self.replays_total.fetch_add(1, Ordering::AcqRel);
    }
}

/// The right to use a connection.
#[derive(Debug)]
pub(super) struct Permit {
    _connection: OwnedSemaphorePermit,
    /// Of the fills or of the passes.
    place: OwnedSemaphorePermit,
    is_pass: bool,
}

/// What one kind of requests may have of a bound: a part is left to the other.
const fn most_of(all: usize) -> usize {
    all - all / 4
}

/// Requests of one kind: fills, or what passes.
#[derive(Debug)]
struct Kind {
    /// Taken beside a connection's permit.
    places: Arc<Semaphore>,
    waiting: AtomicU64,
}

impl Kind {
    fn new(places: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(places)), waiting: AtomicU64::new(0) }
    }
}

/// A connection to the origin. Dropping it closes the socket, whatever goes on on it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) sender: SendRequest<Upload>,
    pub(super) traffic: Arc<Traffic>,
    task: AbortHandle,
    is_tunnel: bool,
}

impl Connection {
    /// Leaves the socket to whoever takes the upgrade, and the permit to the socket.
    pub(super) fn into_tunnel(mut self, permit: Permit) {
        self.traffic.keep(permit);
        self.is_tunnel = true;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Dropping the sender alone would let hyper finish what it has begun: it would read on
        // from an origin that is silent, and write on the body of a client that has left.
        if !self.is_tunnel {
            self.task.abort();
        }
    }
}

/// The connections to one origin.
pub(super) struct Pool {
    settings: OriginSettings,
    builder: Builder,
    permits: Arc<Semaphore>,
    /// Their answers cost the origin work, and more at once come no sooner.
    fills: Kind,
    /// Passes and tunnels, which last as long as their clients like.
    passes: Kind,
    /// Held for a push, a pop or a sweep of at most `connections_max`; never over an `.await`.
    idle: Mutex<Idle>,
    /// Tells the sweep that there is something to sweep again.
    filled: Notify,
    stats: Arc<PoolStats>,
    tasks: Tasks,
}

#[derive(Default)]
struct Idle {
    /// The freshest last: it is taken first, so what is not needed stays idle and expires.
    list: Vec<Kept>,
    /// From then on nothing is kept.
    is_closed: bool,
}

struct Kept {
    connection: Connection,
    since: Instant,
    expires: Instant,
}

impl Kept {
    fn is_alive(&self, now: Instant) -> bool {
        self.expires > now && !self.connection.sender.is_closed()
    }
}

impl Pool {
    pub(super) fn new(settings: OriginSettings, tasks: Tasks) -> Self {
        let mut builder = Builder::new();
        builder.max_header_size(settings.head_bytes_max).max_buf_size(settings.head_bytes_max.max(READ_BUFFER_MIN));
        let connections_max = settings.connections_max.min(Semaphore::MAX_PERMITS);
        Self {
            permits: Arc::new(Semaphore::new(connections_max)),
            fills: Kind::new(settings.fills_max.min(connections_max)),
            passes: Kind::new(most_of(connections_max)),
            settings,
            builder,
            idle: Mutex::default(),
            filled: Notify::new(),
            stats: Arc::default(),
            tasks,
        }
    }

    pub(super) fn settings(&self) -> &OriginSettings {
        &self.settings
    }

    pub(super) fn stats(&self) -> &Arc<PoolStats> {
        &self.stats
    }

    /// Waits for the right to use a connection, in order of arrival.
    pub(super) async fn admit(&self, purpose: Purpose) -> Result<Permit, OriginError> {
        let (kind, is_pass) = match purpose {
            Purpose::Fill => (&self.fills, false),
            Purpose::Pass | Purpose::Upgrade => (&self.passes, true),
        };
        let at_once = |semaphore: &Arc<Semaphore>| Arc::clone(semaphore).try_acquire_owned().ok();
        if let Some(place) = at_once(&kind.places)
            && let Some(connection) = at_once(&self.permits)
        {
            return Ok(Permit { _connection: connection, place, is_pass });
        }
        let queue_max = self.settings.queue_max;
        let wait = |of, most| Place::take(of, most).ok_or(OriginError::QueueFull);
        let _waits = (wait(&kind.waiting, most_of(queue_max))?, wait(&self.stats.waiting, queue_max)?);
        let in_turn = |semaphore: &Arc<Semaphore>| {
            let permit = Arc::clone(semaphore).acquire_owned();
            async { permit.await.expect("nobody closes the semaphores") }
        };
        let permit = async {
            let place = in_turn(&kind.places).await;
            Permit { _connection: in_turn(&self.permits).await, place, is_pass }
        };
        timeout(self.settings.queue_timeout, permit).await.map_err(|_elapsed| OriginError::QueueTimeout)
    }

    /// Turns the permit of a fill into one of a pass, unless what passes has all its places taken.
    pub(super) fn turn_into_pass(&self, permit: &mut Permit) -> bool {
        if !permit.is_pass
            && let Ok(place) = Arc::clone(&self.passes.places).try_acquire_owned()
        {
            (permit.place, permit.is_pass) = (place, true);
        }
        permit.is_pass
    }

    /// Takes the freshest connection that is still usable, if any.
    pub(super) async fn take(&self, is_replayable: bool) -> Option<Connection> {
        while let Some(mut connection) = self.pop(is_replayable) {
            if connection.sender.is_ready()
                || matches!(timeout(READY_WAIT, connection.sender.ready()).await, Ok(Ok(())))
            {
                connection.traffic.suspect();
                return Some(connection);
            }
        }
        None
    }

    fn pop(&self, is_replayable: bool) -> Option<Connection> {
        let now = Instant::now();
        let mut idle = self.lock();
        idle.list.retain(|kept| kept.is_alive(now));
        let is_fresh = idle.list.last().is_some_and(|kept| now.duration_since(kept.since) <= FRESH_ENOUGH);
        let kept = if is_replayable || is_fresh {
            idle.list.pop()
        } else {
            // All others are older yet. The oldest makes room for the connection that will be opened.
            let oldest = idle.list.len().min(1);
            idle.list.drain(..oldest);
            None
        };
        self.count(&idle);
        kept.map(|kept| kept.connection)
    }

    /// Opens a connection. Only under a permit, and only if none could be taken.
    pub(super) async fn connect(&self) -> Result<Connection, OriginError> {
        let stream = dial(&self.settings.host, self.settings.port, self.settings.connect_timeout).await?;
        let wire = Wire::new(stream, Arc::clone(&self.stats));
        let traffic = Arc::clone(wire.traffic());
        let handshake = self.builder.handshake(TokioIo::new(wire)).await;
        let (sender, connection) = handshake.map_err(|error| OriginError::ConnectFailed(Arc::new(error)))?;
        let connection = connection.with_upgrades();
        let task = self.tasks.spawn(async move {
            // A failure that meets a request is reported to it; what is left concerns nobody:
            // the origin said something while nothing was asked.
            if let Err(error) = connection.await {
                tracing::debug!(error = %error, "origin connection ended");
            }
        });
        Ok(Connection { sender, traffic, task: task.abort_handle(), is_tunnel: false })
    }

    /// Takes a connection back after the clean end of its answer, for at most `keep`.
    pub(super) fn give_back(&self, connection: Connection, keep: Duration) {
        let since = Instant::now();
        let expires = since + keep.min(self.settings.idle_timeout);
        let mut idle = self.lock();
        if idle.is_closed || self.tasks.stopping().is_cancelled() || expires <= since {
            return;
        }
        idle.list.push(Kept { connection, since, expires });
        self.count(&idle);
        if idle.list.len() == 1 {
            self.filled.notify_one();
        }
    }

    /// Closes idle connections when their time is over, so that they linger neither here nor at
    /// the origin, until the origin is replaced or the process stops; then closes all of them.
    pub(super) async fn sweep(self: Arc<Self>, gone: CancellationToken) {
        let stopping = self.tasks.stopping().clone();
        loop {
            let next = self.expire(Instant::now());
            // The ends first: a pool that never empties must not outlive its process.
            tokio::select! {
                biased;
                () = gone.cancelled() => break,
                () = stopping.cancelled() => break,
                () = self.filled.notified(), if next.is_none() => {}
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
        }
        let mut idle = self.lock();
        idle.is_closed = true;
        idle.list.clear();
        self.count(&idle);
    }

    /// Closes what is over, and tells when the next one will be.
    fn expire(&self, now: Instant) -> Option<Instant> {
        let mut idle = self.lock();
        idle.list.retain(|kept| kept.is_alive(now));
        self.count(&idle);
        idle.list.iter().map(|kept| kept.expires).min()
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        // Nothing in here leaves the list half changed when it panics.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, idle: &Idle) {
        self.stats.idle.store(idle.list.len() as u64, Ordering::Release);
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("settings", &self.settings).field("stats", &self.stats).finish_non_exhaustive()
    }
}

/// A place in the queue; freed when its holder is served or leaves.
struct Place<'a>(&'a AtomicU64);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicU64, max: usize) -> Option<Self> {
        let step = |taken: u64| (taken < max as u64).then_some(taken + 1);
        waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, step).ok().map(|_before| Self(waiting))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
