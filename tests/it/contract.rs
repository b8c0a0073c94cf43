//! What every shared store promises, of the store in memory and of one Redis. `tests/redis` holds Redis behind
//! TLS, sentinels and in a cluster to the same.

use std::sync::Arc;

use endcap::clock::{ManualClock, Timestamp};
use endcap::policy::purge::PurgeSeq;
use endcap::store::LogState::{self, Lost};
use endcap::store::SharedStore;
use endcap::store::redis::Topology;

use crate::promises::{self, MINUTE, NO_WAIT, World, key, promises, settings};
use crate::stage::RedisServer;

async fn redis() -> World {
    let server = Arc::new(RedisServer::start().await);
    let settings = settings(Topology::Single(server.address()), "contract");
    let order = move |words: &[&str]| {
        let (server, words) = (Arc::clone(&server), words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        let command = async move {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            server.command(&words).await
        };
        futures_util::FutureExt::boxed(command)
    };
    World::redis(&settings, Box::new(order))
}

/// Runs each promise on both stores, as a test of its own name.
macro_rules! contract {
    ($($promise:ident)*) => {
        mod memory {
            $(#[tokio::test]
            async fn $promise() {
                super::promises::$promise(super::World::memory()).await;
            })*
        }
        mod redis {
            $(#[tokio::test]
            async fn $promise() {
                super::promises::$promise(super::redis().await).await;
            })*
        }
    };
}
promises!(contract);

/// Whoever can write to Redis may put anything there.
#[tokio::test]
async fn of_a_value_that_is_too_large_for_us_only_as_much_is_read_as_tells_it() {
    let server = RedisServer::start().await;
    let mut settings = settings(Topology::Single(server.address()), "large");
    settings.value_max = 1000;
    let store = promises::store(&settings, &Arc::new(ManualClock::at(Timestamp::default())));
    for (bytes, read) in [(1000, 1000), (1001, 1001), (5_000_000, 1001)] {
        store.put(key("/a"), vec![b'x'; bytes].into(), MINUTE).await.unwrap();
        assert_eq!(store.get(key("/a")).await.unwrap().unwrap().len(), read);
    }
    assert_eq!(store.get(key("/b")).await.unwrap(), None);
}

/// The store in memory cannot hold garbage.
#[tokio::test]
async fn garbage_in_the_stream_keeps_its_place() {
    let world = redis().await;
    world.append("a").await;
    for fields in [["v2", "{}"], ["v1", ""], ["v1", "17"], ["v1", "{}"], ["x", "y"]] {
        world.order("XADD", &[&["*"], &fields[..]].concat()).await;
    }
    world.append("b").await;
    assert_eq!(world.read(PurgeSeq::ZERO, 10).await, ["a", "?", "?", "?", "?", "?", "b"]);
}

/// The store in memory is not cut by its appends.
#[tokio::test]
async fn a_log_is_cut_behind_what_it_is_kept_for_and_no_sooner() {
    let world = redis().await;
    // Redis cuts off a hundred lines at a time.
    for _ in 0..250 {
        world.order("XADD", &["5-*", "v1", "{}"]).await;
    }
    let young: Vec<_> = (0..250).map(|_| promises::purge("young")).collect();
    world.store.append(&young, MINUTE).await.unwrap();
    world.store.append(&[promises::purge("last")], MINUTE).await.unwrap();
    let held = world.read(PurgeSeq::ZERO, 1000).await;
    let old = held.iter().filter(|line| *line == "?").count();
    assert!(old < 100, "{old} of 250 that are too old");
    assert_eq!(held.len() - old, 251, "and all that is not");
}

/// The store in memory loses its log with the process.
#[tokio::test]
async fn a_new_reader_is_told_how_far_a_log_had_come_that_is_gone() {
    let world = redis().await;
    let state = async || world.store.log_state(PurgeSeq::ZERO).await.unwrap();
    let first = world.append("a").await;
    let last = world.append("b").await;
    assert_eq!(state().await, LogState::Trimmed(first));
    world.order("DEL", &[]).await;
    assert_eq!(state().await, LogState::Lost(last));
    world.order("XADD", &["5-0", "v1", "{}"]).await;
    world.append("c").await;
    assert_eq!(state().await, LogState::Trimmed(PurgeSeq::new(5, 0).unwrap()), "it is past that again");
    world.order("DEL", &[]).await;
    world.order("XADD", &["5-0", "v1", "{}"]).await;
    let Lost(last) = state().await else { panic!("it fell back") };
    assert!(world.store.restore(last.next_shared(), &promises::purge("lost"), MINUTE).await.unwrap());
    assert_eq!(state().await, LogState::Trimmed(PurgeSeq::new(5, 0).unwrap()));
    world.order("DEL", &[]).await;
    assert_eq!(state().await, LogState::Lost(last.next_shared()));
}

/// Whoever can write to Redis may put anything there, and a node must not wait for ever to read a log that is well.
#[tokio::test]
async fn what_is_no_mark_under_its_key_is_none() {
    let server = RedisServer::start().await;
    let settings = settings(Topology::Single(server.address()), "marked");
    let store = promises::store(&settings, &Arc::new(ManualClock::at(Timestamp::default())));
    server.command(&["SET", "marked:mark:{marked:purges}", "x"]).await;
    assert_eq!(store.log_state(PurgeSeq::ZERO).await, Ok(LogState::Continues));
    let first = store.append(&[promises::purge("a")], MINUTE).await.unwrap()[0];
    assert_eq!(store.log_state(PurgeSeq::ZERO).await, Ok(LogState::Trimmed(first)));
}

#[tokio::test]
async fn a_log_with_an_id_that_redis_never_made_is_an_error_and_no_loop() {
    let world = redis().await;
    world.order("XADD", &["5-9999999999999999", "x", "y"]).await;
    let error = world.store.read_log(PurgeSeq::ZERO, 10, NO_WAIT).await.unwrap_err().to_string();
    assert!(error.contains("5-9999999999999999") && error.contains("delete the stream"), "{error}");
}
