import assert from "node:assert/strict"
import { mock, test } from "node:test"
import { Event } from "../src/lib/events"
import { ANSWER_MS, MemoryStore } from "../src/lib/store"
import { CLOCK, LISTS_MAX, lookAtLists, Looked, PriceClock } from "../src/lib/windows"

const DAY_MS = 86_400_000

/** Price lists and their dates in ms, and as many processes as are started, under a clock that stands still. */
class Stage {
  now = 1_000 * DAY_MS
  dates: [string, number][] = []
  looks = 0
  isBroken = false
  hangs = false
  readonly told: Event[] = []
  readonly lines: string[] = []
  readonly store = new MemoryStore(() => this.now)
  readonly #clocks: PriceClock[] = []

  constructor() {
    mock.timers.enable({ apis: ["setTimeout"] })
  }

  start(tell = async (events: Event[]): Promise<void> => void this.told.push(...events)): PriceClock {
    const clock = new PriceClock(this.store, (from) => this.#look(from), tell, (text) => void this.lines.push(text), () => this.now)
    this.#clocks.push(clock)
    clock.start()
    return clock
  }

  async #look(from: string): Promise<Looked> {
    this.looks += 1
    if (this.hangs) await new Promise(() => {})
    if (this.isBroken) throw new Error("no database")
    const since = Date.parse(from)
    const next = Math.min(...this.dates.map(([, at]) => at).filter((at) => at > this.now)) - this.now
    const lists = this.dates.filter(([, at]) => at >= since && at <= this.now).map(([id]) => id)
    return { until: new Date(this.now).toISOString(), lists, ...(Number.isFinite(next) ? { next: next + 1 } : {}) }
  }

  async settle(): Promise<void> {
    for (let at = 0; at < 50; at++) await new Promise((done) => setImmediate(done))
  }

  /** Lets time pass, in steps. */
  async pass(ms: number, step = ms): Promise<void> {
    for (let left = ms; left > 0; left -= step) {
      this.now += Math.min(step, left)
      mock.timers.tick(Math.min(step, left))
      await this.settle()
    }
  }

  /** Which lists were told of since the last time. */
  lists(): string[] {
    return this.told.splice(0).map(({ data }) => data["id"] ?? "all")
  }

