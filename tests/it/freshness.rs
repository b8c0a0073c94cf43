//! How long an answer is good, and what is said of it on the way out.

use crate::stage::{Answer, MEDUSA, Stage};

/// A route whose answers live as long as the origin says.
const ORIGIN_DECIDES: &str = "[route.things]\npaths = [\"/things/{id}\"]\npolicy = \"origin\"\n";

#[tokio::test]
async fn in_its_window_a_stale_answer_is_served_while_one_refresh_runs_behind() {
    let stage = Stage::new().start().await;
    stage.get("/store/products").await;
    stage.advance_secs(121);
    stage.origin.publish(2);
    let hold = stage.origin.hold("/store/products");
    for _ in 0..3 {
        let stale = stage.get("/store/products").await;
        assert_eq!((stale.detail(), stale.version()), ("stale".to_owned(), 1));
    }
    hold.arrived(1).await;
    hold.release();
    stage.settled(0).await;
    let fresh = stage.get("/store/products").await;
    assert_eq!((fresh.detail(), fresh.version(), fresh.field("age")), ("hit".to_owned(), 2, "0".to_owned()));
    assert_eq!(stage.origin.total(), 2);
    assert_eq!(stage.metric(0, "endcap_refreshes_total", &[]).await, 1.0);
}

#[tokio::test]
async fn after_its_window_an_answer_is_refilled_before_it_is_served() {
    let stage = Stage::new().start().await;
    stage.get("/store/products").await;
    stage.advance_secs(120 + 600);
    stage.origin.publish(2);
    let reply = stage.get("/store/products").await;
    assert_eq!((reply.detail(), reply.version()), ("miss".to_owned(), 2));
}

#[tokio::test]
async fn a_stale_answer_says_to_nobody_downstream_that_it_is_fresh() {
    let stage = Stage::new().also("[route.products]\ncache_control = \"public, max-age=60\"\n").start().await;
    let body = Answer::json("{}").header("cdn-cache-control", "max-age=900").header("surrogate-control", "max-age=900");
    let expires = "Fri, 01 Jan 2100 00:00:00 GMT";
    stage.origin.answer("/store/products", body.header("expires", expires));
    assert_eq!(stage.get("/store/products").await.field("cache-control"), "public, max-age=60");
    stage.advance_secs(121);
    let hold = stage.origin.hold("/store/products");
    let stale = stage.get("/store/products").await;
    hold.arrived(1).await;
    assert_eq!(stale.detail(), "stale");
    assert_eq!(stale.field("cache-control"), "max-age=0, must-revalidate");
    // A CDN believes these before it looks at Cache-Control (RFC 9213).
    for name in ["cdn-cache-control", "surrogate-control", "expires"] {
        assert_eq!(stale.field(name), "", "{name}");
    }
}

#[tokio::test]
async fn a_validator_saves_the_body_at_a_refresh() {
    let stage = Stage::new().start().await;
    stage.origin.answer("/store/products", Answer::json("{}").etag("\"1\""));
    stage.get("/store/products").await;
    stage.advance_secs(120 + 600);
    let renewed = stage.get("/store/products").await;
    let said = renewed.field("cache-status");
    assert!(said.starts_with("endcap; fwd=stale; fwd-status=304; stored; key="), "{said}");
    assert_eq!(renewed.detail(), "renewed");
    assert_eq!(stage.origin.last().field("if-none-match"), "\"1\"");
    assert_eq!((renewed.status, renewed.text()), (200, "{}".to_owned()));
    assert_eq!(stage.get("/store/products").await.detail(), "hit");
}

#[tokio::test]
async fn the_origins_own_lifetime_holds_where_the_rule_lets_it() {
    let stage = Stage::new().config(ORIGIN_DECIDES).start().await;
    let json = || Answer::json("{}");
    for (path, answer, then) in [
        ("/things/a", json().header("cache-control", "max-age=10"), "hit"),
        ("/things/b", json().header("cache-control", "max-age=10, s-maxage=3"), "miss"),
        ("/things/c", json().header("cache-control", "max-age=10").header("age", "6"), "miss"),
        ("/things/d", json(), "miss"),
        ("/things/e", json().header("cache-control", "max-age=3, stale-while-revalidate=9"), "stale"),
        ("/things/f", json().header("cache-control", "max-age=10, private"), "pass.marker"),
    ] {
        stage.origin.answer(path, answer);
        stage.get(path).await;
        stage.advance_secs(5);
        assert_eq!(stage.get(path).await.detail(), then, "{path}");
    }
}

