//! A master, its replica and a sentinel: the master dies or is replaced while purges and reads go on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use endcap::policy::purge::PurgeSeq;
use endcap::store::redis::Topology;
use endcap::store::{LogState, StoreError};

use crate::fake::Fake;
use crate::promises::{KEEP, NO_WAIT, World, key, settings};
use crate::replicas::replica_of;
use crate::servers::{Server, keeps_all_promises, on, shares};
use crate::stage::{Stage, until};

struct Pair {
    master: Server,
    replica: Server,
    sentinel: Server,
}

impl Pair {
    async fn start() -> Self {
        let master = Server::start(&[]).await;
        let replica = replica_of(&master).await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sentinel.conf");
        let text = format!(
            "sentinel monitor shop 127.0.0.1 {} 1\nsentinel down-after-milliseconds shop 1500\n\
             sentinel failover-timeout shop 6000\n",
            master.port
        );
        std::fs::write(&file, text).unwrap();
        let sentinel = Server::start_with(folder, &[file.to_str().unwrap(), "--sentinel"], None).await;
        let pair = Self { master, replica, sentinel };
        let known = format!("port={}", pair.replica.port);
        until("the sentinel knows the replica", async || {
            let replicas = pair.sentinel.text(&["SENTINEL", "REPLICAS", "shop"]).await;
            replicas.contains(&known.replace("port=", "")) && replicas.contains("\"ok\"")
        })
        .await;
        pair
    }

    /// The first of the sentinels that it names is not there.
    fn url(&self) -> String {
        format!("redis+sentinel://127.0.0.1:1,127.0.0.1:{}/shop", self.sentinel.port)
    }

    fn topology(&self) -> Topology {
        Topology::Sentinel { sentinels: vec![self.sentinel.address()], master: "shop".into() }
    }
}

fn product(n: usize) -> String {
    format!("/store/products/prod_{n}")
}

/// Purges products one after the other through the first node until so many are acknowledged, while both nodes
/// are read from. A reader is always answered.
pub(crate) async fn purge_on(stage: &Stage, products: std::ops::Range<usize>) {
    for n in products {
        until("a purge is acknowledged", async || {
            for node in [0, 1] {
                assert_eq!(stage.get_from(node, &product(n)).await.status, 200);
            }
            stage.try_purge(0, "hard", &[&format!("prod_{n}")]).await.status == 200
        })
        .await;
    }
}

/// Both nodes have these products in memory, in the version before the purges.
pub(crate) async fn fill(stage: &Stage, products: std::ops::Range<usize>) {
    for n in products {
        for node in [0, 1] {
            assert_eq!(stage.get_from(node, &product(n)).await.version(), 1);
        }
    }
    stage.settled(0).await;
    stage.origin.publish(2);
}

/// No node serves what was purged, and the log tells whoever comes later: of each, or of everything.
pub(crate) async fn nothing_is_lost(stage: &Stage, products: std::ops::Range<usize>, log: &str) {
    for n in products.clone() {
        for node in [0, 1] {
            until("the purge is applied", async || stage.get_from(node, &product(n)).await.version() == 2).await;
        }
    }
    let says = |tag: &str| log.contains(&format!("\"{tag}\\"));
    let missing: BTreeSet<_> = products.filter(|n| !says(&format!("prod_{n}"))).collect();
    assert!(missing.is_empty() || says("all"), "the log lacks {missing:?}: {log}");
}

#[tokio::test]
async fn what_stores_promise_holds_behind_a_sentinel() {
    let pair = Pair::start().await;
    keeps_all_promises(|namespace| settings(pair.topology(), namespace), || pair.master.order()).await;
}

