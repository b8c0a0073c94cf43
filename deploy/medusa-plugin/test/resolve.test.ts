import assert from "node:assert/strict"
import { test } from "node:test"
import { adminEvents } from "../src/lib/admin"
import { clear } from "../src/lib/caching"
import { Event, EventSet } from "../src/lib/events"
import { Foresight } from "../src/lib/foresee"
import { Reader, resolve } from "../src/lib/resolve"
import { Row, rules } from "../src/lib/rules"

const EXACT = rules("exact")

/** Resolves against rows by entity or table. */
async function seen(rows: Record<string, Row[]>, ...events: [string, string][]): Promise<[Event[], string[]]> {
  return resolved(EXACT, rows, ...events)
}

function resolved(rules: typeof EXACT, rows: Record<string, Row[]>, ...events: [string, string][]): Promise<[Event[], string[]]> {
  return resolvedAll(rules, rows, events.map(([type, id]) => ({ type, data: { id } })))
}

async function resolvedAll(rules: typeof EXACT, rows: Record<string, Row[]>, events: Event[]): Promise<[Event[], string[]]> {
  const complaints: string[] = []
  const find = (name: string, ids: string[]) => {
    const found = rows[name]
    if (!found) throw new Error(`no ${name}`)
    return found.filter((row) => ids.includes(row["id"]))
  }
  const reader: Reader = {
    query: { graph: async ({ entity, filters, withDeleted }) => (assert.ok(withDeleted), { data: find(entity, filters.id) }) },
    before: async (id) => rows["before"]?.filter((row) => row["id"] === id),
    table: async ({ table, id }, ids, most) => find(id === "p.price_list_id" ? "price_list" : table.split(" ")[0]!, ids).slice(0, most),
  }
  return [await resolve(events, rules, reader, (text) => complaints.push(text)), complaints]
}

const said = (events: Event[]) => events.map(({ type, data }) => `${type} ${Object.values(data).join()}`)

