//! Configuration: what the rest of the program sees, defaults filled in and every rule checked.
//!
//! `raw.rs` mirrors the file, `load.rs` lays the layers over one another (defaults, preset, file,
//! environment), `resolve.rs`, `hooks.rs` and `routes.rs` check them and build what is here. `proxy.toml` at the
//! root documents every key; a test holds it equal to the `Default`s below.

mod check;
mod diagnostic;
mod document;
mod downstream;
mod endpoint;
mod environment;
mod hooks;
mod load;
mod preset;
mod raw;
mod redis;
mod render;
mod resolve;
mod routes;
mod secret;
mod shape;
#[cfg(test)]
mod tests;
mod text;
mod units;
mod warnings;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use ipnet::IpNet;

pub use self::diagnostic::{FilePlace, Place, Problem, Problems};
pub use self::downstream::DownstreamKind;
pub use self::endpoint::Upstream;
pub use self::load::Loaded;
pub use self::redis::{Redis, RedisServer, RedisTls};
pub use self::secret::Secret;
use crate::policy::downstream::Plan;
use crate::policy::encoding::Coding;
use crate::policy::route::{Patterns, Routes};
use crate::policy::ticket;
use crate::policy::webhook::{self, EventRule};

/// Everything a node is told before it starts. Fields are named as in `proxy.toml`.
#[derive(Clone, Debug)]
pub struct Config {
    /// The backend.
    pub upstream: Upstream,
    /// The preset under the user's own keys.
    pub preset: Option<String>,
    /// The public listener.
    pub listen: Listen,
    /// The listener for operations.
    pub ops: Ops,
    /// What admin clients are told.
    pub feed: Feed,
    /// How the backend is spoken to.
    pub origin: Origin,
    /// Rules of the cache as a whole.
    pub cache: Cache,
    /// The tier in memory.
    pub memory: Memory,
    /// What is sent encoded.
    pub compression: Compression,
    /// The shared tier and log; `None` runs on memory alone.
    pub redis: Option<Redis>,
    /// The purge log.
    pub purge: Purge,
    /// What is logged.
    pub log: Log,
    /// Who may read answers in a browser.
    pub cors: Cors,
    /// Sources of webhooks by name; each has at least one secret.
    pub hooks: BTreeMap<String, Hook>,
    /// What events purge, by name; a last `*` ends a prefix. Looked up by [`Config::event`].
    pub events: BTreeMap<String, EventRule>,
    /// Who is told of purges, by name.
    pub downstream: BTreeMap<String, Downstream>,
    /// Which requests may be answered from the cache, and how.
    pub routes: Routes,
}

impl Config {
    /// The rule for an event: the one with just this name, else the one with the longest prefix of it.
    pub fn event(&self, name: &str) -> Option<&EventRule> {
        webhook::find_rule(&self.events, name)
    }
}

/// The public listener.
#[derive(Clone, Debug)]
pub struct Listen {
    /// Where shoppers, or the CDN, connect.
    pub address: SocketAddr,
    /// HTTP/2 with prior knowledge is answered too.
    pub h2c: bool,
    /// Host names that are served, in lower case; empty serves any.
    pub hosts: Vec<String>,
    /// Whose forwarding headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Connections open at once; one more takes the place of the idlest, or is closed and counted where none is idle.
    pub connections_max: usize,
    /// Longest request target in bytes; longer gets 414.
    pub uri_bytes_max: usize,
    /// Largest request head in bytes; larger gets 431.
    pub head_bytes_max: usize,
    /// Most header fields; more get 431.
    pub head_fields_max: usize,
    /// A request head must be whole within this time.
    pub head_timeout: Duration,
    /// A kept-alive connection may be silent this long.
    pub idle_timeout: Duration,
    /// Some of a request body must come within this time; what is waited for longer in total, at 1 KiB a second.
    pub body_timeout: Duration,
    /// Some of an answer must be taken within this time.
    pub write_timeout: Duration,
    /// How long a process that is told to stop serves on, while it says that it is not ready.
    pub lame_duck: Duration,
    /// What requests under way get after that.
    pub drain_timeout: Duration,
}

/// Loopback and private networks (RFC 1918, RFC 4193): where a CDN's or a cluster's last proxy stands.
const TRUSTED: [&str; 6] = ["127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"];

impl Default for Listen {
    fn default() -> Self {
        Self {
            address: loopback(8080),
            h2c: true,
            hosts: Vec::new(),
            trusted_proxies: TRUSTED.iter().map(|network| network.parse().expect("the constant's networks")).collect(),
            connections_max: 10_000,
            uri_bytes_max: 8 << 10,
            head_bytes_max: 32 << 10,
            head_fields_max: 100,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            lame_duck: Duration::ZERO,
            drain_timeout: Duration::from_secs(25),
        }
    }
}

