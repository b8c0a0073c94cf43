//! From an entry, or an error, to a response. The only place where errors become HTTP.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};

use crate::body::Body;
use crate::fill::{Failure, Source};
use crate::policy::cache_control;
use crate::policy::classify::RefuseReason;
use crate::policy::conditional::{self, Selected, Stored};
use crate::policy::encoding::Accepted;
use crate::policy::entry::Entry;
use crate::policy::etag;
use crate::policy::exchange::CACHE_STATUS;
use crate::policy::forms::{Choice, Form};
use crate::policy::key::KeyHash;
use crate::policy::outcome::Outcome;
use crate::policy::route::Rule;
use crate::policy::time::Timestamp;

/// Ages and remaining lifetimes up to this many seconds have their field ready.
const READY: u64 = 4096;

/// Why a request went on to the origin (RFC 9211 §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fwd {
    /// It may not be answered from the cache.
    Bypass,
    /// Its method is not answered from the cache.
    Method,
    /// Nothing is stored for its URL.
    UriMiss,
    /// What is stored for its URL is for other requests.
    VaryMiss,
    /// What is stored for it must be refilled, or asked about.
    Stale,
}

impl Fwd {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Stale => "stale",
        }
    }
}

/// What is said of an answer: in `Cache-Status`, in the log, in the metrics.
#[derive(Clone, Copy, Debug)]
pub struct Said {
    /// What became of the request.
    pub outcome: Outcome,
    /// Why, where the outcome alone does not say.
    pub reason: Option<&'static str>,
    /// The origin's status, where it was asked.
    pub origin_status: Option<StatusCode>,
    fwd: Option<Fwd>,
    stored: bool,
    collapsed: bool,
    overtaken: bool,
    ttl: Option<u64>,
    key: Option<KeyHash>,
}

impl Said {
    /// An outcome, and nothing more to say.
    pub fn new(outcome: Outcome) -> Self {
        Self {
            outcome,
            reason: None,
            origin_status: None,
            fwd: None,
            stored: false,
            collapsed: false,
            overtaken: false,
            ttl: None,
            key: None,
        }
    }

    /// What a fill's result says. `fwd` is why the fill was wanted.
    pub fn filled(source: Source, fwd: Fwd, stored: bool, collapsed: bool) -> Self {
        let outcome = match (source, collapsed) {
            (Source::L1, _) => Outcome::Hit,
            (Source::L2, _) => Outcome::HitL2,
            (Source::Origin(_), true) => Outcome::Collapsed,
            (Source::Origin(StatusCode::NOT_MODIFIED), false) => Outcome::Renewed,
            (Source::Origin(_), false) => Outcome::Miss,
        };
        let origin_status = match source {
            Source::Origin(status) => Some(status),
            Source::L1 | Source::L2 => None,
        };
        let fwd = match source {
            Source::Origin(_) => Some(fwd),
            Source::L1 | Source::L2 => None,
        };
        Self { stored, collapsed, origin_status, fwd, ..Self::new(outcome) }
    }

    /// Adds why.
    #[must_use]
    pub fn because(mut self, reason: &'static str) -> Self {
        self.reason = Some(reason);
        self
    }

    /// Adds that a purge came while the answer was on its way.
    #[must_use]
    pub fn overtaken(mut self) -> Self {
        self.overtaken = true;
        self
    }

