//! An order: which of the answers that show the variant go, as the shop has chosen.

use serde_json::{Value, json};

use crate::fixture::{Capture, capture};
use crate::replay::Derived;
use crate::stage::{Ask, Stage, outcome};

const PRODUCT: &str = "prod_01M7Y0CMCJETBX74YCXW3R4QPA";
const VARIANT: &str = "variant_01M7Y0CPNKA3N340SE4K629TYF";

/// The product's page as the storefront asks for it, by handle.
fn page() -> &'static Capture {
    capture("product-starter-by-handle")
}

/// Cards with quantities, the product's among them.
fn cards() -> &'static Capture {
    capture("products-12-starter")
}

fn stock_details() -> Value {
    json!({ "id": VARIANT, "product": PRODUCT, "handle": "raw-fleece-scarf-8" })
}

/// Asks for all, tells of the order, and asks again.
async fn after(more: &str, event: &str, data: Value) -> Vec<String> {
    let quantities = "fields=%2Bvariants.inventory_quantity";
    let targets = [
        format!("/store/products/{PRODUCT}?{quantities}"),
        format!("/store/products?id[]=prod_1&id[]={PRODUCT}&{quantities}"),
        format!("/store/product-variants/{VARIANT}?fields=%2Binventory_quantity"),
        format!("/store/product-variants?product_id={PRODUCT}&fields=%2Binventory_quantity"),
        // Another product's page, and one card that is all there is of a collection.
        format!("/store/products?handle=another&{quantities}"),
        format!("/store/products?collection_id[]=pcol_1&{quantities}"),
    ];
    let derived: Vec<_> = targets.iter().map(|target| Derived { target, like: page(), body: None }).collect();
    let stage = Stage::with(more, &derived).await;
    let mut asks = vec![Ask::of(page()), Ask::of(cards())];
    asks.extend(targets.iter().map(|target| Ask::of(page()).to(target)));
    for ask in &asks {
        assert_eq!(outcome(&stage.ask(ask).await), "miss");
    }
    stage.tell(event, data).await;
    let mut found = Vec::new();
    for ask in &asks {
        found.push(outcome(&stage.ask(ask).await).to_owned());
    }
    found
}

#[tokio::test]
async fn no_answer_that_shows_the_variant_goes_on_as_it_was() {
    let all = after("", "endcap.stock", json!({ "id": VARIANT })).await;
    assert!(all.iter().all(|outcome| outcome == "renewed"), "{all:?}");
}

#[tokio::test]
async fn lists_of_cards_keep_their_age_where_details_alone_are_told() {
    let found = after("", "endcap.stock-details", stock_details()).await;
    let [page, cards, own @ .., another, collection] = &found[..] else { panic!() };
    assert!(page == "renewed" && own.len() == 4 && own.iter().all(|outcome| outcome == "renewed"), "{found:?}");
    assert_eq!((cards.as_str(), another.as_str(), collection.as_str()), ("hit", "hit", "hit"));
}

/// As deploy/README.md says it.
const BY_AGE: &str = "[event]\n\"inventory.*\" = { soft = [\"stock-details\"] }\n\
    \"inventory-level.*\" = { soft = [\"stock-details\"] }\n\"reservation-item.*\" = { soft = [\"stock-details\"] }\n";

#[tokio::test]
async fn without_the_plugin_a_shop_chooses_by_three_lines() {
    let readme = include_str!("../../deploy/README.md");
    assert!(readme.contains(BY_AGE), "the documented lines are the tried ones");
    for (more, others) in [("", "stale"), (BY_AGE, "hit")] {
        for event in ["inventory.inventory-level.updated", "inventory-level.updated", "reservation-item.created"] {
            let found = after(more, event, json!({ "id": "ilev_1" })).await;
            let [page, cards, own @ .., _, collection] = &found[..] else { panic!() };
            assert!(page == "stale" && own.iter().all(|outcome| outcome == "stale"), "{event} {found:?}");
            assert_eq!((cards.as_str(), collection.as_str()), (others, others), "{event}");
        }
    }
}
