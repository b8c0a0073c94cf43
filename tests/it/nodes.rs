//! Several nodes on one Redis: they share what they filled, and forget together.

use endcap::policy::position::Positions;
use endcap::policy::purge::PurgeSeq;

use crate::stage::{Answer, Delivery, SECRET, Stage, until, within};

const LIST: &str = "/store/products";

async fn two() -> Stage {
    Stage::new().redis().await.nodes(2).start().await
}

/// A fill through the first node, which the second may now find.
async fn filled(stage: &Stage) {
    let before = stage.metric(0, "endcap_l2_writes_total", &[("result", "ok")]).await;
    stage.get(LIST).await;
    stage.metric_reaches(0, "endcap_l2_writes_total", &[("result", "ok")], before + 1.0).await;
}

#[tokio::test]
async fn what_one_node_filled_is_a_hit_on_another() {
    let stage = two().await;
    filled(&stage).await;
    stage.advance_secs(20);
    let other = stage.get_from(1, LIST).await;
    assert_eq!(other.field("cache-status"), "endcap; hit; ttl=100; detail=hit_l2");
    assert_eq!((other.version(), other.field("age")), (1, "20".to_owned()));
    assert_eq!(stage.get_from(1, LIST).await.detail(), "hit", "and stays in its memory");
    assert_eq!(stage.origin.total(), 1);
}

#[tokio::test]
async fn what_goes_through_redis_is_counted_in_bytes() {
    let stage = two().await;
    let text = "x".repeat(10_000).into_bytes();
    let noise: String = text.iter().zip(0_u64..).map(|(_, n)| char::from(b'a' + (n * n % 23) as u8)).collect();
    stage.origin.answer(LIST, Answer::json(format!("\"{noise}\"")));
    filled(&stage).await;
    let written = stage.metric(0, "endcap_l2_written_bytes_total", &[]).await;
    assert!(written > 100.0, "{written}");
    assert_eq!(stage.metric(1, "endcap_l2_read_bytes_total", &[]).await, 0.0);
    assert_eq!(stage.get_from(1, LIST).await.detail(), "hit_l2");
    assert_eq!(stage.metric(1, "endcap_l2_read_bytes_total", &[]).await, written);
}

#[tokio::test]
async fn how_far_a_node_is_behind_the_log_is_the_age_of_the_last_line_when_it_is_applied() {
    let stage = two().await;
    stage.purge("soft", &["prod_1"]).await;
    let lag = async || stage.metric(0, "endcap_log_lag_seconds", &[]).await;
    // The stage's clock stands still, that of Redis does not: the line is no older than now.
    assert_eq!(lag().await, 0.0);
    stage.advance_secs(1800);
    assert_eq!(lag().await, 0.0, "a silent log is no lag");
    stage.purge("soft", &["prod_1"]).await;
    let behind = lag().await;
    assert!((1700.0..=1800.0).contains(&behind), "{behind}");
}

#[tokio::test]
async fn a_large_answer_goes_through_redis_unchanged() {
    let stage = two().await;
    let body = format!("[{}\"\"]", "\"prod_1\",\"ÄÖÜ\\u0000\",".repeat(100_000));
    stage.origin.answer(LIST, Answer::json(body.clone()).header("x-a", "1").header("x-a", "2"));
    filled(&stage).await;
    let other = stage.get_from(1, LIST).await;
    assert!(other.detail() == "hit_l2" && other.text() == body);
    assert_eq!(other.field("x-a"), "1, 2");
}

#[tokio::test]
async fn a_purge_through_one_node_is_a_miss_on_the_other() {
    let stage = two().await;
    filled(&stage).await;
    assert_eq!(stage.get_from(1, LIST).await.detail(), "hit_l2");
    stage.origin.publish(2);
    let said = stage.purge("hard", &["list:product"]).await;
    assert_eq!(said["durable"], "log");
    // Once the other has applied it: its memory and the shared tier are both judged by it.
    stage.applied(1, said["seq"].as_str().unwrap()).await;
    let reply = stage.get_from(1, LIST).await;
    assert_eq!((reply.detail(), reply.version()), ("miss".to_owned(), 2));
}

/// Softly purged, what was stored may be served for a while, but not to who knows better.
#[tokio::test]
async fn who_carries_the_position_of_a_purge_is_answered_from_no_earlier_by_any_node() {
    let stage = two().await;
    filled(&stage).await;
    assert_eq!(stage.get_from(1, LIST).await.detail(), "hit_l2");
    stage.origin.publish(2);
    let said = stage.purge("soft", &["list:product"]).await;
    let position = said["position"].as_str().unwrap();
    let cookie = format!("_ga=1; endcap_position={position}");
    for (node, carrier) in [(1, ("endcap-position", position)), (0, ("cookie", cookie.as_str()))] {
        let reply = stage.client(node).await.ask("GET", LIST, &[carrier], b"").await;
        assert_eq!((reply.version(), reply.detail()), (2, "pass.position".to_owned()));
    }
    assert_eq!(stage.get(LIST).await.version(), 1, "others may be answered from before it for a grace");
}

