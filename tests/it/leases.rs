//! One node asks the origin for all of them.

use std::time::Duration;

use crate::stage::{Answer, Stage, until, within};

const LIST: &str = "/store/products";

fn waiting(turn: &str) -> [(&str, &str); 1] {
    [("turn", turn)]
}

#[tokio::test]
async fn requests_on_all_nodes_at_once_are_one_origin_request() {
    let stage = Stage::new().redis().await.nodes(3).variable("ENDCAP_REDIS__LEASE_WAIT", "20s").start().await;
    let hold = stage.origin.hold(LIST);
    let readers: Vec<_> = (0..60).map(|n| stage.begin_on(n % 3, LIST)).collect();
    hold.arrived(1).await;
    for node in 0..3 {
        until("its flight is under way", async || stage.status(node).await["fills"]["under_way"] == 1).await;
    }
    hold.release();
    for reader in readers {
        assert_eq!(within(reader).await.unwrap().version(), 1);
    }
    assert_eq!(stage.origin.total(), 1);
}

/// On a busy machine Redis is late because of the crowd itself.
#[tokio::test]
async fn a_crowd_whose_look_up_comes_too_late_asks_for_the_lease_all_the_same() {
    let stage = Stage::new().redis().await.nodes(2).variable("ENDCAP_REDIS__LEASE_WAIT", "60s");
    let stage = stage.variable("ENDCAP_REDIS__DEADLINE", "20ms").variable("ENDCAP_REDIS__BREAKER_FAILURES", "100");
    let mut stage = stage.start().await;
    for node in [0, 1] {
        stage.settled(node).await;
    }
    stage.redis().pause();
    let hold = stage.origin.hold(LIST);
    let readers: Vec<_> = (0..60).map(|n| stage.begin_on(n % 2, LIST)).collect();
    let late = [("result", "l2_timeout")];
    for node in [0, 1] {
        stage.metric_reaches(node, "endcap_l2_reads_total", &late, 1.0).await;
        // Who comes alone goes on alone. Its look-up began after the crowd asked for its lease, and it is over.
        assert_eq!(stage.get_from(node, "/store/products/prod_1").await.detail(), "miss");
    }
    assert_eq!((stage.origin.count(LIST), stage.origin.total()), (0, 2));
    stage.redis().resume();
    hold.arrived(1).await;
    hold.release();
    for reader in readers {
        assert_eq!(within(reader).await.unwrap().version(), 1);
    }
    assert_eq!(stage.origin.count(LIST), 1);
}

#[tokio::test]
async fn what_no_node_has_put_in_the_place_of_a_lease_keeps_nobody_waiting() {
    let mut stage = Stage::new().redis().await.nodes(2).variable("ENDCAP_REDIS__LEASE_WAIT", "60s").start().await;
    let hold = stage.origin.hold(LIST);
    let first = stage.begin_on(0, LIST);
    hold.arrived(1).await;
    let leases = stage.redis().command(&["KEYS", "*:l:*"]).await;
    let lease: Vec<String> = redis::from_redis_value(leases).unwrap();
    stage.redis().command(&["SET", &lease[0], &"f".repeat(1 << 20)]).await;
    let second = stage.begin_on(1, LIST);
    hold.arrived(2).await;
    assert_eq!(stage.metric(1, "endcap_leases_total", &waiting("foreign")).await, 1.0);
    hold.release();
    for reader in [first, second] {
        assert_eq!(within(reader).await.unwrap().version(), 1);
    }
}

#[tokio::test]
async fn who_waits_for_a_lease_waits_on_when_a_connection_breaks() {
    let stage = Stage::new().redis().await.nodes(2).variable("ENDCAP_REDIS__LEASE_WAIT", "60s");
    let stage = stage.variable("ENDCAP_REDIS__BREAKER_FAILURES", "100").variable("ENDCAP_REDIS__CONNECTIONS", "1");
    let mut stage = stage.start().await;
    let hold = stage.origin.hold(LIST);
    let first = stage.begin_on(0, LIST);
    hold.arrived(1).await;
    let second = stage.begin_on(1, LIST);
    polls(&mut stage).await;
    // The holder's own connection has read as well, and was not used since.
    let mut id = String::new();
    until("one connection polls alone", async || {
        let clients = format!("{:?}", stage.redis().command(&["CLIENT", "LIST"]).await);
        let reads = |client: &&str| client.contains(" cmd=getrange ") && client.contains(" idle=0 ");
        // `id=` begins a client; `multi=` and others end so, but no number of a client stands behind them.
        let polling: Vec<_> = clients.split("id=").filter(reads).collect();
        id = polling.first().and_then(|client| client.split(' ').next()).unwrap_or_default().to_owned();
        polling.len() == 1
    })
    .await;
    stage.redis().command(&["CLIENT", "KILL", "ID", &id]).await;
    polls(&mut stage).await;
    hold.release();
    for reader in [first, second] {
        assert_eq!(within(reader).await.unwrap().version(), 1);
    }
    assert_eq!(stage.origin.total(), 1);
}

/// Waits until somebody has asked a few times how a lease stands.
async fn polls(stage: &mut Stage) {
    stage.redis().command(&["CONFIG", "RESETSTAT"]).await;
    until("the lease is asked for", async || {
        let said = format!("{:?}", stage.redis().command(&["INFO", "commandstats"]).await);
        let calls =
            said.split("cmdstat_getrange:calls=").nth(1).and_then(|rest| rest.split(',').next()?.parse::<u64>().ok());
        calls.is_some_and(|calls| calls >= 4)
    })
    .await;
}

