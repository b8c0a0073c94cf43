//! RFC mode on the wire: what the public tests for caches do not ask, or ask in another way.

use crate::stage::{Answer, Stage, until};

/// A route that leaves everything to the origin's own words.
const RFC: &str = "[route.rfc]\npaths = [\"/{path*}\"]\npolicy = \"origin\"\nkey = \"url\"\nforward = [\"*\"]\ncontent_type = \"*\"\nsie = \"1m\"\n\
    trust = [\"authorization\", \"cookies\", \"errors\", \"heuristics\"]\n";

/// An answer that says which `Accept-Language` it was made for.
fn by_language(stage: &Stage, path: &str) {
    stage.origin.respond(path, |seen| {
        let body = format!("{:?}", seen.field("accept-language"));
        Answer::json(body).header("cache-control", "max-age=60").header("vary", "Accept-Language").etag("\"1\"")
    });
}

#[tokio::test]
async fn each_variant_is_kept_in_both_tiers_of_every_node() {
    let stage = Stage::new().config(RFC).nodes(2).redis().await.start().await;
    by_language(&stage, "/a");
    let ask = async |node: usize, language: &str| {
        let reply = stage.client(node).await.ask("GET", "/a", &[("accept-language", language)], b"").await;
        assert_eq!(reply.text(), format!("{language:?}"));
        until("it is shared", async || stage.status(node).await["shared"]["writes_under_way"] == 0).await;
        reply.field("cache-status")
    };
    let keys = [ask(0, "de").await, ask(0, "fr").await].map(|said| {
        let (before, after) = said.split_once("; key=\"").unwrap();
        let (key, after) = after.split_once('"').unwrap();
        (before.to_owned(), key.to_owned(), after.to_owned())
    });
    for ((before, key, after), fwd) in keys.iter().zip(["uri-miss", "vary-miss"]) {
        assert_eq!(*before, format!("endcap; fwd={fwd}; fwd-status=200; stored"));
        assert!(after == "; detail=miss" && key.len() == 16 && key.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
    assert_ne!(keys[0].1, keys[1].1, "each variant has its own");
    for language in ["de", "fr"] {
        assert_eq!(ask(0, language).await, "endcap; hit; ttl=60; detail=hit");
    }
    // The other node has heard of neither.
    for language in ["fr", "de"] {
        assert!(ask(1, language).await.ends_with("detail=hit_l2"), "{language}");
        assert!(ask(1, language).await.ends_with("detail=hit"), "{language}");
    }
    assert_eq!(stage.origin.total(), 2);
}

#[tokio::test]
async fn who_asks_in_ever_new_ways_does_not_fill_the_shared_tier() {
    let mut stage = Stage::new().config(RFC).nodes(2).redis().await.start().await;
    by_language(&stage, "/a");
    let mut client = stage.client(0).await;
    for n in 0..400 {
        client.ask("GET", "/a", &[("accept-language", &format!("x-{n}"))], b"").await;
    }
    until("all is shared", async || stage.status(0).await["shared"]["writes_under_way"] == 0).await;
    let held = stage.redis().command(&["KEYS", "*:e:*"]).await;
    let held = held.as_sequence().unwrap().len();
    assert!(held <= 1 + 256, "the names and 256 places, not {held}");
    // The last one has its place, and a stranger's there is not taken for it.
    let mut client = stage.client(1).await;
    let mut ask = async |n: usize| {
        let language = format!("x-{n}");
        let reply = client.ask("GET", "/a", &[("accept-language", &language)], b"").await;
        assert_eq!(reply.text(), format!("{language:?}"));
        reply.detail()
    };
    assert_eq!(ask(399).await, "hit_l2");
    for n in 0..40 {
        ask(n).await;
    }
}

/// The flight begins under the URL's key, and learns from the shared tier that the answers vary.
#[tokio::test]
async fn the_lease_of_a_variant_that_the_shared_tier_told_of_is_given_back() {
    let mut stage = Stage::new().config(RFC).nodes(2).redis().await.start().await;
    by_language(&stage, "/a");
    let ask = async |node: usize, language: &str| {
        let mut client = stage.client(node).await;
        let reply = client.ask("GET", "/a", &[("accept-language", language)], b"").await;
        until("all is shared", async || stage.status(node).await["shared"]["writes_under_way"] == 0).await;
        reply.detail()
    };
    assert_eq!(ask(0, "de").await, "miss");
    assert_eq!(ask(1, "en").await, "miss");
    let leases = stage.redis().command(&["KEYS", "*:l:*"]).await;
    assert_eq!(leases.as_sequence().unwrap(), []);
}

#[tokio::test]
async fn who_waits_for_another_variant_gets_its_own() {
    let stage = Stage::new().config(RFC).start().await;
    by_language(&stage, "/a");
    let hold = stage.origin.hold("/a");
    let ask = |language: &'static str| {
        let address = stage.address(0);
        stage.run(async move {
            let mut client = crate::stage::Client::connect(address).await;
            client.ask("GET", "/a", &[("accept-language", language)], b"").await.text()
        })
    };
    let first = ask("de");
    hold.arrived(1).await;
    let (other, same) = (ask("fr"), ask("de"));
    stage.followers(2).await;
    hold.release();
    assert_eq!(first.await.unwrap(), "\"de\"");
    assert_eq!((&*other.await.unwrap(), &*same.await.unwrap()), ("\"fr\"", "\"de\""));
    assert_eq!(stage.origin.total(), 2, "one each, and the third shares the first's");
}

#[tokio::test]
async fn when_an_answer_varies_by_more_or_by_nothing_that_is_what_counts() {
    let stage = Stage::new().config(RFC).start().await;
    let say = |vary: &str| {
        stage.origin.answer("/a", Answer::json("1").header("cache-control", "max-age=60").header("vary", vary))
    };
    let ask = async |foo: &str, bar: &str| stage.get_with("/a", &[("foo", foo), ("bar", bar)]).await.detail();
    say("foo");
    assert_eq!(ask("1", "1").await, "miss");
    assert_eq!(ask("1", "2").await, "hit");
    say("foo, bar");
    assert_eq!(ask("2", "1").await, "miss");
    assert_eq!(ask("2", "2").await, "miss");
    assert_eq!(ask("2", "1").await, "hit");
    say("");
    assert_eq!(ask("3", "1").await, "miss");
    assert_eq!(ask("4", "4").await, "hit");
}

#[tokio::test]
async fn no_cache_is_asked_about_each_time_and_never_given_to_who_waits() {
    let stage = Stage::new().config(RFC).start().await;
    stage.origin.answer("/a", Answer::json("1").header("cache-control", "no-cache").etag("\"1\""));
    assert_eq!(stage.get("/a").await.field("cache-control"), "no-cache");
    assert_eq!(stage.get("/a").await.detail(), "renewed");
    assert_eq!(stage.origin.last().field("if-none-match"), "\"1\"");
    let hold = stage.origin.hold("/a");
    let first = stage.begin("/a");
    hold.arrived(1).await;
    let second = stage.begin("/a");
    stage.followers(1).await;
    hold.release();
    assert_eq!(first.await.unwrap().detail(), "renewed");
    assert_eq!(second.await.unwrap().detail(), "pass.unshareable");
}

#[tokio::test]
async fn fields_that_no_cache_names_go_to_who_asked_alone() {
    let stage = Stage::new().config(RFC).start().await;
    let answer = Answer::json("1").header("cache-control", "max-age=60, no-cache=\"x-own\"");
    stage.origin.answer("/a", answer.header("x-own", "1").header("x-all", "2"));
    let of = async || {
        let reply = stage.get("/a").await;
        [reply.field("x-own"), reply.field("x-all")]
    };
    assert_eq!(of().await, ["1", "2"]);
    assert_eq!(of().await, ["", "2"]);
    assert_eq!(stage.origin.total(), 1);
}

#[tokio::test]
async fn an_answer_to_a_login_is_shared_only_where_it_says_so() {
    let stage = Stage::new().config(RFC).start().await;
    let login = [("authorization", "Bearer x")];
    for (path, control, later) in [("/own", "max-age=60", "pass.marker"), ("/all", "max-age=60, public", "hit")] {
        stage.origin.answer(path, Answer::json("1").header("cache-control", control));
        stage.get_with(path, &login).await;
        assert_eq!(stage.origin.last().field("authorization"), "Bearer x");
        assert_eq!(stage.get(path).await.detail(), later, "{path}");
    }
}

#[tokio::test]
async fn parts_are_cut_from_what_is_stored() {
    let stage = Stage::new().config(RFC).start().await;
    let answer = Answer::json("0123456789").header("cache-control", "max-age=60").etag("\"1\"");
    stage.origin.answer("/a", answer);
    let ask = async |headers: &[(&str, &str)]| {
        let reply = stage.get_with("/a", headers).await;
        (reply.status, reply.field("content-range"), reply.text())
    };
    let part = (206, "bytes 2-4/10".to_owned(), "234".to_owned());
    assert_eq!(ask(&[("range", "bytes=2-4")]).await, part);
    assert_eq!(stage.origin.last().field("range"), "", "the whole is asked for");
    assert_eq!(ask(&[("range", "bytes=2-4"), ("if-range", "\"1\"")]).await, part);
    assert_eq!(ask(&[("range", "bytes=2-4"), ("if-range", "\"2\"")]).await.0, 200);
    assert_eq!(ask(&[("range", "bytes=10-")]).await, (416, "bytes */10".to_owned(), String::new()));
    assert_eq!(ask(&[("range", "bytes=2-4"), ("if-none-match", "\"1\"")]).await.0, 304);
    let head = stage.ask("HEAD", "/a", &[("range", "bytes=2-4")], b"").await;
    assert_eq!((head.status, head.field("content-length")), (200, "10".to_owned()));
    assert_eq!(stage.origin.total(), 1);
}

#[tokio::test]
async fn an_error_is_kept_as_long_as_it_says_and_no_longer() {
    let stage = Stage::new().config(RFC).start().await;
    stage.origin.answer("/kept", Answer::status(503).header("cache-control", "max-age=60"));
    stage.origin.answer("/not", Answer::status(503));
    for (path, expected) in [("/kept", "hit"), ("/not", "failed.origin_status")] {
        stage.get(path).await;
        let second = stage.get(path).await;
        assert_eq!((second.status, second.detail()), (503, expected.to_owned()), "{path}");
    }
    assert_eq!(stage.origin.total(), 3);
}

#[tokio::test]
async fn without_a_word_a_stale_answer_serves_a_failure_for_the_routes_time_alone() {
    let stage = Stage::new().config(RFC).start().await;
    for (path, control, expected) in [
        ("/plain", "max-age=1", 200),
        ("/shared", "s-maxage=1", 502),
        ("/strict", "max-age=1, must-revalidate", 502),
        ("/proxy", "max-age=1, proxy-revalidate", 502),
    ] {
        stage.origin.answer(path, Answer::json("1").header("cache-control", control));
        stage.get(path).await;
        stage.advance_secs(2);
        stage.origin.answer(path, Answer::reset());
        assert_eq!(stage.get(path).await.status, expected, "{control}");
    }
    stage.advance_secs(60);
    assert_eq!(stage.get("/plain").await.status, 502, "its minute is over");
}

#[tokio::test]
async fn a_rules_own_cache_control_does_not_lose_the_origins_at_a_304() {
    let stage = Stage::new()
        .config("[route.things]\npaths = [\"/a\"]\npolicy = \"origin\"\ncache_control = \"no-cache\"\n")
        .start()
        .await;
    stage.origin.answer("/a", Answer::json("1").header("cache-control", "max-age=10").etag("\"1\""));
    assert_eq!(stage.get("/a").await.field("cache-control"), "no-cache");
    stage.advance_secs(11);
    stage.origin.answer("/a", Answer::raw("HTTP/1.1 304 Not Modified\r\netag: \"1\"\r\n\r\n"));
    assert_eq!(stage.get("/a").await.detail(), "renewed");
    stage.advance_secs(9);
    let again = stage.get("/a").await;
    assert_eq!((again.detail(), again.field("cache-control")), ("hit".to_owned(), "no-cache".to_owned()));
    stage.advance_secs(2);
    assert_eq!(stage.get("/a").await.detail(), "renewed");
}

/// What a 304 says of its lifetime counts, and what it leaves out stands.
#[tokio::test]
async fn a_304_says_how_long_it_is_good_where_the_rule_has_its_own_cache_control() {
    let stage = Stage::new()
        .config("[route.things]\npaths = [\"/{path*}\"]\npolicy = \"origin\"\nkey = \"url\"\ncache_control = \"no-cache\"\n")
        .start()
        .await;
    let (cc, cdn) = ("cache-control: max-age=10\r\n", "cdn-cache-control: max-age=10\r\n");
    for (n, (stored, fresh, seconds, why)) in [
        (cc, "", 10, "nothing: as before"),
        (cc, "cache-control: max-age=20\r\n", 20, "its own"),
        (cc, "cdn-cache-control: max-age=20\r\n", 20, "a targeted one"),
        (cc, "cdn-cache-control: max-age=20\r\ncache-control: max-age=5\r\n", 20, "that goes before"),
        (cc, "date: Thu, 01 Jan 2099 00:00:00 GMT\r\nexpires: Thu, 01 Jan 2099 00:00:20 GMT\r\n", 20, "Expires"),
        (cc, "age: 4\r\n", 6, "it was made a while ago"),
        (cdn, "", 10, "nothing: as before"),
        (cdn, "cache-control: max-age=5\r\n", 10, "the stored targeted field goes before it"),
        (cdn, "cache-control: no-store\r\n", 10, "likewise"),
        (cdn, "age: 4\r\n", 6, "it was made a while ago"),
        (cdn, "cdn-cache-control: max-age=20\r\n", 20, "its own"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/{n}");
        let head = "content-type: application/json\r\ncontent-length: 1\r\netag: \"1\"\r\n";
        stage.origin.answer(&path, Answer::raw(format!("HTTP/1.1 200 OK\r\n{head}{stored}\r\n1")));
        assert_eq!(stage.get(&path).await.detail(), "miss");
        stage.advance_secs(11);
        stage.origin.answer(&path, Answer::raw(format!("HTTP/1.1 304 Not Modified\r\netag: \"1\"\r\n{fresh}\r\n")));
        assert_eq!(stage.get(&path).await.detail(), "renewed", "{stored} {fresh}");
        stage.advance_secs(seconds - 1);
        assert_eq!(stage.get(&path).await.detail(), "hit", "{stored} {fresh}: {why}");
        stage.advance_secs(1);
        assert_eq!(stage.get(&path).await.detail(), "renewed", "{stored} {fresh}: {why}");
    }
}

#[tokio::test]
async fn a_304_about_something_else_and_then_a_failure_leave_what_is_stored() {
    let stage = Stage::new().config(RFC).start().await;
    let control = ("cache-control", "max-age=5, stale-if-error=60");
    stage.origin.answer("/a", Answer::json("1").etag("\"1\"").header(control.0, control.1));
    stage.get("/a").await;
    stage.advance_secs(6);
    stage.origin.respond("/a", |seen| match seen.field("if-none-match").is_empty() {
        true => Answer::status(503),
        false => Answer::raw("HTTP/1.1 304 Not Modified\r\netag: \"2\"\r\n\r\n".to_owned()),
    });
    let reply = stage.get("/a").await;
    assert_eq!(
        (reply.status, reply.detail(), reply.text()),
        (200, "stale_error.origin_status".to_owned(), "1".to_owned())
    );
    assert_eq!(stage.origin.total(), 3);
    // The whole is asked for with no condition: a 304 to that is about nothing.
    stage.advance_secs(2);
    let other = "HTTP/1.1 304 Not Modified\r\netag: \"1\"\r\n\r\n";
    stage.origin.respond("/a", move |seen| match seen.field("if-none-match").is_empty() {
        true => Answer::raw(other.to_owned()),
        false => Answer::raw("HTTP/1.1 304 Not Modified\r\netag: \"2\"\r\n\r\n".to_owned()),
    });
    assert_eq!(stage.get("/a").await.detail(), "stale_error.upstream_status");
}

/// A cache behind us has had its say (RFC 9211 §2).
#[tokio::test]
async fn the_cache_status_of_a_cache_behind_us_stands_before_ours() {
    let stage = Stage::new().config(RFC).start().await;
    let answer = Answer::json("1").header("cache-control", "max-age=60").header("cache-status", "inner; hit");
    stage.origin.answer("/a", answer);
    for ours in ["detail=miss", "detail=hit"] {
        let reply = stage.get_with("/a", &[("x-a", "1")]).await;
        let said: Vec<_> = reply.headers.get_all("cache-status").iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0] == "inner; hit" && said[1].starts_with("endcap; ") && said[1].ends_with(ours), "{said:?}");
    }
}

