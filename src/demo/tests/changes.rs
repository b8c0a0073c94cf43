//! A change by the admin, and the webhook that tells of it.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use sha2::Sha256;
use tokio::net::TcpListener;

use super::{Stage, open};
use crate::demo::WebhookTarget;

const SECRET: &str = "whsec_ZGVtbyBzZWNyZXQgb2YgdGhlIHNhbXBsZSBzaG9w";

type Posts = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

/// Receives posts and answers each with the next of some statuses, the last one again and again.
async fn receiver(stage: &Stage, statuses: &'static [u16]) -> (WebhookTarget, Posts) {
    let posts = Posts::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = WebhookTarget::new(&format!("http://{}/hooks/shop", listener.local_addr().unwrap()), SECRET).unwrap();
    let (kept, stopping) = (Arc::clone(&posts), stage.tasks.stopping().clone());
    let serve = async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let answer = service_fn(|request: Request<Incoming>| {
                let kept = Arc::clone(&kept);
                async move {
                    assert_eq!((request.method(), request.uri().path()), (&Method::POST, "/hooks/shop"));
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    let mut kept = kept.lock().unwrap();
                    let status = statuses[kept.len().min(statuses.len() - 1)];
                    kept.push((head.headers, body));
                    let mut response = Response::new(Empty::<Bytes>::new());
                    *response.status_mut() = StatusCode::from_u16(status).unwrap();
                    Ok::<_, Infallible>(response)
                }
            });
            // A client that hangs up after the head is no failure.
            let _ended =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        }
    };
    stage.tasks.spawn(async move {
        tokio::select! { biased; () = stopping.cancelled() => {}, () = serve => {} }
    });
    (target, posts)
}

/// Checks a post as a receiver would, from the raw bytes.
fn assert_signed(headers: &HeaderMap, body: &[u8]) {
    let header = |name| headers.get(name).unwrap().to_str().unwrap();
    let key = STANDARD.decode(SECRET.strip_prefix("whsec_").unwrap()).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update([header("webhook-id"), ".", header("webhook-timestamp"), "."].concat().as_bytes());
    mac.update(body);
    assert_eq!(header("webhook-signature"), format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())));
    assert!(header("webhook-timestamp").parse::<u64>().is_ok());
}

#[tokio::test]
async fn a_change_is_seen_wherever_the_product_is_shown() {
    let stage = open(50);
    let product = stage.shop.catalogue().products[0].clone();
    let eu = stage.region("eu");
    let targets = [
        format!("/store/products/{}", product.id),
        format!("/store/products/{}?region_id={eu}", product.id),
        "/store/products?limit=12".to_owned(),
        "/store/hero-banners".to_owned(),
    ];
    let mut before = Vec::new();
    for target in &targets {
        before.push(stage.get(target).await);
    }
    let change = r#"{"title":"Renamed \u00e4 <b>","price":{"amount":12.5}}"#;
    let answer = stage.post(&format!("/admin/products/{}", product.id), change).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["product"]["title"], "Renamed ä <b>");
    assert_eq!(answer.json()["product"]["variants"][0]["calculated_price"]["calculated_amount"], 12.5);
    assert_eq!(answer.json()["webhook"], serde_json::json!({ "skipped": "no webhook target is configured" }));

    for (target, before) in targets.iter().zip(before) {
        let after = stage.get(target).await;
        assert_ne!(after.body, before.body, "{target}");
        assert_ne!(after.header("etag"), before.header("etag"), "{target}");
        assert!(String::from_utf8(after.body.to_vec()).unwrap().contains("Renamed ä <b>"), "{target}");
    }
    let priced = stage.get(&targets[1]).await.json();
    assert_eq!(priced["product"]["variants"][0]["calculated_price"]["calculated_amount"], 12.5);
    assert_eq!(priced["product"]["handle"], product.handle.as_str(), "a handle is an address and stays");
}

