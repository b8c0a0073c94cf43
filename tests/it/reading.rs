//! What a reader sees: fills, hits, HEAD, conditional requests, and many at once.

use std::collections::HashSet;

use futures_util::future::join_all;

use crate::stage::{Answer, Client, Reply, Stage, get_h2, until, within};

#[tokio::test]
async fn a_cold_read_fills_and_the_second_hits() {
    let stage = Stage::new().start().await;
    let first = stage.get("/store/products?limit=2").await;
    let said = first.field("cache-status");
    assert!(said.starts_with("endcap; fwd=uri-miss; fwd-status=200; stored; key="), "{said}");
    assert_eq!(first.detail(), "miss");
    stage.advance_secs(20);
    let second = stage.get("/store/products?limit=2").await;
    assert_eq!(second.field("cache-status"), "endcap; hit; ttl=100; detail=hit");
    assert_eq!((second.status, second.field("age")), (200, "20".to_owned()));
    assert_eq!(second.field("content-type"), "application/json");
    assert_eq!(first.body, second.body);
    assert_eq!(stage.origin.total(), 1);
}

#[tokio::test]
async fn a_plain_request_gets_the_answer_that_the_general_way_gives() {
    let stage = Stage::new().start().await;
    let mut client = stage.client(0).await;
    let answer = |reply: Reply| (reply.protocol, reply.status, reply.headers, reply.body);
    for (target, headers) in [
        ("/store/products", &[][..]),
        ("/store/products?q=a&limit=2", &[("x-publishable-api-key", "pk")]),
        ("/store/products?limit=2&q=%61", &[("x-publishable-api-key", "pk"), ("accept", "*/*")]),
        ("/store/products/prod_1", &[("x-medusa-locale", "FR-fr"), ("user-agent", "x")]),
        ("/store/regions", &[("origin", "http://shop.example")]),
        ("/store/regions?x=1", &[]),
        ("/store/products?locale=a&locale=b", &[]),
        ("/store/carts/cart_1", &[]),
    ] {
        client.ask("GET", target, headers, b"").await;
        stage.advance_secs(3);
        let plain = client.ask("GET", target, headers, b"").await;
        // A field that no answer depends on, and that no plain head has.
        let told: Vec<_> = headers.iter().copied().chain([("keep-alive", "9")]).collect();
        let general = client.ask("GET", target, &told, b"").await;
        assert_eq!(answer(plain), answer(general), "{target} {headers:?}");
    }
}

#[tokio::test]
async fn one_kept_connection_serves_misses_hits_and_passes_in_turn() {
    let stage = Stage::new().start().await;
    let mut client = stage.client(0).await;
    let mut details = Vec::new();
    for target in ["/store/products", "/store/products", "/store/carts/cart_1", "/store/products"] {
        details.push(client.get(target).await.detail());
    }
    assert_eq!(details, ["miss", "hit", "pass.no_route", "hit"]);
}

#[tokio::test]
async fn http_2_reads_what_http_1_filled() {
    let stage = Stage::new().start().await;
    let filled = stage.get("/store/regions").await;
    let hit = get_h2(stage.address(0), "/store/regions").await;
    assert_eq!((hit.status, hit.detail()), (200, "hit".to_owned()));
    assert_eq!(hit.body, filled.body);
}

#[tokio::test]
async fn head_is_answered_from_the_stored_get() {
    let stage = Stage::new().start().await;
    let got = stage.get("/store/regions").await;
    let head = stage.ask("HEAD", "/store/regions", &[], b"").await;
    assert_eq!((head.status, head.detail()), (200, "hit".to_owned()));
    assert_eq!(head.field("content-length"), got.body.len().to_string());
    assert_eq!(stage.origin.total(), 1);
}

#[tokio::test]
async fn a_cold_head_fills_by_get_and_the_connection_goes_on() {
    let stage = Stage::new().start().await;
    let mut client = stage.client(0).await;
    let head = client.ask("HEAD", "/store/regions", &[], b"").await;
    assert_eq!((head.status, head.detail()), (200, "miss".to_owned()));
    assert_eq!(stage.origin.last().method, "GET");
    let got = client.get("/store/regions").await;
    assert_eq!(got.detail(), "hit");
    assert_eq!(head.field("content-length"), got.body.len().to_string());
}

#[tokio::test]
async fn who_has_it_already_gets_304() {
    let stage = Stage::new().start().await;
    stage.origin.answer("/store/regions", Answer::json("{}").etag("\"v1\"").header("cache-control", "max-age=9"));
    stage.get("/store/regions").await;
    for known in ["\"v1\"", "W/\"v1\"", "\"v0\", \"v1\"", "*"] {
        let reply = stage.get_with("/store/regions", &[("if-none-match", known)]).await;
        assert_eq!((reply.status, reply.detail()), (304, "hit".to_owned()), "{known}");
        assert_eq!((reply.field("etag"), reply.field("cache-control")), ("\"v1\"".to_owned(), "max-age=9".to_owned()));
        assert_eq!(reply.field("content-length"), "", "{known}");
    }
    let other = stage.get_with("/store/regions", &[("if-none-match", "\"v0\"")]).await;
    assert_eq!((other.status, other.text()), (200, "{}".to_owned()));
    assert_eq!(stage.origin.total(), 1);
}

