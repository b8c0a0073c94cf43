//! What each part of a node needs, read from the configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::HeaderValue;
use tokio::sync::watch;

use super::StartError;
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::invalidate::Durable;
use crate::invalidate::journal::Journal;
use crate::invalidate::webhook::Hook;
use crate::jitter::Jitter;
use crate::origin::{HttpOrigin, Origin, OriginSettings, PoolStats};
use crate::policy::admission::HeadLimits;
use crate::policy::cors::Cors;
use crate::policy::downstream::{Provider, Target};
use crate::policy::framing::HeadSizes;
use crate::policy::route::Routes;
use crate::policy::surrogate::TagField;
use crate::policy::webhook::WebhookSecret;
use crate::serve::accept::ConnectionLimits;
use crate::store::SharedStore;
use crate::store::memory::MemoryStore;
use crate::store::redis::{Address, Credentials, Eviction, RedisSettings, RedisStore, Tls, Topology};
use crate::store::wire;
use crate::tasks::Tasks;

/// Opens the journal, where there is a log that may be out of reach.
pub(super) fn journal(config: &Config) -> Result<Option<Journal>, StartError> {
    let Some(path) = config.purge.journal.as_ref().filter(|_| config.redis.is_some()) else { return Ok(None) };
    let (journal, found) = Journal::open(path, config.purge.journal_max as u64)
        .map_err(|error| StartError::Config { key: "purge.journal", error: format!("{path:?}: {error}") })?;
    if found.purges > 0 {
        tracing::info!(purges = found.purges, "the journal holds purges that wait for the log");
    }
    if found.damaged > 0 {
        tracing::error!(
            ?path,
            records = found.damaged,
            "the journal is damaged: everything is purged in place of what it lost"
        );
    }
    Ok(Some(journal))
}

pub(super) struct Stores {
    /// The purge log.
    pub(super) log: Arc<dyn SharedStore>,
    /// The shared tier, where there is one.
    pub(super) shared: Option<Arc<dyn SharedStore>>,
    /// Where an acknowledged purge is safe.
    pub(super) durable: Durable,
    /// Whether the log could be evicted, where there is somebody who would.
    pub(super) eviction: Option<watch::Receiver<Eviction>>,
}

/// Whoever waits for a lease has time for at least so many answers about it.
const LEASE_ANSWERS: u32 = 4;

pub(super) fn stores(config: &Config, clock: &Arc<dyn Clock>, tasks: &Tasks) -> Result<Stores, StartError> {
    let Some(redis) = &config.redis else {
        let log = Arc::new(MemoryStore::new(Arc::clone(clock)));
        return Ok(Stores { log, shared: None, durable: Durable::Memory, eviction: None });
    };
    let credentials = |username: &Option<String>, password: &Option<config::Secret>| Credentials {
        username: username.clone(),
        password: password.as_ref().map(|password| password.expose().to_owned()),
    };
    let settings = RedisSettings {
        topology: topology(&redis.server),
        tls: redis.tls.as_ref().map(tls),
        credentials: credentials(&redis.username, &redis.password),
        sentinel_credentials: credentials(&redis.sentinel_username, &redis.sentinel_password),
        database: i64::from(redis.database),
        namespace: redis.namespace.clone(),
        connections: redis.connections,
        value_max: wire::value_max(config.memory.object_max),
        connect_timeout: redis.connect_timeout,
        deadline: redis.deadline,
        lease_deadline: redis.lease_wait / LEASE_ANSWERS,
        append_deadline: config.purge.ack_timeout,
        wait_replicas: redis.wait_replicas,
        wait_timeout: redis.wait_timeout,
        breaker_failures: redis.breaker_failures,
        breaker_open: redis.breaker_open,
    };
    let jitter = Jitter::new(Jitter::seed());
    let store = RedisStore::new(&settings, Arc::clone(clock), jitter, tasks.clone())
        .map_err(|error| StartError::Config { key: "redis.tls_ca_file", error: error.to_string() })?;
    let eviction = store.eviction();
    let store: Arc<dyn SharedStore> = Arc::new(store);
    Ok(Stores { log: Arc::clone(&store), shared: Some(store), durable: Durable::Log, eviction: Some(eviction) })
}

/// Where Redis is, in the store's words.
fn topology(server: &config::RedisServer) -> Topology {
    let tcp = |(host, port): &(String, u16)| Address::Tcp(host.clone(), *port);
    match server {
        config::RedisServer::Tcp(host, port) => Topology::Single(Address::Tcp(host.clone(), *port)),
        config::RedisServer::Unix(path) => Topology::Single(Address::Unix(path.clone())),
        config::RedisServer::Sentinel { sentinels, master } => {
            Topology::Sentinel { sentinels: sentinels.iter().map(tcp).collect(), master: master.clone() }
        }
        config::RedisServer::Cluster(servers) => Topology::Cluster(servers.iter().map(tcp).collect()),
    }
}

