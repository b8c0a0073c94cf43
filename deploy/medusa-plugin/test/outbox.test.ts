import assert from "node:assert/strict"
import { mock, test } from "node:test"
import { DEAD } from "../src/lib/deadman"
import { Outcome } from "../src/lib/deliver"
import { bodies, everything } from "../src/lib/events"
import { Outbox, PARCELS_MAX } from "../src/lib/outbox"
import { ANSWER_MS, MemoryStore, Parcel, Sql, Store, TableStore } from "../src/lib/store"

const A = "http://a/hooks/default"
const B = "http://b/hooks/default"
const TAKEN: Outcome = { kind: "taken" }
const LATER: Outcome = { kind: "later", why: "cannot be reached" }

/** An outbox whose deliveries are answered by hand, under a clock that stands still. */
class Stage {
  now = 0
  readonly sent: { parcel: Parcel; answer: (outcome: Outcome) => void }[] = []
  readonly lines: string[] = []
  readonly log = { info: this.#line("info"), warn: this.#line("warn"), error: this.#line("error") }
  readonly outbox: Outbox

  constructor(targets = [A], readonly store: Store = new MemoryStore(() => this.now)) {
    mock.timers.enable({ apis: ["setTimeout", "setInterval"] })
    const send = (parcel: Parcel) => new Promise<Outcome>((answer) => this.sent.push({ parcel, answer }))
    this.outbox = new Outbox(targets, store, send, this.log, () => 1, () => this.now)
  }

  #line(level: string) {
    return (text: string) => void this.lines.push(`${level} ${text}`)
  }

  /** Lets everything happen that needs no time. */
  async settle(): Promise<void> {
    for (let at = 0; at < 50; at++) await new Promise((done) => setImmediate(done))
  }

  async pass(ms: number): Promise<void> {
    this.now += ms
    mock.timers.tick(ms)
    await this.settle()
  }

  async answer(outcome: Outcome): Promise<Parcel> {
    await this.settle()
    const { parcel, answer } = this.sent.shift() ?? assert.fail("nothing was sent")
    answer(outcome)
    await this.settle()
    return parcel
  }

  async pending(): Promise<number[]> {
    return (await this.outbox.status()).map((target) => target.pending)
  }
}

function staged(name: string, run: (stage: Stage) => Promise<void>, stage = () => new Stage()): void {
  test(name, async () => {
    try {
      await run(stage())
    } finally {
      mock.timers.reset()
    }
  })
}

staged("what is taken is forgotten, by each endcap apart", async (stage) => {
  await stage.outbox.add(["x"])
  const parcels = [await stage.answer(TAKEN), stage.sent[0]!.parcel]
  assert.deepEqual(parcels.map(({ target, body }) => [target, body]), [[A, "x"], [B, "x"]])
  assert.deepEqual(await stage.pending(), [0, 1])
}, () => new Stage([A, B]))

staged("a delivery that throws is tried again", async (stage) => {
  const tries: string[] = []
  const send = async ({ id }: Parcel): Promise<Outcome> => {
    if (tries.push(id) === 1) throw new Error("odd")
    return TAKEN
  }
  const outbox = new Outbox([A], stage.store, send, stage.log, () => 1, () => stage.now)
  await outbox.add(["x"])
  await stage.settle()
  assert.match(stage.lines.join(), /cannot be told: odd/)
  await stage.pass(200)
  assert.deepEqual([tries.length, new Set(tries).size, await stage.pending()], [2, 1, [0]])
})

staged("what was not taken is sent again with its id, after pauses that double", async (stage) => {
  await stage.outbox.add(["x"])
  const first = await stage.answer(LATER)
  assert.deepEqual(await stage.pending(), [1])
  assert.match(stage.lines.join(), /warn endcap: http:\/\/a.* cannot be reached/)
  for (const pause of [200, 400, 800]) {
    await stage.pass(pause - 1)
    assert.equal(stage.sent.length, 0, `${pause}`)
    await stage.pass(1)
    assert.equal((await stage.answer(pause === 800 ? TAKEN : LATER)).id, first.id)
  }
  assert.deepEqual(await stage.pending(), [0])
  assert.equal(stage.lines.filter((line) => line.startsWith("warn")).length, 1, "said once")
  assert.match(stage.lines.at(-1)!, /takes deliveries again/)
})

