//! The shop over real sockets, held to what was captured from Medusa 2.21.2 (`tests/fixtures/captures`).

mod answers;
mod changes;
mod shapes;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::{PUBLISHABLE_KEY, Shop, ShopHandle, ShopSettings};
use crate::tasks::Tasks;

/// A shop that answers at once, and the tasks that keep it open.
struct Stage {
    shop: ShopHandle,
    tasks: Tasks,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

fn settings(products: usize) -> ShopSettings {
    ShopSettings { products, latency: Duration::ZERO..=Duration::ZERO, ..ShopSettings::default() }
}

fn open(products: usize) -> Stage {
    let tasks = Tasks::new();
    let shop = Shop::start(settings(products), &tasks).unwrap();
    Stage { shop, tasks }
}

impl Stage {
    /// A read with the key.
    async fn get(&self, target: &str) -> Answer {
        self.send(Method::GET, target, &[("x-publishable-api-key", PUBLISHABLE_KEY)], "").await
    }

    /// A post with the key and the admin's token.
    async fn post(&self, target: &str, body: &str) -> Answer {
        let headers = [("x-publishable-api-key", PUBLISHABLE_KEY), ("authorization", "Bearer demo-admin")];
        self.send(Method::POST, target, &headers, body).await
    }

    async fn send(&self, method: Method, target: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        send(self.shop.addr, method, target, headers, body).await
    }

    /// The id of the region with a short name.
    fn region(&self, key: &str) -> String {
        self.shop.catalogue().regions.iter().find(|region| region.key == key).unwrap().id.clone()
    }
}

/// One request on a connection of its own.
async fn send(addr: SocketAddr, method: Method, target: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let stream = TcpStream::connect(addr).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let mut request = Request::builder().method(method).uri(target).header("host", "shop.test");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
    let exchange = async move {
        let (head, body) = sender.send_request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: head.status, headers: head.headers, body }
    };
    // The sender is dropped with the exchange, which ends the connection.
    let (answer, ended) = tokio::join!(exchange, connection);
    ended.unwrap();
    answer
}

/// A captured body.
fn captured(name: &str) -> String {
    let path = format!("{}/tests/fixtures/captures/http/{name}.body", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}
