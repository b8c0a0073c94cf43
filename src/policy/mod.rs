//! Decisions, and nothing else: no I/O, no async, no clock, no globals.
//!
//! Everything that can be *wrong* (may this be cached, is it fresh, which tags does it carry, was
//! it purged) is a synchronous function of its arguments in here, `now` included.

pub mod route;
