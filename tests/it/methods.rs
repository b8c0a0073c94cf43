//! Methods: what passes, what is refused, and what a body may do.

use http::Version;

use crate::stage::{Answer, Stage, get_h2, until};

#[tokio::test]
async fn what_is_not_read_passes_with_its_body_and_is_never_stored() {
    let stage = Stage::new().start().await;
    for (n, method) in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"].into_iter().enumerate() {
        let body = format!(r#"{{"n":{n}}}"#);
        let reply =
            stage.ask(method, "/store/products", &[("content-type", "application/json")], body.as_bytes()).await;
        assert_eq!((reply.status, reply.detail()), (200, "pass.method".to_owned()), "{method}");
        let seen = stage.origin.last();
        assert_eq!((seen.method.as_str(), &*seen.body), (method, body.as_bytes()));
    }
    assert_eq!(stage.get("/store/products").await.detail(), "miss");
}

#[tokio::test]
async fn methods_of_other_caches_are_refused() {
    let stage = Stage::new().start().await;
    for method in ["PURGE", "BAN", "REFRESH", "TRACE"] {
        let reply = stage.ask(method, "/store/products", &[], b"").await;
        assert_eq!(reply.status, 405, "{method}");
        assert!(reply.field("allow").contains("GET"), "{method}");
    }
    assert_eq!(stage.origin.total(), 0);
}

#[tokio::test]
async fn a_body_on_get_is_refused() {
    let stage = Stage::new().start().await;
    let reply = stage.ask("GET", "/store/products", &[], b"fat").await;
    assert_eq!(reply.status, 400);
    assert_eq!(stage.origin.total(), 0);
    assert_eq!(stage.metric(0, "endcap_rejected_requests_total", &[("reason", "body_on_get")]).await, 1.0);
}

#[tokio::test]
async fn a_passed_request_says_where_it_came_from_and_believes_no_stranger() {
    let stage = Stage::new().also("[listen]\ntrusted_proxies = [\"10.0.0.0/8\"]\n").start().await;
    let lies = [
        ("x-forwarded-for", "9.9.9.9"),
        ("forwarded", "for=9.9.9.9"),
        ("x-forwarded-host", "evil"),
        ("x-real-ip", "9.9.9.9"),
    ];
    stage.get_with("/store/carts/cart_1", &lies).await;
    let seen = stage.origin.last();
    let said = ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "forwarded", "x-real-ip", "via"];
    let said: Vec<&str> = said.iter().map(|name| seen.field(name)).collect();
    assert_eq!(said, ["127.0.0.1", "shop.example", "http", "", "", "1.1 endcap"]);
}

/// RFC 9110 §7.6.3: each member names the version in which its hop received the message.
#[tokio::test]
async fn via_names_the_version_of_the_hop_before() {
    let stage = Stage::new().start().await;
    let target = "/store/carts/cart_1";
    stage.get_with(target, &[("via", "1.0 fred, 2 barney")]).await;
    assert_eq!(stage.origin.last().field("via"), "1.0 fred, 2 barney, 1.1 endcap");
    let reply = get_h2(stage.address(0), target).await;
    assert_eq!((stage.origin.last().field("via"), reply.field("via").as_str()), ("2 endcap", "1.1 endcap"));
    let mut client = stage.client(0).await;
    client.write(format!("GET {target} HTTP/1.0\r\nhost: shop.example\r\n\r\n").as_bytes()).await;
    assert_eq!(client.head().await.unwrap().field("via"), "1.1 endcap");
    assert_eq!(stage.origin.last().field("via"), "1.0 endcap");

    // The other way, for what passes and for a fill's answer that is its leader's own. The version of the
    // status line is the sender's: ours.
    let old = "HTTP/1.0 200 OK\r\ncontent-type: application/json\r\nset-cookie: a=b\r\nvia: 1.1 inner\r\n\r\n{}";
    stage.origin.answer(target, Answer::raw(old));
    stage.origin.answer("/store/regions", Answer::raw(old));
    for target in [target, "/store/regions"] {
        let mut client = stage.client(0).await;
        client.send("GET", target, &[], b"").await;
        let reply = client.head().await.unwrap();
        assert_eq!(
            (reply.field("via").as_str(), reply.protocol),
            ("1.1 inner, 1.0 endcap", Version::HTTP_11),
            "{target}"
        );
    }
    assert_eq!(stage.origin.last().field("via"), "1.1 endcap", "a fill is nobody's message but ours");
}

#[tokio::test]
async fn a_proxy_in_a_private_network_is_believed() {
    let stage = Stage::new().start().await;
    let headers = [("x-forwarded-for", "9.9.9.9"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "www.example")];
    stage.get_with("/store/carts/cart_1", &headers).await;
    let seen = stage.origin.last();
    let said = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"].map(|name| seen.field(name).to_owned());
    assert_eq!(said, ["9.9.9.9, 127.0.0.1", "https", "www.example"]);
}