#[tokio::test]
async fn when_the_master_dies_no_acknowledged_purge_is_lost_and_entries_come_back() {
    let mut pair = Pair::start().await;
    let stage = on(&pair.url()).nodes(2).start().await;
    fill(&stage, 0..15).await;
    // A log that is all gone, or never came, begins anew: that is no loss of its end.
    let begins = async || pair.replica.text(&["XRANGE", "endcap:purges", "-", "+"]).await.contains("start");
    until("the replica has the log's beginning", begins).await;
    // These lines die with the master: the replica never gets them.
    pair.replica.pause();
    // Nor does it find them in what it has received and not yet read.
    pair.master.command(&["CLIENT", "KILL", "TYPE", "replica"]).await;
    purge_on(&stage, 0..5).await;
    pair.master.kill();
    pair.replica.resume();
    purge_on(&stage, 5..15).await;
    // By one of them: what it puts back is not missed by the other.
    let lost = async |node| stage.metric(node, "endcap_log_lost_total", &[]).await;
    until("the loss is noticed", async || lost(0).await + lost(1).await >= 1.0).await;
    let log = async || pair.replica.text(&["XRANGE", "endcap:purges", "-", "+"]).await;
    until("the lines are put back", async || log().await.contains("prod_4") || log().await.contains("lost")).await;
    nothing_is_lost(&stage, 0..15, &log().await).await;
    shares(&stage).await;
}

#[tokio::test]
async fn when_the_master_is_replaced_and_lives_on_its_successor_is_used() {
    let pair = Pair::start().await;
    let stage = on(&pair.url()).nodes(2).start().await;
    fill(&stage, 0..10).await;
    purge_on(&stage, 0..5).await;
    // It may not have heard of the replica for a while.
    until("it begins", async || pair.sentinel.try_command(&["SENTINEL", "FAILOVER", "shop"]).await.is_ok()).await;
    let replaced = async || pair.replica.text(&["ROLE"]).await.contains("master");
    until("the replica is master", replaced).await;
    until("the old one follows it", async || pair.master.text(&["ROLE"]).await.contains("slave")).await;
    purge_on(&stage, 5..10).await;
    let log = pair.replica.text(&["XRANGE", "endcap:purges", "-", "+"]).await;
    nothing_is_lost(&stage, 0..10, &log).await;
    shares(&stage).await;
}

/// A sentinel that names whatever listens at a port.
async fn names(port: &Arc<AtomicU16>) -> Topology {
    let port = Arc::clone(port);
    let fake = Fake::start(move |_| {
        let digits = port.load(Ordering::SeqCst).to_string();
        format!("*2\r\n$9\r\n127.0.0.1\r\n${}\r\n{digits}\r\n", digits.len())
    })
    .await;
    Topology::Sentinel { sentinels: vec![fake.address()], master: "shop".into() }
}

/// A sentinel that still names the old master leads to nobody.
#[tokio::test]
async fn a_replica_that_a_sentinel_names_is_not_taken_for_the_master() {
    let master = Server::start(&[]).await;
    let replica = replica_of(&master).await;
    let topology = names(&Arc::new(AtomicU16::new(replica.port))).await;
    let world = World::redis(&settings(topology, "test"), master.order());
    let refused = world.store.log_state(PurgeSeq::ZERO).await.unwrap_err();
    assert_eq!(refused.reason(), "l2_readonly", "{refused}");
    assert_eq!(world.store.get(key("/a")).await.unwrap_err().reason(), "l2_readonly");
}

/// Cut off from its successor, the old master answers on as if nothing had happened.
#[tokio::test]
async fn a_master_that_was_replaced_without_noticing_is_left_and_the_reader_of_the_log_is_told_once() {
    let (old, new) = (Server::start(&[]).await, Server::start(&[]).await);
    let named = Arc::new(AtomicU16::new(old.port));
    let world = World::redis(&settings(names(&named).await, "test"), old.order());
    world.store.put(key("/a"), bytes::Bytes::from_static(b"old"), KEEP).await.unwrap();
    let first = world.append("a").await;
    assert_eq!(world.store.log_state(first).await, Ok(LogState::Continues));
    assert_eq!(world.read(first, 10).await, Vec::<String>::new());
    named.store(new.port, Ordering::SeqCst);
    until("its successor is asked", async || world.store.get(key("/a")).await == Ok(None)).await;
    // The reader must look before it reads on: the successor has not what it has read.
    let moved = world.store.read_log(first, 10, NO_WAIT).await.unwrap_err();
    assert_eq!(moved.reason(), "l2_moved", "{moved}");
    assert_eq!(world.store.log_state(first).await, Ok(LogState::Lost(PurgeSeq::ZERO)));
    assert_eq!(world.store.read_log(first, 10, NO_WAIT).await, Err(StoreError::Gone));
    assert_eq!(world.read(PurgeSeq::ZERO, 10).await, Vec::<String>::new());
}
