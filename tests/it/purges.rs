//! What a purge forgets, how strongly, and what it leaves alone.

use std::time::Duration;

use crate::stage::{Answer, LogLines, MEDUSA, Stage};

/// Two products, a list that shows the first, and the second's page.
async fn shop() -> Stage {
    let stage = Stage::new().start().await;
    stage.origin.answer("/store/products", Answer::json(r#"{"products":[{"id":"prod_1"}]}"#).etag("\"a\""));
    stage.origin.answer("/store/products/prod_2", Answer::json(r#"{"product":{"id":"prod_2"}}"#));
    stage.get("/store/products").await;
    stage.get("/store/products/prod_2").await;
    stage
}

#[tokio::test]
async fn a_hard_purge_makes_the_next_read_a_miss() {
    let stage = shop().await;
    stage.origin.answer("/store/products", Answer::json(r#"{"products":[]}"#));
    let said = stage.purge("hard", &["prod_1"]).await;
    assert_eq!((said["purged"].as_u64(), said["durable"].as_str()), (Some(1), Some("memory")));
    let reply = stage.get("/store/products").await;
    assert_eq!((reply.detail(), reply.text()), ("miss".to_owned(), r#"{"products":[]}"#.to_owned()));
    assert_eq!(stage.get("/store/products").await.detail(), "hit");
}

#[tokio::test]
async fn a_purge_of_another_tag_leaves_hits_alone() {
    let stage = shop().await;
    stage.purge("delete", &["prod_3", "list:collection", "prod_", "PROD_1", "prod_1 "]).await;
    assert_eq!(stage.get("/store/products").await.detail(), "hit");
    stage.purge("hard", &["prod_1"]).await;
    assert_eq!(stage.get("/store/products/prod_2").await.detail(), "hit");
    assert_ne!(stage.get("/store/products").await.detail(), "hit");
}

#[tokio::test]
async fn every_kind_of_tag_finds_its_answers() {
    let stage = Stage::new().start().await;
    stage.origin.respond("/store/products", |_| {
        Answer::json(r#"{"products":[{"id":"prod_1","variants":[{"id":"variant_9"}],"mpath":"pcat_1.pcat_2"}]}"#)
            .header("surrogate-key", "campaign summer")
    });
    let target = "/store/products?category_id=pcat_7&region_id=reg_1";
    let headers = [("x-publishable-api-key", "pk_1")];
    let filled = stage.get_with(target, &headers).await;
    assert_eq!(filled.field("surrogate-key"), "", "tags stay here");
    for tag in [
        "all",
        "route:products",
        "path:/store/products",
        "list:product",
        "any:product",
        "key:pk_1",
        "prod_1",
        "variant_9",
        "pcat_2",
        "pcat_7",
        "reg_1",
        "priced",
        "list:category",
        "campaign",
        "summer",
    ] {
        assert_eq!(stage.get_with(target, &headers).await.detail(), "hit", "before {tag}");
        stage.purge("hard", &[tag]).await;
        assert_eq!(stage.get_with(target, &headers).await.detail(), "miss", "{tag}");
    }
}

#[tokio::test]
async fn a_soft_purge_serves_stale_for_the_grace_while_it_refreshes() {
    let stage = shop().await;
    stage.advance_secs(10);
    let hold = stage.origin.hold("/store/products");
    stage.origin.answer("/store/products", Answer::json(r#"{"products":[]}"#));
    stage.purge("soft", &["list:product"]).await;
    for _ in 0..3 {
        let stale = stage.get("/store/products").await;
        assert_eq!(
            (stale.detail(), stale.text()),
            ("stale".to_owned(), r#"{"products":[{"id":"prod_1"}]}"#.to_owned())
        );
    }
    hold.arrived(1).await;
    hold.release();
    stage.settled(0).await;
    let fresh = stage.get("/store/products").await;
    assert_eq!((fresh.detail(), fresh.text()), ("hit".to_owned(), r#"{"products":[]}"#.to_owned()));
    assert_eq!(stage.origin.count("/store/products"), 2);
}

#[tokio::test]
async fn after_the_grace_a_soft_purge_is_a_hard_one() {
    let stage = shop().await;
    stage.advance_secs(10);
    stage.purge("soft", &["list:product"]).await;
    stage.origin.answer("/store/products", Answer::json(r#"{"products":[]}"#));
    stage.advance_secs(2);
    let reply = stage.get("/store/products").await;
    assert_eq!((reply.detail(), reply.text()), ("miss".to_owned(), r#"{"products":[]}"#.to_owned()));
}

#[tokio::test]
async fn a_burst_of_soft_purges_costs_a_hot_list_one_refresh_a_grace() {
    let stage = shop().await;
    for _ in 0..60 {
        stage.advance(Duration::from_millis(100));
        stage.purge("soft", &["list:product"]).await;
        let reply = stage.get("/store/products").await;
        assert_eq!(reply.detail(), "stale", "never fresh, and nobody waits");
        stage.settled(0).await;
    }
    // Six seconds, half a grace apart at the closest.
    let refreshes = stage.origin.count("/store/products") - 1;
    assert!((3..=6).contains(&refreshes), "{refreshes}");
}

#[tokio::test]
async fn when_the_origin_fails_what_was_purged_hard_still_serves_and_what_was_deleted_never() {
    let stage = shop().await;
    stage.origin.answer("/store/products", Answer::reset());
    stage.origin.answer("/store/products/prod_2", Answer::reset());
    stage.purge("hard", &["prod_1"]).await;
    stage.purge("delete", &["prod_2"]).await;
    let hard = stage.get("/store/products").await;
    assert_eq!((hard.status, hard.detail().split('.').next().unwrap().to_owned()), (200, "stale_error".to_owned()));
    let deleted = stage.get("/store/products/prod_2").await;
    assert_eq!(deleted.status, 502);
    // Also once the failure is remembered, and after it.
    assert_eq!(stage.get("/store/products/prod_2").await.status, 502);
    stage.advance_secs(1);
    assert_eq!(stage.get("/store/products/prod_2").await.status, 502);
    stage.purge("delete", &["prod_1"]).await;
    assert_eq!(stage.get("/store/products").await.status, 502);
}

#[tokio::test]
async fn a_purged_answer_is_revalidated_and_a_304_makes_it_good_again() {
    let stage = shop().await;
    stage.purge("hard", &["prod_1"]).await;
    assert_eq!(stage.get("/store/products").await.detail(), "renewed");
    assert_eq!(stage.origin.last().field("if-none-match"), "\"a\"");
    assert_eq!(stage.get("/store/products").await.detail(), "hit");
    stage.purge("hard", &["prod_1"]).await;
    assert_ne!(stage.get("/store/products").await.detail(), "hit", "its tags came with it");
}

#[tokio::test]
async fn a_purge_of_all_forgets_all() {
    let stage = shop().await;
    stage.purge("hard", &["all"]).await;
    for target in ["/store/products", "/store/products/prod_2"] {
        assert_ne!(stage.get(target).await.detail(), "hit");
    }
}

#[tokio::test]
async fn more_ids_than_an_entry_can_carry_collapse_and_are_still_found() {
    let stage = Stage::new().start().await;
    let ids: Vec<String> = (0..3000).map(|n| format!("\"prod_{n}\"")).collect();
    stage.origin.answer("/store/products", Answer::json(format!("[{}]", ids.join(","))));
    stage.get("/store/products").await;
    assert_eq!(stage.metric(0, "endcap_tags_collapsed_total", &[("route", "products")]).await, 3000.0);
    stage.purge("hard", &["prod_2999"]).await;
    assert_eq!(stage.get("/store/products").await.detail(), "miss");
    stage.purge("hard", &["variant_1"]).await;
    assert_eq!(stage.get("/store/products").await.detail(), "hit", "another kind");
}

#[tokio::test]
async fn a_purge_that_is_too_long_for_the_index_forgets_all_and_is_said() {
    let (log, _followed) = LogLines::follow();
    let stage = Stage::new().config(MEDUSA).also("[purge]\nmarks_max = 1000\n").start().await;
    stage.get("/store/products").await;
    let tags: Vec<String> = (0..500).map(|n| format!("tag:{n}")).collect();
    let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
    let said = || log.with("a purge is longer than purge.marks_max has room for: all that is older is refilled");
    stage.purge("hard", &tags[..400]).await;
    assert_eq!((said().len(), stage.get("/store/products").await.detail()), (0, "hit".to_owned()));
    let seq = stage.purge("hard", &tags).await["seq"].clone();
    assert_eq!((said().len(), &said()[0]["purge_seq"], &said()[0]["tags"]), (1, &seq, &serde_json::json!(500)));
    assert_eq!(stage.get("/store/products").await.detail(), "miss");
}

#[tokio::test]
async fn what_the_index_has_forgotten_counts_as_purged() {
    let stage = Stage::new().config(MEDUSA).also("[purge]\nmarks_max = 1000\n").start().await;
    stage.get("/store/products").await;
    for n in 0..8 {
        let tags: Vec<String> = (0..200).map(|m| format!("tag:{n}:{m}")).collect();
        let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
        stage.purge("hard", &tags).await;
        stage.purge("hard", &[&format!("other:{n}")]).await;
    }
    assert_ne!(stage.status(0).await["purges"]["floor"], "0-0");
    assert_eq!(stage.get("/store/products").await.detail(), "miss");
    assert_eq!(stage.get("/store/products").await.detail(), "hit");
}

/// One purge may be as long as the log takes: every node reads it, and one that starts behind it as well.
#[tokio::test]
async fn whatever_tag_an_answer_bears_a_purge_of_it_finds_the_answer() {
    let stage = Stage::new().start().await;
    let long = "x".repeat(4096);
    for tag in ["a", "prod_ä.b", &long] {
        stage.origin.answer("/store/products", Answer::json("{}").header("surrogate-key", &format!("{tag} other")));
        stage.origin.answer("/store/regions", Answer::json(format!(r#"{{"region":{{"id":"reg_{tag} {tag}"}}}}"#)));
        for (path, purged) in [("/store/products", tag), ("/store/regions", &format!("reg_{tag} {tag}"))] {
            stage.purge("hard", &["all"]).await;
            stage.get(path).await;
            assert_eq!(stage.get(path).await.detail(), "hit");
            stage.purge("hard", &[purged]).await;
            assert_ne!(stage.get(path).await.detail(), "hit", "{path} {purged}");
        }
    }
}

#[tokio::test]
async fn a_purge_of_a_hundred_thousand_tags_of_any_bytes_reaches_every_node() {
    let mut stage = Stage::new().redis().await.nodes(2).start().await;
    stage.origin.answer("/store/products", Answer::json(r#"{"products":[{"id":"prod_1"}]}"#));
    stage.origin.answer("/store/products/prod_2", Answer::json(r#"{"product":{"id":"prod_2"}}"#));
    for (node, target) in [(0, "/store/products"), (1, "/store/products"), (1, "/store/products/prod_2")] {
        stage.get_from(node, target).await;
    }
    let long = "x".repeat(4096);
    let odd = ["a", "\u{0}", "\"\\\r\n", "\u{10ffff}ä", long.as_str(), "prod_1"];
    let many: Vec<String> = (odd.len()..100_000).map(|n| format!("variant_{n}")).collect();
    let tags: Vec<&str> = many.iter().map(String::as_str).chain(odd).collect();
    let said = stage.purge("hard", &tags).await;
    assert_eq!(said["purged"], 100_000);
    stage.applied(1, said["seq"].as_str().unwrap()).await;
    for node in [0, 1] {
        assert_ne!(stage.get_from(node, "/store/products").await.detail(), "hit");
    }
    assert_eq!(stage.get_from(1, "/store/products/prod_2").await.detail(), "hit");
    let refused = stage.try_purge(0, "hard", &[&tags[..], &["one too many"]].concat()).await;
    assert!(refused.status >= 400 && refused.text().contains("100000"), "{}", refused.text());
    assert_eq!(stage.try_purge(0, "hard", &[]).await.status, 400);
    let late = stage.add_node();
    stage.applied(late, said["seq"].as_str().unwrap()).await;
    assert_eq!(stage.ops(late, "GET", "/readyz", &[], b"").await.status, 200);
}

#[tokio::test]
async fn what_redis_refuses_beside_a_line_of_the_log_is_said_once() {
    let (log, _followed) = LogLines::follow();
    let mut stage = Stage::new().redis().await.start().await;
    stage.redis().command(&["ACL", "SETUSER", "default", "-eval"]).await;
    for _ in 0..2 {
        assert_eq!(stage.purge("hard", &["a"]).await["durable"], "log");
    }
    let said = log.with("Redis does not take how long the purge log is kept, or how far it has come");
    assert_eq!(said.len(), 1, "{said:?}");
}
