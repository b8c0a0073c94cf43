//! One request: from hyper through admission to the handler, and its answer back.

use std::convert::Infallible;
use std::future::{poll_fn, ready};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::Either;
use http::header::{self, HeaderValue};
use http::{Request, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::accept::{Answer, Handler, Peer, Shared};
use super::body::{AnswerBody, RequestBody};
use super::io::{REFUSED_METHOD, Ready};
use super::respond::{self, Said};
use super::state::{ConnectionState, UnderWay};
use crate::body::Body;
use crate::interim::Interim;
use crate::policy::admission::{self, METHODS_ALLOWED, Refusal};
use crate::policy::outcome::Outcome;
use crate::policy::plain::PlainHead;

const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// What the requests of one connection share.
#[derive(Debug)]
pub(super) struct Service<H> {
    shared: Arc<Shared<H>>,
    state: Arc<ConnectionState>,
    address: SocketAddr,
}

impl<H: Handler> Service<H> {
    pub(super) fn new(shared: Arc<Shared<H>>, state: Arc<ConnectionState>, address: SocketAddr) -> Self {
        Self { shared, state, address }
    }

    /// The beginning counts at once, not at the first poll: the connection must not look idle between.
    pub(super) fn call(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<AnswerBody>, Infallible>> + Send + use<H> {
        let under_way = UnderWay::begin(&self.state);
        let version = request.version();
        // HTTP/1.0 has none of them (RFC 9110 §15.2), and hyper's HTTP/2 no way to send them.
        let interim = if version == Version::HTTP_11 { self.state.line().next() } else { Interim::nowhere() };
        match self.answer(request, interim.clone()) {
            Answer::Now(response) => Either::Left(ready(Ok(finish(&self.shared, version, response, under_way)))),
            Answer::Later(response) => {
                let (shared, state) = (Arc::clone(&self.shared), Arc::clone(&self.state));
                Either::Right(async move {
                    let mut response = pin!(response);
                    let response = poll_fn(|cx| {
                        state.line().wait(&interim, cx);
                        response.as_mut().poll(cx)
                    })
                    .await;
                    state.line().end();
                    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                        state.tunnels();
                    }
                    Ok(finish(&shared, version, response, under_way))
                })
            }
        }
    }

    fn answer(
        &self,
        request: Request<Incoming>,
        interim: Interim,
    ) -> Answer<impl Future<Output = Response<Body>> + Send + use<H>> {
        let (mut parts, incoming) = request.into_parts();
        let has_body = !incoming.is_end_stream();
        let stand_in = self.state.refusal().filter(|_| parts.method.as_str() == REFUSED_METHOD);
        let admitted = match stand_in {
            Some(refusal) => Err(refusal),
            None => admission::admit(&parts, has_body, &self.shared.limits.head),
        };
        match admitted {
            Ok(admitted) => {
                admitted.apply(&mut parts);
                let body = RequestBody::new(incoming, self.shared.limits.body_timeout);
                self.shared.handler.handle(Request::from_parts(parts, body), Peer { address: self.address, interim })
            }
            Err(refusal) => {
                self.shared.observer.refused(refusal.reason());
                let path = if stand_in.is_some() { "" } else { parts.uri.path() };
                self.shared.handler.refused(&parts.method, path, refusal);
                // A body left unread is no place to begin the next request, and behind a stand-in
                // nothing is read at all.
                let closes = has_body || stand_in.is_some() || refusal.closes();
                Answer::Now(refused(refusal, parts.version, closes))
            }
        }
    }
}

impl<H: Handler> Ready for Service<H> {
    fn ready(&self, request: &[u8], began: Instant, head: &mut Vec<u8>) -> Option<Bytes> {
        if self.shared.drain.has_begun() {
            // The answer must say that the connection ends.
            return None;
        }
        let limits = &self.shared.limits.head;
        let request = PlainHead::parse(request, limits.sizes)?;
        let served = &limits.hosts;
        if !served.is_empty() && !served.iter().any(|host| *host == request.host) {
            return None;
        }
        self.shared.handler.ready(&request, began, head)
    }
}

/// The last word on an answer: what the connection has to say.
fn finish<H>(
    shared: &Shared<H>,
    version: Version,
    mut response: Response<Body>,
    under_way: UnderWay,
) -> Response<AnswerBody> {
    if version != Version::HTTP_2 && shared.drain.has_begun() {
        // Said by us: an answer that is ready at once leaves before hyper has been told to finish.
        response.headers_mut().insert(header::CONNECTION, CLOSE);
    }
    response.map(|body| AnswerBody::new(body, under_way))
}

/// The answer to a request that is refused.
fn refused(refusal: Refusal, version: Version, closes: bool) -> Response<Body> {
    let mut response = Response::new(Body::from(Bytes::from_static(refusal.text().as_bytes())));
    *response.status_mut() = refusal.status();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if refusal == Refusal::Method {
        headers.insert(header::ALLOW, HeaderValue::from_static(METHODS_ALLOWED));
    }
    // HTTP/2 frames by itself: one refused stream says nothing about the others.
    if closes && version != Version::HTTP_2 {
        headers.insert(header::CONNECTION, CLOSE);
    }
    respond::finish(response, &Said::new(Outcome::Refused).because(refusal.reason()))
}
