//! endcap: a caching reverse-proxy sidecar for commerce backends. `src/README.md` is the map.

pub mod policy;
