//! What operations see and may do.

use serde_json::json;

use crate::stage::{Answer, Client, Delivery, LogLines, Stage, TOKEN, until, within};

#[tokio::test]
async fn a_purge_needs_the_token_and_json() {
    let stage = Stage::new().start().await;
    stage.get("/store/products").await;
    let order = json!({ "tags": ["all"] }).to_string();
    let bearer = format!("Bearer {TOKEN}");
    let json_type = ("content-type", "application/json");
    for (headers, status) in [
        (vec![json_type], 401),
        (vec![json_type, ("authorization", "Bearer wrong")], 401),
        (vec![json_type, ("authorization", TOKEN)], 401),
        (vec![json_type, ("authorization", &bearer), ("authorization", &bearer)], 401),
        (vec![("authorization", &bearer)], 415),
        (vec![("authorization", &bearer), ("content-type", "text/plain")], 415),
    ] {
        let reply = stage.ops(0, "POST", "/purge", &headers, order.as_bytes()).await;
        assert_eq!(reply.status, status, "{headers:?}");
        assert_eq!(stage.get("/store/products").await.detail(), "hit");
    }
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json; charset=utf-8")];
    assert_eq!(stage.ops(0, "POST", "/purge", &headers, order.as_bytes()).await.status, 200);
    assert_eq!(stage.get("/store/products").await.detail(), "miss");
    assert_eq!(stage.metric(0, "endcap_rejected_requests_total", &[("reason", "ops_token")]).await, 4.0);
}

#[tokio::test]
async fn without_a_token_of_ours_purging_by_hand_is_closed() {
    let stage = Stage::new().variable("ENDCAP_OPS__TOKEN", "").start().await;
    assert_eq!(stage.try_purge(0, "hard", &["all"]).await.status, 403);
}

#[tokio::test]
async fn an_order_that_cannot_be_meant_is_refused() {
    let stage = Stage::new().start().await;
    let applied = stage.status(0).await["purges"]["applied"].clone();
    let bearer = format!("Bearer {TOKEN}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    for order in [
        "",
        "[]",
        "{}",
        r#"{"tags":"all"}"#,
        r#"{"tags":[]}"#,
        r#"{"tags":[""]}"#,
        r#"{"tags":["all"],"mode":"gently"}"#,
        r#"{"tags":["all"],"modus":"hard"}"#,
    ] {
        let reply = stage.ops(0, "POST", "/purge", &headers, order.as_bytes()).await;
        assert_eq!(reply.status, 400, "{order}");
        assert!(!reply.json()["error"].as_str().unwrap().is_empty());
    }
    assert_eq!(stage.status(0).await["purges"]["applied"], applied);
}

#[tokio::test]
async fn a_node_is_alive_and_ready_and_says_what_it_holds() {
    let stage = Stage::new().start().await;
    assert_eq!(stage.ops(0, "GET", "/livez", &[], b"").await.status, 200);
    assert_eq!(stage.ops(0, "GET", "/readyz", &[], b"").await.status, 200);
    stage.get("/store/products").await;
    stage.get("/store/products").await;
    until("housekeeping has counted the entry", async || stage.status(0).await["l1"]["entries"] == 1).await;
    let status = stage.status(0).await;
    assert_eq!(
        (&status["ready"], &status["requests"]["hit"], &status["requests"]["miss"]),
        (&json!(true), &json!(1), &json!(1))
    );
    assert_eq!((&status["purges"]["log"], &status["purges"]["connected"]), (&json!("memory"), &json!(true)));
    assert!(status["l1"]["bytes"].as_u64().unwrap() > 100);
}

#[tokio::test]
async fn pages_answer_to_their_method_alone() {
    let stage = Stage::new().start().await;
    for (method, target, status) in [
        ("POST", "/metrics", 405),
        ("GET", "/purge", 405),
        ("DELETE", "/status", 405),
        ("GET", "/nothing", 404),
        ("HEAD", "/metrics", 200),
        ("GET", "/", 200),
    ] {
        assert_eq!(stage.ops(0, method, target, &[], b"").await.status, status, "{method} {target}");
    }
}

