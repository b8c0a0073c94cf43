//! The shape of a product with its options, images and variants, key by key as the backend writes it.

use serde::Serialize;

use super::catalogue::{Catalogue, OptionValue, Product, ProductOption, Variant};
use super::category_views::{CategoryRow, category_of_product};
use super::ids::Id;
use super::price::{CalculatedPrice, Shopper, calculate};
use super::query::Fields;
use super::views::{Metadata, Stamp, external_id, image_url, made};

/// What is shown of a product beyond the default.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ProductExtras {
    /// For whom prices are calculated, if at all.
    pub(super) shopper: Option<Shopper>,
    /// Whether it is a product's own page; the backend then leaves a trace of its check of the categories.
    pub(super) detail: bool,
    metadata: bool,
    external_id: bool,
    categories: bool,
    pub(super) stock: bool,
    variant_images: bool,
}

impl ProductExtras {
    /// What `fields` asks for.
    pub(super) fn of(fields: &Fields, shopper: Option<Shopper>, detail: bool) -> Self {
        Self {
            shopper,
            detail,
            metadata: fields.asks("metadata"),
            external_id: fields.asks("external_id"),
            categories: fields.asks("categories"),
            stock: fields.asks("variants.inventory_quantity"),
            variant_images: fields.asks("variants.images"),
        }
    }

    /// What `fields` asks for where variants are the rows.
    pub(super) fn of_variants(fields: &Fields, shopper: Option<Shopper>) -> Self {
        Self { shopper, stock: fields.asks("inventory_quantity"), ..Self::default() }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct ProductView<'a> {
    id: Id,
    title: &'a str,
    subtitle: Option<&'a str>,
    description: &'a str,
    handle: &'a str,
    is_giftcard: bool,
    discountable: bool,
    thumbnail: String,
    collection_id: Option<Id>,
    type_id: Id,
    weight: usize,
    length: (),
    height: (),
    width: (),
    hs_code: (),
    origin_country: &'static str,
    mid_code: (),
    material: &'static str,
    created_at: Stamp,
    updated_at: Stamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata>,
    #[serde(rename = "type")]
    kind: LabelRow<'a>,
    collection: Option<CollectionRow<'a>>,
    options: Vec<OptionRow>,
    tags: Vec<LabelRow<'a>>,
    images: Vec<ImageRow>,
    variants: Vec<VariantRow<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    categories: Option<Vec<CategoryTrace<'a>>>,
}

#[derive(Debug, Serialize)]
struct LabelRow<'a> {
    id: Id,
    value: &'a str,
    external_id: (),
    metadata: (),
    created_at: Stamp,
    updated_at: Stamp,
    deleted_at: (),
}

#[derive(Debug, Serialize)]
struct CollectionRow<'a> {
    id: Id,
    title: &'a str,
    handle: &'a str,
    external_id: (),
    metadata: (),
    created_at: Stamp,
    updated_at: Stamp,
    deleted_at: (),
}

#[derive(Debug, Serialize)]
struct OptionRow {
    id: Id,
    title: &'static str,
    is_exclusive: bool,
    metadata: (),
    created_at: Stamp,
    updated_at: Stamp,
    deleted_at: (),
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<Vec<ValueRow<()>>>,
}

/// A value; inside a variant it shows its option too, in full or by id.
#[derive(Debug, Serialize)]
pub(super) struct ValueRow<O> {
    id: Id,
    value: &'static str,
    rank: (),
    metadata: (),
    option_id: Id,
    #[serde(skip_serializing_if = "Option::is_none")]
    option: Option<O>,
    created_at: Stamp,
    updated_at: Stamp,
    deleted_at: (),
}

#[derive(Debug, Serialize)]
pub(super) struct ImageRow {
    pub(super) id: Id,
    pub(super) url: String,
    metadata: (),
    pub(super) rank: usize,
    product_id: Id,
    pub(super) created_at: Stamp,
    pub(super) updated_at: Stamp,
    deleted_at: (),
}

/// Categories when they are asked for, or the flag that the backend leaves of its own check.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum CategoryTrace<'a> {
    Whole(Box<CategoryRow<'a>>),
    Flag { is_internal: bool },
}

#[derive(Debug, Serialize)]
struct VariantRow<'a> {
    id: Id,
    title: &'a str,
    sku: &'a str,
    barcode: (),
    ean: (),
    upc: (),
    allow_backorder: bool,
    manage_inventory: bool,
    hs_code: (),
    origin_country: (),
    mid_code: (),
    material: (),
    weight: (),
    length: (),
    height: (),
    width: (),
    metadata: (),
    variant_rank: usize,
    thumbnail: (),
    product_id: Id,
    created_at: Stamp,
    updated_at: Stamp,
    deleted_at: (),
    #[serde(skip_serializing_if = "Option::is_none")]
    images: Option<Vec<ImageRow>>,
    options: Vec<ValueRow<OptionRow>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    calculated_price: Option<CalculatedPrice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inventory_quantity: Option<usize>,
}

