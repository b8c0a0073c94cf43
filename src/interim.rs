//! Interim answers (1xx, RFC 9110 §15.2) on their way from the origin to the client whose request they are for.
//!
//! They belong to one exchange: they are written before its answer or not at all, are never stored, and
//! nobody who shares the answer is told of them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use http::{HeaderMap, StatusCode};

/// Bytes that wait for the client at once; an interim answer beyond it is dropped.
const WAITING_BYTES_MAX: usize = 16 * 1024;

/// Takes the interim answers of one request to its client.
#[derive(Clone, Debug, Default)]
pub struct Interim(Option<Told>);

#[derive(Clone, Debug)]
struct Told {
    line: Arc<Line>,
    turn: u64,
}

impl Interim {
    /// Nobody is told: there is no client, or it could not read them (HTTP/1.0).
    pub const fn nowhere() -> Self {
        Self(None)
    }

    /// Tells the client. Dropped when its answer has begun, or too much waits already.
    pub fn send(&self, status: StatusCode, headers: &HeaderMap) {
        let Some(Told { line, turn }) = &self.0 else { return };
        let mut open = line.open();
        if open.turn != Some(*turn) {
            return;
        }
        let mut head = Vec::with_capacity(256);
        let reason = status.canonical_reason().unwrap_or("");
        head.extend_from_slice(format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).as_bytes());
        for (name, value) in headers {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                head.extend_from_slice(part);
            }
        }
        head.extend_from_slice(b"\r\n");
        if open.waiting.len() + head.len() > WAITING_BYTES_MAX {
            return;
        }
        open.waiting.extend_from_slice(&head);
        line.has_some.store(true, Ordering::Release);
        if let Some(waker) = open.waker.take() {
            waker.wake();
        }
    }
}

/// What waits for the client of one connection. One request has its turn at a time.
#[derive(Debug, Default)]
pub struct Line {
    turns: AtomicU64,
    /// A look that costs no lock: nearly always there is nothing.
    has_some: AtomicBool,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    /// Whose turn it is; none before a request waits and after its answer is there.
    turn: Option<u64>,
    waiting: Vec<u8>,
    waker: Option<Waker>,
}

impl Line {
    /// For the next request of the connection; it takes nothing yet.
    pub fn next(self: &Arc<Self>) -> Interim {
        Interim(Some(Told { line: Arc::clone(self), turn: self.turns.fetch_add(1, Ordering::Relaxed) }))
    }

    /// The request waits for its answer; its connection's task is woken when there is something to tell.
    pub fn wait(&self, interim: &Interim, cx: &Context<'_>) {
        let Some(told) = &interim.0 else { return };
        let mut open = self.open();
        open.turn = Some(told.turn);
        open.waker = Some(cx.waker().clone());
    }

    /// The answer is there: nothing more is taken.
    pub fn end(&self) {
        let mut open = self.open();
        (open.turn, open.waker) = (None, None);
    }

    /// What is to be written now.
    pub fn take(&self) -> Option<Vec<u8>> {
        if !self.has_some.load(Ordering::Acquire) {
            return None;
        }
        let mut open = self.open();
        self.has_some.store(false, Ordering::Release);
        Some(std::mem::take(&mut open.waiting))
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use http::header;

    use super::*;

    fn hint() -> (StatusCode, HeaderMap) {
        (StatusCode::EARLY_HINTS, HeaderMap::from_iter([(header::LINK, "</a>".parse().unwrap())]))
    }

    #[test]
    fn only_the_request_that_waits_is_told() {
        let line = Arc::new(Line::default());
        let (first, second) = (line.next(), line.next());
        let cx = Context::from_waker(Waker::noop());
        let send = |interim: &Interim| {
            let (status, headers) = hint();
            interim.send(status, &headers);
            line.take().map(|bytes| String::from_utf8(bytes).unwrap())
        };
        let told = Some("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".to_owned());
        assert_eq!(send(&first), None, "before it waits");
        line.wait(&first, &cx);
        assert_eq!((send(&first), send(&second)), (told.clone(), None));
        line.end();
        assert_eq!(send(&first), None, "its answer is there");
        line.wait(&second, &cx);
        assert_eq!((send(&first), send(&second)), (None, told));
        line.wait(&Interim::nowhere(), &cx);
        assert_eq!(send(&Interim::nowhere()), None);
    }

    #[test]
    fn what_came_before_the_answer_is_told_and_no_more_than_can_wait() {
        let line = Arc::new(Line::default());
        let interim = line.next();
        line.wait(&interim, &Context::from_waker(Waker::noop()));
        let (status, headers) = hint();
        for _ in 0..1000 {
            interim.send(status, &headers);
        }
        line.end();
        let waited = line.take().unwrap().len();
        assert!(waited <= WAITING_BYTES_MAX && waited > WAITING_BYTES_MAX - 100, "{waited}");
        assert!(line.take().is_none());
    }
}
