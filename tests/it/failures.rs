//! The origin fails: what is served instead, what is shared, and what is never stored.

use std::time::Duration;

use crate::stage::{Answer, Reply, Stage, within};

/// A route whose answers serve for an hour when the origin fails.
const THINGS: &str = "[route.things]\npaths = [\"/things\"]\nttl = \"1h\"\nsie = \"1h\"\n";

#[tokio::test]
async fn when_the_origin_is_down_the_stale_answer_serves_within_its_window() {
    let stage = Stage::new().start().await;
    stage.get("/store/products").await;
    stage.origin.close();
    stage.advance_secs(120 + 600);
    let reply = stage.get("/store/products").await;
    assert_eq!((reply.status, reply.detail(), reply.version()), (200, "stale_error.connect_refused".to_owned(), 1));
    assert_eq!(reply.field("cache-control"), "max-age=0, must-revalidate");
    stage.advance_secs(3600 - 600);
    let reply = stage.get("/store/products").await;
    assert_eq!((reply.status, reply.detail()), (502, "failed.connect_refused".to_owned()));
}

#[tokio::test]
async fn an_error_of_the_origin_is_no_better_than_a_stale_answer() {
    let stage = Stage::new().start().await;
    stage.get("/store/products").await;
    for (n, status) in [500, 503, 429].into_iter().enumerate() {
        stage.advance_secs(720);
        stage.origin.answer("/store/products", Answer::status(status));
        let reply = stage.get("/store/products").await;
        assert_eq!((reply.status, reply.detail()), (200, "stale_error.origin_status".to_owned()), "{status}");
        assert_eq!(stage.origin.total(), 2 + n);
    }
}

#[tokio::test]
async fn a_failure_is_shared_for_error_ttl_and_the_origin_asked_once() {
    let stage = Stage::new().start().await;
    stage.origin.answer("/store/products", Answer::status(500));
    for _ in 0..5 {
        let reply = stage.get("/store/products").await;
        assert_eq!((reply.status, reply.detail()), (500, "failed.origin_status".to_owned()));
        assert_eq!(reply.json()["status"], 500, "the origin's own words");
    }
    assert_eq!(stage.origin.total(), 1);
    stage.advance_secs(1);
    stage.origin.answer("/store/products", Answer::json("{}"));
    assert_eq!(stage.get("/store/products").await.detail(), "miss");
    assert_eq!(stage.get("/store/products").await.detail(), "hit");
}

#[tokio::test]
async fn a_failure_is_shared_with_those_who_wait() {
    let stage = Stage::new().start().await;
    stage.origin.answer("/store/products", Answer::reset());
    let hold = stage.origin.hold("/store/products");
    let readers = [stage.begin("/store/products"), stage.begin("/store/products"), stage.begin("/store/products")];
    stage.followers(2).await;
    hold.release();
    for reader in readers {
        assert_eq!(within(reader).await.unwrap().status, 502);
    }
    // One retry of a fill on a fresh connection is the origin module's affair.
    assert!(stage.origin.total() <= 2, "{}", stage.origin.total());
}

#[tokio::test]
async fn refusals_and_errors_are_never_stored() {
    let stage = Stage::new().start().await;
    for status in [400, 401, 403, 405, 429, 500, 501, 502, 503, 504] {
        let path = format!("/store/products/prod_{status}");
        let answer = Answer::status(status).header("cache-control", "public, max-age=3600");
        stage.origin.answer(&path, answer);
        assert_eq!(stage.get(&path).await.status, status);
        stage.advance_secs(1);
        stage.origin.answer(&path, Answer::json("{}"));
        let reply = stage.get(&path).await;
        assert_eq!((reply.status, reply.detail()), (200, "miss".to_owned()), "after {status}");
    }
}

#[tokio::test]
async fn an_error_leaves_without_a_lifetime_that_a_cdn_would_believe() {
    // The rule's Cache-Control is for what the rule stores; a 500 that a CDN keeps is an outage of its own.
    let stage = Stage::new().also("[route.products]\ncache_control = \"public, max-age=60\"\n").start().await;
    for status in [500, 503, 429, 403, 400, 404] {
        for (answer, said) in [
            (Answer::status(status), ""),
            (Answer::status(status).header("cache-control", "public, max-age=9"), "no-store"),
            (Answer::status(status).header("cdn-cache-control", "max-age=9"), "no-store"),
        ] {
            stage.origin.answer("/store/products", answer);
            let reply = stage.get("/store/products").await;
            assert_eq!((reply.status, reply.field("cache-control").as_str()), (status, said));
            assert_eq!(reply.field("cdn-cache-control"), "");
            stage.advance_secs(1);
        }
    }
}

