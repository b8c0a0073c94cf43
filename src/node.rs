//! A node: all parts of one sidecar, put together from a configuration. Two fit in one process.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config};
use crate::downstream::{Downstream, Sender, Status};
use crate::feed::Feed;
use crate::fill::{Fill, FillSettings};
use crate::invalidate::follow::{Follower, Following};
use crate::invalidate::journal::Journal;
use crate::invalidate::replay::Replay;
use crate::invalidate::webhook::{Hook, Webhooks};
use crate::invalidate::{self, Durable, Invalidator};
use crate::jitter::Jitter;
use crate::metrics::Metrics;
use crate::ops::{Events, Ops};
use crate::origin::{HttpOrigin, Origin, OriginSettings, PoolStats};
use crate::outage::Outage;
use crate::policy::admission::HeadLimits;
use crate::policy::cors::Cors;
use crate::policy::downstream::{Provider, Target};
use crate::policy::encoding::Compression;
use crate::policy::framing::HeadSizes;
use crate::policy::position::Positions;
use crate::policy::purge::PurgeIndex;
use crate::policy::route::Routes;
use crate::policy::surrogate::TagField;
use crate::policy::webhook::WebhookSecret;
use crate::purges::Purges;
use crate::serve::accept::{self, ConnectionEnd, ConnectionLimits, ConnectionObserver, Handler, Listener};
use crate::serve::forward::Forward;
use crate::serve::handle::Server;
use crate::serve::log::{Lines, RequestLog};
use crate::store::SharedStore;
use crate::store::l1::L1;
use crate::store::memory::MemoryStore;
use crate::store::redis::{Address, Credentials, Eviction, RedisSettings, RedisStore, Tls, Topology};
use crate::store::wire::{self, Codec};
use crate::tasks::Tasks;

/// How often evicted bodies are freed in a quiet process.
const TIDY_EVERY: Duration = Duration::from_secs(1);
/// What the log reaches back beyond the longest lifetime: a slow fill, and clocks that differ.
const KEEP_MARGIN: Duration = Duration::from_secs(600);

/// What requests to the ops listener get to finish, at the most. Shoppers are gone by then.
const OPS_DRAIN_MAX: Duration = Duration::from_secs(5);

/// What a log in memory reaches back.
const MEMORY_KEEP: Duration = Duration::from_secs(60);

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address could not be bound.
    #[error("{key} = \"{address}\" cannot be bound: {error}")]
    Bind {
        /// The configuration's key.
        key: &'static str,
        /// Its value.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// A value of the configuration that only its use shows to be wrong.
    #[error("{key}: {error}")]
    Config {
        /// The configuration's key.
        key: &'static str,
        /// What is wrong.
        error: String,
    },
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    /// Where shoppers connect.
    pub address: SocketAddr,
    /// Where operations connect.
    pub ops_address: SocketAddr,
    following: watch::Receiver<Following>,
    retiring: CancellationToken,
    /// What serves shoppers: it ends before all else.
    public: Tasks,
    tasks: Tasks,
}

impl Node {
    /// Binds the addresses and starts to serve.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running.
    pub fn start(config: &Config) -> Result<Self, StartError> {
        Self::start_with_clock(config, Arc::new(SystemClock::new()))
    }

    /// Starts on a clock of the caller's: lifetimes, graces and the breaker follow it, time-outs do not.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running.
    pub fn start_with_clock(config: &Config, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        let bind = |key, address| {
            let bound = Listener::bind(address).and_then(|listener| Ok((listener.local_addr()?, listener)));
            bound.map_err(|error| StartError::Bind { key, address, error })
        };
        // What the configuration has wrong is found before an address is taken; `assemble` asks again and starts things.
        hooks(config)?;
        targets(config)?;
        let tasks = Tasks::new();
        let (origin, pool, host) = origin(config, &tasks)?;
        let Stores { log, shared, durable, eviction } = stores(config, &clock, &tasks)?;
        let journal = journal(config)?;
        let (address, listener) = bind("listen.address", config.listen.address)?;
        let (ops_address, ops_listener) = bind("ops.address", config.ops.address)?;
        let seams = Seams { clock, log, shared, durable, eviction, journal, origin, pool, host, seed: Jitter::seed() };
        let Parts { server, ops, following, metrics, public, retiring } = Parts::assemble(config, seams, &tasks)?;
        metrics.declare_ends(ConnectionEnd::ALL.map(ConnectionEnd::as_str));
        let observer: Arc<dyn ConnectionObserver> = Arc::new(Observer(metrics));
        let limits = limits(config);
        // Operations look in while the public side drains, so its own connections may not hold it up.
        let ops_limits = ConnectionLimits {
            // A stream of events keeps its connection; the rest of operations has its own share.
            connections_max: 256 + u32::try_from(config.feed.clients_max).unwrap_or(u32::MAX - 256),
            drain_timeout: limits.drain_timeout.min(OPS_DRAIN_MAX),
            h2c: false,
            head: HeadLimits { hosts: Vec::new(), ..limits.head.clone() },
            ..limits.clone()
        };
        serve(listener, limits, server, &observer, &public);
        serve(ops_listener, ops_limits, ops, &observer, &tasks);
        Ok(Self { address, ops_address, following, retiring, public, tasks })
    }

