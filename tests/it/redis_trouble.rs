//! Redis is late, silent, gone, empty, or full of somebody else's things. Shoppers must not notice.

use std::time::{Duration, Instant};

use endcap::policy::purge::PurgeSeq;

use crate::stage::{Delivery, Stage, until};

const LIST: &str = "/store/products";

async fn one() -> Stage {
    Stage::new().redis().await.start().await
}

/// The entry that a fill has put into Redis.
async fn entry_key(stage: &mut Stage) -> String {
    stage.metric_reaches(0, "endcap_l2_writes_total", &[("result", "ok")], 1.0).await;
    let redis::Value::Array(keys) = stage.redis().command(&["KEYS", "endcap:e:*"]).await else { panic!("a list") };
    redis::from_redis_value(keys.into_iter().next().expect("one entry")).unwrap()
}

async fn connected(stage: &Stage, wanted: bool) {
    until("the follower notices", async || stage.status(0).await["purges"]["connected"] == wanted).await;
}

#[tokio::test]
async fn without_redis_at_the_start_a_node_serves_and_is_not_ready() {
    let mut stage = Stage::new().redis_absent().start().await;
    assert_eq!(stage.get(LIST).await.detail(), "miss");
    assert_eq!(stage.get(LIST).await.detail(), "hit");
    assert_eq!(stage.ops(0, "GET", "/readyz", &[], b"").await.status, 503);
    assert_eq!(stage.ops(0, "GET", "/livez", &[], b"").await.status, 200);
    // What the shared tier holds cannot be judged before the log has been read.
    assert_eq!(stage.metric(0, "endcap_l2_reads_total", &[("result", "l2_unready")]).await, 1.0);
    assert_eq!(stage.metric(0, "endcap_ready", &[]).await, 0.0);
    // It may come later.
    stage.redis().run().await;
    until("the node is ready", async || stage.ops(0, "GET", "/readyz", &[], b"").await.status == 200).await;
    stage.purge("hard", &["list:product"]).await;
    assert_eq!(stage.get(LIST).await.detail(), "miss");
}

#[tokio::test]
async fn while_redis_is_silent_hits_do_not_notice_and_misses_wait_briefly() {
    let mut stage = Stage::new().redis().await.variable("ENDCAP_REDIS__DEADLINE", "20ms").start().await;
    stage.get(LIST).await;
    stage.settled(0).await;
    stage.redis().pause();
    assert_eq!(stage.get(LIST).await.detail(), "hit");
    let mut opened = false;
    #[expect(clippy::disallowed_methods, reason = "how long a reader waits is what is tested")]
    let began = Instant::now();
    for n in 0..12 {
        assert_eq!(stage.get(&format!("/store/products/prod_{n}")).await.detail(), "miss");
        opened |= stage.metric(0, "endcap_l2_reads_total", &[("result", "l2_open")]).await > 0.0;
    }
    assert!(opened, "the breaker spares the later ones the wait");
    assert!(stage.metric(0, "endcap_l2_reads_total", &[("result", "l2_timeout")]).await <= 6.0);
    // Twelve full deadlines of the log's patience would be far more.
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let before = stage.metric(0, "endcap_l2_reads_total", &[("result", "l2_absent")]).await;
    stage.redis().resume();
    until("the breaker closes", async || {
        stage.advance_secs(1);
        stage.get(&format!("/store/collections/pcol_{}", stage.origin.total())).await;
        stage.metric(0, "endcap_l2_reads_total", &[("result", "l2_absent")]).await > before
    })
    .await;
}

#[tokio::test]
async fn a_webhook_while_redis_is_silent_is_not_acknowledged_but_applied_here() {
    let mut stage = Stage::new().redis().await.also("[purge]\nack_timeout = \"200ms\"\n").start().await;
    stage.get(LIST).await;
    stage.redis().pause();
    let delivery = Delivery::event(&stage, "msg_1", "store.updated", "store_1");
    let sent = delivery.send(&stage).await;
    assert_eq!((sent.status, sent.field("retry-after")), (503, "1".to_owned()));
    assert_eq!(stage.metric(0, "endcap_webhooks_total", &[("result", "not_durable")]).await, 1.0);
    stage.redis().resume();
}

