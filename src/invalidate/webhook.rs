//! `POST /hooks/{source}`: a signed delivery becomes a purge, and its 2xx means that it happened.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::{Invalidator, PurgeError};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::policy::notice::Notice;
use crate::policy::purge::Purge;
use crate::policy::time::Timestamp;
use crate::policy::webhook::{self, EventRule, Verified, WebhookSecret};

/// Delivery ids that are remembered, at the most.
const IDS_MAX: usize = 100_000;
/// Of the events that a delivery could not be understood in, so many are told again to a retry, and so long ones, as JSON.
const TOLD_MAX: usize = 32;
const TOLD_BYTES_MAX: usize = 256;
/// Unknown event names that are logged once each, at the most.
const UNKNOWN_MAX: usize = 1000;

/// A sender of webhooks.
#[derive(Clone, Debug)]
pub struct Hook {
    /// Each verifies, so that secrets can be rotated.
    pub secrets: Vec<WebhookSecret>,
    /// How far a timestamp may be from now.
    pub tolerance: Duration,
    /// Largest body, in bytes.
    pub body_max: usize,
}

/// Receives webhooks.
#[derive(Debug)]
pub struct Webhooks {
    hooks: BTreeMap<String, Hook>,
    events: BTreeMap<String, EventRule>,
    invalidator: Arc<Invalidator>,
    /// Somebody may want to be told of events, also of those that purge nothing.
    is_told_on: bool,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    seen: Mutex<SeenIds>,
    unknown: Mutex<HashSet<String>>,
}

/// The answer to a delivery.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The JSON body.
    pub body: Value,
}

impl Reply {
    fn error(status: StatusCode, text: &str) -> Self {
        Self { status, body: json!({ "error": text }) }
    }
}

impl Webhooks {
    /// Receives for these senders. With `is_told_on` the log is told of each event, and not only of what it purges.
    pub fn new(
        hooks: BTreeMap<String, Hook>,
        events: BTreeMap<String, EventRule>,
        invalidator: Arc<Invalidator>,
        is_told_on: bool,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (seen, unknown) = (Mutex::default(), Mutex::default());
        Self { hooks, events, invalidator, is_told_on, clock, metrics, seen, unknown }
    }

    /// The largest body that a sender may deliver; `None` for a sender that nobody knows.
    pub fn body_max(&self, source: &str) -> Option<usize> {
        self.hooks.get(source).map(|hook| hook.body_max)
    }

