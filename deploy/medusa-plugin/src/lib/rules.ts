import { Event } from "./events"

/** A row, as it is read. */
export type Row = Record<string, any>

/** How rows that no public answer shows become the rows that it does show. */
export type Rule = {
  events: RegExp
  /** An entity of Medusa's graph, or tables where the graph knows no way. */
  from: { entity: string; fields: string[] } | Tables
  read: (row: Row, event: Event) => Event[]
}

/** What is joined, the column with the event's id, and what else is read. */
export type Tables = { table: string; id: string; select: string }

const event = (type: string) => (id: unknown): Event[] =>
  typeof id === "string" && id !== "" ? [{ type, data: { id } }] : []
const priceSet = event("endcap.price-set")
const product = event("endcap.product")
const list = (kind: string): Event[] => [{ type: "endcap.list", data: { kind } }]
const each = (rows: unknown): Row[] => (Array.isArray(rows) ? rows.filter(Boolean) : rows ? [rows as Row] : [])
const keys = (rows: unknown, type = "endcap.key"): Event[] =>
  each(rows).flatMap((key) => (typeof key["token"] === "string" && key["type"] !== "secret" ? [{ type, data: { key: key["token"] } }] : []))

/**
 * A priced answer shows the price set of each variant, but where no price fits it shows none at all. So where a price set
 * has no plain price in that currency, which fits everywhere, the answers that show the variant go as well.
 */
const priced = (table: string, id: string): Tables => ({
  table: `${table} left join product_variant_price_set l on l.price_set_id = p.price_set_id
    left join price o on o.price_set_id = p.price_set_id and o.currency_code = p.currency_code and o.id <> p.id
      and o.deleted_at is null and o.price_list_id is null and o.rules_count = 0 and o.min_quantity is null and o.max_quantity is null`,
  id,
  select: "p.price_set_id, l.variant_id, o.id as plain",
})
const price = (row: Row): Event[] => [...priceSet(row["price_set_id"]), ...(row["plain"] ? [] : event("endcap.variant")(row["variant_id"]))]
const created = (name: string) => name.endsWith(".created")

/**
 * The rules. An event that matches none is sent as it is, and so is one whose row is gone or cannot be read: what
 * endcap purges for it is then wider, never narrower.
 */
