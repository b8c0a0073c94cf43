//! Upgrades, end to end: a client, a serving side in hyper, this origin, a backend in raw bytes.

use std::io;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::join;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::fake::{Fake, fill, found, get, until, whole, within};
use crate::body::Body;
use crate::origin::{Origin, Purpose, splice};
use crate::tasks::Tasks;

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";

fn wish() -> Request<Body> {
    let request = Request::get("/ws").header("connection", "upgrade").header("upgrade", "websocket");
    request.body(Body::Empty).unwrap()
}

#[tokio::test]
async fn only_the_protocol_that_was_asked_for_is_switched_to() {
    for (request, purpose, said) in [
        (wish(), Purpose::Pass, SWITCH),
        (get("/ws"), Purpose::Upgrade, SWITCH),
        (wish(), Purpose::Upgrade, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n"),
        (wish(), Purpose::Upgrade, "HTTP/1.1 101 Switching Protocols\r\n\r\n"),
    ] {
        let fake = Fake::bind().await;
        let client = fake.client(|_| {});
        let serve = async {
            let mut peer = fake.asked().await;
            peer.say(said).await;
            peer.closed().await;
        };
        let ask = async { whole(client.send(request, purpose).await).await };
        let (answer, ()) = join!(ask, serve);
        assert_eq!(answer, Err("upstream_status"), "{purpose:?} {said}");
    }
}

#[tokio::test]
async fn a_refused_upgrade_is_an_answer_like_any() {
    let fake = Fake::bind().await;
    let client = fake.client(|_| {});
    let ask = async { whole(client.send(wish(), Purpose::Upgrade).await).await };
    let (answer, ()) = join!(ask, async { fake.accept().await.answer("no").await });
    assert_eq!(answer, found("no"));
    until("the connection's end", || client.stats().open() == 0).await;
}

#[tokio::test]
async fn a_tunnel_holds_its_place_until_it_is_closed() {
    let fake = Fake::bind().await;
    let client = fake.client(|settings| {
        settings.connections_max = 1;
        settings.queue_max = 0;
    });
    let (answer, mut peer) = join!(client.send(wish(), Purpose::Upgrade), async {
        let mut peer = fake.asked().await;
        peer.say(SWITCH).await;
        peer
    });
    let upgraded = within(hyper::upgrade::on(answer.unwrap())).await.unwrap();
    assert_eq!(fill(&client, get("/")).await, Err("queue_full"));
    drop(upgraded);
    peer.closed().await;
    let (answer, ()) = join!(fill(&client, get("/")), async { fake.accept().await.answer("hi").await });
    assert_eq!(answer, found("hi"));
}

/// A proxy of one connection: passes an upgrade to the origin, answers 101 and splices.
async fn through(fake: &Fake, idle: Duration, talk: impl AsyncFnOnce(TcpStream)) -> io::Result<(u64, u64)> {
    let tasks = Tasks::new();
    let client = std::sync::Arc::new(fake.client(|_| {}));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (ended, end) = oneshot::channel();
    let ended = std::sync::Mutex::new(Some(ended));
    let address = listener.local_addr().unwrap();
    let serve = async {
        let (stream, _) = listener.accept().await.unwrap();
        let service = service_fn(|mut request: Request<Incoming>| {
            let (client, tasks) = (client.clone(), tasks.clone());
            let ended = ended.lock().unwrap().take().unwrap();
            async move {
                let from_client = hyper::upgrade::on(&mut request);
                let request = request.map(|_no_body| Body::Empty);
                let mut answer = client.send(request, Purpose::Upgrade).await.unwrap();
                assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
                let to_origin = hyper::upgrade::on(&mut answer);
                tasks.spawn(async move {
                    let spliced = splice(from_client.await.unwrap(), to_origin.await.unwrap(), idle).await;
                    ended.send(spliced).unwrap();
                });
                Ok::<_, std::convert::Infallible>(Response::from_parts(answer.into_parts().0, Body::Empty))
            }
        });
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        connection.with_upgrades().await.unwrap();
    };
    let visit = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET /ws HTTP/1.1\r\nHost: shop\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
            .await
            .unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        talk(stream).await;
    };
    within(async { join!(serve, visit, end).2.unwrap() }).await
}

#[tokio::test]
async fn both_sides_of_a_tunnel_hear_each_other() {
    let fake = Fake::bind().await;
    let backend = async {
        let mut peer = fake.asked().await;
        // The first words of the new protocol come with the last of the old one.
        peer.say(format!("{SWITCH}welcome")).await;
        let mut said = [0; 5];
        peer.stream.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"hello");
        peer.say("bye").await;
    };
    let visit = through(&fake, Duration::from_secs(20), async |mut stream| {
        let mut said = [0; 7];
        stream.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"welcome");
        stream.write_all(b"hello").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"bye");
    });
    let (spliced, ()) = join!(visit, backend);
    assert_eq!(spliced.unwrap(), (5, 10));
}

#[tokio::test]
async fn a_tunnel_that_is_silent_is_closed() {
    let fake = Fake::bind().await;
    let backend = async {
        let mut peer = fake.asked().await;
        peer.say(SWITCH).await;
        peer.closed().await;
    };
    let visit = through(&fake, Duration::from_millis(40), async |mut stream| {
        let mut rest = Vec::new();
        // The end, or a reset: either is a close.
        let _ended = stream.read_to_end(&mut rest).await;
        assert!(rest.is_empty());
    });
    let (spliced, ()) = join!(visit, backend);
    assert_eq!(spliced.unwrap_err().kind(), io::ErrorKind::TimedOut);
}
