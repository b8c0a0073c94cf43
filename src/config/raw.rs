//! The file as it is written: a mirror of `proxy.toml`, which documents every key.
//!
//! Every field is optional, because layers are laid over one another before defaults are filled in.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;

use super::downstream::{DownstreamKind, TargetUrl};
use super::endpoint::{BrowserOrigin, HostName, Upstream};
use super::redis::RedisUrl;
use super::secret::Secret;
use super::shape::{Shape, Shaped, tables};
use super::text::{Text, Textual, words};
use super::units::{Namespace, ParamName, Size, Wildcard};
use super::{LogFormat, LogLevel, RequestLog};
use crate::policy::downstream::Plan;
use crate::policy::encoding::Coding;
use crate::policy::route::{HeaderKind, KeyBy, PathPattern, Policy, QueryKind, Template, UnknownQuery};

tables! {
    /// The whole file.
    Raw {
        upstream: Text<Upstream>,
        preset: String,
        webhook_secret: Text<Secret>,
        webhook_secret_file: String,
        listen: Listen,
        ops: Ops,
        feed: Feed,
        origin: Origin,
        cache: Cache,
        memory: Memory,
        compression: Compression,
        redis: Redis,
        purge: Purge,
        log: Log,
        cors: Cors,
        hooks: BTreeMap<String, Hook>,
        event: BTreeMap<String, Event>,
        downstream: BTreeMap<String, Downstream>,
        route_defaults: Route,
        route: BTreeMap<String, Route>,
    }

    Listen {
        address: Text<SocketAddr>,
        h2c: bool,
        hosts: Vec<Text<HostName>>,
        trusted_proxies: Vec<Text<IpNet>>,
        connections_max: usize,
        uri_bytes_max: Text<Size>,
        head_bytes_max: Text<Size>,
        head_fields_max: usize,
        head_timeout: Text<Duration>,
        idle_timeout: Text<Duration>,
        body_timeout: Text<Duration>,
        write_timeout: Text<Duration>,
        lame_duck: Text<Duration>,
        drain_timeout: Text<Duration>,
    }

    Ops {
        address: Text<SocketAddr>,
        token: Text<Secret>,
        token_file: String,
    }

    Feed {
        token: Text<Secret>,
        token_file: String,
        ticket_ttl: Text<Duration>,
        clients_max: usize,
        heartbeat: Text<Duration>,
        allow_origins: Vec<Text<BrowserOrigin>>,
    }

    Origin {
        host: Text<HostName>,
        connections_max: usize,
        fills_max: usize,
        queue_max: usize,
        queue_timeout: Text<Duration>,
        connect_timeout: Text<Duration>,
        first_byte_timeout: Text<Duration>,
        between_bytes_timeout: Text<Duration>,
        total_timeout: Text<Duration>,
        pass_first_byte_timeout: Text<Duration>,
        pass_idle_timeout: Text<Duration>,
        idle_timeout: Text<Duration>,
        head_bytes_max: Text<Size>,
        query_once: Vec<Text<ParamName>>,
    }

    Cache {
        jitter: f64,
        pass_marker_ttl: Text<Duration>,
        error_ttl: Text<Duration>,
        tracking: Vec<Text<Wildcard>>,
    }

    Memory {
        capacity: Text<Size>,
        object_max: Text<Size>,
        in_flight: Text<Size>,
    }

    Compression {
        encodings: Vec<Text<Coding>>,
        size_min: Text<Size>,
        types: Vec<Text<Wildcard>>,
    }

    Redis {
        url: Text<RedisUrl>,
        password_file: String,
        sentinel_username: String,
        sentinel_password: Text<Secret>,
        sentinel_password_file: String,
        tls_ca_file: String,
        tls_certificate_file: String,
        tls_key_file: String,
        namespace: Text<Namespace>,
        connections: usize,
        connect_timeout: Text<Duration>,
        deadline: Text<Duration>,
        wait_replicas: u32,
        wait_timeout: Text<Duration>,
        breaker_failures: u32,
        breaker_open: Text<Duration>,
        integrity_key: Text<Secret>,
        integrity_key_file: String,
        compress_min: Text<Size>,
        lease_ttl: Text<Duration>,
        lease_wait: Text<Duration>,
    }

    Purge {
        soft_grace: Text<Duration>,
        ack_timeout: Text<Duration>,
        max_blind: Text<Duration>,
        echo: Text<Duration>,
        canary: Text<Duration>,
        hot_refill: usize,
        blast_radius: f64,
        journal: String,
        journal_max: Text<Size>,
        tags_max: usize,
        marks_max: usize,
    }

    Log {
        format: Text<LogFormat>,
        level: Text<LogLevel>,
        requests: Text<RequestLog>,
        sample: u32,
    }

    Cors {
        allow_origins: Vec<Text<BrowserOrigin>>,
    }

    Hook {
        secrets: Vec<Text<Secret>>,
        secrets_file: String,
        tolerance: Text<Duration>,
        body_max: Text<Size>,
    }

    Event {
        hard: Vec<Text<Template>>,
        soft: Vec<Text<Template>>,
        delete: Vec<Text<Template>>,
        firm: bool,
    }

    Downstream {
        kind: Text<DownstreamKind>,
        url: Text<TargetUrl>,
        id: String,
        token: Text<Secret>,
        token_file: String,
        plan: Text<Plan>,
        second_purge: Text<Duration>,
    }

    /// A route, and what all routes share: only `paths` is for a route alone.
    Route {
        paths: Vec<Text<PathPattern>>,
        policy: Text<Policy>,
        methods: Vec<Text<Method>>,
        ttl: Text<Duration>,
        swr: Text<Duration>,
        sie: Text<Duration>,
        negative_ttl: Text<Duration>,
        content_type: String,
        key: Text<KeyBy>,
        host_in_key: bool,
        unknown_query: Text<UnknownQuery>,
        forward: Vec<Text<Wildcard>>,
        normalize_languages: bool,
        trust: Vec<Text<Trusted>>,
        harmless_cookies: Vec<Text<Wildcard>>,
        upgrade: bool,
        tags: Vec<Text<Template>>,
        tag_prefixes: Vec<String>,
        tag_headers: Vec<Text<HeaderName>>,
        cache_control: String,
        query: BTreeMap<String, Query>,
        headers: BTreeMap<String, Header>,
        tag_paths: BTreeMap<String, String>,
        tags_when: Vec<TagsWhen>,
    }

    Query {
        kind: Text<QueryKind>,
        default: String,
    }

    Header {
        kind: Text<HeaderKind>,
    }

    TagsWhen {
        query: String,
        contains: String,
        tags: Vec<Text<Template>>,
    }
}

