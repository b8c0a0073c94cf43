//! Purges outward: what a CDN or a storefront is told of the lines of the log, in its own words, and what its answer means.
//!
//! Sources, read in November 2026: Fastly's API reference ("Purging": 256 keys a batch, a purge of everything cannot be
//! soft, a key has at most 1,024 bytes), Cloudflare's ("Purge cache": 100 operations a request; requests and bucket by
//! plan), Standard Webhooks, Next.js (`revalidateTag`: at most 256 characters).

mod progress;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use serde_json::{Value, json};

pub use progress::{Again, Progress};

use super::purge::{Mode, Purge, PurgeSeq};
use super::tags::kind_of;
use super::time::Timestamp;
use super::webhook::WebhookSecret;

/// Whom to tell, and what it needs to know of us.
#[derive(Clone, Debug)]
pub struct Target {
    /// Which words it understands.
    pub provider: Provider,
    /// Where its API is; requests go below this, or to just this (Next.js, webhooks).
    pub url: Uri,
    /// Purges once more after this time, for what was fetched from a node that was not as far. Zero for never.
    pub second_purge: Duration,
}

/// The kinds of targets. Their secrets are shown by no `Debug`.
#[derive(Clone)]
pub enum Provider {
    /// Fastly's `Surrogate-Key`s.
    Fastly {
        /// The id of the service.
        service: String,
        /// An API token with the scopes `purge_select` and `purge_all`.
        token: String,
    },
    /// Cloudflare's `Cache-Tag`s.
    Cloudflare {
        /// The id of the zone.
        zone: String,
        /// An API token with the permission "Cache Purge".
        token: String,
        /// What the account may ask.
        plan: Plan,
    },
    /// A route of a Next.js storefront that calls `revalidateTag`.
    NextJs {
        /// Signs, by Standard Webhooks.
        secret: WebhookSecret,
    },
    /// Anybody who can verify Standard Webhooks.
    Webhook {
        /// Signs.
        secret: WebhookSecret,
    },
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Provider {
    /// Its word in the configuration.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Fastly { .. } => "fastly",
            Self::Cloudflare { .. } => "cloudflare",
            Self::NextJs { .. } => "nextjs",
            Self::Webhook { .. } => "webhook",
        }
    }

    /// It holds answers under tags as we do, and those with too many under coarse ones ([`class_of`]).
    const fn has_classes(&self) -> bool {
        !matches!(self, Self::Webhook { .. })
    }

    /// A CDN is told first: who renders pages fetches through it.
    pub const fn is_cdn(&self) -> bool {
        matches!(self, Self::Fastly { .. } | Self::Cloudflare { .. })
    }

    /// Requests a second that it lets us make, and how many at once.
    pub const fn rate(&self) -> (f64, f64) {
        match self {
            // 100,000 purges an hour.
            Self::Fastly { .. } => (25.0, 50.0),
            Self::Cloudflare { plan: Plan::Free, .. } => (5.0 / 60.0, 25.0),
            Self::Cloudflare { plan: Plan::Pro, .. } => (5.0, 25.0),
            Self::Cloudflare { plan: Plan::Business, .. } => (10.0, 50.0),
            Self::Cloudflare { plan: Plan::Enterprise, .. } => (50.0, 500.0),
            Self::NextJs { .. } | Self::Webhook { .. } => (10.0, 20.0),
        }
    }

    /// Tags in one request, and bytes in one tag, at the most.
    const fn bounds(&self) -> (usize, usize) {
        match self {
            Self::Fastly { .. } => (256, 1024),
            Self::Cloudflare { .. } => (100, 1024),
            Self::NextJs { .. } => (100, 256),
            Self::Webhook { .. } => (1000, usize::MAX),
        }
    }
}

/// Cloudflare's plans, which differ in what they let us ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plan {
    /// 5 requests a minute, 25 at once.
    #[default]
    Free,
    /// 5 a second, 25 at once.
    Pro,
    /// 10 a second, 50 at once.
    Business,
    /// 50 a second, 500 at once.
    Enterprise,
}

