//! Purges and fills that overtake one another. Invariant: a fill that began before a purge never survives it.

use std::time::Duration;

use crate::stage::{Answer, Stage, within};

const LIST: &str = "/store/products";

#[tokio::test]
async fn a_purge_beats_a_fill_in_flight() {
    let stage = Stage::new().start().await;
    let hold = stage.origin.hold(LIST);
    let leader = stage.begin(LIST);
    hold.arrived(1).await;
    // The origin has read its database; now the product changes.
    stage.origin.publish(2);
    stage.purge("hard", &["list:product"]).await;
    hold.release();
    assert_eq!(within(leader).await.unwrap().version(), 1, "it asked before the purge");
    let next = stage.get(LIST).await;
    assert_eq!((next.detail(), next.version()), ("miss".to_owned(), 2));
    assert_eq!(stage.get(LIST).await.detail(), "hit");
    assert_eq!(stage.origin.total(), 2);
}

#[tokio::test]
async fn a_purge_of_a_product_that_only_the_body_shows_beats_a_fill_in_flight() {
    let stage = Stage::new().start().await;
    stage.origin.answer(LIST, Answer::json(r#"{"products":[{"id":"prod_1"}],"version":1}"#));
    let hold = stage.origin.hold(LIST);
    let leader = stage.begin(LIST);
    hold.arrived(1).await;
    stage.purge("delete", &["prod_1"]).await;
    stage.origin.answer(LIST, Answer::json(r#"{"products":[],"version":2}"#));
    hold.release();
    within(leader).await.unwrap();
    assert_eq!(stage.get(LIST).await.version(), 2);
}

#[tokio::test]
async fn a_purge_of_something_else_does_not_spoil_a_fill_in_flight() {
    let stage = Stage::new().start().await;
    let hold = stage.origin.hold(LIST);
    let leader = stage.begin(LIST);
    hold.arrived(1).await;
    stage.purge("hard", &["list:collection"]).await;
    let follower = stage.begin(LIST);
    stage.followers(1).await;
    hold.release();
    assert_eq!(within(leader).await.unwrap().detail(), "miss");
    assert_eq!(within(follower).await.unwrap().detail(), "collapsed");
    assert_eq!(stage.get(LIST).await.detail(), "hit");
    assert_eq!(stage.origin.total(), 1);
}

#[tokio::test]
async fn who_joined_after_the_purge_does_not_get_the_answer_from_before_it() {
    let stage = Stage::new().start().await;
    let hold = stage.origin.hold(LIST);
    let leader = stage.begin(LIST);
    hold.arrived(1).await;
    let before = stage.begin(LIST);
    stage.followers(1).await;
    stage.origin.publish(2);
    stage.purge("hard", &["list:product"]).await;
    let after = [stage.begin(LIST), stage.begin(LIST)];
    stage.followers(3).await;
    hold.release();
    assert_eq!(within(leader).await.unwrap().version(), 1);
    assert_eq!(within(before).await.unwrap().version(), 1);
    for reader in after {
        assert_eq!(within(reader).await.unwrap().version(), 2);
    }
    assert_eq!(stage.origin.total(), 2, "those who came later fly together again");
    assert_eq!(stage.metric(0, "endcap_flights_overtaken_total", &[]).await, 2.0);
}

#[tokio::test]
async fn an_answer_that_a_soft_purge_overtook_is_stored_as_stale_and_never_as_fresh() {
    let stage = Stage::new().start().await;
    let hold = stage.origin.hold(LIST);
    let leader = stage.begin(LIST);
    hold.arrived(1).await;
    stage.origin.publish(2);
    stage.advance_secs(1);
    stage.purge("soft", &["list:product"]).await;
    hold.release();
    within(leader).await.unwrap();
    let stale = stage.get(LIST).await;
    assert_eq!((stale.detail(), stale.version()), ("stale".to_owned(), 1), "within the grace");
    stage.origin.asked(2).await;
    stage.settled(0).await;
    let fresh = stage.get(LIST).await;
    assert_eq!((fresh.detail(), fresh.version()), ("hit".to_owned(), 2));
}

#[tokio::test]
async fn a_follower_takes_what_a_soft_purge_overtook_within_the_grace_alone() {
    for (wait, version) in [(1, 1), (3, 2)] {
        let stage = Stage::new().start().await;
        let hold = stage.origin.hold(LIST);
        let leader = stage.begin(LIST);
        hold.arrived(1).await;
        stage.origin.publish(2);
        stage.purge("soft", &["list:product"]).await;
        let follower = stage.begin(LIST);
        stage.followers(1).await;
        stage.advance_secs(wait);
        hold.release();
        within(leader).await.unwrap();
        assert_eq!(within(follower).await.unwrap().version(), version, "after {wait} s");
    }
}

#[tokio::test]
async fn a_304_renews_only_as_of_when_it_was_asked() {
    let stage = Stage::new().start().await;
    stage.origin.answer(LIST, Answer::json(r#"{"version":1}"#).etag("\"1\""));
    stage.get(LIST).await;
    stage.advance_secs(720);
    let hold = stage.origin.hold(LIST);
    let leader = stage.begin(LIST);
    hold.arrived(1).await;
    // The origin has said that nothing changed; then it does, while its answer is on the way.
    stage.purge("hard", &["list:product"]).await;
    stage.origin.answer(LIST, Answer::json(r#"{"version":2}"#).etag("\"2\""));
    hold.release();
    assert_eq!(within(leader).await.unwrap().detail(), "renewed");
    let next = stage.get(LIST).await;
    assert_eq!((next.detail(), next.version()), ("miss".to_owned(), 2));
}

#[tokio::test]
async fn a_refresh_behind_that_a_purge_overtakes_does_not_make_the_old_answer_fresh() {
    let stage = Stage::new().start().await;
    stage.get(LIST).await;
    stage.advance_secs(121);
    let hold = stage.origin.hold(LIST);
    assert_eq!(stage.get(LIST).await.detail(), "stale");
    hold.arrived(1).await;
    stage.origin.publish(2);
    stage.purge("hard", &["list:product"]).await;
    let reader = stage.begin(LIST);
    stage.followers(1).await;
    hold.release();
    assert_eq!(within(reader).await.unwrap().version(), 2);
    assert_eq!(stage.get(LIST).await.version(), 2);
}

#[tokio::test]
async fn a_failure_in_flight_does_not_bring_back_what_a_purge_deleted() {
    let stage = Stage::new().start().await;
    stage.get(LIST).await;
    stage.advance_secs(720);
    stage.origin.answer(LIST, Answer::status(500));
    let hold = stage.origin.hold(LIST);
    let leader = stage.begin(LIST);
    hold.arrived(1).await;
    stage.purge("delete", &["list:product"]).await;
    hold.release();
    assert_eq!(within(leader).await.unwrap().status, 500);
    assert_eq!(stage.get(LIST).await.status, 500);
}

#[tokio::test]
async fn a_negative_answer_in_flight_does_not_survive_the_product_that_appears() {
    let stage = Stage::new().start().await;
    let path = "/store/products/prod_1";
    stage.origin.answer(path, Answer::status(404));
    let hold = stage.origin.hold(path);
    let leader = stage.begin(path);
    hold.arrived(1).await;
    stage.origin.answer(path, Answer::json("{}"));
    stage.purge("hard", &["path:/store/products/prod_1"]).await;
    hold.release();
    assert_eq!(within(leader).await.unwrap().status, 404);
    assert_eq!(stage.get(path).await.status, 200);
}

#[tokio::test]
async fn readers_and_purges_at_once_never_see_what_was_before_an_acknowledged_purge() {
    let stage = Stage::new().start().await;
    let mut readers = Vec::new();
    for version in 2..30 {
        for _ in 0..4 {
            readers.push(stage.begin(LIST));
        }
        stage.origin.publish(version);
        stage.purge("hard", &["list:product"]).await;
        stage.advance(Duration::from_millis(1));
        let seen = stage.get(LIST).await.version();
        assert_eq!(seen, version);
    }
    for reader in readers {
        assert_eq!(within(reader).await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn an_answer_that_a_purge_overtook_is_fresh_for_nobody_downstream() {
    let route = "[route.things]\npaths = [\"/things\"]\ncache_control = \"public, s-maxage=600\"\n";
    let stage = Stage::new().config(route).start().await;
    stage.origin.answer("/things", Answer::json("{}").header("cdn-cache-control", "max-age=600"));
    let hold = stage.origin.hold("/things");
    let reader = stage.begin("/things");
    hold.arrived(1).await;
    stage.purge("hard", &["route:things"]).await;
    hold.release();
    let reply = within(reader).await.unwrap();
    let said = (reply.field("cache-control"), reply.field("cdn-cache-control"));
    assert_eq!(said, ("max-age=0, must-revalidate".to_owned(), String::new()));
}
