//! Bodies in br, zstd and gzip: made behind a hit, sent to who takes them.

use std::io::Read;

use bytes::Bytes;

use crate::stage::{Answer, Client, Reply, Stage, within};

const LIST: &str = "/store/products";
const BR: (&str, &str) = ("accept-encoding", "gzip, deflate, br");

fn list(version: u64) -> String {
    let products: Vec<String> =
        (0..200).map(|n| format!("{{\"id\":\"prod_{n}\",\"title\":\"Tee {n}\",\"version\":{version}}}")).collect();
    format!("{{\"products\":[{}]}}", products.join(","))
}

/// The body as the client reads it.
fn decoded(reply: &Reply) -> String {
    let mut text = String::new();
    let encoded: &[u8] = &reply.body;
    match reply.field("content-encoding").as_str() {
        "br" => brotli::Decompressor::new(encoded, 4096).read_to_string(&mut text).unwrap(),
        "zstd" => zstd::Decoder::new(encoded).unwrap().read_to_string(&mut text).unwrap(),
        "gzip" => flate2::read::GzDecoder::new(encoded).read_to_string(&mut text).unwrap(),
        "" => return reply.text(),
        other => panic!("{other}"),
    };
    text
}

/// Waits until so many forms in a coding were made.
async fn made(stage: &Stage, coding: &str, count: f64) {
    let labels = [("encoding", coding), ("result", "made")];
    stage.metric_reaches(0, "endcap_encodings_total", &labels, count).await;
}

/// A list with this tag, in the first node with its br form.
async fn encoded(stage: &Stage, client: &mut Client, etag: &str) {
    stage.origin.answer(LIST, Answer::json(list(1)).etag(etag));
    for detail in ["miss", "hit"] {
        let reply = client.ask("GET", LIST, &[BR], b"").await;
        assert_eq!((reply.detail(), reply.field("content-encoding")), (detail.to_owned(), String::new()));
        assert_eq!(reply.field("vary"), "Accept-Encoding");
    }
    made(stage, "br", 1.0).await;
}

#[tokio::test]
async fn a_form_is_made_behind_the_first_hit_that_wants_it_and_sent_from_then_on() {
    let stage = Stage::new().start().await;
    let mut client = stage.client(0).await;
    encoded(&stage, &mut client, "\"v1\"").await;
    for takes in ["gzip, deflate, br", "br", "BR;q=0.5", "*"] {
        let reply = client.ask("GET", LIST, &[("accept-encoding", takes)], b"").await;
        assert_eq!((reply.status, reply.detail(), reply.field("content-encoding")), (200, "hit".into(), "br".into()));
        assert_eq!((reply.field("etag"), reply.field("vary")), ("\"v1~br\"".into(), "Accept-Encoding".into()));
        assert_eq!(reply.field("content-length"), reply.body.len().to_string());
        assert!(reply.body.len() * 10 < list(1).len() && decoded(&reply) == list(1));
    }
    for takes in ["", "deflate", "br;q=0", "identity, br;q=0.5", "br;q=x"] {
        let reply = client.ask("GET", LIST, &[("accept-encoding", takes)], b"").await;
        assert_eq!((reply.field("content-encoding"), reply.field("etag")), (String::new(), "\"v1\"".into()), "{takes}");
        assert_eq!(reply.field("vary"), "Accept-Encoding");
        assert!(reply.text() == list(1));
    }
    assert!(client.get(LIST).await.text() == list(1), "who says nothing");
    // The better form is missing: the one that is there goes out, and the better one is made.
    let zstd = ("accept-encoding", "br;q=0.5, zstd");
    assert_eq!(client.ask("GET", LIST, &[zstd], b"").await.field("content-encoding"), "br");
    made(&stage, "zstd", 1.0).await;
    let reply = client.ask("GET", LIST, &[zstd], b"").await;
    assert!(reply.field("content-encoding") == "zstd" && decoded(&reply) == list(1));
    client.ask("GET", LIST, &[("accept-encoding", "x-gzip")], b"").await;
    made(&stage, "gzip", 1.0).await;
    let reply = client.ask("GET", LIST, &[("accept-encoding", "x-gzip")], b"").await;
    assert!(reply.field("content-encoding") == "gzip" && decoded(&reply) == list(1));
    assert_eq!(stage.origin.total(), 1);
    assert_eq!(stage.origin.last().field("accept-encoding"), "identity");
    assert!(stage.metric(0, "endcap_bytes_saved_total", &[("encoding", "br")]).await > 3.0 * list(1).len() as f64);
}

