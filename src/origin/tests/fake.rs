//! An origin that does byte for byte what a test says, when it says so.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::body::Body;
use crate::origin::{HttpOrigin, Origin, OriginBody, OriginError, OriginSettings, Purpose};
use crate::tasks::Tasks;

/// What a test may take before it counts as hung.
const DEADLINE: Duration = Duration::from_secs(20);

/// Runs a test's step, which must come to an end.
pub(super) async fn within<F: Future>(step: F) -> F::Output {
    timeout(DEADLINE, step).await.expect("the test hangs")
}

/// Waits until something is so.
pub(super) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waited = timeout(DEADLINE, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    waited.await.unwrap_or_else(|_elapsed| panic!("{what} did not happen"));
}

pub(super) struct Fake {
    listener: TcpListener,
    pub(super) tasks: Tasks,
}

impl Fake {
    pub(super) async fn bind() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap(), tasks: Tasks::new() }
    }

    pub(super) fn settings(&self) -> OriginSettings {
        OriginSettings::new(&self.listener.local_addr().unwrap().to_string().parse().unwrap()).unwrap()
    }

    /// The client of this origin, with limits of the test's own.
    pub(super) fn client(&self, tune: impl FnOnce(&mut OriginSettings)) -> HttpOrigin {
        let mut settings = self.settings();
        tune(&mut settings);
        HttpOrigin::new(settings, &self.tasks)
    }

    pub(super) async fn accept(&self) -> Peer {
        Peer { stream: within(self.listener.accept()).await.unwrap().0 }
    }

    /// Accepts a connection and reads a request.
    pub(super) async fn asked(&self) -> Peer {
        let mut peer = self.accept().await;
        peer.request().await;
        peer
    }
}

/// The origin's end of a connection.
pub(super) struct Peer {
    pub(super) stream: TcpStream,
}

impl Peer {
    /// Reads a request's head.
    pub(super) async fn request(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(within(self.stream.read_u8()).await.expect("a request"));
        }
        String::from_utf8(head).unwrap()
    }

    pub(super) async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads a request and answers it; the connection stays open.
    pub(super) async fn answer(&mut self, body: &str) {
        self.request().await;
        self.say(ok(body)).await;
    }

    /// Waits until the client has closed the connection.
    pub(super) async fn closed(&mut self) {
        let mut rest = [0; 64];
        let read = within(self.stream.read(&mut rest)).await;
        assert!(matches!(read, Ok(0) | Err(_)), "the client said more: {read:?}");
    }

    /// Breaks the connection off, so that the client sees a reset and no end.
    pub(super) fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

pub(super) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

pub(super) fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::Empty).unwrap()
}

pub(super) fn post(body: Body) -> Request<Body> {
    Request::builder().method(Method::POST).uri("/").body(body).unwrap()
}

/// The whole answer as status and body, or why there is none.
pub(super) type Outcome = Result<(u16, Bytes), &'static str>;

pub(super) async fn whole(answer: Result<Response<OriginBody>, OriginError>) -> Outcome {
    let (head, body) = answer.map_err(|error| error.reason())?.into_parts();
    let body = within(body.collect()).await.map_err(|error| error.reason())?;
    Ok((head.status.as_u16(), body.to_bytes()))
}

pub(super) async fn fill(client: &HttpOrigin, request: Request<Body>) -> Outcome {
    whole(within(client.send(request, Purpose::Fill)).await).await
}

pub(super) fn found(body: &'static str) -> Outcome {
    Ok((200, Bytes::from_static(body.as_bytes())))
}
