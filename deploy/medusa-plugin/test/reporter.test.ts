import assert from "node:assert/strict"
import { EventEmitter } from "node:events"
import { mock, test } from "node:test"
import { BODY_BYTES_MAX, Event } from "../src/lib/events"
import { report } from "../src/lib/middleware"
import { Outbox } from "../src/lib/outbox"
import { EVENTS_MAX, Reporter } from "../src/lib/reporter"
import { MemoryStore } from "../src/lib/store"

const ROW = "01M7YJZFXB9RMGWYXB54YHDJW1"

/** A reporter whose deliveries are all taken, under a clock that stands still. */
function stage(shop: Partial<{ resolve: (events: Event[]) => Promise<Event[]>; clear: () => Promise<void> }> = {}) {
  mock.timers.enable({ apis: ["setTimeout", "setInterval"] })
  const sent: unknown[] = []
  const lines: string[] = []
  const log = { info: () => {}, warn: (text: string) => void lines.push(text), error: () => {} }
  const store = new MemoryStore()
  const outbox = new Outbox(["http://a"], store, async (parcel) => (sent.push(JSON.parse(parcel.body).events), { kind: "taken" }), log)
  const reporter = new Reporter({ sends: (name) => name !== "cart.updated", resolve: async (events) => events, clear: async () => {}, log, ...shop }, outbox)
  const settle = async (ms = 0) => {
    mock.timers.tick(ms)
    for (let at = 0; at < 50; at++) await new Promise((done) => setImmediate(done))
  }
  const dead = async () => (await store.claim("http://a", 9, 1)).length
  return { reporter, sent, lines, settle, dead, store }
}

function staged(name: string, run: () => Promise<void>): void {
  test(name, () => run().finally(() => mock.timers.reset()))
}

staged("the events of one moment travel together, each once, whatever the shape of their data", async () => {
  const { reporter, sent, settle } = stage()
  reporter.event("product.updated", { id: "prod_1" })
  reporter.event("product.updated", { id: "prod_1" })
  reporter.event("product.updated", [{ id: "prod_2", extra: { deep: 1 }, n: 1 }])
  reporter.event("product.updated", { id: ["prod_3", "prod_4"] })
  reporter.event("shipping-option.updated", "so_1")
  reporter.event("cart.updated", { id: "cart_1" })
  reporter.event("unknown", null)
  await settle(24)
  assert.deepEqual(sent, [])
  await settle(1)
  const ids = (text: string) => text.split(" ").map((id) => ({ id }))
  assert.deepEqual(sent, [[
    { type: "product.updated", data: ids("prod_1 prod_2 prod_3 prod_4") },
    { type: "shipping-option.updated", data: ids("so_1") },
    { type: "unknown", data: [{}] },
  ]])
})

staged("it is idle when nothing is collected, under way or waiting", async () => {
  const { reporter, settle } = stage()
  assert.equal((await reporter.status()).idle, true)
  const ended = reporter.begins()
  assert.equal((await reporter.status()).idle, false, "a request")
  ended({ method: "POST", path: `/admin/products/prod_${ROW}`, body: {}, status: 200 })
  assert.equal((await reporter.status()).idle, false, "an event")
  await settle(25)
  assert.equal((await reporter.status()).idle, true)
})

staged("what cannot be resolved in time goes as it is, and what cannot be told at all empties the cache", async () => {
  const slow = stage({ resolve: () => new Promise(() => {}) })
  slow.reporter.event("product.updated", { id: "prod_1" })
  await slow.settle(25)
  await slow.settle(5_000)
  assert.deepEqual(slow.sent, [[{ type: "product.updated", data: [{ id: "prod_1" }] }]])
  mock.timers.reset()
  const broken = stage({ resolve: () => Promise.reject(new Error("odd")) })
  broken.reporter.event("product.updated", { id: "prod_1" })
  await broken.settle(25)
  assert.deepEqual(broken.sent, [[{ type: "endcap.everything", data: [{}] }]])
  assert.match(broken.lines.join(), /emptied.*odd/)
})

staged("a burst beyond its bound is told as everything", async () => {
  const { reporter, sent, lines, settle } = stage()
  for (let at = 0; at <= EVENTS_MAX; at++) reporter.event("product.updated", { id: `prod_${at}` })
  await settle(25)
  assert.deepEqual(sent, [[{ type: "endcap.everything", data: [{}] }]])
  assert.match(lines.join(), /more than 50000 changes .* emptied/)
})