#[tokio::test]
async fn a_webhook_while_redis_is_gone_is_not_acknowledged_but_applied_here() {
    let mut stage = one().await;
    stage.get("/store/products/prod_1").await;
    stage.redis().kill();
    stage.origin.publish(2);
    let delivery = Delivery::event(&stage, "msg_1", "product.updated", "prod_1");
    assert_eq!(delivery.send(&stage).await.status, 503);
    assert_eq!(stage.get("/store/products/prod_1").await.version(), 2);
    assert_eq!(stage.get("/store/products/prod_1").await.detail(), "hit");
    // The sender tries again, word for word, and is heard.
    stage.redis().run().await;
    until("the retry is acknowledged", async || delivery.send(&stage).await.status == 200).await;
    assert_eq!(stage.get("/store/products/prod_1").await.detail(), "miss");
}

#[tokio::test]
async fn redis_that_restarts_empty_keeps_the_order_of_purges() {
    let mut stage = Stage::new().redis().await.nodes(2).start().await;
    let first = stage.purge("hard", &["list:product"]).await;
    let seq = first["seq"].as_str().unwrap().to_owned();
    stage.applied(1, &seq).await;
    stage.get(LIST).await;
    stage.redis().kill();
    connected(&stage, false).await;
    assert_eq!(stage.get(LIST).await.detail(), "hit", "as long as nobody says otherwise");
    stage.redis().run().await;
    connected(&stage, true).await;
    until("the other node follows too", async || stage.status(1).await["purges"]["connected"] == true).await;
    stage.origin.publish(2);
    let second = stage.purge("hard", &["list:product"]).await;
    stage.applied(1, second["seq"].as_str().unwrap()).await;
    for node in [0, 1] {
        assert_eq!(stage.get_from(node, LIST).await.version(), 2);
    }
}

