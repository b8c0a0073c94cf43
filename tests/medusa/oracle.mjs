// After each mutation, and once the plugin says that all is told: what both nodes answer is what the shop answers, for
// every URL, and what did not change was not forgotten. See run.
import { execFile } from "node:child_process"
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { performance } from "node:perf_hooks"
import { parseArgs, promisify } from "node:util"
import { admin, all, pause, send, sorted, told, until } from "./http.mjs"
import { mutations, subjects } from "./mutations.mjs"
import { inTurns } from "./turns.mjs"
import { probes } from "./probes.mjs"
import { port } from "./ports.mjs"
import { node, redis, report, scratch, SECRET, shop, stop } from "./processes.mjs"

const { values: args, positionals } = parseArgs({
  options: { shop: { type: "string" }, database: { type: "string" }, endcap: { type: "string" }, seconds: { type: "string" } },
  allowPositionals: true,
})
const [form, text] = positionals
const began = performance.now()
/** Nothing is begun later than this. */
const END_MS = Number(args.seconds ?? Infinity) * 1000
class OutOfTime extends Error {}
const begin = (name) => {
  if (performance.now() > END_MS) throw new OutOfTime(name)
}
/** What is stale must be right again within purge.soft_grace, 2 s, and the time of a refill on a busy machine. */
const SETTLED_MS = 15_000
/** A node that was not told itself reads the log: it may be behind by a moment, which is measured. */
const BEHIND_MS = 1_000
/** A date that comes by itself must have been told within this time; what the nodes answer is compared all the same. */
const CLOCK_MS = 60_000
/** How exact stock is in lists of cards: an option of the plugin. */
const { STOCK_IN_LISTS: stockInLists, EVENT_BUS: bus = "memory" } = process.env
if (!["memory", "redis"].includes(bus)) throw new Error('EVENT_BUS is "redis", or is not set')
/** What the plugin says where it could not learn what changed, or was not understood. */
const COMPLAINTS = /endcap: .*(cannot be read|could not be told|cannot tell|does not know|does not understand|the plugin is off)/

class Oracle {
  rows = []
  problems = []
  behind = 0
  /** Something was changed since what all answer was compared. */
  unseen = false
  /** So far the shop's log was looked at. */
  logged = 0

  async start() {
    this.ports = { shop: await port(), redis: await port(), a: [await port(), await port()], b: [await port(), await port()] }
    await this.openRedis()
    await this.openShop()
    this.nodes = await Promise.all(["a", "b"].map((name) => this.openNode(name)))
    this.api = await admin(this.shop.base)
    this.subjects = await subjects(this.api)
    this.probes = probes(this.subjects)
    await this.idle()
    await this.settle()
    this.truth = await this.ask()
  }

  async openShop() {
    const hook = `http://127.0.0.1:${this.ports.a[1]}`
    const env = bus === "redis" ? { EVENT_BUS_URL: `redis://127.0.0.1:${this.ports.redis}/1` } : {}
    this.shop = await shop({ home: args.shop, at: this.ports.shop, database: args.database, plugin: { url: hook, secret: SECRET, stockInLists }, env })
  }

  async openRedis() {
    this.redis = await redis(this.ports.redis)
  }

  openNode(name) {
    const [listen, ops] = this.ports[name]
    return node({ name, binary: args.endcap, upstream: this.shop.base, redis: this.redis.url, listen, ops })
  }

  /** Kills nodes, and returns what starts them again. */
  async killNodes(names) {
    await Promise.all(names.map((name) => stop(this.nodes["ab".indexOf(name)].child, "SIGKILL")))
    return () => Promise.all(names.map(async (name) => (this.nodes["ab".indexOf(name)] = await this.openNode(name))))
  }

  /** Both nodes read the log and trust what they have. */
  see() {
    return until("both nodes see", async () => {
      const seen = await Promise.all(this.nodes.map(async ({ hook }) => (await (await fetch(`${hook}/status`)).json()).purges))
      return seen.every(({ connected, blind }) => connected && !blind)
    })
  }

  /** All is told: asked of the plugin itself. */
  async idle() {
    return told(this.api)
  }

  one(base, probe) {
    return send(base, "GET", probe.path, { headers: probe.headers })
  }