staged("an hour without endcap is tried through at half a minute each, said once, and then made good", async (stage) => {
  await stage.outbox.add(["x"])
  let tries = 0
  for (let second = 0; second < 3_600; second++) {
    for (; stage.sent.length > 0; tries++) await stage.answer(LATER)
    await stage.pass(1_000)
    if (second % 600 === 0) await stage.outbox.add([`at ${second}`])
  }
  assert.ok(tries > 100 && tries < 140, `${tries}`)
  assert.equal(stage.lines.length, 1)
  await stage.pass(30_000)
  const taken = []
  while (stage.sent.length > 0) taken.push((await stage.answer(TAKEN)).body)
  assert.deepEqual(taken.sort(), ["at 0", "at 1200", "at 1800", "at 2400", "at 3000", "at 600", "x"])
  assert.deepEqual(await stage.pending(), [0])
})

staged("endcap is believed when it says when to come again", async (stage) => {
  await stage.outbox.add(["x"])
  await stage.answer({ kind: "later", why: "busy", after: 7_000 })
  await stage.pass(6_999)
  assert.equal(stage.sent.length, 0)
  await stage.pass(1)
  assert.equal(stage.sent.length, 1)
})

staged("a target that fails is probed with one delivery, and nothing waits behind the one that failed", async (stage) => {
  await stage.outbox.add(["x"])
  await stage.answer(LATER)
  await stage.outbox.add(["y"])
  await stage.pass(200)
  assert.equal(stage.sent.length, 1)
  assert.equal((await stage.answer(TAKEN)).body, "y")
  assert.equal((await stage.answer(TAKEN)).body, "x")
})

staged("what is too large goes in halves, and one thing that is too large empties the cache", async (stage) => {
  const [body] = bodies([{ type: "a", data: { id: "1" } }, { type: "a", data: { id: "2" } }])
  await stage.outbox.add([body!])
  await stage.answer({ kind: "large" })
  const parts = [await stage.answer(TAKEN), await stage.answer({ kind: "large" })]
  assert.deepEqual(parts.map((part) => JSON.parse(part.body).events[0].data[0].id).sort(), ["1", "2"])
  assert.equal((await stage.answer(TAKEN)).body, everything())
  assert.deepEqual(await stage.pending(), [0])
  assert.match(stage.lines.join(), /error .* raise body_max .* emptied instead/)
})

staged("what endcap does not understand empties its cache, and that is sent until it is taken", async (stage) => {
  for (const outcome of [{ kind: "refused", why: "does not understand" }, { kind: "unknown", why: "does not know endcap.new" }] as const) {
    await stage.outbox.add(["x", "y"])
    await stage.answer(outcome)
    await stage.answer(outcome)
    assert.deepEqual([(await stage.answer(TAKEN)).body, (await stage.answer(TAKEN)).body], [everything(), everything()])
    assert.deepEqual(await stage.pending(), [0])
    assert.equal(stage.lines.length, 1, "said once")
    assert.match(stage.lines.splice(0).join(), new RegExp(`error .*${outcome.why}.*emptied instead`))
  }
  await stage.outbox.add([everything()])
  await stage.answer({ kind: "refused", why: "does not understand" })
  assert.deepEqual(await stage.pending(), [1])
  await stage.pass(200)
  // One that has rules of its own and none for this cannot be told.
  await stage.answer({ kind: "unknown", why: "does not know endcap.everything" })
  assert.deepEqual(await stage.pending(), [0])
  assert.match(stage.lines.at(-1)!, /by age alone/)
})

staged("what is refused is said again after it took something, and once a minute at the most", async (stage) => {
  const refusals = async (...outcomes: Outcome[]) => {
    for (const outcome of outcomes) {
      await stage.outbox.add(["x"])
      await stage.answer(outcome)
      if (outcome !== TAKEN) assert.equal((await stage.answer(TAKEN)).body, everything())
    }
    return stage.lines.splice(0).length
  }
  const refused: Outcome = { kind: "refused", why: "does not understand" }
  assert.equal(await refusals(refused, refused), 1)
  await stage.pass(60_000)
  assert.equal(await refusals(refused), 0, "it took nothing but what stood in")
  assert.equal(await refusals(TAKEN, refused, TAKEN, refused), 1)
  await stage.pass(59_999)
  assert.equal(await refusals(TAKEN, refused), 0)
  await stage.pass(1)
  assert.equal(await refusals(TAKEN, refused), 1)
})

