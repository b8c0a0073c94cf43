//! The request of a fill, and the answer as it is stored: both pure functions.

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};

use super::cache_control::CacheControl;
use super::entry::Entry;
use super::etag;
use super::fields::Fields;
use super::hop_by_hop;
use super::key::KeyView;
use super::lifetime::date;
use super::purge::Purged;
use super::route::Rule;
use super::tags::Tags;
use super::time::Timestamp;

/// RFC 9211.
pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Never forwarded to a fill: what belongs to one hop or one message, what we write ourselves, and what
/// only a trusted proxy may say.
const NOT_FORWARDED: [&str; 14] = [
    "content-length",
    "expect",
    "forwarded",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "max-forwards",
    "range",
    "trailer",
    "via",
    "x-real-ip",
];

/// The client's fields that a fill sends beside those of the key (hop-by-hop ones are gone): what the
/// rule forwards.
pub fn forwarded(rule: &Rule, client: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if rule.forward.is_empty() {
        return headers;
    }
    for (name, value) in client.iter().filter(|(name, _)| is_forwarded(rule, name)) {
        headers.append(name.clone(), value.clone());
    }
    hop_by_hop::strip_request(&mut headers, false);
    headers
}

/// Whether a fill sends this field of its client.
pub fn is_forwarded(rule: &Rule, name: &HeaderName) -> bool {
    rule.forward.contains(name.as_str())
        && NOT_FORWARDED.binary_search(&name.as_str()).is_err()
        && !name.as_str().starts_with("x-forwarded-")
}

/// Builds the request that a fill sends: the key, what the rule forwards of its client, and nothing
/// else. With a `previous` entry that has a validator it asks whether that still holds.
pub fn fill_request(key: &KeyView<'_>, forwarded: &HeaderMap, previous: Option<&Entry>) -> Option<Request<()>> {
    let target = match key.query {
        "" => PathAndQuery::try_from(key.path),
        query => PathAndQuery::try_from(format!("{}?{query}", key.path)),
    };
    let mut request = Request::new(());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = Uri::from(target.ok()?);
    let headers = request.headers_mut();
    headers.clone_from(forwarded);
    if let Some(host) = key.host {
        headers.insert(header::HOST, HeaderValue::from_str(host).ok()?);
    }
    for (name, value) in &key.headers {
        headers.insert(name.clone(), value.clone());
    }
    // The origin is asked for the plain form, unless the rule leaves that to the client and it has a wish.
    headers.entry(header::ACCEPT_ENCODING).or_insert(HeaderValue::from_static("identity"));
    headers.insert(header::VIA, HeaderValue::from_static("1.1 endcap"));
    headers.extend(previous.and_then(condition));
    Some(request)
}

/// What a fill asks about an entry, if it has something to ask by. What is no entity tag would ask something else:
/// `*` about anything at all, a list about what nobody has (RFC 9110 §8.8.3, §13.1.2).
fn condition(previous: &Entry) -> Option<(HeaderName, HeaderValue)> {
    let stored = previous.fields.to_map();
    let etag = etag::only(&stored).filter(|_| !previous.has_own_etag);
    if let Some(etag) = etag {
        return Some((header::IF_NONE_MATCH, etag.clone()));
    }
    let modified = stored.get(header::LAST_MODIFIED)?;
    let is_told_apart = previous.seen.purged() == Purged::No || is_strong(&stored);
    is_told_apart.then(|| (header::IF_MODIFIED_SINCE, modified.clone()))
}

/// Whether a 304 with these fields is about the entry that was asked about: an entity tag, if it has one, is the
/// entry's, and without one its `Last-Modified` is (RFC 9111 §4.3.4). A 304 that nobody asked for is about nothing. Nor does one renew what a purge would no
/// longer find: the tags that its fields name are the entry's.
pub fn confirms(rule: &Rule, previous: &Entry, fresh: &HeaderMap) -> bool {
    let mut tags = Tags::new();
    tags.add_headers(rule, fresh);
    tags.are_among(&previous.tags) && is_about(previous, fresh)
}