  /** What all answer is, from the shop's database. */
  async ask() {
    await this.api.get("/admin/forget")
    return all(this.probes, 4, (probe) => this.one(this.shop.base, probe))
  }

  /** Everything is in memory, fresh and right, on both nodes. Returns what would not become so. */
  async settle(truth) {
    const wrong = []
    await all(this.probes, 4, async (probe) => {
      const expected = truth?.[this.probes.indexOf(probe)]
      for (const [at, { base }] of this.nodes.entries()) {
        const good = async () => {
          const answer = await this.one(base, probe)
          // What is no 200 need not be stored: a key with two channels gets 400 where quantities are asked for.
          return (!probe.stored || answer.outcome === "hit" || answer.status !== 200) && (!expected || right(probe, answer, expected))
        }
        await until(probe.name, good, SETTLED_MS).catch(() => wrong.push(`${probe.name} on ${"ab"[at]}`))
      }
    })
    return wrong
  }

  /** Compares both nodes with the shop, and says what each probe met. With `atOnce` there is no grace, with `stockAlone` cards
   * that may show stock as old as they are must have been kept. */
  async check({ atOnce, stockAlone } = {}) {
    const [first, truth] = [await all(this.probes, 4, (probe) => Promise.all(this.nodes.map(({ base }) => this.one(base, probe)))), await this.ask()]
    const row = { changed: 0, stale: [], grace: 0, aged: 0, kept: 0, hard: [], soft: [] }
    for (const [at, probe] of this.probes.entries()) {
      const changed = !same(truth[at], this.truth[at])
      row.changed += Number(changed)
      for (const [n, answer] of first[at].entries()) {
        if (stockInLists === "age" && stockAlone && probe.cards && answer.outcome !== "hit") row.stale.push(`${probe.name} on ${"ab"[n]} (not kept: ${answer.outcome})`)
        if (same(answer, truth[at])) continue
        if (answer.outcome === "hit" && right(probe, answer, truth[at])) row.aged += 1
        else if (answer.outcome === "stale" && !atOnce) row.grace += 1
        // The first node was told, and has acknowledged.
        else if (n === 0 || !(await this.soon(this.nodes[n].base, probe, truth[at]))) row.stale.push(`${probe.name} on ${"ab"[n]} (${answer.outcome})`)
      }
      if (!probe.stored || changed) continue
      const { outcome } = first[at][0]
      if (outcome === "hit") row.kept += 1
      else if (outcome === "stale") row.soft.push(probe.name)
      else row.hard.push(`${probe.name} (${outcome})`)
    }
    row.stale.push(...(await this.settle(truth)).filter((name) => !row.stale.some((known) => known.startsWith(name))))
    this.truth = truth
    return row
  }

  async soon(base, probe, expected) {
    // What counts is when the answer was asked for: a shop may take its time for it.
    const from = performance.now()
    for (let asked = 0; asked <= BEHIND_MS; asked = performance.now() - from) {
      const isRight = right(probe, await this.one(base, probe), expected)
      this.behind = Math.max(this.behind, asked)
      if (isRight) return true
      await pause(5)
    }
    return false
  }