/// The listener for operations.
#[derive(Clone, Debug)]
pub struct Ops {
    /// Metrics, health, status, webhooks and purges.
    pub address: SocketAddr,
    /// For what changes state; without it that is closed.
    pub token: Option<Secret>,
}

impl Default for Ops {
    fn default() -> Self {
        Self { address: loopback(8081), token: None }
    }
}

/// What admin clients are told, at `/events` of the ops listener.
#[derive(Clone, Debug)]
pub struct Feed {
    /// Opens it, and signs tickets; without it both are closed, and events that purge nothing are not kept.
    pub token: Option<Secret>,
    /// How long a ticket is good: at most a minute.
    pub ticket_ttl: Duration,
    /// Clients at once; more get 503.
    pub clients_max: usize,
    /// How often a silent stream shows a sign of life.
    pub heartbeat: Duration,
    /// Browser origins that may listen.
    pub allow_origins: Vec<String>,
}

impl Default for Feed {
    fn default() -> Self {
        Self {
            token: None,
            ticket_ttl: ticket::LIFETIME_MAX,
            clients_max: 200,
            heartbeat: Duration::from_secs(15),
            allow_origins: Vec::new(),
        }
    }
}

/// How the backend is spoken to.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The Host it is sent; `None` for the upstream's own.
    pub host: Option<String>,
    /// Connections at the most: its concurrency budget.
    pub connections_max: usize,
    /// Fills at once, at the most.
    pub fills_max: usize,
    /// Requests that may wait for one, at most three quarters of them of one kind; more get 503.
    pub queue_max: usize,
    /// How long a request waits for one before it gets 503.
    pub queue_timeout: Duration,
    /// Time to connect.
    pub connect_timeout: Duration,
    /// A fill's answer must begin within this time.
    pub first_byte_timeout: Duration,
    /// A fill's body must move within this time.
    pub between_bytes_timeout: Duration,
    /// A fill must be whole within this time.
    pub total_timeout: Duration,
    /// A passed request's answer must begin within this time.
    pub pass_first_byte_timeout: Duration,
    /// A passed answer's body may be silent this long.
    pub pass_idle_timeout: Duration,
    /// An idle connection is closed after this time.
    pub idle_timeout: Duration,
    /// Largest answer head in bytes; larger is 502.
    pub head_bytes_max: usize,
    /// Query parameters that it is given once; given more often, or as a list, they are 400 on every route.
    pub query_once: Vec<String>,
}

impl Default for Origin {
    fn default() -> Self {
        Self {
            host: None,
            connections_max: 64,
            fills_max: 64,
            queue_max: 1024,
            queue_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(1),
            first_byte_timeout: Duration::from_secs(10),
            between_bytes_timeout: Duration::from_secs(10),
            total_timeout: Duration::from_secs(30),
            pass_first_byte_timeout: Duration::from_secs(60),
            pass_idle_timeout: Duration::from_secs(300),
            idle_timeout: Duration::from_secs(4),
            head_bytes_max: 64 << 10,
            query_once: Vec::new(),
        }
    }
}

/// Rules of the cache as a whole.
#[derive(Clone, Debug)]
pub struct Cache {
    /// The share by which TTLs vary: 0 to 0.5.
    pub jitter: f64,
    /// How long an answer that may not be shared lets the next requests go by side by side.
    pub pass_marker_ttl: Duration,
    /// How long one failure of the origin is shared.
    pub error_ttl: Duration,
    /// Query parameters that are dropped everywhere.
    pub tracking: Arc<Patterns>,
}

impl Default for Cache {
    fn default() -> Self {
        let tracking = [
            "utm_*", "gclid", "gbraid", "wbraid", "dclid", "fbclid", "msclkid", "ttclid", "twclid", "yclid", "mc_cid",
            "mc_eid", "_ga", "_gl", "_hsenc", "_hsmi",
        ];
        Self {
            jitter: 0.1,
            pass_marker_ttl: Duration::from_secs(10),
            error_ttl: Duration::from_secs(1),
            tracking: Arc::new(Patterns::new(tracking)),
        }
    }
}

/// The tier in memory.
#[derive(Clone, Debug)]
pub struct Memory {
    /// Bytes for stored answers with all that belongs to them.
    pub capacity: u64,
    /// Bytes of the largest answer that is stored: at most a quarter of `capacity`.
    pub object_max: usize,
    /// Bytes of answers that are being read and not stored yet, all together: at least `object_max`.
    pub in_flight: usize,
}

impl Default for Memory {
    fn default() -> Self {
        Self { capacity: 256 << 20, object_max: 16 << 20, in_flight: 128 << 20 }
    }
}