staged(
  "what lay there for more than two days when a process starts empties the cache, and the log says so",
  async (stage) => {
    const lay = (id: string, target: string) => stage.store.put([{ id, target, body: id }], 0)
    for (const id of ["msg_1", "msg_2"]) await lay(id, A)
    await lay("msg_3", "http://gone")
    await lay("price-clock", "price-clock")
    await stage.pass(1)
    await lay("msg_4", B)
    await stage.pass(2 * 86_400_000)
    stage.outbox.start()
    await stage.settle()
    const sent = [await stage.answer(TAKEN), await stage.answer(TAKEN)].map(({ target, body }) => [target, body])
    assert.deepEqual(sent.sort(), [[A, everything()], [B, "msg_4"]])
    assert.deepEqual(stage.lines, [
      `warn endcap: what was kept for ${A} for more than two days (2) is given up; its cache is emptied instead`,
      "warn endcap: what was kept for http://gone for more than two days (1) is given up; it is no url of this plugin",
    ])
    const left = (target: string) => stage.store.count(target, "-")
    assert.deepEqual([await stage.pending(), await left("http://gone"), await left("price-clock")], [[0, 0], 0, 1])
    // What begins anew says nothing.
    stage.outbox.start()
    await stage.settle()
    assert.deepEqual([stage.sent.length, stage.lines.length], [0, 2])
  },
  () => new Stage([A, B]),
)

staged(
  "what finds room is sent while it is being kept, and forgotten only when it is kept",
  async (stage) => {
    const slow = stage.store as SlowStore
    let isKept = false
    const added = stage.outbox.add(["x"]).then(() => (isKept = true))
    assert.equal((await stage.answer(TAKEN)).body, "x")
    assert.deepEqual([slow.held, isKept], [["put"], false])
    await slow.go(stage)
    await added
    assert.deepEqual(await stage.pending(), [0])
    assert.deepEqual(slow.held, [])
  },
  () => new Stage([A], new SlowStore()),
)

staged(
  "beyond the room it waits until it is kept",
  async (stage) => {
    const slow = stage.store as SlowStore
    const added = stage.outbox.add(["1", "2", "3", "4", "5", "6"])
    await stage.settle()
    assert.equal(stage.sent.length, 4)
    await slow.go(stage)
    await added
    assert.deepEqual([stage.sent.length, (await stage.pending())[0]], [4, 6])
    const bodies = []
    for (let at = 0; at < 6; at++) bodies.push((await stage.answer(TAKEN), await slow.go(stage), stage.sent.map(({ parcel }) => parcel.body).join()))
    assert.deepEqual(bodies, ["2,3,4,5", "3,4,5,6", "4,5,6", "5,6", "6", ""])
    assert.deepEqual(await stage.pending(), [0])
  },
  () => new Stage([A], new SlowStore()),
)

staged("what is being sent is nobody else's", async (stage) => {
  await stage.outbox.add(["x"])
  const heir = new Outbox([A], stage.store, async (parcel) => (stage.sent.push({ parcel, answer: () => {} }), TAKEN), stage.log)
  heir.start()
  await stage.settle()
  assert.equal(stage.sent.length, 1)
  await heir.stop()
})

staged("a target that rests, or is probed, is not bypassed by what is new", async (stage) => {
  await stage.outbox.add(["x"])
  await stage.answer(LATER)
  await stage.outbox.add(["y"])
  await stage.settle()
  assert.equal(stage.sent.length, 0, "it rests")
  await stage.pass(200)
  await stage.outbox.add(["z"])
  await stage.settle()
  assert.equal(stage.sent.length, 1, "it is probed")
})