  /** A mutation, and what the nodes make of it: a request, or a date that comes. */
  async mutate(label, method, path, json, headers) {
    const [, marks, name] = /^([!#*+]*)(.*)$/.exec(label)
    const short = /[*+]/.test(marks)
    const isTried = form !== "only" || name.includes(text)
    // Others may need what it makes: so it is made, and not looked at.
    if (!short && (form === "short" || !isTried)) return undefined
    begin(name)
    if (isTried && this.unseen) {
      await this.idle()
      this.truth = await this.ask()
      this.rightAgain(`before: ${name}`, await this.settle(this.truth))
    }
    const isDate = typeof method === "function"
    const change = isDate ? () => this.come(name, method, isTried) : () => send(this.shop.base, method, path, { json, headers: headers ?? this.api.headers })
    const { status, text: body } = await change()
    if (status >= 400 !== name.startsWith("refused")) this.wrong(`${name}: ${status} ${body.slice(0, 200)}`)
    this.unseen = !isTried
    if (isTried) {
      const answered = performance.now()
      await (isDate ? this.clock(name) : this.idle())
      const told = performance.now() - answered
      this.rows.push({ name, told, ...(await this.check({ atOnce: marks.includes("!"), stockAlone: marks.includes("#") })) })
      tell(this.rows.at(-1))
      if (isDate && this.rows.at(-1).changed === 0) this.wrong(`${name}: it changed nothing on the shop`)
      this.complained()
    }
    return body.startsWith("{") ? JSON.parse(body) : {}
  }

  /** Sets a date, sees that what was is in memory again, and waits until the date comes: nothing but the clock tells of that. */
  async come(name, change, isTried) {
    const date = (ms) => new Date(ms).toISOString()
    for (let lead = isTried ? 5_000 : 0; ; lead *= 2) {
      const at = Date.now() + lead
      await change(date(at))
      if (!isTried) return { status: 200, text: "" }
      await this.idle()
      this.rightAgain(`before: ${name}`, await this.settle(this.truth))
      this.taken = (await this.api.get("/admin/endcap")).targets[0].taken
      // On a busy machine it came too soon.
      if (Date.now() >= at) continue
      await pause(at - Date.now())
      return { status: 200, text: "" }
    }
  }

  /** endcap was told of a date that came. */
  clock(name) {
    const isTold = async () => (await told(this.api)).targets[0].taken > this.taken
    return until("the price clock", isTold, CLOCK_MS).catch(({ message }) => this.wrong(`${name}: ${message}`))
  }

  /** What the plugin complained of since the last look; `isMeant`: that was to be. */
  complained(isMeant = false) {
    const log = readFileSync(join(scratch, "shop.log"))
    const lines = log.subarray(this.logged).toString().split("\n")
    this.logged = log.length
    if (!isMeant) lines.filter((line) => COMPLAINTS.test(line)).forEach((line) => this.wrong(line))
  }

  /** What must survive: `harm` happens, a change is made around it, and all is right again. `isBlind`: the plugin could not read. */
  async survive(name, harm, isBlind) {
    begin(name)
    this.complained()
    await harm()
    await this.idle()
    await this.see()
    const { stale, changed } = await this.check()
    if (changed === 0) this.wrong(`${name}: the shop has lost the change`)
    this.rightAgain(`survives: ${name}`, stale)
    this.complained(isBlind)
  }

  wrong(problem) {
    this.problems.push(problem)
    console.error(`WRONG ${problem}`)
  }

  /** A row for what is no single mutation. */
  rightAgain(name, stale) {
    this.rows.push({ name, told: NaN, changed: NaN, stale, grace: NaN, aged: NaN, kept: NaN, hard: [], soft: [] })
    tell(this.rows.at(-1))
  }
}

const isJson = ({ text }) => text.startsWith("{")
const same = (a, b, but) => a.status === b.status && (a.text === b.text || (isJson(a) && isJson(b) && sorted(a.text, but) === sorted(b.text, but)))
/** The shop's answer; cards may differ from it in their stock alone, where it may be as old as they are. */
const right = ({ cards }, answer, expected) => same(answer, expected, cards && stockInLists === "age" ? "inventory_quantity" : undefined)

function line({ name, changed, stale, grace, aged, kept, hard, soft, told }) {
  const number = (value, width) => (Number.isNaN(value) ? "-" : String(Math.round(value))).padStart(width)
  return name.padEnd(58) + [[changed, 8], [stale.length, 7], [grace, 7], [aged, 5], [kept, 6], [hard.length, 6], [soft.length, 6], [told, 7]].map(([value, width]) => number(value, width)).join("")
}

function tell(row) {
  console.error([line(row), ...row.stale.map((name) => `    STALE ${name}`)].join("\n"))
  if (process.env.VERBOSE) console.error(`    hard ${row.hard.join(", ")}\n    soft ${row.soft.join(", ")}`)
}

const oracle = new Oracle()
await oracle.start()
console.error(`ready after ${Math.round((performance.now() - began) / 1000)} s: ${oracle.probes.length} URLs, two nodes`)
const P = `/admin/products/${oracle.subjects.product.id}`
/** The database is the one of run: so are these functions. */
const postgres = (what) => promisify(execFile)("bash", ["-c", `${what}_pg`])
const rename = (title) => oracle.api.post(P, { title })
/** The dead man's parcel of a killed shop arrives: nothing else makes a node forget the currencies. */
const everything = () =>
  until("the dead man's parcel", async () => (await oracle.one(oracle.nodes[0].base, oracle.probes.find(({ name }) => name === "currencies"))).outcome !== "hit")

/** What dies with kill -9, one turn each: nothing is lost, and afterwards both nodes answer what the shop answers. */
async function crashes(turn) {
  const survive = async (...what) => {
    await turn()
    await oracle.survive(...what)
  }
  for (const names of [["a"], ["b"], ["a", "b"]]) {
    await survive(`${names.join(" and ")} killed, a change, back`, async () => {
      const back = await oracle.killNodes(names)
      await rename(`While ${names} was dead`)
      await back()
    })
  }
  await survive("Redis killed, a change, back with nothing", async () => {
    await stop(oracle.redis.child, "SIGKILL")
    const change = rename("While Redis was dead")
    // A shop whose bus is there waits with it.
    if (bus !== "redis") {
      await change
      await until("the outbox", async () => (await oracle.api.get("/admin/endcap")).targets[0].problem)
    }
    await oracle.openRedis()
    await change
  })
  await survive("PostgreSQL killed in the moment of an answer, back", async () => {
    await rename("While the database was dying")
    await postgres("kill")
    await postgres("restart")
  }, true)
  await survive("nodes frozen, a change, the shop killed and back", async () => {
    oracle.nodes.forEach(({ child }) => child.kill("SIGSTOP"))
    await rename("While endcap was frozen")
    await until("the outbox", async () => (await oracle.api.get("/admin/endcap")).targets[0].pending > 0)
    await stop(oracle.shop.child, "SIGKILL")
    oracle.nodes.forEach(({ child }) => child.kill("SIGCONT"))
    await oracle.openShop()
    await everything()
  })
  await survive("the shop killed in the moment of its answer", async () => {
    await rename("While the shop was dying")
    await stop(oracle.shop.child, "SIGKILL")
    await oracle.openShop()
    await everything()
  })
}
function tryAll() {
  if (form === "crashes") return inTurns([crashes])
  return mutations(oracle.api, oracle.subjects, (...step) => oracle.mutate(...step), form === "only" ? [] : [crashes])
}
let untried = ""
await tryAll().catch((error) => {
  if (!(error instanceof OutOfTime)) throw error
  untried = `out of time: from "${error.message}" on nothing was tried\n`
})

const sum = (of) => oracle.rows.reduce((total, row) => total + (of(row) || 0), 0)
const stale = sum((row) => row.stale.length)
const exact = oracle.rows.filter((row) => !Number.isNaN(row.changed))
const times = exact.map((row) => row.told).sort((a, b) => a - b)
const share = (part) => (times.length ? Math.round(times[Math.min(times.length - 1, Math.floor(times.length * part))]) : "-")
const said = `${"mutation".padEnd(58)} changed  stale  grace  age  kept  hard  soft  told ms
${oracle.rows.map(line).join("\n")}

${untried}${exact.length} mutations, ${oracle.probes.length} URLs on two nodes, ${Math.round((performance.now() - began) / 1000)} s
answers that changed: ${sum((row) => row.changed)}   stale: ${stale}   served within a soft purge's grace: ${sum((row) => row.grace)}   cards with stock as old as they are: ${sum((row) => row.aged)}
unchanged answers: kept ${sum((row) => row.kept)}, refilled by a hard purge ${sum((row) => row.hard.length)}, refreshed behind a soft one ${sum((row) => row.soft.length)}
from the admin's answer until all is told, ms: median ${share(0.5)}, 95% ${share(0.95)}, most ${share(1)}
the other node, when it was behind: at most ${Math.round(oracle.behind)} ms
`
report(said)
writeFileSync(`${scratch}/rows.json`, JSON.stringify(oracle.rows, null, 1))
console.error(`details: ${scratch}`)
process.exit(stale === 0 && oracle.problems.length === 0 && (oracle.rows.length > 0 || untried) ? 0 : 1)
