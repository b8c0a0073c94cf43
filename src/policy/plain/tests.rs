use http::Request;
use http::request::Parts;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::policy::admission::{HeadLimits, admit};
use crate::policy::classify::{CREDENTIALS, Plan, classify};
use crate::policy::framing::{Framing, Scan};
use crate::policy::key;
use crate::policy::route::Routes;
use crate::policy::route::tests::rule;

const SIZES: HeadSizes = HeadSizes { uri_bytes_max: 64, head_bytes_max: 512, head_fields_max: 8 };

fn parse(head: &str) -> Option<PlainHead<'_>> {
    PlainHead::parse(head.as_bytes(), SIZES)
}

fn plain(lines: &str) -> bool {
    parse(&format!("GET /store/products?limit=2 HTTP/1.1\r\nhost: shop\r\n{lines}\r\n")).is_some()
}

#[test]
fn every_name_stands_at_its_length_and_every_credential_tells() {
    let general =
        ["te", "range", "cookie", "expect", "pragma", "trailer", "upgrade", "if-match", "if-range", "keep-alive"];
    let rest = ["cache-control", "if-none-match", "content-length", "http2-settings", "proxy-connection"];
    let last = ["if-modified-since", "transfer-encoding", "if-unmodified-since"];
    for name in general.iter().chain(&rest).chain(&last).chain(&CREDENTIALS) {
        assert!(matches!(kind(name.to_uppercase().as_bytes()), Kind::Telling), "{name}");
    }
}

#[test]
fn only_what_no_answer_depends_on_is_plain() {
    for lines in ["", "Accept: */*\r\n", "Connection: Keep-Alive\r\n", "x-medusa-locale:\r\n", "user-agent: x\r\n"] {
        assert!(plain(lines), "{lines}");
    }
    for lines in [
        "Authorization: x\r\n",
        "COOKIE: a=b\r\n",
        "X-Api-Key: x\r\n",
        "connection: close\r\n",
        "host: b\r\n",
        "content-length: 0\r\n",
        "transfer-encoding: chunked\r\n",
        "if-none-match: *\r\n",
        "range: bytes=0-1\r\n",
        "upgrade: websocket\r\n",
        "connection: keep-alive, upgrade\r\n",
        "x-medusa-access-token: x\r\n",
    ] {
        assert!(!plain(lines), "{lines}");
    }
    for head in [
        "HEAD / HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.0\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET http://a/ HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET /%00 HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\n\r\nGET",
        "GET / HTTP/1.1\r\nhost: a\r\n",
    ] {
        assert!(parse(head).is_none(), "{head}");
    }
}

#[test]
fn what_the_framing_would_refuse_is_not_plain() {
    for lines in ["a: b\0\r\n", "a: b\rc\r\n", "a: b\nc: d\r\n", " a: b\r\n", "a : b\r\n", "a\r\n", ": b\r\n", "\r\n"] {
        assert!(!plain(lines), "{lines:?}");
    }
    assert!(plain(&"a: b\r\n".repeat(7)) && !plain(&"a: b\r\n".repeat(8)));
    assert!(plain(&format!("a: {}\r\n", "b".repeat(440))) && !plain(&format!("a: {}\r\n", "b".repeat(500))));
    let target = |bytes: usize| format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(bytes - 1));
    assert!(parse(&target(64)).is_some() && parse(&target(65)).is_none());
}

/// The general way up to its decision: the framing, a parser of HTTP, admission.
fn general(head: &[u8], limits: &HeadLimits) -> Option<Parts> {
    if Framing::new(SIZES).scan(head) != (Scan { pass: head.len(), fault: None }) {
        return None;
    }
    let mut fields = [httparse::EMPTY_HEADER; 16];
    let mut parsed = httparse::Request::new(&mut fields);
    let length = parsed.parse(head).ok()?.is_complete().then_some(head.len())?;
    let mut request = Request::builder().method(parsed.method?).uri(parsed.path?);
    for field in parsed.headers.iter() {
        request = request.header(field.name, field.value);
    }
    let mut parts = request.body(()).ok()?.into_parts().0;
    admit(&parts, false, limits).ok()?.apply(&mut parts);
    (length == head.len()).then_some(parts)
}

