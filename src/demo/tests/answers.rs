//! Headers, conditions, errors, filters, carts and counters.

use std::collections::BTreeSet;

use http::Method;
use serde_json::Value;

use super::{PUBLISHABLE_KEY, captured, open, settings};
use crate::demo::{PRODUCTS_MAX, Shop};
use crate::tasks::Tasks;

const KEY: (&str, &str) = ("x-publishable-api-key", PUBLISHABLE_KEY);

#[tokio::test]
async fn two_shops_answer_the_same() {
    let (one, other) = (open(300), open(300));
    assert_eq!(one.shop.catalogue(), other.shop.catalogue());
    for target in [
        "/store/products?limit=100",
        "/store/product-tags",
        "/store/product-categories",
        "/store/regions",
        "/store/hero-banners",
        "/store/product-variants?limit=100",
    ] {
        let (one, other) = (one.get(target).await, other.get(target).await);
        assert_eq!(one.status, 200, "{target}");
        assert!(one.body == other.body && one.header("etag") == other.header("etag"), "{target}");
    }
}

#[tokio::test]
async fn headers_are_those_of_the_captured_answer() {
    let stage = open(1);
    let answer = stage.get("/store/regions").await;
    let names: BTreeSet<&str> = answer.headers.keys().map(|name| name.as_str()).collect();
    let expected =
        ["x-powered-by", "vary", "access-control-allow-credentials", "content-type", "content-length", "etag", "date"];
    assert_eq!(names, BTreeSet::from(expected));
    assert_eq!(answer.header("vary"), Some("Origin"));
    assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
    assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
}

#[tokio::test]
async fn an_allowed_origin_is_echoed_and_another_is_not() {
    let stage = open(1);
    for (origin, allowed) in [("http://localhost:8000", Some("http://localhost:8000")), ("http://evil.example", None)] {
        let answer = stage.send(Method::GET, "/store/currencies/eur", &[KEY, ("origin", origin)], "").await;
        assert_eq!(answer.header("access-control-allow-origin"), allowed);
        assert_eq!(answer.header("vary"), Some("Origin"));
    }
    let asked = [("origin", "http://localhost:8000"), ("access-control-request-headers", "x-publishable-api-key")];
    let preflight = stage.send(Method::OPTIONS, "/store/products", &asked, "").await;
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("vary"), Some("Origin, Access-Control-Request-Headers"));
    assert_eq!(preflight.header("access-control-allow-headers"), Some("x-publishable-api-key"));
    assert_eq!(preflight.header("access-control-allow-origin"), Some("http://localhost:8000"));
}

#[tokio::test]
async fn head_has_the_length_and_the_tag_but_no_body() {
    let stage = open(1);
    let get = stage.get("/store/regions").await;
    let head = stage.send(Method::HEAD, "/store/regions", &[KEY], "").await;
    assert_eq!(head.status, 200);
    assert!(head.body.is_empty());
    assert_eq!(head.header("content-length"), Some(get.body.len().to_string().as_str()));
    assert_eq!(head.header("etag"), get.header("etag"));
    // As captured: without the headers that the framework adds by method.
    assert_eq!(head.header("vary"), None);
}

#[tokio::test]
async fn what_the_client_has_is_not_sent_again() {
    let stage = open(1);
    let tag = stage.get("/store/regions").await.header("etag").unwrap().to_owned();
    let conditional = [KEY, ("if-none-match", tag.as_str())];
    let answer = stage.send(Method::GET, "/store/regions", &conditional, "").await;
    assert_eq!(answer.status, 304);
    assert!(answer.body.is_empty());
    assert_eq!(answer.header("etag"), Some(tag.as_str()));
    assert_eq!(answer.header("vary"), Some("Origin"));
    assert_eq!(answer.header("content-type"), None);

    let insists = [KEY, ("if-none-match", tag.as_str()), ("cache-control", "no-cache")];
    assert_eq!(stage.send(Method::GET, "/store/regions", &insists, "").await.status, 200);
    let other = [KEY, ("if-none-match", "W/\"1-x\"")];
    assert_eq!(stage.send(Method::GET, "/store/regions", &other, "").await.status, 200);
}