#[tokio::test]
async fn a_holder_that_died_is_not_waited_for_for_ever() {
    let stage = Stage::new().redis().await.nodes(2).variable("ENDCAP_REDIS__LEASE_WAIT", "100ms").start().await;
    let hold = stage.origin.hold(LIST);
    let first = stage.begin_on(0, LIST);
    hold.arrived(1).await;
    // Node 0 hangs with the lease in its hand.
    let second = stage.begin_on(1, LIST);
    hold.arrived(2).await;
    assert_eq!(stage.metric(1, "endcap_leases_total", &waiting("timeout")).await, 1.0);
    hold.release();
    for reader in [first, second] {
        within(reader).await.unwrap();
    }
}

#[tokio::test]
async fn an_answer_that_is_not_for_all_is_not_waited_for() {
    let stage = Stage::new().redis().await.nodes(2).variable("ENDCAP_REDIS__LEASE_WAIT", "20s").start().await;
    stage.origin.respond(LIST, |_| Answer::json("{}").header("set-cookie", "a=b"));
    let hold = stage.origin.hold(LIST);
    let first = stage.begin_on(0, LIST);
    hold.arrived(1).await;
    let second = stage.begin_on(1, LIST);
    until("its flight is under way", async || stage.status(1).await["fills"]["under_way"] == 1).await;
    hold.release();
    for reader in [first, second] {
        assert_eq!(within(reader).await.unwrap().status, 200);
    }
    let turns = async |turn| stage.metric(1, "endcap_leases_total", &waiting(turn)).await;
    assert_eq!(turns("vain").await + turns("leads").await, 1.0);
    assert_eq!(turns("timeout").await, 0.0);
}

#[tokio::test]
async fn a_refresh_behind_is_done_by_one_node_and_taken_by_the_others() {
    let mut stage = Stage::new().redis().await.nodes(2).variable("ENDCAP_REDIS__LEASE_WAIT", "20s").start().await;
    stage.get(LIST).await;
    stage.metric_reaches(0, "endcap_l2_writes_total", &[("result", "ok")], 1.0).await;
    stage.get_from(1, LIST).await;
    stage.advance_secs(130);
    stage.origin.publish(2);
    let hold = stage.origin.hold(LIST);
    for node in [0, 1] {
        let reply = stage.get_from(node, LIST).await;
        assert_eq!((reply.detail(), reply.version()), ("stale".to_owned(), 1));
    }
    hold.arrived(1).await;
    polls(&mut stage).await;
    hold.release();
    for node in [0, 1] {
        stage.settled(node).await;
        assert_eq!((stage.get_from(node, LIST).await.version(), stage.origin.total()), (2, 2));
    }
}

#[tokio::test]
async fn a_purge_that_overtakes_the_holder_makes_the_next_one_ask() {
    let stage = Stage::new().redis().await.nodes(2).variable("ENDCAP_REDIS__LEASE_WAIT", "20s").start().await;
    let hold = stage.origin.hold(LIST);
    let first = stage.begin_on(0, LIST);
    hold.arrived(1).await;
    stage.origin.publish(2);
    let said = stage.try_purge(0, "hard", &["list:product"]).await.json();
    stage.applied(1, said["seq"].as_str().unwrap()).await;
    let second = stage.begin_on(1, LIST);
    until("its flight is under way", async || stage.status(1).await["fills"]["under_way"] == 1).await;
    hold.release();
    assert_eq!(within(first).await.unwrap().version(), 1);
    assert_eq!(within(second).await.unwrap().version(), 2, "it came after the purge");
}

#[tokio::test]
async fn without_redis_each_node_asks_at_once() {
    let mut stage = Stage::new().redis().await.nodes(2).start().await;
    stage.redis().kill();
    for node in [0, 1] {
        assert_eq!(stage.get_from(node, LIST).await.detail(), "miss");
    }
    assert_eq!(stage.origin.total(), 2);
}

/// An event may be faster than the commit that it tells of.
#[tokio::test]
async fn what_was_filled_right_after_a_purge_is_asked_for_once_more() {
    let stage = Stage::new().variable("ENDCAP_PURGE__ECHO", "50ms").start().await;
    stage.get(LIST).await;
    stage.purge("hard", &["list:product"]).await;
    assert_eq!(stage.get(LIST).await.version(), 1, "the database has not committed yet");
    stage.origin.publish(2);
    stage.advance(Duration::from_millis(50));
    until("the new version is there", async || stage.get(LIST).await.version() == 2).await;
    stage.settled(0).await;
    assert_eq!(stage.metric(0, "endcap_echoes_total", &[]).await, 1.0);
    assert_eq!(stage.origin.total(), 3);
}

/// Whoever asks for it has it made anew, and what is made then is asked for once more in its turn.
#[tokio::test]
async fn what_was_purged_again_meanwhile_is_not() {
    const REGIONS: &str = "/store/regions";
    let stage = Stage::new().variable("ENDCAP_PURGE__ECHO", "1s").start().await;
    for (url, tag) in [(LIST, "list:product"), (REGIONS, "list:region")] {
        stage.get(url).await;
        stage.purge("hard", &[tag]).await;
        stage.get(url).await;
    }
    stage.purge("hard", &["list:product"]).await;
    stage.advance_secs(1);
    until("the other is", async || stage.metric(0, "endcap_echoes_total", &[]).await == 1.0).await;
    stage.settled(0).await;
    assert_eq!((stage.origin.count(LIST), stage.origin.count(REGIONS)), (2, 3));
}
