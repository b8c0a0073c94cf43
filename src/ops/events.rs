//! `/events`: the feed as server-sent events (WHATWG HTML §9.2) and as WebSocket (RFC 6455), and tickets for browsers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::StreamBody;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{bearer, json_reply, refuse, websocket};
use crate::body::Body;
use crate::clock::Clock;
use crate::feed::{Feed, Reader, Step};
use crate::metrics::Metrics;
use crate::policy::cors::Cors;
use crate::policy::notice::{EventId, Notice};
use crate::policy::ticket;
use crate::serve::body::RequestBody;
use crate::tasks::Tasks;

/// How soon a browser comes back, in milliseconds.
const RETRY_MS: u32 = 2000;

/// Answers clients of the feed.
#[derive(Debug)]
pub struct Events {
    /// What they are told.
    pub feed: Arc<Feed>,
    /// Opens the feed and signs tickets; without it both are closed.
    pub token: Option<String>,
    /// How long a ticket is good.
    pub ticket_ttl: Duration,
    /// How often a silent stream shows a sign of life.
    pub heartbeat: Duration,
    /// How long a WebSocket's client may take nothing. (Of the others the listener takes care.)
    pub write_timeout: Duration,
    /// Pages that may listen.
    pub cors: Option<Cors>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Runs WebSockets.
    pub tasks: Tasks,
}

impl Events {
    /// `POST /events/ticket`: a ticket for a browser, from who has the token.
    pub(super) fn ticket(&self, headers: &HeaderMap) -> Response<Body> {
        let Some(token) = &self.token else { return closed() };
        if !bearer(headers, token) {
            return self.denied();
        }
        let ticket = ticket::issue(token, self.clock.wall(), self.ticket_ttl);
        json_reply(StatusCode::OK, &json!({ "ticket": ticket, "expires_in": self.ticket_ttl.as_secs() }))
    }

    /// `OPTIONS /events`: a page may ask with the fields that we know.
    pub(super) fn preflight(&self, headers: &HeaderMap) -> Response<Body> {
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = StatusCode::NO_CONTENT;
        let fields = response.headers_mut();
        fields.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET"));
        let allowed = HeaderValue::from_static("authorization, last-event-id");
        fields.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
        fields.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        self.share(headers, &mut response);
        response
    }

    /// `GET /events`: the stream.
    pub(super) fn open(&self, mut request: Request<RequestBody>, is_ready: bool) -> Response<Body> {
        let headers = request.headers();
        let mut response = match self.admit(&request, is_ready) {
            Err(refused) => *refused,
            Ok(reader) if headers.contains_key(header::UPGRADE) => websocket::accept(&mut request, reader, self),
            Ok(reader) => sse(reader, self.heartbeat, self.tasks.stopping().clone()),
        };
        self.share(request.headers(), &mut response);
        response
    }

    /// Who may not listen, or finds no place, is told so.
    fn admit(&self, request: &Request<RequestBody>, is_ready: bool) -> Result<Reader, Box<Response<Body>>> {
        let (headers, query) = (request.headers(), request.uri().query().unwrap_or_default());
        let Some(token) = &self.token else { return Err(Box::new(closed())) };
        let has_ticket = || ticket::is_good(token, parameter(query, "ticket").unwrap_or_default(), self.clock.wall());
        if !bearer(headers, token) && !has_ticket() {
            return Err(Box::new(self.denied()));
        }
        if !self.is_welcome(headers) {
            self.metrics.rejected("feed_origin");
            let text = "this page may not listen: add its origin to [feed] allow_origins";
            return Err(Box::new(refuse(StatusCode::FORBIDDEN, text)));
        }
        if !is_ready {
            return Err(Box::new(later("not ready: the purge log has not been read to its end")));
        }
        // A browser that comes back by itself has the newer id in the field.
        let field = headers.get("last-event-id").and_then(|value| value.to_str().ok());
        let after = field.or_else(|| parameter(query, "after")).filter(|id| !id.is_empty());
        // An id that nobody gave out is before all that can be known.
        let after = after.map(|id| EventId::parse(id).unwrap_or_default());
        self.feed.join(after).ok_or_else(|| {
            self.metrics.rejected("feed_full");
            Box::new(later("as many clients listen as may: see [feed] clients_max"))
        })
    }

    /// Whether the page, if it is one, is on the list or our own.
    fn is_welcome(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(header::ORIGIN) else { return true };
        let Ok(origin) = origin.to_str() else { return false };
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let is_own = origin.split_once("://").is_some_and(|(_, authority)| Some(authority) == host);
        is_own || self.cors.as_ref().is_some_and(|cors| cors.allows(origin))
    }

    fn share(&self, headers: &HeaderMap, response: &mut Response<Body>) {
        if let Some(cors) = &self.cors {
            cors.apply(headers.get(header::ORIGIN), response.headers_mut());
            response.headers_mut().append(header::VARY, HeaderValue::from_static("Origin"));
        }
    }

    fn denied(&self) -> Response<Body> {
        self.metrics.rejected("feed_token");
        let mut response =
            refuse(StatusCode::UNAUTHORIZED, "the bearer token or the ticket is missing, wrong or too old");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        response
    }
}

fn closed() -> Response<Body> {
    refuse(StatusCode::FORBIDDEN, "closed: set [feed] token, or ENDCAP_FEED__TOKEN")
}

fn later(why: &str) -> Response<Body> {
    let mut response = refuse(StatusCode::SERVICE_UNAVAILABLE, why);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
    response
}

/// A parameter of ours: its values need no escapes.
fn parameter<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query.split('&').find_map(|pair| pair.split_once('=').filter(|(given, _)| *given == name).map(|(_, value)| value))
}

/// The stream as server-sent events. It ends when the client is too slow or the node stops.
fn sse(reader: Reader, heartbeat: Duration, stop: CancellationToken) -> Response<Body> {
    // Known from the first moment, so that a client who is cut off at once misses nothing.
    let id = reader.position();
    let first = format!("retry: {RETRY_MS}\nid: {id}\ndata: {}\n\n", Notice::hello().to_json(id));
    let chunks = stream::unfold((reader, Some(first)), move |(mut reader, first)| {
        let stop = stop.clone();
        async move {
            let chunk = match first {
                Some(first) => first,
                None => {
                    let step = tokio::select! {
                        biased;
                        () = stop.cancelled() => return None,
                        step = reader.next(heartbeat) => step,
                    };
                    match step {
                        Step::Events(events) => {
                            events.iter().map(|told| format!("id: {}\ndata: {}\n\n", told.id, told.json)).collect()
                        }
                        // Moves the client's id on, and is no event to it.
                        Step::Quiet(id) => format!(": \nid: {id}\n\n"),
                        Step::Behind => return None,
                    }
                }
            };
            Some((Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from(chunk))), (reader, None)))
        }
    });
    let mut response = Response::new(Body::stream(StreamBody::new(chunks)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    // A proxy of nginx's kind would hold events back until a buffer is full.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
