//! Requests that the backend reads alike share an answer, and those that it does not never do.

use crate::fixture::capture;
use crate::keys::plan;
use crate::replay::Derived;
use crate::stage::{Ask, Stage, assert_recorded, medusa, outcome};

const REGION: &str = "region_id=reg_01M7Y0CJMSR92S9NXXSRFK6ZG6";
const COLLECTION: &str = "pcol_01M7Y0CK16QH3K4HFEZR943V27";
const PRODUCTS: [&str; 2] = ["prod_01M7Y0CMCHBA2JSW6ET1YACVNX", "prod_01M7Y0CMCHHCN30DKPBF4JSWMT"];
const STARTER: &str = "*variants.calculated_price,%2Bvariants.inventory_quantity,*variants.images,*variants.options,\
    %2Bmetadata,%2Btags";

/// One spelling fills and the other one hits, whichever comes first; the origin is asked once.
async fn check_same(name: &str, derived: Option<&str>, first: &Ask, second: &Ask) {
    let (asks, capture) = ([first, second], capture(name));
    for asks in [asks, [second, first]] {
        let derived: Vec<_> = derived.iter().map(|target| Derived { target, like: capture, body: None }).collect();
        let stage = Stage::with("", &derived).await;
        for (ask, expected) in asks.into_iter().zip(["miss", "hit"]) {
            let answer = stage.ask(ask).await;
            assert_recorded(&answer, capture);
            assert_eq!(outcome(&answer), expected, "{first:?} and {second:?}");
        }
        assert_eq!(stage.replay.requests(), 1);
    }
}

#[tokio::test]
async fn spellings_that_the_backend_reads_alike_share_an_answer() {
    let by_collection = |list: &str, fields: &str| format!("/store/products?{list}&fields={fields}&limit=2");
    let ours = "id,handle,collection_id";
    let starter = |fields: &str| format!("/store/products?limit=12&{REGION}&fields={fields}");
    let variants = |item: &str| format!("/store/products?limit=2&{REGION}&fields={item}");
    for (name, target) in [
        // The order of parameters, escapes in names and values, defaults, leading zeros.
        ("products-2-priced-eu", format!("/store/products?fields=*variants.calculated_price&{REGION}&limit=2")),
        ("products-by-q", "/store/products?&fields=id,handle,title&&q=%6Aea%6E&%6Cimit=2".into()),
        ("products-2", "/store/products?offset=0&limit=2".into()),
        ("products-2", "/store/products?limit=002&offset=00".into()),
        ("regions", "/store/regions?limit=50&offset=0".into()),
        ("regions", "/store/regions?".into()),
        ("currencies", "/store/currencies?limit=50".into()),
        ("collections", "/store/collections?offset=0&limit=10".into()),
        ("categories", "/store/product-categories?limit=50".into()),
        ("tags", "/store/product-tags?limit=50&offset=0".into()),
        ("types-slim", "/store/product-types?fields=id,value&limit=50".into()),
        ("return-reasons", "/store/return-reasons?limit=20".into()),
        ("payment-providers", format!("/store/payment-providers?limit=20&{REGION}")),
        // A list by brackets, by numbers, escaped; of one it is split at commas.
        ("products-by-collection", by_collection(&format!("collection_id[0]={COLLECTION}"), ours)),
        ("products-by-collection", by_collection(&format!("collection_id%5B0%5D={COLLECTION}"), ours)),
        ("products-by-collection", by_collection(&format!("collection_id%5b%5d={COLLECTION}"), ours)),
        // `fields` is a set; empty items are dropped; one item without a modifier replaces the defaults.
        ("products-by-collection", by_collection(&format!("collection_id[]={COLLECTION}"), "collection_id,handle,id,id")),
        ("products-by-collection", by_collection(&format!("collection_id[]={COLLECTION}"), ",id,%20handle,+collection_id,")),
        ("products-12-starter", starter(&format!("{STARTER},"))),
        ("products-12-starter", starter(&format!("%2Btags,%20metadata,+metadata,{STARTER}"))),
        ("products-12-starter", starter(&STARTER.replace("%2B", "+"))),
        ("products-12-starter", starter(&STARTER.replace("*variants.images", "variants.images.*"))),
        ("products-2-priced-eu", variants("variants.calculated_price.*")),
        ("products-2-priced-eu", variants("%2Avariants.calculated_price,,*variants.calculated_price")),
        ("categories-starter", "/store/product-categories?limit=100&fields=*products,*category_children,*parent_category.parent_category,*parent_category".into()),
        // The case of a locale.
        ("locale-query", "/store/collections?limit=1&locale=FR-fr".into()),
        ("locale-query", "/store/collections?locale=fr-fr&limit=1".into()),
        // Tracking parameters, which the backend would answer with 400.
        ("products-2", "/store/products?utm_source=a&limit=2&utm_campaign=b&gclid=c".into()),
        ("product", format!("/store/products/{}?fbclid=x", PRODUCTS[0])),
    ] {
        let ask = Ask::of(capture(name));
        check_same(name, None, &ask, &ask.clone().to(&target)).await;
    }
}

