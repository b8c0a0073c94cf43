//! The ways in which an origin fails, and whose fault each is.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;

use http::StatusCode;

/// What lies beneath an error, for the log. Shared, because all who waited for a fill get its error.
pub type Cause = Arc<dyn StdError + Send + Sync>;

/// Why there is no answer, or no whole one.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OriginError {
    /// Nobody listens at the origin's address.
    #[error("the origin refused the connection")]
    ConnectRefused(#[source] Cause),
    /// The origin's name has no address, or none could be reached.
    #[error("could not connect to the origin")]
    ConnectFailed(#[source] Cause),
    /// No address of the origin took the connection in time.
    #[error("connecting to the origin took too long")]
    ConnectTimeout,
    /// All connections are in use and as many requests wait as may; this one was not queued.
    #[error("too many requests wait for a connection to the origin")]
    QueueFull,
    /// All connections were in use for as long as a request may wait for one.
    #[error("waited too long for a connection to the origin")]
    QueueTimeout,
    /// The head of the answer was not complete in time.
    #[error("the origin's answer did not begin in time")]
    FirstByteTimeout,
    /// The answer's body stood still for too long.
    #[error("the origin's answer stood still for too long")]
    BetweenBytesTimeout,
    /// The fill was not whole in time.
    #[error("the origin's answer was not whole in time")]
    TotalTimeout,
    /// The connection broke: before any byte of an answer, or by a reset at any time.
    #[error("the origin broke off the connection")]
    Reset(#[source] Cause),
    /// The answer is not HTTP, or its end cannot be told for sure.
    #[error("the origin's answer is malformed or ambiguous")]
    Framing(#[source] Cause),
    /// The connection ended before the answer did.
    #[error("the origin's answer was cut off")]
    Truncated(#[source] Cause),
    /// The answer's head has more bytes than `head_bytes_max`, or more than 100 fields.
    #[error("the head of the origin's answer is too large")]
    HeadSize,
    /// A status that nobody asked for: 101 where no upgrade was wanted, or to another protocol.
    #[error("the origin changed the protocol unasked")]
    UpstreamStatus,
    /// The client's request body failed or ended early: the origin is not to blame.
    #[error("the client's request body failed")]
    ClientBody(#[source] Cause),
}

impl OriginError {
    /// All names, for tables of metrics.
    pub const REASONS: [&str; 14] = [
        "connect_refused",
        "connect_failed",
        "connect_timeout",
        "queue_full",
        "queue_timeout",
        "first_byte_timeout",
        "between_bytes_timeout",
        "total_timeout",
        "reset",
        "framing",
        "truncated",
        "head_size",
        "upstream_status",
        "client_body",
    ];

    /// The error's name in logs and metrics: one of fourteen.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::ConnectRefused(_) => "connect_refused",
            Self::ConnectFailed(_) => "connect_failed",
            Self::ConnectTimeout => "connect_timeout",
            Self::QueueFull => "queue_full",
            Self::QueueTimeout => "queue_timeout",
            Self::FirstByteTimeout => "first_byte_timeout",
            Self::BetweenBytesTimeout => "between_bytes_timeout",
            Self::TotalTimeout => "total_timeout",
            Self::Reset(_) => "reset",
            Self::Framing(_) => "framing",
            Self::Truncated(_) => "truncated",
            Self::HeadSize => "head_size",
            Self::UpstreamStatus => "upstream_status",
            Self::ClientBody(_) => "client_body",
        }
    }

    /// The status that the client is answered with, if nothing better can be served.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::ConnectRefused(_)
            | Self::ConnectFailed(_)
            | Self::Reset(_)
            | Self::Framing(_)
            | Self::Truncated(_)
            | Self::HeadSize
            | Self::UpstreamStatus => StatusCode::BAD_GATEWAY,
            Self::QueueFull | Self::QueueTimeout => StatusCode::SERVICE_UNAVAILABLE,
            Self::ConnectTimeout | Self::FirstByteTimeout | Self::BetweenBytesTimeout | Self::TotalTimeout => {
                StatusCode::GATEWAY_TIMEOUT
            }
            Self::ClientBody(_) => StatusCode::BAD_REQUEST,
        }
    }

    /// Whether the client is to blame: such an error says nothing about the origin's health.
    pub fn is_client_fault(&self) -> bool {
        matches!(self, Self::ClientBody(_))
    }

    /// Whether the request never left: our own limits refused it, and the origin did not see it.
    pub fn is_overload(&self) -> bool {
        matches!(self, Self::QueueFull | Self::QueueTimeout)
    }

    /// Names a failure to connect.
    pub(super) fn from_connect(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::ConnectRefused(Arc::new(error)),
            io::ErrorKind::TimedOut => Self::ConnectTimeout,
            _ => Self::ConnectFailed(Arc::new(error)),
        }
    }

    /// Names what hyper reports instead of an answer's head. `answered` says whether any byte of
    /// an answer had come: hyper itself does not tell silence from half a head.
    pub(super) fn from_head(error: hyper::Error, answered: bool) -> Self {
        if error.is_parse_too_large() {
            return Self::HeadSize;
        }
        if error.is_parse() {
            return Self::Framing(Arc::new(error));
        }
        if error.is_incomplete_message() && answered {
            return Self::Truncated(Arc::new(error));
        }
        // What is left: the end of the connection instead of an answer, an `io::Error` of a read
        // or a write, a connection that was closed under a request not yet written.
        Self::Reset(Arc::new(error))
    }

    /// Names what hyper reports instead of a frame of the body. Its decoders give an `io::Error`:
    /// `UnexpectedEof` where the length or the last chunk is missing, `InvalidInput` and
    /// `InvalidData` where a chunk or a trailer is malformed, else the socket's own.
    pub(super) fn from_body(error: hyper::Error) -> Self {
        let io = error.source().and_then(|source| source.downcast_ref::<io::Error>()).map(io::Error::kind);
        match io {
            Some(io::ErrorKind::UnexpectedEof) => Self::Truncated(Arc::new(error)),
            Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => Self::Framing(Arc::new(error)),
            _ if error.is_incomplete_message() => Self::Truncated(Arc::new(error)),
            _ => Self::Reset(Arc::new(error)),
        }
    }

    /// An answer that this module itself refuses.
    pub(super) fn malformed(why: &'static str) -> Self {
        Self::Framing(cause(why))
    }
}

