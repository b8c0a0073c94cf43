//! What the shop sells, in memory: rows by index, and the one change that an admin may make.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use serde::Serialize;

use super::ids::Id;
use super::price::{Amount, RegionPrice};
use super::words::{REGION_COUNT, REGIONS, RegionSpec};
use crate::clock::Timestamp;

/// All rows. What is the same in every shop (regions, currencies, texts) stays in `words`.
#[derive(Debug)]
pub(super) struct Catalogue {
    pub(super) regions: [Region; REGION_COUNT],
    pub(super) collections: Vec<Collection>,
    pub(super) categories: Vec<Category>,
    pub(super) tags: Vec<Label>,
    pub(super) types: Vec<Label>,
    pub(super) products: Vec<Product>,
    pub(super) banners: Vec<Banner>,
    product_by_id: HashMap<String, usize>,
    variant_by_id: HashMap<String, (usize, usize)>,
}

/// A sales region.
#[derive(Debug)]
pub(super) struct Region {
    pub(super) id: Id,
    pub(super) spec: &'static RegionSpec,
}

/// A collection of products.
#[derive(Debug)]
pub(super) struct Collection {
    pub(super) id: Id,
    pub(super) title: String,
    pub(super) handle: String,
}

/// A category, at one of three levels.
#[derive(Debug)]
pub(super) struct Category {
    pub(super) id: Id,
    pub(super) name: String,
    pub(super) handle: String,
    pub(super) description: String,
    /// The ids from the root to here, with dots between.
    pub(super) mpath: String,
    pub(super) rank: usize,
    pub(super) parent: Option<usize>,
    pub(super) children: Vec<usize>,
}

/// A tag or a type.
#[derive(Debug)]
pub(super) struct Label {
    pub(super) id: Id,
    pub(super) value: String,
}

/// A banner of the home page: a custom route of the project, which shows a product.
#[derive(Debug)]
pub(super) struct Banner {
    pub(super) id: Id,
    pub(super) title: &'static str,
    pub(super) subtitle: &'static str,
    pub(super) product: usize,
}

/// A product with all that belongs to it alone.
#[derive(Debug)]
pub(super) struct Product {
    pub(super) id: Id,
    /// Counted from 1, as in its handle.
    pub(super) number: usize,
    pub(super) title: String,
    pub(super) subtitle: Option<String>,
    pub(super) description: String,
    pub(super) handle: String,
    pub(super) weight: usize,
    pub(super) origin_country: &'static str,
    pub(super) material: &'static str,
    pub(super) season: &'static str,
    pub(super) updated_at: Timestamp,
    pub(super) kind: usize,
    pub(super) collection: Option<usize>,
    pub(super) tags: [usize; 2],
    /// The leaf, and the root above it.
    pub(super) categories: [usize; 2],
    pub(super) options: Vec<ProductOption>,
    pub(super) images: Vec<Id>,
    pub(super) variants: Vec<Variant>,
}

/// An option and the values a product comes in.
#[derive(Debug)]
pub(super) struct ProductOption {
    pub(super) id: Id,
    pub(super) title: &'static str,
    pub(super) values: Vec<OptionValue>,
}

/// One value of an option.
#[derive(Debug)]
pub(super) struct OptionValue {
    pub(super) id: Id,
    pub(super) value: &'static str,
}

/// What can be bought: one value of each option.
#[derive(Debug)]
pub(super) struct Variant {
    pub(super) id: Id,
    pub(super) title: String,
    pub(super) sku: String,
    /// For each option of the product, the index of the value.
    pub(super) choices: Vec<usize>,
    pub(super) price_set: Id,
    pub(super) prices: [RegionPrice; REGION_COUNT],
    pub(super) stock: usize,
}

/// What an admin changes of a product.
#[derive(Debug, Default)]
pub(super) struct Change {
    pub(super) title: Option<String>,
    /// A region's index and the new price there, of all variants.
    pub(super) price: Option<(usize, Amount)>,
}

