//! What the official storefront sends: every one of its requests is shared by all visitors of a region.

use serde::Deserialize;

use crate::fixture::{capture, captures, text};
use crate::keys::plan;
use crate::reading::read;
use crate::stage::{Ask, Stage, assert_recorded, medusa, outcome};

#[derive(Deserialize)]
struct Page {
    page: String,
    requests: Vec<Sent>,
}

#[derive(Deserialize)]
struct Sent {
    method: String,
    path: String,
    headers: serde_json::Map<String, serde_json::Value>,
}

impl Sent {
    /// The request, with a key that the backend knows.
    fn ask(&self) -> Ask {
        let key = capture("regions").sent("x-publishable-api-key").unwrap();
        // `Host` and `Connection` are the client's own.
        let sent =
            self.headers.iter().filter(|(name, _)| !["host", "connection"].contains(&&*name.to_ascii_lowercase()));
        let value = |value: &serde_json::Value| value.as_str().unwrap().replace("<pk>", key);
        Ask {
            method: self.method.clone(),
            target: self.path.clone(),
            headers: sent.map(|(name, it)| (name.clone(), value(it))).collect(),
        }
    }
}

fn pages() -> Vec<Page> {
    serde_json::from_str(&text("storefront-requests.json")).unwrap()
}

fn asks() -> impl Iterator<Item = Ask> {
    pages().into_iter().flat_map(|page| page.requests).map(|sent| sent.ask())
}

/// Another visitor: other cookies that name nobody, another browser behind the storefront.
fn another(ask: &Ask) -> Ask {
    let other = |name: &str| ["user-agent", "accept-language", "accept-encoding", "sec-fetch-mode"].contains(&name);
    let mut ask = ask.clone();
    for (_, value) in ask.headers.iter_mut().filter(|(name, _)| other(name)) {
        "other".clone_into(value);
    }
    ask.with("cookie", "_medusa_cache_id=0b9e; _medusa_locale=").with("x-forwarded-for", "203.0.113.9")
}

#[test]
fn each_page_asks_for_what_can_be_shared() {
    let routes = |page: Page| {
        let routes =
            page.requests.iter().map(|sent| plan(&medusa(), &sent.ask()).split(' ').next().unwrap().to_owned());
        (page.page.split(' ').next().unwrap().to_owned(), routes.collect::<Vec<_>>().join(" "))
    };
    let found: Vec<_> = pages().into_iter().map(routes).collect();
    let expected = [
        ("middleware", "regions"),
        ("layout", "regions locales collections product-categories"),
        ("home", "collections products products products"),
        ("store", "products"),
        ("category", "product-categories products"),
        ("collection", "collections products"),
        ("product", "products products products"),
        ("product", "products"),
        ("with", "regions"),
        ("build:", "products"),
    ];
    assert_eq!(found, expected.map(|(page, routes)| (page.to_owned(), routes.to_owned())));
}

#[test]
fn two_visitors_have_one_key_and_a_login_or_a_locale_has_another() {
    for ask in asks() {
        let key = plan(&medusa(), &ask);
        assert_eq!(plan(&medusa(), &another(&ask)), key, "{ask:?}");
        assert_eq!(plan(&medusa(), &ask.clone().with("authorization", "Bearer x")), "pass credentials");
        let french = ask.clone().without("x-medusa-locale").with("x-medusa-locale", "it-IT");
        assert_ne!(plan(&medusa(), &french), key, "{ask:?}");
    }
}

#[test]
fn two_requests_have_one_key_exactly_when_the_backend_reads_them_alike() {
    let asks: Vec<Ask> = asks().chain(captures().iter().filter(|it| it.method == "GET").map(Ask::of)).collect();
    let mut shared = 0;
    for first in &asks {
        for second in &asks {
            let (one, other) = (plan(&medusa(), first), plan(&medusa(), second));
            if one.starts_with("pass") || other.starts_with("pass") {
                continue;
            }
            let reading = |ask: &Ask| read(&ask.method, &ask.target, &ask.headers);
            let query_locale = |ask: &Ask| ask.target.contains("locale=");
            // A locale in the query and the same one in the header are kept apart, which costs a fill.
            let alike = reading(first) == reading(second) && query_locale(first) == query_locale(second);
            let dropped = |ask: &Ask| ask.target.contains("utm_");
            assert!(alike == (one == other) || dropped(first) != dropped(second), "{first:?} {second:?}");
            shared += usize::from(alike);
        }
    }
    assert!(shared > asks.len(), "some pairs of different requests share");
}

#[tokio::test]
async fn what_one_visitor_fills_serves_the_next_one() {
    let mut replayed = 0;
    for ask in asks() {
        let question = read(&ask.method, &ask.target, &ask.headers);
        let Some(capture) = captures().iter().find(|capture| capture.question == question) else { continue };
        replayed += 1;
        let stage = Stage::new().await;
        for (ask, expected) in [(ask.clone(), "miss"), (another(&ask), "hit"), (Ask::of(capture), "hit")] {
            let answer = stage.ask(&ask).await;
            assert_recorded(&answer, capture);
            assert_eq!(outcome(&answer), expected, "{ask:?}");
        }
        assert_eq!(stage.replay.requests(), 1);
    }
    assert_eq!(replayed, 6, "regions twice, locales, two of categories, one of collections");
}
