use bytes::Bytes;
use endcap::serve::accept::{ConnectionEnd, ConnectionLimits};
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::stage::{DEADLINE, SHORT, Stage, limits};

type Body = http_body_util::combinators::BoxBody<Bytes, std::convert::Infallible>;

async fn connect(stage: &Stage) -> SendRequest<Body> {
    let stream = TcpStream::connect(stage.address).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    stage.tasks.spawn(async move {
        // The tests look at the answers; how the connection ends is the observer's to tell.
        drop(connection.await);
    });
    sender
}

async fn text(response: Response<hyper::body::Incoming>) -> (u16, String) {
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn empty() -> Body {
    Empty::new().boxed()
}

fn h2c() -> ConnectionLimits {
    ConnectionLimits { h2c: true, ..limits() }
}

#[tokio::test]
async fn both_protocols_are_served_on_one_port() {
    let stage = Stage::new(h2c());
    let mut sender = connect(&stage).await;
    let request = Request::get("http://Shop:80/x?y").header("cookie", "a=1").header("cookie", "b=2");
    let answer = sender.send_request(request.body(empty()).unwrap()).await.unwrap();
    assert_eq!(text(answer).await, (200, "GET /x?y shop a=1; b=2".into()));
    let body = Full::new(Bytes::from_static(b"abc")).boxed();
    let answer = sender.send_request(Request::post("http://shop/body").body(body).unwrap()).await.unwrap();
    assert_eq!(text(answer).await, (200, "abc".into()));

    // A client of HTTP/1 whose method begins like the preface, and comes in drops.
    let mut client = stage.connect().await;
    for piece in ["P", "R", "I", "NT / HTTP/1.1\r\nHost: a\r\n", "\r\n"] {
        client.send(piece).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.answer().await.body, "PRINT / a ");
}

#[tokio::test]
async fn a_refused_stream_leaves_the_others_alone() {
    let stage = Stage::new(h2c());
    let mut sender = connect(&stage).await;
    let held = sender.send_request(Request::get("http://a/hold").body(empty()).unwrap());
    for (request, status, reason) in [
        (Request::get("http://a/").header("host", "b").body(empty()), 400, "host"),
        (Request::get("http://u@a/").body(empty()), 400, "host"),
        (Request::get("http://a/").body(Full::new(Bytes::from_static(b"x")).boxed()), 400, "body_on_get"),
        (Request::builder().method("PURGE").uri("http://a/").body(empty()), 405, "method"),
        (Request::get(format!("http://a/{}", "x".repeat(9000))).body(empty()), 414, "uri_size"),
    ] {
        let answer = sender.send_request(request.unwrap()).await.unwrap();
        assert_eq!((answer.status().as_u16(), stage.refused().pop()), (status, Some(reason)));
    }
    assert_eq!(stage.calls(), 1);
    stage.seen.gate.add_permits(1);
    assert_eq!(text(held.await.unwrap()).await.1, "released");
}

#[tokio::test]
async fn a_preface_and_then_silence_is_closed() {
    let stage = Stage::new(ConnectionLimits { head_timeout: SHORT, ..h2c() });
    for start in ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PRI * HT", "P"] {
        let mut client = stage.connect().await;
        client.send(start).await;
        client.gone().await;
    }
    assert_eq!(stage.ends(3).await, [ConnectionEnd::HeadTimeout; 3]);
}

#[tokio::test]
async fn an_idle_connection_is_closed_but_not_a_busy_one() {
    let stage =
        Stage::new(ConnectionLimits { head_timeout: SHORT, idle_timeout: SHORT, write_timeout: SHORT, ..h2c() });
    let mut sender = connect(&stage).await;
    let held = sender.send_request(Request::get("http://a/hold").body(empty()).unwrap());
    let release = async {
        stage.until(|| stage.calls() == 1).await;
        stage.outlast(3).await;
        stage.seen.gate.add_permits(1);
    };
    let (answer, ()) = tokio::join!(held, release);
    assert_eq!(text(answer.unwrap()).await.1, "released");
    assert_eq!(stage.ends(4).await[3], ConnectionEnd::IdleTimeout);
}

#[tokio::test]
async fn a_client_that_opens_no_window_is_closed() {
    for path in ["/large", "/endless"] {
        let stage = Stage::new(ConnectionLimits { write_timeout: SHORT, ..h2c() });
        let mut sender = connect(&stage).await;
        // The answer is kept and never read: its window stays as it is.
        let answer = sender.send_request(Request::get(format!("http://a{path}")).body(empty()).unwrap()).await;
        assert_eq!(stage.ends(1).await, [ConnectionEnd::WriteTimeout], "{path}");
        drop(answer);
    }
}

#[tokio::test]
async fn a_large_answer_is_whole() {
    let stage = Stage::new(h2c());
    let mut sender = connect(&stage).await;
    let answer = sender.send_request(Request::get("http://a/large").body(empty()).unwrap()).await.unwrap();
    assert_eq!(answer.headers()["content-length"], (32 << 20).to_string());
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes().len(), 32 << 20);
}

#[tokio::test]
async fn too_many_resets_end_the_connection() {
    let stage = Stage::new(h2c());
    let mut sender = connect(&stage).await;
    let mut calls = 0;
    while !sender.is_closed() {
        if sender.ready().await.is_err() {
            break;
        }
        let request = Box::pin(sender.send_request(Request::get("http://a/hold").body(empty()).unwrap()));
        // Dropped once it is under way: a reset.
        calls += 1;
        tokio::select! {
            biased;
            _ = request => break,
            () = stage.until(|| stage.calls() >= calls) => {}
        }
        assert!(calls < 300, "still open after {calls} resets");
    }
    assert_eq!(stage.ends(1).await, [ConnectionEnd::Resets]);
    assert!(calls > 90, "{calls}");
}

#[tokio::test]
async fn a_drain_finishes_the_streams_under_way() {
    let stage = Stage::new(h2c());
    let mut sender = connect(&stage).await;
    let held = sender.send_request(Request::get("http://a/hold").body(empty()).unwrap());
    let work = async {
        stage.until(|| stage.calls() == 1).await;
        let tasks = stage.tasks.clone();
        let stopping = async { timeout(DEADLINE, tasks.stop()).await.unwrap() };
        let release = async {
            stage.tasks.stopping().cancelled().await;
            stage.seen.gate.add_permits(1);
        };
        tokio::join!(stopping, release);
    };
    let (answer, ()) = tokio::join!(async { text(held.await.unwrap()).await }, work);
    assert_eq!(answer, (200, "released".into()));
}
