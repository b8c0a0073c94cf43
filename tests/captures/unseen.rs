//! Events that name a row which an answer does not show: the answer goes when it depends on such rows, and only then.

use crate::fixture::{Capture, capture};
use crate::replay::Derived;
use crate::stage::{Ask, Stage, outcome};

const REGION: &str = "region_id=reg_01M7Y0CJMSR92S9NXXSRFK6ZG6";
const ROW: &str = "01ZZZZZZZZZZZZZZZZZZZZZZZZ";

async fn check(like: &Capture, target: Option<&str>, event: &str, row: &str, expected: &str) {
    let derived: Vec<_> = target.iter().map(|target| Derived { target, like, body: None }).collect();
    let stage = Stage::with("", &derived).await;
    let ask = Ask::of(like).to(target.unwrap_or(&like.target));
    assert_eq!(outcome(&stage.ask(&ask).await), "miss");
    stage.webhook(event, row).await;
    assert_eq!(outcome(&stage.ask(&ask).await), expected, "{} {target:?} {event} {row}", like.name);
}

#[tokio::test]
async fn an_answer_goes_when_it_depends_on_the_row_and_stays_when_it_does_not() {
    let row = |kind: &str| format!("{kind}_{ROW}");
    for (name, event, row, expected) in [
        // Another product may enter a list; a detail does not care.
        ("product", "product.updated", row("prod"), "hit"),
        ("collections", "product.updated", row("prod"), "hit"),
        ("products-2", "product.updated", row("prod"), "stale"),
        ("type", "product.updated", row("prod"), "stale"),
        ("collection-by-handle-with-products", "product.created", row("prod"), "stale"),
        // Out of sale, published, in or out of a channel: no list may go on as it was, whether it showed the product or not.
        ("products-2", "product.deleted", row("prod"), "renewed"),
        ("products-2", "endcap.product-listing", row("prod"), "renewed"),
        ("type", "endcap.product-listing", row("prod"), "renewed"),
        ("product", "endcap.product-listing", row("prod"), "hit"),
        ("products-2", "endcap.product-channel", row("prod"), "renewed"),
        ("variants", "endcap.product-channel", row("prod"), "renewed"),
        ("products-2", "endcap.product-content", row("prod"), "hit"),
        // A row of a link to a product that the event does not name.
        ("product", "LinkProductSalesChannel.detached", row("prodsc"), "stale"),
        ("categories", "LinkProductSalesChannel.detached", row("prodsc"), "hit"),
        // A new price stands in no answer yet.
        ("products-2-priced-us", "pricing.price.created", row("price"), "renewed"),
        ("product-priced-sale", "pricing.price-list.created", row("plist"), "renewed"),
        ("products-2-priced-eu-country-de", "tax.tax-rate.updated", row("txr"), "renewed"),
        ("products-2", "pricing.price.created", row("price"), "hit"),
        // Stock, which only some ask for.
        ("products-12-starter", "inventory-level.updated", row("ilev"), "stale"),
        ("products-12-priced-eu", "inventory-level.updated", row("ilev"), "hit"),
        ("products-12-starter", "LinkSalesChannelStockLocation.detached", row("scloc"), "renewed"),
        ("products-12-starter", "stock_location.stock-location.deleted", row("sloc"), "renewed"),
        // A list by category shows no category.
        ("products-by-category", "product-category.updated", "pcat_01M7Y0CK7EMPTEB1RHZV3Z43CH".into(), "renewed"),
        ("products-by-category", "product-category.updated", row("pcat"), "stale"),
        ("products-by-tag", "product-tag.deleted", "ptag_01M7Y0CK2S1ZKRHC24T7KSZTAC".into(), "renewed"),
        ("products-2", "product-category.updated", row("pcat"), "hit"),
        ("payment-providers", "LinkRegionPaymentProvider.attached", row("regpp"), "renewed"),
        ("payment-providers", "region.updated", "reg_01M7Y0CJMSR92S9NXXSRFK6ZG6".into(), "renewed"),
        ("regions", "region.created", row("reg"), "stale"),
        ("currency", "store.store-currency.created", row("stocur"), "stale"),
        ("return-reasons", "order.return-reason.created", row("rr"), "renewed"),
        ("types-slim", "product-type.created", row("ptyp"), "stale"),
        // Which key and which channel an answer was for, it does not show.
        ("products-2", "api_key.api-key.updated", row("apk"), "renewed"),
        ("b2b-products-2", "LinkPublishableApiKeySalesChannel.detached", row("pksc"), "renewed"),
        ("locale-header", "translation.updated", row("trans"), "stale"),
    ] {
        check(capture(name), None, event, &row, expected).await;
    }
}

#[tokio::test]
async fn a_region_alone_brings_prices() {
    // Also where only handles are asked for, as the storefront's build does.
    let priced = capture("products-2-priced-eu");
    for fields in ["", "&fields=handle"] {
        let target = format!("/store/products?limit=2&{REGION}{fields}");
        check(priced, Some(&target), "pricing.price.created", &format!("price_{ROW}"), "renewed").await;
    }
    let sale = capture("product-priced-sale");
    let target = format!("{}?{REGION}", sale.path());
    check(sale, Some(&target), "pricing.price.created", &format!("price_{ROW}"), "renewed").await;
}

/// The product is not there for shoppers any more, and so neither is its variant, which does not say whose it is.
#[tokio::test]
async fn a_variant_s_page_without_its_product_goes_when_a_product_is_withdrawn() {
    let like = capture("product");
    for (query, expected) in [("?fields=id,title", "renewed"), ("", "hit")] {
        for event in ["endcap.product-listing", "endcap.product-channel", "product.deleted"] {
            let target = format!("/store/product-variants/variant_{ROW}{query}");
            check(like, Some(&target), event, &format!("prod_{ROW}"), expected).await;
        }
    }
}
