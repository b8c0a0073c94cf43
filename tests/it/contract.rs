//! What every shared store promises, of the store in memory and of one Redis. `tests/redis` holds Redis behind
//! TLS, sentinels and in a cluster to the same.

use std::sync::Arc;

use endcap::policy::purge::PurgeSeq;
use endcap::store::redis::Topology;

use crate::promises::{self, NO_WAIT, World, promises, settings};
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

/// The store in memory cannot hold garbage.
#[tokio::test]
async fn garbage_in_the_stream_keeps_its_place() {
    let world = redis().await;
    world.append("a").await;
    for fields in [&["v", "2", "p", "{}"][..], &["v", "1"], &["v", "1", "p", "17"], &["x", "y"]] {
        world.order("XADD", &[&["*"], fields].concat()).await;
    }
    world.append("b").await;
    assert_eq!(world.read(PurgeSeq::ZERO, 10).await, ["a", "?", "?", "?", "?", "b"]);
}

#[tokio::test]
async fn a_log_with_an_id_that_redis_never_made_is_an_error_and_no_loop() {
    let world = redis().await;
    world.order("XADD", &["5-9999999999999999", "x", "y"]).await;
    let error = world.store.read_log(PurgeSeq::ZERO, 10, NO_WAIT).await.unwrap_err().to_string();
    assert!(error.contains("5-9999999999999999") && error.contains("delete the stream"), "{error}");
}
