//! Redis as users run it: behind TLS, with users and rights, with replicas and sentinels, in a cluster; full,
//! demoted, loading, and answering nonsense. Every test starts servers of its own and ends them.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

#[path = "../it/promises.rs"]
#[allow(dead_code, reason = "shared with tests/it; these tests need a part of it")]
mod promises;
#[path = "../it/stage/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared with tests/it; these tests need a part of it")]
mod stage;

mod cluster;
mod eviction;
mod fake;
mod refusals;
mod replicas;
mod rights;
mod sentinel;
mod servers;
mod tls;