#[tokio::test]
async fn without_content_there_is_no_length() {
    let stage = Stage::new().config(RFC).start().await;
    let head = "HTTP/1.1 204 No Content\r\ncache-control: max-age=60\r\n\r\n";
    stage.origin.answer("/a", Answer::raw(head));
    for detail in ["miss", "hit"] {
        let reply = stage.get("/a").await;
        assert_eq!((reply.status, reply.detail().as_str()), (204, detail));
        assert!(!reply.headers.contains_key("content-length"), "{detail}: RFC 9110 §8.6");
    }
}

#[tokio::test]
async fn a_part_has_neither_the_digest_nor_the_lifetime_of_the_whole() {
    let stage = Stage::new().config(RFC).start().await;
    let answer = Answer::json("0123456789").header("cache-control", "public, max-age=60").etag("\"1\"");
    let digests = ["content-digest", "content-md5", "repr-digest"];
    let answer = digests.iter().fold(answer, |answer, name| answer.header(name, "sha-256=:YQ==:"));
    stage.origin.answer("/a", answer.header("cdn-cache-control", "max-age=60"));
    stage.get("/a").await;
    let ask = async |range: &str| stage.get_with("/a", &[("range", range)]).await;
    let kept = |reply: &crate::stage::Reply| digests.map(|name| !reply.field(name).is_empty());
    let part = ask("bytes=2-4").await;
    assert_eq!((part.status, kept(&part)), (206, [false, false, true]));
    assert_eq!(kept(&stage.get("/a").await), [true; 3]);
    // Nobody downstream may keep it: it says nothing of other ranges.
    let beyond = ask("bytes=99-").await;
    assert_eq!((beyond.status, beyond.field("cache-control").as_str()), (416, "no-store"));
    assert!(!beyond.headers.contains_key("cdn-cache-control"));
}

