use super::*;
use http::Request;
use proptest::prelude::*;

fn limits() -> HeadLimits {
    HeadLimits {
        sizes: HeadSizes { uri_bytes_max: 64, head_bytes_max: 512, head_fields_max: 8 },
        hosts: Vec::new(),
        key_fields: vec![HeaderName::from_static("x-publishable-api-key")],
    }
}

fn parts(version: Version, method: &str, target: &str, fields: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().version(version).method(method).uri(target);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

/// What is left of a request: its target and Host, or the refusal.
fn admitted(mut parts: Parts, has_body: bool, limits: &HeadLimits) -> Result<(String, String), Refusal> {
    admit(&parts, has_body, limits)?.apply(&mut parts);
    let hosts: Vec<_> = parts.headers.get_all(header::HOST).iter().collect();
    assert_eq!(hosts.len(), 1);
    assert!(parts.uri.authority().is_none() && parts.uri.path().starts_with('/'));
    Ok((parts.uri.to_string(), hosts[0].to_str().unwrap().to_owned()))
}

fn http_1(method: &str, target: &str, fields: &[(&str, &str)]) -> Result<(String, String), Refusal> {
    admitted(parts(Version::HTTP_11, method, target, fields), false, &limits())
}

fn http_2(method: &str, target: &str, fields: &[(&str, &str)]) -> Result<(String, String), Refusal> {
    admitted(parts(Version::HTTP_2, method, target, fields), false, &limits())
}

fn ok(target: &str, host: &str) -> Result<(String, String), Refusal> {
    Ok((target.to_owned(), host.to_owned()))
}

#[test]
fn hosts_have_one_form() {
    for (text, expected) in [
        ("shop.example.com", Some("shop.example.com")),
        ("Shop.Example.COM:80", Some("shop.example.com")),
        ("shop:443", Some("shop")),
        ("shop:", Some("shop")),
        ("SHOP:8080", Some("shop:8080")),
        ("shop.", Some("shop.")),
        ("127.0.0.1:9000", Some("127.0.0.1:9000")),
        ("[::1]:9000", Some("[::1]:9000")),
        ("[0:0:0:0:0:0:0:1]", Some("[::1]")),
        ("[2001:DB8::1]:443", Some("[2001:db8::1]")),
        ("a_b-c", Some("a_b-c")),
        ("", None),
        (":80", None),
        (".", None),
        ("a..b", None),
        (".a", None),
        ("a b", None),
        ("x/y", None),
        ("u@h", None),
        ("a,b", None),
        ("a%41", None),
        ("h:99999", None),
        ("h:99999x", None),
        ("h:+80", None),
        ("h:080", None),
        ("h:0", None),
        ("h:80:80", None),
        ("::1", None),
        ("[::1", None),
        ("[::1]x", None),
        ("[::1]80", None),
        ("[fe80::1%25eth0]", None),
        ("[v1.a]", None),
    ] {
        assert_eq!(normal_host(text).as_deref(), expected, "{text:?}");
    }
    assert_eq!(normal_host(&"a".repeat(300)), None);
}

#[test]
fn a_host_is_there_once() {
    use Refusal::{Host, Target};
    for (target, fields, expected) in [
        ("/a?b", &[("host", "Shop:80")][..], ok("/a?b", "shop")),
        ("/a", &[], Err(Host)),
        ("/a", &[("host", "a"), ("host", "a")], Err(Host)),
        ("/a", &[("host", "x/y")], Err(Host)),
        ("/a", &[("host", "caf\u{e9}")], Err(Host)),
        ("http://A.b:8080/x?y", &[("host", "c")], ok("/x?y", "a.b:8080")),
        ("http://a", &[("host", "a")], ok("/", "a")),
        ("http://a?q", &[("host", "a")], ok("/?q", "a")),
        ("http://a/", &[], Err(Host)),
        ("http://u@a/", &[("host", "a")], Err(Host)),
        ("ftp://a/", &[("host", "a")], Err(Target)),
        ("a:80", &[("host", "a")], Err(Target)),
        ("*", &[("host", "a")], Err(Target)),
    ] {
        assert_eq!(http_1("GET", target, fields), expected, "{target} {fields:?}");
    }
    for (target, fields, expected) in [
        ("http://a/x", &[][..], ok("/x", "a")),
        ("https://A:443/x", &[("host", "a")], ok("/x", "a")),
        ("http://a/x", &[("host", "b")], Err(Host)),
        ("/x", &[("host", "b")], ok("/x", "b")),
        ("/x", &[], Err(Host)),
    ] {
        assert_eq!(http_2("GET", target, fields), expected, "{target} {fields:?}");
    }
}

#[test]
fn only_the_listed_hosts_are_served() {
    let limits = HeadLimits { hosts: vec!["shop".into(), "shop:8080".into()], ..limits() };
    let host =
        |target: &str, host: &str| admitted(parts(Version::HTTP_11, "GET", target, &[("host", host)]), false, &limits);
    assert_eq!(host("/", "SHOP:80"), ok("/", "shop"));
    assert_eq!(host("/", "shop:8080"), ok("/", "shop:8080"));
    assert_eq!(host("/", "shop:81"), Err(Refusal::UnknownHost));
    assert_eq!(host("/", "other"), Err(Refusal::UnknownHost));
    assert_eq!(host("http://other/", "shop"), Err(Refusal::UnknownHost));
    assert_eq!(host("http://shop/", "other"), ok("/", "shop"));
}

#[test]
fn methods_targets_and_lengths_are_judged() {
    use Refusal::*;
    let host = ("host", "a");
    let long = "a".repeat(200);
    for (method, target, field, expected) in [
        ("GET", "/", ("content-length", "0"), Ok(())),
        ("POST", "/", ("content-length", "5"), Ok(())),
        ("POST", "/", ("transfer-encoding", "Chunked"), Ok(())),
        ("POST", "/", ("transfer-encoding", "chunked, chunked"), Err(Framing)),
        ("POST", "/", ("transfer-encoding", "cow"), Err(UnknownCoding)),
        ("POST", "/", ("content-length", "+5"), Err(Framing)),
        ("PROPFIND", "/", ("x", ""), Ok(())),
        ("PURGE", "/", ("x", ""), Err(Method)),
        ("Ban", "/", ("x", ""), Err(Method)),
        ("TRACE", "/", ("x", ""), Err(Method)),
        ("CONNECT", "a:80", ("x", ""), Err(Target)),
        ("OPTIONS", "*", ("x", ""), Err(Target)),
        ("GET", "/a%00b", ("x", ""), Err(Path)),
        ("GET", "/\u{e9}", ("x", ""), Err(Path)),
        ("GET", "/a/../b", ("x", ""), Ok(())),
        ("GET", "/", ("x", "caf\u{e9}"), Ok(())),
        ("GET", "/", ("connection", "keep-alive, Upgrade"), Ok(())),
        ("GET", "/", ("connection", "close, Host"), Err(ConnectionHeader)),
        ("GET", "/", ("connection", "x-publishable-api-key"), Err(ConnectionHeader)),
        ("GET", "/", ("connection", "transfer-encoding"), Err(ConnectionHeader)),
        ("GET", &format!("/{}", "a".repeat(64)), ("x", ""), Err(UriSize)),
    ] {
        assert_eq!(http_1(method, target, &[host, field]).map(|_| ()), expected, "{method} {target} {field:?}");
    }
    let two = |one, other| http_1("POST", "/", &[host, one, other]).map(|_| ());
    assert_eq!(two(("content-length", "5"), ("content-length", "5")), Err(Framing));
    assert_eq!(two(("content-length", "5"), ("transfer-encoding", "chunked")), Err(Framing));
    assert_eq!(two(("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")), Err(Framing));
    let many: Vec<_> = (0..8).map(|_| ("x", "y")).chain([host]).collect();
    assert_eq!(http_1("GET", "/", &many), Err(HeadCount));
    assert_eq!(http_1("GET", "/", &[host, ("x", &long), ("y", &long), ("z", &long)]), Err(HeadSize));
    let old = parts(Version::HTTP_10, "POST", "/", &[host, ("transfer-encoding", "chunked")]);
    assert_eq!(admitted(old, true, &limits()), Err(Framing));
    assert_eq!(admitted(parts(Version::HTTP_11, "HEAD", "/", &[host]), true, &limits()), Err(BodyOnGet));
    assert_eq!(http_2("GET", "http://a/", &[("connection", "close")]), Err(ConnectionHeader));
    assert_eq!(http_2("POST", "http://a/", &[("transfer-encoding", "chunked")]), Err(Framing));
}

#[test]
fn cookies_become_one() {
    let fields = [("host", "a"), ("cookie", "a=1"), ("x", "y"), ("cookie", "b=2")];
    let mut parts = parts(Version::HTTP_2, "GET", "http://a/", &fields);
    admit(&parts, false, &limits()).unwrap().apply(&mut parts);
    let cookies: Vec<_> = parts.headers.get_all(header::COOKIE).iter().collect();
    assert_eq!(cookies, ["a=1; b=2"]);
}

#[test]
fn a_request_in_normal_form_is_left_alone() {
    let parts = parts(Version::HTTP_11, "GET", "/a?b=c", &[("host", "shop:8080"), ("cookie", "a=1")]);
    let admitted = admit(&parts, false, &limits()).unwrap();
    assert!(admitted.host.is_none() && !admitted.names_host && !admitted.has_cookies);
}

#[test]
fn every_refusal_has_a_word_and_a_status() {
    for refusal in Refusal::ALL {
        assert!(refusal.status().is_client_error() || refusal == Refusal::UnknownCoding);
        assert!(refusal.text().ends_with(".\n") && !refusal.reason().contains(' '));
    }
}

proptest! {
    #[test]
    fn the_normal_form_of_a_host_is_final(text in "[a-zA-Z0-9._:\\[\\]-]{0,20}") {
        if let Some(host) = normal_host(&text) {
            let again = normal_host(&host).map(Cow::into_owned);
            prop_assert_eq!(again.as_deref(), Some(&*host));
        }
    }
}