#[tokio::test]
async fn a_list_of_several_has_many_spellings() {
    let [a, b] = PRODUCTS;
    // The list of two products, asked for by their ids.
    let target = |list: &str| format!("/store/products?limit=2&{list}");
    let numbered = target(&format!("id[0]={a}&id[1]={b}"));
    for list in
        [format!("id={a}&id={b}"), format!("id[]={a}&id[]={b}"), format!("id[]={a},{b}"), format!("id%5B%5D={a}%2C{b}")]
    {
        let ask = Ask::of(capture("products-2"));
        check_same("products-2", Some(&numbered), &ask.clone().to(&numbered), &ask.clone().to(&target(&list))).await;
    }
}

#[tokio::test]
async fn headers_that_the_backend_ignores_are_in_no_key() {
    let key = "x-publishable-api-key";
    let padded = format!("  {} ", capture("regions").sent(key).unwrap());
    let regions = Ask::of(capture("regions"));
    let french = Ask::of(capture("locale-header"));
    for (name, first, second) in [
        ("regions", &regions, Ask::of(capture("accept-encoding"))),
        ("regions", &regions, Ask::of(capture("range")).without("range")),
        ("regions", &regions, regions.clone().with("accept-language", "de").with("user-agent", "node")),
        ("regions", &regions, regions.clone().with("accept", "text/html").with("referer", "http://x/")),
        ("regions", &regions, regions.clone().with("cache-control", "no-cache").with("pragma", "no-cache")),
        ("regions", &regions, regions.clone().with("x-forwarded-proto", "https").with("x-request-id", "7")),
        ("regions", &regions, regions.clone().with("x-medusa-locale", "")),
        ("regions", &regions, regions.clone().with("x-medusa-locale", "  ")),
        ("regions", &regions, regions.clone().without(key).with(key, &padded)),
        ("accept-language", &Ask::of(capture("accept-language")), french.clone().without("x-medusa-locale")),
        ("locale-header", &french, french.clone().without("x-medusa-locale").with("x-medusa-locale", "FR-fr ")),
    ] {
        check_same(name, None, first, &second).await;
    }
}

#[tokio::test]
async fn captures_that_differ_in_one_thing_never_share_an_answer() {
    for (first, second) in [
        // The publishable key, the region, the country, the page size.
        ("web-products-2", "b2b-products-2"),
        ("products-2-priced-eu", "products-2-priced-us"),
        ("products-2-priced-eu", "products-2-priced-eu-country-de"),
        ("products-2", "products-12"),
        ("products-12-priced-eu", "products-12-starter"),
        ("products-12-starter", "product-starter-by-handle"),
        ("unknown-field", "restricted-field"),
        ("currency", "currencies"),
        ("accept-language", "locale-query"),
        ("accept-language", "locale-header"),
        ("origin-allowed", "origin-other"),
        ("origin-other", "currency"),
        ("no-key", "bad-key"),
        ("tags", "tags-slim"),
    ] {
        let (first, second) = (capture(first), capture(second));
        assert_ne!(
            plan(&medusa(), &Ask::of(first)),
            plan(&medusa(), &Ask::of(second)),
            "{} {}",
            first.name,
            second.name
        );
        let stage = Stage::new().await;
        for capture in [first, second, first, second] {
            assert_recorded(&stage.ask(&Ask::of(capture)).await, capture);
        }
        assert!(stage.replay.asked(first) > 0 && stage.replay.asked(second) > 0);
    }
}