#[tokio::test]
async fn every_metric_parses_and_says_what_it_means() {
    let stage = Stage::new().start().await;
    stage.get("/store/products").await;
    stage.get("/store/products?locale=a&locale=b").await;
    stage.get("/store/carts/cart_1").await;
    stage.purge("soft", &["all"]).await;
    let text = stage.metrics(0).await;
    let mut helped = std::collections::HashSet::new();
    let mut typed = std::collections::HashSet::new();
    let mut series = std::collections::HashSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(help.len() > 10 && help.ends_with('.'), "{line}");
            assert!(helped.insert(name.to_owned()), "twice: {line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            typed.insert(name.to_owned());
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
        } else {
            let (id, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(series.insert(id.to_owned()), "twice: {line}");
            let name = id.split('{').next().unwrap();
            let base =
                ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
            assert!(name.starts_with("endcap_") && (typed.contains(name) || typed.contains(base)), "{line}");
        }
    }
    assert_eq!(helped, typed);
}

#[tokio::test]
async fn no_byte_of_a_client_becomes_a_label() {
    let stage = Stage::new().start().await;
    for target in ["/store/products/zebra", "/zebra", "/store/products?zebra=zebra", "/store/products?q=zebra"] {
        stage.get_with(target, &[("x-publishable-api-key", "zebra"), ("user-agent", "zebra")]).await;
        stage.ask("ZEBRA", target, &[], b"").await;
    }
    stage.purge("hard", &["zebra_1", "zebra:2"]).await;
    assert!(!stage.metrics(0).await.contains("zebra"));
    assert!(!stage.metrics(0).await.contains("ZEBRA"));
}

#[tokio::test]
async fn a_request_that_is_not_admitted_is_counted_and_logged() {
    let (log, _followed) = LogLines::follow();
    let stage = Stage::new().also("[log]\nrequests = \"on\"\n").start().await;
    for (head, path, status, reason) in [
        ("PURGE /store/products HTTP/1.1\r\nhost: a\r\n\r\n", "/store/products", 405, "method"),
        ("GET /store/products HTTP/1.1\r\n\r\n", "/store/products", 400, "host"),
        (
            "GET /store/products HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx",
            "/store/products",
            400,
            "body_on_get",
        ),
        ("GET /store/products HTTP/1.1\nhost: a\n\n", "", 400, "malformed_head"),
    ] {
        let mut client = stage.client(0).await;
        client.write(head.as_bytes()).await;
        let reply = client.reply("GET").await.unwrap();
        assert_eq!((reply.status, reply.detail()), (status, format!("refused.{reason}")));
        let line = log.with("request").pop().unwrap();
        assert_eq!((&line["outcome"], &line["reason"]), (&json!("refused"), &json!(reason)), "{line}");
        assert_eq!((&line["path"], &line["status"]), (&json!(path), &json!(status)), "{line}");
    }
    let refused = [("route", "none"), ("outcome", "refused")];
    assert_eq!(stage.metric(0, "endcap_requests_total", &refused).await, 4.0);
}

