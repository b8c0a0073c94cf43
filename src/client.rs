//! A small HTTP client for our own commands and the demo's tour: one request, one connection, bounded.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
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
pub async fn send(request: Request<Bytes>, timeout: Duration) -> anyhow::Result<Answer> {
    let sent = async {
        let (addressed, stream) = connect(request).await?;
        if addressed.is_secure {
            bail!("{} is not an http:// address", addressed.host);
        }
        exchange(addressed.request, stream).await
    };
    tokio::time::timeout(timeout, sent).await.with_context(|| format!("no answer within {timeout:?}"))?
}

/// A request as it goes to its host.
#[derive(Debug)]
pub(crate) struct Addressed {
    /// With `Host` and a path.
    pub(crate) request: Request<Bytes>,
    /// Whom it is for.
    pub(crate) host: String,
    /// The address says `https`.
    pub(crate) is_secure: bool,
}

/// Connects to the host of a request's absolute address.
pub(crate) async fn connect(mut request: Request<Bytes>) -> anyhow::Result<(Addressed, TcpStream)> {
    let uri = request.uri().clone();
    let is_secure = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => bail!("{uri} is neither an http:// nor an https:// address"),
    };
    let authority = uri.authority().context("the address names no host")?.clone();
    let host = authority.host().trim_matches(['[', ']']).to_owned();
    let port = authority.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
    request.headers_mut().insert(header::HOST, authority.as_str().parse().context("the address' host")?);
    *request.uri_mut() = uri.path_and_query().cloned().map_or_else(|| Uri::from_static("/"), Uri::from);
    let stream =
        TcpStream::connect((host.as_str(), port)).await.with_context(|| format!("nobody answers at {authority}"))?;
    stream.set_nodelay(true)?;
    Ok((Addressed { request, host, is_secure }, stream))
}

/// Sends a request on a connection and reads its answer; then the connection goes.
pub(crate) async fn exchange<S>(request: Request<Bytes>, stream: S) -> anyhow::Result<Answer>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
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
            // Some servers just go when they have answered, without a word of TLS: the answer counts.
            let answer = answer.await;
            if answer.is_err() {
                ended?;
            }
            answer
        }
    }
}
