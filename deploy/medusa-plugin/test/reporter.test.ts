import assert from "node:assert/strict"
import { AsyncResource } from "node:async_hooks"
import { EventEmitter } from "node:events"
import { mock, test } from "node:test"
import { WIDER_MAX } from "../src/lib/content"
import { BODY_BYTES_MAX, Event, EVERYTHING } from "../src/lib/events"
import { report } from "../src/lib/middleware"
import { DEAD } from "../src/lib/deadman"
import { Outcome } from "../src/lib/deliver"
import { Outbox } from "../src/lib/outbox"
import { EVENTS_MAX, FLUSHES_MAX, Reporter, Shop, WINDOW_MS } from "../src/lib/reporter"
import { Row } from "../src/lib/rules"
import { MemoryStore } from "../src/lib/store"

const ROW = "01M7YJZFXB9RMGWYXB54YHDJW1"

/** A reporter whose deliveries are all taken, under a clock that stands still. */
function stage(shop: Partial<Shop> = {}, send = async (): Promise<Outcome> => ({ kind: "taken" })) {
  mock.timers.enable({ apis: ["setTimeout", "setInterval"] })
  const sent: unknown[] = []
  const lines: string[] = []
  const log = { info: () => {}, warn: (text: string) => void lines.push(text), error: () => {} }
  const store = new MemoryStore()
  const outbox = new Outbox(["http://a"], store, async (parcel) => (sent.push(JSON.parse(parcel.body).events), send()), log)
  const complaints: string[] = []
  const plain: Shop = {
    sends: (name) => !/^(cart|order)\./.test(name),
    tells: (name) => name.startsWith("order."),
    resolve: async (events) => events,
    clear: async () => {},
    complain: (text) => void complaints.push(text),
    log,
  }
  const reporter = new Reporter({ ...plain, ...shop }, outbox)
  const settle = async (ms = 0) => {
    mock.timers.tick(ms)
    for (let at = 0; at < 50; at++) await new Promise((done) => setImmediate(done))
  }
  const dead = async () => (await store.claim("http://a", 9, 1)).length
  return { reporter, sent, lines, complaints, settle, dead, store }
}

/** As the shop has it; `rows` are its products. */
const service = (reporter: Reporter, rows: (ids: string[]) => Promise<Row[]> = async () => []) => ({ begins: () => reporter.begins(), products: rows })

function staged(name: string, run: () => Promise<void>): void {
  test(name, () => run().finally(() => mock.timers.reset()))
}

staged("what Medusa's own cache does not take is said, and endcap is told all the same", async () => {
  const { reporter, sent, complaints, settle } = stage({ clear: () => Promise.reject(new Error("no Redis")) })
  await reporter.tell([{ type: "product.updated", data: { id: "prod_1" } }])
  await settle()
  assert.match(complaints.join(), /own cache could not be told.*no Redis/)
  assert.equal(sent.length, 1)
})

