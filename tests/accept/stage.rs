//! A listener with a handler that does what the path says, and a client that sends raw bytes.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use endcap::body::Body;
use endcap::policy::admission::HeadLimits;
use endcap::policy::framing::HeadSizes;
use endcap::serve::accept::{
    self, ConnectionEnd, ConnectionLimits, ConnectionObserver, Handler, Listener, Peer, serve,
};
use endcap::serve::body::{RequestBody, RequestBodyError};
use endcap::tasks::Tasks;
use http::{HeaderName, Request, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

/// Long enough for a busy machine; nothing waits for it when all is well.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
/// A configured timeout that is meant to pass.
pub(crate) const SHORT: Duration = Duration::from_millis(150);

pub(crate) fn limits() -> ConnectionLimits {
    ConnectionLimits {
        connections_max: 100,
        head_timeout: DEADLINE,
        idle_timeout: DEADLINE,
        body_timeout: DEADLINE,
        write_timeout: DEADLINE,
        drain_timeout: DEADLINE,
        h2c: false,
        head: HeadLimits {
            sizes: HeadSizes { uri_bytes_max: 8 * 1024, head_bytes_max: 32 * 1024, head_fields_max: 100 },
            hosts: Vec::new(),
            key_fields: vec![HeaderName::from_static("x-publishable-api-key")],
        },
    }
}

/// What the handler and the observer have seen.
pub(crate) struct Seen {
    pub(crate) calls: AtomicUsize,
    pub(crate) frames: AtomicUsize,
    pub(crate) opened: AtomicUsize,
    pub(crate) refused: Mutex<Vec<&'static str>>,
    pub(crate) closed: Mutex<Vec<ConnectionEnd>>,
    /// Requests that were answered or given up.
    pub(crate) left: AtomicUsize,
    /// Something of this has changed.
    changed: Notify,
    /// One permit lets one `/hold` go on.
    pub(crate) gate: Semaphore,
}

impl ConnectionObserver for Seen {
    fn opened(&self) {
        self.opened.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    fn closed(&self, end: ConnectionEnd) {
        self.closed.lock().unwrap().push(end);
        self.changed.notify_waiters();
    }

    fn refused(&self, reason: &'static str) {
        self.refused.lock().unwrap().push(reason);
        self.changed.notify_waiters();
    }

    fn accept_failed(&self, error: &io::Error) {
        panic!("accept failed: {error}");
    }
}

struct TestHandler(Arc<Seen>);

impl Handler for TestHandler {
    fn handle(
        self: &Arc<Self>,
        request: Request<RequestBody>,
        _peer: Peer,
    ) -> accept::Answer<impl Future<Output = Response<Body>> + Send + use<>> {
        let handler = Arc::clone(self);
        accept::Answer::Later(async move { handler.answer(request).await })
    }
}

impl TestHandler {
    async fn answer(&self, request: Request<RequestBody>) -> Response<Body> {
        let seen = Arc::clone(&self.0);
        let _under_way = UnderWay(Arc::clone(&seen));
        seen.calls.fetch_add(1, Ordering::SeqCst);
        seen.changed.notify_waiters();
        let text = |text: String| Response::new(Body::from(Bytes::from(text)));
        match request.uri().path() {
            "/hold" => {
                seen.gate.acquire().await.unwrap().forget();
                text("released".into())
            }
            "/body" => match request.into_body().collect().await {
                Ok(body) => Response::new(Body::from(body.to_bytes())),
                Err(error) => {
                    let mut response = text(error.reason().into());
                    *response.status_mut() = error.status();
                    response
                }
            },
            "/forward" => match forward(request.into_body()).await {
                Ok(()) => text("forwarded".into()),
                Err(error) => {
                    let fault = RequestBodyError::among(&error);
                    let mut response = text(fault.map_or("origin", RequestBodyError::reason).into());
                    *response.status_mut() = fault.map_or(http::StatusCode::BAD_GATEWAY, RequestBodyError::status);
                    response
                }
            },
            "/endless" => Response::new(Body::stream(Endless(seen))),
            "/large" => Response::new(Body::from(Bytes::from(vec![b'x'; 32 << 20]))),
            _ => {
                let host = request.headers()["host"].to_str().unwrap();
                let cookie = request.headers().get("cookie").map_or("", |value| value.to_str().unwrap());
                text(format!("{} {} {host} {cookie}", request.method(), request.uri()))
            }
        }
    }
}

/// A request from its handler's beginning until that is done or dropped.
struct UnderWay(Arc<Seen>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.left.fetch_add(1, Ordering::SeqCst);
        self.0.changed.notify_waiters();
    }
}

/// Sends a body to an origin that reads all of it and never answers before its end.
async fn forward(body: RequestBody) -> Result<(), hyper::Error> {
    let (near, far) = tokio::io::duplex(1024);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(near)).await?;
    let origin = async move {
        let mut far = far;
        let mut sink = vec![0; 1024];
        while far.read(&mut sink).await.is_ok_and(|length| length > 0) {}
    };
    let request = Request::post("/").header("host", "origin").body(body).unwrap();
    tokio::select! {
        biased;
        answer = sender.send_request(request) => answer.map(|_| ()),
        // The cause is told to the sender; here only the end is seen.
        _ = async { tokio::join!(connection, origin, std::future::pending::<()>()) } => unreachable!(),
    }
}

