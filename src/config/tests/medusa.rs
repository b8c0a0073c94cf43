//! The preset. What its events purge is held against recorded changes in `tests/captures/events.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{SECRET, load};
use crate::config::Config;
use crate::policy::route::{Policy, Template};

pub(super) fn medusa() -> Config {
    load(&format!("upstream = \"http://127.0.0.1:9000\"\npreset = \"medusa\"\nwebhook_secret = \"{SECRET}\""), &[])
}

#[test]
fn three_lines_are_enough() {
    let config = medusa();
    assert_eq!(config.warnings(), Vec::<String>::new());
    assert_eq!(config.routes.once(), ["locale"]);
    assert!(config.routes.rules().iter().all(|rule| rule.headers.len() == 3 && rule.policy == Policy::Override));
}

/// One Node process gives all that it computes at once late: few fills at a time, and time for each.
#[test]
fn the_backend_is_asked_for_eight_answers_at_once_and_given_time() {
    let origin = medusa().origin;
    let times = [origin.queue_timeout, origin.first_byte_timeout, origin.total_timeout].map(|time| time.as_secs());
    assert_eq!((origin.fills_max, times), (8, [20, 20, 60]));
}

#[test]
fn every_route_has_its_lifetimes() {
    const DAY: u64 = 24 * 3600;
    // Seconds: ttl, swr.
    let expected = BTreeMap::from([
        ("products", (120, 160)),
        ("product", (120, 160)),
        ("product-variants", (120, 160)),
        ("product-variant", (120, 160)),
        ("regions", (3600, DAY)),
        ("currencies", (3600, DAY)),
        ("locales", (3600, DAY)),
        ("collections", (300, 3600)),
        ("product-categories", (300, 3600)),
        ("product-tags", (300, 3600)),
        ("product-types", (300, 3600)),
        ("product-options", (300, 3600)),
        ("return-reasons", (3600, DAY)),
        ("payment-providers", (60, 60)),
        ("hero-banners", (300, 600)),
    ]);
    let config = medusa();
    let rules = config.routes.rules().iter();
    let found: BTreeMap<_, _> = rules.map(|rule| (&*rule.name, (rule.ttl.as_secs(), rule.swr.as_secs()))).collect();
    assert_eq!(found, expected);
}

/// Prices change by the clock alone, where a price list begins or ends.
#[test]
fn no_answer_with_a_price_is_older_than_five_minutes() {
    let config = medusa();
    let is_priced = |tag: &Template| tag.to_string() == "priced";
    let priced = config
        .routes
        .rules()
        .iter()
        .filter(|rule| rule.tags.iter().chain(rule.tags_when.iter().flat_map(|when| &when.tags)).any(is_priced));
    let mut names = BTreeSet::new();
    for rule in priced {
        let ceiling = rule.ttl.mul_f64(1.0 + config.cache.jitter) + rule.swr;
        assert!(ceiling <= Duration::from_secs(300), "{}: {ceiling:?}", rule.name);
        names.insert(&*rule.name);
    }
    assert_eq!(names, BTreeSet::from(["products", "product", "product-variants", "product-variant"]));
}

#[test]
fn what_is_private_is_on_no_route() {
    let config = medusa();
    for path in [
        "/store/carts/cart_1",
        "/store/orders/order_1",
        "/store/orders",
        "/store/customers/me",
        "/store/shipping-options",
        "/store/payment-collections/x",
        "/auth/customer/emailpass",
        "/admin/products",
        "/store",
        "/health",
        "/Store/products",
        "/store/products/",
        "/store/search",
    ] {
        assert!(config.routes.find(path).is_none(), "{path}");
    }
    for rule in config.routes.rules() {
        assert!(!rule.query.iter().any(|param| param.name == "cart_id"));
        for cookie in ["connect.sid", "_medusa_jwt", "_medusa_cart_id", "_medusa_admin"] {
            assert!(!rule.harmless_cookies.contains(cookie), "{cookie}");
        }
    }
}

#[test]
fn every_observed_event_is_known() {
    let config = medusa();
    for name in include_str!("../../../tests/fixtures/medusa-event-names.txt").lines() {
        assert!(config.event(name).is_some(), "{name}");
    }
}

#[test]
fn an_exact_event_wins_and_then_the_longest_prefix() {
    let config = medusa();
    let hard = |name: &str| {
        let rule = config.event(name).expect(name);
        rule.hard.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(hard("product.updated"), ["{id}", "path:/store/products/{id}"]);
    assert_eq!(hard("product.product-something-new.updated"), ["{id}"]);
    assert_eq!(hard("order.return-reason.created"), ["{id}", "list:return-reason"]);
    assert_eq!(hard("order.placed"), Vec::<String>::new());
    assert_eq!(hard("store.store-locale.created"), ["list:locale"]);
    for unknown in ["unheard.of", "product.viewed", ""] {
        assert!(config.event(unknown).is_none(), "{unknown}, maybe the shop's own");
    }
}

#[test]
fn what_was_deleted_or_decides_who_may_see_something_is_firm_and_nothing_else_is() {
    let config = medusa();
    let firm = config.events.iter().filter(|(_, rule)| rule.firm);
    let (deleted, firm): (Vec<_>, Vec<_>) = firm.partition(|(_, rule)| !rule.delete.is_empty());
    let deletes = config.events.values().filter(|rule| !rule.delete.is_empty());
    assert_eq!(deleted.len(), deletes.count());
    let mut firm: Vec<_> = firm.into_iter().map(|(name, _)| name.as_str()).collect();
    firm.sort_unstable();
    let expected = [
        "LinkPublishableApiKeySalesChannel.*",
        "api_key.api-key.deleted",
        "api_key.api-key.updated",
        "endcap.key",
        "endcap.product-channel",
        "sales-channel.deleted",
        "sales_channel.sales-channel.deleted",
    ];
    assert_eq!(firm, expected);
}

#[test]
fn every_tag_of_an_event_is_carried_by_some_route() {
    let config = medusa();
    let mut carried = BTreeSet::from(["all".to_owned(), "hero-banner:".to_owned()]);
    for rule in config.routes.rules() {
        let when = rule.tags_when.iter().flat_map(|when| &when.tags);
        carried.extend(rule.tags.iter().chain(when).map(ToString::to_string));
        carried.extend(rule.paths.iter().map(|path| format!("path:{}", path.as_str())));
    }
    for (name, event) in &config.events {
        for tag in event.hard.iter().chain(&event.soft).chain(&event.delete) {
            let tag = tag.to_string();
            // A field that stands alone is an id, which any body may show; behind a word it ends a tag of that kind.
            let is_carried = match tag.split_once('{') {
                None => carried.contains(&tag),
                Some((kind, _)) => carried.iter().any(|carried| carried.starts_with(kind)),
            };
            assert!(is_carried, "{name}: {tag}");
        }
    }
}
