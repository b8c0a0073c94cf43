//! Heads that the framing has let pass: their keys, and what a fill would ask for them.

use endcap::policy::classify::{Plan, classify};
use endcap::policy::exchange::fill_request;
use endcap::policy::framing::HeadSizes;
use endcap::policy::key::{Key, with_plain};
use endcap::policy::once::is_repeated;
use endcap::policy::plain::PlainHead;
use endcap::policy::route::Rule;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};

use crate::{Target, medusa};

const SIZES: HeadSizes = HeadSizes { uri_bytes_max: 8 << 10, head_bytes_max: 32 << 10, head_fields_max: 64 };

const WORDS: &[&str] = &[
    "?",
    "&",
    "=",
    ";",
    "+",
    "%",
    "%2",
    "%00",
    "%26",
    "%3D",
    "%5B%5D",
    "[]",
    "[0]",
    "[",
    "]",
    ".",
    "%2E",
    "locale",
    "limit",
    "fields",
    "region_id",
    "id",
    "utm_source",
    "created_at[$gt]",
    "*variants",
    "-title",
    "+",
    "x-publishable-api-key: a\r\n",
    "x-medusa-locale: FR-fr\r\n",
    "origin: https://a\r\n",
    "cookie: _ga=1\r\n",
    "authorization: x\r\n",
    "host: b\r\n",
    "/store/products",
    "/store/products/prod_1",
    "/shelf",
    "/..",
    "/%2e",
    "//",
    "\u{e9}",
    "connection: keep-alive\r\n",
    ":",
];

/// A head read in the general way; nothing where that has no opinion.
fn general(head: &[u8]) -> Option<(Method, Uri, HeaderMap)> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut fields);
    request.parse(head).ok()?.is_complete().then_some(())?;
    let mut headers = HeaderMap::new();
    for field in request.headers {
        headers.append(HeaderName::from_bytes(field.name.as_bytes()).ok()?, HeaderValue::from_bytes(field.value).ok()?);
    }
    Some((request.method?.parse().ok()?, request.path?.parse().ok()?, headers))
}

/// The key says all that a fill asks, and a fill's own request has the same key: rule 1 of the house.
fn closed(rule: &Rule, key: &Key, once: &[String]) {
    let view = key.view().expect("a key can be read");
    assert_eq!(Key::from_text(key.text()).unwrap().hash(), key.hash());
    // A path that no request line could hold was not admitted either.
    let Some(request) = fill_request(&view, &HeaderMap::new(), None) else { return };
    assert!(!is_repeated(request.uri().query().unwrap_or(""), once), "{:?}", request.uri());
    let host = request.headers().get(header::HOST).map_or("", |host| host.to_str().unwrap_or(""));
    let again = Key::of_request(rule, request.uri().path(), request.uri().query(), host, request.headers());
    assert_eq!(again.map(|again| again.text().to_vec()).ok().as_deref(), Some(key.text()));
}

fn check(head: &[u8]) {
    let routes = &medusa().routes;
    let seen = general(head);
    if let Some((method, uri, headers)) = &seen {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
        match classify(routes, method, uri.path(), uri.query(), host, headers) {
            Plan::Cache(rule, key) => closed(rule, &key, routes.once()),
            Plan::Pass(..) => assert!(!is_repeated(uri.query().unwrap_or(""), routes.once())),
            Plan::Refuse(..) => {}
        }
    }
    // The plain way takes less, and says the same of what it takes.
    if let Some(plain) = PlainHead::parse(head, SIZES)
        && let Some(rule) = routes.find(plain.path)
        && let Ok(key) = with_plain(rule, &plain, <[u8]>::to_vec)
    {
        let (_, uri, headers) = seen.expect("what is plain can be read in the general way");
        let general = Key::of_request(rule, uri.path(), uri.query(), &plain.host, &headers);
        assert_eq!(general.map(|general| general.text().to_vec()).ok(), Some(key));
    }
}

#[test]
fn a_key_holds_all_that_a_fill_asks_and_reads_alike_in_both_ways() {
    let _alone = crate::alone();
    Target {
        name: "request",
        corpus: include_str!("corpus/request.txt"),
        seeds: Vec::new(),
        words: WORDS,
        tries: 20_000,
        memory: (64 << 10, 256),
        check: &|head, _| check(head),
    }
    .run();
}
