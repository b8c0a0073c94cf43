//! A node that is cut off from the purge log knows it. Invariant: staleness has a bound.

use crate::stage::{Answer, LogLines, Seen, Stage, until, within};

const LIST: &str = "/store/products";

/// A node that has a list of version 1 and has just lost the log; the origin is at version 2.
async fn cut_off() -> Stage {
    let mut stage = Stage::new().redis().await.variable("ENDCAP_PURGE__MAX_BLIND", "5s").start().await;
    stage.get(LIST).await;
    stage.settled(0).await;
    stage.redis().kill();
    until("the follower notices", async || stage.status(0).await["purges"]["connected"] == false).await;
    stage.origin.publish(2);
    stage
}

#[tokio::test]
async fn what_is_older_than_the_bound_is_asked_for_again() {
    let (log, _guard) = LogLines::follow();
    let mut stage = cut_off().await;
    stage.advance_secs(2);
    assert_eq!((stage.get(LIST).await.detail(), stage.metric(0, "endcap_blind", &[]).await), ("hit".to_owned(), 0.0));
    stage.advance_secs(4);
    assert_eq!(stage.metric(0, "endcap_blind", &[]).await, 1.0);
    assert_eq!(stage.status(0).await["purges"]["blind"], true);
    stage.metric_reaches(0, "endcap_went_blind_total", &[], 1.0).await;
    let reply = stage.get(LIST).await;
    assert_eq!((reply.detail(), reply.version()), ("miss.blind".to_owned(), 2));
    stage.origin.publish(3);
    stage.advance_secs(2);
    assert_eq!((stage.get(LIST).await.detail(), stage.get(LIST).await.version()), ("hit".to_owned(), 2));
    stage.advance_secs(4);
    assert_eq!(stage.get(LIST).await.version(), 3);
    assert_eq!(stage.origin.total(), 3);
    // Sight is back: all of it counts again, and nobody asks the origin for it.
    stage.advance_secs(60);
    stage.redis().run().await;
    sees_again(&stage, 0).await;
    assert_eq!(stage.metric(0, "endcap_went_blind_total", &[]).await, 1.0, "once for all of it");
    // With its next read at the latest.
    until("it says so", async || {
        stage.purge("soft", &["none"]).await;
        !log.with("sees again: what is kept is trusted as far as the purge log goes").is_empty()
    })
    .await;
}

/// Waits until the node follows the log, and for what it waits for itself: that others bring their journals.
async fn sees_again(stage: &Stage, node: usize) {
    until("it follows", async || stage.status(node).await["purges"]["connected"] == true).await;
    assert_eq!(stage.metric(node, "endcap_blind", &[]).await, 1.0);
    stage.advance_secs(3);
    until("it sees again", async || stage.metric(node, "endcap_blind", &[]).await == 0.0).await;
}

/// Found by the black box: what is acknowledged by a journal while all are cut off is in the log only a moment
/// after the log is back, and until then the other nodes took what they had for fresh.
#[tokio::test]
async fn sight_comes_back_after_the_journals_of_others() {
    let stage = Stage::new().redis().await.journals().nodes(2).variable("ENDCAP_PURGE__MAX_BLIND", "5s");
    let stage = stage.variable("ENDCAP_PURGE__ACK_TIMEOUT", "200ms").variable("ENDCAP_REDIS__CONNECT_TIMEOUT", "200ms");
    let mut stage = stage.start().await;
    stage.get_from(1, LIST).await;
    stage.settled(1).await;
    stage.redis().pause();
    stage.origin.publish(2);
    // The first one is sent and will be in the log; from then on the log is spared.
    for tags in [["other"], ["list:product"]] {
        let said = stage.try_purge(0, "hard", &tags).await;
        assert_eq!(said.status, 202, "{}", said.text());
    }
    // The node that acknowledged it is down with its journal when the log is back.
    within(stage.node(0).stop()).await;
    until("the follower notices", async || stage.status(1).await["purges"]["connected"] == false).await;
    stage.advance_secs(60);
    stage.redis().resume();
    until("it follows", async || stage.status(1).await["purges"]["connected"] == true).await;
    let reply = stage.get_from(1, LIST).await;
    assert_eq!((reply.detail(), reply.version()), ("miss.blind".to_owned(), 2));
    sees_again(&stage, 1).await;
}

#[tokio::test]
async fn sight_regained_spares_the_origin() {
    let mut stage = Stage::new().redis().await.variable("ENDCAP_PURGE__MAX_BLIND", "5s").start().await;
    stage.get(LIST).await;
    stage.redis().pause();
    stage.advance_secs(6);
    assert_eq!(stage.metric(0, "endcap_blind", &[]).await, 1.0);
    stage.redis().resume();
    until("it sees again", async || stage.metric(0, "endcap_blind", &[]).await == 0.0).await;
    assert_eq!((stage.get(LIST).await.detail(), stage.origin.total()), ("hit".to_owned(), 1));
}

