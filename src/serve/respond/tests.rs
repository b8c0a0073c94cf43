use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::policy::entry::tests::entry as stored;
use crate::policy::fields::Fields;
use crate::policy::route::tests::rule;

#[test]
fn cache_status_says_it_in_the_words_of_rfc_9211() {
    let origin = |status| Source::Origin(StatusCode::from_u16(status).unwrap());
    let failure = |status: Option<u16>| Failure {
        status: StatusCode::GATEWAY_TIMEOUT,
        reason: "upstream_timeout",
        origin_status: status.map(|status| StatusCode::from_u16(status).unwrap()),
        answer: None,
        own: None,
    };
    let with_ttl = |ttl| Said { ttl: Some(ttl), ..Said::new(Outcome::Hit) };
    for (said, expected) in [
        (with_ttl(57), "endcap; hit; ttl=57; detail=hit"),
        (with_ttl(999_999), "endcap; hit; ttl=999999; detail=hit"),
        (Said::new(Outcome::Stale), "endcap; hit; detail=stale"),
        (
            Said::filled(origin(200), Fwd::UriMiss, true, false),
            "endcap; fwd=uri-miss; fwd-status=200; stored; detail=miss",
        ),
        (Said::filled(origin(200), Fwd::Stale, true, false), "endcap; fwd=stale; fwd-status=200; stored; detail=miss"),
        (Said::filled(origin(200), Fwd::VaryMiss, false, false), "endcap; fwd=vary-miss; fwd-status=200; detail=miss"),
        (
            Said::filled(origin(304), Fwd::Stale, true, false),
            "endcap; fwd=stale; fwd-status=304; stored; detail=renewed",
        ),
        (
            Said::filled(origin(200), Fwd::UriMiss, true, true),
            "endcap; fwd=uri-miss; fwd-status=200; collapsed; detail=collapsed",
        ),
        // Another request's flight found it in a tier: a hit, and nothing went on.
        (Said::filled(Source::L1, Fwd::UriMiss, true, true), "endcap; hit; detail=hit"),
        (Said::filled(Source::L2, Fwd::UriMiss, true, false), "endcap; hit; detail=hit_l2"),
        (Said::new(Outcome::Pass).because("cookie").forwarded(Fwd::Bypass), "endcap; fwd=bypass; detail=pass.cookie"),
        (Said::new(Outcome::Pass).because("method").forwarded(Fwd::Method), "endcap; fwd=method; detail=pass.method"),
        // The origin was asked and gave no answer: 504 is our own.
        (
            Said::new(Outcome::Failed).forwarded(Fwd::UriMiss).failed(&failure(None)),
            "endcap; fwd=uri-miss; detail=failed.upstream_timeout",
        ),
        (
            Said::new(Outcome::StaleError).forwarded(Fwd::Stale).failed(&failure(Some(503))),
            "endcap; fwd=stale; fwd-status=503; detail=stale_error.upstream_timeout",
        ),
        // In the back-off nobody asks: the error is a remembered one.
        (Said::new(Outcome::Failed).failed(&failure(Some(503))), "endcap; detail=failed.upstream_timeout"),
        (Said::new(Outcome::StaleError).failed(&failure(None)), "endcap; hit; detail=stale_error.upstream_timeout"),
        (Said::new(Outcome::Refused).because("host"), "endcap; detail=refused.host"),
    ] {
        assert_eq!(said.cache_status(), expected);
    }
    let key = KeyHash::of(b"a");
    let miss = Said::filled(origin(200), Fwd::UriMiss, true, false).with_key(key);
    let name: String = key.to_string().chars().take(16).collect();
    assert_eq!(
        miss.cache_status(),
        format!("endcap; fwd=uri-miss; fwd-status=200; stored; key=\"{name}\"; detail=miss")
    );
    let found = Said::filled(Source::L2, Fwd::UriMiss, true, false).with_key(key);
    assert_eq!(found.cache_status(), "endcap; hit; detail=hit_l2", "nothing went on");
}

