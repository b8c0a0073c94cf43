//! Webhooks: is this delivery what it says (Standard Webhooks), and what does it purge?

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use serde_json::{Map, Value};
use sha2::Sha256;

use super::purge::Mode;
use super::route::Template;
use super::time::Timestamp;

/// A secret that verifies deliveries.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(Vec<u8>);

impl std::fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WebhookSecret(…)")
    }
}

impl WebhookSecret {
    /// Reads `whsec_` and base64.
    pub fn parse(text: &str) -> Option<Self> {
        STANDARD.decode(text.strip_prefix("whsec_")?).ok().filter(|key| !key.is_empty()).map(Self)
    }

    /// Signs as a sender does: the value of `webhook-signature`.
    pub fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let mac = self.mac(id.as_bytes(), timestamp.to_string().as_bytes(), body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }

    fn mac(&self, id: &[u8], timestamp: &[u8], body: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        for part in [id, b".", timestamp, b".", body] {
            mac.update(part);
        }
        mac
    }
}

/// Why a delivery is not believed. The sender is told 401 and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forged {
    /// One of the three fields is missing, doubled, or cannot be read.
    Header,
    /// No signature is right under any secret.
    Signature,
    /// Signed at another time than now: held back, or a clock is wrong.
    Timestamp,
}

impl Forged {
    /// The word for logs and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Header => "forged_header",
            Self::Signature => "forged_signature",
            Self::Timestamp => "forged_timestamp",
        }
    }
}

/// A delivery that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The sender's id of the event, the same at each attempt.
    pub id: String,
    /// When this attempt was signed, in seconds since the Unix epoch.
    pub timestamp: u64,
}

/// Longest id that is taken.
const ID_BYTES_MAX: usize = 256;
/// Signatures that are tried in one delivery.
const SIGNATURES_MAX: usize = 8;

/// Verifies a delivery over its raw bytes, in constant time.
///
/// # Errors
/// See [`Forged`].
pub fn verify(
    headers: &HeaderMap,
    body: &[u8],
    secrets: &[WebhookSecret],
    tolerance: Duration,
    now: Timestamp,
) -> Result<Verified, Forged> {
    let id = one(headers, "webhook-id")?;
    let timestamp = one(headers, "webhook-timestamp")?;
    let signatures = one(headers, "webhook-signature")?;
    if id.is_empty() || id.len() > ID_BYTES_MAX || !timestamp.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Forged::Header);
    }
    let seconds: u64 = timestamp.parse().map_err(|_| Forged::Header)?;
    let right = signatures.split(' ').take(SIGNATURES_MAX).any(|signature| {
        let Some(signature) = signature.strip_prefix("v1,").and_then(|text| STANDARD.decode(text).ok()) else {
            return false;
        };
        secrets
            .iter()
            .any(|secret| secret.mac(id.as_bytes(), timestamp.as_bytes(), body).verify_slice(&signature).is_ok())
    });
    if !right {
        return Err(Forged::Signature);
    }
    if now.as_secs().abs_diff(seconds) > tolerance.as_secs() {
        return Err(Forged::Timestamp);
    }
    Ok(Verified { id: id.to_owned(), timestamp: seconds })
}

fn one<'h>(headers: &'h HeaderMap, name: &str) -> Result<&'h str, Forged> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().map_err(|_| Forged::Header),
        _ => Err(Forged::Header),
    }
}

/// What one event purges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventRule {
    /// Must be refilled.
    pub hard: Vec<Template>,
    /// May be served stale for the grace.
    pub soft: Vec<Template>,
    /// Gone.
    pub delete: Vec<Template>,
    /// What is hard stays so, however much it empties.
    pub firm: bool,
}

/// The rule for an event: the one with just this name, else the one with the longest prefix of it (a
/// name that ends in `*`); `None` for an event that nobody has mapped.
pub fn find_rule<'r>(rules: &'r BTreeMap<String, EventRule>, name: &str) -> Option<&'r EventRule> {
    rules.get(name).or_else(|| {
        let prefixes = rules.iter().filter_map(|(pattern, rule)| Some((pattern.strip_suffix('*')?, rule)));
        let fitting = prefixes.filter(|(prefix, _)| name.starts_with(prefix));
        fitting.max_by_key(|(prefix, _)| prefix.len()).map(|(_, rule)| rule)
    })
}