/// Told to slow down is no failure by the book (RFC 9111 §4.3.3).
#[tokio::test]
async fn a_429_is_an_answer() {
    let stage = Stage::new().config(RFC).start().await;
    for (status, expected) in [(429, 429), (503, 200)] {
        let path = format!("/{status}");
        stage.origin.answer(&path, Answer::json("1").header("cache-control", "max-age=1, stale-if-error=60"));
        stage.get(&path).await;
        stage.advance_secs(2);
        stage.origin.answer(&path, Answer::status(status));
        assert_eq!(stage.get(&path).await.status, expected);
    }
}

#[tokio::test]
async fn what_selects_is_kept_although_no_cache_names_it() {
    let stage = Stage::new().config(RFC).start().await;
    stage.origin.respond("/a", |seen| {
        let answer = Answer::json(format!("{:?}", seen.field("foo"))).header("vary", "foo");
        answer.header("cache-control", "max-age=60, no-cache=\"vary\"")
    });
    for foo in ["1", "2"] {
        let reply = stage.get_with("/a", &[("foo", foo)]).await;
        assert_eq!((reply.text(), reply.field("vary")), (format!("{foo:?}"), "foo".into()));
    }
}

#[tokio::test]
async fn a_targeted_field_decides_here_and_goes_on() {
    let stage = Stage::new().config(RFC).start().await;
    let answer = |targeted: &str, plain: &str| {
        Answer::json("1").header("cdn-cache-control", targeted).header("cache-control", plain)
    };
    for (path, targeted, plain, second) in [
        ("/wins", "max-age=60", "no-store", "hit"),
        ("/forbids", "no-store", "max-age=60", "pass.marker"),
        ("/broken", "max-age=60, &&", "max-age=60", "hit"),
        ("/type", "max-age=\"60\"", "max-age=60", "miss"),
    ] {
        stage.origin.answer(path, answer(targeted, plain));
        let first = stage.get(path).await;
        assert_eq!((first.field("cdn-cache-control"), first.field("cache-control")), (targeted.into(), plain.into()));
        assert_eq!(stage.get(path).await.detail(), second, "{path}");
    }
}