impl Catalogue {
    /// Puts the rows together and indexes what is looked up by id.
    pub(super) fn new(rows: Rows) -> Self {
        let Rows { regions, collections, categories, tags, types, products, banners } = rows;
        let product_by_id =
            products.iter().enumerate().map(|(index, product)| (product.id.to_string(), index)).collect();
        let variant_by_id = products
            .iter()
            .enumerate()
            .flat_map(|(index, product)| {
                let variants = product.variants.iter().enumerate();
                variants.map(move |(rank, variant)| (variant.id.to_string(), (index, rank)))
            })
            .collect();
        Self { regions, collections, categories, tags, types, products, banners, product_by_id, variant_by_id }
    }

    /// The index of the product with an id.
    pub(super) fn product(&self, id: &str) -> Option<usize> {
        self.product_by_id.get(id).copied()
    }

    /// The indexes of the product and of the variant with an id.
    pub(super) fn variant(&self, id: &str) -> Option<(usize, usize)> {
        self.variant_by_id.get(id).copied()
    }

    /// The index of the region with an id, or with a short name such as `eu`.
    pub(super) fn region(&self, id_or_key: &str) -> Option<usize> {
        self.regions.iter().position(|region| region.spec.key == id_or_key || region.id.to_string() == id_or_key)
    }

    /// Changes a product. A new price ends a sale in that region: it is what is shown from now on.
    pub(super) fn change(&mut self, product: usize, change: Change, now: Timestamp) {
        let product = &mut self.products[product];
        if let Some(title) = change.title {
            product.title = title;
        }
        if let Some((region, amount)) = change.price {
            for variant in &mut product.variants {
                variant.prices[region].original = amount;
                variant.prices[region].sale = None;
            }
        }
        product.updated_at = now;
    }

    /// Some rows by which a tour of the shop can find its way.
    pub(super) fn showcase(&self) -> Showcase {
        let products = self.products.iter().take(SHOWN);
        let roots = self.categories.iter().filter(|category| category.parent.is_none());
        Showcase {
            products: products
                .map(|product| ProductRef {
                    id: product.id.to_string(),
                    handle: product.handle.clone(),
                    title: product.title.clone(),
                    variant_id: product.variants[0].id.to_string(),
                })
                .collect(),
            regions: self.regions.iter().map(RegionRef::of).collect(),
            collection_ids: self.collections.iter().take(SHOWN).map(|collection| collection.id.to_string()).collect(),
            category_ids: roots.take(SHOWN).map(|category| category.id.to_string()).collect(),
            product_count: self.products.len(),
        }
    }
}

/// The rows of a catalogue before they are indexed.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) regions: [Region; REGION_COUNT],
    pub(super) collections: Vec<Collection>,
    pub(super) categories: Vec<Category>,
    pub(super) tags: Vec<Label>,
    pub(super) types: Vec<Label>,
    pub(super) products: Vec<Product>,
    pub(super) banners: Vec<Banner>,
}

/// How many rows of a kind [`Showcase`] has at most.
const SHOWN: usize = 8;

/// Some rows of the catalogue, by which a tour can find its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Showcase {
    /// The first eight products.
    pub products: Vec<ProductRef>,
    /// All regions.
    pub regions: Vec<RegionRef>,
    /// The first eight collections.
    pub collection_ids: Vec<String>,
    /// The root categories.
    pub category_ids: Vec<String>,
    /// How many products there are.
    pub product_count: usize,
}

/// By what names a product is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProductRef {
    /// `prod_…`
    pub id: String,
    /// The handle, as a storefront has it in its addresses.
    pub handle: String,
    /// The title as of now.
    pub title: String,
    /// The first variant, for a cart.
    pub variant_id: String,
}

/// By what names a region is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RegionRef {
    /// `reg_…`
    pub id: String,
    /// The short name that a price change takes: `eu`, `us`, `uk`.
    pub key: &'static str,
    /// The currency's code.
    pub currency_code: &'static str,
}

impl RegionRef {
    fn of(region: &Region) -> Self {
        Self { id: region.id.to_string(), key: region.spec.key, currency_code: region.spec.currency_code }
    }
}

/// How many products a shop may have.
pub(super) const PRODUCT_COUNT: RangeInclusive<usize> = 1..=super::shop::PRODUCTS_MAX;

// The index of a region is that of its words everywhere.
const _: () = assert!(REGIONS.len() == REGION_COUNT);
