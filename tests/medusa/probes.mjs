// What the public sees: URLs of every public route, among them many that a mutation must not touch.

const CARD = "*variants.calculated_price,+variants.inventory_quantity,*variants.images,*variants.options,+metadata,+tags,"
const FULL = "*variants.calculated_price,+variants.inventory_quantity,*variants.images,*variants.options,+metadata,*tags,*categories,*collection,*type,*images,*options,*options.values"
const fields = (text) => `fields=${encodeURIComponent(text)}`

/** The probes of a shop: name, key, path, whether endcap stores the answer, and whether it is one of cards, whose stock may
 * be old where the shop says so. */
export function probes({ keys, eu, us, gb, product: p, variant: v, other, collection, otherCollection, category, otherCategory, cart }) {
  const web = (name, path, stored = true) => ({ name, headers: { "x-publishable-api-key": keys.Web }, path: `/store/${path}`, stored })
  const b2b = (name, path) => ({ ...web(name, path), headers: { "x-publishable-api-key": keys.B2B } })
  const french = (name, path) => ({ ...web(name, path), headers: { "x-publishable-api-key": keys.Web, "x-medusa-locale": "fr-FR" } })
  return [
    web("regions", "regions"),
    web("region", `regions/${eu}`),
    web("currencies", "currencies?limit=200"),
    web("collections", "collections"),
    web("collections slim", `collections?${fields("id,handle,title")}&limit=100`),
    web("collection with products", `collections/${collection}?${fields("*products")}`),
    web("other collection with products", `collections/${otherCollection}?${fields("*products")}`),
    web("categories", "product-categories?limit=200"),
    web("category", `product-categories/${category}`),
    web("category with products", `product-categories/${category}?${fields("*products")}`),
    web("other category with products", `product-categories/${otherCategory}?${fields("*products")}`),
    web("tags", `product-tags?${fields("id,value,metadata")}&limit=100`),
    web("tag with products", `product-tags/${p.tags[0].id}`),
    web("types", `product-types?${fields("id,value,metadata")}&limit=100`),
    web("type with products", `product-types/${p.type_id}`),
    web("option", `product-options/${p.options[0].id}`),
    web("variant", `product-variants/${v.id}?region_id=${eu}&${fields("*calculated_price,+inventory_quantity")}`),
    web("variant title", `product-variants/${v.id}?fields=id,title`),
    web("variants", "product-variants?limit=20"),
    web("product EU", `products/${p.id}?region_id=${eu}&${fields(FULL)}`),
    web("product US", `products/${p.id}?region_id=${us}&${fields(FULL)}`),
    web("product DE tax", `products/${p.id}?region_id=${eu}&country_code=de&${fields("*variants.calculated_price")}`),
    web("product plain", `products/${p.id}`),
    web("product by handle", `products?handle=${p.handle}&limit=12&region_id=${eu}&${fields(CARD)}`),
    web("other product EU", `products/${other.id}?region_id=${eu}&${fields(FULL)}`),
    web("other product plain", `products/${other.id}`),
    web("other product by handle", `products?handle=${other.handle}&limit=12&region_id=${eu}&${fields(CARD)}`),
    web("list all", "products?limit=200&fields=id"),
    { ...web("list cards", `products?limit=12&region_id=${eu}&${fields(CARD)}`), cards: true },
    { ...web("list cards page 2", `products?limit=12&offset=12&region_id=${eu}&${fields(CARD)}`), cards: true },
    web("list newest", `products?limit=5&order=-created_at&${fields("id,title")}`),
    web("list newest GB", `products?limit=5&order=-created_at&region_id=${gb}&${fields("id,*variants.calculated_price")}`),
    web("list found by word", `products?q=${encodeURIComponent(p.title.split(" ")[1])}&limit=5&${fields("id,title")}`),
    web("list by category", `products?category_id[]=${category}&fields=id&limit=200`),
    web("list by other category", `products?category_id[]=${otherCategory}&fields=id&limit=200`),
    web("list by collection", `products?collection_id[]=${collection}&fields=id&limit=200`),
    web("list by other collection", `products?collection_id[]=${otherCollection}&fields=id&limit=200`),
    web("list by tag", `products?tag_id[]=${p.tags[0].id}&fields=id&limit=200`),
    web("list by type", `products?type_id[]=${p.type_id}&fields=id&limit=200`),
    web("list by option", `products?option_id[]=${p.options[0].id}&fields=id&limit=200`),
    web("list by option's value", `products?option_value_id[]=${p.options[0].values[0].id}&fields=id&limit=200`),
    web("list by title", `products?order=title&limit=5&${fields("id,title")}`),
    web("locales", "locales"),
    french("product in French", `products/${p.id}`),
    french("list in French", `products?limit=12&${fields("id,title,*categories")}`),
    french("category in French", `product-categories/${category}`),
    b2b("list of the other key", "products?limit=200&fields=id"),
    b2b("product of the other key", `products/${p.id}?fields=id`),
    web("return reasons", "return-reasons"),
    web("payment providers", `payment-providers?region_id=${eu}`),
    web("shipping options", `shipping-options?cart_id=${cart}`, false),
    web("cart", `carts/${cart}`, false),
  ]
}
