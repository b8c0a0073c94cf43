//! A node: all parts of one sidecar, put together from a configuration. Two fit in one process.

mod wiring;

use std::collections::BTreeMap;
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
use crate::invalidate::webhook::Webhooks;
use crate::invalidate::{self, Durable, Invalidator};
use crate::jitter::Jitter;
use crate::metrics::Metrics;
use crate::ops::{Events, Ops};
use crate::origin::{Origin, PoolStats};
use crate::outage::Outage;
use crate::policy::admission::HeadLimits;
use crate::policy::cors::Cors;
use crate::policy::encoding::Compression;
use crate::policy::position::Positions;
use crate::policy::purge::{PurgeIndex, PurgeSeq};
use crate::purges::Purges;
use crate::serve::accept::{self, ConnectionEnd, ConnectionLimits, ConnectionObserver, Handler, Listener};
use crate::serve::forward::Forward;
use crate::serve::handle::Server;
use crate::serve::log::{Lines, RequestLog};
use crate::store::SharedStore;
use crate::store::l1::L1;
use crate::store::redis::Eviction;
use crate::store::wire::Codec;
use crate::tasks::Tasks;
use wiring::{Stores, hooks, journal, limits, origin, routes, stores, targets};

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
                hot_refill: config.purge.hot_refill,
                refreshes_max: (config.origin.fills_max / 2).max(1),
                lease_ttl: config.redis.as_ref().map_or(Duration::ZERO, |redis| redis.lease_ttl),
                lease_wait: config.redis.as_ref().map_or(Duration::ZERO, |redis| redis.lease_wait),
                seed,
            },
        );

        let feed = Feed::new(config.feed.clients_max, Arc::clone(&log), Arc::clone(&metrics));
        // A log in memory has one reader, which is never behind: history would only fill the memory.
        let log_keep = if durable == Durable::Memory { MEMORY_KEEP } else { keep };
        let (state, following) = watch::channel(Following::default());
        let recent = Arc::default();
        let follower = Follower {
            log: Arc::clone(&log),
            purges: Arc::clone(&purges),
            recent: Arc::clone(&recent),
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
        if !config.purge.canary.is_zero() {
            tasks.spawn(Arc::clone(&fill).sample_hot());
        }
        let refilled = (config.purge.hot_refill > 0).then(|| {
            let (done, refilled) = watch::channel(PurgeSeq::ZERO);
            tasks.spawn(Arc::clone(&fill).keep_hot(done));
            refilled
        });
        if let Some(journal) = &journal {
            let patience = config.purge.ack_timeout;
            let (journal, log, jitter) = (journal.clone(), Arc::clone(&log), Jitter::new(seed));
            tasks.spawn(journal.run(log, log_keep, patience, jitter, tasks.stopping().clone()));
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
                    refilled: refilled.clone(),
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
            recent,
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
            keep: log_keep,
            ack_timeout: config.purge.ack_timeout,
            tags_max: config.purge.tags_max,
            blast_radius: config.purge.blast_radius,
            few: config.purge.hot_refill.min(config.origin.fills_max),
            hot: Arc::clone(fill.hot()),
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