#[tokio::test]
async fn a_body_that_was_cut_off_is_never_stored() {
    let stage = Stage::new().start().await;
    let json = "content-type: application/json\r\n";
    for (n, broken) in [
        format!("HTTP/1.1 200 OK\r\n{json}content-length: 100\r\n\r\n{{}}"),
        format!("HTTP/1.1 200 OK\r\n{json}transfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\n"),
        format!("HTTP/1.1 200 OK\r\n{json}transfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\nwhat?\r\n"),
        format!("HTTP/1.1 200 OK\r\n{json}content-length: 2\r\ncontent-length: 3\r\n\r\n{{}}"),
        format!("HTTP/1.1 200 OK\r\n{json}content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{{}}"),
        "HTTP/1.1 200 OK\r\ncontent-type: appl".to_owned(),
        "this is not HTTP\r\n\r\n".to_owned(),
        String::new(),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/store/products/prod_{n}");
        stage.origin.answer(&path, Answer::raw(broken.clone()));
        let reply = stage.get(&path).await;
        assert_eq!(reply.status, 502, "{broken:?}");
        assert!(reply.detail().starts_with("failed."), "{broken:?}: {}", reply.detail());
        stage.advance_secs(1);
        stage.origin.answer(&path, Answer::json("{}"));
        assert_eq!(stage.get(&path).await.detail(), "miss", "{broken:?}");
    }
}

#[tokio::test]
async fn a_body_without_an_announced_end_is_shared_with_nobody() {
    let stage = Stage::new().start().await;
    stage.origin.answer("/store/products", Answer::json("{}").until_close());
    let reply = stage.get("/store/products").await;
    assert_eq!((reply.status, reply.text(), reply.detail()), (200, "{}".to_owned(), "miss.unframed".to_owned()));
    assert_eq!(stage.get("/store/products").await.detail(), "pass.marker");
}

#[tokio::test]
async fn statuses_that_nobody_asked_for_are_failures() {
    let stage = Stage::new().start().await;
    for status in [206, 304, 416] {
        let path = format!("/store/products/prod_{status}");
        stage.origin.answer(&path, Answer::raw(format!("HTTP/1.1 {status} Odd\r\ncontent-length: 0\r\n\r\n")));
        let reply = stage.get(&path).await;
        assert_eq!((reply.status, reply.detail()), (502, "failed.upstream_status".to_owned()), "{status}");
    }
}

#[tokio::test]
async fn a_silent_origin_is_given_up_and_not_asked_for_each_request() {
    let stage = Stage::new().also("[origin]\nfirst_byte_timeout = \"100ms\"\n").start().await;
    stage.origin.answer("/store/products", Answer::silence());
    for _ in 0..3 {
        assert_eq!(stage.get("/store/products").await.status, 504);
    }
    assert_eq!(stage.origin.total(), 1);
}

/// The table of the README: what a client sees where nothing stored may serve.
#[tokio::test]
async fn a_failure_is_one_clear_line_that_nobody_keeps() {
    let limits = "[origin]\nfirst_byte_timeout = \"100ms\"\npass_first_byte_timeout = \"100ms\"\n";
    let seen = |reply: &Reply| {
        assert_eq!(reply.field("cache-control"), "no-store");
        assert_eq!(reply.field("content-type"), "text/plain; charset=utf-8");
        (reply.status, reply.text(), reply.field("retry-after"))
    };
    let unread = "The backend could not be reached, or its answer could not be read.\n";
    let late = "The backend did not answer in time.\n";
    let stage = Stage::new().also(limits).start().await;
    // What is filled, and what passes.
    for path in ["/store/regions", "/store/carts/cart_1"] {
        stage.origin.answer(path, Answer::reset());
        assert_eq!(seen(&stage.get(path).await), (502, unread.into(), String::new()), "{path}");
        stage.advance_secs(5);
        stage.origin.answer(path, Answer::silence());
        assert_eq!(seen(&stage.get(path).await), (504, late.into(), String::new()), "{path}");
    }
    let stage = Stage::new().also("[origin]\nconnections_max = 1\nqueue_max = 0\n").start().await;
    let hold = stage.origin.hold("/store/regions");
    let first = stage.begin("/store/regions");
    hold.arrived(1).await;
    let full = stage.get("/store/collections").await;
    assert_eq!(seen(&full), (503, "Too many requests wait for the backend.\n".into(), "1".into()));
    assert_eq!((full.detail().as_str(), stage.origin.count("/store/collections")), ("failed.queue_full", 0));
    hold.release();
    assert_eq!(first.await.unwrap().status, 200);
}