    /// A delivery was too large to be read.
    pub fn too_large(&self) -> Reply {
        self.metrics.webhook("too_large");
        Reply::error(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large")
    }

    /// Takes a delivery.
    pub async fn receive(&self, source: &str, headers: &HeaderMap, body: &[u8]) -> Reply {
        let Some(hook) = self.hooks.get(source) else {
            self.metrics.webhook("unknown_source");
            return Reply::error(StatusCode::NOT_FOUND, "no such webhook source");
        };
        let now = self.clock.now();
        let verified = match webhook::verify(headers, body, &hook.secrets, hook.tolerance, self.clock.wall()) {
            Ok(verified) => verified,
            Err(forged) => {
                self.metrics.webhook(forged.as_str());
                tracing::warn!(source, reason = forged.as_str(), "rejected a webhook");
                return Reply::error(StatusCode::UNAUTHORIZED, "the signature could not be verified");
            }
        };
        match self.seen().find(source, &verified, now) {
            Delivery::New => {}
            // A sender that never saw our answer signs anew for its next attempt: done is done.
            Delivery::Retry(reply) => {
                self.metrics.webhook("duplicate");
                return reply;
            }
            // The very same delivery again is somebody who recorded it.
            Delivery::Replay => {
                self.metrics.webhook("replayed");
                tracing::warn!(source, id = verified.id, "rejected a replayed webhook");
                return Reply::error(StatusCode::CONFLICT, "this delivery was taken before");
            }
        }
        let reply = self.take(source, &verified, body).await;
        if reply.status.is_success() {
            // Only what was done is remembered: what failed may be sent again as it is.
            self.seen().remember(source, &verified, &reply, now, hook.tolerance * 2);
        }
        reply
    }

    async fn take(&self, source: &str, verified: &Verified, body: &[u8]) -> Reply {
        let events = match webhook::events(body) {
            Ok(events) => events,
            Err(text) => {
                self.metrics.webhook("malformed");
                return Reply::error(StatusCode::BAD_REQUEST, &text);
            }
        };
        let mut purge = Purge { source: source.to_owned(), event_id: verified.id.clone(), ..Purge::default() };
        if self.is_told_on {
            purge.notices = Notice::all(&events);
        }
        let (mut unknown, mut incomplete, mut firm) = (Vec::new(), Vec::new(), HashSet::new());
        for event in &events {
            let Some(rule) = webhook::find_rule(&self.events, &event.name) else {
                self.unknown(source, &event.name);
                unknown.push(event.name.clone());
                continue;
            };
            let (tags, lacking) = webhook::expand(rule, event);
            if rule.firm {
                firm.extend(tags.iter().map(|(tag, _)| tag.clone()));
            }
            purge.tags.extend(tags);
            if let Some(name) = lacking.first() {
                tracing::warn!(source, event = event.name, lacking = name, "an event lacks what its purge names");
                incomplete.push(json!({ "event": event.name, "lacking": name }));
            }
        }
        let mut seen = HashSet::new();
        purge.tags.retain(|tag| seen.insert(tag.clone()));
        let count = purge.tags.len();
        let (status, result) = match (count, incomplete.is_empty(), unknown.is_empty()) {
            (0, false, _) => (Some(StatusCode::BAD_REQUEST), "incomplete"),
            (0, true, false) => (Some(StatusCode::ACCEPTED), "unknown_event"),
            (0, true, true) => (Some(StatusCode::OK), "accepted"),
            // As safe as the purge is.
            (1.., _, _) => (None, "accepted"),
        };
        if let Some(status) = status
            && (status == StatusCode::BAD_REQUEST || purge.notices.is_empty())
        {
            self.metrics.webhook(result);
            return Reply { status, body: json!({ "purged": 0, "unknown": unknown, "incomplete": incomplete }) };
        }
        match self.invalidator.purge_within(purge, &firm).await {
            Ok(acknowledged) => {
                self.metrics.webhook(result);
                let body = json!({
                    "purged": count,
                    "seq": acknowledged.seq.to_string(),
                    "position": self.invalidator.position(&acknowledged),
                    "durable": acknowledged.durable.as_str(),
                    "softened": acknowledged.softened.is_some(),
                    "share": acknowledged.softened,
                    "unknown": unknown,
                    "incomplete": incomplete,
                });
                Reply { status: status.unwrap_or(acknowledged.durable.status()), body }
            }
            Err(error @ (PurgeError::Invalid(_) | PurgeError::TooMany { .. })) => {
                self.metrics.webhook("invalid");
                let is_long = matches!(error, PurgeError::TooMany { .. });
                let status = if is_long { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::BAD_REQUEST };
                Reply::error(status, &error.to_string())
            }
            Err(error @ (PurgeError::Log(_) | PurgeError::Journal(..) | PurgeError::NotApplied(_))) => {
                self.metrics.webhook("not_durable");
                tracing::error!(source, %error, "a purge could not be acknowledged");
                Reply::error(StatusCode::SERVICE_UNAVAILABLE, "the purge is not safe yet, send it again")
            }
        }
    }

    fn unknown(&self, source: &str, name: &str) {
        let mut names = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() < UNKNOWN_MAX && names.insert(name.to_owned()) {
            let shown = name.get(..name.floor_char_boundary(100)).unwrap_or("");
            tracing::warn!(source, event = shown, "no purge is mapped to this event; add [event.\"…\"] if it should");
        }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, SeenIds> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a delivery stands to those taken before.
#[derive(Clone, Debug, PartialEq)]
enum Delivery {
    New,
    /// It was taken, and this is what is said of it once more.
    Retry(Reply),
    Replay,
}

/// A delivery that was taken.
#[derive(Debug)]
struct Taken {
    /// The timestamps under which it came.
    stamps: Vec<u64>,
    status: StatusCode,
    durable: Value,
    /// What its sender must know all the same: the first answer may have been lost.
    unknown: Vec<Value>,
    incomplete: Vec<Value>,
}

impl Taken {
    fn new(reply: &Reply) -> Self {
        let few = |name: &str| {
            let mut few = Vec::new();
            for item in reply.body[name].as_array().into_iter().flatten() {
                if few.len() < TOLD_MAX && !few.contains(item) && item.to_string().len() <= TOLD_BYTES_MAX {
                    few.push(item.clone());
                }
            }
            few
        };
        let (unknown, incomplete) = (few("unknown"), few("incomplete"));
        Self { stamps: Vec::new(), status: reply.status, durable: reply.body["durable"].clone(), unknown, incomplete }
    }

    fn again(&self) -> Reply {
        let body = json!({
            "duplicate": true,
            "purged": 0,
            "durable": self.durable,
            "unknown": self.unknown,
            "incomplete": self.incomplete,
        });
        Reply { status: self.status, body }
    }
}

/// Ids of deliveries that were taken, for twice the tolerance: after that the timestamp gives a replay away.
#[derive(Debug, Default)]
struct SeenIds {
    /// By source and id.
    ids: HashMap<(String, String), Taken>,
    order: VecDeque<(Timestamp, (String, String))>,
}

impl SeenIds {
    fn find(&mut self, source: &str, verified: &Verified, now: Timestamp) -> Delivery {
        while self.order.front().is_some_and(|(until, _)| *until <= now || self.order.len() > IDS_MAX) {
            if let Some((_, id)) = self.order.pop_front() {
                self.ids.remove(&id);
            }
        }
        match self.ids.get_mut(&(source.to_owned(), verified.id.clone())) {
            None => Delivery::New,
            Some(taken) if taken.stamps.contains(&verified.timestamp) => Delivery::Replay,
            Some(taken) => {
                taken.stamps.push(verified.timestamp);
                Delivery::Retry(taken.again())
            }
        }
    }

    fn remember(&mut self, source: &str, verified: &Verified, reply: &Reply, now: Timestamp, keep: Duration) {
        let id = (source.to_owned(), verified.id.clone());
        let taken = self.ids.entry(id.clone()).or_insert_with(|| Taken::new(reply));
        taken.stamps.push(verified.timestamp);
        self.order.push_back((now + keep, id));
    }
}