#[tokio::test]
async fn a_price_holds_in_its_region_alone() {
    let stage = open(10);
    let product = stage.shop.catalogue().products[0].id.clone();
    let amount = async |region: &str| {
        let target = format!("/store/products/{product}?region_id={}", stage.region(region));
        stage.get(&target).await.json()["product"]["variants"][0]["calculated_price"]["calculated_amount"].clone()
    };
    let (eu, uk) = (amount("eu").await, amount("uk").await);
    stage.post(&format!("/admin/products/{product}"), r#"{"price":{"region":"uk","amount":7}}"#).await;
    assert_eq!(amount("uk").await, 7);
    assert_ne!(uk, 7);
    assert_eq!(amount("eu").await, eu);
}

#[tokio::test]
async fn a_change_needs_the_token_and_makes_sense() {
    let stage = open(10);
    let product = format!("/admin/products/{}", stage.shop.catalogue().products[0].id);
    let title = r#"{"title":"x"}"#;
    for headers in [&[][..], &[("authorization", "Bearer demo")], &[("authorization", "demo-admin")]] {
        let answer = stage.send(Method::POST, &product, headers, title).await;
        assert_eq!(answer.status, 401);
        assert_eq!(answer.body, r#"{"message":"Unauthorized"}"#);
    }
    let check = async |status: u16, body: &str| {
        let answer = stage.post(&product, body).await;
        assert_eq!(answer.status, status, "{body}: {:?}", answer.body);
    };
    check(400, "").await;
    check(400, "{}").await;
    check(400, "{").await;
    check(400, r#"{"title":" "}"#).await;
    check(400, r#"{"title":"x","handle":"y"}"#).await;
    check(400, r#"{"price":{"amount":-1}}"#).await;
    check(400, r#"{"price":{"amount":"12"}}"#).await;
    check(404, r#"{"price":{"amount":1,"region":"mars"}}"#).await;
    check(400, &format!(r#"{{"title":"{}"}}"#, "x".repeat(70_000))).await;
    check(200, title).await;
    assert_eq!(stage.post("/admin/products/prod_nope", title).await.status, 404);
}

#[tokio::test]
async fn a_change_is_told_with_a_signature_that_verifies() {
    let stage = open(10);
    let (target, posts) = receiver(&stage, &[202]).await;
    stage.shop.set_webhook(Some(target));
    let product = stage.shop.catalogue().products[1].id.clone();
    let answer = stage.post(&format!("/admin/products/{product}"), r#"{"title":"Told"}"#).await.json();
    assert_eq!((&answer["webhook"]["status"], &answer["webhook"]["tries"]), (&202.into(), &1.into()));
    assert!(answer["webhook"]["ms"].as_f64().unwrap() > 0.0);
    stage.post(&format!("/admin/products/{product}"), r#"{"title":"Told again"}"#).await;

    let posts = posts.lock().unwrap();
    assert_eq!(posts.len(), 2);
    let (headers, body) = &posts[0];
    assert_signed(headers, body);
    let event: serde_json::Value = serde_json::from_slice(body).unwrap();
    assert_eq!((&event["type"], &event["data"]), (&"product.updated".into(), &serde_json::json!({ "id": product })));
    humantime::parse_rfc3339(event["timestamp"].as_str().unwrap()).unwrap();
    assert_ne!(posts[0].0["webhook-id"], posts[1].0["webhook-id"], "two events");
}

#[tokio::test]
async fn trouble_is_tried_again_under_the_same_id() {
    let stage = open(10);
    let (target, posts) = receiver(&stage, &[503, 429, 200]).await;
    stage.shop.set_webhook(Some(target));
    let product = stage.shop.catalogue().products[0].id.clone();
    let answer = stage.post(&format!("/admin/products/{product}"), r#"{"title":"Told"}"#).await.json();
    assert_eq!((&answer["webhook"]["status"], &answer["webhook"]["tries"]), (&200.into(), &3.into()));
    let posts = posts.lock().unwrap();
    for (headers, body) in posts.iter() {
        assert_signed(headers, body);
        assert_eq!(headers["webhook-id"], posts[0].0["webhook-id"]);
    }
}

#[tokio::test]
async fn a_refusal_is_not_asked_for_again_and_the_change_stands() {
    let stage = open(10);
    let (target, posts) = receiver(&stage, &[401]).await;
    stage.shop.set_webhook(Some(target));
    let product = stage.shop.catalogue().products[0].id.clone();
    let answer = stage.post(&format!("/admin/products/{product}"), r#"{"title":"Stands"}"#).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["webhook"]["status"], 401);
    assert_eq!(posts.lock().unwrap().len(), 1);
    assert_eq!(stage.get(&format!("/store/products/{product}")).await.json()["product"]["title"], "Stands");
}

#[tokio::test]
async fn an_unreachable_target_is_reported() {
    let stage = open(10);
    // A port that was free a moment ago; whoever takes it meanwhile is not a webhook receiver of this secret.
    let addr = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    stage.shop.set_webhook(Some(WebhookTarget::new(&format!("http://{addr}/"), SECRET).unwrap()));
    let product = stage.shop.catalogue().products[0].id.clone();
    let answer = stage.post(&format!("/admin/products/{product}"), r#"{"title":"x"}"#).await.json();
    assert_eq!(answer["webhook"]["error"], "the target cannot be reached");
    assert_eq!(answer["webhook"]["tries"], 4);
}
