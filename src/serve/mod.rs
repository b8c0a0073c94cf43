//! The public side: accept, admit, hand over, and let go again.
//!
//! - `accept`: the listener, the cap on connections, the end of the process.
//! - `seats`: who has a place, and who makes room at the cap.
//! - `connection`: one connection, from its first byte to whatever ends it.
//! - `service`: one request, from hyper to admission to the handler.
//! - `io`: the socket; every byte of HTTP/1 passes the framing here before hyper sees it.
//! - `state`: what is known of a connection, and until when it may go on like that.
//! - `body`: request and answer bodies; `pace`: how slowly the first may come.

pub mod accept;
pub mod body;
mod connection;
pub mod forward;
pub mod handle;
mod io;
pub mod log;
mod pace;
pub mod respond;
mod seats;
mod service;
mod state;
