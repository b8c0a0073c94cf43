//! What an entry holds, measured by the process: alone in its binary, so that nothing else counts.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use endcap::client::{self, Answer};
use endcap::config::Config;
use endcap::node::Node;
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const TOKEN: &str = "a token of the tests";
const PATIENCE: Duration = Duration::from_secs(20);

/// An origin that answers what it was told last, byte by byte.
#[derive(Clone)]
struct Scripted {
    answer: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
    /// Answers wait while a test holds this.
    held: Arc<tokio::sync::Mutex<()>>,
}

impl Scripted {
    async fn start() -> (Self, u16) {
        let origin = Self { answer: Arc::default(), asked: Arc::default(), held: Arc::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = origin.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        (origin, port)
    }

    async fn serve(self, mut stream: TcpStream) {
        let mut bytes = Vec::new();
        loop {
            while !bytes.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read_buf(&mut bytes).await {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                }
            }
            if bytes.starts_with(b"POST") {
                // Its body never ends.
                let mut sink = [0; 1024];
                while stream.read(&mut sink).await.is_ok_and(|count| count > 0) {}
                return;
            }
            bytes.clear();
            let answer = self.answer.lock().unwrap().clone();
            self.asked.fetch_add(1, Ordering::SeqCst);
            drop(self.held.lock().await);
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn answers(&self, status: &str, fields: &str, body: &str) {
        let length = body.len();
        *self.answer.lock().unwrap() = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{fields}\r\n{body}"
        );
    }
}

struct Stage {
    origin: Scripted,
    node: Node,
}

impl Stage {
    async fn start(settings: &str, route: &str) -> Self {
        let (origin, port) = Scripted::start().await;
        let text = format!(
            "upstream = \"http://127.0.0.1:{port}\"\n\
             [listen]\naddress = \"127.0.0.1:0\"\n[ops]\naddress = \"127.0.0.1:0\"\ntoken = \"{TOKEN}\"\n\
             {settings}\n[route.things]\npaths = [\"/things\", \"/things/{{id}}\"]\n{route}\n"
        );
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let loaded = Config::load(Some(file.path()), std::iter::empty()).unwrap_or_else(|error| panic!("{error}"));
        let node = Node::start(&loaded.config).unwrap();
        node.ready().await;
        Self { origin, node }
    }

    async fn get(&self, path: &str) -> Answer {
        let request = Request::get(format!("http://{}{path}", self.node.address)).body(Bytes::new()).unwrap();
        client::send(request, PATIENCE).await.unwrap()
    }
}

fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A value of hyper's is a slice of the buffer that its connection reads into.
#[tokio::test]
async fn a_stored_head_does_not_hold_the_buffer_that_it_came_in() {
    const COUNT: usize = 4000;
    let stage = Stage::start("", "ttl = \"1h\"").await;
    stage.origin.answers("200 OK", "etag: \"abc\"\r\n", &format!("\"{}\"", "x".repeat(400_000)));
    stage.get("/things").await;
    stage.origin.answers("200 OK", "etag: \"abc\"\r\n", "{}");
    let before = resident_kib();
    for id in 0..COUNT {
        stage.get(&format!("/things/{id}")).await;
    }
    let each = (resident_kib() - before) * 1024 / COUNT;
    assert!(each < 3000, "{each} bytes for each entry with a body of 2");
}
