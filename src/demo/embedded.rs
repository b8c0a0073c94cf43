//! Products inside other rows: what makes a purge of one product reach the lists of tags, types and categories.

use serde::Serialize;

use super::catalogue::{Catalogue, Product};
use super::ids::Id;
use super::views::{Mention, Metadata, Stamp, external_id, image_url, made};

/// A product inside a tag, a type, a collection or a category: its own row, with mentions of what it belongs to.
#[derive(Debug, Serialize)]
pub(super) struct EmbeddedProduct<'a> {
    id: Id,
    title: &'a str,
    handle: &'a str,
    subtitle: Option<&'a str>,
    description: &'a str,
    is_giftcard: bool,
    status: &'static str,
    thumbnail: String,
    weight: usize,
    length: (),
    height: (),
    width: (),
    origin_country: &'static str,
    hs_code: (),
    mid_code: (),
    material: &'static str,
    discountable: bool,
    external_id: String,
    metadata: Metadata,
    type_id: Id,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<Mention>,
    collection_id: Option<Id>,
    #[serde(skip_serializing_if = "Option::is_none")]
    collection: Option<Option<Mention>>,
    created_at: Stamp,
    updated_at: Stamp,
    deleted_at: (),
}

/// In what a product is embedded: it does not mention that itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Within {
    Collection,
    Type,
    Other,
}

/// The products that belong to a row, as it shows them.
pub(super) fn embedded(
    catalogue: &Catalogue,
    within: Within,
    belongs: impl Fn(&Product) -> bool,
) -> Vec<EmbeddedProduct<'_>> {
    let one = |product| embed(catalogue, within, product);
    catalogue.products.iter().filter(|product| belongs(product)).map(one).collect()
}

fn embed<'a>(catalogue: &'a Catalogue, within: Within, product: &'a Product) -> EmbeddedProduct<'a> {
    let kind = catalogue.types[product.kind].id;
    let collection = product.collection.map(|collection| catalogue.collections[collection].id);
    EmbeddedProduct {
        id: product.id,
        title: &product.title,
        handle: &product.handle,
        subtitle: product.subtitle.as_deref(),
        description: &product.description,
        is_giftcard: false,
        status: "published",
        thumbnail: image_url(product.number, 0),
        weight: product.weight,
        length: (),
        height: (),
        width: (),
        origin_country: product.origin_country,
        hs_code: (),
        mid_code: (),
        material: product.material,
        discountable: true,
        external_id: external_id(product),
        metadata: Metadata { erp: product.number, season: product.season },
        type_id: kind,
        kind: (within != Within::Type).then_some(Mention { id: kind }),
        collection_id: collection,
        collection: (within != Within::Collection).then(|| collection.map(|id| Mention { id })),
        created_at: made(product.id),
        updated_at: Stamp(product.updated_at),
        deleted_at: (),
    }
}
