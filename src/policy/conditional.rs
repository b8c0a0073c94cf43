//! What a client that holds something already is sent: the whole, a part, or that nothing has changed.

use std::ops::Range;

use http::{HeaderMap, StatusCode, header};

use super::encoding::{Accepted, Coding};
use super::etag;
use super::lifetime::date;

/// What of a stored answer goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selected {
    /// All of it, in this form; `None` is the plain one.
    Whole(Option<Coding>),
    /// 304: the client has it, in this form.
    NotModified(Option<Coding>),
    /// 206: these bytes of the plain form.
    Part(Range<usize>),
    /// 416: the plain form has no such bytes.
    Unsatisfiable,
}

/// A stored answer, as far as it can be selected from.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'e> {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: &'e HeaderMap,
    /// Bytes of its plain form.
    pub length: usize,
}

/// The forms of it that a request may be sent.
#[derive(Clone, Copy, Debug)]
pub struct Forms<'f> {
    /// What the client takes of them: [`Accepted::PLAIN`] where there are no others.
    pub accepted: &'f Accepted,
    /// The one that it wants most of those that are ready.
    pub best: Option<Coding>,
}

impl Forms<'_> {
    /// The plain form alone.
    pub const PLAIN: Self = Self { accepted: &Accepted::PLAIN, best: None };
}

/// Evaluates `If-None-Match`, `If-Modified-Since`, `If-Range` and `Range` in the order of RFC 9110 §13.2.2.
/// `If-Match` and `If-Unmodified-Since` are for origins alone (RFC 9111 §4.3.2). Only a stored 200 is
/// selected from, and parts only for GET (RFC 9110 §14.2).
///
/// The choice among the forms that a client takes is ours (§12.1), so it is sent the one that it has already, if
/// that has not changed; and parts are of the plain form, because an encoded one may differ from node to node.
pub fn select(request: &HeaderMap, is_get: bool, stored: Stored<'_>, forms: Forms<'_>) -> Selected {
    if stored.status != StatusCode::OK {
        return Selected::Whole(forms.best);
    }
    if request.contains_key(header::IF_NONE_MATCH) {
        if let Some(form) = known(request, stored.headers, forms) {
            return Selected::NotModified(form);
        }
    } else if is_unmodified(request, stored.headers) {
        return Selected::NotModified(forms.best);
    }
    let is_part = is_get && request.contains_key(header::RANGE) && forms.accepted.takes(None);
    let part = (is_part && is_same(request, stored.headers)).then(|| part(request, stored.length)).flatten();
    part.unwrap_or(Selected::Whole(forms.best))
}

/// The form that `If-None-Match` names (RFC 9110 §13.1.2), of those that the client takes. It need not be ready:
/// another node may have sent it.
fn known(request: &HeaderMap, stored: &HeaderMap, forms: Forms<'_>) -> Option<Option<Coding>> {
    let own = stored.get(header::ETAG).map(http::HeaderValue::as_bytes);
    let candidates = [forms.best, None].into_iter().chain(Coding::ALL.map(Some));
    let form_of = |tag: &[u8]| match (tag, own) {
        (b"*", _) => Some(forms.best),
        (_, None) => None,
        (tag, Some(own)) => {
            candidates.clone().find(|form| forms.accepted.takes(*form) && etag::is_of_form(tag, own, *form))
        }
    };
    let values = request.get_all(header::IF_NONE_MATCH).iter();
    values.flat_map(|value| etag::members(value.as_bytes())).find_map(form_of)
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
    etag::is_strong(condition.as_bytes()) && stored.get(header::ETAG) == Some(condition)
}