/// A method whose answers may be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Head,
}

impl Textual for Method {
    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "GET" => Ok(Self::Get),
            "HEAD" => Ok(Self::Head),
            other => {
                Err(format!("only GET and HEAD can be answered from the cache, not {other:?}; others always pass"))
            }
        }
    }

    fn to_text(&self) -> String {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
        }
        .to_owned()
    }
}

/// What a route may leave to the origin's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trusted {
    Authorization,
    Cookies,
    Errors,
    Heuristics,
}

words! {
    Trusted {
        "authorization" = Trusted::Authorization,
        "cookies" = Trusted::Cookies,
        "errors" = Trusted::Errors,
        "heuristics" = Trusted::Heuristics,
    }
    Coding {
        "br" = Coding::Br,
        "zstd" = Coding::Zstd,
        "gzip" = Coding::Gzip,
    }
    Policy {
        "override" = Policy::Override,
        "origin" = Policy::Origin,
        "pass" = Policy::Pass,
    }
    KeyBy {
        "listed" = KeyBy::Listed,
        "url" = KeyBy::Url,
    }
    UnknownQuery {
        "pass" = UnknownQuery::Pass,
        "drop" = UnknownQuery::Drop,
    }
    QueryKind {
        "text" = QueryKind::Text,
        "integer" = QueryKind::Integer,
        "list" = QueryKind::List,
        "fields" = QueryKind::Fields,
        "locale" = QueryKind::Locale,
        "nested" = QueryKind::Nested,
    }
    HeaderKind {
        "text" = HeaderKind::Text,
        "locale" = HeaderKind::Locale,
        "origin" = HeaderKind::Origin,
    }
    DownstreamKind {
        "fastly" = DownstreamKind::Fastly,
        "cloudflare" = DownstreamKind::Cloudflare,
        "nextjs" = DownstreamKind::NextJs,
        "webhook" = DownstreamKind::Webhook,
    }
    Plan {
        "free" = Plan::Free,
        "pro" = Plan::Pro,
        "business" = Plan::Business,
        "enterprise" = Plan::Enterprise,
    }
    LogFormat {
        "text" = LogFormat::Text,
        "json" = LogFormat::Json,
    }
    LogLevel {
        "error" = LogLevel::Error,
        "warn" = LogLevel::Warn,
        "info" = LogLevel::Info,
        "debug" = LogLevel::Debug,
        "trace" = LogLevel::Trace,
    }
    RequestLog {
        "off" = RequestLog::Off,
        "sampled" = RequestLog::Sampled,
        "on" = RequestLog::On,
    }
}
