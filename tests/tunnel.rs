//! Upgrade passes on the routes that say so, and on no other.

use std::time::Duration;

use endcap::config::Config;
use endcap::node::Node;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const WISH: &str = "Host: shop\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a\r\n\r\n";
const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// Reads up to the end of a head.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within(stream.read_u8()).await.expect("a head comes whole"));
    }
    String::from_utf8(head).expect("ASCII").to_ascii_lowercase()
}

async fn within<F: Future>(work: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), work).await.expect("in time")
}

async fn node(backend: &TcpListener) -> Node {
    let upstream = backend.local_addr().expect("bound");
    let text = format!(
        "upstream = \"http://{upstream}\"\n[listen]\naddress = \"127.0.0.1:0\"\n[ops]\naddress = \"127.0.0.1:0\"\n\
         [route.live]\npaths = [\"/live\"]\npolicy = \"pass\"\nupgrade = true\n\
         [route.list]\npaths = [\"/list\"]\nttl = \"1h\"\n"
    );
    let loaded = Config::from_toml("test.toml", &text, std::iter::empty()).expect("a right configuration");
    Node::start(&loaded.config).expect("a node")
}

#[tokio::test]
async fn a_tunnel_carries_bytes_that_are_no_http_both_ways() {
    let backend = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let node = node(&backend).await;
    let mut client = TcpStream::connect(node.address).await.expect("the node listens");
    client.write_all(format!("GET /live HTTP/1.1\r\n{WISH}").as_bytes()).await.expect("sent");
    let (mut origin, _) = within(backend.accept()).await.expect("the origin is asked");
    let asked = head(&mut origin).await;
    assert!(asked.contains("upgrade: websocket") && asked.contains("sec-websocket-key: a"), "{asked}");
    origin.write_all(SWITCH).await.expect("sent");
    let answer = head(&mut client).await;
    assert!(answer.starts_with("http/1.1 101 ") && answer.contains("upgrade: websocket"), "{answer}");

    // Bytes that the framing of HTTP would refuse at once.
    let strange = b"\x00\x01\r\n\r\nGET\x7f\n";
    client.write_all(strange).await.expect("sent");
    let mut got = vec![0; strange.len()];
    within(origin.read_exact(&mut got)).await.expect("carried");
    assert_eq!(got, strange);
    origin.write_all(b"\xff\x00pong").await.expect("sent");
    let mut got = [0; 6];
    within(client.read_exact(&mut got)).await.expect("carried");
    assert_eq!(&got, b"\xff\x00pong");

    drop(client);
    assert_eq!(within(origin.read(&mut [0; 1])).await.expect("closed in order"), 0, "the end is carried too");
    within(node.stop()).await;
}

#[tokio::test]
async fn a_request_in_a_tunnel_is_for_the_origin_whatever_is_in_the_cache() {
    const LIST: &[u8] =
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
    const PLAIN: &str = "GET /list HTTP/1.1\r\nHost: shop\r\n\r\n";
    let backend = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let node = node(&backend).await;
    let mut client = TcpStream::connect(node.address).await.expect("the node listens");
    client.write_all(PLAIN.as_bytes()).await.expect("sent");
    let (mut origin, _) = within(backend.accept()).await.expect("the origin is asked");
    head(&mut origin).await;
    origin.write_all(LIST).await.expect("sent");
    assert!(head(&mut client).await.contains("detail=miss"));
    within(client.read_exact(&mut [0; 2])).await.expect("a body");
    client.write_all(PLAIN.as_bytes()).await.expect("sent");
    assert!(head(&mut client).await.contains("detail=hit"));
    within(client.read_exact(&mut [0; 2])).await.expect("a body");

    client.write_all(format!("GET /live HTTP/1.1\r\n{WISH}").as_bytes()).await.expect("sent");
    let (mut origin, _) = within(backend.accept()).await.expect("the origin is asked");
    head(&mut origin).await;
    origin.write_all(SWITCH).await.expect("sent");
    assert!(head(&mut client).await.starts_with("http/1.1 101 "));
    client.write_all(PLAIN.as_bytes()).await.expect("sent");
    assert_eq!(head(&mut origin).await, PLAIN.to_ascii_lowercase());
    within(node.stop()).await;
}

#[tokio::test]
async fn elsewhere_the_wish_is_dropped_and_a_switch_unasked_is_an_error() {
    let backend = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let node = node(&backend).await;
    let mut client = TcpStream::connect(node.address).await.expect("the node listens");
    client.write_all(format!("GET /other HTTP/1.1\r\n{WISH}").as_bytes()).await.expect("sent");
    let (mut origin, _) = within(backend.accept()).await.expect("the origin is asked");
    let asked = head(&mut origin).await;
    assert!(!asked.contains("upgrade"), "{asked}");
    origin.write_all(SWITCH).await.expect("sent");
    let answer = head(&mut client).await;
    assert!(answer.starts_with("http/1.1 502 "), "{answer}");
    within(node.stop()).await;
}