fn is_about(previous: &Entry, fresh: &HeaderMap) -> bool {
    let opaque = |tag: &HeaderValue| tag.as_bytes().strip_prefix(b"W/").unwrap_or(tag.as_bytes()).to_vec();
    let stored = previous.fields.to_map();
    let is_the_entrys = |tag: &HeaderValue| {
        let etag = stored.get(header::ETAG).filter(|_| !previous.has_own_etag);
        etag.is_some_and(|etag| opaque(etag) == opaque(tag))
    };
    condition(previous).is_some()
        && match fresh.get(header::ETAG) {
            Some(tag) => is_the_entrys(tag),
            None => !fresh.contains_key(header::LAST_MODIFIED) || is_of_one_time(&stored, fresh),
        }
}

/// Whether both say that they were last modified at one time, in whatever form of a date.
fn is_of_one_time(stored: &HeaderMap, fresh: &HeaderMap) -> bool {
    let said = |headers: &HeaderMap| date(headers, header::LAST_MODIFIED);
    let is_same_text = || stored.get(header::LAST_MODIFIED) == fresh.get(header::LAST_MODIFIED);
    said(stored).zip(said(fresh)).map_or_else(is_same_text, |(stored, fresh)| stored == fresh)
}

/// Whether a `Last-Modified` tells two versions of one second apart: it lies a second or more before the `Date`
/// (RFC 9110 §8.8.2.2). What changed in the second of the fill would else be confirmed after its own purge.
fn is_strong(headers: &HeaderMap) -> bool {
    let (made, modified) = (date(headers, header::DATE), date(headers, header::LAST_MODIFIED));
    matches!((made, modified), (Some(made), Some(modified)) if made > modified)
}

/// Turns an origin's fields (hop-by-hop ones gone) into those that are stored and sent. The rule's
/// `Cache-Control` is for what `lasts`: an error, or what the route does not expect, keeps the origin's. A body
/// `is_encodable` that may be sent in our encodings; its `length` in bytes is that of [`content_length`].
pub fn stored_fields(
    rule: &Rule,
    mut headers: HeaderMap,
    length: Option<usize>,
    tag_fields: HeaderMap,
    now: Timestamp,
    lasts: bool,
    is_encodable: bool,
) -> Fields {
    for name in &rule.tag_headers {
        headers.remove(name);
    }
    headers.extend(tag_fields);
    if !rule.trust.cookies {
        headers.remove(header::SET_COOKIE);
    }
    headers.remove(header::CONTENT_LENGTH);
    // What it announces came behind the body, and is not kept (RFC 9110 §6.5.1, §6.6.2).
    headers.remove(header::TRAILER);
    headers.extend(length.map(|length| (header::CONTENT_LENGTH, HeaderValue::from(length))));
    if !headers.contains_key(header::DATE)
        && let Ok(date) = HeaderValue::from_str(&httpdate::fmt_http_date(now.to_system_time()))
    {
        headers.insert(header::DATE, date);
    }
    if let (Some(control), true) = (&rule.cache_control, lasts) {
        headers.insert(header::CACHE_CONTROL, control.clone());
    }
    if rule.cors.is_some() {
        headers.remove(header::ACCESS_CONTROL_ALLOW_ORIGIN);
        vary_by(&mut headers, "Origin");
    }
    if is_encodable {
        // What is plain may say so or not: an encoded form says what it is.
        headers.remove(header::CONTENT_ENCODING);
        vary_by(&mut headers, "Accept-Encoding");
    }
    Fields::from(&headers)
}

/// The length that an answer says; none with a status that has no content (RFC 9110 §8.6).
pub fn content_length(status: StatusCode, body: &Bytes) -> Option<usize> {
    (status != StatusCode::NO_CONTENT).then_some(body.len())
}

/// Says that answers vary by a request field, unless that is said already.
fn vary_by(headers: &mut HeaderMap, field: &str) {
    let names_it = |value: &HeaderValue| {
        value.to_str().is_ok_and(|value| value.split(',').any(|name| name.trim().eq_ignore_ascii_case(field)))
    };
    if !headers.get_all(header::VARY).iter().any(names_it)
        && let Ok(field) = HeaderValue::from_str(field)
    {
        headers.append(header::VARY, field);
    }
}