#[tokio::test]
async fn a_condition_of_a_client_never_reaches_the_origin() {
    let stage = Stage::new().start().await;
    stage.origin.answer("/store/regions", Answer::json("{}").etag("\"v1\""));
    let headers =
        [("if-none-match", "\"v1\""), ("if-modified-since", "Thu, 01 Jan 2026 00:00:00 GMT"), ("range", "bytes=0-0")];
    let first = stage.get_with("/store/regions", &headers).await;
    assert_eq!((first.status, first.detail()), (304, "miss".to_owned()), "the fill itself was whole");
    let seen = stage.origin.last();
    assert!(headers.iter().all(|(name, _)| seen.field(name).is_empty()), "{seen:?}");
    assert_eq!(stage.get("/store/regions").await.text(), "{}");
}

#[tokio::test]
async fn five_hundred_cold_requests_ask_the_origin_once() {
    let stage = Stage::new().start().await;
    let hold = stage.origin.hold("/store/products");
    let address = stage.address(0);
    // Streams of a few connections: a machine's limit of open files is no matter of this test.
    let readers: Vec<_> = (0..500)
        .map(|n| match n % 5 {
            0 => stage.run(async move { Client::connect(address).await.get("/store/products?limit=12").await }),
            _ => stage.run(async move { get_h2(address, "/store/products?limit=12&utm_source=mail").await }),
        })
        .collect();
    hold.arrived(1).await;
    stage.followers(499).await;
    hold.release();
    let replies: Vec<_> = join_all(readers).await.into_iter().map(Result::unwrap).collect();
    let bodies: HashSet<_> = replies.iter().map(|reply| (reply.status, reply.body.clone())).collect();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    assert_eq!(stage.origin.total(), 1);
    let collapsed = replies.iter().filter(|reply| reply.detail() == "collapsed").count();
    assert_eq!(collapsed, 499);
    let said = replies.iter().find(|reply| reply.detail() == "collapsed").unwrap().field("cache-status");
    assert!(said.starts_with("endcap; fwd=uri-miss; fwd-status=200; collapsed; key="), "{said}");
}

#[tokio::test]
async fn when_the_leaders_client_leaves_the_followers_still_get_the_answer() {
    let stage = Stage::new().start().await;
    let hold = stage.origin.hold("/store/products");
    let mut leader = stage.client(0).await;
    leader.send("GET", "/store/products", &[], b"").await;
    hold.arrived(1).await;
    let followers = [stage.begin("/store/products"), stage.begin("/store/products")];
    stage.followers(2).await;
    drop(leader);
    stage.metric_reaches(0, "endcap_connection_ends_total", &[("end", "finished")], 1.0).await;
    hold.release();
    for follower in followers {
        let reply = within(follower).await.unwrap();
        assert_eq!((reply.status, reply.detail()), (200, "collapsed".to_owned()));
    }
    assert_eq!(stage.origin.total(), 1);
}

#[tokio::test]
async fn a_fill_goes_on_when_all_its_readers_have_left() {
    let stage = Stage::new().start().await;
    let hold = stage.origin.hold("/store/products");
    let mut leader = stage.client(0).await;
    leader.send("GET", "/store/products", &[], b"").await;
    hold.arrived(1).await;
    drop(leader);
    hold.release();
    stage.settled(0).await;
    assert_eq!(stage.get("/store/products").await.detail(), "hit");
    assert_eq!(stage.origin.total(), 1);
}

#[tokio::test]
async fn an_empty_answer_is_stored_like_any_other() {
    let stage = Stage::new().also("[route_defaults]\ncontent_type = \"*\"\ntag_prefixes = []\n").start().await;
    stage.origin.answer("/store/regions", Answer::json(""));
    assert_eq!(stage.get("/store/regions").await.detail(), "miss");
    let hit = stage.get("/store/regions").await;
    assert_eq!((hit.detail(), hit.body.len()), ("hit".to_owned(), 0));
}

#[tokio::test]
async fn a_slow_reader_does_not_hold_up_another() {
    let stage = Stage::new().start().await;
    let body = format!("\"{}\"", "x".repeat(8 << 20));
    stage.origin.answer("/store/regions", Answer::json(body.clone()));
    stage.get("/store/regions").await;
    // It asks, and takes nothing.
    let mut slow = stage.client(0).await;
    slow.send("GET", "/store/regions", &[], b"").await;
    until("the slow request is answered", async || {
        stage.metric(0, "endcap_requests_total", &[("outcome", "hit")]).await >= 1.0
    })
    .await;
    assert_eq!(stage.get("/store/regions").await.body.len(), body.len());
    assert_eq!(slow.reply("GET").await.unwrap().body, body);
}

#[tokio::test]
async fn a_head_of_what_is_ones_own_has_no_body_either() {
    let stage = Stage::new().start().await;
    stage.origin.answer("/store/regions", Answer::json("{}").header("set-cookie", "a=b"));
    let mut client = stage.client(0).await;
    for detail in ["miss.set_cookie", "pass.marker"] {
        let head = client.ask("HEAD", "/store/regions", &[], b"").await;
        assert_eq!((head.status, head.detail().as_str(), head.field("content-length").as_str()), (200, detail, "2"));
    }
    assert_eq!(client.get("/store/regions").await.text(), "{}", "the connection goes on");
}
