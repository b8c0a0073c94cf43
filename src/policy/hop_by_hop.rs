//! Fields that are meant for the next hop only, and go no further (RFC 9110 §7.6.1).
//!
//! `Connection` lets a sender name fields that the next hop must drop. A client that may drop any
//! field of ours has a weapon: it can make the origin forget who asks (CVE-2022-31813 dropped
//! `X-Forwarded-For`), or a cache forget that an answer was private. So a field that is known to be
//! end-to-end stays, whoever names it.

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};

/// For one hop whatever `Connection` says, in requests and in answers.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "te",
    "transfer-encoding",
    "http2-settings",
];

/// Never dropped because `Connection` names it: framing, identity, who asks, and all that decides
/// about caching.
const END_TO_END: [&str; 47] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "age",
    "authorization",
    "cache-control",
    "cache-tag",
    "cdn-cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-security-policy",
    "content-type",
    "cookie",
    "date",
    "etag",
    "expect",
    "expires",
    "forwarded",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "origin",
    "pragma",
    "range",
    "referer",
    "retry-after",
    "server",
    "set-cookie",
    "strict-transport-security",
    "surrogate-control",
    "surrogate-key",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "x-real-ip",
    "xkey",
];

/// Families of fields that are as protected: forwarding, CORS.
const END_TO_END_PREFIXES: [&str; 3] = ["access-control-", "sec-", "x-forwarded-"];

/// Strips a request that is to be sent on. With `keep_upgrade`, a wish to speak WebSocket stays,
/// written anew: `Upgrade: websocket` and `Connection: upgrade`; no other protocol does (an h2c
/// that went through would be a tunnel past every rule).
pub fn strip_request(headers: &mut HeaderMap, keep_upgrade: bool) {
    strip(headers, keep_upgrade);
    // Trailers of requests end here: few origins expect them, and many parsers have been wrong.
    headers.remove("trailer");
}

/// Strips an answer that is to be sent on or stored. `Trailer` stays, for it describes what the
/// body brings; with `keep_upgrade` so does the agreement to speak WebSocket.
pub fn strip_response(headers: &mut HeaderMap, keep_upgrade: bool) {
    strip(headers, keep_upgrade);
}

/// The fields that `Connection` names, end-to-end ones included: who wants to refuse those can.
/// What is no field name (`close` is one, `a b` is not) is left out.
pub fn named_by_connection(headers: &HeaderMap) -> impl Iterator<Item = HeaderName> {
    headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
}

/// Whether a field stays although `Connection` names it.
pub fn is_end_to_end(name: &HeaderName) -> bool {
    END_TO_END.binary_search(&name.as_str()).is_ok()
        || END_TO_END_PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix))
}

fn strip(headers: &mut HeaderMap, keep_upgrade: bool) {
    let is_websocket = keep_upgrade && wants_websocket(headers);
    // Most messages have no Connection, and then this allocates nothing.
    let named: Vec<HeaderName> = named_by_connection(headers).filter(|name| !is_end_to_end(name)).collect();
    for name in named {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    headers.remove(UPGRADE);
    if is_websocket {
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

/// Exactly one protocol, WebSocket, and `Connection` that names the field, as RFC 9110 §7.8 asks.
fn wants_websocket(headers: &HeaderMap) -> bool {
    let mut protocols = headers.get_all(UPGRADE).iter();
    let is_websocket = protocols.next().is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    is_websocket && protocols.next().is_none() && named_by_connection(headers).any(|name| name == UPGRADE)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Fields = &'static [(&'static str, &'static str)];

    fn map(fields: Fields) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn check(strip: fn(&mut HeaderMap, bool), keep_upgrade: bool, fields: Fields, expected: Fields) {
        let mut headers = map(fields);
        strip(&mut headers, keep_upgrade);
        assert_eq!(headers, map(expected), "{fields:?}");
    }

    #[test]
    fn what_is_for_one_hop_goes_no_further() {
        for strip in [strip_request, strip_response] {
            check(strip, false, &[("x-a", "1")], &[("x-a", "1")]);
            check(strip, false, &[("connection", "close"), ("x-a", "1")], &[("x-a", "1")]);
            check(strip, false, &[("keep-alive", "timeout=5"), ("proxy-connection", "keep-alive")], &[]);
            check(strip, false, &[("proxy-authorization", "Basic x"), ("proxy-authenticate", "Basic")], &[]);
            check(strip, false, &[("te", "trailers"), ("transfer-encoding", "chunked")], &[]);
            check(strip, false, &[("transfer-encoding", "gzip"), ("transfer-encoding", "chunked")], &[]);
            check(strip, false, &[("upgrade", "h2c"), ("http2-settings", "AAMAAABk")], &[]);
        }
        check(strip_request, false, &[("trailer", "x-sum")], &[]);
        check(strip_response, false, &[("trailer", "x-sum")], &[("trailer", "x-sum")]);
    }

    #[test]
    fn connection_drops_what_it_names_but_nothing_that_others_need() {
        for strip in [strip_request, strip_response] {
            check(
                strip,
                false,
                &[("connection", "x-a, X-B"), ("x-a", "1"), ("x-b", "2"), ("x-c", "3")],
                &[("x-c", "3")],
            );
            check(strip, false, &[("connection", "x-a"), ("connection", ",, x-b ,"), ("x-a", "1"), ("x-b", "2")], &[]);
            check(strip, false, &[("connection", "a b, ;"), ("x-a", "1")], &[("x-a", "1")]);
            check(strip, false, &[("connection", "host"), ("host", "shop")], &[("host", "shop")]);
            check(
                strip,
                false,
                &[("connection", "Content-Length"), ("content-length", "5")],
                &[("content-length", "5")],
            );
            check(strip, false, &[("connection", "authorization"), ("authorization", "x")], &[("authorization", "x")]);
            check(strip, false, &[("connection", "cookie"), ("cookie", "a=b")], &[("cookie", "a=b")]);
            check(strip, false, &[("connection", "set-cookie"), ("set-cookie", "a=b")], &[("set-cookie", "a=b")]);
            check(
                strip,
                false,
                &[("connection", "cache-control"), ("cache-control", "private")],
                &[("cache-control", "private")],
            );
            check(
                strip,
                false,
                &[("connection", "x-forwarded-for"), ("x-forwarded-for", "1.2.3.4")],
                &[("x-forwarded-for", "1.2.3.4")],
            );
        }
    }

    #[test]
    fn an_upgrade_stays_only_where_it_may_and_only_to_websocket() {
        const WISH: Fields = &[("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket"), ("x-a", "1")];
        const KEPT: Fields = &[("connection", "upgrade"), ("upgrade", "websocket"), ("x-a", "1")];
        for strip in [strip_request, strip_response] {
            check(strip, false, WISH, &[("x-a", "1")]);
            check(strip, true, WISH, KEPT);
            check(strip, true, &[("upgrade", "websocket")], &[]);
            check(strip, true, &[("connection", "upgrade"), ("upgrade", "h2c")], &[]);
            check(strip, true, &[("connection", "upgrade"), ("upgrade", "websocket, h2c")], &[]);
            check(strip, true, &[("connection", "upgrade"), ("upgrade", "websocket"), ("upgrade", "h2c")], &[]);
        }
    }

    #[test]
    fn the_table_can_be_searched() {
        assert!(END_TO_END.is_sorted());
        assert!(is_end_to_end(&HeaderName::from_static("host")));
        assert!(is_end_to_end(&HeaderName::from_static("sec-websocket-key")));
        assert!(!is_end_to_end(&HeaderName::from_static("keep-alive")));
    }
}
