// Fills an empty shop through its admin API: the same catalogue each time, ids apart.
import { admin } from "./http.mjs"

const REGIONS = [
  { name: "Europe", currency_code: "eur", countries: ["de", "dk", "fr"] },
  { name: "North America", currency_code: "usd", countries: ["us", "ca"] },
  { name: "United Kingdom", currency_code: "gbp", countries: ["gb"] },
]
/** A multiple of 20. */
const PRODUCTS = Number(process.env.PRODUCTS || 40)
const NOUNS = ["Shirt", "Jacket", "Boot", "Cap", "Scarf", "Mug"]
const times = (count, make) => Array.from({ length: count }, (_, at) => make(at))

export async function seed(base) {
  const api = await admin(base)
  const each = async (items, make) => {
    const made = []
    for (const item of items) made.push(await make(item))
    return made
  }

  const [store] = (await api.get("/admin/stores")).stores
  const [web, b2b] = await each(["Web", "B2B"], async (name) => (await api.post("/admin/sales-channels", { name })).sales_channel)
  for (const channel of [web, b2b]) {
    const { api_key } = await api.post("/admin/api-keys", { title: channel.name, type: "publishable" })
    await api.post(`/admin/api-keys/${api_key.id}/sales-channels`, { add: [channel.id] })
  }
  await api.post(`/admin/stores/${store.id}`, {
    default_sales_channel_id: web.id,
    supported_currencies: REGIONS.map(({ currency_code }, at) => ({ currency_code, is_default: at === 0 })),
  })
  const regions = await each(REGIONS, async (region) => (await api.post("/admin/regions", { ...region, payment_providers: ["pp_system_default"] })).region)
  for (const country_code of REGIONS.flatMap((region) => region.countries)) {
    await api.post("/admin/tax-regions", { country_code, provider_id: "tp_system", default_tax_rate: { name: "VAT", code: "vat", rate: 20 } })
  }

  const location = (await api.post("/admin/stock-locations", { name: "Warehouse", address: { country_code: "dk", address_1: "1 Dock Road", city: "Copenhagen" } })).stock_location
  await api.post(`/admin/stock-locations/${location.id}/sales-channels`, { add: [web.id, b2b.id] })
  await api.post(`/admin/stock-locations/${location.id}/fulfillment-providers`, { add: ["manual_manual"] })
  const set = (await api.post(`/admin/stock-locations/${location.id}/fulfillment-sets?fields=*fulfillment_sets`, { name: "Delivery", type: "shipping" })).stock_location.fulfillment_sets[0]
  const geo_zones = REGIONS.flatMap((region) => region.countries).map((country_code) => ({ type: "country", country_code }))
  const zone = (await api.post(`/admin/fulfillment-sets/${set.id}/service-zones`, { name: "Everywhere", geo_zones })).fulfillment_set.service_zones[0]
  const [profile] = (await api.get("/admin/shipping-profiles")).shipping_profiles
  const shipping_profile_id = (profile ?? (await api.post("/admin/shipping-profiles", { name: "Default", type: "default" })).shipping_profile).id
  await api.post("/admin/shipping-options", {
    name: "Standard", price_type: "flat", provider_id: "manual_manual", service_zone_id: zone.id, shipping_profile_id,
    type: { label: "Standard", description: "In two days.", code: "standard" },
    prices: REGIONS.map(({ currency_code }) => ({ currency_code, amount: 5 })),
    rules: [{ attribute: "enabled_in_store", value: "true", operator: "eq" }, { attribute: "is_return", value: "false", operator: "eq" }],
  })
  for (const value of ["too_small", "damaged"]) await api.post("/admin/return-reasons", { value, label: value })

  const collections = await each(times(6, (at) => at + 1), async (at) => (await api.post("/admin/collections", { title: `Collection ${at}`, handle: `collection-${at}` })).collection.id)
  const types = await each(NOUNS, async (value) => (await api.post("/admin/product-types", { value })).product_type.id)
  const tags = await each(times(8, (at) => `tag-${at}`), async (value) => (await api.post("/admin/product-tags", { value })).product_tag.id)
  const categories = []
  for (const root of ["Clothes", "Home"]) {
    const parent = (await api.post("/admin/product-categories", { name: root, handle: root.toLowerCase(), is_active: true })).product_category.id
    for (const leaf of times(4, (at) => `${root} ${at}`)) {
      categories.push((await api.post("/admin/product-categories", { name: leaf, handle: leaf.toLowerCase().replace(" ", "-"), is_active: true, parent_category_id: parent })).product_category.id)
    }
  }

  const product = (at) => ({
    title: `Plain ${NOUNS[at % NOUNS.length]} ${at}`,
    handle: `plain-${NOUNS[at % NOUNS.length].toLowerCase()}-${at}`,
    external_id: `ERP-${at}`,
    status: at % 20 === 19 ? "draft" : "published",
    description: "Made for everyday wear, woven in small batches. ".repeat(3),
    images: times(3, (image) => ({ url: `https://images.example.test/${at}-${image}.jpg` })),
    shipping_profile_id,
    collection_id: collections[at % collections.length],
    type_id: types[at % types.length],
    tags: [{ id: tags[at % tags.length] }, { id: tags[(at + 3) % tags.length] }],
    categories: [{ id: categories[at % categories.length] }],
    sales_channels: at % 10 === 7 ? [{ id: b2b.id }] : at % 10 === 3 ? [{ id: web.id }, { id: b2b.id }] : [{ id: web.id }],
    metadata: { erp: at },
    options: [{ title: "Size", values: ["S", "M"] }, { title: "Color", values: ["Black", "White"] }],
    variants: ["S", "M"].flatMap((Size) =>
      ["Black", "White"].map((Color) => ({
        title: `${Size} / ${Color}`,
        sku: `SKU-${at}-${Size}-${Color}`,
        options: { Size, Color },
        manage_inventory: true,
        prices: REGIONS.map(({ currency_code }, region) => ({ currency_code, amount: 10 + at + region })),
      }))),
  })
  for (let from = 1; from <= PRODUCTS; from += 20) {
    await api.post("/admin/products/batch", { create: times(20, (at) => product(from + at)) })
  }
  const { inventory_items } = await api.get("/admin/inventory-items?limit=100000")
  const levels = inventory_items.map((item) => ({ inventory_item_id: item.id, location_id: location.id, stocked_quantity: 100 }))
  for (let from = 0; from < levels.length; from += 500) {
    await api.post("/admin/inventory-items/location-levels/batch", { create: levels.slice(from, from + 500) })
  }
  const { products } = await api.get("/admin/products?limit=5&fields=id,variants.id")
  const prices = products.flatMap((one) => one.variants.map((variant) => ({ variant_id: variant.id, currency_code: "eur", amount: 5 })))
  await api.post("/admin/price-lists", { title: "Sale", description: "Some", type: "sale", status: "active", prices })
  await api.post("/admin/customer-groups", { name: "VIP" })
  return { regions: regions.length, products: PRODUCTS }
}