#[tokio::test]
async fn redis_whose_clock_is_behind_after_a_loss_still_appends_later_lines() {
    let mut stage = one().await;
    // The log's end lies an hour ahead, as if the server that was lost had had a fast clock.
    let ahead = stage.redis().command(&["TIME"]).await;
    let time: Vec<u64> = redis::from_redis_value(ahead).unwrap();
    let id = format!("{}-0", (time[0] + 3600) * 1000);
    let line = ["XADD", "endcap:purges", id.as_str(), "v1", r#"{"hard":["x"],"source":"test"}"#];
    stage.redis().command(&line).await;
    stage.applied(0, &id).await;
    stage.redis().kill();
    connected(&stage, false).await;
    stage.redis().run().await;
    connected(&stage, true).await;
    stage.get(LIST).await;
    stage.purge("hard", &["list:product"]).await;
    assert_eq!(stage.get(LIST).await.detail(), "miss");
}

#[tokio::test]
async fn garbage_under_our_key_is_a_miss_with_a_reason() {
    let mut stage = Stage::new().redis().await.nodes(2).start().await;
    stage.get(LIST).await;
    let key = entry_key(&mut stage).await;
    for (garbage, reason) in [
        ("not an entry at all, but long enough to be taken for one", "l2_corrupt"),
        ("", "l2_absent"),
        ("endcap\u{7f}\0 ...................................................", "l2_version"),
    ] {
        stage.redis().command(&["SET", &key, garbage]).await;
        let node = stage.add_node();
        crate::stage::within(stage.node(node).ready()).await;
        let reply = stage.get_from(node, LIST).await;
        assert_eq!((reply.status, reply.detail()), (200, "miss".to_owned()), "{reason}");
        assert_eq!(stage.metric(node, "endcap_l2_reads_total", &[("result", reason)]).await, 1.0, "{reason}");
        stage.metric_reaches(node, "endcap_l2_writes_total", &[("result", "ok")], 1.0).await;
    }
}

#[tokio::test]
async fn an_entry_moved_under_another_key_is_a_miss() {
    let mut stage = Stage::new().redis().await.nodes(2).start().await;
    stage.get(LIST).await;
    let list = entry_key(&mut stage).await;
    stage.get("/store/regions").await;
    stage.metric_reaches(0, "endcap_l2_writes_total", &[("result", "ok")], 2.0).await;
    let redis::Value::Array(keys) = stage.redis().command(&["KEYS", "endcap:e:*"]).await else { panic!("a list") };
    for key in keys {
        let key: String = redis::from_redis_value(key).unwrap();
        if key != list {
            stage.redis().command(&["COPY", &list, &key, "REPLACE"]).await;
        }
    }
    let reply = stage.get_from(1, "/store/regions").await;
    assert_eq!((reply.detail(), reply.text().contains("regions")), ("miss".to_owned(), true));
    assert_eq!(stage.metric(1, "endcap_l2_reads_total", &[("result", "l2_foreign")]).await, 1.0);
}

#[tokio::test]
async fn a_forged_entry_is_refused_where_entries_are_signed() {
    let config = "[redis]\nintegrity_key = \"only our nodes know this\"\n";
    let mut stage = Stage::new().redis().await.also(config).start().await;
    let url = stage.redis().url();
    // Whoever can write to Redis but lacks the key.
    let forger =
        Stage::new().variable("ENDCAP_REDIS__URL", &url).variable("ENDCAP_REDIS__DEADLINE", "2s").start().await;
    forger.origin.publish(666);
    forger.get(LIST).await;
    forger.metric_reaches(0, "endcap_l2_writes_total", &[("result", "ok")], 1.0).await;
    assert_eq!(stage.get(LIST).await.version(), 1);
    assert_eq!(stage.metric(0, "endcap_l2_reads_total", &[("result", "l2_corrupt")]).await, 1.0);
}

#[tokio::test]
async fn something_else_at_our_keys_is_an_error_that_nobody_but_the_purger_sees() {
    let mut stage = one().await;
    stage.get(LIST).await;
    let key = entry_key(&mut stage).await;
    stage.redis().command(&["DEL", &key]).await;
    stage.redis().command(&["LPUSH", &key, "a list"]).await;
    stage.redis().command(&["SET", "endcap:purges", "a string"]).await;
    connected(&stage, false).await;
    assert_eq!(stage.get(LIST).await.detail(), "hit");
    assert_eq!(stage.try_purge(0, "hard", &["list:product"]).await.status, 503);
    assert_eq!(stage.get(LIST).await.detail(), "miss", "applied here all the same");
    assert_eq!(stage.metric(0, "endcap_l2_reads_total", &[("result", "l2_type")]).await, 1.0);
    // An operator takes it away.
    stage.redis().command(&["DEL", "endcap:purges"]).await;
    until("the purge is taken", async || stage.try_purge(0, "hard", &["list:product"]).await.status == 200).await;
}

#[tokio::test]
async fn a_log_that_holds_something_else_at_the_start_leaves_the_node_serving_and_not_ready() {
    let mut stage = one().await;
    stage.redis().command(&["SET", "endcap:purges", "a string"]).await;
    let late = stage.add_node();
    assert_eq!(stage.get_from(late, LIST).await.detail(), "miss");
    assert_eq!(stage.get_from(late, LIST).await.detail(), "hit");
    assert_eq!(stage.ops(late, "GET", "/readyz", &[], b"").await.status, 503);
}

#[tokio::test]
async fn a_line_of_the_log_that_cannot_be_read_is_skipped_and_counted() {
    let mut stage = one().await;
    stage.get(LIST).await;
    for fields in [["v99", "{}"], ["v1", "not JSON"], ["what", "is this?"]] {
        let mut words = vec!["XADD", "endcap:purges", "*"];
        words.extend(fields);
        stage.redis().command(&words).await;
    }
    stage.metric_reaches(0, "endcap_log_unreadable_total", &[], 3.0).await;
    stage.purge("hard", &["list:region"]).await;
    assert_eq!(stage.get(LIST).await.detail(), "hit");
    stage.purge("hard", &["list:product"]).await;
    assert_eq!(stage.get(LIST).await.detail(), "miss");
}

#[tokio::test]
async fn a_log_that_was_cut_while_nobody_looked_costs_refills_and_nothing_worse() {
    let mut stage = one().await;
    stage.purge("hard", &["list:region"]).await;
    stage.get(LIST).await;
    stage.redis().kill();
    connected(&stage, false).await;
    stage.redis().run().await;
    // Before the node is back: two purges, of which the first, ours, has been cut off already.
    for id in ["99999999999999-0", "99999999999999-1"] {
        let line = ["XADD", "endcap:purges", id, "v1", r#"{"hard":["x"],"source":"test"}"#];
        stage.redis().command(&line).await;
    }
    stage.redis().command(&["XTRIM", "endcap:purges", "MINID", "99999999999999-1"]).await;
    stage.applied(0, "99999999999999-1").await;
    assert_eq!(stage.get(LIST).await.detail(), "miss", "what was cut may have named it");
}

#[tokio::test]
async fn a_node_says_when_redis_has_fallen_silent_and_follows_again_when_it_speaks() {
    let mut stage = one().await;
    stage.redis().pause();
    // The follower's patience is real time: its wait, and the deadlines of a connection and a command.
    connected(&stage, false).await;
    assert_eq!(stage.metric(0, "endcap_log_connected", &[]).await, 0.0);
    assert_eq!(stage.ops(0, "GET", "/readyz", &[], b"").await.status, 200, "it has caught up once, and serves");
    stage.redis().resume();
    connected(&stage, true).await;
    stage.get(LIST).await;
    stage.purge("hard", &["list:product"]).await;
    assert_eq!(stage.get(LIST).await.detail(), "miss");
}

#[tokio::test]
async fn a_node_stops_while_redis_is_silent() {
    let mut stage = one().await;
    stage.redis().pause();
    stage.get(LIST).await;
    crate::stage::within(stage.node(0).stop()).await;
}

/// A fail-over to a replica that lacked the end of the log, as the log shows it afterwards.
#[tokio::test]
async fn what_a_fail_over_lost_is_put_back_for_those_who_were_behind() {
    let mut stage = one().await;
    let began = stage.status(0).await["purges"]["applied"].as_str().unwrap().to_owned();
    stage.get(LIST).await;
    let said = stage.purge("hard", &["list:product"]).await;
    let seq = said["seq"].as_str().unwrap();
    stage.get(LIST).await;
    // The stream is back at its beginning, with another line in it that this node will never read.
    let (ms, n) = began.split_once('-').unwrap();
    let other = format!("{ms}-{}", n.parse::<u64>().unwrap() + 1);
    stage.redis().command(&["DEL", "endcap:purges"]).await;
    for (id, line) in [(&began, r#"{"source":"start"}"#), (&other, r#"{"hard":["list:region"],"source":"test"}"#)] {
        stage.redis().command(&["XADD", "endcap:purges", id, "v1", line]).await;
    }
    until("the loss is told", async || {
        let log = stage.redis().command(&["XRANGE", "endcap:purges", seq, "+"]).await;
        // One line for all that was lost, behind everything that anybody has read.
        format!("{log:?}").contains("lost")
    })
    .await;
    assert_eq!(stage.metric(0, "endcap_log_lost_total", &[]).await, 1.0);
    // A node that was behind when it happened, here one that is new, is told as well.
    let late = stage.add_node();
    crate::stage::within(stage.node(late).ready()).await;
    assert_eq!(stage.get_from(late, LIST).await.detail(), "miss");
    assert_eq!(stage.get(LIST).await.detail(), "hit_l2", "what was refilled since is good for all");
    assert_eq!(stage.get(LIST).await.detail(), "hit");
    stage.purge("hard", &["list:product"]).await;
    assert_eq!(stage.get(LIST).await.detail(), "miss");
}

#[tokio::test]
async fn a_log_that_is_emptied_under_a_living_connection_is_noticed() {
    let mut stage = Stage::new().redis().await.nodes(2).start().await;
    let said = stage.purge("hard", &["list:region"]).await;
    stage.applied(1, said["seq"].as_str().unwrap()).await;
    for node in [0, 1] {
        stage.get_from(node, LIST).await;
    }
    stage.redis().command(&["FLUSHALL"]).await;
    let before = PurgeSeq::parse(said["seq"].as_str().unwrap()).unwrap();
    for node in [0, 1] {
        stage.applied(node, &before.next_shared().to_string()).await;
    }
    stage.origin.publish(2);
    let said = stage.try_purge(1, "hard", &["list:product"]).await;
    assert_eq!(said.status, 200);
    stage.applied(0, said.json()["seq"].as_str().unwrap()).await;
    for node in [0, 1] {
        assert_eq!(stage.get_from(node, LIST).await.version(), 2);
    }
}

/// Evicted with a line that nobody has read, and begun anew before anybody looks.
#[tokio::test]
async fn a_log_that_is_lost_and_begun_anew_under_a_living_connection_is_noticed() {
    let mut stage = one().await;
    stage.get(LIST).await;
    stage.origin.publish(2);
    let script = "redis.call('XADD', KEYS[1], '*', 'v1', ARGV[1]) redis.call('DEL', KEYS[1]) \
                  redis.call('XADD', KEYS[1], '*', 'v1', ARGV[2])";
    let (purge, other) = (r#"{"hard":["list:product"]}"#, r#"{"hard":["list:region"]}"#);
    stage.redis().command(&["EVAL", script, "1", "endcap:purges", purge, other]).await;
    until("what the log may have said is heard", async || stage.get(LIST).await.version() == 2).await;
}

/// Nodes that start on an empty log cannot know whether there was one before.
#[tokio::test]
async fn what_stands_in_the_shared_tier_from_before_an_empty_log_is_not_trusted() {
    let mut stage = one().await;
    stage.get(LIST).await;
    stage.metric_reaches(0, "endcap_l2_writes_total", &[("result", "ok")], 1.0).await;
    crate::stage::within(stage.node(0).stop()).await;
    // A purge was logged, and lost with the log; no node lives that knew of it.
    stage.redis().command(&["DEL", "endcap:purges"]).await;
    stage.origin.publish(2);
    let node = stage.add_node();
    crate::stage::within(stage.node(node).ready()).await;
    assert_eq!(stage.get_from(node, LIST).await.version(), 2);
}

/// The clock of the server that has come in the place of the other is behind: its lines stand before what entries say
/// that they know of, and no node lives that could tell. Found by the simulation.
#[tokio::test]
async fn what_knows_of_a_log_that_is_gone_is_not_trusted_although_the_new_one_is_behind() {
    let mut stage = one().await;
    stage.purge("hard", &["list:product"]).await;
    stage.get(LIST).await;
    stage.metric_reaches(0, "endcap_l2_writes_total", &[("result", "ok")], 1.0).await;
    crate::stage::within(stage.node(0).stop()).await;
    stage.redis().command(&["DEL", "endcap:purges"]).await;
    let purge = r#"{"hard":["list:product"]}"#;
    stage.redis().command(&["XADD", "endcap:purges", "5-0", "v1", purge]).await;
    stage.origin.publish(2);
    let node = stage.add_node();
    crate::stage::within(stage.node(node).ready()).await;
    assert_eq!(stage.get_from(node, LIST).await.version(), 2);
}
