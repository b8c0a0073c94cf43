//! The sample shop of `endcap demo` and `endcap shop`: a small backend that answers a storefront as Medusa v2
//! does, so that the proxy can be shown and tested with no other program.
//!
//! It is a stand-in, not a port: the shapes of its answers (keys, nesting, envelopes, errors, headers) are those
//! of captured ones, its texts are generated, and the database is a bounded pool with an artificial latency.
//! The shop uses only leaves of the crate; `tour.rs` alone puts a node in front of it and shows it around.
//!
//! Life of a request (`serve.rs`): preflight → route → publishable key → a read of the "database" (queue, parameters,
//! a body built from the catalogue as of now, latency) → ETag, conditional, cross-origin headers.
//!
//! Known differences, on purpose: prices need a `region_id` (there is no default region for them); `fields` chooses
//! top-level keys and the known extras but does not reach into nested rows; filters by date and by `$and`/`$or` are
//! accepted and change nothing; an answer has at most [`ROWS_MAX`] rows. The shop forgets its changes when it stops.

mod admin;
mod cart_views;
mod carts;
mod catalogue;
mod category_views;
mod database;
mod embedded;
mod generate;
mod ids;
mod price;
mod product_views;
mod query;
mod read;
mod reply;
mod route;
mod serve;
mod shop;
pub mod tour;
mod variant_views;
mod views;
mod webhook;
mod words;

pub use admin::ADMIN_TOKEN;
pub use catalogue::{ProductRef, RegionRef, Showcase};
pub use database::ShopStats;
pub use price::VIP_TOKEN;
pub use read::ROWS_MAX;
pub use shop::{PRODUCTS_MAX, PUBLISHABLE_KEY, Shop, ShopHandle, ShopSettings};
pub use webhook::{WebhookTarget, WebhookTargetError};

#[cfg(test)]
mod tests;