/// An event as it was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its name: `product.updated`.
    pub name: String,
    /// What it is about, one map for each thing.
    pub data: Vec<Map<String, Value>>,
    /// What admin clients are told in its place, as its sender says it: see [`super::notice::Notice::all`].
    pub notice: Option<Value>,
}

/// Most events in one delivery.
const EVENTS_MAX: usize = 10_000;

/// Reads the events of a body: one, a list of them, or `{"events": […]}`. The name stands at `type`,
/// `event` or `name`; `data` is an object, a bare id, or a list of these; `notice` may stand beside it.
///
/// # Errors
/// What is wrong, for the sender.
pub fn events(body: &[u8]) -> Result<Vec<Event>, String> {
    let value: Value = serde_json::from_slice(body).map_err(|error| format!("the body is not JSON: {error}"))?;
    let list = match value {
        Value::Array(list) => list,
        Value::Object(mut map) => match map.remove("events") {
            Some(Value::Array(list)) => list,
            Some(_) => return Err("`events` is not a list".into()),
            None => vec![Value::Object(map)],
        },
        _ => return Err("the body is neither an event nor a list of events".into()),
    };
    if list.len() > EVENTS_MAX {
        return Err(format!("{} events in one delivery, at most {EVENTS_MAX} are taken", list.len()));
    }
    list.into_iter().map(event).collect()
}

fn event(value: Value) -> Result<Event, String> {
    let Value::Object(mut map) = value else { return Err("an event is not an object".into()) };
    let name = ["type", "event", "name"].into_iter().find_map(|field| match map.get(field) {
        Some(Value::String(name)) => Some(name.clone()),
        _ => None,
    });
    let Some(name) = name else { return Err("an event has no `type`".into()) };
    let data = match map.remove("data") {
        Some(Value::Array(list)) => list.into_iter().filter_map(thing).collect(),
        Some(value) => thing(value).into_iter().collect(),
        None => Vec::new(),
    };
    Ok(Event { name, data, notice: map.remove("notice") })
}

fn thing(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(map) => Some(map),
        // Some events carry a bare id as their data.
        id @ (Value::String(_) | Value::Number(_)) => Some([("id".to_owned(), id)].into_iter().collect()),
        Value::Null | Value::Bool(_) | Value::Array(_) => None,
    }
}

/// The tags that an event purges, and the names that its data lacks.
pub fn expand(rule: &EventRule, event: &Event) -> (Vec<(String, Mode)>, Vec<String>) {
    let (mut tags, mut lacking) = (Vec::new(), Vec::new());
    // An import may name thousands of things in one event.
    let mut seen = HashSet::new();
    let lists = [(&rule.hard, Mode::Hard), (&rule.soft, Mode::Soft), (&rule.delete, Mode::Delete)];
    let nothing = [Map::new()];
    let things = if event.data.is_empty() { &nothing[..] } else { &event.data };
    for thing in things {
        for (templates, mode) in lists {
            for template in templates {
                let mut missing = None;
                let tag = template.expand(|name| {
                    let value = scalar(thing.get(name));
                    if value.is_none() {
                        missing = Some(name.to_owned());
                    }
                    value
                });
                match tag {
                    Some(tag) => {
                        if seen.insert((tag.clone(), mode)) {
                            tags.push((tag, mode));
                        }
                    }
                    None => lacking.extend(missing),
                }
            }
        }
    }
    (tags, lacking)
}

