//! endcap: a caching reverse-proxy sidecar for commerce backends. `src/README.md` is the map.

pub mod body;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod demo;
pub mod downstream;
pub mod feed;
pub mod fill;
pub mod interim;
pub mod invalidate;
pub mod jitter;
pub mod metrics;
pub mod node;
pub mod ops;
pub mod origin;
pub mod outage;
pub mod policy;
pub mod purges;
pub mod serve;
pub mod signals;
pub mod store;
mod sync;
pub mod tasks;
pub mod telemetry;
