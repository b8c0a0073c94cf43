//! What a target finds here when it is told.

use super::*;

const LIST: &str = "/store/products";

/// An answer that is asked for often, a second after its fill.
async fn hot(stage: &Stage) {
    let mut client = stage.client(0).await;
    for _ in 0..130 {
        client.get(LIST).await;
    }
    stage.advance_secs(1);
}

#[tokio::test]
async fn a_target_is_told_when_what_is_asked_for_most_is_here_again() {
    let (provider, builder) = webhook().await;
    let stage = begun(builder).await;
    hot(&stage).await;
    let hold = stage.origin.hold(LIST);
    stage.purge("hard", &["all"]).await;
    hold.arrived(1).await;
    stage.advance(Duration::from_millis(499));
    // The worker has looked meanwhile.
    for _ in 0..50 {
        stage.status(0).await;
    }
    assert_eq!((provider.total(), stage.status(0).await["downstream"]["hook"]["behind"].as_bool()), (1, Some(true)));
    hold.release();
    settled(&stage, 0, "hook").await;
    assert_eq!(tags(&provider.last()), ["everything"]);
    assert_eq!((provider.total(), stage.get(LIST).await.detail()), (2, "hit".to_owned()));
}

#[tokio::test]
async fn what_was_deleted_or_filled_a_moment_ago_is_left_to_who_asks() {
    let (_provider, builder) = webhook().await;
    let stage = begun(builder).await;
    hot(&stage).await;
    // A burst of purges does not ask the origin for each.
    for mode in ["hard", "hard", "soft"] {
        stage.purge(mode, &["all"]).await;
        settled(&stage, 0, "hook").await;
        assert_eq!(stage.metric(0, "endcap_hot_refills_total", &[]).await, 1.0);
    }
    assert_eq!(stage.get(LIST).await.detail(), "miss");
    stage.advance_secs(1);
    stage.purge("delete", &["all"]).await;
    settled(&stage, 0, "hook").await;
    assert_eq!(stage.metric(0, "endcap_hot_refills_total", &[]).await, 1.0);
    assert_eq!(stage.get(LIST).await.detail(), "miss");
}

#[tokio::test]
async fn a_target_does_not_wait_for_the_origin_for_ever() {
    let (provider, builder) = webhook().await;
    let stage = begun(builder).await;
    hot(&stage).await;
    let _hold = stage.origin.hold(LIST);
    stage.purge("hard", &["all"]).await;
    until("it is told all the same", async || {
        stage.advance(Duration::from_millis(100));
        provider.total() == 2
    })
    .await;
}

/// Whether an answer has changed the CDN asks for itself, of each thing when somebody wants it: it keeps what has not.
#[tokio::test]
async fn a_soft_purge_that_changes_nothing_moves_no_body() {
    let (provider, builder) = told(ALL).await;
    provider.answer("/client/v4/zones/zone1/purge_cache", Answer::json(r#"{"success":true}"#));
    let stage = builder.start().await;
    settled(&stage, 0, "edge").await;
    let etag = stage.get(LIST).await.field("etag");
    hot(&stage).await;
    stage.purge("soft", &["list:product"]).await;
    settled(&stage, 0, "edge").await;
    let told = provider.seen().into_iter().rfind(|seen| seen.path() == "/service/SU1/purge").unwrap();
    assert_eq!(told.field("fastly-soft-purge"), "1", "it keeps the answer and asks whether it still holds");
    let reply = stage.get_with(LIST, &[("if-none-match", &etag)]).await;
    assert_eq!((reply.status, reply.detail(), reply.body.len()), (304, "hit".to_owned(), 0));
    assert_eq!(stage.origin.count(LIST), 2);
    assert_eq!(stage.metric(0, "endcap_refilled_after_purge_total", &[("answer", "same")]).await, 1.0);
}
