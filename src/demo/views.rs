//! The shapes of regions, currencies, collections, labels and the other small rows, key by key as the backend writes
//! them.
//!
//! A key that is always `null` there is a `()` here: it is part of the shape, and the tests hold it to the captures.

use serde::Serialize;

use super::catalogue::{Banner, Catalogue, Label, Product, Region};
use super::embedded::{EmbeddedProduct, Within, embedded};
use super::ids::Id;
use super::words::{Country, CurrencySpec};
use crate::clock::Timestamp;

/// A time as an answer shows it: RFC 3339 with milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp(pub(super) Timestamp);

impl Serialize for Stamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_rfc3339_millis(self.0.to_system_time()))
    }
}

/// The time at which a row was made, which its id knows.
pub(super) fn made(id: Id) -> Stamp {
    Stamp(id.at())
}

/// Nothing but an id.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Mention {
    pub(super) id: Id,
}

#[derive(Debug, Serialize)]
pub(super) struct RegionView {
    id: Id,
    name: &'static str,
    currency_code: &'static str,
    created_at: Stamp,
    updated_at: Stamp,
    deleted_at: (),
    metadata: (),
    countries: Vec<CountryView>,
}

#[derive(Debug, Serialize)]
pub(super) struct CountryView {
    iso_2: &'static str,
    iso_3: &'static str,
    num_code: &'static str,
    name: &'static str,
    display_name: &'static str,
    region_id: Id,
    metadata: (),
    created_at: Stamp,
    updated_at: Stamp,
    deleted_at: (),
}

pub(super) fn region(region: &Region) -> RegionView {
    RegionView {
        id: region.id,
        name: region.spec.name,
        currency_code: region.spec.currency_code,
        created_at: made(region.id),
        updated_at: made(region.id),
        deleted_at: (),
        metadata: (),
        countries: countries(region),
    }
}

pub(super) fn countries(region: &Region) -> Vec<CountryView> {
    let one = |&(iso_2, iso_3, num_code, name, display_name): &Country| CountryView {
        iso_2,
        iso_3,
        num_code,
        name,
        display_name,
        region_id: region.id,
        metadata: (),
        created_at: made(region.id),
        updated_at: made(region.id),
        deleted_at: (),
    };
    region.spec.countries.iter().map(one).collect()
}

#[derive(Debug, Serialize)]
pub(super) struct CurrencyView {
    code: &'static str,
    name: &'static str,
    symbol: &'static str,
    symbol_native: &'static str,
    decimal_digits: u8,
    rounding: u8,
}

pub(super) fn currency(&(code, symbol, symbol_native, name, decimal_digits): &CurrencySpec) -> CurrencyView {
    CurrencyView { code, name, symbol, symbol_native, decimal_digits, rounding: 0 }
}

#[derive(Debug, Serialize)]
pub(super) struct CollectionView<'a> {
    id: Id,
    title: &'a str,
    handle: &'a str,
    external_id: (),
    created_at: Stamp,
    updated_at: Stamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    products: Option<Vec<EmbeddedProduct<'a>>>,
}

pub(super) fn collection(catalogue: &Catalogue, index: usize, with_products: bool) -> CollectionView<'_> {
    let collection = &catalogue.collections[index];
    CollectionView {
        id: collection.id,
        title: &collection.title,
        handle: &collection.handle,
        external_id: (),
        created_at: made(collection.id),
        updated_at: made(collection.id),
        products: with_products
            .then(|| embedded(catalogue, Within::Collection, |product| product.collection == Some(index))),
    }
}

#[derive(Debug, Serialize)]
pub(super) struct LabelView<'a> {
    id: Id,
    value: &'a str,
    external_id: (),
    created_at: Stamp,
    updated_at: Stamp,
    metadata: (),
    products: Vec<EmbeddedProduct<'a>>,
}

pub(super) fn tag(catalogue: &Catalogue, index: usize) -> LabelView<'_> {
    let products = embedded(catalogue, Within::Other, |product| product.tags.contains(&index));
    label(&catalogue.tags[index], products)
}

pub(super) fn product_type(catalogue: &Catalogue, index: usize) -> LabelView<'_> {
    let products = embedded(catalogue, Within::Type, |product| product.kind == index);
    label(&catalogue.types[index], products)
}

fn label<'a>(label: &'a Label, products: Vec<EmbeddedProduct<'a>>) -> LabelView<'a> {
    let (created_at, updated_at) = (made(label.id), made(label.id));
    LabelView { id: label.id, value: &label.value, external_id: (), created_at, updated_at, metadata: (), products }
}

/// What the shop's owner keeps beside a product.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Metadata {
    pub(super) erp: usize,
    pub(super) season: &'static str,
}

/// The address of an image; there is nothing there.
pub(super) fn image_url(product_number: usize, rank: usize) -> String {
    format!("https://images.example.test/catalogue/{product_number:06}-{}.jpg", rank + 1)
}

/// A product's name in the shop's other systems.
pub(super) fn external_id(product: &Product) -> String {
    format!("ERP-{}", product.number)
}

/// A banner; a route of the project's own, so there is no capture of it.
#[derive(Debug, Serialize)]
pub(super) struct BannerView<'a> {
    id: Id,
    title: &'static str,
    subtitle: &'static str,
    image: String,
    link: String,
    rank: usize,
    product: BannerProduct<'a>,
    created_at: Stamp,
    updated_at: Stamp,
}

#[derive(Debug, Serialize)]
struct BannerProduct<'a> {
    id: Id,
    title: &'a str,
    handle: &'a str,
}

pub(super) fn banner<'a>(catalogue: &'a Catalogue, rank: usize, banner: &'a Banner) -> BannerView<'a> {
    let product = &catalogue.products[banner.product];
    BannerView {
        id: banner.id,
        title: banner.title,
        subtitle: banner.subtitle,
        image: image_url(product.number, 0),
        link: format!("/products/{}", product.handle),
        rank,
        product: BannerProduct { id: product.id, title: &product.title, handle: &product.handle },
        created_at: made(banner.id),
        updated_at: made(banner.id),
    }
}

#[derive(Debug, Serialize)]
pub(super) struct ReturnReasonView {
    id: Id,
    value: &'static str,
    label: &'static str,
    parent_return_reason_id: (),
    description: Option<&'static str>,
    created_at: Stamp,
    updated_at: Stamp,
    deleted_at: (),
    parent_return_reason: (),
    return_reason_children: [(); 0],
}

pub(super) fn return_reason(
    id: Id,
    &(value, label, description): &(&'static str, &'static str, Option<&'static str>),
) -> ReturnReasonView {
    ReturnReasonView {
        id,
        value,
        label,
        parent_return_reason_id: (),
        description,
        created_at: made(id),
        updated_at: made(id),
        deleted_at: (),
        parent_return_reason: (),
        return_reason_children: [],
    }
}

#[derive(Debug, Serialize)]
pub(super) struct PaymentProviderView {
    pub(super) id: &'static str,
    pub(super) is_enabled: bool,
}