#[tokio::test]
async fn who_asks_a_blind_node_for_what_is_hot_never_waits() {
    let stage = cut_off().await;
    for version in 2..6 {
        stage.origin.publish(version);
        stage.advance_secs(4);
        let hold = stage.origin.hold(LIST);
        for _ in 0..3 {
            let reply = stage.get(LIST).await;
            assert_eq!((reply.detail(), reply.version()), ("hit".to_owned(), version - 1), "it is refreshed behind");
        }
        hold.arrived(1).await;
        hold.release();
        stage.settled(0).await;
        assert_eq!((stage.get(LIST).await.detail(), stage.get(LIST).await.version()), ("hit".to_owned(), version));
    }
    assert_eq!(stage.metric(0, "endcap_blind", &[]).await, 1.0);
    assert_eq!(stage.origin.total(), 5, "once each time, and not for each who asked");
}

#[tokio::test]
async fn a_refresh_that_takes_longer_than_the_bound_is_waited_for() {
    let stage = cut_off().await;
    stage.advance_secs(4);
    let hold = stage.origin.hold(LIST);
    assert_eq!(stage.get(LIST).await.detail(), "hit");
    hold.arrived(1).await;
    stage.advance_secs(2);
    let waits = stage.begin_on(0, LIST);
    stage.followers(1).await;
    hold.release();
    let reply = within(waits).await.unwrap();
    assert_eq!((reply.detail(), reply.version()), ("collapsed.blind".to_owned(), 2));
    assert_eq!(stage.origin.total(), 2);
}

#[tokio::test]
async fn a_blind_refresh_asks_whether_anything_changed_and_only_for_what_is_asked_for() {
    let mut stage = Stage::new().redis().await.variable("ENDCAP_PURGE__MAX_BLIND", "5s").start().await;
    stage.origin.answer(LIST, Answer::json("{}").etag("\"1\""));
    stage.get(LIST).await;
    stage.get("/store/products/prod_1").await;
    stage.settled(0).await;
    stage.redis().kill();
    until("the follower notices", async || stage.status(0).await["purges"]["connected"] == false).await;
    for _ in 0..4 {
        stage.advance_secs(4);
        assert_eq!(stage.get(LIST).await.detail(), "hit");
        stage.settled(0).await;
    }
    assert_eq!(stage.origin.total(), 6);
    let asks = |seen: &Seen| seen.path() == LIST && seen.field("if-none-match") == "\"1\"";
    assert_eq!(stage.origin.seen().iter().filter(|seen| asks(seen)).count(), 4);
}

/// What another node fills, a blind node could not trust.
#[tokio::test]
async fn blind_nodes_do_not_wait_for_one_another() {
    let stage = Stage::new().redis().await.nodes(2).variable("ENDCAP_PURGE__MAX_BLIND", "5s");
    let mut stage = stage.variable("ENDCAP_REDIS__LEASE_WAIT", "20s").start().await;
    stage.get(LIST).await;
    stage.settled(0).await;
    // The log alone is out of order; entries and leases go to and fro.
    stage.redis().command(&["SET", "endcap:purges", "a string"]).await;
    for node in [0, 1] {
        until("the follower notices", async || stage.status(node).await["purges"]["connected"] == false).await;
    }
    stage.advance_secs(6);
    let hold = stage.origin.hold(LIST);
    let readers = [stage.begin_on(0, LIST), stage.begin_on(1, LIST)];
    hold.arrived(2).await;
    hold.release();
    for reader in readers {
        assert_eq!(within(reader).await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn what_did_not_change_is_confirmed_by_its_validator() {
    let mut stage = Stage::new().redis().await.variable("ENDCAP_PURGE__MAX_BLIND", "5s").start().await;
    stage.origin.answer(LIST, Answer::json("{}").etag("\"1\""));
    stage.get(LIST).await;
    stage.settled(0).await;
    stage.redis().kill();
    stage.advance_secs(6);
    assert_eq!(stage.get(LIST).await.detail(), "renewed.blind");
    assert_eq!(stage.get(LIST).await.detail(), "hit");
}

#[tokio::test]
async fn blind_and_with_a_dead_origin_the_best_that_is_known_is_served() {
    let stage = cut_off().await;
    stage.advance_secs(6);
    stage.origin.answer(LIST, Answer::status(503));
    let reply = stage.get(LIST).await;
    assert_eq!((reply.status, reply.version(), reply.detail()), (200, 1, "stale_error.origin_status".to_owned()));
}

#[tokio::test]
async fn a_node_without_redis_is_never_blind() {
    let stage = Stage::new().variable("ENDCAP_PURGE__MAX_BLIND", "5s").start().await;
    stage.get(LIST).await;
    stage.advance_secs(60);
    assert_eq!(stage.get(LIST).await.detail(), "hit");
}
