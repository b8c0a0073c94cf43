// A storefront's requests at the shop itself and through endcap: with everything in its place, during an import, and with the
// shop killed for half a minute. See README.md.
import { spawn } from "node:child_process"
import { createRequire } from "node:module"
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { admin, all, send, sorted, told, until } from "./http.mjs"
import { subjects } from "./mutations.mjs"
import { plot } from "./plot.mjs"
import { port } from "./ports.mjs"
import { node, redis, report, scratch, SECRET, shop as open, stop } from "./processes.mjs"
import { paced } from "./shoppers.mjs"
import { pages } from "./storefront.mjs"
import { play } from "./tape.mjs"

const { values: args, positionals } = parseArgs({
  options: { shop: { type: "string" }, database: { type: "string" }, endcap: { type: "string" } },
  allowPositionals: true,
})
/** Parts whose name holds this are tried, all of them by default. */
const [, only = ""] = positionals
const Medusa = createRequire(join(args.shop, "package.json"))("@medusajs/js-sdk").default
const CONNECTIONS = 8
const SLICE_S = 10
/** How long one part of the run may take. */
const STEADY_S = Number(process.env.STEADY_S || 40)
const KILLED_S = 30
const IMPORTED = Number(process.env.IMPORTED || 1000)
const BATCH = 20
/** An import that is not through by then is a failure. */
const IMPORT_S = Number(process.env.IMPORT_S || 1800)
/** While it runs, shoppers ask at this pace, answered or not: who waits for answers asks the less the slower they are, so that
 * misses would look more frequent than shoppers find them. 10,000 of whom each asks once in 50 s: what an import empties is
 * asked for anew once, however many there are, so fewer shoppers find less of it kept. */
const RATE = Number(process.env.RATE || 200)
/** The least hit ratio in each slice of an import, %, and what must come from memory at the least: without a store it is none.
 * Where each batch is softened, because it concerns much of what is asked for, that is as much as all hits. */
const HITS_MIN = 80
const MEMORY_MIN = 50
/** The storefront's requests with endcap, as a multiple of those without it; and how long 95 % of them may take, ms. */
const RATIO_MIN = 500
const P95_MAX = 5
/** A hit needs no request of its own at the shop: as everywhere, who waits for another's fill has hit, too. */
const kept = (one) => 100 * (1 - one.reads / (one.good + one.errors))
const fromMemory = (one) => (100 * one.hits) / (one.good + one.errors)
/** Shoppers are there for so long before an import begins: what is asked for most is known by then. */
const BEFORE_S = 60
/** For so long a purge that was softened may be seen, s: the time in which a shop makes all that is asked for. */
const GRACE_S = 30
/** The preset's shortest lifetime of what is asked for here. */
const TTL_S = 120

const [at, listen, ops] = [await port(), await port(), await port()]
const plugin = { url: `http://127.0.0.1:${ops}`, secret: SECRET }
let shop = await open({ home: args.shop, at, database: args.database, plugin })
const api = await admin(shop.base)
const s = await subjects(api)
const { url: redisUrl } = await redis()
const { products: visited, count } = await api.get("/admin/products?limit=20&fields=id,handle,title,collection_id,*tags,*categories,*options.values")
const products = []
while (products.length < count) products.push(...(await api.get(`/admin/products?limit=1000&offset=${products.length}&fields=id,status`)).products)

/** Visits of 30 requests each, counted from the official storefront: the layout with each of five pages. */
async function visits() {
  const calls = []
  const played = (page) => play(Medusa, shop.base, { key: s.keys.Web }, page)
  const scene = (product, category) => pages({ ...s, product, collections: [s.collection, s.otherCollection, s.product.collection_id], category })
  // A large shop takes a second for each of these, which all visits have in common.
  const common = scene(visited[0], visited[0].categories[0])
  const [layout, home, store] = [await played(common.layout), await played(common.home), await played(common.store)]
  for (const n of [0, 1, 2, 3]) {
    const [a, b] = [visited[n * 5], visited[n * 5 + 2]]
    const category = await played(scene(a, a.categories[0]).category)
    const [one, other] = [await played(scene(a).product), await played(scene(b).product)]
    calls.push(layout, home, layout, store, layout, category, layout, one, layout, other, one.slice(0, 1), other.slice(0, 1))
  }
  // Without translations the request for the locales is a 404, which would be counted as an error.
  return calls.flat().filter(({ status }) => status === 200).map(({ call, text }) => ({ path: call.slice("GET ".length), text }))
}
const calls = await visits()
const paths = calls.map(({ path }) => path)
/** What each URL shows. */
const shown = new Map(calls.map(({ path, text }) => [path, new Set(text.match(/prod_[0-9A-Z]{26}/g))]))
const distinct = [...shown.keys()]
writeFileSync(join(scratch, "paths"), paths.join("\n"))
console.error(`${paths.length} requests, ${distinct.length} different`)