staged("a target that failed is probed with what is kept alone, though nothing is left to probe it with", async (stage) => {
  await stage.outbox.add(["x"])
  const { id } = await stage.answer(LATER)
  await stage.store.drop([id])
  await stage.pass(200)
  const put = stage.store.put.bind(stage.store)
  let keep = () => {}
  stage.store.put = async (...parcels) => (await new Promise<void>((go) => (keep = go)), put(...parcels))
  void stage.outbox.add(["y"])
  await stage.settle()
  assert.equal(stage.sent.length, 0)
  keep()
  assert.equal((await stage.answer(TAKEN)).body, "y")
})

staged("what is given back is sent again when the target has rested, though the store has it late", async (stage) => {
  const { store } = stage
  const release = store.release.bind(store)
  store.release = (id, delayMs) => release(id, delayMs + 50)
  await stage.outbox.add(["x"])
  await stage.answer(LATER)
  await stage.pass(200)
  assert.equal(stage.sent.length, 1)
})

staged("a look for what others left keeps nothing that is new waiting", async (stage) => {
  const { store } = stage
  store.claim = () => new Promise(() => {})
  stage.outbox.start()
  await stage.settle()
  await stage.outbox.add(["x"])
  assert.equal(stage.sent.length, 1)
})

staged("an endcap that is slower than the shop is bounded too, and one that keeps up is not counted", async (stage) => {
  const { store } = stage
  const count = store.count.bind(store)
  let counts = 0
  store.count = (...of) => (counts++, count(...of))
  for (let at = 0; at < 9; at++) {
    await stage.outbox.add(["x"])
    await stage.answer(TAKEN)
  }
  assert.equal(counts, 0)
  await stage.outbox.add(["1", "2", "3", "4"])
  for (let at = 0; at < PARCELS_MAX - 3; at++) await stage.outbox.add([String(at)])
  await stage.settle()
  assert.equal((await stage.pending())[0], 1, "all but everything")
  for (let at = 0; at < 4; at++) await stage.answer(TAKEN)
  assert.equal((await stage.answer(TAKEN)).body, everything())
  assert.equal(stage.lines.length, 1)
})

staged("beyond its bound the outbox says everything in one delivery", async (stage) => {
  await stage.outbox.add(["x"])
  await stage.answer(LATER)
  await stage.outbox.add(Array.from({ length: PARCELS_MAX }, (_, at) => String(at)))
  await stage.settle()
  assert.deepEqual(await stage.pending(), [1])
  await stage.pass(200)
  assert.equal((await stage.answer(TAKEN)).body, '{"events":[{"type":"endcap.everything","data":[{}]}]}')
})

staged("two that fold at once leave one that says everything, and what came later", async (stage) => {
  const { store } = stage
  const parcel = (id: string, target = A) => ({ id, target, body: id })
  await store.put([parcel("msg_1"), parcel("msg_b", B), parcel(`${DEAD}1`)], 0)
  await Promise.all([store.fold(parcel("msg_3"), DEAD), store.fold(parcel("msg_2"), DEAD), store.put([parcel("msg_0")], 0)])
  const left = [...(await store.claim(A, 9, 0)), ...(await store.claim(B, 9, 0))].map(({ id }) => id)
  assert.deepEqual(left.sort(), [`${DEAD}1`, "msg_0", "msg_2", "msg_b"])
  await store.fold(parcel("msg_4"), DEAD)
  await store.drop(["msg_4"])
  assert.equal(await store.count(A, DEAD), 0)
})

test("the table forgets nothing that is as young as what stands for it", async () => {
  const asked: [string, unknown[]][] = []
  const sql: Sql = async (statement, values) => {
    if (/to_regclass/.test(statement)) return { rows: [{ there: true }] }
    asked.push([statement.replace(/\s+/g, " "), values])
    return { rows: [] }
  }
  await new TableStore(sql).fold({ id: "msg_1", target: A, body: "x" }, DEAD)
  assert.match(asked[0]![0], /^insert/)
  assert.match(asked[1]![0], /^delete .* \(created_at, id\) < \(select created_at, id from endcap_outbox where id = \?\)$/)
  assert.deepEqual(asked[1]![1], [A, DEAD, "msg_1"])
})

/** A database in which somebody may make a table, or not; what it was asked is kept by its first word. */
class Database {
  readonly asked: string[] = []

  constructor(public isThere: boolean, private readonly make: (database: Database) => void = () => {}) {}