#[tokio::test]
async fn a_write_through_us_purges_what_it_changed_in_every_node() {
    let stage = Stage::new().nodes(2).redis().await.start().await;
    let path = "/store/products/prod_1";
    let location = "http://shop.example/store/products/prod_2?x=1";
    // The name that the backend is asked by, which it may write into its answers.
    stage.get("/store/carts/cart_1").await;
    let backends = format!("http://{}/store/products/prod_2", stage.origin.last().field("host"));
    assert!(!backends.contains("shop.example"));
    for (answer, expected) in [
        // An error has changed nothing (RFC 9111 §4.4).
        (Answer::status(500), ["hit", "hit"]),
        (Answer::status(409).header("location", location), ["hit", "hit"]),
        (Answer::json("{}"), ["miss", "hit"]),
        (Answer::status(201).header("location", location), ["miss", "miss"]),
        (Answer::status(303).header("content-location", "prod_2"), ["miss", "miss"]),
        (Answer::status(201).header("location", &backends), ["miss", "miss"]),
        (Answer::status(201).header("location", "https://elsewhere.example/store/products/prod_2"), ["miss", "hit"]),
    ] {
        for of in [path, "/store/products/prod_2"] {
            stage.origin.answer(of, Answer::json("{}"));
            for node in [0, 1] {
                stage.get_from(node, of).await;
                stage.settled(node).await;
            }
        }
        stage.origin.answer(path, answer.clone());
        assert_eq!(stage.ask("POST", path, &[], b"{}").await.detail(), "pass.method");
        let applied = stage.status(0).await["purges"]["applied"].clone();
        until("the other node follows", async || stage.status(1).await["purges"]["applied"] == applied).await;
        stage.origin.answer(path, Answer::json("{}"));
        for node in [0, 1] {
            let details = [
                stage.get_from(node, path).await.detail(),
                stage.get_from(node, "/store/products/prod_2").await.detail(),
            ];
            let is_miss = details.clone().map(|detail| if matches!(&*detail, "hit") { "hit" } else { "miss" });
            assert_eq!(is_miss, expected, "node {node}: {details:?}");
        }
    }
}

/// The origin may have done what was asked of it when nobody listens any more.
#[tokio::test]
async fn a_write_whose_client_has_left_purges_all_the_same() {
    let stage = Stage::new().start().await;
    let path = "/store/products/prod_1";
    for (count, answer, expected) in [(1.0, Answer::json("{}"), "miss"), (2.0, Answer::status(500), "hit")] {
        stage.origin.answer(path, Answer::json("{}"));
        stage.get(path).await;
        assert_eq!(stage.get(path).await.detail(), "hit");
        stage.origin.answer(path, answer);
        let hold = stage.origin.hold(path);
        let ended = stage.origin.ended();
        let mut client = stage.client(0).await;
        client.send("POST", path, &[], b"{}").await;
        hold.arrived(1).await;
        drop(client);
        stage.metric_reaches(0, "endcap_requests_total", &[("outcome", "unanswered")], count).await;
        stage.origin.answer(path, Answer::json("{}"));
        hold.release();
        // Nobody reads that answer: when all is done its connection is closed.
        until("the answer was looked at", async || stage.origin.ended() > ended).await;
        assert_eq!(stage.get(path).await.detail(), expected);
    }
}

#[tokio::test]
async fn an_upgrade_goes_no_further_where_no_route_says_so() {
    let stage = Stage::new().start().await;
    let upgrade = [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13")];
    stage.get_with("/store/carts/cart_1", &upgrade).await;
    assert_eq!(stage.origin.last().field("upgrade"), "");
    let switched = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    stage.origin.answer("/store/carts/cart_1", Answer::raw(switched));
    assert_eq!(stage.get_with("/store/carts/cart_1", &upgrade).await.status, 502);
}

#[tokio::test]
async fn what_concerns_one_hop_alone_stays_on_it() {
    let stage = Stage::new().start().await;
    let answer = Answer::json("{}").header("connection", "x-inner").header("x-inner", "1").header("keep-alive", "9");
    stage.origin.answer("/store/carts/cart_1", answer.clone());
    stage.origin.answer("/store/regions", answer);
    let headers =
        [("connection", "x-outer, keep-alive"), ("x-outer", "1"), ("te", "trailers"), ("proxy-connection", "x")];
    for target in ["/store/carts/cart_1", "/store/regions", "/store/regions"] {
        let reply = stage.get_with(target, &headers).await;
        let seen = stage.origin.last();
        assert!(["x-outer", "te", "proxy-connection", "keep-alive"].iter().all(|name| seen.field(name).is_empty()));
        assert!(["x-inner", "keep-alive"].iter().all(|name| reply.field(name).is_empty()), "{reply:?}");
    }
}
