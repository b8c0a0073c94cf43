//! What a review found, each with the way to see it: a node, a scripted origin, real sockets.

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

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
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

    async fn purge(&self, tag: &str) {
        let request = Request::post(format!("http://{}/purge", self.node.ops_address))
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {TOKEN}"))
            .body(Bytes::from(format!("{{\"tags\":[\"{tag}\"]}}")))
            .unwrap();
        assert_eq!(client::send(request, PATIENCE).await.unwrap().status, 200);
    }
}

fn said(answer: &Answer) -> String {
    answer.field("cache-status").to_owned()
}

/// Gateways and frameworks mark their error pages `no-store`, and load balancers set a cookie on them.
#[tokio::test]
async fn an_error_page_that_may_not_be_stored_leaves_stale_if_error_alone() {
    for fields in ["cache-control: private, no-store\r\n", "set-cookie: lb=1\r\n"] {
        let stage = Stage::start("", "ttl = \"1h\"\nsie = \"1h\"").await;
        stage.origin.answers("200 OK", "", "{\"v\":1}");
        assert_eq!(stage.get("/things").await.body, "{\"v\":1}");
        stage.origin.answers("503 Service Unavailable", fields, "{}");
        stage.purge("route:things").await;
        let asked = stage.origin.asked();
        for _ in 0..3 {
            let answer = stage.get("/things").await;
            assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"{\"v\":1}"[..]), "{}", said(&answer));
        }
        assert_eq!(stage.origin.asked(), asked + 1, "the failure is shared for error_ttl");
    }
}

#[tokio::test]
async fn after_a_purge_the_origin_is_asked_even_if_it_failed_a_moment_ago() {
    let stage = Stage::start("[cache]\nerror_ttl = \"30s\"", "ttl = \"1h\"\nsie = \"1h\"").await;
    stage.origin.answers("200 OK", "", "{\"v\":1}");
    stage.get("/things").await;
    stage.purge("route:things").await;
    stage.origin.answers("500 Internal Server Error", "", "{}");
    assert!(said(&stage.get("/things").await).contains("stale_error"));
    stage.origin.answers("200 OK", "", "{\"v\":2}");
    stage.purge("route:things").await;
    let answer = stage.get("/things").await;
    assert_eq!(answer.body, "{\"v\":2}", "{}", said(&answer));
}
#[tokio::test]
async fn the_routes_cache_control_is_for_what_is_stored() {
    let stage = Stage::start("", "cache_control = \"public, s-maxage=600\"").await;
    for status in ["500 Internal Server Error", "429 Too Many Requests", "400 Bad Request", "403 Forbidden"] {
        stage.origin.answers(status, "", "{}");
        let answer = stage.get(&format!("/things/{}", status.replace(' ', "-"))).await;
        assert!(!answer.field("cache-control").contains("s-maxage"), "{status}: {}", answer.field("cache-control"));
    }
    stage.origin.answers("200 OK", "", "{}");
    assert_eq!(stage.get("/things").await.field("cache-control"), "public, s-maxage=600");
}

#[tokio::test]
async fn a_304_that_says_private_is_not_stored() {
    let stage = Stage::start("", "ttl = \"1h\"").await;
    stage.origin.answers("200 OK", "etag: \"a\"\r\n", "{}");
    stage.get("/things").await;
    stage.purge("route:things").await;
    *stage.origin.answer.lock().unwrap() =
        "HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\ncache-control: private\r\n\r\n".to_owned();
    drop(stage.get("/things").await);
    stage.origin.answers("200 OK", "etag: \"b\"\r\n", "{\"v\":2}");
    let answer = stage.get("/things").await;
    assert_eq!(answer.body, "{\"v\":2}", "{}", said(&answer));
}
/// Uploads that drip hold their connections to the origin for as long as they like.
#[tokio::test]
async fn one_slow_client_does_not_take_the_origin_from_the_fills() {
    let settings = "[origin]\nconnections_max = 4\nqueue_timeout = \"500ms\"";
    let stage = Stage::start(settings, "").await;
    stage.origin.answers("200 OK", "", "{}");
    let mut slow = Vec::new();
    for _ in 0..8 {
        let mut stream = TcpStream::connect(stage.node.address).await.unwrap();
        stream.write_all(b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\nx").await.unwrap();
        slow.push(stream);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let answer = stage.get("/things").await;
    assert_eq!(answer.status, 200, "{}", said(&answer));
}

#[tokio::test]
async fn an_answer_that_a_purge_overtook_is_fresh_for_nobody_downstream() {
    let stage = Stage::start("", "cache_control = \"public, s-maxage=600\"").await;
    stage.origin.answers("200 OK", "cdn-cache-control: max-age=600\r\n", "{}");
    let held = stage.origin.held.lock().await;
    let (answer, ()) = tokio::join!(stage.get("/things"), async {
        while stage.origin.asked() == 0 {
            tokio::task::yield_now().await;
        }
        stage.purge("route:things").await;
        drop(held);
    });
    assert_eq!(answer.field("cache-control"), "max-age=0, must-revalidate", "{}", said(&answer));
    assert_eq!(answer.field("cdn-cache-control"), "");
}

/// A dead origin that hangs: who asks for what may be served stale need not wait with the one who tries.
#[tokio::test]
async fn while_one_tries_a_hanging_origin_again_the_others_are_served() {
    let stage = Stage::start("[cache]\nerror_ttl = \"1ms\"", "ttl = \"1h\"\nsie = \"1h\"").await;
    stage.origin.answers("200 OK", "", "{\"v\":1}");
    stage.get("/things").await;
    stage.purge("route:things").await;
    stage.origin.answers("500 Internal Server Error", "", "{}");
    stage.get("/things").await;
    let held = stage.origin.held.lock().await;
    let asked = stage.origin.asked();
    tokio::time::sleep(Duration::from_millis(10)).await;
    let (_, ()) = tokio::join!(stage.get("/things"), async {
        while stage.origin.asked() == asked {
            tokio::task::yield_now().await;
        }
        let served = tokio::time::timeout(Duration::from_secs(2), stage.get("/things")).await;
        drop(held);
        assert!(said(&served.expect("waits for the origin")).contains("stale_error"));
    });
}
