//! The shape of a cart, key by key as the backend writes it.

use serde::Serialize;

use super::carts::{Cart, Line};
use super::catalogue::Catalogue;
use super::ids::Id;
use super::price::{Amount, Shopper, calculate};
use super::read::sales_channel;
use super::views::{CountryView, Mention, Stamp, countries, image_url};

#[derive(Debug, Serialize)]
pub(super) struct CartView<'a> {
    id: Id,
    currency_code: &'static str,
    email: (),
    locale: (),
    region_id: Id,
    created_at: Stamp,
    updated_at: Stamp,
    completed_at: (),
    total: Amount,
    subtotal: Amount,
    tax_total: Amount,
    discount_total: Amount,
    discount_subtotal: Amount,
    discount_tax_total: Amount,
    original_total: Amount,
    original_tax_total: Amount,
    item_total: Amount,
    item_subtotal: Amount,
    item_tax_total: Amount,
    item_discount_total: Amount,
    original_item_total: Amount,
    original_item_subtotal: Amount,
    original_item_tax_total: Amount,
    shipping_total: Amount,
    shipping_subtotal: Amount,
    shipping_tax_total: Amount,
    shipping_discount_total: Amount,
    original_shipping_tax_total: Amount,
    original_shipping_subtotal: Amount,
    original_shipping_total: Amount,
    credit_line_subtotal: Amount,
    credit_line_tax_total: Amount,
    credit_line_total: Amount,
    metadata: (),
    sales_channel_id: Id,
    customer_id: (),
    items: Vec<LineView<'a>>,
    shipping_methods: [(); 0],
    shipping_address: (),
    billing_address: (),
    credit_lines: [(); 0],
    region: CartRegion,
    promotions: [(); 0],
}

#[derive(Debug, Serialize)]
struct CartRegion {
    id: Id,
    name: &'static str,
    currency_code: &'static str,
    automatic_taxes: bool,
    countries: Vec<CountryView>,
}

#[derive(Debug, Serialize)]
struct LineView<'a> {
    id: Id,
    thumbnail: String,
    variant_id: Id,
    product_id: Id,
    is_giftcard: bool,
    product_type_id: Id,
    product_title: &'a str,
    product_description: &'a str,
    product_subtitle: Option<&'a str>,
    product_type: &'a str,
    product_collection: Option<&'a str>,
    product_handle: &'a str,
    variant_sku: &'a str,
    variant_barcode: (),
    variant_title: &'a str,
    requires_shipping: bool,
    metadata: Empty,
    created_at: Stamp,
    updated_at: Stamp,
    title: &'a str,
    quantity: u64,
    unit_price: Amount,
    compare_at_unit_price: Option<Amount>,
    is_tax_inclusive: bool,
    tax_lines: [(); 0],
    adjustments: [(); 0],
    product: LineProduct,
}

/// `{}`
#[derive(Debug, Serialize)]
struct Empty {}

#[derive(Debug, Serialize)]
struct LineProduct {
    id: Id,
    collection_id: Option<Id>,
    type_id: Id,
    categories: Vec<Mention>,
    tags: Vec<Mention>,
}

/// A cart as the backend shows it.
pub(super) fn view<'a>(catalogue: &'a Catalogue, cart: &Cart) -> CartView<'a> {
    let region = &catalogue.regions[cart.region];
    let items: Vec<LineView<'_>> = cart.lines.iter().map(|line| line_view(catalogue, cart, line)).collect();
    // The sample shop taxes and ships nothing, so all totals of items are the same.
    let total = items.iter().fold(Amount::ZERO, |sum, item| sum.plus(item.unit_price.times(item.quantity)));
    let zero = Amount::ZERO;
    CartView {
        id: cart.id,
        currency_code: region.spec.currency_code,
        email: (),
        locale: (),
        region_id: region.id,
        created_at: Stamp(cart.id.at()),
        updated_at: Stamp(cart.updated_at),
        completed_at: (),
        total,
        subtotal: total,
        tax_total: zero,
        discount_total: zero,
        discount_subtotal: zero,
        discount_tax_total: zero,
        original_total: total,
        original_tax_total: zero,
        item_total: total,
        item_subtotal: total,
        item_tax_total: zero,
        item_discount_total: zero,
        original_item_total: total,
        original_item_subtotal: total,
        original_item_tax_total: zero,
        shipping_total: zero,
        shipping_subtotal: zero,
        shipping_tax_total: zero,
        shipping_discount_total: zero,
        original_shipping_tax_total: zero,
        original_shipping_subtotal: zero,
        original_shipping_total: zero,
        credit_line_subtotal: zero,
        credit_line_tax_total: zero,
        credit_line_total: zero,
        metadata: (),
        sales_channel_id: sales_channel(),
        customer_id: (),
        items,
        shipping_methods: [],
        shipping_address: (),
        billing_address: (),
        credit_lines: [],
        region: CartRegion {
            id: region.id,
            name: region.spec.name,
            currency_code: region.spec.currency_code,
            automatic_taxes: true,
            countries: countries(region),
        },
        promotions: [],
    }
}

fn line_view<'a>(catalogue: &'a Catalogue, cart: &Cart, line: &Line) -> LineView<'a> {
    let product = &catalogue.products[line.product];
    let variant = &product.variants[line.rank];
    let kind = &catalogue.types[product.kind];
    let collection = product.collection.map(|collection| &catalogue.collections[collection]);
    let price = calculate(variant, Shopper { region: cart.region, taxed: false, vip: false });
    let reduced = price.calculated_amount != price.original_amount;
    LineView {
        id: line.id,
        thumbnail: image_url(product.number, 0),
        variant_id: variant.id,
        product_id: product.id,
        is_giftcard: false,
        product_type_id: kind.id,
        product_title: &product.title,
        product_description: &product.description,
        product_subtitle: product.subtitle.as_deref(),
        product_type: &kind.value,
        product_collection: collection.map(|collection| collection.title.as_str()),
        product_handle: &product.handle,
        variant_sku: &variant.sku,
        variant_barcode: (),
        variant_title: &variant.title,
        requires_shipping: true,
        metadata: Empty {},
        created_at: Stamp(line.id.at()),
        updated_at: Stamp(line.id.at()),
        title: &product.title,
        quantity: line.quantity,
        unit_price: price.calculated_amount,
        compare_at_unit_price: reduced.then_some(price.original_amount),
        is_tax_inclusive: false,
        tax_lines: [],
        adjustments: [],
        product: LineProduct {
            id: product.id,
            collection_id: collection.map(|collection| collection.id),
            type_id: kind.id,
            categories: product
                .categories
                .iter()
                .map(|&index| Mention { id: catalogue.categories[index].id })
                .collect(),
            tags: product.tags.iter().map(|&index| Mention { id: catalogue.tags[index].id }).collect(),
        },
    }
}
