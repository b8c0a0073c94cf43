//! A Redis that evicts: what goes of ours is harmless, and where the log could go, that is told.

use endcap::policy::purge::PurgeSeq;
use endcap::store::redis::Topology;

use crate::promises::{KEEP, MINUTE, World, key, settings};
use crate::servers::{Server, on};
use crate::stage::until;

const LIST: &str = "/store/products";

#[tokio::test]
async fn a_policy_that_could_evict_the_log_is_told_with_its_remedy() {
    let server = Server::start(&["--maxmemory", "100mb", "--maxmemory-policy", "volatile-lru"]).await;
    let stage = on(&server.url()).start().await;
    let warning = async || stage.status(0).await["purges"]["warning"].clone();
    let said = warning().await.to_string();
    assert!(said.contains("(volatile-lru)") && said.contains("volatile-ttl or noeviction"), "{said}");
    assert_eq!(stage.metric(0, "endcap_log_evictable", &[]).await, 1.0);
    // Mended, and looked at again with the next connection.
    server.command(&["CONFIG", "SET", "maxmemory-policy", "volatile-ttl"]).await;
    server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
    until("the warning is gone", async || warning().await.is_null()).await;
    assert_eq!(stage.metric(0, "endcap_log_evictable", &[]).await, 0.0);
}

#[tokio::test]
async fn entries_that_were_evicted_are_missed_and_the_log_stays() {
    let server = Server::start(&["--maxmemory", "8mb", "--maxmemory-policy", "volatile-ttl"]).await;
    let world = World::redis(&settings(Topology::Single(server.address()), "test"), server.order());
    world.store.append(&[crate::promises::purge("a")], KEEP).await.unwrap();
    let body = |n: usize| bytes::Bytes::from(n.to_string().repeat(20_000));
    for n in 0..300 {
        world.store.put(key(&format!("/{n}")), body(n), MINUTE).await.unwrap();
    }
    let mut held = 0;
    for n in 0..300 {
        let found = world.store.get(key(&format!("/{n}"))).await.unwrap();
        assert!(found.as_ref().is_none_or(|found| *found == body(n)), "{n}");
        held += usize::from(found.is_some());
    }
    assert!((1..300).contains(&held), "{held} of 300");
    assert_eq!(world.read(PurgeSeq::ZERO, 10).await, ["a"]);
}

#[tokio::test]
async fn a_redis_without_a_bound_gives_no_warning() {
    let server = Server::start(&["--maxmemory-policy", "allkeys-lru"]).await;
    let stage = on(&server.url()).start().await;
    assert!(stage.status(0).await["purges"]["warning"].is_null());
    assert_eq!(stage.metric(0, "endcap_log_evictable", &[]).await, 0.0);
}

#[tokio::test]
async fn a_log_that_was_evicted_is_found_out_and_put_back() {
    let server = Server::start(&["--maxmemory-policy", "volatile-lru"]).await;
    let stage = on(&server.url()).nodes(2).start().await;
    let said = stage.purge("hard", &["list:region"]).await;
    stage.applied(1, said["seq"].as_str().unwrap()).await;
    stage.get(LIST).await;
    stage.settled(0).await;
    // Somebody else's keys, that live for ever, press everything of ours out.
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let is_there = async || server.text(&["EXISTS", "endcap:purges"]).await == "int(1)";
    until("the log is gone", async || {
        drop(server.try_command(&["SET", "other", "x"]).await);
        !is_there().await
    })
    .await;
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    until("the log is back", async || {
        // Whoever comes later must refill what it named; who cannot tell what that was puts back more.
        let log = server.text(&["XRANGE", "endcap:purges", "-", "+"]).await;
        ["list:region", "all"].iter().any(|tag| log.contains(&format!("{tag}\\\"]")))
    })
    .await;
    let lost = async |node| stage.metric(node, "endcap_log_lost_total", &[]).await;
    assert!(lost(0).await + lost(1).await >= 1.0);
    // Purges come through as before, to both.
    stage.origin.publish(2);
    let said = stage.purge("hard", &["list:product"]).await;
    for node in [0, 1] {
        stage.applied(node, said["seq"].as_str().unwrap()).await;
        assert_eq!(stage.get_from(node, LIST).await.version(), 2);
    }
}
