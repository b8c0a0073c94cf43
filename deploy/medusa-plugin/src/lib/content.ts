import { AsyncLocalStorage } from "node:async_hooks"
import { Event, ID } from "./events"

/**
 * Fields of a product that say nothing about which lists it is in: no list is filtered by them. Lists that are searched
 * or sorted by them have the tag `list:product-text`. So it is with the prices of its variants.
 */
const CONTENT = new Set(["id", "title", "subtitle", "description", "metadata", "thumbnail", "images"])
const PRODUCT = /^\/admin\/products\/([^/?]+)\/?(\?|$)/
const BATCH = /^\/admin\/products\/batch\/?(\?|$)/
const UPDATED = new Set(["product.updated", "product.product.updated"])

/** Products whose content alone a request changes, and what it has emitted of them so far. */
type Edit = { products: Set<string>; emitted: Set<string> }
const edits = new AsyncLocalStorage<Edit>()

/** Runs a request's handler so that the events of an edit of content are known as such. */
export function edit(method: string, path: string, body: unknown, handler: () => void): void {
  const products = method === "POST" ? contentOnly(path, body) : undefined
  if (products) edits.run({ products, emitted: new Set() }, handler)
  else handler()
}

/**
 * An event of a product whose content alone changed, as what it is; every other as it is. A workflow emits each name
 * once for a product: what comes again, in the same request, is of something that the shop's own code did besides.
 */
export function asContent(event: Event): Event {
  const edit = edits.getStore()
  const id = event.data["id"] ?? ""
  if (!edit?.products.has(id) || !UPDATED.has(event.type)) return event
  const said = `${event.type} ${id}`
  if (edit.emitted.has(said)) return event
  edit.emitted.add(said)
  return { type: "endcap.product-content", data: { id } }
}

function contentOnly(path: string, body: unknown): Set<string> | undefined {
  const id = PRODUCT.exec(path)?.[1]
  if (id !== undefined && ID.test(id)) return content(body) ? new Set([id]) : undefined
  if (!BATCH.test(path) || !object(body) || Object.keys(body).some((key) => key !== "update") || !Array.isArray(body["update"])) return undefined
  const updates: unknown[] = body["update"]
  return updates.every(content) ? new Set(updates.map((update) => String((update as { id?: unknown }).id))) : undefined
}

function content(body: unknown): boolean {
  return object(body) && Object.entries(body).every(([key, value]) => CONTENT.has(key) || (key === "variants" && pricesOnly(value)))
}

/** Prices have events of their own. */
function pricesOnly(variants: unknown): boolean {
  return Array.isArray(variants) && variants.every((variant) => object(variant) && Object.keys(variant).every((key) => key === "id" || key === "prices"))
}

function object(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value)
}