test("rows that nobody sees become the rows that an answer shows", async () => {
  const product = { products: [{ id: "prod_1" }, { id: "prod_2" }] }
  const rows: Record<string, Row[]> = {
    price: [{ id: "price_1", price_set_id: "pset_1", variant_id: "variant_1", plain: "price_0" }, { id: "price_2", price_set_id: "pset_2", variant_id: "variant_2", plain: null }],
    price_list: ["pset_1", "pset_2", "pset_2"].map((pset) => ({ id: "plist_1", price_set_id: pset, variant_id: null, plain: null })),
    price_rule: [{ id: "prule_1", price_set_id: "pset_3", variant_id: "variant_3", plain: "price_4" }],
    product_variant_price_set: [{ id: "pvps_1", variant_id: "variant_1" }],
    inventory_level: [{ id: "ilev_1", inventory_item: { variants: [{ id: "variant_1" }, { id: "variant_2" }] } }],
    reservation: [{ id: "resitem_1", inventory_item: { variants: { id: "variant_1" } } }],
    inventory_item: [{ id: "iitem_1", variants: [] }],
    product_image: [{ id: "img_1", product_id: "prod_1" }],
    product_variant: [{ id: "variant_1", product_id: "prod_1" }],
    product_option_value: [{ id: "optval_1", option: { id: "opt_1", ...product } }],
    product_product_option: [{ id: "prodopt_1", product_id: "prod_1" }],
    product: [{ id: "prod_1", status: "published" }, { id: "prod_2", status: "draft" }],
    product_sales_channel: [{ id: "prodsc_1", product_id: "prod_1" }, { id: "prodsc_2", product_id: "prod_2", product: { status: "draft" } },
      { id: "prodsc_3", product_id: "prod_1", sales_channel: { id: "sc_2" } }, { id: "prodsc_4", product_id: "prod_1", sales_channel: { id: "sc_1", publishable_api_keys: [{ id: "apk_1" }] } }],
    publishable_api_key_sales_channel: [{ id: "pksc_1", api_key: { token: "pk_1" } }],
    api_key: [{ id: "apk_1", type: "publishable", token: "pk_1" }, { id: "apk_2", type: "secret", token: "sk_1" }],
    sales_channel: [{ id: "sc_1", publishable_api_keys: [{ token: "pk_1", type: "publishable" }, { token: "pk_2", type: "publishable" }] }],
    region: [{ id: "reg_1", store_id: null }, { id: "reg_2", store_id: "store_1" }],
    translation: [{ id: "trans_1", reference_id: "prod_1" }],
  }
  const check = async (type: string, id: string, ...expected: string[]) =>
    assert.deepEqual(said((await seen(rows, [type, id]))[0]), expected, type)
  await check("pricing.price.created", "price_1", "endcap.price-set pset_1")
  // The first price in its currency: no answer shows the price set yet.
  await check("pricing.price.created", "price_2", "endcap.price-set pset_2", "endcap.variant variant_2")
  await check("pricing.price.deleted", "price_1", "pricing.price.deleted price_1")
  await check("pricing.price-rule.created", "prule_1", "endcap.price-set pset_3")
  await check("pricing.price-list.deleted", "plist_1", "endcap.price-set pset_1", "endcap.price-set pset_2")
  await check("POST:/admin/price-lists/:id", "plist_1", "endcap.price-set pset_1", "endcap.price-set pset_2")
  await check("LinkProductVariantPriceSet.attached", "pvps_1", "endcap.variant variant_1")
  await check("inventory.inventory-level.updated", "ilev_1", "endcap.stock variant_1", "endcap.stock variant_2")
  await check("reservation-item.created", "resitem_1", "endcap.stock variant_1")
  await check("inventory-item.deleted", "iitem_1")
  await check("product.product-image.created", "img_1", "endcap.product prod_1")
  await check("product-variant.created", "variant_1", "endcap.product prod_1", "endcap.path /store/product-variants/variant_1", "endcap.list product-variant")
  await check("product.product-option-value.updated", "optval_1", "endcap.product prod_1", "endcap.product prod_2", "endcap.row optval_1", "endcap.row opt_1", "endcap.list option")
  await check("product.product-product-option.created", "prodopt_1", "endcap.product prod_1", "endcap.list option")
  await check("product.created", "prod_1", "product.created prod_1")
  await check("product.product.created", "prod_2", "endcap.path /store/products/prod_2")
  await check("LinkProductSalesChannel.detached", "prodsc_1", "endcap.product-channel prod_1")
  await check("LinkProductSalesChannel.attached", "prodsc_2", "endcap.product prod_2")
  await check("LinkProductSalesChannel.attached", "prodsc_3")
  await check("LinkProductSalesChannel.attached", "prodsc_4", "endcap.product-channel prod_1")
  await check("LinkPublishableApiKeySalesChannel.attached", "pksc_1", "endcap.key pk_1")
  await check("api_key.api-key.updated", "apk_1", "endcap.key pk_1")
  await check("api_key.api-key.updated", "apk_2")
  await check("sales-channel.deleted", "sc_1", "endcap.key pk_1", "endcap.key pk_2")
  await check("sales-channel.updated", "sc_1", "endcap.channel pk_1", "endcap.channel pk_2")
  await check("region.updated", "reg_1", "endcap.region reg_1")
  await check("region.region.updated", "reg_2", "region.region.updated reg_2")
  await check("translation.updated", "trans_1", "endcap.row prod_1")
  await check("product.updated", "prod_1", "product.updated prod_1")
})

test("what was looked up is told by the name that the shop knows it by, once", async () => {
  const rows = { price_list: ["pset_1", "pset_2"].map((pset) => ({ id: "plist_1", price_set_id: pset, variant_id: null, plain: null })), region: [{ id: "reg_1", store_id: "store_1" }] }
  const [created] = await seen(rows, ["pricing.price-list.created", "plist_1"])
  assert.deepEqual(created.map(({ notice }) => notice), [{ event: "pricing.price-list.created", id: "plist_1" }, null])
  const [asItIs] = await seen(rows, ["region.updated", "reg_1"])
  assert.deepEqual(asItIs, [{ type: "region.updated", data: { id: "reg_1" } }])
})

