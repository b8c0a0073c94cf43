// The real client, @medusajs/js-sdk, once at the shop and once through endcap: the same bytes, and nobody sees another's prices.
import { createRequire } from "node:module"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { play } from "./tape.mjs"
import { listen as hear } from "./feed.mjs"
import { admin, sorted, told, until } from "./http.mjs"
import { subjects } from "./mutations.mjs"
import { port } from "./ports.mjs"
import { node, PATIENT, redis, report, scratch, SECRET, shop as open } from "./processes.mjs"
import { pages } from "./storefront.mjs"

const { values: args } = parseArgs({ options: { shop: { type: "string" }, database: { type: "string" }, endcap: { type: "string" } }, allowPositionals: true })
const Medusa = createRequire(join(args.shop, "package.json"))("@medusajs/js-sdk").default
const PASSWORD = "correct horse battery"
/** No other price is like it: where it stands, a customer of the group was served. */
const VIP_PRICE = 1.2345
const FEED = "who listens to all events"
const began = performance.now()

const [at, listen, ops] = [await port(), await port(), await port()]
const shop = await open({ home: args.shop, at, database: args.database, plugin: { url: `http://127.0.0.1:${ops}`, secret: SECRET }, env: { MEDUSA_FF_TRANSLATION: "true" } })
const api = await admin(shop.base)
const endcap = await node({ name: "a", binary: args.endcap, upstream: shop.base, redis: (await redis()).url, listen, ops, rest: `${PATIENT}[feed]\ntoken = "${FEED}"\n` })
const heard = await hear(endcap, FEED)
const s = await subjects(api)

const rows = []
const problems = []
const wrong = (what) => (problems.push(what), console.error(`WRONG ${what}`))

/** What no two carts, customers or orders have in common. */
const nameless = (text) => {
  const ids = new Map()
  return text
    .replace(/\b[a-z_]+_[0-9A-HJKMNP-TV-Z]{26}\b/g, (id) => ids.get(id) ?? (ids.set(id, `id_${ids.size}`), ids.get(id)))
    .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, "TIME")
    .replace(/"(token|display_id|idempotency_key|iat|exp)":("[^"]*"|\d+)/g, '"$1":"X"')
    .replace(/[0-9a-f]{8}-[0-9a-f-]{27}/g, "UUID")
    .replace(/(direct|through)-\d@example.test/g, "MAIL")
}

/** Two tapes of one scene must say the same; returns what they said in another order of members. */
function compare(name, direct, through, { same = (text) => text } = {}) {
  let reordered = 0
  if (direct.length !== through.length) wrong(`${name}: ${direct.length} calls at the shop, ${through.length} through endcap`)
  direct.forEach((one, n) => {
    const other = through[n]
    const [a, b] = [same(one.text), same(other?.text ?? "")]
    const heads = [one, other].map((call) => call && [same(call.call), call.status, call.type, call.cookies.join()].join(" "))
    if (heads[0] !== heads[1]) wrong(`${name}: ${heads.join(" / ")}`)
    else if (a === b) return
    else if (one.call.includes("fields=") && sorted(a) === sorted(b)) reordered += 1
    else wrong(`${name}: ${one.call}: ${difference(a, b)}`)
  })
  return reordered
}
const difference = (a, b) => {
  const at = [...a].findIndex((char, n) => char !== b[n])
  return `...${a.slice(Math.max(0, at - 60), at + 60)}... / ...${b.slice(Math.max(0, at - 60), at + 60)}...`
}
const tell = (row) => (rows.push(row), console.error(line(row)))
const line = ({ name, calls, reordered, outcomes }) => `${name.padEnd(44)}${String(calls).padStart(6)}${String(calls - reordered).padStart(7)}${String(reordered).padStart(9)}   ${outcomes}`
const count = (tape) => {
  const counts = new Map()
  for (const { outcome = "none" } of tape) counts.set(outcome, (counts.get(outcome) ?? 0) + 1)
  return [...counts].sort().map(([outcome, number]) => `${outcome} ${number}`).join(", ")
}

/** All pages as one visitor: at the shop, then through endcap, twice where it may remember. */
async function visit(visitor, who, { isPrivate = false } = {}) {
  for (const [page, scene] of Object.entries(all)) {
    const direct = await play(Medusa, shop.base, who, scene)
    for (const round of isPrivate ? ["each time"] : ["cold", "warm"]) {
      const through = await play(Medusa, endcap.base, who, scene)
      const name = `${visitor}: ${page}, ${round}`
      tell({ name, calls: direct.length, reordered: compare(name, direct, through), outcomes: count(through) })
      for (const { call, outcome, status } of through) {
        if (isPrivate && !outcome?.startsWith("pass")) wrong(`${name}: ${call} of somebody who is logged in was ${outcome}`)
        if (!isPrivate && round === "warm" && status === 200 && outcome !== "hit") wrong(`${name}: ${call} was ${outcome}`)
      }
    }
  }
}

