//! For each recorded public answer: a purge of each id in it makes the next read a miss, a purge of any other does not.

use std::collections::BTreeSet;
use std::sync::Arc;

use endcap::policy::route::Rule;
use endcap::policy::tags::{TAGS_MAX, TagHash, Tags};

use crate::fixture::{Capture, KINDS, capture, captures, ids, kind};
use crate::keys::route;
use crate::stage::{Ask, Stage, assert_recorded, medusa, outcome};

/// Every GET answered 200 that may be answered from the cache, with its route.
pub(crate) const CACHED: [(&str, &str); 51] = [
    ("regions", "regions"),
    ("region", "regions"),
    ("currencies", "currencies"),
    ("currency", "currencies"),
    ("collections", "collections"),
    ("collection", "collections"),
    ("collection-by-handle-with-products", "collections"),
    ("categories", "product-categories"),
    ("categories-starter", "product-categories"),
    ("categories-tree", "product-categories"),
    ("category", "product-categories"),
    ("category-by-handle-with-products", "product-categories"),
    ("tags", "product-tags"),
    ("tags-slim", "product-tags"),
    ("tag-slim", "product-tags"),
    ("types-slim", "product-types"),
    ("type", "product-types"),
    ("options", "product-options"),
    ("variants", "product-variants"),
    ("return-reasons", "return-reasons"),
    ("payment-providers", "payment-providers"),
    ("products-12", "products"),
    ("products-2", "products"),
    ("products-12-priced-eu", "products"),
    ("products-2-priced-eu", "products"),
    ("products-2-priced-us", "products"),
    ("products-2-priced-eu-country-de", "products"),
    ("products-12-starter", "products"),
    ("product-starter-by-handle", "products"),
    ("products-by-collection", "products"),
    ("products-by-category", "products"),
    ("products-by-tag", "products"),
    ("products-by-q", "products"),
    ("products-ordered", "products"),
    ("products-categories-tags-fields", "products"),
    ("product", "product"),
    ("product-priced-sale", "product"),
    ("product-vip-anonymous", "product"),
    ("b2b-products-2", "products"),
    ("web-products-2", "products"),
    ("if-none-match-no-cache", "regions"),
    ("origin-allowed", "currencies"),
    ("origin-other", "currencies"),
    ("accept-encoding", "regions"),
    ("range", "regions"),
    ("unknown-field", "products"),
    ("restricted-field", "products"),
    ("huge-limit", "products"),
    ("locale-header", "collections"),
    ("locale-query", "collections"),
    ("accept-language", "collections"),
];

fn cached() -> impl Iterator<Item = &'static Capture> {
    CACHED.iter().map(|(name, _)| capture(name))
}

/// The request, without what asks for less than the whole answer.
fn whole(capture: &Capture) -> Ask {
    Ask::of(capture).without("if-none-match").without("range")
}

#[test]
fn these_captures_may_be_answered_from_the_cache_and_no_others() {
    let answered = captures().iter().filter(|capture| capture.method == "GET" && capture.status == 200);
    let found: Vec<_> = answered.filter_map(|it| Some((it.name.as_str(), route(&medusa(), &Ask::of(it))?))).collect();
    assert_eq!(found, CACHED.map(|(name, route)| (name, route.to_owned())));
}

#[tokio::test]
async fn an_answer_is_filled_once_and_then_served_byte_for_byte() {
    for capture in cached() {
        let (stage, ask) = (Stage::new().await, whole(capture));
        for expected in ["miss", "hit", "hit"] {
            let answer = stage.ask(&ask).await;
            assert_recorded(&answer, capture);
            assert_eq!(outcome(&answer), expected, "{}", capture.name);
        }
        assert_eq!(stage.replay.requests(), 1, "{}", capture.name);
    }
}

#[test]
fn the_tags_of_a_body_are_exactly_the_ids_in_it() {
    let mut kinds = BTreeSet::new();
    for capture in cached() {
        let body = std::str::from_utf8(&capture.body).unwrap();
        let mut tags = Tags::new();
        tags.add_body(&rule(capture), &capture.body).unwrap();
        let (tags, collapsed) = tags.finish(TAGS_MAX);
        let mut expected: Vec<TagHash> = ids(body).iter().map(|id| TagHash::of(id)).collect();
        expected.sort_unstable();
        assert_eq!((&*tags, collapsed), (&*expected, 0), "{}", capture.name);
        kinds.extend(ids(body).iter().map(|id| kind(id).to_owned()));
    }
    // No public answer shows a sales channel.
    let shown: BTreeSet<String> = KINDS.iter().filter(|kind| **kind != "sc").map(ToString::to_string).collect();
    assert_eq!(kinds, shown);
}