    /// Adds the origin's status.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.origin_status = Some(status);
        self
    }

    /// Adds that the origin was asked, and why.
    #[must_use]
    pub fn forwarded(mut self, fwd: Fwd) -> Self {
        self.fwd = Some(fwd);
        self
    }

    /// Adds what is known of a failure: a status of our own is none of the origin's.
    #[must_use]
    pub fn failed(mut self, failure: &Failure) -> Self {
        self.origin_status = failure.origin_status;
        self.because(failure.reason)
    }

    /// Adds the key that the origin was asked for.
    #[must_use]
    pub fn with_key(mut self, key: KeyHash) -> Self {
        self.key = Some(key);
        self
    }

    /// Adds the time that the entry stays fresh.
    #[must_use]
    pub fn with_entry(mut self, entry: &Entry, now: Timestamp) -> Self {
        self.ttl = matches!(self.outcome, Outcome::Hit | Outcome::HitL2)
            .then(|| entry.lifetime.fresh_until.since(now).as_secs());
        self
    }

    /// The member of `Cache-Status` (RFC 9211).
    fn cache_status(&self) -> HeaderValue {
        if let (Outcome::Hit, Some(ttl), None) = (self.outcome, self.ttl, self.reason) {
            static HITS: LazyLock<Vec<HeaderValue>> =
                LazyLock::new(|| (0..READY).map(|ttl| text(&format!("endcap; hit; ttl={ttl}; detail=hit"))).collect());
            if let Some(ready) = usize::try_from(ttl).ok().and_then(|ttl| HITS.get(ttl)) {
                return ready.clone();
            }
        }
        let mut member = String::from("endcap");
        match (self.fwd, self.outcome) {
            (Some(fwd), _) => {
                member.push_str("; fwd=");
                member.push_str(fwd.as_str());
            }
            (None, Outcome::Hit | Outcome::HitL2 | Outcome::Stale | Outcome::StaleError) => member.push_str("; hit"),
            // An answer of our own.
            (
                None,
                Outcome::Miss
                | Outcome::Collapsed
                | Outcome::Renewed
                | Outcome::Failed
                | Outcome::Pass
                | Outcome::Refused
                | Outcome::Unanswered,
            ) => {}
        }
        if let (Some(_), Some(status)) = (self.fwd, self.origin_status) {
            member.push_str(&format!("; fwd-status={}", status.as_u16()));
        }
        if let Some(ttl) = self.ttl {
            member.push_str(&format!("; ttl={ttl}"));
        }
        if self.stored && matches!(self.outcome, Outcome::Miss | Outcome::Renewed) {
            member.push_str("; stored");
        }
        if self.collapsed && self.fwd.is_some() {
            member.push_str("; collapsed");
        }
        if let (Some(_), Some(key)) = (self.fwd, self.key) {
            // The first digits of the name that the log gives it.
            member.push_str(&format!("; key=\"{:016x}\"", key.as_u128() >> 64));
        }
        member.push_str("; detail=");
        member.push_str(self.outcome.as_str());
        if let Some(reason) = self.reason {
            // Words of our enums: tokens, never a client's bytes.
            member.push('.');
            member.push_str(reason);
        }
        text(&member)
    }
}

/// Fields besides `Cache-Control` by which somebody downstream may take an answer for fresh; those for
/// CDNs come before it (RFC 9213).
static LIFETIMES: [HeaderName; 6] = [
    header::EXPIRES,
    HeaderName::from_static("cdn-cache-control"),
    HeaderName::from_static("cloudflare-cdn-cache-control"),
    HeaderName::from_static("vercel-cdn-cache-control"),
    HeaderName::from_static("surrogate-control"),
    HeaderName::from_static("x-accel-expires"),
];

/// Digests of what is sent: those of the whole are not a part's (RFC 9530 §2, RFC 2616 §14.15). `Repr-Digest` is of
/// the whole whatever is sent of it.
static CONTENT_DIGESTS: [HeaderName; 2] =
    [HeaderName::from_static("content-digest"), HeaderName::from_static("content-md5")];

/// What a request asks of an entry.
#[derive(Clone, Copy, Debug)]
pub struct Asks<'r> {
    /// It wants no body.
    pub head: bool,
    /// Its fields.
    pub headers: &'r HeaderMap,
    /// The rule that it matched.
    pub rule: &'r Arc<Rule>,
}

impl<'r> Asks<'r> {
    /// What it asks.
    pub fn of<B>(rule: &'r Arc<Rule>, request: &'r Request<B>) -> Self {
        Self { head: request.method() == Method::HEAD, headers: request.headers(), rule }
    }
}

