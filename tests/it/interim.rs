//! What the origin says before its answer (RFC 9110 §15.2) goes to the client that asked, and nowhere else.

use crate::stage::{Answer, Client, Stage, get_h2};

const CACHED: &str = "/store/products";
const PASSED: &str = "/store/carts/cart_1";
const HINT: &str = "link: </a.css>; rel=preload\r\nconnection: x-hop\r\nx-hop: 1\r\ncontent-length: 5\r\n";

/// The statuses of all heads up to the answer, and the answer's body.
async fn heads(client: &mut Client) -> (Vec<u16>, String) {
    let mut statuses = Vec::new();
    loop {
        let reply = client.reply_or_interim("GET").await.unwrap();
        statuses.push(reply.status);
        if reply.status >= 200 {
            assert_eq!(reply.field("link"), "", "an interim answer's field is none of the answer's");
            return (statuses, reply.text());
        }
    }
}

#[tokio::test]
async fn a_hint_arrives_while_the_answer_is_still_being_made() {
    let stage = Stage::new().start().await;
    for path in [CACHED, PASSED] {
        stage.origin.answer(path, Answer::json("1").after(103, HINT));
        let hold = stage.origin.hold(path);
        let mut client = stage.client(0).await;
        client.send("GET", path, &[], b"").await;
        let hint = client.head().await.unwrap();
        assert_eq!((hint.status, hint.field("link")), (103, "</a.css>; rel=preload".to_owned()));
        assert_eq!(hint.field("x-hop"), "", "what is for one hop ends there");
        assert_eq!(hint.field("content-length"), "", "it has no content");
        hold.release();
        assert_eq!(heads(&mut client).await, (vec![200], "1".to_owned()), "{path}");
    }
}

#[tokio::test]
async fn an_interim_answer_is_never_stored_and_never_the_answer() {
    let stage = Stage::new().start().await;
    let answer = Answer::json("1").after(102, "").after(103, HINT).after(199, "x-own: 1\r\n");
    for path in [CACHED, PASSED] {
        stage.origin.answer(path, answer.clone());
        let mut client = stage.client(0).await;
        client.send("GET", path, &[], b"").await;
        assert_eq!(heads(&mut client).await, (vec![102, 103, 199, 200], "1".to_owned()), "{path}");
    }
    let again = stage.get(CACHED).await;
    assert_eq!((again.status, again.detail(), again.field("x-own")), (200, "hit".to_owned(), String::new()));
}

#[tokio::test]
async fn who_waits_for_another_or_cannot_read_it_is_told_nothing() {
    let stage = Stage::new().start().await;
    stage.origin.answer(CACHED, Answer::json("1").after(103, HINT));
    let hold = stage.origin.hold(CACHED);
    let (mut leader, mut follower) = (stage.client(0).await, stage.client(0).await);
    leader.send("GET", CACHED, &[], b"").await;
    hold.arrived(1).await;
    follower.send("GET", CACHED, &[], b"").await;
    stage.followers(1).await;
    hold.release();
    assert_eq!(heads(&mut leader).await.0, [103, 200]);
    assert_eq!(heads(&mut follower).await.0, [200]);

    stage.origin.answer(PASSED, Answer::json("1").after(103, HINT));
    let mut old = stage.client(0).await;
    old.write(format!("GET {PASSED} HTTP/1.0\r\nhost: shop.example\r\n\r\n").as_bytes()).await;
    assert_eq!(old.head().await.unwrap().status, 200, "HTTP/1.0 has none");
    assert_eq!(get_h2(stage.address(0), PASSED).await.status, 200);
}

#[tokio::test]
async fn who_waits_for_100_is_told_so_once() {
    let stage = Stage::new().start().await;
    stage.origin.answer(PASSED, Answer::json("1").after(100, ""));
    let mut client = stage.client(0).await;
    client.send("POST", PASSED, &[("expect", "100-continue"), ("content-length", "1")], b"").await;
    assert_eq!(client.head().await.unwrap().status, 100);
    client.write(b"x").await;
    assert_eq!(heads(&mut client).await.0, [200]);
}

#[tokio::test]
async fn answers_to_requests_sent_together_keep_their_hints_in_order() {
    let stage = Stage::new().start().await;
    stage.origin.answer(PASSED, Answer::json("1").after(103, HINT));
    stage.origin.answer(CACHED, Answer::json("2").after(103, HINT));
    let one = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: shop.example\r\n\r\n");
    let mut client = stage.client(0).await;
    client.write([one(PASSED), one(CACHED), one(CACHED)].concat().as_bytes()).await;
    for (least, body) in [(1, "1"), (1, "2"), (1, "2")] {
        let (statuses, text) = heads(&mut client).await;
        // A hint that meets the end of the answer before it in one buffer has no place left.
        assert!(statuses.len() >= least && statuses.iter().rev().skip(1).all(|status| *status == 103), "{statuses:?}");
        assert_eq!(text, body);
    }
}
