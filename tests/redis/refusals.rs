//! A Redis that answers with errors, or with nonsense. On the read path that is a miss with a reason, on the purge
//! path it goes to the sender; the breaker is for silence and broken connections alone.

use std::sync::atomic::Ordering;

use endcap::policy::purge::PurgeSeq;
use endcap::store::redis::Topology;
use endcap::store::{LeaseToken, SharedStore, StoreError};

use crate::fake::Fake;
use crate::promises::{KEEP, MINUTE, NO_WAIT, key, purge, settings, store};
use crate::servers::{Server, has_opened, on, shares};
use crate::stage::{until, within};

const LIST: &str = "/store/products";

#[tokio::test]
async fn a_full_redis_takes_no_entries_and_no_purges_and_gives_what_it_has() {
    let server = Server::start(&["--maxmemory-policy", "noeviction"]).await;
    let stage = on(&server.url()).nodes(2).start().await;
    stage.get(LIST).await;
    stage.metric_reaches(0, "endcap_l2_writes_total", &[("result", "ok")], 1.0).await;
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    assert_eq!(stage.get_from(1, LIST).await.detail(), "hit_l2");
    assert_eq!(stage.get("/store/regions").await.detail(), "miss");
    stage.metric_reaches(0, "endcap_l2_writes_total", &[("result", "l2_full")], 1.0).await;
    let refused = stage.try_purge(0, "hard", &["list:product"]).await;
    assert_eq!(refused.status, 503);
    assert!(refused.text().contains("Redis is full"), "{}", refused.text());
    assert_eq!(stage.get(LIST).await.detail(), "miss", "applied here all the same");
    for n in 0..10 {
        stage.get(&format!("/store/products/prod_{n}")).await;
    }
    assert!(!has_opened(&stage).await, "it is alive: the breaker stays closed");
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    stage.purge("hard", &["list:product"]).await;
    shares(&stage).await;
}

/// What a server refuses with, and our word for it.
const REFUSALS: [(&str, &str); 11] = [
    ("-LOADING Redis is loading the dataset in memory\r\n", "l2_loading"),
    ("-READONLY You can't write against a read only replica.\r\n", "l2_readonly"),
    ("-MASTERDOWN Link with MASTER is down\r\n", "l2_readonly"),
    ("-OOM command not allowed when used memory > 'maxmemory'.\r\n", "l2_full"),
    ("-NOAUTH Authentication required.\r\n", "l2_credentials"),
    ("-NOPERM this user has no permissions\r\n", "l2_credentials"),
    ("-WRONGTYPE Operation against a key holding the wrong kind of value\r\n", "l2_type"),
    ("-CLUSTERDOWN The cluster is down\r\n", "l2_moved"),
    ("-TRYAGAIN Multiple keys request during rehashing of slot\r\n", "l2_moved"),
    ("-NOREPLICAS Not enough good replicas to write.\r\n", "l2_replicas"),
    ("-ERR something else\r\n", "l2_error"),
];

#[tokio::test]
async fn each_refusal_has_its_reason_on_every_path_and_none_opens_the_breaker() {
    let clock = std::sync::Arc::default();
    for (answer, reason) in REFUSALS {
        let fake = Fake::start(move |_| answer.to_owned()).await;
        let store = store(&settings(Topology::Single(fake.address()), "test"), &clock);
        for _ in 0..10 {
            // One that gives up its connection waits a moment before it makes another, and says the same meanwhile.
            assert_eq!(store.get(key("/a")).await.unwrap_err().reason(), reason);
        }
        let value = bytes::Bytes::from_static(b"x");
        assert_eq!(store.put(key("/a"), value, MINUTE).await.unwrap_err().reason(), reason);
        assert_eq!(store.lease(key("/a"), LeaseToken(1), MINUTE).await.unwrap_err().reason(), reason);
        assert_eq!(store.leased(key("/a"), LeaseToken(1)).await.unwrap_err().reason(), reason);
        assert_eq!(store.release(key("/a"), LeaseToken(1), None).await.unwrap_err().reason(), reason);
        assert_eq!(store.append(&[purge("a")], KEEP).await.unwrap_err().reason(), reason);
        assert_eq!(store.restore(PurgeSeq::new(5, 0).unwrap(), &purge("a"), KEEP).await.unwrap_err().reason(), reason);
        assert_eq!(store.read_log(PurgeSeq::ZERO, 10, NO_WAIT).await.unwrap_err().reason(), reason);
        assert_eq!(store.log_state(PurgeSeq::ZERO).await.unwrap_err().reason(), reason);
    }
}

