//! Every wait has an end, and the end has a name. Here real time passes, for time is the subject.

use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep};
use tokio::{join, select};

use super::fake::{Fake, fill, found, get, ok, post, until, whole, within};
use crate::body::Body;
use crate::origin::{Origin, Purpose};

/// Short for who waits, long for a machine that is busy with other tests.
const SHORT: Duration = Duration::from_millis(150);

#[tokio::test]
async fn an_origin_that_does_not_begin_is_first_byte_timeout() {
    for said in ["", "HTTP/1.1 200 OK\r\nContent-Le", "HTTP/1.1 100 Continue\r\n\r\n"] {
        let fake = Fake::bind().await;
        let client = fake.client(|settings| settings.first_byte_timeout = SHORT);
        let serve = async {
            let mut peer = fake.asked().await;
            peer.say(said).await;
            peer.closed().await;
        };
        let (answer, ()) = join!(fill(&client, get("/")), serve);
        assert_eq!(answer, Err("first_byte_timeout"), "{said:?}");
    }
}

#[tokio::test]
async fn a_pass_has_a_first_byte_of_its_own() {
    let fake = Fake::bind().await;
    let client = fake.client(|settings| settings.pass_first_byte_timeout = SHORT);
    let (answer, _peer) = join!(client.send(get("/"), Purpose::Pass), fake.asked());
    assert_eq!(whole(answer).await, Err("first_byte_timeout"));
}

#[tokio::test]
async fn an_upload_that_moves_is_not_the_origins_delay() {
    let fake = Fake::bind().await;
    let client = fake.client(|settings| settings.pass_first_byte_timeout = 2 * SHORT);
    let frames = futures_util::stream::unfold(0, |sent| async move {
        sleep(SHORT).await;
        (sent < 8).then(|| (Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from_static(b"x"))), sent + 1))
    });
    let serve = async {
        let mut peer = fake.asked().await;
        let mut body = Vec::new();
        while !body.ends_with(b"0\r\n\r\n") {
            body.push(tokio::io::AsyncReadExt::read_u8(&mut peer.stream).await.unwrap());
        }
        peer.say(ok("thanks")).await;
        peer
    };
    let (answer, _peer) = join!(client.send(post(Body::stream(StreamBody::new(frames))), Purpose::Pass), serve);
    assert_eq!(whole(answer).await, found("thanks"));
}

#[tokio::test]
async fn an_origin_that_stops_in_its_body_is_between_bytes_timeout() {
    for purpose in [Purpose::Fill, Purpose::Pass] {
        let fake = Fake::bind().await;
        let client = fake.client(|settings| match purpose {
            Purpose::Fill => settings.between_bytes_timeout = SHORT,
            Purpose::Pass | Purpose::Upgrade => settings.pass_idle_timeout = SHORT,
        });
        let serve = async {
            let mut peer = fake.asked().await;
            peer.say("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello").await;
            peer.closed().await;
        };
        let ask = async { whole(client.send(get("/"), purpose).await).await };
        let (answer, ()) = join!(ask, serve);
        assert_eq!(answer, Err("between_bytes_timeout"));
        until("the permit's return", || client.stats().open() == 0).await;
    }
}

#[tokio::test]
async fn a_slow_reader_is_not_the_origins_delay() {
    let fake = Fake::bind().await;
    let client = fake.client(|settings| settings.between_bytes_timeout = SHORT);
    let (answer, mut peer) = join!(client.send(get("/"), Purpose::Fill), async {
        let mut peer = fake.asked().await;
        peer.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").await;
        peer
    });
    let mut body = answer.unwrap().into_body();
    assert!(within(body.frame()).await.unwrap().is_ok());
    sleep(3 * SHORT).await;
    let (rest, ()) = join!(body.collect(), peer.say("world"));
    assert_eq!(rest.unwrap().to_bytes(), "world");
}

/// A byte at a time is never late for the next byte, and would go on for ever.
#[tokio::test]
async fn an_origin_that_drips_is_total_timeout() {
    let fake = Fake::bind().await;
    let client = fake.client(|settings| {
        settings.between_bytes_timeout = 20 * SHORT;
        settings.total_timeout = 4 * SHORT;
    });
    let began = Instant::now();
    let serve = async {
        let mut peer = fake.asked().await;
        peer.say("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n").await;
        while peer.stream.write_all(b"x").await.is_ok() {
            sleep(SHORT / 10).await;
        }
    };
    let (answer, ()) = join!(fill(&client, get("/")), serve);
    assert_eq!(answer, Err("total_timeout"));
    assert!(began.elapsed() >= 4 * SHORT);
}

#[tokio::test]
async fn an_origin_that_does_not_begin_is_total_timeout_at_the_latest() {
    let fake = Fake::bind().await;
    let client = fake.client(|settings| settings.total_timeout = SHORT);
    let (answer, _peer) = join!(fill(&client, get("/")), fake.accept());
    assert_eq!(answer, Err("total_timeout"));
}

#[tokio::test]
async fn an_endless_fill_ends_at_its_deadline() {
    let fake = Fake::bind().await;
    let client = fake.client(|settings| settings.total_timeout = 4 * SHORT);
    let serve = async {
        let mut peer = fake.asked().await;
        peer.say("HTTP/1.1 200 OK\r\n\r\n").await;
        while peer.stream.write_all(&[b'x'; 4096]).await.is_ok() {}
    };
    let (answer, ()) = join!(fill(&client, get("/")), serve);
    assert_eq!(answer, Err("total_timeout"));
}

#[tokio::test]
async fn a_fill_that_became_a_pass_may_take_its_time() {
    let fake = Fake::bind().await;
    let client = fake.client(|settings| settings.total_timeout = 2 * SHORT);
    let (answer, mut peer) = join!(client.send(get("/"), Purpose::Fill), async {
        let mut peer = fake.asked().await;
        peer.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").await;
        peer
    });
    let body = answer.unwrap().into_body().into_pass().expect("a place is free");
    let serve = async {
        sleep(3 * SHORT).await;
        peer.say("world").await;
    };
    let (rest, ()) = join!(body.collect(), serve);
    assert_eq!(rest.unwrap().to_bytes(), "helloworld");
}

/// nginx and Varnish read on for 400 MiB after the client has left.
#[tokio::test]
async fn an_endless_answer_ends_with_its_last_reader() {
    let fake = Fake::bind().await;
    let client = fake.client(|settings| settings.connections_max = 1);
    let (answer, mut peer) = join!(client.send(get("/"), Purpose::Pass), async {
        let mut peer = fake.asked().await;
        peer.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n").await;
        peer
    });
    let mut body = answer.unwrap().into_body();
    assert!(within(body.frame()).await.unwrap().is_ok());
    drop(body);
    peer.closed().await;
    // Its place in the pool is free again.
    let (answer, _peer) = join!(fill(&client, get("/")), async {
        let mut peer = fake.asked().await;
        peer.say(ok("next")).await;
        peer
    });
    assert_eq!(answer, found("next"));
}

#[tokio::test]
async fn a_request_that_is_given_up_closes_its_connection() {
    let fake = Fake::bind().await;
    let client = fake.client(|settings| settings.connections_max = 1);
    let mut peer = {
        let mut asking = client.send(get("/"), Purpose::Pass);
        select! {
            biased;
            _ = &mut asking => panic!("nobody answered"),
            peer = fake.asked() => peer,
        }
    };
    peer.closed().await;
    until("the socket's end", || client.stats().open() == 0).await;
}
