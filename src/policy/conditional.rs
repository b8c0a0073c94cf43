//! What a client that holds something already is sent: the whole, a part, or that nothing has changed.

use std::ops::Range;

use http::{HeaderMap, StatusCode, header};

use super::lifetime::date;

/// What of a stored answer goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selected {
    /// All of it.
    Whole,
    /// 304: the client has it.
    NotModified,
    /// 206: these bytes.
    Part(Range<usize>),
    /// 416: the body has no such bytes.
    Unsatisfiable,
}

/// Evaluates `If-None-Match`, `If-Modified-Since`, `If-Range` and `Range` in the order of RFC 9110 §13.2.2.
/// `If-Match` and `If-Unmodified-Since` are for origins alone (RFC 9111 §4.3.2). Only a stored 200 is
/// selected from, and parts only for GET (RFC 9110 §14.2).
pub fn select(request: &HeaderMap, is_get: bool, status: StatusCode, stored: &HeaderMap, length: usize) -> Selected {
    if status != StatusCode::OK {
        return Selected::Whole;
    }
    let is_known = if request.contains_key(header::IF_NONE_MATCH) {
        names_validator(request, stored)
    } else {
        is_unmodified(request, stored)
    };
    if is_known {
        return Selected::NotModified;
    }
    if is_get && request.contains_key(header::RANGE) && is_same(request, stored) {
        return part(request, length);
    }
    Selected::Whole
}

/// Whether `If-None-Match` names the stored validator, by weak comparison (RFC 9110 §13.1.2). What has no
/// quotes is no entity tag, but two that are the same bytes are the same.
fn names_validator(request: &HeaderMap, stored: &HeaderMap) -> bool {
    let own = stored.get(header::ETAG).map(|etag| opaque(etag.as_bytes()));
    let names = |tag: &[u8]| tag == b"*" || own.is_some_and(|own| opaque(tag) == own);
    request.get_all(header::IF_NONE_MATCH).iter().any(|value| entity_tags(value.as_bytes()).any(names))
}

/// Whether nothing has changed since `If-Modified-Since`: counted from `Last-Modified`, else from `Date`
/// (RFC 9111 §4.3.2). A date that cannot be read is ignored (RFC 9110 §13.1.3).
fn is_unmodified(request: &HeaderMap, stored: &HeaderMap) -> bool {
    let Some(since) = date(request, header::IF_MODIFIED_SINCE) else { return false };
    let modified = match stored.contains_key(header::LAST_MODIFIED) {
        true => date(stored, header::LAST_MODIFIED),
        false => date(stored, header::DATE),
    };
    modified.is_some_and(|modified| modified <= since)
}

/// Whether `If-Range` lets a part be sent: absent, or a strong validator that is the stored one (RFC 9110
/// §13.1.5). A date is strong when the answer was made a second or more after it (§8.8.2.2).
fn is_same(request: &HeaderMap, stored: &HeaderMap) -> bool {
    let Some(condition) = request.get(header::IF_RANGE) else { return true };
    if let Some(asked) = date(request, header::IF_RANGE) {
        let made = date(stored, header::DATE).unwrap_or_default();
        return date(stored, header::LAST_MODIFIED) == Some(asked) && made.as_secs() > asked.as_secs();
    }
    let is_strong = condition.as_bytes().starts_with(b"\"");
    is_strong && stored.get(header::ETAG) == Some(condition)
}

/// The part that a single range of bytes names (RFC 9110 §14.1.2). Several ranges, another unit and what cannot
/// be read are ignored, as §14.2 allows.
fn part(request: &HeaderMap, length: usize) -> Selected {
    let mut values = request.get_all(header::RANGE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Selected::Whole };
    let Some((unit, spec)) = value.to_str().ok().and_then(|text| text.split_once('=')) else { return Selected::Whole };
    let Some((first, last)) = spec.trim().split_once('-') else { return Selected::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Selected::Whole;
    }
    // Beyond any length is as good as the end of it.
    let position = |digits: &str| {
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| digits.parse::<usize>().unwrap_or(usize::MAX))
    };
    let range = match (first, position(first), last, position(last)) {
        (_, Some(first), "", _) => first..length,
        (_, Some(first), _, Some(last)) if first <= last => first..last.saturating_add(1).min(length),
        ("", _, _, Some(suffix)) => length.saturating_sub(suffix)..length,
        _ => return Selected::Whole,
    };
    if range.start >= range.end { Selected::Unsatisfiable } else { Selected::Part(range) }
}