  async end(): Promise<void> {
    for (const clock of this.#clocks) await clock.stop()
    mock.timers.reset()
  }
}

function staged(name: string, run: (stage: Stage) => Promise<void>): void {
  test(name, async () => {
    const stage = new Stage()
    await run(stage).finally(() => stage.end())
  })
}

staged("a price list is told of when its date comes, and once", async (stage) => {
  stage.dates = [["plist_1", stage.now + 12_300], ["plist_2", stage.now + 100 * DAY_MS]]
  stage.start()
  await stage.settle()
  await stage.pass(12_299, 100)
  assert.deepEqual(stage.lists(), [])
  await stage.pass(2, 1)
  assert.deepEqual(stage.told[0], { type: "pricing.price-list.updated", data: { id: "plist_1" }, notice: null })
  assert.deepEqual(stage.lists(), ["plist_1"])
  await stage.pass(60_000, 5_000)
  assert.deepEqual(stage.lists(), [])
  assert.ok(stage.looks < 20, `${stage.looks}`)
})

staged("a date farther than a timer reaches is told of, and one that was moved when it then comes", async (stage) => {
  stage.dates = [["plist_1", stage.now + 100 * DAY_MS], ["plist_2", stage.now + 10_000]]
  stage.start()
  await stage.settle()
  stage.dates[1] = ["plist_2", stage.now + 30_000]
  await stage.pass(29_999, 1_000)
  assert.deepEqual(stage.lists(), [])
  await stage.pass(5_000, 1_000)
  assert.deepEqual(stage.lists(), ["plist_2"])
  await stage.pass(99 * DAY_MS, DAY_MS)
  assert.deepEqual(stage.lists(), [])
  await stage.pass(DAY_MS)
  assert.deepEqual(stage.lists(), ["plist_1"])
})

staged("what came to pass while no process was there is told of by the next, and the first ever looks an hour back", async (stage) => {
  stage.dates = [["plist_0", stage.now - 2 * 3_600_000], ["plist_1", stage.now - 3_500_000], ["plist_2", stage.now + DAY_MS]]
  const first = stage.start()
  await stage.settle()
  assert.deepEqual(stage.lists(), ["plist_1"])
  await first.stop()
  await stage.pass(3 * DAY_MS)
  stage.start()
  await stage.settle()
  assert.deepEqual(stage.lists(), ["plist_2"])
})

staged("of several processes one tells, and where it dies before that is kept another does", async (stage) => {
  stage.dates = [["plist_1", stage.now + 10_000]]
  let wake = () => {}
  stage.start(() => new Promise((done) => (wake = done)))
  await stage.settle()
  stage.start()
  stage.start()
  await stage.settle()
  // Who is first is the one that dies; the others leave it half a minute.
  await stage.pass(10_001)
  await stage.pass(25_000, 5_000)
  const before = stage.lists()
  await stage.pass(15_000, 5_000)
  assert.deepEqual([...before, ...stage.lists()], ["plist_1"])
  wake()
})

staged("too many at once are all prices", async (stage) => {
  stage.dates = Array.from({ length: LISTS_MAX + 1 }, (_, at) => [`plist_${at}`, stage.now])
  stage.start()
  await stage.settle()
  assert.deepEqual(stage.lists(), ["all"])
})

staged("what cannot be read is said, and made good when it can", async (stage) => {
  stage.dates = [["plist_1", stage.now + 1_000]]
  stage.isBroken = true
  stage.start()
  await stage.settle()
  await stage.pass(20_000, 5_000)
  assert.match(stage.lines[0] ?? "", /dates of price lists cannot be read.*no database/)
  stage.isBroken = false
  await stage.pass(40_000, 5_000)
  assert.deepEqual(stage.lists(), ["plist_1"])
})

staged("where the store is out of reach a process looks for itself, and tells of each date once", async (stage) => {
  const gone = async () => Promise.reject(new Error("gone"))
  Object.assign(stage.store, { put: gone, claim: gone, release: gone })
  stage.dates = [["plist_1", stage.now - 3_500_000], ["plist_2", stage.now + 12_000]]
  stage.start()
  await stage.settle()
  await stage.pass(60_000, 1_000)
  assert.deepEqual([stage.lists(), stage.lines], [["plist_1", "plist_2"], []])
})

staged("where somebody empties the table the look begins anew, from where it was", async (stage) => {
  stage.dates = [["plist_1", stage.now + 4_000], ["plist_2", stage.now + 12_000]]
  stage.start()
  await stage.settle()
  await stage.pass(10_000, 1_000)
  assert.deepEqual(stage.lists(), ["plist_1"])
  await stage.store.drop([CLOCK])
  await stage.pass(60_000, 1_000)
  assert.deepEqual(stage.lists(), ["plist_2"])
})

staged("a database that does not answer holds up no look for long, and nobody who stops", async (stage) => {
  const hang = () => new Promise<never>(() => {})
  const { claim } = stage.store
  stage.dates = [["plist_1", stage.now + 10_000]]
  stage.store.claim = hang
  const clock = stage.start()
  await stage.settle()
  await stage.pass(20_000, 1_000)
  assert.deepEqual(stage.lists(), ["plist_1"])
  stage.store.claim = claim
  stage.hangs = true
  await stage.pass(10_000, 1_000)
  let isOver = false
  const stopped = clock.stop().then(() => (isOver = true))
  await stage.pass(2 * ANSWER_MS, 1_000)
  assert.equal(isOver, true)
  await stopped
  assert.match(stage.lines.join(), /dates of price lists cannot be read.*no answer within 5 s/)
})

test("lists are asked for the dates since the last look and the next to come", async () => {
  const asked: unknown[][] = []
  const sql = async (statement: string, values: unknown[]) => {
    if (statement.includes("now()")) return { rows: [{ now: "2026-01-02 00:00:00+00" }] }
    asked.push(values)
    return { rows: [{ id: "plist_1", ms: -5 }, { id: "plist_2", ms: 0 }, { id: "plist_3", ms: 1_500.2 }, { id: "plist_4", ms: 9_999 }] }
  }
  const found = await lookAtLists(sql, "2026-01-01T00:00:00Z")
  assert.deepEqual(found, { until: "2026-01-02 00:00:00+00", lists: ["plist_1", "plist_2"], next: 1_502 })
  assert.deepEqual(asked, [["2026-01-02 00:00:00+00", "2026-01-01T00:00:00Z", LISTS_MAX + 2]])
  assert.deepEqual(await lookAtLists(async (_, values) => ({ rows: values.length ? [] : [{ now: "x" }] }), ""), { until: "x", lists: [] })
})