  readonly sql: Sql = async (statement) => {
    if (/to_regclass/.test(statement)) return { rows: [{ there: this.isThere }] }
    const verb = statement.trim().split(" ")[0] ?? ""
    this.asked.push(verb)
    if (verb === "create") {
      this.make(this)
      this.isThere = true
    }
    if (!this.isThere) throw new Error('relation "endcap_outbox" does not exist')
    return { rows: [] }
  }
}
const refuse = () => {
  throw new Error("permission denied for schema public")
}
const PARCEL = { id: "msg_1", target: A, body: "x" }

test("a table that is there is used by who may make none, and one that is not is made once", async () => {
  const there = new Database(true, refuse)
  const missing = new Database(false)
  for (const { sql } of [there, missing]) {
    const store = new TableStore(sql)
    await Promise.all([store.put([PARCEL], 0), store.claim(A, 1, 0), store.drop(["msg_1"])])
    await store.put([PARCEL], 0)
  }
  assert.deepEqual(there.asked.sort(), ["delete", "insert", "insert", "update"])
  assert.deepEqual(missing.asked.sort(), ["create", "delete", "insert", "insert", "update"])
})

test("a table that may not be made is tried once a minute, and looked for at each question", async () => {
  const { sql, asked } = new Database(false, refuse)
  let now = 0
  const store = new TableStore(sql, () => now)
  for (now of [0, 1_000, 59_999, 60_000]) await assert.rejects(store.put([PARCEL], 0), /permission denied/)
  assert.deepEqual(asked, ["create", "create"])
})

test("of two processes that make the table at once the one that fails uses it too", async () => {
  const { sql, asked } = new Database(false, (database) => {
    database.isThere = true
    throw new Error('duplicate key value violates unique constraint "pg_type_typname_nsp_index"')
  })
  await new TableStore(sql).put([PARCEL], 0)
  assert.deepEqual(asked, ["create", "insert"])
})

staged("what is collected while there is no table moves into it when somebody makes it, and so where it was dropped", async (stage) => {
  const db = new Database(false, refuse)
  const busy: Outcome = { kind: "later", why: "busy", after: 60_000 }
  const outbox = new Outbox([A], new TableStore(db.sql), async () => busy, stage.log, () => 1, () => stage.now)
  outbox.start()
  const lines = () => stage.lines.splice(0).filter((line) => !line.includes("busy")).join("\n")
  const check = async (why: RegExp) => {
    await outbox.add(["x"])
    await stage.pass(5_000)
    assert.match(lines(), why)
    db.isThere = true
    await stage.pass(5_000)
    assert.match(lines(), /^info endcap: the outbox table can be reached again$/)
  }
  await check(/^warn endcap: .* kept in memory until it can: endcap_outbox is not there and cannot be made \(see the README\): permission denied for schema public$/)
  db.isThere = false
  await check(/^warn endcap: .* relation "endcap_outbox" does not exist$/)
})

test("a look for the table that hangs is given up, and the next who asks looks again", async () => {
  mock.timers.enable({ apis: ["setTimeout"] })
  try {
    const db = new Database(true)
    let isHung = true
    const store = new TableStore((...of) => (isHung ? new Promise(() => {}) : db.sql(...of)))
    const put = assert.rejects(store.put([PARCEL], 0), /no answer within 5 s/)
    mock.timers.tick(ANSWER_MS)
    await put
    isHung = false
    await store.put([PARCEL], 0)
    assert.deepEqual(db.asked, ["insert"])
  } finally {
    mock.timers.reset()
  }
})

staged("what waits is folded once at a time", async (stage) => {
  const { store } = stage
  const fold = store.fold.bind(store)
  let go = () => {}
  let folds = 0
  store.fold = async (...of) => (folds++, await new Promise<void>((done) => (go = done)), fold(...of))
  await stage.outbox.add(["x"])
  await stage.answer(LATER)
  await stage.outbox.add(Array.from({ length: PARCELS_MAX }, (_, at) => String(at)))
  await stage.settle()
  await stage.outbox.add(["y"])
  await stage.settle()
  assert.equal(folds, 1)
  go()
  await stage.settle()
  assert.deepEqual([folds, await stage.pending()], [1, [1]])
})

