//! Decisions, and nothing else: no I/O, no async, no clock, no globals (but a memo of hashes, in `tags`).
//!
//! Everything that can be *wrong* (may this be cached, is it fresh, which tags does it carry, was
//! it purged) is a synchronous function of its arguments in here, `now` included.

pub mod admission;
pub mod breaker;
pub mod cache_control;
pub mod canary;
pub mod classify;
pub mod conditional;
pub mod cors;
pub mod date;
pub mod downstream;
pub mod encoding;
pub mod entry;
pub mod etag;
pub mod exchange;
pub mod fields;
pub mod forms;
pub mod framing;
pub mod freshness;
pub mod hop_by_hop;
pub mod invalidation;
pub mod key;
pub mod lifetime;
pub mod notice;
pub mod once;
pub mod outcome;
pub mod plain;
pub mod position;
pub mod purge;
pub mod query;
pub mod refusal;
pub mod route;
pub mod storable;
pub mod surrogate;
pub mod tags;
pub mod ticket;
pub mod time;
pub mod variant;
pub mod webhook;

#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod laws;