/// The part that a single range of bytes names (RFC 9110 §14.1.2). Several ranges, another unit and what cannot
/// be read are ignored, as §14.2 allows.
fn part(request: &HeaderMap, length: usize) -> Option<Selected> {
    let mut values = request.get_all(header::RANGE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (unit, spec) = value.to_str().ok()?.split_once('=')?;
    let (first, last) = spec.trim().split_once('-')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
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
        _ => return None,
    };
    Some(if range.start >= range.end { Selected::Unsatisfiable } else { Selected::Part(range) })
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

    const WHOLE: Selected = Selected::Whole(None);

    fn of_ten(request: &[(&str, &str)], stored: &[(&str, &str)], forms: Forms<'_>) -> Selected {
        let headers = &map(stored);
        select(&map(request), true, Stored { status: StatusCode::OK, headers, length: 10 }, forms)
    }

    fn of(request: &[(&str, &str)], stored: &[(&str, &str)]) -> Selected {
        of_ten(request, stored, Forms::PLAIN)
    }

    fn is_known(request: &[(&str, &str)], stored: &[(&str, &str)]) -> bool {
        of(request, stored) == Selected::NotModified(None)
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
            ("bytes=0-1,3-4", WHOLE),
            ("bytes=2-1", WHOLE),
            ("bytes=-", WHOLE),
            ("bytes=a-b", WHOLE),
            ("bytes=+1-2", WHOLE),
            ("bytes=0 - 1", WHOLE),
            ("bytes", WHOLE),
            ("items=0-1", WHOLE),
            ("", WHOLE),
        ] {
            assert_eq!(of(&[("range", range)], &[]), expected, "{range}");
        }
        assert_eq!(of(&[("range", "bytes=0-1"), ("range", "bytes=2-3")], &[]), WHOLE);
        let of = |is_get, status, length| {
            let stored = Stored { status, headers: &map(&[]), length };
            select(&map(&[("range", "bytes=0-1")]), is_get, stored, Forms::PLAIN)
        };
        assert_eq!(of(false, StatusCode::OK, 10), WHOLE, "HEAD");
        assert_eq!(of(true, StatusCode::NOT_FOUND, 10), WHOLE);
        assert_eq!(of(true, StatusCode::OK, 0), Selected::Unsatisfiable);
    }

    #[test]
    fn a_part_is_sent_only_of_what_the_client_has_begun_with() {
        let part = |condition, stored: &[(&str, &str)]| of(&[("range", "bytes=0-1"), ("if-range", condition)], stored);
        let (yes, no) = (Selected::Part(0..2), WHOLE);
        assert_eq!(part("\"a\"", &[("etag", "\"a\"")]), yes);
        assert_eq!(part("\"b\"", &[("etag", "\"a\"")]), no);
        assert_eq!(part("W/\"a\"", &[("etag", "W/\"a\"")]), no, "weak says nothing of bytes");
        assert_eq!(part("a", &[("etag", "a")]), no);
        assert_eq!(part(EARLY, &[("last-modified", EARLY), ("date", LATER)]), yes);
        assert_eq!(part(EARLY, &[("last-modified", EARLY), ("date", EARLY)]), no, "it may have changed in that second");
        assert_eq!(part(LATER, &[("last-modified", EARLY), ("date", LATER)]), no);
        assert_eq!(part("\"a\"", &[]), no);
        let all = [("range", "bytes=0-1"), ("if-none-match", "\"a\"")];
        assert_eq!(of(&all, &[("etag", "\"a\"")]), Selected::NotModified(None));
        assert_eq!(of(&all, &[("etag", "\"b\"")]), yes);
    }

    #[test]
    fn a_client_is_sent_the_form_that_it_has_if_it_still_takes_it() {
        let (br, gzip) = (Some(Coding::Br), Some(Coding::Gzip));
        let check = |sent: &str, etag: &str, takes: &str, best, expected| {
            let accepted = Accepted::parse([takes.as_bytes()]);
            let forms = Forms { accepted: &accepted, best };
            let selected = of_ten(&[("if-none-match", sent)], &[("etag", etag)], forms);
            assert_eq!(selected, expected, "{sent} of {etag} for {takes}");
        };
        let known = Selected::NotModified;
        check("\"a~br\"", "\"a\"", "br, gzip", br, known(br));
        check("\"a~gzip\"", "\"a\"", "br, gzip", br, known(gzip));
        check("\"a\"", "\"a\"", "br, gzip", br, known(None));
        check("W/\"a~br\"", "\"a\"", "br, gzip", br, known(br));
        // Not made here yet: another node may have sent it.
        check("\"a~br\"", "\"a\"", "br, gzip", None, known(br));
        check("\"x\", \"a~gzip\"", "\"a\"", "br, gzip", br, known(gzip));
        check("*", "\"a\"", "br, gzip", br, known(br));
        // It has no use for what it had.
        check("\"a~br\"", "\"a\"", "gzip", gzip, Selected::Whole(gzip));
        check("\"a\"", "\"a\"", "br, identity;q=0", br, Selected::Whole(br));
        check("\"b~br\"", "\"a\"", "br", br, Selected::Whole(br));
        // A weak tag is that of all forms.
        check("W/\"a\"", "W/\"a\"", "br, gzip", br, known(br));
        check("W/\"a\"", "W/\"a\"", "gzip", None, known(None));
    }

    #[test]
    fn parts_are_of_the_plain_form() {
        let takes = |field: &str| Accepted::parse([field.as_bytes()]);
        let (br, only_br) = (takes("br"), takes("br, identity;q=0"));
        let part = |request: &[(&str, &str)], accepted| {
            let forms = Forms { accepted, best: Some(Coding::Br) };
            of_ten(&[request, &[("range", "bytes=0-1")]].concat(), &[("etag", "\"a\"")], forms)
        };
        let whole = Selected::Whole(Some(Coding::Br));
        assert_eq!(part(&[], &br), Selected::Part(0..2));
        assert_eq!(part(&[("if-range", "\"a\"")], &br), Selected::Part(0..2));
        assert_eq!(part(&[("if-range", "\"a~br\"")], &br), whole, "it has begun with another form");
        assert_eq!(part(&[], &only_br), whole);
    }

    proptest! {
        /// Whatever is asked for, what is sent lies in the body.
        #[test]
        fn a_part_lies_in_the_body(range in "(bytes=)?[0-9a-z,= -]{0,16}", length in 0_usize..20) {
            let stored = Stored { status: StatusCode::OK, headers: &map(&[]), length };
            if let Selected::Part(part) = select(&map(&[("range", &range)]), true, stored, Forms::PLAIN) {
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
