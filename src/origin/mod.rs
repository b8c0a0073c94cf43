//! The origin: the one backend that this process stands before, and every way in which it may fail.
//!
//! [`Origin`] is a seam: [`HttpOrigin`] speaks HTTP/1.1 over its own pool of connections, the
//! simulation has an origin of its own. Whoever calls decides what is asked; this module decides
//! how long that may take, how many may ask at once, and whether the answer can be trusted to be
//! what the origin sent. What an answer *means* is not judged here.

use std::fmt;

use futures_util::future::BoxFuture;

use crate::body::Body;

mod body;
mod error;
mod exchange;
mod framing;
mod http1;
mod pool;
mod settings;
mod upgrade;
mod wire;

#[cfg(test)]
mod tests;

pub use body::OriginBody;
pub use error::{Cause, OriginError};
pub use framing::Framing;
pub use http1::HttpOrigin;
pub use pool::PoolStats;
pub use settings::OriginSettings;
pub use upgrade::splice;

/// What a request is for: decides its time limits, and whether it may become a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// An answer that others may wait for: it must begin, move and end in time.
    Fill,
    /// Handed through for one client: it may be slow, and may go on for as long as it moves.
    Pass,
    /// As [`Purpose::Pass`], and a 101 that fits the request's `Upgrade` makes it a tunnel.
    Upgrade,
}

/// Answers requests, in the place of the client.
pub trait Origin: Send + Sync + fmt::Debug {
    /// Sends a request and waits for the head of its answer.
    ///
    /// The request goes out as it was prepared: its caller has stripped what is meant for one hop
    /// (`policy::hop_by_hop`) and has taken the client's upgrade handle, for extensions are
    /// dropped, but for an [`Interim`](crate::interim::Interim): that is told what comes before the answer. Dropping the future, or the answer's body before its end, closes the connection.
    fn send(
        &self,
        request: http::Request<Body>,
        purpose: Purpose,
    ) -> BoxFuture<'_, Result<http::Response<OriginBody>, OriginError>>;
}