fn scalar(value: Option<&Value>) -> Option<Cow<'_, str>> {
    match value? {
        Value::String(text) if !text.is_empty() => Some(Cow::Borrowed(text)),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
    const TOLERANCE: Duration = Duration::from_secs(300);

    fn secret(text: &str) -> WebhookSecret {
        WebhookSecret::parse(text).unwrap()
    }

    fn signed(secret: &WebhookSecret, seconds: u64, body: &[u8]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", "msg_1".parse().unwrap());
        headers.insert("webhook-timestamp", seconds.to_string().parse().unwrap());
        headers.insert("webhook-signature", secret.sign("msg_1", seconds, body).parse().unwrap());
        headers
    }

    #[test]
    fn the_published_example_verifies() {
        // From the Standard Webhooks specification's reference implementations.
        let secret = secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let signature = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_delivery_is_believed_only_whole_and_in_time() {
        let (right, wrong) = (secret("whsec_AAAA"), secret("whsec_BBBB"));
        let seconds = NOW.as_secs();
        let check = |headers: &HeaderMap, body: &[u8], secrets: &[WebhookSecret]| {
            verify(headers, body, secrets, TOLERANCE, NOW).map(|verified| verified.id)
        };
        let headers = signed(&right, seconds, b"body");
        assert_eq!(check(&headers, b"body", std::slice::from_ref(&right)), Ok("msg_1".into()));
        assert_eq!(check(&headers, b"body", &[wrong.clone(), right.clone()]), Ok("msg_1".into()), "rotation");
        assert_eq!(check(&headers, b"Body", std::slice::from_ref(&right)), Err(Forged::Signature));
        assert_eq!(check(&headers, b"body", std::slice::from_ref(&wrong)), Err(Forged::Signature));
        assert_eq!(check(&headers, b"body", &[]), Err(Forged::Signature));
        for shifted in [seconds - 301, seconds + 301] {
            assert_eq!(
                check(&signed(&right, shifted, b"b"), b"b", std::slice::from_ref(&right)),
                Err(Forged::Timestamp)
            );
        }
        assert!(check(&signed(&right, seconds - 300, b"b"), b"b", std::slice::from_ref(&right)).is_ok());
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
            let mut without = headers.clone();
            without.remove(name);
            assert_eq!(check(&without, b"body", std::slice::from_ref(&right)), Err(Forged::Header), "{name}");
            let mut twice = headers.clone();
            twice.append(name, headers[name].clone());
            assert_eq!(check(&twice, b"body", std::slice::from_ref(&right)), Err(Forged::Header), "{name}");
        }
        for odd in ["", "+1800000000", "1e9", "-1", "99999999999999999999999"] {
            let mut odd_time = headers.clone();
            odd_time.insert("webhook-timestamp", odd.parse().unwrap());
            assert!(check(&odd_time, b"body", std::slice::from_ref(&right)).is_err(), "{odd}");
        }
        let mut several = headers.clone();
        let list = format!("v1,AAAA v2,x {}", right.sign("msg_1", seconds, b"body"));
        several.insert("webhook-signature", list.parse().unwrap());
        assert!(check(&several, b"body", &[right]).is_ok(), "one of several signatures is right");
    }

    #[test]
    fn events_come_in_several_shapes() {
        let names = |body: &str| {
            events(body.as_bytes())
                .map(|events| events.into_iter().map(|event| (event.name, event.data.len())).collect::<Vec<_>>())
        };
        let one = |count| Ok(vec![("a.b".to_owned(), count)]);
        assert_eq!(names(r#"{"type":"a.b","data":{"id":"x"}}"#), one(1));
        assert_eq!(names(r#"{"name":"a.b","data":"x"}"#), one(1));
        assert_eq!(names(r#"[{"event":"a.b","data":[{"id":"x"},"y",null]}]"#), one(2));
        assert_eq!(names(r#"{"events":[{"type":"a.b"}]}"#), one(0));
        for bad in ["", "x", "1", "[1]", "{}", r#"{"type":1}"#, r#"{"events":1}"#] {
            assert!(names(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_event_becomes_tags_or_says_what_it_lacks() {
        let templates = |texts: &[&str]| texts.iter().map(|text| Template::parse(text).unwrap()).collect();
        let rule =
            EventRule { hard: templates(&["{id}"]), soft: templates(&["list:product"]), delete: vec![], firm: false };
        let event = |data: &str| events(format!(r#"{{"type":"p","data":{data}}}"#).as_bytes()).unwrap().remove(0);
        let tag = |tag: &str, mode| (tag.to_owned(), mode);
        let list = || tag("list:product", Mode::Soft);
        assert_eq!(expand(&rule, &event(r#"{"id":"prod_1"}"#)), (vec![tag("prod_1", Mode::Hard), list()], vec![]));
        assert_eq!(expand(&rule, &event(r#"[17,"b"]"#)).0, [tag("17", Mode::Hard), list(), tag("b", Mode::Hard)]);
        assert_eq!(expand(&rule, &event(r#"{"x":1}"#)), (vec![list()], vec!["id".into()]));
        assert_eq!(expand(&rule, &event("[]")), (vec![list()], vec!["id".into()]));
    }
}