/// A cause in words.
pub(super) fn cause(why: &'static str) -> Cause {
    Arc::from(Box::<dyn StdError + Send + Sync>::from(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_a_status_and_a_blame() {
        let cause: Cause = Arc::new(io::Error::other("x"));
        let check = |error: OriginError, reason: &str, status: u16| {
            assert_eq!((error.reason(), error.status().as_u16()), (reason, status));
            assert_eq!(error.is_client_fault(), status == 400, "{reason}");
            assert_eq!(error.is_overload(), status == 503, "{reason}");
        };
        check(OriginError::ConnectRefused(cause.clone()), "connect_refused", 502);
        check(OriginError::ConnectFailed(cause.clone()), "connect_failed", 502);
        check(OriginError::ConnectTimeout, "connect_timeout", 504);
        check(OriginError::QueueFull, "queue_full", 503);
        check(OriginError::QueueTimeout, "queue_timeout", 503);
        check(OriginError::FirstByteTimeout, "first_byte_timeout", 504);
        check(OriginError::BetweenBytesTimeout, "between_bytes_timeout", 504);
        check(OriginError::TotalTimeout, "total_timeout", 504);
        check(OriginError::Reset(cause.clone()), "reset", 502);
        check(OriginError::Framing(cause.clone()), "framing", 502);
        check(OriginError::Truncated(cause.clone()), "truncated", 502);
        check(OriginError::HeadSize, "head_size", 502);
        check(OriginError::UpstreamStatus, "upstream_status", 502);
        check(OriginError::ClientBody(cause), "client_body", 400);
    }

    #[test]
    fn a_failure_to_connect_is_named_by_its_kind() {
        let reason = |kind: io::ErrorKind| OriginError::from_connect(kind.into()).reason();
        assert_eq!(reason(io::ErrorKind::ConnectionRefused), "connect_refused");
        assert_eq!(reason(io::ErrorKind::TimedOut), "connect_timeout");
        assert_eq!(reason(io::ErrorKind::HostUnreachable), "connect_failed");
    }
}
