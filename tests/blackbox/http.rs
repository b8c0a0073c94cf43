//! A client with one kept connection, which is made anew when it breaks. Nodes die here.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use endcap::tasks::Tasks;

/// A node that lives answers sooner, whatever fails behind it.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// What became of the request: the outcome in the `detail` of our member of `Cache-Status`, and why.
    pub(crate) fn detail(&self) -> &str {
        let said = self.headers.get("cache-status").and_then(|said| said.to_str().ok()).unwrap_or_default();
        said.rsplit_once("detail=").map_or("none", |(_, detail)| detail)
    }

    /// Whether it is stale because the origin failed.
    pub(crate) fn is_on_error(&self) -> bool {
        self.detail().split('.').next() == Some("stale_error")
    }
}

pub(crate) struct Client {
    tasks: Tasks,
    open: Option<Open>,
}

struct Open {
    address: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
    connection: JoinHandle<()>,
}

impl Client {
    pub(crate) fn new(tasks: &Tasks) -> Self {
        Self { tasks: tasks.clone(), open: None }
    }

    pub(crate) async fn get(&mut self, address: SocketAddr, target: &str) -> anyhow::Result<Answer> {
        self.send(address, Request::get(target).body(Bytes::new())?).await
    }

    pub(crate) async fn send(&mut self, address: SocketAddr, request: Request<Bytes>) -> anyhow::Result<Answer> {
        let answer = tokio::time::timeout(PATIENCE, self.exchange(address, request)).await;
        let answer = answer.context("no answer").and_then(|answer| answer);
        if answer.is_err() {
            self.close();
        }
        answer
    }

    async fn exchange(&mut self, address: SocketAddr, request: Request<Bytes>) -> anyhow::Result<Answer> {
        let (head, body) = self.open(address, request).await?.into_parts();
        Ok(Answer { status: head.status, headers: head.headers, body: body.collect().await?.to_bytes() })
    }

    /// An answer whose body comes for as long as there is something to say.
    pub(crate) async fn open(
        &mut self,
        address: SocketAddr,
        mut request: Request<Bytes>,
    ) -> anyhow::Result<Response<Incoming>> {
        if self.open.as_ref().is_none_or(|open| open.address != address || open.sender.is_closed()) {
            self.close();
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let (sender, connection) = handshake(TokioIo::new(stream)).await?;
            let connection = self.tasks.spawn(async move {
                // How it ended, the one who waits for an answer is told.
                drop(connection.await);
            });
            self.open = Some(Open { address, sender, connection });
        }
        let open = self.open.as_mut().context("it was opened")?;
        request.headers_mut().insert(http::header::HOST, "shop.example".parse()?);
        open.sender.ready().await?;
        Ok(open.sender.send_request(request.map(Full::new)).await?)
    }

    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            open.connection.abort();
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.close();
    }
}
