// A price that an admin changes, on the page of a Next.js storefront: Medusa, its plugin, endcap, the storefront's route, the page.
import { parseArgs } from "node:util"
import { admin, send, told, until } from "./http.mjs"
import { subjects } from "./mutations.mjs"
import { port } from "./ports.mjs"
import { node, redis, report, scratch, SECRET, shop as open, start, up } from "./processes.mjs"

const ROUNDS = 30
const { values: args } = parseArgs({
  options: { shop: { type: "string" }, database: { type: "string" }, endcap: { type: "string" }, storefront: { type: "string" } },
})
const REVALIDATE = "whsec_b25seSB0aGUgc3RvcmVmcm9udCBrbm93cyBpdA=="
const [atShop, atStorefront, listen, ops] = [await port(), await port(), await port(), await port()]
const shop = await open({ home: args.shop, at: atShop, database: args.database, plugin: { url: `http://127.0.0.1:${ops}`, secret: SECRET } })
const api = await admin(shop.base)
const s = await subjects(api)
const target = `[downstream.storefront]\nkind = "nextjs"\nurl = "http://127.0.0.1:${atStorefront}/api/revalidate"\ntoken = "${REVALIDATE}"\n`
const endcap = await node({ name: "a", binary: args.endcap, upstream: shop.base, redis: (await redis()).url, listen, ops, rest: target })

const storefront = `http://127.0.0.1:${atStorefront}`
const next = start("storefront", "node", ["node_modules/next/dist/bin/next", "start", "-p", String(atStorefront), "-H", "127.0.0.1"], {
  cwd: args.storefront,
  env: {
    ...process.env, NODE_ENV: "production", NEXT_TELEMETRY_DISABLED: "1",
    ENDCAP_URL: endcap.base, ENDCAP_REVALIDATE_SECRET: REVALIDATE, MEDUSA_PUBLISHABLE_KEY: s.keys.Web, MEDUSA_REGION: s.eu,
  },
})
await up("storefront", next, storefront)
// A target that is new is told to purge everything, once.
await until("the storefront is told", async () => (await (await fetch(`${endcap.hook}/status`)).json()).downstream.storefront.behind === false)

const problems = []
const wrong = (what) => (problems.push(what), console.error(`WRONG ${what}`))
/** What a page shows, and when what it shows was fetched. */
const page = async (path) => {
  const { status, text } = await send(storefront, "GET", path)
  return { status, text, asOf: Number(/data-as-of="(\d+)"/.exec(text)?.[1]) }
}
const pages = { home: "/", product: `/products/${s.product.handle}`, other: `/products/${s.other.handle}` }
const shows = async (path, text) => until(`${path} shows ${text}`, async () => (await page(path)).text.includes(text), 20_000)
const millis = async (work) => {
  const from = performance.now()
  await work()
  return performance.now() - from
}

for (const path of Object.values(pages)) {
  const [first, second] = [await page(path), await page(path)]
  if (first.status !== 200 || !first.asOf || first.asOf !== second.asOf) wrong(`${path} is not kept: ${first.status} ${first.asOf} ${second.asOf}`)
}

// Prices, one after the other: when endcap answers it, and when the page shows it. The other product's page is left alone.
const before = await page(pages.other)
const V = `/admin/products/${s.product.id}/variants/${s.variant.id}`
const detail = `/store/products/${s.product.id}?region_id=${s.eu}&fields=*variants.calculated_price`
const times = { endcap: [], page: [] }
for (let round = 0; round < ROUNDS; round += 1) {
  const amount = 1 + round / 100
  await api.post(V, { prices: [{ currency_code: "eur", amount }] })
  const inEndcap = until("endcap", async () => (await send(endcap.base, "GET", detail, { headers: s.pk })).text.includes(`"calculated_amount":${amount},`))
  const [told, shown] = await Promise.all([millis(() => inEndcap), millis(() => shows(pages.product, `€${amount.toFixed(2)}`))])
  times.endcap.push(told)
  times.page.push(shown)
}
if ((await page(pages.other)).asOf !== before.asOf) wrong("a price of one product fetched another's page again")

// What else changes pages.
const change = async (name, path, json, expected) => {
  await api.post(path, json)
  for (const [path, text] of Object.entries(expected)) await shows(path, text).catch((error) => wrong(`${name}: ${error.message}`))
}
await change("rename", `/admin/products/${s.product.id}`, { title: "Renamed" }, { [pages.product]: "Renamed" })
await change("sale", "/admin/price-lists", { title: "S", description: "d", type: "sale", status: "active", prices: [{ variant_id: s.variant.id, currency_code: "eur", amount: 0.5 }] }, { [pages.product]: "€0.50" })
const fresh = {
  title: "Brand new", status: "published", shipping_profile_id: s.profile, sales_channels: [{ id: s.channels.find(({ name }) => name === "Web").id }],
  options: [{ title: "Size", values: ["S"] }], variants: [{ title: "S", options: { Size: "S" }, prices: [{ currency_code: "eur", amount: 10 }] }],
}
await change("new product", "/admin/products", fresh, { [pages.home]: "Brand new" })
await told(api)

// Who is not endcap is refused, and changes nothing.
const kept = await page(pages.product)
const forged = await Promise.all(
  [{}, { authorization: `Bearer ${REVALIDATE}` }, { "webhook-id": "1", "webhook-timestamp": String(Math.floor(Date.now() / 1000)), "webhook-signature": "v1,AAAA" }].map((headers) =>
    send(storefront, "POST", "/api/revalidate", { headers, json: { tags: [], everything: true } })),
)
if (forged.some(({ status }) => status !== 401)) wrong(`who is not endcap was answered ${forged.map(({ status }) => status)}`)
if ((await page(pages.product)).asOf !== kept.asOf) wrong("who is not endcap made the storefront forget")

const row = (name, of) => {
  const all = of.sort((a, b) => a - b)
  return `${name.padEnd(46)}${[all[all.length >> 1], all[Math.floor(all.length * 0.95)], all.at(-1)].map((ms) => String(Math.round(ms)).padStart(8)).join("")}`
}
report(`from the admin API's answer, ${ROUNDS} prices, ms             median     95%    most
${row("endcap answers the new price", times.endcap)}
${row("the storefront's page shows it", times.page)}

also seen on pages: a new title, a sale, a new product in the list
left alone: another product's page; refused: ${forged.length} forged purges
wrong: ${problems.length}
`)
console.error(`details: ${scratch}`)
process.exit(problems.length === 0 ? 0 : 1)
