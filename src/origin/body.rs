//! The body of an origin's answer: kept to its times, and known to be whole when it ends.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use super::error::cause;
use super::http1::Lease;
use super::{Framing, OriginError};

/// An answer's body as it comes. Its end is the end that the origin meant: one that is cut off
/// ends in an error. (The exception is [`Framing::UntilClose`], where nobody can tell.)
///
/// It holds a connection and its place in the pool until it has ended; dropped before that, it
/// closes the connection, so an origin that never stops is stopped with its last reader.
pub struct OriginBody {
    framing: Framing,
    source: Source,
}

enum Source {
    /// From an HTTP/1.1 connection.
    Wire(Box<WireBody>),
    /// From an origin within the process, for the simulation.
    Local(Pin<Box<dyn HttpBody<Data = Bytes, Error = OriginError> + Send>>),
    Ended,
}

impl OriginBody {
    /// No body.
    pub fn empty() -> Self {
        Self { framing: Framing::None, source: Source::Ended }
    }

    /// A body that does not come over a connection: the simulation's. Who makes it keeps the times.
    pub fn local<B>(framing: Framing, body: B) -> Self
    where
        B: HttpBody<Data = Bytes, Error = OriginError> + Send + 'static,
    {
        Self { framing, source: Source::Local(Box::pin(body)) }
    }

    pub(super) fn wire(framing: Framing, incoming: Incoming, lease: Lease, limits: Limits) -> Self {
        if incoming.is_end_stream() {
            // Nothing will be read, so nobody would notice the end: it is here.
            lease.end();
            return Self { framing, source: Source::Ended };
        }
        let body = WireBody { incoming, lease, limits, waiting_since: None, alarm: None };
        Self { framing, source: Source::Wire(Box::new(body)) }
    }

    /// How the end of this body is known, and so whether it may be stored.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Turns a fill that will not be stored into a pass: it may then go on for as long as it moves,
    /// for its one reader may be slow, and nobody else waits for it. So it must have a pass's place
    /// among the connections, lest slow readers take the part that is left to fills. Nothing where no
    /// place is free: the connection is closed, and the reader may ask again and queue for one.
    pub fn into_pass(mut self) -> Option<Self> {
        if let Source::Wire(body) = &mut self.source {
            if !body.lease.turn_into_pass() {
                return None;
            }
            body.limits.stillness = body.limits.relaxed;
            body.limits.deadline = None;
        }
        Some(self)
    }
}

impl From<Bytes> for OriginBody {
    fn from(bytes: Bytes) -> Self {
        let framing = Framing::ContentLength(bytes.len() as u64);
        Self::local(framing, Full::new(bytes).map_err(|never| match never {}))
    }
}

impl fmt::Debug for OriginBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match self.source {
            Source::Wire(_) => "wire",
            Source::Local(_) => "local",
            Source::Ended => "ended",
        };
        f.debug_struct("OriginBody").field("framing", &self.framing).field("source", &source).finish()
    }
}

impl HttpBody for OriginBody {
    type Data = Bytes;
    type Error = OriginError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, OriginError>>> {
        let body = match &mut self.source {
            Source::Wire(body) => body,
            Source::Local(body) => return body.as_mut().poll_frame(cx),
            Source::Ended => return Poll::Ready(None),
        };
        let polled = ready!(body.poll_frame(cx));
        // Where the last frame tells that it is the last, nobody need ask again.
        let ending = match &polled {
            None => Some(Ending::Clean),
            Some(Err(_)) => Some(Ending::Broken),
            Some(Ok(frame)) => (frame.is_trailers() || body.incoming.is_end_stream()).then_some(Ending::Clean),
        };
        if let Some(ending) = ending
            && let Source::Wire(body) = std::mem::replace(&mut self.source, Source::Ended)
        {
            match ending {
                Ending::Clean => body.lease.end(),
                Ending::Broken => drop(body),
            }
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Wire(_) => false,
            Source::Local(body) => body.is_end_stream(),
            Source::Ended => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Wire(body) => body.incoming.size_hint(),
            Source::Local(body) => body.size_hint(),
            Source::Ended => SizeHint::with_exact(0),
        }
    }
}

/// What becomes of the connection.
enum Ending {
    /// It may serve again.
    Clean,
    /// It is closed.
    Broken,
}

/// The times that a body is kept to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// How long it may stand still while it is waited for.
    pub(super) stillness: Duration,
    /// When it must be whole.
    pub(super) deadline: Option<Instant>,
    /// The stillness that a pass is allowed.
    pub(super) relaxed: Duration,
}

struct WireBody {
    incoming: Incoming,
    lease: Lease,
    limits: Limits,
    /// Since when the reader waits for the origin. Time in which the reader itself was busy or
    /// slow is not the origin's.
    waiting_since: Option<Instant>,
    /// One timer for the whole body. A frame does not touch it: when it fires too early, it is set
    /// to the time that holds by then.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl WireBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, OriginError>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            // An origin that always has another frame is still to be cut off at the deadline.
            Poll::Ready(Some(Ok(_))) if self.limits.deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
                Poll::Ready(Some(Err(OriginError::TotalTimeout)))
            }
            Poll::Ready(Some(Ok(frame))) => {
                self.waiting_since = None;
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) if self.lease.has_client_failed() => {
                Poll::Ready(Some(Err(OriginError::ClientBody(Arc::new(error)))))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(OriginError::from_body(error)))),
            // hyper ends a body with its length unmet only by an error; should that ever change,
            // half a body must still not look whole.
            Poll::Ready(None) if self.incoming.size_hint().lower() > 0 => {
                Poll::Ready(Some(Err(OriginError::Truncated(cause("the body ended before its length")))))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => self.poll_overdue(cx).map(|error| Some(Err(error))),
        }
    }

    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<OriginError> {
        loop {
            let now = Instant::now();
            let still_until = *self.waiting_since.get_or_insert(now) + self.limits.stillness;
            if self.limits.deadline.is_some_and(|deadline| now >= deadline) {
                return Poll::Ready(OriginError::TotalTimeout);
            }
            if now >= still_until {
                return Poll::Ready(OriginError::BetweenBytesTimeout);
            }
            let at = self.limits.deadline.map_or(still_until, |deadline| deadline.min(still_until));
            let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(at)));
            if alarm.is_elapsed() || alarm.deadline() > at {
                alarm.as_mut().reset(at);
            }
            ready!(alarm.as_mut().poll(cx));
        }
    }
}
