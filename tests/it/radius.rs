//! A purge of too much at once becomes soft, where the operator wants that; and what is refilled before somebody asks.

use serde_json::{Value, json};

use crate::stage::{Answer, Builder, Delivery, LogLines, Reply, Stage, TOKEN, until};

const LIST: &str = "/store/products";
const OTHER: &str = "/store/regions";
/// Answers that make a sample.
const SAMPLE: usize = 61;

fn radius() -> Builder {
    Stage::new().also("[purge]\nblast_radius = 0.3\nhot_refill = 0\n")
}

async fn asks(stage: &Stage, node: usize, target: &str, count: usize) {
    let mut client = stage.client(node).await;
    for _ in 0..count {
        assert_eq!(client.get(target).await.status, 200);
    }
}

/// 20 samples, four in five of them of the list of products.
async fn busy(stage: &Stage, node: usize) {
    asks(stage, node, LIST, 16 * SAMPLE + 1).await;
    asks(stage, node, OTHER, 4 * SAMPLE + 1).await;
}

/// Purges by hand without a word on how.
async fn purge(stage: &Stage, node: usize, tags: &[&str]) -> Reply {
    let order = json!({ "tags": tags }).to_string();
    let bearer = format!("Bearer {TOKEN}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    stage.ops(node, "POST", "/purge", &headers, order.as_bytes()).await
}

fn told(reply: &Value) -> (&str, bool, Option<f64>) {
    (reply["mode"].as_str().unwrap_or(""), reply["softened"].as_bool().unwrap(), reply["share"].as_f64())
}

#[tokio::test]
async fn a_purge_of_too_many_answers_becomes_soft_and_says_so() {
    let (log, _followed) = LogLines::follow();
    let stage = radius().start().await;
    busy(&stage, 0).await;
    // One in five, and nothing.
    for tag in ["route:regions", "prod_x"] {
        assert_eq!(told(&purge(&stage, 0, &[tag]).await.json()), ("hard", false, None), "{tag}");
    }
    assert_eq!(stage.get(OTHER).await.detail(), "miss");
    let reply = purge(&stage, 0, &["route:products", "prod_x"]).await;
    assert_eq!((reply.status, told(&reply.json())), (200, ("soft", true, Some(0.8))));
    assert_eq!(stage.metric(0, "endcap_purges_softened_total", &[]).await, 1.0);
    let said = log.with("a purge of too many answers becomes soft");
    assert_eq!((said.len(), &said[0]["level"], &said[0]["share"]), (1, &json!("WARN"), &json!(0.8)));
    assert_eq!(stage.metric(0, "endcap_purged_tags_total", &[("mode", "soft")]).await, 2.0);
    // Bounded by the grace, and never for who knows of the purge.
    stage.advance_secs(1);
    assert_eq!(stage.get(LIST).await.detail(), "stale");
    let position = reply.json()["position"].as_str().map(str::to_owned).unwrap_or_default();
    assert_ne!(stage.get_with(LIST, &[("endcap-position", &position)]).await.detail(), "stale");
    until("it was refreshed behind", async || stage.get(LIST).await.detail() == "hit").await;
}

#[tokio::test]
async fn what_is_firm_stays_hard() {
    let stage = radius().start().await;
    busy(&stage, 0).await;
    let get = async || stage.get(LIST).await.detail();
    // Who says hard means it; a deletion is none the less.
    for mode in ["hard", "delete"] {
        assert_eq!(told(&stage.purge(mode, &["route:products"]).await), (mode, false, None));
        assert_eq!(get().await, "miss", "{mode}");
    }
    // A key that is revoked must stop at once.
    let reply = Delivery::event(&stage, "msg_1", "api_key.api-key.deleted", "apk_1").send(&stage).await;
    assert_eq!((reply.status, told(&reply.json())), (200, ("", false, None)));
    assert_eq!(get().await, "miss");
    // A purge for an unsafe request is a MUST (RFC 9111 section 4.4).
    assert_eq!(stage.ask("POST", LIST, &[], b"").await.status, 200);
    assert_eq!(get().await, "miss");
    // What is not firm is softened all the same.
    let reply = Delivery::event(&stage, "msg_2", "endcap.everything", "import").send(&stage).await;
    assert_eq!((reply.status, told(&reply.json())), (200, ("", true, Some(1.0))));
    assert_eq!(stage.metric(0, "endcap_purges_softened_total", &[]).await, 1.0);
}

#[tokio::test]
async fn without_the_option_or_with_few_answers_nothing_is_softened() {
    for (stage, count) in [(Stage::new().start().await, 17), (radius().start().await, 15)] {
        asks(&stage, 0, LIST, count * SAMPLE + 1).await;
        assert_eq!(told(&purge(&stage, 0, &["all"]).await.json()), ("hard", false, None));
        assert_eq!(stage.get(LIST).await.detail(), "miss");
    }
}

/// What purges empty one after another is asked for no less than before.
#[tokio::test]
async fn what_was_a_miss_counts_like_a_hit() {
    let stage = radius().start().await;
    let mut client = stage.client(0).await;
    for page in 0..20 * SAMPLE {
        assert_eq!(client.get(&format!("{LIST}?offset={page}")).await.detail(), "miss");
    }
    assert_eq!(told(&purge(&stage, 0, &["route:products"]).await.json()), ("soft", true, Some(1.0)));
}

/// The mode stands in the log, whatever another node would have found.
#[tokio::test]
async fn all_nodes_apply_the_mode_of_the_one_that_took_the_purge() {
    let stage = radius().redis().await.nodes(2).start().await;
    busy(&stage, 0).await;
    stage.get_from(1, LIST).await;
    let reply = purge(&stage, 0, &["all"]).await.json();
    assert_eq!(told(&reply), ("soft", true, Some(1.0)));
    stage.applied(1, reply["seq"].as_str().unwrap()).await;
    assert_eq!(stage.get_from(1, LIST).await.detail(), "stale");
    // The other has answered nothing to speak of.
    let reply = purge(&stage, 1, &["all"]).await.json();
    assert_eq!(told(&reply), ("hard", false, None));
    stage.applied(0, reply["seq"].as_str().unwrap()).await;
    assert_eq!(stage.get(LIST).await.detail(), "miss");
}

#[tokio::test]
async fn a_softened_purge_is_soft_in_the_journal_too() {
    let mut stage = radius().redis().await.journals().nodes(2).start().await;
    busy(&stage, 0).await;
    stage.get_from(1, LIST).await;
    stage.redis().kill();
    let reply = purge(&stage, 0, &["all"]).await;
    assert_eq!((reply.status, told(&reply.json())), (202, ("soft", true, Some(1.0))));
    assert_eq!(stage.get(LIST).await.detail(), "stale");
}

/// Its sender is promised nothing and sends again; until then this node does what it has decided.
#[tokio::test]
async fn a_softened_purge_that_the_log_refuses_is_not_acknowledged_and_soft_here() {
    let mut stage = radius().redis().await.start().await;
    busy(&stage, 0).await;
    stage.redis().command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let refused = purge(&stage, 0, &["all"]).await;
    assert_eq!((refused.status, refused.field("retry-after")), (503, "1".to_owned()), "{}", refused.text());
    assert_eq!(stage.metric(0, "endcap_purge_orders_total", &[("result", "not_logged")]).await, 1.0);
    assert_eq!(stage.metric(0, "endcap_purges_softened_total", &[]).await, 0.0);
    assert_eq!(stage.get(LIST).await.detail(), "stale");
    stage.settled(0).await;
    stage.redis().command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    let reply = purge(&stage, 0, &["all"]).await;
    assert_eq!((reply.status, told(&reply.json())), (200, ("soft", true, Some(1.0))));
    assert_eq!(stage.metric(0, "endcap_purges_softened_total", &[]).await, 1.0);
}

/// What the backend makes at once is no storm, and no more than that.
#[tokio::test]
async fn a_purge_of_no_more_than_is_refilled_at_once_stays_hard() {
    for (fills_max, mode) in [(2, "hard"), (1, "soft")] {
        let also = format!("[origin]\nfills_max = {fills_max}\n[purge]\nblast_radius = 0.3\n");
        let stage = Stage::new().also(&also).start().await;
        busy(&stage, 0).await;
        assert_eq!(purge(&stage, 0, &["all"]).await.json()["mode"], mode);
    }
}

#[tokio::test]
async fn refreshes_leave_half_of_the_origin_to_who_waits() {
    let stage = Stage::new().also("[origin]\nfills_max = 2\n").start().await;
    for target in [LIST, OTHER] {
        stage.get(target).await;
    }
    let [list, other] = [LIST, OTHER].map(|path| stage.origin.hold(path));
    stage.purge("soft", &["all"]).await;
    stage.advance_secs(1);
    assert_eq!(stage.get(LIST).await.detail(), "stale");
    list.arrived(1).await;
    assert_eq!(stage.get(OTHER).await.detail(), "stale");
    assert_eq!(stage.metric(0, "endcap_refreshes_put_off_total", &[]).await, 1.0);
    assert_eq!((stage.status(0).await["fills"]["under_way"].as_u64(), stage.origin.count(OTHER)), (Some(1), 1));
    // Who misses does not wait behind them.
    assert_eq!(stage.get("/store/currencies").await.detail(), "miss");
    list.release();
    stage.settled(0).await;
    assert_eq!(stage.get(OTHER).await.detail(), "stale");
    other.arrived(1).await;
    other.release();
}

#[tokio::test]
async fn what_is_asked_for_most_is_refilled_before_somebody_asks() {
    let stage = Stage::new().also("[purge]\nhot_refill = 1\n").start().await;
    asks(&stage, 0, OTHER, 2 * SAMPLE + 1).await;
    asks(&stage, 0, LIST, 3 * SAMPLE + 1).await;
    stage.advance_secs(1);
    stage.origin.answer(LIST, Answer::json(r#"{"products":[]}"#));
    stage.purge("hard", &["all"]).await;
    until("it is refilled", async || stage.origin.count(LIST) == 2).await;
    stage.settled(0).await;
    assert_eq!(stage.get(LIST).await.detail(), "hit");
    assert_eq!(stage.origin.count(OTHER), 1, "one answer at the most");
    let metric = async |name: &str, labels: &[(&str, &str)]| stage.metric(0, name, labels).await;
    assert_eq!(metric("endcap_hot_refills_total", &[]).await, 1.0);
    assert_eq!(metric("endcap_refilled_after_purge_total", &[("answer", "changed")]).await, 1.0);
}