/// A body without end, which counts what is taken of it.
struct Endless(Arc<Seen>);

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        static ZEROS: [u8; 16 * 1024] = [0; 16 * 1024];
        self.0.frames.fetch_add(1, Ordering::SeqCst);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&ZEROS)))))
    }
}

/// A listener that is served.
pub(crate) struct Stage {
    pub(crate) address: SocketAddr,
    pub(crate) tasks: Tasks,
    pub(crate) seen: Arc<Seen>,
}

impl Stage {
    pub(crate) fn new(limits: ConnectionLimits) -> Self {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let tasks = Tasks::new();
        let seen = Arc::new(Seen {
            calls: AtomicUsize::new(0),
            left: AtomicUsize::new(0),
            changed: Notify::new(),
            frames: AtomicUsize::new(0),
            opened: AtomicUsize::new(0),
            refused: Mutex::new(Vec::new()),
            closed: Mutex::new(Vec::new()),
            gate: Semaphore::new(0),
        });
        let handler = Arc::new(TestHandler(Arc::clone(&seen)));
        let observer = Arc::clone(&seen);
        tasks.spawn({
            let tasks = tasks.clone();
            async move { serve(listener, limits, handler, observer, &tasks).await }
        });
        Self { address, tasks, seen }
    }

    pub(crate) async fn connect(&self) -> Client {
        Client { stream: TcpStream::connect(self.address).await.unwrap(), unread: Vec::new(), is_head: false }
    }

    /// Lets `head_timeout` pass several times, as silent connections show by their ends. Nothing is measured: what
    /// began before has lasted longer than each of them.
    pub(crate) async fn outlast(&self, times: usize) {
        for _ in 0..times {
            self.connect().await.ended().await;
        }
    }

    pub(crate) fn calls(&self) -> usize {
        self.seen.calls.load(Ordering::SeqCst)
    }

    pub(crate) fn refused(&self) -> Vec<&'static str> {
        self.seen.refused.lock().unwrap().clone()
    }

    /// Waits until so many connections have ended, and says how.
    pub(crate) async fn ends(&self, count: usize) -> Vec<ConnectionEnd> {
        self.until(|| self.seen.closed.lock().unwrap().len() >= count).await;
        self.seen.closed.lock().unwrap().clone()
    }

    /// Waits until what was seen is so, at most `DEADLINE`.
    pub(crate) async fn until(&self, is_so: impl Fn() -> bool) {
        timeout(DEADLINE, async {
            loop {
                // Begins to listen before it looks: what changes in between is not missed.
                let mut changed = pin!(self.seen.changed.notified());
                changed.as_mut().enable();
                if is_so() {
                    return;
                }
                changed.await;
            }
        })
        .await
        .expect("the condition should come true");
    }
}

/// A client that sends and reads raw bytes.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    unread: Vec<u8>,
    /// The answer to HEAD has a length and no body.
    is_head: bool,
}

/// An answer of HTTP/1.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn closes(&self) -> bool {
        self.head.to_ascii_lowercase().contains("\r\nconnection: close")
    }
}

impl Client {
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.is_head |= bytes.as_ref().starts_with(b"HEAD ");
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads one answer that has a `Content-Length`, or none and no body.
    pub(crate) async fn answer(&mut self) -> Answer {
        timeout(DEADLINE, async {
            let end = loop {
                if let Some(at) = self.unread.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                    break at + 4;
                }
                assert!(self.more().await > 0, "closed before an answer: {:?}", String::from_utf8_lossy(&self.unread));
            };
            let head = String::from_utf8(self.unread.drain(..end).collect()).unwrap();
            let length = head
                .to_ascii_lowercase()
                .split("content-length: ")
                .nth(1)
                .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse().unwrap());
            let length = if self.is_head { 0 } else { length };
            while self.unread.len() < length {
                assert!(self.more().await > 0, "closed within a body");
            }
            let body = String::from_utf8(self.unread.drain(..length).collect()).unwrap();
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            Answer { status, head, body }
        })
        .await
        .expect("an answer within the deadline")
    }

    /// Waits until the server has closed; nothing else may come before. A reset is no good end:
    /// it can destroy an answer that is still on its way.
    pub(crate) async fn ended(&mut self) {
        let length = timeout(DEADLINE, self.stream.read_buf(&mut self.unread)).await.expect("a close").unwrap();
        assert_eq!((length, &self.unread[..]), (0, &b""[..]));
    }

    /// Waits until the server has closed, in whatever way, and throws away what comes before.
    pub(crate) async fn gone(&mut self) {
        timeout(DEADLINE, async { while self.more().await > 0 {} }).await.expect("a close");
    }

    async fn more(&mut self) -> usize {
        self.stream.read_buf(&mut self.unread).await.unwrap_or(0)
    }
}