test("a price list whose request failed becomes what it prices, as if it had not", async () => {
  const id = `plist_${"0".repeat(26)}`
  const price_list = ["pset_1", "pset_2"].map((pset) => ({ id, price_set_id: pset, variant_id: null, plain: null }))
  const told = async (status: number) => {
    const events = adminEvents({ method: "POST", path: `/admin/price-lists/${id}`, body: { status: "active" }, status })!
    const found = (await seen({ price_list }, ...events.map(({ type, data }): [string, string] => [type, data["id"]!])))[0]
    return [...new Set(said(found))]
  }
  const prices = ["endcap.price-set pset_1", "endcap.price-set pset_2"]
  assert.deepEqual(await told(200), prices)
  assert.deepEqual(await told(500), [...prices, `failed:POST:/admin/price-lists/:id ${id}`])
})

test("what a request that failed names and is not there is nothing to tell, and what cannot be read is as ever", async () => {
  const failed = (path: string) => adminEvents({ method: "DELETE", path, body: {}, status: 500 })!
  const told = async (rows: Record<string, Row[]>, path: string) => said((await resolvedAll(EXACT, rows, failed(path)))[0])
  const [plist, apk] = [`plist_${"0".repeat(26)}`, `apk_${"0".repeat(26)}`]
  const silent = [`DELETE:/admin/price-lists/:id ${plist},${plist}`, `failed:DELETE:/admin/price-lists/:id ${plist}`]
  assert.deepEqual((await told({ price_list: [] }, `/admin/price-lists/${plist}`)).sort(), silent)
  assert.deepEqual((await told({}, `/admin/price-lists/${plist}`)).sort(), [...silent, `pricing.price-list.updated ${plist}`].sort())
  // What is known for certain stays so beside it.
  const set = new EventSet()
  const certain: Event = { type: "pricing.price-list.updated", data: { id: plist }, notice: null }
  for (const event of [certain, { ...certain, isGuess: true }]) set.add(event)
  assert.deepEqual(said((await resolvedAll(EXACT, { price_list: [] }, set.take()))[0]), [`pricing.price-list.updated ${plist}`])
  const keyless = [`DELETE:/admin/api-keys/:id ${apk},${apk}`, `failed:DELETE:/admin/api-keys/:id ${apk}`]
  assert.deepEqual((await told({ api_key: [] }, `/admin/api-keys/${apk}`)).sort(), keyless)
  const before = [{ id: apk, type: "publishable", token: "pk_1" }]
  assert.deepEqual((await told({ api_key: [], before }, `/admin/api-keys/${apk}`)).sort(), [...keyless, "endcap.key pk_1"].sort())
})

test("a key that is deleted for good is known from before, and a secret one purges nothing", async () => {
  const id = (at: number) => `apk_${String(at).padStart(26, "0")}`
  const reads: string[] = []
  const types = ["secret", "publishable"]
  const foresight = new Foresight(async (one) => {
    reads.push(one)
    if (one === id(9)) throw new Error("no database")
    return one === id(8) ? [] : [{ id: one, type: types[Number(one.slice(4))] ?? "secret", token: `pk_${Number(one.slice(4))}` }]
  })
  for (const at of [0, 1, 8, 9]) foresight.begins("DELETE", `/admin/api-keys/${id(at)}`)
  foresight.begins("POST", `/admin/api-keys/${id(2)}`)
  foresight.begins("DELETE", `/admin/api-keys/${id(3)}/sales-channels`)
  assert.deepEqual(reads, [id(0), id(1), id(8), id(9)])
  const deleted = async (at: number) => {
    const rows = await foresight.rows(id(at))
    return said((await seen({ api_key: [], ...(rows ? { before: rows } : {}) }, ["api_key.api-key.deleted", id(at)]))[0])
  }
  assert.deepEqual(await deleted(0), [])
  assert.deepEqual(await deleted(1), ["endcap.key pk_1"])
  // Faster than we were, not readable, or by a script: wider.
  for (const at of [8, 9, 2]) assert.deepEqual(await deleted(at), [`api_key.api-key.deleted ${id(at)}`])
  for (let at = 100; at < 200; at++) foresight.begins("DELETE", `/admin/api-keys/${id(at)}`)
  assert.equal(await foresight.rows(id(0)), undefined, "bounded")
  assert.equal((await foresight.rows(id(199)))?.length, 1)
})

