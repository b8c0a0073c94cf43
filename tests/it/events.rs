//! Admin events: who may listen, what is told, and that nobody misses anything, on whichever node.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::stage::{Client, Delivery, Reply, Stage, TOKEN, until, within};

const FEED_TOKEN: &str = "the token of the feed";
const FEED: &str = "[feed]\nallow_origins = [\"https://admin.example\"]\n";

fn shop() -> crate::stage::Builder {
    with_feed(FEED)
}

fn with_feed(feed: &str) -> crate::stage::Builder {
    Stage::new().also(feed).variable("ENDCAP_FEED__TOKEN", FEED_TOKEN)
}

/// A shop whose clients must show that they are there.
fn impatient() -> crate::stage::Builder {
    with_feed("[feed]\nheartbeat = \"20ms\"\n")
}

fn bearer() -> String {
    format!("Bearer {FEED_TOKEN}")
}

/// A client of the event stream, that reads it as a browser does (WHATWG HTML §9.2.6).
struct Listener {
    client: Client,
    text: String,
    id: String,
}

impl Listener {
    async fn ask(stage: &Stage, node: usize, target: &str, headers: &[(&str, &str)]) -> (Client, Reply) {
        let mut client = Client::connect(stage.node(node).ops_address).await;
        client.send("GET", target, headers, b"").await;
        let head = client.head().await.unwrap();
        (client, head)
    }

    async fn join(stage: &Stage, node: usize, after: Option<&str>) -> Self {
        let bearer = bearer();
        let mut headers = vec![("authorization", bearer.as_str()), ("accept", "text/event-stream")];
        headers.extend(after.map(|id| ("last-event-id", id)));
        let (client, head) = Self::ask(stage, node, "/events", &headers).await;
        assert_eq!((head.status, head.field("content-type").as_str()), (200, "text/event-stream"));
        let mut listener = Self { client, text: String::new(), id: String::new() };
        // It is told from where on it is told.
        assert_eq!(listener.names(1).await, ["hello"]);
        listener
    }

