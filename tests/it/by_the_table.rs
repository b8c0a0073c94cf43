//! RFC mode on the wire, row by row from the RFCs' text: what is asked again, what is served, and with which fields.

use crate::stage::{Answer, Stage};

/// A route that leaves everything to the origin's own words.
const RFC: &str = "[route.rfc]\npaths = [\"/{path*}\"]\npolicy = \"origin\"\nkey = \"url\"\nforward = [\"*\"]\ncontent_type = \"*\"\n\
    trust = [\"cookies\", \"errors\"]\n";

/// One that asks for the plain form, so that it is ours to encode.
const RFC_PLAIN: &str = "[route.rfc]\npaths = [\"/{path*}\"]\npolicy = \"origin\"\nkey = \"url\"\n";

/// What becomes of a second request, so many seconds after the first.
#[tokio::test]
async fn the_second_request() {
    let stage = Stage::new().config(RFC).start().await;
    let cc = "cache-control";
    let cdn = "cdn-cache-control";
    for (n, (status, fields, seconds, expected, why)) in [
        // Large ages and lifetimes (RFC 9111 §1.2.2, §4.2.3).
        (200, &[(cc, "max-age=3600"), ("age", "1800")][..], 1799, "hit", "half its life was over"),
        (200, &[(cc, "max-age=3600"), ("age", "1800")], 1800, "miss", "and now all of it"),
        (200, &[(cc, "max-age=3600"), ("age", "3600")], 0, "miss", "over when it came"),
        (200, &[(cc, "max-age=3600"), ("age", "2147483647")], 0, "miss", "68 years"),
        (200, &[(cc, "max-age=3600"), ("age", "2147483648")], 0, "miss", "beyond 31 bits"),
        (200, &[(cc, "max-age=3600"), ("age", "99999999999999999999")], 0, "miss", "beyond all bits"),
        (200, &[(cc, "max-age=99999999999999999999")], 1_000_000_000, "hit", "a lifetime beyond all bits"),
        (200, &[(cc, "max-age=3600, s-maxage=1"), ("age", "2")], 0, "miss", "§5.2.2.10"),
        // RFC 9213.
        (200, &[(cdn, "max-age=10"), (cc, "max-age=1")], 5, "hit", "the targeted field counts"),
        (200, &[(cdn, "max-age=1"), (cc, "max-age=10")], 5, "miss", "also where it is shorter"),
        (200, &[(cdn, "max-age=10"), ("age", "6"), (cc, "no-store")], 5, "miss", "Age counts there too"),
        (200, &[(cdn, "max-age=10, must-revalidate, foo=(1 2)")], 5, "hit", "what is unknown there is ignored"),
        (200, &[(cdn, "no-cache"), (cc, "max-age=10"), ("etag", "\"1\"")], 0, "renewed", "its no-cache is asked about"),
        (200, &[(cdn, "private"), (cc, "max-age=10")], 0, "pass.marker", "its private is one client's"),
        (200, &[(cdn, "foo"), ("expires", "Thu, 01 Jan 2099 00:00:00 GMT")], 0, "miss", "beside it Expires is silent"),
        // RFC 5861 §3.
        (200, &[(cc, "max-age=1, stale-while-revalidate=10")], 10, "stale", "within the window"),
        (200, &[(cc, "max-age=1, stale-while-revalidate=10")], 11, "miss", "after it"),
        (
            200,
            &[(cc, "max-age=1, stale-while-revalidate=10"), ("age", "5")],
            6,
            "miss",
            "which is no longer for its age",
        ),
        (200, &[(cc, "max-age=1, stale-while-revalidate=10, must-revalidate")], 2, "miss", "RFC 9111 §5.2.2.2"),
        // §5.2.2.3.
        (200, &[(cc, "max-age=10, no-store, must-understand")], 0, "hit", "a status that is understood"),
        (404, &[(cc, "max-age=10, no-store, must-understand")], 0, "hit", "another"),
        (299, &[(cc, "max-age=10, must-understand")], 0, "miss", "one that nobody knows"),
        (599, &[(cc, "max-age=10, must-understand")], 0, "failed.origin_status", "another"),
        (299, &[(cc, "max-age=10")], 0, "hit", "§4: without it a lifetime is enough"),
        (599, &[(cc, "max-age=10")], 0, "hit", "likewise"),
        (200, &[(cc, "no-store, must-understand")], 0, "miss", "without a lifetime there is nothing to serve"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/{n}");
        let mut answer = Answer::status(status);
        for (name, value) in fields {
            answer = answer.header(name, value);
        }
        stage.origin.answer(&path, answer);
        stage.get(&path).await;
        stage.advance_secs(seconds);
        assert_eq!(stage.get(&path).await.detail(), expected, "{status} {fields:?} after {seconds} s: {why}");
    }
}

/// Which fields a 304 replaces (RFC 9111 §3.2, §4.3.4).
#[tokio::test]
async fn a_304_renews_fields() {
    let stage = Stage::new().config(RFC).start().await;
    for (n, (name, stored, fresh, expected, why)) in [
        ("x-a", "1", "2", "2", "any field"),
        ("x-a", "", "2", "2", "also one that is new"),
        ("content-language", "de", "en", "en", "§3.2 excepts few"),
        ("content-security-policy", "a", "b", "b", "what protects has to be the newest"),
        ("vary", "foo", "foo, bar", "foo, bar", "also what selects"),
        ("set-cookie", "a=1", "a=2", "a=2", "on a route that trusts the origin's word"),
        ("content-type", "a/b", "c/d", "c/d", "on a route that stores every type"),
        ("content-length", "1", "99", "1", "§3.2: it is the length of what is stored"),
        ("content-encoding", "", "gzip", "", "what is stored is not coded anew"),
        ("content-range", "", "bytes 0-0/9", "", "nor becomes a part"),
        ("connection", "", "x-b", "", "§3.1: what is for one hop"),
        ("cache-control", "max-age=1", "max-age=100", "max-age=100", "the new lifetime counts"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/{n}");
        let plain =
            |answer: Answer| if name == "cache-control" { answer } else { answer.header("cache-control", "max-age=1") };
        let mut answer = plain(Answer::json("1")).header("etag", "\"1\"");
        if !stored.is_empty() && name != "content-length" && name != "content-type" {
            answer = answer.header(name, stored);
        }
        stage.origin.answer(&path, answer);
        stage.get(&path).await;
        stage.advance_secs(2);
        let control = if name == "cache-control" { "" } else { "cache-control: max-age=100\r\n" };
        let renewal = format!("HTTP/1.1 304 Not Modified\r\netag: \"1\"\r\n{control}{name}: {fresh}\r\n\r\n");
        stage.origin.answer(&path, Answer::raw(renewal));
        for detail in ["renewed", "hit"] {
            let reply = stage.get(&path).await;
            assert_eq!((reply.detail(), reply.text()), (detail.to_owned(), "1".to_owned()), "{name}: {why}");
            assert_eq!(reply.field(name), expected, "{name}, {detail}: {why}");
        }
        stage.advance_secs(50);
        assert_eq!(stage.get(&path).await.detail(), "hit", "{name}: its lifetime began anew");
    }
}

/// RFC 9111 §4.3.4: a 304 with another entity tag, or that nobody asked for, must not be used.
#[tokio::test]
async fn a_304_about_another_version_renews_nothing() {
    let stage = Stage::new().config(RFC).start().await;
    let modified = ("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT");
    for (n, (validator, said, expected)) in [
        (Some(("etag", "\"1\"")), "etag: \"1\"\r\n", "renewed"),
        (Some(("etag", "\"1\"")), "etag: W/\"1\"\r\n", "renewed"),
        (Some(("etag", "W/\"1\"")), "", "renewed"),
        (Some(("etag", "\"1\"")), "etag: \"2\"\r\n", "miss"),
        (Some(modified), "", "renewed"),
        (Some(modified), "etag: \"2\"\r\n", "miss"),
        (Some(modified), "last-modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n", "renewed"),
        (Some(modified), "last-modified: Thursday, 01-Jan-26 00:00:00 GMT\r\n", "renewed"),
        (Some(modified), "last-modified: Wed, 31 Dec 2025 23:59:59 GMT\r\n", "miss"),
        (Some(modified), "last-modified: Thu, 01 Jan 2026 00:00:01 GMT\r\n", "miss"),
        (Some(("etag", "\"1\"")), "last-modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n", "miss"),
        (None, "", "miss"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/{n}");
        // A server that does not look at the condition, and says the new one where there is none.
        let renewal = format!("HTTP/1.1 304 Not Modified\r\n{said}\r\n");
        let first = Answer::json("1").header("cache-control", "max-age=1, stale-if-error=100");
        stage.origin.answer(&path, validator.map_or(first.clone(), |(name, value)| first.clone().header(name, value)));
        stage.get(&path).await;
        stage.advance_secs(2);
        let asked = std::sync::atomic::AtomicBool::new(false);
        stage.origin.respond(&path, move |_| {
            let is_again = asked.swap(true, std::sync::atomic::Ordering::SeqCst);
            if is_again { Answer::json("2") } else { Answer::raw(renewal.clone()) }
        });
        let reply = stage.get(&path).await;
        let text = if expected == "renewed" { "1" } else { "2" };
        assert_eq!((reply.status, reply.detail(), reply.text()), (200, expected.into(), text.into()), "{n}: {said}");
        if expected == "miss" {
            let seen = stage.origin.last();
            assert_eq!((seen.field("if-none-match"), seen.field("if-modified-since")), ("", ""), "{n}");
        }
    }
}

/// What is no entity tag is not asked by (RFC 9110 §8.8.3, §13.1.2): the other validator is, or nothing.
#[tokio::test]
async fn what_a_stored_answer_is_asked_about_by() {
    let stage = Stage::new().config(RFC).start().await;
    const MODIFIED: &str = "Thu, 01 Jan 2026 00:00:00 GMT";
    for (n, (etag, modified, expected)) in [
        ("\"1\"", MODIFIED, ["\"1\"", ""]),
        ("W/\"1\"", MODIFIED, ["W/\"1\"", ""]),
        ("*", MODIFIED, ["", MODIFIED]),
        ("\"1\", \"2\"", MODIFIED, ["", MODIFIED]),
        ("1", MODIFIED, ["", MODIFIED]),
        ("*", "", ["", ""]),
        ("1", "", ["", ""]),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/{n}");
        let answer = Answer::json("1").header("cache-control", "max-age=1").header("etag", etag);
        let answer = if modified.is_empty() { answer } else { answer.header("last-modified", modified) };
        stage.origin.answer(&path, answer);
        stage.get(&path).await;
        stage.advance_secs(2);
        // The same bytes stand for the same version, tag or not.
        stage.origin.answer(&path, Answer::raw(format!("HTTP/1.1 304 Not Modified\r\netag: {etag}\r\n\r\n")));
        if expected != ["", ""] {
            assert_eq!(stage.get(&path).await.detail(), "renewed", "{etag}");
        } else {
            stage.get(&path).await;
        }
        let seen = stage.origin.last();
        assert_eq!(["if-none-match", "if-modified-since"].map(|name| seen.field(name).to_owned()), expected, "{etag}");
    }
}

/// RFC 9111 §3: without explicit freshness only what is `public`, or of a status that may be guessed, is stored.
#[tokio::test]
async fn a_validator_alone_stores_no_status() {
    let stage = Stage::new().config(RFC).start().await;
    for (n, (status, control, expected)) in [
        (302, "", "miss"),
        (302, "no-cache", "miss"),
        (302, "public", "renewed"),
        (302, "max-age=0", "renewed"),
        (201, "", "miss"),
        (404, "", "renewed"),
        (200, "", "renewed"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/{n}");
        stage.origin.respond(&path, move |seen| {
            if !seen.field("if-none-match").is_empty() {
                return Answer::raw("HTTP/1.1 304 Not Modified\r\netag: \"1\"\r\n\r\n");
            }
            let answer = Answer::status(status).header("etag", "\"1\"");
            if control.is_empty() { answer } else { answer.header("cache-control", control) }
        });
        stage.get(&path).await;
        assert_eq!(stage.get(&path).await.detail(), expected, "{status} {control}");
    }
}

/// A 304 is judged by the head that it makes of what is stored (RFC 9111 §3.2, §4.3.4), not by its own alone.
#[tokio::test]
async fn a_304_is_judged_by_what_it_makes_of_what_is_stored() {
    let route = |name: &str, more: &str| {
        format!("[route.{name}]\npaths = [\"/{name}/{{n}}\"]\npolicy = \"origin\"\nkey = \"url\"\n{more}\n")
    };
    let all = route("all", "forward = [\"*\"]\ncontent_type = \"*\"");
    let plain = route("plain", "content_type = \"application/json\"\ntag_headers = [\"surrogate-key\"]");
    let stage = Stage::new().config(&all).also(&plain).start().await;
    let (renewed, own) = (["renewed", "hit"], ["pass.unshareable", "pass.marker"]);
    for (n, (route, status, stored, fresh, expected, why)) in [
        ("plain", 200, "", "", renewed, "what it leaves out stands, the lifetime too"),
        ("plain", 200, "", "cache-control: no-store", own, "§5.2.2.5"),
        ("plain", 200, "", "cache-control: private, max-age=5", own, "§5.2.2.7"),
        ("plain", 200, "", "set-cookie: a=1", own, "one client's, where the route does not say otherwise"),
        ("plain", 200, "", "content-encoding: gzip", renewed, "§3.2: the stored body is coded as it was"),
        ("plain", 200, "", "content-type: text/html", renewed, "§3.2: and of the type that it was"),
        ("plain", 200, "", "vary: x-unknown", own, "nothing of a request that was not asked with it"),
        ("all", 200, "vary: a, b, c, d, e", "vary: f, g, h, i", own, "together they are more than we tell apart"),
        ("all", 200, "vary: a, b, c, d, e", "vary: e, f, g, h", renewed, "and these are not"),
        (
            "all",
            299,
            "",
            "cache-control: max-age=5, must-understand",
            ["renewed", "miss"],
            "§5.2.2.3: nobody knows 299",
        ),
        ("all", 404, "", "cache-control: max-age=5, must-understand", renewed, "§5.2.2.3: but 404"),
        ("plain", 200, "surrogate-key: a b", "surrogate-key: b", renewed, "a purge of b finds it"),
        ("plain", 200, "surrogate-key: a", "surrogate-key: a b", ["miss", "hit"], "else a purge of b would not"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/{route}/{n}");
        let line = |field: &str| if field.is_empty() { String::new() } else { format!("{field}\r\n") };
        let head = "content-type: application/json\r\ncontent-length: 1\r\netag: \"1\"\r\ncache-control: max-age=5\r\n";
        let whole = format!("HTTP/1.1 {status} X\r\n{head}{}\r\n1", line(stored));
        let renewal = format!("HTTP/1.1 304 Not Modified\r\netag: \"1\"\r\n{}\r\n", line(fresh));
        stage.origin.respond(&path, move |seen| {
            Answer::raw(if seen.field("if-none-match").is_empty() { whole.clone() } else { renewal.clone() })
        });
        assert_eq!(stage.get(&path).await.detail(), "miss");
        stage.advance_secs(6);
        for expected in expected {
            let reply = stage.get(&path).await;
            let found = (reply.status, reply.text(), reply.detail());
            assert_eq!(found, (status, "1".into(), expected.into()), "{stored}; {fresh}: {why}");
            assert_eq!(reply.field("content-type"), "application/json", "{fresh}");
        }
    }
}

/// What is said of the bytes is said of the plain ones, also by a 304 (RFC 9530 §2).
#[tokio::test]
async fn a_304_that_brings_a_digest_ends_the_encoded_forms() {
    let stage = Stage::new().config(RFC_PLAIN).start().await;
    let body = format!("[{}1]", "1,".repeat(2000));
    let whole = Answer::json(body).etag("\"1\"").header("cache-control", "max-age=5");
    stage.origin.answer("/a", whole);
    let br = [("accept-encoding", "br")];
    assert_eq!(stage.get_with("/a", &br).await.detail(), "miss");
    crate::stage::until("it is encoded", async || stage.get_with("/a", &br).await.field("content-encoding") == "br")
        .await;
    stage.advance_secs(6);
    stage
        .origin
        .answer("/a", Answer::raw("HTTP/1.1 304 Not Modified\r\netag: \"1\"\r\nrepr-digest: sha-256=:YQ==:\r\n\r\n"));
    for detail in ["renewed", "hit"] {
        let reply = stage.get_with("/a", &br).await;
        assert_eq!((reply.detail(), reply.field("content-encoding")), (detail.to_owned(), String::new()));
        assert_eq!(reply.field("repr-digest"), "sha-256=:YQ==:");
    }
}
