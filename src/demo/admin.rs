//! The admin's side: a change of one product, and the webhook that tells of it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::catalogue::{Catalogue, Change};
use super::ids::Id;
use super::price::{Amount, Shopper};
use super::product_views::{self, ProductExtras};
use super::query::Fields;
use super::reply::ApiError;
use super::views::Stamp;
use super::webhook::Delivery;
use crate::clock::Timestamp;

/// The bearer token of the admin of the sample shop.
pub const ADMIN_TOKEN: &str = "demo-admin";

/// How long a title may be, in bytes.
const TITLE_BYTES_MAX: usize = 200;

/// The body of a request for a change.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeRequest {
    title: Option<String>,
    price: Option<PriceRequest>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PriceRequest {
    /// A short name (`eu`) or an id; the first region if absent.
    region: Option<String>,
    amount: f64,
}

impl ChangeRequest {
    /// Checks the request against the catalogue.
    pub(super) fn resolve(self, catalogue: &Catalogue) -> Result<Change, ApiError> {
        let title = self.title.map(|title| title.trim().to_owned());
        if title.as_ref().is_some_and(|title| title.is_empty() || title.len() > TITLE_BYTES_MAX) {
            return Err(ApiError::invalid(format!("A title has 1 to {TITLE_BYTES_MAX} bytes")));
        }
        let price = match self.price {
            None => None,
            Some(price) => {
                let name = price.region.as_deref().unwrap_or("eu");
                let region = catalogue.region(name).ok_or_else(|| ApiError::not_found("Region", name))?;
                let amount = Amount::from_decimal(price.amount)
                    .ok_or_else(|| ApiError::invalid("An amount is a number from 0 to 1000000"))?;
                Some((region, amount))
            }
        };
        if title.is_none() && price.is_none() {
            return Err(ApiError::invalid("Nothing to change: give a title or a price"));
        }
        Ok(Change { title, price })
    }
}

/// Changes a product and returns its JSON as of now, priced in the region that the change was about.
pub(super) fn apply(
    catalogue: &mut Catalogue,
    product: usize,
    change: Change,
    now: Timestamp,
) -> Result<Vec<u8>, ApiError> {
    let region = change.price.map_or(0, |(region, _)| region);
    catalogue.change(product, change, now);
    let shopper = Shopper { region, taxed: false, vip: false };
    let extras = ProductExtras::of(&Fields::default(), Some(shopper), true);
    Ok(serde_json::to_vec(&product_views::product(catalogue, &catalogue.products[product], extras))?)
}

/// The event that tells of a change: its id and its body.
pub(super) fn event(product_id: Id, sequence: u64, now: Timestamp) -> Result<(String, Bytes), ApiError> {
    #[derive(Serialize)]
    struct Event {
        #[serde(rename = "type")]
        kind: &'static str,
        timestamp: Stamp,
        data: Data,
    }
    #[derive(Serialize)]
    struct Data {
        id: Id,
    }
    let event = Event { kind: "product.updated", timestamp: Stamp(now), data: Data { id: product_id } };
    // The time is in the id: a receiver that remembers ids must not take the first event after a restart for an old one.
    Ok((Id::new("msg", now, sequence).to_string(), serde_json::to_vec(&event)?.into()))
}

/// The body of the answer: the product, and what became of the webhook.
pub(super) fn answer(product: &[u8], delivery: Option<Delivery>) -> Vec<u8> {
    let report = report(delivery).to_string();
    [b"{\"product\":", product, b",\"webhook\":", report.as_bytes(), b"}"].concat()
}

fn report(delivery: Option<Delivery>) -> Value {
    let Some(Delivery { outcome, tries, elapsed }) = delivery else {
        return json!({ "skipped": "no webhook target is configured" });
    };
    let ms = (elapsed.as_secs_f64() * 1e6).round() / 1e3;
    match outcome {
        Ok(status) => json!({ "status": status.as_u16(), "ms": ms, "tries": tries }),
        Err(error) => json!({ "error": error.reason(), "ms": ms, "tries": tries }),
    }
}