/// What is plain is answered from bytes, past hyper: a form too, with the same fields.
#[tokio::test]
async fn a_form_has_the_same_fields_on_every_way_out() {
    let stage = Stage::new().start().await;
    let mut client = stage.client(0).await;
    encoded(&stage, &mut client, "\"v1\"").await;
    let plain = client.ask("GET", LIST, &[BR], b"").await;
    // A condition is not plain.
    let general = client.ask("GET", LIST, &[BR, ("if-none-match", "\"other\"")], b"").await;
    let head = client.ask("HEAD", LIST, &[BR], b"").await;
    for reply in [&general, &head] {
        assert_eq!((reply.status, &reply.headers), (200, &plain.headers));
    }
    assert!(general.body == plain.body && head.body.is_empty());
}

#[tokio::test]
async fn who_has_a_form_that_has_not_changed_is_told_so() {
    let stage = Stage::new().start().await;
    let mut client = stage.client(0).await;
    encoded(&stage, &mut client, "\"v1\"").await;
    for (has, takes, status, etag) in [
        ("\"v1~br\"", "br, gzip", 304, "\"v1~br\""),
        ("W/\"v1~br\"", "br, gzip", 304, "\"v1~br\""),
        ("\"v1\"", "br, gzip", 304, "\"v1\""),
        ("\"v1\"", "", 304, "\"v1\""),
        // Another node's.
        ("\"v1~gzip\"", "br, gzip", 304, "\"v1~gzip\""),
        ("*", "br", 304, "\"v1~br\""),
        ("\"v1~br\"", "", 200, "\"v1\""),
        ("\"v0~br\"", "br", 200, "\"v1~br\""),
    ] {
        let headers = [("accept-encoding", takes), ("if-none-match", has)];
        for method in ["GET", "HEAD"] {
            let reply = client.ask(method, LIST, &headers, b"").await;
            assert_eq!((reply.status, reply.field("etag").as_str()), (status, etag), "{method} {has} for {takes:?}");
            assert_eq!(reply.field("vary"), "Accept-Encoding");
            if status == 304 {
                assert_eq!((reply.field("content-encoding"), reply.field("content-length")), Default::default());
            }
        }
    }
}

#[tokio::test]
async fn a_weak_tag_is_that_of_all_forms() {
    let stage = Stage::new().start().await;
    let mut client = stage.client(0).await;
    encoded(&stage, &mut client, "W/\"v1\"").await;
    let reply = client.ask("GET", LIST, &[BR], b"").await;
    assert_eq!((reply.field("content-encoding"), reply.field("etag")), ("br".into(), "W/\"v1\"".into()));
    let again = client.ask("GET", LIST, &[BR, ("if-none-match", "W/\"v1\"")], b"").await;
    assert_eq!((again.status, again.field("etag")), (304, "W/\"v1\"".into()));
}

/// A client that changes what it has read names the form that it has read.
#[tokio::test]
async fn the_origin_is_told_of_its_own_tag_where_a_form_of_its_body_must_match() {
    let stage = Stage::new().start().await;
    let headers = [("if-match", "\"v0\""), ("if-match", "\"v1~br\""), ("content-type", "application/json")];
    stage.ask("POST", "/store/carts/cart_1", &headers, b"{}").await;
    assert_eq!(stage.origin.last().field("if-match"), "\"v0\", \"v1\"");
    let headers = [("if-none-match", "\"v0\""), ("if-none-match", "\"v1~br\""), ("authorization", "Bearer x")];
    stage.ask("GET", LIST, &headers, b"").await;
    assert_eq!(stage.origin.last().field("if-none-match"), "\"v0\"", "what it holds of ours the origin cannot confirm");
}

#[tokio::test]
async fn a_part_is_one_of_the_plain_form() {
    let stage = Stage::new().start().await;
    let mut client = stage.client(0).await;
    encoded(&stage, &mut client, "\"v1\"").await;
    let range = ("range", "bytes=2-9");
    let part = client.ask("GET", LIST, &[BR, range], b"").await;
    assert_eq!((part.status, part.text()), (206, "products".into()));
    assert_eq!((part.field("content-encoding"), part.field("etag")), (String::new(), "\"v1\"".into()));
    assert_eq!(part.field("content-range"), format!("bytes 2-9/{}", list(1).len()));
    let begun = client.ask("GET", LIST, &[BR, range, ("if-range", "\"v1~br\"")], b"").await;
    assert_eq!((begun.status, begun.field("content-encoding")), (200, "br".into()), "it began with another form");
}

