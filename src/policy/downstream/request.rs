//! What a target is sent, in its own words.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, header};
use serde_json::{Value, json};

use super::{Part, Provider, Stretch, Target};
use crate::policy::purge::Mode;
use crate::policy::time::Timestamp;

/// The request that tells a target of this part of a stretch of the log.
pub fn request(target: &Target, name: &str, part: &Part, stretch: &Stretch, now: Timestamp) -> Request<Bytes> {
    let tags = match part {
        Part::Tags(tags) => Some(tags.as_slice()),
        Part::Everything => None,
    };
    let names = || tags.into_iter().flatten().map(|(tag, _)| tag.as_str()).collect::<Vec<_>>();
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
                Some(_) => (format!("/service/{service}/purge"), json!({ "surrogate_keys": names() }).to_string()),
                None => (format!("/service/{service}/purge_all"), String::new()),
            }
        }
        Provider::Cloudflare { zone, token, .. } => {
            headers.insert(header::AUTHORIZATION, secret(&format!("Bearer {token}")));
            let body = if tags.is_some() { json!({ "tags": names() }) } else { json!({ "purge_everything": true }) };
            (format!("/client/v4/zones/{zone}/purge_cache"), body.to_string())
        }
        Provider::NextJs { .. } => {
            let body = json!({ "tags": names(), "everything": tags.is_none(), "again": stretch.is_second });
            (String::new(), body.to_string())
        }
        Provider::Webhook { .. } => {
            let tag = |(tag, mode): &(String, Mode)| json!({ "tag": tag, "mode": mode.as_str() });
            let data = json!({
                "tags": tags.into_iter().flatten().map(tag).collect::<Vec<Value>>(),
                "everything": tags.is_none(),
                "again": stretch.is_second,
                "seq": stretch.to.to_string(),
            });
            (String::new(), json!({ "type": "purge", "timestamp": now.as_secs(), "data": data }).to_string())
        }
    };
    if let Provider::NextJs { secret } | Provider::Webhook { secret } = &target.provider {
        let (id, at) = (id(name, part, stretch), now.as_secs());
        let signature = secret.sign(&id, at, body.as_bytes());
        for (field, value) in
            [("webhook-id", id), ("webhook-timestamp", at.to_string()), ("webhook-signature", signature)]
        {
            headers.insert(field, HeaderValue::from_str(&value).expect("names and base64 are values"));
        }
    }
    if !body.is_empty() {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    let base = target.url.to_string();
    let uri = if path.is_empty() { base } else { format!("{}{path}", base.trim_end_matches('/')) };
    let mut request = Request::new(Bytes::from(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri.parse().unwrap_or_else(|_| target.url.clone());
    *request.headers_mut() = headers;
    request
}

/// The id of a delivery: the receiver may take the same one once. It is of what is said, so that a delivery that is
/// tried again keeps it, and no other has it: not a second purge, nor what stands in the place of a part that was refused.
fn id(name: &str, part: &Part, stretch: &Stretch) -> String {
    let hash = blake3::hash(format!("{part:?} {}", stretch.is_second).as_bytes()).to_hex();
    format!("{name}_{}_{}", stretch.to, hash.split_at(16).0)
}