    /// Waits until the purge log has been read to its end.
    pub async fn ready(&self) {
        let mut following = self.following.clone();
        following
            .wait_for(|following| following.caught_up)
            .await
            .map(drop)
            .expect("the follower runs as long as the node");
    }

    /// Says at `/readyz` and in `endcap_ready` that this node is about to go, and serves on as before.
    pub fn retire(&self) {
        self.retiring.cancel();
    }

    /// Stops, in this order, and returns when all tasks have ended:
    /// 1. The node is not ready.
    /// 2. The public listener closes, and requests under way finish. Purges still come in and are applied.
    /// 3. The ops listener closes, so the last metrics can be read until here, and all other work ends.
    pub async fn stop(&self) {
        self.retire();
        self.public.stop().await;
        self.tasks.stop().await;
    }
}

/// What a node stands on: the three seams (`Clock`, `SharedStore`, `Origin`), and what belongs to them.
#[derive(Debug)]
pub struct Seams {
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// The purge log.
    pub log: Arc<dyn SharedStore>,
    /// The shared tier, where there is one.
    pub shared: Option<Arc<dyn SharedStore>>,
    /// Where an acknowledged purge is safe.
    pub durable: Durable,
    /// Whether the log could be evicted, where there is somebody who would.
    pub eviction: Option<watch::Receiver<Eviction>>,
    /// Where it is while the log cannot be reached.
    pub journal: Option<Journal>,
    /// The origin.
    pub origin: Arc<dyn Origin>,
    /// Its connections.
    pub pool: Arc<PoolStats>,
    /// The Host that it is sent.
    pub host: HeaderValue,
    /// Tells this node from all others, by chance.
    pub seed: u64,
}

/// A node without its listeners: what the simulation runs.
#[derive(Debug)]
pub struct Parts {
    /// The public side.
    pub server: Server,
    /// The side of operations.
    pub ops: Ops,
    /// What is known of the follower.
    pub following: watch::Receiver<Following>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// What serves shoppers.
    pub public: Tasks,
    /// Says that the node is about to go.
    pub retiring: CancellationToken,
}

