//! Nodes that share a tier in memory.

mod canary;

use std::sync::Mutex;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, header};

use super::*;
use crate::clock::ManualClock;
use crate::origin::{OriginBody, OriginError, Purpose};
use crate::policy::purge::{Mode, Purge, PurgeIndex, PurgeSeq};
use crate::policy::route::tests::rule;
use crate::store::faulty::{Fault, FaultyStore};
use crate::store::{Lease, LeaseToken};

/// Says one thing, or nothing.
#[derive(Debug, Default)]
struct Says {
    said: Mutex<Option<&'static str>>,
    /// The paths that it was asked for, and when.
    asked: Mutex<Vec<(String, tokio::time::Instant)>>,
}

impl Origin for Says {
    fn send(&self, request: Request<Body>, _: Purpose) -> BoxFuture<'_, Result<Response<OriginBody>, OriginError>> {
        self.asked.lock().unwrap().push((request.uri().path().to_owned(), tokio::time::Instant::now()));
        let said = self.said.lock().unwrap().ok_or(OriginError::ConnectTimeout).map(|body| {
            let mut answer = Response::new(OriginBody::from(Bytes::from_static(body.as_bytes())));
            answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            answer
        });
        std::future::ready(said).boxed()
    }
}

struct Nodes {
    origin: Arc<Says>,
    clock: Arc<ManualClock>,
    store: Arc<FaultyStore>,
}

impl Nodes {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_000_000)));
        let store = Arc::new(FaultyStore::new(Arc::<ManualClock>::clone(&clock)));
        Self { origin: Arc::default(), clock, store }
    }

    /// A node that has just started.
    fn start(&self) -> Arc<Fill> {
        self.start_with(None)
    }

    fn start_with(&self, max_blind: Option<Duration>) -> Arc<Fill> {
        self.start_as(max_blind, settings())
    }

    fn start_as(&self, max_blind: Option<Duration>, settings: FillSettings) -> Arc<Fill> {
        let index = PurgeIndex::new(Duration::from_secs(2), 1000, Duration::from_secs(9999));
        Fill::new(
            Arc::<Says>::clone(&self.origin),
            L1::new(1 << 20),
            Some(Arc::<FaultyStore>::clone(&self.store)),
            Codec::new(None, 1 << 20, 1 << 20),
            Arc::new(Purges::new(index, max_blind)),
            Arc::<ManualClock>::clone(&self.clock),
            Metrics::new(&[Arc::new(rule())]),
            Tasks::new(),
            settings,
        )
    }
}

fn settings() -> FillSettings {
    FillSettings {
        object_max: 1 << 20,
        pass_marker_ttl: Duration::from_secs(1),
        error_ttl: Duration::from_secs(1),
        jitter: 0.0,
        shared_max: Duration::from_secs(9999),
        soft_grace: Duration::from_secs(2),
        echo: Duration::ZERO,
        canary: Duration::ZERO,
        hot_refill: 0,
        refreshes_max: 32,
        lease_ttl: Duration::from_secs(10),
        lease_wait: Duration::from_secs(2),
        compression: Compression::default(),
        in_flight: 8 << 20,
        seed: 1,
    }
}

async fn get(fill: &Arc<Fill>) -> Landed {
    let rule = Arc::new(rule());
    let key = Key::of_request(&rule, "/store/products", None, "", &HeaderMap::new()).unwrap();
    match fill.once(fill.find(&rule, &key, &HeaderMap::new()).0, None, &Interim::nowhere()).await {
        Filled::Landed { landed, .. } => landed,
        other => panic!("{other:?}"),
    }
}

async fn body(fill: &Arc<Fill>) -> Bytes {
    match get(fill).await {
        Landed::Entry { entry, .. } => entry.body.clone(),
        other => panic!("{other:?}"),
    }
}

async fn shared(nodes: &Nodes, fill: &Fill) {
    // The other nodes come after those who wait.
    fill.tasks.stop().await;
    let key = Key::of_request(&rule(), "/store/products", None, "", &HeaderMap::new()).unwrap();
    assert!(nodes.store.get(key.hash()).await.unwrap().is_some());
}

/// Restarted, a node listens before it has read the log.
#[tokio::test]
async fn a_node_that_has_not_read_the_log_takes_nothing_from_the_shared_tier() {
    let nodes = Nodes::new();
    *nodes.origin.said.lock().unwrap() = Some("1");
    let before = nodes.start();
    assert_eq!(body(&before).await, "1");
    shared(&nodes, &before).await;
    let purge = Purge { tags: vec![("list:product".into(), Mode::Hard)], ..Purge::default() };
    let seq = nodes.store.append(std::slice::from_ref(&purge), Duration::from_secs(99)).await.unwrap()[0];
    *nodes.origin.said.lock().unwrap() = Some("2");
    let restarted = nodes.start();
    assert_eq!(body(&restarted).await, "2");
    let read = nodes.start();
    read.purges.apply(seq, purge.into(), nodes.clock.now());
    read.purges.confirmed(nodes.clock.now());
    assert_eq!(body(&read).await, "2");
    assert!(seq > PurgeSeq::ZERO);
}

/// Ten thousand requests at once make Redis late, and it has heard the question all the same.
#[tokio::test]
async fn who_has_no_answer_about_a_lease_finds_out_whether_it_is_his() {
    let nodes = Nodes::new();
    *nodes.origin.said.lock().unwrap() = Some("1");
    let node = nodes.start();
    node.purges.confirmed(nodes.clock.now());
    nodes.store.set(Some(Fault::LateLease));
    assert_eq!(body(&node).await, "1");
    let turns = |turn| node.metrics.fills.leases.with_label_values(&[turn]).get();
    assert_eq!(["leads", "error", "timeout"].map(turns), [1, 0, 0]);
    shared(&nodes, &node).await;
    let key = Key::of_request(&rule(), "/store/products", None, "", &HeaderMap::new()).unwrap();
    assert_eq!(nodes.store.leased(key.hash(), LeaseToken(1)).await, Ok(Lease::Free), "it was given back");
}

/// Its clock may be ahead of ours, so that its fill seems to have begun just now.
#[tokio::test]
async fn a_blind_node_does_not_trust_what_another_node_filled() {
    let nodes = Nodes::new();
    *nodes.origin.said.lock().unwrap() = Some("1");
    let other = nodes.start();
    body(&other).await;
    shared(&nodes, &other).await;
    *nodes.origin.said.lock().unwrap() = Some("2");
    let max_blind = Duration::from_secs(5);
    let sees = nodes.start_with(Some(max_blind));
    sees.purges.confirmed(nodes.clock.now());
    assert_eq!(body(&sees).await, "1");
    let blind = nodes.start_with(Some(Duration::ZERO));
    blind.purges.confirmed(nodes.clock.now());
    assert_eq!(body(&blind).await, "2");
}

#[tokio::test]
async fn what_the_shared_tier_alone_has_serves_when_the_origin_fails() {
    let nodes = Nodes::new();
    *nodes.origin.said.lock().unwrap() = Some("1");
    let before = nodes.start();
    body(&before).await;
    shared(&nodes, &before).await;
    nodes.clock.advance(Duration::from_secs(120 + 600 + 1));
    *nodes.origin.said.lock().unwrap() = None;
    let restarted = nodes.start();
    restarted.purges.confirmed(nodes.clock.now());
    let Landed::Failed { previous, .. } = get(&restarted).await else { panic!("the origin failed") };
    assert!(restarted.usable_on_error(&previous.expect("what the shared tier had"), nodes.clock.now()));
}
