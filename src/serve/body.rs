//! Bodies at the public side: what a client sends, and what it is sent.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::pace::Pace;
use super::state::UnderWay;
use crate::body::{Body, BodyError};

/// Most bytes that are handed to HTTP/2 at once. It asks for more only when the client's window has
/// room, which is how a stalled client is told from a slow origin.
const HTTP_2_SLICE_BYTES: usize = 64 * 1024;

/// Why a request's body could not be read. All of it is the client's doing, or its network's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestBodyError {
    /// Its chunks are malformed, or HTTP/2 frames do not add up to the announced length.
    #[error("the request body is malformed")]
    Malformed,
    /// The client left before the end.
    #[error("the request body was cut off")]
    CutOff,
    /// The client sent nothing for `body_timeout`, or in total less than `body_timeout` and the least rate allow.
    #[error("the request body took too long")]
    TimedOut,
}

impl RequestBodyError {
    /// The word for it in logs and metrics.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "chunked",
            Self::CutOff => "client_left",
            Self::TimedOut => "timeout_body",
        }
    }

    /// What to answer, if anybody still listens.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Malformed | Self::CutOff => StatusCode::BAD_REQUEST,
            Self::TimedOut => StatusCode::REQUEST_TIMEOUT,
        }
    }

    /// Finds it among the causes of another error. A body that is being forwarded fails inside the
    /// client's connection to the origin, and looks like a fault of the origin from outside.
    pub fn among(error: &(dyn StdError + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref::<Self>() {
                return Some(*found);
            }
            next = error.source();
        }
        None
    }
}

impl From<hyper::Error> for RequestBodyError {
    fn from(error: hyper::Error) -> Self {
        let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
        match cause.map(io::Error::kind) {
            Some(io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => Self::Malformed,
            _ => Self::CutOff,
        }
    }
}

/// A request's body as it comes in: data only, trailers are dropped.
///
/// It has no size limit; whoever wants one counts. Dropped before its end, it ends an HTTP/1
/// connection after the answer, or resets the stream in HTTP/2.
pub struct RequestBody {
    /// `None` for a request that did not come over a connection.
    incoming: Option<Incoming>,
    pace: Pace,
    /// Made when the client is first waited for; most requests have no body and never wait.
    timer: Option<Pin<Box<Sleep>>>,
}

impl RequestBody {
    pub(super) fn new(incoming: Incoming, timeout: Duration) -> Self {
        Self { incoming: Some(incoming), pace: Pace::new(timeout), timer: None }
    }

    /// The body of a request that does not come over a connection, and has none: the simulation's.
    pub const fn none() -> Self {
        Self { incoming: None, pace: Pace::new(Duration::ZERO), timer: None }
    }

    fn poll_timeout(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(end) = self.pace.wait(Instant::now) {
            match &mut self.timer {
                None => self.timer = Some(Box::pin(tokio::time::sleep_until(end))),
                Some(timer) => timer.as_mut().reset(end),
            }
        }
        self.timer.as_mut().map_or(Poll::Pending, |timer| timer.as_mut().poll(cx))
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").field("size", &self.size_hint()).finish_non_exhaustive()
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let this = &mut *self;
        let Some(incoming) = &mut this.incoming else { return Poll::Ready(None) };
        while let Poll::Ready(frame) = Pin::new(&mut *incoming).poll_frame(cx) {
            let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
            this.pace.received(data.map_or(0, Bytes::len), Instant::now);
            match frame {
                Some(Ok(frame)) if !frame.is_data() => {}
                frame => return Poll::Ready(frame.map(|frame| frame.map_err(RequestBodyError::from))),
            }
        }
        this.poll_timeout(cx).map(|()| Some(Err(RequestBodyError::TimedOut)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or(SizeHint::with_exact(0), Incoming::size_hint)
    }
}

/// An answer's body, and the knowledge that its request is under way until it ends.
#[derive(Debug)]
pub(super) struct AnswerBody {
    body: Body,
    under_way: UnderWay,
}

impl AnswerBody {
    pub(super) fn new(body: Body, mut under_way: UnderWay) -> Self {
        under_way.answered();
        Self { body, under_way }
    }
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let is_http_2 = self.under_way.is_http_2();
        if let Body::Full(bytes) = &mut self.body
            && bytes.len() > HTTP_2_SLICE_BYTES
            && is_http_2
        {
            let slice = bytes.split_to(HTTP_2_SLICE_BYTES);
            self.under_way.moved(false);
            return Poll::Ready(Some(Ok(Frame::data(slice))));
        }
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        self.under_way.moved(frame.is_pending());
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
