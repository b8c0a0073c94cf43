//! What goes wrong and when, by seed: one fault at a time, each followed by calm until all have recovered.
//!
//! Two at once are another promise: a purge that was acknowledged in Redis' log is gone when Redis loses its
//! data and the nodes that know of it die before they have put it back.

use std::time::Duration;

use super::dice::Dice;
use super::redis::Topology;
use super::stage::{Options, Run};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Redis stops in the middle of everything and goes on later.
    RedisFrozen(Duration),
    /// Redis is killed and comes back with nothing.
    RedisEmptied(Duration),
    /// Redis is killed and comes back with all it had.
    RedisRestarted(Duration),
    /// A node is killed and comes back with its journal.
    NodeKilled(usize, Duration),
    /// The same while Redis is frozen: its journal holds purges that nobody else knows.
    NodeKilledInFrost(usize, Duration),
    /// A node stops in the middle of everything, as under a hypervisor, and goes on later as if no time had passed.
    NodeFrozen(usize, Duration),
    OriginSlow(Duration),
    OriginFails(Duration),
    /// The master dies until its replica has taken its place, and comes back with its data this much later.
    MasterDies(Duration),
    /// Its replica takes the master's place while it lives.
    MasterReplaced,
}

impl Fault {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::RedisFrozen(_) => "redis frozen",
            Self::RedisEmptied(_) => "redis killed, back empty",
            Self::RedisRestarted(_) => "redis killed, back with its data",
            Self::NodeKilled(..) => "node killed",
            Self::NodeKilledInFrost(..) => "node killed while redis is frozen",
            Self::NodeFrozen(..) => "node frozen",
            Self::OriginSlow(_) => "origin slow",
            Self::OriginFails(_) => "origin fails",
            Self::MasterDies(_) => "master dies, its replica takes over",
            Self::MasterReplaced => "master replaced while it lives",
        }
    }
}

/// Faults without end: all kinds in a random order, then all again. How long they last is told by the time for
/// which nodes trust what they know: shorter and longer.
#[derive(Debug)]
pub(crate) struct Plan {
    dice: Dice,
    nodes: usize,
    topology: Topology,
    max_blind: Duration,
    /// There is time for the longest.
    is_long: bool,
    ahead: Vec<Fault>,
}

impl Plan {
    pub(crate) fn new(dice: Dice, options: &Options) -> Self {
        let Options { nodes, topology, max_blind, lasts, .. } = *options;
        Self { dice, nodes, topology, max_blind, is_long: lasts > Duration::from_secs(120), ahead: Vec::new() }
    }

    pub(crate) fn next(&mut self) -> Fault {
        if self.ahead.is_empty() {
            let dice = &mut self.dice;
            let mut lasting =
                |least: f64, most: f64| dice.between(self.max_blind.mul_f64(least), self.max_blind.mul_f64(most));
            let mut faults = vec![
                Fault::RedisFrozen(lasting(0.1, 0.9)),
                // Longer than it takes any node to go blind; the longest, until no excuse is left when it ends.
                Fault::RedisFrozen(lasting(1.5, if self.is_long { 14.0 } else { 4.0 })),
                Fault::RedisEmptied(lasting(0.0, 2.0)),
                Fault::RedisRestarted(lasting(0.0, 2.0)),
                Fault::NodeKilled(0, lasting(0.0, 1.0)),
                Fault::NodeKilledInFrost(0, lasting(1.0, 2.0)),
                Fault::NodeFrozen(0, lasting(0.1, 0.9)),
                Fault::NodeFrozen(0, lasting(1.0, 4.0)),
                Fault::OriginSlow(lasting(1.0, 3.0)),
                Fault::OriginFails(lasting(0.5, 2.0)),
            ];
            if self.topology == Topology::Sentinel {
                faults.extend([Fault::MasterDies(lasting(0.0, 2.0)), Fault::MasterReplaced]);
            }
            for fault in &mut faults {
                match fault {
                    Fault::NodeKilled(node, _) | Fault::NodeKilledInFrost(node, _) | Fault::NodeFrozen(node, _) => {
                        *node = dice.below(self.nodes);
                    }
                    _ => {}
                }
            }
            dice.shuffle(&mut faults);
            self.ahead = faults;
        }
        self.ahead.pop().expect("it was filled")
    }
}

impl Run {
    /// Has a fault happen, and returns when it is over.
    pub(crate) async fn suffer(&self, fault: Fault) -> anyhow::Result<()> {
        let fleet = &self.fleet;
        let redis = &fleet.redis;
        redis.strike().await?;
        match fault {
            Fault::RedisFrozen(lasts) => {
                redis.freeze();
                tokio::time::sleep(lasts).await;
                redis.thaw();
            }
            Fault::RedisEmptied(lasts) => {
                redis.kill(true)?;
                tokio::time::sleep(lasts).await;
                redis.start_again().await?;
            }
            Fault::RedisRestarted(lasts) => {
                redis.kill(false)?;
                tokio::time::sleep(lasts).await;
                redis.start_again().await?;
            }
            Fault::NodeKilled(node, lasts) => {
                fleet.kill_node(node);
                tokio::time::sleep(lasts).await;
                fleet.start_node(node).await?;
            }
            Fault::NodeKilledInFrost(node, lasts) => {
                redis.freeze();
                tokio::time::sleep(lasts).await;
                fleet.kill_node(node);
                fleet.start_node(node).await?;
                tokio::time::sleep(lasts).await;
                redis.thaw();
            }
            Fault::NodeFrozen(node, lasts) => {
                fleet.signal_node(node, "-STOP");
                tokio::time::sleep(lasts).await;
                fleet.signal_node(node, "-CONT");
            }
            Fault::OriginSlow(lasts) => {
                self.shop.set_slow(true);
                tokio::time::sleep(lasts).await;
                self.shop.set_slow(false);
            }
            Fault::OriginFails(lasts) => {
                self.book().origin_fails(self.now());
                self.shop.set_failing(true);
                tokio::time::sleep(lasts).await;
                self.shop.set_failing(false);
                self.book().origin_mends(self.now());
            }
            Fault::MasterDies(lasts) => {
                redis.kill(false)?;
                redis.replaced().await?;
                tokio::time::sleep(lasts).await;
                redis.start_again().await?;
            }
            Fault::MasterReplaced => redis.replace_master().await?,
        }
        Ok(())
    }
}
