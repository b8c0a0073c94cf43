//! Reads: from a route and its parameters to the body, a pure function of the catalogue.

use serde::Serialize;

use super::catalogue::{Catalogue, Product, ProductOption};
use super::category_views::{self, Branches};
use super::generate::id;
use super::ids::Id;
use super::price::Shopper;
use super::product_views::{self, ProductExtras};
use super::query::{Fields, Params};
use super::reply::ApiError;
use super::route::{Kind, KindSpec};
use super::views::{self, PaymentProviderView};
use super::{variant_views, words};

/// How many rows an answer has at most. The real one has no such bound; here it keeps a mistaken `limit` from
/// filling the memory. A list of so many products is about 12 MB.
pub const ROWS_MAX: usize = 1_000;

/// The shop's only sales channel.
pub(super) fn sales_channel() -> Id {
    id("sc", 80, 0)
}

/// What is asked for.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    catalogue: &'a Catalogue,
    kind: Kind,
    /// The id in the path, if it is about one row.
    target: Option<&'a str>,
    params: Params,
    fields: Fields,
    vip: bool,
}

impl<'a> Ask<'a> {
    /// Reads the parameters of a request for rows of a kind, or for the one with an id.
    pub(super) fn parse(
        catalogue: &'a Catalogue,
        (kind, target): (Kind, Option<&'a str>),
        query: &str,
        vip: bool,
    ) -> Result<Self, ApiError> {
        let params = Params::parse(query, kind.spec().parameters)?;
        let fields = params.fields();
        Ok(Self { catalogue, kind, target, params, fields, vip })
    }

    /// The cart whose region is to take the place of `region_id`, if one is named.
    pub(super) fn cart_id(&self) -> Option<&str> {
        self.params.one("cart_id")
    }

    /// The body of the answer. A cart's region, if there is one, goes before the parameter.
    pub(super) fn answer(&self, cart_region: Option<usize>) -> Result<Vec<u8>, ApiError> {
        let catalogue = self.catalogue;
        match self.kind {
            Kind::Products => {
                self.check_channel()?;
                let shopper = self.shopper("variants.calculated_price", cart_region)?;
                let extras = ProductExtras::of(&self.fields, shopper, self.target.is_some());
                let keep: &[&str] = if shopper.is_some() { &["variants"] } else { &[] };
                let view = |index: usize| product_views::product(catalogue, &catalogue.products[index], extras);
                self.write(self.products(), keep, view)
            }
            Kind::Variants => {
                let shopper = self.shopper("calculated_price", cart_region)?;
                let extras = ProductExtras::of_variants(&self.fields, shopper);
                let keep: &[&str] = if shopper.is_some() { &["calculated_price"] } else { &[] };
                let view = |(product, rank): (usize, usize)| {
                    variant_views::variant(catalogue, &catalogue.products[product], rank, extras)
                };
                self.write(self.variants(), keep, view)
            }
            Kind::Regions => {
                let rows = self.rows(&catalogue.regions, |region| {
                    self.admits_id(&region.id.to_string())
                        && self.params.admits("currency_code", region.spec.currency_code)
                        && self.params.admits("name", region.spec.name)
                        && self.found_in(&[region.spec.name])
                });
                self.write(rows, &[], |index| views::region(&catalogue.regions[index]))
            }
            Kind::Currencies => {
                let rows = self.rows(&words::CURRENCIES, |&(code, _, _, name, _)| {
                    self.target.is_none_or(|target| target == code)
                        && self.params.admits("code", code)
                        && self.found_in(&[code, name])
                });
                self.write(rows, &[], |index| views::currency(&words::CURRENCIES[index]))
            }
            Kind::Collections => {
                let rows = self.rows(&catalogue.collections, |collection| {
                    self.admits_id(&collection.id.to_string())
                        && self.params.admits("handle", &collection.handle)
                        && self.params.admits("title", &collection.title)
                        && self.found_in(&[&collection.title])
                });
                let with_products = self.fields.asks("products");
                self.write(rows, &[], |index| views::collection(catalogue, index, with_products))
            }
            Kind::Categories => {
                let branches = Branches {
                    ancestors: self.is_set("include_ancestors_tree")
                        || self.fields.asks("parent_category.parent_category"),
                    descendants: self.is_set("include_descendants_tree"),
                    with_products: self.fields.asks("products"),
                };
                self.write(self.categories(), &[], |index| category_views::category(catalogue, index, branches))
            }
            Kind::Tags => {
                let rows = self.rows(&catalogue.tags, |tag| {
                    self.admits_id(&tag.id.to_string())
                        && self.params.admits("value", &tag.value)
                        && self.found_in(&[&tag.value])
                });
                self.write(rows, &[], |index| views::tag(catalogue, index))
            }
            Kind::Types => {
                let rows = self.rows(&catalogue.types, |kind| {
                    self.admits_id(&kind.id.to_string())
                        && self.params.admits("value", &kind.value)
                        && self.found_in(&[&kind.value])
                });
                self.write(rows, &[], |index| views::product_type(catalogue, index))
            }
            Kind::Options => {
                let all = catalogue.products.iter().flat_map(|product| &product.options);
                let by_id = self.target.is_some() || !self.params.many("id").is_empty();
                let admits = |option: &&ProductOption| {
                    (!by_id || self.admits_id(&option.id.to_string()))
                        && self.params.admits("title", option.title)
                        && self.found_in(&[option.title])
                };
                self.write(all.filter(admits).collect(), &[], variant_views::option)
            }
            Kind::HeroBanners => {
                let rows = self.rows(&catalogue.banners, |banner| self.admits_id(&banner.id.to_string()));
                self.write(rows, &[], |rank| views::banner(catalogue, rank, &catalogue.banners[rank]))
            }
            Kind::ReturnReasons => {
                let ids: Vec<_> = (0..words::RETURN_REASONS.len()).map(|index| id("rr", 555, index)).collect();
                let rows = self.rows(&ids, |id| self.admits_id(&id.to_string()));
                self.write(rows, &[], |index| views::return_reason(ids[index], &words::RETURN_REASONS[index]))
            }
            Kind::PaymentProviders => {
                if self.params.one("region_id").is_none() {
                    return Err(ApiError::invalid("Invalid request: Field 'region_id' is required"));
                }
                let known = self.params.one("region_id").and_then(|region| catalogue.region(region)).is_some();
                let rows = if known { vec!["pp_system_default"] } else { Vec::new() };
                self.write(rows, &[], |id| PaymentProviderView { id, is_enabled: true })
            }
        }
    }

    /// For whom prices are calculated: a region alone is enough, and asking for prices without one is an error.
    fn shopper(&self, priced: &str, cart_region: Option<usize>) -> Result<Option<Shopper>, ApiError> {
        let taxed = cart_region.is_some() || self.params.one("country_code").is_some();
        let region = match (cart_region, self.params.one("region_id")) {
            (Some(region), _) => region,
            (None, Some(id)) => {
                let unknown = || format!("Region with id {id} not found when populating the pricing context");
                self.catalogue.region(id).ok_or_else(|| ApiError::invalid(unknown()))?
            }
            (None, None) if self.fields.asks(priced) => {
                return Err(ApiError::invalid("Missing required pricing context to calculate prices - region_id"));
            }
            (None, None) => return Ok(None),
        };
        Ok(Some(Shopper { region, taxed, vip: self.vip }))
    }

    fn check_channel(&self) -> Result<(), ApiError> {
        let own = sales_channel().to_string();
        if self.params.many("sales_channel_id").iter().any(|channel| *channel != own) {
            return Err(ApiError::invalid("Requested sales channel is not part of the publishable key"));
        }
        Ok(())
    }

    fn products(&self) -> Vec<usize> {
        let catalogue = self.catalogue;
        let named = self.target.map_or_else(|| self.params.many("id"), |target| vec![target]);
        let mut rows: Vec<usize> = if named.is_empty() {
            (0..catalogue.products.len()).collect()
        } else {
            named.into_iter().filter_map(|id| catalogue.product(id)).collect()
        };
        rows.sort_unstable();
        rows.dedup();

        let collections = self.indexes("collection_id", catalogue.collections.iter().map(|row| row.id.to_string()));
        let categories = self.indexes("category_id", catalogue.categories.iter().map(|row| row.id.to_string()));
        let tags = self.indexes("tag_id", catalogue.tags.iter().map(|row| row.id.to_string()));
        let types = self.indexes("type_id", catalogue.types.iter().map(|row| row.id.to_string()));
        let one_of = |wanted: &Option<Vec<usize>>, has: &[usize]| {
            wanted.as_ref().is_none_or(|wanted| wanted.iter().any(|index| has.contains(index)))
        };
        rows.retain(|&index| {
            let product = &catalogue.products[index];
            self.params.admits("handle", &product.handle)
                && self.params.admits("title", &product.title)
                && self.params.admits("external_id", &views::external_id(product))
                && self.params.one("is_giftcard") != Some("true")
                && one_of(&collections, product.collection.as_slice())
                && one_of(&categories, &product.categories)
                && one_of(&tags, &product.tags)
                && one_of(&types, &[product.kind])
                && self.found_in(&[&product.title, &product.handle, &product.description])
        });
        self.sort(&mut rows);
        rows
    }

    /// Sorts by one of the orders that a storefront offers; ids, and so rows, are in the order of creation.
    fn sort(&self, rows: &mut [usize]) {
        let Some(order) = self.params.one("order") else { return };
        let product = |index: &usize| -> &Product { &self.catalogue.products[*index] };
        let (order, descending) = order.strip_prefix('-').map_or((order, false), |order| (order, true));
        match order {
            "title" => rows.sort_by(|a, b| product(a).title.cmp(&product(b).title)),
            "handle" => rows.sort_by(|a, b| product(a).handle.cmp(&product(b).handle)),
            "updated_at" => rows.sort_by_key(|index| product(index).updated_at),
            _ => {}
        }
        if descending {
            rows.reverse();
        }
    }

    fn variants(&self) -> Vec<(usize, usize)> {
        let catalogue = self.catalogue;
        let named = self.target.map_or_else(|| self.params.many("id"), |target| vec![target]);
        let of = |index: usize| (0..catalogue.products[index].variants.len()).map(move |rank| (index, rank));
        let products = self.params.many("product_id");
        let mut rows: Vec<(usize, usize)> = if !named.is_empty() {
            named.into_iter().filter_map(|id| catalogue.variant(id)).collect()
        } else if !products.is_empty() {
            products.into_iter().filter_map(|id| catalogue.product(id)).flat_map(of).collect()
        } else {
            (0..catalogue.products.len()).flat_map(of).collect()
        };
        rows.retain(|&(product, rank)| {
            let variant = &catalogue.products[product].variants[rank];
            self.params.admits("sku", &variant.sku) && self.found_in(&[&variant.title, &variant.sku])
        });
        rows
    }

    fn categories(&self) -> Vec<usize> {
        let catalogue = self.catalogue;
        self.rows(&catalogue.categories, |category| {
            let parent = category.parent.map(|parent| catalogue.categories[parent].id.to_string());
            self.admits_id(&category.id.to_string())
                && self.params.admits("handle", &category.handle)
                && self.params.admits("name", &category.name)
                && self.params.admits("parent_category_id", parent.as_deref().unwrap_or("null"))
                && self.found_in(&[&category.name])
        })
    }

    fn rows<R>(&self, all: &[R], admits: impl Fn(&R) -> bool) -> Vec<usize> {
        (0..all.len()).filter(|&index| admits(&all[index])).collect()
    }

    /// The indexes of the rows that a parameter names; none if it is absent.
    fn indexes(&self, name: &str, ids: impl Iterator<Item = String>) -> Option<Vec<usize>> {
        let wanted = self.params.many(name);
        let named = |(index, id): (usize, String)| wanted.contains(&id.as_str()).then_some(index);
        (!wanted.is_empty()).then(|| ids.enumerate().filter_map(named).collect())
    }

    fn admits_id(&self, id: &str) -> bool {
        self.target.map_or_else(|| self.params.admits("id", id), |target| target == id)
    }

    fn found_in(&self, texts: &[&str]) -> bool {
        let Some(sought) = self.params.one("q") else { return true };
        let sought = sought.to_lowercase();
        texts.iter().any(|text| text.to_lowercase().contains(&sought))
    }

    fn is_set(&self, name: &str) -> bool {
        self.params.one(name) == Some("true")
    }

    /// Writes the rows that were found: one, or a page of a list in its envelope.
    fn write<T: Copy, R: Serialize>(
        &self,
        rows: Vec<T>,
        keep: &[&str],
        view: impl Fn(T) -> R,
    ) -> Result<Vec<u8>, ApiError> {
        let KindSpec { many, one, limit, .. } = self.kind.spec();
        let mut body = Vec::with_capacity(16 * 1024);
        if let (Some(target), Some((key, name))) = (self.target, one) {
            let row = *rows.first().ok_or_else(|| ApiError::not_found(name, target))?;
            body.extend_from_slice(format!("{{\"{key}\":").as_bytes());
            serde_json::to_writer(&mut body, &self.fields.project(view(row), keep)?)?;
            body.push(b'}');
            return Ok(body);
        }
        let (limit, offset) = (self.params.limit(*limit)?, self.params.offset()?);
        body.extend_from_slice(format!("{{\"{many}\":[").as_bytes());
        for (nth, &row) in rows.iter().skip(offset).take(limit.min(ROWS_MAX)).enumerate() {
            if nth > 0 {
                body.push(b',');
            }
            serde_json::to_writer(&mut body, &self.fields.project(view(row), keep)?)?;
        }
        body.extend_from_slice(
            format!("],\"count\":{},\"offset\":{offset},\"limit\":{limit}}}", rows.len()).as_bytes(),
        );
        Ok(body)
    }
}
