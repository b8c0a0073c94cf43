//! Conditions and ranges of a request: lines of fields. What is selected lies in the body, and costs no more than the
//! fields themselves.

use endcap::policy::conditional::{Forms, Selected, Stored, select};
use endcap::policy::encoding::Accepted;
use endcap::policy::etag;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::Target;

const WORDS: &[&str] = &[
    "if-none-match: ",
    "if-match: ",
    "if-range: ",
    "if-modified-since: ",
    "range: ",
    "accept-encoding: ",
    "bytes=",
    "bytes=0-0,",
    "0-0,",
    "-",
    "99999999999999999999999",
    "\"1\"",
    "\"1~br\"",
    "W/",
    "*",
    ",",
    "\"",
    "\n",
    "br;q=0.5",
    "identity;q=0",
    "Wed, 01 Jan 2020 00:00:00 GMT",
    "\u{e9}",
];

fn check(input: &[u8]) {
    let mut request = HeaderMap::new();
    for line in input.split(|byte| *byte == b'\n').take(64) {
        let at = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = (&line[..at], line.get(at + 1..).unwrap_or_default().trim_ascii());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            request.append(name, value);
        }
    }
    let stored = HeaderMap::from_iter([
        (header::ETAG, HeaderValue::from_static("\"1\"")),
        (header::DATE, HeaderValue::from_static("Wed, 01 Jan 2020 00:00:01 GMT")),
        (header::LAST_MODIFIED, HeaderValue::from_static("Wed, 01 Jan 2020 00:00:00 GMT")),
    ]);
    let accepted = Accepted::parse(request.get_all(header::ACCEPT_ENCODING).iter().map(HeaderValue::as_bytes));
    for length in [0, 1, 10, usize::MAX] {
        let of = Stored { status: StatusCode::OK, headers: &stored, length };
        let forms = Forms { accepted: &accepted, best: None };
        match select(&request, true, of, forms) {
            Selected::Part(part) => assert!(part.start < part.end && part.end <= length && accepted.takes(None)),
            Selected::NotModified(form) => assert!(form.is_none() || accepted.takes(form)),
            Selected::Whole(form) => assert_eq!(form, None),
            Selected::Unsatisfiable => assert!(request.contains_key(header::RANGE)),
        }
        assert!(!matches!(select(&request, false, of, forms), Selected::Part(_) | Selected::Unsatisfiable), "HEAD");
    }
    for is_safe in [false, true] {
        etag::without_forms(&mut request, is_safe);
    }
}

#[test]
fn what_is_selected_lies_in_the_body() {
    let _alone = crate::alone();
    Target {
        name: "selection",
        corpus: include_str!("corpus/selection.txt"),
        seeds: Vec::new(),
        words: WORDS,
        tries: 20_000,
        memory: (64 << 10, 256),
        check: &|input, _| check(input),
    }
    .run();
}
