//! A small HTTP client for our own commands and the demo's tour: one request, one connection, bounded.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Largest answer that is read.
const ANSWER_MAX: usize = 64 * 1024 * 1024;

/// An answer, read whole.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// A field's first value as text; empty where there is none.
    pub fn field(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

/// Sends a request to an absolute `http://` address and reads its answer.
///
/// # Errors
/// The address is not `http://host[:port]/…`, nobody answers there, or not within `timeout`.
pub async fn send(mut request: Request<Bytes>, timeout: Duration) -> anyhow::Result<Answer> {
    let uri = request.uri().clone();
    if uri.scheme_str() != Some("http") {
        bail!("{uri} is not an http:// address");
    }
    let authority = uri.authority().context("the address names no host")?.clone();
    let host = authority.host().trim_matches(['[', ']']).to_owned();
    let port = authority.port_u16().unwrap_or(80);
    request.headers_mut().insert(header::HOST, authority.as_str().parse().context("the address' host")?);
    *request.uri_mut() = uri.path_and_query().cloned().map_or_else(|| Uri::from_static("/"), Uri::from);
    let exchange = async {
        let stream = TcpStream::connect((host.as_str(), port))
            .await
            .with_context(|| format!("nobody answers at {authority}"))?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let answer = async {
            let (head, body) = sender.send_request(request.map(Full::new)).await?.into_parts();
            let body = Limited::new(body, ANSWER_MAX).collect().await.map_err(anyhow::Error::from_boxed)?.to_bytes();
            anyhow::Ok(Answer { status: head.status, headers: head.headers, body })
        };
        // Together in one task: when the answer is read, the connection goes.
        tokio::pin!(connection);
        tokio::pin!(answer);
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            ended = &mut connection => {
                ended?;
                answer.await
            }
        }
    };
    tokio::time::timeout(timeout, exchange).await.with_context(|| format!("no answer within {timeout:?}"))?
}