impl Parts {
    /// Puts the parts together and starts what runs in the background.
    ///
    /// # Errors
    /// [`StartError::Config`].
    pub fn assemble(config: &Config, seams: Seams, tasks: &Tasks) -> Result<Self, StartError> {
        let Seams { clock, log, shared, durable, eviction, journal, origin, pool, host, seed } = seams;
        let public = tasks.child();
        let retiring = CancellationToken::new();
        let metrics = Metrics::new(config.routes.rules());
        let keep = config.routes.lifetime_max() + KEEP_MARGIN;
        let index = PurgeIndex::new(config.purge.soft_grace, config.purge.marks_max, keep);
        // A log in memory cannot be cut off from its only reader.
        let max_blind = (durable == Durable::Log).then_some(config.purge.max_blind);
        let purges = Arc::new(Purges::new(index, max_blind));
        metrics.purges.journal_damaged.inc_by(journal.as_ref().map_or(0, Journal::damaged) as u64);
        let journal = journal.map(|journal| Replay::new(journal, Arc::clone(&purges), Arc::clone(&metrics)));

        let compress_min = config.redis.as_ref().map_or(usize::MAX, |redis| redis.compress_min);
        let integrity_key = config.redis.as_ref().and_then(|redis| redis.integrity_key.as_ref());
        let fill = Fill::new(
            Arc::clone(&origin),
            L1::new(config.memory.capacity),
            shared,
            Codec::new(integrity_key.map(config::Secret::expose), compress_min, config.memory.object_max),
            Arc::clone(&purges),
            Arc::clone(&clock),
            Arc::clone(&metrics),
            tasks.clone(),
            FillSettings {
                object_max: config.memory.object_max,
                in_flight: config.memory.in_flight,
                compression: Compression {
                    codings: config.compression.encodings.clone(),
                    size_min: config.compression.size_min,
                    types: Arc::clone(&config.compression.types),
                },
                pass_marker_ttl: config.cache.pass_marker_ttl,
                error_ttl: config.cache.error_ttl,
                jitter: config.cache.jitter,
                shared_max: config.routes.lifetime_max(),
                soft_grace: config.purge.soft_grace,
                echo: config.purge.echo,
                canary: config.purge.canary,
                lease_ttl: config.redis.as_ref().map_or(Duration::ZERO, |redis| redis.lease_ttl),
                lease_wait: config.redis.as_ref().map_or(Duration::ZERO, |redis| redis.lease_wait),
                seed,
            },
        );

        let feed = Feed::new(config.feed.clients_max, Arc::clone(&log), Arc::clone(&metrics));
        // A log in memory has one reader, which is never behind: history would only fill the memory.
        let log_keep = if durable == Durable::Memory { MEMORY_KEEP } else { keep };
        let (state, following) = watch::channel(Following::default());
        let follower = Follower {
            log: Arc::clone(&log),
            purges: Arc::clone(&purges),
            feed: Arc::clone(&feed),
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
            keep: log_keep,
            max_blind: config.purge.max_blind,
            jitter: Jitter::new(seed),
            state,
        };
        tasks.spawn(follower.run(tasks.stopping().clone()));
        tasks.spawn(tidy(Arc::clone(&fill), tasks.clone()));
        if let Some(journal) = &journal {
            let patience = config.purge.ack_timeout;
            tasks.spawn(journal.clone().run(Arc::clone(&log), log_keep, patience, tasks.stopping().clone()));
        }

        let targets = targets(config)?;
        let outage = |name: &String| Arc::new(Outage::new(name, metrics.history_failures("downstream")));
        let outages: BTreeMap<String, Arc<Outage>> = targets.keys().map(|name| (name.clone(), outage(name))).collect();
        if !targets.is_empty() {
            let sender = Arc::new(Sender::new());
            let cdns = targets.iter().filter(|(_, target)| target.provider.is_cdn());
            let cdns: Vec<String> = cdns.map(|(name, _)| name.clone()).collect();
            let node = format!("{:032x}", Jitter::new(seed).unique());
            for (name, target) in targets {
                metrics.declare_downstream(&name);
                let worker = Downstream {
                    after: if target.provider.is_cdn() { Vec::new() } else { cdns.clone() },
                    outage: Arc::clone(&outages[&name]),
                    name,
                    target,
                    store: Arc::clone(&log),
                    purges: Arc::clone(&purges),
                    sender: Arc::clone(&sender),
                    clock: Arc::clone(&clock),
                    metrics: Arc::clone(&metrics),
                    node: node.clone(),
                    jitter: Jitter::new(seed),
                };
                tasks.spawn(worker.run(tasks.stopping().clone()));
            }
        }
        let downstream = Status {
            targets: outages,
            store: Arc::clone(&log),
            purges: Arc::clone(&purges),
            clock: Arc::clone(&clock),
        };

        let invalidator = Arc::new(Invalidator {
            log,
            durable,
            journal,
            purges,
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
            keep: log_keep,
            ack_timeout: config.purge.ack_timeout,
            tags_max: config.purge.tags_max,
            tasks: tasks.clone(),
            breaker: invalidate::breaker(),
            positions: Positions::new(
                config
                    .hooks
                    .values()
                    .flat_map(|hook| &hook.secrets)
                    .chain(&config.ops.token)
                    .map(config::Secret::expose),
            ),
        });
        let webhooks = Webhooks::new(
            hooks(config)?,
            config.events.clone(),
            Arc::clone(&invalidator),
            config.feed.token.is_some(),
            Arc::clone(&clock),
            Arc::clone(&metrics),
        );
        let events = Events {
            feed,
            token: config.feed.token.as_ref().map(|token| token.expose().to_owned()),
            ticket_ttl: config.feed.ticket_ttl,
            heartbeat: config.feed.heartbeat,
            write_timeout: config.listen.write_timeout,
            cors: Cors::new(&config.feed.allow_origins),
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
            tasks: tasks.clone(),
        };
        let ops = Ops {
            token: config.ops.token.as_ref().map(|token| token.expose().to_owned()),
            webhooks,
            events,
            downstream,
            invalidator: Arc::clone(&invalidator),
            fill: Arc::clone(&fill),
            pool,
            metrics: Arc::clone(&metrics),
            following: following.clone(),
            eviction,
            started: clock.now(),
            clock: Arc::clone(&clock),
            retiring: retiring.clone(),
        };
        let server = Server {
            routes: routes(config),
            fill,
            invalidator,
            forward: Forward {
                origin,
                host,
                trusted_proxies: config.listen.trusted_proxies.clone(),
                tunnel_idle: config.origin.pass_idle_timeout,
                tasks: public.clone(),
            },
            metrics: Arc::clone(&metrics),
            clock,
            log: RequestLog::new(match config.log.requests {
                config::RequestLog::Off => Lines::Off,
                config::RequestLog::Sampled => Lines::Sampled(u64::from(config.log.sample)),
                config::RequestLog::On => Lines::On,
            }),
        };
        Ok(Self { server, ops, following, metrics, public, retiring })
    }
}

