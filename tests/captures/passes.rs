//! What may not be answered from the cache never is, and arrives as it was recorded.

use std::collections::BTreeSet;

use crate::entities::CACHED;
use crate::fixture::{WITHOUT_BODY, capture, captures, names};
use crate::replay::Derived;
use crate::stage::{Ask, Stage, assert_recorded, end_to_end, outcome, recorded};

/// Asked of the backend each time, and why.
const PASSED: [(&str, &str); 33] = [
    // Refused by the backend: shared with who waits for it now, kept for nobody.
    ("products-priced-no-region", "miss"),
    ("no-key", "miss"),
    ("bad-key", "miss"),
    ("foreign-sales-channel", "miss"),
    ("bad-limit", "miss"),
    // Another method than GET and HEAD.
    ("options-preflight", "pass.method"),
    ("auth-session", "pass.no_route"),
    ("auth-session-plain-http", "pass.no_route"),
    ("cart-create", "pass.no_route"),
    ("cart-add-item", "pass.no_route"),
    ("cart-complete", "pass.no_route"),
    // Another spelling of a path than the one that is listed.
    ("uppercase-path", "pass.no_route"),
    ("trailing-slash", "pass.no_route"),
    ("double-slash", "pass.no_route"),
    ("encoded-path", "pass.no_route"),
    ("unknown-route", "pass.no_route"),
    // Somebody's own.
    ("shipping-options-no-cart", "pass.no_route"),
    ("shipping-options", "pass.no_route"),
    ("customers-me-anonymous", "pass.no_route"),
    ("customers-me", "pass.no_route"),
    ("customers-me-addresses", "pass.no_route"),
    ("orders-anonymous", "pass.no_route"),
    ("orders", "pass.no_route"),
    ("order-anonymous", "pass.no_route"),
    ("cart", "pass.no_route"),
    ("cart-if-none-match", "pass.no_route"),
    ("products-with-cart-id", "pass.unknown_query"),
    ("product-vip-bearer", "pass.credentials"),
    ("product-vip-bad-bearer", "pass.credentials"),
    ("product-vip-session", "pass.cookie"),
    ("regions-session", "pass.cookie"),
    ("regions-unknown-sid", "pass.cookie"),
    // When nothing is taken for tracking; else it is the list without it.
    ("unknown-param", "pass.unknown_query"),
];

/// Answered 404, which is kept for a moment.
const NEGATIVE: [&str; 3] = ["locales", "b2b-only-product-web-key", "unknown-product"];

/// Answered from what is stored for another request; each has its own test.
const FROM_ANOTHER: [&str; 2] = ["head", "if-none-match"];

#[test]
fn every_capture_is_in_one_of_the_tables() {
    let cached = CACHED.iter().map(|(name, _)| *name);
    let passed = PASSED.iter().map(|(name, _)| *name);
    let listed: BTreeSet<&str> =
        cached.chain(passed).chain(NEGATIVE).chain(FROM_ANOTHER).chain([WITHOUT_BODY]).collect();
    let all = names();
    assert_eq!(listed, all.iter().map(String::as_str).collect());
    assert_eq!(all.len(), captures().len() + 1);
}

#[tokio::test]
async fn what_is_not_cached_goes_to_the_origin_each_time_and_comes_back_as_recorded() {
    for (name, expected) in PASSED {
        let capture = capture(name);
        let stage = Stage::with("[cache]\ntracking = []", &[]).await;
        for time in 1..=2 {
            let answer = stage.ask(&Ask::of(capture)).await;
            assert_eq!((outcome(&answer), stage.replay.requests()), (expected, time), "{name}");
            if capture.status == 304 {
                assert_eq!((answer.status.as_u16(), end_to_end(&answer)), (304, undated(&answer, name)), "{name}");
            } else {
                assert_recorded(&answer, capture);
            }
        }
    }
}

/// The recorded fields, made at the moment of this answer.
fn undated(answer: &endcap::client::Answer, name: &str) -> http::HeaderMap {
    let mut fields = recorded(capture(name));
    fields.insert("date", answer.headers["date"].clone());
    fields
}

#[tokio::test]
async fn a_404_is_kept_for_a_moment_and_goes_when_the_row_comes() {
    for (name, event, row) in [
        ("locales", "store.store-locale.created", "stlo_01ZZZZZZZZZZZZZZZZZZZZZZZZ"),
        ("b2b-only-product-web-key", "product.updated", "prod_01M7Y0CMCJ5T65J0FKYGRGB2ZS"),
        ("unknown-product", "product.created", "prod_nope"),
    ] {
        let (stage, capture) = (Stage::new().await, capture(name));
        let ask = Ask::of(capture);
        for (expected, asked) in [("miss", 1), ("hit", 1)] {
            let answer = stage.ask(&ask).await;
            assert_eq!((outcome(&answer), stage.replay.requests()), (expected, asked), "{name}");
            assert_recorded(&answer, capture);
        }
        stage.webhook(event, row).await;
        assert_ne!(outcome(&stage.ask(&ask).await), "hit", "{name}");
        assert_eq!(stage.replay.requests(), 2, "{name}");
    }
    assert_eq!(NEGATIVE.map(|name| capture(name).status), [404; 3]);
}

#[tokio::test]
async fn a_head_is_answered_from_the_stored_get_and_fills_it() {
    let (stage, get, head) = (Stage::new().await, capture("regions"), capture("head"));
    let answer = stage.ask(&Ask::of(head)).await;
    assert_eq!((outcome(&answer), answer.body.len()), ("miss", 0));
    // The backend leaves the fields of CORS out of its answers to HEAD; those of the GET say no less.
    assert_eq!(end_to_end(&answer), recorded(get));
    assert_recorded(&stage.ask(&Ask::of(get)).await, get);
    assert_eq!(outcome(&stage.ask(&Ask::of(head)).await), "hit");
    assert_eq!((stage.replay.asked(get), stage.replay.asked(head)), (1, 0));
}

#[tokio::test]
async fn who_has_the_answer_already_is_told_so_by_the_stored_one() {
    let (stage, capture) = (Stage::new().await, capture("if-none-match"));
    let ask = Ask::of(capture);
    // The backend ignores a validator beside `no-cache`; the body is the same either way, so 304 is right.
    let reload = ask.clone().with("cache-control", "no-cache");
    for (ask, expected) in [(&ask, "miss"), (&ask, "hit"), (&reload, "hit")] {
        let answer = stage.ask(ask).await;
        assert_eq!((answer.status.as_u16(), answer.body.len(), outcome(&answer)), (304, 0, expected));
        assert_eq!(end_to_end(&answer), undated(&answer, "if-none-match"));
    }
    assert_eq!(stage.replay.requests(), 1);
}

#[tokio::test]
async fn a_tracking_parameter_that_the_backend_would_refuse_is_dropped() {
    let (asked, like) = (capture("unknown-param"), capture("unknown-field"));
    // A field that nobody may see is dropped by the backend, so this is its answer to the first product alone.
    let stage = Stage::with("", &[Derived { target: "/store/products?limit=1", like, body: None }]).await;
    for expected in ["miss", "hit"] {
        let answer = stage.ask(&Ask::of(asked)).await;
        assert_recorded(&answer, like);
        assert_eq!(outcome(&answer), expected);
    }
    assert_eq!(stage.replay.asked(asked), 0);
}