#[tokio::test]
async fn a_position_that_a_node_does_not_come_to_asks_the_origin_and_a_forged_one_does_nothing() {
    let stage = Stage::new().start().await;
    stage.get(LIST).await;
    let tomorrow = PurgeSeq::new(1 << 45, 0).unwrap();
    let signed = |secret| Positions::new([secret]).issue(tomorrow).unwrap();
    let ask = async |position: &str| stage.get_with(LIST, &[("endcap-position", position)]).await.detail();
    assert_eq!(ask(&signed(SECRET)).await, "pass.position");
    assert_eq!(ask(&signed("another")).await, "hit");
    assert_eq!(stage.metric(0, "endcap_bypass_total", &[("reason", "position")]).await, 1.0);
    let said = stage.purge("hard", &["list:region"]).await;
    let known = said["position"].as_str().unwrap();
    assert_eq!(ask(known).await, "hit", "of a purge of something else");
    // A cookie says the same, and makes no request private: not a wrong one either.
    let ask = async |headers: &[(&str, &str)]| stage.get_with(LIST, headers).await.detail();
    let cookie = |position: &str| format!("endcap_position={position}");
    let (known_cookie, ahead) = (cookie(known), cookie(&signed(SECRET)));
    for harmless in [known_cookie.as_str(), &cookie(&signed("another")), &cookie("x"), "endcap_position"] {
        assert_eq!(ask(&[("cookie", harmless)]).await, "hit", "{harmless}");
    }
    assert_eq!(ask(&[("cookie", &ahead)]).await, "pass.position");
    // The later one counts, wherever it stands.
    assert_eq!(ask(&[("endcap-position", known), ("cookie", &ahead)]).await, "pass.position");
    assert_eq!(ask(&[("endcap-position", &signed(SECRET)), ("cookie", &known_cookie)]).await, "pass.position");
    assert_eq!(ask(&[("endcap-position", known), ("cookie", &known_cookie)]).await, "hit");
}

#[tokio::test]
async fn a_webhook_to_one_node_purges_all() {
    let stage = Stage::new().redis().await.nodes(3).start().await;
    filled(&stage).await;
    for node in 0..3 {
        stage.get_from(node, LIST).await;
    }
    stage.origin.publish(2);
    let reply =
        Delivery::event(&stage, "msg_1", "LinkPublishableApiKeySalesChannel.created", "x").send_to(&stage, 2).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    for node in 0..3 {
        stage.applied(node, reply.json()["seq"].as_str().unwrap()).await;
        assert_eq!(stage.get_from(node, LIST).await.version(), 2);
    }
}

#[tokio::test]
async fn what_a_node_refilled_after_a_purge_is_good_for_the_others() {
    let stage = two().await;
    filled(&stage).await;
    let said = stage.purge("hard", &["list:product"]).await;
    stage.applied(1, said["seq"].as_str().unwrap()).await;
    filled(&stage).await;
    assert_eq!(stage.get_from(1, LIST).await.detail(), "hit_l2");
    assert_eq!(stage.origin.total(), 2);
}

#[tokio::test]
async fn a_fill_in_flight_on_one_node_does_not_survive_a_purge_through_another() {
    let stage = two().await;
    let hold = stage.origin.hold(LIST);
    let reader = stage.begin_on(0, LIST);
    hold.arrived(1).await;
    stage.origin.publish(2);
    let said = stage.try_purge(1, "hard", &["list:product"]).await.json();
    stage.applied(0, said["seq"].as_str().unwrap()).await;
    hold.release();
    assert_eq!(within(reader).await.unwrap().version(), 1);
    for node in [1, 0] {
        assert_eq!(stage.get_from(node, LIST).await.version(), 2);
    }
}

#[tokio::test]
async fn a_purge_that_comes_while_a_node_has_not_heard_of_it_is_in_its_next_answers() {
    // Node 0 fills after the purge was logged but before it has applied it: what it stores is as of
    // before, so whoever has applied the purge refuses it.
    let stage = two().await;
    let hold = stage.origin.hold(LIST);
    let reader = stage.begin_on(0, LIST);
    hold.arrived(1).await;
    stage.origin.publish(2);
    let said = stage.try_purge(1, "hard", &["list:product"]).await.json();
    hold.release();
    within(reader).await.unwrap();
    stage.applied(1, said["seq"].as_str().unwrap()).await;
    assert_eq!(stage.get_from(1, LIST).await.version(), 2, "whatever node 0 has put into Redis");
}

#[tokio::test]
async fn a_node_that_starts_later_knows_the_purges_before_it() {
    let mut stage = Stage::new().redis().await.start().await;
    filled(&stage).await;
    let said = stage.purge("hard", &["list:product"]).await;
    stage.origin.publish(2);
    let late = stage.add_node();
    within(stage.node(late).ready()).await;
    assert_eq!(stage.status(late).await["purges"]["applied"], said["seq"]);
    let reply = stage.get_from(late, LIST).await;
    assert_eq!((reply.detail(), reply.version()), ("miss".to_owned(), 2));
}

