//! Makes up the catalogue: product `n` is the same in every shop, whatever its size.

use super::catalogue::{
    Banner, Catalogue, Category, Collection, Label, OptionValue, Product, ProductOption, Region, Rows, Variant,
};
use super::ids::{Chance, Id};
use super::price::{Amount, RegionPrice};
use super::words;
use crate::clock::Timestamp;

/// When the shop was seeded; rows follow one another in milliseconds, so that ids are in the order of creation.
const SEEDED: Timestamp = Timestamp::from_millis(1_795_229_633_000);

const COLLECTION_COUNT: usize = 12;

/// One product in so many is in the sale.
const SALE_EVERY: usize = 8;

/// Makes a catalogue of so many products.
pub(super) fn catalogue(product_count: usize) -> Catalogue {
    assert!(product_count > 0, "banners show a product");
    let regions = [0, 1, 2].map(|index| Region { id: id("reg", 190, index), spec: &words::REGIONS[index] });
    let collections = (0..COLLECTION_COUNT).map(collection).collect();
    let categories = categories();
    let leaves: Vec<usize> = (0..categories.len()).filter(|&index| categories[index].children.is_empty()).collect();
    let tags =
        words::LOOKS.iter().flat_map(|look| words::MATERIALS.iter().take(5).map(move |material| (look, material)));
    let tags: Vec<Label> = tags
        .enumerate()
        .map(|(index, (look, material))| Label {
            id: id("ptag", 600, index),
            value: format!("{}-{material}", look.to_lowercase()),
        })
        .collect();
    let types: Vec<Label> = (0..words::TYPES.len())
        .map(|index| Label { id: id("ptyp", 580, index), value: words::TYPES[index].to_owned() })
        .collect();

    let products = (0..product_count)
        .map(|index| {
            let mut chance = Chance::new(wide(index));
            let leaf = chance.pick(&leaves);
            let tag = chance.below(tags.len());
            let other_tag = (tag + 1 + chance.below(tags.len() - 1)) % tags.len();
            let linked = Linked { tags: [tag, other_tag], categories: [leaf, root_of(&categories, leaf)] };
            product(index, linked, &mut chance)
        })
        .collect();
    let banners = words::BANNERS.iter().enumerate().map(|(index, &(title, subtitle))| Banner {
        id: id("hban", 700, index),
        title,
        subtitle,
        product: index * 7 % product_count,
    });
    Catalogue::new(Rows { regions, collections, categories, tags, types, products, banners: banners.collect() })
}