export const rules = (stockInLists: "exact" | "age"): Rule[] => [
  // Prices. One that was deleted goes as it is: where it mattered, it was shown.
  { events: /^pricing\.price\.(created|updated|restored)$/, from: priced("price p", "p.id"), read: price },
  { events: /^pricing\.price-rule\./, from: priced("price_rule r join price p on p.id = r.price_id", "r.id"), read: price },
  { events: /^(pricing\.price-list\.|POST:\/admin\/price-lists\/:id$)/, from: priced("price p", "p.price_list_id"), read: price },
  { events: /^pricing\.price-list-rule\./, from: priced("price_list_rule r join price p on p.price_list_id = r.price_list_id", "r.id"), read: price },
  { events: /^LinkProductVariantPriceSet\./, from: { entity: "product_variant_price_set", fields: ["id", "variant_id"] }, read: (row) => event("endcap.variant")(row["variant_id"]) },

  // Stock.
  { events: /^(inventory\.inventory-level|inventory-level)\./, from: { entity: "inventory_level", fields: ["id", ...shown("inventory_item.variants", stockInLists)] }, read: (row) => variants(row["inventory_item"]) },
  { events: /^(inventory\.reservation-item|reservation-item)\./, from: { entity: "reservation", fields: ["id", ...shown("inventory_item.variants", stockInLists)] }, read: (row) => variants(row["inventory_item"]) },
  { events: /^(inventory\.inventory-item|inventory-item)\.deleted$/, from: { entity: "inventory_item", fields: ["id", ...shown("variants", stockInLists)] }, read: (row) => variants(row) },
  {
    events: /^LinkProductVariantInventoryItem\./,
    from: { entity: "product_variant_inventory_item", fields: ["id", "variant_id", ...(stockInLists === "age" ? shown("variant", stockInLists) : [])] },
    read: (row) => stock(row["variant_id"], each(row["variant"])[0]),
  },

  // Rows of a product.
  { events: /^product\.product-image\./, from: { entity: "product_image", fields: ["id", "product_id"] }, read: (row) => product(row["product_id"]) },
  {
    events: /^(product\.product-variant|product-variant)\.created$/,
    from: { entity: "product_variant", fields: ["id", "product_id"] },
    read: (row, { data }) => [...product(row["product_id"]), ...path("product-variants", data), ...list("product-variant")],
  },
  {
    events: /^(product\.product-option|product-option)\.created$/,
    from: { entity: "product_option", fields: ["id", "products.id"] },
    read: (row, { data }) => [...each(row["products"]).flatMap((one) => product(one["id"])), ...path("product-options", data), ...list("option")],
  },
  {
    events: /^product\.product-option-value\./,
    from: { entity: "product_option_value", fields: ["id", "option.id", "option.products.id"] },
    read: (row, { type, data }) => [
      ...each(row["option"]?.["products"]).flatMap((one) => product(one["id"])),
      ...(created(type) ? [] : event("endcap.row")(data["id"])),
      ...event("endcap.row")(row["option"]?.["id"]),
      ...list("option"),
    ],
  },
  {
    events: /^product\.product-product-option\./,
    from: { table: "product_product_option", id: "id", select: "product_id" },
    read: (row) => [...product(row["product_id"]), ...list("option")],
  },
  {
    events: /^product\.product-product-option-value\./,
    from: { table: "product_product_option_value v join product_product_option o on o.id = v.product_product_option_id", id: "v.id", select: "o.product_id" },
    read: (row) => [...product(row["product_id"]), ...list("option")],
  },

  // A product that nobody sees yet is in no list.
  {
    events: /^(product\.product|product)\.created$/,
    from: { entity: "product", fields: ["id", "status"] },
    read: (row, one) => (row["status"] === "published" ? [one] : path("products", one.data)),
  },

  // Channels and keys. A request names the key by its token; a channel without any is seen by nobody.
  {
    events: /^LinkProductSalesChannel\./,
    from: { entity: "product_sales_channel", fields: ["id", "product_id", "product.status", "sales_channel.id", "sales_channel.publishable_api_keys.id"] },
    read: ({ product_id, product, sales_channel }) => {
      if (sales_channel && each(sales_channel["publishable_api_keys"]).length === 0) return []
      return event(product?.["status"] === "draft" ? "endcap.product" : "endcap.product-channel")(product_id)
    },
  },
  { events: /^LinkPublishableApiKeySalesChannel\./, from: { entity: "publishable_api_key_sales_channel", fields: ["id", "api_key.token", "api_key.type"] }, read: (row) => keys(row["api_key"]) },
  { events: /^api_key\.api-key\.(updated|deleted)$/, from: { entity: "api_key", fields: ["id", "type", "token"] }, read: (row) => keys(row) },
  {
    events: /^(sales_channel\.sales-channel|sales-channel)\.(updated|deleted)$/,
    from: { entity: "sales_channel", fields: ["id", "publishable_api_keys.token", "publishable_api_keys.type"] },
    read: (row, { type }) => keys(row["publishable_api_keys"], type.endsWith(".deleted") ? "endcap.key" : "endcap.channel"),
  },

  // A region that is no store's default shows as itself: where a request names no region, the default makes the prices.
  {
    events: /^(region\.region|region)\.updated$/,
    from: { table: "region r left join store s on s.default_region_id = r.id", id: "r.id", select: "s.id as store_id" },
    read: (row, one) => (row["store_id"] === null ? event("endcap.region")(row["id"]) : [one]),
  },

  // A translation shows as the row that it translates.
  { events: /^translation\./, from: { entity: "translation", fields: ["id", "reference_id"] }, read: (row) => event("endcap.row")(row["reference_id"]) },
]

/** What says whose stock it is: the variant, and in whose page alone it is to be exact. */
function shown(path: string, stockInLists: "exact" | "age"): string[] {
  return [`${path}.id`, ...(stockInLists === "age" ? [`${path}.product.id`, `${path}.product.handle`] : [])]
}

function variants(item: Row | undefined): Event[] {
  return each(item?.["variants"]).flatMap((variant) => stock(variant["id"], variant))
}

/** Stock of a variant: in all that shows it, or in its product's page where that was asked for and is known. */
function stock(id: unknown, variant: Row | undefined): Event[] {
  const { id: product, handle } = variant?.["product"] ?? {}
  if (typeof product !== "string" || typeof handle !== "string") return event("endcap.stock")(id)
  return event("endcap.stock-details")(id).map(({ type, data }) => ({ type, data: { ...data, product, handle } }))
}

function path(kind: string, data: Record<string, string>): Event[] {
  return data["id"] ? [{ type: "endcap.path", data: { path: `/store/${kind}/${data["id"]}` } }] : []
}