staged("a process that dies with work in hand leaves a parcel that says everything", async (stage) => {
  await stage.outbox.deadMan.arm()
  assert.deepEqual(await stage.pending(), [0], "it is not counted")
  await stage.pass(29_999)
  await stage.outbox.deadMan.arm()
  const heir = new Outbox([A], stage.store, async (parcel) => (stage.sent.push({ parcel, answer: () => {} }), TAKEN), stage.log)
  await stage.pass(29_999)
  heir.start()
  await stage.settle()
  assert.equal(stage.sent.length, 0, "put off")
  await stage.pass(5_000)
  assert.match(stage.sent[0]!.parcel.body, /endcap.everything/)
  await heir.stop()
})

staged("a process that is done calls its dead man's parcel off", async (stage) => {
  await stage.outbox.deadMan.arm()
  await stage.outbox.deadMan.disarm()
  await stage.pass(60_000)
  stage.outbox.start()
  await stage.settle()
  assert.equal(stage.sent.length, 0)
})

staged("a dead man's parcel that was taken while its process lives stands in for no later one", async (stage) => {
  await stage.outbox.deadMan.arm()
  await stage.pass(30_000)
  stage.outbox.start()
  const first = await stage.answer(TAKEN)
  await stage.outbox.deadMan.arm()
  await stage.pass(30_000)
  // endcap would take the same id for a retry of what it has done.
  assert.notEqual((await stage.answer(TAKEN)).id, first.id)
  assert.equal(stage.sent.length, 0)
})

staged(
  "a dead man's parcel that is called off and put down again lies there, however slow the store",
  async (stage) => {
    const slow = stage.store as SlowStore
    const { deadMan } = stage.outbox
    const check = async (expected: number, ...wishes: ("arm" | "disarm")[]) => {
      const done = wishes.map((wish) => deadMan[wish]())
      await slow.go(stage)
      await Promise.all(done)
      assert.equal(await slow.count(A, "-"), expected, wishes.join())
    }
    await check(0, "arm", "disarm")
    await check(1, "arm", "disarm", "arm")
    await check(1, "disarm", "arm")
    await check(0, "disarm")
  },
  () => new Stage([A], new SlowStore()),
)

staged(
  "a dead man's parcel is called off though the store said too late that it had it, or did not forget it",
  async (stage) => {
    const { deadMan } = stage.outbox
    const late = stage.store as LateStore
    for (const what of ["put", "drop"] as const) {
      await deadMan.arm()
      late.fails = what
      await deadMan.arm()
      late.fails = undefined
      await deadMan.arm()
      assert.equal(await late.count(A, "-"), 1, what)
      await deadMan.disarm()
      assert.equal(await late.count(A, "-"), 0, what)
    }
  },
  () => new Stage([A], new LateStore()),
)

/** Puts what it says that it could not, and does not drop what it says so of. */
class LateStore extends MemoryStore {
  fails?: "put" | "drop"

  override async put(parcels: Parcel[], delayMs: number): Promise<void> {
    await super.put(parcels, delayMs)
    if (this.fails === "put") throw new Error("no answer within 5 s")
  }

  override async drop(ids: string[]): Promise<void> {
    if (this.fails === "drop") throw new Error("no answer within 5 s")
    await super.drop(ids)
  }
}

/** Does what it is asked to when it is let go, the last first. */
class SlowStore extends MemoryStore {
  readonly #held: { what: string; go: () => void }[] = []

  get held(): string[] {
    return this.#held.map(({ what }) => what)
  }

  #hold(what: string): Promise<void> {
    return new Promise((go) => void this.#held.push({ what, go }))
  }

  override async put(parcels: Parcel[], delayMs: number): Promise<void> {
    await this.#hold("put")
    await super.put(parcels, delayMs)
  }

  override async drop(ids: string[]): Promise<void> {
    await this.#hold("drop")
    await super.drop(ids)
  }

