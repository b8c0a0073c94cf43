//! [`HttpOrigin`]: a request's way through the pool, and what is required of its answer's head.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, UPGRADE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::body::Limits;
use super::exchange::{Failed, Fate, Progress, Upload, exchange};
use super::framing::{digits, may_trail};
use super::pool::{Connection, Permit, Pool};
use super::{Framing, Origin, OriginBody, OriginError, OriginSettings, PoolStats, Purpose};
use crate::body::Body;
use crate::interim::Interim;
use crate::tasks::Tasks;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// An origin that is reached over HTTP/1.1.
#[derive(Debug)]
pub struct HttpOrigin {
    pool: Arc<Pool>,
    /// Ends the sweep, and closes what is idle, when the origin is replaced.
    _gone: DropGuard,
}

impl HttpOrigin {
    /// An origin without connections; the first request makes one. To be called within a runtime.
    pub fn new(settings: OriginSettings, tasks: &Tasks) -> Self {
        let pool = Arc::new(Pool::new(settings, tasks.clone()));
        let gone = CancellationToken::new();
        tasks.spawn(Arc::clone(&pool).sweep(gone.clone()));
        Self { pool, _gone: gone.drop_guard() }
    }

    /// The pool's figures.
    pub fn stats(&self) -> &Arc<PoolStats> {
        self.pool.stats()
    }

    async fn answer(
        &self,
        mut request: Request<Body>,
        purpose: Purpose,
        deadline: Option<Instant>,
    ) -> Result<Response<OriginBody>, OriginError> {
        let interim = request.extensions_mut().remove::<Interim>().unwrap_or_default();
        let asked = Asked { method: request.method().clone(), upgrade: request.headers().get(UPGRADE).cloned() };
        let request = prepare(request, self.pool.settings());
        let permit = self.pool.admit(purpose).await?;
        let (response, connection, progress) = self.ask(request, &interim, self.first_byte(purpose)).await?;
        let seat = Seat { connection, progress, permit };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return tunnel(response, seat, &asked, purpose);
        }
        let framing = Framing::of(&asked.method, response.status(), response.headers())?;
        let settings = self.pool.settings();
        let limits = Limits {
            stillness: if purpose == Purpose::Fill {
                settings.between_bytes_timeout
            } else {
                settings.pass_idle_timeout
            },
            deadline,
            relaxed: settings.pass_idle_timeout,
        };
        let lease = Lease { keep: keep_for(&response, framing), seat, pool: Arc::clone(&self.pool) };
        let (mut head, incoming) = response.into_parts();
        // What hyper leaves there is the origin's own reason phrase; nobody must send that on.
        head.extensions.clear();
        Ok(Response::from_parts(head, OriginBody::wire(framing, incoming, lease, limits)))
    }

    /// Asks over a kept connection if there is one, else over a fresh one. A kept connection may
    /// die in the moment it is used, for the origin closes it when it likes (Node: after 5 s):
    /// 1. Not a byte was written: the request goes to a fresh connection, whatever it is.
    /// 2. It was written and the connection ended in silence: whether it was carried out, nobody
    ///    knows. What may be done twice (GET, HEAD) and has no body goes to a fresh one, once.
    /// 3. A fresh connection's failure is the origin's answer: it is never asked again.
    async fn ask(
        &self,
        mut request: Request<Upload>,
        interim: &Interim,
        first_byte: Duration,
    ) -> Result<(Response<Incoming>, Connection, Progress), OriginError> {
        let is_replayable = matches!(*request.method(), Method::GET | Method::HEAD) && request.body().is_end_stream();
        if let Some(kept) = self.pool.take(is_replayable).await {
            let spare = is_replayable.then(|| copy(&request));
            request = match exchange(kept, request, interim, first_byte).await {
                Ok(answered) => return Ok(answered),
                Err(Failed { fate: Fate::HandedBack(request), .. }) => *request,
                Err(Failed { fate: Fate::Silence, error }) => spare.ok_or(error)?,
                Err(Failed { fate: Fate::Spent, error }) => return Err(error),
            };
            self.pool.stats().replayed();
        }
        let fresh = self.pool.connect().await?;
        exchange(fresh, request, interim, first_byte).await.map_err(|failed| failed.error)
    }

    fn first_byte(&self, purpose: Purpose) -> Duration {
        match purpose {
            Purpose::Fill => self.pool.settings().first_byte_timeout,
            Purpose::Pass | Purpose::Upgrade => self.pool.settings().pass_first_byte_timeout,
        }
    }
}