fn tls(tls: &config::RedisTls) -> Tls {
    let identity = tls.identity.as_ref().map(|(certificate, key)| (certificate.clone(), key.expose().to_owned()));
    Tls { authorities: tls.authorities.clone(), identity }
}

pub(super) type OriginParts = (Arc<dyn Origin>, Arc<PoolStats>, HeaderValue);

pub(super) fn origin(config: &Config, tasks: &Tasks) -> Result<OriginParts, StartError> {
    let host = config.origin.host.as_ref().unwrap_or(&config.upstream.authority);
    let host = HeaderValue::from_str(host)
        .map_err(|error| StartError::Config { key: "origin.host", error: error.to_string() })?;
    let origin = &config.origin;
    let settings = OriginSettings {
        host: config.upstream.host.clone(),
        port: config.upstream.port,
        host_header: host.clone(),
        connections_max: origin.connections_max,
        fills_max: origin.fills_max,
        queue_max: origin.queue_max,
        queue_timeout: origin.queue_timeout,
        connect_timeout: origin.connect_timeout,
        first_byte_timeout: origin.first_byte_timeout,
        between_bytes_timeout: origin.between_bytes_timeout,
        total_timeout: origin.total_timeout,
        pass_first_byte_timeout: origin.pass_first_byte_timeout,
        pass_idle_timeout: origin.pass_idle_timeout,
        idle_timeout: origin.idle_timeout,
        head_bytes_max: origin.head_bytes_max,
    };
    let origin = HttpOrigin::new(settings, tasks);
    let pool = Arc::clone(origin.stats());
    Ok((Arc::new(origin), pool, host))
}

pub(super) fn hooks(config: &Config) -> Result<BTreeMap<String, Hook>, StartError> {
    let hook = |(name, hook): (&String, &config::Hook)| {
        let secrets: Option<Vec<_>> = hook.secrets.iter().map(|secret| WebhookSecret::parse(secret.expose())).collect();
        let secrets = secrets.ok_or_else(|| StartError::Config {
            key: "hooks",
            error: format!("a secret of {name:?} is not `whsec_` and base64"),
        })?;
        Ok((name.clone(), Hook { secrets, tolerance: hook.tolerance, body_max: hook.body_max }))
    };
    config.hooks.iter().map(hook).collect()
}

/// Who is told of purges, in the words of who tells them.
pub(super) fn targets(config: &Config) -> Result<BTreeMap<String, Target>, StartError> {
    let target = |(name, target): (&String, &config::Downstream)| {
        let (id, token) = (target.id.clone(), target.token.expose().to_owned());
        let secret = || {
            let error = format!("the token of {name:?} is not `whsec_` and base64");
            WebhookSecret::parse(target.token.expose()).ok_or(StartError::Config { key: "downstream", error })
        };
        let provider = match target.kind {
            config::DownstreamKind::Fastly => Provider::Fastly { service: id, token },
            config::DownstreamKind::Cloudflare => Provider::Cloudflare { zone: id, token, plan: target.plan },
            config::DownstreamKind::NextJs => Provider::NextJs { secret: secret()? },
            config::DownstreamKind::Webhook => Provider::Webhook { secret: secret()? },
        };
        Ok((name.clone(), Target { provider, url: target.url.clone(), second_purge: target.second_purge }))
    };
    config.downstream.iter().map(target).collect()
}

pub(super) fn limits(config: &Config) -> ConnectionLimits {
    let listen = &config.listen;
    ConnectionLimits {
        connections_max: u32::try_from(listen.connections_max).unwrap_or(u32::MAX),
        head_timeout: listen.head_timeout,
        idle_timeout: listen.idle_timeout,
        body_timeout: listen.body_timeout,
        write_timeout: listen.write_timeout,
        drain_timeout: listen.drain_timeout,
        h2c: listen.h2c,
        head: HeadLimits {
            sizes: HeadSizes {
                uri_bytes_max: listen.uri_bytes_max,
                head_bytes_max: listen.head_bytes_max,
                head_fields_max: listen.head_fields_max,
            },
            hosts: listen.hosts.clone(),
            key_fields: config
                .routes
                .rules()
                .iter()
                .flat_map(|rule| &rule.headers)
                .map(|header| header.name.clone())
                .collect(),
        },
    }
}

/// The routes, as they answer cross-origin requests and tell CDNs their tags.
pub(super) fn routes(config: &Config) -> Routes {
    let fields: BTreeSet<TagField> = config.downstream.values().filter_map(|target| target.kind.tag_field()).collect();
    let fields: Vec<TagField> = fields.into_iter().collect();
    config.routes.clone().with_cors(Cors::new(&config.cors.allow_origins)).with_tag_fields(&fields)
}
