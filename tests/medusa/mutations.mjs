// Every admin mutation that may change a public answer, and many that must not. Marks before a label: a star or a plus for the
// short form, `!` where nobody may be given the old answer any more, not within a grace either: what is published, in which
// channel, for which price, and how many there are; `#` where that last is all that changes.
import { inTurns } from "./turns.mjs"

/** What the mutations and the probes are about. */
export async function subjects(api) {
  const list = async (path, field) => (await api.get(path))[field]
  const keys = await list("/admin/api-keys?type=publishable&limit=50", "api_keys")
  const regions = await list("/admin/regions", "regions")
  const full = "fields=*variants,*options,*options.values,*images,*categories,*tags"
  const find = async (at) => (await list(`/admin/products?external_id=ERP-${at}&${full}`, "products"))[0]
  const [product, other] = [await find(18), await find(4)]
  const collections = await list("/admin/collections?limit=20&order=handle", "collections")
  const categories = await list("/admin/product-categories?limit=100&fields=id,parent_category_id", "product_categories")
  const category = product.categories[0].id
  const eu = regions.find((region) => region.currency_code === "eur").id
  const pk = { "x-publishable-api-key": keys.find((key) => key.title === "Web").token }
  const cart = (await api.post("/store/carts", { region_id: eu }, pk)).cart.id
  await api.post(`/store/carts/${cart}/line-items`, { variant_id: product.variants[1].id, quantity: 1 }, pk)
  return {
    product, other, cart, eu, pk,
    variant: product.variants[0],
    us: regions.find((region) => region.currency_code === "usd").id,
    gb: regions.find((region) => region.currency_code === "gbp").id,
    keys: Object.fromEntries(keys.map((key) => [key.title, key.token])),
    keyIds: Object.fromEntries(keys.map((key) => [key.title, key.id])),
    collection: collections[0].id,
    otherCollection: collections.find(({ id }) => id !== collections[0].id && id !== product.collection_id && id !== other.collection_id).id,
    collectionTitle: collections[0].title,
    category,
    otherCategory: categories.find((one) => one.parent_category_id && ![category, other.categories[0].id].includes(one.id)).id,
    root: categories.find((one) => !one.parent_category_id).id,
    tags: await list("/admin/product-tags?limit=8", "product_tags"),
    types: await list("/admin/product-types?limit=8", "product_types"),
    channels: await list("/admin/sales-channels", "sales_channels"),
    location: (await list("/admin/stock-locations", "stock_locations"))[0].id,
    store: (await list("/admin/stores", "stores"))[0].id,
    profile: (await list("/admin/shipping-profiles", "shipping_profiles"))[0].id,
    option: (await list("/admin/shipping-options", "shipping_options"))[0],
    vip: (await list("/admin/customer-groups", "customer_groups"))[0].id,
    germany: (await list("/admin/tax-regions?limit=50", "tax_regions")).find((region) => region.country_code === "de").id,
  }
}

/** Makes them by `step(label, method, path, json, headers)`, which returns the answer, or nothing when it is left out; or by
 * `step(label, change)` where `change(date)` sets the date that is the mutation when it comes. Kinds take
 * turns, and so do the `others`, so that whoever ends early has tried something of each. A star begins a turn, and what
 * has none goes on with the one before: so does a plus, which brings back what that one changed, in the short form as well. */
