// How long a change takes from the admin's click, and from the shop's event, until no node gives the old answer, and until each
// gives the new one. See README.md.
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { admin, pause, send, told } from "./http.mjs"
import { subjects } from "./mutations.mjs"
import { port } from "./ports.mjs"
import { node, redis, report, scratch, SECRET, shop as open } from "./processes.mjs"

const { values: args } = parseArgs({ options: { shop: { type: "string" }, database: { type: "string" }, endcap: { type: "string" } } })
/** Of each kind. */
const CHANGES = Number(process.env.CHANGES || 100)
/** How close two looks at a node are. */
const LOOK_MS = 2
/** Who has not seen it by then never will. */
const SEEN_MS = 30_000
/** Most that 99 of 100 may take: from the event until no node gives the old answer, and from the admin's click until all give the new one. */
const EVENT_MS = Number(process.env.EVENT_MS || 50)
const CLICK_MS = Number(process.env.CLICK_MS || 1_000)

const stamps = join(scratch, "stamps")
writeFileSync(stamps, "")
const [at, hook, ...ports] = [await port(), await port(), await port(), await port(), await port()]
const plugin = { url: `http://127.0.0.1:${hook}`, secret: SECRET }
const shop = await open({ home: args.shop, at, database: args.database, plugin, env: { STAMPS: stamps } })
const { url } = await redis()
const nodes = await Promise.all(
  [[ports[0], hook], [ports[1], ports[2]]].map(([listen, ops], n) => node({ name: "ab"[n], binary: args.endcap, upstream: shop.base, redis: url, listen, ops })),
)
const api = await admin(shop.base)
const s = await subjects(api)

const P = `/admin/products/${s.product.id}`
const priced = `/store/products/${s.product.id}?region_id=${s.eu}&fields=*variants.calculated_price`
const sale = (await api.post("/admin/price-lists", {
  title: "Reach", description: "d", type: "sale", status: "active", prices: [{ variant_id: s.product.variants[1].id, currency_code: "eur", amount: 0.25 }],
})).price_list.id
const kinds = [
  {
    name: "a product's title", path: `/store/products/${s.product.id}?fields=id,title`, hasEvent: true,
    change: (n) => api.post(P, { title: `Reach ${n}.` }),
    isNew: (text, n) => text.includes(`Reach ${n}.`),
  },
  {
    name: "a variant's price", path: priced, hasEvent: true,
    change: (n) => api.post(`${P}/variants/${s.variant.id}`, { prices: [{ currency_code: "eur", amount: 1 + n / 1000 }] }),
    isNew: (text, n) => text.includes(`"calculated_amount":${1 + n / 1000},`),
  },
  {
    name: "a price list's status (no event)", path: priced, hasEvent: false,
    change: (n) => api.post(`/admin/price-lists/${sale}`, { status: n % 2 ? "draft" : "active" }),
    isNew: (text, n) => text.includes(`"calculated_amount":0.25,`) === (n % 2 === 0),
  },
]

const now = () => performance.timeOrigin + performance.now()

/** Looks at a node until it answers anew: when it was asked for that answer, and when it gave it. What was asked for later than
 * the old answer was forgotten is new, so the first is when it was forgotten, `LOOK_MS` at most too late. */
async function look({ base }, path, isNew) {
  for (const end = now() + SEEN_MS; now() < end; await pause(LOOK_MS)) {
    const asked = now()
    const { text } = await send(base, "GET", path, { headers: s.pk })
    if (isNew(text)) return { forgotten: asked, shown: now() }
  }
  return { forgotten: Infinity, shown: Infinity }
}

/** One change, seen by the node that saw it last. */
async function measure({ path, change, isNew, hasEvent }, n) {
  const known = readFileSync(stamps, "utf8").length
  const click = now()
  const looks = nodes.map((node) => look(node, path, (text) => isNew(text, n)))
  await change(n)
  const answered = now() - click
  const seen = await Promise.all(looks)
  const last = (of) => Math.max(...seen.map((one) => one[of]))
  const event = hasEvent ? Number.parseInt(readFileSync(stamps, "utf8").slice(known), 10) : NaN
  await told(api)
  return { answered, event: event - click, forgotten: last("forgotten") - click, shown: last("shown") - click }
}

const part = (values, share) => values.sort((a, b) => a - b)[Math.ceil(values.length * share) - 1]
const line = (name, values) => name.padEnd(66) + [0.5, 0.95, 0.99, 1].map((share) => part(values, share).toFixed(0).padStart(8)).join("")
const said = []
const say = (text) => (said.push(text), console.error(text))
say(`${CHANGES} changes of each kind, two nodes, ms`.padEnd(66) + ["median", "95%", "99%", "most"].map((word) => word.padStart(8)).join(""))
const all = []
for (const kind of kinds) {
  // The first is of a shop and nodes that are cold.
  const rows = []
  for (let n = 0; n <= CHANGES; n += 1) rows.push(await measure(kind, n + 1))
  rows.shift()
  all.push(...rows)
  say(line(`${kind.name}: the shop answers the click after`, rows.map((row) => row.answered)))
  if (kind.hasEvent) {
    say(line("  from the event until both nodes have forgotten", rows.map((row) => row.forgotten - row.event)))
    say(line("  from the event until both nodes answer it", rows.map((row) => row.shown - row.event)))
  }
  say(line("  from the click until both nodes have forgotten", rows.map((row) => row.forgotten)))
  say(line("  from the click until both nodes answer it", rows.map((row) => row.shown)))
}
/** Says whether 99 of 100 are within a limit. */
function within(name, values, limit) {
  const took = part(values, 0.99)
  say(`${name}, 99 of 100: ${took.toFixed(0)} ms, ${took <= limit ? "within" : "MORE THAN"} ${limit} ms`)
  return took <= limit
}
const isReached = [
  within("from the event until both nodes have forgotten", all.filter((row) => row.event >= 0).map((row) => row.forgotten - row.event), EVENT_MS),
  within("from the click until both nodes answer it", all.map((row) => row.shown), CLICK_MS),
].every(Boolean)
report(`${said.join("\n")}\n`)
writeFileSync(`${scratch}/rows.json`, JSON.stringify(all))
console.error(`details: ${scratch}`)
process.exit(isReached ? 0 : 1)