/// Updates stored fields from a 304 (RFC 9111 §3.2): its fields replace ours, but for those that say what the
/// bytes that we keep are. A rule that stores one media type alone keeps that too.
pub fn renewed_headers(rule: &Rule, stored: &HeaderMap, fresh: &HeaderMap) -> HeaderMap {
    let mut headers = stored.clone();
    let describes_body = [header::CONTENT_LENGTH, header::CONTENT_ENCODING, header::CONTENT_RANGE, header::ETAG];
    let is_kept = |name: &HeaderName| {
        describes_body.contains(name)
            || name.as_str() == "content-md5"
            || (*name == header::CONTENT_TYPE && rule.content_type.is_some())
    };
    for name in fresh.keys().filter(|name| !is_kept(name)) {
        headers.remove(name);
        for value in fresh.get_all(name) {
            headers.append(name.clone(), value.clone());
        }
    }
    // The bytes were chosen by all that their own answer named: a 304 that names less makes them nobody else's.
    for value in stored.get_all(header::VARY).iter().filter_map(|value| value.to_str().ok()) {
        for field in value.split(',').map(str::trim).filter(|field| !field.is_empty()) {
            vary_by(&mut headers, field);
        }
    }
    if !fresh.contains_key(header::DATE) {
        // Without one it was made just now; the stored date would make it as old as what it renews.
        headers.remove(header::DATE);
    }
    headers
}

/// The `renewed` fields as the origin means them: where the rule's own `Cache-Control` stands among them, the origin's
/// is what it says now.
pub fn origin_words(rule: &Rule, renewed: &HeaderMap, fresh: &HeaderMap) -> HeaderMap {
    let mut words = renewed.clone();
    if rule.cache_control.is_some() {
        words.remove(header::CACHE_CONTROL);
        words.extend(fresh.get_all(header::CACHE_CONTROL).iter().map(|value| (header::CACHE_CONTROL, value.clone())));
    }
    words
}

