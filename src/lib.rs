//! endcap: a caching reverse-proxy sidecar for commerce backends. `src/README.md` is the map.

pub mod body;
pub mod clock;
pub mod policy;
pub mod tasks;