export async function mutations(api, s, step, others = []) {
  const { product: p, variant: v } = s
  const P = `/admin/products/${p.id}`
  const V = `${P}/variants/${v.id}`
  const channel = (name) => s.channels.find((channel) => channel.name === name).id
  const web = channel("Web")
  const tag = "x1"

  await step("*nothing: a read", "GET", "/admin/products?limit=1")
  const made = (await step("*product: create (draft)", "POST", "/admin/products", {
    title: `New ${tag}`, status: "draft", shipping_profile_id: s.profile, sales_channels: [{ id: web }], categories: [{ id: s.category }],
    collection_id: s.collection, tags: [{ id: p.tags[0].id }], type_id: p.type_id, options: [{ title: "Size", values: ["S", "M"] }],
    variants: [{ title: "S", sku: `N-${tag}-S`, options: { Size: "S" }, prices: [{ currency_code: "eur", amount: 10 }] }],
  }))?.product
  const N = `/admin/products/${made?.id}`
  await step("!*product: publish", "POST", N, { status: "published" })

  const products = async ({ post, del }) => {
    await post("*product: rename", P, { title: `${p.title} ${tag}` })
    await post("product: metadata", P, { metadata: { t: tag } })
    await post("product: handle", P, { handle: `${p.handle}-${tag}` })
    await post("product: handle back", P, { handle: p.handle })
    await post("product: images", P, { images: [...p.images.map(({ id, url }) => ({ id, url })), { url: `https://images.example.test/${tag}.jpg` }] })
    await post("product: image removed", P, { images: p.images.map(({ id, url }) => ({ id, url })) })
    await post("*product: set collection", P, { collection_id: s.otherCollection })
    await post("*product: set categories", P, { categories: [{ id: s.category }, { id: s.otherCategory }] })
    await post("product: set tags", P, { tags: [{ id: p.tags[0].id }, { id: s.tags[0].id }, { id: s.tags[1].id }] })
    await post("product: set type", P, { type_id: s.types.find((type) => type.id !== p.type_id).id })
    await post("product: set type back", P, { type_id: p.type_id })
    await post("!*product: remove from channel", P, { sales_channels: [] })
    await post("!+product: add to channel", P, { sales_channels: [{ id: web }] })
    await post("!*product: unpublish", N, { status: "draft" })
    await post("!+product: publish again", N, { status: "published" })
    await post("product: batch update", "/admin/products/batch", { update: [{ id: p.id, subtitle: `sub ${tag}` }] })
    const sold = (await post("product: create (published)", "/admin/products", {
      title: `Sold ${tag}`, status: "published", shipping_profile_id: s.profile, sales_channels: [{ id: web }], categories: [{ id: s.category }],
      options: [{ title: "Size", values: ["S"] }], variants: [{ title: "S", sku: `O-${tag}-S`, options: { Size: "S" }, prices: [{ currency_code: "eur", amount: 10 }] }],
    }))?.product?.id
    await del("!product: delete (published)", `/admin/products/${sold}`)
    await post("product: import of another", "/admin/products/batch", { update: [{ id: s.other.id, subtitle: `sub ${tag}` }] })
  }

  const options = async ({ post, del }) => {
    await post("*option: attach a new one", `${N}/options/batch`, { add: [{ title: `Finish ${tag}`, values: ["Matt"] }] })
    const fit = (await post("option: create", "/admin/product-options", { title: `Fit ${tag}`, values: ["Slim", "Wide"] }))?.product_option
    await post("option: update", `/admin/product-options/${fit?.id}`, { title: `Fit ${tag} 2` })
    await del("option: delete", `/admin/product-options/${fit?.id}`)
    await post("*option: rename on the product", `/admin/product-options/${p.options[0].id}`, { title: `${p.options[0].title} ${tag}` })
    await post("option: rename back", `/admin/product-options/${p.options[0].id}`, { title: p.options[0].title })
  }

  const variants = async ({ post, del }) => {
    const added = (await post("*variant: create", `${N}/variants`, { title: "M", sku: `N-${tag}-M`, options: { Size: "M", [`Finish ${tag}`]: "Matt" }, prices: [{ currency_code: "eur", amount: 11 }] }))
      ?.product?.variants?.find((variant) => variant.sku === `N-${tag}-M`)?.id
    await post("!variant: first price in a currency", `${N}/variants/${added}`, { prices: [{ currency_code: "eur", amount: 11 }, { currency_code: "usd", amount: 12 }] })
    await post("*variant: rename", V, { title: `${v.title} ${tag}` })
    const prices = (eur, usd) => [{ currency_code: "eur", amount: eur }, { currency_code: "usd", amount: usd }, { currency_code: "gbp", amount: usd }]
    await post("!*variant: price", V, { prices: prices(71, 72) })
    await post("!variant: price in a batch", `${P}/variants/batch`, { update: [{ id: v.id, prices: prices(81, 82) }] })
    await post("!product: prices of its variants", P, { variants: [{ id: v.id, prices: prices(91, 92) }, ...p.variants.slice(1).map(({ id }) => ({ id }))] })
    await post("*variant: images", `${V}/images/batch`, { add: [p.images[0].id] })
    await post("*image: variants", `${P}/images/${p.images[1].id}/variants/batch`, { add: [v.id] })
    await post("image: variants removed", `${P}/images/${p.images[1].id}/variants/batch`, { remove: [v.id] })
    await del("variant: delete", `${N}/variants/${added}`)
  }

  const stock = async ({ post, del }) => {
    const item = async () => (await api.get(`${V}?fields=inventory_items.inventory_item_id`)).variant.inventory_items[0].inventory_item_id
    const stock = `/admin/inventory-items/${await item()}`
    await post("#*inventory: level", `${stock}/location-levels/${s.location}`, { stocked_quantity: 501 })
    await post("#inventory: levels in a batch", "/admin/inventory-items/location-levels/batch", { update: [{ inventory_item_id: await item(), location_id: s.location, stocked_quantity: 502 }] })
    await post("#inventory: item", stock, { title: `inv ${tag}` })
    const kept = (await post("#*inventory: reservation create", "/admin/reservations", { location_id: s.location, inventory_item_id: await item(), quantity: 3 }))?.reservation?.id
    await post("#inventory: reservation update", `/admin/reservations/${kept}`, { quantity: 4 })
    await del("#inventory: reservation delete", `/admin/reservations/${kept}`)
    await post("variant: manage_inventory off", V, { manage_inventory: false })
    await post("variant: manage_inventory on", V, { manage_inventory: true, sku: `${v.sku}-${tag}` })
    const extra = (await post("#inventory: item create", "/admin/inventory-items", { sku: `I-${tag}` }))?.inventory_item?.id
    const E = `/admin/inventory-items/${extra}`
    await post("#inventory: level create", `${E}/location-levels`, { location_id: s.location, stocked_quantity: 5 })
    await post("#inventory: item linked to the variant", `${V}/inventory-items`, { inventory_item_id: extra, required_quantity: 1 })
    await del("#inventory: item unlinked", `${V}/inventory-items/${extra}`)
    await post("#inventory: level to zero", `${E}/location-levels/${s.location}`, { stocked_quantity: 0 })
    await del("#inventory: level delete", `${E}/location-levels/${s.location}`)
    await del("#inventory: item delete", E)
  }

  const priceLists = async ({ post, del, comes }) => {
    const sale = (await post("*price list: create", "/admin/price-lists", { title: `PL ${tag}`, description: "d", type: "sale", status: "active", prices: [{ variant_id: v.id, currency_code: "eur", amount: 7 }] }))?.price_list?.id
    const L = `/admin/price-lists/${sale}`
    const price = sale && (await api.get(`${L}?fields=*prices`)).price_list.prices[0].id
    await post("+price list: change a price", `${L}/prices/batch`, { update: [{ id: price, variant_id: v.id, currency_code: "eur", amount: 6 }] })
    await post("price list: add a price", `${L}/prices/batch`, { create: [{ variant_id: v.id, currency_code: "usd", amount: 6 }] })
    await post("*price list: first price in a currency", `${L}/prices/batch`, { create: [{ variant_id: made?.variants?.[0].id, currency_code: "gbp", amount: 5 }] })
    await post("*price list: to draft", L, { status: "draft" })
    await post("+price list: to active", L, { status: "active" })
    await post("price list: over", L, { ends_at: "2020-01-01T00:00:00.000Z" })
    await post("price list: not over", L, { ends_at: null })
    await post("price list: title", L, { title: `PL ${tag} 2` })
    await post("price list: for a group", L, { rules: { "customer.groups.id": [s.vip] } })
    await post("price list: for all", L, { rules: {} })
    await post("*price list: to begin in a year", L, { starts_at: new Date(Date.now() + 365 * 86_400_000).toISOString() })
    await comes("+price list: begins by the clock", (starts_at) => api.post(L, { starts_at }))
    await comes("+price list: ends by the clock", (ends_at) => api.post(L, { ends_at }))
    await post("price list: without dates", L, { starts_at: null, ends_at: null })
    await post("price list: remove product", `${L}/products`, { remove: [p.id] })
    await del("*price list: delete", L)
    const preference = (await api.get("/admin/price-preferences?limit=50")).price_preferences.find((one) => one.value === s.eu || one.value === "eur")?.id
    await post("price preference: with tax", `/admin/price-preferences/${preference}`, { is_tax_inclusive: true })
    await post("price preference: without tax", `/admin/price-preferences/${preference}`, { is_tax_inclusive: false })
  }

  const taxes = async ({ post, del }) => {
    const rate = (await api.get(`/admin/tax-rates?tax_region_id=${s.germany}`)).tax_rates[0].id
    await post("*tax rate: update", `/admin/tax-rates/${rate}`, { rate: 19 })
    const reduced = (await post("tax rate: create for a product", "/admin/tax-rates", { tax_region_id: s.germany, name: "Reduced", code: `red-${tag}`, rate: 7, rules: [{ reference: "product", reference_id: p.id }] }))?.tax_rate?.id
    await del("tax rate: delete", `/admin/tax-rates/${reduced}`)
    const portugal = (await post("tax region: create", "/admin/tax-regions", { country_code: "pt", provider_id: "tp_system", default_tax_rate: { name: "IVA", code: "iva", rate: 23 } }))?.tax_region?.id
    await del("tax region: delete", `/admin/tax-regions/${portugal}`)
  }

  const collections = async ({ post, del }) => {
    const collection = (await post("*collection: create", "/admin/collections", { title: `Col ${tag}`, handle: `col-${tag}` }))?.collection?.id
    await post("*collection: rename", `/admin/collections/${s.collection}`, { title: `${s.collectionTitle} ${tag}` })
    await post("collection: rename back", `/admin/collections/${s.collection}`, { title: s.collectionTitle })
    await post("*collection: add products", `/admin/collections/${collection}/products`, { add: [p.id] })
    await post("collection: remove products", `/admin/collections/${collection}/products`, { remove: [p.id] })
    await del("collection: delete", `/admin/collections/${collection}`)
  }

  const categories = async ({ post, del }) => {
    const category = (await post("category: create", "/admin/product-categories", { name: `Cat ${tag}`, handle: `cat-${tag}`, is_active: true }))?.product_category?.id
    await post("*category: description", `/admin/product-categories/${s.category}`, { description: `d ${tag}` })
    await post("!category: deactivate with products", `/admin/product-categories/${s.category}`, { is_active: false })
    await post("category: activate with products", `/admin/product-categories/${s.category}`, { is_active: true })
    await post("category: move", `/admin/product-categories/${category}`, { parent_category_id: s.root })
    await post("category: deactivate", `/admin/product-categories/${category}`, { is_active: false })
    await post("category: add products", `/admin/product-categories/${s.otherCategory}/products`, { add: [s.other.id] })
    await post("*category: remove products", `/admin/product-categories/${s.category}/products`, { remove: [p.id] })
    await post("+category: add products back", `/admin/product-categories/${s.category}/products`, { add: [p.id] })
    await del("category: delete", `/admin/product-categories/${category}`)
  }

  const tagsAndTypes = async ({ post, del }) => {
    const label = (await post("tag: create", "/admin/product-tags", { value: `tag-${tag}` }))?.product_tag?.id
    await post("*tag: rename", `/admin/product-tags/${s.tags[0].id}`, { value: `${s.tags[0].value}${tag}` })
    await post("tag: rename back", `/admin/product-tags/${s.tags[0].id}`, { value: s.tags[0].value })
    await del("tag: delete", `/admin/product-tags/${label}`)
    const type = (await post("type: create", "/admin/product-types", { value: `type-${tag}` }))?.product_type?.id
    await post("*type: metadata", `/admin/product-types/${p.type_id}`, { metadata: { t: tag } })
    await del("type: delete", `/admin/product-types/${type}`)
  }

  const channels = async ({ post, del }) => {
    const channel = (await post("*sales channel: create", "/admin/sales-channels", { name: `SC ${tag}` }))?.sales_channel?.id
    await post("sales channel: add product", `/admin/sales-channels/${channel}/products`, { add: [p.id] })
    await post("+sales channel: remove product from Web", `/admin/sales-channels/${web}/products`, { remove: [p.id] })
    await post("+sales channel: add product to Web", `/admin/sales-channels/${web}/products`, { add: [p.id] })
    await post("sales channel: disable", `/admin/sales-channels/${web}`, { is_disabled: true })
    await post("sales channel: enable", `/admin/sales-channels/${web}`, { is_disabled: false })
    await post("sales channel: unlink stock location", `/admin/stock-locations/${s.location}/sales-channels`, { remove: [web] })
    await post("sales channel: link stock location", `/admin/stock-locations/${s.location}/sales-channels`, { add: [web] })
    await del("sales channel: delete", `/admin/sales-channels/${channel}`)
  }

  const keys = async ({ post, del }) => {
    await post("*api key: add channel", `/admin/api-keys/${s.keyIds.Web}/sales-channels`, { add: [channel("B2B")] })
    await post("+api key: remove channel", `/admin/api-keys/${s.keyIds.Web}/sales-channels`, { remove: [channel("B2B")] })
    await post("api key: rename", `/admin/api-keys/${s.keyIds.Web}`, { title: "Web" })
    const key = (await post("api key: create", "/admin/api-keys", { title: `K ${tag}`, type: "publishable" }))?.api_key?.id
    await post("api key: revoke", `/admin/api-keys/${key}/revoke`, {})
    await del("api key: delete", `/admin/api-keys/${key}`)
  }

  const regions = async ({ post, del }) => {
    const region = (await post("*region: create", "/admin/regions", { name: `R ${tag}`, currency_code: "eur", countries: ["pt"] }))?.region?.id
    await post("*region: rename", `/admin/regions/${s.eu}`, { name: `Europe ${tag}` })
    await post("region: rename back", `/admin/regions/${s.eu}`, { name: "Europe" })
    await post("region: payment providers", `/admin/regions/${s.eu}`, { payment_providers: [] })
    await post("region: payment providers back", `/admin/regions/${s.eu}`, { payment_providers: ["pp_system_default"] })
    await post("!*region: automatic taxes off", `/admin/regions/${s.eu}`, { automatic_taxes: false })
    await post("!region: automatic taxes on", `/admin/regions/${s.eu}`, { automatic_taxes: true })
    await post("!region: with tax", `/admin/regions/${s.eu}`, { is_tax_inclusive: true })
    await post("!region: without tax", `/admin/regions/${s.eu}`, { is_tax_inclusive: false })
    await del("region: delete", `/admin/regions/${region}`)
  }

  const store = async ({ post }) => {
    await post("store: name", `/admin/stores/${s.store}`, { name: `Store ${tag}` })
    const currencies = (with_tax) => ({ supported_currencies: [{ currency_code: "eur", is_default: true, is_tax_inclusive: with_tax }, { currency_code: "usd" }, { currency_code: "gbp" }] })
    await post("!*store: currency with tax", `/admin/stores/${s.store}`, currencies(true))
    await post("!store: currency without tax", `/admin/stores/${s.store}`, currencies(false))
  }

  // What shops have and the public reads do not show.
  const shipping = async ({ post, del }) => {
    await post("shipping option: rename", `/admin/shipping-options/${s.option.id}`, { name: `${s.option.name} ${tag}` })
    await post("*shipping option: price", `/admin/shipping-options/${s.option.id}`, { prices: [{ currency_code: "eur", amount: 12 }, { region_id: s.eu, amount: 13 }] })
    const profile = (await post("shipping profile: create", "/admin/shipping-profiles", { name: `SP ${tag}`, type: "default" }))?.shipping_profile?.id
    await del("shipping profile: delete", `/admin/shipping-profiles/${profile}`)
    const optionType = (await post("shipping option type: create", "/admin/shipping-option-types", { label: `T ${tag}`, code: `t-${tag}`, description: "x" }))?.shipping_option_type?.id
    await del("shipping option type: delete", `/admin/shipping-option-types/${optionType}`)
    await post("stock location: update", `/admin/stock-locations/${s.location}`, { name: `Main ${tag}` })
  }

  const returnReasons = async ({ post, del }) => {
    const reason = (await post("*return reason: create", "/admin/return-reasons", { value: `rr_${tag}`, label: "Other" }))?.return_reason?.id
    await post("return reason: update", `/admin/return-reasons/${reason}`, { value: `rr_${tag}`, label: "Other 2" })
    await del("return reason: delete", `/admin/return-reasons/${reason}`)
  }

  const customers = async ({ post, del }) => {
    const method = { type: "percentage", target_type: "items", allocation: "across", value: 10, currency_code: "eur" }
    const promotion = (await post("promotion: create", "/admin/promotions", { code: `P${tag}`, type: "standard", is_automatic: true, status: "active", application_method: method }))?.promotion?.id
    await post("promotion: update", `/admin/promotions/${promotion}`, { status: "inactive" })
    await del("promotion: delete", `/admin/promotions/${promotion}`)
    const customer = (await post("*customer: create", "/admin/customers", { email: `c-${tag}@example.test` }))?.customer?.id
    await post("customer group: add customer", `/admin/customer-groups/${s.vip}/customers`, { add: [customer] })
    await post("customer group: update", `/admin/customer-groups/${s.vip}`, { metadata: { t: tag } })
    await del("customer: delete", `/admin/customers/${customer}`)
  }

  // A refused request, which Medusa may have undone half-way.
  const refused = async ({ post }) => {
    await post("*refused: manage_inventory with a sku that is taken", V, { manage_inventory: true, sku: p.variants[1].sku, title: "Never" })
  }

  // A checkout: what shoppers change.
  const checkout = async ({ post }) => {
    const address = { first_name: "A", last_name: "T", address_1: "1 Road", city: "Berlin", country_code: "de", postal_code: "10115" }
    const order = await post("*cart: create", "/store/carts", { region_id: s.eu, email: `o-${tag}@example.test`, shipping_address: address, billing_address: address }, s.pk)
    const C = `/store/carts/${order?.cart?.id}`
    await post("+cart: add item", `${C}/line-items`, { variant_id: p.variants[2].id, quantity: 2 }, s.pk)
    await api.post(`${C}/shipping-methods`, { option_id: s.option.id }, s.pk)
    const payment = (await api.post("/store/payment-collections", { cart_id: order.cart.id }, s.pk)).payment_collection.id
    await api.post(`/store/payment-collections/${payment}/payment-sessions`, { provider_id: "pp_system_default" }, s.pk)
    const placed = (await post("!#+order: placed", `${C}/complete`, {}, s.pk))?.order?.id
    await post("!#*order: cancelled", `/admin/orders/${placed}/cancel`, {})
  }

  // Where Medusa's flag for them is on.
  const translations = async ({ post }) => {
    const of = (reference, reference_id, translations) => ({ reference, reference_id, locale_code: "fr-FR", translations })
    const batch = "/admin/translations/batch"
    await post("*store: locales", `/admin/stores/${s.store}`, { supported_locales: [{ locale_code: "en-US", is_default: true }, { locale_code: "fr-FR" }] })
    const made = (await post("+translation: create", batch, { create: [of("product", p.id, { title: "Une chose" })] }))?.created?.[0].id
    await post("*translation: update", batch, { update: [{ id: made, translations: { title: "Autre chose" } }] })
    const other = (await post("*translation: of a category", batch, { create: [of("product_category", s.category, { name: "Des choses" })] }))?.created?.[0].id
    await post("*translation: delete", batch, { delete: [made] })
    await post("translation: delete of the category's", batch, { delete: [other] })
    await post("*store: one locale", `/admin/stores/${s.store}`, { supported_locales: [{ locale_code: "en-US", is_default: true }] })
  }

  const atOnce = new Set([priceLists, stock, channels, keys, taxes])
  const kinds = [
    ...(process.env.MEDUSA_FF_TRANSLATION ? [translations] : []),
    priceLists, stock, channels, keys, categories, products, options, variants, collections, tagsAndTypes, checkout,
    taxes, regions, store, returnReasons, shipping, customers, refused,
  ]
  const bound = (kind) => (turn) => {
    const one = async (label, ...rest) => {
      if (/^[!#]*\*/.test(label)) await turn()
      return step(atOnce.has(kind) ? `!${label}` : label, ...rest)
    }
    return kind({
      post: (label, ...rest) => one(label, "POST", ...rest),
      del: (label, path) => one(label, "DELETE", path),
      comes: (label, change) => one(label, change),
    })
  }
  await inTurns([...kinds.map(bound), ...others])
  await step("!*product: delete", "DELETE", N)
}
