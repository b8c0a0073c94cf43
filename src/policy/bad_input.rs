//! Bad input, row by row: what a field says, what we do, and which rule says so. How each form of a date is read
//! stands in `date`; here is what follows from it.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::cache_control::CacheControl;
use super::conditional::{self, Forms, Selected, Stored};
use super::entry::Lifetime;
use super::lifetime::{self, Exchanged};
use super::route::tests::rule;
use super::route::{Patterns, Policy, Rule, Trust};
use super::storable::{self, Admission, ShareOnce, Unshareable};
use super::time::Timestamp;
use super::{etag, invalidation, variant};

/// Fri, 15 Jan 2027 08:00:00 GMT.
const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const DATE: &str = "Fri, 15 Jan 2027 08:00:00 GMT";
const SOON: &str = "Fri, 15 Jan 2027 08:00:30 GMT";
const LONG_AGO: &str = "Fri, 15 Jan 2027 07:00:00 GMT";

fn map(fields: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

fn by_the_book() -> Rule {
    let trust = Trust { heuristics: true, ..Trust::default() };
    Rule { policy: Policy::Origin, forward: Patterns::new(["*"]), content_type: None, trust, ..rule() }
}

/// What becomes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    /// It is stored, and fresh for so many seconds; zero: asked about before each use.
    Fresh(u64),
    /// It goes to who asked, and to nobody else.
    Own(Unshareable),
}

fn treated(fields: &[(&str, &str)]) -> (Does, Lifetime) {
    let (rule, headers) = (by_the_book(), map(fields));
    let control = CacheControl::effective(&headers);
    let at = Exchanged { asked: NOW, answered: NOW };
    let life = lifetime::lifetime(&rule, StatusCode::OK, &headers, &control, at, 1.0);
    let does = match storable::admit(&rule, &HeaderMap::new(), StatusCode::OK, &headers, &control) {
        Admission::Own(why) => Does::Own(why),
        Admission::ShareOnce(ShareOnce::NoLifetime) | Admission::Store => {
            Does::Fresh(life.fresh_until.since(NOW).as_secs())
        }
        Admission::ShareOnce(why) => panic!("{why:?}"),
    };
    (does, life)
}

