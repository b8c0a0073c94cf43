//! Webhooks: who is believed, what they purge, and what their 2xx means.

use endcap::clock::Clock;
use serde_json::json;

use crate::stage::{Answer, Delivery, Stage};

const OTHER_SECRET: &str = "whsec_c29tZWJvZHkgZWxzZSdzIHNlY3JldCwgbm90IG91cnM=";
const PRODUCT: &str = "/store/products/prod_1";

async fn shop() -> Stage {
    let stage = Stage::new().start().await;
    stage.origin.answer(PRODUCT, Answer::json(r#"{"product":{"id":"prod_1"}}"#));
    stage.get(PRODUCT).await;
    stage
}

async fn is_hit(stage: &Stage) -> bool {
    stage.get(PRODUCT).await.detail() == "hit"
}

async fn counted(stage: &Stage, result: &str) -> f64 {
    stage.metric(0, "endcap_webhooks_total", &[("result", result)]).await
}

#[tokio::test]
async fn a_signed_event_purges_before_its_200() {
    let stage = shop().await;
    let reply = Delivery::event(&stage, "msg_1", "product.updated", "prod_1").send(&stage).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.json()["durable"], "memory");
    assert!(!is_hit(&stage).await);
    assert_eq!(counted(&stage, "accepted").await, 1.0);
}

#[tokio::test]
async fn a_project_s_own_hero_banners_are_forgotten_by_their_event() {
    const BANNERS: &str = "/store/hero-banners";
    let stage = Stage::new().start().await;
    stage.origin.answer(BANNERS, Answer::json(r#"{"hero_banners":[{"id":"1"},{"id":"2"}]}"#));
    for detail in ["miss", "hit"] {
        assert_eq!(stage.get(BANNERS).await.detail(), detail);
    }
    let other = Delivery::event(&stage, "msg_1", "product.updated", "prod_1").send(&stage).await;
    assert_eq!((other.status, stage.get(BANNERS).await.detail()), (200, "hit".to_owned()));
    let reply = Delivery::event(&stage, "msg_2", "hero-banner.updated", "2").send(&stage).await;
    assert_eq!((reply.status, stage.get(BANNERS).await.detail()), (200, "miss".to_owned()), "{}", reply.text());
    assert_eq!(stage.get(BANNERS).await.detail(), "hit");
}

#[tokio::test]
async fn an_event_of_another_product_leaves_this_one_alone() {
    let stage = shop().await;
    assert_eq!(Delivery::event(&stage, "msg_1", "product.updated", "prod_2").send(&stage).await.status, 200);
    assert!(is_hit(&stage).await);
}

#[tokio::test]
async fn what_is_not_signed_rightly_is_refused_and_purges_nothing() {
    let stage = shop().await;
    let good = Delivery::event(&stage, "msg_1", "product.updated", "prod_1");
    for (delivery, result) in [
        (good.clone().signed_by(OTHER_SECRET), "forged_signature"),
        (
            Delivery::event(&stage, "msg_2", "product.updated", "prod_9").tampered("prod_9", "prod_1"),
            "forged_signature",
        ),
    ] {
        let reply = delivery.send(&stage).await;
        assert_eq!((reply.status, counted(&stage, result).await >= 1.0), (401, true), "{result}");
    }
    let unsigned = stage.ops(0, "POST", "/hooks/default", &[("content-type", "application/json")], b"{}").await;
    assert_eq!((unsigned.status, counted(&stage, "forged_header").await), (401, 1.0));
    assert!(is_hit(&stage).await);
    assert_eq!(good.send(&stage).await.status, 200, "a forged one does not use up the id");
}

#[tokio::test]
async fn a_delivery_of_another_time_is_refused() {
    let stage = shop().await;
    let now = stage.clock.now().as_secs();
    for timestamp in [now - 301, now + 301] {
        let delivery = Delivery::event(&stage, "msg_1", "product.updated", "prod_1").at(timestamp);
        assert_eq!(delivery.send(&stage).await.status, 401);
    }
    assert_eq!(counted(&stage, "forged_timestamp").await, 2.0);
    assert!(is_hit(&stage).await);
    let late = Delivery::event(&stage, "msg_1", "product.updated", "prod_1").at(now - 300);
    assert_eq!(late.send(&stage).await.status, 200);
}

#[tokio::test]
async fn a_replay_is_refused_and_a_retry_is_done_already() {
    let stage = shop().await;
    let delivery = Delivery::event(&stage, "msg_1", "product.updated", "prod_1");
    assert_eq!(delivery.send(&stage).await.status, 200);
    assert!(!is_hit(&stage).await);
    assert_eq!(delivery.send(&stage).await.status, 409, "word for word");
    stage.advance_secs(5);
    let retry = delivery.clone().at(stage.clock.now().as_secs());
    let reply = retry.send(&stage).await;
    assert_eq!((reply.status, reply.json()["duplicate"].as_bool()), (200, Some(true)));
    assert_eq!(retry.send(&stage).await.status, 409);
    assert!(is_hit(&stage).await, "neither purged again");
    // When the id is forgotten, the timestamp gives a replay away.
    stage.advance_secs(601);
    assert_eq!(delivery.send(&stage).await.status, 401);
}

#[tokio::test]
async fn a_machine_that_slept_takes_what_is_signed_by_the_time_that_it_is() {
    let stage = shop().await;
    let before = Delivery::event(&stage, "msg_1", "product.updated", "prod_1");
    stage.clock.sleep(std::time::Duration::from_secs(3600));
    assert_eq!(before.send(&stage).await.status, 401, "an hour late");
    let after = before.at(stage.clock.wall().as_secs());
    assert_eq!(after.send(&stage).await.status, 200);
    assert!(!is_hit(&stage).await);
}

#[tokio::test]
async fn a_retry_is_told_again_what_was_not_understood() {
    let stage = shop().await;
    let events = json!({ "events": [
        { "type": "product.updated", "data": { "id": "prod_1" } },
        { "type": "product.updated", "data": {} },
        { "type": "future.thing", "data": { "id": "x_1" } },
        { "type": "future.thing", "data": { "id": "x_2" } },
        { "type": "f".repeat(300), "data": {} },
    ] });
    let delivery = Delivery::new(&stage, "msg_1", &events);
    assert_eq!(delivery.send(&stage).await.status, 200);
    stage.advance_secs(5);
    let reply = delivery.at(stage.clock.now().as_secs()).send(&stage).await.json();
    assert_eq!(reply["duplicate"], true);
    assert_eq!(reply["unknown"], json!(["future.thing"]));
    assert_eq!(reply["incomplete"], json!([{ "event": "product.updated", "lacking": "id" }]));
}

#[tokio::test]
async fn several_secrets_verify_side_by_side_for_rotation() {
    let both = format!("{OTHER_SECRET},whsec_ZW5kY2FwIGV4YW1wbGUgc2VjcmV0IG9ubHkh");
    let config = format!("[hooks.erp]\nsecrets = [{:?}]\n", both.split(',').collect::<Vec<_>>().join("\", \""))
        .replace("\\\"", "\"");
    let stage = Stage::new().also(&config).start().await;
    let delivery = |id| Delivery::event(&stage, id, "product.updated", "prod_1").at_source("erp");
    assert_eq!(delivery("msg_1").send(&stage).await.status, 200);
    assert_eq!(delivery("msg_2").signed_by(OTHER_SECRET).send(&stage).await.status, 200);
    let default = Delivery::event(&stage, "msg_3", "product.updated", "prod_1").signed_by(OTHER_SECRET);
    assert_eq!(default.send(&stage).await.status, 401, "each source has its own");
}

#[tokio::test]
async fn the_same_id_of_two_sources_is_two_deliveries() {
    let config = "[hooks.erp]\nsecrets = [\"whsec_ZW5kY2FwIGV4YW1wbGUgc2VjcmV0IG9ubHkh\"]\n";
    let stage = Stage::new().also(config).start().await;
    let delivery = Delivery::event(&stage, "msg_1", "product.updated", "prod_1");
    assert_eq!(delivery.send(&stage).await.status, 200);
    assert_eq!(delivery.at_source("erp").send(&stage).await.json()["purged"], 3);
}

#[tokio::test]
async fn a_batch_purges_what_all_its_events_name() {
    let stage = Stage::new().start().await;
    let paths = ["/store/products/prod_1", "/store/collections/pcol_1", "/store/regions/reg_1"];
    for path in paths {
        stage.get(path).await;
    }
    let batch = json!({ "events": [
        { "type": "product.updated", "data": { "id": "prod_1" } },
        { "event": "product-collection.deleted", "data": "pcol_1" },
        { "name": "nobody.knows.this", "data": { "id": "reg_1" } },
        { "type": "cart.updated", "data": { "id": "cart_1" } },
    ]});
    let reply = Delivery::new(&stage, "msg_1", &batch).send(&stage).await;
    assert_eq!((reply.status, &reply.json()["unknown"]), (200, &json!(["nobody.knows.this"])));
    let mut details = Vec::new();
    for path in paths {
        details.push(stage.get(path).await.detail());
    }
    assert_eq!(details, ["miss", "miss", "hit"]);
}

#[tokio::test]
async fn several_ids_in_one_event_are_all_purged() {
    let stage = shop().await;
    let event = json!({ "type": "product.updated", "data": [{ "id": "prod_7" }, { "id": "prod_1" }] });
    assert_eq!(Delivery::new(&stage, "msg_1", &event).send(&stage).await.status, 200);
    assert!(!is_hit(&stage).await);
}

#[tokio::test]
async fn odd_deliveries_are_told_what_is_odd() {
    let stage = shop().await;
    let big = format!(r#"{{"type":"product.updated","data":{{"id":"{}"}}}}"#, "x".repeat(300 << 10));
    let deliveries = [
        ("this is not JSON", 400, "malformed"),
        ("17", 400, "malformed"),
        (r#"{"data":{"id":"prod_1"}}"#, 400, "malformed"),
        (r#"{"type":"nobody.knows.this","data":{"id":"prod_1"}}"#, 202, "unknown_event"),
        (r#"{"type":"product.updated","data":{"title":"no id"}}"#, 200, "accepted"),
        (r#"{"type":"cart.updated","data":{"id":"cart_1"}}"#, 200, "accepted"),
        (big.as_str(), 413, "too_large"),
    ];
    for (n, (body, status, result)) in deliveries.into_iter().enumerate() {
        let before = counted(&stage, result).await;
        let shown = body.get(..body.len().min(60)).unwrap();
        let reply = Delivery::raw(&stage, &format!("msg_{n}"), body).send(&stage).await;
        assert_eq!((reply.status, counted(&stage, result).await - before), (status, 1.0), "{shown}: {}", reply.text());
    }
    assert!(is_hit(&stage).await);
}

#[tokio::test]
async fn a_source_that_nobody_knows_is_not_found() {
    let stage = shop().await;
    let reply = Delivery::event(&stage, "msg_1", "product.updated", "prod_1").at_source("stranger").send(&stage).await;
    assert_eq!((reply.status, counted(&stage, "unknown_source").await), (404, 1.0));
    assert_eq!(stage.ops(0, "GET", "/hooks/default", &[], b"").await.status, 405);
}

#[tokio::test]
async fn the_public_address_takes_no_webhooks_and_no_purges() {
    let stage = shop().await;
    for target in ["/hooks/default", "/purge", "/metrics", "/status", "/readyz"] {
        let reply = stage.ask("POST", target, &[], b"{}").await;
        assert_eq!(reply.detail(), "pass.no_route", "{target} is the backend's");
    }
}