/// What is sent encoded, to those who take it.
#[derive(Clone, Debug)]
pub struct Compression {
    /// The encodings; none leaves all bodies as they are.
    pub encodings: Vec<Coding>,
    /// Bytes of the smallest body that is encoded.
    pub size_min: usize,
    /// The media types that shrink, in lower case.
    pub types: Arc<Patterns>,
}

impl Default for Compression {
    fn default() -> Self {
        let types = [
            "text/*",
            "application/json",
            "application/ld+json",
            "application/manifest+json",
            "application/problem+json",
            "application/vnd.api+json",
            "application/javascript",
            "application/xml",
            "application/atom+xml",
            "application/rss+xml",
            "image/svg+xml",
        ];
        Self { encodings: Coding::ALL.to_vec(), size_min: 1 << 10, types: Arc::new(Patterns::new(types)) }
    }
}

/// The purge log.
#[derive(Clone, Debug)]
pub struct Purge {
    /// How long what a soft purge hit may be served stale.
    pub soft_grace: Duration,
    /// A purge must be in the log and applied within this time, else 503.
    pub ack_timeout: Duration,
    /// Cut off from the log for longer than this, the node trusts nothing older than this.
    pub max_blind: Duration,
    /// A fill that began so soon after a purge of its tags is asked for once more at the end of this time.
    pub echo: Duration,
    /// How long an event may be under way before a changed answer counts as changed without one, and how often one of
    /// the most asked answers is looked at for that; zero looks at none.
    pub canary: Duration,
    /// Of what a purge hit the most asked is refilled at once, so many at the most; zero for none.
    pub hot_refill: usize,
    /// The share of recent answers beyond which a purge becomes soft: 0.01 to 0.99; `None` for never.
    pub blast_radius: Option<f64>,
    /// The file in which purges are safe while the log cannot be reached; without one their senders get 503.
    pub journal: Option<PathBuf>,
    /// Bytes to which the journal grows.
    pub journal_max: usize,
    /// Most tags in one purge; more get 413.
    pub tags_max: usize,
    /// Purged tags remembered one by one; beyond it older entries are refilled, and after one purge of more than an eighth
    /// of it all may be.
    pub marks_max: usize,
}

impl Default for Purge {
    fn default() -> Self {
        Self {
            soft_grace: Duration::from_secs(2),
            ack_timeout: Duration::from_secs(2),
            max_blind: Duration::from_secs(5),
            echo: Duration::from_secs(2),
            canary: Duration::from_secs(10),
            hot_refill: 16,
            blast_radius: None,
            journal: None,
            journal_max: 16 << 20,
            tags_max: 100_000,
            marks_max: 1_000_000,
        }
    }
}

/// What is logged.
#[derive(Clone, Debug)]
pub struct Log {
    /// For people or for machines.
    pub format: LogFormat,
    /// The least severe level that is written.
    pub level: LogLevel,
    /// Which requests get a line.
    pub requests: RequestLog,
    /// With [`RequestLog::Sampled`]: one request in so many; at least 1.
    pub sample: u32,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: LogLevel::Info, requests: RequestLog::Sampled, sample: 100 }
    }
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// The least severe level that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// A person must act.
    Error,
    /// Something is degraded.
    Warn,
    /// The course of things.
    Info,
    /// Steps of a request.
    Debug,
    /// Everything.
    Trace,
}

/// Which requests get a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestLog {
    /// Server errors alone.
    Off,
    /// One in `sample`, and server errors.
    Sampled,
    /// All.
    On,
}

/// Who may read answers in a browser.
#[derive(Clone, Debug, Default)]
pub struct Cors {
    /// Origins in lower case; `https://*.example.com` is every host below that name. Empty: the origin decides.
    pub allow_origins: Vec<String>,
}

/// A source of webhooks.
#[derive(Clone, Debug)]
pub struct Hook {
    /// Any of them verifies: `whsec_` and base64, checked. Never empty.
    pub secrets: Vec<Secret>,
    /// How far the sender's time may be from now.
    pub tolerance: Duration,
    /// Largest body in bytes; larger gets 413.
    pub body_max: usize,
}

impl Hook {
    /// The defaults, for these secrets.
    pub fn with(secrets: Vec<Secret>) -> Self {
        Self { secrets, tolerance: Duration::from_secs(300), body_max: 256 << 10 }
    }
}

/// Somebody who is told of purges.
#[derive(Clone, Debug)]
pub struct Downstream {
    /// Whose words it understands.
    pub kind: DownstreamKind,
    /// Where its API is.
    pub url: Uri,
    /// Fastly's service or Cloudflare's zone; else empty.
    pub id: String,
    /// What it knows us by; for a webhook `whsec_` and base64, which signs.
    pub token: Secret,
    /// What Cloudflare lets us ask.
    pub plan: Plan,
    /// Purges once more after this time; zero for never.
    pub second_purge: Duration,
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}
