//! What is known of one connection, and until when it may go on like that.
//!
//! The socket, the service and the bodies write down what happens; the connection's one timer asks
//! `due`. Nobody sets a timer when something happens, so an ordinary request costs no timer
//! operation: the timer fires when the oldest deadline would have been, finds it moved, and sleeps on.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::accept::{ConnectionEnd, ConnectionLimits};
use crate::interim::Line;
use crate::policy::admission::Refusal;

/// How long a connection that we closed first is read on, so that the client sees our answer
/// instead of a reset.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
/// Streams that a client may reset before their answer, in one `RESETS_WINDOW`; more ends the
/// connection (CVE-2023-44487).
const RESETS_MAX: u32 = 100;
const RESETS_WINDOW: Duration = Duration::from_mins(1);

/// Which of the two protocols a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// Shared by all parts of one connection. Times count from `started`.
#[derive(Debug)]
pub(super) struct ConnectionState {
    started: Instant,
    is_http_2: AtomicBool,
    /// Requests whose answer is not yet handed over in full.
    under_way: AtomicU32,
    /// Those of them that wait for us rather than for the client.
    waiting_for_us: AtomicU32,
    /// Answers that have ended. Zero: the first request has not come yet.
    answered: AtomicU32,
    /// When the last answer ended, or moved (HTTP/2).
    moved: Mark,
    /// When the head that is being read began.
    head: Mark,
    /// Since when the socket takes nothing.
    blocked: Mark,
    /// When we closed our side.
    closed: Mark,
    resets: AtomicU32,
    resets_since: Mark,
    refusal: OnceLock<Refusal>,
    /// The next bytes are not HTTP any more: an upgrade was answered with 101.
    is_tunnel: AtomicBool,
    displaced: Displaced,
    /// What a client of HTTP/1.1 is told before its answer.
    line: Arc<Line>,
}

