//! What changes at the origin and nobody announces.

use serde_json::json;

use crate::stage::{Answer, LogLines, MEDUSA, Stage, until};

const LIST: &str = "/store/products";

fn list(title: &str) -> Answer {
    Answer::json(format!(r#"{{"products":[{{"id":"prod_1","title":"{title}"}},{{"id":"prod_2"}}]}}"#))
}

fn found(missed: &str) -> [(&str, &str); 2] {
    [("route", "products"), ("missed", missed)]
}

async fn shop(canary: &str) -> Stage {
    let stage = Stage::new().config(MEDUSA).variable("ENDCAP_PURGE__CANARY", canary).start().await;
    stage.origin.answer(LIST, list("a"));
    stage.get(LIST).await;
    stage
}

#[tokio::test]
async fn a_change_without_a_purge_is_found_when_its_time_to_live_is_over() {
    let stage = shop("1ms").await;
    stage.origin.answer(LIST, list("b"));
    stage.advance_secs(100_000);
    assert!(stage.get(LIST).await.text().contains(r#""b""#));
    stage.metric_reaches(0, "endcap_stale_found_total", &found("no_event"), 1.0).await;
    // The same again is no change.
    stage.advance_secs(100_000);
    stage.get(LIST).await;
    stage.settled(0).await;
    assert_eq!(stage.metric(0, "endcap_stale_found_total", &found("no_event")).await, 1.0);
}

#[tokio::test]
async fn what_has_changed_is_named_in_one_line_a_minute() {
    let (log, _followed) = LogLines::follow();
    let stage = shop("1ms").await;
    let other = format!("{LIST}?limit=5");
    stage.get(&other).await;
    let lines = || log.with("the backend's answer changed, and no purge said so");
    for (said, found_, title) in [(1, 2.0, "b"), (2, 4.0, "c")] {
        stage.origin.answer(LIST, list(title));
        stage.advance_secs(100_000);
        for target in [LIST, other.as_str()] {
            assert!(stage.get(target).await.text().contains(title));
        }
        stage.metric_reaches(0, "endcap_stale_found_total", &found("no_event"), found_).await;
        until("it is said", async || lines().len() >= said).await;
    }
    let lines = lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    let named = ["level", "route", "path", "ids", "missed"].map(|field| lines[0][field].clone());
    assert_eq!(named, [json!("WARN"), json!("products"), json!(LIST), json!("prod_1"), json!("no_event")]);
}

#[tokio::test]
async fn a_change_whose_purge_has_come_is_none() {
    let stage = shop("1h").await;
    stage.origin.answer(LIST, list("b"));
    stage.purge("hard", &["prod_1"]).await;
    assert!(stage.get(LIST).await.text().contains(r#""b""#));
    stage.settled(0).await;
    for missed in ["no_event", "after_purge"] {
        assert_eq!(stage.metric(0, "endcap_stale_found_total", &found(missed)).await, 0.0);
    }
}

/// The event was faster than its commit, or a replica lags.
#[tokio::test]
async fn what_was_filled_too_soon_after_a_purge_is_asked_for_again_and_found() {
    let stage = shop("200ms").await;
    stage.purge("hard", &["prod_1"]).await;
    assert!(stage.get(LIST).await.text().contains(r#""a""#));
    stage.origin.answer(LIST, list("b"));
    // What is filled in one moment is taken for new.
    stage.advance_secs(1);
    stage.metric_reaches(0, "endcap_stale_found_total", &found("after_purge"), 1.0).await;
    until("what is found is served", async || stage.get(LIST).await.text().contains(r#""b""#)).await;
}

/// A change by a path that emits no event, of what shoppers look at all the time.
#[tokio::test]
async fn what_is_asked_for_often_is_compared_with_the_origin_without_a_purge() {
    let stage = shop("50ms").await;
    often(&stage).await;
    stage.origin.answer(LIST, list("b"));
    // Long before its time to live is over.
    stage.advance_secs(1);
    stage.metric_reaches(0, "endcap_stale_found_total", &found("no_event"), 1.0).await;
    assert!(stage.get(LIST).await.text().contains(r#""b""#));
    assert!(stage.metric(0, "endcap_canary_looks_total", &[("look", "at_random")]).await >= 1.0);
    assert_eq!(stage.metric(0, "endcap_canary_looks_total", &[("look", "after_purge")]).await, 0.0);
}

#[tokio::test]
async fn switched_off_it_asks_for_nothing() {
    let stage = shop("0s").await;
    stage.purge("hard", &["prod_1"]).await;
    often(&stage).await;
    stage.advance_secs(1);
    often(&stage).await;
    stage.settled(0).await;
    assert_eq!((stage.origin.count(LIST), stage.metric(0, "endcap_canary_looks_total", &[]).await), (2, 0.0));
}

/// Often enough for two hits to be kept.
async fn often(stage: &Stage) {
    let mut client = stage.client(0).await;
    for _ in 0..2 * 61 + 1 {
        assert_eq!(client.get(LIST).await.status, 200);
    }
}
