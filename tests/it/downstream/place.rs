//! A target's place in the log: who holds it, what is written there and when, and what is read from there on.

use std::time::Duration;

use endcap::clock::Clock;
use serde_json::{Value, json};

use super::{all_tags, begun, settled, tags, webhook};
use crate::stage::{LogLines, Stage};

/// So many tags of a kilobyte.
fn long_tags(first: usize, count: usize) -> Vec<String> {
    (first..first + count).map(|n| format!("prod_{n:04}{}", "x".repeat(1015))).collect()
}

async fn purge_all(stage: &Stage, tags: &[String]) {
    stage.purge("hard", &tags.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

/// What is written of the target.
async fn note(stage: &mut Stage) -> Value {
    match stage.redis().command(&["GET", "endcap:downstream:hook"]).await {
        redis::Value::BulkString(note) => serde_json::from_slice(&note).unwrap(),
        other => panic!("{other:?}"),
    }
}

async fn write_note(stage: &mut Stage, note: &str) {
    stage.redis().command(&["SET", "endcap:downstream:hook", note]).await;
}

#[tokio::test]
async fn the_hold_and_the_permits_are_written_before_each_request() {
    let (provider, builder) = webhook().await;
    let mut stage = begun(builder.redis().await).await;
    stage.advance_secs(60);
    let first = provider.hold("/hook");
    // Two requests.
    purge_all(&stage, &long_tags(0, 100)).await;
    first.arrived(1).await;
    let written = async |stage: &mut Stage| {
        let (note, now) = (note(stage).await, stage.clock.now().as_millis());
        (note["permits"][0].as_f64().unwrap(), note["held"]["until"].as_u64().unwrap() - now)
    };
    assert_eq!(written(&mut stage).await, (19.0, 15_000));
    let second = provider.hold("/hook");
    stage.advance(Duration::from_millis(50));
    first.release();
    second.arrived(1).await;
    assert_eq!(written(&mut stage).await, (18.5, 15_000), "half a permit has come back");
    second.release();
    settled(&stage, 0, "hook").await;
    assert_eq!(note(&mut stage).await["held"], Value::Null);
    assert_eq!(provider.total(), 3);
}

#[tokio::test]
async fn a_node_that_was_overtaken_tells_nothing_more() {
    let (provider, builder) = webhook().await;
    let mut stage = begun(builder.redis().await).await;
    let hold = provider.hold("/hook");
    purge_all(&stage, &long_tags(0, 100)).await;
    hold.arrived(1).await;
    let mut other = note(&mut stage).await;
    other["held"]["by"] = json!("another node");
    write_note(&mut stage, &other.to_string()).await;
    hold.release();
    // The other one dies.
    stage.advance_secs(16);
    settled(&stage, 0, "hook").await;
    let firsts: Vec<String> = all_tags(&provider)[1..].iter().map(|tags| tags[0].replace('x', "")).collect();
    assert_eq!(firsts, ["prod_0000", "prod_0000", "prod_0062"]);
}

#[tokio::test]
async fn a_place_that_cannot_be_read_is_said_once_and_everything_is_purged() {
    let (log, _followed) = LogLines::follow();
    let (provider, builder) = webhook().await;
    let mut stage = begun(builder.redis().await).await;
    let mut seen = provider.total();
    for (count, garbage) in
        [(1, "{"), (2, r#"{"cursor":"9-9","not_before":99999999999999}"#), (3, &"x".repeat(1 << 20))]
    {
        write_note(&mut stage, garbage).await;
        stage.purge("hard", &["prod_1"]).await;
        settled(&stage, 0, "hook").await;
        let told = all_tags(&provider);
        // It may have looked before the purge came, which then follows by its name.
        assert_eq!(told[seen], ["everything"]);
        seen = told.len();
        let said = log.with("the place of a downstream target cannot be read: it purges everything");
        assert_eq!(said.len(), count);
    }
}

/// A position is by the time of Redis, and a process' own time stands still while its machine sleeps.
#[tokio::test]
async fn a_machine_that_slept_knows_the_place() {
    let (provider, builder) = webhook().await;
    let stage = begun(builder.slept(Duration::from_secs(4 * 3600)).redis().await).await;
    for tag in ["prod_1", "prod_2"] {
        stage.purge("hard", &[tag]).await;
        settled(&stage, 0, "hook").await;
        assert_eq!(tags(&provider.last()), [tag]);
    }
    assert_eq!(provider.total(), 3, "everything once, at the start");
}

#[tokio::test]
async fn a_place_that_cannot_be_reached_is_counted_shown_and_said_once() {
    let (log, _followed) = LogLines::follow();
    let (provider, builder) = webhook().await;
    let mut stage = begun(builder.redis().await).await;
    stage.redis().command(&["DEL", "endcap:downstream:hook"]).await;
    stage.redis().command(&["LPUSH", "endcap:downstream:hook", "x"]).await;
    stage.purge("hard", &["prod_1"]).await;
    stage.metric_reaches(0, "endcap_history_failures_total", &[("reader", "downstream")], 3.0).await;
    let shown = async |stage: &Stage| stage.status(0).await["downstream"]["hook"]["log_error"].clone();
    assert!(shown(&stage).await.as_str().unwrap().contains("something else stands under our key"));
    stage.redis().command(&["DEL", "endcap:downstream:hook"]).await;
    settled(&stage, 0, "hook").await;
    assert_eq!((shown(&stage).await, tags(&provider.last())), (Value::Null, vec!["everything".to_owned()]));
    assert_eq!(log.with("cannot read the purge log's history, trying again").len(), 1);
    assert_eq!(log.with("reads the purge log's history again").len(), 1);
}

/// Redis counts lines alone, and one may be long.
#[tokio::test]
async fn the_log_is_read_in_portions_where_its_lines_are_long() {
    let (provider, builder) = webhook().await;
    let mut stage = begun(builder.redis().await).await;
    let hold = provider.hold("/hook");
    stage.purge("hard", &["prod_1"]).await;
    hold.arrived(1).await;
    // 16 lines in the first read, 10 in the second, then one at a time.
    let kilobytes = [vec![1; 14], vec![100; 2], vec![1; 9], vec![600, 1, 1]].concat();
    for count in kilobytes {
        let line = json!({ "source": "test", "hard": long_tags(0, count) }).to_string();
        let seq = stage.redis().command(&["XADD", "endcap:purges", "*", "v1", &line]).await;
        let seq: String = redis::from_redis_value(seq).unwrap();
        stage.applied(0, &seq).await;
    }
    stage.redis().record().await;
    hold.release();
    settled(&stage, 0, "hook").await;
    let asked = stage.redis().history_reads().await;
    assert!(
        [17, 11, 2].iter().all(|lines| asked.contains(lines)) && asked.iter().all(|lines| *lines <= 17),
        "{asked:?}"
    );
}