/** Some seconds of as much load as eight connections make; resolves to what becomes of it. */
async function closed(base, seconds) {
  const from = Math.floor(Math.random() * paths.length)
  const wrk = spawn("wrk", ["-t1", `-c${CONNECTIONS}`, `-d${seconds}`, "--timeout", "30", "-s", "load.lua", base], {
    env: { ...process.env, PATHS: join(scratch, "paths"), KEY: s.keys.Web, FROM: String(from) },
  })
  let text = ""
  wrk.stdout.on("data", (data) => (text += data))
  await new Promise((done) => wrk.on("close", done))
  const said = text.indexOf('{"seconds"')
  if (said >= 0) return () => JSON.parse(text.slice(said))
  // Nobody listens there, and wrk gives up at once: each connection has met an error.
  await new Promise((done) => setTimeout(done, seconds * 1000))
  return () => ({ seconds, good: 0, errors: CONNECTIONS, times: [] })
}

/** The sum of endcap's counters of these names. */
async function counted(names) {
  const text = await (await fetch(`http://127.0.0.1:${ops}/metrics`)).text().catch(() => "")
  const lines = text.matchAll(new RegExp(`^endcap_(?:${names.join("|")})_total(?:\\{[^}]*\\})? (\\d+)$`, "gm"))
  return [...lines].reduce((sum, [, count]) => sum + Number(count), 0)
}
/** Requests that reached the shop from endcap. */
const reads = () => counted(["origin_answers", "bypass"])

const parts = []
/** A part of the run: slices of load one after the other, as long as `going`. */
async function part(name, base, going, { meanwhile, load = closed, check = false, grace = 0, ...judged } = {}) {
  if (!name.includes(only)) return
  const isShop = base === shop.base
  const taken = []
  const rest = meanwhile?.()
  while (going(taken)) {
    const before = isShop ? 0 : await reads()
    const answers = await load(base, SLICE_S)
    taken.push({ answers, reads: isShop ? undefined : (await reads()) - before })
  }
  const slices = []
  for (const { answers, reads } of taken) {
    const one = await answers()
    slices.push({ ...one, reads: reads ?? one.good })
  }
  const more = (await rest) ?? {}
  const sum = (of) => slices.reduce((total, one) => total + of(one), 0)
  const times = new Map()
  for (const [us, count] of slices.flatMap((one) => one.times)) times.set(us, (times.get(us) ?? 0) + count)
  const sorted = [...times].sort(([a], [b]) => a - b)
  const total = sorted.reduce((sum, [, count]) => sum + count, 0)
  const percentile = (p) => {
    let seen = 0
    return (sorted.find(([, count]) => (seen += count) >= total * p)?.[0] ?? NaN) / 1000
  }
  const [good, errors] = [sum((one) => one.good), sum((one) => one.errors)]
  const row = {
    name, good, errors, rate: good / sum((one) => one.seconds),
    p50: percentile(0.5), p95: percentile(0.95), p99: percentile(0.99), slices, reads: sum((one) => one.reads), ...more, ...judged,
  }
  row.kept = kept(row)
  if (check) row.stale = await stale(parts.length, grace)
  parts.push(row)
  console.error(line(row))
}
const lasting = (seconds) => (slices) => slices.length * SLICE_S < seconds

/** Updates in batches as an import makes them, each with a new title, and with the status that it has; `lists` has each change
 * what lists may be filtered by. And when a reader sees the first of a batch, unless it may be seen late: then the next batch
 * comes when endcap was told. */