test("where lists may show stock as old as they are, it is told with the page that is to be exact", async () => {
  const variant = { id: "variant_1", product: { id: "prod_1", handle: "mug" } }
  const rows: Record<string, Row[]> = {
    inventory_level: [{ id: "ilev_1", inventory_item: { variants: [variant, { id: "variant_2", product: null }] } }],
    reservation: [{ id: "resitem_1", inventory_item: { variants: variant } }],
    inventory_item: [{ id: "iitem_1", variants: [variant] }],
    product_variant_inventory_item: [{ id: "pvitem_1", variant_id: "variant_1", variant: [variant] }, { id: "pvitem_2", variant_id: "variant_2" }],
  }
  const details = { type: "endcap.stock-details", data: { id: "variant_1", product: "prod_1", handle: "mug" } }
  const age = rules("age")
  const check = async (type: string, id: string, ...expected: Event[]) => {
    const [events] = await resolved(age, rows, [type, id])
    assert.deepEqual(events.map(({ type, data }) => ({ type, data })), expected, type)
  }
  // Where the page is not known, all that shows the variant.
  await check("inventory-level.updated", "ilev_1", details, { type: "endcap.stock", data: { id: "variant_2" } })
  await check("reservation-item.created", "resitem_1", details)
  await check("inventory-item.deleted", "iitem_1", details)
  await check("LinkProductVariantInventoryItem.attached", "pvitem_1", details)
  await check("LinkProductVariantInventoryItem.attached", "pvitem_2", { type: "endcap.stock", data: { id: "variant_2" } })
  // Nothing is asked of the shop that nobody needs.
  const fields = (rules: typeof EXACT) => rules.flatMap(({ from }) => ("fields" in from ? from.fields : [])).filter((field) => field.includes("handle"))
  assert.deepEqual([fields(EXACT).length, fields(age).length], [0, 4])
})

test("a row that is gone or cannot be read goes as it is: wider, never narrower", async () => {
  const [gone, lines] = await seen({ price: [] }, ["pricing.price.updated", "price_9"])
  assert.deepEqual(said(gone), ["pricing.price.updated price_9"])
  assert.deepEqual(lines, ["pricing.price.updated is about what is not there, or not any more, so endcap purges more than it must"])
  const [events, complaints] = await seen({}, ["pricing.price.updated", "price_9"])
  assert.deepEqual(said(events), ["pricing.price.updated price_9"])
  assert.match(complaints.join(), /cannot be read.*no price/)
  const wide = Array.from({ length: 5_000 }, (_, at) => ({ id: "plist_1", price_set_id: `pset_${at}`, variant_id: null, plain: null }))
  assert.deepEqual(said((await seen({ price_list: wide }, ["pricing.price-list.updated", "plist_1"]))[0]), ["pricing.price-list.updated plist_1"])
})

test("Medusa's own cache forgets its lists after what it cannot have heard of, and only then", async () => {
  const cleared: string[][] = []
  const caching = { clear: async ({ tags }: { tags: string[] }) => void cleared.push(tags) }
  await clear(caching, [{ type: "product.updated", data: { id: "prod_1" } }])
  await clear(undefined, [{ type: "POST:/admin/price-lists/:id", data: {} }])
  assert.deepEqual(cleared, [])
  for (const type of ["POST:/admin/price-lists/:id", "failed:POST:/admin/products/:id", "endcap.list"]) {
    await clear(caching, [{ type, data: {} }])
    assert.deepEqual(cleared.splice(0), [["Product:list:*", "ProductVariant:list:*"]], type)
  }
})

test("what is about more rows than are read goes as it is", async () => {
  const prices = (count: number) => Array.from({ length: count }, () => ({ id: "plist_1", price_set_id: "pset_1", variant_id: null, plain: "price_1" }))
  const told = async (count: number) => {
    const [events, complaints] = await seen({ price_list: prices(count) }, ["pricing.price-list.updated", "plist_1"])
    return [said(events), complaints.length]
  }
  assert.deepEqual(await told(20_000), [["endcap.price-set pset_1"], 0])
  assert.deepEqual(await told(20_001), [["pricing.price-list.updated plist_1"], 1])
})
