//! What answers are taken, and what every other is called.

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt;
use tokio::join;

use super::fake::{Fake, Outcome, fill, found, get, ok, post, whole, within};
use crate::body::Body;
use crate::origin::{Framing, Origin, OriginError, Purpose};

/// What the origin does once it has said its piece.
#[derive(Clone, Copy)]
enum Then {
    Close,
    Hold,
    Reset,
}

async fn outcome(raw: &[u8], then: Then) -> Outcome {
    let fake = Fake::bind().await;
    let client = fake.client(|settings| settings.head_bytes_max = 16 * 1024);
    let serve = async {
        let mut peer = fake.asked().await;
        peer.say(raw).await;
        match then {
            Then::Close => drop(peer),
            Then::Hold => return Some(peer),
            Then::Reset => peer.reset(),
        }
        None
    };
    join!(fill(&client, get("/")), serve).0
}

async fn check(raw: impl AsRef<[u8]>, then: Then, expected: Outcome) {
    let raw = raw.as_ref();
    assert_eq!(outcome(raw, then).await, expected, "{:?}", String::from_utf8_lossy(&raw[..raw.len().min(120)]));
}

#[tokio::test]
async fn answers_that_are_whole_are_taken() {
    use Then::{Close, Hold};
    check(ok("hello"), Hold, found("hello")).await;
    check("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Hold, found("")).await;
    check("HTTP/1.1 200 OK\r\n\r\nhello", Close, found("hello")).await;
    check("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", Hold, found("hello")).await;
    check("HTTP/1.1 204 No Content\r\n\r\n", Hold, Ok((204, Bytes::new()))).await;
    check("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", Hold, Ok((304, Bytes::new()))).await;
    let chunked =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nX-Sum: 1\r\n\r\n";
    check(chunked, Hold, found("hello")).await;
    // 100 and 103 before the answer are skipped, twenty at the most.
    check(format!("HTTP/1.1 100 Continue\r\n\r\n{}", ok("hello")), Hold, found("hello")).await;
    check(format!("{}{}", "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(20), ok("hello")), Hold, found("hello")).await;
}

#[tokio::test]
async fn answers_that_are_not_http_or_have_two_ends_are_framing() {
    use Then::{Close, Hold};
    let bad = Err("framing");
    check("cow cow cow cow cow cow\r\n\r\n", Hold, bad.clone()).await;
    check("\x16\x03\x01\x02\x00\x01\x00\x01\x7c\x03\x03", Hold, bad.clone()).await;
    check("HTTP/1.1 2x0 OK\r\n\r\n", Hold, bad.clone()).await;
    check("HTTP/1.1 200 OK\r\nbad name: 1\r\n\r\n", Hold, bad.clone()).await;
    check("HTTP/1.1 200 OK\r\nx-a: 1\r\n folded\r\nContent-Length: 0\r\n\r\n", Hold, bad.clone()).await;
    check("HTTP/1.1 200 OK\r\nx-a: a\0b\r\nContent-Length: 0\r\n\r\n", Hold, bad.clone()).await;
    check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", Hold, bad.clone()).await;
    check("HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello!", Hold, bad.clone()).await;
    check("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello", Hold, bad.clone()).await;
    let both = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    check(both, Hold, bad.clone()).await;
    check("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello", Close, bad.clone()).await;
    let cow = "HTTP/1.1 200 OK\r\nTransfer-Encoding: cow, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    check(cow, Hold, bad.clone()).await;
    check("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Hold, bad.clone()).await;

    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for chunks in [
        "cow\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "fffffffffffffffff\r\nhello\r\n",
        "5\r\nhello\r\n0\r\nbad trailer: 1\r\n\r\n",
    ] {
        check(format!("{CHUNKED}{chunks}"), Hold, bad.clone()).await;
    }

    // 25 informational answers, at once and one by one.
    check(format!("{}{}", "HTTP/1.1 100 Continue\r\n\r\n".repeat(25), ok("hello")), Hold, bad.clone()).await;
    check("HTTP/1.1 103 Early Hints\r\n\r\n".repeat(25), Hold, bad).await;
}

#[tokio::test]
async fn answers_that_are_cut_off_are_never_whole() {
    use Then::{Close, Reset};
    check("", Close, Err("reset")).await;
    check("", Reset, Err("reset")).await;
    check("HTTP/1.1 200 OK\r\nContent-Le", Close, Err("truncated")).await;
    check("HTTP/1.1 100 Continue\r\n\r\n", Close, Err("truncated")).await;
    check("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello", Close, Err("truncated")).await;
    check("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n", Close, Err("truncated")).await;
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for chunks in ["", "5", "5\r\nhel", "5\r\nhello\r\n", "5\r\nhello\r\n0\r\n", "5\r\nhello\r\n0\r\nX-Sum: 1\r\n"] {
        check(format!("{CHUNKED}{chunks}"), Close, Err("truncated")).await;
    }
}

/// The end of an until-close body can be forged by anyone who can cut a connection, but a reset is
/// told from an end.
#[tokio::test]
async fn a_reset_in_a_body_is_told_from_its_end() {
    for head in ["", "Content-Length: 50\r\n", "Transfer-Encoding: chunked\r\n"] {
        let fake = Fake::bind().await;
        let client = fake.client(|_| {});
        let serve = async {
            let mut peer = fake.asked().await;
            peer.say(format!("HTTP/1.1 200 OK\r\n{head}\r\n32\r\nhello")).await;
            peer
        };
        let (answer, peer) = join!(client.send(get("/"), Purpose::Fill), serve);
        let mut body = answer.unwrap().into_body();
        assert!(within(body.frame()).await.unwrap().is_ok());
        peer.reset();
        assert_eq!(within(body.collect()).await.unwrap_err().reason(), "reset", "{head:?}");
    }
}

#[tokio::test]
async fn heads_that_are_too_large_are_head_size() {
    let large = format!("HTTP/1.1 200 OK\r\nx-a: {}\r\nContent-Length: 0\r\n\r\n", "a".repeat(20_000));
    check(&large, Then::Hold, Err("head_size")).await;
    // One that never ends is not read to its end.
    check(format!("HTTP/1.1 200 OK\r\nx-a: {}", "a".repeat(20_000)), Then::Hold, Err("head_size")).await;
    let many = format!("HTTP/1.1 200 OK\r\n{}Content-Length: 0\r\n\r\n", "x-a: 1\r\n".repeat(100));
    check(many, Then::Hold, Err("head_size")).await;
    let fits = format!("HTTP/1.1 200 OK\r\nx-a: {}\r\nContent-Length: 0\r\n\r\n", "a".repeat(16_000));
    check(fits, Then::Hold, found("")).await;
}

#[tokio::test]
async fn an_unasked_change_of_protocol_is_upstream_status() {
    let raw = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    check(raw, Then::Hold, Err("upstream_status")).await;
}

#[tokio::test]
async fn the_framing_is_told_with_the_answer() {
    let fake = Fake::bind().await;
    let client = fake.client(|_| {});
    let check = async |method: Method, raw: &str, expected: Framing| {
        let request = http::Request::builder().method(method).uri("/").body(Body::Empty).unwrap();
        let serve = async {
            let mut peer = fake.asked().await;
            peer.say(raw).await;
            peer
        };
        let (answer, _peer) = join!(client.send(request, Purpose::Pass), serve);
        assert_eq!(answer.unwrap().body().framing(), expected, "{raw}");
    };
    check(Method::GET, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Framing::ContentLength(5)).await;
    check(Method::GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Framing::Chunked).await;
    check(Method::GET, "HTTP/1.1 200 OK\r\n\r\n", Framing::UntilClose).await;
    check(Method::HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n", Framing::None).await;
}

#[tokio::test]
async fn trailers_are_passed_on() {
    let fake = Fake::bind().await;
    let client = fake.client(|_| {});
    let serve = async {
        let mut peer = fake.asked().await;
        peer.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 7\r\n\r\n").await;
        peer
    };
    let (answer, _peer) = join!(client.send(get("/"), Purpose::Pass), serve);
    let collected = within(answer.unwrap().into_body().collect()).await.unwrap();
    assert_eq!(collected.trailers().unwrap()["x-sum"], "7");
}

#[tokio::test]
async fn the_reason_phrase_goes_no_further() {
    let fake = Fake::bind().await;
    let client = fake.client(|_| {});
    let serve = async {
        let mut peer = fake.asked().await;
        peer.say("HTTP/1.1 200 Cows Everywhere\r\nContent-Length: 0\r\n\r\n").await;
        peer
    };
    let (answer, _peer) = join!(client.send(get("/"), Purpose::Pass), serve);
    assert!(answer.unwrap().extensions().get::<hyper::ext::ReasonPhrase>().is_none());
}

fn broken_upload() -> Body {
    let frames = [Ok(http_body::Frame::data(Bytes::from_static(b"half"))), Err("the client left")];
    Body::stream(http_body_util::StreamBody::new(futures_util::stream::iter(frames)))
}

#[tokio::test]
async fn a_request_body_that_fails_is_the_clients_fault() {
    let fake = Fake::bind().await;
    let client = fake.client(|_| {});
    let (answer, mut peer) = join!(client.send(post(broken_upload()), Purpose::Pass), fake.accept());
    let error: OriginError = answer.unwrap_err();
    assert_eq!((error.reason(), error.status().as_u16(), error.is_client_fault()), ("client_body", 400, true));
    // The origin must not take half a body for a whole one.
    let mut sent = Vec::new();
    within(tokio::io::AsyncReadExt::read_to_end(&mut peer.stream, &mut sent)).await.unwrap();
    assert!(!sent.ends_with(b"0\r\n\r\n"));
}

#[tokio::test]
async fn an_answer_that_breaks_off_with_its_request_is_the_clients_fault() {
    let fake = Fake::bind().await;
    let client = fake.client(|_| {});
    let (leave, left) = tokio::sync::oneshot::channel::<()>();
    let frames = futures_util::stream::once(async move {
        left.await.unwrap();
        Err::<http_body::Frame<Bytes>, _>("the client left")
    });
    let serve = async {
        let mut peer = fake.asked().await;
        peer.say("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello").await;
        peer
    };
    let request = post(Body::stream(http_body_util::StreamBody::new(frames)));
    let (answer, _peer) = join!(client.send(request, Purpose::Pass), serve);
    leave.send(()).unwrap();
    assert_eq!(whole(answer).await, Err("client_body"));
}

/// hyper would wait for the answer to half a request, or send the surplus as the next one.
#[tokio::test]
async fn a_request_body_of_another_length_than_announced_is_the_clients_fault() {
    for announced in ["8", "2"] {
        let fake = Fake::bind().await;
        let client = fake.client(|_| {});
        let mut request = post(Body::from(Bytes::from_static(b"half")));
        request.headers_mut().insert("content-length", announced.parse().unwrap());
        let (answer, _peer) = join!(client.send(request, Purpose::Pass), fake.accept());
        assert_eq!(whole(answer).await, Err("client_body"), "{announced}");
    }
}
