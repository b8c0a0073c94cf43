import assert from "node:assert/strict"
import { test } from "node:test"
import { adminEvents, IDS_MAX } from "../src/lib/admin"
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

test("a finished request is told by its route, the ids of its path, and each id that its body names", () => {
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
  const route = "POST:/admin/products/:id/variants/:id/images/batch"
  const base = { id: `prod_${ROW}`, prod: `prod_${ROW}`, variant: `variant_${OTHER}` }
  check("POST", `/admin/products/prod_${ROW}/variants/variant_${OTHER}/images/batch`, { add: [`img_${ROW}`], remove: [`img_${OTHER}`] }, [
    silent(route, { ...base, named: `img_${ROW}` }),
    silent(route, { ...base, named: `img_${OTHER}` }),
  ])
  check("DELETE", "/admin/uploads/x", undefined, [silent("DELETE:/admin/uploads/x", {})])
})

test("a request that failed names what it may have touched, and one with too many ids cannot be told", () => {
  const failed = { method: "POST", path: `/admin/products/prod_${ROW}`, body: { a: [{ id: `variant_${OTHER}` }] }, status: 400 }
  assert.deepEqual(adminEvents(failed), [
    silent("failed:POST:/admin/products/:id", { id: `prod_${ROW}` }),
    silent("failed:POST:/admin/products/:id", { id: `variant_${OTHER}` }),
    // A list that was filled in between may lack it.
    silent("endcap.product-listing", { id: `prod_${ROW}` }),
  ])
  assert.deepEqual(adminEvents({ method: "POST", path: "/admin/products", body: {}, status: 400 }), [])
  const ids = Array.from({ length: IDS_MAX + 2 }, (_, at) => `prod_${String(at).padStart(26, "0")}`)
  assert.equal(adminEvents({ method: "POST", path: "/admin/products/batch", body: { delete: ids }, status: 200 }), undefined)
  let deep: unknown = {}
  for (let at = 0; at < 20; at++) deep = { deep }
  assert.equal(adminEvents({ method: "POST", path: "/admin/x", body: deep, status: 200 }), undefined)
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