fn heads() -> impl Strategy<Value = String> {
    let targets =
        "/store/products(/[a-z]{1,3})?(\\?((limit|q|region_id|utm_x|id(\\[\\])?|x)=[!-~]{0,3}&?){0,3})?|/[!-~]{0,6}";
    let names = select(vec![
        "accept",
        "Accept-Encoding",
        "user-agent",
        "x-publishable-api-key",
        "X-Medusa-Locale",
        "origin",
        "cookie",
        "authorization",
        "connection",
        "Host",
        "range",
        "content-length",
        "transfer-encoding",
        "x y",
        "x\t",
        "",
        "b@d",
    ]);
    let values = prop_oneof![
        4 => "[a-zA-Z0-9 .:_-]{0,6}",
        1 => select(vec!["keep-alive", "close", "0", "chunked", "\t", "a\tb", "\0", "caf\u{e9}", "a\rb", "a\nb: c", "shop:080"]).prop_map(str::to_owned),
    ];
    let ends = prop_oneof![30 => Just("\r\n"), 1 => Just("\n"), 1 => Just("\r"), 1 => Just("\r\n ")];
    let lines = proptest::collection::vec((names, "( |  |)", values, ends), 0..6);
    let request_lines = (
        prop_oneof![9 => Just("GET "), 1 => select(vec!["HEAD ", "get ", "GET  ", "\r\nGET ", " GET "])],
        targets,
        prop_oneof![9 => Just(" HTTP/1.1\r\n"), 1 => select(vec![" HTTP/1.0\r\n", " HTTP/1.1\n", "\r\n", "  HTTP/1.1\r\n"])],
    );
    let hosts = prop_oneof![9 => Just("Host: Shop.example:80\r\n"), 1 => Just("")];
    let tails = prop_oneof![15 => Just("\r\n"), 1 => select(vec!["", "\n", "\r\n\r\n", "\r\nGET"])];
    (request_lines, hosts, lines, tails).prop_map(|((method, target, version), host, lines, tail)| {
        let lines: String =
            lines.into_iter().map(|(name, space, value, end)| format!("{name}:{space}{value}{end}")).collect();
        format!("{method}{target}{version}{host}{lines}{tail}")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    /// What is read here is what the general way reads, and is never more than it would let pass.
    #[test]
    fn a_plain_head_is_what_the_general_way_makes_of_it(head in heads()) {
        let Some(plain) = parse(&head) else { return Ok(()) };
        let rule = rule();
        let limits = HeadLimits {
            sizes: SIZES,
            hosts: Vec::new(),
            key_fields: rule.headers.iter().map(|header| header.name.clone()).collect(),
        };
        let parts = general(head.as_bytes(), &limits);
        prop_assert!(parts.is_some(), "the general way refuses it");
        let parts = parts.unwrap();
        prop_assert_eq!(&parts.headers["host"], plain.host.as_bytes());
        prop_assert_eq!((parts.uri.path(), parts.uri.query()), (plain.path, plain.query));
        let routes = Routes::new(vec![rule]).unwrap();
        let host = parts.headers["host"].to_str().unwrap();
        let plan = classify(&routes, &parts.method, parts.uri.path(), parts.uri.query(), host, &parts.headers);
        let rule = routes.find(plain.path);
        let text = rule.and_then(|rule| key::with_plain(rule, &plain, <[u8]>::to_vec).ok());
        let general_text = match plan {
            Plan::Cache(_, key) => Some(key.text().to_vec()),
            Plan::Pass(..) | Plan::Refuse(..) => None,
        };
        prop_assert_eq!(text, general_text);
    }
}