#[tokio::test]
async fn errors_are_the_captured_ones_to_the_byte() {
    let stage = open(3);
    let check = async |status: u16, name: &str, target: &str, headers: &[(&str, &str)]| {
        let answer = stage.send(Method::GET, target, headers, "").await;
        assert_eq!(answer.status, status, "{name}");
        assert_eq!(std::str::from_utf8(&answer.body).unwrap(), captured(name), "{name}");
    };
    check(400, "no-key", "/store/products?limit=1", &[]).await;
    check(400, "bad-key", "/store/products?limit=1", &[("x-publishable-api-key", "pk_no")]).await;
    check(400, "bad-key", "/store/products?limit=1", &[KEY, KEY]).await;
    check(400, "unknown-param", "/store/products?limit=1&utm_source=x", &[KEY]).await;
    check(400, "bad-limit", "/store/products?limit=abc", &[KEY]).await;
    check(400, "products-priced-no-region", "/store/products?limit=2&fields=*variants.calculated_price", &[KEY]).await;
    check(404, "unknown-product", "/store/products/prod_nope", &[KEY]).await;
    check(404, "unknown-route", "/store/nope", &[KEY]).await;
    check(404, "unknown-route", "/store/nope", &[]).await;
}

#[tokio::test]
async fn a_list_is_paged_filtered_and_ordered() {
    let stage = open(200);
    let list = async |query: &str| stage.get(&format!("/store/products?{query}")).await.json();
    let ids = |list: &Value| -> Vec<String> {
        list["products"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    };

    let all = list("limit=1000&fields=id").await;
    assert_eq!((all["count"].as_u64(), ids(&all).len()), (Some(200), 200));
    assert_eq!(all["limit"], 1000);
    let page = list("limit=12&offset=24&fields=id").await;
    assert_eq!(ids(&page), ids(&all)[24..36]);
    assert_eq!(page["offset"], 24);
    assert_eq!(ids(&list("limit=0").await).len(), 0);
    assert_eq!(ids(&list("fields=id").await).len(), 50, "the default");
    assert_eq!(
        ids(&list("limit=3&order=-created_at&fields=id").await),
        [&*ids(&all)[199], &ids(&all)[198], &ids(&all)[197]]
    );

    let shown = stage.shop.catalogue();
    let (first, third) = (&shown.products[0], &shown.products[2]);
    assert_eq!(ids(&list(&format!("handle={}", first.handle)).await), [first.id.as_str()]);
    assert_eq!(ids(&list(&format!("id%5B0%5D={}&id%5B1%5D={}", third.id, first.id)).await), [&*first.id, &third.id]);
    let found = list(&format!("q={}&fields=id,title", first.title.to_uppercase().replace(' ', "%20"))).await;
    assert!(ids(&found).contains(&first.id));
    for (name, wanted) in [("collection_id", &shown.collection_ids[0]), ("category_id", &shown.category_ids[0])] {
        let some = list(&format!("limit=1000&{name}[]={wanted}&fields=id,collection_id")).await;
        assert!((1..200).contains(&ids(&some).len()), "{name}: {}", ids(&some).len());
        assert_eq!(some["count"].as_u64(), Some(ids(&some).len() as u64));
    }
    assert_eq!(list("category_id[]=pcat_nope").await["count"], 0);
}

#[tokio::test]
async fn prices_appear_with_a_region_and_differ_by_it() {
    let stage = open(10);
    let variant = async |query: &str, headers: &[(&str, &str)]| {
        let target = format!("/store/products?limit=1{query}");
        stage.send(Method::GET, &target, headers, "").await.json()["products"][0]["variants"][0].clone()
    };
    let (eu, us) = (stage.region("eu"), stage.region("us"));
    assert_eq!(variant("", &[KEY]).await.get("calculated_price"), None);
    let in_eu = variant(&format!("&region_id={eu}"), &[KEY]).await["calculated_price"].clone();
    let in_us = variant(&format!("&region_id={us}"), &[KEY]).await["calculated_price"].clone();
    assert_eq!((&in_eu["currency_code"], &in_us["currency_code"]), (&"eur".into(), &"usd".into()));
    assert_ne!(in_eu["calculated_amount"], in_us["calculated_amount"]);

    // On the same address, with status 200 and no `Vary`: why a cache must not share what a token was sent for.
    let vip = [KEY, ("authorization", "Bearer demo-vip")];
    let vip = variant(&format!("&region_id={eu}"), &vip).await["calculated_price"].clone();
    assert!(vip["calculated_amount"].as_f64() < in_eu["calculated_amount"].as_f64());
    let bad = [KEY, ("authorization", "Bearer nobody")];
    assert_eq!(variant(&format!("&region_id={eu}"), &bad).await["calculated_price"], in_eu);
    assert_eq!(stage.get("/store/products?region_id=reg_nope").await.status, 400);
}

#[tokio::test]
async fn carts_are_apart() {
    let stage = open(10);
    let create = async |body: &str| stage.post("/store/carts", body).await.json()["cart"].clone();
    let (one, other) = (create("").await, create(&format!(r#"{{"region_id":"{}"}}"#, stage.region("uk"))).await);
    let id = |cart: &Value| cart["id"].as_str().unwrap().to_owned();
    assert_ne!(id(&one), id(&other));
    assert_eq!((&one["currency_code"], &other["currency_code"]), (&"eur".into(), &"gbp".into()));

    let variant = stage.shop.catalogue().products[0].variant_id.clone();
    let line = format!(r#"{{"variant_id":"{variant}","quantity":2}}"#);
    let filled = stage.post(&format!("/store/carts/{}/line-items", id(&one)), &line).await;
    assert_eq!(filled.status, 200);
    let show = async |cart: &Value| stage.get(&format!("/store/carts/{}", id(cart))).await.json()["cart"].clone();
    let (one, other) = (show(&one).await, show(&other).await);
    assert_eq!(one["items"][0]["variant_id"], variant);
    assert_eq!(one["total"].as_f64().unwrap(), 2.0 * one["items"][0]["unit_price"].as_f64().unwrap());
    assert_eq!(other["items"], Value::Array(Vec::new()));

    let priced = format!("/store/products?limit=1&cart_id={}", id(&other));
    let price = stage.get(&priced).await.json()["products"][0]["variants"][0]["calculated_price"].clone();
    assert_eq!(price["currency_code"], "gbp", "a cart's region goes before the default");
    assert_eq!(stage.get("/store/carts/cart_nope").await.status, 404);
    assert_eq!(stage.send(Method::POST, "/store/carts", &[], "{}").await.status, 400, "needs the key");
}

#[tokio::test]
async fn reads_are_counted_by_path() {
    let stage = open(10);
    for _ in 0..3 {
        stage.get("/store/products?limit=1").await;
    }
    stage.get("/store/regions").await;
    stage.get("/store/nope").await;
    stage.send(Method::GET, "/store/regions", &[], "").await;
    assert_eq!(stage.shop.reads(), 4, "no route and no key: no read");
    let stats = stage.send(Method::GET, "/__shop/stats", &[], "").await.json();
    assert_eq!(stats, serde_json::json!({ "reads": 4, "by_path": { "/store/products": 3, "/store/regions": 1 } }));
    assert_eq!(serde_json::to_value(stage.shop.stats()).unwrap(), stats);
}

#[tokio::test]
async fn a_shop_stops_with_its_tasks() {
    let stage = open(1);
    assert_eq!(stage.send(Method::GET, "/health", &[], "").await.body, "OK");
    stage.tasks.stop().await;
    assert!(tokio::net::TcpStream::connect(stage.shop.addr).await.is_err());
}

#[tokio::test]
async fn a_shop_of_no_products_does_not_open() {
    for products in [0, PRODUCTS_MAX + 1] {
        let error = Shop::start(settings(products), &Tasks::new()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    }
}