const web = { key: s.keys.Web }
const all = pages({ ...s, collections: [s.collection, s.otherCollection, s.product.collection_id], category: s.product.categories[0] })

// Who is in a group has prices of their own.
await api.post("/admin/price-lists", {
  title: "VIP", description: "d", type: "sale", status: "active", rules: { "customer.groups.id": [s.vip] },
  prices: s.product.variants.map(({ id }) => ({ variant_id: id, currency_code: "eur", amount: VIP_PRICE })),
})
await api.post(`/admin/stores/${s.store}`, { supported_locales: [{ locale_code: "en-US", is_default: true }, { locale_code: "fr-FR" }] })
await api.post("/admin/translations/batch", {
  create: [{ reference: "product", reference_id: s.product.id, locale_code: "fr-FR", translations: { title: "Une chose" } }],
})
await told(api)

await visit("guest", web)
await visit("guest of another channel", { key: s.keys.B2B })
await visit("guest who reads French", { ...web, headers: { "x-medusa-locale": "fr-FR" } })
const french = await play(Medusa, endcap.base, { ...web, headers: { "x-medusa-locale": "fr-FR" } }, all.product)
if (!french[0].text.includes("Une chose")) wrong("who reads French was not served French")
const plain = await play(Medusa, endcap.base, web, all.product)
if (plain[0].text.includes("Une chose")) wrong("who reads no French was served French")
const campaign = [await play(Medusa, shop.base, web, (sdk) => sdk.store.region.list()), await play(Medusa, endcap.base, web, (sdk) => sdk.store.region.list({ utm_source: "mail" }))]
if (campaign[0][0].text !== campaign[1][0].text) wrong("a parameter of a campaign is not dropped")

// A customer who registers, logs in by token and by session, and is in the group.
const mail = (how, n) => `${how}-${n}@example.test`
const register = (email) => async (sdk) => {
  const token = await sdk.auth.register("customer", "emailpass", { email, password: PASSWORD })
  await sdk.store.customer.create({ email, first_name: "A" }, {}, { authorization: `Bearer ${token}` })
  await sdk.auth.login("customer", "emailpass", { email, password: PASSWORD })
  await sdk.store.customer.retrieve()
  await sdk.store.customer.createAddress({ first_name: "A", last_name: "T", address_1: "1 Road", city: "Berlin", country_code: "de", postal_code: "10115" })
  await sdk.store.customer.listAddress()
  await sdk.store.order.list()
}
const both = async (name, who, scene, same = nameless) => {
  const [direct, through] = [await play(Medusa, shop.base, who("direct"), scene("direct")), await play(Medusa, endcap.base, who("through"), scene("through"))]
  tell({ name, calls: direct.length, reordered: compare(name, direct, through, { same }), outcomes: count(through) })
  for (const { call, status, text } of through) if (status >= 400) wrong(`${name}: ${call}: ${status} ${text}`)
  return { direct, through }
}
await both("customer: registers, logs in, adds an address", () => web, (how) => register(mail(how, 1)))
for (const how of ["direct", "through"]) {
  const [customer] = (await api.get(`/admin/customers?email=${mail(how, 1)}`)).customers
  await api.post(`/admin/customer-groups/${s.vip}/customers`, { add: [customer.id] })
}
const login = async (how) => ({ ...web, token: (await api.post("/auth/customer/emailpass", { email: mail(how, 1), password: PASSWORD }, {})).token })
const logins = { direct: await login("direct"), through: await login("through") }
const own = logins.through
await visit("customer with a token", own, { isPrivate: true })

// TLS ends before endcap, and the shop gives its session to who came by TLS alone.
const sessions = { direct: new Map(), through: new Map() }
const session = (how) => ({ ...web, session: true, cookies: sessions[how], headers: { "x-forwarded-proto": "https" } })
await both("customer: opens a session", session, (how) => async (sdk) => {
  await sdk.auth.login("customer", "emailpass", { email: mail(how, 1), password: PASSWORD })
  await sdk.store.customer.retrieve()
})
if (!sessions.through.has("connect.sid")) wrong("no session came through endcap")
await visit("customer with a session", { ...session("through") }, { isPrivate: true })

// Customers and guests at once, the customer first: each has their own prices.
await api.post(`/admin/products/${s.product.id}`, { title: `${s.product.title} again` })
await told(api)
const expected = { guest: await play(Medusa, shop.base, web, all.product), customer: await play(Medusa, shop.base, own, all.product) }
const isVip = (tape) => tape.some(({ text }) => text.includes(String(VIP_PRICE)))
if (!isVip(expected.customer) || isVip(expected.guest)) wrong("the shop itself has no prices for the group alone")
for (const round of ["cold", "warm", "warm still"]) {
  const crowd = Array.from({ length: 24 }, (_, n) => [own, web, { ...session("through") }][n % 3])
  const tapes = await Promise.all(crowd.map((who) => play(Medusa, endcap.base, who, all.product)))
  const name = `customers and guests at once, ${round}`
  let reordered = 0
  tapes.forEach((tape, n) => {
    const isGuest = crowd[n] === web
    if (isGuest && isVip(tape)) wrong(`${name}: a guest was served the group's prices`)
    reordered += compare(name, isGuest ? expected.guest : expected.customer, tape)
  })
  tell({ name, calls: tapes.flat().length, reordered, outcomes: count(tapes.flat()) })
}
const nobody = await play(Medusa, endcap.base, { ...web, token: "not.a.token" }, all.product)
tell({ name: "who has a token that is none", calls: nobody.length, reordered: compare("a token that is none", expected.guest, nobody), outcomes: count(nobody) })

