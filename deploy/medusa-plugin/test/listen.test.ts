import assert from "node:assert/strict"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { mock, test } from "node:test"

/** What deploy/admin-events/listen.js needs of a browser. */
type Source = { href: string; isOpen: boolean; onmessage(message: { data: string; lastEventId: string }): void; onerror(): void }
type Listen = (options: { url: string; ticket: () => Promise<string>; tell: (told: unknown) => void; Source: unknown; random: () => number }) => () => void

const MODULE = `data:text/javascript,${encodeURIComponent(readFileSync(join(__dirname, "../../../../admin-events/listen.js"), "utf8"))}`
const settle = () => new Promise((done) => setImmediate(done))

test("a page comes back later after each failure in a row, by chance sooner, and soon again once it was told something", async () => {
  mock.timers.enable({ apis: ["setTimeout"] })
  try {
    const { listen } = (await import(MODULE)) as { listen: Listen }
    const sources: Source[] = []
    const Source = function (this: Source, href: string) {
      Object.assign(this, { href, isOpen: true, close: () => (this.isOpen = false) })
      sources.push(this)
    }
    let tickets = 0
    let isRefused = true
    const ticket = async () => {
      tickets += 1
      if (isRefused) throw new Error("no ticket: 401")
      return `t${tickets}`
    }
    const told: unknown[] = []
    const random = { by: 0 }
    const end = listen({ url: "http://endcap", ticket, tell: (one) => told.push(one), Source, random: () => random.by })
    /** It comes back after so many ms, and not before. */
    const back = async (ms: number) => {
      await settle()
      const before = tickets
      mock.timers.tick(ms - 1)
      assert.equal(tickets, before, `before ${ms}`)
      mock.timers.tick(1)
      assert.equal(tickets, before + 1, `after ${ms}`)
    }
    for (const ms of [2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]) await back(ms)
    assert.equal(sources.length, 0, "who is refused a ticket asks for no events")
    isRefused = false
    await back(60_000)
    await settle()
    const [first] = sources as [Source]
    first.onmessage({ data: '{"event":"hello"}', lastEventId: "7" })
    first.onmessage({ data: '{"event":"order.placed"}', lastEventId: "8" })
    assert.deepEqual(told, [{ event: "order.placed" }])
    random.by = 1
    first.onerror()
    await back(1_000)
    await settle()
    assert.equal(first.isOpen, false)
    assert.equal(sources[1]?.href, `http://endcap/events?ticket=t${tickets}&after=8`)
    end()
    sources[1]?.onerror()
    const before = tickets
    mock.timers.tick(120_000)
    assert.deepEqual([tickets, sources[1]?.isOpen], [before, false], "who left does not come back")
  } finally {
    mock.timers.reset()
  }
})