fn rule(capture: &Capture) -> Arc<Rule> {
    Arc::clone(medusa().routes.find(capture.path()).unwrap())
}

#[tokio::test]
async fn a_purge_of_each_id_of_a_product_answer_makes_the_next_read_a_miss() {
    for capture in cached().filter(|capture| capture.path().starts_with("/store/products")) {
        check_each_id(capture).await;
    }
}

#[tokio::test]
async fn a_purge_of_each_id_of_any_other_answer_makes_the_next_read_a_miss() {
    for capture in cached().filter(|capture| !capture.path().starts_with("/store/products")) {
        check_each_id(capture).await;
    }
}

/// Purges one id after the other, the first of each kind by the webhook that names such rows.
async fn check_each_id(capture: &Capture) {
    let (stage, ask) = (Stage::new().await, whole(capture));
    stage.ask(&ask).await;
    let mut kinds = BTreeSet::new();
    for (at, id) in sample(&capture.ids()).iter().enumerate() {
        let asked = stage.replay.requests();
        if kinds.insert(kind(id)) {
            stage.webhook(event(kind(id)), id).await;
        } else {
            stage.purge([id]).await;
        }
        // Half of the answers have changed meanwhile, for all that the backend says.
        stage.replay.answer_whole(at % 2 == 0);
        let answer = stage.ask(&ask).await;
        let expected = if at % 2 == 0 { "miss" } else { "renewed" };
        assert_eq!((outcome(&answer), stage.replay.requests()), (expected, asked + 1), "{}: {id}", capture.name);
        assert_recorded(&answer, capture);
        let answer = stage.ask(&ask).await;
        assert_eq!(outcome(&answer), "hit", "{}: after {id}", capture.name);
    }
}

/// All ids, or of many every so-manieth, with the first and the last of each kind.
fn sample(ids: &BTreeSet<String>) -> Vec<&String> {
    const MANY: usize = 60;
    let all: Vec<&String> = ids.iter().collect();
    let step = if all.len() > MANY { all.len() / 40 + 1 } else { 1 };
    let at_edge = |at: usize| {
        let same = |other: Option<&&String>| other.is_some_and(|other| kind(other) == kind(all[at]));
        at == 0 || !same(all.get(at - 1)) || !same(all.get(at + 1))
    };
    (0..all.len()).filter(|at| at % step == 0 || at_edge(*at)).map(|at| all[at]).collect()
}

/// An event that names a row of the kind.
fn event(kind: &str) -> &'static str {
    match kind {
        "prod" => "product.updated",
        "variant" => "product-variant.updated",
        "opt" => "product-option.updated",
        "optval" => "product.product-option-value.updated",
        "img" => "product.product-image.updated",
        "pcol" => "product-collection.updated",
        "pcat" => "product-category.updated",
        "ptyp" => "product-type.updated",
        "ptag" => "product-tag.updated",
        "pset" => "pricing.price-set.updated",
        "price" => "pricing.price.updated",
        "plist" => "pricing.price-list.updated",
        "reg" => "region.updated",
        "rr" => "order.return-reason.updated",
        other => panic!("no event names a row {other:?}"),
    }
}

#[tokio::test]
async fn a_purge_of_every_id_that_is_not_in_an_answer_leaves_it_a_hit() {
    let all: BTreeSet<String> = captures().iter().flat_map(Capture::ids).collect();
    for capture in cached() {
        let (stage, ask) = (Stage::new().await, whole(capture));
        stage.ask(&ask).await;
        let own = capture.ids();
        // All that the other answers show, and of each kind one that nobody knows.
        let foreign = all.difference(&own).cloned();
        let unheard_of = KINDS.iter().map(|kind| format!("{kind}_01ZZZZZZZZZZZZZZZZZZZZZZZZ"));
        stage.purge(foreign.chain(unheard_of)).await;
        let answer = stage.ask(&ask).await;
        assert_eq!((outcome(&answer), stage.replay.requests()), ("hit", 1), "{}", capture.name);
        assert_recorded(&answer, capture);
    }
}