impl ConnectionState {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            is_http_2: AtomicBool::new(false),
            is_tunnel: AtomicBool::new(false),
            under_way: AtomicU32::new(0),
            waiting_for_us: AtomicU32::new(0),
            answered: AtomicU32::new(0),
            moved: Mark::default(),
            head: Mark::default(),
            blocked: Mark::default(),
            closed: Mark::default(),
            resets: AtomicU32::new(0),
            resets_since: Mark::default(),
            refusal: OnceLock::new(),
            displaced: Displaced::default(),
            line: Arc::default(),
        }
    }

    pub(super) fn line(&self) -> &Arc<Line> {
        &self.line
    }

    /// The answer is a 101: what follows is between the client and the origin.
    pub(super) fn tunnels(&self) {
        self.is_tunnel.store(true, Ordering::Release);
    }

    pub(super) fn is_tunnel(&self) -> bool {
        self.is_tunnel.load(Ordering::Acquire)
    }

    pub(super) fn started(&self) -> Instant {
        self.started
    }

    pub(super) fn speaks(&self, protocol: Protocol) {
        self.is_http_2.store(protocol == Protocol::Http2, Ordering::Relaxed);
    }

    fn is_http_2(&self) -> bool {
        self.is_http_2.load(Ordering::Relaxed)
    }

    pub(super) fn head_began(&self) {
        self.head.set(self.started);
    }

    pub(super) fn head_ended(&self) {
        self.head.clear();
    }

    pub(super) fn write_blocked(&self) {
        self.blocked.set(self.started);
    }

    pub(super) fn write_moved(&self) {
        self.blocked.clear();
    }

    pub(super) fn closed(&self) {
        self.closed.set(self.started);
    }

    /// Why the last head of this connection was replaced by a stand-in, if it was.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.refusal.get().copied()
    }

    pub(super) fn refuse(&self, refusal: Refusal) {
        // Only the first counts: nothing is read after it.
        self.refusal.get_or_init(|| refusal);
    }

    /// Whether the connection may be told to end: a request is under way, which will still be
    /// answered, or none has begun to come in.
    pub(super) fn may_finish(&self) -> bool {
        self.under_way.load(Ordering::Acquire) > 0 || self.head.get().is_none()
    }

    /// Whether no request is under way: all there were have their answers, as far as we are asked.
    pub(super) fn is_between(&self) -> bool {
        self.under_way.load(Ordering::Acquire) == 0 && self.refusal.get().is_none()
    }

    /// Since when nothing has been asked, where that is so: before the first request since the connect.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let is_idle = self.under_way.load(Ordering::Acquire) == 0
            && [&self.head, &self.blocked, &self.closed].iter().all(|mark| mark.get().is_none())
            && !self.is_tunnel();
        is_idle.then(|| self.started + self.moved.get().unwrap_or_default())
    }

    /// Orders the connection to make room. It declines if a request is under way when it comes to it; else it ends.
    pub(super) fn displace(&self) -> oneshot::Receiver<()> {
        let (decline, declined) = oneshot::channel();
        self.displaced.order().replace(decline);
        // The order first: whoever is woken takes it.
        self.displaced.is_ordered.store(true, Ordering::Release);
        self.displaced.waker.wake();
        declined
    }

    /// Has this task woken by an order to make room. Once is enough for as long as it is the same task.
    pub(super) fn wakes(&self, cx: &Context<'_>) {
        self.displaced.waker.register(cx.waker());
    }

    /// Whether the connection has to end for another. Costs one load where there is no order.
    pub(super) fn makes_room(&self) -> bool {
        if !self.displaced.is_ordered.load(Ordering::Acquire) {
            return false;
        }
        self.displaced.is_ordered.store(false, Ordering::Release);
        let decline = self.displaced.order().take();
        let is_idle = self.idle_since().is_some();
        if let (false, Some(decline)) = (is_idle, decline) {
            // Whoever ordered it may have been served meanwhile.
            decline.send(()).ok();
        }
        is_idle
    }

    /// Waits for an order that is obeyed.
    pub(super) fn poll_displaced(&self, cx: &Context<'_>) -> Poll<()> {
        self.wakes(cx);
        if self.makes_room() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// A request that was read `at` a moment was answered without ever being under way.
    pub(super) fn answered_at_once(&self, at: Instant) {
        self.moved.set_at(at.saturating_duration_since(self.started));
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn has_reset_too_often(&self) -> bool {
        self.resets.load(Ordering::Relaxed) > RESETS_MAX
    }

    /// When the connection must end if nothing more happens, and why. Nothing while we are the ones
    /// to be waited for.
    pub(super) fn due(&self, limits: &ConnectionLimits) -> Option<(ConnectionEnd, Instant)> {
        let at = |since: Duration, timeout: Duration| self.started + since + timeout;
        if let Some(since) = self.closed.get() {
            return Some((ConnectionEnd::Finished, at(since, LINGER_TIMEOUT)));
        }
        if let Some(since) = self.blocked.get() {
            return Some((ConnectionEnd::WriteTimeout, at(since, limits.write_timeout)));
        }
        let moved = self.moved.get().unwrap_or_default();
        if self.under_way.load(Ordering::Acquire) > 0 {
            // In HTTP/2 a client stops an answer by its window, while the socket goes on.
            let is_stalled = self.is_http_2() && self.waiting_for_us.load(Ordering::Acquire) == 0;
            return is_stalled.then(|| (ConnectionEnd::WriteTimeout, at(moved, limits.write_timeout)));
        }
        if let Some(began) = self.head.get() {
            // A head may begin during the answer before it; nobody reads it then.
            return Some((ConnectionEnd::HeadTimeout, at(began.max(moved), limits.head_timeout)));
        }
        if self.answered.load(Ordering::Relaxed) == 0 {
            return Some((ConnectionEnd::HeadTimeout, at(Duration::ZERO, limits.head_timeout)));
        }
        Some((ConnectionEnd::IdleTimeout, at(moved, limits.idle_timeout)))
    }

    fn note_reset(&self) {
        let now = self.started.elapsed();
        if self.resets_since.get().is_none_or(|since| now.saturating_sub(since) > RESETS_WINDOW) {
            self.resets_since.set(self.started);
            self.resets.store(0, Ordering::Relaxed);
        }
        self.resets.fetch_add(1, Ordering::Relaxed);
    }
}

/// The order to make room for another connection.
#[derive(Debug, Default)]
struct Displaced {
    is_ordered: AtomicBool,
    /// Says no to it.
    order: Mutex<Option<oneshot::Sender<()>>>,
    waker: AtomicWaker,
}

impl Displaced {
    fn order(&self) -> std::sync::MutexGuard<'_, Option<oneshot::Sender<()>>> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request is under way for as long as this lives: first in the service, then in the answer's body.
#[derive(Debug)]
pub(super) struct UnderWay {
    state: Arc<ConnectionState>,
    waits_for_us: bool,
    is_answered: bool,
}

impl UnderWay {
    pub(super) fn begin(state: &Arc<ConnectionState>) -> Self {
        state.under_way.fetch_add(1, Ordering::AcqRel);
        state.waiting_for_us.fetch_add(1, Ordering::AcqRel);
        Self { state: Arc::clone(state), waits_for_us: true, is_answered: false }
    }

    /// The answer's head is there; from here on it is the client's to take it.
    pub(super) fn answered(&mut self) {
        self.is_answered = true;
        self.moved(false);
    }

    pub(super) fn is_http_2(&self) -> bool {
        self.state.is_http_2()
    }

    /// The body has moved, and either has nothing more to give at the moment or waits for the client.
    pub(super) fn moved(&mut self, waits_for_us: bool) {
        if waits_for_us != self.waits_for_us {
            self.waits_for_us = waits_for_us;
            if waits_for_us {
                self.state.waiting_for_us.fetch_add(1, Ordering::AcqRel);
            } else {
                self.state.waiting_for_us.fetch_sub(1, Ordering::AcqRel);
            }
        }
        // In HTTP/1 the socket itself shows a stall.
        if !waits_for_us && self.is_http_2() {
            self.state.moved.set(self.state.started);
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if self.waits_for_us {
            self.state.waiting_for_us.fetch_sub(1, Ordering::AcqRel);
        }
        if !self.is_answered && self.is_http_2() {
            self.state.note_reset();
        }
        self.state.moved.set(self.state.started);
        self.state.answered.fetch_add(1, Ordering::Relaxed);
        // Last, so that whoever sees no request under way also sees since when.
        self.state.under_way.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A point in time, or none.
#[derive(Debug)]
struct Mark(AtomicU64);

impl Mark {
    const NONE: u64 = u64::MAX;

    /// Sets it to now.
    fn set(&self, started: Instant) {
        self.set_at(started.elapsed());
    }

    fn set_at(&self, since: Duration) {
        let nanos = u64::try_from(since.as_nanos()).unwrap_or(Self::NONE - 1);
        self.0.store(nanos, Ordering::Relaxed);
    }

    fn clear(&self) {
        self.0.store(Self::NONE, Ordering::Relaxed);
    }

    fn get(&self) -> Option<Duration> {
        Some(self.0.load(Ordering::Relaxed)).filter(|nanos| *nanos != Self::NONE).map(Duration::from_nanos)
    }
}

impl Default for Mark {
    fn default() -> Self {
        Self(AtomicU64::new(Self::NONE))
    }
}
