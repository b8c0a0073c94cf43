//! The public listener over real sockets: what is refused, what is timed out, how it ends.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by a panic")]

mod bodies;
mod drain;
mod heads;
mod http2;
mod stage;
mod timeouts;
