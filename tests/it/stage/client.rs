//! A client that writes and reads HTTP/1.1 itself, so that a test sees the bytes and not a library's opinion.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Version};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::within;

/// A kept connection.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) protocol: Version,
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    /// A field's values, joined; empty where there is none.
    pub(crate) fn field(&self, name: &str) -> String {
        let values: Vec<&str> = self.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect();
        values.join(", ")
    }

    /// What became of the request: the `detail` of our member of `Cache-Status`.
    pub(crate) fn detail(&self) -> String {
        let said = self.field("cache-status");
        said.rsplit_once("detail=").map_or(String::new(), |(_, detail)| detail.to_owned())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    /// The `version` in the origin's ordinary answer.
    pub(crate) fn version(&self) -> u64 {
        self.json()["version"].as_u64().unwrap_or_else(|| panic!("no version in {self:?}"))
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = within(TcpStream::connect(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    pub(crate) async fn get(&mut self, target: &str) -> Reply {
        self.ask("GET", target, &[], b"").await
    }

    /// Sends a request and reads its answer, which must be whole.
    pub(crate) async fn ask(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        self.send(method, target, headers, body).await;
        self.reply(method).await.unwrap()
    }

    /// Sends a request.
    pub(crate) async fn send(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) {
        let mut head = format!("{method} {target} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.push_str("host: shop.example\r\n");
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        self.write(format!("{head}\r\n").as_bytes()).await;
        self.write(body).await;
    }

    /// Sends bytes as they are.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        within(self.stream.get_mut().write_all(bytes)).await.unwrap();
    }

    /// Sends bytes, if they are still taken.
    pub(crate) async fn try_write(&mut self, bytes: &[u8]) -> Result<()> {
        within(self.stream.get_mut().write_all(bytes)).await
    }

    /// Reads an answer to its end; an error when it does not look whole.
    pub(crate) async fn reply(&mut self, method: &str) -> Result<Reply> {
        let head = self.head().await?;
        self.body_of(method, head).await
    }

    /// Reads an interim answer (1xx), or an answer to its end.
    pub(crate) async fn reply_or_interim(&mut self, method: &str) -> Result<Reply> {
        let head = self.head().await?;
        if head.status < 200 { Ok(head) } else { self.body_of(method, head).await }
    }

    async fn body_of(&mut self, method: &str, mut reply: Reply) -> Result<Reply> {
        let mut body = Vec::new();
        if method == "HEAD" || matches!(reply.status, 204 | 304) {
            return Ok(reply);
        }
        if reply.field("transfer-encoding") == "chunked" {
            while let Some(chunk) = self.chunk().await? {
                body.extend_from_slice(&chunk);
            }
        } else if let Ok(length) = reply.field("content-length").parse::<usize>() {
            body.resize(length, 0);
            within(self.stream.read_exact(&mut body)).await?;
        } else {
            within(self.stream.read_to_end(&mut body)).await?;
        }
        reply.body = body.into();
        Ok(reply)
    }

    /// Reads an answer's head.
    pub(crate) async fn head(&mut self) -> Result<Reply> {
        let status_line = self.line().await?;
        let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let protocol = if status_line.starts_with("HTTP/1.0 ") { Version::HTTP_10 } else { Version::HTTP_11 };
        let status = status.ok_or_else(|| Error::new(ErrorKind::InvalidData, status_line.clone()))?;
        let mut headers = HeaderMap::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok(Reply { protocol, status, headers, body: Bytes::new() });
            }
            let (name, value) = line.split_once(':').unwrap();
            headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value.trim()).unwrap());
        }
    }

    /// Reads a chunk of a chunked body; `None` for the last.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>> {
        let size = usize::from_str_radix(&self.line().await?, 16)
            .map_err(|error| Error::new(ErrorKind::InvalidData, error))?;
        let mut chunk = vec![0; size + 2];
        within(self.stream.read_exact(&mut chunk)).await?;
        chunk.truncate(size);
        Ok((size > 0).then(|| chunk.into()))
    }

    async fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if within(self.stream.read_line(&mut line)).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }
}

/// A GET by HTTP/2 with prior knowledge.
pub(crate) async fn get_h2(address: SocketAddr, target: &str) -> Reply {
    let exchange = async {
        let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        let request = Request::get(format!("http://shop.example{target}")).body(Empty::<Bytes>::new()).unwrap();
        let reply = async {
            let (head, body) = sender.send_request(request).await.unwrap().into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            Reply { protocol: head.version, status: head.status.as_u16(), headers: head.headers, body }
        };
        tokio::select! {
            biased;
            reply = reply => reply,
            ended = connection => panic!("the connection ended: {ended:?}"),
        }
    };
    within(exchange).await
}
