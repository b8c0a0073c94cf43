//! What a seed's run is like: a few kinds of trouble each, so that they meet in all combinations.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use endcap::config::{Config, Redis, RedisServer};

use crate::world::World;

/// The secret of the backend's webhooks.
pub(crate) const SECRET: &str = "whsec_ZW5kY2FwIGV4YW1wbGUgc2VjcmV0IG9ubHkh";

/// Lifetimes of both routes: hardly any, ordinary ones, and none beyond the time to live.
const LIFETIMES: [&str; 3] = [
    r#"ttl = "1s"
swr = "2s"
sie = "60s""#,
    r#"ttl = "20s"
swr = "60s"
sie = "1h""#,
    r#"ttl = "10s"
swr = "0s"
sie = "0s""#,
];

/// The configurations, read once.
static CONFIGS: LazyLock<Vec<Config>> = LazyLock::new(|| {
    let environment = std::iter::empty;
    LIFETIMES
        .iter()
        .map(|lifetimes| {
            let text = CONFIG.replace("LIFETIMES", lifetimes).replace("SECRET", SECRET);
            Config::from_toml("simulation", &text, environment()).unwrap_or_else(|error| panic!("{error}")).config
        })
        .collect()
});

const CONFIG: &str = r#"
upstream = "http://origin.example"
webhook_secret = "SECRET"
[log]
requests = "off"
[purge]
# Its looks come by themselves, long after all is quiet.
canary = "0s"
[route_defaults]
tag_prefixes = ["prod_"]
LIFETIMES
[route.products]
paths = ["/store/products"]
tags = ["list:product"]
[route.products.query]
q = { kind = "text" }
[route.product]
paths = ["/store/products/{id}"]
negative_ttl = "10s"
[event]
"product.created" = { hard = ["path:/store/products/{id}"], soft = ["list:product"] }
"product.updated" = { hard = ["{id}", "path:/store/products/{id}"], soft = ["list:product"] }
"product.touched" = { soft = ["{id}", "path:/store/products/{id}", "list:product"] }
"product.deleted" = { hard = ["{id}"], soft = ["list:product"], delete = ["path:/store/products/{id}"] }
"product.vanished" = { delete = ["{id}", "path:/store/products/{id}"], soft = ["list:product"] }
"shop.changed" = { hard = ["all"] }
"#;

/// Kinds of trouble that a run may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// A node is cut off from the store for a while.
    Partition,
    /// The store is away for a while, and comes back as it was.
    Restart,
    /// The store comes back without its newest writes, its clock set differently.
    FailOver,
    /// The store comes back empty.
    Emptied,
    /// The store drops a stored entry.
    Eviction,
    /// The store drops the log.
    LogEviction,
    /// The log is cut.
    Trim,
    /// The store is read from and takes no line of the log for a while.
    Refusal,
    /// Somebody else writes into the log.
    Garbage,
    /// A node is killed and started again.
    Crash,
    /// A node's clock jumps ahead.
    Jump,
    /// The origin fails for a while.
    Outage,
    /// Nothing happens for long.
    Calm,
}

impl Trouble {
    const ALL: [Self; 13] = [
        Self::Partition,
        Self::Restart,
        Self::FailOver,
        Self::Emptied,
        Self::Eviction,
        Self::LogEviction,
        Self::Trim,
        Self::Refusal,
        Self::Garbage,
        Self::Crash,
        Self::Jump,
        Self::Outage,
        Self::Calm,
    ];
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Weather {
    pub(crate) config: Arc<Config>,
    pub(crate) nodes: usize,
    pub(crate) steps: usize,
    /// Longest way of a message to the store, in milliseconds.
    pub(crate) latency: u64,
    /// Messages lost between a node and the store, of a thousand.
    pub(crate) loss: u64,
    /// Longest half of an origin's answer, in milliseconds.
    pub(crate) origin_delay: u64,
    /// The origin reads a replica that is so many milliseconds behind: less than an echo.
    pub(crate) replica_lag: u64,
    /// Answers of the origin that fail, of a thousand.
    pub(crate) origin_failures: u64,
    /// The origin sends validators.
    pub(crate) etags: bool,
    /// Answers that are for one client alone, of a thousand.
    pub(crate) private: u64,
    /// Longest pause between two actions, in milliseconds.
    pub(crate) pause: u64,
    /// Clocks of nodes differ by up to so many milliseconds.
    pub(crate) skew: u64,
    /// Nodes have a journal.
    pub(crate) journal: bool,
    pub(crate) troubles: Vec<Trouble>,
}

impl Weather {
    pub(crate) fn of(world: &World) -> Self {
        let mut config = CONFIGS[world.index(LIFETIMES.len())].clone();
        config.purge.soft_grace = Duration::from_millis(world.pick(&[500, 2000]));
        config.purge.max_blind = Duration::from_millis(world.pick(&[2000, 5000, 5000]));
        let mut redis = Redis::at(RedisServer::Tcp("store.example".to_owned(), 6379));
        redis.lease_wait = Duration::from_millis(world.pick(&[50, 500, 2000]));
        config.redis = Some(redis);
        config.purge.marks_max = world.pick(&[1_000_000, 1_000_000, 16, 32, 64]);
        let mut troubles: Vec<_> = Trouble::ALL.into_iter().filter(|_| world.chance(250)).collect();
        if world.chance(150) {
            troubles.clear();
        }
        let mut weather = Self {
            config: Arc::new(config),
            nodes: world.pick(&[1, 2, 2, 3, 3]),
            steps: world.pick(&[10, 20, 50]),
            latency: world.pick(&[0, 1, 5, 40]),
            loss: world.pick(&[0, 0, 0, 10, 80]),
            origin_delay: world.pick(&[0, 5, 50, 1500]),
            replica_lag: 0,
            origin_failures: world.pick(&[0, 0, 30, 300]),
            etags: world.chance(700),
            private: world.pick(&[0, 0, 0, 50]),
            pause: world.pick(&[2, 30, 300, 1500]),
            skew: world.pick(&[0, 0, 30_000]),
            journal: world.chance(500),
            troubles,
        };
        if world.chance(80) {
            // An echo asks once: where that fails, or is forgotten, the lag shows until the time to live ends.
            weather.replica_lag = world.pick(&[50, 1500]);
            Arc::make_mut(&mut weather.config).purge.marks_max = 1_000_000;
            (weather.origin_failures, weather.private, weather.loss, weather.skew) = (0, 0, 0, 0);
            weather.troubles.clear();
        }
        weather
    }

    /// How long a flight takes at the most, in milliseconds.
    pub(crate) fn flight(&self) -> u64 {
        let lease_wait = self.config.redis.as_ref().map_or(Duration::ZERO, |redis| redis.lease_wait);
        500 + 3 * self.origin_delay + u64::try_from(lease_wait.as_millis()).unwrap()
    }

    /// Whether nobody gives up on a lease while its messages are on the way, as when they wait for the end of a cut:
    /// those that overtake one another may leave it to its own end.
    pub(crate) fn gives_leases_back(&self) -> bool {
        let lease_wait = self.config.redis.as_ref().map_or(Duration::ZERO, |redis| redis.lease_wait);
        !self.troubles.contains(&Trouble::Partition)
            && self.latency < 10
            && self.origin_delay < 100
            && lease_wait > Duration::from_millis(400)
    }

    /// How long what a lagging replica said may be served, in milliseconds.
    pub(crate) fn lagging(&self) -> u64 {
        let echo = u64::try_from(self.config.purge.echo.as_millis()).unwrap();
        if self.replica_lag == 0 { 0 } else { echo + self.flight() }
    }
}