#[test]
fn what_the_backend_may_read_in_two_ways_has_two_keys() {
    let list = Ask::of(capture("products-2"));
    let different = |first: &str, second: &str| {
        let plan = |query: &str| plan(&medusa(), &list.clone().to(&format!("/store/products?{query}")));
        assert_ne!(plan(first), plan(second), "{first} {second}");
    };
    different("id=a,b", "id[]=a,b");
    different("id=a,b", "id=a&id=b");
    different("id[]=a,b&id[]=c", "id[]=a&id[]=b&id[]=c");
    different("fields=title", "fields=%2Btitle");
    different("fields=title", "fields=*title");
    different("fields=title,+handle", "fields=+title,+handle");
    different("fields=*variants,-variants.id", "fields=-variants.id,*variants");
    different("fields=", "");
    different("fields=id", "fields=");
    different("limit=0", "");
    different("limit=2abc", "limit=2");
    different("limit=-1", "limit=1");
    different("locale=fr", "locale=fr-FR");
    different("locale=fr_FR", "locale=fr-FR");
    different("locale=", "");
    different("with_deleted=true", "");
    different("q=a+b", "q=a%2Bb");
    different("q=Jean", "q=jean");
    different("created_at[$gt]=1", "created_at[$lt]=1");
    different("order=created_at", "order=-created_at");
    different(REGION, &format!("{REGION}&country_code=de"));
    different(&format!("{REGION}&country_code=de"), &format!("{REGION}&country_code=de&province=be"));
}

#[test]
fn a_name_that_the_backend_does_not_know_passes() {
    let list = Ask::of(capture("products-2"));
    for (query, expected) in [
        ("Limit=2", "pass unknown_query"),
        ("cart_id=cart_1", "pass unknown_query"),
        ("nope=1", "pass unknown_query"),
        ("created_at.$gt=1", "pass unknown_query"),
        ("id[a]=1", "pass query_shape"),
        ("id=a&id[]=b", "pass query_shape"),
        ("q=%E9", "pass query_shape"),
    ] {
        assert_eq!(plan(&medusa(), &list.clone().to(&format!("/store/products?{query}"))), expected, "{query}");
    }
}

/// The backend hangs on these too, and they would pass.
#[test]
fn a_doubled_locale_is_refused_where_nothing_is_cached() {
    let list = Ask::of(capture("products-2"));
    for target in [
        "/store/carts/cart_1?locale=fr-FR&locale=de-DE",
        "/store/products?locale=fr-FR&[locale]=de-DE",
        "/store/products?locale.0=fr-FR",
    ] {
        assert_eq!(plan(&medusa(), &list.clone().to(target)), "refuse query_repeated", "{target}");
    }
}

#[tokio::test]
async fn one_value_given_twice_is_refused_and_the_origin_never_hears_of_it() {
    let key = "x-publishable-api-key";
    let list = Ask::of(capture("products-2"));
    let to = |query: &str| list.clone().to(&format!("/store/products?{query}"));
    let stage = Stage::new().await;
    for (ask, expected) in [
        // The backend never answers these three.
        (to("locale=fr-FR&locale=de-DE"), "refused.query_repeated"),
        (to("locale[]=fr-FR"), "refused.query_repeated"),
        (to("nope=1&%6Cocale=fr-FR&locale=fr-FR").with("authorization", "Bearer x"), "refused.query_repeated"),
        (to("limit=2&limit=2"), "refused.query_repeated"),
        (to("fields=id&fields=handle"), "refused.query_repeated"),
        (list.clone().with(key, "pk_wrong"), "refused.header_repeated"),
        (list.clone().with(key, list.headers[0].1.as_str()), "refused.header_repeated"),
        (list.clone().with("x-medusa-locale", "fr-FR").with("x-medusa-locale", "de-DE"), "refused.header_repeated"),
    ] {
        let answer = stage.ask(&ask).await;
        assert_eq!((answer.status.as_u16(), outcome(&answer)), (400, expected), "{ask:?}");
    }
    assert_eq!(stage.replay.requests(), 0);
}
