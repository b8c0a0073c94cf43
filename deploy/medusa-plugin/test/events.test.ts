import assert from "node:assert/strict"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { test } from "node:test"
import { adminEvents, IDS_MAX, route } from "../src/lib/admin"
import { bodies, Event, halves } from "../src/lib/events"
import { settings } from "../src/lib/options"
import { secretKey, signed } from "../src/lib/sign"

const SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
const ROW = "01M7YJZFXB9RMGWYXB54YHDJW1"
const OTHER = "01M7YJZMQJZRSMJRD2F0CTXTRE"
const one = (type: string, id: string): Event => ({ type, data: { id } })
const silent = (type: string, data: Record<string, string>): Event => ({ type, data, notice: null })

test("the example of the Standard Webhooks specification is signed as published", () => {
  const headers = signed(secretKey(SECRET), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, '{"test": 2432232314}')
  assert.equal(headers["webhook-signature"], "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
})

test("things of one type travel together, each once, in bodies of bounded size", () => {
  assert.deepEqual(bodies([one("b", "1"), one("a", "1"), one("b", "2"), one("a", "1")]).map((body) => JSON.parse(body)), [
    { events: [{ type: "a", data: [{ id: "1" }] }, { type: "b", data: [{ id: "1" }, { id: "2" }] }] },
  ])
  const many = Array.from({ length: 1_000 }, (_, at) => one("product.updated", `prod_${at}`))
  const cut = bodies(many, 5_000)
  assert.ok(cut.length > 1 && cut.every((body) => Buffer.byteLength(body) <= 5_000))
  const told = cut.flatMap((body) => JSON.parse(body).events[0].data.map((thing: { id: string }) => thing.id))
  assert.equal(new Set(told).size, 1_000)
  assert.deepEqual(bodies([]), [])
})

test("a body in halves says the same", () => {
  const [body] = bodies([one("a", "1"), one("a", "2"), one("b", "3")])
  const parts = halves(body!).map((part) => JSON.parse(part).events)
  assert.deepEqual(parts, [[{ type: "a", data: [{ id: "1" }] }], [{ type: "a", data: [{ id: "2" }] }, { type: "b", data: [{ id: "3" }] }]])
  assert.deepEqual(halves(bodies([one("a", "1")])[0]!), [])
})

test("what is told of events is written once, and not in halves", () => {
  const price = (set: string, id: string): Event => ({ ...one("endcap.price-set", set), notice: { event: "pricing.price.created", id } })
  const [body] = bodies([price("pset_1", "price_1"), price("pset_1", "price_2"), silent("endcap.price-set", { id: "pset_2" }), { ...one("endcap.row", "a"), notice: { event: "x" } }])
  assert.deepEqual(JSON.parse(body!).events, [
    { type: "endcap.price-set", data: [{ id: "pset_1" }], notice: { event: "pricing.price.created", ids: ["price_1", "price_2"] } },
    { type: "endcap.price-set", data: [{ id: "pset_2" }], notice: null },
    { type: "endcap.row", data: [{ id: "a" }], notice: { event: "x" } },
  ])
  const parts = halves(body!)
  assert.deepEqual(parts.map((part) => JSON.parse(part).events), [
    [{ type: "endcap.price-set", data: [{ id: "pset_1" }], notice: { event: "pricing.price.created", ids: ["price_1", "price_2"] } }],
    [{ type: "endcap.price-set", data: [{ id: "pset_2" }], notice: null }, { type: "endcap.row", data: [{ id: "a" }], notice: { event: "x" } }],
  ])
  assert.deepEqual(halves(parts[0]!).map((part) => JSON.parse(part).events[0].notice), [{ event: "pricing.price.created", id: "price_1" }, { event: "pricing.price.created", id: "price_2" }])
  // More things than ids: what is left over is told of no more.
  const [many] = bodies([{ ...one("endcap.product", "a"), notice: { event: "x", id: "1" } }, { ...one("endcap.product", "b"), notice: { event: "x", id: "1" } }])
  assert.deepEqual(halves(many!).map((part) => JSON.parse(part).events[0].notice), [{ event: "x", id: "1" }, null])
})

test("a finished request is told by its route, the ids of its path, and where that counts each id that its body names", () => {
  const check = (method: string, path: string, body: unknown, expected: Event[]) =>
    assert.deepEqual(adminEvents({ method, path, body, status: 200 }), expected)
  check("POST", `/admin/price-lists/plist_${ROW}?fields=id`, { status: "draft" }, [
    silent("POST:/admin/price-lists/:id", { id: `plist_${ROW}`, plist: `plist_${ROW}` }),
  ])
  check("POST", `/admin/price-lists/plist_${ROW}`, { title: "Sale", status: "draft" }, [
    silent("POST:/admin/price-lists/:id", { id: `plist_${ROW}`, plist: `plist_${ROW}` }),
  ])
  // Nobody sees what a price list is called.
  check("POST", `/admin/price-lists/plist_${ROW}`, { title: "Sale", description: "Soon" }, [])
  const images = { id: `prod_${ROW}`, prod: `prod_${ROW}`, variant: `variant_${OTHER}` }
  check("POST", `/admin/products/prod_${ROW}/variants/variant_${OTHER}/images/batch`, { add: [`img_${ROW}`], remove: [`img_${OTHER}`] }, [
    silent("POST:/admin/products/:id/variants/:id/images/batch", images),
  ])
  const variants = "POST:/admin/products/:id/images/:id/variants/batch"
  const base = { id: `prod_${ROW}`, prod: `prod_${ROW}`, img: `img_${OTHER}` }
  const path = `/admin/products/prod_${ROW}/images/img_${OTHER}/variants/batch`
  check("POST", path, { add: [`variant_${ROW}`], remove: [`variant_${OTHER}`] }, [
    silent(variants, { ...base, named: `variant_${ROW}` }),
    silent(variants, { ...base, named: `variant_${OTHER}` }),
  ])
  // What lacks a name would empty the cache.
  check("POST", path, {}, [silent(variants, { ...base, named: `img_${OTHER}` })])
  // A price list is looked up once, however many variants it prices.
  const prices = Array.from({ length: 100 }, (_, at) => ({ variant_id: `variant_${at}`, amount: 1 }))
  check("POST", `/admin/price-lists/plist_${ROW}`, { prices }, [silent("POST:/admin/price-lists/:id", { id: `plist_${ROW}`, plist: `plist_${ROW}` })])
  check("DELETE", "/admin/uploads/x", undefined, [silent("DELETE:/admin/uploads/x", {})])
})

test("an id that somebody gave is told like one that Medusa made, by a known prefix", () => {
  const told = (method: string, path: string, body?: unknown) => adminEvents({ method, path, body, status: 200 })
  const category = { id: "pcat_shirts", pcat: "pcat_shirts" }
  assert.deepEqual(told("POST", "/admin/product-categories/pcat_shirts/products", { add: ["prod_mug", "a mug"] }), [
    silent("POST:/admin/product-categories/:id/products", { ...category, named: "prod_mug" }),
  ])
  assert.deepEqual(told("POST", "/admin/price-lists/plist_summer?fields=id", { status: "active" }), [
    silent("POST:/admin/price-lists/:id", { id: "plist_summer", plist: "plist_summer" }),
  ])
  assert.deepEqual(told("POST", "/admin/product-categories/pcat_h%C3%BCte/products")?.[0]?.data, { id: "pcat_hüte", pcat: "pcat_hüte", named: "pcat_hüte" })
  const [order, batch] = [`/admin/orders/order_${ROW}`, "/admin/products/batch"]
  assert.deepEqual([order, batch, "/admin/erp/shop_1/x%", "/admin/x/prod_"].map((path) => route({ method: "PUT", path })), [
    "PUT:/admin/orders/:id", "PUT:/admin/products/batch", "PUT:/admin/erp/shop_1/x%", "PUT:/admin/x/prod_",
  ])
  // A resource of the shop's own, and what must not become a line of the log.
  assert.deepEqual(["/admin/price_rules/7", "/admin/x/a%0A%2Fb"].map((path) => route({ method: "PUT", path })), ["PUT:/admin/price_rules/7", "PUT:/admin/x/a%0A%2Fb"])
})

/** What a request that failed says. */
const failing = (method: string, path: string, body: unknown = {}, status = 500): string[] =>
  adminEvents({ method, path, body, status })!.map(({ type, data, notice, isGuess }) => {
    assert.deepEqual([notice, isGuess], [null, true])
    return [type, ...Object.values(data)].join(" ")
  })

test("a request that failed says what it would have said, and what a change of each thing that it names is called", () => {
  const [prod, variant, plist, pcat] = ["prod", "variant", "plist", "pcat"].map((kind) => `${kind}_${ROW}`) as [string, string, string, string]
  assert.deepEqual(failing("POST", `/admin/products/${prod}`, { a: [{ id: variant }] }), [
    `POST:/admin/products/:id ${prod} ${prod}`,
    `failed:POST:/admin/products/:id ${prod}`,
    `failed:POST:/admin/products/:id ${variant}`,
    // A list that was filled in between may lack it.
    `endcap.product-listing ${prod}`,
    `product-variant.updated ${variant}`,
  ])
  // Where it failed when it read what it had written there is no event either.
  assert.deepEqual(failing("POST", `/admin/price-lists/${plist}`, { status: "active" }), [
    `POST:/admin/price-lists/:id ${plist} ${plist}`,
    `failed:POST:/admin/price-lists/:id ${plist}`,
    `pricing.price-list.updated ${plist}`,
  ])
  assert.deepEqual(failing("POST", `/admin/product-categories/${pcat}/products`, { add: [prod] }).slice(-2), [`product-category.updated ${pcat}`, `endcap.product-listing ${prod}`])
})

test("lists of what a request that failed names are told, by what a change of it is called", () => {
  const check = (kind: string, resource: string, ...expected: string[]) => {
    const id = `${kind}_${ROW}`
    const told = failing("DELETE", `/admin/${resource}/${id}`)
    assert.deepEqual(told.slice(2), expected.map((type) => `${type} ${id}`), kind)
  }
  check("pcat", "product-categories", "product-category.updated")
  check("pcol", "collections", "product-collection.updated")
  check("ptag", "product-tags", "product-tag.updated")
  check("ptyp", "product-types", "product-type.updated")
  check("opt", "product-options", "product-option.updated")
  check("reg", "regions", "region.updated")
  check("rr", "return-reasons", "order.return-reason.updated")
  check("iitem", "inventory-items", "inventory-item.deleted")
  check("sc", "sales-channels", "sales-channel.updated")
  check("apk", "api-keys", "api_key.api-key.updated")
  check("order", "orders")
  // A body names a channel as where something is.
  const [prod, sc] = [`prod_${ROW}`, `sc_${OTHER}`]
  assert.deepEqual(failing("POST", `/admin/products/${prod}`, { sales_channels: [{ id: sc }] }).slice(3), [`endcap.product-listing ${prod}`])
  assert.deepEqual(failing("POST", `/admin/sales-channels/${sc}/products`, { add: [prod] }).slice(3), [`endcap.product-listing ${prod}`, `sales-channel.updated ${sc}`])
})

test("where something is was changed only by a request to that itself, and a body counts only where it is of the catalogue", () => {
  const [iitem, sloc, sc, prod] = ["iitem", "sloc", "sc", "prod"].map((kind) => `${kind}_${ROW}`) as [string, string, string, string]
  const told = (path: string, body?: object) => failing("POST", path, body).filter((text) => !/^(failed:)?POST:/.test(text))
  assert.deepEqual(told(`/admin/inventory-items/${iitem}/location-levels/${sloc}`), [`inventory-item.deleted ${iitem}`])
  assert.deepEqual(told(`/admin/erp/${sc}`), [])
  assert.deepEqual(told(`/admin/stock-locations/${sloc}/sales-channels/${sc}`), [`LinkSalesChannelStockLocation.updated ${sloc}`])
  for (const resource of ["promotions", "draft-orders", "orders", "order-edits"]) {
    assert.deepEqual(told(`/admin/${resource}`, { items: [prod] }), [], resource)
    assert.deepEqual(failing("POST", `/admin/${resource}`, { items: [prod] }).slice(1), [`failed:POST:/admin/${resource} ${prod}`])
  }
  assert.deepEqual(told("/admin/erp/sync", { items: [prod] }), [`endcap.product-listing ${prod}`])
})

test("a request that was refused empties no more than what shows what it names, and lists softly", () => {
  const id = (kind: string) => `${kind}_${ROW}`
  const [prod, variant, plist, reg, sc, txr, rr, iitem] = ["prod", "variant", "plist", "reg", "sc", "txr", "rr", "iitem"].map(id) as [string, string, string, string, string, string, string, string]
  for (const status of [400, 403, 404, 409, 422]) {
    const refused = (path: string, body?: object) => failing("POST", path, body, status)
    const beyond = (...told: string[]) => (status === 403 ? [] : told)
    assert.deepEqual(refused(`/admin/products/${prod}`, { variants: [{ id: variant }] }), [
      `failed:POST:/admin/products/:id ${prod}`, `failed:POST:/admin/products/:id ${variant}`,
      `endcap.product-listing ${prod}`, ...beyond(`product-variant.updated ${variant}`),
    ])
    assert.deepEqual(refused("/admin/products"), beyond("endcap.list product"))
    assert.deepEqual(refused(`/admin/regions/${reg}`), beyond("endcap.list region").concat(`failed:POST:/admin/regions/:id ${reg}`))
    assert.deepEqual(refused(`/admin/return-reasons/${rr}`), beyond("endcap.list return-reason").concat(`failed:POST:/admin/return-reasons/:id ${rr}`))
    assert.deepEqual(refused(`/admin/price-lists/${plist}`, { status: "draft" }), [`failed:POST:/admin/price-lists/:id ${plist}`])
    assert.deepEqual(refused(`/admin/sales-channels/${sc}`), [`failed:POST:/admin/sales-channels/:id ${sc}`])
    assert.deepEqual(refused(`/admin/tax-rates/${txr}`), [`failed:POST:/admin/tax-rates/:id ${txr}`])
    assert.deepEqual(refused("/admin/tax-rates"), [])
    assert.deepEqual(refused(`/admin/inventory-items/${iitem}`), [`failed:POST:/admin/inventory-items/:id ${iitem}`, ...beyond(`inventory-item.deleted ${iitem}`)])
  }
  for (const status of [401, 429, 500, 503]) assert.ok(failing("POST", `/admin/tax-rates/${txr}`, {}, status).includes(`tax.tax-rate.updated ${txr}`), `${status}`)
})

test("a request that failed and names nothing tells of lists of what it was to make, or of nothing that it was not to", () => {
  assert.deepEqual(failing("POST", "/admin/products"), ["endcap.list product"])
  assert.deepEqual(failing("POST", "/admin/product-categories?fields=id"), ["endcap.list category"])
  assert.deepEqual(failing("POST", "/admin/tax-rates"), ["tax.tax-rate.created"])
  const ptyp = `ptyp_${ROW}`
  assert.deepEqual(failing("POST", "/admin/products", { type_id: ptyp }), [
    "POST:/admin/products", "endcap.list product", `failed:POST:/admin/products ${ptyp}`, `product-type.updated ${ptyp}`,
  ])
  assert.deepEqual(failing("POST", "/admin/erp/sync"), [])
  assert.deepEqual(failing("POST", "/admin/invites"), [])
  assert.deepEqual(failing("POST", "/admin/products/batch"), ["endcap.list product"])
  for (const path of ["export", "import", "imports/x/confirm"]) assert.deepEqual(failing("POST", `/admin/products/${path}`), [], path)
})

test("endcap's preset purges something by each of these names, and needs nothing for it that is not told", () => {
  const preset = readFileSync(join(__dirname, "../../../../../src/config/medusa.toml"), "utf8")
  const rules = [...preset.matchAll(/^"?([a-z_][^" =]*)"? = (\{.*\})$/gim)].map(([, name = "", rule = ""]) => ({ name, rule }))
  const ruleOf = (type: string) => {
    const fits = rules.filter(({ name }) => name === type || (name.endsWith("*") && type.startsWith(name.slice(0, -1))))
    return fits.sort((a, b) => Number(b.name === type) - Number(a.name === type) || b.name.length - a.name.length)[0]?.rule ?? assert.fail(type)
  }
  const told = (path: string) => adminEvents({ method: "PUT", path, body: {}, status: 500 })!
  const kinds = "prod variant opt optval img pcol pcat ptag ptyp price plist prpref txr txreg iitem ilev resitem trans rr".split(" ").map((kind) => ["x", kind])
  const places = [["sales-channels", "sc"], ["api-keys", "apk"], ["regions", "reg"], ["stock-locations", "sloc"], ["stores", "store"]]
  const made = "products product-categories collections product-tags product-types product-options regions return-reasons price-preferences tax-rates tax-regions"
  const changed = [...kinds, ...places].flatMap(([resource, kind]) => [ROW, "given"].map((id) => told(`/admin/${resource}/${kind}_${id}`).slice(2)))
  for (const events of [...changed, ...made.split(" ").map((resource) => told(`/admin/${resource}`))]) {
    assert.equal(events.length, 1)
    const [{ type, data }] = events as [Event]
    const rule = ruleOf(type)
    assert.match(rule, /hard|soft/, type)
    for (const [, field = ""] of rule.matchAll(/\{(\w+)\}/g)) assert.ok(data[field], `${type} ${field}`)
  }
})

test("a request with too many ids cannot be told, where they count", () => {
  const ids = Array.from({ length: IDS_MAX + 2 }, (_, at) => `prod_${String(at).padStart(26, "0")}`)
  let deep: unknown = {}
  for (let at = 0; at < 20; at++) deep = { deep }
  const told = (path: string, body: unknown, status: number) => adminEvents({ method: "POST", path, body, status })?.length
  for (const body of [{ delete: ids }, deep]) {
    assert.equal(told(`/admin/product-categories/pcat_${ROW}/products`, body, 200), undefined)
    assert.equal(told("/admin/products/batch", body, 500), undefined)
    // Each that was deleted has an event.
    assert.equal(told("/admin/products/batch", body, 200), 1)
  }
})

test("options are completed, and what is wrong with them is said", () => {
  const read = (options: object, env: NodeJS.ProcessEnv = {}) => settings(options, env)
  assert.deepEqual(read({ url: "http://a:8081", secret: SECRET }).targets, ["http://a:8081/hooks/default"])
  assert.deepEqual(read({ url: ["http://a:8081/hooks/shop", "http://a:8081/hooks/shop"], secret: SECRET }).targets, ["http://a:8081/hooks/shop"])
  const env = { ENDCAP_WEBHOOK_URL: "http://a:1, http://b:1", ENDCAP_WEBHOOK_SECRET: SECRET }
  assert.deepEqual(read({}, env).targets, ["http://a:1/hooks/default", "http://b:1/hooks/default"])
  const wrong: [object, RegExp][] = [
    [{ secret: SECRET }, /url is missing/],
    [{ url: "a:8081", secret: SECRET }, /must be http/],
    [{ url: "nonsense", secret: SECRET }, /is no URL/],
    [{ url: "http://a" }, /secret is missing/],
    [{ url: "http://a", secret: "x" }, /whsec_/],
    [{ url: "http://a", secret: SECRET, urls: [] }, /no option urls/],
    [{ url: "http://a", secret: SECRET, outbox: "disk" }, /table/],
    [{ url: "http://a", secret: SECRET, feed: "order.*" }, /feed/],
    [{ url: "http://a", secret: SECRET, stockInLists: "never" }, /"exact" or "age"/],
  ]
  for (const [options, text] of wrong) assert.throws(() => read(options), text)
})

test("what changes no public answer is not sent, unless asked for", () => {
  const { sends } = settings({ url: "http://a", secret: SECRET, ignore: ["erp.*"], also: ["order.placed"] }, {})
  const said = ["product.updated", "order.return-reason.updated", "order.placed", "LinkProductSalesChannel.attached", "hero-banner.updated"]
  const unsaid = ["order.canceled", "cart.updated", "LinkOrderCart.attached", "erp.synced"]
  assert.deepEqual([...said, ...unsaid].filter(sends), said)
})

test("orders are told of to those who listen, customers only where that is asked for, and rows of neither", () => {
  const names = ["order.placed", "order.order-item.created", "customer.updated", "customer.customer.updated", "cart.updated"]
  const told = (options: object) => names.filter(settings({ url: "http://a", secret: SECRET, ...options }, {}).tells)
  assert.deepEqual(told({}), ["order.placed"])
  assert.deepEqual(told({ feed: true }), ["order.placed", "customer.updated"])
  assert.deepEqual(told({ feed: false }), [])
  assert.deepEqual(told({ feed: ["customer.*.updated", "cart.*"] }), ["customer.customer.updated", "cart.updated"])
  assert.deepEqual(told({ ignore: ["order.placed"] }), [])
})
