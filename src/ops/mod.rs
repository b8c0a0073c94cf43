//! The ops listener: metrics, health, status, webhooks, purges. Never on the public address.

mod events;
mod websocket;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use serde_json::{Value, json};
use subtle::ConstantTimeEq;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::body::Body;
use crate::clock::{Clock, Timestamp};
use crate::downstream::Status;
use crate::fill::Fill;
use crate::invalidate::follow::Following;
use crate::invalidate::webhook::{Reply, Webhooks};
use crate::invalidate::{Invalidator, PurgeError};
use crate::metrics::{Metrics, Readings};
use crate::origin::PoolStats;
use crate::policy::purge::{Mode, Purge};
use crate::serve::accept::{Answer, Handler, Peer};
use crate::serve::body::RequestBody;
use crate::store::redis::Eviction;
pub use events::Events;

/// Largest body of a purge order: 100,000 tags of ordinary length.
const PURGE_BODY_MAX: usize = 16 * 1024 * 1024;

/// Answers operations.
#[derive(Debug)]
pub struct Ops {
    /// Opens what changes state; without it that is closed.
    pub token: Option<String>,
    /// Webhooks in.
    pub webhooks: Webhooks,
    /// Events out.
    pub events: Events,
    /// Purges out.
    pub downstream: Status,
    /// Purges in.
    pub invalidator: Arc<Invalidator>,
    /// What the node holds.
    pub fill: Arc<Fill>,
    /// Connections to the origin.
    pub pool: Arc<PoolStats>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// What is known of the follower.
    pub following: watch::Receiver<Following>,
    /// Whether the purge log could be evicted; `None` where nobody would.
    pub eviction: Option<watch::Receiver<Eviction>>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// When the node started.
    pub started: Timestamp,
    /// Cancelled when the node is about to go.
    pub retiring: CancellationToken,
}

/// An order to purge: `{"tags": ["prod_1"], "mode": "hard"}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PurgeOrder {
    tags: Vec<String>,
    #[serde(default)]
    mode: Option<String>,
}

impl Handler for Ops {
    fn handle(
        self: &Arc<Self>,
        request: Request<RequestBody>,
        _peer: Peer,
    ) -> Answer<impl Future<Output = Response<Body>> + Send + use<>> {
        let ops = Arc::clone(self);
        Answer::Later(async move { ops.answer(request).await })
    }
}

