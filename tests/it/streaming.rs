//! Bodies that do not fit in the hand: uploads, events, and answers too large to store.

use bytes::Bytes;

use crate::stage::{Answer, Client, Stage, until, within};

#[tokio::test]
async fn an_upload_streams_through_a_pass() {
    let stage = Stage::new().start().await;
    let body: Vec<u8> = (0..20_u32 << 20).map(|n| (n % 251) as u8).collect();
    let mut client = stage.client(0).await;
    let head = format!("POST /uploads HTTP/1.1\r\nhost: shop.example\r\ncontent-length: {}\r\n\r\n", body.len());
    client.write(head.as_bytes()).await;
    let (first, rest) = body.split_at(1 << 20);
    client.write(first).await;
    // The origin has it before the rest was sent.
    stage.origin.received(first.len()).await;
    client.write(rest).await;
    assert_eq!(client.reply("POST").await.unwrap().status, 200);
    assert!(stage.origin.last().body == body, "every byte in its place");
}

#[tokio::test]
async fn a_chunked_request_streams_through_a_pass() {
    let stage = Stage::new().start().await;
    let mut client = stage.client(0).await;
    client.write(b"POST /uploads HTTP/1.1\r\nhost: shop.example\r\ntransfer-encoding: chunked\r\n\r\n").await;
    client.write(b"5\r\nhello\r\n").await;
    stage.origin.received(5).await;
    client.write(b"1;ext=1\r\n \r\n5\r\nworld\r\n0\r\ntrailer: dropped\r\n\r\n").await;
    assert_eq!(client.reply("POST").await.unwrap().status, 200);
    let seen = stage.origin.last();
    assert_eq!((&*seen.body, seen.field("trailer")), (&b"hello world"[..], ""));
    assert_eq!(client.get("/store/regions").await.status, 200, "the connection goes on");
}