/// Sends an entry, or 304 to who has it already. `choice` is what there is of it for who takes `accepted`.
pub fn entry(
    asks: &Asks<'_>,
    entry: &Entry,
    accepted: &Accepted,
    choice: &Choice<'_>,
    said: &Said,
    now: Timestamp,
) -> Response<Body> {
    let Asks { head, headers: request, rule } = *asks;
    let mut headers = entry.fields.to_map();
    let etag = headers.get(header::ETAG).cloned();
    let stored = Stored { status: entry.status, headers: &headers, length: entry.body.len() };
    let forms = conditional::Forms { accepted, best: choice.coding() };
    let selected = conditional::select(request, !head, stored, forms);
    headers.insert(header::AGE, age(now.since(entry.lifetime.born).as_secs()));
    if let Some(cors) = &rule.cors {
        cors.apply(request.get(header::ORIGIN), &mut headers);
    }
    let is_error = entry.status.is_client_error() || entry.status.is_server_error();
    match said.outcome {
        // A purge of the CDN may have gone ahead of it.
        _ if said.overtaken => shorten(&mut headers, "max-age=0, must-revalidate"),
        // Nobody downstream may store it as fresh.
        Outcome::Stale | Outcome::StaleError => {
            shorten(&mut headers, "max-age=0, must-revalidate");
        }
        // What we do not keep nobody downstream should, whatever the origin says of its error. Where it
        // says nothing of a lifetime, nor do we.
        Outcome::Failed | Outcome::Miss | Outcome::Collapsed if is_error && !said.stored && !rule.trust.errors => {
            if headers.contains_key(header::CACHE_CONTROL) || LIFETIMES.iter().any(|name| headers.contains_key(name)) {
                shorten(&mut headers, "no-store");
            }
        }
        Outcome::Hit
        | Outcome::HitL2
        | Outcome::Miss
        | Outcome::Renewed
        | Outcome::Collapsed
        | Outcome::Failed
        | Outcome::Pass
        | Outcome::Refused
        | Outcome::Unanswered => {}
    }
    let length = entry.body.len();
    let (status, body) = match selected {
        Selected::Whole(_) => match choice.form {
            None => (entry.status, entry.body.clone()),
            Some(form) => {
                form.describe(&mut headers);
                (entry.status, form.body.clone())
            }
        },
        Selected::NotModified(form) => {
            headers.remove(header::CONTENT_LENGTH);
            headers.remove(header::CONTENT_TYPE);
            if let (Some(etag), Some(coding)) = (etag, form) {
                headers.insert(header::ETAG, etag::of_form(&etag, coding));
            }
            (StatusCode::NOT_MODIFIED, Bytes::new())
        }
        Selected::Part(range) => {
            for name in &CONTENT_DIGESTS {
                headers.remove(name);
            }
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(range.len()));
            headers.insert(header::CONTENT_RANGE, text(&format!("bytes {}-{}/{length}", range.start, range.end - 1)));
            (StatusCode::PARTIAL_CONTENT, entry.body.slice(range))
        }
        Selected::Unsatisfiable => {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(0));
            headers.insert(header::CONTENT_RANGE, text(&format!("bytes */{length}")));
            headers.remove(header::CONTENT_TYPE);
            // It answers this range alone: the lifetime is that of the whole.
            shorten(&mut headers, "no-store");
            (StatusCode::RANGE_NOT_SATISFIABLE, Bytes::new())
        }
    };
    let mut response = Response::new(if head || body.is_empty() { Body::Empty } else { Body::from(body) });
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Replaces all that speaks of an answer's lifetime. What restricts it stays, that of the fields for CDNs too: without
/// them `Cache-Control` counts there.
fn shorten(headers: &mut HeaderMap, control: &'static str) {
    let names = [&header::CACHE_CONTROL].into_iter().chain(&LIFETIMES);
    let control = cache_control::restricted(control, names.flat_map(|name| headers.get_all(name)));
    headers.insert(header::CACHE_CONTROL, control);
    for name in &LIFETIMES {
        headers.remove(name);
    }
}

/// Writes the head of a fresh entry's answer as bytes: the same fields as [`entry`] and [`finish`] set.
pub fn head(entry: &Entry, form: Option<&Form>, said: &Said, now: Timestamp, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(entry.status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(entry.status.canonical_reason().unwrap_or("").as_bytes());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(form.map_or(&entry.fields, |form| form.fields(&entry.fields)).lines());
    out.extend_from_slice(b"age: ");
    out.extend_from_slice(age(now.since(entry.lifetime.born).as_secs()).as_bytes());
    out.extend_from_slice(b"\r\ncache-status: ");
    out.extend_from_slice(said.cache_status().as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
}

/// A short answer of our own.
pub fn plain(status: StatusCode, body: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(Bytes::from_static(body.as_bytes())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// Takes the body off the answer to a HEAD.
pub fn without_body(response: Response<Body>) -> Response<Body> {
    response.map(|_| Body::Empty)
}

/// Says in the answer what became of the request. On what another cache behind us has answered, now or when it
/// was stored, our word stands last (RFC 9211 §2).
pub fn finish(mut response: Response<Body>, said: &Said) -> Response<Body> {
    response.headers_mut().append(CACHE_STATUS, said.cache_status());
    response
}

/// What a client is told of a failure of the origin; the detail is in the log.
pub fn failure_text(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_REQUEST => "The request body could not be read.\n",
        StatusCode::SERVICE_UNAVAILABLE => "Too many requests wait for the backend.\n",
        StatusCode::GATEWAY_TIMEOUT => "The backend did not answer in time.\n",
        _ => "The backend could not be reached, or its answer could not be read.\n",
    }
}

/// What a client is told of a refusal.
pub fn refusal_text(why: RefuseReason) -> &'static str {
    match why {
        RefuseReason::QueryRepeated => "A query parameter that takes one value was given as several.\n",
        RefuseReason::HeaderRepeated => "A header field that may be sent once was sent twice.\n",
    }
}

fn age(seconds: u64) -> HeaderValue {
    static AGES: LazyLock<Vec<HeaderValue>> = LazyLock::new(|| (0..READY).map(HeaderValue::from).collect());
    usize::try_from(seconds).ok().and_then(|seconds| AGES.get(seconds)).cloned().unwrap_or_else(|| seconds.into())
}

fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).expect("words of ours and numbers are visible ASCII")
}

#[cfg(test)]
mod tests;
