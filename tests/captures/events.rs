//! Each recorded change of a public answer: what its events purge is among the tags of the answers that changed.
//!
//! The tags are those of real classification: the probe's own request by its real rule, and the ids that a recorded body
//! of the same shape shows.

use std::collections::{BTreeMap, BTreeSet};

use endcap::policy::classify::{Plan, classify};
use endcap::policy::tags::{TAGS_MAX, TagHash, Tags};
use endcap::policy::webhook::{Event, expand, find_rule};
use http::{HeaderMap, Method};
use serde::Deserialize;

use crate::fixture::{capture, ids, kind, text};
use crate::stage::medusa;

#[derive(Deserialize)]
struct Mutation {
    label: String,
    events: Vec<Emitted>,
    changed: Vec<String>,
}

#[derive(Deserialize)]
struct Emitted {
    name: String,
    payload: serde_json::Value,
}

const FULL: &str = "*variants.calculated_price,%2Bvariants.inventory_quantity,*variants.images,*variants.options,\
    %2Bmetadata,*tags,*categories,*collection,*type,*images,*options,*options.values";

/// A change, and what the plugin says of it: an event and its data.
type Told = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// Changes without any event.
const SILENT: [Told; 8] = [
    ("category: add products back", CATEGORY_PRODUCTS, &[("id", "pcat_ROW"), ("named", "prod_ROW")]),
    ("category: remove products", CATEGORY_PRODUCTS, &[("id", "pcat_ROW"), ("named", "prod_ROW")]),
    (
        "image: variants",
        "POST:/admin/products/:id/images/:id/variants/batch",
        &[("id", "prod_ROW"), ("img", "img_ROW"), ("named", "variant_ROW")],
    ),
    ("price list: end date in the past", PRICE_LIST, &[("id", "plist_ROW")]),
    ("price list: end date off", PRICE_LIST, &[("id", "plist_ROW")]),
    ("price list: to active", PRICE_LIST, &[("id", "plist_ROW")]),
    ("price list: to draft", PRICE_LIST, &[("id", "plist_ROW")]),
    (
        "variant: images",
        "POST:/admin/products/:id/variants/:id/images/batch",
        &[("id", "prod_ROW"), ("variant", "variant_ROW"), ("named", "img_ROW")],
    ),
];
/// As it goes where the list's prices cannot be read; the oracle in tests/medusa tries what it becomes otherwise.
const PRICE_LIST: &str = "POST:/admin/price-lists/:id";
const CATEGORY_PRODUCTS: &str = "POST:/admin/product-categories/:id/products";

/// The request of a probe, where rows are `ROW`, and captures, or kinds after a plus, that together show what its answer
/// shows.
fn probe(name: &str) -> Option<(String, &'static [&'static str])> {
    let priced = |more: &str| format!("/store/products/prod_ROW?region_id=reg_ROW&{more}");
    Some(match name {
        "regions" => ("/store/regions".into(), &["regions"]),
        "region" => ("/store/regions/reg_ROW".into(), &["region"]),
        "collections" => ("/store/collections".into(), &["collections"]),
        "collections+products" => {
            ("/store/collections/pcol_ROW?fields=*products".into(), &["collection-by-handle-with-products"])
        }
        "categories" => ("/store/product-categories?limit=200".into(), &["categories"]),
        "category" => ("/store/product-categories/pcat_ROW".into(), &["category"]),
        "category+products" => {
            ("/store/product-categories/pcat_ROW?fields=*products".into(), &["category-by-handle-with-products"])
        }
        "tags" => ("/store/product-tags?fields=id,value,metadata&limit=100".into(), &["tags-slim"]),
        "tag+products" => ("/store/product-tags/ptag_ROW".into(), &["tags"]),
        "types" => ("/store/product-types?fields=id,value,metadata&limit=100".into(), &["types-slim"]),
        "type+products" => ("/store/product-types/ptyp_ROW".into(), &["type"]),
        "options" => ("/store/product-options/opt_ROW".into(), &["options"]),
        "variant" => (
            "/store/product-variants/variant_ROW?region_id=reg_ROW&fields=*calculated_price,%2Binventory_quantity"
                .into(),
            // There is no capture of a variant with its price.
            &["variants", "+pset", "+price"],
        ),
        "product EU" | "product US" => {
            (priced(&format!("fields={FULL}")), &["products-12-starter", "products-categories-tags-fields"])
        }
        "product DE tax" => (priced("country_code=de&fields=*variants.calculated_price"), &["products-12-priced-eu"]),
        "product plain" => ("/store/products/prod_ROW".into(), &["products-12"]),
        // Only the ids of products.
        "list all" => ("/store/products?limit=200&fields=id".into(), &["huge-limit"]),
        "list by category" => ("/store/products?category_id[]=pcat_ROW&fields=id&limit=200".into(), &["huge-limit"]),
        "list by collection" => {
            ("/store/products?collection_id[]=pcol_ROW&fields=id&limit=200".into(), &["huge-limit"])
        }
        "return-reasons" => ("/store/return-reasons".into(), &["return-reasons"]),
        "payment-providers" => ("/store/payment-providers?region_id=reg_ROW".into(), &["payment-providers"]),
        // Never stored.
        "cart" | "shipping-options" => return None,
        other => panic!("no probe {other:?}"),
    })
}

