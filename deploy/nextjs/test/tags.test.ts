import assert from "node:assert/strict"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { test } from "node:test"
import { lifeOf, tagsOf } from "../lib/tags"

const KEY = "pk_1"
const ROW = "01M7YJZFXB9RMGWYXB54YHDJW1"
const PRESET = join(__dirname, "../../../../../src/config/medusa.toml")

const strings = (list: string) => [...list.matchAll(/"([^"]*)"/g)].map(([, text]) => text!)

/** The preset's routes, as far as they say what an answer is kept under. */
function routes() {
  const blocks = readFileSync(PRESET, "utf8").split(/^(?=\[)/m).filter((block) => /^\[route\.[a-z-]+\]/.test(block))
  return blocks.map((block) => ({
    paths: strings(/^paths = \[([^\]]*)\]/m.exec(block)![1]!),
    tags: strings(/^tags = \[([^\]]*)\]/m.exec(block)![1]!),
    when: [...block.matchAll(/\{ query = "([^"]+)"(?:, contains = "([^"]+)")?, tags = \[([^\]]*)\]/g)]
      .map(([, query, contains, tags]) => ({ query: query!, contains, tags: strings(tags!) })),
  }))
}

test("an answer is kept under all that the preset purges it by", () => {
  let checked = 0
  const check = (path: string, query: string, value: string, tags: string[]) => {
    for (const address of [`${path}?${query}=${value}`, `${path}?limit=1&${encodeURIComponent(query)}=${value}&offset=0`, `${path}?${query}[0]=${value}`]) {
      const wanted = tags.map((tag) => tag.replace("{header:x-publishable-api-key}", KEY).replace(/\{query:.*\}/, value))
      const held = tagsOf(address, KEY, {})
      assert.deepEqual(wanted.filter((tag) => !held.includes(tag)), [], address)
      checked += 1
    }
  }
  // The example of a project's own route is not the shop's.
  for (const { paths, tags, when } of routes().filter(({ paths }) => !paths[0]!.includes("hero-banner"))) {
    for (const path of paths.map((path) => path.replace(/\{.*\}/, `x_${ROW}`))) {
      assert.deepEqual(tags.map((tag) => tag.replace(/\{.*\}/, KEY)).filter((tag) => !tagsOf(path, KEY, {}).includes(tag)), [], path)
      check(path, "limit", "1", tags)
      for (const one of when) check(path, one.query, one.contains ?? "x", one.tags)
    }
  }
  assert.ok(checked > 200, `${checked}`)
})

test("a page is no list: what changes in lists leaves it alone", () => {
  const held = tagsOf(`/store/products/prod_${ROW}?fields=id`, KEY, { product: { id: `prod_${ROW}` } })
  assert.deepEqual(held, ["all", `key:${KEY}`, `path:/store/products/prod_${ROW}`, "any:product", `prod_${ROW}`])
  const cards = tagsOf("/store/products?category_id=pcat_1&fields=*variants.inventory_quantity&q=my+id=1", KEY, {})
  assert.ok(!cards.includes("stock-details") && !cards.some((tag) => tag.startsWith("asked:")), `${cards}`)
  const page = tagsOf("/store/products?fields=%2Avariants&handle%5B0%5D=mug&handle%5B1%5D=cup", KEY, {})
  for (const tag of ["asked:mug", "asked:cup", "stock-details"]) assert.ok(page.includes(tag), tag)
})

test("ids are found in the address and in paths of categories too", () => {
  const [category, parent] = [`pcat_${ROW}`, "pcat_01M7YJZMQJZRSMJRD2F0CTXTRE"]
  assert.ok(tagsOf(`/store/products?category_id%5B0%5D=${category}`, KEY, {}).includes(category))
  assert.ok(tagsOf("/store/product-categories", KEY, { product_categories: [{ mpath: `${parent}.${category}` }] }).includes(parent))
  assert.ok(tagsOf("/store/product-categories", KEY, { product_categories: [{ id: "pcat_shirts" }] }).includes("pcat_shirts"), "given by somebody")
})

test("no more tags than Next.js keeps: the largest kinds go together", () => {
  const ids = (prefix: string, count: number) => Array.from({ length: count }, (_, at) => `${prefix}_${String(at).padStart(26, "0")}`)
  const check = (query: string, ...expected: string[]) => {
    const held = tagsOf(`/store/products?${query}`, KEY, { products: [...ids("price", 200), ...ids("prod", 12)] })
    assert.ok(held.length <= 128)
    for (const tag of [...expected, "price_*", "list:product"]) assert.ok(held.includes(tag), tag)
  }
  check("region_id=reg_1", ids("prod", 12)[11]!)
  check(ids("prod", 150).map((id) => `id[]=${id}`).join("&"), "asked:*", "prod_*")
})

test("what may change by the clock or by age is asked for again in minutes", () => {
  const life = (path: string, isStale = false) => lifeOf(tagsOf(path, KEY, {}), isStale).revalidate
  assert.equal(life("/store/product-categories"), 3600)
  assert.equal(life("/store/products?region_id=reg_1"), 120)
  assert.equal(life("/store/products?fields=*variants,+variants.inventory_quantity"), 120)
  assert.equal(life("/store/product-categories", true), 1)
})