/// An entity tag without its mark of weakness.
fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// The members of a list of entity tags. A comma may stand inside a tag's quotes.
fn entity_tags(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    value
        .split(move |byte| {
            quoted ^= *byte == b'"';
            *byte == b',' && !quoted
        })
        .map(<[u8]>::trim_ascii)
        .filter(|tag| !tag.is_empty())
}

#[cfg(test)]
mod tests {
    use http::HeaderName;
    use proptest::prelude::*;

    use super::*;

    const EARLY: &str = "Wed, 01 Jan 2020 00:00:00 GMT";
    const LATER: &str = "Wed, 01 Jan 2020 00:00:01 GMT";

    fn map(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        headers
    }

    fn of(request: &[(&str, &str)], stored: &[(&str, &str)]) -> Selected {
        select(&map(request), true, StatusCode::OK, &map(stored), 10)
    }

    fn is_known(request: &[(&str, &str)], stored: &[(&str, &str)]) -> bool {
        of(request, stored) == Selected::NotModified
    }

    #[test]
    fn entity_tags_compare_weakly() {
        for (own, sent, same) in [
            ("W/\"a,b\"", "\"a,b\"", true),
            ("W/\"a,b\"", "\"x\", W/\"a,b\"", true),
            ("W/\"a,b\"", "*", true),
            ("W/\"a,b\"", "\"a\"", false),
            ("W/\"a,b\"", "", false),
            ("W/\"a,b\"", "a,b", false),
            ("\"a\"", "\"a\", \"b\", \"c\"", true),
            ("\"a\"", "\"b\", \"a\", \"c\"", true),
            ("\"a\"", "\"b\",\"c\",W/\"a\"", true),
            ("\"a\"", "\"A\"", false),
            ("\"a\"", "a", false),
            ("a", "\"a\"", false),
            ("a", "a", true),
            ("w/\"a\"", "\"a\"", false),
            ("\"\u{e4}\"", "\"\u{e4}\"", true),
        ] {
            assert_eq!(is_known(&[("if-none-match", sent)], &[("etag", own)]), same, "{own} {sent}");
        }
        assert!(is_known(&[("if-none-match", "\"b\""), ("if-none-match", "\"a\"")], &[("etag", "\"a\"")]));
        assert!(is_known(&[("if-none-match", "*")], &[]), "there is something");
        assert!(!is_known(&[], &[("etag", "\"a\"")]));
    }

    #[test]
    fn dates_count_only_without_entity_tags() {
        let since = |date| [("if-modified-since", date)];
        assert!(is_known(&since(EARLY), &[("last-modified", EARLY)]));
        assert!(is_known(&since(LATER), &[("last-modified", EARLY)]));
        assert!(!is_known(&since(EARLY), &[("last-modified", LATER)]));
        assert!(is_known(&since("Wednesday, 01-Jan-20 00:00:01 GMT"), &[("last-modified", EARLY)]));
        assert!(is_known(&since(EARLY), &[("date", EARLY)]) && !is_known(&since(EARLY), &[("date", LATER)]));
        assert!(!is_known(&since(LATER), &[("last-modified", "gestern"), ("date", EARLY)]));
        assert!(!is_known(&since("yesterday"), &[("last-modified", EARLY)]));
        assert!(!is_known(&since(EARLY), &[]));
        let both = [("if-none-match", "\"b\""), ("if-modified-since", LATER)];
        assert!(!is_known(&both, &[("etag", "\"a\""), ("last-modified", EARLY)]));
    }

