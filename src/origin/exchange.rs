//! One request on one connection, up to the head of its answer.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{StatusCode, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::OriginError;
use super::pool::Connection;
use super::wire::Traffic;
use crate::body::{Body, BodyError};
use crate::interim::Interim;
use crate::policy::hop_by_hop;

/// Answers before the answer (100, 103): so many are taken, one more is `framing`.
const INFORMATIONAL_MAX: u32 = 20;

/// What both ends of an exchange tell each other past hyper.
#[derive(Debug, Default)]
struct Course {
    informational: AtomicU32,
    flooded: Notify,
    is_uploading: AtomicBool,
    upload_failed: AtomicBool,
}

/// The handle on an exchange that its answer's body keeps.
#[derive(Clone, Debug)]
pub(super) struct Progress(Arc<Course>);

impl Progress {
    /// Whether the request's body is still being sent. A connection whose answer came before the
    /// request was whole cannot be used again.
    pub(super) fn is_uploading(&self) -> bool {
        self.0.is_uploading.load(Ordering::Acquire)
    }

    /// Whether the client broke its request off: what then happens to the answer is its doing.
    pub(super) fn has_client_failed(&self) -> bool {
        self.0.upload_failed.load(Ordering::Acquire)
    }
}

/// A request's body under way: remembers whether it is done, and who broke it off.
#[derive(Debug)]
pub(super) struct Upload {
    body: Body,
    /// Bytes to come, where the request announces them. hyper does not notice when they do not.
    missing: Option<u64>,
    course: Arc<Course>,
}

impl Upload {
    /// A body of `announced` bytes, or of as many as there are.
    pub(super) fn new(body: Body, announced: Option<u64>) -> Self {
        let course = Arc::<Course>::default();
        course.is_uploading.store(!body.is_end_stream(), Ordering::Release);
        Self { body, missing: announced, course }
    }

    /// Holds a body to its announced length: what comes after it would be read as a request.
    fn measure(&mut self, frame: Option<Result<Frame<Bytes>, BodyError>>) -> Option<Result<Frame<Bytes>, BodyError>> {
        let Some(missing) = &mut self.missing else { return frame };
        match frame {
            Some(Ok(frame)) => match missing.checked_sub(frame.data_ref().map_or(0, |data| data.len() as u64)) {
                Some(left) => {
                    *missing = left;
                    Some(Ok(frame))
                }
                None => Some(Err("the request's body is longer than its Content-Length".into())),
            },
            None if *missing > 0 => Some(Err("the request's body is shorter than its Content-Length".into())),
            ended => ended,
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // hyper drops a body as soon as its last byte is in the write buffer.
        self.course.is_uploading.store(false, Ordering::Release);
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let frame = self.measure(frame);
        if let Some(Err(_)) = &frame {
            self.course.upload_failed.store(true, Ordering::Release);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        // With bytes missing, hyper has to ask once more and be told.
        self.body.is_end_stream() && self.missing.is_none_or(|missing| missing == 0)
    }

    fn size_hint(&self) -> SizeHint {
        self.missing.map_or_else(|| self.body.size_hint(), SizeHint::with_exact)
    }
}

/// An exchange without an answer.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: OriginError,
    /// What became of the request decides whether it may be sent again.
    pub(super) fate: Fate,
}

/// What became of a request that was not answered.
#[derive(Debug)]
pub(super) enum Fate {
    /// Not a byte of it was written; here it is.
    HandedBack(Box<http::Request<Upload>>),
    /// It was written, or a part of it, and then the connection ended without a byte in return.
    Silence,
    /// Something else; sending it again would be wrong or of no use.
    Spent,
}

/// Sends a request and waits for the head of its answer; dropping the future closes the connection.
pub(super) async fn exchange(
    mut connection: Connection,
    mut request: http::Request<Upload>,
    interim: &Interim,
    first_byte: Duration,
) -> Result<(http::Response<Incoming>, Connection, Progress), Failed> {
    let course = Arc::clone(&request.body().course);
    let (counted, interim) = (Arc::clone(&course), interim.clone());
    hyper::ext::on_informational(&mut request, move |head| {
        if counted.informational.fetch_add(1, Ordering::AcqRel) >= INFORMATIONAL_MAX {
            counted.flooded.notify_one();
        } else if head.status() != StatusCode::CONTINUE {
            // A client that waits for 100 has it from us.
            let mut headers = head.headers().clone();
            hop_by_hop::strip_response(&mut headers, false);
            // There is no content for them to be about (RFC 9110 §8.6, §15.2).
            for name in [header::CONTENT_LENGTH, header::CONTENT_ENCODING, header::TRAILER] {
                headers.remove(name);
            }
            interim.send(head.status(), &headers);
        }
    });
    let received = connection.traffic.received();
    let traffic = Arc::clone(&connection.traffic);
    let answer = pin!(connection.sender.try_send_request(request));
    let spent = |error| Failed { error, fate: Fate::Spent };
    // An answer that is there counts, however late the others say it is.
    let answered = tokio::select! {
        biased;
        answered = answer => answered,
        () = course.flooded.notified() => return Err(spent(too_many_informational())),
        () = overdue(&course, &traffic, first_byte) => return Err(spent(OriginError::FirstByteTimeout)),
    };
    match answered {
        // All of them may come in one read, and the answer with them.
        Ok(_) if course.informational.load(Ordering::Acquire) > INFORMATIONAL_MAX => {
            Err(spent(too_many_informational()))
        }
        Ok(response) => Ok((response, connection, Progress(course))),
        Err(mut failed) => {
            let request = failed.take_message();
            let error = failed.into_error();
            let answered = traffic.received() != received;
            if course.upload_failed.load(Ordering::Acquire) {
                return Err(spent(OriginError::ClientBody(Arc::new(error))));
            }
            let fate = match request {
                Some(request) => Fate::HandedBack(Box::new(request)),
                None if answered => Fate::Spent,
                None => Fate::Silence,
            };
            Err(Failed { error: OriginError::from_head(error, answered), fate })
        }
    }
}

fn too_many_informational() -> OriginError {
    OriginError::malformed("too many informational answers")
}

/// Ends when the answer should have begun. While a request's body moves, the origin cannot be
/// blamed: the time then runs from its last bytes, give or take one `limit`. How slow a client may
/// send is its listener's business: its body ends or fails there.
async fn overdue(course: &Course, traffic: &Traffic, limit: Duration) {
    let mut sent = traffic.sent();
    let has_body = course.is_uploading.load(Ordering::Acquire);
    loop {
        sleep_until(Instant::now() + limit).await;
        let now_sent = traffic.sent();
        if !has_body || now_sent == sent {
            return;
        }
        sent = now_sent;
    }
}