staged("a burst up to its bound is told in full, in deliveries of bounded size", async () => {
  const { reporter, sent, lines, settle } = stage()
  for (let at = 0; at < EVENTS_MAX; at++) reporter.event("product.updated", { id: `prod_${at}` })
  await settle(25)
  for (let at = 0; at < 20; at++) await settle()
  const ids = (sent as { data: { id: string }[] }[][]).flat().flatMap(({ data }) => data.map(({ id }) => id))
  assert.equal(new Set(ids).size, EVENTS_MAX)
  assert.equal(ids.length, EVENTS_MAX)
  for (const events of sent) assert.ok(JSON.stringify({ events }).length <= BODY_BYTES_MAX)
  assert.deepEqual(lines, [])
})

staged("while there is work in hand a dead man's parcel lies ready", async () => {
  const { reporter, settle, store } = stage()
  const parcels = async () => (await store.count("http://a", "-"))
  const ended = reporter.begins()
  await settle()
  assert.equal(await parcels(), 1)
  ended()
  await settle(1_999)
  assert.equal(await parcels(), 1)
  await settle(1)
  assert.equal(await parcels(), 0)
})

staged("the middleware reports when the handler is done, and only for who was let in", async () => {
  const { reporter, sent, settle } = stage()
  const request = (auth?: { actor_id: string }) => ({
    method: "POST", originalUrl: `/admin/price-lists/plist_${ROW}`, body: {}, scope: { resolve: () => reporter }, ...(auth ? { auth_context: auth } : {}),
  })
  const response = () => Object.assign(new EventEmitter(), { statusCode: 200, writableEnded: false })
  let nexts = 0
  const guest = response()
  report(request(), guest as never, () => nexts++)
  guest.writableEnded = true
  guest.emit("close")
  await settle(25)
  assert.deepEqual(sent, [])
  const hungUp = response()
  report(request({ actor_id: "user_1" }), hungUp as never, () => nexts++)
  hungUp.emit("close")
  await settle(1_000)
  assert.deepEqual(sent, [], "the client is gone, the handler is not done")
  hungUp.writableEnded = true
  await settle(250)
  await settle(25)
  assert.equal(sent.length, 1)
  assert.equal(nexts, 2)
})

staged("an edit of a product's content is told as such, and nothing that the shop's own code did besides", async () => {
  const { reporter, sent, settle } = stage()
  const emit = (...names: string[]) => names.forEach((name) => reporter.event(name, { id: `prod_${ROW}` }))
  const handle = async (path: string, body: unknown, ...names: string[]): Promise<unknown> => {
    const response = Object.assign(new EventEmitter(), { statusCode: 200, writableEnded: true })
    const request = { method: "POST", originalUrl: path, body, scope: { resolve: () => reporter } }
    // Emitted by what the handler began, as a workflow does.
    await new Promise<void>((done) => report(request, response as never, () => setImmediate(() => (emit(...names), done()))))
    response.emit("close")
    await settle(25)
    return (sent.splice(0) as { type: string }[][]).flat().map(({ type }) => type)
  }
  const P = `/admin/products/prod_${ROW}`
  const both = ["product.product.updated", "product.updated"]
  const content = ["endcap.product-content"]
  assert.deepEqual(await handle(`${P}?fields=id`, { title: "x", metadata: {} }, ...both), content)
  assert.deepEqual(await handle("/admin/products/batch", { update: [{ id: `prod_${ROW}`, title: "x" }] }, "product.updated"), content)
  assert.deepEqual(await handle(P, { variants: [{ id: "variant_1", prices: [] }, { id: "variant_2" }] }, "product.updated"), content)
  assert.deepEqual(await handle(P, { title: "x" }, ...both, "product.updated"), [...content, "product.updated"], "a hook wrote too")
  assert.deepEqual(await handle(P, { title: "x" }, "product-variant.updated"), ["product-variant.updated"])
  for (const [path, body] of [
    [P, { title: "x", status: "draft" }],
    [P, { title: "x", additional_data: { shelf: 1 } }],
    [P, undefined],
    [P, { variants: [{ id: "variant_1", prices: [], sku: "x" }] }],
    ["/admin/products/batch", { update: [{ id: `prod_${ROW}`, title: "x" }], delete: ["prod_2"] }],
    ["/admin/products/batch", { update: [{ id: "prod_2", title: "x" }] }],
    [`${P}/variants`, { title: "x" }],
    ["/admin/collections/x/products", { add: [`prod_${ROW}`] }],
  ] as const) {
    assert.deepEqual(await handle(path, body, "product.updated"), ["product.updated"], `${path} ${JSON.stringify(body)}`)
  }
})