function importing(base, name, { maybeLate = false, lists = false } = {}) {
  const state = { ended: false, updates: 0, seen: [], late: 0, needed: 0 }
  state.run = async () => {
    const from = performance.now()
    state.looked = base === shop.base ? 0 : await counted(["canary_looks"])
    for (; state.updates < IMPORTED; state.updates += BATCH) {
      if (performance.now() - from > IMPORT_S * 1000) throw new Error(`the import is not through after ${IMPORT_S} s: ${state.updates} updates`)
      const batch = Array.from({ length: BATCH }, (_, n) => products[(state.updates + n) % products.length])
      state.needed += distinct.filter((path) => (lists ? shown.get(path).size > 0 : batch.some(({ id }) => shown.get(path).has(id)))).length
      const title = `Imported ${name}, ${state.updates}`
      const said = { title, metadata: { at: state.updates }, ...(lists && { external_id: `erp-${state.updates}` }) }
      await api.post("/admin/products/batch", { update: batch.map(({ id, status }) => ({ id, status, ...said })) })
      const answered = performance.now()
      const right = async () => {
        const { status, text } = await send(base, "GET", `/store/products/${batch[0].id}?fields=id,title`, { headers: s.pk })
        return status === 404 || text.includes(title)
      }
      if (maybeLate) await told(api)
      else await until(title, right, 15_000).then(() => state.seen.push(performance.now() - answered), () => (state.late += 1))
    }
    state.seconds = (performance.now() - from) / 1000
    state.ended = true
    const seen = state.seen.sort((a, b) => a - b)
    const [median, most] = [seen[seen.length >> 1], seen.at(-1)]
    // What had to be read: each URL that shows a product of a batch, once, and once more when its echo is over; what the reader
    // above asked for; what became too old; and what the canary looked at, to find changes that nobody had told.
    const looks = base === shop.base ? 0 : (await counted(["canary_looks"])) - state.looked
    const budget = 2 * state.needed + state.updates / BATCH + distinct.length * (1 + Math.floor(state.seconds / TTL_S)) + looks
    const softened = base === shop.base ? 0 : await counted(["purges_softened"])
    return { budget, looks, softened, imported: state.updates, importSeconds: state.seconds, seenMedian: median, seenMost: most, late: state.late }
  }
  state.going = () => !state.ended
  return state
}

/** The shop dies after the first slice and comes back half a minute later. */
async function dying() {
  await new Promise((done) => setTimeout(done, SLICE_S * 1000))
  await stop(shop.child, "SIGKILL")
  await new Promise((done) => setTimeout(done, KILLED_S * 1000))
  shop = await open({ home: args.shop, at, database: args.database, plugin })
}

/** URLs that endcap answers otherwise than the shop, still 10 s after all was told, and after the grace where there is one. Where it has no answer, it has no stale one.
 * What they answered is kept. The shop is asked anew each time: the order of some lists within is the database's mood. */
async function stale(name, grace) {
  await told(api)
  const wrong = []
  await all(distinct, 2, async (path) => {
    let truth, last
    const right = async () => {
      truth = await send(shop.base, "GET", path, { headers: s.pk })
      last = await send(endcap.base, "GET", path, { headers: s.pk })
      return last.status === 200 && sorted(last.text) === sorted(truth.text)
    }
    await until(path, right, 10_000 + grace * 1000).catch(() => {
      if (last?.status !== 200) return
      const kept = join(scratch, `stale-${name}-${wrong.push(path)}`)
      writeFileSync(`${kept}-shop.json`, truth.text)
      writeFileSync(`${kept}-endcap.json`, last.text)
      console.error(`STALE ${path} (${last.outcome}): ${kept}-*`)
    })
  })
  return wrong.length
}

const number = (value, width, digits = 0) => (value === undefined || Number.isNaN(value) ? "-" : value.toFixed(digits)).padStart(width)
const line = (row) =>
  row.name.padEnd(34) + [number(row.rate, 9, 1), number(row.p50, 9, 1), number(row.p95, 9, 1), number(row.p99, 9, 1), number(row.good, 9), number(row.reads, 9), number(row.kept, 9, 2), number(row.errors, 8), number(row.stale, 7)].join("")

await part("shop alone", shop.base, lasting(STEADY_S))
const alone = importing(shop.base, "alone")
await part("shop alone, import", shop.base, alone.going, { meanwhile: alone.run })
await part("shop alone, killed for 30 s", shop.base, lasting(SLICE_S * 2 + KILLED_S + 10), { meanwhile: dying })

const withEndcap = (rest) => node({ name: "a", binary: args.endcap, upstream: shop.base, redis: redisUrl, listen, ops, rest })
let endcap = await withEndcap("")
await part("endcap, cold", endcap.base, lasting(STEADY_S))
await part("endcap, warm", endcap.base, lasting(STEADY_S), { check: true })
await part("endcap, shop killed for 30 s", endcap.base, lasting(SLICE_S * 2 + KILLED_S + 10), { meanwhile: dying, check: true })
/** An import while shoppers ask at their pace, beginning with all in memory. */
async function underImport(name, { memoryMin, grace = 0, lists = false }) {
  await all(distinct, 2, (path) => until(path, async () => (await send(endcap.base, "GET", path, { headers: s.pk })).outcome === "hit"))
  const { run, going } = importing(endcap.base, name, { maybeLate: grace > 0, lists })
  const shoppers = (base, seconds) => paced(base, paths, { rate: RATE, seconds, headers: { ...s.pk, "accept-encoding": "gzip" }, first: Math.floor(Math.random() * paths.length) })
  await (await shoppers(endcap.base, BEFORE_S))()
  await part(name, endcap.base, going, { meanwhile: run, load: shoppers, check: true, grace, memoryMin })
  const row = parts.at(-1)
  if (row?.name === name && row.softened === row.imported / BATCH) row.memoryMin = HITS_MIN
}
await underImport("endcap, import", { memoryMin: MEMORY_MIN })
await underImport("endcap, import that changes lists", { memoryMin: 0, lists: true })
await stop(endcap.child)
endcap = await withEndcap(`[purge]\nblast_radius = 0.3\nsoft_grace = "${GRACE_S}s"\n`)
await underImport("endcap, blast_radius, import", { memoryMin: MEMORY_MIN, grace: GRACE_S })

