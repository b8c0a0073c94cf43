//! The shapes of our bodies are those of the captured ones.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Stage, captured, open};

/// All paths to a key; the rows of an array are taken together.
fn paths(value: &Value, at: &str, all: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let at = format!("{at}.{key}");
                paths(value, &at, all);
                all.insert(at);
            }
        }
        Value::Array(rows) => rows.iter().for_each(|row| paths(row, &format!("{at}[]"), all)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn shape(body: &Value, except: &[&str]) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    paths(body, "", &mut all);
    all.retain(|path| !except.iter().any(|prefix| path.starts_with(prefix)));
    all
}

fn assert_same_shape(name: &str, ours: &Value, except: &[&str]) {
    let theirs = shape(&serde_json::from_str(&captured(name)).unwrap(), except);
    let ours = shape(ours, except);
    assert!(!ours.is_empty(), "{name}: nothing to compare");
    let missing: Vec<_> = theirs.difference(&ours).collect();
    let foreign: Vec<_> = ours.difference(&theirs).collect();
    assert!(missing.is_empty() && foreign.is_empty(), "{name}: missing {missing:#?}, foreign {foreign:#?}");
}

/// The query of the storefront starter.
const STARTER: &str = "*variants.calculated_price,%2Bvariants.inventory_quantity,*variants.images,*variants.options,\
                       %2Bmetadata,%2Btags,";

#[tokio::test]
async fn every_body_has_the_keys_of_the_captured_one() {
    let stage = open(500);
    let shown = stage.shop.catalogue();
    let (eu, product) = (stage.region("eu"), &shown.products[0]);
    let in_collection = with_collection(&stage, &shown.collection_ids[0]).await;
    // A nullable object whose keys the captured rows happen not to show, since it is null in all of them.
    let collection: &[&str] = &[".products[].collection."];

    let table: Vec<(&str, String, &[&str])> = vec![
        ("products-12", "/store/products?limit=12".into(), &[]),
        // The captured product is in no collection.
        ("product", format!("/store/products/{}", product.id), &[".product.collection."]),
        (
            "products-2-priced-eu",
            format!("/store/products?limit=2&region_id={eu}&fields=*variants.calculated_price"),
            collection,
        ),
        (
            "products-2-priced-eu-country-de",
            format!("/store/products?limit=2&country_code=de&region_id={eu}&fields=*variants.calculated_price"),
            collection,
        ),
        (
            "product-starter-by-handle",
            format!("/store/products?limit=12&offset=0&region_id={eu}&fields={STARTER}&handle={in_collection}"),
            &[],
        ),
        (
            "products-categories-tags-fields",
            "/store/products?limit=2&fields=*categories,*tags,*collection,*type,%2Bmetadata".into(),
            collection,
        ),
        ("variants", "/store/product-variants?limit=6".into(), &[]),
        ("options", "/store/product-options?limit=10".into(), &[]),
        (
            "type",
            format!("/store/product-types/{}", first_id(&stage, "/store/product-types", "product_types").await),
            &[],
        ),
        ("regions", "/store/regions".into(), &[]),
        ("region", format!("/store/regions/{eu}"), &[]),
        ("currencies", "/store/currencies".into(), &[]),
        ("currency", "/store/currencies/eur".into(), &[]),
        ("collections", "/store/collections".into(), &[]),
        ("collection", format!("/store/collections/{}", shown.collection_ids[0]), &[]),
        ("collection-by-handle-with-products", "/store/collections?handle=collection-1&fields=*products".into(), &[]),
        ("categories", "/store/product-categories".into(), &[]),
        ("category", format!("/store/product-categories/{}", leaf_category(&stage).await), &[]),
        (
            "categories-tree",
            "/store/product-categories?parent_category_id=null&include_descendants_tree=true\
             &fields=id,name,handle,category_children"
                .into(),
            &[],
        ),
        (
            "category-by-handle-with-products",
            "/store/product-categories?fields=*category_children,%20*products&handle=new-men-shirts".into(),
            &[],
        ),
        ("return-reasons", "/store/return-reasons".into(), &[]),
        ("payment-providers", format!("/store/payment-providers?region_id={eu}"), &[]),
    ];
    for (name, target, except) in table {
        let answer = stage.get(&target).await;
        assert_eq!(answer.status, 200, "{target}");
        assert_same_shape(name, &answer.json(), except);
    }
}

#[tokio::test]
async fn a_cart_has_the_keys_of_the_captured_one() {
    let stage = open(20);
    let cart = stage.post("/store/carts", "{}").await;
    assert_eq!(cart.status, 200);
    assert_same_shape("cart-create", &cart.json(), &[]);
    let id = cart.json()["cart"]["id"].as_str().unwrap().to_owned();
    let item = format!(r#"{{"variant_id":"{}","quantity":1}}"#, stage.shop.catalogue().products[0].variant_id);
    let filled = stage.post(&format!("/store/carts/{id}/line-items"), &item).await;
    assert_same_shape("cart-add-item", &filled.json(), &[]);
}

#[tokio::test]
async fn keys_come_in_the_order_of_the_captured_ones() {
    // The order is no part of JSON, but a body that reads as the real one is easier to compare by eye.
    let stage = open(20);
    let ours = stage.get("/store/products?limit=12").await;
    let ours = std::str::from_utf8(&ours.body).unwrap();
    let keys = |body: &str| -> Vec<String> {
        let product = body.split_once(r#""products":[{"#).unwrap().1.split_once(r#","type":"#).unwrap().0.to_owned();
        product
            .split('"')
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
            .map(str::to_owned)
            .collect()
    };
    let names = ["id", "title", "subtitle", "description", "handle", "thumbnail", "weight", "material", "updated_at"];
    let order = |body: &str| keys(body).into_iter().filter(|key| names.contains(&key.as_str())).collect::<Vec<_>>();
    assert_eq!(order(ours), order(&captured("products-12")));
}

#[tokio::test]
async fn lists_and_details_are_as_long_as_the_captured_ones() {
    let stage = open(500);
    let mut lists = 0;
    for page in 0..10 {
        lists += stage.get(&format!("/store/products?limit=12&offset={}", page * 12)).await.body.len();
    }
    let (ours, theirs) = (lists / 10, captured("products-12").len());
    assert!(ours.abs_diff(theirs) < theirs / 10, "a list of 12: {ours} bytes, captured {theirs}");
}

async fn first_id(stage: &Stage, target: &str, key: &str) -> String {
    stage.get(target).await.json()[key][0]["id"].as_str().unwrap().to_owned()
}

async fn leaf_category(stage: &Stage) -> String {
    first_id(stage, "/store/product-categories?handle=new-men-shirts", "product_categories").await
}

/// The handle of a product that is in a collection.
async fn with_collection(stage: &Stage, collection: &str) -> String {
    let list = stage.get(&format!("/store/products?collection_id[]={collection}&fields=id,handle")).await.json();
    list["products"][0]["handle"].as_str().unwrap().to_owned()
}