#[test]
fn answers() {
    use Does::{Fresh, Own};
    const CC: &str = "cache-control";
    const CDN: &str = "cdn-cache-control";
    let (expired, no_store) = (Fresh(0), Own(Unshareable::NoStore));
    for (fields, does, why) in [
        // Directives.
        (&[(CC, "max-age=60")][..], Fresh(60), "RFC 9111 §5.2.2.1, for comparison"),
        (&[(CC, "max-age=\"60\"")], Fresh(60), "§5.2: both forms of an argument are read"),
        (&[(CC, "MAX-AGE=60")], Fresh(60), "§5.2: names have no case"),
        (&[(CC, "max-age=000060")], Fresh(60), "§1.2.2: digits"),
        (&[(CC, " ,, max-age=60 ,")], Fresh(60), "RFC 9110 §5.6.1.2: empty members are ignored"),
        (&[(CC, "max-age = 60")], Fresh(60), "spaces are against the grammar, the number is beyond doubt"),
        (&[(CC, "max-age=99999999999999999999")], Fresh(1 << 31), "§1.2.2: too large is the largest"),
        (&[(CC, "max-age=2147483649")], Fresh(1 << 31), "§1.2.2"),
        (&[(CC, "max-age")], expired, "§4.2.1: invalid freshness is stale"),
        (&[(CC, "max-age=")], expired, "§4.2.1"),
        (&[(CC, "max-age=-60")], expired, "§4.2.1: a sign is no digit"),
        (&[(CC, "max-age=+60")], expired, "§4.2.1"),
        (&[(CC, "max-age=60.0")], expired, "§4.2.1"),
        (&[(CC, "max-age=6e1")], expired, "§4.2.1"),
        (&[(CC, "max-age=0x3c")], expired, "§4.2.1"),
        (&[(CC, "max-age='60'")], expired, "§4.2.1: single quotes quote nothing"),
        (&[(CC, "max-age=60s")], expired, "§4.2.1"),
        (&[(CC, "max-age=6 0")], expired, "§4.2.1"),
        (&[(CC, "max-age=60; public")], expired, "§4.2.1: a semicolon parts no directives"),
        (&[(CC, "max-age=60=60")], expired, "§4.2.1"),
        (&[(CC, "max-age=\u{0661}")], expired, "§4.2.1: ASCII digits"),
        (&[(CC, "max-age=60, max-age=9")], Fresh(9), "§4.2.1: of two the shorter"),
        (&[(CC, "max-age=9"), (CC, "max-age=60")], Fresh(9), "§4.2.1: lines are one list"),
        (&[(CC, "max-age=60, max-age=x")], expired, "§4.2.1: one of them is invalid"),
        (&[(CC, "s-maxage=x, max-age=60")], expired, "§5.2.2.10: s-maxage overrides, also a broken one"),
        (&[(CC, "smaxage=9, max-age=60")], Fresh(60), "§5.2.3: unknown directives are ignored"),
        (&[(CC, "x=\"no-store\", max-age=60")], Fresh(60), "§5.2: what is quoted is an argument"),
        (&[(CC, "x=\"a\\\", no-store\", max-age=60")], Fresh(60), "RFC 9110 §5.6.4: an escaped quote ends nothing"),
        (&[(CC, "x=\"max-age=60, no-cache")], no_store, "a quote without an end may hide anything"),
        (&[(CC, "max-age=60, x=\"\\")], no_store, "likewise"),
        (&[(CC, "no-store=0")], no_store, "§5.2.2.5 has no argument: with one it restricts all the same"),
        (&[(CC, "NO-STORE")], no_store, "§5.2"),
        (&[(CC, "no_store, max-age=60")], Fresh(60), "§5.2.3: another name"),
        (&[(CC, "private=\"\", max-age=60")], Own(Unshareable::Private), "§5.2.2.7: names no field: restricts all"),
        (&[(CC, "private=x-a, max-age=60")], Own(Unshareable::Private), "§5.2.2.7: we keep no answer in part"),
        (&[(CC, "no-cache=\"\", max-age=60")], expired, "§5.2.2.4: names no field: restricts all"),
        (&[(CC, "no-cache=\"a b\", max-age=60")], expired, "§5.2.2.4: no field has such a name"),
        (&[(CC, "no-cache=\"x-a\", max-age=60")], Fresh(60), "§5.2.2.4: the field alone is not stored"),
        (
            &[(CC, "no-cache=\"vary\", max-age=60"), ("vary", "foo")],
            expired,
            "§5.2.2.4: nobody's without what selects it",
        ),
        (&[(CC, "no-cache=\"x-a, Content-Encoding\", max-age=60")], expired, "nor readable without what describes it"),
        (&[(CC, "no-cache=\"content-type\", max-age=60")], expired, "likewise"),
        (&[(CC, "no-cache=\"content-length\", max-age=60")], expired, "likewise"),
        (&[(CC, "no-cache=\"etag\", max-age=60"), ("etag", "\"1\"")], expired, "likewise"),
        (&[(CC, "immutable")], expired, "RFC 8246 §2: says nothing of how long"),
        (&[(CC, "m\u{e4}x-age=60")], expired, "§5.2: no token; an unknown directive, and no lifetime"),
        (&[("pragma", "no-cache"), (CC, "max-age=60")], Fresh(60), "§5.4: in an answer it means nothing"),
        // RFC 9213.
        (&[(CDN, "max-age=60"), (CC, "no-store")], Fresh(60), "RFC 9213 §2.2: the targeted field alone"),
        (&[(CDN, "max-age=60, &"), (CC, "max-age=9")], Fresh(9), "§2.1: no dictionary is as none at all"),
        (&[(CDN, "Max-Age=60"), (CC, "max-age=9")], Fresh(9), "RFC 9651 §3.1.2: keys are lower case"),
        (&[(CDN, "max-age =60"), (CC, "max-age=9")], Fresh(9), "RFC 9651 §4.2"),
        (&[(CDN, ""), (CC, "max-age=9")], Fresh(9), "RFC 9213 §2.1: empty"),
        (&[(CDN, "max-age=\"60\""), (CC, "max-age=9")], expired, "§2.1: of another type it cannot be read"),
        (&[(CDN, "max-age=1000000000000000"), (CC, "max-age=9")], Fresh(9), "RFC 9651 §3.3.1: more than 15 digits"),
        (&[(CDN, "max-age=60;x=1, foo")], Fresh(60), "RFC 9651 §3.1.2: parameters and strangers are ignored"),
        // Expires and Date.
        (&[("expires", SOON)], Fresh(30), "RFC 9111 §5.3, for comparison"),
        (&[("expires", "0")], expired, "§5.3: invalid is in the past"),
        (&[("expires", "Fri, 15 Jan 2027 08:00:30 UTC")], expired, "§4.2: another zone than GMT"),
        (&[("expires", "fri, 15 jan 2027 08:00:30 gmt")], Fresh(30), "§4.2: whatever the case"),
        (&[("expires", SOON), ("expires", SOON)], expired, "§4.2.1, §5.3: two are none"),
        (&[("expires", "Fri, 15 Jan 2027 08:00:30 GMT, x")], expired, "§5.3"),
        (&[("expires", "0"), (CC, "max-age=60")], Fresh(60), "§5.3: max-age overrides"),
        (&[("expires", SOON), (CC, "max-age=x")], expired, "§5.3: also a broken one"),
        (&[("expires", SOON), ("date", "x")], Fresh(30), "RFC 9110 §6.6.1: then it is dated when it came"),
        (&[("expires", SOON), ("date", SOON)], expired, "RFC 9111 §4.2.1: Expires less Date"),
        (&[("last-modified", LONG_AGO), ("date", DATE)], Fresh(360), "§4.2.2, for comparison"),
        (&[("last-modified", "x"), ("date", DATE)], expired, "§4.2.2: nothing to guess from"),
        (&[("last-modified", SOON), ("date", DATE)], expired, "§4.2.2: it changed in the future"),
        // Age.
        (&[(CC, "max-age=60"), ("age", "20")], Fresh(40), "§5.1, for comparison"),
        (&[(CC, "max-age=60"), ("age", "x")], Fresh(60), "§5.1: invalid is ignored"),
        (&[(CC, "max-age=60"), ("age", "-20")], Fresh(60), "§5.1"),
        (&[(CC, "max-age=60"), ("age", "20.5")], Fresh(60), "§5.1"),
        (&[(CC, "max-age=60"), ("age", "20, 50")], Fresh(40), "§5.1: of a list the first"),
        (&[(CC, "max-age=60"), ("age", "20"), ("age", "50")], Fresh(40), "§5.1: lines are one list"),
        (&[(CC, "max-age=60"), ("age", "20;x=1")], Fresh(40), "the number before a parameter only makes it older"),
        (&[(CC, "max-age=60"), ("age", "99999999999999999999")], expired, "§1.2.2: too large is the largest"),
        // Vary.
        (&[(CC, "max-age=60"), ("vary", "Foo,, foo ,")], Fresh(60), "RFC 9110 §5.6.1.2"),
        (&[(CC, "max-age=60"), ("vary", "foo, *")], Own(Unshareable::VaryStar), "RFC 9111 §4.1: * in any place"),
        (&[(CC, "max-age=60"), ("vary", "foo"), ("vary", ",*")], Own(Unshareable::VaryStar), "§4.1: on any line"),
        (&[(CC, "max-age=60"), ("vary", "a b")], Own(Unshareable::Vary), "RFC 9110 §12.5.5: no field's name"),
        (&[(CC, "max-age=60"), ("vary", "\"foo\"")], Own(Unshareable::Vary), "§12.5.5"),
        (&[(CC, "max-age=60"), ("vary", "a,b,c,d,e,f,g,h,i")], Own(Unshareable::VaryStar), "more than we tell apart"),
    ] {
        assert_eq!(treated(fields).0, does, "{fields:?}: {why}");
    }
}