impl Ops {
    /// Answers one request.
    async fn answer(&self, request: Request<RequestBody>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let get = request.method() == Method::GET || request.method() == Method::HEAD;
        let post = request.method() == Method::POST;
        match path.as_str() {
            "/metrics" if get => {
                text(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", self.metrics.render(&self.readings()))
            }
            "/livez" if get => text(StatusCode::OK, "text/plain; charset=utf-8", "ok\n".into()),
            "/readyz" if get => self.ready(),
            "/status" if get => json_reply(StatusCode::OK, &self.status().await),
            "/purge" if post => self.purge(request).await,
            "/events" if request.method() == Method::GET => {
                let is_ready = self.following.borrow().caught_up;
                self.events.open(request, is_ready)
            }
            "/events" if request.method() == Method::OPTIONS => self.events.preflight(request.headers()),
            "/events/ticket" if post => self.events.ticket(request.headers()),
            "/" if get => text(StatusCode::OK, "text/plain; charset=utf-8", INDEX.into()),
            _ => match path.strip_prefix("/hooks/") {
                Some(source) if post && !source.is_empty() => self.hook(source, request).await,
                Some(_) => refuse(StatusCode::METHOD_NOT_ALLOWED, "webhooks are posted"),
                None if PAGES.contains(&path.as_str()) => {
                    refuse(StatusCode::METHOD_NOT_ALLOWED, "another method is needed here")
                }
                None => refuse(StatusCode::NOT_FOUND, "no such page; / lists them"),
            },
        }
    }

    async fn hook(&self, source: &str, request: Request<RequestBody>) -> Response<Body> {
        let most = self.webhooks.body_max(source).unwrap_or(64 * 1024);
        let (head, body) = request.into_parts();
        let reply = match whole(body, most).await {
            Ok(body) => self.webhooks.receive(source, &head.headers, &body).await,
            Err(Unread::TooLarge) => self.webhooks.too_large(),
            Err(Unread::Broken) => {
                Reply { status: StatusCode::BAD_REQUEST, body: json!({ "error": "the body could not be read" }) }
            }
        };
        let mut response = json_reply(reply.status, &reply.body);
        if reply.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if reply.status == StatusCode::PAYLOAD_TOO_LARGE {
            // What was not read must not be taken for the next request.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn purge(&self, request: Request<RequestBody>) -> Response<Body> {
        if let Err(refused) = self.authorized(request.headers()) {
            return *refused;
        }
        let json_type =
            request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
                value.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case("application/json")
            });
        if !json_type {
            return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send application/json");
        }
        let body = match whole(request.into_body(), PURGE_BODY_MAX).await {
            Ok(body) => body,
            Err(Unread::TooLarge) => return refuse(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"),
            Err(Unread::Broken) => return refuse(StatusCode::BAD_REQUEST, "the body could not be read"),
        };
        let order: PurgeOrder = match serde_json::from_slice(&body) {
            Ok(order) => order,
            Err(error) => return refuse(StatusCode::BAD_REQUEST, &format!("the order cannot be read: {error}")),
        };
        let Some(mode) = Mode::from_word(order.mode.as_deref().unwrap_or("hard")) else {
            return refuse(StatusCode::BAD_REQUEST, "`mode` is `hard`, `soft` or `delete`");
        };
        // Who says `hard` means it.
        let is_firm = order.mode.is_some();
        let tags = order.tags.into_iter().map(|tag| (tag, mode)).collect();
        let purge = Purge { tags, source: "operator".into(), ..Purge::default() };
        let count = purge.tags.len();
        let outcome = if is_firm {
            self.invalidator.purge(purge).await
        } else {
            self.invalidator.purge_within(purge, &HashSet::new()).await
        };
        match outcome {
            Ok(acknowledged) => {
                let mode = acknowledged.softened.map_or(mode, |_| Mode::Soft);
                let reply = json!({
                    "purged": count,
                    "mode": mode.as_str(),
                    "seq": acknowledged.seq.to_string(),
                    "position": self.invalidator.position(&acknowledged),
                    "durable": acknowledged.durable.as_str(),
                    "softened": acknowledged.softened.is_some(),
                    "share": acknowledged.softened,
                });
                json_reply(acknowledged.durable.status(), &reply)
            }
            Err(error @ PurgeError::Invalid(_)) => refuse(StatusCode::BAD_REQUEST, &error.to_string()),
            Err(error @ PurgeError::TooMany { .. }) => refuse(StatusCode::PAYLOAD_TOO_LARGE, &error.to_string()),
            Err(error @ (PurgeError::Log(_) | PurgeError::Journal(..) | PurgeError::NotApplied(_))) => {
                let mut response = refuse(StatusCode::SERVICE_UNAVAILABLE, &error.to_string());
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
                response
            }
        }
    }

    /// Without a token of ours the door stays shut.
    fn authorized(&self, headers: &HeaderMap) -> Result<(), Box<Response<Body>>> {
        let Some(token) = &self.token else {
            return Err(Box::new(refuse(StatusCode::FORBIDDEN, "closed: set [ops] token, or ENDCAP_OPS__TOKEN")));
        };
        if bearer(headers, token) {
            return Ok(());
        }
        self.metrics.rejected("ops_token");
        let mut response = refuse(StatusCode::UNAUTHORIZED, "the bearer token is missing or wrong");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        Err(Box::new(response))
    }

    fn is_ready(&self) -> bool {
        self.following.borrow().caught_up && !self.retiring.is_cancelled()
    }

    fn ready(&self) -> Response<Body> {
        if self.retiring.is_cancelled() {
            return text(StatusCode::SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", "stopping\n".into());
        }
        if !self.is_ready() {
            let text_ = "not ready: the purge log has not been read to its end\n";
            return text(StatusCode::SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", text_.into());
        }
        text(StatusCode::OK, "text/plain; charset=utf-8", "ready\n".into())
    }

    fn readings(&self) -> Readings {
        let now = self.clock.now();
        let (flights, followers) = self.fill.flights();
        Readings {
            ready: self.is_ready(),
            l1_entries: self.fill.l1().entries(),
            l1_bytes: self.fill.l1().bytes(),
            bytes_in_flight: self.fill.bytes_in_flight(),
            flights,
            followers,
            purge_marks: self.fill.purges().with(crate::policy::purge::PurgeIndex::marks),
            origin: [self.pool.open(), self.pool.idle(), self.pool.waiting()],
            journaled: self.fill.purges().journaled(),
            is_blind: self.fill.purges().is_blind(now),
            log_evictable: matches!(self.eviction(), Eviction::Possible(_)),
            log_silence: self.following.borrow().heard.map_or(Duration::ZERO, |heard| now.since(heard)),
            uptime: now.since(self.started),
        }
    }

    fn eviction(&self) -> Eviction {
        self.eviction.as_ref().map_or(Eviction::Safe, |eviction| eviction.borrow().clone())
    }

    async fn status(&self) -> Value {
        let readings = self.readings();
        let following = *self.following.borrow();
        let downstream = self.downstream.read().await;
        let requests: HashMap<&str, u64> =
            self.metrics.totals().into_iter().map(|(outcome, count)| (outcome.as_str(), count)).collect();
        let (applied, floor) = self.fill.purges().with(|index| (index.applied(), index.floor()));
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_seconds": readings.uptime.as_secs(),
            "ready": readings.ready,
            "l1": { "entries": readings.l1_entries, "bytes": readings.l1_bytes },
            "fills": { "under_way": readings.flights, "followers": readings.followers },
            "shared": { "writes_under_way": self.metrics.fills.l2_writes_under_way.get() },
            "origin": { "open": readings.origin[0], "idle": readings.origin[1], "waiting": readings.origin[2] },
            "purges": {
                "log": self.invalidator.durable.as_str(),
                "applied": applied.to_string(),
                "floor": floor.to_string(),
                "tags_remembered": readings.purge_marks,
                "connected": following.connected,
                "blind": readings.is_blind,
                "journaled": readings.journaled,
                "silence_seconds": readings.log_silence.as_secs_f64(),
                "warning": match self.eviction() {
                    Eviction::Possible(policy) => {
                        json!(format!("Redis could evict the purge log ({policy}): {}", Eviction::REMEDY))
                    }
                    Eviction::Safe | Eviction::Unknown => Value::Null,
                },
            },
            "last_purges": self.invalidator.recent.to_json(|seq| downstream.told(seq)),
            "downstream": downstream.to_json(),
            "feed": { "clients": self.metrics.outward.feed_clients.get(), "log_error": self.events.feed.error() },
            "requests": requests,
        })
    }
}

/// Whether a request shows this token and no other. Compares in constant time.
fn bearer(headers: &HeaderMap, token: &str) -> bool {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let given = match (values.next(), values.next()) {
        (Some(value), None) => value.as_bytes().strip_prefix(b"Bearer ").unwrap_or(b""),
        _ => b"",
    };
    given.ct_eq(token.as_bytes()).into()
}

const PAGES: [&str; 8] = ["/metrics", "/livez", "/readyz", "/status", "/purge", "/events", "/events/ticket", "/"];

const INDEX: &str = "endcap\n\n\
    GET  /metrics       Prometheus metrics\n\
    GET  /livez         the process answers\n\
    GET  /readyz        the purge log has been read to its end, and the node is not about to stop\n\
    GET  /status        figures of this node, JSON\n\
    POST /purge         {\"tags\": [\"prod_1\"], \"mode\": \"hard\"}, with the bearer token\n\
    GET  /events        what happens, as server-sent events or WebSocket, with the feed's token or a ticket\n\
    POST /events/ticket a ticket for a browser, with the feed's token\n\
    POST /hooks/SOURCE  signed webhooks (Standard Webhooks)\n";

enum Unread {
    TooLarge,
    Broken,
}

/// Reads a body of at most `most` bytes.
async fn whole(body: RequestBody, most: usize) -> Result<Bytes, Unread> {
    match Limited::new(body, most).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(Unread::TooLarge),
        Err(_) => Err(Unread::Broken),
    }
}

fn text(status: StatusCode, kind: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

fn json_reply(status: StatusCode, value: &Value) -> Response<Body> {
    text(status, "application/json", format!("{value}\n"))
}

fn refuse(status: StatusCode, why: &str) -> Response<Body> {
    json_reply(status, &json!({ "error": why }))
}