/// What a GET of a stored body with this tag is answered: status, fields, body.
fn answered(body: &[u8], etag: &str, request: &[(HeaderName, String)]) -> (StatusCode, HeaderMap, Bytes) {
    let fields = HeaderMap::from_iter([
        (header::ETAG, text(etag)),
        (header::CACHE_CONTROL, text("max-age=60, no-transform")),
        (header::CONTENT_LENGTH, body.len().into()),
    ]);
    let held = Entry { body: Bytes::copy_from_slice(body), fields: Fields::from(&fields), ..stored(b"key") };
    let request: HeaderMap = request.iter().map(|(name, value)| (name.clone(), text(value))).collect();
    let (rule, said) = (Arc::new(rule()), Said::new(Outcome::Hit));
    let asks = Asks { head: false, headers: &request, rule: &rule };
    let accepted = Accepted::PLAIN;
    let choice = Choice { form: None, missing: None };
    let response = entry(&asks, &held, &accepted, &choice, &said, Timestamp::from_millis(0));
    let (parts, body) = response.into_parts();
    let body = match body {
        Body::Empty => Bytes::new(),
        Body::Full(bytes) => bytes,
        Body::Stream(_) => panic!("a stored body is no stream"),
    };
    (parts.status, parts.headers, body)
}

/// The bytes that a range names (RFC 9110 §14.1.2), found by looking at each position; `None` for an invalid one.
fn named(first: Option<u64>, last: Option<u64>, length: usize) -> Option<Vec<usize>> {
    let wanted = |at: usize| {
        let at = at as u64;
        match (first, last) {
            (Some(first), Some(last)) => first <= at && at <= last,
            (Some(first), None) => first <= at,
            (None, Some(suffix)) => length as u64 - at <= suffix,
            (None, None) => false,
        }
    };
    let is_valid = match (first, last) {
        (Some(first), Some(last)) => first <= last,
        (first, last) => first.is_some() || last.is_some(),
    };
    is_valid.then(|| (0..length).filter(|at| wanted(*at)).collect())
}

proptest! {
    /// A 206 says which bytes it has, and they are those of the whole; where there are none it is 416; an invalid range
    /// gets the whole (RFC 9110 §14.2, §15.3.7, §15.5.17).
    #[test]
    fn a_part_is_a_slice_of_the_whole(
        body in proptest::collection::vec(any::<u8>(), 0..20),
        first in proptest::option::of(prop_oneof![0_u64..25, any::<u64>()]),
        last in proptest::option::of(prop_oneof![0_u64..25, any::<u64>()]),
    ) {
        let digits = |position: Option<u64>| position.map(|position| position.to_string()).unwrap_or_default();
        let range = format!("bytes={}-{}", digits(first), digits(last));
        let (status, fields, sent) = answered(&body, "\"1\"", &[(header::RANGE, range.clone())]);
        let length = body.len();
        prop_assert_eq!(&fields[header::CONTENT_LENGTH], &HeaderValue::from(sent.len()));
        match named(first, last, length).as_deref() {
            None => {
                prop_assert_eq!((status, &sent[..]), (StatusCode::OK, &body[..]), "{}", range);
                prop_assert!(!fields.contains_key(header::CONTENT_RANGE));
            }
            Some([]) => {
                prop_assert_eq!((status, sent.len()), (StatusCode::RANGE_NOT_SATISFIABLE, 0), "{}", range);
                prop_assert_eq!(&fields[header::CONTENT_RANGE], &format!("bytes */{length}"));
                prop_assert_eq!(&fields[header::CACHE_CONTROL], "no-store, no-transform");
            }
            Some(positions) => {
                let (from, to) = (positions[0], positions[positions.len() - 1]);
                let expected: Vec<u8> = positions.iter().map(|at| body[*at]).collect();
                prop_assert_eq!((status, &sent[..]), (StatusCode::PARTIAL_CONTENT, &expected[..]), "{}", range);
                prop_assert_eq!(&fields[header::CONTENT_RANGE], &format!("bytes {from}-{to}/{length}"));
            }
        }
    }

    /// A part goes to who began with the very same bytes: the tag is strong and the same (RFC 9110 §13.1.5).
    #[test]
    fn a_part_continues_the_same_bytes(own in "(W/)?\"[ab]?\"", asked in "(W/)?\"[ab]?\"") {
        let request = [(header::RANGE, "bytes=1-".to_owned()), (header::IF_RANGE, asked.clone())];
        let (status, _, sent) = answered(b"0123", &own, &request);
        let is_same = own == asked && !own.starts_with("W/");
        let expected = if is_same { (StatusCode::PARTIAL_CONTENT, &b"123"[..]) } else { (StatusCode::OK, &b"0123"[..]) };
        prop_assert_eq!((status, &sent[..]), expected);
    }
}