impl Origin for HttpOrigin {
    fn send(
        &self,
        request: Request<Body>,
        purpose: Purpose,
    ) -> BoxFuture<'_, Result<Response<OriginBody>, OriginError>> {
        async move {
            if purpose != Purpose::Fill {
                return self.answer(request, purpose, None).await;
            }
            let deadline = Instant::now() + self.pool.settings().total_timeout;
            let answered = timeout_at(deadline, self.answer(request, purpose, Some(deadline))).await;
            answered.unwrap_or(Err(OriginError::TotalTimeout))
        }
        .boxed()
    }
}

/// What must be remembered of a request to judge its answer.
struct Asked {
    method: Method,
    upgrade: Option<HeaderValue>,
}

/// A connection in use, with the right to use it.
#[derive(Debug)]
struct Seat {
    connection: Connection,
    progress: Progress,
    permit: Permit,
}

/// A connection for as long as an answer's body needs it. Dropped before [`Lease::end`], it closes
/// the connection.
#[derive(Debug)]
pub(super) struct Lease {
    seat: Seat,
    /// How long the connection may stay idle afterwards; zero: not at all.
    keep: Duration,
    pool: Arc<Pool>,
}

impl Lease {
    /// Whether the client, not the origin, is why the answer breaks off.
    pub(super) fn has_client_failed(&self) -> bool {
        self.seat.progress.has_client_failed()
    }

    /// Takes a pass's place for a fill's answer that one client alone reads, if there is one.
    pub(super) fn turn_into_pass(&mut self) -> bool {
        self.pool.turn_into_pass(&mut self.seat.permit)
    }

    /// The answer has ended as it should.
    pub(super) fn end(self) {
        let Seat { connection, progress, permit } = self.seat;
        if !progress.is_uploading() {
            self.pool.give_back(connection, self.keep);
        }
        // Only now: whoever waits for the permit must find the connection.
        drop(permit);
    }
}

/// Makes a request one that can be written: origin-form, HTTP/1.1, one `Host`, a true length.
fn prepare(request: Request<Body>, settings: &OriginSettings) -> Request<Upload> {
    let (mut head, body) = request.into_parts();
    let path = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    head.uri = Uri::from(path);
    // The client's version is its own affair. (hyper would drop a body under 1.0, and panic at 3.)
    head.version = Version::HTTP_11;
    // Also takes the client's upgrade handle, which must not be found on an answer.
    head.extensions.clear();
    if !head.headers.contains_key(HOST) {
        head.headers.insert(HOST, settings.host_header.clone());
    }
    // hyper writes a Content-Length as it is, and no body: the origin would take the next request
    // on the connection for it.
    if body.is_end_stream() && head.headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0") {
        head.headers.remove(CONTENT_LENGTH);
    }
    let announced = if body.is_end_stream() { None } else { head.headers.get(CONTENT_LENGTH).and_then(digits) };
    Request::from_parts(head, Upload::new(body, announced))
}

