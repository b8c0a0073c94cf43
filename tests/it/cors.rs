//! Answers that browsers of several origins read.

use crate::stage::{Answer, Reply, Seen, Stage};

const SHOP: &str = "https://shop.example";
const ADMIN: &str = "https://admin.example";

/// As the `cors` package of Express answers: the asking origin if it is allowed, and always `Vary`.
fn express(seen: &Seen) -> Answer {
    let answer = Answer::json("{}").header("vary", "Origin").header("access-control-allow-credentials", "true");
    match seen.field("origin") {
        allowed @ (SHOP | ADMIN) => answer.header("access-control-allow-origin", allowed),
        _ => answer,
    }
}

async fn get(stage: &Stage, origin: Option<&str>) -> Reply {
    match origin {
        Some(origin) => stage.get_with("/store/regions", &[("origin", origin)]).await,
        None => stage.get("/store/regions").await,
    }
}

async fn check(stage: &Stage, origin: Option<&str>, detail: &str, allowed: &str) {
    let reply = get(stage, origin).await;
    assert_eq!(reply.detail(), detail, "{origin:?}");
    assert_eq!(reply.field("access-control-allow-origin"), allowed, "{origin:?}");
    assert_eq!(reply.field("vary").to_ascii_lowercase(), "origin", "{origin:?}");
}

#[tokio::test]
async fn each_origin_has_an_entry_of_its_own_when_the_backend_answers() {
    let stage = Stage::new().start().await;
    stage.origin.respond("/store/regions", express);
    check(&stage, Some(SHOP), "miss", SHOP).await;
    check(&stage, Some(ADMIN), "miss", ADMIN).await;
    check(&stage, None, "miss", "").await;
    check(&stage, Some(SHOP), "hit", SHOP).await;
    check(&stage, Some(ADMIN), "hit", ADMIN).await;
    check(&stage, None, "hit", "").await;
    check(&stage, Some("https://evil.example"), "miss", "").await;
}

#[tokio::test]
async fn one_entry_serves_all_origins_when_we_answer() {
    let stage = Stage::new().also(&format!("[cors]\nallow_origins = [{SHOP:?}, {ADMIN:?}]\n")).start().await;
    stage.origin.respond("/store/regions", express);
    check(&stage, Some(SHOP), "miss", SHOP).await;
    check(&stage, Some(ADMIN), "hit", ADMIN).await;
    check(&stage, None, "hit", "").await;
    check(&stage, Some("https://evil.example"), "hit", "").await;
    check(&stage, Some("https://shop.example.evil.example"), "hit", "").await;
    assert_eq!(stage.origin.total(), 1);
    assert_eq!(stage.origin.last().field("origin"), "", "what is not in the key does not reach the origin");
}

#[tokio::test]
async fn a_304_carries_the_same_permission() {
    let stage = Stage::new().also(&format!("[cors]\nallow_origins = [{SHOP:?}]\n")).start().await;
    stage.origin.answer("/store/regions", Answer::json("{}").etag("\"1\""));
    stage.get("/store/regions").await;
    let reply = stage.get_with("/store/regions", &[("origin", SHOP), ("if-none-match", "\"1\"")]).await;
    assert_eq!((reply.status, reply.field("access-control-allow-origin")), (304, SHOP.to_owned()));
}

#[tokio::test]
async fn an_answer_of_the_leaders_own_may_be_read_by_its_browser_too() {
    let stage = Stage::new().also(&format!("[cors]\nallow_origins = [{SHOP:?}]\n")).start().await;
    stage.origin.respond("/store/regions", |seen| express(seen).header("set-cookie", "sid=1"));
    // The first is the fill's leader, the second passes by the marker it left.
    for detail in ["miss.set_cookie", "pass.marker"] {
        let reply = get(&stage, Some(SHOP)).await;
        assert_eq!((reply.detail().as_str(), reply.field("access-control-allow-origin").as_str()), (detail, SHOP));
    }
}

#[tokio::test]
async fn a_preflight_is_the_backends() {
    let stage = Stage::new().also(&format!("[cors]\nallow_origins = [{SHOP:?}]\n")).start().await;
    stage.origin.respond("/store/regions", |seen| express(seen).with_status(204));
    let headers = [("origin", SHOP), ("access-control-request-method", "GET")];
    let reply = stage.ask("OPTIONS", "/store/regions", &headers, b"").await;
    assert_eq!((reply.status, reply.detail()), (204, "pass.method".to_owned()));
    assert_eq!(reply.field("access-control-allow-origin"), SHOP);
}
