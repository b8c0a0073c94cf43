//! Whole nodes on real sockets: one binary, so that it is linked once.
//!
//! Every test sets a [`stage::Stage`]: a scripted backend, one or more nodes in this process, a clock
//! that moves by hand, and where it matters a real `redis-server` of its own.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

mod stage;

mod blind;
mod by_the_book;
mod by_the_table;
mod canary;
mod contract;
mod cors;
mod downstream;
mod encodings;
mod etags;
mod events;
mod failures;
mod freshness;
mod interim;
mod journal;
mod leases;
mod methods;
mod nodes;
mod operations;
mod privacy;
mod promises;
mod purges;
mod queries;
mod races;
mod radius;
mod reading;
mod redis_trouble;
mod scenarios;
mod streaming;
mod webhooks;