    /// The next block of the stream: the data of an event, or none; an error at its end.
    async fn block(&mut self) -> std::io::Result<Option<Value>> {
        while !self.text.contains("\n\n") {
            let chunk = self.client.chunk().await?.ok_or(std::io::ErrorKind::UnexpectedEof)?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        let (block, rest) = self.text.split_once("\n\n").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        self.text = rest;
        let mut data = None;
        for line in block.lines() {
            match line.split_once(": ").unwrap() {
                ("id", id) => self.id = id.to_owned(),
                ("data", text) => data = Some(serde_json::from_str(text).unwrap()),
                ("retry" | "", _) => {}
                _ => panic!("{line:?} is no line of a stream"),
            }
        }
        Ok(data)
    }

    async fn event(&mut self) -> Value {
        // Signs of life are none of what is waited for.
        within(async {
            loop {
                if let Some(event) = self.block().await.unwrap() {
                    assert_eq!(event["id"], self.id.as_str());
                    return event;
                }
            }
        })
        .await
    }

    async fn names(&mut self, count: usize) -> Vec<String> {
        let mut names = Vec::new();
        for _ in 0..count {
            names.push(self.event().await["event"].as_str().unwrap().to_owned());
        }
        names
    }
}

async fn send(stage: &Stage, node: usize, id: &str, event: &str, thing: &str) -> Reply {
    Delivery::event(stage, id, event, thing).send_to(stage, node).await
}

#[tokio::test]
async fn what_happens_is_told_with_its_ids_and_nothing_else() {
    let stage = shop().start().await;
    let mut listener = Listener::join(&stage, 0, None).await;
    let data = json!({ "id": "prod_1", "title": "secret until Monday" });
    let event = json!({ "type": "product.updated", "data": data });
    assert_eq!(Delivery::new(&stage, "msg_1", &event).send(&stage).await.status, 200);
    let told = listener.event().await;
    let expected = json!({ "id": told["id"], "event": "product.updated", "ids": ["prod_1"], "action": "updated" });
    assert_eq!(told, expected);
    let reply = send(&stage, 0, "msg_2", "banner.updated", "banner_1").await;
    assert_eq!((reply.status, &reply.json()["unknown"]), (202, &json!(["banner.updated"])));
    assert_eq!(listener.event().await["ids"], json!(["banner_1"]), "also what no rule knows");
}

#[tokio::test]
async fn what_a_sender_says_of_an_event_is_told_in_its_place() {
    let stage = shop().redis().await.nodes(2).start().await;
    let mut listener = Listener::join(&stage, 1, None).await;
    let event = |notice: Value| json!({ "type": "endcap.stock", "data": { "id": "variant_1" }, "notice": notice });
    let said = json!({ "event": "inventory-level.updated", "id": "ilev_1" });
    let nobody = json!({ "type": "POST:/admin/orders/:id", "data": { "id": "order_1" }, "notice": null });
    // One row may be many things that purge.
    let batch = json!([event(said.clone()), event(said), nobody, event(json!("odd"))]);
    let reply = Delivery::new(&stage, "msg_1", &batch).send(&stage).await;
    assert_eq!((reply.status, reply.json()["purged"].as_u64()), (200, Some(1)), "{}", reply.text());
    let told = listener.event().await;
    let expected =
        json!({ "id": told["id"], "event": "inventory-level.updated", "ids": ["ilev_1"], "action": "updated" });
    assert_eq!(told, expected);
    assert_eq!(listener.event().await["event"], "endcap.stock", "what cannot be read is not said");
    // Nothing to tell and nothing to purge is no line of the log.
    let applied = stage.status(0).await["purges"]["applied"].clone();
    let nobody = json!({ "type": "a.x", "data": { "id": "1" }, "notice": null });
    assert_eq!(Delivery::new(&stage, "msg_2", &nobody).send(&stage).await.status, 202);
    assert_eq!(stage.status(0).await["purges"]["applied"], applied);
}

#[tokio::test]
async fn an_event_that_purges_nothing_is_told_on_every_node() {
    let stage = shop().redis().await.nodes(2).start().await;
    let mut listeners = [Listener::join(&stage, 0, None).await, Listener::join(&stage, 1, None).await];
    let reply = send(&stage, 0, "msg_1", "order.updated", "order_1").await;
    assert_eq!((reply.status, &reply.json()["purged"]), (200, &json!(0)));
    let mut told = Vec::new();
    for listener in &mut listeners {
        told.push(listener.event().await);
    }
    assert_eq!(told[0], told[1]);
    assert_eq!(told[0]["event"], "order.updated");
}

#[tokio::test]
async fn a_client_that_was_away_goes_on_on_another_node() {
    let stage = shop().redis().await.nodes(2).start().await;
    let mut listener = Listener::join(&stage, 0, None).await;
    let batch = json!([{ "type": "a.x", "data": "1" }, { "type": "b.x", "data": "2" }, { "type": "c.x" }]);
    Delivery::new(&stage, "msg_1", &batch).send(&stage).await;
    assert_eq!(listener.names(1).await, ["a.x"]);
    let id = listener.id.clone();
    drop(listener);
    send(&stage, 1, "msg_2", "order.updated", "order_1").await;
    assert_eq!(Listener::join(&stage, 1, Some(&id)).await.names(3).await, ["b.x", "c.x", "order.updated"]);
}

#[tokio::test]
async fn a_client_that_was_away_goes_on_after_the_node_was_restarted() {
    let mut stage = shop().redis().await.start().await;
    let mut listener = Listener::join(&stage, 0, None).await;
    let start = listener.id.clone();
    send(&stage, 0, "msg_1", "a.x", "1").await;
    assert_eq!(listener.names(1).await, ["a.x"]);
    stage.restart(0).await;
    within(stage.node(0).ready()).await;
    send(&stage, 0, "msg_2", "b.x", "2").await;
    assert_eq!(Listener::join(&stage, 0, Some(&start)).await.names(2).await, ["a.x", "b.x"]);
    assert_eq!(Listener::join(&stage, 0, Some(&listener.id)).await.names(1).await, ["b.x"]);
}

#[tokio::test]
async fn a_client_whose_id_the_log_does_not_hold_is_told_to_look_again() {
    let stage = shop().redis().await.start().await;
    for id in ["5-0.1", "not ours", "99999999999999-0"] {
        let mut listener = Listener::join(&stage, 0, Some(id)).await;
        assert_eq!(listener.names(1).await, ["reset"], "{id}");
        send(&stage, 0, &format!("msg {id}"), "a.x", "1").await;
        assert_eq!(listener.names(1).await, ["a.x"]);
    }
}

#[tokio::test]
async fn a_log_that_cannot_be_read_for_who_comes_back_is_shown() {
    let mut stage = shop().redis().await.start().await;
    stage.redis().kill();
    let mut listener = Listener::join(&stage, 0, Some("5-0.1")).await;
    while listener.block().await.is_ok() {}
    assert!(stage.metric(0, "endcap_history_failures_total", &[("reader", "feed")]).await >= 1.0);
    assert!(stage.status(0).await["feed"]["log_error"].is_string());
    stage.redis().run().await;
    until("the log is read again", async || {
        Listener::join(&stage, 0, Some("5-0.1")).await.block().await.is_ok()
            && stage.status(0).await["feed"]["log_error"].is_null()
    })
    .await;
}

#[tokio::test]
async fn a_silent_stream_shows_signs_of_life_that_move_the_id_on() {
    let stage = impatient().start().await;
    let mut listener = Listener::join(&stage, 0, None).await;
    let start = listener.id.clone();
    let said = stage.purge("hard", &["prod_1"]).await;
    until("the id has moved on", async || {
        assert_eq!(listener.block().await.unwrap(), None);
        listener.id == said["seq"].as_str().unwrap()
    })
    .await;
    assert_ne!(listener.id, start);
}

#[tokio::test]
async fn who_shows_neither_token_nor_ticket_is_told_nothing() {
    let stage = shop().start().await;
    let ops_token = format!("Bearer {TOKEN}");
    let bearer = bearer();
    for (target, headers) in [
        ("/events", vec![]),
        ("/events?ticket=", vec![]),
        ("/events?ticket=1.x", vec![]),
        ("/events", vec![("authorization", "Bearer wrong")]),
        ("/events", vec![("authorization", ops_token.as_str())]),
        ("/events", vec![("authorization", bearer.as_str()), ("authorization", bearer.as_str())]),
    ] {
        assert_eq!(stage.ops(0, "GET", target, &headers, b"").await.status, 401, "{target} {headers:?}");
        assert_eq!(stage.ops(0, "POST", "/events/ticket", &headers, b"").await.status, 401);
    }
    assert_eq!(stage.metric(0, "endcap_rejected_requests_total", &[("reason", "feed_token")]).await, 12.0);
    let closed = Stage::new().start().await;
    for (method, target) in [("GET", "/events"), ("POST", "/events/ticket")] {
        assert_eq!(closed.ops(0, method, target, &[("authorization", &bearer)], b"").await.status, 403);
    }
    let applied = closed.status(0).await["purges"]["applied"].clone();
    assert_eq!(send(&closed, 0, "msg_1", "order.updated", "order_1").await.status, 200);
    assert_eq!(closed.status(0).await["purges"]["applied"], applied, "nobody listens, so it is not kept");
}

async fn ticket(stage: &Stage) -> String {
    let reply = stage.ops(0, "POST", "/events/ticket", &[("authorization", &bearer())], b"").await;
    assert_eq!((reply.status, &reply.json()["expires_in"]), (200, &json!(60)));
    reply.json()["ticket"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_ticket_lets_a_listed_page_in_for_a_minute() {
    let stage = shop().start().await;
    let target = format!("/events?ticket={}", ticket(&stage).await);
    let page = [("origin", "https://admin.example")];
    let (_client, head) = Listener::ask(&stage, 0, &target, &page).await;
    assert_eq!((head.status, head.field("access-control-allow-origin").as_str()), (200, "https://admin.example"));
    assert_eq!(head.field("vary"), "Origin");
    assert_eq!(Listener::ask(&stage, 0, &target, &[("origin", "https://evil.example")]).await.1.status, 403);
    // The page of the ops listener itself.
    assert_eq!(Listener::ask(&stage, 0, &target, &[("origin", "http://shop.example")]).await.1.status, 200);
    stage.advance_secs(60);
    assert_eq!(Listener::ask(&stage, 0, &target, &page).await.1.status, 401);
    let preflight = stage.ops(0, "OPTIONS", "/events", &page, b"").await;
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.field("access-control-allow-headers"), "authorization, last-event-id");
    assert_eq!(preflight.field("access-control-allow-origin"), "https://admin.example");
    assert_eq!(
        stage
            .ops(0, "OPTIONS", "/events", &[("origin", "https://evil.example")], b"")
            .await
            .field("access-control-allow-origin"),
        ""
    );
}

#[tokio::test]
async fn two_hundred_clients_are_told_and_one_more_finds_no_place() {
    let stage = shop().start().await;
    let bearer = bearer();
    let (mut listeners, mut sockets) = (Vec::new(), Vec::new());
    for _ in 0..100 {
        listeners.push(Listener::join(&stage, 0, None).await);
        let mut socket = connect(&stage, "/events", &bearer).await.unwrap();
        assert_eq!(message(&mut socket).await["event"], "hello");
        // Who does not read sends no pongs, and is let go.
        sockets.push(stage.run(async move { message(&mut socket).await["event"].clone() }));
    }
    let full = stage.ops(0, "GET", "/events", &[("authorization", &bearer)], b"").await;
    assert_eq!((full.status, full.field("retry-after").as_str()), (503, "2"));
    assert_eq!(stage.metric(0, "endcap_rejected_requests_total", &[("reason", "feed_full")]).await, 1.0);
    assert_eq!(stage.metric(0, "endcap_feed_clients", &[]).await, 200.0);
    send(&stage, 0, "msg_1", "order.updated", "order_1").await;
    for listener in &mut listeners {
        assert_eq!(listener.names(1).await, ["order.updated"]);
    }
    for socket in sockets {
        assert_eq!(socket.await.unwrap(), "order.updated");
    }
    drop(listeners);
    until("the places are free again", async || stage.metric(0, "endcap_feed_clients", &[]).await == 0.0).await;
    Listener::join(&stage, 0, None).await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_let_go_and_misses_nothing() {
    const LINES: usize = 50;
    const EVENTS: usize = 4 * LINES;
    let mut stage = shop().redis().await.start().await;
    stage.redis().record().await;
    let mut slow = Listener::join(&stage, 0, None).await;
    let long = "x".repeat(60_000);
    // More than the sockets and the ring hold.
    for line in 0..LINES {
        let event = |n: usize| json!({ "event": format!("{}.x", 4 * line + n), "ids": [long] });
        let line = json!({ "source": "test", "events": [event(0), event(1), event(2), event(3)] }).to_string();
        stage.redis().command(&["XADD", "endcap:purges", "*", "v1", &line]).await;
    }
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    stage.metric_reaches(0, "endcap_feed_events_total", &[], EVENTS as f64).await;
    let mut count = 0;
    while let Ok(block) = slow.block().await {
        count += usize::from(block.is_some());
    }
    assert_eq!(stage.metric(0, "endcap_feed_dropped_total", &[]).await, 1.0);
    assert!(count < EVENTS, "{count}");
    let mut again = Listener::join(&stage, 0, Some(&slow.id)).await;
    let rest: Vec<String> = (count..EVENTS).map(|n| format!("{n}.x")).collect();
    assert_eq!(again.names(EVENTS - count).await, rest);
    let asked = stage.redis().history_reads().await;
    assert!(asked.contains(&2) && asked.iter().all(|lines| *lines <= 5), "long lines are read in portions: {asked:?}");
}

#[tokio::test]
async fn streams_end_with_the_node() {
    let stage = shop().start().await;
    let mut listener = Listener::join(&stage, 0, None).await;
    let mut socket = connect(&stage, "/events", &bearer()).await.unwrap();
    within(stage.node(0).stop()).await;
    while listener.block().await.is_ok() {}
    while let Some(Ok(_)) = within(socket.next()).await {}
}

#[tokio::test]
async fn what_was_journaled_is_told_when_it_is_in_the_log() {
    let mut stage = shop().redis().await.journals().start().await;
    let mut listener = Listener::join(&stage, 0, None).await;
    stage.redis().pause();
    assert_eq!(send(&stage, 0, "msg_1", "product.updated", "prod_1").await.status, 202);
    stage.redis().resume();
    assert_eq!(listener.names(1).await, ["product.updated"]);
}

async fn connect(stage: &Stage, target: &str, bearer: &str) -> Result<WebSocketStream<TcpStream>, Error> {
    let address = stage.node(0).ops_address;
    let mut request = format!("ws://{address}{target}").into_client_request().unwrap();
    if !bearer.is_empty() {
        request.headers_mut().insert("authorization", bearer.parse().unwrap());
    }
    let stream = TcpStream::connect(address).await.unwrap();
    Ok(within(tokio_tungstenite::client_async(request, stream)).await?.0)
}

async fn message(socket: &mut WebSocketStream<TcpStream>) -> Value {
    // Signs of life are none of what is waited for.
    within(async {
        loop {
            match socket.next().await.unwrap().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_websocket_is_told_the_same_and_goes_on_the_same() {
    let stage = shop().start().await;
    let mut socket = connect(&stage, &format!("/events?ticket={}", ticket(&stage).await), "").await.unwrap();
    let hello = message(&mut socket).await;
    assert_eq!(hello["event"], "hello");
    for (n, event) in ["a.x", "b.x", "c.x"].iter().enumerate() {
        send(&stage, 0, &format!("msg_{n}"), event, "1").await;
    }
    let first = message(&mut socket).await;
    assert_eq!(first, json!({ "id": first["id"], "event": "a.x", "ids": ["1"], "action": "x" }));
    // What a client sends is not answered, and does no harm.
    socket.send(Message::text("hello?")).await.unwrap();
    assert_eq!(message(&mut socket).await["event"], "b.x");
    drop(socket);
    for (after, events) in [(&hello["id"], ["a.x", "b.x"]), (&first["id"], ["b.x", "c.x"])] {
        let target = format!("/events?after={}", after.as_str().unwrap());
        let mut socket = connect(&stage, &target, &bearer()).await.unwrap();
        assert_eq!(message(&mut socket).await["event"], "hello");
        for event in events {
            assert_eq!(message(&mut socket).await["event"], event);
        }
    }
}

/// A message that a client cannot be sent it would come back for, for ever.
#[tokio::test]
async fn a_long_event_is_cut_and_says_so() {
    let mut stage = shop().redis().await.start().await;
    let mut socket = connect(&stage, "/events", &bearer()).await.unwrap();
    assert_eq!(message(&mut socket).await["event"], "hello");
    let things: Vec<Value> = (0..100).map(|n| json!({ "id": format!("{n}{}", "x".repeat(2000)) })).collect();
    let event = json!({ "type": "a.x", "data": things });
    assert_eq!(Delivery::new(&stage, "msg_1", &event).send(&stage).await.status, 202);
    let told = message(&mut socket).await;
    let ids = told["ids"].as_array().unwrap();
    assert!((1..100).contains(&ids.len()) && ids[0].as_str().unwrap().starts_with('0') && told["truncated"] == true);
    // Whoever can write to Redis may write lines of any length.
    let ids = vec!["x".repeat(1000); 3000];
    let line = json!({ "source": "test", "events": [{ "event": "b.x", "ids": ids }, { "event": "c.x" }] }).to_string();
    stage.redis().command(&["XADD", "endcap:purges", "*", "v1", &line]).await;
    let told = message(&mut socket).await;
    assert_eq!((&told["event"], &told["truncated"]), (&json!("b.x"), &json!(true)));
    let told = message(&mut socket).await;
    assert_eq!((&told["event"], &told["truncated"]), (&json!("c.x"), &Value::Null));
}

#[tokio::test]
async fn a_websocket_that_is_silent_or_sends_too_much_is_closed() {
    let stage = impatient().start().await;
    let mut talker = connect(&stage, "/events", &bearer()).await.unwrap();
    talker.send(Message::text("x".repeat(2000))).await.unwrap();
    while let Some(Ok(_)) = within(talker.next()).await {}
    // Pongs are sent by whoever reads: this one does not.
    let _silent = connect(&stage, "/events", &bearer()).await.unwrap();
    until("both are gone", async || stage.metric(0, "endcap_feed_clients", &[]).await == 0.0).await;
    let mut alive = connect(&stage, "/events", &bearer()).await.unwrap();
    for _ in 0..20 {
        within(alive.next()).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn what_is_no_handshake_is_told_so() {
    let stage = shop().start().await;
    let bearer = bearer();
    let whole = [
        ("authorization", bearer.as_str()),
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    for without in 3..whole.len() {
        let headers: Vec<_> =
            whole.iter().enumerate().filter(|(n, _)| *n != without).map(|(_, field)| *field).collect();
        let reply = stage.ops(0, "GET", "/events", &headers, b"").await;
        assert_eq!((reply.status, reply.field("sec-websocket-version").as_str()), (426, "13"), "{headers:?}");
    }
    let (_client, head) = Listener::ask(&stage, 0, "/events", &whole).await;
    // The example of RFC 6455 §1.3.
    assert_eq!((head.status, head.field("sec-websocket-accept").as_str()), (101, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    let evil = [&whole[..], &[("origin", "https://evil.example")]].concat();
    assert_eq!(stage.ops(0, "GET", "/events", &evil, b"").await.status, 403);
}
