//! endcap: a caching reverse-proxy sidecar for commerce backends. `src/README.md` is the map.

pub mod body;
pub mod clock;
pub mod fill;
pub mod policy;
pub mod purges;
pub mod store;
pub mod tasks;