#[test]
fn encodings_that_nobody_asked_for() {
    // The origin was asked for the plain form: what came otherwise is its client's own.
    let rule = Rule { forward: Patterns::default(), ..by_the_book() };
    let own = Admission::Own(Unshareable::Encoding);
    for (lines, expected, why) in [
        (&["identity"][..], Admission::Store, "RFC 9110 §12.5.3, for comparison"),
        (&["Identity"], Admission::Store, "§8.4.1: codings have no case"),
        (&[""], Admission::Store, "§5.6.1.2: a list of nothing"),
        (&[",identity ,"], Admission::Store, "§5.6.1.2: empty members are ignored"),
        (&["gzip"], own, "what is stored is the plain form"),
        (&["identity", "gzip"], own, "§5.3: lines are one list"),
        (&["", "gzip"], own, "§5.3"),
        (&["identity, gzip"], own, "§8.4: each member was applied"),
        (&["identity;q=1"], own, "§8.4.1: a coding has no parameters"),
        (&["foo"], own, "§8.4: nobody knows what it did"),
        (&["\u{e4}"], own, "likewise"),
    ] {
        let mut headers = map(&[("cache-control", "max-age=60")]);
        for line in lines {
            headers.append(header::CONTENT_ENCODING, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        let control = CacheControl::effective(&headers);
        let admission = storable::admit(&rule, &HeaderMap::new(), StatusCode::OK, &headers, &control);
        assert_eq!(admission, expected, "{lines:?}: {why}");
    }
}

#[test]
fn entity_tags_of_an_answer() {
    // Whether we ask by them (RFC 9110 §8.8.3, §13.1.2).
    for (lines, is_asked_by, why) in [
        (&["\"a\""][..], true, "for comparison"),
        (&["W/\"a\""], true, "a weak one confirms what it means"),
        (&["\"\""], true, "what stands in the quotes may be nothing"),
        (&["\"a, b\\\u{e4}\""], false, "but no space"),
        (&["\"a,b\\\u{e4}\""], true, "nothing else is special in quotes"),
        (&["*"], false, "it would ask about anything at all"),
        (&["\"a\", \"b\""], false, "a list"),
        (&["\"a\",\"b\""], false, "a list"),
        (&["\"a\"", "\"b\""], false, "two lines are a list"),
        (&[""], false, "nothing"),
        (&["a"], false, "no quotes"),
        (&["\""], false, "one quote"),
        (&["\"a"], false, "the quotes do not end"),
        (&["w/\"a\""], false, "the mark of weakness has a case"),
    ] {
        let fields: Vec<_> = lines.iter().map(|line| ("etag", *line)).collect();
        assert_eq!(etag::only(&map(&fields)).is_some(), is_asked_by, "{lines:?}: {why}");
    }
}

#[test]
fn windows() {
    // Seconds that may be served while a refresh goes on, and when the origin fails.
    for (control, swr, sie, why) in [
        ("max-age=1, stale-while-revalidate=5, stale-if-error=6", 5, 6, "RFC 5861, for comparison"),
        ("max-age=1, stale-while-revalidate, stale-if-error=", 0, 0, "§3, §4: a time that cannot be read is none"),
        ("max-age=1, stale-while-revalidate=-5, stale-if-error=x", 0, 0, "likewise"),
        ("max-age=1, stale-while-revalidate=5, stale-while-revalidate=2, stale-if-error=0", 2, 0, "of two the shorter"),
        ("max-age=1, must-revalidate, stale-while-revalidate=5, stale-if-error=6", 0, 0, "RFC 9111 §5.2.2.2: never"),
        ("max-age=1, Proxy-Revalidate, stale-while-revalidate=5, stale-if-error=6", 0, 0, "§5.2.2.8"),
        ("max-age=1, no-cache, stale-while-revalidate=5, stale-if-error=6", 0, 0, "§5.2.2.4"),
        ("s-maxage=1, stale-while-revalidate=5", 5, 0, "§5.2.2.10: unasked never, but it is asked for in words"),
    ] {
        let life = treated(&[("cache-control", control)]).1;
        let seconds = |until: Timestamp| until.since(life.fresh_until).as_secs();
        assert_eq!((seconds(life.swr_until), seconds(life.sie_until)), (swr, sie), "{control}: {why}");
    }
}

#[test]
fn conditions_and_ranges() {
    const INM: &str = "if-none-match";
    const IMS: &str = "if-modified-since";
    let (whole, known) = (Selected::Whole(None), Selected::NotModified(None));
    for (fields, expected, why) in [
        (&[(INM, "\"a\"")][..], known.clone(), "RFC 9110 §13.1.2, for comparison"),
        (&[(INM, "a")], whole.clone(), "§8.8.3: without quotes it is no entity tag"),
        (&[(INM, "\"a")], whole.clone(), "§8.8.3: the quotes do not end"),
        (&[(INM, "'a'")], whole.clone(), "§8.8.3"),
        (&[(INM, "w/\"a\"")], whole.clone(), "§8.8.3: the mark of weakness has a case"),
        (&[(INM, "W/ \"a\"")], whole.clone(), "§8.8.3: and no space"),
        (&[(INM, ",,\"x\", , \"a\"")], known.clone(), "§5.6.1.2: empty members are ignored"),
        (&[(INM, "\"x\""), (INM, "\"a\"")], known.clone(), "§5.3: lines are one list"),
        (&[(INM, "x"), (IMS, SOON)], whole.clone(), "§13.1.3: beside If-None-Match it is ignored, whatever that says"),
        (&[(IMS, SOON)], known.clone(), "§13.1.3, for comparison"),
        (&[("if-match", "\"x\"")], whole.clone(), "RFC 9111 §4.3.2: for the origin alone, what is stored is sent"),
        (&[("if-match", "*")], whole.clone(), "likewise"),
        (&[("if-match", "\"x\""), (INM, "\"a\"")], known.clone(), "likewise"),
        (&[("if-unmodified-since", LONG_AGO)], whole.clone(), "§4.3.2"),
        (&[("if-unmodified-since", "yesterday")], whole.clone(), "§4.3.2"),
        (&[("if-match", "\"x\""), ("range", "bytes=2-4")], Selected::Part(2..5), "§4.3.2"),
        (&[(IMS, "yesterday")], whole.clone(), "§13.1.3: no date is ignored"),
        (&[(IMS, SOON), (IMS, SOON)], whole.clone(), "§13.1.3: two are none"),
        (&[(IMS, "Fri, 15 Jan 2027 08:00:30 +0000")], whole.clone(), "§5.6.7"),
        (&[("range", "bytes=2-4")], Selected::Part(2..5), "§14.2, for comparison"),
        (&[("range", "bytes=4-2")], whole.clone(), "§14.1.1: an invalid range is ignored"),
        (&[("range", "bytes=--2")], whole.clone(), "§14.1.1"),
        (&[("range", "bytes 2-4")], whole.clone(), "§14.2"),
        (&[("range", "bytes=2-4,6-7")], whole.clone(), "§14.2: several may be ignored"),
        (&[("range", "bytes=0-0,-1")], whole.clone(), "§14.2"),
        (&[("range", "bytes=2-4,")], whole.clone(), "§14.1.1: a list, if of one"),
        (&[("range", "bytes=99-,2-4")], whole.clone(), "§14.2: not even where one is not there"),
        (&[("range", "bytes=2-4"), ("range", "bytes=2-4")], whole.clone(), "§14.2: two fields are none"),
        (&[("range", "lines=2-4")], whole.clone(), "§14.2: an unknown unit is ignored"),
        (&[("range", "bytes=99-")], Selected::Unsatisfiable, "§15.5.17"),
        (&[("range", "bytes=0-99999999999999999999999999")], Selected::Part(0..10), "§14.1.2: the end at the most"),
        (&[("range", "bytes=2-4"), ("if-range", "a")], whole.clone(), "§13.1.5: neither tag nor date"),
        (
            &[("range", "bytes=2-4"), ("if-range", "W/\"a\"")],
            whole.clone(),
            "§13.1.5: a weak one says nothing of bytes",
        ),
        (&[("range", "bytes=2-4"), ("if-range", "yesterday")], whole, "§13.1.5"),
    ] {
        let headers = &map(&[("etag", "\"a\""), ("last-modified", LONG_AGO), ("date", DATE)]);
        let stored = Stored { status: StatusCode::OK, headers, length: 10 };
        let selected = conditional::select(&map(fields), true, stored, Forms::PLAIN);
        assert_eq!(selected, expected, "{fields:?}: {why}");
    }
}

/// RFC 9110 §14.1.2: of an empty body every range is out of reach but its last bytes, of which it has none. They are all
/// of it, and no `Content-Range` can say so (§14.4): 416, which says the length.
#[test]
fn the_last_bytes_of_nothing() {
    let headers = &map(&[("etag", "\"a\"")]);
    let stored = Stored { status: StatusCode::OK, headers, length: 0 };
    for range in ["bytes=-5", "bytes=-0", "bytes=0-", "bytes=0-0"] {
        let selected = conditional::select(&map(&[("range", range)]), true, stored, Forms::PLAIN);
        assert_eq!(selected, Selected::Unsatisfiable, "{range}");
    }
}

#[test]
fn languages_and_encodings() {
    for (name, sent, meant, why) in [
        (header::ACCEPT_LANGUAGE, "DE, en;q=0.5", "de,en;q=0.5", "RFC 9110 §12.5.4: tags have no case"),
        (header::ACCEPT_LANGUAGE, "de, en;q=0.50", "en ; q=0.5, de", "§12.4.2: what is not said of a weight is zero"),
        (header::ACCEPT_LANGUAGE, "de;q=1.000", "de", "§12.4.2: the most wanted"),
        (header::ACCEPT_LANGUAGE, ",,de,", "de", "§5.6.1.2"),
        (header::ACCEPT_LANGUAGE, "de, de", "de", "a wish twice is one"),
        (header::ACCEPT_LANGUAGE, "\"de, en\"", "\"de, en\"", "a quoted comma parts nothing"),
        (header::ACCEPT_ENCODING, "GZIP", "gzip", "§8.4.1: codings have no case"),
    ] {
        let value = |text: &str| variant::normal_value(&rule(), &name, &map(&[(name.as_str(), text)]));
        assert_eq!(value(sent), value(meant), "{sent}: {why}");
        assert!(value(sent).is_some(), "{sent}");
    }
}

#[test]
fn wishes_that_cannot_be_read() {
    // What the origin makes of them nobody can say, so no two of them select the same.
    let all = [
        "de, en",
        "de;q=1.5, en",
        "de;q=, en",
        "de;q=-1, en",
        "de;q=0.1234, en",
        "de;q=x, en",
        "de;level=1;q=0.5, en",
        "de;q=0.5;q=0.5, en",
        "de;q =0.5, en",
        "de;q=0.5, en",
        "d e, en",
        "de;, en",
        "en, de;q=1.5",
    ];
    for name in [header::ACCEPT_LANGUAGE, header::ACCEPT_ENCODING] {
        let values: std::collections::BTreeSet<_> =
            all.iter().map(|text| variant::normal_value(&rule(), &name, &map(&[(name.as_str(), text)]))).collect();
        assert_eq!(values.len(), all.len(), "{name}: {values:?}");
    }
}

#[test]
fn references() {
    for (reference, path, why) in [
        ("/c", Some("/c"), "RFC 9111 §4.4, for comparison"),
        ("http://other/c", None, "§4.4: another host's answers are not its to forget"),
        ("http://shop.example@other/c", None, "RFC 3986 §3.2.1: what stands before @ is no host"),
        ("http://shop.example:8/c", None, "§4.4: another port is another origin"),
        ("javascript:alert(1)", None, "another scheme"),
        ("http:///c", None, "RFC 9110 §4.2.1: no host"),
        ("/../../c", Some("/c"), "RFC 3986 §5.2.4: nothing is above the root"),
    ] {
        let answer = map(&[("location", reference)]);
        let paths = invalidation::invalidated("/own", &["shop.example"], StatusCode::CREATED, &answer);
        let other = paths.iter().map(String::as_str).find(|path| *path != "/own");
        assert_eq!(other, path, "{reference}: {why}");
    }
}