#[tokio::test]
async fn an_upload_that_its_client_cuts_off_never_looks_whole_to_the_origin() {
    let stage = Stage::new().start().await;
    let mut client = stage.client(0).await;
    client
        .write(b"POST /uploads HTTP/1.1\r\nhost: shop.example\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
        .await;
    stage.origin.received(5).await;
    drop(client);
    until("the origin's connection ends", async || stage.origin.ended() == 1).await;
    assert_eq!(stage.origin.total(), 0);
}

#[tokio::test]
async fn uploads_that_drip_leave_the_places_of_passes_to_others() {
    let limits = "[listen]\nbody_timeout = \"600ms\"\nhead_timeout = \"100ms\"\n";
    let few = "[origin]\nconnections_max = 4\nqueue_timeout = \"1h\"\n";
    let stage = Stage::new().also(limits).also(few).start().await;
    let drip = |mut client: Client, address| async move {
        // A byte for as long as it is taken; a connection that says nothing shows that time goes by.
        while client.try_write(b"x").await.is_ok() {
            Client::connect(address).await.head().await.unwrap_err();
        }
    };
    for _ in 0..3 {
        let mut client = stage.client(0).await;
        client.write(b"POST /uploads HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 100000\r\n\r\n").await;
        stage.run(drip(client, stage.address(0)));
    }
    stage.origin.received(3).await;
    assert_eq!(stage.ask("POST", "/store/carts", &[], b"{}").await.status, 200, "a place is free again");
}

#[tokio::test]
async fn events_arrive_one_by_one() {
    let stage = Stage::new().start().await;
    let (events, answer) = Answer::pieces("text/event-stream");
    stage.origin.answer("/store/stream", answer);
    let mut client = stage.client(0).await;
    client.send("GET", "/store/stream", &[], b"").await;
    assert_eq!(client.head().await.unwrap().field("content-type"), "text/event-stream");
    for n in 0..3 {
        let event = Bytes::from(format!("data: {n}\n\n"));
        events.send(event.clone()).await.unwrap();
        // Each before the next is sent.
        assert_eq!(client.chunk().await.unwrap(), Some(event));
    }
    drop(events);
    assert_eq!(client.chunk().await.unwrap(), None);
}

#[tokio::test]
async fn when_the_reader_of_a_stream_leaves_the_origin_is_let_go() {
    let stage = Stage::new().start().await;
    let (events, answer) = Answer::pieces("text/event-stream");
    stage.origin.answer("/store/stream", answer);
    let mut client = stage.client(0).await;
    client.send("GET", "/store/stream", &[], b"").await;
    client.head().await.unwrap();
    drop(client);
    until("the origin's connection ends", async || {
        // It notices when it writes.
        drop(events.try_send(Bytes::from_static(b"data: x\n\n")));
        stage.origin.ended() == 1
    })
    .await;
}

/// An answer larger than what is stored.
async fn too_large(answer: impl Fn(String) -> Answer) {
    let stage = Stage::new().also("[memory]\nobject_max = \"1MiB\"\n").start().await;
    let body = format!("\"{}\"", "x".repeat(3 << 20));
    stage.origin.answer("/store/products", answer(body.clone()));
    let hold = stage.origin.hold("/store/products");
    let readers = [stage.begin("/store/products"), stage.begin("/store/products")];
    stage.followers(1).await;
    hold.release();
    let mut details = Vec::new();
    for reader in readers {
        let reply = within(reader).await.unwrap();
        assert!(reply.body == body, "{} bytes", reply.body.len());
        details.push(reply.detail());
    }
    details.sort();
    assert_eq!(details, ["miss.too_large", "pass.unshareable"]);
    assert_eq!(stage.get("/store/products").await.detail(), "pass.marker");
}

#[tokio::test]
async fn an_answer_too_large_by_its_length_streams_and_is_not_stored() {
    too_large(Answer::json).await;
}

#[tokio::test]
async fn an_answer_that_proves_too_large_streams_from_its_first_byte_and_is_not_stored() {
    too_large(|body| Answer::json(body).chunked()).await;
}

#[tokio::test]
async fn a_stream_that_the_origin_cuts_off_does_not_look_whole() {
    let stage = Stage::new().start().await;
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    for broken in [
        format!("{head}content-length: 100\r\n\r\n{{}}"),
        format!("{head}transfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\n"),
    ] {
        stage.origin.answer("/store/carts/cart_1", Answer::raw(broken));
        let mut client = stage.client(0).await;
        client.send("GET", "/store/carts/cart_1", &[], b"").await;
        assert!(client.reply("GET").await.is_err());
    }
}

#[tokio::test]
async fn a_large_answer_that_fits_is_stored_whole() {
    let stage = Stage::new().start().await;
    let body = format!("\"{}\"", "x".repeat(9_800_000));
    stage.origin.answer("/store/products", Answer::json(body.clone()).chunked());
    for detail in ["miss", "hit"] {
        let reply = stage.get("/store/products").await;
        assert_eq!(reply.detail(), detail);
        assert!(reply.body == body);
        assert_eq!(reply.field("content-length"), body.len().to_string());
    }
}

/// Answers too large to store go to one reader each, and he may be slow.
#[tokio::test]
async fn slow_readers_of_answers_too_large_leave_connections_to_the_fills() {
    let stage = Stage::new()
        .also("[memory]\nobject_max = \"1KiB\"\n[origin]\nconnections_max = 4\nqueue_timeout = \"1h\"\n")
        .start()
        .await;
    let mut streams = Vec::new();
    for n in 0..4 {
        let target = format!("/store/products/prod_{n}");
        let (pieces, answer) = Answer::pieces("application/json");
        stage.origin.answer(&target, answer);
        let mut client = stage.client(0).await;
        client.send("GET", &target, &[], b"").await;
        pieces.send(Bytes::from(vec![b'x'; 4096])).await.unwrap();
        streams.push((client, pieces));
        if n < 3 {
            assert_eq!(streams[n].0.head().await.unwrap().detail(), "miss.too_large");
        }
    }
    // Three stream. The fourth finds no place, and asks again as what it is: it waits for one.
    stage.metric_reaches(0, "endcap_origin_connections", &[("state", "waiting")], 1.0).await;
    assert_eq!(stage.get("/store/regions").await.detail(), "miss");
    streams.remove(0);
    let (fourth, _) = streams.last_mut().unwrap();
    assert_eq!(fourth.head().await.unwrap().detail(), "pass.unshareable");
}

/// Uploads that drip hold their connections to the origin for as long as they like.
#[tokio::test]
async fn slow_uploads_leave_connections_to_the_fills() {
    let stage = Stage::new().also("[origin]\nconnections_max = 4\nqueue_timeout = \"1h\"\n").start().await;
    let mut slow = Vec::new();
    for _ in 0..8 {
        let mut client = stage.client(0).await;
        client.write(b"POST /x HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 1000000\r\n\r\nx").await;
        slow.push(client);
    }
    stage.origin.received(3).await;
    stage.metric_reaches(0, "endcap_origin_connections", &[("state", "waiting")], 5.0).await;
    assert_eq!(stage.get("/store/regions").await.detail(), "miss");
}