/// Whether a 304 tells how long what it renews is good: in its own words, or by the targeted field that is stored and
/// goes before them (RFC 9213 §2.2).
pub fn tells_lifetime(words: &HeaderMap, fresh: &HeaderMap) -> bool {
    let says = |name| fresh.contains_key(name);
    says(header::CACHE_CONTROL) || says(header::EXPIRES) || CacheControl::parse_targeted(words).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::key::Key;
    use crate::policy::route::Patterns;
    use crate::policy::route::tests::rule;

    fn map(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn the_fill_sends_the_key_and_nothing_else() {
        let client = map(&[
            ("x-publishable-api-key", "pk"),
            ("x-forwarded-host", "evil"),
            ("cookie", "_ga=1"),
            ("accept-language", "fr"),
            ("if-none-match", "\"x\""),
            ("range", "bytes=0-1"),
        ]);
        let key = Key::of_request(&rule(), "/store/products", Some("q=a&utm_source=x"), "h", &client).unwrap();
        let sent = |rule: &Rule| {
            let request = fill_request(&key.view().unwrap(), &forwarded(rule, &client), None).unwrap();
            assert_eq!(request.uri(), "/store/products?q=a");
            request.into_parts().0.headers
        };
        let own = [("x-publishable-api-key", "pk"), ("accept-encoding", "identity"), ("via", "1.1 endcap")];
        assert_eq!(sent(&rule()), map(&own));
        // What the rule forwards comes beside it; validators, ranges and a stranger's word on where it is from never do.
        let open = Rule { forward: Patterns::new(["*"]), ..rule() };
        assert_eq!(sent(&open), map(&[&own[..], &[("cookie", "_ga=1"), ("accept-language", "fr")]].concat()));
        let one = Rule { forward: Patterns::new(["accept-language"]), ..rule() };
        assert_eq!(sent(&one), map(&[&own[..], &[("accept-language", "fr")]].concat()));
    }

    #[test]
    fn a_date_tells_versions_apart_that_are_a_second_apart() {
        let at = |date: &str, modified: &str| is_strong(&map(&[("date", date), ("last-modified", modified)]));
        let (earlier, later) = ("Thu, 01 Jan 2026 00:00:00 GMT", "Thu, 01 Jan 2026 00:00:01 GMT");
        assert!(at(later, earlier));
        assert!(!at(later, later) && !at(earlier, later) && !at("", earlier) && !at(later, ""));
    }

    #[test]
    fn what_is_never_forwarded_is_in_order_to_be_found() {
        assert!(NOT_FORWARDED.is_sorted());
    }

    #[test]
    fn what_is_stored_is_what_every_client_may_see() {
        let origin = map(&[
            ("surrogate-key", "a"),
            ("age", "5"),
            ("content-type", "application/json"),
            ("trailer", "x-sum"),
            ("x-a", "1"),
            ("x-a", "2"),
        ]);
        let stored = stored_fields(&rule(), origin, Some(2), HeaderMap::new(), Timestamp::default(), true, false);
        let expected = map(&[
            ("content-type", "application/json"),
            ("x-a", "1"),
            ("x-a", "2"),
            ("content-length", "2"),
            ("date", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ]);
        assert_eq!(stored.to_map(), expected);
    }

    #[test]
    fn what_may_be_sent_encoded_varies_by_what_the_client_takes() {
        let varies = |origin: &[(&str, &str)]| {
            let stored =
                stored_fields(&rule(), map(origin), Some(0), HeaderMap::new(), Timestamp::default(), true, true)
                    .to_map();
            assert!(!stored.contains_key("content-encoding"));
            let values: Vec<_> =
                stored.get_all("vary").iter().map(|value| value.to_str().unwrap().to_owned()).collect();
            values.join(", ")
        };
        assert_eq!(varies(&[("content-encoding", "identity")]), "Accept-Encoding");
        assert_eq!(varies(&[("vary", "Origin")]), "Origin, Accept-Encoding");
        assert_eq!(varies(&[("vary", "Origin,accept-encoding")]), "Origin,accept-encoding");
    }

    #[test]
    fn an_answer_for_one_origin_is_stored_for_all_when_we_answer_cors() {
        let mut rule = rule();
        rule.cors = crate::policy::cors::Cors::new(["https://a"]).map(Into::into);
        let origin = map(&[("access-control-allow-origin", "https://a"), ("date", "x")]);
        let stored = stored_fields(&rule, origin, Some(0), HeaderMap::new(), Timestamp::default(), true, false);
        assert_eq!(stored.to_map(), map(&[("date", "x"), ("content-length", "0"), ("vary", "Origin")]));
    }

    #[test]
    fn a_304_renews_fields_but_not_those_of_the_body() {
        let stored = map(&[("etag", "\"a\""), ("content-length", "9"), ("x-a", "1"), ("x-b", "1"), ("date", "old")]);
        let fresh = map(&[("etag", "W/\"a\""), ("content-length", "0"), ("x-a", "2"), ("x-a", "3"), ("x-c", "4")]);
        let expected =
            map(&[("etag", "\"a\""), ("content-length", "9"), ("x-b", "1"), ("x-a", "2"), ("x-a", "3"), ("x-c", "4")]);
        assert_eq!(renewed_headers(&rule(), &stored, &fresh), expected);
        let (old, new) = (map(&[("content-type", "a/b")]), map(&[("content-type", "c/d"), ("date", "x")]));
        assert_eq!(renewed_headers(&rule(), &old, &new), map(&[("content-type", "a/b"), ("date", "x")]));
        let any = Rule { content_type: None, ..rule() };
        assert_eq!(renewed_headers(&any, &old, &new), new);
        let varies = |vary| map(&[("vary", vary), ("date", "x")]);
        for (stored, fresh, expected) in [
            ("x-locale", "accept-encoding", &["accept-encoding", "x-locale"][..]),
            ("a, X-Locale", "x-locale, b", &["x-locale, b", "a"]),
            ("a", "*", &["*", "a"]),
        ] {
            let renewed = renewed_headers(&rule(), &varies(stored), &varies(fresh));
            assert_eq!(renewed.get_all("vary").iter().collect::<Vec<_>>(), expected, "{stored} {fresh}");
        }
    }
}
