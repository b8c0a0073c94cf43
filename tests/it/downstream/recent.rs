//! The last purges, end to end: when each was taken, read, applied, and told.

use endcap::clock::Clock;
use serde_json::{Value, json};

use super::{begun, settled, webhook};
use crate::stage::{Delivery, Stage};

async fn last_purges(stage: &Stage, node: usize) -> Vec<Value> {
    stage.status(node).await["last_purges"].as_array().unwrap().clone()
}

#[tokio::test]
async fn each_node_shows_when_a_purge_was_taken_read_applied_and_told() {
    let (provider, builder) = webhook().await;
    let stage = begun(builder.redis().await.nodes(2)).await;
    let hold = provider.hold("/hook");
    let now = stage.clock.now().as_millis();
    let reply = Delivery::event(&stage, "msg_1", "product.updated", "prod_1").send_to(&stage, 0).await;
    let position = reply.json()["seq"].clone();
    stage.applied(1, position.as_str().unwrap()).await;
    hold.arrived(1).await;
    let expected = |taken: Value, told: Value| {
        let (source, told) = ("default", json!({ "hook": told }));
        json!({
            "position": position, "source": source, "event_id": "msg_1", "tags": 3,
            "taken": taken, "read": now, "applied": now, "told": told,
        })
    };
    for (node, taken) in [(0, json!(now)), (1, Value::Null)] {
        assert_eq!(last_purges(&stage, node).await[0], expected(taken, Value::Null), "{node}");
    }
    stage.advance_secs(3);
    hold.release();
    for (node, taken) in [(0, json!(now)), (1, Value::Null)] {
        settled(&stage, node, "hook").await;
        assert_eq!(last_purges(&stage, node).await[0], expected(taken, json!(now + 3000)), "{node}");
    }
    for n in 0..20 {
        stage.purge("hard", &[&format!("prod_{n}")]).await;
    }
    assert_eq!(last_purges(&stage, 0).await.len(), 16);
}

#[tokio::test]
async fn a_purge_in_the_journal_is_shown_where_it_is_and_told_to_nobody_yet() {
    let (_provider, builder) = webhook().await;
    let mut stage = begun(builder.redis().await.journals()).await;
    stage.redis().kill();
    assert_eq!(stage.try_purge(0, "soft", &["prod_1"]).await.status, 202);
    let shown = last_purges(&stage, 0).await.remove(0);
    let now = json!(stage.clock.now().as_millis());
    assert!(shown["position"].as_str().unwrap().ends_with("+1"), "{shown}");
    assert_eq!((&shown["source"], &shown["tags"]), (&json!("operator"), &json!(1)));
    assert_eq!((&shown["taken"], &shown["read"], &shown["applied"]), (&now, &Value::Null, &now));
    assert_eq!(shown["told"], json!({ "hook": null }));
}