#[tokio::test]
async fn a_node_that_starts_later_uses_what_is_still_good() {
    let mut stage = Stage::new().redis().await.start().await;
    stage.purge("hard", &["list:product"]).await;
    filled(&stage).await;
    let late = stage.add_node();
    within(stage.node(late).ready()).await;
    assert_eq!(stage.get_from(late, LIST).await.detail(), "hit_l2");
}

#[tokio::test]
async fn what_is_stale_in_redis_serves_and_is_refreshed_behind() {
    let stage = two().await;
    filled(&stage).await;
    stage.advance_secs(121);
    stage.origin.publish(2);
    let stale = stage.get_from(1, LIST).await;
    assert_eq!((stale.detail(), stale.version()), ("stale".to_owned(), 1));
    stage.origin.asked(2).await;
    stage.settled(1).await;
    assert_eq!(stage.get_from(1, LIST).await.version(), 2);
}

#[tokio::test]
async fn what_has_expired_in_redis_serves_when_the_origin_fails() {
    let stage = two().await;
    filled(&stage).await;
    stage.advance_secs(720);
    stage.origin.answer(LIST, Answer::status(500));
    for _ in 0..2 {
        let reply = stage.get_from(1, LIST).await;
        assert_eq!((reply.status, reply.detail()), (200, "stale_error.origin_status".to_owned()));
    }
}

#[tokio::test]
async fn what_has_expired_in_redis_saves_the_body_by_its_validator() {
    let stage = two().await;
    stage.origin.answer(LIST, Answer::json("{}").etag("\"1\""));
    filled(&stage).await;
    stage.advance_secs(720);
    assert_eq!(stage.get_from(1, LIST).await.detail(), "renewed");
    assert_eq!(stage.origin.last().field("if-none-match"), "\"1\"");
}

#[tokio::test]
async fn nodes_of_other_namespaces_share_nothing() {
    let mut stage = Stage::new().redis().await.start().await;
    filled(&stage).await;
    let url = stage.redis().url();
    let applied = stage.status(0).await["purges"]["applied"].clone();
    let other =
        Stage::new().variable("ENDCAP_REDIS__URL", &url).variable("ENDCAP_REDIS__NAMESPACE", "another").start().await;
    assert_eq!(other.get(LIST).await.detail(), "miss");
    other.purge("hard", &["all"]).await;
    assert_eq!(stage.status(0).await["purges"]["applied"], applied);
}

#[tokio::test]
async fn private_answers_never_reach_redis() {
    let mut stage = Stage::new().redis().await.start().await;
    stage.origin.respond(LIST, |_| Answer::json("{}").header("set-cookie", "a=b"));
    stage.get(LIST).await;
    stage.get_with(LIST, &[("authorization", "Bearer vip")]).await;
    stage.origin.answer("/store/regions", Answer::status(500));
    stage.get("/store/regions").await;
    stage.settled(0).await;
    let keys = stage.redis().command(&["KEYS", "endcap:e:*"]).await;
    assert_eq!(keys, redis::Value::Array(vec![]));
}

#[tokio::test]
async fn every_key_of_ours_has_an_end() {
    let mut stage = Stage::new().redis().await.start().await;
    filled(&stage).await;
    stage.purge("hard", &["list:region"]).await;
    // The end of the log and of its mark are set after the line stands there.
    let redis = stage.redis();
    let mark = ["TTL", "endcap:mark:{endcap:purges}"];
    until("the mark has an end", async || matches!(redis.command(&mark).await, redis::Value::Int(1..))).await;
    let redis::Value::Array(keys) = redis.command(&["KEYS", "*"]).await else { panic!("KEYS is a list") };
    assert_eq!(keys.len(), 3);
    for key in keys {
        let key: String = redis::from_redis_value(key).unwrap();
        let redis::Value::Int(ttl) = redis.command(&["TTL", &key]).await else { panic!("TTL is a number") };
        assert!(key.starts_with("endcap:") && ttl > 0, "{key}: {ttl}");
    }
}

#[tokio::test]
async fn a_refresh_finds_what_another_node_has_refreshed() {
    let stage = two().await;
    filled(&stage).await;
    stage.get_from(1, LIST).await;
    stage.advance_secs(121);
    stage.origin.publish(2);
    assert_eq!(stage.get_from(0, LIST).await.detail(), "stale");
    stage.metric_reaches(0, "endcap_l2_writes_total", &[("result", "ok")], 2.0).await;
    assert_eq!(stage.get_from(1, LIST).await.detail(), "stale");
    stage.settled(1).await;
    let fresh = stage.get_from(1, LIST).await;
    assert_eq!((fresh.detail(), fresh.version()), ("hit".to_owned(), 2));
    assert_eq!(stage.origin.total(), 2, "one refresh for both");
}

#[tokio::test]
async fn a_deleted_answer_in_redis_serves_nobody_even_when_the_origin_fails() {
    let stage = two().await;
    filled(&stage).await;
    let said = stage.purge("delete", &["list:product"]).await;
    stage.applied(1, said["seq"].as_str().unwrap()).await;
    stage.origin.answer(LIST, Answer::status(500));
    for node in [0, 1, 1] {
        assert_eq!(stage.get_from(node, LIST).await.status, 500);
    }
}