/// The tags of a probe's answer, each row as `kind_ROW`.
fn tags(target: &str, shape: &[&str]) -> BTreeSet<TagHash> {
    let config = medusa();
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let plan = classify(&config.routes, &Method::GET, path, query, "", &HeaderMap::new());
    let Plan::Cache(rule, key) = plan else { panic!("{target}: {plan:?}") };
    let mut tags = Tags::new();
    tags.add_request(rule, &key.view().unwrap());
    for name in shape {
        if let Some(kind) = name.strip_prefix('+') {
            tags.add(&format!("{kind}_ROW"));
            continue;
        }
        ids(std::str::from_utf8(&capture(name).body).unwrap())
            .iter()
            .for_each(|id| tags.add(&format!("{}_ROW", kind(id))));
    }
    tags.finish(TAGS_MAX).0.iter().copied().collect()
}

/// The tags that an event purges.
fn purged(event: &Event) -> BTreeSet<TagHash> {
    let rule = find_rule(&medusa().events, &event.name).cloned().unwrap_or_else(|| panic!("{}", event.name));
    expand(&rule, event).0.iter().map(|(tag, _)| TagHash::of(tag)).collect()
}

#[test]
fn the_events_of_each_recorded_change_purge_every_answer_that_changed() {
    let mutations: Vec<Mutation> = serde_json::from_str(&text("events.json")).unwrap();
    let mut missed: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let (mut proven, mut silent) = (0, BTreeSet::new());
    for mutation in &mutations {
        let seen: Vec<_> =
            mutation.changed.iter().filter_map(|changed| Some((changed.as_str(), probe(changed)?))).collect();
        let mut gone = BTreeSet::new();
        for emitted in &mutation.events {
            let id = emitted.payload.as_str().or_else(|| emitted.payload["id"].as_str());
            let id = id.map(|id| format!("{}_ROW", kind(id)));
            let data = id.map(|id| [("id".to_owned(), id.into())].into_iter().collect());
            gone.extend(purged(&Event { name: emitted.name.clone(), data: data.into_iter().collect(), notice: None }));
        }
        if mutation.events.is_empty() && !seen.is_empty() {
            silent.insert(mutation.label.as_str());
            let told = SILENT.iter().find(|(label, ..)| *label == mutation.label);
            let (_, name, data) = told.unwrap_or_else(|| panic!("nobody tells of {}", mutation.label));
            let data = data.iter().map(|(field, id)| ((*field).to_owned(), (*id).into())).collect();
            gone = purged(&Event { name: (*name).to_owned(), data: vec![data], notice: None });
        }
        for (changed, (target, shape)) in seen {
            if tags(&target, shape).is_disjoint(&gone) {
                missed.entry(&mutation.label).or_default().push(changed);
            } else {
                proven += 1;
            }
        }
    }
    assert_eq!((missed, proven), (BTreeMap::new(), 330));
    assert_eq!(silent, SILENT.iter().map(|(label, ..)| *label).collect());
}