/// What is sent stale, or of a range that is not there, loses its lifetime and nothing else.
#[tokio::test]
async fn a_lifetime_that_is_taken_away_takes_no_restriction_with_it() {
    let stage = Stage::new().config(RFC).start().await;
    let of = |path: &str, control: &str, targeted: &str| {
        let answer = Answer::json("1").header("cache-control", control).header("surrogate-control", targeted);
        stage.origin.answer(path, answer);
    };
    of("/a", "public, max-age=1, stale-if-error=60, no-transform", "max-age=60");
    of("/b", "max-age=1, stale-if-error=60, no-cache=\"x-a\"", "no-store");
    for (path, expected) in [("/a", "no-transform"), ("/b", "no-cache, no-store")] {
        stage.get(path).await;
        let beyond = stage.get_with(path, &[("range", "bytes=9-")]).await;
        let (status, said) = (beyond.status, beyond.field("cache-control"));
        let rest = expected.trim_end_matches(", no-store");
        assert_eq!((status, said), (416, format!("no-store, {rest}")), "{path}");
        stage.advance_secs(2);
        stage.origin.answer(path, Answer::reset());
        let stale = stage.get(path).await;
        assert_eq!(stale.detail().split('.').next(), Some("stale_error"), "{path}");
        assert_eq!(stale.field("cache-control"), format!("max-age=0, must-revalidate, {expected}"), "{path}");
        assert!(!stale.headers.contains_key("surrogate-control"), "{path}");
    }
}

#[tokio::test]
async fn an_error_that_may_not_be_stored_goes_to_who_asked_as_it_is() {
    let stage = Stage::new().config(RFC).start().await;
    let answer = Answer::status(599).header("cache-control", "max-age=60, no-store, must-understand");
    stage.origin.answer("/a", answer.header("x-own", "1"));
    for n in 1..=2 {
        let reply = stage.get("/a").await;
        assert_eq!((reply.status, reply.field("x-own"), reply.text()), (599, "1".into(), r#"{"status":599}"#.into()));
        assert_eq!(stage.origin.total(), n, "never from what was stored");
    }
}