#[tokio::test]
async fn a_body_that_stands_keeps_its_forms_and_a_new_one_has_none() {
    let stage = Stage::new().start().await;
    let mut client = stage.client(0).await;
    encoded(&stage, &mut client, "\"v1\"").await;
    // The origin says 304.
    stage.purge("hard", &["list:product"]).await;
    let renewed = client.ask("GET", LIST, &[BR], b"").await;
    assert_eq!((renewed.detail(), renewed.field("content-encoding")), ("renewed".into(), "br".into()));
    // It says the same again, with another tag.
    stage.origin.answer(LIST, Answer::json(list(1)).etag("\"v2\""));
    stage.purge("hard", &["list:product"]).await;
    let same = client.ask("GET", LIST, &[BR], b"").await;
    assert_eq!((same.detail(), same.field("etag")), ("miss".into(), "\"v2~br\"".into()));
    assert!(decoded(&same) == list(1));
    stage.origin.answer(LIST, Answer::json(list(3)).etag("\"v3\""));
    stage.purge("hard", &["list:product"]).await;
    let changed = client.ask("GET", LIST, &[BR], b"").await;
    assert_eq!((changed.field("content-encoding"), changed.field("etag")), (String::new(), "\"v3\"".into()));
    assert!(changed.text() == list(3));
}

#[tokio::test]
async fn what_is_small_not_to_be_changed_or_encoded_already_goes_out_as_it_came() {
    let stage = Stage::new()
        .also("[route.things]\npaths = [\"/things/{id}\"]\nttl = \"1h\"\ncontent_type = \"*\"\n")
        .start()
        .await;
    let mut client = stage.client(0).await;
    let large = list(1);
    for (path, answer) in [
        ("/things/small", Answer::json("{}")),
        ("/things/kept", Answer::json(large.clone()).header("cache-control", "no-transform")),
        ("/things/missing", Answer::json(large.clone()).with_status(404)),
    ] {
        stage.origin.answer(path, answer);
        for _ in 0..3 {
            let reply = client.ask("GET", path, &[BR], b"").await;
            assert_eq!((reply.field("content-encoding"), reply.field("vary")), Default::default(), "{path}");
        }
    }
    let noise: String = (0..64_u32).map(|n| blake3::hash(&n.to_be_bytes()).to_hex().to_string()).collect();
    stage.origin.answer("/things/noise", Answer::json(format!("\"{noise}\"")));
    for _ in 0..2 {
        client.ask("GET", "/things/noise", &[("accept-encoding", "br")], b"").await;
    }
    // Hexadecimal digits are half the bytes: the last of these, so the encoder has seen nothing before it.
    made(&stage, "br", 1.0).await;
    let encodings = stage.metric(0, "endcap_encodings_total", &[]).await;
    assert_eq!(encodings, 1.0);
}

#[tokio::test]
async fn a_route_that_forwards_what_its_clients_take_leaves_encodings_to_the_origin() {
    let route = "[route.things]\npaths = [\"/things/{id}\"]\npolicy = \"origin\"\nforward = [\"accept-encoding\"]\n";
    let stage = Stage::new().config(route).start().await;
    stage.origin.respond("/things/a", |seen| {
        let answer = Answer::json(list(1)).header("vary", "accept-encoding").header("cache-control", "max-age=60");
        if seen.field("accept-encoding") == "br" {
            answer.header("content-encoding", "br").etag("\"b\"")
        } else {
            answer.etag("\"a\"")
        }
    });
    for (takes, encoding, etag) in [("br", "br", "\"b\""), ("identity", "", "\"a\"")] {
        for detail in ["miss", "hit", "hit"] {
            let reply = stage.get_with("/things/a", &[("accept-encoding", takes)]).await;
            assert_eq!((reply.detail().as_str(), reply.field("content-encoding").as_str()), (detail, encoding));
            assert_eq!((reply.field("etag").as_str(), reply.field("vary").as_str()), (etag, "accept-encoding"));
        }
    }
    assert_eq!(stage.metric(0, "endcap_encodings_total", &[]).await, 0.0);
}

/// Its lines are one list (RFC 9110 §5.3): what is encoded on a later one is nobody's plain form.
#[tokio::test]
async fn what_came_encoded_unasked_is_its_clients_own() {
    let stage = Stage::new().start().await;
    stage
        .origin
        .answer(LIST, Answer::json(list(1)).header("content-encoding", "identity").header("content-encoding", "x"));
    for detail in ["pass.unshareable", "pass.marker"] {
        let reply = stage.get(LIST).await;
        assert_eq!((reply.detail(), reply.text()), (detail.to_owned(), list(1)));
        assert_eq!(reply.field("content-encoding"), "identity, x");
    }
    stage.origin.answer("/store/regions", Answer::json(list(1)).header("content-encoding", "Identity"));
    for detail in ["miss", "hit"] {
        let reply = stage.get("/store/regions").await;
        assert_eq!((reply.detail(), reply.field("content-encoding")), (detail.to_owned(), String::new()));
    }
}

