//! The shapes of categories, alone, in their tree and in products.

use serde::Serialize;

use super::catalogue::{Catalogue, Category};
use super::embedded::{EmbeddedProduct, Within, embedded};
use super::ids::Id;
use super::views::{Mention, Stamp, made};

/// How much of the tree an answer shows around a category.
#[derive(Clone, Copy, Debug)]
pub(super) struct Branches {
    /// All ancestors, not only the parent.
    pub(super) ancestors: bool,
    /// All descendants, not only the children.
    pub(super) descendants: bool,
    pub(super) with_products: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct CategoryView<'a> {
    id: Id,
    name: &'a str,
    description: &'a str,
    handle: &'a str,
    rank: usize,
    external_id: (),
    parent_category_id: Option<Id>,
    created_at: Stamp,
    updated_at: Stamp,
    metadata: (),
    parent_category: Option<CategoryRow<'a>>,
    category_children: Vec<CategoryRow<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    products: Option<Vec<EmbeddedProduct<'a>>>,
}

/// A category inside another row.
#[derive(Debug, Serialize)]
pub(super) struct CategoryRow<'a> {
    id: Id,
    name: &'a str,
    description: &'a str,
    handle: &'a str,
    mpath: &'a str,
    is_active: bool,
    is_internal: bool,
    rank: usize,
    external_id: (),
    metadata: (),
    parent_category_id: Option<Id>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_category: Option<Above<'a>>,
    created_at: Stamp,
    updated_at: Stamp,
    deleted_at: (),
    #[serde(skip_serializing_if = "Option::is_none")]
    category_children: Option<Vec<Self>>,
}

/// What is shown of the category above one.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Above<'a> {
    Row(Box<CategoryRow<'a>>),
    /// Its id; `null` above a root.
    Mention(Option<Mention>),
}

pub(super) fn category(catalogue: &Catalogue, index: usize, branches: Branches) -> CategoryView<'_> {
    let category = &catalogue.categories[index];
    let child = |&child: &usize| category_below(catalogue, child, branches.descendants);
    CategoryView {
        id: category.id,
        name: &category.name,
        description: &category.description,
        handle: &category.handle,
        rank: category.rank,
        external_id: (),
        parent_category_id: parent_id(catalogue, category),
        created_at: made(category.id),
        updated_at: made(category.id),
        metadata: (),
        parent_category: category.parent.map(|parent| category_above(catalogue, parent, branches.ancestors)),
        category_children: category.children.iter().map(child).collect(),
        products: branches
            .with_products
            .then(|| embedded(catalogue, Within::Other, |product| product.categories.contains(&index))),
    }
}

/// A category as a product shows it.
pub(super) fn category_of_product(catalogue: &Catalogue, index: usize) -> CategoryRow<'_> {
    let parent = parent_id(catalogue, &catalogue.categories[index]);
    let above = Above::Mention(parent.map(|id| Mention { id }));
    CategoryRow { parent_category: Some(above), ..category_row(catalogue, index) }
}

fn category_row(catalogue: &Catalogue, index: usize) -> CategoryRow<'_> {
    let category = &catalogue.categories[index];
    CategoryRow {
        id: category.id,
        name: &category.name,
        description: &category.description,
        handle: &category.handle,
        mpath: &category.mpath,
        is_active: true,
        is_internal: false,
        rank: category.rank,
        external_id: (),
        metadata: (),
        parent_category_id: parent_id(catalogue, category),
        parent_category: None,
        created_at: made(category.id),
        updated_at: made(category.id),
        deleted_at: (),
        category_children: None,
    }
}

// Both recursions end after three levels: a category is made after its parent, so the tree has no circle.
fn category_above(catalogue: &Catalogue, index: usize, all: bool) -> CategoryRow<'_> {
    let parent = catalogue.categories[index].parent.filter(|_| all);
    let parent_category = parent.map(|parent| Above::Row(Box::new(category_above(catalogue, parent, all))));
    CategoryRow { parent_category, ..category_row(catalogue, index) }
}

fn category_below(catalogue: &Catalogue, index: usize, all: bool) -> CategoryRow<'_> {
    let children = catalogue.categories[index].children.iter();
    let category_children = all.then(|| children.map(|&child| category_below(catalogue, child, all)).collect());
    CategoryRow { category_children, ..category_row(catalogue, index) }
}

fn parent_id(catalogue: &Catalogue, category: &Category) -> Option<Id> {
    category.parent.map(|parent| catalogue.categories[parent].id)
}