staged("the events of one moment travel together, each once, whatever the shape of their data", async () => {
  const { reporter, sent, settle } = stage()
  reporter.event("product-tag.updated", { id: "ptag_1" })
  reporter.event("product-tag.updated", { id: "ptag_1" })
  reporter.event("product-tag.updated", [{ id: "ptag_2", extra: { deep: 1 }, n: 1 }])
  reporter.event("product-tag.updated", { id: ["ptag_3", "ptag_4"] })
  reporter.event("shipping-option.updated", "so_1")
  reporter.event("cart.updated", { id: "cart_1" })
  reporter.event("unknown", null)
  await settle(WINDOW_MS - 1)
  assert.deepEqual(sent, [])
  await settle(1)
  const ids = (text: string) => text.split(" ").map((id) => ({ id }))
  assert.deepEqual(sent, [[
    { type: "product-tag.updated", data: ids("ptag_1 ptag_2 ptag_3 ptag_4") },
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
  await settle(WINDOW_MS)
  assert.equal((await reporter.status()).idle, true)
})

staged("what cannot be resolved in time goes as it is, and what cannot be told at all empties the cache", async () => {
  const slow = stage({ resolve: () => new Promise(() => {}) })
  slow.reporter.event("region.updated", { id: "reg_1" })
  await slow.settle(WINDOW_MS)
  await slow.settle(5_000)
  assert.deepEqual(slow.sent, [[{ type: "region.updated", data: [{ id: "reg_1" }] }]])
  mock.timers.reset()
  const broken = stage({ resolve: () => Promise.reject(new Error("odd")) })
  broken.reporter.event("product.updated", { id: "prod_1" })
  await broken.settle(WINDOW_MS)
  assert.deepEqual(broken.sent, [[{ type: "endcap.everything", data: [{}] }]])
  assert.match(broken.lines.join(), /emptied.*odd/)
})

staged("a burst beyond its bound is told as everything", async () => {
  const { reporter, sent, lines, settle } = stage()
  for (let at = 0; at <= EVENTS_MAX; at++) reporter.event("product.updated", { id: `prod_${at}` })
  await settle(WINDOW_MS)
  assert.deepEqual(sent, [[{ type: "endcap.everything", data: [{}] }]])
  assert.match(lines.join(), /more than 50000 changes .* emptied/)
})

staged("a burst up to its bound is told in full, in deliveries of bounded size", async () => {
  const { reporter, sent, lines, settle } = stage()
  for (let at = 0; at < EVENTS_MAX; at++) reporter.event("product.updated", { id: `prod_${at}` })
  await settle(WINDOW_MS)
  for (let at = 0; at < 20; at++) await settle()
  const ids = (sent as { data: { id: string }[] }[][]).flat().flatMap(({ data }) => data.map(({ id }) => id))
  assert.equal(new Set(ids).size, EVENTS_MAX)
  assert.equal(ids.length, EVENTS_MAX)
  for (const events of sent) assert.ok(JSON.stringify({ events }).length <= BODY_BYTES_MAX)
  assert.deepEqual(lines, [])
})

/** A reporter whose lookups wait to be let go, and how many are under way at most. */
function held(send?: () => Promise<Outcome>) {
  const asked: { events: Event[]; go: () => void }[] = []
  let [under, most] = [0, 0]
  const resolve = async (events: Event[]) => {
    most = Math.max(most, ++under)
    await new Promise<void>((go) => asked.push({ events, go }))
    under--
    return events
  }
  return { ...stage({ resolve }, send), asked, most: () => most }
}

staged("events that come for seconds are looked up a few moments at a time, and what comes meanwhile goes with the next", async () => {
  const { reporter, sent, settle, asked, most } = held()
  const seconds = async (windows: number) => {
    for (let at = 0; at < windows; at++) {
      for (let n = 0; n < 25; n++) reporter.event("product.updated", { id: `prod_${at}_${n}` })
      await settle(WINDOW_MS)
    }
  }
  await seconds(200)
  assert.deepEqual(asked.map(({ events }) => events.length), Array(FLUSHES_MAX).fill(25))
  asked.shift()!.go()
  await settle()
  assert.deepEqual(asked.map(({ events }) => events.length), [...Array(FLUSHES_MAX - 1).fill(25), (200 - FLUSHES_MAX) * 25], "at once")
  for (const { go } of asked.splice(0)) go()
  await settle()
  assert.deepEqual([most(), asked.length], [FLUSHES_MAX, 0])
  const ids = (sent as { data: unknown[] }[][]).flat().flatMap(({ data }) => data)
  assert.equal(ids.length, 200 * 25)
  // Nothing under way: no longer than the window.
  reporter.event("product.updated", { id: "prod_1" })
  await settle(WINDOW_MS)
  assert.equal(asked.length, 1)
})

staged("a slow lookup does not hold up what it has nothing to do with", async () => {
  const { reporter, sent, settle, asked, store } = held()
  reporter.event("product.updated", { id: "prod_1" })
  await settle(WINDOW_MS)
  reporter.event("region.updated", { id: "reg_1" })
  await settle(WINDOW_MS)
  asked.pop()!.go()
  await settle(2_000)
  assert.deepEqual(sent, [[{ type: "region.updated", data: [{ id: "reg_1" }] }]])
  assert.equal(await store.count("http://a", "-"), 1, "the other is vouched for")
  asked.pop()!.go()
  await settle()
  await settle(2_000)
  assert.deepEqual([sent.length, await store.count("http://a", "-")], [2, 0])
})

staged("what comes while flushes are under way has the same bound, however many windows it takes", async () => {
  const { reporter, sent, lines, settle, asked } = held()
  for (let at = 0; at < FLUSHES_MAX; at++) {
    reporter.event("product.updated", { id: `first_${at}` })
    await settle(WINDOW_MS)
  }
  for (let at = 0; at <= EVENTS_MAX; at++) {
    reporter.event("product.updated", { id: `prod_${at}` })
    if (at % 5_000 === 0) await settle(WINDOW_MS)
  }
  for (const { go } of asked.splice(0)) go()
  await settle()
  assert.deepEqual(asked.map(({ events }) => events), [[EVERYTHING]])
  asked.shift()!.go()
  await settle()
  assert.equal(JSON.stringify(sent.at(-1)), '[{"type":"endcap.everything","data":[{}]}]')
  assert.match(lines.join(), /more than 50000 changes .* emptied/)
})

staged("a shop that stops waits for the flush under way, and for what was collected meanwhile", async () => {
  const { reporter, sent, store, settle, asked } = held()
  reporter.event("product.updated", { id: "prod_1" })
  await settle(WINDOW_MS)
  reporter.event("product.updated", { id: "prod_2" })
  let isOver = false
  const stopped = reporter.stop().then(() => (isOver = true))
  await settle()
  asked.shift()!.go()
  reporter.event("product.updated", { id: "prod_3" })
  await settle()
  assert.deepEqual([isOver, await store.count("http://a", "-")], [false, 1], "vouched for")
  asked.shift()!.go()
  await settle()
  asked.shift()!.go()
  await stopped
  assert.deepEqual([sent.length, await store.count("http://a", "-")], [3, 0])
})

staged("a shop stops though a job goes on", async () => {
  const { reporter, settle, asked } = held()
  let isOver = false
  reporter.event("product.updated", { id: "prod_0" })
  const stopped = reporter.stop().then(() => (isOver = true))
  for (let n = 1; n < 30; n++) {
    await settle(500)
    reporter.event("product.updated", { id: `prod_${n}` })
    for (const { go } of asked.splice(0)) go()
    await settle()
  }
  assert.equal(isOver, true)
  await stopped
})

staged("what comes when the shop has stopped is kept as it is, at once, and nothing else stays behind", async () => {
  let answer = () => {}
  const { reporter, sent, settle, asked, store } = held(() => new Promise((done) => (answer = () => done({ kind: "taken" }))))
  const kept = async (but: string) => [asked.length, sent.length, await store.count("http://a", but)]
  reporter.event("region.updated", { id: "reg_1" })
  await settle(WINDOW_MS)
  asked.shift()!.go()
  await settle()
  const stopped = reporter.stop()
  await settle()
  reporter.event("product.updated", { id: "prod_1" })
  await settle(1)
  assert.deepEqual(await kept(DEAD), [0, 1, 2], "a delivery is under way")
  answer()
  await stopped
  reporter.event("product.updated", { id: "prod_2" })
  await settle(1)
  assert.deepEqual(await kept("-"), [0, 1, 2])
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
  await settle(WINDOW_MS)
  assert.deepEqual(sent, [])
  const hungUp = response()
  report(request({ actor_id: "user_1" }), hungUp as never, () => nexts++)
  hungUp.emit("close")
  await settle(1_000)
  assert.deepEqual(sent, [], "the client is gone, the handler is not done")
  hungUp.writableEnded = true
  await settle(250)
  await settle(WINDOW_MS)
  assert.equal(sent.length, 1)
  assert.equal(nexts, 2)
})

staged("a request whose client hung up before its handler began is reported when that is done", async () => {
  const { reporter, sent, settle } = stage()
  const gone = Object.assign(new EventEmitter(), { statusCode: 200, writableEnded: false, destroyed: true })
  const request = { method: "POST", originalUrl: "/admin/x", body: {}, auth_context: { actor_id: "user_1" }, scope: { resolve: () => service(reporter) } }
  report(request, gone as never, () => {})
  await settle(1_000)
  assert.deepEqual(sent, [])
  gone.writableEnded = true
  await settle(250)
  await settle(WINDOW_MS)
  assert.deepEqual([sent.length, (await reporter.status()).idle], [1, true])
})

staged("an edit of a product's content is told as such, and what the shop's own code did besides as what may change lists", async () => {
  const { reporter, sent, settle } = stage()
  const emit = (names: readonly string[]) =>
    names.forEach((text) => {
      const [name = "", group = "g1"] = text.split(" ")
      reporter.event(name, { id: `prod_${ROW}` }, group === "-" ? undefined : group)
    })
  const handle = async (path: string, body: unknown, ...names: string[]): Promise<unknown> => {
    const response = Object.assign(new EventEmitter(), { statusCode: 200, writableEnded: true })
    const request = { method: "POST", originalUrl: path, body, scope: { resolve: () => service(reporter) } }
    // Emitted by what the handler began, as a workflow does.
    await new Promise<void>((done) => report(request, response as never, () => setImmediate(() => (emit(names), done()))))
    response.emit("close")
    await settle(WINDOW_MS)
    return (sent.splice(0) as { type: string }[][]).flat().map(({ type }) => type)
  }
  const P = `/admin/products/prod_${ROW}`
  const batch = { update: [{ id: `prod_${ROW}`, title: "x" }] }
  const both = ["product.product.updated", "product.updated"]
  // Two names that are told, so two lines of one purge.
  const content = ["endcap.product-content"]
  const listing = ["endcap.product-listing"]
  assert.deepEqual(await handle(`${P}?fields=id`, { title: "x", metadata: {} }, ...both), [...content, ...content])
  assert.deepEqual(await handle("/admin/products/batch", batch, "product.updated"), content)
  assert.deepEqual(await handle(P, { variants: [{ id: "variant_1", prices: [] }, { id: "variant_2" }] }, "product.updated"), content)
  assert.deepEqual(await handle(P, { title: "x" }, "product-variant.updated"), ["product-variant.updated"])
  // A hook or a subscriber wrote too: in the same group, in another, in none; after, or before.
  for (const names of [[...both, "product.updated"], [...both, "product.updated g2"], ["product.updated", "product.updated -"], ["product.updated g2", "product.updated"], ["product.updated", "product.product.updated g2"]]) {
    const told = (await handle(P, { title: "x" }, ...names)) as string[]
    assert.ok(told.includes("endcap.product-listing"), names.join())
  }
  // Images and prices of variants are no rows of the product's own.
  for (const body of [{ images: [] }, { variants: [] }]) {
    const told = (await handle(P, body, "product.product.updated", "product.updated")) as string[]
    assert.deepEqual(told, [...content, ...listing], JSON.stringify(body))
  }
  for (const names of [["product.product.updated -"], ["product.product.updated"], ["product.product.updated g2"]]) {
    const told = (await handle("/admin/products/batch", batch, ...names, "product.updated")) as string[]
    assert.ok(told.includes("endcap.product-listing"), names.join())
  }
  assert.deepEqual(await handle(P, { title: "x" }, "product.updated -"), listing, "what has no group cannot be told")
  for (const [path, body] of [
    [P, { title: "x", status: "draft" }],
    [P, { title: "x", additional_data: { shelf: 1 } }],
    [P, undefined],
    [P, { variants: [{ id: "variant_1", prices: [], sku: "x" }] }],
    ["/admin/products/batch", { ...batch, delete: ["prod_2"] }],
    ["/admin/products/batch", { update: [{ id: "prod_2", title: "x" }] }],
    [`${P}/variants`, { title: "x" }],
    ["/admin/collections/x/products", { add: [`prod_${ROW}`] }],
  ] as const) {
    assert.deepEqual(await handle(path, body, "product.updated"), listing, `${path} ${JSON.stringify(body)}`)
  }
})

staged("what a form says of a product that is as it was changes no list, as far as that is known in time", async () => {
  const { reporter, sent, settle } = stage()
  const id = `prod_${ROW}`
  const long = new Date(Date.now() - 1_000)
  const row = { id, status: "published", handle: "shirt", weight: "300", discountable: true, type_id: null, updated_at: long }
  const form = { title: "x", status: "published", handle: "shirt", discountable: true }
  const save = async (body: object, rows: () => Promise<Row[]>, path = `/admin/products/${id}`) => {
    const response = Object.assign(new EventEmitter(), { statusCode: 200, writableEnded: true })
    const request = { method: "POST", originalUrl: path, body, scope: { resolve: () => service(reporter, rows) } }
    const emit = () => reporter.event("product.updated", { id }, "g1")
    await new Promise<void>((done) => report(request, response as never, () => setImmediate(() => (emit(), done()))))
    await settle(WINDOW_MS)
    return (sent.splice(0) as { type: string }[][]).flat().map(({ type }) => type)
  }
  const now = async () => [row]
  const content = ["endcap.product-content"]
  const listing = ["endcap.product-listing"]
  assert.deepEqual(await save(form, now), content)
  assert.deepEqual(await save({ ...form, weight: 300, type_id: null }, now), content)
  assert.deepEqual(await save({ update: [{ id, ...form }] }, now, "/admin/products/batch"), content)
  assert.deepEqual(await save({ update: [{ id, ...form }, { id, ...form, status: "draft" }] }, now, "/admin/products/batch"), listing, "named twice")
  for (const other of [{ status: "draft" }, { handle: "trousers" }, { weight: null }, { type_id: "ptyp_1" }, { tags: [] }, { material: "wool" }]) {
    assert.deepEqual(await save({ ...form, ...other }, now), listing, JSON.stringify(other))
  }
  assert.deepEqual(await save(form, async () => []), listing, "a row that is not there")
  assert.deepEqual(await save(form, async () => [{ ...row, updated_at: new Date(Date.now() + 1_000) }]), listing, "the request may have made it so")
  assert.deepEqual(await save(form, () => new Promise(() => {})), listing, "the handler was faster")
  assert.deepEqual(await save(form, () => Promise.reject(new Error("no database"))), listing)
})

staged("an edit that says what was so when it began is more than content where another changed that meanwhile", async () => {
  const { reporter, sent, settle } = stage()
  const products = [0, 1].map((at) => `prod_${String(at).padStart(26, "0")}`)
  const rows = products.map((id) => ({ id, status: "published", updated_at: new Date(Date.now() - 1_000) }))
  const update = products.map((id) => ({ id, title: "x", status: "published" }))
  const save = async (meanwhile: () => void) => {
    const response = Object.assign(new EventEmitter(), { statusCode: 200, writableEnded: true })
    const scope = { resolve: () => service(reporter, async () => rows) }
    const request = { method: "POST", originalUrl: "/admin/products/batch", body: { update }, scope }
    let handle = () => {}
    report(request, response as never, () => void (handle = AsyncResource.bind(() => products.forEach((id) => reporter.event("product.updated", { id }, "g1")))))
    await settle()
    meanwhile()
    await settle(WINDOW_MS)
    sent.splice(0)
    handle()
    await settle(WINDOW_MS)
    const told = (sent.splice(0) as { type: string; data: { id: string }[] }[][]).flat()
    return Object.fromEntries(told.flatMap(({ type, data }) => data.map(({ id }) => [Number(id.slice(5)), type])))
  }
  const [content, listing] = ["endcap.product-content", "endcap.product-listing"]
  const unpublished = (id: string) => reporter.event("product.updated", { id }, "g2")
  unpublished(products[0]!)
  await settle(WINDOW_MS)
  assert.deepEqual(await save(() => {}), { 0: content, 1: content }, "before the edit began")
  assert.deepEqual(await save(() => unpublished(products[0]!)), { 0: listing, 1: content })
  assert.deepEqual(await save(() => {}), { 0: content, 1: content }, "told before this one began")
  // What is remembered is bounded: beyond it each may have changed.
  const others = () => Array.from({ length: WIDER_MAX + 1 }, (_, at) => unpublished(`prod_other${at}`))
  assert.deepEqual(await save(others), { 0: listing, 1: listing })
  assert.deepEqual(await save(() => {}), { 0: content, 1: content })
})

staged("an import is told by what it changes: a thousand titles leave lists alone, a thousand states do not", async () => {
  const { reporter, sent, settle } = stage()
  const ids = Array.from({ length: 1_000 }, (_, at) => `prod_${String(at).padStart(26, "0")}`)
  const importing = async (fields: object) => {
    const response = Object.assign(new EventEmitter(), { statusCode: 200, writableEnded: true })
    const body = { update: ids.map((id) => ({ id, ...fields })) }
    const request = { method: "POST", originalUrl: "/admin/products/batch", body, scope: { resolve: () => service(reporter) } }
    const emit = () => ids.forEach((id) => reporter.event("product.updated", { id }, "g1"))
    await new Promise<void>((done) => report(request, response as never, () => setImmediate(() => (emit(), done()))))
    await settle(WINDOW_MS)
    const told = (sent.splice(0) as { type: string; data: { id: string }[] }[][]).flat()
    assert.deepEqual(told.flatMap(({ data }) => data.map(({ id }) => id)).sort(), ids)
    return [...new Set(told.map(({ type }) => type))]
  }
  assert.deepEqual(await importing({ title: "x", variants: [{ id: "variant_1", prices: [{ amount: 1, currency_code: "eur" }] }] }), ["endcap.product-content"])
  assert.deepEqual(await importing({ title: "x", status: "draft" }), ["endcap.product-listing"])
})

staged("what is sent as something else keeps its own name for those who listen, and what nobody did keeps none", async () => {
  const { reporter, sent, settle } = stage()
  reporter.event("product.updated", { id: "prod_1" })
  reporter.event("product.updated", { id: "prod_2" })
  reporter.event("product-tag.updated", { id: "ptag_1" })
  reporter.begins()({ method: "POST", path: "/admin/x", body: {}, status: 200 })
  await settle(WINDOW_MS)
  assert.deepEqual(sent, [[
    { type: "POST:/admin/x", data: [{}], notice: null },
    { type: "endcap.product-listing", data: [{ id: "prod_1" }, { id: "prod_2" }], notice: { event: "product.updated", ids: ["prod_1", "prod_2"] } },
    { type: "product-tag.updated", data: [{ id: "ptag_1" }] },
  ]])
})

staged("what changes no public answer is told by its name and ids alone", async () => {
  const { reporter, sent, settle } = stage()
  reporter.event("order.placed", { id: "order_1", email: "a@b.c" })
  reporter.event("order.return_requested", { order_id: "order_2", return_id: "return_1" })
  reporter.event("order.archived", null)
  reporter.event("cart.updated", { id: "cart_1" })
  await settle(WINDOW_MS)
  assert.deepEqual(sent, [[
    { type: "order.archived", data: [{}] },
    { type: "order.placed", data: [{ id: "order_1" }] },
    { type: "order.return_requested", data: [{ id: "order_2" }] },
  ]])
})

staged("what is odd is said to the owner of the shop", async () => {
  const { reporter, complaints, settle } = stage()
  const check = (expected: RegExp | undefined, name: string, data: unknown) => {
    reporter.event(name, data)
    const said = complaints.splice(0).join()
    if (expected) assert.match(said, expected)
    else assert.equal(said, "")
  }
  check(undefined, "shipping-option.updated", `so_${ROW}`)
  check(/erp.synced carries a bare text/, "erp.synced", "all")
  for (const data of [null, true, {}, { id: {} }, [{}]]) check(/erp.synced does not say what it is about/, "erp.synced", data)
  check(undefined, "erp.synced", { shelf: "a" })
  check(undefined, "erp.synced", [])
  reporter.begins()({ method: "POST", path: `/admin/products/prod_${ROW}`, body: {}, status: 500 })
  assert.match(complaints.splice(0).join(), /^POST:\/admin\/products\/:id failed with 500: .*fetched anew$/)
  reporter.begins()({ method: "POST", path: "/admin/products", body: {}, status: 400 })
  assert.match(complaints.splice(0).join(), /^POST:\/admin\/products failed with 400/)
  reporter.begins()({ method: "POST", path: "/admin/erp", body: {}, status: 400 })
  assert.deepEqual(complaints, [], "it names nothing")
  await settle(WINDOW_MS)
})
