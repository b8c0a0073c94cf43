use std::sync::atomic::Ordering;

use endcap::serve::accept::{ConnectionEnd, ConnectionLimits};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::stage::{DEADLINE, SHORT, Stage, limits};

const CHUNKED: &str = "HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

#[tokio::test]
async fn a_body_streams_and_its_trailers_are_dropped() {
    let stage = Stage::new(limits());
    let mut client = stage.connect().await;
    client.send(format!("POST /body {CHUNKED}3;x=y\r\nabc\r\n")).await;
    client.send("2\r\nde\r\n0\r\nTrailer: v\r\n\r\n").await;
    assert_eq!(client.answer().await.body, "abcde");
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn a_broken_chunk_is_the_clients_fault() {
    let stage = Stage::new(limits());
    for broken in
        ["2\nab", "2\r\nabc", "zz\r\n", "2;a\nb\r\nab", "fffffffffffffffff\r\n", "-1\r\n", "0\r\n x: y\r\n\r\n"]
    {
        for path in ["/body", "/forward"] {
            let mut client = stage.connect().await;
            client
                .send(format!("POST {path} {CHUNKED}1\r\nx\r\n{broken}\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n"))
                .await;
            let answer = client.answer().await;
            assert_eq!((answer.status, answer.body.as_str()), (400, "chunked"), "{broken:?} {path}");
            client.ended().await;
        }
    }
    assert_eq!(stage.calls(), 14);
}

#[tokio::test]
async fn a_silent_body_is_timed_out() {
    let stage = Stage::new(ConnectionLimits { body_timeout: SHORT, ..limits() });
    let mut client = stage.connect().await;
    client.send("POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.body.as_str()), (408, "timeout_body"));
    client.ended().await;
}

#[tokio::test]
async fn a_dripping_body_has_an_end() {
    let limits = ConnectionLimits { body_timeout: 4 * SHORT, head_timeout: SHORT, ..limits() };
    let stage = Stage::new(limits);
    let mut client = stage.connect().await;
    client.send("POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n").await;
    let (mut reader, mut writer) = client.stream.split();
    let mut answer = Vec::new();
    // Each byte well within the time for silence: what ends it is the sum.
    let drip = async {
        while writer.write_all(b"x").await.is_ok() {
            stage.outlast(1).await;
        }
    };
    let read = async { while reader.read_buf(&mut answer).await.is_ok_and(|length| length > 0) {} };
    timeout(DEADLINE, async { tokio::join!(drip, read) }).await.expect("an end");
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.ends_with("timeout_body"), "{answer}");
}

#[tokio::test]
async fn an_unread_body_is_not_taken_for_a_request() {
    let stage = Stage::new(limits());
    let mut client = stage.connect().await;
    let body = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    // More is announced than comes: nobody may wait for the rest, or read what there is as a request.
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n{body}{body}")).await;
    assert_eq!(client.answer().await.body, "POST / a ");
    client.gone().await;
    assert_eq!(stage.calls(), 1);
}

#[tokio::test]
async fn a_refused_body_does_not_destroy_the_answer() {
    let stage = Stage::new(limits());
    for _ in 0..20 {
        let mut client = stage.connect().await;
        client.send("POST / HTTP/1.1\r\nContent-Length: 200000\r\n\r\n").await;
        // Still being sent while the answer is there and the connection is closed.
        client.send(vec![b'x'; 100_000]).await;
        assert_eq!(client.answer().await.status, 400);
        client.send(vec![b'x'; 100_000]).await;
        client.ended().await;
    }
    assert_eq!(stage.calls(), 0);
}

#[tokio::test]
async fn a_slow_reader_does_not_fill_the_memory() {
    let stage = Stage::new(ConnectionLimits { write_timeout: SHORT, ..limits() });
    let mut client = stage.connect().await;
    client.send("GET /endless HTTP/1.1\r\nHost: a\r\n\r\n").await;
    // The kernel takes some megabytes; then the body stands still, as the end shows.
    assert_eq!(stage.ends(1).await, [ConnectionEnd::WriteTimeout]);
    let taken = stage.seen.frames.load(Ordering::SeqCst);
    assert!(taken < 2000, "{taken} frames of 16 KiB");
}
