//! Who we are to Redis: the rights that the documents tell users to give are enough, and none is too many.

use endcap::policy::purge::PurgeSeq;
use endcap::store::redis::{Credentials, RedisSettings, Topology};
use endcap::store::{LeaseToken, StoreError};

use crate::promises::{KEEP, MINUTE, NO_WAIT, World, key, purge, settings};
use crate::servers::{Server, has_opened, keeps_all_promises, on};
use crate::stage::until;

const LIST: &str = "/store/products";

/// The rule from the documents, in words; for another namespace and with a password of the test's.
fn documented(namespace: &str) -> Vec<String> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/README.md")).unwrap();
    let line = text.lines().find(|line| line.starts_with("ACL SETUSER endcap ")).expect("the documents give the rule");
    let words = line.replace("~endcap:*", &format!("~{namespace}:*")).replace(">PASSWORD", ">secret");
    words.split(' ').map(str::to_owned).collect()
}

async fn grant(server: &Server, words: &[String]) {
    server.command(&words.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

fn as_user(server: &Server, namespace: &str) -> RedisSettings {
    let mut settings = settings(Topology::Single(server.address()), namespace);
    settings.credentials = Credentials { username: Some("endcap".into()), password: Some("secret".into()) };
    settings
}

#[tokio::test]
async fn the_documented_user_may_do_all_that_is_done_and_nothing_else() {
    let server = Server::start(&[]).await;
    // Each promise has a namespace of its own.
    grant(&server, &documented("*")).await;
    server.command(&["ACL", "SETUSER", "default", "allkeys", "allcommands"]).await;
    let of_database = |database| {
        let server = &server;
        move |namespace: &str| RedisSettings { database, ..as_user(server, namespace) }
    };
    keeps_all_promises(of_database(0), || server.order()).await;
    // What the promises do not need: a database, replicas, sentinels.
    let mut waiting = RedisSettings { wait_replicas: 1, ..of_database(3)("waits") };
    waiting.wait_timeout = std::time::Duration::from_millis(1);
    let world = World::redis(&waiting, server.order());
    let refused = world.store.append(&[purge("a")], KEEP).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unreplicated(..)), "{refused}");
    assert_eq!(server.text(&["ACL", "LOG"]).await, "array([])");

    let used = server.text(&["INFO", "commandstats"]).await;
    for right in documented("*").iter().filter_map(|word| word.strip_prefix('+')) {
        // These are for clusters; their own tests would fail without them.
        let elsewhere = ["asking", "cluster|slots"].contains(&right);
        assert!(elsewhere || used.contains(&format!("cmdstat_{right}:")), "{right} is never used");
    }
}

#[tokio::test]
async fn a_missing_right_is_a_miss_or_a_refusal_with_its_reason_and_opens_no_breaker() {
    let server = Server::start(&[]).await;
    let mut rule = documented("test");
    rule.retain(|word| !["+xadd", "+getrange", "+role"].contains(&word.as_str()));
    grant(&server, &rule).await;
    let world = World::redis(&as_user(&server, "test"), server.order());
    for _ in 0..20 {
        let refused = world.store.get(key("/a")).await.unwrap_err();
        assert_eq!(refused.reason(), "l2_credentials", "{refused}");
    }
    assert_eq!(world.store.append(&[purge("a")], KEEP).await.unwrap_err().reason(), "l2_credentials");
    // The rest is allowed, and asked for.
    world.store.put(key("/a"), bytes::Bytes::from_static(b"x"), MINUTE).await.unwrap();
    assert!(world.store.lease(key("/a"), LeaseToken(1), MINUTE).await.unwrap());
    for _ in 0..2 {
        assert_eq!(world.store.read_log(PurgeSeq::ZERO, 1, NO_WAIT).await, Ok(vec![]));
    }
    let refused = server.text(&["ACL", "LOG"]).await;
    assert_eq!(refused.matches("\"role\"").count(), 1, "asked once, and not again: {refused}");
}

#[tokio::test]
async fn a_password_that_is_missing_or_wrong_leaves_the_node_serving_until_it_is_right() {
    let server = Server::with_password("right").await;
    for url in [server.url(), server.url().replace("://", "://:wrong@")] {
        let stage = on(&url).unready().start().await;
        assert_eq!(stage.get(LIST).await.detail(), "miss");
        let refused = stage.try_purge(0, "hard", &["list:product"]).await;
        assert_eq!(refused.status, 503);
        assert!(refused.text().contains("does not let us in"), "{}", refused.text());
        assert_eq!(stage.get(LIST).await.detail(), "miss", "applied here all the same");
        assert_eq!(stage.ops(0, "GET", "/readyz", &[], b"").await.status, 503);
        assert!(!has_opened(&stage).await);
    }
    let stage = on(&server.url().replace("://", "://:right@")).start().await;
    stage.purge("hard", &["list:product"]).await;
    // Changed under a running node, it is asked for at the next connection.
    server.command(&["ACL", "SETUSER", "default", "resetpass", ">new", ">right"]).await;
    server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
    until("it is let in again", async || stage.try_purge(0, "hard", &["list:product"]).await.status == 200).await;
}