#[tokio::test]
async fn a_304_that_does_not_repeat_the_lifetime_keeps_the_stored_one() {
    // RFC 9111 §4.3.4: the fields of a 304 update the stored ones; what it leaves out stands.
    let stage = Stage::new().config(ORIGIN_DECIDES).start().await;
    stage.origin.answer("/things/a", Answer::json("{}").etag("\"1\"").header("cache-control", "max-age=10"));
    stage.get("/things/a").await;
    stage.advance_secs(11);
    stage.origin.answer("/things/a", Answer::json("{}").etag("\"1\""));
    assert_eq!(stage.get("/things/a").await.detail(), "renewed");
    assert_eq!(stage.get("/things/a").await.detail(), "hit");
}

#[tokio::test]
async fn the_age_of_a_304_counts() {
    let stage = Stage::new().config(ORIGIN_DECIDES).start().await;
    let answer = Answer::json("{}").etag("\"1\"").header("cache-control", "max-age=10");
    stage.origin.answer("/things/a", answer.clone());
    stage.get("/things/a").await;
    stage.advance_secs(11);
    // Another cache stands between the origin and us.
    stage.origin.answer("/things/a", answer.header("age", "8"));
    let renewed = stage.get("/things/a").await;
    assert_eq!((renewed.detail(), renewed.field("age")), ("renewed".to_owned(), "8".to_owned()));
    stage.advance_secs(3);
    assert_eq!(stage.get("/things/a").await.detail(), "renewed", "10 s are over");
}

#[tokio::test]
async fn a_304_that_says_private_is_not_stored_as_fresh() {
    let stage = Stage::new().start().await;
    stage.origin.answer("/store/regions", Answer::json("{}").etag("\"1\""));
    stage.get("/store/regions").await;
    stage.purge("hard", &["list:region"]).await;
    stage.origin.answer("/store/regions", Answer::json("{}").etag("\"1\"").header("cache-control", "private"));
    stage.get("/store/regions").await;
    assert_ne!(stage.get("/store/regions").await.detail(), "hit");
}

#[tokio::test]
async fn negative_answers_are_remembered_briefly_and_can_be_purged() {
    let stage = Stage::new().start().await;
    let path = "/store/products/prod_1";
    stage.origin.answer(path, Answer::status(404));
    assert_eq!((stage.get(path).await.status, stage.get(path).await.detail()), (404, "hit".to_owned()));
    stage.advance_secs(10);
    assert_eq!(stage.get(path).await.detail(), "miss", "for negative_ttl alone");
    assert_eq!(stage.get(path).await.detail(), "hit");
    // A 404 shows no id: its path is what a new product purges.
    stage.origin.answer(path, Answer::json(r#"{"product":{"id":"prod_1"}}"#));
    stage.purge("hard", &["path:/store/products/prod_1"]).await;
    assert_eq!(stage.get(path).await.status, 200);
}

#[tokio::test]
async fn without_negative_ttl_a_404_is_not_remembered() {
    let stage = Stage::new().start().await;
    stage.origin.answer("/store/products", Answer::status(404));
    assert_eq!(
        (stage.get("/store/products").await.detail(), stage.get("/store/products").await.detail()),
        ("miss".into(), "miss".into())
    );
}

#[tokio::test]
async fn jitter_spreads_lifetimes_but_within_its_share() {
    let stage = Stage::new().config(MEDUSA).variable("ENDCAP_CACHE__JITTER", "0.1").start().await;
    let mut lifetimes = Vec::new();
    for n in 0..20 {
        let target = format!("/store/products/prod_{n}");
        stage.get(&target).await;
        let said = stage.get(&target).await.field("cache-status");
        let ttl = said.split("ttl=").nth(1).and_then(|rest| rest.split(';').next()).unwrap();
        lifetimes.push(ttl.parse::<u64>().unwrap());
    }
    assert!(lifetimes.iter().all(|ttl| (108..=132).contains(ttl)), "{lifetimes:?}");
    assert!(lifetimes.iter().any(|ttl| *ttl != lifetimes[0]), "{lifetimes:?}");
}

#[tokio::test]
async fn the_routes_cache_control_is_for_what_is_stored() {
    let route = "[route.things]\npaths = [\"/things/{id}\"]\ncache_control = \"public, s-maxage=600\"\n";
    let stage = Stage::new().config(route).start().await;
    for status in [500, 429, 400, 403] {
        let path = format!("/things/{status}");
        stage.origin.answer(&path, Answer::status(status));
        let said = stage.get(&path).await.field("cache-control");
        assert!(!said.contains("s-maxage"), "{status}: {said}");
    }
    assert_eq!(stage.get("/things/1").await.field("cache-control"), "public, s-maxage=600");
}