/// Whoever writes it: a shopper, the origin, the sender of a webhook. A line stays one, and a terminal obeys nothing in it.
#[tokio::test]
async fn nothing_from_outside_reaches_a_log_line_unescaped() {
    let (log, _followed) = LogLines::follow();
    let stage = Stage::new().also("[log]\nrequests = \"on\"\n").start().await;
    let heads: [&[u8]; 11] = [
        b"GET /store/products/%0a%1b%5b2J%22%ff HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /store/carts/\"\\'{} HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /store/carts/\x1b[2J HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /store/carts/\xff\xc3(\xc2\x9b31m HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /store/carts/\xe2\x80\xae\xe2\x80\xa8 HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /store/carts?\x1b[2J=\"%0d%0a HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /store/carts HTTP/1.1\r\nhost: \"a\x1b[2J\xff\r\n\r\n",
        b"GET /store/carts HTTP/1.1\r\nhost: a\r\nuser-agent: \x1b[2J\x9b\xff\r\nx-publishable-api-key: \"\xff\x85\r\n\r\n",
        b"GET /store/carts HTTP/1.1\r\nhost: a\r\nx\x1b[2J: b\r\n\r\n",
        b"G\x1b[2JT /store/carts HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /store/carts HTTP/1.1\x1b\r\nhost: a\r\n\r\n",
    ];
    for head in heads {
        let before = log.with("request").len();
        let mut client = stage.client(0).await;
        client.write(head).await;
        client.reply("GET").await.unwrap();
        until("it is logged", async || log.with("request").len() > before).await;
    }
    for answer in [
        "HTTP/1.1 200 \x1b[2J\r\ncontent-length: 1\r\n\r\n1",
        "HTTP/1.1 200 OK\r\ncontent-length: \x1b[2J\"\r\n\r\n1",
        "HTTP/1.1 200 OK\r\nx\x1b[2J: 1\r\n\r\n1",
        "\x1b[2J\n\n\n",
    ] {
        for path in ["/store/regions", "/store/carts/1"] {
            stage.origin.answer(path, Answer::raw(answer));
            stage.get(path).await;
        }
    }
    let hostile = "a\r\nb\u{1b}[2J\"\u{7f}\u{9b}\u{85}\u{2028}\u{202e}";
    let delivery = Delivery::event(&stage, "msg_\"\\1", hostile, hostile);
    assert_eq!(delivery.clone().send(&stage).await.status, 202);
    assert_eq!(delivery.send(&stage).await.status, 409);
    assert_eq!(log.with("rejected a replayed webhook").pop().unwrap()["id"], "msg_\"\\1");
    stage.try_purge(0, "hard", &[hostile]).await;
    let [json, text] = log.written().map(|bytes| String::from_utf8(bytes).unwrap());
    for written in [&json, &text] {
        let is_text = |char: char| char == '\n' || !(char.is_control() || ('\u{2028}'..='\u{202e}').contains(&char));
        let odd = written.lines().find(|line| !line.chars().all(is_text));
        assert_eq!(odd, None, "{:?}", odd.map(str::as_bytes));
    }
    assert_eq!(json.lines().count(), text.lines().count());
    assert!(text.lines().all(|line| line.starts_with("20")), "each begins with its time");
    assert!(json.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
}

#[tokio::test]
async fn an_order_of_too_many_tags_is_too_large() {
    let stage = Stage::new().also("[purge]\ntags_max = 100\n").start().await;
    let tags: Vec<String> = (0..101).map(|n| format!("prod_{n}")).collect();
    let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
    let reply = stage.try_purge(0, "hard", &tags).await;
    assert_eq!((reply.status, reply.text().contains("at most 100")), (413, true), "{}", reply.text());
    assert_eq!(stage.try_purge(0, "hard", &tags[1..]).await.status, 200);
}

#[tokio::test]
async fn a_request_whose_client_leaves_before_the_answer_is_counted_and_logged() {
    let (log, _followed) = LogLines::follow();
    let stage = Stage::new().also("[log]\nrequests = \"on\"\n").start().await;
    for (count, target, route) in
        [(1, "/store/regions", "regions"), (2, "/store/carts/cart_1", "none"), (3, "/store/regions?x=1", "regions")]
    {
        let hold = stage.origin.hold(target.split('?').next().unwrap());
        let mut client = stage.client(0).await;
        client.send("GET", target, &[], b"").await;
        hold.arrived(1).await;
        drop(client);
        stage.metric_reaches(0, "endcap_requests_total", &[("outcome", "unanswered")], f64::from(count)).await;
        hold.release();
        stage.settled(0).await;
        let line = log.with("request").pop().unwrap();
        assert_eq!((&line["outcome"], &line["route"]), (&json!("unanswered"), &json!(route)), "{line}");
        assert_eq!(line["path"], target.split('?').next().unwrap());
    }
    // The fill went on, and its answer is there for the next.
    assert_eq!(stage.get("/store/regions").await.detail(), "hit");
    assert_eq!(stage.metric(0, "endcap_requests_total", &[]).await, 4.0);
}

#[tokio::test]
async fn series_are_bounded_by_the_configuration() {
    let stage = Stage::new().start().await;
    stage.get("/store/products").await;
    let before = stage.metrics(0).await.lines().count();
    for n in 0..50 {
        stage.get(&format!("/store/products/prod_{n}")).await;
        stage.get(&format!("/odd/{n}")).await;
    }
    assert!(stage.metrics(0).await.lines().count() <= before + 10);
}

#[tokio::test]
async fn a_drain_finishes_what_is_under_way_and_takes_nothing_new() {
    let stage = Stage::new().start().await;
    let hold = stage.origin.hold("/store/products");
    let (fill, pass) = (stage.begin("/store/products"), stage.begin("/store/products?unknown=1"));
    hold.arrived(2).await;
    let mut idle = stage.client(0).await;
    idle.get("/store/regions").await;
    let stop = async {
        stage.node(0).stop().await;
    };
    let rest = async {
        // Whoever connects from now on is refused; the idle connection ends.
        until("the port is closed", async || tokio::net::TcpStream::connect(stage.address(0)).await.is_err()).await;
        assert!(idle.reply("GET").await.is_err());
        hold.release();
        for reader in [fill, pass] {
            let reply = within(reader).await.unwrap();
            assert_eq!((reply.status, reply.version()), (200, 1));
            assert_eq!(reply.field("connection"), "close");
        }
    };
    within(async { tokio::join!(stop, rest) }).await;
}

#[tokio::test]
async fn a_node_that_is_about_to_go_says_so_and_serves_on() {
    let stage = Stage::new().start().await;
    stage.get("/store/products").await;
    assert_eq!(stage.metric(0, "endcap_ready", &[]).await, 1.0);
    stage.node(0).retire();
    assert_eq!(stage.ops(0, "GET", "/readyz", &[], b"").await.status, 503);
    assert_eq!(stage.ops(0, "GET", "/livez", &[], b"").await.status, 200);
    assert_eq!(stage.metric(0, "endcap_ready", &[]).await, 0.0);
    assert_eq!(stage.status(0).await["ready"], false);
    let mut client = stage.client(0).await;
    for (target, detail) in [("/store/products", "hit"), ("/store/regions", "miss")] {
        let reply = client.get(target).await;
        assert_eq!((reply.detail().as_str(), reply.field("connection").as_str()), (detail, ""));
    }
    stage.purge("hard", &["all"]).await;
    assert_eq!(client.get("/store/products").await.detail(), "miss");
}

#[tokio::test]
async fn the_ops_listener_closes_last() {
    let stage = Stage::new().start().await;
    let hold = stage.origin.hold("/store/products");
    let reader = stage.begin("/store/products");
    hold.arrived(1).await;
    let rest = async {
        until("the public port is closed", async || tokio::net::TcpStream::connect(stage.address(0)).await.is_err())
            .await;
        assert_eq!(stage.metric(0, "endcap_ready", &[]).await, 0.0);
        assert_eq!(stage.metric(0, "endcap_flights", &[]).await, 1.0);
        // What the backend says meanwhile is not lost.
        stage.purge("hard", &["prod_1"]).await;
        hold.release();
        assert_eq!(within(reader).await.unwrap().status, 200);
    };
    within(async { tokio::join!(stage.node(0).stop(), rest) }).await;
    assert!(tokio::net::TcpStream::connect(stage.node(0).ops_address).await.is_err());
}

#[tokio::test]
async fn a_drain_does_not_wait_for_ever_for_a_reader_that_takes_nothing() {
    let stage = Stage::new().also("[listen]\ndrain_timeout = \"200ms\"\n").start().await;
    stage.origin.answer("/store/regions", Answer::json(format!("\"{}\"", "x".repeat(8 << 20))));
    stage.get("/store/regions").await;
    let mut slow = Client::connect(stage.address(0)).await;
    slow.send("GET", "/store/regions", &[], b"").await;
    slow.head().await.unwrap();
    within(stage.node(0).stop()).await;
}