#[tokio::test]
async fn another_media_type_is_shared_once_and_not_stored() {
    let stage = Stage::new().start().await;
    stage.origin.answer(
        "/store/products",
        Answer::raw("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\nhi"),
    );
    for _ in 0..2 {
        let reply = stage.get("/store/products").await;
        assert_eq!((reply.text(), reply.detail()), ("hi".to_owned(), "miss".to_owned()));
    }
    assert_eq!(stage.metric(0, "endcap_not_stored_total", &[("reason", "content_type")]).await, 2.0);
}

#[tokio::test]
async fn what_cannot_be_tagged_is_not_stored() {
    let stage = Stage::new().start().await;
    stage.origin.answer("/store/products", Answer::json("{\"half\":"));
    for _ in 0..2 {
        assert_eq!(stage.get("/store/products").await.detail(), "miss");
    }
    assert_eq!(stage.metric(0, "endcap_not_stored_total", &[("reason", "untaggable")]).await, 2.0);
}

#[tokio::test]
async fn a_refresh_that_fails_leaves_the_stale_answer_in_its_window() {
    let stage = Stage::new().start().await;
    stage.get("/store/products").await;
    stage.advance_secs(121);
    stage.origin.answer("/store/products", Answer::status(500));
    assert_eq!(stage.get("/store/products").await.detail(), "stale");
    stage.origin.asked(2).await;
    stage.settled(0).await;
    assert_eq!(stage.get("/store/products").await.detail(), "stale.origin_status");
    assert_eq!(stage.origin.total(), 2, "not again within error_ttl");
    stage.advance(Duration::from_secs(1));
    assert_eq!(stage.get("/store/products").await.detail(), "stale.origin_status");
    stage.origin.asked(3).await;
}

/// Gateways and frameworks mark their error pages `no-store`, and load balancers set a cookie on them.
#[tokio::test]
async fn an_error_page_that_may_not_be_stored_leaves_stale_if_error_alone() {
    for (name, value) in [("cache-control", "private, no-store"), ("set-cookie", "lb=1")] {
        let stage = Stage::new().config(THINGS).start().await;
        stage.get("/things").await;
        stage.origin.answer("/things", Answer::status(503).header(name, value));
        stage.purge("hard", &["route:things"]).await;
        for _ in 0..3 {
            let reply = stage.get("/things").await;
            assert_eq!((reply.status, reply.detail()), (200, "stale_error.origin_status".to_owned()), "{name}");
        }
        assert_eq!(stage.origin.total(), 2, "the failure is shared for error_ttl");
    }
}

#[tokio::test]
async fn after_a_purge_the_origin_is_asked_even_if_it_failed_a_moment_ago() {
    let stage = Stage::new().config(THINGS).start().await;
    stage.get("/things").await;
    stage.purge("hard", &["route:things"]).await;
    stage.origin.answer("/things", Answer::status(500));
    assert_eq!(stage.get("/things").await.detail(), "stale_error.origin_status");
    stage.origin.answer("/things", Answer::json(r#"{"version":2}"#));
    stage.purge("hard", &["route:things"]).await;
    assert_eq!(stage.get("/things").await.version(), 2);
}

/// A dead origin that hangs: who asks for what may be served stale need not wait with the one who tries.
#[tokio::test]
async fn while_one_tries_a_hanging_origin_again_the_others_are_served() {
    let stage = Stage::new().config(THINGS).start().await;
    stage.get("/things").await;
    stage.purge("hard", &["route:things"]).await;
    stage.origin.answer("/things", Answer::status(500));
    stage.get("/things").await;
    let hold = stage.origin.hold("/things");
    stage.advance_secs(2);
    let trying = stage.begin("/things");
    hold.arrived(1).await;
    assert_eq!(within(stage.get("/things")).await.detail(), "stale_error.origin_status");
    hold.release();
    within(trying).await.unwrap();
}

#[tokio::test]
async fn a_failure_of_long_ago_says_nothing_of_the_origin() {
    let stage = Stage::new().config(THINGS).start().await;
    stage.get("/things").await;
    stage.purge("hard", &["route:things"]).await;
    stage.origin.answer("/things", Answer::status(500));
    stage.get("/things").await;
    stage.origin.answer("/things", Answer::json(r#"{"version":2}"#));
    stage.advance_secs(60);
    let hold = stage.origin.hold("/things");
    let readers = [stage.begin("/things"), stage.begin("/things")];
    hold.arrived(1).await;
    stage.followers(1).await;
    hold.release();
    for reader in readers {
        assert_eq!(within(reader).await.unwrap().version(), 2);
    }
}