/// Opens the journal, where there is a log that may be out of reach.
fn journal(config: &Config) -> Result<Option<Journal>, StartError> {
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

struct Stores {
    /// The purge log.
    log: Arc<dyn SharedStore>,
    /// The shared tier, where there is one.
    shared: Option<Arc<dyn SharedStore>>,
    /// Where an acknowledged purge is safe.
    durable: Durable,
    /// Whether the log could be evicted, where there is somebody who would.
    eviction: Option<watch::Receiver<Eviction>>,
}

/// Whoever waits for a lease has time for at least so many answers about it.
const LEASE_ANSWERS: u32 = 4;

fn stores(config: &Config, clock: &Arc<dyn Clock>, tasks: &Tasks) -> Result<Stores, StartError> {
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

type OriginParts = (Arc<dyn Origin>, Arc<PoolStats>, HeaderValue);

fn origin(config: &Config, tasks: &Tasks) -> Result<OriginParts, StartError> {
    let host = config.origin.host.as_ref().unwrap_or(&config.upstream.authority);
    let host = HeaderValue::from_str(host)
        .map_err(|error| StartError::Config { key: "origin.host", error: error.to_string() })?;
    let origin = &config.origin;
    let settings = OriginSettings {
        host: config.upstream.host.clone(),
        port: config.upstream.port,
        host_header: host.clone(),
        connections_max: origin.connections_max,
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

fn hooks(config: &Config) -> Result<std::collections::BTreeMap<String, Hook>, StartError> {
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
fn targets(config: &Config) -> Result<std::collections::BTreeMap<String, Target>, StartError> {
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

fn limits(config: &Config) -> ConnectionLimits {
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

/// Frees evicted entries now and then.
async fn tidy(fill: Arc<Fill>, tasks: Tasks) {
    let mut tick = tokio::time::interval(TIDY_EVERY);
    loop {
        tokio::select! {
            biased;
            () = tasks.stopping().cancelled() => return,
            _ = tick.tick() => fill.l1().tidy(),
        }
    }
}

/// Serves a listener until the node stops.
fn serve<H: Handler>(
    listener: Listener,
    limits: ConnectionLimits,
    handler: H,
    observer: &Arc<dyn ConnectionObserver>,
    tasks: &Tasks,
) {
    let (observer, inner) = (Arc::clone(observer), tasks.clone());
    tasks.spawn(async move { accept::serve(listener, limits, Arc::new(handler), observer, &inner).await });
}

/// Counts connections.
struct Observer(Arc<Metrics>);

impl ConnectionObserver for Observer {
    fn opened(&self) {
        self.0.requests.connections.inc();
        self.0.requests.connections_total.inc();
    }

    fn closed(&self, end: ConnectionEnd) {
        self.0.requests.connections.dec();
        self.0.connection_ended(end.as_str());
    }

    fn refused(&self, reason: &'static str) {
        self.0.rejected(reason);
        tracing::debug!(reason, "refused");
    }

    fn accept_failed(&self, error: &io::Error) {
        tracing::error!(%error, "cannot accept connections");
    }
}

/// The routes, as they answer cross-origin requests and tell CDNs their tags.
fn routes(config: &Config) -> Routes {
    let fields: BTreeSet<TagField> = config.downstream.values().filter_map(|target| target.kind.tag_field()).collect();
    let fields: Vec<TagField> = fields.into_iter().collect();
    config.routes.clone().with_cors(Cors::new(&config.cors.allow_origins)).with_tag_fields(&fields)
}
