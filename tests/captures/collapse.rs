//! An answer with more ids than an entry has tags for: the largest kinds stand for their rows, the others still count.

use std::collections::BTreeSet;

use endcap::policy::tags::TAGS_MAX;

use crate::fixture::{KINDS, capture, ids, kind};
use crate::replay::Derived;
use crate::stage::{Ask, Stage, outcome};

/// The list of 12 eight times over, as 96 other products.
const TARGET: &str = "/store/products?limit=96&region_id=reg_01M7Y0CJMSR92S9NXXSRFK6ZG6";

#[tokio::test]
async fn the_largest_kinds_collapse_and_only_they_are_purged_by_strangers() {
    let twelve = capture("products-12-starter");
    let text = std::str::from_utf8(&twelve.body).unwrap();
    let copies: Vec<String> = (0..8).map(|copy| text.replace("_01M7", &format!("_{copy}1M7"))).collect();
    let body = format!("{{\"products\":[{}]}}", copies.join(","));
    let own = ids(&body);
    assert_eq!(own.len(), 8 * ids(text).len());
    let count = |wanted: &str| own.iter().filter(|id| kind(id) == wanted).count();
    // Prices go first; variants and price sets are as many, and one of them is enough.
    assert!(own.len() - count("price") > TAGS_MAX && count("variant") == count("pset"));
    assert!(own.len() - count("price") - count("pset") < TAGS_MAX - 20);

    let derived = Derived { target: TARGET, like: twelve, body: Some(body.into()) };
    let (stage, ask) = (Stage::with("", &[derived]).await, Ask::of(twelve).to(TARGET));
    assert_eq!(outcome(&stage.ask(&ask).await), "miss");
    let mut collapsed = BTreeSet::new();
    for kind in KINDS {
        stage.purge([format!("{kind}_01ZZZZZZZZZZZZZZZZZZZZZZZZ")]).await;
        if outcome(&stage.ask(&ask).await) != "hit" {
            collapsed.insert(kind);
        }
    }
    assert!([["price", "pset"], ["price", "variant"]].iter().any(|kinds| collapsed == kinds.iter().copied().collect()));
    for id in own.iter().step_by(61).chain(own.last()) {
        stage.purge([id]).await;
        assert_eq!(outcome(&stage.ask(&ask).await), "renewed", "{id}");
    }
}