#[tokio::test]
async fn nonsense_is_an_error_and_no_panic() {
    let clock = std::sync::Arc::default();
    let id = "*1\r\n*2\r\n$3\r\nabc\r\n*2\r\n$1\r\nv\r\n$1\r\n1\r\n";
    for answer in [
        ":17\r\n",
        "+WHAT\r\n",
        "*-1\r\n",
        "*0\r\n",
        "*1\r\n$-1\r\n",
        "*1\r\n*0\r\n",
        "*1\r\n*1\r\n*1\r\n:1\r\n",
        id,
        "$3\r\n\u{7f}\0\n\r\n",
        "what is this\r\n",
        "*2\r\n:1\r\n:2\r\n",
        "-\r\n",
        "-MOVED\r\n",
        "-MOVED 1 a\r\n",
        "-ASK x y:z\r\n",
    ] {
        let fake = Fake::start(move |_| answer.to_owned()).await;
        let store = store(&settings(Topology::Single(fake.address()), "test"), &clock);
        // Whatever comes of it, it comes.
        drop(within(store.get(key("/a"))).await);
        drop(within(store.leased(key("/a"), LeaseToken(1))).await);
        drop(within(store.lease(key("/a"), LeaseToken(1), MINUTE)).await);
        drop(within(store.release(key("/a"), LeaseToken(1), None)).await);
        drop(within(store.read_log(PurgeSeq::ZERO, 10, NO_WAIT)).await);
        drop(within(store.log_state(PurgeSeq::ZERO)).await);
        assert!(within(store.append(&[purge("a")], KEEP)).await.is_err(), "{answer:?}");
    }
}

#[tokio::test]
async fn a_redirection_that_never_ends_is_given_up() {
    let clock = std::sync::Arc::default();
    for word in ["MOVED", "ASK"] {
        let fake = Fake::start(move |words| match words {
            // Back to where it was sent: an empty host is the one that was asked.
            [first, ..] if first == "ASKING" => "+OK\r\n".to_owned(),
            _ => format!("-{word} 1 :{}\r\n", PORT.load(Ordering::SeqCst)),
        })
        .await;
        PORT.store(usize::from(fake.port), Ordering::SeqCst);
        let store = store(&settings(Topology::Single(fake.address()), "test"), &clock);
        assert_eq!(within(store.get(key("/a"))).await.unwrap_err().reason(), "l2_moved");
        assert_eq!(within(store.append(&[purge("a")], KEEP)).await.unwrap_err().reason(), "l2_moved");
        assert_eq!(within(store.log_state(PurgeSeq::ZERO)).await.unwrap_err().reason(), "l2_moved");
        // Of each, at most four times: one command, four, and four, with an ASKING before each.
        let asked = fake.asked.load(Ordering::SeqCst);
        assert!(asked <= 4 * 2 * (1 + 4 + 4) + 10, "{word}: {asked}");
    }
}
static PORT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

/// A broken connection opens the breaker, and is not made anew in a loop.
#[tokio::test]
async fn a_server_that_hangs_up_at_once_is_not_stormed() {
    let clock = std::sync::Arc::default();
    let fake = Fake::start(|_| String::new()).await;
    let store = store(&settings(Topology::Single(fake.address()), "test"), &clock);
    let mut last = StoreError::Timeout;
    for _ in 0..1000 {
        last = store.get(key("/a")).await.unwrap_err();
    }
    assert_eq!(last, StoreError::Open);
    for _ in 0..1000 {
        assert!(matches!(store.append(&[purge("a")], KEEP).await, Err(StoreError::Connection(_))));
    }
    let connections = fake.connections.load(Ordering::SeqCst);
    assert!(connections < 100, "{connections} connections for 2000 commands");
}

#[tokio::test]
async fn a_redis_that_is_loading_leaves_a_node_serving_and_is_used_when_it_is_done() {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    let is_loading = Arc::new(AtomicBool::new(true));
    let loads = Arc::clone(&is_loading);
    let fake = Fake::start(move |words| match words[0].as_str() {
        _ if loads.load(Ordering::SeqCst) => "-LOADING Redis is loading the dataset in memory\r\n".to_owned(),
        "XADD" => "$3\r\n5-1\r\n".to_owned(),
        "XRANGE" if words[2] == "5-1" => "*1\r\n*2\r\n$3\r\n5-1\r\n*2\r\n$2\r\nv1\r\n$2\r\n{}\r\n".to_owned(),
        "XREVRANGE" | "XRANGE" => "*0\r\n".to_owned(),
        "PEXPIRE" => ":1\r\n".to_owned(),
        _ => "$-1\r\n".to_owned(),
    })
    .await;
    let stage = on(&format!("redis://127.0.0.1:{}", fake.port)).unready().start().await;
    assert_eq!(stage.get(LIST).await.detail(), "miss");
    let refused = stage.try_purge(0, "hard", &["list:product"]).await;
    assert_eq!(refused.status, 503);
    assert!(refused.text().contains("loading"), "{}", refused.text());
    is_loading.store(false, Ordering::SeqCst);
    until("the node is ready", async || stage.ops(0, "GET", "/readyz", &[], b"").await.status == 200).await;
}