  async go(stage: Stage): Promise<void> {
    for (await stage.settle(); this.#held.length > 0; await stage.settle()) this.#held.pop()!.go()
  }
}

staged("another process sends what one left behind, once its lease is over", async (stage) => {
  await stage.outbox.add(["x"])
  await stage.settle()
  assert.equal(stage.sent.length, 1, "under way, never answered")
  const heir = new Outbox([A], stage.store, async (parcel) => (stage.sent.push({ parcel, answer: () => {} }), TAKEN), stage.log)
  heir.start()
  await stage.pass(25_000)
  assert.equal(stage.sent.length, 1)
  await stage.pass(5_000)
  assert.equal(stage.sent[1]!.parcel.id, stage.sent[0]!.parcel.id)
  await heir.stop()
})

staged(
  "without its table the outbox keeps parcels in memory, and says so once",
  async (stage) => {
    await stage.outbox.add(["x"])
    await stage.outbox.add(["y"])
    assert.equal((await stage.answer(TAKEN)).body, "x")
    assert.equal((await stage.answer(TAKEN)).body, "y")
    assert.equal(stage.lines.length, 1)
    assert.match(stage.lines[0]!, /table cannot be reached.*gone/)
  },
  () => {
    const gone = async () => Promise.reject(new Error("gone"))
    return new Stage([A], { put: gone, claim: gone, release: gone, drop: gone, fold: gone, count: gone, aged: gone })
  },
)

/** The stage's table, out of reach while `isGone`. */
function flaky({ store }: Stage): { isGone: boolean; holds(): Promise<[parcels: number, all: number]> } {
  const put = store.put.bind(store)
  const table = { isGone: true, holds: async (): Promise<[number, number]> => [await store.count(A, DEAD), await store.count(A, "-")] }
  store.put = async (...parcels) => {
    if (table.isGone) throw new Error("gone")
    await put(...parcels)
  }
  return table
}

staged("what the table did not take is sent all the same, and again from memory", async (stage) => {
  const table = flaky(stage)
  await stage.outbox.add(["x"])
  const { id } = await stage.answer(LATER)
  assert.deepEqual([await stage.pending(), await table.holds()], [[1], [0, 0]])
  await stage.pass(199)
  assert.equal(stage.sent.length, 0)
  await stage.pass(1)
  assert.equal((await stage.answer(TAKEN)).id, id)
  assert.deepEqual(await stage.pending(), [0])
})

staged("an insert that hangs is given up, and what it was to keep is kept in memory; a late one is sent twice with one id", async (stage) => {
  const put = stage.store.put.bind(stage.store)
  const hung: (() => Promise<void>)[] = []
  stage.store.put = (...of) => new Promise((done) => void hung.push(() => put(...of).then(done)))
  let isKept = false
  const added = stage.outbox.add(["x"]).then(() => (isKept = true))
  const { id } = await stage.answer(LATER)
  await stage.pass(ANSWER_MS - 1)
  assert.equal(isKept, false)
  await stage.pass(1)
  await added
  assert.deepEqual([stage.lines.length, await stage.pending()], [2, [1]])
  await stage.pass(200)
  assert.equal((await stage.answer(TAKEN)).id, id)
  assert.deepEqual(await stage.pending(), [0])
  stage.store.put = put
  for (const go of hung) void go()
  await stage.settle()
  stage.outbox.start()
  await stage.pass(30_000)
  assert.ok(stage.sent.some(({ parcel }) => parcel.id === id))
})

staged("a claim that hangs is given up, and the places that it held are free again", async (stage) => {
  const { store } = stage
  const claim = store.claim.bind(store)
  await store.put([{ id: "msg_1", target: A, body: "x" }], 0)
  store.claim = () => new Promise(() => {})
  stage.outbox.start()
  await stage.settle()
  store.claim = claim
  await stage.pass(ANSWER_MS - 1)
  assert.equal(stage.sent.length, 0)
  await stage.outbox.add(["1", "2", "3", "4"])
  assert.equal(stage.sent.length, 3, "one place is held")
  await stage.pass(1)
  await stage.outbox.add(["5"])
  assert.equal(stage.sent.length, 4)
})

staged("after a claim that fails the table is asked by the clock, or when it took something, and never at once", async (stage) => {
  const { store } = stage
  const claim = store.claim.bind(store)
  let claims = 0
  store.claim = async () => (claims++, Promise.reject(new Error("gone")))
  stage.outbox.start()
  await stage.settle()
  assert.equal(claims, 1)
  await stage.outbox.add(["1", "2", "3", "4", "5"])
  await stage.settle()
  assert.deepEqual([claims, stage.sent.length], [1, 4])
  await stage.answer(TAKEN)
  await stage.answer(TAKEN)
  assert.deepEqual([claims, stage.sent.length], [2, 2], "it took something, and was asked once more")
  await stage.pass(4_999)
  assert.equal(claims, 2)
  store.claim = claim
  await stage.pass(1)
  assert.equal(stage.sent.length, 3)
})

staged("what a claim that failed did not tell of is asked for as soon as the table takes something", async (stage) => {
  const { store } = stage
  const claim = store.claim.bind(store)
  store.claim = async () => Promise.reject(new Error("gone"))
  await stage.outbox.add(["1", "2", "3", "4", "5"])
  await stage.answer(TAKEN)
  store.claim = claim
  await stage.outbox.add(["6"])
  await stage.answer(TAKEN)
  assert.deepEqual(stage.sent.map(({ parcel }) => parcel.body), ["3", "4", "6", "5"])
})

staged("what memory holds moves a few at a time, and once at a time", async (stage) => {
  const { store } = stage
  const put = store.put.bind(store)
  const moves: { size: number; go: () => void }[] = []
  store.put = async () => Promise.reject(new Error("gone"))
  stage.outbox.start()
  await stage.outbox.add(["x"])
  await stage.answer({ kind: "later", why: "busy", after: 60_000 })
  await stage.outbox.add(Array.from({ length: 119 }, (_, at) => String(at)))
  store.put = async (parcels, delayMs) => {
    if (!parcels[0]!.id.startsWith(DEAD)) await new Promise<void>((go) => moves.push({ size: parcels.length, go }))
    await put(parcels, delayMs)
  }
  await stage.pass(5_000)
  for (const expected of [50, 50, 20]) {
    assert.deepEqual(moves.map(({ size }) => size), [expected])
    await stage.pass(2_000)
    moves.shift()!.go()
    await stage.settle()
  }
  assert.deepEqual([moves.length, await store.count(A, DEAD), await stage.pending()], [0, 120, [120]])
})

staged("what is in memory moves to the table when that is back, and until then a dead man's parcel vouches for it", async (stage) => {
  const table = flaky(stage)
  const busy: Outcome = { kind: "later", why: "busy", after: 60_000 }
  stage.outbox.start()
  await stage.outbox.add(["x"])
  await stage.answer(busy)
  await stage.pass(10_000)
  assert.deepEqual([await table.holds(), await stage.pending()], [[0, 0], [1]])
  table.isGone = false
  await stage.outbox.deadMan.arm()
  assert.deepEqual([await table.holds(), await stage.pending()], [[0, 1], [1]], "vouched for")
  await stage.pass(5_000)
  assert.deepEqual([await table.holds(), await stage.pending()], [[1, 2], [1]], "moved")
  await stage.pass(2_000)
  assert.deepEqual([await table.holds(), await stage.pending()], [[1, 1], [1]], "called off")
  await stage.pass(43_000)
  assert.equal((await stage.answer(TAKEN)).body, "x")
  assert.deepEqual(await stage.pending(), [0])
})

staged("while memory holds any, a process that has nothing else in hand puts its dead man's parcel off", async (stage) => {
  const table = flaky(stage)
  await stage.outbox.add(["x"])
  table.isGone = false
  for (let at = 0; at < 9; at++) {
    await stage.pass(10_000)
    const [parcel] = await stage.store.claim(A, 1, 0)
    assert.equal(parcel, undefined, "not due")
    assert.deepEqual(await table.holds(), [0, 1])
  }
  await stage.answer(TAKEN)
  await stage.pass(2_000)
  assert.deepEqual(await table.holds(), [0, 0])
})

staged("a process that stops leaves in the table what memory held", async (stage) => {
  const table = flaky(stage)
  await stage.outbox.add(["x"])
  await stage.settle()
  table.isGone = false
  const stopped = stage.outbox.stop()
  await stage.settle()
  assert.deepEqual(await table.holds(), [0, 1], "under way, and vouched for")
  await stage.answer(LATER)
  await stopped
  assert.deepEqual(await table.holds(), [1, 1], "called off")
})