    #[test]
    fn a_single_range_of_a_body_of_ten() {
        for (range, expected) in [
            ("bytes=0-1", Selected::Part(0..2)),
            ("bytes=1-", Selected::Part(1..10)),
            ("bytes=-1", Selected::Part(9..10)),
            ("bytes=-99", Selected::Part(0..10)),
            ("bytes=9-99", Selected::Part(9..10)),
            ("bytes=0-99999999999999999999999", Selected::Part(0..10)),
            ("Bytes=0-0", Selected::Part(0..1)),
            ("bytes=10-", Selected::Unsatisfiable),
            ("bytes=99999999999999999999999-", Selected::Unsatisfiable),
            ("bytes=-0", Selected::Unsatisfiable),
            ("bytes=0-1,3-4", Selected::Whole),
            ("bytes=2-1", Selected::Whole),
            ("bytes=-", Selected::Whole),
            ("bytes=a-b", Selected::Whole),
            ("bytes=+1-2", Selected::Whole),
            ("bytes=0 - 1", Selected::Whole),
            ("bytes", Selected::Whole),
            ("items=0-1", Selected::Whole),
            ("", Selected::Whole),
        ] {
            assert_eq!(of(&[("range", range)], &[]), expected, "{range}");
        }
        assert_eq!(of(&[("range", "bytes=0-1"), ("range", "bytes=2-3")], &[]), Selected::Whole);
        let of = |is_get, status, length| select(&map(&[("range", "bytes=0-1")]), is_get, status, &map(&[]), length);
        assert_eq!(of(false, StatusCode::OK, 10), Selected::Whole, "HEAD");
        assert_eq!(of(true, StatusCode::NOT_FOUND, 10), Selected::Whole);
        assert_eq!(of(true, StatusCode::OK, 0), Selected::Unsatisfiable);
    }

    #[test]
    fn a_part_is_sent_only_of_what_the_client_has_begun_with() {
        let part = |condition, stored: &[(&str, &str)]| of(&[("range", "bytes=0-1"), ("if-range", condition)], stored);
        let (yes, no) = (Selected::Part(0..2), Selected::Whole);
        assert_eq!(part("\"a\"", &[("etag", "\"a\"")]), yes);
        assert_eq!(part("\"b\"", &[("etag", "\"a\"")]), no);
        assert_eq!(part("W/\"a\"", &[("etag", "W/\"a\"")]), no, "weak says nothing of bytes");
        assert_eq!(part("a", &[("etag", "a")]), no);
        assert_eq!(part(EARLY, &[("last-modified", EARLY), ("date", LATER)]), yes);
        assert_eq!(part(EARLY, &[("last-modified", EARLY), ("date", EARLY)]), no, "it may have changed in that second");
        assert_eq!(part(LATER, &[("last-modified", EARLY), ("date", LATER)]), no);
        assert_eq!(part("\"a\"", &[]), no);
        let all = [("range", "bytes=0-1"), ("if-none-match", "\"a\"")];
        assert_eq!(of(&all, &[("etag", "\"a\"")]), Selected::NotModified);
        assert_eq!(of(&all, &[("etag", "\"b\"")]), yes);
    }

    proptest! {
        /// Whatever is asked for, what is sent lies in the body.
        #[test]
        fn a_part_lies_in_the_body(range in "(bytes=)?[0-9a-z,= -]{0,16}", length in 0_usize..20) {
            if let Selected::Part(part) = select(&map(&[("range", &range)]), true, StatusCode::OK, &map(&[]), length) {
                prop_assert!(part.start < part.end && part.end <= length);
            }
        }

        #[test]
        fn no_field_panics(tag in "[ -~]{0,20}", date in "[ -~]{0,32}") {
            of(&[("if-none-match", &tag), ("if-range", &date), ("range", &tag)], &[("etag", &date)]);
            of(&[("if-modified-since", &date), ("if-range", &tag), ("range", "bytes=0-")], &[("last-modified", &date)]);
        }
    }
}
