//! Paths and what is behind them.

use http::Method;

/// What a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// Rows of a kind.
    List(Kind),
    /// The row of a kind with an id.
    One(Kind, String),
    /// A new cart.
    CartNew,
    /// The cart with an id.
    Cart(String),
    /// A line more in the cart with an id.
    CartItem(String),
    /// A change of the product with an id.
    AdminProduct(String),
    /// A route for which one must be logged in; nobody is.
    Login,
    /// Whether the shop is up.
    Health,
    /// The counters.
    Stats,
}

/// Kinds of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Products,
    Variants,
    Regions,
    Currencies,
    Collections,
    Categories,
    Tags,
    Types,
    Options,
    HeroBanners,
    ReturnReasons,
    PaymentProviders,
}

/// How rows of a kind are asked for and shown.
#[derive(Debug)]
pub(super) struct KindSpec {
    /// The segment after `/store/`.
    segment: &'static str,
    /// The key of a list.
    pub(super) many: &'static str,
    /// The key of one row, and its name in an error; none if rows cannot be asked for one by one.
    pub(super) one: Option<(&'static str, &'static str)>,
    /// Rows of a list when no limit is given.
    pub(super) limit: usize,
    /// Parameters beside those taken everywhere.
    pub(super) parameters: &'static [&'static str],
}

impl Kind {
    const ALL: [Self; 12] = [
        Self::Products,
        Self::Variants,
        Self::Regions,
        Self::Currencies,
        Self::Collections,
        Self::Categories,
        Self::Tags,
        Self::Types,
        Self::Options,
        Self::HeroBanners,
        Self::ReturnReasons,
        Self::PaymentProviders,
    ];

    /// How rows of this kind are asked for and shown.
    pub(super) const fn spec(self) -> &'static KindSpec {
        match self {
            Self::Products => &KindSpec {
                segment: "products",
                many: "products",
                one: Some(("product", "Product")),
                limit: 50,
                parameters: &[
                    "q",
                    "id",
                    "region_id",
                    "country_code",
                    "province",
                    "cart_id",
                    "sales_channel_id",
                    "collection_id",
                    "category_id",
                    "tag_id",
                    "type_id",
                    "option_id",
                    "option_value_id",
                    "handle",
                    "title",
                    "external_id",
                    "is_giftcard",
                    "created_at",
                    "updated_at",
                    "variants",
                    "$and",
                    "$or",
                ],
            },
            Self::Variants => &KindSpec {
                segment: "product-variants",
                many: "variants",
                one: Some(("variant", "Variant")),
                limit: 20,
                parameters: &[
                    "q",
                    "id",
                    "region_id",
                    "country_code",
                    "province",
                    "cart_id",
                    "sku",
                    "ean",
                    "upc",
                    "barcode",
                    "product_id",
                    "created_at",
                    "updated_at",
                    "$and",
                    "$or",
                ],
            },
            Self::Regions => &KindSpec {
                segment: "regions",
                many: "regions",
                one: Some(("region", "Region")),
                limit: 50,
                parameters: &["q", "id", "currency_code", "name"],
            },
            Self::Currencies => &KindSpec {
                segment: "currencies",
                many: "currencies",
                one: Some(("currency", "Currency")),
                limit: 50,
                parameters: &["q", "code"],
            },
            Self::Collections => &KindSpec {
                segment: "collections",
                many: "collections",
                one: Some(("collection", "Collection")),
                limit: 10,
                parameters: &["q", "id", "title", "handle", "external_id", "created_at", "updated_at"],
            },
            Self::Categories => &KindSpec {
                segment: "product-categories",
                many: "product_categories",
                one: Some(("product_category", "Product category")),
                limit: 50,
                parameters: &[
                    "q",
                    "id",
                    "name",
                    "handle",
                    "parent_category_id",
                    "include_ancestors_tree",
                    "include_descendants_tree",
                    "external_id",
                ],
            },
            Self::Tags => &KindSpec {
                segment: "product-tags",
                many: "product_tags",
                one: Some(("product_tag", "Product tag")),
                limit: 50,
                parameters: &["q", "id", "value", "external_id"],
            },
            Self::Types => &KindSpec {
                segment: "product-types",
                many: "product_types",
                one: Some(("product_type", "Product type")),
                limit: 50,
                parameters: &["q", "id", "value", "external_id"],
            },
            Self::Options => &KindSpec {
                segment: "product-options",
                many: "product_options",
                one: Some(("product_option", "Product option")),
                limit: 50,
                parameters: &["q", "id", "title"],
            },
            Self::HeroBanners => {
                &KindSpec { segment: "hero-banners", many: "hero_banners", one: None, limit: 20, parameters: &["id"] }
            }
            Self::ReturnReasons => &KindSpec {
                segment: "return-reasons",
                many: "return_reasons",
                one: Some(("return_reason", "Return reason")),
                limit: 20,
                parameters: &["q", "id"],
            },
            Self::PaymentProviders => &KindSpec {
                segment: "payment-providers",
                many: "payment_providers",
                one: None,
                limit: 20,
                parameters: &["id", "region_id"],
            },
        }
    }
}