/// An id made so many milliseconds after the seed.
pub(super) fn id(prefix: &'static str, after_ms: u64, number: usize) -> Id {
    Id::new(prefix, Timestamp::from_millis(SEEDED.as_millis() + after_ms), wide(number))
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn collection(index: usize) -> Collection {
    let number = index + 1;
    Collection {
        id: id("pcol", 572, index),
        title: format!("Collection {number}"),
        handle: format!("collection-{number}"),
    }
}

/// Each root, then the level below it, then the level below that, as the backend lists them.
fn categories() -> Vec<Category> {
    let mut all: Vec<Category> = Vec::new();
    for (rank, root) in words::ROOTS.iter().enumerate() {
        let root_at = add_category(&mut all, (*root).to_owned(), rank, None);
        let middles: Vec<usize> = words::AUDIENCES
            .iter()
            .enumerate()
            .map(|(rank, audience)| add_category(&mut all, format!("{audience} {root}"), rank, Some(root_at)))
            .collect();
        for middle in middles {
            for (rank, edit) in words::EDITS.iter().enumerate() {
                let name = format!("{edit} {}", all[middle].name);
                add_category(&mut all, name, rank, Some(middle));
            }
        }
    }
    all
}

fn add_category(all: &mut Vec<Category>, name: String, rank: usize, parent: Option<usize>) -> usize {
    let index = all.len();
    let id = id("pcat", 670 + wide(index), index);
    let mpath = parent.map_or_else(|| id.to_string(), |parent| format!("{}.{id}", all[parent].mpath));
    let description = if parent.is_none() { format!("All {name}") } else { String::new() };
    let handle = name.to_lowercase().replace(' ', "-");
    all.push(Category { id, name, handle, description, mpath, rank, parent, children: Vec::new() });
    if let Some(parent) = parent {
        all[parent].children.push(index);
    }
    index
}

fn root_of(categories: &[Category], mut index: usize) -> usize {
    while let Some(parent) = categories[index].parent {
        index = parent;
    }
    index
}

/// The rows a product is linked to.
#[derive(Debug)]
struct Linked {
    tags: [usize; 2],
    categories: [usize; 2],
}

fn product(index: usize, linked: Linked, chance: &mut Chance) -> Product {
    let number = index + 1;
    let kind = chance.below(words::TYPES.len());
    let (look, material) = (chance.pick(&words::LOOKS), chance.pick(&words::MATERIALS));
    let title = format!("{look} {material} {} {number}", words::TYPES[kind]);
    let subtitle = (chance.below(3) == 0).then(|| format!("The {} one", look.to_lowercase()));
    let after_ms = 2_000 + wide(index);
    let options = options(index, chance);
    let variants = variants(index, &options, chance);
    let image_count = 2 + chance.below(3);
    Product {
        id: id("prod", after_ms, index),
        number,
        handle: title.to_lowercase().replace(' ', "-"),
        title,
        subtitle,
        description: description(chance),
        weight: 100 + chance.below(900),
        origin_country: chance.pick(&words::ORIGINS),
        material,
        season: chance.pick(&words::SEASONS),
        updated_at: Timestamp::from_millis(SEEDED.as_millis() + after_ms),
        kind,
        collection: (chance.below(5) > 0).then(|| chance.below(COLLECTION_COUNT)),
        tags: linked.tags,
        categories: linked.categories,
        options,
        images: (0..image_count).map(|rank| id("img", after_ms + 40, index * 8 + rank)).collect(),
        variants,
    }
}

fn description(chance: &mut Chance) -> String {
    let words: Vec<&str> = (0..32 + chance.below(33)).map(|_| chance.pick(&words::PROSE)).collect();
    words.join(" ")
}

/// Two or three values of each option: with three to five variants a product is as long as a real one with six
/// variants of two options.
fn options(index: usize, chance: &mut Chance) -> Vec<ProductOption> {
    let after_ms = 2_010 + wide(index);
    let one = |(rank, (title, values)): (usize, &(&'static str, &'static [&'static str]))| {
        let first = chance.below(values.len());
        let count = 2 + chance.below(2);
        let values = (0..count).map(|nth| OptionValue {
            id: id("optval", after_ms + 24, index * 16 + rank * 4 + nth),
            value: values[(first + nth) % values.len()],
        });
        ProductOption { id: id("opt", after_ms, index * 4 + rank), title, values: values.collect() }
    };
    words::OPTIONS.iter().enumerate().map(one).collect()
}

fn variants(index: usize, options: &[ProductOption], chance: &mut Chance) -> Vec<Variant> {
    let base = 500 + 50 * wide(chance.below(390));
    let on_sale = index % SALE_EVERY == SALE_EVERY - 1;
    let count = 3 + chance.below(3);
    let one = |rank: usize| {
        let number = index * 8 + rank;
        let after_ms = 4_000 + wide(index);
        // Counts through the values like the digits of a clock, so that no two variants are the same.
        let mut rest = rank;
        let choices: Vec<usize> = options
            .iter()
            .map(|option| {
                let choice = rest % option.values.len();
                rest /= option.values.len();
                choice
            })
            .collect();
        let values: Vec<&str> =
            options.iter().zip(&choices).map(|(option, &choice)| option.values[choice].value).collect();
        // A pound and a dollar are not a euro; each region's price ends as shoppers expect there.
        let prices = [(0, 100, 0), (1, 110, 1), (2, 90, 1)].map(|(region, percent, less)| {
            let original = Amount::from_cents(base * percent / 100 + 100 * wide(rank) - less);
            RegionPrice {
                id: id("price", after_ms + 60, number * 4 + region),
                original,
                sale: on_sale.then(|| original.percent(70)),
            }
        });
        Variant {
            id: id("variant", after_ms, number),
            title: values.join(" / "),
            sku: format!("SKU-{}-{}", index + 1, values.join("-").to_uppercase()),
            choices,
            price_set: id("pset", after_ms + 60, number),
            prices,
            stock: chance.below(400),
        }
    };
    (0..count).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_is_the_same_in_every_shop() {
        let (small, large) = (catalogue(10), catalogue(300));
        for (one, same) in small.products.iter().zip(&large.products) {
            assert_eq!(format!("{one:?}"), format!("{same:?}"));
        }
    }

    #[test]
    fn every_id_and_handle_is_there_once() {
        let catalogue = catalogue(3000);
        let mut ids: Vec<String> = Vec::new();
        for product in &catalogue.products {
            ids.push(product.handle.clone());
            ids.push(product.id.to_string());
            ids.extend(product.images.iter().map(Id::to_string));
            for option in &product.options {
                ids.push(option.id.to_string());
                ids.extend(option.values.iter().map(|value| value.id.to_string()));
            }
            for variant in &product.variants {
                ids.push(variant.sku.clone());
                ids.push(variant.id.to_string());
                ids.push(variant.price_set.to_string());
                ids.extend(variant.prices.iter().map(|price| price.id.to_string()));
            }
        }
        let all = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), all);
    }

    #[test]
    fn there_are_about_four_variants_each_and_three_levels_of_categories() {
        let catalogue = catalogue(3000);
        let variants: usize = catalogue.products.iter().map(|product| product.variants.len()).sum();
        assert!((11_000..13_000).contains(&variants), "{variants}");
        let levels = |index: usize| catalogue.categories[index].mpath.split('.').count();
        assert_eq!((0..catalogue.categories.len()).map(levels).max(), Some(3));
        assert_eq!(catalogue.categories.len(), 102);
    }
}