const [bare, warm] = ["shop alone", "endcap, warm"].map((wanted) => parts.find(({ name }) => name === wanted))
const bySlices = (of, which = () => true) => parts.filter(which).map((row) => row.name.padEnd(34) + row.slices.map(of).join("  ")).join("\n")
const imports = parts.filter((row) => row.imported !== undefined)
const seenLine = (row) => (row.seenMost === undefined ? "" : `; from a batch's answer until a read shows it: median ${row.seenMedian.toFixed(0)} ms, most ${row.seenMost.toFixed(0)} ms, never within 15 s: ${row.late}`)
const importLine = (row) => `${row.name}: ${row.imported} updates in batches of ${BATCH} in ${row.importSeconds.toFixed(0)} s${row.softened ? `, ${row.softened} purges softened` : ""}${seenLine(row)}`
const isEndcap = ({ name }) => name.startsWith("endcap")
const imported = imports.filter(isEndcap)
const problems = [
  ...parts.filter((row) => row.stale > 0).map((row) => `${row.name}: ${row.stale} URLs are stale`),
  ...parts.filter((row) => isEndcap(row) && row.errors > 0).map((row) => `${row.name}: ${row.errors} errors`),
  ...imported.filter((row) => row.late > 0).map((row) => `${row.name}: ${row.late} batches were not seen`),
  ...imported.filter((row) => row.reads > row.budget).map((row) => `${row.name}: ${row.reads} reads at the shop, more than the budget of ${row.budget}`),
  ...imported.flatMap((row) => row.slices.map((one, n) => [kept(one), n]).filter(([share]) => !(share > HITS_MIN)).map(([share, n]) => `${row.name}: in slice ${n + 1} ${share.toFixed(0)} % were hits, not more than ${HITS_MIN}`)),
  ...imported.flatMap((row) => row.slices.map((one, n) => [fromMemory(one), n]).filter(([share]) => !(share > row.memoryMin)).map(([share, n]) => `${row.name}: in slice ${n + 1} ${share.toFixed(0)} % came from memory, not more than ${row.memoryMin}`)),
  ...(bare && warm && !(warm.rate >= RATIO_MIN * bare.rate) ? [`endcap, warm: ${(warm.rate / bare.rate).toFixed(0)} times the requests of the shop alone, less than ${RATIO_MIN}`] : []),
  ...(warm && !(warm.p95 < P95_MAX) ? [`endcap, warm: 95 % within ${warm.p95.toFixed(1)} ms, not less than ${P95_MAX}`] : []),
]
report(`${paths.length} requests of four visits, ${distinct.length} different, ${count} products, ${CONNECTIONS} connections, with endcap ${RATE} requests/s during imports; times in ms

                                     req/s      P50      P95      P99     good  at shop   kept %  errors  stale
${parts.map(line).join("\n")}

${bare && warm ? `endcap, warm: ${(warm.rate / bare.rate).toFixed(0)} times the requests of the shop alone\n` : ""}${imports.map(importLine).join("\n")}
by slices of ${SLICE_S} s, req/s (errors):
${bySlices((one) => `${(one.good / one.seconds).toFixed(0)}${one.errors ? ` (${one.errors})` : ""}`)}
what share did not reach the shop, %:
${bySlices((one) => kept(one).toFixed(0), isEndcap)}
what share came from memory, %:
${bySlices((one) => fromMemory(one).toFixed(0), (row) => imported.includes(row))}
${imported.map((row) => `${row.name}: ${row.reads} reads at the shop, ${row.looks} of them by the canary, budget ${row.budget}`).join("\n")}
${problems.length === 0 ? "all as it must be" : problems.map((problem) => `WRONG ${problem}`).join("\n")}
`)
if (process.env.PLOT) writeFileSync(process.env.PLOT, plot(parts))
console.error(`details: ${scratch}`)
process.exit(problems.length === 0 ? 0 : 1)