/// The same request again; only for one without a body.
fn copy(request: &Request<Upload>) -> Request<Upload> {
    let mut copy = Request::new(Upload::new(Body::Empty, None));
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// How long the connection may be kept after this answer, as far as its head tells.
fn keep_for(response: &Response<Incoming>, framing: Framing) -> Duration {
    // hyper would speak 1.0 to an origin that once did, and has no way to send a body of unknown
    // length then: it would drop it without a word.
    let is_kept = response.version() == Version::HTTP_11
        && framing != Framing::UntilClose
        && !says_close(response.headers())
        && !may_trail(response.status(), response.headers());
    if is_kept { announced(response.headers()).unwrap_or(Duration::MAX) } else { Duration::ZERO }
}

/// hyper acts on it too, but in a moment: until then the connection would look idle.
fn says_close(headers: &HeaderMap) -> bool {
    let tokens = headers.get_all(CONNECTION).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    tokens.map(<[u8]>::trim_ascii).any(|token| token.eq_ignore_ascii_case(b"close"))
}

/// How long the origin says it keeps idle connections (`Keep-Alive: timeout=5`), less a second in
/// which a request may meet its closing.
fn announced(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(KEEP_ALIVE).iter().filter_map(|value| value.to_str().ok());
    let seconds = values.flat_map(|value| value.split(',')).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        if name.trim().eq_ignore_ascii_case("timeout") { value.trim().trim_matches('"').parse().ok() } else { None }
    });
    seconds.map(|seconds: u64| Duration::from_secs(seconds.saturating_sub(1)))
}

/// Passes a 101 on, if it is what was asked for; the connection is then the tunnel's.
fn tunnel(
    mut response: Response<Incoming>,
    seat: Seat,
    asked: &Asked,
    purpose: Purpose,
) -> Result<Response<OriginBody>, OriginError> {
    let agreed = response.headers().get(UPGRADE);
    let is_asked = match (&asked.upgrade, agreed) {
        (Some(asked), Some(agreed)) => asked.as_bytes().eq_ignore_ascii_case(agreed.as_bytes()),
        _ => false,
    };
    if purpose != Purpose::Upgrade || !is_asked {
        return Err(OriginError::UpstreamStatus);
    }
    let upgrade = hyper::upgrade::on(&mut response);
    let (mut head, _no_body) = response.into_parts();
    head.extensions.clear();
    head.extensions.insert(upgrade);
    seat.connection.into_tunnel(seat.permit);
    Ok(Response::from_parts(head, OriginBody::empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_origin_says_how_long_it_keeps_a_connection() {
        let check = |value: &'static str, expected: Option<u64>| {
            let mut headers = HeaderMap::new();
            headers.insert(KEEP_ALIVE, HeaderValue::from_static(value));
            assert_eq!(announced(&headers), expected.map(Duration::from_secs), "{value}");
        };
        check("timeout=5", Some(4));
        check("timeout=5, max=100", Some(4));
        check("max=100, Timeout = \"3\"", Some(2));
        check("timeout=1", Some(0));
        check("timeout=0", Some(0));
        check("max=100", None);
        check("timeout=soon", None);
    }

    #[test]
    fn a_request_is_written_as_the_origin_must_read_it() {
        let settings = OriginSettings::new(&"shop:9000".parse().unwrap()).unwrap();
        let check = |request: http::request::Builder, uri: &str, host: &str, length: Option<&str>| {
            let prepared = prepare(request.body(Body::Empty).unwrap(), &settings);
            assert_eq!(prepared.uri(), uri);
            assert_eq!(prepared.version(), Version::HTTP_11);
            assert_eq!(prepared.headers()[HOST], host);
            assert_eq!(prepared.headers().get(CONTENT_LENGTH).map(|value| value.to_str().unwrap()), length);
        };
        check(Request::get("/a?b=c"), "/a?b=c", "shop:9000", None);
        check(Request::get("http://evil/a?b").version(Version::HTTP_2), "/a?b", "shop:9000", None);
        check(Request::get("/").header(HOST, "own").version(Version::HTTP_3), "/", "own", None);
        check(Request::options("*"), "*", "shop:9000", None);
        check(Request::post("/").header(CONTENT_LENGTH, "0"), "/", "shop:9000", Some("0"));
        check(Request::post("/").header(CONTENT_LENGTH, "7"), "/", "shop:9000", None);
    }
}
