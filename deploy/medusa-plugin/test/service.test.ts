import assert from "node:assert/strict"
import Module from "node:module"
import { mock, test } from "node:test"
import { DEAD } from "../src/lib/deadman"
import { WINDOW_MS } from "../src/lib/reporter"
import { ANSWER_MS } from "../src/lib/store"
import EndcapService from "../src/modules/endcap/service"

/** What stands for the shop: its database, the bus that releases events, and endcap, which takes all. */
class Shop {
  readonly lines: string[] = []
  /** What lies in the table, by id, and what was sent. */
  readonly kept = new Map<string, string>()
  readonly sent: string[] = []
  readonly service = new EndcapService({}, { url: "http://endcap", secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" })
  readonly #interceptors = new Set<(released: object) => void>()
  readonly bus = {
    addInterceptor: (one: (released: object) => void) => this.#interceptors.add(one),
    removeInterceptor: (one: (released: object) => void) => this.#interceptors.delete(one),
    emit: async (_: object) => {},
    releaseGroupedEvents: async (_: string) => {},
    clearGroupedEvents: async (_: string) => {},
  }

  /** What statements the database never answers. */
  constructor(hangs = /^never$/) {
    const line = (text: string) => void this.lines.push(text)
    const raw = async (statement: string, values: string[]) => {
      if (hangs.test(`${statement} ${values.join(" ")}`)) await new Promise(() => {})
      if (/to_regclass/.test(statement)) return { rows: [{ there: true }] }
      if (/^insert/.test(statement)) for (let at = 0; at < values.length; at += 4) this.kept.set(values[at]!, values[at + 2]!)
      if (/^delete from endcap_outbox where id in/.test(statement)) for (const id of values) this.kept.delete(id)
      return { rows: [] }
    }
    const parts: Record<string, unknown> = { logger: { info: line, warn: line, error: line }, __pg_connection__: { raw }, event_bus: this.bus }
    const framework = { container: { resolve: (part: string) => parts[part] } }
    const load = (Module as any)._load
    mock.method(Module as any, "_load", (name: string, ...more: unknown[]) => (name === "@medusajs/framework" ? framework : load(name, ...more)))
    mock.method(globalThis, "fetch", async (_: string, { body }: { body: string }) => (this.sent.push(body), new Response('{"purged":1}')))
    mock.timers.enable({ apis: ["setTimeout", "setInterval"] })
  }

  /** Is there a parcel that says "everything", should this process die? */
  get isVouchedFor(): boolean {
    return [...this.kept.keys()].some((id) => id.startsWith(DEAD))
  }

  release(id: string): void {
    for (const one of this.#interceptors) one({ name: "product-tag.updated", data: { id } })
  }

  /** As Medusa does it: a module that has no hook is not asked. */
  async hook(name: string): Promise<void> {
    await (this.service.__hooks as Record<string, (() => Promise<void>) | undefined>)[name]?.()
  }

  async settle(ms = 0): Promise<void> {
    mock.timers.tick(ms)
    for (let at = 0; at < 50; at++) await new Promise((done) => setImmediate(done))
  }
}

function staged(name: string, run: (shop: Shop) => Promise<void>, shop = () => new Shop()): void {
  test(name, async () => {
    try {
      await run(shop())
    } finally {
      mock.timers.reset()
      mock.restoreAll()
    }
  })
}

staged("events are heard from the first step of the start on, whatever the database does", async (shop) => {
  void shop.hook("onApplicationStart")
  shop.release("ptag_1")
  await shop.settle(WINDOW_MS)
  assert.match(shop.sent.join(), /ptag_1/)
}, () => new Shop(/./))

staged("events that jobs release while the shop prepares to stop are told, and later ones kept for the next process", async (shop) => {
  await shop.hook("onApplicationStart")
  await shop.settle()
  await shop.hook("onApplicationPrepareShutdown")
  shop.release("ptag_1")
  await shop.settle(WINDOW_MS)
  assert.match(shop.sent.join(), /ptag_1/)
  shop.release("ptag_2")
  await shop.hook("onApplicationShutdown")
  assert.match(shop.sent.join(), /ptag_2/)
  shop.release("ptag_3")
  await shop.settle(1)
  assert.doesNotMatch(shop.sent.join(), /ptag_3/)
  assert.match([...shop.kept.values()].join(), /ptag_3/)
  assert.deepEqual(shop.lines, [])
})

staged("what was collected is kept at once when the shop stops, though a look at the dates of price lists hangs", async (shop) => {
  await shop.hook("onApplicationStart")
  await shop.settle()
  shop.release("ptag_1")
  const stopped = shop.hook("onApplicationShutdown")
  await shop.settle()
  assert.match(shop.sent.join(), /ptag_1/)
  assert.equal(shop.isVouchedFor, false)
  // Its claim, and what it gives back.
  for (let at = 0; at < 2; at++) await shop.settle(ANSWER_MS)
  await stopped
}, () => new Shop(/^update[^]* price-clock/))

staged("what a job has committed is vouched for until its events are released", async (shop) => {
  await shop.hook("onApplicationStart")
  await shop.settle()
  await shop.bus.emit([{ name: "product.product.updated", data: { id: "prod_1" }, metadata: { eventGroupId: "g1" } }])
  await shop.settle()
  for (let at = 0; at < 6; at++) await shop.settle(10_000)
  assert.deepEqual([shop.isVouchedFor, (await shop.service.status())?.idle], [true, true])
  await shop.bus.releaseGroupedEvents("g1")
  await shop.settle(2_000)
  assert.equal(shop.isVouchedFor, false)
})
