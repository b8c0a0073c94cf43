//! Entity tags of our own, for an origin that gives none.

use crate::stage::{Answer, Stage};

const LIST: &str = "/store/products";

#[tokio::test]
async fn a_body_without_a_tag_gets_one_that_survives_a_purge_if_nothing_has_changed() {
    let stage = Stage::new().start().await;
    let first = stage.get(LIST).await;
    let etag = first.field("etag");
    assert!(etag.starts_with('"') && etag.len() == 34, "strong: {etag}");
    assert_eq!(stage.get(LIST).await.field("etag"), etag);
    stage.purge("hard", &["list:product"]).await;
    let same = stage.get_with(LIST, &[("if-none-match", &etag)]).await;
    assert_eq!((same.status, same.detail(), same.field("etag")), (304, "miss".into(), etag.clone()));
    stage.origin.publish(2);
    stage.purge("hard", &["list:product"]).await;
    let changed = stage.get_with(LIST, &[("if-none-match", &etag)]).await;
    assert_eq!((changed.status, changed.version()), (200, 2));
    assert_ne!(changed.field("etag"), etag);
    // A part can be asked for by it: it stands for bytes.
    let etag = changed.field("etag");
    let part = stage.get_with(LIST, &[("range", "bytes=0-0"), ("if-range", &etag)]).await;
    assert_eq!((part.status, part.text()), (206, "{".into()));
    // The origin never hears of it.
    assert!(stage.origin.seen().iter().all(|seen| seen.field("if-none-match").is_empty()));
}

#[tokio::test]
async fn another_node_knows_that_a_tag_is_none_of_the_origins() {
    let stage = Stage::new().redis().await.nodes(2).start().await;
    let etag = stage.get(LIST).await.field("etag");
    stage.metric_reaches(0, "endcap_l2_writes_total", &[("result", "ok")], 1.0).await;
    let other = stage.get_from(1, LIST).await;
    assert_eq!((other.detail(), other.field("etag")), ("hit_l2".into(), etag));
    stage.advance_secs(120 + 600);
    assert_eq!(stage.get_from(1, LIST).await.detail(), "miss");
    assert_eq!((stage.origin.total(), stage.origin.last().field("if-none-match").to_owned()), (2, String::new()));
}

#[tokio::test]
async fn what_the_origin_tags_keeps_its_tag() {
    let stage = Stage::new().start().await;
    stage.origin.answer(LIST, Answer::json("{}").etag("W/\"2-x\""));
    assert_eq!(stage.get(LIST).await.field("etag"), "W/\"2-x\"");
}

/// A date asks where a tag of ours cannot; what stands keeps its tag.
#[tokio::test]
async fn a_body_that_is_renewed_by_its_date_keeps_its_tag() {
    let stage = Stage::new().start().await;
    let modified = "Wed, 01 Jan 2020 00:00:00 GMT";
    stage.origin.respond(LIST, move |seen| {
        let answer = Answer::json("{}").header("last-modified", modified);
        if seen.field("if-modified-since") == modified { answer.with_status(304) } else { answer }
    });
    let etag = stage.get(LIST).await.field("etag");
    stage.advance_secs(120 + 600);
    let renewed = stage.get(LIST).await;
    assert_eq!((renewed.detail(), renewed.field("etag")), ("renewed".into(), etag));
    assert_eq!(stage.origin.last().field("if-none-match"), "");
}
