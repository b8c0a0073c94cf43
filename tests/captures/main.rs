//! What a real Medusa 2.21.2 answered, replayed: keys, tags and purges proven on its own bodies.
//!
//! `tests/fixtures/captures` holds the recorded exchanges. `reading.rs` says, on its own, which requests that backend
//! reads alike; `replay.rs` answers by it and counts; a node with the three lines of configuration stands in front.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by a panic")]

mod browsers;
mod collapse;
mod entities;
mod events;
mod fixture;
mod keys;
mod logins;
mod passes;
mod reading;
mod replay;
mod spellings;
mod stage;
mod stock;
mod storefront;
mod unseen;
