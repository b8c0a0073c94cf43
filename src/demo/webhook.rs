//! The shop's side of a webhook: signs an event as Standard Webhooks say, posts it, and tries again when it may help.

use std::fmt;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::uri::Authority;
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::clock::{Clock, Timestamp};
use crate::policy::webhook::WebhookSecret;

/// How long to wait for a connection, and for the answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long to wait before each further try; their number bounds the tries.
const PAUSES: [Duration; 3] = [Duration::from_millis(100), Duration::from_millis(200), Duration::from_millis(400)];

/// Where events are posted, and the secret that signs them.
#[derive(Clone)]
pub struct WebhookTarget {
    authority: Authority,
    path: String,
    secret: WebhookSecret,
}

/// Why a webhook target cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebhookTargetError {
    /// The address does not parse, or is not `http://host…`.
    #[error("a webhook address is http://host[:port]/path, not \"{0}\"")]
    Address(String),
    /// The secret is not `whsec_` and base64. It is not repeated here, since errors are logged.
    #[error("a webhook secret is whsec_ and the key in base64")]
    Secret,
}

impl WebhookTargetError {
    /// The error in one word.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Address(_) => "address",
            Self::Secret => "secret",
        }
    }
}

impl WebhookTarget {
    /// A target at an `http://` address, with a secret of the form `whsec_<base64>`.
    pub fn new(url: &str, secret: &str) -> Result<Self, WebhookTargetError> {
        let wrong = || WebhookTargetError::Address(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let authority = uri.authority().filter(|_| uri.scheme_str() == Some("http")).cloned().ok_or_else(wrong)?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let secret = WebhookSecret::parse(secret).ok_or(WebhookTargetError::Secret)?;
        Ok(Self { authority, path, secret })
    }
}

impl fmt::Debug for WebhookTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the key.
        write!(f, "WebhookTarget(http://{}{})", self.authority, self.path)
    }
}

/// How posting an event ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delivery {
    /// The last answer's status, or why there was none.
    pub(super) outcome: Result<StatusCode, PostError>,
    /// How often it was tried.
    pub(super) tries: usize,
    /// From the first try to the end of the last.
    pub(super) elapsed: Duration,
}

/// Why there was no answer to a post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PostError {
    Connect,
    Timeout,
    Broken,
}

impl PostError {
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Connect => "the target cannot be reached",
            Self::Timeout => "the target did not answer in time",
            Self::Broken => "the connection broke before the answer",
        }
    }
}

/// Posts an event: once, and again after each pause while that may help. The id stays, so that the receiver knows a
/// repetition; the time, and so the signature, is that of each try.
pub(super) async fn deliver(target: &WebhookTarget, id: &str, body: Bytes, clock: &dyn Clock) -> Delivery {
    let began = Instant::now();
    let mut pauses = PAUSES.iter();
    let mut tries = 0;
    loop {
        tries += 1;
        let outcome = post(target, id, body.clone(), clock.wall()).await;
        match pauses.next() {
            Some(pause) if may_help(outcome) => tokio::time::sleep(*pause).await,
            _ => return Delivery { outcome, tries, elapsed: began.elapsed() },
        }
    }
}

/// A refusal stays one however often it is asked for; trouble may pass.
fn may_help(outcome: Result<StatusCode, PostError>) -> bool {
    match outcome {
        Ok(status) => {
            status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
        }
        Err(PostError::Connect | PostError::Timeout | PostError::Broken) => true,
    }
}

async fn post(target: &WebhookTarget, id: &str, body: Bytes, now: Timestamp) -> Result<StatusCode, PostError> {
    let port = target.authority.port_u16().unwrap_or(80);
    let host = target.authority.host().trim_matches(['[', ']']);
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect((host, port))).await;
    let stream = connected.map_err(|_| PostError::Timeout)?.map_err(|_| PostError::Connect)?;
    let request = request(target, id, body, now).ok_or(PostError::Broken)?;
    tokio::time::timeout(ANSWER_TIMEOUT, exchange(stream, request)).await.map_err(|_| PostError::Timeout)?
}

fn request(target: &WebhookTarget, id: &str, body: Bytes, now: Timestamp) -> Option<Request<Full<Bytes>>> {
    let signature = target.secret.sign(id, now.as_secs(), &body);
    let request = Request::builder()
        .method(Method::POST)
        .uri(target.path.as_str())
        .header(HOST, target.authority.as_str())
        .header(USER_AGENT, "endcap sample shop")
        .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
        .header("webhook-id", id)
        .header("webhook-timestamp", now.as_secs())
        .header("webhook-signature", signature);
    request.body(Full::new(body)).ok()
}

/// One request on a connection of its own; only the answer's head is of interest.
async fn exchange(stream: TcpStream, request: Request<Full<Bytes>>) -> Result<StatusCode, PostError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|_| PostError::Broken)?;
    let mut connection = pin!(connection);
    let mut answer = pin!(sender.send_request(request));
    // The connection is driven here rather than by a task: it has no use once the answer is there. When it ends
    // first, the answer may be waiting already, or is known to fail.
    let answer = tokio::select! {
        biased;
        answer = &mut answer => answer,
        _ = &mut connection => answer.await,
    };
    answer.map(|answer| answer.status()).map_err(|_| PostError::Broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_checked_when_it_is_made() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let check = |url: &str, secret: &str, reason: Option<&str>| {
            assert_eq!(WebhookTarget::new(url, secret).err().map(|error| error.reason()), reason, "{url}");
        };
        check("http://127.0.0.1:9000/hooks/shop", secret, None);
        check("http://[::1]:9000", secret, None);
        check("https://127.0.0.1/hooks", secret, Some("address"));
        check("/hooks", secret, Some("address"));
        check("127.0.0.1:9000", secret, Some("address"));
        check("http://127.0.0.1/hooks", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", Some("secret"));
        check("http://127.0.0.1/hooks", "whsec_", Some("secret"));
        check("http://127.0.0.1/hooks", "whsec_%", Some("secret"));
    }

    #[test]
    fn the_secret_is_not_in_the_debug_form() {
        let target = WebhookTarget::new("http://127.0.0.1:9000/hooks?a=b", "whsec_c2VjcmV0").unwrap();
        assert_eq!(format!("{target:?}"), "WebhookTarget(http://127.0.0.1:9000/hooks?a=b)");
    }
}
