//! Purges while the log cannot be reached: safe on this node's disk, and in the log when it is back.
//! Invariant: an acknowledged purge is never lost.

use crate::stage::{Delivery, Stage, until, within};

const PRODUCT: &str = "/store/products/prod_1";

async fn hook(stage: &Stage, node: usize, id: &str) -> (u16, serde_json::Value) {
    let reply = Delivery::event(stage, id, "product.updated", "prod_1").send_to(stage, node).await;
    (reply.status, reply.json())
}

/// What the log says, as an operator sees it.
async fn log(stage: &mut Stage) -> String {
    format!("{:?}", stage.redis().command(&["XRANGE", "endcap:purges", "-", "+"]).await)
}

#[tokio::test]
async fn a_purge_while_redis_is_gone_is_safe_and_comes_into_the_log() {
    let mut stage = Stage::new().redis().await.journals().nodes(2).start().await;
    stage.get(PRODUCT).await;
    stage.redis().kill();
    stage.origin.publish(2);
    let (status, body) = hook(&stage, 0, "msg_1").await;
    assert_eq!((status, &body["durable"]), (202, &"journal".into()), "{body}");
    assert_eq!(body.get("position"), Some(&serde_json::Value::Null), "no other node could tell whether it is past it");
    stage.advance_secs(1);
    let (status, again) = hook(&stage, 0, "msg_1").await;
    assert_eq!((status, &again["durable"], &again["duplicate"]), (202, &"journal".into(), &true.into()), "{again}");
    assert_eq!(stage.get(PRODUCT).await.version(), 2, "applied here before it was acknowledged");
    assert_eq!(stage.status(0).await["purges"]["journaled"], 1);
    assert_eq!(stage.metric(0, "endcap_journaled_purges", &[]).await, 1.0);
    assert_eq!(stage.metric(0, "endcap_purge_orders_total", &[("result", "journaled")]).await, 1.0);
    let by_hand = stage.try_purge(0, "hard", &["prod_2"]).await;
    assert_eq!((by_hand.status, by_hand.json().get("position")), (202, Some(&serde_json::Value::Null)));
    stage.redis().run().await;
    until("the journal is empty", async || stage.status(0).await["purges"]["journaled"] == 0).await;
    assert_eq!(stage.metric(0, "endcap_journal_replayed_total", &[]).await, 2.0);
    let log = log(&mut stage).await;
    assert!(log.contains("msg_1") && log.contains("prod_1"), "{log}");
    // And the other way is open again.
    until("the log takes purges", async || {
        let (status, body) = hook(&stage, 1, &format!("msg_{}", stage.origin.total())).await;
        stage.get("/store/carts/cart_1").await;
        // The log is spared for a second after each failure.
        stage.advance_secs(1);
        assert_eq!(body["position"].is_string(), status == 200, "{body}");
        (status, &body["durable"]) == (200, &"log".into())
    })
    .await;
}

#[tokio::test]
async fn a_journal_outlives_its_node() {
    let mut stage = Stage::new().redis_absent().journals().start().await;
    for id in ["msg_1", "msg_2", "msg_3"] {
        assert_eq!(hook(&stage, 0, id).await.0, 202);
    }
    stage.restart(0).await;
    assert_eq!(stage.status(0).await["purges"]["journaled"], 3);
    stage.redis().run().await;
    within(stage.node(0).ready()).await;
    until("the journal is empty", async || stage.status(0).await["purges"]["journaled"] == 0).await;
    let log = log(&mut stage).await;
    let places: Vec<_> = ["msg_1", "msg_2", "msg_3"].iter().map(|id| log.find(id)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "in their order: {log}");
}

#[tokio::test]
async fn what_a_damaged_journal_may_have_said_is_deleted_and_counted() {
    let mut stage = Stage::new().redis_absent().journals().start().await;
    for id in ["msg_1", "msg_2"] {
        assert_eq!(hook(&stage, 0, id).await.0, 202);
    }
    let path = stage.journal(0).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let at = memchr::memmem::find(&bytes, b"msg_2").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    stage.restart(0).await;
    assert_eq!(stage.metric(0, "endcap_journal_damaged_total", &[]).await, 1.0);
    stage.redis().run().await;
    until("the journal is empty", async || stage.status(0).await["purges"]["journaled"] == 0).await;
    let log = log(&mut stage).await.replace('\\', "");
    assert!(log.contains("msg_1") && log.contains(r#""delete":["all"]"#), "{log}");
}

#[tokio::test]
async fn a_full_journal_pretends_nothing() {
    let mut stage = Stage::new().redis_absent().journals().also("[purge]\njournal_max = \"4KiB\"\n").start().await;
    let mut taken = 0;
    let refused = loop {
        let reply = Delivery::event(&stage, &format!("msg_{taken}"), "product.updated", "prod_1").send(&stage).await;
        if reply.status != 202 {
            break reply;
        }
        taken += 1;
        assert!(taken < 100, "it never fills");
    };
    assert_eq!((refused.status, refused.field("retry-after")), (503, "1".to_owned()));
    assert!(taken > 10);
    assert_eq!(stage.metric(0, "endcap_purge_orders_total", &[("result", "not_journaled")]).await, 1.0);
    stage.redis().run().await;
    until("the journal is empty", async || stage.status(0).await["purges"]["journaled"] == 0).await;
    assert_eq!(stage.metric(0, "endcap_journal_replayed_total", &[]).await, f64::from(taken));
}

/// The other nodes do not know of the purge, so what they share is not to be trusted.
#[tokio::test]
async fn nothing_is_taken_from_other_nodes_before_they_can_know_what_this_one_was_told() {
    let mut stage = Stage::new().redis().await.journals().nodes(2).start().await;
    // The log alone is out of order; entries go to and fro.
    stage.redis().command(&["SET", "endcap:purges", "a string"]).await;
    stage.origin.publish(2);
    assert_eq!(hook(&stage, 0, "msg_1").await.0, 202);
    // Filled after the commit by accident; it might as well be from before.
    stage.get_from(1, PRODUCT).await;
    stage.metric_reaches(1, "endcap_l2_writes_total", &[("result", "ok")], 1.0).await;
    assert_eq!(stage.get(PRODUCT).await.detail(), "miss");
    assert_eq!(stage.metric(0, "endcap_l2_reads_total", &[("result", "l2_unready")]).await, 1.0);
    stage.redis().command(&["DEL", "endcap:purges"]).await;
    until("the journal is empty", async || stage.status(0).await["purges"]["journaled"] == 0).await;
}

#[tokio::test]
async fn a_journal_that_cannot_be_used_stops_the_start() {
    let stage = Stage::new().redis().await.journals().start().await;
    let again = std::panic::AssertUnwindSafe(|| stage.start_node(0));
    let panic = std::panic::catch_unwind(again).map(drop).unwrap_err();
    let text = panic.downcast_ref::<String>().expect("a message");
    assert!(text.contains("purge.journal") && text.contains("another process has it"), "{text}");
}