// All pages, after a customer of the group has seen them first.
await api.post(`/admin/products/${s.product.id}`, { title: `${s.product.title} once more` })
await told(api)
for (const scene of Object.values(all)) await play(Medusa, endcap.base, own, scene)
await visit("guest, after one of the group", web)

// From an empty cart to a placed order.
const address = { first_name: "A", last_name: "T", address_1: "1 Road", city: "Berlin", country_code: "de", postal_code: "10115" }
const placed = {}
const checkout = (how) => async (sdk) => {
  const { cart } = await sdk.store.cart.create({ region_id: s.eu })
  await sdk.store.cart.createLineItem(cart.id, { variant_id: s.product.variants[2].id, quantity: 1 })
  const { cart: filled } = await sdk.store.cart.createLineItem(cart.id, { variant_id: s.other.variants[0].id, quantity: 2 })
  await sdk.store.cart.updateLineItem(cart.id, filled.items[0].id, { quantity: 3 })
  await sdk.store.cart.deleteLineItem(cart.id, filled.items[1].id)
  await sdk.store.cart.update(cart.id, { email: mail(how, 2), shipping_address: address, billing_address: address })
  const { shipping_options: [option] } = await sdk.store.fulfillment.listCartOptions({ cart_id: cart.id })
  const { cart: ready } = await sdk.store.cart.addShippingMethod(cart.id, { option_id: option.id })
  await sdk.store.payment.listPaymentProviders({ region_id: s.eu })
  await sdk.store.payment.initiatePaymentSession(ready, { provider_id: "pp_system_default" })
  await sdk.store.cart.retrieve(cart.id)
  const { order } = await sdk.store.cart.complete(cart.id)
  await sdk.store.order.retrieve(order.id)
  placed[how] = [cart.id, order.id]
}
await both("guest: cart, checkout, a placed order", () => web, checkout)
await both("customer: cart, checkout, a placed order", (how) => logins[how], checkout)
await told(api)
const [cart, order] = placed.through
const after = async (sdk) => {
  await sdk.store.cart.retrieve(cart)
  await sdk.store.order.retrieve(order)
  await all.product(sdk)
}
// An order purges stock softly: for the grace, and until the refresh behind is there, an old answer may be served.
const settled = async () => {
  for (let tries = 0; ; tries += 1) {
    const tape = await play(Medusa, endcap.base, web, after)
    if (tries === 20 || !tape.some(({ outcome }) => outcome?.startsWith("stale"))) return tape
    await new Promise((done) => setTimeout(done, 500))
  }
}
const [direct, through] = [await play(Medusa, shop.base, web, after), await settled()]
tell({ name: "afterwards: cart, order, what is in stock", calls: direct.length, reordered: compare("afterwards", direct, through), outcomes: count(through) })

// Who listens to endcap's events hears what happened by the names that the shop knows it by.
const hears = (name, id) =>
  until(name, async () => heard.find(({ event, ids }) => event === name && (!id || ids.includes(id))), 10_000).catch(() => wrong(`nobody hears ${name} of ${id ?? "anything"}`))
await hears("product.updated", s.product.id)
await hears("order.placed", placed.through[1])
await hears("reservation-item.created")
await api.post(`/admin/inventory-items/${(await api.get("/admin/inventory-items?limit=1")).inventory_items[0].id}/location-levels/${s.location}`, { stocked_quantity: 77 })
await hears("inventory-level.updated")
const names = [...new Set(heard.map(({ event }) => event))]
for (const name of names.filter((name) => !/^[\w.-]+$/.test(name) || name.startsWith("endcap."))) wrong(`who listens hears ${name}, which no shop says`)

const sum = (of) => rows.reduce((total, row) => total + of(row), 0)
const said = `scene                                        calls  equal  members   through endcap
${rows.map(line).join("\n")}

${sum((row) => row.calls)} calls of @medusajs/js-sdk, ${sum((row) => row.calls - row.reordered)} answered with the same bytes, ${sum((row) => row.reordered)} with the members of objects in another order (fields is
sorted in the key), ${heard.length} events of ${names.length} kinds heard, ${problems.length} wrong, ${Math.round((performance.now() - began) / 1000)} s
`
report(said)
console.error(`details: ${scratch}`)
process.exit(problems.length === 0 ? 0 : 1)