/// What several lines of the log purge together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Each tag once, with its strongest mode.
    pub tags: BTreeMap<String, Mode>,
    /// All there is.
    pub everything: bool,
}

impl Batch {
    /// All there is: for who can no longer be told what exactly.
    pub fn everything() -> Self {
        Self { tags: BTreeMap::new(), everything: true }
    }

    /// Adds a line; one that cannot be read may have purged anything.
    pub fn add(&mut self, line: Option<&Purge>) {
        let Some(purge) = line else {
            self.everything = true;
            return;
        };
        for (tag, mode) in &purge.tags {
            self.everything |= tag == "all";
            let known = self.tags.entry(tag.clone()).or_insert(*mode);
            *known = (*known).max(*mode);
        }
    }

    /// Nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.tags.is_empty() && !self.everything
    }
}

/// The tag under which a CDN or a storefront may hold what it cannot hold under this one, because an answer has too many tags: `prod_*`.
/// Every purge also names `*`, for answers that have too many kinds.
pub fn class_of(tag: &str) -> String {
    format!("{}*", kind_of(tag))
}

/// What a batch becomes for one target: bounded, and the same again for the same lines.
///
/// More requests than the target lets us make at once become one that purges everything.
pub fn requests(target: &Target, name: &str, batch: &Batch, to: PurgeSeq, now: Timestamp) -> Vec<Request<Bytes>> {
    let (tags_max, bytes_max) = target.provider.bounds();
    let mut tags: BTreeMap<String, Mode> = BTreeMap::new();
    for (tag, mode) in &batch.tags {
        let is_word = tag.len() <= bytes_max && tag.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
        let is_cdn = target.provider.is_cdn();
        let classes = target.provider.has_classes().then(|| [class_of(tag), class_of("")]).into_iter().flatten();
        for name in (is_word || !is_cdn).then(|| tag.clone()).into_iter().chain(classes) {
            if name.len() <= bytes_max {
                let known = tags.entry(name).or_insert(*mode);
                *known = (*known).max(*mode);
            }
        }
    }
    let (_, most) = target.provider.rate();
    let chunks = chunks(&tags, tags_max, matches!(target.provider, Provider::Fastly { .. }));
    if batch.everything || chunks.len() as f64 > most {
        return vec![request(target, name, None, to, 0, now)];
    }
    chunks.iter().enumerate().map(|(n, chunk)| request(target, name, Some(chunk), to, n, now)).collect()
}

type Chunk<'t> = Vec<(&'t str, Mode)>;

/// Parts of at most so many tags; where the request has one mode, soft ones apart.
fn chunks(tags: &BTreeMap<String, Mode>, most: usize, by_mode: bool) -> Vec<Chunk<'_>> {
    let all = || tags.iter().map(|(tag, mode)| (tag.as_str(), *mode));
    let (soft, rest): (Chunk<'_>, Chunk<'_>) = all().partition(|(_, mode)| by_mode && *mode == Mode::Soft);
    rest.chunks(most).chain(soft.chunks(most)).map(<[_]>::to_vec).collect()
}