#[tokio::test]
async fn encodings_can_be_switched_off_or_chosen() {
    let stage = Stage::new().also("[compression]\nencodings = [\"gzip\"]\n").start().await;
    stage.origin.answer(LIST, Answer::json(list(1)));
    for _ in 0..2 {
        stage.get_with(LIST, &[BR]).await;
    }
    made(&stage, "gzip", 1.0).await;
    assert_eq!(stage.get_with(LIST, &[BR]).await.field("content-encoding"), "gzip");
    let stage = Stage::new().also("[compression]\nencodings = []\n").start().await;
    stage.origin.answer(LIST, Answer::json(list(1)));
    for _ in 0..3 {
        let reply = stage.get_with(LIST, &[BR]).await;
        assert_eq!((reply.field("content-encoding"), reply.field("vary")), Default::default());
    }
}

/// Each node makes its own forms of what it found in the shared tier.
#[tokio::test]
async fn what_another_node_filled_is_encoded_here() {
    let stage = Stage::new().redis().await.nodes(2).start().await;
    stage.origin.answer(LIST, Answer::json(list(1)));
    stage.get(LIST).await;
    stage.metric_reaches(0, "endcap_l2_writes_total", &[("result", "ok")], 1.0).await;
    let mut client = stage.client(1).await;
    for detail in ["hit_l2", "hit"] {
        assert_eq!(client.ask("GET", LIST, &[BR], b"").await.detail(), detail);
    }
    stage.metric_reaches(1, "endcap_encodings_total", &[("encoding", "br"), ("result", "made")], 1.0).await;
    let reply = client.ask("GET", LIST, &[BR], b"").await;
    assert!(reply.field("content-encoding") == "br" && decoded(&reply) == list(1));
    assert_eq!(stage.origin.total(), 1);
}

/// Its forms are part of an entry's weight.
#[tokio::test]
async fn what_is_held_in_memory_counts_the_forms() {
    let stage = Stage::new().start().await;
    let mut client = stage.client(0).await;
    stage.origin.answer(LIST, Answer::json(list(1)));
    client.get(LIST).await;
    let held = async || stage.metric(0, "endcap_l1_bytes", &[]).await;
    crate::stage::until("it is counted", async || held().await > list(1).len() as f64).await;
    let before = held().await;
    client.ask("GET", LIST, &[BR], b"").await;
    made(&stage, "br", 1.0).await;
    let form = client.ask("GET", LIST, &[BR], b"").await.body.len() as f64;
    crate::stage::until("the form is counted", async || held().await >= before + form).await;
}

#[tokio::test]
async fn answers_beyond_the_bytes_in_flight_stream_through_and_are_stored_when_there_is_room() {
    let stage = Stage::new().also("[memory]\nobject_max = \"1MiB\"\nin_flight = \"1MiB\"\n").start().await;
    let (pieces, answer) = Answer::pieces("application/json");
    stage.origin.answer("/store/products/prod_1", answer);
    let first = stage.begin("/store/products/prod_1");
    pieces.send(Bytes::from(format!("\"{}", "x".repeat(700_000)))).await.unwrap();
    stage.metric_reaches(0, "endcap_in_flight_bytes", &[], 700_000.0).await;
    let body = format!("\"{}\"", "y".repeat(500_000));
    stage.origin.answer("/store/products/prod_2", Answer::json(body.clone()));
    stage.origin.answer("/store/products/prod_3", Answer::json(body.clone()).chunked());
    for target in ["/store/products/prod_2", "/store/products/prod_3"] {
        let reply = stage.get(target).await;
        assert!(reply.detail() == "miss.in_flight" && reply.text() == body, "{target} {}", reply.detail());
    }
    assert_eq!(stage.get("/store/regions").await.detail(), "miss", "what fits goes on");
    pieces.send(Bytes::from_static(b"\"")).await.unwrap();
    drop(pieces);
    assert_eq!(within(first).await.unwrap().detail(), "miss");
    stage.advance_secs(2);
    for detail in ["miss", "hit"] {
        assert_eq!(stage.get("/store/products/prod_2").await.detail(), detail);
    }
    assert_eq!(stage.metric(0, "endcap_not_stored_total", &[("reason", "in_flight")]).await, 2.0);
    assert_eq!(stage.metric(0, "endcap_in_flight_bytes", &[]).await, 0.0);
}