/// Finds what is behind a path, as Express does: fixed segments in any case but not encoded, one slash at the end
/// tolerated, two in a row not; ids decoded.
pub(super) fn find(method: &Method, path: &str) -> Option<Route> {
    let path = path.strip_prefix('/')?;
    let path = path.strip_suffix('/').unwrap_or(path);
    let segments: Vec<&str> = path.split('/').collect();
    let fixed: Vec<String> = segments.iter().map(|segment| segment.to_ascii_lowercase()).collect();
    let fixed: Vec<&str> = fixed.iter().map(String::as_str).collect();
    let id = |index: usize| percent_encoding::percent_decode_str(segments[index]).decode_utf8_lossy().into_owned();
    let reads = method == Method::GET || method == Method::HEAD;
    let posts = method == Method::POST;

    if segments.iter().any(|segment| segment.is_empty()) {
        return None;
    }
    match fixed.as_slice() {
        ["health"] if reads => Some(Route::Health),
        ["__shop", "stats"] if reads => Some(Route::Stats),
        ["admin", "products", _] if posts => Some(Route::AdminProduct(id(2))),
        ["store", "carts"] if posts => Some(Route::CartNew),
        ["store", "carts", _] if reads => Some(Route::Cart(id(2))),
        ["store", "carts", _, "line-items"] if posts => Some(Route::CartItem(id(2))),
        ["store", "customers", "me"] | ["store", "orders"] if reads => Some(Route::Login),
        ["store", segment] if reads => Some(Route::List(kind_of(segment)?)),
        ["store", segment, _] if reads => {
            kind_of(segment).filter(|kind| kind.spec().one.is_some()).map(|kind| Route::One(kind, id(2)))
        }
        _ => None,
    }
}

fn kind_of(segment: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| kind.spec().segment == segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_as_express_finds_them() {
        let check = |path: &str, expected: Option<Route>| assert_eq!(find(&Method::GET, path), expected, "{path}");
        check("/store/products", Some(Route::List(Kind::Products)));
        check("/store/products/", Some(Route::List(Kind::Products)));
        check("/Store/Currencies/eur", Some(Route::One(Kind::Currencies, "eur".into())));
        check("/store/products/prod%5F1", Some(Route::One(Kind::Products, "prod_1".into())));
        check("/store/products/Prod_A", Some(Route::One(Kind::Products, "Prod_A".into())));
        check("/store/carts/cart_1", Some(Route::Cart("cart_1".into())));
        check("//store/currencies", None);
        check("/store//currencies", None);
        check("/store/%63urrencies", None);
        check("/store/nope", None);
        check("/store/locales", None);
        check("/store/hero-banners/1", None);
        check("/store/carts", None);
        check("/", None);
        check("", None);
    }

    #[test]
    fn a_path_has_the_methods_it_has() {
        assert_eq!(find(&Method::POST, "/store/products"), None);
        assert_eq!(find(&Method::HEAD, "/store/products"), Some(Route::List(Kind::Products)));
        assert_eq!(find(&Method::POST, "/store/carts"), Some(Route::CartNew));
        assert_eq!(find(&Method::POST, "/admin/products/prod_1"), Some(Route::AdminProduct("prod_1".into())));
        assert_eq!(find(&Method::GET, "/admin/products/prod_1"), None);
        assert_eq!(find(&Method::DELETE, "/store/carts/cart_1"), None);
    }
}