/// One request; without tags it purges everything.
fn request(
    target: &Target,
    name: &str,
    tags: Option<&Chunk<'_>>,
    to: PurgeSeq,
    n: usize,
    now: Timestamp,
) -> Request<Bytes> {
    let names = || tags.into_iter().flatten().map(|(tag, _)| *tag).collect::<Vec<_>>();
    let mut headers = HeaderMap::new();
    // What the configuration lets in is a value; a token that is none is refused by its target.
    let secret = |text: &str| HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""));
    let (path, body) = match &target.provider {
        Provider::Fastly { service, token } => {
            headers.insert("fastly-key", secret(token));
            headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
            if tags.is_some_and(|tags| tags.iter().all(|(_, mode)| *mode == Mode::Soft)) {
                headers.insert("fastly-soft-purge", HeaderValue::from_static("1"));
            }
            match tags {
                Some(_) => (format!("/service/{service}/purge"), json!({ "surrogate_keys": names() })),
                None => (format!("/service/{service}/purge_all"), Value::Null),
            }
        }
        Provider::Cloudflare { zone, token, .. } => {
            headers.insert(header::AUTHORIZATION, secret(&format!("Bearer {token}")));
            let body = if tags.is_some() { json!({ "tags": names() }) } else { json!({ "purge_everything": true }) };
            (format!("/client/v4/zones/{zone}/purge_cache"), body)
        }
        Provider::NextJs { .. } => (String::new(), json!({ "tags": names(), "everything": tags.is_none() })),
        Provider::Webhook { .. } => {
            let tag = |(tag, mode): &(&str, Mode)| json!({ "tag": tag, "mode": mode.as_str() });
            let tags: Option<Vec<Value>> = tags.map(|tags| tags.iter().map(tag).collect());
            let data = json!({ "tags": tags.clone().unwrap_or_default(), "everything": tags.is_none(), "seq": to.to_string() });
            (String::new(), json!({ "type": "purge", "timestamp": now.as_secs(), "data": data }))
        }
    };
    let body = if body.is_null() { String::new() } else { body.to_string() };
    if !body.is_empty() {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    if let Provider::NextJs { secret } | Provider::Webhook { secret } = &target.provider {
        // The same purge again has the same id: the receiver may take it once.
        let id = format!("{name}_{to}_{n}");
        let signature = secret.sign(&id, now.as_secs(), body.as_bytes());
        for (field, value) in
            [("webhook-id", id), ("webhook-timestamp", now.as_secs().to_string()), ("webhook-signature", signature)]
        {
            headers.insert(field, HeaderValue::from_str(&value).expect("names and base64 are values"));
        }
    }
    let base = target.url.to_string();
    let uri = if path.is_empty() { base } else { format!("{}{path}", base.trim_end_matches('/')) };
    let mut request = Request::new(Bytes::from(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri.parse().unwrap_or_else(|_| target.url.clone());
    *request.headers_mut() = headers;
    request
}

/// What an answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has purged.
    Done,
    /// Again, after this time where it says so.
    Later {
        /// For a person.
        why: String,
        /// `Retry-After`.
        after: Option<Duration>,
    },
    /// A person must act.
    Refused {
        /// What, and where.
        remedy: String,
    },
}

/// The longest wait that a target may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// Judges an answer.
pub fn judge(provider: &Provider, name: &str, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Verdict {
    let key = |key: &str| format!("downstream.{name}.{key}");
    let refused = |remedy: String| Verdict::Refused { remedy: format!("{}: {remedy}", status.as_u16()) };
    match status.as_u16() {
        200..=299 => {
            let says_no = matches!(provider, Provider::Cloudflare { .. })
                && serde_json::from_slice::<Value>(body).is_ok_and(|answer| answer["success"] == false);
            match says_no {
                true => Verdict::Later { why: "it says that it did not succeed".to_owned(), after: None },
                false => Verdict::Done,
            }
        }
        401 | 403 => refused(match provider {
            Provider::Fastly { .. } => format!("give {} the scopes purge_select and purge_all", key("token")),
            Provider::Cloudflare { .. } => format!("give {} the permission \"Cache Purge\" for the zone", key("token")),
            Provider::NextJs { .. } | Provider::Webhook { .. } => format!("{} is not the receiver's", key("token")),
        }),
        404 => refused(match provider {
            Provider::Fastly { .. } => format!("{} names no service of this token", key("id")),
            Provider::Cloudflare { .. } => format!("{} names no zone of this token", key("id")),
            Provider::NextJs { .. } | Provider::Webhook { .. } => format!("nobody is at {}", key("url")),
        }),
        300..=399 => refused(format!("it has moved: give its new address as {}", key("url"))),
        408 | 425 | 429 | 500.. => {
            let seconds = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
            let after = seconds.map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER_MAX));
            Verdict::Later { why: format!("it answered {status}"), after }
        }
        _ => refused("it does not understand the request".to_owned()),
    }
}

#[cfg(test)]
mod tests;