/// A product as `/store/products` and `/store/products/{id}` show it.
pub(super) fn product<'a>(catalogue: &'a Catalogue, product: &'a Product, extras: ProductExtras) -> ProductView<'a> {
    let collection = product.collection.map(|collection| &catalogue.collections[collection]);
    let category = |&category: &usize| match extras.categories {
        true => CategoryTrace::Whole(Box::new(category_of_product(catalogue, category))),
        false => CategoryTrace::Flag { is_internal: false },
    };
    ProductView {
        id: product.id,
        title: &product.title,
        subtitle: product.subtitle.as_deref(),
        description: &product.description,
        handle: &product.handle,
        is_giftcard: false,
        discountable: true,
        thumbnail: image_url(product.number, 0),
        collection_id: collection.map(|collection| collection.id),
        type_id: catalogue.types[product.kind].id,
        weight: product.weight,
        length: (),
        height: (),
        width: (),
        hs_code: (),
        origin_country: product.origin_country,
        mid_code: (),
        material: product.material,
        created_at: made(product.id),
        updated_at: Stamp(product.updated_at),
        external_id: extras.external_id.then(|| external_id(product)),
        metadata: extras.metadata.then_some(Metadata { erp: product.number, season: product.season }),
        kind: label(catalogue.types[product.kind].id, &catalogue.types[product.kind].value),
        collection: collection.map(|collection| CollectionRow {
            id: collection.id,
            title: &collection.title,
            handle: &collection.handle,
            external_id: (),
            metadata: (),
            created_at: made(collection.id),
            updated_at: made(collection.id),
            deleted_at: (),
        }),
        options: product
            .options
            .iter()
            .map(|option| OptionRow { values: Some(values(option)), ..row(option) })
            .collect(),
        tags: product.tags.iter().map(|&tag| label(catalogue.tags[tag].id, &catalogue.tags[tag].value)).collect(),
        images: images(product),
        variants: (0..product.variants.len()).map(|rank| variant_row(product, rank, extras)).collect(),
        categories: (extras.categories || extras.detail).then(|| product.categories.iter().map(category).collect()),
    }
}

fn label(id: Id, value: &str) -> LabelRow<'_> {
    let (created_at, updated_at) = (made(id), made(id));
    LabelRow { id, value, external_id: (), metadata: (), created_at, updated_at, deleted_at: () }
}

fn row(option: &ProductOption) -> OptionRow {
    OptionRow {
        id: option.id,
        title: option.title,
        is_exclusive: true,
        metadata: (),
        created_at: made(option.id),
        updated_at: made(option.id),
        deleted_at: (),
        values: None,
    }
}

pub(super) fn values(option: &ProductOption) -> Vec<ValueRow<()>> {
    option.values.iter().map(|value| value_row(option, value, None)).collect()
}

fn value_row<O>(option: &ProductOption, value: &OptionValue, shown: Option<O>) -> ValueRow<O> {
    ValueRow {
        id: value.id,
        value: value.value,
        rank: (),
        metadata: (),
        option_id: option.id,
        option: shown,
        created_at: made(value.id),
        updated_at: made(value.id),
        deleted_at: (),
    }
}

/// The values of a variant, each with what is shown of its option.
pub(super) fn chosen<O>(product: &Product, variant: &Variant, shown: impl Fn(&ProductOption) -> O) -> Vec<ValueRow<O>> {
    let pairs = product.options.iter().zip(&variant.choices);
    pairs.map(|(option, &choice)| value_row(option, &option.values[choice], Some(shown(option)))).collect()
}

pub(super) fn images(product: &Product) -> Vec<ImageRow> {
    let one = |(rank, &id): (usize, &Id)| ImageRow {
        id,
        url: image_url(product.number, rank),
        metadata: (),
        rank,
        product_id: product.id,
        created_at: made(id),
        updated_at: made(id),
        deleted_at: (),
    };
    product.images.iter().enumerate().map(one).collect()
}

fn variant_row(product: &Product, rank: usize, extras: ProductExtras) -> VariantRow<'_> {
    let variant = &product.variants[rank];
    VariantRow {
        id: variant.id,
        title: &variant.title,
        sku: &variant.sku,
        barcode: (),
        ean: (),
        upc: (),
        allow_backorder: false,
        manage_inventory: true,
        hs_code: (),
        origin_country: (),
        mid_code: (),
        material: (),
        weight: (),
        length: (),
        height: (),
        width: (),
        metadata: (),
        variant_rank: rank,
        thumbnail: (),
        product_id: product.id,
        created_at: made(variant.id),
        updated_at: made(variant.id),
        deleted_at: (),
        images: extras.variant_images.then(|| images(product)),
        options: chosen(product, variant, row),
        calculated_price: extras.shopper.map(|shopper| calculate(variant, shopper)),
        inventory_quantity: extras.stock.then_some(variant.stock),
    }
}
