//! The shapes of options and variants as rows of lists of their own, which differ from those inside a product.

use serde::Serialize;

use super::catalogue::{Catalogue, Product, ProductOption};
use super::ids::Id;
use super::price::{CalculatedPrice, calculate};
use super::product_views::{ImageRow, ProductExtras, ValueRow, chosen, images, values};
use super::views::{Mention, Stamp, made};

/// An option as `/store/product-options` shows it: the same keys in another order and without `deleted_at`.
#[derive(Debug, Serialize)]
pub(super) struct OptionView {
    id: Id,
    title: &'static str,
    is_exclusive: bool,
    created_at: Stamp,
    updated_at: Stamp,
    metadata: (),
    values: Vec<ValueRow<()>>,
}

/// An option as `/store/product-options` shows it.
pub(super) fn option(option: &ProductOption) -> OptionView {
    OptionView {
        id: option.id,
        title: option.title,
        is_exclusive: true,
        created_at: made(option.id),
        updated_at: made(option.id),
        metadata: (),
        values: values(option),
    }
}

/// A variant as `/store/product-variants` shows it: with its product and images, and options by id.
#[derive(Debug, Serialize)]
pub(super) struct VariantView<'a> {
    id: Id,
    title: &'a str,
    sku: &'a str,
    barcode: (),
    ean: (),
    upc: (),
    allow_backorder: bool,
    manage_inventory: bool,
    variant_rank: usize,
    product_id: Id,
    thumbnail: (),
    hs_code: (),
    origin_country: (),
    mid_code: (),
    material: (),
    weight: (),
    length: (),
    height: (),
    width: (),
    created_at: Stamp,
    updated_at: Stamp,
    metadata: (),
    product: ProductMention,
    options: Vec<ValueRow<Mention>>,
    images: Vec<VariantImage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    calculated_price: Option<CalculatedPrice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inventory_quantity: Option<usize>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct ProductMention {
    id: Id,
    type_id: Id,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<Mention>,
}

#[derive(Debug, Serialize)]
struct VariantImage {
    id: Id,
    url: String,
    metadata: (),
    rank: usize,
    product_id: Id,
    product: ProductMention,
    created_at: Stamp,
    updated_at: Stamp,
    deleted_at: (),
    variants: [(); 0],
}

/// A variant as `/store/product-variants` shows it.
pub(super) fn variant<'a>(
    catalogue: &'a Catalogue,
    product: &'a Product,
    rank: usize,
    extras: ProductExtras,
) -> VariantView<'a> {
    let variant = &product.variants[rank];
    let type_id = catalogue.types[product.kind].id;
    let mention = ProductMention { id: product.id, type_id, kind: None };
    let image = |image: ImageRow| VariantImage {
        id: image.id,
        url: image.url,
        metadata: (),
        rank: image.rank,
        product_id: product.id,
        product: ProductMention { kind: Some(Mention { id: type_id }), ..mention },
        created_at: image.created_at,
        updated_at: image.updated_at,
        deleted_at: (),
        variants: [],
    };
    VariantView {
        id: variant.id,
        title: &variant.title,
        sku: &variant.sku,
        barcode: (),
        ean: (),
        upc: (),
        allow_backorder: false,
        manage_inventory: true,
        variant_rank: rank,
        product_id: product.id,
        thumbnail: (),
        hs_code: (),
        origin_country: (),
        mid_code: (),
        material: (),
        weight: (),
        length: (),
        height: (),
        width: (),
        created_at: made(variant.id),
        updated_at: made(variant.id),
        metadata: (),
        product: mention,
        options: chosen(product, variant, |option| Mention { id: option.id }),
        images: images(product).into_iter().map(image).collect(),
        calculated_price: extras.shopper.map(|shopper| calculate(variant, shopper)),
        inventory_quantity: extras.stock.then_some(variant.stock),
    }
}
